/* Zero-shot classification with CLIP towers: the class whose text embedding is nearest wins. A class's embedding is the mean of its
 * prompts' normalised embeddings, normalised again. */
#pragma once
#include "eval/labels.h"

typedef struct {
    const char *classes;    /* text file: one name a line; line i is class i */
    const char *templates;  /* text file: one template a line, {} or {c} stands for the name; NULL: the name alone */
    const char *images;     /* JSONL: {"image", "label"} with label a class number or the class's line; NULL: */
    const char *const *shards; /* [shard_count] a sample's caption is the name of its class */
    size_t shard_count;
    const char *image_root;
    int64_t batch;
} bif_zeroshot_options;

typedef struct {
    bif_accuracy accuracy;
    int64_t classes, templates;
    double seconds;
} bif_zeroshot_result;
/* Collective. */
bif_status bif_zeroshot(bif_session *session, bif_comm *comm, const bif_zeroshot_options *options, bif_zeroshot_result *result);

/* The prompt of a class: every {} or {c} of the template replaced by its name; malloc'ed. */
char *bif_prompt_text(const char *pattern, const char *name);
