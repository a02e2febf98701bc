/* Attention backward, from the logsumexp the forward stored: P = 2^(S - lse), dP = dout V^T, dS = P (dP - delta) with delta = rowsum(dout * out),
 * dQ = scale dS K, dK = scale dS^T Q, dV = P^T dout. Nothing of T x T is stored.
 *
 * Two passes of one kernel, so that every element has one writer and its sum one order. A block holds some rows ("mine") of a sequence and one
 * head in shared memory, and the other side ("stream") goes past in steps:
 *   keys:    mine = K, V     stream = Q, dout of the query heads of the group, one after the other    -> dK, dV
 *   queries: mine = Q, dout  stream = K, V                                                            -> dQ
 * That is seven products, where one pass that scatters dQ by float atomics needs five; in exchange the result is the same bits every time.
 *
 * Two kinds of kernel do this: on tensor cores for bf16 and heads up to 128, and plain fp32 arithmetic for everything else. */
#include "kernels/attention_cuda.cuh"

/* What both kinds take besides qkv, dout and dqkv. */
typedef struct {
    bif_attention_shape shape;
    int32_t first_kv, kv;    /* the key heads of this launch, with their groups of query heads */
    float factor;            /* scale * log2(e): scores in units of log 2 */
    const float2 *of_queries; /* [kv * group, T]: lse * log2(e), delta */
} gradients;

/* Two matrices of one row a token, at row 0 of a sequence and column 0 of a head: K and V, or Q and dout. */
template <class T> struct pair_of {
    const T *a, *b;
    int64_t a_stride, b_stride;
};

template <class T> __device__ __forceinline__ pair_of<T> keys_of(const gradients &g, int32_t start, int32_t kv, const T *qkv)
{
    const T *const k = qkv + start * g.shape.row + (int64_t)(g.shape.heads + kv) * g.shape.dim;
    return {k, k + (int64_t)g.shape.kv_heads * g.shape.dim, g.shape.row, g.shape.row};
}

template <class T> __device__ __forceinline__ pair_of<T> queries_of(const gradients &g, int32_t start, int32_t head, const T *qkv, const T *dout)
{
    const int64_t column = (int64_t)head * g.shape.dim, width = (int64_t)g.shape.heads * g.shape.dim;
    return {qkv + start * g.shape.row + column, dout + start * width + column, g.shape.row, width};
}

/* A query that is not there has lse = infinity, so that its P and dS are 0 without any other test. */
__device__ __forceinline__ float2 query_of(const gradients &g, const bif_attention_unit &u, int32_t head, int32_t query)
{
    return query < u.length ? g.of_queries[(int64_t)(head - g.first_kv * g.shape.group) * g.shape.tokens + u.start + query]
                            : make_float2(INFINITY, 0.0f);
}

/* What a block does. */
typedef struct {
    bif_attention_unit unit;
    int32_t kv, head;        /* keys: the first query head of the group; queries: the head */
    int32_t first, a_head;   /* the stream's rows begin at `first` and take a_head steps a head */
    int32_t steps;           /* in all */
} work;

/* Heads change fastest from block to block and the longest streams come first, so that the last blocks to run are short ones. */
template <bool KEYS> __device__ __forceinline__ work find_work(const gradients &g, int32_t block, int32_t step)
{
    const int32_t heads = KEYS ? g.kv : g.kv * g.shape.group, index = (int32_t)(blockIdx.x / (unsigned)heads), of = (int32_t)(blockIdx.x % (unsigned)heads);
    work w;
    w.unit = bif_attention_find(g.shape, index, block, !KEYS);
    w.kv = g.first_kv + (KEYS ? of : of / g.shape.group);
    w.head = KEYS ? w.kv * g.shape.group : g.first_kv * g.shape.group + of;
    const int32_t end = KEYS || !g.shape.causal ? w.unit.length : w.unit.begin + w.unit.count;
    w.first = KEYS && g.shape.causal ? w.unit.begin : 0;
    w.a_head = (end - w.first + step - 1) / step;
    w.steps = w.unit.count == 0 ? 0 : KEYS ? w.a_head * g.shape.group : w.a_head;
    return w;
}

/* ---- bf16 on tensor cores ----
 * A warp owns whole rows of "mine": its scores leave the tensor cores in the layout in which the next product takes its left factor, so P and dS
 * never leave the registers, and the only barrier of a step is the one of the copies. */
enum { BLOCK = 128, STEP = 64 };

/* Two tiles of BLOCK rows, two stages of two tiles of STEP rows, two stages of what is known of STEP queries. Width 128: 129 KiB, one block of
 * 8 warps on a multiprocessor; 64: 65 KiB, two blocks of 4 warps. */
static constexpr size_t tile_shared(int width)
{
    return (size_t)(2 * BLOCK + 4 * STEP) * (size_t)width * sizeof(bif_bf16) + 2 * STEP * sizeof(float2);
}

/* bif_tile_copy of STEP rows, as a loop: unrolled, its addresses of all steps are kept in registers that the sums need. */
template <int W, int THREADS> __device__ __forceinline__ void step_copy(bif_bf16 *tile, const bif_bf16 *from, int64_t stride, int rows, int dim)
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
template <bool KEYS, int MT, int N> __device__ __forceinline__ void tile_mask(float (&x)[MT][N][4], bool causal, int length, int row, int column)
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
__device__ __forceinline__ void tile_store(bif_bf16 *to, int64_t stride, int row, int length, int dim, float factor, const float (&sum)[MT][W / 8][4])
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

/* W: head size rounded up to 32. MT: tiles of 16 rows a warp owns; 2 where the sums of 32 rows fit the registers (W <= 64), because every
 * fragment of the stream then serves two products. CHUNK: rows of the stream a warp multiplies at a time. */
template <int W, int MT, int CHUNK, bool KEYS>
__global__ void __launch_bounds__(256 / MT, MT) tile_gradients(const gradients g, const bif_bf16 *qkv, const bif_bf16 *dout, bif_bf16 *dqkv)
{
    constexpr int THREADS = 256 / MT, N = CHUNK / 8, ROWS = 16 * MT;
    constexpr int UNROLL = KEYS ? W / 32 : W / 16; /* more spills the two sums at W = 64 and 128 */
    BIF_SHARED(bif_bf16, shared);
    bif_bf16 *const mine_a = shared, *const mine_b = mine_a + BLOCK * W, *const stages = mine_b + BLOCK * W;
    float2 *const known = reinterpret_cast<float2 *>(stages + 4 * STEP * W); /* [2][STEP], of the stream's queries */

    const work w = find_work<KEYS>(g, BLOCK, STEP);
    if (w.steps == 0) {
        return; /* the whole block */
    }
    const bif_attention_unit &u = w.unit;
    const int lane = (int)(threadIdx.x & 31u), warp = (int)(threadIdx.x >> 5), dim = g.shape.dim;
    const bool causal = g.shape.causal;
    {
        const pair_of<bif_bf16> mine = KEYS ? keys_of(g, u.start, w.kv, qkv) : queries_of(g, u.start, w.head, qkv, dout);
        bif_tile_copy<BLOCK, W, THREADS>(mine_a, mine.a + u.begin * mine.a_stride, mine.a_stride, u.count, dim);
        bif_tile_copy<BLOCK, W, THREADS>(mine_b, mine.b + u.begin * mine.b_stride, mine.b_stride, u.count, dim);
    }
    const int m = warp * ROWS, row = u.begin + m; /* the warp's first row, in the tile and in the sequence */
    float2 own[MT][2];
    if (!KEYS) {
#pragma unroll
        for (int i = 0; i < 2 * MT; i++) {
            own[i / 2][i % 2] = query_of(g, u, w.head, row + i * 8 + lane / 4);
        }
    }
    float sum_a[MT][W / 8][4] = {}, sum_b[MT][W / 8][4] = {};

    int column0 = 0, next_column = w.first, head = w.head; /* of this step, of the next one, of the next one's queries */
    for (int step = -1; step < w.steps; step++) {
        /* This step's copies are complete, and nobody reads the other stage any more: the next step's may begin. */
        bif_copy_wait<0>();
        __syncthreads();
        const int stage = step & 1, other = stage ^ 1;
        const bool more = step + 1 < w.steps, knows = KEYS && more && threadIdx.x < STEP;
        float2 ahead = {};
        if (more) {
            const pair_of<bif_bf16> s = KEYS ? queries_of(g, u.start, head, qkv, dout) : keys_of(g, u.start, w.kv, qkv);
            bif_bf16 *const to = stages + other * 2 * STEP * W;
            step_copy<W, THREADS>(to, s.a + next_column * s.a_stride, s.a_stride, u.length - next_column, dim);
            step_copy<W, THREADS>(to + STEP * W, s.b + next_column * s.b_stride, s.b_stride, u.length - next_column, dim);
            if (knows) {
                ahead = query_of(g, u, head, next_column + (int)threadIdx.x); /* stored below, when it has arrived */
            }
        }
        bif_copy_group();
        const bif_bf16 *const stream_a = stages + stage * 2 * STEP * W, *const stream_b = stream_a + STEP * W;
#pragma unroll 1
        for (int c = 0; step >= 0 && c < STEP; c += CHUNK) {
            const int column = column0 + c;
            const bool unseen = causal && (KEYS ? column + CHUNK <= row : column >= row + ROWS);
            if (row >= u.length || column >= u.length || unseen) {
                continue; /* the whole warp */
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
                /* From the rounded P: the sums of both passes and P itself do not fit the registers at D = 128. */
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
            tile_add<W, MT, N / 2>(sum_a, gradient, stream_a, c);
        }
        if (knows) {
            known[other * STEP + (int)threadIdx.x] = ahead;
        }
        column0 = next_column;
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

/* ---- fp32 arithmetic, any dtype and alignment ----
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
__global__ void __launch_bounds__(PLAIN_THREADS, 1) plain_gradients(const gradients g, const T *qkv, const T *dout, T *dqkv)
{
    constexpr int C = plain<WIDTH>::columns, L = WIDTH / 32;
    BIF_SHARED(float, shared);
    float *const mine_a = shared, *const mine_b = mine_a + PLAIN_ROWS * C, *const stream_a = mine_b + PLAIN_ROWS * C;
    float *const stream_b = stream_a + PLAIN_ROWS * C;
    const work w = find_work<KEYS>(g, PLAIN_ROWS, PLAIN_ROWS);
    if (w.steps == 0) {
        return; /* the whole block */
    }
    const bif_attention_unit &u = w.unit;
    const int lane = (int)(threadIdx.x & 31u), warp = (int)(threadIdx.x >> 5), dim = g.shape.dim, m = warp * PLAIN_OWN;
    float *const p = stream_b + PLAIN_ROWS * C + m * PLAIN_ROWS, *const ds = p + PLAIN_ROWS * PLAIN_ROWS; /* [PLAIN_OWN, 32], the warp's own */
    const pair_of<T> mine = KEYS ? keys_of(g, u.start, w.kv, qkv) : queries_of(g, u.start, w.head, qkv, dout);
    plain_copy<T, WIDTH>(mine_a, mine.a + u.begin * mine.a_stride, mine.a_stride, u.count, dim);
    plain_copy<T, WIDTH>(mine_b, mine.b + u.begin * mine.b_stride, mine.b_stride, u.count, dim);
    float sum_a[PLAIN_OWN][L] = {}, sum_b[PLAIN_OWN][L] = {};
    for (int step = 0; step < w.steps; step++) {
        const int first = w.first + step % w.a_head * PLAIN_ROWS, head = w.head + (KEYS ? step / w.a_head : 0);
        const pair_of<T> s = KEYS ? queries_of(g, u.start, head, qkv, dout) : keys_of(g, u.start, w.kv, qkv);
        __syncthreads();
        plain_copy<T, WIDTH>(stream_a, s.a + first * s.a_stride, s.a_stride, u.length - first, dim);
        plain_copy<T, WIDTH>(stream_b, s.b + first * s.b_stride, s.b_stride, u.length - first, dim);
        __syncthreads();
        float x[PLAIN_OWN] = {}, y[PLAIN_OWN] = {};
        for (int d = 0; d < dim; d += 4) {
            const float4 a = *reinterpret_cast<const float4 *>(stream_a + lane * C + d), b = *reinterpret_cast<const float4 *>(stream_b + lane * C + d);
#pragma unroll
            for (int r = 0; r < PLAIN_OWN; r++) {
                x[r] = plain_dot(x[r], a, *reinterpret_cast<const float4 *>(mine_a + (m + r) * C + d));
                y[r] = plain_dot(y[r], b, *reinterpret_cast<const float4 *>(mine_b + (m + r) * C + d));
            }
        }
#pragma unroll
        for (int r = 0; r < PLAIN_OWN; r++) {
            const int row = u.begin + m + r, column = first + lane, key = KEYS ? row : column, query = KEYS ? column : row;
            const float2 known = query_of(g, u, head, query);
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
 * `lanes` (a power of two up to 32) threads a query and head, V elements each at a time; of_queries goes by head, so that a step's queries are
 * neighbours. */
template <class T, int V>
__global__ void __launch_bounds__(256) query_values(const gradients g, const T *out, const T *dout, const float *lse, float2 *of_queries, int lanes)
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

static unsigned grid_of(const gradients *g, int block, bool keys)
{
    const int64_t blocks = bif_attention_units(&g->shape, block) * g->kv * (keys ? 1 : g->shape.group);
    BIF_BUG_IF(blocks > INT32_MAX, "attention_backward: %lld blocks", (long long)blocks);
    return (unsigned)blocks;
}

template <class T, int V> static void launch_values(bif_device *device, const gradients *g, const operands<T> *x, float2 *of_queries)
{
    int lanes = 1;
    while (lanes < 32 && lanes * V < g->shape.dim) {
        lanes *= 2;
    }
    const int64_t threads = g->shape.tokens * g->kv * g->shape.group * lanes;
    BIF_LAUNCH((query_values<T, V>), bif_grid(device, threads, 256, 32), 256, 0, bif_cuda_of(device)->stream, *g, x->out, x->dout, x->lse, of_queries,
               lanes);
    BIF_LAUNCHED("attention_backward: values of queries");
}

template <int W, int MT, int CHUNK, bool KEYS> static void launch_tiles(bif_device *device, const gradients *g, const operands<bif_bf16> *x)
{
    BIF_ALLOW_SHARED((tile_gradients<W, MT, CHUNK, KEYS>), tile_shared(W));
    BIF_LAUNCH((tile_gradients<W, MT, CHUNK, KEYS>), grid_of(g, BLOCK, KEYS), 256 / MT, tile_shared(W), bif_cuda_of(device)->stream, *g, x->qkv, x->dout,
               x->dqkv);
    BIF_LAUNCHED("attention_backward");
}

template <class T, int WIDTH, bool KEYS> static void launch_plain(bif_device *device, const gradients *g, const operands<T> *x)
{
    BIF_ALLOW_SHARED((plain_gradients<T, WIDTH, KEYS>), plain<WIDTH>::shared);
    BIF_LAUNCH((plain_gradients<T, WIDTH, KEYS>), grid_of(g, PLAIN_ROWS, KEYS), PLAIN_THREADS, plain<WIDTH>::shared, bif_cuda_of(device)->stream, *g, x->qkv,
               x->dout, x->dqkv);
    BIF_LAUNCHED("attention_backward (plain)");
}

/* The two passes; width: of the tensor-core tiles, 0 = plain. fp32 has no tiles. */
template <bool KEYS> static void launch_gradients(bif_device *device, int width, const gradients *g, const operands<bif_bf16> *x)
{
    switch (width) {
    case 32: launch_tiles<32, 2, 32, KEYS>(device, g, x); break;
    case 64: launch_tiles<64, 2, 32, KEYS>(device, g, x); break;
    case 96: launch_tiles<96, 1, 64, KEYS>(device, g, x); break;
    case 128: launch_tiles<128, 1, 64, KEYS>(device, g, x); break;
    default:
        if (g->shape.dim <= 128) {
            launch_plain<bif_bf16, 128, KEYS>(device, g, x);
        } else {
            launch_plain<bif_bf16, 256, KEYS>(device, g, x);
        }
    }
}

template <bool KEYS> static void launch_gradients(bif_device *device, int, const gradients *g, const operands<float> *x)
{
    if (g->shape.dim <= 128) {
        launch_plain<float, 128, KEYS>(device, g, x);
    } else {
        launch_plain<float, 256, KEYS>(device, g, x);
    }
}

template <class T> static void run(bif_device *device, const bif_attention_backward_args *args)
{
    const bif_tensor *qkv = args->qkv;
    const int64_t dim = args->head_dim;
    BIF_BUG_IF(dim > 256, "attention_backward: heads of %lld, 256 at most on this device", (long long)dim);
    const operands<T> x = {bif_at<T>(qkv), bif_at<T>(args->out), bif_at<T>(args->dout), bif_at<float>(args->lse), bif_at<T>(args->dqkv)};
    gradients g;
    g.shape = bif_attention_shape_of(qkv, args->bounds, args->heads, args->kv_heads, dim, args->causal, args->scale);
    g.factor = args->scale * BIF_LOG2E;
    const bool wide = bif_wide(args->out, dim) && bif_wide(args->dout, dim);
    const int width = wide && bif_wide(args->dqkv, dim) ? bif_attention_width(qkv, dim) : 0;
    /* All key heads at once, unless the values of their queries do not fit the scratch: 8 bytes a query and head. */
    float2 *const of_queries = (float2 *)bif_cuda_of(device)->scratch;
    const int64_t fit = (int64_t)bif_cuda_of(device)->scratch_bytes / (g.shape.tokens * g.shape.group * (int64_t)sizeof(float2));
    BIF_BUG_IF(fit < 1, "attention_backward: %lld rows of one key head do not fit the scratch", (long long)g.shape.tokens);
    g.of_queries = of_queries;
    for (g.first_kv = 0; g.first_kv < g.shape.kv_heads; g.first_kv += g.kv) {
        const int32_t left = g.shape.kv_heads - g.first_kv;
        g.kv = left < fit ? left : (int32_t)fit;
        if (wide) {
            launch_values<T, bif_lanes<T>::count>(device, &g, &x, of_queries);
        } else {
            launch_values<T, 1>(device, &g, &x, of_queries);
        }
        launch_gradients<true>(device, width, &g, &x);
        launch_gradients<false>(device, width, &g, &x);
    }
}

extern "C" void bif_cuda_attention_backward(bif_device *device, const bif_attention_backward_args *args)
{
    if (args->qkv->dim[0] > 0) {
        BIF_EACH_FLOAT(args->qkv->dtype, run<T>(device, args));
    }
}
