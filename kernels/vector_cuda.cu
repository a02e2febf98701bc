/* Ops on flat arrays: axpy, scale, sums, AdamW. All are bound by memory: a thread keeps four 16-byte reads of each array in flight, where
 * it has nothing else to read; a single one would leave 2048 threads x 16 bytes = 32 KiB a multiprocessor under way, which is about what
 * the latency of HBM times its bandwidth asks for, with nothing to spare. */
#include <cmath>

#include "kernels/wide.cuh"

static constexpr int THREADS = 256, AHEAD = 4, SUM_BLOCKS = 1024;

/* What a thread reads at once: 16 bytes of T, or one T where the array does not start at a multiple of 16 bytes. */
template <class T, bool WIDE> struct piece;
template <class T> struct piece<T, true> {
    static constexpr int count = bif_lanes<T>::count;
    bif_words words;
    __device__ __forceinline__ void load(const T *from)
    {
        words = bif_load_words(from);
    }
    __device__ __forceinline__ float at(int j) const
    {
        return bif_element<T>(words, j);
    }
};
template <class T> struct piece<T, false> {
    static constexpr int count = 1;
    T one;
    __device__ __forceinline__ void load(const T *from)
    {
        one = *from;
    }
    __device__ __forceinline__ float at(int) const
    {
        return bif_to_float(one);
    }
};

static bool aligned(const bif_tensor *t, size_t bytes)
{
    return t == NULL || (uintptr_t)t->data % bytes == 0;
}

/* ---- axpy, scale ---- */

/* The n % N elements behind the last whole access are done one by one by the first threads of the grid. */
template <class T, bool WIDE> static __global__ void axpy(int64_t n, float alpha, const T *x, T *y)
{
    constexpr int N = piece<T, WIDE>::count;
    const int64_t units = n / N, step = (int64_t)gridDim.x * THREADS * AHEAD;
    for (int64_t base = (int64_t)blockIdx.x * THREADS * AHEAD + threadIdx.x; base < units; base += step) {
        piece<T, WIDE> a[AHEAD], b[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int64_t at = base + k * THREADS;
            if (at < units) {
                a[k].load(x + at * N);
                b[k].load(y + at * N);
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int64_t at = base + k * THREADS;
            if (at < units) {
                float sum[N];
#pragma unroll
                for (int j = 0; j < N; j++) {
                    sum[j] = b[k].at(j) + alpha * a[k].at(j);
                }
                bif_store(y + at * N, sum);
            }
        }
    }
    const int64_t last = units * N + (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (last < n) {
        y[last] = bif_from_float<T>(bif_to_float(y[last]) + alpha * bif_to_float(x[last]));
    }
}

template <class T, bool WIDE> static __global__ void scale(int64_t n, float alpha, T *x)
{
    constexpr int N = piece<T, WIDE>::count;
    const int64_t units = n / N, step = (int64_t)gridDim.x * THREADS * AHEAD;
    for (int64_t base = (int64_t)blockIdx.x * THREADS * AHEAD + threadIdx.x; base < units; base += step) {
        piece<T, WIDE> a[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int64_t at = base + k * THREADS;
            if (at < units) {
                a[k].load(x + at * N);
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int64_t at = base + k * THREADS;
            if (at < units) {
                float scaled[N];
#pragma unroll
                for (int j = 0; j < N; j++) {
                    scaled[j] = a[k].at(j) * alpha;
                }
                bif_store(x + at * N, scaled);
            }
        }
    }
    const int64_t last = units * N + (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (last < n) {
        x[last] = bif_from_float<T>(bif_to_float(x[last]) * alpha);
    }
}

extern "C" void bif_cuda_axpy(bif_device *device, float alpha, const bif_tensor *x, bif_tensor *y)
{
    const int64_t n = bif_numel(x);
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (n == 0) {
        return;
    }
    BIF_EACH_FLOAT(x->dtype, {
        if (aligned(x, 16) && aligned(y, 16)) {
            const unsigned blocks = bif_grid(device, bif_blocks_of(n, bif_lanes<T>::count * AHEAD), THREADS, 64);
            BIF_LAUNCH((axpy<T, true>), blocks, THREADS, 0, stream, n, alpha, bif_at<const T>(x), bif_at<T>(y));
        } else {
            const unsigned blocks = bif_grid(device, bif_blocks_of(n, AHEAD), THREADS, 64);
            BIF_LAUNCH((axpy<T, false>), blocks, THREADS, 0, stream, n, alpha, bif_at<const T>(x), bif_at<T>(y));
        }
    });
    BIF_LAUNCHED("axpy");
}

extern "C" void bif_cuda_scale(bif_device *device, float alpha, bif_tensor *x)
{
    const int64_t n = bif_numel(x);
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (n == 0) {
        return;
    }
    BIF_EACH_FLOAT(x->dtype, {
        if (aligned(x, 16)) {
            const unsigned blocks = bif_grid(device, bif_blocks_of(n, bif_lanes<T>::count * AHEAD), THREADS, 64);
            BIF_LAUNCH((scale<T, true>), blocks, THREADS, 0, stream, n, alpha, bif_at<T>(x));
        } else {
            const unsigned blocks = bif_grid(device, bif_blocks_of(n, AHEAD), THREADS, 64);
            BIF_LAUNCH((scale<T, false>), blocks, THREADS, 0, stream, n, alpha, bif_at<T>(x));
        }
    });
    BIF_LAUNCHED("scale");
}

/* ---- sums, in double: a float would lose the small squares beside 10^9 others, and overflow ---- */

/* Sum over the block's threads as a tree of fixed shape, valid in thread 0. shared: one double a thread. */
static __device__ __forceinline__ double block_sum(double x, double *shared)
{
    const unsigned me = threadIdx.x;
    shared[me] = x;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (me < half) {
            shared[me] += shared[me + half];
        }
        __syncthreads();
    }
    return shared[0];
}

template <class T, bool WIDE> static __global__ void sumsq(int64_t n, const T *x, double *sums)
{
    BIF_SHARED(double, shared);
    constexpr int N = piece<T, WIDE>::count;
    const int64_t units = n / N, step = (int64_t)gridDim.x * THREADS * AHEAD;
    double sum[AHEAD] = {};
    for (int64_t base = (int64_t)blockIdx.x * THREADS * AHEAD + threadIdx.x; base < units; base += step) {
        piece<T, WIDE> a[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int64_t at = base + k * THREADS;
            if (at < units) {
                a[k].load(x + at * N);
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (base + k * THREADS < units) {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const double value = (double)a[k].at(j);
                    sum[k] += value * value;
                }
            }
        }
    }
    const int64_t last = units * N + (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (last < n) {
        const double value = (double)bif_to_float(x[last]);
        sum[0] += value * value;
    }
    const double total = block_sum((sum[0] + sum[1]) + (sum[2] + sum[3]), shared);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = total;
    }
}

/* *to (+)= the sum of x [n]; one block. */
template <class T, bool ADD> static __global__ void sum_all(int64_t n, const T *x, double *to)
{
    BIF_SHARED(double, shared);
    double sum = 0.0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        sum += (double)x[i];
    }
    const double total = block_sum(sum, shared);
    if (threadIdx.x == 0) {
        *to = ADD ? *to + total : total;
    }
}

/* The number of blocks depends on n alone, so the bits do not depend on the GPU. */
extern "C" double bif_cuda_sumsq(bif_device *device, const bif_tensor *x)
{
    bif_cuda *cuda = bif_cuda_of(device);
    const int64_t n = bif_numel(x);
    double total = 0.0;
    if (n == 0) {
        return total;
    }
    double *sums = (double *)cuda->scratch, *result = sums + SUM_BLOCKS;
    unsigned blocks = 1;
    BIF_EACH_FLOAT(x->dtype, {
        const int64_t need = bif_blocks_of(n, (int64_t)bif_lanes<T>::count * AHEAD * THREADS);
        blocks = (unsigned)(need < SUM_BLOCKS ? need : SUM_BLOCKS);
        if (aligned(x, 16)) {
            BIF_LAUNCH((sumsq<T, true>), blocks, THREADS, THREADS * sizeof(double), cuda->stream, n, bif_at<const T>(x), sums);
        } else {
            BIF_LAUNCH((sumsq<T, false>), blocks, THREADS, THREADS * sizeof(double), cuda->stream, n, bif_at<const T>(x), sums);
        }
    });
    BIF_LAUNCHED("sumsq");
    BIF_LAUNCH((sum_all<double, false>), 1, THREADS, THREADS * sizeof(double), cuda->stream, (int64_t)blocks, sums, result);
    BIF_LAUNCHED("sumsq");
    device->copy_out(device, &total, result, sizeof total);
    return total;
}

/* Rows of a loss: one block is enough. */
extern "C" void bif_cuda_sum(bif_device *device, const bif_tensor *x, bif_tensor *sum)
{
    BIF_LAUNCH((sum_all<float, true>), 1, 1024, 1024 * sizeof(double), bif_cuda_of(device)->stream, bif_numel(x), bif_at<const float>(x),
               bif_at<double>(sum));
    BIF_LAUNCHED("sum");
}

/* ---- AdamW ---- */

/* Computed in double on the host, as the CPU device does. */
typedef struct {
    float b1, b2, c1, c2, keep, eps, scale, rate, unbias, min, max;
} adamw_numbers;

static __device__ __forceinline__ float adamw_one(const adamw_numbers &k, float grad, float &first, float &second, float param)
{
    const float g = grad * k.scale;
    const float m = k.b1 * first + k.c1 * g, v = k.b2 * second + k.c2 * g * g;
    first = m;
    second = v;
    float p = k.keep * param - k.rate * m / (sqrtf(v * k.unbias) + k.eps);
    p = p < k.min ? k.min : p;
    return p > k.max ? k.max : p;
}

/* The f32 master in two halves. With b its bits: high = (b + 0x8000) >> 16 is b >> 16, one more when the lower half is 0x8000 or above
 * (rounding to nearest, ties away from zero), and in just that case (int16)lower = lower - 0x10000. So (high << 16) + (int16)lower = b in
 * both cases, modulo 2^32: exact. A carry into the exponent is right too (the next bf16 is a power of two, or infinity after the largest).
 * Only a NaN must not carry: 0x7fffffff would become -0 in the half that the model computes with, so a NaN is stored as 0x7fc0, 0. */
static __device__ __forceinline__ float master_join(uint16_t high, uint16_t low)
{
    return __uint_as_float(((unsigned)high << 16) + (unsigned)(int)(int16_t)low);
}

static __device__ __forceinline__ void master_split(float p, uint16_t &high, uint16_t &low)
{
    const unsigned bits = p == p ? __float_as_uint(p) : 0x7fc00000u;
    high = (uint16_t)((bits + 0x8000u) >> 16);
    low = (uint16_t)bits;
}

/* N elements a step: 4, which makes 16-byte accesses of m, v and grad, and 8-byte ones (256 a warp) of the halves; 28 bytes move for an
 * element either way. */
template <bool SPLIT, int N>
static __global__ void adamw(int64_t n, adamw_numbers k, float *param, uint16_t *high, uint16_t *low, float *first, float *second,
                             const float *grad)
{
    const int64_t units = n / N, step = (int64_t)gridDim.x * THREADS;
    const int64_t me = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    for (int64_t at = me; at < units; at += step) {
        float g[N], m[N], v[N], p[N];
        bif_pack<uint16_t, N> up, down;
        bif_load(grad + at * N, g);
        bif_load(first + at * N, m);
        bif_load(second + at * N, v);
        if (SPLIT) {
            up = reinterpret_cast<const bif_pack<uint16_t, N> *>(high)[at];
            down = reinterpret_cast<const bif_pack<uint16_t, N> *>(low)[at];
        } else {
            bif_load(param + at * N, p);
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            p[j] = adamw_one(k, g[j], m[j], v[j], SPLIT ? master_join(up.at[j], down.at[j]) : p[j]);
            if (SPLIT) {
                master_split(p[j], up.at[j], down.at[j]);
            }
        }
        bif_store(first + at * N, m);
        bif_store(second + at * N, v);
        if (SPLIT) {
            reinterpret_cast<bif_pack<uint16_t, N> *>(high)[at] = up;
            reinterpret_cast<bif_pack<uint16_t, N> *>(low)[at] = down;
        } else {
            bif_store(param + at * N, p);
        }
    }
    const int64_t last = units * N + me;
    if (last < n) {
        float m = first[last], v = second[last];
        const float p = adamw_one(k, grad[last], m, v, SPLIT ? master_join(high[last], low[last]) : param[last]);
        first[last] = m;
        second[last] = v;
        if (SPLIT) {
            master_split(p, high[last], low[last]);
        } else {
            param[last] = p;
        }
    }
}

extern "C" void bif_cuda_adamw(bif_device *device, const bif_adamw_args *args)
{
    const int64_t n = bif_numel(args->param);
    if (n == 0) {
        return;
    }
    const bool split = args->low != NULL;
    const bool wide = aligned(args->m, 16) && aligned(args->v, 16) && aligned(args->grad, 16) && aligned(args->low, 8) &&
                      aligned(args->param, split ? 8 : 16);
    adamw_numbers k;
    k.b1 = (float)args->beta1;
    k.b2 = (float)args->beta2;
    k.c1 = (float)(1.0 - args->beta1);
    k.c2 = (float)(1.0 - args->beta2);
    k.keep = (float)(1.0 - args->lr * args->weight_decay);
    k.eps = (float)args->eps;
    k.scale = (float)args->grad_scale;
    k.rate = (float)(args->lr / (1.0 - pow(args->beta1, (double)args->step)));
    k.unbias = (float)(1.0 / (1.0 - pow(args->beta2, (double)args->step)));
    k.min = args->min;
    k.max = args->max;
    float *param = split ? NULL : bif_at<float>(args->param);
    uint16_t *high = split ? bif_at<uint16_t>(args->param) : NULL, *low = bif_at<uint16_t>(args->low);
    float *first = bif_at<float>(args->m), *second = bif_at<float>(args->v);
    const float *grad = bif_at<const float>(args->grad);
    const unsigned blocks = bif_grid(device, bif_blocks_of(n, wide ? 4 : 1), THREADS, 64);
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (split && wide) {
        BIF_LAUNCH((adamw<true, 4>), blocks, THREADS, 0, stream, n, k, param, high, low, first, second, grad);
    } else if (split) {
        BIF_LAUNCH((adamw<true, 1>), blocks, THREADS, 0, stream, n, k, param, high, low, first, second, grad);
    } else if (wide) {
        BIF_LAUNCH((adamw<false, 4>), blocks, THREADS, 0, stream, n, k, param, high, low, first, second, grad);
    } else {
        BIF_LAUNCH((adamw<false, 1>), blocks, THREADS, 0, stream, n, k, param, high, low, first, second, grad);
    }
    BIF_LAUNCHED("adamw");
}
