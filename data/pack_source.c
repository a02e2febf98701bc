/* Sources cut into units: a tar is one; a file of records, and a folder (which rank 0 lists into such a file), are cut where a shard would be
 * full. The cut follows the sizes of the picture files, so it needs no picture and does not depend on who packs what. */
#include "data/pack_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"

#define LISTING "listing.jsonl" /* in the staging folder: what a folder holds, as records */

/* ---- records ---- */

static bif_status spool(const char *path)
{
    bif_status st = BIF_OK;
    bif_writer *out = NULL;
    const size_t size = (size_t)1 << 20;
    char *block = bif_malloc(size);
    BIF_TRY(bif_writer_open(path, &out));
    for (size_t got = 1; got > 0;) {
        BIF_TRY(bif_read_some(STDIN_FILENO, "standard input", block, size, &got));
        BIF_TRY(bif_writer_write(out, block, got));
    }
    st = bif_writer_commit(out);
    out = NULL;
done:
    bif_writer_abandon(out);
    free(block);
    return st;
}

void bif_pack_item_of(const bif_pack_plan *plan, const bif_pack_place *place, const bif_record *record, bif_pack_item *item)
{
    bif_status st = BIF_OK;
    const char *reason = NULL;
    *item = (bif_pack_item){.number = record->number, .line = record->line};
    if (record->value == NULL) {
        st = BIF_ERR_DATA; /* the message stands */
        goto done;
    }
    if (!json_is_object(record->value)) {
        st = bif_fail(BIF_ERR_DATA, "a record must be an object");
        goto done;
    }
    BIF_TRY(bif_pack_id(record->value, &item->id));
    if (plan->kind == BIF_PACK_FOLDER) {
        item->key = bif_strdup(item->id);
        reason = json_string_value(json_object_get(record->value, "reason"));
        BIF_TRY(reason != NULL ? bif_fail(BIF_ERR_DATA, "%s", reason) : BIF_OK);
    }
    BIF_TRY(bif_pack_pictures(place, record->value, item));
    BIF_TRY(bif_pack_check_sizes(plan->options, item));
    BIF_TRY(bif_pack_text(record->value, item->pictures, &item->text, &item->image_only));
done:
    bif_pack_item_failed(item, st);
    json_decref(record->value);
}

/* Names of pictures that the shard in the making holds already. */
typedef struct {
    uint64_t *slot; /* 0 = free */
    size_t slots, used;
} name_set;

static bool add_name(name_set *set, const char *name)
{
    if (2 * set->used >= set->slots) {
        name_set old = *set;
        *set = (name_set){.slots = old.slots > 0 ? 2 * old.slots : 1024, .used = old.used};
        set->slot = bif_calloc(set->slots, sizeof *set->slot);
        for (size_t i = 0; i < old.slots; i++) {
            size_t at = (size_t)old.slot[i] & (set->slots - 1);
            while (old.slot[i] != 0 && set->slot[at] != 0) {
                at = (at + 1) & (set->slots - 1);
            }
            if (old.slot[i] != 0) {
                set->slot[at] = old.slot[i];
            }
        }
        free(old.slot);
    }
    const uint64_t hash = XXH3_64bits(name, strlen(name)) | 1;
    size_t at = (size_t)hash & (set->slots - 1);
    while (set->slot[at] != 0 && set->slot[at] != hash) {
        at = (at + 1) & (set->slots - 1);
    }
    const bool fresh = set->slot[at] == 0;
    set->slot[at] = hash;
    set->used += fresh;
    return fresh;
}

/* Would the item begin a new shard? Counts it in. */
static bool fills_up(const bif_pack_options *o, const bif_pack_item *item, name_set *names, uint64_t *bytes, int64_t *samples)
{
    uint64_t own = 0;
    for (int64_t i = 0; i < item->pictures; i++) {
        own += item->picture[i].size;
    }
    const bool full = *samples > 0 && (*bytes + own > (uint64_t)o->max_shard_bytes || (o->max_samples > 0 && *samples >= o->max_samples));
    if (full) {
        free(names->slot);
        *names = (name_set){0};
        *bytes = 0;
        *samples = 0;
    }
    for (int64_t i = 0; i < item->pictures; i++) {
        *bytes = add_name(names, item->picture[i].name) ? ((*bytes + 7) & ~(uint64_t)7) + item->picture[i].size : *bytes;
    }
    ++*samples;
    return full;
}

static bif_status cut_records(bif_pack_plan *plan)
{
    bif_status st = BIF_OK;
    const bif_pack_options *o = plan->options;
    bif_pack_place place = {.options = o, .root = -1};
    bif_records *records = NULL;
    bif_pack_item item = {0};
    name_set names = {0};
    uint64_t bytes = 0;
    int64_t samples = 0, seen = 0;
    char *source = bif_pack_source_name(o, NULL);
    BIF_TRY(bif_pack_place_open(plan, &place));
    BIF_TRY(bif_records_open_at(plan->records, bif_pack_records_name(plan), plan->format, NULL, &records));
    for (;;) {
        bif_record record = {0};
        bool more = false;
        BIF_TRY(bif_records_next(records, &record, &more));
        if (!more) {
            break;
        }
        const bif_pack_range here = {.offset = record.offset, .line = record.line, .number = record.number};
        bif_pack_item_of(plan, &place, &record, &item);
        const bool counts = item.failed == BIF_OK && !(plan->known != NULL && bif_pack_is_known(plan->known, source, &item, false));
        if ((counts && fills_up(o, &item, &names, &bytes, &samples)) || plan->units == 0) {
            plan->range = bif_realloc(plan->range, (size_t)plan->units + 1, sizeof *plan->range);
            plan->range[plan->units++] = here;
        }
        plan->range[plan->units - 1].records++;
        bif_pack_item_free(&item);
        if (++seen % 100000 == 0) {
            bif_info("looked through %lld records", (long long)seen);
        }
    }
done:
    bif_pack_item_free(&item);
    bif_records_close(records);
    bif_pack_place_close(&place);
    free(names.slot);
    free(source);
    return st;
}

/* ---- the plan ---- */

static bif_status detect(bif_pack_plan *plan)
{
    const bif_pack_options *o = plan->options;
    bif_status st = BIF_OK;
    plan->kind = o->kind;
    if (plan->kind == BIF_PACK_AUTO && bif_is_folder(o->input)) {
        bif_pack_paths list = {0};
        st = bif_pack_list_names(o->input, ".tar", &list);
        plan->kind = list.count > 0 ? BIF_PACK_WEBDATASET : BIF_PACK_FOLDER;
        bif_pack_paths_free(&list);
    } else if (plan->kind == BIF_PACK_AUTO) {
        plan->kind = bif_pack_ends_with(o->input, ".tar") ? BIF_PACK_WEBDATASET : BIF_PACK_RECORDS;
    }
    if (st == BIF_OK && plan->kind != BIF_PACK_WEBDATASET && o->more_count > 0) {
        st = bif_fail(BIF_ERR_USAGE, "'%s' and '%s': only tars may be several inputs", o->input, o->more[0]);
    }
    if (st == BIF_OK && plan->kind == BIF_PACK_RECORDS && o->image_only) {
        st = bif_fail(BIF_ERR_USAGE,
                      "pictures without a text are taken from tars and folders; in a file of records they have the caption \"\"");
    }
    if (st == BIF_OK && plan->kind != BIF_PACK_RECORDS && o->image_root != NULL) {
        st = bif_fail(BIF_ERR_USAGE, "an image root belongs to a file of records; '%s' has its pictures in itself", o->input);
    }
    return st;
}

/* On rank 0. names: the tars, each ended by a zero byte. */
static bif_status make_plan(bif_pack_plan *plan, char **names, size_t *size, int64_t *odd)
{
    bif_status st = BIF_OK;
    bif_pack_paths tars = {0};
    BIF_TRY(detect(plan));
    if (plan->kind == BIF_PACK_WEBDATASET) {
        BIF_TRY(bif_pack_list_tars(plan, &tars, odd));
        plan->units = (int64_t)tars.count;
        for (size_t i = 0; i < tars.count; i++) {
            const size_t own = strlen(tars.path[i]) + 1;
            *names = bif_realloc(*names, *size + own, 1);
            memcpy(*names + *size, tars.path[i], own);
            *size += own;
        }
        goto done;
    }
    if (plan->kind == BIF_PACK_FOLDER || strcmp(plan->options->input, "-") == 0) {
        free(plan->records);
        plan->records = bif_path_join(plan->staging, plan->kind == BIF_PACK_FOLDER ? LISTING : "input");
        BIF_TRY(plan->kind == BIF_PACK_FOLDER ? bif_pack_list_folder(plan) : spool(plan->records));
    }
    BIF_TRY(cut_records(plan));
done:
    bif_pack_paths_free(&tars);
    return st;
}

bif_status bif_pack_make_plan(bif_pack_plan *plan, const bif_team *team, int64_t *odd)
{
    bif_status st = BIF_OK;
    char *names = NULL;
    size_t size = 0;
    plan->format = plan->options->format;
    plan->records = bif_strdup(plan->options->input);
    *odd = 0;
    st = team->agree(team->context, team->rank == 0 ? make_plan(plan, &names, &size, odd) : BIF_OK);
    if (st != BIF_OK) {
        goto done;
    }
    int64_t head[5] = {(int64_t)plan->kind, plan->units, plan->statistics, (int64_t)size, *odd};
    team->broadcast(team->context, head, sizeof head);
    if (team->rank > 0) {
        plan->kind = (bif_pack_kind)head[0];
        plan->units = head[1];
        plan->statistics = head[2] != 0;
        size = (size_t)head[3];
        *odd = head[4];
        names = bif_calloc(size + 1, 1);
        plan->range = plan->kind == BIF_PACK_WEBDATASET ? NULL : bif_calloc((size_t)plan->units, sizeof *plan->range);
        if (plan->kind == BIF_PACK_FOLDER) {
            free(plan->records);
            plan->records = bif_path_join(plan->staging, LISTING);
        }
    }
    if (plan->kind != BIF_PACK_WEBDATASET) {
        team->broadcast(team->context, plan->range, (size_t)plan->units * sizeof *plan->range);
        goto done;
    }
    team->broadcast(team->context, names, size);
    plan->tar = bif_calloc((size_t)plan->units, sizeof *plan->tar);
    const char *at = names;
    for (int64_t i = 0; i < plan->units; i++) {
        plan->tar[i] = bif_strdup(at);
        at += strlen(at) + 1;
    }
done:
    free(names);
    return st;
}

void bif_pack_plan_free(bif_pack_plan *plan)
{
    for (int64_t i = 0; plan->tar != NULL && i < plan->units; i++) {
        free(plan->tar[i]);
    }
    free(plan->tar);
    free(plan->range);
    free(plan->records);
    free(plan->staging);
}
