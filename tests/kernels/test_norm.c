/* LayerNorm, RMSNorm and the RMSNorm of heads against double. */
#include "ref.h"

/* A norm of [t,c]: with a bias it is LayerNorm, without it RMSNorm. */
typedef struct {
    int64_t t, c;
    double eps;
    double *x, *weight, *bias;
} norm;

static void reference(const norm *a, double *y, double *mean, double *rstd)
{
    for (int64_t r = 0; r < a->t; r++) {
        const double *x = a->x + r * a->c;
        double m = 0, v = 0;
        for (int64_t i = 0; i < a->c; i++) {
            m += a->bias == NULL ? 0 : x[i] / (double)a->c;
        }
        for (int64_t i = 0; i < a->c; i++) {
            v += (x[i] - m) * (x[i] - m) / (double)a->c;
        }
        mean[r] = m;
        rstd[r] = 1 / sqrt(v + a->eps);
        for (int64_t i = 0; i < a->c; i++) {
            y[r * a->c + i] = (x[i] - m) * rstd[r] * a->weight[i] + (a->bias == NULL ? 0 : a->bias[i]);
        }
    }
}

static double norm_loss(void *context)
{
    norm *a = context;
    double *y = malloc(sizeof(double) * (size_t)(a->t * a->c)), *s = malloc(2 * sizeof(double) * (size_t)a->t);
    reference(a, y, s, s + a->t);
    double loss = ref_weighted(y, a->t * a->c, 9);
    free(y);
    free(s);
    return loss;
}

/* kind of dres and dx: 0 no dres, 1 dres apart, 2 dx is dres, 3 dx is dy */
static void layernorm_case(int64_t t, int64_t c, int kind)
{
    bif_tensor x = ref_f32(t, c, 1), weight = ref_f32(c, 0, 2), bias = ref_f32(c, 0, 3), dy = ref_f32(t, c, 9);
    bif_tensor dres = ref_f32(t, c, 4), old_dw = ref_f32(c, 0, 5), old_db = ref_f32(c, 0, 6);
    norm a = {t, c, 1e-2, ref_double(&x), ref_double(&weight), ref_double(&bias)};
    double *y = ref_zeros(t * c), *mean = ref_zeros(t), *rstd = ref_zeros(t);
    reference(&a, y, mean, rstd);
    REF_EACH_DEVICE (device) {
        bif_tensor got = ref_f32(t, c, 0), got_mean = ref_f32(t, 0, 0), got_rstd = ref_f32(t, 0, 0), same = ref_copy(&x);
        bif_layernorm(device, &(bif_layernorm_args){
                                  .x = &x, .weight = &weight, .bias = &bias, .eps = 1e-2f, .y = &got, .mean = &got_mean, .rstd = &got_rstd});
        bif_layernorm(device, &(bif_layernorm_args){.x = &same, .weight = &weight, .bias = &bias, .eps = 1e-2f, .y = &same});
        ref_close("y", got.data, y, t * c, ref_stored(1e-5));
        ref_close("y in place", same.data, y, t * c, ref_stored(1e-5));
        ref_close("rstd", got_rstd.data, rstd, t, 1e-5);
        if (c > 1) {
            ref_close("mean", got_mean.data, mean, t, 1e-5);
        }
        bif_tensor dx = kind == 2 ? ref_copy(&dres) : kind == 3 ? ref_copy(&dy) : ref_f32(t, c, 0);
        bif_tensor dw = ref_copy(&old_dw), db = ref_copy(&old_db);
        const bif_tensor *past = kind == 1 ? &dres : kind == 2 ? &dx : NULL;
        bif_layernorm_backward(device, &(bif_layernorm_backward_args){.x = &x,
                                                                      .weight = &weight,
                                                                      .mean = &got_mean,
                                                                      .rstd = &got_rstd,
                                                                      .dy = kind == 3 ? &dx : &dy,
                                                                      .dres = past,
                                                                      .dx = &dx,
                                                                      .dweight = &dw,
                                                                      .dbias = &db});
        if (c > 1) { /* the gradient of one column is zero */
            ref_gradient("dx", norm_loss, &a, a.x, t * c, dx.data, past ? dres.data : NULL, ref_stored(5e-5));
            ref_gradient("dweight", norm_loss, &a, a.weight, c, dw.data, old_dw.data, 5e-5);
        }
        ref_gradient("dbias", norm_loss, &a, a.bias, c, db.data, old_db.data, 5e-5);
        bif_tensor alone = ref_copy(&old_dw);
        bif_layernorm_backward(device, &(bif_layernorm_backward_args){
                                           .x = &x, .weight = &weight, .mean = &got_mean, .rstd = &got_rstd, .dy = &dy, .dweight = &alone});
        cr_assert_eq(memcmp(alone.data, dw.data, bif_bytes(&dw)), 0);
    }
    ref_done();
}

Test(norm, layernorm)
{
    for (int i = 0; i < REF_SIZES; i++) {
        for (int j = 0; j < REF_SIZES; j++) {
            if (ref_sizes[i] * ref_sizes[j] <= REF_MOST) {
                layernorm_case(ref_sizes[i], ref_sizes[j], (i + j) % 4);
            }
        }
    }
}

static void rmsnorm_case(int64_t t, int64_t c, int kind)
{
    bif_tensor x = ref_f32(t, c, 1), weight = ref_f32(c, 0, 2), dy = ref_f32(t, c, 9), dres = ref_f32(t, c, 4);
    bif_tensor old_dw = ref_f32(c, 0, 5);
    norm a = {t, c, 1e-2, ref_double(&x), ref_double(&weight), NULL};
    double *y = ref_zeros(t * c), *mean = ref_zeros(t), *rstd = ref_zeros(t);
    reference(&a, y, mean, rstd);
    REF_EACH_DEVICE (device) {
        bif_tensor got = ref_f32(t, c, 0), got_rstd = ref_f32(t, 0, 0), same = ref_copy(&x);
        bif_rmsnorm(device, &(bif_rmsnorm_args){.x = &x, .weight = &weight, .eps = 1e-2f, .y = &got, .rstd = &got_rstd});
        bif_rmsnorm(device, &(bif_rmsnorm_args){.x = &same, .weight = &weight, .eps = 1e-2f, .y = &same});
        ref_close("y", got.data, y, t * c, ref_stored(1e-5));
        ref_close("y in place", same.data, y, t * c, ref_stored(1e-5));
        ref_close("rstd", got_rstd.data, rstd, t, 1e-5);
        bif_tensor dx = kind == 2 ? ref_copy(&dres) : kind == 3 ? ref_copy(&dy) : ref_f32(t, c, 0), dw = ref_copy(&old_dw);
        const bif_tensor *past = kind == 1 ? &dres : kind == 2 ? &dx : NULL;
        bif_rmsnorm_backward(device, &(bif_rmsnorm_backward_args){.x = &x,
                                                                  .weight = &weight,
                                                                  .rstd = &got_rstd,
                                                                  .dy = kind == 3 ? &dx : &dy,
                                                                  .dres = past,
                                                                  .dx = &dx,
                                                                  .dweight = &dw});
        /* One column: dx is eps * rstd^3 * ..., small beside f32's rounding of the terms that cancel. */
        ref_gradient("dx", norm_loss, &a, a.x, t * c, dx.data, past ? dres.data : NULL, ref_stored(c == 1 ? 1e-3 : 5e-5));
        ref_gradient("dweight", norm_loss, &a, a.weight, c, dw.data, old_dw.data, 5e-5);
    }
    ref_done();
}

Test(norm, rmsnorm)
{
    for (int i = 0; i < REF_SIZES; i++) {
        for (int j = 0; j < REF_SIZES; j++) {
            if (ref_sizes[i] * ref_sizes[j] <= REF_MOST) {
                rmsnorm_case(ref_sizes[i], ref_sizes[j], (i + j) % 4);
            }
        }
    }
}

/* Heads of packed rows: column 3 on, 2 heads; everything else in the row must stay as it is. */
typedef struct {
    int64_t t, w, first, heads, d;
    norm of; /* of t = 1, c = d; x and weight point to w-wide rows below */
    double *x;
} heads;

static void heads_reference(const heads *a, double *y)
{
    for (int64_t r = 0; r < a->t; r++) {
        for (int64_t h = 0; h < a->heads; h++) {
            norm one = a->of;
            double mean, rstd;
            one.x = a->x + r * a->w + a->first + h * a->d;
            reference(&one, y + r * a->w + a->first + h * a->d, &mean, &rstd);
        }
    }
}

static double heads_loss(void *context)
{
    heads *a = context;
    double *y = calloc((size_t)(a->t * a->w), sizeof(double));
    heads_reference(a, y);
    double loss = ref_weighted(y, a->t * a->w, 9);
    free(y);
    return loss;
}

Test(norm, head_rmsnorm)
{
    for (int i = 0; i < REF_SIZES; i++) {
        for (int j = 1; j < REF_SIZES; j++) {
            int64_t t = ref_sizes[i], d = ref_sizes[j], w = 3 + 2 * d + 5;
            if (t * d > REF_MOST / 2) {
                continue;
            }
            bif_tensor x = ref_f32(t, w, 1), weight = ref_f32(d, 0, 2), dy = ref_f32(t, w, 9), old_dw = ref_f32(d, 0, 5);
            double *wide = ref_double(&x), *y = ref_double(&x);
            heads a = {t, w, 3, 2, d, {1, d, 1e-2, NULL, ref_double(&weight), NULL}, wide};
            heads_reference(&a, y);
            REF_EACH_DEVICE (device) {
                bif_tensor same = ref_copy(&x), apart = ref_copy(&x), rstd = ref_f32(t, 2, 0), dx = ref_copy(&dy), dw = ref_copy(&old_dw);
                bif_head_rmsnorm_args args = {.x = &same, .weight = &weight, .first = 3, .heads = 2, .head_dim = d, .eps = 1e-2f, .y = &same};
                bif_head_rmsnorm(device, &args);
                args.x = &x, args.y = &apart, args.rstd = &rstd;
                bif_head_rmsnorm(device, &args);
                ref_close("y in place", same.data, y, t * w, ref_stored(1e-5));
                ref_close("y", apart.data, y, t * w, ref_stored(1e-5));
                bif_head_rmsnorm_backward(device, &(bif_head_rmsnorm_backward_args){.x = &x,
                                                                                    .weight = &weight,
                                                                                    .rstd = &rstd,
                                                                                    .dy = &dx,
                                                                                    .first = 3,
                                                                                    .heads = 2,
                                                                                    .head_dim = d,
                                                                                    .dx = &dx,
                                                                                    .dweight = &dw});
                ref_gradient("dweight", heads_loss, &a, a.of.weight, d, dw.data, old_dw.data, 5e-5);
                for (int64_t r = 0; r < t; r++) { /* columns of other parts of the row are not touched */
                    const float *now = (float *)dx.data + r * w, *before = (float *)dy.data + r * w;
                    cr_assert(memcmp(now, before, 12) == 0 && memcmp(now + 3 + 2 * d, before + 3 + 2 * d, 20) == 0);
                }
                float *got = dx.data; /* one row's heads, then its last row's */
                ref_gradient("dx", heads_loss, &a, wide + 3, 2 * d, got + 3, NULL, ref_stored(5e-5));
                ref_gradient("dx", heads_loss, &a, wide + (t - 1) * w + 3, 2 * d, got + (t - 1) * w + 3, NULL, ref_stored(5e-5));
            }
            ref_done();
        }
    }
}
