/* What is in shards, and what a selection made of it: counts, sizes, words, tokens, languages, sources, duplicates, concepts, clusters, of all
 * samples and of those that are left after each step of a selection ("stages"). Reads the tables, texts and columns, never image bytes.
 *
 * An image counts where a sample with it is left (in the first stage all count). A sample that is repeated counts once; `visits` counts its
 * repeats. The text that is measured is the caption, or the "gpt" turns of a conversation, one a line. */
#pragma once
#include <jansson.h>

#include "data/concepts.h"
#include "data/diversity.h"
#include "data/selection.h"
#include "data/tokenizer.h"

typedef enum {
    BIF_STAT_SAMPLES,
    BIF_STAT_VISITS,
    BIF_STAT_TEXT_ONLY, /* samples without, with one, with several images */
    BIF_STAT_ONE_IMAGE,
    BIF_STAT_MANY_IMAGES,
    BIF_STAT_IMAGE_ONLY, /* pictures and an empty list of turns: the trainer leaves these out */
    BIF_STAT_CAPTIONS,
    BIF_STAT_CONVERSATIONS,
    BIF_STAT_BAD_TEXTS, /* no JSON object with one of the two */
    BIF_STAT_DISTINCT_TEXTS, /* case and white space aside */
    BIF_STAT_TURNS,          /* entries of all conversations */
    BIF_STAT_TEXT_BYTES,     /* of the records */
    BIF_STAT_WORDS,
    BIF_STAT_DISTINCT_WORDS, /* lower case */
    BIF_STAT_TOKENS,      /* with a tokenizer */
    BIF_STAT_TOKENS_USED, /* of its vocabulary */
    BIF_STAT_IMAGES,
    BIF_STAT_DISTINCT_IMAGES, /* by the id of their bytes */
    BIF_STAT_DISTINCT_PIXELS, /* by the column pixels, where all shards have it */
    BIF_STAT_UNDECODABLE,     /* likewise */
    BIF_STAT_IMAGE_BYTES,
    BIF_STATS
} bif_stat;
typedef struct {
    const char *key, *label; /* in JSON; in tables */
} bif_stat_name;
extern const bif_stat_name bif_stat_names[BIF_STATS];

typedef enum {
    BIF_MEASURE_WIDTH,
    BIF_MEASURE_HEIGHT,
    BIF_MEASURE_ASPECT, /* hundredths, longer side by shorter */
    BIF_MEASURE_BYTES,  /* of an image */
    BIF_MEASURE_CHARS,  /* code points of a text */
    BIF_MEASURE_WORDS,
    BIF_MEASURE_TOKENS,
    BIF_MEASURES
} bif_stat_measure;
extern const bif_stat_name bif_stat_measure_names[BIF_MEASURES];

#define BIF_STAT_BINS 40 /* bin b of a histogram: values v with floor(2 log2 v) = b, 0 in bin 0; the last takes all above */
typedef struct {
    int64_t count, min, p5, median, p95, max; /* of a sorted list: entry floor((count - 1) p) */
    int64_t bins[BIF_STAT_BINS];
} bif_quantiles;

typedef struct {
    char *name;
    int64_t *count; /* [stages] */
} bif_stat_class;
typedef struct {
    bif_stat_class *row; /* by count in the first stage, then by name; sizes of groups in their order */
    int64_t count;
} bif_stat_classes;

typedef struct {
    bif_spread spread;           /* of the matches over the entries; used: entries with one match or more */
    int64_t covered20;           /* entries with 20 or more */
    int64_t bins[BIF_STAT_BINS]; /* entries by their matches, as above; bin 0: none or one */
} bif_concept_stats;

typedef struct {
    int64_t stages;
    char **stage; /* "all", "1 dedup", "2 prune", ... */
    int64_t shards;
    uint8_t *level;               /* [samples of the pool]: the last stage each is in */
    int64_t (*count)[BIF_STATS];             /* [stages]; -1: not known */
    bif_quantiles (*measure)[BIF_MEASURES];  /* [stages] */
    bif_stat_classes formats, sources, languages, scripts;
    bif_stat_classes same_images, same_texts; /* images (samples) by how many have that content: once, twice, 3 to 5, 6 to 20, more */
    int64_t concepts;              /* entries; 0 = not asked for */
    bif_concept_stats *concept;    /* [stages] */
    bif_stat_classes top_concepts; /* the entries with most matches, at most 30 */
    bif_spread *clusters;          /* [stages]; NULL = not asked for */
    double *vendi;                 /* [stages]; for the caller to fill in (eval/vendi.h), else NULL */
    char *embeddings;              /* the column these two are of */
} bif_data_stats;

typedef struct {
    const bif_pool *pool;
    const bif_selection *selection; /* NULL = none */
    const bif_tokenizer *tokenizer; /* NULL = no tokens */
    const bif_concepts *concepts;   /* NULL = none */
    const char *clusters;           /* name of embeddings whose column NAME.cluster is counted; NULL = none */
    int64_t memory;                 /* bytes that may be used */
} bif_stats_options;

/* BIF_ERR_MEMORY: more than `memory` is needed. */
bif_status bif_data_stats_read(const bif_stats_options *options, bif_data_stats *out);
void bif_data_stats_free(bif_data_stats *stats);
char *bif_data_stats_text(const bif_data_stats *stats); /* tables for the terminal; malloc'ed */
json_t *bif_data_stats_json(const bif_data_stats *stats);
double bif_stat_bin_start(int bin); /* the least value of a bin */
