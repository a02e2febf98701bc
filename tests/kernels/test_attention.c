/* bif_attention, its backward and one decoding step against double precision. */
#include "ref.h"

typedef struct {
    const int32_t *bounds;
    int64_t n, h, g, d;
    bool causal;
    double scale;
    double *qkv;              /* [T, (H+2G) D] */
    double *out, *lse, *dqkv; /* dqkv may be NULL */
    const float *dout;
    uint64_t dout_seed;
} problem;

/* Reference, as the definition reads; dqkv by the chain rule written out, when wanted. */
static void reference(problem *p)
{
    int64_t row = (p->h + 2 * p->g) * p->d, width = p->h * p->d;
    for (int64_t s = 0; s < p->n; s++) {
        int64_t first = p->bounds[s], t = p->bounds[s + 1] - first;
        double *w = calloc((size_t)t + 1, sizeof(double)), *dw = calloc((size_t)t + 1, sizeof(double));
        for (int64_t h = 0; h < p->h; h++) {
            int64_t kcol = (p->h + h / (p->h / p->g)) * p->d, vcol = kcol + p->g * p->d;
            for (int64_t i = 0; i < t; i++) {
                int64_t keys = p->causal ? i + 1 : t;
                const double *q = p->qkv + (first + i) * row + h * p->d;
                double top = -INFINITY, sum = 0;
                for (int64_t j = 0; j < keys; j++) {
                    w[j] = 0;
                    for (int64_t x = 0; x < p->d; x++) {
                        w[j] += p->scale * q[x] * p->qkv[(first + j) * row + kcol + x];
                    }
                    top = fmax(top, w[j]);
                }
                for (int64_t j = 0; j < keys; j++) {
                    w[j] = exp(w[j] - top);
                    sum += w[j];
                }
                p->lse[(first + i) * p->h + h] = top + log(sum);
                double *out = p->out + (first + i) * width + h * p->d;
                memset(out, 0, (size_t)p->d * sizeof(double));
                for (int64_t j = 0; j < keys; j++) {
                    w[j] /= sum;
                    for (int64_t x = 0; x < p->d; x++) {
                        out[x] += w[j] * p->qkv[(first + j) * row + vcol + x];
                    }
                }
                if (p->dqkv == NULL) {
                    continue;
                }
                const float *dout = p->dout + (first + i) * width + h * p->d;
                double mean = 0;
                for (int64_t j = 0; j < keys; j++) {
                    dw[j] = 0;
                    for (int64_t x = 0; x < p->d; x++) {
                        dw[j] += dout[x] * p->qkv[(first + j) * row + vcol + x];
                        p->dqkv[(first + j) * row + vcol + x] += w[j] * dout[x];
                    }
                    mean += w[j] * dw[j];
                }
                for (int64_t j = 0; j < keys; j++) {
                    double ds = w[j] * (dw[j] - mean) * p->scale;
                    for (int64_t x = 0; x < p->d; x++) {
                        p->dqkv[(first + i) * row + h * p->d + x] += ds * p->qkv[(first + j) * row + kcol + x];
                        p->dqkv[(first + j) * row + kcol + x] += ds * q[x];
                    }
                }
            }
        }
        free(w);
        free(dw);
    }
}

static double loss_of(void *context)
{
    problem *p = context;
    reference(p);
    return ref_weighted(p->out, p->bounds[p->n] * p->h * p->d, p->dout_seed);
}

typedef struct {
    int64_t n, h, g, d;
    bool causal;
    float spread; /* factor on q: large scores */
    int32_t lengths[8];
} shape;

/* The reference of one case, made once, for all devices. */
typedef struct {
    problem p;
    bif_tensor qkv, bounds, dout;
    int64_t t, row;
} sample;

static sample make_sample(const shape *c, bool gradient)
{
    sample s = {.row = (c->h + 2 * c->g) * c->d};
    s.bounds = ref_i32(c->n + 1, 0, 1, 1);
    int32_t *bounds = s.bounds.data;
    bounds[0] = 0;
    for (int64_t i = 0; i < c->n; i++) {
        bounds[i + 1] = bounds[i] + c->lengths[i];
    }
    s.t = bounds[c->n];
    s.qkv = ref_f32(s.t, s.row, 11);
    for (int64_t i = 0; i < s.t; i++) {
        for (int64_t x = 0; x < c->h * c->d; x++) {
            ((float *)s.qkv.data)[i * s.row + x] *= c->spread;
        }
    }
    ref_round(&s.qkv);
    s.dout = ref_f32(s.t, c->h * c->d, 12);
    s.p = (problem){bounds,
                    c->n,
                    c->h,
                    c->g,
                    c->d,
                    c->causal,
                    1 / sqrt((double)c->d),
                    ref_double(&s.qkv),
                    ref_zeros(s.t * c->h * c->d),
                    ref_zeros(s.t * c->h),
                    gradient ? ref_zeros(s.t * s.row) : NULL,
                    s.dout.data,
                    12};
    reference(&s.p);
    return s;
}

static bif_attention_args forward_args(const sample *s, bif_tensor *out, bif_tensor *lse)
{
    return (bif_attention_args){&s->qkv, &s->bounds, NULL, s->p.h, s->p.g, s->p.d, s->p.causal, (float)s->p.scale, out, lse};
}

/* In bf16 the weights and the gradient of the scores are rounded before they are multiplied, and the backward reads a rounded `out`. */
static void check_device(bif_device *device, const sample *s, double tolerance)
{
    bif_tensor out = ref_f32(s->t, s->p.h * s->p.d, 0), lse = ref_f32(s->t, s->p.h, 0), dqkv = ref_f32(s->t, s->row, 0);
    bif_attention_args args = forward_args(s, &out, &lse);
    bif_attention(device, &args);
    ref_close("out", out.data, s->p.out, bif_numel(&out), ref_tolerance(tolerance, 4e-3));
    ref_close("lse", lse.data, s->p.lse, bif_numel(&lse), tolerance);
    bif_tensor alone = ref_f32(s->t, s->p.h * s->p.d, 0);
    args = forward_args(s, &alone, NULL);
    bif_attention(device, &args);
    cr_assert(memcmp(alone.data, out.data, bif_bytes(&out)) == 0, "out depends on whether lse is wanted");
    bif_attention_backward_args back = {&s->qkv,     &s->bounds, NULL,        &out, &lse, &s->dout, s->p.h, s->p.g, s->p.d,
                                        s->p.causal, (float)s->p.scale, &dqkv};
    bif_attention_backward(device, &back);
    ref_close("dqkv", dqkv.data, s->p.dqkv, bif_numel(&dqkv), ref_tolerance(5 * tolerance, 1e-2));
    bif_tensor again = ref_f32(s->t, s->row, 0);
    back.dqkv = &again;
    bif_attention_backward(device, &back);
    cr_assert(memcmp(again.data, dqkv.data, bif_bytes(&dqkv)) == 0, "two runs of the backward differ");
    if (!ref_bf16()) {
        return;
    }
    bif_tensor added = ref_f32(s->t, s->row, 0); /* for bf16 there may be a faster way, whose sums have no fixed order */
    back.dqkv = &added;
    device->deterministic = false;
    bif_attention_backward(device, &back);
    device->deterministic = true;
    ref_close("dqkv in any order", added.data, s->p.dqkv, bif_numel(&added), ref_tolerance(5 * tolerance, 1e-2));
}

static const shape shapes[] = {
    {1, 1, 1, 8, false, 1, {1}},
    {1, 1, 1, 8, true, 1, {1}},
    {3, 2, 1, 8, true, 1, {7, 1, 31}},
    {4, 4, 4, 32, false, 1, {65, 65, 0, 65}},
    {5, 4, 2, 32, true, 1, {0, 33, 65, 0, 130}},
    {3, 4, 1, 40, true, 1, {31, 7, 97}},
    {2, 2, 2, 40, false, 1, {33, 128}},
    {4, 3, 1, 80, true, 1, {1, 64, 7, 129}},
    {3, 4, 4, 80, false, 1, {31, 0, 66}},
    {2, 4, 2, 64, true, 1, {128, 65}},
    {2, 2, 1, 64, true, 1, {257, 33}}, /* an average of 128 and more: the larger blocks of the CUDA forward, at each width of tiles */
    {1, 2, 2, 96, false, 1, {200}},
    {1, 2, 1, 128, true, 1, {130}},
    {1, 2, 2, 128, false, 1, {33}},
    {5, 4, 2, 128, true, 1, {7, 33, 1, 128, 31}},
    {3, 2, 2, 8, false, 1, {257, 31, 63}},
    {2, 4, 4, 64, true, 1, {130, 160}}, /* CUDA takes 128 rows a block from here on */
    {2, 4, 2, 80, false, 1, {129, 150}},
    {2, 3, 1, 128, true, 1, {257, 140}},
    {1, 1, 1, 32, true, 1, {517}}, /* one long sequence: fewer pairs than threads, cut by keys and by rows */
    {1, 2, 1, 20, false, 1, {301}},
    {2, 4, 2, 32, true, 30, {65, 200}}, /* scores of several hundred: peaks move between blocks of keys */
    {1, 2, 2, 5, true, 1, {50}},
    {1, 2, 1, 160, true, 1, {40}},
    {2, 1, 1, 256, false, 1, {33, 20}},
};

/* Multiplications of the scores. */
static double work(const shape *c)
{
    double sum = 0;
    for (int64_t i = 0; i < c->n; i++) {
        sum += (double)c->lengths[i] * c->lengths[i] * (double)(c->h * c->d) / (c->causal ? 2 : 1);
    }
    return sum;
}

Test(attention, forward_and_backward)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        if (mirror_emulated() && !ref_bf16() && work(&shapes[i]) > 4e6 && shapes[i].d > 32) {
            continue; /* large for the tensor cores; fp32 has one kernel for all sizes */
        }
        REF_EACH_DEVICE(device)
        {
            sample s = make_sample(&shapes[i], true);
            check_device(device, &s, shapes[i].spread > 1 ? 2e-5 : 1e-6);
            ref_done();
        }
    }
}

Test(attention, central_differences)
{
    static const shape small[] = {{3, 4, 2, 8, true, 1, {3, 0, 9}}, {2, 2, 2, 20, false, 1, {5, 4}}};
    for (size_t i = 0; i < 2; i++) {
        REF_EACH_DEVICE(device)
        {
            sample s = make_sample(&small[i], false);
            bif_tensor out = ref_f32(s.t, s.p.h * s.p.d, 0), lse = ref_f32(s.t, s.p.h, 0),
                       dqkv = ref_f32(s.t, s.row, 0);
            bif_attention_args args = forward_args(&s, &out, &lse);
            bif_attention(device, &args);
            bif_attention_backward_args back = {&s.qkv,     &s.bounds, NULL,        &out, &lse, &s.dout, s.p.h, s.p.g, s.p.d,
                                                s.p.causal, (float)s.p.scale, &dqkv};
            bif_attention_backward(device, &back);
            ref_gradient("dqkv", loss_of, &s.p, s.p.qkv, s.t * s.row, dqkv.data, NULL, ref_tolerance(5e-6, 1e-2));
            ref_done();
        }
    }
}

Test(attention, nothing_to_do)
{
    REF_EACH_DEVICE(device)
    {
        static const shape none = {2, 2, 1, 8, true, 1, {0, 0}};
        sample s = make_sample(&none, true);
        bif_tensor out = ref_f32(0, 16, 0), lse = ref_f32(0, 2, 0), dqkv = ref_f32(0, 32, 0);
        out.dim[1] = 16, lse.dim[1] = 2, dqkv.dim[1] = 32;
        bif_attention_args args = forward_args(&s, &out, &lse);
        bif_attention(device, &args);
        bif_attention_backward_args back = {&s.qkv, &s.bounds, NULL, &out, &lse, &s.dout, 2, 1, 8, true, 1.0f, &dqkv};
        bif_attention_backward(device, &back);
        ref_done();
    }
}

/* A NaN reaches the output of its own sequence and of no other. */
Test(attention, nan_passes_through)
{
    REF_EACH_DEVICE(device)
    {
        static const shape two = {2, 2, 2, 8, false, 1, {9, 20}};
        sample s = make_sample(&two, false);
        ((float *)s.qkv.data)[3 * s.row + 2] = NAN; /* a query of head 0 */
        bif_tensor out = ref_f32(s.t, 16, 0);
        bif_attention_args args = forward_args(&s, &out, NULL);
        bif_attention(device, &args);
        const float *y = out.data;
        cr_assert(isnan(y[3 * 16]) && isnan(y[3 * 16 + 7]));
        ref_close("other rows", y + 4 * 16, s.p.out + 4 * 16, (s.t - 4) * 16, ref_tolerance(1e-6, 4e-3));
        ref_done();
    }
}

Test(attention, decode)
{
    static const struct {
        int64_t batch, h, g, d, cap;
        int32_t lens[4];
    } cases[] = {{1, 1, 1, 8, 1, {1}},
                 {3, 4, 2, 32, 65, {1, 65, 33}},
                 {2, 4, 1, 40, 300, {7, 300}},
                 {2, 4, 1, 18, 70, {66, 3}},
                 {4, 2, 2, 64, 130, {130, 31, 128, 2}},
                 {2, 24, 2, 128, 140, {139, 66}}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t b = cases[i].batch, h = cases[i].h, g = cases[i].g, d = cases[i].d, cap = cases[i].cap;
        REF_EACH_DEVICE(device)
        {
            bif_tensor q = ref_f32(b, h * d, 21), k = ref_f32(b * cap, g * d, 22), v = ref_f32(b * cap, g * d, 23);
            bif_tensor out = ref_f32(b, h * d, 0), lens = ref_i32(b, 0, 1, 1);
            memcpy(lens.data, cases[i].lens, (size_t)b * sizeof(int32_t));
            double *wanted = ref_zeros(b * h * d), *w = ref_zeros(cap), scale = 0.3;
            for (int64_t n = 0; n < b; n++) {
                int64_t len = cases[i].lens[n];
                for (int64_t x = len * g * d; x < cap * g * d; x++) { /* rows past the length must not be looked at */
                    ((float *)k.data)[n * cap * g * d + x] = NAN;
                    ((float *)v.data)[n * cap * g * d + x] = NAN;
                }
                for (int64_t a = 0; a < h; a++) {
                    const float *kk = (float *)k.data + n * cap * g * d + a / (h / g) * d;
                    const float *vv = (float *)v.data + n * cap * g * d + a / (h / g) * d;
                    double sum = 0;
                    for (int64_t j = 0; j < len; j++) {
                        w[j] = 0;
                        for (int64_t x = 0; x < d; x++) {
                            w[j] += scale * ((float *)q.data)[n * h * d + a * d + x] * kk[j * g * d + x];
                        }
                        w[j] = exp(w[j]);
                        sum += w[j];
                    }
                    for (int64_t j = 0; j < len; j++) {
                        for (int64_t x = 0; x < d; x++) {
                            wanted[n * h * d + a * d + x] += w[j] / sum * vv[j * g * d + x];
                        }
                    }
                }
            }
            bif_attention_decode_args args = {&q, &k, &v, &lens, h, g, d, cap, (float)scale, &out};
            bif_attention_decode(device, &args);
            ref_close("decode", out.data, wanted, b * h * d, ref_tolerance(2e-6, 4e-3));
            ref_done();
        }
    }
}
