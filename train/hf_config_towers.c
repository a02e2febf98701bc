#include "train/hf_config_parts.h"

#include <string.h>

#include "base/json.h"

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
        return bif_hf_refuse(where, "hidden_act", name, "quick_gelu, gelu and gelu_pytorch_tanh are");
    }
    return BIF_OK;
}

const bif_vit_config bif_hf_vit_b32 = {
    .hidden = 768, .layers = 12, .heads = 12, .inner = 3072, .patch = 32, .image = 224, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU};
const bif_vit_config bif_hf_vit_l14_336 = {
    .hidden = 1024, .layers = 24, .heads = 16, .inner = 4096, .patch = 14, .image = 336, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU};
const bif_vit_config bif_hf_vit_siglip = {.hidden = 768, .layers = 12, .heads = 12, .inner = 3072, .patch = 16, .image = 224, .eps = 1e-6f,
                                          .act = BIF_ACT_GELU_TANH, .family = BIF_TOWER_SIGLIP, .head = true};

bif_status bif_hf_read_vit(const char *where, const json_t *o, const bif_vit_config *base, bif_vit_config *c)
{
    bif_status st = BIF_OK;
    int64_t channels = 3;
    const char *type = base->family == BIF_TOWER_SIGLIP ? "siglip_vision_model" : "clip_vision_model";
    *c = *base;
    if (o == NULL || json_is_null(o)) {
        return BIF_OK;
    }
    BIF_TRY(bif_json_string(where, o, "model_type", false, &type));
    if (strcmp(type, "siglip_vision_model") == 0 || strcmp(type, "siglip") == 0) {
        base = &bif_hf_vit_siglip;
        *c = *base;
        BIF_TRY(bif_json_bool(where, o, "vision_use_head", false, &c->head));
    } else if (strcmp(type, "clip_vision_model") != 0 && strcmp(type, "clip") != 0) {
        st = bif_hf_refuse(where, "vision_config.model_type", type, "clip_vision_model and siglip_vision_model are");
        goto done;
    }
    BIF_TRY(bif_hf_number(where, o, "hidden_size", base->hidden, &c->hidden));
    BIF_TRY(bif_hf_number(where, o, "num_hidden_layers", base->layers, &c->layers));
    BIF_TRY(bif_hf_number(where, o, "num_attention_heads", base->heads, &c->heads));
    BIF_TRY(bif_hf_number(where, o, "intermediate_size", base->inner, &c->inner));
    BIF_TRY(bif_hf_number(where, o, "patch_size", base->patch, &c->patch));
    BIF_TRY(bif_hf_number(where, o, "image_size", base->image, &c->image));
    BIF_TRY(bif_hf_real(where, o, "layer_norm_eps", c->family == BIF_TOWER_SIGLIP ? 1e-6 : 1e-5, &c->eps));
    BIF_TRY(activation(where, o, c->family == BIF_TOWER_SIGLIP ? "gelu_pytorch_tanh" : "quick_gelu", &c->act));
    BIF_TRY(bif_hf_number(where, o, "num_channels", 3, &channels));
    if (channels != 3) {
        st = bif_hf_refuse(where, "num_channels", "not 3", "images of 3 channels are");
    }
done:
    return st;
}

static bif_status read_text(const char *where, const json_t *o, bif_text_config *c)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_hf_number(where, o, "hidden_size", 512, &c->hidden));
    BIF_TRY(bif_hf_number(where, o, "num_hidden_layers", 12, &c->layers));
    BIF_TRY(bif_hf_number(where, o, "num_attention_heads", 8, &c->heads));
    BIF_TRY(bif_hf_number(where, o, "intermediate_size", 2048, &c->inner));
    BIF_TRY(bif_hf_number(where, o, "vocab_size", 49408, &c->vocab));
    BIF_TRY(bif_hf_number(where, o, "max_position_embeddings", 77, &c->positions));
    BIF_TRY(bif_hf_real(where, o, "layer_norm_eps", 1e-5, &c->eps));
    BIF_TRY(activation(where, o, "quick_gelu", &c->act));
    BIF_TRY(bif_hf_token(where, o, "bos_token_id", 49406, &c->bos));
    BIF_TRY(bif_hf_token(where, o, "eos_token_id", 49407, &c->eos));
    /* OpenAI's published configs say eos 2 (and bos 0), which is wrong for their tokenizer; transformers takes 2 to mean "the largest id in the
     * text", which for that tokenizer is its last entry, the end of text; the entry before is the start. */
    if (c->eos == 2 && c->vocab >= 4) {
        c->eos = (int32_t)(c->vocab - 1 < INT32_MAX ? c->vocab - 1 : INT32_MAX);
        c->bos = c->eos - 1;
    }
done:
    return st;
}

/* SiglipTextConfig's ids are by default those of another tokenizer (49406, 49407), so only others are believed. */
static bif_status read_siglip_text(const char *where, const json_t *o, bif_text_config *c, int64_t *projection)
{
    bif_status st = BIF_OK;
    int32_t eos = -1;
    BIF_TRY(bif_hf_number(where, o, "hidden_size", 768, &c->hidden));
    BIF_TRY(bif_hf_number(where, o, "num_hidden_layers", 12, &c->layers));
    BIF_TRY(bif_hf_number(where, o, "num_attention_heads", 12, &c->heads));
    BIF_TRY(bif_hf_number(where, o, "intermediate_size", 3072, &c->inner));
    BIF_TRY(bif_hf_number(where, o, "vocab_size", 32000, &c->vocab));
    BIF_TRY(bif_hf_number(where, o, "max_position_embeddings", 64, &c->positions));
    BIF_TRY(bif_hf_real(where, o, "layer_norm_eps", 1e-6, &c->eps));
    BIF_TRY(activation(where, o, "gelu_pytorch_tanh", &c->act));
    BIF_TRY(bif_hf_token(where, o, "eos_token_id", -1, &eos));
    BIF_TRY(bif_hf_token(where, o, "pad_token_id", 1, &c->pad));
    BIF_TRY(bif_hf_number(where, o, "projection_size", c->hidden, projection));
    c->bos = -1;
    c->eos = eos == 49407 ? -1 : eos;
    c->family = BIF_TOWER_SIGLIP;
done:
    return st;
}

bif_status bif_hf_read_siglip(const char *where, const json_t *root, bif_model_config *out)
{
    bif_status st = BIF_OK;
    json_t *empty = json_object();
    const json_t *text = json_object_get(root, "text_config");
    out->kind = BIF_MODEL_CLIP;
    BIF_TRY(bif_hf_read_vit(where, json_object_get(root, "vision_config"), &bif_hf_vit_siglip, &out->vit));
    BIF_TRY(read_siglip_text(where, text == NULL || json_is_null(text) ? empty : text, &out->text, &out->projection));
    out->logit_bias = true;
    out->logit_scale_init = 2.302585f; /* ln 10 and -10, where the weights are drawn */
    out->logit_bias_init = -10.0f;
done:
    json_decref(empty);
    return st;
}

bif_status bif_hf_read_clip(const char *where, const json_t *root, bif_model_config *out)
{
    bif_status st = BIF_OK;
    json_t *empty = json_object();
    /* Files of 2022 carry *_config_dict beside *_config; the former wins in transformers. */
    const json_t *vision = json_object_get(root, bif_hf_is_null(root, "vision_config_dict") ? "vision_config" : "vision_config_dict");
    const json_t *text = json_object_get(root, bif_hf_is_null(root, "text_config_dict") ? "text_config" : "text_config_dict");
    out->kind = BIF_MODEL_CLIP;
    BIF_TRY(bif_hf_read_vit(where, vision, &bif_hf_vit_b32, &out->vit));
    BIF_TRY(read_text(where, text == NULL || json_is_null(text) ? empty : text, &out->text));
    BIF_TRY(bif_hf_number(where, root, "projection_dim", 512, &out->projection));
    BIF_TRY(bif_hf_real(where, root, "logit_scale_init_value", 2.6592, &out->logit_scale_init));
    BIF_TRY(bif_json_bool(where, root, "bifocal_logit_bias", false, &out->logit_bias));
done:
    json_decref(empty);
    return st;
}
