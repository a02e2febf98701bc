#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "train/safetensors_parts.h"

#define HEADER_CAP ((uint64_t)100000000) /* the format's own limit */

static const struct {
    const char *name;
    bif_dtype dtype;
} dtypes[] = {{"F32", BIF_DTYPE_F32}, {"BF16", BIF_DTYPE_BF16}, {"F16", BIF_DTYPE_F16},
              {"I32", BIF_DTYPE_I32}, {"I64", BIF_DTYPE_I64},   {"U8", BIF_DTYPE_U8},
              {"U16", BIF_DTYPE_U16}};

const char *bif_st_dtype_text(bif_dtype dtype)
{
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        if (dtypes[i].dtype == dtype) {
            return dtypes[i].name;
        }
    }
    bif_bug(__FILE__, __LINE__, "dtype %d has no name in safetensors", (int)dtype);
}

bif_status bif_st_check_name(const char *name)
{
    const size_t length = strlen(name);
    if (length > BIF_ST_NAME_CAP) {
        return bif_fail(BIF_ERR_DATA, "a tensor name of %zu bytes; at most %zu", length, BIF_ST_NAME_CAP);
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return bif_fail(BIF_ERR_DATA, "a tensor name holds a control character");
        }
    }
    return BIF_OK;
}

/* One tensor of the header: [begin, end) relative to the data section of `section` bytes. Messages do not name the file. */
static bif_status parse_entry(const char *name, const json_t *value, const char *section_start, size_t section, bif_st_entry *entry)
{
    const char *dtype = NULL;
    char where[BIF_ST_NAME_CAP + 16];
    bif_status st = bif_st_check_name(name);
    if (st != BIF_OK) {
        return st;
    }
    snprintf(where, sizeof where, "tensor %s", name);
    st = bif_json_string(where, value, "dtype", true, &dtype);
    if (st != BIF_OK) {
        return st;
    }
    const json_t *shape = json_object_get(value, "shape"), *offsets = json_object_get(value, "data_offsets");
    if (!json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(json_array_get(offsets, 0)) || !json_is_integer(json_array_get(offsets, 1))) {
        return bif_fail(BIF_ERR_DATA, "tensor %s needs 'shape' and 'data_offsets' [begin, end]", name);
    }
    if (json_array_size(shape) > BIF_MAX_RANK) {
        return bif_fail(BIF_ERR_DATA, "tensor %s has %zu dimensions; at most %d are read", name, json_array_size(shape),
                        BIF_MAX_RANK);
    }
    bool known = false;
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]) && !known; i++) {
        if (strcmp(dtypes[i].name, dtype) == 0) {
            entry->dtype = dtypes[i].dtype;
            known = true;
        }
    }
    if (!known) {
        return bif_fail(BIF_ERR_DATA, "tensor %s has dtype %.40s; F32, BF16, F16, I32, I64, U8 and U16 are read", name, dtype);
    }
    entry->rank = (int)json_array_size(shape);
    int64_t bytes = (int64_t)bif_dtype_size(entry->dtype);
    for (int i = 0; i < entry->rank; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        entry->dim[i] = json_is_integer(dim) ? (int64_t)json_integer_value(dim) : -1;
        if (entry->dim[i] < 0 || !bif_mul_i64(bytes, entry->dim[i], &bytes)) {
            return bif_fail(BIF_ERR_DATA, "tensor %s has an impossible shape", name);
        }
    }
    const int64_t begin = (int64_t)json_integer_value(json_array_get(offsets, 0));
    const int64_t end = (int64_t)json_integer_value(json_array_get(offsets, 1));
    if (begin < 0 || end < begin || (uint64_t)end > section) {
        return bif_fail(BIF_ERR_DATA, "tensor %s lies at bytes %" PRId64 " to %" PRId64 " of %zu: the file is cut or damaged",
                        name, begin, end, section);
    }
    if (end - begin != bytes) {
        return bif_fail(BIF_ERR_DATA, "tensor %s has %" PRId64 " bytes, its shape needs %" PRId64, name, end - begin, bytes);
    }
    entry->data = section_start + begin;
    entry->bytes = (size_t)bytes;
    entry->name = bif_strdup(name);
    return BIF_OK;
}

static int by_place(const void *a, const void *b)
{
    const bif_st_entry *x = a, *y = b;
    if (x->data != y->data) {
        return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    }
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? -1 : 1; /* empty tensors first, so that the chain below closes */
    }
    return strcmp(x->name, y->name);
}

/* The data section of `section` bytes begins at byte `offset` of the file. */
static bif_status check_chain(const char *path, const bif_st_entry *entries, size_t count, const char *start, size_t section, size_t offset)
{
    const char *expect = start;
    for (size_t i = 0; i < count; i++) {
        if ((const char *)entries[i].data != expect) {
            return bif_fail(BIF_ERR_DATA, "%s: byte %zu: tensor %s does not begin here, where the one before it ends (a hole or an "
                            "overlap)", path, offset + (size_t)(expect - start), entries[i].name);
        }
        expect += entries[i].bytes;
    }
    if (expect != start + section) {
        return bif_fail(BIF_ERR_DATA, "%s: byte %zu: %zu bytes after the last tensor belong to none", path,
                        offset + (size_t)(expect - start), (size_t)(start + section - expect));
    }
    return BIF_OK;
}

/* Where in the file the header names this key, for messages; its first byte when the name is written with escapes. */
static size_t place(const char *header, size_t length, const char *name)
{
    char *quoted = bif_format("\"%s\"", name);
    const char *found = memmem(header, length, quoted, strlen(quoted));
    free(quoted);
    return 8 + (found != NULL ? (size_t)(found - header) : 0);
}

bif_status bif_st_parse(bif_safetensors *set, size_t file)
{
    bif_status st = BIF_OK;
    json_t *header = NULL;
    const char *path = set->files[file].path;
    const unsigned char *map = set->files[file].map;
    const size_t size = set->files[file].size;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) {
        length = length << 8 | map[i];
    }
    if (length > HEADER_CAP || length > size - 8) {
        return bif_fail(BIF_ERR_DATA, "%s: byte 0: not a safetensors file, or cut: a header of %" PRIu64 " bytes in a file of %zu", path,
                        length, size);
    }
    const char *text = (const char *)map + 8, *start = text + length;
    const size_t section = size - 8 - (size_t)length;
    BIF_TRY(bif_json_parse_at(path, 8, text, (size_t)length, &header));
    if (!json_is_object(header)) {
        st = bif_fail(BIF_ERR_DATA, "%s: byte 8: the header is not a JSON object", path);
        goto done;
    }
    if (json_object_size(header) > BIF_ST_TENSOR_CAP) {
        st = bif_fail(BIF_ERR_DATA, "%s: %zu tensors; at most %zu are read", path, json_object_size(header), BIF_ST_TENSOR_CAP);
        goto done;
    }
    const size_t first = set->count;
    set->entries = bif_realloc(set->entries, set->count + json_object_size(header) + 1, sizeof(*set->entries));
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) {
            const char *key = NULL;
            json_t *item = NULL;
            bool texts = json_is_object(value);
            json_object_foreach(value, key, item)
            {
                texts = texts && json_is_string(item);
            }
            if (!texts) {
                st = bif_fail(BIF_ERR_DATA, "%s: byte %zu: '__metadata__' must map strings to strings", path,
                              place(text, (size_t)length, name));
                goto done;
            }
            if (file == 0) {
                set->metadata = json_incref(value);
            }
            continue;
        }
        bif_st_entry *entry = &set->entries[set->count];
        memset(entry, 0, sizeof(*entry));
        entry->file = (int)file;
        st = parse_entry(name, value, start, section, entry);
        if (st != BIF_OK) {
            st = bif_fail_context(st, "%s: byte %zu", path, place(text, (size_t)length, name));
            goto done;
        }
        set->count++;
    }
    qsort(set->entries + first, set->count - first, sizeof(*set->entries), by_place);
    BIF_TRY(check_chain(path, set->entries + first, set->count - first, start, section, 8 + (size_t)length));
done:
    json_decref(header);
    return st;
}
