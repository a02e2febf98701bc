/* Near pairs of MinHash signatures by banding (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4): rows of a band
 * must all be the same for two signatures to be looked at; those that are looked at are taken when the estimate of their Jaccard
 * similarity, the share of the 128 values that are the same, is at least the threshold. */
#pragma once
#include "data/dedup.h"

enum { BIF_MINHASH_VALUES = 128 };

/* Rows of a band for a threshold: as many as leave the chance of finding a pair at the threshold itself, 1 - (1 - jaccard^rows)^bands with
 * bands = 128 / rows, at 0.995 or more (0.8: 21 bands of 6 rows, 0.9983). */
int bif_minhash_rows(double jaccard);

typedef struct {
    const uint32_t *signature; /* [count, 128] */
    const uint64_t *group;     /* [count] only pairs of equal numbers are looked for; NULL: all */
    int64_t count;
    double jaccard; /* above 0, at most 1 */
    int part, parts, threads; /* this call's bands */
    int64_t most; /* pairs; BIF_ERR_MEMORY when there are more */
} bif_minhash_args;
/* Adds the pairs, the estimate as their value. The same pairs for any number of parts and threads; some may come twice (bif_pairs_sort). */
bif_status bif_minhash_pairs(const bif_minhash_args *args, bif_pairs *out);
int64_t bif_minhash_bytes(int64_t count, int threads); /* beside the signatures and the pairs */
