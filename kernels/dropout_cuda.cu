/* Dropout, and columns of packed rows: one pass over memory each. A thread moves 16 bytes (one or two Philox blocks) where rows are whole
 * numbers of these, else one element. */
#include "base/rng.h"
#include "kernels/cuda.cuh"

static constexpr int THREADS = 256;

/* bif_philox of (seed, BIF_RNG_DROPOUT, low | high << 32, block). */
static __device__ __forceinline__ void philox(uint64_t seed, int32_t low, int32_t high, uint32_t block, uint32_t (&out)[4])
{
    uint32_t c0 = block, c1 = BIF_RNG_DROPOUT, c2 = (uint32_t)low, c3 = (uint32_t)high;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* N is 1 or a multiple of 4. x and add may be y: a thread has read its elements before it writes them. */
template <class T, int N>
static __global__ void dropout(int64_t t, int64_t c, uint64_t seed, uint32_t least, float scale, const int32_t *index, const T *x,
                               const T *add, T *y)
{
    const int64_t units = c / N, items = t * units, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < items; i += step) {
        const int64_t row = i / units, column = (i - row * units) * N;
        const int32_t low = index[2 * row], high = index[2 * row + 1];
        float value[N], sum[N] = {};
        bif_load(x + i * N, value);
        if (add != NULL) {
            bif_load(add + i * N, sum);
        }
        uint32_t word[4];
#pragma unroll
        for (int j = 0; j < N; j++) {
            if (j % 4 == 0) {
                philox(seed, low, high, (uint32_t)(column + j) / 4, word);
            }
            const uint32_t drawn = N == 1 ? word[column % 4] : word[j % 4];
            sum[j] += drawn >= least ? value[j] * scale : 0.0f;
        }
        bif_store(y + i * N, sum);
    }
}

extern "C" void bif_cuda_dropout(bif_device *device, const bif_dropout_args *args)
{
    const int64_t t = args->x->dim[0], c = args->x->dim[1];
    const uint32_t least = (uint32_t)(args->p * 4294967296.0);
    const float scale = (float)(1.0 / (1.0 - args->p));
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (t * c == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->x->dtype, {
        constexpr int N = bif_lanes<T>::count;
        const int32_t *index = bif_at<const int32_t>(args->index);
        const T *x = bif_at<const T>(args->x), *add = bif_at<const T>(args->add);
        if (bif_wide(args->x, c) && bif_wide(args->add, c) && bif_wide(args->y, c)) {
            BIF_LAUNCH((dropout<T, N>), bif_grid(device, t * c / N, THREADS, 256), THREADS, 0, stream, t, c, args->seed, least, scale, index,
                       x, add, bif_at<T>(args->y));
        } else {
            BIF_LAUNCH((dropout<T, 1>), bif_grid(device, t * c, THREADS, 256), THREADS, 0, stream, t, c, args->seed, least, scale, index, x,
                       add, bif_at<T>(args->y));
        }
    });
    BIF_LAUNCHED("dropout");
}

/* ---- columns ---- */

/* part = columns of rows (TAKE), or columns of rows += part. `at` is rows' first of these columns. */
template <class T, int N, bool TAKE> static __global__ void columns(int64_t t, int64_t n, int64_t w, T *at, T *part)
{
    const int64_t units = n / N, items = t * units, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < items; i += step) {
        const int64_t row = i / units;
        T *there = at + row * w + (i - row * units) * N;
        float a[N];
        bif_load(there, a);
        if (TAKE) {
            bif_store(part + i * N, a);
        } else {
            float b[N];
            bif_load(part + i * N, b);
#pragma unroll
            for (int j = 0; j < N; j++) {
                a[j] += b[j];
            }
            bif_store(there, a);
        }
    }
}

template <bool TAKE> static void each_column(bif_device *device, const bif_tensor *rows, int64_t first, const bif_tensor *part)
{
    const int64_t t = part->dim[0], n = part->dim[1], w = rows->dim[1];
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (t * n == 0) {
        return;
    }
    BIF_EACH_FLOAT(part->dtype, {
        constexpr int N = bif_lanes<T>::count;
        T *at = bif_at<T>(rows) + first;
        if (bif_wide(rows, w) && bif_wide(part, n) && first % N == 0) {
            BIF_LAUNCH((columns<T, N, TAKE>), bif_grid(device, t * n / N, THREADS, 256), THREADS, 0, stream, t, n, w, at, bif_at<T>(part));
        } else {
            BIF_LAUNCH((columns<T, 1, TAKE>), bif_grid(device, t * n, THREADS, 256), THREADS, 0, stream, t, n, w, at, bif_at<T>(part));
        }
    });
    BIF_LAUNCHED(TAKE ? "take_columns" : "add_columns");
}

extern "C" void bif_cuda_take_columns(bif_device *device, const bif_take_columns_args *args)
{
    each_column<true>(device, args->rows, args->first, args->part);
}

extern "C" void bif_cuda_add_columns(bif_device *device, const bif_add_columns_args *args)
{
    each_column<false>(device, args->rows, args->first, args->part);
}
