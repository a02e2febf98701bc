#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "train/hf_config_parts.h"

/* The f32 as the shortest decimal that gives it back, so that 1e-5f is written as 1e-05 and not as its neighbour in double. */
static json_t *real(float value)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) {
            break;
        }
    }
    return json_real(strtod(text, NULL));
}

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

static json_t *token(int32_t id)
{
    return id < 0 ? json_null() : json_integer(id);
}

static json_t *act_name(bif_act act)
{
    return json_string(act == BIF_ACT_QUICK_GELU ? "quick_gelu" : act == BIF_ACT_GELU ? "gelu" : "gelu_pytorch_tanh");
}

/* The family that has exactly these options (bif_model_check has refused the rest). */
static bif_family family_of(const bif_decoder_config *c)
{
    return c->qk_norm                    ? BIF_FAMILY_QWEN3
           : c->qkv_bias && !c->o_bias   ? BIF_FAMILY_QWEN2
           : c->mistral && !c->qkv_bias ? BIF_FAMILY_MISTRAL
                                         : BIF_FAMILY_LLAMA;
}

static json_t *llama3_object(const bif_rope_scaling *rope)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:I}", "rope_type", "llama3", "factor", real(rope->factor), "low_freq_factor", real(rope->low),
                     "high_freq_factor", real(rope->high), "original_max_position_embeddings", (json_int_t)rope->original);
}

/* transformers 4 reads rope_theta and rope_scaling (for linear, its first versions want these two keys and no more), transformers 5
 * rope_parameters, and where there is a rope_scaling that instead. */
static void put_rope(json_t *o, const bif_decoder_config *c)
{
    json_t *parameters = NULL;
    put(o, "rope_theta", real(c->rope_theta));
    if (c->rope.kind == BIF_ROPE_PLAIN) {
        parameters = json_pack("{s:s}", "rope_type", "default");
    } else if (c->rope.kind == BIF_ROPE_LINEAR) {
        put(o, "rope_scaling", json_pack("{s:s, s:o}", "type", "linear", "factor", real(c->rope.factor)));
        parameters = json_pack("{s:s, s:o}", "rope_type", "linear", "factor", real(c->rope.factor));
    } else {
        put(o, "rope_scaling", llama3_object(&c->rope));
        parameters = llama3_object(&c->rope);
    }
    put(parameters, "rope_theta", real(c->rope_theta));
    put(o, "rope_parameters", parameters);
}

static void decoder_object(json_t *o, const bif_decoder_config *c, bif_family family)
{
    put(o, "model_type", json_string(bif_hf_family_type(family)));
    put(o, "hidden_size", json_integer(c->hidden));
    put(o, "num_hidden_layers", json_integer(c->layers));
    put(o, "num_attention_heads", json_integer(c->heads));
    put(o, "num_key_value_heads", json_integer(c->kv_heads));
    put(o, "head_dim", json_integer(c->head_dim));
    put(o, "intermediate_size", json_integer(c->inner));
    put(o, "vocab_size", json_integer(c->vocab));
    put(o, "max_position_embeddings", json_integer(c->positions));
    put(o, "hidden_act", json_string("silu"));
    put(o, "rms_norm_eps", real(c->eps));
    put_rope(o, c);
    if (family == BIF_FAMILY_LLAMA || family == BIF_FAMILY_QWEN3) {
        put(o, "attention_bias", json_boolean(c->o_bias));
    }
    if (family == BIF_FAMILY_QWEN2 || family == BIF_FAMILY_QWEN3) {
        put(o, "use_sliding_window", json_false());
    } else if (family == BIF_FAMILY_MISTRAL) {
        put(o, "sliding_window", json_null()); /* max_position_embeddings is no larger */
    } else {
        put(o, "mlp_bias", json_false());
    }
    put(o, "tie_word_embeddings", json_boolean(c->tied));
    put(o, "bos_token_id", token(c->bos));
    put(o, "eos_token_id", token(c->eos));
}

static json_t *vit_object(const bif_vit_config *c, int64_t projection)
{
    json_t *o = json_object();
    put(o, "model_type", json_string(c->family == BIF_TOWER_SIGLIP ? "siglip_vision_model" : "clip_vision_model"));
    put(o, "hidden_size", json_integer(c->hidden));
    put(o, "num_hidden_layers", json_integer(c->layers));
    put(o, "num_attention_heads", json_integer(c->heads));
    put(o, "intermediate_size", json_integer(c->inner));
    put(o, "patch_size", json_integer(c->patch));
    put(o, "image_size", json_integer(c->image));
    put(o, "num_channels", json_integer(3));
    put(o, "hidden_act", act_name(c->act));
    put(o, "layer_norm_eps", real(c->eps));
    if (c->family == BIF_TOWER_SIGLIP) {
        put(o, "vision_use_head", json_boolean(c->head));
    } else if (projection > 0) {
        put(o, "projection_dim", json_integer(projection));
    }
    return o;
}

static json_t *text_object(const bif_text_config *c, int64_t projection)
{
    json_t *o = json_object();
    put(o, "model_type", json_string("clip_text_model"));
    put(o, "hidden_size", json_integer(c->hidden));
    put(o, "num_hidden_layers", json_integer(c->layers));
    put(o, "num_attention_heads", json_integer(c->heads));
    put(o, "intermediate_size", json_integer(c->inner));
    put(o, "vocab_size", json_integer(c->vocab));
    put(o, "max_position_embeddings", json_integer(c->positions));
    put(o, "hidden_act", act_name(c->act));
    put(o, "layer_norm_eps", real(c->eps));
    put(o, "bos_token_id", token(c->bos));
    put(o, "eos_token_id", token(c->eos));
    if (c->family == BIF_TOWER_SIGLIP) {
        put(o, "model_type", json_string("siglip_text_model"));
        put(o, "pad_token_id", token(c->pad));
        put(o, "projection_size", json_integer(projection));
    } else {
        put(o, "projection_dim", json_integer(projection));
    }
    return o;
}

static void llava_object(json_t *o, const bif_model_config *c)
{
    json_t *text = json_object();
    decoder_object(text, &c->decoder, family_of(&c->decoder));
    put(o, "model_type", json_string("llava"));
    put(o, "text_config", text);
    put(o, "vision_config", vit_object(&c->vit, 0));
    put(o, "image_token_index", json_integer(c->image_token)); /* -1 = none; transformers refuses null */
    put(o, "image_seq_length", json_integer(bif_tokens_per_image(c)));
    put(o, "pad_token_id", token(c->pad_token));
    put(o, "projector_hidden_act", json_string("gelu"));
    put(o, "multimodal_projector_bias", json_true());
    put(o, "vision_feature_layer", json_integer(c->feature_layer));
    put(o, "vision_feature_select_strategy", json_string(c->cls_patch || c->vit.family == BIF_TOWER_SIGLIP ? "full" : "default"));
    put(o, "tie_word_embeddings", json_boolean(c->decoder.tied));
    if (c->projector.kind == BIF_PROJECTOR_LINEAR) {
        put(o, "bifocal_projector", json_string("linear"));
    } else if (c->projector.depth != 2) {
        put(o, "bifocal_projector", json_sprintf("mlp%dx_gelu", (int)c->projector.depth));
    }
}

/* How the model was trained to see its input. */
static void put_habits(json_t *o, const bif_model_config *config)
{
    if (config->template_name[0] != '\0') {
        put(o, "bifocal_template", json_string(config->template_name));
    }
    if (config->image_fit[0] != '\0') {
        put(o, "bifocal_image_fit", json_string(config->image_fit));
    }
    if (config->image_place[0] != '\0') {
        put(o, "bifocal_image_place", json_string(config->image_place));
    }
    if (config->has_system) {
        put(o, "bifocal_system", json_string(config->system));
    }
    if (config->kind != BIF_MODEL_CLIP && config->decoder.classes > 0) {
        put(o, "bifocal_classes", json_integer(config->decoder.classes));
    }
}

/* Frees o. */
static bif_status save(const char *folder, json_t *o, const char *architecture, bif_dtype dtype)
{
    put(o, "architectures", json_pack("[s]", architecture));
    put(o, "torch_dtype", json_string(dtype == BIF_DTYPE_BF16 ? "bfloat16" : dtype == BIF_DTYPE_F16 ? "float16" : "float32"));
    char *path = bif_path_join(folder, "config.json");
    const bif_status st = bif_json_save_file(path, o);
    free(path);
    json_decref(o);
    return st;
}

bif_status bif_hf_config_write(const char *folder, const bif_model_config *config, bif_dtype dtype)
{
    const bif_status st = bif_model_check(config, folder);
    if (st != BIF_OK) {
        return st;
    }
    const char *architecture = NULL;
    bif_family family;
    bool siglip = false;
    json_t *o = json_object();
    put(o, "architectures", json_array());
    switch (config->kind) {
    case BIF_MODEL_DECODER:
        family = family_of(&config->decoder);
        family = family == BIF_FAMILY_MISTRAL ? BIF_FAMILY_LLAMA : family; /* transformers then takes the tokenizer as it is */
        architecture = bif_hf_family_architecture(family);
        decoder_object(o, &config->decoder, family);
        break;
    case BIF_MODEL_CLIP:
        siglip = config->vit.family == BIF_TOWER_SIGLIP;
        architecture = siglip ? "SiglipModel" : "CLIPModel";
        put(o, "model_type", json_string(siglip ? "siglip" : "clip"));
        if (!siglip) {
            put(o, "projection_dim", json_integer(config->projection));
            put(o, "logit_scale_init_value", real(config->logit_scale_init));
        }
        put(o, "text_config", text_object(&config->text, config->projection));
        put(o, "vision_config", vit_object(&config->vit, config->projection));
        if (config->logit_bias && !siglip) {
            put(o, "bifocal_logit_bias", json_true());
        }
        break;
    case BIF_MODEL_LLAVA:
        architecture = "LlavaForConditionalGeneration";
        llava_object(o, config);
        break;
    }
    put_habits(o, config);
    return save(folder, o, architecture, dtype);
}

/* The class of LLaVA's authors for this model, or NULL. */
static const bif_native_class *native_class(const bif_model_config *config)
{
    for (size_t i = 0; i < BIF_NATIVE_CLASSES && config->kind == BIF_MODEL_LLAVA; i++) {
        if (bif_native_classes[i].family == family_of(&config->decoder)) {
            return &bif_native_classes[i];
        }
    }
    return NULL;
}

static json_t *native_object(const bif_native_class *class, const bif_model_config *config, const char *tower)
{
    json_t *o = json_object();
    decoder_object(o, &config->decoder, class->family);
    put(o, "model_type", json_string(class->model_type));
    put(o, "mm_vision_tower", json_string(tower));
    put(o, "mm_hidden_size", json_integer(config->vit.hidden));
    put(o, "mm_projector_type",
        config->projector.kind == BIF_PROJECTOR_LINEAR ? json_string("linear") : json_sprintf("mlp%dx_gelu", (int)config->projector.depth));
    put(o, "mm_vision_select_layer", json_integer(config->feature_layer));
    put(o, "mm_vision_select_feature", json_string(config->cls_patch ? "cls_patch" : "patch"));
    put(o, "mm_patch_merge_type", json_string("flat"));
    put(o, "mm_use_im_start_end", json_false());
    put(o, "mm_use_im_patch_token", json_false());
    put(o, "use_mm_proj", json_true());
    put(o, "image_aspect_ratio", strcmp(config->image_fit, "pad") == 0 ? json_string("pad") : json_null());
    put(o, "pad_token_id", token(config->pad_token));
    put(o, "image_token_index", json_integer(config->image_token));
    return o;
}

bif_status bif_hf_config_write_native(const char *folder, const bif_model_config *config, bif_dtype dtype, const char *tower)
{
    const bif_native_class *class = native_class(config);
    if (class == NULL) {
        return bif_fail(BIF_ERR_CONFIG, "%s: the layout of LLaVA's authors is for a LLaVA with a Llama, Mistral or Qwen2 decoder; this is %s",
                        folder, config->kind != BIF_MODEL_LLAVA ? "no LLaVA" : bif_hf_family_architecture(family_of(&config->decoder)));
    }
    json_t *o = native_object(class, config, tower);
    put_habits(o, config);
    return save(folder, o, class->architecture, dtype);
}

bool bif_hf_native_fits(const bif_model_config *config)
{
    return native_class(config) != NULL;
}

bif_status bif_hf_config_write_adapter(const char *folder, const bif_model_config *config, bif_dtype dtype, const char *tower, bool native,
                                       int64_t rows)
{
    if (config->kind == BIF_MODEL_DECODER) {
        return bif_hf_config_write(folder, config, dtype);
    }
    const bif_native_class *class = native ? native_class(config) : NULL;
    json_t *o = class != NULL ? native_object(class, config, tower) : json_object();
    json_t *decoder = o;
    if (class == NULL) {
        llava_object(o, config);
        decoder = json_object_get(o, "text_config");
    }
    if (rows < config->decoder.vocab) { /* LLaVA's loader wants what the base has */
        put(decoder, "vocab_size", json_integer(rows));
        put(o, "bifocal_vocab", json_integer(config->decoder.vocab));
        if (config->pad_token >= rows) { /* torch refuses a padding token without a row */
            put(o, "pad_token_id", json_null());
            put(o, "bifocal_pad_token_id", json_integer(config->pad_token));
        }
    }
    if (tower != NULL) {
        put(o, "bifocal_encoder", json_string(tower));
    }
    put_habits(o, config);
    return save(folder, o, class != NULL ? class->architecture : "LlavaForConditionalGeneration", dtype);
}

bif_status bif_hf_config_write_tower(const char *folder, const bif_vit_config *vit, bif_dtype dtype)
{
    return save(folder, vit_object(vit, 0), vit->family == BIF_TOWER_SIGLIP ? "SiglipVisionModel" : "CLIPVisionModel", dtype);
}
