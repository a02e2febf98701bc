#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "train/open_clip.h"

#define CONFIG_CAP ((size_t)4 << 20)

typedef enum { FAMILY_LLAMA, FAMILY_MISTRAL, FAMILY_QWEN2, FAMILY_QWEN3, FAMILIES } family;

/* Defaults of the configuration classes of transformers (checked against 5.x): what a partial config.json means. */
static const struct {
    const char *model_type, *architecture;
    int64_t vocab, inner, kv_heads, positions; /* kv_heads 0 = as many as heads */
    int64_t head_dim;                          /* 0 = hidden / heads */
    int32_t bos, eos;
} families[FAMILIES] = {
    [FAMILY_LLAMA] = {"llama", "LlamaForCausalLM", 32000, 11008, 0, 2048, 0, 1, 2},
    [FAMILY_MISTRAL] = {"mistral", "MistralForCausalLM", 32000, 14336, 8, 131072, 0, 1, 2},
    [FAMILY_QWEN2] = {"qwen2", "Qwen2ForCausalLM", 151936, 22016, 32, 32768, 0, -1, -1},
    [FAMILY_QWEN3] = {"qwen3", "Qwen3ForCausalLM", 151936, 22016, 32, 32768, 128, -1, -1},
};

static bif_status number(const char *where, const json_t *o, const char *key, int64_t fallback, int64_t *out)
{
    *out = fallback;
    return bif_json_i64(where, o, key, false, out);
}

static bif_status real(const char *where, const json_t *o, const char *key, double fallback, float *out)
{
    double value = fallback;
    bif_status st = bif_json_f64(where, o, key, false, &value);
    *out = (float)value;
    return st;
}

static bool is_null(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);
    return value == NULL || json_is_null(value);
}

/* Explicit null: transformers then derives the value instead of taking the class default. */
static bool says_null(const json_t *o, const char *key)
{
    return json_is_null(json_object_get(o, key));
}

static bif_status refuse(const char *where, const char *key, const char *value, const char *have)
{
    return bif_fail(BIF_ERR_CONFIG, "%s: '%s' is %.60s, which is not implemented; %s", where, key, value, have);
}

/* Token id: an integer, null, or a list whose first is taken (Llama 3 names several ends). -1 = none. */
static bif_status token(const char *where, const json_t *o, const char *key, int32_t fallback, int32_t *out)
{
    const json_t *value = json_object_get(o, key);
    *out = fallback;
    if (value == NULL) {
        return BIF_OK;
    }
    if (json_is_array(value) && json_array_size(value) > 0) {
        value = json_array_get(value, 0);
    }
    if (json_is_null(value)) {
        *out = -1;
        return BIF_OK;
    }
    const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -2;
    if (id < -1 || id > INT32_MAX) {
        return bif_fail(BIF_ERR_CONFIG, "%s: '%s' must be a token id", where, key);
    }
    *out = (int32_t)id;
    return BIF_OK;
}

static bif_status activation(const char *where, const json_t *o, const char *fallback, bif_act *out)
{
    const char *name = fallback;
    bif_status st = bif_json_string(where, o, "hidden_act", false, &name);
    if (st != BIF_OK) {
        return st;
    }
    if (strcmp(name, "quick_gelu") == 0) {
        *out = BIF_ACT_QUICK_GELU;
    } else if (strcmp(name, "gelu") == 0) {
        *out = BIF_ACT_GELU;
    } else if (strcmp(name, "gelu_pytorch_tanh") == 0 || strcmp(name, "gelu_new") == 0) {
        *out = BIF_ACT_GELU_TANH;
    } else {
        return refuse(where, "hidden_act", name, "quick_gelu, gelu and gelu_pytorch_tanh are");
    }
    return BIF_OK;
}

static bif_status check_rope(const char *where, const json_t *rope, const char *key)
{
    if (rope == NULL || json_is_null(rope)) {
        return BIF_OK;
    }
    if (!json_is_object(rope)) {
        return bif_fail(BIF_ERR_CONFIG, "%s: '%s' must be an object", where, key);
    }
    const char *type = "default";
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)rope, name, value)
    {
        if (json_is_object(value)) {
            return refuse(where, key, "given per layer type", "one rope for all layers is");
        }
    }
    bif_status st = BIF_OK;
    BIF_TRY(bif_json_string(where, rope, "type", false, &type)); /* the older name */
    BIF_TRY(bif_json_string(where, rope, "rope_type", false, &type));
    if (strcmp(type, "default") != 0) {
        st = refuse(where, key, type, "the plain rope (rope_type default) is");
    }
done:
    return st;
}

static bif_status read_rope(const char *where, const json_t *o, bif_decoder_config *c)
{
    bif_status st = BIF_OK;
    const json_t *rope = json_object_get(o, "rope_parameters"); /* transformers 5 */
    BIF_TRY(check_rope(where, json_object_get(o, "rope_scaling"), "rope_scaling"));
    BIF_TRY(check_rope(where, rope, "rope_parameters"));
    BIF_TRY(real(where, o, "rope_theta", 10000.0, &c->rope_theta));
    float rotary = 1.0f;
    BIF_TRY(real(where, o, "partial_rotary_factor", 1.0, &rotary));
    if (json_is_object(rope)) {
        BIF_TRY(real(where, rope, "rope_theta", (double)c->rope_theta, &c->rope_theta));
        BIF_TRY(real(where, rope, "partial_rotary_factor", (double)rotary, &rotary));
    }
    if (rotary != 1.0f) {
        st = refuse(where, "partial_rotary_factor", "not 1", "rotation of whole heads is");
    }
done:
    return st;
}

static bif_status read_window(const char *where, const json_t *o, family f, bif_decoder_config *c)
{
    bif_status st = BIF_OK;
    bool used = f == FAMILY_MISTRAL;
    int64_t window = 0, first = 0;
    const json_t *types = json_object_get(o, "layer_types");
    if (f == FAMILY_QWEN2 || f == FAMILY_QWEN3) {
        BIF_TRY(bif_json_bool(where, o, "use_sliding_window", false, &used));
        BIF_TRY(number(where, o, "max_window_layers", 28, &first));
        bool sliding = first < c->layers;
        if (json_is_array(types)) {
            sliding = false;
            for (size_t i = 0; i < json_array_size(types); i++) {
                const char *type = json_string_value(json_array_get(types, i));
                if (type == NULL || (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0)) {
                    st = refuse(where, "layer_types", type == NULL ? "not a list of names" : type, "full_attention is");
                    goto done;
                }
                sliding = sliding || strcmp(type, "sliding_attention") == 0;
            }
        }
        used = used && sliding;
    }
    if (!used || says_null(o, "sliding_window")) {
        goto done;
    }
    BIF_TRY(number(where, o, "sliding_window", 4096, &window));
    if (window >= 1 && window < c->positions) {
        bif_info("%s: attends over a sliding window of %lld tokens; sequences are limited to that length, where the window has no effect",
                 where, (long long)window);
        c->positions = window;
    }
done:
    return st;
}

static bif_status read_decoder(const char *where, const json_t *o, family f, bif_decoder_config *c)
{
    bif_status st = BIF_OK;
    const char *act = "silu";
    bool bias = false, mlp_bias = false;
    BIF_TRY(bif_json_string(where, o, "hidden_act", false, &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) {
        st = refuse(where, "hidden_act", act, "silu is");
        goto done;
    }
    if (!is_null(o, "quantization_config")) {
        st = refuse(where, "quantization_config", "given", "unquantised weights are");
        goto done;
    }
    BIF_TRY(number(where, o, "hidden_size", 4096, &c->hidden));
    BIF_TRY(number(where, o, "num_hidden_layers", 32, &c->layers));
    BIF_TRY(number(where, o, "num_attention_heads", 32, &c->heads));
    const int64_t kv = families[f].kv_heads == 0 || says_null(o, "num_key_value_heads") ? c->heads : families[f].kv_heads;
    BIF_TRY(number(where, o, "num_key_value_heads", kv, &c->kv_heads));
    const bool derived = families[f].head_dim == 0 || says_null(o, "head_dim");
    BIF_TRY(number(where, o, "head_dim", derived ? (c->heads > 0 ? c->hidden / c->heads : 0) : families[f].head_dim, &c->head_dim));
    BIF_TRY(number(where, o, "intermediate_size", families[f].inner, &c->inner));
    BIF_TRY(number(where, o, "vocab_size", families[f].vocab, &c->vocab));
    BIF_TRY(number(where, o, "max_position_embeddings", families[f].positions, &c->positions));
    BIF_TRY(real(where, o, "rms_norm_eps", 1e-6, &c->eps));
    BIF_TRY(read_rope(where, o, c));
    BIF_TRY(read_window(where, o, f, c));
    if (f == FAMILY_LLAMA || f == FAMILY_QWEN3) {
        BIF_TRY(bif_json_bool(where, o, "attention_bias", false, &bias));
    }
    if (f == FAMILY_LLAMA) {
        BIF_TRY(bif_json_bool(where, o, "mlp_bias", false, &mlp_bias));
    }
    c->qkv_bias = bias || f == FAMILY_QWEN2;
    c->o_bias = bias;
    c->mlp_bias = mlp_bias;
    c->qk_norm = f == FAMILY_QWEN3;
    BIF_TRY(bif_json_bool(where, o, "tie_word_embeddings", false, &c->tied));
    BIF_TRY(token(where, o, "bos_token_id", families[f].bos, &c->bos));
    BIF_TRY(token(where, o, "eos_token_id", families[f].eos, &c->eos));
done:
    return st;
}

/* The class defaults: CLIPVisionConfig (B/32), or what LlavaConfig takes when the part is missing (L/14 at 336). */
static const bif_vit_config vit_b32 = {768, 12, 12, 3072, 32, 224, 1e-5f, BIF_ACT_QUICK_GELU};
static const bif_vit_config vit_l14_336 = {1024, 24, 16, 4096, 14, 336, 1e-5f, BIF_ACT_QUICK_GELU};

static bif_status read_vit(const char *where, const json_t *o, const bif_vit_config *base, bif_vit_config *c)
{
    bif_status st = BIF_OK;
    int64_t channels = 3;
    const char *type = "clip_vision_model";
    *c = *base;
    if (o == NULL || json_is_null(o)) {
        return BIF_OK;
    }
    BIF_TRY(bif_json_string(where, o, "model_type", false, &type));
    if (strcmp(type, "clip_vision_model") != 0 && strcmp(type, "clip") != 0) {
        st = refuse(where, "vision_config.model_type", type, "clip_vision_model is");
        goto done;
    }
    BIF_TRY(number(where, o, "hidden_size", base->hidden, &c->hidden));
    BIF_TRY(number(where, o, "num_hidden_layers", base->layers, &c->layers));
    BIF_TRY(number(where, o, "num_attention_heads", base->heads, &c->heads));
    BIF_TRY(number(where, o, "intermediate_size", base->inner, &c->inner));
    BIF_TRY(number(where, o, "patch_size", base->patch, &c->patch));
    BIF_TRY(number(where, o, "image_size", base->image, &c->image));
    BIF_TRY(real(where, o, "layer_norm_eps", 1e-5, &c->eps));
    BIF_TRY(activation(where, o, "quick_gelu", &c->act));
    BIF_TRY(number(where, o, "num_channels", 3, &channels));
    if (channels != 3) {
        st = refuse(where, "num_channels", "not 3", "images of 3 channels are");
    }
done:
    return st;
}

static bif_status read_text(const char *where, const json_t *o, bif_text_config *c)
{
    bif_status st = BIF_OK;
    BIF_TRY(number(where, o, "hidden_size", 512, &c->hidden));
    BIF_TRY(number(where, o, "num_hidden_layers", 12, &c->layers));
    BIF_TRY(number(where, o, "num_attention_heads", 8, &c->heads));
    BIF_TRY(number(where, o, "intermediate_size", 2048, &c->inner));
    BIF_TRY(number(where, o, "vocab_size", 49408, &c->vocab));
    BIF_TRY(number(where, o, "max_position_embeddings", 77, &c->positions));
    BIF_TRY(real(where, o, "layer_norm_eps", 1e-5, &c->eps));
    BIF_TRY(activation(where, o, "quick_gelu", &c->act));
    BIF_TRY(token(where, o, "bos_token_id", 49406, &c->bos));
    BIF_TRY(token(where, o, "eos_token_id", 49407, &c->eos));
    /* OpenAI's published configs say eos 2 (and bos 0), which is wrong for their tokenizer; transformers takes 2 to mean "the largest id in the
     * text", which for that tokenizer is its last entry, the end of text; the entry before is the start. */
    if (c->eos == 2 && c->vocab >= 4) {
        c->eos = (int32_t)(c->vocab - 1 < INT32_MAX ? c->vocab - 1 : INT32_MAX);
        c->bos = c->eos - 1;
    }
done:
    return st;
}

static bif_status read_clip(const char *where, const json_t *root, bif_model_config *out)
{
    bif_status st = BIF_OK;
    json_t *empty = json_object();
    /* Files of 2022 carry *_config_dict beside *_config; the former wins in transformers. */
    const json_t *vision = json_object_get(root, is_null(root, "vision_config_dict") ? "vision_config" : "vision_config_dict");
    const json_t *text = json_object_get(root, is_null(root, "text_config_dict") ? "text_config" : "text_config_dict");
    out->kind = BIF_MODEL_CLIP;
    BIF_TRY(read_vit(where, vision, &vit_b32, &out->vit));
    BIF_TRY(read_text(where, text == NULL || json_is_null(text) ? empty : text, &out->text));
    BIF_TRY(number(where, root, "projection_dim", 512, &out->projection));
    BIF_TRY(real(where, root, "logit_scale_init_value", 2.6592, &out->logit_scale_init));
    BIF_TRY(bif_json_bool(where, root, "bifocal_logit_bias", false, &out->logit_bias));
done:
    json_decref(empty);
    return st;
}

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
        return refuse(where, "projector", name, "linear and mlpNx_gelu (N from 1 to 8) are");
    }
    p->kind = BIF_PROJECTOR_MLP;
    p->depth = depth;
    return BIF_OK;
}

static bif_status family_of(const char *where, const char *model_type, const char *architecture, family *out)
{
    for (int f = 0; f < FAMILIES; f++) {
        const char *have = architecture != NULL ? families[f].architecture : families[f].model_type;
        if (strcmp(have, architecture != NULL ? architecture : model_type) == 0) {
            *out = (family)f;
            return BIF_OK;
        }
    }
    return refuse(where, architecture != NULL ? "architectures" : "model_type", architecture != NULL ? architecture : model_type,
                  "llama, mistral, qwen2 and qwen3 decoders are, and CLIPModel, CLIPVisionModel and LlavaForConditionalGeneration");
}

static bif_status read_feature_layer(const char *where, const json_t *root, int64_t *out)
{
    const json_t *layer = json_object_get(root, "vision_feature_layer");
    *out = -2;
    if (json_is_array(layer)) {
        if (json_array_size(layer) != 1 || !json_is_integer(json_array_get(layer, 0))) {
            return refuse(where, "vision_feature_layer", "a list", "one layer is");
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
    family f = FAMILY_LLAMA;
    if (text == NULL || json_is_null(text)) {
        text = empty;
    }
    out->kind = BIF_MODEL_LLAVA;
    BIF_TRY(bif_json_string(where, text, "model_type", false, &type));
    BIF_TRY(family_of(where, type, NULL, &f));
    BIF_TRY(read_decoder(where, text, f, &out->decoder));
    BIF_TRY(bif_json_bool(where, root, "tie_word_embeddings", false, &tied));
    out->decoder.tied = out->decoder.tied || tied;
    BIF_TRY(read_vit(where, json_object_get(root, "vision_config"), is_null(root, "vision_config") ? &vit_l14_336 : &vit_b32, &out->vit));
    BIF_TRY(read_feature_layer(where, root, &out->feature_layer));
    BIF_TRY(bif_json_string(where, root, "vision_feature_select_strategy", false, &select));
    if (strcmp(select, "default") != 0 && strcmp(select, "full") != 0) {
        st = refuse(where, "vision_feature_select_strategy", select, "default and full are");
        goto done;
    }
    out->cls_patch = strcmp(select, "full") == 0;
    BIF_TRY(bif_json_string(where, root, "projector_hidden_act", false, &act));
    if (strcmp(act, "gelu") != 0) {
        st = refuse(where, "projector_hidden_act", act, "gelu is");
        goto done;
    }
    BIF_TRY(bif_json_bool(where, root, "multimodal_projector_bias", false, &bias));
    if (!bias) {
        st = refuse(where, "multimodal_projector_bias", "false", "a projector with biases is");
        goto done;
    }
    BIF_TRY(bif_json_string(where, root, "bifocal_projector", false, &projector));
    BIF_TRY(projector_type(where, projector, &out->projector));
    BIF_TRY(token(where, root, "image_token_id", 32000, &out->image_token));
    BIF_TRY(token(where, root, "image_token_index", out->image_token, &out->image_token));
    BIF_TRY(token(where, text, "pad_token_id", -1, &out->pad_token));
    BIF_TRY(token(where, root, "pad_token_id", out->pad_token, &out->pad_token));
done:
    json_decref(empty);
    return st;
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
    char *config = bif_path_join(folder, "config.json"), *other = bif_path_join(folder, "open_clip_config.json");
    const bool is = bif_exists(config) || bif_exists(other);
    free(config);
    free(other);
    return is;
}

/* FOLDER/mm_vision_tower, or NULL when there is no such folder. Nothing outside FOLDER is looked at. */
static char *tower_below(const char *folder, const json_t *root)
{
    const char *name = json_string_value(json_object_get(root, "mm_vision_tower"));
    if (name == NULL || name[0] == '\0' || name[0] == '/' || name[0] == '.' || strstr(name, "..") != NULL) {
        return NULL;
    }
    char *tower = bif_path_join(folder, name);
    if (!bif_hf_is_folder(tower)) {
        free(tower);
        tower = NULL;
    }
    return tower;
}

static bif_status read_root(const char *where, const json_t *root, const char *tower, bif_model_config *out);

static bif_status read_tower(const char *tower, bif_vit_config *out)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    bif_model_config config = {0};
    char *path = NULL;
    BIF_TRY(load(tower, &path, &root));
    BIF_TRY(read_root(path, root, NULL, &config));
    if (config.vit.hidden == 0) {
        st = bif_fail(BIF_ERR_CONFIG, "%s has no vision tower", tower);
        goto done;
    }
    *out = config.vit;
done:
    json_decref(root);
    free(path);
    return st;
}

/* The authors' own layout: a Llama config with mm_* keys; the tower is only named: it lies in the folder `tower` or is one of those known. */
static bif_status read_llava_native(const char *where, const json_t *root, const char *tower, bif_model_config *out)
{
    bif_status st = BIF_OK;
    const char *name = "", *projector = "linear", *select = "patch", *merge = "flat", *aspect = "";
    BIF_TRY(read_decoder(where, root, FAMILY_LLAMA, &out->decoder));
    BIF_TRY(bif_json_string(where, root, "mm_vision_tower", tower == NULL, &name));
    out->kind = BIF_MODEL_LLAVA;
    out->vit = vit_l14_336;
    if (tower != NULL) {
        BIF_TRY(read_tower(tower, &out->vit));
    } else if (strcmp(bif_path_base(name), "clip-vit-large-patch14") == 0) {
        out->vit.image = 224;
    } else if (strcmp(bif_path_base(name), "clip-vit-large-patch14-336") != 0) {
        st = refuse(where, "mm_vision_tower", name,
                    "clip-vit-large-patch14 and clip-vit-large-patch14-336 are, and a tower's folder within this one; bifocal import --tower "
                    "takes any folder");
        goto done;
    }
    BIF_TRY(bif_json_string(where, root, "image_aspect_ratio", false, &aspect));
    snprintf(out->image_fit, sizeof out->image_fit, "%s", strcmp(aspect, "pad") == 0 ? "pad" : "");
    BIF_TRY(bif_json_string(where, root, "mm_projector_type", false, &projector));
    BIF_TRY(projector_type(where, projector, &out->projector));
    BIF_TRY(number(where, root, "mm_vision_select_layer", -2, &out->feature_layer));
    BIF_TRY(bif_json_string(where, root, "mm_vision_select_feature", false, &select));
    BIF_TRY(bif_json_string(where, root, "mm_patch_merge_type", false, &merge));
    if (strcmp(merge, "flat") != 0) {
        st = refuse(where, "mm_patch_merge_type", merge, "flat is");
        goto done;
    }
    out->cls_patch = strcmp(select, "cls_patch") == 0;
    BIF_TRY(token(where, root, "image_token_index", -1, &out->image_token)); /* ours: the authors' token is no part of the vocabulary */
    BIF_TRY(token(where, root, "pad_token_id", -1, &out->pad_token));
done:
    return st;
}

static bif_status read_root(const char *where, const json_t *root, const char *tower, bif_model_config *out)
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
    if (strcmp(name, "CLIPModel") == 0 || strcmp(name, "clip") == 0) {
        BIF_TRY(read_clip(where, root, out));
    } else if (strcmp(name, "CLIPVisionModel") == 0 || strcmp(name, "CLIPVisionModelWithProjection") == 0 ||
               strcmp(name, "clip_vision_model") == 0) {
        out->kind = BIF_MODEL_CLIP;
        BIF_TRY(read_vit(where, root, &vit_b32, &out->vit));
        BIF_TRY(number(where, root, "projection_dim", 512, &out->projection));
    } else if (strcmp(name, "LlavaForConditionalGeneration") == 0 || (architecture == NULL && strcmp(name, "llava") == 0)) {
        BIF_TRY(read_llava(where, root, out));
    } else if (strcmp(name, "LlavaLlamaForCausalLM") == 0 || strcmp(name, "llava_llama") == 0) {
        BIF_TRY(read_llava_native(where, root, tower, out));
    } else {
        family f = FAMILY_LLAMA;
        BIF_TRY(family_of(where, type, architecture, &f));
        BIF_TRY(read_decoder(where, root, f, &out->decoder));
        out->kind = BIF_MODEL_DECODER;
    }
done:
    return st;
}

/* How the model was trained to see its input; our own keys. */
static bif_status read_habits(const char *where, const json_t *root, bif_model_config *out)
{
    bif_status st = BIF_OK;
    const char *template_name = "", *fit = out->image_fit, *system = NULL;
    BIF_TRY(bif_json_string(where, root, "bifocal_template", false, &template_name));
    BIF_TRY(bif_json_string(where, root, "bifocal_image_fit", false, &fit));
    BIF_TRY(bif_json_string(where, root, "bifocal_system", false, &system));
    if (strlen(template_name) >= sizeof out->template_name || strlen(fit) >= sizeof out->image_fit ||
        (system != NULL && strlen(system) >= sizeof out->system)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a bifocal_ key is longer than it can be; remove it and name template and system on the command line",
                         where));
    }
    snprintf(out->template_name, sizeof out->template_name, "%s", template_name);
    if (fit != out->image_fit) {
        snprintf(out->image_fit, sizeof out->image_fit, "%s", fit);
    }
    snprintf(out->system, sizeof out->system, "%s", system != NULL ? system : "");
    out->has_system = system != NULL;
done:
    return st;
}

bif_status bif_hf_config_read_with(const char *folder, const char *tower, bif_model_config *out)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    bif_model_config config = {.feature_layer = -2, .image_token = -1, .pad_token = -1};
    char *path = NULL, *below = NULL;
    BIF_TRY(load(folder, &path, &root));
    below = tower == NULL ? tower_below(folder, root) : bif_strdup(tower);
    BIF_TRY(read_root(path, root, below, &config));
    if (tower != NULL && config.kind == BIF_MODEL_LLAVA) {
        BIF_TRY(read_tower(tower, &config.vit));
    }
    BIF_TRY(read_habits(path, root, &config));
    config.projector.in = config.vit.hidden;
    config.projector.out = config.decoder.hidden;
    bif_model_config checked = config;
    if (config.kind == BIF_MODEL_CLIP && config.text.hidden == 0) { /* a tower alone: checked as if it had a text tower of its own shape */
        checked.text = (bif_text_config){config.vit.hidden, config.vit.layers, config.vit.heads, config.vit.inner, 2, 1, config.vit.eps,
                                         config.vit.act, 0, 1};
    }
    BIF_TRY(bif_model_check(&checked, path));
    *out = config;
done:
    json_decref(root);
    free(below);
    free(path);
    return st;
}

bif_status bif_hf_config_read(const char *folder, bif_model_config *out)
{
    return bif_hf_config_read_with(folder, NULL, out);
}

char *bif_hf_tower_below(const char *folder)
{
    json_t *root = NULL;
    char *path = NULL, *below = NULL;
    if (bif_hf_is_folder(folder) && load(folder, &path, &root) == BIF_OK) {
        below = tower_below(folder, root);
    }
    bif_error_clear();
    json_decref(root);
    free(path);
    return below;
}
