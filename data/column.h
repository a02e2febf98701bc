/* Columns that are computed from a shard (hashes, embeddings, new captions) and kept beside it; the shard itself is never written to.
 *
 * Those of DIR/train-00000.h5 stand in the folder DIR/train-00000.columns/, two files a column:
 *   NAME.npy    the numbers, NumPy's format 1.0, C order: shape (rows,) or (rows, width), little endian; numpy.load reads it.
 *               A column of texts is NAME.jsonl instead: one JSON string (or null: none) a line.
 *   NAME.json   {"format": "bifocal-column", "version": 1, "name", "of": "image" | "sample", "method", "shard": its payload digest,
 *               "xxh3": of the other file, "rows", "width", "type"}, written last: without it there is no column
 * `method` says algorithm, version and settings, so that columns made in two ways cannot be mixed up. Row i belongs to image i or sample i of the
 * shard. Both files are written as base/file.h says. A folder of shards is listed by *.h5, so columns are never taken for shards.
 *
 * Files are untrusted: shapes, types and the digest are checked when a column is opened; beyond the folder nothing is opened.
 * Threads may read one open column at the same time. */
#pragma once
#include "data/shard.h"

typedef enum {
    BIF_COLUMN_U8 = 0,
    BIF_COLUMN_U16 = 1,
    BIF_COLUMN_U32 = 2,
    BIF_COLUMN_U64 = 3,
    BIF_COLUMN_F16 = 4, /* IEEE half */
    BIF_COLUMN_F32 = 5,
    BIF_COLUMN_TEXT = 6,
} bif_column_type;
size_t bif_column_type_size(bif_column_type type); /* bytes of a number; 0 of TEXT */

typedef enum { BIF_COLUMN_OF_IMAGE = 0, BIF_COLUMN_OF_SAMPLE = 1 } bif_column_of;

typedef struct {
    const char *name;   /* letters, digits, '.', '-' and '_'; not starting with '.' */
    const char *method; /* any text */
    bif_column_of of;
    bif_column_type type;
    int64_t rows;  /* those of the shard */
    int64_t width; /* numbers a row, >= 1; of TEXT 1 */
} bif_column_info;

bool bif_column_name_ok(const char *name); /* at most 128 such letters; other names are a bug of the caller */

/* ---- reading ---- */
typedef struct bif_column bif_column;

/* *out = NULL, and BIF_OK, when there is no such column, or only one that is not whole (NAME.json cannot be parsed, the data are gone or
 * not those that it speaks of: a writer killed in between, or damage; said with bif_warn). BIF_ERR_DATA: it belongs to another shard (other
 * payload digest), or NAME.json says what cannot be. */
bif_status bif_column_open(const bif_shard *shard, const char *name, bif_column **out);
/* As above, but a missing one is BIF_ERR_DATA with `advice` ("run bifocal data hash") in the message, and so is one of another kind
 * (of, type, width; width 0 = any). */
bif_status bif_column_need(const bif_shard *shard, const char *name, bif_column_of of, bif_column_type type, int64_t width,
                           const char *advice, bif_column **out);
/* A column of texts that `data recaption --name NAME` or another program wrote: of this name, or where there is none caption-NAME. */
bif_status bif_column_need_captions(const bif_shard *shard, const char *name, bif_column **out);
/* BIF_ERR_DATA unless the column was made as that of the first shard was (method; NULL: none to compare with). column NULL: BIF_OK. */
bif_status bif_column_same_method(const bif_shard *shard, const bif_column *column, const char *method);
const bif_column_info *bif_column_describe(const bif_column *column);
const void *bif_column_data(const bif_column *column); /* [rows, width], mapped; NULL of TEXT */
/* A text, UTF-8, terminated, owned by the column; NULL where the row has none. */
const char *bif_column_text(const bif_column *column, int64_t row);
void bif_column_close(bif_column *column); /* NULL is allowed */
/* Names of the columns of a shard, sorted; malloc'ed strings in a malloc'ed array. */
bif_status bif_column_list(const bif_shard *shard, char ***names, size_t *count);

/* ---- writing ---- */
/* A column in one go, replacing one of that name. data [rows, width]; for TEXT an array of rows strings (NULL = none). */
bif_status bif_column_write(const bif_shard *shard, const bif_column_info *info, const void *data);
char *bif_column_folder(const char *shard_path); /* DIR/train-00000.columns, malloc'ed */
