#include "eval/vendi.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "data/diversity.h"

enum { BLOCK = 64, ROWS = 256, WIDTH_CAP = 4096 };

typedef struct {
    const bif_pool *pool;
    const bif_team *team;
    const char *name;
    bif_column_of of;
    const uint16_t *times;
    int64_t width;
    char *method; /* of the first shard's column */
    double grid;
    double *sum, *part; /* [width, width], lower triangle: all of this rank's shards, one shard */
    int64_t rows;
} gathering;

/* What each row of a shard counts: a sample its times; a picture once, when a sample that stays shows it. */
static bif_status weights_of(const gathering *g, const bif_shard *shard, int64_t number, int64_t rows, uint16_t *weight)
{
    bif_status st = BIF_OK;
    const int64_t samples = bif_shard_samples(shard), first = g->pool->first_sample[number];
    for (int64_t i = 0; i < rows; i++) {
        weight[i] = g->times == NULL;
    }
    for (int64_t i = 0; g->times != NULL && i < samples; i++) {
        const uint16_t times = g->times[first + i];
        bif_shard_sample sample;
        if (g->of == BIF_COLUMN_OF_SAMPLE) {
            weight[i] = times;
        } else if (times > 0) {
            BIF_TRY(bif_shard_get_sample(shard, i, &sample));
            for (int64_t k = 0; k < sample.image_count; k++) {
                weight[sample.images[k]] = 1;
            }
        }
    }
done:
    return st;
}

/* part += X^T X of `rows` rows of doubles [ROWS, width], in the order of the rows whatever the threads. */
static void add_products(const gathering *g, const double *x, int64_t rows)
{
    const int64_t width = g->width, blocks = (width + BLOCK - 1) / BLOCK;
    double *part = g->part;
#pragma omp parallel for schedule(dynamic) num_threads(g->team->threads)
    for (int64_t tile = 0; tile < blocks * blocks; tile++) {
        const int64_t i0 = tile / blocks * BLOCK, j0 = tile % blocks * BLOCK;
        const int64_t i1 = i0 + BLOCK < width ? i0 + BLOCK : width, j1 = j0 + BLOCK < width ? j0 + BLOCK : width;
        for (int64_t r = 0; j0 <= i0 && r < rows; r += 4) { /* rows behind the last are zero */
            const double *x0 = x + r * width, *x1 = x0 + width, *x2 = x1 + width, *x3 = x2 + width;
            for (int64_t i = i0; i < i1; i++) {
                const double a0 = x0[i], a1 = x1[i], a2 = x2[i], a3 = x3[i];
                double *out = part + i * width;
                for (int64_t j = j0; j < j1; j++) {
                    out[j] += (a0 * x0[j] + a1 * x1[j]) + (a2 * x2[j] + a3 * x3[j]);
                }
            }
        }
    }
}

static bif_status add_column(gathering *g, const bif_shard *shard, const bif_column *column, int64_t number)
{
    bif_status st = BIF_OK;
    const int64_t width = g->width, rows = bif_column_describe(column)->rows;
    const uint16_t *data = bif_column_data(column);
    uint16_t *weight = bif_calloc((size_t)rows + 1, sizeof *weight);
    float *unit = bif_calloc((size_t)width, sizeof *unit);
    double *x = bif_calloc((size_t)(ROWS * width), sizeof *x);
    int64_t filled = 0;
    BIF_TRY(weights_of(g, shard, number, rows, weight));
    memset(g->part, 0, (size_t)(width * width) * sizeof *g->part);
    for (int64_t i = 0; i < rows; i++) {
        if (weight[i] > 0 && bif_unit_row(data + i * width, width, unit)) {
            const double scale = sqrt((double)weight[i]);
            for (int64_t j = 0; j < width; j++) {
                x[filled * width + j] = scale * (double)unit[j];
            }
            g->rows += weight[i];
            filled++;
        }
        if (filled == ROWS || (i + 1 == rows && filled > 0)) {
            memset(x + filled * width, 0, (size_t)((ROWS - filled) * width) * sizeof *x);
            add_products(g, x, filled);
            filled = 0;
        }
    }
    for (int64_t i = 0; i < width * width; i++) {
        g->sum[i] += rint(g->part[i] / g->grid) * g->grid;
    }
done:
    free(weight);
    free(unit);
    free(x);
    return st;
}

static bif_status gather_shard(void *argument, int64_t number)
{
    bif_status st = BIF_OK;
    gathering *g = argument;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    BIF_TRY(bif_pool_shard(g->pool, number, &shard));
    BIF_TRY(bif_column_need(shard, g->name, g->of, BIF_COLUMN_F16, g->width, "run bifocal data embed", &column));
    BIF_TRY(bif_column_same_method(shard, column, g->method));
    BIF_TRY(add_column(g, shard, column, number));
done:
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

/* The width of the first shard's column; the others must have the same. */
static bif_status look(gathering *g)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    BIF_TRY(bif_pool_shard(g->pool, 0, &shard));
    BIF_TRY(bif_column_need(shard, g->name, g->of, BIF_COLUMN_F16, 0, "run bifocal data embed", &column));
    g->width = bif_column_describe(column)->width;
    g->method = bif_strdup(bif_column_describe(column)->method);
    if (g->width > WIDTH_CAP) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: column %s has %lld numbers a row; a Vendi score is computed of at most %d",
                         bif_shard_path(shard), g->name, (long long)g->width, WIDTH_CAP));
    }
done:
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

bif_status bif_vendi_column(const bif_pool *pool, const bif_team *team, const char *name, bif_column_of of, const uint16_t *times,
                            bif_vendi *out)
{
    bif_status st = BIF_OK;
    gathering g = {.pool = pool, .team = team, .name = name, .of = of, .times = times};
    double *values = NULL, most = (double)(of == BIF_COLUMN_OF_IMAGE ? pool->images : pool->samples);
    *out = (bif_vendi){0};
    if (pool->shards == 0) {
        return BIF_OK;
    }
    BIF_TRY(team->agree(team->context, look(&g)));
    if (times != NULL && of == BIF_COLUMN_OF_SAMPLE) {
        most = 0.0;
        for (int64_t i = 0; i < pool->samples; i++) {
            most += (double)times[i];
        }
    }
    g.grid = exp2(ceil(log2(fmax(most, 1.0))) + 1.0 - 52.0); /* multiples of it up to `most` add up exactly */
    g.sum = bif_calloc((size_t)(g.width * g.width), sizeof *g.sum);
    g.part = bif_calloc((size_t)(g.width * g.width), sizeof *g.part);
    BIF_TRY(team->share(team->context, pool->shards, gather_shard, &g));
    double rows = (double)g.rows;
    team->sum(team->context, &rows, 1);
    for (int64_t i = 0; i < g.width; i++) { /* as whole numbers, of which sums are exact */
        for (int64_t j = 0; j < g.width; j++) {
            g.sum[i * g.width + j] = j <= i ? g.sum[i * g.width + j] / g.grid : 0.0;
        }
    }
    team->sum(team->context, g.sum, g.width * g.width);
    values = bif_calloc((size_t)g.width, sizeof *values);
    bif_symmetric_eigenvalues(g.sum, g.width, values);
    *out = (bif_vendi){.score = bif_vendi_of(values, g.width), .rows = (int64_t)rows, .width = g.width};
done:
    free(g.method);
    free(g.sum);
    free(g.part);
    free(values);
    return st;
}
