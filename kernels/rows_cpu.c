/* Ops that move or add whole rows. An index out of range is a caller's bug and ends the program before memory is touched. */
#include <string.h>

#include "kernels/cpu.h"

static void check_index(const char *op, int64_t index, int64_t rows)
{
    BIF_BUG_IF(index >= rows, "%s: row %lld of %lld", op, (long long)index, (long long)rows);
}

static void add_row(int64_t n, const float *x, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

/* to[i] = from[index[i]]; index < 0 skips. */
static void take_rows(bif_device *device, const char *op, int64_t count, int64_t c, const float *from, int64_t from_rows,
                      const int32_t *index, float *to)
{
    int threads = bif_threads_for(device, count * c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < count; i++) {
        if (index[i] >= 0) {
            check_index(op, index[i], from_rows);
            memcpy(to + i * c, from + index[i] * c, (size_t)c * sizeof(float));
        }
    }
}

/* to[index[i]] += from[i] in the order of i: threads share the columns, so equal indices need no care. */
static void add_to_rows(bif_device *device, const char *op, int64_t count, int64_t c, const float *from, const int32_t *index,
                        float *to, int64_t to_rows)
{
    int threads = (int)bif_min(bif_threads_for(device, count * c), bif_max(c / 16, 1)); /* a cache line each at least */
#pragma omp parallel num_threads(threads)
    {
        int64_t c0 = bif_part(c, threads, omp_get_thread_num()), some = bif_part(c, threads, omp_get_thread_num() + 1) - c0;
        for (int64_t i = 0; i < count; i++) {
            if (index[i] >= 0) {
                check_index(op, index[i], to_rows);
                add_row(some, from + i * c + c0, to + index[i] * c + c0);
            }
        }
    }
}

void BIF_CPU(embedding)(bif_device *device, const bif_embedding_args *args)
{
    take_rows(device, "embedding", args->y->dim[0], args->y->dim[1], bif_f32(args->table), args->table->dim[0],
              bif_i32(args->ids), bif_f32(args->y));
}

void BIF_CPU(embedding_backward)(bif_device *device, const bif_embedding_backward_args *args)
{
    add_to_rows(device, "embedding_backward", args->dy->dim[0], args->dy->dim[1], bif_f32(args->dy), bif_i32(args->ids),
                bif_f32(args->dtable), args->dtable->dim[0]);
}

void BIF_CPU(gather_rows)(bif_device *device, const bif_gather_rows_args *args)
{
    take_rows(device, "gather_rows", args->dst->dim[0], args->dst->dim[1], bif_f32(args->src), args->src->dim[0],
              bif_i32(args->index), bif_f32(args->dst));
}

void BIF_CPU(scatter_rows)(bif_device *device, const bif_scatter_rows_args *args)
{
    int64_t count = args->src->dim[0], c = args->src->dim[1], rows = args->dst->dim[0];
    const float *src = bif_f32(args->src);
    const int32_t *index = bif_i32(args->index);
    float *dst = bif_f32(args->dst);
    if (args->add) {
        add_to_rows(device, "scatter_rows", count, c, src, index, dst, rows);
        return;
    }
    int threads = bif_threads_for(device, count * c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < count; i++) {
        if (index[i] >= 0) {
            check_index("scatter_rows", index[i], rows);
            memcpy(dst + index[i] * c, src + i * c, (size_t)c * sizeof(float));
        }
    }
}

void BIF_CPU(add_rows)(bif_device *device, const bif_add_rows_args *args)
{
    int64_t t = args->y->dim[0], c = args->y->dim[1];
    const float *table = bif_f32(args->table);
    const int32_t *pos = bif_i32(args->pos);
    float *y = bif_f32(args->y);
    int threads = bif_threads_for(device, t * c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < t; i++) {
        BIF_BUG_IF(pos[i] < 0, "add_rows: position %d", pos[i]);
        check_index("add_rows", pos[i], args->table->dim[0]);
        add_row(c, table + pos[i] * c, y + i * c);
    }
}

/* ---- images ---- */

void BIF_CPU(patchify)(bif_device *device, const bif_patchify_args *args)
{
    int64_t size = args->pixels->dim[2], p = args->patch, side = size / p, t = args->rows->dim[0];
    const bool levels = args->table != NULL;
    const float *pixels = bif_f32(args->pixels), *table = bif_f32(args->table);
    const uint8_t *bytes = (const uint8_t *)args->pixels->data;
    float *rows = bif_f32(args->rows);
    int threads = bif_threads_for(device, t * 3 * p * p);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        int64_t image = r / (side * side), py = r / side % side, px = r % side;
        float *to = rows + r * 3 * p * p;
        for (int64_t channel = 0; channel < 3; channel++) {
            for (int64_t y = 0; y < p; y++) {
                if (levels) {
                    const uint8_t *from = bytes + ((image * size + py * p + y) * size + px * p) * 3 + channel;
                    for (int64_t x = 0; x < p; x++) {
                        to[x] = table[channel * 256 + from[3 * x]];
                    }
                } else {
                    memcpy(to, pixels + ((image * 3 + channel) * size + py * p + y) * size + px * p, (size_t)p * sizeof(float));
                }
                to += p;
            }
        }
    }
}

void BIF_CPU(vit_embed)(bif_device *device, const bif_vit_embed_args *args)
{
    int64_t t = args->x->dim[0], c = args->x->dim[1], has_cls = args->cls != NULL, rows = t / args->images;
    const float *patches = bif_f32(args->patches), *cls = bif_f32(args->cls), *pos = bif_f32(args->pos);
    float *x = bif_f32(args->x);
    int threads = bif_threads_for(device, t * c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < t; r++) {
        int64_t image = r / rows, i = r % rows;
        const float *from = has_cls && i == 0 ? cls : patches + (image * (rows - has_cls) + i - has_cls) * c;
        const float *at = pos + i * c;
        float *to = x + r * c;
#pragma omp simd
        for (int64_t j = 0; j < c; j++) {
            to[j] = from[j] + at[j];
        }
    }
}

void BIF_CPU(vit_embed_backward)(bif_device *device, const bif_vit_embed_backward_args *args)
{
    int64_t t = args->dx->dim[0], c = args->dx->dim[1], has_cls = args->has_cls, images = args->images, rows = t / images;
    const float *dx = bif_f32(args->dx);
    float *dpatches = bif_f32(args->dpatches), *dcls = bif_f32(args->dcls), *dpos = bif_f32(args->dpos);
    int threads = bif_threads_for(device, t * c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t image = 0; image < images; image++) {
            const float *from = dx + (image * rows + i) * c;
            if (dpos != NULL) {
                add_row(c, from, dpos + i * c);
            }
            if (i < has_cls) {
                if (dcls != NULL) {
                    add_row(c, from, dcls);
                }
            } else if (dpatches != NULL) {
                memcpy(dpatches + (image * (rows - has_cls) + i - has_cls) * c, from, (size_t)c * sizeof(float));
            }
        }
    }
}
