#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"

static float of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The nearer of the two neighbours by distance in double; a tie goes to the even one. */
static uint16_t slow(uint32_t bits)
{
    const uint16_t below = (uint16_t)(bits >> 16), above = (uint16_t)(below + 1);
    const double x = of_bits(bits), low = of_bits((uint32_t)below << 16);
    const double high = (above & 0x7fffu) == 0x7f80u ? copysign(ldexp(1.0, 128), low) : (double)of_bits((uint32_t)above << 16);
    const double down = fabs(x - low), up = fabs(high - x);
    return down < up || (down == up && below % 2 == 0) ? below : above;
}

Test(convert, to_bf16_rounds_to_nearest_even)
{
    for (uint32_t half = 0; half < 0x10000u; half += 3) {
        static const uint32_t rests[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
        for (size_t i = 0; i < 6; i++) {
            const uint32_t bits = half << 16 | rests[i];
            if ((bits & 0x7f800000u) != 0x7f800000u) {
                cr_assert_eq(bif_to_bf16(of_bits(bits)), slow(bits), "%08x", bits);
            }
        }
    }
    cr_expect_eq(bif_to_bf16(3.4028235e38f), 0x7f80, "the largest f32 is nearer to infinity");
    cr_expect_eq(bif_to_bf16(-INFINITY), 0xff80);
    cr_expect_eq(bif_to_bf16(-0.0f), 0x8000);
    static const uint32_t nans[] = {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffc00000u};
    for (size_t i = 0; i < 4; i++) {
        cr_expect(isnan(bif_from_bf16(bif_to_bf16(of_bits(nans[i])))), "%08x", nans[i]);
    }
}

Test(convert, from_bf16_is_exact_and_returns)
{
    for (uint32_t half = 0; half < 0x10000u; half++) {
        const float value = bif_from_bf16((uint16_t)half);
        if (!isnan(value)) {
            cr_assert_eq(bif_to_bf16(value), half);
        }
    }
}

/* Across the border of the pieces, into f32 and bf16 alike. */
Test(convert, copies_of_tensors)
{
    const int64_t n = ((int64_t)1 << 18) + 7;
    bif_device *device = NULL;
    cr_assert_eq(bif_device_open("cpu", 1, &device), BIF_OK);
    cr_expect(device->deterministic, "what a device is unless its user says otherwise");
    float *host = bif_malloc((size_t)n * sizeof *host), *back = bif_malloc((size_t)n * sizeof *back);
    for (int64_t i = 0; i < n; i++) {
        host[i] = (float)i / 1024 - 100;
    }
    static const bif_dtype dtypes[] = {BIF_DTYPE_F32, BIF_DTYPE_BF16};
    for (size_t k = 0; k < 2; k++) {
        bif_tensor t = bif_tensor1(NULL, dtypes[k], n);
        t.data = bif_calloc((size_t)n + 1, bif_dtype_size(dtypes[k]));
        bif_copy_in_f32(device, &t, host);
        bif_copy_out_f32(device, back, &t);
        for (int64_t i = 0; i < n; i++) {
            cr_assert_eq(back[i], k == 0 ? host[i] : bif_from_bf16(bif_to_bf16(host[i])), "%lld", (long long)i);
        }
        const char *guard = (const char *)t.data + bif_bytes(&t);
        cr_expect(guard[0] == 0 && guard[1] == 0);
        free(t.data);
    }
    free(host);
    free(back);
    bif_device_close(device);
}
