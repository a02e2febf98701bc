#include <criterion/criterion.h>
#include <math.h>

#include "base/half.h"

Test(half, every_one)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        const int sign = h & 0x8000 ? -1 : 1, exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
        const float got = bif_from_f16((uint16_t)h);
        if (exponent == 31) {
            cr_assert(fraction != 0 ? isnan(got) : isinf(got) && (got > 0) == (sign > 0));
            cr_assert(fraction != 0 ? isnan(bif_from_f16(bif_to_f16(got))) : bif_to_f16(got) == h);
            continue;
        }
        const double value = sign * (exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25));
        cr_assert_eq((double)got, value);
        cr_assert_eq(bif_to_f16(got), h, "%04x", h);
        if (exponent == 30 && fraction == 1023) {
            continue;
        }
        /* Halfway to the next goes to the even one; a little less or more, to the nearer. */
        const double next = fabs((double)bif_from_f16((uint16_t)(h + 1))), middle = sign * 0.5 * (fabs(value) + next);
        cr_assert_eq(bif_to_f16((float)middle), (h & 1) ? h + 1 : h, "%04x", h);
        cr_assert_eq(bif_to_f16(nextafterf((float)middle, 0.0f)), h);
        cr_assert_eq(bif_to_f16(nextafterf((float)middle, (float)sign * INFINITY)), h + 1);
    }
    cr_assert_eq(bif_to_f16(65519.0f), 0x7bff);
    cr_assert_eq(bif_to_f16(65520.0f), 0x7c00);
    cr_assert_eq(bif_to_f16(-1e30f), 0xfc00);
    cr_assert_eq(bif_to_f16(1e-30f), 0);
}

Test(half, unit_rows)
{
    const uint16_t row[3] = {bif_to_f16(3.0f), 0, bif_to_f16(-4.0f)}, none[3] = {0}, bad[3] = {0x7c00, 0, 0};
    float out[3];
    cr_assert(bif_unit_row(row, 3, out));
    cr_assert(out[0] == 0.6f && out[1] == 0.0f && out[2] == -0.8f);
    cr_assert(!bif_unit_row(none, 3, out) && out[0] == 0.0f);
    cr_assert(!bif_unit_row(bad, 3, out) && out[0] == 0.0f);
}
