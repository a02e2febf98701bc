/* Captions and objects of pictures, as COCO's files have them: {"images": [{"id", perhaps "domain"}], "annotations": [{"image_id", "caption" or
 * "category_id"}], "categories": [{"id", "name"}]}; TextCaps' {"data": [{"image_id", "caption_str"}]}; and rows of annotations alone, as
 * JSON lines or an array, with "captions": [...] and "objects": [names] too. Several files add up. */
#pragma once
#include "base/intern.h"
#include "eval/score.h"

enum { BIF_COCO_CATEGORIES = 128 };

typedef struct {
    bif_span id, *captions; /* in the order of the files */
    bif_span domain;        /* of "images" as NoCaps has them: in-domain, near-domain, out-domain; size 0 = none */
    int64_t caption_count, caption_capacity;
    uint64_t objects[BIF_COCO_CATEGORIES / 64]; /* a bit for each category seen in it */
    bool placed;
} bif_picture;

typedef struct {
    bif_score_set *set;    /* whose memory and open files it uses */
    bif_intern ids;
    bif_picture *pictures; /* by number in ids */
    uint32_t *listed;      /* of "images", in their order */
    size_t capacity, listed_count, listed_capacity;
    bif_intern categories; /* their ids, or names with a '/' before */
    bif_span names[BIF_COCO_CATEGORIES]; /* of categories; text NULL: not named (yet) */
} bif_coco;

/* Adds a file. BIF_ERR_DATA with file and line: an annotation without image_id, one with neither caption nor category, none at all, or
 * more than 128 categories. */
bif_status bif_coco_read(bif_coco *coco, const char *path);
void bif_coco_free(bif_coco *coco);

/* The pictures in the scorers' order, each once: of "images" where a file has them, else as they appeared. next = 0 at first; NULL at
 * the end. */
bif_picture *bif_coco_next(bif_coco *coco, size_t *next);
