/* `bifocal train`: one run of one stage, from a recipe to a checkpoint. */
#pragma once
#include "train/comm.h"
#include "train/config.h"
#include "train/evaluator.h"

/* Collective. Starts, or resumes from the newest valid checkpoint in config->output. Writes there: config.yaml (resolved), metrics.jsonl (one line a
 * step), log.txt, step_N/; with an evaluator (NULL = none) eval/step_N.jsonl and best.json (train/evaluator.h). BIF_ERR_STOPPED after a
 * signal (SIGUSR1, SIGTERM, SIGINT: the step is finished, evaluated where that is due, and saved) or train.stop_after: the same command
 * resumes. */
bif_status bif_train(const bif_config *config, bif_comm *comm, const bif_evaluator *evaluator);
