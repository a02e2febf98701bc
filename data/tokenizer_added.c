/* Special tokens that a tokenizer does not come with: in memory, and in the files of a folder. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "data/tokenizer_internal.h"

static const char image_text[] = "<image>", pad_text[] = "<pad>";

/* ---- in memory ---- */

int32_t bif_tokenizer_find(const bif_tokenizer *t, const char *text)
{
    int32_t found = bif_tokenizer_special(t, text);
    for (int32_t id = 0; id < t->vocab && found < 0; id++) {
        char *piece = t->token[id].model ? bif_tokenizer_piece(t, id) : NULL;
        found = piece != NULL && strcmp(piece, text) == 0 ? id : -1;
        free(piece);
    }
    return found;
}

static json_t *new_token(int64_t id, const char *text)
{
    return json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content", text, "single_word", 0, "lstrip", 0, "rstrip",
                     0, "normalized", 0, "special", 1);
}

bif_status bif_tokenizer_add(bif_tokenizer *t, const char *text, int32_t *id)
{
    bif_status st = BIF_OK;
    json_t *item = NULL;
    *id = bif_tokenizer_special(t, text);
    if (*id >= 0) {
        return BIF_OK;
    }
    *id = bif_tokenizer_find(t, text);
    if (*id < 0 && t->vocab >= BIF_TOKENIZER_MAX_VOCAB) {
        return bif_fail(BIF_ERR_DATA, "the tokenizer has %d tokens; there is no room for %s", t->vocab, text);
    }
    if (*id < 0) {
        *id = t->vocab;
        bif_tokenizer_grow(t, t->vocab + 1);
    }
    item = new_token(*id, text);
    t->added = bif_realloc(t->added, t->added_count + 1, sizeof *t->added);
    BIF_TRY(bif_tokenizer_read_added(t, "a new token", item));
    BIF_TRY(bif_tokenizer_match_added(t, "a new token"));
done:
    json_decref(item);
    return st;
}

/* ---- in files ---- */

/* An object, or NULL where there is no such file. */
static bif_status load(const char *path, json_t **out)
{
    bif_status st = BIF_OK;
    *out = NULL;
    if (bif_exists(path)) {
        BIF_TRY(bif_json_load_reals(path, BIF_TOKENIZER_MAX_FILE, out));
        if (!json_is_object(*out)) {
            json_decref(*out);
            *out = NULL;
            st = bif_fail(BIF_ERR_DATA, "%s: not an object", path);
        }
    }
done:
    return st;
}

static const char *text_of(const json_t *value)
{
    return json_is_object(value) ? json_string_value(json_object_get(value, "content")) : json_string_value(value);
}

bif_status bif_tokenizer_pad(const char *path, char **out)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json"};
    bif_status st = BIF_OK;
    struct stat info;
    char *folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode) ? bif_strdup(path) : bif_path_parent(path);
    *out = NULL;
    for (size_t i = 0; i < 2 && st == BIF_OK && *out == NULL; i++) {
        char *file = bif_path_join(folder, names[i]);
        json_t *root = NULL;
        st = load(file, &root);
        const char *pad = text_of(json_object_get(root, "pad_token")), *unknown = text_of(json_object_get(root, "unk_token"));
        if (pad != NULL && pad[0] != '\0' && strcmp(pad, "<unk>") != 0 && (unknown == NULL || strcmp(pad, unknown) != 0)) {
            *out = bif_strdup(pad);
        }
        json_decref(root);
        free(file);
    }
    free(folder);
    return st;
}

/* {"added_tokens": [..., {"id": 32000, "content": "<image>", ...}]} */
static bif_status into_json(const char *path, const bif_new_token *tokens, size_t count)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    BIF_TRY(load(path, &root));
    if (root == NULL) {
        return BIF_OK;
    }
    if (!json_is_array(json_object_get(root, "added_tokens"))) {
        json_object_set_new(root, "added_tokens", json_array());
    }
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(json_object_get(root, "added_tokens"), new_token(tokens[i].id, tokens[i].text));
    }
    BIF_TRY(bif_json_save_file(path, root));
done:
    json_decref(root);
    return st;
}

/* transformers gives a tokenizer an attribute `image_token` for it: a processor asks for that. */
static void name_image(json_t *config)
{
    json_t *extra = json_object_get(config, "extra_special_tokens");
    if (json_is_array(extra)) {
        json_array_append_new(extra, json_string(image_text));
        return;
    }
    if (!json_is_object(extra)) {
        extra = json_object();
        json_object_set_new(config, "extra_special_tokens", extra);
    }
    json_object_set_new(extra, "image_token", json_string(image_text));
}

/* tokenizer_config.json, made when it is missing, and special_tokens_map.json, which is not. The list of all added tokens belongs into the
 * first where no tokenizer.json has it. */
static bif_status into_config(const char *path, bool main, bool list, const bif_new_token *tokens, size_t count)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    BIF_TRY(load(path, &root));
    if (root == NULL && !main) {
        return BIF_OK;
    }
    root = root != NULL ? root : json_object();
    json_t *decoder = json_object_get(root, "added_tokens_decoder");
    if (main && list && !json_is_object(decoder)) {
        json_object_set_new(root, "added_tokens_decoder", json_object());
        decoder = json_object_get(root, "added_tokens_decoder");
    }
    for (size_t i = 0; i < count; i++) {
        if (json_is_object(decoder)) {
            json_t *item = new_token(tokens[i].id, tokens[i].text);
            char *key = bif_format("%d", tokens[i].id);
            json_object_del(item, "id");
            json_object_set_new(decoder, key, item);
            free(key);
        }
        if (strcmp(tokens[i].text, pad_text) == 0) {
            json_object_set_new(root, "pad_token", json_string(pad_text));
        } else if (main && strcmp(tokens[i].text, image_text) == 0) {
            name_image(root);
        }
    }
    BIF_TRY(bif_json_save_file(path, root));
done:
    json_decref(root);
    return st;
}

/* {"<image>": 32000} */
static bif_status into_added(const char *path, bool make, const bif_new_token *tokens, size_t count)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    BIF_TRY(load(path, &root));
    if (root == NULL && !make) {
        return BIF_OK;
    }
    root = root != NULL ? root : json_object();
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(root, tokens[i].text, json_integer(tokens[i].id));
    }
    BIF_TRY(bif_json_save_file(path, root));
done:
    json_decref(root);
    return st;
}

bif_status bif_tokenizer_add_to_folder(const char *folder, const bif_new_token *tokens, size_t count)
{
    bif_status st = BIF_OK;
    char *json = bif_path_join(folder, "tokenizer.json"), *config = bif_path_join(folder, "tokenizer_config.json");
    char *map = bif_path_join(folder, "special_tokens_map.json"), *added = bif_path_join(folder, "added_tokens.json");
    const bool parts = !bif_exists(json); /* a model in one file, what was added in others */
    BIF_TRY(into_json(json, tokens, count));
    BIF_TRY(into_config(config, true, parts, tokens, count));
    BIF_TRY(into_config(map, false, false, tokens, count));
    BIF_TRY(into_added(added, parts, tokens, count));
done:
    free(json);
    free(config);
    free(map);
    free(added);
    return st;
}
