/* Small things every network needs of its table rows and of a batch. */
#pragma once
#include <stdio.h>

#include "train/params.h"

/* The gradient of a row, or NULL when it is frozen: what an op takes as "not wanted". */
static inline bif_tensor *bif_grad(bif_param *param)
{
    return param->grad.data != NULL ? &param->grad : NULL;
}

/* The same of a fused view. */
static inline bif_tensor *bif_wanted(bif_tensor *grad)
{
    return grad->data != NULL ? grad : NULL;
}

/* The row prefix + tail, which must exist. */
static inline bif_param *bif_row(const bif_params *params, const char *prefix, const char *tail)
{
    char name[sizeof params->items->name];
    const int length = snprintf(name, sizeof name, "%s%s", prefix, tail);
    BIF_BUG_IF(length < 0 || (size_t)length >= sizeof name, "parameter name %s%s is too long", prefix, tail);
    bif_param *row = bif_params_find(params, name);
    BIF_BUG_IF(row == NULL, "the table has no %s", name);
    return row;
}

/* Adds prefix + tail with one or two dimensions (d1 = 0: one). */
static inline bif_param *bif_declare(bif_params *params, bif_group group, const char *prefix, const char *tail,
                                     bool fused, int64_t d0, int64_t d1, bool decay, bif_init init, float scale)
{
    char name[sizeof params->items->name];
    const int length = snprintf(name, sizeof name, "%s%s", prefix, tail);
    BIF_BUG_IF(length < 0 || (size_t)length >= sizeof name, "parameter name %s%s is too long", prefix, tail);
    const int64_t dims[2] = {d0, d1};
    const int rank = d1 == 0 ? 1 : 2;
    return fused ? bif_params_add_fused(params, name, group, rank, dims, decay, init, scale)
                 : bif_params_add(params, name, group, rank, dims, decay, init, scale);
}
