#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "eval/score.h"

static char folder[] = "/tmp/bif-score-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(score, .init = setup, .fini = teardown);

static char *file(const char *name, const char *text)
{
    char *path = bif_path_join(folder, name);
    cr_assert_eq(bif_file_write(path, text, strlen(text)), BIF_OK);
    return path;
}

static const char questions[] = "{\"question_id\":1,\"image\":\"a\",\"answer\":\"yes\",\"type\":\"yn\"}\n{\"question_id\":2,\"image\":\"a\",\"answer\":[\"Red\",\"crimson\"],\"type\":\"c\"}\n"
                                "{\"question_id\":\"x\",\"image\":\"b\",\"answer\":7}\n";

static bif_score_set *open_set(void)
{
    char *path = file("questions.jsonl", questions);
    bif_score_set *set = NULL;
    cr_assert_eq(bif_score_open(bif_score_task_by_name("exact"), (const char *const *)&path, 1, &set), BIF_OK, "%s", bif_error_message());
    free(path);
    return set;
}

static bif_status predict(bif_score_set *set, const char *text, bif_score_policy policy, bif_score_counts *counts)
{
    char *path = file("predictions", text);
    const bif_status st = bif_score_predictions(set, path, &policy, counts);
    free(path);
    return st;
}

Test(score, every_form_of_predictions)
{
    static const char *const forms[] = {
        "{\"question_id\":1,\"prediction\":\"Yes.\"}\n{\"question_id\":\"2\",\"prediction\":\" crimson \"}\n\n{\"question_id\":\"x\",\"prediction\":8}\n",
        "[{\"questionId\":\"1\",\"answer\":\"yes\"},{\"questionId\":\"2\",\"answer\":\"RED\"},{\"questionId\":\"x\",\"answer\":\"8\"}]",
        "{\"1\":\"yes\",\"2\":\"red\",\"x\":8}",
        "{\"answer\":\"no, that is the reference\",\"text\":\"yes\",\"question_id\":1}{\"id\":2,\"caption\":\"red\"}{\"index\":\"x\",\"text\":\"\"}"};
    bif_score_set *set = open_set();
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        bif_score_counts counts;
        bif_metric_list metrics = {0};
        cr_assert_eq(predict(set, forms[i], (bif_score_policy){0}, &counts), BIF_OK, "%zu: %s", i, bif_error_message());
        cr_assert_eq(counts.read, 3);
        cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
        bif_score_summary(set, NULL, &metrics);
        cr_assert_eq(metrics.count, 3);
        cr_assert_str_eq(metrics.items[0].name, "accuracy");
        cr_assert_float_eq(metrics.items[0].value, 200.0 / 3.0, 1e-12);
        cr_assert_str_eq(metrics.items[2].name, "accuracy/c");
        cr_assert_float_eq(metrics.items[2].value, 100.0, 1e-12);
        free(metrics.items);
    }
    bif_score_close(set);
}

Test(score, ids_that_do_not_fit)
{
    bif_score_set *set = open_set();
    bif_score_counts counts;
    const char *const missing = "{\"question_id\":1,\"prediction\":\"yes\"}\n{\"question_id\":2,\"prediction\":\"red\"}\n";
    cr_assert_eq(predict(set, missing, (bif_score_policy){0}, &counts), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "1 of 3 questions have no prediction, first x"), "%s", bif_error_message());
    cr_assert_eq(predict(set, missing, (bif_score_policy){.missing = BIF_MISSING_WRONG}, &counts), BIF_OK);
    cr_assert_eq(counts.missing, 1);
    const char *const unknown = "{\"1\":\"yes\",\"2\":\"red\",\"x\":\"7\",\"y\":\"7\"}";
    cr_assert_eq(predict(set, unknown, (bif_score_policy){0}, &counts), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "predictions:1: y"), "%s", bif_error_message());
    cr_assert_eq(predict(set, unknown, (bif_score_policy){.allow_unknown = true}, &counts), BIF_OK);
    const char *const again = "{\"question_id\":1,\"prediction\":\"no\"}\n{\"question_id\":2,\"prediction\":\"red\"}\n{\"question_id\":\"x\",\"prediction\":\"7\"}\n"
                              "{\"question_id\":1,\"prediction\":\"yes\"}\n";
    cr_assert_eq(predict(set, again, (bif_score_policy){0}, &counts), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "predictions:4: 1, before in line 1"), "%s", bif_error_message());
    bif_metric_list metrics = {0};
    cr_assert_eq(predict(set, again, (bif_score_policy){.allow_duplicates = true}, &counts), BIF_OK);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_float_eq(metrics.items[0].value, 100.0, 1e-12); /* the last one counts */
    cr_assert_eq(predict(set, missing, (bif_score_policy){.missing = BIF_MISSING_SKIP}, &counts), BIF_OK);
    cr_assert_eq(set->count, 2);
    cr_assert_eq(set->clusters, 1);
    cr_assert_eq(predict(set, "{\"question_id\":1,\"prediction\":\"yes\"}\n{\"question_id\":2 3}", (bif_score_policy){0}, &counts), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "predictions:2:18"), "%s", bif_error_message());
    cr_assert_eq(predict(set, "{\"question_id\":1,\"guess\":\"yes\"}", (bif_score_policy){0}, &counts), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "no prediction beside the id 1"), "%s", bif_error_message());
    free(metrics.items);
    bif_score_close(set);
    char *twice = file("twice.jsonl", "{\"question_id\":1,\"answer\":\"a\"}\n{\"question_id\":\"1\",\"answer\":\"a\"}\n");
    cr_assert_eq(bif_score_open(bif_score_task_by_name("exact"), (const char *const *)&twice, 1, &set), BIF_ERR_DATA);
    free(twice);
}

/* n pictures of k questions that are right or wrong together: the interval is that of n draws, not of n k. */
Test(score, the_bootstrap_draws_pictures)
{
    enum { PICTURES = 400, EACH = 5, DRAWS = 2000 };
    char *text = bif_malloc((size_t)PICTURES * EACH * 100), *answers = bif_malloc((size_t)PICTURES * EACH * 100), *at = text, *to = answers;
    for (int i = 0; i < PICTURES * EACH; i++) {
        at += sprintf(at, "{\"question_id\":%d,\"image\":\"p%d\",\"answer\":\"yes\"}\n", i, i / EACH);
        to += sprintf(to, "{\"question_id\":%d,\"prediction\":\"%s\"}\n", i, i / EACH % 4 == 0 ? "yes" : "no");
    }
    char *path = file("many.jsonl", text);
    bif_score_set *set = NULL;
    bif_score_counts counts;
    cr_assert_eq(bif_score_open(bif_score_task_by_name("exact"), (const char *const *)&path, 1, &set), BIF_OK);
    cr_assert_eq(predict(set, answers, (bif_score_policy){0}, &counts), BIF_OK);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    double low = 0.0, high = 0.0;
    bif_score_bootstrap(set, DRAWS, 1, &low, &high);
    const double wide = 2.0 * 1.96 * 100.0 * sqrt(0.25 * 0.75 / PICTURES); /* 8.5; of single questions it would be 3.8 */
    cr_assert_float_eq(high - low, wide, 0.08 * wide, "%g, wanted about %g", high - low, wide);
    cr_assert_float_eq(0.5 * (high + low), 25.0, 0.5);
    bif_score_close(set);
    free(path);
    free(text);
    free(answers);
}

Test(score, mcnemar_is_the_binomial_test)
{
    bif_score_item a[12] = {0}, b[12] = {0};
    bif_score_set first = {.items = a, .count = 12}, second = {.items = b, .count = 12};
    int64_t only_a = 0, only_b = 0;
    for (int i = 0; i < 12; i++) {
        a[i].score = i < 9;
        b[i].score = i >= 8;
    }
    /* 8 in a alone, 3 in b alone: 2 (1 + 11 + 55 + 165) / 2^11 */
    cr_assert_float_eq(bif_score_mcnemar(&first, &second, &only_a, &only_b), 464.0 / 2048.0, 1e-12);
    cr_assert_eq(only_a, 8);
    cr_assert_eq(only_b, 3);
    cr_assert_float_eq(bif_score_mcnemar(&first, &first, &only_a, &only_b), 1.0, 1e-12);
}
