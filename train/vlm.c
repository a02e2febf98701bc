#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "train/networks.h"
#include "train/rows.h"
#include "train/vocabulary.h"

#define ENCODER_PREFIX "vision_tower.vision_model."
#define BLOCK_PREFIX ENCODER_PREFIX "encoder.layers."
#define HEAD_PREFIX ENCODER_PREFIX "head."
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
    for (int64_t i = 0; i < vlm->params.count; i++) {
        vlm->params.items[i].spare = bif_vocabulary_spare(&config->decoder, vlm->params.items[i].name);
    }
    if (llava) {
        bif_vit_bind(&vlm->vit, &vlm->params, &config->vit, ENCODER_PREFIX, bif_feature_blocks(config), false);
        bif_projector_bind(&vlm->projector, &vlm->params, &config->projector, PROJECTOR_PREFIX);
    }
    bif_decoder_bind(&vlm->decoder, &vlm->params, &config->decoder, decoder_prefix(config), head_name(config));
    if (llava) {
        vlm->shape = (bif_inputs_shape){.side = config->vit.image,
                                        .patches = bif_vit_patches(&config->vit),
                                        .no_class = config->vit.family == BIF_TOWER_SIGLIP,
                                        .per_image = bif_tokens_per_image(config)};
    }
}

bool bif_vlm_uses(const bif_vlm *vlm, const bif_param *param)
{
    const size_t n = strlen(BLOCK_PREFIX);
    if (strncmp(param->name, BLOCK_PREFIX, n) == 0) {
        return strtoll(param->name + n, NULL, 10) < bif_feature_blocks(&vlm->config);
    }
    return param != vlm->vit.post_w && param != vlm->vit.post_b && strncmp(param->name, HEAD_PREFIX, strlen(HEAD_PREFIX)) != 0;
}

bif_status bif_vlm_allocate(bif_vlm *vlm, bif_device *device, int world)
{
    vlm->loss = bif_tensor1(NULL, BIF_DTYPE_F64, 1);
    const bif_status st = device->alloc(device, sizeof(double), &vlm->loss.data);
    return st != BIF_OK ? st : bif_params_allocate(&vlm->params, device, world);
}

void bif_vlm_free(bif_vlm *vlm)
{
    if (vlm->config.kind == BIF_MODEL_LLAVA) {
        bif_vit_unbind(&vlm->vit);
    }
    bif_decoder_unbind(&vlm->decoder);
    if (vlm->params.device != NULL) {
        bif_feeder_free(&vlm->feeder, vlm->params.device);
        vlm->params.device->release(vlm->params.device, vlm->loss.data);
    }
    bif_params_free(&vlm->params);
    *vlm = (bif_vlm){0};
}

/* Everything a pass over one batch takes from the arena, in the order of its use. */
typedef struct {
    const bif_inputs *in;
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
    const bif_dtype dtype = bif_decoder_dtype(&vlm->decoder);
    const bif_keep keep = vlm->recompute ? BIF_KEEP_INPUTS : BIF_KEEP_LAYERS;
    vlm_acts a = {.images = config->kind == BIF_MODEL_LLAVA && extent->images > 0};
    if (a.images) {
        const int64_t features = extent->images * bif_tokens_per_image(config);
        a.encoder = extent->backward && bif_vit_trains(&vlm->vit);
        a.below = extent->backward && (a.encoder || bif_projector_trains(&vlm->projector));
        a.features = bif_take2(arena, dtype, features, config->vit.hidden);
        a.dfeatures = bif_take2(arena, dtype, a.encoder ? features : 0, config->vit.hidden);
        a.dprojected = bif_take2(arena, dtype, a.below ? features : 0, config->decoder.hidden);
        const size_t mark = bif_arena_mark(arena);
        a.vit = bif_vit_plan(&vlm->vit, arena, extent->images, a.encoder ? keep : BIF_KEEP_NOTHING);
        if (!a.encoder) { /* a frozen encoder is done before anything below is written */
            bif_arena_release(arena, mark);
        }
        a.projector = bif_projector_plan(&vlm->projector, arena, features, a.below);
    }
    if (extent->decoder) {
        a.decoder = bif_decoder_plan(&vlm->decoder, arena, extent->tokens, extent->rows, extent->backward ? keep : BIF_KEEP_NOTHING);
    }
    if (extent->rows >= 0) {
        a.head = bif_decoder_head_plan(&vlm->decoder, device, arena, extent->rows);
    }
    return a;
}

void bif_vlm_drop(bif_vlm *vlm, uint64_t seed)
{
    vlm->shape.places = vlm->config.decoder.lora.rank > 0 && vlm->config.decoder.lora.dropout > 0.0f;
    vlm->shape.seed = seed;
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

/* Embedding and splice. */
static void embed(const bif_vlm *vlm, bif_device *device, vlm_acts *a, bif_tensor *input)
{
    bif_tensor hidden, projected;
    if (a->images) {
        bif_vit_forward(&vlm->vit, device, &a->vit, a->in, &hidden, NULL);
        bif_gather_rows(device, &(bif_gather_rows_args){.src = &hidden, .index = &a->in->patch_rows, .dst = &a->features});
        bif_projector_forward(&vlm->projector, device, &a->projector, &a->features, &projected);
    }
    bif_embedding(device, &(bif_embedding_args){.table = &vlm->decoder.embed->value, .ids = &a->in->ids, .y = input});
    if (a->images) {
        bif_gather_rows(device, &(bif_gather_rows_args){.src = &projected, .index = &a->in->image_row, .dst = input});
    }
}

static void embed_backward(const bif_vlm *vlm, bif_device *device, vlm_acts *a, const bif_tensor *dinput)
{
    if (vlm->decoder.embed->grad.data != NULL) {
        bif_embedding_backward(
            device, &(bif_embedding_backward_args){.ids = &a->in->ids, .dy = dinput, .dtable = &vlm->decoder.embed->grad});
        bif_params_reached(vlm->decoder.embed);
    }
    if (!a->below) {
        return;
    }
    /* A truncated sequence may have lost rows of its picture: their gradient is 0. */
    device->zero(device, a->dprojected.data, bif_bytes(&a->dprojected));
    bif_scatter_rows(device, &(bif_scatter_rows_args){.src = dinput, .index = &a->in->image_row, .dst = &a->dprojected});
    bif_projector_backward(&vlm->projector, device, &a->projector, &a->dprojected, a->encoder ? &a->dfeatures : NULL);
    if (a->encoder) {
        bif_tensor dhidden = bif_vit_dhidden(&a->vit);
        device->zero(device, dhidden.data, bif_bytes(&dhidden));
        bif_scatter_rows(device,
                         &(bif_scatter_rows_args){.src = &a->dfeatures, .index = &a->in->patch_rows, .dst = &dhidden});
        bif_vit_backward(&vlm->vit, device, &a->vit, a->in, NULL);
    }
}

void bif_vlm_bring(bif_vlm *vlm, bif_device *device, const bif_batch *batch, float weight)
{
    if (batch->supervised > 0) {
        bif_feeder_bring(&vlm->feeder, device, &vlm->shape, batch, weight);
    }
}

static void forward_and_backward(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_inputs *in, bool backward)
{
    bif_arena_release(arena, 0);
    vlm_acts a = vlm_plan(vlm, device, arena,
                          &(vlm_extent){.tokens = in->tokens, .images = in->images, .rows = in->rows, .backward = backward, .decoder = true});
    bif_tensor input = bif_decoder_input(&a.decoder), hidden, dinput;
    a.in = in;
    if (backward && vlm->shape.places) {
        a.decoder.lora.places = in->places;
        a.decoder.lora.picked_places = in->picked_places;
        a.decoder.lora.seed = vlm->shape.seed;
    }
    embed(vlm, device, &a, &input);
    bif_decoder_forward(&vlm->decoder, device, &a.decoder, &in->pos, &in->bounds, &in->picked, NULL, &hidden);
    const bool need_hidden = a.below || bif_decoder_trains(&vlm->decoder);
    bif_decoder_loss(&vlm->decoder, device, &a.decoder, &a.head, &in->targets, &in->weight, backward, need_hidden, &vlm->loss);
    if (backward && need_hidden) {
        const bool need_input = a.below || vlm->decoder.embed->trainable;
        bif_decoder_backward(&vlm->decoder, device, &a.decoder, &in->pos, &in->bounds, &in->picked, need_input, &dinput);
        if (need_input) {
            embed_backward(vlm, device, &a, &dinput);
        }
    }
}

void bif_vlm_micro_step(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, float weight, bool backward)
{
    if (batch->supervised == 0) {
        return;
    }
    const bif_inputs *in = bif_feeder_take(&vlm->feeder, device, &vlm->shape, batch, weight);
    /* Everything a launch depends on: the addresses and the sizes. A step that talks to other ranks on its way is not recorded. */
    const int64_t sizes[] = {(int64_t)(uintptr_t)arena->base, (int64_t)(uintptr_t)vlm->params.values, (int64_t)(uintptr_t)in->weight.data,
                             backward, in->tokens, in->sequences, in->images, in->rows};
    const bool record = device->record_begin != NULL && vlm->params.hook->reached == NULL;
    bool call = !record || device->record_begin(device, bif_hash_bytes(sizes, sizeof sizes));
    while (call) {
        forward_and_backward(vlm, device, arena, in, backward);
        call = record && device->record_end(device);
    }
    bif_feeder_done(&vlm->feeder, device);
}

void bif_vlm_zero_loss(bif_vlm *vlm, bif_device *device)
{
    device->zero(device, vlm->loss.data, sizeof(double));
}

double bif_vlm_read_loss(const bif_vlm *vlm, bif_device *device)
{
    double loss = 0.0;
    device->copy_out(device, &loss, vlm->loss.data, sizeof loss);
    return loss;
}

void bif_vlm_step(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, float weight,
                  bool backward, bif_loss *loss)
{
    bif_vlm_zero_loss(vlm, device);
    bif_vlm_micro_step(vlm, device, arena, batch, weight, backward);
    *loss = (bif_loss){.loss_sum = bif_vlm_read_loss(vlm, device) / (double)weight, .supervised = batch->supervised};
}

void bif_vlm_hidden(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, bif_tensor *hidden)
{
    bif_arena_release(arena, 0);
    const bif_inputs *in = bif_feeder_take(&vlm->feeder, device, &vlm->shape, batch, 1.0f);
    vlm_acts a = vlm_plan(vlm, device, arena, &(vlm_extent){.tokens = in->tokens, .images = in->images, .rows = -1, .decoder = true});
    bif_tensor input = bif_decoder_input(&a.decoder);
    a.in = in;
    embed(vlm, device, &a, &input);
    bif_decoder_forward(&vlm->decoder, device, &a.decoder, &in->pos, &in->bounds, NULL, NULL, hidden);
    bif_feeder_done(&vlm->feeder, device);
}

const bif_inputs *bif_vlm_embed(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, bif_tensor *input)
{
    const size_t mark = bif_arena_mark(arena);
    const bif_inputs *in = bif_feeder_take(&vlm->feeder, device, &vlm->shape, batch, 1.0f);
    vlm_acts a = vlm_plan(vlm, device, arena, &(vlm_extent){.tokens = in->tokens, .images = in->images, .rows = -1});
    a.in = in;
    embed(vlm, device, &a, input);
    bif_feeder_done(&vlm->feeder, device);
    bif_arena_release(arena, mark);
    return in;
}
