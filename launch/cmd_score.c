/* bifocal score TASK PREDICTIONS --references FILE... */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/score.h"
#include "launch/commands.h"
#include "launch/options.h"

#define DRAWS_MAX 1000000 /* each keeps one number a metric */

typedef struct {
    const bif_score_task *task;
    const char *predictions, *against, *items, *flips;
    const char **references;
    size_t reference_count;
    bif_score_policy policy;
    bif_norm norm;
    bool norm_given, every_norm, json, tokenized;
    int64_t draws;
    bif_box_space boxes;
} arguments;

static void help(void)
{
    puts("usage: bifocal score TASK PREDICTIONS --references FILE [--references FILE]... [options]\n\n"
         "Scores a file of predictions, from bifocal or anybody, by the rules of a benchmark's own scorer. PREDICTIONS: JSON lines or a JSON array\n"
         "of objects with question_id and prediction (or questionId, id, index; text, answer, caption), or one object of id: prediction.\n"
         "Ids are the benchmark's. Where its files have none of their own: pope of several files SPLIT/question_id (random/1), chartqa FILE/ROW\n"
         "from 0 (human/0 of test_human.json), mme SUBTASK/PICTURE, a newline and the question without 'Please answer yes or no.', ocrbench\n"
         "DATASET/id, refcoco the row from 0 and ID/NUMBER where one has several texts, vizwiz the picture's name, captions image_id.\n\n"
         "  --references FILE    the benchmark's own files (repeatable; see the tasks below)\n"
         "  --norm NAME          whose rules make answers equal: official, m4c, lmms, vlmevalkit, llava (default: as the\n"
         "                       task's published numbers), or all that the task tells apart side by side\n"
         "  --box-space NAME     what boxes in predictions are relative to: unit (0 to 1), 1000, 999 or pixel; with ,padded of the\n"
         "                       square that the picture was padded to\n"
         "  --flips FILE         with --norm all: JSONL of the questions whose score depends on the norm\n"
         "  --missing WHAT       a question without prediction is an error (default), wrong, or skip: left out; all are counted\n"
         "  --allow-unknown      leave out predictions of ids that the references do not have\n"
         "  --allow-duplicates   of several predictions of one id take the last\n"
         "  --bootstrap N        95 % intervals from N draws of pictures with replacement\n"
         "  --against FILE       other predictions: differences (FILE minus PREDICTIONS) with paired intervals, and McNemar's test\n"
         "                       (exact; right is a score of at least one half)\n"
         "  --items FILE         JSONL of every question: prediction, what was compared, references, score; bifocal report shows some\n"
         "  --tokenized          captions are tokens parted by spaces already (task caption)\n"
         "  --json               print JSON instead of a table\n\n"
         "tasks:");
    for (size_t i = 0; bif_score_tasks[i] != NULL; i++) {
        const bif_score_task *t = bif_score_tasks[i];
        printf("  %-12s %s\n  %-12s references: %s\n  %-12s rule: %s\n", t->name, t->title, "", t->references, "", t->rule);
        for (int n = 0, first = 1; n < BIF_NORMS; n++) {
            if ((t->norms & BIF_NORM_BIT(n)) != 0) {
                printf("%s%s%s", first ? "               norms: " : ", ", bif_norm_name((bif_norm)n), n == (int)t->usual ? " (default)" : "");
                first = 0;
            }
        }
        fputs(t->norms != 0 ? "\n" : "", stdout);
    }
}

static json_t *real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* "-" where there was nothing to measure. */
static const char *shown(double value, bool sign, char room[32])
{
    snprintf(room, 32, isfinite(value) ? sign ? "%+.2f" : "%.2f" : "-", value);
    return room;
}

static const char *interval(double low, double high, char room[64])
{
    char from[32], to[32];
    snprintf(room, 64, "[%.24s, %.24s]", shown(low, false, from), shown(high, false, to));
    return room;
}

static json_t *text_of(bif_span span)
{
    return json_stringn(span.text != NULL ? span.text : "", span.size);
}

static bif_status write_line(bif_writer *writer, json_t *row)
{
    char *text = json_dumps(row, JSON_COMPACT);
    json_decref(row);
    bif_status st = bif_writer_write(writer, text, strlen(text));
    st = st == BIF_OK ? bif_writer_write(writer, "\n", 1) : st;
    free(text);
    return st;
}

static bif_status write_items(const char *path, const bif_score_set *set)
{
    bif_status st = BIF_OK;
    bif_writer *writer = NULL;
    BIF_TRY(bif_writer_open(path, &writer));
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        json_t *answers = json_array(), *groups = json_object();
        for (int64_t k = 0; k < item->answer_count; k++) {
            json_array_append_new(answers, text_of(item->answers[k]));
        }
        for (int d = 0; d < BIF_SCORE_GROUPS && set->task->dimension[d] != NULL; d++) {
            json_object_set_new(groups, set->task->dimension[d], text_of(item->group[d]));
        }
        BIF_TRY(write_line(writer, json_pack("{s:o,s:b,s:b,s:o,s:o,s:o,s:o,s:f,s:b}", "question_id", text_of(item->id), "missing", item->line == 0,
                                             "extra", item->extra, "prediction", text_of(item->prediction), "compared",
                                             text_of(item->parsed.text != NULL ? item->parsed : item->prediction), "references", answers, "groups", groups,
                                             "score", item->score, "unparsed", item->unparsed)));
    }
    st = bif_writer_commit(writer);
    writer = NULL;
done:
    bif_writer_abandon(writer);
    return st;
}

/* Scores under every norm, and which questions differ. */
static bif_status compare_norms(const arguments *a, bif_score_set *set, json_t *out)
{
    bif_status st = BIF_OK;
    double *scores = bif_malloc((size_t)(BIF_NORMS * set->count) * sizeof *scores);
    bif_metric_list metrics = {0};
    bif_writer *writer = NULL;
    json_t *table = json_object();
    int64_t flips = 0;
    for (int n = 0; n < BIF_NORMS; n++) {
        if ((a->task->norms & BIF_NORM_BIT(n)) == 0) {
            continue;
        }
        BIF_TRY(bif_score_run(set, (bif_norm)n));
        for (int64_t i = 0; i < set->count; i++) {
            scores[n * set->count + i] = set->items[i].score;
        }
        bif_score_summary(set, NULL, &metrics);
        json_object_set_new(table, bif_norm_name((bif_norm)n), real_or_null(metrics.items[0].value));
        if (!a->json) {
            char value[32];
            printf("%-12s %s %s\n", bif_norm_name((bif_norm)n), metrics.items[0].name, shown(metrics.items[0].value, false, value));
        }
    }
    if (a->flips != NULL) {
        BIF_TRY(bif_writer_open(a->flips, &writer));
    }
    for (int64_t i = 0; i < set->count; i++) {
        json_t *row = json_object();
        bool flip = false;
        for (int n = 0; n < BIF_NORMS; n++) {
            if ((a->task->norms & BIF_NORM_BIT(n)) == 0) {
                continue;
            }
            flip = flip || scores[n * set->count + i] != scores[(int64_t)a->task->usual * set->count + i];
            json_object_set_new(row, bif_norm_name((bif_norm)n), json_real(scores[n * set->count + i]));
        }
        flips += flip;
        if (flip && writer != NULL) {
            BIF_TRY(write_line(writer, json_pack("{s:o,s:o,s:o}", "question_id", text_of(set->items[i].id), "prediction",
                                                 text_of(set->items[i].prediction), "scores", row)));
        } else {
            json_decref(row);
        }
    }
    if (writer != NULL) {
        st = bif_writer_commit(writer);
        writer = NULL;
    }
    json_object_set(out, "norms", table);
    json_object_set_new(out, "flips", json_integer(flips));
    if (!a->json) {
        printf("%lld of %lld questions depend on the norm\n", (long long)flips, (long long)set->count);
    }
done:
    bif_writer_abandon(writer);
    json_decref(table);
    free(metrics.items);
    free(scores);
    return st;
}

static void print_metrics(const arguments *a, const bif_metric_list *metrics, const double *low, const double *high, json_t *out)
{
    json_t *rows = json_array();
    for (size_t m = 0; m < metrics->count; m++) {
        const bif_metric *metric = &metrics->items[m];
        json_t *row = json_pack("{s:s,s:o,s:I}", "name", metric->name, "value", real_or_null(metric->value), "questions", (json_int_t)metric->count);
        if (low != NULL) {
            json_object_set_new(row, "low", real_or_null(low[m]));
            json_object_set_new(row, "high", real_or_null(high[m]));
        }
        json_array_append_new(rows, row);
        if (!a->json) {
            char value[32], range[64] = "";
            const char *within = low != NULL ? interval(low[m], high[m], range) : "";
            printf("%-44s %9s%s%s  %lld\n", metric->name, shown(metric->value, false, value), low != NULL ? "  " : "", within,
                   (long long)metric->count);
        }
    }
    json_object_set_new(out, "metrics", rows);
}

static json_t *counts_json(const bif_score_set *set, const bif_score_counts *counts)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "questions", (json_int_t)set->count, "missing", (json_int_t)counts->missing, "unknown",
                     (json_int_t)counts->unknown, "duplicates", (json_int_t)counts->duplicates, "unparsed",
                     (json_int_t)bif_score_unparsed(set));
}

static void print_counts(const bif_score_set *set, const bif_score_counts *counts)
{
    const int64_t unparsed = bif_score_unparsed(set);
    printf("%lld questions; missing %lld, unknown %lld, again %lld, not parsed %lld (%.2f %%)\n", (long long)set->count,
           (long long)counts->missing, (long long)counts->unknown, (long long)counts->duplicates, (long long)unparsed,
           100.0 * (double)unparsed / (double)set->count);
}

static bif_status compare(const arguments *a, const bif_score_set *set, const bif_metric_list *metrics, json_t *out)
{
    bif_status st = BIF_OK;
    bif_score_set *other = NULL;
    bif_score_counts counts;
    bif_metric_list theirs = {0};
    const int64_t draws = a->draws > 0 ? a->draws : 1000;
    double *low = bif_calloc(metrics->count, sizeof *low), *high = bif_calloc(metrics->count, sizeof *high), share = 0.0;
    json_t *rows = json_array();
    int64_t only_a = 0, only_b = 0;
    BIF_TRY(bif_score_open(a->task, a->references, a->reference_count, &other));
    other->tokenized = a->tokenized;
    BIF_TRY(bif_score_predictions(other, a->against, &a->policy, &counts));
    if (!bif_score_pairs(set, other)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s answers %lld questions, %s %lld, not the same ones, which a paired comparison wants (--missing wrong)",
                         a->predictions, (long long)set->count, a->against, (long long)other->count));
    }
    other->boxes = a->boxes;
    BIF_TRY(bif_score_run(other, a->norm));
    bif_score_summary(other, NULL, &theirs);
    bif_score_bootstrap_pair(set, other, draws, metrics->count, low, high, &share);
    const double p = bif_score_mcnemar(set, other, &only_a, &only_b);
    if (!a->json) {
        printf("\n%s minus %s, %lld paired draws; in %s ", a->against, a->predictions, (long long)draws, a->against);
        print_counts(other, &counts);
    }
    for (size_t m = 0; m < metrics->count; m++) {
        const bif_metric *their = bif_metric_named(&theirs, metrics->items[m].name, m);
        const double difference = their == NULL ? NAN : their->value - metrics->items[m].value;
        json_array_append_new(rows, json_pack("{s:s,s:o,s:o,s:o}", "name", metrics->items[m].name, "difference", real_or_null(difference), "low",
                                              real_or_null(low[m]), "high", real_or_null(high[m])));
        if (!a->json) {
            char value[32], range[64];
            printf("%-44s %9s  %s\n", metrics->items[m].name, shown(difference, true, value), interval(low[m], high[m], range));
        }
    }
    if (!a->json) {
        printf("right in one alone: %lld and %lld, McNemar p = %.3g; bootstrap p of the first = %.3g\n", (long long)only_a, (long long)only_b, p, share);
    }
    json_t *against = counts_json(other, &counts);
    json_object_update_new(against, json_pack("{s:o,s:O,s:I,s:I,s:o,s:o}", "predictions", bif_json_text(a->against), "differences", rows, "only_first",
                                              (json_int_t)only_a, "only_second", (json_int_t)only_b, "mcnemar_p", real_or_null(p),
                                              "bootstrap_p", real_or_null(share)));
    json_object_set_new(out, "against", against);
done:
    json_decref(rows);
    free(theirs.items);
    free(low);
    free(high);
    bif_score_close(other);
    return st;
}

static bif_status run(const arguments *a)
{
    bif_status st = BIF_OK;
    bif_score_set *set = NULL;
    bif_score_counts counts;
    bif_metric_list metrics = {0};
    double *low = NULL, *high = NULL;
    json_t *out = json_object();
    BIF_TRY(bif_score_open(a->task, a->references, a->reference_count, &set));
    set->tokenized = a->tokenized;
    BIF_TRY(bif_score_predictions(set, a->predictions, &a->policy, &counts));
    set->boxes = a->boxes;
    if (a->every_norm) {
        BIF_TRY(compare_norms(a, set, out));
    }
    BIF_TRY(bif_score_run(set, a->norm));
    bif_score_summary(set, NULL, &metrics);
    json_object_update_new(out, json_pack("{s:s,s:s,s:s,s:o}", "task", a->task->name, "norm", bif_norm_name(a->norm), "rule", a->task->rule,
                                          "predictions", bif_json_text(a->predictions)));
    json_object_update_new(out, counts_json(set, &counts));
    if (a->draws > 0) {
        low = bif_calloc(metrics.count, sizeof *low);
        high = bif_calloc(metrics.count, sizeof *high);
        bif_score_bootstrap(set, a->draws, metrics.count, low, high);
    }
    if (!a->json) {
        printf("%s: %s%s%s; %s\n", a->task->name, a->task->title, a->task->norms ? ", norm " : "", a->task->norms ? bif_norm_name(a->norm) : "",
               a->task->rule);
    }
    json_t *notes = json_array();
    for (size_t i = 0; i < set->note_count; i++) {
        json_array_append_new(notes, bif_json_text(set->notes[i]));
        if (!a->json) {
            printf("note: %s\n", set->notes[i]);
        }
    }
    json_object_set_new(out, "notes", notes);
    print_metrics(a, &metrics, low, high, out);
    if (!a->json) {
        print_counts(set, &counts);
    }
    if (a->against != NULL) {
        BIF_TRY(compare(a, set, &metrics, out));
    }
    if (a->items != NULL) {
        BIF_TRY(write_items(a->items, set));
        json_object_set_new(out, "items", bif_json_text(a->items));
    }
    if (a->json) {
        char *text = json_dumps(out, JSON_INDENT(2));
        puts(text);
        free(text);
    }
done:
    json_decref(out);
    free(metrics.items);
    free(low);
    free(high);
    bif_score_close(set);
    return st;
}

bif_status bif_cmd_score(int argc, char **argv)
{
    enum { OPT_REFERENCES = 256, OPT_NORM, OPT_BOXES, OPT_FLIPS, OPT_MISSING, OPT_UNKNOWN, OPT_DUPLICATES, OPT_BOOTSTRAP, OPT_AGAINST, OPT_ITEMS,
           OPT_TOKENIZED, OPT_JSON };
    static const struct option options[] = {{"references", required_argument, NULL, OPT_REFERENCES},
                                            {"norm", required_argument, NULL, OPT_NORM},
                                            {"box-space", required_argument, NULL, OPT_BOXES},
                                            {"flips", required_argument, NULL, OPT_FLIPS},
                                            {"missing", required_argument, NULL, OPT_MISSING},
                                            {"allow-unknown", no_argument, NULL, OPT_UNKNOWN},
                                            {"allow-duplicates", no_argument, NULL, OPT_DUPLICATES},
                                            {"bootstrap", required_argument, NULL, OPT_BOOTSTRAP},
                                            {"against", required_argument, NULL, OPT_AGAINST},
                                            {"items", required_argument, NULL, OPT_ITEMS},
                                            {"tokenized", no_argument, NULL, OPT_TOKENIZED},
                                            {"json", no_argument, NULL, OPT_JSON},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    static const char *const missing[] = {"error", "wrong", "skip"};
    bif_status st = BIF_OK;
    arguments a = {0};
    a.references = bif_calloc((size_t)argc, sizeof *a.references);
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case OPT_REFERENCES: a.references[a.reference_count++] = optarg; break;
        case OPT_BOXES: BIF_TRY(bif_box_space_by_name(optarg, &a.boxes)); break;
        case OPT_FLIPS: a.flips = optarg; break;
        case OPT_UNKNOWN: a.policy.allow_unknown = true; break;
        case OPT_DUPLICATES: a.policy.allow_duplicates = true; break;
        case OPT_BOOTSTRAP:
            BIF_TRY(bif_option_number("bootstrap", optarg, 1, &a.draws));
            BIF_TRY(a.draws <= DRAWS_MAX ? BIF_OK : bif_fail(BIF_ERR_USAGE, "--bootstrap: up to %d draws", DRAWS_MAX));
            break;
        case OPT_AGAINST: a.against = optarg; break;
        case OPT_ITEMS: a.items = optarg; break;
        case OPT_TOKENIZED: a.tokenized = true; break;
        case OPT_JSON: a.json = true; break;
        case OPT_NORM:
            a.every_norm = strcmp(optarg, "all") == 0;
            a.norm_given = !a.every_norm;
            BIF_TRY(a.every_norm ? BIF_OK : bif_norm_by_name(optarg, &a.norm));
            break;
        case OPT_MISSING: {
            int k = 0;
            while (k < 3 && strcmp(optarg, missing[k]) != 0) {
                k++;
            }
            BIF_TRY(k < 3 ? BIF_OK : bif_fail(BIF_ERR_USAGE, "--missing: '%s' is none of error, wrong, skip", optarg));
            a.policy.missing = (bif_missing)k;
            break;
        }
        case 'h':
            help();
            goto done;
        default:
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "score: wrong option; see bifocal score --help"));
        }
    }
    if (argc - optind != 2 || a.reference_count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "score: name a task, a file of predictions and --references; see bifocal score --help"));
    }
    a.task = bif_score_task_by_name(argv[optind]);
    a.predictions = argv[optind + 1];
    if (a.task == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "score: there is no task '%s'; bifocal score --help lists them", argv[optind]));
    }
    if (a.norm_given || (a.every_norm && a.task->norms == 0)) {
        BIF_TRY(bif_score_has_norm(a.task, a.norm));
    }
    if (a.tokenized && !a.task->tokens) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--tokenized: task %s has no tokens", a.task->name));
    }
    if (a.task->boxes != (a.boxes.unit != BIF_BOX_NONE)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE,
                         a.task->boxes ? "task %s wants --box-space: models write boxes in different units, and a wrong one scores near zero"
                                       : "--box-space: task %s has no boxes", a.task->name));
    }
    a.norm = a.norm_given ? a.norm : a.task->usual;
    if (a.flips != NULL && !a.every_norm) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--flips goes with --norm all"));
    }
    BIF_TRY(bif_option_writable("items", a.items));
    BIF_TRY(bif_option_writable("flips", a.flips));
    for (int k = 0; k < 2; k++) {
        const char *name = k == 0 ? "items" : "flips", *path = k == 0 ? a.items : a.flips;
        BIF_TRY(bif_option_apart(name, path, a.references, a.reference_count));
        BIF_TRY(bif_option_apart(name, path, (const char *[]){a.predictions, a.against}, 2));
    }
    st = run(&a);
done:
    free(a.references);
    return st;
}
