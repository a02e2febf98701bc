/* Rows of hashes read from columns, and classes of equal ones (data/near.c). */
#pragma once
#include "data/dedup.h"

typedef struct {
    unsigned char *row; /* [count, width] */
    uint32_t *number;   /* [count] the item each belongs to; rising */
    int64_t count, room;
    size_t width;
} bif_hash_rows;

bif_hash_rows bif_rows_new(int64_t room, size_t width);
void bif_rows_add(bif_hash_rows *rows, uint32_t number, const void *row);
void bif_rows_free(bif_hash_rows *rows);
/* Numbers the different rows by their first item, from `base` on: class_of[number] for each row (the others are left as they are). Afterwards
 * rows holds one row a class, in the order of the classes, with its first item; the result is how many there are. */
int64_t bif_rows_classes(bif_hash_rows *rows, int64_t base, uint32_t *class_of);
int64_t bif_rows_bytes(int64_t room, size_t width); /* of both */

/* Whether a sample takes part. */
static inline bool bif_part_keeps(const bif_pool_part *part, int64_t sample)
{
    return part->selection == NULL || bif_selection_times(part->selection)[sample] > 0;
}
/* A column that is needed, from data hash; its method is put into `columns`, or must be the one there. */
bif_status bif_near_column(const bif_shard *shard, const char *name, bif_column_of of, bif_column_type type, int64_t width, json_t *columns,
                           bif_column **out);
