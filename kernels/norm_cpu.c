/* LayerNorm, RMSNorm and the RMSNorm of heads. A row is read from memory once; its later passes hit L1. */
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"

/* Parameter gradients: each thread sums its rows into its own `count` floats, then the threads' sums are added in their order. */
static float *own_sums(bif_device *device, int me, int64_t count)
{
    float *sums = bif_cpu_scratch(device, me, (size_t)count * sizeof(float));
    memset(sums, 0, (size_t)count * sizeof(float));
    return sums;
}

static void add_sums(bif_device *device, int me, int threads, int64_t count, int64_t offset, float *to)
{
    if (to == NULL) {
        return;
    }
    int64_t from = bif_part(count, threads, me), end = bif_part(count, threads, me + 1);
    for (int other = 0; other < threads; other++) {
        const float *sums = (const float *)bif_cpu_scratch(device, other, 0) + offset;
#pragma omp simd
        for (int64_t i = from; i < end; i++) {
            to[i] += sums[i];
        }
    }
}

/* ---- LayerNorm ---- */

void BIF_CPU(layernorm)(bif_device *device, const bif_layernorm_args *args)
{
    int64_t t = args->x->dim[0], c = args->x->dim[1];
    const float *x = bif_f32(args->x), *weight = bif_f32(args->weight), *bias = bif_f32(args->bias);
    float *y = bif_f32(args->y), *means = bif_f32(args->mean), *rstds = bif_f32(args->rstd);
    int threads = bif_threads_for(device, t * c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        const float *from = x + r * c;
        float *to = y + r * c;
        float sum = 0.0f, square = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < c; i++) {
            sum += from[i];
        }
        float mean = sum / (float)c;
#pragma omp simd reduction(+ : square)
        for (int64_t i = 0; i < c; i++) {
            square += (from[i] - mean) * (from[i] - mean);
        }
        float rstd = 1.0f / sqrtf(square / (float)c + args->eps);
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            to[i] = (from[i] - mean) * rstd * weight[i] + bias[i];
        }
        if (means != NULL) {
            means[r] = mean;
            rstds[r] = rstd;
        }
    }
}

void BIF_CPU(layernorm_backward)(bif_device *device, const bif_layernorm_backward_args *args)
{
    int64_t t = args->x->dim[0], c = args->x->dim[1];
    const float *x = bif_f32(args->x), *weight = bif_f32(args->weight), *means = bif_f32(args->mean);
    const float *rstds = bif_f32(args->rstd), *dys = bif_f32(args->dy), *dres = bif_f32(args->dres);
    float *dxs = bif_f32(args->dx), *dweight = bif_f32(args->dweight), *dbias = bif_f32(args->dbias);
    int threads = bif_threads_for(device, t * c);
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num();
        float *sum_weight = own_sums(device, me, 2 * c), *sum_bias = sum_weight + c;
        int64_t last = bif_part(t, threads, me + 1);
        for (int64_t r = bif_part(t, threads, me); r < last; r++) {
            const float *from = x + r * c, *dy = dys + r * c;
            float mean = means[r], rstd = rstds[r], a = 0.0f, b = 0.0f;
            /* dy may be overwritten by dx below, so all sums come first. */
#pragma omp simd reduction(+ : a, b)
            for (int64_t i = 0; i < c; i++) {
                float hat = (from[i] - mean) * rstd, g = dy[i] * weight[i];
                a += g;
                b += g * hat;
                sum_weight[i] += dy[i] * hat;
                sum_bias[i] += dy[i];
            }
            if (dxs == NULL) {
                continue;
            }
            a /= (float)c;
            b /= (float)c;
            float *dx = dxs + r * c;
            const float *past = dres == NULL ? NULL : dres + r * c;
            if (past != NULL) {
#pragma omp simd
                for (int64_t i = 0; i < c; i++) {
                    dx[i] = past[i] + rstd * (dy[i] * weight[i] - a - (from[i] - mean) * rstd * b);
                }
            } else {
#pragma omp simd
                for (int64_t i = 0; i < c; i++) {
                    dx[i] = rstd * (dy[i] * weight[i] - a - (from[i] - mean) * rstd * b);
                }
            }
        }
#pragma omp barrier
        add_sums(device, me, threads, c, 0, dweight);
        add_sums(device, me, threads, c, c, dbias);
    }
}

/* ---- RMSNorm: of whole rows, and of heads (a row of a head has head_dim columns) ---- */

/* One row; returns rstd. */
static float rms_forward(int64_t c, const float *x, const float *weight, float eps, float *y)
{
    float square = 0.0f;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < c; i++) {
        square += x[i] * x[i];
    }
    float rstd = 1.0f / sqrtf(square / (float)c + eps);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) {
        y[i] = x[i] * rstd * weight[i];
    }
    return rstd;
}

/* One row; dres and dx may be NULL; sums += dy * hat. */
static void rms_backward(int64_t c, const float *x, const float *weight, float rstd, const float *dy, const float *dres, float *dx,
                         float *sums)
{
    float b = 0.0f;
#pragma omp simd reduction(+ : b)
    for (int64_t i = 0; i < c; i++) {
        float part = dy[i] * x[i] * rstd;
        sums[i] += part;
        b += part * weight[i];
    }
    if (dx == NULL) {
        return;
    }
    b *= rstd / (float)c;
    if (dres != NULL) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            dx[i] = dres[i] + rstd * (dy[i] * weight[i] - x[i] * b);
        }
    } else {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            dx[i] = rstd * (dy[i] * weight[i] - x[i] * b);
        }
    }
}

void BIF_CPU(rmsnorm)(bif_device *device, const bif_rmsnorm_args *args)
{
    int64_t t = args->x->dim[0], c = args->x->dim[1];
    const float *x = bif_f32(args->x), *weight = bif_f32(args->weight);
    float *y = bif_f32(args->y), *rstds = bif_f32(args->rstd);
    int threads = bif_threads_for(device, t * c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        float rstd = rms_forward(c, x + r * c, weight, args->eps, y + r * c);
        if (rstds != NULL) {
            rstds[r] = rstd;
        }
    }
}

void BIF_CPU(rmsnorm_backward)(bif_device *device, const bif_rmsnorm_backward_args *args)
{
    int64_t t = args->x->dim[0], c = args->x->dim[1];
    const float *x = bif_f32(args->x), *weight = bif_f32(args->weight), *rstds = bif_f32(args->rstd);
    const float *dy = bif_f32(args->dy), *dres = bif_f32(args->dres);
    float *dx = bif_f32(args->dx);
    int threads = bif_threads_for(device, t * c);
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num();
        float *sums = own_sums(device, me, c);
        int64_t last = bif_part(t, threads, me + 1);
        for (int64_t r = bif_part(t, threads, me); r < last; r++) {
            rms_backward(c, x + r * c, weight, rstds[r], dy + r * c, dres == NULL ? NULL : dres + r * c,
                         dx == NULL ? NULL : dx + r * c, sums);
        }
#pragma omp barrier
        add_sums(device, me, threads, c, 0, bif_f32(args->dweight));
    }
}

void BIF_CPU(head_rmsnorm)(bif_device *device, const bif_head_rmsnorm_args *args)
{
    int64_t t = args->x->dim[0], w = args->x->dim[1], d = args->head_dim;
    const float *x = bif_f32(args->x), *weight = bif_f32(args->weight);
    float *y = bif_f32(args->y), *rstds = bif_f32(args->rstd);
    int threads = bif_threads_for(device, t * args->heads * d);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        for (int64_t h = 0; h < args->heads; h++) {
            int64_t at = r * w + args->first + h * d;
            float rstd = rms_forward(d, x + at, weight, args->eps, y + at);
            if (rstds != NULL) {
                rstds[r * args->heads + h] = rstd;
            }
        }
    }
}

void BIF_CPU(head_rmsnorm_backward)(bif_device *device, const bif_head_rmsnorm_backward_args *args)
{
    int64_t t = args->x->dim[0], w = args->x->dim[1], d = args->head_dim;
    const float *x = bif_f32(args->x), *weight = bif_f32(args->weight), *rstds = bif_f32(args->rstd), *dy = bif_f32(args->dy);
    float *dx = bif_f32(args->dx);
    int threads = bif_threads_for(device, t * args->heads * d);
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num();
        float *sums = own_sums(device, me, d);
        int64_t last = bif_part(t, threads, me + 1);
        for (int64_t r = bif_part(t, threads, me); r < last; r++) {
            for (int64_t h = 0; h < args->heads; h++) {
                int64_t at = r * w + args->first + h * d;
                rms_backward(d, x + at, weight, rstds[r * args->heads + h], dy + at, NULL, dx + at, sums);
            }
        }
#pragma omp barrier
        add_sums(device, me, threads, d, 0, bif_f32(args->dweight));
    }
}
