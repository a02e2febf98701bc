/* RefCOCO, captions, CHAIR: nothing is asked but the picture, or a place in it. */
#include <stdlib.h>
#include <string.h>

#include "eval/prompt.h"

static bif_status add_reference(bif_prompt_reader *r, const char *path, int64_t line, bif_span id, bif_span image, bif_span text)
{
    if (bif_questions_full(r->set)) {
        return BIF_OK;
    }
    char *prompt = bif_format("Please provide the bounding box coordinate of the region this sentence describes: %.*s", BIF_SPAN(text));
    bif_prompt_picture(r, bif_prompt_add(r, path, line, id, (bif_span){prompt, strlen(prompt)}), "%.*s", BIF_SPAN(image));
    free(prompt);
    return BIF_OK;
}

/* A row: "sent" or "expression"; or "answer", one text or several, which are ID/0, ID/1, ... as in the scoring task. */
static bif_status read_reference(bif_prompt_reader *r, bif_scan *s, const char *path, int64_t number)
{
    bif_status st = BIF_OK;
    enum { TEXTS = 64 };
    bif_span name, id = {0}, image = {0}, text[TEXTS] = {0};
    int64_t count = 0;
    bif_scan_peek(s);
    const int64_t line = bif_scan_line(s);
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "question_id") || (bif_span_is(name, "id") && id.text == NULL)) {
            BIF_TRY(bif_scan_word(s, &id));
        } else if ((bif_span_is(name, "image") || bif_span_is(name, "img_path") || bif_span_is(name, "file_name")) && c == '"') {
            BIF_TRY(bif_scan_string(s, &image));
        } else if ((bif_span_is(name, "sent") || bif_span_is(name, "expression") || bif_span_is(name, "answer")) && c == '"') {
            count = 1;
            BIF_TRY(bif_scan_string(s, &text[0]));
        } else if (bif_span_is(name, "answer") && c == '[') {
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
                if (count == TEXTS) {
                    BIF_TRY(bif_scan_fail(s, "more than %d texts of one box", TEXTS));
                }
                BIF_TRY(bif_scan_string(s, &text[count++]));
            }
            BIF_TRY(st);
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (image.text == NULL || count == 0) {
        BIF_TRY(bif_scan_fail(s, "the row before has no %s", image.text == NULL ? "image" : "sent, expression or answer"));
    }
    for (int64_t k = 0; k < count; k++) {
        char *own = id.text != NULL ? bif_span_copy(id) : bif_format("%lld", (long long)number);
        char *name_of = count > 1 ? bif_format("%s/%lld", own, (long long)k) : bif_strdup(own);
        st = add_reference(r, path, line, (bif_span){name_of, strlen(name_of)}, image, text[k]);
        free(own);
        free(name_of);
        BIF_TRY(st);
    }
done:
    return st;
}

static bif_status read_refcoco(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    int64_t number = 0;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        bool more = true;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        const bool list = bif_scan_peek(s) == '[';
        BIF_TRY(list ? bif_scan_enter(s, '[') : BIF_OK);
        while (list ? (st = bif_scan_more(s, &more)) == BIF_OK && more : bif_scan_peek(s) == '{') {
            BIF_TRY(read_reference(r, s, r->paths[i], number++));
        }
        BIF_TRY(st);
        BIF_TRY(list ? BIF_OK : bif_scan_end(s));
    }
done:
    return st;
}

/* {"images": [{"id", "file_name"}]}: each picture once. */
static bif_status read_pictures(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        bif_span name;
        bool found = false;
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
            if (!bif_span_is(name, "images") || bif_scan_peek(s) != '[') {
                BIF_TRY(bif_scan_skip(s));
                continue;
            }
            found = true;
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
                bif_span id, file;
                bif_scan_peek(s);
                const int64_t line = bif_scan_line(s);
                BIF_TRY(bif_prompt_object(s, (bif_prompt_field[]){{"id", &id}, {"file_name", &file}}, 2));
                if (id.text == NULL || file.text == NULL) {
                    BIF_TRY(bif_scan_fail(s, "the picture before has no %s", id.text == NULL ? "id" : "file_name"));
                }
                if (!bif_questions_full(r->set)) {
                    bif_prompt_picture(r, bif_prompt_add(r, r->paths[i], line, id, (bif_span){"", 0}), "%.*s", BIF_SPAN(file));
                }
            }
            BIF_TRY(st);
        }
        BIF_TRY(st);
        if (!found) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no \"images\" with their file_name in it", r->paths[i]));
        }
    }
done:
    return st;
}

const bif_prompt_task bif_prompt_refcoco = {.name = "refcoco",
                                            .questions = "JSON lines of image and sent (or expression, or answer)",
                                            .images = "train2014/ of COCO",
                                            .variant = {{"llava", "", "as LLaVA-1.5 was trained; its boxes are 0 to 1 (--box-space)"}},
                                            .max_new = 128,
                                            .read = read_refcoco};
const bif_prompt_task bif_prompt_caption = {
    .name = "caption",
    .questions = "captions_val2014.json (images with id and file_name)",
    .images = "val2014/ of COCO",
    .variant = {{"lmms", "Provide a one-sentence caption for the provided image.", "as lmms-eval asks"}},
    .max_new = 64,
    .read = read_pictures};
const bif_prompt_task bif_prompt_chair = {.name = "chair",
                                          .questions = "instances_val2014.json (images with id and file_name)",
                                          .images = "val2014/ of COCO",
                                          .variant = {{"detail", "Please describe this image in detail.", "as lmms-eval asks"}},
                                          .max_new = 512,
                                          .read = read_pictures};
