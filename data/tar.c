#include "data/tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define BLOCK 512
#define NAME_CAP ((uint64_t)1 << 16)
#define PAX_CAP ((uint64_t)1 << 20) /* bytes of the pax records of one member */

struct bif_tar {
    char *path;
    int fd;
    uint64_t size, at; /* of the file; of the next header */
    char *name;        /* of the last member */
    char *long_name;   /* of the next one, by GNU's "L"; NULL = none */
    char *pax_name;    /* of the next one, by pax; NULL = none */
    bool has_size;     /* by pax */
    uint64_t pax_size;
};

/* Where the fields of a header stand. */
enum { NAME = 0, SIZE = 124, CHECKSUM = 148, TYPE = 156, MAGIC = 257, PREFIX = 345 };

bif_status bif_tar_open(const char *path, bif_tar **out)
{
    int fd = -1;
    size_t size = 0;
    const bif_status st = bif_open_regular(path, &fd, &size);
    if (st != BIF_OK) {
        return st;
    }
    bif_tar *tar = bif_calloc(1, sizeof *tar);
    *tar = (bif_tar){.path = bif_strdup(path), .fd = fd, .size = size};
    *out = tar;
    return BIF_OK;
}

void bif_tar_close(bif_tar *tar)
{
    if (tar == NULL) {
        return;
    }
    close(tar->fd);
    free(tar->path);
    free(tar->name);
    free(tar->long_name);
    free(tar->pax_name);
    free(tar);
}

const char *bif_tar_path(const bif_tar *tar)
{
    return tar->path;
}

bif_status bif_tar_read(const bif_tar *tar, uint64_t at, void *buffer, size_t size)
{
    for (size_t used = 0; used < size;) {
        const ssize_t n = pread(tar->fd, (char *)buffer + used, size - used, (off_t)(at + used));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return bif_fail_errno(errno, "cannot read '%s' at byte %llu", tar->path, (unsigned long long)(at + used));
        }
        if (n == 0) {
            return bif_fail(BIF_ERR_DATA, "%s: the file ends at byte %llu; it is cut short", tar->path, (unsigned long long)(at + used));
        }
        used += (size_t)n;
    }
    return BIF_OK;
}

bif_status bif_tar_behind(const bif_tar *tar, bool *more)
{
    bif_status st = BIF_OK;
    char block[64 * BLOCK];
    *more = false;
    for (uint64_t at = tar->at; at < tar->size && !*more;) {
        const size_t n = tar->size - at < sizeof block ? (size_t)(tar->size - at) : sizeof block;
        BIF_TRY(bif_tar_read(tar, at, block, n));
        for (size_t i = 0; i < n && !*more; i++) {
            *more = block[i] != 0;
        }
        at += n;
    }
done:
    return st;
}

/* ---- fields ---- */

static bif_status damaged(const bif_tar *tar, uint64_t at, const char *what)
{
    return bif_fail(BIF_ERR_DATA, "%s: the header at byte %llu %s; the tar is damaged or cut short, and not read beyond", tar->path,
                    (unsigned long long)at, what);
}

/* Octal with spaces around, or base 256 when the first bit is set; false when it is neither, negative, or from 2^63. */
static bool number(const uint8_t *field, size_t width, uint64_t *out)
{
    uint64_t value = 0;
    size_t i = 0;
    if (field[0] == 0x80) {
        for (i = 1; i < width; i++) {
            if (value >> 55 != 0) {
                return false;
            }
            value = value << 8 | field[i];
        }
        *out = value;
        return true;
    }
    while (i < width && field[i] == ' ') {
        i++;
    }
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++) {
        if (value >> 60 != 0) {
            return false;
        }
        value = value << 3 | (uint64_t)(field[i] - '0');
    }
    while (i < width && (field[i] == ' ' || field[i] == '\0')) {
        i++;
    }
    *out = value;
    return i == width;
}

/* Some old programs summed signed bytes. */
static bool checksum_fits(const uint8_t *block)
{
    uint64_t wanted = 0;
    int64_t plain = 0, with_sign = 0;
    for (int i = 0; i < BLOCK; i++) {
        const uint8_t byte = i >= CHECKSUM && i < CHECKSUM + 8 ? ' ' : block[i];
        plain += byte;
        with_sign += (int8_t)byte;
    }
    return number(block + CHECKSUM, 8, &wanted) && ((int64_t)wanted == plain || (int64_t)wanted == with_sign);
}

static bool is_zero(const uint8_t *block)
{
    for (int i = 0; i < BLOCK; i++) {
        if (block[i] != 0) {
            return false;
        }
    }
    return true;
}

/* "LENGTH KEY=VALUE\n" end to end; a later record replaces an earlier one. */
static bif_status read_pax(bif_tar *tar, uint64_t at, const char *text, size_t size)
{
    static const char bad[] = "has pax records that cannot be read";
    while (size > 0) {
        size_t length = 0, digits = 0;
        while (digits < size && digits < 8 && text[digits] >= '0' && text[digits] <= '9') {
            length = length * 10 + (size_t)(text[digits++] - '0');
        }
        if (digits == 0 || digits == size || text[digits] != ' ' || length < digits + 3 || length > size || text[length - 1] != '\n') {
            return damaged(tar, at, bad);
        }
        const char *key = text + digits + 1, *end = text + length - 1, *equals = memchr(key, '=', (size_t)(end - key));
        if (equals == NULL) {
            return damaged(tar, at, bad);
        }
        const size_t key_size = (size_t)(equals - key), value_size = (size_t)(end - equals - 1);
        if (key_size == 4 && memcmp(key, "path", 4) == 0) {
            if (value_size >= NAME_CAP || memchr(equals + 1, '\0', value_size) != NULL) {
                return damaged(tar, at, "has a name of more than 65,535 bytes or with a zero byte");
            }
            free(tar->pax_name);
            tar->pax_name = bif_format("%.*s", (int)value_size, equals + 1);
        } else if (key_size == 4 && memcmp(key, "size", 4) == 0) {
            uint64_t value = 0;
            for (const char *c = equals + 1; c < end; c++) {
                if (*c < '0' || *c > '9' || value > (uint64_t)INT64_MAX / 10 - 1) {
                    return damaged(tar, at, "has a size in its pax records that is none");
                }
                value = value * 10 + (uint64_t)(*c - '0');
            }
            tar->has_size = value_size > 0;
            tar->pax_size = value;
        } else if (key_size > 10 && memcmp(key, "GNU.sparse", 10) == 0) {
            return damaged(tar, at, "is that of a sparse file, which is not read here");
        }
        text += length;
        size -= length;
    }
    return BIF_OK;
}

/* The bytes of a header's own data ("x", "L"), ended by a zero byte. */
static bif_status read_extra(bif_tar *tar, uint64_t at, uint64_t size, char **out)
{
    *out = bif_malloc((size_t)size + 1);
    const bif_status st = bif_tar_read(tar, at + BLOCK, *out, (size_t)size);
    (*out)[st == BIF_OK ? size : 0] = '\0';
    return st;
}

/* The name in the header itself: at most 100 bytes, behind a prefix in ustar. */
static char *short_name(const uint8_t *block)
{
    const char *name = (const char *)block + NAME, *prefix = (const char *)block + PREFIX;
    const bool ustar = memcmp(block + MAGIC, "ustar", 6) == 0; /* GNU's own header has a space here, and other fields at the prefix */
    if (ustar && prefix[0] != '\0') {
        return bif_format("%.155s/%.100s", prefix, name);
    }
    return bif_format("%.100s", name);
}

static void forget(bif_tar *tar)
{
    free(tar->pax_name);
    free(tar->long_name);
    tar->pax_name = tar->long_name = NULL;
    tar->has_size = false;
}

bif_status bif_tar_next(bif_tar *tar, bif_tar_member *out, bool *more)
{
    bif_status st = BIF_OK;
    uint8_t block[BLOCK];
    char *extra = NULL;
    for (;;) {
        const uint64_t at = tar->at;
        uint64_t size = 0;
        if (tar->size - at < BLOCK) {
            st = bif_fail(BIF_ERR_DATA, "%s: the file ends at byte %llu without an end mark; it is cut short", tar->path,
                          (unsigned long long)tar->size);
            goto done;
        }
        BIF_TRY(bif_tar_read(tar, at, block, BLOCK));
        if (is_zero(block)) {
            *more = false;
            goto done;
        }
        if (at == 0 && ((block[0] == 0x1f && block[1] == 0x8b) || memcmp(block, "BZh", 3) == 0 || memcmp(block, "\xfd" "7zXZ", 5) == 0 ||
                        memcmp(block, "\x28\xb5\x2f\xfd", 4) == 0)) {
            st = bif_fail(BIF_ERR_DATA, "%s: a compressed file; unpack it to a plain tar first", tar->path);
            goto done;
        }
        if (!checksum_fits(block)) {
            BIF_TRY(at == 0 ? bif_fail(BIF_ERR_DATA, "%s: this is no tar file", tar->path) : damaged(tar, at, "has a wrong checksum"));
        }
        const char type = (char)block[TYPE];
        const bool links = type >= '1' && type <= '6'; /* links, devices, folders: nothing follows them, whatever the size says */
        if (type == 'S') {
            BIF_TRY(damaged(tar, at, "is that of a sparse file, which is not read here"));
        }
        if (!links && !number(block + SIZE, 12, &size)) {
            BIF_TRY(damaged(tar, at, "has a size that is no number"));
        }
        const bool extends = type == 'x' || type == 'g' || type == 'L' || type == 'K';
        if (!extends && !links && tar->has_size) {
            size = tar->pax_size;
        }
        if (size > tar->size - at - BLOCK) {
            st = bif_fail(BIF_ERR_DATA, "%s: the header at byte %llu tells of %llu bytes, but %llu follow; the tar is damaged or cut short",
                          tar->path, (unsigned long long)at, (unsigned long long)size, (unsigned long long)(tar->size - at - BLOCK));
            goto done;
        }
        const uint64_t padded = (size + BLOCK - 1) / BLOCK * BLOCK;
        tar->at = padded > tar->size - at - BLOCK ? tar->size : at + BLOCK + padded;
        if (type == 'x' || type == 'L') {
            if (size > (type == 'x' ? PAX_CAP : NAME_CAP)) {
                BIF_TRY(damaged(tar, at, "is followed by a name or pax records of more than is taken"));
            }
            BIF_TRY(read_extra(tar, at, size, &extra));
            if (type == 'x') {
                BIF_TRY(read_pax(tar, at, extra, (size_t)size));
                free(extra);
            } else {
                free(tar->long_name);
                tar->long_name = extra;
            }
            extra = NULL;
            continue;
        }
        if (extends) {
            continue;
        }
        free(tar->name);
        tar->name = tar->pax_name != NULL    ? bif_strdup(tar->pax_name)
                    : tar->long_name != NULL ? bif_strdup(tar->long_name)
                                             : short_name(block);
        forget(tar);
        const size_t length = strlen(tar->name);
        const bool folder = type == '\0' && length > 0 && tar->name[length - 1] == '/'; /* of before ustar */
        if (!folder && (type == '0' || type == '\0' || type == '7')) {
            *out = (bif_tar_member){.name = tar->name, .at = at + BLOCK, .size = size};
            *more = true;
            goto done;
        }
    }
done:
    free(extra);
    return st;
}
