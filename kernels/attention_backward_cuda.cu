/* Attention backward: what it knows of each query, the choice of kernels, and plain fp32 arithmetic for whatever
 * attention_backward_tiles_cuda.cu does not take. The formulas are in the header. */
#include "kernels/attention_backward_cuda.cuh"
#include "kernels/attention_cudnn.cuh"

/* ---- any dtype and alignment ----
 * 32 rows of "mine" against 32 of the stream: a warp owns 4 rows, a lane one column of the scores, then every 32nd column of the sums. */
enum { PLAIN_ROWS = 32, PLAIN_OWN = 4, PLAIN_THREADS = 256 };

/* Columns of a plain tile: 4 more than WIDTH, so that 16-byte reads of neighbouring rows fall into different banks. */
template <int WIDTH> struct plain {
    static constexpr int columns = WIDTH + 4;
    static constexpr size_t shared = (size_t)(4 * PLAIN_ROWS * columns + 2 * PLAIN_ROWS * PLAIN_ROWS) * sizeof(float);
};

template <class T, int WIDTH> __device__ __forceinline__ void plain_copy(float *tile, const T *from, int64_t stride, int rows, int dim)
{
    for (int i = (int)threadIdx.x; i < PLAIN_ROWS * WIDTH; i += PLAIN_THREADS) {
        const int row = i / WIDTH, column = i % WIDTH;
        tile[row * plain<WIDTH>::columns + column] = row < rows && column < dim ? bif_to_float(from[row * stride + column]) : 0.0f;
    }
}

__device__ __forceinline__ float plain_dot(float sum, const float4 &x, const float4 &y)
{
    return fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
}

template <class T, int WIDTH, bool KEYS>
__global__ void __launch_bounds__(PLAIN_THREADS, 1) plain_gradients(const bif_gradients g, const T *qkv, const T *dout, T *dqkv)
{
    constexpr int C = plain<WIDTH>::columns, L = WIDTH / 32;
    BIF_SHARED(float, shared);
    float *const mine_a = shared, *const mine_b = mine_a + PLAIN_ROWS * C, *const stream_a = mine_b + PLAIN_ROWS * C;
    float *const stream_b = stream_a + PLAIN_ROWS * C;
    const bif_gradients_work w = bif_gradients_find<KEYS>(g, PLAIN_ROWS, PLAIN_ROWS);
    if (w.steps == 0) {
        return; /* the whole block */
    }
    const bif_attention_unit &u = w.unit;
    const int lane = (int)(threadIdx.x & 31u), warp = (int)(threadIdx.x >> 5), dim = g.shape.dim, m = warp * PLAIN_OWN;
    float *const p = stream_b + PLAIN_ROWS * C + m * PLAIN_ROWS, *const ds = p + PLAIN_ROWS * PLAIN_ROWS; /* [PLAIN_OWN, 32] of the warp */
    const bif_gradients_pair<T> mine =
        KEYS ? bif_gradients_keys(g, u.start, w.kv, qkv) : bif_gradients_queries(g, u.start, w.head, qkv, dout);
    plain_copy<T, WIDTH>(mine_a, mine.a + u.begin * mine.a_stride, mine.a_stride, u.count, dim);
    plain_copy<T, WIDTH>(mine_b, mine.b + u.begin * mine.b_stride, mine.b_stride, u.count, dim);
    float sum_a[PLAIN_OWN][L] = {}, sum_b[PLAIN_OWN][L] = {};
    for (int step = 0; step < w.steps; step++) {
        const int first = w.first + step % w.a_head * PLAIN_ROWS, head = w.head + (KEYS ? step / w.a_head : 0);
        const bif_gradients_pair<T> s =
            KEYS ? bif_gradients_queries(g, u.start, head, qkv, dout) : bif_gradients_keys(g, u.start, w.kv, qkv);
        __syncthreads();
        plain_copy<T, WIDTH>(stream_a, s.a + first * s.a_stride, s.a_stride, u.length - first, dim);
        plain_copy<T, WIDTH>(stream_b, s.b + first * s.b_stride, s.b_stride, u.length - first, dim);
        __syncthreads();
        float x[PLAIN_OWN] = {}, y[PLAIN_OWN] = {};
        for (int d = 0; d < dim; d += 4) {
            const float4 a = *reinterpret_cast<const float4 *>(stream_a + lane * C + d);
            const float4 b = *reinterpret_cast<const float4 *>(stream_b + lane * C + d);
#pragma unroll
            for (int r = 0; r < PLAIN_OWN; r++) {
                x[r] = plain_dot(x[r], a, *reinterpret_cast<const float4 *>(mine_a + (m + r) * C + d));
                y[r] = plain_dot(y[r], b, *reinterpret_cast<const float4 *>(mine_b + (m + r) * C + d));
            }
        }
#pragma unroll
        for (int r = 0; r < PLAIN_OWN; r++) {
            const int row = u.begin + m + r, column = first + lane, key = KEYS ? row : column, query = KEYS ? column : row;
            const float2 known = bif_gradients_query(g, u, head, query);
            const bool seen = key < u.length && query < u.length && (!g.shape.causal || key <= query);
            const float weight = seen ? exp2f(x[r] * g.factor - known.x) : 0.0f;
            p[r * PLAIN_ROWS + lane] = weight;
            ds[r * PLAIN_ROWS + lane] = weight * (y[r] - known.y);
        }
        __syncwarp();
        for (int c = 0; c < PLAIN_ROWS; c++) {
#pragma unroll
            for (int l = 0; l < L; l++) {
                const float a = stream_a[c * C + l * 32 + lane], b = stream_b[c * C + l * 32 + lane];
#pragma unroll
                for (int r = 0; r < PLAIN_OWN; r++) {
                    sum_a[r][l] = fmaf(ds[r * PLAIN_ROWS + c], a, sum_a[r][l]);
                    sum_b[r][l] = KEYS ? fmaf(p[r * PLAIN_ROWS + c], b, sum_b[r][l]) : 0.0f;
                }
            }
        }
    }
    T *const to = dqkv + (u.start + u.begin + m) * g.shape.row + (int64_t)(KEYS ? g.shape.heads + w.kv : w.head) * dim;
#pragma unroll
    for (int r = 0; r < PLAIN_OWN; r++) {
#pragma unroll
        for (int l = 0; l < L; l++) {
            const int column = l * 32 + lane;
            if (m + r < u.count && column < dim) {
                to[r * g.shape.row + column] = bif_from_float<T>(sum_a[r][l] * g.shape.scale);
                if (KEYS) {
                    to[r * g.shape.row + (int64_t)g.shape.kv_heads * dim + column] = bif_from_float<T>(sum_b[r][l]);
                }
            }
        }
    }
}

/* ---- before both: lse * log2(e) and delta of each query ----
 * `lanes` (a power of two up to 32) threads a query and head, V elements each at a time; of_queries goes by head, so that a step's queries
 * are neighbours. */
template <class T, int V>
__global__ void __launch_bounds__(256)
    query_values(const bif_gradients g, const T *out, const T *dout, const float *lse, float2 *of_queries, int lanes)
{
    const int heads = g.kv * g.shape.group, dim = g.shape.dim;
    const int64_t items = g.shape.tokens * heads, a_round = (int64_t)gridDim.x * 256 / lanes;
    const int piece = (int)threadIdx.x % lanes;
    for (int64_t first = 0; first < items; first += a_round) {
        const int64_t item = first + ((int64_t)blockIdx.x * 256 + threadIdx.x) / lanes, row = item / heads;
        const int of = (int)(item % heads);
        const int64_t at = row * g.shape.heads + g.first_kv * g.shape.group + of;
        float sum = 0.0f;
        for (int d = piece * V; item < items && d < dim; d += lanes * V) {
            float x[V], y[V];
            bif_load<T, V>(out + at * dim + d, x);
            bif_load<T, V>(dout + at * dim + d, y);
#pragma unroll
            for (int v = 0; v < V; v++) {
                sum = fmaf(x[v], y[v], sum);
            }
        }
        for (int step = lanes / 2; step > 0; step /= 2) {
            sum += __shfl_xor_sync(0xffffffffu, sum, step);
        }
        if (item < items && piece == 0) {
            of_queries[of * g.shape.tokens + row] = make_float2(lse[at] * BIF_LOG2E, sum);
        }
    }
}

/* ---- launches ---- */
template <class T> struct operands {
    const T *qkv, *out, *dout;
    const float *lse;
    T *dqkv;
};

template <class T, int V> static void launch_values(bif_device *device, const bif_gradients *g, const operands<T> *x, float2 *of_queries)
{
    int lanes = 1;
    while (lanes < 32 && lanes * V < g->shape.dim) {
        lanes *= 2;
    }
    const int64_t threads = g->shape.tokens * g->kv * g->shape.group * lanes;
    BIF_LAUNCH((query_values<T, V>), bif_grid(device, threads, 256, 32), 256, 0, bif_cuda_of(device)->stream, *g, x->out, x->dout, x->lse,
               of_queries, lanes);
    BIF_LAUNCHED("attention_backward: values of queries");
}

template <class T, int WIDTH, bool KEYS> static void launch_plain(bif_device *device, const bif_gradients *g, const operands<T> *x)
{
    BIF_ALLOW_SHARED((plain_gradients<T, WIDTH, KEYS>), plain<WIDTH>::shared);
    BIF_LAUNCH((plain_gradients<T, WIDTH, KEYS>), bif_gradients_grid(g, PLAIN_ROWS, KEYS), PLAIN_THREADS, plain<WIDTH>::shared,
               bif_cuda_of(device)->stream, *g, x->qkv, x->dout, x->dqkv);
    BIF_LAUNCHED("attention_backward (plain)");
}

template <class T> static void launch_gradients(bif_device *device, const bif_gradients *g, const operands<T> *x)
{
    if (g->shape.dim <= 128) {
        launch_plain<T, 128, true>(device, g, x);
        launch_plain<T, 128, false>(device, g, x);
    } else {
        launch_plain<T, 256, true>(device, g, x);
        launch_plain<T, 256, false>(device, g, x);
    }
}

/* Key heads a launch takes when a query and head needs `bytes` of scratch. */
static int32_t heads_that_fit(const bif_device *device, const bif_attention_shape *shape, int64_t bytes)
{
    const int64_t fit = (int64_t)bif_cuda_of(device)->scratch_bytes / (shape->tokens * shape->group * bytes);
    return fit < shape->kv_heads ? (int32_t)fit : shape->kv_heads;
}

template <class T> static void run(bif_device *device, const bif_attention_backward_args *args)
{
    const bif_tensor *qkv = args->qkv;
    const int64_t dim = args->head_dim;
    BIF_BUG_IF(dim > 256, "attention_backward: heads of %lld, 256 at most on this device", (long long)dim);
    const operands<T> x = {bif_at<T>(qkv), bif_at<T>(args->out), bif_at<T>(args->dout), bif_at<float>(args->lse), bif_at<T>(args->dqkv)};
    bif_gradients g;
    g.shape = bif_attention_shape_of(qkv, args->bounds, args->heads, args->kv_heads, dim, args->causal, args->scale);
    g.factor = args->scale * BIF_LOG2E;
    const bool wide = bif_wide(args->out, dim) && bif_wide(args->dout, dim);
    const int width = wide && bif_wide(args->dqkv, dim) ? bif_attention_width(qkv, dim) : 0;

    /* dQ by additions needs its f32 sums in the scratch. Where these leave too few heads a launch to keep the GPU busy (two blocks for each
     * multiprocessor), seven products are faster than five. */
    int32_t heads = heads_that_fit(device, &g.shape, sizeof(float2) + dim * (int64_t)sizeof(float));
    const int64_t blocks = heads * bif_attention_units(&g.shape, BIF_GRADIENTS_BLOCK);
    const bool add = width > 0 && !device->deterministic && heads > 0 &&
                     (heads == g.shape.kv_heads || blocks >= 2 * (int64_t)bif_cuda_of(device)->multiprocessors);
    heads = add ? heads : heads_that_fit(device, &g.shape, sizeof(float2));
    BIF_BUG_IF(heads < 1, "attention_backward: %lld rows of one key head do not fit the scratch", (long long)g.shape.tokens);
    float *const dq = add ? (float *)bif_cuda_of(device)->scratch : NULL;
    float2 *const of_queries = add ? (float2 *)(dq + heads * g.shape.group * g.shape.tokens * dim) : (float2 *)bif_cuda_of(device)->scratch;
    g.of_queries = of_queries;
    for (g.first_kv = 0; g.first_kv < g.shape.kv_heads; g.first_kv += g.kv) {
        g.kv = heads < g.shape.kv_heads - g.first_kv ? heads : g.shape.kv_heads - g.first_kv;
        if (wide) {
            launch_values<T, bif_lanes<T>::count>(device, &g, &x, of_queries);
        } else {
            launch_values<T, 1>(device, &g, &x, of_queries);
        }
        if (width > 0) {
            bif_gradients_tiles(device, width, &g, (const bif_bf16 *)x.qkv, (const bif_bf16 *)x.dout, (bif_bf16 *)x.dqkv, dq);
        } else {
            launch_gradients<T>(device, &g, &x);
        }
    }
}

static void run_backward(bif_device *device, const bif_attention_backward_args *args)
{
    BIF_EACH_FLOAT(args->qkv->dtype, run<T>(device, args));
}

extern "C" void bif_cuda_attention_backward(bif_device *device, const bif_attention_backward_args *args)
{
    if (args->qkv->dim[0] > 0 && !bif_cudnn_attention_backward(device, args, run_backward)) {
        run_backward(device, args);
    }
}
