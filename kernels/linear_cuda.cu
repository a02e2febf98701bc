/* Linear layers: one product of cuBLASLt each for y, dx and dw, with bias, residual and the gradient to add to folded in (beta = 1);
 * activations and column sums are kernels of their own. cuBLASLt's GELU is not used: it is the tanh form, and none of its epilogues knows
 * QuickGELU. */
#include "kernels/act_cuda.cuh"
#include "kernels/gemm_cuda.cuh"

#define THREADS 256

/* ---- activations: arrays of equal length, 16 bytes a thread, the odd end one by one ---- */

/* Items of N elements, then single ones. Arrays may be each other: a thread reads its elements before it writes them. */
template <class T, int N>
__global__ void __launch_bounds__(THREADS) act_forward(int64_t count, bif_act act, const T *raw, const T *residual, T *y)
{
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x, packs = count / N;
    for (int64_t i = first; i < packs; i += step) {
        float x[N], add[N] = {};
        bif_load<T, N>(raw + i * N, x);
        if (residual != NULL) {
            bif_load<T, N>(residual + i * N, add);
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            x[j] = bif_act_value(act, x[j]) + add[j];
        }
        bif_store<T, N>(y + i * N, x);
    }
    for (int64_t i = packs * N + first; i < count; i += step) {
        y[i] = bif_from_float<T>(bif_act_value(act, bif_to_float(raw[i])) + (residual == NULL ? 0.0f : bif_to_float(residual[i])));
    }
}

template <class T, int N>
__global__ void __launch_bounds__(THREADS) act_backward(int64_t count, bif_act act, const T *pre, const T *dy, T *dpre)
{
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x, packs = count / N;
    for (int64_t i = first; i < packs; i += step) {
        float x[N], d[N];
        bif_load<T, N>(pre + i * N, x);
        bif_load<T, N>(dy + i * N, d);
#pragma unroll
        for (int j = 0; j < N; j++) {
            d[j] *= bif_act_slope(act, x[j]);
        }
        bif_store<T, N>(dpre + i * N, d);
    }
    for (int64_t i = packs * N + first; i < count; i += step) {
        dpre[i] = bif_from_float<T>(bif_to_float(dy[i]) * bif_act_slope(act, bif_to_float(pre[i])));
    }
}

static bool aligned(const void *a, const void *b, const void *c)
{
    return ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) % 16 == 0;
}

/* y = act(raw) + residual (NULL = 0), elementwise; y may be raw or residual. */
template <class T> static void run_forward(const bif_device *device, int64_t count, bif_act act, const T *raw, const T *residual, T *y)
{
    constexpr int N = bif_lanes<T>::count;
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (aligned(raw, residual, y)) {
        const unsigned blocks = bif_grid(device, bif_blocks_of(count, N), THREADS, 8);
        BIF_LAUNCH((act_forward<T, N>), blocks, THREADS, 0, stream, count, act, raw, residual, y);
    } else {
        BIF_LAUNCH((act_forward<T, 1>), bif_grid(device, count, THREADS, 8), THREADS, 0, stream, count, act, raw, residual, y);
    }
    BIF_LAUNCHED("linear");
}

/* dpre = dy * act'(pre), elementwise; dpre may be either. */
template <class T> static void run_backward(const bif_device *device, int64_t count, bif_act act, const T *pre, const T *dy, T *dpre)
{
    constexpr int N = bif_lanes<T>::count;
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (aligned(pre, dy, dpre)) {
        const unsigned blocks = bif_grid(device, bif_blocks_of(count, N), THREADS, 8);
        BIF_LAUNCH((act_backward<T, N>), blocks, THREADS, 0, stream, count, act, pre, dy, dpre);
    } else {
        BIF_LAUNCH((act_backward<T, 1>), bif_grid(device, count, THREADS, 8), THREADS, 0, stream, count, act, pre, dy, dpre);
    }
    BIF_LAUNCHED("act_backward");
}

extern "C" void bif_cuda_act_backward(bif_device *device, const bif_act_backward_args *args)
{
    const int64_t count = bif_numel(args->pre);
    if (count > 0) {
        BIF_EACH_FLOAT(args->pre->dtype,
                       run_backward<T>(device, count, args->act, bif_at<T>(args->pre), bif_at<T>(args->dy), bif_at<T>(args->dpre)));
    }
}

/* ---- forward ---- */

template <class T> static void forward(const bif_device *device, const bif_linear_args *args)
{
    const int64_t t = args->x->dim[0], k = args->x->dim[1], n = args->w->dim[0];
    const bif_cuda *cuda = bif_cuda_of(device);
    const T *x = bif_at<T>(args->x), *residual = bif_at<T>(args->residual);
    T *y = bif_at<T>(args->y), *pre = bif_at<T>(args->pre);
    bif_gemm_args product = {};
    product.trans_b = true;
    product.n = n;
    product.k = k;
    product.in = product.out = args->x->dtype;
    product.alpha = 1.0f;
    product.b = args->w->data;
    product.bias = bif_at<T>(args->b);
    const bool whole = pre == NULL && args->act == BIF_ACT_NONE;
    /* x W^T + b goes to pre, else to y; but where y holds the residual of an activated row, to scratch, as many rows at a time as fit. */
    const bool aside = !whole && pre == NULL && residual == y;
    const int64_t fit = (int64_t)(cuda->scratch_bytes / sizeof(T)) / n;
    BIF_BUG_IF(aside && fit == 0, "linear: a row of %lld does not fit the scratch memory", (long long)n);
    const int64_t tile = aside && fit < t ? fit : t;
    for (int64_t row = 0; row < t; row += tile) {
        const int64_t rows = t - row < tile ? t - row : tile, at = row * n;
        T *raw = aside ? (T *)cuda->scratch : (pre != NULL ? pre : y) + at;
        product.m = rows;
        product.a = x + row * k;
        product.d = raw;
        product.c = whole ? residual : NULL;
        product.beta = product.c != NULL ? 1.0f : 0.0f;
        bif_cuda_gemm(device, &product);
        if (!whole) {
            run_forward<T>(device, rows * n, args->act, raw, residual == NULL ? NULL : residual + at, y + at);
        }
    }
}

extern "C" void bif_cuda_linear(bif_device *device, const bif_linear_args *args)
{
    if (bif_numel(args->y) > 0) {
        BIF_EACH_FLOAT(args->x->dtype, forward<T>(device, args));
    }
}

/* ---- backward ---- */

#define WARPS (THREADS / 32)

/* Sums of the rows [part * rows_a_part, ..) of x [rows, columns] into partial [parts, columns]. Block (c, part): each lane has N columns,
 * each warp every eighth row, so that a warp's load is 512 bytes of one row; then the warps are added in their order. */
template <class T, int N>
__global__ void __launch_bounds__(THREADS) column_sums(int64_t rows, int64_t columns, int64_t rows_a_part, const T *x, float *partial)
{
    BIF_SHARED(float, shared); /* [WARPS][32 N] */
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t from = (int64_t)blockIdx.x * 32 * N, column = from + lane * N;
    const int64_t begin = blockIdx.y * rows_a_part, end = begin + rows_a_part < rows ? begin + rows_a_part : rows;
    float sum[N] = {};
    if (column < columns) {
#pragma unroll 4
        for (int64_t row = begin + warp; row < end; row += WARPS) {
            float some[N];
            bif_load<T, N>(x + row * columns + column, some);
#pragma unroll
            for (int j = 0; j < N; j++) {
                sum[j] += some[j];
            }
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        shared[(warp * 32 + lane) * N + j] = sum[j];
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < 32 * N && from + i < columns; i += THREADS) {
        float total = 0.0f;
        for (int w = 0; w < WARPS; w++) {
            total += shared[w * 32 * N + i];
        }
        partial[blockIdx.y * columns + from + i] = total;
    }
}

/* sums[c] += the column's partial sums, in the order of the parts. */
__global__ void __launch_bounds__(THREADS) add_parts(int64_t columns, int parts, const float *partial, float *sums)
{
    const int64_t column = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (column < columns) {
        float total = 0.0f;
#pragma unroll 16
        for (int part = 0; part < parts; part++) {
            total += partial[part * columns + column];
        }
        sums[column] += total;
    }
}

template <class T, int N> static void add_column_sums(const bif_device *device, int64_t rows, int64_t columns, const T *x, float *sums)
{
    const bif_cuda *cuda = bif_cuda_of(device);
    const int64_t across = bif_blocks_of(columns, 32 * N), fit = (int64_t)(cuda->scratch_bytes / sizeof(float)) / columns;
    BIF_BUG_IF(fit == 0, "linear_backward: %lld columns do not fit the scratch memory", (long long)columns);
    /* Eight blocks of 256 threads fill a multiprocessor; fewer than 64 rows (8 a warp) are not worth a block, and more than 64 parts
     * would wait longer to be added than they saved. */
    int64_t parts = bif_blocks_of((int64_t)cuda->multiprocessors * 8, across);
    const int64_t limits[] = {bif_blocks_of(rows, 64), 64, fit};
    for (int64_t limit : limits) {
        parts = parts < limit ? parts : limit;
    }
    const int64_t rows_a_part = bif_blocks_of(rows, parts);
    parts = bif_blocks_of(rows, rows_a_part);
    float *partial = (float *)cuda->scratch;
    BIF_LAUNCH((column_sums<T, N>), dim3((unsigned)across, (unsigned)parts), THREADS, THREADS * N * sizeof(float), cuda->stream, rows,
               columns, rows_a_part, x, partial);
    BIF_LAUNCHED("linear_backward");
    BIF_LAUNCH(add_parts, (unsigned)bif_blocks_of(columns, THREADS), THREADS, 0, cuda->stream, columns, (int)parts, partial, sums);
    BIF_LAUNCHED("linear_backward");
}

template <class T> static void backward(const bif_device *device, const bif_linear_backward_args *args)
{
    const int64_t t = args->dy->dim[0], n = args->dy->dim[1];
    const T *dy = bif_at<T>(args->dy);
    bif_gemm_args product = {};
    product.in = args->dy->dtype;
    product.alpha = 1.0f;
    product.a = dy;
    if (args->dx != NULL) {
        product.m = t;
        product.n = args->dx->dim[1];
        product.k = n;
        product.out = args->dy->dtype;
        product.b = args->w->data;
        product.c = bif_at<T>(args->dx_add);
        product.beta = product.c != NULL ? 1.0f : 0.0f;
        product.d = args->dx->data;
        bif_cuda_gemm(device, &product);
        if (args->dx_act != BIF_ACT_NONE && bif_numel(args->dx) > 0) {
            T *dx = bif_at<T>(args->dx);
            run_backward<T>(device, bif_numel(args->dx), args->dx_act, bif_at<T>(args->dx_pre), dx, dx);
        }
    }
    if (args->dw != NULL) {
        product.trans_a = true;
        product.m = n;
        product.n = args->dw->dim[1];
        product.k = t;
        product.out = BIF_DTYPE_F32;
        product.b = args->x->data;
        product.beta = 1.0f;
        product.c = product.d = args->dw->data;
        bif_cuda_gemm(device, &product);
    }
    if (args->db != NULL) {
        float *db = bif_at<float>(args->db);
        if (bif_wide(args->dy, n)) {
            add_column_sums<T, bif_lanes<T>::count>(device, t, n, dy, db);
        } else {
            add_column_sums<T, 1>(device, t, n, dy, db);
        }
    }
}

extern "C" void bif_cuda_linear_backward(bif_device *device, const bif_linear_backward_args *args)
{
    if (bif_numel(args->dy) > 0) {
        BIF_EACH_FLOAT(args->dy->dtype, backward<T>(device, args));
    }
}
