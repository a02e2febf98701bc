/* Single-precision matrix product of one thread.
 *
 * Why not cblas_sgemm: OpenBLAS 0.3.21 does not know processors newer than itself and then takes its AVX2 kernels (200 GFLOP/s on two
 * Zen 5 cores where AVX-512 reaches 370), its choice cannot be changed after the program has started, and it gives no way to
 * finish a tile (bias, activation, residual) while it is in cache.
 *
 * B is packed by blocks of at most KC x NC into panels [k][NR], which stay in L2; strips of MR rows of A are read where they are
 * (or, when A is transposed, copied to [k][MR]) and stay in L1; MR x NR accumulators stay in registers. */
#include <string.h>

#include "kernels/cpu.h"

#if defined(__AVX512F__)
#define LANES 16
#define MR 12
#elif defined(__AVX2__)
#define LANES 8
#define MR 6
#else
#define LANES 4
#define MR 4
#endif
#define NR (2 * LANES)
#define KC 512
#define PANELS (128 * 1024) /* floats of packed B: half a mebibyte of L2 */
#define ROWS (MR * 16)      /* rows between two calls of `done`: such a tile is still in L2 */

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float vec_loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float vec4 __attribute__((vector_size(16)));
typedef int int4 __attribute__((vector_size(16)));
typedef float vec4_loose __attribute__((vector_size(16), aligned(4), may_alias));

/* ---- packing ---- */

/* Panel [k][NR] of columns [0, columns) of op(B), missing columns zero. */
static void pack_panel(bool tb, int64_t k, int64_t columns, const float *b, int64_t ldb, float *panel)
{
    if (!tb) {
        for (int64_t p = 0; p < k; p++) {
            memcpy(panel + p * NR, b + p * ldb, (size_t)columns * sizeof(float));
            memset(panel + p * NR + columns, 0, (size_t)(NR - columns) * sizeof(float));
        }
        return;
    }
    int64_t whole = columns / 4 * 4, deep = k / 4 * 4;
    for (int64_t j = 0; j < whole; j += 4) {
        const float *from = b + j * ldb;
        for (int64_t p = 0; p < deep; p += 4) {
            vec4 r0 = *(const vec4_loose *)(from + p), r1 = *(const vec4_loose *)(from + ldb + p);
            vec4 r2 = *(const vec4_loose *)(from + 2 * ldb + p), r3 = *(const vec4_loose *)(from + 3 * ldb + p);
            vec4 a0 = __builtin_shuffle(r0, r1, (int4){0, 4, 1, 5}), a1 = __builtin_shuffle(r2, r3, (int4){0, 4, 1, 5});
            vec4 a2 = __builtin_shuffle(r0, r1, (int4){2, 6, 3, 7}), a3 = __builtin_shuffle(r2, r3, (int4){2, 6, 3, 7});
            float *to = panel + p * NR + j;
            *(vec4 *)(to) = __builtin_shuffle(a0, a1, (int4){0, 1, 4, 5});
            *(vec4 *)(to + NR) = __builtin_shuffle(a0, a1, (int4){2, 3, 6, 7});
            *(vec4 *)(to + 2 * NR) = __builtin_shuffle(a2, a3, (int4){0, 1, 4, 5});
            *(vec4 *)(to + 3 * NR) = __builtin_shuffle(a2, a3, (int4){2, 3, 6, 7});
        }
        for (int64_t p = deep; p < k; p++) {
            for (int64_t i = 0; i < 4; i++) {
                panel[p * NR + j + i] = from[i * ldb + p];
            }
        }
    }
    for (int64_t p = 0; p < k; p++) {
        for (int64_t j = whole; j < columns; j++) {
            panel[p * NR + j] = b[j * ldb + p];
        }
        for (int64_t j = columns; j < NR; j++) {
            panel[p * NR + j] = 0.0f;
        }
    }
}

/* Strip [k][MR] of rows [0, rows) of A^T, A being [k, lda]. */
static void pack_strip(int64_t k, int64_t rows, const float *a, int64_t lda, float *strip)
{
    if (rows == MR) {
        for (int64_t p = 0; p < k; p++) {
            memcpy(strip + p * MR, a + p * lda, MR * sizeof(float));
        }
        return;
    }
    for (int64_t p = 0; p < k; p++) {
        memcpy(strip + p * MR, a + p * lda, (size_t)rows * sizeof(float));
    }
}

/* ---- the inner product ---- */

/* out [rows][NR] = A B for one strip and one panel. Element (i, p) of A is a[i * row + p * step]; `rows` and `step` are constants
 * after inlining, so that all accumulators live in registers. */
static inline __attribute__((always_inline)) void micro(const int rows, int64_t k, const float *a, int64_t row, const int64_t step,
                                                        const float *panel, vec out[MR][2])
{
    vec acc[MR][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        acc[i][0] = acc[i][1] = (vec){0};
    }
    /* Every third row has a pointer; the rows between are reached by the index registers row and 2 row. */
    const float *base[(MR + 2) / 3];
#pragma GCC unroll 4
    for (int i = 0; i < (rows + 2) / 3; i++) {
        base[i] = a + 3 * i * row;
    }
#pragma GCC unroll 2
    for (int64_t p = 0; p < k; p++) {
        vec b0 = *(const vec *)panel, b1 = *(const vec *)(panel + LANES);
        panel += NR;
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            vec x = base[i / 3][i % 3 * row] - (vec){0};
            acc[i][0] += x * b0;
            acc[i][1] += x * b1;
        }
#pragma GCC unroll 4
        for (int i = 0; i < (rows + 2) / 3; i++) {
            base[i] += step;
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        out[i][0] = acc[i][0];
        out[i][1] = acc[i][1];
    }
}

#define EDGE(n)                                                   \
    case n:                                                       \
        if (strip) {                                              \
            micro(n, k, a, 1, MR, panel, out);                    \
        } else {                                                  \
            micro(n, k, a, row, 1, panel, out);                   \
        }                                                         \
        break;

static void multiply(int64_t rows, bool strip, int64_t k, const float *a, int64_t row, const float *panel, vec out[MR][2])
{
    switch (rows) {
        EDGE(1)
        EDGE(2)
        EDGE(3)
        EDGE(4)
#if MR > 4
        EDGE(5)
        EDGE(6)
#endif
#if MR > 6
        EDGE(7)
        EDGE(8)
        EDGE(9)
        EDGE(10)
        EDGE(11)
        EDGE(12)
#endif
    default:
        BIF_BUG_IF(true, "gemm: a strip of %lld rows", (long long)rows);
    }
}

/* C = alpha * out + beta * C for `rows` x `columns` of a strip's panel. */
static void store(int64_t rows, int64_t columns, float alpha, vec out[MR][2], float beta, float *c, int64_t ldc)
{
    if (columns < NR) {
        const float *from = (const float *)out;
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < columns; j++) {
                float old = beta == 0.0f ? 0.0f : beta * c[i * ldc + j];
                c[i * ldc + j] = alpha * from[i * NR + j] + old;
            }
        }
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        vec_loose *to = (vec_loose *)(c + i * ldc), *next = (vec_loose *)(c + i * ldc + LANES);
        if (beta == 0.0f) {
            *to = alpha * out[i][0];
            *next = alpha * out[i][1];
        } else {
            *to = alpha * out[i][0] + beta * *to;
            *next = alpha * out[i][1] + beta * *next;
        }
    }
}

void BIF_CPU(gemm_then)(bif_device *device, int thread, bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                        const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc,
                        bif_gemm_done done, void *context)
{
    if (m == 0 || n == 0) {
        return;
    }
    int64_t kc = bif_min(k, KC);
    int64_t nc = bif_max(PANELS / bif_max(kc, 1) / NR, 1) * NR;
    nc = bif_min(nc, (n + NR - 1) / NR * NR);
    float *packed = bif_cpu_pack(device, thread, (size_t)(kc * (nc + MR)) * sizeof(float));
    float *strip = packed + kc * nc;
    for (int64_t n0 = 0; n0 < n; n0 += nc) {
        int64_t columns = bif_min(nc, n - n0);
        /* At least once, so that k = 0 still scales C. */
        for (int64_t k0 = 0; k0 == 0 || k0 < k; k0 += KC) {
            int64_t depth = bif_min(KC, k - k0);
            for (int64_t j = 0; j < columns; j += NR) {
                const float *from = tb ? b + (n0 + j) * ldb + k0 : b + k0 * ldb + n0 + j;
                pack_panel(tb, depth, bif_min(NR, columns - j), from, ldb, packed + j * depth);
            }
            float scale_c = k0 == 0 ? beta : 1.0f;
            for (int64_t r0 = 0; r0 < m; r0 += ROWS) {
                int64_t last = bif_min(r0 + ROWS, m);
                for (int64_t r = r0; r < last; r += MR) {
                    int64_t rows = bif_min(MR, last - r);
                    const float *from = a + r * lda + k0;
                    if (ta) {
                        pack_strip(depth, rows, a + k0 * lda + r, lda, strip);
                        from = strip;
                    }
                    for (int64_t j = 0; j < columns; j += NR) {
                        vec out[MR][2];
                        multiply(rows, ta, depth, from, lda, packed + j * depth, out);
                        store(rows, bif_min(NR, columns - j), alpha, out, scale_c, c + r * ldc + n0 + j, ldc);
                    }
                }
                if (done != NULL && k0 + depth == k) {
                    done(context, r0, last - r0, n0, columns);
                }
            }
        }
    }
}

void BIF_CPU(gemm)(bif_device *device, int thread, bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                   const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    BIF_CPU(gemm_then)(device, thread, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, NULL, NULL);
}
