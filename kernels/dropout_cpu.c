/* Dropout, and columns of packed rows. */
#include <string.h>

#include "base/rng.h"
#include "kernels/cpu.h"

#define LANES 16 /* Philox blocks at once, which is how many a compiler turns into whole vectors: 64 columns */

/* Which of the 64 columns behind block `first` stay: 1.0f or 0.0f. As bif_philox, block by block. */
static void kept_columns(uint64_t seed, const int32_t index[2], uint32_t first, uint32_t least, float kept[4 * LANES])
{
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < LANES; i++) {
        c0[i] = first + (uint32_t)i;
        c1[i] = BIF_RNG_DROPOUT;
        c2[i] = (uint32_t)index[0];
        c3[i] = (uint32_t)index[1];
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int i = 0; i < LANES; i++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
            c0[i] = n0;
            c2[i] = n2;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < LANES; i++) {
        kept[4 * i] = c0[i] >= least ? 1.0f : 0.0f;
        kept[4 * i + 1] = c1[i] >= least ? 1.0f : 0.0f;
        kept[4 * i + 2] = c2[i] >= least ? 1.0f : 0.0f;
        kept[4 * i + 3] = c3[i] >= least ? 1.0f : 0.0f;
    }
}

void BIF_CPU(dropout)(bif_device *device, const bif_dropout_args *args)
{
    const int64_t t = args->x->dim[0], c = args->x->dim[1];
    const float *x = bif_f32(args->x), *add = bif_f32(args->add);
    const int32_t *index = bif_i32(args->index);
    float *y = bif_f32(args->y);
    const uint32_t least = (uint32_t)(args->p * 0x1p32);
    const float scale = (float)(1.0 / (1.0 - args->p));
    int threads = bif_threads_for(device, 8 * t * c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        for (int64_t from = 0; from < c; from += 4 * LANES) {
            float kept[4 * LANES];
            const int64_t n = bif_min(c - from, 4 * LANES), at = r * c + from;
            kept_columns(args->seed, index + 2 * r, (uint32_t)(from / 4), least, kept);
            for (int64_t i = 0; i < n; i++) { /* a choice and no product: what is dropped is 0 also where x is not finite */
                const float value = kept[i] > 0.0f ? x[at + i] * scale : 0.0f;
                y[at + i] = add != NULL ? add[at + i] + value : value;
            }
        }
    }
}

void BIF_CPU(take_columns)(bif_device *device, const bif_take_columns_args *args)
{
    const int64_t t = args->part->dim[0], n = args->part->dim[1], w = args->rows->dim[1];
    const float *rows = bif_f32(args->rows) + args->first;
    float *part = bif_f32(args->part);
    int threads = bif_threads_for(device, t * n);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        memcpy(part + r * n, rows + r * w, (size_t)n * sizeof *part);
    }
}

void BIF_CPU(add_columns)(bif_device *device, const bif_add_columns_args *args)
{
    const int64_t t = args->part->dim[0], n = args->part->dim[1], w = args->rows->dim[1];
    const float *part = bif_f32(args->part);
    float *rows = bif_f32(args->rows) + args->first;
    int threads = bif_threads_for(device, t * n);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            rows[r * w + i] += part[r * n + i];
        }
    }
}
