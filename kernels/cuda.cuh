/* What the CUDA kernels share. Included by *_cuda.cu only.
 *
 * A kernel is launched with BIF_LAUNCH and takes shared memory only through BIF_SHARED (dynamic, its size stated at the launch): so the
 * same sources also compile with a host compiler, where tests/emu runs the threads of a block one after the other and watches
 * every access. Barriers are __syncthreads, __syncwarp and the _sync shuffles and votes, reached by all threads they name.
 * Every op runs on the device's one stream, so its scratch is free again when the next op begins. */
#pragma once
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/device_cuda.h"
#include "kernels/ops.h"

#ifndef BIF_LAUNCH /* the emulation brings its own */
/* kernel: a name, or a template's instance in parentheses. blocks, threads: numbers or dim3; shared: bytes of BIF_SHARED. */
#define BIF_LAUNCH(kernel, blocks, threads, shared, stream, ...) kernel<<<blocks, threads, shared, stream>>>(__VA_ARGS__)
/* The block's dynamic shared memory as `type *name`, 16-byte aligned. */
#define BIF_SHARED(type, name)                                              \
    extern __shared__ __align__(16) unsigned char bif_shared_bytes[];       \
    type *const name = reinterpret_cast<type *>(bif_shared_bytes)
#endif

typedef __nv_bfloat16 bif_bf16;

/* bif_device.state of a CUDA device. */
typedef struct {
    int index, multiprocessors;
    cudaStream_t stream;    /* every op */
    cudaStream_t input;     /* host to device copies of the next micro-batch */
    cublasLtHandle_t blas;
    void *workspace;        /* of cuBLASLt */
    size_t workspace_bytes; /* 32 MiB */
    void *gemm_cache;       /* gemm_cuda.cu's own, NULL at open; bif_cuda_gemm_release at close */
    void *cudnn;            /* attention_cudnn.cu's own, NULL until its first use; bif_cudnn_release at close */
    void *scratch;          /* of the op that runs now */
    size_t scratch_bytes;   /* 64 MiB, fixed at open: nothing is allocated in a step */
    void *more;             /* device_cuda.cu's own */
} bif_cuda;

static inline bif_cuda *bif_cuda_of(const bif_device *device)
{
    return (bif_cuda *)device->state;
}

/* A CUDA call that fails outside of opening and allocation: the driver or a kernel broke, and nothing computed can be trusted. */
#define BIF_CUDA_MUST(call, what)                                                                          \
    do {                                                                                                   \
        cudaError_t bif_result = (call);                                                                   \
        BIF_BUG_IF(bif_result != cudaSuccess, "cuda: %s: %s", what, cudaGetErrorString(bif_result));       \
    } while (0)
/* After a launch: bad sizes are found here, broken kernels at the next synchronisation. */
#define BIF_LAUNCHED(op) BIF_CUDA_MUST(cudaGetLastError(), op)

/* Calls `body` with the C++ type `T` of a floating dtype. */
#define BIF_EACH_FLOAT(dtype, ...)           \
    do {                                     \
        if ((dtype) == BIF_DTYPE_BF16) {     \
            typedef bif_bf16 T;              \
            __VA_ARGS__;                     \
        } else {                             \
            typedef float T;                 \
            __VA_ARGS__;                     \
        }                                    \
    } while (0)

template <class T> static inline T *bif_at(const bif_tensor *t)
{
    return t == NULL ? NULL : (T *)t->data;
}

static inline int64_t bif_blocks_of(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit;
}

/* Grid of a grid-stride loop: enough blocks of `threads` to fill the GPU `waves` times, at most what `n` items need. */
static inline unsigned bif_grid(const bif_device *device, int64_t n, int threads, int waves)
{
    int64_t need = bif_blocks_of(n, threads), most = (int64_t)bif_cuda_of(device)->multiprocessors * waves;
    return (unsigned)(need < 1 ? 1 : need < most ? need : most);
}

/* True when the data of a tensor (or NULL) can be read 16 bytes at a time and `columns` is a whole number of these. */
static inline bool bif_wide(const bif_tensor *t, int64_t columns)
{
    return t == NULL || ((uintptr_t)t->data % 16 == 0 && columns % (int64_t)(16 / bif_dtype_size(t->dtype)) == 0);
}

__device__ __forceinline__ float bif_to_float(float x)
{
    return x;
}

__device__ __forceinline__ float bif_to_float(bif_bf16 x)
{
    return __bfloat162float(x);
}

template <class T> __device__ __forceinline__ T bif_from_float(float x);
template <> __device__ __forceinline__ float bif_from_float<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ bif_bf16 bif_from_float<bif_bf16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* N elements moved as one access of N * sizeof(T) <= 16 bytes. */
template <class T, int N> struct alignas(N * sizeof(T)) bif_pack {
    T at[N];
};
template <class T> struct bif_lanes {
    static constexpr int count = 16 / (int)sizeof(T); /* elements of a 16-byte access */
};

template <class T, int N> __device__ __forceinline__ void bif_load(const T *from, float (&x)[N])
{
    const bif_pack<T, N> pack = *reinterpret_cast<const bif_pack<T, N> *>(from);
#pragma unroll
    for (int i = 0; i < N; i++) {
        x[i] = bif_to_float(pack.at[i]);
    }
}

/* The word that is as long as an access. */
template <int BYTES> struct bif_word;
template <> struct bif_word<2> {
    typedef uint16_t type;
};
template <> struct bif_word<4> {
    typedef uint32_t type;
};
template <> struct bif_word<8> {
    typedef uint2 type;
};
template <> struct bif_word<16> {
    typedef uint4 type;
};

/* To global memory. By an intrinsic, because an assignment of the pack is up to the optimiser: nvcc 13.0 made one store an element of it
 * where a body stores twice (swiglu_backward) or is unrolled over a bound known at run time. */
template <class T, int N> __device__ __forceinline__ void bif_store(T *to, const float (&x)[N])
{
    bif_pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; i++) {
        pack.at[i] = bif_from_float<T>(x[i]);
    }
    typename bif_word<sizeof pack>::type word;
    memcpy(&word, &pack, sizeof word);
    __stwb(reinterpret_cast<typename bif_word<sizeof pack>::type *>(to), word);
}

/* Over the 32 lanes of a warp; every lane gets the result, and the order of the sum is fixed. */
__device__ __forceinline__ float bif_warp_sum(float x)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        x += __shfl_xor_sync(0xffffffffu, x, step);
    }
    return x;
}

__device__ __forceinline__ float bif_warp_max(float x)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    }
    return x;
}

/* Over a block of whole warps, at most 1024 threads; every thread gets the result. `shared` holds 32 floats nobody else uses;
 * it may be used again after the call. */
__device__ __forceinline__ float bif_block_sum(float x, float *shared)
{
    const int lane = (int)(threadIdx.x & 31u), warp = (int)(threadIdx.x >> 5), warps = (int)(blockDim.x >> 5);
    x = bif_warp_sum(x);
    __syncthreads();
    if (lane == 0) {
        shared[warp] = x;
    }
    __syncthreads();
    return bif_warp_sum(lane < warps ? shared[lane] : 0.0f);
}

__device__ __forceinline__ float bif_block_max(float x, float *shared)
{
    const int lane = (int)(threadIdx.x & 31u), warp = (int)(threadIdx.x >> 5), warps = (int)(blockDim.x >> 5);
    x = bif_warp_max(x);
    __syncthreads();
    if (lane == 0) {
        shared[warp] = x;
    }
    __syncthreads();
    return bif_warp_max(lane < warps ? shared[lane] : -INFINITY);
}
