/* Shards taken together for curation, in an order that does not depend on how they were named: by payload digest. Samples and images
 * are counted through in that order, from 0; these numbers are what dedup, prune, balance and selections speak of. */
#pragma once
#include "data/column.h"
#include "data/shard.h"

typedef struct {
    char **path;                /* [shards] */
    char (*digest)[33];         /* [shards], rising */
    int64_t *first_sample;      /* [shards + 1] */
    int64_t *first_image;       /* [shards + 1] */
    int64_t shards, samples, images;
} bif_pool;

/* A path is a shard or a folder of them (*.h5). Every shard is opened and checked once and closed again: only this table stays in memory.
 * BIF_ERR_DATA: a bad shard, the same shard twice, or more than 2^32 - 2 samples or images. */
bif_status bif_pool_open(const char *const *paths, size_t count, bif_pool *out);
void bif_pool_close(bif_pool *pool); /* a zeroed one is allowed */
bif_status bif_pool_shard(const bif_pool *pool, int64_t shard, bif_shard **out); /* opened; the caller closes it */
int64_t bif_pool_shard_of_sample(const bif_pool *pool, int64_t sample);
int64_t bif_pool_shard_of_image(const bif_pool *pool, int64_t image);

/* A sample's name for itself in 128 bits (high, low), the same in any shard: its id where that is 32 hex digits (DataComp's uid), else
 * XXH3-128 over its source, id, text and the ids of its images. */
bif_status bif_sample_uid(const bif_shard *shard, int64_t local, uint64_t uid[2]);
