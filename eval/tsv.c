#include "eval/tsv.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { COLUMNS = 256 };

bool bif_tsv_is_nothing(bif_span field)
{
    static const char *const names[] = {"",     "#N/A", "#N/A N/A", "#NA",  "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
                                        "<NA>", "N/A",  "NA",       "NULL", "NaN",     "None",     "n/a",  "nan",  "null"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (bif_span_is(field, names[i])) {
            return true;
        }
    }
    return false;
}

/* The rest of a field that begins with a quote; *at behind the opening one. */
static bif_span unquoted(bif_tsv *t)
{
    const char *from = t->at, *p = from;
    bool inside = true, plain = true;
    while (p < t->end && (inside || (*p != '\t' && *p != '\n' && *p != '\r'))) {
        if (inside && *p == '"') {
            if (p + 1 < t->end && p[1] == '"') {
                plain = false;
                p++;
            } else {
                inside = false;
                plain = plain && (p + 1 == t->end || p[1] == '\t' || p[1] == '\n' || p[1] == '\r');
            }
        }
        t->line += *p == '\n';
        p++;
    }
    t->at = p;
    if (plain) {
        return (bif_span){from, (size_t)(p - from) - !inside};
    }
    char *text = bif_score_take(t->set, (size_t)(p - from) + 1), *to = text;
    inside = true;
    for (const char *q = from; q < p; q++) {
        if (inside && *q == '"') {
            if (q + 1 < p && q[1] == '"') {
                *to++ = *q++;
            } else {
                inside = false;
            }
        } else {
            *to++ = *q;
        }
    }
    return (bif_span){text, (size_t)(to - text)};
}

/* One field and what ends it: '\t', or '\n' for the end of the row. */
static char field(bif_tsv *t, bif_span *out)
{
    if (t->at < t->end && *t->at == '"') {
        t->at++;
        *out = unquoted(t);
    } else {
        const char *from = t->at, *p = from;
        while (p < t->end && *p != '\t' && *p != '\n' && *p != '\r') {
            p++;
        }
        *out = (bif_span){from, (size_t)(p - from)};
        t->at = p;
    }
    if (t->at < t->end && *t->at == '\t') {
        t->at++;
        return '\t';
    }
    if (t->at < t->end) {
        t->line++;
        t->at += *t->at == '\r' && t->at + 1 < t->end && t->at[1] == '\n' ? 2 : 1;
    }
    return '\n';
}

static bif_status read_row(bif_tsv *t, bif_span *fields, int most, int *count)
{
    bif_status st = BIF_OK;
    char end = '\t';
    *count = 0;
    while (t->at < t->end && (*t->at == '\n' || *t->at == '\r')) {
        t->line += *t->at == '\n' || t->at + 1 == t->end || t->at[1] != '\n';
        t->at++;
    }
    t->row_line = t->line;
    while (t->at < t->end && end == '\t') {
        if (*count == most) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:%lld: more than %d fields", t->path, (long long)t->row_line, most));
        }
        bif_span *f = &fields[*count];
        end = field(t, f);
        if ((t->names == NULL || !bif_span_is(t->names[*count], "image")) && bif_utf8_check(f->text, f->size) < f->size) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:%lld: field %d is not UTF-8", t->path, (long long)t->row_line, *count + 1));
        }
        ++*count;
    }
done:
    return st;
}

bif_status bif_tsv_open(bif_score_set *set, const char *path, bif_tsv *out)
{
    bif_status st = BIF_OK;
    bif_span whole, names[COLUMNS];
    *out = (bif_tsv){.path = path, .set = set, .line = 1};
    BIF_TRY(bif_score_bytes(set, path, &whole));
    out->at = whole.text;
    out->end = whole.text + whole.size;
    if (whole.size >= 3 && memcmp(whole.text, "\xef\xbb\xbf", 3) == 0) {
        out->at += 3;
    }
    BIF_TRY(read_row(out, names, COLUMNS, &out->columns));
    if (out->columns < 2) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: a header of columns between tabs is wanted", path));
    }
    for (int i = 0; i < out->columns; i++) {
        for (int k = 0; k < i; k++) {
            if (bif_span_equal(names[i], names[k])) {
                BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: two columns %.*s", path, (int)names[i].size, names[i].text));
            }
        }
    }
    out->names = bif_score_take(set, (size_t)out->columns * sizeof *out->names);
    out->fields = bif_score_take(set, (size_t)out->columns * sizeof *out->fields);
    memcpy(out->names, names, (size_t)out->columns * sizeof *out->names);
done:
    return st;
}

int bif_tsv_column(const bif_tsv *table, const char *name)
{
    for (int i = 0; i < table->columns; i++) {
        if (bif_span_is(table->names[i], name)) {
            return i;
        }
    }
    return -1;
}

bif_status bif_tsv_row(bif_tsv *table, bool *more)
{
    int count = 0;
    const bif_status st = read_row(table, table->fields, table->columns, &count);
    for (int i = count; i < table->columns; i++) {
        table->fields[i] = (bif_span){"", 0};
    }
    *more = st == BIF_OK && count > 0;
    return st;
}

/* Decodes one quoted text of Python at *at; false if it is none. */
static bool python_text(const char **at, const char *end, char *memory, bif_span *out)
{
    static const char names[] = "\\'\"nrtab", means[] = "\\'\"\n\r\t\a\b";
    const char quote = **at, *p = *at + 1;
    char *to = memory;
    for (; p < end && *p != quote; p++) {
        if (*p != '\\') {
            *to++ = *p;
            continue;
        }
        const char *name = p + 1 < end && p[1] != '\0' ? strchr(names, p[1]) : NULL;
        const int digits = p + 1 == end ? 0 : p[1] == 'x' ? 2 : p[1] == 'u' ? 4 : p[1] == 'U' ? 8 : 0;
        if (name != NULL) {
            *to++ = means[name - names];
            p++;
        } else if (digits > 0 && end - p > digits + 1) {
            char hex[9] = {0}, *stop = NULL;
            memcpy(hex, p + 2, (size_t)digits);
            const unsigned long code = strtoul(hex, &stop, 16);
            if (*stop != '\0' || code == 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
                return false;
            }
            to += bif_utf8_encode((uint32_t)code, to);
            p += digits + 1;
        } else {
            *to++ = *p;
        }
    }
    *at = p + 1;
    *out = (bif_span){memory, (size_t)(to - memory)};
    return p < end;
}

/* memory: for all its texts, as long as the field; none is longer than its source. */
static bool python_list(bif_span field, char *memory, bif_span *items, int64_t *count)
{
    const char *p = field.text + 1, *end = field.text + field.size - 1;
    for (*count = 0;; ++*count) {
        while (p < end && (*p == ' ' || *p == '\n')) {
            p++;
        }
        if (p == end) {
            return true;
        }
        if (*p == '\'' || *p == '"') {
            if (!python_text(&p, end, memory, &items[*count])) {
                return false;
            }
            memory += items[*count].size;
        } else { /* a number, as it stands */
            const char *from = p;
            while (p < end && *p != ',') {
                p++;
            }
            items[*count] = bif_text_strip((bif_span){from, (size_t)(p - from)});
            double number = 0.0;
            if (!bif_text_float(items[*count], &number)) {
                return false;
            }
        }
        while (p < end && (*p == ' ' || *p == '\n')) {
            p++;
        }
        if (p < end && *p++ != ',') {
            return false;
        }
    }
}

void bif_tsv_list(bif_score_set *set, bif_span field, bif_span **out, int64_t *count)
{
    const bif_span bare = bif_text_strip(field);
    if (bare.size >= 2 && bare.text[0] == '[' && bare.text[bare.size - 1] == ']') {
        *out = bif_score_take(set, (bare.size / 2 + 1) * sizeof **out);
        if (python_list(bare, bif_score_take(set, bare.size), *out, count)) {
            return;
        }
    }
    *out = bif_score_take(set, sizeof **out);
    **out = field;
    *count = 1;
}
