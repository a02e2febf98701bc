#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/chat_templates.h"
#include "data/tokenizer.h"
#include "train/hf_folder.h"
#include "train/vocabulary.h"

#define TOKENIZER_CAP ((size_t)256 << 20)

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

/* What data/image.h does with the model's image_fit, in the words of transformers: crop is CLIPImageProcessor, pad is LlavaImageProcessor, squash is a
 * resize to both sides (SiglipImageProcessor, with a tower of that family). */
static bif_status save_preprocessor(const char *folder, const bif_model_config *c)
{
    const json_int_t side = (json_int_t)c->vit.image;
    json_t *o = json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:i, s:f, s:{s:I}, s:{s:I, s:I}, s:[f, f, f], s:[f, f, f]}",
                          "image_processor_type", "CLIPImageProcessor", "do_convert_rgb", 1, "do_resize", 1, "do_center_crop", 1,
                          "do_rescale", 1, "do_normalize", 1, "resample", 3, "rescale_factor", 1.0 / 255.0, "size", "shortest_edge", side,
                          "crop_size", "height", side, "width", side, "image_mean", 0.48145466, 0.4578275, 0.40821073, "image_std",
                          0.26862954, 0.26130258, 0.27577711);
    BIF_BUG_IF(o == NULL, "preprocessor_config.json does not encode");
    const bool siglip = c->vit.family == BIF_TOWER_SIGLIP;
    if (siglip) {
        json_object_set_new(o, "image_mean", json_pack("[f, f, f]", 0.5, 0.5, 0.5));
        json_object_set_new(o, "image_std", json_pack("[f, f, f]", 0.5, 0.5, 0.5));
    }
    if (strcmp(c->image_fit, "pad") == 0) {
        json_object_set_new(o, "image_processor_type", json_string("LlavaImageProcessor"));
        json_object_set_new(o, "do_pad", json_true());
    } else if (strcmp(c->image_fit, "squash") == 0 || (siglip && c->image_fit[0] == '\0')) {
        if (siglip) {
            json_object_set_new(o, "image_processor_type", json_string("SiglipImageProcessor"));
            json_object_del(o, "crop_size");
        }
        json_object_set_new(o, "do_center_crop", json_false());
        json_object_set_new(o, "size", json_pack("{s:I, s:I}", "height", side, "width", side));
    }
    return save(folder, "preprocessor_config.json", o);
}

static bif_status save_processor(const char *folder, const bif_model_config *c)
{
    const bool siglip = c->vit.family == BIF_TOWER_SIGLIP;
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:i}", "processor_class", "LlavaProcessor", "image_token", "<image>", "patch_size",
                          (json_int_t)c->vit.patch, "vision_feature_select_strategy", c->cls_patch || siglip ? "full" : "default",
                          "num_additional_image_tokens", siglip ? 0 : 1);
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

/* Takes over `text`, which may be NULL. */
static void put_text(json_t *o, const char *key, char *text)
{
    if (text != NULL) {
        json_object_set_new(o, key, json_string(text));
    }
    free(text);
}

/* Whether a text begins with BOS: not where the model's template has none (chatml), or its processor would put one before every
 * conversation. */
static bool wants_bos(const bif_model_config *c)
{
    bif_template_kind kind;
    if (c->kind == BIF_MODEL_CLIP || c->template_name[0] == '\0' || bif_template_by_name(c->template_name, &kind) != BIF_OK) {
        return true;
    }
    return bif_templates[kind].begin[0] != '\0' || bif_templates[kind].user_open[0] == *BIF_FRAME_BOS;
}

/* What transformers must know when no tokenizer_config.json came with the tokenizer. For tokenizer.json the generic class, which reads it as
 * it is. (transformers 5 overrides it for model_type qwen2 alone: there a tokenizer that is not Qwen's must be opened with
 * PreTrainedTokenizerFast.) */
static bif_status make_tokenizer_config(const char *folder, const bif_model_config *c, const bif_tokenizer *t, const char *name)
{
    const bool clip = c->kind == BIF_MODEL_CLIP;
    const int32_t pad = clip && c->text.family == BIF_TOWER_SIGLIP ? c->text.pad
                        : clip                                      ? c->text.eos
                        : c->pad_token >= 0                         ? c->pad_token
                                                                    : c->decoder.eos;
    json_t *o = json_object();
    const char *class_name = "PreTrainedTokenizerFast";
    if (strcmp(name, "tokenizer.model") == 0) {
        class_name = "LlamaTokenizer";
        json_object_set_new(o, "legacy", json_true()); /* as bif_tokenizer_load reads it without this file */
    } else if (strcmp(name, "spiece.model") == 0) {
        class_name = "SiglipTokenizer";
    } else if (strcmp(name, "tokenizer.json") != 0) {
        class_name = bif_tokenizer_special(t, "<|startoftext|>") >= 0 ? "CLIPTokenizer" : "GPT2Tokenizer";
    }
    json_object_set_new(o, "tokenizer_class", json_string(class_name));
    json_object_set_new(o, "model_max_length", json_integer(clip ? c->text.positions : c->decoder.positions));
    json_object_set_new(o, "clean_up_tokenization_spaces", json_false());
    if (!wants_bos(c)) {
        json_object_set_new(o, "add_bos_token", json_false());
    }
    put_text(o, "bos_token", bif_tokenizer_piece(t, clip ? c->text.bos : c->decoder.bos));
    put_text(o, "eos_token", bif_tokenizer_piece(t, clip ? c->text.eos : c->decoder.eos));
    put_text(o, "pad_token", bif_tokenizer_piece(t, pad));
    char *image = c->kind == BIF_MODEL_LLAVA ? bif_tokenizer_piece(t, c->image_token) : NULL;
    if (image != NULL) {
        json_object_set_new(o, "extra_special_tokens", json_pack("{s:s}", "image_token", image));
    }
    free(image);
    return save(folder, "tokenizer_config.json", o);
}

/* Without a post-processor transformers would put no BOS (and for CLIP no EOS, where its text tower pools) around a text. */
static void add_post_processor(const bif_model_config *c, json_t *root)
{
    const bool clip = c->kind == BIF_MODEL_CLIP;
    /* before and behind the text */
    const int32_t ids[2] = {clip ? c->text.bos : wants_bos(c) ? c->decoder.bos : -1, clip ? c->text.eos : -1};
    const json_t *old = json_object_get(root, "post_processor");
    if ((old != NULL && !json_is_null(old)) || (token_text(root, ids[0]) == NULL && token_text(root, ids[1]) == NULL)) {
        return;
    }
    json_t *single = json_array(), *pair = json_array(), *specials = json_object();
    for (int part = 0; part < 3; part++) { /* BOS, text, EOS */
        const char *text = part == 1 ? NULL : token_text(root, ids[part / 2]);
        if (part == 1) {
            json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
            json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
            json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 0));
        } else if (text != NULL) {
            json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", text, "type_id", 0));
            json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", text, "type_id", 0));
            json_object_set_new(specials, text, json_pack("{s:s, s:[i], s:[s]}", "id", text, "ids", (int)ids[part / 2], "tokens", text));
        }
    }
    json_object_set_new(root, "post_processor",
                        json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens", specials));
}

/* The model's own template for transformers' apply_chat_template, in place of one that came with the tokenizer: in tokenizer_config.json,
 * and as chat_template.jinja, where processors look for it. */
static bif_status put_chat_template(const char *folder, const bif_model_config *c, const bif_tokenizer *t)
{
    bif_status st = BIF_OK;
    bif_template_kind kind;
    bif_image_place place = BIF_IMAGE_FRONT;
    json_t *root = NULL;
    char *path = bif_path_join(folder, "tokenizer_config.json"), *file = bif_path_join(folder, "chat_template.jinja");
    char *bos = NULL, *eos = NULL, *jinja = NULL;
    BIF_TRY(bif_template_by_name(c->template_name, &kind));
    BIF_TRY(c->image_place[0] != '\0' ? bif_image_place_by_name(c->image_place, &place) : BIF_OK);
    BIF_TRY(bif_json_load_reals(path, TOKENIZER_CAP, &root));
    bos = c->decoder.bos >= 0 ? bif_tokenizer_piece(t, c->decoder.bos) : NULL;
    eos = c->decoder.eos >= 0 ? bif_tokenizer_piece(t, c->decoder.eos) : NULL;
    jinja = bif_template_jinja(kind, c->has_system ? c->system : NULL, place, bos, eos != NULL ? eos : "");
    json_object_set_new(root, "chat_template", json_string(jinja));
    BIF_TRY(bif_json_save_file(path, root));
    BIF_TRY(bif_file_write(file, jinja, strlen(jinja)));
done:
    json_decref(root);
    free(path);
    free(file);
    free(bos);
    free(eos);
    free(jinja);
    return st;
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

/* tokenizer_config.json beside a tokenizer.json (`root`) that was made of tokenizer.model. LlamaTokenizer of transformers 5, which AutoTokenizer
 * takes for a decoder alone, replaces what a tokenizer.json says about spaces; and added_tokens_decoder is preferred to added_tokens. */
static bif_status fit_tokenizer_config(const char *folder, const bif_model_config *c, const json_t *root)
{
    bif_status st = BIF_OK;
    json_t *config = NULL, *added = NULL;
    size_t i = 0;
    char *path = bif_path_join(folder, "tokenizer_config.json");
    BIF_TRY(bif_json_load_reals(path, TOKENIZER_CAP, &config));
    if (c->kind == BIF_MODEL_DECODER) {
        json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
        if (json_object_get(config, "legacy") == NULL) {
            json_object_set_new(config, "legacy", json_true()); /* for those who read tokenizer.model */
        }
    }
    json_array_foreach(json_object_get(root, "added_tokens"), i, added)
    {
        char *id = bif_format("%lld", (long long)json_integer_value(json_object_get(added, "id")));
        json_t *known = json_object_get(json_object_get(config, "added_tokens_decoder"), id);
        if (json_is_object(known)) {
            json_object_set(known, "normalized", json_object_get(added, "normalized"));
        }
        free(id);
    }
    BIF_TRY(bif_json_save_file(path, config));
done:
    json_decref(config);
    free(path);
    return st;
}

/* Whether the tokens that bif_tokenizer_save lets a text begin anew behind are the model's, where that matters. */
static bool has_usual_names(const bif_model_config *c, const bif_tokenizer *t)
{
    bif_tokenizer_view view;
    bif_tokenizer_look(t, &view);
    if (view.legacy) {
        return true;
    }
    return (c->decoder.bos < 0 || bif_tokenizer_special(t, "<s>") == c->decoder.bos) &&
           (c->kind != BIF_MODEL_LLAVA || bif_tokenizer_special(t, "<image>") == c->image_token);
}

/* Under which name transformers looks for the file. */
static const char *standard_name(const char *file, const char *data)
{
    const char *name = bif_path_base(file);
    if (strcmp(name, "vocab.json") == 0 || strcmp(name, "merges.txt") == 0) {
        return "vocab.json";
    }
    return data[strspn(data, " \t\r\n")] == '{' ? "tokenizer.json" : strcmp(name, "spiece.model") == 0 ? name : "tokenizer.model";
}

/* The tokenizer and the files that belong to it (a chat template lives there), and in them the tokens that the model added. A
 * tokenizer.json beside a tokenizer.model or vocab.json that was named stays behind: transformers would prefer it. */
static bif_status copy_tokenizer(const char *folder, const bif_model_config *c, const char *tokenizer_path)
{
    bif_status st = BIF_OK;
    struct stat info;
    json_t *root = NULL;
    bif_tokenizer *t = NULL;
    const bool is_folder = stat(tokenizer_path, &info) == 0 && S_ISDIR(info.st_mode);
    char *source = is_folder ? bif_strdup(tokenizer_path) : bif_path_parent(tokenizer_path);
    char *file = is_folder ? bif_tokenizer_in(source) : bif_strdup(tokenizer_path), *to = NULL, *data = NULL;
    size_t size = 0;
    bool has_config = false;
    const bool own_template = c->kind != BIF_MODEL_CLIP && c->template_name[0] != '\0';
    bif_new_token missing[2];
    if (file == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_IO, "%s: no tokenizer.json, tokenizer.model, spiece.model or vocab.json in this folder", source));
    }
    BIF_TRY(bif_file_read(file, TOKENIZER_CAP, &data, &size));
    const char *name = standard_name(file, data);
    for (size_t i = 0; bif_tokenizer_files[i] != NULL; i++) {
        const char *other = bif_tokenizer_files[i];
        char *side = bif_path_join(source, other), *target = bif_path_join(folder, other);
        if (strcmp(other, "tokenizer.json") != 0 && bif_exists(side)) {
            has_config = has_config || strcmp(other, "tokenizer_config.json") == 0;
            st = copy_file(side, target, TOKENIZER_CAP);
        }
        free(side);
        free(target);
        if (st != BIF_OK) {
            goto done;
        }
    }
    to = bif_path_join(folder, name);
    if (strcmp(bif_path_base(file), "merges.txt") != 0) {
        BIF_TRY(bif_file_write(to, data, size));
    }
    BIF_TRY(bif_tokenizer_load(file, &t));
    const size_t count = bif_vocabulary_missing(c, t, missing);
    if (!has_config) {
        BIF_TRY(make_tokenizer_config(folder, c, t, name));
    }
    if (!has_config && strcmp(name, "tokenizer.json") == 0) {
        BIF_TRY(bif_json_parse(file, data, size, &root));
        add_post_processor(c, root);
        BIF_TRY(bif_json_save_file(to, root));
    }
    const bool spm = strcmp(name, "tokenizer.model") == 0;
    if (spm && count > 0) { /* for those who open tokenizer.model itself, as LLaVA's program does, what was added stands in files beside it */
        BIF_TRY(bif_tokenizer_add_to_folder(folder, missing, count));
        bif_tokenizer_free(t);
        t = NULL;
        BIF_TRY(bif_tokenizer_load(to, &t));
    }
    /* For a LLaVA transformers 5 makes no tokenizer of vocab.json, and of tokenizer.model one that forgets the prefix space; for a decoder
     * alone one that loses a space where a text begins with some, or puts none behind BOS. */
    const bool wanted = spm && c->kind != BIF_MODEL_CLIP, writes = wanted && bif_tokenizer_can_save(t) && has_usual_names(c, t);
    static bool said; /* once, not at every checkpoint */
    if (wanted && !writes && !said) {
        said = true;
        bif_warn("%s: this tokenizer.model cannot be written as tokenizer.json; transformers 5 may place the spaces at the start of texts and "
                 "behind special tokens differently", file);
    }
    if (writes || (c->kind == BIF_MODEL_LLAVA && strcmp(name, "vocab.json") == 0)) {
        free(to);
        to = bif_path_join(folder, "tokenizer.json");
        BIF_TRY(bif_tokenizer_save(t, to));
        BIF_TRY(bif_json_load_file(to, TOKENIZER_CAP, &root));
        add_post_processor(c, root);
        BIF_TRY(bif_json_save_file(to, root));
        BIF_TRY(writes ? fit_tokenizer_config(folder, c, root) : BIF_OK);
    }
    if (!spm && count > 0) {
        BIF_TRY(bif_tokenizer_add_to_folder(folder, missing, count));
    }
    BIF_TRY(own_template ? put_chat_template(folder, c, t) : BIF_OK);
done:
    bif_tokenizer_free(t);
    json_decref(root);
    free(source);
    free(file);
    free(data);
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
