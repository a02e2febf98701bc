/* Against what the authors' chair.py gave for the same captions (tests/golden/check_score_chair.py). */
#include <string.h>
#include <unistd.h>

#include "eval/chair_words.h"
#include "tests/eval/score_golden.h"

/* Objects of a report: "dog!, cat" are dog and cat. */
static void objects_are(bif_span report, const json_t *wanted, const char *id)
{
    size_t k;
    json_t *name;
    bif_text_buffer out = {0};
    json_array_foreach(wanted, k, name) {
        const char *text = json_string_value(name);
        bif_text_add(&out, ", ", k > 0 ? 2 : 0);
        bif_text_add(&out, text, strlen(text));
    }
    bif_text_buffer got = {0};
    for (size_t i = 0; i < report.size; i++) {
        bif_text_add(&got, report.text + i, report.text[i] == '!' ? 0 : 1);
    }
    cr_assert(bif_span_equal(bif_text_span(&out), bif_text_span(&got)), "%s: '%.*s', wanted '%.*s'", id, (int)report.size, report.text,
              (int)out.size, out.text);
    bif_text_free(&out);
    bif_text_free(&got);
}

Test(task_chair, golden)
{
    char *references[] = {golden_file("score_chair", "instances_val2014.json"), golden_file("score_chair", "synonyms.txt"),
                          golden_file("score_chair", "captions_train2014.json"), golden_file("score_chair", "captions_val2014.json")};
    char *predictions = golden_file("score_chair", "generated.json"), *expected = golden_file("score_chair", "expected.json");
    bif_metric_list metrics = {0};
    json_t *wanted = NULL, *names;
    const char *id;
    bif_score_set *set = golden_open("chair", (const char *const *)references, 4);
    golden_predict(set, predictions);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    cr_assert_eq(bif_json_load_file(expected, (size_t)1 << 24, &wanted), BIF_OK, "%s", bif_error_message());
    golden_metrics(&metrics, json_object_get(wanted, "metrics"));
    cr_assert_gt(json_object_size(json_object_get(wanted, "captions")), 30);
    json_object_foreach(json_object_get(wanted, "captions"), id, names) {
        objects_are(bif_score_find(set, (bif_span){id, strlen(id)})->parsed, names, id);
    }
    json_decref(wanted);
    free(metrics.items);
    bif_score_close(set);
    for (int i = 0; i < 4; i++) {
        free(references[i]);
    }
    free(predictions);
    free(expected);
}

static void singular(const char *word, const char *wanted)
{
    bif_text_buffer out = {0};
    bif_singular((bif_span){word, strlen(word)}, &out);
    cr_assert(bif_span_is(bif_text_span(&out), wanted), "%s: '%.*s', wanted '%s'", word, (int)out.size, out.text, wanted);
    bif_text_free(&out);
}

/* As pattern.en 3.6 has them. */
Test(task_chair, singular)
{
    static const char *const pairs[][2] = {{"dogs", "dog"},
                                           {"bus", "bu"},
                                           {"buses", "bus"},
                                           {"glasses", "glass"},
                                           {"glass", "glas"},
                                           {"women", "woman"},
                                           {"people", "person"},
                                           {"knives", "knife"},
                                           {"ponies", "pony"},
                                           {"ties", "ty"},
                                           {"skis", "ski"},
                                           {"mice", "mouse"},
                                           {"scissors", "scissors"},
                                           {"mothers-in-law", "mother-in-law"},
                                           {"dogs'", "dog's"},
                                           {"analyses", "analysis"},
                                           {"psychoanalyses", "psychoanalyasis"},
                                           {"potatoes", "potato"},
                                           {"leaves", "leaf"},
                                           {"", ""},
                                           {"es", "es"},
                                           {"cookies", "cookies"},
                                           {"roses", "rose"},
                                           {"pita", "pitum"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        singular(pairs[i][0], pairs[i][1]);
    }
}

static void tokens(const char *text, const char *wanted)
{
    bif_text_buffer out = {0};
    bif_chair_tokenize((bif_span){text, strlen(text)}, &out);
    cr_assert(bif_span_is(bif_text_span(&out), wanted), "%s: '%.*s', wanted '%s'", text, (int)out.size, out.text, wanted);
    bif_text_free(&out);
}

/* As nltk.word_tokenize has them, quotation marks aside. */
Test(task_chair, tokens)
{
    tokens("a man. the dog's (cat). 3.5 x,y 5,000:", "a man . the dog 's ( cat ) . 3.5 x , y 5,000 :");
    tokens("cat.the dog... dogs' end.", "cat.the dog ... dogs ' end .");
    tokens("they'll don't", "they 'll do n't");
    tokens("", "");
}

static double chair(const char *folder, const char *references, const char *caption, const char *metric)
{
    char *r[] = {write_file(folder, "r.jsonl", references),
                 write_file(folder, "s.txt", "chair, seat\ntoilet\nbowl\ndog, pup\nbird\nwine glass\nx y\n")};
    char *p = write_file(folder, "p.json", caption);
    bif_metric_list metrics = {0};
    bif_score_set *set = golden_open("chair", (const char *const *)r, 2);
    golden_predict(set, p);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    const double value = golden_metric(&metrics, metric);
    free(metrics.items);
    bif_score_close(set);
    free(r[0]);
    free(r[1]);
    free(p);
    return value;
}

/* Counted by hand. */
Test(task_chair, rules)
{
    char folder[] = "/tmp/bif-chair-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    const char *r = "{\"image_id\":1,\"objects\":[\"toilet\"],\"captions\":[\"Two dogs.\"]}\n{\"image_id\":2,\"objects\":[\"bird\"]}\n";
    cr_assert_float_eq(chair(folder, r, "{\"1\":\"the seat of the toilet\"}", "CHAIR_i"), 0.0, 0.0); /* no chair */
    cr_assert_float_eq(chair(folder, r, "{\"1\":\"the seat of a bowl\"}", "CHAIR_i"), 100.0, 0.0);
    cr_assert_float_eq(chair(folder, r, "{\"1\":\"the toilet seat and a pup\"}", "recall"), 100.0, 0.0);
    cr_assert_float_eq(chair(folder, r, "{\"1\":\"a dog, a dog and a bird\"}", "CHAIR_i"), 100.0 / 3.0, 1e-12);
    cr_assert_float_eq(chair(folder, r, "{\"1\":\"a dog, a dog and a bird\"}", "mentions"), 3.0,
                       0.0); /* the other picture has no caption */
    cr_assert_float_eq(chair(folder, r, "{\"1\":\"dogs\",\"2\":\"a baby bird, wine glasses and wine glass\"}", "CHAIR_s"), 50.0, 0.0);
    cr_assert_float_eq(chair(folder, r, "{\"2\":\"a baby bird, wine glasses and wine glass\"}", "CHAIR_i"), 200.0 / 3.0, 1e-12);
    bif_remove_tree(folder);
}

static void refused(const char *folder, const char *references, const char *synonyms, const char *says)
{
    char *paths[] = {write_file(folder, "r.json", references), synonyms != NULL ? write_file(folder, "s.txt", synonyms) : NULL};
    bif_score_set *set = NULL;
    cr_assert_eq(bif_score_open(bif_score_task_by_name("chair"), (const char *const *)paths, synonyms != NULL ? 2 : 1, &set), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), says), "%s", bif_error_message());
    free(paths[0]);
    free(paths[1]);
}

Test(task_chair, malformed)
{
    char folder[] = "/tmp/bif-chair-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    const char *good = "{\"image_id\":1,\"objects\":[\"dog\"]}";
    refused(folder, good, NULL, "no synonyms");
    refused(folder, good, "cat, kitten\n", "'dog' is not among");
    refused(folder, good, "cat\n\ndog\n", "s.txt:2");
    refused(folder, "{\"image_id\":1,\"category_id\":3}", "dog\n", "without a name");
    refused(folder, "{\"image_id\":1,\n\"objects\":[7]}", "dog\n", "r.json:2");
    refused(folder, "{\"annotations\":[],\"categories\":[{\"id\":1}]}", "dog\n", "has no name");
    char *r = write_file(folder, "r.json", good), *s = write_file(folder, "s.txt", "dog"),
         *p = write_file(folder, "p.json", "{\"imgToEval\":{\"1\":\n{\"x\":1}}}");
    const char *const paths[] = {r, s};
    bif_score_set *set = golden_open("chair", paths, 2);
    bif_score_counts counts;
    cr_assert_eq(bif_score_predictions(set, p, &(bif_score_policy){0}, &counts), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "p.json:2"), "%s", bif_error_message());
    bif_score_close(set);
    free(r);
    free(s);
    free(p);
    bif_remove_tree(folder);
}
