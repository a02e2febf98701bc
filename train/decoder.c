#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "train/lora.h"
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
        bif_lora_declare(params, config, base);
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
        bif_lora_bind(p->lora, params, config, base);
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
    return bif_lora_trains(p->lora);
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

bif_dtype bif_decoder_dtype(const bif_decoder *decoder)
{
    return decoder->embed->value.dtype;
}

bif_decoder_acts bif_decoder_plan(const bif_decoder *decoder, bif_arena *arena, int64_t tokens, int64_t picked, bif_keep keep)
{
    const bif_decoder_config *config = &decoder->config;
    const bif_dtype dtype = bif_decoder_dtype(decoder);
    const int64_t c = config->hidden, f = config->inner, w = packed_width(config), q = config->heads * config->head_dim;
    const int64_t layers = config->layers;
    BIF_BUG_IF(layers < 1, "a decoder without blocks");
    const bool pick = picked >= 0, kept = keep != BIF_KEEP_NOTHING, every = keep == BIF_KEEP_LAYERS;
    const int64_t rows = pick ? picked : tokens;
    const int64_t all = every ? layers * tokens : tokens, tail = every ? (layers - 1) * tokens + rows : tokens;
    const int64_t normed = kept && config->qk_norm ? all : 0;
    bif_decoder_acts a = {.tokens = tokens, .rows = rows, .keep = kept, .every = every, .pick = pick};
    a.x = bif_take2(arena, dtype, kept ? layers * tokens + rows : tokens, c);
    a.rstd1 = bif_take1(arena, BIF_DTYPE_F32, kept ? all : 0);
    a.normed = bif_take2(arena, dtype, tokens, c);
    a.qkv_pre = bif_take2(arena, dtype, normed, w);
    a.q_rstd = bif_take2(arena, BIF_DTYPE_F32, normed, config->heads);
    a.k_rstd = bif_take2(arena, BIF_DTYPE_F32, normed, config->kv_heads);
    a.qkv = bif_take2(arena, dtype, all, w);
    a.attn = bif_take2(arena, dtype, all, q);
    a.lse = bif_take2(arena, BIF_DTYPE_F32, kept ? all : 0, config->heads);
    a.picked_attn = bif_take2(arena, dtype, pick ? rows : 0, q);
    a.picked_x = bif_take2(arena, dtype, pick && !kept ? rows : 0, c);
    a.h = kept ? bif_take2(arena, dtype, tail, c) : a.x;
    a.rstd2 = bif_take1(arena, BIF_DTYPE_F32, kept ? tail : 0);
    a.gate_up = bif_take2(arena, dtype, tail, 2 * f);
    a.act = bif_take2(arena, dtype, tokens, f);
    a.final = bif_take2(arena, dtype, rows, c);
    a.final_rstd = bif_take1(arena, BIF_DTYPE_F32, kept ? rows : 0);
    if (kept) {
        a.dx = bif_take2(arena, dtype, tokens, c);
        a.dpicked = bif_take2(arena, dtype, pick ? rows : 0, c);
        a.dpicked_attn = bif_take2(arena, dtype, pick ? rows : 0, q);
        a.dnormed = bif_take2(arena, dtype, tokens, c);
        a.wide = bif_take2(arena, dtype, tokens, f > w + q ? f : w + q);
    }
    a.lora = bif_lora_plan(config, dtype, arena, tokens, kept);
    return a;
}

bif_tensor bif_decoder_input(const bif_decoder_acts *acts)
{
    return bif_rows(&acts->x, 0, acts->tokens);
}

/* Rows of layer i in a tensor marked *. */
static bif_tensor of_layer(const bif_decoder_acts *a, const bif_tensor *t, int64_t i, int64_t rows)
{
    return bif_rows(t, a->every ? i * a->tokens : 0, rows);
}

/* The input of layer i, or its output when it is one past the last. */
static bif_tensor input_of(const bif_decoder_acts *a, int64_t i, int64_t rows)
{
    return bif_rows(&a->x, a->keep ? i * a->tokens : 0, rows);
}

/* q/k norm and rotation of the packed rows. With keep the un-normed rows stay in qkv_pre for the backward. */
static void rotate(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, int64_t i,
                   const bif_tensor *pos, bif_tensor *qkv)
{
    const bif_decoder_config *config = &decoder->config;
    const bif_decoder_layer *p = &decoder->layer[i];
    if (config->qk_norm) {
        const int64_t kept = a->keep ? a->tokens : 0;
        bif_tensor pre = of_layer(a, &a->qkv_pre, i, kept);
        bif_tensor q_rstd = of_layer(a, &a->q_rstd, i, kept), k_rstd = of_layer(a, &a->k_rstd, i, kept);
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
                                      .theta = config->rope_theta,
                                      .scaling = config->rope});
}

static void norm1(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, int64_t i, const bif_tensor *x)
{
    bif_tensor rstd = of_layer(a, &a->rstd1, i, a->keep ? a->tokens : 0);
    bif_rmsnorm(device, &(bif_rmsnorm_args){.x = x,
                                            .weight = &decoder->layer[i].norm1->value,
                                            .eps = decoder->config.eps,
                                            .y = &a->normed,
                                            .rstd = a->keep ? &rstd : NULL});
}

static void norm2(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, int64_t i, const bif_tensor *h)
{
    const int64_t r = h->dim[0];
    bif_tensor rstd = of_layer(a, &a->rstd2, i, a->keep ? r : 0), normed = bif_rows(&a->normed, 0, r);
    bif_rmsnorm(device, &(bif_rmsnorm_args){.x = h,
                                            .weight = &decoder->layer[i].norm2->value,
                                            .eps = decoder->config.eps,
                                            .y = &normed,
                                            .rstd = a->keep ? &rstd : NULL});
}

/* The adapters of block i, which read all rows or the picked ones. */
static bif_lora_at adapters(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, int64_t i, bool picked)
{
    const bif_tensor *places = picked ? &a->lora.picked_places : &a->lora.places;
    return (bif_lora_at){.config = &decoder->config,
                         .device = device,
                         .lora = decoder->layer[i].lora,
                         .acts = &a->lora,
                         .places = a->keep && places->data != NULL ? places : NULL,
                         .layer = i};
}

/* Block i up to gate and up; h is where the residual stream stands then. */
static void layer_forward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, const bif_tensor *pos,
                          const bif_bounds *bounds, const bif_tensor *rows, bif_kv_cache *cache, int64_t i, const bif_tensor *x, bif_tensor *h)
{
    const bif_decoder_config *config = &decoder->config;
    const bif_decoder_layer *p = &decoder->layer[i];
    const int64_t tokens = a->tokens;
    const bool pick = a->pick && i == config->layers - 1;
    const int64_t r = pick ? a->rows : tokens;
    bif_tensor qkv = of_layer(a, &a->qkv, i, tokens), attn = of_layer(a, &a->attn, i, tokens);
    bif_tensor lse = of_layer(a, &a->lse, i, a->keep ? tokens : 0);
    const bif_tensor qkv_w = bif_params_fused_value(p->qkv_w, 3);
    const bif_tensor qkv_b = p->qkv_b != NULL ? bif_params_fused_value(p->qkv_b, 3) : qkv_w;
    bif_tensor pre = config->qk_norm && a->keep ? of_layer(a, &a->qkv_pre, i, tokens) : qkv;
    norm1(decoder, device, a, i, x);
    bif_linear(device, &(bif_linear_args){.x = &a->normed, .w = &qkv_w, .b = p->qkv_b != NULL ? &qkv_b : NULL, .y = &pre});
    const bif_lora_at all = adapters(decoder, device, a, i, false), picked = adapters(decoder, device, a, i, pick);
    const int64_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
    bif_lora_forward(&all, BIF_LORA_Q, &a->normed, &pre, 0);
    bif_lora_forward(&all, BIF_LORA_K, &a->normed, &pre, q);
    bif_lora_forward(&all, BIF_LORA_V, &a->normed, &pre, q + kv);
    rotate(decoder, device, a, i, pos, &qkv);
    if (cache != NULL) {
        bif_kv_cache_fill(decoder, device, cache, i, &qkv);
    }
    bif_attention(device, &(bif_attention_args){.qkv = &qkv,
                                                .cu_seqlens = &bounds->host,
                                                .bounds = bif_on_device(bounds),
                                                .heads = config->heads,
                                                .kv_heads = config->kv_heads,
                                                .head_dim = config->head_dim,
                                                .causal = true,
                                                .scale = 1.0f / sqrtf((float)config->head_dim),
                                                .out = &attn,
                                                .lse = a->keep ? &lse : NULL});
    *h = !a->keep && pick ? a->picked_x : of_layer(a, &a->h, i, r);
    const bif_tensor *residual = x, *joined = &attn;
    if (pick) {
        bif_gather_rows(device, &(bif_gather_rows_args){.src = x, .index = rows, .dst = h});
        bif_gather_rows(device, &(bif_gather_rows_args){.src = &attn, .index = rows, .dst = &a->picked_attn});
        residual = h;
        joined = &a->picked_attn;
    }
    bif_linear(device, &(bif_linear_args){.x = joined,
                                          .w = &p->o_w->value,
                                          .b = p->o_b != NULL ? &p->o_b->value : NULL,
                                          .residual = residual,
                                          .y = h});
    bif_lora_forward(&picked, BIF_LORA_O, joined, h, 0);
    const bif_tensor gate_up_w = bif_params_fused_value(p->gate_up, 2), normed = bif_rows(&a->normed, 0, r);
    bif_tensor gate_up = of_layer(a, &a->gate_up, i, r);
    norm2(decoder, device, a, i, h);
    bif_linear(device, &(bif_linear_args){.x = &normed, .w = &gate_up_w, .y = &gate_up});
    bif_lora_forward(&picked, BIF_LORA_GATE, &normed, &gate_up, 0);
    bif_lora_forward(&picked, BIF_LORA_UP, &normed, &gate_up, config->inner);
}

void bif_decoder_forward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, const bif_tensor *pos,
                         const bif_bounds *bounds, const bif_tensor *rows, bif_kv_cache *cache, bif_tensor *hidden)
{
    bif_tensor x = bif_decoder_input(a), h;
    for (int64_t i = 0; i < decoder->config.layers; i++) {
        layer_forward(decoder, device, a, pos, bounds, rows, cache, i, &x, &h);
        const int64_t r = h.dim[0];
        const bif_tensor gate_up = of_layer(a, &a->gate_up, i, r);
        bif_tensor act = bif_rows(&a->act, 0, r), next = a->keep ? input_of(a, i + 1, r) : h;
        bif_swiglu(device, &(bif_swiglu_args){.gu = &gate_up, .y = &act});
        bif_linear(device, &(bif_linear_args){.x = &act, .w = &decoder->layer[i].down->value, .residual = &h, .y = &next});
        const bif_lora_at picked = adapters(decoder, device, a, i, a->pick && i == decoder->config.layers - 1);
        bif_lora_forward(&picked, BIF_LORA_DOWN, &act, &next, 0);
        x = next;
    }
    bif_rmsnorm(device, &(bif_rmsnorm_args){.x = &x,
                                            .weight = &decoder->norm->value,
                                            .eps = decoder->config.eps,
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
                                      .scaling = config->rope,
                                      .inverse = true});
    if (config->qk_norm) {
        const bif_tensor pre = of_layer(a, &a->qkv_pre, i, a->tokens);
        const bif_tensor q_rstd = of_layer(a, &a->q_rstd, i, a->tokens),
                         k_rstd = of_layer(a, &a->k_rstd, i, a->tokens);
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

/* The MLP half of layer i on its rows: d becomes the gradient of h. */
static void mlp_back(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, int64_t i, const bif_lora_at *lora, bif_tensor *d)
{
    const int64_t r = d->dim[0];
    const bif_decoder_layer *p = &decoder->layer[i];
    bif_tensor gate_up = of_layer(a, &a->gate_up, i, r), act = bif_rows(&a->act, 0, r), dnormed = bif_rows(&a->dnormed, 0, r);
    bif_tensor dact = bif_part2(&a->wide, 0, r, decoder->config.inner);
    const bif_tensor normed = bif_rows(&a->normed, 0, r), h = of_layer(a, &a->h, i, r);
    const bif_tensor rstd2 = of_layer(a, &a->rstd2, i, r), gate_up_w = bif_params_fused_value(p->gate_up, 2);
    bif_tensor dgate_up_w = bif_params_fused_grad(p->gate_up, 2);
    if (p->down->grad.data != NULL || bif_lora_wants(p->lora, BIF_LORA_DOWN)) {
        /* cheaper to make again than to keep: F floats a token and layer */
        bif_swiglu(device, &(bif_swiglu_args){.gu = &gate_up, .y = &act});
    }
    bif_linear_backward(device, &(bif_linear_backward_args){
                                    .x = &act, .w = &p->down->value, .dy = d, .dx = &dact, .dw = bif_grad(p->down)});
    bif_lora_backward(lora, BIF_LORA_DOWN, &act, d, 0, &dact);
    bif_swiglu_backward(device, &(bif_swiglu_backward_args){.gu = &gate_up, .dy = &dact, .dgu = &gate_up});
    if (dgate_up_w.data != NULL || bif_lora_wants(p->lora, BIF_LORA_GATE) || bif_lora_wants(p->lora, BIF_LORA_UP)) {
        /* likewise C floats, and so for norm1 */
        norm2(decoder, device, a, i, &h);
    }
    bif_linear_backward(
        device, &(bif_linear_backward_args){
                    .x = &normed, .w = &gate_up_w, .dy = &gate_up, .dx = &dnormed, .dw = bif_wanted(&dgate_up_w)});
    bif_lora_backward(lora, BIF_LORA_GATE, &normed, &gate_up, 0, &dnormed);
    bif_lora_backward(lora, BIF_LORA_UP, &normed, &gate_up, decoder->config.inner, &dnormed);
    bif_rmsnorm_backward(device, &(bif_rmsnorm_backward_args){.x = &h,
                                                              .weight = &p->norm2->value,
                                                              .rstd = &rstd2,
                                                              .dy = &dnormed,
                                                              .dres = d,
                                                              .dx = d,
                                                              .dweight = bif_grad(p->norm2)});
}

void bif_decoder_backward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, const bif_tensor *pos,
                          const bif_bounds *bounds, const bif_tensor *rows, bool need_input, bif_tensor *dinput)
{
    const bif_decoder_config *config = &decoder->config;
    const int64_t tokens = a->tokens, layers = config->layers, q = config->heads * config->head_dim,
                  kv = config->kv_heads * config->head_dim, w = packed_width(config);
    int64_t lowest = 0; /* the first block somebody needs */
    while (!need_input && lowest < layers && !layer_trains(&decoder->layer[lowest])) {
        lowest++;
    }
    *dinput = a->dx;
    if (lowest < layers || decoder->norm->trainable) {
        bif_tensor d = bif_decoder_dhidden(a);
        const bif_tensor x = input_of(a, layers, a->rows);
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
        bif_tensor d = pick ? a->dpicked : a->dx, h;
        const bif_tensor x = input_of(a, i, tokens);
        if (!a->every && i < layers - 1) {
            layer_forward(decoder, device, a, pos, bounds, rows, NULL, i, &x, &h);
        }
        const bif_lora_at all = adapters(decoder, device, a, i, false), picked = adapters(decoder, device, a, i, pick);
        mlp_back(decoder, device, a, i, &picked, &d);

        bif_tensor dqkv = bif_part2(&a->wide, 0, tokens, w), dattn = bif_part2(&a->wide, tokens * w, tokens, q);
        const bif_tensor rstd1 = of_layer(a, &a->rstd1, i, tokens), qkv = of_layer(a, &a->qkv, i, tokens);
        const bif_tensor attn = of_layer(a, &a->attn, i, tokens), lse = of_layer(a, &a->lse, i, tokens);
        bif_linear_backward(device, &(bif_linear_backward_args){.x = pick ? &a->picked_attn : &attn,
                                                                .w = &p->o_w->value,
                                                                .dy = &d,
                                                                .dx = pick ? &a->dpicked_attn : &dattn,
                                                                .dw = bif_grad(p->o_w),
                                                                .db = p->o_b != NULL ? bif_grad(p->o_b) : NULL});
        bif_lora_backward(&picked, BIF_LORA_O, pick ? &a->picked_attn : &attn, &d, 0, pick ? &a->dpicked_attn : &dattn);
        if (pick) { /* the rows nobody reads have no gradient */
            device->zero(device, dattn.data, bif_bytes(&dattn));
            device->zero(device, a->dx.data, bif_bytes(&a->dx));
            bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &a->dpicked_attn, .index = rows, .dst = &dattn});
            bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &d, .index = rows, .dst = &a->dx});
        }
        bif_attention_backward(device, &(bif_attention_backward_args){.qkv = &qkv,
                                                                      .cu_seqlens = &bounds->host,
                                                                      .bounds = bif_on_device(bounds),
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
        if (dqkv_w.data != NULL || bif_lora_wants(p->lora, BIF_LORA_Q) || bif_lora_wants(p->lora, BIF_LORA_K) ||
            bif_lora_wants(p->lora, BIF_LORA_V)) {
            norm1(decoder, device, a, i, &x);
        }
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &a->normed,
                                                                .w = &qkv_w,
                                                                .dy = &dqkv,
                                                                .dx = dnorm ? &a->dnormed : NULL,
                                                                .dw = bif_wanted(&dqkv_w),
                                                                .db = bif_wanted(&dqkv_b)});
        bif_lora_backward(&all, BIF_LORA_Q, &a->normed, &dqkv, 0, dnorm ? &a->dnormed : NULL);
        bif_lora_backward(&all, BIF_LORA_K, &a->normed, &dqkv, q, dnorm ? &a->dnormed : NULL);
        bif_lora_backward(&all, BIF_LORA_V, &a->normed, &dqkv, q + kv, dnorm ? &a->dnormed : NULL);
        if (dnorm) {
            bif_rmsnorm_backward(device, &(bif_rmsnorm_backward_args){.x = &x,
                                                                      .weight = &p->norm1->value,
                                                                      .rstd = &rstd1,
                                                                      .dy = &a->dnormed,
                                                                      .dres = &a->dx,
                                                                      .dx = below ? &a->dx : NULL,
                                                                      .dweight = bif_grad(p->norm1)});
        }
        const bif_param *adapter = bif_lora_first(p->lora); /* behind the block's other rows */
        bif_params_reached(p->qkv_w->trainable || adapter == NULL ? p->qkv_w : adapter);
    }
}
