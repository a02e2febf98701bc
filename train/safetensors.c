#include "train/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "kernels/convert.h"

#define HEADER_CAP ((uint64_t)100000000) /* the format's own limit */
#define TENSOR_CAP ((size_t)1000000)
#define NAME_CAP ((size_t)1024)
#define INDEX_CAP ((size_t)64 << 20)
#define COPY_BYTES ((size_t)4 << 20) /* from a device to the file through so much host memory */

typedef struct {
    char *path;
    void *map;
    size_t size;
} st_file;

struct bif_safetensors {
    st_file *files;
    size_t file_count;
    bif_st_entry *entries;
    size_t count;
    const bif_st_entry **by_name; /* sorted */
    json_t *metadata;             /* of the first file; owned; may be NULL */
};

static const struct {
    const char *name;
    bif_dtype dtype;
} dtypes[] = {{"F32", BIF_DTYPE_F32}, {"BF16", BIF_DTYPE_BF16}, {"F16", BIF_DTYPE_F16},
              {"I32", BIF_DTYPE_I32}, {"I64", BIF_DTYPE_I64},   {"U8", BIF_DTYPE_U8},
              {"U16", BIF_DTYPE_U16}};

/* One tensor of the header: [begin, end) relative to the data section of `section` bytes. */
static bif_status parse_entry(const char *path, const char *name, const json_t *value, const char *section_start, size_t section,
                              bif_st_entry *entry)
{
    const size_t length = strlen(name);
    if (length > NAME_CAP) {
        return bif_fail(BIF_ERR_DATA, "%s: a tensor name of %zu bytes; at most %zu", path, length, NAME_CAP);
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return bif_fail(BIF_ERR_DATA, "%s: a tensor name holds a control character", path);
        }
    }
    const char *dtype = NULL;
    bif_status st = bif_json_string(path, value, "dtype", true, &dtype);
    if (st != BIF_OK) {
        return bif_fail_context(st, "tensor %s", name);
    }
    const json_t *shape = json_object_get(value, "shape"), *offsets = json_object_get(value, "data_offsets");
    if (!json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(json_array_get(offsets, 0)) || !json_is_integer(json_array_get(offsets, 1))) {
        return bif_fail(BIF_ERR_DATA, "%s: tensor %s needs 'shape' and 'data_offsets' [begin, end]", path, name);
    }
    if (json_array_size(shape) > BIF_MAX_RANK) {
        return bif_fail(BIF_ERR_DATA, "%s: tensor %s has %zu dimensions; at most %d are read", path, name, json_array_size(shape),
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
        return bif_fail(BIF_ERR_DATA, "%s: tensor %s has dtype %.40s; F32, BF16, F16, I32, I64, U8 and U16 are read", path, name, dtype);
    }
    entry->rank = (int)json_array_size(shape);
    int64_t bytes = (int64_t)bif_dtype_size(entry->dtype);
    for (int i = 0; i < entry->rank; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        entry->dim[i] = json_is_integer(dim) ? (int64_t)json_integer_value(dim) : -1;
        if (entry->dim[i] < 0 || !bif_mul_i64(bytes, entry->dim[i], &bytes)) {
            return bif_fail(BIF_ERR_DATA, "%s: tensor %s has an impossible shape", path, name);
        }
    }
    const int64_t begin = (int64_t)json_integer_value(json_array_get(offsets, 0));
    const int64_t end = (int64_t)json_integer_value(json_array_get(offsets, 1));
    if (begin < 0 || end < begin || (uint64_t)end > section) {
        return bif_fail(BIF_ERR_DATA, "%s: tensor %s lies at bytes %" PRId64 " to %" PRId64 " of %zu: the file is cut or damaged",
                        path, name, begin, end, section);
    }
    if (end - begin != bytes) {
        return bif_fail(BIF_ERR_DATA, "%s: tensor %s has %" PRId64 " bytes, its shape needs %" PRId64, path, name, end - begin, bytes);
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

static bif_status check_chain(const char *path, const bif_st_entry *entries, size_t count, const char *start, size_t section)
{
    const char *expect = start;
    for (size_t i = 0; i < count; i++) {
        if ((const char *)entries[i].data != expect) {
            return bif_fail(BIF_ERR_DATA, "%s: tensor %s does not begin where the one before it ends (a hole or an overlap)", path,
                            entries[i].name);
        }
        expect += entries[i].bytes;
    }
    if (expect != start + section) {
        return bif_fail(BIF_ERR_DATA, "%s: %zu bytes after the last tensor belong to none", path, (size_t)(start + section - expect));
    }
    return BIF_OK;
}

static bif_status parse_header(bif_safetensors *set, size_t file)
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
        return bif_fail(BIF_ERR_DATA, "%s: not a safetensors file, or cut: a header of %" PRIu64 " bytes in a file of %zu", path, length,
                        size);
    }
    const char *text = (const char *)map + 8, *start = text + length;
    const size_t section = size - 8 - (size_t)length;
    BIF_TRY(bif_json_parse(path, text, (size_t)length, &header));
    if (!json_is_object(header)) {
        st = bif_fail(BIF_ERR_DATA, "%s: the header is not a JSON object", path);
        goto done;
    }
    if (json_object_size(header) > TENSOR_CAP) {
        st = bif_fail(BIF_ERR_DATA, "%s: %zu tensors; at most %zu are read", path, json_object_size(header), TENSOR_CAP);
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
                st = bif_fail(BIF_ERR_DATA, "%s: '__metadata__' must map strings to strings", path);
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
        BIF_TRY(parse_entry(path, name, value, start, section, entry));
        set->count++;
    }
    qsort(set->entries + first, set->count - first, sizeof(*set->entries), by_place);
    BIF_TRY(check_chain(path, set->entries + first, set->count - first, start, section));
done:
    json_decref(header);
    return st;
}

static bif_status open_file(bif_safetensors *set, const char *path)
{
    bif_status st = BIF_OK;
    int fd = -1;
    size_t size = 0;
    BIF_TRY(bif_open_regular(path, &fd, &size));
    if (size < 8) {
        st = bif_fail(BIF_ERR_DATA, "%s: not a safetensors file: only %zu bytes", path, size);
        goto done;
    }
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        st = bif_fail(BIF_ERR_IO, "cannot map '%s': %s", path, strerror(errno));
        goto done;
    }
    set->files = bif_realloc(set->files, set->file_count + 1, sizeof(*set->files));
    set->files[set->file_count] = (st_file){bif_strdup(path), map, size};
    set->file_count++;
    BIF_TRY(parse_header(set, set->file_count - 1));
done:
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const bif_st_entry *const *)a)->name, (*(const bif_st_entry *const *)b)->name);
}

static bif_status build_lookup(bif_safetensors *set)
{
    set->by_name = bif_calloc(set->count + 1, sizeof(*set->by_name));
    for (size_t i = 0; i < set->count; i++) {
        set->by_name[i] = &set->entries[i];
    }
    qsort(set->by_name, set->count, sizeof(*set->by_name), by_name);
    for (size_t i = 1; i < set->count; i++) {
        if (strcmp(set->by_name[i - 1]->name, set->by_name[i]->name) == 0) {
            return bif_fail(BIF_ERR_DATA, "tensor %s is both in %s and in %s", set->by_name[i]->name,
                            bif_safetensors_path(set, set->by_name[i - 1]), bif_safetensors_path(set, set->by_name[i]));
        }
    }
    return BIF_OK;
}

static bif_status open_index(bif_safetensors *set, const char *folder, const char *index)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    BIF_TRY(bif_json_load_file(index, INDEX_CAP, &root));
    json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: 'weight_map' must map tensor names to files", index);
        goto done;
    }
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        if (file == NULL || file[0] == '\0' || file[0] == '.' || strchr(file, '/') != NULL) {
            st = bif_fail(BIF_ERR_DATA, "%s: tensor %.200s names the file '%.200s'; a plain file name of this folder is wanted", index,
                          name, file == NULL ? "(not a string)" : file);
            goto done;
        }
        bool seen = false;
        for (size_t i = 0; i < set->file_count && !seen; i++) {
            seen = strcmp(bif_path_base(set->files[i].path), file) == 0;
        }
        if (!seen) {
            char *path = bif_path_join(folder, file);
            st = open_file(set, path);
            free(path);
            if (st != BIF_OK) {
                st = bif_fail_context(st, "%s, which puts %.200s into %.200s", index, name, file);
                goto done;
            }
        }
    }
    BIF_TRY(build_lookup(set));
    json_object_foreach(map, name, value)
    {
        const bif_st_entry *entry = bif_safetensors_find(set, name);
        if (entry == NULL || strcmp(bif_path_base(set->files[entry->file].path), json_string_value(value)) != 0) {
            st = bif_fail(BIF_ERR_DATA, "%s: tensor %s is not in %s as the index says", index, name, json_string_value(value));
            goto done;
        }
    }
done:
    json_decref(root);
    return st;
}

bif_status bif_safetensors_open(const char *path, bif_safetensors **out)
{
    bif_status st = BIF_OK;
    bif_safetensors *set = bif_calloc(1, sizeof(*set));
    struct stat info;
    char *whole = bif_path_join(path, "model.safetensors");
    char *index = bif_path_join(path, "model.safetensors.index.json");
    char *pickle = bif_path_join(path, "pytorch_model.bin");
    if (stat(path, &info) != 0) {
        st = bif_fail(BIF_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISDIR(info.st_mode)) {
        BIF_TRY(open_file(set, path));
        BIF_TRY(build_lookup(set));
    } else if (bif_exists(whole)) {
        BIF_TRY(open_file(set, whole));
        BIF_TRY(build_lookup(set));
    } else if (bif_exists(index)) {
        BIF_TRY(open_index(set, path, index));
    } else {
        st = bif_fail(BIF_ERR_DATA, "%s: no model.safetensors and no model.safetensors.index.json%s", path,
                      bif_exists(pickle) ? "; pytorch_model.bin is a pickle, which can run code and is never read: load it in "
                                           "transformers and call save_pretrained, which writes safetensors"
                                         : "");
        goto done;
    }
    *out = set;
    set = NULL;
done:
    bif_safetensors_close(set);
    free(whole);
    free(index);
    free(pickle);
    return st;
}

void bif_safetensors_close(bif_safetensors *st)
{
    if (st == NULL) {
        return;
    }
    for (size_t i = 0; i < st->count; i++) {
        free(st->entries[i].name);
    }
    for (size_t i = 0; i < st->file_count; i++) {
        munmap(st->files[i].map, st->files[i].size);
        free(st->files[i].path);
    }
    free(st->entries);
    free(st->files);
    free(st->by_name);
    json_decref(st->metadata);
    free(st);
}

int64_t bif_safetensors_count(const bif_safetensors *st)
{
    return (int64_t)st->count;
}

const bif_st_entry *bif_safetensors_at(const bif_safetensors *st, int64_t index)
{
    BIF_BUG_IF(index < 0 || (size_t)index >= st->count, "tensor %" PRId64 " of %zu", index, st->count);
    return &st->entries[index];
}

const bif_st_entry *bif_safetensors_find(const bif_safetensors *st, const char *name)
{
    size_t low = 0, high = st->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(name, st->by_name[middle]->name);
        if (order == 0) {
            return st->by_name[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const char *bif_safetensors_path(const bif_safetensors *st, const bif_st_entry *entry)
{
    return st->files[entry->file].path;
}

const char *bif_safetensors_metadata(const bif_safetensors *st, const char *key)
{
    return json_string_value(json_object_get(st->metadata, key));
}

static float from_f16(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;
    if (exponent == 0) { /* zero and subnormal: mantissa * 2^-24 is exact in f32 */
        const float value = (float)mantissa * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    const uint32_t bits = sign | (exponent == 31 ? 0xffu : exponent + 112u) << 23 | mantissa << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

bif_status bif_safetensors_read_f32(const bif_safetensors *st, const bif_st_entry *entry, float *out)
{
    return bif_safetensors_read_part_f32(st, entry, 0, (int64_t)(entry->bytes / bif_dtype_size(entry->dtype)), out);
}

bif_status bif_safetensors_read_part_f32(const bif_safetensors *st, const bif_st_entry *entry, int64_t first, int64_t count, float *out)
{
    if (entry->dtype != BIF_DTYPE_F32 && entry->dtype != BIF_DTYPE_BF16 && entry->dtype != BIF_DTYPE_F16) {
        return bif_fail(BIF_ERR_DATA, "%s: tensor %s is %s, floating point is wanted", bif_safetensors_path(st, entry), entry->name,
                        bif_dtype_name(entry->dtype));
    }
    bif_entry_floats(entry, first, count, out);
    return BIF_OK;
}

void bif_entry_floats(const bif_st_entry *entry, int64_t first, int64_t count, float *out)
{
    const size_t size = bif_dtype_size(entry->dtype);
    BIF_BUG_IF(first < 0 || count < 0 || (size_t)(first + count) > entry->bytes / size, "elements [%" PRId64 ", +%" PRId64 ") of tensor %s",
               first, count, entry->name);
    const unsigned char *from = (const unsigned char *)entry->data + (size_t)first * size;
    if (entry->dtype == BIF_DTYPE_F32) {
        memcpy(out, from, (size_t)count * size);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        const uint16_t half = (uint16_t)(from[2 * i] | from[2 * i + 1] << 8);
        out[i] = entry->dtype == BIF_DTYPE_BF16 ? bif_from_bf16(half) : from_f16(half);
    }
}

/* ---- writing ---- */

static const char *dtype_text(bif_dtype dtype)
{
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        if (dtypes[i].dtype == dtype) {
            return dtypes[i].name;
        }
    }
    bif_bug(__FILE__, __LINE__, "dtype %d has no name in safetensors", (int)dtype);
}

/* The header's text, padded with blanks so that the data begin on an 8-byte border. */
static char *header_text(const bif_st_out *tensors, int64_t count, const char *const *metadata_pairs, size_t *size)
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
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_text(t->dtype), "shape", shape, "data_offsets",
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

static bif_status put_tensor(sink *to, const bif_st_out *out, char *buffer)
{
    bif_status st = BIF_OK;
    const size_t size = bif_bytes(&out->tensor);
    if (out->device == NULL) {
        return size == 0 ? BIF_OK : put(to, out->tensor.data, size);
    }
    for (size_t at = 0; at < size; at += COPY_BYTES) {
        const size_t some = size - at < COPY_BYTES ? size - at : COPY_BYTES;
        out->device->copy_out(out->device, buffer, (const char *)out->tensor.data + at, some);
        BIF_TRY(put(to, buffer, some));
    }
done:
    return st;
}

bif_status bif_safetensors_write(const char *path, const bif_st_out *tensors, int64_t count, const char *const *metadata_pairs,
                                 char digest[33], uint64_t *bytes)
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
