#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "data/hamming.h"

/* n hashes; every third is near an earlier one, in 0 to `spread` bits; `skew` bits from the first on are the same everywhere. */
static uint64_t *make(int words, int64_t n, int spread, int skew, uint64_t seed)
{
    uint64_t *bits = malloc((size_t)(n * words) * sizeof *bits);
    for (int64_t i = 0; i < n; i++) {
        uint32_t r[4];
        uint64_t *hash = bits + i * words;
        for (int k = 0; k < words; k++) {
            bif_philox(seed, BIF_RNG_TEST, (uint64_t)i, (uint32_t)k, r);
            hash[k] = (uint64_t)r[0] << 32 | r[1];
        }
        for (int k = 0; k < skew; k++) {
            hash[k >> 6] &= ~((uint64_t)1 << (k & 63));
        }
        bif_philox(seed, BIF_RNG_TEST, (uint64_t)i, 1000, r);
        if (i % 3 == 2) {
            memcpy(hash, bits + (int64_t)(r[0] % (uint64_t)i) * words, (size_t)words * sizeof *hash);
            for (uint32_t k = 0; k < r[1] % (uint32_t)(spread + 1); k++) {
                uint32_t q[4];
                bif_philox(seed, BIF_RNG_TEST, (uint64_t)i, 2000 + k, q);
                hash[q[0] % (uint32_t)words] ^= (uint64_t)1 << q[1] % 64;
            }
        }
    }
    return bits;
}

static bif_pairs naive(const bif_hamming_args *args)
{
    bif_pairs pairs = {0};
    const bif_hashes *b = args->b.bits ? &args->b : &args->a;
    for (int64_t i = 0; i < args->a.count; i++) {
        for (int64_t j = args->b.bits ? 0 : i + 1; j < b->count; j++) {
            int distance = 0;
            for (int k = 0; k < args->words; k++) {
                distance += __builtin_popcountll(args->a.bits[i * args->words + k] ^ b->bits[j * args->words + k]);
            }
            if (distance <= args->distance) {
                bif_pairs_add(&pairs, (uint32_t)i, args->b_first + (uint32_t)j, (float)distance);
            }
        }
    }
    bif_pairs_sort(&pairs, true);
    return pairs;
}

static void check(bif_hamming_args args, int parts, int threads)
{
    bif_pairs got = {0}, want = naive(&args);
    args.most = INT64_MAX;
    args.parts = parts;
    args.threads = threads;
    for (args.part = 0; args.part < parts; args.part++) {
        cr_assert_eq(bif_hamming_pairs(&args, &got), BIF_OK);
    }
    const int64_t found = got.count;
    bif_pairs_sort(&got, true);
    if (args.b.bits == NULL || args.b_first > 0) {
        cr_assert_eq(found, got.count, "a pair came twice");
    }
    cr_assert_eq(got.count, want.count, "words %d distance %d way %d parts %d: %lld pairs, not %lld", args.words, args.distance, args.way,
                 parts, (long long)got.count, (long long)want.count);
    cr_assert(want.count == 0 || memcmp(got.pair, want.pair, (size_t)want.count * sizeof *want.pair) == 0);
    bif_pairs_free(&got);
    bif_pairs_free(&want);
}

static const char *const isas[] = {"generic", "avx2", "avx512"};

Test(hamming, within_a_set)
{
    static const int distances[] = {0, 1, 7, 10, 16, 31, 40, 47, 63, 64};
    for (int words = 1; words <= 4; words += 3) {
        for (int skew = 0; skew <= 40; skew += 40) {
            uint64_t *bits = make(words, 2500, 50, skew, 7);
            for (size_t k = 0; k < sizeof distances / sizeof *distances; k++) {
                if (words == 1 && distances[k] > 16) {
                    continue;
                }
                for (int way = BIF_HAMMING_AUTO; way <= BIF_HAMMING_SLOTS; way++) {
                    setenv("BIFOCAL_ISA", isas[(k + (size_t)way) % 3], 1);
                    check((bif_hamming_args){.words = words, .distance = distances[k], .a = {bits, 2500}, .way = way}, 1 + (int)k % 4,
                          1 + (int)k % 3);
                }
            }
            free(bits);
        }
    }
}

Test(hamming, all_sizes_and_instruction_sets)
{
    uint64_t *bits = make(4, 40, 20, 0, 3);
    for (int64_t n = 0; n <= 40; n++) {
        for (int isa = 0; isa < 3; isa++) {
            setenv("BIFOCAL_ISA", isas[isa], 1);
            check((bif_hamming_args){.words = 4, .distance = 31, .a = {bits, n}, .way = BIF_HAMMING_TILES}, 2, 2);
            check((bif_hamming_args){.words = 4, .distance = 256, .a = {bits, n}}, 2, 2);
            check((bif_hamming_args){.words = 1, .distance = 10, .a = {bits, n}, .way = BIF_HAMMING_SLOTS}, 3, 1);
            check((bif_hamming_args){.words = 4, .distance = 31, .a = {bits, n}, .b = {bits, 40 - n}, .b_first = 40}, 1, 2);
        }
    }
    free(bits);
}

Test(hamming, between_two_sets)
{
    uint64_t *a = make(4, 1700, 50, 0, 11), *b = make(4, 900, 50, 0, 12);
    memcpy(b, a + 4 * 100, 300 * 4 * sizeof *b);
    for (int64_t i = 0; i < 300; i++) {
        b[4 * i + i % 4] ^= (uint64_t)i * 0x9e3779b97f4a7c15u;
    }
    for (int way = BIF_HAMMING_AUTO; way <= BIF_HAMMING_SLOTS; way++) {
        for (int distance = 0; distance <= 60; distance += 15) {
            check((bif_hamming_args){.words = 4, .distance = distance, .a = {a, 1700}, .b = {b, 900}, .b_first = 1700, .way = way}, 3, 2);
            check((bif_hamming_args){.words = 1, .distance = distance / 4, .a = {a, 1700}, .b = {b, 900}, .b_first = 1700, .way = way}, 1,
                  2);
            check((bif_hamming_args){.words = 4, .distance = distance, .a = {a, 900}, .b = {b, 900}, .way = way}, 2,
                  1); /* forms of the same images */
        }
    }
    free(a);
    free(b);
}

/* Ranks on processors of different kinds cut the work alike. */
Test(hamming, parts_with_different_instructions)
{
    uint64_t *bits = make(4, 40000, 50, 0, 21);
    for (int64_t n = 2500; n <= 40000; n *= 2) {
        for (int distance = 15; distance <= 31; distance += 16) {
            bif_pairs all = {0}, parts = {0};
            bif_hamming_args args = {.words = 4, .distance = distance, .a = {bits, n}, .parts = 1, .threads = 2, .most = INT64_MAX};
            cr_assert_eq(bif_hamming_pairs(&args, &all), BIF_OK);
            args.parts = 3;
            for (args.part = 0; args.part < 3; args.part++) {
                setenv("BIFOCAL_ISA", isas[args.part], 1);
                args.threads = 1 + args.part;
                cr_assert_eq(bif_hamming_pairs(&args, &parts), BIF_OK);
            }
            cr_assert_eq(parts.count, all.count, "%lld hashes, distance %d: %lld pairs, not %lld", (long long)n, distance,
                         (long long)parts.count, (long long)all.count);
            bif_pairs_free(&all);
            bif_pairs_free(&parts);
        }
    }
    free(bits);
}

Test(hamming, too_many_pairs_are_refused)
{
    uint64_t *same = calloc(3000 * 4, sizeof *same);
    bif_pairs pairs = {0};
    bif_hamming_args args = {.words = 4, .distance = 31, .a = {same, 3000}, .parts = 1, .threads = 2, .most = 4498500};
    cr_assert_eq(bif_hamming_pairs(&args, &pairs), BIF_OK);
    cr_assert_eq(pairs.count, 4498500);
    bif_pairs_free(&pairs);
    args.most--;
    cr_assert_eq(bif_hamming_pairs(&args, &pairs), BIF_ERR_MEMORY);
    cr_assert_eq(pairs.count, 0);
    free(same);
}

Test(pairs, sorted_once_each)
{
    bif_pairs pairs = {0};
    bif_pairs_add(&pairs, 5, 5, 1);
    bif_pairs_add(&pairs, 4000000000u, 7, 2);
    bif_pairs_add(&pairs, 3, 9, 4);
    bif_pairs_add(&pairs, 7, 4000000000u, 1);
    bif_pairs_add(&pairs, 9, 3, 8);
    bif_pairs_sort(&pairs, true);
    cr_assert_eq(pairs.count, 2);
    cr_assert(pairs.pair[0].a == 3 && pairs.pair[0].b == 9 && pairs.pair[0].value == 4);
    cr_assert(pairs.pair[1].a == 7 && pairs.pair[1].b == 4000000000u && pairs.pair[1].value == 1);
    bif_pairs_add(&pairs, 3, 9, 6);
    bif_pairs_sort(&pairs, false);
    cr_assert(pairs.count == 2 && pairs.pair[0].value == 6);
    bif_pairs_free(&pairs);
}
