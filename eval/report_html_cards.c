#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/file.h"
#include "eval/html.h"
#include "eval/report_parts.h"

#define PICTURE_BYTES ((size_t)256 << 20)
#define THUMBNAIL 288 /* longer side, in pixels */
#define FILTER_VALUES 400
#define SHOWN_BYTES ((size_t)1500) /* of a text */

static const char *const kinds[BIF_CARD_KINDS] = {"right", "wrong", "differ"};

static bif_status read_file(const bif_report_page *page, int root, const char *file, char **bytes, size_t *size)
{
    bif_status st = BIF_OK;
    int fd = -1;
    BIF_TRY(bif_open_beneath(root, page->image_root, file, &fd, size));
    if (*size > PICTURE_BYTES) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: has %zu bytes", file, *size));
    }
    *bytes = bif_malloc(*size + 1);
    for (size_t at = 0, got = 0; at < *size; at += got) {
        BIF_TRY(bif_read_some(fd, file, *bytes + at, *size - at, &got));
        if (got == 0) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: became shorter while it was read", file));
        }
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

/* A picture that cannot be shown is a sentence in its place, not an error. */
static void put_picture(const bif_report_page *page, int root, const bif_card *card, int64_t which, bif_text_buffer *out)
{
    bif_status st = BIF_OK;
    size_t size = 0;
    char *file = card->embedded ? bif_strdup("the picture of the table") : bif_span_copy(card->picture[which]), *bytes = NULL;
    BIF_TRY(card->embedded ? bif_base64_decode(file, card->picture[which], &bytes, &size) 
            : page->shards != NULL ? bif_questions_shard_picture(page->shards, file, &bytes, &size)
                                   : read_file(page, root, file, &bytes, &size));
    BIF_TRY(bif_html_picture(out, file, bytes, size, THUMBNAIL));
done:
    if (st != BIF_OK) {
        bif_html_add(out, "<span class=\"none\">");
        bif_html_words(out, bif_error_message());
        bif_html_add(out, "</span>");
        bif_error_clear();
    }
    free(file);
    free(bytes);
}

/* Values of a group among the cards, numbered in order of appearance. */
typedef struct {
    bif_span name, values[FILTER_VALUES];
    int count;
} filter;

static int value_of(filter *f, bif_span value)
{
    for (int i = 0; i < f->count; i++) {
        if (bif_span_equal(f->values[i], value)) {
            return i;
        }
    }
    if (f->count == FILTER_VALUES) {
        return -1;
    }
    f->values[f->count] = value;
    return f->count++;
}

static void put_answer(const char *name, const bif_card_answer *a, bif_text_buffer *out)
{
    bif_html_addf(out, "<div class=\"answer %s\"><div class=\"who\"><span>", !a->there ? "" : a->score >= 0.5 ? "y" : "n");
    bif_html_words(out, name);
    bif_html_add(out, "</span>");
    if (a->there) {
        bif_html_addf(out, "<span class=\"%s\">%.3g</span>", a->score >= 0.5 ? "good" : "bad", a->score);
    }
    bif_html_add(out, "</div>");
    if (!a->there || a->missing) {
        bif_html_add(out, "<span class=\"soft\">no prediction</span>");
    } else {
        bif_html_add(out, "<span class=\"text\" dir=\"auto\">");
        bif_html_text(out, a->prediction, SHOWN_BYTES);
        bif_html_add(out, a->prediction.size == 0 ? "<i class=\"soft\">empty</i></span>" : "</span>");
    }
    if (a->there && a->unparsed) {
        bif_html_add(out, "<span class=\"badge mid\">not parsed</span>");
    } else if (a->there && !a->missing && !bif_span_equal(a->prediction, a->compared)) {
        bif_html_add(out, "<span class=\"compared\">compared: <span class=\"text\" dir=\"auto\">");
        bif_html_text(out, a->compared, SHOWN_BYTES);
        bif_html_add(out, a->compared.size == 0 ? "<i>empty</i></span></span>" : "</span></span>");
    }
    bif_html_add(out, "</div>");
}

static void put_card(const bif_score_report *report, size_t row, const bif_report_page *page, int root, const bif_card *card,
                     filter *filters, bif_text_buffer *out)
{
    bif_html_addf(out, "<article class=\"card k%d", card->kind);
    for (int d = 0; d < BIF_CARD_GROUPS; d++) {
        if (card->group[d].size > 0) {
            bif_html_addf(out, " g%dv%d", d, value_of(&filters[d], card->group[d]));
        }
    }
    bif_html_add(out, "\">");
    if ((page->image_root != NULL || page->shards != NULL || card->embedded) && card->pictures > 0) {
        bif_html_add(out, "<figure>");
        for (int64_t i = 0; i < card->pictures; i++) {
            put_picture(page, root, card, i, out);
        }
        bif_html_add(out, "</figure>");
    }
    bif_html_add(out, "<div class=\"body\">");
    if (card->question.size > 0) {
        bif_html_add(out, "<p class=\"question text\" dir=\"auto\">");
        bif_html_text(out, card->question, SHOWN_BYTES);
        bif_html_add(out, "</p>");
    }
    for (size_t c = 0; c < report->column_count; c++) {
        if (bif_report_at(report, row, c) != NULL && (bif_report_at(report, row, c)->items != NULL)) {
            put_answer(report->columns[c].name, &card->answers[c], out);
        }
    }
    if (card->reference_count > 0) {
        bif_html_add(out, "<p class=\"refs\"><span class=\"soft\">references:</span> ");
        for (int64_t i = 0; i < card->reference_count && i < 16; i++) {
            bif_html_add(out, "<span class=\"text\" dir=\"auto\">");
            bif_html_text(out, card->references[i], 300);
            bif_html_add(out, "</span>");
            if (card->reference_times[i] > 1) {
                bif_html_addf(out, "<span class=\"soft small\">&#215;%lld</span> ", (long long)card->reference_times[i]);
            }
        }
        bif_html_add(out, "</p>");
    }
    bif_html_add(out, "<div class=\"meta\">");
    bif_html_text(out, card->id, 200);
    for (int d = 0; d < BIF_CARD_GROUPS; d++) {
        if (card->group[d].size > 0) {
            bif_html_add(out, " &#183; ");
            bif_html_text(out, card->group[d], 100);
        }
    }
    bif_html_add(out, "</div></div></article>\n");
}

/* Lists to choose from, and the rules that make them hide cards: no script. */
static void put_filters(size_t r, const bif_cards *cards, const filter *filters, bif_text_buffer *out)
{
    int64_t shown[BIF_CARD_KINDS] = {0};
    for (size_t i = 0; i < cards->count; i++) {
        shown[cards->items[i].kind]++;
    }
    bif_html_add(out, "<style>");
    for (int k = 0; k < BIF_CARD_KINDS; k++) {
        bif_html_addf(out, "#t%zu:has(.fk option[value=\"%d\"]:checked) .card:not(.k%d){display:none}", r, k, k);
    }
    for (int d = 0; d < BIF_CARD_GROUPS; d++) {
        for (int v = 0; v < filters[d].count; v++) {
            bif_html_addf(out, "#t%zu:has(.f%d option[value=\"%d\"]:checked) .card:not(.g%dv%d){display:none}", r, d, v, d, v);
        }
    }
    bif_html_addf(out,
                  "</style>\n<div class=\"filters\"><label>show<select class=\"fk\" autocomplete=\"off\"><option value=\"all\" "
                  "selected>all %zu</option>",
                  cards->count);
    for (int k = 0; k < BIF_CARD_KINDS; k++) {
        if (shown[k] > 0) {
            bif_html_addf(out, "<option value=\"%d\">%s (%lld of %lld)</option>", k, kinds[k], (long long)shown[k],
                          (long long)cards->of_kind[k]);
        }
    }
    bif_html_add(out, "</select></label>");
    for (int d = 0; d < BIF_CARD_GROUPS; d++) {
        if (filters[d].count < 2) {
            continue;
        }
        bif_html_add(out, "<label>");
        bif_html_text(out, filters[d].name, 60);
        bif_html_addf(out, "<select class=\"f%d\" autocomplete=\"off\"><option value=\"all\" selected>all</option>", d);
        for (int v = 0; v < filters[d].count; v++) {
            bif_html_addf(out, "<option value=\"%d\">", v);
            bif_html_text(out, filters[d].values[v], 80);
            bif_html_add(out, "</option>");
        }
        bif_html_add(out, "</select></label>");
    }
    bif_html_add(out, "</div>\n");
}

bif_status bif_report_put_cards(const bif_score_report *report, size_t r, const bif_report_page *page, int root, bif_text_buffer *out)
{
    bif_status st = BIF_OK;
    bif_cards cards = {0};
    bif_text_buffer body = {0};
    filter *filters = bif_calloc(BIF_CARD_GROUPS, sizeof *filters);
    BIF_TRY(bif_cards_draw(report, r, page->most, page->questions, page->question_files, &cards));
    if (cards.count == 0) {
        goto done;
    }
    for (int k = 0; k < 3; k++) { /* what went wrong first */
        static const int order[] = {BIF_CARD_DIFFER, BIF_CARD_WRONG, BIF_CARD_RIGHT};
        for (size_t i = 0; i < cards.count; i++) {
            for (int d = 0; d < BIF_CARD_GROUPS && filters[d].name.text == NULL; d++) {
                filters[d].name = cards.items[i].dimension[d];
            }
            if (cards.items[i].kind == order[k]) {
                put_card(report, r, page, root, &cards.items[i], filters, &body);
            }
        }
    }
    bif_html_addf(out,
                  "<h3>Questions</h3>\n<p class=\"soft small\">Drawn by a key from the question's id (evenly over the values of the first "
                  "group), so any report of "
                  "this task shows the same ones; right means a score of at least one half. %s: %lld, %s: %lld",
                  kinds[0], (long long)cards.of_kind[0], kinds[1], (long long)cards.of_kind[1]);
    if (report->column_count > 1) {
        bif_html_addf(out, ", checkpoints %s: %lld", kinds[2], (long long)cards.of_kind[2]);
    }
    bif_html_add(out, ".</p>\n");
    put_filters(r, &cards, filters, out);
    bif_html_add(out, "<div class=\"cards\">\n");
    bif_text_add(out, body.text, body.size);
    bif_html_add(out, "</div>\n");
done:
    bif_cards_free(&cards);
    bif_text_free(&body);
    free(filters);
    return st;
}
