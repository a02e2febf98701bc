/* DocVQA and InfographicVQA: ANLS, the best over the answers of 1 - edit distance / length, and 0 where that is below one half. Texts are
 * lower case with single spaces; the length is the longer one of the texts as they were given, in capitals (official and lmms-eval, which
 * strips the prediction first), or of those compared (VLMEvalKit). References: val_v1.0_withQT.json, infographicsVQA_val_v1.0_withQT.json,
 * or VLMEvalKit's table. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "eval/tsv.h"

static bif_status read_question(bif_score_set *set, bif_scan *s)
{
    bif_status st = BIF_OK;
    bif_span name, id = {0}, document = {0}, type = {0}, *answers = NULL;
    int64_t count = 0, capacity = 0;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "questionId") || bif_span_is(name, "question_id")) {
            BIF_TRY(bif_scan_word(s, &id));
        } else if ((bif_span_is(name, "image") || bif_span_is(name, "image_local_name")) && c == '"') {
            BIF_TRY(bif_scan_string(s, &document));
        } else if ((bif_span_is(name, "answers") || bif_span_is(name, "question_types")) && c == '[') {
            const bool types = bif_span_is(name, "question_types");
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
                bif_span word;
                BIF_TRY(bif_scan_word(s, &word));
                if (types) { /* the first of them */
                    type = type.text == NULL ? word : type;
                    continue;
                }
                if (count == capacity) {
                    bif_span *grown = bif_score_take(set, (size_t)(capacity = 2 * capacity + 4) * sizeof *grown);
                    if (count > 0) {
                        memcpy(grown, answers, (size_t)count * sizeof *grown);
                    }
                    answers = grown;
                }
                answers[count++] = word;
            }
            BIF_TRY(st);
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (id.text == NULL || count == 0) {
        BIF_TRY(bif_scan_fail(s, "the question before has no %s",
                              id.text == NULL ? "questionId" : "answers (those of the test split are not public)"));
    }
    bif_score_item *item = bif_score_add(set, id);
    item->cluster = document;
    item->group[0] = type;
    item->answers = answers;
    item->answer_count = count;
done:
    return st;
}

static bif_status read_json(bif_score_set *set, const char *path)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    bif_span name;
    bool found = false;
    BIF_TRY(bif_score_file(set, path, &s));
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        if (!bif_span_is(name, "data") || bif_scan_peek(s) != '[') {
            BIF_TRY(bif_scan_skip(s));
            continue;
        }
        found = true;
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
            BIF_TRY(read_question(set, s));
        }
        BIF_TRY(st);
    }
    BIF_TRY(st);
    BIF_TRY(bif_scan_end(s));
    if (!found) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no list \"data\" in it", path));
    }
done:
    return st;
}

static bif_status read_docvqa(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        const size_t size = strlen(paths[i]);
        if (size <= 4 || strcmp(paths[i] + size - 4, ".tsv") != 0) {
            BIF_TRY(read_json(set, paths[i]));
            continue;
        }
        bif_tsv table;
        BIF_TRY(bif_tsv_open(set, paths[i], &table));
        const int index = bif_tsv_column(&table, "index"), answer = bif_tsv_column(&table, "answer");
        if (index < 0 || answer < 0) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: no column %s", paths[i], index < 0 ? "index" : "answer"));
        }
        for (bool more; (st = bif_tsv_row(&table, &more)) == BIF_OK && more;) {
            bif_score_item *item = bif_score_add(set, table.fields[index]);
            bif_span *answers = NULL;
            bif_tsv_list(set, table.fields[answer], &answers, &item->answer_count);
            item->answers = answers;
        }
        BIF_TRY(st);
    }
done:
    return st;
}

/* Code points of a text in small letters with single spaces between its words. */
typedef struct {
    uint32_t *codes;
    size_t size, capacity;
} letters;

static void simplify(bif_text_buffer *buffer, bif_span text, letters *out)
{
    bif_text_clear(buffer);
    bif_text_lower(bif_text_strip(text), buffer);
    bif_span rest = bif_text_span(buffer), word;
    out->size = 0;
    if (out->capacity < buffer->size + 1) {
        out->capacity = 2 * buffer->size + 64;
        out->codes = bif_realloc(out->codes, out->capacity, sizeof *out->codes);
    }
    while (bif_text_word(&rest, &word)) {
        if (out->size > 0) {
            out->codes[out->size++] = ' ';
        }
        for (size_t at = 0, step; at<word.size; at += step> 0 ? step : 1) {
            step = bif_utf8_decode(word.text + at, word.size - at, &out->codes[out->size++]);
        }
    }
}

static size_t edit_distance(const letters *a, const letters *b, size_t *row)
{
    for (size_t j = 0; j <= b->size; j++) {
        row[j] = j;
    }
    for (size_t i = 0; i < a->size; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b->size; j++) {
            const size_t above = row[j + 1], least = (above < row[j] ? above : row[j]) + 1,
                         straight = corner + (a->codes[i] != b->codes[j]);
            row[j + 1] = straight < least ? straight : least;
            corner = above;
        }
    }
    return row[b->size];
}

static bif_status score_docvqa(bif_score_set *set, bif_norm norm)
{
    bif_text_buffer buffer = {0};
    letters said = {0}, right = {0};
    size_t *row = NULL, capacity = 0;
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const bif_span given = norm == BIF_NORM_LMMS ? bif_text_strip(item->prediction) : item->prediction;
        double least = 1.0;
        simplify(&buffer, given, &said);
        for (int64_t k = 0; k < item->answer_count; k++) {
            simplify(&buffer, item->answers[k], &right);
            if (capacity < right.size + 1) {
                capacity = 2 * right.size + 64;
                row = bif_realloc(row, capacity, sizeof *row);
            }
            const size_t a = norm == BIF_NORM_VLMEVALKIT ? said.size : bif_text_upper_size(given);
            const size_t b = norm == BIF_NORM_VLMEVALKIT ? right.size : bif_text_upper_size(item->answers[k]);
            const size_t length = a > b ? a : b;
            const double value = length == 0 ? 0.0 : (double)edit_distance(&said, &right, row) / (double)length;
            least = k == 0 || value < least ? value : least;
        }
        item->score = 1.0 - least < 0.5 ? 0.0 : 1.0 - least;
        item->score = item->line > 0 ? item->score : 0.0;
    }
    free(said.codes);
    free(right.codes);
    free(row);
    bif_text_free(&buffer);
    return BIF_OK;
}

static void summarise_docvqa(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    bif_score_means(set, "ANLS", weight, out);
}

const bif_score_task bif_task_docvqa = {
    .name = "docvqa",
    .title = "DocVQA and InfographicVQA: ANLS x 100",
    .references = "val_v1.0_withQT.json, infographicsVQA_val_v1.0_withQT.json, or DocVQA_VAL.tsv",
    .rule = "best over the answers of 1 - edit distance / length, 0 below one half; lower case, single spaces",
    .dimension = {"question_type"},
    .norms = BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_VLMEVALKIT),
    .read = read_docvqa,
    .score = score_docvqa,
    .summarise = summarise_docvqa,
};
