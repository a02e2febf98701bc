/* Softmax cross-entropy and argmax, one row at a time: a row of the usual vocabularies (32k to 152k: 128 to 600 KB)
 * stays in the second cache between its sweeps, so only the first one reads memory. */
#include "kernels/cpu.h"
#include "kernels/vec.h"

static float row_max(const float *x, int64_t n)
{
    bif_vec high = bif_splat(-INFINITY);
    for (int64_t j = 0; j < n; j += BIF_LANES) {
        high = bif_vmax(bif_load_first(x + j, n - j, -INFINITY), high);
    }
    return bif_hmax(high);
}

/* Sum of exp(x - peak); p (NULL or x allowed) receives the terms. Summed by blocks of 4096 lanes, so that 10^5 terms do
 * not pile rounding on one float. */
static float row_exp(const float *x, int64_t n, float peak, float *p)
{
    bif_vec total = {0};
    for (int64_t block = 0; block < n; block += 4096) {
        int64_t end = bif_min(n, block + 4096);
        bif_vec sum = {0};
        for (int64_t j = block; j < end; j += BIF_LANES) {
            bif_vec e = bif_vexp2((bif_load_first(x + j, end - j, -INFINITY) - peak) * BIF_LOG2E);
            sum += e;
            if (p != NULL) {
                bif_store_first(p + j, e, end - j);
            }
        }
        total += sum;
    }
    return bif_hsum(total);
}

void BIF_CPU(cross_entropy)(bif_device *device, const bif_cross_entropy_args *args)
{
    int64_t rows = args->logits->dim[0], v = args->logits->dim[1];
    const float *weights = bif_f32(args->weight);
    const bool one = weights != NULL && args->weight->dim[0] == 1;
    float *loss = bif_f32(args->loss), *dlogits = bif_f32(args->dlogits);
#pragma omp parallel for schedule(static) num_threads(bif_threads_for(device, 4 * rows * v))
    for (int64_t i = 0; i < rows; i++) {
        const float *x = bif_f32(args->logits) + i * v;
        float *p = dlogits == NULL ? NULL : dlogits + i * v;
        int32_t target = bif_i32(args->targets)[i];
        BIF_BUG_IF(target < 0 || target >= v, "cross_entropy: target %d of row %lld is not in [0, %lld)", target,
                   (long long)i, (long long)v);
        float weight = weights == NULL ? 1.0f : weights[one ? 0 : i];
        float peak = row_max(x, v);
        float below = x[target] - peak; /* before p, which may be x, is written */
        float sum = row_exp(x, v, peak, p);
        if (loss != NULL) {
            loss[i] = weight * (logf(sum) - below);
        }
        if (p != NULL) {
            float factor = weight / sum;
            for (int64_t j = 0; j < v; j++) {
                p[j] *= factor;
            }
            p[target] -= weight;
        }
    }
}

void BIF_CPU(argmax)(bif_device *device, const bif_argmax_args *args)
{
    int64_t rows = args->x->dim[0], v = args->x->dim[1];
    int32_t *index = (int32_t *)args->index->data;
#pragma omp parallel for schedule(static) num_threads(bif_threads_for(device, rows *v))
    for (int64_t i = 0; i < rows; i++) {
        const float *x = bif_f32(args->x) + i * v;
        float peak = row_max(x, v); /* passes over NaN */
        int64_t at = 0;
        while (peak > -INFINITY && x[at] != peak) {
            at++;
        }
        index[i] = (int32_t)at;
    }
}
