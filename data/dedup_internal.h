/* What data/dedup.c needs of the samples and of the relations (data/dedup_facts.c, data/dedup_match.c). */
#pragma once
#include "data/dedup.h"

/* Samples that take part, by their place in the order of keeping. */
typedef struct {
    uint32_t *sample; /* [count] number in the pool */
    int64_t count;
    int64_t *first;   /* [samples of the pool + 1] into image; of samples that take no part, nothing */
    uint32_t *image;  /* numbers in the pool */
} bif_facts;
bif_status bif_facts_read(const bif_pool *pool, const bif_selection *selection, const bif_dedup_options *options, int64_t memory,
                          int64_t held, json_t *columns, bif_facts *out); /* held: bytes of the memory that the relations take */
void bif_facts_free(bif_facts *facts);

/* A relation with the neighbours of each class. */
typedef struct {
    const bif_relation *relation; /* NULL: nothing matches */
    int64_t *first;               /* [classes + 1] */
    uint32_t *other;              /* rising for each class */
    float *value;
    uint32_t *members;            /* [classes] items */
} bif_neighbours;
void bif_neighbours_make(const bif_relation *relation, bif_neighbours *out);
void bif_neighbours_free(bif_neighbours *neighbours);
uint32_t bif_class_of(const bif_neighbours *n, int64_t item); /* BIF_NO_CLASS: none */
bool bif_classes_match(const bif_neighbours *n, uint32_t a, uint32_t b, float *value);
static inline bool bif_closer(const bif_neighbours *n, float a, float b)
{
    return n->relation->similarity ? a > b : a < b;
}

typedef struct {
    const bif_facts *facts;
    bif_neighbours images, captions;
} bif_matcher;
/* How a sample may match at all: BIF_MATCH_IMAGE, CAPTION or BOTH. */
bool bif_can_match(const bif_matcher *m, bif_match mode, uint32_t sample);
bool bif_samples_match(const bif_matcher *m, bif_match mode, uint32_t s, uint32_t t, float *value);
