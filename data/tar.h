/* Members of a tar file, in order: ustar, old GNU (long names, sizes in base 256) and pax (path, size), checksums checked.
 *
 * The file is untrusted. Nothing of what it names is ever opened; a member lies within the file, and names are at most 64 KiB. Folders,
 * links and devices are passed over; records of pax that hold for all members ("g") are too. Compressed tars are refused by name.
 * The first end mark ends the archive, as for GNU tar: what is joined behind it is not read, but told of.
 * Damage (a checksum, a size beyond the file, a missing end mark, a sparse member) ends the reading: what follows cannot be found. */
#pragma once
#include "base/status.h"

typedef struct bif_tar bif_tar;

typedef struct {
    const char *name; /* terminated, any bytes but zero; until the next call */
    uint64_t at;      /* where its bytes stand in the file */
    uint64_t size;
} bif_tar_member;

bif_status bif_tar_open(const char *path, bif_tar **out); /* a regular file */
/* The next regular file of the archive; *more = false behind the last. BIF_ERR_DATA: the tar is damaged here, and no further call may
 * follow. */
bif_status bif_tar_next(bif_tar *tar, bif_tar_member *out, bool *more);
/* Bytes [at, at + size) of the tar. Thread-safe. BIF_ERR_DATA: it ends before. */
bif_status bif_tar_read(const bif_tar *tar, uint64_t at, void *buffer, size_t size);
/* Behind the last member: is there anything but zeros behind the end mark? */
bif_status bif_tar_behind(const bif_tar *tar, bool *more);
const char *bif_tar_path(const bif_tar *tar);
void bif_tar_close(bif_tar *tar); /* NULL is allowed */
