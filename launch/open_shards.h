/* Shards named on a command line. */
#pragma once
#include "data/shard.h"

typedef struct {
    bif_shard **shard; /* [count] in the order given; the *.h5 of a folder by name */
    size_t count;
    int64_t samples; /* of all */
} bif_shard_list;

/* Adds one shard, or all *.h5 of a folder. */
bif_status bif_shard_list_add(bif_shard_list *list, const char *path);
void bif_shard_list_close(bif_shard_list *list);
/* Sample `index` of all shards counted through; *shard and *local say where it is. BIF_ERR_USAGE beyond the end. */
bif_status bif_shard_list_sample(const bif_shard_list *list, int64_t index, bif_shard **shard, int64_t *local,
                                 bif_shard_sample *sample);
