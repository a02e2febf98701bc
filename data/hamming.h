/* All pairs of binary hashes within a Hamming distance, exactly: within a set, or between two.
 *
 * Two ways, chosen by an estimate of the work on the hashes at hand:
 *   slots   the bits are cut into m slots; of hashes that differ in at most d bits, some slot s differs in at most r_s bits, where the
 *           r_s + 1 sum to more than d (d = 31 of 256 bits: 16 slots of 16 bits, each r = 1). Per slot the hashes are sorted by its value
 *           and tested against those of the values within r_s bits. A pair is taken in the first slot that shows it, so none comes twice.
 *   tiles   everything against everything; for a few hashes, large distances, and slots whose values are very unevenly used.
 * Eight hashes are tested at once with AVX-512 VPOPCNTDQ where the processor has it, one with POPCNT elsewhere; which is chosen at run
 * time.
 *
 * The pairs are the same for any number of parts, threads and kinds of processors; their order is not (bif_pairs_sort). */
#pragma once
#include "data/dedup.h"

typedef struct {
    const uint64_t *bits; /* [count, words]; in which order the bits stand does not matter */
    int64_t count;        /* at most 2^32 - 2 */
} bif_hashes;

typedef enum { BIF_HAMMING_AUTO = 0, BIF_HAMMING_TILES = 1, BIF_HAMMING_SLOTS = 2 } bif_hamming_way;

typedef struct {
    int words;    /* 1 or 4: hashes of 64 or 256 bits */
    int distance; /* pairs of at most this many different bits; 0 to 64 x words */
    bif_hashes a;
    bif_hashes b;     /* bits NULL: pairs within a, else pairs of one of a and one of b */
    uint32_t b_first; /* the number of b's first hash in the pairs; a's are counted from 0, and a pair of two equal numbers is left out */
    int part, parts;  /* this call's share of the pairs: `part` of `parts`, from 0; 0 of 1 is all */
    int threads;
    int64_t most; /* BIF_ERR_MEMORY when there are more pairs than this */
    bif_hamming_way way; /* AUTO, or one for tests; SLOTS falls back to tiles where no cut serves */
} bif_hamming_args;

/* Adds the pairs, the distance as their value. */
bif_status bif_hamming_pairs(const bif_hamming_args *args, bif_pairs *out);
/* Most bytes that takes beside the hashes and the pairs. b_count 0: within a. */
int64_t bif_hamming_bytes(int words, int64_t a_count, int64_t b_count);
/* "avx512-vpopcntdq", "popcnt" or "portable"; BIFOCAL_ISA=generic in the environment asks for the last, avx2 for at most the one before. */
const char *bif_hamming_isa(void);
