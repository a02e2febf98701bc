#include "eval/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
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

size_t bif_text_characters(bif_span text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.size; i++) {
        count += ((unsigned char)text.text[i] & 0xC0) != 0x80;
    }
    return count;
}

/* SpecialCasing.txt: letters whose upper case is longer, as runs of code points. */
static const struct {
    uint16_t first, last;
    uint8_t size;
} long_uppers[] = {{0x00df, 0x00df, 2}, {0x0149, 0x0149, 2}, {0x01f0, 0x01f0, 2}, {0x0390, 0x0390, 3}, {0x03b0, 0x03b0, 3}, {0x0587, 0x0587, 2},
                   {0x1e96, 0x1e9a, 2}, {0x1f50, 0x1f50, 2}, {0x1f52, 0x1f52, 3}, {0x1f54, 0x1f54, 3}, {0x1f56, 0x1f56, 3}, {0x1f80, 0x1faf, 2},
                   {0x1fb2, 0x1fb4, 2}, {0x1fb6, 0x1fb6, 2}, {0x1fb7, 0x1fb7, 3}, {0x1fbc, 0x1fbc, 2}, {0x1fc2, 0x1fc4, 2}, {0x1fc6, 0x1fc6, 2},
                   {0x1fc7, 0x1fc7, 3}, {0x1fcc, 0x1fcc, 2}, {0x1fd2, 0x1fd3, 3}, {0x1fd6, 0x1fd6, 2}, {0x1fd7, 0x1fd7, 3}, {0x1fe2, 0x1fe3, 3},
                   {0x1fe4, 0x1fe4, 2}, {0x1fe6, 0x1fe6, 2}, {0x1fe7, 0x1fe7, 3}, {0x1ff2, 0x1ff4, 2}, {0x1ff6, 0x1ff6, 2}, {0x1ff7, 0x1ff7, 3},
                   {0x1ffc, 0x1ffc, 2}, {0xfb00, 0xfb02, 2}, {0xfb03, 0xfb04, 3}, {0xfb05, 0xfb06, 2}, {0xfb13, 0xfb17, 2}};

size_t bif_text_upper_size(bif_span text)
{
    size_t size = bif_text_characters(text);
    uint32_t code = 0;
    for (size_t at = 0, step; at < text.size; at += step > 0 ? step : 1) {
        step = bif_utf8_decode(text.text + at, text.size - at, &code);
        for (size_t i = 0; code >= 0x80 && i < sizeof long_uppers / sizeof *long_uppers; i++) {
            size += code >= long_uppers[i].first && code <= long_uppers[i].last ? long_uppers[i].size - 1u : 0u;
        }
    }
    return size;
}

static const char *digits_end(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9') {
        p++;
    }
    return p;
}

/* [+-] digits [. digits] or . digits, [e [+-] digits], or inf, infinity, nan in any case. */
static bool is_float(const char *p, const char *end)
{
    p += p < end && (*p == '+' || *p == '-');
    const size_t rest = (size_t)(end - p);
    if ((rest == 3 && (strncasecmp(p, "inf", 3) == 0 || strncasecmp(p, "nan", 3) == 0)) || (rest == 8 && strncasecmp(p, "infinity", 8) == 0)) {
        return true;
    }
    const char *whole = digits_end(p, end), *fraction = whole;
    bool any = whole > p;
    if (whole < end && *whole == '.') {
        fraction = digits_end(whole + 1, end);
        any = any || fraction > whole + 1;
    }
    if (any && fraction < end && (*fraction == 'e' || *fraction == 'E')) {
        const char *e = fraction + 1;
        e += e < end && (*e == '+' || *e == '-');
        fraction = digits_end(e, end);
        any = fraction > e;
    }
    return any && fraction == end;
}

bool bif_text_float(bif_span text, double *out)
{
    char plain[512];
    size_t size = 0;
    uint32_t code = 0;
    for (size_t at = 0, step; at < text.size; at += step) {
        step = bif_utf8_decode(text.text + at, text.size - at, &code);
        if (step == 0 || size + 1 >= sizeof plain) { /* longer than any number people write */
            return false;
        }
        char c = code < 0x80 ? (char)code : bif_text_is_space(code) ? ' ' : '?';
        if (code >= 0x80 && bif_text_is_digit(code)) { /* decimal digits come in runs of whole tens */
            uint32_t first = code;
            while (bif_text_is_digit(first - 1)) {
                first--;
            }
            c = (char)('0' + (code - first) % 10);
        }
        plain[size++] = c;
    }
    size_t from = 0, kept = 0;
    while (from < size && isspace((unsigned char)plain[from])) { /* of ASCII only what C calls white space: not U+001C */
        from++;
    }
    while (size > from && isspace((unsigned char)plain[size - 1])) {
        size--;
    }
    for (size_t i = from; i < size; i++) {
        const bool inside = plain[i] == '_' && i > from && i + 1 < size;
        const bool between = inside && isdigit((unsigned char)plain[i - 1]) && isdigit((unsigned char)plain[i + 1]);
        if (plain[i] == '_' && !between) {
            return false;
        }
        plain[kept] = plain[i];
        kept += !between;
    }
    plain[kept] = '\0';
    if (!is_float(plain, plain + kept)) {
        return false;
    }
    *out = strtod(plain, NULL);
    return true;
}
