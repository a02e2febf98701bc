/* cuBLASLt counts matrices by columns: a row-major [m,n] is its column-major [n,m]. So d = op(a) op(b) is asked for as
 * d^T = op(b)^T op(a)^T, with our b as its A, and nothing is moved. */
#include "kernels/gemm_cuda.cuh"

#include <stdlib.h>
#include <string.h>

/* Shapes of packed batches change with the data (supervised rows, images), so the table is bounded: full to LIMIT it starts anew. */
#define SLOTS   4096 /* a power of two, 0.6 MB */
#define LIMIT   3072
#define GUESSES 8
#define ROUNDS  4 /* of a guess, when timed */

#define LT_MUST(call, what)                                                                                          \
    do {                                                                                                             \
        cublasStatus_t lt_status = (call);                                                                           \
        BIF_BUG_IF(lt_status != CUBLAS_STATUS_SUCCESS, "gemm: %s: %s", what, cublasLtGetStatusString(lt_status));    \
    } while (0)

/* What decides how a product is computed; compared byte by byte, so without padding. */
typedef struct {
    int64_t m, n, k;
    uint8_t transposes, types, has_bias, has_c;
    uint8_t align_a, align_b, align_d, spare; /* 16, or the largest power of two that divides the address */
} gemm_key;
static_assert(sizeof(gemm_key) == 32, "the key has no padding");

typedef struct {
    gemm_key key;
    bool used, plain; /* plain: cuBLASLt has no algorithm */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t first, second, result; /* our b, our a, d and c */
    cublasLtMatmulAlgo_t algo;
} gemm_plan;

typedef struct {
    int used;
    bool tune;
    gemm_plan slots[SLOTS];
} gemm_cache;

static uint8_t alignment_of(const void *p)
{
    uintptr_t bits = (uintptr_t)p | 16; /* no kernel of cuBLASLt asks for more */
    return (uint8_t)(bits & (~bits + 1));
}

static uint8_t lesser(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

static gemm_key key_of(const bif_gemm_args *args)
{
    gemm_key key = {};
    key.m = args->m;
    key.n = args->n;
    key.k = args->k;
    key.transposes = (uint8_t)(args->trans_a | args->trans_b << 1);
    key.types = (uint8_t)(args->in | args->out << 4);
    key.has_bias = args->bias != NULL;
    key.has_c = args->beta != 0.0f;
    key.align_a = alignment_of(args->a);
    key.align_b = alignment_of(args->b);
    key.align_d = alignment_of(args->d);
    if (key.has_c) {
        key.align_d = lesser(key.align_d, alignment_of(args->c));
    }
    if (key.has_bias) {
        key.align_d = lesser(key.align_d, alignment_of(args->bias)); /* cuBLASLt has no alignment of its own for the bias */
    }
    return key;
}

static uint64_t hash_of(const gemm_key *key)
{
    uint64_t words[sizeof *key / 8], hash = 0;
    memcpy(words, key, sizeof words);
    for (uint64_t word : words) {
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return hash;
}

/* ---- the fallback ---- */

#define TILE 16

/* Any shape, any alignment, and slow (no tensor cores): for what cuBLASLt does not take. A block computes a tile of d, a thread one
 * element. *_row, *_column: elements from one row or column of op(a), op(b) to the next. */
template <class A, class D>
__global__ void __launch_bounds__(TILE *TILE)
    plain_product(int64_t m, int64_t n, int64_t k, int64_t a_row, int64_t a_column, int64_t b_row, int64_t b_column, float alpha,
                  float beta, const A *a, const A *b, const D *c, D *d, const D *bias)
{
    BIF_SHARED(float, shared);
    float *a_tile = shared, *b_tile = shared + TILE * (TILE + 1);
    const int x = (int)threadIdx.x % TILE, y = (int)threadIdx.x / TILE;
    const int64_t across = (n + TILE - 1) / TILE;
    const int64_t row = (int64_t)blockIdx.x / across * TILE + y, column = (int64_t)blockIdx.x % across * TILE + x;
    float sum = 0.0f;
    for (int64_t depth = 0; depth < k; depth += TILE) {
        a_tile[y * (TILE + 1) + x] = row < m && depth + x < k ? bif_to_float(a[row * a_row + (depth + x) * a_column]) : 0.0f;
        b_tile[y * (TILE + 1) + x] = column < n && depth + y < k ? bif_to_float(b[(depth + y) * b_row + column * b_column]) : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; i++) {
            sum = fmaf(a_tile[y * (TILE + 1) + i], b_tile[i * (TILE + 1) + x], sum);
        }
        __syncthreads();
    }
    if (row < m && column < n) {
        const int64_t at = row * n + column;
        sum = alpha * sum + (bias == NULL ? 0.0f : bif_to_float(bias[column]));
        d[at] = bif_from_float<D>(beta == 0.0f ? sum : sum + beta * bif_to_float(c[at]));
    }
}

template <class A, class D> static void run_plain(const bif_cuda *cuda, const bif_gemm_args *args)
{
    const int64_t m = args->m, n = args->n, k = args->k, blocks = bif_blocks_of(m, TILE) * bif_blocks_of(n, TILE);
    BIF_BUG_IF(blocks > INT32_MAX, "gemm: a result of %lld x %lld is too large", (long long)m, (long long)n);
    BIF_LAUNCH((plain_product<A, D>), (unsigned)blocks, TILE * TILE, 2 * TILE * (TILE + 1) * sizeof(float), cuda->stream, m, n, k,
               args->trans_a ? 1 : k, args->trans_a ? m : 1, args->trans_b ? 1 : n, args->trans_b ? k : 1, args->alpha, args->beta,
               (const A *)args->a, (const A *)args->b, (const D *)args->c, (D *)args->d, (const D *)args->bias);
    BIF_LAUNCHED("gemm");
}

static void plain(const bif_cuda *cuda, const bif_gemm_args *args)
{
    if (args->in == BIF_DTYPE_F32) {
        run_plain<float, float>(cuda, args);
    } else {
        BIF_EACH_FLOAT(args->out, (run_plain<bif_bf16, T>(cuda, args)));
    }
}

/* ---- cuBLASLt ---- */

static cublasStatus_t multiply(const bif_cuda *cuda, const gemm_plan *plan, const cublasLtMatmulAlgo_t *algo, const bif_gemm_args *args,
                               const void *c, void *d)
{
    if (args->bias != NULL) {
        LT_MUST(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &args->bias, sizeof args->bias), "bias");
    }
    return cublasLtMatmul(cuda->blas, plan->operation, &args->alpha, args->b, plan->first, args->a, plan->second, &args->beta, c,
                          plan->result, d, plan->result, algo, cuda->workspace, cuda->workspace_bytes, cuda->stream);
}

static cudaDataType_t type_of(bif_dtype dtype)
{
    return dtype == BIF_DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* A row-major [rows, columns]. */
static cublasLtMatrixLayout_t layout_of(bif_dtype dtype, int64_t rows, int64_t columns)
{
    cublasLtMatrixLayout_t layout = NULL;
    LT_MUST(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), (uint64_t)columns, (uint64_t)rows, columns), "layout");
    return layout;
}

static void describe(gemm_plan *plan, const bif_gemm_args *args)
{
    const int64_t m = args->m, n = args->n, k = args->k;
    LT_MUST(cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
    const cublasOperation_t first = args->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = args->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    LT_MUST(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first), "transposition");
    LT_MUST(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second), "transposition");
    if (args->bias != NULL) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        const int32_t type = (int32_t)type_of(args->out);
        LT_MUST(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue), "epilogue");
        LT_MUST(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type), "bias type");
        LT_MUST(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &args->bias, sizeof args->bias), "bias");
    }
    plan->first = layout_of(args->in, args->trans_b ? n : k, args->trans_b ? k : n);
    plan->second = layout_of(args->in, args->trans_a ? k : m, args->trans_a ? m : k);
    plan->result = layout_of(args->out, m, n);
}

static void wish_for(cublasLtMatmulPreference_t wish, cublasLtMatmulPreferenceAttributes_t what, uint32_t value)
{
    LT_MUST(cublasLtMatmulPreferenceSetAttribute(wish, what, &value, sizeof value), "preference");
}

/* The guesses that work, best first; none when cuBLASLt has nothing for these shapes and alignments. Rows that are no multiple of 16 bytes
 * (a bf16 k or n not divisible by 8) are known to it from the layouts: it then takes kernels with narrower loads. */
static int guess(const bif_cuda *cuda, const gemm_plan *plan, cublasLtMatmulHeuristicResult_t *results)
{
    cublasLtMatmulPreference_t wish = NULL;
    LT_MUST(cublasLtMatmulPreferenceCreate(&wish), "preference");
    const uint64_t workspace = cuda->workspace_bytes;
    LT_MUST(cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace),
            "preference");
    /* A product split along k is summed in fp32 in the workspace, never in a bf16 d. */
    wish_for(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    wish_for(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, plan->key.align_b);
    wish_for(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, plan->key.align_a);
    wish_for(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, plan->key.align_d);
    wish_for(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, plan->key.align_d);
    int found = 0, good = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(cuda->blas, plan->operation, plan->first, plan->second, plan->result,
                                                           plan->result, wish, GUESSES, results, &found);
    BIF_BUG_IF(status != CUBLAS_STATUS_SUCCESS && status != CUBLAS_STATUS_NOT_SUPPORTED, "gemm: choosing an algorithm: %s",
               cublasLtGetStatusString(status));
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < found; i++) {
        if (results[i].state == CUBLAS_STATUS_SUCCESS) {
            results[good++] = results[i];
        }
    }
    LT_MUST(cublasLtMatmulPreferenceDestroy(wish), "preference");
    return good;
}

/* Index of the fastest guess. The products go to memory of their own, because the real one may be added to (beta = 1) and must see one
 * product only; when that memory is not to be had the first guess stands. This synchronises, once for each kind of product. */
static int fastest(const bif_cuda *cuda, const gemm_plan *plan, const bif_gemm_args *args, const cublasLtMatmulHeuristicResult_t *results,
                   int count)
{
    void *aside = NULL;
    const size_t bytes = (size_t)args->m * (size_t)args->n * bif_dtype_size(args->out);
    if (cudaMalloc(&aside, bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    cudaEvent_t from, to;
    BIF_CUDA_MUST(cudaEventCreate(&from), "gemm tuning");
    BIF_CUDA_MUST(cudaEventCreate(&to), "gemm tuning");
    BIF_CUDA_MUST(cudaMemsetAsync(aside, 0, bytes, cuda->stream), "gemm tuning");
    int best = 0;
    float least = INFINITY;
    for (int i = 0; i < count; i++) {
        if (multiply(cuda, plan, &results[i].algo, args, aside, aside) != CUBLAS_STATUS_SUCCESS) { /* and warms up */
            (void)cudaGetLastError(); /* or the next launch would be blamed for it */
            continue;
        }
        BIF_CUDA_MUST(cudaEventRecord(from, cuda->stream), "gemm tuning");
        for (int round = 0; round < ROUNDS; round++) {
            LT_MUST(multiply(cuda, plan, &results[i].algo, args, aside, aside), "tuning");
        }
        BIF_CUDA_MUST(cudaEventRecord(to, cuda->stream), "gemm tuning");
        BIF_CUDA_MUST(cudaEventSynchronize(to), "gemm tuning");
        float took = 0.0f;
        BIF_CUDA_MUST(cudaEventElapsedTime(&took, from, to), "gemm tuning");
        if (took < least) {
            least = took;
            best = i;
        }
    }
    BIF_CUDA_MUST(cudaEventDestroy(from), "gemm tuning");
    BIF_CUDA_MUST(cudaEventDestroy(to), "gemm tuning");
    BIF_CUDA_MUST(cudaFree(aside), "gemm tuning");
    return best;
}

static void forget(gemm_cache *cache)
{
    for (int i = 0; i < SLOTS; i++) {
        gemm_plan *plan = &cache->slots[i];
        if (plan->used) {
            LT_MUST(cublasLtMatmulDescDestroy(plan->operation), "operation");
            LT_MUST(cublasLtMatrixLayoutDestroy(plan->first), "layout");
            LT_MUST(cublasLtMatrixLayoutDestroy(plan->second), "layout");
            LT_MUST(cublasLtMatrixLayoutDestroy(plan->result), "layout");
            plan->used = false;
        }
    }
    cache->used = 0;
}

static gemm_cache *cache_of(bif_cuda *cuda)
{
    if (cuda->gemm_cache == NULL) {
        gemm_cache *cache = (gemm_cache *)bif_calloc(1, sizeof *cache);
        const char *wish = getenv("BIFOCAL_AUTOTUNE");
        cache->tune = wish != NULL && strcmp(wish, "1") == 0;
        cuda->gemm_cache = cache;
    }
    return (gemm_cache *)cuda->gemm_cache;
}

/* The plan of this key, or the free slot where it belongs. */
static gemm_plan *slot_of(gemm_cache *cache, const gemm_key *key)
{
    uint64_t at = hash_of(key) % SLOTS;
    while (cache->slots[at].used && memcmp(&cache->slots[at].key, key, sizeof *key) != 0) {
        at = (at + 1) % SLOTS;
    }
    return &cache->slots[at];
}

static const gemm_plan *plan_of(const bif_device *device, bif_cuda *cuda, const bif_gemm_args *args)
{
    gemm_cache *cache = cache_of(cuda);
    const gemm_key key = key_of(args);
    gemm_plan *plan = slot_of(cache, &key);
    if (plan->used) {
        return plan;
    }
    if (cache->used >= LIMIT) {
        forget(cache);
        plan = slot_of(cache, &key);
    }
    cache->used++;
    plan->used = true;
    plan->key = key;
    describe(plan, args);
    cublasLtMatmulHeuristicResult_t results[GUESSES];
    const int count = guess(cuda, plan, results);
    plan->plain = count == 0;
    if (count > 0) {
        cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
        BIF_CUDA_MUST(cudaStreamIsCapturing(cuda->stream, &capture), "gemm");
        const bool tune = cache->tune && !device->deterministic && count > 1 && capture == cudaStreamCaptureStatusNone;
        plan->algo = results[tune ? fastest(cuda, plan, args, results, count) : 0].algo;
    }
    return plan;
}

void bif_cuda_gemm(const bif_device *device, const bif_gemm_args *args)
{
    const int64_t m = args->m, n = args->n, k = args->k;
    if (m == 0 || n == 0) {
        return;
    }
    BIF_BUG_IF(k <= 0, "gemm: a product over no elements");
    BIF_BUG_IF(m > INT32_MAX || n > INT32_MAX || k > INT32_MAX, "gemm: %lld x %lld x %lld is beyond cuBLASLt", (long long)m, (long long)n,
               (long long)k);
    BIF_BUG_IF(args->in == BIF_DTYPE_F32 && args->out != BIF_DTYPE_F32, "gemm: f32 inputs have an f32 result");
    bif_cuda *cuda = bif_cuda_of(device);
    const gemm_plan *plan = plan_of(device, cuda, args);
    if (plan->plain) {
        plain(cuda, args);
        return;
    }
    LT_MUST(multiply(cuda, plan, &plan->algo, args, args->beta == 0.0f ? args->d : args->c, args->d), "product");
}

void bif_cuda_gemm_release(bif_cuda *cuda)
{
    if (cuda->gemm_cache != NULL) {
        forget((gemm_cache *)cuda->gemm_cache);
        free(cuda->gemm_cache);
        cuda->gemm_cache = NULL;
    }
}
