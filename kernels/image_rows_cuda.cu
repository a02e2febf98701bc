/* Pictures to rows of patches, and the rows of a vision tower: class token and positions. */
#include "kernels/wide.cuh"

static constexpr int THREADS = 256;

/* ---- patchify ---- */

/* One block a strip of patches (image, row of patches): its pixels and its rows are one stretch of memory each with u8, so each byte comes
 * from DRAM once and its three readings find it in L1. A thread keeps its place in the patch (channel, y, x: the divisions) and goes from
 * patch to patch; N = 2 neighbours in x make one write. LEVELS: u8 [images,size,size,3] through the table, which lies in shared memory;
 * else f32 [images,3,size,size]. */
template <class T, bool LEVELS, int N>
static __global__ void patchify(int side, int size, int p, const void *pixels, const float *table, T *rows)
{
    BIF_SHARED(float, shared); /* [3][256] with LEVELS */
    const int64_t image = blockIdx.x / (unsigned)side, py = blockIdx.x % (unsigned)side, k = 3 * (int64_t)p * p;
    const uint8_t *bytes = (const uint8_t *)pixels;
    const float *values = (const float *)pixels;
    T *to = rows + (int64_t)blockIdx.x * side * k;
    if (LEVELS) {
        for (int i = (int)threadIdx.x; i < 768; i += (int)blockDim.x) {
            shared[i] = table[i];
        }
        __syncthreads();
    }
    for (int unit = (int)threadIdx.x; unit < k / N; unit += (int)blockDim.x) {
        const int column = unit * N, channel = column / (p * p), y = column / p % p, x = column % p;
        const int64_t line = py * p + y;
        const int64_t from = LEVELS ? ((image * size + line) * size + x) * 3 + channel : ((image * 3 + channel) * size + line) * size + x;
        const float *level = shared + channel * 256;
#pragma unroll 4
        for (int px = 0; px < side; px++) {
            float out[N];
#pragma unroll
            for (int j = 0; j < N; j++) {
                out[j] = LEVELS ? level[bytes[from + 3 * ((int64_t)px * p + j)]] : values[from + (int64_t)px * p + j];
            }
            bif_store(to + px * k + column, out);
        }
    }
}

template <class T, bool LEVELS> static void launch_patchify(bif_device *device, const bif_patchify_args *args)
{
    const int64_t size = args->pixels->dim[2], p = args->patch, side = size / p, k = 3 * p * p, strips = args->pixels->dim[0] * side;
    const bool pairs = p % 2 == 0 && (uintptr_t)args->rows->data % (2 * sizeof(T)) == 0;
    /* Just enough warps for the units of a patch, so that few threads sit out the last round: 294 pairs of 14 x 14 take 10 warps. */
    const int64_t units = pairs ? k / 2 : k, rounds = bif_blocks_of(units, 512);
    const int threads = (int)(bif_blocks_of(bif_blocks_of(units, rounds), 32) * 32);
    const size_t shared = LEVELS ? 768 * sizeof(float) : 0;
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (pairs) {
        BIF_LAUNCH((patchify<T, LEVELS, 2>), (unsigned)strips, threads, shared, stream, (int)side, (int)size, (int)p, args->pixels->data,
                   bif_at<const float>(args->table), bif_at<T>(args->rows));
    } else {
        BIF_LAUNCH((patchify<T, LEVELS, 1>), (unsigned)strips, threads, shared, stream, (int)side, (int)size, (int)p, args->pixels->data,
                   bif_at<const float>(args->table), bif_at<T>(args->rows));
    }
    BIF_LAUNCHED("patchify");
}

extern "C" void bif_cuda_patchify(bif_device *device, const bif_patchify_args *args)
{
    if (args->rows->dim[0] == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->rows->dtype, {
        if (args->table != NULL) {
            launch_patchify<T, true>(device, args);
        } else {
            launch_patchify<T, false>(device, args);
        }
    });
}

/* ---- class token and positions ---- */

/* rows: of an image; units: accesses of a row. */
template <class T, int N>
static __global__ void vit_embed(int64_t items, int64_t rows, int64_t units, int has_cls, const T *patches, const T *cls, const T *pos,
                                 T *x)
{
    for (int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x; item < items; item += (int64_t)gridDim.x * THREADS) {
        const int64_t r = item / units, unit = item - r * units, image = r / rows, i = r - image * rows;
        const T *from = i < has_cls ? cls : patches + (image * (rows - has_cls) + i - has_cls) * units * N;
        float a[N], b[N];
        bif_load(from + unit * N, a);
        bif_load(pos + (i * units + unit) * N, b);
#pragma unroll
        for (int j = 0; j < N; j++) {
            a[j] += b[j];
        }
        bif_store(x + item * N, a);
    }
}

/* A thread has one access of a row of positions and goes through the images in their order, four reads under way. */
template <class T, int N>
static __global__ void vit_embed_backward(int64_t images, int64_t rows, int64_t units, int has_cls, const T *dx, T *dpatches, float *dcls,
                                          float *dpos)
{
    const int64_t step = rows * units * N, items = rows * units;
    for (int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x; item < items; item += (int64_t)gridDim.x * THREADS) {
        const int64_t i = item / units, unit = item - i * units;
        float sum[N] = {};
        for (int64_t first = 0; first < images; first += 4) {
            bif_pack<T, N> held[4];
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (first + k < images) {
                    held[k] = *reinterpret_cast<const bif_pack<T, N> *>(dx + (first + k) * step + item * N);
                }
            }
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (first + k < images) {
#pragma unroll
                    for (int j = 0; j < N; j++) {
                        sum[j] += bif_to_float(held[k].at[j]);
                    }
                    if (i >= has_cls && dpatches != NULL) {
                        T *to = dpatches + (((first + k) * (rows - has_cls) + i - has_cls) * units + unit) * N;
                        *reinterpret_cast<bif_pack<T, N> *>(to) = held[k];
                    }
                }
            }
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            if (dpos != NULL) {
                dpos[item * N + j] += sum[j];
            }
            if (i < has_cls && dcls != NULL) {
                dcls[unit * N + j] += sum[j];
            }
        }
    }
}

extern "C" void bif_cuda_vit_embed(bif_device *device, const bif_vit_embed_args *args)
{
    const int64_t t = args->x->dim[0], c = args->x->dim[1], n = t * c;
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (n == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->x->dtype, {
        constexpr int N = bif_lanes<T>::count;
        const int64_t rows = t / args->images;
        const int has_cls = args->cls != NULL;
        if (bif_wide(args->x, c) && bif_wide(args->patches, c) && bif_wide(args->cls, c) && bif_wide(args->pos, c)) {
            BIF_LAUNCH((vit_embed<T, N>), bif_grid(device, n / N, THREADS, 256), THREADS, 0, stream, n / N, rows, c / N, has_cls,
                       bif_at<const T>(args->patches), bif_at<const T>(args->cls), bif_at<const T>(args->pos), bif_at<T>(args->x));
        } else {
            BIF_LAUNCH((vit_embed<T, 1>), bif_grid(device, n, THREADS, 256), THREADS, 0, stream, n, rows, c, has_cls,
                       bif_at<const T>(args->patches), bif_at<const T>(args->cls), bif_at<const T>(args->pos), bif_at<T>(args->x));
        }
    });
    BIF_LAUNCHED("vit_embed");
}

extern "C" void bif_cuda_vit_embed_backward(bif_device *device, const bif_vit_embed_backward_args *args)
{
    const int64_t t = args->dx->dim[0], c = args->dx->dim[1], images = args->images;
    cudaStream_t stream = bif_cuda_of(device)->stream;
    if (t * c == 0) {
        return;
    }
    BIF_EACH_FLOAT(args->dx->dtype, {
        constexpr int N = bif_lanes<T>::count;
        const int64_t rows = t / images;
        if (bif_wide(args->dx, c) && bif_wide(args->dpatches, c)) {
            BIF_LAUNCH((vit_embed_backward<T, N>), bif_grid(device, rows * c / N, THREADS, 256), THREADS, 0, stream, images, rows, c / N,
                       (int)args->has_cls, bif_at<const T>(args->dx), bif_at<T>(args->dpatches), bif_at<float>(args->dcls),
                       bif_at<float>(args->dpos));
        } else {
            BIF_LAUNCH((vit_embed_backward<T, 1>), bif_grid(device, rows * c, THREADS, 256), THREADS, 0, stream, images, rows, c,
                       (int)args->has_cls, bif_at<const T>(args->dx), bif_at<T>(args->dpatches), bif_at<float>(args->dcls),
                       bif_at<float>(args->dpos));
        }
    });
    BIF_LAUNCHED("vit_embed_backward");
}
