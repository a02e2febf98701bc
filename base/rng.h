/* Randomness is a function of (seed, purpose, index): Philox 4x32-10 (Salmon et al., SC'11), the same bits on every device
 * and for any number of ranks. There is no state to save. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Who draws; each purpose has its own stream. Values are part of the file format of a run: never renumber. */
typedef enum {
    BIF_RNG_INIT = 1,     /* index = hash of the parameter's name, sub = element */
    BIF_RNG_ORDER = 2,    /* sample order: index = epoch */
    BIF_RNG_AUGMENT = 3,  /* index = epoch * number of samples + global sample number */
    BIF_RNG_SAMPLING = 4, /* generation: index = question number, sub = step */
    BIF_RNG_TEST = 5,
    BIF_RNG_PATCHES = 6,  /* patch dropout: index = place of the pair in the endless order, sub = patch / 4 */
    BIF_RNG_DROPOUT = 7,  /* kernels/ops.h bif_dropout: index = the two numbers of a row, sub = column / 4 */
    BIF_RNG_BOOTSTRAP = 8, /* index = draw, sub = cluster / 4 */
    BIF_RNG_SHOWN = 9, /* which questions a report shows: index = hash of the id */
    BIF_RNG_BALANCE = 10, /* of curation, index = made of the sample's uid */
    BIF_RNG_CLUSTER = 11, /* where clusters start: sub 0: index = made of the picture's id; sub 1: index = cluster */
    BIF_RNG_CAPTION = 12, /* new captions: index = made of the sample's uid, sub = step */
} bif_rng_purpose;

/* Four 32-bit words for (seed, purpose, index, sub). */
void bif_philox(uint64_t seed, bif_rng_purpose purpose, uint64_t index, uint32_t sub, uint32_t out[4]);

/* Uniform in [0, 1) with 24 bits, and standard normal (Box-Muller, computed in double), for element `sub`. Each element
 * uses its own Philox block, so any part of a tensor can be drawn alone. */
float bif_rng_uniform(uint64_t seed, bif_rng_purpose purpose, uint64_t index, uint32_t sub);
float bif_rng_normal(uint64_t seed, bif_rng_purpose purpose, uint64_t index, uint32_t sub);

/* 64-bit FNV-1a of a string, for using names as indices. */
uint64_t bif_hash_name(const char *name);
uint64_t bif_hash_bytes(const void *bytes, size_t size); /* the same hash of any bytes */

/* A keyed bijection of [0, n): a 6-round Feistel network with Philox rounds and cycle walking. position < n, n >= 1. */
uint64_t bif_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t position);

#ifdef __cplusplus
}
#endif
