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
    int64_t bad;                /* shards that were named and cannot be used */
} bif_pool;

/* A path is a shard or a folder of them (*.h5). Every shard is opened and checked once and closed again: only this table stays in memory.
 * A shard that is damaged or hostile is named with the reason, counted and left out. BIF_ERR_DATA: all of them are, the same shard twice, or more than
 * 2^32 - 2 samples or images. BIF_ERR_IO: one is not there. */
bif_status bif_pool_open(const char *const *paths, size_t count, bif_pool *out);
/* For the end of a job: st, or BIF_ERR_DATA where the job went well but shards were left out, so that the exit code says it. */
bif_status bif_pool_verdict(const bif_pool *pool, bif_status st);
bif_status bif_pool_whole(const bif_pool *pool); /* for jobs that want every shard: BIF_ERR_DATA where some were left out */
void bif_pool_close(bif_pool *pool); /* a zeroed one is allowed */
bif_status bif_pool_shard(const bif_pool *pool, int64_t shard, bif_shard **out); /* opened; the caller closes it */
int64_t bif_pool_shard_of_sample(const bif_pool *pool, int64_t sample);
int64_t bif_pool_shard_of_image(const bif_pool *pool, int64_t image);

/* A sample's name for itself in 128 bits (high, low), the same in any shard: its id where that is 32 hex digits (DataComp's uid), else
 * XXH3-128 over its source, id, text and the ids of its images. */
bif_status bif_sample_uid(const bif_shard *shard, int64_t local, uint64_t uid[2]);
