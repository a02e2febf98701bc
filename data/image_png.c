#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "data/image_codec.h"

/* All state that must survive longjmp lives here, never in a local variable. */
typedef struct {
    png_structp png;
    png_infop info;
    const uint8_t *at;
    size_t left;
    char message[160];
    uint8_t *rgb;
    png_bytep *rows;
    int64_t width, height;
    int depth, kind;
} reader;

static void fail(png_structp png, png_const_charp text)
{
    reader *r = png_get_error_ptr(png);
    snprintf(r->message, sizeof r->message, "%s", text);
    png_longjmp(png, 1);
}

/* Warnings are about ancillary chunks, which are not read, and never cost a pixel. */
static void ignore(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void feed(png_structp png, png_bytep to, size_t size)
{
    reader *r = png_get_io_ptr(png);
    if (size > r->left) {
        png_error(png, "the file ends early");
    }
    memcpy(to, r->at, size);
    r->at += size;
    r->left -= size;
}

static bool read_head(reader *r)
{
    if (setjmp(png_jmpbuf(r->png)) != 0) {
        return false;
    }
    png_set_read_fn(r->png, r, feed);
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL,
                                -1); /* gamma, profiles, text: Pillow's RGB ignores them too */
    png_read_info(r->png, r->info);
    r->width = png_get_image_width(r->png, r->info);
    r->height = png_get_image_height(r->png, r->info);
    r->depth = png_get_bit_depth(r->png, r->info);
    r->kind = png_get_color_type(r->png, r->info);
    return true;
}

/* Rows of a palette (1 byte a pixel) or of 16-bit grey (2 bytes) are decoded into the end of their place in the RGB
 * buffer and widened there from left to right; writing never overtakes reading. */
static bool read_pixels(reader *r)
{
    if (setjmp(png_jmpbuf(r->png)) != 0) {
        return false;
    }
    int64_t bytes = 3;
    if (r->kind == PNG_COLOR_TYPE_PALETTE) {
        png_set_packing(r->png);
        bytes = 1;
    } else if (r->kind == PNG_COLOR_TYPE_GRAY && r->depth == 16) {
        bytes = 2;
    } else {
        png_set_expand_gray_1_2_4_to_8(r->png);
        png_set_strip_16(r->png); /* the high byte */
        png_set_strip_alpha(r->png);
        if ((r->kind & PNG_COLOR_MASK_COLOR) == 0) {
            png_set_gray_to_rgb(r->png);
        }
    }
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    if (png_get_rowbytes(r->png, r->info) != (size_t)(r->width * bytes)) {
        png_error(r->png, "a row has an unexpected length");
    }
    for (int64_t y = 0; y < r->height; y++) {
        r->rows[y] = r->rgb + (y * 3 + 3 - bytes) * r->width;
    }
    png_read_image(r->png, r->rows);
    png_read_end(r->png, NULL);
    return true;
}

/* Colours behind the end of the palette are black. */
static void widen_palette(reader *r)
{
    uint8_t table[256][3] = { 0 };
    png_colorp palette = NULL;
    int colours = 0;
    png_get_PLTE(r->png, r->info, &palette, &colours);
    for (int i = 0; i < colours && i < 256; i++) {
        table[i][0] = palette[i].red;
        table[i][1] = palette[i].green;
        table[i][2] = palette[i].blue;
    }
    for (int64_t y = 0; y < r->height; y++) {
        const uint8_t *from = r->rows[y];
        uint8_t *to = r->rgb + y * r->width * 3;
        for (int64_t x = 0; x < r->width; x++) {
            memcpy(to + x * 3, table[from[x]], 3);
        }
    }
}

/* Pillow takes 16-bit grey for a number, not a fraction: everything above 255 is white. */
static void widen_grey16(reader *r)
{
    for (int64_t y = 0; y < r->height; y++) {
        const uint8_t *from = r->rows[y];
        uint8_t *to = r->rgb + y * r->width * 3;
        for (int64_t x = 0; x < r->width; x++) {
            uint8_t v = from[x * 2] == 0 ? from[x * 2 + 1] : 255;
            memset(to + x * 3, v, 3);
        }
    }
}

bif_status bif_png_read(const char *what, const uint8_t *bytes, size_t size, const bif_image_limits *limits,
                        bif_image_head *head, uint8_t **rgb)
{
    bif_status st = BIF_OK;
    reader *r = bif_calloc(1, sizeof *r);
    r->at = bytes;
    r->left = size;
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, fail, ignore);
    r->info = r->png != NULL ? png_create_info_struct(r->png) : NULL;
    if (r->info == NULL) {
        st = bif_fail(BIF_ERR_MEMORY, "%s: libpng could not start", what);
        goto done;
    }
    if (!read_head(r)) {
        st = bif_fail(BIF_ERR_DATA, "%s: broken PNG: %s", what, r->message);
        goto done;
    }
    BIF_TRY(bif_image_check(what, r->width, r->height, limits));
    *head = (bif_image_head){ r->width, r->height, bif_png_orientation(bytes, size), r->kind == PNG_COLOR_TYPE_GRAY };
    if (rgb != NULL) {
        r->rgb = bif_malloc((size_t)r->width * (size_t)r->height * 3);
        r->rows = bif_malloc((size_t)r->height * sizeof *r->rows);
        if (!read_pixels(r)) {
            st = bif_fail(BIF_ERR_DATA, "%s: broken PNG: %s", what, r->message);
            goto done;
        }
        if (r->kind == PNG_COLOR_TYPE_PALETTE) {
            widen_palette(r);
        } else if (r->kind == PNG_COLOR_TYPE_GRAY && r->depth == 16) {
            widen_grey16(r);
        }
        *rgb = r->rgb;
        r->rgb = NULL;
    }
done:
    if (r->png != NULL) {
        png_destroy_read_struct(&r->png, &r->info, NULL);
    }
    free(r->rgb);
    free(r->rows);
    free(r);
    return st;
}
