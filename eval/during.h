/* Questions answered by a model that is in training, on the ranks that train it: a session over its very weights, no second copy. */
#pragma once
#include "train/evaluator.h"

/* The evaluation that config->evaluate asks for, to be handed to bif_train. `open` is BIF_ERR_CONFIG for a task that there is not, or whose
 * answers cannot be scored or compared here, and BIF_ERR_DATA for questions or references that are malformed. Predictions go to
 * OUTPUT/eval/step_N.jsonl, as `bifocal eval` writes them; they are those it would give of the checkpoint of that step (with adapters but
 * for rounding: eval merges them). Of a list that all ranks order alike, rank r answers every so many-th batch: no clock has a say. */
typedef struct bif_during bif_during;
bif_during *bif_during_new(void);
void bif_during_free(bif_during *during);
/* What `open` says of the task and its variant, without a model or a file. */
bif_status bif_during_check(const bif_config *config);
bif_evaluator bif_during_evaluator(bif_during *during);
