/* Products of small matrices that lie in the first caches, for the attention kernels: operands of 8 to 256 rows, where
 * the packing of a general gemm costs more than the product. Included by *_cpu.c only; made in tile_cpu.c.
 *
 * A "panel" is a matrix whose rows are padded to whole vectors: its leading dimension is a multiple of BIF_LANES and
 * the padding is zero, so products need no tails along columns. */
#pragma once
#include "kernels/cpu.h"
#include "kernels/vec.h"

/* Rows of A a register block takes at once. */
#if BIF_LANES == 16
#define BIF_TILE_ROWS 8
#elif BIF_LANES == 8
#define BIF_TILE_ROWS 6
#else
#define BIF_TILE_ROWS 4
#endif

/* n rounded up to whole vectors. */
static inline int64_t bif_padded(int64_t n)
{
    return (n + BIF_LANES - 1) / BIF_LANES * BIF_LANES;
}

/* C [m, n] = A [m, k] B [k, n], or C += A B when add. A [m, lda] row-major, B and C panels of n (a multiple of
 * BIF_LANES) columns used. k >= 1. Sums run over k in order, whatever m and n are. */
void BIF_CPU(tile)(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, bool add,
                   float *c, int64_t ldc);
/* The same with A given transposed, [k, lda]. */
void BIF_CPU(tile_t)(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                     bool add, float *c, int64_t ldc);

/* panel [rows, padded(columns)] = factor * source [rows, stride]. */
void BIF_CPU(pack_rows)(int64_t rows, int64_t columns, float factor, const float *source, int64_t stride, float *panel);
/* panel [columns, padded(rows)] = source [rows, stride] transposed. */
void BIF_CPU(pack_columns)(int64_t rows, int64_t columns, const float *source, int64_t stride, float *panel);
