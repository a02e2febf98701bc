/* AdamW with ZeRO-1: rank r keeps the moments of part r of the flat space (train/params.h) and updates only that part. For bf16 values it
 * keeps the lower halves of their f32 masters too. A master starts as its bf16 value (lower half 0) and is exact from then on, over a
 * resume as well. */
#pragma once
#include "train/checkpoint.h"
#include "train/comm.h"
#include "train/config.h"
#include "train/params.h"

typedef struct {
    bif_params *params;
    bif_moments moments; /* this rank's part, device memory */
    double beta1, beta2, eps, weight_decay, clip_norm;
    bif_comm *comm;
    int64_t bucket;  /* elements whose sum over ranks begins at once */
    int64_t waiting; /* of the flat space [0, waiting) is not being summed yet */
} bif_optimizer;

bif_status bif_optimizer_new(bif_optimizer *optimizer, bif_params *params, const bif_config *config, bif_comm *comm);
void bif_optimizer_free(bif_optimizer *optimizer);

/* Collective, while all gradients are zero: runs the collectives of a step once. NCCL connects the ranks and takes its buffers (hundreds of
 * MiB between 8 GPUs) when each is first called, so this comes before memory is planned. Nothing to do where bif_comm_overlaps is false. */
void bif_optimizer_warm_up(bif_optimizer *optimizer);
/* The gradients from `offset` to the end of the flat space are final: sums of whole buckets behind it begin, from the end on, in an order
 * that is the same on all ranks whatever their data. A bif_params_hook: the context is the optimizer. For bif_comm_overlaps; elsewhere it
 * does nothing. */
void bif_optimizer_reached(void *optimizer, int64_t offset);
/* Collective. Sums the gradients over ranks into this rank's part and gives their norm over the whole model (after the sum). */
double bif_optimizer_reduce(bif_optimizer *optimizer, bif_comm *comm);
/* Collective, after reduce. Clips to clip_norm (0 = off), updates this rank's part with rate lr = param->lr * schedule, gathers the new
 * values on all ranks. step counts from 1. */
void bif_optimizer_step(bif_optimizer *optimizer, bif_comm *comm, double norm, double schedule, int64_t step);
/* Collective (for a trainable bf16 row). The exact f32 master of a row's first element: a temperature rounded to bf16 would move in steps of 1.6 %. A
 * bif_params_hook: the context is the optimizer. */
float bif_optimizer_scalar(void *context, const bif_param *param);
