/* What SiglipTokenizer does to a text before SentencePiece sees it. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

#define MARK 0x2581u

typedef struct {
    uint32_t code; /* of a byte that is not UTF-8: the byte */
    bool valid;
} character;

/* Unicode's Cased and Case_Ignorable, but for a few symbols. */
static bool is_cased(uint32_t code)
{
    const int category = utf8proc_category((utf8proc_int32_t)code);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT || code == 0xaa ||
           code == 0xba || (code >= 0x2160 && code <= 0x217f) || (code >= 0x24b6 && code <= 0x24e9);
}

static bool is_ignorable(uint32_t code)
{
    static const uint32_t within_words[] = {0x27, 0x2e, 0x3a, 0xb7, 0x387, 0x55f, 0x5f4, 0x2018, 0x2019, 0x2024, 0x2027, 0xfe13, 0xfe52,
                                            0xfe55, 0xff07, 0xff0e, 0xff1a};
    const int category = utf8proc_category((utf8proc_int32_t)code);
    for (size_t i = 0; i < sizeof within_words / sizeof within_words[0]; i++) {
        if (code == within_words[i]) {
            return true;
        }
    }
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_ME || category == UTF8PROC_CATEGORY_CF ||
           category == UTF8PROC_CATEGORY_LM || category == UTF8PROC_CATEGORY_SK;
}

/* A capital sigma at the end of a word has a lower case of its own. */
static bool ends_word(const character *text, size_t count, size_t at)
{
    size_t before = at, after = at + 1;
    while (before > 0 && text[before - 1].valid && is_ignorable(text[before - 1].code)) {
        before--;
    }
    while (after < count && text[after].valid && is_ignorable(text[after].code)) {
        after++;
    }
    return before > 0 && text[before - 1].valid && is_cased(text[before - 1].code) &&
           !(after < count && text[after].valid && is_cased(text[after].code));
}

/* The lower case of text[at] as UTF-8, up to 4 bytes. */
static size_t lower(const character *text, size_t count, size_t at, char out[4])
{
    const uint32_t code = text[at].code;
    if (code == 0x130) {
        memcpy(out, "i\xcc\x87", 3);
        return 3;
    }
    if (code == 0x3a3) {
        return bif_utf8_encode(ends_word(text, count, at) ? 0x3c2 : 0x3c3, out);
    }
    return bif_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), out);
}

void bif_canonical(const char *text, size_t size, bool front, bool keep_case, char **out, size_t *out_size)
{
    character *code = bif_malloc((size + 1) * sizeof *code);
    char *result = bif_malloc(4 * size + 8);
    size_t count = 0, used = 0;
    for (size_t at = 0, step = 0; at < size; at += step) {
        character *c = &code[count++];
        step = bif_utf8_decode(text + at, size - at, &c->code);
        c->valid = step > 0;
        if (!c->valid) {
            c->code = (uint8_t)text[at];
            step = 1;
        }
    }
    if (front) {
        used = bif_utf8_encode(MARK, result);
    }
    bool space = false;
    for (size_t i = 0; i < count; i++) {
        const uint32_t c = code[i].code;
        if (code[i].valid && (c == MARK || bif_is_space(c) || (c >= 0x1c && c <= 0x1f))) { /* what Python takes for white space */
            space = true;
        } else if (!code[i].valid || c >= 0x80 || !ispunct((int)c)) {
            if (space && used > 0) {
                result[used++] = ' ';
            }
            if (!code[i].valid) {
                result[used++] = (char)c;
            } else {
                used += keep_case ? bif_utf8_encode(c, result + used) : lower(code, count, i, result + used);
            }
            space = false;
        }
    }
    free(code);
    *out = result;
    *out_size = used;
}
