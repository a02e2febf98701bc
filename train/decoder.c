#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "train/networks.h"
#include "train/rows.h"

static void layer_prefix(char *out, size_t size, const char *prefix, int64_t index)
{
    snprintf(out, size, "%slayers.%" PRId64 ".", prefix, index);
}

static int64_t packed_width(const bif_decoder_config *config)
{
    return (config->heads + 2 * config->kv_heads) * config->head_dim;
}

void bif_decoder_declare(bif_params *params, const bif_decoder_config *config, const char *prefix,
                         const char *head_name)
{
    const int64_t c = config->hidden, f = config->inner, q = config->heads * config->head_dim,
                  kv = config->kv_heads * config->head_dim;
    const bif_group g = BIF_GROUP_DECODER;
    const bif_init normal = BIF_INIT_NORMAL, zero = BIF_INIT_ZERO, one = BIF_INIT_ONE;
    bif_declare(params, g, prefix, "embed_tokens.weight", false, config->vocab, c, true, normal, 0.02f);
    for (int64_t i = 0; i < config->layers; i++) {
        char base[128];
        layer_prefix(base, sizeof base, prefix, i);
        bif_declare(params, g, base, "self_attn.q_proj.weight", false, q, c, true, normal, 0.02f);
        bif_declare(params, g, base, "self_attn.k_proj.weight", true, kv, c, true, normal, 0.02f);
        bif_declare(params, g, base, "self_attn.v_proj.weight", true, kv, c, true, normal, 0.02f);
        if (config->qkv_bias) {
            bif_declare(params, g, base, "self_attn.q_proj.bias", false, q, 0, false, zero, 0);
            bif_declare(params, g, base, "self_attn.k_proj.bias", true, kv, 0, false, zero, 0);
            bif_declare(params, g, base, "self_attn.v_proj.bias", true, kv, 0, false, zero, 0);
        }
        bif_declare(params, g, base, "self_attn.o_proj.weight", false, c, q, true, normal, 0.02f);
        if (config->o_bias) {
            bif_declare(params, g, base, "self_attn.o_proj.bias", false, c, 0, false, zero, 0);
        }
        if (config->qk_norm) {
            bif_declare(params, g, base, "self_attn.q_norm.weight", false, config->head_dim, 0, false, one, 0);
            bif_declare(params, g, base, "self_attn.k_norm.weight", false, config->head_dim, 0, false, one, 0);
        }
        bif_declare(params, g, base, "mlp.gate_proj.weight", false, f, c, true, normal, 0.02f);
        bif_declare(params, g, base, "mlp.up_proj.weight", true, f, c, true, normal, 0.02f);
        bif_declare(params, g, base, "mlp.down_proj.weight", false, c, f, true, normal, 0.02f);
        bif_declare(params, g, base, "input_layernorm.weight", false, c, 0, false, one, 0);
        bif_declare(params, g, base, "post_attention_layernorm.weight", false, c, 0, false, one, 0);
    }
    bif_declare(params, g, prefix, "norm.weight", false, c, 0, false, one, 0);
    if (!config->tied) {
        bif_declare(params, g, "", head_name, false, config->vocab, c, true, normal, 0.02f);
    }
}

void bif_decoder_bind(bif_decoder *decoder, const bif_params *params, const bif_decoder_config *config,
                      const char *prefix, const char *head_name)
{
    *decoder = (bif_decoder){.config = *config};
    decoder->layer = bif_calloc((size_t)config->layers + 1, sizeof *decoder->layer);
    decoder->embed = bif_row(params, prefix, "embed_tokens.weight");
    decoder->norm = bif_row(params, prefix, "norm.weight");
    decoder->head = config->tied ? NULL : bif_row(params, "", head_name);
    for (int64_t i = 0; i < config->layers; i++) {
        char base[128];
        layer_prefix(base, sizeof base, prefix, i);
        bif_decoder_layer *p = &decoder->layer[i];
        p->norm1 = bif_row(params, base, "input_layernorm.weight");
        p->qkv_w = bif_row(params, base, "self_attn.q_proj.weight");
        p->qkv_b = config->qkv_bias ? bif_row(params, base, "self_attn.q_proj.bias") : NULL;
        p->q_norm = config->qk_norm ? bif_row(params, base, "self_attn.q_norm.weight") : NULL;
        p->k_norm = config->qk_norm ? bif_row(params, base, "self_attn.k_norm.weight") : NULL;
        p->o_w = bif_row(params, base, "self_attn.o_proj.weight");
        p->o_b = config->o_bias ? bif_row(params, base, "self_attn.o_proj.bias") : NULL;
        p->norm2 = bif_row(params, base, "post_attention_layernorm.weight");
        p->gate_up = bif_row(params, base, "mlp.gate_proj.weight");
        p->down = bif_row(params, base, "mlp.down_proj.weight");
    }
}

void bif_decoder_unbind(bif_decoder *decoder)
{
    free(decoder->layer);
    decoder->layer = NULL;
}

static bool layer_trains(const bif_decoder_layer *p)
{
    const bif_param *const rows[] = {p->norm1, p->qkv_w, p->qkv_b, p->q_norm,  p->k_norm,
                                     p->o_w,   p->o_b,   p->norm2, p->gate_up, p->down};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i] != NULL && rows[i]->trainable) {
            return true;
        }
    }
    return false;
}

bool bif_decoder_trains(const bif_decoder *decoder)
{
    for (int64_t i = 0; i < decoder->config.layers; i++) {
        if (layer_trains(&decoder->layer[i])) {
            return true;
        }
    }
    return decoder->embed->trainable || decoder->norm->trainable || (decoder->head != NULL && decoder->head->trainable);
}

bif_decoder_acts bif_decoder_plan(const bif_decoder *decoder, bif_arena *arena, int64_t tokens, int64_t picked,
                                  bool keep)
{
    const bif_decoder_config *config = &decoder->config;
    const int64_t c = config->hidden, f = config->inner, w = packed_width(config), q = config->heads * config->head_dim;
    const int64_t layers = config->layers;
    BIF_BUG_IF(layers < 1, "a decoder without blocks");
    const bool pick = picked >= 0, inputs = keep && bif_decoder_trains(decoder);
    const int64_t rows = pick ? picked : tokens;
    const int64_t all = keep ? layers * tokens : tokens, tail = keep ? (layers - 1) * tokens + rows : tokens;
    bif_decoder_acts a = {.tokens = tokens, .rows = rows, .keep = keep, .pick = pick, .inputs = inputs};
    a.x = bif_take2(arena, BIF_DTYPE_F32, keep ? all + rows : all, c);
    a.rstd1 = bif_take1(arena, BIF_DTYPE_F32, keep ? all : 0);
    a.normed1 = bif_take2(arena, BIF_DTYPE_F32, inputs ? all : tokens, c);
    a.qkv_pre = bif_take2(arena, BIF_DTYPE_F32, keep && config->qk_norm ? all : 0, w);
    a.q_rstd = bif_take2(arena, BIF_DTYPE_F32, keep && config->qk_norm ? all : 0, config->heads);
    a.k_rstd = bif_take2(arena, BIF_DTYPE_F32, keep && config->qk_norm ? all : 0, config->kv_heads);
    a.qkv = bif_take2(arena, BIF_DTYPE_F32, all, w);
    a.attn = bif_take2(arena, BIF_DTYPE_F32, all, q);
    a.lse = bif_take2(arena, BIF_DTYPE_F32, keep ? all : 0, config->heads);
    a.picked_attn = bif_take2(arena, BIF_DTYPE_F32, pick ? rows : 0, q);
    a.picked_x = bif_take2(arena, BIF_DTYPE_F32, pick && !keep ? rows : 0, c);
    a.h = keep ? bif_take2(arena, BIF_DTYPE_F32, tail, c) : a.x;
    a.rstd2 = bif_take1(arena, BIF_DTYPE_F32, keep ? tail : 0);
    a.normed2 = bif_take2(arena, BIF_DTYPE_F32, inputs ? tail : tokens, c);
    a.gate_up = bif_take2(arena, BIF_DTYPE_F32, tail, 2 * f);
    a.act = bif_take2(arena, BIF_DTYPE_F32, tokens, f);
    a.final = bif_take2(arena, BIF_DTYPE_F32, rows, c);
    a.final_rstd = bif_take1(arena, BIF_DTYPE_F32, keep ? rows : 0);
    if (keep) {
        a.dx = bif_take2(arena, BIF_DTYPE_F32, tokens, c);
        a.dpicked = bif_take2(arena, BIF_DTYPE_F32, pick ? rows : 0, c);
        a.dpicked_attn = bif_take2(arena, BIF_DTYPE_F32, pick ? rows : 0, q);
        a.dnormed = bif_take2(arena, BIF_DTYPE_F32, tokens, c);
        a.wide = bif_take2(arena, BIF_DTYPE_F32, tokens, f > w + q ? f : w + q);
    }
    return a;
}

bif_tensor bif_decoder_input(const bif_decoder_acts *acts)
{
    return bif_rows(&acts->x, 0, acts->tokens);
}

/* Rows of layer i in a tensor that holds every layer when `every` is set. */
static bif_tensor of_layer(const bif_decoder_acts *a, const bif_tensor *t, bool every, int64_t i, int64_t rows)
{
    return bif_rows(t, every ? i * a->tokens : 0, rows);
}

/* q/k norm and rotation of the packed rows. With keep the un-normed rows stay in qkv_pre for the backward. */
static void rotate(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, int64_t i,
                   const bif_tensor *pos, bif_tensor *qkv)
{
    const bif_decoder_config *config = &decoder->config;
    const bif_decoder_layer *p = &decoder->layer[i];
    if (config->qk_norm) {
        const int64_t kept = a->keep ? a->tokens : 0;
        bif_tensor pre = of_layer(a, &a->qkv_pre, a->keep, i, kept);
        bif_tensor q_rstd = of_layer(a, &a->q_rstd, a->keep, i, kept),
                   k_rstd = of_layer(a, &a->k_rstd, a->keep, i, kept);
        if (a->keep) {
            device->copy(device, qkv->data, pre.data, bif_bytes(qkv));
        }
        const bif_tensor *from = a->keep ? &pre : qkv;
        bif_head_rmsnorm(device, &(bif_head_rmsnorm_args){.x = from,
                                                          .weight = &p->q_norm->value,
                                                          .first = 0,
                                                          .heads = config->heads,
                                                          .head_dim = config->head_dim,
                                                          .eps = config->eps,
                                                          .y = qkv,
                                                          .rstd = a->keep ? &q_rstd : NULL});
        bif_head_rmsnorm(device, &(bif_head_rmsnorm_args){.x = from,
                                                          .weight = &p->k_norm->value,
                                                          .first = config->heads * config->head_dim,
                                                          .heads = config->kv_heads,
                                                          .head_dim = config->head_dim,
                                                          .eps = config->eps,
                                                          .y = qkv,
                                                          .rstd = a->keep ? &k_rstd : NULL});
    }
    bif_rope(device, &(bif_rope_args){.rows = qkv,
                                      .pos = pos,
                                      .heads = config->heads + config->kv_heads,
                                      .head_dim = config->head_dim,
                                      .theta = config->rope_theta});
}

void bif_decoder_forward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, const bif_tensor *pos,
                         const bif_tensor *cu_seqlens, const bif_tensor *rows, bif_kv_cache *cache, bif_tensor *hidden)
{
    const bif_decoder_config *config = &decoder->config;
    const int64_t tokens = a->tokens;
    bif_tensor x = bif_decoder_input(a);
    for (int64_t i = 0; i < config->layers; i++) {
        const bif_decoder_layer *p = &decoder->layer[i];
        const bool pick = a->pick && i == config->layers - 1;
        const int64_t r = pick ? a->rows : tokens;
        bif_tensor rstd1 = of_layer(a, &a->rstd1, a->keep, i, a->keep ? tokens : 0);
        bif_tensor normed1 = of_layer(a, &a->normed1, a->inputs, i, tokens),
                   qkv = of_layer(a, &a->qkv, a->keep, i, tokens);
        bif_tensor attn = of_layer(a, &a->attn, a->keep, i, tokens),
                   lse = of_layer(a, &a->lse, a->keep, i, a->keep ? tokens : 0);
        const bif_tensor qkv_w = bif_params_fused_value(p->qkv_w, 3);
        const bif_tensor qkv_b = p->qkv_b != NULL ? bif_params_fused_value(p->qkv_b, 3) : qkv_w;
        bif_tensor pre = config->qk_norm && a->keep ? of_layer(a, &a->qkv_pre, true, i, tokens) : qkv;
        bif_rmsnorm(device, &(bif_rmsnorm_args){.x = &x,
                                                .weight = &p->norm1->value,
                                                .eps = config->eps,
                                                .y = &normed1,
                                                .rstd = a->keep ? &rstd1 : NULL});
        bif_linear(device,
                   &(bif_linear_args){.x = &normed1, .w = &qkv_w, .b = p->qkv_b != NULL ? &qkv_b : NULL, .y = &pre});
        rotate(decoder, device, a, i, pos, &qkv);
        if (cache != NULL) {
            bif_kv_cache_fill(decoder, device, cache, i, &qkv);
        }
        bif_attention(device, &(bif_attention_args){.qkv = &qkv,
                                                    .cu_seqlens = cu_seqlens,
                                                    .heads = config->heads,
                                                    .kv_heads = config->kv_heads,
                                                    .head_dim = config->head_dim,
                                                    .causal = true,
                                                    .scale = 1.0f / sqrtf((float)config->head_dim),
                                                    .out = &attn,
                                                    .lse = a->keep ? &lse : NULL});
        bif_tensor h = !a->keep && pick ? a->picked_x : of_layer(a, &a->h, a->keep, i, r);
        const bif_tensor *residual = &x, *joined = &attn;
        if (pick) {
            bif_gather_rows(device, &(bif_gather_rows_args){.src = &x, .index = rows, .dst = &h});
            bif_gather_rows(device, &(bif_gather_rows_args){.src = &attn, .index = rows, .dst = &a->picked_attn});
            residual = &h;
            joined = &a->picked_attn;
        }
        bif_linear(device, &(bif_linear_args){.x = joined,
                                              .w = &p->o_w->value,
                                              .b = p->o_b != NULL ? &p->o_b->value : NULL,
                                              .residual = residual,
                                              .y = &h});
        const bif_tensor gate_up_w = bif_params_fused_value(p->gate_up, 2);
        bif_tensor rstd2 = of_layer(a, &a->rstd2, a->keep, i, a->keep ? r : 0);
        bif_tensor normed2 = of_layer(a, &a->normed2, a->inputs, i, r),
                   gate_up = of_layer(a, &a->gate_up, a->keep, i, r);
        bif_tensor act = bif_rows(&a->act, 0, r), next = a->keep ? bif_rows(&a->x, (i + 1) * tokens, r) : h;
        bif_rmsnorm(device, &(bif_rmsnorm_args){.x = &h,
                                                .weight = &p->norm2->value,
                                                .eps = config->eps,
                                                .y = &normed2,
                                                .rstd = a->keep ? &rstd2 : NULL});
        bif_linear(device, &(bif_linear_args){.x = &normed2, .w = &gate_up_w, .y = &gate_up});
        bif_swiglu(device, &(bif_swiglu_args){.gu = &gate_up, .y = &act});
        bif_linear(device, &(bif_linear_args){.x = &act, .w = &p->down->value, .residual = &h, .y = &next});
        x = next;
    }
    bif_rmsnorm(device, &(bif_rmsnorm_args){.x = &x,
                                            .weight = &decoder->norm->value,
                                            .eps = config->eps,
                                            .y = &a->final,
                                            .rstd = a->keep ? &a->final_rstd : NULL});
    *hidden = a->final;
}

/* The gradient of the packed rows through rotation and q/k norm, in place. */
static void rotate_back(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, int64_t i,
                        const bif_tensor *pos, bif_tensor *dqkv)
{
    const bif_decoder_config *config = &decoder->config;
    const bif_decoder_layer *p = &decoder->layer[i];
    bif_rope(device, &(bif_rope_args){.rows = dqkv,
                                      .pos = pos,
                                      .heads = config->heads + config->kv_heads,
                                      .head_dim = config->head_dim,
                                      .theta = config->rope_theta,
                                      .inverse = true});
    if (config->qk_norm) {
        const bif_tensor pre = of_layer(a, &a->qkv_pre, true, i, a->tokens);
        const bif_tensor q_rstd = of_layer(a, &a->q_rstd, true, i, a->tokens),
                         k_rstd = of_layer(a, &a->k_rstd, true, i, a->tokens);
        bif_head_rmsnorm_backward(device, &(bif_head_rmsnorm_backward_args){.x = &pre,
                                                                            .weight = &p->q_norm->value,
                                                                            .rstd = &q_rstd,
                                                                            .dy = dqkv,
                                                                            .first = 0,
                                                                            .heads = config->heads,
                                                                            .head_dim = config->head_dim,
                                                                            .dx = dqkv,
                                                                            .dweight = bif_grad(p->q_norm)});
        bif_head_rmsnorm_backward(device, &(bif_head_rmsnorm_backward_args){.x = &pre,
                                                                            .weight = &p->k_norm->value,
                                                                            .rstd = &k_rstd,
                                                                            .dy = dqkv,
                                                                            .first = config->heads * config->head_dim,
                                                                            .heads = config->kv_heads,
                                                                            .head_dim = config->head_dim,
                                                                            .dx = dqkv,
                                                                            .dweight = bif_grad(p->k_norm)});
    }
}

/* The MLP half of layer i on its r rows: d becomes the gradient of h. */
static void mlp_back(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, int64_t i, int64_t r,
                     bif_tensor *d)
{
    const bif_decoder_layer *p = &decoder->layer[i];
    bif_tensor gate_up = of_layer(a, &a->gate_up, a->keep, i, r), act = bif_rows(&a->act, 0, r),
               dnormed = bif_rows(&a->dnormed, 0, r);
    bif_tensor dact = bif_tensor2(a->wide.data, BIF_DTYPE_F32, r, decoder->config.inner);
    const bif_tensor normed2 = of_layer(a, &a->normed2, a->inputs, i, r), h = of_layer(a, &a->h, true, i, r);
    const bif_tensor rstd2 = of_layer(a, &a->rstd2, true, i, r), gate_up_w = bif_params_fused_value(p->gate_up, 2);
    bif_tensor dgate_up_w = bif_params_fused_grad(p->gate_up, 2);
    if (p->down->grad.data != NULL) { /* cheaper to make again than to keep: F floats a token and layer */
        bif_swiglu(device, &(bif_swiglu_args){.gu = &gate_up, .y = &act});
    }
    bif_linear_backward(device, &(bif_linear_backward_args){
                                    .x = &act, .w = &p->down->value, .dy = d, .dx = &dact, .dw = bif_grad(p->down)});
    bif_swiglu_backward(device, &(bif_swiglu_backward_args){.gu = &gate_up, .dy = &dact, .dgu = &gate_up});
    bif_linear_backward(
        device, &(bif_linear_backward_args){
                    .x = &normed2, .w = &gate_up_w, .dy = &gate_up, .dx = &dnormed, .dw = bif_wanted(&dgate_up_w)});
    bif_rmsnorm_backward(device, &(bif_rmsnorm_backward_args){.x = &h,
                                                              .weight = &p->norm2->value,
                                                              .rstd = &rstd2,
                                                              .dy = &dnormed,
                                                              .dres = d,
                                                              .dx = d,
                                                              .dweight = bif_grad(p->norm2)});
}

void bif_decoder_backward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, const bif_tensor *pos,
                          const bif_tensor *cu_seqlens, const bif_tensor *rows, bool need_input, bif_tensor *dinput)
{
    const bif_decoder_config *config = &decoder->config;
    const int64_t tokens = a->tokens, layers = config->layers, q = config->heads * config->head_dim,
                  w = packed_width(config);
    int64_t lowest = 0; /* the first block somebody needs */
    while (!need_input && lowest < layers && !layer_trains(&decoder->layer[lowest])) {
        lowest++;
    }
    *dinput = a->dx;
    if (lowest < layers || decoder->norm->trainable) {
        bif_tensor d = bif_decoder_dhidden(a);
        const bif_tensor x = bif_rows(&a->x, layers * tokens, a->rows);
        bif_rmsnorm_backward(device, &(bif_rmsnorm_backward_args){.x = &x,
                                                                  .weight = &decoder->norm->value,
                                                                  .rstd = &a->final_rstd,
                                                                  .dy = &d,
                                                                  .dx = &d,
                                                                  .dweight = bif_grad(decoder->norm)});
    }
    for (int64_t i = layers - 1; i >= lowest; i--) {
        const bif_decoder_layer *p = &decoder->layer[i];
        const bool pick = a->pick && i == layers - 1, below = need_input || i > lowest;
        bif_tensor d = pick ? a->dpicked : a->dx;
        mlp_back(decoder, device, a, i, pick ? a->rows : tokens, &d);

        bif_tensor dqkv = bif_tensor2(a->wide.data, BIF_DTYPE_F32, tokens, w);
        bif_tensor dattn = bif_tensor2((float *)a->wide.data + tokens * w, BIF_DTYPE_F32, tokens, q);
        const bif_tensor x = of_layer(a, &a->x, true, i, tokens), rstd1 = of_layer(a, &a->rstd1, true, i, tokens);
        const bif_tensor qkv = of_layer(a, &a->qkv, true, i, tokens), attn = of_layer(a, &a->attn, true, i, tokens);
        const bif_tensor lse = of_layer(a, &a->lse, true, i, tokens),
                         normed1 = of_layer(a, &a->normed1, a->inputs, i, tokens);
        bif_linear_backward(device, &(bif_linear_backward_args){.x = pick ? &a->picked_attn : &attn,
                                                                .w = &p->o_w->value,
                                                                .dy = &d,
                                                                .dx = pick ? &a->dpicked_attn : &dattn,
                                                                .dw = bif_grad(p->o_w),
                                                                .db = p->o_b != NULL ? bif_grad(p->o_b) : NULL});
        if (pick) { /* the rows nobody reads have no gradient */
            device->zero(device, dattn.data, bif_bytes(&dattn));
            device->zero(device, a->dx.data, bif_bytes(&a->dx));
            bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &a->dpicked_attn, .index = rows, .dst = &dattn});
            bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &d, .index = rows, .dst = &a->dx});
        }
        bif_attention_backward(device, &(bif_attention_backward_args){.qkv = &qkv,
                                                                      .cu_seqlens = cu_seqlens,
                                                                      .out = &attn,
                                                                      .lse = &lse,
                                                                      .dout = &dattn,
                                                                      .heads = config->heads,
                                                                      .kv_heads = config->kv_heads,
                                                                      .head_dim = config->head_dim,
                                                                      .causal = true,
                                                                      .scale = 1.0f / sqrtf((float)config->head_dim),
                                                                      .dqkv = &dqkv});
        rotate_back(decoder, device, a, i, pos, &dqkv);
        const bif_tensor qkv_w = bif_params_fused_value(p->qkv_w, 3);
        bif_tensor dqkv_w = bif_params_fused_grad(p->qkv_w, 3);
        bif_tensor dqkv_b = p->qkv_b != NULL ? bif_params_fused_grad(p->qkv_b, 3) : (bif_tensor){0};
        const bool dnorm = below || p->norm1->grad.data != NULL;
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &normed1,
                                                                .w = &qkv_w,
                                                                .dy = &dqkv,
                                                                .dx = dnorm ? &a->dnormed : NULL,
                                                                .dw = bif_wanted(&dqkv_w),
                                                                .db = bif_wanted(&dqkv_b)});
        if (dnorm) {
            bif_rmsnorm_backward(device, &(bif_rmsnorm_backward_args){.x = &x,
                                                                      .weight = &p->norm1->value,
                                                                      .rstd = &rstd1,
                                                                      .dy = &a->dnormed,
                                                                      .dres = &a->dx,
                                                                      .dx = below ? &a->dx : NULL,
                                                                      .dweight = bif_grad(p->norm1)});
        }
    }
}
