/* LayerNorm, RMSNorm, L2 norm and their backwards. Each is bound by memory: every input is read once and every output written once.
 *
 * The wide kernels keep a row in registers, as it came from memory, from the first pass over it (the sums) to the last; as many warps share
 * a row as are needed to hold it. Rows that do not start at a multiple of 16 bytes, or too long for the registers of a block, take the
 * plain kernels, which read a row again for each pass (from L1 or L2). */
#include "kernels/partial.cuh"
#include "kernels/wide.cuh"

/* 16-byte accesses of a row that one thread holds: forward, and backward (which holds three tensors of two rows, and the sums of its
 * columns: with two accesses of bf16 LayerNorm's two sums would spill). */
static constexpr int HELD = 4;
template <class T, bool CENTRE> static constexpr int HELD_BACK = CENTRE && sizeof(T) == 2 ? 1 : 2;
static constexpr int PLAIN_THREADS = 256;
/* Threads of a row: registers for 64 (forward) and 128 (backward) a thread, so that no row spills. */
static constexpr int MOST_WARPS = 32, MOST_WARPS_BACK = 16;

/* Warps that hold a row of c columns, `held` accesses a thread; 0: the row needs the plain kernel. */
static int warps_of_row(const bif_tensor *x, int held, int most)
{
    const int64_t units = x->dim[1] / (int64_t)(16 / bif_dtype_size(x->dtype)), warps = bif_blocks_of(units, 32 * held);
    return warps <= most ? (int)warps : 0;
}

/* ---- forward ---- */

/* Sum over the warps of a row. A single warp needs no barrier, so blocks may hold several such rows; several warps are the whole block. */
static __device__ __forceinline__ float row_sum(float x, int warps, float *shared)
{
    return warps == 1 ? bif_warp_sum(x) : bif_block_sum(x, shared);
}

/* CENTRE: LayerNorm, else RMSNorm. LayerNorm's variance is summed around the mean in a second pass over the registers: the short form
 * E[x^2] - mean^2 loses every digit of it once the mean is 10^3 times the deviation. */
template <class T, bool CENTRE>
static __global__ void __launch_bounds__(32 * MOST_WARPS)
    norm_forward(int64_t t, int64_t c, int warps, const T *x, const T *weight, const T *bias, float eps, T *y, float *means, float *rstds)
{
    BIF_SHARED(float, shared);
    constexpr int N = bif_lanes<T>::count;
    const int threads = 32 * warps, lane = (int)threadIdx.x % threads, rows = (int)blockDim.x / threads;
    const int64_t units = c / N;
    for (int64_t row = (int64_t)blockIdx.x * rows + threadIdx.x / threads; row < t; row += (int64_t)gridDim.x * rows) {
        bif_words held[HELD];
        float sum = 0.0f, mean = 0.0f, square = 0.0f;
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            const int64_t unit = lane + k * threads;
            held[k] = unit < units ? bif_load_words(x + row * c + unit * N) : bif_no_words();
        }
        if (CENTRE) {
#pragma unroll
            for (int k = 0; k < HELD; k++) {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    sum += bif_element<T>(held[k], j);
                }
            }
            mean = row_sum(sum, warps, shared) / (float)c;
        }
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            if (lane + k * threads < units) {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const float off = bif_element<T>(held[k], j) - mean;
                    square += off * off;
                }
            }
        }
        const float rstd = 1.0f / sqrtf(row_sum(square, warps, shared) / (float)c + eps);
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            const int64_t unit = lane + k * threads;
            if (unit < units) {
                const bif_words scale = bif_load_words(weight + unit * N),
                                shift = CENTRE ? bif_load_words(bias + unit * N) : bif_no_words();
                float out[N];
#pragma unroll
                for (int j = 0; j < N; j++) {
                    out[j] = (bif_element<T>(held[k], j) - mean) * rstd * bif_element<T>(scale, j);
                    out[j] = CENTRE ? out[j] + bif_element<T>(shift, j) : out[j];
                }
                bif_store(y + row * c + unit * N, out);
            }
        }
        if (lane == 0 && rstds != NULL) {
            rstds[row] = rstd;
            if (CENTRE) {
                means[row] = mean;
            }
        }
    }
}

/* One block a row. y may be x: a thread reads an element for the last time just before it writes it. */
template <class T, bool CENTRE>
static __global__ void plain_forward(int64_t t, int64_t c, const T *x, const T *weight, const T *bias, float eps, T *y, float *means,
                                     float *rstds)
{
    BIF_SHARED(float, shared);
    for (int64_t row = blockIdx.x; row < t; row += gridDim.x) {
        const T *from = x + row * c;
        float sum = 0.0f, mean = 0.0f, square = 0.0f;
        if (CENTRE) {
            for (int64_t i = threadIdx.x; i < c; i += PLAIN_THREADS) {
                sum += bif_to_float(from[i]);
            }
            mean = bif_block_sum(sum, shared) / (float)c;
        }
        for (int64_t i = threadIdx.x; i < c; i += PLAIN_THREADS) {
            const float off = bif_to_float(from[i]) - mean;
            square += off * off;
        }
        const float rstd = 1.0f / sqrtf(bif_block_sum(square, shared) / (float)c + eps);
        for (int64_t i = threadIdx.x; i < c; i += PLAIN_THREADS) {
            const float out = (bif_to_float(from[i]) - mean) * rstd * bif_to_float(weight[i]);
            y[row * c + i] = bif_from_float<T>(CENTRE ? out + bif_to_float(bias[i]) : out);
        }
        if (threadIdx.x == 0 && rstds != NULL) {
            rstds[row] = rstd;
            if (CENTRE) {
                means[row] = mean;
            }
        }
    }
}

template <class T, bool CENTRE>
static void forward(bif_device *device, const char *op, const bif_tensor *x, const bif_tensor *weight, const bif_tensor *bias, float eps,
                    const bif_tensor *y, const bif_tensor *mean, const bif_tensor *rstd)
{
    const int64_t t = x->dim[0], c = x->dim[1];
    cudaStream_t stream = bif_cuda_of(device)->stream;
    const bool wide = bif_wide(x, c) && bif_wide(y, c) && bif_wide(weight, c) && bif_wide(bias, c);
    const int warps = wide ? warps_of_row(x, HELD, MOST_WARPS) : 0;
    if (t == 0) {
        return;
    }
    if (warps > 0) {
        const int rows = warps == 1 ? 4 : 1, threads = 32 * warps * rows;
        BIF_LAUNCH((norm_forward<T, CENTRE>), bif_grid(device, bif_blocks_of(t, rows), 1, 1024), threads, 32 * sizeof(float), stream, t, c,
                   warps, bif_at<const T>(x), bif_at<const T>(weight), bif_at<const T>(bias), eps, bif_at<T>(y), bif_at<float>(mean),
                   bif_at<float>(rstd));
    } else {
        BIF_LAUNCH((plain_forward<T, CENTRE>), bif_grid(device, t, 1, 1024), PLAIN_THREADS, 32 * sizeof(float), stream, t, c,
                   bif_at<const T>(x), bif_at<const T>(weight), bif_at<const T>(bias), eps, bif_at<T>(y), bif_at<float>(mean),
                   bif_at<float>(rstd));
    }
    BIF_LAUNCHED(op);
}

extern "C" void bif_cuda_layernorm(bif_device *device, const bif_layernorm_args *args)
{
    BIF_EACH_FLOAT(args->x->dtype, forward<T, true>(device, "layernorm", args->x, args->weight, args->bias, args->eps, args->y, args->mean,
                                                         args->rstd));
}

extern "C" void bif_cuda_rmsnorm(bif_device *device, const bif_rmsnorm_args *args)
{
    BIF_EACH_FLOAT(args->x->dtype, forward<T, false>(device, "rmsnorm", args->x, args->weight, NULL, args->eps, args->y, NULL, args->rstd));
}

/* ---- backward: with hat = (x - mean) rstd and g = dy weight,
 *      dx = dres + rstd (g - mean(g) - hat mean(g hat))    (RMSNorm: mean = 0 and no mean(g))
 *      dweight += sum over rows of dy hat, dbias += sum over rows of dy ---- */

/* What a thread holds of one row. */
template <int HOLD> struct held_row {
    bif_words x[HOLD], dy[HOLD], dres[HOLD];
    float mean, rstd;
};

/* at: the element of the thread's first access; columns: the row's columns from there on (0 or less: none). */
template <class T, bool CENTRE, int HOLD>
static __device__ __forceinline__ void fetch(held_row<HOLD> &to, int64_t row, int64_t at, int columns, int stride, const T *x,
                                             const float *means, const float *rstds, const T *dy, const T *dres)
{
#pragma unroll
    for (int k = 0; k < HOLD; k++) {
        const bool here = k * stride < columns;
        to.x[k] = here ? bif_load_words(x + at + k * stride) : bif_no_words();
        to.dy[k] = here ? bif_load_words(dy + at + k * stride) : bif_no_words();
        to.dres[k] = here && dres != NULL ? bif_load_words(dres + at + k * stride) : bif_no_words();
    }
    to.mean = CENTRE && columns > 0 ? means[row] : 0.0f;
    to.rstd = columns > 0 ? rstds[row] : 0.0f;
}

/* A block walks over rows blockIdx.x * rows .. with the next row's loads under way while it sums the present one: the barrier of a row
 * would otherwise leave the memory idle. Its threads add up dy hat and dy of their columns over all its rows, and leave the block's sums in
 * partials [2][gridDim.x][c] ([1] for RMSNorm). dx may be dy or dres: no other thread reads what a thread writes, and it has read it
 * before. */
template <class T, bool CENTRE>
static __global__ void __launch_bounds__(32 * MOST_WARPS_BACK)
    norm_backward(int64_t t, int c, int warps, const T *x, const T *weight, const float *means, const float *rstds, const T *dy,
                  const T *dres, T *dx, float *partials)
{
    BIF_SHARED(float, shared); /* two buffers of [16 warps][2] sums, used in turn so that one barrier a row is enough | rows x c floats */
    constexpr int N = bif_lanes<T>::count, HOLD = HELD_BACK<T, CENTRE>, COLUMNS = HOLD * N;
    const int threads = 32 * warps, lane = (int)threadIdx.x % threads, slot = (int)threadIdx.x / threads, rows = (int)blockDim.x / threads;
    const int warp = (int)threadIdx.x / 32, warp_lane = (int)threadIdx.x % 32, first = lane * N, stride = threads * N;
    const int64_t step = (int64_t)gridDim.x * rows;
    const float share = 1.0f / (float)c;
    float sum_weight[COLUMNS] = {}, sum_bias[CENTRE ? COLUMNS : 1] = {};
    bif_words scale[HOLD];
#pragma unroll
    for (int k = 0; k < HOLD; k++) {
        scale[k] = first + k * stride < c ? bif_load_words(weight + first + k * stride) : bif_no_words();
    }
    held_row<HOLD> now, next;
    int64_t row = (int64_t)blockIdx.x * rows + slot;
    fetch<T, CENTRE, HOLD>(next, row, row * c + first, row < t ? c - first : 0, stride, x, means, rstds, dy, dres);
    int turn = 0;
    for (int64_t base = (int64_t)blockIdx.x * rows; base < t; base += step, row += step) {
        now = next;
        fetch<T, CENTRE, HOLD>(next, row + step, (row + step) * c + first, row + step < t ? c - first : 0, stride, x, means, rstds, dy,
                               dres);
        float a = 0.0f, b = 0.0f;
#pragma unroll
        for (int k = 0; k < HOLD; k++) {
#pragma unroll
            for (int j = 0; j < N; j++) {
                const float d = bif_element<T>(now.dy[k], j), g = d * bif_element<T>(scale[k], j);
                const float hat = (bif_element<T>(now.x[k], j) - now.mean) * now.rstd;
                sum_weight[k * N + j] += d * hat;
                b += g * hat;
                if (CENTRE) {
                    sum_bias[k * N + j] += d;
                    a += g;
                }
            }
        }
        b = bif_warp_sum(b);
        a = CENTRE ? bif_warp_sum(a) : 0.0f;
        if (warps > 1) {
            float *sums = shared + turn * 2 * MOST_WARPS_BACK;
            turn = 1 - turn;
            if (warp_lane == 0) {
                sums[2 * warp] = a;
                sums[2 * warp + 1] = b;
            }
            __syncthreads();
            const bool mine = warp_lane < warps;
            const float *from = sums + 2 * (slot * warps + (mine ? warp_lane : 0));
            b = bif_warp_sum(mine ? from[1] : 0.0f);
            a = CENTRE ? bif_warp_sum(mine ? from[0] : 0.0f) : 0.0f;
        }
        a *= share;
        b *= share;
#pragma unroll
        for (int k = 0; k < HOLD; k++) {
            if (dx != NULL && row < t && first + k * stride < c) {
                float out[N];
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const float g = bif_element<T>(now.dy[k], j) * bif_element<T>(scale[k], j);
                    const float hat = (bif_element<T>(now.x[k], j) - now.mean) * now.rstd;
                    out[j] = bif_element<T>(now.dres[k], j) + now.rstd * (g - a - hat * b);
                }
                bif_store(dx + row * c + first + k * stride, out);
            }
        }
    }
    if (partials == NULL) {
        return;
    }
    /* The block's rows in flight side by side, added in their order. */
    float *columns = shared + 4 * MOST_WARPS_BACK;
    for (int set = 0; set < (CENTRE ? 2 : 1); set++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            const int column = first + i / N * stride + i % N;
            if (column < c) {
                columns[slot * c + column] = CENTRE && set == 1 ? sum_bias[CENTRE ? i : 0] : sum_weight[i];
            }
        }
        __syncthreads();
        for (int column = (int)threadIdx.x; column < c; column += (int)blockDim.x) {
            float sum = columns[column];
            for (int other = 1; other < rows; other++) {
                sum += columns[other * c + column];
            }
            partials[((int64_t)set * gridDim.x + blockIdx.x) * c + column] = sum;
        }
    }
}

/* dx of any row; one block a row. */
template <class T, bool CENTRE>
static __global__ void plain_backward(int64_t t, int64_t c, const T *x, const T *weight, const float *means, const float *rstds,
                                      const T *dy, const T *dres, T *dx)
{
    BIF_SHARED(float, shared);
    for (int64_t row = blockIdx.x; row < t; row += gridDim.x) {
        const float mean = CENTRE ? means[row] : 0.0f, rstd = rstds[row];
        float a = 0.0f, b = 0.0f;
        for (int64_t i = threadIdx.x; i < c; i += PLAIN_THREADS) {
            const float g = bif_to_float(dy[row * c + i]) * bif_to_float(weight[i]);
            a += g;
            b += g * ((bif_to_float(x[row * c + i]) - mean) * rstd);
        }
        a = CENTRE ? bif_block_sum(a, shared) / (float)c : 0.0f;
        b = bif_block_sum(b, shared) / (float)c;
        for (int64_t i = threadIdx.x; i < c; i += PLAIN_THREADS) {
            const int64_t at = row * c + i;
            const float g = bif_to_float(dy[at]) * bif_to_float(weight[i]), hat = (bif_to_float(x[at]) - mean) * rstd;
            dx[at] = bif_from_float<T>((dres == NULL ? 0.0f : bif_to_float(dres[at])) + rstd * (g - a - hat * b));
        }
    }
}

/* partials [sets][gridDim.y][c] of the rows of group blockIdx.y, 32 columns and 8 rows side by side. */
template <class T, bool CENTRE>
static __global__ void plain_partials(int64_t t, int64_t c, const T *x, const float *means, const float *rstds, const T *dy,
                                      float *partials)
{
    BIF_SHARED(float, shared); /* [2][8][32] */
    const int lane = (int)(threadIdx.x & 31u), slice = (int)(threadIdx.x >> 5);
    const int64_t column = (int64_t)blockIdx.x * 32 + lane, group = blockIdx.y, groups = gridDim.y, end = (group + 1) * t / groups;
    float a = 0.0f, b = 0.0f;
    for (int64_t row = group * t / groups + slice; row < end && column < c; row += 8) {
        const float d = bif_to_float(dy[row * c + column]);
        a += d;
        b += d * ((bif_to_float(x[row * c + column]) - (CENTRE ? means[row] : 0.0f)) * rstds[row]);
    }
    shared[slice * 32 + lane] = b;
    shared[256 + slice * 32 + lane] = a;
    __syncthreads();
    if (slice < (CENTRE ? 2 : 1) && column < c) {
        float sum = 0.0f;
        for (int i = 0; i < 8; i++) {
            sum += shared[slice * 256 + i * 32 + lane];
        }
        partials[(slice * groups + group) * c + column] = sum;
    }
}

template <class T, bool CENTRE>
static void backward(bif_device *device, const char *op, const bif_tensor *x, const bif_tensor *weight, const bif_tensor *mean,
                     const bif_tensor *rstd, const bif_tensor *dy, const bif_tensor *dres, const bif_tensor *dx, const bif_tensor *dweight,
                     const bif_tensor *dbias)
{
    bif_cuda *cuda = bif_cuda_of(device);
    const int64_t t = x->dim[0], c = x->dim[1], sets = CENTRE ? 2 : 1;
    const bool wide = bif_wide(x, c) && bif_wide(weight, c) && bif_wide(dy, c) && bif_wide(dres, c) && bif_wide(dx, c);
    const int warps = wide ? warps_of_row(x, HELD_BACK<T, CENTRE>, MOST_WARPS_BACK) : 0;
    float *partials = dweight == NULL && dbias == NULL ? NULL : (float *)cuda->scratch;
    const int64_t most = (int64_t)(cuda->scratch_bytes / sizeof(float)) / (sets * c); /* groups the scratch has room for */
    if (t == 0) {
        return;
    }
    BIF_BUG_IF(most == 0, "%s: %lld columns are too many", op, (long long)c);
    int64_t groups;
    if (warps > 0) {
        /* As many blocks as run at once, of at most 128 registers a thread: more would only leave more partial sums. */
        const int rows = warps >= 8 ? 1 : 8 / warps, threads = 32 * warps * rows;
        groups = bif_grid(device, bif_blocks_of(t, rows), 1, 512 / threads);
        groups = groups < most ? groups : most;
        BIF_LAUNCH((norm_backward<T, CENTRE>), (unsigned)groups, threads, (size_t)(4 * MOST_WARPS_BACK + rows * c) * sizeof(float),
                   cuda->stream, t, (int)c, warps, bif_at<const T>(x), bif_at<const T>(weight), bif_at<const float>(mean),
                   bif_at<const float>(rstd), bif_at<const T>(dy), bif_at<const T>(dres), bif_at<T>(dx), partials);
        BIF_LAUNCHED(op);
    } else {
        groups = bif_blocks_of(t, 8) < 64 ? bif_blocks_of(t, 8) : 64;
        groups = groups < most ? groups : most;
        if (partials != NULL) { /* before dx, which may be dy */
            BIF_LAUNCH((plain_partials<T, CENTRE>), dim3((unsigned)bif_blocks_of(c, 32), (unsigned)groups), 256, 512 * sizeof(float),
                       cuda->stream, t, c, bif_at<const T>(x), bif_at<const float>(mean), bif_at<const float>(rstd), bif_at<const T>(dy),
                       partials);
            BIF_LAUNCHED(op);
        }
        if (dx != NULL) {
            BIF_LAUNCH((plain_backward<T, CENTRE>), bif_grid(device, t, 1, 1024), PLAIN_THREADS, 32 * sizeof(float), cuda->stream, t, c,
                       bif_at<const T>(x), bif_at<const T>(weight), bif_at<const float>(mean), bif_at<const float>(rstd),
                       bif_at<const T>(dy), bif_at<const T>(dres), bif_at<T>(dx));
            BIF_LAUNCHED(op);
        }
    }
    bif_add_partials(device, op, partials, groups, c, bif_at<float>(dweight), bif_at<float>(dbias));
}

extern "C" void bif_cuda_layernorm_backward(bif_device *device, const bif_layernorm_backward_args *args)
{
    BIF_EACH_FLOAT(args->x->dtype, backward<T, true>(device, "layernorm_backward", args->x, args->weight, args->mean, args->rstd, args->dy,
                                                          args->dres, args->dx, args->dweight, args->dbias));
}

extern "C" void bif_cuda_rmsnorm_backward(bif_device *device, const bif_rmsnorm_backward_args *args)
{
    BIF_EACH_FLOAT(args->x->dtype, backward<T, false>(device, "rmsnorm_backward", args->x, args->weight, NULL, args->rstd, args->dy,
                                                           args->dres, args->dx, args->dweight, NULL));
}

/* ---- L2 norm: rows of an embedding (512 to 1152 columns), one warp a row; the second pass finds the row in L1 ---- */

static constexpr float SMALLEST = 1e-12f; /* torch's clamp of the norm */

template <class T, int N> static __global__ void l2norm(int64_t t, int64_t c, const T *x, float *y, float *inv)
{
    const int lane = (int)(threadIdx.x & 31u);
    for (int64_t row = (int64_t)blockIdx.x * 4 + threadIdx.x / 32; row < t; row += (int64_t)gridDim.x * 4) {
        float sum = 0.0f;
#pragma unroll 4
        for (int64_t i = lane * N; i < c; i += 32 * N) {
            float part[N];
            bif_load(x + row * c + i, part);
#pragma unroll
            for (int j = 0; j < N; j++) {
                sum += part[j] * part[j];
            }
        }
        const float norm = sqrtf(bif_warp_sum(sum)), inverse = 1.0f / (norm < SMALLEST ? SMALLEST : norm); /* NaN stays NaN */
#pragma unroll 4
        for (int64_t i = lane * N; i < c; i += 32 * N) {
            float part[N];
            bif_load(x + row * c + i, part);
#pragma unroll
            for (int j = 0; j < N; j++) {
                part[j] *= inverse;
            }
            bif_store(y + row * c + i, part);
        }
        if (lane == 0 && inv != NULL) {
            inv[row] = inverse;
        }
    }
}

/* dx = (dy - y (y . dy)) inv; a row below the clamp was multiplied with a constant, so nothing is projected out there. */
template <class T, int N>
static __global__ void l2norm_backward(int64_t t, int64_t c, const float *y, const float *inv, const float *dy, T *dx)
{
    const int lane = (int)(threadIdx.x & 31u);
    for (int64_t row = (int64_t)blockIdx.x * 4 + threadIdx.x / 32; row < t; row += (int64_t)gridDim.x * 4) {
        const float inverse = inv[row];
        float along = 0.0f;
#pragma unroll 4
        for (int64_t i = lane * N; i < c; i += 32 * N) {
            float a[N], b[N];
            bif_load(y + row * c + i, a);
            bif_load(dy + row * c + i, b);
#pragma unroll
            for (int j = 0; j < N; j++) {
                along += a[j] * b[j];
            }
        }
        along = bif_warp_sum(along);
        along = inverse >= 1.0f / SMALLEST ? 0.0f : along;
#pragma unroll 4
        for (int64_t i = lane * N; i < c; i += 32 * N) {
            float a[N], b[N];
            bif_load(y + row * c + i, a);
            bif_load(dy + row * c + i, b);
#pragma unroll
            for (int j = 0; j < N; j++) {
                b[j] = (b[j] - a[j] * along) * inverse;
            }
            bif_store(dx + row * c + i, b);
        }
    }
}

extern "C" void bif_cuda_l2norm(bif_device *device, const bif_l2norm_args *args)
{
    const int64_t t = args->x->dim[0], c = args->x->dim[1];
    const unsigned blocks = bif_grid(device, bif_blocks_of(t, 4), 1, 1024);
    if (t == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->x->dtype, {
        if (bif_wide(args->x, c) && bif_wide(args->y, c)) {
            BIF_LAUNCH((l2norm<T, 4>), blocks, 128, 0, bif_cuda_of(device)->stream, t, c, bif_at<const T>(args->x), bif_at<float>(args->y),
                       bif_at<float>(args->inv));
        } else {
            BIF_LAUNCH((l2norm<T, 1>), blocks, 128, 0, bif_cuda_of(device)->stream, t, c, bif_at<const T>(args->x), bif_at<float>(args->y),
                       bif_at<float>(args->inv));
        }
    });
    BIF_LAUNCHED("l2norm");
}

extern "C" void bif_cuda_l2norm_backward(bif_device *device, const bif_l2norm_backward_args *args)
{
    const int64_t t = args->dx->dim[0], c = args->dx->dim[1];
    const unsigned blocks = bif_grid(device, bif_blocks_of(t, 4), 1, 1024);
    if (t == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->dx->dtype, {
        if (bif_wide(args->y, c) && bif_wide(args->dy, c) && bif_wide(args->dx, c)) {
            BIF_LAUNCH((l2norm_backward<T, 4>), blocks, 128, 0, bif_cuda_of(device)->stream, t, c, bif_at<const float>(args->y),
                       bif_at<const float>(args->inv), bif_at<const float>(args->dy), bif_at<T>(args->dx));
        } else {
            BIF_LAUNCH((l2norm_backward<T, 1>), blocks, 128, 0, bif_cuda_of(device)->stream, t, c, bif_at<const float>(args->y),
                       bif_at<const float>(args->inv), bif_at<const float>(args->dy), bif_at<T>(args->dx));
        }
    });
    BIF_LAUNCHED("l2norm_backward");
}
