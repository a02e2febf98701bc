#include "eval/retrieval.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "eval/jsonl.h"
#include "eval/question.h"

const int bif_recall_at[BIF_RECALLS] = {1, 5, 10};

typedef struct {
    bif_jsonl file;
    bif_questions shards; /* or of shards */
    json_t *numbers; /* picture's name to its number */
    bif_embed_item *image, *text;
    int64_t *owner; /* [texts] number of its picture */
    int64_t images, texts, capacity;
} pair_list;

static void add_caption(pair_list *pairs, const char *where, int64_t image, const char *text)
{
    if (pairs->texts == pairs->capacity) {
        pairs->capacity = pairs->capacity > 0 ? 2 * pairs->capacity : 256;
        pairs->text = bif_realloc(pairs->text, (size_t)pairs->capacity, sizeof *pairs->text);
        pairs->owner = bif_realloc(pairs->owner, (size_t)pairs->capacity, sizeof *pairs->owner);
    }
    pairs->owner[pairs->texts] = image;
    pairs->text[pairs->texts++] = (bif_embed_item){.value = text, .where = where};
}

static bif_status add_text(pair_list *pairs, const bif_jsonl_line *line, int64_t image, const json_t *value)
{
    if (!json_is_string(value) || json_string_length(value) == 0) {
        return bif_fail(BIF_ERR_DATA, "%s: caption is empty or not a text", line->where);
    }
    add_caption(pairs, line->where, image, json_string_value(value));
    return BIF_OK;
}

/* The number of a picture, by its name. */
static int64_t add_picture(pair_list *pairs, const bif_embed_item *item)
{
    const json_t *known = json_object_get(pairs->numbers, item->value);
    if (known != NULL) {
        return json_integer_value(known);
    }
    json_object_set_new(pairs->numbers, item->value, json_integer(pairs->images));
    pairs->image[pairs->images] = *item;
    return pairs->images++;
}

static bif_status read_line(pair_list *pairs, const bif_jsonl_line *line)
{
    bif_status st = BIF_OK;
    const char *name = NULL;
    const json_t *list = json_object_get(line->object, "captions");
    list = list != NULL ? list : json_object_get(line->object, "caption");
    BIF_TRY(bif_json_string(line->where, line->object, "image", true, &name));
    const int64_t image = add_picture(pairs, &(bif_embed_item){.value = name, .where = line->where});
    if (list == NULL || (json_is_array(list) && json_array_size(list) == 0)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no caption; \"caption\" is a text or a list of texts", line->where));
    }
    if (!json_is_array(list)) {
        BIF_TRY(add_text(pairs, line, image, list));
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        BIF_TRY(add_text(pairs, line, image, json_array_get(list, i)));
    }
done:
    return st;
}

static bif_status read_pairs(const char *path, pair_list *pairs)
{
    bif_status st = BIF_OK;
    pairs->numbers = json_object();
    BIF_TRY(bif_jsonl_read(path, 0, &pairs->file));
    if (pairs->file.count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: holds no pairs; one JSON object a line is expected", path));
    }
    pairs->image = bif_calloc((size_t)pairs->file.count, sizeof *pairs->image);
    for (int64_t i = 0; i < pairs->file.count; i++) {
        BIF_TRY(read_line(pairs, &pairs->file.items[i]));
    }
done:
    return st;
}

static bif_status read_shards(const bif_retrieval_options *options, pair_list *pairs)
{
    bif_status st = BIF_OK;
    bif_questions *set = &pairs->shards;
    pairs->numbers = json_object();
    BIF_TRY(bif_questions_pairs(set, options->shards, options->shard_count));
    pairs->image = bif_calloc((size_t)set->count, sizeof *pairs->image);
    for (int64_t i = 0; i < set->count; i++) {
        const bif_question *q = &set->items[i];
        const char *where = bif_questions_text(set, "%s:%lld", q->file, (long long)q->line);
        add_caption(pairs, where,
                    add_picture(pairs, &(bif_embed_item){q->pictures->name, where, q->pictures->shard, q->pictures->number}), q->answer);
    }
done:
    return st;
}

typedef struct {
    const pair_list *pairs;
    double found[2 * BIF_RECALLS]; /* of the pictures, of the captions */
} tally;

static void count_place(double *found, int64_t place)
{
    for (int k = 0; k < BIF_RECALLS; k++) {
        found[k] += place < bif_recall_at[k];
    }
}

/* Scores of picture i with all captions. The best of its captions is found among the first k if fewer than k captions of others are as
 * good. */
static void count_image(void *context, int64_t i, const float *scores)
{
    tally *t = context;
    const pair_list *pairs = t->pairs;
    float best = -INFINITY;
    int64_t place = 0;
    for (int64_t j = 0; j < pairs->texts; j++) {
        best = pairs->owner[j] == i && scores[j] > best ? scores[j] : best;
    }
    for (int64_t j = 0; j < pairs->texts; j++) {
        place += pairs->owner[j] != i && !(scores[j] < best);
    }
    count_place(t->found, place);
}

static void count_text(void *context, int64_t i, const float *scores)
{
    tally *t = context;
    count_place(t->found + BIF_RECALLS, bif_place(scores, t->pairs->images, t->pairs->owner[i]));
}

bif_status bif_retrieval(bif_session *session, bif_comm *comm, const bif_retrieval_options *options, bif_retrieval_result *result)
{
    bif_status st = BIF_OK;
    const int64_t width = session->model.projection;
    bif_device *device = session->device;
    pair_list pairs = {0};
    float *images = NULL, *texts = NULL;
    struct timespec from, to;
    *result = (bif_retrieval_result){0};
    clock_gettime(CLOCK_MONOTONIC, &from);
    BIF_TRY(bif_comm_agree(comm, options->pairs != NULL ? read_pairs(options->pairs, &pairs) : read_shards(options, &pairs)));
    images = bif_calloc((size_t)(pairs.images * width), sizeof *images);
    texts = bif_calloc((size_t)(pairs.texts * width), sizeof *texts);
    BIF_TRY(bif_embed_images(session, comm, options->image_root, options->batch, pairs.image, pairs.images, images));
    BIF_TRY(bif_embed_texts(session, comm, options->batch, true, pairs.text, pairs.texts, texts));
    tally t = {.pairs = &pairs};
    BIF_TRY(bif_scores(device, comm,
                       &(bif_scores_args){.a = images,
                                          .b = texts,
                                          .rows = pairs.images,
                                          .columns = pairs.texts,
                                          .width = width,
                                          .batch = options->batch,
                                          .row = count_image,
                                          .context = &t}));
    BIF_TRY(bif_scores(device, comm,
                       &(bif_scores_args){.a = texts,
                                          .b = images,
                                          .rows = pairs.texts,
                                          .columns = pairs.images,
                                          .width = width,
                                          .batch = options->batch,
                                          .row = count_text,
                                          .context = &t}));
    bif_comm_sum_f64(comm, t.found, 2 * BIF_RECALLS);
    for (int k = 0; k < BIF_RECALLS; k++) {
        result->image_to_text[k] = t.found[k] / (double)pairs.images;
        result->text_to_image[k] = t.found[BIF_RECALLS + k] / (double)pairs.texts;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    result->images = pairs.images;
    result->texts = pairs.texts;
    result->seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
done:
    bif_jsonl_free(&pairs.file);
    bif_questions_free(&pairs.shards);
    json_decref(pairs.numbers);
    free(pairs.image);
    free(pairs.text);
    free(pairs.owner);
    free(images);
    free(texts);
    return st;
}
