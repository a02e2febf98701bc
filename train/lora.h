/* Low-rank adapters beside the linear layers of the decoder (LoRA, Hu et al. 2021; names, scale and initial values as in PEFT). Table
 * rows of a target, behind the other rows of its block: `<block>self_attn.q_proj.lora_A.weight` [r, in], `.lora_B.weight` [out, r].
 *
 * Nothing of an adapter is kept for the backward: it makes drop(x) and drop(x) A^T again, a product of r columns. */
#pragma once
#include "train/networks.h"

const char *bif_lora_name(bif_lora_target target); /* "q_proj", ... */
/* By that name, or -1. */
int bif_lora_by_name(const char *name);

/* The rows of one block, whose names begin with `base`. */
void bif_lora_declare(bif_params *params, const bif_decoder_config *config, const char *base);
void bif_lora_bind(bif_lora *lora, const bif_params *params, const bif_decoder_config *config, const char *base);
bool bif_lora_trains(const bif_lora *lora); /* any of the block's */
/* The first row of the block's adapters, or NULL. */
const bif_param *bif_lora_first(const bif_lora *lora);
/* Whether the backward reads this target's x. */
static inline bool bif_lora_wants(const bif_lora *lora, bif_lora_target target)
{
    return lora[target].a != NULL && (lora[target].a->trainable || lora[target].b->trainable);
}
/* Scratch for T tokens; `keep` = a backward follows. */
bif_lora_acts bif_lora_plan(const bif_decoder_config *config, bif_dtype dtype, bif_arena *arena, int64_t tokens, bool keep);

/* One adapter of a block at work. */
typedef struct {
    const bif_decoder_config *config;
    bif_device *device;
    const bif_lora *lora;  /* of the block */
    bif_lora_acts *acts;
    const bif_tensor *places; /* of x's rows, NULL = no dropout */
    int64_t layer;
} bif_lora_at;
/* y[:, first .. first + out) += alpha/r * drop(x) A^T B^T; nothing when the target has no adapter. x [R, in], y [R, W]. */
void bif_lora_forward(const bif_lora_at *at, bif_lora_target target, const bif_tensor *x, bif_tensor *y, int64_t first);
/* dy [R, W], of which columns first .. first + out count; dx [R, in] or NULL += the gradient through the adapter. Adds to the gradients
 * of A and B where they train. */
void bif_lora_backward(const bif_lora_at *at, bif_lora_target target, const bif_tensor *x, const bif_tensor *dy, int64_t first,
                       bif_tensor *dx);
