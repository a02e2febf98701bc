/* Tests of hashes in planes: word k of hash i stands in plane[k][i], and the planes go on for 8 words behind the last hash. */
#pragma once
#include "data/hamming.h"

typedef struct {
    uint64_t *plane[4];
} bif_planes;

/* Hits in the places of the planes. */
typedef struct {
    bif_pairs pairs;
} bif_hits;

typedef struct {
    const bif_planes *a, *b;
    int64_t a0, a1, b0, b1; /* rows [a0, a1) against [b0, b1) */
    bool triangle;          /* a and b are the same planes and rows: each pair of rows once */
    int words;
    uint64_t distance;
} bif_tile;

/* Appends to hits, with no order of a and b: pairs (place in a, place in b). */
typedef void bif_tile_test(const bif_tile *tile, bif_hits *hits);
typedef struct {
    const char *name;
    bif_tile_test *test;
    double speed; /* tests a unit of time in a long row, beside which a tile of no rows costs 1: for the estimate */
} bif_tile_isa;
const bif_tile_isa *bif_tile_choose(void);
