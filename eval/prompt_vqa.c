/* VQAv2, OK-VQA, TextVQA, VizWiz, GQA: a question and a short answer. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/prompt.h"

/* {"data_subtype": "val2014", "questions": [{"image_id", "question", "question_id"}]}; pictures COCO_SUBTYPE_NUMBER.jpg. */
static bif_status read_coco_questions(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        bif_span name, subtype = {0};
        bool found = false;
        const int64_t from = r->set->count;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
            if (bif_span_is(name, "data_subtype") && bif_scan_peek(s) == '"') {
                BIF_TRY(bif_scan_string(s, &subtype));
                continue;
            }
            if (!bif_span_is(name, "questions") || bif_scan_peek(s) != '[') {
                BIF_TRY(bif_scan_skip(s));
                continue;
            }
            found = true;
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
                bif_span image, question, id;
                bif_scan_peek(s);
                const int64_t line = bif_scan_line(s);
                BIF_TRY(bif_prompt_object(s, (bif_prompt_field[]){{"image_id", &image}, {"question", &question}, {"question_id", &id}}, 3));
                if (image.text == NULL || question.text == NULL || id.text == NULL) {
                    BIF_TRY(bif_scan_fail(s, "the question before has no %s",
                                          image.text == NULL ? "image_id"
                                          : id.text == NULL  ? "question_id"
                                                             : "question"));
                }
                if (!bif_questions_full(r->set)) {
                    char *number = bif_span_copy(image);
                    bif_prompt_picture(r, bif_prompt_add(r, r->paths[i], line, id, question), "%012lld.jpg", strtoll(number, NULL, 10));
                    free(number);
                }
            }
            BIF_TRY(st);
        }
        BIF_TRY(st);
        if (!found) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no \"questions\" in it; the file of questions is wanted, not that of annotations",
                             r->paths[i]));
        }
        /* The subset's name may stand behind the questions; test-dev2015 and test2015 are pictures of test2015. */
        subtype = subtype.size == 0                       ? (bif_span){"val2014", 7}
                  : strncmp(subtype.text, "test", 4) == 0 ? (bif_span){"test2015", 8}
                                                          : subtype;
        for (int64_t k = from; k < r->set->count; k++) {
            bif_prompt_picture(r, &r->set->items[k], "COCO_%.*s_%s", BIF_SPAN(subtype), r->set->items[k].pictures[0].name);
        }
    }
done:
    return st;
}

/* ---- TextVQA ---- */

typedef struct {
    bif_span image, tokens; /* tokens: joined by ", " */
} ocr;

static int by_image(const void *a, const void *b)
{
    const bif_span x = ((const ocr *)a)->image, y = ((const ocr *)b)->image;
    const int order = memcmp(x.text, y.text, x.size < y.size ? x.size : y.size);
    return order != 0 ? order : x.size < y.size ? -1 : x.size > y.size;
}

static bif_status read_tokens(bif_prompt_reader *r, bif_scan *s, bif_span *out)
{
    bif_status st = BIF_OK;
    bif_text_buffer joined = {0};
    bif_span token;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        BIF_TRY(bif_scan_word(s, &token));
        bif_text_add(&joined, ", ", joined.size > 0 ? 2 : 0);
        bif_text_add(&joined, token.text, token.size);
    }
    BIF_TRY(st);
    out->text = bif_questions_copy(r->set, bif_text_span(&joined).text, joined.size);
    out->size = joined.size;
done:
    bif_text_free(&joined);
    return st;
}

typedef struct {
    bif_span id, image, question, tokens;
    const char *path;
    int64_t line;
} text_row;

static bif_status read_text_row(bif_prompt_reader *r, bif_scan *s, text_row *out)
{
    bif_status st = BIF_OK;
    bif_span name;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        bif_span *to = bif_span_is(name, "question_id") ? &out->id
                       : bif_span_is(name, "image_id")  ? &out->image
                       : bif_span_is(name, "question")  ? &out->question
                                                        : NULL;
        if (bif_span_is(name, "ocr_tokens") && c == '[') {
            BIF_TRY(read_tokens(r, s, &out->tokens));
        } else {
            BIF_TRY(to != NULL && c != 'n' && c != '{' && c != '[' ? bif_scan_word(s, to) : bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (out->image.text == NULL || (out->question.text != NULL && out->id.text == NULL)) {
        BIF_TRY(bif_scan_fail(s, "the row before has no %s", out->image.text == NULL ? "image_id" : "question_id"));
    }
done:
    return st;
}

/* {"data": [{"question_id", "image_id", "question"}]}, and for the tokens of variant ocr the same with "ocr_tokens", or a file {"data":
 * [{"image_id", "ocr_tokens"}]} (Rosetta's) besides. LLaVA's prompts begin with a capital letter, the questions do not. */
static bif_status read_textvqa(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    const bool with_tokens = bif_prompt_is(r, "ocr");
    text_row *rows = NULL;
    ocr *known = NULL;
    size_t count = 0, capacity = 0, tokens = 0;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        bif_span name;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
            if (!bif_span_is(name, "data") || bif_scan_peek(s) != '[') {
                BIF_TRY(bif_scan_skip(s));
                continue;
            }
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
                if (count == capacity) {
                    rows = bif_realloc(rows, capacity = 2 * capacity + 1024, sizeof *rows);
                    known = bif_realloc(known, capacity, sizeof *known);
                }
                bif_scan_peek(s);
                rows[count] = (text_row){.path = r->paths[i], .line = bif_scan_line(s)};
                BIF_TRY(read_text_row(r, s, &rows[count]));
                if (rows[count].tokens.text != NULL) {
                    known[tokens++] = (ocr){rows[count].image, rows[count].tokens};
                }
                count++;
            }
            BIF_TRY(st);
        }
        BIF_TRY(st);
    }
    qsort(known, tokens, sizeof *known, by_image);
    for (size_t i = 0; i < count && !bif_questions_full(r->set); i++) {
        const text_row *row = &rows[i];
        if (row->question.text == NULL) {
            continue;
        }
        bif_text_buffer text = {0};
        const char first = row->question.size > 0 ? (char)toupper((unsigned char)row->question.text[0]) : '\0';
        bif_text_add(&text, &first, row->question.size > 0);
        bif_text_add(&text, row->question.text + (row->question.size > 0), row->question.size - (row->question.size > 0));
        if (with_tokens) {
            const ocr *found = tokens > 0 ? bsearch(&(ocr){.image = row->image}, known, tokens, sizeof *known, by_image) : NULL;
            if (found == NULL) {
                bif_text_free(&text);
                BIF_TRY(bif_fail(BIF_ERR_DATA,
                                 "%s:%lld: no ocr_tokens of picture %.*s; name the file with them (TextVQA_Rosetta_OCR_v0.2_val.json) as a "
                                 "second --questions, or use --variant plain (a recipe: evaluate.variant)",
                                 row->path, (long long)row->line, BIF_SPAN(row->image)));
            }
            bif_text_add(&text, "\nReference OCR token: ", 22);
            bif_text_add(&text, found->tokens.text, found->tokens.size);
        }
        bif_prompt_picture(r, bif_prompt_add(r, row->path, row->line, row->id, bif_text_span(&text)), "%.*s.jpg", BIF_SPAN(row->image));
        bif_text_free(&text);
    }
done:
    free(rows);
    free(known);
    return st;
}

/* [{"image": "VizWiz_val_00000000.jpg", "question"}]; a picture, a question. */
static bif_status read_vizwiz(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
            bif_span image, question, id;
            bif_scan_peek(s);
            const int64_t line = bif_scan_line(s);
            BIF_TRY(bif_prompt_object(s, (bif_prompt_field[]){{"image", &image}, {"question", &question}, {"question_id", &id}}, 3));
            if (image.text == NULL || question.text == NULL) {
                BIF_TRY(bif_scan_fail(s, "the question before has no %s", image.text == NULL ? "image" : "question"));
            }
            if (!bif_questions_full(r->set)) {
                bif_prompt_picture(r, bif_prompt_add(r, r->paths[i], line, id.text != NULL ? id : image, question), "%.*s",
                                   BIF_SPAN(image));
            }
        }
        BIF_TRY(st);
    }
done:
    return st;
}

/* {"ID": {"question", "imageId"}} */
static bif_status read_gqa(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        bif_span id;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &id, &more)) == BIF_OK && more;) {
            bif_span image, question;
            const int64_t line = bif_scan_line(s);
            BIF_TRY(bif_prompt_object(s, (bif_prompt_field[]){{"imageId", &image}, {"question", &question}}, 2));
            if (image.text == NULL || question.text == NULL) {
                BIF_TRY(bif_scan_fail(s, "the question before has no %s", image.text == NULL ? "imageId" : "question"));
            }
            if (!bif_questions_full(r->set)) {
                bif_prompt_picture(r, bif_prompt_add(r, r->paths[i], line, id, question), "%.*s.jpg", BIF_SPAN(image));
            }
        }
        BIF_TRY(st);
    }
done:
    return st;
}

static bif_status read_easy_vqa(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    int64_t number = 0;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more; number++) {
            char id[24];
            bif_span row[3];
            bif_scan_peek(s);
            const int64_t line = bif_scan_line(s);
            BIF_TRY(bif_easy_vqa_row(s, row));
            snprintf(id, sizeof id, "%lld", (long long)number);
            if (!bif_questions_full(r->set)) {
                bif_question *q = bif_prompt_add(r, r->paths[i], line, (bif_span){id, strlen(id)}, row[0]);
                bif_prompt_picture(r, q, "%.*s.png", BIF_SPAN(row[2]));
            }
        }
        BIF_TRY(st);
        BIF_TRY(bif_scan_end(s));
    }
done:
    return st;
}

#define UNANSWERABLE "\nWhen the provided information is insufficient, respond with 'Unanswerable'." BIF_PROMPT_SHORT

const bif_prompt_task bif_prompt_vqav2 = {.name = "vqav2",
                                          .questions = "v2_OpenEnded_mscoco_val2014_questions.json (or test-dev2015, test2015)",
                                          .images = "val2014/ or test2015/ of COCO",
                                          .variant = {{"llava", BIF_PROMPT_SHORT, "as LLaVA-1.5 asks"}},
                                          .max_new = 128,
                                          .read = read_coco_questions};
const bif_prompt_task bif_prompt_okvqa = {
    .name = "okvqa",
    .questions = "OpenEnded_mscoco_val2014_questions.json",
    .images = "val2014/ of COCO",
    .variant = {{"lmms", UNANSWERABLE, "as lmms-eval asks"}, {"llava", BIF_PROMPT_SHORT, "as LLaVA-1.5 asks"}},
    .max_new = 128,
    .read = read_coco_questions};
const bif_prompt_task bif_prompt_textvqa = {
    .name = "textvqa",
    .questions = "TextVQA_0.5.1_val.json; for ocr also TextVQA_Rosetta_OCR_v0.2_val.json",
    .images = "train_images/ of TextVQA",
    .variant = {{"ocr", BIF_PROMPT_SHORT, "with \"Reference OCR token: ...\", as LLaVA-1.5 asks (58.2 of the 7B)"},
                {"plain", BIF_PROMPT_SHORT, "without them (45 to 46 of the same weights)"}},
    .max_new = 128,
    .read = read_textvqa};
const bif_prompt_task bif_prompt_vizwiz = {
    .name = "vizwiz",
    .questions = "val.json or test.json of VizWiz-VQA",
    .images = "val/ or test/ of VizWiz",
    .variant = {{"llava", UNANSWERABLE, "as LLaVA-1.5 asks"}, {"plain", BIF_PROMPT_SHORT, "without the word Unanswerable"}},
    .max_new = 128,
    .read = read_vizwiz};
const bif_prompt_task bif_prompt_gqa = {.name = "gqa",
                                        .questions = "testdev_balanced_questions.json",
                                        .images = "images/ of GQA",
                                        .variant = {{"llava", BIF_PROMPT_SHORT, "as LLaVA-1.5 asks"}},
                                        .max_new = 128,
                                        .read = read_gqa};
const bif_prompt_task bif_prompt_easy_vqa = {
    .name = "easy-vqa",
    .questions = "questions.json of easy-VQA, a list of [question, answer, image]",
    .images = "images/ beside it",
    .variant = {{"plain", "", "the question alone, as the quickstart trains and asks"},
                {"llava", BIF_PROMPT_SHORT, "as LLaVA-1.5 asks for short answers"}},
    .max_new = 16,
    .read = read_easy_vqa};
