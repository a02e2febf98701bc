/* libFuzzer: any bytes as the JSON of a sample, through every template; the first byte says how many pictures it has and where it is cut. */
#include "data/chat.h"
#include "fuzz.h"

static const bif_tokenizer *tokenizer(void)
{
    static bif_tokenizer *t;
    static const char *const text = "what is the colour of a small circle USER: ASSISTANT:", *const specials[] = {"<s>", "</s>", "<image>", "<|im_start|>",
                                                                                                                "<|im_end|>"};
    const size_t size = strlen(text);
    if (t == NULL) {
        BIF_BUG_IF(bif_tokenizer_train(&text, &size, 1, 280, specials, 5, &t) != BIF_OK, "%s", bif_error_message());
    }
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bif_tokenizer *t = tokenizer();
    const unsigned first = size > 0 ? data[0] : 0;
    const int64_t images = first & 3;
    for (int kind = BIF_TEMPLATE_PLAIN; size > 0 && kind <= BIF_TEMPLATE_CHATML; kind++) {
        const bif_chat chat = {.tokenizer = t, .kind = (bif_template_kind)kind, .bos = bif_tokenizer_special(t, "<s>"),
                               .eos = bif_tokenizer_special(t, "</s>"), .image = bif_tokenizer_special(t, "<image>"), .image_tokens = 5,
                               .max_tokens = (first & 4) != 0 ? 1 + (first >> 3) : 4096, .truncate = (first & 8) != 0};
        bif_encoded out = {0};
        if (bif_chat_encode(&chat, "fuzz", (const char *)data + 1, size - 1, images, &out) == BIF_OK) {
            BIF_BUG_IF(out.ids.count != out.labels.count || out.ids.count > (size_t)chat.max_tokens || out.images > images, "a wrong sample");
            for (size_t i = 0; i < out.ids.count; i++) {
                const int32_t id = out.ids.ids[i], label = out.labels.ids[i];
                BIF_BUG_IF(id < 0 || id >= bif_tokenizer_vocab(t) || (label != BIF_LABEL_NONE && label != id), "a wrong label");
            }
            bif_encoded_free(&out);
        }
    }
    return 0;
}
