/* What the attention kernels share: how a call is cut into units of work, and how units are dealt to threads.
 * Included by attention_*_cpu.c only. */
#pragma once
#include "kernels/tile.h"

/* A call in plain numbers. One row of qkv is H query heads | G key heads | G value heads. */
typedef struct {
    const int32_t *bounds; /* cu_seqlens */
    int64_t sequences, heads, kv_heads, group, dim,
        row;       /* group = H / G query heads read one key head; row = (H + 2G) D */
    int64_t width; /* dim rounded up to whole vectors */
    bool causal;
    float scale;
} bif_attention_shape;

static inline bif_attention_shape bif_attention_shape_of(const bif_tensor *cu_seqlens, int64_t heads, int64_t kv_heads,
                                                         int64_t dim, bool causal, float scale)
{
    return (bif_attention_shape){
        .bounds = bif_i32(cu_seqlens),
        .sequences = cu_seqlens->dim[0] - 1,
        .heads = heads,
        .kv_heads = kv_heads,
        .group = heads / kv_heads,
        .dim = dim,
        .row = (heads + 2 * kv_heads) * dim,
        .width = bif_padded(dim),
        .causal = causal,
        .scale = scale,
    };
}

/* Keys one pass over a block takes. A block of K and of V is 16 KB each at D = 32 (first cache), 48 KB at D = 128
 * (second); twice or half as many keys made no difference beyond the noise. */
static inline int64_t bif_attention_keys(int64_t width)
{
    return width <= 64 ? 128 : 96;
}

/* [0, n) in even parts of at most `most`, cut at multiples of `grain`: part p is [begin(p), begin(p + 1)). */
typedef struct {
    int64_t n, grain, parts;
} bif_cut;

static inline bif_cut bif_cut_of(int64_t n, int64_t most, int64_t grain)
{
    return (bif_cut){n, grain, (n + most - 1) / most};
}

static inline int64_t bif_cut_begin(const bif_cut *cut, int64_t part)
{
    return bif_min(cut->n, cut->grain * bif_part((cut->n + cut->grain - 1) / cut->grain, cut->parts, part));
}

/* Scores that rows [begin, end) of a sequence of t tokens compute, plus the cost of a row itself. */
static inline double bif_attention_cost(bool causal, int64_t t, int64_t begin, int64_t end)
{
    double keys = causal ? (double)(begin + end) / 2 : (double)t;
    return (double)(end - begin) * (keys + 16);
}

/* The share (of `threads` equal ones) a unit of work belongs to: units follow each other and `before` is the cost of
 * those ahead, so a share is contiguous. A function of the shapes alone. */
static inline int bif_attention_owner(double before, double cost, double total, int threads)
{
    int owner = (int)((before + cost / 2) / total * threads);
    return owner < threads ? owner : threads - 1;
}

/* The next part of a scratch block; parts start at multiples of 64 bytes. */
static inline float *bif_attention_take(float **at, int64_t floats)
{
    float *part = *at;
    *at += (floats + 15) / 16 * 16;
    return part;
}

/* The unit that follows (sequence, kv) in a share, as rows of the packed tensors: its lines are asked for while this
 * one is computed. Heads of 32 numbers lie 128 bytes wide in rows a kilobyte or more apart, which the hardware does not
 * foresee: without this a third of the time of a short sequence went into waiting for them. Long sequences do not need
 * it (rows = 0). */
typedef struct {
    int64_t row, rows, kv;
} bif_attention_next;

static inline bif_attention_next bif_attention_next_of(const bif_attention_shape *shape, int64_t sequence, int64_t kv)
{
    sequence += kv + 1 == shape->kv_heads;
    if (sequence == shape->sequences) {
        return (bif_attention_next){0, 0, 0};
    }
    int64_t first = shape->bounds[sequence], t = shape->bounds[sequence + 1] - first;
    return (bif_attention_next){first, t <= 256 ? t : 0, (kv + 1) % shape->kv_heads};
}

/* Asks for columns [0, width) of `rows` rows. Always inlined, like its callers: GCC takes a function that only
 * prefetches for one without effect and drops the call. */
__attribute__((always_inline)) static inline void bif_prefetch(const float *p, int64_t rows, int64_t stride,
                                                               int64_t width)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < width; j += 16) {
            __builtin_prefetch(p + i * stride + j);
        }
    }
}

/* Rows [begin, end) of the following unit's q, k and v. */
__attribute__((always_inline)) static inline void bif_attention_prefetch(const bif_attention_shape *shape,
                                                                         const float *qkv,
                                                                         const bif_attention_next *next, int64_t begin,
                                                                         int64_t end)
{
    int64_t rows = bif_min(end, next->rows) - begin, dim = shape->dim;
    if (rows <= 0) {
        return;
    }
    const float *at = qkv + (next->row + begin) * shape->row;
    bif_prefetch(at + next->kv * shape->group * dim, rows, shape->row, shape->group * dim);
    bif_prefetch(at + (shape->heads + next->kv) * dim, rows, shape->row, dim);
    bif_prefetch(at + (shape->heads + shape->kv_heads + next->kv) * dim, rows, shape->row, dim);
}
