#include <math.h>

#include "train/networks.h"
#include "train/rows.h"

void bif_text_declare(bif_params *params, const bif_text_config *config, const char *prefix)
{
    const int64_t c = config->hidden;
    const bool siglip = config->family == BIF_TOWER_SIGLIP;
    const float spread = 1.0f / sqrtf((float)c);
    bif_declare(params, BIF_GROUP_TEXT, prefix, "embeddings.token_embedding.weight", false, config->vocab, c, true,
                BIF_INIT_NORMAL, siglip ? spread : 0.02f);
    bif_declare(params, BIF_GROUP_TEXT, prefix, "embeddings.position_embedding.weight", false, config->positions, c,
                false, BIF_INIT_NORMAL, siglip ? spread : 0.01f);
    for (int64_t i = 0; i < config->layers; i++) {
        bif_clip_block_declare(params, BIF_GROUP_TEXT, prefix, i, config->layers, c, config->inner,
                               siglip ? BIF_CLIP_INIT_SIGLIP : BIF_CLIP_INIT_SCALED);
    }
    bif_declare(params, BIF_GROUP_TEXT, prefix, "final_layer_norm.weight", false, c, 0, false, BIF_INIT_ONE, 0);
    bif_declare(params, BIF_GROUP_TEXT, prefix, "final_layer_norm.bias", false, c, 0, false, BIF_INIT_ZERO, 0);
}

void bif_text_bind(bif_text *text, const bif_params *params, const bif_text_config *config, const char *prefix)
{
    *text = (bif_text){.config = *config};
    text->stack = (bif_clip_stack){.layers = config->layers,
                                   .hidden = config->hidden,
                                   .heads = config->heads,
                                   .inner = config->inner,
                                   .eps = config->eps,
                                   .act = config->act,
                                   .causal = config->family == BIF_TOWER_CLIP};
    bif_clip_stack_bind(&text->stack, params, prefix);
    text->token = bif_row(params, prefix, "embeddings.token_embedding.weight");
    text->pos = bif_row(params, prefix, "embeddings.position_embedding.weight");
    text->final_w = bif_row(params, prefix, "final_layer_norm.weight");
    text->final_b = bif_row(params, prefix, "final_layer_norm.bias");
}

void bif_text_unbind(bif_text *text)
{
    bif_clip_stack_unbind(&text->stack);
}

bool bif_text_trains(const bif_text *text)
{
    return text->token->trainable || text->pos->trainable || text->final_w->trainable || text->final_b->trainable ||
           bif_clip_stack_trains(&text->stack);
}

bif_text_acts bif_text_plan(const bif_text *text, bif_arena *arena, int64_t tokens, int64_t sequences, bif_keep keep)
{
    const bif_dtype dtype = text->token->value.dtype;
    bif_text_acts a = {.keep = keep != BIF_KEEP_NOTHING};
    a.stack = bif_clip_stack_plan(&text->stack, arena, dtype, tokens, sequences, keep);
    a.pooled = bif_take2(arena, dtype, sequences, text->config.hidden);
    a.mean = bif_take1(arena, BIF_DTYPE_F32, a.keep ? sequences : 0);
    a.rstd = bif_take1(arena, BIF_DTYPE_F32, a.keep ? sequences : 0);
    return a;
}

void bif_text_forward(const bif_text *text, bif_device *device, bif_text_acts *a, const bif_inputs *in,
                      bif_tensor *pooled)
{
    bif_tensor x = bif_clip_stack_input(&a->stack);
    bif_embedding(device, &(bif_embedding_args){.table = &text->token->value, .ids = &in->ids, .y = &x});
    bif_add_rows(device, &(bif_add_rows_args){.table = &text->pos->value, .pos = &in->pos, .y = &x});
    a->output = bif_clip_stack_forward(&text->stack, device, &a->stack, &in->bounds, &in->eot);
    bif_layernorm(device, &(bif_layernorm_args){.x = &a->output,
                                                .weight = &text->final_w->value,
                                                .bias = &text->final_b->value,
                                                .eps = text->config.eps,
                                                .y = &a->pooled,
                                                .mean = a->keep ? &a->mean : NULL,
                                                .rstd = a->keep ? &a->rstd : NULL});
    *pooled = a->pooled;
}

void bif_text_backward(const bif_text *text, bif_device *device, bif_text_acts *a, const bif_inputs *in,
                       const bif_tensor *dpooled)
{
    bif_tensor d = bif_clip_stack_doutput(&a->stack);
    bif_layernorm_backward(device, &(bif_layernorm_backward_args){.x = &a->output,
                                                                  .weight = &text->final_w->value,
                                                                  .mean = &a->mean,
                                                                  .rstd = &a->rstd,
                                                                  .dy = dpooled,
                                                                  .dx = &d,
                                                                  .dweight = bif_grad(text->final_w),
                                                                  .dbias = bif_grad(text->final_b)});
    bif_tensor dx = bif_clip_stack_backward(&text->stack, device, &a->stack, &in->bounds, &in->eot,
                                            text->token->trainable || text->pos->trainable);
    if (text->token->grad.data != NULL) {
        bif_embedding_backward(device,
                               &(bif_embedding_backward_args){.ids = &in->ids, .dy = &dx, .dtable = &text->token->grad});
    }
    if (text->pos->grad.data != NULL) { /* a learned position is an embedding whose id is the position */
        bif_embedding_backward(device,
                               &(bif_embedding_backward_args){.ids = &in->pos, .dy = &dx, .dtable = &text->pos->grad});
    }
}
