/* Device code on the host: qualifiers, launches, indices, barriers, shuffles, votes, atomics, intrinsics.
 *
 * A kernel's threads are fibers (emu_fiber.cpp); what they call here that has to see other threads lives there. Arithmetic is the host's:
 * correctly rounded where the GPU is, and never worse than the GPU's approximations (__expf is expf). Every barrier and warp function
 * carries its file and line, so that a report can say where threads wait. */
#pragma once
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmath>
#include <tuple>
#include <type_traits>

#define __host__
#define __device__
#define __constant__
#define __grid_constant__
#define __global__ __attribute__((noinline))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
static const int warpSize = 32;
#ifndef __restrict__
#define __restrict__ __restrict
#endif

#define EMU_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

extern "C" {
/* Constant for a thread of a kernel, hence the attribute. */
uint3 emu_thread_index(void) __attribute__((const));
uint3 emu_block_index(void) __attribute__((const));
uint3 emu_block_dim(void) __attribute__((const));
uint3 emu_grid_dim(void) __attribute__((const));
int emu_lane(void) __attribute__((const));
void *emu_shared(void) __attribute__((const));
/* Waits for all threads of the block; returns how many came with a predicate that is not 0. */
int emu_barrier(int predicate, const char *file, int line);
void emu_warp_sync(unsigned mask, const char *file, int line);
uint64_t emu_shuffle(unsigned mask, uint64_t value, int from, const char *file, int line);
unsigned emu_ballot(unsigned mask, int predicate, const char *file, int line);
/* op: '+' '<' (minimum) '>' (maximum) '&' '|' '^'. */
uint32_t emu_reduce(unsigned mask, uint32_t value, int op, bool is_signed, const char *file, int line);
/* type: 'i' int, 'u' unsigned, 'l' unsigned long long, 'f' float, 'd' double. op: as above, '=' exchange, '?' compare and swap. Returns the
 * old bits. */
uint64_t emu_atomic(void *at, int type, int op, uint64_t value, uint64_t compare);
void emu_trap(const char *file, int line) __attribute__((noreturn));
void emu_launch(const char *kernel, const void *function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, const void *arguments,
                size_t bytes, void (*run)(const void *arguments));
cudaError_t emu_func_set(const void *function, cudaFuncAttribute attribute, int value);
cudaError_t emu_func_get(const void *function, cudaFuncAttributes *out);
}

#define threadIdx (emu_thread_index())
#define blockIdx (emu_block_index())
#define blockDim (emu_block_dim())
#define gridDim (emu_grid_dim())

/* ---- launches ---- */

template <class... P>
static inline void emu_launch_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                                     std::common_type_t<P>... args)
{
    typedef std::tuple<void (*)(P...), std::decay_t<P>...> call;
    const call c(kernel, args...);
    emu_launch(name, (const void *)kernel, grid, block, shared, stream, &c, sizeof c, [](const void *p) {
        std::apply([](void (*f)(P...), const std::decay_t<P> &...a) { f(a...); }, *static_cast<const call *>(p));
    });
}
#define BIF_LAUNCH(kernel, blocks, threads, shared, stream, ...) \
    emu_launch_kernel(#kernel, kernel, blocks, threads, shared, stream, ##__VA_ARGS__)
#define BIF_SHARED(type, name) type *const name = reinterpret_cast<type *>(emu_shared())

template <class F> static inline cudaError_t cudaFuncSetAttribute(F *function, cudaFuncAttribute attribute, int value)
{
    return emu_func_set((const void *)function, attribute, value);
}
template <class F> static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, F *function)
{
    return emu_func_get((const void *)function, out);
}
template <class F> static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, F *, int threads, size_t shared)
{
    const int by_threads = 2048 / (threads < 32 ? 32 : threads), by_shared = (int)(233472 / (shared + 1024));
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    return cudaSuccess;
}
template <class T> static inline cudaError_t cudaMalloc(T **out, size_t bytes)
{
    return cudaMalloc((void **)out, bytes);
}
template <class T> static inline cudaError_t cudaMallocHost(T **out, size_t bytes)
{
    return cudaMallocHost((void **)out, bytes);
}
template <class T> static inline cudaError_t cudaHostAlloc(T **out, size_t bytes, unsigned flags)
{
    return cudaHostAlloc((void **)out, bytes, flags);
}

/* ---- barriers, votes, shuffles ---- */

static inline void __syncthreads(EMU_WHERE) { (void)emu_barrier(0, file, line); }
static inline int __syncthreads_count(int p, EMU_WHERE) { return emu_barrier(p, file, line); }
static inline int __syncthreads_or(int p, EMU_WHERE) { return emu_barrier(p, file, line) != 0; }
static inline int __syncthreads_and(int p, EMU_WHERE) { return emu_barrier(!p, file, line) == 0; }
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_WHERE) { emu_warp_sync(mask, file, line); }
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}
static inline void __threadfence_system(void) {}

static inline unsigned __ballot_sync(unsigned mask, int p, EMU_WHERE) { return emu_ballot(mask, p, file, line); }
static inline int __any_sync(unsigned mask, int p, EMU_WHERE) { return emu_ballot(mask, p, file, line) != 0; }
static inline int __all_sync(unsigned mask, int p, EMU_WHERE) { return emu_ballot(mask, !p, file, line) == 0; }
static inline unsigned __reduce_add_sync(unsigned mask, unsigned v, EMU_WHERE) { return emu_reduce(mask, v, '+', false, file, line); }
static inline int __reduce_add_sync(unsigned mask, int v, EMU_WHERE) { return (int)emu_reduce(mask, (uint32_t)v, '+', true, file, line); }
static inline unsigned __reduce_max_sync(unsigned mask, unsigned v, EMU_WHERE) { return emu_reduce(mask, v, '>', false, file, line); }
static inline int __reduce_max_sync(unsigned mask, int v, EMU_WHERE) { return (int)emu_reduce(mask, (uint32_t)v, '>', true, file, line); }
static inline unsigned __reduce_min_sync(unsigned mask, unsigned v, EMU_WHERE) { return emu_reduce(mask, v, '<', false, file, line); }
static inline int __reduce_min_sync(unsigned mask, int v, EMU_WHERE) { return (int)emu_reduce(mask, (uint32_t)v, '<', true, file, line); }
static inline unsigned __reduce_and_sync(unsigned mask, unsigned v, EMU_WHERE) { return emu_reduce(mask, v, '&', false, file, line); }
static inline unsigned __reduce_or_sync(unsigned mask, unsigned v, EMU_WHERE) { return emu_reduce(mask, v, '|', false, file, line); }

template <class T> static inline T emu_shuffle_of(unsigned mask, T value, int from, const char *file, int line)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "shuffles move up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emu_shuffle(mask, bits, from, file, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, EMU_WHERE)
{
    return emu_shuffle_of(mask, value, (emu_lane() & ~(width - 1)) | (from & (width - 1)), file, line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_WHERE)
{
    const int lane = emu_lane(), from = lane - (int)delta;
    return emu_shuffle_of(mask, value, from < (lane & ~(width - 1)) ? lane : from, file, line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_WHERE)
{
    const int lane = emu_lane(), from = lane + (int)delta;
    return emu_shuffle_of(mask, value, from > (lane | (width - 1)) ? lane : from, file, line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMU_WHERE)
{
    const int lane = emu_lane(), from = lane ^ bits;
    return emu_shuffle_of(mask, value, from > (lane | (width - 1)) ? lane : from, file, line);
}

/* ---- atomics ---- */

template <class T> static inline T emu_atomic_of(T *at, int type, int op, T value, T compare = T())
{
    uint64_t bits = 0, other = 0;
    memcpy(&bits, &value, sizeof value);
    memcpy(&other, &compare, sizeof compare);
    bits = emu_atomic(at, type, op, bits, other);
    memcpy(&value, &bits, sizeof value);
    return value;
}
#define EMU_ATOMICS(T, type)                                                                           \
    static inline T atomicExch(T *at, T v) { return emu_atomic_of(at, type, '=', v); }                 \
    static inline T atomicAdd(T *at, T v) { return emu_atomic_of(at, type, '+', v); }
#define EMU_INTEGER_ATOMICS(T, type)                                                                   \
    EMU_ATOMICS(T, type)                                                                               \
    static inline T atomicSub(T *at, T v) { return emu_atomic_of(at, type, '+', (T)(0 - v)); }         \
    static inline T atomicMin(T *at, T v) { return emu_atomic_of(at, type, '<', v); }                  \
    static inline T atomicMax(T *at, T v) { return emu_atomic_of(at, type, '>', v); }                  \
    static inline T atomicAnd(T *at, T v) { return emu_atomic_of(at, type, '&', v); }                  \
    static inline T atomicOr(T *at, T v) { return emu_atomic_of(at, type, '|', v); }                   \
    static inline T atomicXor(T *at, T v) { return emu_atomic_of(at, type, '^', v); }                  \
    static inline T atomicCAS(T *at, T compare, T v) { return emu_atomic_of(at, type, '?', v, compare); }
EMU_ATOMICS(float, 'f')
EMU_ATOMICS(double, 'd')
EMU_INTEGER_ATOMICS(int, 'i')
EMU_INTEGER_ATOMICS(unsigned, 'u')
EMU_INTEGER_ATOMICS(unsigned long long, 'l')

/* ---- loads and stores with a cache hint ---- */

template <class T> static __forceinline__ T __ldg(const T *p) { return *p; }
template <class T> static __forceinline__ void __stwb(T *p, T x) { *p = x; }
template <class T> static __forceinline__ T __ldcg(const T *p) { return *p; }
template <class T> static __forceinline__ T __ldca(const T *p) { return *p; }
template <class T> static __forceinline__ T __ldcs(const T *p) { return *p; }
template <class T> static __forceinline__ T __ldlu(const T *p) { return *p; }
template <class T> static __forceinline__ void __stcg(T *p, std::common_type_t<T> v) { *p = v; }
template <class T> static __forceinline__ void __stcs(T *p, std::common_type_t<T> v) { *p = v; }
template <class T> static __forceinline__ void __stwb(T *p, std::common_type_t<T> v) { *p = v; }
template <class T> static __forceinline__ void __stwt(T *p, std::common_type_t<T> v) { *p = v; }

/* ---- arithmetic ---- */

template <class To, class From> static __forceinline__ To emu_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "the same number of bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return emu_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
static inline float __int_as_float(int x) { return emu_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return emu_bits<double>(x); }

static inline int __float2int_rn(float x) { return (int)lrintf(x); }
static inline int __float2int_rz(float x) { return (int)x; }
static inline int __float2int_rd(float x) { return (int)floorf(x); }
static inline int __float2int_ru(float x) { return (int)ceilf(x); }
static inline unsigned __float2uint_rn(float x) { return x > 0 ? (unsigned)llrintf(x) : 0u; }
static inline unsigned __float2uint_rz(float x) { return x > 0 ? (unsigned)x : 0u; }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __double2float_rn(double x) { return (float)x; }

static inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float fdividef(float x, float y) { return x / y; }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dmul_rn(double x, double y) { return x * y; }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
/* Macros, because glibc declares functions of these names. */
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __sinf sinf
#define __cosf cosf
#define __sincosf sincosf
#define __powf powf
#define __tanhf tanhf
static inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
static inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
static inline float sinpif(float x) { return (float)sin(3.14159265358979323846 * (double)x); }
static inline float cospif(float x) { return (float)cos(3.14159265358979323846 * (double)x); }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
static inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)(((uint64_t)x * y) >> 32); }
static inline int __mulhi(int x, int y) { return (int)(((int64_t)x * y) >> 32); }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y)
{
    return (unsigned long long)(((unsigned __int128)x * y) >> 64);
}
static inline unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++) {
        r |= ((x >> i) & 1u) << (31 - i);
    }
    return r;
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift)
{
    return (unsigned)(((((uint64_t)high << 32) | low) << (shift & 31u)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift)
{
    return (unsigned)((((uint64_t)high << 32) | low) >> (shift & 31u));
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t both = ((uint64_t)y << 32) | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned s = (selector >> (4 * i)) & 15u, byte = (unsigned)(both >> (8 * (s & 7u))) & 255u;
        r |= (s & 8u ? (byte & 128u ? 255u : 0u) : byte) << (8 * i);
    }
    return r;
}

/* CUDA has min and max of mixed arithmetic types without a namespace. */
template <class A, class B> static __forceinline__ constexpr std::common_type_t<A, B> min(A a, B b)
{
    typedef std::common_type_t<A, B> T;
    return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B> static __forceinline__ constexpr std::common_type_t<A, B> max(A a, B b)
{
    typedef std::common_type_t<A, B> T;
    return (T)a < (T)b ? (T)b : (T)a;
}

static __forceinline__ size_t __cvta_generic_to_shared(const void *p) { return (size_t)p; }
static inline void __trap(EMU_WHERE) { emu_trap(file, line); }
static inline void __nanosleep(unsigned) {}
