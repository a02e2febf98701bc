#include "train/block_clip.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "train/rows.h"

static void block_prefix(char *out, size_t size, const char *prefix, int64_t index)
{
    snprintf(out, size, "%sencoder.layers.%" PRId64 ".", prefix, index);
}

/* Two published rules. Vision: what torch.nn gives (xavier-uniform of the fused [3C, C], uniform 1/sqrt(fan_in)
 * elsewhere). Text: normals whose spread falls with depth, C^-0.5 (2L)^-0.5 where a branch joins the residual stream.
 * MLP biases are torch's in both, because CLIP's own rule touches weights only; attention biases are zero in both. */
void bif_clip_block_declare(bif_params *params, bif_group group, const char *prefix, int64_t index, int64_t layers,
                            int64_t hidden, int64_t inner, bif_clip_init init)
{
    char base[128];
    block_prefix(base, sizeof base, prefix, index);
    const float c = (float)hidden;
    const bool scaled = init == BIF_CLIP_INIT_SCALED;
    const bif_init draw = scaled ? BIF_INIT_NORMAL : BIF_INIT_UNIFORM;
    const float join = 1.0f / sqrtf(c) / sqrtf(2.0f * (float)layers);
    const float in = scaled ? 1.0f / sqrtf(c) : sqrtf(6.0f / (4.0f * c));
    const float out = scaled ? join : 1.0f / sqrtf(c);
    const float fc1 = scaled ? 1.0f / sqrtf(2.0f * c) : 1.0f / sqrtf(c);
    const float fc2 = scaled ? join : 1.0f / sqrtf((float)inner);
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
    bif_declare(params, group, base, "mlp.fc1.bias", false, inner, 0, false, BIF_INIT_UNIFORM, 1.0f / sqrtf(c));
    bif_declare(params, group, base, "mlp.fc2.weight", false, hidden, inner, true, draw, fc2);
    bif_declare(params, group, base, "mlp.fc2.bias", false, hidden, 0, false, BIF_INIT_UNIFORM,
                1.0f / sqrtf((float)inner));
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

bif_clip_stack_acts bif_clip_stack_plan(const bif_clip_stack *stack, bif_arena *arena, int64_t tokens, int64_t picked,
                                        bool keep)
{
    BIF_BUG_IF(picked >= 0 && stack->layers == 0, "a stack without blocks cannot pick rows");
    const int64_t c = stack->hidden, f = stack->inner;
    const bool pick = picked >= 0;
    const int64_t rows = pick ? picked : tokens;
    const int64_t all = keep ? stack->layers * tokens : tokens; /* every layer, T rows each */
    const int64_t tail = keep && stack->layers > 0 ? (stack->layers - 1) * tokens + rows : tokens; /* the last has R */
    bif_clip_stack_acts a = {.tokens = tokens, .rows = rows, .keep = keep, .pick = pick};
    a.x = bif_take2(arena, BIF_DTYPE_F32, keep ? all + rows : all, c);
    a.mean1 = bif_take1(arena, BIF_DTYPE_F32, keep ? all : 0);
    a.rstd1 = bif_take1(arena, BIF_DTYPE_F32, keep ? all : 0);
    a.normed1 = bif_take2(arena, BIF_DTYPE_F32, all, c);
    a.qkv = bif_take2(arena, BIF_DTYPE_F32, all, 3 * c);
    a.attn = bif_take2(arena, BIF_DTYPE_F32, all, c);
    a.lse = bif_take2(arena, BIF_DTYPE_F32, keep ? all : 0, stack->heads);
    a.picked_attn = bif_take2(arena, BIF_DTYPE_F32, pick ? rows : 0, c);
    a.picked_x = bif_take2(arena, BIF_DTYPE_F32, pick && !keep ? rows : 0, c);
    a.h = keep ? bif_take2(arena, BIF_DTYPE_F32, tail, c) : a.x;
    a.mean2 = bif_take1(arena, BIF_DTYPE_F32, keep ? tail : 0);
    a.rstd2 = bif_take1(arena, BIF_DTYPE_F32, keep ? tail : 0);
    a.normed2 = bif_take2(arena, BIF_DTYPE_F32, tail, c);
    a.pre = bif_take2(arena, BIF_DTYPE_F32, keep ? tail : 0, f);
    a.act = bif_take2(arena, BIF_DTYPE_F32, tail, f);
    if (keep) {
        a.dx = bif_take2(arena, BIF_DTYPE_F32, tokens, c);
        a.dpicked = bif_take2(arena, BIF_DTYPE_F32, pick ? rows : 0, c);
        a.dnormed = bif_take2(arena, BIF_DTYPE_F32, tokens, c);
        a.wide = bif_take2(arena, BIF_DTYPE_F32, tokens, f > 4 * c ? f : 4 * c);
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
    return bif_rows(t, a->keep ? i * a->tokens : 0, rows);
}

static bif_tensor *if_kept(const bif_clip_stack_acts *a, bif_tensor *t)
{
    return a->keep ? t : NULL;
}

bif_tensor bif_clip_stack_forward(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *a,
                                  const bif_tensor *cu_seqlens, const bif_tensor *rows)
{
    const int64_t tokens = a->tokens, head_dim = stack->hidden / stack->heads;
    bif_tensor x = bif_clip_stack_input(a);
    for (int64_t i = 0; i < stack->layers; i++) {
        const bif_clip_layer *p = &stack->layer[i];
        const bool pick = a->pick && i == stack->layers - 1;
        const int64_t r = pick ? a->rows : tokens;
        const bif_tensor qkv_w = bif_params_fused_value(p->qkv_w, 3), qkv_b = bif_params_fused_value(p->qkv_b, 3);
        bif_tensor mean1 = of_layer(a, &a->mean1, i, a->keep ? tokens : 0),
                   rstd1 = of_layer(a, &a->rstd1, i, a->keep ? tokens : 0);
        bif_tensor normed1 = of_layer(a, &a->normed1, i, tokens), qkv = of_layer(a, &a->qkv, i, tokens);
        bif_tensor attn = of_layer(a, &a->attn, i, tokens), lse = of_layer(a, &a->lse, i, a->keep ? tokens : 0);
        bif_layernorm(device, &(bif_layernorm_args){.x = &x,
                                                    .weight = &p->norm1_w->value,
                                                    .bias = &p->norm1_b->value,
                                                    .eps = stack->eps,
                                                    .y = &normed1,
                                                    .mean = if_kept(a, &mean1),
                                                    .rstd = if_kept(a, &rstd1)});
        bif_linear(device, &(bif_linear_args){.x = &normed1, .w = &qkv_w, .b = &qkv_b, .y = &qkv});
        bif_attention(device, &(bif_attention_args){.qkv = &qkv,
                                                    .cu_seqlens = cu_seqlens,
                                                    .heads = stack->heads,
                                                    .kv_heads = stack->heads,
                                                    .head_dim = head_dim,
                                                    .causal = stack->causal,
                                                    .scale = 1.0f / sqrtf((float)head_dim),
                                                    .out = &attn,
                                                    .lse = if_kept(a, &lse)});
        bif_tensor h = !a->keep && pick ? a->picked_x : of_layer(a, &a->h, i, r);
        const bif_tensor *residual = &x, *joined = &attn;
        if (pick) {
            bif_gather_rows(device, &(bif_gather_rows_args){.src = &x, .index = rows, .dst = &h});
            bif_gather_rows(device, &(bif_gather_rows_args){.src = &attn, .index = rows, .dst = &a->picked_attn});
            residual = &h;
            joined = &a->picked_attn;
        }
        bif_linear(device,
                   &(bif_linear_args){
                       .x = joined, .w = &p->out_w->value, .b = &p->out_b->value, .residual = residual, .y = &h});
        bif_tensor mean2 = of_layer(a, &a->mean2, i, a->keep ? r : 0),
                   rstd2 = of_layer(a, &a->rstd2, i, a->keep ? r : 0);
        bif_tensor normed2 = of_layer(a, &a->normed2, i, r), pre = of_layer(a, &a->pre, i, a->keep ? r : 0);
        bif_tensor act = of_layer(a, &a->act, i, r), next = a->keep ? bif_rows(&a->x, (i + 1) * tokens, r) : h;
        bif_layernorm(device, &(bif_layernorm_args){.x = &h,
                                                    .weight = &p->norm2_w->value,
                                                    .bias = &p->norm2_b->value,
                                                    .eps = stack->eps,
                                                    .y = &normed2,
                                                    .mean = if_kept(a, &mean2),
                                                    .rstd = if_kept(a, &rstd2)});
        bif_linear(device, &(bif_linear_args){.x = &normed2,
                                              .w = &p->fc1_w->value,
                                              .b = &p->fc1_b->value,
                                              .act = stack->act,
                                              .pre = if_kept(a, &pre),
                                              .y = &act});
        bif_linear(device, &(bif_linear_args){
                               .x = &act, .w = &p->fc2_w->value, .b = &p->fc2_b->value, .residual = &h, .y = &next});
        x = next;
    }
    return x;
}

bif_tensor bif_clip_stack_doutput(const bif_clip_stack_acts *acts)
{
    return acts->pick ? acts->dpicked : acts->dx;
}

bif_tensor bif_clip_stack_backward(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *a,
                                   const bif_tensor *cu_seqlens, const bif_tensor *rows, bool need_input)
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
        bif_tensor dpre = bif_tensor2(a->wide.data, BIF_DTYPE_F32, r, stack->inner);
        const bif_tensor x = of_layer(a, &a->x, i, tokens), h = of_layer(a, &a->h, i, r);
        const bif_tensor pre = of_layer(a, &a->pre, i, r), act = of_layer(a, &a->act, i, r);
        const bif_tensor normed2 = of_layer(a, &a->normed2, i, r), mean2 = of_layer(a, &a->mean2, i, r);
        const bif_tensor rstd2 = of_layer(a, &a->rstd2, i, r);
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &act,
                                                                .w = &p->fc2_w->value,
                                                                .dy = &d,
                                                                .dx_pre = &pre,
                                                                .dx_act = stack->act,
                                                                .dx = &dpre,
                                                                .dw = bif_grad(p->fc2_w),
                                                                .db = bif_grad(p->fc2_b)});
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
        bif_tensor dqkv = bif_tensor2(a->wide.data, BIF_DTYPE_F32, tokens, 3 * c);
        bif_tensor dattn = bif_tensor2((float *)a->wide.data + tokens * 3 * c, BIF_DTYPE_F32, tokens, c);
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
                                                                      .cu_seqlens = cu_seqlens,
                                                                      .out = &attn,
                                                                      .lse = &lse,
                                                                      .dout = &dattn,
                                                                      .heads = stack->heads,
                                                                      .kv_heads = stack->heads,
                                                                      .head_dim = head_dim,
                                                                      .causal = stack->causal,
                                                                      .scale = 1.0f / sqrtf((float)head_dim),
                                                                      .dqkv = &dqkv});
        const bif_tensor qkv_w = bif_params_fused_value(p->qkv_w, 3), normed1 = of_layer(a, &a->normed1, i, tokens);
        bif_tensor dqkv_w = bif_params_fused_grad(p->qkv_w, 3), dqkv_b = bif_params_fused_grad(p->qkv_b, 3);
        const bool dnorm = below || p->norm1_w->grad.data != NULL || p->norm1_b->grad.data != NULL;
        bif_linear_backward(device, &(bif_linear_backward_args){.x = &normed1,
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
    }
    return a->dx;
}
