/* New captions by a LLaVA checkpoint, as a text column of samples beside the shards (data/column.h). */
#pragma once
#include "data/selection.h"
#include "data/team.h"
#include "eval/generate.h"

typedef struct {
    const char *name;      /* the column is caption-NAME */
    const char *prompt;    /* the question about every picture; it may place it with <image> */
    bif_decoding decoding; /* sampled tokens are drawn by the seed, the sample's uid and the place alone */
    int64_t batch;         /* pictures at a time; does not change a text */
    bool overwrite;        /* columns and unfinished captions of another method are thrown away; else BIF_ERR_DATA */
} bif_recaption_options;

typedef struct {
    int64_t samples;          /* with a picture, and kept by the selection */
    int64_t written;          /* texts made by this start */
    int64_t kept;             /* texts and failures of earlier starts that did not end */
    int64_t bad;              /* pictures that cannot be decoded, by this start */
    int64_t columns, present; /* made, and found there */
    double seconds;
} bif_recaption_result;

/* Of every sample that has a picture (the first one of several is looked at) and that the selection keeps (NULL: all): one text. Others,
 * and those whose picture cannot be decoded, have none; the latter get a line {"column", "sample", "image", "reason"} in
 * SHARD.columns/recaption-errors.jsonl. Texts are appended to SHARD.columns/caption-NAME.partial-RANK.jsonl as they are found, and the
 * column is made of these when all are there: the same call goes on after a kill, on any number of ranks. Two runs at once on the same
 * shards and NAME do the work twice; the slower one finds the columns of the other. method (malloc'ed, the caller's): weights, prompt,
 * decoding and what else the texts depend on. Collective. */
bif_status bif_recaption(bif_session *session, const bif_pool *pool, const bif_selection *selection, const bif_recaption_options *options,
                         const bif_team *team, char **method, bif_recaption_result *result);

/* ---- eval/recaption_partial.c: what is found so far ---- */
typedef struct bif_partial bif_partial;
/* This rank's file of a shard, for appending; made if missing. */
bif_status bif_partial_open(const bif_shard *shard, const char *column, const char *method, int rank, bif_partial **out);
/* text, or NULL with the reason why there is none. Handed to the system at once. */
bif_status bif_partial_add(bif_partial *partial, int64_t sample, const char *text, const char *reason);
void bif_partial_close(bif_partial *partial); /* NULL is allowed */
/* What all ranks have found of a shard: text[samples] (malloc'ed, NULL: none) and reason[samples]; either may be NULL, and so may the
 * arrays' entries be. found[samples]: whether there is a line. Torn and damaged lines do not count. BIF_ERR_DATA: captions of another
 * method, unless `overwrite`, which removes them. */
bif_status bif_partial_read(const bif_shard *shard, const char *column, const char *method, bool overwrite, bool *found, char **text,
                            char **reason);
bif_status bif_partial_remove(const bif_shard *shard, const char *column);
