/* Elementwise over rows: activation backward and SwiGLU. */
#include "kernels/act.h"
#include "kernels/cpu.h"

void BIF_CPU(act_backward)(bif_device *device, const bif_act_backward_args *args)
{
    int64_t n = bif_numel(args->pre);
    const float *pre = bif_f32(args->pre), *dy = bif_f32(args->dy);
    float *dpre = bif_f32(args->dpre);
    int threads = bif_threads_for(device, n);
#pragma omp parallel num_threads(threads)
    {
        int64_t from = bif_part(n, threads, omp_get_thread_num()), to = bif_part(n, threads, omp_get_thread_num() + 1);
        bif_act_backward_row(args->act, to - from, pre + from, dy + from, dpre + from);
    }
}

void BIF_CPU(swiglu)(bif_device *device, const bif_swiglu_args *args)
{
    int64_t t = args->y->dim[0], f = args->y->dim[1];
    const float *gu = bif_f32(args->gu);
    float *y = bif_f32(args->y);
    int threads = bif_threads_for(device, t * f);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        const float *gate = gu + r * 2 * f, *up = gate + f;
        float *to = y + r * f;
#pragma omp simd
        for (int64_t i = 0; i < f; i++) {
            to[i] = gate[i] * bif_simd_sigmoid(gate[i]) * up[i];
        }
    }
}

void BIF_CPU(swiglu_backward)(bif_device *device, const bif_swiglu_backward_args *args)
{
    int64_t t = args->dy->dim[0], f = args->dy->dim[1];
    const float *gu = bif_f32(args->gu), *dy = bif_f32(args->dy);
    float *dgu = bif_f32(args->dgu);
    int threads = bif_threads_for(device, t * f);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        const float *gate = gu + r * 2 * f, *up = gate + f, *d = dy + r * f;
        float *dgate = dgu + r * 2 * f, *dup = dgate + f;
#pragma omp simd
        for (int64_t i = 0; i < f; i++) {
            float g = gate[i], u = up[i], s = bif_simd_sigmoid(g);
            dgate[i] = d[i] * u * s * (1.0f + g * (1.0f - s));
            dup[i] = d[i] * g * s;
        }
    }
}
