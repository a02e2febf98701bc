/* Ops that move or add whole rows. The host does not see the indices, so an index out of range (at or above the number of rows, or below 0
 * where the op does not give that a meaning) ends the kernel with __trap(): nothing outside of a tensor is touched, and the next call of the
 * device reports the failure. */
#include "kernels/wide.cuh"

static constexpr int THREADS = 256, AHEAD = 4;

/* A warp works on chunks of 32 * AHEAD accesses of one row (2 KiB of wide ones: a row of 1024 bf16), so that each thread has AHEAD reads
 * under way behind the one of the row's index. Chunk `item` of all rows: row item / chunks, accesses from item % chunks * 32 * AHEAD on. */
static __device__ __forceinline__ int64_t first_item(void)
{
    return (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
}

static __device__ __forceinline__ int64_t item_step(void)
{
    return (int64_t)gridDim.x * (THREADS / 32);
}

static unsigned row_blocks(const bif_device *device, int64_t rows, int64_t units)
{
    return bif_grid(device, rows * bif_blocks_of(units, 32 * AHEAD), THREADS / 32, 256);
}

/* ---- rows moved: bytes, of any dtype; U is what one access moves ---- */

/* scatter: to[index[i]] = from[i], else to[i] = from[index[i]]; `limit`: rows of the indexed side; index < 0 skips. */
template <class U>
static __global__ void move_rows(int64_t rows, int64_t units, bool scatter, const U *from, const int32_t *index, int64_t limit, U *to)
{
    const int lane = (int)(threadIdx.x & 31u);
    const int64_t chunks = (units + 32 * AHEAD - 1) / (32 * AHEAD);
    for (int64_t item = first_item(); item < rows * chunks; item += item_step()) {
        const int64_t row = item / chunks, first = item % chunks * 32 * AHEAD + lane, place = index[row];
        if (place >= limit) {
            __trap();
        }
        if (place >= 0) {
            const U *source = from + (scatter ? row : place) * units;
            U *target = to + (scatter ? place : row) * units;
            U held[AHEAD];
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                if (first + 32 * k < units) {
                    held[k] = source[first + 32 * k];
                }
            }
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                if (first + 32 * k < units) {
                    target[first + 32 * k] = held[k];
                }
            }
        }
    }
}

static void launch_move(bif_device *device, const char *op, bool scatter, const bif_tensor *from, const bif_tensor *index,
                        const bif_tensor *to)
{
    cudaStream_t stream = bif_cuda_of(device)->stream;
    const int64_t rows = index->dim[0], c = from->dim[1], limit = scatter ? to->dim[0] : from->dim[0];
    const int64_t bytes = c * (int64_t)bif_dtype_size(from->dtype);
    if (rows * c == 0) {
        return;
    }
    if (bif_wide(from, c) && bif_wide(to, c)) {
        BIF_LAUNCH((move_rows<bif_words>), row_blocks(device, rows, bytes / 16), THREADS, 0, stream, rows, bytes / 16, scatter,
                   bif_at<const bif_words>(from), bif_at<const int32_t>(index), limit, bif_at<bif_words>(to));
    } else if (from->dtype == BIF_DTYPE_BF16) {
        BIF_LAUNCH((move_rows<uint16_t>), row_blocks(device, rows, c), THREADS, 0, stream, rows, c, scatter, bif_at<const uint16_t>(from),
                   bif_at<const int32_t>(index), limit, bif_at<uint16_t>(to));
    } else {
        BIF_LAUNCH((move_rows<uint32_t>), row_blocks(device, rows, c), THREADS, 0, stream, rows, c, scatter, bif_at<const uint32_t>(from),
                   bif_at<const int32_t>(index), limit, bif_at<uint32_t>(to));
    }
    BIF_LAUNCHED(op);
}

extern "C" void bif_cuda_embedding(bif_device *device, const bif_embedding_args *args)
{
    launch_move(device, "embedding", false, args->table, args->ids, args->y);
}

extern "C" void bif_cuda_gather_rows(bif_device *device, const bif_gather_rows_args *args)
{
    launch_move(device, "gather_rows", false, args->src, args->index, args->dst);
}

/* ---- rows added to rows that may be the same: to[index[i]] += from[i], the same bits whatever the order of the blocks ----
 *
 * 1. count_rows: how often each row of `to` is named (integer additions: their order does not show), and where first.
 * 2. list_rows: the block of the first i that names a row writes the list of all such i, in their order. It reads index[] from there on
 *    until it has found them all; a row named once costs nothing. Worst case: (rows named twice or more) x count x 4 bytes, from L2: 8192
 *    tokens with 1500 repeated ids read at most 50 MB, less than the 64 MB of their gradients at C = 4096.
 * 3. sum_rows: a block for each such i and 32 accesses of columns. Its 8 warps sum an eighth of the list each, and the eighths are added
 *    in order: a row named a thousand times (a position, a full stop) is 125 additions long instead of 1000. */
static constexpr int EACH = 16; /* indices a thread looks at before a barrier: 4096 a block */

typedef struct {
    int *seen, *late, *offset; /* a row of `to`: times named; count - first i that names it; begin of its list */
    int *used, *list;          /* entries of list given away (their order changes no sum); [count] */
} row_lists;

static __global__ void count_rows(int count, const int32_t *index, int64_t limit, row_lists lists)
{
    for (int i = (int)(blockIdx.x * THREADS + threadIdx.x); i < count; i += (int)(gridDim.x * THREADS)) {
        const int place = index[i];
        if (place >= limit) {
            __trap();
        }
        if (place >= 0) {
            atomicAdd(&lists.seen[place], 1);
            atomicMax(&lists.late[place], count - i);
        }
    }
}

static __global__ void list_rows(int count, const int32_t *index, row_lists lists)
{
    BIF_SHARED(int, shared); /* matches of each of 8 warps | begin of the list */
    const int i = (int)blockIdx.x, place = index[i], warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int wanted = place >= 0 && lists.late[place] == count - i ? lists.seen[place] : 0; /* 0: another block's row */
    if (threadIdx.x == 0 && wanted > 0) {
        shared[8] = atomicAdd(lists.used, wanted);
        lists.offset[place] = shared[8];
        lists.list[shared[8]] = i;
    }
    __syncthreads();
    int found = 1;
    for (int base = i + 1; found < wanted && base < count; base += THREADS * EACH) {
        const int from = base + warp * 32 * EACH;
        unsigned hits[EACH];
        int mine = 0;
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            const int at = from + 32 * k + lane;
            hits[k] = __ballot_sync(0xffffffffu, at < count && index[at] == place);
            mine += __popc(hits[k]);
        }
        if (lane == 0) {
            shared[warp] = mine;
        }
        __syncthreads();
        int to = shared[8] + found;
        for (int other = 0; other < 8; other++) {
            to += other < warp ? shared[other] : 0;
            found += shared[other];
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            if (hits[k] >> lane & 1u) {
                lists.list[to + __popc(hits[k] & ((1u << lane) - 1u))] = from + 32 * k + lane;
            }
            to += __popc(hits[k]);
        }
        __syncthreads();
    }
}

template <class S, class D, int N>
static __global__ void sum_rows(int count, int64_t c, const S *from, const int32_t *index, row_lists lists, D *to)
{
    BIF_SHARED(float, shared); /* [8 warps][32 * N] */
    const int i = (int)blockIdx.x, place = index[i], warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int wanted = place >= 0 && lists.late[place] == count - i ? lists.seen[place] : 0;
    const int64_t column = ((int64_t)blockIdx.y * 32 + lane) * N;
    const int part = (wanted + 7) / 8, begin = warp * part, end = begin + part < wanted ? begin + part : wanted;
    const int *list = lists.list + (wanted > 0 ? lists.offset[place] : 0);
    float sum[N] = {};
    for (int at = begin; at < end && column < c; at += AHEAD) {
        float x[AHEAD][N];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (at + k < end) {
                bif_load(from + (int64_t)list[at + k] * c + column, x[k]);
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (at + k < end) {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    sum[j] += x[k][j];
                }
            }
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        shared[(warp * N + j) * 32 + lane] = sum[j];
    }
    __syncthreads();
    if (warp == 0 && wanted > 0 && column < c) {
        D *target = to + (int64_t)place * c + column;
        float total[N];
#pragma unroll
        for (int j = 0; j < N; j++) {
            total[j] = bif_to_float(target[j]);
            for (int other = 0; other < 8 && other * part < wanted; other++) {
                total[j] += shared[(other * N + j) * 32 + lane];
            }
            target[j] = bif_from_float<D>(total[j]);
        }
    }
}

template <class S, class D>
static void add_to_rows(bif_device *device, const char *op, const bif_tensor *from, const bif_tensor *index, const bif_tensor *to)
{
    bif_cuda *cuda = bif_cuda_of(device);
    const int64_t count = index->dim[0], c = from->dim[1], limit = to->dim[0];
    const int64_t ints = 3 * limit + 1 + count;
    constexpr int N = bif_lanes<S>::count;
    if (count * c == 0) {
        return;
    }
    BIF_BUG_IF(count > INT32_MAX || ints * 4 > (int64_t)cuda->scratch_bytes || bif_blocks_of(c, 32) > 65535,
               "%s: %lld rows of %lld columns added to %lld rows are too many", op, (long long)count, (long long)c, (long long)limit);
    row_lists lists;
    lists.seen = (int *)cuda->scratch;
    lists.late = lists.seen + limit;
    lists.used = lists.late + limit;
    lists.offset = lists.used + 1;
    lists.list = lists.offset + limit;
    const int32_t *at = bif_at<const int32_t>(index);
    BIF_CUDA_MUST(cudaMemsetAsync(cuda->scratch, 0, (size_t)(2 * limit + 1) * sizeof(int), cuda->stream), op);
    BIF_LAUNCH(count_rows, bif_grid(device, count, THREADS, 8), THREADS, 0, cuda->stream, (int)count, at, limit, lists);
    BIF_LAUNCH(list_rows, (unsigned)count, THREADS, 9 * sizeof(int), cuda->stream, (int)count, at, lists);
    if (bif_wide(from, c)) {
        BIF_LAUNCH((sum_rows<S, D, N>), dim3((unsigned)count, (unsigned)bif_blocks_of(c, 32 * N)), THREADS, 256 * N * sizeof(float),
                   cuda->stream, (int)count, c, bif_at<const S>(from), at, lists, bif_at<D>(to));
    } else {
        BIF_LAUNCH((sum_rows<S, D, 1>), dim3((unsigned)count, (unsigned)bif_blocks_of(c, 32)), THREADS, 256 * sizeof(float), cuda->stream,
                   (int)count, c, bif_at<const S>(from), at, lists, bif_at<D>(to));
    }
    BIF_LAUNCHED(op);
}

extern "C" void bif_cuda_embedding_backward(bif_device *device, const bif_embedding_backward_args *args)
{
    BIF_EACH_FLOAT(args->dy->dtype, add_to_rows<T, float>(device, "embedding_backward", args->dy, args->ids, args->dtable));
}

extern "C" void bif_cuda_scatter_rows(bif_device *device, const bif_scatter_rows_args *args)
{
    if (args->add) {
        BIF_EACH_FLOAT(args->src->dtype, add_to_rows<T, T>(device, "scatter_rows", args->src, args->index, args->dst));
    } else {
        launch_move(device, "scatter_rows", true, args->src, args->index, args->dst);
    }
}

/* ---- y[t] += table[pos[t]] ---- */

template <class T, int N>
static __global__ void add_rows(int64_t rows, int64_t units, const T *table, int64_t limit, const int32_t *pos, T *y)
{
    const int lane = (int)(threadIdx.x & 31u);
    const int64_t chunks = (units + 32 * AHEAD - 1) / (32 * AHEAD);
    for (int64_t item = first_item(); item < rows * chunks; item += item_step()) {
        const int64_t row = item / chunks, first = item % chunks * 32 * AHEAD + lane, place = pos[row];
        if (place < 0 || place >= limit) {
            __trap();
        }
        float a[AHEAD][N], b[AHEAD][N];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (first + 32 * k < units) {
                bif_load(table + (place * units + first + 32 * k) * N, a[k]);
                bif_load(y + (row * units + first + 32 * k) * N, b[k]);
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (first + 32 * k < units) {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    b[k][j] += a[k][j];
                }
                bif_store(y + (row * units + first + 32 * k) * N, b[k]);
            }
        }
    }
}

extern "C" void bif_cuda_add_rows(bif_device *device, const bif_add_rows_args *args)
{
    const int64_t rows = args->y->dim[0], c = args->y->dim[1], limit = args->table->dim[0];
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (rows * c == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->y->dtype, {
        constexpr int N = bif_lanes<T>::count;
        if (bif_wide(args->y, c) && bif_wide(args->table, c)) {
            BIF_LAUNCH((add_rows<T, N>), row_blocks(device, rows, c / N), THREADS, 0, stream, rows, c / N, bif_at<const T>(args->table),
                       limit, bif_at<const int32_t>(args->pos), bif_at<T>(args->y));
        } else {
            BIF_LAUNCH((add_rows<T, 1>), row_blocks(device, rows, c), THREADS, 0, stream, rows, c, bif_at<const T>(args->table), limit,
                       bif_at<const int32_t>(args->pos), bif_at<T>(args->y));
        }
    });
    BIF_LAUNCHED("add_rows");
}
