#include "eval/question.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "data/chat.h"
#include "eval/jsonl.h"
#include "eval/score.h"

struct bif_question_block {
    struct bif_question_block *next;
    size_t used, size;
    char bytes[];
};

void *bif_questions_take(bif_questions *set, size_t size)
{
    struct bif_question_block *block = set->blocks;
    size = (size + 15) / 16 * 16;
    if (block == NULL || block->size - block->used < size) {
        const size_t room = size > (1u << 20) ? size : 1u << 20;
        block = bif_calloc(1, sizeof *block + room);
        block->size = room;
        block->next = set->blocks;
        set->blocks = block;
    }
    void *memory = block->bytes + block->used;
    block->used += size;
    return memory;
}

const char *bif_questions_copy(bif_questions *set, const char *text, size_t size)
{
    char *copy = bif_questions_take(set, size + 1);
    memcpy(copy, text, size);
    return copy;
}

const char *bif_questions_text(bif_questions *set, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int size = vsnprintf(NULL, 0, format, args);
    char *text = bif_questions_take(set, (size_t)size + 1);
    vsnprintf(text, (size_t)size + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

const char *bif_questions_id(bif_questions *set, bif_span id)
{
    char *plain = bif_utf8_spelled(id.text, id.size); /* names of files and folders are part of some */
    json_t *value = json_string(plain);
    char *json = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    const char *copy = bif_questions_copy(set, json, strlen(json));
    free(plain);
    free(json);
    json_decref(value);
    return copy;
}

bool bif_questions_full(const bif_questions *set)
{
    return set->limit > 0 && set->count >= set->limit;
}

bif_question *bif_questions_add(bif_questions *set, const char *file, int64_t line)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity > 0 ? 2 * set->capacity : 256;
        set->items = bif_realloc(set->items, (size_t)set->capacity, sizeof *set->items);
    }
    bif_question *q = &set->items[set->count++];
    *q = (bif_question){.file = file, .line = line};
    return q;
}

void bif_question_picture(bif_questions *set, bif_question *question, const char *name, const bif_span *base64)
{
    bif_seen *picture = bif_questions_take(set, sizeof *picture);
    *picture = (bif_seen){.name = name, .base64 = base64 != NULL ? *base64 : (bif_span){0}};
    question->pictures = picture;
    question->images = 1;
}

void bif_questions_free(bif_questions *set)
{
    while (set->blocks != NULL) {
        struct bif_question_block *next = set->blocks->next;
        free(set->blocks);
        set->blocks = next;
    }
    for (int64_t i = 0; i < set->file_count; i++) {
        bif_scan_close(set->files[i]);
    }
    for (int64_t i = 0; i < set->shard_count; i++) {
        bif_shard_close(set->shards[i]);
    }
    bif_score_close(set->tables);
    free(set->shards);
    free(set->files);
    free(set->items);
    *set = (bif_questions){0};
}

static const char *kept(bif_questions *set, const char *text)
{
    return text != NULL ? bif_questions_copy(set, text, strlen(text)) : NULL;
}

/* "options": [texts]: the text is the answer. */
static bif_status read_options(bif_questions *set, const bif_jsonl_line *line, bif_question *q)
{
    const json_t *options = json_object_get(line->object, "options");
    const size_t count = json_array_size(options); /* 0 of anything else */
    if (count == 0 && options != NULL && !json_is_null(options)) {
        return bif_fail(BIF_ERR_DATA, "%s: options must be a list of texts", line->where);
    }
    const char **texts = bif_questions_take(set, count * sizeof *texts);
    for (size_t i = 0; i < count; i++) {
        texts[i] = kept(set, json_string_value(json_array_get(options, i)));
        if (texts[i] == NULL || texts[i][0] == '\0') {
            return bif_fail(BIF_ERR_DATA, "%s: options must be a list of texts", line->where);
        }
    }
    q->letters = q->options = texts;
    q->option_count = (int64_t)count;
    q->bare = q->prompt;
    return BIF_OK;
}

/* "answer": a text, or a list of them that are all right. */
static bif_status read_answers(bif_questions *set, const bif_jsonl_line *line, bif_question *q)
{
    const json_t *list = json_object_get(line->object, "answer");
    const char *answer = NULL;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        const bif_status st = json_is_array(list) ? BIF_OK : bif_json_string(line->where, line->object, "answer", false, &answer);
        q->answer = kept(set, answer);
        return st;
    }
    const char **texts = bif_questions_take(set, json_array_size(list) * sizeof *texts);
    for (size_t i = 0; i < json_array_size(list); i++) {
        texts[i] = kept(set, json_string_value(json_array_get(list, i)));
        if (texts[i] == NULL) {
            return bif_fail(BIF_ERR_DATA, "%s: answer must be a text or a list of texts", line->where);
        }
    }
    q->answer = texts[0];
    q->answers = texts;
    q->answer_count = (int64_t)json_array_size(list);
    return BIF_OK;
}

static bif_status read_line(bif_questions *set, const char *path, const bif_jsonl_line *line)
{
    bif_status st = BIF_OK;
    const json_t *id = json_object_get(line->object, "question_id"), *image = json_object_get(line->object, "image");
    const char *prompt = NULL, *type = NULL;
    if (!json_is_string(id) && !json_is_integer(id)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: question_id is missing or neither a string nor an integer", line->where));
    }
    image = json_is_null(image) ? NULL : image;
    /* LLaVA's own question files say text and category. */
    BIF_TRY(bif_json_string(line->where, line->object, "text", false, &prompt));
    BIF_TRY(bif_json_string(line->where, line->object, "question", prompt == NULL, &prompt));
    BIF_TRY(bif_json_string(line->where, line->object, "category", false, &type));
    BIF_TRY(bif_json_string(line->where, line->object, "type", false, &type));
    bif_question *q = bif_questions_add(set, path, strtoll(strrchr(line->where, ':') + 1, NULL, 10));
    q->prompt = kept(set, prompt);
    BIF_TRY(read_answers(set, line, q));
    q->type = kept(set, type);
    q->id = json_is_integer(id) ? bif_questions_text(set, "%lld", (long long)json_integer_value(id))
                                : bif_questions_id(set, (bif_span){json_string_value(id), json_string_length(id)});
    q->list = json_is_array(image);
    q->images = q->list ? (int64_t)json_array_size(image) : image != NULL;
    bif_seen *pictures = bif_questions_take(set, (size_t)q->images * sizeof *pictures);
    for (int64_t i = 0; i < q->images; i++) {
        pictures[i].name = kept(set, json_string_value(q->list ? json_array_get(image, (size_t)i) : image));
        if (pictures[i].name == NULL) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: image must be a name or a list of names", line->where));
        }
    }
    q->pictures = pictures;
    const int64_t places = bif_chat_placeholders(prompt);
    if (places > 0 && places != q->images) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %lld <image> placeholders but %lld pictures; as many, or none", line->where, (long long)places,
                         (long long)q->images));
    }
    BIF_TRY(read_options(set, line, q));
done:
    return st;
}

bif_status bif_questions_jsonl(bif_questions *set, const char *path)
{
    bif_status st = BIF_OK;
    bif_jsonl file = {0};
    BIF_TRY(bif_jsonl_read(path, set->limit > 0 ? set->limit - set->count : 0, &file));
    for (int64_t i = 0; i < file.count; i++) {
        BIF_TRY(read_line(set, path, &file.items[i]));
    }
done:
    bif_jsonl_free(&file);
    return st;
}

static int by_id(const void *a, const void *b, void *context)
{
    const bif_questions *set = context;
    const int64_t i = *(const int64_t *)a, k = *(const int64_t *)b;
    const int order = strcmp(set->items[i].id, set->items[k].id);
    return order != 0 ? order : i < k ? -1 : i > k;
}

bif_status bif_questions_check(bif_questions *set)
{
    bif_status st = BIF_OK;
    int64_t *order = bif_calloc((size_t)set->count, sizeof *order), second = -1, first = -1;
    for (int64_t i = 0; i < set->count; i++) {
        order[i] = i;
    }
    qsort_r(order, (size_t)set->count, sizeof *order, by_id, set);
    for (int64_t i = 1; i < set->count; i++) {
        if (strcmp(set->items[order[i]].id, set->items[order[i - 1]].id) == 0 && (second < 0 || order[i] < second)) {
            first = order[i - 1];
            second = order[i];
        }
    }
    if (second >= 0) {
        const bif_question *q = &set->items[second], *before = &set->items[first];
        BIF_TRY(bif_fail(BIF_ERR_DATA,
                         "%s:%lld: question_id %s stands in %s:%lld already; ids must differ, for answers are scored by them", q->file,
                         (long long)q->line, q->id, before->file, (long long)before->line));
    }
done:
    free(order);
    return st;
}

static void add(bif_digest *digest, const char *text)
{
    text = text != NULL ? text : "\1";
    bif_digest_update(digest, text, strlen(text) + 1);
}

void bif_questions_digest(const bif_questions *set, char hex[33])
{
    bif_digest *digest = bif_digest_new();
    for (int64_t i = 0; i < set->shard_count; i++) {
        add(digest, bif_shard_payload_digest(set->shards[i]));
    }
    for (int64_t i = 0; i < set->count; i++) {
        const bif_question *q = &set->items[i];
        add(digest, q->id);
        add(digest, q->prompt);
        add(digest, q->bare);
        for (int64_t k = 0; k < q->turns; k++) {
            add(digest, q->before[k]);
        }
        for (int64_t k = 0; k < q->images; k++) {
            add(digest, q->pictures[k].name);
            bif_digest_update(digest, q->pictures[k].base64.text, q->pictures[k].base64.size);
        }
        for (int64_t k = 0; k < q->option_count; k++) {
            add(digest, q->letters[k]);
            add(digest, q->options[k]);
        }
        add(digest, "");
    }
    bif_digest_finish(digest, hex);
}
