/* One column of all shards of a pool, each opened when it is first asked for and mapped from then on. Columns made in different ways
 * (bif_column_info's method) are refused: their numbers do not go together. Not for several threads at once. */
#pragma once
#include "data/pool.h"

typedef struct {
    const bif_pool *pool;
    const char *advice; /* what a missing column's message ends with; borrowed */
    char *name, *method;
    bif_column_of of;
    bif_column_type type;
    int64_t width;
    bif_column **column; /* [shards], NULL until wanted */
} bif_pool_column;

/* Looks at the first shard's; width 0 = any. A pool without shards has none: BIF_ERR_DATA. */
bif_status bif_pool_column_open(const bif_pool *pool, const char *name, bif_column_of of, bif_column_type type, int64_t width,
                                const char *advice, bif_pool_column *out);
void bif_pool_column_close(bif_pool_column *columns); /* a zeroed one is allowed */
/* *data: [*rows, width] of a shard; valid until the close. */
bif_status bif_pool_column_at(bif_pool_column *columns, int64_t shard, const void **data, int64_t *rows);
/* The row of an image or sample, by its number in the pool. */
bif_status bif_pool_column_row(bif_pool_column *columns, int64_t number, const void **row);
