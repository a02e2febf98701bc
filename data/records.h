/* Records of a caption or conversation file, one at a time, in bounded memory: a JSON array, JSON lines, or CSV (RFC 4180 with a
 * header that has the columns image and caption, perhaps id). Each record comes as a JSON value; CSV rows as an object. */
#pragma once
#include "base/json.h"
#include "base/status.h"

typedef enum { BIF_RECORDS_AUTO = 0, BIF_RECORDS_JSON = 1, BIF_RECORDS_JSONL = 2, BIF_RECORDS_CSV = 3 } bif_records_format;
/* "auto", "json", "jsonl", "csv"; else BIF_ERR_USAGE. */
bif_status bif_records_format_by_name(const char *name, bif_records_format *out);

#define BIF_RECORD_CAP ((size_t)64 << 20) /* bytes of one record */

typedef struct bif_records bif_records;

typedef struct {
    int64_t number; /* from 1 */
    int64_t line;   /* where it starts, from 1 */
    int64_t offset; /* the same as a byte of the file: bif_records_open_at goes on there */
    json_t *value;  /* owned by the caller; NULL: this record is bad, the file goes on; why is in bif_error_message() */
} bif_record;

/* path "-": standard input. AUTO: by the end of the name (.csv, .jsonl, .ndjson), else '[' as the first character means an array, anything else lines. */
bif_status bif_records_open(const char *path, bif_records_format format, bif_records **out);
/* The same of a regular file, called `name` in messages; with `from`, the next record is that one (of its number, line and offset). */
bif_status bif_records_open_at(const char *path, const char *name, bif_records_format format, const bif_record *from, bif_records **out);
/* *more = false at the end. BIF_ERR_DATA: the file itself is broken (no end of the array, a quote that never closes, no header). */
bif_status bif_records_next(bif_records *records, bif_record *out, bool *more);
void bif_records_close(bif_records *records); /* NULL is allowed */
