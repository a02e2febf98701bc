#include "train/gguf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/half.h"
#include "kernels/convert.h"
#include "train/safetensors.h"

#define ALIGNMENT 32u
#define BLOCK ((int64_t)1 << 18) /* elements converted at a time: 1 MiB of f32 */
#define MAX_NAME 63              /* GGML_MAX_NAME less its '\0' */

enum { VALUE_U32 = 4, VALUE_I32 = 5, VALUE_F32 = 6, VALUE_BOOL = 7, VALUE_TEXT = 8, VALUE_ARRAY = 9 };

typedef struct {
    char name[MAX_NAME + 1];
    int rank;
    int64_t dim[4], elements;
    bif_gguf_type type;
    bif_gguf_read read;
    void *context;
} tensor;

struct bif_gguf {
    unsigned char *keys;
    size_t size, capacity;
    uint64_t key_count;
    tensor *item;
    size_t count, room;
};

typedef struct {
    bif_writer *writer;
    bif_digest *digest;
    uint64_t bytes;
} sink;

bif_gguf *bif_gguf_new(void)
{
    return bif_calloc(1, sizeof(bif_gguf));
}

void bif_gguf_free(bif_gguf *f)
{
    if (f != NULL) {
        for (size_t i = 0; i < f->count; i++) {
            free(f->item[i].context);
        }
        free(f->item);
        free(f->keys);
        free(f);
    }
}

/* ---- keys ---- */

static void append(bif_gguf *f, const void *data, size_t size)
{
    if (f->capacity - f->size < size) {
        f->capacity = (f->capacity + size) * 2;
        f->keys = bif_realloc(f->keys, f->capacity, 1);
    }
    memcpy(f->keys + f->size, data, size);
    f->size += size;
}

/* Lowest byte first, whatever the machine. */
static void append_number(bif_gguf *f, uint64_t value, size_t size)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
    append(f, bytes, size);
}

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void bif_gguf_text(bif_gguf *f, const char *bytes, size_t size)
{
    append_number(f, size, 8);
    append(f, bytes, size);
}

static void begin_key(bif_gguf *f, const char *key, uint32_t value_type)
{
    bif_gguf_text(f, key, strlen(key));
    append_number(f, value_type, 4);
    f->key_count++;
}

static void begin_array(bif_gguf *f, const char *key, uint32_t value_type, size_t count)
{
    begin_key(f, key, VALUE_ARRAY);
    append_number(f, value_type, 4);
    append_number(f, count, 8);
}

void bif_gguf_put_u32(bif_gguf *f, const char *key, int64_t value)
{
    BIF_BUG_IF(value < 0 || value > UINT32_MAX, "%s is %lld", key, (long long)value);
    begin_key(f, key, VALUE_U32);
    append_number(f, (uint64_t)value, 4);
}

void bif_gguf_put_f32(bif_gguf *f, const char *key, float value)
{
    begin_key(f, key, VALUE_F32);
    append_number(f, float_bits(value), 4);
}

void bif_gguf_put_bool(bif_gguf *f, const char *key, bool value)
{
    begin_key(f, key, VALUE_BOOL);
    append_number(f, value, 1);
}

void bif_gguf_put_text(bif_gguf *f, const char *key, const char *value)
{
    begin_key(f, key, VALUE_TEXT);
    bif_gguf_text(f, value, strlen(value));
}

void bif_gguf_put_i32s(bif_gguf *f, const char *key, const int32_t *values, size_t count)
{
    begin_array(f, key, VALUE_I32, count);
    for (size_t i = 0; i < count; i++) {
        append_number(f, (uint32_t)values[i], 4);
    }
}

void bif_gguf_put_f32s(bif_gguf *f, const char *key, const float *values, size_t count)
{
    begin_array(f, key, VALUE_F32, count);
    for (size_t i = 0; i < count; i++) {
        append_number(f, float_bits(values[i]), 4);
    }
}

void bif_gguf_begin_texts(bif_gguf *f, const char *key, size_t count)
{
    begin_array(f, key, VALUE_TEXT, count);
}

/* ---- tensors ---- */

void bif_gguf_tensor(bif_gguf *f, const char *name, int rank, const int64_t *dim, bif_gguf_type type, bif_gguf_read read, void *context)
{
    BIF_BUG_IF(rank < 1 || rank > 4 || strlen(name) > MAX_NAME, "tensor %s of rank %d", name, rank);
    if (f->count == f->room) {
        f->room = f->room == 0 ? 256 : 2 * f->room;
        f->item = bif_realloc(f->item, f->room, sizeof *f->item);
    }
    tensor *t = &f->item[f->count++];
    *t = (tensor){.rank = rank, .elements = 1, .type = type, .read = read, .context = context};
    strcpy(t->name, name);
    for (int i = 0; i < rank; i++) {
        t->dim[i] = dim[i];
        t->elements *= dim[i];
    }
}

static uint64_t element_size(bif_gguf_type type)
{
    return type == BIF_GGUF_F32 ? 4 : 2;
}

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bif_status put(sink *to, const void *data, size_t size)
{
    bif_digest_update(to->digest, data, size);
    to->bytes += size;
    return bif_writer_write(to->writer, data, size);
}

static bif_status pad(sink *to)
{
    static const unsigned char zeros[ALIGNMENT];
    return put(to, zeros, (size_t)(aligned(to->bytes) - to->bytes));
}

/* Numbers in the file's type, lowest byte first. */
static bif_status encode(const tensor *t, const float *values, int64_t count, unsigned char *out)
{
    const uint64_t size = element_size(t->type);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = t->type == BIF_GGUF_F32   ? float_bits(values[i])
                              : t->type == BIF_GGUF_F16 ? bif_to_f16(values[i])
                                                        : bif_to_bf16(values[i]);
        if (t->type == BIF_GGUF_F16 && (bits & 0x7fffu) == 0x7c00u && isfinite(values[i])) {
            return bif_fail(BIF_ERR_DATA, "tensor %s holds %g, and F16 ends at 65504; write --type bf16 or f32", t->name,
                            (double)values[i]);
        }
        for (uint64_t k = 0; k < size; k++) {
            *out++ = (unsigned char)(bits >> (8 * k));
        }
    }
    return BIF_OK;
}

static bif_status put_data(sink *to, const tensor *t, float *values, unsigned char *bytes)
{
    bif_status st = BIF_OK;
    for (int64_t first = 0; first < t->elements; first += BLOCK) {
        const int64_t count = t->elements - first < BLOCK ? t->elements - first : BLOCK;
        t->read(t->context, first, count, values);
        BIF_TRY(encode(t, values, count, bytes));
        BIF_TRY(put(to, bytes, (size_t)count * (size_t)element_size(t->type)));
    }
    BIF_TRY(pad(to));
done:
    return st;
}

/* What stands before the data: header, keys, the list of tensors. */
static bif_status put_head(sink *to, const bif_gguf *f)
{
    bif_status st = BIF_OK;
    bif_gguf *head = bif_gguf_new(); /* for its buffer */
    uint64_t offset = 0;
    append(head, "GGUF", 4);
    append_number(head, 3, 4);
    append_number(head, f->count, 8);
    append_number(head, f->key_count, 8);
    BIF_TRY(put(to, head->keys, head->size));
    BIF_TRY(f->size == 0 ? BIF_OK : put(to, f->keys, f->size));
    head->size = 0;
    for (size_t i = 0; i < f->count; i++) {
        const tensor *t = &f->item[i];
        bif_gguf_text(head, t->name, strlen(t->name));
        append_number(head, (uint64_t)t->rank, 4);
        for (int k = t->rank - 1; k >= 0; k--) {
            append_number(head, (uint64_t)t->dim[k], 8);
        }
        append_number(head, (uint64_t)t->type, 4);
        append_number(head, offset, 8);
        offset = aligned(offset + (uint64_t)t->elements * element_size(t->type));
    }
    BIF_TRY(head->size == 0 ? BIF_OK : put(to, head->keys, head->size));
    BIF_TRY(pad(to));
done:
    bif_gguf_free(head);
    return st;
}

bif_status bif_gguf_write(const bif_gguf *f, const char *path, char digest[33], uint64_t *bytes)
{
    bif_status st = BIF_OK;
    char hex[33];
    float *values = bif_malloc((size_t)BLOCK * sizeof *values);
    unsigned char *block = bif_malloc((size_t)BLOCK * sizeof(float));
    sink to = {.digest = bif_digest_new()};
    BIF_TRY(bif_writer_open(path, &to.writer));
    BIF_TRY(put_head(&to, f));
    for (size_t i = 0; i < f->count; i++) {
        BIF_TRY(put_data(&to, &f->item[i], values, block));
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
    free(values);
    free(block);
    return st;
}
