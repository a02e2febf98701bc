/* One decoding step: a block takes one key head of one sequence, and up to 4 of the query heads that read it, which share each row read (8
 * at a time would not fit the registers of two blocks a multiprocessor; larger groups find the rows in L2). It goes over the cache 256
 * keys at a time: scores with a thread a key, softmax with a warp a query head, then P V with a thread a few columns of every n-th key.
 * What this costs is reading the cache once; the arithmetic hides behind it. */
#include "kernels/attention_cuda.cuh"

#define THREADS 256
#define KEYS THREADS /* of a tile */
#define WARPS (THREADS / 32)
#define COLUMNS 256 /* of the output a block makes; a larger head computes its scores again for each (blockIdx.z) */
#define BATCH 256   /* sequences a launch: their lengths are a kernel parameter (1 KB of at most 4) */

struct decode_lengths {
    int32_t at[BATCH];
};

/* The caches of the launch's first sequence; rows are `row` = G D elements apart, sequences `cap` rows. */
template <class T> struct decode_call {
    const T *q, *k, *v;
    T *out;
    int32_t group, dim;
    int64_t row, cap;
    float scale;
};

/* R: query heads a block. */
template <int R> struct alignas(16) decode_shared {
    float scores[R][KEYS]; /* then the weights of the keys */
    float factor[R];       /* what the results of earlier tiles are multiplied with */
    float peak[R], sum[R];
};

/* V: elements read at a time (a whole number of them make up a head). Shared memory: decode_shared | q [R, dim] | results [slices, R,
 * columns], where slices * columns <= THREADS V. */
template <class T, int V, int R>
static __global__ void __launch_bounds__(THREADS, 2) attention_decode(const decode_call<T> call, const decode_lengths lengths)
{
    constexpr int piece = V < 4 ? V : 4; /* of q, read from shared memory at a time */
    /* Reads of the cache under way in a thread: few sequences have few warps to hide waiting. */
    [[maybe_unused]] constexpr int ahead = R == 1 ? 8 : 4;
    BIF_SHARED(decode_shared<R>, s);
    float *const q = reinterpret_cast<float *>(s + 1);
    const int kv_heads = (int)gridDim.x, kv = (int)blockIdx.x, sequence = (int)blockIdx.y, thread = (int)threadIdx.x;
    const int chunks = (call.group + R - 1) / R, part = (int)blockIdx.z % chunks, column = (int)blockIdx.z / chunks * COLUMNS;
    const int first = kv * call.group + part * R, heads = call.group - part * R < R ? call.group - part * R : R;
    const int dim = call.dim, columns = dim - column < COLUMNS ? dim - column : COLUMNS, length = lengths.at[sequence];
    const T *const queries = call.q + ((int64_t)sequence * kv_heads * call.group + first) * dim;
    const T *const keys = call.k + sequence * call.cap * call.row + kv * dim, *const values = call.v + (keys - call.k) + column;
    for (int i = thread; i < R * dim; i += THREADS) {
        q[i] = i < heads * dim ? bif_to_float(queries[i]) * call.scale : 0.0f;
    }
    if (thread < R) {
        s->peak[thread] = -INFINITY;
        s->sum[thread] = 0.0f;
    }
    /* In P V: columns [own, own + V) of keys slice, slice + slices, ... */
    const int vectors = columns / V, slices = THREADS / vectors, slice = thread / vectors, own = thread % vectors * V;
    float result[R][V] = {};
    for (int begin = 0; begin < length; begin += KEYS) {
        const int count = length - begin < KEYS ? length - begin : KEYS;
        __syncthreads();
        float dot[R] = {};
        if (thread < count) {
            const T *key = keys + (begin + thread) * call.row;
#pragma unroll ahead
            for (int d = 0; d < dim; d += V) {
                float x[V];
                bif_load<T, V>(key + d, x);
#pragma unroll
                for (int r = 0; r < R; r++) {
#pragma unroll
                    for (int e = 0; e < V; e += piece) {
                        float y[piece];
                        bif_load<float, piece>(q + r * dim + d + e, y);
#pragma unroll
                        for (int i = 0; i < piece; i++) {
                            dot[r] = fmaf(y[i], x[e + i], dot[r]);
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < R; r++) {
            s->scores[r][thread] = thread < count ? dot[r] : -INFINITY;
        }
        __syncthreads();
        for (int r = thread / 32; r < R; r += WARPS) {
            float *const scores = s->scores[r] + thread % 32;
            const float before = s->peak[r], total = s->sum[r];
            float peak = before, sum = 0.0f;
            for (int i = 0; i < KEYS; i += 32) {
                peak = fmaxf(peak, scores[i]);
            }
            peak = bif_warp_max(peak);
            for (int i = 0; i < KEYS; i += 32) {
                const float p = expf(scores[i] - peak);
                scores[i] = p;
                sum += p;
            }
            sum = bif_warp_sum(sum);
            __syncwarp(); /* every lane has read what lane 0 writes */
            if (thread % 32 == 0) {
                s->factor[r] = expf(before - peak);
                s->sum[r] = total * s->factor[r] + sum;
                s->peak[r] = peak;
            }
        }
        __syncthreads();
        if (slice < slices) {
#pragma unroll
            for (int r = 0; r < R; r++) {
                const float factor = s->factor[r];
#pragma unroll
                for (int e = 0; e < V; e++) {
                    result[r][e] *= factor;
                }
            }
#pragma unroll ahead
            for (int j = slice; j < count; j += slices) {
                float x[V];
                bif_load<T, V>(values + (begin + j) * call.row + own, x);
#pragma unroll
                for (int r = 0; r < R; r++) {
                    const float p = s->scores[r][j];
#pragma unroll
                    for (int e = 0; e < V; e++) {
                        result[r][e] = fmaf(p, x[e], result[r][e]);
                    }
                }
            }
        }
    }
    /* The slices' results are added in their order. */
    float *const results = q + R * dim;
    if (slice < slices) {
#pragma unroll
        for (int r = 0; r < R; r++) {
#pragma unroll
            for (int e = 0; e < V; e++) {
                results[(slice * R + r) * columns + own + e] = result[r][e];
            }
        }
    }
    __syncthreads();
    T *const out = call.out + (queries - call.q) + column;
    for (int i = thread; i < heads * columns; i += THREADS) {
        const int r = i / columns, c = i % columns;
        float sum = 0.0f;
        for (int j = 0; j < slices; j++) {
            sum += results[(j * R + r) * columns + c];
        }
        out[r * dim + c] = bif_from_float<T>(sum / s->sum[r]);
    }
}

template <class T, int V, int R> static void decode(const bif_device *device, const bif_attention_decode_args *args)
{
    const int64_t batch = args->q->dim[0], dim = args->head_dim, group = args->heads / args->kv_heads;
    const size_t shared = sizeof(decode_shared<R>) + (size_t)(R * (dim + THREADS * V)) * sizeof(float);
    const unsigned depth = (unsigned)(bif_blocks_of(group, R) * bif_blocks_of(dim, COLUMNS));
    BIF_ALLOW_SHARED((attention_decode<T, V, R>), shared);
    for (int64_t first = 0; first < batch; first += BATCH) {
        const int64_t count = batch - first < BATCH ? batch - first : BATCH, row = args->kv_heads * dim;
        decode_lengths lengths = {};
        for (int64_t i = 0; i < count; i++) {
            lengths.at[i] = ((const int32_t *)args->lens->data)[first + i];
        }
        const decode_call<T> call = {bif_at<const T>(args->q) + first * args->heads * dim,
                                     bif_at<const T>(args->k_cache) + first * args->cap * row,
                                     bif_at<const T>(args->v_cache) + first * args->cap * row,
                                     bif_at<T>(args->out) + first * args->heads * dim,
                                     (int32_t)group,
                                     (int32_t)dim,
                                     row,
                                     args->cap,
                                     args->scale};
        BIF_LAUNCH((attention_decode<T, V, R>), dim3((unsigned)args->kv_heads, (unsigned)count, depth), THREADS, shared,
                   bif_cuda_of(device)->stream, call, lengths);
    }
}

extern "C" void bif_cuda_attention_decode(bif_device *device, const bif_attention_decode_args *args)
{
    const bool wide = bif_wide(args->k_cache, args->head_dim) && bif_wide(args->v_cache, args->head_dim);
    BIF_EACH_FLOAT(args->q->dtype, {
        constexpr int lanes = bif_lanes<T>::count;
        if (!wide) {
            decode<T, 1, 4>(device, args);
        } else if (args->heads == args->kv_heads) {
            decode<T, lanes, 1>(device, args);
        } else {
            decode<T, lanes, 4>(device, args);
        }
    });
    BIF_LAUNCHED("attention_decode");
}
