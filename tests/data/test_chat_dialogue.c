/* Prompts in the course of a conversation are the beginning of what training makes of it, for every template and place of pictures, under a
 * tokenizer of bytes and one with SentencePiece's spaces. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/chat.h"

typedef struct {
    const char *values[7]; /* question, answer, ... */
    int64_t images;
} talk;

static const talk talks[] = {
    {{"<image>\nwhat color is it?", "red", "are you sure?", "Yes, it is  red.", "and this one?", "blue"}, 1},
    {{"hello", "hi", "<image>\nlook", " a circle ", "<image>\n<image>\nand these?\n", "two\nsquares"}, 3},
    {{"<image>", "한국어 caption", "", "fine", "in the <image> middle", "ok </s> <|im_end|>"}, 2},
    {{" spaces around ", "\nlines\n", "USER: ASSISTANT: [/INST]", "no", "  ", "end"}, 0},
};

static json_t *record(const talk *t, size_t turns)
{
    json_t *list = json_array();
    for (size_t i = 0; i < turns; i++) {
        json_array_append_new(list, json_pack("{s:s,s:s}", "from", i % 2 == 0 ? "human" : "gpt", "value", t->values[i]));
    }
    return json_pack("{s:o}", "conversations", list);
}

static int64_t images_of(const talk *t, size_t turns)
{
    int64_t count = 0;
    for (size_t i = 0; i < turns; i += 2) {
        for (const char *p = t->values[i]; (p = strstr(p, "<image>")) != NULL; p++) {
            count++;
        }
    }
    return count;
}

static void check(const bif_chat *chat, const talk *t, size_t questions)
{
    const size_t turns = 2 * questions;
    json_t *json = record(t, turns);
    char *text = json_dumps(json, 0);
    bif_encoded whole, prompt;
    cr_assert_eq(bif_chat_encode(chat, "sample", text, strlen(text), images_of(t, turns), &whole), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_chat_dialogue(chat, t->values, turns - 1, images_of(t, turns - 1), &prompt), BIF_OK, "%s", bif_error_message());
    const size_t n = prompt.ids.count;
    cr_assert_lt(n, whole.ids.count);
    cr_assert_eq(memcmp(prompt.ids.ids, whole.ids.ids, n * sizeof *prompt.ids.ids), 0, "%s, %zu questions: no prefix",
                 bif_template_name(chat->kind), questions);
    cr_assert_eq(prompt.images, whole.images);
    for (int64_t i = 0; i < prompt.images; i++) {
        cr_assert_eq(prompt.image_start[i], whole.image_start[i]);
    }
    size_t last = whole.ids.count; /* the last answer begins behind it, after the last id that is not supervised (but what closes a turn) */
    while (last > n && whole.labels.ids[last - 1] == BIF_LABEL_NONE) {
        last--;
    }
    for (size_t i = n; i < last; i++) {
        cr_assert_neq(whole.labels.ids[i], BIF_LABEL_NONE, "%s: id %zu of an answer", bif_template_name(chat->kind), i);
    }
    cr_assert(n == 0 || whole.labels.ids[n - 1] == BIF_LABEL_NONE);
    bif_encoded_free(&whole);
    bif_encoded_free(&prompt);
    free(text);
    json_decref(json);
}

static int check_all(const bif_tokenizer *tokenizer, const char *bos, const char *eos, int32_t image)
{
    int checked = 0;
    for (int kind = 0; kind < BIF_TEMPLATE_KINDS; kind++) {
        for (int place = 0; place < 3; place++) {
            const bif_chat chat = {.tokenizer = tokenizer,
                                   .kind = (bif_template_kind)kind,
                                   .image_place = (bif_image_place)place,
                                   .image = image,
                                   .bos = bif_tokenizer_special(tokenizer, bos),
                                   .eos = bif_tokenizer_special(tokenizer, eos),
                                   .image_tokens = 3,
                                   .system = kind % 2 == 0 ? NULL : "Be brief.",
                                   .max_tokens = 4096};
            bif_encoded probe;
            if (bif_chat_prompt(&chat, "x", 0, &probe) != BIF_OK) {
                continue; /* its special tokens are not this tokenizer's */
            }
            bif_encoded_free(&probe);
            for (size_t t = 0; t < sizeof talks / sizeof *talks; t++) {
                for (size_t questions = 1; questions <= (kind == BIF_TEMPLATE_PLAIN ? 1 : 3); questions++) {
                    check(&chat, &talks[t], questions);
                    checked++;
                }
            }
        }
    }
    return checked;
}

Test(chat_dialogue, is_the_beginning_of_training)
{
    static const char *const specials[] = {
        "<s>",       "</s>", "<image>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>"};
    static const char text[] = "what is the colour of a small circle USER: ASSISTANT: USER: ASSISTANT: red blue";
    const size_t size = strlen(text);
    const char *const texts[] = {text};
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_tokenizer_train(texts, &size, 1, 290, specials, 9, &t), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(check_all(t, "<s>", "</s>", bif_tokenizer_special(t, "<image>")), (BIF_TEMPLATE_KINDS - 1) * 3 * 4 * 3 + 3 * 4);
    bif_tokenizer_free(t);
}

Test(chat_dialogue, with_sentencepiece)
{
    char *path = bif_format("%s/golden/tokens/llama", getenv("BIFOCAL_TESTS"));
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(check_all(t, "<s>", "</s>", -200), 4 * 3 * 4 * 3 + 3 * 4); /* vicuna_v1, llava_v1, llama_2, mistral; plain */
    bif_tokenizer_free(t);
    free(path);
}

Test(chat_dialogue, what_closes_an_answer_is_not_said)
{
    static const struct {
        bif_template_kind kind;
        const char *text;
        size_t size;
    } cases[] = {
        {BIF_TEMPLATE_LLAMA_2, "red ", 3}, {BIF_TEMPLATE_MISTRAL, "red  ", 4},    {BIF_TEMPLATE_LLAMA_2, "red", 3},
        {BIF_TEMPLATE_LLAMA_2, "", 0},     {BIF_TEMPLATE_PLAIN, "a circle\n", 8}, {BIF_TEMPLATE_VICUNA_V1, "red ", 4},
        {BIF_TEMPLATE_CHATML, "red\n", 4}, {BIF_TEMPLATE_LLAMA_3, "a<b ", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(bif_chat_said(&(bif_chat){.kind = cases[i].kind}, cases[i].text), cases[i].size, "%zu", i);
    }
}

Test(chat_dialogue, refusals)
{
    char *path = bif_format("%s/golden/tokenizer/ours.json", getenv("BIFOCAL_TESTS"));
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
    bif_chat chat = {.tokenizer = t,
                     .kind = BIF_TEMPLATE_VICUNA_V1,
                     .bos = bif_tokenizer_special(t, "<s>"),
                     .eos = bif_tokenizer_special(t, "</s>"),
                     .image = bif_tokenizer_special(t, "<image>"),
                     .image_tokens = 3,
                     .max_tokens = 40};
    bif_encoded e = {0};
    cr_expect_eq(bif_chat_dialogue(&chat, (const char *const[]){"<image>\nwhat?"}, 1, 2, &e),
                 BIF_ERR_DATA); /* one placeholder, two pictures */
    cr_expect_eq(bif_chat_dialogue(&chat, (const char *const[]){"a\xFFz"}, 1, 0, &e), BIF_ERR_DATA);
    cr_expect_eq(
        bif_chat_dialogue(&chat, (const char *const[]){"more than forty tokens of text in one question of a talk, surely?"}, 1, 0, &e),
        BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "limit 40") != NULL, "%s", bif_error_message());
    chat.kind = BIF_TEMPLATE_PLAIN;
    cr_expect_eq(bif_chat_dialogue(&chat, (const char *const[]){"a", "b", "c"}, 3, 0, &e), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "one question") != NULL, "%s", bif_error_message());
    chat.kind = BIF_TEMPLATE_VICUNA_V1;
    chat.system = "";
    cr_expect_eq(bif_chat_dialogue(&chat, (const char *const[]){"a", "", "c"}, 3, 0, &e), BIF_OK, "%s",
                 bif_error_message()); /* nothing was said */
    bif_encoded_free(&e);
    bif_tokenizer_free(t);
    free(path);
}
