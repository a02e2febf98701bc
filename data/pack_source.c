/* Sources cut into units: a tar is one; a file of records, and a folder (which rank 0 lists into such a file), are cut where a shard would be full.
 * The cut follows the sizes of the picture files, so it needs no picture and does not depend on who packs what. */
#include "data/pack_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"

#define DEPTH 64 /* of folders */
#define LISTING "listing.jsonl" /* in the staging folder: what a folder holds, as records */

typedef struct {
    char **path;
    size_t count;
} path_list;

static void add_path(path_list *list, char *path)
{
    if ((list->count & (list->count - 1)) == 0) {
        list->path = bif_realloc(list->path, list->count > 0 ? 2 * list->count : 1, sizeof *list->path);
    }
    list->path[list->count++] = path;
}

static void free_paths(path_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->path[i]);
    }
    free(list->path);
    *list = (path_list){0};
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_paths(path_list *list)
{
    if (list->count > 1) {
        qsort(list->path, list->count, sizeof *list->path, by_path);
    }
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

/* ---- tars ---- */

static bif_status list_names(const char *folder, const char *end, path_list *out)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return bif_fail_errno(errno, "cannot list the folder '%s'", folder);
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.' && ends_with(entry->d_name, end)) {
            add_path(out, bif_path_join(folder, entry->d_name));
        }
    }
    closedir(dir);
    sort_paths(out);
    return BIF_OK;
}

static char *statistics_path(const char *tar)
{
    return bif_format("%.*s_stats.json", (int)(strlen(tar) - strlen(".tar")), tar);
}

bif_status bif_pack_statistics(const char *tar, bool *there, int64_t *count, int64_t *successes)
{
    bif_status st = BIF_OK;
    json_t *value = NULL;
    char *path = ends_with(tar, ".tar") ? statistics_path(tar) : bif_strdup("");
    *there = bif_exists(path);
    if (*there) {
        BIF_TRY(bif_json_load_file(path, BIF_PACK_TEXT, &value));
        BIF_TRY(bif_json_i64(path, value, "count", true, count));
        BIF_TRY(bif_json_i64(path, value, "successes", true, successes));
        if (*count < 0 || *successes < 0 || *successes > *count) {
            st = bif_fail(BIF_ERR_DATA, "%s: %lld successes of %lld", path, (long long)*successes, (long long)*count);
        }
    }
done:
    json_decref(value);
    free(path);
    return st;
}

/* Statistics whose tar is gone: lines of unit -1. */
static bif_status lost_tars(bif_pack_plan *plan, const char *folder, bif_writer **errors, int64_t *odd)
{
    bif_status st = BIF_OK;
    path_list list = {0};
    BIF_TRY(list_names(folder, "_stats.json", &list));
    for (size_t i = 0; i < list.count; i++) {
        char *tar = bif_format("%.*s.tar", (int)(strlen(list.path[i]) - strlen("_stats.json")), list.path[i]);
        char *reason = bif_exists(tar) ? NULL : bif_format("the statistics are there, but '%s' is missing", bif_path_base(tar));
        if (reason != NULL) {
            char *path = bif_pack_unit_errors(plan, -1);
            st = *errors == NULL ? bif_writer_open(path, errors) : BIF_OK;
            free(path);
            bif_warn("%s: %s", list.path[i], reason);
            st = st == BIF_OK ? bif_pack_error_row(*errors, bif_path_base(list.path[i]), 0, 0, NULL, NULL, NULL, reason) : st;
            ++*odd;
        }
        free(reason);
        free(tar);
        if (st != BIF_OK) {
            goto done;
        }
    }
done:
    free_paths(&list);
    return st;
}

static bif_status list_tars(bif_pack_plan *plan, path_list *tars, int64_t *odd)
{
    bif_status st = BIF_OK;
    bif_writer *errors = NULL;
    const bif_pack_options *o = plan->options;
    for (int64_t i = -1; i < o->more_count; i++) {
        const char *path = i < 0 ? o->input : o->more[i];
        const size_t before = tars->count;
        if (!bif_is_folder(path)) {
            int fd = -1;
            BIF_TRY(bif_open_regular(path, &fd, NULL));
            close(fd);
            add_path(tars, bif_strdup(path));
            continue;
        }
        path_list list = {0};
        st = list_names(path, ".tar", &list);
        for (size_t k = 0; k < list.count; k++) {
            add_path(tars, list.path[k]);
        }
        free(list.path);
        if (st == BIF_OK && tars->count == before) {
            st = bif_fail(BIF_ERR_DATA, "the folder '%s' holds no tars (*.tar)", path);
        }
        BIF_TRY(st == BIF_OK ? lost_tars(plan, path, &errors, odd) : st);
    }
    path_list sorted = {.count = tars->count, .path = bif_malloc(tars->count * sizeof *sorted.path)};
    memcpy(sorted.path, tars->path, tars->count * sizeof *sorted.path);
    sort_paths(&sorted);
    for (size_t i = 1; i < sorted.count && st == BIF_OK; i++) {
        if (strcmp(sorted.path[i - 1], sorted.path[i]) == 0) {
            st = bif_fail(BIF_ERR_USAGE, "'%s' is named twice", sorted.path[i]);
        }
    }
    free(sorted.path);
    for (size_t i = 0; i < tars->count && !plan->statistics; i++) {
        char *path = ends_with(tars->path[i], ".tar") ? statistics_path(tars->path[i]) : bif_strdup("");
        plan->statistics = bif_exists(path);
        free(path);
    }
    if (st == BIF_OK && errors != NULL) {
        st = bif_writer_commit(errors);
        errors = NULL;
    }
done:
    bif_writer_abandon(errors);
    return st;
}

/* ---- a folder as a file of records ---- */

static bif_status walk(const char *root, const char *below, int depth, path_list *out)
{
    bif_status st = BIF_OK;
    char *path = below[0] == '\0' ? bif_strdup(root) : bif_path_join(root, below);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        st = bif_fail_errno(errno, "cannot list the folder '%s'", path);
        goto done;
    }
    for (struct dirent *entry; st == BIF_OK && (entry = readdir(dir)) != NULL;) {
        struct stat info;
        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        char *name = below[0] == '\0' ? bif_strdup(entry->d_name) : bif_path_join(below, entry->d_name);
        if (!S_ISDIR(info.st_mode)) {
            add_path(out, name);
            continue;
        }
        st = depth < DEPTH ? walk(root, name, depth + 1, out) : bif_fail(BIF_ERR_DATA, "'%s': folders are nested deeper than %d", path, DEPTH);
        free(name);
    }
done:
    if (dir != NULL) {
        closedir(dir);
    }
    free(path);
    return st;
}

static bool is_picture(const char *name)
{
    return ends_with(name, ".jpg") || ends_with(name, ".jpeg") || ends_with(name, ".png") || ends_with(name, ".webp");
}

/* The caption of a file, malloc'ed. BIF_ERR_DATA: it is no good one. */
static bif_status read_caption(int root, const char *root_name, const char *name, char **out)
{
    bif_status st = BIF_OK;
    int fd = -1;
    size_t size = 0, used = 0;
    char *text = NULL;
    BIF_TRY(bif_open_beneath(root, root_name, name, &fd, &size));
    if (size > BIF_PACK_TEXT) {
        st = bif_fail(BIF_ERR_DATA, "'%s' has %zu bytes; a caption has at most %zu", name, size, BIF_PACK_TEXT);
        goto done;
    }
    text = bif_malloc(size + 1);
    while (used < size) {
        size_t got = 0;
        BIF_TRY(bif_read_some(fd, name, text + used, size - used, &got));
        if (got == 0) {
            break;
        }
        used += got;
    }
    BIF_TRY(bif_pack_caption(name, text, used));
    *out = text;
    text = NULL;
done:
    free(text);
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

static json_t *listed(int root, const bif_pack_options *o, const path_list *list, const char *name, bool *used)
{
    const char *end = strrchr(name, '.');
    char *text_name = bif_format("%.*s.txt", (int)(end - name), name), *caption = NULL, *reason = NULL;
    char **found = bsearch(&text_name, list->path, list->count, sizeof *list->path, by_path);
    json_t *plain = json_string(name), *row = json_object();
    if (found != NULL) {
        used[found - list->path] = true;
    }
    if (plain == NULL) {
        reason = bif_strdup("the name is not valid UTF-8");
    } else if (found == NULL && !o->image_only) {
        reason = bif_format("there is no '%s' beside it", bif_path_base(text_name));
    } else if (found != NULL && read_caption(root, o->input, text_name, &caption) != BIF_OK) {
        reason = bif_strdup(bif_error_message());
    } else if (caption != NULL && caption[0] == '\0' && !o->image_only) {
        reason = bif_format("the caption in '%s' is empty", bif_path_base(text_name));
    }
    json_object_set_new(row, "id", bif_pack_string(name));
    json_object_set_new(row, "image", bif_pack_string(name));
    if (reason != NULL) {
        json_object_set_new(row, "reason", bif_pack_string(reason));
    } else {
        json_object_set_new(row, "caption", json_string(caption == NULL ? "" : caption));
    }
    json_decref(plain);
    free(reason);
    free(caption);
    free(text_name);
    return row;
}

static bif_status list_folder(bif_pack_plan *plan)
{
    bif_status st = BIF_OK;
    const bif_pack_options *o = plan->options;
    path_list list = {0};
    bif_writer *out = NULL;
    bool *used = NULL;
    const int root = open(o->input, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        BIF_TRY(bif_fail_errno(errno, "cannot open the folder '%s'", o->input));
    }
    BIF_TRY(walk(o->input, "", 0, &list));
    sort_paths(&list);
    used = bif_calloc(list.count, sizeof *used);
    BIF_TRY(bif_writer_open(plan->records, &out));
    for (int pass = 0; pass < 2; pass++) { /* texts without a picture come behind the pictures */
        for (size_t i = 0; i < list.count; i++) {
            json_t *row = NULL;
            if (pass == 0 && is_picture(list.path[i])) {
                row = listed(root, o, &list, list.path[i], used);
            } else if (pass == 1 && !used[i] && ends_with(list.path[i], ".txt")) {
                row = json_pack("{s:o,s:o,s:s}", "id", bif_pack_string(list.path[i]), "image", bif_pack_string(list.path[i]), "reason",
                                "there is no picture of this name beside it");
            }
            if (row != NULL) {
                char *line = json_dumps(row, JSON_COMPACT);
                st = bif_writer_write(out, line, strlen(line));
                st = st == BIF_OK ? bif_writer_write(out, "\n", 1) : st;
                free(line);
                json_decref(row);
                BIF_TRY(st);
            }
        }
    }
    st = bif_writer_commit(out);
    out = NULL;
done:
    bif_writer_abandon(out);
    if (root >= 0) {
        close(root);
    }
    free(used);
    free_paths(&list);
    return st;
}

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
        path_list list = {0};
        st = list_names(o->input, ".tar", &list);
        plan->kind = list.count > 0 ? BIF_PACK_WEBDATASET : BIF_PACK_FOLDER;
        free_paths(&list);
    } else if (plan->kind == BIF_PACK_AUTO) {
        plan->kind = ends_with(o->input, ".tar") ? BIF_PACK_WEBDATASET : BIF_PACK_RECORDS;
    }
    if (st == BIF_OK && plan->kind != BIF_PACK_WEBDATASET && o->more_count > 0) {
        st = bif_fail(BIF_ERR_USAGE, "'%s' and '%s': only tars may be several inputs", o->input, o->more[0]);
    }
    if (st == BIF_OK && plan->kind == BIF_PACK_RECORDS && o->image_only) {
        st = bif_fail(BIF_ERR_USAGE, "pictures without a text are taken from tars and folders; in a file of records they have the caption \"\"");
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
    path_list tars = {0};
    BIF_TRY(detect(plan));
    if (plan->kind == BIF_PACK_WEBDATASET) {
        BIF_TRY(list_tars(plan, &tars, odd));
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
        BIF_TRY(plan->kind == BIF_PACK_FOLDER ? list_folder(plan) : spool(plan->records));
    }
    BIF_TRY(cut_records(plan));
done:
    free_paths(&tars);
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
