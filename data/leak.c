#include <stdlib.h>
#include <string.h>

#include "data/dedup_internal.h"
#include "data/near_rows.h"

/* Samples of the others by class of their images, or of their captions. */
typedef struct {
    int64_t *first; /* [classes + 1] */
    uint32_t *sample;
} holders;

typedef struct {
    uint32_t other;
    bool image, caption;
    float image_value, caption_value;
} match;

typedef struct {
    match *match;
    int64_t count, room;
} matches;

static void count_holder(const bif_relation *relation, int64_t item, int64_t *first)
{
    if (relation->item[item] != BIF_NO_CLASS) {
        first[relation->item[item] + 2]++;
    }
}

static void put_holder(const bif_relation *relation, int64_t item, uint32_t sample, holders *h)
{
    if (relation->item[item] != BIF_NO_CLASS) {
        h->sample[h->first[relation->item[item] + 1]++] = sample;
    }
}

/* Goes through the others twice: counts, then writes. `of_images`: else of captions; the others' items begin at first_item. */
static bif_status make_holders(const bif_relation *relation, const bif_pool *others, int64_t first_item, bool of_images, holders *out)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    out->first = bif_calloc((size_t)relation->classes + 2, sizeof *out->first);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t k = 0; k < others->shards; k++) {
            BIF_TRY(bif_pool_shard(others, k, &shard));
            for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
                const int64_t s = others->first_sample[k] + i;
                bif_shard_sample sample = {0};
                BIF_TRY(bif_shard_get_sample(shard, i, &sample));
                for (int64_t n = 0; n < (of_images ? sample.image_count : 1); n++) {
                    const int64_t item = first_item + (of_images ? others->first_image[k] + (int64_t)sample.images[n] : s);
                    if (pass == 0) {
                        count_holder(relation, item, out->first);
                    } else {
                        put_holder(relation, item, (uint32_t)s, out);
                    }
                }
            }
            bif_shard_close(shard);
            shard = NULL;
        }
        for (int64_t c = 0; pass == 0 && c < relation->classes; c++) {
            out->first[c + 2] += out->first[c + 1];
        }
        if (pass == 0) {
            out->sample = bif_malloc((size_t)out->first[relation->classes + 1] * sizeof *out->sample + 4);
        }
    }
done:
    bif_shard_close(shard);
    return st;
}

static void add_match(matches *all, uint32_t other, bool image, float value)
{
    if (all->count == all->room) {
        all->room = all->room ? all->room * 2 : 64;
        all->match = bif_realloc(all->match, (size_t)all->room, sizeof *all->match);
    }
    all->match[all->count++] =
        (match){.other = other, .image = image, .caption = !image, .image_value = image ? value : 0, .caption_value = image ? 0 : value};
}

static void add_class(matches *all, const bif_neighbours *n, const holders *h, uint32_t class, bool image)
{
    const float same = n->relation->similarity ? 1.0f : 0.0f;
    for (int64_t i = h->first[class]; i < h->first[class + 1]; i++) {
        add_match(all, h->sample[i], image, same);
    }
    for (int64_t k = n->first[class]; k < n->first[class + 1]; k++) {
        for (int64_t i = h->first[n->other[k]]; i < h->first[n->other[k] + 1]; i++) {
            add_match(all, h->sample[i], image, n->value[k]);
        }
    }
}

static int compare_matches(const void *a, const void *b)
{
    const match *x = a, *y = b;
    return (x->other > y->other) - (x->other < y->other);
}

/* One entry for each other sample, with the closest of its images. */
static void merge(matches *all, const bif_neighbours *images)
{
    int64_t kept = 0;
    if (all->count == 0) {
        return;
    }
    qsort(all->match, (size_t)all->count, sizeof *all->match, compare_matches);
    for (int64_t i = 0; i < all->count; i++) {
        const match *now = &all->match[i];
        match *last = &all->match[kept > 0 ? kept - 1 : 0];
        if (kept == 0 || last->other != now->other) {
            all->match[kept++] = *now;
            continue;
        }
        if (now->image && (!last->image || bif_closer(images, now->image_value, last->image_value))) {
            last->image_value = now->image_value;
        }
        if (now->caption) {
            last->caption_value = now->caption_value;
        }
        last->image |= now->image;
        last->caption |= now->caption;
    }
    all->count = kept;
}

typedef struct {
    const bif_leak_options *options;
    bif_neighbours images, captions;
    holders with_image, with_caption;
    matches matches;
    bif_drop *drops;
    int64_t count, room;
} job;

/* The closest by image counts, else that by caption; of equals the first. */
static void look(job *j, const bif_pool_part *part, int64_t shard_number, const bif_shard_sample *sample, int64_t number)
{
    const bif_match how = j->options->match;
    matches *all = &j->matches;
    all->count = 0;
    for (int64_t k = 0; j->images.relation != NULL && k < sample->image_count; k++) {
        const uint32_t class = bif_class_of(&j->images, part->pool->first_image[shard_number] + (int64_t)sample->images[k]);
        if (class != BIF_NO_CLASS) {
            add_class(all, &j->images, &j->with_image, class, true);
        }
    }
    const uint32_t caption = bif_class_of(&j->captions, number);
    if (caption != BIF_NO_CLASS) {
        add_class(all, &j->captions, &j->with_caption, caption, false);
    }
    merge(all, &j->images);
    const match *best = NULL;
    for (int64_t i = 0; i < all->count; i++) {
        const match *now = &all->match[i];
        if (how == BIF_MATCH_BOTH && !(now->image && now->caption)) {
            continue;
        }
        if (j->options->list != NULL) {
            j->options->list(j->options->context, number, now->other, now->image, now->caption,
                             now->image ? now->image_value : now->caption_value);
        }
        if (best == NULL || (now->image && !best->image) || (now->image && bif_closer(&j->images, now->image_value, best->image_value)) ||
            (!now->image && !best->image && bif_closer(&j->captions, now->caption_value, best->caption_value))) {
            best = now;
        }
    }
    if (best != NULL) {
        if (j->count == j->room) {
            j->room = j->room ? j->room * 2 : 1024;
            j->drops = bif_realloc(j->drops, (size_t)j->room, sizeof *j->drops);
        }
        j->drops[j->count++] = (bif_drop){.sample = (uint64_t)number,
                                          .other = BIF_NO_SAMPLE,
                                          .value = best->image ? best->image_value : best->caption_value,
                                          .reason = (uint16_t)(how == BIF_MATCH_EITHER && !best->image)};
    }
}

bif_status bif_leak(const bif_pool *pool, bif_selection *selection, const bif_pool *others, const bif_leak_options *options,
                    const bif_relation *images, const bif_relation *captions, json_t *parameters)
{
    static const char *const reasons[][2] = {[BIF_MATCH_BOTH] = {"image and caption in the other set"},
                                             [BIF_MATCH_IMAGE] = {"image in the other set"},
                                             [BIF_MATCH_CAPTION] = {"caption in the other set"},
                                             [BIF_MATCH_EITHER] = {"image in the other set", "caption in the other set"}};
    const bif_pool_part part = {pool, selection};
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    job j = {.options = options};
    json_t *against = json_array();
    bif_neighbours_make(images, &j.images);
    bif_neighbours_make(captions, &j.captions);
    if (images != NULL) {
        BIF_TRY(make_holders(images, others, pool->images, true, &j.with_image));
    }
    if (captions != NULL) {
        BIF_TRY(make_holders(captions, others, pool->samples, false, &j.with_caption));
    }
    for (int64_t k = 0; k < pool->shards; k++) {
        BIF_TRY(bif_pool_shard(pool, k, &shard));
        for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
            const int64_t s = pool->first_sample[k] + i;
            bif_shard_sample sample = {0};
            if (bif_part_keeps(&part, s)) {
                BIF_TRY(bif_shard_get_sample(shard, i, &sample));
                look(&j, &part, k, &sample, s);
            }
        }
        bif_shard_close(shard);
        shard = NULL;
    }
    for (int64_t k = 0; k < others->shards; k++) {
        json_array_append_new(against, json_string(others->digest[k]));
    }
    json_object_set(parameters, "against", against);
    bif_selection_add(selection, "leak", parameters, reasons[options->match], options->match == BIF_MATCH_EITHER ? 2 : 1, j.drops, j.count);
done:
    json_decref(against);
    bif_shard_close(shard);
    bif_neighbours_free(&j.images);
    bif_neighbours_free(&j.captions);
    free(j.with_image.first);
    free(j.with_image.sample);
    free(j.with_caption.first);
    free(j.with_caption.sample);
    free(j.matches.match);
    free(j.drops);
    return st;
}
