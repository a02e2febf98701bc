/* Softmax cross-entropy and argmax, a block a row. The loss reads a row once, with a running maximum and sum; the gradient reads it again,
 * mostly from the second cache (a row of 152,000 bf16 is 300 KB), and writes it. */
#include "kernels/cuda.cuh"

/* bf16 results have 8 bits: the fast exponential's 2^-22 is not seen in them. */
template <class T> __device__ __forceinline__ float exponential(float x);
template <> __device__ __forceinline__ float exponential<float>(float x)
{
    return expf(x);
}
template <> __device__ __forceinline__ float exponential<bif_bf16>(float x)
{
    return __expf(x);
}

/* A thread's peak so far, and the sum of e^(x - peak). NaN passes the maximum and stays in the sum. */
template <class T, int N> __device__ __forceinline__ void take(const float (&x)[N], float *peak, float *sum)
{
    float high = x[0];
#pragma unroll
    for (int j = 1; j < N; j++) {
        high = fmaxf(high, x[j]);
    }
    if (high > *peak) {
        *sum *= exponential<T>(*peak - high);
        *peak = high;
    }
    const float base = *peak == -INFINITY ? 0.0f : *peak; /* nothing but -inf yet: e^-inf = 0, where -inf - -inf would be NaN */
#pragma unroll
    for (int j = 0; j < N; j++) {
        *sum += exponential<T>(x[j] - base);
    }
}

/* A target outside of [0, v) is no address: its row's loss and gradient become NaN, which the guard of the training step reports. */
template <class T, int N>
__global__ void __launch_bounds__(1024)
    cross_entropy_rows(int64_t rows, int64_t v, const T *logits, const int32_t *targets, const float *weights, int weight_step, float *loss,
                       T *dlogits)
{
    BIF_SHARED(float, shared);
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const T *x = logits + row * v;
        const int64_t target = targets[row];
        const float own = target < 0 || target >= v ? NAN : bif_to_float(x[target]); /* before dlogits, which may be logits, is written */
        const float weight = weights == NULL ? 1.0f : weights[row * weight_step];
        float peak = -INFINITY, sum = 0.0f;
#pragma unroll 2
        for (int64_t j = (int64_t)threadIdx.x * N; j < v; j += (int64_t)blockDim.x * N) {
            float some[N];
            bif_load<T, N>(x + j, some);
            take<T, N>(some, &peak, &sum);
        }
        const float high = bif_block_max(peak, shared);
        sum = bif_block_sum(sum * exponential<T>(peak - high), shared);
        if (loss != NULL && threadIdx.x == 0) {
            loss[row] = weight * (logf(sum) - (own - high));
        }
        if (dlogits != NULL) {
            T *p = dlogits + row * v;
            const float factor = own != own ? NAN : weight / sum;
            for (int64_t j = (int64_t)threadIdx.x * N; j < v; j += (int64_t)blockDim.x * N) {
                float some[N];
                bif_load<T, N>(x + j, some);
#pragma unroll
                for (int i = 0; i < N; i++) {
                    some[i] = exponential<T>(some[i] - high) * factor - (j + i == target ? weight : 0.0f);
                }
                bif_store<T, N>(p + j, some);
            }
        }
    }
}

/* Threads of a block for rows of v: a row of a vocabulary keeps 1024 busy for several loads, a short one does not. */
static int threads_for(int64_t v)
{
    return v >= 16384 ? 1024 : v >= 2048 ? 256 : 64;
}

static unsigned blocks_for(int64_t rows)
{
    return (unsigned)(rows < INT32_MAX ? rows : INT32_MAX);
}

template <class T> static void run(const bif_device *device, const bif_cross_entropy_args *args)
{
    const int64_t rows = args->logits->dim[0], v = args->logits->dim[1];
    const T *logits = bif_at<T>(args->logits);
    const int32_t *targets = bif_at<int32_t>(args->targets);
    const float *weight = bif_at<float>(args->weight);
    const int weight_step = args->weight != NULL && args->weight->dim[0] > 1;
    float *loss = bif_at<float>(args->loss);
    T *dlogits = bif_at<T>(args->dlogits);
    const unsigned blocks = blocks_for(rows);
    cudaStream_t stream = bif_cuda_of(device)->stream;
    constexpr int N = bif_lanes<T>::count;
    if (bif_wide(args->logits, v) && bif_wide(args->dlogits, v)) {
        BIF_LAUNCH((cross_entropy_rows<T, N>), blocks, threads_for(v), 32 * sizeof(float), stream, rows, v, logits, targets, weight,
                   weight_step, loss, dlogits);
    } else {
        BIF_LAUNCH((cross_entropy_rows<T, 1>), blocks, threads_for(v), 32 * sizeof(float), stream, rows, v, logits, targets, weight,
                   weight_step, loss, dlogits);
    }
    BIF_LAUNCHED("cross_entropy");
}

extern "C" void bif_cuda_cross_entropy(bif_device *device, const bif_cross_entropy_args *args)
{
    if (args->logits->dim[0] > 0) {
        BIF_EACH_FLOAT(args->logits->dtype, run<T>(device, args));
    }
}

/* ---- argmax ---- */

/* The larger value, of equal ones the lower index. */
__device__ __forceinline__ void choose(float *best, int32_t *at, float other, int32_t other_at)
{
    if (other > *best || (other == *best && other_at < *at)) {
        *best = other;
        *at = other_at;
    }
}

__device__ __forceinline__ void choose_in_warp(float *best, int32_t *at)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        const float other = __shfl_xor_sync(0xffffffffu, *best, step);
        const int32_t other_at = __shfl_xor_sync(0xffffffffu, *at, step);
        choose(best, at, other, other_at);
    }
}

template <class T, int N> __global__ void __launch_bounds__(1024) argmax_rows(int64_t rows, int64_t v, const T *x, int32_t *index)
{
    BIF_SHARED(float, peaks);
    int32_t *places = (int32_t *)(peaks + 32);
    const int lane = (int)(threadIdx.x & 31u), warp = (int)(threadIdx.x >> 5), warps = (int)(blockDim.x >> 5);
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        /* A thread that saw NaN and -inf only offers element 0, as the CPU does. */
        float best = -INFINITY;
        int32_t at = 0;
        for (int64_t j = (int64_t)threadIdx.x * N; j < v; j += (int64_t)blockDim.x * N) {
            float some[N];
            bif_load<T, N>(x + row * v + j, some);
#pragma unroll
            for (int i = 0; i < N; i++) {
                if (some[i] > best) { /* not for NaN */
                    best = some[i];
                    at = (int32_t)(j + i);
                }
            }
        }
        choose_in_warp(&best, &at);
        __syncthreads();
        if (lane == 0) {
            peaks[warp] = best;
            places[warp] = at;
        }
        __syncthreads();
        best = lane < warps ? peaks[lane] : -INFINITY;
        at = lane < warps ? places[lane] : 0;
        choose_in_warp(&best, &at);
        if (threadIdx.x == 0) {
            index[row] = at;
        }
    }
}

template <class T> static void run(const bif_device *device, const bif_argmax_args *args)
{
    const int64_t rows = args->x->dim[0], v = args->x->dim[1];
    BIF_BUG_IF(v > INT32_MAX, "argmax: rows of %lld have no i32 index", (long long)v);
    cudaStream_t stream = bif_cuda_of(device)->stream;
    constexpr int N = bif_lanes<T>::count;
    if (bif_wide(args->x, v)) {
        BIF_LAUNCH((argmax_rows<T, N>), blocks_for(rows), threads_for(v), 64 * sizeof(float), stream, rows, v, bif_at<T>(args->x),
                   bif_at<int32_t>(args->index));
    } else {
        BIF_LAUNCH((argmax_rows<T, 1>), blocks_for(rows), threads_for(v), 64 * sizeof(float), stream, rows, v, bif_at<T>(args->x),
                   bif_at<int32_t>(args->index));
    }
    BIF_LAUNCHED("argmax");
}

extern "C" void bif_cuda_argmax(bif_device *device, const bif_argmax_args *args)
{
    if (args->x->dim[0] > 0) {
        BIF_EACH_FLOAT(args->x->dtype, run<T>(device, args));
    }
}
