/* Which samples of a pool stay, and why the others do not. Nothing is deleted: a selection is a file beside the shards, made of steps (a
 * dedup, then a prune, then a balance ...), each of which drops or repeats samples that the steps before it left.
 *
 *   8 bytes        "BIFSEL01"
 *   u64            length of the header
 *   header         JSON, UTF-8, indented; then zeros up to a multiple of 64 bytes from the start of the file
 *   records        of all steps end to end: bif_drop, 24 bytes each, little endian
 *
 * header: {"format": "bifocal-selection", "version": 1, "samples": N, "kept": K, "shards": [{"digest", "name", "samples"}],
 * "steps": [{"verb", "parameters": {...}, "before", "after", "reasons": [{"name", "records"}], "records", "xxh3"}]}
 * Shards stand in the order of data/pool.h; a name is the base name of the file, as bif_utf8_spelled has it. Neither paths nor times nor numbers of ranks go into the file: the same data and
 * parameters give the same bytes. */
#pragma once
#include <jansson.h>

#include "data/pool.h"

#define BIF_NO_SAMPLE UINT64_MAX

typedef struct {
    uint64_t sample; /* number in the pool */
    uint64_t other;  /* the sample on whose account (that it duplicates), or BIF_NO_SAMPLE */
    float value;     /* what was measured: a distance, a score, a probability */
    uint16_t reason; /* into the step's reasons */
    uint16_t times;  /* 0: dropped; else kept so many times from here on */
} bif_drop;

typedef struct {
    const char *verb;
    const json_t *parameters; /* owned by the selection */
    const char *const *reason;
    const int64_t *reason_records;
    int64_t reasons;
    int64_t before, after; /* samples kept, repeats counted */
    const bif_drop *records;  /* [count], rising by sample */
    int64_t count;
} bif_selection_step;

typedef struct bif_selection bif_selection;

bif_selection *bif_selection_new(const bif_pool *pool); /* everything kept, no step; fails never */
bif_status bif_selection_read(const char *path, bif_selection **out);
/* BIF_ERR_DATA unless the selection was made of exactly these shards; names the first that is missing or too much. */
bif_status bif_selection_check(const bif_selection *selection, const char *path, const bif_pool *pool);
bif_status bif_selection_write(const bif_selection *selection, const char *path);
void bif_selection_free(bif_selection *selection); /* NULL is allowed */

/* Adds a step. records rise by sample, name samples that are kept, and reasons below `reasons`. parameters (an object) is borrowed and copied with its
 * keys sorted. */
void bif_selection_add(bif_selection *selection, const char *verb, const json_t *parameters, const char *const *reason, int64_t reasons,
                       const bif_drop *records, int64_t count);
/* Takes the last steps away again. BIF_ERR_USAGE: there are fewer. */
bif_status bif_selection_undo(bif_selection *selection, int64_t steps);

int64_t bif_selection_samples(const bif_selection *selection);
int64_t bif_selection_kept(const bif_selection *selection);          /* repeats counted */
const uint16_t *bif_selection_times(const bif_selection *selection); /* [samples]: 0 dropped, 1 kept, more: repeated */
int64_t bif_selection_steps(const bif_selection *selection);
bif_selection_step bif_selection_get(const bif_selection *selection, int64_t step);
/* The record about a sample in a step; NULL: the step left it alone. */
const bif_drop *bif_selection_find(const bif_selection *selection, int64_t step, int64_t sample);
char *bif_selection_digest(const bif_selection *selection, char hex[33]); /* over shards and times: what a training run depends on */
/* The shards it was made of. */
int64_t bif_selection_shards(const bif_selection *selection);
const char *bif_selection_shard(const bif_selection *selection, int64_t shard, const char **digest, int64_t *samples); /* the name */
