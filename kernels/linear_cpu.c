#include <string.h>

#include "kernels/act.h"
#include "kernels/cpu.h"

/* Up to this many rows a product is bound by reading W once, and row dot products beat packing W. */
#define FEW_ROWS 4
/* Below this many rows a thread, the threads share the columns instead: each would pack all of W for a few strips. */
#define ROWS_A_THREAD 64
/* Rows of dy a backward handles at a time: dx, dw and db then all read it from cache. One depth block of gemm. */
#define BACK_ROWS 512
/* Largest dw (floats) of which every thread may have a copy to sum into. */
#define OWN_DW (512 * 1024)

/* Products below about 2 us of one core are not worth a second thread. */
static int linear_threads(const bif_device *device, int64_t t, int64_t n, int64_t k)
{
    return t * n * k < 256 * 1024 ? 1 : device->threads;
}

/* ---- forward ---- */

/* The part of y one thread computes. Pointers are at its first element. */
typedef struct {
    bif_act act;
    int64_t rows, columns, n, raw_n; /* n, raw_n: row strides */
    const float *bias, *residual;    /* residual NULL when it is already in raw */
    float *raw, *y;                  /* raw: x W^T, kept as `pre` when that is wanted; may be y */
} forward_part;

static void finish_forward(void *context, int64_t row, int64_t rows, int64_t column, int64_t columns)
{
    const forward_part *part = context;
    for (int64_t r = row; r < row + rows; r++) {
        float *raw = part->raw + r * part->raw_n + column, *y = part->y + r * part->n + column;
        if (part->bias != NULL) {
            const float *bias = part->bias + column;
#pragma omp simd
            for (int64_t j = 0; j < columns; j++) {
                raw[j] += bias[j];
            }
        }
        if (part->residual != NULL) {
            bif_act_add_row(part->act, columns, raw, part->residual + r * part->n + column, y);
        } else if (part->act != BIF_ACT_NONE || raw != y) {
            bif_act_row(part->act, columns, raw, y);
        }
    }
}

static void few_rows(const forward_part *part, int64_t k, const float *x, const float *w, bool add)
{
    for (int64_t j = 0; j < part->columns; j++) {
        const float *wj = w + j * k;
        for (int64_t r = 0; r < part->rows; r++) {
            const float *xr = x + r * k;
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < k; i++) {
                sum += xr[i] * wj[i];
            }
            float *to = &part->raw[r * part->raw_n + j];
            *to = add ? *to + sum : sum;
        }
    }
}

void BIF_CPU(linear)(bif_device *device, const bif_linear_args *args)
{
    int64_t t = args->x->dim[0], k = args->x->dim[1], n = args->w->dim[0];
    const float *x = bif_f32(args->x), *w = bif_f32(args->w), *residual = bif_f32(args->residual);
    float *y = bif_f32(args->y), *pre = bif_f32(args->pre);
    int threads = linear_threads(device, t, n, k);
    bool by_rows = t >= ROWS_A_THREAD * threads;
    /* x W^T goes to pre, else straight to y (onto the residual when that is there), else, rarely, to scratch. */
    bool onto = pre == NULL && args->act == BIF_ACT_NONE && residual == y;
    bool aside = pre == NULL && args->act != BIF_ACT_NONE && residual == y;
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num();
        int64_t r0 = by_rows ? bif_part(t, threads, me) : 0, r1 = by_rows ? bif_part(t, threads, me + 1) : t;
        int64_t c0 = by_rows ? 0 : bif_part(n, threads, me), c1 = by_rows ? n : bif_part(n, threads, me + 1);
        int64_t at = r0 * n + c0;
        forward_part part = {
            .act = args->act,
            .rows = r1 - r0,
            .columns = c1 - c0,
            .n = n,
            .raw_n = aside ? c1 - c0 : n,
            .bias = args->b == NULL ? NULL : bif_f32(args->b) + c0,
            .residual = residual == NULL || onto ? NULL : residual + at,
            .y = y + at,
        };
        part.raw = aside ? bif_cpu_scratch(device, me, (size_t)(part.rows * part.columns) * sizeof(float)) : (pre ? pre : y) + at;
        if (t <= FEW_ROWS) {
            few_rows(&part, k, x, w + c0 * k, onto);
            finish_forward(&part, 0, part.rows, 0, part.columns);
        } else {
            BIF_CPU(gemm_then)(device, me, false, true, part.rows, part.columns, k, 1.0f, x + r0 * k, k, w + c0 * k, k,
                               onto ? 1.0f : 0.0f, part.raw, part.raw_n, finish_forward, &part);
        }
    }
}

/* ---- backward ---- */

typedef struct {
    bif_act act;
    int64_t k;
    const float *pre, *add;
    float *dx;
} backward_part;

static void finish_backward(void *context, int64_t row, int64_t rows, int64_t column, int64_t columns)
{
    const backward_part *part = context;
    for (int64_t r = row; r < row + rows; r++) {
        int64_t at = r * part->k + column;
        float *dx = part->dx + at;
        if (part->act != BIF_ACT_NONE) {
            bif_act_backward_row(part->act, columns, part->pre + at, dx, dx);
        } else if (part->add != NULL) {
            bif_act_add_row(BIF_ACT_NONE, columns, dx, part->add + at, dx);
        }
    }
}

static void add_column_sums(int64_t rows, int64_t columns, const float *x, int64_t stride, float *sums)
{
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) {
            sums[j] += x[r * stride + j];
        }
    }
}

void BIF_CPU(linear_backward)(bif_device *device, const bif_linear_backward_args *args)
{
    int64_t t = args->dy->dim[0], n = args->dy->dim[1];
    int64_t k = args->dx != NULL ? args->dx->dim[1] : args->dw != NULL ? args->dw->dim[1] : 0;
    const float *dy = bif_f32(args->dy), *x = bif_f32(args->x), *w = bif_f32(args->w);
    const float *dx_pre = bif_f32(args->dx_pre), *dx_add = bif_f32(args->dx_add);
    float *dx = bif_f32(args->dx), *dw = bif_f32(args->dw), *db = bif_f32(args->db);
    if (t == 0) {
        return;
    }
    int threads = (int)bif_min(linear_threads(device, t, n, k), bif_max(t / ROWS_A_THREAD, 1));
    /* A small dw is summed over each thread's own rows, then over the threads in their order; a large one is shared by rows of dw. */
    bool own = n * k <= OWN_DW;
    int64_t own_dw = own && dw != NULL ? n * k : 0;
    float *parts[1024];
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num();
        /* The first thread adds to the gradient itself. */
        float *part = me == 0 ? NULL : bif_cpu_scratch(device, me, (size_t)(own_dw + n) * sizeof(float));
        parts[me] = part;
        float *my_dw = me == 0 ? dw : part, *my_db = me == 0 ? db : part + own_dw;
        if (me != 0) {
            memset(my_db, 0, (size_t)n * sizeof(float));
        }
        int64_t r0 = bif_part(t, threads, me), rows = bif_part(t, threads, me + 1) - r0;
        int64_t blocks = (rows + BACK_ROWS - 1) / BACK_ROWS;
        for (int64_t b = 0; b < blocks; b++) {
            int64_t first = r0 + bif_part(rows, blocks, b), some = r0 + bif_part(rows, blocks, b + 1) - first;
            if (dx != NULL) {
                backward_part tile = {
                    .act = args->dx_act,
                    .k = k,
                    .pre = args->dx_act == BIF_ACT_NONE ? NULL : dx_pre + first * k,
                    .add = dx_add == NULL || dx_add == dx ? NULL : dx_add + first * k,
                    .dx = dx + first * k,
                };
                BIF_CPU(gemm_then)(device, me, false, false, some, k, n, 1.0f, dy + first * n, n, w, k,
                                   dx_add == dx ? 1.0f : 0.0f, tile.dx, k, finish_backward, &tile);
            }
            if (own_dw > 0) {
                BIF_CPU(gemm)(device, me, true, false, n, k, some, 1.0f, dy + first * n, n, x + first * k, k,
                              me == 0 || b > 0 ? 1.0f : 0.0f, my_dw, k);
            }
            if (db != NULL) {
                add_column_sums(some, n, dy + first * n, n, my_db);
            }
        }
        if (dw != NULL && !own) {
            int64_t c0 = bif_part(n, threads, me), some = bif_part(n, threads, me + 1) - c0;
            BIF_CPU(gemm)(device, me, true, false, some, k, t, 1.0f, dy + c0, n, x, k, 1.0f, dw + c0 * k, k);
        }
#pragma omp barrier
        for (int other = 1; other < threads; other++) {
            int64_t from = bif_part(own_dw, threads, me), to = bif_part(own_dw, threads, me + 1);
            if (own_dw > 0) {
                add_column_sums(1, to - from, parts[other] + from, 0, dw + from);
            }
            from = bif_part(n, threads, me);
            to = bif_part(n, threads, me + 1);
            if (db != NULL) {
                add_column_sums(1, to - from, parts[other] + own_dw + from, 0, db + from);
            }
        }
    }
}
