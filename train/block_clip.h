/* The pre-LN transformer block of CLIP (x += attention(LN x); x += MLP(LN x)), a stack of them: the vision and the text
 * tower share it.
 *
 * A stack may be asked to finish only some rows: `rows` picks the rows of the last block's attention that go on through
 * its output projection and MLP (the pooled rows of a tower), because nobody reads the others.
 *
 * T tokens, R picked rows, C width, F inner width, H heads. */
#pragma once
#include "kernels/ops.h"
#include "train/inputs.h"
#include "train/params.h"

/* qkv_w and qkv_b are the first of three fused rows of the table. */
typedef struct {
    bif_param *norm1_w, *norm1_b, *qkv_w, *qkv_b, *out_w, *out_b, *norm2_w, *norm2_b, *fc1_w, *fc1_b, *fc2_w, *fc2_b;
} bif_clip_layer;

typedef struct {
    int64_t layers; /* blocks computed */
    int64_t hidden, heads, inner;
    float eps;
    bif_act act;
    bool causal;
    bif_clip_layer *layer; /* [layers], owned */
} bif_clip_stack;

/* How new blocks are drawn: PyTorch's defaults (vision), CLIP's scaled normals (text), or as SigLIP's are. */
typedef enum { BIF_CLIP_INIT_TORCH = 0, BIF_CLIP_INIT_SCALED = 1, BIF_CLIP_INIT_SIGLIP = 2 } bif_clip_init;

/* Adds block `index` of `layers` under prefix + "encoder.layers.<index>.". */
void bif_clip_block_declare(bif_params *params, bif_group group, const char *prefix, int64_t index, int64_t layers,
                            int64_t hidden, int64_t inner, bif_clip_init init);
/* Takes the rows of the first stack->layers blocks; the other numbers of the stack are set by the caller. */
void bif_clip_stack_bind(bif_clip_stack *stack, const bif_params *params, const char *prefix);
void bif_clip_stack_unbind(bif_clip_stack *stack);
bool bif_clip_stack_trains(const bif_clip_stack *stack);

/* Activations. x holds the input of every block when anything is kept. Tensors marked * hold every layer ([layers * T, ..]) with
 * BIF_KEEP_LAYERS, 6C + 2F elements a token and layer in all; else one that all layers share. What a norm gives is made again when needed. */
typedef struct {
    int64_t tokens, rows; /* T, R (= T when nothing is picked) */
    bool keep, every, pick;
    bif_tensor x;                               /* input of each block; then the output [R,C] */
    bif_tensor mean1, rstd1, qkv, attn, lse;    /* * */
    bif_tensor normed;                          /* [T,C], of the norm that ran last */
    bif_tensor picked_attn, picked_x;           /* [R,C] when pick; picked_x only when nothing is kept */
    bif_tensor h, mean2, rstd2, pre, act;       /* *; h is x when nothing is kept */
    bif_tensor dx, dpicked, dnormed, wide;      /* [T,C], [R,C], [T,C], [T, max(F, 4C)]: only for a backward */
} bif_clip_stack_acts;

/* picked = R, or -1 for all rows. dtype of the activations: that of the parameters. */
bif_clip_stack_acts bif_clip_stack_plan(const bif_clip_stack *stack, bif_arena *arena, bif_dtype dtype, int64_t tokens, int64_t picked,
                                        bif_keep keep);
/* The first hidden state [T,C], filled by the caller. */
bif_tensor bif_clip_stack_input(const bif_clip_stack_acts *acts);
/* rows i32 [R] or NULL; gives a view of the output [R,C]. */
bif_tensor bif_clip_stack_forward(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *acts,
                                  const bif_bounds *bounds, const bif_tensor *rows);
/* Where the caller puts the gradient of the output [R,C]. */
bif_tensor bif_clip_stack_doutput(const bif_clip_stack_acts *acts);
/* Back to the input, whose gradient [T,C] is returned (meaningless unless need_input). One backward a forward. */
bif_tensor bif_clip_stack_backward(const bif_clip_stack *stack, bif_device *device, bif_clip_stack_acts *acts,
                                   const bif_bounds *bounds, const bif_tensor *rows, bool need_input);
