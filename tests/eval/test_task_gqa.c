/* Against what eval.py and the harnesses gave for the same questions (tests/golden/check_score_gqa.py). */
#include "tests/eval/score_golden.h"

Test(task_gqa, every_number_of_eval_py)
{
    char *files[] = {golden_file("score_gqa", "questions.json"), golden_file("score_gqa", "choices.json")};
    char *predictions = golden_file("score_gqa", "predictions.jsonl"), *numbers = golden_file("score_gqa", "wanted.json");
    bif_score_set *set = golden_open("gqa", (const char *const *)files, 2);
    bif_metric_list metrics = {0};
    json_t *wanted = NULL;
    cr_assert_eq(bif_json_load_file(numbers, 1 << 20, &wanted), BIF_OK);
    golden_predict(set, predictions);
    for (int n = 0; n < BIF_NORMS; n++) {
        json_t *of_norm = json_object_get(wanted, bif_norm_name((bif_norm)n));
        if ((set->task->norms & BIF_NORM_BIT(n)) != 0) {
            cr_assert_eq(bif_score_run(set, (bif_norm)n), BIF_OK);
            bif_score_summary(set, NULL, &metrics);
            golden_metrics(&metrics, of_norm);
        }
    }
    cr_assert_eq(json_object_size(wanted), 4);
    /* everything twice is the same but for the distribution, whose counts are squared over counts: twice */
    int32_t *twice = bif_calloc((size_t)set->count, sizeof *twice);
    for (int64_t i = 0; i < set->count; i++) {
        twice[i] = 2;
    }
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    bif_score_summary(set, twice, &metrics);
    json_t *official = json_object_get(wanted, "official");
    json_object_set_new(official, "distribution (lower is better)",
                        json_real(2.0 * json_real_value(json_object_get(official, "distribution (lower is better)"))));
    golden_metrics(&metrics, official);
    json_decref(wanted);
    free(twice);
    free(metrics.items);
    bif_score_close(set);
    for (size_t i = 0; i < 2; i++) {
        free(files[i]);
    }
    free(predictions);
    free(numbers);
}

Test(task_gqa, unbalanced_questions_may_be_missing)
{
    char folder[] = "/tmp/bif-gqa-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    char *questions = write_file(folder, "q.json",
                                 "{\"1\":{\"answer\":\"yes\",\"isBalanced\":true,\"entailed\":[\"2\"],\"question\":\"a "
                                 "b\"},\"2\":{\"answer\":\"no\",\"isBalanced\":false}}");
    char *predictions = write_file(folder, "p.json", "[{\"questionId\":\"1\",\"prediction\":\"Yes.\"}]");
    bif_score_set *set = golden_open("gqa", (const char *const *)&questions, 1);
    bif_metric_list metrics = {0};
    golden_predict(set, predictions);
    cr_assert_eq(bif_score_run(set, BIF_NORM_LLAVA), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_float_eq(metrics.items[0].value, 100.0, 1e-12);
    cr_assert_eq(metrics.items[0].count, 1);
    cr_assert_eq(set->note_count, 1);
    cr_assert_not_null(strstr(set->notes[0], "no consistency: 1"));
    bif_score_close(set);
    free(predictions);
    free(write_file(folder, "q.json", "{\"1\":{\"answer\":\"yes\"},\n\"2\":{\"question\":\"a\"}}"));
    cr_assert_eq(bif_score_open(bif_score_task_by_name("gqa"), (const char *const *)&questions, 1, &set), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "q.json:2:"), "%s", bif_error_message());
    free(questions);
    free(metrics.items);
    bif_remove_tree(folder);
}
