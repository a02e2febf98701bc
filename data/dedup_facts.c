#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "data/dedup_internal.h"
#include "data/near_rows.h"
#include "data/text_measures.h"

typedef struct {
    uint64_t key[2]; /* greater comes first; of keep first: place in the ids, length */
    uint64_t uid[2]; /* smaller comes first */
    uint32_t sample;
} place;

typedef struct {
    place *places;
    int64_t count;
    char *ids;
    size_t id_bytes;
} ranking;

static int compare_keys(const void *a, const void *b)
{
    const place *x = a, *y = b;
    for (int i = 0; i < 2; i++) {
        if (x->key[i] != y->key[i]) {
            return x->key[i] > y->key[i] ? -1 : 1;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (x->uid[i] != y->uid[i]) {
            return x->uid[i] < y->uid[i] ? -1 : 1;
        }
    }
    return (x->sample > y->sample) - (x->sample < y->sample);
}

static int compare_ids(const void *a, const void *b, void *context)
{
    place x = *(const place *)a, y = *(const place *)b;
    const char *ids = context;
    const uint64_t shorter = x.key[1] < y.key[1] ? x.key[1] : y.key[1];
    if ((x.key[1] == 0) != (y.key[1] == 0)) {
        return x.key[1] == 0 ? 1 : -1;
    }
    const int order = memcmp(ids + x.key[0], ids + y.key[0], shorter);
    if (order != 0 || x.key[1] != y.key[1]) {
        return order != 0 ? order : x.key[1] < y.key[1] ? -1 : 1;
    }
    memset(x.key, 0, sizeof x.key);
    memset(y.key, 0, sizeof y.key);
    return compare_keys(&x, &y);
}

/* Samples that take part, their images, and the bytes of their ids. */
static bif_status count_shard(const bif_pool *pool, const bif_selection *selection, int64_t number, int64_t *samples, int64_t *images,
                              int64_t *id_bytes)
{
    const bif_pool_part part = {pool, selection};
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    BIF_TRY(bif_pool_shard(pool, number, &shard));
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        bif_shard_sample sample = {0};
        if (bif_part_keeps(&part, pool->first_sample[number] + i)) {
            BIF_TRY(bif_shard_get_sample(shard, i, &sample));
            (*samples)++;
            *images += sample.image_count;
            *id_bytes += (int64_t)sample.id_size;
        }
    }
done:
    bif_shard_close(shard);
    return st;
}

static uint64_t caption_bytes(const bif_shard_sample *sample)
{
    char *text = NULL;
    size_t size = 0;
    bif_sample_caption(sample, &text, &size);
    const uint64_t bytes = text != NULL ? size : 0;
    free(text);
    return bytes;
}

/* The order of numbers that are not negative, as whole numbers: + 1, so that 0 is left for none. */
static uint64_t rank_of(float distance)
{
    uint32_t bits = 0;
    const float value = distance > 0 ? distance : 0;
    memcpy(&bits, &value, sizeof bits);
    return (uint64_t)bits + 1;
}

static bif_status read_shard(const bif_pool *pool, const bif_selection *selection, int64_t number, const bif_dedup_options *options,
                             json_t *columns, bif_facts *facts, ranking *r)
{
    const bif_pool_part part = {pool, selection};
    const bif_keep keep = options->keep;
    const bool by_cluster = keep == BIF_KEEP_HARD || keep == BIF_KEEP_EASY;
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    char *name = NULL;
    BIF_TRY(bif_pool_shard(pool, number, &shard));
    if (keep == BIF_KEEP_QUALITY && bif_shard_images(shard) > 0) {
        BIF_TRY(bif_near_column(shard, "pdq_quality", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U8, 1, columns, &column));
    }
    if (by_cluster && bif_shard_images(shard) > 0) {
        name = bif_format("%s.cluster_distance", options->name);
        BIF_TRY(bif_column_need(shard, name, BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F32, 1, "run bifocal data cluster", &column));
        json_object_set_new(columns, name, json_string(bif_column_describe(column)->method));
    }
    const uint8_t *quality = column && !by_cluster ? bif_column_data(column) : NULL;
    const float *distance = column && by_cluster ? bif_column_data(column) : NULL;
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        const int64_t s = pool->first_sample[number] + i;
        int64_t end = facts->first[s];
        bif_shard_sample sample = {0};
        facts->first[s + 1] = end;
        if (!bif_part_keeps(&part, s)) {
            continue;
        }
        BIF_TRY(bif_shard_get_sample(shard, i, &sample));
        place *p = &r->places[r->count++];
        *p = (place){.sample = (uint32_t)s};
        float far = -1;
        uint64_t pixels = 0, bytes = 0, worst = sample.image_count > 0 ? 255 : 0;
        for (int64_t k = 0; k < sample.image_count; k++) {
            bif_shard_image image = {0};
            BIF_TRY(bif_shard_get_image(shard, (int64_t)sample.images[k], &image));
            facts->image[end++] = (uint32_t)(pool->first_image[number] + (int64_t)sample.images[k]);
            pixels += (uint64_t)image.width * image.height;
            bytes += image.size;
            const uint8_t q = quality ? (uint8_t)(quality[sample.images[k]] + 1) : 0; /* 255, cannot be decoded, is the least */
            worst = q < worst ? q : worst;
            far = distance && distance[sample.images[k]] > far ? distance[sample.images[k]] : far; /* NaN, no embedding: not greater */
        }
        facts->first[s + 1] = end;
        BIF_TRY(bif_sample_uid(shard, i, p->uid));
        switch (keep) {
        case BIF_KEEP_LARGEST: p->key[0] = pixels; p->key[1] = bytes; break;
        case BIF_KEEP_QUALITY: p->key[0] = worst; p->key[1] = pixels > 0 ? (uint64_t)((unsigned __int128)bytes * 65536 / pixels) : 0; break;
        case BIF_KEEP_LONGEST: p->key[0] = caption_bytes(&sample); p->key[1] = pixels; break;
        case BIF_KEEP_HARD:
        case BIF_KEEP_EASY:
            p->key[0] = far < 0 ? 0 : keep == BIF_KEEP_HARD ? rank_of(far) : UINT64_MAX - rank_of(far);
            p->key[1] = pixels;
            break;
        case BIF_KEEP_FIRST:
            p->key[0] = r->id_bytes;
            p->key[1] = sample.id_size;
            memcpy(r->ids + r->id_bytes, sample.id, sample.id_size);
            r->id_bytes += sample.id_size;
            break;
        }
    }
done:
    free(name);
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

bif_status bif_facts_read(const bif_pool *pool, const bif_selection *selection, const bif_dedup_options *options, int64_t memory,
                          int64_t held, json_t *columns, bif_facts *out)
{
    bif_status st = BIF_OK;
    const bif_keep keep = options->keep;
    bif_facts facts = {0};
    ranking r = {0};
    int64_t samples = 0, images = 0, id_bytes = 0;
    for (int64_t k = 0; k < pool->shards; k++) {
        BIF_TRY(count_shard(pool, selection, k, &samples, &images, &id_bytes));
    }
    /* Per sample: two places (one is qsort's), its number, and what dedup.c keeps of it. */
    const int64_t need =
        held + pool->samples * 8 + samples * (2 * (int64_t)sizeof(place) + 4 + 96) + images * 12 + (keep == BIF_KEEP_FIRST ? id_bytes : 0);
    if (need > memory) {
        BIF_TRY(bif_fail(BIF_ERR_MEMORY,
                         "deciding about %" PRId64 " samples needs %" PRId64 " MiB on rank 0, allowed are %" PRId64
                         ": give a higher --memory-mib",
                         samples, (need >> 20) + 1, memory >> 20));
    }
    facts.first = bif_calloc((size_t)pool->samples + 1, sizeof *facts.first);
    facts.image = bif_malloc((size_t)images * sizeof *facts.image + 4);
    r.places = bif_malloc((size_t)samples * sizeof *r.places + 1);
    r.ids = bif_malloc(keep == BIF_KEEP_FIRST ? (size_t)id_bytes + 1 : 1);
    for (int64_t k = 0; k < pool->shards; k++) {
        BIF_TRY(read_shard(pool, selection, k, options, columns, &facts, &r));
    }
    if (keep == BIF_KEEP_FIRST) {
        qsort_r(r.places, (size_t)r.count, sizeof *r.places, compare_ids, r.ids);
    } else {
        qsort(r.places, (size_t)r.count, sizeof *r.places, compare_keys);
    }
    facts.count = r.count;
    facts.sample = bif_malloc((size_t)r.count * sizeof *facts.sample + 4);
    for (int64_t i = 0; i < r.count; i++) {
        facts.sample[i] = r.places[i].sample;
    }
done:
    free(r.places);
    free(r.ids);
    if (st != BIF_OK) {
        bif_facts_free(&facts);
    }
    *out = facts;
    return st;
}

void bif_facts_free(bif_facts *facts)
{
    free(facts->sample);
    free(facts->first);
    free(facts->image);
    *facts = (bif_facts){0};
}
