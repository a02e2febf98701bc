#include <stdlib.h>
#include <string.h>

#include "train/networks.h"
#include "train/rows.h"

#define ENCODER_PREFIX "vision_tower.vision_model."
#define BLOCK_PREFIX ENCODER_PREFIX "encoder.layers."
#define PROJECTOR_PREFIX "multi_modal_projector."

/* The layout transformers reads and writes for LLaVA, and the decoder's own when it stands alone. */
static const char *decoder_prefix(const bif_model_config *config)
{
    return config->kind == BIF_MODEL_LLAVA ? "language_model.model." : "model.";
}

static const char *head_name(const bif_model_config *config)
{
    return config->kind == BIF_MODEL_LLAVA ? "language_model.lm_head.weight" : "lm_head.weight";
}

void bif_vlm_declare(bif_vlm *vlm, const bif_model_config *config)
{
    BIF_BUG_IF(config->kind != BIF_MODEL_LLAVA && config->kind != BIF_MODEL_DECODER, "model kind %d",
               (int)config->kind);
    *vlm = (bif_vlm){.config = *config};
    const bool llava = config->kind == BIF_MODEL_LLAVA;
    if (llava) {
        bif_vit_declare(&vlm->params, &config->vit, ENCODER_PREFIX);
        bif_projector_declare(&vlm->params, &config->projector, PROJECTOR_PREFIX);
    }
    bif_decoder_declare(&vlm->params, &config->decoder, decoder_prefix(config), head_name(config));
    if (llava) {
        bif_vit_bind(&vlm->vit, &vlm->params, &config->vit, ENCODER_PREFIX, bif_feature_blocks(config), false);
        bif_projector_bind(&vlm->projector, &vlm->params, &config->projector, PROJECTOR_PREFIX);
    }
    bif_decoder_bind(&vlm->decoder, &vlm->params, &config->decoder, decoder_prefix(config), head_name(config));
}

bool bif_vlm_uses(const bif_vlm *vlm, const bif_param *param)
{
    const size_t n = strlen(BLOCK_PREFIX);
    if (strncmp(param->name, BLOCK_PREFIX, n) == 0) {
        return strtoll(param->name + n, NULL, 10) < bif_feature_blocks(&vlm->config);
    }
    return param != vlm->vit.post_w && param != vlm->vit.post_b;
}

bif_status bif_vlm_allocate(bif_vlm *vlm, bif_device *device, int world)
{
    return bif_params_allocate(&vlm->params, device, world);
}

void bif_vlm_free(bif_vlm *vlm)
{
    if (vlm->config.kind == BIF_MODEL_LLAVA) {
        bif_vit_unbind(&vlm->vit);
    }
    bif_decoder_unbind(&vlm->decoder);
    bif_params_free(&vlm->params);
    free(vlm->host);
    *vlm = (bif_vlm){0};
}

/* Everything a pass over one batch takes from the arena, in the order of its use. */
typedef struct {
    bif_tensor ids, pos, image_row, rows, targets; /* i32 where the device reads them; views of the host on the CPU */
    bif_tensor pixels, patch_rows;              /* patch_rows i32 [features]: the encoder's row of each feature row */
    bif_tensor features, dfeatures, dprojected; /* [I*tpi, Cv], the same, [I*tpi, C] */
    bool images, encoder, below;                /* there are pictures; the encoder trains; encoder or projector train */
    bif_vit_acts vit;
    bif_projector_acts projector;
    bif_decoder_acts decoder;
    bif_head_acts head;
} vlm_acts;

typedef struct {
    int64_t tokens, images, rows; /* rows -1: all hidden states, no loss */
    bool backward, decoder;       /* decoder = false: only what the input embeddings need */
} vlm_extent;

static vlm_acts vlm_plan(const bif_vlm *vlm, const bif_device *device, bif_arena *arena, const vlm_extent *extent)
{
    const bif_model_config *config = &vlm->config;
    const int64_t rows = extent->rows < 0 ? 0 : extent->rows;
    vlm_acts a = {.images = config->kind == BIF_MODEL_LLAVA && extent->images > 0};
    a.ids = bif_place(arena, device, BIF_DTYPE_I32, extent->tokens);
    a.pos = bif_place(arena, device, BIF_DTYPE_I32, extent->tokens);
    a.rows = bif_place(arena, device, BIF_DTYPE_I32, rows);
    a.targets = bif_place(arena, device, BIF_DTYPE_I32, rows);
    if (a.images) {
        const int64_t features = extent->images * bif_tokens_per_image(config);
        const int64_t side = config->vit.image;
        a.encoder = extent->backward && bif_vit_trains(&vlm->vit);
        a.below = extent->backward && (a.encoder || bif_projector_trains(&vlm->projector));
        a.image_row = bif_place(arena, device, BIF_DTYPE_I32, extent->tokens);
        a.patch_rows = bif_place(arena, device, BIF_DTYPE_I32, features);
        a.features = bif_take2(arena, BIF_DTYPE_F32, features, config->vit.hidden);
        a.dfeatures = bif_take2(arena, BIF_DTYPE_F32, a.encoder ? features : 0, config->vit.hidden);
        a.dprojected = bif_take2(arena, BIF_DTYPE_F32, a.below ? features : 0, config->decoder.hidden);
        const size_t mark = bif_arena_mark(arena);
        a.pixels = bif_place(arena, device, BIF_DTYPE_U8, extent->images * side * side * 3);
        a.vit = bif_vit_plan(&vlm->vit, arena, extent->images, a.encoder);
        if (!a.encoder) { /* a frozen encoder is done before anything below is written */
            bif_arena_release(arena, mark);
        }
        a.projector = bif_projector_plan(&vlm->projector, arena, features, a.below);
    }
    if (extent->decoder) {
        a.decoder = bif_decoder_plan(&vlm->decoder, arena, extent->tokens, extent->rows, extent->backward);
    }
    if (extent->rows >= 0) {
        a.head = bif_decoder_head_plan(&vlm->decoder, device, arena, extent->rows);
    }
    return a;
}

size_t bif_vlm_measure(const bif_vlm *vlm, bif_device *device, const bif_batch_limits *limits, bool backward)
{
    bif_arena arena = bif_arena_measure("activations");
    vlm_plan(vlm, device, &arena,
             &(vlm_extent){.tokens = limits->tokens,
                           .images = limits->images,
                           .rows = limits->tokens,
                           .backward = backward,
                           .decoder = true});
    return arena.peak;
}

/* Index tensors of the batch. Text ids are masked to -1 where a picture's row goes, so that the image token's embedding
 * is neither read nor given a gradient. */
static void bring_batch(bif_vlm *vlm, bif_device *device, vlm_acts *a, const bif_batch *batch)
{
    const bif_model_config *config = &vlm->config;
    const int64_t per_image = a->images ? bif_tokens_per_image(config) : 0, features = batch->images * per_image;
    if (batch->tokens + features > vlm->host_size) {
        vlm->host_size = batch->tokens + features;
        vlm->host = bif_realloc(vlm->host, (size_t)vlm->host_size, sizeof *vlm->host);
    }
    int32_t *ids = vlm->host, *patch_rows = vlm->host + batch->tokens;
    for (int64_t t = 0; t < batch->tokens; t++) {
        ids[t] = a->images && batch->image_row[t] >= 0 ? -1 : batch->ids[t];
    }
    a->ids = bif_bring(device, &a->ids, BIF_DTYPE_I32, ids, batch->tokens);
    a->pos = bif_bring(device, &a->pos, BIF_DTYPE_I32, batch->pos, batch->tokens);
    if (a->images) {
        const int64_t side = config->vit.image, skip = config->cls_patch ? 0 : 1;
        for (int64_t i = 0; i < features; i++) {
            patch_rows[i] = (int32_t)(i / per_image * (per_image + skip) + skip + i % per_image);
        }
        a->image_row = bif_bring(device, &a->image_row, BIF_DTYPE_I32, batch->image_row, batch->tokens);
        a->patch_rows = bif_bring(device, &a->patch_rows, BIF_DTYPE_I32, patch_rows, features);
        a->pixels = bif_bring(device, &a->pixels, BIF_DTYPE_U8, batch->pixels, batch->images * side * side * 3);
        a->pixels = bif_tensor4(a->pixels.data, BIF_DTYPE_U8, batch->images, side, side, 3);
    }
}

/* Embedding and splice. */
static void embed(bif_vlm *vlm, bif_device *device, vlm_acts *a, bif_tensor *input)
{
    bif_tensor hidden, projected;
    if (a->images) {
        bif_vit_forward(&vlm->vit, device, &a->vit, &a->pixels, &hidden, NULL);
        bif_gather_rows(device, &(bif_gather_rows_args){.src = &hidden, .index = &a->patch_rows, .dst = &a->features});
        bif_projector_forward(&vlm->projector, device, &a->projector, &a->features, &projected);
    }
    bif_embedding(device, &(bif_embedding_args){.table = &vlm->decoder.embed->value, .ids = &a->ids, .y = input});
    if (a->images) {
        bif_gather_rows(device, &(bif_gather_rows_args){.src = &projected, .index = &a->image_row, .dst = input});
    }
}

static void embed_backward(bif_vlm *vlm, bif_device *device, vlm_acts *a, const bif_tensor *dinput)
{
    if (vlm->decoder.embed->grad.data != NULL) {
        bif_embedding_backward(
            device, &(bif_embedding_backward_args){.ids = &a->ids, .dy = dinput, .dtable = &vlm->decoder.embed->grad});
    }
    if (!a->below) {
        return;
    }
    /* A truncated sequence may have lost rows of its picture: their gradient is 0. */
    device->zero(device, a->dprojected.data, bif_bytes(&a->dprojected));
    bif_scatter_rows(device, &(bif_scatter_rows_args){.src = dinput, .index = &a->image_row, .dst = &a->dprojected});
    bif_projector_backward(&vlm->projector, device, &a->projector, &a->dprojected, a->encoder ? &a->dfeatures : NULL);
    if (a->encoder) {
        bif_tensor dhidden = bif_vit_dhidden(&a->vit);
        device->zero(device, dhidden.data, bif_bytes(&dhidden));
        bif_scatter_rows(device,
                         &(bif_scatter_rows_args){.src = &a->dfeatures, .index = &a->patch_rows, .dst = &dhidden});
        bif_vit_backward(&vlm->vit, device, &a->vit, NULL);
    }
}

void bif_vlm_step(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, float weight,
                  bool backward, bif_loss *loss)
{
    *loss = (bif_loss){.supervised = batch->supervised};
    bif_arena_release(arena, 0);
    if (batch->supervised == 0) {
        return;
    }
    vlm_acts a = vlm_plan(vlm, device, arena,
                          &(vlm_extent){.tokens = batch->tokens,
                                        .images = batch->images,
                                        .rows = batch->supervised,
                                        .backward = backward,
                                        .decoder = true});
    const bif_tensor cu_seqlens = bif_tensor1(batch->cu_seqlens, BIF_DTYPE_I32, batch->sequences + 1);
    bif_tensor input = bif_decoder_input(&a.decoder), hidden, dinput;
    bring_batch(vlm, device, &a, batch);
    a.rows = bif_bring(device, &a.rows, BIF_DTYPE_I32, batch->rows, batch->supervised);
    a.targets = bif_bring(device, &a.targets, BIF_DTYPE_I32, batch->targets, batch->supervised);
    embed(vlm, device, &a, &input);
    bif_decoder_forward(&vlm->decoder, device, &a.decoder, &a.pos, &cu_seqlens, &a.rows, NULL, &hidden);
    const bool need_hidden = a.below || bif_decoder_trains(&vlm->decoder);
    loss->loss_sum =
        bif_decoder_loss(&vlm->decoder, device, &a.decoder, &a.head, &a.targets, weight, backward, need_hidden);
    if (backward && need_hidden) {
        const bool need_input = a.below || vlm->decoder.embed->trainable;
        bif_decoder_backward(&vlm->decoder, device, &a.decoder, &a.pos, &cu_seqlens, &a.rows, need_input, &dinput);
        if (need_input) {
            embed_backward(vlm, device, &a, &dinput);
        }
    }
}

void bif_vlm_hidden(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, bif_tensor *hidden)
{
    bif_arena_release(arena, 0);
    vlm_acts a = vlm_plan(vlm, device, arena,
                          &(vlm_extent){.tokens = batch->tokens, .images = batch->images, .rows = -1, .decoder = true});
    const bif_tensor cu_seqlens = bif_tensor1(batch->cu_seqlens, BIF_DTYPE_I32, batch->sequences + 1);
    bif_tensor input = bif_decoder_input(&a.decoder);
    bring_batch(vlm, device, &a, batch);
    embed(vlm, device, &a, &input);
    bif_decoder_forward(&vlm->decoder, device, &a.decoder, &a.pos, &cu_seqlens, NULL, NULL, hidden);
}

void bif_vlm_embed(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, bif_tensor *input)
{
    const size_t mark = bif_arena_mark(arena);
    vlm_acts a =
        vlm_plan(vlm, device, arena, &(vlm_extent){.tokens = batch->tokens, .images = batch->images, .rows = -1});
    bring_batch(vlm, device, &a, batch);
    embed(vlm, device, &a, input);
    bif_arena_release(arena, mark);
}
