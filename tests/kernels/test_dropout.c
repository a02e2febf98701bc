/* Dropout against bif_philox, column by column; what a mask depends on; columns of packed rows. */
#include "ref.h"

/* i32 [t,2], any bits. */
static bif_tensor indices(int64_t t, uint64_t seed)
{
    int32_t *x = ref_block((size_t)t * 2 * sizeof *x);
    for (int64_t i = 0; i < 2 * t; i++) {
        uint32_t word[4];
        bif_philox(seed, BIF_RNG_TEST, (uint64_t)i, 0, word);
        memcpy(x + i, word, sizeof *x);
    }
    return bif_tensor2(x, BIF_DTYPE_I32, t, 2);
}

static bool kept(uint64_t seed, const int32_t *index, int64_t column, double p)
{
    uint32_t word[4];
    bif_philox(seed, BIF_RNG_DROPOUT, (uint32_t)index[0] | (uint64_t)(uint32_t)index[1] << 32, (uint32_t)(column / 4), word);
    return word[column % 4] >= (uint32_t)(p * 4294967296.0);
}

static void dropout_case(int64_t t, int64_t c, double p, uint64_t seed)
{
    bif_tensor x = ref_f32(t, c, 1), add = ref_f32(t, c, 2), index = indices(t, 3);
    double *wanted = ref_double(&x), *sum = ref_double(&add);
    for (int64_t i = 0; i < t * c; i++) {
        wanted[i] = kept(seed, (const int32_t *)index.data + i / c * 2, i % c, p) ? wanted[i] / (1 - p) : 0.0;
        sum[i] += wanted[i];
    }
    REF_EACH_DEVICE (device) {
        bif_tensor alone = ref_f32(t, c, 0), same = ref_copy(&x), both = ref_f32(t, c, 0), onto = ref_copy(&add);
        bif_dropout_args args = {.x = &x, .index = &index, .seed = seed, .p = p, .y = &alone};
        bif_dropout(device, &args);
        args.add = &add, args.y = &both;
        bif_dropout(device, &args);
        args.add = &onto, args.y = &onto;
        bif_dropout(device, &args);
        args = (bif_dropout_args){.x = &same, .index = &index, .seed = seed, .p = p, .y = &same};
        bif_dropout(device, &args);
        for (int64_t i = 0; i < t * c; i++) { /* the mask is the same on every device, to the element */
            cr_assert((((float *)alone.data)[i] != 0.0f) == (wanted[i] != 0.0), "element %lld of [%lld, %lld]", (long long)i, (long long)t,
                      (long long)c);
        }
        ref_close("dropout", alone.data, wanted, t * c, ref_stored(1e-6));
        ref_close("add", both.data, sum, t * c, ref_stored(1e-6));
        cr_assert_eq(memcmp(alone.data, same.data, bif_bytes(&x)), 0, "in place");
        cr_assert_eq(memcmp(both.data, onto.data, bif_bytes(&x)), 0, "onto add");
    }
    ref_done();
}

Test(dropout, against_philox)
{
    for (int i = 0; i < REF_SIZES * REF_SIZES; i++) {
        dropout_case(ref_sizes[i / REF_SIZES], ref_sizes[i % REF_SIZES], i % 2 == 0 ? 0.05 : 0.5, 0x123456789ABCDEFu + (uint64_t)i);
    }
    dropout_case(33, 40, 0.0, 7);
    dropout_case(7, 40, 0.25, UINT64_MAX);
}

/* A share of 1 - p stays, in every row and column alike; another seed or number of a row is another mask; equal numbers, equal rows. */
Test(dropout, statistics)
{
    const int64_t t = 256, c = 256;
    const double p = 0.05;
    bif_tensor x = ref_f32(t, c, 0), index = indices(t, 5), other = ref_copy(&index);
    for (int64_t i = 0; i < t * c; i++) {
        ((float *)x.data)[i] = 1.0f;
    }
    int32_t *rows = index.data, *others = other.data;
    for (int64_t r = 0; r < t; r++) {
        rows[2 * r] = (int32_t)(r / 2 * 2), rows[2 * r + 1] = 9; /* pairs of equal rows */
        others[2 * r] = rows[2 * r], others[2 * r + 1] = 10;
    }
    REF_EACH_DEVICE (device) {
        bif_tensor y[3] = {ref_f32(t, c, 0), ref_f32(t, c, 0), ref_f32(t, c, 0)};
        bif_dropout(device, &(bif_dropout_args){.x = &x, .index = &index, .seed = 1, .p = p, .y = &y[0]});
        bif_dropout(device, &(bif_dropout_args){.x = &x, .index = &index, .seed = 2, .p = p, .y = &y[1]});
        bif_dropout(device, &(bif_dropout_args){.x = &x, .index = &other, .seed = 1, .p = p, .y = &y[2]});
        const float *a = y[0].data;
        int64_t dropped = 0, worst = 0, both[2] = {0};
        for (int64_t r = 0; r < t; r++) {
            int64_t row = 0, column = 0;
            for (int64_t i = 0; i < c; i++) {
                row += a[r * c + i] == 0.0f;
                column += a[i * c + r] == 0.0f;
                for (int k = 0; k < 2; k++) {
                    both[k] += a[r * c + i] == 0.0f && ((const float *)y[k + 1].data)[r * c + i] == 0.0f;
                }
            }
            dropped += row;
            worst = row > worst ? row : worst;
            worst = column / 2 > worst ? column / 2 : worst; /* equal rows count double */
            cr_assert(r % 2 == 0 || memcmp(a + r * c, a + (r - 1) * c, (size_t)c * sizeof *a) == 0, "rows with the same numbers differ");
        }
        /* 32,768 independent draws: 5 deviations of the share are 0.0060, of a row's count of 256 about 17; two independent masks drop
         * 1/400 of the elements together, 5 deviations being 0.0014. */
        cr_assert(fabs((double)dropped / (double)(t * c) - p) < 0.006, "%lld dropped", (long long)dropped);
        cr_assert(worst < 13 + 18, "%lld in one row or column", (long long)worst);
        for (int k = 0; k < 2; k++) {
            cr_assert(fabs((double)both[k] / (double)(t * c) - p * p) < 0.0014, "%lld dropped in both masks", (long long)both[k]);
        }
    }
    ref_done();
}

Test(dropout, what_is_dropped_is_zero)
{
    bif_tensor x = ref_f32(1, 128, 1), index = indices(1, 3);
    for (int i = 0; i < 128; i++) {
        if (!kept(4, index.data, i, 0.5)) {
            ((float *)x.data)[i] = i % 2 == 0 ? INFINITY : NAN;
        }
    }
    REF_EACH_DEVICE (device) {
        bif_tensor y = ref_f32(1, 128, 0);
        bif_dropout(device, &(bif_dropout_args){.x = &x, .index = &index, .seed = 4, .p = 0.5, .y = &y});
        for (int i = 0; i < 128; i++) {
            cr_assert(isfinite(((float *)y.data)[i]), "column %d", i);
        }
    }
    ref_done();
}

static void columns_case(int64_t t, int64_t n, int64_t first, int64_t behind)
{
    const int64_t w = first + n + behind;
    bif_tensor rows = ref_f32(t, w, 1), part = ref_f32(t, n, 2);
    double *taken = ref_zeros(t * n), *added = ref_double(&rows), *from = ref_double(&part);
    for (int64_t i = 0; i < t * n; i++) {
        taken[i] = added[i / n * w + first + i % n];
        added[i / n * w + first + i % n] += from[i];
    }
    REF_EACH_DEVICE (device) {
        bif_tensor got = ref_f32(t, n, 0), sum = ref_copy(&rows);
        bif_take_columns(device, &(bif_take_columns_args){.rows = &rows, .first = first, .part = &got});
        bif_add_columns(device, &(bif_add_columns_args){.part = &part, .first = first, .rows = &sum});
        ref_close("taken", got.data, taken, t * n, 0);
        ref_close("added", sum.data, added, t * w, ref_stored(1e-7));
        for (int64_t i = 0; i < t * w; i++) {
            const bool inside = i % w >= first && i % w < first + n;
            cr_assert(inside || ((float *)sum.data)[i] == ((float *)rows.data)[i], "a column outside changed");
        }
    }
    ref_done();
}

Test(dropout, columns)
{
    for (int i = 0; i < REF_SIZES * REF_SIZES; i++) {
        const int64_t t = ref_sizes[i / REF_SIZES], n = ref_sizes[i % REF_SIZES];
        columns_case(t, n, 0, 0);
        columns_case(t, n, 5, 3);
        columns_case(t, n, 16, 24);
    }
}
