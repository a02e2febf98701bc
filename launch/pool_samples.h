/* Samples of a pool as verbs of curation print them. */
#pragma once
#include <jansson.h>

#include "data/pool.h"
#include "data/selection.h"

typedef struct {
    const bif_pool *pool;
    bif_shard *shard; /* the one open */
    int64_t number;   /* of it */
} bif_pool_samples;

void bif_pool_samples_close(bif_pool_samples *samples); /* a zeroed one is allowed */
/* The shard of a sample, opened (the one before is closed), and its number there. */
bif_status bif_pool_samples_at(bif_pool_samples *samples, int64_t sample, const bif_shard **shard, int64_t *local);
/* {"sample", "shard" (base name), "index", "id", "uid" (32 hex digits)}, and "caption" (a string or null) if asked. */
bif_status bif_pool_samples_json(bif_pool_samples *samples, int64_t sample, bool caption, json_t **out);

/* A selection, and the pool of the shards that it was made of; path NULL: a new one that keeps everything. */
bif_status bif_selection_open(const char *path, char **shards, int count, bif_pool *pool, bif_selection **out);

/* What one step did, as a table, or as {"verb", "parameters", "before", "after", "reasons": [{"name",
 * "dropped", "repeated", "once"}]}. */
json_t *bif_step_json(const bif_selection *selection, int64_t step);
void bif_step_print(const bif_selection *selection, int64_t step);
