/* Attention with one query a sequence. A block takes one head of one sequence, a warp every 8th of its keys, a lane every 32nd column. The
 * warps' results are added in their order. It reads keys and values once: a thousandth of the tower's work, so nothing here is tiled. */
#include "kernels/attention_cuda.cuh"

#define THREADS 256
#define WARPS (THREADS / 32)
#define LANE_COLUMNS 8
#define COLUMNS (32 * LANE_COLUMNS) /* of a result that a block makes; a larger head computes its scores again for each (blockIdx.z) */

/* Columns dim of two rows, multiplied; every lane gets the sum. */
template <class T> static __device__ __forceinline__ float warp_dot(const float *a, const T *b, int dim)
{
    float sum = 0.0f;
    for (int d = (int)(threadIdx.x & 31u); d < dim; d += 32) {
        sum = fmaf(a[d], bif_to_float(b[d]), sum);
    }
    return bif_warp_sum(sum);
}

/* Shared memory: q [dim] | results [WARPS, COLUMNS] | peaks [WARPS] | sums [WARPS]. */
template <class T>
static __global__ void __launch_bounds__(THREADS)
    pool_attention(const T *q, const T *kv, const int32_t *bounds, int heads, int dim, float scale, T *out, float *lse)
{
    BIF_SHARED(float, query);
    float *const results = query + dim, *const peaks = results + WARPS * COLUMNS, *const sums = peaks + WARPS;
    const int head = (int)blockIdx.x, sequence = (int)blockIdx.y, first = (int)blockIdx.z * COLUMNS, thread = (int)threadIdx.x;
    const int lane = thread % 32, warp = thread / 32, columns = dim - first < COLUMNS ? dim - first : COLUMNS;
    const int64_t width = (int64_t)heads * dim, at = sequence * width + (int64_t)head * dim;
    const int begin = bounds[sequence], length = bounds[sequence + 1] - begin;
    const T *const keys = kv + begin * 2 * width + (int64_t)head * dim, *const values = keys + width + first;
    for (int d = thread; d < dim; d += THREADS) {
        query[d] = bif_to_float(q[at + d]) * scale;
    }
    __syncthreads();
    float peak = -INFINITY, sum = 0.0f, result[LANE_COLUMNS] = {};
    for (int j = warp; j < length; j += WARPS) {
        const float score = warp_dot(query, keys + j * 2 * width, dim), top = fmaxf(peak, score);
        const float factor = expf(peak - top), p = expf(score - top);
        peak = top;
        sum = sum * factor + p;
#pragma unroll
        for (int i = 0; i < LANE_COLUMNS; i++) {
            const int c = lane + 32 * i;
            if (c < columns) {
                result[i] = fmaf(p, bif_to_float(values[j * 2 * width + c]), result[i] * factor);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) {
        results[warp * COLUMNS + lane + 32 * i] = result[i];
    }
    if (lane == 0) {
        peaks[warp] = peak;
        sums[warp] = sum;
    }
    __syncthreads();
    float top = -INFINITY, total = 0.0f, factors[WARPS];
    for (int w = 0; w < WARPS; w++) {
        top = fmaxf(top, peaks[w]);
    }
    for (int w = 0; w < WARPS; w++) {
        factors[w] = w < length ? expf(peaks[w] - top) : 0.0f; /* a warp without keys has a peak of minus infinity */
        total += sums[w] * factors[w];
    }
    for (int c = thread; c < columns; c += THREADS) {
        float x = 0.0f;
        for (int w = 0; w < WARPS; w++) {
            x += results[w * COLUMNS + c] * factors[w];
        }
        out[at + first + c] = bif_from_float<T>(length > 0 ? x / total : 0.0f);
    }
    if (lse != NULL && thread == 0 && first == 0) {
        lse[(int64_t)sequence * heads + head] = length > 0 ? top + logf(total) : -INFINITY;
    }
}

/* Shared memory: q [dim] | dout [dim] | results [WARPS, COLUMNS] | 32 floats of the block's sum. */
template <class T>
static __global__ void __launch_bounds__(THREADS)
    pool_attention_backward(const T *q, const T *kv, const int32_t *bounds, const T *out, const float *lse, const T *dout, int heads,
                            int dim, float scale, T *dq, T *dkv)
{
    BIF_SHARED(float, query);
    float *const gradient = query + dim, *const results = gradient + dim, *const block = results + WARPS * COLUMNS;
    const int head = (int)blockIdx.x, sequence = (int)blockIdx.y, first = (int)blockIdx.z * COLUMNS, thread = (int)threadIdx.x;
    const int lane = thread % 32, warp = thread / 32, columns = dim - first < COLUMNS ? dim - first : COLUMNS;
    const int64_t width = (int64_t)heads * dim, at = sequence * width + (int64_t)head * dim;
    const int begin = bounds[sequence], length = bounds[sequence + 1] - begin;
    const int64_t row = begin * 2 * width + (int64_t)head * dim;
    const float peak = lse[(int64_t)sequence * heads + head];
    float mean = 0.0f, result[LANE_COLUMNS] = {};
    for (int d = thread; d < dim; d += THREADS) {
        query[d] = bif_to_float(q[at + d]) * scale;
        gradient[d] = bif_to_float(dout[at + d]);
        mean = fmaf(gradient[d], bif_to_float(out[at + d]), mean);
    }
    mean = bif_block_sum(mean, block);
    for (int j = warp; j < length; j += WARPS) {
        const int64_t key = row + j * 2 * width, value = key + width;
        const float p = expf(warp_dot(query, kv + key, dim) - peak);
        const float ds = p * (warp_dot(gradient, kv + value, dim) - mean);
#pragma unroll
        for (int i = 0; i < LANE_COLUMNS; i++) {
            const int c = first + lane + 32 * i;
            if (c < first + columns) {
                result[i] = fmaf(ds, bif_to_float(kv[key + c]), result[i]);
                dkv[key + c] = bif_from_float<T>(ds * query[c]); /* query holds the scale */
                dkv[value + c] = bif_from_float<T>(p * gradient[c]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) {
        results[warp * COLUMNS + lane + 32 * i] = result[i];
    }
    __syncthreads();
    for (int c = thread; c < columns; c += THREADS) {
        float x = 0.0f;
        for (int w = 0; w < WARPS; w++) {
            x += results[w * COLUMNS + c];
        }
        dq[at + first + c] = bif_from_float<T>(scale * x);
    }
}

/* A grid has up to 65535 blocks in its second dimension. */
static dim3 grid_of(const bif_tensor *q, int64_t heads, int64_t dim)
{
    BIF_BUG_IF(q->dim[0] > 65535, "%lld sequences are pooled at once; up to 65535 can be", (long long)q->dim[0]);
    return dim3((unsigned)heads, (unsigned)q->dim[0], (unsigned)bif_blocks_of(dim, COLUMNS));
}

extern "C" void bif_cuda_pool_attention(bif_device *device, const bif_pool_attention_args *args)
{
    const int64_t dim = args->head_dim;
    const size_t shared = (size_t)(dim + WARPS * COLUMNS + 2 * WARPS) * sizeof(float);
    if (args->q->dim[0] == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->q->dtype, {
        BIF_ALLOW_SHARED((pool_attention<T>), shared);
        BIF_LAUNCH((pool_attention<T>), grid_of(args->q, args->heads, dim), THREADS, shared, bif_cuda_of(device)->stream,
                   bif_at<const T>(args->q), bif_at<const T>(args->kv), bif_at<const int32_t>(args->bounds), (int)args->heads, (int)dim,
                   args->scale, bif_at<T>(args->out), bif_at<float>(args->lse));
    });
    BIF_LAUNCHED("pool_attention");
}

extern "C" void bif_cuda_pool_attention_backward(bif_device *device, const bif_pool_attention_backward_args *args)
{
    const int64_t dim = args->head_dim;
    const size_t shared = (size_t)(2 * dim + WARPS * COLUMNS + 32) * sizeof(float);
    if (args->q->dim[0] == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->q->dtype, {
        BIF_ALLOW_SHARED((pool_attention_backward<T>), shared);
        BIF_LAUNCH((pool_attention_backward<T>), grid_of(args->q, args->heads, dim), THREADS, shared, bif_cuda_of(device)->stream,
                   bif_at<const T>(args->q), bif_at<const T>(args->kv), bif_at<const int32_t>(args->bounds), bif_at<const T>(args->out),
                   bif_at<const float>(args->lse), bif_at<const T>(args->dout), (int)args->heads, (int)dim, args->scale,
                   bif_at<T>(args->dq), bif_at<T>(args->dkv));
    });
    BIF_LAUNCHED("pool_attention_backward");
}
