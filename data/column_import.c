#include "data/column_import.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/half.h"
#include "data/npy.h"
#include "data/pool.h"
#include "data/records.h"

/* ---- numbers by name ---- */

/* A line of the file: its sample as XXH3-128 of the id, or the uid, and what it says of it. */
typedef struct {
    uint64_t key[2];
    bool uid, used;
    float value;
} entry;

typedef struct {
    entry *slot; /* [room], a power of two; empty where key and uid are zero */
    int64_t room, count, uids;
} table;

static bool is_empty(const entry *e)
{
    return e->key[0] == 0 && e->key[1] == 0 && !e->uid;
}

static entry *find(const table *t, const uint64_t key[2], bool uid)
{
    int64_t at = (int64_t)((key[1] ^ (uid ? 0x9E3779B97F4A7C15u : 0)) & (uint64_t)(t->room - 1));
    while (!is_empty(&t->slot[at]) && (t->slot[at].key[0] != key[0] || t->slot[at].key[1] != key[1] || t->slot[at].uid != uid)) {
        at = (at + 1) & (t->room - 1);
    }
    return &t->slot[at];
}

static bif_status grow(table *t, int64_t memory)
{
    if (t->room > 0 && t->count < t->room / 2) {
        return BIF_OK;
    }
    table wider = {.room = t->room > 0 ? 2 * t->room : 1024, .count = t->count, .uids = t->uids};
    const int64_t needed = (wider.room + t->room) * (int64_t)sizeof(entry);
    if (needed > memory) {
        return bif_fail(BIF_ERR_MEMORY,
                        "import: more than %" PRId64 " lines need %" PRId64 " MiB, the budget is %" PRId64
                        " MiB; give a larger --memory-mib",
                        t->count, (needed >> 20) + 1, memory >> 20);
    }
    wider.slot = bif_calloc((size_t)wider.room, sizeof *wider.slot);
    for (int64_t i = 0; i < t->room; i++) {
        if (!is_empty(&t->slot[i])) {
            *find(&wider, t->slot[i].key, t->slot[i].uid) = t->slot[i];
        }
    }
    free(t->slot);
    *t = wider;
    return BIF_OK;
}

static void key_of_id(const char *id, size_t size, uint64_t key[2])
{
    const XXH128_hash_t hash = XXH3_128bits(id, size);
    key[0] = hash.high64;
    key[1] = hash.low64;
}

static bool read_uid(const char *text, uint64_t uid[2])
{
    if (strlen(text) != 32 || strspn(text, "0123456789abcdefABCDEF") != 32) {
        return false;
    }
    char half[17] = {0};
    memcpy(half, text, 16);
    uid[0] = strtoull(half, NULL, 16);
    uid[1] = strtoull(text + 16, NULL, 16);
    return true;
}

static bif_status add_line(table *t, const bif_column_import_options *o, const bif_record *record)
{
    bif_status st = BIF_OK;
    const json_t *uid = json_object_get(record->value, "uid"), *id = json_object_get(record->value, "id"),
                 *value = json_object_get(record->value, o->key);
    entry e = {.uid = uid != NULL, .value = json_is_number(value) ? (float)json_number_value(value) : NAN};
    if (uid != NULL) {
        if (!json_is_string(uid) || !read_uid(json_string_value(uid), e.key)) {
            return bif_fail(BIF_ERR_DATA, "%s:%" PRId64 ": \"uid\" is not 32 hex digits", o->scores, record->line);
        }
        t->uids++;
    } else if (json_is_string(id)) {
        key_of_id(json_string_value(id), json_string_length(id), e.key);
    } else if (json_is_integer(id)) {
        char text[32];
        key_of_id(text, (size_t)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(id)), e.key);
    } else {
        return bif_fail(BIF_ERR_DATA, "%s:%" PRId64 ": has neither \"id\" nor \"uid\"", o->scores, record->line);
    }
    if (!json_is_number(value) && !json_is_null(value)) {
        return bif_fail(BIF_ERR_DATA, "%s:%" PRId64 ": has no number \"%s\"", o->scores, record->line, o->key);
    }
    if (json_is_number(value) && !isfinite(e.value)) { /* as infinity it would count as more than all numbers, or as none */
        return bif_fail(BIF_ERR_DATA, "%s:%" PRId64 ": %g is more than a column of f32 holds (3.4e38)", o->scores, record->line,
                        json_number_value(value));
    }
    BIF_TRY(grow(t, o->memory));
    entry *slot = find(t, e.key, e.uid);
    if (!is_empty(slot)) {
        if (slot->value != e.value && !(isnan(slot->value) && isnan(e.value))) {
            BIF_TRY(
                bif_fail(BIF_ERR_DATA, "%s:%" PRId64 ": a second number for a sample that an earlier line names", o->scores, record->line));
        }
        goto done;
    }
    *slot = e;
    t->count++;
done:
    return st;
}

static bif_status read_lines(table *t, const bif_column_import_options *o, bif_column_import_result *out)
{
    bif_status st = BIF_OK;
    bif_records *records = NULL;
    bif_record record = {0};
    bool more = true;
    BIF_TRY(grow(t, o->memory));
    BIF_TRY(bif_records_open(o->scores, BIF_RECORDS_JSONL, &records));
    while ((st = bif_records_next(records, &record, &more)) == BIF_OK && more) {
        out->lines++;
        if (record.value == NULL) {
            BIF_TRY(bif_fail_context(BIF_ERR_DATA, "%s:%" PRId64, o->scores, record.line));
        }
        BIF_TRY(add_line(t, o, &record));
        json_decref(record.value);
        record.value = NULL;
    }
done:
    json_decref(record.value);
    bif_records_close(records);
    return st;
}

static bif_status number_of(const table *t, const bif_shard *shard, int64_t row, float *out)
{
    bif_status st = BIF_OK;
    bif_shard_sample sample;
    uint64_t key[2];
    entry *found = NULL;
    BIF_TRY(bif_shard_get_sample(shard, row, &sample));
    key_of_id(sample.id, sample.id_size, key);
    found = find(t, key, false);
    if (is_empty(found) && t->uids > 0) {
        BIF_TRY(bif_sample_uid(shard, row, key));
        found = find(t, key, true);
    }
    *out = is_empty(found) ? NAN : found->value;
    found->used = !is_empty(found);
done:
    return st;
}

/* ---- numbers in order ---- */

static float element(const bif_npy *npy, const char *data, int64_t at)
{
    const char *from = data + npy->at + (size_t)at * npy->item;
    union {
        float f4;
        double f8;
        uint16_t f2;
        uint8_t bytes[8];
    } u;
    memcpy(u.bytes, from, npy->item);
    return npy->item == 2 ? bif_from_f16(u.f2) : npy->item == 4 ? u.f4 : (float)u.f8;
}

static bif_status check_npy(const char *path, const bif_npy *npy, int64_t rows, const char *of)
{
    if (strcmp(npy->type, "<f2") != 0 && strcmp(npy->type, "<f4") != 0 && strcmp(npy->type, "<f8") != 0) {
        return bif_fail(BIF_ERR_DATA, "%s: holds %s; floating numbers are wanted (astype('f4'))", path, npy->type);
    }
    if (npy->dims > 1 && npy->count != npy->shape[0]) {
        return bif_fail(BIF_ERR_DATA, "%s: has rows of %" PRId64 " numbers; one a row is wanted", path,
                        npy->shape[0] > 0 ? npy->count / npy->shape[0] : 0);
    }
    if (npy->count != rows) {
        return bif_fail(BIF_ERR_DATA, "%s: holds %" PRId64 " numbers, the shards have %" PRId64 " %s", path, npy->count, rows, of);
    }
    return BIF_OK;
}

/* ---- all of it ---- */

typedef struct {
    const bif_column_import_options *options;
    bif_column_import_result *out;
    table lines;
    char *file; /* a whole .npy, or NULL */
    bif_npy npy;
    char *method;
    bool write; /* second round */
    int64_t at; /* rows of the shards before */
} job;

static int64_t rows_of(const bif_shard *shard, bif_column_of of)
{
    return of == BIF_COLUMN_OF_IMAGE ? bif_shard_images(shard) : bif_shard_samples(shard);
}

/* May the column be written? */
static bif_status may_write(const job *j, const bif_shard *shard)
{
    bif_column *column = NULL;
    const bif_column_import_options *o = j->options;
    bif_status st = bif_column_open(shard, o->name, &column);
    if (st == BIF_OK && column != NULL && strcmp(bif_column_describe(column)->method, j->method) != 0 && !o->overwrite) {
        st = bif_fail(BIF_ERR_DATA, "%s: its column %s was made in another way (\"%s\"); give another name, or --overwrite",
                      bif_shard_path(shard), o->name, bif_column_describe(column)->method);
    } else if (st == BIF_ERR_DATA && o->overwrite) { /* damaged, or of another shard */
        bif_error_clear();
        st = BIF_OK;
    }
    bif_column_close(column);
    return st;
}

static bif_status each_shard(void *context, const char *path)
{
    bif_status st = BIF_OK;
    job *j = context;
    bif_shard *shard = NULL;
    float *value = NULL;
    BIF_TRY(bif_shard_open(path, &shard));
    const int64_t rows = rows_of(shard, j->options->of);
    if (!j->write) {
        BIF_TRY(may_write(j, shard));
    }
    value = bif_malloc(((size_t)rows + 1) * sizeof *value);
    for (int64_t i = 0; i < rows && (j->file == NULL || j->write); i++) {
        if (j->file != NULL) {
            value[i] = element(&j->npy, j->file, j->at + i);
        } else {
            BIF_TRY(number_of(&j->lines, shard, i, &value[i]));
        }
        j->out->matched += j->write && !isnan(value[i]);
    }
    j->at += rows;
    if (j->write) {
        const bif_column_info info = {j->options->name, j->method, j->options->of, BIF_COLUMN_F32, rows, 1};
        BIF_TRY(bif_column_write(shard, &info, value));
    }
done:
    free(value);
    bif_shard_close(shard);
    return st;
}

static bif_status every_shard(job *j, const char *const *shards, size_t count, bool write)
{
    bif_status st = BIF_OK;
    j->write = write;
    j->at = 0;
    for (size_t i = 0; i < count; i++) {
        BIF_TRY(bif_shard_each(shards[i], each_shard, j));
    }
done:
    return st;
}

bif_status bif_column_import(const char *const *shards, size_t count, const bif_column_import_options *o, bif_column_import_result *out)
{
    bif_status st = BIF_OK;
    job j = {.options = o, .out = out};
    char digest[33];
    uint64_t size = 0;
    size_t read = 0;
    const size_t length = strlen(o->scores);
    const bool npy = length > 4 && strcmp(o->scores + length - 4, ".npy") == 0;
    *out = (bif_column_import_result){0};
    BIF_TRY(bif_digest_file(o->scores, digest, &size));
    j.method = npy ? bif_format("import 1; file %s", digest) : bif_format("import 1; file %s, key \"%s\"", digest, o->key);
    if (npy) {
        BIF_TRY((int64_t)size <= o->memory
                    ? BIF_OK
                    : bif_fail(BIF_ERR_MEMORY, "%s: has %" PRIu64 " MiB, the budget is %" PRId64 " MiB; give a larger --memory-mib",
                               o->scores, (size >> 20) + 1, o->memory >> 20));
        BIF_TRY(bif_file_read(o->scores, (size_t)o->memory, &j.file, &read));
        BIF_TRY(bif_npy_read(o->scores, j.file, read, &j.npy));
    } else {
        if (o->of == BIF_COLUMN_OF_IMAGE) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "import: JSON lines name samples; numbers of images come as a .npy"));
        }
        BIF_TRY(read_lines(&j.lines, o, out));
    }
    BIF_TRY(every_shard(&j, shards, count, false));
    out->rows = j.at;
    if (npy) {
        BIF_TRY(check_npy(o->scores, &j.npy, out->rows, o->of == BIF_COLUMN_OF_IMAGE ? "images" : "samples"));
    } else {
        out->unused = j.lines.count;
        for (int64_t i = 0; i < j.lines.room; i++) {
            out->unused -= j.lines.slot[i].used;
        }
        if (out->unused == j.lines.count) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: none of its %" PRId64 " lines names a sample of the shards", o->scores, out->lines));
        }
    }
    BIF_TRY(every_shard(&j, shards, count, true));
done:
    free(j.lines.slot);
    free(j.file);
    free(j.method);
    return st;
}
