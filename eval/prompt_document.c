/* ChartQA, DocVQA and InfographicVQA, OCRBench: text in pictures. */
#include <stdlib.h>
#include <string.h>

#include "eval/prompt.h"

/* [{"imgname", "query"}]; ids are SPLIT/PLACE, as in the scoring task. */
static bif_status read_charts(bif_prompt_reader *r, const char *path)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    const char *split = bif_chartqa_split(path);
    bool more = false;
    BIF_TRY(bif_prompt_open(r, path, &s));
    BIF_TRY(bif_scan_enter(s, '['));
    for (int64_t n = 0; (st = bif_scan_more(s, &more)) == BIF_OK && more; n++) {
        bif_span image, query;
        bif_scan_peek(s);
        const int64_t line = bif_scan_line(s);
        BIF_TRY(bif_prompt_object(s, (bif_prompt_field[]){{"imgname", &image}, {"query", &query}}, 2));
        if (image.text == NULL || query.text == NULL) {
            BIF_TRY(bif_scan_fail(s, "the question before has no %s", image.text == NULL ? "imgname" : "query"));
        }
        if (!bif_questions_full(r->set)) {
            char *id = bif_format("%s/%lld", split, (long long)n);
            bif_prompt_picture(r, bif_prompt_add(r, path, line, (bif_span){id, strlen(id)}, query), "%.*s", BIF_SPAN(image));
            free(id);
        }
    }
done:
    return st;
}

/* {"data": [{"questionId", "question", "image" or "image_local_name"}]} */
static bif_status read_documents(bif_prompt_reader *r, const char *path)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    bif_span name;
    BIF_TRY(bif_prompt_open(r, path, &s));
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        if (!bif_span_is(name, "data") || bif_scan_peek(s) != '[') {
            BIF_TRY(bif_scan_skip(s));
            continue;
        }
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
            bif_span id, other, question, image, local;
            bif_scan_peek(s);
            const int64_t line = bif_scan_line(s);
            BIF_TRY(bif_prompt_object(
                s,
                (bif_prompt_field[]){
                    {"questionId", &id}, {"question_id", &other}, {"question", &question}, {"image", &image}, {"image_local_name", &local}},
                5));
            id = id.text != NULL ? id : other;
            image = local.text != NULL ? local : image;
            if (id.text == NULL || question.text == NULL || image.text == NULL) {
                BIF_TRY(bif_scan_fail(s, "the question before has no %s",
                                      id.text == NULL         ? "questionId"
                                      : question.text == NULL ? "question"
                                                              : "image"));
            }
            if (!bif_questions_full(r->set)) {
                bif_prompt_picture(r, bif_prompt_add(r, path, line, id, question), "%.*s", BIF_SPAN(image));
            }
        }
        BIF_TRY(st);
    }
done:
    return st;
}

/* [{"dataset_name", "id", "question", "image_path"}]; ids are DATASET/ID. */
static bif_status read_ocrbench_rows(bif_prompt_reader *r, const char *path)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    BIF_TRY(bif_prompt_open(r, path, &s));
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        bif_span dataset, number, question, image;
        bif_scan_peek(s);
        const int64_t line = bif_scan_line(s);
        BIF_TRY(bif_prompt_object(
            s, (bif_prompt_field[]){{"dataset_name", &dataset}, {"id", &number}, {"question", &question}, {"image_path", &image}}, 4));
        if (dataset.text == NULL || number.text == NULL || question.text == NULL || image.text == NULL) {
            BIF_TRY(bif_scan_fail(s, "the question before has no %s",
                                  dataset.text == NULL || number.text == NULL ? "dataset_name and id"
                                  : question.text == NULL                     ? "question"
                                                                              : "image_path"));
        }
        if (!bif_questions_full(r->set)) {
            char *id = bif_format("%.*s/%.*s", BIF_SPAN(dataset), BIF_SPAN(number));
            bif_prompt_picture(r, bif_prompt_add(r, path, line, (bif_span){id, strlen(id)}, question), "%.*s", BIF_SPAN(image));
            free(id);
        }
    }
done:
    return st;
}

static bif_status read_each(bif_prompt_reader *r, bif_status (*read)(bif_prompt_reader *r, const char *path))
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < r->count; i++) {
        BIF_TRY(bif_prompt_is_table(r->paths[i]) ? bif_prompt_table(r, r->paths[i], false) : read(r, r->paths[i]));
    }
done:
    return st;
}

static bif_status read_chartqa(bif_prompt_reader *r)
{
    return read_each(r, read_charts);
}

static bif_status read_docvqa(bif_prompt_reader *r)
{
    return read_each(r, read_documents);
}

static bif_status read_ocrbench(bif_prompt_reader *r)
{
    return read_each(r, read_ocrbench_rows);
}

const bif_prompt_task bif_prompt_chartqa = {.name = "chartqa",
                                            .questions = "test_human.json, test_augmented.json (repeatable), or ChartQA_TEST.tsv",
                                            .images = "test/png of ChartQA",
                                            .variant = {{"lmms", "\nAnswer the question with a single word.", "as lmms-eval asks"}},
                                            .max_new = 16,
                                            .read = read_chartqa};
const bif_prompt_task bif_prompt_docvqa = {.name = "docvqa",
                                           .questions = "val_v1.0_withQT.json, infographicsVQA_val_v1.0_withQT.json, or DocVQA_VAL.tsv",
                                           .images = "folder that holds documents/, or infographics' pictures",
                                           .variant = {{"lmms", BIF_PROMPT_SHORT, "as lmms-eval asks"}},
                                           .max_new = 32,
                                           .read = read_docvqa};
const bif_prompt_task bif_prompt_ocrbench = {.name = "ocrbench",
                                             .questions = "OCRBench.json, or OCRBench.tsv",
                                             .images = "OCRBench_Images/",
                                             .variant = {{"lmms", "", "the question alone"}},
                                             .max_new = 128,
                                             .read = read_ocrbench};
