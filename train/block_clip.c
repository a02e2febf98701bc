#include "train/block_clip.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "train/rows.h"

static void block_prefix(char *out, size_t size, const char *prefix, int64_t index)
{
    snprintf(out, size, "%sencoder.layers.%" PRId64 ".", prefix, index);
}

/* Three published rules. SigLIP: xavier-uniform of each matrix; biases zero, those of the MLP 1e-6 wide. Vision: what torch.nn gives (xavier-uniform of the fused [3C, C], uniform 1/sqrt(fan_in)
 * elsewhere). Text: normals whose spread falls with depth, C^-0.5 (2L)^-0.5 where a branch joins the residual stream.
 * MLP biases are torch's in both, because CLIP's own rule touches weights only; attention biases are zero in both. */
void bif_clip_block_declare(bif_params *params, bif_group group, const char *prefix, int64_t index, int64_t layers,
                            int64_t hidden, int64_t inner, bif_clip_init init)
{
    char base[128];
    block_prefix(base, sizeof base, prefix, index);
    const float c = (float)hidden;
    const bool scaled = init == BIF_CLIP_INIT_SCALED, siglip = init == BIF_CLIP_INIT_SIGLIP;
    const bif_init draw = scaled ? BIF_INIT_NORMAL : BIF_INIT_UNIFORM;
    const float join = 1.0f / sqrtf(c) / sqrtf(2.0f * (float)layers);
    const float square = sqrtf(6.0f / (2.0f * c)), across = sqrtf(6.0f / (c + (float)inner)); /* xavier */
    const float in = siglip ? square : scaled ? 1.0f / sqrtf(c) : sqrtf(6.0f / (4.0f * c));
    const float out = siglip ? square : scaled ? join : 1.0f / sqrtf(c);
    const float fc1 = siglip ? across : scaled ? 1.0f / sqrtf(2.0f * c) : 1.0f / sqrtf(c);
    const float fc2 = siglip ? across : scaled ? join : 1.0f / sqrtf((float)inner);
    const bif_init mlp = siglip ? BIF_INIT_NORMAL : BIF_INIT_UNIFORM;
    bif_declare(params, group, base, "self_attn.q_proj.weight", false, hidden, hidden, true, draw, in);
    bif_declare(params, group, base, "self_attn.k_proj.weight", true, hidden, hidden, true, draw, in);
    bif_declare(params, group, base, "self_attn.v_proj.weight", true, hidden, hidden, true, draw, in);
    bif_declare(params, group, base, "self_attn.q_proj.bias", false, hidden, 0, false, BIF_INIT_ZERO, 0);
    bif_declare(params, group, base, "self_attn.k_proj.bias", true, hidden, 0, false, BIF_INIT_ZERO, 0);
    bif_declare(params, group, base, "self_attn.v_proj.bias", true, hidden, 0, false, BIF_INIT_ZERO, 0);
    bif_declare(params, group, base, "self_attn.out_proj.weight", false, hidden, hidden, true, draw, out);
    bif_declare(params, group, base, "self_attn.out_proj.bias", false, hidden, 0, false, BIF_INIT_ZERO, 0);
    bif_declare(params, group, base, "layer_norm1.weight", false, hidden, 0, false, BIF_INIT_ONE, 0);
    bif_declare(params, group, base, "layer_norm1.bias", false, hidden, 0, false, BIF_INIT_ZERO, 0);
    bif_declare(params, group, base, "mlp.fc1.weight", false, inner, hidden, true, draw, fc1);
    bif_declare(params, group, base, "mlp.fc1.bias", false, inner, 0, false, mlp, siglip ? 1e-6f : 1.0f / sqrtf(c));
    bif_declare(params, group, base, "mlp.fc2.weight", false, hidden, inner, true, draw, fc2);
    bif_declare(params, group, base, "mlp.fc2.bias", false, hidden, 0, false, mlp, siglip ? 1e-6f : 1.0f / sqrtf((float)inner));
    bif_declare(params, group, base, "layer_norm2.weight", false, hidden, 0, false, BIF_INIT_ONE, 0);
    bif_declare(params, group, base, "layer_norm2.bias", false, hidden, 0, false, BIF_INIT_ZERO, 0);
}

void bif_clip_stack_bind(bif_clip_stack *stack, const bif_params *params, const char *prefix)
{
    stack->layer = bif_calloc((size_t)stack->layers + 1, sizeof *stack->layer);
    for (int64_t i = 0; i < stack->layers; i++) {
        char base[128];
        block_prefix(base, sizeof base, prefix, i);
        stack->layer[i] = (bif_clip_layer){
            .norm1_w = bif_row(params, base, "layer_norm1.weight"),
            .norm1_b = bif_row(params, base, "layer_norm1.bias"),
            .qkv_w = bif_row(params, base, "self_attn.q_proj.weight"),
            .qkv_b = bif_row(params, base, "self_attn.q_proj.bias"),
            .out_w = bif_row(params, base, "self_attn.out_proj.weight"),
            .out_b = bif_row(params, base, "self_attn.out_proj.bias"),
            .norm2_w = bif_row(params, base, "layer_norm2.weight"),
            .norm2_b = bif_row(params, base, "layer_norm2.bias"),
            .fc1_w = bif_row(params, base, "mlp.fc1.weight"),
            .fc1_b = bif_row(params, base, "mlp.fc1.bias"),
            .fc2_w = bif_row(params, base, "mlp.fc2.weight"),
            .fc2_b = bif_row(params, base, "mlp.fc2.bias"),
        };
    }
}

void bif_clip_stack_unbind(bif_clip_stack *stack)
{
    free(stack->layer);
    stack->layer = NULL;
}

static bool layer_trains(const bif_clip_layer *p)
{
    const bif_param *const rows[] = {p->norm1_w, p->norm1_b, p->qkv_w, p->qkv_b, p->out_w, p->out_b,
                                     p->norm2_w, p->norm2_b, p->fc1_w, p->fc1_b, p->fc2_w, p->fc2_b};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i]->trainable) {
            return true;
        }
    }
    return false;
}

bool bif_clip_stack_trains(const bif_clip_stack *stack)
{
    for (int64_t i = 0; i < stack->layers; i++) {
        if (layer_trains(&stack->layer[i])) {
            return true;
        }
    }
    return false;
}

bif_clip_stack_acts bif_clip_stack_plan(const bif_clip_stack *stack, bif_arena *arena, bif_dtype dtype, int64_t tokens, int64_t picked,
                                        bif_keep keep)
{
    BIF_BUG_IF(picked >= 0 && stack->layers == 0, "a stack without blocks cannot pick rows");
    const int64_t c = stack->hidden, f = stack->inner;
    const bool pick = picked >= 0, kept = keep != BIF_KEEP_NOTHING, every = keep == BIF_KEEP_LAYERS;
    const int64_t rows = pick ? picked : tokens;
    const int64_t inputs = kept ? stack->layers * tokens + rows : tokens; /* T rows a layer, and the output */
    const int64_t all = every ? stack->layers * tokens : tokens;
    const int64_t tail = every && stack->layers > 0 ? (stack->layers - 1) * tokens + rows : tokens; /* the last has R */
    bif_clip_stack_acts a = {.tokens = tokens, .rows = rows, .keep = kept, .every = every, .pick = pick};
    a.x = bif_take2(arena, dtype, inputs, c);
    a.mean1 = bif_take1(arena, BIF_DTYPE_F32, kept ? all : 0);
    a.rstd1 = bif_take1(arena, BIF_DTYPE_F32, kept ? all : 0);
    a.normed = bif_take2(arena, dtype, tokens, c);
    a.qkv = bif_take2(arena, dtype, all, 3 * c);
    a.attn = bif_take2(arena, dtype, all, c);
    a.lse = bif_take2(arena, BIF_DTYPE_F32, kept ? all : 0, stack->heads);
    a.picked_attn = bif_take2(arena, dtype, pick ? rows : 0, c);
    a.picked_x = bif_take2(arena, dtype, pick && !kept ? rows : 0, c);
    a.h = kept ? bif_take2(arena, dtype, tail, c) : a.x;
    a.mean2 = bif_take1(arena, BIF_DTYPE_F32, kept ? tail : 0);
    a.rstd2 = bif_take1(arena, BIF_DTYPE_F32, kept ? tail : 0);
    a.pre = bif_take2(arena, dtype, kept ? tail : 0, f);
    a.act = bif_take2(arena, dtype, tail, f);
    if (kept) {
        a.dx = bif_take2(arena, dtype, tokens, c);
        a.dpicked = bif_take2(arena, dtype, pick ? rows : 0, c);
        a.dnormed = bif_take2(arena, dtype, tokens, c);
        a.wide = bif_take2(arena, dtype, tokens, f > 4 * c ? f : 4 * c);
    }
    return a;
}

bif_tensor bif_clip_stack_input(const bif_clip_stack_acts *acts)
{
    return bif_rows(&acts->x, 0, acts->tokens);
}

/* Rows of layer i in a tensor marked *. */
static bif_tensor of_layer(const bif_clip_stack_acts *a, const bif_tensor *t, int64_t i, int64_t rows)
{
    return bif_rows(t, a->every ? i * a->tokens : 0, rows);
}

/* The input of layer i, or its output when it is one past the last. */
static bif_tensor input_of(const bif_clip_stack_acts *a, int64_t i, int64_t rows)
{
    return bif_rows(&a->x, a->keep ? i * a->tokens : 0, rows);
}

static bif_tensor *if_kept(const bif_clip_stack_acts *a, bif_tensor *t)
{
    return a->keep ? t : NULL;
}

static void norm1(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *a, int64_t i, const bif_tensor *x)
{
    const bif_clip_layer *p = &stack->layer[i];
    const int64_t kept = a->keep ? a->tokens : 0;
    bif_tensor mean = of_layer(a, &a->mean1, i, kept), rstd = of_layer(a, &a->rstd1, i, kept);
    bif_layernorm(device, &(bif_layernorm_args){.x = x,
                                                .weight = &p->norm1_w->value,
                                                .bias = &p->norm1_b->value,
                                                .eps = stack->eps,
                                                .y = &a->normed,
                                                .mean = if_kept(a, &mean),
                                                .rstd = if_kept(a, &rstd)});
}

static void norm2(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *a, int64_t i, const bif_tensor *h)
{
    const bif_clip_layer *p = &stack->layer[i];
    const int64_t r = h->dim[0], kept = a->keep ? r : 0;
    bif_tensor mean = of_layer(a, &a->mean2, i, kept), rstd = of_layer(a, &a->rstd2, i, kept), normed = bif_rows(&a->normed, 0, r);
    bif_layernorm(device, &(bif_layernorm_args){.x = h,
                                                .weight = &p->norm2_w->value,
                                                .bias = &p->norm2_b->value,
                                                .eps = stack->eps,
                                                .y = &normed,
                                                .mean = if_kept(a, &mean),
                                                .rstd = if_kept(a, &rstd)});
}

/* Block i up to its activation; h is where the residual stream stands then. */
static void layer_forward(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *a, const bif_bounds *bounds,
                          const bif_tensor *rows, int64_t i, const bif_tensor *x, bif_tensor *h, bif_tensor *act)
{
    const bif_clip_layer *p = &stack->layer[i];
    const int64_t tokens = a->tokens, head_dim = stack->hidden / stack->heads;
    const bool pick = a->pick && i == stack->layers - 1;
    const int64_t r = pick ? a->rows : tokens;
    const bif_tensor qkv_w = bif_params_fused_value(p->qkv_w, 3), qkv_b = bif_params_fused_value(p->qkv_b, 3);
    bif_tensor qkv = of_layer(a, &a->qkv, i, tokens), attn = of_layer(a, &a->attn, i, tokens);
    bif_tensor lse = of_layer(a, &a->lse, i, a->keep ? tokens : 0);
    norm1(stack, device, a, i, x);
    bif_linear(device, &(bif_linear_args){.x = &a->normed, .w = &qkv_w, .b = &qkv_b, .y = &qkv});
    bif_attention(device, &(bif_attention_args){.qkv = &qkv,
                                                .cu_seqlens = &bounds->host,
                                                .bounds = bif_on_device(bounds),
                                                .heads = stack->heads,
                                                .kv_heads = stack->heads,
                                                .head_dim = head_dim,
                                                .causal = stack->causal,
                                                .scale = 1.0f / sqrtf((float)head_dim),
                                                .out = &attn,
                                                .lse = if_kept(a, &lse)});
    *h = !a->keep && pick ? a->picked_x : of_layer(a, &a->h, i, r);
    const bif_tensor *residual = x, *joined = &attn;
    if (pick) {
        bif_gather_rows(device, &(bif_gather_rows_args){.src = x, .index = rows, .dst = h});
        bif_gather_rows(device, &(bif_gather_rows_args){.src = &attn, .index = rows, .dst = &a->picked_attn});
        residual = h;
        joined = &a->picked_attn;
    }
    bif_linear(device, &(bif_linear_args){.x = joined, .w = &p->out_w->value, .b = &p->out_b->value, .residual = residual, .y = h});
    bif_tensor pre = of_layer(a, &a->pre, i, a->keep ? r : 0), normed = bif_rows(&a->normed, 0, r);
    *act = of_layer(a, &a->act, i, r);
    norm2(stack, device, a, i, h);
    bif_linear(device, &(bif_linear_args){.x = &normed,
                                          .w = &p->fc1_w->value,
                                          .b = &p->fc1_b->value,
                                          .act = stack->act,
                                          .pre = if_kept(a, &pre),
                                          .y = act});
}

bif_tensor bif_clip_stack_forward(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *a,
                                  const bif_bounds *bounds, const bif_tensor *rows)
{
    bif_tensor x = bif_clip_stack_input(a), h, act;
    for (int64_t i = 0; i < stack->layers; i++) {
        const bif_clip_layer *p = &stack->layer[i];
        layer_forward(stack, device, a, bounds, rows, i, &x, &h, &act);
        bif_tensor next = a->keep ? input_of(a, i + 1, h.dim[0]) : h;
        bif_linear(device, &(bif_linear_args){.x = &act, .w = &p->fc2_w->value, .b = &p->fc2_b->value, .residual = &h, .y = &next});
        x = next;
    }
    return x;
}

bif_tensor bif_clip_stack_doutput(const bif_clip_stack_acts *acts)
{
    return acts->pick ? acts->dpicked : acts->dx;
}

bif_tensor bif_clip_stack_backward(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *a,
                                   const bif_bounds *bounds, const bif_tensor *rows, bool need_input)
{
    const int64_t tokens = a->tokens, c = stack->hidden, head_dim = stack->hidden / stack->heads;
    int64_t lowest = 0; /* the first block somebody needs */
    while (!need_input && lowest < stack->layers && !layer_trains(&stack->layer[lowest])) {
        lowest++;
    }
    for (int64_t i = stack->layers - 1; i >= lowest; i--) {
        const bif_clip_layer *p = &stack->layer[i];
        const bool pick = a->pick && i == stack->layers - 1, below = need_input || i > lowest;
        const int64_t r = pick ? a->rows : tokens;
        bif_tensor d = pick ? a->dpicked : a->dx, dnormed = bif_rows(&a->dnormed, 0, r);
        bif_tensor dpre = bif_part2(&a->wide, 0, r, stack->inner);
        const bif_tensor x = input_of(a, i, tokens);
        bif_tensor h = of_layer(a, &a->h, i, r), act = of_layer(a, &a->act, i, r);
        if (!a->every && i < stack->layers - 1) {
            layer_forward(stack, device, a, bounds, rows, i, &x, &h, &act);
        }
        const bif_tensor pre = of_layer(a, &a->pre, i, r);
        const bif_tensor normed2 = bif_rows(&a->normed, 0, r), mean2 = of_layer(a, &a->mean2, i, r);
        const bif_tensor rstd2 = of_layer(a, &a->rstd2, i, r);
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &act,
                                                                .w = &p->fc2_w->value,
                                                                .dy = &d,
                                                                .dx_pre = &pre,
                                                                .dx_act = stack->act,
                                                                .dx = &dpre,
                                                                .dw = bif_grad(p->fc2_w),
                                                                .db = bif_grad(p->fc2_b)});
        if (a->every && p->fc1_w->grad.data != NULL) { /* cheaper to make again than to keep */
            norm2(stack, device, a, i, &h);
        }
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &normed2,
                                                                .w = &p->fc1_w->value,
                                                                .dy = &dpre,
                                                                .dx = &dnormed,
                                                                .dw = bif_grad(p->fc1_w),
                                                                .db = bif_grad(p->fc1_b)});
        bif_layernorm_backward(device, &(bif_layernorm_backward_args){.x = &h,
                                                                      .weight = &p->norm2_w->value,
                                                                      .mean = &mean2,
                                                                      .rstd = &rstd2,
                                                                      .dy = &dnormed,
                                                                      .dres = &d,
                                                                      .dx = &d,
                                                                      .dweight = bif_grad(p->norm2_w),
                                                                      .dbias = bif_grad(p->norm2_b)});
        bif_tensor dqkv = bif_part2(&a->wide, 0, tokens, 3 * c), dattn = bif_part2(&a->wide, tokens * 3 * c, tokens, c);
        const bif_tensor qkv = of_layer(a, &a->qkv, i, tokens), attn = of_layer(a, &a->attn, i, tokens);
        const bif_tensor lse = of_layer(a, &a->lse, i, tokens);
        bif_linear_backward(device, &(bif_linear_backward_args){.x = pick ? &a->picked_attn : &attn,
                                                                .w = &p->out_w->value,
                                                                .dy = &d,
                                                                .dx = pick ? &dnormed : &dattn,
                                                                .dw = bif_grad(p->out_w),
                                                                .db = bif_grad(p->out_b)});
        if (pick) { /* the rows nobody reads have no gradient */
            device->zero(device, dattn.data, bif_bytes(&dattn));
            device->zero(device, a->dx.data, bif_bytes(&a->dx));
            bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &dnormed, .index = rows, .dst = &dattn});
            bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &d, .index = rows, .dst = &a->dx});
            dnormed = a->dnormed;
        }
        bif_attention_backward(device, &(bif_attention_backward_args){.qkv = &qkv,
                                                                      .cu_seqlens = &bounds->host,
                                                                      .bounds = bif_on_device(bounds),
                                                                      .out = &attn,
                                                                      .lse = &lse,
                                                                      .dout = &dattn,
                                                                      .heads = stack->heads,
                                                                      .kv_heads = stack->heads,
                                                                      .head_dim = head_dim,
                                                                      .causal = stack->causal,
                                                                      .scale = 1.0f / sqrtf((float)head_dim),
                                                                      .dqkv = &dqkv});
        const bif_tensor qkv_w = bif_params_fused_value(p->qkv_w, 3);
        bif_tensor dqkv_w = bif_params_fused_grad(p->qkv_w, 3), dqkv_b = bif_params_fused_grad(p->qkv_b, 3);
        const bool dnorm = below || p->norm1_w->grad.data != NULL || p->norm1_b->grad.data != NULL;
        if (dqkv_w.data != NULL) {
            norm1(stack, device, a, i, &x);
        }
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &a->normed,
                                                                .w = &qkv_w,
                                                                .dy = &dqkv,
                                                                .dx = dnorm ? &dnormed : NULL,
                                                                .dw = bif_wanted(&dqkv_w),
                                                                .db = bif_wanted(&dqkv_b)});
        if (dqkv_b.data != NULL) {
            /* A key bias adds the same number to all scores of a query, so its gradient is zero. What the sum leaves is rounding, which Adam would
             * blow up to steps of the learning rate that differ with the number of ranks. */
            const bif_tensor dk_b = bif_rows(&dqkv_b, dqkv_b.dim[0] / 3, dqkv_b.dim[0] / 3);
            device->zero(device, dk_b.data, bif_bytes(&dk_b));
        }
        if (dnorm) {
            const bif_tensor mean1 = of_layer(a, &a->mean1, i, tokens), rstd1 = of_layer(a, &a->rstd1, i, tokens);
            bif_layernorm_backward(device, &(bif_layernorm_backward_args){.x = &x,
                                                                          .weight = &p->norm1_w->value,
                                                                          .mean = &mean1,
                                                                          .rstd = &rstd1,
                                                                          .dy = &dnormed,
                                                                          .dres = &a->dx,
                                                                          .dx = below ? &a->dx : NULL,
                                                                          .dweight = bif_grad(p->norm1_w),
                                                                          .dbias = bif_grad(p->norm1_b)});
        }
        bif_params_reached(p->qkv_w);
    }
    return a->dx;
}
