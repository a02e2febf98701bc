/* ScienceQA, MMBench and its kind, SEED-Bench: one of the options. */
#include <stdlib.h>
#include <string.h>

#include "eval/prompt.h"

/* ---- ScienceQA ---- */

typedef struct {
    bif_span id, question, hint, image, split, options[26];
    int64_t count;
    const char *path;
    int64_t line;
} problem;

static bif_status read_problem(bif_scan *s, problem *p)
{
    bif_status st = BIF_OK;
    bif_span name;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        bif_span *to = bif_span_is(name, "question") ? &p->question
                       : bif_span_is(name, "hint")   ? &p->hint
                       : bif_span_is(name, "image")  ? &p->image
                       : bif_span_is(name, "split")  ? &p->split
                                                     : NULL;
        if (to != NULL && c == '"') {
            BIF_TRY(bif_scan_string(s, to));
        } else if (bif_span_is(name, "choices") && c == '[') {
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
                if (p->count == 26) {
                    BIF_TRY(bif_scan_fail(s, "more than 26 choices"));
                }
                BIF_TRY(bif_scan_word(s, &p->options[p->count++]));
            }
            BIF_TRY(st);
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (p->question.text == NULL || p->count == 0) {
        BIF_TRY(bif_scan_fail(s, "the problem before has no %s", p->question.text == NULL ? "question" : "choices"));
    }
done:
    return st;
}

static void add_problem(bif_prompt_reader *r, const problem *p)
{
    if (bif_questions_full(r->set) || (p->image.size == 0 && bif_prompt_is(r, "image"))) {
        return;
    }
    bif_text_buffer text = {0};
    if (p->hint.size > 0) {
        bif_text_add(&text, "Context: ", 9);
        bif_text_add(&text, p->hint.text, p->hint.size);
        bif_text_add(&text, "\n", 1);
    }
    bif_text_add(&text, p->question.text, p->question.size);
    bif_question *q = bif_prompt_choice(r, p->path, p->line, p->id, bif_text_span(&text), p->options, p->count);
    bif_text_free(&text);
    if (p->image.size > 0) {
        bif_prompt_picture(r, q, "%.*s/%.*s", BIF_SPAN(p->id), BIF_SPAN(p->image));
    }
}

static bif_status read_splits(bif_scan *s, bif_span **test, int64_t *count)
{
    bif_status st = BIF_OK;
    bif_span name;
    int64_t capacity = 0;
    *count = 0;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        if (!bif_span_is(name, "test") || bif_scan_peek(s) != '[') {
            BIF_TRY(bif_scan_skip(s));
            continue;
        }
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
            if (*count == capacity) {
                *test = bif_realloc(*test, (size_t)(capacity = 2 * capacity + 1024), sizeof **test);
            }
            BIF_TRY(bif_scan_word(s, &(*test)[(*count)++]));
        }
        BIF_TRY(st);
    }
done:
    return st;
}

static int by_span(const void *a, const void *b)
{
    const bif_span *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : x->size < y->size ? -1 : x->size > y->size;
}

/* problems.json {"ID": {"question", "choices", "hint", "image", "split"}}, and pid_splits.json {"test": [ids]} in whose order they are
 * asked then; without it those whose split is test. */
static bif_status read_scienceqa(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    problem *problems = NULL;
    bif_span *test = NULL;
    int64_t count = 0, capacity = 0, tests = 0;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        bif_span id;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &id, &more)) == BIF_OK && more;) {
            if (bif_scan_peek(s) == '[') { /* a file of splits: from the start again */
                BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
                BIF_TRY(read_splits(s, &test, &tests));
                break;
            }
            if (count == capacity) {
                problems = bif_realloc(problems, (size_t)(capacity = 2 * capacity + 1024), sizeof *problems);
            }
            problems[count] = (problem){.id = id, .path = r->paths[i], .line = bif_scan_line(s)};
            BIF_TRY(read_problem(s, &problems[count++]));
        }
        BIF_TRY(st);
    }
    if (count == 0) {
        goto done;
    }
    for (int64_t i = 0; i < count && tests == 0; i++) {
        if (problems[i].split.text == NULL || bif_span_is(problems[i].split, "test")) {
            add_problem(r, &problems[i]);
        }
    }
    if (tests > 0) {
        qsort(problems, (size_t)count, sizeof *problems, by_span); /* their first member is the id */
    }
    for (int64_t i = 0; i < tests; i++) {
        const problem *p = bsearch(&test[i], problems, (size_t)count, sizeof *problems, by_span);
        if (p == NULL) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no problem %.*s, which the split has", problems[0].path, BIF_SPAN(test[i])));
        }
        add_problem(r, p);
    }
done:
    free(problems);
    free(test);
    return st;
}

/* ---- MMBench ---- */

static bif_status read_mmbench(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < r->count; i++) {
        BIF_TRY(bif_prompt_table(r, r->paths[i], true));
    }
done:
    return st;
}

/* ---- SEED-Bench ---- */

static bif_status read_seed_question(bif_prompt_reader *r, bif_scan *s, const char *path)
{
    bif_status st = BIF_OK;
    bif_span id, question, data, kind, options[4];
    bif_scan_peek(s);
    const int64_t line = bif_scan_line(s);
    BIF_TRY(bif_prompt_object(s,
                              (bif_prompt_field[]){{"question_id", &id},
                                                   {"question", &question},
                                                   {"data_id", &data},
                                                   {"data_type", &kind},
                                                   {"choice_a", &options[0]},
                                                   {"choice_b", &options[1]},
                                                   {"choice_c", &options[2]},
                                                   {"choice_d", &options[3]}},
                              8));
    if (id.text == NULL || question.text == NULL || data.text == NULL || options[0].text == NULL) {
        BIF_TRY(bif_scan_fail(s, "the question before has no %s",
                              id.text == NULL         ? "question_id"
                              : question.text == NULL ? "question"
                              : data.text == NULL     ? "data_id"
                                                      : "choice_a"));
    }
    const bool video = kind.text != NULL && !bif_span_is(kind, "image");
    if (!bif_questions_full(r->set) && (!video || bif_prompt_is(r, "all"))) {
        bif_question *q = bif_prompt_choice(r, path, line, id, question, options, 4);
        /* Of a video LLaVA takes the frame in the middle, saved under the question's id. */
        bif_prompt_picture(r, q, video ? "SEED-Bench-video-image/%.*s.png" : "SEED-Bench-image/%.*s", BIF_SPAN(video ? id : data));
    }
done:
    return st;
}

static bif_status read_seed(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        bif_span name;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
            if (!bif_span_is(name, "questions") || bif_scan_peek(s) != '[') {
                BIF_TRY(bif_scan_skip(s));
                continue;
            }
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
                BIF_TRY(read_seed_question(r, s, r->paths[i]));
            }
            BIF_TRY(st);
        }
        BIF_TRY(st);
    }
done:
    return st;
}

const bif_prompt_task bif_prompt_scienceqa = {.name = "scienceqa",
                                              .questions = "problems.json, and pid_splits.json as a second one",
                                              .images = "images/test of ScienceQA",
                                              .variant = {{"all", BIF_PROMPT_LETTER, "the test split, as LLaVA-1.5 asks"},
                                                          {"image", BIF_PROMPT_LETTER, "only its questions with a picture"}},
                                              .max_new = 1024,
                                              .read = read_scienceqa};
const bif_prompt_task bif_prompt_mmbench = {
    .name = "mmbench",
    .questions = "MMBench_DEV_EN.tsv or another table of VLMEvalKit with options; its rows hold the turns of circular evaluation",
    .images = "not looked at: the table holds them",
    .variant = {{"en", BIF_PROMPT_LETTER, "as LLaVA-1.5 asks"},
                {"cn", "\n请直接回答选项字母。", "as LLaVA-1.5 asks in Chinese"},
                {"ko", "\n주어진 선택지 중 해당 옵션의 문자로 바로 답하세요.", "as lmms-eval asks in Korean"}},
    .max_new = 1024,
    .read = read_mmbench};
const bif_prompt_task bif_prompt_seed = {.name = "seed",
                                         .questions = "SEED-Bench.json",
                                         .images = "folder with SEED-Bench-image/ (and SEED-Bench-video-image/QUESTION_ID.png)",
                                         .variant = {{"image", BIF_PROMPT_LETTER, "questions about pictures, as LLaVA-1.5 asks"},
                                                     {"all", BIF_PROMPT_LETTER, "also those about videos, each shown as a frame"}},
                                         .max_new = 128,
                                         .read = read_seed};
