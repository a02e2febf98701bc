#include <stdlib.h>
#include <string.h>

#include "data/image_codec.h"

#define PIXELS_MAX ((int64_t)178956970)
#define SIDE_MAX ((int64_t)65535)

void bif_image_free(bif_image *image)
{
    free(image->rgb);
    *image = (bif_image){ 0 };
}

bif_status bif_image_check(const char *what, int64_t width, int64_t height, const bif_image_limits *limits)
{
    int64_t side = limits != NULL && limits->max_side > 0 ? limits->max_side : SIDE_MAX;
    int64_t area = limits != NULL && limits->max_pixels > 0 ? limits->max_pixels : PIXELS_MAX;
    int64_t pixels = 0;
    if (width < 1 || height < 1) {
        return bif_fail(BIF_ERR_DATA, "%s: the header says %lldx%lld pixels", what, (long long)width,
                        (long long)height);
    }
    if (width > side || height > side || !bif_mul_i64(width, height, &pixels) || pixels > area) {
        return bif_fail(BIF_ERR_DATA, "%s: %lldx%lld pixels are above the limit of %lld a side and %lld in all", what,
                        (long long)width, (long long)height, (long long)side, (long long)area);
    }
    return BIF_OK;
}

static bif_image_format sniff(const uint8_t *bytes, size_t size)
{
    if (size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0) {
        return BIF_IMAGE_JPEG;
    }
    if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) {
        return BIF_IMAGE_PNG;
    }
    if (size >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0) {
        return BIF_IMAGE_WEBP;
    }
    return BIF_IMAGE_UNKNOWN;
}

static bif_status read_image(const char *what, const void *bytes, size_t size, const bif_image_limits *limits,
                             bif_image_format *format, bif_image_head *head, uint8_t **rgb)
{
    *format = sniff(bytes, size);
    switch (*format) {
    case BIF_IMAGE_JPEG:
        return bif_jpeg_read(what, bytes, size, limits, head, rgb);
    case BIF_IMAGE_PNG:
        return bif_png_read(what, bytes, size, limits, head, rgb);
    case BIF_IMAGE_WEBP:
        return bif_webp_read(what, bytes, size, limits, head, rgb);
    case BIF_IMAGE_UNKNOWN:
    default:
        return bif_fail(BIF_ERR_DATA, "%s: neither JPEG, PNG nor WebP (%zu bytes)", what, size);
    }
}

/* 5 to 8 exchange width and height. */
static bool turned(int orientation)
{
    return orientation >= 5;
}

bif_status bif_image_probe(const char *what, const void *bytes, size_t size, const bif_image_limits *limits,
                           bif_image_format *format, int64_t *width, int64_t *height)
{
    bif_status st = BIF_OK;
    bif_image_head head = { 0 };
    BIF_TRY(read_image(what, bytes, size, limits, format, &head, NULL));
    *width = turned(head.orientation) ? head.height : head.width;
    *height = turned(head.orientation) ? head.width : head.height;
done:
    return st;
}

/* Each orientation is a first pixel and two steps through the stored rows. 16x16 tiles keep both sides in cache: turned
 * row by row, a large picture misses it on every pixel. */
static void rotate(const uint8_t *from, const bif_image_head *head, bif_image *out)
{
    enum { TILE = 16 };
    int64_t w = head->width, h = head->height, o = head->orientation;
    bool right = o == 2 || o == 3 || o == 7 || o == 8; /* starts at the stored right edge */
    bool bottom = o == 3 || o == 4 || o == 6 || o == 7;
    int64_t across = (right ? -1 : 1) * 3, down = (bottom ? -1 : 1) * w * 3; /* steps along stored x and y */
    const uint8_t *first = from + (right ? (w - 1) * 3 : 0) + (bottom ? (h - 1) * w * 3 : 0);
    int64_t step_x = turned((int)o) ? down : across, step_y = turned((int)o) ? across : down;
    for (int64_t ty = 0; ty < out->height; ty += TILE) {
        for (int64_t tx = 0; tx < out->width; tx += TILE) {
            for (int64_t y = ty; y < ty + TILE && y < out->height; y++) {
                uint8_t *to = out->rgb + (y * out->width + tx) * 3;
                const uint8_t *p = first + y * step_y + tx * step_x;
                for (int64_t x = tx; x < tx + TILE && x < out->width; x++, to += 3, p += step_x) {
                    memcpy(to, p, 3);
                }
            }
        }
    }
}

bif_status bif_image_decode_stored(const char *what, const void *bytes, size_t size, const bif_image_limits *limits, bif_image *out,
                                   int *orientation, bool *grey)
{
    bif_status st = BIF_OK;
    bif_image_format format;
    bif_image_head head = { 0 };
    uint8_t *rgb = NULL;
    *out = (bif_image){ 0 };
    BIF_TRY(read_image(what, bytes, size, limits, &format, &head, &rgb));
    *out = (bif_image){ .rgb = rgb, .width = head.width, .height = head.height };
    *orientation = head.orientation;
    *grey = head.grey;
done:
    return st;
}

void bif_image_upright(bif_image *image, int orientation)
{
    if (orientation > 1) {
        const bif_image_head head = { .width = image->width, .height = image->height, .orientation = orientation };
        uint8_t *stored = image->rgb;
        image->width = turned(orientation) ? head.height : head.width;
        image->height = turned(orientation) ? head.width : head.height;
        image->rgb = bif_malloc((size_t)image->width * (size_t)image->height * 3);
        rotate(stored, &head, image);
        free(stored);
    }
}

bif_status bif_image_decode(const char *what, const void *bytes, size_t size, const bif_image_limits *limits,
                            bif_image *out)
{
    bif_status st = BIF_OK;
    int orientation = 1;
    bool grey = false;
    BIF_TRY(bif_image_decode_stored(what, bytes, size, limits, out, &orientation, &grey));
    bif_image_upright(out, orientation);
done:
    return st;
}
