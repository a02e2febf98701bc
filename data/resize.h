/* Pillow's resize (bicubic, Lanczos) of a window of a virtual canvas: what preprocessing needs without the pixels it would throw
 * away.
 *
 * The source is thought pasted at (off_x, off_y) on a canvas of one colour; the canvas is resized to out_width x
 * out_height; only the window [x, x+w) x [y, y+h) of that result is computed. Neither the canvas nor the whole result
 * exists in memory, and the bytes are those of paste, resize and crop done one after the other. Cost grows with the
 * source, not the canvas. */
#pragma once
#include "base/status.h"

typedef enum { BIF_RESIZE_BICUBIC = 0, BIF_RESIZE_LANCZOS = 1 } bif_resize_filter;

/* Weights of sizes that were met before, for one thread at a time; they cost as much as the resize itself where the result is small. */
typedef struct bif_resize_memo bif_resize_memo;
bif_resize_memo *bif_resize_memo_new(void);
void bif_resize_memo_free(bif_resize_memo *memo); /* NULL is allowed */

typedef struct {
    const uint8_t *rgb; /* [height, width, 3], or if `grey` [height, width] */
    int64_t stride;     /* bytes from row to row; 0 = those of `width` pixels */
    int64_t width, height;
    int64_t canvas_width, canvas_height; /* = width, height without padding */
    int64_t off_x, off_y;
    uint8_t fill[3]; /* of grey the first */
    bool grey;       /* a byte a pixel, not three */
    bif_resize_filter filter;
    int64_t out_width, out_height;
    int64_t x, y, w, h;
} bif_resize_job;

/* out: [h, w, 3] (of grey [h, w]) of the caller, not overlapping the source. A source outside the canvas or a window outside the result
 * is a bug. */
void bif_resize_window(const bif_resize_job *job, uint8_t *out);

typedef struct {
    int64_t width, height;
    uint8_t *out; /* [height, width, 3] (of grey [height, width]) of the caller */
} bif_resize_target;
/* A whole picture in several sizes (BIF_RESIZE_TARGETS at most), read once; the bytes are those of one job each. memo: NULL is allowed. */
enum { BIF_RESIZE_TARGETS = 8 };
void bif_resize_sizes(const uint8_t *pixels, bool grey, int64_t width, int64_t height, bif_resize_filter filter,
                      const bif_resize_target *targets, int count, bif_resize_memo *memo);
