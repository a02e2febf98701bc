/* Linear probe: logistic regression on the frozen, normalised picture embeddings of a CLIP pair. */
#pragma once
#include "eval/labels.h"
#include "eval/logistic.h"

typedef struct {
    const char *classes; /* text file: one name a line */
    const char *train, *test; /* JSONL: {"image", "label"} */
    const char *validation;   /* for choosing l2; NULL: a fifth of the training pictures, drawn once and for all */
    const char *image_root;
    int64_t batch;
    double l2; /* as in bif_logistic; negative: chosen of 97 values from 1e-6 to 1e6, eight a decade, then fitted to train and validation */
    int64_t iterations;
} bif_linear_probe_options;

typedef struct {
    bif_accuracy accuracy; /* on the test pictures */
    double l2, validation; /* what was used; accuracy of the best candidate, NAN when l2 was given */
    int64_t fitted;        /* pictures of the last fit */
    bif_logistic_result fit;
    double seconds;
} bif_linear_probe_result;
/* Collective; the same result for any number of ranks. */
bif_status bif_linear_probe(bif_session *session, bif_comm *comm, const bif_linear_probe_options *options, bif_linear_probe_result *result);
