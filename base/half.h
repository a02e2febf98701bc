/* IEEE half precision on the host, as uint16_t: how columns of embeddings keep their numbers. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exact. The exponent is moved by a product, which puts numbers below 2^-14 right as well. */
static inline float bif_from_f16(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t bits = rest;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    bits = sign | (rest >= 0x0f800000u ? rest | 0x7f800000u : bits); /* infinity and NaN */
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Nearest, ties to even; what is too large becomes infinity, NaN stays NaN. */
uint16_t bif_to_f16(float value);

/* out = row / its length, in f32; false, and zeros, when the row is all zero or holds something that is not a number: then there is no
 * embedding. The same bits wherever it is called. */
bool bif_unit_row(const uint16_t *row, int64_t width, float *out);

#ifdef __cplusplus
}
#endif
