/* What a run says before step 1: which tensors train at which rate, and how much memory it will take. */
#pragma once
#include "train/evaluator.h"
#include "train/stage.h"

/* The trainable manifest: a line a group with tensors, parameters and learning rate, frozen groups as such. Rank 0 prints. */
void bif_print_manifest(const bif_params *params);
/* The memory plan of this rank, part by part, with its sum; on a GPU beside its free memory. Decides train.recompute = auto, by this rank's
 * GPU: activations that do not fit into 95 % of what is free are made again in the backward. BIF_ERR_MEMORY, with the sizes and what to
 * lower, when they do not fit into that either way. Rank 0 prints. The loader's part is its buffers, if every micro-batch were full and a
 * step took no more of them than its number of samples needs; long samples may need more. */
bif_status bif_plan_memory(bif_stage_run *run, const bif_batch_limits *limits);
/* The manifest and the memory of a rank of `ranks`, printed from the recipe, its tokenizer and the config.json files it names: no weights, data
 * or GPU are touched. Samples are taken to have one picture at most. The questions of `evaluator` (NULL = none) are read for their lengths;
 * where they cannot be, the plan says that they are not counted. comm: of this process alone. */
bif_status bif_plan_recipe(const bif_config *config, int ranks, const bif_evaluator *evaluator, bif_comm *comm);
/* Best rate of this device's linear op on a square product of this dtype, in FLOP/s, measured for about 0.1 s: the "peak" of
 * share-of-peak. */
double bif_measure_peak(bif_device *device, bif_dtype dtype);
int64_t bif_peak_rss_bytes(void);
