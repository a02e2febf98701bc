/* A run that is scored while it goes on: at every evaluate.every steps and at the end the model as it is answers questions. How is not
 * known here (eval/during.h fills the hook); here is what is written down, and which checkpoint is the best. */
#pragma once
#include "data/chat.h"
#include "data/image.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/stage.h"

/* The model in training: weights, device, and how its samples and pictures are prepared. Borrowed, unchanged as long as the run. */
typedef struct {
    const bif_stage_run *run;
    bif_tokenizer *tokenizer;
    const bif_chat *chat;
    const bif_preprocess *preprocess; /* of a decoder alone zeros */
} bif_live_model;

typedef struct {
    double score;     /* the first metric, more is better; NaN = there was nothing to measure. The same on all ranks */
    int64_t questions;
    json_t *metrics;  /* rank 0: an object, names to numbers (or null), the first is the score; the caller's */
} bif_evaluation;

/* All of it is collective, and none of it may change what the run computes from. */
typedef struct {
    void *context;
    /* What open will take of the device, from the files of questions alone: the model's tensors are only declared. Not collective. */
    bif_status (*measure)(void *context, const bif_config *config, bif_comm *comm, const bif_live_model *model, size_t *bytes);
    /* Before step 1: reads everything that is needed and takes all memory, so that what is wrong is said now. digest: of what is evaluated
     * and how; scores with another digest do not compare. */
    bif_status (*open)(void *context, const bif_config *config, bif_comm *comm, const bif_live_model *model, char digest[33]);
    bif_status (*evaluate)(void *context, int64_t step, bif_evaluation *out);
    void (*close)(void *context); /* also after an open that failed, or none; before the model goes */
} bif_evaluator;

/* ---- for trainer.c; evaluator NULL does nothing ---- */
/* Opens; the best score of `state` is forgotten (and said so) if it is of another evaluation, or if evaluate.keep_best is no. */
bif_status bif_evaluator_open(const bif_evaluator *evaluator, const bif_config *config, bif_comm *comm, const bif_live_model *model,
                              bif_run_state *state);
/* Evaluates after state->step steps and writes the metrics' line. A failure to read a picture or to write the answers is a warning: it
 * costs this evaluation, not the run. If the score is the best so far it is put into state and *best is true. */
bif_status bif_evaluator_run(const bif_evaluator *evaluator, const bif_config *config, bif_comm *comm, bif_metrics *metrics,
                             bif_run_state *state, bool *best);
/* OUTPUT/best.json of rank 0: the step, the score, and the checkpoint's folder; nothing while there is none. */
bif_status bif_evaluator_write_best(const bif_config *config, const bif_run_state *state);
