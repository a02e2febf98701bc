/* libFuzzer: any bytes as the JSON of a sample, through every template and place of its pictures; the first byte says how many pictures it has and
 * where it is cut. */
#include "data/chat.h"
#include "fuzz.h"

static const bif_tokenizer *tokenizer(void)
{
    static bif_tokenizer *t;
    static const char *const text = "what is the colour of a small circle USER: ASSISTANT:";
    static const char *const specials[] = {"<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>",
                                           "<|end_header_id|>", "<|eot_id|>"};
    const size_t size = strlen(text);
    if (t == NULL) {
        BIF_BUG_IF(bif_tokenizer_train(&text, &size, 1, 290, specials, 9, &t) != BIF_OK, "%s", bif_error_message());
    }
    return t;
}

static void check(const bif_chat *chat, const char *json, size_t size, int64_t images)
{
    bif_encoded out = {0};
    if (bif_chat_encode(chat, "fuzz", json, size, images, &out) != BIF_OK) {
        fuzz_named("fuzz");
        return;
    }
    BIF_BUG_IF(out.ids.count != out.labels.count || out.ids.count > (size_t)chat->max_tokens || out.images > images, "a wrong sample");
    for (size_t i = 0; i < out.ids.count; i++) {
        const int32_t id = out.ids.ids[i], label = out.labels.ids[i];
        BIF_BUG_IF(id < 0 || id >= bif_tokenizer_vocab(chat->tokenizer) || (label != BIF_LABEL_NONE && label != id), "a wrong label");
    }
    for (int64_t i = 0; i < out.images; i++) {
        BIF_BUG_IF(out.image_start[i] < 0 || out.image_start[i] >= (int64_t)out.ids.count, "a picture outside of its sample");
        BIF_BUG_IF(out.ids.ids[out.image_start[i]] != chat->image, "a picture where there is none");
    }
    bif_encoded_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bif_tokenizer *t = tokenizer();
    const unsigned first = size > 0 ? data[0] : 0;
    for (int kind = 0; size > 0 && kind < BIF_TEMPLATE_KINDS; kind++) {
        const bif_chat chat = {.tokenizer = t, .kind = (bif_template_kind)kind, .image_place = (bif_image_place)((first >> 6) % 3),
                               .bos = bif_tokenizer_special(t, "<s>"), .eos = bif_tokenizer_special(t, "</s>"),
                               .image = bif_tokenizer_special(t, "<image>"), .image_tokens = 5,
                               .max_tokens = (first & 4) != 0 ? 1 + (first >> 3) : 4096, .truncate = (first & 8) != 0};
        check(&chat, (const char *)data + 1, size - 1, first & 3);
    }
    return 0;
}
