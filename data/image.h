/* Encoded picture -> RGB -> the bytes the encoder was trained on, equal to Pillow 13 and CLIPImageProcessor (PIL backend). Pictures stay u8 up
 * to the device, a quarter of the memory and of the way there; what a level is worth to the encoder is a table of 3 x 256 floats.
 *
 *  decode   JPEG (libjpeg-turbo, ISLOW, fancy upsampling as Pillow; grey, CMYK/YCCK inverted as Adobe writes it), PNG
 *           (libpng; palette, grey, 16 bit), WebP (of an animation the first frame, on black). Alpha and tRNS are
 *           dropped the way Pillow's convert("RGB") does; of 16-bit colour the high byte stays, 16-bit grey is cut at
 *           255 (Pillow's mode "I;16"). The orientation is applied as by PIL.ImageOps.exif_transpose: EXIF (JPEG, PNG
 *           eXIf or ImageMagick's text, WebP), else XMP. The header is checked against `limits` before any pixel is
 *           allocated. A truncated or corrupt file is BIF_ERR_DATA, never a crash. Stricter than Pillow: a JPEG
 *           without end marker or with libjpeg warnings about its data, and a PNG without IEND or with a wrong
 *           checksum, are refused. Milder: damaged metadata, where Pillow may raise, counts as orientation 1.
 *  resize   Pillow's two-pass antialiased bicubic (a = -0.5), 8-bit with fixed-point weights (22 bit), to the bit.
 *           Pillow 13 goes down before across when height - out_height is above 0 and above 2 * (width - out_width);
 *           up to 12 it always went across first, which differs by about one level in such tall pictures.
 *  clip     shortest side to S (other side = int(S * long / short)), centre crop. Only what the crop keeps is
 *           computed, and the canvas of BIF_FIT_PAD never exists.
 *  table    /255, minus mean, by std.
 *
 * All functions are thread-safe. `limits` may be NULL (all defaults). */
#pragma once
#include "base/status.h"
#include "data/shard.h"

typedef struct {
    int64_t max_pixels; /* refused above; 0 = 178,956,970 (Pillow's bomb limit) */
    int64_t max_side;   /* 0 = 65,535 */
} bif_image_limits;

typedef struct {
    uint8_t *rgb; /* [height, width, 3]; malloc'ed, freed by bif_image_free */
    int64_t width, height;
} bif_image;

void bif_image_free(bif_image *image);

/* Looks at the header only. width/height after EXIF rotation. `what` names the picture in messages. */
bif_status bif_image_probe(const char *what, const void *bytes, size_t size, const bif_image_limits *limits, bif_image_format *format,
                           int64_t *width, int64_t *height);
bif_status bif_image_decode(const char *what, const void *bytes, size_t size, const bif_image_limits *limits, bif_image *out);

/* The pixels as they are stored: the orientation (1 to 8) is told and not applied. *grey: the file has one channel and neither palette nor
 * alpha. Pillow's convert("L") of the file as it is equals convert("L") of these pixels in every mode that is read here
 * (tests/golden/check_hashes.py). */
bif_status bif_image_decode_stored(const char *what, const void *bytes, size_t size, const bif_image_limits *limits, bif_image *out,
                                   int *orientation, bool *grey);
void bif_image_upright(bif_image *image, int orientation); /* what bif_image_decode would have given */

/* out: rgb buffer [out_h, out_w, 3] of the caller. Any sizes >= 1. */
void bif_resize_bicubic(const uint8_t *rgb, int64_t width, int64_t height, uint8_t *out, int64_t out_width, int64_t out_height);

/* A picture as JPEG of quality 1 to 100, for pages that show it; *out is malloc'ed. BIF_ERR_DATA: a side is 0 or above 65,500. */
bif_status bif_image_encode_jpeg(const bif_image *image, int quality, uint8_t **out, size_t *size);

typedef enum {
    BIF_FIT_CROP = 0, /* CLIP: shortest side to S, centre crop */
    BIF_FIT_PAD = 1,  /* LLaVA-1.5 "pad": square canvas of the longer side, colour int(mean*255), offset floor((max-min)/2), then as crop */
    BIF_FIT_SQUASH = 2, /* resize to S x S, aspect ignored (SigLIP) */
} bif_fit;

typedef struct {
    int64_t size; /* S */
    bif_fit fit;
    float mean[3], std[3];
} bif_preprocess;

/* CLIP's constants, fit crop. */
bif_preprocess bif_preprocess_clip(int64_t size);
/* SigLIP's: mean and deviation 0.5, fit squash. */
bif_preprocess bif_preprocess_siglip(int64_t size);
/* out u8 [S, S, 3]. BIF_ERR_CONFIG: a setting out of range; BIF_ERR_DATA: an empty image. */
bif_status bif_preprocess_run(const bif_preprocess *preprocess, const bif_image *image, uint8_t *out);
/* The normalised value of each level of a channel, table[channel * 256 + level], to the bit what CLIPImageProcessor makes of it.
 * BIF_ERR_CONFIG: std is not above 0. */
bif_status bif_preprocess_table(const bif_preprocess *preprocess, float table[3 * 256]);
/* Pictures in the place of ones that cannot be used: every pixel the mean colour, rounded to the nearest level (so 0 after normalisation but
 * for the rounding, below 0.004 with CLIP's constants). out u8 [pictures, S, S, 3]. */
void bif_preprocess_blank(const bif_preprocess *preprocess, int64_t pictures, uint8_t *out);
