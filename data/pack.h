/* Images and their texts into shards: OUT/PREFIX-00000.h5, OUT/PREFIX-00001.h5, ...
 *
 * A record is a JSON object (one of an array, or a line), or a row of CSV:
 *   id             string or integer; may be missing
 *   image          a path below the image root, a list of paths, or missing (a text-only sample)
 *   conversations  [{"from": "human"|"gpt"|..., "value": "..."}, ...]; the human turns hold one "<image>" for each image (or, as LLaVA
 *                  reads it, one turn with some for each)
 *   caption        a string instead of conversations. "" with an image: an image-only sample, stored as {"conversations":[]}, which
 *                  the trainer leaves out
 * Other keys are dropped. Pictures are stored as they are; the same bytes are stored once a shard.
 *
 * A record that cannot be used becomes a line {"record","line","id","reason"} of OUT/PREFIX-errors.jsonl and is counted; too many
 * of them fail the pack. Shards get their names together at the end: after a failure there is none. What a killed pack
 * left (a folder .PREFIX-packing-PID) goes with the next one of the same prefix. */
#pragma once
#include "base/status.h"
#include "data/image.h"
#include "data/records.h"

typedef struct {
    const char *input;      /* the records */
    bif_records_format format;
    const char *image_root; /* folder; NULL: records with images are bad */
    const char *out;        /* folder, made if missing */
    const char *prefix;     /* of the file names; no '/' */
    const char *source;     /* name of the source in the shard; NULL = the base name of input */
    int64_t max_shard_bytes; /* image bytes of a shard */
    int64_t max_samples;     /* samples of a shard; 0 = no limit */
    int64_t max_image_bytes; /* of one encoded file; larger ones are bad */
    bif_image_limits image_limits;
    double max_bad_share; /* of all records; above it the pack fails */
    bool strict;          /* the first bad record fails the pack */
    bool overwrite;       /* replace shards of the same prefix */
} bif_pack_options;

/* 1 GiB a shard, 64 MiB an image, 5 % bad records; the rest zero. */
bif_pack_options bif_pack_defaults(void);

typedef struct {
    int64_t records, bad;
    int64_t samples, text_only, image_only;
    int64_t images;      /* stored, after the same ones were joined */
    int64_t image_bytes;
    int64_t shards;
} bif_pack_result;

bif_status bif_pack(const bif_pack_options *options, bif_pack_result *result);
