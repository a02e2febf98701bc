/* Annotations as COCO has them: {"images": [{"id"}], "annotations": [{"image_id", "caption" or "category_id"}], "categories": [{"id",
 * "name"}]}; TextCaps' {"data": [{"image_id", "caption_str"}]}; and the same rows as JSON lines, with "captions": [...] too. */
#pragma once
#include "base/json_scan.h"

/* Who is told; what is NULL is not. Spans live as long as the scan. */
typedef struct {
    void (*image)(void *to, bif_span id);
    void (*caption)(void *to, bif_span image, bif_span text);
    void (*object)(void *to, bif_span image, bif_span category);
    void (*category)(void *to, bif_span id, bif_span name);
} bif_coco_calls;

/* Reads a file to its end. BIF_ERR_DATA with file and line: an annotation without image_id, one with neither caption nor category, or
 * none at all. */
bif_status bif_coco_read(bif_scan *scan, const bif_coco_calls *calls, void *to);
