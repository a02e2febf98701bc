/* Shared by shard.c (reading), shard_write.c, shard_memory.c and shard_verify.c only. */
#pragma once
#include "data/shard.h"

/* The datasets of a shard, in the order of data/shard.h, which is also the order of the payload digest. */
typedef enum {
    BIF_TABLE_IMAGE_BYTES,
    BIF_TABLE_IMAGE_OFFSET,
    BIF_TABLE_IMAGE_SIZE,
    BIF_TABLE_IMAGE_CRC,
    BIF_TABLE_IMAGE_WIDTH,
    BIF_TABLE_IMAGE_HEIGHT,
    BIF_TABLE_IMAGE_FORMAT,
    BIF_TABLE_IMAGE_ID,
    BIF_TABLE_TEXT_BYTES,
    BIF_TABLE_TEXT_OFFSET,
    BIF_TABLE_USE_OFFSET, /* /sample/image: which samples use which images */
    BIF_TABLE_USE_INDEX,
    BIF_TABLE_ID_BYTES,
    BIF_TABLE_ID_OFFSET,
    BIF_TABLE_SOURCE,
    BIF_TABLE_SOURCE_BYTES,
    BIF_TABLE_SOURCE_OFFSET,
    BIF_TABLES
} bif_table_name;

typedef struct {
    const char *path;
    unsigned width;   /* bytes of one number: 1, 4 or 8, unsigned, little-endian */
    unsigned per_row; /* 1, or 2 for a two-column table */
} bif_table_info;
extern const bif_table_info bif_tables[BIF_TABLES];

typedef struct {
    void *data; /* NULL for BIF_TABLE_IMAGE_BYTES, whose bytes stay in the file */
    uint64_t rows;
} bif_table;

struct bif_shard {
    char *path;
    int fd;              /* for pread */
    int64_t bytes_at;    /* file offset of /image/bytes; -1 when it must be read through HDF5 (chunked) */
    int64_t file, bytes; /* HDF5 handles, kept only for that case; else -1 */
    bif_table column[BIF_TABLES];
    char **sources;
    uint64_t source_count;
    char digest[33];
};

/* Raw bytes [at, at + size) of /image/bytes. Thread-safe. */
bif_status bif_shard_read_bytes(const bif_shard *shard, uint64_t at, void *buffer, size_t size);

/* Every use of HDF5 stands between these: one lock for libraries built without thread safety; switches off HDF5's own error
 * printing and the loading of plugins. */
void bif_hdf5_enter(void);
void bif_hdf5_leave(void);
/* A file in memory: HDF5 driver in shard_memory.c; its fapl info is a pointer to one of these. */
typedef struct {
    char *data;
    uint64_t size, used; /* capacity; length of the file */
} bif_memory_file;
int64_t bif_hdf5_memory_driver(void); /* registers; the caller unregisters with H5FDunregister */

/* HDF5's own words for the failure just seen; "" if none. Valid until the next HDF5 call of the thread. */
const char *bif_hdf5_reason(char *buffer, size_t size);
