/* linear, linear_backward, act_backward against double. */
#include "ref.h"

static double act_value(bif_act act, double x)
{
    switch (act) {
    case BIF_ACT_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case BIF_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case BIF_ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    default:
        return x;
    }
}

/* y = act(x w^T + b) + residual, all double; b, residual may be NULL. */
static void reference(int64_t t, int64_t n, int64_t k, const double *x, const double *w, const double *b, const double *residual,
                      bif_act act, double *pre, double *y)
{
    for (int64_t r = 0; r < t; r++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = b == NULL ? 0 : b[j];
            for (int64_t i = 0; i < k; i++) {
                sum += x[r * k + i] * w[j * k + i];
            }
            pre[r * n + j] = sum;
            y[r * n + j] = act_value(act, sum) + (residual == NULL ? 0 : residual[r * n + j]);
        }
    }
}

static void forward_case(int64_t t, int64_t n, int64_t k, int variant)
{
    bif_act act = (bif_act)(variant % 4);
    bool with_bias = variant / 4 % 2, with_pre = variant / 8 % 2;
    int residual_kind = variant / 16 % 3; /* none, apart, y itself */
    bif_tensor x = ref_f32(t, k, 1), w = ref_f32(n, k, 2), b = ref_f32(n, 0, 3), residual = ref_f32(t, n, 4);
    double *pre = ref_zeros(t * n), *y = ref_zeros(t * n);
    reference(t, n, k, ref_double(&x), ref_double(&w), with_bias ? ref_double(&b) : NULL,
              residual_kind ? ref_double(&residual) : NULL, act, pre, y);
    REF_EACH_DEVICE (device) {
        bif_tensor got = residual_kind == 2 ? ref_copy(&residual) : ref_f32(t, n, 0), got_pre = ref_f32(t, n, 0);
        bif_linear(device, &(bif_linear_args){.x = &x,
                                              .w = &w,
                                              .b = with_bias ? &b : NULL,
                                              .residual = residual_kind == 0   ? NULL
                                                          : residual_kind == 1 ? &residual
                                                                               : &got,
                                              .act = act,
                                              .pre = with_pre ? &got_pre : NULL,
                                              .y = &got});
        /* Few numbers may be near zero after the sum; bf16 rounds before the activation too. */
        const bool twice = act != BIF_ACT_NONE || with_pre;
        ref_close("y", got.data, y, t * n, twice ? ref_tolerance(2e-5, t * n < 40 ? 3e-2 : 8e-3) : ref_stored(2e-5));
        if (with_pre) {
            ref_close("pre", got_pre.data, pre, t * n, ref_stored(1e-5));
        }
    }
    ref_done();
}

Test(linear, forward_sizes)
{
    int variant = 0;
    for (int a = 0; a < REF_SIZES; a++) {
        for (int b = 0; b < REF_SIZES; b++) {
            for (int c = 0; c < REF_SIZES; c++) {
                forward_case(ref_sizes[a], ref_sizes[b], ref_sizes[c], variant++ * 7);
            }
        }
    }
}

Test(linear, forward_variants)
{
    for (int variant = 0; variant < 48; variant++) {
        forward_case(33, 31, 33, variant);
        forward_case(3, 33, 7, variant);
    }
    forward_case(260, 300, 40, 47); /* several row tiles */
    forward_case(200, 40, 1100, 17); /* several depth blocks */
    forward_case(65, 600, 520, 46); /* several panels blocks */
}

Test(linear, no_rows_is_fine)
{
    REF_EACH_DEVICE (device) {
        bif_tensor none = bif_tensor2(NULL, BIF_DTYPE_F32, 0, 8), w = ref_f32(8, 8, 1), b = ref_f32(8, 0, 2), db = ref_f32(8, 0, 3);
        bif_linear(device, &(bif_linear_args){.x = &none, .w = &w, .b = &b, .y = &none});
        bif_linear_backward(device, &(bif_linear_backward_args){.dy = &none, .db = &db});
        ref_done();
    }
}

/* ---- backward: the layer is act2(x) -> linear, x = act(p) when an activation came before ---- */

typedef struct {
    int64_t t, n, k;
    bif_act act;
    double *p, *w, *b;
} layer;

static double layer_loss(void *context)
{
    layer *l = context;
    double *x = malloc(sizeof(double) * (size_t)(l->t * l->k)), *y = malloc(sizeof(double) * (size_t)(l->t * l->n));
    for (int64_t i = 0; i < l->t * l->k; i++) {
        x[i] = act_value(l->act, l->p[i]);
    }
    reference(l->t, l->n, l->k, x, l->w, l->b, NULL, BIF_ACT_NONE, y, y);
    double loss = ref_weighted(y, l->t * l->n, 9);
    free(x);
    free(y);
    return loss;
}

static void backward_case(int64_t t, int64_t n, int64_t k, bif_act act, int add_kind)
{
    bif_tensor p = ref_f32(t, k, 1), w = ref_f32(n, k, 2), b = ref_f32(n, 0, 3), dy = ref_f32(t, n, 9), x = ref_f32(t, k, 0);
    bif_tensor old_dw = ref_f32(n, k, 5), old_db = ref_f32(n, 0, 6), add = ref_f32(t, k, 7);
    layer l = {t, n, k, act, ref_double(&p), ref_double(&w), ref_double(&b)};
    for (int64_t i = 0; i < t * k; i++) {
        ((float *)x.data)[i] = (float)act_value(act, l.p[i]);
    }
    ref_round(&x);
    REF_EACH_DEVICE (device) {
        bif_tensor dw = ref_copy(&old_dw), db = ref_copy(&old_db);
        bif_tensor dx = add_kind == 2 ? ref_copy(&add) : ref_f32(t, k, 0);
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &x,
                                                                .w = &w,
                                                                .dy = &dy,
                                                                .dx_pre = act == BIF_ACT_NONE ? NULL : &p,
                                                                .dx_act = act,
                                                                .dx_add = add_kind == 0   ? NULL
                                                                          : add_kind == 1 ? &add
                                                                                          : &dx,
                                                                .dx = &dx,
                                                                .dw = &dw,
                                                                .db = &db});
        ref_gradient("dx", layer_loss, &l, l.p, t * k, dx.data, add_kind ? add.data : NULL, ref_stored(2e-5));
        const double of_x = act == BIF_ACT_NONE ? 2e-5 : ref_stored(2e-5); /* x is a rounded act(p) */
        ref_gradient("dw", layer_loss, &l, l.w, n * k, dw.data, old_dw.data, of_x);
        ref_gradient("db", layer_loss, &l, l.b, n, db.data, old_db.data, 2e-5);
        /* Frozen parameters, and a first layer: NULL changes nothing in the others. */
        bif_tensor alone = ref_f32(t, k, 0), alone_dw = ref_copy(&old_dw);
        bif_linear_backward(device, &(bif_linear_backward_args){.w = &w, .dy = &dy, .dx = &alone});
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &x, .dy = &dy, .dw = &alone_dw});
        cr_assert_eq(memcmp(alone_dw.data, dw.data, bif_bytes(&dw)), 0);
        if (act == BIF_ACT_NONE && add_kind == 0) {
            cr_assert_eq(memcmp(alone.data, dx.data, bif_bytes(&dx)), 0);
        }
    }
    ref_done();
}

Test(linear, backward)
{
    for (int i = 0; i < REF_SIZES; i++) {
        for (int variant = 0; variant < 6; variant++) {
            int64_t t = ref_sizes[i], n = ref_sizes[(i + variant) % REF_SIZES], k = ref_sizes[(i + 2 * variant + 1) % REF_SIZES];
            if (t * n * k > 200000) {
                continue; /* the differencing of the reference would take minutes */
            }
            backward_case(t, n, k, variant < 4 ? (bif_act)variant : BIF_ACT_NONE, variant < 4 ? 0 : variant - 3);
        }
    }
}

/* Many rows: several blocks a thread, and a dw too large for a copy a thread. Checked against double, not by differencing. */
static void large_case(int64_t t, int64_t n, int64_t k)
{
    bif_tensor x = ref_f32(t, k, 1), w = ref_f32(n, k, 2), dy = ref_f32(t, n, 3), old_dw = ref_f32(n, k, 4), old_db = ref_f32(n, 0, 5);
    double *dx = ref_zeros(t * k), *dw = ref_double(&old_dw), *db = ref_double(&old_db);
    const float *xs = x.data, *ws = w.data, *dys = dy.data;
    for (int64_t r = 0; r < t; r++) {
        for (int64_t j = 0; j < n; j++) {
            double d = dys[r * n + j];
            db[j] += d;
            for (int64_t i = 0; i < k; i++) {
                dx[r * k + i] += d * ws[j * k + i];
                dw[j * k + i] += d * xs[r * k + i];
            }
        }
    }
    REF_EACH_DEVICE (device) {
        bif_tensor got = ref_f32(t, k, 0), got_dw = ref_copy(&old_dw), got_db = ref_copy(&old_db);
        bif_linear_backward_args args = {.x = &x, .w = &w, .dy = &dy, .dx = &got, .dw = &got_dw, .db = &got_db};
        bif_linear_backward(device, &args);
        ref_close("dx", got.data, dx, t * k, ref_stored(2e-6));
        ref_close("dw", got_dw.data, dw, n * k, 2e-6);
        ref_close("db", got_db.data, db, n, 2e-6);
        /* The same bits again. */
        bif_tensor again = ref_f32(t, k, 0), again_dw = ref_copy(&old_dw), again_db = ref_copy(&old_db);
        args.dx = &again, args.dw = &again_dw, args.db = &again_db;
        bif_linear_backward(device, &args);
        cr_assert_eq(memcmp(again.data, got.data, bif_bytes(&got)), 0);
        cr_assert_eq(memcmp(again_dw.data, got_dw.data, bif_bytes(&got_dw)), 0);
        cr_assert_eq(memcmp(again_db.data, got_db.data, bif_bytes(&got_db)), 0);
    }
    ref_done();
}

Test(linear, backward_many_rows)
{
    large_case(1700, 33, 40);
}

Test(linear, backward_large_dw)
{
    large_case(220, 1100, 500);
}

/* ---- activation alone ---- */

typedef struct {
    int64_t n;
    bif_act act;
    double *x;
} act_case;

static double act_loss(void *context)
{
    act_case *c = context;
    double sum = 0;
    for (int64_t i = 0; i < c->n; i++) {
        sum += act_value(c->act, c->x[i]) * ref_normal(9, i);
    }
    return sum;
}

Test(linear, act_backward)
{
    for (int i = 0; i < REF_SIZES; i++) {
        for (int act = 0; act < 4; act++) {
            int64_t t = ref_sizes[i], n = ref_sizes[(i + act) % REF_SIZES];
            if (t * n > REF_MOST) {
                continue;
            }
            bif_tensor pre = ref_f32(t, n, 1), dy = ref_f32(t, n, 9);
            act_case c = {t * n, (bif_act)act, ref_double(&pre)};
            REF_EACH_DEVICE (device) {
                bif_tensor apart = ref_f32(t, n, 0), in_place = ref_copy(&dy);
                bif_act_backward(device, &(bif_act_backward_args){.pre = &pre, .dy = &dy, .act = c.act, .dpre = &apart});
                bif_act_backward(device, &(bif_act_backward_args){.pre = &pre, .dy = &in_place, .act = c.act, .dpre = &in_place});
                ref_gradient("dpre", act_loss, &c, c.x, t * n, apart.data, NULL, ref_stored(1e-5));
                ref_gradient("dpre in place", act_loss, &c, c.x, t * n, in_place.data, NULL, ref_stored(1e-5));
            }
            ref_done();
        }
    }
}

/* All of the activations' range, not only where normal numbers fall: -20 .. 20 and beyond. */
Test(linear, activations_over_the_range)
{
    enum { N = 4096 };
    for (int act = 1; act < 4; act++) {
        bif_tensor x = ref_f32(N, 1, 1), one = ref_f32(1, 1, 1);
        double *wanted = ref_zeros(N);
        ((float *)one.data)[0] = 1.0f;
        for (int i = 0; i < N; i++) {
            float value = i < 4000 ? -20.0f + 0.01f * (float)i : (i % 2 ? -1.0f : 1.0f) * powf(1.5f, (float)(i - 4000));
            ((float *)x.data)[i] = value;
        }
        ref_round(&x);
        for (int i = 0; i < N; i++) {
            wanted[i] = act_value((bif_act)act, ((float *)x.data)[i]);
        }
        REF_EACH_DEVICE (device) {
            bif_tensor y = ref_f32(N, 1, 0);
            bif_linear(device, &(bif_linear_args){.x = &x, .w = &one, .act = (bif_act)act, .y = &y});
            for (int i = 0; i < N; i++) {
                float got = ((float *)y.data)[i];
                cr_assert(fabs(got - wanted[i]) <= ref_stored(4e-7) * fmax(1.0, fabs(wanted[i])), "act %d of %g: %g, wanted %g", act,
                          (double)((float *)x.data)[i], (double)got, wanted[i]);
            }
        }
        ref_done();
    }
}
