#include <stdlib.h>
#include <string.h>

#include "data/dedup.h"

void bif_pairs_add(bif_pairs *pairs, uint32_t a, uint32_t b, float value)
{
    if (a == b) {
        return;
    }
    if (pairs->count == pairs->room) {
        pairs->room = pairs->room ? pairs->room + pairs->room / 2 : 1024;
        pairs->pair = bif_realloc(pairs->pair, (size_t)pairs->room, sizeof *pairs->pair);
    }
    pairs->pair[pairs->count++] = (bif_pair){a < b ? a : b, a < b ? b : a, value};
}

static inline uint64_t key_of(const bif_pair *pair)
{
    return (uint64_t)pair->a << 32 | pair->b;
}

/* By the key, least digit of 11 bits first; a digit that is the same everywhere costs no pass. Pairs of one key keep their order. */
static void sort_by_key(bif_pairs *pairs)
{
    enum { BITS = 11, DIGITS = 1 << BITS };
    const int64_t n = pairs->count;
    bif_pair *from = pairs->pair, *to = bif_malloc((size_t)n * sizeof *to), *spare = to;
    for (int shift = 0; shift < 64; shift += BITS) {
        int64_t place[DIGITS] = {0}, sum = 0;
        for (int64_t i = 0; i < n; i++) {
            place[key_of(&from[i]) >> shift & (DIGITS - 1)]++;
        }
        if (place[key_of(&from[0]) >> shift & (DIGITS - 1)] == n) {
            continue;
        }
        for (int d = 0; d < DIGITS; d++) {
            const int64_t here = place[d];
            place[d] = sum;
            sum += here;
        }
        for (int64_t i = 0; i < n; i++) {
            to[place[key_of(&from[i]) >> shift & (DIGITS - 1)]++] = from[i];
        }
        bif_pair *swap = from;
        from = to;
        to = swap;
    }
    if (from != pairs->pair) {
        memcpy(pairs->pair, from, (size_t)n * sizeof *from);
    }
    free(spare);
}

void bif_pairs_sort(bif_pairs *pairs, bool least)
{
    if (pairs->count == 0) {
        return;
    }
    sort_by_key(pairs);
    int64_t kept = 1;
    for (int64_t i = 1; i < pairs->count; i++) {
        bif_pair *last = &pairs->pair[kept - 1];
        const bif_pair *now = &pairs->pair[i];
        if (key_of(last) != key_of(now)) {
            pairs->pair[kept++] = *now;
        } else if (least ? now->value < last->value : now->value > last->value) {
            last->value = now->value;
        }
    }
    pairs->count = kept;
}

void bif_pairs_free(bif_pairs *pairs)
{
    free(pairs->pair);
    *pairs = (bif_pairs){0};
}
