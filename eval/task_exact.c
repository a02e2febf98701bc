/* Exact match on a JSONL of questions, as `bifocal eval` scores it: white space around, one trailing period and the case of ASCII letters do not
 * count. Several references (a list) count alike. */
#include <ctype.h>
#include <strings.h>

#include "eval/score.h"

static bif_status read_line(bif_score_set *set, bif_scan *s)
{
    bif_status st = BIF_OK;
    bif_span name, id = {0}, image = {0}, type = {0}, *answers = NULL;
    int64_t count = 0, capacity = 0;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "question_id")) {
            BIF_TRY(bif_scan_word(s, &id));
        } else if (bif_span_is(name, "image") && c == '"') {
            BIF_TRY(bif_scan_string(s, &image));
        } else if ((bif_span_is(name, "type") || bif_span_is(name, "category")) && c == '"') {
            BIF_TRY(bif_scan_string(s, &type));
        } else if ((bif_span_is(name, "answer") || bif_span_is(name, "answers")) && c == '[') {
            bool another = false;
            BIF_TRY(bif_scan_enter(s, '['));
            while ((st = bif_scan_more(s, &another)) == BIF_OK && another) {
                if (count == capacity) {
                    bif_span *grown = bif_score_take(set, (size_t)(capacity = 2 * capacity + 4) * sizeof *grown);
                    for (int64_t i = 0; i < count; i++) {
                        grown[i] = answers[i];
                    }
                    answers = grown;
                }
                BIF_TRY(bif_scan_word(s, &answers[count++]));
            }
            BIF_TRY(st);
        } else if (bif_span_is(name, "answer") && c != 'n') {
            answers = bif_score_take(set, sizeof *answers);
            count = 1;
            BIF_TRY(bif_scan_word(s, answers));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (id.text == NULL || count == 0) {
        BIF_TRY(bif_scan_fail(s, "the object before has no %s", id.text == NULL ? "question_id" : "answer"));
    }
    bif_score_item *item = bif_score_add(set, id);
    item->cluster = image;
    item->group[0] = type;
    item->answers = answers;
    item->answer_count = count;
done:
    return st;
}

bif_status bif_score_read_questions(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        while (bif_scan_peek(s) == '{') {
            BIF_TRY(read_line(set, s));
        }
        BIF_TRY(bif_scan_end(s));
    }
done:
    return st;
}

static bif_span trimmed(bif_span text)
{
    while (text.size > 0 && isspace((unsigned char)text.text[0])) {
        text.text++;
        text.size--;
    }
    while (text.size > 0 && isspace((unsigned char)text.text[text.size - 1])) {
        text.size--;
    }
    text.size -= text.size > 0 && text.text[text.size - 1] == '.';
    return text;
}

bif_status bif_score_exact(bif_score_set *set, bif_norm norm)
{
    (void)norm;
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        item->parsed = trimmed(item->prediction);
        for (int64_t k = 0; k < item->answer_count && item->score < 1.0; k++) {
            const bif_span answer = trimmed(item->answers[k]);
            item->score = answer.size == item->parsed.size && strncasecmp(answer.text, item->parsed.text, answer.size) == 0;
        }
    }
    return BIF_OK;
}

const bif_score_task bif_task_exact = {
    .name = "exact",
    .title = "exact match (your own questions)",
    .references = "JSONL of question_id, answer (a text, or a list of them), image, type",
    .rule = "white space around, one trailing period and ASCII case do not count",
    .dimension = {"type"},
    .read = bif_score_read_questions,
    .score = bif_score_exact,
};
