/* Reading tokenizer.json. The file is untrusted: every id, merge and token is checked before it is used, ids are dense,
 * and what is not understood is refused by name, because a tokenizer that is nearly right gives ids that are silently
 * wrong. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "data/tokenizer_internal.h"

/* Refuses keys that are not in the list (ended by NULL). */
static bif_status only_keys(const char *where, const char *what, const json_t *object, const char *const *keys)
{
    if (!json_is_object(object)) {
        return bif_fail(BIF_ERR_DATA, "%s: %s is not an object", where, what);
    }
    for (void *it = json_object_iter((json_t *)(uintptr_t)object); it != NULL;
         it = json_object_iter_next((json_t *)(uintptr_t)object, it)) {
        const char *key = json_object_iter_key(it);
        size_t k = 0;
        while (keys[k] != NULL && strcmp(keys[k], key) != 0) {
            k++;
        }
        if (keys[k] == NULL) {
            return bif_fail(BIF_ERR_DATA, "%s: %s has the key '%s', which is not supported", where, what, key);
        }
    }
    return BIF_OK;
}

#define ONLY_KEYS(where, what, object, ...) only_keys(where, what, object, (const char *const[]){__VA_ARGS__, NULL})

static bool absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

static bif_status type_of(const char *where, const char *what, const json_t *object, const char **type)
{
    if (!json_is_object(object)) {
        return bif_fail(BIF_ERR_DATA, "%s: %s is not an object", where, what);
    }
    char *context = bif_format("%s: %s", where, what);
    bif_status st = bif_json_string(context, object, "type", true, type);
    free(context);
    return st;
}

static bif_status read_bool(const char *where, const char *what, const json_t *object, const char *key, bool *out)
{
    char *context = bif_format("%s: %s", where, what);
    bif_status st = bif_json_bool(context, object, key, false, out);
    free(context);
    return st;
}

/* ---- normalizer, pre_tokenizer, decoder, post_processor ---- */

static bif_status read_normalizer(bif_tokenizer *t, const char *where, const json_t *value)
{
    bif_status st = BIF_OK;
    const char *type = NULL;
    if (absent(value)) {
        return BIF_OK;
    }
    BIF_TRY(type_of(where, "normalizer", value, &type));
    if (strcmp(type, "NFC") == 0) {
        t->nfc = true;
        return ONLY_KEYS(where, "normalizer", value, "type");
    }
    const json_t *list = json_object_get(value, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list)) {
        return bif_fail(BIF_ERR_DATA, "%s: normalizer '%s' is not supported (null, NFC)", where, type);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        BIF_TRY(type_of(where, "a normalizer in the Sequence", item, &type));
        if (strcmp(type, "NFC") != 0) {
            return bif_fail(BIF_ERR_DATA, "%s: normalizer '%s' is not supported (null, NFC)", where, type);
        }
        t->nfc = true;
    }
done:
    return st;
}

static bif_status read_split(bif_tokenizer *t, const char *where, const json_t *value)
{
    bif_status st = BIF_OK;
    const char *behavior = "", *regex = NULL;
    BIF_TRY(ONLY_KEYS(where, "pre_tokenizer Split", value, "type", "pattern", "behavior", "invert"));
    const json_t *pattern = json_object_get(value, "pattern");
    BIF_TRY(ONLY_KEYS(where, "pre_tokenizer Split: pattern (only Regex is supported)", pattern, "Regex"));
    BIF_TRY(bif_json_string(where, pattern, "Regex", true, &regex));
    BIF_TRY(bif_json_string(where, value, "behavior", true, &behavior));
    if (strcmp(behavior, "Isolated") != 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: pre_tokenizer Split with behavior '%s' is not supported (Isolated)", where,
                      behavior);
        goto done;
    }
    BIF_TRY(bif_step_add(t, where, BIF_STEP_SPLIT, regex, false, false, true));
done:
    return st;
}

static bif_status read_step(bif_tokenizer *t, const char *where, const json_t *value, bool last)
{
    bif_status st = BIF_OK;
    const char *type = NULL;
    BIF_TRY(type_of(where, "pre_tokenizer", value, &type));
    if (strcmp(type, "ByteLevel") == 0 && last) {
        bool prefix_space = true, use_regex = true; /* HF's defaults */
        BIF_TRY(ONLY_KEYS(where, "pre_tokenizer ByteLevel", value, "type", "add_prefix_space", "trim_offsets",
                          "use_regex"));
        BIF_TRY(read_bool(where, "pre_tokenizer ByteLevel", value, "add_prefix_space", &prefix_space));
        BIF_TRY(read_bool(where, "pre_tokenizer ByteLevel", value, "use_regex", &use_regex));
        BIF_TRY(bif_step_add(t, where, BIF_STEP_BYTE_LEVEL, NULL, false, prefix_space, use_regex));
    } else if (strcmp(type, "Split") == 0 && !last) {
        BIF_TRY(read_split(t, where, value));
    } else if (strcmp(type, "Digits") == 0 && !last) {
        bool individual = false;
        BIF_TRY(ONLY_KEYS(where, "pre_tokenizer Digits", value, "type", "individual_digits"));
        BIF_TRY(read_bool(where, "pre_tokenizer Digits", value, "individual_digits", &individual));
        BIF_TRY(bif_step_add(t, where, BIF_STEP_DIGITS, NULL, individual, false, true));
    } else {
        st = bif_fail(BIF_ERR_DATA,
                      "%s: pre_tokenizer '%s' is not supported here (ByteLevel, or a Sequence of Split or Digits that "
                      "ends with ByteLevel)",
                      where, type);
    }
done:
    return st;
}

static bif_status read_pre_tokenizer(bif_tokenizer *t, const char *where, const json_t *value)
{
    bif_status st = BIF_OK;
    const char *type = NULL;
    BIF_TRY(type_of(where, "pre_tokenizer", value, &type));
    if (strcmp(type, "Sequence") != 0) {
        return read_step(t, where, value, true);
    }
    BIF_TRY(ONLY_KEYS(where, "pre_tokenizer Sequence", value, "type", "pretokenizers"));
    const json_t *list = json_object_get(value, "pretokenizers");
    if (json_array_size(list) == 0) {
        return bif_fail(BIF_ERR_DATA, "%s: pre_tokenizer Sequence without pretokenizers", where);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        BIF_TRY(read_step(t, where, json_array_get(list, i), i + 1 == json_array_size(list)));
    }
done:
    return st;
}

static bif_status read_decoder(const char *where, const json_t *value)
{
    const char *type = NULL;
    bif_status st = type_of(where, "decoder", value, &type);
    if (st == BIF_OK && strcmp(type, "ByteLevel") != 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: decoder '%s' is not supported (ByteLevel)", where, type);
    }
    return st;
}

/* It adds BOS and EOS, which is the chat template's work here; kept as it is for saving. */
static bif_status read_post_processor(bif_tokenizer *t, const char *where, const json_t *value)
{
    bif_status st = BIF_OK;
    const char *type = NULL;
    if (absent(value)) {
        return BIF_OK;
    }
    BIF_TRY(type_of(where, "post_processor", value, &type));
    const json_t *list = strcmp(type, "Sequence") == 0 ? json_object_get(value, "processors") : NULL;
    size_t count = list != NULL ? json_array_size(list) : 1;
    for (size_t i = 0; i < count; i++) {
        if (list != NULL) {
            BIF_TRY(type_of(where, "a processor in the Sequence", json_array_get(list, i), &type));
        }
        if (strcmp(type, "ByteLevel") != 0 && strcmp(type, "TemplateProcessing") != 0) {
            return bif_fail(BIF_ERR_DATA, "%s: post_processor '%s' is not supported (ByteLevel, TemplateProcessing)",
                            where, type);
        }
    }
    t->post_processor = json_dumps(value, JSON_COMPACT);
done:
    return st;
}

/* ---- model ---- */

static bif_status check_model(const char *where, const json_t *model)
{
    bif_status st = BIF_OK;
    const char *type = "BPE", *prefix = "", *suffix = ""; /* files of 2020 have no type */
    double dropout = 0;
    bool fuse_unk = false, byte_fallback = false;
    BIF_TRY(json_is_object(model) ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s: no model", where));
    BIF_TRY(bif_json_string(where, model, "type", false, &type));
    if (strcmp(type, "BPE") != 0) {
        return bif_fail(BIF_ERR_DATA, "%s: model '%s' is not supported (BPE)", where, type);
    }
    BIF_TRY(ONLY_KEYS(where, "model", model, "type", "dropout", "unk_token", "continuing_subword_prefix",
                      "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"));
    BIF_TRY(bif_json_f64(where, model, "dropout", false, &dropout));
    BIF_TRY(bif_json_string(where, model, "continuing_subword_prefix", false, &prefix));
    BIF_TRY(bif_json_string(where, model, "end_of_word_suffix", false, &suffix));
    BIF_TRY(bif_json_bool(where, model, "fuse_unk", false, &fuse_unk));
    BIF_TRY(bif_json_bool(where, model, "byte_fallback", false, &byte_fallback));
    const char *bad = dropout != 0 ? "dropout" : *prefix ? "continuing_subword_prefix" : *suffix ? "end_of_word_suffix"
                      : fuse_unk ? "fuse_unk" : byte_fallback ? "byte_fallback" : NULL;
    if (bad != NULL) {
        return bif_fail(BIF_ERR_DATA, "%s: model.%s is set, which is not supported (byte-level BPE has none)", where,
                        bad);
    }
    if (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(json_object_get(model, "merges"))) {
        return bif_fail(BIF_ERR_DATA, "%s: model.vocab must be an object and model.merges a list", where);
    }
done:
    return st;
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
    char *bytes = bif_malloc(size);
    size_t decoded = 0;
    bool raw = !model || !bif_alphabet_decode(text, size, bytes, &decoded);
    bif_tokenizer_set(t, (int32_t)number, raw ? text : bytes, raw ? size : decoded);
    t->token[number].raw = raw;
    t->token[number].model = model;
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
    const char *unk = NULL;
    for (void *it = json_object_iter(vocab); it != NULL; it = json_object_iter_next(vocab, it)) {
        const char *key = json_object_iter_key(it);
        const json_t *id = json_object_iter_value(it);
        BIF_TRY(place(t, where, key, strlen(key), id, true));
    }
    BIF_TRY(bif_json_string(where, model, "unk_token", false, &unk));
    t->unk = unk == NULL ? NULL : bif_strdup(unk);
    BIF_TRY(bif_json_bool(where, model, "ignore_merges", false, &t->ignore_merges));
    const json_t *merges = json_object_get(model, "merges");
    t->merge = bif_calloc(json_array_size(merges), sizeof *t->merge);
    for (; t->merges < json_array_size(merges); t->merges++) {
        BIF_TRY(read_merge(where, t->merges, vocab, json_array_get(merges, t->merges), &t->merge[t->merges]));
    }
done:
    return st;
}

/* ---- added tokens ---- */

static bif_status read_added(bif_tokenizer *t, const char *where, const json_t *vocab, const json_t *value)
{
    bif_status st = BIF_OK;
    const char *text = NULL;
    bool single_word = false;
    bif_added added = {0};
    BIF_TRY(ONLY_KEYS(where, "an added token", value, "id", "content", "single_word", "lstrip", "rstrip", "normalized",
                      "special"));
    BIF_TRY(bif_json_string(where, value, "content", true, &text));
    BIF_TRY(bif_json_bool(where, value, "special", false, &added.special));
    added.normalized = !added.special;
    BIF_TRY(bif_json_bool(where, value, "normalized", false, &added.normalized));
    BIF_TRY(bif_json_bool(where, value, "lstrip", false, &added.lstrip));
    BIF_TRY(bif_json_bool(where, value, "rstrip", false, &added.rstrip));
    BIF_TRY(bif_json_bool(where, value, "single_word", false, &single_word));
    if (single_word) {
        return bif_fail(BIF_ERR_DATA, "%s: added token '%s' has single_word set, which is not supported", where, text);
    }
    const json_t *id = json_object_get(value, "id"), *known = json_object_get(vocab, text);
    if (known != NULL && !json_equal(known, id)) {
        return bif_fail(BIF_ERR_DATA, "%s: added token '%s' has another id in model.vocab", where, text);
    }
    if (known == NULL) {
        BIF_TRY(place(t, where, text, strlen(text), id, false));
    }
    added.id = (int32_t)json_integer_value(id);
    if (t->token[added.id].added) {
        return bif_fail(BIF_ERR_DATA, "%s: added token '%s' appears twice", where, text);
    }
    added.content = bif_strdup(text);
    t->token[added.id].added = true;
    t->token[added.id].special = added.special;
    if (added.normalized && t->nfc) {
        bif_nfc(text, strlen(text), &added.text, &added.size);
        added.text[added.size] = '\0';
    } else {
        added.text = bif_strdup(text);
        added.size = strlen(text);
    }
    t->added[t->added_count++] = added;
done:
    return st;
}

static bif_status read_tokenizer(const char *where, const json_t *root, bif_tokenizer **out)
{
    bif_status st = BIF_OK;
    bif_tokenizer *t = NULL;
    BIF_TRY(ONLY_KEYS(where, "the file", root, "version", "truncation", "padding", "added_tokens", "normalizer",
                      "pre_tokenizer", "post_processor", "decoder", "model"));
    const json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    BIF_TRY(check_model(where, model));
    const json_t *vocab = json_object_get(model, "vocab");
    if (!absent(added) && !json_is_array(added)) {
        return bif_fail(BIF_ERR_DATA, "%s: added_tokens is not a list", where);
    }
    size_t total = json_object_size(vocab);
    for (size_t i = 0; i < json_array_size(added); i++) {
        const char *text = json_string_value(json_object_get(json_array_get(added, i), "content"));
        total += text == NULL || json_object_get(vocab, text) == NULL;
    }
    if (total == 0 || total > (size_t)BIF_TOKENIZER_MAX_VOCAB) {
        return bif_fail(BIF_ERR_DATA, "%s: %zu tokens (1 to %lld are allowed)", where, total,
                        (long long)BIF_TOKENIZER_MAX_VOCAB);
    }
    t = bif_tokenizer_empty((int32_t)total);
    BIF_TRY(read_normalizer(t, where, json_object_get(root, "normalizer")));
    BIF_TRY(read_pre_tokenizer(t, where, json_object_get(root, "pre_tokenizer")));
    BIF_TRY(read_decoder(where, json_object_get(root, "decoder")));
    BIF_TRY(read_post_processor(t, where, json_object_get(root, "post_processor")));
    BIF_TRY(read_model(t, where, model));
    t->added = bif_calloc(json_array_size(added), sizeof *t->added);
    for (size_t i = 0; i < json_array_size(added); i++) {
        BIF_TRY(read_added(t, where, vocab, json_array_get(added, i)));
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
        st = read_tokenizer(where, root, out);
    }
    json_decref(root);
    return st;
}

bif_status bif_tokenizer_load(const char *path, bif_tokenizer **out)
{
    struct stat info;
    json_t *root = NULL;
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    char *file = folder ? bif_path_join(path, "tokenizer.json") : bif_strdup(path);
    bif_status st = bif_json_load_file(file, BIF_TOKENIZER_MAX_FILE, &root);
    if (st == BIF_OK) {
        st = read_tokenizer(file, root, out);
    }
    json_decref(root);
    free(file);
    return st;
}
