/* Elementary functions of the CPU kernels as plain branch-free arithmetic, so that the compiler vectorises any loop that calls
 * them, at any instruction set (call them inside `#pragma omp simd` loops). Polynomials are minimax fits in double; the error
 * given is the relative one measured against double over the whole stated range. NaN goes in and comes out. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float bif_simd_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t bif_simd_to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* e^x within 2e-7; 0 below -87.3 (no denormals), infinity above 88.37. */
static inline float bif_simd_exp(float x)
{
    float c = x < -87.3f ? -87.3f : x;
    c = c > 88.37f ? 88.37f : c;
    /* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. */
    float shifted = c * 1.44269504f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float r = (c - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 0.00138368456f;
    p = p * r + 0.0083748158f;
    p = p * r + 0.0416682256f;
    p = p * r + 0.166664202f;
    p = p * r + 0.499999921f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    float y = p * bif_simd_from_bits((bif_simd_to_bits(shifted) + 127u) << 23);
    y = x < -87.3f ? 0.0f : y;
    return x > 88.37f ? INFINITY : y;
}

/* 1 / (1 + e^-x) within 3e-7. */
static inline float bif_simd_sigmoid(float x)
{
    return 1.0f / (1.0f + bif_simd_exp(-x));
}

/* log(1 + u) for u in [0, 1], within 2e-7. softplus(x) = max(x, 0) + log1p(exp(-|x|)). */
static inline float bif_simd_log1p(float u)
{
    float p = -0.00324402101f;
    p = p * u + 0.0198514436f;
    p = p * u + -0.0569594989f;
    p = p * u + 0.106036513f;
    p = p * u + -0.153055905f;
    p = p * u + 0.196759385f;
    p = p * u + -0.249541335f;
    p = p * u + 0.333299624f;
    p = p * u + -0.499999024f;
    p = p * u + 1.0f;
    return p * u;
}

/* The standard normal distribution function Phi(x) = (1 + erf(x / sqrt 2)) / 2; absolute error 1e-7, and the tail of negative x
 * keeps its relative precision (1e-6 at -5). *gauss receives e^(-x^2/2), which the derivative of GELU needs as well.
 * Q(|x|) = e^(-x^2/2) t P(t), t = 1 / (1 + 0.3 |x|). */
static inline float bif_simd_phi(float x, float *gauss)
{
    float e = bif_simd_exp(-0.5f * x * x);
    float t = 1.0f / (1.0f + 0.3f * fabsf(x));
    float p = -0.0206128354f;
    p = p * t + 0.11237581f;
    p = p * t + -0.228067585f;
    p = p * t + 0.191581786f;
    p = p * t + -0.0792474124f;
    p = p * t + 0.0960578664f;
    p = p * t + 0.0784255675f;
    p = p * t + 0.110227326f;
    p = p * t + 0.119572841f;
    p = p * t + 0.119686634f;
    float tail = e * t * p;
    *gauss = e;
    return x > 0.0f ? 1.0f - tail : tail;
}
