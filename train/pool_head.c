#include <math.h>

#include "train/networks.h"
#include "train/rows.h"

void bif_pool_head_declare(bif_params *params, const bif_vit_config *config, const char *prefix)
{
    const int64_t c = config->hidden, f = config->inner;
    const float across = sqrtf(6.0f / (float)(c + f));
    char name[sizeof params->items->name], base[sizeof name];
    snprintf(base, sizeof base, "%shead.", prefix);
    snprintf(name, sizeof name, "%shead.probe", prefix);
    bif_params_add(params, name, BIF_GROUP_ENCODER, 3, (const int64_t[]){1, 1, c}, false, BIF_INIT_UNIFORM, sqrtf(6.0f / (2.0f * (float)c)));
    bif_declare(params, BIF_GROUP_ENCODER, base, "attention.in_proj_weight", false, 3 * c, c, true, BIF_INIT_UNIFORM,
                sqrtf(6.0f / (4.0f * (float)c)));
    bif_declare(params, BIF_GROUP_ENCODER, base, "attention.in_proj_bias", false, 3 * c, 0, false, BIF_INIT_ZERO, 0);
    bif_declare(params, BIF_GROUP_ENCODER, base, "attention.out_proj.weight", false, c, c, true, BIF_INIT_NORMAL, 1.0f / sqrtf((float)c));
    bif_declare(params, BIF_GROUP_ENCODER, base, "attention.out_proj.bias", false, c, 0, false, BIF_INIT_ZERO, 0);
    bif_declare(params, BIF_GROUP_ENCODER, base, "layernorm.weight", false, c, 0, false, BIF_INIT_ONE, 0);
    bif_declare(params, BIF_GROUP_ENCODER, base, "layernorm.bias", false, c, 0, false, BIF_INIT_ZERO, 0);
    bif_declare(params, BIF_GROUP_ENCODER, base, "mlp.fc1.weight", false, f, c, true, BIF_INIT_UNIFORM, across);
    bif_declare(params, BIF_GROUP_ENCODER, base, "mlp.fc1.bias", false, f, 0, false, BIF_INIT_NORMAL, 1e-6f);
    bif_declare(params, BIF_GROUP_ENCODER, base, "mlp.fc2.weight", false, c, f, true, BIF_INIT_UNIFORM, across);
    bif_declare(params, BIF_GROUP_ENCODER, base, "mlp.fc2.bias", false, c, 0, false, BIF_INIT_NORMAL, 1e-6f);
}

void bif_pool_head_bind(bif_pool_head *head, const bif_params *params, const bif_vit_config *config, const char *prefix)
{
    char base[sizeof params->items->name];
    snprintf(base, sizeof base, "%shead.", prefix);
    *head = (bif_pool_head){.hidden = config->hidden,
                            .heads = config->heads,
                            .inner = config->inner,
                            .eps = config->eps,
                            .act = config->act,
                            .probe = bif_row(params, base, "probe"),
                            .in_w = bif_row(params, base, "attention.in_proj_weight"),
                            .in_b = bif_row(params, base, "attention.in_proj_bias"),
                            .out_w = bif_row(params, base, "attention.out_proj.weight"),
                            .out_b = bif_row(params, base, "attention.out_proj.bias"),
                            .norm_w = bif_row(params, base, "layernorm.weight"),
                            .norm_b = bif_row(params, base, "layernorm.bias"),
                            .fc1_w = bif_row(params, base, "mlp.fc1.weight"),
                            .fc1_b = bif_row(params, base, "mlp.fc1.bias"),
                            .fc2_w = bif_row(params, base, "mlp.fc2.weight"),
                            .fc2_b = bif_row(params, base, "mlp.fc2.bias")};
}

bool bif_pool_head_trains(const bif_pool_head *head)
{
    const bif_param *const rows[] = {head->probe,  head->in_w,  head->in_b,  head->out_w, head->out_b, head->norm_w,
                                     head->norm_b, head->fc1_w, head->fc1_b, head->fc2_w, head->fc2_b};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i]->trainable) {
            return true;
        }
    }
    return false;
}

bif_pool_head_acts bif_pool_head_plan(const bif_pool_head *head, bif_arena *arena, bif_dtype dtype, int64_t rows, int64_t images, bool keep)
{
    const int64_t c = head->hidden, f = head->inner, kept = keep ? images : 0;
    return (bif_pool_head_acts){.keep = keep,
                                .probe = bif_take2(arena, dtype, images, c),
                                .q = bif_take2(arena, dtype, images, c),
                                .kv = bif_take2(arena, dtype, rows, 2 * c),
                                .attn = bif_take2(arena, dtype, images, c),
                                .lse = bif_take2(arena, BIF_DTYPE_F32, kept, head->heads),
                                .h = bif_take2(arena, dtype, images, c),
                                .mean = bif_take1(arena, BIF_DTYPE_F32, kept),
                                .rstd = bif_take1(arena, BIF_DTYPE_F32, kept),
                                .normed = bif_take2(arena, dtype, images, c),
                                .pre = bif_take2(arena, dtype, kept, f),
                                .act = bif_take2(arena, dtype, images, f),
                                .output = bif_take2(arena, dtype, images, c),
                                .dpre = bif_take2(arena, dtype, kept, f),
                                .dh = bif_take2(arena, dtype, kept, c),
                                .dnormed = bif_take2(arena, dtype, kept, c),
                                .dq = bif_take2(arena, dtype, kept, c)};
}

/* in_proj is q | k | v; q is made of the probe, k and v of the rows. */
static bif_tensor query_part(const bif_pool_head *head, const bif_tensor *in_proj)
{
    return bif_rows(in_proj, 0, head->hidden);
}

static bif_tensor key_value_part(const bif_pool_head *head, const bif_tensor *in_proj)
{
    return bif_rows(in_proj, head->hidden, 2 * head->hidden);
}

static bif_tensor probe_row(const bif_tensor *probe)
{
    return bif_tensor2(probe->data, probe->dtype, 1, probe->dim[2]);
}

void bif_pool_head_forward(const bif_pool_head *head, bif_device *device, bif_pool_head_acts *a, const bif_inputs *in, const bif_tensor *x)
{
    const bif_tensor table = probe_row(&head->probe->value), q_w = query_part(head, &head->in_w->value),
                     q_b = query_part(head, &head->in_b->value), kv_w = key_value_part(head, &head->in_w->value),
                     kv_b = key_value_part(head, &head->in_b->value);
    const int64_t head_dim = head->hidden / head->heads;
    bif_embedding(device, &(bif_embedding_args){.table = &table, .ids = &in->probe_ids, .y = &a->probe});
    bif_linear(device, &(bif_linear_args){.x = &a->probe, .w = &q_w, .b = &q_b, .y = &a->q});
    bif_linear(device, &(bif_linear_args){.x = x, .w = &kv_w, .b = &kv_b, .y = &a->kv});
    bif_pool_attention(device, &(bif_pool_attention_args){.q = &a->q,
                                                          .kv = &a->kv,
                                                          .cu_seqlens = &in->image_bounds.host,
                                                          .bounds = bif_on_device(&in->image_bounds),
                                                          .heads = head->heads,
                                                          .head_dim = head_dim,
                                                          .scale = 1.0f / sqrtf((float)head_dim),
                                                          .out = &a->attn,
                                                          .lse = a->keep ? &a->lse : NULL});
    bif_linear(device, &(bif_linear_args){.x = &a->attn, .w = &head->out_w->value, .b = &head->out_b->value, .y = &a->h});
    bif_layernorm(device, &(bif_layernorm_args){.x = &a->h,
                                                .weight = &head->norm_w->value,
                                                .bias = &head->norm_b->value,
                                                .eps = head->eps,
                                                .y = &a->normed,
                                                .mean = a->keep ? &a->mean : NULL,
                                                .rstd = a->keep ? &a->rstd : NULL});
    bif_linear(device, &(bif_linear_args){.x = &a->normed,
                                          .w = &head->fc1_w->value,
                                          .b = &head->fc1_b->value,
                                          .act = head->act,
                                          .pre = a->keep ? &a->pre : NULL,
                                          .y = &a->act});
    bif_linear(device, &(bif_linear_args){
                           .x = &a->act, .w = &head->fc2_w->value, .b = &head->fc2_b->value, .residual = &a->h, .y = &a->output});
}

void bif_pool_head_backward(const bif_pool_head *head, bif_device *device, bif_pool_head_acts *a, const bif_inputs *in, const bif_tensor *x,
                            const bif_tensor *dpooled, bif_tensor *dkv, bif_tensor *dx)
{
    const bif_tensor q_w = query_part(head, &head->in_w->value), kv_w = key_value_part(head, &head->in_w->value);
    const bool trains = head->in_w->grad.data != NULL, bias = head->in_b->grad.data != NULL, probe = head->probe->grad.data != NULL;
    const int64_t head_dim = head->hidden / head->heads;
    bif_linear_backward(device, &(bif_linear_backward_args){.x = &a->act,
                                                            .w = &head->fc2_w->value,
                                                            .dy = dpooled,
                                                            .dx_pre = &a->pre,
                                                            .dx_act = head->act,
                                                            .dx = &a->dpre,
                                                            .dw = bif_grad(head->fc2_w),
                                                            .db = bif_grad(head->fc2_b)});
    bif_linear_backward(device, &(bif_linear_backward_args){.x = &a->normed,
                                                            .w = &head->fc1_w->value,
                                                            .dy = &a->dpre,
                                                            .dx = &a->dnormed,
                                                            .dw = bif_grad(head->fc1_w),
                                                            .db = bif_grad(head->fc1_b)});
    bif_layernorm_backward(device, &(bif_layernorm_backward_args){.x = &a->h,
                                                                  .weight = &head->norm_w->value,
                                                                  .mean = &a->mean,
                                                                  .rstd = &a->rstd,
                                                                  .dy = &a->dnormed,
                                                                  .dres = dpooled,
                                                                  .dx = &a->dh,
                                                                  .dweight = bif_grad(head->norm_w),
                                                                  .dbias = bif_grad(head->norm_b)});
    bif_tensor dattn = a->dnormed; /* what lay there was used */
    bif_linear_backward(device, &(bif_linear_backward_args){.x = &a->attn,
                                                            .w = &head->out_w->value,
                                                            .dy = &a->dh,
                                                            .dx = &dattn,
                                                            .dw = bif_grad(head->out_w),
                                                            .db = bif_grad(head->out_b)});
    bif_pool_attention_backward(device, &(bif_pool_attention_backward_args){.q = &a->q,
                                                                            .kv = &a->kv,
                                                                            .cu_seqlens = &in->image_bounds.host,
                                                                            .bounds = bif_on_device(&in->image_bounds),
                                                                            .out = &a->attn,
                                                                            .lse = &a->lse,
                                                                            .dout = &dattn,
                                                                            .heads = head->heads,
                                                                            .head_dim = head_dim,
                                                                            .scale = 1.0f / sqrtf((float)head_dim),
                                                                            .dq = &a->dq,
                                                                            .dkv = dkv});
    bif_tensor dq_w = {0}, dq_b = {0}, dkv_w = {0}, dkv_b = {0}, dprobe = a->dh;
    if (trains) {
        dq_w = query_part(head, &head->in_w->grad);
        dkv_w = key_value_part(head, &head->in_w->grad);
    }
    if (bias) {
        dq_b = query_part(head, &head->in_b->grad);
        dkv_b = key_value_part(head, &head->in_b->grad);
    }
    bif_linear_backward(device, &(bif_linear_backward_args){.x = &a->probe,
                                                            .w = &q_w,
                                                            .dy = &a->dq,
                                                            .dx = probe ? &dprobe : NULL,
                                                            .dw = bif_wanted(&dq_w),
                                                            .db = bif_wanted(&dq_b)});
    if (probe) {
        bif_tensor dtable = probe_row(&head->probe->grad);
        bif_embedding_backward(device, &(bif_embedding_backward_args){.ids = &in->probe_ids, .dy = &dprobe, .dtable = &dtable});
    }
    bif_linear_backward(device, &(bif_linear_backward_args){
                                    .x = x, .w = &kv_w, .dy = dkv, .dx = dx, .dw = bif_wanted(&dkv_w), .db = bif_wanted(&dkv_b)});
    if (bias) { /* of the keys: zero in mathematics, as in the blocks */
        const bif_tensor dk_b = bif_rows(&dkv_b, 0, head->hidden);
        device->zero(device, dk_b.data, bif_bytes(&dk_b));
    }
}
