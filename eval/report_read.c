#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "eval/report.h"

#define SCORES_BYTES ((size_t)64 << 20)

void bif_report_free(bif_score_report *report)
{
    for (size_t i = 0; i < report->score_count; i++) {
        json_decref(report->scores[i].json);
        free(report->scores[i].path);
        free(report->scores[i].split);
        free(report->scores[i].metrics);
    }
    for (size_t i = 0; i < report->column_count; i++) {
        free(report->columns[i].name);
    }
    free(report->scores);
    free(report->rows);
    free(report->columns);
    *report = (bif_score_report){0};
}

static bif_status read_metric(const char *where, const json_t *object, bif_report_metric *out)
{
    bif_status st = BIF_OK;
    *out = (bif_report_metric){.value = NAN, .low = NAN, .high = NAN, .questions = -1};
    BIF_TRY(bif_json_string(where, object, "name", true, &out->name));
    BIF_TRY(bif_json_f64(where, object, "value", false, &out->value)); /* null: nothing to measure */
    BIF_TRY(bif_json_f64(where, object, "low", false, &out->low));
    BIF_TRY(bif_json_f64(where, object, "high", false, &out->high));
    BIF_TRY(bif_json_i64(where, object, "questions", false, &out->questions));
done:
    return st;
}

static bif_status read_score(const char *path, const char *split, bif_report_score *s)
{
    bif_status st = BIF_OK;
    const char *own_split = NULL;
    *s = (bif_report_score){.path = bif_strdup(path), .questions = -1, .missing = -1, .duplicates = -1, .unparsed = -1};
    st = bif_json_load_file(path, SCORES_BYTES, &s->json);
    if (st == BIF_ERR_DATA) {
        BIF_TRY(bif_fail_context(st, "report takes what bifocal score --json prints"));
    }
    BIF_TRY(st);
    const json_t *list = json_object_get(s->json, "metrics");
    if (!json_is_array(list) || json_array_size(list) == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no list \"metrics\" in it; what bifocal score --json prints is wanted", path));
    }
    BIF_TRY(bif_json_string(path, s->json, "task", true, &s->task));
    BIF_TRY(bif_json_string(path, s->json, "split", false, &own_split));
    BIF_TRY(bif_json_string(path, s->json, "norm", false, &s->norm));
    BIF_TRY(bif_json_string(path, s->json, "rule", false, &s->rule));
    BIF_TRY(bif_json_string(path, s->json, "predictions", false, &s->predictions));
    BIF_TRY(bif_json_string(path, s->json, "items", false, &s->items));
    BIF_TRY(bif_json_i64(path, s->json, "questions", false, &s->questions));
    BIF_TRY(bif_json_i64(path, s->json, "missing", false, &s->missing));
    BIF_TRY(bif_json_i64(path, s->json, "duplicates", false, &s->duplicates));
    BIF_TRY(bif_json_i64(path, s->json, "unparsed", false, &s->unparsed));
    s->split = bif_strdup(split != NULL ? split : own_split != NULL ? own_split : "");
    s->metric_count = json_array_size(list);
    s->metrics = bif_calloc(s->metric_count, sizeof *s->metrics);
    for (size_t i = 0; i < s->metric_count; i++) {
        BIF_TRY(read_metric(path, json_array_get(list, i), &s->metrics[i]));
    }
done:
    return st;
}

static void find_published(bif_report_row *row)
{
    for (const bif_published *p = bif_published_scores; p->task != NULL; p++) {
        const bool same = strcmp(p->split != NULL ? p->split : "", row->split) == 0;
        if (strcmp(p->task, row->task) == 0 && (same || (row->published == NULL && *row->split == '\0'))) {
            row->published = p;
            row->comparable = same;
        }
    }
}

static bool has_metric(const bif_report_score *s, const char *name)
{
    for (size_t i = 0; i < s->metric_count; i++) {
        if (strcmp(s->metrics[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

bif_status bif_report_add(bif_score_report *report, const char *checkpoint, const char *path, const char *split)
{
    bif_status st = BIF_OK;
    size_t row = 0, column = 0;
    bif_report_score score = {0};
    if (bif_utf8_check(checkpoint, strlen(checkpoint)) < strlen(checkpoint) ||
        (split != NULL && bif_utf8_check(split, strlen(split)) < strlen(split))) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: the name of a checkpoint or split is not UTF-8", path));
    }
    BIF_TRY(read_score(path, split, &score));
    while (column < report->column_count && strcmp(report->columns[column].name, checkpoint) != 0) {
        column++;
    }
    while (row < report->row_count &&
           (strcmp(report->rows[row].task, score.task) != 0 || strcmp(report->rows[row].split, score.split) != 0)) {
        row++;
    }
    if (row < report->row_count && column < report->column_count && bif_report_at(report, row, column) != NULL) {
        BIF_TRY(bif_fail(
            BIF_ERR_USAGE,
            "%s: checkpoint %s has scores of task %s%s%s already, in %s; give it another name (NAME=FILE) or split (FILE@SPLIT)", path,
            checkpoint, score.task, *score.split != '\0' ? ", split " : "", score.split, bif_report_at(report, row, column)->path));
    }
    report->scores = bif_realloc(report->scores, report->score_count + 1, sizeof *report->scores);
    if (row == report->row_count) {
        report->rows = bif_realloc(report->rows, ++report->row_count, sizeof *report->rows);
        report->rows[row] = (bif_report_row){.task = score.task, .split = score.split};
        find_published(&report->rows[row]);
        const bif_published *p = report->rows[row].published;
        report->rows[row].metric = p != NULL && has_metric(&score, p->metric) ? p->metric : score.metrics[0].name;
    }
    if (column == report->column_count) {
        report->columns = bif_realloc(report->columns, ++report->column_count, sizeof *report->columns);
        report->columns[column] = (bif_report_column){.name = bif_strdup(checkpoint), .like = -1};
    }
    score.row = row;
    score.column = column;
    report->scores[report->score_count++] = score;
    score = (bif_report_score){0};
done:
    json_decref(score.json);
    free(score.path);
    free(score.split);
    free(score.metrics);
    return st;
}

bif_status bif_report_like(bif_score_report *report, const char *checkpoint, const char *model)
{
    const int like = bif_published_model(model);
    bool found = checkpoint == NULL;
    if (like < 0) {
        return bif_fail(BIF_ERR_USAGE, "--like: nothing is published of '%s'; 7b, 13b, 7b-lora and 13b-lora are known", model);
    }
    for (size_t i = 0; i < report->column_count; i++) {
        if (checkpoint == NULL || strcmp(report->columns[i].name, checkpoint) == 0) {
            report->columns[i].like = like;
            found = true;
        }
    }
    return found ? BIF_OK : bif_fail(BIF_ERR_USAGE, "--like: there are no scores of a checkpoint '%s'", checkpoint);
}

const bif_report_score *bif_report_at(const bif_score_report *report, size_t row, size_t column)
{
    for (size_t i = 0; i < report->score_count; i++) {
        if (report->scores[i].row == row && report->scores[i].column == column) {
            return &report->scores[i];
        }
    }
    return NULL;
}

const bif_report_metric *bif_report_headline(const bif_score_report *report, const bif_report_score *score)
{
    for (size_t i = 0; i < score->metric_count; i++) {
        if (strcmp(score->metrics[i].name, report->rows[score->row].metric) == 0) {
            return &score->metrics[i];
        }
    }
    return &score->metrics[0];
}

bif_verdict bif_report_verdict(const bif_score_report *report, const bif_report_score *score)
{
    const bif_report_row *row = &report->rows[score->row];
    const int like = report->columns[score->column].like;
    const bif_report_metric *metric = bif_report_headline(report, score);
    bif_verdict v = {.published = NAN, .difference = NAN};
    if (row->published == NULL || !row->comparable || strcmp(metric->name, row->published->metric) != 0 || isnan(metric->value)) {
        return v;
    }
    if (metric->questions >= 0 && row->published->questions > 0 && metric->questions != row->published->questions) {
        v.questions = row->published->questions;
        return v;
    }
    if (like < 0) {
        return v;
    }
    v.published = row->published->value[like];
    v.difference = metric->value - v.published;
    const double *band = row->published->band,
                 away = fabs(v.difference) - 1e-9; /* published numbers have one digit: 78.5 + 0.5 is inside */
    if (band[0] > 0.0) {
        v.kind = away <= band[0] ? BIF_VERDICT_INSIDE : away <= band[1] ? BIF_VERDICT_RETRAINED : BIF_VERDICT_OUTSIDE;
        v.band = v.kind == BIF_VERDICT_INSIDE ? band[0] : band[1];
    }
    return v;
}
