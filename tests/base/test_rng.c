#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

/* Random123's kat_vectors, philox4x32 10 rounds. Our counter is (sub, purpose, index low, index high). */
static void known(const uint32_t counter[4], const uint32_t key[2], const uint32_t expect[4])
{
    uint32_t out[4];
    bif_philox((uint64_t)key[1] << 32 | key[0], (bif_rng_purpose)counter[1], (uint64_t)counter[3] << 32 | counter[2], counter[0], out);
    cr_expect_arr_eq(out, expect, sizeof out);
}

Test(rng, philox_known_answers)
{
    known((uint32_t[4]){0}, (uint32_t[2]){0}, (uint32_t[4]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    known((uint32_t[4]){~0u, ~0u, ~0u, ~0u}, (uint32_t[2]){~0u, ~0u}, (uint32_t[4]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    known((uint32_t[4]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, (uint32_t[2]){0xa4093822, 0x299f31d0},
          (uint32_t[4]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

Test(rng, permute_is_a_bijection)
{
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 100, 1000, 4096, 4097, 65536, 100003};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t n = sizes[i];
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            char *seen = calloc(n, 1);
            for (uint64_t k = 0; k < n; k++) {
                uint64_t at = bif_permute(42, epoch, n, k);
                cr_assert_lt(at, n);
                cr_assert_eq(seen[at], 0, "n %llu: %llu twice", (unsigned long long)n, (unsigned long long)at);
                seen[at] = 1;
            }
            free(seen);
        }
    }
}

Test(rng, permute_mixes)
{
    const uint64_t n = 10000;
    uint64_t same = 0, fixed = 0;
    for (uint64_t k = 0; k < n; k++) {
        uint64_t a = bif_permute(1, 0, n, k);
        same += a == bif_permute(1, 1, n, k);
        fixed += a == k;
        cr_assert_eq(a, bif_permute(1, 0, n, k));
    }
    cr_expect_lt(same, 10);  /* expected 1 */
    cr_expect_lt(fixed, 10); /* expected 1 */
    cr_expect_lt(bif_permute(1, 0, UINT64_MAX, 12345), UINT64_MAX);
}

Test(rng, distributions)
{
    double sum = 0, squares = 0, uniform = 0;
    const uint32_t n = 100000;
    for (uint32_t i = 0; i < n; i++) {
        double x = bif_rng_normal(3, BIF_RNG_TEST, 1, i);
        float u = bif_rng_uniform(3, BIF_RNG_TEST, 2, i);
        cr_assert(u >= 0 && u < 1);
        cr_assert(isfinite(x));
        sum += x;
        squares += x * x;
        uniform += u;
    }
    cr_expect_lt(fabs(sum / n), 0.015);             /* about 4.7 standard errors */
    cr_expect_lt(fabs(squares / n - 1.0), 0.02);    /* 4.5 */
    cr_expect_lt(fabs(uniform / n - 0.5), 0.0045);  /* 4.9 */
    cr_expect_neq(bif_rng_uniform(3, BIF_RNG_TEST, 2, 0), bif_rng_uniform(3, BIF_RNG_INIT, 2, 0));
}

Test(rng, hash_name)
{
    cr_expect_eq(bif_hash_name(""), 0xcbf29ce484222325u);
    cr_expect_eq(bif_hash_name("foobar"), 0x85944171f73967e8u); /* FNV's own test vector */
}
