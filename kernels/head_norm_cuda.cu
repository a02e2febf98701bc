/* RMSNorm of the heads of packed rows (q/k norm). Bound by memory: the columns of the heads are read once and written once. */
#include "kernels/partial.cuh"
#include "kernels/wide.cuh"

static constexpr int THREADS = 256;

/* Where head `item` = t * heads + h of a packed row begins. */
static __device__ __forceinline__ int64_t head_at(int64_t item, int64_t heads, int64_t w, int64_t first, int64_t d)
{
    return item / heads * w + first + item % heads * d;
}

/* Sum over the `lanes` (a power of two) threads of a head; every one of them gets it. */
static __device__ __forceinline__ float head_sum(float x, int lanes)
{
    for (int step = lanes / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, step);
    }
    return x;
}

/* `lanes` threads a head, one 16-byte access each: 16 for 128 columns of bf16, 8 for 64. A warp takes two rounds of 32 / lanes heads at
 * once, so that two reads a thread are under way. */
template <class T>
static __global__ void head_forward(int64_t items, int64_t heads, int64_t w, int64_t first, int d, int lanes, const T *x, const T *weight,
                                    float eps, T *y, float *rstds)
{
    constexpr int N = bif_lanes<T>::count;
    const int lane = (int)(threadIdx.x & 31u), column = lane % lanes * N, side = 32 / lanes;
    const int64_t warps = (int64_t)gridDim.x * (THREADS / 32), warp = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const bif_words scale = column < d ? bif_load_words(weight + column) : bif_no_words();
    for (int64_t base = warp * side; base < items; base += 2 * warps * side) {
        bif_words held[2];
        int64_t item[2], at[2];
        bool here[2];
#pragma unroll
        for (int k = 0; k < 2; k++) {
            item[k] = base + k * warps * side + lane / lanes;
            here[k] = item[k] < items && column < d;
            at[k] = here[k] ? head_at(item[k], heads, w, first, d) + column : 0;
            held[k] = here[k] ? bif_load_words(x + at[k]) : bif_no_words();
        }
#pragma unroll
        for (int k = 0; k < 2; k++) {
            float square = 0.0f, out[N];
#pragma unroll
            for (int j = 0; j < N; j++) {
                square += bif_element<T>(held[k], j) * bif_element<T>(held[k], j);
            }
            const float rstd = 1.0f / sqrtf(head_sum(square, lanes) / (float)d + eps);
            if (here[k]) {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    out[j] = bif_element<T>(held[k], j) * rstd * bif_element<T>(scale, j);
                }
                bif_store(y + at[k], out);
                if (column == 0 && rstds != NULL) {
                    rstds[item[k]] = rstd;
                }
            }
        }
    }
}

/* A thread's columns are the same in every head, so it sums their part of dweight over all its heads; partials [gridDim.x][d]. */
template <class T>
static __global__ void head_backward(int64_t items, int64_t heads, int64_t w, int64_t first, int d, int lanes, const T *x, const T *weight,
                                     const float *rstds, const T *dy, T *dx, float *partials)
{
    BIF_SHARED(float, shared); /* [THREADS / lanes][d] */
    constexpr int N = bif_lanes<T>::count;
    const int lane = (int)(threadIdx.x & 31u), column = lane % lanes * N, side = 32 / lanes;
    const int64_t warps = (int64_t)gridDim.x * (THREADS / 32), warp = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const bif_words scale = column < d ? bif_load_words(weight + column) : bif_no_words();
    float sums[N] = {};
    for (int64_t base = warp * side; base < items; base += 2 * warps * side) {
        bif_words held[2], gradient[2];
        float rstd[2];
        int64_t at[2];
        bool here[2];
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const int64_t item = base + k * warps * side + lane / lanes;
            here[k] = item < items && column < d;
            at[k] = here[k] ? head_at(item, heads, w, first, d) + column : 0;
            held[k] = here[k] ? bif_load_words(x + at[k]) : bif_no_words();
            gradient[k] = here[k] ? bif_load_words(dy + at[k]) : bif_no_words();
            rstd[k] = here[k] ? rstds[item] : 0.0f;
        }
#pragma unroll
        for (int k = 0; k < 2; k++) {
            float b = 0.0f, out[N];
#pragma unroll
            for (int j = 0; j < N; j++) {
                const float part = bif_element<T>(gradient[k], j) * bif_element<T>(held[k], j) * rstd[k];
                sums[j] += part;
                b += part * bif_element<T>(scale, j);
            }
            b = head_sum(b, lanes) * rstd[k] / (float)d;
            if (here[k]) {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    out[j] = rstd[k] * (bif_element<T>(gradient[k], j) * bif_element<T>(scale, j) - bif_element<T>(held[k], j) * b);
                }
                bif_store(dx + at[k], out);
            }
        }
    }
    if (partials == NULL) {
        return;
    }
    for (int j = 0; j < N && column < d; j++) {
        shared[(int)threadIdx.x / lanes * d + column + j] = sums[j];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < d; i += THREADS) {
        float sum = 0.0f;
        for (int group = 0; group < THREADS / lanes; group++) {
            sum += shared[group * d + i];
        }
        partials[(int64_t)blockIdx.x * d + i] = sum;
    }
}

/* Any head size and alignment: one warp a head, a column at a time. */
template <class T>
static __global__ void plain_forward(int64_t items, int64_t heads, int64_t w, int64_t first, int64_t d, const T *x, const T *weight,
                                     float eps, T *y, float *rstds)
{
    const int lane = (int)(threadIdx.x & 31u);
    const int64_t warps = (int64_t)gridDim.x * (blockDim.x / 32);
    for (int64_t item = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; item < items; item += warps) {
        const int64_t at = head_at(item, heads, w, first, d);
        float square = 0.0f;
        for (int64_t i = lane; i < d; i += 32) {
            square += bif_to_float(x[at + i]) * bif_to_float(x[at + i]);
        }
        const float rstd = 1.0f / sqrtf(bif_warp_sum(square) / (float)d + eps);
        for (int64_t i = lane; i < d; i += 32) {
            y[at + i] = bif_from_float<T>(bif_to_float(x[at + i]) * rstd * bif_to_float(weight[i]));
        }
        if (lane == 0 && rstds != NULL) {
            rstds[item] = rstd;
        }
    }
}

/* Each warp sums dweight in a row of shared memory of its own. */
template <class T>
static __global__ void plain_backward(int64_t items, int64_t heads, int64_t w, int64_t first, int64_t d, const T *x, const T *weight,
                                      const float *rstds, const T *dy, T *dx, float *partials)
{
    BIF_SHARED(float, shared); /* [warps of the block][d] */
    const int lane = (int)(threadIdx.x & 31u), block_warps = (int)(blockDim.x / 32);
    const int64_t warps = (int64_t)gridDim.x * block_warps;
    float *sums = shared + threadIdx.x / 32 * d;
    for (int64_t i = lane; i < d; i += 32) {
        sums[i] = 0.0f;
    }
    for (int64_t item = (int64_t)blockIdx.x * block_warps + threadIdx.x / 32; item < items; item += warps) {
        const int64_t at = head_at(item, heads, w, first, d);
        const float rstd = rstds[item];
        float b = 0.0f;
        for (int64_t i = lane; i < d; i += 32) {
            const float part = bif_to_float(dy[at + i]) * bif_to_float(x[at + i]) * rstd;
            sums[i] += part;
            b += part * bif_to_float(weight[i]);
        }
        b = bif_warp_sum(b) * rstd / (float)d;
        for (int64_t i = lane; i < d; i += 32) {
            dx[at + i] = bif_from_float<T>(rstd * (bif_to_float(dy[at + i]) * bif_to_float(weight[i]) - bif_to_float(x[at + i]) * b));
        }
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < d && partials != NULL; i += blockDim.x) {
        float sum = 0.0f;
        for (int other = 0; other < block_warps; other++) {
            sum += shared[other * d + i];
        }
        partials[blockIdx.x * d + i] = sum;
    }
}

/* Threads a head in the wide kernels: a power of two, so that the heads of a warp do not mix; 0: the plain kernel. */
static int lanes_of_head(const bif_tensor *x, int64_t first, int64_t d)
{
    const int64_t n = (int64_t)(16 / bif_dtype_size(x->dtype));
    int lanes = 1;
    while (lanes * n < d) {
        lanes *= 2;
    }
    return lanes <= 32 && d % n == 0 && first % n == 0 && x->dim[1] % n == 0 ? lanes : 0;
}

extern "C" void bif_cuda_head_rmsnorm(bif_device *device, const bif_head_rmsnorm_args *args)
{
    const int64_t w = args->x->dim[1], d = args->head_dim, items = args->x->dim[0] * args->heads;
    const bool wide = bif_wide(args->x, w) && bif_wide(args->y, w) && bif_wide(args->weight, d);
    const int lanes = wide ? lanes_of_head(args->x, args->first, d) : 0;
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (items == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->x->dtype, {
        if (lanes > 0) {
            BIF_LAUNCH((head_forward<T>), bif_grid(device, bif_blocks_of(items, 2) * lanes, THREADS, 64), THREADS, 0, stream, items,
                       args->heads, w, args->first, (int)d, lanes, bif_at<const T>(args->x), bif_at<const T>(args->weight), args->eps,
                       bif_at<T>(args->y), bif_at<float>(args->rstd));
        } else {
            BIF_LAUNCH((plain_forward<T>), bif_grid(device, items * 32, THREADS, 64), THREADS, 0, stream, items, args->heads, w,
                       args->first, d, bif_at<const T>(args->x), bif_at<const T>(args->weight), args->eps, bif_at<T>(args->y),
                       bif_at<float>(args->rstd));
        }
    });
    BIF_LAUNCHED("head_rmsnorm");
}

extern "C" void bif_cuda_head_rmsnorm_backward(bif_device *device, const bif_head_rmsnorm_backward_args *args)
{
    bif_cuda *cuda = bif_cuda_of(device);
    const int64_t w = args->x->dim[1], d = args->head_dim, items = args->x->dim[0] * args->heads;
    const bool wide = bif_wide(args->x, w) && bif_wide(args->dy, w) && bif_wide(args->dx, w) && bif_wide(args->weight, d);
    const int lanes = wide ? lanes_of_head(args->x, args->first, d) : 0;
    float *partials = args->dweight == NULL ? NULL : (float *)cuda->scratch;
    if (items == 0) {
        return;
    }
    BIF_BUG_IF(d > 8192, "head_rmsnorm_backward: a head of %lld columns is too long", (long long)d);
    /* Blocks that run at once: each leaves a partial sum. 4 x 8192 floats of each of 256 multiprocessors fit the scratch. */
    unsigned blocks = 1;
    BIF_EACH_FLOAT(args->x->dtype, {
        if (lanes > 0) {
            blocks = bif_grid(device, bif_blocks_of(items, 2) * lanes, THREADS, 4);
            BIF_LAUNCH((head_backward<T>), blocks, THREADS, (size_t)(THREADS / lanes * d) * sizeof(float), cuda->stream, items, args->heads,
                       w, args->first, (int)d, lanes, bif_at<const T>(args->x), bif_at<const T>(args->weight),
                       bif_at<const float>(args->rstd), bif_at<const T>(args->dy), bif_at<T>(args->dx), partials);
        } else {
            const int warps = d <= 1024 ? 8 : 1; /* at most 32 KiB of shared memory */
            blocks = bif_grid(device, items, warps, 4);
            BIF_LAUNCH((plain_backward<T>), blocks, 32 * warps, (size_t)(warps * d) * sizeof(float), cuda->stream, items, args->heads, w,
                       args->first, d, bif_at<const T>(args->x), bif_at<const T>(args->weight), bif_at<const float>(args->rstd),
                       bif_at<const T>(args->dy), bif_at<T>(args->dx), partials);
        }
    });
    BIF_LAUNCHED("head_rmsnorm_backward");
    bif_add_partials(device, "head_rmsnorm_backward", partials, blocks, d, bif_at<float>(args->dweight), NULL);
}
