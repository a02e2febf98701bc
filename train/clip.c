#include <math.h>
#include <stdlib.h>

#include "train/networks.h"
#include "train/rows.h"

#define TEXT_PREFIX "text_model."
#define VISION_PREFIX "vision_model."

void bif_clip_declare(bif_clip *clip, const bif_model_config *config)
{
    BIF_BUG_IF(config->kind != BIF_MODEL_CLIP, "model kind %d", (int)config->kind);
    *clip = (bif_clip){.config = *config};
    bif_params *params = &clip->params;
    const int64_t e = config->projection, vision = config->vit.hidden, text = config->text.hidden;
    const bool siglip = config->vit.family == BIF_TOWER_SIGLIP;
    const int rank = siglip ? 1 : 0; /* as transformers has them */
    const int64_t one = 1;
    bif_params_add(params, "logit_scale", BIF_GROUP_JOINT, rank, &one, false, BIF_INIT_CONSTANT, config->logit_scale_init);
    if (config->logit_bias) {
        bif_params_add(params, "logit_bias", BIF_GROUP_JOINT, rank, &one, false, BIF_INIT_CONSTANT,
                       config->logit_bias_init);
    }
    bif_text_declare(params, &config->text, TEXT_PREFIX);
    if (siglip) {
        bif_declare(params, BIF_GROUP_TEXT, TEXT_PREFIX, "head.weight", false, e, text, true, BIF_INIT_NORMAL,
                    1.0f / sqrtf((float)text));
        bif_declare(params, BIF_GROUP_TEXT, TEXT_PREFIX, "head.bias", false, e, 0, false, BIF_INIT_ZERO, 0);
    }
    bif_vit_declare(params, &config->vit, VISION_PREFIX);
    if (!siglip) {
        bif_declare(params, BIF_GROUP_JOINT, "", "visual_projection.weight", false, e, vision, true, BIF_INIT_NORMAL,
                    1.0f / sqrtf((float)vision));
        bif_declare(params, BIF_GROUP_JOINT, "", "text_projection.weight", false, e, text, true, BIF_INIT_NORMAL,
                    1.0f / sqrtf((float)text));
    }
    bif_text_bind(&clip->text, params, &config->text, TEXT_PREFIX);
    bif_vit_bind(&clip->vit, params, &config->vit, VISION_PREFIX, config->vit.layers, true);
    clip->shape = (bif_inputs_shape){.side = config->vit.image,
                                     .patches = bif_vit_patches(&config->vit),
                                     .no_class = config->vit.family == BIF_TOWER_SIGLIP};
    clip->logit_scale = bif_row(params, "", "logit_scale");
    clip->logit_bias = config->logit_bias ? bif_row(params, "", "logit_bias") : NULL;
    clip->visual_projection = siglip ? NULL : bif_row(params, "", "visual_projection.weight");
    clip->text_projection = bif_row(params, "", siglip ? TEXT_PREFIX "head.weight" : "text_projection.weight");
    clip->text_bias = siglip ? bif_row(params, "", TEXT_PREFIX "head.bias") : NULL;
}

bif_status bif_clip_allocate(bif_clip *clip, bif_device *device, int world)
{
    return bif_params_allocate(&clip->params, device, world);
}

void bif_clip_free(bif_clip *clip)
{
    bif_text_unbind(&clip->text);
    bif_vit_unbind(&clip->vit);
    if (clip->params.device != NULL) {
        bif_feeder_free(&clip->feeder, clip->params.device);
    }
    bif_params_free(&clip->params);
    free(clip->acts);
    *clip = (bif_clip){0};
}

void bif_clip_drop(bif_clip *clip, int64_t kept, uint64_t seed, uint64_t place)
{
    BIF_BUG_IF(kept < 0 || kept > clip->shape.patches, "%lld patches of %lld", (long long)kept, (long long)clip->shape.patches);
    clip->vit.kept = clip->shape.kept = kept;
    clip->shape.seed = seed;
    clip->shape.place = place;
}

/* One side's way from a pooled row into the joint space. Without a projection (SigLIP's pictures) the row lies there already. */
typedef struct {
    bif_param *projection, *bias; /* may be NULL */
    bif_tensor pooled, joint;     /* [n, C], [n, E]; joint is empty without a projection */
    bif_tensor normed, inv;   /* f32 [n, E], [n] */
} side_acts;

struct bif_clip_acts {
    const bif_inputs *in;
    bif_vit_acts vit;
    bif_text_acts text;
    side_acts image_side, text_side;
    bool image_trains, text_trains; /* the towers, below the projections */
};

typedef struct {
    int64_t tokens, sequences, images;
    bool keep;
} clip_extent;

static side_acts side_plan(bif_param *projection, bif_param *bias, bif_arena *arena, bif_dtype dtype, int64_t n, int64_t e, bool keep)
{
    return (side_acts){.projection = projection,
                       .bias = bias,
                       .joint = bif_take2(arena, dtype, projection != NULL ? n : 0, e),
                       .normed = bif_take2(arena, BIF_DTYPE_F32, n, e),
                       .inv = bif_take1(arena, BIF_DTYPE_F32, keep ? n : 0)};
}

static bif_clip_acts clip_plan(const bif_clip *clip, bif_arena *arena, const clip_extent *extent)
{
    const int64_t e = clip->config.projection;
    const bif_dtype dtype = clip->text_projection->value.dtype;
    const bif_keep keep = clip->recompute ? BIF_KEEP_INPUTS : BIF_KEEP_LAYERS;
    bif_clip_acts a = {.image_trains = extent->keep && bif_vit_trains(&clip->vit),
                       .text_trains = extent->keep && bif_text_trains(&clip->text)};
    a.vit = bif_vit_plan(&clip->vit, arena, extent->images, a.image_trains ? keep : BIF_KEEP_NOTHING);
    a.image_side = side_plan(clip->visual_projection, NULL, arena, dtype, extent->images, e, extent->keep);
    a.text = bif_text_plan(&clip->text, arena, extent->tokens, extent->sequences, a.text_trains ? keep : BIF_KEEP_NOTHING);
    a.text_side = side_plan(clip->text_projection, clip->text_bias, arena, dtype, extent->sequences, e, extent->keep);
    return a;
}

/* What the backward takes besides: the gradients of one side's projection and pooled row. */
static void side_backward_plan(bif_arena *arena, bif_dtype dtype, int64_t n, int64_t e, int64_t width, bif_tensor *djoint,
                               bif_tensor *dpooled)
{
    *djoint = bif_take2(arena, dtype, n, e);
    *dpooled = bif_take2(arena, dtype, n, width);
}

size_t bif_clip_measure(const bif_clip *clip, bif_device *device, const bif_batch_limits *limits, bool backward)
{
    bif_arena arena = bif_arena_measure("activations");
    /* A sequence takes at least one token, so that is how many there may be. */
    const int64_t sequences =
        limits->sequences > 0 && limits->sequences < limits->tokens ? limits->sequences : limits->tokens;
    (void)device;
    const bif_clip_acts a = clip_plan(
        clip, &arena,
        &(clip_extent){.tokens = limits->tokens, .sequences = sequences, .images = limits->images, .keep = backward});
    (void)a;
    bif_tensor djoint, dpooled;
    const int64_t e = clip->config.projection, vision = clip->config.vit.hidden, text = clip->config.text.hidden;
    if (backward) {
        const bif_dtype dtype = clip->text_projection->value.dtype;
        side_backward_plan(&arena, dtype, limits->images, e, vision, &djoint, &dpooled);
        side_backward_plan(&arena, dtype, sequences, e, text, &djoint, &dpooled);
    }
    return arena.peak;
}

static void side_forward(bif_device *device, side_acts *s, bool keep, bif_tensor *out)
{
    if (s->projection != NULL) {
        bif_linear(device, &(bif_linear_args){
                               .x = &s->pooled, .w = &s->projection->value, .b = s->bias != NULL ? &s->bias->value : NULL, .y = &s->joint});
    }
    bif_l2norm(device, &(bif_l2norm_args){
                           .x = s->projection != NULL ? &s->joint : &s->pooled, .y = &s->normed, .inv = keep ? &s->inv : NULL});
    *out = s->normed;
}

bif_clip_acts *bif_clip_forward(bif_clip *clip, bif_device *device, bif_arena *arena, const bif_batch *batch, bool keep,
                                bif_tensor *image, bif_tensor *text)
{
    bif_arena_release(arena, 0);
    if (clip->acts == NULL) {
        clip->acts = bif_malloc(sizeof *clip->acts);
    }
    bif_clip_acts *a = clip->acts;
    const clip_extent extent = {.tokens = text != NULL ? batch->tokens : 0,
                                .sequences = text != NULL ? batch->sequences : 0,
                                .images = image != NULL ? batch->images : 0,
                                .keep = keep};
    *a = clip_plan(clip, arena, &extent);
    a->in = bif_feeder_take(&clip->feeder, device, &clip->shape, batch, 1.0f);
    if (image != NULL) {
        bif_vit_forward(&clip->vit, device, &a->vit, a->in, NULL, &a->image_side.pooled);
        side_forward(device, &a->image_side, keep, image);
    }
    if (text != NULL) {
        bif_text_forward(&clip->text, device, &a->text, a->in, &a->text_side.pooled);
        side_forward(device, &a->text_side, keep, text);
    }
    if (!keep) {
        bif_feeder_done(&clip->feeder, device);
    }
    return a;
}

double bif_clip_loss_factor(bool sigmoid, int64_t pairs)
{
    return (sigmoid ? 1.0 : 0.5) / (double)pairs; /* InfoNCE: mean of both directions */
}

void bif_clip_loss(bif_clip *clip, bif_device *device, const bif_clip_loss_args *args)
{
    const bool backward = args->dimage != NULL;
    BIF_BUG_IF(backward != (args->dtext != NULL), "the gradient of one side's embeddings alone");
    const float weight = (args->sigmoid ? 1.0f : 0.5f) / (float)args->image->dim[0];
    bif_tensor image = bif_rows(args->image, args->first, args->local), text = bif_rows(args->text, args->first, args->local);
    bif_tensor dimage = {0}, dtext = {0};
    if (backward) {
        dimage = bif_rows(args->dimage, args->first, args->local);
        dtext = bif_rows(args->dtext, args->first, args->local);
        device->zero(device, args->dimage->data, bif_bytes(args->dimage));
        device->zero(device, args->dtext->data, bif_bytes(args->dtext));
        device->zero(device, args->dscale->data, sizeof(float));
        device->zero(device, args->dbias->data, sizeof(float));
    }
    device->zero(device, args->sum->data, sizeof(double));
    if (args->sigmoid) {
        bif_siglip(device, &(bif_siglip_args){.a = &image, .b = args->text, .first = args->first, .scale = args->scale, .bias = args->bias,
                                              .weight = weight, .loss = args->loss, .da = backward ? &dimage : NULL, .db = args->dtext,
                                              .dscale = backward ? args->dscale : NULL, .dbias = backward ? args->dbias : NULL});
        bif_sum(device, args->loss, args->sum);
    } else {
        bif_infonce(device, &(bif_infonce_args){.a = &image, .b = args->text, .first = args->first, .scale = args->scale, .weight = weight,
                                                .loss = args->loss, .da = backward ? &dimage : NULL, .db = args->dtext,
                                                .dscale = backward ? args->dscale : NULL});
        bif_sum(device, args->loss, args->sum);
        bif_infonce(device, &(bif_infonce_args){.a = &text, .b = args->image, .first = args->first, .scale = args->scale, .weight = weight,
                                                .loss = args->loss, .da = backward ? &dtext : NULL, .db = args->dimage,
                                                .dscale = backward ? args->dscale : NULL});
        bif_sum(device, args->loss, args->sum);
    }
    /* logit_scale is stored as a logarithm: d/dlog = d/dscale * scale. */
    if (backward && clip->logit_scale->grad.data != NULL) {
        bif_axpy(device, args->scale, args->dscale, &(bif_tensor){clip->logit_scale->grad.data, BIF_DTYPE_F32, 1, {1, 0, 0, 0}});
    }
    if (backward && clip->logit_bias != NULL && clip->logit_bias->grad.data != NULL) {
        bif_axpy(device, 1.0f, args->dbias, &(bif_tensor){clip->logit_bias->grad.data, BIF_DTYPE_F32, 1, {1, 0, 0, 0}});
    }
}

/* Back to the pooled row, whose gradient is wanted when its tower trains. */
static void side_backward(bif_device *device, const side_acts *s, const bif_tensor *dout, bif_tensor *djoint, bif_tensor *dpooled)
{
    bif_param *projection = s->projection;
    const bool trains = projection != NULL && (projection->grad.data != NULL || (s->bias != NULL && s->bias->grad.data != NULL));
    if (dpooled == NULL && !trains) {
        return;
    }
    bif_l2norm_backward(device, &(bif_l2norm_backward_args){
                                    .y = &s->normed, .inv = &s->inv, .dy = dout, .dx = projection != NULL ? djoint : dpooled});
    if (projection != NULL) {
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &s->pooled,
                                                                .w = &projection->value,
                                                                .dy = djoint,
                                                                .dx = dpooled,
                                                                .dw = bif_grad(projection),
                                                                .db = s->bias != NULL ? bif_grad(s->bias) : NULL});
    }
}

void bif_clip_backward(bif_clip *clip, bif_device *device, bif_arena *arena, bif_clip_acts *a, const bif_tensor *dimage,
                       const bif_tensor *dtext)
{
    const size_t mark = bif_arena_mark(arena);
    const int64_t e = clip->config.projection;
    const bif_dtype dtype = clip->text_projection->value.dtype;
    bif_tensor djoint, dpooled_image, dpooled_text;
    /* Both projections first, which lie last in the table: gradients become final from its end to its beginning. */
    if (dimage != NULL) {
        side_backward_plan(arena, dtype, dimage->dim[0], e, clip->config.vit.hidden, &djoint, &dpooled_image);
        side_backward(device, &a->image_side, dimage, &djoint, a->image_trains ? &dpooled_image : NULL);
    }
    if (dtext != NULL) {
        side_backward_plan(arena, dtype, dtext->dim[0], e, clip->config.text.hidden, &djoint, &dpooled_text);
        side_backward(device, &a->text_side, dtext, &djoint, a->text_trains ? &dpooled_text : NULL);
    }
    if (dimage != NULL && a->image_trains) {
        bif_vit_backward(&clip->vit, device, &a->vit, a->in, &dpooled_image);
    }
    if (dtext != NULL && a->text_trains) {
        bif_text_backward(&clip->text, device, &a->text, a->in, &dpooled_text);
    }
    bif_feeder_done(&clip->feeder, device);
    bif_arena_release(arena, mark);
}
