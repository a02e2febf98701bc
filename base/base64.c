#include "base/base64.h"

#include <stdlib.h>

void bif_base64_encode(const void *bytes, size_t size, char *out)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = bytes;
    for (size_t at = 0; at < size; at += 3) {
        const size_t some = size - at < 3 ? size - at : 3;
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++) {
            bits = bits << 8 | (k < some ? from[at + k] : 0u);
        }
        *out++ = letters[bits >> 18];
        *out++ = letters[bits >> 12 & 63];
        *out++ = some > 1 ? letters[bits >> 6 & 63] : '=';
        *out++ = some > 2 ? letters[bits & 63] : '=';
    }
}

static int value_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

bif_status bif_base64_decode(const char *what, bif_span text, char **out, size_t *size)
{
    char *bytes = bif_malloc(text.size / 4 * 3 + 3);
    size_t used = 0;
    uint32_t bits = 0;
    int held = 0;
    for (size_t i = 0; i < text.size && text.text[i] != '='; i++) {
        const char c = text.text[i];
        const int value = value_of(c);
        if (value < 0 && c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            free(bytes);
            return bif_fail(BIF_ERR_DATA, "%s: byte %zu is no base64", what, i);
        }
        if (value >= 0) {
            bits = bits << 6 | (uint32_t)value;
            held += 6;
        }
        if (held >= 8) {
            held -= 8;
            bytes[used++] = (char)(bits >> held & 0xFF);
        }
    }
    *out = bytes;
    *size = used;
    return BIF_OK;
}
