/* What is in shards: counts, sizes, formats, sources. Reads the tables and the texts, not the image bytes. */
#pragma once
#include <jansson.h>

#include "base/status.h"

typedef struct {
    int64_t min, median, max;
} bif_spread;

typedef struct {
    char *name;
    int64_t samples;
} bif_source_count;

typedef struct {
    int64_t shards, samples;
    int64_t images;          /* stored */
    int64_t distinct_images; /* by id, over all shards */
    int64_t text_only, one_image, many_images; /* samples */
    int64_t image_only;      /* samples with pictures and an empty list of turns: the trainer leaves them out */
    int64_t captions, conversations; /* samples with the one or the other */
    int64_t turns;           /* entries of all conversations */
    int64_t bad_texts;       /* texts that are no JSON object with one of the two */
    int64_t image_bytes, text_bytes;
    int64_t formats[4];      /* images by bif_image_format */
    bif_spread width, height, size; /* of the images; size in bytes */
    bif_source_count *sources; /* by name */
    int64_t source_count;
} bif_data_stats;

bif_status bif_data_stats_read(const char *const *paths, size_t count, bif_data_stats *out);
void bif_data_stats_free(bif_data_stats *stats);
char *bif_data_stats_text(const bif_data_stats *stats); /* a table for the terminal; malloc'ed */
json_t *bif_data_stats_json(const bif_data_stats *stats);
