/* ChartQA: relaxed accuracy, numbers within 5 % of the answer, other texts equal but for case. A percentage is its hundredth, so 5% is not
 * 5; an answer of 0 is compared as text. References: test_human.json and test_augmented.json (rows of imgname, query, label; question N of
 * a file is FILE/N from 0, or is named by imgname and query as prompt), or VLMEvalKit's table (index, answer, split). */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "eval/tsv.h"

static void put_name(bif_text_buffer *out, bif_span image, bif_span query)
{
    bif_text_add(out, image.text, image.size);
    bif_text_add(out, "\n", 1);
    bif_text_add(out, query.text, query.size);
}

/* By picture and the first line of the prompt. */
static bool name_chartqa(bif_span id, bif_span prompt, bif_text_buffer *out)
{
    const char *end = prompt.size > 0 ? memchr(prompt.text, '\n', prompt.size) : NULL;
    put_name(out, id, (bif_span){prompt.text, end != NULL ? (size_t)(end - prompt.text) : prompt.size});
    return true;
}

const char *bif_chartqa_split(const char *path)
{
    const char *base = bif_path_base(path);
    return strstr(base, "human") != NULL ? "human" : strstr(base, "augmented") != NULL ? "augmented" : base;
}

static bif_status read_rows(bif_score_set *set, const char *path)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    bif_text_buffer other = {0};
    const bif_span split = bif_score_text(set, "%s", bif_chartqa_split(path));
    BIF_TRY(bif_score_file(set, path, &s));
    BIF_TRY(bif_scan_enter(s, '['));
    bool more = false;
    for (int64_t n = 0; (st = bif_scan_more(s, &more)) == BIF_OK && more; n++) {
        bif_span name, image = {0}, query = {0}, *label = bif_score_take(set, sizeof *label);
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool member; (st = bif_scan_key(s, &name, &member)) == BIF_OK && member;) {
            bif_span *to = bif_span_is(name, "imgname") ? &image
                           : bif_span_is(name, "query") ? &query
                           : bif_span_is(name, "label") ? label
                                                        : NULL;
            BIF_TRY(to != NULL ? bif_scan_word(s, to) : bif_scan_skip(s));
        }
        BIF_TRY(st);
        if (label->text == NULL || image.text == NULL || query.text == NULL) {
            BIF_TRY(bif_scan_fail(s, "the row before has no %s", label->text == NULL ? "label" : image.text == NULL ? "imgname" : "query"));
        }
        bif_text_clear(&other);
        put_name(&other, image, query);
        bif_score_item *item = bif_score_add(set, bif_score_text(set, "%.*s/%lld", (int)split.size, split.text, (long long)n));
        item->other_id = bif_score_keep(set, bif_text_span(&other));
        item->cluster = image;
        item->group[0] = split;
        item->answers = label;
        item->answer_count = 1;
    }
    BIF_TRY(st);
    st = bif_scan_end(s);
done:
    bif_text_free(&other);
    return st;
}

static bif_status read_table(bif_score_set *set, const char *path)
{
    bif_status st = BIF_OK;
    bif_tsv table;
    BIF_TRY(bif_tsv_open(set, path, &table));
    const int index = bif_tsv_column(&table, "index"), answer = bif_tsv_column(&table, "answer"), split = bif_tsv_column(&table, "split");
    if (index < 0 || answer < 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: no column %s", path, index < 0 ? "index" : "answer"));
    }
    for (bool more; (st = bif_tsv_row(&table, &more)) == BIF_OK && more;) {
        bif_score_item *item = bif_score_add(set, table.fields[index]);
        bif_span *answers = NULL;
        bif_tsv_list(set, table.fields[answer], &answers, &item->answer_count);
        item->answers = answers;
        item->group[0] = split >= 0 ? table.fields[split] : (bif_span){0};
    }
done:
    return st;
}

static bif_status read_chartqa(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        const size_t size = strlen(paths[i]);
        BIF_TRY(size > 4 && strcmp(paths[i] + size - 4, ".tsv") == 0 ? read_table(set, paths[i]) : read_rows(set, paths[i]));
    }
done:
    return st;
}

static bool number_of(bif_span text, double *out)
{
    const bool percent = text.size > 0 && text.text[text.size - 1] == '%';
    while (text.size > 0 && text.text[text.size - 1] == '%') {
        text.size--;
    }
    const bool number = bif_text_float(text, out);
    *out = number && percent ? *out / 100.0 : *out;
    return number;
}

static bool same_but_case(bif_text_buffer *buffer, bif_span a, bif_span b)
{
    bif_text_clear(buffer);
    bif_text_lower(a, buffer);
    const size_t size = buffer->size;
    bif_text_lower(b, buffer);
    return buffer->size == 2 * size && (size == 0 || memcmp(buffer->text, buffer->text + size, size) == 0);
}

static bif_status score_chartqa(bif_score_set *set, bif_norm norm)
{
    bif_text_buffer buffer = {0};
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        double said = 0.0, right = 0.0;
        item->parsed = norm == BIF_NORM_OFFICIAL ? item->prediction : bif_text_strip(item->prediction);
        const bool number = number_of(item->parsed, &said);
        for (int64_t k = 0; k < item->answer_count && item->score < 1.0; k++) {
            const bool both = number && number_of(item->answers[k], &right) && right != 0.0;
            item->score = both ? fabs(said - right) / fabs(right) <= 0.05 : same_but_case(&buffer, item->parsed, item->answers[k]);
        }
    }
    bif_text_free(&buffer);
    return BIF_OK;
}

static void summarise_chartqa(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    bif_score_means(set, "relaxed accuracy", weight, out);
}

const bif_score_task bif_task_chartqa = {
    .name = "chartqa",
    .title = "ChartQA: relaxed accuracy",
    .references = "test_human.json and test_augmented.json, or ChartQA_TEST.tsv",
    .rule = "numbers within 5 % (x% is x/100, an answer of 0 is a text), else equal but for case; official: white space around counts",
    .dimension = {"split"},
    .norms = BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_VLMEVALKIT),
    .usual = BIF_NORM_LMMS,
    .read = read_chartqa,
    .name_of_row = name_chartqa,
    .score = score_chartqa,
    .summarise = summarise_chartqa,
};
