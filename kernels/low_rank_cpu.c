#include "kernels/low_rank.h"

#include "kernels/tile.h"

void BIF_CPU(low_rank_add)(int64_t rows, int64_t columns, int64_t rank, float scale, const float *b, const float *a, float *out,
                           int64_t stride);

void BIF_CPU(low_rank_add)(int64_t rows, int64_t columns, int64_t rank, float scale, const float *b, const float *a, float *out,
                           int64_t stride)
{
    float product[BIF_TILE_ROWS * BIF_LOW_RANK_COLUMNS];
    for (int64_t i = 0; i < rows; i += BIF_TILE_ROWS) {
        const int64_t some = bif_min(rows - i, BIF_TILE_ROWS);
        BIF_CPU(tile)(some, bif_padded(columns), rank, b + i * rank, rank, a, BIF_LOW_RANK_COLUMNS, false, product, BIF_LOW_RANK_COLUMNS);
        for (int64_t k = 0; k < some; k++) {
            float *row = out + (i + k) * stride;
            const float *add = product + k * BIF_LOW_RANK_COLUMNS;
            for (int64_t j = 0; j < columns; j++) {
                row[j] += scale * add[j];
            }
        }
    }
}
