#include "data/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "data/loader_parts.h"

/* ---- shards ---- */

static bif_status add_shard(void *context, const char *path)
{
    bif_loader *loader = context;
    bif_shard *shard = NULL;
    bif_status st = bif_shard_open(path, &shard);
    if (st != BIF_OK) {
        return st;
    }
    size_t n = (size_t)loader->shards;
    loader->shard = bif_realloc(loader->shard, n + 1, sizeof(bif_shard *));
    loader->first_sample = bif_realloc(loader->first_sample, n + 2, sizeof(int64_t));
    loader->first_image = bif_realloc(loader->first_image, n + 2, sizeof(int64_t));
    loader->shard[n] = shard;
    loader->first_sample[n] = loader->samples;
    loader->first_image[n] = loader->images;
    loader->samples += bif_shard_samples(shard);
    loader->images += bif_shard_images(shard);
    loader->first_sample[n + 1] = loader->samples;
    loader->first_image[n + 1] = loader->images;
    loader->shards++;
    return BIF_OK;
}

static bif_status open_shards(bif_loader *loader, const bif_loader_options *o)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < o->shard_count; i++) {
        BIF_TRY(bif_shard_each(o->shards[i], add_shard, loader));
    }
    if (loader->samples == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: no samples in %" PRId64 " shards", o->shards[0], loader->shards);
        goto done;
    }
    bif_digest *digest = bif_digest_new();
    for (int64_t s = 0; s < loader->shards; s++) {
        bif_digest_update(digest, bif_shard_payload_digest(loader->shard[s]), 32);
    }
    bif_digest_finish(digest, loader->digest);
done:
    return st;
}

/* ---- options ---- */

static bif_status in_range(const char *name, int64_t value, int64_t low, int64_t high)
{
    return value >= low && value <= high
               ? BIF_OK
               : bif_fail(BIF_ERR_CONFIG, "loader: %s is %" PRId64 ", it must be %" PRId64 " to %" PRId64, name, value,
                          low, high);
}

/* What the orders and deals of other trainers need. */
static bif_status check_order(const bif_loader_options *o)
{
    bif_status st = BIF_OK;
    const bool pairs = o->mode == BIF_LOADER_CAPTION, grouped = o->sampler == BIF_SAMPLER_MODALITY_LENGTH && o->order_file == NULL;
    const bool ordered = o->deal == BIF_DEAL_ORDER;
    if (pairs && (grouped || ordered || o->last == BIF_LAST_SHORT)) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "loader: pairs are neither grouped by length, nor dealt in order, nor may their last step be short"));
    }
    if (grouped && (!o->shuffle || o->last == BIF_LAST_ENDLESS)) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "loader: samples grouped by modality and length are shuffled, and their epochs begin with a step"));
    }
    if ((grouped && o->micro_batch_samples > 0) || ordered) {
        if (o->micro_batch_samples < 1 || o->samples_per_step % o->micro_batch_samples != 0) {
            BIF_TRY(bif_fail(BIF_ERR_CONFIG, "loader: a step of %" PRId64 " samples is not made of whole micro-batches of %" PRId64,
                             o->samples_per_step, o->micro_batch_samples));
        }
    }
    if (o->end_sample > 0 && o->last != BIF_LAST_ENDLESS) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "loader: an end of the samples goes with the endless order only"));
    }
done:
    return st;
}

static bif_status check_options(const bif_loader_options *o)
{
    bif_status st = BIF_OK;
    const bool pairs = o->mode == BIF_LOADER_CAPTION;
    const int64_t most = (int64_t)1 << 30;
    BIF_TRY(in_range("the number of shards", (int64_t)o->shard_count, 1, most));
    BIF_TRY(in_range("samples per step", o->samples_per_step, 1, (int64_t)1 << 24));
    BIF_TRY(in_range("samples per micro-batch", o->micro_batch_samples, 0, most));
    BIF_TRY(in_range("the longest sample", o->chat.max_tokens, 2, (int64_t)1 << 24));
    BIF_TRY(in_range("pictures per micro-batch", o->max_images, 0, most));
    BIF_TRY(in_range("ranks", o->world, 1, 1 << 20));
    BIF_TRY(in_range("the rank", o->rank, 0, o->world - 1));
    BIF_TRY(in_range("threads", o->threads, 1, 1024));
    BIF_TRY(in_range("steps prepared ahead", o->prefetch, 1, 1024));
    BIF_TRY(in_range("the first step", o->start_step, 0, INT64_MAX / o->samples_per_step - 2048));
    if (o->mode != BIF_LOADER_TEXT) {
        BIF_TRY(in_range("the picture size", o->preprocess.size, 1, 16384));
    }
    BIF_TRY(in_range("the end of the samples", o->end_sample, 0, INT64_MAX));
    BIF_TRY(in_range("bytes of the picture cache", o->cache_bytes, 0, INT64_MAX));
    if (o->caption_column != NULL && !(o->caption_mix > 0.0 && o->caption_mix <= 1.0)) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "loader: the share of visits that take the caption column is %g, it must be above 0 and at most 1", o->caption_mix));
    }
    BIF_TRY(check_order(o));
    if (!pairs) {
        BIF_TRY(in_range("the token budget of a micro-batch (at least the longest sample)", o->max_tokens,
                         o->chat.max_tokens, most));
    }
    if (pairs) {
        const int64_t together = o->micro_batch_samples > 0 ? o->micro_batch_samples : o->samples_per_step / o->world;
        BIF_TRY(in_range("pairs per micro-batch times the longest caption", together * o->chat.max_tokens, 1, most));
    }
    if (!pairs && bif_augments(&o->augment)) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "loader: random views of pictures are made for contrastive pairs only"));
    }
    if (pairs && (o->samples_per_step % o->world != 0 || o->end_sample % o->samples_per_step != 0)) {
        st = bif_fail(BIF_ERR_CONFIG,
                      "loader: %" PRId64 " pairs a step cannot be split evenly over %d ranks (or the end %" PRId64
                      " is no whole step); choose multiples",
                      o->samples_per_step, o->world, o->end_sample);
    }
done:
    return st;
}

/* What a micro-batch may hold. No more pictures than the budget has room for, or than so many samples can have. */
static bif_status set_limits(bif_loader *loader)
{
    const bif_loader_options *o = &loader->options;
    bif_batch_limits *l = &loader->limits;
    const bool pairs = o->mode == BIF_LOADER_CAPTION;
    loader->pairs = pairs ? o->samples_per_step / o->world : o->samples_per_step;
    l->image_size = o->preprocess.size;
    l->sequences =
        o->micro_batch_samples > 0 && o->micro_batch_samples < loader->pairs ? o->micro_batch_samples : loader->pairs;
    if (pairs) {
        l->tokens = l->sequences * o->chat.max_tokens;
        l->images = l->sequences;
        return BIF_OK;
    }
    l->tokens = o->max_tokens;
    l->sequences = l->sequences < l->tokens ? l->sequences : l->tokens;
    if (o->mode == BIF_LOADER_TEXT) {
        return BIF_OK;
    }
    int64_t most = 0;
    for (int64_t i = 0; i < loader->samples; i++) {
        const bif_shard *shard = NULL;
        int64_t first_image = 0;
        bif_shard_sample sample;
        bif_status st = bif_loader_sample(loader, (uint64_t)i, &shard, &first_image, &sample);
        if (st != BIF_OK) {
            return st;
        }
        most = sample.image_count > most ? sample.image_count : most;
    }
    if (most == 0) {
        return BIF_OK;
    }
    if (o->chat.image_tokens < 1) {
        return bif_fail(BIF_ERR_CONFIG, "loader: the samples have pictures, but a picture takes %" PRId64 " tokens",
                        o->chat.image_tokens);
    }
    l->tokens_per_image = o->chat.image_tokens;
    l->images = (l->tokens - 1) / l->tokens_per_image + 1; /* truncation may cut a picture's rows */
    l->images = o->max_images > 0 && o->max_images < l->images ? o->max_images : l->images;
    int64_t together = 0;
    if (bif_mul_i64(most, l->sequences, &together) && together < l->images) {
        l->images = together;
    }
    return BIF_OK;
}

static void set_tables(bif_loader *loader)
{
    const bif_loader_options *o = &loader->options;
    const bool pictures = o->cache_pixels && o->mode != BIF_LOADER_TEXT;
    loader->length = bif_calloc((size_t)loader->samples * (loader->caption != NULL ? 2 : 1), sizeof *loader->length);
    loader->warned = bif_calloc((size_t)loader->samples, sizeof *loader->warned);
    loader->pixels = pictures ? bif_calloc((size_t)loader->images, sizeof *loader->pixels) : NULL;
    loader->slots = o->prefetch + 1; /* one is in the trainer's hands */
    loader->slot = bif_calloc((size_t)loader->slots, sizeof *loader->slot);
    loader->worker = bif_calloc((size_t)o->threads, sizeof *loader->worker);
    for (int64_t s = 0; s < loader->slots; s++) {
        bif_loader_slot *slot = &loader->slot[s];
        slot->item = bif_calloc((size_t)loader->pairs, sizeof *slot->item);
        slot->own = bif_calloc((size_t)loader->pairs, sizeof *slot->own);
        slot->deal = bif_calloc((size_t)loader->pairs, sizeof *slot->deal);
        slot->place = bif_calloc((size_t)loader->pairs, sizeof *slot->place);
    }
    loader->open_step = loader->next_step = o->start_step;
}

bif_status bif_loader_open(const bif_loader_options *options, bif_loader **out)
{
    bif_status st = BIF_OK;
    *out = NULL;
    bif_loader *loader = bif_calloc(1, sizeof *loader);
    loader->options = *options;
    pthread_mutex_init(&loader->mutex, NULL);
    pthread_mutex_init(&loader->order_mutex, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->ready, NULL);
    BIF_TRY(check_options(options));
    BIF_TRY(open_shards(loader, options));
    if (options->selection != NULL) {
        BIF_TRY(bif_loader_select(loader));
    }
    if (options->caption_column != NULL) {
        BIF_TRY(bif_loader_captions_open(loader));
    }
    BIF_TRY(bif_loader_order_open(loader));
    loader->options.order_file = NULL;
    loader->options.selection = NULL;
    loader->options.caption_column = NULL;
    loader->options.shards = NULL;
    loader->options.shard_count = 0;
    if (options->end_sample > 0) { /* whole steps up to there, the last one perhaps shorter */
        int64_t end = (options->end_sample - 1) / options->samples_per_step + 1;
        loader->options.end_step = options->end_step < 0 || end < options->end_step ? end : options->end_step;
    }
    BIF_TRY(set_limits(loader));
    set_tables(loader);
    BIF_TRY(bif_loader_start(loader));
    *out = loader;
    loader = NULL;
done:
    bif_loader_close(loader);
    return st;
}

void bif_loader_close(bif_loader *loader)
{
    if (loader == NULL) {
        return;
    }
    bif_loader_stop(loader);
    for (int64_t i = 0; loader->pixels != NULL && i < loader->images; i++) {
        free(atomic_load_explicit(&loader->pixels[i], memory_order_relaxed));
    }
    bif_loader_captions_close(loader);
    for (int64_t s = 0; s < loader->shards; s++) {
        bif_shard_close(loader->shard[s]);
    }
    bif_loader_order_close(loader);
    pthread_mutex_destroy(&loader->order_mutex);
    pthread_mutex_destroy(&loader->mutex);
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->ready);
    free(loader->shard);
    free(loader->first_sample);
    free(loader->first_image);
    free(loader->kept);
    free(loader->length);
    free(loader->warned);
    free(loader->pixels);
    free(loader->slot);
    free(loader->worker);
    free(loader);
}

/* ---- giving out ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

bif_status bif_loader_next(bif_loader *loader, const bif_step **step)
{
    bif_status st = BIF_OK;
    *step = NULL;
    pthread_mutex_lock(&loader->mutex);
    if (loader->options.end_step >= 0 && loader->next_step >= loader->options.end_step) {
        goto done;
    }
    bif_loader_slot *slot = &loader->slot[loader->next_step % loader->slots];
    bif_loader_slot *before = &loader->slot[(loader->next_step + loader->slots - 1) % loader->slots];
    BIF_BUG_IF(before->stage == BIF_SLOT_HELD, "bif_loader_next before bif_loader_done of step %" PRId64, before->step);
    if (slot->stage != BIF_SLOT_READY) {
        double from = seconds();
        while (slot->stage != BIF_SLOT_READY) {
            pthread_cond_wait(&loader->ready, &loader->mutex);
        }
        loader->waited += seconds() - from;
    }
    if (slot->status != BIF_OK) { /* the slot stays as it is, and so does the answer */
        st = bif_fail(slot->status, "step %" PRId64 ": %s", slot->step, slot->message);
        goto done;
    }
    slot->stage = BIF_SLOT_HELD;
    loader->next_step++;
    loader->skipped += slot->view.skipped;
    *step = &slot->view;
done:
    pthread_mutex_unlock(&loader->mutex);
    return st;
}

void bif_loader_done(bif_loader *loader, const bif_step *step)
{
    pthread_mutex_lock(&loader->mutex);
    bif_loader_slot *slot = &loader->slot[step->step % loader->slots];
    BIF_BUG_IF(step != &slot->view || slot->stage != BIF_SLOT_HELD, "bif_loader_done of a step that is not held");
    slot->stage = BIF_SLOT_FREE;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->mutex);
}

int64_t bif_loader_samples(const bif_loader *loader)
{
    return loader->samples;
}

const char *bif_loader_digest(const bif_loader *loader)
{
    return loader->digest;
}

bif_batch_limits bif_loader_limits(const bif_loader *loader)
{
    return loader->limits;
}

double bif_loader_wait_seconds(const bif_loader *loader)
{
    return loader->waited;
}

int64_t bif_loader_skipped(const bif_loader *loader)
{
    return loader->skipped;
}
