/* LLaVA-Bench (in the wild) and K-LLaVA-W: a judge scores two answers to a question, first the reference's, then the model's; the
 * benchmark's number is the ratio of their means. A review that cannot be read counts as (-1, -1) in LLaVA's own summary; both with it
 * and without are given here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/judge.h"

enum { REFERENCE = 0, MODEL = 1 }; /* item->value */

static bif_span without_prefix(bif_span category)
{
    static const char prefix[] = "llava_bench_";
    const size_t n = sizeof prefix - 1;
    return category.size >= n && memcmp(category.text, prefix, n) == 0 ? (bif_span){category.text + n, category.size - n} : category;
}

/* A text, or a list of them, a line each. */
static bif_status read_lines(bif_score_set *set, bif_scan *s, bif_span *out)
{
    bif_status st = BIF_OK;
    bif_text_buffer text = {0};
    bif_span line;
    if (bif_scan_peek(s) != '[') {
        return bif_scan_string(s, out);
    }
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        BIF_TRY(bif_scan_string(s, &line));
        bif_text_add(&text, "\n", text.size > 0 ? 1 : 0);
        bif_text_add(&text, line.text, line.size);
    }
    BIF_TRY(st);
    *out = bif_score_keep(set, bif_text_span(&text));
done:
    bif_text_free(&text);
    return st;
}

/* A question, or a review, which names its question and category too. */
static bif_status read_question(bif_score_set *set, bif_scan *s)
{
    bif_status st = BIF_OK;
    bif_span name, id = {0}, category = {0};
    bif_judge_question q = {0};
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "question_id")) {
            BIF_TRY(bif_scan_word(s, &id));
        } else if (bif_span_is(name, "category") && c == '"') {
            BIF_TRY(bif_scan_string(s, &category));
        } else if ((bif_span_is(name, "text") || bif_span_is(name, "question")) && c == '"') {
            BIF_TRY(bif_scan_string(s, &q.question));
        } else if (bif_span_is(name, "image") && c == '"') {
            BIF_TRY(bif_scan_string(s, &q.image));
        } else if (bif_span_is(name, "caption") && (c == '"' || c == '[')) {
            BIF_TRY(read_lines(set, s, &q.context));
        } else if (bif_span_is(name, "gpt_answer") && c == '"') {
            BIF_TRY(bif_scan_string(s, &q.reference));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (id.text == NULL || category.size == 0) {
        BIF_TRY(bif_scan_fail(s, "the question before has no %s", id.text == NULL ? "question_id" : "category"));
    }
    bif_score_item *item = bif_score_add(set, id);
    item->cluster = q.image;
    item->group[0] = without_prefix(category);
    item->more = memcpy(bif_score_take(set, sizeof q), &q, sizeof q);
done:
    return st;
}

static bif_status read_questions(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        while (bif_scan_peek(s) == '{') {
            BIF_TRY(read_question(set, s));
        }
        BIF_TRY(bif_scan_end(s));
    }
done:
    return st;
}

/* [8, 6] as "8 6". */
static bif_status read_pair(bif_score_set *set, bif_scan *s, bif_span *out)
{
    bif_status st = BIF_OK;
    bif_span number[2] = {{0}};
    size_t count = 0;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more; count++) {
        BIF_TRY(count == 2 ? bif_scan_fail(s, "more than two scores") : bif_scan_word(s, &number[count]));
    }
    BIF_TRY(st);
    if (count != 2) {
        BIF_TRY(bif_scan_fail(s, "two scores are wanted here"));
    }
    *out = bif_score_text(set, "%.*s %.*s", (int)number[0].size, number[0].text, (int)number[1].size, number[1].text);
done:
    return st;
}

/* Reviews as LLaVA's scripts write them: {"question_id", "content", "tuple"}; the tuple counts where there is one, as in their summary. Or as
 * batch services return them: {"custom_id", "response"}. */
static bif_status read_reviews(bif_score_set *set, bif_score_reader *reader, const char *path, bool *own)
{
    static const char *const keys[] = {"tuple", "content", "review", "response", NULL};
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    BIF_TRY(bif_score_file(set, path, &s));
    *own = bif_judge_has_key(s, keys);
    while (*own && bif_scan_peek(s) == '{') {
        const int64_t line = bif_scan_line(s);
        bif_span name, id = {0}, review = {0};
        bool pair = false;
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
            const char c = bif_scan_peek(s);
            if (bif_span_is(name, "question_id")) {
                BIF_TRY(bif_scan_word(s, &id));
            } else if (bif_span_is(name, "custom_id") && id.text == NULL && c == '"') {
                BIF_TRY(bif_scan_string(s, &id));
                id = bif_judge_own_id(set->task, id);
            } else if (!pair && bif_span_is(name, "response") && c == '{') {
                BIF_TRY(bif_judge_reply(s, &review));
            } else if ((bif_span_is(name, "tuple") || bif_span_is(name, "score")) && c == '[') {
                pair = true;
                BIF_TRY(read_pair(set, s, &review));
            } else if (!pair && (bif_span_is(name, "content") || bif_span_is(name, "review")) && c == '"') {
                BIF_TRY(bif_scan_string(s, &review));
            } else {
                BIF_TRY(bif_scan_skip(s));
            }
        }
        BIF_TRY(st);
        if (id.text == NULL || review.text == NULL) {
            BIF_TRY(bif_scan_fail(s, "the review before has no %s", id.text == NULL ? "question_id or custom_id" : "content, no tuple and no response"));
        }
        bif_score_answer(reader, path, line, id, review);
    }
    st = *own ? bif_scan_end(s) : BIF_OK;
done:
    return st;
}

static bif_status score_reviews(bif_score_set *set, bif_norm norm)
{
    int64_t unread = 0;
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        if (!bif_judge_pair(item->prediction, norm == BIF_NORM_LMMS, item->value)) {
            item->value[REFERENCE] = item->value[MODEL] = -1.0;
        }
        item->unparsed = item->value[REFERENCE] == -1.0 && item->value[MODEL] == -1.0;
        item->score = item->unparsed ? 0.0 : item->value[MODEL] / 10.0;
        item->parsed = bif_score_text(set, "%g %g", item->value[REFERENCE], item->value[MODEL]);
        unread += item->unparsed;
    }
    if (unread == set->count) {
        bif_score_note(set, "no review could be read; are these answers rather than reviews? bifocal judge-requests asks for reviews");
    } else if (unread > 0) {
        bif_score_note(set, "%lld reviews could not be read: -1 and -1 in `relative`, as in LLaVA's summary, left out of `relative, read`",
                       (long long)unread);
    }
    return BIF_OK;
}

static double rounded(double value)
{
    return nearbyint(value * 1000.0) / 1000.0;
}

/* Group g of the categories, -1 = all. LLaVA rounds means to three digits before it divides them. */
static void add_ratio(const bif_score_set *set, const int32_t *weight, int32_t g, bool read_only, bif_metric_list *out)
{
    double sum[2] = {0};
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        if ((g >= 0 && item->group_index[0] != g) || (read_only && item->unparsed)) {
            continue;
        }
        sum[REFERENCE] += weight[i] * item->value[REFERENCE];
        sum[MODEL] += weight[i] * item->value[MODEL];
        count += weight[i];
    }
    const bif_span name = g >= 0 ? set->group[0][g] : (bif_span){"", 0};
    const double reference = rounded(sum[REFERENCE] / (double)count), model = rounded(sum[MODEL] / (double)count);
    const char *kind = read_only ? ", read" : "", *slash = g >= 0 ? "/" : "";
    bif_metric_add(out, 100.0 * model / reference, count, "relative%s%s%.*s", kind, slash, (int)name.size, name.text);
    if (!read_only) {
        bif_metric_add(out, 10.0 * reference, count, "reference%s%.*s", slash, (int)name.size, name.text);
        bif_metric_add(out, 10.0 * model, count, "model%s%.*s", slash, (int)name.size, name.text);
    }
}

static void summarise(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    for (int read_only = 0; read_only < 2; read_only++) {
        for (int32_t g = -1; g < set->groups[0]; g++) {
            add_ratio(set, weight, g, read_only != 0, out);
        }
    }
}

const bif_score_task bif_task_llava_bench = {
    .name = "llava-bench",
    .title = "LLaVA-Bench: reviews of a judge, the model's scores relative to the reference's",
    .references = "questions.jsonl (question_id, category, image, text), or the reviews themselves",
    .rule = "100 x mean score of the model / mean score of the reference answers",
    .dimension = {"category"},
    .norms = BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_LMMS),
    .read = read_questions,
    .predict = read_reviews,
    .score = score_reviews,
    .summarise = summarise,
};
const bif_score_task bif_task_k_llava_w = {
    .name = "k-llava-w",
    .title = "K-LLaVA-W: LLaVA-Bench in Korean",
    .references = "JSONL of question_id, category, question, caption, gpt_answer, or the reviews themselves",
    .rule = "as llava-bench; blanks around a review's first line do not count, as in lmms-eval",
    .dimension = {"category"},
    .norms = BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_LMMS),
    .usual = BIF_NORM_LMMS,
    .read = read_questions,
    .predict = read_reviews,
    .score = score_reviews,
    .summarise = summarise,
};
