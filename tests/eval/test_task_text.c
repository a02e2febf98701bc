/* ChartQA, DocVQA, OCRBench against what the scorers' own code gave (tests/golden/check_score_text.py); boxes and Korean answers by hand.
 */
#include "tests/eval/score_golden.h"

#include <math.h>

static char folder[] = "/tmp/bif-text-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(text, .init = setup, .fini = teardown);

/* The golden rows in the form of a task's references, `form` with %s for each of id, answer; and a field of their scores. */
static void compare(const char *task, bif_norm norm, const char *field)
{
    char *path = golden_file("score_text", "text.jsonl");
    bif_jsonl rows = {0};
    cr_assert_eq(bif_jsonl_read(path, 0, &rows), BIF_OK);
    cr_assert_gt(rows.count, 200);
    json_t *list = json_array();
    const bool chart = strcmp(task, "chartqa") == 0, doc = strcmp(task, "docvqa") == 0;
    for (int64_t i = 0; i < rows.count; i++) {
        json_t *row = rows.items[i].object, *answer = json_object_get(row, "answer");
        const bool formula = json_is_true(json_object_get(row, "formula"));
        json_array_append_new(
            list,
            chart ? json_pack("{s:s,s:s,s:O}", "imgname", "a.png", "query", "?", "label", answer)
            : doc ? json_pack("{s:I,s:[O]}", "questionId", (json_int_t)i, "answers", answer)
                  : json_pack("{s:s,s:I,s:O,s:s}", "dataset_name", formula ? "HME100k" : "svt", "id", (json_int_t)(5000 + i), "answers",
                              answer, "type", formula ? "Handwritten Mathematical Expression Recognition" : "Key Information Extraction"));
    }
    json_t *whole = doc ? json_pack("{s:o}", "data", list) : list;
    char *text = json_dumps(whole, 0), *references = write_file(folder, "test_human.json", text),
         *ids = bif_malloc((size_t)rows.count * 4096), *at = ids;
    for (int64_t i = 0; i < rows.count; i++) {
        char *said = json_dumps(json_object_get(rows.items[i].object, "text"), JSON_ENCODE_ANY);
        at += sprintf(at, "{\"question_id\":\"%s%lld\",\"text\":%s}\n", chart ? "human/" : "", (long long)i, said);
        free(said);
    }
    char *predictions = write_file(folder, "p.jsonl", ids);
    bif_score_set *set = golden_open(task, (const char *const *)&references, 1);
    golden_predict(set, predictions);
    cr_assert_eq(bif_score_run(set, norm), BIF_OK);
    double sum = 0.0;
    for (int64_t i = 0; i < rows.count; i++) {
        const double wanted = json_number_value(json_object_get(rows.items[i].object, field));
        cr_assert_float_eq(set->items[i].score, wanted, 1e-12, "%s of %s: %g, wanted %g", field, rows.items[i].where, set->items[i].score,
                           wanted);
        sum += wanted;
    }
    cr_assert(sum > 50.0 && sum < 240.0, "%g", sum);
    bif_score_close(set);
    bif_jsonl_free(&rows);
    json_decref(whole);
    free(text);
    free(ids);
    free(references);
    free(predictions);
    free(path);
}

Test(text, chartqa)
{
    compare("chartqa", BIF_NORM_OFFICIAL, "relaxed");
    compare("chartqa", BIF_NORM_LMMS, "relaxed_lmms");
}

Test(text, docvqa)
{
    compare("docvqa", BIF_NORM_OFFICIAL, "anls");
    compare("docvqa", BIF_NORM_VLMEVALKIT, "anls_vlmevalkit");
}

Test(text, ocrbench)
{
    compare("ocrbench", BIF_NORM_OFFICIAL, "ocr");
    compare("ocrbench", BIF_NORM_LMMS, "ocr_lmms");
}

static double one(const char *task, const char *answer, const char *said)
{
    char *text = bif_format("{\"question_id\":1,\"imgname\":\"a\",\"query\":\"b\",\"label\":\"%s\",\"answers\":[\"%s\"],\"answer\":\"%s\"}",
                            answer, answer, answer);
    const bool chart = strcmp(task, "chartqa") == 0, doc = strcmp(task, "docvqa") == 0;
    char *whole = bif_format(chart ? "[%s]"
                             : doc ? "{\"data\":[%s]}"
                                   : "%s",
                             text),
         *prediction = bif_format("{\"%s\":\"%s\"}", chart ? "human/0" : "1", said);
    char *references = write_file(folder, "human.json", whole), *predictions = write_file(folder, "p.json", prediction);
    bif_score_set *set = golden_open(task, (const char *const *)&references, 1);
    golden_predict(set, predictions);
    cr_assert_eq(bif_score_run(set, set->task->usual), BIF_OK);
    const double score = set->items[0].score;
    bif_score_close(set);
    free(text);
    free(whole);
    free(prediction);
    free(references);
    free(predictions);
    return score;
}

/* The borders that implementations are known for. */
Test(text, borders)
{
    cr_assert_float_eq(one("docvqa", "abcd", "abxy"), 0.5, 1e-12); /* exactly one half stays */
    cr_assert_float_eq(one("docvqa", "abcde", "abxyz"), 0.0, 1e-12);
    cr_assert_float_eq(one("chartqa", "0", "0.0"), 0.0, 1e-12);
    cr_assert_float_eq(one("chartqa", "0", "0"), 1.0, 1e-12);
    cr_assert_float_eq(one("chartqa", "5", "5%"), 0.0, 1e-12);
    cr_assert_float_eq(one("chartqa", "100", "105"), 1.0, 1e-12);
    cr_assert_float_eq(one("chartqa", "100", "105.1"), 0.0, 1e-12);
    cr_assert_float_eq(one("chartqa", "1000", "1,000"), 0.0, 1e-12);
}

Test(text, ocrbench_reads_the_scorers_file_and_adds_up)
{
    static const char rows[] =
        "[{\"dataset_name\":\"svt\",\"id\":1,\"answers\":\"A\",\"type\":\"Regular Text Recognition\",\"predict\":\"a cat\"},"
        "{\"dataset_name\":\"IAM\",\"id\":1,\"answers\":[\"x\",\"y\"],\"type\":\"Handwriting Recognition\",\"predict\":\"Z\"},\n"
        "{\"dataset_name\":\"docVQA\",\"id\":0,\"answers\":[\"x\",\"y\"],\"type\":\"Doc-oriented VQA\",\"predict\":\"Y.\"}]";
    char *file = write_file(folder, "OCRBench.json", rows);
    bif_score_set *set = golden_open("ocrbench", (const char *const *)&file, 1);
    bif_metric_list metrics = {0};
    golden_predict(set, file);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    for (int again = 0; again < 2; again++) { /* lmms-eval's totals would double */
        bif_score_summary(set, NULL, &metrics);
        cr_assert_float_eq(golden_metric(&metrics, "score"), 2.0, 1e-12);
        cr_assert_float_eq(golden_metric(&metrics, "score/Text Recognition"), 1.0, 1e-12);
        cr_assert_float_eq(golden_metric(&metrics, "score/Handwriting Recognition"), 0.0, 1e-12);
    }
    bif_score_close(set);
    free(file);
    free(metrics.items);
}

Test(text, boxes)
{
    char *file =
        write_file(folder, "r.jsonl",
                   "{\"image\":\"a\",\"sent\":\"x\",\"bbox\":[10,20,30,40],\"width\":100,\"height\":50}\n"
                   "{\"file_name\":\"b\",\"answer\":[\"x\",\"y\"],\"bbox\":[10,20,20,20],\"width\":100,\"height\":50,\"question_id\":7}\n");
    const struct {
        const char *space, *said;
        double overlap;
    } cases[] = {{"unit", "so [0.1, 0.4, 0.3, 0.8]", 1.0},
                 {"1000", "[100, 400, 300, 800]", 1.0},
                 {"pixel", "[10, 20, 30, 40]", 1.0},
                 {"pixel", "<box>(10,20),(30,40)</box>", 1.0},
                 {"pixel", "[20, 20, 40, 40]", 1.0 / 3},
                 {"pixel,padded", "[10, 45, 30, 65]", 1.0},
                 {"unit,padded", "[0.1, 0.45, 0.3, 0.65]", 1.0},
                 {"pixel", "[30, 40, 10, 20]", 0.0},
                 {"pixel", "[10, 20, 30]", 0.0},
                 {"pixel", "[10, 20, 10, 20]", 0.0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = bif_format("{\"0\":\"%s\",\"7/0\":\"%s\",\"7/1\":\"none\"}", cases[i].said, cases[i].said),
             *predictions = write_file(folder, "p.json", text);
        bif_score_set *set = golden_open("refcoco", (const char *const *)&file, 1);
        golden_predict(set, predictions);
        cr_assert_eq(bif_box_space_by_name(cases[i].space, &set->boxes), BIF_OK);
        cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
        for (int k = 0; k < 2; k++) {
            cr_assert_float_eq(set->items[k].value[0], cases[i].overlap, 1e-9, "%s in %s: %g", cases[i].said, cases[i].space,
                               set->items[k].value[0]);
        }
        cr_assert(set->items[2].unparsed && set->items[2].score < 0.5);
        cr_assert_str_eq(set->notes[0], "boxes of the references: 1 read as corners x1, y1, x2, y2, 1 as a corner and a size x, y, w, h");
        bif_score_close(set);
        free(text);
        free(predictions);
    }
    bif_box_space space;
    cr_assert_eq(bif_box_space_by_name("pixels", &space), BIF_ERR_USAGE);
    cr_assert_eq(bif_box_space_by_name("unit,square", &space), BIF_ERR_USAGE);
    bif_score_set *set = NULL;
    free(write_file(folder, "r.jsonl", "{\"bbox\":[10,20,30,40],\"width\":100,\"height\":50}\n"));
    cr_assert_eq(bif_score_open(bif_score_task_by_name("refcoco"), (const char *const *)&file, 1, &set), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "corners or a corner and a size"), "%s", bif_error_message());
    static const char *const impossible[] = {"\"sent\":\"x\",\"bbox\":[30,20,10,40]", "\"sent\":\"x\",\"bbox\":[10,20,30,20]",
                                             "\"sent\":\"x\",\"bbox\":[10,20,103,40]", "\"sent\":\"x\",\"bbox\":[-3,20,30,40]",
                                             "\"answer\":[\"x\"],\"bbox\":[10,20,30,40]", "\"answer\":[\"x\"],\"bbox\":[10,20,0,20]"};
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        char *text = bif_format("{\"sent\":\"x\",\"bbox\":[0,0,102,50],\"width\":100,\"height\":50}\n{%s,\"width\":100,\"height\":50}\n", impossible[i]);
        free(write_file(folder, "r.jsonl", text));
        cr_assert_eq(bif_score_open(bif_score_task_by_name("refcoco"), (const char *const *)&file, 1, &set), BIF_ERR_DATA, "%s", impossible[i]);
        cr_assert_not_null(strstr(bif_error_message(), i < 4 ? "read as corners" : "read as a corner and a size"), "%s", bif_error_message());
        cr_assert_not_null(strstr(bif_error_message(), "r.jsonl:2"), "%s", bif_error_message());
        free(text);
    }
    free(file);
}

Test(text, korean)
{
    static const struct {
        const char *answer, *said;
        bool same;
    } cases[] = {{"네", "예", true},
                 {"yes", "네.", true},
                 {"아니오", "아니요", true},
                 {"아니오", "네", false},
                 {"예", "Yes", true},
                 {"고양이", "고양이입니다.", true},
                 {"고양이", "고양이예요", true},
                 {"고양이", "고양이를", true},
                 {"고양이", "고양이을", false},
                 {"고양", "고양이", false},
                 {"화", "화가", false},
                 {"책상", "책상은", true},
                 {"책상", "책상는", false},
                 {"책상", "책상이에요", true},
                 {"마", "마을", false},
                 {"A", "Ａ", true},
                 {"12", "１２", true},
                 {"B", "정답은 B입니다.", true},
                 {"B", "정답: (B)", false},
                 {"빨간색", "“빨간색”", true},
                 {"빨간 색", "빨간\\u3000색", true},
                 {"빨간색", "파란색", false},
                 {"가", "\\u1100\\u1161", true},
                 {"서울특별시", "답은 서울특별시예요!", true},
                 {"가을", "가을", true},
                 {"가", "가을", false},
                 {"나", "나는", false},
                 {"답", "답을", false},
                 {"이다", "이다", true},
                 {"3개", "3", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert_eq(one("korean", cases[i].answer, cases[i].said) > 0.5, cases[i].same, "'%s' against '%s'", cases[i].said,
                     cases[i].answer);
    }
}
