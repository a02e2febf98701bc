#include "data/shard.h"

#include <errno.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "data/shard_internal.h"

#define CHUNK_CAP ((hsize_t)64 << 20)
#define TABLE_CAP ((uint64_t)16 << 30) /* bytes of one table held in memory */
#define RATIO_CAP 1000                 /* logical bytes over stored bytes: more is a bomb */

const bif_table_info bif_tables[BIF_TABLES] = {
    [BIF_TABLE_IMAGE_BYTES] = {"image/bytes", 1, 1},
    [BIF_TABLE_IMAGE_OFFSET] = {"image/offset", 8, 1},
    [BIF_TABLE_IMAGE_SIZE] = {"image/size", 8, 1},
    [BIF_TABLE_IMAGE_CRC] = {"image/crc32c", 4, 1},
    [BIF_TABLE_IMAGE_WIDTH] = {"image/width", 4, 1},
    [BIF_TABLE_IMAGE_HEIGHT] = {"image/height", 4, 1},
    [BIF_TABLE_IMAGE_FORMAT] = {"image/format", 1, 1},
    [BIF_TABLE_IMAGE_ID] = {"image/id", 8, 2},
    [BIF_TABLE_TEXT_BYTES] = {"sample/text/bytes", 1, 1},
    [BIF_TABLE_TEXT_OFFSET] = {"sample/text/offset", 8, 1},
    [BIF_TABLE_USE_OFFSET] = {"sample/image/offset", 8, 1},
    [BIF_TABLE_USE_INDEX] = {"sample/image/index", 8, 1},
    [BIF_TABLE_ID_BYTES] = {"sample/id/bytes", 1, 1},
    [BIF_TABLE_ID_OFFSET] = {"sample/id/offset", 8, 1},
    [BIF_TABLE_SOURCE] = {"sample/source", 4, 1},
    [BIF_TABLE_SOURCE_BYTES] = {"source/bytes", 1, 1},
    [BIF_TABLE_SOURCE_OFFSET] = {"source/offset", 8, 1},
};

static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

void bif_hdf5_enter(void)
{
    pthread_mutex_lock(&library);
    H5PLset_loading_state(0);             /* a filter plugin named by a file must not run */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* per thread in a thread-safe library */
}

void bif_hdf5_leave(void)
{
    pthread_mutex_unlock(&library);
}

struct reason {
    char *buffer;
    size_t size;
};

static herr_t innermost(unsigned n, const H5E_error2_t *error, void *data)
{
    struct reason *reason = data;
    if (n == 0 && error->desc != NULL) {
        snprintf(reason->buffer, reason->size, "%s", error->desc);
    }
    return 0;
}

const char *bif_hdf5_reason(char *buffer, size_t size)
{
    struct reason reason = {buffer, size};
    buffer[0] = '\0';
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, &reason);
    return buffer;
}

#define BAD(...) bad(shard, __VA_ARGS__)
__attribute__((format(printf, 2, 3))) static bif_status bad(const bif_shard *shard, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return bif_fail(BIF_ERR_DATA, "shard '%s': %s", shard->path, text);
}

/* ---- attributes ---- */

/* Fixed-length strings only: variable-length ones go through HDF5's global heap, which has a history of faults. */
static bif_status read_string(const bif_shard *shard, hid_t file, const char *name, char *out, size_t cap)
{
    bif_status st = BIF_OK;
    hid_t attribute = -1, type = -1, space = -1;
    if (H5Aexists(file, name) <= 0 || (attribute = H5Aopen(file, name, H5P_DEFAULT)) < 0) {
        return BAD("the attribute '%s' is missing; this is not a bifocal shard", name);
    }
    type = H5Aget_type(attribute);
    space = H5Aget_space(attribute);
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || H5Tget_size(type) >= cap ||
        H5Sget_simple_extent_npoints(space) != 1) {
        st = BAD("the attribute '%s' must be one fixed-length string of less than %zu bytes", name, cap);
        goto done;
    }
    memset(out, 0, cap);
    if (H5Aread(attribute, type, out) < 0) {
        st = BAD("the attribute '%s' cannot be read", name);
    }
done:
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return st;
}

static bif_status read_number(const bif_shard *shard, hid_t file, const char *name, int64_t *out)
{
    bif_status st = BIF_OK;
    hid_t attribute = -1, type = -1, space = -1;
    if (H5Aexists(file, name) <= 0 || (attribute = H5Aopen(file, name, H5P_DEFAULT)) < 0) {
        return BAD("the attribute '%s' is missing; this is not a bifocal shard", name);
    }
    type = H5Aget_type(attribute);
    space = H5Aget_space(attribute);
    if (H5Tget_class(type) != H5T_INTEGER || H5Tget_size(type) > 8 || H5Sget_simple_extent_npoints(space) != 1 ||
        H5Aread(attribute, H5T_NATIVE_INT64, out) < 0) {
        st = BAD("the attribute '%s' must be one integer", name);
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return st;
}

/* ---- datasets ---- */

/* Every link of the path must be a hard link: soft and external ones lead to other files. */
static bif_status open_dataset(const bif_shard *shard, hid_t file, const char *path, hid_t *out)
{
    char prefix[64];
    size_t length = strlen(path);
    for (size_t n = 1; n <= length; n++) {
        if (path[n] != '/' && path[n] != '\0') {
            continue;
        }
        H5L_info_t info;
        snprintf(prefix, sizeof prefix, "%.*s", (int)n, path);
        if (H5Lexists(file, prefix, H5P_DEFAULT) <= 0 || H5Lget_info(file, prefix, &info, H5P_DEFAULT) < 0) {
            return BAD("/%s is missing", path);
        }
        if (info.type != H5L_TYPE_HARD) {
            return BAD("/%s is a soft or external link, which may lead to another file; it is refused", prefix);
        }
    }
    *out = H5Dopen2(file, path, H5P_DEFAULT);
    return *out < 0 ? BAD("/%s is not a readable dataset", path) : BIF_OK;
}

static bif_status check_filters(const bif_shard *shard, const char *path, hid_t plist)
{
    int count = H5Pget_nfilters(plist);
    for (int i = 0; i < count; i++) {
        unsigned flags = 0;
        size_t values = 0;
        H5Z_filter_t filter = H5Pget_filter2(plist, (unsigned)i, &flags, &values, NULL, 0, NULL, NULL);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32) {
            return BAD("/%s uses filter %d; only deflate, shuffle and fletcher32 are read", path, (int)filter);
        }
    }
    if (count > 0 && strcmp(path, bif_tables[BIF_TABLE_IMAGE_BYTES].path) == 0) {
        return BAD("/%s is compressed or filtered; write it without filters", path);
    }
    return count < 0 ? BAD("/%s: its filters cannot be read", path) : BIF_OK;
}

/* Layout, storage and filters of an untrusted dataset of `bytes` logical bytes. *at = file offset, -1 for chunked. */
static bif_status check_storage(const bif_shard *shard, const char *path, hid_t dataset, uint64_t bytes, int64_t *at)
{
    bif_status st = BIF_OK;
    hid_t plist = H5Dget_create_plist(dataset);
    H5D_layout_t layout = plist < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(plist);
    *at = -1;
    if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED) {
        st = BAD("/%s has a %s layout; only contiguous and chunked ones are read", path,
                 layout == H5D_VIRTUAL ? "virtual" : layout == H5D_COMPACT ? "compact" : "strange");
        goto done;
    }
    if (H5Pget_external_count(plist) != 0) {
        st = BAD("/%s keeps its bytes in another file (external storage); it is refused", path);
        goto done;
    }
    BIF_TRY(check_filters(shard, path, plist));
    hsize_t stored = H5Dget_storage_size(dataset);
    if (bytes > 0 && (stored == 0 || bytes / RATIO_CAP > stored)) {
        st = BAD("/%s declares %llu bytes but stores only %llu", path, (unsigned long long)bytes, (unsigned long long)stored);
        goto done;
    }
    if (layout == H5D_CHUNKED) {
        hsize_t chunk[2] = {0, 1};
        hid_t type = H5Dget_type(dataset);
        size_t width = H5Tget_size(type);
        H5Tclose(type);
        if (H5Pget_chunk(plist, 2, chunk) < 1 || chunk[0] > CHUNK_CAP || chunk[0] * chunk[1] * width > CHUNK_CAP) {
            st = BAD("/%s has chunks of more than 64 MiB", path);
        }
    } else if (bytes > 0) {
        struct stat info;
        haddr_t offset = H5Dget_offset(dataset);
        if (offset == HADDR_UNDEF) {
            st = BAD("/%s was never written", path);
        } else if (fstat(shard->fd, &info) != 0 || offset > (uint64_t)info.st_size || bytes > (uint64_t)info.st_size - offset) {
            st = BAD("/%s ends behind the end of the file; the file is cut short", path);
        } else {
            *at = (int64_t)offset;
        }
    }
done:
    H5Pclose(plist);
    return st;
}

/* Checks one dataset and reads it into memory; /image/bytes stays in the file. */
static bif_status load_column(bif_shard *shard, hid_t file, int which)
{
    const bif_table_info *info = &bif_tables[which];
    bif_table *column = &shard->column[which];
    bif_status st = BIF_OK;
    hid_t dataset = -1, type = -1, space = -1;
    hsize_t dims[2] = {0, 1};
    int64_t at = -1, bytes = 0;
    BIF_TRY(open_dataset(shard, file, info->path, &dataset));
    type = H5Dget_type(dataset);
    if (H5Tequal(type, info->width == 8 ? H5T_STD_U64LE : info->width == 4 ? H5T_STD_U32LE : H5T_STD_U8LE) <= 0) {
        st = BAD("/%s must hold unsigned little-endian numbers of %u bits", info->path, info->width * 8);
        goto done;
    }
    space = H5Dget_space(dataset);
    int rank = info->per_row == 1 ? 1 : 2;
    if (H5Sget_simple_extent_type(space) != H5S_SIMPLE || H5Sget_simple_extent_ndims(space) != rank ||
        H5Sget_simple_extent_dims(space, dims, NULL) != rank || (rank == 2 && dims[1] != info->per_row)) {
        st = BAD("/%s must have %s", info->path, rank == 1 ? "one dimension" : "two dimensions, the second of length 2");
        goto done;
    }
    if (dims[0] > (hsize_t)1 << 48 || !bif_mul_i64((int64_t)dims[0], (int64_t)info->per_row * info->width, &bytes) ||
        (which != BIF_TABLE_IMAGE_BYTES && (uint64_t)bytes > TABLE_CAP)) {
        st = BAD("/%s is too large (%llu rows)", info->path, (unsigned long long)dims[0]);
        goto done;
    }
    BIF_TRY(check_storage(shard, info->path, dataset, (uint64_t)bytes, &at));
    column->rows = dims[0];
    if (which == BIF_TABLE_IMAGE_BYTES) {
        shard->bytes_at = at;
        if (at < 0 && bytes > 0) {
            shard->bytes = dataset; /* chunked: read through HDF5, three times slower */
            dataset = -1;
        }
        goto done;
    }
    column->data = malloc((size_t)bytes + 8); /* not bif_malloc: the size comes from the file */
    if (column->data == NULL) {
        st = bif_fail(BIF_ERR_MEMORY, "out of memory for /%s of shard '%s' (%lld bytes)", info->path, shard->path, (long long)bytes);
        goto done;
    }
    if (bytes > 0 && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, column->data) < 0) {
        char reason[512];
        st = BAD("/%s cannot be read: %s", info->path, bif_hdf5_reason(reason, sizeof reason));
    }
done:
    if (space >= 0) {
        H5Sclose(space);
    }
    if (type >= 0) {
        H5Tclose(type);
    }
    if (dataset >= 0) {
        H5Dclose(dataset);
    }
    return st;
}

/* ---- agreement of the tables ---- */

static const uint64_t *u64_of(const bif_shard *shard, int which)
{
    return shard->column[which].data;
}

static const uint32_t *u32_of(const bif_shard *shard, int which)
{
    return shard->column[which].data;
}

static bif_status check_rows(const bif_shard *shard, int which, uint64_t rows)
{
    return shard->column[which].rows == rows ? BIF_OK
                                             : BAD("/%s has %llu rows; %llu are wanted", bif_tables[which].path,
                                                   (unsigned long long)shard->column[which].rows, (unsigned long long)rows);
}

/* offset[0..rows] must rise from 0 to the length of what it points into. */
static bif_status check_offsets(const bif_shard *shard, int which, int into)
{
    const uint64_t *offset = u64_of(shard, which);
    uint64_t rows = shard->column[which].rows, end = shard->column[into].rows;
    if (rows == 0 || offset[0] != 0 || offset[rows - 1] != end) {
        return BAD("/%s must run from 0 to the length of /%s (%llu)", bif_tables[which].path, bif_tables[into].path,
                   (unsigned long long)end);
    }
    for (uint64_t i = 1; i < rows; i++) {
        if (offset[i] < offset[i - 1]) {
            return BAD("/%s falls at row %llu", bif_tables[which].path, (unsigned long long)i);
        }
    }
    return BIF_OK;
}

static bif_status check_tables(bif_shard *shard, int64_t samples, int64_t images)
{
    bif_status st = BIF_OK;
    if (samples < 1) {
        return BAD("it holds no samples");
    }
    if (images < 0) {
        return BAD("the attribute 'images' is negative");
    }
    for (int which = BIF_TABLE_IMAGE_OFFSET; which <= BIF_TABLE_IMAGE_ID; which++) {
        BIF_TRY(check_rows(shard, which, (uint64_t)images));
    }
    BIF_TRY(check_rows(shard, BIF_TABLE_SOURCE, (uint64_t)samples));
    static const int offsets[][2] = {{BIF_TABLE_TEXT_OFFSET, BIF_TABLE_TEXT_BYTES},
                                     {BIF_TABLE_USE_OFFSET, BIF_TABLE_USE_INDEX},
                                     {BIF_TABLE_ID_OFFSET, BIF_TABLE_ID_BYTES},
                                     {BIF_TABLE_SOURCE_OFFSET, BIF_TABLE_SOURCE_BYTES}};
    for (int i = 0; i < 4; i++) {
        if (offsets[i][0] != BIF_TABLE_SOURCE_OFFSET) {
            BIF_TRY(check_rows(shard, offsets[i][0], (uint64_t)samples + 1));
        }
        BIF_TRY(check_offsets(shard, offsets[i][0], offsets[i][1]));
    }
    const uint64_t *offset = u64_of(shard, BIF_TABLE_IMAGE_OFFSET), *size = u64_of(shard, BIF_TABLE_IMAGE_SIZE);
    uint64_t end = 0, total = shard->column[BIF_TABLE_IMAGE_BYTES].rows;
    for (uint64_t i = 0; i < (uint64_t)images; i++) {
        if (offset[i] < end || offset[i] > total || size[i] > total - offset[i]) {
            return BAD("image %llu (offset %llu, size %llu) overlaps the one before or leaves /image/bytes (%llu)",
                       (unsigned long long)i, (unsigned long long)offset[i], (unsigned long long)size[i], (unsigned long long)total);
        }
        end = offset[i] + size[i];
    }
    const uint64_t *use = u64_of(shard, BIF_TABLE_USE_INDEX);
    for (uint64_t i = 0; i < shard->column[BIF_TABLE_USE_INDEX].rows; i++) {
        if (use[i] >= (uint64_t)images) {
            return BAD("/sample/image/index row %llu names image %llu of %lld", (unsigned long long)i, (unsigned long long)use[i],
                       (long long)images);
        }
    }
    shard->source_count = shard->column[BIF_TABLE_SOURCE_OFFSET].rows - 1;
    const uint32_t *source = u32_of(shard, BIF_TABLE_SOURCE);
    for (int64_t i = 0; i < samples; i++) {
        if (source[i] >= shard->source_count) {
            return BAD("sample %lld names source %u of %llu", (long long)i, source[i], (unsigned long long)shard->source_count);
        }
    }
    const uint64_t *names = u64_of(shard, BIF_TABLE_SOURCE_OFFSET);
    const char *text = shard->column[BIF_TABLE_SOURCE_BYTES].data;
    shard->sources = bif_calloc(shard->source_count, sizeof *shard->sources);
    for (uint64_t i = 0; i < shard->source_count; i++) {
        shard->sources[i] = bif_format("%.*s", (int)(names[i + 1] - names[i] < 4096 ? names[i + 1] - names[i] : 4096), text + names[i]);
    }
done:
    return st;
}

/* ---- open and close ---- */

static bif_status open_locked(bif_shard *shard)
{
    bif_status st = BIF_OK;
    char text[64], reason[512];
    int64_t version = 0, samples = 0, images = 0;
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    H5Pset_fapl_sec2(fapl);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    H5Pset_file_locking(fapl, false, true); /* a finished shard never changes, and Lustre may have no locks */
    file = H5Fopen(shard->path, H5F_ACC_RDONLY, fapl);
    if (file < 0) {
        st = BAD("it is not a whole HDF5 file: %s", bif_hdf5_reason(reason, sizeof reason));
        goto done;
    }
    BIF_TRY(read_string(shard, file, "format", text, sizeof text));
    if (strcmp(text, "bifocal-shard") != 0) {
        st = BAD("its format is '%s', not 'bifocal-shard'", text);
        goto done;
    }
    BIF_TRY(read_number(shard, file, "version", &version));
    if (version != 1) {
        st = BAD("it has format version %lld; this program reads version 1", (long long)version);
        goto done;
    }
    BIF_TRY(read_number(shard, file, "samples", &samples));
    BIF_TRY(read_number(shard, file, "images", &images));
    BIF_TRY(read_string(shard, file, "payload_xxh3", text, sizeof text));
    if (strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32) {
        st = BAD("the attribute 'payload_xxh3' must be 32 hex digits");
        goto done;
    }
    memcpy(shard->digest, text, 33);
    for (int which = 0; which < BIF_TABLES; which++) {
        BIF_TRY(load_column(shard, file, which));
    }
    BIF_TRY(check_tables(shard, samples, images));
done:
    H5Pclose(fapl);
    if (file >= 0 && (st != BIF_OK || shard->bytes < 0)) {
        H5Fclose(file); /* closes everything in it */
        shard->bytes = -1;
    } else {
        shard->file = file;
    }
    return st;
}

bif_status bif_shard_open(const char *path, bif_shard **out)
{
    bif_status st = BIF_OK;
    bif_shard *shard = bif_calloc(1, sizeof *shard);
    shard->path = bif_strdup(path);
    shard->fd = -1;
    shard->file = shard->bytes = -1;
    BIF_TRY(bif_open_regular(path, &shard->fd, NULL));
    bif_hdf5_enter();
    st = open_locked(shard);
    bif_hdf5_leave();
done:
    if (st != BIF_OK) {
        bif_shard_close(shard);
        return st;
    }
    *out = shard;
    return BIF_OK;
}

void bif_shard_close(bif_shard *shard)
{
    if (shard == NULL) {
        return;
    }
    if (shard->file >= 0) {
        bif_hdf5_enter();
        H5Fclose(shard->file);
        bif_hdf5_leave();
    }
    for (uint64_t i = 0; shard->sources != NULL && i < shard->source_count; i++) {
        free(shard->sources[i]);
    }
    free(shard->sources);
    for (int which = 0; which < BIF_TABLES; which++) {
        free(shard->column[which].data);
    }
    if (shard->fd >= 0) {
        close(shard->fd);
    }
    free(shard->path);
    free(shard);
}

const char *bif_shard_path(const bif_shard *shard)
{
    return shard->path;
}

const char *bif_shard_payload_digest(const bif_shard *shard)
{
    return shard->digest;
}

int64_t bif_shard_samples(const bif_shard *shard)
{
    return (int64_t)shard->column[BIF_TABLE_SOURCE].rows;
}

int64_t bif_shard_images(const bif_shard *shard)
{
    return (int64_t)shard->column[BIF_TABLE_IMAGE_OFFSET].rows;
}

/* ---- records ---- */

bif_status bif_shard_get_sample(const bif_shard *shard, int64_t index, bif_shard_sample *out)
{
    if (index < 0 || index >= bif_shard_samples(shard)) {
        return BAD("sample %lld is asked for; it has %lld", (long long)index, (long long)bif_shard_samples(shard));
    }
    const uint64_t *text = u64_of(shard, BIF_TABLE_TEXT_OFFSET) + index;
    const uint64_t *use = u64_of(shard, BIF_TABLE_USE_OFFSET) + index;
    const uint64_t *id = u64_of(shard, BIF_TABLE_ID_OFFSET) + index;
    *out = (bif_shard_sample){
        .text = (const char *)shard->column[BIF_TABLE_TEXT_BYTES].data + text[0],
        .text_size = text[1] - text[0],
        .id = (const char *)shard->column[BIF_TABLE_ID_BYTES].data + id[0],
        .id_size = id[1] - id[0],
        .source = shard->sources[u32_of(shard, BIF_TABLE_SOURCE)[index]],
        .images = u64_of(shard, BIF_TABLE_USE_INDEX) + use[0],
        .image_count = (int64_t)(use[1] - use[0]),
    };
    return BIF_OK;
}

bif_status bif_shard_get_image(const bif_shard *shard, int64_t index, bif_shard_image *out)
{
    if (index < 0 || index >= bif_shard_images(shard)) {
        return BAD("image %lld is asked for; it has %lld", (long long)index, (long long)bif_shard_images(shard));
    }
    uint8_t format = ((const uint8_t *)shard->column[BIF_TABLE_IMAGE_FORMAT].data)[index];
    const uint64_t *id = u64_of(shard, BIF_TABLE_IMAGE_ID) + 2 * index;
    *out = (bif_shard_image){
        .size = u64_of(shard, BIF_TABLE_IMAGE_SIZE)[index],
        .crc32c = u32_of(shard, BIF_TABLE_IMAGE_CRC)[index],
        .width = u32_of(shard, BIF_TABLE_IMAGE_WIDTH)[index],
        .height = u32_of(shard, BIF_TABLE_IMAGE_HEIGHT)[index],
        .format = format <= BIF_IMAGE_WEBP ? (bif_image_format)format : BIF_IMAGE_UNKNOWN,
        .id = {id[0], id[1]},
    };
    return BIF_OK;
}

static bif_status read_through_hdf5(const bif_shard *shard, uint64_t at, void *buffer, size_t size)
{
    hsize_t start = at, count = size;
    bif_status st = BIF_OK;
    bif_hdf5_enter();
    hid_t space = H5Dget_space(shard->bytes), memory = H5Screate_simple(1, &count, NULL);
    if (H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &count, NULL) < 0 ||
        H5Dread(shard->bytes, H5T_STD_U8LE, memory, space, H5P_DEFAULT, buffer) < 0) {
        char reason[512];
        st = BAD("/image/bytes cannot be read: %s", bif_hdf5_reason(reason, sizeof reason));
    }
    H5Sclose(memory);
    H5Sclose(space);
    bif_hdf5_leave();
    return st;
}

bif_status bif_shard_read_bytes(const bif_shard *shard, uint64_t at, void *buffer, size_t size)
{
    if (shard->bytes_at < 0 && size > 0) {
        return read_through_hdf5(shard, at, buffer, size);
    }
    for (size_t used = 0; used < size;) {
        ssize_t n = pread(shard->fd, (char *)buffer + used, size - used, (off_t)((uint64_t)shard->bytes_at + at + used));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return bif_fail_errno(errno, "cannot read shard '%s'", shard->path);
        }
        if (n == 0) {
            return BAD("it ends inside /image/bytes; the file is cut short");
        }
        used += (size_t)n;
    }
    return BIF_OK;
}

bif_status bif_shard_read_image(const bif_shard *shard, int64_t index, void *buffer, size_t buffer_size)
{
    bif_shard_image image = {0};
    bif_status st = bif_shard_get_image(shard, index, &image);
    if (st != BIF_OK) {
        return st;
    }
    BIF_BUG_IF(buffer_size < image.size, "buffer of %zu bytes for an image of %llu", buffer_size, (unsigned long long)image.size);
    st = bif_shard_read_bytes(shard, u64_of(shard, BIF_TABLE_IMAGE_OFFSET)[index], buffer, image.size);
    if (st == BIF_OK && bif_crc32c(0, buffer, image.size) != image.crc32c) {
        st = bif_fail(BIF_ERR_DATA, "shard '%s', image %lld: bytes do not match their checksum", shard->path, (long long)index);
    }
    return st;
}
