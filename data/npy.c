#include "data/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What follows 'key': in the dictionary of a header, without spaces; NULL when it is not there. */
static const char *header_value(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    at = at == NULL ? NULL : strchr(at + strlen(key), ':');
    return at == NULL ? NULL : at + 1 + strspn(at + 1, " ");
}

/* The type without spaces and outer quotes, and the bytes of an element: the sum over its parts ('<u8' has 8). */
static bool read_type(const char *at, bif_npy *out)
{
    const bool record = at != NULL && *at == '[';
    size_t used = 0;
    if (at == NULL || (!record && *at != '\'')) {
        return false;
    }
    for (const char *c = record ? at : at + 1; *c != (record ? ']' : '\''); c++) {
        if (*c == '\0' || used + 3 > sizeof out->type) {
            return false;
        }
        if (*c != ' ') {
            out->type[used++] = *c;
        }
    }
    if (record) {
        out->type[used++] = ']';
    }
    out->type[used] = '\0';
    out->item = 0;
    for (const char *c = out->type; *c != '\0'; c++) {
        if (*c != '<' && *c != '|') {
            if (*c == '>' || *c == '=') {
                return false;
            }
            continue;
        }
        if (strchr("uifb", c[1]) == NULL || c[1] == '\0' || strchr("1248", c[2]) == NULL || c[2] == '\0' || (c[3] >= '0' && c[3] <= '9')) {
            return false;
        }
        out->item += (size_t)(c[2] - '0');
    }
    return out->item > 0;
}

static bool read_shape(const char *at, bif_npy *out)
{
    if (at == NULL || *at != '(') {
        return false;
    }
    out->count = 1;
    for (int i = 0; i < 4; i++) {
        out->shape[i] = 1;
    }
    for (at++, out->dims = 0; *at != ')';) {
        char *after = NULL;
        errno = 0;
        const long long n = strtoll(at, &after, 10);
        if (after == at || errno != 0 || n < 0 || out->dims == 4 || !bif_mul_i64(out->count, n, &out->count)) {
            return false;
        }
        out->shape[out->dims++] = n;
        at = after + (*after == 'L');
        at += strspn(at, ", ");
    }
    return true;
}

bif_status bif_npy_read(const char *path, const void *data, size_t size, bif_npy *out)
{
    const unsigned char *bytes = data;
    char header[4096];
    if (size < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0) {
        return bif_fail(BIF_ERR_DATA, "%s: not a .npy file", path);
    }
    const size_t head = bytes[6] >= 2 ? 12 : 10;
    size_t length = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (head == 12) {
        length = size < 12 ? size : length | (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    }
    if (bytes[6] < 1 || bytes[6] > 3 || size < head || length > size - head || length >= sizeof header) {
        return bif_fail(BIF_ERR_DATA, "%s: not a whole .npy file of format 1 to 3", path);
    }
    memcpy(header, bytes + head, length);
    header[length] = '\0';
    const char *fortran = header_value(header, "'fortran_order'");
    out->at = head + length;
    if (fortran == NULL || strncmp(fortran, "False", 5) != 0 || !read_type(header_value(header, "'descr'"), out) ||
        !read_shape(header_value(header, "'shape'"), out)) {
        return bif_fail(BIF_ERR_DATA, "%s: a .npy of plain little-endian numbers in C order is wanted; its header says %.200s", path, header);
    }
    const size_t stored = size - out->at;
    if ((uint64_t)out->count != stored / out->item || stored % out->item != 0) {
        return bif_fail(BIF_ERR_DATA, "%s: the header promises %" PRId64 " elements of %zu bytes, the file holds %zu bytes for them", path,
                        out->count, out->item, stored);
    }
    return BIF_OK;
}

size_t bif_npy_head(const char *type, int dims, const int64_t *shape, char out[BIF_NPY_HEAD])
{
    char dict[BIF_NPY_HEAD];
    const char *quote = *type == '[' ? "" : "'";
    int used = snprintf(dict, sizeof dict, "{'descr': %s%s%s, 'fortran_order': False, 'shape': (", quote, type, quote);
    for (int i = 0; i < dims; i++) {
        used += snprintf(dict + used, sizeof dict - (size_t)used, "%s%" PRId64 "%s", i > 0 ? " " : "", shape[i], i + 1 < dims || dims == 1 ? "," : "");
    }
    used += snprintf(dict + used, sizeof dict - (size_t)used, "), }");
    const size_t length = (10 + (size_t)used + 1 + 63) / 64 * 64;
    BIF_BUG_IF(dims > 2 || length > BIF_NPY_HEAD, "a .npy header of %zu bytes", length);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)((length - 10) & 255);
    out[9] = (char)((length - 10) >> 8);
    memcpy(out + 10, dict, (size_t)used);
    memset(out + 10 + used, ' ', length - 11 - (size_t)used);
    out[length - 1] = '\n';
    return length;
}
