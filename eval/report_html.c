#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "eval/html.h"
#include "eval/report_parts.h"

/* ---- scores ---- */

typedef struct {
    double low, high; /* of the axis */
} axis;

static void widen(axis *a, double value)
{
    if (isfinite(value)) {
        a->low = value < a->low ? value : a->low;
        a->high = value > a->high ? value : a->high;
    }
}

static double place(const axis *a, double value, double width)
{
    return 8.0 + (value - a->low) / (a->high - a->low) * (width - 16.0);
}

/* Each checkpoint's value with its interval, over the published values (hollow) and the bands of those they are held against. */
static void put_plot(const bif_score_report *report, size_t r, bif_text_buffer *out)
{
    const bif_report_row *row = &report->rows[r];
    const bif_published *p = row->published;
    const double width = 220.0, top = 8.0;
    const double height = 14.0 * (double)report->column_count + 26.0;
    axis a = {INFINITY, -INFINITY};
    for (size_t c = 0; c < report->column_count; c++) {
        const bif_report_score *s = bif_report_at(report, r, c);
        if (s != NULL) {
            const bif_report_metric *m = bif_report_headline(report, s);
            widen(&a, m->value);
            widen(&a, m->low);
            widen(&a, m->high);
        }
    }
    for (int m = 0; p != NULL && m < BIF_PUBLISHED_MODELS; m++) {
        widen(&a, p->value[m] - p->band[1]);
        widen(&a, p->value[m] + p->band[1]);
    }
    if (a.low > a.high) {
        return;
    }
    const double room = a.high > a.low ? 0.06 * (a.high - a.low) : 1.0;
    a.low -= room;
    a.high += room;
    bif_html_addf(out, "<svg width=\"%.0f\" height=\"%.0f\" role=\"img\" aria-label=\"values and intervals\">", width, height);
    for (size_t c = 0; c < report->column_count; c++) {
        const bif_report_score *s = bif_report_at(report, r, c);
        const bif_verdict v = s != NULL ? bif_report_verdict(report, s) : (bif_verdict){.published = NAN};
        if (v.kind != BIF_VERDICT_NONE) {
            const double from = place(&a, v.published - p->band[1], width), to = place(&a, v.published + p->band[1], width);
            bif_html_addf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"14\" fill=\"var(--band)\"/>", from,
                          top + 14.0 * (double)c, to - from);
        }
    }
    const double base = top + 14.0 * (double)report->column_count;
    bif_html_addf(out, "<line x1=\"8\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"var(--line)\"/>", width - 8.0, base, base);
    for (int m = 0; p != NULL && m < BIF_PUBLISHED_MODELS; m++) {
        const double x = place(&a, p->value[m], width);
        bif_html_addf(out,
                      "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.0f\" y2=\"%.1f\" stroke=\"var(--theirs)\" stroke-dasharray=\"2 "
                      "2\"%s><title>%s: %.1f</title></line>",
                      x, x, top, base, row->comparable ? "" : " opacity=\".4\"", bif_published_titles[m], p->value[m]);
    }
    for (size_t c = 0; c < report->column_count; c++) {
        const bif_report_score *s = bif_report_at(report, r, c);
        const bif_report_metric *m = s != NULL ? bif_report_headline(report, s) : NULL;
        const double y = top + 14.0 * (double)c + 7.0;
        if (m == NULL || !isfinite(m->value)) {
            continue;
        }
        if (isfinite(m->low) && isfinite(m->high)) {
            bif_html_addf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"var(--mine)\" stroke-width=\"2\"/>",
                          place(&a, m->low, width), place(&a, m->high, width), y, y);
        }
        bif_html_addf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\" fill=\"var(--mine)\"><title>", place(&a, m->value, width), y);
        bif_html_words(out, report->columns[c].name);
        bif_html_addf(out, ": %.2f</title></circle>", m->value);
    }
    bif_html_addf(out, "<text x=\"8\" y=\"%.1f\" font-size=\"11\" fill=\"var(--soft)\">%.*f</text>", base + 13.0,
                  a.high - a.low < 20.0 ? 1 : 0, a.low);
    bif_html_addf(out, "<text x=\"%.0f\" y=\"%.1f\" font-size=\"11\" text-anchor=\"end\" fill=\"var(--soft)\">%.*f</text></svg>",
                  width - 8.0, base + 13.0, a.high - a.low < 20.0 ? 1 : 0, a.high);
}

static void put_value(const bif_report_metric *m, bif_text_buffer *out)
{
    if (!isfinite(m->value)) {
        bif_html_add(out, "<span class=\"soft\">none</span>");
        return;
    }
    bif_html_addf(out, "<span class=\"value\">%.2f</span>", m->value);
    if (isfinite(m->low) && isfinite(m->high)) {
        bif_html_addf(out, "<span class=\"range\">%.2f to %.2f</span>", m->low, m->high);
    }
}

static void put_score(const bif_score_report *report, const bif_report_score *s, bif_text_buffer *out)
{
    static const char *const colours[] = {"", "good", "good", "bad"}, *const words[] = {"", "inside", "inside", "outside"};
    put_value(bif_report_headline(report, s), out);
    const bif_verdict v = bif_report_verdict(report, s);
    if (v.kind != BIF_VERDICT_NONE) {
        bif_html_addf(out, "<span class=\"held\"><span class=\"badge %s\" title=\"against %s: %.1f\">%+.2f, %s &#177;%.3g</span></span>",
                      colours[v.kind], bif_published_models[report->columns[s->column].like], v.published, v.difference, words[v.kind],
                      v.band);
    } else if (!isnan(v.difference)) {
        bif_html_addf(out, "<span class=\"range\">%+.2f against %s</span>", v.difference,
                      bif_published_models[report->columns[s->column].like]);
    } else if (v.questions > 0) {
        bif_html_addf(out, "<span class=\"held\"><span class=\"badge mid\">%lld questions, published: %lld</span></span>",
                      (long long)bif_report_headline(report, s)->questions, (long long)v.questions);
    }
    if (s->missing > 0) {
        bif_html_addf(out, "<span class=\"held\"><span class=\"badge mid\">%lld missing</span></span>", (long long)s->missing);
    }
}

static void put_scores(const bif_score_report *report, bif_text_buffer *out)
{
    bool published = false, other_split = false, intervals = false;
    for (size_t r = 0; r < report->row_count; r++) {
        published = published || report->rows[r].published != NULL;
        other_split = other_split || (report->rows[r].published != NULL && !report->rows[r].comparable);
    }
    for (size_t i = 0; i < report->score_count; i++) {
        intervals = intervals || isfinite(bif_report_headline(report, &report->scores[i])->low);
    }
    bif_html_add(out, "<div class=\"scroll\"><table><thead><tr><th>task</th><th>metric</th>");
    for (size_t c = 0; c < report->column_count; c++) {
        bif_html_add(out, "<th>");
        bif_html_words(out, report->columns[c].name);
        bif_html_add(out, "</th>");
    }
    bif_html_add(out, "<th></th>");
    for (int m = 0; published && m < BIF_PUBLISHED_MODELS; m++) {
        bif_html_addf(out, "<th class=\"published\">%s</th>", bif_published_titles[m]);
    }
    bif_html_add(out, "</tr></thead><tbody>\n");
    for (size_t r = 0; r < report->row_count; r++) {
        const bif_report_row *row = &report->rows[r];
        bif_html_addf(out, "<tr><td><a href=\"#t%zu\">", r);
        bif_html_words(out, row->task);
        bif_html_add(out, "</a>");
        if (*row->split != '\0') {
            bif_html_add(out, " <span class=\"soft\">");
            bif_html_words(out, row->split);
            bif_html_add(out, "</span>");
        }
        bif_html_add(out, "</td><td class=\"soft\">");
        bif_html_words(out, row->metric);
        bif_html_add(out, "</td>");
        for (size_t c = 0; c < report->column_count; c++) {
            const bif_report_score *s = bif_report_at(report, r, c);
            bif_html_add(out, "<td>");
            if (s != NULL) {
                put_score(report, s, out);
            }
            bif_html_add(out, "</td>");
        }
        bif_html_add(out, "<td class=\"plot\">");
        put_plot(report, r, out);
        bif_html_add(out, "</td>");
        for (int m = 0; published && m < BIF_PUBLISHED_MODELS; m++) {
            bif_html_add(out, "<td class=\"published\">");
            if (row->published != NULL) {
                bif_html_addf(out, "%.1f%s", row->published->value[m], row->comparable ? "" : "*");
            }
            bif_html_add(out, "</td>");
        }
        bif_html_add(out, "</tr>\n");
    }
    bif_html_add(out, "</tbody></table></div>\n<p class=\"soft small\">");
    if (intervals) {
        bif_html_add(out, "Below a value its 95 % interval, from draws of pictures with replacement. ");
    }
    if (published) {
        bif_html_add(out, "Published: LLaVA's model zoo (dashed). A band is how far the same weights (&#177;0.5), or a training by the "
                          "same recipe (&#177;0.6; MME "
                          "&#177;30), may be off; tasks whose numbers move more, or depend on a judge, have none. ");
    }
    bif_html_add(out, other_split ? "* of another split, not held against these scores." : "");
    bif_html_add(out, "</p>\n");
}

static void put_metrics(const bif_score_report *report, size_t r, bif_text_buffer *out)
{
    const bif_report_score *first = NULL;
    for (size_t c = 0; c < report->column_count; c++) {
        const bif_report_score *s = bif_report_at(report, r, c);
        first = s != NULL && (first == NULL || s->metric_count > first->metric_count) ? s : first;
    }
    bif_html_addf(out, "<details%s><summary>%zu numbers</summary><div class=\"scroll\"><table><thead><tr><th>metric</th>",
                  first->metric_count <= 6 ? " open" : "", first->metric_count);
    for (size_t c = 0; c < report->column_count; c++) {
        bif_html_add(out, "<th>");
        bif_html_words(out, report->columns[c].name);
        bif_html_add(out, "</th>");
    }
    bif_html_add(out, "<th>questions</th></tr></thead><tbody>\n");
    for (size_t k = 0; k < first->metric_count; k++) {
        bif_html_add(out, "<tr><td>");
        bif_html_words(out, first->metrics[k].name);
        bif_html_add(out, "</td>");
        for (size_t c = 0; c < report->column_count; c++) {
            const bif_report_score *s = bif_report_at(report, r, c);
            size_t at = 0;
            while (s != NULL && at < s->metric_count && strcmp(s->metrics[at].name, first->metrics[k].name) != 0) {
                at++;
            }
            bif_html_add(out, "<td>");
            if (s != NULL && at < s->metric_count) {
                put_value(&s->metrics[at], out);
            }
            bif_html_add(out, "</td>");
        }
        bif_html_add(out, "<td class=\"soft\">");
        if (first->metrics[k].questions >= 0) {
            bif_html_addf(out, "%lld", (long long)first->metrics[k].questions);
        }
        bif_html_add(out, "</td></tr>\n");
    }
    bif_html_add(out, "</tbody></table></div></details>\n");
}

static void put_sources(const bif_score_report *report, size_t r, bif_text_buffer *out)
{
    for (size_t c = 0; c < report->column_count; c++) {
        const bif_report_score *s = bif_report_at(report, r, c);
        if (s == NULL) {
            continue;
        }
        bif_html_add(out, "<p class=\"soft small\">");
        bif_html_words(out, report->columns[c].name);
        bif_html_add(out, ": ");
        bif_html_words(out, s->predictions != NULL ? s->predictions : s->path);
        const struct {
            const char *name;
            int64_t value;
        } counts[] = {{"questions", s->questions}, {"missing", s->missing}, {"duplicates", s->duplicates}, {"not parsed", s->unparsed}};
        for (size_t k = 0; k < 4; k++) {
            if (counts[k].value > 0 || (k == 0 && counts[k].value >= 0)) {
                bif_html_addf(out, "; %lld %s", (long long)counts[k].value, counts[k].name);
            }
        }
        if (s->norm != NULL) {
            bif_html_add(out, "; norm ");
            bif_html_words(out, s->norm);
        }
        bif_html_add(out, "</p>\n");
        size_t k;
        const json_t *note;
        json_array_foreach(json_object_get(s->json, "notes"), k, note)
        {
            if (json_is_string(note)) {
                bif_html_add(out, "<p class=\"soft small\">");
                bif_html_words(out, json_string_value(note));
                bif_html_add(out, "</p>\n");
            }
        }
    }
}

/* Cards of a row, whose pictures are in the folder of its task or in that of all. */
static bif_status put_cards(const bif_score_report *report, size_t row, const bif_report_page *page, bif_text_buffer *out)
{
    bif_report_page own = *page;
    const char *task = report->rows[row].task;
    const size_t size = strlen(task);
    for (size_t i = 0; i < page->task_root_count; i++) {
        const char *root = page->task_roots[i];
        own.image_root = strncmp(root, task, size) == 0 && root[size] == '=' ? root + size + 1 : own.image_root;
    }
    const int root = own.image_root != NULL ? open(own.image_root, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (own.image_root != NULL && root < 0) {
        return bif_fail_errno(errno, "image root %s", own.image_root);
    }
    const bif_status st = bif_report_put_cards(report, row, &own, root, out);
    if (root >= 0) {
        close(root);
    }
    return st;
}

bif_status bif_report_html(const bif_score_report *report, const bif_report_page *page, bif_text_buffer *out)
{
    bif_status st = BIF_OK;
    bif_html_add(out, bif_html_head);
    bif_html_add(out, "<title>");
    bif_html_words(out, page->title);
    bif_html_add(out, "</title>\n<style>\n");
    bif_html_add(out, bif_html_style);
    bif_html_add(out, "</style>\n</head>\n<body><main>\n<h1>");
    bif_html_words(out, page->title);
    bif_html_addf(out, "</h1>\n<p class=\"soft\">%zu task%s, %zu checkpoint%s; scored by bifocal by each benchmark's own rules</p>\n",
                  report->row_count, report->row_count == 1 ? "" : "s", report->column_count, report->column_count == 1 ? "" : "s");
    put_scores(report, out);
    for (size_t r = 0; r < report->row_count; r++) {
        const bif_report_row *row = &report->rows[r];
        const char *rule = NULL;
        for (size_t c = 0; c < report->column_count; c++) {
            const bif_report_score *s = bif_report_at(report, r, c);
            rule = s != NULL && rule == NULL ? s->rule : rule;
        }
        bif_html_addf(out, "<section id=\"t%zu\">\n<h2>", r);
        bif_html_words(out, row->task);
        if (*row->split != '\0') {
            bif_html_add(out, " ");
            bif_html_words(out, row->split);
        }
        bif_html_add(out, "</h2>\n");
        if (rule != NULL) {
            bif_html_add(out, "<p class=\"small\">");
            bif_html_words(out, rule);
            bif_html_add(out, "</p>\n");
        }
        if (row->published != NULL && row->published->note != NULL) {
            bif_html_addf(out, "<p class=\"soft small\">Published %s: %s.</p>\n", row->published->title, row->published->note);
        }
        put_sources(report, r, out);
        put_metrics(report, r, out);
        BIF_TRY(put_cards(report, r, page, out));
        bif_html_add(out, "</section>\n");
    }
    bif_html_add(out, "</main></body>\n</html>\n");
done:
    return st;
}
