/* The tables of a tokenizer: building them, looking up tokens, decoding. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

bif_tokenizer *bif_tokenizer_empty(int32_t vocab)
{
    bif_tokenizer *t = bif_calloc(1, sizeof *t);
    t->vocab = vocab;
    t->names = (bif_tokenizer_names){.eos = -1, .pad = -1};
    t->token = bif_calloc((size_t)vocab, sizeof *t->token);
    return t;
}

bif_tokenizer_names bif_tokenizer_named(const bif_tokenizer *t)
{
    return t->names;
}

void bif_tokenizer_grow(bif_tokenizer *t, int32_t vocab)
{
    t->token = bif_realloc(t->token, (size_t)vocab, sizeof *t->token);
    memset(t->token + t->vocab, 0, (size_t)(vocab - t->vocab) * sizeof *t->token);
    t->vocab = vocab;
}

/* Where the copy lies. */
static size_t keep(bif_tokenizer *t, const char *bytes, size_t size)
{
    if (t->pool_size + size + 1 > t->pool_capacity) {
        t->pool_capacity = (t->pool_size + size + 1) * 2;
        t->pool = bif_realloc(t->pool, t->pool_capacity, 1);
    }
    if (size > 0) {
        memcpy(t->pool + t->pool_size, bytes, size);
    }
    t->pool[t->pool_size + size] = '\0';
    t->pool_size += size + 1;
    return t->pool_size - size - 1;
}

void bif_tokenizer_set(bif_tokenizer *t, int32_t id, const char *bytes, size_t size)
{
    t->token[id].offset = keep(t, bytes, size);
    t->token[id].size = size;
    t->token[id].set = true;
}

void bif_tokenizer_set_text(bif_tokenizer *t, int32_t id, const char *text, size_t size)
{
    t->token[id].text = keep(t, text, size);
    t->token[id].text_size = size;
}

const char *bif_tokenizer_text(const bif_tokenizer *t, int32_t id, size_t *size)
{
    const bif_token *token = &t->token[id];
    *size = token->text_size > 0 ? token->text_size : token->size;
    return t->pool + (token->text_size > 0 ? token->text : token->offset);
}

static size_t char_slot(const bif_tokenizer *t, uint32_t code)
{
    size_t at = (code * 0x9e3779b1u >> 7) & (t->char_slots - 1);
    while (t->char_slot[at].code != UINT32_MAX && t->char_slot[at].code != code) {
        at = (at + 1) & (t->char_slots - 1);
    }
    return at;
}

int32_t bif_char_get(const bif_tokenizer *t, uint32_t code)
{
    if (t->char_slots == 0) {
        return -1;
    }
    const bif_char_slot *slot = &t->char_slot[char_slot(t, code)];
    return slot->code == code ? slot->id : -1;
}

void bif_char_add(bif_tokenizer *t, uint32_t code, int32_t id)
{
    if (bif_char_get(t, code) >= 0) {
        return;
    }
    if ((t->chars + 1) * 2 > t->char_slots) {
        bif_char_slot *old = t->char_slot;
        size_t slots = t->char_slots;
        t->char_slots = slots ? slots * 2 : 1024;
        t->char_slot = bif_malloc(t->char_slots * sizeof *t->char_slot);
        memset(t->char_slot, 0xff, t->char_slots * sizeof *t->char_slot);
        for (size_t i = 0; i < slots; i++) {
            if (old[i].code != UINT32_MAX) {
                t->char_slot[char_slot(t, old[i].code)] = old[i];
            }
        }
        free(old);
    }
    t->char_slot[char_slot(t, code)] = (bif_char_slot){.code = code, .id = id};
    t->chars++;
}

/* The byte tokens, or those of characters and the bytes that stand in for others. A vocabulary trained without the full
 * alphabet may lack bytes; those become the unknown token, as in HF. */
static bif_status find_symbols(bif_tokenizer *t, const char *where)
{
    t->unk_id = -1;
    memset(t->byte_id, 0xff, sizeof t->byte_id);
    memset(t->last_id, 0xff, sizeof t->last_id);
    for (int32_t id = 0; id < t->vocab; id++) {
        const bif_token *token = &t->token[id];
        size_t size = 0;
        const char *text = bif_tokenizer_text(t, id, &size);
        if (!token->model) {
            continue;
        }
        if (t->unk != NULL && size == strlen(t->unk) && memcmp(text, t->unk, size) == 0) {
            t->unk_id = id;
        }
        uint32_t code = 0;
        if (!t->characters) {
            bool single = !token->raw && token->size == (token->suffixed ? 2 : 1);
            int32_t *table = token->suffixed ? t->last_id : t->byte_id;
            if (single) {
                table[(uint8_t)t->pool[token->offset]] = id;
            }
        } else if (t->byte_fallback && bif_byte_piece(text, size) >= 0) {
            t->byte_id[bif_byte_piece(text, size)] = id;
        } else if (t->spm == NULL && bif_utf8_decode(text, size, &code) == size) {
            bif_char_add(t, code, id); /* bif_spm_parse did it for its own */
        }
    }
    for (size_t b = 0; b < 256; b++) {
        if (t->byte_fallback && t->byte_id[b] < 0) {
            return bif_fail(BIF_ERR_DATA, "%s: byte_fallback without the token <0x%02zX>, which is not supported", where, b);
        }
        t->byte_id[b] = t->byte_id[b] < 0 ? t->unk_id : t->byte_id[b];
        t->last_id[b] = t->last_id[b] < 0 ? t->unk_id : t->last_id[b];
    }
    return BIF_OK;
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
    for (size_t k = 0; k < t->merges; k++) {
        uint64_t pair = (uint64_t)t->merge[k].left << 32 | (uint64_t)t->merge[k].right;
        size_t at = bif_pair_slot(pair, t->slots);
        while (t->slot[at].pair != UINT64_MAX && t->slot[at].pair != pair) {
            at = (at + 1) & (t->slots - 1);
        }
        t->slot[at] = (bif_merge_slot){.pair = pair, .rank = t->merge[k].rank, .id = t->merge[k].id};
    }
}

/* With ignore_merges whole words are looked up. Special tokens stay out of it, so that text can not forge them. */
static void build_words(bif_tokenizer *t)
{
    t->word_id = bif_malloc((size_t)t->vocab * sizeof *t->word_id);
    for (int32_t id = 0; id < t->vocab; id++) {
        const bif_token *token = &t->token[id];
        size_t size = token->size;
        const char *bytes = t->characters ? bif_tokenizer_text(t, id, &size) : t->pool + token->offset;
        if (token->model && (t->characters || !token->raw) && !token->special) {
            bool is_new = false;
            int64_t number = bif_intern_find(&t->words, bytes, size, true, &is_new);
            t->word_id[number] = id;
        }
    }
}

bif_status bif_tokenizer_match_added(bif_tokenizer *t, const char *where)
{
    for (int k = 0; k < 2; k++) {
        bif_prefixes_free(&t->matcher[k]);
        bif_prefix *entry = bif_malloc((t->added_count + 1) * sizeof *entry);
        size_t count = 0;
        for (size_t i = 0; i < t->added_count; i++) {
            const bif_added *added = &t->added[i];
            if (added->normalized == (k == 1) && added->size > 0) {
                entry[count++] = (bif_prefix){.text = added->text, .size = added->size, .value = (int32_t)i};
            }
        }
        size_t duplicate = bif_prefixes_build(&t->matcher[k], entry, count);
        if (duplicate > 0) {
            return bif_fail(BIF_ERR_DATA, "%s: added token '%s' appears twice", where, entry[duplicate].text);
        }
    }
    return BIF_OK;
}

bool bif_tokenizer_goes_on(const bif_tokenizer *t, int32_t id)
{
    bool prepends = false;
    for (size_t i = 0; i < t->normals; i++) {
        prepends = prepends || t->normal[i].kind == BIF_NORMAL_PREPEND;
    }
    for (size_t i = 0; prepends && i < t->added_count; i++) {
        const bif_added *added = &t->added[i];
        if (added->id == id) { /* with the prefix as part of what is searched for (old files) it is not found behind a word at all */
            return added->normalized && added->size == strlen(added->content) && memcmp(added->text, added->content, added->size) == 0;
        }
    }
    return false;
}

bool bif_tokenizer_keeps_bytes(const bif_tokenizer *t)
{
    return !t->characters && t->suffix == NULL && (t->normals == 0 || (t->normals == 1 && t->normal[0].kind == BIF_NORMAL_NFC));
}

bif_status bif_tokenizer_finish(bif_tokenizer *t, const char *where)
{
    bif_status st = BIF_OK;
    BIF_TRY(find_symbols(t, where));
    build_merge_table(t);
    if (t->ignore_merges) {
        build_words(t);
    }
    BIF_TRY(bif_tokenizer_match_added(t, where));
done:
    return st;
}

static void spm_free(bif_spm *spm)
{
    if (spm != NULL) {
        bif_prefixes_free(&spm->user);
        bif_prefixes_free(&spm->pieces);
        free(spm->texts);
        free(spm->unit);
        free(spm->replacement);
        free(spm->score);
        free(spm->user_defined);
        free(spm);
    }
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
        free(t->step[i].mark);
        pcre2_code_free(t->step[i].code);
    }
    for (size_t i = 0; i < t->normals; i++) {
        free(t->normal[i].content);
        pcre2_code_free(t->normal[i].code);
    }
    for (size_t i = 0; i < sizeof t->section / sizeof t->section[0]; i++) {
        free(t->section[i]);
    }
    spm_free(t->spm);
    bif_prefixes_free(&t->matcher[0]);
    bif_prefixes_free(&t->matcher[1]);
    bif_intern_free(&t->words);
    free(t->word_id);
    free(t->added);
    free(t->char_slot);
    free(t->slot);
    free(t->merge);
    free(t->suffix);
    free(t->mark);
    free(t->unk);
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

char *bif_tokenizer_piece(const bif_tokenizer *t, int32_t id)
{
    if (id < 0 || id >= t->vocab) {
        return NULL;
    }
    const bif_token *token = &t->token[id];
    if (token->text_size > 0 || token->raw || t->characters) {
        size_t size = 0;
        return bif_strdup(bif_tokenizer_text(t, id, &size));
    }
    const char *bytes = t->pool + token->offset;
    char *piece = bif_malloc(token->size * 2 + 1); /* characters below U+0144: two bytes at most */
    size_t used = 0;
    for (size_t i = 0; i < token->size; i++) {
        used += bif_utf8_encode(bif_byte_to_char((uint8_t)bytes[i]), piece + used);
    }
    piece[used] = '\0';
    return piece;
}

/* ---- decoding ---- */

/* The first token under the decoder Metaspace: no marks of it are left, neither as a space nor as themselves. */
static size_t without_marks(const bif_tokenizer *t, const bif_token *token, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < token->size; i++) {
        char byte = t->pool[token->offset + i];
        if (byte != ' ') {
            out[used++] = byte;
        }
    }
    return used;
}

/* What Python's str.strip takes. */
static bool strips(uint32_t code)
{
    return bif_is_space(code) || (code >= 0x1c && code <= 0x1f);
}

/* SentencePiece takes the dummy space off (all of them if it removes extra ones). Behind a suffix that shows as a space, all
 * white space at both ends goes, as in transformers' CLIPTokenizer. */
static void strip(const bif_tokenizer *t, char *text, size_t *size)
{
    size_t front = 0, end = 0;
    uint32_t code = 0;
    if (t->suffix == NULL) {
        while (front < *size && front < t->strip_spaces && text[front] == ' ') {
            front++;
        }
        end = *size;
    } else {
        for (size_t step = 0; (step = bif_utf8_decode(text + front, *size - front, &code)) > 0 && strips(code);) {
            front += step;
        }
        end = front;
        for (size_t at = front, step = 0; at < *size; at += step) {
            step = bif_utf8_decode(text + at, *size - at, &code);
            end = step > 0 && strips(code) ? end : at + (step == 0 ? 1 : step);
            step += step == 0;
        }
    }
    *size = end - front;
    memmove(text, text + front, *size);
    text[*size] = '\0';
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
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        const bif_token *token = &t->token[ids[i]];
        if (skip_special && token->special) {
            continue;
        }
        if (first && t->drop_first_mark) {
            used += without_marks(t, token, text + used);
        } else {
            memcpy(text + used, t->pool + token->offset, token->size);
            used += token->size;
        }
        first = false;
    }
    text[used] = '\0';
    strip(t, text, &used);
    *out = text;
    *size = used;
    return BIF_OK;
}
