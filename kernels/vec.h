/* Vectors of the instruction set a *_cpu.c file is compiled for, with GCC's vector extensions; intrinsics only where C
 * has no operator (maximum, choice by a comparison). Included by *_cpu.c only. */
#pragma once
#include <math.h>
#include <stdint.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define BIF_LANES 16
#elif defined(__AVX2__)
#define BIF_LANES 8
#else
#define BIF_LANES 4
#endif

typedef float bif_vec __attribute__((vector_size(BIF_LANES * 4)));
typedef uint32_t bif_vecu __attribute__((vector_size(BIF_LANES * 4)));
typedef int32_t bif_veci __attribute__((vector_size(BIF_LANES * 4)));
typedef float bif_vec_any __attribute__((vector_size(BIF_LANES * 4), aligned(4), may_alias)); /* unaligned memory */

static inline bif_vec bif_load(const float *p)
{
    return *(const bif_vec_any *)p;
}

static inline void bif_store(float *p, bif_vec v)
{
    *(bif_vec_any *)p = v;
}

static inline bif_vec bif_splat(float x)
{
    return x - (bif_vec){0}; /* x - 0 keeps the sign of a zero, so the compiler makes it one broadcast */
}

static inline bif_veci bif_lane_index(void)
{
#if BIF_LANES == 16
    return (bif_veci){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif BIF_LANES == 8
    return (bif_veci){0, 1, 2, 3, 4, 5, 6, 7};
#else
    return (bif_veci){0, 1, 2, 3};
#endif
}

/* The larger of each lane; b where a is NaN. bif_zero_below: v, but 0 in the lanes where x < limit. */
#if BIF_LANES == 16
static inline bif_vec bif_vmax(bif_vec a, bif_vec b)
{
    return (bif_vec)_mm512_max_ps((__m512)a, (__m512)b);
}

static inline bif_vec bif_zero_below(bif_vec v, bif_vec x, float limit)
{
    return (bif_vec)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(limit), _CMP_NLT_UQ), (__m512)v);
}
#elif BIF_LANES == 8
static inline bif_vec bif_vmax(bif_vec a, bif_vec b)
{
    return (bif_vec)_mm256_max_ps((__m256)a, (__m256)b);
}

static inline bif_vec bif_zero_below(bif_vec v, bif_vec x, float limit)
{
    return (bif_vec)((bif_veci)v & ~(bif_veci)(x < limit));
}
#else
static inline bif_vec bif_vmax(bif_vec a, bif_vec b)
{
    bif_veci larger = a > b;
    return (bif_vec)(((bif_veci)a & larger) | ((bif_veci)b & ~larger));
}

static inline bif_vec bif_zero_below(bif_vec v, bif_vec x, float limit)
{
    return (bif_vec)((bif_veci)v & ~(bif_veci)(x < limit));
}
#endif

/* Lanes [0, count) of v, `other` in the rest. */
static inline bif_vec bif_first(bif_vec v, int64_t count, float other)
{
    bif_veci kept = bif_lane_index() < (int32_t)count;
    return (bif_vec)(((bif_veci)v & kept) | ((bif_veci)bif_splat(other) & ~kept));
}

/* The first `count` (1 .. BIF_LANES) numbers of p, `other` in the lanes after them, whose memory is not touched. */
static inline bif_vec bif_load_first(const float *p, int64_t count, float other)
{
    if (count >= BIF_LANES) {
        return bif_load(p);
    }
    bif_vec v = bif_splat(other);
    for (int64_t i = 0; i < count; i++) {
        v[i] = p[i];
    }
    return v;
}

static inline void bif_store_first(float *p, bif_vec v, int64_t count)
{
    if (count >= BIF_LANES) {
        bif_store(p, v);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        p[i] = v[i];
    }
}

static inline float bif_hsum(bif_vec v)
{
    for (int32_t half = BIF_LANES / 2; half > 0; half /= 2) {
        v += __builtin_shuffle(v, bif_lane_index() ^ half);
    }
    return v[0];
}

static inline float bif_hmax(bif_vec v)
{
    for (int32_t half = BIF_LANES / 2; half > 0; half /= 2) {
        v = bif_vmax(v, __builtin_shuffle(v, bif_lane_index() ^ half));
    }
    return v[0];
}

#define BIF_LOG2E 1.44269504088896340736f
#define BIF_LN2   0.69314718055994530942f

/* 2^x, relative error below 2e-7 for x in [-126, 127]; exactly 0 below -126 (also for -Inf); NaN stays NaN.
 * x = n + r with n the nearest integer (the low bits of x + 1.5 * 2^23), |r| <= 1/2, and a polynomial of degree 5 in r.
 */
static inline bif_vec bif_vexp2(bif_vec x)
{
    const float magic = 12582912.0f;
    bif_vec shifted = x + magic;
    bif_vec r = x - (shifted - magic);
    bif_vec p = 1.32647273e-3f * r + 9.67151299e-3f;
    p = p * r + 5.55073358e-2f;
    p = p * r + 2.40222424e-1f;
    p = p * r + 6.93147004e-1f;
    p = p * r + 1.0f;
    bif_vec power = (bif_vec)((bif_vecu)p + ((bif_vecu)shifted << 23));
    return bif_zero_below(power, x, -126.0f);
}
