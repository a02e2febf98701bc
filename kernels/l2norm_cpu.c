/* L2 normalisation of rows, with torch's clamp of the norm at 1e-12. */
#include <math.h>

#include "kernels/cpu.h"

#define SMALLEST 1e-12f

static inline float row_dot(const float *a, const float *b, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        sum += a[j] * b[j];
    }
    return sum;
}

void BIF_CPU(l2norm)(bif_device *device, const bif_l2norm_args *args)
{
    int64_t rows = args->x->dim[0], n = args->x->dim[1];
    float *inv = bif_f32(args->inv);
#pragma omp parallel for schedule(static) num_threads(bif_threads_for(device, rows *n))
    for (int64_t i = 0; i < rows; i++) {
        const float *x = bif_f32(args->x) + i * n;
        float *y = bif_f32(args->y) + i * n;
        float norm = sqrtf(row_dot(x, x, n));
        float inverse = 1.0f / (norm < SMALLEST ? SMALLEST : norm); /* NaN stays NaN */
        for (int64_t j = 0; j < n; j++) {
            y[j] = x[j] * inverse;
        }
        if (inv != NULL) {
            inv[i] = inverse;
        }
    }
}

/* dx = (dy - y (y . dy)) inv; a row below the clamp was multiplied with a constant, so nothing is projected out there.
 */
void BIF_CPU(l2norm_backward)(bif_device *device, const bif_l2norm_backward_args *args)
{
    int64_t rows = args->dx->dim[0], n = args->dx->dim[1];
#pragma omp parallel for schedule(static) num_threads(bif_threads_for(device, rows *n))
    for (int64_t i = 0; i < rows; i++) {
        const float *y = bif_f32(args->y) + i * n, *dy = bif_f32(args->dy) + i * n;
        float *dx = bif_f32(args->dx) + i * n;
        float inverse = bif_f32(args->inv)[i];
        float along = inverse >= 1.0f / SMALLEST ? 0.0f : row_dot(y, dy, n);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            dx[j] = (dy[j] - y[j] * along) * inverse;
        }
    }
}
