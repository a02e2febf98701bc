/* Soft accuracy of ten answers: VQAv2, OK-VQA, TextVQA, VizWiz. An answer is worth min(1, matches among the other nine / 3), the mean over which nine. The
 * one left out is left out by its place (VQA's code compares whole records, which without ids of answers leaves out equal ones together). */
#include <string.h>

#include "eval/vqa_norm.h"

/* ["yes", ...] or [{"answer": "yes", ...}, ...] */
static bif_status read_answers(bif_score_set *set, bif_scan *s, bif_span **out, int64_t *count)
{
    bif_status st = BIF_OK;
    bif_span answers[64], name;
    int64_t n = 0;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more; n++) {
        if (n == (int64_t)(sizeof answers / sizeof *answers)) {
            BIF_TRY(bif_scan_fail(s, "more than %zu answers to one question", sizeof answers / sizeof *answers));
        }
        answers[n] = (bif_span){0};
        if (bif_scan_peek(s) == '"') {
            BIF_TRY(bif_scan_string(s, &answers[n]));
            continue;
        }
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool member; (st = bif_scan_key(s, &name, &member)) == BIF_OK && member;) {
            BIF_TRY(bif_span_is(name, "answer") ? bif_scan_string(s, &answers[n]) : bif_scan_skip(s));
        }
        BIF_TRY(st);
        if (answers[n].text == NULL) {
            BIF_TRY(bif_scan_fail(s, "a record of answers without \"answer\" ends here"));
        }
    }
    BIF_TRY(st);
    *count = n;
    *out = bif_score_take(set, (size_t)n * sizeof **out);
    memcpy(*out, answers, (size_t)n * sizeof **out);
done:
    return st;
}

/* IMAGE newline question in small letters: LLaVA's rows of TextVQA have the picture's id, and their questions in the prompt. */
static void put_name(bif_text_buffer *out, bif_span image, bif_span question)
{
    bif_text_add(out, image.text, image.size);
    bif_text_add(out, "\n", 1);
    bif_text_lower(question, out);
}

static bif_span found(bif_span text, const char *word)
{
    const char *at = text.size > 0 ? memmem(text.text, text.size, word, strlen(word)) : NULL;
    return at != NULL ? (bif_span){at, text.size - (size_t)(at - text.text)} : (bif_span){0};
}

/* The question of a prompt, cut out as LLaVA's eval_textvqa.py does: what stands between "Question: " and " Short answer:" where it begins with "OCR
 * tokens: "; of three lines, one of which has OCR tokens, the first of the other two; the first of two lines. */
static bool name_textvqa(bif_span id, bif_span prompt, bif_text_buffer *out)
{
    static const char from[] = "Question: ";
    bif_span line[4], rest = prompt;
    int lines = 0;
    for (bool more = true; more && lines < 4;) {
        const char *end = rest.size > 0 ? memchr(rest.text, '\n', rest.size) : NULL;
        more = end != NULL;
        line[lines++] = (bif_span){rest.text, more ? (size_t)(end - rest.text) : rest.size};
        if (more) {
            rest = (bif_span){end + 1, rest.size - line[lines - 1].size - 1};
        }
    }
    bif_span question = {0};
    if (found(prompt, "OCR tokens: ").text == prompt.text && prompt.size > 0) {
        const bif_span at = found(prompt, from), after = {at.text + sizeof from - 1, at.size - (sizeof from - 1)};
        const bif_span end = at.text != NULL ? found(after, " Short answer:") : (bif_span){0};
        question = end.text != NULL ? (bif_span){after.text, (size_t)(end.text - after.text)} : (bif_span){0};
    } else if (lines == 3 && found(prompt, "Reference OCR token: ").text != NULL) {
        question = line[found(prompt, "Reference OCR token:").text == prompt.text ? 1 : 0];
    } else if (lines == 2) {
        question = line[0];
    }
    if (question.text != NULL) {
        put_name(out, id, question);
    }
    return question.text != NULL;
}

static bif_status read_question(bif_score_set *set, bif_scan *s)
{
    bif_status st = BIF_OK;
    bif_span name, id = {0}, image_id = {0}, image = {0}, type = {0}, kind = {0}, question = {0}, *answers = NULL;
    int64_t count = 0;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const bool text = bif_scan_peek(s) == '"';
        if (bif_span_is(name, "question_id")) {
            BIF_TRY(bif_scan_word(s, &id));
        } else if (bif_span_is(name, "question") && text) {
            BIF_TRY(bif_scan_string(s, &question));
        } else if (bif_span_is(name, "image_id")) {
            BIF_TRY(bif_scan_word(s, &image_id));
        } else if (bif_span_is(name, "image") && text) {
            BIF_TRY(bif_scan_string(s, &image));
        } else if (bif_span_is(name, "question_type") && text) {
            BIF_TRY(bif_scan_string(s, &type));
        } else if (bif_span_is(name, "answer_type") && text) {
            BIF_TRY(bif_scan_string(s, &kind));
        } else if (bif_span_is(name, "answers")) {
            BIF_TRY(read_answers(set, s, &answers, &count));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    id = id.text != NULL ? id : image; /* VizWiz: a picture, a question */
    if (id.text == NULL || count < 2) {
        BIF_TRY(bif_scan_fail(s, "the question before has no %s", id.text == NULL ? "question_id" : "answers (a split without them cannot be scored)"));
    }
    bif_score_item *item = bif_score_add(set, id);
    item->cluster = image_id.text != NULL ? image_id : image;
    item->group[0] = kind;
    item->group[1] = type;
    if (set->task->name_of_row != NULL && image_id.size > 0 && question.size > 0) {
        bif_text_buffer other = {0};
        put_name(&other, image_id, question);
        item->other_id = bif_score_keep(set, bif_text_span(&other));
        bif_text_free(&other);
    }
    item->answers = answers;
    item->answer_count = count;
done:
    return st;
}

static bif_status read_list(bif_score_set *set, bif_scan *s)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        BIF_TRY(read_question(set, s));
    }
done:
    return st;
}

/* {"annotations": [...]} (VQA), {"data": [...]} (TextVQA) or the list alone (VizWiz). */
static bif_status read_vqa(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        bif_span name;
        bool found = false;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        if (bif_scan_peek(s) == '[') {
            found = true;
            BIF_TRY(read_list(set, s));
        } else {
            BIF_TRY(bif_scan_enter(s, '{'));
            for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
                const bool list = (bif_span_is(name, "annotations") || bif_span_is(name, "data")) && bif_scan_peek(s) == '[';
                found = found || list;
                BIF_TRY(list ? read_list(set, s) : bif_scan_skip(s));
            }
            BIF_TRY(st);
        }
        BIF_TRY(bif_scan_end(s));
        if (!found) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: neither \"annotations\" nor \"data\" in it; the file of annotations is wanted, not that of questions", paths[i]));
        }
    }
done:
    return st;
}

/* The rules of a task for one text. */
static bif_span normalised(bif_vqa_norm *norms, bif_span text, bif_norm rules)
{
    return rules == BIF_NORM_M4C ? bif_vqa_m4c(norms, text) : bif_vqa_process(norms, bif_vqa_clean(norms, text), rules);
}

static bool all_alike(bif_vqa_norm *norms, const bif_score_item *item)
{
    bool alike = true;
    for (int64_t k = 1; k < item->answer_count && alike; k++) {
        alike = bif_span_equal(item->answers[k], item->answers[0]);
    }
    if (alike) {
        return true;
    }
    bif_text_buffer first = {0};
    const bif_span cleaned = bif_vqa_clean(norms, item->answers[0]);
    bif_text_add(&first, cleaned.text, cleaned.size);
    alike = true;
    for (int64_t k = 1; k < item->answer_count && alike; k++) {
        alike = bif_span_equal(bif_vqa_clean(norms, item->answers[k]), bif_text_span(&first));
    }
    bif_text_free(&first);
    return alike;
}

static void score_item(bif_score_set *set, bif_vqa_norm *norms, bif_score_item *item, bif_norm rules)
{
    /* VQA's own code leaves answers as they are where all ten are the same. */
    const bool raw = rules == BIF_NORM_OFFICIAL && all_alike(norms, item);
    bif_span mine = raw ? bif_vqa_clean(norms, item->prediction) : normalised(norms, item->prediction, rules);
    if (mine.text < item->prediction.text || mine.text >= item->prediction.text + item->prediction.size) { /* in the buffer */
        char *copy = bif_score_take(set, mine.size + 1);
        memcpy(copy, mine.text, mine.size);
        mine.text = copy;
    }
    item->parsed = mine;
    bool match[64];
    int64_t matches = 0;
    for (int64_t k = 0; k < item->answer_count; k++) {
        int64_t same = 0; /* answers repeat */
        while (same < k && !bif_span_equal(item->answers[same], item->answers[k])) {
            same++;
        }
        match[k] = same < k ? match[same]
                            : bif_span_equal(raw ? bif_vqa_clean(norms, item->answers[k]) : normalised(norms, item->answers[k], rules), mine);
        matches += match[k];
    }
    double sum = 0.0;
    for (int64_t k = 0; k < item->answer_count; k++) {
        const double share = (double)(matches - match[k]) / 3.0;
        sum += share < 1.0 ? share : 1.0;
    }
    item->score = sum / (double)item->answer_count;
}

static bif_status score_with(bif_score_set *set, bif_norm rules)
{
    bif_vqa_norm *norms = bif_vqa_norm_new();
    for (int64_t i = 0; i < set->count; i++) {
        score_item(set, norms, &set->items[i], rules);
    }
    bif_vqa_norm_free(norms);
    return BIF_OK;
}

/* lmms-eval scores VQAv2 by VQA's steps, at all times, and the others by M4C's. */
static bif_status score_m4c_kind(bif_score_set *set, bif_norm norm)
{
    return score_with(set, norm == BIF_NORM_LMMS ? BIF_NORM_M4C : norm);
}

#define NORMS (BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_M4C) | BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_VLMEVALKIT))
#define RULE "mean over the annotators of min(1, matches among the others / 3)"

const bif_score_task bif_task_vqav2 = {.name = "vqav2", .title = "VQAv2: soft accuracy of ten answers", .references = "v2_mscoco_val2014_annotations.json", .rule = RULE,
                                       .dimension = {"answer_type", "question_type"}, .norms = NORMS, .read = read_vqa, .score = score_with};
const bif_score_task bif_task_okvqa = {.name = "okvqa", .title = "OK-VQA: soft accuracy of ten answers", .references = "mscoco_val2014_annotations.json", .rule = RULE,
                                       .dimension = {"answer_type", "question_type"}, .norms = NORMS, .read = read_vqa, .score = score_m4c_kind};
const bif_score_task bif_task_textvqa = {.name = "textvqa", .title = "TextVQA: soft accuracy of ten answers", .references = "TextVQA_0.5.1_val.json", .rule = RULE "; normalised as its server does (m4c)",
                                         .norms = NORMS, .usual = BIF_NORM_M4C, .read = read_vqa, .name_of_row = name_textvqa, .score = score_m4c_kind};
const bif_score_task bif_task_vizwiz = {.name = "vizwiz", .title = "VizWiz: soft accuracy of ten answers", .references = "val.json of VizWiz-VQA", .rule = RULE,
                                        .dimension = {"answer_type"}, .norms = NORMS, .read = read_vqa, .score = score_m4c_kind};
