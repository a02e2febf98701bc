/* Multiple choice: letters against what the scorers' own code read out of the same texts (tests/golden/check_score_choice.py), and the
 * tasks by hand. */
#include "tests/eval/score_golden.h"

#include "eval/choice.h"
#include "eval/tsv.h"

static char folder[] = "/tmp/bif-choice-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(choice, .init = setup, .fini = teardown);

static bif_span span_of(const json_t *text)
{
    return (bif_span){json_string_value(text), json_string_length(text)};
}

Test(choice, letters)
{
    char *path = golden_file("score_choice", "choice.jsonl");
    bif_jsonl rows = {0};
    bif_text_buffer buffer = {0};
    int64_t read[4] = {0};
    cr_assert_eq(bif_jsonl_read(path, 0, &rows), BIF_OK);
    cr_assert_gt(rows.count, 200);
    for (int64_t i = 0; i < rows.count; i++) {
        json_t *row = rows.items[i].object, *option;
        const char *letter;
        bif_options options = {0};
        const bif_span text = span_of(json_object_get(row, "text"));
        json_object_foreach(json_object_get(row, "options"), letter, option)
        {
            options.text[*letter - 'A'] = span_of(option);
        }
        const struct {
            const char *name;
            char got;
        } cases[] = {{"llava", bif_choice_llava(text, 5)},
                     {"front", bif_choice_lmms_front(text)},
                     {"lmms", bif_choice_lmms(&buffer, text, &options)},
                     {"vlmevalkit", bif_choice_vlmevalkit(&buffer, text, &options)}};
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            const char *wanted = json_string_value(json_object_get(row, cases[k].name));
            const bool five = k > 1 || (cases[k].got >= 'A' && cases[k].got <= 'E'); /* the golden file has none beyond E for these */
            cr_assert_eq(five ? cases[k].got : 0, *wanted, "%s of '%s': '%c', wanted '%s'", cases[k].name, text.text, cases[k].got, wanted);
            read[k] += *wanted != '\0';
        }
    }
    for (size_t k = 0; k < 4; k++) {
        cr_assert_gt(read[k], 30);
    }
    bif_text_free(&buffer);
    bif_jsonl_free(&rows);
    free(path);
}

Test(choice, tables)
{
    static const char text[] = "\xef\xbb\xbfindex\tA\t\"a \"\"b\"\"\"\timage\r\n\r\n1\t\"two\nlines\t\"\"x\"\"\"\tplain "
                               "\"quote\"\t////\n2\t\"a\"b\"c\t\tn\n\n3\tlast";
    char *path = write_file(folder, "t.tsv", text);
    bif_score_set *set = bif_calloc(1, sizeof *set);
    bif_tsv table;
    bool more = false;
    cr_assert_eq(bif_tsv_open(set, path, &table), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(table.columns, 4);
    cr_assert_eq(bif_tsv_column(&table, "a \"b\""), 2);
    cr_assert_eq(bif_tsv_column(&table, "B"), -1);
    cr_assert(bif_tsv_row(&table, &more) == BIF_OK && more);
    cr_assert(bif_span_is(table.fields[1], "two\nlines\t\"x\""));
    cr_assert(bif_span_is(table.fields[2], "plain \"quote\""));
    cr_assert_eq(table.row_line, 3);
    cr_assert(bif_tsv_row(&table, &more) == BIF_OK && more);
    cr_assert(bif_span_is(table.fields[1], "ab\"c"), "%.*s", (int)table.fields[1].size, table.fields[1].text);
    cr_assert_eq(table.row_line, 5);
    cr_assert(bif_tsv_row(&table, &more) == BIF_OK && more);
    cr_assert(bif_span_is(table.fields[1], "last") && table.fields[3].size == 0);
    cr_assert(bif_tsv_row(&table, &more) == BIF_OK && !more);
    bif_score_close(set);
    free(write_file(folder, "t.tsv", "a\tb\n1\t2\n1\t2\t3\n"));
    set = bif_calloc(1, sizeof *set);
    cr_assert_eq(bif_tsv_open(set, path, &table), BIF_OK);
    cr_assert_eq(bif_tsv_row(&table, &more), BIF_OK);
    cr_assert_eq(bif_tsv_row(&table, &more), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "t.tsv:3: more than 2 fields"), "%s", bif_error_message());
    bif_score_close(set);
    free(path);
}

Test(choice, mmbench_turns)
{
    char *table = write_file(folder, "m.tsv",
                             "index\tquestion\tA\tB\tC\tanswer\tcategory\tl2-category\timage\n"
                             "1\t?\tcat\tdog\t\tA\tcolor\tfine\tx\n1000001\t?\tdog\tcat\t\tB\tcolor\tfine\tx\n"
                             "2\t?\tred\tblue\tgreen\tC\tshape\tfine\tx\n1000002\t?\tblue\tgreen\tred\tB\tshape\tfine\tx\n2000002\t?"
                             "\tgreen\tred\tblue\tA\tshape\tfine\tx\n");
    char *said = write_file(
        folder, "p.jsonl",
        "{\"question_id\":1,\"text\":\"A\"}\n{\"question_id\":1000001,\"text\":\"The cat.\"}\n{\"question_id\":2,\"text\":\"(C)\"}\n"
        "{\"question_id\":1000002,\"text\":\"perhaps\"}\n{\"question_id\":2000002,\"text\":\"A\"}\n");
    bif_score_set *set = golden_open("mmbench", (const char *const *)&table, 1);
    bif_metric_list metrics = {0};
    bif_score_counts counts;
    golden_predict(set, said);
    cr_assert_eq(bif_score_run(set, BIF_NORM_VLMEVALKIT), BIF_OK);
    cr_assert_eq(bif_score_unparsed(set), 1);
    cr_assert_eq(set->clusters, 2);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "circular"), 50.0, 1e-12);
    cr_assert_float_eq(golden_metric(&metrics, "circular/shape"), 0.0, 1e-12);
    cr_assert_float_eq(golden_metric(&metrics, "vanilla"), 100.0, 1e-12);
    const int32_t weight[] = {3, 3, 1, 1, 1};
    bif_score_summary(set, weight, &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "circular"), 75.0, 1e-12);
    cr_assert_eq(metrics.items[0].count, 4);
    free(said);
    said = write_file(
        folder, "p.jsonl",
        "{\"question_id\":1,\"text\":\"A\"}\n{\"question_id\":2,\"text\":\"(C)\"}\n"); /* a turn is no less wanted than the first */
    cr_assert_eq(bif_score_predictions(set, said, &(bif_score_policy){0}, &counts), BIF_ERR_DATA);
    cr_assert_eq(counts.missing, 3);
    bif_score_close(set);
    free(write_file(folder, "m.tsv", "index\tA\tB\tanswer\n1\ta\tb\tA\n2\ta\tb\t\n"));
    cr_assert_eq(bif_score_open(bif_score_task_by_name("mmbench"), (const char *const *)&table, 1, &set), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "m.tsv:3: the answer is ''"), "%s", bif_error_message());
    free(metrics.items);
    free(table);
    free(said);
}

Test(choice, scienceqa)
{
    char *files[] = {write_file(folder, "pid_splits.json", "{\"train\":[\"1\"],\"test\":[\"2\",\"3\",\"4\"]}"),
                     write_file(folder, "problems.json",
                                "{\"1\":{\"choices\":[\"a\",\"b\"],\"answer\":0,\"split\":\"train\"},"
                                "\"2\":{\"choices\":[\"a\",\"b\"],\"answer\":1,\"hint\":\"h\",\"image\":\"image.png\",\"subject\":"
                                "\"natural science\",\"grade\":\"grade6\"},"
                                "\"3\":{\"choices\":[\"a\",\"b\"],\"answer\":0,\"hint\":\"\",\"image\":null,\"subject\":\"social "
                                "science\",\"grade\":\"grade12\"},"
                                "\"4\":{\"choices\":[\"a\",\"b\"],\"answer\":0,\"hint\":\"\",\"image\":\"image.png\",\"subject\":\"natural "
                                "science\",\"grade\":\"grade7\"}}")};
    char *said = write_file(folder, "p.jsonl",
                            "{\"question_id\":\"2\",\"text\":\"B. b\"}\n{\"question_id\":\"3\",\"text\":\"The answer is "
                            "A.\"}\n{\"question_id\":\"4\",\"text\":\"C\"}\n");
    bif_score_set *set = golden_open("scienceqa", (const char *const *)files, 2);
    bif_metric_list metrics = {0};
    golden_predict(set, said);
    cr_assert_eq(bif_score_run(set, BIF_NORM_LLAVA), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_str_eq(metrics.items[0].name, "IMG-accuracy");
    cr_assert_float_eq(metrics.items[0].value, 50.0, 1e-12);
    cr_assert_float_eq(golden_metric(&metrics, "accuracy"), 200.0 / 3.0, 1e-12);
    cr_assert_float_eq(golden_metric(&metrics, "accuracy/NO"), 100.0, 1e-12);
    cr_assert_float_eq(golden_metric(&metrics, "accuracy/G7-12"), 50.0, 1e-12);
    cr_assert_float_eq(golden_metric(&metrics, "accuracy/NAT"), 50.0, 1e-12);
    bif_score_close(set);
    free(write_file(folder, "problems.json", "{\"1\":{\"choices\":[\"a\"],\"answer\":0},\n\"2\":{\"choices\":[\"a\"],\"answer\":1}}"));
    cr_assert_eq(bif_score_open(bif_score_task_by_name("scienceqa"), (const char *const *)files, 2, &set), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "problems.json:2:"), "%s", bif_error_message());
    for (size_t i = 0; i < 2; i++) {
        free(files[i]);
    }
    free(metrics.items);
    free(said);
}

Test(choice, seed)
{
    char *file = write_file(folder, "SEED-Bench.json",
                            "{\"question_type\":{\"Scene\":1,\"Action\":10},\"questions\":[{\"question_id\":\"7\",\"answer\":\"B\",\"data_"
                            "type\":\"image\",\"question_type_id\":1,"
                            "\"choice_a\":\"cat\",\"choice_b\":\"dog\"},{\"question_id\":\"v8\",\"answer\":\"A\",\"data_type\":\"video\","
                            "\"question_type_id\":10,\"data_id\":[1]}]}");
    char *said = write_file(folder, "p.jsonl", "{\"question_id\":7,\"text\":\"B.\"}\n{\"question_id\":\"v8\",\"text\":\"A\"}\n");
    bif_score_set *set = golden_open("seed", (const char *const *)&file, 1);
    bif_metric_list metrics = {0};
    golden_predict(set, said);
    cr_assert_eq(bif_score_run(set, BIF_NORM_LLAVA), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_float_eq(golden_metric(&metrics, "accuracy/image"), 0.0, 1e-12); /* "B." is not the letter */
    cr_assert_float_eq(golden_metric(&metrics, "accuracy/Action"), 100.0, 1e-12);
    for (int k = 0; k < 2; k++) {
        cr_assert_eq(bif_score_run(set, k == 0 ? BIF_NORM_LMMS : BIF_NORM_VLMEVALKIT), BIF_OK);
        bif_score_summary(set, NULL, &metrics);
        cr_assert_float_eq(golden_metric(&metrics, "accuracy/Scene"), 100.0, 1e-12);
    }
    bif_score_close(set);
    free(metrics.items);
    free(file);
    free(said);
}

/* LLaVA's rows have the picture's id; the question is in the prompt. */
Test(choice, textvqa_by_picture_and_question)
{
    char *file =
        write_file(folder, "t.json",
                   "{\"data\":[{\"question_id\":1,\"image_id\":\"f0\",\"question\":\"What Brand?\",\"answers\":[\"a\",\"a\",\"a\",\"a\"]},"
                   "{\"question_id\":2,\"image_id\":\"f0\",\"question\":\"what time?\",\"answers\":[\"b\",\"b\",\"b\",\"b\"]},"
                   "{\"question_id\":3,\"image_id\":\"f1\",\"question\":\"what brand?\",\"answers\":[\"c\",\"c\",\"c\",\"c\"]},"
                   "{\"question_id\":4,\"image_id\":\"f1\",\"question\":\"why?\",\"answers\":[\"d\",\"d\",\"d\",\"d\"]}]}");
    char *said = write_file(folder, "p.jsonl",
                            "{\"question_id\":\"f0\",\"prompt\":\"What time?\\nAnswer.\",\"text\":\"b\"}\n"
                            "{\"question_id\":\"f0\",\"prompt\":\"What brand?\\nReference OCR token: x\\nAnswer.\",\"text\":\"a\"}\n"
                            "{\"question_id\":\"f1\",\"prompt\":\"Reference OCR token: x\\nWhat brand?\\nAnswer.\",\"text\":\"c\"}\n"
                            "{\"question_id\":\"f1\",\"prompt\":\"OCR tokens: x. Question: why? Short answer:\",\"text\":\"d\"}\n");
    bif_score_set *set = golden_open("textvqa", (const char *const *)&file, 1);
    bif_score_counts counts;
    golden_predict(set, said);
    cr_assert_eq(bif_score_run(set, BIF_NORM_M4C), BIF_OK);
    for (int64_t i = 0; i < set->count; i++) {
        cr_assert_float_eq(set->items[i].score, 1.0, 1e-12, "question %lld", (long long)i + 1);
    }
    free(said);
    said = write_file(folder, "p.jsonl", "{\"question_id\":\"f0\",\"prompt\":\"One line\",\"text\":\"b\"}\n");
    cr_assert_eq(bif_score_predictions(set, said, &(bif_score_policy){0}, &counts), BIF_ERR_DATA);
    cr_assert_eq(counts.unknown, 1);
    bif_score_close(set);
    free(file);
    free(said);
}
