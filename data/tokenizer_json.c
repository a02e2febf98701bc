/* Reading tokenizer.json. The file is untrusted: every id, merge and token is checked before it is used, ids are dense,
 * and what is not understood is refused by name, because a tokenizer that is nearly right gives ids that are silently
 * wrong. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "data/tokenizer_internal.h"

/* ---- model ---- */

static bif_status check_model(const char *where, const json_t *model)
{
    bif_status st = BIF_OK;
    const char *type = "BPE", *prefix = ""; /* files of 2020 have no type */
    double dropout = 0;
    BIF_TRY(json_is_object(model) ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s: no model", where));
    BIF_TRY(bif_json_string(where, model, "type", false, &type));
    if (strcmp(type, "BPE") != 0) {
        return bif_fail(BIF_ERR_DATA, "%s: model '%s' is not supported (BPE)", where, type);
    }
    BIF_TRY(BIF_ONLY_KEYS(where, "model", model, "type", "dropout", "unk_token", "continuing_subword_prefix",
                          "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"));
    BIF_TRY(bif_json_f64(where, model, "dropout", false, &dropout));
    BIF_TRY(bif_json_string(where, model, "continuing_subword_prefix", false, &prefix));
    if (dropout != 0 || *prefix != '\0') {
        return bif_fail(BIF_ERR_DATA, "%s: model.%s is set, which is not supported", where,
                        dropout != 0 ? "dropout" : "continuing_subword_prefix");
    }
    if (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(json_object_get(model, "merges"))) {
        return bif_fail(BIF_ERR_DATA, "%s: model.vocab must be an object and model.merges a list", where);
    }
done:
    return st;
}

static bif_status read_flags(bif_tokenizer *t, const char *where, const json_t *model)
{
    bif_status st = BIF_OK;
    const char *suffix = "", *unk = NULL;
    BIF_TRY(bif_json_string(where, model, "end_of_word_suffix", false, &suffix));
    BIF_TRY(bif_json_string(where, model, "unk_token", false, &unk));
    BIF_TRY(bif_json_bool(where, model, "fuse_unk", false, &t->fuse_unk));
    BIF_TRY(bif_json_bool(where, model, "byte_fallback", false, &t->byte_fallback));
    BIF_TRY(bif_json_bool(where, model, "ignore_merges", false, &t->ignore_merges));
    t->unk = unk == NULL ? NULL : bif_strdup(unk);
    t->suffix = *suffix == '\0' ? NULL : bif_strdup(suffix);
    if (t->byte_fallback && !t->characters) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: model.byte_fallback with ByteLevel is not supported", where));
    }
    if (t->suffix != NULL && (t->characters || t->ignore_merges)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: model.end_of_word_suffix is supported with ByteLevel and without ignore_merges only", where));
    }
done:
    return st;
}

/* What a token of characters stands for in a text: marks are spaces, <0x0A> is a byte. No longer than the token. */
static void show(const bif_tokenizer *t, const char *text, size_t size, char *out, size_t *out_size)
{
    const size_t mark = t->mark == NULL ? 0 : strlen(t->mark);
    const int byte = t->show_bytes ? bif_byte_piece(text, size) : -1;
    size_t used = 0;
    for (size_t i = 0; i < size && byte < 0;) {
        const bool space = mark > 0 && size - i >= mark && memcmp(text + i, t->mark, mark) == 0;
        out[used++] = space ? ' ' : text[i];
        i += space ? mark : 1;
    }
    if (byte >= 0) {
        out[used++] = (char)byte;
    }
    *out_size = used;
}

/* Puts a token at its id. With n tokens in all, n different ids below n are dense. A token of the model is written in
 * the byte-level alphabet also when it is an added token ("é" there is the byte 0xe9), as HF decodes it. */
static bif_status place(bif_tokenizer *t, const char *where, const char *text, size_t size, const json_t *id,
                        bool model)
{
    int64_t number = json_is_integer(id) ? (int64_t)json_integer_value(id) : -1;
    if (number < 0 || number >= t->vocab || t->token[number].set) {
        return bif_fail(BIF_ERR_DATA, "%s: token '%.40s': its id is %s; ids must be 0 to %d, each once", where, text,
                        number < 0 ? "not a number" : number < t->vocab ? "taken" : "too large", t->vocab - 1);
    }
    if (size == 0) {
        return bif_fail(BIF_ERR_DATA, "%s: token %lld is empty", where, (long long)number);
    }
    bif_token *token = &t->token[number];
    char *bytes = bif_malloc(size + 1);
    size_t decoded = 0;
    token->model = model;
    token->raw = t->characters || !model || !bif_alphabet_decode(text, size, bytes, &decoded);
    const size_t suffix = t->suffix != NULL ? strlen(t->suffix) : 0;
    if (model && t->characters) {
        bif_tokenizer_set_text(t, (int32_t)number, text, size);
        show(t, text, size, bytes, &decoded);
    } else if (token->raw) {
        memcpy(bytes, text, size);
        decoded = size;
    } else if (suffix > 0 && size > suffix && memcmp(text + size - suffix, t->suffix, suffix) == 0) {
        token->suffixed = true;
        bif_tokenizer_set_text(t, (int32_t)number, text, size);
        bif_alphabet_decode(text, size - suffix, bytes, &decoded);
        bytes[decoded++] = ' ';
    }
    bif_tokenizer_set(t, (int32_t)number, bytes, decoded);
    free(bytes);
    return BIF_OK;
}

/* Id of a piece of a merge, which must be a token of the model. */
static bif_status piece_id(const char *where, size_t rank, const json_t *vocab, const char *text, size_t size,
                           int32_t *id)
{
    const json_t *value = json_object_getn(vocab, text, size);
    if (value == NULL || memchr(text, ' ', size) != NULL) {
        return bif_fail(BIF_ERR_DATA, "%s: merge %zu: '%.*s' is not in the vocabulary", where, rank,
                        (int)(size < 80 ? size : 80), text);
    }
    *id = (int32_t)json_integer_value(value);
    return BIF_OK;
}

static bif_status read_merge(const char *where, size_t rank, const json_t *vocab, const json_t *value, bif_merge *out)
{
    bif_status st = BIF_OK;
    char *joined = NULL;
    const char *left = NULL, *right = NULL;
    size_t left_size = 0, right_size = 0;
    if (json_is_string(value)) {
        left = json_string_value(value);
        const char *space = strchr(left, ' ');
        left_size = space == NULL ? 0 : (size_t)(space - left);
        right = space == NULL ? left : space + 1;
        right_size = json_string_length(value) - (size_t)(right - left);
    } else if (json_array_size(value) == 2) {
        left = json_string_value(json_array_get(value, 0));
        right = json_string_value(json_array_get(value, 1));
        left_size = json_string_length(json_array_get(value, 0));
        right_size = json_string_length(json_array_get(value, 1));
    }
    if (left == NULL || right == NULL || left_size == 0 || right_size == 0) {
        return bif_fail(BIF_ERR_DATA, "%s: merge %zu is not \"a b\" or [\"a\", \"b\"]", where, rank);
    }
    BIF_TRY(piece_id(where, rank, vocab, left, left_size, &out->left));
    BIF_TRY(piece_id(where, rank, vocab, right, right_size, &out->right));
    joined = bif_malloc(left_size + right_size);
    memcpy(joined, left, left_size);
    memcpy(joined + left_size, right, right_size);
    BIF_TRY(piece_id(where, rank, vocab, joined, left_size + right_size, &out->id));
done:
    free(joined);
    return st;
}

static bif_status read_model(bif_tokenizer *t, const char *where, const json_t *model)
{
    bif_status st = BIF_OK;
    json_t *vocab = json_object_get(model, "vocab");
    for (void *it = json_object_iter(vocab); it != NULL; it = json_object_iter_next(vocab, it)) {
        const char *key = json_object_iter_key(it);
        const json_t *id = json_object_iter_value(it);
        BIF_TRY(place(t, where, key, strlen(key), id, true));
    }
    const json_t *merges = json_object_get(model, "merges");
    t->merge = bif_calloc(json_array_size(merges), sizeof *t->merge);
    for (; t->merges < json_array_size(merges); t->merges++) {
        BIF_TRY(read_merge(where, t->merges, vocab, json_array_get(merges, t->merges), &t->merge[t->merges]));
        t->merge[t->merges].rank = (int32_t)t->merges;
    }
done:
    return st;
}

/* ---- added tokens ---- */

static bool in_vocabulary(const bif_tokenizer *t, int64_t id, const char *text)
{
    if (id < 0 || id >= t->vocab || !t->token[id].model) {
        return false;
    }
    char *piece = bif_tokenizer_piece(t, (int32_t)id);
    const bool same = strcmp(piece, text) == 0;
    free(piece);
    return same;
}

bif_status bif_tokenizer_read_added(bif_tokenizer *t, const char *where, const json_t *value)
{
    bif_status st = BIF_OK;
    const char *text = NULL;
    int64_t id = -1;
    bif_added added = {0};
    BIF_TRY(BIF_ONLY_KEYS(where, "an added token", value, "id", "content", "single_word", "lstrip", "rstrip", "normalized",
                          "special"));
    BIF_TRY(bif_json_string(where, value, "content", true, &text));
    BIF_TRY(bif_json_i64(where, value, "id", true, &id));
    BIF_TRY(bif_json_bool(where, value, "special", false, &added.special));
    added.normalized = !added.special;
    BIF_TRY(bif_json_bool(where, value, "normalized", false, &added.normalized));
    BIF_TRY(bif_json_bool(where, value, "lstrip", false, &added.lstrip));
    BIF_TRY(bif_json_bool(where, value, "rstrip", false, &added.rstrip));
    BIF_TRY(bif_json_bool(where, value, "single_word", false, &added.single_word));
    if (!in_vocabulary(t, id, text)) {
        BIF_TRY(place(t, where, text, strlen(text), json_object_get(value, "id"), false));
    }
    if (t->token[id].added) {
        return bif_fail(BIF_ERR_DATA, "%s: added token '%s' appears twice", where, text);
    }
    added.id = (int32_t)id;
    added.normalized = added.normalized && t->spm == NULL;
    added.size = strlen(text);
    if (added.normalized && t->normals > 0) {
        BIF_TRY(bif_normalize(t, text, added.size, BIF_TEXT_START, &added.text, &added.size));
    } else {
        added.text = bif_strdup(text);
    }
    added.content = bif_strdup(text);
    t->token[id].added = true;
    t->token[id].special = added.special;
    t->added[t->added_count++] = added;
done:
    return st;
}

bif_status bif_tokenizer_from_json(const char *where, const json_t *root, bif_tokenizer **out)
{
    bif_status st = BIF_OK;
    bif_tokenizer *t = NULL;
    BIF_TRY(BIF_ONLY_KEYS(where, "the file", root, "version", "truncation", "padding", "added_tokens", "normalizer",
                          "pre_tokenizer", "post_processor", "decoder", "model"));
    const json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    BIF_TRY(check_model(where, model));
    const json_t *vocab = json_object_get(model, "vocab");
    if (added != NULL && !json_is_null(added) && !json_is_array(added)) {
        return bif_fail(BIF_ERR_DATA, "%s: added_tokens is not a list", where);
    }
    size_t total = json_object_size(vocab);
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *item = json_array_get(added, i);
        const char *text = json_string_value(json_object_get(item, "content"));
        const json_t *known = text == NULL ? NULL : json_object_get(vocab, text);
        if (known != NULL && !json_equal(known, json_object_get(item, "id"))) {
            return bif_fail(BIF_ERR_DATA, "%s: added token '%s' has another id in model.vocab", where, text);
        }
        total += known == NULL;
    }
    if (total == 0 || total > (size_t)BIF_TOKENIZER_MAX_VOCAB) {
        return bif_fail(BIF_ERR_DATA, "%s: %zu tokens (1 to %lld are allowed)", where, total,
                        (long long)BIF_TOKENIZER_MAX_VOCAB);
    }
    t = bif_tokenizer_empty((int32_t)total);
    BIF_TRY(bif_tokenizer_read_parts(t, where, root));
    BIF_TRY(read_flags(t, where, model));
    BIF_TRY(read_model(t, where, model));
    t->added = bif_calloc(json_array_size(added), sizeof *t->added);
    for (size_t i = 0; i < json_array_size(added); i++) {
        BIF_TRY(bif_tokenizer_read_added(t, where, json_array_get(added, i)));
    }
    BIF_TRY(bif_tokenizer_finish(t, where));
    *out = t;
    t = NULL;
done:
    bif_tokenizer_free(t);
    return st;
}

bif_status bif_tokenizer_parse(const char *where, const char *json, size_t size, bif_tokenizer **out)
{
    json_t *root = NULL;
    if (size > BIF_TOKENIZER_MAX_FILE) {
        return bif_fail(BIF_ERR_DATA, "%s: %zu bytes; a tokenizer may have %zu", where, size, BIF_TOKENIZER_MAX_FILE);
    }
    bif_status st = bif_json_parse(where, json, size, &root);
    if (st == BIF_OK) {
        st = bif_tokenizer_from_json(where, root, out);
    }
    json_decref(root);
    return st;
}
