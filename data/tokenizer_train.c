/* Training byte-level BPE: the pair that occurs most often becomes a token, again and again (Sennrich et al. 2016),
 * with the bookkeeping of Hugging Face's trainer so that both give the same merges: a heap of pairs whose counts are
 * corrected lazily, and for each pair the words where it stands. Ties go to the smaller pair of ids. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

typedef struct {
    uint64_t pair; /* left << 32 | right */
    int64_t count;
    uint32_t *words; /* [n] where it (also) stands */
    uint32_t n, capacity;
} pair_info;

typedef struct {
    uint64_t pair;
    int64_t count;
    uint32_t *words;
    uint32_t n;
} candidate;

typedef struct {
    bif_intern words;   /* different words of the texts */
    int64_t *occurs;    /* [words.count] how often */
    size_t occurs_capacity;
    int32_t *symbols;   /* all words end to end, at words.offset */
    uint32_t *length;   /* [words.count] symbols left in each */

    pair_info *pair; /* [pairs] */
    size_t pairs, pair_capacity;
    uint32_t *slot; /* [slots] number + 1 into pair */
    size_t slots;

    candidate *heap;
    size_t heap_count, heap_capacity;
    uint32_t *touched; /* pairs that got new places in this round */
    size_t touched_count, touched_capacity;

    bif_intern vocab;   /* bytes of every token so far: ids are its numbers */
    bif_merge *merge;
    size_t merges, merge_capacity;
} trainer;

static bif_status count_word(void *user, const char *word, size_t size)
{
    trainer *t = user;
    bool is_new = false;
    size_t number = (size_t)bif_intern_find(&t->words, word, size, true, &is_new);
    if (number >= t->occurs_capacity) {
        t->occurs_capacity = t->occurs_capacity ? t->occurs_capacity * 2 : 1024;
        t->occurs = bif_realloc(t->occurs, t->occurs_capacity, sizeof *t->occurs);
    }
    t->occurs[number] = (is_new ? 0 : t->occurs[number]) + 1;
    return BIF_OK;
}

static size_t pair_slot(const trainer *t, uint64_t pair)
{
    size_t at = bif_pair_slot(pair, t->slots);
    while (t->slot[at] != 0 && t->pair[t->slot[at] - 1].pair != pair) {
        at = (at + 1) & (t->slots - 1);
    }
    return at;
}

static uint32_t pair_number(trainer *t, uint64_t pair)
{
    if ((t->pairs + 1) * 2 > t->slots) {
        t->slots = t->slots ? t->slots * 2 : 1 << 16;
        free(t->slot);
        t->slot = bif_calloc(t->slots, sizeof *t->slot);
        for (size_t i = 0; i < t->pairs; i++) {
            t->slot[pair_slot(t, t->pair[i].pair)] = (uint32_t)(i + 1);
        }
    }
    size_t at = pair_slot(t, pair);
    if (t->slot[at] == 0) {
        if (t->pairs == t->pair_capacity) {
            t->pair_capacity = t->pair_capacity ? t->pair_capacity * 2 : 1 << 12;
            t->pair = bif_realloc(t->pair, t->pair_capacity, sizeof *t->pair);
        }
        BIF_BUG_IF(t->pairs >= UINT32_MAX - 1, "more than 2^32 different pairs");
        t->pair[t->pairs] = (pair_info){.pair = pair};
        t->slot[at] = (uint32_t)++t->pairs;
    }
    return t->slot[at] - 1;
}

/* The pair occurs `change` times more (or less) in word `word`. */
static void change_pair(trainer *t, int32_t left, int32_t right, int change, uint32_t word)
{
    uint32_t number = pair_number(t, (uint64_t)left << 32 | (uint64_t)right);
    pair_info *p = &t->pair[number];
    p->count += change * t->occurs[word];
    if (change < 0) {
        return;
    }
    if (p->n == 0) {
        if (t->touched_count == t->touched_capacity) {
            t->touched_capacity = t->touched_capacity ? t->touched_capacity * 2 : 1024;
            t->touched = bif_realloc(t->touched, t->touched_capacity, sizeof *t->touched);
        }
        t->touched[t->touched_count++] = number;
    }
    if (p->n > 0 && p->words[p->n - 1] == word) {
        return; /* words come one after the other, so a repeat is always the last */
    }
    if (p->n == p->capacity) {
        p->capacity = p->capacity ? p->capacity * 2 : 4;
        p->words = bif_realloc(p->words, p->capacity, sizeof *p->words);
    }
    p->words[p->n++] = word;
}

static bool before(const candidate *a, const candidate *b)
{
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

static void heap_push(trainer *t, candidate item)
{
    if (t->heap_count == t->heap_capacity) {
        t->heap_capacity = t->heap_capacity ? t->heap_capacity * 2 : 1024;
        t->heap = bif_realloc(t->heap, t->heap_capacity, sizeof *t->heap);
    }
    size_t at = t->heap_count++;
    while (at > 0 && before(&item, &t->heap[(at - 1) / 2])) {
        t->heap[at] = t->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    t->heap[at] = item;
}

static candidate heap_pop(trainer *t)
{
    candidate top = t->heap[0];
    candidate last = t->heap[--t->heap_count];
    size_t at = 0;
    for (size_t child = 1; child < t->heap_count; child = 2 * at + 1) {
        if (child + 1 < t->heap_count && before(&t->heap[child + 1], &t->heap[child])) {
            child++;
        }
        if (!before(&t->heap[child], &last)) {
            break;
        }
        t->heap[at] = t->heap[child];
        at = child;
    }
    t->heap[at] = last;
    return top;
}

/* Hands the new places of this round's pairs to the heap. */
static void push_touched(trainer *t)
{
    for (size_t i = 0; i < t->touched_count; i++) {
        pair_info *p = &t->pair[t->touched[i]];
        if (p->count > 0) {
            heap_push(t, (candidate){.pair = p->pair, .count = p->count, .words = p->words, .n = p->n});
        } else {
            free(p->words);
        }
        p->words = NULL;
        p->n = p->capacity = 0;
    }
    t->touched_count = 0;
}

/* Replaces every (left, right) of one word, from the left, and tells the pairs around. */
static void merge_word(trainer *t, uint32_t word, int32_t left, int32_t right, int32_t id)
{
    int32_t *s = t->symbols + t->words.offset[word];
    uint32_t n = t->length[word], out = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (s[i] != left || i + 1 == n || s[i + 1] != right) {
            s[out++] = s[i];
            continue;
        }
        if (out > 0) {
            change_pair(t, s[out - 1], left, -1, word);
            change_pair(t, s[out - 1], id, 1, word);
        }
        if (i + 2 < n) {
            change_pair(t, right, s[i + 2], -1, word);
            change_pair(t, id, s[i + 2], 1, word);
        }
        s[out++] = id;
        i++;
    }
    t->length[word] = out;
}

/* Every word as bytes, numbered by the alphabet; all pairs counted. */
static void start_words(trainer *t)
{
    int32_t id_of_byte[256];
    for (size_t k = 0; k < 256; k++) {
        char byte = (char)bif_alphabet_byte(k);
        id_of_byte[(uint8_t)byte] = (int32_t)bif_intern_find(&t->vocab, &byte, 1, true, NULL);
    }
    t->symbols = bif_malloc(t->words.pool_size * sizeof *t->symbols);
    t->length = bif_malloc(t->words.count * sizeof *t->length);
    for (size_t i = 0; i < t->words.pool_size; i++) {
        t->symbols[i] = id_of_byte[(uint8_t)t->words.pool[i]];
    }
    for (size_t w = 0; w < t->words.count; w++) {
        size_t start = t->words.offset[w], end = t->words.offset[w + 1];
        t->length[w] = (uint32_t)(end - start);
        for (size_t i = start; i + 1 < end; i++) {
            change_pair(t, t->symbols[i], t->symbols[i + 1], 1, (uint32_t)w);
        }
    }
    push_touched(t);
}

/* Merges until the vocabulary has `target` tokens or no pair is left. A pair that makes bytes that are a token already
 * ("ab"+"c" after "a"+"bc") is a merge without a new token. HF does not reset the count of a merged pair, so such a
 * token can bring the pair back with its old count, and the same merge can stand in the list twice: kept, because equal
 * merges are the promise. */
static void learn(trainer *t, size_t target, const bif_intern *forbidden)
{
    char *bytes = NULL;
    while (t->vocab.count < target && t->heap_count > 0) {
        candidate top = heap_pop(t);
        int64_t count = t->pair[pair_number(t, top.pair)].count;
        if (top.count != count) {
            top.count = count;
            heap_push(t, top);
            continue;
        }
        if (top.count < 1) {
            free(top.words);
            break;
        }
        int32_t left = (int32_t)(top.pair >> 32), right = (int32_t)(top.pair & UINT32_MAX);
        size_t left_size = 0, right_size = 0;
        const char *left_bytes = bif_intern_bytes(&t->vocab, (size_t)left, &left_size);
        const char *right_bytes = bif_intern_bytes(&t->vocab, (size_t)right, &right_size);
        bytes = bif_realloc(bytes, left_size + right_size, 1);
        memcpy(bytes, left_bytes, left_size);
        memcpy(bytes + left_size, right_bytes, right_size);
        if (bif_intern_get(forbidden, bytes, left_size + right_size) >= 0) {
            free(top.words);
            continue; /* would be written like a special token */
        }
        int32_t id = (int32_t)bif_intern_find(&t->vocab, bytes, left_size + right_size, true, NULL);
        if (t->merges == t->merge_capacity) {
            t->merge_capacity = t->merge_capacity ? t->merge_capacity * 2 : 1024;
            t->merge = bif_realloc(t->merge, t->merge_capacity, sizeof *t->merge);
        }
        t->merge[t->merges] = (bif_merge){.left = left, .right = right, .id = id, .rank = (int32_t)t->merges};
        t->merges++;
        for (uint32_t i = 0; i < top.n; i++) {
            merge_word(t, top.words[i], left, right, id);
        }
        free(top.words);
        push_touched(t);
    }
    free(bytes);
}

static void trainer_free(trainer *t)
{
    for (size_t i = 0; i < t->heap_count; i++) {
        free(t->heap[i].words);
    }
    for (size_t i = 0; i < t->pairs; i++) {
        free(t->pair[i].words);
    }
    bif_intern_free(&t->words);
    bif_intern_free(&t->vocab);
    free(t->occurs);
    free(t->symbols);
    free(t->length);
    free(t->pair);
    free(t->slot);
    free(t->heap);
    free(t->touched);
    free(t->merge);
}

/* What a trained token must not be: bytes that the file would write like one of the specials. */
static bif_status forbid(const char *const *specials, size_t count, bif_intern *forbidden)
{
    bif_intern seen = {0};
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(specials[i]), decoded = 0;
        bool is_new = false;
        bif_intern_find(&seen, specials[i], size, true, &is_new);
        char *bytes = bif_malloc(size + 1);
        bool writable = bif_alphabet_decode(specials[i], size, bytes, &decoded);
        if (writable) {
            bif_intern_find(forbidden, bytes, decoded, true, NULL);
        }
        free(bytes);
        if (size == 0 || bif_utf8_check(specials[i], size) < size || !is_new || (writable && decoded == 1)) {
            st = bif_fail(BIF_ERR_USAGE, "special token %zu ('%s') is empty, not UTF-8, given twice or a single byte",
                          i, specials[i]);
            break;
        }
    }
    bif_intern_free(&seen);
    return st;
}

static bif_tokenizer *assemble(const trainer *t, const char *const *specials, size_t special_count)
{
    bif_tokenizer *k = bif_tokenizer_empty((int32_t)(t->vocab.count + special_count));
    for (size_t i = 0; i < t->vocab.count; i++) {
        size_t size = 0;
        const char *bytes = bif_intern_bytes(&t->vocab, i, &size);
        bif_tokenizer_set(k, (int32_t)i, bytes, size);
        k->token[i].model = true;
    }
    k->merges = t->merges;
    k->merge = bif_malloc(t->merges * sizeof *k->merge);
    if (t->merges > 0) {
        memcpy(k->merge, t->merge, t->merges * sizeof *k->merge);
    }
    k->added_count = special_count;
    k->added = bif_calloc(special_count, sizeof *k->added);
    for (size_t i = 0; i < special_count; i++) {
        int32_t id = (int32_t)(t->vocab.count + i);
        size_t size = strlen(specials[i]);
        bif_tokenizer_set(k, id, specials[i], size);
        k->token[id].model = k->token[id].raw = k->token[id].added = k->token[id].special = true;
        k->added[i] = (bif_added){.id = id, .special = true, .content = bif_strdup(specials[i]),
                                  .text = bif_strdup(specials[i]), .size = size};
    }
    return k;
}

bif_status bif_tokenizer_train(const char *const *texts, const size_t *sizes, size_t count, int64_t vocab_size,
                               const char *const *specials, size_t special_count, bif_tokenizer **out)
{
    bif_status st = BIF_OK;
    trainer t = {0};
    bif_intern forbidden = {0};
    bif_tokenizer *cutter = bif_tokenizer_empty(0);
    bif_tokenizer *result = NULL;
    bif_splitter splitter;
    bif_splitter_init(&splitter, cutter, count_word, &t);
    if (vocab_size < 256 || (uint64_t)vocab_size - 256 < special_count || vocab_size > BIF_TOKENIZER_MAX_VOCAB) {
        st = bif_fail(BIF_ERR_USAGE,
                      "a vocabulary of %lld: it holds 256 bytes and %zu special tokens, and at most %lld ids",
                      (long long)vocab_size, special_count, (long long)BIF_TOKENIZER_MAX_VOCAB);
        goto done;
    }
    BIF_TRY(forbid(specials, special_count, &forbidden));
    BIF_TRY(bif_step_add(cutter, "trainer", (bif_split_step){.kind = BIF_STEP_BYTE_LEVEL}, "", false));
    for (size_t i = 0; i < count; i++) {
        if (sizes[i] > BIF_TOKENIZER_MAX_TEXT) {
            st = bif_fail(BIF_ERR_DATA, "text %zu has %zu bytes; one text may have %zu", i, sizes[i],
                          BIF_TOKENIZER_MAX_TEXT);
            goto done;
        }
        BIF_TRY(bif_splitter_run(&splitter, texts[i], sizes[i], BIF_TEXT_START));
    }
    start_words(&t);
    learn(&t, (size_t)vocab_size - special_count, &forbidden);
    result = assemble(&t, specials, special_count);
    BIF_TRY(bif_step_add(result, "trainer", (bif_split_step){.kind = BIF_STEP_BYTE_LEVEL}, "", false));
    BIF_TRY(bif_tokenizer_finish(result, "trainer"));
    *out = result;
    result = NULL;
done:
    bif_splitter_free(&splitter);
    bif_tokenizer_free(cutter);
    bif_tokenizer_free(result);
    bif_intern_free(&forbidden);
    trainer_free(&t);
    return st;
}
