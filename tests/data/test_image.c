// bif_image_decode against Pillow (tests/golden/images/decode.txt), and what must be refused.
#include <criterion/criterion.h>
#include <string.h>

#include "data/image.h"
#include "pictures.h"

typedef struct {
    char name[64];
    long long width, height;
    unsigned crc;
    uint8_t *bytes;
    size_t size;
} picture;

// The next line of the list with its file; false at the end.
static bool next_picture(FILE *list, picture *p)
{
    if (fscanf(list, "%63s %lld %lld %x", p->name, &p->width, &p->height, &p->crc) != 4) {
        return false;
    }
    char *path = picture_path(p->name);
    cr_assert(bif_file_read(path, 1 << 20, (char **)&p->bytes, &p->size) == BIF_OK, "%s", bif_error_message());
    free(path);
    return true;
}

static picture load(const char *name)
{
    FILE *list = picture_list("decode.txt");
    picture p = { 0 };
    while (next_picture(list, &p) && strcmp(p.name, name) != 0) {
        free(p.bytes);
    }
    fclose(list);
    cr_assert_str_eq(p.name, name);
    return p;
}

Test(image, equals_pillow)
{
    FILE *list = picture_list("decode.txt");
    cr_assert(list != NULL);
    int count = 0;
    for (picture p; next_picture(list, &p); count++) {
        bif_image image;
        bif_image_format format;
        int64_t w = 0, h = 0;
        cr_assert(bif_image_decode(p.name, p.bytes, p.size, NULL, &image) == BIF_OK, "%s", bif_error_message());
        cr_expect(image.width == p.width && image.height == p.height, "%s is %lldx%lld", p.name, (long long)image.width,
                  (long long)image.height);
        cr_expect(picture_crc(image.rgb, (size_t)(image.width * image.height * 3)) == p.crc, "%s: pixels differ",
                  p.name);
        cr_assert(bif_image_probe(p.name, p.bytes, p.size, NULL, &format, &w, &h) == BIF_OK);
        cr_expect(w == p.width && h == p.height, "%s: probe says %lldx%lld", p.name, (long long)w, (long long)h);
        cr_expect(format == (p.name[0] == 'j' ? BIF_IMAGE_JPEG : p.name[0] == 'p' ? BIF_IMAGE_PNG : BIF_IMAGE_WEBP));
        bif_image_free(&image);
        free(p.bytes);
    }
    fclose(list);
    cr_assert(count >= 75);
}

// Copies to a buffer of exactly that size, so that AddressSanitizer sees a read past the end.
static bif_status decode_exact(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = bif_malloc(size);
    memcpy(copy, bytes, size);
    bif_image image;
    bif_status st = bif_image_decode("test", copy, size, NULL, &image);
    bif_image_free(&image);
    free(copy);
    return st;
}

Test(image, truncated_files_are_refused)
{
    FILE *list = picture_list("decode.txt");
    for (picture p; next_picture(list, &p);) {
        for (size_t i = 0; i < 16; i++) {
            bif_status st = decode_exact(p.bytes, p.size * i / 16);
            if (strcmp(p.name, "jpeg_trailing.jpg") != 0) { // its end may go without loss
                cr_expect(st == BIF_ERR_DATA, "%s cut to %zu/16: status %d", p.name, i, (int)st);
            }
        }
        free(p.bytes);
    }
    fclose(list);
}

Test(image, damaged_files_never_crash)
{
    FILE *list = picture_list("decode.txt");
    srand(11);
    int refused = 0;
    for (picture p; next_picture(list, &p);) {
        for (int i = 0; i < 150; i++) {
            uint8_t *copy = bif_malloc(p.size);
            memcpy(copy, p.bytes, p.size);
            // Half of the damage goes to the first 64 bytes, where the structure is.
            for (int flips = 1 + rand() % 4; flips > 0; flips--) {
                size_t range = i % 2 == 0 && p.size > 64 ? 64 : p.size;
                copy[(size_t)rand() % range] ^= (uint8_t)(1 << rand() % 8);
            }
            bif_image image;
            bif_image_limits limits = { .max_pixels = 1 << 22 };
            bif_status st = bif_image_decode("test", copy, p.size, &limits, &image);
            cr_assert(st == BIF_OK || st == BIF_ERR_DATA);
            cr_assert((st == BIF_OK) == (image.rgb != NULL));
            refused += st != BIF_OK;
            bif_image_free(&image);
            free(copy);
        }
        free(p.bytes);
    }
    fclose(list);
    cr_assert(refused > 1000);
}

static void expect_too_large(uint8_t *bytes, size_t size, const bif_image_limits *limits)
{
    bif_image image;
    bif_image_format format;
    int64_t w, h;
    cr_expect(bif_image_decode("huge", bytes, size, limits, &image) == BIF_ERR_DATA);
    cr_expect(image.rgb == NULL);
    cr_expect(strstr(bif_error_message(), "above the limit") != NULL, "%s", bif_error_message());
    cr_expect(bif_image_probe("huge", bytes, size, limits, &format, &w, &h) == BIF_ERR_DATA);
    free(bytes);
}

static void put32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> 8 * (3 - i));
    }
}

Test(image, a_huge_header_is_refused)
{
    picture p = load("jpeg_big.jpg");
    uint8_t *frame = memmem(p.bytes, p.size, "\xff\xc0", 2);
    cr_assert(frame != NULL);
    frame[5] = frame[7] = 60000 >> 8;
    frame[6] = frame[8] = 60000 & 0xff;
    expect_too_large(p.bytes, p.size, NULL);

    p = load("png_rgb8.png");
    put32(p.bytes + 16, 60000);
    put32(p.bytes + 20, 60000);
    put32(p.bytes + 29, picture_crc(p.bytes + 12, 17));
    expect_too_large(p.bytes, p.size, NULL);

    p = load("webp_animated.webp"); // VP8X: canvas minus one, 24 bits little endian
    cr_assert(memcmp(p.bytes + 12, "VP8X", 4) == 0);
    p.bytes[24] = p.bytes[27] = 59999 & 0xff;
    p.bytes[25] = p.bytes[28] = 59999 >> 8;
    expect_too_large(p.bytes, p.size, NULL);
}

Test(image, limits_are_the_callers)
{
    picture p = load("jpeg_big.jpg");
    uint8_t *copy = bif_malloc(p.size);
    memcpy(copy, p.bytes, p.size);
    expect_too_large(copy, p.size, &(bif_image_limits){ .max_side = 159 });
    bif_image image;
    cr_expect(bif_image_decode("fits", p.bytes, p.size, &(bif_image_limits){ .max_side = 160, .max_pixels = 160 * 120 },
                               &image) == BIF_OK);
    bif_image_free(&image);
    expect_too_large(p.bytes, p.size, &(bif_image_limits){ .max_pixels = 160 * 120 - 1 });
}

Test(image, messages_name_the_picture_and_the_reason)
{
    bif_image image;
    cr_expect(bif_image_decode("a.h5:7", "GIF89a", 6, NULL, &image) == BIF_ERR_DATA);
    cr_expect_str_eq(bif_error_message(), "a.h5:7: neither JPEG, PNG nor WebP (6 bytes)");
    cr_expect(bif_image_decode("a.h5:8", "", 0, NULL, &image) == BIF_ERR_DATA);
    picture p = load("jpeg_big.jpg");
    cr_expect(bif_image_decode("a.h5:9", p.bytes, p.size / 2, NULL, &image) == BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "a.h5:9: broken JPEG: Premature end of JPEG file") != NULL, "%s",
              bif_error_message());
    free(p.bytes);
    p = load("png_photo.png");
    cr_expect(bif_image_decode("a.h5:10", p.bytes, p.size / 2, NULL, &image) == BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "a.h5:10: broken PNG: the file ends early") != NULL, "%s",
              bif_error_message());
    free(p.bytes);
}
