#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "data/clean.h"
#include "data/html.h"
#include "data/tokenizer_internal.h"

enum { SEGMENT_MOST = 1000000, PASSES_MOST = 100 };

static const char *const names[] = {"none", "clip"};

bif_status bif_clean_by_name(const char *name, bif_clean *out)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (bif_clean)i;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_CONFIG, "'%s' is no way to clean captions; use none or clip", name);
}

const char *bif_clean_name(bif_clean clean)
{
    return names[clean];
}

static void push_utf8(bif_codes *out, const char *text, size_t size)
{
    uint32_t code = 0;
    for (size_t at = 0, step; at < size; at += step) {
        step = bif_utf8_decode(text + at, size - at, &code);
        BIF_BUG_IF(step == 0, "a text that was made valid is not UTF-8");
        bif_codes_push(out, code);
    }
}

static char *to_utf8(const bif_codes *text, size_t *size)
{
    char *out = bif_malloc(text->count * 4 + 1);
    *size = 0;
    for (size_t i = 0; i < text->count; i++) {
        *size += bif_utf8_encode(text->code[i], out + *size);
    }
    out[*size] = '\0';
    return out;
}

/* Appends text[0..size) in a normal form. */
static void push_normal(bif_codes *out, const char *text, size_t size, int flags)
{
    utf8proc_uint8_t *normal = NULL;
    const utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &normal,
                     (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE | flags));
    BIF_BUG_IF(length < 0, "utf8proc: %s", utf8proc_errmsg(length));
    push_utf8(out, (const char *)normal, (size_t)length);
    free(normal);
}

static const char *ligature(uint32_t code)
{
    static const struct {
        uint32_t code;
        const char *text;
    } table[] = {{0x132, "IJ"}, {0x133, "ij"}, {0x149, "'n"}, {0x1C4, "D\u017D"}, {0x1C5, "D\u017E"}, {0x1C6, "d\u017E"}, {0x1C7, "LJ"},
                 {0x1C8, "Lj"}, {0x1C9, "lj"}, {0x1CA, "NJ"}, {0x1CB, "Nj"}, {0x1CC, "nj"}, {0x1F1, "DZ"}, {0x1F2, "Dz"}, {0x1F3, "dz"},
                 {0xFB00, "ff"}, {0xFB01, "fi"}, {0xFB02, "fl"}, {0xFB03, "ffi"}, {0xFB04, "ffl"}, {0xFB05, "\u017Ft"}, {0xFB06, "st"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].code == code) {
            return table[i].text;
        }
    }
    return NULL;
}

/* ftfy's fixes that look at one character each, in its order: C1 controls, ligatures, width, quotes, line ends (but "\r\n"). */
static void push_fixed(bif_codes *out, uint32_t code)
{
    code = bif_windows_1252(code);
    const char *const letters = code < 0x132 ? NULL : ligature(code);
    if (letters != NULL) {
        push_utf8(out, letters, strlen(letters));
    } else if (code >= 0xFF01 && code <= 0xFFEF) {
        char bytes[4];
        push_normal(out, bytes, bif_utf8_encode(code, bytes), UTF8PROC_COMPAT);
    } else if (code == 0x3000) {
        bif_codes_push(out, ' ');
    } else if (code == 0x2BC || (code >= 0x2018 && code <= 0x201B)) {
        bif_codes_push(out, '\'');
    } else if (code >= 0x201C && code <= 0x201F) {
        bif_codes_push(out, '"');
    } else if (code == '\r' || code == 0x2028 || code == 0x2029) {
        bif_codes_push(out, '\n');
    } else {
        bif_codes_push(out, code);
    }
}

/* The length of a terminal's escape sequence at code[0..count): ESC [ digits and semicolons, a letter. */
static size_t escape_at(const uint32_t *code, size_t count)
{
    size_t at = 2;
    if (count < 3 || code[0] != 0x1B || code[1] != '[') {
        return 0;
    }
    while (at < count && (code[at] == ';' || utf8proc_category((utf8proc_int32_t)code[at]) == UTF8PROC_CATEGORY_ND)) {
        at++;
    }
    const uint32_t letter = at < count ? code[at] | 0x20 : 0;
    return letter >= 'a' && letter <= 'z' ? at + 1 : 0;
}

static bool is_control(uint32_t code)
{
    return code < 9 || code == 0xB || (code > 0xD && code < 0x20) || code == 0x7F || (code >= 0x206A && code <= 0x206F) || code == 0xFEFF ||
           (code >= 0xFFF9 && code <= 0xFFFC);
}

static void push_nfc(bif_codes *out, const bif_codes *text)
{
    size_t size;
    char *const bytes = to_utf8(text, &size);
    push_normal(out, bytes, size, 0);
    free(bytes);
}

/* One pass over text; the result is in text again. */
static void fix_once(bif_codes *text, bif_codes *next, bool unescape)
{
    next->count = 0;
    for (size_t i = 0; !unescape && i < text->count; i++) {
        bif_codes_push(next, text->code[i]);
    }
    if (unescape) {
        bif_html_unescape_whole(text, next);
    }
    text->count = 0;
    for (size_t i = 0; i < next->count; i++) {
        if (next->code[i] != '\r' || i + 1 == next->count || next->code[i + 1] != '\n') {
            push_fixed(text, next->code[i]);
        }
    }
    next->count = 0;
    for (size_t i = 0; i < text->count; i++) {
        const size_t escape = escape_at(text->code + i, text->count - i);
        if (escape > 0) {
            i += escape - 1;
        } else {
            bif_codes_push(next, text->code[i]);
        }
    }
    size_t kept = 0;
    bool ascii = true;
    for (size_t i = 0; i < next->count; i++) {
        if (!is_control(next->code[i])) {
            ascii = ascii && next->code[i] < 0x80;
            next->code[kept++] = next->code[i];
        }
    }
    next->count = kept;
    text->count = 0;
    if (ascii) {
        const bif_codes old = *text;
        *text = *next;
        *next = old;
    } else {
        push_nfc(text, next);
    }
}

static bool same(const bif_codes *a, const bif_codes *b)
{
    return a->count == b->count && (a->count == 0 || memcmp(a->code, b->code, a->count * sizeof *a->code) == 0);
}

static void push_all(bif_codes *out, const uint32_t *code, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bif_codes_push(out, code[i]);
    }
}

/* ftfy.fix_text without fix_encoding, appended. */
static bif_status fix_text(const bif_codes *text, bif_codes *out)
{
    bif_status st = BIF_OK;
    bif_codes now = {0}, next = {0}, before = {0};
    bool unescape = true;
    for (size_t at = 0, end; at < text->count; at = end) {
        now.count = 0;
        for (end = at; end < text->count && end - at < SEGMENT_MOST;) {
            unescape = unescape && text->code[end] != '<';
            if (text->code[end++] == '\n') {
                break;
            }
        }
        push_all(&now, text->code + at, end - at);
        int passes = 0;
        do {
            if (++passes > PASSES_MOST) {
                BIF_TRY(bif_fail(BIF_ERR_DATA, "the text holds HTML's references within references, more than %d deep", PASSES_MOST));
            }
            before.count = 0;
            push_all(&before, now.code, now.count);
            fix_once(&now, &next, unescape);
        } while (!same(&before, &now));
        push_all(out, now.code, now.count);
    }
done:
    free(now.code);
    free(next.code);
    free(before.code);
    return st;
}

/* What Python's str.isspace says. */
static bool is_space(uint32_t code)
{
    return (code >= 9 && code <= 0xD) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

static void push_collapsed(bif_codes *out, const bif_codes *text)
{
    bool space = false;
    for (size_t i = 0; i < text->count; i++) {
        if (is_space(text->code[i])) {
            space = true;
            continue;
        }
        if (space && out->count > 0) {
            bif_codes_push(out, ' ');
        }
        space = false;
        bif_codes_push(out, text->code[i]);
    }
}

/* A capital sigma at `at` ends a word: something cased stands before it, and nothing cased behind. */
static bool is_final(const bif_codes *text, size_t at)
{
    size_t before = at, behind = at + 1;
    while (before > 0 && bif_is_ignorable(text->code[before - 1])) {
        before--;
    }
    while (behind < text->count && bif_is_ignorable(text->code[behind])) {
        behind++;
    }
    return before > 0 && bif_is_cased(text->code[before - 1]) && (behind == text->count || !bif_is_cased(text->code[behind]));
}

static void push_lower(bif_codes *out, const bif_codes *text)
{
    for (size_t i = 0; i < text->count; i++) {
        const uint32_t code = text->code[i];
        if (code == 0x130) {
            bif_codes_push(out, 'i');
            bif_codes_push(out, 0x307);
        } else if (code == 0x3A3 && is_final(text, i)) {
            bif_codes_push(out, 0x3C2);
        } else {
            bif_codes_push(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
        }
    }
}

bif_status bif_clean_text(bif_clean clean, const char *text, size_t size, char **out, size_t *out_size)
{
    bif_status st = BIF_OK;
    bif_codes now = {0}, next = {0};
    char *valid = NULL;
    size_t valid_size = 0;
    if (clean == BIF_CLEAN_NONE) {
        *out = bif_malloc(size + 1);
        memcpy(*out, text, size);
        (*out)[size] = '\0';
        *out_size = size;
        return BIF_OK;
    }
    bif_replace_invalid(text, size, &valid, &valid_size);
    push_utf8(&now, valid, valid_size);
    BIF_TRY(fix_text(&now, &next));
    now.count = 0;
    bif_html_unescape(&next, &now);
    next.count = 0;
    bif_html_unescape(&now, &next);
    now.count = 0;
    push_collapsed(&now, &next);
    next.count = 0;
    push_lower(&next, &now);
    *out = to_utf8(&next, out_size);
done:
    free(valid);
    free(now.code);
    free(next.code);
    return st;
}
