#include "train/torch_write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"

#define PREFIX "archive/"
#define COPY_BYTES ((size_t)4 << 20)
#define ALIGN 64 /* of data in the file, as torch has it, so that they can be mapped */

/* ---- bytes in memory ---- */

typedef struct {
    unsigned char *data;
    size_t size, room;
} bytes;

static void put(bytes *b, const void *data, size_t size)
{
    if (b->size + size > b->room) {
        b->room = 2 * (b->size + size) + 256;
        b->data = bif_realloc(b->data, b->room, 1);
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_text(bytes *b, const char *text)
{
    put(b, text, strlen(text));
}

static void put_number(bytes *b, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const unsigned char byte = (unsigned char)(i < sizeof value ? value >> 8 * i : 0);
        put(b, &byte, 1);
    }
}

/* ---- pickle, protocol 2: only what describes tensors ---- */

static const char *storage_name(bif_dtype dtype)
{
    static const struct {
        bif_dtype dtype;
        const char *name;
    } names[] = {{BIF_DTYPE_F32, "FloatStorage"}, {BIF_DTYPE_BF16, "BFloat16Storage"}, {BIF_DTYPE_F16, "HalfStorage"},
                 {BIF_DTYPE_I64, "LongStorage"},  {BIF_DTYPE_I32, "IntStorage"},       {BIF_DTYPE_U8, "ByteStorage"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].dtype == dtype) {
            return names[i].name;
        }
    }
    bif_bug(__FILE__, __LINE__, "torch has no storage of %s", bif_dtype_name(dtype));
}

static void push_int(bytes *b, int64_t value)
{
    if (value < 256) {
        put_text(b, "K");
        put_number(b, (uint64_t)value, 1);
    } else if (value <= INT32_MAX) {
        put_text(b, "J");
        put_number(b, (uint64_t)value, 4);
    } else {
        put(b, "\x8a\x08", 2);
        put_number(b, (uint64_t)value, 8);
    }
}

static void push_text(bytes *b, const char *text)
{
    put_text(b, "X");
    put_number(b, strlen(text), 4);
    put_text(b, text);
}

/* _rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict()) */
static void push_tensor(bytes *b, const bif_tensor *t, int64_t key)
{
    char *type = bif_format("ctorch\n%s\n", storage_name(t->dtype)), *number = bif_format("%" PRId64, key);
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    push_text(b, "storage");
    put_text(b, type);
    push_text(b, number);
    push_text(b, "cpu");
    push_int(b, bif_numel(t));
    put_text(b, "tQ");
    push_int(b, 0);
    put_text(b, "(");
    for (int i = 0; i < t->rank; i++) {
        push_int(b, t->dim[i]);
    }
    put_text(b, "t(");
    for (int i = 0; i < t->rank; i++) {
        int64_t stride = 1;
        for (int k = i + 1; k < t->rank; k++) {
            stride *= t->dim[k];
        }
        push_int(b, stride);
    }
    put_text(b, "t\x89" "ccollections\nOrderedDict\n)RtR");
    free(type);
    free(number);
}

static void pickle(bytes *b, const bif_st_out *tensors, int64_t count)
{
    put(b, "\x80\x02}(", 4);
    for (int64_t i = 0; i < count; i++) {
        push_text(b, tensors[i].name);
        push_tensor(b, &tensors[i].tensor, i);
    }
    put_text(b, "u.");
}

/* ---- the zip, nothing compressed ---- */

typedef struct {
    bif_writer *writer;
    uint64_t at;
    bytes directory;
    uint64_t entries;
    char *buffer; /* COPY_BYTES */
} archive;

static bif_status emit(archive *a, const void *data, size_t size)
{
    a->at += size;
    return bif_writer_write(a->writer, data, size);
}

/* The tensor's bytes, piece by piece: into the file, or (crc not NULL) only into the checksum. */
static bif_status each_piece(archive *a, const bif_st_out *out, uint32_t *crc)
{
    bif_status st = BIF_OK;
    const size_t size = bif_bytes(&out->tensor);
    for (size_t at = 0; at < size && st == BIF_OK; at += COPY_BYTES) {
        const size_t some = size - at < COPY_BYTES ? size - at : COPY_BYTES;
        const char *piece = (const char *)out->tensor.data + at;
        if (out->device != NULL) {
            out->device->copy_out(out->device, a->buffer, piece, some);
            piece = a->buffer;
        }
        if (crc != NULL) {
            *crc = (uint32_t)crc32(*crc, (const Bytef *)piece, (uInt)some);
        } else {
            st = emit(a, piece, some);
        }
    }
    return st;
}

/* Local header and record of the directory of what comes next; the data follow at a multiple of ALIGN. */
static bif_status header(archive *a, const char *name, uint32_t crc, uint64_t size)
{
    static const char zeros[ALIGN];
    char *full = bif_format(PREFIX "%s", name);
    const uint64_t length = strlen(full), begin = a->at, end = begin + 30 + length + 4;
    const uint64_t pad = (ALIGN - end % ALIGN) % ALIGN;
    bytes local = {0};
    for (int k = 0; k < 2; k++) { /* the same fields twice: here, and in the directory */
        bytes *b = k == 0 ? &local : &a->directory;
        put_number(b, k == 0 ? 0x04034b50 : 0x02014b50, 4);
        put_number(b, 0, k == 0 ? 6 : 8); /* versions, flags, method: stored */
        put_number(b, 0x00210000, 4);     /* 1980-01-01, 0:00: the same tensors, the same bytes */
        put_number(b, crc, 4);
        put_number(b, size, 4);
        put_number(b, size, 4);
        put_number(b, length, 2);
        put_number(b, k == 0 ? 4 + pad : 0, 2);
        if (k == 1) {
            put_number(b, 0, 10);
            put_number(b, begin, 4);
        }
        put_text(b, full);
    }
    put_text(&local, "FB"); /* an extra field of zeros, with torch's mark */
    put_number(&local, pad, 2);
    put(&local, zeros, (size_t)pad);
    a->entries++;
    const bif_status st = emit(a, local.data, local.size);
    free(local.data);
    free(full);
    return st;
}

static bif_status small_entry(archive *a, const char *name, const void *data, size_t size)
{
    bif_status st = header(a, name, (uint32_t)crc32(0, data, (uInt)size), size);
    return st == BIF_OK ? emit(a, data, size) : st;
}

static bif_status finish(archive *a)
{
    bytes end = {0};
    put_number(&end, 0x06054b50, 4);
    put_number(&end, 0, 4);
    put_number(&end, a->entries, 2);
    put_number(&end, a->entries, 2);
    put_number(&end, a->directory.size, 4);
    put_number(&end, a->at, 4);
    put_number(&end, 0, 2);
    bif_status st = emit(a, a->directory.data, a->directory.size);
    st = st == BIF_OK ? emit(a, end.data, end.size) : st;
    free(end.data);
    return st;
}

/* Whether everything, with headers, is below the limits of a zip without 64-bit fields. */
static bif_status check_size(const char *path, const bif_st_out *tensors, int64_t count)
{
    uint64_t total = 1 << 16;
    for (int64_t i = 0; i < count; i++) {
        total += bif_bytes(&tensors[i].tensor) + 4 * strlen(tensors[i].name) + 1024;
    }
    return total < UINT32_MAX && count < 65000
               ? BIF_OK
               : bif_fail(BIF_ERR_DATA, "%s: %" PRId64 " tensors of %" PRIu64 " bytes do not fit into a file of torch.save without 64-bit fields",
                          path, count, total);
}

bif_status bif_torch_write(const char *path, const bif_st_out *tensors, int64_t count)
{
    bif_status st = BIF_OK;
    archive a = {.buffer = bif_malloc(COPY_BYTES)};
    bytes code = {0};
    BIF_TRY(check_size(path, tensors, count));
    pickle(&code, tensors, count);
    BIF_TRY(bif_writer_open(path, &a.writer));
    BIF_TRY(small_entry(&a, "data.pkl", code.data, code.size));
    BIF_TRY(small_entry(&a, "byteorder", "little", 6));
    for (int64_t i = 0; i < count; i++) {
        char *name = bif_format("data/%" PRId64, i);
        uint32_t crc = 0;
        st = each_piece(&a, &tensors[i], &crc);
        st = st == BIF_OK ? header(&a, name, crc, bif_bytes(&tensors[i].tensor)) : st;
        st = st == BIF_OK ? each_piece(&a, &tensors[i], NULL) : st;
        free(name);
        BIF_TRY(st);
    }
    BIF_TRY(small_entry(&a, "version", "3\n", 2));
    BIF_TRY(finish(&a));
    bif_writer *writer = a.writer;
    a.writer = NULL;
    st = bif_writer_commit(writer);
done:
    bif_writer_abandon(a.writer);
    free(a.directory.data);
    free(a.buffer);
    free(code.data);
    return st;
}
