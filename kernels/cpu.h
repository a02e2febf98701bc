/* What the CPU kernels share. Included by *_cpu.c only.
 *
 * Every *_cpu.c is compiled once for each instruction set with -DBIF_ISA=generic|avx2|avx512, so each function that is not
 * static is named through BIF_CPU: void BIF_CPU(rope)(bif_device *device, const bif_rope_args *args).
 * An op's function has the name of its entry in BIF_OPS; kernels/cpu_table_cpu.c puts them into the table. */
#pragma once
#include <omp.h>

#include "kernels/ops.h"

#define BIF_CPU_PASTE(name, isa) bif_cpu_##name##_##isa
#define BIF_CPU_EXPAND(name, isa) BIF_CPU_PASTE(name, isa)
#define BIF_CPU(name) BIF_CPU_EXPAND(name, BIF_ISA)

/* C = alpha * op(A) op(B) + beta * C, row-major, on the calling thread alone. op(A) is [m,k]: A is [m,lda] or, when ta, [k,lda].
 * op(B) is [k,n]: B is [k,ldb] or, when tb, [n,ldb]. C [m,ldc]. beta = 0 never reads C. `thread` is the caller's
 * omp_get_thread_num(): it owns a packing buffer apart from bif_cpu_scratch. Same inputs, same bits. */
void BIF_CPU(gemm)(bif_device *device, int thread, bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                   const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/* The same, and `done` is called once for each finished tile [row, +rows) x [column, +columns) of C while it is in cache. */
typedef void (*bif_gemm_done)(void *context, int64_t row, int64_t rows, int64_t column, int64_t columns);
void BIF_CPU(gemm_then)(bif_device *device, int thread, bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                        const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc,
                        bif_gemm_done done, void *context);

/* gemm's packing buffer: as bif_cpu_scratch, in a slot of its own. */
void *bif_cpu_pack(bif_device *device, int thread, size_t bytes);

/* The `part`-th of `parts` nearly equal ranges of [0, n): begin of part i is bif_part(n, parts, i), its end bif_part(n, parts, i + 1). */
static inline int64_t bif_part(int64_t n, int64_t parts, int64_t part)
{
    return n / parts * part + (n % parts < part ? n % parts : part);
}

static inline int64_t bif_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t bif_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Data pointer of an optional tensor. */
static inline float *bif_f32(const bif_tensor *t)
{
    return t == NULL ? NULL : (float *)t->data;
}

static inline const int32_t *bif_i32(const bif_tensor *t)
{
    return (const int32_t *)t->data;
}

/* Threads worth starting for `work` elementary steps: below about 16k floats a thread costs more to wake than it saves. */
static inline int bif_threads_for(const bif_device *device, int64_t work)
{
    int64_t useful = work / 16384 + 1;
    return (int)bif_min(useful, device->threads);
}
