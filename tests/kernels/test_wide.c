/* Shapes that the kernels of a CUDA device treat apart from the small ones of the other tests: rows of several warps, rows too long for
 * registers, heads on 16-byte boundaries, thousands of equal indices. The formulas of the gradients are checked by differences there; here
 * they are written out in double. */
#include "ref.h"

/* t is no multiple of 32 plus 1, so that mirror.h leaves the tensors on 16-byte boundaries. */
static const int64_t shapes[][2] = {{40, 264}, {70, 768}, {9, 1032}, {5, 2056}, {7, 4096}, {2, 4104}, {3, 8192}, {2, 8200}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* LayerNorm with centre, else RMSNorm. grads: [2][c] added to. */
static void norm_reference(bool centre, int64_t t, int64_t c, const double *x, const double *w, const double *b, const double *dy,
                           const double *dres, double *y, double *dx, double *grads)
{
    for (int64_t r = 0; r < t; r++, x += c, y += c, dy += c, dx += c, dres += c) {
        double mean = 0, square = 0, along = 0, sum = 0;
        for (int64_t i = 0; i < c; i++) {
            mean += centre ? x[i] / (double)c : 0;
        }
        for (int64_t i = 0; i < c; i++) {
            square += (x[i] - mean) * (x[i] - mean) / (double)c;
        }
        double rstd = 1 / sqrt(square + 1e-5);
        for (int64_t i = 0; i < c; i++) {
            double hat = (x[i] - mean) * rstd;
            y[i] = hat * w[i] + (centre ? b[i] : 0);
            along += dy[i] * w[i] * hat / (double)c;
            sum += centre ? dy[i] * w[i] / (double)c : 0;
            grads[i] += dy[i] * hat;
            grads[c + i] += dy[i];
        }
        for (int64_t i = 0; i < c; i++) {
            dx[i] = dres[i] + rstd * (dy[i] * w[i] - sum - (x[i] - mean) * rstd * along);
        }
    }
}

static void norm_case(bool centre, int64_t t, int64_t c, int64_t shift, bool in_place)
{
    bif_tensor x = ref_f32(t, c, 1), w = ref_f32(c, 0, 2), b = ref_f32(c, 0, 3), dy = ref_f32(t, c, 4), dres = ref_f32(t, c, 5);
    bif_tensor dw = ref_f32(c, 0, 6), db = ref_f32(c, 0, 7);
    for (int64_t i = 0; i < t * c; i++) {
        ((float *)x.data)[i] += (float)shift;
    }
    ref_round(&x);
    double *y = ref_zeros(t * c), *dx = ref_zeros(t * c), *grads = ref_zeros(2 * c);
    for (int64_t i = 0; i < c; i++) {
        grads[i] = ((float *)dw.data)[i];
        grads[c + i] = ((float *)db.data)[i];
    }
    norm_reference(centre, t, c, ref_double(&x), ref_double(&w), ref_double(&b), ref_double(&dy), ref_double(&dres), y, dx, grads);
    REF_EACH_DEVICE (device) {
        bif_tensor got = ref_f32(t, c, 0), mean = ref_f32(t, 0, 0), rstd = ref_f32(t, 0, 0), past = ref_copy(&dres);
        bif_tensor dx_got = in_place ? past : ref_f32(t, c, 0), dw_got = ref_copy(&dw), db_got = ref_copy(&db);
        if (centre) {
            bif_layernorm(device, &(bif_layernorm_args){&x, &w, &b, 1e-5f, &got, &mean, &rstd});
            bif_layernorm_backward(device, &(bif_layernorm_backward_args){&x, &w, &mean, &rstd, &dy, &past, &dx_got, &dw_got, &db_got});
            ref_close("dbias", db_got.data, grads + c, c, 1e-5);
        } else {
            bif_rmsnorm(device, &(bif_rmsnorm_args){&x, &w, 1e-5f, &got, &rstd});
            bif_rmsnorm_backward(device, &(bif_rmsnorm_backward_args){&x, &w, &rstd, &dy, &past, &dx_got, &dw_got});
        }
        const double tolerance = shift == 0 ? 1e-5 : 1e-3; /* of numbers near 1000 an f32 keeps 3e-5 of a deviation of 1 */
        ref_close("y", got.data, y, t * c, ref_stored(tolerance));
        ref_close("dx", dx_got.data, dx, t * c, ref_stored(tolerance));
        ref_close("dweight", dw_got.data, grads, c, tolerance);
    }
    ref_done();
}

Test(wide, layernorm)
{
    for (int i = 0; i < SHAPES; i++) {
        norm_case(true, shapes[i][0], shapes[i][1], 0, i % 2);
    }
    norm_case(true, 6, 1024, 1000, false);
}

Test(wide, rmsnorm)
{
    for (int i = 0; i < SHAPES; i++) {
        norm_case(false, shapes[i][0], shapes[i][1], 0, i % 2);
    }
}

Test(wide, head_rmsnorm)
{
    static const int64_t dims[] = {8, 64, 80, 96, 128, 256, 512};
    for (int k = 0; k < 7; k++) {
        const int64_t t = 50, d = dims[k], heads = 3, w = 5 * d, first = d;
        bif_tensor x = ref_f32(t, w, 1), weight = ref_f32(d, 0, 2), dy = ref_f32(t, w, 3), dw = ref_f32(d, 0, 4);
        double *y = ref_double(&x), *dx = ref_double(&dy), *dweight = ref_zeros(2 * d), *none = ref_zeros(d);
        double *wx = ref_double(&x), *wdy = ref_double(&dy), *ww = ref_double(&weight);
        for (int64_t i = 0; i < d; i++) {
            dweight[i] = ((float *)dw.data)[i];
        }
        for (int64_t i = 0; i < t * heads; i++) {
            const int64_t at = i / heads * w + first + i % heads * d;
            norm_reference(false, 1, d, wx + at, ww, NULL, wdy + at, none, y + at, dx + at, dweight);
        }
        REF_EACH_DEVICE (device) {
            bif_tensor same = ref_copy(&x), apart = ref_copy(&x), rstd = ref_f32(t, heads, 0), dx_got = ref_copy(&dy),
                       dw_got = ref_copy(&dw);
            bif_head_rmsnorm(device, &(bif_head_rmsnorm_args){&same, &weight, first, heads, d, 1e-5f, &same, NULL});
            bif_head_rmsnorm(device, &(bif_head_rmsnorm_args){&x, &weight, first, heads, d, 1e-5f, &apart, &rstd});
            ref_close("y in place", same.data, y, t * w, ref_stored(1e-5));
            ref_close("y", apart.data, y, t * w, ref_stored(1e-5));
            bif_head_rmsnorm_backward(device,
                                      &(bif_head_rmsnorm_backward_args){&x, &weight, &rstd, &dx_got, first, heads, d, &dx_got, &dw_got});
            ref_close("dx", dx_got.data, dx, t * w, ref_stored(1e-5));
            ref_close("dweight", dw_got.data, dweight, d, 1e-5);
        }
        ref_done();
    }
}

/* Heads of up to 1024, more than one launch's pairs; the rest of the row must stay. */
Test(wide, rope)
{
    static const int64_t dims[] = {16, 64, 80, 128, 1024};
    for (int k = 0; k < 5; k++) {
        const int64_t t = 20, d = dims[k], half = d / 2, heads = 3, w = 4 * d;
        bif_tensor rows = ref_f32(t, w, 1), pos = ref_i32(t, 0, 30000, 2);
        double *wanted = ref_double(&rows);
        for (int64_t r = 0; r < t; r++) {
            for (int64_t i = 0; i < heads * half; i++) {
                const float frequency = (float)pow(10000.0, -2.0 * (double)(i % half) / (double)d);
                const double angle = (float)((int32_t *)pos.data)[r] * frequency;
                double *a = wanted + r * w + i / half * d + i % half, *b = a + half, p = *a, q = *b;
                *a = p * cos(angle) - q * sin(angle);
                *b = q * cos(angle) + p * sin(angle);
            }
        }
        REF_EACH_DEVICE (device) {
            bif_tensor got = ref_copy(&rows);
            bif_rope_args args = {.rows = &got, .pos = &pos, .heads = heads, .head_dim = d, .theta = 10000.0f};
            bif_rope(device, &args);
            ref_close("rope", got.data, wanted, t * w, ref_stored(1e-6));
            args.inverse = true;
            bif_rope(device, &args);
            ref_close("rope and back", got.data, ref_double(&rows), t * w, ref_tolerance(1e-6, 4e-3));
        }
        ref_done();
    }
}

Test(wide, l2norm)
{
    const int64_t t = 10, c = 520;
    bif_tensor x = ref_f32(t, c, 1), dy = ref_f32(t, c, 2);
    double *y = ref_double(&x), *dx = ref_double(&dy);
    for (int64_t r = 0; r < t; r++) {
        double size = 0, along = 0;
        for (int64_t i = r * c; i < (r + 1) * c; i++) {
            size += y[i] * y[i];
        }
        for (int64_t i = r * c; i < (r + 1) * c; i++) {
            y[i] /= sqrt(size);
            along += y[i] * dx[i];
        }
        for (int64_t i = r * c; i < (r + 1) * c; i++) {
            dx[i] = (dx[i] - y[i] * along) / sqrt(size);
        }
    }
    REF_EACH_DEVICE (device) {
        bif_tensor got = ref_f32(t, c, 0), inv = ref_f32(t, 0, 0), dx_got = ref_f32(t, c, 0);
        bif_l2norm(device, &(bif_l2norm_args){&x, &got, &inv});
        bif_l2norm_backward(device, &(bif_l2norm_backward_args){&got, &inv, &dy, &dx_got});
        ref_close("y", got.data, y, t * c, 1e-6);
        ref_close("dx", dx_got.data, dx, t * c, ref_stored(1e-6));
    }
    ref_done();
}

/* Many rows added to few, among them one that nearly all name and some that one row names; the order does not show in the bits. */
Test(wide, rows_added_to_few)
{
    const int64_t t = 9000, c = 24, rows = 40;
    bif_tensor dy = ref_f32(t, c, 1), ids = ref_i32(t, -3, 20, 2), start = ref_f32(rows, c, 3);
    double *wanted = ref_double(&start), *wdy = ref_double(&dy);
    int32_t *id = ids.data;
    for (int64_t i = 0; i < t; i++) {
        id[i] = i % 3 == 1 ? 7 : id[i];
        id[i] = i % 500 == 17 ? 20 + (int32_t)(i / 500) : id[i]; /* 20 .. 37, each once */
        for (int64_t j = 0; id[i] >= 0 && j < c; j++) {
            wanted[id[i] * c + j] += wdy[i * c + j];
        }
    }
    REF_EACH_DEVICE (device) {
        bif_tensor once = ref_copy(&start), again = ref_copy(&start), added = ref_copy(&start);
        bif_embedding_backward(device, &(bif_embedding_backward_args){&ids, &dy, &once});
        bif_embedding_backward(device, &(bif_embedding_backward_args){&ids, &dy, &again});
        bif_scatter_rows(device, &(bif_scatter_rows_args){&dy, &ids, true, &added});
        ref_close("dtable", once.data, wanted, rows * c, 1e-5);
        ref_close("added", added.data, wanted, rows * c, ref_stored(1e-5));
        cr_assert_eq(memcmp(once.data, again.data, bif_bytes(&once)), 0, "two runs differ");
    }
    ref_done();
}
