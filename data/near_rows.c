#include "data/near_rows.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t head; /* the first bytes of the row */
    uint32_t at;
} entry;

bif_hash_rows bif_rows_new(int64_t room, size_t width)
{
    return (bif_hash_rows){.row = bif_malloc((size_t)room * width + 8),
                      .number = bif_malloc((size_t)room * sizeof(uint32_t) + 4),
                      .room = room,
                      .width = width};
}

void bif_rows_add(bif_hash_rows *rows, uint32_t number, const void *row)
{
    BIF_BUG_IF(rows->count == rows->room, "more than %lld rows", (long long)rows->room);
    memcpy(rows->row + (size_t)rows->count * rows->width, row, rows->width);
    rows->number[rows->count++] = number;
}

void bif_rows_free(bif_hash_rows *rows)
{
    free(rows->row);
    free(rows->number);
    *rows = (bif_hash_rows){0};
}

int64_t bif_rows_bytes(int64_t room, size_t width)
{
    return room * ((int64_t)width + 4 + 2 * (int64_t)sizeof(entry)); /* glibc's qsort takes as much again */
}

static int compare(const void *a, const void *b, void *context)
{
    const entry *x = a, *y = b;
    const bif_hash_rows *rows = context;
    if (x->head != y->head) {
        return x->head < y->head ? -1 : 1;
    }
    const int order = memcmp(rows->row + x->at * rows->width, rows->row + y->at * rows->width, rows->width);
    return order != 0 ? order : (x->at > y->at) - (x->at < y->at);
}

int64_t bif_rows_classes(bif_hash_rows *rows, int64_t base, uint32_t *class_of)
{
    const int64_t n = rows->count;
    entry *entries = bif_malloc((size_t)n * sizeof *entries + 1);
    for (int64_t i = 0; i < n; i++) {
        entries[i] = (entry){.at = (uint32_t)i};
        memcpy(&entries[i].head, rows->row + (size_t)i * rows->width, rows->width < 8 ? rows->width : 8);
    }
    qsort_r(entries, (size_t)n, sizeof *entries, compare, rows);
    /* For now, the class of a row is its first equal. */
    for (int64_t i = 0; i < n; i++) {
        const entry *now = &entries[i], *last = &entries[i > 0 ? i - 1 : 0];
        const bool same = i > 0 && now->head == last->head &&
                          memcmp(rows->row + now->at * rows->width, rows->row + last->at * rows->width, rows->width) == 0;
        class_of[rows->number[now->at]] = same ? class_of[rows->number[last->at]] : now->at;
    }
    free(entries);
    int64_t classes = 0;
    uint32_t *final = bif_malloc((size_t)n * sizeof *final + 1);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t number = rows->number[i], first = class_of[number];
        if (first == i) {
            final[i] = (uint32_t)classes;
            memmove(rows->row + (size_t)classes * rows->width, rows->row + (size_t)i * rows->width, rows->width);
            rows->number[classes] = number; /* never beyond i, so not read again */
            classes++;
        }
        class_of[number] = (uint32_t)base + final[first];
    }
    free(final);
    rows->count = classes;
    return classes;
}

bif_status bif_near_column(const bif_shard *shard, const char *name, bif_column_of of, bif_column_type type, int64_t width, json_t *columns,
                           bif_column **out)
{
    bif_status st = bif_column_need(shard, name, of, type, width, "run bifocal data hash", out);
    if (st != BIF_OK) {
        return st;
    }
    const char *method = bif_column_describe(*out)->method, *before = json_string_value(json_object_get(columns, name));
    if (before == NULL) {
        json_object_set_new(columns, name, json_string(method));
    } else if (strcmp(before, method) != 0) {
        return bif_fail(
            BIF_ERR_DATA,
            "shard '%s': its column %s was made in another way (%s) than that of the others (%s): run bifocal data hash --overwrite",
            bif_shard_path(shard), name, method, before);
    }
    return BIF_OK;
}
