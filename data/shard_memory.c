/* An HDF5 file driver over a block of the caller's memory. A shard's structure is built with it, so that HDF5 never writes to a
 * disk: after a write that failed on a full disk, HDF5 1.10.8 crashes at exit (tests/data/test_shard.c, full_disk). The block is
 * mapped, not filled: the place of the image bytes is never touched and takes no memory. */
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

#include "data/shard_internal.h"

typedef struct {
    H5FD_t common; /* first, as HDF5 wants it */
    bif_memory_file *memory;
    haddr_t end; /* of the allocated addresses */
} memory_file;

static H5FD_t *memory_open(const char *name, unsigned flags, hid_t fapl, haddr_t max)
{
    (void)name, (void)flags, (void)max;
    bif_memory_file *const *info = H5Pget_driver_info(fapl);
    memory_file *file = calloc(1, sizeof *file);
    if (info == NULL || file == NULL) {
        free(file);
        return NULL;
    }
    file->memory = *info;
    return &file->common;
}

static herr_t memory_close(H5FD_t *file)
{
    free(file);
    return 0;
}

static herr_t memory_query(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA |
             H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

static haddr_t memory_get_eoa(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const memory_file *)file)->end;
}

static herr_t memory_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t end)
{
    (void)type;
    ((memory_file *)file)->end = end;
    return 0;
}

static haddr_t memory_get_eof(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const memory_file *)file)->memory->used;
}

static bool inside(const bif_memory_file *memory, haddr_t at, size_t size)
{
    return at <= memory->size && size <= memory->size - at;
}

static herr_t memory_read(H5FD_t *file, H5FD_mem_t type, hid_t plist, haddr_t at, size_t size, void *buffer)
{
    (void)type, (void)plist;
    const bif_memory_file *memory = ((memory_file *)file)->memory;
    if (!inside(memory, at, size)) {
        return -1;
    }
    memcpy(buffer, memory->data + at, size);
    return 0;
}

static herr_t memory_write(H5FD_t *file, H5FD_mem_t type, hid_t plist, haddr_t at, size_t size, const void *buffer)
{
    (void)type, (void)plist;
    bif_memory_file *memory = ((memory_file *)file)->memory;
    if (!inside(memory, at, size)) {
        return -1;
    }
    memcpy(memory->data + at, buffer, size);
    memory->used = at + size > memory->used ? at + size : memory->used;
    return 0;
}

static herr_t memory_truncate(H5FD_t *file, hid_t plist, hbool_t closing)
{
    (void)plist, (void)closing;
    const memory_file *f = (const memory_file *)file;
    if (f->end > f->memory->size) {
        return -1;
    }
    f->memory->used = f->end;
    return 0;
}

static const H5FD_class_t driver = {
    .name = "bifocal-memory",
    .maxaddr = (haddr_t)1 << 62,
    .fc_degree = H5F_CLOSE_WEAK,
    .fapl_size = sizeof(bif_memory_file *),
    .open = memory_open,
    .close = memory_close,
    .query = memory_query,
    .get_eoa = memory_get_eoa,
    .set_eoa = memory_set_eoa,
    .get_eof = memory_get_eof,
    .read = memory_read,
    .write = memory_write,
    .truncate = memory_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

int64_t bif_hdf5_memory_driver(void)
{
    return H5FDregister(&driver);
}
