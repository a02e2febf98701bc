#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "data/chat.h"

static bif_tokenizer *tokenizer;

static void setup(void)
{
    char *path = bif_format("%s/golden/tokenizer/ours.json", getenv("BIFOCAL_TESTS"));
    cr_assert_eq(bif_tokenizer_load(path, &tokenizer), BIF_OK, "%s", bif_error_message());
    free(path);
}

static void teardown(void)
{
    bif_tokenizer_free(tokenizer);
}

TestSuite(chat, .init = setup, .fini = teardown);

static bif_chat chat_of(bif_template_kind kind)
{
    return (bif_chat){.tokenizer = tokenizer,
                      .kind = kind,
                      .bos = bif_tokenizer_special(tokenizer, "<s>"),
                      .eos = bif_tokenizer_special(tokenizer, "</s>"),
                      .image = bif_tokenizer_special(tokenizer, "<image>"),
                      .image_tokens = 3,
                      .max_tokens = 2048};
}

static bif_status encode(const bif_chat *chat, const char *json, int64_t images, bif_encoded *out)
{
    return bif_chat_encode(chat, "sample", json, strlen(json), images, out);
}

/* Ids and labels as HF gives them for LLaVA's text in our segments; the prompt is the prefix of the training sequence.
 */
Test(chat, equals_golden)
{
    char *path = bif_format("%s/golden/tokenizer/chat.json", getenv("BIFOCAL_TESTS"));
    json_t *rows = NULL;
    cr_assert_eq(bif_json_load_file(path, 1 << 20, &rows), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(json_array_size(rows), 5);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r), *ids = json_object_get(row, "ids"),
                     *labels = json_object_get(row, "labels");
        const char *prompt = json_string_value(json_object_get(row, "prompt"));
        int64_t images = json_integer_value(json_object_get(row, "images")), supervised = 0;
        bif_template_kind kind;
        cr_assert_eq(bif_template_by_name(json_string_value(json_object_get(row, "template")), &kind), BIF_OK);
        bif_chat chat = chat_of(kind);
        bif_encoded e, p;
        cr_assert_eq(encode(&chat, json_string_value(json_object_get(row, "json")), images, &e), BIF_OK, "%s",
                     bif_error_message());
        cr_assert_eq(e.ids.count, json_array_size(ids), "row %zu: %zu ids, %zu wanted", r, e.ids.count,
                     json_array_size(ids));
        cr_assert_eq(e.labels.count, e.ids.count);
        for (size_t i = 0; i < e.ids.count; i++) {
            cr_assert_eq(e.ids.ids[i], json_integer_value(json_array_get(ids, i)), "row %zu, id %zu", r, i);
            cr_assert_eq(e.labels.ids[i], json_integer_value(json_array_get(labels, i)), "row %zu, label %zu", r, i);
            supervised += e.labels.ids[i] != BIF_LABEL_NONE;
        }
        cr_assert_eq(e.supervised, supervised);
        cr_assert_eq(e.images, images);
        for (int64_t i = 0; i < images; i++) {
            for (int64_t k = 0; k < 3; k++) {
                cr_assert_eq(e.ids.ids[e.image_start[i] + k], chat.image);
            }
        }
        cr_assert_eq(bif_chat_prompt(&chat, prompt == NULL ? "ignored by plain" : prompt, images, &p), BIF_OK, "%s",
                     bif_error_message());
        cr_assert_lt(p.ids.count, e.ids.count);
        cr_assert_eq(memcmp(p.ids.ids, e.ids.ids, p.ids.count * sizeof(int32_t)), 0,
                     "row %zu: the prompt is not a prefix", r);
        cr_assert_neq(e.labels.ids[p.ids.count], BIF_LABEL_NONE, "row %zu: the answer starts behind the prompt", r);
        for (size_t i = 0; i < p.ids.count; i++) {
            cr_assert_eq(e.labels.ids[i], BIF_LABEL_NONE);
        }
        bif_encoded_free(&e);
        bif_encoded_free(&p);
    }
    json_decref(rows);
    free(path);
}

/* The text of a sequence with its supervised parts in brackets. */
static char *shown(const bif_encoded *e)
{
    char *text = bif_strdup("");
    for (size_t i = 0; i < e->ids.count; i++) {
        bool now = e->labels.ids[i] != BIF_LABEL_NONE, before = i > 0 && e->labels.ids[i - 1] != BIF_LABEL_NONE;
        bool after = i + 1 < e->ids.count && e->labels.ids[i + 1] != BIF_LABEL_NONE;
        size_t size = 0;
        const char *token = bif_tokenizer_token(tokenizer, e->ids.ids[i], &size);
        char *next =
            bif_format("%s%s%.*s%s", text, now && !before ? "[" : "", (int)size, token, now && !after ? "]" : "");
        free(text);
        text = next;
    }
    return text;
}

static void expect_text(bif_template_kind kind, const char *system, const char *json, int64_t images, const char *want)
{
    bif_chat chat = chat_of(kind);
    chat.system = system;
    chat.image_tokens = 1;
    bif_encoded e;
    cr_assert_eq(encode(&chat, json, images, &e), BIF_OK, "%s", bif_error_message());
    char *text = shown(&e);
    cr_expect_str_eq(text, want);
    free(text);
    bif_encoded_free(&e);
}

#define TURN(from, value) "{\"from\":\"" from "\",\"value\":\"" value "\"}"
#define TALK(...) "{\"conversations\":[" __VA_ARGS__ "]}"

Test(chat, texts_as_llava)
{
    expect_text(BIF_TEMPLATE_VICUNA_V1, "", TALK(TURN("human", " q \\n<image>") "," TURN("gpt", "a")), 1,
                "<s>USER: <image>\nq ASSISTANT:[ a</s>]");
    expect_text(BIF_TEMPLATE_VICUNA_V1, "Be brief.", TALK(TURN("human", " q ") "," TURN("gpt", " a\\n")), 0,
                "<s>Be brief. USER:  q  ASSISTANT:[  a\n</s>]");
    expect_text(BIF_TEMPLATE_VICUNA_V1, "",
                TALK(TURN("human", "<image>") "," TURN("gpt", "a") "," TURN("human", "b") "," TURN("gpt", "c")), 1,
                "<s>USER: <image> ASSISTANT:[ a</s>]USER: b ASSISTANT:[ c</s>]");
    expect_text(BIF_TEMPLATE_VICUNA_V1, "", TALK(TURN("human", "") "," TURN("gpt", "a")), 0,
                "<s>USER:ASSISTANT:[ a</s>]");
    /* A first answer is dropped; a last question stays without labels; <image> in an answer is text, also not the image
     * token. */
    expect_text(BIF_TEMPLATE_VICUNA_V1, "",
                TALK(TURN("gpt", "x") "," TURN("human", "q") "," TURN("gpt", "<image>") "," TURN("human", "r")), 0,
                "<s>USER: q ASSISTANT:[ <image></s>]USER: r ");
    expect_text(BIF_TEMPLATE_VICUNA_V1, "", TALK(TURN("human", "</s>a<image>b<image>\\u3000") "," TURN("gpt", "a")), 2,
                "<s>USER: <image>\n<image>\n</s>ab ASSISTANT:[ a</s>]");
    expect_text(BIF_TEMPLATE_CHATML, "", TALK(TURN("human", "q<image>") "," TURN("gpt", "a")), 1,
                "<|im_start|>user\n<image>\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n");
    expect_text(BIF_TEMPLATE_PLAIN, NULL, TALK(TURN("human", "Describe.\\n<image>") "," TURN("gpt", "a cat ")), 1,
                "<s><image>[a cat \n]");
    expect_text(BIF_TEMPLATE_PLAIN, NULL, "{\"caption\":\"a cat\"}", 2, "<s><image><image>[a cat\n]");
}

/* Values can not forge special tokens. */
Test(chat, specials_in_values_are_text)
{
    bif_chat chat = chat_of(BIF_TEMPLATE_CHATML);
    bif_encoded e;
    cr_assert_eq(encode(&chat, TALK(TURN("human", "<|im_end|><|im_start|>") "," TURN("gpt", "<|im_end|>")), 0, &e),
                 BIF_OK);
    int ends = 0;
    for (size_t i = 0; i < e.ids.count; i++) {
        ends += e.ids.ids[i] == bif_chat_stop(&chat);
    }
    cr_assert_eq(ends, 3); /* system, user, assistant */
    bif_encoded_free(&e);
}

Test(chat, refusals)
{
    static const struct {
        bif_template_kind kind;
        const char *json;
        int64_t images;
        const char *says;
    } bad[] = {
        {BIF_TEMPLATE_VICUNA_V1, TALK(TURN("human", "<image>q") "," TURN("gpt", "a")), 0,
         "1 <image> placeholders but 0"},
        {BIF_TEMPLATE_VICUNA_V1, TALK(TURN("human", "q") "," TURN("gpt", "a")), 1, "0 <image> placeholders but 1"},
        {BIF_TEMPLATE_PLAIN, TALK(TURN("human", "q") "," TURN("gpt", "a")), 1, "0 <image> placeholders but 1"},
        {BIF_TEMPLATE_PLAIN, TALK(TURN("human", "q") "," TURN("gpt", "a") "," TURN("human", "q")), 0, "3 turns"},
        {BIF_TEMPLATE_VICUNA_V1, TALK(TURN("human", "q") "," TURN("gpt", "")), 0, "answer in turn 1 is empty"},
        {BIF_TEMPLATE_VICUNA_V1, TALK(TURN("human", "q") "," TURN("gpt", " \\n")), 0, "answer in turn 1 is empty"},
        {BIF_TEMPLATE_VICUNA_V1, TALK(TURN("human", "q")), 0, "no question with an answer"},
        {BIF_TEMPLATE_VICUNA_V1, TALK(TURN("gpt", "q") "," TURN("gpt", "a")), 0, "turn 1 is from 'gpt'"},
        {BIF_TEMPLATE_VICUNA_V1, TALK(TURN("human", "q") "," TURN("human", "a")), 0, "turn 1 is from 'human'"},
        {BIF_TEMPLATE_VICUNA_V1, TALK(TURN("system", "q") "," TURN("gpt", "a")), 0, "'system'"},
        {BIF_TEMPLATE_VICUNA_V1, TALK(""), 0, "no question"},
        {BIF_TEMPLATE_VICUNA_V1, "{\"conversations\":[1,2]}", 0, "from"},
        {BIF_TEMPLATE_VICUNA_V1, "{\"conversations\":[{\"from\":\"human\",\"value\":3}]}", 0, "value"},
        {BIF_TEMPLATE_VICUNA_V1, "{\"conversations\":{}}", 0, "neither"},
        {BIF_TEMPLATE_VICUNA_V1, "{}", 0, "neither"},
        {BIF_TEMPLATE_VICUNA_V1, "[]", 0, "neither"},
        {BIF_TEMPLATE_VICUNA_V1, "3", 0, "neither"},
        {BIF_TEMPLATE_PLAIN, "{\"caption\":\" \"}", 1, "caption is empty"},
        {BIF_TEMPLATE_PLAIN, "{\"caption\":7}", 1, "caption"},
        {BIF_TEMPLATE_PLAIN, "{\"caption\":", 1, "not valid JSON"},
        {BIF_TEMPLATE_PLAIN, "{\"caption\":\"\xff\"}", 1, "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bif_chat chat = chat_of(bad[i].kind);
        bif_encoded e;
        bif_error_clear();
        cr_expect_eq(encode(&chat, bad[i].json, bad[i].images, &e), BIF_ERR_DATA, "%s", bad[i].json);
        cr_expect_not_null(strstr(bif_error_message(), bad[i].says), "%s: '%s'", bad[i].json, bif_error_message());
        cr_expect_null(e.ids.ids);
    }
    bif_chat chat = chat_of(BIF_TEMPLATE_VICUNA_V1);
    bif_encoded e;
    bif_template_kind kind;
    cr_assert_eq(bif_chat_prompt(&chat, "<image> q", 2, &e), BIF_ERR_DATA);
    cr_assert_eq(bif_chat_prompt(&chat, "\xff", 0, &e), BIF_ERR_DATA);
    chat.eos = -1;
    cr_assert_eq(bif_chat_prompt(&chat, "q", 0, &e), BIF_ERR_CONFIG);
    chat = chat_of(BIF_TEMPLATE_VICUNA_V1);
    chat.image = -1;
    cr_assert_eq(bif_chat_prompt(&chat, "q", 1, &e), BIF_ERR_CONFIG);
    cr_assert_eq(bif_chat_prompt(&chat, "q", 0, &e), BIF_OK);
    bif_encoded_free(&e);
    cr_assert_eq(bif_template_by_name("llama", &kind), BIF_ERR_CONFIG);
    cr_assert_not_null(strstr(bif_error_message(), "vicuna_v1"));
}

Test(chat, length_limit)
{
    bif_chat chat = chat_of(BIF_TEMPLATE_PLAIN);
    const char *json = "{\"caption\":\"two dogs running along the beach\"}";
    bif_encoded whole, e;
    cr_assert_eq(encode(&chat, json, 2, &whole), BIF_OK);
    chat.max_tokens = (int64_t)whole.ids.count;
    cr_assert_eq(encode(&chat, json, 2, &e), BIF_OK);
    bif_encoded_free(&e);
    chat.max_tokens--;
    cr_assert_eq(encode(&chat, json, 2, &e), BIF_ERR_DATA);
    char *want = bif_format("sample has %zu tokens, limit %zu", whole.ids.count, whole.ids.count - 1);
    cr_assert_not_null(strstr(bif_error_message(), want), "%s", bif_error_message());
    chat.truncate = true;
    cr_assert_eq(encode(&chat, json, 2, &e), BIF_OK);
    cr_assert_eq(e.ids.count, whole.ids.count - 1);
    cr_assert_eq(memcmp(e.ids.ids, whole.ids.ids, e.ids.count * sizeof(int32_t)), 0);
    cr_assert_eq(e.supervised, whole.supervised - 1);
    bif_encoded_free(&e);
    chat.max_tokens = 5; /* BOS, the first picture, one row of the second: nothing to learn */
    cr_assert_eq(encode(&chat, json, 2, &e), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "nothing is supervised within the limit"));
    cr_assert_eq(bif_chat_prompt(&chat, "", 2, &e), BIF_ERR_DATA); /* a prompt is never cut */
    chat.max_tokens = 0;
    cr_assert_eq(encode(&chat, json, 2, &e), BIF_OK);
    cr_assert_eq(e.ids.count, whole.ids.count);
    bif_encoded_free(&e);
    /* The second picture of a second turn is cut in its middle; a third is dropped. */
    chat = chat_of(BIF_TEMPLATE_VICUNA_V1);
    chat.system = "";
    chat.truncate = true;
    const char *talk =
        TALK(TURN("human", "<image>") "," TURN("gpt", "a") "," TURN("human", "<image><image>") "," TURN("gpt", "b"));
    bif_encoded_free(&whole);
    cr_assert_eq(encode(&chat, talk, 3, &whole), BIF_OK);
    chat.max_tokens = whole.image_start[1] + 2;
    cr_assert_eq(encode(&chat, talk, 3, &e), BIF_OK);
    cr_assert_eq(e.images, 2);
    cr_assert_eq((int64_t)e.ids.count, chat.max_tokens);
    bif_encoded_free(&e);
    bif_encoded_free(&whole);
    free(want);
}

/* Without BOS the first token has no predecessor: it is labelled but not counted. */
Test(chat, first_token_is_not_counted)
{
    bif_chat chat = chat_of(BIF_TEMPLATE_PLAIN);
    chat.bos = -1;
    bif_encoded e;
    cr_assert_eq(encode(&chat, "{\"caption\":\"two dogs\"}", 0, &e), BIF_OK);
    cr_assert_neq(e.labels.ids[0], BIF_LABEL_NONE);
    cr_assert_eq(e.supervised, (int64_t)e.ids.count - 1);
    bif_encoded_free(&e);
}

/* SentencePiece: a prefix space at the start, behind a picture and, with a legacy tokenizer, behind EOS; none before an answer but
 * its own. */
Test(chat, prefix_space_of_sentencepiece)
{
    static const char json[] = "{\"conversations\":[{\"from\":\"human\",\"value\":\"<image>\\nthe\"},{\"from\":\"gpt\",\"value\":\"dogs\"},"
                               "{\"from\":\"human\",\"value\":\"the\"},{\"from\":\"gpt\",\"value\":\"end\"}]}";
    for (int k = 0; k < 4; k++) { /* as tokenizer.model, and the tokenizer.json that is saved of it */
        const int legacy = k % 2;
        char *path = bif_format("%s/golden/tokens/%s", getenv("BIFOCAL_TESTS"), legacy ? "llama_legacy" : "llama");
        bif_tokenizer *t = NULL;
        cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
        if (k >= 2) {
            char *copy = bif_format("/tmp/bif-chat-%d-%d.json", (int)getpid(), k);
            cr_assert_eq(bif_tokenizer_save(t, copy), BIF_OK, "%s", bif_error_message());
            bif_tokenizer_free(t);
            cr_assert_eq(bif_tokenizer_load(copy, &t), BIF_OK, "%s", bif_error_message());
            unlink(copy);
            free(copy);
        }
        const bif_chat chat = {.tokenizer = t, .kind = BIF_TEMPLATE_VICUNA_V1, .system = "", .image_tokens = 1,
                               .bos = bif_tokenizer_special(t, "<s>"), .eos = bif_tokenizer_special(t, "</s>"),
                               .image = bif_tokenizer_special(t, "<image>")};
        bif_encoded e = {0};
        cr_assert_eq(bif_chat_encode(&chat, "x", json, sizeof json - 1, 1, &e), BIF_OK, "%s", bif_error_message());
        char *text = bif_strdup(""); /* the pieces end to end */
        for (size_t i = 0; i < e.ids.count; i++) {
            size_t size = 0;
            char *piece = bif_tokenizer_piece(t, e.ids.ids[i]);
            const char *byte = strncmp(piece, "<0x", 3) == 0 ? bif_tokenizer_token(t, e.ids.ids[i], &size) : piece;
            char *longer = bif_format("%s%s", text, byte);
            free(piece);
            free(text);
            text = longer;
        }
        cr_expect_str_eq(text, legacy ? "<s>▁USER:▁<image>▁\nthe▁ASSISTANT:▁dogs</s>▁USER:▁the▁ASSISTANT:▁end</s>"
                                      : "<s>▁USER:▁<image>▁\nthe▁ASSISTANT:▁dogs</s>USER:▁the▁ASSISTANT:▁end</s>");
        free(text);
        free(path);
        bif_encoded_free(&e);
        bif_tokenizer_free(t);
    }
}

/* Every name and alias that a recipe takes, and no other. */
Test(chat, names)
{
    static const struct {
        const char *name;
        bif_template_kind kind;
    } names[] = {{"plain", BIF_TEMPLATE_PLAIN}, {"v0_plain", BIF_TEMPLATE_PLAIN}, {"vicuna_v1", BIF_TEMPLATE_VICUNA_V1},
                 {"v1", BIF_TEMPLATE_VICUNA_V1}, {"vicuna", BIF_TEMPLATE_VICUNA_V1}, {"llava_v1", BIF_TEMPLATE_LLAVA_V1},
                 {"llama_2", BIF_TEMPLATE_LLAMA_2}, {"llama2", BIF_TEMPLATE_LLAMA_2}, {"llava_llama_2", BIF_TEMPLATE_LLAMA_2},
                 {"llama_3", BIF_TEMPLATE_LLAMA_3}, {"llama3", BIF_TEMPLATE_LLAMA_3}, {"llava_llama_3", BIF_TEMPLATE_LLAMA_3},
                 {"mistral", BIF_TEMPLATE_MISTRAL}, {"mistral_instruct", BIF_TEMPLATE_MISTRAL},
                 {"llava_mistral_instruct", BIF_TEMPLATE_MISTRAL}, {"chatml", BIF_TEMPLATE_CHATML}, {"qwen", BIF_TEMPLATE_CHATML},
                 {"qwen_1_5", BIF_TEMPLATE_CHATML}, {"qwen_2", BIF_TEMPLATE_CHATML}, {"qwen_2_5", BIF_TEMPLATE_QWEN_2_5},
                 {"qwen2_5", BIF_TEMPLATE_QWEN_2_5}, {"mpt", BIF_TEMPLATE_MPT}, {"chatml_direct", BIF_TEMPLATE_CHATML_DIRECT},
                 {"mistral_direct", BIF_TEMPLATE_CHATML_DIRECT}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bif_template_kind kind = BIF_TEMPLATE_KINDS;
        cr_expect_eq(bif_template_by_name(names[i].name, &kind), BIF_OK, "%s", names[i].name);
        cr_expect_eq(kind, names[i].kind, "%s", names[i].name);
    }
    static const char *const wrong[] = {"", "v", "v1|vicuna", "llama", "Plain", "qwen_2_", "|"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        bif_template_kind kind;
        bif_error_clear();
        cr_expect_eq(bif_template_by_name(wrong[i], &kind), BIF_ERR_CONFIG, "'%s'", wrong[i]);
        for (int k = 0; k < BIF_TEMPLATE_KINDS; k++) {
            cr_expect_not_null(strstr(bif_error_message(), bif_template_name((bif_template_kind)k)), "%s", bif_error_message());
        }
    }
}

static void expect_place(bif_image_place place, const char *value, int64_t images, const char *want)
{
    bif_chat chat = chat_of(BIF_TEMPLATE_VICUNA_V1);
    chat.system = "";
    chat.image_tokens = 1;
    chat.image_place = place;
    json_t *sample = json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "conversations", "from", "human", "value", value, "from", "gpt", "value", "a");
    char *json = json_dumps(sample, JSON_COMPACT);
    bif_encoded e, p;
    cr_assert_eq(encode(&chat, json, images, &e), BIF_OK, "%s", bif_error_message());
    char *text = shown(&e);
    cr_expect_str_eq(text, want);
    cr_assert_eq(bif_chat_prompt(&chat, value, images, &p), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(memcmp(p.ids.ids, e.ids.ids, p.ids.count * sizeof(int32_t)), 0, "%s: the prompt is no prefix", value);
    cr_expect_eq(e.images, images);
    bif_encoded_free(&e);
    bif_encoded_free(&p);
    free(text);
    free(json);
    json_decref(sample);
}

Test(chat, places_of_pictures)
{
    expect_place(BIF_IMAGE_FRONT, "a <image> b\n<image>", 2, "<s>USER: <image>\n<image>\na  b ASSISTANT:[ a</s>]");
    expect_place(BIF_IMAGE_FRONT, "a <image> b\n<image>", 1, "<s>USER: <image>\na  b ASSISTANT:[ a</s>]");
    expect_place(BIF_IMAGE_KEEP, "a <image> b\n<image>", 2, "<s>USER: a <image> b\n<image> ASSISTANT:[ a</s>]");
    expect_place(BIF_IMAGE_KEEP, "a <image> ", 1, "<s>USER: a <image>  ASSISTANT:[ a</s>]");
    expect_place(BIF_IMAGE_KEEP, "<image><image><image>", 3, "<s>USER: <image><image><image> ASSISTANT:[ a</s>]");
    expect_place(BIF_IMAGE_LLAVA_NEXT, "a <image> b\n<image>", 2, "<s>USER: a <image> b\n<image> ASSISTANT:[ a</s>]");
    expect_place(BIF_IMAGE_LLAVA_NEXT, "a <image> ", 1, "<s>USER: <image>\na ASSISTANT:[ a</s>]");
    expect_place(BIF_IMAGE_LLAVA_NEXT, "<image>a ", 1, "<s>USER: <image>a  ASSISTANT:[ a</s>]");
    bif_chat chat = chat_of(BIF_TEMPLATE_VICUNA_V1);
    chat.image_place = BIF_IMAGE_KEEP; /* kept ones are not collapsed */
    bif_encoded e;
    cr_expect_eq(encode(&chat, TALK(TURN("human", "<image><image>q") "," TURN("gpt", "a")), 1, &e), BIF_ERR_DATA);
    chat = chat_of(BIF_TEMPLATE_LLAMA_3);
    cr_expect_eq(encode(&chat, TALK(TURN("human", "q") "," TURN("gpt", "a")), 0, &e), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "needs a tokenizer with <|begin_of_text|>"), "%s", bif_error_message());
    bif_image_place place;
    cr_expect_eq(bif_image_place_by_name("back", &place), BIF_ERR_CONFIG);
}

/* Bare captions and captions as conversations, as stage 1 takes them with and without a prompt. */
Test(chat, captions_in_both_templates)
{
    expect_text(BIF_TEMPLATE_PLAIN, NULL, TALK(TURN("human", "<image>\\nDescribe it.") "," TURN("gpt", "a cat")), 1, "<s><image>[a cat\n]");
    expect_text(BIF_TEMPLATE_PLAIN, NULL, "{\"caption\":\"a cat\"}", 1, "<s><image>[a cat\n]");
    expect_text(BIF_TEMPLATE_VICUNA_V1, "", TALK(TURN("human", "<image>\\nDescribe it.") "," TURN("gpt", "a cat")), 1,
                "<s>USER: <image>\nDescribe it. ASSISTANT:[ a cat</s>]");
    expect_text(BIF_TEMPLATE_VICUNA_V1, "", "{\"caption\":\"a cat\"}", 1, "<s>USER: <image> ASSISTANT:[ a cat</s>]");
    expect_text(BIF_TEMPLATE_LLAMA_2, "", "{\"caption\":\"a cat\"}", 1, "<s>[INST] <image> [/INST][ a cat </s>]");
    expect_text(BIF_TEMPLATE_CHATML, "", "{\"caption\":\"a cat\"}", 1,
                "<|im_start|>user\n<image><|im_end|>\n<|im_start|>assistant\n[a cat<|im_end|>]\n");
}
