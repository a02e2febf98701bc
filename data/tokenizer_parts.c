/* The parts of tokenizer.json that are not the model: normalizer, pre_tokenizer, decoder, post_processor. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_internal.h"

bif_status bif_json_only_keys(const char *where, const char *what, const json_t *object, const char *const *keys)
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

/* ---- normalizer ---- */

/* {"Regex": ...} or {"String": ...}. */
static bif_status read_pattern(const char *where, const char *what, const json_t *object, const char **pattern, bool *literal)
{
    bif_status st = BIF_OK;
    const json_t *value = json_object_get(object, "pattern");
    BIF_TRY(BIF_ONLY_KEYS(where, what, value, "Regex", "String"));
    *literal = json_object_get(value, "String") != NULL;
    BIF_TRY(bif_json_string(where, value, *literal ? "String" : "Regex", true, pattern));
done:
    return st;
}

static bif_status read_normalizer(bif_tokenizer *t, const char *where, const json_t *value, int depth)
{
    static const struct {
        const char *name;
        bif_normal_kind kind;
    } kinds[] = {{"NFC", BIF_NORMAL_NFC}, {"NFD", BIF_NORMAL_NFD}, {"NFKC", BIF_NORMAL_NFKC}, {"NFKD", BIF_NORMAL_NFKD},
                 {"Lowercase", BIF_NORMAL_LOWER}, {"Replace", BIF_NORMAL_REPLACE}, {"Prepend", BIF_NORMAL_PREPEND}};
    bif_status st = BIF_OK;
    const char *type = NULL, *pattern = NULL, *content = NULL;
    bool literal = false;
    BIF_TRY(type_of(where, "normalizer", value, &type));
    const json_t *list = json_object_get(value, "normalizers");
    if (strcmp(type, "Sequence") == 0 && json_is_array(list) && depth == 0) {
        for (size_t i = 0; i < json_array_size(list); i++) {
            BIF_TRY(read_normalizer(t, where, json_array_get(list, i), 1));
        }
        return BIF_OK;
    }
    size_t k = 0;
    while (k < sizeof kinds / sizeof kinds[0] && strcmp(type, kinds[k].name) != 0) {
        k++;
    }
    if (k == sizeof kinds / sizeof kinds[0] || t->normals == BIF_TOKENIZER_MAX_STEPS) {
        return bif_fail(BIF_ERR_DATA,
                        "%s: normalizer '%s' is not supported (at most %d of NFC, NFD, NFKC, NFKD, Lowercase, Replace, Prepend)", where,
                        type, BIF_TOKENIZER_MAX_STEPS);
    }
    BIF_TRY(BIF_ONLY_KEYS(where, type, value, "type", "pattern", "content", "prepend"));
    bif_normal *n = &t->normal[t->normals++];
    n->kind = kinds[k].kind;
    if (n->kind == BIF_NORMAL_REPLACE) {
        BIF_TRY(read_pattern(where, "normalizer Replace: pattern", value, &pattern, &literal));
        BIF_TRY(bif_json_string(where, value, "content", true, &content));
        BIF_TRY(bif_pattern_compile(where, pattern, literal, &n->code));
    } else if (n->kind == BIF_NORMAL_PREPEND) {
        BIF_TRY(bif_json_string(where, value, "prepend", true, &content));
    }
    n->content = content == NULL ? NULL : bif_strdup(content);
done:
    return st;
}

/* ---- pre_tokenizer ---- */

static bif_status read_split(bif_tokenizer *t, const char *where, const json_t *value)
{
    static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    bif_status st = BIF_OK;
    const char *behavior = "", *pattern = NULL;
    bool literal = false;
    bif_split_step step = {.kind = BIF_STEP_SPLIT};
    BIF_TRY(BIF_ONLY_KEYS(where, "pre_tokenizer Split", value, "type", "pattern", "behavior", "invert"));
    BIF_TRY(read_pattern(where, "pre_tokenizer Split: pattern", value, &pattern, &literal));
    BIF_TRY(bif_json_string(where, value, "behavior", true, &behavior));
    BIF_TRY(read_bool(where, "pre_tokenizer Split", value, "invert", &step.invert));
    size_t k = 0;
    while (k < sizeof behaviors / sizeof behaviors[0] && strcmp(behavior, behaviors[k]) != 0) {
        k++;
    }
    if (k == sizeof behaviors / sizeof behaviors[0]) {
        return bif_fail(BIF_ERR_DATA, "%s: pre_tokenizer Split with behavior '%s' is not supported", where, behavior);
    }
    step.behavior = (bif_split_behavior)k;
    BIF_TRY(bif_step_add(t, where, step, pattern, literal));
done:
    return st;
}

static bif_status read_metaspace(bif_tokenizer *t, const char *where, const json_t *value)
{
    static const char *const schemes[] = {"never", "first", "always"};
    bif_status st = BIF_OK;
    const char *mark = "\xe2\x96\x81", *scheme = NULL;
    bool prefix = true, cut = true;
    BIF_TRY(BIF_ONLY_KEYS(where, "pre_tokenizer Metaspace", value, "type", "replacement", "add_prefix_space", "prepend_scheme", "split",
                          "str_rep"));
    BIF_TRY(bif_json_string(where, value, "replacement", false, &mark));
    BIF_TRY(bif_json_string(where, value, "prepend_scheme", false, &scheme));
    BIF_TRY(read_bool(where, "pre_tokenizer Metaspace", value, "add_prefix_space", &prefix));
    BIF_TRY(read_bool(where, "pre_tokenizer Metaspace", value, "split", &cut));
    scheme = scheme != NULL ? scheme : prefix ? "always" : "never";
    size_t k = 0;
    while (k < 3 && strcmp(scheme, schemes[k]) != 0) {
        k++;
    }
    if (k == 3 || *mark == '\0') {
        return bif_fail(BIF_ERR_DATA, "%s: pre_tokenizer Metaspace with prepend_scheme '%s' and replacement '%s' is not supported", where,
                        scheme, mark);
    }
    const bif_split_step step = {.kind = BIF_STEP_METASPACE, .prefix = (bif_prefix_scheme)k, .mark = bif_strdup(mark), .cut = cut};
    BIF_TRY(bif_step_add(t, where, step, NULL, false));
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
        BIF_TRY(BIF_ONLY_KEYS(where, "pre_tokenizer ByteLevel", value, "type", "add_prefix_space", "trim_offsets",
                              "use_regex"));
        BIF_TRY(read_bool(where, "pre_tokenizer ByteLevel", value, "add_prefix_space", &prefix_space));
        BIF_TRY(read_bool(where, "pre_tokenizer ByteLevel", value, "use_regex", &use_regex));
        t->characters = false;
        const bif_split_step step = {.kind = BIF_STEP_BYTE_LEVEL, .prefix = prefix_space ? BIF_PREFIX_ALWAYS : BIF_PREFIX_NEVER};
        BIF_TRY(bif_step_add(t, where, step, use_regex ? "" : NULL, false));
    } else if (strcmp(type, "Split") == 0) {
        BIF_TRY(read_split(t, where, value));
    } else if (strcmp(type, "Metaspace") == 0) {
        BIF_TRY(read_metaspace(t, where, value));
    } else if (strcmp(type, "Digits") == 0) {
        bool individual = false;
        BIF_TRY(BIF_ONLY_KEYS(where, "pre_tokenizer Digits", value, "type", "individual_digits"));
        BIF_TRY(read_bool(where, "pre_tokenizer Digits", value, "individual_digits", &individual));
        BIF_TRY(bif_step_add(t, where, (bif_split_step){.kind = BIF_STEP_SPLIT}, individual ? "\\p{N}" : "\\p{N}+", false));
    } else {
        st = bif_fail(BIF_ERR_DATA,
                      "%s: pre_tokenizer '%s' is not supported here (Split, Digits, Metaspace, or a Sequence of them, which may end with "
                      "ByteLevel)",
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
    BIF_TRY(BIF_ONLY_KEYS(where, "pre_tokenizer Sequence", value, "type", "pretokenizers"));
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

/* ---- decoder ---- */

/* Replace turns a mark into a space, ByteFallback <0x0A> into its byte, and Strip, behind Fuse, takes spaces off the front:
 * what Llama's tokenizers have. */
static bif_status read_decoder_step(bif_tokenizer *t, const char *where, const json_t *value, bool *fused)
{
    bif_status st = BIF_OK;
    const char *type = NULL, *pattern = NULL, *content = "";
    bool literal = false, fits = false;
    int64_t start = 0, stop = 0;
    BIF_TRY(type_of(where, "decoder", value, &type));
    if (strcmp(type, "ByteLevel") == 0) {
        fits = !t->characters;
    } else if (strcmp(type, "Replace") == 0) {
        BIF_TRY(read_pattern(where, "decoder Replace: pattern", value, &pattern, &literal));
        BIF_TRY(bif_json_string(where, value, "content", true, &content));
        fits = literal && strcmp(content, " ") == 0 && *pattern != '\0' && t->mark == NULL && t->characters;
        t->mark = fits ? bif_strdup(pattern) : t->mark;
    } else if (strcmp(type, "Metaspace") == 0) {
        const char *mark = "\xe2\x96\x81", *scheme = "always";
        BIF_TRY(bif_json_string(where, value, "replacement", false, &mark));
        BIF_TRY(bif_json_string(where, value, "prepend_scheme", false, &scheme));
        fits = *mark != '\0' && t->mark == NULL && t->characters;
        t->mark = fits ? bif_strdup(mark) : t->mark;
        t->drop_first_mark = strcmp(scheme, "never") != 0;
    } else if (strcmp(type, "ByteFallback") == 0) {
        fits = t->show_bytes = t->characters;
    } else if (strcmp(type, "Fuse") == 0) {
        fits = *fused = t->characters;
    } else if (strcmp(type, "Strip") == 0) {
        BIF_TRY(bif_json_string(where, value, "content", true, &content));
        BIF_TRY(bif_json_i64(where, value, "start", true, &start));
        BIF_TRY(bif_json_i64(where, value, "stop", true, &stop));
        fits = *fused && strcmp(content, " ") == 0 && start >= 0 && stop == 0;
        t->strip_spaces = (size_t)start;
    }
    if (!fits) {
        st = bif_fail(BIF_ERR_DATA,
                      "%s: decoder '%s' is not supported here (ByteLevel where the pre_tokenizer is; else Metaspace, or Replace of a mark "
                      "by a space, ByteFallback, Fuse, Strip of spaces at the front)",
                      where, type);
    }
done:
    return st;
}

static bif_status read_decoder(bif_tokenizer *t, const char *where, const json_t *value)
{
    bif_status st = BIF_OK;
    const char *type = NULL;
    bool fused = false;
    BIF_TRY(type_of(where, "decoder", value, &type));
    const json_t *list = strcmp(type, "Sequence") == 0 ? json_object_get(value, "decoders") : NULL;
    for (size_t i = 0; i < (list != NULL ? json_array_size(list) : 1); i++) {
        BIF_TRY(read_decoder_step(t, where, list != NULL ? json_array_get(list, i) : value, &fused));
    }
done:
    return st;
}

/* ---- post_processor ---- */

/* It adds BOS and EOS, which is the chat template's work here; kept as it is for saving. */
static bif_status check_post_processor(const char *where, const json_t *value)
{
    bif_status st = BIF_OK;
    const char *type = NULL;
    BIF_TRY(type_of(where, "post_processor", value, &type));
    const json_t *list = strcmp(type, "Sequence") == 0 ? json_object_get(value, "processors") : NULL;
    size_t count = list != NULL ? json_array_size(list) : 1;
    for (size_t i = 0; i < count; i++) {
        if (list != NULL) {
            BIF_TRY(type_of(where, "a processor in the Sequence", json_array_get(list, i), &type));
        }
        if (strcmp(type, "ByteLevel") != 0 && strcmp(type, "TemplateProcessing") != 0 && strcmp(type, "RobertaProcessing") != 0 &&
            strcmp(type, "BertProcessing") != 0) {
            return bif_fail(BIF_ERR_DATA, "%s: post_processor '%s' is not supported", where, type);
        }
    }
done:
    return st;
}

bif_status bif_tokenizer_read_parts(bif_tokenizer *t, const char *where, const json_t *root)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < sizeof t->section / sizeof t->section[0]; i++) {
        const json_t *value = json_object_get(root, BIF_SECTIONS[i]);
        t->section[i] = absent(value) ? NULL : json_dumps(value, JSON_COMPACT);
    }
    t->characters = true;
    if (t->section[0] != NULL) {
        BIF_TRY(read_normalizer(t, where, json_object_get(root, BIF_SECTIONS[0]), 0));
    }
    if (t->section[1] != NULL) {
        BIF_TRY(read_pre_tokenizer(t, where, json_object_get(root, BIF_SECTIONS[1])));
    }
    if (t->section[2] == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: it has no decoder, which is not supported", where));
    }
    BIF_TRY(read_decoder(t, where, json_object_get(root, BIF_SECTIONS[2])));
    if (t->section[3] != NULL) {
        BIF_TRY(check_post_processor(where, json_object_get(root, BIF_SECTIONS[3])));
    }
done:
    return st;
}
