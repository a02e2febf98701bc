/* bif_pool_attention and its backward against double precision. */
#include "ref.h"

typedef struct {
    int64_t n, h, d;
    int32_t lengths[5];
    double spread; /* of the queries */
} shape;

typedef struct {
    const int32_t *bounds;
    int64_t n, h, d;
    double scale;
    double *q, *kv, *out, *lse;
} problem;

static void reference(const problem *p)
{
    const int64_t width = p->h * p->d;
    for (int64_t s = 0; s < p->n; s++) {
        const int64_t first = p->bounds[s], t = p->bounds[s + 1] - first;
        double *w = calloc((size_t)t + 1, sizeof(double));
        for (int64_t h = 0; h < p->h; h++) {
            const double *q = p->q + s * width + h * p->d, *k = p->kv + first * 2 * width + h * p->d, *v = k + width;
            double *out = p->out + s * width + h * p->d, top = -INFINITY, sum = 0;
            for (int64_t j = 0; j < t; j++) {
                w[j] = 0;
                for (int64_t x = 0; x < p->d; x++) {
                    w[j] += p->scale * q[x] * k[j * 2 * width + x];
                }
                top = fmax(top, w[j]);
            }
            for (int64_t j = 0; j < t; j++) {
                w[j] = exp(w[j] - top);
                sum += w[j];
            }
            p->lse[s * p->h + h] = top + log(sum);
            for (int64_t x = 0; x < p->d; x++) {
                out[x] = 0;
                for (int64_t j = 0; j < t; j++) {
                    out[x] += w[j] / sum * v[j * 2 * width + x];
                }
            }
        }
        free(w);
    }
}

static double loss_of(void *context)
{
    const problem *p = context;
    reference(p);
    return ref_weighted(p->out, p->n * p->h * p->d, 33);
}

static const shape shapes[] = {
    {1, 1, 8, {1}, 1},
    {1, 2, 5, {7}, 1},
    {3, 3, 12, {16, 1, 31}, 1},
    {4, 2, 72, {33, 0, 128, 9}, 1}, /* SigLIP so400m's heads */
    {2, 16, 64, {49, 49}, 1},
    {2, 2, 80, {257, 130}, 20}, /* scores of several hundred */
    {2, 1, 260, {33, 20}, 1},   /* a head wider than a block of the CUDA kernel makes */
    {1, 1, 300, {300}, 1},
};

Test(pool_attention, forward_and_backward)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *c = &shapes[i];
        int32_t bounds[6] = {0};
        for (int64_t s = 0; s < c->n; s++) {
            bounds[s + 1] = bounds[s] + c->lengths[s];
        }
        const int64_t width = c->h * c->d, t = bounds[c->n];
        REF_EACH_DEVICE(device)
        {
            bif_tensor q = ref_f32(c->n, width, 31), kv = ref_f32(t, 2 * width, 32), dout = ref_f32(c->n, width, 33);
            bif_tensor cu = ref_i32(c->n + 1, 0, 1, 1), out = ref_f32(c->n, width, 0), lse = ref_f32(c->n, c->h, 0);
            bif_tensor dq = ref_f32(c->n, width, 0), dkv = ref_f32(t, 2 * width, 0);
            memcpy(cu.data, bounds, (size_t)(c->n + 1) * sizeof *bounds);
            for (int64_t x = 0; x < c->n * width; x++) {
                ((float *)q.data)[x] *= (float)c->spread;
            }
            ref_round(&q);
            problem p = {bounds, c->n, c->h, c->d, 1 / sqrt((double)c->d), ref_double(&q), ref_double(&kv), ref_zeros(c->n * width),
                         ref_zeros(c->n * c->h)};
            reference(&p);
            const double tolerance = c->spread > 1 ? 2e-5 : 2e-6;
            bif_pool_attention_args args = {&q, &kv, &cu, NULL, c->h, c->d, (float)p.scale, &out, &lse};
            bif_pool_attention(device, &args);
            ref_close("out", out.data, p.out, c->n * width, ref_tolerance(tolerance, 4e-3));
            for (int64_t s = 0; s < c->n; s++) {
                for (int64_t h = 0; h < c->h && c->lengths[s] == 0; h++) { /* minus infinity, which ref_close refuses */
                    cr_assert(isinf(((float *)lse.data)[s * c->h + h]));
                    ((float *)lse.data)[s * c->h + h] = 0;
                    p.lse[s * c->h + h] = 0;
                }
            }
            ref_close("lse", lse.data, p.lse, c->n * c->h, ref_tolerance(tolerance, 1e-3));
            bif_tensor alone = ref_f32(c->n, width, 0);
            args.out = &alone, args.lse = NULL;
            bif_pool_attention(device, &args);
            cr_assert(memcmp(alone.data, out.data, bif_bytes(&out)) == 0, "another result without lse");
            bif_pool_attention_backward_args back = {&q, &kv, &cu, NULL, &out, &lse, &dout, c->h, c->d, (float)p.scale, &dq, &dkv};
            bif_pool_attention_backward(device, &back);
            for (int64_t s = 0; s < c->n; s++) {
                for (int64_t x = 0; x < width && c->lengths[s] == 0; x++) {
                    cr_assert_eq(((float *)dq.data)[s * width + x], 0);
                }
            }
            if (t * width > REF_MOST || (t == 1 && c->h == 1)) { /* a single key has no gradient but its value's */
                ref_done();
                continue;
            }
            const double limit = ref_tolerance(c->spread > 1 ? 2e-4 : 2e-5, 2e-2);
            ref_gradient("dq", loss_of, &p, p.q, c->n * width, dq.data, NULL, limit);
            ref_gradient("dkv", loss_of, &p, p.kv, t * 2 * width, dkv.data, NULL, limit);
            ref_done();
        }
    }
}

Test(pool_attention, nothing_to_do)
{
    REF_EACH_DEVICE(device)
    {
        bif_tensor q = ref_f32(0, 8, 0), kv = ref_f32(0, 16, 0), cu = ref_i32(1, 0, 1, 1), lse = ref_f32(0, 2, 0);
        q.dim[1] = 8, kv.dim[1] = 16, lse.dim[1] = 2;
        q.rank = kv.rank = lse.rank = 2;
        bif_tensor out = q, dout = q, dq = q, dkv = kv;
        bif_pool_attention_args args = {&q, &kv, &cu, NULL, 2, 4, 0.5f, &out, &lse};
        bif_pool_attention(device, &args);
        bif_pool_attention_backward_args back = {&q, &kv, &cu, NULL, &out, &lse, &dout, 2, 4, 0.5f, &dq, &dkv};
        bif_pool_attention_backward(device, &back);
        ref_done();
    }
}
