#include <math.h>
#include <stdlib.h>

#include "train/networks.h"
#include "train/rows.h"

void bif_vit_declare(bif_params *params, const bif_vit_config *config, const char *prefix)
{
    const int64_t c = config->hidden, p = config->patch;
    const float spread = 1.0f / sqrtf((float)c), cut = 1.0f / sqrtf(3.0f * (float)(p * p));
    const bool siglip = config->family == BIF_TOWER_SIGLIP;
    char name[sizeof params->items->name];
    if (!siglip) {
        bif_declare(params, BIF_GROUP_ENCODER, prefix, "embeddings.class_embedding", false, c, 0, false, BIF_INIT_NORMAL,
                    spread);
    }
    snprintf(name, sizeof name, "%sembeddings.patch_embedding.weight", prefix);
    bif_params_add(params, name, BIF_GROUP_ENCODER, 4, (const int64_t[]){c, 3, p, p}, true, siglip ? BIF_INIT_NORMAL : BIF_INIT_UNIFORM,
                   cut);
    if (siglip) {
        bif_declare(params, BIF_GROUP_ENCODER, prefix, "embeddings.patch_embedding.bias", false, c, 0, false, BIF_INIT_ZERO, 0);
    }
    bif_declare(params, BIF_GROUP_ENCODER, prefix, "embeddings.position_embedding.weight", false,
                bif_vit_rows(config), c, false, BIF_INIT_NORMAL, spread);
    if (!siglip) {
        bif_declare(params, BIF_GROUP_ENCODER, prefix, "pre_layrnorm.weight", false, c, 0, false, BIF_INIT_ONE, 0);
        bif_declare(params, BIF_GROUP_ENCODER, prefix, "pre_layrnorm.bias", false, c, 0, false, BIF_INIT_ZERO, 0);
    }
    for (int64_t i = 0; i < config->layers; i++) {
        bif_clip_block_declare(params, BIF_GROUP_ENCODER, prefix, i, config->layers, c, config->inner,
                               siglip ? BIF_CLIP_INIT_SIGLIP : BIF_CLIP_INIT_TORCH);
    }
    bif_declare(params, BIF_GROUP_ENCODER, prefix, "post_layernorm.weight", false, c, 0, false, BIF_INIT_ONE, 0);
    bif_declare(params, BIF_GROUP_ENCODER, prefix, "post_layernorm.bias", false, c, 0, false, BIF_INIT_ZERO, 0);
    if (config->head) {
        bif_pool_head_declare(params, config, prefix);
    }
}

void bif_vit_bind(bif_vit *vit, const bif_params *params, const bif_vit_config *config, const char *prefix,
                  int64_t blocks, bool pooled)
{
    BIF_BUG_IF(blocks < 0 || blocks > config->layers, "%lld blocks of %lld", (long long)blocks,
               (long long)config->layers);
    *vit = (bif_vit){.config = *config, .pooled = pooled};
    vit->stack = (bif_clip_stack){.layers = blocks,
                                  .hidden = config->hidden,
                                  .heads = config->heads,
                                  .inner = config->inner,
                                  .eps = config->eps,
                                  .act = config->act};
    bif_clip_stack_bind(&vit->stack, params, prefix);
    vit->patch = bif_row(params, prefix, "embeddings.patch_embedding.weight");
    vit->pos = bif_row(params, prefix, "embeddings.position_embedding.weight");
    if (config->family == BIF_TOWER_SIGLIP) {
        vit->patch_b = bif_row(params, prefix, "embeddings.patch_embedding.bias");
    } else {
        vit->cls = bif_row(params, prefix, "embeddings.class_embedding");
        vit->pre_w = bif_row(params, prefix, "pre_layrnorm.weight");
        vit->pre_b = bif_row(params, prefix, "pre_layrnorm.bias");
    }
    vit->post_w = bif_row(params, prefix, "post_layernorm.weight");
    vit->post_b = bif_row(params, prefix, "post_layernorm.bias");
    if (pooled && config->family == BIF_TOWER_SIGLIP) {
        bif_pool_head_bind(&vit->head, params, config, prefix);
    }
}

void bif_vit_unbind(bif_vit *vit)
{
    bif_clip_stack_unbind(&vit->stack);
    if (vit->table.data != NULL) {
        vit->table_device->release(vit->table_device, vit->table.data);
    }
    vit->table = (bif_tensor){0};
}

bif_status bif_vit_set_table(bif_vit *vit, bif_device *device, const float table[3 * 256])
{
    BIF_BUG_IF(vit->table.data != NULL, "this tower has a table of levels already");
    void *memory = NULL;
    const bif_tensor levels = bif_tensor2(NULL, BIF_DTYPE_F32, 3, 256);
    const bif_status st = device->alloc(device, bif_bytes(&levels), &memory);
    if (st == BIF_OK) {
        device->copy_in(device, memory, table, bif_bytes(&levels));
        vit->table = bif_tensor2(memory, BIF_DTYPE_F32, 3, 256);
        vit->table_device = device;
    }
    return st;
}

static bool embeddings_train(const bif_vit *vit)
{
    const bool own = vit->cls == NULL ? vit->patch_b->trainable
                                      : vit->cls->trainable || vit->pre_w->trainable || vit->pre_b->trainable;
    return own || vit->patch->trainable || vit->pos->trainable;
}

/* All rows go through post_layernorm to the head, instead of one a picture. */
static bool has_head(const bif_vit *vit)
{
    return vit->pooled && vit->config.family == BIF_TOWER_SIGLIP;
}

bool bif_vit_trains(const bif_vit *vit)
{
    return embeddings_train(vit) || bif_clip_stack_trains(&vit->stack) ||
           (vit->pooled && (vit->post_w->trainable || vit->post_b->trainable || (has_head(vit) && bif_pool_head_trains(&vit->head))));
}

bif_vit_acts bif_vit_plan(const bif_vit *vit, bif_arena *arena, int64_t images, bif_keep keep)
{
    const bif_dtype dtype = vit->patch->value.dtype;
    const bool norm = vit->pre_w != NULL;
    const int64_t c = vit->config.hidden, p = bif_vit_patches(&vit->config), rows = bif_vit_rows(&vit->config);
    const int64_t tokens = images * (vit->kept > 0 ? rows - p + vit->kept : rows), n = !vit->pooled ? 0 : has_head(vit) ? tokens : images;
    bif_vit_acts a = {.images = images, .keep = keep != BIF_KEEP_NOTHING};
    a.patches = bif_take2(arena, dtype, images * p, 3 * vit->config.patch * vit->config.patch);
    a.embedded = bif_take2(arena, dtype, images * p, c);
    a.whole = bif_take2(arena, dtype, vit->kept > 0 ? images * rows : 0, c);
    a.x = bif_take2(arena, dtype, norm ? tokens : 0, c);
    a.mean = bif_take1(arena, BIF_DTYPE_F32, norm && a.keep ? tokens : 0);
    a.rstd = bif_take1(arena, BIF_DTYPE_F32, norm && a.keep ? tokens : 0);
    a.stack = bif_clip_stack_plan(&vit->stack, arena, dtype, tokens, vit->pooled && !has_head(vit) ? images : -1, keep);
    a.pooled = bif_take2(arena, dtype, n, c);
    a.post_mean = bif_take1(arena, BIF_DTYPE_F32, a.keep ? n : 0);
    a.post_rstd = bif_take1(arena, BIF_DTYPE_F32, a.keep ? n : 0);
    if (has_head(vit)) {
        a.head = bif_pool_head_plan(&vit->head, arena, dtype, tokens, images, a.keep);
    }
    return a;
}

static bif_tensor patch_matrix(const bif_tensor *weight)
{
    return bif_tensor2(weight->data, weight->dtype, weight->dim[0], weight->dim[1] * weight->dim[2] * weight->dim[3]);
}

/* What goes through the last block's MLP, and further. */
static const bif_tensor *picked_rows(const bif_vit *vit, const bif_inputs *in)
{
    return vit->pooled && !has_head(vit) ? &in->class_rows : NULL;
}

void bif_vit_forward(const bif_vit *vit, bif_device *device, bif_vit_acts *a, const bif_inputs *in, bif_tensor *hidden, bif_tensor *pooled)
{
    const bif_tensor patch = patch_matrix(&vit->patch->value);
    bif_tensor x = bif_clip_stack_input(&a->stack), *embedded = vit->pre_w != NULL ? &a->x : &x;
    bif_patchify(device, &(bif_patchify_args){
                             .pixels = &in->pixels, .table = &vit->table, .patch = vit->config.patch, .rows = &a->patches});
    bif_linear(device, &(bif_linear_args){
                           .x = &a->patches, .w = &patch, .b = vit->patch_b != NULL ? &vit->patch_b->value : NULL, .y = &a->embedded});
    bif_vit_embed(device, &(bif_vit_embed_args){.patches = &a->embedded,
                                                .cls = vit->cls != NULL ? &vit->cls->value : NULL,
                                                .pos = &vit->pos->value,
                                                .images = a->images,
                                                .x = vit->kept > 0 ? &a->whole : embedded});
    if (vit->kept > 0) {
        bif_gather_rows(device, &(bif_gather_rows_args){.src = &a->whole, .index = &in->kept_rows, .dst = embedded});
    }
    if (vit->pre_w != NULL) {
        bif_layernorm(device, &(bif_layernorm_args){.x = &a->x,
                                                    .weight = &vit->pre_w->value,
                                                    .bias = &vit->pre_b->value,
                                                    .eps = vit->config.eps,
                                                    .y = &x,
                                                    .mean = a->keep ? &a->mean : NULL,
                                                    .rstd = a->keep ? &a->rstd : NULL});
    }
    a->output = bif_clip_stack_forward(&vit->stack, device, &a->stack, &in->image_bounds, picked_rows(vit, in));
    if (vit->pooled) {
        bif_layernorm(device, &(bif_layernorm_args){.x = &a->output,
                                                    .weight = &vit->post_w->value,
                                                    .bias = &vit->post_b->value,
                                                    .eps = vit->config.eps,
                                                    .y = &a->pooled,
                                                    .mean = a->keep ? &a->post_mean : NULL,
                                                    .rstd = a->keep ? &a->post_rstd : NULL});
        if (has_head(vit)) {
            bif_pool_head_forward(&vit->head, device, &a->head, in, &a->pooled);
        }
        *pooled = has_head(vit) ? a->head.output : a->pooled;
    } else {
        *hidden = a->output;
    }
}

bif_tensor bif_vit_dhidden(const bif_vit_acts *acts)
{
    return bif_clip_stack_doutput(&acts->stack);
}

void bif_vit_backward(const bif_vit *vit, bif_device *device, bif_vit_acts *a, const bif_inputs *in, const bif_tensor *dpooled)
{
    const bool need_input = embeddings_train(vit);
    if (vit->pooled) {
        bif_tensor d = bif_clip_stack_doutput(&a->stack), dnormed = a->stack.dnormed;
        if (has_head(vit)) { /* in what the blocks' backward will use later */
            bif_tensor dkv = bif_part2(&a->stack.wide, 0, d.dim[0], 2 * vit->config.hidden);
            bif_pool_head_backward(&vit->head, device, &a->head, in, &a->pooled, dpooled, &dkv, &dnormed);
            dpooled = &dnormed;
        }
        bif_layernorm_backward(device, &(bif_layernorm_backward_args){.x = &a->output,
                                                                      .weight = &vit->post_w->value,
                                                                      .mean = &a->post_mean,
                                                                      .rstd = &a->post_rstd,
                                                                      .dy = dpooled,
                                                                      .dx = &d,
                                                                      .dweight = bif_grad(vit->post_w),
                                                                      .dbias = bif_grad(vit->post_b)});
    }
    bif_tensor dx = bif_clip_stack_backward(&vit->stack, device, &a->stack, &in->image_bounds,
                                            picked_rows(vit, in), need_input);
    if (!need_input) {
        return;
    }
    if (vit->pre_w != NULL) {
        bif_layernorm_backward(device, &(bif_layernorm_backward_args){.x = &a->x,
                                                                      .weight = &vit->pre_w->value,
                                                                      .mean = &a->mean,
                                                                      .rstd = &a->rstd,
                                                                      .dy = &dx,
                                                                      .dx = &dx,
                                                                      .dweight = bif_grad(vit->pre_w),
                                                                      .dbias = bif_grad(vit->pre_b)});
    }
    if (vit->kept > 0) { /* what was dropped has no gradient */
        device->zero(device, a->whole.data, bif_bytes(&a->whole));
        bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &dx, .index = &in->kept_rows, .dst = &a->whole});
        dx = a->whole;
    }
    bif_tensor dpatch = patch_matrix(&vit->patch->grad);
    bif_vit_embed_backward(device, &(bif_vit_embed_backward_args){.dx = &dx,
                                                                  .images = a->images,
                                                                  .dpatches = &a->embedded,
                                                                  .dcls = vit->cls != NULL ? bif_grad(vit->cls) : NULL,
                                                                  .dpos = bif_grad(vit->pos),
                                                                  .has_cls = vit->cls != NULL});
    bif_tensor *dbias = vit->patch_b != NULL ? bif_grad(vit->patch_b) : NULL;
    if (dpatch.data != NULL || dbias != NULL) {
        bif_linear_backward(device, &(bif_linear_backward_args){
                                        .x = &a->patches, .dy = &a->embedded, .dw = bif_wanted(&dpatch), .db = dbias});
    }
}
