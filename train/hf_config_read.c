#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "train/adapter.h"
#include "train/hf_config_parts.h"
#include "train/open_clip.h"

#define CONFIG_CAP ((size_t)4 << 20)
#define DEPTH_CAP 8 /* adapters upon adapters, and towers of towers */

static bif_status projector_type(const char *where, const char *name, bif_projector_config *p)
{
    char *end = NULL;
    if (strcmp(name, "linear") == 0) {
        p->kind = BIF_PROJECTOR_LINEAR;
        p->depth = 1;
        return BIF_OK;
    }
    const long depth = strncmp(name, "mlp", 3) == 0 && name[3] >= '1' && name[3] <= '9' ? strtol(name + 3, &end, 10) : 0;
    if (depth < 1 || depth > 8 || strcmp(end, "x_gelu") != 0) {
        return bif_hf_refuse(where, "projector", name, "linear and mlpNx_gelu (N from 1 to 8) are");
    }
    p->kind = BIF_PROJECTOR_MLP;
    p->depth = depth;
    return BIF_OK;
}

static bif_status read_feature_layer(const char *where, const json_t *root, int64_t *out)
{
    const json_t *layer = json_object_get(root, "vision_feature_layer");
    *out = -2;
    if (json_is_array(layer)) {
        if (json_array_size(layer) != 1 || !json_is_integer(json_array_get(layer, 0))) {
            return bif_hf_refuse(where, "vision_feature_layer", "a list", "one layer is");
        }
        *out = (int64_t)json_integer_value(json_array_get(layer, 0));
        return BIF_OK;
    }
    return bif_json_i64(where, root, "vision_feature_layer", false, out);
}

static bif_status read_llava(const char *where, const json_t *root, bif_model_config *out)
{
    bif_status st = BIF_OK;
    json_t *empty = json_object();
    const json_t *text = json_object_get(root, "text_config");
    const char *type = "llama", *select = "default", *act = "gelu", *projector = "mlp2x_gelu";
    bool bias = true, tied = false;
    bif_family f = BIF_FAMILY_LLAMA;
    if (text == NULL || json_is_null(text)) {
        text = empty;
    }
    out->kind = BIF_MODEL_LLAVA;
    BIF_TRY(bif_json_string(where, text, "model_type", false, &type));
    BIF_TRY(bif_hf_family_of(where, type, NULL, &f));
    BIF_TRY(bif_hf_read_decoder(where, text, f, &out->decoder));
    BIF_TRY(bif_json_bool(where, root, "tie_word_embeddings", false, &tied));
    out->decoder.tied = out->decoder.tied || tied;
    BIF_TRY(bif_hf_read_vit(where, json_object_get(root, "vision_config"), bif_hf_is_null(root, "vision_config") ? &bif_hf_vit_l14_336 : &bif_hf_vit_b32, &out->vit));
    BIF_TRY(read_feature_layer(where, root, &out->feature_layer));
    BIF_TRY(bif_json_string(where, root, "vision_feature_select_strategy", false, &select));
    if (strcmp(select, "default") != 0 && strcmp(select, "full") != 0) {
        st = bif_hf_refuse(where, "vision_feature_select_strategy", select, "default and full are");
        goto done;
    }
    out->cls_patch = strcmp(select, "full") == 0 && out->vit.family == BIF_TOWER_CLIP;
    if (out->vit.family == BIF_TOWER_SIGLIP && strcmp(select, "full") != 0) {
        st = bif_fail(BIF_ERR_CONFIG, "%s: vision_feature_select_strategy is 'default', by which transformers leaves out the first row of the "
                                      "tower: with CLIP the class token, but SigLIP has none, and a patch would be lost; set it to 'full'",
                      where);
        goto done;
    }
    BIF_TRY(bif_json_string(where, root, "projector_hidden_act", false, &act));
    if (strcmp(act, "gelu") != 0) {
        st = bif_hf_refuse(where, "projector_hidden_act", act, "gelu is");
        goto done;
    }
    BIF_TRY(bif_json_bool(where, root, "multimodal_projector_bias", false, &bias));
    if (!bias) {
        st = bif_hf_refuse(where, "multimodal_projector_bias", "false", "a projector with biases is");
        goto done;
    }
    BIF_TRY(bif_json_string(where, root, "bifocal_projector", false, &projector));
    BIF_TRY(projector_type(where, projector, &out->projector));
    BIF_TRY(bif_hf_token(where, root, "image_token_id", 32000, &out->image_token));
    BIF_TRY(bif_hf_token(where, root, "image_token_index", out->image_token, &out->image_token));
    BIF_TRY(bif_hf_token(where, text, "pad_token_id", -1, &out->pad_token));
    BIF_TRY(bif_hf_token(where, root, "pad_token_id", out->pad_token, &out->pad_token));
done:
    json_decref(empty);
    return st;
}

static bool has_config(const char *folder)
{
    char *config = bif_path_join(folder, "config.json"), *other = bif_path_join(folder, "open_clip_config.json");
    const bool has = bif_exists(config) || bif_exists(other);
    free(config);
    free(other);
    return has;
}

/* FOLDER's config.json, or open_clip's where there is only that. */
static bif_status load(const char *folder, char **path, json_t **root)
{
    *path = bif_path_join(folder, "config.json");
    char *other = bif_path_join(folder, "open_clip_config.json");
    if (!bif_exists(*path) && bif_exists(other)) {
        free(*path);
        *path = other;
        other = NULL;
    }
    free(other);
    return bif_json_load_file(*path, CONFIG_CAP, root);
}

bool bif_hf_is_folder(const char *folder)
{
    return has_config(folder) || bif_adapter_is(folder);
}

/* FOLDER/mm_vision_tower where that is a folder; outside of FOLDER only what our own key names. NULL = neither. */
static bif_status tower_named(const char *folder, const json_t *root, char **out)
{
    const char *name = json_string_value(json_object_get(root, "mm_vision_tower"));
    const char *encoder = json_string_value(json_object_get(root, "bifocal_encoder"));
    *out = NULL;
    if (name != NULL && name[0] != '\0' && name[0] != '/' && name[0] != '.' && strstr(name, "..") == NULL) {
        *out = bif_path_join(folder, name);
        if (has_config(*out)) {
            return BIF_OK;
        }
        free(*out);
        *out = NULL;
    }
    if (encoder != NULL) {
        *out = bif_path_join(folder, encoder);
        if (!bif_hf_is_folder(*out)) {
            free(*out);
            *out = NULL;
            return bif_fail(BIF_ERR_DATA, "%s: config.json names the vision tower in '%s' (bifocal_encoder), where there is none; name its folder "
                            "by --tower, or in a recipe by model.encoder", folder, encoder);
        }
    }
    return BIF_OK;
}

static bif_status read_root(const char *where, const json_t *root, const char *tower, int depth, bif_model_config *out);
static bif_status read_folder(const char *folder, const bif_beside *beside, int depth, bif_model_config *out);

static bif_status read_tower(const char *tower, int depth, bif_vit_config *out)
{
    bif_status st = BIF_OK;
    bif_model_config config = {0};
    BIF_TRY(read_folder(tower, &(bif_beside){0}, depth + 1, &config));
    if (config.vit.hidden == 0) {
        st = bif_fail(BIF_ERR_CONFIG, "%s has no vision tower", tower);
        goto done;
    }
    *out = config.vit;
done:
    return st;
}

/* The towers that the authors' layout names and does not hold. Of SigLIP they take the last block away and then the last hidden state,
 * whatever mm_vision_select_layer says. */
static bif_status named_tower(const char *where, const char *name, bif_vit_config *vit, int64_t *feature_layer)
{
    *vit = bif_hf_vit_l14_336;
    if (strcmp(bif_path_base(name), "clip-vit-large-patch14") == 0) {
        vit->image = 224;
    } else if (strcmp(bif_path_base(name), "siglip-so400m-patch14-384") == 0) {
        *vit = bif_hf_vit_siglip;
        vit->hidden = 1152;
        vit->layers = 26;
        vit->heads = 16;
        vit->inner = 4304;
        vit->patch = 14;
        vit->image = 384;
        vit->head = false;
        *feature_layer = -1;
    } else if (strcmp(bif_path_base(name), "clip-vit-large-patch14-336") != 0) {
        return bif_hf_refuse(where, "mm_vision_tower", name,
                             "clip-vit-large-patch14, clip-vit-large-patch14-336 and siglip-so400m-patch14-384 are, and a tower's folder "
                             "within this one; --tower takes any folder");
    }
    return BIF_OK;
}

/* The authors' own layout: a decoder's config with mm_* keys; the tower is only named: it lies in the folder `tower` or is one of those
 * known. */
static bif_status read_llava_native(const char *where, const json_t *root, bif_family family, const char *tower, int depth,
                                    bif_model_config *out)
{
    bif_status st = BIF_OK;
    const char *name = "", *projector = "linear", *select = "patch", *merge = "flat", *aspect = "";
    BIF_TRY(bif_hf_read_decoder(where, root, family, &out->decoder));
    BIF_TRY(bif_json_string(where, root, "mm_vision_tower", tower == NULL, &name));
    out->kind = BIF_MODEL_LLAVA;
    BIF_TRY(bif_hf_number(where, root, "mm_vision_select_layer", -2, &out->feature_layer));
    BIF_TRY(tower != NULL ? read_tower(tower, depth, &out->vit) : named_tower(where, name, &out->vit, &out->feature_layer));
    BIF_TRY(bif_json_string(where, root, "image_aspect_ratio", false, &aspect));
    if (aspect[0] != '\0' && strcmp(aspect, "pad") != 0 && strcmp(aspect, "square") != 0) {
        st = bif_hf_refuse(where, "image_aspect_ratio", aspect, "pad and square are");
        goto done;
    }
    snprintf(out->image_fit, sizeof out->image_fit, "%s", strcmp(aspect, "pad") == 0 ? "pad" : "");
    BIF_TRY(bif_json_string(where, root, "mm_projector_type", false, &projector));
    BIF_TRY(projector_type(where, projector, &out->projector));
    BIF_TRY(bif_json_string(where, root, "mm_vision_select_feature", false, &select));
    BIF_TRY(bif_json_string(where, root, "mm_patch_merge_type", false, &merge));
    if (strcmp(merge, "flat") != 0) {
        st = bif_hf_refuse(where, "mm_patch_merge_type", merge, "flat is");
        goto done;
    }
    out->cls_patch = strcmp(select, "cls_patch") == 0;
    BIF_TRY(bif_hf_token(where, root, "image_token_index", -1, &out->image_token)); /* ours: the authors' token is no part of the vocabulary */
    BIF_TRY(bif_hf_token(where, root, "pad_token_id", -1, &out->pad_token));
done:
    return st;
}

static const bif_native_class *native_class(const char *name)
{
    for (size_t i = 0; i < BIF_NATIVE_CLASSES; i++) {
        if (strcmp(name, bif_native_classes[i].architecture) == 0 || strcmp(name, bif_native_classes[i].model_type) == 0) {
            return &bif_native_classes[i];
        }
    }
    return NULL;
}

static bif_status read_root(const char *where, const json_t *root, const char *tower, int depth, bif_model_config *out)
{
    bif_status st = BIF_OK;
    const char *type = "", *architecture = NULL;
    const json_t *list = json_object_get(root, "architectures");
    if (json_object_get(root, "model_cfg") != NULL) {
        return bif_open_clip_config(where, root, out);
    }
    BIF_TRY(bif_json_string(where, root, "model_type", false, &type));
    if (json_is_array(list) && json_array_size(list) > 0) {
        architecture = json_string_value(json_array_get(list, 0));
    }
    if (type[0] == '\0' && architecture == NULL) {
        st = bif_fail(BIF_ERR_CONFIG, "%s: neither 'architectures' nor 'model_type' says what model this is", where);
        goto done;
    }
    const char *name = architecture != NULL ? architecture : type;
    /* LLaVA's LoRA folders name the base's architecture, LlamaForCausalLM. */
    const bool native_by_keys = strncmp(type, "llava", 5) == 0 && json_is_string(json_object_get(root, "mm_vision_tower"));
    const bif_native_class *native = native_class(native_by_keys && native_class(name) == NULL ? type : name);
    if (strcmp(name, "SiglipModel") == 0 || (architecture == NULL && strcmp(name, "siglip") == 0)) {
        BIF_TRY(bif_hf_read_siglip(where, root, out));
    } else if (strcmp(name, "SiglipVisionModel") == 0 || strcmp(name, "siglip_vision_model") == 0) {
        out->kind = BIF_MODEL_CLIP;
        BIF_TRY(bif_hf_read_vit(where, root, &bif_hf_vit_siglip, &out->vit));
        out->projection = out->vit.hidden;
    } else if (strcmp(name, "CLIPModel") == 0 || strcmp(name, "clip") == 0) {
        BIF_TRY(bif_hf_read_clip(where, root, out));
    } else if (strcmp(name, "CLIPVisionModel") == 0 || strcmp(name, "CLIPVisionModelWithProjection") == 0 ||
               strcmp(name, "clip_vision_model") == 0) {
        out->kind = BIF_MODEL_CLIP;
        BIF_TRY(bif_hf_read_vit(where, root, &bif_hf_vit_b32, &out->vit));
        BIF_TRY(bif_hf_number(where, root, "projection_dim", 512, &out->projection));
    } else if (native != NULL || native_by_keys) {
        BIF_TRY(read_llava_native(where, root, native != NULL ? native->family : BIF_FAMILY_LLAMA, tower, depth, out));
    } else if (strcmp(name, "LlavaForConditionalGeneration") == 0 || (architecture == NULL && strcmp(name, "llava") == 0)) {
        BIF_TRY(read_llava(where, root, out));
    } else {
        bif_family f = BIF_FAMILY_LLAMA;
        BIF_TRY(bif_hf_family_of(where, type, architecture, &f));
        BIF_TRY(bif_hf_read_decoder(where, root, f, &out->decoder));
        out->kind = BIF_MODEL_DECODER;
    }
done:
    return st;
}

/* How the model was trained to see its input; our own keys. */
static bif_status read_habits(const char *where, const json_t *root, bif_model_config *out)
{
    bif_status st = BIF_OK;
    const char *template_name = "", *fit = out->image_fit, *place = "", *system = NULL;
    BIF_TRY(bif_json_string(where, root, "bifocal_template", false, &template_name));
    BIF_TRY(bif_json_string(where, root, "bifocal_image_fit", false, &fit));
    BIF_TRY(bif_json_string(where, root, "bifocal_image_place", false, &place));
    BIF_TRY(bif_json_string(where, root, "bifocal_system", false, &system));
    BIF_TRY(bif_hf_number(where, root, "bifocal_classes", 0, &out->decoder.classes));
    BIF_TRY(bif_hf_number(where, root, "bifocal_vocab", out->decoder.vocab, &out->decoder.vocab));
    BIF_TRY(bif_hf_token(where, root, "bifocal_pad_token_id", out->pad_token, &out->pad_token));
    if (strlen(template_name) >= sizeof out->template_name || strlen(fit) >= sizeof out->image_fit || strlen(place) >= sizeof out->image_place ||
        (system != NULL && strlen(system) >= sizeof out->system)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a bifocal_ key is longer than it can be; remove it and name template and system on the command line",
                         where));
    }
    snprintf(out->template_name, sizeof out->template_name, "%s", template_name);
    snprintf(out->image_place, sizeof out->image_place, "%s", place);
    if (fit != out->image_fit) {
        snprintf(out->image_fit, sizeof out->image_fit, "%s", fit);
    }
    snprintf(out->system, sizeof out->system, "%s", system != NULL ? system : "");
    out->has_system = system != NULL;
done:
    return st;
}

static bif_status base_tower(const char *base, int depth, char **tower)
{
    bif_model_config config = {0};
    if (has_config(base) || bif_adapter_is(base)) {
        const bif_status st = read_folder(base, &(bif_beside){0}, depth + 1, &config);
        if (st != BIF_OK) {
            return st;
        }
        *tower = config.vit.hidden > 0 ? bif_strdup(base) : NULL;
    }
    return BIF_OK;
}

static bif_status read_folder(const char *folder, const bif_beside *beside, int depth, bif_model_config *out)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    bif_model_config config = {.feature_layer = -2, .image_token = -1, .pad_token = -1};
    char *path = NULL, *tower = NULL, *base = NULL;
    if (depth > DEPTH_CAP) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: more than %d folders that name each other as base or tower", folder, DEPTH_CAP));
    }
    if (bif_adapter_is(folder)) {
        BIF_TRY(bif_adapter_base(folder, beside->base, &base));
    } else if (beside->base != NULL) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "%s is no adapter (it has no adapter_config.json) and takes no base", folder));
    }
    if (base != NULL && !has_config(folder)) {
        st = read_folder(base, &(bif_beside){.tower = beside->tower}, depth + 1, out);
        goto done;
    }
    BIF_TRY(load(folder, &path, &root));
    if (beside->tower != NULL) {
        tower = bif_strdup(beside->tower);
    } else {
        BIF_TRY(tower_named(folder, root, &tower));
    }
    if (tower == NULL && base != NULL) {
        BIF_TRY(base_tower(base, depth, &tower));
    }
    BIF_TRY(read_root(path, root, tower, depth, &config));
    if (beside->tower != NULL && config.kind == BIF_MODEL_LLAVA) {
        BIF_TRY(read_tower(beside->tower, depth, &config.vit));
    }
    BIF_TRY(read_habits(path, root, &config));
    BIF_TRY(config.kind == BIF_MODEL_DECODER ? BIF_OK : bif_hf_check_pictures(folder, &config));
    config.projector.in = config.vit.hidden;
    config.projector.out = config.decoder.hidden;
    bif_model_config checked = config;
    if (config.kind == BIF_MODEL_CLIP && config.text.hidden == 0) { /* a tower alone: checked as if it had a text tower of its own shape */
        checked.text = (bif_text_config){.hidden = config.vit.hidden, .layers = config.vit.layers, .heads = config.vit.heads,
                                         .inner = config.vit.inner, .vocab = 2, .positions = 1, .eps = config.vit.eps, .act = config.vit.act,
                                         .bos = 0, .eos = 1, .family = config.vit.family};
        checked.vit.head = checked.logit_bias = true;
    }
    BIF_TRY(bif_model_check(&checked, path));
    *out = config;
done:
    json_decref(root);
    free(tower);
    free(base);
    free(path);
    return st;
}

bif_status bif_hf_config_read_with(const char *folder, const bif_beside *beside, bif_model_config *out)
{
    return read_folder(folder, beside == NULL ? &(bif_beside){0} : beside, 0, out);
}

bif_status bif_hf_config_read(const char *folder, bif_model_config *out)
{
    return bif_hf_config_read_with(folder, NULL, out);
}

bif_status bif_hf_tower_of(const char *folder, char **out)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    char *path = NULL;
    *out = NULL;
    if (has_config(folder) && load(folder, &path, &root) == BIF_OK) {
        st = tower_named(folder, root, out);
    } else {
        bif_error_clear(); /* weights may lie without a config.json that can be read */
    }
    json_decref(root);
    free(path);
    return st;
}
