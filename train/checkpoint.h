/* Checkpoints of a run: OUTPUT/step_00000100/ is a Hugging Face folder plus trainer/. Values are written in the dtype they train in (F32 or
 * BF16), and a run goes on to the bit from its own checkpoint; a checkpoint of the other precision is refused.
 *
 *   config.json, model.safetensors, tokenizer.json, preprocessor_config.json   opens in transformers
 *   of a run with adapters instead of model.safetensors: adapter_config.json, adapter_model.safetensors, non_lora_trainables.bin
 *                                     (train/adapter.h); the frozen parts stay in the folders of the recipe
 *   trainer/state.json                step, seed, world size, precision, config digest, data digest, with adapters a digest of the
 *                                     frozen rows, updates left out, length of the metrics
 *   trainer/optimizer-RRRR-of-WWWW.safetensors   first and second moment of rank R's part, as tensors named m.NAME / v.NAME with an extent
 *                                     (metadata "NAME": "offset,count" in elements of the parameter), so that another world size can read them;
 *                                     with bf16 values also low.NAME, U16, the lower halves of the f32 masters (kernels/ops.h, AdamW)
 *   MANIFEST.json                     format version, step, every file's length and XXH3-128 digest, digest of the manifest's own body
 *
 * Commit: all files into OUTPUT/step_N.tmp-RUNID/ with fsync, ranks agree, rank 0 writes the manifest, fsyncs the folder, renames it to step_N, fsyncs
 * OUTPUT. Only then is it reported. A killed save leaves no step_N, only its temporary folder, which the next save into OUTPUT removes, with what a
 * killed start left of config.yaml (the caller holds OUTPUT's lock then; a search must not, because it also looks into the folders of other,
 * perhaps running, jobs). */
#pragma once
#include "train/comm.h"
#include "train/model.h"
#include "train/params.h"

typedef struct {
    int64_t step;          /* optimiser steps done */
    uint64_t seed;
    char config_digest[33]; /* over the settings that change numbers */
    char data_digest[33];   /* bif_loader_digest */
    char frozen_digest[33]; /* with adapters: of the frozen rows, which lie in other folders (bif_params_digest); else "" */
    int64_t bad_steps;      /* updates left out in a row until now, for want of a finite gradient */
    int64_t metrics_bytes;  /* length of metrics.jsonl at this step: truncated to it on resume */
    int64_t skipped;
    int64_t best_step;  /* checkpoint with the best score of an evaluation so far, which is never removed; 0 = none */
    double best_score;
    char best_of[33];   /* digest of what was evaluated: scores of something else do not compare; "" = nothing was */
    bif_dtype dtype; /* of the values; written from the table */
} bif_run_state;

/* What the optimiser keeps of this rank: the part [offset, offset + count) of the flat space (train/params.h). */
typedef struct {
    float *m, *v;  /* [count], device memory */
    uint16_t *low; /* [count]: lower halves of the masters of bf16 values; NULL for f32 */
    int64_t offset, count;
} bif_moments;

/* Collective. On any rank's failure (disk full) nothing is committed, all ranks get the status, and the run may go on. keep_last >= 1: older
 * checkpoints but that of state->best_step are removed after the new one is committed. from: of a model with adapters, where its frozen parts lie (bif_adapter_write);
 * else NULL. */
bif_status bif_checkpoint_save(bif_comm *comm, bif_device *device, const char *output, const bif_model_config *config,
                               const bif_params *params, const char *tokenizer_path, const bif_moments *moments,
                               const bif_run_state *state, const bif_beside *from, int keep_last);
/* Collective. Finds the newest valid step_N in `output` (verifying manifest, lengths and digests; a damaged one is named with bif_warn and
 * skipped). *path is malloc'ed, NULL if there is none; BIF_ERR_DATA if there are some and all are damaged. */
bif_status bif_checkpoint_find(bif_comm *comm, const char *output, char **path);
/* The same for one process, not collective. */
bif_status bif_checkpoint_newest(const char *output, char **path);
/* The newest step_N, whole or not; *path is malloc'ed, NULL if there is none. For one process. */
bif_status bif_checkpoint_last(const char *output, char **path);
/* The checkpoint that OUTPUT/best.json names, verified; *path is malloc'ed. For one process. BIF_ERR_DATA: no best.json, or a damaged one. */
bif_status bif_checkpoint_best(const char *output, char **path);
/* The same, collective. */
bif_status bif_checkpoint_find_best(bif_comm *comm, const char *output, char **path);
/* Collective. Only the state, to tell whose checkpoint it is before anything is loaded. */
bif_status bif_checkpoint_state(bif_comm *comm, const char *path, bif_run_state *state);
/* Collective. Values into the table (all groups; of a model with adapters what the folder holds: the frozen rows must be there), moments (any
 * world size), state. BIF_ERR_CONFIG when the table has another dtype. */
bif_status bif_checkpoint_load(bif_comm *comm, bif_device *device, const char *path, bif_params *params, bif_moments *moments,
                               bif_run_state *state);
/* Checks one folder against its manifest. */
bif_status bif_checkpoint_verify(const char *path);
