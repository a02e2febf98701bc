/* Against what LLaVA's and MM-Vet's scripts made of the same reviews and grades (tests/golden/check_score_judge.py). */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "eval/judge.h"
#include "tests/eval/score_golden.h"

static void compare(const char *task, const char *references, const char *predictions)
{
    char *r = golden_file("score_judge", references), *p = golden_file("score_judge", predictions),
         *e = golden_file("score_judge", "expected.json");
    bif_metric_list metrics = {0};
    json_t *all = NULL, *value;
    const char *name;
    bif_score_set *set = golden_open(task, (const char *const *)&r, 1);
    golden_predict(set, p);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK, "%s", bif_error_message());
    bif_score_summary(set, NULL, &metrics);
    cr_assert_eq(bif_json_load_file(e, (size_t)1 << 20, &all), BIF_OK, "%s", bif_error_message());
    cr_assert_gt(json_object_size(json_object_get(all, task)), 8);
    json_object_foreach(json_object_get(all, task), name, value) {
        const double want = json_number_value(value), got = golden_metric(&metrics, name); /* they print one digit */
        cr_assert_float_eq(got, want, 0.05 + 1e-9, "%s: %g, wanted %g", name, got, want);
    }
    json_decref(all);
    free(metrics.items);
    bif_score_close(set);
    free(r);
    free(p);
    free(e);
}

Test(task_judge, golden)
{
    compare("llava-bench", "questions.jsonl", "reviews.jsonl");
    compare("llava-bench", "reviews.jsonl", "reviews.jsonl");
    compare("mm-vet", "mm-vet.json", "grades.json");
}

static void pair(const char *text, bool strip, double a, double b)
{
    double out[2] = {-7, -7};
    const bool read = bif_judge_pair((bif_span){text, strlen(text)}, strip, out);
    cr_assert_eq(read, a >= 0.0, "'%s'", text);
    cr_assert(!read || (out[0] == a && out[1] == b), "'%s': %g %g", text, out[0], out[1]);
}

/* LLaVA's rule by hand; < 0: not read. */
Test(task_judge, first_line)
{
    pair("8 6", false, 8, 6);
    pair("8,6\nfine", false, 8, 6);
    pair("7.5 10\r\nfine", false, 7.5, 10);
    pair("8, 6", false, -1, 0);
    pair("8 6 ", false, -1, 0);
    pair("8 6 ", true, 8, 6);
    pair("\n8 6", false, -1, 0);
    pair("\n8 6", true, 8, 6);
    pair("Scores: 8 6", false, -1, 0);
    pair("", false, -1, 0);
    pair("8 nan", false, -1, 0);
    pair("0x8 6", false, -1, 0);
}

static bif_score_set *scored(const char *folder, const char *task, const char *references, const char *predictions,
                             bif_metric_list *metrics)
{
    char *r = write_file(folder, "r.jsonl", references), *p = write_file(folder, "p.jsonl", predictions);
    bif_score_set *set = golden_open(task, (const char *const *)&r, 1);
    golden_predict(set, p);
    cr_assert_eq(bif_score_run(set, set->task->usual), BIF_OK, "%s", bif_error_message());
    bif_score_summary(set, NULL, metrics);
    free(r);
    free(p);
    return set;
}

/* Failures averaged in, and left out. */
Test(task_judge, failures)
{
    char folder[] = "/tmp/bif-judge-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    const char *questions = "{\"question_id\":1,\"category\":\"conv\"}\n{\"question_id\":2,\"category\":\"llava_bench_conv\"}\n"
                            "{\"question_id\":3,\"category\":\"detail\"}";
    bif_metric_list metrics = {0};
    bif_score_set *set = scored(folder, "llava-bench", questions,
                                "{\"question_id\":1,\"content\":\"8 6\"}\n{\"question_id\":2,\"content\":\"?\"}\n"
                                "{\"question_id\":3,\"tuple\":[10,5],\"content\":\"1 1\"}",
                                &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "relative"), 100.0 * 3.333 / 5.667, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "relative/conv"), 100.0 * 2.5 / 3.5, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "relative, read"), 100.0 * 5.5 / 9.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "relative, read/conv"), 75.0, 1e-9);
    cr_assert_eq(bif_score_unparsed(set), 1);
    bif_score_close(set);
    set = scored(folder, "k-llava-w", questions, "{\"question_id\":1,\"content\":\" 8 6 \"}\n{\"question_id\":2,\"content\":\"8 6\"}\n"
                 "{\"question_id\":3,\"content\":\"8 6\"}", &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "relative"), 75.0, 1e-9);
    bif_score_close(set);
    set = scored(folder, "mm-vet", "{\"v1_0\":{\"question\":\"q\",\"answer\":\"a\",\"capability\":[\"ocr\",\"math\"]},"
                 "\"v1_1\":{\"question\":\"q\",\"answer\":\"a\",\"capability\":[\"ocr\"]}}",
                 "{\"question_id\":0,\"content\":\"0.5 because\"}\n{\"question_id\":\"v1_1\",\"content\":\"great\"}", &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "total"), 25.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "integration/math_ocr"), 50.0, 1e-9);
    cr_assert_float_eq(golden_metric(&metrics, "capability/ocr"), 25.0, 1e-9);
    cr_assert_eq(bif_score_unparsed(set), 1);
    bif_score_close(set);
    free(metrics.items);
    bif_remove_tree(folder);
}

static char *request(const char *folder, const bif_score_task *task, const char *references, const char *answers, const char *rules,
                     const char *system)
{
    char *r = write_file(folder, "r.jsonl", references), *a = write_file(folder, "a.jsonl", answers),
         *u = write_file(folder, "rules", rules);
    char *out = bif_path_join(folder, "out.jsonl");
    const bif_judge_files files = {
        .references = (const char *const *)&r, .reference_count = 1, .answers = a, .rules = u, .system = system, .out = out};
    bif_jsonl rows = {0};
    int64_t count = 0;
    cr_assert_eq(bif_judge_requests(task, &files, &count), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(count, 1);
    cr_assert_eq(bif_jsonl_read(out, 0, &rows), BIF_OK);
    const json_t *messages = json_object_get(rows.items[0].object, "messages");
    cr_assert_eq(json_array_size(messages), system != NULL ? 2u : 1u);
    char *text = bif_format("%s", json_string_value(json_object_get(json_array_get(messages, system != NULL), "content")));
    bif_jsonl_free(&rows);
    free(r);
    free(a);
    free(u);
    free(out);
    return text;
}

Test(task_judge, requests)
{
    char folder[] = "/tmp/bif-judge-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    const char *question = "{\"question_id\":1,\"category\":\"conv\",\"question\":\"Q?\",\"caption\":[\"c\",\"d\"],\"gpt_answer\":\"R\"}";
    const char *rules = "{\"llava_bench_conv\":{\"role\":\"Judged\",\"prompt\":\"P\"}}";
    char *text = request(folder, &bif_task_llava_bench, question, "{\"question_id\":1,\"text\":\"M\"}", rules, "S");
    cr_assert_str_eq(
        text,
        "[Context]\nc\nd\n\n[Question]\nQ?\n\n[Judged 1]\nR\n\n[End of Judged 1]\n\n[Judged 2]\nM\n\n[End of Judged 2]\n\n[System]\nP\n\n");
    free(text);
    text = request(folder, &bif_task_k_llava_w, question, "{\"1\":\"M\"}", rules, NULL);
    cr_assert_str_eq(text,
                     "[설명]\nc\nd\n\n[질문]\nQ?\n\n[Judged 1]\nR\n\n[Judged 1 끝]\n\n[Judged 2]\nM\n\n[Judged 2 끝]\n\n[System]\nP\n\n");
    free(text);
    text = request(folder, &bif_task_mm_vet, "{\"v1_4\":{\"question\":\"Q\",\"answer\":\"a<AND>b\",\"capability\":[\"ocr\"]}}",
                   "{\"question_id\":4,\"text\":\"M\"}", "rows\n", NULL);
    cr_assert_str_eq(text, "rows\n\nQ | a <AND> b | M | ");
    free(text);
    bif_remove_tree(folder);
}

static void refused(const char *folder, const char *task, const char *references, const char *predictions, const char *says)
{
    char *r = write_file(folder, "r.jsonl", references), *p = write_file(folder, "p.jsonl", predictions != NULL ? predictions : "");
    bif_score_set *set = NULL;
    bif_score_counts counts;
    bif_status st = bif_score_open(bif_score_task_by_name(task), (const char *const *)&r, 1, &set);
    st = st == BIF_OK ? bif_score_predictions(set, p, &(bif_score_policy){0}, &counts) : st;
    st = st == BIF_OK ? bif_score_run(set, set->task->usual) : st;
    cr_assert_eq(st, BIF_ERR_DATA, "%s", says);
    cr_assert_not_null(strstr(bif_error_message(), says), "%s", bif_error_message());
    bif_score_close(set);
    free(r);
    free(p);
}

Test(task_judge, malformed)
{
    char folder[] = "/tmp/bif-judge-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    const char *q = "{\"question_id\":1,\"category\":\"conv\"}",
               *v = "{\"v1_0\":{\"question\":\"q\",\"answer\":\"a\",\"capability\":[\"ocr\"]},"
                    "\"v1_1\":{\"question\":\"q\",\"answer\":\"a\",\"capability\":[\"ocr\"]}}";
    refused(folder, "llava-bench", "{\"question_id\":1}", NULL, "no category");
    refused(folder, "llava-bench", q, "{\"question_id\":1,\"tuple\":[1]}", "p.jsonl:1");
    refused(folder, "llava-bench", q, "{\"question_id\":1,\"tuple\":[1,2,3]}", "more than two");
    refused(folder, "llava-bench", q, "{\"question_id\":1,\"content\":\"8 6\"}\n{\"content\":\"8 6\"}", "p.jsonl:2");
    refused(folder, "mm-vet", "{\"v1_0\":{\"question\":\"q\",\"answer\":\"a\"}}", NULL, "no capability");
    refused(folder, "mm-vet", v, "{\"v1_0\":{\"score\":[0.5]},\"v1_1\":{\"model\":[]}}", "no score");
    refused(folder, "mm-vet", v, "{\"v1_0\":{\"score\":[0.5]},\"v1_1\":{\"score\":[0.5,1]}}", "has 2 grades");
    refused(folder, "mm-vet", v, "{\"v1_0\":{\"score\":[0.5]}}", "no prediction");

    char *r = write_file(folder, "r.jsonl", q), *a = write_file(folder, "a.jsonl", "{\"question_id\":1,\"text\":\"M\"}"),
         *u = write_file(folder, "rules", "{}");
    char *out = bif_path_join(folder, "out.jsonl");
    bif_judge_files files = {.references = (const char *const *)&r, .reference_count = 1, .answers = a, .rules = u, .out = out};
    int64_t count = 0;
    cr_assert_eq(bif_judge_requests(&bif_task_llava_bench, &files, &count), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "no role and prompt of category llava_bench_conv"), "%s", bif_error_message());
    cr_assert_neq(access(out, F_OK), 0);
    free(write_file(folder, "rules", "{\"llava_bench_conv\":{\"role\":\"J\",\"prompt\":\"P\"}}"));
    cr_assert_eq(bif_judge_requests(&bif_task_llava_bench, &files, &count), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "--context"), "%s", bif_error_message());
    cr_assert_neq(access(out, F_OK), 0);
    free(r);
    free(a);
    free(u);
    free(out);
    bif_remove_tree(folder);
}

/* What a batch service returns, against the same as content. */
Test(task_judge, replies)
{
    char folder[] = "/tmp/bif-judge-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    const struct {
        const char *task, *references, *reply, *metric;
        double value;
    } cases[] = {{"llava-bench", "{\"question_id\":3,\"category\":\"conv\",\"text\":\"q\"}\n", "8 6\\nGood.", "relative", 75.0},
                 {"mm-vet", "{\"v1_3\":{\"question\":\"q\",\"answer\":\"a\",\"capability\":[\"ocr\"]}}", "0.5", "total", 50.0}};
    for (int i = 0; i < 2; i++) {
        char *p = bif_path_join(folder, "p.jsonl"), *r = bif_path_join(folder, "r.json");
        char *text = bif_format("{\"id\":\"x\",\"custom_id\":\"%s-%s\",\"response\":{\"status_code\":200,\"body\":{\"model\":\"m\",\"choices\":[{\"index\":0,"
                                "\"message\":{\"role\":\"assistant\",\"content\":\"%s\"}},{\"message\":{\"content\":\"no\"}}]}},\"error\":null}\n",
                                cases[i].task, i == 0 ? "3" : "v1_3", cases[i].reply);
        cr_assert_eq(bif_file_write(p, text, strlen(text)), BIF_OK);
        cr_assert_eq(bif_file_write(r, cases[i].references, strlen(cases[i].references)), BIF_OK);
        bif_score_set *set = golden_open(cases[i].task, (const char *const *)&r, 1);
        golden_predict(set, p);
        bif_metric_list metrics = {0};
        cr_assert_eq(bif_score_run(set, set->task->usual), BIF_OK);
        bif_score_summary(set, NULL, &metrics);
        cr_assert_float_eq(golden_metric(&metrics, cases[i].metric), cases[i].value, 1e-9, "%s", cases[i].task);
        free(metrics.items);
        bif_score_close(set);
        remove(p);
        remove(r);
        free(text);
        free(p);
        free(r);
    }
    remove(folder);
}
