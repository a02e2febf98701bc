/* Attention forward: online softmax over tiles of keys, no T x T matrix. Two kernels: bf16 on tensor cores, and a plain one in fp32 for
 * fp32, odd head sizes and unaligned tensors.
 *
 * A block of threads takes one head of one unit (attention_cuda.cuh), heads fastest: blocks that run together share keys in L2. Causal
 * units go from the end of a sequence, longest first, so that short ones fill the tail. */
#include "kernels/attention_cuda.cuh"
#include "kernels/attention_cudnn.cuh"

/* ---- bf16, tensor cores ----
 *
 * 4 warps of 16 M rows each; a warp's scores, softmax and output stay in its registers. With M = 2 a fragment of K or V read from shared
 * memory feeds four mma instead of two: 80 ldmatrix to 256 mma a tile of 64 keys at D = 128, where M = 1 would keep shared memory as busy
 * as the tensor cores. It costs 128 registers for the output and 64 for the scores, two blocks a multiprocessor, and Q is read from shared
 * memory each time. K and V have one tile each (64 KB a block with Q at D = 128: two blocks also in the 163 KB of an A100): V is copied
 * while the scores of its keys are computed, the next K while P V is. */
#define WARPS 4
#define THREADS (32 * WARPS)
#define KEYS 64 /* of a tile */

/* What a warp knows about its rows; element [m][h] belongs to row 16 m + 8 h + lane / 4, columns as in a C fragment of bif_mma. */
template <int W, int M> struct warp_rows {
    float out[M][W / 8][4]; /* not yet divided by the sum */
    float peak[M][2];       /* score that is subtracted: at most `slack` below the highest so far */
    float sum[M][2];        /* of this lane's columns */
};

/* scores = Q K^T: Q of the warp's rows from `first` on, K of a tile. */
template <int W, int M>
__device__ __forceinline__ void multiply_keys(float (&scores)[M][KEYS / 8][4], const bif_bf16 *q, int first, const bif_bf16 *k)
{
#pragma unroll
    for (int d = 0; d < W; d += 16) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
            bif_tile_a<W>(a[m], q, first + 16 * m, d);
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            uint32_t b[2][2];
            bif_tile_b<W>(b, k, 8 * n, d);
#pragma unroll
            for (int m = 0; m < M; m++) {
                bif_mma(scores[m][n], a[m], b[0]);
                bif_mma(scores[m][n + 1], a[m], b[1]);
            }
        }
    }
}

/* Minus infinity for keys a row does not see. `row`, `key`: of the tile's corner, in the sequence. */
template <int M>
__device__ __forceinline__ void mask_keys(float (&scores)[M][KEYS / 8][4], int row, int key, int length, bool causal)
{
    const int lane = (int)(threadIdx.x & 31u);
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int own = row + 16 * m + 8 * h + lane / 4;
            const int limit = (causal && own + 1 < length ? own + 1 : length) - key - 2 * (lane % 4);
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                scores[m][n][2 * h] = 8 * n < limit ? scores[m][n][2 * h] : -INFINITY;
                scores[m][n][2 * h + 1] = 8 * n + 1 < limit ? scores[m][n][2 * h + 1] : -INFINITY;
            }
        }
    }
}

/* scores become 2^((score - peak) factor). The peak moves, and what was added up so far is scaled, only when a row of the warp exceeds it
 * by 2^8: the sums have room for that in fp32 and bf16 keeps its precision, and most tiles after the first leave the output alone. */
template <int W, int M>
__device__ __forceinline__ void soften(warp_rows<W, M> &rows, float (&scores)[M][KEYS / 8][4], float factor, float slack)
{
    float high[M][2];
    bool moves = false;
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float x = scores[m][0][2 * h];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                x = fmaxf(x, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
            }
            x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
            high[m][h] = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
            moves = moves || high[m][h] > rows.peak[m][h] + slack;
        }
    }
    if (__any_sync(0xffffffffu, moves)) {
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float peak = fmaxf(rows.peak[m][h], high[m][h]), scale = bif_exp2((rows.peak[m][h] - peak) * factor);
                rows.peak[m][h] = peak;
                rows.sum[m][h] *= scale;
#pragma unroll
                for (int n = 0; n < W / 8; n++) {
                    rows.out[m][n][2 * h] *= scale;
                    rows.out[m][n][2 * h + 1] *= scale;
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float shift = -rows.peak[m][h] * factor;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                scores[m][n][2 * h] = bif_exp2(fmaf(scores[m][n][2 * h], factor, shift));
                scores[m][n][2 * h + 1] = bif_exp2(fmaf(scores[m][n][2 * h + 1], factor, shift));
                rows.sum[m][h] += scores[m][n][2 * h] + scores[m][n][2 * h + 1];
            }
        }
    }
}

/* out += P V. */
template <int W, int M>
__device__ __forceinline__ void multiply_values(warp_rows<W, M> &rows, const float (&scores)[M][KEYS / 8][4], const bif_bf16 *v)
{
#pragma unroll
    for (int k = 0; k < KEYS; k += 16) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
            bif_tile_a_of(a[m], scores[m][k / 8], scores[m][k / 8 + 1]);
        }
#pragma unroll
        for (int n = 0; n < W / 8; n += 2) {
            uint32_t b[2][2];
            bif_tile_b_transposed<W>(b, v, k, 8 * n);
#pragma unroll
            for (int m = 0; m < M; m++) {
                bif_mma(rows.out[m][n], a[m], b[0]);
                bif_mma(rows.out[m][n + 1], a[m], b[1]);
            }
        }
    }
}

/* A warp's rows to memory: over its part of the Q tile, which nobody needs any more, so that rows are written 16 bytes a lane. out, lse:
 * at the unit's first row; count: rows of the unit. */
template <int W, int M>
__device__ __forceinline__ void finish_rows(const bif_attention_shape &shape, warp_rows<W, M> &rows, bif_bf16 *tile, int first, int count,
                                            float factor, bif_bf16 *out, float *lse)
{
    const int lane = (int)(threadIdx.x & 31u);
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = first + 16 * m + 8 * h + lane / 4;
            float sum = rows.sum[m][h];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            const float inverse = 1.0f / sum;
#pragma unroll
            for (int n = 0; n < W / 8; n++) {
                uint32_t *to = reinterpret_cast<uint32_t *>(tile + bif_tile_at<W>(row, n) + 2 * (lane % 4));
                *to = bif_pair(rows.out[m][n][2 * h] * inverse, rows.out[m][n][2 * h + 1] * inverse);
            }
            if (lse != NULL && lane % 4 == 0 && row < count) {
                lse[(int64_t)row * shape.heads] = rows.peak[m][h] * factor * BIF_LN2 + logf(sum);
            }
        }
    }
    __syncwarp();
    for (int i = lane; i < 16 * M * (W / 8); i += 32) {
        const int row = first + i / (W / 8), chunk = i % (W / 8);
        if (row < count && chunk * 8 < shape.dim) {
            const uint4 x = *reinterpret_cast<const uint4 *>(tile + bif_tile_at<W>(row, chunk));
            *reinterpret_cast<uint4 *>(out + (int64_t)row * shape.heads * shape.dim + chunk * 8) = x;
        }
    }
}

template <int W, int M>
static __global__ void __launch_bounds__(THREADS, M == 1 ? 3 : 2)
attention_mma(const bif_attention_shape shape, const bif_bf16 *qkv, bif_bf16 *out, float *lse)
{
    constexpr int block_rows = 16 * M * WARPS;
    BIF_SHARED(bif_bf16, q);
    bif_bf16 *const k = q + block_rows * W, *const v = k + KEYS * W;
    const int head = (int)(blockIdx.x % (unsigned)shape.heads), unit = (int)(blockIdx.x / (unsigned)shape.heads);
    const bif_attention_unit u = bif_attention_find(shape, unit, block_rows, shape.causal);
    if (u.count <= 0) {
        return; /* all threads of the block */
    }
    const bif_bf16 *queries = qkv + (int64_t)(u.start + u.begin) * shape.row + head * shape.dim;
    const bif_bf16 *keys = qkv + (int64_t)u.start * shape.row + (shape.heads + head / shape.group) * shape.dim;
    const bif_bf16 *values = keys + shape.kv_heads * shape.dim;
    const int seen = shape.causal ? u.begin + u.count : u.length; /* keys [0, seen) */

    /* This warp: rows from `first` of the unit; `own` keys are seen by one of them or more, `all` by each. */
    const int first = (int)(threadIdx.x >> 5) * 16 * M, last = first + 16 * M < u.count ? first + 16 * M : u.count;
    const int own = first >= u.count ? 0 : shape.causal ? u.begin + last : seen, all = shape.causal ? u.begin + first + 1 : seen;
    const float factor = shape.scale * BIF_LOG2E, slack = 8.0f / factor;
    warp_rows<W, M> rows;
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int n = 0; n < W / 8; n++) {
            rows.out[m][n][0] = rows.out[m][n][1] = rows.out[m][n][2] = rows.out[m][n][3] = 0.0f;
        }
        rows.peak[m][0] = rows.peak[m][1] = -INFINITY;
        rows.sum[m][0] = rows.sum[m][1] = 0.0f;
    }
    bif_tile_copy<block_rows, W, THREADS>(q, queries, shape.row, u.count, shape.dim);
    bif_tile_copy<KEYS, W, THREADS>(k, keys, shape.row, seen, shape.dim);
    bif_copy_group();
    for (int key = 0; key < seen; key += KEYS) {
        bif_copy_wait<0>();
        __syncthreads(); /* K is there, and V is free */
        bif_tile_copy<KEYS, W, THREADS>(v, values + key * shape.row, shape.row, seen - key, shape.dim);
        bif_copy_group();
        float scores[M][KEYS / 8][4] = {};
        if (key < own) {
            multiply_keys<W, M>(scores, q, first, k);
            if (key + KEYS > all) {
                mask_keys<M>(scores, u.begin + first, key, u.length, shape.causal);
            }
            soften<W, M>(rows, scores, factor, slack);
        }
        bif_copy_wait<0>();
        __syncthreads(); /* V is there, and K is free */
        if (key + KEYS < seen) {
            const int next = key + KEYS;
            bif_tile_copy<KEYS, W, THREADS>(k, keys + next * shape.row, shape.row, seen - next, shape.dim);
            bif_copy_group();
        }
        if (key < own) {
            multiply_values<W, M>(rows, scores, v);
        }
    }
    if (first < u.count) {
        const int64_t row = u.start + u.begin;
        finish_rows<W, M>(shape, rows, q, first, u.count, factor, out + (row * shape.heads + head) * shape.dim,
                          lse == NULL ? NULL : lse + row * shape.heads + head);
    }
}

template <int W, int M> static void launch_mma(const bif_cuda *cuda, const bif_attention_shape *shape, const bif_attention_args *args)
{
    const int64_t units = bif_attention_units(shape, 16 * M * WARPS);
    const size_t shared = (16 * M * WARPS + 2 * KEYS) * W * sizeof(bif_bf16);
    BIF_ALLOW_SHARED((attention_mma<W, M>), shared);
    BIF_LAUNCH((attention_mma<W, M>), (unsigned)(units * shape->heads), THREADS, shared, cuda->stream, *shape,
               bif_at<const bif_bf16>(args->qkv), bif_at<bif_bf16>(args->out), bif_at<float>(args->lse));
}

/* 128 rows a block, or 64 when sequences are shorter than that on average. */
template <int W> static void choose_rows(const bif_cuda *cuda, const bif_attention_shape *shape, const bif_attention_args *args)
{
    if (shape->tokens < 128 * (int64_t)shape->sequences) {
        launch_mma<W, 1>(cuda, shape, args);
    } else {
        launch_mma<W, 2>(cuda, shape, args);
    }
}

/* ---- plain ----
 *
 * 16 x 16 threads and 64 query rows; a thread has 4 rows and, of a tile of 32 keys, 2 of the scores. Any head size: the dot products go
 * over it 32 columns at a time, and a block makes at most 128 columns of the output (blockIdx.y; a larger head computes its scores again
 * for each). */
#define PLAIN_ROWS 64
#define PLAIN_KEYS 32
#define PLAIN_DEPTH 32
#define PLAIN_COLUMNS 128

struct plain_tiles {
    float q[PLAIN_DEPTH][PLAIN_ROWS + 4]; /* columns of q by rows, so that 4 rows are one access */
    float k[PLAIN_DEPTH][PLAIN_KEYS + 2];
    float p[PLAIN_KEYS][PLAIN_ROWS + 4];
    float v[PLAIN_KEYS][PLAIN_COLUMNS];
};

/* tile[c][r] = from[r][c] for the `rows` x `columns` that are there, else 0. */
template <class T, int R, int PITCH>
__device__ __forceinline__ void load_columns(float (&tile)[PLAIN_DEPTH][PITCH], const T *from, int64_t stride, int rows, int columns)
{
    for (int i = (int)threadIdx.x; i < R * PLAIN_DEPTH; i += 256) {
        const int r = i / PLAIN_DEPTH, c = i % PLAIN_DEPTH;
        tile[c][r] = r < rows && c < columns ? bif_to_float(from[r * stride + c]) : 0.0f;
    }
}

template <class T>
static __global__ void __launch_bounds__(256) attention_plain(const bif_attention_shape shape, const T *qkv, T *out, float *lse)
{
    BIF_SHARED(plain_tiles, tiles);
    const int head = (int)(blockIdx.x % (unsigned)shape.heads), unit = (int)(blockIdx.x / (unsigned)shape.heads);
    const bif_attention_unit u = bif_attention_find(shape, unit, PLAIN_ROWS, shape.causal);
    if (u.count <= 0) {
        return; /* all threads of the block */
    }
    const int tx = (int)(threadIdx.x % 16u), ty = (int)(threadIdx.x / 16u), column = (int)blockIdx.y * PLAIN_COLUMNS;
    const int columns = shape.dim - column < PLAIN_COLUMNS ? shape.dim - column : PLAIN_COLUMNS;
    const T *queries = qkv + (int64_t)(u.start + u.begin) * shape.row + head * shape.dim;
    const T *keys = qkv + (int64_t)u.start * shape.row + (shape.heads + head / shape.group) * shape.dim;
    const T *values = keys + shape.kv_heads * shape.dim + column;
    const int seen = shape.causal ? u.begin + u.count : u.length;
    float sums[4][PLAIN_COLUMNS / 16] = {}, peak[4], total[4]; /* row 4 ty + i, columns tx + 16 e */
    for (int i = 0; i < 4; i++) {
        peak[i] = -INFINITY;
        total[i] = 0.0f;
    }
    for (int key = 0; key < seen; key += PLAIN_KEYS) {
        float s[4][2] = {}; /* keys 2 tx, 2 tx + 1 */
        for (int d = 0; d < shape.dim; d += PLAIN_DEPTH) {
            __syncthreads();
            load_columns<T, PLAIN_ROWS>(tiles->q, queries + d, shape.row, u.count, shape.dim - d);
            load_columns<T, PLAIN_KEYS>(tiles->k, keys + key * shape.row + d, shape.row, seen - key, shape.dim - d);
            __syncthreads();
#pragma unroll 8
            for (int c = 0; c < PLAIN_DEPTH; c++) {
                const float4 a = *reinterpret_cast<const float4 *>(&tiles->q[c][4 * ty]);
                const float2 b = *reinterpret_cast<const float2 *>(&tiles->k[c][2 * tx]);
                s[0][0] = fmaf(a.x, b.x, s[0][0]), s[0][1] = fmaf(a.x, b.y, s[0][1]);
                s[1][0] = fmaf(a.y, b.x, s[1][0]), s[1][1] = fmaf(a.y, b.y, s[1][1]);
                s[2][0] = fmaf(a.z, b.x, s[2][0]), s[2][1] = fmaf(a.z, b.y, s[2][1]);
                s[3][0] = fmaf(a.w, b.x, s[3][0]), s[3][1] = fmaf(a.w, b.y, s[3][1]);
            }
        }
        for (int i = (int)threadIdx.x; i < PLAIN_KEYS * PLAIN_COLUMNS; i += 256) {
            const int r = i / PLAIN_COLUMNS, c = i % PLAIN_COLUMNS;
            tiles->v[r][c] = key + r < seen && c < columns ? bif_to_float(values[(key + r) * shape.row + c]) : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = u.begin + 4 * ty + i, limit = (shape.causal && row + 1 < u.length ? row + 1 : u.length) - key - 2 * tx;
            s[i][0] = limit > 0 ? s[i][0] * shape.scale : -INFINITY;
            s[i][1] = limit > 1 ? s[i][1] * shape.scale : -INFINITY;
            float high = fmaxf(s[i][0], s[i][1]);
            for (int step = 8; step > 0; step >>= 1) {
                high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, step));
            }
            high = fmaxf(peak[i], high);
            const float scale = expf(peak[i] - high);
            peak[i] = high;
            s[i][0] = expf(s[i][0] - high);
            s[i][1] = expf(s[i][1] - high);
            total[i] = total[i] * scale + (s[i][0] + s[i][1]);
#pragma unroll
            for (int e = 0; e < PLAIN_COLUMNS / 16; e++) {
                sums[i][e] *= scale;
            }
            tiles->p[2 * tx][4 * ty + i] = s[i][0];
            tiles->p[2 * tx + 1][4 * ty + i] = s[i][1];
        }
        __syncthreads();
        for (int j = 0; j < PLAIN_KEYS; j++) {
            const float4 p = *reinterpret_cast<const float4 *>(&tiles->p[j][4 * ty]);
#pragma unroll
            for (int e = 0; e < PLAIN_COLUMNS / 16; e++) {
                if (16 * e < columns) {
                    const float x = tiles->v[j][tx + 16 * e];
                    sums[0][e] = fmaf(p.x, x, sums[0][e]);
                    sums[1][e] = fmaf(p.y, x, sums[1][e]);
                    sums[2][e] = fmaf(p.z, x, sums[2][e]);
                    sums[3][e] = fmaf(p.w, x, sums[3][e]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        for (int step = 8; step > 0; step >>= 1) {
            total[i] += __shfl_xor_sync(0xffffffffu, total[i], step);
        }
        if (4 * ty + i < u.count) {
            const int64_t at = (int64_t)(u.start + u.begin + 4 * ty + i) * shape.heads + head;
#pragma unroll
            for (int e = 0; e < PLAIN_COLUMNS / 16; e++) {
                if (tx + 16 * e < columns) {
                    out[at * shape.dim + column + tx + 16 * e] = bif_from_float<T>(sums[i][e] / total[i]);
                }
            }
            if (lse != NULL && tx == 0 && column == 0) {
                lse[at] = peak[i] + logf(total[i]);
            }
        }
    }
}

static void run_attention(bif_device *device, const bif_attention_args *args)
{
    const bif_attention_shape shape =
        bif_attention_shape_of(args->qkv, args->bounds, args->heads, args->kv_heads, args->head_dim, args->causal, args->scale);
    const bif_cuda *cuda = bif_cuda_of(device);
    /* The peak of raw scores is that of scaled ones only for scale > 0. */
    const int width = args->scale > 0 && bif_wide(args->out, args->head_dim) ? bif_attention_width(args->qkv, args->head_dim) : 0;
    switch (width) {
    case 32: choose_rows<32>(cuda, &shape, args); break;
    case 64: choose_rows<64>(cuda, &shape, args); break;
    case 96: choose_rows<96>(cuda, &shape, args); break;
    case 128: choose_rows<128>(cuda, &shape, args); break;
    default:
        BIF_EACH_FLOAT(args->qkv->dtype,
                       BIF_LAUNCH((attention_plain<T>),
                                  dim3((unsigned)(bif_attention_units(&shape, PLAIN_ROWS) * shape.heads),
                                       (unsigned)bif_blocks_of(shape.dim, PLAIN_COLUMNS)),
                                  256, sizeof(plain_tiles), cuda->stream, shape, bif_at<const T>(args->qkv), bif_at<T>(args->out),
                                  bif_at<float>(args->lse)));
    }
    BIF_LAUNCHED("attention");
}

extern "C" void bif_cuda_attention(bif_device *device, const bif_attention_args *args)
{
    if (args->qkv->dim[0] > 0 && !bif_cudnn_attention(device, args, run_attention)) {
        run_attention(device, args);
    }
}
