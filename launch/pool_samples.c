#include "launch/pool_samples.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "data/text_measures.h"

void bif_pool_samples_close(bif_pool_samples *samples)
{
    bif_shard_close(samples->shard);
    samples->shard = NULL;
}

bif_status bif_pool_samples_at(bif_pool_samples *samples, int64_t sample, const bif_shard **shard, int64_t *local)
{
    const int64_t number = bif_pool_shard_of_sample(samples->pool, sample);
    if (samples->shard == NULL || samples->number != number) {
        bif_pool_samples_close(samples);
        const bif_status st = bif_pool_shard(samples->pool, number, &samples->shard);
        if (st != BIF_OK) {
            return st;
        }
        samples->number = number;
    }
    *shard = samples->shard;
    *local = sample - samples->pool->first_sample[number];
    return BIF_OK;
}

static json_t *text_json(const char *text, size_t size)
{
    char *spelled = bif_utf8_spelled(text, size);
    json_t *value = json_string(spelled);
    free(spelled);
    return value;
}

bif_status bif_pool_samples_json(bif_pool_samples *samples, int64_t sample, bool caption, json_t **out)
{
    bif_status st = BIF_OK;
    const bif_shard *shard = NULL;
    int64_t local = 0;
    bif_shard_sample record;
    uint64_t uid[2];
    char hex[33];
    BIF_TRY(bif_pool_samples_at(samples, sample, &shard, &local));
    BIF_TRY(bif_shard_get_sample(shard, local, &record));
    BIF_TRY(bif_sample_uid(shard, local, uid));
    snprintf(hex, sizeof hex, "%016" PRIx64 "%016" PRIx64, uid[0], uid[1]);
    *out = json_pack("{s:I, s:o, s:I, s:o, s:s}", "sample", (json_int_t)sample, "shard",
                     text_json(bif_path_base(bif_shard_path(shard)), strlen(bif_path_base(bif_shard_path(shard)))), "index", (json_int_t)local, "id",
                     text_json(record.id, record.id_size), "uid", hex);
    if (caption) {
        char *text = NULL;
        size_t size = 0;
        bif_sample_caption(&record, &text, &size);
        json_object_set_new(*out, "caption", text == NULL ? json_null() : text_json(text, size));
        free(text);
    }
done:
    return st;
}

bif_status bif_selection_open(const char *path, char **shards, int count, bif_pool *pool, bif_selection **out)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_pool_open((const char *const *)shards, (size_t)count, pool));
    if (path == NULL) {
        *out = bif_selection_new(pool);
        goto done;
    }
    BIF_TRY(bif_selection_read(path, out));
    BIF_TRY(bif_selection_check(*out, path, pool));
done:
    return st;
}

/* count [reasons][3]: dropped, repeated, kept once again after a step before repeated it. */
static void count_reasons(const bif_selection_step *step, int64_t (*count)[3])
{
    for (int64_t i = 0; i < step->count; i++) {
        const bif_drop *r = &step->records[i];
        count[r->reason][r->times == 0 ? 0 : r->times == 1 ? 2 : 1]++;
    }
}

json_t *bif_step_json(const bif_selection *selection, int64_t number)
{
    const bif_selection_step step = bif_selection_get(selection, number);
    int64_t(*count)[3] = bif_calloc((size_t)step.reasons + 1, sizeof *count);
    json_t *reasons = json_array();
    count_reasons(&step, count);
    for (int64_t r = 0; r < step.reasons; r++) {
        json_array_append_new(reasons, json_pack("{s:s, s:I, s:I, s:I}", "name", step.reason[r], "dropped", (json_int_t)count[r][0], "repeated",
                                                 (json_int_t)count[r][1], "once", (json_int_t)count[r][2]));
    }
    free(count);
    return json_pack("{s:s, s:O, s:I, s:I, s:o}", "verb", step.verb, "parameters", step.parameters, "before", (json_int_t)step.before, "after",
                     (json_int_t)step.after, "reasons", reasons);
}

void bif_step_print(const bif_selection *selection, int64_t number)
{
    const bif_selection_step step = bif_selection_get(selection, number);
    int64_t(*count)[3] = bif_calloc((size_t)step.reasons + 1, sizeof *count);
    char *parameters = json_dumps(step.parameters, JSON_COMPACT | JSON_SORT_KEYS);
    static const char *const what[] = {"dropped", "repeated", "once again"};
    count_reasons(&step, count);
    printf("step %" PRId64 ": %s %s\n  %-40s %12" PRId64 "\n", number + 1, step.verb, parameters, "before", step.before);
    for (int64_t r = 0; r < step.reasons; r++) {
        for (int k = 0; k < 3; k++) {
            if (count[r][k] > 0) {
                char *line = bif_format("%s: %s", what[k], step.reason[r]);
                printf("  %-40s %12" PRId64 "\n", line, count[r][k]);
                free(line);
            }
        }
    }
    printf("  %-40s %12" PRId64 "\n", "after", step.after);
    free(parameters);
    free(count);
}
