/* Columns of shards whose samples and images go into a new shard: the rows that go along, collected while it is written.
 *
 * A column is carried if every source shard has it, made by the same method and of the same shape; else it is left out and counted. Held in
 * memory: the rows of one new shard. */
#pragma once
#include "data/column.h"

typedef struct bif_carry bif_carry;

bif_carry *bif_carry_new(void);
void bif_carry_free(bif_carry *carry); /* NULL is allowed */
/* The rows that follow are of this shard, which stays open until the next one, or the end. A damaged column is said (bif_warn) and counts as missing. */
bif_status bif_carry_shard(bif_carry *carry, const bif_shard *shard);
/* The next image or sample of the new shard is this one. */
void bif_carry_row(bif_carry *carry, bif_column_of of, int64_t row);
/* Writes the columns beside the new shard. */
bif_status bif_carry_write(bif_carry *carry, const bif_shard *shard);
int64_t bif_carry_left_out(const bif_carry *carry); /* columns that not all had alike */
