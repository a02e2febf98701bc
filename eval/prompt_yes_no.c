/* POPE and MME: yes or no. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/prompt.h"
#include "eval/yes_no.h"

/* {"question_id", "image", "text", "label"} a line, or a list of them. Of several files the ids are SPLIT/question_id, as in the scoring
 * task. */
static bif_status read_pope(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < r->count; i++) {
        bif_scan *s = NULL;
        bool more = true;
        const bif_span split = bif_pope_split(r->paths[i]);
        BIF_TRY(bif_prompt_open(r, r->paths[i], &s));
        const bool list = bif_scan_peek(s) == '[';
        BIF_TRY(list ? bif_scan_enter(s, '[') : BIF_OK);
        while (list ? (st = bif_scan_more(s, &more)) == BIF_OK && more : bif_scan_peek(s) == '{') {
            bif_span id, image, source, text, question, label, answer;
            bif_scan_peek(s);
            const int64_t line = bif_scan_line(s);
            BIF_TRY(bif_prompt_object(s,
                                      (bif_prompt_field[]){{"question_id", &id},
                                                           {"image", &image},
                                                           {"image_source", &source},
                                                           {"text", &text},
                                                           {"question", &question},
                                                           {"label", &label},
                                                           {"answer", &answer}},
                                      7));
            image = image.text != NULL ? image : source;
            text = text.text != NULL ? text : question;
            if (id.text == NULL || image.text == NULL || text.text == NULL) {
                BIF_TRY(bif_scan_fail(s, "the question before has no %s",
                                      id.text == NULL      ? "question_id"
                                      : image.text == NULL ? "image"
                                                           : "text"));
            }
            if (label.text == NULL && answer.text == NULL) {
                BIF_TRY(
                    bif_scan_fail(s, "the question before has no label; in LLaVA's own file the prompts stand already: leave --task out"));
            }
            if (bif_questions_full(r->set)) {
                continue;
            }
            char *whole = r->count > 1 ? bif_format("%.*s/%.*s", BIF_SPAN(split), BIF_SPAN(id)) : NULL;
            bif_question *q = bif_prompt_add(r, r->paths[i], line, whole != NULL ? (bif_span){whole, strlen(whole)} : id, text);
            bif_prompt_picture(r, q, "%.*s", BIF_SPAN(image));
            free(whole);
        }
        BIF_TRY(st);
        BIF_TRY(list ? BIF_OK : bif_scan_end(s));
    }
done:
    return st;
}

/* ---- MME ---- */

static int is_text(const struct dirent *entry)
{
    const size_t size = strlen(entry->d_name);
    return size > 4 && strcmp(entry->d_name + size - 4, ".txt") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* SUBTASK/[images/]STEM.jpg or .png, as it lies in the release. */
static void add_picture(bif_prompt_reader *r, bif_question *q, const char *root, const char *subtask, const char *stem)
{
    static const char *const kinds[] = {"jpg", "png", "jpeg"}, *const inner[] = {"images/", ""};
    for (size_t i = 0; i < 6; i++) {
        char *name = bif_format("%s/%s%s.%s", subtask, inner[i / 3], stem, kinds[i % 3]), *path = bif_path_join(root, name);
        const bool there = bif_exists(path) || i == 5;
        if (there) {
            bif_prompt_picture(r, q, "%s", i == 5 && !bif_exists(path) ? bif_questions_text(r->set, "%s/%s.jpg", subtask, stem) : name);
        }
        free(name);
        free(path);
        if (there) {
            return;
        }
    }
}

static bif_status read_pictures_questions(bif_prompt_reader *r, const char *root, const char *subtask, const char *folder, const char *file)
{
    bif_status st = BIF_OK;
    char *text = NULL, *path = bif_path_join(folder, file), *stem = bif_format("%.*s", (int)(strlen(file) - 4), file);
    const char *kept = bif_questions_copy(r->set, path, strlen(path));
    size_t size = 0;
    int64_t line = 0;
    BIF_TRY(bif_file_read(path, 1 << 20, &text, &size));
    for (char *at = text, *next; at < text + size && !bif_questions_full(r->set); at = next) {
        char *newline = memchr(at, '\n', (size_t)(text + size - at)), *end = newline != NULL ? newline : text + size;
        next = end + 1;
        line++;
        const bif_span whole = bif_text_strip((bif_span){at, (size_t)(end - at)});
        const char *tab = memchr(whole.text, '\t', whole.size);
        if (whole.size == 0) {
            continue;
        }
        if (tab == NULL) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:%lld: a question, a tab and an answer are wanted", path, (long long)line));
        }
        const bif_span core = bif_mme_core((bif_span){whole.text, (size_t)(tab - whole.text)});
        bif_text_buffer id = {0};
        bif_mme_name(&id, (bif_span){subtask, strlen(subtask)}, (bif_span){file, strlen(file)}, core);
        bif_question *q = bif_prompt_add(r, kept, line, bif_text_span(&id), core);
        bif_text_free(&id);
        add_picture(r, q, root, subtask, stem);
    }
done:
    free(text);
    free(path);
    free(stem);
    return st;
}

/* The release's folder: SUBTASK/[questions_answers_YN/]NAME.txt, two questions a picture. "Please answer yes or no." gives way to the
 * suffix. */
static bif_status read_mme(bif_prompt_reader *r)
{
    bif_status st = BIF_OK;
    struct dirent **names = NULL;
    int count = 0, found = 0;
    for (size_t i = 0; i < r->count; i++) {
        for (int k = 0; bif_mme_subtasks[k] != NULL; k++) {
            char *folder = bif_path_join(r->paths[i], bif_mme_subtasks[k]), *inner = bif_path_join(folder, "questions_answers_YN");
            const char *with = bif_is_folder(inner) ? inner : folder;
            count = bif_is_folder(folder) ? scandir(with, &names, is_text, by_name) : 0;
            found += bif_is_folder(folder);
            st = count < 0 ? bif_fail_errno(errno, "cannot list '%s'", with) : BIF_OK;
            for (int n = 0; n < count; n++) {
                st = st == BIF_OK ? read_pictures_questions(r, r->paths[i], bif_mme_subtasks[k], with, names[n]->d_name) : st;
                free(names[n]);
            }
            free(names);
            names = NULL;
            free(folder);
            free(inner);
            BIF_TRY(st);
        }
    }
    if (found == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no folder of a subtask of MME in it (existence, count, ...)", r->paths[0]));
    }
done:
    return st;
}

const bif_prompt_task bif_prompt_pope = {.name = "pope",
                                         .questions = "coco_pope_random.json, _popular, _adversarial (repeatable)",
                                         .images = "val2014/ of COCO",
                                         .variant = {{"llava", BIF_PROMPT_SHORT, "as LLaVA-1.5 asks"}},
                                         .max_new = 128,
                                         .read = read_pope};
const bif_prompt_task bif_prompt_mme = {
    .name = "mme",
    .questions = "the folder MME_Benchmark_release_version",
    .images = "the same folder",
    .variant = {{"llava", BIF_PROMPT_SHORT, "as LLaVA-1.5 asks"}, {"original", " Please answer yes or no.", "as the benchmark asks"}},
    .max_new = 128,
    .read = read_mme};
