/* What the attention kernels share: how a call is cut into units of work, and how units are dealt to threads.
 * Included by attention_*_cpu.c only. */
#pragma once
#include "kernels/tile.h"

/* A call in plain numbers. One row of qkv is H query heads | G key heads | G value heads. */
typedef struct {
    const int32_t *bounds; /* cu_seqlens */
    int64_t sequences, heads, kv_heads, group, dim, row; /* group = H / G query heads read one key head; row = (H + 2G) D */
    int64_t width;                                       /* dim rounded up to whole vectors */
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

/* Keys one pass over a block takes. At D = 32 a block of K and of V is 16 KB each, at 128 32 KB each: the first or the near
 * part of the second cache. */
static inline int64_t bif_attention_keys(int64_t width)
{
    return width <= 48 ? 128 : 64;
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

/* The share (of `threads` equal ones) a unit of work belongs to: units follow each other and `before` is the cost of those
 * ahead, so a share is contiguous. A function of the shapes alone. */
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
