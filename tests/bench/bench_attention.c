/* Attention forward and backward on the shapes training uses: checks one sequence against double precision, then times.
 * Usage: bench_attention [threads]. FLOP counted: 4 D a visible (query, key) pair and head forward, 10 D backward. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "kernels/ops.h"

typedef struct {
    const char *name;
    int n, t, h, g, d;
    bool causal;
} shape;

static const shape shapes[] = {
    {"ViT tiny", 64, 65, 4, 4, 32, false},
    {"decoder short", 32, 60, 4, 2, 32, true},
    {"decoder", 32, 130, 4, 2, 32, true},
    {"decoder long", 32, 250, 4, 4, 32, true},
    {"D 64", 8, 257, 8, 8, 64, false},
    {"D 128, 2048 tokens", 1, 2048, 4, 2, 128, true},
    {"D 64, 2048 tokens", 1, 2048, 4, 4, 64, false},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bif_tensor make(bif_device *device, int64_t rows, int64_t columns, uint64_t seed)
{
    bif_tensor x = bif_tensor2(NULL, BIF_DTYPE_F32, rows, columns);
    if (device->alloc(device, bif_bytes(&x), &x.data) != BIF_OK) {
        fprintf(stderr, "%s\n", bif_error_message());
        exit(71);
    }
    for (int64_t i = 0; seed != 0 && i < rows * columns; i++) {
        ((float *)x.data)[i] = bif_rng_normal(seed, BIF_RNG_TEST, 0, (uint32_t)i);
    }
    return x;
}

/* Largest error of head 0 in the last row of the first sequence. */
static double error_of(const shape *s, const float *qkv, const float *out)
{
    int64_t row = (s->h + 2 * s->g) * s->d, i = s->t - 1;
    double *w = calloc((size_t)s->t, sizeof(double)), sum = 0, worst = 0;
    for (int64_t j = 0; j < s->t; j++) {
        for (int64_t x = 0; x < s->d; x++) {
            w[j] += qkv[i * row + x] * (double)qkv[j * row + s->h * s->d + x] / sqrt(s->d);
        }
        w[j] = exp(w[j]);
        sum += w[j];
    }
    for (int64_t x = 0; x < s->d; x++) {
        double y = 0;
        for (int64_t j = 0; j < s->t; j++) {
            y += w[j] / sum * qkv[j * row + (s->h + s->g) * s->d + x];
        }
        worst = fmax(worst, fabs(y - out[i * s->h * s->d + x]));
    }
    free(w);
    return worst;
}

int main(int argc, char **argv)
{
    bif_device *device = NULL;
    if (bif_device_open("cpu", argc > 1 ? atoi(argv[1]) : 0, &device) != BIF_OK) {
        fprintf(stderr, "%s\n", bif_error_message());
        return 64;
    }
    printf("%s\n%-20s %10s %8s %10s %8s %10s\n", device->name, "", "fwd us", "GFLOP/s", "bwd us", "GFLOP/s", "both us");
    for (size_t c = 0; c < sizeof(shapes) / sizeof(shapes[0]); c++) {
        const shape *s = &shapes[c];
        int64_t total = (int64_t)s->n * s->t, row = (s->h + 2 * s->g) * s->d;
        bif_tensor qkv = make(device, total, row, 1), out = make(device, total, s->h * s->d, 0),
                   lse = make(device, total, s->h, 0);
        bif_tensor dout = make(device, total, s->h * s->d, 2), dqkv = make(device, total, row, 0);
        int32_t *bounds = malloc((size_t)(s->n + 1) * sizeof(int32_t));
        for (int i = 0; i <= s->n; i++) {
            bounds[i] = i * s->t;
        }
        bif_tensor cu = bif_tensor1(bounds, BIF_DTYPE_I32, s->n + 1);
        float scale = 1 / sqrtf((float)s->d);
        bif_attention_args forward = {&qkv, &cu, NULL, s->h, s->g, s->d, s->causal, scale, &out, &lse};
        bif_attention_backward_args backward = {&qkv, &cu, NULL,  &out,      &lse,  &dout, s->h,
                                                s->g, s->d, s->causal, scale, &dqkv};
        double best_forward = 1e9, best_backward = 1e9, stop = now() + 1.0;
        bif_attention(device, &forward);
        double error = error_of(s, qkv.data, out.data);
        if (!(error < 1e-5)) {
            printf("%s: WRONG, error %g\n", s->name, error);
            return 70;
        }
        while (now() < stop) {
            double t0 = now();
            bif_attention(device, &forward);
            double t1 = now();
            bif_attention_backward(device, &backward);
            double t2 = now();
            best_forward = fmin(best_forward, t1 - t0);
            best_backward = fmin(best_backward, t2 - t1);
        }
        double pairs = (double)s->n * s->h * s->t * (s->causal ? (s->t + 1) / 2.0 : s->t);
        printf("%-20s %10.0f %8.0f %10.0f %8.0f %10.0f\n", s->name, best_forward * 1e6,
               pairs * 4 * s->d / best_forward * 1e-9, best_backward * 1e6, pairs * 10 * s->d / best_backward * 1e-9,
               (best_forward + best_backward) * 1e6);
        bif_tensor *all[] = {&qkv, &out, &lse, &dout, &dqkv};
        for (int i = 0; i < 5; i++) {
            device->release(device, all[i]->data);
        }
        free(bounds);
    }
    bif_device_close(device);
    return 0;
}
