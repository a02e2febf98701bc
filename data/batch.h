/* A packed micro-batch: sequences end to end, no padding. Host memory; one batch is filled by the loader and read by
 * one step. */
#pragma once
#include "base/status.h"

typedef struct {
    int64_t tokens;     /* T */
    int64_t sequences;  /* n */
    int64_t images;     /* pictures; 0 in a text-only batch */
    int64_t supervised; /* R: rows that predict a supervised token */
    int64_t group;      /* packed batches of one rank with the same group are one micro-batch to train.loss micro_mean */
    int32_t *ids;        /* [T] token ids; image rows hold the image token's id */
    int32_t *pos;        /* [T] position in its sequence */
    int32_t *labels;     /* [T] unshifted, -100 = none */
    int32_t *cu_seqlens; /* [n+1] */
    int32_t *image_row;  /* [T] row of the projected features (image * tokens_per_image + k), -1 for text rows */
    int32_t *rows;       /* [R] rows whose NEXT token is supervised: labels[rows[i]+1] != -100 and the same sequence */
    int32_t *targets;    /* [R] = labels[rows[i]+1] */
    int32_t *eot;        /* [n] last row of each sequence (pooling of a text tower) */
    uint8_t *pixels;     /* [images, S, S, 3] */
    uint64_t *sample;    /* [n] global sample number, for logs */
    uint64_t *place;     /* [n] step * samples of a step + number in the step: one of each in a run, by which dropout is drawn; without
                            a loader `sample` */
} bif_batch;

/* Capacity of a batch, for planning memory. */
typedef struct {
    int64_t tokens, sequences, images, image_size, tokens_per_image;
} bif_batch_limits;

bif_batch *bif_batch_new(const bif_batch_limits *limits);
void bif_batch_free(bif_batch *batch);
void bif_batch_clear(bif_batch *batch);

struct bif_encoded_view { /* what bif_batch_add needs of a bif_encoded (data/chat.h) */
    const int32_t *ids, *labels;
    int64_t count;
    const int64_t *image_start;
    int64_t images;
};
/* Appends one sequence; its pictures' pixels ([images, S, S, 3]) are copied, or with pixels == NULL stand at
 * batch->pixels + batch->images * 3 * S * S already (the loader decodes in place). False (and nothing added) if it does
 * not fit. */
bool bif_batch_add(bif_batch *batch, const bif_batch_limits *limits, const struct bif_encoded_view *sequence,
                   const uint8_t *pixels, uint64_t sample);
