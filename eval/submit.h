/* Predictions in the form that a benchmark's server takes, where the references are not for everybody.
 *
 *   vqav2    [{"question_id", "answer"}], answers as M4C's port of VQA's code normalises them, as LLaVA sends them
 *   vizwiz   [{"image", "answer"}], likewise
 *   docvqa   [{"questionId", "answer"}]
 *   seed     a line {"question_id", "prediction"} each question
 *   mmbench  a table of index, question, options and prediction: .xlsx, which its server took and VLMEvalKit reads, .tsv or .csv
 *
 * Questions decide what is in it and in which order, ids are written as they stand there (a number or a text). */
#pragma once
#include "eval/score.h"

typedef struct {
    const char *name, *questions, *form; /* what --questions takes and what is written, for --help */
} bif_submit_task;
extern const bif_submit_task bif_submit_tasks[]; /* ended by name NULL */

/* What the policy does not allow is BIF_ERR_DATA (eval/score.h); with BIF_MISSING_WRONG a question without a prediction gets an empty one.
 * *written: how many questions; counts->missing: of those, empty ones. BIF_ERR_USAGE: no such task, or a name of a file that tells no form. */
bif_status bif_submit(const char *task, const char *predictions, const char *const *questions, size_t count,
                      const bif_score_policy *policy, const char *out, int64_t *written, bif_score_counts *counts);
