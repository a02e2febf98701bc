/* Attention backward for bf16 on tensor cores; the formulas are in the header.
 *
 * A warp owns whole rows of "mine": its scores leave the tensor cores in the layout in which the next product takes its left factor, so P
 * and dS never leave the registers, and the only barrier of a step is the one of the copies. Only where the pass over keys also makes dQ,
 * whose sums go over the keys of all warps, do they meet once more, over dS in shared memory. */
#include "kernels/attention_backward_cuda.cuh"

enum { BLOCK = BIF_GRADIENTS_BLOCK, STEP = 64 };

/* Two tiles of BLOCK rows, two stages of two tiles of STEP rows, two stages of what is known of STEP queries, and dS [BLOCK, STEP] when dQ
 * is made from it. Width 128: 129 or 145 KiB, one block of 8 warps on a multiprocessor; 64: 65 or 81 KiB, two blocks of 4 warps (just two
 * on sm_80, which has 164 KiB and keeps 1 of each block). */
static constexpr size_t tile_shared(int width, bool add)
{
    return (size_t)((2 * BLOCK + 4 * STEP) * width + (add ? BLOCK * STEP : 0)) * sizeof(bif_bf16) + 2 * STEP * sizeof(float2);
}

/* bif_tile_copy of STEP rows, as a loop: unrolled, its addresses of all steps are kept in registers that the sums need. */
template <int W, int THREADS>
__device__ __forceinline__ void step_copy(bif_bf16 *tile, const bif_bf16 *from, int64_t stride, int rows, int dim)
{
    constexpr int chunks = W / 8;
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < STEP * chunks; i += THREADS) {
        const int row = i / chunks, chunk = i % chunks;
        const bool there = row < rows && chunk * 8 < dim;
        bif_copy_16(tile + bif_tile_at<W>(row, chunk), there ? from + row * stride + chunk * 8 : from, there ? 16 : 0);
    }
}

/* x = rows [m, m + 16 MT) of `left` times rows [n, n + 8 N) of `right`, transposed; UNROLL steps of 16 columns at a time. */
template <int W, int MT, int N, int UNROLL>
__device__ __forceinline__ void tile_scores(float (&x)[MT][N][4], const bif_bf16 *left, int m, const bif_bf16 *right, int n)
{
#pragma unroll UNROLL
    for (int k = 0; k < W; k += 16) {
        uint32_t a[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++) {
            bif_tile_a<W>(a[i], left, m + i * 16, k);
        }
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            uint32_t b[4]; /* as a left factor is read: one pattern of addresses for all reads, kept in registers */
            bif_tile_a<W>(b, right, n + j * 8, k);
            const uint32_t b0[2] = {b[0], b[2]}, b1[2] = {b[1], b[3]};
#pragma unroll
            for (int i = 0; i < MT; i++) {
                bif_mma(x[i][j], a[i], b0);
                bif_mma(x[i][j + 1], a[i], b1);
            }
        }
    }
}

/* sum += x times rows [k, k + 16 K) of `right`; x as K left factors of 16 columns. */
template <int W, int MT, int K>
__device__ __forceinline__ void tile_add(float (&sum)[MT][W / 8][4], const uint32_t (&x)[MT][K][4], const bif_bf16 *right, int k)
{
#pragma unroll
    for (int j = 0; j < K; j++) {
#pragma unroll
        for (int n = 0; n < W / 8; n += 2) {
            uint32_t b[2][2];
            bif_tile_b_transposed<W>(b, right, k + j * 16, n * 8);
#pragma unroll
            for (int i = 0; i < MT; i++) {
                bif_mma(sum[i][n], x[i][j], b[0]);
                bif_mma(sum[i][n + 1], x[i][j], b[1]);
            }
        }
    }
}

/* Scores as left factors: rounded to bf16, two neighbouring tiles of 8 columns each. */
template <int MT, int K> __device__ __forceinline__ void tile_round(uint32_t (&a)[MT][K][4], const float (&x)[MT][2 * K][4])
{
#pragma unroll
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int j = 0; j < K; j++) {
            bif_tile_a_of(a[i][j], x[i][2 * j], x[i][2 * j + 1]);
        }
    }
}

/* Sets to 0 what no query sees: keys after it when causal, and keys past the end. row, column: position in the sequence of x[0][0]. */
template <bool KEYS, int MT, int N>
__device__ __forceinline__ void tile_mask(float (&x)[MT][N][4], bool causal, int length, int row, int column)
{
    const int lane = (int)(threadIdx.x & 31u);
#pragma unroll
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int j = 0; j < N; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int r = row + i * 16 + lane / 4 + e / 2 * 8, c = column + j * 8 + lane % 4 * 2 + e % 2;
                const int key = KEYS ? r : c, query = KEYS ? c : r;
                x[i][j][e] = key >= length || (causal && key > query) ? 0.0f : x[i][j][e];
            }
        }
    }
}

/* A warp's sums, times `factor`, to the rows [row, length) of a matrix with row 0 at `to`. */
template <int W, int MT>
__device__ __forceinline__ void tile_store(bif_bf16 *to, int64_t stride, int row, int length, int dim, float factor,
                                           const float (&sum)[MT][W / 8][4])
{
    const int lane = (int)(threadIdx.x & 31u);
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        const int at = row + i * 8 + lane / 4;
        bif_bf16 *const line = to + at * stride + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < W / 8; n++) {
            if (at < length && n * 8 < dim) {
                const float(&four)[4] = sum[i / 2][n];
                *reinterpret_cast<uint32_t *>(line + n * 8) = bif_pair(four[i % 2 * 2] * factor, four[i % 2 * 2 + 1] * factor);
            }
        }
    }
}

/* What a warp made of dS to rows [m, m + 16 MT) and columns [c, c + 16 K) of the block's tile [BLOCK, STEP]. */
template <int MT, int K> __device__ __forceinline__ void tile_share(bif_bf16 *tile, const uint32_t (&x)[MT][K][4], int m, int c)
{
    const int lane = (int)(threadIdx.x & 31u);
#pragma unroll
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int j = 0; j < K; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int row = m + i * 16 + lane / 4 + e % 2 * 8, chunk = c / 8 + j * 2 + e / 2;
                *reinterpret_cast<uint32_t *>(tile + bif_tile_at<STEP>(row, chunk) + lane % 4 * 2) = x[i][j][e];
            }
        }
    }
}

/* Adds dS^T, from the block's tile, times K to dq [.., dim], whose row 0 is the step's first query. A warp takes 16 queries and a part of
 * the columns. keys, queries: how many there are; ahead: the first query minus the first key, or BLOCK when every key is seen. */
template <int W, int WARPS>
__device__ __forceinline__ void tile_add_queries(float *dq, const bif_bf16 *ds, const bif_bf16 *k, int keys, int queries, int ahead,
                                                 int dim)
{
    constexpr int columns = W * 4 / WARPS;
    const int lane = (int)(threadIdx.x & 31u), warp = (int)(threadIdx.x >> 5), q = warp % 4 * 16, n = warp / 4 * columns;
    float sum[columns / 8][4] = {};
    if (q < queries) {
        for (int at = 0; at < keys && at <= ahead + q + 15; at += 16) {
            uint32_t a[4];
            bif_tile_a_transposed<STEP>(a, ds, at, q);
#pragma unroll
            for (int j = 0; j < columns / 8; j += 2) {
                uint32_t b[2][2];
                bif_tile_b_transposed<W>(b, k, at, n + j * 8);
                bif_mma(sum[j], a, b[0]);
                bif_mma(sum[j + 1], a, b[1]);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < columns / 8; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int row = q + lane / 4 + e / 2 * 8, column = n + j * 8 + lane % 4 * 2 + e % 2;
            if (row < queries && column < dim) {
                atomicAdd(dq + (int64_t)row * dim + column, sum[j][e]);
            }
        }
    }
}

/* W: head size rounded up to 32. MT: tiles of 16 rows a warp owns; 2 where the sums of 32 rows fit the registers (W <= 64), because every
 * fragment of the stream then serves two products. CHUNK: rows of the stream a warp multiplies at a time. ADD: make dQ too (see the
 * header). */
template <int W, int MT, int CHUNK, bool KEYS, bool ADD>
__global__ void __launch_bounds__(256 / MT, MT)
    tile_gradients(const bif_gradients g, const bif_bf16 *qkv, const bif_bf16 *dout, bif_bf16 *dqkv, float *dq)
{
    constexpr int THREADS = 256 / MT, N = CHUNK / 8, ROWS = 16 * MT;
    constexpr int UNROLL = KEYS ? W / 32 : W / 16; /* more spills the two sums at W = 64 and 128 */
    BIF_SHARED(bif_bf16, shared);
    bif_bf16 *const mine_a = shared, *const mine_b = mine_a + BLOCK * W, *const stages = mine_b + BLOCK * W;
    float2 *const known = reinterpret_cast<float2 *>(stages + 4 * STEP * W); /* [2][STEP], of the stream's queries */
    bif_bf16 *const shared_ds = reinterpret_cast<bif_bf16 *>(known + 2 * STEP);

    const bif_gradients_work w = bif_gradients_find<KEYS>(g, BLOCK, STEP);
    if (w.steps == 0) {
        return; /* the whole block */
    }
    const bif_attention_unit &u = w.unit;
    const int lane = (int)(threadIdx.x & 31u), warp = (int)(threadIdx.x >> 5), dim = g.shape.dim;
    const bool causal = g.shape.causal;
    {
        const bif_gradients_pair<bif_bf16> mine =
            KEYS ? bif_gradients_keys(g, u.start, w.kv, qkv) : bif_gradients_queries(g, u.start, w.head, qkv, dout);
        bif_tile_copy<BLOCK, W, THREADS>(mine_a, mine.a + u.begin * mine.a_stride, mine.a_stride, u.count, dim);
        bif_tile_copy<BLOCK, W, THREADS>(mine_b, mine.b + u.begin * mine.b_stride, mine.b_stride, u.count, dim);
    }
    const int m = warp * ROWS, row = u.begin + m; /* the warp's first row, in the tile and in the sequence */
    float2 own[MT][2];
    if (!KEYS) {
#pragma unroll
        for (int i = 0; i < 2 * MT; i++) {
            own[i / 2][i % 2] = bif_gradients_query(g, u, w.head, row + i * 8 + lane / 4);
        }
    }
    float sum_a[MT][W / 8][4] = {}, sum_b[MT][W / 8][4] = {};

    int column0 = 0, next_column = w.first, this_head = w.head, head = w.head; /* of this step and of the next one */
    for (int step = -1; step < w.steps; step++) {
        /* This step's copies are complete, and nobody reads the other stage any more: the next step's may begin. */
        bif_copy_wait<0>();
        __syncthreads();
        const int stage = step & 1, other = stage ^ 1;
        const bool more = step + 1 < w.steps, knows = KEYS && more && threadIdx.x < STEP;
        float2 ahead = {};
        if (more) {
            const bif_gradients_pair<bif_bf16> s =
                KEYS ? bif_gradients_queries(g, u.start, head, qkv, dout) : bif_gradients_keys(g, u.start, w.kv, qkv);
            bif_bf16 *const to = stages + other * 2 * STEP * W;
            step_copy<W, THREADS>(to, s.a + next_column * s.a_stride, s.a_stride, u.length - next_column, dim);
            step_copy<W, THREADS>(to + STEP * W, s.b + next_column * s.b_stride, s.b_stride, u.length - next_column, dim);
            if (knows) {
                ahead = bif_gradients_query(g, u, head, next_column + (int)threadIdx.x); /* stored below, when it has arrived */
            }
        }
        bif_copy_group();
        const bif_bf16 *const stream_a = stages + stage * 2 * STEP * W, *const stream_b = stream_a + STEP * W;
#pragma unroll 1
        for (int c = 0; step >= 0 && c < STEP; c += CHUNK) {
            const int column = column0 + c;
            const bool unseen = causal && (KEYS ? column + CHUNK <= row : column >= row + ROWS);
            if (row >= u.length || column >= u.length || unseen) {
                continue; /* the whole warp; tile_add_queries does not read what is not made here */
            }
            const float4 *const of_columns = reinterpret_cast<const float4 *>(known + stage * STEP + c); /* two queries each */
            uint32_t weight[MT][N / 2][4], gradient[MT][N / 2][4];
            {
                float p[MT][N][4] = {};
                tile_scores<W, MT, N, UNROLL>(p, mine_a, m, stream_a, c);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const float4 two = KEYS ? of_columns[j * 4 + lane % 4] : float4{};
#pragma unroll
                    for (int i = 0; i < MT; i++) {
#pragma unroll
                        for (int e = 0; e < 4; e++) {
                            p[i][j][e] = bif_exp2(p[i][j][e] * g.factor - (!KEYS ? own[i][e / 2].x : e % 2 == 0 ? two.x : two.z));
                        }
                    }
                }
                const bool diagonal = causal && (KEYS ? column + 1 < row + ROWS : column + CHUNK > row + 1);
                if (diagonal || (KEYS ? row + ROWS : column + CHUNK) > u.length) {
                    tile_mask<KEYS, MT, N>(p, causal, u.length, row, column);
                }
                tile_round<MT, N / 2>(weight, p);
            }
            if (KEYS) {
                tile_add<W, MT, N / 2>(sum_b, weight, stream_b, c);
            }
            {
                /* From the rounded P, which takes half the registers beside the 128 of dK and dV (W = 128: 252 in all, none spilled). */
                float ds[MT][N][4] = {};
                tile_scores<W, MT, N, UNROLL>(ds, mine_b, m, stream_b, c);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const float4 two = KEYS ? of_columns[j * 4 + lane % 4] : float4{};
#pragma unroll
                    for (int i = 0; i < MT; i++) {
#pragma unroll
                        for (int e = 0; e < 4; e++) {
                            const uint32_t pair = weight[i][j / 2][j % 2 * 2 + e / 2];
                            const float p = __uint_as_float(e % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
                            ds[i][j][e] = p * (ds[i][j][e] - (!KEYS ? own[i][e / 2].y : e % 2 == 0 ? two.y : two.w));
                        }
                    }
                }
                tile_round<MT, N / 2>(gradient, ds);
            }
            if (ADD) {
                tile_share<MT, N / 2>(shared_ds, gradient, m, c);
            }
            tile_add<W, MT, N / 2>(sum_a, gradient, stream_a, c);
        }
        if (ADD && step >= 0) {
            __syncthreads();
            float *const to = dq + ((this_head - g.first_kv * g.shape.group) * g.shape.tokens + u.start + column0) * dim;
            tile_add_queries<W, THREADS / 32>(to, shared_ds, mine_a, u.count, u.length - column0, causal ? column0 - u.begin : BLOCK, dim);
        }
        if (knows) {
            known[other * STEP + (int)threadIdx.x] = ahead;
        }
        column0 = next_column;
        this_head = head;
        next_column += STEP;
        if (KEYS && next_column >= u.length) {
            next_column = w.first;
            head++;
        }
    }
    bif_bf16 *const to = dqkv + u.start * g.shape.row;
    if (KEYS) {
        bif_bf16 *const dk = to + (int64_t)(g.shape.heads + w.kv) * dim;
        tile_store<W, MT>(dk, g.shape.row, row, u.length, dim, g.shape.scale, sum_a);
        tile_store<W, MT>(dk + (int64_t)g.shape.kv_heads * dim, g.shape.row, row, u.length, dim, 1.0f, sum_b);
    } else {
        tile_store<W, MT>(to + (int64_t)w.head * dim, g.shape.row, row, u.length, dim, g.shape.scale, sum_a);
    }
}

/* Rows of dq, times scale, to their place in dqkv; 8 columns a thread. */
__global__ void __launch_bounds__(256) round_queries(const bif_gradients g, const float *dq, bif_bf16 *dqkv)
{
    const int pieces = g.shape.dim / 8, heads = g.kv * g.shape.group;
    const int64_t count = g.shape.tokens * heads * pieces, all = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += all) {
        const int piece = (int)(i % pieces), of = (int)(i / pieces % heads);
        const int64_t row = i / pieces / heads;
        const float *const from = dq + (of * g.shape.tokens + row) * g.shape.dim + piece * 8;
        float x[8], low[4], high[4];
        bif_load<float, 4>(from, low);
        bif_load<float, 4>(from + 4, high);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            x[e] = low[e] * g.shape.scale;
            x[4 + e] = high[e] * g.shape.scale;
        }
        bif_store<bif_bf16, 8>(dqkv + row * g.shape.row + (int64_t)(g.first_kv * g.shape.group + of) * g.shape.dim + piece * 8, x);
    }
}

/* qkv, dout, dqkv and, or NULL, dq. */
typedef struct {
    const bif_bf16 *qkv, *dout;
    bif_bf16 *dqkv;
    float *dq;
} operands;

template <int W, int MT, int CHUNK, bool KEYS, bool ADD> static void launch(bif_device *device, const bif_gradients *g, const operands *x)
{
    constexpr size_t shared = tile_shared(W, ADD);
    BIF_ALLOW_SHARED((tile_gradients<W, MT, CHUNK, KEYS, ADD>), shared);
    BIF_LAUNCH((tile_gradients<W, MT, CHUNK, KEYS, ADD>), bif_gradients_grid(g, BLOCK, KEYS), 256 / MT, shared, bif_cuda_of(device)->stream,
               *g, x->qkv, x->dout, x->dqkv, x->dq);
    BIF_LAUNCHED("attention_backward");
}

template <int W, int MT, int CHUNK> static void launch_passes(bif_device *device, const bif_gradients *g, const operands *x)
{
    if (x->dq == NULL) {
        launch<W, MT, CHUNK, true, false>(device, g, x);
        launch<W, MT, CHUNK, false, false>(device, g, x);
        return;
    }
    const cudaStream_t stream = bif_cuda_of(device)->stream;
    const int64_t heads = (int64_t)g->kv * g->shape.group, count = heads * g->shape.tokens * g->shape.dim;
    BIF_CUDA_MUST(cudaMemsetAsync(x->dq, 0, (size_t)count * sizeof(float), stream), "attention_backward: clearing dQ");
    launch<W, MT, CHUNK, true, true>(device, g, x);
    BIF_LAUNCH(round_queries, bif_grid(device, count / 8, 256, 16), 256, 0, stream, *g, x->dq, x->dqkv);
    BIF_LAUNCHED("attention_backward: dQ");
}

void bif_gradients_tiles(bif_device *device, int width, const bif_gradients *g, const bif_bf16 *qkv, const bif_bf16 *dout, bif_bf16 *dqkv,
                         float *dq)
{
    const operands x = {qkv, dout, dqkv, dq};
    switch (width) {
    case 32: launch_passes<32, 2, 32>(device, g, &x); break;
    case 64: launch_passes<64, 2, 32>(device, g, &x); break;
    case 96: launch_passes<96, 1, 64>(device, g, &x); break;
    default: launch_passes<128, 1, 64>(device, g, &x); break;
    }
}
