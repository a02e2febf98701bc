/* Text to ids: cut at added tokens, normalize, cut into words, merge. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

typedef struct {
    int32_t id;
    int32_t prev, next; /* -1 at the ends */
    bool dead;          /* swallowed by the symbol before it */
} symbol;

/* A merge waiting in the heap: the lowest rank first, then the leftmost. */
typedef struct {
    uint64_t order; /* rank << 32 | position */
    int32_t id;     /* what the merge made when it was pushed */
} waiting;

typedef struct {
    const bif_tokenizer *tokenizer;
    bool parse_special;
    bif_splitter splitter;
    symbol *symbol;
    size_t symbol_capacity;
    waiting *heap;
    size_t heap_count, heap_capacity;
    bif_ids *out;
} encoder;

static void heap_push(encoder *e, waiting item)
{
    if (e->heap_count == e->heap_capacity) {
        e->heap_capacity = e->heap_capacity ? e->heap_capacity * 2 : 256;
        e->heap = bif_realloc(e->heap, e->heap_capacity, sizeof *e->heap);
    }
    size_t at = e->heap_count++;
    while (at > 0 && item.order < e->heap[(at - 1) / 2].order) {
        e->heap[at] = e->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    e->heap[at] = item;
}

static waiting heap_pop(encoder *e)
{
    waiting top = e->heap[0];
    waiting last = e->heap[--e->heap_count];
    size_t at = 0;
    for (size_t child = 1; child < e->heap_count; child = 2 * at + 1) {
        if (child + 1 < e->heap_count && e->heap[child + 1].order < e->heap[child].order) {
            child++;
        }
        if (last.order <= e->heap[child].order) {
            break;
        }
        e->heap[at] = e->heap[child];
        at = child;
    }
    e->heap[at] = last;
    return top;
}

static const bif_merge_slot *find_merge(const bif_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | (uint64_t)right;
    size_t at = bif_pair_slot(pair, t->slots);
    while (t->slot[at].pair != UINT64_MAX) {
        if (t->slot[at].pair == pair) {
            return &t->slot[at];
        }
        at = (at + 1) & (t->slots - 1);
    }
    return NULL;
}

static void push_pair(encoder *e, int32_t position)
{
    int32_t next = e->symbol[position].next;
    const bif_merge_slot *merge =
        next < 0 ? NULL : find_merge(e->tokenizer, e->symbol[position].id, e->symbol[next].id);
    if (merge != NULL) {
        heap_push(e, (waiting){.order = (uint64_t)merge->rank << 32 | (uint64_t)position, .id = merge->id});
    }
}

/* n bytes take O(n log n): every merge removes a symbol and pushes at most two pairs. An entry is stale when its symbol
 * is gone or the pair there makes another token now; comparing the token and not the rank is what HF does. */
static void merge_symbols(encoder *e, int32_t count)
{
    symbol *s = e->symbol;
    e->heap_count = 0;
    for (int32_t i = 0; i + 1 < count; i++) {
        push_pair(e, i);
    }
    while (e->heap_count > 0) {
        waiting top = heap_pop(e);
        int32_t at = (int32_t)(top.order & UINT32_MAX);
        int32_t next = s[at].next;
        if (s[at].dead || next < 0) {
            continue;
        }
        const bif_merge_slot *merge = find_merge(e->tokenizer, s[at].id, s[next].id);
        if (merge == NULL || merge->id != top.id) {
            continue;
        }
        s[at].id = top.id;
        s[at].next = s[next].next;
        s[next].dead = true;
        if (s[at].next >= 0) {
            s[s[at].next].prev = at;
            push_pair(e, at);
        }
        if (s[at].prev >= 0) {
            push_pair(e, s[at].prev);
        }
    }
}

static bif_status encode_word(void *user, const char *word, size_t size)
{
    encoder *e = user;
    const bif_tokenizer *t = e->tokenizer;
    if (t->ignore_merges) {
        int64_t number = bif_intern_get(&t->words, word, size);
        if (number >= 0) {
            bif_ids_push(e->out, t->word_id[number]);
            return BIF_OK;
        }
    }
    if (size > e->symbol_capacity) {
        e->symbol_capacity = size * 2;
        e->symbol = bif_realloc(e->symbol, e->symbol_capacity, sizeof *e->symbol);
    }
    for (size_t i = 0; i < size; i++) {
        int32_t id = t->byte_id[(uint8_t)word[i]];
        if (id < 0) {
            return bif_fail(BIF_ERR_DATA,
                            "the tokenizer's vocabulary has no token for the byte 0x%02x, and no unknown token",
                            (uint8_t)word[i]);
        }
        e->symbol[i] = (symbol){.id = id, .prev = (int32_t)i - 1, .next = i + 1 < size ? (int32_t)i + 1 : -1};
    }
    merge_symbols(e, (int32_t)size);
    for (int32_t i = 0; i >= 0; i = e->symbol[i].next) {
        bif_ids_push(e->out, e->symbol[i].id);
    }
    return BIF_OK;
}

/* ---- added tokens ---- */

/* The longest added token that the text begins with: the sorted list is narrowed byte by byte. */
static const bif_added *match_added(const encoder *e, int k, const char *text, size_t size)
{
    const bif_tokenizer *t = e->tokenizer;
    const uint32_t *order = t->order[k];
    const bif_added *best = NULL;
    size_t low = 0, high = t->matchers[k];
    for (size_t depth = 0; depth < size && low < high; depth++) {
        uint8_t byte = (uint8_t)text[depth];
        size_t bound[2];
        for (unsigned edge = 0; edge < 2; edge++) { /* first entry whose byte at `depth` is >= byte + edge */
            size_t a = low, b = high;
            while (a < b) {
                size_t middle = a + (b - a) / 2;
                const bif_added *added = &t->added[order[middle]];
                if (added->size <= depth || (uint8_t)added->text[depth] < byte + edge) {
                    a = middle + 1;
                } else {
                    b = middle;
                }
            }
            bound[edge] = a;
        }
        low = bound[0];
        high = bound[1];
        if (low < high && t->added[order[low]].size == depth + 1) {
            const bif_added *added = &t->added[order[low]];
            best = added->special && !e->parse_special ? best : added;
        }
    }
    return best;
}

static size_t spaces_after(const char *text, size_t size)
{
    size_t n = 0;
    uint32_t code = 0;
    for (size_t step = 0; (step = bif_utf8_decode(text + n, size - n, &code)) > 0 && bif_is_space(code); n += step) {
    }
    return n;
}

static size_t spaces_before(const char *text, size_t size)
{
    size_t end = size;
    while (end > 0) {
        size_t start = end - 1;
        while (start > 0 && end - start < 4 && ((uint8_t)text[start] & 0xc0) == 0x80) {
            start--;
        }
        uint32_t code = 0;
        if (bif_utf8_decode(text + start, end - start, &code) != end - start || !bif_is_space(code)) {
            break;
        }
        end = start;
    }
    return size - end;
}

static bif_status encode_piece(encoder *e, int k, const char *text, size_t size);

/* Cuts at the added tokens of matcher k; what lies between goes on to the next stage. */
static bif_status encode_added(encoder *e, int k, const char *text, size_t size)
{
    bif_status st = BIF_OK;
    bool starts[256] = {false}; /* most bytes begin no added token */
    for (size_t i = 0; i < e->tokenizer->matchers[k]; i++) {
        starts[(uint8_t)e->tokenizer->added[e->tokenizer->order[k][i]].text[0]] = true;
    }
    size_t done_to = 0;
    for (size_t at = 0; at < size && e->tokenizer->matchers[k] > 0;) {
        const bif_added *added = starts[(uint8_t)text[at]] ? match_added(e, k, text + at, size - at) : NULL;
        if (added == NULL) {
            at++;
            continue;
        }
        size_t start = at, end = at + added->size;
        if (added->lstrip) {
            start -= spaces_before(text + done_to, at - done_to);
        }
        if (added->rstrip) {
            end += spaces_after(text + end, size - end);
        }
        BIF_TRY(encode_piece(e, k, text + done_to, start - done_to));
        bif_ids_push(e->out, added->id);
        at = done_to = end;
    }
    BIF_TRY(encode_piece(e, k, text + done_to, size - done_to));
done:
    return st;
}

/* Stage 0 (raw text) is followed by normalizing and stage 1, stage 1 by the pre-tokenizer. */
static bif_status encode_piece(encoder *e, int k, const char *text, size_t size)
{
    if (size == 0) {
        return BIF_OK;
    }
    if (k == 1) {
        return bif_splitter_run(&e->splitter, text, size);
    }
    if (!e->tokenizer->nfc) {
        return encode_added(e, 1, text, size);
    }
    char *normal = NULL;
    bif_nfc(text, size, &normal, &size);
    bif_status st = encode_added(e, 1, normal, size);
    free(normal);
    return st;
}

void bif_nfc(const char *text, size_t size, char **out, size_t *out_size)
{
    char *result = bif_malloc(size + 1);
    size_t capacity = size, used = 0;
    for (size_t at = 0; at < size;) {
        size_t run = bif_utf8_check(text + at, size - at);
        size_t take = run > 0 ? run : 1;
        utf8proc_uint8_t *normal = NULL;
        utf8proc_ssize_t length = 0;
        if (run > 0) {
            length = utf8proc_map((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)run, &normal,
                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
            BIF_BUG_IF(length < 0, "utf8proc: %s", utf8proc_errmsg(length));
        }
        size_t piece = run > 0 ? (size_t)length : 1;
        if (used + piece > capacity) {
            capacity = (used + piece) * 2; /* NFC may grow: U+0958 is 3 bytes and becomes 6 */
            result = bif_realloc(result, capacity + 1, 1);
        }
        memcpy(result + used, run > 0 ? (const char *)normal : text + at, piece);
        used += piece;
        at += take;
        free(normal);
    }
    *out = result;
    *out_size = used;
}

bif_status bif_tokenizer_encode(const bif_tokenizer *tokenizer, const char *text, size_t size, bool parse_special,
                                bif_ids *out)
{
    if (size > BIF_TOKENIZER_MAX_TEXT) {
        return bif_fail(BIF_ERR_DATA, "a text of %zu bytes; one text may have %zu", size, BIF_TOKENIZER_MAX_TEXT);
    }
    encoder e = {.tokenizer = tokenizer, .parse_special = parse_special, .out = out};
    bif_splitter_init(&e.splitter, tokenizer, encode_word, &e);
    bif_status st = encode_added(&e, 0, text, size);
    bif_splitter_free(&e.splitter);
    free(e.symbol);
    free(e.heap);
    return st;
}
