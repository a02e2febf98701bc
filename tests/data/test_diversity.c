#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/diversity.h"

Test(diversity, spread)
{
    int64_t size[200] = {0};
    for (int i = 0; i < 100; i++) {
        size[2 * i] = 7;
    }
    bif_spread s = bif_spread_of(size, 200);
    cr_assert_eq(s.members, 700);
    cr_assert_eq(s.used, 100);
    cr_assert_float_eq(s.effective, 100.0, 1e-9);
    cr_assert_float_eq(s.top_share, 0.02, 1e-12);
    const int64_t two[2] = {3, 1};
    s = bif_spread_of(two, 2);
    cr_assert_float_eq(s.entropy, -0.75 * log(0.75) - 0.25 * log(0.25), 1e-15);
    cr_assert_float_eq(s.top_share, 0.75, 1e-15);
    s = bif_spread_of(size + 1, 1);
    cr_assert_eq(s.effective, 0.0);
}

/* A = Q diag(values) Q^T with Q a product of reflections. */
static void with_eigenvalues(double *a, const double *values, int64_t n)
{
    double *u = calloc((size_t)n, sizeof *u), *w = calloc((size_t)n, sizeof *w);
    memset(a, 0, (size_t)(n * n) * sizeof *a);
    for (int64_t i = 0; i < n; i++) {
        a[i * n + i] = values[i];
    }
    for (int k = 0; k < 5; k++) {
        double square = 0.0, middle = 0.0;
        for (int64_t i = 0; i < n; i++) {
            u[i] = (double)rand() / RAND_MAX - 0.5;
            square += u[i] * u[i];
        }
        for (int64_t i = 0; i < n; i++) {
            w[i] = 0.0;
            for (int64_t j = 0; j < n; j++) {
                w[i] += a[i * n + j] * u[j] * 2.0 / square;
            }
        }
        for (int64_t i = 0; i < n; i++) {
            middle += w[i] * u[i] / square;
        }
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                a[i * n + j] += -w[i] * u[j] - u[i] * w[j] + 2.0 * middle * u[i] * u[j];
            }
        }
    }
    free(u);
    free(w);
}

Test(diversity, eigenvalues)
{
    srand(7);
    for (int64_t n = 1; n <= 150; n += n < 6 ? 1 : 37) {
        for (int kind = 0; kind < 4; kind++) {
            double *a = calloc((size_t)(n * n), sizeof *a), *values = calloc((size_t)n, sizeof *values), *got = calloc((size_t)n, sizeof *got);
            for (int64_t i = 0; i < n; i++) {
                values[i] = kind == 0   ? (double)i - 3.0         /* distinct */
                            : kind == 1 ? (double)(i / 5)         /* in fives */
                            : kind == 2 ? exp2(-(double)(n - i))  /* over 150 binary orders */
                                        : (i + 2 >= n ? 1.0 : 0.0); /* rank 2 */
            }
            with_eigenvalues(a, values, n);
            for (int64_t i = 0; i < n; i++) { /* only the lower triangle is read */
                for (int64_t j = i + 1; j < n; j++) {
                    a[i * n + j] = NAN;
                }
            }
            bif_symmetric_eigenvalues(a, n, got);
            for (int64_t i = 0; i < n; i++) {
                cr_assert(fabs(got[i] - values[i]) < 1e-12 * (double)(n + 1), "n %d kind %d: %.17g for %.17g", (int)n, kind, got[i], values[i]);
            }
            free(a);
            free(values);
            free(got);
        }
    }
    double diagonal[9] = {3, 0, 0, 0, 1, 0, 0, 0, 2}, got[3];
    bif_symmetric_eigenvalues(diagonal, 3, got);
    cr_assert(got[0] == 1 && got[1] == 2 && got[2] == 3);
    double zero[4] = {0};
    bif_symmetric_eigenvalues(zero, 2, got);
    cr_assert(got[0] == 0 && got[1] == 0);
}

Test(diversity, vendi)
{
    const double same[4] = {0, 0, 0, 5}, even[4] = {2, 2, 2, 2}, none[2] = {0, -1e-18};
    cr_assert_float_eq(bif_vendi_of(same, 4), 1.0, 1e-15);
    cr_assert_float_eq(bif_vendi_of(even, 4), 4.0, 1e-14);
    cr_assert_eq(bif_vendi_of(none, 2), 0.0);
}
