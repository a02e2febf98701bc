/* Attention with one query a sequence. A unit of work is one head of one sequence, so nothing is summed between units. */
#include <math.h>

#include "kernels/cpu.h"

static inline float dot(const float *a, const float *b, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        sum += a[j] * b[j];
    }
    return sum;
}

/* y += alpha * x */
static inline void add(float alpha, const float *x, float *y, int64_t n)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        y[j] += alpha * x[j];
    }
}

void BIF_CPU(pool_attention)(bif_device *device, const bif_pool_attention_args *args)
{
    const int64_t n = args->q->dim[0], heads = args->heads, dim = args->head_dim, width = heads * dim, rows = args->kv->dim[0];
    const int32_t *bounds = bif_i32(args->cu_seqlens);
#pragma omp parallel for schedule(static) num_threads(bif_threads_for(device, rows * width))
    for (int64_t unit = 0; unit < n * heads; unit++) {
        const int64_t s = unit / heads, h = unit % heads, first = bounds[s], length = bounds[s + 1] - first;
        const float *q = bif_f32(args->q) + s * width + h * dim, *k = bif_f32(args->kv) + first * 2 * width + h * dim, *v = k + width;
        float *out = bif_f32(args->out) + s * width + h * dim;
        float *weight = bif_cpu_scratch(device, omp_get_thread_num(), (size_t)(length + 1) * sizeof(float));
        float peak = -INFINITY, sum = 0;
        for (int64_t t = 0; t < length; t++) {
            weight[t] = args->scale * dot(q, k + t * 2 * width, dim);
            peak = weight[t] > peak ? weight[t] : peak;
        }
        for (int64_t j = 0; j < dim; j++) {
            out[j] = 0;
        }
        for (int64_t t = 0; t < length; t++) {
            const float p = expf(weight[t] - peak);
            sum += p;
            add(p, v + t * 2 * width, out, dim);
        }
        const float inverse = length > 0 ? 1.0f / sum : 0.0f;
        for (int64_t j = 0; j < dim; j++) {
            out[j] *= inverse;
        }
        if (args->lse != NULL) {
            bif_f32(args->lse)[unit] = length > 0 ? peak + logf(sum) : -INFINITY;
        }
    }
}

/* With p = softmax: dv = p dout, ds = p (dout.v - dout.out), dk = scale ds q, dq = sum of scale ds k. */
void BIF_CPU(pool_attention_backward)(bif_device *device, const bif_pool_attention_backward_args *args)
{
    const int64_t n = args->q->dim[0], heads = args->heads, dim = args->head_dim, width = heads * dim, rows = args->kv->dim[0];
    const int32_t *bounds = bif_i32(args->cu_seqlens);
#pragma omp parallel for schedule(static) num_threads(bif_threads_for(device, 2 * rows * width))
    for (int64_t unit = 0; unit < n * heads; unit++) {
        const int64_t s = unit / heads, h = unit % heads, first = bounds[s], length = bounds[s + 1] - first;
        const int64_t at = s * width + h * dim, row = first * 2 * width + h * dim;
        const float *q = bif_f32(args->q) + at, *dout = bif_f32(args->dout) + at, *k = bif_f32(args->kv) + row, *v = k + width;
        float *dq = bif_f32(args->dq) + at, *dk = bif_f32(args->dkv) + row, *dv = dk + width;
        const float lse = bif_f32(args->lse)[unit], mean = dot(dout, bif_f32(args->out) + at, dim);
        for (int64_t j = 0; j < dim; j++) {
            dq[j] = 0;
        }
        for (int64_t t = 0; t < length; t++) {
            const int64_t to = t * 2 * width;
            const float p = expf(args->scale * dot(q, k + to, dim) - lse);
            const float ds = args->scale * p * (dot(dout, v + to, dim) - mean);
            for (int64_t j = 0; j < dim; j++) {
                dk[to + j] = ds * q[j];
                dv[to + j] = p * dout[j];
            }
            add(ds, k + to, dq, dim);
        }
    }
}
