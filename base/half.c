#include "base/half.h"

#include <math.h>

uint16_t bif_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) {
        return sign | 0x7e00u;
    }
    if (bits >= 0x477ff000u) { /* from 65520 on */
        return sign | 0x7c00u;
    }
    if (bits < 0x38800000u) { /* below 2^-14: adding 0.5 leaves multiples of 2^-24, rounded, in the last bits */
        float small;
        memcpy(&small, &bits, sizeof small);
        small += 0.5f;
        memcpy(&bits, &small, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0x0fffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | ((bits - 0x38000000u) >> 13));
}

bool bif_unit_row(const uint16_t *row, int64_t width, float *out)
{
    double square = 0.0;
    for (int64_t i = 0; i < width; i++) {
        out[i] = bif_from_f16(row[i]);
        square += (double)out[i] * (double)out[i];
    }
    if (!(square > 0.0) || !isfinite(square)) {
        memset(out, 0, (size_t)width * sizeof *out);
        return false;
    }
    const double scale = 1.0 / sqrt(square);
    for (int64_t i = 0; i < width; i++) {
        out[i] = (float)((double)out[i] * scale);
    }
    return true;
}
