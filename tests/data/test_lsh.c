#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "data/lsh.h"

enum { COUNT = 1500 };

/* Signatures as of sets: every third has each value from an earlier one with a chance of its own. */
static uint32_t *make(void)
{
    uint32_t *s = malloc((size_t)COUNT * 128 * sizeof *s);
    for (int i = 0; i < COUNT; i++) {
        uint32_t r[4];
        bif_philox(9, BIF_RNG_TEST, (uint64_t)i, 0, r);
        const int from = i > 0 ? (int)(r[0] % (uint32_t)i) : 0, same = i % 3 == 2 ? (int)(r[1] % 101) : 0;
        for (int k = 0; k < 128; k++) {
            uint32_t q[4];
            bif_philox(9, BIF_RNG_TEST, (uint64_t)i, (uint32_t)k + 1, q);
            s[i * 128 + k] = (int)(q[0] % 100) < same ? s[from * 128 + k] : q[1] % 100000;
        }
    }
    return s;
}

static bif_pairs find(const uint32_t *s, double jaccard, int parts, int threads)
{
    bif_pairs pairs = {0};
    for (int part = 0; part < parts; part++) {
        const bif_minhash_args args = {
            .signature = s, .count = COUNT, .jaccard = jaccard, .part = part, .parts = parts, .threads = threads, .most = 1 << 20};
        cr_assert_eq(bif_minhash_pairs(&args, &pairs), BIF_OK);
    }
    bif_pairs_sort(&pairs, false);
    return pairs;
}

Test(lsh, pairs_are_those_of_all_comparisons)
{
    uint32_t *s = make();
    const double thresholds[] = {0.5, 0.8, 0.95, 1.0};
    for (int t = 0; t < 4; t++) {
        bif_pairs pairs = find(s, thresholds[t], 1, 1), again = find(s, thresholds[t], 3, 2);
        int64_t at = 0, missed = 0, wanted = 0;
        for (int i = 0; i < COUNT; i++) {
            for (int j = i + 1; j < COUNT; j++) {
                int same = 0;
                for (int k = 0; k < 128; k++) {
                    same += s[i * 128 + k] == s[j * 128 + k];
                }
                const bool near = same / 128.0 >= thresholds[t];
                const bool found = at < pairs.count && pairs.pair[at].a == (uint32_t)i && pairs.pair[at].b == (uint32_t)j;
                cr_assert(!found || (near && pairs.pair[at].value == (float)same / 128));
                at += found;
                wanted += near;
                missed += near && !found;
            }
        }
        cr_assert(wanted > (t == 3 ? 0 : 10));
        cr_assert(missed <= wanted / 100, "%lld of %lld missed at %g", (long long)missed, (long long)wanted, thresholds[t]);
        cr_assert_eq(at, pairs.count);
        cr_assert(again.count == pairs.count && memcmp(again.pair, pairs.pair, (size_t)pairs.count * sizeof *pairs.pair) == 0);
        bif_pairs_free(&pairs);
        bif_pairs_free(&again);
    }
    free(s);
}

Test(lsh, rows_of_a_threshold)
{
    cr_assert_eq(bif_minhash_rows(0.8), 6);
    cr_assert_eq(bif_minhash_rows(1.0), 32);
    for (double j = 0.1; j < 1; j += 0.1) {
        const int r = bif_minhash_rows(j);
        cr_assert(r == 1 || 1 - pow(1 - pow(j, r), 128 / r) >= 0.995);
    }
}

Test(lsh, too_many_pairs_are_refused)
{
    uint32_t *s = calloc(2000 * 128, sizeof *s);
    bif_pairs pairs = {0};
    const bif_minhash_args args = {.signature = s, .count = 2000, .jaccard = 0.8, .parts = 1, .threads = 2, .most = 1000};
    cr_assert_eq(bif_minhash_pairs(&args, &pairs), BIF_ERR_MEMORY);
    bif_pairs_free(&pairs);
    free(s);
}

/* Equal signatures of many groups: neither pairs nor time of those between them. */
Test(lsh, pairs_within_groups)
{
    enum { MANY = 60000 };
    uint32_t *s = calloc((size_t)MANY * 128, sizeof *s);
    uint64_t *group = malloc(MANY * sizeof *group);
    for (int i = 0; i < MANY; i++) {
        group[i] = (uint64_t)(i % (MANY / 2));
    }
    bif_pairs pairs = {0};
    const bif_minhash_args args = {
        .signature = s, .group = group, .count = MANY, .jaccard = 0.8, .parts = 1, .threads = 2, .most = MANY / 2};
    cr_assert_eq(bif_minhash_pairs(&args, &pairs), BIF_OK);
    bif_pairs_sort(&pairs, false);
    cr_assert_eq(pairs.count, MANY / 2);
    for (int64_t i = 0; i < pairs.count; i++) {
        cr_assert(pairs.pair[i].a == (uint32_t)i && pairs.pair[i].b == (uint32_t)(i + MANY / 2));
    }
    bif_pairs_free(&pairs);
    free(group);
    free(s);
}
