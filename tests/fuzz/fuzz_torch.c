/* libFuzzer: any bytes as pytorch_model.bin or mm_projector.bin. The mutator also changes one entry of a zip, mostly data.pkl, and writes the zip
 * anew around it, so that lengths and checksums are right. */
#include <zlib.h>

#include "fuzz_weights.h"
#include "train/torch_zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 4) {
        uint8_t *copy = malloc(size);
        memcpy(copy, data, size);
        memcpy(copy, "PK\3\4", 4); /* else the file would be taken for a safetensors */
        fuzz_use(fuzz_file(copy, size));
        free(copy);
    }
    return 0;
}

typedef struct {
    uint8_t *bytes;
    size_t size, most;
    bool full;
} writer;

static void put(writer *w, const void *data, size_t size)
{
    w->full = w->full || size > w->most - w->size;
    if (!w->full) {
        memcpy(w->bytes + w->size, data, size);
        w->size += size;
    }
}

static void put_number(writer *w, uint64_t value, int bytes)
{
    uint8_t little[8];
    for (int i = 0; i < 8; i++) {
        little[i] = (uint8_t)(value >> 8 * i);
    }
    put(w, little, (size_t)bytes);
}

/* The fields that a local header and a record of the directory share, from "version needed" to the length of the extra field. */
static void put_fields(writer *w, const char *name, const void *data, size_t size)
{
    put_number(w, 20, 2);
    put_number(w, 0, 2 + 2 + 4); /* flags, method, time */
    put_number(w, crc32(0, data, (uInt)size), 4);
    put_number(w, size, 4);
    put_number(w, size, 4);
    put_number(w, strlen(name) + 2, 2);
    put_number(w, 0, 2);
}

/* The zip again, with `size` bytes of `data` for the entry `changed`. */
static size_t rebuild(const bif_zip *zip, size_t changed, const uint8_t *data, size_t size, uint8_t *out, size_t most)
{
    writer w = {.bytes = out, .most = most};
    size_t *offsets = calloc(zip->count, sizeof *offsets);
    for (int directory = 0; directory < 2; directory++) {
        const size_t start = w.size;
        for (size_t i = 0; i < zip->count; i++) {
            const bif_zip_entry *e = &zip->entries[i];
            const void *bytes = i == changed ? data : e->data;
            const size_t length = i == changed ? size : e->size;
            if (directory == 0) {
                offsets[i] = w.size;
                put(&w, "PK\3\4", 4);
                put_fields(&w, e->name, bytes, length);
            } else {
                put(&w, "PK\1\2\24\0", 6);
                put_fields(&w, e->name, bytes, length);
                put_number(&w, 0, 8); /* comment, disk, internal attributes and half of the external */
                put_number(&w, 0, 2);
                put_number(&w, offsets[i], 4);
            }
            put(&w, "a/", 2);
            put(&w, e->name, strlen(e->name));
            put(&w, bytes, directory == 0 ? length : 0);
        }
        if (directory == 1) {
            const size_t length = w.size - start;
            put(&w, "PK\5\6\0\0\0\0", 8);
            put_number(&w, zip->count, 2);
            put_number(&w, zip->count, 2);
            put_number(&w, length, 4);
            put_number(&w, start, 4);
            put_number(&w, 0, 2);
        }
    }
    free(offsets);
    return w.full ? 0 : w.size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed)
{
    bif_zip zip = {0};
    size_t done = 0;
    uint8_t *old = malloc(size + 1), *part = NULL;
    memcpy(old, data, size);
    if (seed % 8 != 0 && size > 0 && bif_zip_open("mutated", old, size, &zip) == BIF_OK) {
        const bif_zip_entry *pickle = bif_zip_find(&zip, "data.pkl");
        const size_t changed = pickle != NULL && seed % 16 < 14 ? (size_t)(pickle - zip.entries) : seed / 16 % zip.count;
        const size_t length = zip.entries[changed].size, room = length + (most > size ? most - size : 0);
        part = malloc(room + 1);
        memcpy(part, zip.entries[changed].data, length);
        done = rebuild(&zip, changed, part, room > 0 ? LLVMFuzzerMutate(part, length, room) : 0, data, most);
    }
    if (done == 0) {
        memcpy(data, old, size);
        done = LLVMFuzzerMutate(data, size, most);
    }
    bif_zip_close(&zip);
    free(part);
    free(old);
    return done;
}
