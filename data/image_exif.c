#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "data/image_codec.h"

#define TAG_ORIENTATION 274
#define TEXT_MAX ((size_t)1 << 20) /* inflated text of a PNG; a longer one is ignored */

typedef struct {
    const uint8_t *at;
    size_t size;
    bool little;
} tiff;

static uint32_t get(const tiff *t, size_t offset, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value |= (uint32_t)t->at[offset + (size_t)i] << 8 * (t->little ? i : bytes - 1 - i);
    }
    return value;
}

/* The tag's value; 0 when there is none that reads as one integer. */
static int exif_orientation(const uint8_t *exif, size_t size)
{
    for (int i = 0; i < 2 && size >= 6 && memcmp(exif, "Exif\0\0", 6) == 0; i++) { /* some writers put it twice */
        exif += 6;
        size -= 6;
    }
    if (size < 8 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0)) {
        return 0;
    }
    tiff t = { .at = exif, .size = size, .little = exif[0] == 'I' };
    size_t directory = get(&t, 4, 4);
    if (directory > size || size - directory < 2) {
        return 0;
    }
    size_t entries = get(&t, directory, 2);
    for (size_t i = 0; i < entries; i++) {
        size_t entry = directory + 2 + i * 12;
        if (entry > size || size - entry < 12) {
            return 0;
        }
        if (get(&t, entry, 2) == TAG_ORIENTATION && get(&t, entry + 4, 4) == 1) {
            switch (get(&t, entry + 2, 2)) {
            case 3: /* SHORT */
            case 8: /* SSHORT */
                return (int)get(&t, entry + 8, 2);
            case 4: /* LONG */
            case 9: /* SLONG */
                return (int)(get(&t, entry + 8, 4) & 0x7fffffff);
            default:
                return 0;
            }
        }
    }
    return 0;
}

/* tiff:Orientation="N" or <tiff:Orientation>N: the first one in the text; 0 when there is none. */
static int xmp_orientation(const uint8_t *xmp, size_t size)
{
    static const char name[] = "tiff:Orientation";
    const uint8_t *end = xmp + size;
    for (const uint8_t *p = xmp; (p = memmem(p, (size_t)(end - p), name, sizeof name - 1)) != NULL;) {
        p += sizeof name - 1;
        size_t left = (size_t)(end - p);
        size_t skip = left >= 1 && p[0] == '>' ? 1 : left >= 2 && p[0] == '=' && p[1] == '"' ? 2 : 0;
        if (skip > 0 && left > skip && p[skip] >= '0' && p[skip] <= '9') {
            return p[skip] - '0';
        }
    }
    return 0;
}

int bif_orientation(const uint8_t *exif, size_t exif_size, const uint8_t *xmp, size_t xmp_size)
{
    int value = exif != NULL ? exif_orientation(exif, exif_size) : 0;
    if (value == 0 && xmp != NULL) {
        value = xmp_orientation(xmp, xmp_size);
    }
    return value >= 1 && value <= 8 ? value : 1;
}

static uint32_t big32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Inflated text, malloc'ed; NULL when it is damaged or too long. */
static uint8_t *inflate_text(const uint8_t *from, size_t size, size_t *out_size)
{
    uLongf n = TEXT_MAX;
    uint8_t *out = bif_malloc(TEXT_MAX);
    if (uncompress(out, &n, from, (uLong)size) != Z_OK) {
        free(out);
        return NULL;
    }
    *out_size = n;
    return out;
}

/* "\nexif\n    1234\n" and then hex digits with line breaks, to bytes in place; the number of bytes. */
static size_t unhex(uint8_t *text, size_t size)
{
    size_t at = 0, n = 0;
    for (int lines = 0; at < size && lines < 3; at++) {
        lines += text[at] == '\n';
    }
    int high = -1;
    for (; at < size; at++) {
        int c = text[at] | 0x20;
        int digit = text[at] >= '0' && text[at] <= '9' ? text[at] - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit >= 0 && high >= 0) {
            text[n++] = (uint8_t)(high << 4 | digit);
            high = -1;
        } else if (digit >= 0) {
            high = digit;
        }
    }
    return n;
}

/* The text behind the keyword of a tEXt, zTXt or iTXt chunk as a malloc'ed copy, or NULL. */
static uint8_t *chunk_text(const uint8_t *type, const uint8_t *data, size_t size, const char *keyword, size_t *out_size)
{
    size_t at = strlen(keyword) + 1;
    if (size < at || memcmp(data, keyword, at) != 0) {
        return NULL;
    }
    bool packed = false;
    if (memcmp(type, "zTXt", 4) == 0) {
        if (size < at + 1 || data[at] != 0) {
            return NULL;
        }
        packed = true;
        at += 1;
    } else if (memcmp(type, "iTXt", 4) == 0) { /* flag, method, language \0, translated keyword \0 */
        if (size < at + 2) {
            return NULL;
        }
        packed = data[at] != 0;
        at += 2;
        for (int i = 0; i < 2; i++) {
            const uint8_t *zero = memchr(data + at, 0, size - at);
            if (zero == NULL) {
                return NULL;
            }
            at = (size_t)(zero - data) + 1;
        }
    }
    if (packed) {
        return inflate_text(data + at, size - at, out_size);
    }
    *out_size = size - at;
    uint8_t *copy = bif_malloc(size - at);
    memcpy(copy, data + at, size - at);
    return copy;
}

int bif_png_orientation(const uint8_t *bytes, size_t size)
{
    const uint8_t *exif = NULL;
    size_t exif_size = 0, raw_size = 0, xmp_size = 0;
    uint8_t *raw = NULL, *xmp = NULL;
    for (size_t at = 8; at < size && size - at >= 12;) {
        size_t length = big32(bytes + at);
        const uint8_t *type = bytes + at + 4, *data = type + 4;
        if (length > size - at - 12 || memcmp(type, "IEND", 4) == 0) {
            break;
        }
        if (memcmp(type, "eXIf", 4) == 0) {
            exif = data;
            exif_size = length;
        } else if (memcmp(type + 1, "TXt", 3) == 0 || memcmp(type, "tEXt", 4) == 0) {
            if (raw == NULL && (raw = chunk_text(type, data, length, "Raw profile type exif", &raw_size)) != NULL) {
                raw_size = unhex(raw, raw_size);
            }
            if (xmp == NULL) {
                xmp = chunk_text(type, data, length, "XML:com.adobe.xmp", &xmp_size);
            }
        }
        at += length + 12;
    }
    int orientation = bif_orientation(exif != NULL ? exif : raw, exif != NULL ? exif_size : raw_size, xmp, xmp_size);
    free(raw);
    free(xmp);
    return orientation;
}
