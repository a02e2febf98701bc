/* Normalizers of tokenizer.json: text to text. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

typedef struct {
    char *text;
    size_t size, capacity;
} buffer;

static void append(buffer *b, const char *text, size_t size)
{
    if (b->size + size + 1 > b->capacity) {
        b->capacity = (b->size + size + 1) * 2;
        b->text = bif_realloc(b->text, b->capacity, 1);
    }
    if (size > 0) {
        memcpy(b->text + b->size, text, size);
    }
    b->size += size;
    b->text[b->size] = '\0';
}

void bif_replace_invalid(const char *text, size_t size, char **out, size_t *out_size)
{
    buffer b = {0};
    append(&b, "", 0);
    for (size_t at = 0; at < size;) {
        size_t run = bif_utf8_check(text + at, size - at);
        append(&b, text + at, run);
        at += run;
        if (at < size) {
            append(&b, "\xef\xbf\xbd", 3);
            at++;
        }
    }
    *out = b.text;
    *out_size = b.size;
}

/* The valid UTF-8 runs in a Unicode normal form; other bytes stay. */
static void unicode_form(const char *text, size_t size, bif_normal_kind kind, buffer *out)
{
    static const int flags[] = {[BIF_NORMAL_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
                                [BIF_NORMAL_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
                                [BIF_NORMAL_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                [BIF_NORMAL_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    for (size_t at = 0; at < size;) {
        size_t run = bif_utf8_check(text + at, size - at);
        if (run == 0) {
            append(out, text + at, 1);
            at++;
            continue;
        }
        utf8proc_uint8_t *normal = NULL;
        utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)run, &normal,
                                               (utf8proc_option_t)flags[kind]);
        BIF_BUG_IF(length < 0, "utf8proc: %s", utf8proc_errmsg(length));
        append(out, (const char *)normal, (size_t)length);
        at += run;
        free(normal);
    }
}

/* Each character on its own, as HF does it: no rule for a final sigma. One has two letters as its lower case. */
static void lower(const char *text, size_t size, buffer *out)
{
    for (size_t at = 0, step = 0; at < size; at += step) {
        uint32_t code = 0;
        char bytes[4];
        step = bif_utf8_decode(text + at, size - at, &code);
        if (code == 0x130) {
            append(out, "i\xcc\x87", 3);
        } else if (step == 0) {
            append(out, text + at, step = 1);
        } else {
            append(out, bytes, bif_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), bytes));
        }
    }
}

static bif_status replace(const bif_normal *n, const char *text, size_t size, buffer *out)
{
    bif_status st = BIF_OK;
    bif_finder finder;
    bif_finder_init(&finder);
    for (size_t at = 0; at < size;) {
        size_t start = 0, end = 0;
        BIF_TRY(bif_pattern_find(&finder, n->code, text, size, at, &start, &end));
        append(out, text + at, start - at);
        if (start < end) {
            append(out, n->content, strlen(n->content));
        }
        at = end;
    }
done:
    bif_finder_free(&finder);
    return st;
}

bif_status bif_normalize(const bif_tokenizer *t, const char *text, size_t size, bif_text_place place, char **out,
                         size_t *out_size)
{
    bif_status st = BIF_OK;
    buffer now = {0}, next = {0};
    append(&now, text, size);
    for (size_t i = 0; i < t->normals; i++) {
        const bif_normal *n = &t->normal[i];
        next.size = 0;
        append(&next, "", 0);
        switch (n->kind) {
        case BIF_NORMAL_NFC:
        case BIF_NORMAL_NFD:
        case BIF_NORMAL_NFKC:
        case BIF_NORMAL_NFKD:
            unicode_form(now.text, now.size, n->kind, &next);
            break;
        case BIF_NORMAL_LOWER:
            lower(now.text, now.size, &next);
            break;
        case BIF_NORMAL_REPLACE:
            BIF_TRY(replace(n, now.text, now.size, &next));
            break;
        case BIF_NORMAL_PREPEND:
            if (now.size > 0 && place != BIF_TEXT_CONTINUES) {
                append(&next, n->content, strlen(n->content));
            }
            append(&next, now.text, now.size);
            break;
        }
        const buffer old = now;
        now = next;
        next = old;
    }
    *out = now.text;
    *out_size = now.size;
    now.text = NULL;
done:
    free(now.text);
    free(next.text);
    return st;
}
