/* The report's own arithmetic and the writing of untrusted texts; the files as a whole are in tests/cli/report.sh. */
#include <math.h>

#include "data/image.h"
#include "eval/html.h"
#include "eval/report.h"
#include "tests/eval/score_golden.h"

static void text_is(const char *text, size_t size, size_t most, const char *wanted)
{
    bif_text_buffer out = {0};
    bif_html_text(&out, (bif_span){text, size}, most);
    bif_text_add(&out, "", 1);
    cr_expect_str_eq(out.text, wanted);
    bif_text_free(&out);
}

Test(report, texts_are_escaped)
{
    text_is("<b>&\"'", 6, 0, "&lt;b&gt;&amp;&quot;&#39;");
    text_is("a\nb\tc\x01", 6, 0, "a\nb\tc\xEF\xBF\xBD");
    text_is("x\0y", 3, 0, "x\xEF\xBF\xBDy");
    text_is("\xE2\x80\xAE!\xC2\x85", 6, 0, "\xEF\xBF\xBD!\xEF\xBF\xBD"); /* right-to-left override, next line */
    text_is("\xEC\x9D\xB4\xED\x8C", 5, 0, "\xEC\x9D\xB4\xEF\xBF\xBD\xEF\xBF\xBD"); /* a character, and a cut one */
    text_is("\xEC\x9D\xB4\xEC\x9D\xB4", 6, 2, "\xEC\x9D\xB4\xE2\x80\xA6");
}

static bif_verdict verdict(const char *json, const char *split, const char *model)
{
    char folder[] = "/tmp/bifocal-report-XXXXXX";
    bif_score_report report = {0};
    cr_assert(mkdtemp(folder) != NULL);
    char *path = write_file(folder, "scores.json", json);
    cr_assert_eq(bif_report_add(&report, "mine", path, split), BIF_OK, "%s", bif_error_message());
    if (model != NULL) {
        cr_assert_eq(bif_report_like(&report, NULL, model), BIF_OK);
    }
    const bif_verdict v = bif_report_verdict(&report, &report.scores[0]);
    bif_report_free(&report);
    free(path);
    cr_assert_eq(bif_remove_tree(folder), BIF_OK);
    return v;
}

Test(report, bands)
{
    static const struct {
        const char *json, *split, *model;
        bif_verdict_kind kind;
        double difference;
    } cases[] = {
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"accuracy\",\"value\":62.5}]}", NULL, "7b", BIF_VERDICT_INSIDE, 0.5},
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"accuracy\",\"value\":61.4}]}", NULL, "7b", BIF_VERDICT_RETRAINED, -0.6},
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"accuracy\",\"value\":61.39}]}", NULL, "7b", BIF_VERDICT_OUTSIDE, -0.61},
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"accuracy\",\"value\":62.39}]}", NULL, "7b-lora", BIF_VERDICT_OUTSIDE, -0.61},
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"accuracy\",\"value\":62.5}]}", NULL, NULL, BIF_VERDICT_NONE, NAN},
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"binary\",\"value\":62.5}]}", NULL, "7b", BIF_VERDICT_NONE, NAN}, /* another metric */
        {"{\"task\":\"mme\",\"metrics\":[{\"name\":\"cognition\",\"value\":1},{\"name\":\"perception\",\"value\":1480.7}]}", NULL, "7b",
         BIF_VERDICT_INSIDE, -30},
        {"{\"task\":\"vqav2\",\"metrics\":[{\"name\":\"accuracy\",\"value\":78.5}]}", NULL, "7b", BIF_VERDICT_NONE, NAN}, /* of val */
        {"{\"task\":\"vqav2\",\"metrics\":[{\"name\":\"accuracy\",\"value\":78.5}]}", "test-dev", "7b", BIF_VERDICT_INSIDE, 0},
        {"{\"task\":\"vqav2\",\"split\":\"test-dev\",\"metrics\":[{\"name\":\"accuracy\",\"value\":79}]}", NULL, "13b", BIF_VERDICT_OUTSIDE,
         -1},
        {"{\"task\":\"vqav2\",\"split\":\"test-dev\",\"metrics\":[{\"name\":\"accuracy\",\"value\":79}]}", "val", "13b", BIF_VERDICT_NONE,
         NAN},
        {"{\"task\":\"scienceqa\",\"metrics\":[{\"name\":\"IMG-accuracy\",\"value\":66}]}", NULL, "7b", BIF_VERDICT_NONE,
         -0.8}, /* no band */
        {"{\"task\":\"mmbench\",\"metrics\":[{\"name\":\"circular\",\"value\":60}]}", "cn", "7b", BIF_VERDICT_NONE, 1.7},
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"accuracy\",\"value\":null}]}", NULL, "7b", BIF_VERDICT_NONE, NAN},
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"accuracy\",\"value\":62.5,\"questions\":12578}]}", NULL, "7b",
         BIF_VERDICT_INSIDE, 0.5},
        {"{\"task\":\"gqa\",\"metrics\":[{\"name\":\"accuracy\",\"value\":62.5,\"questions\":100}]}", NULL, "7b", BIF_VERDICT_NONE, NAN},
        {"{\"task\":\"seed\",\"metrics\":[{\"name\":\"accuracy\",\"value\":66.1,\"questions\":14233}]}", NULL, "7b", BIF_VERDICT_NONE,
         NAN}, /* pictures alone, eval's default */
        {"{\"task\":\"mm-vet\",\"metrics\":[{\"name\":\"total\",\"value\":30.1,\"questions\":218}]}", NULL, "7b", BIF_VERDICT_NONE, -1},
        {"{\"task\":\"llava-bench\",\"metrics\":[{\"name\":\"relative\",\"value\":66.4,\"questions\":60}]}", NULL, "7b",
         BIF_VERDICT_NONE, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bif_verdict v = verdict(cases[i].json, cases[i].split, cases[i].model);
        cr_expect_eq(v.kind, cases[i].kind, "%zu: kind %d", i, v.kind);
        cr_expect(isnan(cases[i].difference) ? isnan(v.difference) : fabs(v.difference - cases[i].difference) < 1e-9, "%zu: %g", i,
                  v.difference);
    }
}

Test(report, jpeg)
{
    uint8_t rgb[40 * 24 * 3], *jpeg = NULL;
    size_t size = 0;
    bif_image image = {.rgb = rgb, .width = 40, .height = 24}, back = {0};
    for (int i = 0; i < 40 * 24; i++) {
        rgb[3 * i] = (uint8_t)(6 * (i % 40));
        rgb[3 * i + 1] = (uint8_t)(10 * (i / 40));
        rgb[3 * i + 2] = 77;
    }
    cr_assert_eq(bif_image_encode_jpeg(&image, 90, &jpeg, &size), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_image_decode("jpeg", jpeg, size, NULL, &back), BIF_OK, "%s", bif_error_message());
    cr_assert(back.width == 40 && back.height == 24);
    double error = 0.0;
    for (int i = 0; i < 40 * 24 * 3; i++) {
        error += abs(rgb[i] - back.rgb[i]);
    }
    cr_expect_lt(error / (40 * 24 * 3), 3.0);
    bif_image_free(&back);
    free(jpeg);
    cr_expect_eq(bif_image_encode_jpeg(&(bif_image){.rgb = rgb, .width = 0, .height = 5}, 90, &jpeg, &size), BIF_ERR_DATA);
}
