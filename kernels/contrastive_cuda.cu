/* Contrastive losses by tiles of rows of the similarity matrix a b^T, which never exists as a whole: a tile [rows, Gn] of it is made in
 * scratch by a product, one kernel turns it into losses and dloss/ds in place, two products add da and db. The tiles follow each other on
 * the stream and every sum inside has a fixed order, so the same inputs give the same bits. All of it is f32, as on the CPU. */
#include "kernels/gemm_cuda.cuh"

#define THREADS 256

/* ---- kernels: a block a row of a tile ---- */

/* What a row kernel works on: the tile and, from the tile's first row on, where its results go. */
typedef struct {
    int64_t rows, columns, partner; /* partner of the tile's first row */
    float scale, bias;
    bool gradient;
    float *s;                     /* [rows, columns]: similarities, not yet scaled; with gradient they become dloss/ds */
    float *loss, *dscale, *dbias; /* [rows]; dscale, dbias: sums of dloss/ds times s, and alone */
} tile;

__global__ void __launch_bounds__(THREADS) infonce_rows(tile t)
{
    BIF_SHARED(float, shared);
    for (int64_t row = blockIdx.x; row < t.rows; row += gridDim.x) {
        float *s = t.s + row * t.columns;
        const int64_t partner = t.partner + row;
        const float own = s[partner];
        float peak = -INFINITY;
        for (int64_t j = threadIdx.x; j < t.columns; j += THREADS) {
            peak = fmaxf(peak, t.scale * s[j]);
        }
        peak = bif_block_max(peak, shared);
        float sum = 0.0f, dots = 0.0f; /* of e, and of e (s - own): the small difference is taken before the sum */
        for (int64_t j = threadIdx.x; j < t.columns; j += THREADS) {
            const float e = expf(t.scale * s[j] - peak);
            sum += e;
            dots += e * (s[j] - own);
        }
        sum = bif_block_sum(sum, shared);
        dots = bif_block_sum(dots, shared);
        if (threadIdx.x == 0) {
            t.loss[row] = logf(sum) + (peak - t.scale * own);
            t.dscale[row] = dots / sum;
        }
        if (t.gradient) {
            for (int64_t j = threadIdx.x; j < t.columns; j += THREADS) {
                s[j] = expf(t.scale * s[j] - peak) / sum - (j == partner ? 1.0f : 0.0f);
            }
        }
    }
}

__global__ void __launch_bounds__(THREADS) siglip_rows(tile t)
{
    BIF_SHARED(float, shared);
    for (int64_t row = blockIdx.x; row < t.rows; row += gridDim.x) {
        float *s = t.s + row * t.columns;
        const int64_t partner = t.partner + row;
        float loss = 0.0f, dscale = 0.0f, dbias = 0.0f;
        for (int64_t j = threadIdx.x; j < t.columns; j += THREADS) {
            const float z = j == partner ? 1.0f : -1.0f, x = -z * (t.scale * s[j] + t.bias), e = expf(-fabsf(x));
            const float g = -z * (x > 0.0f ? 1.0f : e) / (1.0f + e);
            loss += (x > 0.0f ? x : 0.0f) + log1pf(e);
            dscale += g * s[j];
            dbias += g;
            if (t.gradient) {
                s[j] = g;
            }
        }
        loss = bif_block_sum(loss, shared);
        dscale = bif_block_sum(dscale, shared);
        dbias = bif_block_sum(dbias, shared);
        if (threadIdx.x == 0) {
            t.loss[row] = loss;
            t.dscale[row] = dscale;
            t.dbias[row] = dbias;
        }
    }
}

/* *to += weight * the sum of x, by one block. */
__global__ void __launch_bounds__(THREADS) add_sum(int64_t n, const float *x, float weight, float *to)
{
    BIF_SHARED(float, shared);
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        sum += x[i];
    }
    sum = bif_block_sum(sum, shared);
    if (threadIdx.x == 0) {
        *to += weight * sum;
    }
}

/* ---- both losses ---- */

static void add_to(const bif_cuda *cuda, int64_t n, const float *x, float weight, const bif_tensor *to)
{
    BIF_LAUNCH(add_sum, 1, THREADS, 32 * sizeof(float), cuda->stream, n, x, weight, bif_at<float>(to));
    BIF_LAUNCHED("contrastive");
}

/* InfoNCE's arguments, or SigLIP's, which have `bias` and dbias besides. */
typedef struct {
    const bif_infonce_args *common;
    bool sigmoid;
    float bias;
    bif_tensor *dbias;
} problem;

static void contrast(const bif_device *device, const problem *p)
{
    const bif_infonce_args *args = p->common;
    const bif_cuda *cuda = bif_cuda_of(device);
    const int64_t rows = args->a->dim[0], columns = args->b->dim[0], width = args->a->dim[1];
    if (rows == 0) {
        return;
    }
    /* Scratch: dscale [rows], dbias [rows], a tile; 64 MiB hold 511 rows of 32,768 columns. */
    float *dscale = (float *)cuda->scratch, *dbias = dscale + rows, *s = dbias + rows + (8 - 2 * rows % 8) % 8;
    const int64_t room = (int64_t)(cuda->scratch_bytes / sizeof(float)) - (s - dscale), fit = room < 0 ? 0 : room / columns;
    BIF_BUG_IF(fit == 0, "contrastive: %lld rows against %lld do not fit the scratch memory", (long long)rows, (long long)columns);
    bif_gemm_args product = {};
    product.in = product.out = BIF_DTYPE_F32;
    const float *a = bif_at<float>(args->a);
    for (int64_t row = 0; row < rows; row += fit) {
        tile t = {};
        t.rows = rows - row < fit ? rows - row : fit;
        t.columns = columns;
        t.partner = args->first + row;
        t.scale = args->scale;
        t.bias = p->bias;
        t.gradient = args->da != NULL;
        t.s = s;
        t.loss = bif_at<float>(args->loss) + row;
        t.dscale = dscale + row;
        t.dbias = dbias + row;

        product.trans_a = false; /* s = a b^T */
        product.trans_b = true;
        product.m = t.rows;
        product.n = columns;
        product.k = width;
        product.alpha = 1.0f;
        product.beta = 0.0f;
        product.a = a + row * width;
        product.b = args->b->data;
        product.d = s;
        bif_cuda_gemm(device, &product);
        if (p->sigmoid) {
            BIF_LAUNCH(siglip_rows, bif_grid(device, t.rows, 1, 64), THREADS, 32 * sizeof(float), cuda->stream, t);
        } else {
            BIF_LAUNCH(infonce_rows, bif_grid(device, t.rows, 1, 64), THREADS, 32 * sizeof(float), cuda->stream, t);
        }
        BIF_LAUNCHED("contrastive");
        if (!t.gradient) {
            continue;
        }
        product.alpha = args->weight * args->scale;
        product.beta = 1.0f;
        product.trans_b = false; /* da += g b */
        product.n = width;
        product.k = columns;
        product.a = s;
        product.c = product.d = bif_at<float>(args->da) + row * width;
        bif_cuda_gemm(device, &product);
        product.trans_a = true; /* db += g^T a */
        product.m = columns;
        product.k = t.rows;
        product.b = a + row * width;
        product.c = product.d = args->db->data;
        bif_cuda_gemm(device, &product);
    }
    if (args->da != NULL) {
        add_to(cuda, rows, dscale, args->weight, args->dscale);
        if (p->sigmoid) {
            add_to(cuda, rows, dbias, args->weight, p->dbias);
        }
    }
}

extern "C" void bif_cuda_infonce(bif_device *device, const bif_infonce_args *args)
{
    problem p = {};
    p.common = args;
    contrast(device, &p);
}

extern "C" void bif_cuda_siglip(bif_device *device, const bif_siglip_args *args)
{
    bif_infonce_args common = {};
    common.a = args->a;
    common.b = args->b;
    common.first = args->first;
    common.scale = args->scale;
    common.weight = args->weight;
    common.loss = args->loss;
    common.da = args->da;
    common.db = args->db;
    common.dscale = args->dscale;
    problem p = {};
    p.common = &common;
    p.sigmoid = true;
    p.bias = args->bias;
    p.dbias = args->dbias;
    contrast(device, &p);
}
