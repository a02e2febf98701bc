/* Rotary embedding and SwiGLU. Both are bound by memory: elements are read once and written once. */
#include <cmath>

#include "kernels/wide.cuh"

static constexpr int THREADS = 256, MOST_PAIRS = 256;

/* ---- rope ---- */

/* Of bif_rope_frequency: computed on the host as for the CPU device, and handed over by value (1 KiB). */
typedef struct {
    float at[MOST_PAIRS];
} frequencies;

/* Pairs [from, from + pairs) of every head. A block takes `together` rows: sine and cosine of their angles once into shared memory (with 64
 * pairs and 4 rows one sincosf a thread), then all heads of the rows, N pairs an access. The angle is a product of f32 numbers, as the
 * checkpoints were trained. */
template <class T, int N>
static __global__ void rope(int64_t t, int64_t w, int heads, int half, int from, int pairs, int together, frequencies frequency, float sign,
                            const int32_t *pos, T *rows)
{
    BIF_SHARED(float, shared); /* cosines [together][pairs] | sines [together][pairs] */
    constexpr int M = N < 4 ? N : 4;
    const int units = pairs / N, row_items = heads * units;
    float *sines = shared + together * pairs;
    for (int64_t base = (int64_t)blockIdx.x * together; base < t; base += (int64_t)gridDim.x * together) {
        const int count = (int)(t - base < together ? t - base : together);
        for (int i = (int)threadIdx.x; i < count * pairs; i += THREADS) {
            float sine, cosine;
            sincosf((float)pos[base + i / pairs] * frequency.at[i % pairs], &sine, &cosine);
            shared[i] = cosine;
            sines[i] = sign * sine;
        }
        __syncthreads();
        for (int i = (int)threadIdx.x; i < count * row_items; i += THREADS) {
            const int row = i / row_items, item = i - row * row_items, head = item / units, pair = (item - head * units) * N;
            T *a = rows + (base + row) * w + (int64_t)head * 2 * half + from + pair, *b = a + half;
            float p[N], q[N];
            bif_load(a, p);
            bif_load(b, q);
#pragma unroll
            for (int k = 0; k < N; k += M) {
                float c[M], s[M];
                bif_load(shared + row * pairs + pair + k, c);
                bif_load(sines + row * pairs + pair + k, s);
#pragma unroll
                for (int j = 0; j < M; j++) {
                    const float x = p[k + j], y = q[k + j];
                    p[k + j] = x * c[j] - y * s[j];
                    q[k + j] = y * c[j] + x * s[j];
                }
            }
            bif_store(a, p);
            bif_store(b, q);
        }
        __syncthreads();
    }
}

extern "C" void bif_cuda_rope(bif_device *device, const bif_rope_args *args)
{
    const int64_t t = args->rows->dim[0], w = args->rows->dim[1], d = args->head_dim, half = d / 2;
    if (t == 0 || args->heads == 0) {
        return;
    }
    for (int64_t from = 0; from < half; from += MOST_PAIRS) {
        const int pairs = (int)(half - from < MOST_PAIRS ? half - from : MOST_PAIRS), together = MOST_PAIRS / pairs;
        frequencies frequency = {};
        for (int i = 0; i < pairs; i++) {
            frequency.at[i] = bif_rope_frequency(args, from + i);
        }
        const unsigned blocks = bif_grid(device, bif_blocks_of(t, together), 1, 256);
        const size_t shared = (size_t)(2 * together * pairs) * sizeof(float);
        const float sign = args->inverse ? -1.0f : 1.0f;
        BIF_EACH_FLOAT(args->rows->dtype, {
            constexpr int N = bif_lanes<T>::count;
            if (bif_wide(args->rows, w) && half % N == 0) {
                BIF_LAUNCH((rope<T, N>), blocks, THREADS, shared, bif_cuda_of(device)->stream, t, w, (int)args->heads, (int)half, (int)from,
                           pairs, together, frequency, sign, bif_at<const int32_t>(args->pos), bif_at<T>(args->rows));
            } else {
                BIF_LAUNCH((rope<T, 1>), blocks, THREADS, shared, bif_cuda_of(device)->stream, t, w, (int)args->heads, (int)half, (int)from,
                           pairs, together, frequency, sign, bif_at<const int32_t>(args->pos), bif_at<T>(args->rows));
            }
        });
        BIF_LAUNCHED("rope");
    }
}

/* ---- SwiGLU ---- */

/* Accurate in f32. With bf16 the short forms: their error of some 2^-21 vanishes in a rounding to 2^-8, and the long ones would be as much
 * work as the memory leaves time for. */
template <class T> static __device__ __forceinline__ float sigmoid(float x);
template <> __device__ __forceinline__ float sigmoid<float>(float x)
{
    return 1.0f / (1.0f + expf(-x));
}
template <> __device__ __forceinline__ float sigmoid<bif_bf16>(float x)
{
    return __fdividef(1.0f, 1.0f + __expf(-x)); /* -> 0 where the exponential overflows */
}

template <class T, int N> static __global__ void swiglu(int64_t t, int64_t f, const T *gu, T *y)
{
    const int64_t units = f / N, items = t * units, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < items; i += step) {
        const int64_t row = i / units, column = (i - row * units) * N;
        float g[N], u[N];
        bif_load(gu + row * 2 * f + column, g);
        bif_load(gu + row * 2 * f + f + column, u);
#pragma unroll
        for (int j = 0; j < N; j++) {
            u[j] *= g[j] * sigmoid<T>(g[j]);
        }
        bif_store(y + i * N, u);
    }
}

/* dgu may be gu: a thread has read both elements before it writes them. */
template <class T, int N> static __global__ void swiglu_backward(int64_t t, int64_t f, const T *gu, const T *dy, T *dgu)
{
    const int64_t units = f / N, items = t * units, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < items; i += step) {
        const int64_t row = i / units, at = row * 2 * f + (i - row * units) * N;
        float g[N], u[N], d[N];
        bif_load(gu + at, g);
        bif_load(gu + at + f, u);
        bif_load(dy + i * N, d);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float s = sigmoid<T>(g[j]), dgate = d[j] * u[j] * s * (1.0f + g[j] * (1.0f - s));
            u[j] = d[j] * g[j] * s;
            g[j] = dgate;
        }
        bif_store(dgu + at, g);
        bif_store(dgu + at + f, u);
    }
}

extern "C" void bif_cuda_swiglu(bif_device *device, const bif_swiglu_args *args)
{
    const int64_t t = args->y->dim[0], f = args->y->dim[1];
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (t * f == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->y->dtype, {
        constexpr int N = bif_lanes<T>::count;
        if (bif_wide(args->gu, f) && bif_wide(args->y, f)) {
            BIF_LAUNCH((swiglu<T, N>), bif_grid(device, t * f / N, THREADS, 256), THREADS, 0, stream, t, f, bif_at<const T>(args->gu),
                       bif_at<T>(args->y));
        } else {
            BIF_LAUNCH((swiglu<T, 1>), bif_grid(device, t * f, THREADS, 256), THREADS, 0, stream, t, f, bif_at<const T>(args->gu),
                       bif_at<T>(args->y));
        }
    });
    BIF_LAUNCHED("swiglu");
}

extern "C" void bif_cuda_swiglu_backward(bif_device *device, const bif_swiglu_backward_args *args)
{
    const int64_t t = args->dy->dim[0], f = args->dy->dim[1];
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (t * f == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->dy->dtype, {
        constexpr int N = bif_lanes<T>::count;
        if (bif_wide(args->gu, f) && bif_wide(args->dy, f) && bif_wide(args->dgu, f)) {
            BIF_LAUNCH((swiglu_backward<T, N>), bif_grid(device, t * f / N, THREADS, 256), THREADS, 0, stream, t, f,
                       bif_at<const T>(args->gu), bif_at<const T>(args->dy), bif_at<T>(args->dgu));
        } else {
            BIF_LAUNCH((swiglu_backward<T, 1>), bif_grid(device, t * f, THREADS, 256), THREADS, 0, stream, t, f, bif_at<const T>(args->gu),
                       bif_at<const T>(args->dy), bif_at<T>(args->dgu));
        }
    });
    BIF_LAUNCHED("swiglu_backward");
}
