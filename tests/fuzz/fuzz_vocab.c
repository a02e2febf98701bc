/* libFuzzer: vocab.json, a zero byte, merges.txt, a zero byte, tokenizer_config.json; then a text through what could be read. */
#include "data/tokenizer.h"
#include "fuzz.h"

static const char text[] = "  the dogs' \xea\xb0\x9c\xed\x95\xb4 don't\t\xe2\x96\x81 \xff\xc3 <|endoftext|>12\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const files[] = {"vocab.json", "merges.txt", "tokenizer_config.json"};
    bif_tokenizer *t = NULL;
    bif_ids ids = {0};
    char *back = NULL;
    size_t length = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const fuzz_part part = fuzz_next(&data, &size);
        if (i == 2 && part.size == 0) {
            char path[128];
            snprintf(path, sizeof path, "%s/%s", fuzz_folder(), files[i]);
            unlink(path);
        } else {
            fuzz_put(files[i], part.data, part.size);
        }
    }
    if (bif_tokenizer_load(fuzz_folder(), &t) != BIF_OK) {
        fuzz_named(fuzz_folder());
        return 0;
    }
    if (bif_tokenizer_encode(t, text, sizeof text - 1, true, &ids) == BIF_OK) {
        BIF_BUG_IF(bif_tokenizer_decode(t, ids.ids, ids.count, false, &back, &length) != BIF_OK, "an id that encoding gave does not decode");
    }
    free(back);
    bif_ids_free(&ids);
    bif_tokenizer_free(t);
    return 0;
}
