/* Which samples a step holds. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/loader_parts.h"
#include "data/order.h"

/* ---- words ---- */

typedef struct {
    bif_loader *loader;
    int64_t from, to;
    pthread_t thread;
    bool started;
    bif_status status;
    char *message;
} counting;

/* LLaVA's length of a sample: the words of all its turns, as they stand in the record. What cannot be read is left out later. */
static int64_t words_of(const bif_shard_sample *sample)
{
    int64_t words = 0;
    json_t *json = NULL;
    if (bif_json_parse("sample", sample->text, sample->text_size, &json) != BIF_OK) {
        bif_error_clear();
        return 0;
    }
    const json_t *turns = json_object_get(json, "conversations"), *caption = json_object_get(json, "caption");
    for (size_t i = 0; i < json_array_size(turns); i++) {
        const json_t *value = json_object_get(json_array_get(turns, i), "value");
        words += json_is_string(value) ? bif_count_words(json_string_value(value), json_string_length(value)) : 0;
    }
    words += json_is_string(caption) ? bif_count_words(json_string_value(caption), json_string_length(caption)) : 0;
    json_decref(json);
    return words;
}

static void *count_main(void *argument)
{
    counting *part = argument;
    for (int64_t i = part->from; i < part->to; i++) {
        const bif_shard *shard = NULL;
        int64_t first_image = 0;
        bif_shard_sample sample;
        part->status = bif_loader_sample(part->loader, (uint64_t)i, &shard, &first_image, &sample);
        if (part->status != BIF_OK) {
            part->message = bif_strdup(bif_error_message());
            break;
        }
        int64_t words = words_of(&sample);
        words = words < 1 ? 1 : words > INT32_MAX ? INT32_MAX : words; /* LLaVA refuses 0 */
        part->loader->words[i] = (int32_t)(sample.image_count > 0 ? words : -words);
    }
    return NULL;
}

static bif_status count_words(bif_loader *loader)
{
    bif_status st = BIF_OK;
    const int threads = loader->options.threads;
    counting *parts = bif_calloc((size_t)threads, sizeof *parts);
    sigset_t all, before;
    sigfillset(&all); /* a signal to stop is for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    loader->words = bif_calloc((size_t)loader->samples, sizeof *loader->words);
    for (int i = 0; i < threads; i++) {
        counting *part = &parts[i];
        part->loader = loader;
        part->from = loader->samples / threads * i;
        part->to = i + 1 == threads ? loader->samples : loader->samples / threads * (i + 1);
        part->started = i + 1 < threads && pthread_create(&part->thread, NULL, count_main, part) == 0;
        if (!part->started) {
            count_main(part);
        }
    }
    for (int i = 0; i < threads; i++) {
        if (parts[i].started) {
            pthread_join(parts[i].thread, NULL);
        }
        if (parts[i].status != BIF_OK && st == BIF_OK) {
            st = bif_fail(parts[i].status, "%s", parts[i].message);
        }
        free(parts[i].message);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    free(parts);
    return st;
}

/* ---- opening ---- */

static bif_status import(bif_loader *loader)
{
    bif_status st = bif_order_read(loader->options.order_file, loader->samples, &loader->imported, &loader->epoch_samples);
    if (st != BIF_OK) {
        return bif_fail_context(st, "order of samples");
    }
    bif_digest *digest = bif_digest_new();
    bif_digest_update(digest, loader->digest, 32);
    bif_digest_update(digest, loader->imported, (size_t)loader->epoch_samples * sizeof *loader->imported);
    bif_digest_finish(digest, loader->digest);
    return BIF_OK;
}

bif_status bif_loader_order_open(bif_loader *loader)
{
    bif_status st = BIF_OK;
    const bif_loader_options *o = &loader->options;
    const int64_t step = o->samples_per_step;
    loader->epoch_samples = loader->samples;
    if ((o->order_file != NULL || o->sampler == BIF_SAMPLER_MODALITY_LENGTH) && loader->samples > UINT32_MAX) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "loader: %" PRId64 " samples are too many for this order, which holds 4294967295", loader->samples));
    }
    if (o->order_file != NULL) {
        BIF_TRY(import(loader));
    } else if (o->sampler == BIF_SAMPLER_MODALITY_LENGTH) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        BIF_TRY(count_words(loader));
        clock_gettime(CLOCK_MONOTONIC, &to);
        if (o->rank == 0) {
            bif_info("counted the words of %" PRId64 " samples in %.1f s", loader->samples,
                     (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec));
        }
    }
    if (o->last != BIF_LAST_ENDLESS) {
        loader->epoch_steps = loader->epoch_samples / step + (o->last != BIF_LAST_DROP && loader->epoch_samples % step != 0);
    }
    if (o->last == BIF_LAST_DROP && loader->epoch_steps == 0) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "loader: an epoch of %" PRId64 " samples has no whole step of %" PRId64 ", and incomplete ones are left out",
                         loader->epoch_samples, step));
    }
    if (loader->words != NULL) { /* steps in work follow one another; each epoch has epoch_steps of them */
        loader->epochs = (o->prefetch + 1 + loader->epoch_steps - 2) / loader->epoch_steps + 1;
        loader->epoch = bif_calloc((size_t)loader->epochs, sizeof *loader->epoch);
    }
done:
    return st;
}

void bif_loader_order_close(bif_loader *loader)
{
    for (int64_t i = 0; i < loader->epochs; i++) {
        free(loader->epoch[i].order);
    }
    free(loader->epoch);
    free(loader->words);
    free(loader->imported);
}

/* ---- places ---- */

int64_t bif_loader_steps(const bif_loader *loader, double epochs)
{
    const double step = (double)loader->options.samples_per_step;
    return (int64_t)ceil(loader->epoch_steps > 0 ? epochs * (double)loader->epoch_steps : epochs * (double)loader->epoch_samples / step);
}

double bif_loader_epochs(const bif_loader *loader, int64_t steps)
{
    const double step = (double)loader->options.samples_per_step;
    return loader->epoch_steps > 0 ? (double)steps / (double)loader->epoch_steps : (double)steps * step / (double)loader->epoch_samples;
}

int64_t bif_loader_step_items(const bif_loader *loader, int64_t step)
{
    const bif_loader_options *o = &loader->options;
    int64_t left = o->samples_per_step;
    if (o->end_sample > 0) {
        left = o->end_sample - step * o->samples_per_step;
    } else if (o->last == BIF_LAST_SHORT) {
        left = loader->epoch_samples - step % loader->epoch_steps * o->samples_per_step;
    }
    return left < o->samples_per_step ? left : o->samples_per_step;
}

bif_loader_place bif_loader_place_of(const bif_loader *loader, int64_t step, int64_t index)
{
    if (loader->epoch_steps == 0) {
        const int64_t position = step * loader->options.samples_per_step + index;
        return (bif_loader_place){position / loader->epoch_samples, position % loader->epoch_samples};
    }
    const int64_t place = step % loader->epoch_steps * loader->options.samples_per_step + index;
    return (bif_loader_place){step / loader->epoch_steps, place % loader->epoch_samples};
}

typedef struct {
    uint64_t seed, epoch;
} draw_context;

static uint64_t draw(void *context, int which, uint64_t n, uint64_t place)
{
    const draw_context *c = context;
    return bif_permute(c->seed, 3 * c->epoch + (uint64_t)which, n, place);
}

/* Under the mutex: the entry of an epoch, made if need be in place of the oldest. */
static const bif_loader_epoch *epoch_of(bif_loader *loader, int64_t epoch)
{
    const bif_loader_options *o = &loader->options;
    bif_loader_epoch *entry = &loader->epoch[0];
    for (int64_t i = 0; i < loader->epochs; i++) {
        bif_loader_epoch *e = &loader->epoch[i];
        if (e->order != NULL && e->epoch == epoch) {
            return e;
        }
        entry = entry->order != NULL && (e->order == NULL || e->epoch < entry->epoch) ? e : entry;
    }
    const int64_t batch = o->micro_batch_samples > 0 ? o->micro_batch_samples : o->samples_per_step;
    draw_context context = {o->seed, (uint64_t)epoch};
    entry->epoch = epoch;
    entry->order = entry->order != NULL ? entry->order : bif_malloc((size_t)loader->samples * sizeof *entry->order);
    bif_order_by_modality(loader->words, loader->samples, batch, o->samples_per_step / batch, draw, &context, entry->order);
    return entry;
}

uint64_t bif_loader_sample_at(bif_loader *loader, bif_loader_place place, int64_t attempt)
{
    const int64_t n = loader->epoch_samples;
    const int64_t k = attempt > 0 ? (place.place + n / 2 + attempt - 1) % n : place.place;
    if (loader->imported != NULL) {
        return loader->imported[k];
    }
    if (loader->words != NULL) {
        pthread_mutex_lock(&loader->order_mutex);
        const uint64_t sample = epoch_of(loader, place.epoch)->order[k];
        pthread_mutex_unlock(&loader->order_mutex);
        return sample;
    }
    return loader->options.shuffle ? bif_permute(loader->options.seed, (uint64_t)place.epoch, (uint64_t)n, (uint64_t)k) : (uint64_t)k;
}
