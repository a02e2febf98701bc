/* Names of the new shards of data/compact.c: a folder of staging, and how all get their names at the end. Rank 0 alone calls these. */
#pragma once
#include "base/status.h"

typedef struct {
    const char *out, *prefix;
    char *staging; /* OUT/.PREFIX-compacting */
} bif_compact_place;

char *bif_compact_shard_name(const bif_compact_place *place, const char *folder, int64_t number); /* FOLDER/PREFIX-00000.h5, malloc'ed */
char *bif_compact_errors_name(const bif_compact_place *place, int64_t number);                    /* in staging, malloc'ed */
/* Makes both folders, staging empty, with a lock on the output's (*lock, the caller's to close; -1 where it could not be opened). Shards of a run that
 * was killed while they got their names get the rest of them first. BIF_ERR_USAGE: shards of the prefix are there, or another run is at work. */
bif_status bif_compact_begin(const bif_compact_place *place, int *lock);
/* Gives names to the shards of units [0, units) that are in staging, without gaps, and puts the units' errors into one file. All or none: what a failure
 * leaves is taken back. *shards: how many. */
bif_status bif_compact_publish(const bif_compact_place *place, int64_t units, int64_t *shards);
