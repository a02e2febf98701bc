/* bifocal data why: what every step of a selection decided about a sample. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/pool_samples.h"

static const char help[] =
    "usage: bifocal data why [--json] SEL ID SHARD...\n\n"
    "What every step of a selection decided about a sample: kept, repeated, or dropped, for which reason, by what measure, and on account of which\n"
    "other sample. The shards are those that the selection was made of.\n"
    "ID is the sample's id, its uid (32 hex digits), its number in the pool as #N (shards counted by their digests, as other verbs print it), or\n"
    "SHARD:INDEX with the name of a shard's file. All samples that match are told.\n\n"
    "  --json   as one JSON array\n";

static bool number_of(const char *text, int64_t *out)
{
    const size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 18 || text[digits] != '\0') {
        return false;
    }
    *out = strtoll(text, NULL, 10);
    return true;
}

static bool uid_of(const char *text, uint64_t uid[2])
{
    char half[17] = {0};
    if (strlen(text) != 32 || strspn(text, "0123456789abcdefABCDEF") != 32) {
        return false;
    }
    memcpy(half, text, 16);
    uid[0] = strtoull(half, NULL, 16);
    uid[1] = strtoull(text + 16, NULL, 16);
    return true;
}

typedef struct {
    int64_t *sample;
    size_t count;
} found;

static void add(found *f, int64_t sample)
{
    f->sample = bif_realloc(f->sample, f->count + 1, sizeof *f->sample);
    f->sample[f->count++] = sample;
}

/* "SHARD:INDEX", where a shard of the pool has that name or path. */
static void find_place(const bif_pool *pool, const char *name, found *out)
{
    const char *colon = strrchr(name, ':');
    int64_t index = 0;
    if (colon == NULL || !number_of(colon + 1, &index)) {
        return;
    }
    const size_t length = (size_t)(colon - name);
    for (int64_t s = 0; s < pool->shards; s++) {
        const char *base = bif_path_base(pool->path[s]);
        const bool same = (strlen(base) == length && strncmp(base, name, length) == 0) ||
                          (strlen(pool->path[s]) == length && strncmp(pool->path[s], name, length) == 0);
        if (same && index < pool->first_sample[s + 1] - pool->first_sample[s]) {
            add(out, pool->first_sample[s] + index);
        }
    }
}

/* Shards are looked through one after the other. */
static bif_status find(bif_pool_samples *samples, const char *name, found *out)
{
    bif_status st = BIF_OK;
    const bif_pool *pool = samples->pool;
    const size_t length = strlen(name);
    uint64_t wanted[2] = {0}, uid[2];
    int64_t number = 0;
    if (name[0] == '#' && number_of(name + 1, &number)) {
        if (number >= pool->samples) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "data why: %s: there are %" PRId64 " samples, counted from 0", name, pool->samples));
        }
        add(out, number);
        goto done;
    }
    find_place(pool, name, out);
    if (out->count > 0) {
        goto done;
    }
    const bool by_uid = uid_of(name, wanted);
    for (int64_t i = 0; i < pool->samples; i++) {
        const bif_shard *shard = NULL;
        int64_t local = 0;
        bif_shard_sample record;
        BIF_TRY(bif_pool_samples_at(samples, i, &shard, &local));
        if (bif_shard_get_sample(shard, local, &record) != BIF_OK) {
            bif_error_clear(); /* a record that cannot be read has no name */
            continue;
        }
        bool same = record.id_size == length && memcmp(record.id, name, length) == 0;
        if (!same && by_uid) {
            same = bif_sample_uid(shard, local, uid) == BIF_OK && uid[0] == wanted[0] && uid[1] == wanted[1];
        }
        if (same) {
            add(out, i);
        }
    }
    bif_error_clear();
    if (out->count == 0) {
        st = bif_fail(BIF_ERR_DATA, "data why: no sample of %" PRId64 " has the id or uid '%s', and no shard such a place", pool->samples, name);
    }
done:
    return st;
}

static bif_status steps_json(const bif_selection *s, bif_pool_samples *samples, int64_t sample, json_t *into)
{
    json_t *steps = json_array();
    json_object_set_new(into, "steps", steps);
    bool gone = false;
    for (int64_t i = 0; i < bif_selection_steps(s) && !gone; i++) {
        const bif_selection_step step = bif_selection_get(s, i);
        const bif_drop *drop = bif_selection_find(s, i, sample);
        json_t *row = json_pack("{s:I, s:s, s:O}", "step", (json_int_t)(i + 1), "verb", step.verb, "parameters", step.parameters);
        json_array_append_new(steps, row);
        gone = drop != NULL && drop->times == 0;
        json_object_set_new(row, "verdict", json_string(gone ? "dropped" : drop != NULL ? "repeated" : "kept"));
        if (drop == NULL) {
            continue;
        }
        json_t *value = json_real((double)drop->value), *other = NULL;
        json_object_set_new(row, "reason", json_string(step.reason[drop->reason]));
        json_object_set_new(row, "value", value != NULL ? value : json_null());
        json_object_set_new(row, "times", json_integer(drop->times));
        if (drop->other != BIF_NO_SAMPLE) {
            const bif_status st = bif_pool_samples_json(samples, (int64_t)drop->other, true, &other);
            if (st != BIF_OK) {
                return st;
            }
            json_object_set_new(row, "other", other);
        }
    }
    return BIF_OK;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static void print_sample(const json_t *object, const char *indent)
{
    const char *caption = json_string_value(json_object_get(object, "caption"));
    char *quoted = caption != NULL ? json_dumps(json_object_get(object, "caption"), JSON_ENCODE_ANY) : bif_strdup("none");
    const char *id = text_of(object, "id"), *shard = text_of(object, "shard");
    char *shown_id = bif_utf8_printable(id, strlen(id), false), *shown_shard = bif_utf8_printable(shard, strlen(shard), false);
    printf("#%" JSON_INTEGER_FORMAT " id '%s' uid %s, %s:%" JSON_INTEGER_FORMAT "\n%scaption %s\n",
           json_integer_value(json_object_get(object, "sample")), shown_id, text_of(object, "uid"), shown_shard,
           json_integer_value(json_object_get(object, "index")), indent, quoted);
    free(quoted);
    free(shown_id);
    free(shown_shard);
}

static void print_why(const json_t *sample)
{
    const json_t *steps = json_object_get(sample, "steps"), *step;
    size_t i;
    printf("sample ");
    print_sample(sample, "  ");
    json_array_foreach(steps, i, step) {
        char *parameters = json_dumps(json_object_get(step, "parameters"), JSON_COMPACT | JSON_SORT_KEYS);
        const json_t *other = json_object_get(step, "other");
        printf("  step %zu %s %s: %s", i + 1, text_of(step, "verb"), parameters, text_of(step, "verdict"));
        if (json_object_get(step, "reason") != NULL) {
            const json_int_t times = json_integer_value(json_object_get(step, "times"));
            if (times > 0) {
                printf(" (%" JSON_INTEGER_FORMAT " times)", times);
            }
            const json_t *value = json_object_get(step, "value");
            printf(" for \"%s\", value ", text_of(step, "reason"));
            if (json_is_real(value)) {
                printf("%.9g", json_real_value(value));
            } else {
                fputs("none", stdout); /* not finite: there was nothing to measure */
            }
        }
        putchar('\n');
        if (other != NULL) {
            printf("    on account of ");
            print_sample(other, "      ");
        }
        free(parameters);
    }
    printf("  in the end: kept %" JSON_INTEGER_FORMAT " times\n", json_integer_value(json_object_get(sample, "times")));
}

bif_status bif_cmd_data_why(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bif_status st = BIF_OK;
    bif_selection *s = NULL;
    bif_pool pool = {0};
    bif_pool_samples samples = {.pool = &pool};
    found matches = {0};
    json_t *all = json_array();
    bool as_json = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'j': as_json = true; break;
        case 'h': fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data why: wrong option; see bifocal data why --help"));
        }
    }
    if (argc - optind < 3) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data why: name a selection, a sample and the shards; see bifocal data why --help"));
    }
    BIF_TRY(bif_selection_open(argv[optind], argv + optind + 2, argc - optind - 2, &pool, &s));
    BIF_TRY(bif_pool_whole(&pool));
    BIF_TRY(find(&samples, argv[optind + 1], &matches));
    for (size_t i = 0; i < matches.count; i++) {
        json_t *one = NULL;
        BIF_TRY(bif_pool_samples_json(&samples, matches.sample[i], true, &one));
        json_array_append_new(all, one);
        json_object_set_new(one, "times", json_integer(bif_selection_times(s)[matches.sample[i]]));
        BIF_TRY(steps_json(s, &samples, matches.sample[i], one));
        if (!as_json) {
            print_why(one);
        }
    }
    if (as_json) {
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
    }
done:
    json_decref(all);
    free(matches.sample);
    bif_pool_samples_close(&samples);
    bif_selection_free(s);
    bif_pool_close(&pool);
    return st;
}
