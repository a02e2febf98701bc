/* A selection over the loader's shards: the loader's sample k is the k-th that is kept, in the order of the shards as they were given. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/loader_parts.h"
#include "data/selection.h"

/* The shard of the selection with this digest, or -1. Its shards stand by digest. */
static int64_t find_shard(const bif_selection *selection, const char *digest)
{
    int64_t low = 0, high = bif_selection_shards(selection);
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const char *other = NULL;
        int64_t samples = 0;
        (void)bif_selection_shard(selection, middle, &other, &samples);
        const int order = strcmp(other, digest);
        if (order == 0) {
            return middle;
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return -1;
}

/* first [shards]: where each of the loader's shards begins among the selection's samples. */
static bif_status match(const bif_loader *loader, const bif_selection *selection, int64_t *first)
{
    bif_status st = BIF_OK;
    const char *path = loader->options.selection;
    const int64_t shards = bif_selection_shards(selection);
    int64_t *start = bif_calloc((size_t)shards + 1, sizeof *start);
    bool *used = bif_calloc((size_t)shards + 1, sizeof *used);
    for (int64_t i = 0; i < shards; i++) {
        const char *digest = NULL;
        int64_t samples = 0;
        (void)bif_selection_shard(selection, i, &digest, &samples);
        start[i + 1] = start[i] + samples;
    }
    for (int64_t s = 0; s < loader->shards; s++) {
        const bif_shard *shard = loader->shard[s];
        const int64_t i = find_shard(selection, bif_shard_payload_digest(shard));
        if (i < 0 || start[i + 1] - start[i] != bif_shard_samples(shard)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the selection was made without the shard '%s' (digest %s); make it anew of these shards", path,
                             bif_shard_path(shard), bif_shard_payload_digest(shard)));
        }
        if (used[i]) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the shard '%s' is given twice, so the selection does not say which of its samples are kept", path,
                             bif_shard_path(shard)));
        }
        used[i] = true;
        first[s] = start[i];
    }
    for (int64_t i = 0; i < shards; i++) {
        const char *digest = NULL, *name;
        int64_t samples = 0;
        name = bif_selection_shard(selection, i, &digest, &samples);
        if (!used[i]) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the selection was made of the shard '%s' (digest %s) too, which is not given", path, name, digest));
        }
    }
done:
    free(start);
    free(used);
    return st;
}

bif_status bif_loader_select(bif_loader *loader)
{
    bif_status st = BIF_OK;
    bif_selection *selection = NULL;
    int64_t *first = NULL;
    char hex[33];
    const char *path = loader->options.selection;
    BIF_TRY(bif_selection_read(path, &selection));
    first = bif_calloc((size_t)loader->shards, sizeof *first);
    BIF_TRY(match(loader, selection, first));
    if (loader->samples > UINT32_MAX) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %" PRId64 " samples are too many for a selection, which holds 4294967295", path, loader->samples));
    }
    const int64_t kept = bif_selection_kept(selection);
    const uint16_t *times = bif_selection_times(selection);
    if (kept == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the selection keeps none of %" PRId64 " samples", path, loader->samples));
    }
    loader->kept = bif_malloc((size_t)kept * sizeof *loader->kept);
    int64_t count = 0, repeated = 0;
    for (int64_t s = 0; s < loader->shards; s++) {
        for (int64_t i = 0; i < bif_shard_samples(loader->shard[s]); i++) {
            repeated += times[first[s] + i] > 1;
            for (int k = 0; k < times[first[s] + i]; k++) {
                loader->kept[count++] = (uint32_t)(loader->first_sample[s] + i);
            }
        }
    }
    BIF_BUG_IF(count != kept, "a selection keeps %" PRId64 " samples and says %" PRId64, count, kept);
    loader->samples = kept;
    if (repeated > 0 && loader->options.mode == BIF_LOADER_CAPTION && loader->options.rank == 0) {
        bif_warn("%s: %" PRId64 " pairs are kept more than once; in a batch that holds one twice, each is a false negative of the other", path, repeated);
    }
    bif_selection_digest(selection, hex);
    bif_digest *digest = bif_digest_new();
    bif_digest_update(digest, loader->digest, 32);
    bif_digest_update(digest, hex, 32);
    bif_digest_finish(digest, loader->digest);
done:
    free(first);
    bif_selection_free(selection);
    return st;
}

bif_status bif_loader_check_selection(const char *const *shards, size_t count, const char *path)
{
    bif_status st = BIF_OK;
    bif_selection *selection = NULL;
    bif_pool pool = {0};
    if (path == NULL) {
        return BIF_OK;
    }
    BIF_TRY(bif_selection_read(path, &selection));
    BIF_TRY(bif_pool_open(shards, count, &pool));
    BIF_TRY(bif_pool_whole(&pool));
    BIF_TRY(bif_selection_check(selection, path, &pool));
done:
    bif_pool_close(&pool);
    bif_selection_free(selection);
    return st;
}
