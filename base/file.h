/* Files: whole reads with a size cap, and writes that are either complete under their final name or not there.
 *
 * A saved file means: written to a temporary name in the same directory, fsync(file), rename, fsync(directory). */
#pragma once
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* BIF_ERR_IO with "TEXT: reason of errno; what to do". The text says what was done to which file, and after how many bytes. */
bif_status bif_fail_errno(int err, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* Reads a regular file of at most `cap` bytes. *out is malloc'ed with one '\0' after the end; the caller frees. */
bif_status bif_file_read(const char *path, size_t cap, char **out, size_t *size);

/* Opens a regular file for reading; *fd is the caller's to close, size may be NULL. One read; *got = 0 at the end of the file. */
bif_status bif_open_regular(const char *path, int *fd, size_t *size);
bif_status bif_read_some(int fd, const char *path, void *buffer, size_t size, size_t *got);

/* BIF_ERR_USAGE when a file saved under this name would replace a device, a pipe, a socket, or a link to standard output. */
bif_status bif_can_replace(const char *path);

/* Writer of one file. Every call after a failure returns the first failure again. */
typedef struct bif_writer bif_writer;
bif_status bif_writer_open(const char *path, bif_writer **out); /* creates PATH.tmp-PID; nothing appears under PATH yet; bif_can_replace first */
bif_status bif_writer_write(bif_writer *writer, const void *data, size_t size); /* buffered */
/* Flush, fsync, rename to PATH, fsync the directory. Frees the writer in every case; on failure removes the temporary. */
bif_status bif_writer_commit(bif_writer *writer);
/* Gives up: removes the temporary file and frees. NULL is allowed. */
void bif_writer_abandon(bif_writer *writer);

/* The whole file in one go, with the promise above. */
bif_status bif_file_write(const char *path, const void *data, size_t size);

bif_status bif_make_dirs(const char *path);             /* mkdir -p */
bif_status bif_fsync_dir(const char *path);
bif_status bif_rename(const char *from, const char *to); /* rename + fsync of the parent of `to` */
bif_status bif_remove_tree(const char *path);            /* rm -r; a missing path is fine; never follows links */
bool bif_exists(const char *path);
bool bif_is_folder(const char *path);
char *bif_path_join(const char *dir, const char *name); /* malloc'ed; an absolute `name` is returned as it is */
char *bif_path_parent(const char *path);                /* malloc'ed; "." for a bare name */
const char *bif_path_base(const char *path);            /* points into path */

/* Opens `relative` below the directory `root_fd` for reading: refuses absolute paths, "..", symbolic links that leave the
 * root, and anything but a regular file (openat2 RESOLVE_BENEATH; component-wise O_NOFOLLOW where the kernel lacks it).
 * `root_name` is for messages. *fd is the caller's to close. BIF_ERR_DATA when the name is at fault (missing, refused, not a
 * file), BIF_ERR_IO when the system is. */
bif_status bif_open_beneath(int root_fd, const char *root_name, const char *relative, int *fd, size_t *size);
/* The fallback: follows no link at all. Returns the descriptor, or -1 with errno. `relative` is checked by bif_open_beneath. */
int bif_openat_nofollow(int root_fd, const char *relative);

/* Digest used in manifests: XXH3-128 in 32 hex digits (lower case, canonical order) plus '\0'. */
typedef struct bif_digest bif_digest;
bif_digest *bif_digest_new(void);
void bif_digest_update(bif_digest *digest, const void *data, size_t size);
void bif_digest_finish(bif_digest *digest, char hex[33]); /* frees */
void bif_digest_bytes(const void *data, size_t size, char hex[33]);
bif_status bif_digest_file(const char *path, char hex[33], uint64_t *size);

/* CRC-32C (Castagnoli), start with crc = 0. Hardware instruction where there is one. */
uint32_t bif_crc32c(uint32_t crc, const void *data, size_t size);
uint32_t bif_crc32c_portable(uint32_t crc, const void *data, size_t size); /* the same by tables */

#ifdef __cplusplus
}
#endif
