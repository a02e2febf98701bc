/* The pieces a kernel is made of, against their definitions: fragments of mma and ldmatrix, bf16 rounding, shuffles, votes, atomics; and
 * streams, graphs, counters and cuBLASLt. */
#include "kernels/cuda.cuh"
#include "kernels/mma.cuh"

#include "emu/emu.h"
#include "emu_test.h"

static uint32_t seed = 1;
static float number(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int)(seed >> 9) / 4194304.0f - 1.0f;
}

template <class T> static T *to_device(const T *host, size_t n)
{
    T *x = NULL;
    if (cudaMalloc(&x, n * sizeof(T)) != cudaSuccess || cudaMemcpy(x, host, n * sizeof(T), cudaMemcpyHostToDevice) != cudaSuccess) {
        abort();
    }
    return x;
}
template <class T> static void to_host(T *host, const T *x, size_t n)
{
    if (cudaGetLastError() != cudaSuccess || cudaMemcpy(host, x, n * sizeof(T), cudaMemcpyDeviceToHost) != cudaSuccess) {
        abort();
    }
}

/* ---- mma ---- */

/* swap: 0 right; 1 exchanges two registers of A, 2 those of B, 3 two of C. */
static __global__ void multiply(float *c, const bif_bf16 *a, const bif_bf16 *b, int swap)
{
    const int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4;
    const auto pair = [](bif_bf16 low, bif_bf16 high) {
        return (uint32_t)__bfloat16_as_ushort(low) | (uint32_t)__bfloat16_as_ushort(high) << 16;
    };
    uint32_t ra[4], rb[2];
    float rc[4];
    for (int r = 0; r < 4; r++) {
        const int row = g + 8 * (r & 1), col = 2 * t + 8 * (r >> 1);
        ra[r] = pair(a[row * 16 + col], a[row * 16 + col + 1]);
        rc[r] = c[(g + 8 * (r >> 1)) * 8 + 2 * t + (r & 1)];
    }
    for (int r = 0; r < 2; r++) {
        const int k = 2 * t + 8 * r;
        rb[r] = pair(b[k * 8 + g], b[(k + 1) * 8 + g]);
    }
    if (swap == 1) {
        const uint32_t x = ra[1];
        ra[1] = ra[2];
        ra[2] = x;
    } else if (swap == 2) {
        const uint32_t x = rb[0];
        rb[0] = rb[1];
        rb[1] = x;
    }
    bif_mma(rc, ra, rb);
    __syncwarp();
    for (int r = 0; r < 4; r++) {
        const int s = swap == 3 && r < 2 ? 1 - r : r;
        c[(g + 8 * (r >> 1)) * 8 + 2 * t + (r & 1)] = rc[s];
    }
}

static bool multiply_of(int swap)
{
    bif_bf16 a[256], b[128];
    float c[128], wanted[128], got[128];
    for (bif_bf16 &x : a) {
        x = __float2bfloat16_rn(number());
    }
    for (bif_bf16 &x : b) {
        x = __float2bfloat16_rn(number());
    }
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 8; j++) {
            double sum = c[i * 8 + j] = number();
            for (int k = 0; k < 16; k++) {
                sum += (double)(float)a[i * 16 + k] * (double)(float)b[k * 8 + j];
            }
            wanted[i * 8 + j] = (float)sum;
        }
    }
    float *dc = to_device(c, 128);
    BIF_LAUNCH(multiply, 1, 32, 0, 0, dc, to_device(a, 256), to_device(b, 128), swap);
    to_host(got, dc, 128);
    for (int i = 0; i < 128; i++) {
        if (fabsf(got[i] - wanted[i]) > 1e-5f) {
            fprintf(stderr, "mma differs at %d\n", i);
            return false;
        }
    }
    return true;
}
static bool mma_right(void) { return multiply_of(0); }
static bool mma_swapped_a(void) { return multiply_of(1); }
static bool mma_swapped_b(void) { return multiply_of(2); }
static bool mma_swapped_c(void) { return multiply_of(3); }

/* ---- ldmatrix ---- */

static __global__ void load_matrices(uint32_t *out, bool transposed)
{
    BIF_SHARED(uint16_t, s);
    const int lane = (int)threadIdx.x;
    for (int i = lane; i < 4 * 8 * 24; i += 32) {
        s[i] = (uint16_t)i;
    }
    __syncwarp();
    /* Matrix m, row r of 8 columns at a pitch of 24 elements. */
    const uint16_t *row = s + (lane / 8 * 8 + lane % 8) * 24 + 8;
    uint32_t r[4];
    if (transposed) {
        bif_ldmatrix_transposed(r, row);
    } else {
        bif_ldmatrix(r, row);
    }
    for (int m = 0; m < 4; m++) {
        out[lane * 4 + m] = r[m];
    }
}
static bool ldmatrix_of(bool transposed)
{
    uint32_t got[128] = {0};
    uint32_t *out = to_device(got, 128);
    BIF_LAUNCH(load_matrices, 1, 32, 4 * 8 * 24 * 2, 0, out, transposed);
    to_host(got, out, 128);
    for (int lane = 0; lane < 32; lane++) {
        const uint32_t g = (uint32_t)lane / 4, t = (uint32_t)lane % 4;
        for (uint32_t m = 0; m < 4; m++) {
            const uint32_t row = transposed ? 2 * t : g, col = transposed ? g : 2 * t;
            const uint32_t low = (8 * m + row) * 24 + 8 + col, high = transposed ? low + 24 : low + 1;
            if (got[lane * 4 + (int)m] != (low | high << 16)) {
                return false;
            }
        }
    }
    return true;
}
static bool ldmatrix_plain(void) { return ldmatrix_of(false); }
static bool ldmatrix_transposed(void) { return ldmatrix_of(true); }

/* ---- bf16 ---- */

/* The definition: the nearer of the two neighbours, the even one of equals; distances are exact in double. */
static bool bf16_rounding(void)
{
    static const uint32_t lowers[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x4000, 0xc000};
    for (uint32_t upper = 0; upper < 65536; upper++) {
        for (uint32_t lower : lowers) {
            const float x = __uint_as_float(upper << 16 | lower);
            const uint16_t got = __bfloat16_as_ushort(__float2bfloat16_rn(x));
            uint32_t wanted;
            if (x != x) {
                wanted = 0x7fff;
            } else if ((upper & 0x7f80u) == 0x7f80u) {
                wanted = upper; /* infinity */
            } else {
                /* The upper neighbour of the largest finite number counts as 2^128. */
                const double down = __uint_as_float(upper << 16), up = (upper & 0x7fffu) == 0x7f7fu
                                                                           ? (down > 0 ? 0x1p128 : -0x1p128)
                                                                           : (double)__uint_as_float((upper + 1) << 16);
                const double to_down = fabs((double)x - down), to_up = fabs((double)x - up);
                wanted = to_down < to_up || (to_down == to_up && upper % 2 == 0) ? upper : upper + 1;
            }
            const bif_bf16 stored = __ushort_as_bfloat16((uint16_t)upper);
            if (got != wanted || __float_as_uint(__bfloat162float(stored)) != upper << 16) {
                fprintf(stderr, "0x%04x%04x gives 0x%04x and not 0x%04x\n", upper, lower, got, wanted);
                return false;
            }
            if (bif_pair(x, 1.0f) != (wanted | 0x3f80u << 16)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- warps and atomics ---- */

static __global__ void warp_functions(int *out)
{
    const int i = (int)threadIdx.x, lane = i % 32;
    bool good = __shfl_sync(0xffffffffu, i, 5) == i - lane + 5;
    good = good && __shfl_sync(0xffffffffu, lane, 1, 8) == lane / 8 * 8 + 1;
    good = good && __shfl_xor_sync(0xffffffffu, lane, 3) == (lane ^ 3);
    good = good && __shfl_up_sync(0xffffffffu, lane, 2) == (lane < 2 ? lane : lane - 2);
    good = good && __shfl_down_sync(0xffffffffu, lane, 2) == (lane > 29 ? lane : lane + 2);
    good = good && __shfl_down_sync(0xffffffffu, (double)lane, 1, 4) == (double)(lane % 4 == 3 ? lane : lane + 1);
    good = good && __ballot_sync(0xffffffffu, lane % 3 == 0) == 0x49249249u;
    good = good && __any_sync(0xffffffffu, lane == 9) && !__all_sync(0xffffffffu, lane == 9) && __all_sync(0xffffffffu, lane >= 0);
    good = good && __reduce_add_sync(0xffffffffu, lane) == 496 && __reduce_max_sync(0xffffffffu, -lane) == 0;
    if (lane < 16) {
        good = good && __shfl_xor_sync(0x0000ffffu, lane, 1) == (lane ^ 1); /* half a warp */
    } else {
        good = good && __ballot_sync(0xffff0000u, 1) == 0xffff0000u;
    }
    good = good && __syncthreads_count(i < 40) == 40 && __syncthreads_or(i == 63) && !__syncthreads_and(i != 63);
    good = good && bif_warp_sum(1.0f) == 32.0f && bif_warp_max((float)lane) == 31.0f;
    BIF_SHARED(float, s);
    good = good && bif_block_sum(1.0f, s) == 64.0f && bif_block_max((float)i, s) == 63.0f;
    atomicAdd(out, good ? 1 : 0);
    atomicMax(out + 1, i);
    atomicExch(out + 2, 7);
    atomicCAS(out + 3, 0, 5);
}
static bool warps_and_atomics(void)
{
    int got[4] = {0, 0, 0, 0};
    int *out = to_device(got, 4);
    BIF_LAUNCH(warp_functions, 3, 64, 32 * sizeof(float), 0, out);
    to_host(got, out, 4);
    return got[0] == 192 && got[1] == 63 && got[2] == 7 && got[3] == 5;
}

/* ---- graphs, counters, memory ---- */

static __global__ void step(float *x, const float *input)
{
    x[threadIdx.x] += input[threadIdx.x];
}
static bool graphs(void)
{
    float host[32] = {0}, *input = NULL;
    float *x = to_device(host, 32), *copy = to_device(host, 32);
    cudaStream_t stream, other;
    cudaEvent_t event;
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    bool good = cudaMallocHost(&input, sizeof host) == cudaSuccess && cudaStreamCreate(&stream) == cudaSuccess &&
                cudaStreamCreate(&other) == cudaSuccess && cudaEventCreate(&event) == cudaSuccess;
    for (int i = 0; i < 32; i++) {
        input[i] = 1.0f;
    }
    good = good && cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess;
    BIF_LAUNCH(step, 1, 32, 0, stream, x, (const float *)input);
    cudaEventRecord(event, stream);
    cudaStreamWaitEvent(other, event);
    cudaMemcpyAsync(copy, x, sizeof host, cudaMemcpyDeviceToDevice, other);
    void *refused = NULL;
    good = good && cudaMalloc(&refused, 16) == cudaErrorStreamCaptureUnsupported &&
           cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported;
    good = good && cudaStreamEndCapture(stream, &graph) == cudaSuccess && cudaGetLastError() == cudaErrorStreamCaptureUnsupported;
    to_host(host, copy, 32);
    good = good && host[3] == 0.0f; /* nothing ran yet */
    good = good && cudaGraphInstantiate(&ready, graph) == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess;
    const int64_t allocations = emu_allocations(), launches = emu_launches(), syncs = emu_syncs();
    for (int i = 0; i < 3; i++) {
        good = good && cudaGraphLaunch(ready, stream) == cudaSuccess;
    }
    good = good && emu_allocations() == allocations && emu_launches() == launches + 3 && emu_syncs() == syncs;
    to_host(host, copy, 32);
    return good && host[3] == 3.0f && emu_syncs() == syncs + 1 && cudaGraphExecDestroy(ready) == cudaSuccess &&
           cudaStreamDestroy(other) == cudaSuccess;
}

static bool memory(void)
{
    void *a = NULL, *b = NULL;
    size_t available, total;
    emu_limit_memory(1000);
    bool good = cudaMalloc(&a, 900) == cudaSuccess && cudaMalloc(&b, 200) == cudaErrorMemoryAllocation && b == NULL;
    good = good && cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess;
    good = good && cudaMemGetInfo(&available, &total) == cudaSuccess && available == 100 && total == 1000;
    good = good && emu_bytes_held() == 900 && emu_blocks_held() == 1 && cudaFree(a) == cudaSuccess && emu_bytes_held() == 0;
    char host[8];
    good = good && cudaMalloc(&a, 8) == cudaSuccess && cudaMemcpy(a, host, 8, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue;
    return good && cudaFree(a) == cudaSuccess && cudaFree(a) == cudaErrorInvalidValue;
}

/* ---- cuBLASLt ---- */

/* D [m,n] column-major = 0.5 op(A) op(B) + 2 C + bias. */
template <class T> static bool product_of(bool ta, bool tb, bool bias)
{
    const int m = 5, n = 7, k = 9, lda = (ta ? k : m) + 1, ldb = (tb ? n : k) + 2, ld = m + 3;
    const cudaDataType_t type = sizeof(T) == 2 ? CUDA_R_16BF : CUDA_R_32F;
    T a[200], b[200], v[5];
    float c[100];
    for (int i = 0; i < 200; i++) {
        a[i] = (T)number();
        b[i] = (T)number();
    }
    for (int i = 0; i < 100; i++) {
        c[i] = number();
    }
    for (T &x : v) {
        x = (T)number();
    }
    T *da = to_device(a, 200), *db = to_device(b, 200), *dv = to_device(v, 5);
    float *dd = to_device(c, 100), got[100];
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t la, lb, ldd;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[4];
    int count = 0;
    const int32_t op = CUBLAS_OP_T;
    const int32_t epilogue = CUBLASLT_EPILOGUE_BIAS, bias_type = type;
    bool good = cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS &&
                cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS;
    good = good && (!ta || cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &op, 4) == CUBLAS_STATUS_SUCCESS);
    good = good && (!tb || cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &op, 4) == CUBLAS_STATUS_SUCCESS);
    if (bias) {
        good = good && cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, 4) == CUBLAS_STATUS_SUCCESS;
        good = good && cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &dv, sizeof dv) == CUBLAS_STATUS_SUCCESS;
        good = good && cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, 4) == CUBLAS_STATUS_SUCCESS;
    }
    good = good && cublasLtMatrixLayoutCreate(&la, type, (uint64_t)(ta ? k : m), (uint64_t)(ta ? m : k), lda) == CUBLAS_STATUS_SUCCESS;
    good = good && cublasLtMatrixLayoutCreate(&lb, type, (uint64_t)(tb ? n : k), (uint64_t)(tb ? k : n), ldb) == CUBLAS_STATUS_SUCCESS;
    good = good && cublasLtMatrixLayoutCreate(&ldd, CUDA_R_32F, m, n, ld) == CUBLAS_STATUS_SUCCESS;
    good = good && cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS;
    good = good && cublasLtMatmulAlgoGetHeuristic(handle, desc, la, lb, ldd, ldd, preference, 4, found, &count) == CUBLAS_STATUS_SUCCESS &&
           count == 2;
    const float alpha = 0.5f, beta = 2.0f;
    good = good && cublasLtMatmul(handle, desc, &alpha, da, la, db, lb, &beta, dd, ldd, dd, ldd, &found[0].algo, NULL, 0, 0) ==
                       CUBLAS_STATUS_SUCCESS;
    if (!good) {
        return false;
    }
    to_host(got, dd, 100);
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < ld; i++) {
            double sum = 0.0;
            for (int l = 0; l < k; l++) {
                sum += (double)(float)a[ta ? l + i * lda : i + l * lda] * (double)(float)b[tb ? j + l * ldb : l + j * ldb];
            }
            const double wanted = i >= m ? c[i + j * ld] : 0.5 * sum + 2.0 * c[i + j * ld] + (bias ? (double)(float)v[i] : 0.0);
            if (fabs(wanted - got[i + j * ld]) > 1e-5) {
                fprintf(stderr, "product differs at (%d,%d): %g, wanted %g\n", i, j, got[i + j * ld], wanted);
                return false;
            }
        }
    }
    return true;
}
static bool products(void)
{
    bool good = true;
    for (int i = 0; i < 8; i++) {
        good = good && product_of<float>((i & 1) != 0, (i & 2) != 0, (i & 4) != 0) &&
               product_of<bif_bf16>((i & 1) != 0, (i & 2) != 0, (i & 4) != 0);
    }
    return good;
}

int main(int argc, char **argv)
{
    static const emu_case cases[] = {
        {"mma_right", mma_right, NULL, false},
        {"mma_swapped_a", mma_swapped_a, "mma differs", false},
        {"mma_swapped_b", mma_swapped_b, "mma differs", false},
        {"mma_swapped_c", mma_swapped_c, "mma differs", false},
        {"ldmatrix", ldmatrix_plain, NULL, false},
        {"ldmatrix_transposed", ldmatrix_transposed, NULL, false},
        {"bf16_rounding", bf16_rounding, NULL, false},
        {"warps_and_atomics", warps_and_atomics, NULL, false},
        {"graphs", graphs, NULL, false},
        {"memory", memory, NULL, false},
        {"products", products, NULL, false},
    };
    return emu_run_cases(cases, sizeof cases / sizeof cases[0], argc, argv);
}
