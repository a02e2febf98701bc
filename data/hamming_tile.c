#include "data/hamming_tile.h"

#include <stdlib.h>
#include <string.h>

/* A place in a may be equal to one in b, so this is not bif_pairs_add. */
static __attribute__((noinline)) void hit(bif_hits *hits, int64_t a, int64_t b, uint64_t distance)
{
    bif_pairs *pairs = &hits->pairs;
    if (pairs->count == pairs->room) {
        pairs->room = pairs->room ? pairs->room + pairs->room / 2 : 1024;
        pairs->pair = bif_realloc(pairs->pair, (size_t)pairs->room, sizeof *pairs->pair);
    }
    pairs->pair[pairs->count++] = (bif_pair){(uint32_t)a, (uint32_t)b, (float)distance};
}

/* One at a time; the first half of a long hash decides nearly always. */
static inline __attribute__((always_inline)) void test_one_by_one(const bif_tile *t, bif_hits *hits)
{
    for (int64_t i = t->a0; i < t->a1; i++) {
        const int64_t first = t->triangle ? i + 1 : t->b0;
        if (t->words == 1) {
            const uint64_t q = t->a->plane[0][i], *p = t->b->plane[0];
            for (int64_t j = first; j < t->b1; j++) {
                const uint64_t distance = (uint64_t)__builtin_popcountll(q ^ p[j]);
                if (distance <= t->distance) {
                    hit(hits, i, j, distance);
                }
            }
            continue;
        }
        const uint64_t q0 = t->a->plane[0][i], q1 = t->a->plane[1][i], q2 = t->a->plane[2][i], q3 = t->a->plane[3][i];
        const uint64_t *p0 = t->b->plane[0], *p1 = t->b->plane[1], *p2 = t->b->plane[2], *p3 = t->b->plane[3];
        for (int64_t j = first; j < t->b1; j++) {
            uint64_t distance = (uint64_t)(__builtin_popcountll(q0 ^ p0[j]) + __builtin_popcountll(q1 ^ p1[j]));
            if (distance <= t->distance) {
                distance += (uint64_t)(__builtin_popcountll(q2 ^ p2[j]) + __builtin_popcountll(q3 ^ p3[j]));
                if (distance <= t->distance) {
                    hit(hits, i, j, distance);
                }
            }
        }
    }
}

static void test_portable(const bif_tile *tile, bif_hits *hits)
{
    test_one_by_one(tile, hits);
}

static const bif_tile_isa portable = {"portable", test_portable, 2};

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("popcnt"))) static void test_popcnt(const bif_tile *tile, bif_hits *hits)
{
    test_one_by_one(tile, hits);
}

#define WIDE __attribute__((target("avx512f,avx512vpopcntdq")))

/* Distances of eight hashes from j on in one word. */
#define DIFFERENT(q, plane) _mm512_popcnt_epi64(_mm512_xor_si512(q, _mm512_loadu_si512(plane)))
#define BROADCAST(word) _mm512_set1_epi64((long long)(word))

WIDE static void hit_wide(bif_hits *hits, int64_t a, int64_t b, unsigned mask, __m512i distances)
{
    uint64_t each[8];
    _mm512_storeu_si512(each, distances);
    for (; mask != 0; mask &= mask - 1) {
        const int k = __builtin_ctz(mask);
        hit(hits, a, b + k, each[k]);
    }
}

WIDE static inline unsigned rows_left(int64_t rows)
{
    return rows >= 8 ? 0xffu : (1u << rows) - 1;
}

WIDE static void test_avx512(const bif_tile *t, bif_hits *hits)
{
    const __m512i most = BROADCAST(t->distance);
    for (int64_t i = t->a0; i < t->a1; i++) {
        const int64_t first = t->triangle ? i + 1 : t->b0;
        const __m512i q0 = BROADCAST(t->a->plane[0][i]);
        const uint64_t *p0 = t->b->plane[0];
        if (t->words == 1) {
            for (int64_t j = first; j < t->b1; j += 8) {
                const __m512i distance = DIFFERENT(q0, p0 + j);
                const unsigned mask = _mm512_cmple_epu64_mask(distance, most) & rows_left(t->b1 - j);
                if (__builtin_expect(mask != 0, 0)) {
                    hit_wide(hits, i, j, mask, distance);
                }
            }
            continue;
        }
        const __m512i q1 = BROADCAST(t->a->plane[1][i]), q2 = BROADCAST(t->a->plane[2][i]), q3 = BROADCAST(t->a->plane[3][i]);
        const uint64_t *p1 = t->b->plane[1], *p2 = t->b->plane[2], *p3 = t->b->plane[3];
        for (int64_t j = first; j < t->b1; j += 8) {
            const __m512i half = _mm512_add_epi64(DIFFERENT(q0, p0 + j), DIFFERENT(q1, p1 + j));
            if (__builtin_expect(_mm512_cmple_epu64_mask(half, most) == 0, 1)) {
                continue;
            }
            const __m512i distance = _mm512_add_epi64(half, _mm512_add_epi64(DIFFERENT(q2, p2 + j), DIFFERENT(q3, p3 + j)));
            const unsigned mask = _mm512_cmple_epu64_mask(distance, most) & rows_left(t->b1 - j);
            if (mask != 0) {
                hit_wide(hits, i, j, mask, distance);
            }
        }
    }
}

static const bif_tile_isa popcnt = {"popcnt", test_popcnt, 4}, avx512 = {"avx512-vpopcntdq", test_avx512, 16};

const bif_tile_isa *bif_tile_choose(void)
{
    const char *wanted = getenv("BIFOCAL_ISA");
    const bool generic = wanted != NULL && strcmp(wanted, "generic") == 0,
               narrow = generic || (wanted != NULL && strcmp(wanted, "avx2") == 0);
    if (!narrow && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq")) {
        return &avx512;
    }
    return !generic && __builtin_cpu_supports("popcnt") ? &popcnt : &portable;
}
#else
const bif_tile_isa *bif_tile_choose(void)
{
    return &portable;
}
#endif
