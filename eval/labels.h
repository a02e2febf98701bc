/* Labelled pictures: a text file of classes, and JSONL {"image", "label"} or shards. */
#pragma once
#include "eval/embed.h"
#include "eval/jsonl.h"
#include "eval/question.h"

typedef struct {
    char *text;
    char **line; /* [count] lines that are not empty, into text */
    int64_t count;
} bif_lines;
bif_status bif_lines_read(const char *path, bif_lines *out);
void bif_lines_free(bif_lines *lines);

typedef struct {
    bif_jsonl file;
    bif_questions pairs; /* of shards, instead of a file */
    bif_embed_item *item; /* [count] */
    int32_t *label;       /* [count] in [0, classes->count) */
    int64_t count;
} bif_labels;
/* BIF_ERR_DATA, naming the line, when a label is neither the number nor the name of a class, or when the file holds no pictures. */
bif_status bif_labels_read(const char *path, const bif_lines *classes, bif_labels *out);
/* The same of shards, where a sample's caption is the name of its class. */
bif_status bif_labels_read_shards(const char *const *shards, size_t count, const bif_lines *classes, bif_labels *out);
void bif_labels_free(bif_labels *labels);

/* Right answers by class. */
typedef struct {
    int64_t images, correct1, correct5;
    double per_class; /* mean over the classes that have pictures of the share that is right */
} bif_accuracy;
/* Scores of the pictures' embeddings x [labels->count, width] against class rows w [classes, width] and bias [classes] or NULL.
 * Collective. */
bif_status bif_classify(bif_device *device, bif_comm *comm, const bif_labels *labels, const float *x, int64_t width, const float *w,
                        const float *bias, int64_t classes, int64_t batch, bif_accuracy *out);
