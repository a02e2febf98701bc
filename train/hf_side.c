#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "train/hf_folder.h"

#define TOKENIZER_CAP ((size_t)256 << 20)
#define SIDE_CAP ((size_t)16 << 20)

static bif_status save(const char *folder, const char *name, json_t *value)
{
    char *path = bif_path_join(folder, name);
    bif_status st = bif_json_save_file(path, value);
    free(path);
    json_decref(value);
    return st;
}

static void put_token(json_t *o, const char *key, int32_t id)
{
    if (id >= 0) {
        json_object_set_new(o, key, json_integer(id));
    }
}

static bif_status save_generation(const char *folder, const bif_model_config *c)
{
    json_t *o = json_object();
    put_token(o, "bos_token_id", c->decoder.bos);
    put_token(o, "eos_token_id", c->decoder.eos);
    put_token(o, "pad_token_id", c->pad_token);
    return save(folder, "generation_config.json", o);
}

/* What data/image.h does with image_fit "crop", said in the words of CLIPImageProcessor. */
static bif_status save_preprocessor(const char *folder, const bif_model_config *c)
{
    const json_int_t side = (json_int_t)c->vit.image;
    json_t *o = json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:i, s:f, s:{s:I}, s:{s:I, s:I}, s:[f, f, f], s:[f, f, f]}",
                          "image_processor_type", "CLIPImageProcessor", "do_convert_rgb", 1, "do_resize", 1, "do_center_crop", 1,
                          "do_rescale", 1, "do_normalize", 1, "resample", 3, "rescale_factor", 1.0 / 255.0, "size", "shortest_edge", side,
                          "crop_size", "height", side, "width", side, "image_mean", 0.48145466, 0.4578275, 0.40821073, "image_std",
                          0.26862954, 0.26130258, 0.27577711);
    BIF_BUG_IF(o == NULL, "preprocessor_config.json does not encode");
    return save(folder, "preprocessor_config.json", o);
}

static bif_status save_processor(const char *folder, const bif_model_config *c)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:i}", "processor_class", "LlavaProcessor", "image_token", "<image>", "patch_size",
                          (json_int_t)c->vit.patch, "vision_feature_select_strategy", c->cls_patch ? "full" : "default",
                          "num_additional_image_tokens", 1);
    BIF_BUG_IF(o == NULL, "processor_config.json does not encode");
    return save(folder, "processor_config.json", o);
}

/* The text of a token id in tokenizer.json, or NULL. Borrowed from root. */
static const char *token_text(const json_t *root, int32_t id)
{
    size_t i = 0;
    json_t *added = NULL, *value = NULL;
    const char *text = NULL;
    if (id < 0) {
        return NULL;
    }
    json_array_foreach(json_object_get(root, "added_tokens"), i, added)
    {
        if (json_integer_value(json_object_get(added, "id")) == id) {
            return json_string_value(json_object_get(added, "content"));
        }
    }
    json_object_foreach(json_object_get(json_object_get(root, "model"), "vocab"), text, value)
    {
        if (json_is_integer(value) && json_integer_value(value) == id) {
            return text;
        }
    }
    return NULL;
}

static void put_text(json_t *o, const char *key, const char *text)
{
    if (text != NULL) {
        json_object_set_new(o, key, json_string(text));
    }
}

/* The generic class reads tokenizer.json as it is. (transformers 5 overrides it for model_type qwen2 alone: there a tokenizer that is not Qwen's must
 * be opened with PreTrainedTokenizerFast.) */
static bif_status make_tokenizer_config(const char *folder, const bif_model_config *c, const json_t *root)
{
    const bool clip = c->kind == BIF_MODEL_CLIP;
    json_t *o = json_object();
    json_object_set_new(o, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(o, "model_max_length", json_integer(clip ? c->text.positions : c->decoder.positions));
    json_object_set_new(o, "clean_up_tokenization_spaces", json_false());
    put_text(o, "bos_token", token_text(root, clip ? c->text.bos : c->decoder.bos));
    put_text(o, "eos_token", token_text(root, clip ? c->text.eos : c->decoder.eos));
    put_text(o, "pad_token", token_text(root, clip ? c->text.eos : c->pad_token));
    const char *image = c->kind == BIF_MODEL_LLAVA ? token_text(root, c->image_token) : NULL;
    if (image != NULL) {
        json_object_set_new(o, "extra_special_tokens", json_pack("{s:s}", "image_token", image));
    }
    return save(folder, "tokenizer_config.json", o);
}

static bif_status copy_file(const char *from, const char *to, size_t cap)
{
    char *text = NULL;
    size_t size = 0;
    bif_status st = bif_file_read(from, cap, &text, &size);
    if (st == BIF_OK) {
        st = bif_file_write(to, text, size);
    }
    free(text);
    return st;
}

/* tokenizer.json and, where the tokenizer came with them, the files that belong to it (a chat template lives there). */
static bif_status copy_tokenizer(const char *folder, const bif_model_config *c, const char *tokenizer_path)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};
    bif_status st = BIF_OK;
    struct stat info;
    json_t *root = NULL;
    const bool is_folder = stat(tokenizer_path, &info) == 0 && S_ISDIR(info.st_mode);
    char *source = is_folder ? bif_strdup(tokenizer_path) : bif_path_parent(tokenizer_path);
    char *file = is_folder ? bif_path_join(source, "tokenizer.json") : bif_strdup(tokenizer_path);
    char *to = bif_path_join(folder, "tokenizer.json");
    bool has_config = false;
    BIF_TRY(copy_file(file, to, TOKENIZER_CAP));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *side = bif_path_join(source, names[i]), *target = bif_path_join(folder, names[i]);
        if (bif_exists(side)) {
            has_config = has_config || i == 0;
            st = copy_file(side, target, SIDE_CAP);
        }
        free(side);
        free(target);
        if (st != BIF_OK) {
            goto done;
        }
    }
    if (!has_config) {
        BIF_TRY(bif_json_load_file(file, TOKENIZER_CAP, &root));
        BIF_TRY(make_tokenizer_config(folder, c, root));
    }
done:
    json_decref(root);
    free(source);
    free(file);
    free(to);
    return st;
}

bif_status bif_hf_side_files(const char *folder, const bif_model_config *config, const char *tokenizer_path)
{
    bif_status st = BIF_OK;
    if (config->kind != BIF_MODEL_CLIP) {
        BIF_TRY(save_generation(folder, config));
    }
    if (config->kind != BIF_MODEL_DECODER) {
        BIF_TRY(save_preprocessor(folder, config));
    }
    if (tokenizer_path != NULL) {
        BIF_TRY(copy_tokenizer(folder, config, tokenizer_path));
    }
    if (config->kind == BIF_MODEL_LLAVA && tokenizer_path != NULL) {
        BIF_TRY(save_processor(folder, config));
    }
done:
    return st;
}
