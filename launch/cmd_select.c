/* bifocal data selection | undo | diff: what selections hold. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/pool_samples.h"

/* One JSON value on a line of its own; takes it over. */
static void print_line(json_t *value)
{
    json_dumpf(value, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(value);
}

static json_t *number_json(double value)
{
    json_t *number = json_real(value);
    return number != NULL ? number : json_null(); /* NaN and infinity */
}

/* ---- selection ---- */

static const char selection_help[] =
    "usage: bifocal data selection [--json] SEL\n"
    "       bifocal data selection --list kept|dropped SEL SHARD...\n\n"
    "What a selection holds: the shards that it was made of, and of every step its parameters, the samples before and after it, and how many it\n"
    "dropped (or repeats) for which reason.\n\n"
    "  --json        as JSON\n"
    "  --list WHICH  instead the samples, a JSON object a line: kept (with how many times) or dropped (with step, verb, reason, value, and the\n"
    "                sample on whose account); the shards are needed for the ids. Numbers of samples count the shards by their digests\n";

static void print_selection(const bif_selection *s)
{
    char hex[33];
    printf("%" PRId64 " shards, %" PRId64 " samples, %" PRId64 " kept (repeats counted); digest %s\n", bif_selection_shards(s),
           bif_selection_samples(s), bif_selection_kept(s), bif_selection_digest(s, hex));
    for (int64_t i = 0; i < bif_selection_shards(s); i++) {
        const char *digest = NULL, *name;
        int64_t samples = 0;
        name = bif_selection_shard(s, i, &digest, &samples);
        printf("  %s  %10" PRId64 "  %s\n", digest, samples, name);
    }
    for (int64_t i = 0; i < bif_selection_steps(s); i++) {
        bif_step_print(s, i);
    }
}

static json_t *selection_json(const bif_selection *s)
{
    char hex[33];
    json_t *shards = json_array(), *steps = json_array();
    for (int64_t i = 0; i < bif_selection_shards(s); i++) {
        const char *digest = NULL, *name;
        int64_t samples = 0;
        name = bif_selection_shard(s, i, &digest, &samples);
        json_array_append_new(shards, json_pack("{s:s, s:s, s:I}", "name", name, "digest", digest, "samples", (json_int_t)samples));
    }
    for (int64_t i = 0; i < bif_selection_steps(s); i++) {
        json_array_append_new(steps, bif_step_json(s, i));
    }
    return json_pack("{s:I, s:I, s:s, s:o, s:o}", "samples", (json_int_t)bif_selection_samples(s), "kept", (json_int_t)bif_selection_kept(s), "digest",
                     bif_selection_digest(s, hex), "shards", shards, "steps", steps);
}

/* Adds to `line` which step dropped the sample and why. */
static void add_drop(const bif_selection *s, int64_t sample, json_t *line)
{
    for (int64_t i = 0; i < bif_selection_steps(s); i++) {
        const bif_drop *drop = bif_selection_find(s, i, sample);
        if (drop != NULL && drop->times == 0) {
            const bif_selection_step step = bif_selection_get(s, i);
            json_t *fields = json_pack("{s:I, s:s, s:s, s:o, s:o}", "step", (json_int_t)(i + 1), "verb", step.verb, "reason",
                                       step.reason[drop->reason], "value", number_json((double)drop->value), "other",
                                       drop->other == BIF_NO_SAMPLE ? json_null() : json_integer((json_int_t)drop->other));
            json_object_update(line, fields);
            json_decref(fields);
            return;
        }
    }
}

static bif_status list_samples(const bif_selection *s, const bif_pool *pool, bool kept)
{
    bif_status st = BIF_OK;
    bif_pool_samples samples = {.pool = pool};
    const uint16_t *times = bif_selection_times(s);
    for (int64_t i = 0; i < bif_selection_samples(s); i++) {
        json_t *line = NULL;
        if ((times[i] > 0) != kept) {
            continue;
        }
        BIF_TRY(bif_pool_samples_json(&samples, i, false, &line));
        if (kept) {
            json_object_set_new(line, "times", json_integer(times[i]));
        } else {
            add_drop(s, i, line);
        }
        print_line(line);
    }
done:
    bif_pool_samples_close(&samples);
    return st;
}

bif_status bif_cmd_data_selection(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"list", required_argument, NULL, 'l'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    bif_selection *s = NULL;
    bif_pool pool = {0};
    const char *list = NULL;
    bool as_json = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'j': as_json = true; break;
        case 'l': list = optarg; break;
        case 'h': fputs(selection_help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data selection: wrong option; see bifocal data selection --help"));
        }
    }
    const bool kept = list != NULL && strcmp(list, "kept") == 0;
    if (list != NULL && !kept && strcmp(list, "dropped") != 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data selection: --list takes kept or dropped, not '%s'", list));
    }
    if (list != NULL && as_json) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data selection: --list writes JSON lines anyway; leave --json out"));
    }
    if (list == NULL ? argc - optind != 1 : argc - optind < 2) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data selection: name one selection, and with --list its shards; see bifocal data selection --help"));
    }
    if (list != NULL) {
        BIF_TRY(bif_selection_open(argv[optind], argv + optind + 1, argc - optind - 1, &pool, &s));
        BIF_TRY(bif_pool_whole(&pool));
        BIF_TRY(list_samples(s, &pool, kept));
        goto done;
    }
    BIF_TRY(bif_selection_read(argv[optind], &s));
    if (as_json) {
        json_t *value = selection_json(s);
        json_dumpf(value, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(value);
    } else {
        print_selection(s);
    }
done:
    bif_selection_free(s);
    bif_pool_close(&pool);
    return st;
}

/* ---- undo ---- */

static const char undo_help[] =
    "usage: bifocal data undo --out OUT.sel [--steps K] SEL\n\n"
    "Writes a selection without its last steps. What a later step built upon is gone with it: to take a middle step out, undo up to it and make the\n"
    "ones behind it anew.\n\n"
    "  --out FILE   the selection to write; may be SEL itself\n"
    "  --steps K    so many steps are taken back (1)\n";

bif_status bif_cmd_data_undo(int argc, char **argv)
{
    static const struct option options[] = {{"out", required_argument, NULL, 'o'},
                                            {"steps", required_argument, NULL, 's'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    bif_selection *s = NULL;
    const char *out = NULL;
    int64_t steps = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'o': out = optarg; break;
        case 's': BIF_TRY(bif_option_number("steps", optarg, 1, &steps)); break;
        case 'h': fputs(undo_help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data undo: wrong option; see bifocal data undo --help"));
        }
    }
    BIF_TRY(bif_option_need("data undo", "out", out));
    if (argc - optind != 1) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data undo: name one selection; see bifocal data undo --help"));
    }
    BIF_TRY(bif_option_writable("out", out));
    BIF_TRY(bif_selection_read(argv[optind], &s));
    const int64_t before = bif_selection_kept(s);
    st = bif_selection_undo(s, steps);
    if (st != BIF_OK) {
        BIF_TRY(bif_fail_context(st, "%s", argv[optind]));
    }
    BIF_TRY(bif_selection_write(s, out));
    printf("%" PRId64 " steps taken back, %" PRId64 " stay; %" PRId64 " samples kept, before %" PRId64 "\n", steps, bif_selection_steps(s),
           bif_selection_kept(s), before);
done:
    bif_selection_free(s);
    return st;
}

/* ---- diff ---- */

static const char diff_help[] =
    "usage: bifocal data diff [--list] [--json] A.sel B.sel [SHARD...]\n\n"
    "Which samples two selections of the same shards keep differently, counted by the step and reason for which the other one drops them.\n"
    "Exit code 0 when both keep the same samples equally often, 65 when not.\n\n"
    "  --list   also the samples, a JSON object a line: those of A alone, of B alone, and those kept another number of times; with the shards named,\n"
    "           with their ids\n"
    "  --json   the counts as JSON, on the last line\n";

typedef struct {
    const bif_selection *a, *b;
    int64_t only[2], both, other_times;
    int64_t **count[2]; /* [selection][step][reason]: samples that this one drops and the other keeps */
    bool list;
    bif_pool_samples samples;
} diff;

static bif_status same_shards(const bif_selection *a, const bif_selection *b)
{
    bool same = bif_selection_shards(a) == bif_selection_shards(b);
    for (int64_t i = 0; same && i < bif_selection_shards(a); i++) {
        const char *digests[2] = {NULL, NULL};
        (void)bif_selection_shard(a, i, &digests[0], NULL);
        (void)bif_selection_shard(b, i, &digests[1], NULL);
        same = strcmp(digests[0], digests[1]) == 0;
    }
    return same && bif_selection_samples(a) == bif_selection_samples(b)
               ? BIF_OK
               : bif_fail(BIF_ERR_DATA, "data diff: the selections were made of different shards; see bifocal data selection");
}

/* Steps that both begin with. */
static int64_t common_steps(const bif_selection *a, const bif_selection *b)
{
    int64_t n = 0;
    for (; n < bif_selection_steps(a) && n < bif_selection_steps(b); n++) {
        const bif_selection_step x = bif_selection_get(a, n), y = bif_selection_get(b, n);
        if (strcmp(x.verb, y.verb) != 0 || x.count != y.count || !json_equal(x.parameters, y.parameters) ||
            (x.count > 0 && memcmp(x.records, y.records, (size_t)x.count * sizeof *x.records) != 0)) {
            break;
        }
    }
    return n;
}

static void count_drop(diff *d, int which, int64_t sample)
{
    const bif_selection *s = which == 0 ? d->a : d->b;
    for (int64_t i = 0; i < bif_selection_steps(s); i++) {
        const bif_drop *drop = bif_selection_find(s, i, sample);
        if (drop != NULL && drop->times == 0) {
            d->count[which][i][drop->reason]++;
            return;
        }
    }
}

static bif_status list_one(diff *d, int64_t sample, uint16_t in_a, uint16_t in_b)
{
    json_t *line = NULL;
    if (d->samples.pool != NULL) {
        const bif_status st = bif_pool_samples_json(&d->samples, sample, false, &line);
        if (st != BIF_OK) {
            return st;
        }
    } else {
        line = json_pack("{s:I}", "sample", (json_int_t)sample);
    }
    json_object_set_new(line, "a", json_integer(in_a));
    json_object_set_new(line, "b", json_integer(in_b));
    if (in_a == 0 || in_b == 0) {
        add_drop(in_a == 0 ? d->a : d->b, sample, line);
    }
    print_line(line);
    return BIF_OK;
}

static bif_status compare(diff *d)
{
    const uint16_t *a = bif_selection_times(d->a), *b = bif_selection_times(d->b);
    for (int64_t i = 0; i < bif_selection_samples(d->a); i++) {
        d->both += a[i] > 0 && b[i] > 0;
        if (a[i] == b[i]) {
            continue;
        }
        d->only[0] += b[i] == 0;
        d->only[1] += a[i] == 0;
        d->other_times += a[i] > 0 && b[i] > 0;
        if (a[i] == 0 || b[i] == 0) {
            count_drop(d, a[i] == 0 ? 0 : 1, i);
        }
        const bif_status st = d->list ? list_one(d, i, a[i], b[i]) : BIF_OK;
        if (st != BIF_OK) {
            return st;
        }
    }
    return BIF_OK;
}

static json_t *drops_json(const diff *d, int which)
{
    const bif_selection *s = which == 0 ? d->a : d->b;
    json_t *rows = json_array();
    for (int64_t i = 0; i < bif_selection_steps(s); i++) {
        const bif_selection_step step = bif_selection_get(s, i);
        for (int64_t r = 0; r < step.reasons; r++) {
            if (d->count[which][i][r] > 0) {
                json_array_append_new(rows, json_pack("{s:I, s:s, s:s, s:I}", "step", (json_int_t)(i + 1), "verb", step.verb, "reason",
                                                      step.reason[r], "samples", (json_int_t)d->count[which][i][r]));
            }
        }
    }
    return rows;
}

static void print_drops(const char *title, json_t *rows)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) {
        printf("  %s by its step %" JSON_INTEGER_FORMAT " %s, %s: %" JSON_INTEGER_FORMAT "\n", title, json_integer_value(json_object_get(row, "step")),
               json_string_value(json_object_get(row, "verb")), json_string_value(json_object_get(row, "reason")),
               json_integer_value(json_object_get(row, "samples")));
    }
    json_decref(rows);
}

static void print_diff(const diff *d, int64_t common)
{
    printf("the first %" PRId64 " steps are the same (A has %" PRId64 ", B %" PRId64 ")\n", common, bif_selection_steps(d->a),
           bif_selection_steps(d->b));
    if (d->only[0] + d->only[1] + d->other_times == 0) {
        printf("the same samples are kept: %" PRId64 "\n", d->both);
        return;
    }
    printf("kept by both: %" PRId64 " samples, %" PRId64 " of them another number of times\nkept by A alone: %" PRId64 "\n", d->both, d->other_times,
           d->only[0]);
    print_drops("dropped in B", drops_json(d, 1));
    printf("kept by B alone: %" PRId64 "\n", d->only[1]);
    print_drops("dropped in A", drops_json(d, 0));
}

static int64_t **new_counts(const bif_selection *s)
{
    int64_t **count = bif_calloc((size_t)bif_selection_steps(s) + 1, sizeof *count);
    for (int64_t i = 0; i < bif_selection_steps(s); i++) {
        count[i] = bif_calloc((size_t)bif_selection_get(s, i).reasons + 1, sizeof **count);
    }
    return count;
}

static void free_counts(int64_t **count)
{
    for (int64_t **step = count; step != NULL && *step != NULL; step++) {
        free(*step);
    }
    free(count);
}

bif_status bif_cmd_data_diff(int argc, char **argv)
{
    static const struct option options[] = {{"list", no_argument, NULL, 'l'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    bif_selection *a = NULL, *b = NULL;
    bif_pool pool = {0};
    diff d = {0};
    bool as_json = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'l': d.list = true; break;
        case 'j': as_json = true; break;
        case 'h': fputs(diff_help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data diff: wrong option; see bifocal data diff --help"));
        }
    }
    if (argc - optind < 2) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data diff: name two selections; see bifocal data diff --help"));
    }
    BIF_TRY(bif_selection_read(argv[optind], &a));
    BIF_TRY(bif_selection_read(argv[optind + 1], &b));
    BIF_TRY(same_shards(a, b));
    if (argc - optind > 2) {
        BIF_TRY(bif_pool_open((const char *const *)(argv + optind + 2), (size_t)(argc - optind - 2), &pool));
        BIF_TRY(bif_pool_whole(&pool));
        BIF_TRY(bif_selection_check(a, argv[optind], &pool));
        d.samples.pool = &pool;
    }
    d.a = a;
    d.b = b;
    d.count[0] = new_counts(a);
    d.count[1] = new_counts(b);
    const int64_t common = common_steps(a, b);
    BIF_TRY(compare(&d));
    if (as_json) {
        print_line(json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "common_steps", (json_int_t)common, "both", (json_int_t)d.both, "other_times",
                             (json_int_t)d.other_times, "only_a", (json_int_t)d.only[0], "only_b", (json_int_t)d.only[1], "dropped_in_b",
                             drops_json(&d, 1), "dropped_in_a", drops_json(&d, 0)));
    } else {
        print_diff(&d, common);
    }
    if (d.only[0] + d.only[1] + d.other_times > 0) {
        st = bif_fail(BIF_ERR_DATA, "%s and %s differ in %" PRId64 " samples", argv[optind], argv[optind + 1], d.only[0] + d.only[1] + d.other_times);
    }
done:
    bif_pool_samples_close(&d.samples);
    free_counts(d.count[0]);
    free_counts(d.count[1]);
    bif_selection_free(a);
    bif_selection_free(b);
    bif_pool_close(&pool);
    return st;
}
