/* The numbers of a tensor in a file, with what an adapter adds to them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "kernels/convert.h"
#include "kernels/low_rank.h"
#include "train/safetensors.h"

#define CHUNK ((int64_t)1 << 18) /* elements rounded at a time */
#define ROWS ((int64_t)256)      /* of B, as f32, at a time */

/* As they are in the file. */
static void stored(const bif_st_entry *entry, int64_t first, int64_t count, float *out)
{
    const size_t size = bif_dtype_size(entry->dtype);
    BIF_BUG_IF(first < 0 || count < 0 || (size_t)(first + count) > entry->bytes / size, "elements [%" PRId64 ", +%" PRId64 ") of tensor %s",
               first, count, entry->name == NULL ? "of an adapter" : entry->name);
    const unsigned char *from = (const unsigned char *)entry->data + (size_t)first * size;
    if (entry->dtype == BIF_DTYPE_F32) {
        memcpy(out, from, (size_t)count * size);
        return;
    }
    if (entry->dtype == BIF_DTYPE_BF16) {
        for (int64_t i = 0; i < count; i++) { /* as bif_from_bf16, in vectors: factors are converted again for every few rows */
            uint16_t half;
            memcpy(&half, from + 2 * i, sizeof half);
            const uint32_t bits = (uint32_t)half << 16;
            memcpy(out + i, &bits, sizeof bits);
        }
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, sizeof half);
        out[i] = bif_from_f16(half);
    }
}

/* The rectangle of rows [row, +rows) and columns [column, +columns), at `out` with its rows `stride` apart. */
static void add_rectangle(const bif_st_delta *d, int64_t row, int64_t rows, int64_t column, int64_t columns, float *out, int64_t stride)
{
    const int64_t rank = d->a.dim[0], in = d->a.dim[1], tiles = (columns + BIF_LOW_RANK_COLUMNS - 1) / BIF_LOW_RANK_COLUMNS;
    float *b = bif_malloc((size_t)(rows * rank) * sizeof *b);
    stored(&d->b, row * rank, rows * rank, b);
#pragma omp parallel if (rows * columns * rank > 1 << 20)
    {
        float *a = bif_calloc((size_t)(rank * BIF_LOW_RANK_COLUMNS), sizeof *a);
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t at = t * BIF_LOW_RANK_COLUMNS;
            const int64_t some = columns - at < BIF_LOW_RANK_COLUMNS ? columns - at : BIF_LOW_RANK_COLUMNS;
            for (int64_t k = 0; k < rank; k++) {
                stored(&d->a, k * in + column + at, some, a + k * BIF_LOW_RANK_COLUMNS);
            }
            bif_low_rank_add(rows, some, rank, d->scale, b, a, out + at, stride);
        }
        free(a);
    }
    free(b);
}

/* Elements of a row-major matrix that begin and end within rows: the end of one, whole ones, the beginning of one. */
static void add_delta(const bif_st_delta *d, int64_t first, int64_t count, float *out)
{
    const int64_t in = d->a.dim[1];
    while (count > 0) {
        const int64_t row = first / in, column = first % in;
        int64_t rows = 1, columns = in - column < count ? in - column : count;
        if (column == 0 && count >= in) {
            rows = count / in < ROWS ? count / in : ROWS;
            columns = in;
        }
        add_rectangle(d, row, rows, column, columns, out, in);
        first += rows * columns;
        out += rows * columns;
        count -= rows * columns;
    }
}

void bif_entry_floats(const bif_st_entry *entry, int64_t first, int64_t count, float *out)
{
    stored(entry, first, count, out);
    for (const bif_st_delta *d = entry->delta; d != NULL; d = d->next) {
        add_delta(d, first, count, out);
    }
}

void bif_entry_bytes(const bif_st_entry *entry, int64_t first, int64_t count, void *out)
{
    const size_t size = bif_dtype_size(entry->dtype);
    if (entry->delta == NULL) {
        memcpy(out, (const char *)entry->data + (size_t)first * size, (size_t)count * size);
        return;
    }
    if (entry->dtype == BIF_DTYPE_F32) {
        bif_entry_floats(entry, first, count, out);
        return;
    }
    const int64_t piece = count < CHUNK ? count : CHUNK;
    float *floats = bif_malloc((size_t)piece * sizeof *floats);
    uint16_t *to = out;
    for (int64_t at = 0; at < count; at += piece) {
        const int64_t some = count - at < piece ? count - at : piece;
        bif_entry_floats(entry, first + at, some, floats);
        if (entry->dtype == BIF_DTYPE_BF16) {
            bif_to_bf16s(to + at, floats, some);
        } else {
            for (int64_t i = 0; i < some; i++) {
                to[at + i] = bif_to_f16(floats[i]);
            }
        }
    }
    free(floats);
}
