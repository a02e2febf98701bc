/* MME: two questions a picture, answered yes or no. A subtask's score is 100 x the share of right answers (accuracy) plus 100 x the share
 * of pictures with both right (accuracy+); perception is the sum of ten subtasks (2,000 at most), cognition that of four.
 *
 * References: MME_Benchmark_release_version (SUBTASK/[questions_answers_YN/]NAME.txt, lines "question TAB answer"), or a folder of the
 * scorer's own files (SUBTASK.txt, lines "picture TAB question TAB answer [TAB prediction]"). Predictions: such a folder too, or LLaVA's
 * rows, where question_id is SUBTASK/PICTURE for both questions and the prompt tells which is meant. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "eval/yes_no.h"

enum { PERCEPTION = 10, SUBTASKS = 14 };
const char *const bif_mme_subtasks[SUBTASKS + 1] = {"existence",
                                               "count",
                                               "position",
                                               "color",
                                               "posters",
                                               "celebrity",
                                               "scene",
                                               "landmark",
                                               "artwork",
                                               "OCR",
                                               "commonsense_reasoning",
                                               "numerical_calculation",
                                               "text_translation",
                                               "code_reasoning"};

enum { FIRST = 0, BOTH = 1 }; /* item->value: it is the first of its picture, and (there) both are right */

static bif_span until(bif_span text, char mark)
{
    const char *end = text.size > 0 ? memchr(text.text, mark, text.size) : NULL;
    return (bif_span){text.text, end != NULL ? (size_t)(end - text.text) : text.size};
}

/* Cuts the field before the next tab off the front; false when no tab is left, then *field is all. */
static bool cut(bif_span *rest, bif_span *field)
{
    *field = until(*rest, '\t');
    const bool tab = field->size < rest->size;
    rest->text += field->size + tab;
    rest->size -= field->size + tab;
    return tab;
}

static bool next_line(bif_span *rest, bif_span *line)
{
    if (rest->size == 0) {
        return false;
    }
    *line = until(*rest, '\n');
    const size_t used = line->size + (line->size < rest->size);
    rest->text += used;
    rest->size -= used;
    return true;
}

bif_span bif_mme_core(bif_span question)
{
    static const char *const demands[] = {"Answer the question using a single word or phrase.", "Please answer yes or no."};
    question = bif_text_strip(question);
    for (bool cut_one = true; cut_one;) {
        cut_one = false;
        for (size_t i = 0; i < sizeof demands / sizeof *demands; i++) {
            const size_t size = strlen(demands[i]);
            if (question.size >= size && memcmp(question.text + question.size - size, demands[i], size) == 0) {
                question = bif_text_strip((bif_span){question.text, question.size - size});
                cut_one = true;
            }
        }
    }
    return question;
}

void bif_mme_name(bif_text_buffer *out, bif_span subtask, bif_span picture, bif_span question)
{
    const bif_span stem = until(picture, '.'), core = bif_mme_core(question);
    bif_text_add(out, subtask.text, subtask.size);
    bif_text_add(out, "/", 1);
    bif_text_add(out, stem.text, stem.size);
    bif_text_add(out, "\n", 1);
    bif_text_add(out, core.text, core.size);
}

static bool name_mme(bif_span id, bif_span prompt, bif_text_buffer *out)
{
    const bif_span subtask = until(id, '/');
    if (subtask.size == id.size) {
        return false;
    }
    size_t from = id.size;
    while (id.text[from - 1] != '/') {
        from--;
    }
    bif_mme_name(out, subtask, (bif_span){id.text + from, id.size - from}, prompt);
    return true;
}

static bif_status add(bif_score_set *set, bif_text_buffer *name, const char *path, int64_t line, const char *subtask, bif_span picture,
                      bif_span question, bif_span answer)
{
    const bif_span kind = {subtask, strlen(subtask)}, right = bif_text_strip(answer);
    bif_text_clear(name);
    bif_text_lower(right, name);
    if (!bif_span_is(bif_text_span(name), "yes") && !bif_span_is(bif_text_span(name), "no")) {
        return bif_fail(BIF_ERR_DATA, "%s:%lld: the answer is '%.*s', neither yes nor no", path, (long long)line,
                        (int)(right.size < 40 ? right.size : 40), right.text);
    }
    bif_span *answers = bif_score_take(set, sizeof *answers);
    *answers = bif_score_keep(set, bif_text_span(name));
    bif_text_clear(name);
    bif_mme_name(name, kind, picture, question);
    const bif_span full = bif_score_keep(set, bif_text_span(name));
    if (bif_utf8_check(full.text, full.size) < full.size) {
        return bif_fail(BIF_ERR_DATA, "%s:%lld: the name of the picture, or the question, is not UTF-8", path, (long long)line);
    }
    bif_score_item *item = bif_score_add(set, full);
    item->other_id = full;
    item->cluster = until(full, '\n');
    item->group[0] = kind;
    item->answers = answers;
    item->answer_count = 1;
    return BIF_OK;
}

/* picture TAB question TAB answer [TAB prediction]. reader NULL: the references; else the predictions. */
static bif_status read_results(bif_score_set *set, bif_score_reader *reader, const char *path, const char *subtask)
{
    bif_status st = BIF_OK;
    bif_span rest, line, picture, question, answer;
    bif_text_buffer name = {0};
    int64_t number = 0;
    BIF_TRY(bif_score_bytes(set, path, &rest));
    while (next_line(&rest, &line)) {
        number++;
        if (bif_text_strip(line).size == 0) {
            continue;
        }
        if (bif_utf8_check(line.text, line.size) < line.size) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:%lld: not UTF-8", path, (long long)number));
        }
        const bool whole = cut(&line, &picture) && cut(&line, &question), more = whole && cut(&line, &answer);
        if (!whole || (reader != NULL && !more)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:%lld: picture, question, answer%s between tabs are wanted", path, (long long)number,
                             reader != NULL ? " and prediction" : ""));
        }
        if (reader == NULL) {
            BIF_TRY(add(set, &name, path, number, subtask, picture, question, answer));
        } else {
            bif_text_clear(&name);
            bif_mme_name(&name, (bif_span){subtask, strlen(subtask)}, picture, question);
            bif_score_answer(reader, path, number, bif_text_span(&name), line);
        }
    }
done:
    bif_text_free(&name);
    return st;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_text(const struct dirent *entry)
{
    const size_t size = strlen(entry->d_name);
    return size > 4 && strcmp(entry->d_name + size - 4, ".txt") == 0;
}

/* NAME.txt of one subtask of the release. */
static bif_status read_release(bif_score_set *set, const char *folder, const char *subtask)
{
    bif_status st = BIF_OK;
    struct dirent **names = NULL;
    bif_text_buffer name = {0};
    bif_span rest, line, question;
    const int count = scandir(folder, &names, is_text, by_name);
    if (count < 0) {
        BIF_TRY(bif_fail_errno(errno, "cannot list '%s'", folder));
    }
    for (int i = 0; i < count; i++) {
        char *path = bif_path_join(folder, names[i]->d_name);
        int64_t number = 0;
        st = bif_score_bytes(set, path, &rest);
        while (st == BIF_OK && next_line(&rest, &line)) {
            number++;
            line = bif_text_strip(line);
            if (line.size > 0 && !cut(&line, &question)) {
                st = bif_fail(BIF_ERR_DATA, "%s:%lld: a question, a tab and an answer are wanted", path, (long long)number);
            } else if (line.size > 0) {
                st = add(set, &name, path, number, subtask, (bif_span){names[i]->d_name, strlen(names[i]->d_name)}, question, line);
            }
        }
        free(path);
        BIF_TRY(st);
    }
done:
    for (int i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
    bif_text_free(&name);
    return st;
}

static bif_status read_mme(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        for (int k = 0; k < SUBTASKS; k++) {
            char *folder = bif_path_join(paths[i], bif_mme_subtasks[k]), *inner = bif_path_join(folder, "questions_answers_YN");
            char *results = bif_format("%s.txt", folder);
            const bool release = bif_is_folder(folder), one_file = !release && bif_exists(results);
            st = release    ? read_release(set, bif_is_folder(inner) ? inner : folder, bif_mme_subtasks[k])
                 : one_file ? read_results(set, NULL, results, bif_mme_subtasks[k])
                            : BIF_OK;
            found += release || one_file;
            free(folder);
            free(inner);
            free(results);
            BIF_TRY(st);
        }
    }
    if (found == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no folder or .txt file of a subtask of MME in it (existence, count, ...)", paths[0]));
    }
    if (found < SUBTASKS) {
        bif_score_note(set, "%d of the 14 subtasks: perception and cognition are the sums of those", found);
    }
done:
    return st;
}

static bif_status predict_mme(bif_score_set *set, bif_score_reader *reader, const char *path, bool *own)
{
    bif_status st = BIF_OK;
    int found = 0;
    *own = bif_is_folder(path);
    for (int k = 0; k < SUBTASKS && *own; k++) {
        char *name = bif_format("%s.txt", bif_mme_subtasks[k]), *results = bif_path_join(path, name);
        const bool there = bif_exists(results);
        st = there ? read_results(set, reader, results, bif_mme_subtasks[k]) : BIF_OK;
        found += there;
        free(name);
        free(results);
        BIF_TRY(st);
    }
    if (*own && found == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no SUBTASK.txt in it", path));
    }
done:
    return st;
}

static bif_status score_mme(bif_score_set *set, bif_norm norm)
{
    bif_status st = BIF_OK;
    bif_yes_no_parser parser;
    int64_t *first = bif_malloc((size_t)set->clusters * sizeof *first), halves = 0;
    int32_t *right = bif_calloc((size_t)set->clusters, sizeof *right), *seen = bif_calloc((size_t)set->clusters, sizeof *seen);
    bif_yes_no_open(&parser);
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const int32_t c = item->cluster_index;
        const bif_yes_no answer = norm == BIF_NORM_VLMEVALKIT ? bif_yes_no_words(&parser, item->prediction)
                                                              : bif_yes_no_prefix(&parser, item->prediction, norm == BIF_NORM_LMMS);
        const char *name = bif_yes_no_name(answer);
        item->parsed = (bif_span){name, strlen(name)};
        item->unparsed = answer == BIF_NEITHER;
        item->score = bif_span_is(item->answers[0], name);
        first[c] = seen[c]++ == 0 ? i : first[c];
        right[c] += item->score > 0.5;
    }
    for (int32_t c = 0; c < set->clusters; c++) {
        if (seen[c] > 2) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%d questions about %.*s; MME has two a picture", seen[c],
                             (int)set->items[first[c]].cluster.size, set->items[first[c]].cluster.text));
        }
        halves += seen[c] == 1;
        set->items[first[c]].value[FIRST] = 1.0;
        set->items[first[c]].value[BOTH] = right[c] == 2;
    }
    if (halves > 0) {
        bif_score_note(set, "%lld pictures have one question of their two: never right in accuracy+, which is too low then", (long long)halves);
    }
done:
    bif_yes_no_close(&parser);
    free(first);
    free(right);
    free(seen);
    return st;
}

static void summarise_mme(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    double right[SUBTASKS] = {0}, both[SUBTASKS] = {0}, sum[2] = {0};
    int64_t questions[SUBTASKS] = {0}, pictures[SUBTASKS] = {0}, all[2] = {0};
    bool there[SUBTASKS] = {0};
    int index[SUBTASKS] = {0};
    for (int32_t g = 0; g < set->groups[0]; g++) {
        while (!bif_span_is(set->group[0][g], bif_mme_subtasks[index[g]])) {
            index[g]++;
        }
        there[index[g]] = true;
    }
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        const int k = index[item->group_index[0]];
        right[k] += weight[i] * item->score;
        questions[k] += weight[i];
        both[k] += weight[i] * item->value[BOTH];
        pictures[k] += item->value[FIRST] > 0.0 ? weight[i] : 0;
    }
    for (int k = 0; k < SUBTASKS; k++) {
        right[k] = 100.0 * right[k] / (double)questions[k];
        both[k] = 100.0 * both[k] / (double)pictures[k];
        sum[k >= PERCEPTION] += there[k] ? right[k] + both[k] : 0.0;
        all[k >= PERCEPTION] += questions[k];
    }
    bif_metric_add(out, all[0] > 0 ? sum[0] : NAN, all[0], "perception");
    bif_metric_add(out, all[1] > 0 ? sum[1] : NAN, all[1], "cognition");
    for (int k = 0; k < SUBTASKS; k++) {
        if (there[k]) {
            bif_metric_add(out, right[k] + both[k], questions[k], "score/%s", bif_mme_subtasks[k]);
            bif_metric_add(out, right[k], questions[k], "accuracy/%s", bif_mme_subtasks[k]);
            bif_metric_add(out, both[k], pictures[k], "accuracy+/%s", bif_mme_subtasks[k]);
        }
    }
}

const bif_score_task bif_task_mme = {
    .name = "mme",
    .title = "MME: yes or no, two questions a picture",
    .references = "the folder MME_Benchmark_release_version, or one of SUBTASK.txt as its calculation.py reads",
    .rule =
        "a subtask counts 100 accuracy + 100 accuracy+ (pictures with both right); official: yes, else no, in the first four characters",
    .dimension = {"subtask"},
    .norms = BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_VLMEVALKIT),
    .read = read_mme,
    .name_of_row = name_mme,
    .predict = predict_mme,
    .score = score_mme,
    .summarise = summarise_mme,
};
