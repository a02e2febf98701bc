/* How varied embeddings are (data/diversity.h). */
#pragma once
#include "data/pool.h"
#include "data/team.h"

/* The Vendi score of the rows of a column of embeddings (f16, one width in all shards): eigenvalues of X^T X / n, which are those of the
 * kernel of cosines X X^T / n. times [samples of the pool]: a sample counts so often, a picture once where a sample that
 * stays (times above 0) shows it; NULL: every row counts once. Rows that are all zero (nothing could be embedded) do not count. Rows are
 * scaled to length 1. Collective; the same bits for any number of ranks and threads. A rank takes 16 * width^2 bytes. BIF_ERR_DATA: a
 * missing or odd column (`name` as in data/column.h), one that was made in another way than the first shard's, or more than 4,096 numbers
 * a row. */
typedef struct {
    double score;
    int64_t rows;  /* that counted, repeats included */
    int64_t width; /* of the embeddings: the score cannot be higher */
} bif_vendi;
bif_status bif_vendi_column(const bif_pool *pool, const bif_team *team, const char *name, bif_column_of of, const uint16_t *times,
                            bif_vendi *out);
