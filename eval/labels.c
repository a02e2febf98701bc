#include "eval/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

bif_status bif_lines_read(const char *path, bif_lines *out)
{
    bif_status st = BIF_OK;
    size_t size = 0;
    *out = (bif_lines){0};
    BIF_TRY(bif_file_read(path, (size_t)64 << 20, &out->text, &size));
    for (char *save = NULL, *line = strtok_r(out->text, "\r\n", &save); line != NULL; line = strtok_r(NULL, "\r\n", &save)) {
        out->line = bif_realloc(out->line, (size_t)out->count + 1, sizeof *out->line);
        out->line[out->count++] = line;
    }
done:
    return st;
}

void bif_lines_free(bif_lines *lines)
{
    free(lines->line);
    free(lines->text);
    *lines = (bif_lines){0};
}

static bif_status read_label(const bif_jsonl_line *line, const bif_lines *classes, const json_t *numbers, bif_embed_item *item,
                             int32_t *label)
{
    bif_status st = BIF_OK;
    const json_t *value = json_object_get(line->object, "label");
    item->where = line->where;
    BIF_TRY(bif_json_string(line->where, line->object, "image", true, &item->value));
    if (json_is_string(value)) {
        value = json_object_get(numbers, json_string_value(value));
    }
    const json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number < 0 || number >= classes->count) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: label is missing or not one of the %lld classes", line->where, (long long)classes->count));
    }
    *label = (int32_t)number;
done:
    return st;
}

/* Of the classes' names, the first of equals. */
static json_t *numbers_of(const bif_lines *classes)
{
    json_t *numbers = json_object();
    for (int64_t c = classes->count; c-- > 0;) {
        json_object_set_new(numbers, classes->line[c], json_integer(c));
    }
    return numbers;
}

bif_status bif_labels_read(const char *path, const bif_lines *classes, bif_labels *out)
{
    bif_status st = BIF_OK;
    json_t *numbers = numbers_of(classes);
    *out = (bif_labels){0};
    BIF_TRY(bif_jsonl_read(path, 0, &out->file));
    if (out->file.count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: holds no pictures; one JSON object a line is expected", path));
    }
    out->item = bif_calloc((size_t)out->file.count, sizeof *out->item);
    out->label = bif_calloc((size_t)out->file.count, sizeof *out->label);
    for (; out->count < out->file.count; out->count++) {
        BIF_TRY(read_label(&out->file.items[out->count], classes, numbers, &out->item[out->count], &out->label[out->count]));
    }
done:
    json_decref(numbers);
    return st;
}

bif_status bif_labels_read_shards(const char *const *shards, size_t count, const bif_lines *classes, bif_labels *out)
{
    bif_status st = BIF_OK;
    json_t *numbers = numbers_of(classes);
    *out = (bif_labels){0};
    BIF_TRY(bif_questions_pairs(&out->pairs, shards, count));
    out->item = bif_calloc((size_t)out->pairs.count, sizeof *out->item);
    out->label = bif_calloc((size_t)out->pairs.count, sizeof *out->label);
    for (; out->count < out->pairs.count; out->count++) {
        const bif_question *q = &out->pairs.items[out->count];
        const json_t *number = json_object_get(numbers, q->answer);
        const char *where = bif_questions_text(&out->pairs, "%s:%lld", q->file, (long long)q->line);
        if (number == NULL) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the caption '%.80s' is not one of the %lld classes", where, q->answer,
                             (long long)classes->count));
        }
        out->label[out->count] = (int32_t)json_integer_value(number);
        out->item[out->count] = (bif_embed_item){q->pictures->name, where, q->pictures->shard, q->pictures->number};
    }
done:
    json_decref(numbers);
    return st;
}

void bif_labels_free(bif_labels *labels)
{
    bif_questions_free(&labels->pairs);
    bif_jsonl_free(&labels->file);
    free(labels->item);
    free(labels->label);
    *labels = (bif_labels){0};
}

typedef struct {
    const int32_t *label;
    int64_t classes;
    double *sums; /* pictures, right, right among five; [classes] each */
} tally;

static void count_row(void *context, int64_t i, const float *scores)
{
    tally *t = context;
    const int64_t label = t->label[i], place = bif_place(scores, t->classes, label);
    t->sums[label]++;
    t->sums[t->classes + label] += place == 0;
    t->sums[2 * t->classes + label] += place < 5;
}

bif_status bif_classify(bif_device *device, bif_comm *comm, const bif_labels *labels, const float *x, int64_t width, const float *w,
                        const float *bias, int64_t classes, int64_t batch, bif_accuracy *out)
{
    bif_status st = BIF_OK;
    double correct1 = 0.0, correct5 = 0.0, shares = 0.0, present = 0.0;
    tally t = {.label = labels->label, .classes = classes, .sums = bif_calloc((size_t)(3 * classes), sizeof *t.sums)};
    BIF_TRY(bif_scores(device, comm,
                       &(bif_scores_args){.a = x,
                                          .b = w,
                                          .bias = bias,
                                          .rows = labels->count,
                                          .columns = classes,
                                          .width = width,
                                          .batch = batch,
                                          .row = count_row,
                                          .context = &t}));
    bif_comm_sum_f64(comm, t.sums, (int)(3 * classes));
    for (int64_t c = 0; c < classes; c++) {
        const double pictures = t.sums[c], right = t.sums[classes + c];
        correct1 += right;
        correct5 += t.sums[2 * classes + c];
        shares += pictures > 0.0 ? right / pictures : 0.0;
        present += pictures > 0.0;
    }
    *out = (bif_accuracy){
        .images = labels->count, .correct1 = (int64_t)correct1, .correct5 = (int64_t)correct5, .per_class = shares / present};
done:
    free(t.sums);
    return st;
}
