/* Learning rate of a step, as a share of the peak. */
#pragma once
#include "train/config.h"

/* Steps of linear warm-up: warmup_steps if > 0, else ceil(warmup_ratio * steps) (Hugging Face's rounding). */
int64_t bif_warmup_steps(const bif_config *config, int64_t steps);
/* step counts from 0. Warm-up: step / warmup (so step 0 has rate 0, as transformers' schedulers do); then cosine from 1 to min_lr_ratio, reached
 * after the last step, or 1 for the constant schedule. */
double bif_schedule(bif_schedule_kind kind, int64_t step, int64_t steps, int64_t warmup, double min_lr_ratio);
