/* Zero-shot classification with CLIP towers: the class whose text embedding is nearest wins. */
#pragma once
#include "eval/session.h"

typedef struct {
    const char *classes;    /* text file: one prompt a line; line i is class i */
    const char *images;     /* JSONL: {"image", "label"} with label a class number or the class's line */
    const char *image_root;
    int64_t batch;
} bif_zeroshot_options;

typedef struct {
    int64_t images, correct1, correct5;
    double seconds;
} bif_zeroshot_result;
/* Collective. */
bif_status bif_zeroshot(bif_session *session, bif_comm *comm, const bif_zeroshot_options *options, bif_zeroshot_result *result);
