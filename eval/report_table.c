#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/html.h"
#include "eval/report.h"

/* "78.53 [78.10, 78.95] (+0.03, inside 0.5)" */
static char *cell_of(const bif_score_report *report, const bif_report_score *score)
{
    static const char *const verdicts[] = {"", "inside", "inside", "OUTSIDE"};
    if (score == NULL) {
        return bif_strdup("");
    }
    const bif_report_metric *m = bif_report_headline(report, score);
    const bif_verdict v = bif_report_verdict(report, score);
    char value[32] = "none", range[64] = "", verdict[80] = "", left[80] = "";
    size_t used = 0;
    if (isfinite(m->value)) {
        snprintf(value, sizeof value, "%.2f", m->value);
    }
    if (isfinite(m->low) && isfinite(m->high)) {
        snprintf(range, sizeof range, " [%.2f, %.2f]", m->low, m->high);
    }
    if (v.kind != BIF_VERDICT_NONE) {
        snprintf(verdict, sizeof verdict, " (%+.2f, %s %.3g)", v.difference, verdicts[v.kind], v.band);
    } else if (!isnan(v.difference)) {
        snprintf(verdict, sizeof verdict, " (%+.2f)", v.difference);
    } else if (v.questions > 0) {
        snprintf(verdict, sizeof verdict, " (%lld questions, published: %lld)", (long long)m->questions, (long long)v.questions);
    }
    if (score->missing > 0) {
        used = (size_t)snprintf(left, sizeof left, ", %lld missing", (long long)score->missing);
    }
    if (score->duplicates > 0) {
        snprintf(left + used, sizeof left - used, ", %lld duplicates", (long long)score->duplicates);
    }
    return bif_format("%s%s%s%s", value, range, verdict, left);
}

#define MARKDOWN "\\|`*_<>[]&#" /* what it gives a meaning to */
enum { NORM = 2, QUESTIONS = 3, UNPARSED = 4, FACTS = 5 }; /* columns before those of the checkpoints */

static char *fact_of(const bif_score_report *report, const bif_report_score *s, int fact)
{
    const int64_t questions = bif_report_headline(report, s)->questions >= 0 ? bif_report_headline(report, s)->questions : s->questions;
    if (fact == NORM) {
        return bif_strdup(s->norm != NULL ? s->norm : "-");
    }
    if (fact == QUESTIONS) {
        return questions >= 0 ? bif_format("%lld", (long long)questions) : bif_strdup("-");
    }
    return s->questions > 0 && s->unparsed >= 0 ? bif_format("%.2f %%", 100.0 * (double)s->unparsed / (double)s->questions) : bif_strdup("-");
}

/* Of all checkpoints of a row, in their order; once where they agree. */
static char *facts_of(const bif_score_report *report, size_t row, int fact)
{
    char *first = NULL, *all = NULL;
    bool same = true;
    for (size_t c = 0; c < report->column_count; c++) {
        const bif_report_score *s = bif_report_at(report, row, c);
        char *own = s != NULL ? fact_of(report, s, fact) : NULL, *more = own != NULL && all != NULL ? bif_format("%s / %s", all, own) : NULL;
        same = same && (own == NULL || first == NULL || strcmp(own, first) == 0);
        if (more != NULL) {
            free(all);
            free(own);
            all = more;
        } else if (own != NULL) {
            first = bif_strdup(own);
            all = own;
        }
    }
    free(same ? all : first);
    return same ? first : all;
}

/* Rows + 1 times FACTS + columns + models cells, the first row is the head. All malloc'ed. */
typedef struct {
    char **cells;
    size_t rows, columns;
} table;

static bool any_published(const bif_score_report *report)
{
    for (size_t r = 0; r < report->row_count; r++) {
        if (report->rows[r].published != NULL) {
            return true;
        }
    }
    return false;
}

static table table_of(const bif_score_report *report)
{
    const size_t models = any_published(report) ? BIF_PUBLISHED_MODELS : 0;
    table t = {.rows = report->row_count + 1, .columns = FACTS + report->column_count + models};
    t.cells = bif_calloc(t.rows * t.columns, sizeof *t.cells);
    t.cells[0] = bif_strdup("task");
    t.cells[1] = bif_strdup("metric");
    t.cells[NORM] = bif_strdup("norm");
    t.cells[QUESTIONS] = bif_strdup("questions");
    t.cells[UNPARSED] = bif_strdup("unparsed");
    for (size_t c = 0; c < report->column_count; c++) {
        t.cells[FACTS + c] = bif_strdup(report->columns[c].name);
    }
    for (size_t m = 0; m < models; m++) {
        t.cells[FACTS + report->column_count + m] = bif_strdup(bif_published_titles[m]);
    }
    for (size_t r = 0; r < report->row_count; r++) {
        const bif_report_row *row = &report->rows[r];
        char **cells = t.cells + (r + 1) * t.columns;
        cells[0] = bif_format(*row->split != '\0' ? "%s %s" : "%s", row->task, row->split);
        cells[1] = bif_strdup(row->metric);
        for (int fact = NORM; fact < FACTS; fact++) {
            cells[fact] = facts_of(report, r, fact);
        }
        for (size_t c = 0; c < report->column_count; c++) {
            cells[FACTS + c] = cell_of(report, bif_report_at(report, r, c));
        }
        for (size_t m = 0; m < models; m++) {
            cells[FACTS + report->column_count + m] = row->published == NULL
                                                      ? bif_strdup("")
                                                      : bif_format("%.1f%s", row->published->value[m], row->comparable ? "" : "*");
        }
    }
    return t;
}

static void table_free(table *t)
{
    for (size_t i = 0; i < t->rows * t->columns; i++) {
        free(t->cells[i]);
    }
    free(t->cells);
}

static size_t characters(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++) {
        count += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return count;
}

/* Control characters of a file do not reach the terminal. */
static void put_plain(bif_text_buffer *out, const char *text, const char *escaped)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            bif_html_add(out, " ");
            continue;
        }
        if (strchr(escaped, *text) != NULL) {
            bif_html_add(out, "\\");
        }
        bif_text_add(out, text, 1);
    }
}

/* "notes" of a score as score wrote them; NULL behind the last. */
static const char *note_of(const bif_report_score *s, size_t at)
{
    return s != NULL ? json_string_value(json_array_get(json_object_get(s->json, "notes"), at)) : NULL;
}

static bool has_note(const bif_report_score *s, const char *note)
{
    for (size_t n = 0; note_of(s, n) != NULL; n++) {
        if (strcmp(note_of(s, n), note) == 0) {
            return true;
        }
    }
    return false;
}

/* What score had to say of a row: of all its checkpoints, or of one. */
static void put_score_notes(const bif_score_report *report, size_t row, const char *lead, const char *escaped, bif_text_buffer *out)
{
    for (size_t c = 0; c < report->column_count; c++) {
        const bif_report_score *s = bif_report_at(report, row, c);
        for (size_t n = 0; note_of(s, n) != NULL; n++) {
            const char *note = note_of(s, n);
            bool all = true, before = false;
            for (size_t k = 0; k < report->column_count; k++) {
                const bif_report_score *other = bif_report_at(report, row, k);
                all = all && (other == NULL || has_note(other, note));
                before = before || (k < c && other != NULL);
            }
            if (all && before) {
                continue;
            }
            bif_html_add(out, lead);
            put_plain(out, report->rows[row].task, escaped);
            if (!all) {
                bif_html_add(out, ", ");
                put_plain(out, report->columns[c].name, escaped);
            }
            bif_html_add(out, ": ");
            put_plain(out, note, escaped);
            bif_html_add(out, "\n");
        }
    }
}

/* star: before what explains the stars of the table, lead: before the others; escaped: as of put_plain. */
static void put_notes(const bif_score_report *report, const char *star, const char *lead, const char *escaped, bif_text_buffer *out)
{
    bool held = false;
    for (size_t c = 0; c < report->column_count; c++) {
        held = held || report->columns[c].like >= 0;
    }
    for (size_t r = 0; r < report->row_count; r++) {
        const bif_published *p = report->rows[r].published;
        if (p != NULL && !report->rows[r].comparable) {
            bif_html_addf(out, "%s%s: the published numbers are of %s; these are not held against them (name the split: FILE@%s)\n", star,
                          p->task, p->title, p->split);
        }
        if (p == NULL && held && *report->rows[r].split != '\0') {
            bif_html_add(out, lead);
            put_plain(out, report->rows[r].task, escaped);
            bif_html_add(out, " ");
            put_plain(out, report->rows[r].split, escaped);
            bif_html_add(out, ": nothing is published of this split; --like compares nothing here\n");
        }
        bool before = false; /* another split of the same */
        for (size_t k = 0; k < r; k++) {
            before = before || report->rows[k].published == p;
        }
        if (p != NULL && p->note != NULL && !before) {
            bif_html_addf(out, "%spublished %s: %s\n", lead, p->title, p->note);
        }
        put_score_notes(report, r, lead, escaped, out);
    }
}

void bif_report_terminal(const bif_score_report *report, bif_text_buffer *out)
{
    table t = table_of(report);
    for (size_t r = 0; r < t.rows; r++) {
        for (size_t c = 0; c < t.columns; c++) {
            size_t width = 0;
            for (size_t k = 0; k < t.rows; k++) {
                const size_t w = characters(t.cells[k * t.columns + c]);
                width = w > width ? w : width;
            }
            const char *text = t.cells[r * t.columns + c];
            put_plain(out, text, "");
            for (size_t w = characters(text); w < width + 2 && c + 1 < t.columns; w++) {
                bif_html_add(out, " ");
            }
        }
        bif_html_add(out, "\n");
    }
    put_notes(report, "* ", "", "", out);
    table_free(&t);
}

void bif_report_markdown(const bif_score_report *report, bif_text_buffer *out)
{
    table t = table_of(report);
    for (size_t r = 0; r < t.rows; r++) {
        bif_html_add(out, "|");
        for (size_t c = 0; c < t.columns; c++) {
            bif_html_add(out, " ");
            put_plain(out, t.cells[r * t.columns + c], MARKDOWN);
            bif_html_add(out, " |");
        }
        bif_html_add(out, "\n");
        for (size_t c = 0; r == 0 && c < t.columns; c++) {
            bif_html_add(out, c == 0 ? "|---|" : c <= NORM ? "---|" : "---:|");
        }
        bif_html_add(out, r == 0 ? "\n" : "");
    }
    bif_html_add(out, "\n");
    put_notes(report, "- \\* ", "- ", MARKDOWN, out);
    table_free(&t);
}

static void put_csv(bif_text_buffer *out, const char *text)
{
    bif_html_add(out, "\"");
    for (; *text != '\0'; text++) {
        bif_text_add(out, text, 1);
        if (*text == '"') {
            bif_html_add(out, "\"");
        }
    }
    bif_html_add(out, "\"");
}

static void put_number(bif_text_buffer *out, double value)
{
    bif_html_add(out, ",");
    if (isfinite(value)) {
        bif_html_addf(out, "%.10g", value);
    }
}

void bif_report_csv(const bif_score_report *report, bif_text_buffer *out)
{
    static const char *const verdicts[] = {"", "yes", "yes", "no"};
    bif_html_add(out, "checkpoint,task,split,metric,headline,value,low,high,questions,missing,duplicates,unparsed,norm,published_model,published,"
                      "difference,band,inside\r\n");
    for (size_t i = 0; i < report->score_count; i++) {
        const bif_report_score *s = &report->scores[i];
        const bif_verdict v = bif_report_verdict(report, s);
        const int like = report->columns[s->column].like;
        for (size_t k = 0; k < s->metric_count; k++) {
            const bif_report_metric *m = &s->metrics[k];
            const bool head = m == bif_report_headline(report, s), held = head && !isnan(v.published);
            const char *const texts[] = {report->columns[s->column].name, s->task, s->split, m->name};
            for (size_t n = 0; n < 4; n++) {
                put_csv(out, texts[n]);
                bif_html_add(out, ",");
            }
            bif_html_add(out, head ? "1" : "0");
            put_number(out, m->value);
            put_number(out, m->low);
            put_number(out, m->high);
            put_number(out, m->questions >= 0 ? (double)m->questions : NAN);
            put_number(out, s->missing >= 0 ? (double)s->missing : NAN);
            put_number(out, s->duplicates >= 0 ? (double)s->duplicates : NAN);
            put_number(out, s->unparsed >= 0 ? (double)s->unparsed : NAN);
            bif_html_add(out, ",");
            put_csv(out, s->norm != NULL ? s->norm : "");
            bif_html_addf(out, ",%s", held ? bif_published_models[like] : "");
            put_number(out, held ? v.published : NAN);
            put_number(out, held ? v.difference : NAN);
            put_number(out, held && v.kind != BIF_VERDICT_NONE ? v.band : NAN);
            bif_html_addf(out, ",%s\r\n", held ? verdicts[v.kind] : "");
        }
    }
}

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *score_json(const bif_score_report *report, const bif_report_score *s)
{
    const bif_verdict v = bif_report_verdict(report, s);
    json_t *list = json_array();
    for (size_t k = 0; k < s->metric_count; k++) {
        const bif_report_metric *m = &s->metrics[k];
        json_array_append_new(list, json_pack("{s:s,s:o,s:o,s:o,s:o}", "name", m->name, "value", number_or_null(m->value), "low",
                                              number_or_null(m->low), "high", number_or_null(m->high), "questions",
                                              m->questions >= 0 ? json_integer(m->questions) : json_null()));
    }
    json_t *out = json_pack("{s:s,s:o,s:s?,s:s?,s:s?,s:o}", "checkpoint", report->columns[s->column].name, "file", bif_json_text(s->path),
                            "norm", s->norm, "rule", s->rule, "predictions", s->predictions, "metrics", list);
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {{"questions", s->questions}, {"missing", s->missing}, {"duplicates", s->duplicates}, {"unparsed", s->unparsed}};
    for (size_t i = 0; i < 4; i++) {
        json_object_set_new(out, counts[i].name, counts[i].value >= 0 ? json_integer(counts[i].value) : json_null());
    }
    if (json_object_get(s->json, "notes") != NULL) {
        json_object_set(out, "notes", json_object_get(s->json, "notes"));
    }
    if (!isnan(v.published)) {
        json_object_set_new(out, "held_against",
                            json_pack("{s:s,s:f,s:f,s:o,s:o}", "model", bif_published_models[report->columns[s->column].like], "published",
                                      v.published, "difference", v.difference, "band",
                                      v.kind != BIF_VERDICT_NONE ? json_real(v.band) : json_null(), "inside",
                                      v.kind != BIF_VERDICT_NONE ? json_boolean(v.kind != BIF_VERDICT_OUTSIDE) : json_null()));
    }
    return out;
}

json_t *bif_report_json(const bif_score_report *report)
{
    json_t *rows = json_array();
    for (size_t r = 0; r < report->row_count; r++) {
        const bif_report_row *row = &report->rows[r];
        json_t *scores = json_array(), *object;
        for (size_t c = 0; c < report->column_count; c++) {
            const bif_report_score *s = bif_report_at(report, r, c);
            if (s != NULL) {
                json_array_append_new(scores, score_json(report, s));
            }
        }
        object = json_pack("{s:s,s:s,s:s,s:o}", "task", row->task, "split", row->split, "metric", row->metric, "scores", scores);
        if (row->published != NULL) {
            json_t *published = json_pack("{s:s,s:b}", "of", row->published->title, "comparable", row->comparable);
            for (int m = 0; m < BIF_PUBLISHED_MODELS; m++) {
                json_object_set_new(published, bif_published_models[m], json_real(row->published->value[m]));
            }
            json_object_set_new(object, "published", published);
        }
        json_array_append_new(rows, object);
    }
    return json_pack("{s:o}", "tasks", rows);
}
