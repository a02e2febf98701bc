/* The steps' way through the threads. Every slot of the ring holds one step: LENGTHS (one item a sample of the whole
 * step), the deal, FILL (one item an own sample: tokens if not kept, pictures), packing, READY. Workers take items of
 * the oldest step first; the one that finishes a stage's last item does the short serial part behind it, while the
 * others go on with later steps. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "data/loader_parts.h"

static uint8_t *pixels_of(const bif_loader *loader, const bif_loader_slot *slot, const bif_loader_item *item)
{
    return slot->batch[item->batch]->pixels + item->image * 3 * loader->limits.image_size * loader->limits.image_size;
}

/* ---- items ---- */

static bif_status measure(bif_loader *loader, bif_loader_item *item)
{
    const bool column = bif_loader_takes_column(loader, item->epoch, item->sample);
    _Atomic(uint64_t) *known = &loader->length[(column ? (uint64_t)loader->samples : 0) + item->sample];
    uint64_t length = atomic_load_explicit(known, memory_order_relaxed);
    if (length == 0) {
        bif_status st = bif_loader_encode(loader, item->epoch, item->sample, &item->encoded);
        if (st != BIF_OK && st != BIF_ERR_DATA) {
            return st;
        }
        if (st == BIF_ERR_DATA && loader->options.rank == 0) {
            bif_loader_warn(loader, item->sample);
        }
        length = st == BIF_OK ? (uint64_t)item->encoded.images << 32 | item->encoded.ids.count : UINT64_MAX;
        atomic_store_explicit(known, length, memory_order_relaxed);
    }
    if (length == UINT64_MAX) {
        item->skipped = loader->options.rank == 0; /* all ranks leave it out, one counts it */
    } else {
        item->tokens = (int64_t)(length & UINT32_MAX);
        item->images = (int64_t)(length >> 32); /* not the sample's own number: truncation may cut pictures off */
    }
    return BIF_OK;
}

static bif_status fill_chat(bif_loader_worker *worker, bif_loader_slot *slot, bif_loader_item *item)
{
    bif_loader *loader = worker->loader;
    bif_status st = BIF_OK;
    if (item->encoded.ids.count == 0) {
        st = bif_loader_encode(loader, item->epoch, item->sample, &item->encoded);
    }
    if (st != BIF_OK || item->images == 0) {
        return st;
    }
    st = bif_loader_pictures(worker, 0, item->sample, item->images, pixels_of(loader, slot, item));
    if (st != BIF_ERR_DATA) {
        return st;
    }
    bif_loader_warn(loader, item->sample);
    item->skipped = 1;
    for (size_t i = 0; i < item->encoded.labels.count; i++) {
        item->encoded.labels.ids[i] = BIF_LABEL_NONE;
    }
    return BIF_OK;
}

static bif_status fill_pair(bif_loader_worker *worker, bif_loader_slot *slot, int64_t index)
{
    bif_loader *loader = worker->loader;
    bif_loader_item *item = &slot->item[index];
    const bif_loader_place place = bif_loader_place_of(loader, slot->step, loader->options.rank * loader->pairs + index);
    for (int64_t attempt = 0; attempt < BIF_LOADER_TRIES && attempt <= loader->epoch_samples; attempt++) {
        item->sample = bif_loader_sample_at(loader, place, attempt);
        bif_status st = bif_loader_encode(loader, place.epoch, item->sample, &item->encoded);
        if (st == BIF_OK) {
            st = bif_loader_pictures(worker, (uint64_t)place.epoch, item->sample, 1, pixels_of(loader, slot, item));
        }
        if (st != BIF_ERR_DATA) {
            item->tokens = (int64_t)item->encoded.ids.count;
            return st;
        }
        bif_loader_warn(loader, item->sample);
        item->skipped++;
        bif_encoded_free(&item->encoded);
        item->encoded = (bif_encoded){0};
    }
    return bif_fail(BIF_ERR_DATA,
                    "%" PRId64 " pairs in a row cannot be used; see the warnings above, and check the shards with "
                    "'bifocal data verify'",
                    item->skipped);
}

static bif_status run_item(bif_loader_worker *worker, bif_loader_slot *slot, bif_slot_stage stage, int64_t index)
{
    bif_loader *loader = worker->loader;
    if (stage == BIF_SLOT_LENGTHS) {
        bif_loader_item *item = &slot->item[index];
        const bif_loader_place place = bif_loader_place_of(loader, slot->step, index);
        item->epoch = place.epoch;
        item->sample = bif_loader_sample_at(loader, place, 0);
        return measure(loader, item);
    }
    if (loader->options.mode == BIF_LOADER_CAPTION) {
        return fill_pair(worker, slot, index);
    }
    return fill_chat(worker, slot, &slot->item[slot->own[index]]);
}

/* ---- between the stages ---- */

static void need_batches(bif_loader *loader, bif_loader_slot *slot, int64_t count)
{
    if (count > slot->batch_capacity) {
        slot->batch = bif_realloc(slot->batch, (size_t)count, sizeof(bif_batch *));
        while (slot->batch_capacity < count) {
            slot->batch[slot->batch_capacity++] = bif_batch_new(&loader->limits);
        }
    }
    for (int64_t b = 0; b < count; b++) {
        bif_batch_clear(slot->batch[b]);
    }
    slot->view.batches = count;
    slot->view.batch = slot->batch;
}

/* Own items get their places; the tokens of others are dropped. */
static bif_status deal(bif_loader *loader, bif_loader_slot *slot)
{
    const bif_loader_options *o = &loader->options;
    const bool ordered = o->deal == BIF_DEAL_ORDER;
    const bif_deal_budget budget = {loader->limits.tokens, loader->limits.images, ordered ? o->micro_batch_samples : loader->limits.sequences};
    int64_t *batches = bif_malloc((size_t)o->world * sizeof *batches);
    for (int64_t i = 0; i < slot->items; i++) {
        slot->deal[i] = (bif_deal_item){slot->item[i].tokens, slot->item[i].images};
    }
    bif_status st = (ordered ? bif_deal_in_order : bif_deal)(slot->deal, slot->items, o->world, &budget, slot->place, batches);
    slot->view.groups = ordered ? (slot->items - 1) / o->micro_batch_samples + 1 : 0;
    if (st == BIF_OK) {
        need_batches(loader, slot, batches[o->rank]);
        int64_t batch = 0, images = 0;
        for (int64_t i = 0; i < slot->items; i++) {
            bif_loader_item *item = &slot->item[i];
            if (slot->place[i].rank != o->rank) {
                bif_encoded_free(&item->encoded);
                item->encoded = (bif_encoded){0};
                continue;
            }
            if (slot->place[i].batch != batch) {
                batch = slot->place[i].batch;
                images = 0;
            }
            slot->batch[batch]->group = slot->place[i].group;
            item->batch = batch;
            item->image = images;
            images += item->images;
            slot->own[slot->owned++] = i;
        }
    }
    free(batches);
    return st;
}

static void pack(bif_loader *loader, bif_loader_slot *slot)
{
    const bif_loader_options *o = &loader->options;
    const int64_t before = slot->step * o->samples_per_step + (o->mode == BIF_LOADER_CAPTION ? o->rank * loader->pairs : 0);
    for (int64_t i = 0; i < slot->owned; i++) {
        bif_loader_item *item = &slot->item[slot->own[i]];
        const bif_encoded *e = &item->encoded;
        const struct bif_encoded_view view = {e->ids.ids, e->labels.ids, (int64_t)e->ids.count, e->image_start,
                                              e->images};
        bif_batch *batch = slot->batch[item->batch];
        bool fits = bif_batch_add(batch, &loader->limits, &view, NULL, item->sample);
        BIF_BUG_IF(!fits || e->images != item->images, "sample %" PRIu64 " does not fit where the deal put it",
                   item->sample);
        batch->place[batch->sequences - 1] = (uint64_t)(before + slot->own[i]);
    }
}

static void drop_tokens(bif_loader_slot *slot)
{
    for (int64_t i = 0; i < slot->items; i++) {
        bif_encoded_free(&slot->item[i].encoded);
        slot->item[i].encoded = (bif_encoded){0};
    }
}

/* After the last item of a stage: the serial part, and which stage comes next with how many items. */
static bif_status advance(bif_loader *loader, bif_loader_slot *slot, bif_slot_stage *stage, int64_t *work)
{
    if (slot->status != BIF_OK) {
        *stage = BIF_SLOT_READY;
    } else if (*stage == BIF_SLOT_LENGTHS) {
        bif_status st = deal(loader, slot);
        *stage = st == BIF_OK ? BIF_SLOT_FILL : BIF_SLOT_READY;
        *work = slot->owned;
        if (st != BIF_OK) {
            drop_tokens(slot);
            return st;
        }
        return BIF_OK;
    } else {
        pack(loader, slot);
        for (int64_t i = 0; i < slot->items; i++) {
            slot->view.global_tokens += slot->item[i].tokens;
            slot->view.skipped += slot->item[i].skipped;
        }
        *stage = BIF_SLOT_READY;
    }
    drop_tokens(slot);
    return BIF_OK;
}

/* ---- threads ---- */

static void note_failure(bif_loader_slot *slot, bif_status status)
{
    if (slot->status == BIF_OK) {
        slot->status = status;
        slot->message = bif_strdup(bif_error_message());
    }
}

/* Starts the next step in a free slot. Under the mutex, which is why samples are looked up later, by the items. */
static void open_slot(bif_loader *loader, bif_loader_slot *slot)
{
    const bif_loader_options *o = &loader->options;
    const bool pairs = o->mode == BIF_LOADER_CAPTION;
    slot->step = loader->open_step++;
    slot->items = pairs ? loader->pairs : bif_loader_step_items(loader, slot->step);
    memset(slot->item, 0, (size_t)slot->items * sizeof *slot->item);
    slot->owned = 0;
    slot->view = (bif_step){.step = slot->step};
    if (pairs) {
        need_batches(loader, slot, (slot->items + loader->limits.sequences - 1) / loader->limits.sequences);
        for (int64_t i = 0; i < slot->items; i++) {
            slot->item[i].images = 1;
            slot->item[i].batch = i / loader->limits.sequences;
            slot->item[i].image = i % loader->limits.sequences;
            slot->own[slot->owned++] = i;
        }
    }
    slot->stage = pairs ? BIF_SLOT_FILL : BIF_SLOT_LENGTHS;
    slot->work = slot->items;
    slot->next = slot->done = 0;
}

static bif_loader_slot *find_work(bif_loader *loader)
{
    for (int64_t step = loader->next_step; step < loader->open_step; step++) {
        bif_loader_slot *slot = &loader->slot[step % loader->slots];
        if ((slot->stage == BIF_SLOT_LENGTHS || slot->stage == BIF_SLOT_FILL) && slot->next < slot->work) {
            return slot;
        }
    }
    bif_loader_slot *slot = &loader->slot[loader->open_step % loader->slots];
    if (slot->stage == BIF_SLOT_FREE &&
        (loader->options.end_step < 0 || loader->open_step < loader->options.end_step)) {
        open_slot(loader, slot);
        return slot;
    }
    return NULL;
}

/* Called with the mutex held, by the worker that finished the last item. A stage without items ends at once. */
static void finish_stage(bif_loader *loader, bif_loader_slot *slot)
{
    while (slot->stage != BIF_SLOT_READY && slot->done == slot->work) {
        bif_slot_stage stage = slot->stage;
        int64_t work = 0;
        pthread_mutex_unlock(&loader->mutex);
        bif_status st = advance(loader, slot, &stage, &work);
        pthread_mutex_lock(&loader->mutex);
        if (st != BIF_OK) {
            note_failure(slot, st);
        }
        slot->next = slot->done = 0;
        slot->work = work;
        slot->stage = stage;
    }
    if (slot->stage == BIF_SLOT_READY) {
        pthread_cond_signal(&loader->ready);
    }
    pthread_cond_broadcast(&loader->work);
}

static void *worker_main(void *argument)
{
    bif_loader_worker *worker = argument;
    bif_loader *loader = worker->loader;
    pthread_mutex_lock(&loader->mutex);
    while (!loader->stop) {
        bif_loader_slot *slot = find_work(loader);
        if (slot == NULL) {
            pthread_cond_wait(&loader->work, &loader->mutex);
            continue;
        }
        /* A known length takes under a microsecond, less than the mutex; a picture or a text takes 20 and more. */
        const bif_slot_stage stage = slot->stage;
        const int64_t chunk = stage == BIF_SLOT_LENGTHS ? 16 : 1;
        const int64_t from = slot->next, to = slot->work - from < chunk ? slot->work : from + chunk;
        bool failed = slot->status != BIF_OK;
        slot->next = to;
        pthread_mutex_unlock(&loader->mutex);
        bif_status st = BIF_OK;
        for (int64_t i = from; i < to && !failed && st == BIF_OK; i++) {
            st = run_item(worker, slot, stage, i);
        }
        pthread_mutex_lock(&loader->mutex);
        if (st != BIF_OK) {
            note_failure(slot, st);
        }
        slot->done += to - from;
        if (slot->done == slot->work) {
            finish_stage(loader, slot);
        }
    }
    pthread_mutex_unlock(&loader->mutex);
    return NULL;
}

bif_status bif_loader_start(bif_loader *loader)
{
    bif_status st = BIF_OK;
    sigset_t all, before;
    sigfillset(&all); /* a signal to stop is for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (loader->workers < loader->options.threads) {
        bif_loader_worker *worker = &loader->worker[loader->workers];
        worker->loader = loader;
        int error = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (error != 0) {
            st = bif_fail(BIF_ERR_MEMORY, "cannot start loader thread %d: %s", loader->workers + 1, strerror(error));
            break;
        }
        loader->workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return st;
}

void bif_loader_stop(bif_loader *loader)
{
    pthread_mutex_lock(&loader->mutex);
    loader->stop = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->mutex);
    for (int i = 0; i < loader->workers; i++) {
        pthread_join(loader->worker[i].thread, NULL);
        free(loader->worker[i].bytes);
    }
    for (int64_t s = 0; s < loader->slots; s++) {
        bif_loader_slot *slot = &loader->slot[s];
        drop_tokens(slot);
        for (int64_t b = 0; b < slot->batch_capacity; b++) {
            bif_batch_free(slot->batch[b]);
        }
        free(slot->batch);
        free(slot->item);
        free(slot->own);
        free(slot->deal);
        free(slot->place);
        free(slot->message);
    }
}
