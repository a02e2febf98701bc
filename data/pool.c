#include "data/pool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

#define MOST (((int64_t)1 << 32) - 2) /* so that numbers fit 32 bits and leave one value for none */

typedef struct {
    char *path;
    char digest[33];
    int64_t samples, images;
} entry;

typedef struct {
    entry *entry;
    size_t count;
    int64_t bad;
} entries;

static bif_status add(void *context, const char *path)
{
    entries *list = context;
    bif_shard *shard = NULL;
    bif_status st = bif_shard_open(path, &shard);
    if (st == BIF_ERR_DATA) {
        bif_warn_once("%s; it is left out", bif_error_message());
        bif_error_clear();
        list->bad++;
        return BIF_OK;
    }
    if (st != BIF_OK) {
        return st;
    }
    list->entry = bif_realloc(list->entry, list->count + 1, sizeof *list->entry);
    entry *e = &list->entry[list->count++];
    *e = (entry){.path = bif_strdup(path), .samples = bif_shard_samples(shard), .images = bif_shard_images(shard)};
    memcpy(e->digest, bif_shard_payload_digest(shard), sizeof e->digest);
    bif_shard_close(shard);
    return BIF_OK;
}

static int by_digest(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->digest, ((const entry *)b)->digest);
}

bif_status bif_pool_open(const char *const *paths, size_t count, bif_pool *out)
{
    bif_status st = BIF_OK;
    entries list = {0};
    bif_pool pool = {0};
    *out = pool;
    for (size_t i = 0; i < count; i++) {
        BIF_TRY(bif_shard_each(paths[i], add, &list));
    }
    if (list.count == 0) {
        BIF_TRY(list.bad == 0 ? bif_fail(BIF_ERR_USAGE, "no shards are named")
                              : bif_fail(BIF_ERR_DATA, "none of the %" PRId64 " shards can be used", list.bad));
    }
    qsort(list.entry, list.count, sizeof *list.entry, by_digest);
    pool.path = bif_calloc(list.count, sizeof *pool.path);
    pool.digest = bif_calloc(list.count, sizeof *pool.digest);
    pool.first_sample = bif_calloc(list.count + 1, sizeof *pool.first_sample);
    pool.first_image = bif_calloc(list.count + 1, sizeof *pool.first_image);
    for (size_t i = 0; i < list.count; i++) {
        entry *e = &list.entry[i];
        if (i > 0 && strcmp(e->digest, e[-1].digest) == 0) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "'%s' and '%s' are the same shard; name it once", pool.path[i - 1], e->path));
        }
        pool.path[i] = e->path;
        e->path = NULL;
        memcpy(pool.digest[i], e->digest, sizeof e->digest);
        pool.shards++;
        pool.samples += e->samples;
        pool.images += e->images;
        pool.first_sample[i + 1] = pool.samples;
        pool.first_image[i + 1] = pool.images;
        if (pool.samples > MOST || pool.images > MOST) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "more than %" PRId64 " samples or images; curate the shards in parts", MOST));
        }
    }
    pool.bad = list.bad;
    *out = pool;
    pool = (bif_pool){0};
done:
    bif_pool_close(&pool);
    for (size_t i = 0; i < list.count; i++) {
        free(list.entry[i].path);
    }
    free(list.entry);
    return st;
}

bif_status bif_pool_verdict(const bif_pool *pool, bif_status st)
{
    return st != BIF_OK || pool->bad == 0 ? st
                                          : bif_fail(BIF_ERR_DATA, "done, but without %" PRId64 " of %" PRId64 " shards, which cannot be used (named above)",
                                                     pool->bad, pool->bad + pool->shards);
}

bif_status bif_pool_whole(const bif_pool *pool)
{
    return pool->bad == 0 ? BIF_OK
                          : bif_fail(BIF_ERR_DATA, "%" PRId64 " of %" PRId64 " shards cannot be used (named above); repair them or leave them out", pool->bad,
                                     pool->bad + pool->shards);
}

void bif_pool_close(bif_pool *pool)
{
    for (int64_t i = 0; i < pool->shards; i++) {
        free(pool->path[i]);
    }
    free(pool->path);
    free(pool->digest);
    free(pool->first_sample);
    free(pool->first_image);
    *pool = (bif_pool){0};
}

bif_status bif_pool_shard(const bif_pool *pool, int64_t shard, bif_shard **out)
{
    bif_status st = bif_shard_open(pool->path[shard], out);
    if (st == BIF_OK && strcmp(bif_shard_payload_digest(*out), pool->digest[shard]) != 0) {
        bif_shard_close(*out);
        *out = NULL;
        st = bif_fail(BIF_ERR_DATA, "shard '%s' was replaced by another while it was in use; start again", pool->path[shard]);
    }
    return st;
}

/* The last entry of first[0..count] that is not above `number`; first rises strictly for samples, and images of a shard may be none. */
static int64_t find(const int64_t *first, int64_t count, int64_t number)
{
    int64_t low = 0, high = count;
    BIF_BUG_IF(number < 0 || number >= first[count], "number %" PRId64 " of %" PRId64, number, first[count]);
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (first[middle] <= number) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

int64_t bif_pool_shard_of_sample(const bif_pool *pool, int64_t sample)
{
    return find(pool->first_sample, pool->shards, sample);
}

int64_t bif_pool_shard_of_image(const bif_pool *pool, int64_t image)
{
    return find(pool->first_image, pool->shards, image);
}

static uint64_t hex64(const char *hex)
{
    uint64_t value = 0;
    for (int i = 0; i < 16; i++) {
        const int c = hex[i];
        value = value << 4 | (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

bif_status bif_sample_uid(const bif_shard *shard, int64_t local, uint64_t uid[2])
{
    bif_shard_sample sample;
    bif_status st = bif_shard_get_sample(shard, local, &sample);
    char hex[33];
    if (st != BIF_OK) {
        return st;
    }
    size_t digits = 0;
    while (sample.id_size == 32 && digits < 32 && strchr("0123456789abcdefABCDEF", sample.id[digits]) != NULL && sample.id[digits] != '\0') {
        digits++;
    }
    if (digits == 32) {
        memcpy(hex, sample.id, 32);
    } else {
        bif_digest *digest = bif_digest_new();
        bif_digest_update(digest, sample.source, strlen(sample.source) + 1);
        bif_digest_update(digest, &(uint64_t){sample.id_size}, 8);
        bif_digest_update(digest, sample.id, sample.id_size);
        bif_digest_update(digest, &(uint64_t){sample.text_size}, 8);
        bif_digest_update(digest, sample.text, sample.text_size);
        for (int64_t i = 0; i < sample.image_count; i++) {
            bif_shard_image image;
            st = bif_shard_get_image(shard, (int64_t)sample.images[i], &image);
            if (st != BIF_OK) {
                bif_digest_finish(digest, hex);
                return st;
            }
            bif_digest_update(digest, image.id, sizeof image.id);
        }
        bif_digest_finish(digest, hex);
    }
    uid[0] = hex64(hex);
    uid[1] = hex64(hex + 16);
    return BIF_OK;
}
