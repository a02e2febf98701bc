#include <math.h>

#include "kernels/cpu.h"

/* Sines and cosines cost more than the rotation of many heads, so they are made once for each position of the call, not for each
 * row and head: positions of packed sequences start again at 0 and repeat. */
void BIF_CPU(rope)(bif_device *device, const bif_rope_args *args)
{
    int64_t t = args->rows->dim[0], w = args->rows->dim[1], d = args->head_dim, half = d / 2;
    float *rows = bif_f32(args->rows);
    const int32_t *pos = bif_i32(args->pos);
    if (t == 0) {
        return;
    }
    int64_t low = pos[0], high = pos[0];
    for (int64_t r = 1; r < t; r++) {
        low = bif_min(low, pos[r]);
        high = bif_max(high, pos[r]);
    }
    /* Widely spread positions (a decoding step): an entry a row instead of an entry a position. */
    bool by_position = high - low < t;
    int64_t entries = by_position ? high - low + 1 : t;
    /* [half] frequencies, then [entries][cos half | sin half] */
    float *frequency = bif_cpu_scratch(device, 0, (size_t)(half + entries * d) * sizeof(float)), *table = frequency + half;
    for (int64_t i = 0; i < half; i++) {
        frequency[i] = bif_rope_frequency(args, i);
    }
    int threads = bif_threads_for(device, t * args->heads * d);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t e = 0; e < entries; e++) {
            float position = (float)(by_position ? low + e : pos[e]);
            for (int64_t i = 0; i < half; i++) {
                float angle = position * frequency[i]; /* in f32, as the checkpoints were trained */
                table[e * d + i] = cosf(angle);
                table[e * d + half + i] = args->inverse ? -sinf(angle) : sinf(angle);
            }
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < t; r++) {
            const float *cosine = table + (by_position ? pos[r] - low : r) * d, *sine = cosine + half;
            for (int64_t h = 0; h < args->heads; h++) {
                float *a = rows + r * w + h * d, *b = a + half;
#pragma omp simd
                for (int64_t i = 0; i < half; i++) {
                    float p = a[i], q = b[i];
                    a[i] = p * cosine[i] - q * sine[i];
                    b[i] = q * cosine[i] + p * sine[i];
                }
            }
        }
    }
}
