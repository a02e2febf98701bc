/* Ops on flat arrays: axpy, scale, sum of squares, AdamW. All are bound by memory. */
#include <math.h>

#include "kernels/cpu.h"

#define SUM_BLOCK 16384

void BIF_CPU(axpy)(bif_device *device, float alpha, const bif_tensor *x, bif_tensor *y)
{
    int64_t n = bif_numel(x);
    const float *from = bif_f32(x);
    float *to = bif_f32(y);
    int threads = bif_threads_for(device, n);
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; i++) {
        to[i] += alpha * from[i];
    }
}

void BIF_CPU(scale)(bif_device *device, float alpha, bif_tensor *x)
{
    int64_t n = bif_numel(x);
    float *to = bif_f32(x);
    int threads = bif_threads_for(device, n);
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; i++) {
        to[i] *= alpha;
    }
}

/* Blocks of a fixed size, summed in their order: the result does not depend on the number of threads. */
double BIF_CPU(sumsq)(bif_device *device, const bif_tensor *x)
{
    int64_t n = bif_numel(x), blocks = (n + SUM_BLOCK - 1) / SUM_BLOCK;
    const float *from = bif_f32(x);
    double *sums = bif_cpu_scratch(device, 0, (size_t)blocks * sizeof(double));
    int threads = bif_threads_for(device, n);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t end = bif_min(n, (b + 1) * SUM_BLOCK);
        double sum = 0.0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = b * SUM_BLOCK; i < end; i++) {
            sum += (double)from[i] * (double)from[i];
        }
        sums[b] = sum;
    }
    double total = 0.0;
    for (int64_t b = 0; b < blocks; b++) {
        total += sums[b];
    }
    return total;
}

void BIF_CPU(sum)(bif_device *device, const bif_tensor *x, bif_tensor *sum)
{
    (void)device; /* rows of a loss: too few for threads */
    int64_t n = bif_numel(x);
    const float *from = bif_f32(x);
    double total = 0.0;
    for (int64_t i = 0; i < n; i++) {
        total += (double)from[i];
    }
    *(double *)sum->data += total;
}

void BIF_CPU(adamw)(bif_device *device, const bif_adamw_args *args)
{
    int64_t n = bif_numel(args->param);
    float *param = bif_f32(args->param), *first = bif_f32(args->m), *second = bif_f32(args->v);
    const float *grad = bif_f32(args->grad);
    float b1 = (float)args->beta1, b2 = (float)args->beta2, c1 = (float)(1.0 - args->beta1), c2 = (float)(1.0 - args->beta2);
    float keep = (float)(1.0 - args->lr * args->weight_decay), eps = (float)args->eps, scale = (float)args->grad_scale;
    float rate = (float)(args->lr / (1.0 - pow(args->beta1, (double)args->step)));
    float unbias = (float)(1.0 / (1.0 - pow(args->beta2, (double)args->step)));
    int threads = bif_threads_for(device, n);
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * scale;
        float m = b1 * first[i] + c1 * g, v = b2 * second[i] + c2 * g * g;
        first[i] = m;
        second[i] = v;
        float p = keep * param[i] - rate * m / (sqrtf(v * unbias) + eps);
        p = p < args->min ? args->min : p;
        param[i] = p > args->max ? args->max : p;
    }
}
