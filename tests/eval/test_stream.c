/* What is shown of an answer while it is found: whole characters, and in the end exactly bif_answer_text. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "eval/stream.h"
#include "eval/text.h"

static void take(void *context, const char *text, size_t size)
{
    cr_assert_gt(size, 0);
    cr_assert_eq(bif_utf8_check(text, size), size, "half a character was shown");
    bif_text_add(context, text, size);
}

/* Streams ids; returns the most bytes that were held back at a time. */
static size_t stream(const bif_tokenizer *t, const int32_t *ids, size_t count)
{
    bif_text_buffer shown = {0};
    bif_stream *s = bif_stream_new(t, take, &shown);
    const bif_session session = {.tokenizer = (bif_tokenizer *)t};
    size_t held = 0;
    char *text = NULL;
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(bif_stream_id(s, ids[i]), BIF_OK, "%s", bif_error_message());
        const bif_ids so_far = {.ids = (int32_t *)ids, .count = i + 1};
        cr_assert_eq(bif_answer_text(&session, &so_far, &text), BIF_OK);
        held = strlen(text) - shown.size > held && strlen(text) > shown.size ? strlen(text) - shown.size : held;
        free(text);
    }
    cr_assert_eq(bif_stream_end(s), BIF_OK);
    const bif_ids all = {.ids = (int32_t *)ids, .count = count};
    cr_assert_eq(bif_answer_text(&session, &all, &text), BIF_OK);
    bif_text_add(&shown, "", 1);
    cr_assert_str_eq(shown.text, text);
    bif_text_free(&shown);
    bif_stream_free(s);
    free(text);
    return held;
}

static bif_tokenizer *load(const char *name)
{
    char *path = bif_format("%s/golden/%s", getenv("BIFOCAL_TESTS"), name);
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
    free(path);
    return t;
}

Test(stream, characters_of_several_tokens)
{
    static const char *const names[] = {"tokenizer/ours.json", "tokens/llama", "tokens/smollm2"};
    static const char text[] = " 이 그림은 \xF0\x9F\x98\x80 빨간색입니다. caf\xC3\xA9\n";
    for (size_t i = 0; i < 3; i++) {
        bif_tokenizer *t = load(names[i]);
        bif_ids ids = {0};
        cr_assert_eq(bif_tokenizer_encode(t, text, strlen(text), false, &ids), BIF_OK);
        cr_expect_leq(stream(t, ids.ids, ids.count), 9); /* an emoji less one byte: three replacements in bif_answer_text */
        bif_ids_free(&ids);
        bif_tokenizer_free(t);
    }
}

Test(stream, any_ids)
{
    static const char *const names[] = {"tokenizer/ours.json", "tokens/llama", "tokens/clip"};
    for (size_t i = 0; i < 3; i++) {
        bif_tokenizer *t = load(names[i]);
        for (uint64_t k = 0; k < 300; k++) {
            int32_t ids[40];
            for (uint32_t n = 0; n < 40; n++) { /* half of them single bytes, which are no characters mostly */
                const float u = bif_rng_uniform(1, BIF_RNG_TEST, k, n);
                ids[n] = (int32_t)(u * (float)(k % 2 == 0 ? bif_tokenizer_vocab(t) : 270));
                ids[n] = ids[n] < bif_tokenizer_vocab(t) ? ids[n] : 0;
            }
            stream(t, ids, 1 + k % 40);
        }
        bif_tokenizer_free(t);
    }
}
