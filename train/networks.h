/* The networks, each a short list of calls, forward and backward beside each other. One `declare` adds rows to the table with Hugging Face
 * names behind `prefix`; after bif_params_allocate, `bind` takes the pointers. Activations live in an arena: `plan` takes them (also on a
 * measuring arena); with keep = false only what a forward needs is taken, one layer's buffers being reused by the next.
 *
 * Freezing is nothing but grad.data == NULL in the table: a backward computes parameter gradients only where there is a buffer, and
 * goes only as deep as somebody needs.
 *
 * T tokens, n sequences, I images, P patches, C width. */
#pragma once
#include "data/batch.h"
#include "train/model.h"
#include "train/params.h"

/* ---- CLIP vision tower (train/vit.c) ---- */
typedef struct bif_vit_acts bif_vit_acts;
typedef struct {
    bif_vit_config config;
    int64_t blocks;   /* blocks computed; the table still holds all of them, with post_layernorm, so that a checkpoint is complete */
    bool pooled;      /* post_layernorm of the class token is computed (CLIP) */
    bif_group group;
    char prefix[64];  /* "vision_model." or "vision_tower.vision_model." */
    bif_param *first; /* table rows, bound */
    struct bif_vit_layer *layer;
    bif_param *cls, *patch, *pos, *pre_w, *pre_b, *post_w, *post_b;
} bif_vit;
void bif_vit_declare(bif_params *params, const bif_vit_config *config, const char *prefix);
void bif_vit_bind(bif_vit *vit, bif_params *params, const bif_vit_config *config, const char *prefix, int64_t blocks, bool pooled);
void bif_vit_unbind(bif_vit *vit);
/* Activations for I images; keep = a backward will follow. Owned by the arena. */
bif_vit_acts *bif_vit_plan(const bif_vit *vit, bif_arena *arena, int64_t images, bool keep);
/* pixels f32 [I,3,S,S] -> hidden [I*(P+1), C] (view into acts), and pooled [I, C] when vit->pooled. */
void bif_vit_forward(const bif_vit *vit, bif_device *device, bif_vit_acts *acts, const bif_tensor *pixels, bif_tensor *hidden,
                     bif_tensor *pooled);
/* dhidden [I*(P+1), C] (overwritten as scratch) or dpooled [I, C]; the other NULL. */
void bif_vit_backward(const bif_vit *vit, bif_device *device, bif_vit_acts *acts, bif_tensor *dhidden, const bif_tensor *dpooled);
bool bif_vit_trains(const bif_vit *vit);

/* ---- CLIP text tower (train/text_tower.c) ---- */
typedef struct bif_text_acts bif_text_acts;
typedef struct {
    bif_text_config config;
    bif_group group;
    struct bif_vit_layer *layer; /* the same block as the vision tower's */
    bif_param *token, *pos, *final_w, *final_b;
} bif_text;
void bif_text_declare(bif_params *params, const bif_text_config *config, const char *prefix);
void bif_text_bind(bif_text *text, bif_params *params, const bif_text_config *config, const char *prefix);
void bif_text_unbind(bif_text *text);
bif_text_acts *bif_text_plan(const bif_text *text, bif_arena *arena, int64_t tokens, int64_t sequences, bool keep);
/* ids, pos i32 [T], cu_seqlens i32 [n+1] (host), eot i32 [n] = row that is pooled -> pooled [n, C]. */
void bif_text_forward(const bif_text *text, bif_device *device, bif_text_acts *acts, const bif_tensor *ids, const bif_tensor *pos,
                      const bif_tensor *cu_seqlens, const bif_tensor *eot, bif_tensor *pooled);
void bif_text_backward(const bif_text *text, bif_device *device, bif_text_acts *acts, const bif_tensor *dpooled);

/* ---- projector (train/projector.c) ---- */
typedef struct bif_projector_acts bif_projector_acts;
typedef struct {
    bif_projector_config config;
    bif_param *w[8], *b[8];
} bif_projector;
/* Names: multi_modal_projector.linear_1, linear_2, ... (weight, bias); init of torch.nn.Linear: U(+-1/sqrt(in)). */
void bif_projector_declare(bif_params *params, const bif_projector_config *config, const char *prefix);
void bif_projector_bind(bif_projector *projector, bif_params *params, const bif_projector_config *config, const char *prefix);
bif_projector_acts *bif_projector_plan(const bif_projector *projector, bif_arena *arena, int64_t rows, bool keep);
/* x [rows, in] -> y [rows, out] (view into acts). x must stay until the backward. */
void bif_projector_forward(const bif_projector *projector, bif_device *device, bif_projector_acts *acts, const bif_tensor *x,
                           bif_tensor *y);
/* dy [rows, out]; dx [rows, in] or NULL (encoder frozen). */
void bif_projector_backward(const bif_projector *projector, bif_device *device, bif_projector_acts *acts, const bif_tensor *dy,
                            bif_tensor *dx);

/* ---- Llama-family decoder (train/decoder.c) ---- */
typedef struct bif_decoder_acts bif_decoder_acts;
typedef struct {
    bif_decoder_config config;
    struct bif_decoder_layer *layer;
    bif_param *embed, *norm, *head; /* head is NULL when tied */
} bif_decoder;
void bif_decoder_declare(bif_params *params, const bif_decoder_config *config, const char *prefix, const char *head_name);
void bif_decoder_bind(bif_decoder *decoder, bif_params *params, const bif_decoder_config *config, const char *prefix,
                      const char *head_name);
void bif_decoder_unbind(bif_decoder *decoder);
bif_decoder_acts *bif_decoder_plan(const bif_decoder *decoder, bif_arena *arena, int64_t tokens, bool keep);
/* The first hidden state, to be filled by the caller (embedding + splice): [T, C]. */
bif_tensor *bif_decoder_input(bif_decoder_acts *acts);
/* Runs the blocks and the final norm; hidden [T, C] = normed output (view). */
void bif_decoder_forward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const bif_tensor *pos,
                         const bif_tensor *cu_seqlens, bif_tensor *hidden);
/* Head and loss over the supervised rows, in chunks: rows i32 [R] into hidden, targets i32 [R], weight f32 [R] (what each row's loss is
 * multiplied by in the gradient). Adds sum(loss of rows, unweighted) to *loss_sum. With backward = true also leaves the gradient of
 * `hidden` in the acts (zero rows where nothing is supervised) and adds the head's gradient. */
void bif_decoder_loss(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const bif_tensor *rows,
                      const bif_tensor *targets, const bif_tensor *weight, bool backward, double *loss_sum);
/* From the gradient left by bif_decoder_loss back to the input; dinput [T, C] is a view into the acts, valid until the next forward;
 * `need_input` false lets it stop at the first block whose parameters train (nothing below wants a gradient). */
void bif_decoder_backward(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const bif_tensor *pos,
                          const bif_tensor *cu_seqlens, bool need_input, bif_tensor *dinput);
/* logits [R, V] of given rows of hidden [T, C] (evaluation and probe). */
void bif_decoder_logits(const bif_decoder *decoder, bif_device *device, const bif_tensor *hidden_rows, bif_tensor *logits);

/* KV cache for generation: sequences b own rows b*cap .. of each layer's k and v [B*cap, G*D]. */
typedef struct {
    int64_t sequences, cap;
    bif_tensor *k, *v; /* [layers] */
    int32_t *len;      /* [sequences] rows filled; host */
} bif_kv_cache;
void bif_kv_cache_plan(const bif_decoder *decoder, bif_arena *arena, int64_t sequences, int64_t cap, bif_kv_cache *cache);
/* Prefill: acts planned with keep = false, its input filled for packed prompts, sequence i of cu_seqlens belongs to cache slot i. Fills the cache
 * and gives the normed hidden [T, C]. */
void bif_decoder_prefill(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const bif_tensor *pos,
                         const bif_tensor *cu_seqlens, bif_kv_cache *cache, bif_tensor *hidden);
/* One token a sequence for the B rows of acts' input (planned for B tokens); row i continues cache slot slots[i] (host i32 [B]). */
void bif_decoder_step(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const int32_t *slots, bif_kv_cache *cache,
                      bif_tensor *hidden);

/* ---- the assembled models (train/vlm.c, train/clip.c) ---- */
/* LLaVA or a decoder alone (config.kind). Declares everything in checkpoint order: encoder, projector, decoder. */
typedef struct {
    bif_model_config config;
    bif_params params;
    bif_vit vit;
    bif_projector projector;
    bif_decoder decoder;
} bif_vlm;
void bif_vlm_declare(bif_vlm *vlm, const bif_model_config *config);
/* After bif_params_train_group: allocate for `world` ranks and bind. */
bif_status bif_vlm_allocate(bif_vlm *vlm, bif_device *device, int world);
void bif_vlm_free(bif_vlm *vlm);

typedef struct {
    double loss_sum;    /* over supervised rows */
    int64_t supervised; /* rows */
} bif_loss;
/* Bytes of activations one micro-batch of these limits needs, by a measuring pass. Includes the head's chunk. */
size_t bif_vlm_measure(const bif_vlm *vlm, bif_device *device, const bif_batch_limits *limits, bool backward);
/* Forward (and backward when `backward`): every supervised row's loss is weighted by `weight` in the gradient. Resets the arena. Adds into
 * the gradients of the table. Text-only batches (images == 0) skip encoder and projector. */
void bif_vlm_step(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, float weight, bool backward,
                  bif_loss *loss);
/* Normed hidden states of a batch [T, C] (probe): view into the arena. */
void bif_vlm_hidden(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, bif_tensor *hidden);
/* Input embeddings of a batch (embedding + splice) written to `input` [T, C]; activations of encoder and projector from the arena (released
 * again). For generation. */
void bif_vlm_embed(bif_vlm *vlm, bif_device *device, bif_arena *arena, const bif_batch *batch, bif_tensor *input);

/* CLIP pair of towers. */
typedef struct {
    bif_model_config config;
    bif_params params;
    bif_vit vit;
    bif_text text;
    bif_param *visual_projection, *text_projection, *logit_scale, *logit_bias;
} bif_clip;
void bif_clip_declare(bif_clip *clip, const bif_model_config *config);
bif_status bif_clip_allocate(bif_clip *clip, bif_device *device, int world);
void bif_clip_free(bif_clip *clip);
/* Activations of a tower pass are kept for the backward: bytes for a batch of these limits. */
size_t bif_clip_measure(const bif_clip *clip, bif_device *device, const bif_batch_limits *limits, bool backward);
/* Resets the arena and takes activations from it. Normalised embeddings image [n, E], text [n, E] (views into the arena); either output may be
 * NULL to skip that tower. keep = a backward will follow. */
typedef struct bif_clip_acts bif_clip_acts;
bif_clip_acts *bif_clip_forward(bif_clip *clip, bif_device *device, bif_arena *arena, const bif_batch *batch, bool keep,
                                bif_tensor *image, bif_tensor *text);
/* Gradients of the two embeddings [n, E] back through both towers into the table's gradients. */
void bif_clip_backward(bif_clip *clip, bif_device *device, bif_arena *arena, bif_clip_acts *acts, const bif_tensor *dimage,
                       const bif_tensor *dtext);
