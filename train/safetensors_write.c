#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/safetensors_parts.h"

#define COPY_BYTES ((size_t)4 << 20) /* from a device to the file through so much host memory */

/* The header's text, padded with blanks so that the data begin on an 8-byte border. */
static char *header_text(const bif_st_source *tensors, int64_t count, const char *const *metadata_pairs, size_t *size)
{
    json_t *header = json_object();
    if (metadata_pairs != NULL) {
        json_t *metadata = json_object();
        for (size_t i = 0; metadata_pairs[i] != NULL; i += 2) {
            json_object_set_new(metadata, metadata_pairs[i], json_string(metadata_pairs[i + 1]));
        }
        json_object_set_new(header, "__metadata__", metadata);
    }
    int64_t offset = 0;
    for (int64_t i = 0; i < count; i++) {
        const bif_tensor *t = &tensors[i].tensor;
        BIF_BUG_IF(json_object_get(header, tensors[i].name) != NULL, "tensor %s is written twice", tensors[i].name);
        json_t *shape = json_array();
        for (int k = 0; k < t->rank; k++) {
            json_array_append_new(shape, json_integer(t->dim[k]));
        }
        const int64_t end = offset + (int64_t)bif_bytes(t);
        json_object_set_new(header, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", bif_st_dtype_text(t->dtype), "shape", shape, "data_offsets",
                                      (json_int_t)offset, (json_int_t)end));
        offset = end;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    BIF_BUG_IF(text == NULL, "a safetensors header does not encode");
    json_decref(header);
    const size_t used = strlen(text);
    *size = (used + 7) / 8 * 8;
    text = bif_realloc(text, *size + 1, 1);
    memset(text + used, ' ', *size - used);
    return text;
}

typedef struct {
    bif_writer *writer;
    bif_digest *digest;
    uint64_t bytes;
} sink;

static bif_status put(sink *to, const void *data, size_t size)
{
    bif_digest_update(to->digest, data, size);
    to->bytes += size;
    return bif_writer_write(to->writer, data, size);
}

/* The entry's data, in pieces so that a delta needs little memory, and what follows them. */
static bif_status put_entry(sink *to, const bif_st_source *from, char *buffer)
{
    bif_status st = BIF_OK;
    const bif_st_entry *entry = from->entry;
    const size_t size = entry->bytes, element = bif_dtype_size(entry->dtype);
    BIF_BUG_IF(size + from->row_bytes != bif_bytes(&from->tensor), "%s: two sizes", from->name);
    for (size_t at = 0; at < size; at += COPY_BYTES) {
        const size_t some = size - at < COPY_BYTES ? size - at : COPY_BYTES;
        if (entry->delta != NULL) {
            bif_entry_bytes(entry, (int64_t)(at / element), (int64_t)(some / element), buffer);
        }
        BIF_TRY(put(to, entry->delta != NULL ? buffer : (const char *)entry->data + at, some));
    }
    bif_safetensors_release(from->set, entry);
    BIF_TRY(from->row_bytes == 0 ? BIF_OK : put(to, from->rows, from->row_bytes));
done:
    return st;
}

static bif_status put_tensor(sink *to, const bif_st_source *from, char *buffer)
{
    bif_status st = BIF_OK;
    const size_t size = bif_bytes(&from->tensor);
    if (from->entry != NULL) {
        return put_entry(to, from, buffer);
    }
    if (from->device == NULL) {
        return size == 0 ? BIF_OK : put(to, from->tensor.data, size);
    }
    for (size_t at = 0; at < size; at += COPY_BYTES) {
        const size_t some = size - at < COPY_BYTES ? size - at : COPY_BYTES;
        from->device->copy_out(from->device, buffer, (const char *)from->tensor.data + at, some);
        BIF_TRY(put(to, buffer, some));
    }
done:
    return st;
}

bif_status bif_st_write(const char *path, const bif_st_source *tensors, int64_t count, const char *const *metadata_pairs, char digest[33],
                        uint64_t *bytes)
{
    bif_status st = BIF_OK;
    size_t size = 0;
    char hex[33];
    char *buffer = bif_malloc(COPY_BYTES);
    char *text = header_text(tensors, count, metadata_pairs, &size);
    sink to = {.digest = bif_digest_new()};
    unsigned char length[8];
    for (int i = 0; i < 8; i++) {
        length[i] = (unsigned char)((uint64_t)size >> (8 * i));
    }
    BIF_TRY(bif_writer_open(path, &to.writer));
    BIF_TRY(put(&to, length, sizeof length));
    BIF_TRY(put(&to, text, size));
    for (int64_t i = 0; i < count; i++) {
        BIF_TRY(put_tensor(&to, &tensors[i], buffer));
    }
    bif_writer *writer = to.writer;
    to.writer = NULL;
    BIF_TRY(bif_writer_commit(writer));
done:
    bif_writer_abandon(to.writer);
    bif_digest_finish(to.digest, hex);
    if (st == BIF_OK && digest != NULL) {
        memcpy(digest, hex, sizeof hex);
    }
    if (st == BIF_OK && bytes != NULL) {
        *bytes = to.bytes;
    }
    free(text);
    free(buffer);
    return st;
}

bif_status bif_safetensors_write(const char *path, const bif_st_out *tensors, int64_t count, const char *const *metadata_pairs,
                                 char digest[33], uint64_t *bytes)
{
    bif_st_source *list = bif_calloc((size_t)count + 1, sizeof(*list));
    for (int64_t i = 0; i < count; i++) {
        list[i] = (bif_st_source){.name = tensors[i].name, .tensor = tensors[i].tensor, .device = tensors[i].device};
    }
    const bif_status st = bif_st_write(path, list, count, metadata_pairs, digest, bytes);
    free(list);
    return st;
}
