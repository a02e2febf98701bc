/* Retrieval between pictures and captions in the joint space of a CLIP pair, counted as CLIP_benchmark does. */
#pragma once
#include "eval/embed.h"

typedef struct {
    const char *pairs;      /* JSONL: {"image", "caption": TEXT or [TEXT, ...]} ("captions" too); lines may share a picture; NULL: */
    const char *const *shards; /* [shard_count] a sample is a picture and its caption; samples of the same bytes share a picture */
    size_t shard_count;
    const char *image_root;
    int64_t batch;
} bif_retrieval_options;

enum { BIF_RECALLS = 3 };
extern const int bif_recall_at[BIF_RECALLS]; /* 1, 5, 10 */

typedef struct {
    int64_t images, texts;
    double image_to_text[BIF_RECALLS]; /* share of the pictures that have one of their captions among the first k */
    double text_to_image[BIF_RECALLS]; /* share of the captions that have their picture among the first k */
    double seconds;
} bif_retrieval_result;
/* Ties count against what is looked for. Collective. */
bif_status bif_retrieval(bif_session *session, bif_comm *comm, const bif_retrieval_options *options, bif_retrieval_result *result);
