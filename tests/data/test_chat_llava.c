/* Ids and labels against LLaVA's and LLaVA-NeXT's own preprocessing (tests/golden/make_llava.py), and the deliberate differences. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/chat_templates.h"

enum { ROWS = 5, IMAGE = -200 }; /* of make_llava.py */

static bif_tokenizer *load(const char *name)
{
    static const char *const headers[] = {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
    bif_tokenizer *t = NULL;
    json_t *root = NULL;
    const bool llama = strncmp(name, "llama", 5) == 0, extended = strcmp(name, "headers") == 0;
    char *path = llama ? bif_format("%s/golden/tokens/%s", getenv("BIFOCAL_TESTS"), name)
                       : bif_format("%s/golden/tokenizer/ours.json", getenv("BIFOCAL_TESTS"));
    if (!extended) {
        cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
    } else {
        cr_assert_eq(bif_json_load_file(path, 1 << 20, &root), BIF_OK, "%s", bif_error_message());
        json_t *added = json_object_get(root, "added_tokens");
        const json_int_t first = json_integer_value(json_object_get(json_array_get(added, json_array_size(added) - 1), "id")) + 1;
        for (int i = 0; i < 4; i++) {
            json_t *token = json_copy(json_array_get(added, 0));
            json_object_set_new(token, "id", json_integer(first + i));
            json_object_set_new(token, "content", json_string(headers[i]));
            json_array_append_new(added, token);
        }
        char *text = json_dumps(root, JSON_COMPACT);
        cr_assert_eq(bif_tokenizer_parse("headers", text, strlen(text), &t), BIF_OK, "%s", bif_error_message());
        free(text);
        json_decref(root);
    }
    free(path);
    return t;
}

static uint64_t fnv(const bif_ids *ids)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < ids->count; i++) {
        for (int b = 0; b < 4; b++) {
            h = (h ^ ((uint32_t)ids->ids[i] >> 8 * b & 255u)) * 0x100000001b3u;
        }
    }
    return h;
}

/* The pieces end to end, supervised parts in [brackets]; a prefix space shows, also at the start. malloc'ed. */
static char *shown(const bif_tokenizer *t, const bif_encoded *e)
{
    char *text = bif_strdup("");
    for (size_t i = 0; i < e->ids.count; i++) {
        const bool now = e->labels.ids[i] != BIF_LABEL_NONE, before = i > 0 && e->labels.ids[i - 1] != BIF_LABEL_NONE;
        const bool after = i + 1 < e->ids.count && e->labels.ids[i + 1] != BIF_LABEL_NONE;
        size_t size = 7;
        const char *token = e->ids.ids[i] == IMAGE ? "<image>" : bif_tokenizer_token(t, e->ids.ids[i], &size);
        char *longer = bif_format("%s%s%.*s%s", text, now && !before ? "[" : "", (int)size, token, now && !after ? "]" : "");
        free(text);
        text = longer;
    }
    return text;
}

static const char *text_of(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

static int64_t number_of(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

static void compare(const char *where, const json_t *row, const bif_tokenizer *t, const bif_encoded *e)
{
    char *text = shown(t, e), hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)fnv(&e->ids));
    const json_t *ids = json_object_get(row, "ids"), *spans = json_object_get(row, "spans");
    cr_expect_eq((int64_t)e->ids.count, number_of(row, "count"), "%s: %zu ids: %s", where, e->ids.count, text);
    for (size_t i = 0; i < json_array_size(ids) && i < e->ids.count; i++) {
        cr_expect_eq(e->ids.ids[i], json_integer_value(json_array_get(ids, i)), "%s: id %zu: %s", where, i, text);
    }
    cr_expect_str_eq(hash, text_of(row, "hash"), "%s: other ids: %s", where, text);
    bool *supervised = bif_calloc(e->ids.count + 1, sizeof *supervised);
    for (size_t k = 0; k < json_array_size(spans); k++) {
        const json_t *span = json_array_get(spans, k);
        for (json_int_t i = json_integer_value(json_array_get(span, 0)); i < json_integer_value(json_array_get(span, 1)); i++) {
            supervised[i] = (size_t)i < e->ids.count;
        }
    }
    for (size_t i = 0; i < e->ids.count; i++) {
        const int32_t want = supervised[i] ? e->ids.ids[i] : BIF_LABEL_NONE;
        cr_expect_eq(e->labels.ids[i], want, "%s: label %zu: %s", where, i, text);
    }
    free(supervised);
    free(text);
}

/* The first question alone, as generation sees it, is a prefix of the sample. */
static void compare_prompt(const char *where, const bif_chat *chat, const json_t *sample, const bif_encoded *e)
{
    const json_t *turns = json_object_get(sample, "conversations");
    const json_t *first = json_array_get(turns, strcmp(text_of(json_array_get(turns, 0), "from"), "gpt") == 0);
    bif_encoded prompt = {0};
    int64_t images = 0;
    while (images < e->images && e->labels.ids[e->image_start[images]] == BIF_LABEL_NONE) { /* those before the first answer */
        bool answered = false;
        for (int64_t i = 0; i < e->image_start[images]; i++) {
            answered = answered || e->labels.ids[i] != BIF_LABEL_NONE;
        }
        if (answered) {
            break;
        }
        images++;
    }
    bif_chat any = *chat;
    any.max_tokens = 0;
    cr_assert_eq(bif_chat_prompt(&any, text_of(first, "value"), images, &prompt), BIF_OK, "%s: %s", where, bif_error_message());
    const size_t count = prompt.ids.count < e->ids.count ? prompt.ids.count : e->ids.count;
    cr_expect_eq(memcmp(prompt.ids.ids, e->ids.ids, count * sizeof(int32_t)), 0, "%s: the prompt is no prefix", where);
    cr_expect(count == e->ids.count || e->labels.ids[count] != BIF_LABEL_NONE, "%s: the answer does not follow the prompt", where);
    bif_encoded_free(&prompt);
}

static void check_file(const char *name, bif_image_place place, size_t least)
{
    static const char *const kinds[] = {"llama", "llama_legacy", "ours", "headers"};
    bif_tokenizer *tokenizers[4];
    for (int k = 0; k < 4; k++) {
        tokenizers[k] = load(kinds[k]);
    }
    char *path = bif_format("%s/golden/llava/%s", getenv("BIFOCAL_TESTS"), name), *text = NULL;
    size_t size = 0, rows = 0;
    cr_assert_eq(bif_file_read(path, 1 << 22, &text, &size), BIF_OK, "%s", bif_error_message());
    for (char *line = text, *end; (end = memchr(line, '\n', size - (size_t)(line - text))) != NULL; line = end + 1) {
        json_t *row = NULL;
        char *where = bif_format("%s:%zu", name, ++rows);
        cr_assert_eq(bif_json_parse(where, line, (size_t)(end - line), &row), BIF_OK, "%s", bif_error_message());
        int k = 0;
        while (strcmp(kinds[k], text_of(row, "tokenizer")) != 0) {
            k++;
        }
        const bif_tokenizer *t = tokenizers[k];
        bif_chat chat = {.tokenizer = t, .system = text_of(row, "system"), .bos = bif_tokenizer_special(t, "<s>"),
                         .eos = bif_tokenizer_special(t, "</s>"), .image = IMAGE, .image_place = place,
                         .max_tokens = number_of(row, "limit"), .image_tokens = number_of(row, "limit") > 0 ? ROWS : 1, .truncate = true};
        cr_assert_eq(bif_template_by_name(text_of(row, "template"), &chat.kind), BIF_OK);
        const json_t *sample = json_object_get(row, "sample");
        char *json = json_dumps(sample, JSON_COMPACT);
        bif_encoded e = {0};
        bif_status st = bif_chat_encode(&chat, where, json, strlen(json), number_of(row, "images"), &e);
        if (text_of(row, "ours") != NULL) {
            cr_assert_eq(st, BIF_OK, "%s", bif_error_message());
            char *ours = shown(t, &e);
            cr_expect_str_eq(ours, text_of(row, "ours"), "%s (%s): '%s'", where, text_of(row, "why"), ours);
            free(ours);
        } else if (json_array_size(json_object_get(row, "spans")) == 0) { /* nothing is left to learn: LLaVA's loss is 0, we refuse */
            cr_expect_eq(st, BIF_ERR_DATA, "%s is not refused", where);
        } else {
            cr_assert_eq(st, BIF_OK, "%s", bif_error_message());
            compare(where, row, t, &e);
            compare_prompt(where, &chat, sample, &e);
        }
        bif_encoded_free(&e);
        free(json);
        free(where);
        json_decref(row);
    }
    cr_expect_geq(rows, least, "%s has only %zu rows", name, rows);
    for (int k = 0; k < 4; k++) {
        bif_tokenizer_free(tokenizers[k]);
    }
    free(text);
    free(path);
}

Test(chat_llava, equals_llava)
{
    check_file("llava.jsonl", BIF_IMAGE_FRONT, 280);
}

Test(chat_llava, equals_llava_next)
{
    check_file("next.jsonl", BIF_IMAGE_LLAVA_NEXT, 60);
}

/* The Jinja that was rendered and tokenized by transformers (tests/golden/check_template.py) is what is written. */
Test(chat_llava, jinja)
{
    char *path = bif_format("%s/golden/llava/jinja.json", getenv("BIFOCAL_TESTS"));
    json_t *golden = NULL, *text = NULL;
    const char *key = NULL;
    size_t seen = 0;
    cr_assert_eq(bif_json_load_file(path, 1 << 20, &golden), BIF_OK, "%s", bif_error_message());
    json_object_foreach(golden, key, text)
    {
        char name[32];
        bif_template_kind kind;
        bif_image_place place;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(key, " "), key);
        cr_assert_eq(bif_template_by_name(name, &kind), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_image_place_by_name(strchr(key, ' ') + 1, &place), BIF_OK, "%s", bif_error_message());
        const bool bos = kind != BIF_TEMPLATE_CHATML && kind != BIF_TEMPLATE_QWEN_2_5 && kind != BIF_TEMPLATE_MPT &&
                         kind != BIF_TEMPLATE_CHATML_DIRECT;
        char *jinja = bif_template_jinja(kind, NULL, place, bos ? "<s>" : NULL, "</s>");
        cr_expect_str_eq(jinja, json_string_value(text), "%s", key);
        free(jinja);
        seen++;
    }
    cr_expect_eq(seen, 3 * BIF_TEMPLATE_KINDS);
    char *jinja = bif_template_jinja(BIF_TEMPLATE_LLAMA_2, "a 'b' \\ \n", BIF_IMAGE_FRONT, "<s>", "</s>");
    cr_expect_not_null(strstr(jinja, "namespace(system='a \\'b\\' \\\\ \\n', open=true)"), "%s", jinja);
    free(jinja);
    json_decref(golden);
    free(path);
}
