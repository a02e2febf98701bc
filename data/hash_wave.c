/* Haar's wavelet as PyWavelets runs it: along the first axis, then along the second; each coefficient one sum of two products. A block of
 * the 8 x 8 grid is a tree of its own, so blocks are done one by one and memory is that of a block, whatever the picture. */
#include <stdlib.h>

#include "data/hash_image.h"

#define HALF 0x1.6a09e667f3bcdp-1 /* sqrt(1/2) as PyWavelets has it */

/* One level of [n, n] within rows of `stride`: each 2 x 2 becomes its LL in the upper left n/2 x n/2 and, with `keep`, its three details in
 * the other quarters. work [n, n]. */
static void down(double *x, int64_t n, int64_t stride, bool keep, double *work)
{
    const int64_t half = n / 2;
    for (int64_t i = 0; i < half; i++) {
        const double *even = x + 2 * i * stride, *odd = even + stride;
        double *low = work + i * n, *high = work + (half + i) * n;
        for (int64_t j = 0; j < n; j++) {
            low[j] = HALF * odd[j] + HALF * even[j];
        }
        if (keep) {
            for (int64_t j = 0; j < n; j++) {
                high[j] = -HALF * odd[j] + HALF * even[j];
            }
        }
    }
    for (int64_t i = 0; i < (keep ? n : half); i++) {
        const double *from = work + i * n;
        double *to = x + i * stride;
        for (int64_t j = 0; j < half; j++) {
            to[j] = HALF * from[2 * j + 1] + HALF * from[2 * j];
        }
        if (keep) {
            for (int64_t j = 0; j < half; j++) {
                to[half + j] = -HALF * from[2 * j + 1] + HALF * from[2 * j];
            }
        }
    }
}

/* The way back: the second axis first. */
static void up(double *x, int64_t n, int64_t stride, double *work)
{
    const int64_t half = n / 2;
    for (int64_t i = 0; i < n; i++) {
        const double *from = x + i * stride;
        double *to = work + i * n;
        for (int64_t j = 0; j < half; j++) {
            to[2 * j] = HALF * from[j] + HALF * from[half + j];
            to[2 * j + 1] = HALF * from[j] + -HALF * from[half + j];
        }
    }
    for (int64_t i = 0; i < half; i++) {
        const double *low = work + i * n, *high = work + (half + i) * n;
        double *even = x + 2 * i * stride, *odd = even + stride;
        for (int64_t j = 0; j < n; j++) {
            even[j] = HALF * low[j] + HALF * high[j];
            odd[j] = HALF * low[j] + -HALF * high[j];
        }
    }
}

static void load(const uint8_t *grey, int64_t side, int64_t block, int64_t n, double *x)
{
    const uint8_t *from = grey + (block / 8 * side + block % 8) * n;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            x[i * n + j] = from[i * side + j] / 255.0;
        }
    }
}

static double decompose(double *x, int64_t n, bool keep, double *work)
{
    for (int64_t size = n; size > 1; size /= 2) {
        down(x, size, n, keep, work);
    }
    return x[0];
}

static void rebuild(double *x, int64_t n, double *work)
{
    for (int64_t size = 2; size <= n; size *= 2) {
        up(x, size, n, work);
    }
}

void bif_hash_haar(const uint8_t *grey, int64_t side, bool without_mean, const bool want[64], double out[64])
{
    const int64_t n = side / 8, room = n * n > 64 ? n * n : 64;
    double *x = bif_malloc((size_t)room * sizeof *x), *work = bif_malloc((size_t)room * sizeof *work);
    for (int64_t b = 0; b < 64; b++) {
        if (without_mean || want == NULL || want[b]) {
            load(grey, side, b, n, x);
            out[b] = decompose(x, n, false, work);
        }
    }
    if (without_mean) {
        decompose(out, 8, true, work);
        out[0] *= 0.0;
        rebuild(out, 8, work);
        for (int64_t b = 0; b < 64; b++) { /* the other values of a block follow it down, and up again */
            if (want == NULL || want[b]) {
                load(grey, side, b, n, x);
                decompose(x, n, true, work);
                x[0] = out[b];
                rebuild(x, n, work);
                out[b] = decompose(x, n, false, work);
            }
        }
    }
    free(x);
    free(work);
}
