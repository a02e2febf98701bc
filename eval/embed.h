/* Embeddings of many pictures or texts in the joint space of a CLIP pair, and scores between them. The work is shared over the ranks in
 * batches that do not depend on their number, so neither do the results. Everything here is collective; a failure is everybody's. E is
 * session->model.projection. */
#pragma once
#include "eval/session.h"

typedef struct {
    const char *value; /* a picture's file below the root, or a text; borrowed */
    const char *where; /* "file:line" for messages; borrowed */
    const bif_shard *shard; /* not NULL: image `number` of this shard instead of a file; borrowed */
    int64_t number;
} bif_embed_item;

/* Appends a text as the text tower of the pair takes it (bif_chat_caption). Not collective. cut: as in bif_embed_texts. */
bif_status bif_embed_ids(const bif_session *session, const bif_embed_item *item, bool cut, bif_ids *ids);

/* out f32 [count, E] on every rank, rows of length 1 in the order of the items. batch: items at a time. */
bif_status bif_embed_images(bif_session *session, bif_comm *comm, const char *root, int64_t batch, const bif_embed_item *items,
                            int64_t count, float *out);
/* cut: a text too long for the tower loses its end, as in training (else BIF_ERR_DATA). */
bif_status bif_embed_texts(bif_session *session, bif_comm *comm, int64_t batch, bool cut, const bif_embed_item *items, int64_t count,
                           float *out);

/* Calls row(context, i, scores) on one rank for every i < rows: scores[j] = a_i . b_j + bias[j], j < columns. a [rows, width], b [columns,
 * width], bias [columns] or NULL, all on the host and the same on every rank. */
typedef struct {
    const float *a, *b, *bias;
    int64_t rows, columns, width, batch;
    void (*row)(void *context, int64_t i, const float *scores);
    void *context;
} bif_scores_args;
bif_status bif_scores(bif_device *device, bif_comm *comm, const bif_scores_args *args);

/* How many of the scores other than the label's are not below it: 0 = the label is best, ties count against it. */
int64_t bif_place(const float *scores, int64_t count, int64_t label);
