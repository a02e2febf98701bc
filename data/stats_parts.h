/* What data/stats.c reads and data/stats_sum.c makes statistics of. */
#pragma once
#include "data/stats.h"

/* Everything is kept with its level: the last stage that it is in. What is in stage k are the entries of a level of k or more. */
typedef struct {
    uint64_t key[2];
    uint8_t level;
} bif_stats_keyed;

typedef struct {
    uint64_t *value; /* value << 8 | level */
    int64_t count;
} bif_stats_values;

typedef struct {
    uint64_t *hash; /* open addressing, 0 = free */
    uint8_t *level;
    int64_t used, room;
} bif_stats_words;

/* Rows of the sources by name: a shard may name very many. */
typedef struct {
    int64_t *row; /* [room] into sources, -1 = free */
    int64_t room;
} bif_stats_index;

typedef struct {
    const bif_stats_options *options;
    bif_data_stats *stats;
    uint8_t *image_level;          /* [images of the shard in work] */
    bif_stats_values measure[BIF_MEASURES];
    bif_stats_keyed *images, *pixels, *texts;
    int64_t image_count, pixel_count, text_count;
    bool no_pixels;                /* some shard has no such column */
    bif_stats_words words;
    bif_stats_index sources;
    uint8_t *token_level;          /* [vocabulary]: level + 1; 0 = unused */
    int64_t *concept;              /* [stages][entries] */
    bif_concepts_found found;
    int64_t *cluster;              /* [stages][clusters] */
    int64_t clusters;
    int64_t held;                  /* bytes in use */
    bif_ids ids;
} bif_stats_work;

/* The counts of a new class; and of one that is made if need be, among few. */
int64_t *bif_stats_new_class(bif_stats_work *w, bif_stat_classes *classes, const char *name);
int64_t *bif_stats_count_of(bif_stats_work *w, bif_stat_classes *classes, const char *name);
/* All that is counted becomes what is in each stage. */
void bif_stats_finish(bif_stats_work *w);
