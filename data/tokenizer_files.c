/* The files that a tokenizer comes in: which of them a path means, and the added tokens that lie beside the model. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer_internal.h"

#define SIDE_CAP ((size_t)16 << 20)
#define MAX_ADDED 10000

const char *const bif_tokenizer_files[] = {"spiece.model",          "tokenizer.json",    "tokenizer.model",
                                           "vocab.json",            "merges.txt",        "tokenizer_config.json",
                                           "added_tokens.json",     "special_tokens_map.json", "chat_template.jinja", NULL};

/* A file beside the tokenizer, or NULL when there is none. */
static bif_status load_side(const char *folder, const char *name, json_t **out)
{
    char *path = bif_path_join(folder, name);
    bif_status (*load)(const char *, size_t, json_t **) = strcmp(name, "tokenizer_config.json") == 0 ? bif_json_load_reals : bif_json_load_file;
    bif_status st = bif_exists(path) ? load(path, SIDE_CAP, out) : BIF_OK;
    if (st == BIF_OK && *out != NULL && !json_is_object(*out)) {
        st = bif_fail(BIF_ERR_DATA, "%s: not an object", path);
    }
    free(path);
    return st;
}

static json_t *new_token(int64_t id, const char *text, bool special)
{
    return json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content", text, "single_word", 0, "lstrip", 0, "rstrip",
                     0, "normalized", 0, "special", special);
}

static json_t *find_token(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *item = json_array_get(list, i);
        const char *content = json_string_value(json_object_get(item, "content"));
        if (content != NULL && strcmp(content, text) == 0) {
            return item;
        }
    }
    return NULL;
}

/* tokenizer_config.json: {"added_tokens_decoder": {"32000": {"content": ..., "lstrip": ..., ...}}}. */
static bif_status from_config(const char *where, const json_t *config, json_t *list)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, value)
    {
        char *end = NULL;
        const long long id = strtoll(key, &end, 10);
        if (end == key || *end != '\0' || id < 0 || id >= BIF_TOKENIZER_MAX_VOCAB || !json_is_object(value)) {
            return bif_fail(BIF_ERR_DATA, "%s/tokenizer_config.json: added_tokens_decoder has the key '%s'", where, key);
        }
        json_t *copy = json_copy(value);
        json_object_set_new(copy, "id", json_integer(id));
        json_object_del(copy, "__type");
        json_array_append_new(list, copy);
    }
    return BIF_OK;
}

/* added_tokens.json: {"<image>": 32000}. */
static bif_status from_added(const char *where, const json_t *added, json_t *list)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)added, key, value)
    {
        if (!json_is_integer(value)) {
            return bif_fail(BIF_ERR_DATA, "%s/added_tokens.json: the id of '%s' is not a number", where, key);
        }
        if (json_integer_value(value) < 0 || json_integer_value(value) >= BIF_TOKENIZER_MAX_VOCAB) {
            return bif_fail(BIF_ERR_DATA, "%s/added_tokens.json: the id of '%s' is %lld; ids are below %lld", where, key,
                            (long long)json_integer_value(value), (long long)BIF_TOKENIZER_MAX_VOCAB);
        }
        if (find_token(list, key) == NULL) {
            json_array_append_new(list, new_token(json_integer_value(value), key, false));
        }
    }
    return BIF_OK;
}

static const char *text_of(const json_t *value)
{
    return json_is_object(value) ? json_string_value(json_object_get(value, "content")) : json_string_value(value);
}

/* The names that transformers gives special tokens, in its order: new ones get the next ids. */
static void from_names(const json_t *names, json_t *specials)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *text = text_of(json_object_get(names, keys[i]));
        if (text != NULL && *text != '\0') {
            json_array_append_new(specials, json_string(text));
        }
    }
    const json_t *more = json_object_get(names, "additional_special_tokens");
    for (size_t i = 0; i < json_array_size(more); i++) {
        const char *text = text_of(json_array_get(more, i));
        if (text != NULL && *text != '\0') {
            json_array_append_new(specials, json_string(text));
        }
    }
}

/* The added tokens beside a model, in the layout of tokenizer.json; `vocab` finds the ids of those that the model has (-1:
 * none) and says how many ids it has. */
typedef int32_t (*find_fn)(const void *model, const char *text);
static bif_status side_tokens(const char *folder, const json_t *config, find_fn find, const void *model, int64_t vocab, json_t **out)
{
    bif_status st = BIF_OK;
    json_t *added = NULL, *map = NULL, *list = json_array(), *specials = json_array();
    BIF_TRY(load_side(folder, "added_tokens.json", &added));
    BIF_TRY(load_side(folder, "special_tokens_map.json", &map));
    if (json_object_size(added) > MAX_ADDED) { /* each is compared with all */
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s/added_tokens.json: more than %d tokens", folder, MAX_ADDED));
    }
    BIF_TRY(from_config(folder, config, list));
    BIF_TRY(from_added(folder, added, list));
    from_names(config, specials);
    from_names(map, specials);
    if (json_array_size(list) + json_array_size(specials) > MAX_ADDED) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %zu added and special tokens beside the model (%d are allowed)", folder,
                         json_array_size(list) + json_array_size(specials), MAX_ADDED));
    }
    int64_t next = vocab;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const int64_t id = json_integer_value(json_object_get(json_array_get(list, i), "id"));
        next = id >= next ? id + 1 : next;
    }
    for (size_t i = 0; i < json_array_size(specials); i++) {
        const char *text = json_string_value(json_array_get(specials, i));
        json_t *known = find_token(list, text);
        const int32_t id = find(model, text);
        if (known != NULL) {
            json_object_set_new(known, "special", json_true());
        } else {
            json_array_append_new(list, new_token(id >= 0 ? id : next++, text, true));
        }
    }
    *out = list;
    list = NULL;
done:
    json_decref(added);
    json_decref(map);
    json_decref(specials);
    json_decref(list);
    return st;
}

/* ---- tokenizer.model ---- */

static int32_t find_piece(const void *model, const char *text)
{
    const bif_tokenizer *t = model;
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t size = 0;
        const char *other = bif_tokenizer_text(t, id, &size);
        if (size == strlen(text) && memcmp(other, text, size) == 0) {
            return id;
        }
    }
    return -1;
}

/* A control piece is an added token already; the side files may give it other flags. */
static void forget_added(bif_tokenizer *t, int64_t id)
{
    for (size_t i = 0; i < t->added_count; i++) {
        if (t->added[i].id == id) {
            free(t->added[i].content);
            free(t->added[i].text);
            t->added[i] = t->added[--t->added_count];
            t->token[id].added = false;
            return;
        }
    }
}

static bif_status add_side_tokens(bif_tokenizer *t, const char *folder, const json_t *list)
{
    bif_status st = BIF_OK;
    const size_t count = json_array_size(list);
    const int32_t pieces = t->vocab;
    int64_t last = t->vocab - 1;
    for (size_t i = 0; i < count; i++) {
        const int64_t id = json_integer_value(json_object_get(json_array_get(list, i), "id"));
        last = id > last ? id : last;
    }
    if (last - pieces >= (int64_t)count) {
        return bif_fail(BIF_ERR_DATA, "%s: the added tokens end at id %lld, with holes behind the model's %d pieces", folder,
                        (long long)last, pieces);
    }
    bif_tokenizer_grow(t, (int32_t)last + 1);
    t->added = bif_realloc(t->added, t->added_count + count + 1, sizeof *t->added);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        forget_added(t, json_integer_value(json_object_get(item, "id")));
        BIF_TRY(bif_tokenizer_read_added(t, folder, item));
    }
    for (int32_t id = pieces; id < t->vocab; id++) {
        if (!t->token[id].set) {
            return bif_fail(BIF_ERR_DATA, "%s: no added token has the id %d", folder, id);
        }
    }
done:
    return st;
}

static bif_status load_spm(const char *path, const char *data, size_t size, bif_tokenizer **out)
{
    bif_status st = BIF_OK;
    bif_tokenizer *t = NULL;
    json_t *config = NULL, *list = NULL;
    const char *class_name = strcmp(bif_path_base(path), "spiece.model") == 0 ? "SiglipTokenizer" : "LlamaTokenizer";
    bool lower = true;
    char *folder = bif_path_parent(path);
    BIF_TRY(bif_spm_parse(path, data, size, &t));
    BIF_TRY(load_side(folder, "tokenizer_config.json", &config));
    if (config != NULL) {
        BIF_TRY(bif_json_string(folder, config, "tokenizer_class", false, &class_name));
        BIF_TRY(bif_json_bool(folder, config, "legacy", false, &t->spm->legacy));
        BIF_TRY(bif_json_bool(folder, config, "add_prefix_space", false, &t->spm->dummy_prefix));
        BIF_TRY(bif_json_bool(folder, config, "do_lower_case", false, &lower));
    }
    t->spm->canonical = strcmp(class_name, "SiglipTokenizer") == 0;
    t->spm->keep_case = !lower;
    /* what bifocal saves beside a tokenizer.json, which says all else */
    const bool saved = strcmp(class_name, "PreTrainedTokenizerFast") == 0 && json_is_boolean(json_object_get(config, "legacy"));
    if (!t->spm->canonical && !saved && strcmp(class_name, "LlamaTokenizer") != 0 && strcmp(class_name, "LlamaTokenizerFast") != 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: tokenizer_class '%s' with a tokenizer.model is not supported (LlamaTokenizer, "
                         "SiglipTokenizer)", folder, class_name));
    }
    BIF_TRY(side_tokens(folder, config, find_piece, t, t->vocab, &list));
    BIF_TRY(add_side_tokens(t, folder, list));
    BIF_TRY(bif_tokenizer_finish(t, path));
    *out = t;
    t = NULL;
done:
    bif_tokenizer_free(t);
    json_decref(config);
    json_decref(list);
    free(folder);
    return st;
}

/* ---- vocab.json and merges.txt ---- */

static int32_t find_key(const void *model, const char *text)
{
    const json_t *id = json_object_get(model, text);
    return id == NULL ? -1 : (int32_t)json_integer_value(id);
}

#define BYTE_LEVEL(space) "{\"type\":\"ByteLevel\",\"add_prefix_space\":" space ",\"trim_offsets\":true}"
static const char clip_parts[] =
    "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},"
    "\"content\":\" \"},{\"type\":\"Lowercase\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
    "\"pattern\":{\"Regex\":\"<\\\\|startoftext\\\\|>|<\\\\|endoftext\\\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|"
    "[^\\\\s\\\\p{L}\\\\p{N}]+\"},\"behavior\":\"Removed\",\"invert\":true}," BYTE_LEVEL("false") "]},\"decoder\":" BYTE_LEVEL("true") "}";
static const char gpt2_parts[] = "{\"normalizer\":null,\"pre_tokenizer\":" BYTE_LEVEL("false") ",\"decoder\":" BYTE_LEVEL("true") "}";
static const char qwen2_parts[] =
    "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
    "\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"
    "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
    "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}]},\"decoder\":" BYTE_LEVEL("true") "}";

/* How the classes of transformers set their tokenizers up. Without tokenizer_config.json the vocabulary tells CLIP from GPT-2. */
static bif_status class_parts(const char *folder, const json_t *config, const json_t *vocab, bool *clip, json_t **out)
{
    bif_status st = BIF_OK;
    const char *name = json_object_get(vocab, "<|startoftext|>") != NULL ? "CLIPTokenizer" : "GPT2Tokenizer", *parts = NULL;
    if (config != NULL) {
        BIF_TRY(bif_json_string(folder, config, "tokenizer_class", false, &name));
    }
    *clip = strcmp(name, "CLIPTokenizer") == 0 || strcmp(name, "CLIPTokenizerFast") == 0;
    if (*clip) {
        parts = clip_parts;
    } else if (strcmp(name, "GPT2Tokenizer") == 0 || strcmp(name, "GPT2TokenizerFast") == 0) {
        parts = gpt2_parts;
    } else if (strcmp(name, "Qwen2Tokenizer") == 0 || strcmp(name, "Qwen2TokenizerFast") == 0) {
        parts = qwen2_parts;
    } else {
        BIF_TRY(bif_fail(BIF_ERR_DATA,
                         "%s: tokenizer_class '%s' with vocab.json and merges.txt is not supported (CLIPTokenizer, GPT2Tokenizer, "
                         "Qwen2Tokenizer); bring its tokenizer.json",
                         folder, name));
    }
    BIF_TRY(bif_json_parse(folder, parts, strlen(parts), out));
done:
    return st;
}

/* One merge a line; a first line with #version is none. */
static bif_status read_merges(const char *path, json_t **out)
{
    char *text = NULL, *save = NULL;
    size_t size = 0;
    bif_status st = bif_file_read(path, BIF_TOKENIZER_MAX_FILE, &text, &size);
    *out = json_array();
    bool first = true;
    if (st == BIF_OK && strlen(text) < size) {
        st = bif_fail(BIF_ERR_DATA, "%s: byte %zu: a zero byte; merges are lines of text", path, strlen(text));
    }
    for (char *line = st == BIF_OK ? strtok_r(text, "\r\n", &save) : NULL; line != NULL; line = strtok_r(NULL, "\r\n", &save)) {
        if (!(first && strncmp(line, "#version", 8) == 0)) {
            json_t *item = json_string(line);
            if (item == NULL) {
                st = bif_fail(BIF_ERR_DATA, "%s: byte %zu: a line that is not UTF-8", path, (size_t)(line - text));
                break;
            }
            json_array_append_new(*out, item);
        }
        first = false;
    }
    free(text);
    return st;
}

static bif_status load_vocab(const char *folder, bif_tokenizer **out)
{
    bif_status st = BIF_OK;
    json_t *vocab = NULL, *merges = NULL, *config = NULL, *root = NULL, *added = NULL;
    bool clip = false;
    char *vocab_path = bif_path_join(folder, "vocab.json"), *merges_path = bif_path_join(folder, "merges.txt");
    BIF_TRY(bif_json_load_file(vocab_path, BIF_TOKENIZER_MAX_FILE, &vocab));
    BIF_TRY(read_merges(merges_path, &merges));
    BIF_TRY(load_side(folder, "tokenizer_config.json", &config));
    BIF_TRY(class_parts(folder, config, vocab, &clip, &root));
    BIF_TRY(side_tokens(folder, config, find_key, vocab, (int64_t)json_object_size(vocab), &added));
    const char *const usual[] = {"<|startoftext|>", "<|endoftext|>"};
    for (size_t i = 0; i < 2; i++) {
        if (find_key(vocab, usual[i]) >= 0 && find_token(added, usual[i]) == NULL) {
            json_array_append_new(added, new_token(find_key(vocab, usual[i]), usual[i], true));
        }
    }
    json_object_set(root, "added_tokens", added);
    json_object_set_new(root, "model",
                        json_pack("{s:s, s:s?, s:s?, s:O, s:O}", "type", "BPE", "unk_token", clip ? "<|endoftext|>" : NULL,
                                  "end_of_word_suffix", clip ? "</w>" : NULL, "vocab", vocab, "merges", merges));
    BIF_TRY(bif_tokenizer_from_json(vocab_path, root, out));
done:
    json_decref(vocab);
    json_decref(merges);
    json_decref(config);
    json_decref(root);
    json_decref(added);
    free(vocab_path);
    free(merges_path);
    return st;
}

/* ---- which of them ---- */

/* What tokenizer_config.json names. */
static bif_status read_names(const char *folder, bif_tokenizer *t)
{
    bif_status st = BIF_OK;
    json_t *config = NULL;
    const char *class_name = "", *side = NULL;
    BIF_TRY(load_side(folder, "tokenizer_config.json", &config));
    if (config == NULL) {
        goto done;
    }
    BIF_TRY(bif_json_string(folder, config, "tokenizer_class", false, &class_name));
    BIF_TRY(bif_json_string(folder, config, "padding_side", false, &side));
    const char *eos = text_of(json_object_get(config, "eos_token")), *pad = text_of(json_object_get(config, "pad_token"));
    t->names.eos = eos == NULL ? -1 : bif_tokenizer_special(t, eos);
    t->names.pad = pad == NULL ? -1 : bif_tokenizer_special(t, pad);
    t->names.pad_left = side == NULL ? strcmp(class_name, "Siglip2Tokenizer") == 0 : strcmp(side, "left") == 0;
done:
    json_decref(config);
    return st;
}

static bif_status load_file(const char *path, bif_tokenizer **out)
{
    bif_status st = BIF_OK;
    char *data = NULL, *folder = bif_path_parent(path);
    size_t size = 0;
    json_t *root = NULL;
    BIF_TRY(bif_file_read(path, BIF_TOKENIZER_MAX_FILE, &data, &size));
    const size_t blank = strspn(data, " \t\r\n");
    if (data[blank] == '{') {
        BIF_TRY(bif_json_parse(path, data, size, &root));
        if (json_is_object(json_object_get(root, "model")) || !json_is_integer(json_object_iter_value(json_object_iter(root)))) {
            BIF_TRY(bif_tokenizer_from_json(path, root, out));
        } else {
            BIF_TRY(load_vocab(folder, out));
        }
    } else if (size > 0 && data[0] == '\n') { /* field 1, its length behind it */
        BIF_TRY(load_spm(path, data, size, out));
    } else if (strcmp(bif_path_base(path), "merges.txt") == 0) {
        BIF_TRY(load_vocab(folder, out));
    } else {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: byte %zu: not valid JSON, and not a SentencePiece model either", path, blank));
    }
    st = read_names(folder, *out);
    if (st != BIF_OK) {
        bif_tokenizer_free(*out);
        *out = NULL;
    }
done:
    json_decref(root);
    free(data);
    free(folder);
    return st;
}

char *bif_tokenizer_in(const char *folder)
{
    for (size_t i = 0; i < 4; i++) { /* spiece.model, tokenizer.json, tokenizer.model, vocab.json */
        char *file = bif_path_join(folder, bif_tokenizer_files[i]);
        if (bif_exists(file)) {
            return file;
        }
        free(file);
    }
    return NULL;
}

bif_status bif_tokenizer_load(const char *path, bif_tokenizer **out)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return load_file(path, out);
    }
    char *file = bif_tokenizer_in(path);
    bif_status st = file != NULL ? load_file(file, out)
                                 : bif_fail(BIF_ERR_IO, "%s: no tokenizer.json, tokenizer.model, spiece.model or vocab.json in this folder",
                                            path);
    free(file);
    return st;
}
