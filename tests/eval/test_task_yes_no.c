/* POPE and MME; what parsers make of texts against the scorers' own code (tests/golden/check_score_yes_no.py). */
#include "tests/eval/score_golden.h"

#include <math.h>

#include "eval/yes_no.h"

static char folder[] = "/tmp/bif-yes-no-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(yes_no, .init = setup, .fini = teardown);

Test(yes_no, parsers)
{
    char *path = golden_file("score_yes_no", "yes_no.jsonl");
    bif_jsonl rows = {0};
    bif_yes_no_parser parser;
    bif_yes_no_open(&parser);
    cr_assert_eq(bif_jsonl_read(path, 0, &rows), BIF_OK);
    cr_assert_gt(rows.count, 200);
    for (int64_t i = 0; i < rows.count; i++) {
        json_t *row = rows.items[i].object;
        const bif_span text = {json_string_value(json_object_get(row, "text")), json_string_length(json_object_get(row, "text"))};
        const struct {
            const char *name;
            bif_yes_no got;
        } cases[] = {{"pope", bif_yes_no_pope(text)},
                     {"exact", bif_yes_no_exact(&parser, text)},
                     {"prefix", bif_yes_no_prefix(&parser, text, false)},
                     {"prefix_lmms", bif_yes_no_prefix(&parser, text, true)},
                     {"words", bif_yes_no_words(&parser, text)}};
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            cr_assert_str_eq(bif_yes_no_name(cases[k].got), json_string_value(json_object_get(row, cases[k].name)), "%s of '%s'",
                             cases[k].name, text.text);
        }
    }
    bif_yes_no_close(&parser);
    bif_jsonl_free(&rows);
    free(path);
}

/* Two splits; LLaVA's ids; a shuffled file of predictions. By hand: random TP 1 FP 1 TN 0 FN 0, popular TP 1 FP 0 TN 1 FN 1. */
Test(yes_no, pope)
{
    char *files[] = {
        write_file(folder, "coco_pope_random.json",
                   "{\"question_id\":1,\"image\":\"a\",\"text\":\"A dog?\",\"label\":\"yes\"}\n"
                   "{\"question_id\":2,\"image\":\"a\",\"text\":\"A cat in the imange?\",\"label\":\"no\"}\n"),
        write_file(folder, "coco_pope_popular.json",
                   "[{\"question_id\":1,\"image\":\"b\",\"text\":\"A dog?\",\"label\":\"yes\"},\n{\"question_id\":2,\"image\":\"b\","
                   "\"text\":\"A cat?\",\"label\":\"no\"},{\"question_id\":3,\"image\":\"b\",\"text\":\"A hat?\",\"label\":\"yes\"}]"),
        write_file(folder, "llava.jsonl",
                   "{\"question_id\":0,\"image\":\"a\",\"text\":\"A dog?\\nShort.\",\"category\":\"random\"}\n"
                   "{\"question_id\":1,\"image\":\"b\",\"text\":\"A dog?\\nShort.\",\"category\":\"popular\"}\n"
                   "{\"question_id\":2,\"image\":\"a\",\"text\":\"A cat in the imange?\\nShort.\",\"category\":\"random\"}\n"
                   "{\"question_id\":3,\"image\":\"b\",\"text\":\"A cat?\\nShort.\",\"category\":\"popular\"}\n"
                   "{\"question_id\":4,\"image\":\"b\",\"text\":\"A hat?\\nShort.\",\"category\":\"popular\"}\n")};
    bif_score_set *set = golden_open("pope", (const char *const *)files, 3);
    char *predictions =
        write_file(folder, "p.jsonl",
                   "{\"question_id\":3,\"text\":\"No.\"}\n{\"question_id\":0,\"text\":\"Yes\"}\n{\"question_id\":4,\"text\":\"not\"}\n"
                   "{\"question_id\":2,\"text\":\"The cat\"}\n{\"question_id\":1,\"text\":\"Maybe\"}\n");
    bif_metric_list metrics = {0};
    golden_predict(set, predictions);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "F1/random"), 200.0 / 3.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "F1/popular"), 200.0 / 3.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "precision/popular"), 100.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "recall/popular"), 50.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "yes ratio/popular"), 100.0 / 3.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "accuracy"), 60.0, 1e-9);
    cr_assert_str_eq(metrics.items[0].name, "F1");
    cr_assert_not_null(strstr(set->notes[0], "not one of the two published versions"));
    cr_assert_eq(bif_score_run(set, BIF_NORM_VLMEVALKIT), BIF_OK);
    cr_assert_eq(bif_score_unparsed(set), 3);
    const int32_t weight[] = {2, 0, 1, 1, 1}; /* by the order of the splits' files */
    bif_score_summary(set, weight, &metrics);
    cr_assert_eq(metrics.items[1].count, 5);
    bif_score_close(set);
    /* without LLaVA's file: SPLIT/ID; another version's file is refused */
    set = golden_open("pope", (const char *const *)files, 2);
    free(predictions);
    predictions = write_file(folder, "p.json",
                             "{\"random/1\":\"yes\",\"random/2\":\"no\",\"popular/1\":\"yes\",\"popular/2\":\"no\",\"popular/3\":\"yes\"}");
    golden_predict(set, predictions);
    cr_assert_eq(bif_score_run(set, BIF_NORM_LMMS), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_float_eq(metrics.items[0].value, 100.0, 1e-9);
    bif_score_close(set);
    free(write_file(folder, "llava.jsonl", "{\"question_id\":0,\"image\":\"a\",\"text\":\"A frog?\",\"category\":\"random\"}\n"));
    cr_assert_eq(bif_score_open(bif_score_task_by_name("pope"), (const char *const *)files, 3, &set), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "llava.jsonl:1: not the question that comes next"), "%s", bif_error_message());
    free(write_file(folder, "coco_pope_random.json", "{\"question_id\":1,\"label\":\"yes\"}\n{\"question_id\":2,\"label\":\"maybe\"}\n"));
    cr_assert_eq(bif_score_open(bif_score_task_by_name("pope"), (const char *const *)files, 1, &set), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "coco_pope_random.json:2:"), "%s", bif_error_message());
    free(predictions);
    free(metrics.items);
    for (size_t i = 0; i < 3; i++) {
        free(files[i]);
    }
}

/* Two pictures of one subtask, one of another. By hand: existence 3 of 4 right, 1 of 2 pictures: 75 + 50; code_reasoning 1 of 2, none: 50.
 */
Test(yes_no, mme)
{
    char *release = bif_path_join(folder, "release");
    free(
        write_file(release, "existence/1.txt", "Is it red? Please answer yes or no.\tYes\r\nIs it blue? Please answer yes or no.\tNo\r\n"));
    free(write_file(release, "existence/2.txt", "Is it red?  Please answer yes or no.\tYes\nIs it blue? Please answer yes or no.\tNo\n\n"));
    free(write_file(release, "code_reasoning/questions_answers_YN/0001.txt",
                    "Is it 1? Please answer yes or no.\tYes\nIs it 2? Please answer yes or no.\tNo"));
    free(write_file(release, "notes/1.txt", "not a subtask"));
    bif_score_set *set = golden_open("mme", (const char *const *)&release, 1);
    cr_assert_eq(set->count, 6);
    char *rows = write_file(folder, "p.jsonl",
                            "{\"question_id\":\"existence/1.jpg\",\"prompt\":\"Is it blue?\\nAnswer the question using a single word or "
                            "phrase.\",\"text\":\"No\"}\n"
                            "{\"question_id\":\"existence/1.jpg\",\"prompt\":\"Is it red?\\nAnswer the question using a single word or "
                            "phrase.\",\"text\":\" Yes, it is\"}\n"
                            "{\"question_id\":\"existence/2.jpg\",\"prompt\":\"Is it red? Please answer yes or no.\",\"text\":\"yes\"}\n"
                            "{\"question_id\":\"existence/2.jpg\",\"prompt\":\"Is it blue? Please answer yes or no.\",\"text\":\"Yes\"}\n"
                            "{\"question_id\":\"code_reasoning/0001.png\",\"prompt\":\"Is it 1?\",\"text\":\"yes\"}\n"
                            "{\"question_id\":\"code_reasoning/images/0001.png\",\"prompt\":\"Is it 2?\",\"text\":\"It is 2.\"}\n");
    bif_metric_list metrics = {0};
    golden_predict(set, rows);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    cr_assert_eq(bif_score_unparsed(set), 1);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "perception"), 125.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "cognition"), 50.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "accuracy+/existence"), 50.0, 1e-9);
    cr_assert_not_null(strstr(set->notes[0], "2 of the 14 subtasks"));
    const int32_t weight[] = {1, 1, 3, 3, 1, 1}; /* in the order of the subtasks: code_reasoning is last; 2.txt three times */
    bif_score_summary(set, weight, &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "score/existence"), 100.0 * 5.0 / 8.0 + 25.0, 1e-9);
    bif_score_close(set);
    /* the scorer's own folder, as references and as predictions */
    char *results = bif_path_join(folder, "results");
    free(write_file(results, "count.txt",
                    "1.txt\tTwo? Please answer yes or no.\tYes\tyes\n1.txt\tThree? Please answer yes or no.\tNo\tYes\n"));
    set = golden_open("mme", (const char *const *)&results, 1);
    golden_predict(set, results);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_float_eq(metrics.items[0].value, 50.0, 1e-9);
    cr_assert(isnan(metrics.items[1].value));
    bif_score_close(set);
    free(write_file(results, "count.txt", "1.txt\tTwo?\tYes\tyes\n1.txt\tThree?\tperhaps\tYes\n"));
    cr_assert_eq(bif_score_open(bif_score_task_by_name("mme"), (const char *const *)&results, 1, &set), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "count.txt:2: the answer is 'perhaps'"), "%s", bif_error_message());
    free(metrics.items);
    free(release);
    free(results);
    free(rows);
}
