/* New shards of what a selection keeps: OUT/PREFIX-00000.h5, OUT/PREFIX-00001.h5, ... The sources are only read.
 *
 * Samples stand in the order of the source shards as they were given; one that is kept k times stands there k times, with the ids ID-0 to ID-(k-1) as
 * DataComp's resharder names them (an empty id stays empty). A loader over these shards sees what one over the sources and the selection sees.
 * Encoded pictures are copied byte for byte, each once a shard; texts and sources are the same; columns come along (data/carry.h). Where a new shard
 * begins depends on sizes alone, so any number of ranks writes the same files.
 *
 * A sample that cannot be copied (bytes of a picture that do not match their checksum, a broken record) is left out: a line {"shard", "index", "id",
 * "reason"} of OUT/PREFIX-errors.jsonl. Every new shard is read back (bif_shard_verify); they get their names together at the end. What a killed run
 * left (a folder .PREFIX-compacting) goes with the next of the same prefix; was it giving names, the next finishes that, and says so. */
#pragma once
#include "data/selection.h"
#include "data/team.h"

typedef struct {
    const char *const *shards; /* files, or folders of them */
    size_t shard_count;
    const char *from; /* the selection, made of exactly these shards; NULL: everything is kept */
    const char *out;  /* folder, made if missing */
    const char *prefix;
    int64_t max_shard_bytes; /* image bytes of a new shard; one sample may have more */
    int64_t max_samples;     /* of a new shard; 0 = no limit */
} bif_compact_options;

typedef struct {
    int64_t kept; /* samples to write, repeats counted */
    int64_t samples, bad, images, image_bytes, shards, left_out; /* left_out: columns, counted for every new shard */
} bif_compact_result;

/* Collective; *result is filled on all ranks. BIF_ERR_USAGE: such shards are there already. BIF_ERR_DATA: other shards than the selection's, or no sample
 * could be written. */
bif_status bif_compact(const bif_compact_options *options, const bif_team *team, bif_compact_result *result);
