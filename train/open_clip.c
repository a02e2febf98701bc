#include "train/open_clip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* ---- names ---- */

static const char *const wholes[][2] = {
    {"visual.class_embedding", "vision_model.embeddings.class_embedding"},
    {"visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"},
    {"visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"},
    {"visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"},
    {"visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"},
    {"visual.ln_post.weight", "vision_model.post_layernorm.weight"},
    {"visual.ln_post.bias", "vision_model.post_layernorm.bias"},
    {"token_embedding.weight", "text_model.embeddings.token_embedding.weight"},
    {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
    {"ln_final.weight", "text_model.final_layer_norm.weight"},
    {"ln_final.bias", "text_model.final_layer_norm.bias"},
    {"visual.proj", "visual_projection.weight"},    /* transposed */
    {"text_projection", "text_projection.weight"}, /* transposed */
};
static const char *const blocks[][2] = {{"visual.transformer.resblocks.", "vision_model.encoder.layers."},
                                        {"transformer.resblocks.", "text_model.encoder.layers."}};
static const char *const parts[][2] = {{"ln_1.", "layer_norm1."}, {"ln_2.", "layer_norm2."}, {"attn.out_proj.", "self_attn.out_proj."},
                                       {"mlp.c_fc.", "mlp.fc1."}, {"mlp.c_proj.", "mlp.fc2."}, {"attn.in_proj_", NULL /* split */}};
enum {
    WHOLES = sizeof wholes / sizeof *wholes,
    TRANSPOSED = WHOLES - 2, /* from here on */
    BLOCKS = sizeof blocks / sizeof *blocks,
    PARTS = sizeof parts / sizeof *parts,
};

static const char *after(const char *name, const char *prefix)
{
    const size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 ? name + n : NULL;
}

static void transpose(bif_safetensors *set, bif_st_entry *entry)
{
    const size_t size = bif_dtype_size(entry->dtype), rows = (size_t)entry->dim[0], columns = (size_t)entry->dim[1];
    const char *from = entry->data;
    char *to = bif_malloc(entry->bytes + 1);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            memcpy(to + (c * rows + r) * size, from + (r * columns + c) * size, size);
        }
    }
    set->owned = bif_realloc(set->owned, set->owned_count + 1, sizeof(*set->owned));
    set->owned[set->owned_count++] = to;
    entry->data = to;
    entry->dim[0] = (int64_t)columns;
    entry->dim[1] = (int64_t)rows;
}

static void rename_entry(bif_st_entry *entry, char *name)
{
    free(entry->name);
    entry->name = name;
}

/* in_proj_weight [3C, C] or in_proj_bias [3C] of the layer that stands in so many digits: q stays in the entry, k and v go behind all. */
static bif_status split(bif_safetensors *set, size_t index, const char *block, int digits, const char *layer, const char *rest)
{
    static const char letters[] = "qkv";
    const bif_st_entry whole = set->entries[index];
    if (whole.rank < 1 || whole.dim[0] % 3 != 0) {
        return bif_fail(BIF_ERR_DATA, "%s: tensor %s does not split into q, k and v", bif_safetensors_path(set, &whole), whole.name);
    }
    for (size_t i = 0; i < 3; i++) {
        bif_st_entry *entry = &set->entries[i == 0 ? index : set->count++];
        *entry = whole;
        entry->dim[0] = whole.dim[0] / 3;
        entry->bytes = whole.bytes / 3;
        entry->data = (const char *)whole.data + i * entry->bytes;
        entry->name = bif_format("%s%.*s.self_attn.%c_proj.%s", block, digits, layer, letters[i], rest);
    }
    free(whole.name);
    return BIF_OK;
}

/* layer: "3.ln_1.weight" */
static bif_status rename_in_block(bif_safetensors *set, size_t index, const char *block, const char *layer)
{
    const size_t digits = strspn(layer, "0123456789");
    const char *tail = layer + digits + 1;
    if (digits == 0 || layer[digits] != '.') {
        return BIF_OK;
    }
    for (size_t i = 0; i < PARTS; i++) {
        const char *rest = after(tail, parts[i][0]);
        if (rest != NULL && parts[i][1] == NULL) {
            return split(set, index, block, (int)digits, layer, rest);
        }
        if (rest != NULL) {
            rename_entry(&set->entries[index], bif_format("%s%.*s.%s%s", block, (int)digits, layer, parts[i][1], rest));
            return BIF_OK;
        }
    }
    return BIF_OK;
}

bif_status bif_open_clip_names(bif_safetensors *set)
{
    bif_status st = BIF_OK;
    if (bif_safetensors_find(set, "visual.conv1.weight") == NULL ||
        bif_safetensors_find(set, "visual.transformer.resblocks.0.attn.in_proj_weight") == NULL) {
        return BIF_OK;
    }
    const size_t count = set->count;
    set->entries = bif_realloc(set->entries, 3 * count + 1, sizeof(*set->entries));
    for (size_t i = 0; i < count; i++) {
        bool done = false;
        for (size_t k = 0; k < WHOLES && !done; k++) {
            bif_st_entry *entry = &set->entries[i];
            done = strcmp(entry->name, wholes[k][0]) == 0;
            if (done && k >= TRANSPOSED && entry->rank == 2) {
                transpose(set, entry);
            }
            if (done) {
                rename_entry(entry, bif_strdup(wholes[k][1]));
            }
        }
        for (size_t k = 0; k < BLOCKS && !done; k++) {
            const char *layer = after(set->entries[i].name, blocks[k][0]);
            done = layer != NULL;
            BIF_TRY(done ? rename_in_block(set, i, blocks[k][1], layer) : BIF_OK);
        }
    }
done:
    return st;
}

/* ---- open_clip_config.json ---- */

static bif_status refuse(const char *where, const char *key)
{
    return bif_fail(BIF_ERR_CONFIG, "%s: '%s' is set to what is not implemented; CLIP's own ViT and text tower are", where, key);
}

/* Every key but the known ones must say nothing: null, false or 0. */
static bif_status only_known(const char *where, const json_t *o, const char *const *known)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)o, key, value)
    {
        bool fine = json_is_null(value) || json_is_false(value) || (json_is_number(value) && json_number_value(value) == 0.0);
        for (size_t i = 0; known[i] != NULL && !fine; i++) {
            fine = strcmp(known[i], key) == 0;
        }
        if (!fine) {
            return refuse(where, key);
        }
    }
    return BIF_OK;
}

static bif_status number(const char *where, const json_t *o, const char *key, int64_t fallback, int64_t *out)
{
    *out = fallback;
    return bif_json_i64(where, o, key, false, out);
}

/* The MLP is mlp_ratio times as wide. */
static bif_status inner(const char *where, const json_t *o, int64_t width, int64_t *out)
{
    double ratio = 4.0;
    const bif_status st = bif_json_f64(where, o, "mlp_ratio", false, &ratio);
    const double wide = (double)width * ratio;
    *out = wide >= 1.0 && wide < 1e9 ? (int64_t)wide : 0; /* refused by bif_model_check */
    return st;
}

static bif_status read_vision(const char *where, const json_t *o, bif_vit_config *c)
{
    static const char *const known[] = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout", NULL};
    bif_status st = BIF_OK;
    int64_t head = 64;
    BIF_TRY(only_known(where, o, known));
    BIF_TRY(number(where, o, "width", 768, &c->hidden));
    BIF_TRY(number(where, o, "layers", 12, &c->layers));
    BIF_TRY(number(where, o, "patch_size", 16, &c->patch));
    BIF_TRY(number(where, o, "image_size", 224, &c->image));
    BIF_TRY(number(where, o, "head_width", 64, &head));
    BIF_TRY(inner(where, o, c->hidden, &c->inner));
    c->heads = head > 0 ? c->hidden / head : 0;
    c->eps = 1e-5f;
done:
    return st;
}

static bif_status read_text(const char *where, const json_t *o, bif_text_config *c)
{
    static const char *const known[] = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", NULL};
    bif_status st = BIF_OK;
    BIF_TRY(only_known(where, o, known));
    BIF_TRY(number(where, o, "width", 512, &c->hidden));
    BIF_TRY(number(where, o, "layers", 12, &c->layers));
    BIF_TRY(number(where, o, "heads", 8, &c->heads));
    BIF_TRY(number(where, o, "vocab_size", 49408, &c->vocab));
    BIF_TRY(number(where, o, "context_length", 77, &c->positions));
    BIF_TRY(inner(where, o, c->hidden, &c->inner));
    c->eps = 1e-5f;
    /* The row of the largest id is pooled, which is the end of text, the last of CLIP's vocabulary; the start is before it. */
    c->eos = (int32_t)(c->vocab > 1 && c->vocab <= INT32_MAX ? c->vocab - 1 : 1);
    c->bos = c->eos - 1;
done:
    return st;
}

/* bifocal prepares pictures with OpenAI's mean and deviation, bicubic. */
static bif_status read_preprocess(const char *where, const json_t *o, bif_model_config *out)
{
    static const struct {
        const char *key;
        double values[3];
    } wanted[] = {{"mean", {0.48145466, 0.4578275, 0.40821073}}, {"std", {0.26862954, 0.26130258, 0.27577711}}};
    bif_status st = BIF_OK;
    const char *mode = "shortest", *interpolation = "bicubic";
    snprintf(out->image_fit, sizeof out->image_fit, "crop");
    if (o == NULL) {
        return BIF_OK;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *list = json_object_get(o, wanted[i].key);
        for (size_t k = 0; list != NULL && k < 3; k++) {
            if (!(fabs(json_number_value(json_array_get(list, k)) - wanted[i].values[k]) < 1e-6)) {
                return refuse(where, wanted[i].key);
            }
        }
    }
    BIF_TRY(bif_json_string(where, o, "resize_mode", false, &mode));
    BIF_TRY(bif_json_string(where, o, "interpolation", false, &interpolation));
    if (strcmp(interpolation, "bicubic") != 0) {
        return refuse(where, "interpolation");
    }
    if (strcmp(mode, "shortest") != 0 && strcmp(mode, "squash") != 0) {
        return refuse(where, "resize_mode");
    }
    if (strcmp(mode, "squash") == 0) {
        snprintf(out->image_fit, sizeof out->image_fit, "squash");
    }
done:
    return st;
}

bif_status bif_open_clip_config(const char *where, const json_t *root, bif_model_config *out)
{
    static const char *const known[] = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "init_logit_bias", NULL};
    const json_t *model = json_object_get(root, "model_cfg"), *vision = json_object_get(model, "vision_cfg"),
                 *text = json_object_get(model, "text_cfg");
    bif_status st = BIF_OK;
    bool quick = false;
    double scale = 2.6592, bias = 0.0;
    if (!json_is_object(vision) || !json_is_object(text)) {
        return bif_fail(BIF_ERR_CONFIG, "%s: 'model_cfg' needs 'vision_cfg' and 'text_cfg'", where);
    }
    out->kind = BIF_MODEL_CLIP;
    BIF_TRY(only_known(where, model, known));
    BIF_TRY(bif_json_i64(where, model, "embed_dim", true, &out->projection));
    BIF_TRY(bif_json_bool(where, model, "quick_gelu", false, &quick));
    BIF_TRY(bif_json_f64(where, model, "init_logit_scale", false, &scale));
    BIF_TRY(bif_json_f64(where, model, "init_logit_bias", false, &bias));
    BIF_TRY(read_vision(where, vision, &out->vit));
    BIF_TRY(read_text(where, text, &out->text));
    BIF_TRY(read_preprocess(where, json_object_get(root, "preprocess_cfg"), out));
    out->vit.act = out->text.act = quick ? BIF_ACT_QUICK_GELU : BIF_ACT_GELU;
    out->logit_scale_init = (float)scale;
    out->logit_bias_init = (float)bias;
    out->logit_bias = json_is_number(json_object_get(model, "init_logit_bias"));
done:
    return st;
}
