/* Byte-level BPE: the tables, looking up tokens, decoding. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

void bif_ids_free(bif_ids *ids)
{
    free(ids->ids);
    *ids = (bif_ids){0};
}

void bif_ids_push(bif_ids *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        ids->capacity = ids->capacity ? ids->capacity * 2 : 64;
        ids->ids = bif_realloc(ids->ids, ids->capacity, sizeof *ids->ids);
    }
    ids->ids[ids->count++] = id;
}

/* ---- byte strings with numbers ---- */

void bif_intern_free(bif_intern *intern)
{
    free(intern->pool);
    free(intern->offset);
    free(intern->slot);
    *intern = (bif_intern){0};
}

const char *bif_intern_bytes(const bif_intern *intern, size_t number, size_t *size)
{
    *size = intern->offset[number + 1] - intern->offset[number];
    return intern->pool + intern->offset[number];
}

/* The slot that holds the string, or the free one where it belongs. */
static size_t intern_slot(const bif_intern *intern, const char *bytes, size_t size)
{
    size_t mask = intern->slots - 1;
    size_t at = (size_t)XXH3_64bits(bytes, size) & mask;
    while (intern->slot[at] != 0) {
        size_t other_size = 0;
        const char *other = bif_intern_bytes(intern, intern->slot[at] - 1, &other_size);
        if (other_size == size && memcmp(other, bytes, size) == 0) {
            break;
        }
        at = (at + 1) & mask;
    }
    return at;
}

static void intern_grow(bif_intern *intern)
{
    intern->slots = intern->slots ? intern->slots * 2 : 1024;
    free(intern->slot);
    intern->slot = bif_calloc(intern->slots, sizeof *intern->slot);
    for (size_t i = 0; i < intern->count; i++) {
        size_t size = 0;
        const char *bytes = bif_intern_bytes(intern, i, &size);
        intern->slot[intern_slot(intern, bytes, size)] = (uint32_t)(i + 1);
    }
}

int64_t bif_intern_get(const bif_intern *intern, const char *bytes, size_t size)
{
    return intern->slots == 0 ? -1 : (int64_t)intern->slot[intern_slot(intern, bytes, size)] - 1;
}

int64_t bif_intern_find(bif_intern *intern, const char *bytes, size_t size, bool add, bool *is_new)
{
    int64_t known = bif_intern_get(intern, bytes, size);
    if (is_new != NULL) {
        *is_new = known < 0 && add;
    }
    if (known >= 0 || !add) {
        return known;
    }
    BIF_BUG_IF(intern->count >= UINT32_MAX - 1, "more than 2^32 different words");
    if ((intern->count + 1) * 2 > intern->slots) {
        intern_grow(intern);
    }
    if (intern->count + 2 > intern->capacity) {
        intern->capacity = intern->capacity ? intern->capacity * 2 : 512;
        intern->offset = bif_realloc(intern->offset, intern->capacity, sizeof *intern->offset);
        intern->offset[0] = 0;
    }
    if (intern->pool_size + size > intern->pool_capacity) {
        intern->pool_capacity = (intern->pool_size + size) * 2;
        intern->pool = bif_realloc(intern->pool, intern->pool_capacity, 1);
    }
    size_t at = intern_slot(intern, bytes, size);
    if (size > 0) {
        memcpy(intern->pool + intern->pool_size, bytes, size);
    }
    intern->pool_size += size;
    intern->offset[intern->count + 1] = intern->pool_size;
    intern->slot[at] = (uint32_t)++intern->count;
    return (int64_t)intern->count - 1;
}

/* ---- the byte-level alphabet ---- */

static bool stands_for_itself(uint32_t byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
}

/* The bytes that do not stand for themselves, in order: 0..32, 127..160, 173 become U+0100..U+0143. */
uint32_t bif_byte_to_char(uint8_t byte)
{
    if (stands_for_itself(byte)) {
        return byte;
    }
    return byte <= 32 ? 256u + byte : byte <= 160 ? 256u + 33u + (byte - 127u) : 256u + 67u;
}

int bif_char_to_byte(uint32_t code)
{
    if (code < 256) {
        return stands_for_itself(code) ? (int)code : -1;
    }
    return code <= 256 + 32   ? (int)code - 256
           : code <= 256 + 66 ? (int)code - 256 - 33 + 127
           : code == 256 + 67 ? 173
                              : -1;
}

uint8_t bif_alphabet_byte(size_t k)
{
    uint32_t code = k < 94    ? 33 + (uint32_t)k
                    : k < 106 ? 161 + (uint32_t)k - 94
                    : k < 188 ? 174 + (uint32_t)k - 106
                              : 256 + (uint32_t)k - 188;
    return (uint8_t)bif_char_to_byte(code);
}

bool bif_alphabet_decode(const char *text, size_t size, char *out, size_t *out_size)
{
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        uint32_t code = 0;
        size_t step = bif_utf8_decode(text + i, size - i, &code);
        int byte = step == 0 ? -1 : bif_char_to_byte(code);
        if (byte < 0) {
            return false;
        }
        out[n++] = (char)byte;
        i += step;
    }
    *out_size = n;
    return true;
}

bool bif_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == 32 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
           code == 0x3000;
}

/* ---- building ---- */

bif_tokenizer *bif_tokenizer_empty(int32_t vocab)
{
    bif_tokenizer *t = bif_calloc(1, sizeof *t);
    t->vocab = vocab;
    t->token = bif_calloc((size_t)vocab, sizeof *t->token);
    return t;
}

void bif_tokenizer_set(bif_tokenizer *t, int32_t id, const char *bytes, size_t size)
{
    if (t->pool_size + size + 1 > t->pool_capacity) {
        t->pool_capacity = (t->pool_size + size + 1) * 2;
        t->pool = bif_realloc(t->pool, t->pool_capacity, 1);
    }
    memcpy(t->pool + t->pool_size, bytes, size);
    t->pool[t->pool_size + size] = '\0';
    t->token[id].offset = t->pool_size;
    t->token[id].size = size;
    t->token[id].set = true;
    t->pool_size += size + 1;
}

/* The byte tokens. A vocabulary trained without the full alphabet may lack bytes; those become the unknown token, as in
 * HF. */
static void find_bytes(bif_tokenizer *t)
{
    int32_t unk = -1;
    for (size_t b = 0; b < 256; b++) {
        t->byte_id[b] = -1;
    }
    for (int32_t id = 0; id < t->vocab; id++) {
        const bif_token *token = &t->token[id];
        const char *bytes = t->pool + token->offset;
        if (token->model && !token->raw && token->size == 1) {
            t->byte_id[(uint8_t)bytes[0]] = id;
        }
        if (token->model && t->unk != NULL && strcmp(bytes, t->unk) == 0) {
            unk = id;
        }
    }
    for (size_t b = 0; b < 256; b++) {
        if (t->byte_id[b] < 0) {
            t->byte_id[b] = unk;
        }
    }
}

/* The last of two equal pairs wins, as in HF (its trainer can repeat a pair; tokenizer_train.c says when). */
static void build_merge_table(bif_tokenizer *t)
{
    t->slots = 16;
    while (t->slots < t->merges * 2) {
        t->slots *= 2;
    }
    t->slot = bif_malloc(t->slots * sizeof *t->slot);
    for (size_t i = 0; i < t->slots; i++) {
        t->slot[i] = (bif_merge_slot){.pair = UINT64_MAX};
    }
    for (size_t rank = 0; rank < t->merges; rank++) {
        uint64_t pair = (uint64_t)t->merge[rank].left << 32 | (uint64_t)t->merge[rank].right;
        size_t at = bif_pair_slot(pair, t->slots);
        while (t->slot[at].pair != UINT64_MAX && t->slot[at].pair != pair) {
            at = (at + 1) & (t->slots - 1);
        }
        t->slot[at] = (bif_merge_slot){.pair = pair, .rank = (int32_t)rank, .id = t->merge[rank].id};
    }
}

/* With ignore_merges whole words are looked up. Special tokens stay out of it, so that text can not forge them. */
static void build_words(bif_tokenizer *t)
{
    t->word_id = bif_malloc((size_t)t->vocab * sizeof *t->word_id);
    for (int32_t id = 0; id < t->vocab; id++) {
        const bif_token *token = &t->token[id];
        if (token->model && !token->raw && !token->special) {
            bool is_new = false;
            int64_t number = bif_intern_find(&t->words, t->pool + token->offset, token->size, true, &is_new);
            t->word_id[number] = id;
        }
    }
}

static int compare_added(const void *a, const void *b, void *user)
{
    const bif_added *added = user;
    const bif_added *x = &added[*(const uint32_t *)a], *y = &added[*(const uint32_t *)b];
    int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : x->size < y->size ? -1 : x->size > y->size;
}

static bif_status build_matchers(bif_tokenizer *t, const char *where)
{
    for (int k = 0; k < 2; k++) {
        t->order[k] = bif_malloc(t->added_count * sizeof *t->order[k]);
    }
    for (size_t i = 0; i < t->added_count; i++) {
        int k = t->added[i].normalized;
        t->order[k][t->matchers[k]++] = (uint32_t)i;
    }
    for (int k = 0; k < 2; k++) {
        qsort_r(t->order[k], t->matchers[k], sizeof *t->order[k], compare_added, t->added);
        for (size_t i = 1; i < t->matchers[k]; i++) {
            if (compare_added(&t->order[k][i - 1], &t->order[k][i], t->added) == 0) {
                return bif_fail(BIF_ERR_DATA, "%s: added token '%s' appears twice", where,
                                t->added[t->order[k][i]].text);
            }
        }
    }
    return BIF_OK;
}

bif_status bif_tokenizer_finish(bif_tokenizer *t, const char *where)
{
    find_bytes(t);
    build_merge_table(t);
    if (t->ignore_merges) {
        build_words(t);
    }
    return build_matchers(t, where);
}

void bif_tokenizer_free(bif_tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->added_count; i++) {
        free(t->added[i].content);
        free(t->added[i].text);
    }
    for (size_t i = 0; i < t->steps; i++) {
        free(t->step[i].pattern);
        pcre2_code_free(t->step[i].code);
    }
    bif_intern_free(&t->words);
    free(t->word_id);
    free(t->order[0]);
    free(t->order[1]);
    free(t->added);
    free(t->slot);
    free(t->merge);
    free(t->unk);
    free(t->post_processor);
    free(t->pool);
    free(t->token);
    free(t);
}

/* ---- looking up ---- */

int64_t bif_tokenizer_vocab(const bif_tokenizer *t)
{
    return t->vocab;
}

int32_t bif_tokenizer_special(const bif_tokenizer *t, const char *text)
{
    for (size_t i = 0; i < t->added_count; i++) {
        if (strcmp(t->added[i].content, text) == 0) {
            return t->added[i].id;
        }
    }
    return -1;
}

const char *bif_tokenizer_token(const bif_tokenizer *t, int32_t id, size_t *size)
{
    if (id < 0 || id >= t->vocab) {
        *size = 0;
        return NULL;
    }
    *size = t->token[id].size;
    return t->pool + t->token[id].offset;
}

bif_status bif_tokenizer_decode(const bif_tokenizer *t, const int32_t *ids, size_t count, bool skip_special, char **out,
                                size_t *size)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab) {
            return bif_fail(BIF_ERR_DATA, "token %zu is id %d, but the tokenizer has %d ids", i, ids[i], t->vocab);
        }
        total += t->token[ids[i]].size;
    }
    char *text = bif_malloc(total + 1);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const bif_token *token = &t->token[ids[i]];
        if (!(skip_special && token->special)) {
            memcpy(text + used, t->pool + token->offset, token->size);
            used += token->size;
        }
    }
    text[used] = '\0';
    *out = text;
    *size = used;
    return BIF_OK;
}
