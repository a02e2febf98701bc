/* From pairs that match to samples that are dropped. */
#pragma once
#include "data/selection.h"
#include "data/team.h"

/* Two images (or samples) of a pool that match; a < b. */
typedef struct {
    uint32_t a, b;
    float value; /* Hamming distance, or similarity */
} bif_pair;

typedef struct {
    bif_pair *pair;
    int64_t count, room;
} bif_pairs;
void bif_pairs_add(bif_pairs *pairs, uint32_t a, uint32_t b, float value); /* a and b in any order; a == b is ignored */
/* Sorted by (a, b), each pair once (the least value if `least`, else the greatest): the same for any order of adding. */
void bif_pairs_sort(bif_pairs *pairs, bool least);
void bif_pairs_free(bif_pairs *pairs);
