/* The pre-tokenizer: patterns, and cutting a text into words. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

/* What ByteLevel with use_regex cuts with: GPT-2's pattern (Radford et al. 2019). */
static const char *const gpt2_pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* Unicode's White_Space as the inside of a class. PCRE2's own \s has U+180E too, which tokenizer files do not mean. */
static const char *const space_class =
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

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
    memcpy(b->text + b->size, text, size);
    b->size += size;
    b->text[b->size] = '\0';
}

/* Length of the group opener at p, 0 if it is one that we do not read. */
static size_t group_opener(const char *p)
{
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strncmp(p, known[i], strlen(known[i])) == 0) {
            return strlen(known[i]);
        }
    }
    return p[1] == '?' || p[1] == '*' ? 0 : 1;
}

/* One escape at p ("\s"); returns its length in the source, 0 if it is not one we read. */
static size_t translate_escape(const char *p, bool in_class, buffer *out)
{
    char c = p[1];
    if (c == 's') {
        append(out, "[", in_class ? 0 : 1);
        append(out, space_class, strlen(space_class));
        append(out, "]", in_class ? 0 : 1);
        return 2;
    }
    if (c == 'S' && !in_class) {
        append(out, "[^", 2);
        append(out, space_class, strlen(space_class));
        append(out, "]", 1);
        return 2;
    }
    if ((c == 'p' || c == 'P') && p[2] == '{') {
        const char *end = strchr(p, '}');
        size_t size = end == NULL ? 0 : (size_t)(end - p) + 1;
        append(out, p, size);
        return size;
    }
    if (c != '\0' && (strchr("rntdD", c) != NULL || ispunct((unsigned char)c))) {
        append(out, p, 2);
        return 2;
    }
    return 0;
}

/* Tokenizer files are written for Oniguruma. Only what both engines read in the same way passes; \s is spelled out.
 * Left out because they differ: ^ and $ (always multi-line there), \w (no marks in PCRE2 10.42), {n,m}+ (not possessive
 * there), {,n}, nested classes. */
static bif_status translate(const char *where, const char *pattern, buffer *out)
{
    bool in_class = false;
    for (const char *p = pattern; *p != '\0';) {
        size_t take = 1;
        if (*p == '\\') {
            take = translate_escape(p, in_class, out);
            if (take == 0) {
                return bif_fail(BIF_ERR_DATA, "%s: pattern '%s': escape '\\%.1s' is not supported", where, pattern,
                                p + 1);
            }
            p += take;
            continue;
        }
        bool bad = false;
        if (in_class) {
            bad = *p == '[' || (p[0] == '&' && p[1] == '&');
            in_class = *p != ']';
        } else if (*p == '[') {
            in_class = true;
            take = p[1] == '^' ? 2 : 1;
            bad = p[take] == ']';
        } else if (*p == '(') {
            take = group_opener(p);
            bad = take == 0;
        } else {
            bad = *p == '^' || *p == '$' || (p[0] == '}' && p[1] == '+') || (p[0] == '{' && p[1] == ',');
        }
        if (bad) {
            return bif_fail(BIF_ERR_DATA, "%s: pattern '%s': '%.8s' at %td is not supported", where, pattern, p,
                            p - pattern);
        }
        append(out, p, take);
        p += take;
    }
    return BIF_OK;
}

bif_status bif_pattern_compile(const char *where, const char *pattern, bool literal, pcre2_code **out)
{
    bif_status st = BIF_OK;
    buffer text = {0};
    int error = 0;
    size_t at = 0;
    uint32_t matches_empty = 0;
    pcre2_code *code = NULL;
    pcre2_compile_context *context = NULL;
    size_t length = strlen(pattern);
    if (length == 0 || length > BIF_TOKENIZER_MAX_PATTERN) {
        return bif_fail(BIF_ERR_DATA, "%s: a pattern of %zu bytes (1 to %d are allowed)", where, length,
                        BIF_TOKENIZER_MAX_PATTERN);
    }
    if (literal) {
        append(&text, pattern, length);
    } else {
        BIF_TRY(translate(where, pattern, &text));
    }
    context = pcre2_compile_context_create(NULL);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 50);
    code = pcre2_compile((PCRE2_SPTR)text.text, text.size,
                         PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C), &error, &at, context);
    if (code == NULL) {
        PCRE2_UCHAR message[256];
        pcre2_get_error_message(error, message, sizeof message);
        st = bif_fail(BIF_ERR_DATA, "%s: pattern '%s': %s", where, pattern, (const char *)message);
        goto done;
    }
    pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty != 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: pattern '%s' can match nothing at all, which would cut everywhere", where,
                      pattern);
        goto done;
    }
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without JIT the interpreter gives the same answer, slower */
    *out = code;
    code = NULL;
done:
    pcre2_code_free(code);
    pcre2_compile_context_free(context);
    free(text.text);
    return st;
}

bif_status bif_step_add(bif_tokenizer *t, const char *where, bif_split_step step, const char *pattern, bool literal)
{
    bif_status st = BIF_OK;
    if (t->steps == BIF_TOKENIZER_MAX_STEPS) {
        st = bif_fail(BIF_ERR_DATA, "%s: more than %d steps in the pre_tokenizer", where, BIF_TOKENIZER_MAX_STEPS);
        goto done;
    }
    if (pattern != NULL) {
        const bool gpt2 = step.kind == BIF_STEP_BYTE_LEVEL && *pattern == '\0';
        BIF_TRY(bif_pattern_compile(where, gpt2 ? gpt2_pattern : pattern, literal, &step.code));
    }
    t->step[t->steps++] = step;
    step.mark = NULL;
done:
    free(step.mark);
    return st;
}

/* ---- cutting ---- */

void bif_finder_init(bif_finder *f)
{
    f->match = pcre2_match_data_create(1, NULL);
    f->context = pcre2_match_context_create(NULL);
    BIF_BUG_IF(f->match == NULL || f->context == NULL, "out of memory for PCRE2");
    /* A pattern from a file may backtrack exponentially; these stop it within about a second. */
    pcre2_set_match_limit(f->context, 10000000);
    pcre2_set_heap_limit(f->context, 64 * 1024);
}

void bif_finder_free(bif_finder *f)
{
    pcre2_match_data_free(f->match);
    pcre2_match_context_free(f->context);
}

void bif_splitter_init(bif_splitter *s, const bif_tokenizer *tokenizer, bif_word_fn word, void *user)
{
    *s = (bif_splitter){.tokenizer = tokenizer, .word = word, .user = user};
    bif_finder_init(&s->finder);
}

void bif_splitter_free(bif_splitter *s)
{
    bif_finder_free(&s->finder);
}

bif_status bif_pattern_find(bif_finder *f, const pcre2_code *code, const char *text, size_t size, size_t from,
                            size_t *start, size_t *end)
{
    int rc = pcre2_match(code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK, f->match, f->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, f->match, f->context);
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
        *start = *end = size;
        return BIF_OK;
    }
    if (rc < 0) {
        PCRE2_UCHAR message[256];
        pcre2_get_error_message(rc, message, sizeof message);
        return bif_fail(BIF_ERR_DATA, "the tokenizer's pattern gave up at byte %zu of a text of %zu: %s", from, size,
                        (const char *)message);
    }
    const size_t *range = pcre2_get_ovector_pointer(f->match);
    *start = range[0];
    *end = range[1];
    BIF_BUG_IF(*end <= *start || *start < from, "an empty match at %zu", *start);
    return BIF_OK;
}

typedef struct {
    size_t start, end;
    bool match;
} range;

typedef struct {
    range *item;
    size_t count, capacity;
} ranges;

static void push_range(ranges *r, size_t start, size_t end, bool match)
{
    if (start == end) {
        return;
    }
    if (r->count == r->capacity) {
        r->capacity = r->capacity ? r->capacity * 2 : 64;
        r->item = bif_realloc(r->item, r->capacity, sizeof *r->item);
    }
    r->item[r->count++] = (range){.start = start, .end = end, .match = match};
}

/* Joins matches and gaps as a behavior wants it: a match goes to its neighbour unless that is a match too. */
static void join_ranges(ranges *r, bif_split_behavior behavior)
{
    const size_t n = r->count;
    range *item = r->item;
    size_t out = 0;
    if (behavior == BIF_SPLIT_WITH_NEXT) { /* the same from behind */
        size_t back = n;
        for (size_t i = n; i-- > 0;) {
            const bool join = item[i].match && i + 1 < n && !item[i + 1].match;
            const range next = join ? (range){.start = item[i].start, .end = item[back].end, .match = true} : item[i];
            back -= !join;
            item[back] = next;
        }
        memmove(item, item + back, (n - back) * sizeof *item);
        r->count = n - back;
        return;
    }
    bool previous = false;
    for (size_t i = 0; i < n; i++) {
        const range now = item[i];
        const bool join = out > 0 && (behavior == BIF_SPLIT_WITH_PREVIOUS ? now.match && !previous : now.match == previous);
        if (join) {
            item[out - 1].end = now.end;
        } else {
            item[out++] = now;
        }
        previous = now.match;
    }
    r->count = out;
}

static bif_status run_steps(bif_splitter *s, size_t k, const char *text, size_t size, bif_text_place place);

/* The part of a piece from `at` on: only the first can be at the start of something. */
static bif_text_place place_at(bif_text_place place, size_t at)
{
    return at == 0 ? place : BIF_TEXT_AFTER_SPECIAL;
}

static bif_status run_ranges(bif_splitter *s, size_t k, const char *text, size_t size, bif_text_place place)
{
    const bif_split_step *step = &s->tokenizer->step[k];
    bif_status st = BIF_OK;
    ranges r = {0};
    for (size_t at = 0; at < size;) {
        size_t start = 0, end = 0;
        BIF_TRY(bif_pattern_find(&s->finder, step->code, text, size, at, &start, &end));
        push_range(&r, at, start, step->invert);
        push_range(&r, start, end, !step->invert);
        at = end;
    }
    if (step->behavior != BIF_SPLIT_REMOVED && step->behavior != BIF_SPLIT_ISOLATED) {
        join_ranges(&r, step->behavior);
    }
    for (size_t i = 0; i < r.count; i++) {
        const range *part = &r.item[i];
        if (step->behavior != BIF_SPLIT_REMOVED || !part->match) {
            BIF_TRY(run_steps(s, k + 1, text + part->start, part->end - part->start, place_at(place, part->start)));
        }
    }
done:
    free(r.item);
    return st;
}

/* Whether a step puts its mark before a piece that stands there. */
static bool wants_prefix(const bif_split_step *step, bif_text_place place)
{
    return step->prefix == BIF_PREFIX_ALWAYS ? place != BIF_TEXT_CONTINUES
                                             : step->prefix == BIF_PREFIX_FIRST && place == BIF_TEXT_START;
}

static bif_status run_metaspace(bif_splitter *s, size_t k, const char *text, size_t size, bif_text_place place)
{
    const bif_split_step *step = &s->tokenizer->step[k];
    const size_t mark = strlen(step->mark);
    bif_status st = BIF_OK;
    size_t used = 0, from = 0;
    char *out = bif_malloc((size + 1) * mark);
    if (wants_prefix(step, place) && text[0] != ' ' && (size < mark || memcmp(text, step->mark, mark) != 0)) {
        memcpy(out, step->mark, mark);
        used = mark;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] == ' ') {
            memcpy(out + used, step->mark, mark);
            used += mark;
        } else {
            out[used++] = text[i];
        }
    }
    for (size_t at = 1; step->cut && at + mark <= used; at++) {
        if (memcmp(out + at, step->mark, mark) == 0) {
            BIF_TRY(run_steps(s, k + 1, out + from, at - from, place_at(place, from)));
            from = at;
        }
    }
    BIF_TRY(run_steps(s, k + 1, out + from, used - from, place_at(place, from)));
done:
    free(out);
    return st;
}

/* Valid UTF-8 through step `k` and those after it (at most BIF_TOKENIZER_MAX_STEPS deep). */
static bif_status run_steps(bif_splitter *s, size_t k, const char *text, size_t size, bif_text_place place)
{
    bif_status st = BIF_OK;
    char *prefixed = NULL;
    if (size == 0) {
        return BIF_OK;
    }
    if (k == s->tokenizer->steps) {
        return s->word(s->user, text, size);
    }
    const bif_split_step *step = &s->tokenizer->step[k];
    if (step->kind == BIF_STEP_METASPACE) {
        return run_metaspace(s, k, text, size, place);
    }
    if (step->code != NULL && (step->behavior != BIF_SPLIT_ISOLATED)) {
        return run_ranges(s, k, text, size, place);
    }
    if (wants_prefix(step, place) && text[0] != ' ') {
        prefixed = bif_malloc(size + 1);
        prefixed[0] = ' ';
        memcpy(prefixed + 1, text, size);
        text = prefixed;
        size++;
    }
    if (step->code == NULL) {
        BIF_TRY(run_steps(s, k + 1, text, size, place));
        goto done;
    }
    for (size_t at = 0; at < size;) { /* matches and what lies between them are pieces alike */
        size_t start = 0, end = 0;
        BIF_TRY(bif_pattern_find(&s->finder, step->code, text, size, at, &start, &end));
        BIF_TRY(run_steps(s, k + 1, text + at, start - at, place_at(place, at)));
        BIF_TRY(run_steps(s, k + 1, text + start, end - start, place_at(place, start)));
        at = end;
    }
done:
    free(prefixed);
    return st;
}

/* Bytes that are not UTF-8 are words of their own: patterns speak about characters. */
bif_status bif_splitter_run(bif_splitter *s, const char *text, size_t size, bif_text_place place)
{
    for (size_t at = 0; at < size;) {
        size_t valid = bif_utf8_check(text + at, size - at);
        bif_status st = run_steps(s, 0, text + at, valid, place_at(place, at));
        if (st != BIF_OK) {
            return st;
        }
        at += valid;
        size_t invalid = 0;
        for (size_t left = size - at; invalid < left; invalid++) {
            size_t window = left - invalid < 4 ? left - invalid : 4; /* the longest character */
            if (bif_utf8_check(text + at + invalid, window) > 0) {
                break;
            }
        }
        if (invalid > 0 && (st = s->word(s->user, text + at, invalid)) != BIF_OK) {
            return st;
        }
        at += invalid;
    }
    return BIF_OK;
}
