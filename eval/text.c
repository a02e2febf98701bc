#include "eval/text.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

void bif_text_clear(bif_text_buffer *buffer)
{
    buffer->size = 0;
}

void bif_text_free(bif_text_buffer *buffer)
{
    free(buffer->text);
    *buffer = (bif_text_buffer){0};
}

void bif_text_add(bif_text_buffer *buffer, const char *text, size_t size)
{
    if (buffer->size + size > buffer->capacity) {
        buffer->capacity = 2 * (buffer->size + size) + 64;
        buffer->text = bif_realloc(buffer->text, buffer->capacity, 1);
    }
    if (size > 0) {
        memcpy(buffer->text + buffer->size, text, size);
        buffer->size += size;
    }
}

bool bif_text_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool bif_text_is_digit(uint32_t code)
{
    return code < 0x80 ? code >= '0' && code <= '9' : utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_ND;
}

static bool is_cased(uint32_t code)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

/* Characters that do not part a word for the final sigma. */
static bool is_ignored(uint32_t code)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_LM ||
           c == UTF8PROC_CATEGORY_SK || code == '\'' || code == '.' || code == ':' || code == 0xb7 || code == 0x2018 || code == 0x2019;
}

/* A capital sigma at text[at] is final: a cased letter before it and none behind, in both cases beyond ignored characters. */
static bool sigma_is_final(bif_span text, size_t at, size_t step)
{
    uint32_t code = 0;
    bool before = false, behind = false;
    for (size_t i = 0, n; i < at && (n = bif_utf8_decode(text.text + i, at - i, &code)) > 0; i += n) {
        before = is_ignored(code) ? before : is_cased(code);
    }
    for (size_t i = at + step, n; i < text.size && (n = bif_utf8_decode(text.text + i, text.size - i, &code)) > 0; i += n) {
        if (!is_ignored(code)) {
            behind = is_cased(code);
            break;
        }
    }
    return before && !behind;
}

void bif_text_lower(bif_span text, bif_text_buffer *out)
{
    for (size_t at = 0; at < text.size;) {
        const unsigned char c = (unsigned char)text.text[at];
        char small[4];
        uint32_t code = c;
        if (c < 0x80) {
            small[0] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
            bif_text_add(out, small, 1);
            at++;
            continue;
        }
        const size_t step = bif_utf8_decode(text.text + at, text.size - at, &code);
        if (step == 0) { /* not UTF-8: kept */
            bif_text_add(out, text.text + at, 1);
            at++;
            continue;
        }
        if (code == 0x130) {
            bif_text_add(out, "i\xcc\x87", 3);
        } else {
            const uint32_t to = code == 0x3a3 && sigma_is_final(text, at, step) ? 0x3c2 : (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
            bif_text_add(out, small, bif_utf8_encode(to, small));
        }
        at += step;
    }
}

/* Length of the white space character at the front of a text, 0 if there is none. */
static size_t space_at(bif_span text)
{
    uint32_t code = 0;
    const size_t step = text.size == 0 ? 0 : (unsigned char)*text.text < 0x80 ? 1 : bif_utf8_decode(text.text, text.size, &code);
    return step > 0 && bif_text_is_space(step == 1 ? (unsigned char)*text.text : code) ? step : 0;
}

bif_span bif_text_strip(bif_span text)
{
    for (size_t step; (step = space_at(text)) > 0;) {
        text.text += step;
        text.size -= step;
    }
    while (text.size > 0) {
        size_t back = 1;
        while (back < text.size && back < 4 && ((unsigned char)text.text[text.size - back] & 0xC0) == 0x80) {
            back++;
        }
        const bif_span last = {text.text + text.size - back, back};
        if (space_at(last) != back) {
            break;
        }
        text.size -= back;
    }
    return text;
}

bool bif_text_word(bif_span *rest, bif_span *word)
{
    for (size_t step; (step = space_at(*rest)) > 0;) {
        rest->text += step;
        rest->size -= step;
    }
    *word = (bif_span){rest->text, 0};
    while (rest->size > 0 && space_at(*rest) == 0) {
        size_t step = 1;
        while (step < rest->size && ((unsigned char)rest->text[step] & 0xC0) == 0x80) {
            step++;
        }
        rest->text += step;
        rest->size -= step;
        word->size += step;
    }
    return word->size > 0;
}
