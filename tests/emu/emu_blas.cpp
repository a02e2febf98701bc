/* cuBLASLt on the host: see include/cublasLt.h. Each product checks its pointers: bounds, alignment of the element, unwritten input. */
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <stdlib.h>
#include <string.h>

#include "emu_internal.h"

struct emu_blas {
    int unused;
};
struct emu_matmul_desc {
    cublasComputeType_t compute;
    int32_t trans_a, trans_b;
    uint32_t epilogue;
    const void *bias;
    int32_t bias_type; /* -1: as D */
};
struct emu_matrix_layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld, stride;
    int32_t batch;
};
struct emu_matmul_preference {
    uint64_t workspace;
};

extern "C" const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS         ? "success"
           : status == CUBLAS_STATUS_INVALID_VALUE ? "an unsupported value or parameter was passed to the function"
           : status == CUBLAS_STATUS_NOT_SUPPORTED ? "the functionality requested is not supported"
                                                   : "an internal cuBLASLt operation failed";
}
extern "C" const char *cublasLtGetStatusName(cublasStatus_t status) { return cublasLtGetStatusString(status); }
extern "C" const char *cublasGetStatusString(cublasStatus_t status) { return cublasLtGetStatusString(status); }
extern "C" size_t cublasLtGetVersion(void) { return 130000; }

extern "C" cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = new emu_blas();
    return CUBLAS_STATUS_SUCCESS;
}
extern "C" cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- descriptions ---- */

static cublasStatus_t set(void *to, const void *value, size_t bytes, size_t wanted)
{
    if (value == NULL || bytes != wanted) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (scale != CUDA_R_32F) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *out = new emu_matmul_desc{compute, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL, -1};
    return CUBLAS_STATUS_SUCCESS;
}
extern "C" cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute,
                                                         const void *value, size_t bytes)
{
    int32_t mode = 0;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->trans_a, value, bytes, 4);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->trans_b, value, bytes, 4);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epilogue, value, bytes, 4);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&d->bias, value, bytes, sizeof(void *));
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(&d->bias_type, value, bytes, 4);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        if (set(&mode, value, bytes, 4) == CUBLAS_STATUS_SUCCESS && mode == CUBLASLT_POINTER_MODE_HOST) {
            return CUBLAS_STATUS_SUCCESS;
        }
        return CUBLAS_STATUS_NOT_SUPPORTED;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

extern "C" cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t cols,
                                                     int64_t ld)
{
    *out = NULL;
    if (type != CUDA_R_32F && type != CUDA_R_16BF) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *out = new emu_matrix_layout{type, rows, cols, ld, 0, 1};
    return CUBLAS_STATUS_SUCCESS;
}
extern "C" cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attribute,
                                                           const void *value, size_t bytes)
{
    int32_t order = 0;
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return set(&l->rows, value, bytes, 8);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return set(&l->cols, value, bytes, 8);
    case CUBLASLT_MATRIX_LAYOUT_LD: return set(&l->ld, value, bytes, 8);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(&l->batch, value, bytes, 4);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(&l->stride, value, bytes, 8);
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return set(&l->type, value, bytes, 4);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return set(&order, value, bytes, 4) == CUBLAS_STATUS_SUCCESS && order == CUBLASLT_ORDER_COL ? CUBLAS_STATUS_SUCCESS
                                                                                                   : CUBLAS_STATUS_NOT_SUPPORTED;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = new emu_matmul_preference{0};
    return CUBLAS_STATUS_SUCCESS;
}
extern "C" cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}
extern "C" cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t attribute,
                                                               const void *value, size_t bytes)
{
    uint32_t unused;
    return attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? set(&p->workspace, value, bytes, 8) : set(&unused, value, bytes, 4);
}

/* ---- products ---- */

typedef struct {
    int64_t m, n, k;
} sizes;

static cublasStatus_t sizes_of(const emu_matmul_desc *desc, const emu_matrix_layout *a, const emu_matrix_layout *b,
                               const emu_matrix_layout *c, const emu_matrix_layout *d, sizes *out)
{
    const bool ta = desc->trans_a != CUBLAS_OP_N, tb = desc->trans_b != CUBLAS_OP_N;
    const uint64_t m = ta ? a->cols : a->rows, k = ta ? a->rows : a->cols, kb = tb ? b->cols : b->rows, n = tb ? b->rows : b->cols;
    *out = {(int64_t)m, (int64_t)n, (int64_t)k};
    const bool fits = k == kb && d->rows == m && d->cols == n && c->rows == m && c->cols == n && m > 0 && n > 0 && k > 0;
    const bool leading = a->ld >= (int64_t)a->rows && b->ld >= (int64_t)b->rows && c->ld >= (int64_t)c->rows && d->ld >= (int64_t)d->rows;
    const bool batches = a->batch == d->batch && b->batch == d->batch && c->batch == d->batch;
    if (!fits || !leading || !batches) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    /* As the library's table of types: A and B alike; C as D; bf16 inputs may give float. */
    const bool types =
        a->type == b->type && c->type == d->type && (a->type == d->type || (a->type == CUDA_R_16BF && d->type == CUDA_R_32F));
    const bool epilogue = desc->epilogue == CUBLASLT_EPILOGUE_DEFAULT || desc->epilogue == CUBLASLT_EPILOGUE_BIAS;
    return types && epilogue ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

extern "C" cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                                         cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                         cublasLtMatmulPreference_t, int wanted, cublasLtMatmulHeuristicResult_t *results,
                                                         int *count)
{
    sizes s;
    *count = 0;
    const char *wish = getenv("BIFOCAL_EMU_BLAS");
    if (wish != NULL && strcmp(wish, "none") == 0) { /* as the library where it has no kernel for a shape */
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    const cublasStatus_t status = sizes_of(desc, a, b, c, d, &s);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    for (int i = 0; i < 2 && i < wanted; i++) {
        memset(&results[i], 0, sizeof results[i]);
        results[i].algo.data[0] = 0xe40000u + (unsigned)i;
        results[i].workspaceSize = i == 0 ? 0 : 1024;
        results[i].wavesCount = 1.0f;
        (*count)++;
    }
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                               cublasLtMatmulAlgoConfigAttributes_t attribute, void *value, size_t bytes,
                                                               size_t *written)
{
    const int32_t number = attribute == CUBLASLT_ALGO_CONFIG_ID             ? (int32_t)(algo->data[0] & 255u)
                           : attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? 1
                                                                          : 0;
    if (bytes != 4) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(value, &number, 4);
    if (written != NULL) {
        *written = 4;
    }
    return CUBLAS_STATUS_SUCCESS;
}

static size_t size_of(int type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

static float get(const void *at, int type, int64_t i)
{
    return type == CUDA_R_32F ? ((const float *)at)[i] : (float)((const __nv_bfloat16 *)at)[i];
}

static void put(void *at, int type, int64_t i, float x)
{
    if (type == CUDA_R_32F) {
        ((float *)at)[i] = x;
    } else {
        ((__nv_bfloat16 *)at)[i] = __nv_bfloat16(x);
    }
}

/* The columns of a matrix are checked one by one: what lies between them is not the product's. */
static void check(const void *at, const emu_matrix_layout *l, bool write, const char *what)
{
    const size_t size = size_of(l->type);
    if ((uintptr_t)at % size != 0) {
        emu_fault(NULL, "address: %s at %p is not aligned to its element", what, at);
    }
    const bool dense = l->ld == (int64_t)l->rows;
    for (int64_t j = 0; j < (dense ? 1 : (int64_t)l->cols); j++) {
        char *column = (char *)at + (size_t)(j * l->ld) * size;
        const size_t bytes = size * l->rows * (dense ? l->cols : 1);
        if (write) {
            emu_memory_write(column, bytes, what);
        } else {
            emu_memory_read(column, bytes, what);
        }
    }
}

#ifdef __x86_64__
#define FAST __attribute__((optimize("O3"), target_clones("avx512f", "avx2", "default")))
#else
#define FAST __attribute__((optimize("O3")))
#endif

/* d += op(A) op(B), rows [m, k] and [k, n]: four rows of D at a time along pieces of rows of B, which vectorises; a piece of B stays in
 * cache. */
FAST static void product(const float *a, const float *b, float *d, sizes s)
{
    const int64_t wide = 512, deep = 64;
    for (int64_t j0 = 0; j0 < s.n; j0 += wide) {
        const int64_t n = s.n - j0 < wide ? s.n - j0 : wide;
        for (int64_t k0 = 0; k0 < s.k; k0 += deep) {
            const int64_t k1 = s.k - k0 < deep ? s.k : k0 + deep;
            int64_t i = 0;
            for (; i + 4 <= s.m; i += 4) {
                float *__restrict r0 = d + i * s.n + j0, *__restrict r1 = r0 + s.n, *__restrict r2 = r1 + s.n, *__restrict r3 = r2 + s.n;
                for (int64_t k = k0; k < k1; k++) {
                    const float *from = b + k * s.n + j0, *x = a + i * s.k + k;
                    const float x0 = x[0], x1 = x[s.k], x2 = x[2 * s.k], x3 = x[3 * s.k];
                    for (int64_t j = 0; j < n; j++) {
                        r0[j] += x0 * from[j];
                        r1[j] += x1 * from[j];
                        r2[j] += x2 * from[j];
                        r3[j] += x3 * from[j];
                    }
                }
            }
            for (; i < s.m; i++) {
                float *__restrict row = d + i * s.n + j0;
                for (int64_t k = k0; k < k1; k++) {
                    const float *from = b + k * s.n + j0;
                    const float x = a[i * s.k + k];
                    for (int64_t j = 0; j < n; j++) {
                        row[j] += x * from[j];
                    }
                }
            }
        }
    }
}

typedef struct {
    emu_matmul_desc desc;
    emu_matrix_layout a, b, c, d;
    float alpha, beta;
} job;

static void multiply(const job *w, const void *a, const void *b, const void *c, void *d, sizes s)
{
    std::vector<float> ta((size_t)(s.m * s.k)), tb((size_t)(s.k * s.n)), td((size_t)(s.m * s.n), 0.0f);
    for (int64_t col = 0; col < (int64_t)w->a.cols; col++) {
        for (int64_t row = 0; row < (int64_t)w->a.rows; row++) {
            const float x = get(a, w->a.type, row + col * w->a.ld);
            ta[(size_t)(w->desc.trans_a ? col * s.k + row : row * s.k + col)] = x;
        }
    }
    for (int64_t col = 0; col < (int64_t)w->b.cols; col++) {
        for (int64_t row = 0; row < (int64_t)w->b.rows; row++) {
            const float x = get(b, w->b.type, row + col * w->b.ld);
            tb[(size_t)(w->desc.trans_b ? col * s.n + row : row * s.n + col)] = x;
        }
    }
    product(ta.data(), tb.data(), td.data(), s);
    const int bias_type = w->desc.bias_type < 0 ? w->d.type : w->desc.bias_type;
    for (int64_t j = 0; j < s.n; j++) {
        for (int64_t i = 0; i < s.m; i++) {
            float x = w->alpha * td[(size_t)(i * s.n + j)];
            if (w->beta != 0.0f) {
                x += w->beta * get(c, w->c.type, i + j * w->c.ld);
            }
            if (w->desc.epilogue == CUBLASLT_EPILOGUE_BIAS) {
                x += get(w->desc.bias, bias_type, i);
            }
            put(d, w->d.type, i + j * w->d.ld, x);
        }
    }
}

static void run(const job *w, const char *a, const char *b, const char *c, char *d, sizes s)
{
    emu_lock lock;
    emu_memory_open();
    if (w->desc.epilogue == CUBLASLT_EPILOGUE_BIAS) {
        const int type = w->desc.bias_type < 0 ? w->d.type : w->desc.bias_type;
        emu_memory_read(w->desc.bias, (size_t)s.m * size_of(type), "the bias of a matrix product");
    }
    for (int32_t i = 0; i < w->d.batch; i++) {
        const char *ai = a + i * w->a.stride * (int64_t)size_of(w->a.type), *bi = b + i * w->b.stride * (int64_t)size_of(w->b.type);
        const char *ci = c + i * w->c.stride * (int64_t)size_of(w->c.type);
        char *di = d + i * w->d.stride * (int64_t)size_of(w->d.type);
        check(ai, &w->a, false, "A of a matrix product");
        check(bi, &w->b, false, "B of a matrix product");
        if (w->beta != 0.0f) {
            check(ci, &w->c, false, "C of a matrix product");
        }
        check(di, &w->d, true, "D of a matrix product");
        multiply(w, ai, bi, ci, di, s);
    }
    emu_memory_close();
}

extern "C" cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                                         cublasLtMatrixLayout_t al, const void *b, cublasLtMatrixLayout_t bl, const void *beta,
                                         const void *c, cublasLtMatrixLayout_t cl, void *d, cublasLtMatrixLayout_t dl,
                                         const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    sizes s;
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    const cublasStatus_t status = sizes_of(desc, al, bl, cl, dl, &s);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    if (algo != NULL && (algo->data[0] & ~1ull) != 0xe40000u) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (algo != NULL && algo->data[0] == 0xe40001u && (workspace == NULL || workspace_bytes < 1024)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    const job work = {*desc, *al, *bl, *cl, *dl, *(const float *)alpha, *(const float *)beta};
    emu_submit(stream, "cublasLtMatmul", [=] { run(&work, (const char *)a, (const char *)b, (const char *)c, (char *)d, s); });
    return CUBLAS_STATUS_SUCCESS;
}
