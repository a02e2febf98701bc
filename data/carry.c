#include "data/carry.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

typedef struct {
    bif_column_info info; /* of the first shard; name and method are owned */
    char *name, *method;
    bif_column *column; /* of the shard at hand */
    bool dropped;
    char *bytes; /* [rows] */
    char **text; /* [rows] of TEXT */
    int64_t rows, room;
} entry;

struct bif_carry {
    entry *entry;
    size_t count;
    int64_t shards, rows[2]; /* of images, of samples */
};

bif_carry *bif_carry_new(void)
{
    return bif_calloc(1, sizeof(bif_carry));
}

static void free_rows(entry *e)
{
    for (int64_t i = 0; e->text != NULL && i < e->rows; i++) {
        free(e->text[i]);
    }
    free(e->text);
    free(e->bytes);
    e->text = NULL;
    e->bytes = NULL;
}

void bif_carry_free(bif_carry *carry)
{
    if (carry == NULL) {
        return;
    }
    for (size_t i = 0; i < carry->count; i++) {
        entry *e = &carry->entry[i];
        bif_column_close(e->column);
        free_rows(e);
        free(e->name);
        free(e->method);
    }
    free(carry->entry);
    free(carry);
}

static entry *find(bif_carry *carry, const char *name)
{
    for (size_t i = 0; i < carry->count; i++) {
        if (strcmp(carry->entry[i].name, name) == 0) {
            return &carry->entry[i];
        }
    }
    return NULL;
}

static entry *add(bif_carry *carry, const char *name)
{
    carry->entry = bif_realloc(carry->entry, carry->count + 1, sizeof *carry->entry);
    entry *e = &carry->entry[carry->count++];
    *e = (entry){.name = bif_strdup(name)};
    return e;
}

/* The column of this name goes on with `column` (NULL: the shard has none that can be used). */
static void take(bif_carry *carry, const char *name, bif_column *column)
{
    entry *e = find(carry, name);
    if (e == NULL) {
        e = add(carry, name);
        e->dropped = carry->shards > 0 || column == NULL; /* the shards before had none */
        if (column != NULL) {
            e->info = *bif_column_describe(column);
            e->info.name = e->name;
            e->info.method = e->method = bif_strdup(e->info.method);
        }
    } else if (!e->dropped) {
        const bif_column_info *info = column != NULL ? bif_column_describe(column) : NULL;
        e->dropped = info == NULL || info->of != e->info.of || info->type != e->info.type || info->width != e->info.width ||
                     strcmp(info->method, e->method) != 0;
    }
    if (e->dropped) {
        free_rows(e);
        bif_column_close(column);
        column = NULL;
    }
    e->column = column;
}

bif_status bif_carry_shard(bif_carry *carry, const bif_shard *shard)
{
    bif_status st = BIF_OK;
    char **names = NULL;
    size_t count = 0;
    for (size_t i = 0; i < carry->count; i++) {
        bif_column_close(carry->entry[i].column);
        carry->entry[i].column = NULL;
    }
    BIF_TRY(bif_column_list(shard, &names, &count));
    for (size_t i = 0; i < count; i++) {
        bif_column *column = NULL;
        st = bif_column_open(shard, names[i], &column);
        if (st == BIF_ERR_DATA) {
            bif_warn("%s; the column is left out", bif_error_message());
            bif_error_clear();
            st = BIF_OK;
        }
        if (st != BIF_OK) {
            goto done;
        }
        take(carry, names[i], column);
    }
    for (size_t i = 0; i < carry->count; i++) {
        if (carry->entry[i].column == NULL) {
            take(carry, carry->entry[i].name, NULL);
        }
    }
    carry->shards++;
done:
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
    return st;
}

void bif_carry_row(bif_carry *carry, bif_column_of of, int64_t row)
{
    carry->rows[of]++;
    for (size_t i = 0; i < carry->count; i++) {
        entry *e = &carry->entry[i];
        if (e->column == NULL || e->info.of != of) {
            continue;
        }
        const bool text = e->info.type == BIF_COLUMN_TEXT;
        const size_t size = bif_column_type_size(e->info.type) * (size_t)e->info.width;
        if (e->rows == e->room) {
            e->room = e->room > 0 ? 2 * e->room : 1024;
            if (text) {
                e->text = bif_realloc(e->text, (size_t)e->room, sizeof *e->text);
            } else {
                e->bytes = bif_realloc(e->bytes, (size_t)e->room, size);
            }
        }
        if (text) {
            const char *value = bif_column_text(e->column, row);
            e->text[e->rows] = value != NULL ? bif_strdup(value) : NULL;
        } else {
            memcpy(e->bytes + (size_t)e->rows * size, (const char *)bif_column_data(e->column) + (size_t)row * size, size);
        }
        e->rows++;
    }
}

bif_status bif_carry_write(bif_carry *carry, const bif_shard *shard)
{
    for (size_t i = 0; i < carry->count; i++) {
        entry *e = &carry->entry[i];
        if (e->dropped) {
            continue;
        }
        BIF_BUG_IF(e->rows != carry->rows[e->info.of], "column %s of a new shard lacks rows", e->name);
        e->info.rows = e->rows;
        const bif_status st = bif_column_write(shard, &e->info, e->info.type == BIF_COLUMN_TEXT ? (const void *)e->text : e->bytes);
        if (st != BIF_OK) {
            return st;
        }
    }
    return BIF_OK;
}

int64_t bif_carry_left_out(const bif_carry *carry)
{
    int64_t count = 0;
    for (size_t i = 0; i < carry->count; i++) {
        count += carry->entry[i].dropped;
    }
    return count;
}
