/* Orders of samples from files: text, or NumPy's .npy. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/npy.h"
#include "data/order.h"

#define FILE_CAP ((size_t)16 << 30)

static bif_status out_of_range(const char *path, const char *unit, int64_t place, const char *number, int64_t samples)
{
    return bif_fail(BIF_ERR_DATA, "%s: %s %" PRId64 " is sample %s, but there are %" PRId64 " samples (numbered from 0)", path, unit, place, number,
                    samples);
}

static bif_status read_text(const char *path, const char *text, size_t size, int64_t samples, uint32_t *order, int64_t *count)
{
    const char *at = text, *end = text + size;
    for (int64_t line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *next = stop == NULL ? end : stop + 1;
        stop = stop == NULL ? end : stop;
        stop -= stop > at && stop[-1] == '\r';
        uint64_t number = 0;
        bool good = stop > at && stop - at <= 18;
        for (const char *c = at; good && c < stop; c++) {
            good = *c >= '0' && *c <= '9';
            number = number * 10 + (uint64_t)(*c - '0');
        }
        if (!good) {
            return bif_fail(BIF_ERR_DATA, "%s:%" PRId64 ": '%.*s' is not the number of a sample; one whole number a line is wanted", path, line,
                            (int)(stop - at < 40 ? stop - at : 40), at);
        }
        if (number >= (uint64_t)samples) {
            char digits[24];
            snprintf(digits, sizeof digits, "%" PRIu64, number);
            return out_of_range(path, "line", line, digits, samples);
        }
        order[(*count)++] = (uint32_t)number;
        at = next;
    }
    return BIF_OK;
}

static bif_status read_npy(const char *path, const char *data, size_t size, int64_t samples, uint32_t **order, int64_t *count)
{
    bif_status st = BIF_OK;
    bif_npy npy;
    BIF_TRY(bif_npy_read(path, data, size, &npy));
    const bool wide = strcmp(npy.type, "<u8") == 0 || strcmp(npy.type, "<i8") == 0;
    const bool narrow = strcmp(npy.type, "<u4") == 0 || strcmp(npy.type, "<i4") == 0;
    if ((!wide && !narrow) || npy.dims != 1) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a .npy of one dimension and of type u4, u8, i4 or i8 (little endian) is wanted, this one has %d of %s", path,
                         npy.dims, npy.type));
    }
    const int64_t n = npy.count;
    *order = bif_malloc((size_t)n * sizeof **order);
    for (int64_t i = 0; i < n; i++) {
        const char *from = data + npy.at + (size_t)i * npy.item;
        int64_t number = 0; /* an unsigned one beyond INT64_MAX becomes negative and is refused too */
        int32_t small = 0;
        if (wide) {
            memcpy(&number, from, 8);
        } else {
            memcpy(&small, from, 4);
            number = npy.type[1] == 'u' ? (int64_t)(uint32_t)small : small;
        }
        if (number < 0 || number >= samples) {
            char digits[24];
            snprintf(digits, sizeof digits, "%" PRId64, number);
            BIF_TRY(out_of_range(path, "entry", i, digits, samples));
        }
        (*order)[i] = (uint32_t)number;
    }
    *count = n;
done:
    return st;
}

bif_status bif_order_read(const char *path, int64_t samples, uint32_t **order, int64_t *count)
{
    bif_status st = BIF_OK;
    char *data = NULL;
    size_t size = 0;
    *order = NULL;
    *count = 0;
    BIF_BUG_IF(samples < 1 || samples > UINT32_MAX, "an order of %" PRId64 " samples", samples);
    BIF_TRY(bif_file_read(path, FILE_CAP, &data, &size));
    if (size >= 6 && memcmp(data, "\x93NUMPY", 6) == 0) {
        BIF_TRY(read_npy(path, data, size, samples, order, count));
    } else {
        *order = bif_malloc((size / 2 + 1) * sizeof **order); /* a line has two bytes at least, but for the last */
        BIF_TRY(read_text(path, data, size, samples, *order, count));
    }
    if (*count == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: an order without samples", path);
    }
done:
    free(data);
    if (st != BIF_OK) {
        free(*order);
        *order = NULL;
        *count = 0;
    }
    return st;
}
