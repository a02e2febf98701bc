/* A tokenizer seen from outside, for writers of other programs' files. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

bif_token_type bif_tokenizer_type(const bif_tokenizer *t, int32_t id)
{
    const bif_token *token = &t->token[id];
    size_t size = 0;
    const char *text = bif_tokenizer_text(t, id, &size);
    const int byte = t->characters && t->byte_fallback ? bif_byte_piece(text, size) : -1;
    if (id == t->unk_id && t->characters) {
        return BIF_TOKEN_UNKNOWN;
    }
    if (byte >= 0 && t->byte_id[byte] == id) {
        return BIF_TOKEN_BYTE;
    }
    if (token->added) {
        return token->special ? BIF_TOKEN_CONTROL : BIF_TOKEN_USER_DEFINED;
    }
    const bool user = t->spm != NULL && (size_t)id < t->spm->count && t->spm->user_defined[id];
    return user ? BIF_TOKEN_USER_DEFINED : token->unused ? BIF_TOKEN_UNUSED : BIF_TOKEN_NORMAL;
}

void bif_tokenizer_look(const bif_tokenizer *t, bif_tokenizer_view *out)
{
    const bif_spm *spm = t->spm;
    *out = (bif_tokenizer_view){
        .byte_level = !t->characters,
        .sentencepiece = spm != NULL,
        .byte_fallback = t->byte_fallback,
        .ignore_merges = t->ignore_merges,
        .word_end = t->suffix != NULL,
        .normalizer = t->section[0],
        .pre_tokenizer = t->section[1],
        .post_processor = t->section[3],
        .unknown = t->unk_id,
        .merges = (int64_t)t->merges,
    };
    for (size_t i = 0; i < t->added_count; i++) {
        const bif_added *a = &t->added[i];
        out->particular = a->lstrip || a->rstrip || a->single_word ? a->content : out->particular;
    }
    if (spm != NULL) {
        out->unigram = spm->unigram;
        out->rewrites = spm->units > 0 || spm->remove_spaces || !spm->escape;
        out->prefix_space = spm->dummy_prefix;
        out->legacy = spm->legacy;
        out->unused = spm->any_unused;
    }
}

void bif_tokenizer_merge(const bif_tokenizer *t, int64_t merge, int32_t *left, int32_t *right)
{
    *left = t->merge[merge].left;
    *right = t->merge[merge].right;
}

/* In how many places a token's text can be cut into the texts of two tokens. */
static int64_t cuts(const bif_tokenizer *t, const bif_intern *texts, int32_t id)
{
    size_t size = 0;
    uint32_t code = 0;
    int64_t found = 0;
    const char *text = bif_tokenizer_text(t, id, &size);
    for (size_t at = bif_utf8_decode(text, size, &code); at < size; at += bif_utf8_decode(text + at, size - at, &code)) {
        found += bif_intern_get(texts, text, at) >= 0 && bif_intern_get(texts, text + at, size - at) >= 0;
    }
    return found;
}

bool bif_tokenizer_scores(const bif_tokenizer *t, float *out)
{
    memset(out, 0, (size_t)t->vocab * sizeof *out);
    if (t->spm != NULL) {
        memcpy(out, t->spm->score, t->spm->count * sizeof *out);
        return true;
    }
    bif_intern texts = {0};
    bool good = true;
    int64_t possible = 0;
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t size = 0;
        const char *text = bif_tokenizer_text(t, id, &size);
        if (t->token[id].model) {
            bif_intern_find(&texts, text, size, true, NULL);
        }
    }
    for (size_t i = 0; i < t->merges && good; i++) {
        const int32_t id = t->merge[i].id;
        const bool begins = i == 0 || t->merge[i - 1].id != id;
        good = !begins || out[id] == 0.0f;
        if (begins && good) {
            out[id] = -(float)(i + 1);
            possible += cuts(t, &texts, id);
        }
    }
    for (int32_t id = 0; id < t->vocab && good; id++) { /* tokens without any merge must not be joined either */
        possible += out[id] == 0.0f && t->token[id].model && !t->token[id].added && bif_tokenizer_type(t, id) == BIF_TOKEN_NORMAL
                        ? cuts(t, &texts, id)
                        : 0;
    }
    bif_intern_free(&texts);
    return good && possible == (int64_t)t->merges;
}
