#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

size_t bif_utf8_decode(const char *text, size_t size, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)text;
    if (size == 0) {
        return 0;
    }
    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    size_t length;
    uint32_t value, least;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        length = 2, value = p[0] & 0x1Fu, least = 0x80;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        length = 3, value = p[0] & 0x0Fu, least = 0x800;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        length = 4, value = p[0] & 0x07u, least = 0x10000;
    } else {
        return 0;
    }
    if (size < length) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
        value = value << 6 | (p[i] & 0x3Fu);
    }
    if (value < least || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        return 0;
    }
    *code = value;
    return length;
}

size_t bif_utf8_check(const char *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        if (size - at >= 8) { /* eight ASCII bytes at once: most captions are ASCII */
            uint64_t word;
            memcpy(&word, text + at, 8);
            if ((word & 0x8080808080808080u) == 0) {
                at += 8;
                continue;
            }
        }
        uint32_t code;
        size_t length = bif_utf8_decode(text + at, size - at, &code);
        if (length == 0) {
            return at;
        }
        at += length;
    }
    return size;
}

/* How `byte` or the code point there is spelled, in at most 4 letters; 0: as it is. */
static int spell(const char *text, size_t step, uint32_t code, bool controls, bool keep_newlines, char out[5])
{
    const unsigned char byte = (unsigned char)*text;
    if (step == 0 || byte == 0) {
        return snprintf(out, 5, "\\x%02x", byte);
    }
    if (!controls || (code >= 0x20 && code < 0x7f) || code >= 0xa0 || (code == '\n' && keep_newlines)) {
        return 0;
    }
    const char *name = code == '\n' ? "\\n" : code == '\t' ? "\\t" : code == '\r' ? "\\r" : NULL;
    return name != NULL ? snprintf(out, 5, "%s", name) : snprintf(out, 5, "\\x%02x", (unsigned)code); /* of C1, U+0080 to U+009F, the code */
}

static char *copy_spelled(const char *text, size_t size, bool controls, bool keep_newlines)
{
    char *out = NULL, letters[5];
    for (int pass = 0; pass < 2; pass++) {
        size_t used = 0;
        for (size_t at = 0, step; at < size; at += step > 0 ? step : 1) {
            uint32_t code = 0;
            step = bif_utf8_decode(text + at, size - at, &code);
            const int spelled = spell(text + at, step, code, controls, keep_newlines, letters);
            const size_t length = spelled > 0 ? (size_t)spelled : step;
            if (out != NULL) {
                memcpy(out + used, spelled > 0 ? letters : text + at, length);
            }
            used += length;
        }
        if (out == NULL) {
            out = bif_malloc(used + 1);
            out[used] = '\0';
        }
    }
    return out;
}

char *bif_utf8_spelled(const char *text, size_t size)
{
    return copy_spelled(text, size, false, true);
}

char *bif_utf8_printable(const char *text, size_t size, bool keep_newlines)
{
    return copy_spelled(text, size, true, keep_newlines);
}

size_t bif_utf8_encode(uint32_t code, char out[4])
{
    BIF_BUG_IF(code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF), "U+%04X is not a scalar value", code);
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

size_t bif_utf8_mark(const char *text, size_t size)
{
    return size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}
