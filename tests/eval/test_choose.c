/* Choosing tokens: what the warpers of transformers leave (golden/make_generate.py), ties, and numbers that are none. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "base/json.h"
#include "eval/choose.h"

Test(choose, as_the_warpers)
{
    json_t *expected = NULL, *row;
    size_t at;
    char *path = bif_format("%s/golden/generate/expected.json", getenv("BIFOCAL_TESTS"));
    cr_assert_eq(bif_json_load_file(path, 1 << 20, &expected), BIF_OK, "%s", bif_error_message());
    json_array_foreach(json_object_get(expected, "warped"), at, row) {
        float logits[64];
        bif_candidate kept[64];
        const json_t *x = json_object_get(row, "logits"), *p = json_object_get(row, "probabilities");
        const int64_t n = (int64_t)json_array_size(x);
        const bif_decoding d = {.temperature = json_number_value(json_object_get(row, "temperature")),
                                .top_p = json_number_value(json_object_get(row, "top_p")),
                                .top_k = json_integer_value(json_object_get(row, "top_k"))};
        double mine[64] = {0};
        for (int64_t i = 0; i < n; i++) {
            logits[i] = (float)json_number_value(json_array_get(x, (size_t)i));
        }
        const int64_t count = bif_sample_from(logits, n, &d, kept);
        for (int64_t i = 0; i < count; i++) {
            cr_assert(i == 0 || kept[i].score <= kept[i - 1].score);
            mine[kept[i].index] = kept[i].score;
        }
        for (int64_t i = 0; i < n; i++) {
            const double want = json_number_value(json_array_get(p, (size_t)i));
            cr_expect(fabs(mine[i] - want) < 2e-6 && (mine[i] > 0.0) == (want > 0.0 || mine[i] > 0.0), "row %zu, token %lld: %g, not %g", at, (long long)i,
                      mine[i], want);
        }
        /* Drawn often enough every token comes as often as it should. */
        enum { DRAWS = 20000 };
        double often[64] = {0};
        for (int i = 0; i < DRAWS; i++) {
            often[bif_sample(logits, n, &d, (i + 0.5) / DRAWS, kept)] += 1.0 / DRAWS;
        }
        for (int64_t i = 0; i < n; i++) {
            cr_expect(fabs(often[i] - mine[i]) < 2.0 / DRAWS, "row %zu, token %lld: drawn %g, not %g", at, (long long)i, often[i], mine[i]);
        }
    }
    cr_assert_eq(at, 9);
    json_decref(expected);
    free(path);
}

Test(choose, edges)
{
    const float equal[] = {1.0f, 3.0f, 3.0f, NAN, 3.0f, -INFINITY};
    bif_candidate out[6];
    const bif_decoding one = {.temperature = 1.0, .top_p = 1.0, .top_k = 1}, two = {.temperature = 1.0, .top_p = 1.0, .top_k = 2};
    cr_assert_eq(bif_sample(equal, 6, &one, 0.999, out), 1);
    cr_assert_eq(bif_sample(equal, 6, &two, 0.999, out), 2);
    cr_assert_eq(bif_sample_from(equal, 6, &(bif_decoding){.temperature = 1.0, .top_p = 1.0}, out), 4); /* neither NaN nor -infinity */
    const float none[] = {NAN, -INFINITY};
    cr_assert_eq(bif_sample(none, 2, &one, 0.5, out), 0);
    cr_assert(fabs(bif_log_sum_exp(equal, 6) - log(exp(1.0) + 3.0 * exp(3.0))) < 1e-12);
    const float huge[] = {3e38f, 3e38f};
    cr_assert(isfinite(bif_log_sum_exp(huge, 2)));
    const double score[] = {2.0, -INFINITY, 5.0, NAN, 5.0, 1.0, 2.0};
    bif_candidate top[7];
    const int64_t order[] = {2, 4, 0, 6, 5};
    for (int64_t most = 1; most <= 7; most++) {
        const int64_t n = bif_top(score, 7, most, top);
        cr_assert_eq(n, most < 5 ? most : 5);
        for (int64_t i = 0; i < n; i++) {
            cr_assert_eq(top[i].index, order[i], "%lld of %lld is %lld", (long long)i, (long long)most, (long long)top[i].index);
        }
    }
}
