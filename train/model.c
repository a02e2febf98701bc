#include "train/model.h"

#define MAX_PROJECTOR_DEPTH 8

int64_t bif_feature_blocks(const bif_model_config *config)
{
    const int64_t k = config->feature_layer;
    return k >= 0 ? k : config->vit.layers + 1 + k; /* layers + 1 hidden states, as torch indexes them */
}

int64_t bif_vit_patches(const bif_vit_config *config)
{
    return (config->image / config->patch) * (config->image / config->patch);
}

int64_t bif_vit_rows(const bif_vit_config *config)
{
    return bif_vit_patches(config) + (config->family == BIF_TOWER_CLIP ? 1 : 0);
}

int64_t bif_tokens_per_image(const bif_model_config *config)
{
    return bif_vit_patches(&config->vit) + (config->cls_patch ? 1 : 0);
}

/* A number within [low, high], so that products of two of them cannot overflow. */
static bif_status within(const char *where, const char *name, int64_t value, int64_t low, int64_t high)
{
    return value >= low && value <= high
               ? BIF_OK
               : bif_fail(BIF_ERR_CONFIG, "%s: %s is %lld; from %lld to %lld is possible", where, name, (long long)value, (long long)low,
                          (long long)high);
}

/* A matrix of the table: draws count elements in 32 bits (train/params.h). */
static bif_status fits(const char *where, const char *name, int64_t rows, int64_t columns)
{
    return rows <= (int64_t)UINT32_MAX / columns
               ? BIF_OK
               : bif_fail(BIF_ERR_CONFIG, "%s: %s [%lld, %lld] has more than 2^32 - 1 elements", where, name, (long long)rows,
                          (long long)columns);
}

static bif_status positive(const char *where, const char *name, double value)
{
    return value > 0 && value < 1e30 ? BIF_OK : bif_fail(BIF_ERR_CONFIG, "%s: %s is %g; a positive number is wanted", where, name, value);
}

static bif_status divides(const char *where, const char *small, int64_t divisor, const char *large, int64_t value)
{
    return value % divisor == 0
               ? BIF_OK
               : bif_fail(BIF_ERR_CONFIG, "%s: %s (%lld) must divide %s (%lld)", where, small, (long long)divisor, large, (long long)value);
}

static bif_status check_tower(const char *where, int64_t hidden, int64_t layers, int64_t heads, int64_t inner, float eps)
{
    bif_status st = BIF_OK;
    BIF_TRY(within(where, "hidden size", hidden, 1, 1 << 20));
    BIF_TRY(within(where, "number of layers", layers, 1, 1 << 12));
    BIF_TRY(within(where, "number of heads", heads, 1, 1 << 16));
    BIF_TRY(within(where, "MLP width", inner, 1, 1 << 22));
    BIF_TRY(divides(where, "the number of heads", heads, "the hidden size", hidden));
    BIF_TRY(fits(where, "an MLP matrix", inner, hidden));
    BIF_TRY(fits(where, "an attention matrix", 3 * hidden, hidden));
    BIF_TRY(positive(where, "layer norm eps", eps));
done:
    return st;
}

static bif_status check_vit(const char *where, const bif_vit_config *c)
{
    bif_status st = BIF_OK;
    BIF_TRY(check_tower(where, c->hidden, c->layers, c->heads, c->inner, c->eps));
    BIF_TRY(within(where, "image size", c->image, 1, 1 << 14));
    BIF_TRY(within(where, "patch size", c->patch, 1, 1 << 10));
    if (c->family == BIF_TOWER_SIGLIP) { /* 384 = 27 * 14 + 6 */
        BIF_TRY(within(where, "patch size", c->patch, 1, c->image));
    } else {
        BIF_TRY(divides(where, "the patch size", c->patch, "the image size", c->image));
    }
    BIF_TRY(fits(where, "the patch embedding", c->hidden, 3 * c->patch * c->patch));
    BIF_TRY(fits(where, "the position embedding", bif_vit_rows(c), c->hidden));
done:
    return st == BIF_OK ? st : bif_fail_context(st, "vision tower");
}

static bif_status check_text(const char *where, const bif_text_config *c)
{
    bif_status st = BIF_OK;
    if (c->hidden == 0) {
        return bif_fail(BIF_ERR_CONFIG, "%s: a vision tower alone has no text tower; it can only be the encoder of a LLaVA model", where);
    }
    BIF_TRY(check_tower(where, c->hidden, c->layers, c->heads, c->inner, c->eps));
    BIF_TRY(within(where, "vocabulary", c->vocab, 1, 1 << 24));
    BIF_TRY(within(where, "number of positions", c->positions, 1, 1 << 20));
    BIF_TRY(fits(where, "the token embedding", c->vocab, c->hidden));
    BIF_TRY(fits(where, "the position embedding", c->positions, c->hidden));
    BIF_TRY(within(where, "eos token", c->eos, c->family == BIF_TOWER_SIGLIP ? -1 : 0, c->vocab - 1));
    BIF_TRY(within(where, "bos token", c->bos, -1, c->vocab - 1));
    BIF_TRY(within(where, "pad token", c->pad, 0, c->vocab - 1));
done:
    return st == BIF_OK ? st : bif_fail_context(st, "text tower");
}

static bif_status check_rope(const char *where, const bif_rope_scaling *rope)
{
    bif_status st = BIF_OK;
    if (rope->kind == BIF_ROPE_PLAIN) {
        return BIF_OK;
    }
    if (!(rope->factor >= 1.0f && rope->factor < 1e30f)) {
        return bif_fail(BIF_ERR_CONFIG, "%s: rope_scaling's factor is %g; a number from 1 on is wanted", where, (double)rope->factor);
    }
    if (rope->kind == BIF_ROPE_LLAMA3) {
        BIF_TRY(positive(where, "rope_scaling's low_freq_factor", (double)rope->low));
        BIF_TRY(positive(where, "rope_scaling's high_freq_factor", (double)rope->high));
        BIF_TRY(within(where, "rope_scaling's original_max_position_embeddings", rope->original, 1, (int64_t)1 << 30));
        if (rope->high <= rope->low) {
            st = bif_fail(BIF_ERR_CONFIG, "%s: rope_scaling's high_freq_factor (%g) must be greater than its low_freq_factor (%g)", where,
                          (double)rope->high, (double)rope->low);
        }
    }
done:
    return st;
}

static bif_status check_decoder(const char *where, const bif_decoder_config *c)
{
    bif_status st = BIF_OK;
    BIF_TRY(within(where, "hidden size", c->hidden, 1, 1 << 20));
    BIF_TRY(within(where, "number of layers", c->layers, 1, 1 << 12));
    BIF_TRY(within(where, "number of heads", c->heads, 1, 1 << 16));
    BIF_TRY(within(where, "number of key-value heads", c->kv_heads, 1, c->heads));
    BIF_TRY(within(where, "head width", c->head_dim, 2, 1 << 12));
    BIF_TRY(within(where, "MLP width", c->inner, 1, 1 << 22));
    BIF_TRY(within(where, "vocabulary", c->vocab, 1, 1 << 24));
    BIF_TRY(within(where, "number of positions", c->positions, 1, (int64_t)1 << 30));
    if (c->classes != 0) {
        BIF_TRY(within(where, "number of classes", c->classes, c->vocab > BIF_MAX_SPARE ? c->vocab - BIF_MAX_SPARE : 1, c->vocab));
        BIF_TRY(within(where, "eos token", c->eos, -1, c->classes - 1));
    }
    BIF_TRY(divides(where, "2", 2, "the head width", c->head_dim));
    if (!c->qk_norm) { /* transformers refuses such a Llama, Mistral or Qwen2, even with head_dim given */
        BIF_TRY(divides(where, "the number of heads", c->heads, "the hidden size", c->hidden));
    }
    BIF_TRY(divides(where, "the number of key-value heads", c->kv_heads, "the number of heads", c->heads));
    BIF_TRY(fits(where, "the embedding", c->vocab, c->hidden));
    BIF_TRY(fits(where, "an MLP matrix", 2 * c->inner, c->hidden));
    BIF_TRY(fits(where, "the attention matrix", (c->heads + 2 * c->kv_heads) * c->head_dim, c->hidden));
    BIF_TRY(positive(where, "RMS norm eps", c->eps));
    BIF_TRY(positive(where, "rope theta", c->rope_theta));
    BIF_TRY(check_rope(where, &c->rope));
    BIF_TRY(within(where, "bos token", c->bos, -1, c->vocab - 1));
    BIF_TRY(within(where, "eos token", c->eos, -1, c->vocab - 1));
    if (c->lora.rank != 0) {
        BIF_TRY(within(where, "LoRA rank", c->lora.rank, 1, 1 << 16));
        BIF_TRY(within(where, "LoRA targets (a mask)", (int64_t)c->lora.targets, 1, (1 << BIF_LORA_TARGETS) - 1));
        BIF_TRY(positive(where, "LoRA alpha", c->lora.alpha));
        BIF_TRY(fits(where, "a matrix of LoRA", c->lora.rank, c->inner > c->hidden ? c->inner : c->hidden));
        BIF_TRY(fits(where, "a matrix of LoRA", c->lora.rank, c->heads * c->head_dim));
        if (!(c->lora.dropout >= 0.0f && c->lora.dropout < 1.0f)) {
            BIF_TRY(bif_fail(BIF_ERR_CONFIG, "%s: LoRA dropout is %g; it must be in [0, 1)", where, (double)c->lora.dropout));
        }
    }
    if (c->mlp_bias) {
        st = bif_fail(BIF_ERR_CONFIG, "%s: an MLP with biases (mlp_bias) is not implemented", where);
        goto done;
    }
    /* Qwen3 has biases on all four attention matrices or on none, and no family has one on the output alone. */
    if ((c->qk_norm && c->qkv_bias != c->o_bias) || (c->o_bias && !c->qkv_bias)) {
        st = bif_fail(BIF_ERR_CONFIG,
                      "%s: qkv bias %s, output bias %s, qk norm %s: no Hugging Face family has this combination, so the checkpoint "
                      "could not be opened elsewhere; with qk norm use biases on all of q, k, v, o or on none",
                      where, c->qkv_bias ? "on" : "off", c->o_bias ? "on" : "off", c->qk_norm ? "on" : "off");
        goto done;
    }
done:
    return st == BIF_OK ? st : bif_fail_context(st, "decoder");
}

static bif_status check_llava(const bif_model_config *c, const char *where)
{
    bif_status st = BIF_OK;
    const bif_projector_config *p = &c->projector;
    BIF_TRY(check_vit(where, &c->vit));
    BIF_TRY(check_decoder(where, &c->decoder));
    BIF_TRY(within(where, "projector depth", p->depth, 1, p->kind == BIF_PROJECTOR_LINEAR ? 1 : MAX_PROJECTOR_DEPTH));
    BIF_TRY(within(where, "projector input width", p->in, c->vit.hidden, c->vit.hidden));
    BIF_TRY(within(where, "projector output width", p->out, c->decoder.hidden, c->decoder.hidden));
    BIF_TRY(fits(where, "a projector matrix", p->out, p->in > p->out ? p->in : p->out));
    BIF_TRY(within(where, "feature layer", c->feature_layer, -c->vit.layers - 1, c->vit.layers));
    if (c->cls_patch && c->vit.family == BIF_TOWER_SIGLIP) {
        st = bif_fail(BIF_ERR_CONFIG, "%s: the class token is wanted among the features, but a SigLIP tower has none", where);
        goto done;
    }
    BIF_TRY(within(where, "image token", c->image_token, -1, INT32_MAX));
    BIF_TRY(within(where, "pad token", c->pad_token, -1, INT32_MAX));
done:
    return st;
}

static bif_status check_siglip(const bif_model_config *c, const char *where)
{
    const char *wrong = c->text.family != BIF_TOWER_SIGLIP ? "the text tower is CLIP's"
                        : !c->vit.head                     ? "the vision tower has no pooling head (vision_use_head is false)"
                        : !c->logit_bias                   ? "there is no logit_bias; set clip.loss: sigmoid"
                                                           : NULL;
    if (wrong != NULL) {
        return bif_fail(BIF_ERR_CONFIG, "%s: a pair with SigLIP's vision tower, but %s", where, wrong);
    }
    return within(where, "width of the joint space (the text tower's projection_size)", c->projection, c->vit.hidden, c->vit.hidden);
}

bif_status bif_model_check(const bif_model_config *config, const char *where)
{
    bif_status st = BIF_OK;
    switch (config->kind) {
    case BIF_MODEL_DECODER:
        return check_decoder(where, &config->decoder);
    case BIF_MODEL_CLIP:
        BIF_TRY(check_vit(where, &config->vit));
        BIF_TRY(check_text(where, &config->text));
        if (config->vit.family == BIF_TOWER_SIGLIP) {
            BIF_TRY(check_siglip(config, where));
        }
        BIF_TRY(within(where, "projection width", config->projection, 1, 1 << 20));
        BIF_TRY(fits(where, "the image projection", config->projection, config->vit.hidden));
        BIF_TRY(fits(where, "the text projection", config->projection, config->text.hidden));
        break;
    case BIF_MODEL_LLAVA:
        return check_llava(config, where);
    }
done:
    return st;
}
