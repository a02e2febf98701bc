/* Lines of a JSONL file, parsed and named "file:line" in messages. */
#pragma once
#include "base/json.h"

typedef struct {
    json_t *object;
    char where[512]; /* "file:line" */
} bif_jsonl_line;

typedef struct {
    bif_jsonl_line *items;
    int64_t count;
} bif_jsonl;

/* Reads the whole file (at most 4 GiB); empty lines are skipped, a line that is not a JSON object is BIF_ERR_DATA. limit: first so many lines,
 * 0 = all. */
bif_status bif_jsonl_read(const char *path, int64_t limit, bif_jsonl *out);
void bif_jsonl_free(bif_jsonl *jsonl);
