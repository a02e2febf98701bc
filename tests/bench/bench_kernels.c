/* bench_kernels [threads]: GFLOP/s of linear forward and backward beside the bare product of the same run, and GB/s of the ops bound
 * by memory. Each number is the best of several runs; every linear is checked against double on some rows before it is timed. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/ops.h"

#define RUNS 40

static bif_device *device;

static bif_tensor fresh(int64_t rows, int64_t columns, uint64_t seed)
{
    void *memory = NULL;
    size_t n = (size_t)(rows * columns);
    if (device->alloc(device, n * sizeof(float), &memory) != BIF_OK) {
        fprintf(stderr, "bench_kernels: %s\n", bif_error_message());
        exit(BIF_ERR_MEMORY);
    }
    for (size_t i = 0; i < n; i++) {
        ((float *)memory)[i] = bif_rng_uniform(seed, BIF_RNG_TEST, 0, (uint32_t)i) - 0.5f;
    }
    return bif_tensor2(memory, BIF_DTYPE_F32, rows, columns);
}

static void vector(bif_tensor *t)
{
    *t = bif_tensor1(t->data, t->dtype, t->dim[0] * t->dim[1]);
}

/* Best wall time of `call` over RUNS. */
#define BEST(seconds, call)                            \
    double seconds = 1e9;                              \
    for (int run_ = 0; run_ < RUNS; run_++) {          \
        double start_ = omp_get_wtime();               \
        call;                                          \
        seconds = fmin(seconds, omp_get_wtime() - start_); \
    }

static void check(const char *name, int64_t t, int64_t n, int64_t k, const float *x, const float *w, const float *b, const float *y)
{
    for (int64_t r = 0; r < t; r += t / 7 + 1) {
        for (int64_t j = 0; j < n; j += 3) {
            double sum = b[j];
            for (int64_t i = 0; i < k; i++) {
                sum += (double)x[r * k + i] * w[j * k + i];
            }
            sum = 0.5 * sum * (1 + erf(sum / sqrt(2)));
            if (!(fabs(sum - y[r * n + j]) < 1e-4)) {
                fprintf(stderr, "%s is wrong at [%lld,%lld]: %g, not %g\n", name, (long long)r, (long long)j, (double)y[r * n + j], sum);
                exit(1);
            }
        }
    }
}

static void linear(int64_t t, int64_t n, int64_t k)
{
    bif_tensor x = fresh(t, k, 1), w = fresh(n, k, 2), b = fresh(1, n, 3), y = fresh(t, n, 4), pre = fresh(t, n, 5);
    bif_tensor dx = fresh(t, k, 6), dw = fresh(n, k, 7), db = fresh(1, n, 8), residual = fresh(t, n, 9), before = fresh(t, k, 10);
    vector(&b);
    vector(&db);
    bif_linear_args gelu = {.x = &x, .w = &w, .b = &b, .act = BIF_ACT_GELU, .pre = &pre, .y = &y};
    bif_linear(device, &gelu);
    check("linear", t, n, k, x.data, w.data, b.data, y.data);
    double flops = 2e-9 * (double)(t * n * k);
    BEST(bare, bif_linear(device, (&(bif_linear_args){.x = &x, .w = &w, .y = &y})));
    BEST(biased, bif_linear(device, (&(bif_linear_args){.x = &x, .w = &w, .b = &b, .residual = &residual, .y = &y})));
    BEST(active, bif_linear(device, &gelu));
    BEST(to_x, bif_linear_backward(device, (&(bif_linear_backward_args){.w = &w, .dy = &y, .dx = &dx})));
    BEST(to_w, bif_linear_backward(device, (&(bif_linear_backward_args){.x = &x, .dy = &y, .dw = &dw})));
    BEST(back, bif_linear_backward(device, (&(bif_linear_backward_args){.x = &x, .w = &w, .dy = &y, .dx = &dx, .dw = &dw, .db = &db})));
    BEST(back_act, bif_linear_backward(device, (&(bif_linear_backward_args){.x = &x,
                                                                             .w = &w,
                                                                             .dy = &y,
                                                                             .dx_act = BIF_ACT_GELU,
                                                                             .dx_pre = &before,
                                                                             .dx = &dx,
                                                                             .dw = &dw,
                                                                             .db = &db})));
    printf("%5lld x %4lld x %4lld  %8.0f %8.0f %8.0f   %8.0f %8.0f %8.0f %8.0f\n", (long long)t, (long long)n, (long long)k,
           flops / bare, flops / biased, flops / active, flops / to_x, flops / to_w, 2 * flops / back, 2 * flops / back_act);
    bif_tensor *all[] = {&x, &w, &b, &y, &pre, &dx, &dw, &db, &residual, &before};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        device->release(device, all[i]->data);
    }
}

static void line(const char *name, double bytes, double seconds)
{
    printf("%-20s %8.3f ms %8.1f GB/s\n", name, seconds * 1e3, bytes * 1e-9 / seconds);
}

static void memory_bound(int64_t t, int64_t c, int64_t f)
{
    bif_tensor x = fresh(t, c, 1), y = fresh(t, c, 2), dy = fresh(t, c, 3), gu = fresh(t, 2 * f, 4), h = fresh(t, f, 5);
    bif_tensor weight = fresh(1, c, 6), bias = fresh(1, c, 7), mean = fresh(1, t, 8), rstd = fresh(1, t, 9);
    bif_tensor dweight = fresh(1, c, 10), dbias = fresh(1, c, 11), p = fresh(1, 1 << 22, 12), m = fresh(1, 1 << 22, 13);
    bif_tensor v = fresh(1, 1 << 22, 14), g = fresh(1, 1 << 22, 15), pos = fresh(1, t, 16);
    bif_tensor *vectors[] = {&weight, &bias, &mean, &rstd, &dweight, &dbias, &pos};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        vector(vectors[i]);
    }
    bif_scale(device, 0.0f, &v);
    pos.dtype = BIF_DTYPE_I32;
    for (int64_t i = 0; i < t; i++) {
        ((int32_t *)pos.data)[i] = (int32_t)(i % 200);
    }
    double row = 4.0 * (double)(t * c), wide = 4.0 * (double)(t * f), flat = 4.0 * (1 << 22);
    printf("\n%lld rows of %lld, inner %lld\n", (long long)t, (long long)c, (long long)f);
    BEST(s1, bif_layernorm(device, (&(bif_layernorm_args){.x = &x, .weight = &weight, .bias = &bias, .y = &y, .mean = &mean, .rstd = &rstd})));
    line("layernorm", 2 * row, s1);
    BEST(s2, bif_layernorm_backward(device, (&(bif_layernorm_backward_args){.x = &x,
                                                                             .weight = &weight,
                                                                             .mean = &mean,
                                                                             .rstd = &rstd,
                                                                             .dy = &dy,
                                                                             .dx = &y,
                                                                             .dweight = &dweight,
                                                                             .dbias = &dbias})));
    line("layernorm_backward", 3 * row, s2);
    BEST(s3, bif_rmsnorm(device, (&(bif_rmsnorm_args){.x = &x, .weight = &weight, .y = &y, .rstd = &rstd})));
    line("rmsnorm", 2 * row, s3);
    BEST(s4, bif_rmsnorm_backward(device, (&(bif_rmsnorm_backward_args){
                                              .x = &x, .weight = &weight, .rstd = &rstd, .dy = &dy, .dx = &y, .dweight = &dweight})));
    line("rmsnorm_backward", 3 * row, s4);
    BEST(s5, bif_swiglu(device, (&(bif_swiglu_args){.gu = &gu, .y = &h})));
    line("swiglu", 3 * wide, s5);
    BEST(s6, bif_swiglu_backward(device, (&(bif_swiglu_backward_args){.gu = &gu, .dy = &h, .dgu = &gu})));
    line("swiglu_backward", 5 * wide, s6);
    BEST(s7, bif_act_backward(device, (&(bif_act_backward_args){.pre = &h, .dy = &h, .act = BIF_ACT_GELU, .dpre = &h})));
    line("gelu backward", 3 * wide, s7);
    BEST(s8, bif_rope(device, (&(bif_rope_args){.rows = &x, .pos = &pos, .heads = c / 32, .head_dim = 32, .theta = 10000.0f})));
    line("rope", 2 * row, s8);
    BEST(s9, bif_axpy(device, 0.5f, &g, &p));
    line("axpy", 3 * flat, s9);
    double keep = 0;
    BEST(s10, keep += bif_sumsq(device, &g));
    line("sumsq", flat, s10);
    BEST(s11, bif_adamw(device, (&(bif_adamw_args){.min = -INFINITY, .max = INFINITY, .param = &p,
                                                   .m = &m,
                                                   .v = &v,
                                                   .grad = &g,
                                                   .lr = 1e-3,
                                                   .beta1 = 0.9,
                                                   .beta2 = 0.95,
                                                   .eps = 1e-8,
                                                   .grad_scale = 1.0,
                                                   .step = 1})));
    line("adamw", 7 * flat, s11);
}

int main(int argc, char **argv)
{
    if (bif_device_open("cpu", argc > 1 ? atoi(argv[1]) : 0, &device) != BIF_OK) {
        fprintf(stderr, "bench_kernels: %s\n", bif_error_message());
        return BIF_ERR_USAGE;
    }
    printf("%s, GFLOP/s\n", device->name);
    printf("%5s   %4s   %4s  %8s %8s %8s   %8s %8s %8s %8s\n", "T", "N", "K", "product", "+b+res", "+b+gelu", "dx", "dw", "all", "all+act");
    linear(3000, 128, 128);
    linear(3000, 512, 128);
    linear(3000, 128, 512);
    linear(3000, 768, 256);
    linear(3000, 256, 768);
    linear(6000, 1536, 512);
    linear(300, 8192, 256);
    linear(64, 512, 512);
    linear(1, 512, 512);
    linear(4, 512, 512);
    linear(8, 512, 512);
    memory_bound(3000, 256, 768);
    bif_device_close(device);
    return 0;
}
