/* Against what coco-caption's own code and its tokenizer made of the same captions (tests/golden/check_score_caption.py). */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "eval/caption_metrics.h"
#include "eval/ptb.h"
#include "tests/eval/score_golden.h"

Test(task_caption, golden)
{
    char *references = golden_file("score_caption", "captions.json"), *predictions = golden_file("score_caption", "results.json");
    char *expected = golden_file("score_caption", "expected.json");
    json_t *wanted = NULL, *row;
    bif_metric_list metrics = {0};
    size_t k;
    bif_score_set *set = golden_open("caption", (const char *const *)&references, 1);
    golden_predict(set, predictions);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    cr_assert_eq(bif_json_load_file(expected, (size_t)1 << 24, &wanted), BIF_OK, "%s", bif_error_message());
    bif_score_summary(set, NULL, &metrics);
    golden_metrics(&metrics, json_object_get(wanted, "metrics"));
    cr_assert_eq(json_array_size(json_object_get(wanted, "items")), (size_t)set->count);
    json_array_foreach(json_object_get(wanted, "items"), k, row) {
        char id[32];
        snprintf(id, sizeof id, "%lld", (long long)json_integer_value(json_object_get(row, "id")));
        const bif_score_item *item = bif_score_find(set, (bif_span){id, strlen(id)});
        const char *tokens = json_string_value(json_object_get(row, "tokens"));
        cr_assert(bif_span_is(item->parsed, tokens), "%s: '%.*s', wanted '%s'", id, (int)item->parsed.size, item->parsed.text, tokens);
        cr_assert_float_eq(item->score, json_number_value(json_object_get(row, "cider")), 1e-9, "%s", id);
    }
    json_decref(wanted);
    free(metrics.items);
    bif_score_close(set);
    free(references);
    free(predictions);
    free(expected);
}

static void tokens(const char *caption, const char *next, const char *wanted)
{
    bif_ptb *ptb = bif_ptb_new();
    bif_text_buffer out = {0};
    bif_ptb_caption(ptb, (bif_span){caption, strlen(caption)}, (bif_span){next, next != NULL ? strlen(next) : 0}, &out);
    const bif_span got = bif_text_span(&out);
    cr_assert(bif_span_is(got, wanted), "'%s': '%.*s', wanted '%s'", caption, (int)got.size, got.text, wanted);
    bif_text_free(&out);
    bif_ptb_free(ptb);
}

/* What Stanford's tokenizer and coco-caption's filter give. */
Test(task_caption, tokenizer)
{
    tokens("A man's dog isn't (happy), and \"says\" 'hello' -- U.S.", "x", "a man 's dog is n't -lrb- happy -rrb- and says hello u.s.");
    tokens("You cannot, gonna wanna. 'Tis 3-year-old", "x", "you can not gon na wan na 't is 3-year-old");
    tokens("St. Louis, etc. No. 5 and no. art.", "x", "st. louis etc. no. 5 and no art");
    tokens("dog.The cat? yes!no :) w/o 1/2 5'10\"", "x", "dog.the cat yes!no :-rrb- w/o 1/2 5 10");
    tokens("caf\xc3\xa9 \xe2\x80\x9csmart\xe2\x80\x9d it\xe2\x80\x99s \xe2\x80\x94 \xc2\xbd \xf0\x9f\x98\x80", "x",
           "caf\xc3\xa9 smart it 's 1/2");
    tokens("'till 'em ol' somethin' O'Neil d'you y'all '90s 90's c'mon rock'n'roll", "x",
           "'till 'em ol' somethin' o'neil d'you y' all '90s 90 's c'mon rock 'n' roll");
    tokens("AT&T r&b &amp; 10/12/2014 a/b/c/d 1:2:3 5,000.25 -5 3 1/2 31/2", "x",
           "at&t r & b & 10/12/2014 a/b/c / d 1:2:3 5,000.25 -5 3\xc2\xa0""1/2 31/2");
    tokens("x:-) :d8 <b> <man, dog> ^_^ http://a.b/c?d=e. foo@bar.com #tag @home www.x.com", "x",
           "x :--rrb- d8 <b> < man dog > ^_^ http://a.b/c?d=e foo@bar.com #tag @home www.x.com");
    tokens("555-1234 (555) 555-1234 555.555.1234 $5 US$5 c++ 5.txt, img.png", "x",
           "555-1234 -lrb-555-rrb-\xc2\xa0""555-1234 555.555.1234 $ 5 us$ 5 c++ 5.txt img.png");
    tokens("-- --- ----- foo- snake_case a--b non-U.S. U.S.-born a.k.a. Ph.D. W.A. b.", "x",
           "----- foo snake_case a b non-u.s. u.s.-born a.k.a. ph.d. w.a. b.");
    tokens("w/ [x] {y} ''z'' `a' \"$5\" 100% !!! ?! .. .... . . . C.D.s pro- anti-", "x",
           "w / -lsb- x -rsb- -lcb- y -rcb- z a $ 5 100 % !!! ?! c.d.s pro- anti-");
    tokens("couldn't've n't ain't DON'T ITS' it's. mother-in-law's", "x", "could n't 've n't ai n't do n't its it 's mother-in-law 's");
    tokens("", "x", "");
    tokens("line\nbreak\r\nhere", "x", "line break here");
}

/* An abbreviation at a caption's end depends on the next line. */
Test(task_caption, tokenizer_sees_the_next_line)
{
    tokens("a wall of art.", "5 men", "a wall of art.");
    tokens("a wall of art.", "five men", "a wall of art");
    tokens("this is plan b.", "The man", "this is plan b");
    tokens("this is plan b.", "a man", "this is plan b.");
    tokens("this is plan b.", NULL, "this is plan b.");
}

static double metric_of(const char *folder, const char *references, const char *predictions, bool tokenized, const char *name)
{
    char *r = write_file(folder, "r.json", references), *p = write_file(folder, "p.json", predictions);
    bif_metric_list metrics = {0};
    bif_score_set *set = golden_open("caption", (const char *const *)&r, 1);
    set->tokenized = tokenized;
    golden_predict(set, p);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    bif_score_summary(set, NULL, &metrics);
    const double value = golden_metric(&metrics, name);
    free(metrics.items);
    bif_score_close(set);
    free(r);
    free(p);
    return value;
}

Test(task_caption, forms)
{
    char folder[] = "/tmp/bif-caption-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    const char *document =
        "{\"images\":[{\"id\":1},{\"id\":2},{\"id\":3}],\"annotations\":[{\"image_id\":1,\"caption\":\"A dog runs.\"},"
        "{\"image_id\":2,\"caption\":\"a cat\"},{\"image_id\":1,\"caption\":\"the dog\"},{\"image_id\":9,\"caption\":\"x\"}]}";
    const char *lines = "{\"image_id\":1,\"captions\":[\"A dog runs.\",\"the dog\"]}\n{\"image_id\":\"2\",\"caption\":\"a cat\"}\n";
    const char *textcaps =
        "{\"data\":[{\"image_id\":\"1\",\"caption_str\":\"A dog runs.\"},{\"image_id\":\"1\",\"caption_str\":\"the dog\"},"
        "{\"image_id\":\"2\",\"caption_str\":\"a cat\"}]}";
    const char *results = "[{\"id\":2,\"image_id\":1,\"caption\":\"a dog runs\"},{\"image_id\":2,\"caption\":\"a cat sits\",\"id\":1}]";
    const double wanted = metric_of(folder, document, results, false, "CIDEr");
    cr_assert_gt(wanted, 1.0);
    cr_assert_float_eq(metric_of(folder, lines, results, false, "CIDEr"), wanted, 1e-12);
    cr_assert_float_eq(metric_of(folder, textcaps, results, false, "CIDEr"), wanted, 1e-12);
    cr_assert_float_eq(metric_of(folder, document, results, false, "tokens"), 6.0, 0.0);
    cr_assert_float_eq(metric_of(folder, document, results, false, "BLEU-1"), 100.0 * 5.0 / 6.0, 1e-6);
    cr_assert_lt(metric_of(folder, document, results, true, "BLEU-1"), 100.0 * 4.5 / 6.0); /* "A" and "runs." are other tokens */
    cr_assert_float_eq(metric_of(folder, "{\"image_id\":1,\"caption\":\"a dog\"}", "{\"1\":\"a dog\"}", false, "CIDEr"), 0.0, 0.0);
    bif_remove_tree(folder);
}

/* Twice the weight of every picture leaves the means; one picture's weight is that picture. */
Test(task_caption, weights)
{
    char *references = golden_file("score_caption", "captions.json"), *predictions = golden_file("score_caption", "results.json");
    bif_score_set *set = golden_open("caption", (const char *const *)&references, 1);
    bif_metric_list one = {0}, two = {0};
    golden_predict(set, predictions);
    cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
    int32_t *weight = bif_calloc((size_t)set->count, sizeof *weight);
    for (int64_t i = 0; i < set->count; i++) {
        weight[i] = 2;
    }
    bif_score_summary(set, NULL, &one);
    bif_score_summary(set, weight, &two);
    cr_assert_float_eq(golden_metric(&one, "CIDEr"), golden_metric(&two, "CIDEr"), 1e-9);
    cr_assert_float_eq(golden_metric(&one, "BLEU-4"), golden_metric(&two, "BLEU-4"), 1e-6);
    cr_assert_float_eq(2.0 * golden_metric(&one, "tokens"), golden_metric(&two, "tokens"), 0.0);
    memset(weight, 0, (size_t)set->count * sizeof *weight);
    weight[3] = 1;
    bif_score_summary(set, weight, &two);
    cr_assert_float_eq(golden_metric(&two, "CIDEr"), 100.0 * set->items[3].score, 1e-9);
    free(weight);
    free(one.items);
    free(two.items);
    bif_score_close(set);
    free(references);
    free(predictions);
}

static void refused(const char *folder, const char *text, const char *says)
{
    char *path = write_file(folder, "bad.json", text);
    bif_score_set *set = NULL;
    cr_assert_eq(bif_score_open(bif_score_task_by_name("caption"), (const char *const *)&path, 1, &set), BIF_ERR_DATA, "%s", text);
    cr_assert_not_null(strstr(bif_error_message(), says), "%s: %s", text, bif_error_message());
    cr_assert_not_null(strstr(bif_error_message(), "bad.json"), "%s", bif_error_message());
    free(path);
}

Test(task_caption, malformed)
{
    char folder[] = "/tmp/bif-caption-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    refused(folder, "{\"images\":[]}", "no \"annotations\"");
    refused(folder, "{\"annotations\":[]}", "no questions in it");
    refused(folder, "{\"annotations\":[\n{\"caption\":\"x\"}]}", "bad.json:2");
    refused(folder, "{\"annotations\":[{\"image_id\":1,\n\"text\":\"x\"}]}", "no caption");
    refused(folder, "{\"images\":[{\"name\":\"x\"}],\"annotations\":[]}", "has no id");
    refused(folder, "{\"image_id\":1,\"caption\":\"x\"}\n{\"image_id\":2}", "bad.json:2");
    refused(folder, "{\"image_id\":1,\"caption\":\"x\"", "bad.json:1");
    refused(folder, "a,b,c", "bad.json:1");
    bif_remove_tree(folder);
}
