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
