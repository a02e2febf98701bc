/* The recipe of a run: YAML -> bif_config. One table (config.c) feeds the parser, --set, range checks, `bifocal train --help-config` and the
 * resolved config that a run writes beside its checkpoints. An unknown or duplicate key, a wrong type or a value out of range is an error with
 * file:line:column and the nearest known key; all errors of a file are reported at once. Only config.c includes yaml.h; the table and
 * what is written about it are in config_table.c and config_text.c, defaults and checks across keys in config_check.c.
 *
 * Untrusted YAML: at most 256 KiB, depth at most 32, no aliases or tags. Scalars are read by the declared type, so 1e-4, no and 0123 mean what
 * the key says. "${NAME}" in a string is replaced from the environment; an unset one is an error ("$${" stands for "${").
 * null means the default. In --set the value is YAML too: data.shards=[a, b]. */
#pragma once
#include "data/loader.h"
#include "train/model.h"

typedef enum { BIF_STAGE_LM = 0, BIF_STAGE_CLIP = 1, BIF_STAGE_PRETRAIN = 2, BIF_STAGE_FINETUNE = 3 } bif_stage;
typedef enum { BIF_PRECISION_AUTO = 0, BIF_PRECISION_FP32 = 1, BIF_PRECISION_BF16 = 2 } bif_precision;
typedef enum { BIF_SCHEDULE_COSINE = 0, BIF_SCHEDULE_CONSTANT = 1 } bif_schedule_kind;
typedef enum { BIF_LOSS_GLOBAL_TOKENS = 0, BIF_LOSS_MICRO_MEAN = 1 } bif_loss_norm;
typedef enum { BIF_RECOMPUTE_AUTO = 0, BIF_RECOMPUTE_NO = 1, BIF_RECOMPUTE_YES = 2 } bif_recompute;
typedef enum { BIF_LOCK_NONE = 0, BIF_LOCK_IMAGE = 1, BIF_LOCK_TEXT = 2 } bif_lock;
typedef enum { BIF_CONTRASTIVE_INFONCE = 0, BIF_CONTRASTIVE_SIGMOID = 1 } bif_contrastive;

typedef struct {
    char **items; /* malloc'ed strings */
    size_t count;
} bif_strings;

typedef struct {
    bif_stage stage;
    char *output;   /* folder of the run */
    int64_t seed;   /* default 42 */
    char *device;   /* "cpu", "cuda", "auto"; default "cpu" */
    int64_t threads; /* CPU threads an op; 0 = all cores of the process / local ranks */
    bif_precision precision; /* of values and activations; auto = bf16 on CUDA, fp32 on the CPU */
    bool deterministic;      /* same inputs, same bits, on CUDA too */

    struct { /* where weights come from: folders in Hugging Face layout, later ones replace; what is missing is drawn at random */
        char *init;      /* a whole model of this stage's kind */
        char *encoder;   /* a CLIP folder (or LLaVA): vision tower */
        char *decoder;   /* a decoder folder (or LLaVA) */
        char *projector; /* a LLaVA folder or mm_projector.bin: only its projector */
        char *base;      /* of the adapter that init or decoder names, where it is elsewhere than the adapter says */
        char *projector_type; /* "linear", "mlp2x_gelu", "mlpNx_gelu" */
        int64_t feature_layer;   /* default -2 */
        char *feature_select;    /* "patch" or "cls_patch" */
        struct { int64_t hidden, layers, heads, inner, patch, image; double eps; char *act; bif_tower_family family; } vit;   /* from scratch, when no folder is given */
        struct { int64_t hidden, layers, heads, inner, positions; double eps; char *act; } text;
        struct { int64_t hidden, layers, heads, kv_heads, head_dim, inner, positions; double eps, rope_theta;
                 bool qkv_bias, qk_norm, tied; } llama;
        int64_t projection;      /* CLIP joint width */
        bool train_encoder, train_projector, train_decoder; /* defaults by stage: pretrain = projector; finetune = projector + decoder */
    } model;

    struct { /* low-rank adapters beside linear layers of the decoder, which is frozen then */
        int64_t rank; /* 0 = none */
        double alpha, dropout;
        bif_strings targets; /* "q_proj", ...; all seven when the recipe names none */
    } lora;

    struct {
        bif_strings shards, validation;
        char *tokenizer; /* tokenizer.json, tokenizer.model, vocab.json, or their folder */
        char *template_; /* key "template": a name of data/chat.h, no alias */
        char *system;    /* NULL = the template's own */
        char *image_fit; /* auto, crop, pad, squash */
        char *image_place; /* front, keep, llava_next */
        int64_t max_tokens; /* longest sequence after expansion */
        bool truncate;
        bool shuffle;
        bif_sampler sampler; /* data/loader.h */
        char *order;         /* a file, NULL = none */
        char *selection, *validation_selection; /* files of data/selection.h, NULL = none */
        char *caption_column; /* NULL = none */
        double caption_mix;
        bif_last last;
        int64_t threads, prefetch, cache_mib;
        int64_t validation_samples; /* at most so many, 0 = all */
        int64_t max_image_pixels;
    } data;

    struct { /* random views of the training pictures, stage clip */
        double scale, ratio, flip; /* data/augment.h */
    } augment;

    struct {
        int64_t samples;       /* of an optimiser step, over all ranks and micro-batches */
        int64_t micro_tokens;  /* token budget of a micro-batch */
        int64_t micro_samples; /* at most so many sequences a micro-batch, 0 = no limit (the way to force accumulation) */
        bif_deal_kind deal;
    } batch;

    struct {
        int64_t steps;    /* optimiser steps; 0 = from epochs */
        double epochs;
        int64_t validate_every, log_every, checkpoint_every; /* steps; 0 = never / only at the end */
        int64_t keep;     /* checkpoints kept */
        int64_t stop_after; /* stop (exit 75) after so many steps of this run, 0 = never: for tests of resume */
        bif_loss_norm loss;
        bif_recompute recompute; /* run blocks again in the backward: less memory, the same bits; auto = where a GPU has no room for more */
    } train;

    struct { /* answers to questions by the model as it trains; stages lm, pretrain, finetune */
        int64_t every;     /* steps, and at the end; 0 = never */
        bif_strings questions; /* files, as `bifocal eval --questions` takes them; none: the samples of `shards` */
        bif_strings shards; /* questions, or with a file only the pictures */
        char *prompt;      /* what their captions answer */
        char *image_root, *task, *variant; /* variant NULL: the task's first */
        bif_strings references; /* none: the questions' own answers */
        int64_t limit;     /* first so many, 0 = all */
        int64_t max_new_tokens; /* 0 = the task's */
        int64_t batch;
        bool keep_best;
    } evaluate;

    struct {
        double lr, beta1, beta2, eps, weight_decay, clip_norm; /* clip_norm 0 = off */
        bif_schedule_kind schedule;
        double warmup_ratio;   /* of all steps, rounded up */
        int64_t warmup_steps;  /* wins over warmup_ratio when > 0 */
        double min_lr_ratio;   /* floor of the cosine as a share of the peak */
        double encoder_lr, projector_lr, decoder_lr; /* 0 = lr */
    } optimizer;

    struct { /* stage clip */
        bif_contrastive loss;
        double patch_dropout;    /* share of a picture's patches left out in training */
        bif_lock lock;           /* a tower that stays as it is, its projection with it */
        double logit_scale_init; /* log scale; default ln(1/0.07), sigmoid: ln(10) */
        double logit_bias_init;  /* sigmoid: -10 */
        double logit_scale_max;  /* ln(100) */
    } clip;
} bif_config;

/* Reads path (YAML), then applies `sets` ("a.b=value", later wins), then defaults and checks that belong together. */
bif_status bif_config_load(const char *path, const char *const *sets, size_t set_count, bif_config *out);
void bif_config_free(bif_config *config);
/* The resolved recipe as YAML with every key, malformed never: reading it again gives the same config. malloc'ed. */
char *bif_config_text(const bif_config *config);
/* Digest over all keys that change numbers: not output, device, threads, how often something is logged, saved, validated or evaluated, prefetch and cache;
 * not the paths of shards, data.selection, data.caption_column and data.order (bif_loader_digest covers
 * their content); and not batch.micro_tokens, micro_samples and deal,
 * which only regroup the sums, so that a run that was out of memory can go on with smaller ones. They are numbers too where train.loss is micro_mean (but
 * for micro_tokens if batch.deal is order), and micro_samples where data.sampler is modality_length. Not deterministic, which only reorders sums; and not
 * precision, because `auto` says nothing without the device: the checkpoint itself records which it was, and one of the other precision is refused
 * (train/checkpoint.h). --help-config marks the keys of the digest. */
void bif_config_digest(const bif_config *config, char hex[33]);
/* The keys of the digest that differ, the first four with both values: "seed was 1 and is 2, ..."; empty when none does. malloc'ed. */
char *bif_config_difference(const bif_config *before, const bif_config *config);
/* The reference of all keys: name, type, range, default, one line of meaning. malloc'ed text for --help-config. */
char *bif_config_reference(void);
