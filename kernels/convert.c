#include "kernels/convert.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK ((int64_t)1 << 18)

uint16_t bif_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u); /* quiet: a NaN whose upper half alone is an infinity must not become one */
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float bif_from_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void bif_to_bf16s(uint16_t *out, const float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        out[i] = bif_to_bf16(values[i]);
    }
}

void bif_from_bf16s(float *out, const uint16_t *bits, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        out[i] = bif_from_bf16(bits[i]);
    }
}

static bool is_bf16(const char *what, const bif_tensor *t)
{
    BIF_BUG_IF(t->dtype != BIF_DTYPE_F32 && t->dtype != BIF_DTYPE_BF16, "%s on a tensor of %s", what, bif_dtype_name(t->dtype));
    return t->dtype == BIF_DTYPE_BF16;
}

void bif_copy_in_f32(bif_device *device, const bif_tensor *to, const float *host)
{
    const int64_t n = bif_numel(to);
    if (!is_bf16("copy_in_f32", to)) {
        device->copy_in(device, to->data, host, bif_bytes(to));
        return;
    }
    uint16_t *piece = bif_malloc((size_t)(n < CHUNK ? n : CHUNK) * sizeof *piece);
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t count = n - at < CHUNK ? n - at : CHUNK;
        bif_to_bf16s(piece, host + at, count);
        device->copy_in(device, (uint16_t *)to->data + at, piece, (size_t)count * sizeof *piece);
    }
    free(piece);
}

void bif_copy_out_f32(bif_device *device, float *host, const bif_tensor *from)
{
    const int64_t n = bif_numel(from);
    if (!is_bf16("copy_out_f32", from)) {
        device->copy_out(device, host, from->data, bif_bytes(from));
        return;
    }
    uint16_t *piece = bif_malloc((size_t)(n < CHUNK ? n : CHUNK) * sizeof *piece);
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t count = n - at < CHUNK ? n - at : CHUNK;
        device->copy_out(device, piece, (const uint16_t *)from->data + at, (size_t)count * sizeof *piece);
        bif_from_bf16s(host + at, piece, count);
    }
    free(piece);
}
