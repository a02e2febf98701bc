/* What the two files of attention backward share: how both cut a call into blocks.
 *
 * From the logsumexp the forward stored: P = 2^(S - lse), dP = dout V^T, dS = P (dP - delta) with delta = rowsum(dout * out),
 * dQ = scale dS K, dK = scale dS^T Q, dV = P^T dout. Nothing of T x T is stored. Two passes of one kernel, so that every element has one
 * writer and its sum one order. A block holds some rows ("mine") of a sequence and one head in shared memory, and the other side ("stream")
 * goes past in steps:
 *   keys:    mine = K, V     stream = Q, dout of the query heads of the group, one after the other    -> dK, dV
 *   queries: mine = Q, dout  stream = K, V                                                            -> dQ */
#pragma once
#include "kernels/attention_cuda.cuh"

/* A pass. One launch takes all key heads, unless the scratch is too small. */
typedef struct {
    bif_attention_shape shape;
    int32_t first_kv, kv;     /* the key heads of this launch, with their groups of query heads */
    float factor;             /* scale * log2(e): scores in units of log 2 */
    const float2 *of_queries; /* [kv * group, T]: lse * log2(e), delta */
} bif_gradients;

/* Two matrices of one row a token, at row 0 of a sequence and column 0 of a head: K and V, or Q and dout. */
template <class T> struct bif_gradients_pair {
    const T *a, *b;
    int64_t a_stride, b_stride;
};

template <class T>
__device__ __forceinline__ bif_gradients_pair<T> bif_gradients_keys(const bif_gradients &g, int32_t start, int32_t kv, const T *qkv)
{
    const T *const k = qkv + start * g.shape.row + (int64_t)(g.shape.heads + kv) * g.shape.dim;
    return {k, k + (int64_t)g.shape.kv_heads * g.shape.dim, g.shape.row, g.shape.row};
}

template <class T>
__device__ __forceinline__ bif_gradients_pair<T> bif_gradients_queries(const bif_gradients &g, int32_t start, int32_t head, const T *qkv,
                                                                       const T *dout)
{
    const int64_t column = (int64_t)head * g.shape.dim, width = (int64_t)g.shape.heads * g.shape.dim;
    return {qkv + start * g.shape.row + column, dout + start * width + column, g.shape.row, width};
}

/* lse * log2(e) and delta. A query that is not there has lse = infinity, so that its P and dS are 0 without any other test. */
__device__ __forceinline__ float2 bif_gradients_query(const bif_gradients &g, const bif_attention_unit &u, int32_t head, int32_t query)
{
    return query < u.length ? g.of_queries[(int64_t)(head - g.first_kv * g.shape.group) * g.shape.tokens + u.start + query]
                            : make_float2(INFINITY, 0.0f);
}

/* What a block does. */
typedef struct {
    bif_attention_unit unit;
    int32_t kv, head;      /* keys: the first query head of the group; queries: the head */
    int32_t first, a_head; /* the stream's rows begin at `first` and take a_head steps a head */
    int32_t steps;         /* in all */
} bif_gradients_work;

/* Heads change fastest from block to block and the longest streams come first, so that the last blocks to run are short ones. */
template <bool KEYS> __device__ __forceinline__ bif_gradients_work bif_gradients_find(const bif_gradients &g, int32_t block, int32_t step)
{
    const int32_t heads = KEYS ? g.kv : g.kv * g.shape.group, index = (int32_t)blockIdx.x / heads, of = (int32_t)blockIdx.x % heads;
    bif_gradients_work w;
    w.unit = bif_attention_find(g.shape, index, block, !KEYS);
    w.kv = g.first_kv + (KEYS ? of : of / g.shape.group);
    w.head = KEYS ? w.kv * g.shape.group : g.first_kv * g.shape.group + of;
    const int32_t end = KEYS || !g.shape.causal ? w.unit.length : w.unit.begin + w.unit.count;
    w.first = KEYS && g.shape.causal ? w.unit.begin : 0;
    w.a_head = (end - w.first + step - 1) / step;
    w.steps = w.unit.count == 0 ? 0 : KEYS ? w.a_head * g.shape.group : w.a_head;
    return w;
}

static inline unsigned bif_gradients_grid(const bif_gradients *g, int block, bool keys)
{
    const int64_t blocks = bif_attention_units(&g->shape, block) * g->kv * (keys ? 1 : g->shape.group);
    BIF_BUG_IF(blocks > INT32_MAX, "attention_backward: %lld blocks", (long long)blocks);
    return (unsigned)blocks;
}

/* bf16, heads up to 128, everything aligned to 16 bytes: on tensor cores. width: bif_attention_width. dq NULL: both passes. Else the pass
 * over keys also adds dQ / scale to dq f32 [kv * group, T, D] (cleared here), in whatever order the blocks come: five products instead of
 * seven, but not the same bits every time. */
void bif_gradients_tiles(bif_device *device, int width, const bif_gradients *g, const bif_bf16 *qkv, const bif_bf16 *dout, bif_bf16 *dqkv,
                         float *dq);
/* Keys of a block of bif_gradients_tiles. */
#define BIF_GRADIENTS_BLOCK 128
