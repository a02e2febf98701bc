#include "train/torch_zip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"

#define END_BYTES ((size_t)22)     /* end of central directory */
#define COMMENT_CAP ((size_t)65535)
#define LOCATOR_BYTES ((size_t)20) /* of the 64-bit end */
#define END64_BYTES ((size_t)56)
#define CENTRAL_BYTES ((size_t)46)
#define LOCAL_BYTES ((size_t)30)
#define PICKLE_CRC_CAP ((size_t)64 << 20)

static uint64_t little(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        value = value << 8 | at[i];
    }
    return value;
}

static bif_status bad(const bif_zip *zip, size_t offset, const char *what)
{
    return bif_fail(BIF_ERR_DATA, "%s: byte %zu: %s; the file is cut, damaged or not written by torch.save", zip->path, offset, what);
}

typedef struct {
    uint64_t entries, size, offset;
} directory;

/* The end of the zip, and its 64-bit twin before it, which torch always writes. */
static bif_status find_directory(const bif_zip *zip, directory *out)
{
    if (zip->size < END_BYTES) {
        return bad(zip, 0, "too short for a zip");
    }
    size_t end = zip->size - END_BYTES;
    const size_t least = end > COMMENT_CAP ? end - COMMENT_CAP : 0;
    while (little(zip->map + end, 4) != 0x06054b50 || end + END_BYTES + little(zip->map + end + 20, 2) != zip->size) {
        if (end == least) {
            return bad(zip, zip->size, "no end of a zip's directory");
        }
        end--;
    }
    const unsigned char *at = zip->map + end;
    *out = (directory){little(at + 10, 2), little(at + 12, 4), little(at + 16, 4)};
    if (little(at + 4, 2) != 0 || little(at + 8, 2) != little(at + 10, 2)) {
        return bad(zip, end, "a zip in several parts");
    }
    if (end >= LOCATOR_BYTES && little(at - LOCATOR_BYTES, 4) == 0x07064b50) {
        const uint64_t end64 = little(at - LOCATOR_BYTES + 8, 8);
        if (end64 > end || end - end64 < END64_BYTES + LOCATOR_BYTES || little(zip->map + end64, 4) != 0x06064b50) {
            return bad(zip, end - LOCATOR_BYTES, "the 64-bit end of the zip's directory is not where it is said to be");
        }
        at = zip->map + end64;
        *out = (directory){little(at + 32, 8), little(at + 40, 8), little(at + 48, 8)};
    }
    if (out->offset > end || out->size > end - out->offset || out->entries > out->size / CENTRAL_BYTES) {
        return bad(zip, end, "the zip's directory lies outside of the file");
    }
    return BIF_OK;
}

/* 64-bit values stand in an extra field (id 1), in this order, for those that read 0xffffffff. */
static bif_status widen(const bif_zip *zip, const unsigned char *extra, size_t size, uint64_t *const values[3])
{
    size_t offset = (size_t)(extra - zip->map);
    bool wanted = false;
    for (int i = 0; i < 3; i++) {
        wanted = wanted || *values[i] == 0xffffffff;
    }
    while (wanted && size >= 4) {
        const size_t length = little(extra + 2, 2);
        if (length > size - 4) {
            return bad(zip, offset, "a cut extra field");
        }
        if (little(extra, 2) == 1) {
            size_t at = 4;
            for (int i = 0; i < 3; i++) {
                if (*values[i] == 0xffffffff && at + 8 <= length + 4) {
                    *values[i] = little(extra + at, 8);
                    at += 8;
                }
            }
            return BIF_OK;
        }
        extra += 4 + length;
        size -= 4 + length;
        offset += 4 + length;
    }
    return wanted ? bad(zip, offset, "64-bit sizes are announced and not there") : BIF_OK;
}

/* One record of the directory and the local header it points to. */
static bif_status read_entry(bif_zip *zip, size_t *at, size_t end, uint64_t data_end)
{
    const unsigned char *record = zip->map + *at;
    if (end - *at < CENTRAL_BYTES || little(record, 4) != 0x02014b50) {
        return bad(zip, *at, "no record of the zip's directory");
    }
    const size_t name_size = little(record + 28, 2), extra_size = little(record + 30, 2), comment_size = little(record + 32, 2);
    if (end - *at - CENTRAL_BYTES < name_size + extra_size + comment_size) {
        return bad(zip, *at, "a cut record of the zip's directory");
    }
    const char *name = (const char *)record + CENTRAL_BYTES;
    if (name_size == 0 || name_size > BIF_ST_NAME_CAP || memchr(name, '\0', name_size) != NULL) {
        return bad(zip, *at, "an impossible name of an entry");
    }
    if ((little(record + 8, 2) & 1) != 0 || little(record + 10, 2) != 0) {
        return bad(zip, *at, "an entry that is compressed or encrypted, where torch.save stores");
    }
    uint64_t packed = little(record + 20, 4), size = little(record + 24, 4), local = little(record + 42, 4);
    uint64_t *const values[3] = {&size, &packed, &local};
    const bif_status st = widen(zip, record + CENTRAL_BYTES + name_size, extra_size, values);
    if (st != BIF_OK) {
        return st;
    }
    if (packed != size || local > data_end || data_end - local < LOCAL_BYTES) {
        return bad(zip, *at, "an entry lies outside of the file");
    }
    const unsigned char *header = zip->map + local;
    const uint64_t skip = LOCAL_BYTES + little(header + 26, 2) + little(header + 28, 2);
    if (little(header, 4) != 0x04034b50 || little(header + 8, 2) != 0 || little(header + 26, 2) != name_size || skip > data_end - local ||
        memcmp(header + LOCAL_BYTES, name, name_size) != 0) {
        return bad(zip, (size_t)local, "an entry's own header is not what the directory says");
    }
    if (size > data_end - local - skip) {
        return bad(zip, (size_t)local, "an entry reaches beyond its zip");
    }
    char *text = bif_malloc(name_size + 1);
    memcpy(text, name, name_size);
    text[name_size] = '\0';
    zip->entries[zip->count++] = (bif_zip_entry){text, header + skip, (size_t)size};
    if (name_size >= 8 && strcmp(text + name_size - 8, "data.pkl") == 0 && size <= PICKLE_CRC_CAP &&
        crc32(0, header + skip, (uInt)size) != little(record + 16, 4)) {
        return bad(zip, (size_t)(local + skip), "data.pkl is damaged (its CRC-32 is another)");
    }
    *at += CENTRAL_BYTES + name_size + extra_size + comment_size;
    return BIF_OK;
}

static int by_place(const void *a, const void *b)
{
    const bif_zip_entry *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const bif_zip_entry *)a)->name, ((const bif_zip_entry *)b)->name);
}

/* No two entries share a byte; their headers lie between them. */
static bif_status check_places(bif_zip *zip)
{
    qsort(zip->entries, zip->count, sizeof(*zip->entries), by_place);
    for (size_t i = 1; i < zip->count; i++) {
        const bif_zip_entry *a = &zip->entries[i - 1], *b = &zip->entries[i];
        if ((size_t)(b->data - a->data) < a->size + LOCAL_BYTES) {
            return bad(zip, (size_t)(b->data - zip->map), "two entries overlap");
        }
    }
    return BIF_OK;
}

/* All names begin with the folder of data.pkl, which is cut off. */
static bif_status cut_prefix(bif_zip *zip)
{
    size_t prefix = 0;
    for (size_t i = 0; i < zip->count; i++) {
        const char *slash = strchr(zip->entries[i].name, '/');
        if (slash != NULL && strcmp(slash, "/data.pkl") == 0) {
            prefix = (size_t)(slash - zip->entries[i].name) + 1;
        }
    }
    if (prefix == 0) {
        return bad(zip, zip->size, "no data.pkl in the zip");
    }
    for (size_t i = 0; i < zip->count; i++) {
        char *name = zip->entries[i].name;
        const size_t length = strlen(name);
        if (length < prefix || strncmp(name, zip->entries[0].name, prefix) != 0) {
            return bad(zip, (size_t)(zip->entries[i].data - zip->map), "an entry outside of the folder of data.pkl");
        }
    }
    for (size_t i = 0; i < zip->count; i++) {
        char *name = zip->entries[i].name;
        memmove(name, name + prefix, strlen(name + prefix) + 1);
    }
    return BIF_OK;
}

bif_status bif_zip_open(const char *path, const void *map, size_t size, bif_zip *out)
{
    bif_status st = BIF_OK;
    directory where = {0};
    *out = (bif_zip){.path = path, .map = map, .size = size};
    BIF_TRY(find_directory(out, &where));
    size_t at = (size_t)where.offset;
    const size_t end = (size_t)(where.offset + where.size);
    out->entries = bif_calloc((size_t)where.entries + 1, sizeof(*out->entries));
    for (uint64_t i = 0; i < where.entries; i++) {
        BIF_TRY(read_entry(out, &at, end, where.offset));
    }
    BIF_TRY(check_places(out));
    BIF_TRY(cut_prefix(out));
    qsort(out->entries, out->count, sizeof(*out->entries), by_name);
    for (size_t i = 1; i < out->count; i++) {
        if (strcmp(out->entries[i - 1].name, out->entries[i].name) == 0) {
            BIF_TRY(bad(out, (size_t)(out->entries[i].data - out->map), "two entries of one name"));
        }
    }
done:
    return st;
}

void bif_zip_close(bif_zip *zip)
{
    for (size_t i = 0; i < zip->count; i++) {
        free(zip->entries[i].name);
    }
    free(zip->entries);
    *zip = (bif_zip){0};
}

const bif_zip_entry *bif_zip_find(const bif_zip *zip, const char *name)
{
    const bif_zip_entry key = {.name = (char *)(uintptr_t)name};
    return zip->count == 0 ? NULL : bsearch(&key, zip->entries, zip->count, sizeof(*zip->entries), by_name);
}
