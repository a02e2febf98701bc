/* Inside of data/image_decode.c: one reader a file format, and where a picture says which way is up. */
#pragma once
#include "data/image.h"

typedef struct {
    int64_t width, height; /* as stored, before the rotation */
    int orientation;       /* EXIF, 1..8 */
    bool grey;             /* one channel, no palette, no alpha */
} bif_image_head;

/* Reads the header and checks it against `limits`; with rgb != NULL also the pixels: *rgb [height, width, 3],
 * malloc'ed, not rotated, freed by the caller (NULL after a failure). Every failure is BIF_ERR_DATA. */
typedef bif_status bif_image_reader(const char *what, const uint8_t *bytes, size_t size, const bif_image_limits *limits,
                                    bif_image_head *head, uint8_t **rgb);
bif_image_reader bif_jpeg_read, bif_png_read, bif_webp_read;

/* BIF_ERR_DATA when a side or the area is 0 or above the limits. */
bif_status bif_image_check(const char *what, int64_t width, int64_t height, const bif_image_limits *limits);

/* Orientation from an EXIF block (with or without "Exif\0\0" before the TIFF header) or, when that does not speak, from
 * XMP, as Pillow; 1 when neither says anything usable. Either may be NULL. Damaged metadata is no reason to refuse the
 * pixels. */
int bif_orientation(const uint8_t *exif, size_t exif_size, const uint8_t *xmp, size_t xmp_size);
/* The same for a whole PNG file: eXIf, "Raw profile type exif" text (ImageMagick), XMP text; they may stand behind the
 * pixels. */
int bif_png_orientation(const uint8_t *bytes, size_t size);
