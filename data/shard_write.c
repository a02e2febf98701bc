#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/utf8.h"
#include "data/shard_internal.h"

#define COPY_BYTES ((size_t)1 << 20)
#define BYTES_ALIGN 4096

/* A table that grows by appending. */
typedef struct {
    char *data;
    size_t used, capacity;
} buffer;

struct bif_shard_writer {
    char *path, *note; /* note: of what was done to the pictures, NULL = nothing */
    int fd;               /* image bytes until commit: a file without a name, so a killed writer leaves nothing of this size */
    uint64_t bytes;       /* in fd, up to the end of the last image */
    bif_digest *digest;   /* over the image bytes */
    buffer column[BIF_TABLES];
    int64_t images, samples;
    int64_t *slots;       /* hash table over image ids: image number, or -1 */
    size_t slot_count;    /* a power of two, at least twice the images */
    char **sources;
    uint32_t source_count;
};

static void append(bif_shard_writer *writer, int which, const void *data, size_t size)
{
    buffer *table = &writer->column[which];
    if (size > table->capacity - table->used) {
        while (size > table->capacity - table->used) {
            table->capacity = table->capacity ? table->capacity * 2 : 4096;
        }
        table->data = bif_realloc(table->data, table->capacity, 1);
    }
    if (size > 0) {
        memcpy(table->data + table->used, data, size);
        table->used += size;
    }
}

static void append_u64(bif_shard_writer *writer, int which, uint64_t value)
{
    append(writer, which, &value, sizeof value);
}

static void append_u32(bif_shard_writer *writer, int which, uint32_t value)
{
    append(writer, which, &value, sizeof value);
}

bif_status bif_shard_writer_open(const char *path, bif_shard_writer **out)
{
    char *temporary = bif_format("%s.images-%ld", path, (long)getpid());
    int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        bif_status st = bif_fail_errno(errno, "cannot create '%s'", temporary);
        free(temporary);
        return st;
    }
    unlink(temporary);
    free(temporary);
    bif_shard_writer *writer = bif_calloc(1, sizeof *writer);
    writer->path = bif_strdup(path);
    writer->fd = fd;
    writer->digest = bif_digest_new();
    append_u64(writer, BIF_TABLE_TEXT_OFFSET, 0);
    append_u64(writer, BIF_TABLE_USE_OFFSET, 0);
    append_u64(writer, BIF_TABLE_ID_OFFSET, 0);
    append_u64(writer, BIF_TABLE_SOURCE_OFFSET, 0);
    *out = writer;
    return BIF_OK;
}

static void writer_free(bif_shard_writer *writer)
{
    char hex[33];
    if (writer->digest != NULL) {
        bif_digest_finish(writer->digest, hex);
    }
    if (writer->fd >= 0) {
        close(writer->fd);
    }
    for (int which = 0; which < BIF_TABLES; which++) {
        free(writer->column[which].data);
    }
    for (uint32_t i = 0; i < writer->source_count; i++) {
        free(writer->sources[i]);
    }
    free(writer->sources);
    free(writer->slots);
    free(writer->note);
    free(writer->path);
    free(writer);
}

void bif_shard_writer_abandon(bif_shard_writer *writer)
{
    if (writer != NULL) {
        writer_free(writer);
    }
}

void bif_shard_writer_note(bif_shard_writer *writer, const char *note)
{
    BIF_BUG_IF(writer->note != NULL || note[0] == '\0', "a shard has one note");
    writer->note = bif_strdup(note);
}

int64_t bif_shard_writer_bytes(const bif_shard_writer *writer)
{
    return (int64_t)writer->bytes;
}

int64_t bif_shard_writer_samples(const bif_shard_writer *writer)
{
    return writer->samples;
}

/* ---- records ---- */

static bif_status write_at(int fd, const char *path, const char *data, size_t size, uint64_t at)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, data, size, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return bif_fail_errno(n < 0 ? errno : EIO, "cannot write shard '%s' after %llu image bytes (%zu more were to follow)",
                                  path, (unsigned long long)at, size);
        }
        data += n;
        size -= (size_t)n;
        at += (uint64_t)n;
    }
    return BIF_OK;
}

static const uint64_t *id_of(const bif_shard_writer *writer, int64_t image)
{
    return (const uint64_t *)(const void *)writer->column[BIF_TABLE_IMAGE_ID].data + 2 * image;
}

/* The slot of this id: holds its image number, or -1 where it belongs. */
static int64_t *find_slot(const bif_shard_writer *writer, const uint64_t id[2])
{
    size_t at = (size_t)id[1] & (writer->slot_count - 1);
    while (writer->slots[at] >= 0) {
        const uint64_t *other = id_of(writer, writer->slots[at]);
        if (other[0] == id[0] && other[1] == id[1]) {
            break;
        }
        at = (at + 1) & (writer->slot_count - 1);
    }
    return &writer->slots[at];
}

static void grow_slots(bif_shard_writer *writer)
{
    if ((size_t)writer->images * 2 < writer->slot_count) {
        return;
    }
    free(writer->slots);
    writer->slot_count = writer->slot_count ? writer->slot_count * 2 : 1024;
    writer->slots = bif_malloc(writer->slot_count * sizeof *writer->slots);
    memset(writer->slots, 0xFF, writer->slot_count * sizeof *writer->slots);
    for (int64_t i = 0; i < writer->images; i++) {
        *find_slot(writer, id_of(writer, i)) = i;
    }
}

bif_status bif_shard_add_image(bif_shard_writer *writer, const void *bytes, size_t size, bif_image_format format, uint32_t width,
                               uint32_t height, int64_t *index)
{
    static const char zeros[8];
    if (size == 0) {
        return bif_fail(BIF_ERR_DATA, "an image of no bytes cannot be added to shard '%s'", writer->path);
    }
    XXH128_hash_t hash = XXH3_128bits(bytes, size);
    uint64_t id[2] = {hash.high64, hash.low64};
    grow_slots(writer);
    int64_t *slot = find_slot(writer, id);
    if (*slot >= 0) {
        *index = *slot;
        return BIF_OK;
    }
    uint64_t at = (writer->bytes + 7) & ~(uint64_t)7; /* the gap stays a hole and reads as zeros */
    bif_status st = write_at(writer->fd, writer->path, bytes, size, at);
    if (st != BIF_OK) {
        return st;
    }
    bif_digest_update(writer->digest, zeros, (size_t)(at - writer->bytes));
    bif_digest_update(writer->digest, bytes, size);
    writer->bytes = at + size;
    append_u64(writer, BIF_TABLE_IMAGE_OFFSET, at);
    append_u64(writer, BIF_TABLE_IMAGE_SIZE, size);
    append_u32(writer, BIF_TABLE_IMAGE_CRC, bif_crc32c(0, bytes, size));
    append_u32(writer, BIF_TABLE_IMAGE_WIDTH, width);
    append_u32(writer, BIF_TABLE_IMAGE_HEIGHT, height);
    append(writer, BIF_TABLE_IMAGE_FORMAT, &(uint8_t){(uint8_t)format}, 1);
    append(writer, BIF_TABLE_IMAGE_ID, id, sizeof id);
    *slot = *index = writer->images++;
    return BIF_OK;
}

/* Number of the source; sources are few, and the last one used is nearly always the right one. */
static uint32_t source_number(bif_shard_writer *writer, const char *source)
{
    for (uint32_t i = writer->source_count; i-- > 0;) {
        if (strcmp(writer->sources[i], source) == 0) {
            return i;
        }
    }
    writer->sources = bif_realloc(writer->sources, (size_t)writer->source_count + 1, sizeof *writer->sources);
    writer->sources[writer->source_count] = bif_strdup(source);
    append(writer, BIF_TABLE_SOURCE_BYTES, source, strlen(source));
    append_u64(writer, BIF_TABLE_SOURCE_OFFSET, writer->column[BIF_TABLE_SOURCE_BYTES].used);
    return writer->source_count++;
}

bif_status bif_shard_add_sample(bif_shard_writer *writer, const char *text, size_t text_size, const char *id, const char *source,
                                const int64_t *images, int64_t image_count)
{
    if (bif_utf8_check(text, text_size) != text_size || bif_utf8_check(id, strlen(id)) != strlen(id)) {
        return bif_fail(BIF_ERR_DATA, "sample %lld of shard '%s': text or id is not valid UTF-8", (long long)writer->samples,
                        writer->path);
    }
    for (int64_t i = 0; i < image_count; i++) {
        BIF_BUG_IF(images[i] < 0 || images[i] >= writer->images, "image %lld of %lld", (long long)images[i],
                   (long long)writer->images);
        append_u64(writer, BIF_TABLE_USE_INDEX, (uint64_t)images[i]);
    }
    append_u64(writer, BIF_TABLE_USE_OFFSET, writer->column[BIF_TABLE_USE_INDEX].used / 8);
    append(writer, BIF_TABLE_TEXT_BYTES, text, text_size);
    append_u64(writer, BIF_TABLE_TEXT_OFFSET, writer->column[BIF_TABLE_TEXT_BYTES].used);
    append(writer, BIF_TABLE_ID_BYTES, id, strlen(id));
    append_u64(writer, BIF_TABLE_ID_OFFSET, writer->column[BIF_TABLE_ID_BYTES].used);
    append_u32(writer, BIF_TABLE_SOURCE, source_number(writer, source));
    writer->samples++;
    return BIF_OK;
}

/* ---- commit ---- */

static bool put_string(hid_t file, const char *name, const char *value)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(value));
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
    return good;
}

static bool put_number(hid_t file, const char *name, int64_t value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(file, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_INT64, &value) >= 0;
    H5Aclose(attribute);
    H5Sclose(space);
    return good;
}

static bool put_groups(hid_t file)
{
    static const char *const names[] = {"image", "sample", "sample/text", "sample/image", "sample/id", "source"};
    hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
    bool good = H5Pset_obj_track_times(plist, false) >= 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && good; i++) {
        hid_t group = H5Gcreate2(file, names[i], H5P_DEFAULT, plist, H5P_DEFAULT);
        good = group >= 0 && H5Gclose(group) >= 0;
    }
    H5Pclose(plist);
    return good;
}

/* Creates one dataset and writes it; of /image/bytes only the space is taken, and *at tells where it is. */
static bool put_column(const bif_shard_writer *writer, hid_t file, int which, int64_t *at)
{
    const bif_table_info *info = &bif_tables[which];
    const buffer *table = &writer->column[which];
    bool bytes = which == BIF_TABLE_IMAGE_BYTES;
    uint64_t rows = bytes ? writer->bytes : table->used / ((size_t)info->width * info->per_row);
    hid_t type = info->width == 8 ? H5T_STD_U64LE : info->width == 4 ? H5T_STD_U32LE : H5T_STD_U8LE;
    hid_t space = H5Screate_simple(info->per_row == 1 ? 1 : 2, (hsize_t[2]){rows, info->per_row}, NULL);
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(plist, H5D_CONTIGUOUS);
    H5Pset_alloc_time(plist, H5D_ALLOC_TIME_EARLY); /* H5Dget_offset is undefined before the space is taken */
    H5Pset_obj_track_times(plist, false);
    H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);   /* else every image byte would be written twice */
    hid_t dataset = H5Dcreate2(file, info->path, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    bool good = dataset >= 0;
    if (good && rows > 0 && bytes) {
        haddr_t offset = H5Dget_offset(dataset);
        good = offset != HADDR_UNDEF;
        *at = (int64_t)offset;
    } else if (good && rows > 0) {
        good = H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, table->data) >= 0;
    }
    if (dataset >= 0) {
        H5Dclose(dataset);
    }
    H5Pclose(plist);
    H5Sclose(space);
    return good;
}

static bif_status write_hdf5(bif_shard_writer *writer, bif_memory_file *memory, int64_t *at)
{
    bif_status st = BIF_OK;
    char hex[33], reason[512];
    for (int which = BIF_TABLE_IMAGE_OFFSET; which < BIF_TABLES; which++) {
        bif_digest_update(writer->digest, writer->column[which].data, writer->column[which].used);
    }
    bif_digest_finish(writer->digest, hex);
    writer->digest = NULL;
    hid_t driver = bif_hdf5_memory_driver();
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_driver(fapl, driver, &memory);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    H5Pset_alignment(fapl, BYTES_ALIGN, BYTES_ALIGN);
    /* Metadata of HDF5 1.8 has checksums: a flipped byte is an error, where the older layout makes HDF5 1.10.8 read freed memory. */
    H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_V18);
    hid_t fcpl = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(fcpl, false); /* no times anywhere: the same samples give the same file */
    hid_t file = H5Fcreate(writer->path, H5F_ACC_TRUNC, fcpl, fapl);
    H5Pclose(fcpl);
    H5Pclose(fapl);
    bool good = file >= 0 && put_string(file, "format", "bifocal-shard") && put_number(file, "version", 1) &&
                put_string(file, "tool", "bifocal") && put_number(file, "samples", writer->samples) &&
                put_number(file, "images", writer->images) && put_string(file, "payload_xxh3", hex) && (writer->note == NULL || put_string(file, "pictures", writer->note)) &&
                put_groups(file);
    for (int which = 0; which < BIF_TABLES && good; which++) {
        good = put_column(writer, file, which, at);
    }
    if (!good) {
        st = bif_fail(BIF_ERR_IO, "cannot build shard '%s': %s", writer->path, bif_hdf5_reason(reason, sizeof reason));
    }
    if (file >= 0 && H5Fclose(file) < 0 && st == BIF_OK) {
        st = bif_fail(BIF_ERR_IO, "cannot build shard '%s': %s", writer->path, bif_hdf5_reason(reason, sizeof reason));
    }
    H5FDunregister(driver);
    return st;
}

static bif_status copy_images(const bif_shard_writer *writer, bif_writer *out)
{
    bif_status st = BIF_OK;
    char *block = bif_malloc(COPY_BYTES);
    for (uint64_t from = 0; from < writer->bytes;) {
        uint64_t left = writer->bytes - from;
        ssize_t n = pread(writer->fd, block, left < COPY_BYTES ? (size_t)left : COPY_BYTES, (off_t)from);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            st = bif_fail_errno(n < 0 ? errno : EIO, "cannot read back the images of shard '%s'", writer->path);
            goto done;
        }
        BIF_TRY(bif_writer_write(out, block, (size_t)n));
        from += (uint64_t)n;
    }
done:
    free(block);
    return st;
}

/* Room for the whole file; only what is written takes memory. */
static bif_status map_memory(const bif_shard_writer *writer, bif_memory_file *memory)
{
    uint64_t need = writer->bytes;
    for (int which = 0; which < BIF_TABLES; which++) {
        need += writer->column[which].used + 4 * BYTES_ALIGN; /* with headers and alignment */
    }
    void *data = mmap(NULL, need, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        return bif_fail(BIF_ERR_MEMORY, "cannot map %llu bytes to build shard '%s'", (unsigned long long)need, writer->path);
    }
    *memory = (bif_memory_file){.data = data, .size = need};
    return BIF_OK;
}

bif_status bif_shard_writer_commit(bif_shard_writer *writer)
{
    bif_status st = BIF_OK;
    bif_writer *out = NULL;
    bif_memory_file memory = {0};
    int64_t at = 0;
    if (writer->samples == 0) {
        st = bif_fail(BIF_ERR_DATA, "shard '%s' would hold no samples", writer->path);
        goto done;
    }
    BIF_TRY(map_memory(writer, &memory));
    bif_hdf5_enter();
    st = write_hdf5(writer, &memory, &at);
    bif_hdf5_leave();
    if (st != BIF_OK) {
        goto done;
    }
    uint64_t start = (uint64_t)at, end = start + writer->bytes;
    BIF_BUG_IF(memory.used < end, "shard '%s': the image bytes end behind the file", writer->path);
    BIF_TRY(bif_writer_open(writer->path, &out));
    BIF_TRY(bif_writer_write(out, memory.data, start));
    BIF_TRY(copy_images(writer, out));
    BIF_TRY(bif_writer_write(out, memory.data + end, memory.used - end));
    st = bif_writer_commit(out);
    out = NULL;
done:
    bif_writer_abandon(out);
    if (memory.data != NULL) {
        munmap(memory.data, memory.size);
    }
    writer_free(writer);
    return st;
}
