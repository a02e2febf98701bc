#include "base/json_scan.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/utf8.h"

#define DEPTH 64
#define BLOCK ((size_t)1 << 16)

typedef struct block { /* memory of decoded strings */
    struct block *next;
    size_t used, size;
    char bytes[];
} block;

struct bif_scan {
    char *where;
    const char *text, *at, *end, *value; /* value: where the last one began */
    void *map;
    size_t map_size;
    const char *counted; /* lines are counted up to here */
    int64_t line;
    int depth;
    char bracket[DEPTH];
    bool first[DEPTH];
    block *blocks;
};

bool bif_span_is(bif_span span, const char *text)
{
    return strlen(text) == span.size && memcmp(span.text, text, span.size) == 0;
}

bool bif_span_equal(bif_span a, bif_span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.text, b.text, a.size) == 0);
}

char *bif_span_copy(bif_span span)
{
    char *copy = bif_malloc(span.size + 1);
    if (span.size > 0) {
        memcpy(copy, span.text, span.size);
    }
    copy[span.size] = '\0';
    return copy;
}

bif_scan *bif_scan_text(const char *where, const char *text, size_t size)
{
    bif_scan *scan = bif_calloc(1, sizeof *scan);
    scan->where = bif_strdup(where);
    scan->text = scan->at = scan->value = scan->counted = text != NULL ? text : ""; /* an empty file has no mapping */
    scan->line = 1;
    scan->end = scan->text + size;
    return scan;
}

bif_status bif_scan_open(const char *path, bif_scan **out)
{
    bif_status st = BIF_OK;
    int fd = -1;
    size_t size = 0;
    void *map = NULL;
    BIF_TRY(bif_open_regular(path, &fd, &size));
    if (size > 0) {
        map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            BIF_TRY(bif_fail_errno(errno, "cannot map '%s'", path));
        }
        madvise(map, size, MADV_SEQUENTIAL);
    }
    const size_t mark = bif_utf8_mark(map, size);
    *out = bif_scan_text(path, mark > 0 ? (const char *)map + mark : map, size - mark);
    (*out)->map = map;
    (*out)->map_size = size;
done:
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

void bif_scan_close(bif_scan *scan)
{
    if (scan == NULL) {
        return;
    }
    while (scan->blocks != NULL) {
        block *next = scan->blocks->next;
        free(scan->blocks);
        scan->blocks = next;
    }
    if (scan->map != NULL) {
        munmap(scan->map, scan->map_size);
    }
    free(scan->where);
    free(scan);
}

bif_span bif_scan_whole(const bif_scan *scan)
{
    return (bif_span){scan->text != NULL ? scan->text : "", (size_t)(scan->end - scan->text)};
}

static int64_t line_of(const bif_scan *scan, const char *at, int64_t *column)
{
    int64_t line = 1;
    const char *begin = scan->text;
    for (const char *p = scan->text; p < at && (p = memchr(p, '\n', (size_t)(at - p))) != NULL; p++) {
        line++;
        begin = p + 1;
    }
    *column = at - begin + 1;
    return line;
}

int64_t bif_scan_line(bif_scan *scan)
{
    for (const char *p; scan->counted < scan->at && (p = memchr(scan->counted, '\n', (size_t)(scan->at - scan->counted))) != NULL;) {
        scan->counted = p + 1;
        scan->line++;
    }
    scan->counted = scan->counted > scan->at ? scan->counted : scan->at;
    return scan->line;
}

static bif_status fail_at(const bif_scan *scan, const char *at, const char *what)
{
    int64_t column = 0;
    const int64_t line = line_of(scan, at, &column);
    return bif_fail(BIF_ERR_DATA, "%s:%lld:%lld: %s", scan->where, (long long)line, (long long)column, what);
}

bif_status bif_scan_fail(bif_scan *scan, const char *format, ...)
{
    char what[512];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    return fail_at(scan, scan->value, what);
}

static void space(bif_scan *scan)
{
    while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t')) {
        scan->at++;
    }
}

char bif_scan_peek(bif_scan *scan)
{
    space(scan);
    scan->value = scan->at;
    return scan->at < scan->end ? *scan->at : '\0';
}

static bif_status wanted(bif_scan *scan, const char *what)
{
    const char c = bif_scan_peek(scan);
    return c == '\0' ? bif_scan_fail(scan, "the text ends where %s should be", what)
                     : bif_scan_fail(scan, "%s is wanted here, not '%c'", what, c >= ' ' && c <= '~' ? c : '?');
}

bif_status bif_scan_enter(bif_scan *scan, char bracket)
{
    if (bif_scan_peek(scan) != bracket) {
        return wanted(scan, bracket == '{' ? "an object" : "an array");
    }
    if (scan->depth == DEPTH) {
        return bif_scan_fail(scan, "nested deeper than %d", DEPTH);
    }
    scan->bracket[scan->depth] = bracket;
    scan->first[scan->depth++] = true;
    scan->at++;
    return BIF_OK;
}

/* The comma before the next entry of the innermost container, or its end. */
static bif_status next_entry(bif_scan *scan, char bracket, bool *more)
{
    BIF_BUG_IF(scan->depth < 1 || scan->bracket[scan->depth - 1] != bracket, "not inside of a %c", bracket);
    bool *first = &scan->first[scan->depth - 1];
    const char close = bracket == '{' ? '}' : ']', c = bif_scan_peek(scan);
    if (c == close) {
        scan->at++;
        scan->depth--;
        *more = false;
        return BIF_OK;
    }
    if (!*first) {
        if (c != ',') {
            return wanted(scan, bracket == '{' ? "a comma or }" : "a comma or ]");
        }
        scan->at++;
        if (bif_scan_peek(scan) == close) {
            return bif_scan_fail(scan, "a comma before %c", close);
        }
    }
    *first = false;
    *more = true;
    return BIF_OK;
}

bif_status bif_scan_more(bif_scan *scan, bool *more)
{
    return next_entry(scan, '[', more);
}

bif_status bif_scan_key(bif_scan *scan, bif_span *name, bool *more)
{
    bif_status st = BIF_OK;
    BIF_TRY(next_entry(scan, '{', more));
    if (*more) {
        BIF_TRY(bif_scan_string(scan, name));
        if (bif_scan_peek(scan) != ':') {
            BIF_TRY(wanted(scan, "a colon"));
        }
        scan->at++;
        bif_scan_peek(scan);
    }
done:
    return st;
}

static int hex4(const char *p, const char *end)
{
    int value = 0;
    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

static char *take(bif_scan *scan, size_t size)
{
    if (scan->blocks == NULL || scan->blocks->size - scan->blocks->used < size) {
        const size_t want = size > BLOCK ? size : BLOCK;
        block *b = bif_malloc(sizeof *b + want);
        *b = (block){.next = scan->blocks, .size = want};
        scan->blocks = b;
    }
    char *memory = scan->blocks->bytes + scan->blocks->used;
    scan->blocks->used += size;
    return memory;
}

/* \uXXXX at p (behind the u); advances p and appends. */
static bif_status unicode(bif_scan *scan, const char **p, char **to)
{
    int code = hex4(*p, scan->end);
    if (code < 0) {
        return fail_at(scan, *p, "\\u without four hex digits");
    }
    *p += 4;
    uint32_t scalar = (uint32_t)code;
    if (code >= 0xD800 && code <= 0xDFFF) {
        const int low = code <= 0xDBFF && scan->end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' ? hex4(*p + 2, scan->end) : -1;
        if (low < 0xDC00 || low > 0xDFFF) {
            return fail_at(scan, *p, "half of a surrogate pair");
        }
        scalar = 0x10000u + ((scalar - 0xD800u) << 10) + ((uint32_t)low - 0xDC00u);
        *p += 6;
    }
    if (scalar == 0) {
        return fail_at(scan, *p, "\\u0000 in a text");
    }
    *to += bif_utf8_encode(scalar, *to);
    return BIF_OK;
}

/* Decodes the body [from, to) of a string; escapes only shrink. */
static bif_status unescape(bif_scan *scan, const char *from, const char *to, bif_span *out)
{
    static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    bif_status st = BIF_OK;
    char *memory = take(scan, (size_t)(to - from)), *write = memory;
    for (const char *p = from; p < to;) {
        if (*p != '\\') {
            *write++ = *p++;
            continue;
        }
        const char *name = strchr(names, p[1]);
        if (p[1] == 'u') {
            p += 2;
            BIF_TRY(unicode(scan, &p, &write));
        } else if (name != NULL && p[1] != '\0') {
            *write++ = means[name - names];
            p += 2;
        } else {
            BIF_TRY(fail_at(scan, p, "an escape that JSON does not have"));
        }
    }
    *out = (bif_span){memory, (size_t)(write - memory)};
done:
    return st;
}

bif_status bif_scan_string(bif_scan *scan, bif_span *out)
{
    if (bif_scan_peek(scan) != '"') {
        return wanted(scan, "a text in quotes");
    }
    const char *from = scan->at + 1, *p = from;
    bool escapes = false, ascii = true;
    for (; p < scan->end && *p != '"'; p++) {
        if (*p == '\\') {
            escapes = true;
            p++;
        } else if ((unsigned char)*p < 0x20) {
            return fail_at(scan, p, "a control character in a text");
        } else {
            ascii = ascii && (unsigned char)*p < 0x80;
        }
    }
    if (p >= scan->end) {
        return bif_scan_fail(scan, "a text without its closing quote");
    }
    const size_t size = (size_t)(p - from), valid = ascii ? size : bif_utf8_check(from, size);
    if (valid < size) {
        return fail_at(scan, from + valid, "not UTF-8");
    }
    scan->at = p + 1;
    *out = (bif_span){from, size};
    return escapes ? unescape(scan, from, p, out) : BIF_OK;
}

static bool digit(const bif_scan *scan, const char *p)
{
    return p < scan->end && *p >= '0' && *p <= '9';
}

/* The characters of a number, by JSON's grammar. */
static bif_status number(bif_scan *scan, bif_span *out, bool *whole)
{
    bif_scan_peek(scan);
    const char *p = scan->at;
    p += p < scan->end && *p == '-';
    if (!digit(scan, p)) {
        return wanted(scan, "a number");
    }
    if (*p == '0') {
        p++;
    } else {
        while (digit(scan, p)) {
            p++;
        }
    }
    *whole = true;
    if (p < scan->end && *p == '.') {
        *whole = false;
        if (!digit(scan, ++p)) {
            return bif_scan_fail(scan, "a number that ends with its point");
        }
        while (digit(scan, p)) {
            p++;
        }
    }
    if (p < scan->end && (*p == 'e' || *p == 'E')) {
        *whole = false;
        p++;
        p += p < scan->end && (*p == '+' || *p == '-');
        if (!digit(scan, p)) {
            return bif_scan_fail(scan, "a number without digits in its exponent");
        }
        while (digit(scan, p)) {
            p++;
        }
    }
    *out = (bif_span){scan->at, (size_t)(p - scan->at)};
    scan->at = p;
    return BIF_OK;
}

bif_status bif_scan_i64(bif_scan *scan, int64_t *out)
{
    bif_status st = BIF_OK;
    bif_span span;
    bool whole = false;
    char text[32];
    BIF_TRY(number(scan, &span, &whole));
    errno = 0;
    if (whole && span.size < sizeof text) {
        memcpy(text, span.text, span.size);
        text[span.size] = '\0';
        *out = strtoll(text, NULL, 10);
    }
    if (!whole || span.size >= sizeof text || errno != 0) {
        st = bif_scan_fail(scan, "a whole number of 64 bits is wanted");
    }
done:
    return st;
}

bif_status bif_scan_f64(bif_scan *scan, double *out)
{
    bif_status st = BIF_OK;
    bif_span span;
    bool whole = false;
    BIF_TRY(number(scan, &span, &whole));
    char *text = bif_span_copy(span);
    *out = strtod(text, NULL);
    free(text);
    if (!isfinite(*out)) {
        st = bif_scan_fail(scan, "a number beyond the range of doubles");
    }
done:
    return st;
}

/* true, false or null. */
static bool literal(bif_scan *scan, const char *name)
{
    const size_t size = strlen(name);
    if ((size_t)(scan->end - scan->at) < size || memcmp(scan->at, name, size) != 0) {
        return false;
    }
    scan->at += size;
    return true;
}

bif_status bif_scan_bool(bif_scan *scan, bool *out)
{
    bif_scan_peek(scan);
    *out = literal(scan, "true");
    return *out || literal(scan, "false") ? BIF_OK : wanted(scan, "true or false");
}

bif_status bif_scan_word(bif_scan *scan, bif_span *out)
{
    bool whole = false;
    return bif_scan_peek(scan) == '"' ? bif_scan_string(scan, out) : number(scan, out, &whole);
}

bif_status bif_scan_skip(bif_scan *scan)
{
    bif_status st = BIF_OK;
    bif_span span;
    bool more = false, whole = false;
    const char c = bif_scan_peek(scan);
    if (c == '{') {
        BIF_TRY(bif_scan_enter(scan, '{'));
        while ((st = bif_scan_key(scan, &span, &more)) == BIF_OK && more) {
            BIF_TRY(bif_scan_skip(scan));
        }
    } else if (c == '[') {
        BIF_TRY(bif_scan_enter(scan, '['));
        while ((st = bif_scan_more(scan, &more)) == BIF_OK && more) {
            BIF_TRY(bif_scan_skip(scan));
        }
    } else if (c == '"') {
        st = bif_scan_string(scan, &span);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        st = number(scan, &span, &whole);
    } else if (!literal(scan, "true") && !literal(scan, "false") && !literal(scan, "null")) {
        st = wanted(scan, "a value");
    }
done:
    return st;
}

bif_status bif_scan_end(bif_scan *scan)
{
    const bool end = bif_scan_peek(scan) == '\0' && scan->at == scan->end;
    return end ? BIF_OK : bif_scan_fail(scan, "something follows the end of the JSON text");
}
