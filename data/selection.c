#include "data/selection.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

#define FILE_CAP ((size_t)64 << 30)
#define HEADER_CAP ((uint64_t)1 << 30)

static const char magic[8] = {'B', 'I', 'F', 'S', 'E', 'L', '0', '1'};
_Static_assert(sizeof(bif_drop) == 24, "a record of a selection has 24 bytes");

typedef struct {
    char *name, digest[33];
    int64_t samples;
} member;

typedef struct {
    char *verb;
    json_t *parameters;
    char **reason;
    int64_t *reason_records;
    int64_t reasons;
    bif_drop *records;
    int64_t count, before, after;
} step;

struct bif_selection {
    member *shard;
    int64_t shards, samples, kept;
    uint16_t *times; /* [samples] */
    step *steps;
    int64_t step_count;
};

/* ---- making ---- */

bif_selection *bif_selection_new(const bif_pool *pool)
{
    bif_selection *s = bif_calloc(1, sizeof *s);
    s->shards = pool->shards;
    s->shard = bif_calloc((size_t)pool->shards, sizeof *s->shard);
    for (int64_t i = 0; i < pool->shards; i++) {
        const char *name = bif_path_base(pool->path[i]);
        s->shard[i].name = bif_utf8_spelled(name, strlen(name));
        memcpy(s->shard[i].digest, pool->digest[i], sizeof s->shard[i].digest);
        s->shard[i].samples = pool->first_sample[i + 1] - pool->first_sample[i];
    }
    s->samples = s->kept = pool->samples;
    s->times = bif_malloc((size_t)s->samples * sizeof *s->times);
    for (int64_t i = 0; i < s->samples; i++) {
        s->times[i] = 1;
    }
    return s;
}

static void free_step(step *t)
{
    for (int64_t r = 0; t->reason != NULL && r < t->reasons; r++) {
        free(t->reason[r]);
    }
    free(t->reason);
    free(t->reason_records);
    free(t->records);
    free(t->verb);
    json_decref(t->parameters);
}

void bif_selection_free(bif_selection *s)
{
    if (s == NULL) {
        return;
    }
    for (int64_t i = 0; s->shard != NULL && i < s->shards; i++) {
        free(s->shard[i].name);
    }
    for (int64_t i = 0; i < s->step_count; i++) {
        free_step(&s->steps[i]);
    }
    free(s->shard);
    free(s->steps);
    free(s->times);
    free(s);
}

/* Does to `times` what the records say. NULL, or what is wrong with the record at *bad. */
static const char *apply(bif_selection *s, step *t, int64_t *bad)
{
    t->before = s->kept;
    memset(t->reason_records, 0, (size_t)t->reasons * sizeof *t->reason_records);
    for (int64_t i = 0; i < t->count; i++) {
        const bif_drop *r = &t->records[i];
        *bad = i;
        if (r->sample >= (uint64_t)s->samples || (r->other >= (uint64_t)s->samples && r->other != BIF_NO_SAMPLE)) {
            return "it names a sample that does not exist";
        }
        if (i > 0 && r->sample <= r[-1].sample) {
            return "records do not rise by sample";
        }
        if (r->reason >= t->reasons) {
            return "it has a reason that the step does not have";
        }
        if (s->times[r->sample] == 0) {
            return "its sample was dropped before";
        }
        s->kept += (int64_t)r->times - s->times[r->sample];
        s->times[r->sample] = r->times;
        t->reason_records[r->reason]++;
    }
    t->after = s->kept;
    return NULL;
}

static step *add_step(bif_selection *s, const char *verb, json_t *parameters, int64_t reasons, int64_t count)
{
    s->steps = bif_realloc(s->steps, (size_t)s->step_count + 1, sizeof *s->steps);
    step *t = &s->steps[s->step_count++];
    *t = (step){.verb = bif_strdup(verb), .parameters = parameters, .reasons = reasons, .count = count};
    t->reason = bif_calloc((size_t)reasons + 1, sizeof *t->reason);
    t->reason_records = bif_calloc((size_t)reasons + 1, sizeof *t->reason_records);
    return t;
}

void bif_selection_add(bif_selection *s, const char *verb, const json_t *parameters, const char *const *reason, int64_t reasons,
                       const bif_drop *records, int64_t count)
{
    int64_t bad = 0;
    BIF_BUG_IF(!json_is_object(parameters) || reasons < 0 || reasons > UINT16_MAX, "a step's parameters or reasons");
    step *t = add_step(s, verb, json_deep_copy(parameters), reasons, count);
    for (int64_t r = 0; r < reasons; r++) {
        t->reason[r] = bif_utf8_spelled(reason[r], strlen(reason[r])); /* it may hold names out of shards */
    }
    t->records = bif_malloc((size_t)count * sizeof *records + 1);
    if (count > 0) {
        memcpy(t->records, records, (size_t)count * sizeof *records);
    }
    const char *wrong = apply(s, t, &bad);
    BIF_BUG_IF(wrong != NULL, "record %" PRId64 " of a step '%s': %s", bad, verb, wrong);
}

bif_status bif_selection_undo(bif_selection *s, int64_t steps)
{
    int64_t bad = 0;
    if (steps < 0 || steps > s->step_count) {
        return bif_fail(BIF_ERR_USAGE, "%" PRId64 " steps cannot be undone; the selection has %" PRId64, steps, s->step_count);
    }
    for (int64_t i = 0; i < steps; i++) {
        free_step(&s->steps[--s->step_count]);
    }
    s->kept = s->samples;
    for (int64_t i = 0; i < s->samples; i++) {
        s->times[i] = 1;
    }
    for (int64_t i = 0; i < s->step_count; i++) {
        BIF_BUG_IF(apply(s, &s->steps[i], &bad) != NULL, "step %" PRId64 " of a selection", i);
    }
    return BIF_OK;
}

/* ---- the file ---- */

static json_t *header_of(const bif_selection *s)
{
    json_t *shards = json_array(), *steps = json_array();
    for (int64_t i = 0; i < s->shards; i++) {
        json_array_append_new(shards, json_pack("{s:s, s:s, s:I}", "digest", s->shard[i].digest, "name", s->shard[i].name, "samples",
                                                (json_int_t)s->shard[i].samples));
    }
    for (int64_t i = 0; i < s->step_count; i++) {
        const step *t = &s->steps[i];
        json_t *reasons = json_array();
        char hex[33];
        for (int64_t r = 0; r < t->reasons; r++) {
            json_array_append_new(reasons, json_pack("{s:s, s:I}", "name", t->reason[r], "records", (json_int_t)t->reason_records[r]));
        }
        bif_digest_bytes(t->records, (size_t)t->count * sizeof *t->records, hex);
        json_array_append_new(steps, json_pack("{s:s, s:O, s:I, s:I, s:o, s:I, s:s}", "verb", t->verb, "parameters", t->parameters, "before",
                                               (json_int_t)t->before, "after", (json_int_t)t->after, "reasons", reasons, "records",
                                               (json_int_t)t->count, "xxh3", hex));
    }
    return json_pack("{s:s, s:i, s:I, s:I, s:o, s:o}", "format", "bifocal-selection", "version", 1, "samples",
                     (json_int_t)s->samples, "kept", (json_int_t)s->kept, "shards", shards, "steps", steps);
}

bif_status bif_selection_write(const bif_selection *s, const char *path)
{
    bif_status st = BIF_OK;
    static const char zeros[64];
    bif_writer *writer = NULL;
    json_t *header = header_of(s);
    BIF_BUG_IF(header == NULL, "the header of a selection");
    char *text = json_dumps(header, JSON_INDENT(1) | JSON_SORT_KEYS);
    const uint64_t length = strlen(text);
    BIF_TRY(bif_writer_open(path, &writer));
    BIF_TRY(bif_writer_write(writer, magic, sizeof magic));
    BIF_TRY(bif_writer_write(writer, &length, sizeof length));
    BIF_TRY(bif_writer_write(writer, text, length));
    BIF_TRY(bif_writer_write(writer, zeros, (64 - (16 + length) % 64) % 64));
    for (int64_t i = 0; i < s->step_count; i++) {
        BIF_TRY(bif_writer_write(writer, s->steps[i].records, (size_t)s->steps[i].count * sizeof(bif_drop)));
    }
    bif_writer *finished = writer;
    writer = NULL;
    BIF_TRY(bif_writer_commit(finished));
    if (bif_selection_kept(s) == 0) {
        bif_warn("%s keeps no sample", path);
    }
done:
    bif_writer_abandon(writer);
    free(text);
    json_decref(header);
    return st;
}

static bif_status read_shards(bif_selection *s, const char *path, const json_t *header)
{
    bif_status st = BIF_OK;
    const json_t *shards = json_object_get(header, "shards");
    int64_t total = 0;
    if (!json_is_array(shards) || json_array_size(shards) == 0) {
        return bif_fail(BIF_ERR_DATA, "%s: the header has no list 'shards'", path);
    }
    s->shards = (int64_t)json_array_size(shards);
    s->shard = bif_calloc((size_t)s->shards, sizeof *s->shard);
    for (int64_t i = 0; i < s->shards; i++) {
        const json_t *value = json_array_get(shards, (size_t)i);
        const char *digest = NULL, *name = NULL;
        member *m = &s->shard[i];
        BIF_TRY(bif_json_string(path, value, "digest", true, &digest));
        BIF_TRY(bif_json_string(path, value, "name", true, &name));
        BIF_TRY(bif_json_i64(path, value, "samples", true, &m->samples));
        if (strlen(digest) != 32 || strspn(digest, "0123456789abcdef") != 32 || m->samples < 1 || m->samples > UINT32_MAX ||
            (i > 0 && strcmp(digest, m[-1].digest) <= 0)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: shard %" PRId64 " of the header has a wrong digest or count, or is out of order", path, i));
        }
        memcpy(m->digest, digest, sizeof m->digest);
        m->name = bif_strdup(name);
        total += m->samples;
    }
    BIF_TRY(bif_json_i64(path, header, "samples", true, &s->samples));
    if (s->samples != total || total > UINT32_MAX) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the header counts %" PRId64 " samples, its shards have %" PRId64, path, s->samples, total));
    }
    s->kept = s->samples;
    s->times = bif_malloc((size_t)s->samples * sizeof *s->times);
    for (int64_t i = 0; i < s->samples; i++) {
        s->times[i] = 1;
    }
done:
    return st;
}

/* *records points to what is left of the file; moves behind those of this step. */
static bif_status read_step(bif_selection *s, const char *path, const json_t *value, const char **records, size_t *left)
{
    bif_status st = BIF_OK;
    const char *verb = NULL, *digest = NULL;
    const json_t *parameters = json_object_get(value, "parameters"), *reasons = json_object_get(value, "reasons");
    int64_t count = 0, before = 0, after = 0, bad = 0;
    char hex[33];
    BIF_TRY(bif_json_string(path, value, "verb", true, &verb));
    BIF_TRY(bif_json_string(path, value, "xxh3", true, &digest));
    BIF_TRY(bif_json_i64(path, value, "records", true, &count));
    BIF_TRY(bif_json_i64(path, value, "before", true, &before));
    BIF_TRY(bif_json_i64(path, value, "after", true, &after));
    if (!json_is_object(parameters) || !json_is_array(reasons) || json_array_size(reasons) > UINT16_MAX) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a step of the header has no parameters or reasons", path));
    }
    if (count < 0 || (uint64_t)count > *left / sizeof(bif_drop)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the step '%s' has %" PRId64 " records, the file ends before; it is cut short", path, verb, count));
    }
    const size_t bytes = (size_t)count * sizeof(bif_drop);
    step *t = add_step(s, verb, json_deep_copy(parameters), (int64_t)json_array_size(reasons), count);
    for (int64_t r = 0; r < t->reasons; r++) {
        const char *name = NULL;
        BIF_TRY(bif_json_string(path, json_array_get(reasons, (size_t)r), "name", true, &name));
        t->reason[r] = bif_strdup(name);
    }
    t->records = bif_malloc(bytes + 1);
    memcpy(t->records, *records, bytes);
    *records += bytes;
    *left -= bytes;
    bif_digest_bytes(t->records, bytes, hex);
    if (strcmp(hex, digest) != 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the records of the step '%s' do not match their digest; the file is damaged", path, verb));
    }
    const char *wrong = apply(s, t, &bad);
    if (wrong != NULL || t->before != before || t->after != after) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the step '%s', record %" PRId64 ": %s", path, verb, bad,
                         wrong != NULL ? wrong : "counts before and after do not agree with the records"));
    }
done:
    return st;
}

bif_status bif_selection_read(const char *path, bif_selection **out)
{
    bif_status st = BIF_OK;
    bif_selection *s = bif_calloc(1, sizeof *s);
    char *data = NULL;
    const char *format = NULL;
    size_t size = 0;
    uint64_t length = 0;
    int64_t version = 0;
    json_t *header = NULL;
    *out = NULL;
    BIF_TRY(bif_file_read(path, FILE_CAP, &data, &size));
    if (size < 16 || memcmp(data, magic, sizeof magic) != 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: not a selection (bifocal data dedup, prune, balance and others write them)", path));
    }
    memcpy(&length, data + 8, 8);
    if (length > HEADER_CAP || length > size - 16) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: its header of %" PRIu64 " bytes does not fit the file; it is cut short", path, length));
    }
    BIF_TRY(bif_json_parse(path, data + 16, (size_t)length, &header));
    BIF_TRY(bif_json_string(path, header, "format", true, &format));
    BIF_TRY(bif_json_i64(path, header, "version", true, &version));
    if (strcmp(format, "bifocal-selection") != 0 || version != 1) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: format '%s' version %" PRId64 " is not 'bifocal-selection' version 1", path, format, version));
    }
    BIF_TRY(read_shards(s, path, header));
    const size_t at = (16 + (size_t)length + 63) / 64 * 64;
    const json_t *steps = json_object_get(header, "steps");
    if (at > size || !json_is_array(steps)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the header has no list 'steps', or the file is cut short", path));
    }
    const char *records = data + at;
    size_t left = size - at;
    for (size_t i = 0; i < json_array_size(steps); i++) {
        BIF_TRY(read_step(s, path, json_array_get(steps, i), &records, &left));
    }
    int64_t kept = 0;
    BIF_TRY(bif_json_i64(path, header, "kept", true, &kept));
    if (kept != s->kept) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the header counts %" PRId64 " kept samples, its steps leave %" PRId64, path, kept, s->kept));
    }
    if (left != 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %zu bytes behind the last record", path, left));
    }
    *out = s;
    s = NULL;
done:
    bif_selection_free(s);
    json_decref(header);
    free(data);
    return st;
}

bif_status bif_selection_check(const bif_selection *s, const char *path, const bif_pool *pool)
{
    for (int64_t i = 0, j = 0; i < s->shards || j < pool->shards;) {
        const int order = i == s->shards ? 1 : j == pool->shards ? -1 : strcmp(s->shard[i].digest, pool->digest[j]);
        if (order < 0) {
            return bif_fail(BIF_ERR_DATA, "%s was made with the shard %s (%s) of %" PRId64 " samples, which is not among the shards that are named", path,
                            s->shard[i].name, s->shard[i].digest, s->shard[i].samples);
        }
        if (order > 0) {
            return bif_fail(BIF_ERR_DATA, "%s was made without the shard '%s' (%s); name only the shards that it was made of", path, pool->path[j],
                            pool->digest[j]);
        }
        if (s->shard[i].samples != pool->first_sample[j + 1] - pool->first_sample[j]) {
            return bif_fail(BIF_ERR_DATA, "%s says that the shard '%s' has %" PRId64 " samples; it has %" PRId64, path, pool->path[j],
                            s->shard[i].samples, pool->first_sample[j + 1] - pool->first_sample[j]);
        }
        i++;
        j++;
    }
    return BIF_OK;
}

/* ---- looking ---- */

int64_t bif_selection_samples(const bif_selection *s)
{
    return s->samples;
}

int64_t bif_selection_kept(const bif_selection *s)
{
    return s->kept;
}

const uint16_t *bif_selection_times(const bif_selection *s)
{
    return s->times;
}

int64_t bif_selection_steps(const bif_selection *s)
{
    return s->step_count;
}

bif_selection_step bif_selection_get(const bif_selection *s, int64_t number)
{
    const step *t = &s->steps[number];
    return (bif_selection_step){.verb = t->verb,
                                .parameters = t->parameters,
                                .reason = (const char *const *)t->reason,
                                .reason_records = t->reason_records,
                                .reasons = t->reasons,
                                .before = t->before,
                                .after = t->after,
                                .records = t->records,
                                .count = t->count};
}

const bif_drop *bif_selection_find(const bif_selection *s, int64_t number, int64_t sample)
{
    const step *t = &s->steps[number];
    int64_t low = 0, high = t->count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (t->records[middle].sample < (uint64_t)sample) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < t->count && t->records[low].sample == (uint64_t)sample ? &t->records[low] : NULL;
}

char *bif_selection_digest(const bif_selection *s, char hex[33])
{
    bif_digest *digest = bif_digest_new();
    for (int64_t i = 0; i < s->shards; i++) {
        bif_digest_update(digest, s->shard[i].digest, 32);
    }
    bif_digest_update(digest, s->times, (size_t)s->samples * sizeof *s->times);
    bif_digest_finish(digest, hex);
    return hex;
}

int64_t bif_selection_shards(const bif_selection *s)
{
    return s->shards;
}

const char *bif_selection_shard(const bif_selection *s, int64_t shard, const char **digest, int64_t *samples)
{
    if (digest != NULL) {
        *digest = s->shard[shard].digest;
    }
    if (samples != NULL) {
        *samples = s->shard[shard].samples;
    }
    return s->shard[shard].name;
}
