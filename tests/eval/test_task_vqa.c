/* Against what the scorers' own code gave for the same items (tests/golden/check_score_vqa.py). */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "eval/jsonl.h"
#include "eval/vqa_norm.h"

static char *golden(const char *name)
{
    return bif_format("%s/golden/score_vqa/%s", getenv("BIFOCAL_TESTS"), name);
}

static void compare(const char *task, bif_norm norm)
{
    char *annotations = golden("annotations.json"), *predictions = golden("predictions.jsonl");
    bif_score_set *set = NULL;
    bif_score_counts counts;
    bif_jsonl rows = {0};
    int64_t partly = 0;
    cr_assert_eq(bif_score_open(bif_score_task_by_name(task), (const char *const *)&annotations, 1, &set), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_score_predictions(set, predictions, &(bif_score_policy){0}, &counts), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_score_run(set, norm), BIF_OK);
    cr_assert_eq(bif_jsonl_read(predictions, 0, &rows), BIF_OK);
    cr_assert_eq(rows.count, set->count);
    for (int64_t i = 0; i < rows.count; i++) {
        const double wanted = json_number_value(json_object_get(json_object_get(rows.items[i].object, "scores"), bif_norm_name(norm)));
        cr_assert_float_eq(set->items[i].score, wanted, 1e-12, "%s, %s, %s: %g, wanted %g", task, bif_norm_name(norm), rows.items[i].where,
                           set->items[i].score, wanted);
        partly += wanted > 0.0 && wanted < 1.0;
    }
    cr_assert_gt(partly, 20);
    bif_jsonl_free(&rows);
    bif_score_close(set);
    free(annotations);
    free(predictions);
}

Test(task_vqa, official)
{
    compare("vqav2", BIF_NORM_OFFICIAL);
    compare("okvqa", BIF_NORM_OFFICIAL);
}

Test(task_vqa, m4c)
{
    compare("textvqa", BIF_NORM_M4C);
}

Test(task_vqa, lmms)
{
    compare("vqav2", BIF_NORM_LMMS);
}

static void process(const char *text, bif_norm rules, const char *wanted)
{
    bif_vqa_norm *norm = bif_vqa_norm_new();
    const bif_span in = {text, strlen(text)};
    const bif_span out = rules == BIF_NORM_M4C ? bif_vqa_m4c(norm, in) : bif_vqa_process(norm, bif_vqa_clean(norm, in), rules);
    cr_assert(bif_span_is(out, wanted), "'%s' by %s: '%.*s', wanted '%s'", text, bif_norm_name(rules), (int)out.size, out.text, wanted);
    bif_vqa_norm_free(norm);
}

/* Where the implementations part. */
Test(task_vqa, four_norms)
{
    process("2.", BIF_NORM_OFFICIAL, "2");
    process("2.", BIF_NORM_M4C, "2");
    process("2.", BIF_NORM_VLMEVALKIT, "2.");
    process("what's", BIF_NORM_OFFICIAL, "what's");
    process("what's", BIF_NORM_M4C, "what 's");
    process("red,white", BIF_NORM_OFFICIAL, "red white");
    process("red,white", BIF_NORM_M4C, "redwhite");
    process("red,white", BIF_NORM_VLMEVALKIT, "red white");
    process("1,,000-2", BIF_NORM_OFFICIAL, "1 000 2");
    process("1,,000-2", BIF_NORM_LMMS, "10002");
    process("t-shirt", BIF_NORM_OFFICIAL, "t shirt");
    process("3,000", BIF_NORM_OFFICIAL, "3000");
    process("A", BIF_NORM_OFFICIAL, "");
}

/* By hand: k of ten annotators agree. */
Test(task_vqa, worth_of_matches)
{
    static const double worth[] = {0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1};
    char folder[] = "/tmp/bif-vqa-XXXXXX", text[4096];
    cr_assert_not_null(mkdtemp(folder));
    for (int k = 0; k <= 10; k++) {
        char *at = text + sprintf(text, "{\"annotations\":[{\"question_id\":1,\"answers\":[");
        for (int i = 0; i < 10; i++) {
            at += sprintf(at, "%s{\"answer\":\"%s\"}", i > 0 ? "," : "", i < k ? "yes" : "no"); /* no ids: VizWiz */
        }
        sprintf(at, "]}]}");
        char *references = bif_path_join(folder, "a.json"), *predictions = bif_path_join(folder, "p.json");
        bif_score_set *set = NULL;
        bif_score_counts counts;
        cr_assert_eq(bif_file_write(references, text, strlen(text)), BIF_OK);
        cr_assert_eq(bif_file_write(predictions, "{\"1\":\"yes\"}", 11), BIF_OK);
        cr_assert_eq(bif_score_open(bif_score_task_by_name("vizwiz"), (const char *const *)&references, 1, &set), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_score_predictions(set, predictions, &(bif_score_policy){0}, &counts), BIF_OK);
        cr_assert_eq(bif_score_run(set, BIF_NORM_OFFICIAL), BIF_OK);
        cr_assert_float_eq(set->items[0].score, worth[k], 1e-12, "%d matches: %g", k, set->items[0].score);
        bif_score_close(set);
        free(references);
        free(predictions);
    }
    bif_remove_tree(folder);
}
