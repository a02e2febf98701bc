#include "train/lora.h"

#include <math.h>
#include <string.h>

#include "train/rows.h"

static const struct {
    const char *name, *path;
} targets[BIF_LORA_TARGETS] = {
    [BIF_LORA_Q] = {"q_proj", "self_attn.q_proj"},   [BIF_LORA_K] = {"k_proj", "self_attn.k_proj"},
    [BIF_LORA_V] = {"v_proj", "self_attn.v_proj"},   [BIF_LORA_O] = {"o_proj", "self_attn.o_proj"},
    [BIF_LORA_GATE] = {"gate_proj", "mlp.gate_proj"}, [BIF_LORA_UP] = {"up_proj", "mlp.up_proj"},
    [BIF_LORA_DOWN] = {"down_proj", "mlp.down_proj"},
};

const char *bif_lora_name(bif_lora_target target)
{
    return targets[target].name;
}

int bif_lora_by_name(const char *name)
{
    for (int i = 0; i < BIF_LORA_TARGETS; i++) {
        if (strcmp(targets[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool has(const bif_decoder_config *config, int target)
{
    return config->lora.rank > 0 && (config->lora.targets >> target & 1u) != 0;
}

static void shape_of(const bif_decoder_config *config, int target, int64_t *in, int64_t *out)
{
    const int64_t c = config->hidden, f = config->inner, q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
    *in = target == BIF_LORA_O ? q : target == BIF_LORA_DOWN ? f : c;
    *out = target == BIF_LORA_Q                                ? q
           : target == BIF_LORA_K || target == BIF_LORA_V      ? kv
           : target == BIF_LORA_GATE || target == BIF_LORA_UP ? f
                                                               : c;
}

void bif_lora_declare(bif_params *params, const bif_decoder_config *config, const char *base)
{
    const int64_t r = config->lora.rank;
    for (int i = 0; i < BIF_LORA_TARGETS; i++) {
        int64_t in = 0, out = 0;
        char path[160];
        if (!has(config, i)) {
            continue;
        }
        shape_of(config, i, &in, &out);
        snprintf(path, sizeof path, "%s%s.", base, targets[i].path);
        bif_declare(params, BIF_GROUP_LORA, path, "lora_A.weight", false, r, in, true, BIF_INIT_UNIFORM, 1.0f / sqrtf((float)in));
        bif_declare(params, BIF_GROUP_LORA, path, "lora_B.weight", false, out, r, true, BIF_INIT_ZERO, 0);
    }
}

void bif_lora_bind(bif_lora *lora, const bif_params *params, const bif_decoder_config *config, const char *base)
{
    for (int i = 0; i < BIF_LORA_TARGETS; i++) {
        char path[160];
        lora[i] = (bif_lora){0};
        if (has(config, i)) {
            snprintf(path, sizeof path, "%s%s.", base, targets[i].path);
            lora[i] = (bif_lora){bif_row(params, path, "lora_A.weight"), bif_row(params, path, "lora_B.weight")};
        }
    }
}

bool bif_lora_trains(const bif_lora *lora)
{
    bool trains = false;
    for (int i = 0; i < BIF_LORA_TARGETS; i++) {
        trains = trains || bif_lora_wants(lora, (bif_lora_target)i);
    }
    return trains;
}

const bif_param *bif_lora_first(const bif_lora *lora)
{
    for (int i = 0; i < BIF_LORA_TARGETS; i++) {
        if (lora[i].a != NULL) {
            return lora[i].a;
        }
    }
    return NULL;
}

bif_lora_acts bif_lora_plan(const bif_decoder_config *config, bif_dtype dtype, bif_arena *arena, int64_t tokens, bool keep)
{
    bif_lora_acts a = {0};
    int64_t widest_in = 0, widest_part = 0;
    for (int i = 0; i < BIF_LORA_TARGETS; i++) {
        int64_t in = 0, out = 0;
        if (!has(config, i)) {
            continue;
        }
        shape_of(config, i, &in, &out);
        widest_in = in > widest_in ? in : widest_in;
        widest_part = i != BIF_LORA_O && i != BIF_LORA_DOWN && out > widest_part ? out : widest_part; /* those two are rows of their own */
    }
    if (config->lora.rank > 0) {
        a.z = bif_take2(arena, dtype, tokens, config->lora.rank);
        a.part = bif_take2(arena, dtype, tokens, widest_part);
        a.dz = bif_take2(arena, dtype, keep ? tokens : 0, config->lora.rank);
        a.dropped = bif_take2(arena, dtype, keep && config->lora.dropout > 0.0f ? tokens : 0, widest_in);
    }
    return a;
}

/* y = (add or 0) + drop(x). Each target of each layer draws a mask of its own. */
static void drop(const bif_lora_at *at, bif_lora_target target, const bif_tensor *x, const bif_tensor *add, bif_tensor *y)
{
    const uint64_t number = (uint64_t)(at->layer * BIF_LORA_TARGETS + (int)target + 1);
    bif_dropout(at->device, &(bif_dropout_args){.x = x,
                                                .add = add,
                                                .index = at->places,
                                                .seed = at->acts->seed ^ number * 0x9E3779B97F4A7C15u,
                                                .p = (double)at->config->lora.dropout,
                                                .y = y});
}

/* drop(x), which is x without dropout. */
static bif_tensor dropped(const bif_lora_at *at, bif_lora_target target, const bif_tensor *x)
{
    if (at->places == NULL) {
        return *x;
    }
    bif_tensor y = bif_part2(&at->acts->dropped, 0, x->dim[0], x->dim[1]);
    drop(at, target, x, NULL, &y);
    return y;
}

/* z = alpha/r * x A^T: scaled while it is narrow. */
static bif_tensor down_to_rank(const bif_lora_at *at, bif_lora_target target, const bif_tensor *x)
{
    bif_tensor z = bif_rows(&at->acts->z, 0, x->dim[0]);
    bif_linear(at->device, &(bif_linear_args){.x = x, .w = &at->lora[target].a->value, .y = &z});
    bif_scale(at->device, at->config->lora.alpha / (float)at->config->lora.rank, &z);
    return z;
}

void bif_lora_forward(const bif_lora_at *at, bif_lora_target target, const bif_tensor *x, bif_tensor *y, int64_t first)
{
    const bif_lora *lora = &at->lora[target];
    if (lora->a == NULL) {
        return;
    }
    const bif_tensor in = dropped(at, target, x), z = down_to_rank(at, target, &in);
    const int64_t out = lora->b->value.dim[0];
    if (out == y->dim[1]) {
        bif_linear(at->device, &(bif_linear_args){.x = &z, .w = &lora->b->value, .residual = y, .y = y});
        return;
    }
    bif_tensor part = bif_part2(&at->acts->part, 0, x->dim[0], out);
    bif_linear(at->device, &(bif_linear_args){.x = &z, .w = &lora->b->value, .y = &part});
    bif_add_columns(at->device, &(bif_add_columns_args){.part = &part, .first = first, .rows = y});
}

void bif_lora_backward(const bif_lora_at *at, bif_lora_target target, const bif_tensor *x, const bif_tensor *dy, int64_t first,
                       bif_tensor *dx)
{
    const bif_lora *lora = &at->lora[target];
    bif_device *device = at->device;
    if (lora->a == NULL || (dx == NULL && !bif_lora_wants(at->lora, target))) {
        return;
    }
    const int64_t rows = dy->dim[0], out = lora->b->value.dim[0];
    bif_tensor part = *dy, dz = bif_rows(&at->acts->dz, 0, rows);
    if (out != dy->dim[1]) {
        part = bif_part2(&at->acts->part, 0, rows, out);
        bif_take_columns(device, &(bif_take_columns_args){.rows = dy, .first = first, .part = &part});
    }
    bif_tensor in = {0}, z = {0};
    if (bif_lora_wants(at->lora, target)) {
        in = dropped(at, target, x);
        z = down_to_rank(at, target, &in);
    }
    bif_linear_backward(device, &(bif_linear_backward_args){
                                    .x = &z, .w = &lora->b->value, .dy = &part, .dx = &dz, .dw = bif_grad(lora->b)});
    bif_scale(device, at->config->lora.alpha / (float)at->config->lora.rank, &dz);
    if (at->places == NULL) {
        bif_linear_backward(device, &(bif_linear_backward_args){
                                        .x = &in, .w = &lora->a->value, .dy = &dz, .dx = dx, .dx_add = dx, .dw = bif_grad(lora->a)});
        return;
    }
    bif_linear_backward(device, &(bif_linear_backward_args){.x = &in, .w = &lora->a->value, .dy = &dz, .dw = bif_grad(lora->a)});
    if (dx != NULL) { /* of drop(x), in its place; then of x */
        bif_tensor din = bif_part2(&at->acts->dropped, 0, rows, dx->dim[1]);
        bif_linear_backward(device, &(bif_linear_backward_args){.w = &lora->a->value, .dy = &dz, .dx = &din});
        drop(at, target, &din, dx, dx);
    }
}
