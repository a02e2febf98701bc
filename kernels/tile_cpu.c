#include "kernels/tile.h"

/* Rows and vectors of one register block: ROWS * VECS sums, VECS of B and one broadcast fill the register file (32
 * vector registers with AVX-512, 16 below). */
#define ROWS BIF_TILE_ROWS
#if BIF_LANES == 16
#define VECS 3
#else
#define VECS 2
#endif

/* One register block. Inlined with constant rows, vecs and transposed, so that `sum` lives in registers. */
__attribute__((always_inline)) static inline void block(const int rows, const int vecs, const bool transposed,
                                                        int64_t k, const float *a, int64_t lda, const float *b,
                                                        int64_t ldb, bool add, float *c, int64_t ldc)
{
    bif_vec sum[ROWS][VECS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) {
            sum[i][j] = (bif_vec){0};
        }
    }
    for (int64_t x = 0; x < k; x++) {
        bif_vec right[VECS];
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) {
            right[j] = bif_load(b + x * ldb + j * BIF_LANES);
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            float left = transposed ? a[x * lda + i] : a[i * lda + x];
#pragma GCC unroll 3
            for (int j = 0; j < vecs; j++) {
                sum[i][j] += left * right[j];
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) {
            float *out = c + i * ldc + j * BIF_LANES;
            bif_store(out, add ? bif_load(out) + sum[i][j] : sum[i][j]);
        }
    }
}

#define CASE(R, V)                                                                                                     \
    case (R)*4 + (V):                                                                                                  \
        block(R, V, transposed, k, a, lda, b, ldb, add, c, ldc);                                                       \
        break;
#if VECS == 3
#define CASES(R) CASE(R, 1) CASE(R, 2) CASE(R, 3)
#else
#define CASES(R) CASE(R, 1) CASE(R, 2)
#endif

__attribute__((always_inline)) static inline void any_block(int rows, int vecs, const bool transposed, int64_t k,
                                                            const float *a, int64_t lda, const float *b, int64_t ldb,
                                                            bool add, float *c, int64_t ldc)
{
    switch (rows * 4 + vecs) {
        CASES(1)
        CASES(2)
        CASES(3)
        CASES(4)
#if ROWS >= 6
        CASES(5)
        CASES(6)
#endif
#if ROWS >= 8
        CASES(7)
        CASES(8)
#endif
    }
}

__attribute__((always_inline)) static inline void product(const bool transposed, int64_t m, int64_t n, int64_t k,
                                                          const float *a, int64_t lda, const float *b, int64_t ldb,
                                                          bool add, float *c, int64_t ldc)
{
    /* Even parts rather than full blocks and a small rest: 65 rows as 9 blocks of 7 or 8, not 8 of 8 and one of 1,
     * whose few sums could not cover the latency of the multiply-add. */
    int64_t row_parts = (m + ROWS - 1) / ROWS;
    int64_t vectors = n / BIF_LANES;
    int64_t column_parts = (vectors + VECS - 1) / VECS;
    for (int64_t q = 0; q < column_parts; q++) {
        int64_t v = bif_part(vectors, column_parts, q);
        int vecs = (int)(bif_part(vectors, column_parts, q + 1) - v);
        for (int64_t p = 0; p < row_parts; p++) {
            int64_t i = bif_part(m, row_parts, p);
            int rows = (int)(bif_part(m, row_parts, p + 1) - i);
            any_block(rows, vecs, transposed, k, transposed ? a + i : a + i * lda, lda, b + v * BIF_LANES, ldb, add,
                      c + i * ldc + v * BIF_LANES, ldc);
        }
    }
}

void BIF_CPU(tile)(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, bool add,
                   float *c, int64_t ldc)
{
    product(false, m, n, k, a, lda, b, ldb, add, c, ldc);
}

void BIF_CPU(tile_t)(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                     bool add, float *c, int64_t ldc)
{
    product(true, m, n, k, a, lda, b, ldb, add, c, ldc);
}

void BIF_CPU(pack_rows)(int64_t rows, int64_t columns, float factor, const float *source, int64_t stride, float *panel)
{
    int64_t whole = columns / BIF_LANES * BIF_LANES;
    int64_t width = bif_padded(columns);
    for (int64_t i = 0; i < rows; i++) {
        const float *from = source + i * stride;
        float *to = panel + i * width;
        for (int64_t j = 0; j < whole; j += BIF_LANES) {
            bif_store(to + j, factor * bif_load(from + j));
        }
        for (int64_t j = whole; j < width; j++) {
            to[j] = j < columns ? factor * from[j] : 0.0f;
        }
    }
}

/* Transposes BIF_LANES vectors in registers: each round interleaves the first half of the rows with the second, lane by
 * lane; after log2(BIF_LANES) rounds row and lane have changed places. */
static inline void transpose(bif_vec v[BIF_LANES])
{
    bif_veci lane = bif_lane_index();
    bif_veci low = (lane >> 1) + (lane & 1) * BIF_LANES;
    bif_veci high = low + BIF_LANES / 2;
#pragma GCC unroll 4
    for (int round = 1; round < BIF_LANES; round *= 2) {
        bif_vec next[BIF_LANES];
#pragma GCC unroll 8
        for (int i = 0; i < BIF_LANES / 2; i++) {
            next[2 * i] = __builtin_shuffle(v[i], v[i + BIF_LANES / 2], low);
            next[2 * i + 1] = __builtin_shuffle(v[i], v[i + BIF_LANES / 2], high);
        }
#pragma GCC unroll 16
        for (int i = 0; i < BIF_LANES; i++) {
            v[i] = next[i];
        }
    }
}

void BIF_CPU(pack_columns)(int64_t rows, int64_t columns, const float *source, int64_t stride, float *panel)
{
    int64_t width = bif_padded(rows);
    for (int64_t i = 0; i < width; i += BIF_LANES) {
        int64_t filled = bif_min(BIF_LANES, rows - i);
        for (int64_t j = 0; j < columns; j += BIF_LANES) {
            if (j + BIF_LANES <= columns) {
                bif_vec v[BIF_LANES];
#pragma GCC unroll 16
                for (int x = 0; x < BIF_LANES; x++) {
                    v[x] = x < filled ? bif_load(source + (i + x) * stride + j) : (bif_vec){0};
                }
                transpose(v);
#pragma GCC unroll 16
                for (int x = 0; x < BIF_LANES; x++) {
                    bif_store(panel + (j + x) * width + i, v[x]);
                }
                continue;
            }
            for (int64_t y = j; y < columns; y++) {
                for (int64_t x = 0; x < BIF_LANES; x++) {
                    panel[y * width + i + x] = x < filled ? source[(i + x) * stride + y] : 0.0f;
                }
            }
        }
    }
}
