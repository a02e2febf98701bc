#include "data/concepts.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/json_scan.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "data/concepts_internal.h"

enum { PLAIN = 0, PUNCTUATION = 1, WHITE = 2 };
static const unsigned char kinds[256] = {
    [','] = PUNCTUATION, ['.'] = PUNCTUATION, [';'] = PUNCTUATION, [':'] = PUNCTUATION, ['?'] = PUNCTUATION, ['!'] = PUNCTUATION,
    ['`'] = PUNCTUATION, ['\t'] = WHITE,      ['\n'] = WHITE,      ['\r'] = WHITE,      [' '] = WHITE,
};

/* Lower case of every code point; bytes that are not UTF-8 stay. The result may be longer: at most 3 bytes for one of text (U+023A). */
static size_t fold(const char *text, size_t size, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        const unsigned char byte = (unsigned char)text[i];
        if (byte < 0x80) {
            out[n++] = (char)(byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
            i++;
            continue;
        }
        uint32_t code = 0;
        const size_t length = bif_utf8_decode(text + i, size - i, &code);
        if (length == 0) {
            out[n++] = text[i++];
            continue;
        }
        n += bif_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), out + n);
        i += length;
    }
    return n;
}

/* ---- the list ---- */
static bool only_spaces(const char *text, int64_t size)
{
    while (size > 0 && text[size - 1] == ' ') {
        size--;
    }
    return size == 0;
}

/* Whether a caption could have it: white space became spaces, and punctuation has a space of its own on each side, so two between two. */
static bool can_match(const char *text, int64_t size)
{
    for (int64_t i = 0; i < size; i++) {
        const int kind = kinds[(unsigned char)text[i]];
        if (kind == WHITE && text[i] != ' ') {
            return false;
        }
        if (kind == PUNCTUATION) {
            const bool before = i == 0 || text[i - 1] == ' ', behind = i + 1 == size || text[i + 1] == ' ';
            const bool close = i + 2 < size && kinds[(unsigned char)text[i + 2]] == PUNCTUATION;
            if (!before || !behind || close) {
                return false;
            }
        }
    }
    return true;
}

static void add_name(bif_concepts *c, const char *text, size_t size)
{
    const int64_t from = c->start[c->info.entries];
    const size_t length = c->fold_case ? fold(text, size, c->text + from) : size;
    if (!c->fold_case && size > 0) {
        memcpy(c->text + from, text, size);
    }
    c->info.listed++;
    if (only_spaces(c->text + from, (int64_t)length)) {
        c->info.empty++;
    } else if (!can_match(c->text + from, (int64_t)length)) {
        c->info.unmatchable++;
    } else {
        c->start[++c->info.entries] = from + (int64_t)length;
    }
}

/* Keeps the first of equal names. */
static void drop_duplicates(bif_concepts *c)
{
    const int64_t n = c->info.entries;
    uint32_t *number = bif_malloc((size_t)n * sizeof *number);
    qsort_r(c->order, (size_t)n, sizeof *c->order, bif_concepts_compare, c);
    uint32_t first = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t entry = c->order[i];
        const int64_t size = c->start[entry + 1] - c->start[entry];
        const bool equal = i > 0 && size == c->start[first + 1] - c->start[first] &&
                           memcmp(c->text + c->start[entry], c->text + c->start[first], (size_t)size) == 0;
        first = equal ? first : entry;
        number[entry] = equal ? UINT32_MAX : 0;
    }
    uint32_t next = 0;
    int64_t end = 0, from = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t to = c->start[i + 1];
        if (number[i] == 0) {
            memmove(c->text + end, c->text + from, (size_t)(to - from));
            end += to - from;
            number[i] = next++;
            c->start[next] = end;
        }
        from = to;
    }
    uint32_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t entry = c->order[i];
        if (number[entry] != UINT32_MAX) {
            c->order[kept++] = number[entry];
        }
    }
    c->info.duplicate = n - next;
    c->info.entries = next;
    free(number);
}

bif_status bif_concepts_make(const char *where, const char *const *entry, const size_t *size, int64_t count, bool fold_case, int64_t most,
                             bif_concepts **out)
{
    bif_status st = BIF_OK;
    int64_t bytes = 1;
    *out = NULL;
    for (int64_t i = 0; i < count; i++) {
        bytes += (int64_t)size[i];
    }
    if (bytes > most / 4 || count > INT32_MAX / 2) {
        return bif_fail(BIF_ERR_MEMORY, "%s: %lld entries of %lld MiB are too many for %lld MiB: raise --memory-mib", where,
                        (long long)count, (long long)(bytes >> 20), (long long)(most >> 20));
    }
    bif_concepts *c = bif_calloc(1, sizeof *c);
    c->fold_case = fold_case;
    c->text = bif_malloc((size_t)bytes * (fold_case ? 3 : 1));
    c->start = bif_malloc(((size_t)count + 1) * sizeof *c->start);
    c->start[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        add_name(c, entry[i], size[i]);
    }
    if (c->info.entries == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no entry that a caption could match (%lld listed, %lld empty, %lld that never match)", where,
                         (long long)count, (long long)c->info.empty, (long long)c->info.unmatchable));
    }
    c->order = bif_malloc((size_t)c->info.entries * sizeof *c->order);
    for (int64_t i = 0; i < c->info.entries; i++) {
        c->order[i] = (uint32_t)i;
    }
    drop_duplicates(c);
    c->hash = bif_malloc((size_t)c->info.entries * sizeof *c->hash);
    for (int64_t i = 0; i < c->info.entries; i++) {
        c->hash[i] = bif_hash_bytes(c->text + c->start[i], (size_t)(c->start[i + 1] - c->start[i]));
    }
    BIF_TRY(bif_concepts_build(where, c, most));
    *out = c;
    c = NULL;
done:
    bif_concepts_free(c);
    return st;
}

typedef struct {
    const char **entry;
    size_t *size;
    int64_t count, room;
} name_list;

static void list_name(name_list *list, const char *text, size_t size)
{
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 4096;
        list->entry = bif_realloc(list->entry, (size_t)list->room, sizeof *list->entry);
        list->size = bif_realloc(list->size, (size_t)list->room, sizeof *list->size);
    }
    list->entry[list->count] = text;
    list->size[list->count++] = size;
}

static bif_status list_json(bif_scan *scan, name_list *list)
{
    bif_status st = BIF_OK;
    bif_span name;
    bool more = false;
    BIF_TRY(bif_scan_enter(scan, '['));
    while ((st = bif_scan_more(scan, &more)) == BIF_OK && more) {
        BIF_TRY(bif_scan_string(scan, &name));
        list_name(list, name.text, name.size);
    }
    BIF_TRY(st);
    BIF_TRY(bif_scan_end(scan));
done:
    return st;
}

static bif_status list_lines(const char *path, bif_span whole, name_list *list)
{
    const char *at = whole.text, *end = whole.text + whole.size;
    const size_t bad = bif_utf8_check(whole.text, whole.size);
    if (bad < whole.size) {
        return bif_fail(BIF_ERR_DATA, "%s: byte %zu is not UTF-8", path, bad);
    }
    while (at < end) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        const char *stop = line ? line : end;
        size_t size = (size_t)(stop - at);
        size -= size > 0 && at[size - 1] == '\r';
        list_name(list, at, size);
        at = line ? line + 1 : end;
    }
    return BIF_OK;
}

bif_status bif_concepts_open(const char *path, bool fold_case, int64_t most, bif_concepts **out)
{
    bif_status st = BIF_OK;
    bif_scan *scan = NULL;
    name_list list = {0};
    const size_t n = strlen(path);
    *out = NULL;
    BIF_TRY(bif_scan_open(path, &scan));
    if (n >= 5 && strcmp(path + n - 5, ".json") == 0) {
        BIF_TRY(list_json(scan, &list));
    } else {
        BIF_TRY(list_lines(path, bif_scan_whole(scan), &list));
    }
    BIF_TRY(bif_concepts_make(path, list.entry, list.size, list.count, fold_case, most, out));
done:
    free(list.entry);
    free(list.size);
    bif_scan_close(scan);
    return st;
}

void bif_concepts_free(bif_concepts *c)
{
    if (c != NULL) {
        free(c->text);
        free(c->start);
        free(c->hash);
        free(c->shorter);
        free(c->order);
        free(c->state);
        free(c);
    }
}

bif_concepts_info bif_concepts_describe(const bif_concepts *concepts)
{
    return concepts->info;
}

const char *bif_concepts_name(const bif_concepts *concepts, int64_t entry, size_t *size)
{
    *size = (size_t)(concepts->start[entry + 1] - concepts->start[entry]);
    return concepts->text + concepts->start[entry];
}

uint64_t bif_concepts_hash(const bif_concepts *concepts, int64_t entry)
{
    return concepts->hash[entry];
}

void bif_concepts_digest(const bif_concepts *concepts, char hex[33])
{
    bif_digest *digest = bif_digest_new();
    bif_digest_update(digest, concepts->start, ((size_t)concepts->info.entries + 1) * sizeof *concepts->start);
    bif_digest_update(digest, concepts->text, (size_t)concepts->start[concepts->info.entries]);
    bif_digest_finish(digest, hex);
}

static int32_t step(const bif_concept_state *state, int32_t s, int32_t code)
{
    for (;;) {
        const int32_t t = state[s].base + code;
        if (state[t].check == s) {
            return t;
        }
        if (s == 0) {
            return 0;
        }
        s = state[s].fail;
    }
}

int64_t bif_concepts_find(const bif_concepts *c, const char *name, size_t size)
{
    char *folded = c->fold_case ? bif_malloc(3 * size + 1) : NULL;
    const char *text = folded ? folded : name;
    const size_t length = folded ? fold(name, size, folded) : size;
    int32_t s = step(c->state, 0, c->code[' ']);
    for (size_t i = 0; s != 0 && i <= length; i++) { /* from the start along children alone */
        const int32_t t = c->state[s].base + c->code[i < length ? (unsigned char)text[i] : ' '];
        s = c->state[t].check == s ? t : 0;
    }
    int64_t entry = s != 0 && c->state[s].out >= 0 ? c->state[s].out & ~BIF_CONCEPT_MORE : -1;
    if (entry >= 0 && (size_t)(c->start[entry + 1] - c->start[entry]) != length) {
        entry = -1; /* only a shorter one ends here */
    }
    free(folded);
    return entry;
}

/* ---- captions ---- */
enum { FEW = 48 };

static bool met(const bif_concepts *c, bif_concepts_found *found, uint32_t entry)
{
    if (found->count < FEW) { /* what most captions have: quicker looked through than looked up in a table of all entries */
        for (int64_t i = 0; i < found->count; i++) {
            if (found->id[i] == entry) {
                return true;
            }
        }
        return false;
    }
    if (found->count == FEW) {
        if (found->seen == NULL) {
            found->seen = bif_calloc((size_t)c->info.entries, sizeof *found->seen);
        }
        for (int64_t i = 0; i < FEW; i++) {
            found->seen[found->id[i]] = found->round;
        }
    }
    return found->seen[entry] == found->round;
}

static void report(const bif_concepts *c, int32_t s, bif_concepts_found *found)
{
    for (int32_t out = c->state[s].out; out >= 0;) {
        const uint32_t entry = (uint32_t)(out & ~BIF_CONCEPT_MORE);
        if (met(c, found, entry)) { /* then all shorter ones were too */
            break;
        }
        if (found->count >= FEW) {
            found->seen[entry] = found->round;
        }
        if (found->count == found->room) {
            found->room = found->room ? 2 * found->room : 2 * FEW;
            found->id = bif_realloc(found->id, (size_t)found->room, sizeof *found->id);
        }
        found->id[found->count++] = entry;
        out = (out & BIF_CONCEPT_MORE) != 0 ? c->shorter[entry] : -1;
    }
}

void bif_concepts_match(const bif_concepts *c, const char *text, size_t size, bif_concepts_found *found)
{
    if (++found->round == 0) {
        free(found->seen);
        found->seen = NULL;
        found->round = 1;
    }
    found->count = 0;
    if (c->fold_case) {
        if (found->folded_room < 3 * size) {
            found->folded_room = 3 * size;
            found->folded = bif_realloc(found->folded, found->folded_room, 1);
        }
        size = fold(text, size, found->folded);
        text = found->folded;
    }
    const bif_concept_state *state = c->state;
    const int32_t space = c->code[' '];
    int32_t s = step(state, 0, space);
    for (size_t i = 0; i < size; i++) {
        const unsigned char byte = (unsigned char)text[i];
        const int kind = kinds[byte];
        if (kind == PLAIN) {
            if (s != 0) {
                s = step(state, s, c->code[byte]);
            }
            continue;
        }
        s = step(state, s, space);
        report(c, s, found);
        if (kind == PUNCTUATION) {
            s = step(state, step(state, s, c->code[byte]), space);
            report(c, s, found);
        }
    }
    report(c, step(state, s, space), found);
}

void bif_concepts_found_free(bif_concepts_found *found)
{
    free(found->id);
    free(found->seen);
    free(found->folded);
    *found = (bif_concepts_found){0};
}
