/* Text to ids: cut at added tokens, normalize, cut into words, merge. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

/* Flags of a symbol's id beyond any id: such a symbol stands in no merge. */
#define FROZEN (1 << 30)  /* a user-defined piece of SentencePiece */
#define UNKNOWN (1 << 29) /* a character that the model does not know */

typedef struct {
    int32_t id;
    int32_t prev, next; /* -1 at the ends */
    int32_t at;         /* where its bytes begin in the word */
    bool dead;          /* swallowed by the symbol before it */
} symbol;

/* A merge waiting in the heap: the lowest rank first, then the leftmost. */
typedef struct {
    uint64_t order; /* rank << 32 | position */
    int32_t id;     /* what the merge made when it was pushed */
} waiting;

typedef struct {
    int32_t left, right;
} parts;

typedef struct {
    const bif_tokenizer *tokenizer;
    bool parse_special;
    bif_splitter splitter;
    symbol *symbol;
    size_t symbols, symbol_capacity;
    waiting *heap;
    size_t heap_count, heap_capacity;
    parts *parts;      /* [vocab] what an unused piece was merged from; NULL when the model has none */
    bool last_unknown; /* the last id of this piece of text stands for an unknown character */
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
        if (e->parts != NULL) {
            e->parts[merge->id] = (parts){.left = e->symbol[position].id, .right = e->symbol[next].id};
        }
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

static void add_symbol(encoder *e, int32_t id, size_t at)
{
    if (e->symbols == e->symbol_capacity) {
        e->symbol_capacity = e->symbol_capacity ? e->symbol_capacity * 2 : 256;
        e->symbol = bif_realloc(e->symbol, e->symbol_capacity, sizeof *e->symbol);
    }
    int32_t n = (int32_t)e->symbols++;
    e->symbol[n] = (symbol){.id = id, .prev = n - 1, .next = -1, .at = (int32_t)at};
    if (n > 0) {
        e->symbol[n - 1].next = n;
    }
}

static bif_status no_symbol(const char *bytes, size_t size)
{
    char hex[2 * 4 + 1] = "";
    for (size_t i = 0; i < size && i < 4; i++) {
        snprintf(hex + 2 * i, 3, "%02x", (uint8_t)bytes[i]);
    }
    return bif_fail(BIF_ERR_DATA, "the tokenizer's vocabulary has no token for the %s 0x%s, and no unknown token",
                    size == 1 ? "byte" : "character", hex);
}

/* The symbols of a word: bytes, or characters with what stands in for those that the vocabulary lacks. */
static bif_status byte_symbols(encoder *e, const char *word, size_t size)
{
    const bif_tokenizer *t = e->tokenizer;
    bool unknown = false;
    for (size_t i = 0; i < size; i++) {
        const int32_t *table = t->suffix != NULL && i + 1 == size ? t->last_id : t->byte_id;
        int32_t id = table[(uint8_t)word[i]];
        if (id < 0) {
            return no_symbol(word + i, 1);
        }
        if (!(unknown && t->fuse_unk && id == t->unk_id)) {
            add_symbol(e, id, i);
        }
        unknown = id == t->unk_id;
    }
    return BIF_OK;
}

static bif_status char_symbols(encoder *e, const char *word, size_t size)
{
    const bif_tokenizer *t = e->tokenizer;
    bool unknown = false;
    for (size_t i = 0, step = 0; i < size; i += step) {
        uint32_t code = 0;
        step = bif_utf8_decode(word + i, size - i, &code);
        int32_t id = step == 0 ? -1 : bif_char_get(t, code);
        step += step == 0;
        if (id >= 0) {
            add_symbol(e, id, i);
        } else if (t->byte_fallback) {
            for (size_t k = 0; k < step; k++) {
                add_symbol(e, t->byte_id[(uint8_t)word[i + k]], i + k);
            }
        } else if (t->unk_id < 0) {
            return no_symbol(word + i, step);
        } else if (!(unknown && t->fuse_unk)) {
            add_symbol(e, t->unk_id, i);
        }
        unknown = id < 0;
    }
    return BIF_OK;
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
    e->symbols = 0;
    bif_status st = t->characters ? char_symbols(e, word, size) : byte_symbols(e, word, size);
    if (st != BIF_OK) {
        return st;
    }
    merge_symbols(e, (int32_t)e->symbols);
    for (int32_t i = e->symbols > 0 ? 0 : -1; i >= 0; i = e->symbol[i].next) {
        bif_ids_push(e->out, e->symbol[i].id);
    }
    return BIF_OK;
}

/* ---- SentencePiece ---- */

/* An unknown character becomes its bytes, a run of them one unknown token. */
static void emit_piece(void *user, int32_t id, const char *text, size_t size)
{
    encoder *e = user;
    const bif_tokenizer *t = e->tokenizer;
    const bool unknown = id < 0;
    if (unknown && t->byte_fallback) {
        for (size_t i = 0; i < size; i++) {
            bif_ids_push(e->out, t->byte_id[(uint8_t)text[i]]);
        }
    } else if (!unknown || !e->last_unknown) {
        bif_ids_push(e->out, unknown ? t->unk_id : id);
    }
    e->last_unknown = unknown;
}

/* A symbol of the model, where an unused piece falls apart again into what it was merged from (no deeper than a piece is
 * long). */
static void emit_symbol(encoder *e, int32_t id, const char *text, size_t size)
{
    const bif_tokenizer *t = e->tokenizer;
    if (id >= t->vocab) {
        emit_piece(e, (id & FROZEN) != 0 ? id & ~FROZEN : -1, text, size);
        return;
    }
    if (!t->token[id].unused || e->parts == NULL || e->parts[id].left < 0) {
        emit_piece(e, id, text, size);
        return;
    }
    const parts p = e->parts[id];
    size_t left = 0;
    uint32_t code = 0;
    if (p.left < t->vocab) {
        bif_tokenizer_text(t, p.left, &left);
    } else {
        left = bif_utf8_decode(text, size, &code);
    }
    emit_symbol(e, p.left, text, left);
    emit_symbol(e, p.right, text + left, size - left);
}

static void encode_spm_bpe(encoder *e, const char *text, size_t size)
{
    const bif_tokenizer *t = e->tokenizer;
    e->symbols = 0;
    if (t->spm->any_unused && e->parts == NULL) {
        e->parts = bif_malloc((size_t)t->vocab * sizeof *e->parts);
    }
    if (e->parts != NULL) {
        memset(e->parts, 0xff, (size_t)t->vocab * sizeof *e->parts);
    }
    for (size_t i = 0, step = 0; i < size; i += step) {
        const bif_prefix *user = bif_prefix_longest(&t->spm->user, text + i, size - i);
        uint32_t code = 0;
        step = user != NULL ? user->size : bif_utf8_decode(text + i, size - i, &code);
        int32_t id = user != NULL ? user->value | FROZEN : step == 0 ? -1 : bif_char_get(t, code);
        step += step == 0;
        add_symbol(e, id < 0 ? UNKNOWN : id, i);
    }
    merge_symbols(e, (int32_t)e->symbols);
    for (int32_t i = 0, next = 0; i >= 0; i = next) {
        const symbol *s = &e->symbol[i];
        next = s->next;
        emit_symbol(e, s->id, text + s->at, (next < 0 ? size : (size_t)e->symbol[next].at) - (size_t)s->at);
    }
}

static void encode_spm(encoder *e, const char *text, size_t size, bif_text_place place)
{
    char *normal = NULL;
    bif_spm_normalize(e->tokenizer, text, size, place, &normal, &size);
    e->last_unknown = false;
    if (size > 0 && e->tokenizer->spm->unigram) {
        bif_unigram_cut(e->tokenizer, normal, size, emit_piece, e);
    } else if (size > 0) {
        encode_spm_bpe(e, normal, size);
    }
    free(normal);
}

/* As SiglipTokenizer does it: behind the text of the unknown token, so that the front stays, and its ids are taken away again. (They
 * count: of two cuts with equal scores the sums before them decide, by their rounding.) */
static void encode_canonical(encoder *e, const char *text, size_t size, bif_text_place place)
{
    const bif_tokenizer *t = e->tokenizer;
    char *canonical = NULL;
    bif_canonical(text, size, place == BIF_TEXT_START, t->spm->keep_case, &canonical, &size);
    const size_t unk = strlen(t->unk), first = e->out->count;
    char *whole = bif_malloc(unk + size + 1);
    memcpy(whole, t->unk, unk);
    memcpy(whole + unk, canonical, size);
    encode_spm(e, whole, unk, BIF_TEXT_START);
    const size_t taken = e->out->count - first;
    e->out->count = first;
    encode_spm(e, whole, unk + size, BIF_TEXT_START);
    const size_t count = e->out->count - first;
    if (count >= taken) {
        memmove(e->out->ids + first, e->out->ids + first + taken, (count - taken) * sizeof *e->out->ids);
        e->out->count -= taken;
    }
    free(whole);
    free(canonical);
}

/* ---- added tokens ---- */

/* The longest added token that the text begins with. */
static const bif_added *match_added(const encoder *e, int k, const char *text, size_t size)
{
    const bif_tokenizer *t = e->tokenizer;
    const bif_added *best = NULL;
    const bif_prefix *found = NULL;
    bif_prefix_walk walk = {0};
    for (size_t i = 0; i < size && bif_prefix_step(&t->matcher[k], &walk, (uint8_t)text[i], &found); i++) {
        if (found != NULL && (e->parse_special || !t->added[found->value].special)) {
            best = &t->added[found->value];
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

/* The character that ends at text[size]; returns its length, 0 if there is none. */
static size_t last_character(const char *text, size_t size, uint32_t *code)
{
    size_t start = size;
    while (start > 0 && size - start < 4) {
        start--;
        if (((uint8_t)text[start] & 0xc0) != 0x80) {
            break;
        }
    }
    return start < size && bif_utf8_decode(text + start, size - start, code) == size - start ? size - start : 0;
}

static size_t spaces_before(const char *text, size_t size)
{
    size_t end = size;
    uint32_t code = 0;
    for (size_t step = 0; (step = last_character(text, end, &code)) > 0 && bif_is_space(code); end -= step) {
    }
    return size - end;
}

static bool stands_alone(const char *text, size_t size, size_t start, size_t end)
{
    uint32_t before = 0, after = 0;
    return !(last_character(text, start, &before) > 0 && bif_is_word(before)) &&
           !(bif_utf8_decode(text + end, size - end, &after) > 0 && bif_is_word(after));
}

static bif_status encode_piece(encoder *e, int k, const char *text, size_t size, bif_text_place place);

/* Cuts at the added tokens of matcher k; what lies between goes on to the next stage. */
static bif_status encode_added(encoder *e, int k, const char *text, size_t size, bif_text_place place)
{
    bif_status st = BIF_OK;
    const bif_prefixes *matcher = &e->tokenizer->matcher[k];
    size_t done_to = 0;
    for (size_t at = 0; at < size && matcher->count > 0;) {
        const uint8_t byte = (uint8_t)text[at]; /* most bytes begin no added token */
        const bif_added *added =
            matcher->first[byte] < matcher->first[byte + 1] ? match_added(e, k, text + at, size - at) : NULL;
        if (added == NULL) {
            at++;
            continue;
        }
        size_t start = at, end = at + added->size;
        at = end;
        if (added->single_word && !stands_alone(text, size, start, end)) {
            continue;
        }
        if (added->lstrip) {
            start -= spaces_before(text + done_to, start - done_to);
        }
        if (added->rstrip) {
            end += spaces_after(text + end, size - end);
        }
        BIF_TRY(encode_piece(e, k, text + done_to, start - done_to, place));
        bif_ids_push(e->out, added->id);
        place = BIF_TEXT_AFTER_SPECIAL;
        at = done_to = end;
    }
    BIF_TRY(encode_piece(e, k, text + done_to, size - done_to, place));
done:
    return st;
}

/* Stage 0 (raw text) is followed by normalizing and stage 1, stage 1 by the pre-tokenizer. */
static bif_status encode_piece(encoder *e, int k, const char *text, size_t size, bif_text_place place)
{
    if (size == 0) {
        return BIF_OK;
    }
    if (e->tokenizer->spm != NULL) {
        (e->tokenizer->spm->canonical ? encode_canonical : encode_spm)(e, text, size, place);
        return BIF_OK;
    }
    if (k == 1) {
        return bif_splitter_run(&e->splitter, text, size, place);
    }
    if (e->tokenizer->normals == 0) {
        return encode_added(e, 1, text, size, place);
    }
    char *normal = NULL;
    bif_status st = bif_normalize(e->tokenizer, text, size, place, &normal, &size);
    if (st == BIF_OK) {
        st = encode_added(e, 1, normal, size, place);
    }
    free(normal);
    return st;
}

bif_status bif_tokenizer_encode_at(const bif_tokenizer *tokenizer, const char *text, size_t size, bool parse_special,
                                   bif_text_place place, bif_ids *out)
{
    if (size > BIF_TOKENIZER_MAX_TEXT) {
        return bif_fail(BIF_ERR_DATA, "a text of %zu bytes; one text may have %zu", size, BIF_TOKENIZER_MAX_TEXT);
    }
    encoder e = {.tokenizer = tokenizer, .parse_special = parse_special, .out = out};
    char *valid = NULL;
    if (tokenizer->spm == NULL && !bif_tokenizer_keeps_bytes(tokenizer) && bif_utf8_check(text, size) < size) {
        bif_replace_invalid(text, size, &valid, &size);
        text = valid;
    }
    bif_splitter_init(&e.splitter, tokenizer, encode_word, &e);
    bif_status st = BIF_OK;
    if (size == 0 && tokenizer->spm != NULL && tokenizer->spm->canonical) {
        encode_canonical(&e, text, size, place); /* the space in front is there all the same */
    } else {
        st = encode_added(&e, 0, text, size, place);
    }
    bif_splitter_free(&e.splitter);
    free(valid);
    free(e.symbol);
    free(e.heap);
    free(e.parts);
    return st;
}

bif_status bif_tokenizer_encode(const bif_tokenizer *tokenizer, const char *text, size_t size, bool parse_special,
                                bif_ids *out)
{
    return bif_tokenizer_encode_at(tokenizer, text, size, parse_special, BIF_TEXT_START, out);
}
