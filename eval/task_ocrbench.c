/* OCRBench: how many of 1,000 predictions hold an answer, lower case; handwritten formulas (HME100k) keep their case and lose their spaces.
 * References: OCRBench.json, or VLMEvalKit's table (index, answer, category). A question of the first is DATASET/ID, or its place in the
 * file from 0. Predictions: also the scorer's own file, the references with "predict" in each. */
#include <string.h>

#include "eval/tsv.h"

static const char formulas[] = "Handwritten Mathematical Expression Recognition";
static const char *const recognition[] = {"Regular Text Recognition", "Irregular Text Recognition", "Artistic Text Recognition",
                                          "Handwriting Recognition",  "Digit String Recognition",   "Non-Semantic Text Recognition"};

static bif_status read_row(bif_score_set *set, bif_scan *s, bif_span *id, bif_span *type, bif_span **answers, int64_t *count,
                           bif_span *image, bif_span *predict)
{
    bif_status st = BIF_OK;
    bif_span name, dataset = {0}, number = {0};
    int64_t capacity = 0;
    *count = 0;
    *type = *image = *predict = (bif_span){0};
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        const bool word = c == '"' || c == '-' || (c >= '0' && c <= '9');
        bif_span *to = bif_span_is(name, "dataset_name") ? &dataset
                       : bif_span_is(name, "id")         ? &number
                       : bif_span_is(name, "type")       ? type
                       : bif_span_is(name, "image_path") ? image
                       : bif_span_is(name, "predict")    ? predict
                                                         : NULL;
        const bool many = bif_span_is(name, "answers") && c == '[';
        if (to != NULL && word) {
            BIF_TRY(bif_scan_word(s, to));
        } else if (bif_span_is(name, "answers") && (many || word)) {
            bool another = !many;
            BIF_TRY(many ? bif_scan_enter(s, '[') : BIF_OK);
            while ((many ? (st = bif_scan_more(s, &another)) == BIF_OK && another : another)) {
                if (*count == capacity) {
                    bif_span *grown = bif_score_take(set, (size_t)(capacity = 2 * capacity + 4) * sizeof *grown);
                    if (*count > 0) {
                        memcpy(grown, *answers, (size_t)*count * sizeof *grown);
                    }
                    *answers = grown;
                }
                BIF_TRY(bif_scan_word(s, &(*answers)[(*count)++]));
                another = many;
            }
            BIF_TRY(st);
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    *id = dataset.text == NULL || number.text == NULL
              ? (bif_span){0}
              : bif_score_text(set, "%.*s/%.*s", (int)dataset.size, dataset.text, (int)number.size, number.text);
done:
    return st;
}

static void add(bif_score_set *set, bif_span id, bif_span other, bif_span type, bif_span image, const bif_span *answers, int64_t count)
{
    bool text = false;
    for (size_t i = 0; i < sizeof recognition / sizeof *recognition; i++) {
        text = text || bif_span_is(type, recognition[i]);
    }
    bif_score_item *item = bif_score_add(set, id);
    item->other_id = other;
    item->cluster = image;
    item->group[0] = text ? (bif_span){"Text Recognition", 16} : type;
    item->group[1] = text ? type : (bif_span){0};
    item->answers = answers;
    item->answer_count = count;
}

static bif_status read_ocrbench(bif_score_set *set, const char *const *paths, size_t files)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < files; i++) {
        const size_t size = strlen(paths[i]);
        bif_span id, type, image, predict, *answers = NULL;
        int64_t count = 0;
        bool more = false;
        if (size > 4 && strcmp(paths[i] + size - 4, ".tsv") == 0) {
            bif_tsv table;
            BIF_TRY(bif_tsv_open(set, paths[i], &table));
            const int index = bif_tsv_column(&table, "index"), answer = bif_tsv_column(&table, "answer"),
                      category = bif_tsv_column(&table, "category");
            if (index < 0 || answer < 0 || category < 0) {
                BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: no column %s", paths[i], index < 0 ? "index" : answer < 0 ? "answer" : "category"));
            }
            while ((st = bif_tsv_row(&table, &more)) == BIF_OK && more) {
                bif_tsv_list(set, table.fields[answer], &answers, &count);
                add(set, table.fields[index], (bif_span){0}, table.fields[category], (bif_span){0}, answers, count);
            }
            BIF_TRY(st);
            continue;
        }
        bif_scan *s = NULL;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '['));
        while ((st = bif_scan_more(s, &more)) == BIF_OK && more) {
            BIF_TRY(read_row(set, s, &id, &type, &answers, &count, &image, &predict));
            if (id.text == NULL || count == 0 || type.text == NULL) {
                BIF_TRY(bif_scan_fail(s, "the question before has no %s",
                                      id.text == NULL ? "dataset_name and id"
                                      : count == 0    ? "answers"
                                                      : "type"));
            }
            add(set, id, bif_score_text(set, "%lld", (long long)set->count), type, image, answers, count);
        }
        BIF_TRY(st);
        BIF_TRY(bif_scan_end(s));
    }
done:
    return st;
}

static bool name_ocrbench(bif_span id, bif_span prompt, bif_text_buffer *out)
{
    (void)prompt;
    bif_text_add(out, id.text, id.size);
    return true;
}

/* The scorer's own file: a list whose first row has dataset_name, id and predict. */
static bif_status predict_ocrbench(bif_score_set *set, bif_score_reader *reader, const char *path, bool *own)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    bif_span id, type, image, predict, *answers = NULL;
    int64_t count = 0;
    bool more = false;
    *own = false;
    BIF_TRY(bif_score_file(set, path, &s));
    if (bif_scan_peek(s) != '[') {
        goto done;
    }
    BIF_TRY(bif_scan_enter(s, '['));
    while ((st = bif_scan_more(s, &more)) == BIF_OK && more) {
        bif_scan_peek(s);
        const int64_t line = bif_scan_line(s);
        BIF_TRY(read_row(set, s, &id, &type, &answers, &count, &image, &predict));
        if (!*own && (id.text == NULL || predict.text == NULL)) {
            goto done; /* a list of another kind */
        }
        *own = true;
        if (id.text != NULL && predict.text != NULL) {
            bif_score_answer(reader, path, line, id, predict);
        }
    }
    BIF_TRY(st);
    st = bif_scan_end(s);
done:
    return st;
}

/* Appends what is looked for, or in. fold: full-width ASCII becomes ASCII first. */
static void prepare(bif_text_buffer *out, bif_text_buffer *folded, bif_span text, bool formula, bool fold)
{
    if (fold && !formula) {
        bif_text_clear(folded);
        for (size_t i = 0; i < text.size; i++) {
            const unsigned char *p = (const unsigned char *)text.text + i;
            char c = 0;
            if (p[0] == 0xef && i + 2 < text.size &&
                ((p[1] == 0xbc && p[2] >= 0x81) || (p[1] == 0xbd && p[2] <= 0x9e))) { /* U+FF01 to U+FF5E */
                c = (char)((p[1] - 0xbc) * 64 + p[2] - 0x81 + '!');
            } else if (p[0] == 0xe3 && i + 2 < text.size && p[1] == 0x80 && p[2] == 0x80) {
                c = ' ';
            }
            bif_text_add(folded, c != 0 ? &c : text.text + i, 1);
            i += c != 0 ? 2 : 0;
        }
        text = bif_text_span(folded);
    }
    const size_t from = out->size;
    if (formula) {
        text = bif_text_strip(text);
        bif_text_add(out, text.text, text.size);
    } else {
        bif_text_lower(text, out);
        const bif_span bare = bif_text_strip((bif_span){out->text + (out->text != NULL ? from : 0), out->size - from});
        if (bare.size > 0) {
            memmove(out->text + from, bare.text, bare.size);
        }
        out->size = from + bare.size;
    }
    size_t kept = from;
    for (size_t i = from; i < out->size; i++) {
        const char c = out->text[i] == '\n' ? ' ' : out->text[i];
        out->text[kept] = c;
        kept += !formula || c != ' ';
    }
    out->size = kept;
}

static bif_status score_ocrbench(bif_score_set *set, bif_norm norm)
{
    bif_text_buffer text = {0}, folded = {0};
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const bool formula = bif_span_is(item->group[0], formulas), fold = norm == BIF_NORM_LMMS;
        bif_text_clear(&text);
        prepare(&text, &folded, norm == BIF_NORM_LMMS ? bif_text_strip(item->prediction) : item->prediction, formula, fold);
        const size_t size = text.size;
        item->parsed = bif_score_keep(set, bif_text_span(&text));
        for (int64_t k = 0; k < item->answer_count && item->score < 1.0; k++) {
            text.size = size;
            prepare(&text, &folded, item->answers[k], formula, fold);
            const size_t wanted = text.size - size;
            item->score = item->line > 0 && (wanted == 0 || (size >= wanted && memmem(text.text, size, text.text + size, wanted) != NULL));
        }
    }
    bif_text_free(&text);
    bif_text_free(&folded);
    return BIF_OK;
}

static void summarise_ocrbench(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    double sum = 0.0;
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) {
        sum += weight[i] * set->items[i].score;
        count += weight[i];
    }
    bif_metric_add(out, sum, count, "score");
    for (int d = 0; d < 2; d++) {
        for (int32_t g = 0; g < set->groups[d]; g++) {
            sum = 0.0;
            count = 0;
            for (int64_t i = 0; i < set->count; i++) {
                const bool in = set->items[i].group_index[d] == g;
                sum += in ? weight[i] * set->items[i].score : 0.0;
                count += in ? weight[i] : 0;
            }
            bif_metric_add(out, sum, count, "score/%.*s", (int)set->group[d][g].size, set->group[d][g].text);
        }
    }
}

const bif_score_task bif_task_ocrbench = {
    .name = "ocrbench",
    .title = "OCRBench: predictions that hold an answer, of 1,000",
    .references = "OCRBench.json, or OCRBench.tsv",
    .rule = "an answer is part of the prediction, lower case; HME100k: with case, without spaces; lmms: full-width ASCII folded",
    .dimension = {"part", "type"},
    .norms = BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_LMMS),
    .read = read_ocrbench,
    .name_of_row = name_ocrbench,
    .predict = predict_ocrbench,
    .score = score_ocrbench,
    .summarise = summarise_ocrbench,
};
