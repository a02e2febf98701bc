#include "data/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/shard.h"

#define IMAGES_CAP 1024 /* images of one sample */

typedef struct {
    void *bytes;
    size_t size;
    bif_image_format format;
    int64_t width, height;
} picture;

typedef struct {
    const bif_pack_options *options;
    bif_pack_result *result;
    char *source, *staging, *errors_path, *first_reason; /* first_reason: of the bad records, NULL = there are none */
    int root; /* descriptor of the image root, -1 = none */
    bif_shard_writer *shard;
    bif_writer *errors;
    picture pictures[IMAGES_CAP]; /* of the record at hand */
    int64_t picture_count;
} pack;

bif_pack_options bif_pack_defaults(void)
{
    return (bif_pack_options){.max_shard_bytes = (int64_t)1 << 30, .max_image_bytes = (int64_t)64 << 20, .max_bad_share = 0.05};
}

static char *shard_name(const pack *p, const char *folder, int64_t number)
{
    return bif_format("%s/%s-%05lld.h5", folder, p->options->prefix, (long long)number);
}

/* ---- one record ---- */

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

static int64_t count_placeholders(const char *text)
{
    int64_t count = 0;
    for (const char *at = text; (at = strstr(at, "<image>")) != NULL; at += 7) {
        count++;
    }
    return count;
}

/* The turns with only the two keys we know; *out is a new list. */
static bif_status read_turns(const json_t *list, int64_t images, json_t **out)
{
    bif_status st = BIF_OK;
    json_t *turns = json_array();
    int64_t placeholders = 0, holders = 0;
    size_t i;
    const json_t *turn;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        st = bif_fail(BIF_ERR_DATA, "'conversations' must be a list of turns that is not empty");
        goto done;
    }
    json_array_foreach(list, i, turn) {
        const char *from = NULL, *value = NULL;
        char where[32];
        snprintf(where, sizeof where, "turn %zu", i + 1);
        BIF_TRY(bif_json_string(where, turn, "from", true, &from));
        BIF_TRY(bif_json_string(where, turn, "value", true, &value));
        const int64_t own = strcmp(from, "human") == 0 ? count_placeholders(value) : 0;
        placeholders += own;
        holders += own > 0;
        json_array_append_new(turns, json_pack("{s:s,s:s}", "from", from, "value", value));
    }
    if (placeholders != images && holders != images) { /* one picture a turn that names it more than once: LLaVA keeps one */
        st = bif_fail(BIF_ERR_DATA, "%lld <image> placeholders but %lld images", (long long)placeholders, (long long)images);
        goto done;
    }
    *out = turns;
    turns = NULL;
done:
    json_decref(turns);
    return st;
}

/* *text: what the shard stores, malloc'ed. */
static bif_status read_text(pack *p, const json_t *record, char **text, bool *image_only)
{
    bif_status st = BIF_OK;
    json_t *value = NULL, *turns = NULL;
    const char *caption = NULL;
    const json_t *list = json_object_get(record, "conversations");
    *image_only = false;
    if (list != NULL && !json_is_null(list)) {
        BIF_TRY(read_turns(list, p->picture_count, &turns));
        value = json_pack("{s:o}", "conversations", turns);
    } else {
        BIF_TRY(bif_json_string("the record", record, "caption", false, &caption));
        if (caption == NULL) {
            st = bif_fail(BIF_ERR_DATA, "there are neither 'conversations' nor a 'caption'");
            goto done;
        }
        *image_only = caption[0] == '\0' && p->picture_count > 0;
        if (!*image_only && is_blank(caption)) {
            st = bif_fail(BIF_ERR_DATA, "the caption is empty");
            goto done;
        }
        value = *image_only ? json_pack("{s:[]}", "conversations") : json_pack("{s:s}", "caption", caption);
    }
    *text = json_dumps(value, JSON_COMPACT);
done:
    json_decref(value);
    return st;
}

static bif_status read_picture(pack *p, const char *name, int64_t *total)
{
    bif_status st = BIF_OK;
    int fd = -1;
    size_t size = 0, used = 0;
    picture *one = &p->pictures[p->picture_count];
    if (p->root < 0) {
        return bif_fail(BIF_ERR_DATA, "it names the image '%s', but no image root was given", name);
    }
    BIF_TRY(bif_open_beneath(p->root, p->options->image_root, name, &fd, &size));
    *total += (int64_t)size;
    if (size == 0 || (int64_t)size > p->options->max_image_bytes || *total > p->options->max_shard_bytes) {
        st = bif_fail(BIF_ERR_DATA, "the image '%s' has %zu bytes; 1 to %lld are taken, and %lld in one record", name, size,
                      (long long)p->options->max_image_bytes, (long long)p->options->max_shard_bytes);
        goto done;
    }
    *one = (picture){.bytes = bif_malloc(size), .size = size};
    p->picture_count++; /* from here freed with the record */
    while (used < size) {
        size_t got = 0;
        BIF_TRY(bif_read_some(fd, name, (char *)one->bytes + used, size - used, &got));
        if (got == 0) {
            st = bif_fail(BIF_ERR_DATA, "the image '%s' became shorter while it was read", name);
            goto done;
        }
        used += got;
    }
    BIF_TRY(bif_image_probe(name, one->bytes, size, &p->options->image_limits, &one->format, &one->width, &one->height));
    if (one->width < 1 || one->height < 1 || one->width > UINT32_MAX || one->height > UINT32_MAX) {
        st = bif_fail(BIF_ERR_DATA, "the image '%s' has the size %lld x %lld", name, (long long)one->width, (long long)one->height);
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

static bif_status read_pictures(pack *p, const json_t *record)
{
    bif_status st = BIF_OK;
    const json_t *image = json_object_get(record, "image"), *name;
    int64_t total = 0;
    size_t i;
    if (image == NULL || json_is_null(image)) {
        return BIF_OK;
    }
    if (json_is_string(image)) {
        return read_picture(p, json_string_value(image), &total);
    }
    if (!json_is_array(image) || json_array_size(image) > IMAGES_CAP) {
        return bif_fail(BIF_ERR_DATA, "'image' must be a path or a list of at most %d paths", IMAGES_CAP);
    }
    json_array_foreach(image, i, name) {
        if (!json_is_string(name)) {
            return bif_fail(BIF_ERR_DATA, "'image' must be a path or a list of paths");
        }
        BIF_TRY(read_picture(p, json_string_value(name), &total));
    }
done:
    return st;
}

static void free_pictures(pack *p)
{
    while (p->picture_count > 0) {
        free(p->pictures[--p->picture_count].bytes);
    }
}

/* malloc'ed; "" when there is none. */
static bif_status read_id(const json_t *record, char **out)
{
    const json_t *id = json_object_get(record, "id");
    if (id == NULL || json_is_null(id)) {
        *out = bif_strdup("");
    } else if (json_is_string(id)) {
        *out = bif_strdup(json_string_value(id));
    } else if (json_is_integer(id)) {
        *out = bif_format("%lld", (long long)json_integer_value(id));
    } else {
        return bif_fail(BIF_ERR_DATA, "'id' must be a string or an integer");
    }
    return BIF_OK;
}

/* ---- shards ---- */

static bif_status close_shard(pack *p)
{
    if (p->shard == NULL) {
        return BIF_OK;
    }
    bif_shard_writer *shard = p->shard;
    p->shard = NULL;
    p->result->image_bytes += bif_shard_writer_bytes(shard);
    p->result->shards++;
    return bif_shard_writer_commit(shard);
}

/* Trouble here is never the record's fault: BIF_ERR_IO and the like stop the pack. */
static bif_status store(pack *p, const char *text, const char *id, bool image_only)
{
    bif_status st = BIF_OK;
    int64_t *numbers = bif_calloc((size_t)p->picture_count, sizeof *numbers), bytes = 0;
    for (int64_t i = 0; i < p->picture_count; i++) {
        bytes += (int64_t)p->pictures[i].size;
    }
    if (p->shard != NULL && (bif_shard_writer_bytes(p->shard) + bytes > p->options->max_shard_bytes ||
                             (p->options->max_samples > 0 && bif_shard_writer_samples(p->shard) >= p->options->max_samples))) {
        BIF_TRY(close_shard(p));
    }
    if (p->shard == NULL) {
        char *path = shard_name(p, p->staging, p->result->shards);
        st = bif_shard_writer_open(path, &p->shard);
        free(path);
        if (st != BIF_OK) {
            goto done;
        }
    }
    for (int64_t i = 0; i < p->picture_count; i++) {
        const picture *one = &p->pictures[i];
        int64_t before = bif_shard_writer_bytes(p->shard);
        BIF_TRY(bif_shard_add_image(p->shard, one->bytes, one->size, one->format, (uint32_t)one->width, (uint32_t)one->height,
                                    &numbers[i]));
        p->result->images += bif_shard_writer_bytes(p->shard) > before;
    }
    BIF_TRY(bif_shard_add_sample(p->shard, text, strlen(text), id, p->source, numbers, p->picture_count));
    p->result->samples++;
    p->result->text_only += p->picture_count == 0;
    p->result->image_only += image_only;
done:
    free(numbers);
    return st;
}

/* BIF_ERR_DATA: the record is bad. *stop: the failure is not the record's. */
static bif_status pack_record(pack *p, const json_t *record, char **id, bool *stop)
{
    bif_status st = BIF_OK;
    char *text = NULL;
    bool image_only = false;
    *stop = false;
    if (!json_is_object(record)) {
        return bif_fail(BIF_ERR_DATA, "a record must be an object");
    }
    BIF_TRY(read_id(record, id));
    BIF_TRY(read_pictures(p, record));
    BIF_TRY(read_text(p, record, &text, &image_only));
    *stop = true;
    BIF_TRY(store(p, text, *id, image_only));
done:
    free(text);
    free_pictures(p);
    return st;
}

static json_t *safe_string(const char *text)
{
    json_t *value = json_string(text);
    if (value == NULL) { /* not UTF-8: a file name, perhaps */
        char *copy = bif_strdup(text);
        for (char *c = copy; *c != '\0'; c++) {
            *c = (unsigned char)*c < 0x80 ? *c : '?';
        }
        value = json_string(copy);
        free(copy);
    }
    return value;
}

static bif_status report_bad(pack *p, const bif_record *record, const char *id)
{
    bif_status st = BIF_OK;
    json_t *row = json_pack("{s:I,s:I,s:o,s:o}", "record", (json_int_t)record->number, "line", (json_int_t)record->line, "id",
                            safe_string(id), "reason", safe_string(bif_error_message()));
    char *text = json_dumps(row, JSON_COMPACT);
    p->result->bad++;
    if (p->first_reason == NULL) {
        p->first_reason = bif_strdup(bif_error_message());
    }
    if (p->options->strict) {
        st = bif_fail_context(BIF_ERR_DATA, "%s: record %lld (line %lld) is bad and the pack is strict", p->options->input,
                              (long long)record->number, (long long)record->line);
        goto done;
    }
    if (p->errors == NULL) {
        BIF_TRY(bif_writer_open(p->errors_path, &p->errors));
    }
    BIF_TRY(bif_writer_write(p->errors, text, strlen(text)));
    BIF_TRY(bif_writer_write(p->errors, "\n", 1));
done:
    free(text);
    json_decref(row);
    return st;
}

static bif_status pack_all(pack *p, bif_records *records)
{
    bif_status st = BIF_OK;
    for (;;) {
        bif_record record = {0};
        bool more = false, stop = false;
        char *id = NULL;
        BIF_TRY(bif_records_next(records, &record, &more));
        if (!more) {
            break;
        }
        p->result->records++;
        st = record.value == NULL ? BIF_ERR_DATA : pack_record(p, record.value, &id, &stop);
        if (st == BIF_ERR_DATA && !stop) {
            st = report_bad(p, &record, id == NULL ? "" : id);
        }
        free(id);
        json_decref(record.value);
        if (st != BIF_OK) {
            goto done;
        }
        if (p->result->records % 1000 == 0) {
            bif_progress("packed %lld records, %lld shards", (long long)p->result->records, (long long)p->result->shards);
        }
    }
    BIF_TRY(close_shard(p));
done:
    return st;
}

/* ---- names ---- */

/* PREFIX-00000.h5 with any number: the number, else -1. */
static int64_t shard_number(const char *name, const char *prefix)
{
    size_t n = strlen(prefix), digits;
    if (strncmp(name, prefix, n) != 0 || name[n] != '-') {
        return -1;
    }
    digits = strspn(name + n + 1, "0123456789");
    return digits >= 5 && digits < 16 && strcmp(name + n + 1 + digits, ".h5") == 0 ? (int64_t)strtoll(name + n + 1, NULL, 10) : -1;
}

/* Looks for shards of this prefix numbered `from` or more; removes them, or fails at the first. */
static bif_status old_shards(const bif_pack_options *options, int64_t from, bool remove_them)
{
    bif_status st = BIF_OK;
    DIR *folder = opendir(options->out);
    if (folder == NULL) {
        return bif_fail_errno(errno, "cannot list the folder '%s'", options->out);
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL && st == BIF_OK;) {
        if (shard_number(entry->d_name, options->prefix) < from) {
            continue;
        }
        if (!remove_them) {
            st = bif_fail(BIF_ERR_USAGE, "'%s/%s' is there already; choose another folder or prefix, or --overwrite", options->out,
                          entry->d_name);
        } else if (unlinkat(dirfd(folder), entry->d_name, 0) != 0) {
            st = bif_fail_errno(errno, "cannot remove '%s/%s'", options->out, entry->d_name);
        }
    }
    closedir(folder);
    return st;
}

/* Removes the staging folders of this prefix whose pack was killed; one whose process lives stays. */
static bif_status sweep(const bif_pack_options *options)
{
    bif_status st = BIF_OK;
    char *start = bif_format(".%s-packing-", options->prefix);
    const size_t n = strlen(start);
    DIR *folder = opendir(options->out);
    if (folder == NULL) {
        BIF_TRY(bif_fail_errno(errno, "cannot list the folder '%s'", options->out));
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL && st == BIF_OK;) {
        const char *pid = entry->d_name + n;
        if (strncmp(entry->d_name, start, n) != 0 || *pid == '\0' || pid[strspn(pid, "0123456789")] != '\0') {
            continue;
        }
        const long process = strtol(pid, NULL, 10);
        if (process != (long)getpid() && process <= INT32_MAX && (kill((pid_t)process, 0) == 0 || errno != ESRCH)) {
            continue;
        }
        char *path = bif_path_join(options->out, entry->d_name);
        st = bif_remove_tree(path);
        free(path);
    }
    closedir(folder);
done:
    free(start);
    return st;
}

static bif_status publish(pack *p)
{
    bif_status st = BIF_OK;
    const bif_pack_options *o = p->options;
    double share = (double)p->result->bad / (double)(p->result->records > 0 ? p->result->records : 1);
    const char *see = p->result->bad > 0 ? p->errors_path : "the input";
    if (p->errors != NULL) { /* also when the pack fails: it says why */
        bif_writer *errors = p->errors;
        p->errors = NULL;
        BIF_TRY(bif_writer_commit(errors));
    } else if (unlink(p->errors_path) != 0 && errno != ENOENT) {
        st = bif_fail_errno(errno, "cannot remove the old '%s'", p->errors_path);
        goto done;
    }
    if (share > o->max_bad_share) {
        st = bif_fail(BIF_ERR_DATA, "%lld of %lld records of '%s' are bad (%.2f %%, at most %.2f %% are allowed); see '%s'; the first: %s",
                      (long long)p->result->bad, (long long)p->result->records, o->input, 100 * share, 100 * o->max_bad_share, see,
                      p->first_reason);
        goto done;
    }
    if (p->result->samples == 0) {
        st = bif_fail(BIF_ERR_DATA, "'%s' has no usable record (%lld records); see '%s'", o->input, (long long)p->result->records, see);
        goto done;
    }
    for (int64_t i = 0; i < p->result->shards; i++) {
        char *from = shard_name(p, p->staging, i), *to = shard_name(p, o->out, i);
        st = bif_rename(from, to);
        free(to);
        free(from);
        if (st != BIF_OK) {
            goto done;
        }
    }
    BIF_TRY(old_shards(o, p->result->shards, true)); /* of a longer earlier pack; without overwrite there are none */
    BIF_TRY(bif_fsync_dir(o->out));
done:
    return st;
}

static bif_status check_options(const bif_pack_options *o)
{
    if (o->prefix[0] == '\0' || o->prefix[0] == '.' || strchr(o->prefix, '/') != NULL) {
        return bif_fail(BIF_ERR_USAGE, "the prefix '%s' must be a plain file name that does not start with a dot", o->prefix);
    }
    if (o->max_shard_bytes < 1 || o->max_samples < 0 || o->max_image_bytes < 1 || !(o->max_bad_share >= 0 && o->max_bad_share <= 1)) {
        return bif_fail(BIF_ERR_USAGE, "limits must be positive, and the share of bad records between 0 and 1");
    }
    return BIF_OK;
}

bif_status bif_pack(const bif_pack_options *options, bif_pack_result *result)
{
    bif_status st = BIF_OK;
    bif_records *records = NULL;
    pack *p = bif_calloc(1, sizeof *p);
    *p = (pack){.options = options, .result = result, .root = -1};
    *result = (bif_pack_result){0};
    BIF_TRY(check_options(options));
    BIF_TRY(bif_records_open(options->input, options->format, &records));
    if (options->image_root != NULL) {
        p->root = open(options->image_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (p->root < 0) {
            st = bif_fail_errno(errno, "cannot open the image root '%s'", options->image_root);
            goto done;
        }
    }
    p->source = bif_strdup(options->source != NULL ? options->source : bif_path_base(options->input));
    p->errors_path = bif_format("%s/%s-errors.jsonl", options->out, options->prefix);
    BIF_TRY(bif_make_dirs(options->out));
    BIF_TRY(sweep(options));
    if (!options->overwrite) {
        BIF_TRY(old_shards(options, 0, false));
    }
    p->staging = bif_format("%s/.%s-packing-%ld", options->out, options->prefix, (long)getpid());
    BIF_TRY(bif_make_dirs(p->staging));
    BIF_TRY(pack_all(p, records));
    BIF_TRY(publish(p));
done:
    bif_shard_writer_abandon(p->shard);
    bif_writer_abandon(p->errors);
    bif_records_close(records);
    if (p->staging != NULL && st == BIF_OK) {
        st = bif_remove_tree(p->staging);
    } else if (p->staging != NULL) {
        char *why = bif_strdup(bif_error_message()); /* the first failure is the one to tell */
        (void)bif_remove_tree(p->staging);
        bif_fail(st, "%s", why);
        free(why);
    }
    if (p->root >= 0) {
        close(p->root);
    }
    free(p->staging);
    free(p->errors_path);
    free(p->first_reason);
    free(p->source);
    free(p);
    return st;
}
