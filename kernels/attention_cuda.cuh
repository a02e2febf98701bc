/* What the CUDA attention kernels share: how a call is cut into units of work that a CUDA graph may replay with other bounds, and tiles of
 * bf16 in shared memory. Included by attention*_cuda.cu only. */
#pragma once
#include "kernels/cuda.cuh"
#include "kernels/mma.cuh"

#define BIF_LOG2E 1.44269504088896340736f
#define BIF_LN2 0.69314718055994530942f

/* A call in plain numbers, passed to kernels by value. One row of qkv is H query heads | G key heads | G value heads. */
typedef struct {
    const int32_t *bounds; /* [sequences + 1], device */
    int32_t sequences, heads, kv_heads, group, dim; /* group = H / G query heads read one key head */
    int64_t row;                                    /* (H + 2G) D: elements from one token to the next in qkv */
    int64_t tokens;
    bool causal;
    float scale;
} bif_attention_shape;

static inline bif_attention_shape bif_attention_shape_of(const bif_tensor *qkv, const bif_tensor *bounds, int64_t heads, int64_t kv_heads,
                                                         int64_t dim, bool causal, float scale)
{
    bif_attention_shape shape;
    shape.bounds = bif_at<const int32_t>(bounds);
    shape.sequences = (int32_t)(bounds->dim[0] - 1);
    shape.heads = (int32_t)heads;
    shape.kv_heads = (int32_t)kv_heads;
    shape.group = (int32_t)(heads / kv_heads);
    shape.dim = (int32_t)dim;
    shape.row = (heads + 2 * kv_heads) * dim;
    shape.tokens = qkv->dim[0];
    shape.causal = causal;
    shape.scale = scale;
    return shape;
}

/* A unit of work is one block of at most `block` rows of one sequence. Sequence s owns the units from first(s) = bounds[s] / block + s on.
 * first(s + 1) - first(s) >= ceil(length / block) whatever the bounds are, so the number of units depends on T and n alone; at most one
 * unit a sequence is idle (count = 0). */
typedef struct {
    int32_t start, length; /* of the sequence: its rows are [start, start + length) of the packed tensors */
    int32_t begin, count;  /* rows [begin, begin + count) of the sequence are this unit's */
} bif_attention_unit;

static inline int64_t bif_attention_units(const bif_attention_shape *shape, int block)
{
    return shape->tokens / block + shape->sequences;
}

/* For whole warps; every thread of a block gets the same answer. A warp narrows [0, n) down 32 ways a step: one load for up to 32
 * sequences, two for 1024. last_first: hands out the blocks of a sequence from its end, where causal rows have the most keys. */
__device__ __forceinline__ bif_attention_unit bif_attention_find(const bif_attention_shape &shape, int32_t unit, int32_t block,
                                                                 bool last_first)
{
    const int32_t lane = (int32_t)(threadIdx.x & 31u), n = shape.sequences;
    int32_t low = 0, step = 1;
    while ((int64_t)step * 32 < n) {
        step *= 32;
    }
    for (; step > 0; step /= 32) {
        const int64_t s = low + (int64_t)lane * step;
        const bool begun = s < n && shape.bounds[s < n ? s : 0] / block + s <= unit;
        low += (__popc(__ballot_sync(0xffffffffu, begun)) - 1) * step;
    }
    bif_attention_unit u;
    u.start = shape.bounds[low];
    u.length = shape.bounds[low + 1] - u.start;
    const int32_t parts = (u.length + block - 1) / block, part = unit - (u.start / block + low);
    u.begin = (last_first ? parts - 1 - part : part) * block;
    u.count = part >= parts ? 0 : u.length - u.begin < block ? u.length - u.begin : block;
    return u;
}

/* Dynamic shared memory of more than 48 KB has to be asked for. */
#define BIF_ALLOW_SHARED(kernel, bytes) \
    BIF_CUDA_MUST(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)), "shared memory of a kernel")

/* Where the 16 bytes (8 columns) `chunk` of `row` lie in a tile of W columns, in elements from the tile's start. Chunks are permuted
 * within a row so that the 8 rows ldmatrix reads at a time fall into 8 different groups of 4 banks, for W = 32, 64, 96 and 128. */
template <int W> __device__ __forceinline__ int bif_tile_at(int row, int chunk)
{
    constexpr bool lines = W % 64 == 0; /* every row begins at the same bank; else every other one */
    return row * W + (chunk ^ (lines ? row & 7 : (row >> 1) & 3)) * 8;
}

/* Begins to copy `rows` of ROWS rows of `dim` columns (a multiple of 8) to a tile [ROWS, W]; the other rows and columns become zero. Rows
 * of `from` are `stride` elements apart; `from` must be a readable address even when rows = 0. All THREADS threads of the block; close the
 * group with bif_copy_group. */
template <int ROWS, int W, int THREADS>
__device__ __forceinline__ void bif_tile_copy(bif_bf16 *tile, const bif_bf16 *from, int64_t stride, int rows, int dim)
{
    constexpr int chunks = W / 8, step = THREADS / chunks;
    static_assert(ROWS * chunks % THREADS == 0, "a tile is copied in whole rounds");
    if constexpr (THREADS % chunks == 0 && step % 8 == 0) { /* a thread stays in its column, and the permutation comes round: one pointer */
        const int first = (int)threadIdx.x / chunks, chunk = (int)threadIdx.x % chunks;
        bif_bf16 *const to = tile + bif_tile_at<W>(first, chunk);
        const bif_bf16 *at = from + first * stride + chunk * 8;
#pragma unroll
        for (int i = 0; i < ROWS / step; i++, at += step * stride) {
            const bool there = first + i * step < rows && chunk * 8 < dim;
            bif_copy_16(to + i * step * W, there ? at : from, there ? 16 : 0);
        }
    } else {
#pragma unroll
        for (int i = 0; i < ROWS * chunks / THREADS; i++) {
            const int at = (int)threadIdx.x + i * THREADS, row = at / chunks, chunk = at % chunks;
            const bool there = row < rows && chunk * 8 < dim;
            bif_copy_16(tile + bif_tile_at<W>(row, chunk), there ? from + row * stride + chunk * 8 : from, there ? 16 : 0);
        }
    }
}

/* Fragments of a tile [.., W] in shared memory (see mma.cuh). `row`, `column`: the corner, columns a multiple of 8.
 * bif_tile_a: A [16 m, 16 k] of a tile that lies as [m, k]; bif_tile_a_transposed: the same of a tile that lies as [k, m].
 * bif_tile_b: two neighbours B [16 k, 8 n] (columns n.. and n + 8..) of a tile that lies as [n, k]; bif_tile_b_transposed: as [k, n]. */
template <int W> __device__ __forceinline__ void bif_tile_a(uint32_t (&a)[4], const bif_bf16 *tile, int m, int k)
{
    const int lane = (int)(threadIdx.x & 31u);
    bif_ldmatrix(a, tile + bif_tile_at<W>(m + (lane & 15), k / 8 + (lane >> 4)));
}

template <int W> __device__ __forceinline__ void bif_tile_a_transposed(uint32_t (&a)[4], const bif_bf16 *tile, int k, int m)
{
    const int lane = (int)(threadIdx.x & 31u);
    bif_ldmatrix_transposed(a, tile + bif_tile_at<W>(k + (lane & 7) + ((lane >> 4) << 3), m / 8 + ((lane >> 3) & 1)));
}

template <int W> __device__ __forceinline__ void bif_tile_b(uint32_t (&b)[2][2], const bif_bf16 *tile, int n, int k)
{
    const int lane = (int)(threadIdx.x & 31u);
    uint32_t r[4];
    bif_ldmatrix(r, tile + bif_tile_at<W>(n + (lane & 7) + ((lane >> 4) << 3), k / 8 + ((lane >> 3) & 1)));
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

template <int W> __device__ __forceinline__ void bif_tile_b_transposed(uint32_t (&b)[2][2], const bif_bf16 *tile, int k, int n)
{
    const int lane = (int)(threadIdx.x & 31u);
    uint32_t r[4];
    bif_ldmatrix_transposed(r, tile + bif_tile_at<W>(k + (lane & 15), n / 8 + (lane >> 4)));
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

/* Two neighbouring accumulators [16, 8] as a fragment A [16, 16] of bf16: a product's result feeds the next product from registers. */
__device__ __forceinline__ void bif_tile_a_of(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4])
{
    a[0] = bif_pair(left[0], left[1]);
    a[1] = bif_pair(left[2], left[3]);
    a[2] = bif_pair(right[0], right[1]);
    a[3] = bif_pair(right[2], right[3]);
}

/* Columns of the tensor-core kernels' tiles for a head size: 32, 64, 96 or 128; 0 when these kernels do not take the call (fp32, odd or
 * large heads, addresses not aligned) and the plain ones must. */
static inline int bif_attention_width(const bif_tensor *qkv, int64_t dim)
{
    return qkv->dtype != BIF_DTYPE_BF16 || dim > 128 || !bif_wide(qkv, dim) ? 0 : (int)bif_blocks_of(dim, 32) * 32;
}
