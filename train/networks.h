/* The networks, each a short list of calls, forward and backward beside each other. One `declare` adds rows to the
 * table with Hugging Face names behind `prefix`; when all rows are declared, `bind` takes pointers to them (the memory
 * behind them comes with bif_params_allocate). Activations live in an arena: `plan` takes them and returns them by
 * value (also from a measuring arena); with keep = false only what a forward needs is taken, one layer's buffers being
 * reused by the next.
 *
 * Freezing is nothing but trainable = false in the table, hence grad.data == NULL: a plan keeps only what a wanted
 * gradient needs, and a backward goes only as deep as somebody needs. One backward follows one forward; it spends some
 * of the activations.
 *
 * T tokens, n sequences, I images, P patches, C width, R picked rows. */
#pragma once
#include "data/batch.h"
#include "train/block_clip.h"
#include "train/model.h"
#include "train/params.h"

/* ---- pooling head of SigLIP's vision tower (train/pool_head.c) ---- */
/* One learned query attends over all rows of a picture; then x + MLP(LN x). Rows of the table: prefix + "head.*". */
typedef struct {
    int64_t hidden, heads, inner;
    float eps;
    bif_act act;
    bif_param *probe, *in_w, *in_b, *out_w, *out_b, *norm_w, *norm_b, *fc1_w, *fc1_b, *fc2_w, *fc2_b; /* in_*: q | k | v */
} bif_pool_head;
typedef struct {
    bool keep;
    bif_tensor probe, q, kv, attn, lse;        /* [I,C], [I,C], [T,2C], [I,C], f32 [I,H] */
    bif_tensor h, mean, rstd, normed, pre, act; /* [I,C], [I], [I], [I,C], [I,F], [I,F] */
    bif_tensor output;                         /* [I,C] */
    bif_tensor dpre, dh, dnormed, dq;          /* [I,F], [I,C] thrice: only for a backward */
} bif_pool_head_acts;
void bif_pool_head_declare(bif_params *params, const bif_vit_config *config, const char *prefix);
void bif_pool_head_bind(bif_pool_head *head, const bif_params *params, const bif_vit_config *config, const char *prefix);
bool bif_pool_head_trains(const bif_pool_head *head);
bif_pool_head_acts bif_pool_head_plan(const bif_pool_head *head, bif_arena *arena, bif_dtype dtype, int64_t rows, int64_t images,
                                      bool keep);
/* x [T,C] -> acts->output. Of the inputs it reads image_bounds and probe_ids. */
void bif_pool_head_forward(const bif_pool_head *head, bif_device *device, bif_pool_head_acts *acts, const bif_inputs *in,
                           const bif_tensor *x);
/* dkv [T,2C]: room for this pass; dx [T,C] is overwritten. */
void bif_pool_head_backward(const bif_pool_head *head, bif_device *device, bif_pool_head_acts *acts, const bif_inputs *in,
                            const bif_tensor *x, const bif_tensor *dpooled, bif_tensor *dkv, bif_tensor *dx);

/* ---- vision tower of CLIP or SigLIP (train/vit.c) ---- */
typedef struct {
    bif_vit_config config;
    bool pooled; /* a pair: post_layernorm of the class token is computed, or of all rows and the head */
    bif_param *patch, *pos, *post_w, *post_b;
    bif_param *cls, *pre_w, *pre_b; /* CLIP; else NULL */
    bif_param *patch_b;             /* SigLIP; else NULL */
    bif_pool_head head;             /* SigLIP, pooled */
    bif_clip_stack stack; /* the blocks computed; the table still holds all of them, and post_layernorm, so that a
                             checkpoint is complete */
    bif_tensor table; /* [3,256], owned, on table_device */
    bif_device *table_device;
    int64_t kept; /* patches of a picture that go on behind the positions; 0 = all (bif_clip_drop) */
} bif_vit;
typedef struct {
    int64_t images;
    bool keep;
    bif_tensor patches, embedded, x, mean, rstd; /* [I*P, 3pp], [I*P, C], CLIP: [I*(P+1), C] before the norm and its
                                                    statistics; with `kept` x has I*(K+1) rows */
    bif_tensor whole;                            /* with `kept`: [I*P(+1), C] before the patches are dropped, and the gradient of that */
    bif_clip_stack_acts stack;
    bif_tensor output, pooled, post_mean, post_rstd; /* pooled [I, C]; with a head [I*P, C] before it */
    bif_pool_head_acts head;
} bif_vit_acts;
void bif_vit_declare(bif_params *params, const bif_vit_config *config, const char *prefix);
void bif_vit_bind(bif_vit *vit, const bif_params *params, const bif_vit_config *config, const char *prefix,
                  int64_t blocks, bool pooled);
void bif_vit_unbind(bif_vit *vit);
/* What the tower makes of its pictures' bytes: the value of each level of a channel, host f32 [3,256] (bif_preprocess_table). Copied to the
 * device, once in the tower's life, before its first forward. BIF_ERR_MEMORY. */
bif_status bif_vit_set_table(bif_vit *vit, bif_device *device, const float table[3 * 256]);
bool bif_vit_trains(const bif_vit *vit);
bif_vit_acts bif_vit_plan(const bif_vit *vit, bif_arena *arena, int64_t images, bif_keep keep);
/* Of the inputs it reads pixels, kept_rows, image_bounds and class_rows -> pooled [I, C] when vit->pooled, else hidden [I*P(+1), C]; views into
 * acts, the other untouched (may be NULL). */
void bif_vit_forward(const bif_vit *vit, bif_device *device, bif_vit_acts *acts, const bif_inputs *in, bif_tensor *hidden, bif_tensor *pooled);
/* Where the caller puts the gradient of hidden (not pooled). */
bif_tensor bif_vit_dhidden(const bif_vit_acts *acts);
/* dpooled [I, C] when vit->pooled, else NULL. */
void bif_vit_backward(const bif_vit *vit, bif_device *device, bif_vit_acts *acts, const bif_inputs *in, const bif_tensor *dpooled);

/* ---- text tower of CLIP or SigLIP (train/text_tower.c) ---- */
typedef struct {
    bif_text_config config;
    bif_param *token, *pos, *final_w, *final_b;
    bif_clip_stack stack;
} bif_text;
typedef struct {
    bool keep;
    bif_clip_stack_acts stack;
    bif_tensor output, pooled, mean, rstd; /* [n, C], [n] */
} bif_text_acts;
void bif_text_declare(bif_params *params, const bif_text_config *config, const char *prefix);
void bif_text_bind(bif_text *text, const bif_params *params, const bif_text_config *config, const char *prefix);
void bif_text_unbind(bif_text *text);
bool bif_text_trains(const bif_text *text);
bif_text_acts bif_text_plan(const bif_text *text, bif_arena *arena, int64_t tokens, int64_t sequences, bif_keep keep);
/* Of the inputs it reads ids, pos, bounds and eot (the rows that are pooled) -> pooled [n, C], a view into acts. */
void bif_text_forward(const bif_text *text, bif_device *device, bif_text_acts *acts, const bif_inputs *in, bif_tensor *pooled);
void bif_text_backward(const bif_text *text, bif_device *device, bif_text_acts *acts, const bif_inputs *in, const bif_tensor *dpooled);

/* ---- projector (train/projector.c) ---- */
#define BIF_PROJECTOR_DEPTH 8
typedef struct {
    bif_projector_config config;
    bif_param *w[BIF_PROJECTOR_DEPTH], *b[BIF_PROJECTOR_DEPTH];
} bif_projector;
typedef struct {
    bool keep;
    bif_tensor x, pre[BIF_PROJECTOR_DEPTH], y[BIF_PROJECTOR_DEPTH], dpre[2];
} bif_projector_acts;
/* Names: prefix + linear_1, linear_2, ... (weight, bias); init of torch.nn.Linear: U(+-1/sqrt(in)). */
void bif_projector_declare(bif_params *params, const bif_projector_config *config, const char *prefix);
void bif_projector_bind(bif_projector *projector, const bif_params *params, const bif_projector_config *config,
                        const char *prefix);
bool bif_projector_trains(const bif_projector *projector);
bif_projector_acts bif_projector_plan(const bif_projector *projector, bif_arena *arena, int64_t rows, bool keep);
/* x [rows, in] -> y [rows, out] (view into acts). x must stay until the backward. */
void bif_projector_forward(const bif_projector *projector, bif_device *device, bif_projector_acts *acts,
                           const bif_tensor *x, bif_tensor *y);
/* dy [rows, out]; dx [rows, in] or NULL (encoder frozen). */
void bif_projector_backward(const bif_projector *projector, bif_device *device, bif_projector_acts *acts,
                            const bif_tensor *dy, bif_tensor *dx);

/* ---- Llama-family decoder (train/decoder.c, decoder_head.c; its adapters train/lora.c) ---- */
/* A linear layer's adapter; NULL when it has none. */
typedef struct {
    bif_param *a, *b; /* [r, in], [out, r] */
} bif_lora;
/* What adapters compute with; all of them, in turn, use the same memory. */
typedef struct {
    bif_tensor z, dz, part, dropped; /* [T,r], its gradient, [T, out] of packed rows, [T, in] */
    /* Dropout: i32 [T,2] and, of the picked rows, [R,2]: what each row's mask is drawn by (bif_inputs); without data there is
     * none. Set after the plan, by a caller that trains. */
    bif_tensor places, picked_places;
    uint64_t seed;
} bif_lora_acts;
/* qkv_w, qkv_b and gate_up are the first of fused rows (q|k|v, gate|up); what the config lacks is NULL. */
typedef struct {
    bif_param *norm1, *qkv_w, *qkv_b, *q_norm, *k_norm, *o_w, *o_b, *norm2, *gate_up, *down;
    bif_lora lora[BIF_LORA_TARGETS];
} bif_decoder_layer;
typedef struct {
    bif_decoder_config config;
    bif_decoder_layer *layer;       /* [layers], owned */
    bif_param *embed, *norm, *head; /* head is NULL when tied */
} bif_decoder;
/* Activations. x holds the input of every block when anything is kept. Tensors marked * hold every layer with BIF_KEEP_LAYERS, 6C + 2F elements
 * a token and layer in all (with as many key as query heads); else one that all layers share. What a norm or SwiGLU gives is made again. */
typedef struct {
    int64_t tokens, rows; /* T, R (= T when nothing is picked) */
    bool keep, every, pick;
    bif_tensor x;                                        /* input of each block; then the output [R,C] */
    bif_tensor rstd1, qkv_pre, q_rstd, k_rstd, qkv, attn, lse; /* * */
    bif_tensor normed;                                   /* [T,C], of the norm that ran last */
    bif_tensor picked_attn, picked_x;                    /* [R, HD], [R,C] when pick; picked_x only when nothing is kept */
    bif_tensor h, rstd2, gate_up;                        /* *; h is x when nothing is kept */
    bif_tensor act;                                      /* [T,F] */
    bif_tensor final, final_rstd;                        /* [R,C], [R] */
    bif_tensor dx, dpicked, dpicked_attn, dnormed, wide; /* only for a backward */
    bif_lora_acts lora;
} bif_decoder_acts;
/* The loss works in chunks of rows; these are one chunk's. */
typedef struct {
    int64_t chunk;
    bif_tensor logits, loss; /* [chunk, classes], f32 [chunk] */
} bif_head_acts;
/* Keys and values of generation: sequence b owns rows b*cap .. of its layer. */
typedef struct {
    int64_t sequences, cap;
    bif_tensor k, v;  /* [layers * sequences * cap, G*D] */
    bif_tensor index; /* i32, scratch on the device */
    int32_t *len;     /* [sequences] rows filled; host, owned */
    int32_t *host;    /* as index; owned */
} bif_kv_cache;

void bif_decoder_declare(bif_params *params, const bif_decoder_config *config, const char *prefix,
                         const char *head_name);
void bif_decoder_bind(bif_decoder *decoder, const bif_params *params, const bif_decoder_config *config,
                      const char *prefix, const char *head_name);
void bif_decoder_unbind(bif_decoder *decoder);
bool bif_decoder_trains(const bif_decoder *decoder);
/* picked: R rows whose hidden state is wanted, -1 = all. The last block's output projection, MLP and the final norm run
 * only on these. */
bif_decoder_acts bif_decoder_plan(const bif_decoder *decoder, bif_arena *arena, int64_t tokens, int64_t picked,
                                  bif_keep keep);
bif_dtype bif_decoder_dtype(const bif_decoder *decoder); /* of its values, hence of its activations */
/* The first hidden state, to be filled by the caller (embedding + splice): [T, C]. */
bif_tensor bif_decoder_input(const bif_decoder_acts *acts);
/* Runs the blocks and the final norm: hidden [R, C] (view). pos i32 [T]; bounds of n sequences; rows i32
 * [R], distinct, NULL when the plan picks none; cache NULL but from bif_decoder_prefill. */
void bif_decoder_forward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const bif_tensor *pos,
                         const bif_bounds *bounds, const bif_tensor *rows, bif_kv_cache *cache, bif_tensor *hidden);
bif_head_acts bif_decoder_head_plan(const bif_decoder *decoder, const bif_device *device, bif_arena *arena,
                                    int64_t rows);
/* Cross-entropy of the forward's rows against targets i32 [R]; loss f64 [1] += weight * its sum over rows, weight f32 [1], both where the device
 * reads them. With backward = true also adds the head's gradient of that and, when need_hidden, leaves that of the hidden state in
 * bif_decoder_dhidden. */
void bif_decoder_loss(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, bif_head_acts *head,
                      const bif_tensor *targets, const bif_tensor *weight, bool backward, bool need_hidden, bif_tensor *loss);
/* The gradient of the hidden state [R, C], filled by bif_decoder_loss or by the caller. */
bif_tensor bif_decoder_dhidden(const bif_decoder_acts *acts);
/* From there back to the input; dinput [T, C] is a view into the acts, meaningless unless need_input. Without
 * need_input it stops at the lowest block whose parameters train. */
void bif_decoder_backward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const bif_tensor *pos,
                          const bif_bounds *bounds, const bif_tensor *rows, bool need_input, bif_tensor *dinput);
/* logits [R, classes] (bif_decoder_classes) of rows of a hidden state [R, C] (evaluation, generation, probe). */
void bif_decoder_logits(const bif_decoder *decoder, bif_device *device, const bif_tensor *hidden_rows,
                        bif_tensor *logits);

/* ---- generation (train/decoder_generate.c) ---- */
/* prefill_tokens: the most tokens one prefill will pack. On a measuring arena nothing is owned. */
void bif_kv_cache_plan(const bif_decoder *decoder, bif_arena *arena, int64_t sequences, int64_t cap,
                       int64_t prefill_tokens, bif_kv_cache *cache);
void bif_kv_cache_free(bif_kv_cache *cache);
/* Keys and values of packed rows [T, (H+2G)D] into a layer of the cache, where the prefill's index says. For
 * bif_decoder_forward. */
void bif_kv_cache_fill(const bif_decoder *decoder, bif_device *device, bif_kv_cache *cache, int64_t layer,
                       const bif_tensor *qkv);
/* Slot `to` begins with the first `rows` rows of slot `from`, and is as long. */
void bif_kv_cache_copy(const bif_decoder *decoder, bif_device *device, bif_kv_cache *cache, int64_t from, int64_t to, int64_t rows);
/* Rows first .. first + rows of slot slots[i] become those of slot from[i], for all i at once. scratch: device memory of count * rows rows of keys. */
void bif_kv_cache_reorder(const bif_decoder *decoder, bif_device *device, bif_kv_cache *cache, const int32_t *slots, const int32_t *from, int64_t count,
                          int64_t first, int64_t rows, void *scratch);
/* acts planned to keep nothing, its input filled for packed prompts; sequence i of bounds fills cache slot i from
 * its first row. hidden as from bif_decoder_forward (rows: usually the last row of each prompt). */
void bif_decoder_prefill(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const bif_tensor *pos,
                         const bif_bounds *bounds, const bif_tensor *rows, bif_kv_cache *cache, bif_tensor *hidden);
/* The B tokens that acts (nothing kept, nothing picked) were planned for, their embeddings in its input: row i continues slot slots[i] (host). A
 * slot that comes again goes on by one more token, each seeing what is before it: prompts can be continued by several tokens at once. Runs of
 * neighbouring slots in order (all first tokens, then all second ones) are fastest. hidden [B, C]; 3 B <= prefill_tokens (H + 2G). */
void bif_decoder_step(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const int32_t *slots,
                      bif_kv_cache *cache, bif_tensor *hidden);

/* ---- the assembled models (train/vlm.c, train/clip.c) ---- */
/* LLaVA or a decoder alone (config.kind). Declares everything in checkpoint order: encoder, projector, decoder. */
typedef struct {
    bif_model_config config;
    bif_params params;
    bif_vit vit;
    bif_projector projector;
    bif_decoder decoder;
    bif_inputs_shape shape;
    bif_feeder feeder;
    bif_tensor loss; /* f64 [1] on the device: weighted losses of the micro-batches since bif_vlm_zero_loss */
    bool recompute;  /* keep the inputs of blocks only; set before measuring */
} bif_vlm;
/* Micro-steps with a backward drop inputs of the adapters (config.decoder.lora.dropout) from now on, drawn by (seed, place of the
 * sequence in the run, position in it, layer, target, column). Without this call nothing is dropped. Before measuring. */
void bif_vlm_drop(bif_vlm *vlm, uint64_t seed);
/* Fills a new vlm. Freeze with bif_params_train_group before measuring or allocating. */
void bif_vlm_declare(bif_vlm *vlm, const bif_model_config *config);
/* False for what the feature layer leaves out: the encoder's later blocks, post_layernorm and SigLIP's head. The table holds them so that a
 * checkpoint is complete; they never have a gradient, and must not train: weight decay would shrink them step by step. */
bool bif_vlm_uses(const bif_vlm *vlm, const bif_param *param);
/* Values and gradients, laid out for `world` ranks. */
bif_status bif_vlm_allocate(bif_vlm *vlm, bif_device *device, int world);
void bif_vlm_free(bif_vlm *vlm);

/* Bytes of activations one micro-batch within these limits needs for step, hidden or embed, by a measuring pass; needs
 * no allocated parameters. */
size_t bif_vlm_measure(const bif_vlm *vlm, bif_device *device, const bif_batch_limits *limits, bool backward);
/* Starts to bring the batch of the next micro-step to the device, while the one before computes (optional). */
void bif_vlm_bring(bif_vlm *vlm, bif_device *device, const bif_batch *batch, float weight);
/* Forward (and backward when `backward`) of a micro-batch; vlm->loss += weight * the sum of the losses of its supervised rows. Resets
 * the arena. Adds into the gradients of the table. Text-only batches (images == 0) skip encoder and projector. Does not wait for the device. */
void bif_vlm_micro_step(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, float weight, bool backward);
void bif_vlm_zero_loss(bif_vlm *vlm, bif_device *device);
double bif_vlm_read_loss(const bif_vlm *vlm, bif_device *device); /* waits for the device */

typedef struct {
    double loss_sum;    /* over supervised rows */
    int64_t supervised; /* rows */
} bif_loss;
/* One micro-step alone, its loss read at once. weight != 0. */
void bif_vlm_step(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, float weight,
                  bool backward, bif_loss *loss);
/* Normed hidden states of a batch [T, C] (probe): view into the arena. */
void bif_vlm_hidden(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, bif_tensor *hidden);
/* Input embeddings of a batch (embedding + splice) written to `input` [T, C]; activations of encoder and projector from
 * the arena (released again). For generation. Returns what was brought of the batch, valid until the next but one pass. */
const bif_inputs *bif_vlm_embed(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, bif_tensor *input);

/* CLIP pair of towers. */
typedef struct bif_clip_acts bif_clip_acts;
typedef struct {
    bif_model_config config;
    bif_params params;
    bif_vit vit;
    bif_text text;
    bif_param *visual_projection, *text_projection; /* SigLIP: NULL, and the text tower's head with text_bias */
    bif_param *text_bias, *logit_scale, *logit_bias; /* logit_bias NULL without one */
    bif_clip_acts *acts;                                                       /* of the last forward */
    bif_inputs_shape shape;
    bif_feeder feeder;
    bool recompute; /* as in bif_vlm */
} bif_clip;
void bif_clip_declare(bif_clip *clip, const bif_model_config *config);
bif_status bif_clip_allocate(bif_clip *clip, bif_device *device, int world);
void bif_clip_free(bif_clip *clip);
/* Patch dropout: `kept` patches of each picture go on behind the positions, drawn by (seed, place + number of the picture in the batch);
 * 0 = all. For measuring and for the forwards to come. */
void bif_clip_drop(bif_clip *clip, int64_t kept, uint64_t seed, uint64_t place);
/* Activations of a tower pass are kept for the backward: bytes for a batch of these limits. */
size_t bif_clip_measure(const bif_clip *clip, bif_device *device, const bif_batch_limits *limits, bool backward);
/* Resets the arena and takes activations from it. Normalised embeddings image [n, E], text [n, E], f32 (views into the
 * arena); either output may be NULL to skip that tower. keep = a backward will follow; on the CPU it reads the batch again. The
 * result is valid until the next forward. */
bif_clip_acts *bif_clip_forward(bif_clip *clip, bif_device *device, bif_arena *arena, const bif_batch *batch, bool keep,
                                bif_tensor *image, bif_tensor *text);
/* The contrastive loss of `local` pairs, rows first.. of image and text f32 [n, E] of all ranks, against all n: InfoNCE in both
 * directions, or the sigmoid loss. scale (not its logarithm) and bias as numbers. loss f32 [local] is scratch; sum f64 [1] times
 * bif_clip_loss_factor is this rank's share of the mean over the n pairs. With dimage and dtext [n, E] (both or neither) these become
 * the gradient of that share, which for rows of other ranks is theirs to add, and the gradients of logit_scale and logit_bias are
 * added to the table's; dscale, dbias f32 [1] are scratch. */
typedef struct {
    const bif_tensor *image, *text;
    int64_t first, local;
    bool sigmoid;
    float scale, bias;
    bif_tensor *loss, *sum;
    bif_tensor *dimage, *dtext, *dscale, *dbias;
} bif_clip_loss_args;
void bif_clip_loss(bif_clip *clip, bif_device *device, const bif_clip_loss_args *args);
double bif_clip_loss_factor(bool sigmoid, int64_t pairs);
/* Gradients of the two embeddings f32 [n, E] back through both towers into the table's gradients. */
void bif_clip_backward(bif_clip *clip, bif_device *device, bif_arena *arena, bif_clip_acts *acts,
                       const bif_tensor *dimage, const bif_tensor *dtext);
