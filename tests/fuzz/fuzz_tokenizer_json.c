/* libFuzzer: any bytes as tokenizer.json, then a text through what could be read. Seeds: tests/golden/tokens/<name>/tokenizer.json. */
#include "data/tokenizer.h"
#include "fuzz.h"

static const char text[] = "  the dogs' \xea\xb0\x9c\xed\x95\xb4 <tool>don't\t\xe2\x96\x81 \xff\xc3 <s>12</s>\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bif_tokenizer *t = NULL;
    bif_ids ids = {0};
    char *back = NULL;
    size_t length = 0;
    if (bif_tokenizer_parse("fuzz", (const char *)data, size, &t) != BIF_OK) {
        fuzz_named("fuzz");
        return 0;
    }
    for (int place = BIF_TEXT_START; place <= BIF_TEXT_CONTINUES; place++) {
        if (bif_tokenizer_encode_at(t, text, sizeof text - 1, place != BIF_TEXT_START, (bif_text_place)place, &ids) != BIF_OK) {
            break;
        }
    }
    BIF_BUG_IF(bif_tokenizer_decode(t, ids.ids, ids.count, false, &back, &length) != BIF_OK, "an id that encoding gave does not decode");
    free(back);
    bif_ids_free(&ids);
    bif_tokenizer_free(t);
    return 0;
}
