/* What a stage does inside the trainer's loop. The trainer owns loader, optimiser, schedule, checkpoints and metrics; a stage turns the
 * micro-batches of a step into gradients in the table. */
#pragma once
#include "data/loader.h"
#include "train/comm.h"
#include "train/config.h"
#include "train/networks.h"

typedef struct {
    const bif_config *config;
    bif_comm *comm;
    bif_device *device;
    bif_model_config model;
    bif_vlm vlm;   /* stages lm, pretrain, finetune */
    bif_clip clip; /* stage clip */
    bif_params *params; /* of whichever it is */
    bif_arena arena;    /* activations */
    bif_tensor loss;    /* f64 [1] on the device: this rank's share of the last step's loss, but for a factor */
    double loss_factor;
    /* Called while the last micro-batch's backward goes on (bif_params_hook, whose context the owner of this function sets); NULL = not
     * wanted. */
    void (*reached)(void *context, int64_t offset);
} bif_stage_run;

/* Numbers of one step over all ranks. */
typedef struct {
    double loss;       /* mean over supervised tokens (or the contrastive loss); NaN until bif_stage_read_loss */
    double supervised; /* supervised tokens (clip: pairs) */
    double tokens;     /* text and image rows of the decoder (clip: of both towers) */
    double samples;    /* sequences */
    double images;
} bif_step_result;

/* Sizes and takes the memory of activations and inputs for these limits. Not collective. */
bif_status bif_stage_allocate(bif_stage_run *run, const bif_batch_limits *limits);
/* Bytes of the activations; and of the inputs, on the device and (pinned) on the host alike. */
size_t bif_stage_measure(bif_stage_run *run, const bif_batch_limits *limits);
size_t bif_stage_measure_inputs(bif_stage_run *run, const bif_batch_limits *limits);
/* Keep the inputs of blocks only and run each again in the backward: the same bits, less memory, more time. Before measuring. */
void bif_stage_set_recompute(bif_stage_run *run, bool recompute);
/* Collective: every rank calls it for every step, with whatever micro-batches it has (none is fine). With `backward` the gradients of the
 * table (zero before) receive this rank's share of the global gradient. On a GPU it does not wait: bif_optimizer_reduce may come next, and
 * begins to sum what `reached` was told of. */
void bif_stage_step(bif_stage_run *run, const bif_step *step, bool backward, bif_step_result *result);
/* Collective, after the step (and after bif_optimizer_reduce, so that the device is waited for once): waits, and sets result->loss. */
void bif_stage_read_loss(bif_stage_run *run, bif_step_result *result);

/* Floating-point operations one step needs at least: 2 an element of every matrix and token forward, the same again for each gradient
 * wanted. */
double bif_stage_flops(const bif_stage_run *run, const bif_step_result *step);
