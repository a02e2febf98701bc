/* Which rank, and which of its micro-batches, gets each sample of a step. A pure function: every rank computes the
 * whole deal from the same lengths and so they agree without talking.
 *
 * Largest sample first, to the rank with the fewest tokens so far (ties: earlier sample, lower rank). Then each rank
 * fills its micro-batches with its samples in the step's order, and opens the next one when a sample does not fit. */
#pragma once
#include "base/status.h"

typedef struct {
    int64_t tokens; /* 0: the sample is left out of the step */
    int64_t images;
} bif_deal_item;

typedef struct { /* of one micro-batch; 0 = no limit */
    int64_t max_tokens, max_images, max_samples;
} bif_deal_budget;

typedef struct {
    int32_t rank;  /* -1: left out */
    int32_t batch; /* micro-batch of that rank; -1: left out */
    int64_t group; /* bif_batch.group: the micro-batch's number on its rank, or in order that of the step */
} bif_deal_place;

/* place [count]; batches [world]: how many micro-batches each rank has. BIF_ERR_DATA when one sample alone exceeds the
 * budget, naming its position (the loader leaves such samples out before). */
bif_status bif_deal(const bif_deal_item *items, int64_t count, int world, const bif_deal_budget *budget,
                    bif_deal_place *place, int64_t *batches);

/* As Hugging Face's Trainer deals: the j-th run of max_samples (>= 1) samples, unusable ones included, goes to rank j % world as its group j. A
 * group that exceeds max_tokens or max_images is cut into several micro-batches, in order; no micro-batch holds samples of two groups. */
bif_status bif_deal_in_order(const bif_deal_item *items, int64_t count, int world, const bif_deal_budget *budget,
                             bif_deal_place *place, int64_t *batches);
