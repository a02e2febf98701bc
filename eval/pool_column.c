#include "eval/pool_column.h"

#include <stdlib.h>
#include <string.h>

static bif_status open_one(bif_pool_column *c, int64_t number)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    BIF_TRY(bif_pool_shard(c->pool, number, &shard));
    BIF_TRY(bif_column_need(shard, c->name, c->of, c->type, c->width, c->advice, &column));
    const bif_column_info *info = bif_column_describe(column);
    if (c->method == NULL) {
        c->method = bif_strdup(info->method);
        c->width = info->width;
    }
    if (strcmp(c->method, info->method) != 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: its column %s was made in another way than that of %s (\"%s\", not \"%s\"); %s",
                         bif_shard_path(shard), c->name, c->pool->path[0], info->method, c->method, c->advice));
    }
    c->column[number] = column;
    column = NULL;
done:
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

bif_status bif_pool_column_open(const bif_pool *pool, const char *name, bif_column_of of, bif_column_type type, int64_t width,
                                const char *advice, bif_pool_column *out)
{
    *out = (bif_pool_column){.pool = pool, .advice = advice, .name = bif_strdup(name), .of = of, .type = type, .width = width};
    out->column = bif_calloc((size_t)pool->shards + 1, sizeof(bif_column *));
    const bif_status st = pool->shards > 0 ? open_one(out, 0) : bif_fail(BIF_ERR_DATA, "there are no shards to take column %s of", name);
    if (st != BIF_OK) {
        bif_pool_column_close(out);
    }
    return st;
}

void bif_pool_column_close(bif_pool_column *c)
{
    for (int64_t i = 0; c->column != NULL && i < c->pool->shards; i++) {
        bif_column_close(c->column[i]);
    }
    free(c->column);
    free(c->name);
    free(c->method);
    *c = (bif_pool_column){0};
}

bif_status bif_pool_column_at(bif_pool_column *c, int64_t shard, const void **data, int64_t *rows)
{
    bif_status st = BIF_OK;
    if (c->column[shard] == NULL) {
        BIF_TRY(open_one(c, shard));
    }
    *data = bif_column_data(c->column[shard]);
    *rows = bif_column_describe(c->column[shard])->rows;
done:
    return st;
}

bif_status bif_pool_column_row(bif_pool_column *c, int64_t number, const void **row)
{
    const bool images = c->of == BIF_COLUMN_OF_IMAGE;
    const int64_t shard = images ? bif_pool_shard_of_image(c->pool, number) : bif_pool_shard_of_sample(c->pool, number);
    const int64_t local = number - (images ? c->pool->first_image : c->pool->first_sample)[shard];
    const void *data = NULL;
    int64_t rows = 0;
    const bif_status st = bif_pool_column_at(c, shard, &data, &rows);
    if (st == BIF_OK) {
        *row = (const char *)data + (size_t)(local * c->width) * bif_column_type_size(c->type);
    }
    return st;
}
