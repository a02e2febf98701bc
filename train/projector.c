#include <inttypes.h>
#include <math.h>

#include "train/networks.h"
#include "train/rows.h"

static void layer_name(char *out, size_t size, int64_t index, const char *what)
{
    snprintf(out, size, "linear_%" PRId64 ".%s", index + 1, what);
}

void bif_projector_declare(bif_params *params, const bif_projector_config *config, const char *prefix)
{
    BIF_BUG_IF(config->depth < 1 || config->depth > BIF_PROJECTOR_DEPTH, "a projector of %" PRId64 " layers",
               config->depth);
    for (int64_t i = 0; i < config->depth; i++) {
        const int64_t in = i == 0 ? config->in : config->out;
        const float bound = 1.0f / sqrtf((float)in);
        char name[64];
        layer_name(name, sizeof name, i, "weight");
        bif_declare(params, BIF_GROUP_PROJECTOR, prefix, name, false, config->out, in, true, BIF_INIT_UNIFORM, bound);
        layer_name(name, sizeof name, i, "bias");
        bif_declare(params, BIF_GROUP_PROJECTOR, prefix, name, false, config->out, 0, false, BIF_INIT_UNIFORM, bound);
    }
}

void bif_projector_bind(bif_projector *projector, const bif_params *params, const bif_projector_config *config,
                        const char *prefix)
{
    *projector = (bif_projector){.config = *config};
    for (int64_t i = 0; i < config->depth; i++) {
        char name[64];
        layer_name(name, sizeof name, i, "weight");
        projector->w[i] = bif_row(params, prefix, name);
        layer_name(name, sizeof name, i, "bias");
        projector->b[i] = bif_row(params, prefix, name);
    }
}

bool bif_projector_trains(const bif_projector *projector)
{
    for (int64_t i = 0; i < projector->config.depth; i++) {
        if (projector->w[i]->trainable || projector->b[i]->trainable) {
            return true;
        }
    }
    return false;
}

bif_projector_acts bif_projector_plan(const bif_projector *projector, bif_arena *arena, int64_t rows, bool keep)
{
    const bif_dtype dtype = projector->w[0]->value.dtype;
    const int64_t c = projector->config.out, depth = projector->config.depth;
    bif_projector_acts a = {.keep = keep};
    for (int64_t i = 0; i < depth; i++) {
        a.pre[i] = bif_take2(arena, dtype, keep && i + 1 < depth ? rows : 0, c);
        a.y[i] = bif_take2(arena, dtype, rows, c);
    }
    for (int i = 0; i < 2; i++) {
        a.dpre[i] = bif_take2(arena, dtype, keep && depth > 1 + i ? rows : 0, c);
    }
    return a;
}

void bif_projector_forward(const bif_projector *projector, bif_device *device, bif_projector_acts *a,
                           const bif_tensor *x, bif_tensor *y)
{
    const int64_t depth = projector->config.depth;
    a->x = *x;
    for (int64_t i = 0; i < depth; i++) {
        const bool last = i + 1 == depth;
        bif_linear(device, &(bif_linear_args){.x = i == 0 ? x : &a->y[i - 1],
                                              .w = &projector->w[i]->value,
                                              .b = &projector->b[i]->value,
                                              .act = last ? BIF_ACT_NONE : BIF_ACT_GELU,
                                              .pre = a->keep && !last ? &a->pre[i] : NULL,
                                              .y = &a->y[i]});
    }
    *y = a->y[depth - 1];
}

void bif_projector_backward(const bif_projector *projector, bif_device *device, bif_projector_acts *a,
                            const bif_tensor *dy, bif_tensor *dx)
{
    bif_tensor d = *dy;
    for (int64_t i = projector->config.depth - 1; i >= 0; i--) {
        bif_tensor *to = i == 0 ? dx : &a->dpre[(i - 1) & 1];
        if (to == NULL && projector->w[i]->grad.data == NULL && projector->b[i]->grad.data == NULL) {
            return;
        }
        bif_linear_backward(device, &(bif_linear_backward_args){.x = i == 0 ? &a->x : &a->y[i - 1],
                                                                .w = &projector->w[i]->value,
                                                                .dy = &d,
                                                                .dx_pre = i == 0 ? NULL : &a->pre[i - 1],
                                                                .dx_act = i == 0 ? BIF_ACT_NONE : BIF_ACT_GELU,
                                                                .dx = to,
                                                                .dw = bif_grad(projector->w[i]),
                                                                .db = bif_grad(projector->b[i])});
        if (i > 0) {
            d = *to;
        }
    }
}
