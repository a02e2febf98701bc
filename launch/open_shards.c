#include "launch/open_shards.h"

#include <stdlib.h>

static bif_status add_file(void *context, const char *path)
{
    bif_shard_list *list = context;
    bif_shard *shard = NULL;
    bif_status st = bif_shard_open(path, &shard);
    if (st == BIF_OK) {
        list->shard = bif_realloc(list->shard, list->count + 1, sizeof(bif_shard *));
        list->shard[list->count++] = shard;
        list->samples += bif_shard_samples(shard);
    }
    return st;
}

bif_status bif_shard_list_add(bif_shard_list *list, const char *path)
{
    return bif_shard_each(path, add_file, list);
}

void bif_shard_list_close(bif_shard_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        bif_shard_close(list->shard[i]);
    }
    free(list->shard);
    *list = (bif_shard_list){0};
}

bif_status bif_shard_list_sample(const bif_shard_list *list, int64_t index, bif_shard **shard, int64_t *local,
                                 bif_shard_sample *sample)
{
    int64_t at = index;
    for (size_t i = 0; i < list->count && at >= 0; i++) {
        if (at < bif_shard_samples(list->shard[i])) {
            *shard = list->shard[i];
            *local = at;
            return bif_shard_get_sample(list->shard[i], at, sample);
        }
        at -= bif_shard_samples(list->shard[i]);
    }
    return bif_fail(BIF_ERR_USAGE, "sample %lld: there are %lld, counted from 0", (long long)index,
                    (long long)list->samples);
}
