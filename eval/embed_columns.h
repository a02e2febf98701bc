/* Embeddings as columns beside shards (data/column.h): NAME.image of images and NAME.text of samples, f16, rows of length 1. */
#pragma once
#include "data/pool.h"
#include "data/team.h"
#include "eval/embedder.h"

typedef struct {
    const char *name; /* "clip" */
    const char *caption_column; /* texts from this text column; where it has none, and with NULL, the shard's own */
    bool overwrite;   /* columns of another method are replaced; else BIF_ERR_DATA. Those of this method stay as they are in either case */
} bif_embed_columns_options;

typedef struct {
    int64_t images, texts;         /* rows made */
    int64_t bad_images, bad_texts; /* of them zero, with a line in embed-errors.jsonl */
    int64_t columns, present;      /* made, and found there */
} bif_embed_columns_result;

/* What the embedder was opened for, of every shard of the pool; ranks share the shards. A picture that cannot be decoded and a sample
 * without a text (data/text_measures.h says what its text is) get a row of zeros and a line {"column", "row", "reason"} in
 * SHARD.columns/embed-errors.jsonl, from which the lines of that column's last making are taken out. Beside the embedder a rank takes the
 * columns of one shard and one picture a thread. Collective. */
bif_status bif_embed_columns(const bif_pool *pool, const bif_team *team, bif_embedder *embedder, const bif_embed_columns_options *options,
                             bif_embed_columns_result *result);
