/* Scores that another program made, as a column of f32 beside the shards: of samples by their id or uid from JSON lines, or of all rows in
 * order from a .npy. */
#pragma once
#include "data/column.h"

typedef struct {
    const char *name; /* of the column */
    /* FILE.npy: numbers, one a row, of the shards in the order given (a folder's by name). Else JSON lines with "id" (the source's, a
     * string or a number) or "uid" (32 hex digits, bif_sample_uid), and a number or null under `key`. */
    const char *scores;
    const char *key;  /* "value" */
    bif_column_of of; /* .npy: what the rows are; JSON lines: samples only */
    bool overwrite;   /* a column of another method is replaced; else BIF_ERR_DATA */
    int64_t memory;   /* bytes */
} bif_column_import_options;

typedef struct {
    int64_t rows, matched; /* of all shards; that have a number now (the others NaN) */
    int64_t lines, unused; /* of JSON lines: all; those that name no sample */
} bif_column_import_result;

/* All is read before anything is written. BIF_ERR_DATA: a line that is no such object, one sample with two numbers, no sample that is
 * named, a .npy of another length; BIF_ERR_MEMORY: over the budget. */
bif_status bif_column_import(const char *const *shards, size_t count, const bif_column_import_options *options,
                             bif_column_import_result *out);
