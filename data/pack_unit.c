/* One unit of work into its shards: records are read a batch at a time, their pictures by all threads, and stored in order. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "data/pack_parts.h"

#define BATCH 256                          /* records */
#define BATCH_BYTES ((uint64_t)64 << 20)   /* encoded pictures and texts of a batch, but for the last record's */
#define SAY_EVERY 10.0                     /* seconds */

typedef struct {
    const bif_pack_plan *plan;
    const bif_team *team;
    int64_t unit;
    double *count;
    char *source, *input; /* input: base name, for messages and errors */
    const char *key_name; /* of an item's key in the list of errors */
    bif_pack_place place;
    bif_tar *tar;
    bif_records *records;
    bif_pack_groups *groups;
    int64_t left; /* records of the range */
    bool ended;
    bif_shard_writer *shard;
    bif_writer *errors;
    bif_pack_item item[BATCH];
    int64_t items;
    atomic_int_fast64_t next;
    double *said; /* when the progress was last told, in seconds */
} worker;

void bif_pack_item_free(bif_pack_item *item)
{
    for (int64_t i = 0; i < item->pictures; i++) {
        free(item->picture[i].name);
        free(item->picture[i].bytes);
    }
    free(item->picture);
    free(item->key);
    free(item->id);
    free(item->text);
    free(item->reason);
    *item = (bif_pack_item){0};
}

void bif_pack_item_failed(bif_pack_item *item, bif_status st)
{
    if (st != BIF_OK && item->failed == BIF_OK) {
        item->failed = st;
        item->reason = bif_strdup(bif_error_message());
    }
}

char *bif_pack_unit_shard(const bif_pack_plan *plan, int64_t unit, int64_t number)
{
    return bif_format("%s/unit-%08lld-%05lld.h5", plan->staging, (long long)unit, (long long)number);
}

char *bif_pack_unit_errors(const bif_pack_plan *plan, int64_t unit)
{
    return bif_format("%s/errors-%08lld.jsonl", plan->staging, (long long)unit + 1);
}

const char *bif_pack_records_name(const bif_pack_plan *plan)
{
    return strcmp(plan->options->input, "-") == 0 ? "standard input" : plan->options->input;
}

bif_status bif_pack_error_row(bif_writer *errors, const char *input, int64_t record, int64_t line, const char *key_name, const char *key,
                              const char *id, const char *reason)
{
    json_t *row = json_object();
    json_object_set_new(row, "input", bif_pack_string(input));
    if (record > 0) {
        json_object_set_new(row, "record", json_integer(record));
    }
    if (line > 0) {
        json_object_set_new(row, "line", json_integer(line));
    }
    if (key != NULL) {
        json_object_set_new(row, key_name, bif_pack_string(key));
    }
    if (id != NULL) {
        json_object_set_new(row, "id", bif_pack_string(id));
    }
    json_object_set_new(row, "reason", bif_pack_string(reason));
    char *text = json_dumps(row, JSON_COMPACT);
    bif_status st = bif_writer_write(errors, text, strlen(text));
    st = st == BIF_OK ? bif_writer_write(errors, "\n", 1) : st;
    free(text);
    json_decref(row);
    return st;
}

static bif_status open_errors(worker *w)
{
    if (w->errors != NULL) {
        return BIF_OK;
    }
    char *path = bif_pack_unit_errors(w->plan, w->unit);
    const bif_status st = bif_writer_open(path, &w->errors);
    free(path);
    return st;
}

static bif_status report_bad(worker *w, const bif_pack_item *item)
{
    bif_status st = BIF_OK;
    w->count[BIF_PACK_BAD]++;
    if (w->plan->options->strict) {
        char *where = item->line > 0 ? bif_format("line %lld", (long long)item->line)
                                     : bif_strdup(item->key != NULL ? item->key : "its end");
        st = bif_fail(BIF_ERR_DATA, "%s: record %lld (%s) is bad and the pack is strict: %s",
                      w->plan->kind == BIF_PACK_WEBDATASET ? w->input : w->plan->options->input, (long long)item->number, where,
                      item->reason);
        free(where);
        return st;
    }
    BIF_TRY(open_errors(w));
    BIF_TRY(bif_pack_error_row(w->errors, w->input, item->number, item->line, w->key_name, item->key, item->id != NULL ? item->id : "",
                               item->reason));
done:
    return st;
}

/* Something is odd about the tar as a whole. */
static bif_status report_odd(worker *w, const char *reason)
{
    bif_status st = BIF_OK;
    bif_warn("%s: %s", w->plan->tar[w->unit], reason);
    w->count[BIF_PACK_ODD]++;
    BIF_TRY(open_errors(w));
    BIF_TRY(bif_pack_error_row(w->errors, w->input, 0, 0, NULL, NULL, NULL, reason));
done:
    return st;
}

/* ---- shards ---- */

static bif_status close_shard(worker *w)
{
    if (w->shard == NULL) {
        return BIF_OK;
    }
    bif_shard_writer *shard = w->shard;
    w->shard = NULL;
    w->count[BIF_PACK_BYTES] += (double)bif_shard_writer_bytes(shard);
    w->count[BIF_PACK_SHARDS]++;
    return bif_shard_writer_commit(shard);
}

static bif_status open_shard(worker *w)
{
    const bif_pack_options *o = w->plan->options;
    char *path = bif_pack_unit_shard(w->plan, w->unit, (int64_t)w->count[BIF_PACK_SHARDS]);
    const bif_status st = bif_shard_writer_open(path, &w->shard);
    free(path);
    if (st == BIF_OK && o->resize_short > 0) {
        char note[128];
        snprintf(note, sizeof note, "shorter side above %lld: upright, bicubic to %lld, JPEG quality %d", (long long)o->resize_short,
                 (long long)o->resize_short, o->quality);
        bif_shard_writer_note(w->shard, note);
    }
    return st;
}

/* Trouble here is never the record's fault: it ends the pack. */
static bif_status store(worker *w, bif_pack_item *item)
{
    bif_status st = BIF_OK;
    const bif_pack_options *o = w->plan->options;
    int64_t *numbers = bif_calloc((size_t)item->pictures, sizeof *numbers), bytes = 0;
    for (int64_t i = 0; i < item->pictures; i++) {
        bytes += (int64_t)item->picture[i].size;
    }
    if (w->shard != NULL && (bif_shard_writer_bytes(w->shard) + bytes > o->max_shard_bytes ||
                             (o->max_samples > 0 && bif_shard_writer_samples(w->shard) >= o->max_samples))) {
        BIF_TRY(close_shard(w));
    }
    if (w->shard == NULL) {
        BIF_TRY(open_shard(w));
    }
    for (int64_t i = 0; i < item->pictures; i++) {
        const bif_pack_picture *one = &item->picture[i];
        const int64_t before = bif_shard_writer_bytes(w->shard);
        BIF_TRY(
            bif_shard_add_image(w->shard, one->bytes, one->size, one->format, (uint32_t)one->width, (uint32_t)one->height, &numbers[i]));
        const bool fresh = bif_shard_writer_bytes(w->shard) > before;
        w->count[BIF_PACK_IMAGES_STORED] += fresh;
        w->count[BIF_PACK_RESIZED] += fresh && one->resized;
    }
    BIF_TRY(bif_shard_add_sample(w->shard, item->text, strlen(item->text), item->id, w->source, numbers, item->pictures));
    w->count[BIF_PACK_SAMPLES]++;
    w->count[BIF_PACK_TEXT_ONLY] += item->pictures == 0;
    w->count[BIF_PACK_IMAGE_ONLY] += item->image_only;
done:
    free(numbers);
    return st;
}

/* ---- batches ---- */

static bif_status next_item(worker *w, bif_pack_item *item)
{
    bif_status st = BIF_OK;
    bool more = false;
    if (w->groups != NULL) {
        st = bif_pack_groups_next(w->groups, item, &more);
    } else if (w->left > 0) {
        bif_record record = {0};
        st = bif_records_next(w->records, &record, &more);
        if (st == BIF_OK && more) {
            bif_pack_item_of(w->plan, &w->place, &record, item);
            w->left--;
        } else if (st == BIF_OK) {
            st = bif_fail(BIF_ERR_IO, "'%s' became shorter while it was read", w->plan->records);
        }
    }
    w->ended = st != BIF_OK || !more;
    return st;
}

static bif_status fill(worker *w)
{
    bif_status st = BIF_OK;
    uint64_t bytes = 0;
    for (w->items = 0; w->items < BATCH && bytes < BATCH_BYTES && !w->ended;) {
        bif_pack_item *item = &w->item[w->items];
        *item = (bif_pack_item){0};
        st = next_item(w, item);
        if (w->ended) {
            bif_pack_item_free(item);
            break;
        }
        w->items++;
        item->known = item->failed == BIF_OK && w->plan->known != NULL && bif_pack_is_known(w->plan->known, w->source, item, false);
        bytes += item->text != NULL ? strlen(item->text) : 0;
        for (int64_t i = 0; i < item->pictures && item->failed == BIF_OK && !item->known; i++) {
            bytes += item->picture[i].size;
        }
    }
    return st;
}

static void *load_items(void *context)
{
    worker *w = context;
    for (int64_t i; (i = atomic_fetch_add(&w->next, 1)) < w->items;) {
        bif_pack_item *item = &w->item[i];
        if (item->failed == BIF_OK && !item->known) {
            bif_pack_item_failed(item, bif_pack_load(&w->place, item));
        }
    }
    return NULL;
}

static void load(worker *w)
{
    pthread_t thread[64];
    int started = 0;
    const int wanted = w->team->threads - 1 < 64 ? w->team->threads - 1 : 64;
    atomic_store(&w->next, 0);
    while (started < wanted && started + 1 < w->items && pthread_create(&thread[started], NULL, load_items, w) == 0) {
        started++;
    }
    load_items(w);
    while (started > 0) {
        pthread_join(thread[--started], NULL);
    }
}

static bif_status take(worker *w, bif_pack_item *item)
{
    w->count[BIF_PACK_RECORDS_READ]++;
    if (item->failed == BIF_ERR_DATA) {
        return report_bad(w, item);
    }
    if (item->failed != BIF_OK) {
        return bif_fail(item->failed, "%s", item->reason);
    }
    if (!item->known && w->plan->known != NULL) {
        item->known = bif_pack_is_known(w->plan->known, w->source, item, true);
    }
    if (item->known) {
        w->count[BIF_PACK_KNOWN]++;
        return BIF_OK;
    }
    return store(w, item);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bif_status run_batches(worker *w)
{
    bif_status st = BIF_OK;
    while (!w->ended) {
        st = fill(w);
        if (st == BIF_OK) {
            load(w);
        }
        for (int64_t i = 0; i < w->items; i++) {
            st = st == BIF_OK ? take(w, &w->item[i]) : st;
            bif_pack_item_free(&w->item[i]);
        }
        BIF_TRY(st);
        w->team->poll(w->team->context);
        if (now() - *w->said > SAY_EVERY) {
            *w->said = now();
            bif_info("part %lld of %lld: %.0f records of it, %.0f bad", (long long)w->unit + 1, (long long)w->plan->units,
                     w->count[BIF_PACK_RECORDS_READ], w->count[BIF_PACK_BAD]);
        }
    }
    BIF_TRY(close_shard(w));
done:
    return st;
}

/* ---- the unit ---- */

static bif_status check_statistics(worker *w)
{
    bif_status st = BIF_OK;
    bool there = false;
    int64_t told = 0, successes = 0;
    char *reason = NULL;
    const int64_t read = (int64_t)w->count[BIF_PACK_RECORDS_READ];
    st = bif_pack_statistics(w->plan->tar[w->unit], &there, &told, &successes);
    if (st == BIF_ERR_DATA) {
        reason = bif_strdup(bif_error_message());
    } else if (st != BIF_OK) {
        goto done;
    } else if (!there && w->plan->statistics) {
        reason = bif_strdup("it has no statistics (_stats.json), but other tars have");
    } else if (there) {
        w->count[BIF_PACK_TOLD] = (double)told;
        w->count[BIF_PACK_DOWNLOADED] = (double)successes;
        w->count[BIF_PACK_TOLD_PACKED] = w->count[BIF_PACK_SAMPLES] + w->count[BIF_PACK_KNOWN];
        reason = successes == read ? NULL
                                   : bif_format("its statistics tell of %lld successes, but %lld samples were read from it",
                                                (long long)successes, (long long)read);
    }
    st = reason != NULL ? report_odd(w, reason) : BIF_OK;
done:
    free(reason);
    return st;
}

static bif_status open_source(worker *w)
{
    bif_status st = BIF_OK;
    const bif_pack_plan *plan = w->plan;
    BIF_TRY(bif_pack_place_open(plan, &w->place));
    if (plan->kind == BIF_PACK_WEBDATASET) {
        BIF_TRY(bif_tar_open(plan->tar[w->unit], &w->tar));
        w->place.tar = w->tar;
        w->groups = bif_pack_groups_open(w->tar, plan->options);
        goto done;
    }
    const bif_pack_range *range = &plan->range[w->unit];
    const bif_record from = {.number = range->number, .line = range->line, .offset = range->offset};
    w->left = range->records;
    BIF_TRY(bif_records_open_at(plan->records, bif_pack_records_name(plan), plan->format, &from, &w->records));
done:
    return st;
}

bif_status bif_pack_unit(const bif_pack_plan *plan, const bif_team *team, int64_t unit, double *count, double *said)
{
    bif_status st = BIF_OK;
    const char *tar = plan->kind == BIF_PACK_WEBDATASET ? plan->tar[unit] : NULL;
    worker *w = bif_calloc(1, sizeof *w);
    w->plan = plan;
    w->team = team;
    w->unit = unit;
    w->count = count;
    w->place.root = -1;
    w->said = said;
    *said = *said == 0 ? now() : *said;
    w->source = bif_pack_source_name(plan->options, tar);
    w->input = bif_strdup(tar != NULL ? bif_path_base(tar) : bif_path_base(plan->options->input));
    w->key_name = plan->kind == BIF_PACK_FOLDER ? "file" : "key";
    BIF_TRY(open_source(w));
    BIF_TRY(run_batches(w));
    BIF_TRY(tar != NULL && bif_pack_groups_lost(w->groups) != NULL ? report_odd(w, bif_pack_groups_lost(w->groups)) : BIF_OK);
    BIF_TRY(tar != NULL ? check_statistics(w) : BIF_OK);
    if (w->errors != NULL) {
        bif_writer *errors = w->errors;
        w->errors = NULL;
        BIF_TRY(bif_writer_commit(errors));
    }
done:
    bif_shard_writer_abandon(w->shard);
    bif_writer_abandon(w->errors);
    bif_pack_groups_close(w->groups);
    bif_records_close(w->records);
    bif_tar_close(w->tar);
    bif_pack_place_close(&w->place);
    free(w->source);
    free(w->input);
    free(w);
    return st;
}
