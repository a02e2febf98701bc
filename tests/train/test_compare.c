#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "train/compare.h"

#define N 10001 /* more than one piece, and no multiple of one */

static float x[N], y[N];
static uint16_t half[N];

static bif_st_entry entry(const void *data, bif_dtype dtype, int64_t count)
{
    return (bif_st_entry){.name = (char *)"t", .dtype = dtype, .rank = 1, .dim = {count}, .data = data, .bytes = (size_t)count * bif_dtype_size(dtype)};
}

static void fill(void)
{
    for (int i = 0; i < N; i++) {
        x[i] = y[i] = (float)(i % 251) - 100.0f;
        half[i] = bif_to_bf16(x[i]);
    }
}

TestSuite(compare, .init = fill);

Test(compare, differences_by_number)
{
    const bif_st_entry a = entry(x, BIF_DTYPE_F32, N), b = entry(y, BIF_DTYPE_F32, N);
    bif_difference d = bif_tensor_difference(&a, &b);
    cr_expect(d.equal && d.relative == 0.0 && d.largest == 0.0);
    y[N - 1] += 3.0f;
    y[0] -= 4.0f;
    double size = 0.0;
    for (int i = 0; i < N; i++) {
        size += (double)x[i] * x[i];
    }
    d = bif_tensor_difference(&a, &b);
    cr_expect(!d.equal && d.largest == 4.0);
    cr_expect_float_eq(d.relative, 5.0 / sqrt(size), 1e-12);
    y[5] = NAN;
    d = bif_tensor_difference(&a, &b);
    cr_expect(!d.equal && isinf(d.relative) && isinf(d.largest));
    memset(x, 0, sizeof x);
    y[5] = 0.0f;
    cr_expect(isinf(bif_tensor_difference(&a, &b).relative));
}

Test(compare, the_same_numbers)
{
    const bif_st_entry a = entry(x, BIF_DTYPE_F32, N), b = entry(half, BIF_DTYPE_BF16, N);
    cr_expect(bif_tensor_difference(&a, &b).equal, "bf16 holds these numbers exactly");
    half[N - 1] ^= 1;
    cr_expect_not(bif_tensor_difference(&a, &b).equal);
    x[3] = -0.0f, y[3] = 0.0f;
    const bif_st_entry c = entry(y, BIF_DTYPE_F32, N);
    cr_expect(bif_tensor_difference(&a, &c).equal, "-0 is 0");
    x[3] = NAN, y[3] = -NAN;
    cr_expect(bif_tensor_difference(&a, &c).equal, "NaN is NaN");
    int64_t wide[3] = {-1, 2, 3};
    int32_t word[3] = {-1, 2, 3};
    uint8_t byte[3] = {1, 2, 255};
    uint16_t two[3] = {1, 2, 255};
    const bif_st_entry i64 = entry(wide, BIF_DTYPE_I64, 3), i32 = entry(word, BIF_DTYPE_I32, 3), u8 = entry(byte, BIF_DTYPE_U8, 3),
                       u16 = entry(two, BIF_DTYPE_U16, 3);
    cr_expect(bif_tensor_difference(&i64, &i32).equal && bif_tensor_difference(&u8, &u16).equal);
    word[2] = 7;
    cr_expect_eq(bif_tensor_difference(&i64, &i32).largest, 4.0);
}

Test(compare, numbers_that_are_none)
{
    int64_t nans = 0, infinite = 0;
    const bif_st_entry a = entry(x, BIF_DTYPE_F32, N), b = entry(half, BIF_DTYPE_BF16, N), c = entry(half, BIF_DTYPE_F16, N),
                       u = entry(half, BIF_DTYPE_U16, N);
    bif_tensor_scan(&a, &nans, &infinite);
    cr_expect(nans == 0 && infinite == 0);
    x[0] = x[N - 1] = NAN;
    x[4096] = -INFINITY;
    bif_tensor_scan(&a, &nans, &infinite);
    cr_expect(nans == 2 && infinite == 1);
    half[N - 1] = 0x7f80;
    bif_tensor_scan(&b, &nans, &infinite);
    cr_expect(nans == 0 && infinite == 1);
    memset(half, 0, sizeof half);
    half[7] = 0x7e00;
    half[8] = 0xfc00;
    bif_tensor_scan(&c, &nans, &infinite);
    cr_expect(nans == 1 && infinite == 1);
    bif_tensor_scan(&u, &nans, &infinite);
    cr_expect(nans == 0 && infinite == 0);
}

Test(compare, rows_of_every_kind_of_model)
{
    static const char *const folders[] = {"llava", "clip_vision"};
    for (size_t i = 0; i < 2; i++) {
        char *path = bif_format("%s/golden/hf/%s", getenv("BIFOCAL_TESTS"), folders[i]);
        bif_model_config config = {0};
        bif_params rows = {0};
        bif_safetensors *set = NULL;
        int64_t found = 0;
        cr_assert_eq(bif_hf_config_read(path, &config), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_safetensors_open(path, &set), BIF_OK, "%s", bif_error_message());
        bif_model_rows(&config, &rows);
        const bif_param **row_of = bif_match_rows(set, &rows, &found);
        cr_expect(found == rows.count && found == bif_safetensors_count(set), "%s: %lld of %lld", path, (long long)found, (long long)rows.count);
        for (int64_t k = 0; k < found; k++) {
            cr_expect_not_null(row_of[k]);
        }
        free(row_of);
        bif_params_free(&rows);
        bif_safetensors_close(set);
        free(path);
    }
}
