/* What the targets share: one file, or one folder, that holds the bytes of an execution. In memory: /dev/shm where there is one. */
#pragma once
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

static inline void fuzz_write(int fd, const void *data, size_t size)
{
    BIF_BUG_IF(ftruncate(fd, 0) != 0, "ftruncate");
    for (size_t at = 0; at < size;) {
        const ssize_t n = pwrite(fd, (const char *)data + at, size - at, (off_t)at);
        BIF_BUG_IF(n <= 0, "write");
        at += (size_t)n;
    }
}

/* The path of a file that holds these bytes until the next call. */
static inline const char *fuzz_file(const void *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        BIF_BUG_IF(fd < 0, "memfd_create");
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    fuzz_write(fd, data, size);
    return path;
}

static char fuzz_path[64];

static inline void fuzz_remove(void)
{
    bif_remove_tree(fuzz_path);
}

/* An empty folder of this process, removed at its end. */
static inline const char *fuzz_folder(void)
{
    if (fuzz_path[0] == '\0') {
        snprintf(fuzz_path, sizeof fuzz_path, "%s/bifocal-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        BIF_BUG_IF(mkdtemp(fuzz_path) == NULL, "mkdtemp %s", fuzz_path);
        atexit(fuzz_remove);
    }
    return fuzz_path;
}

static inline void fuzz_put(const char *name, const void *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    BIF_BUG_IF(fd < 0, "cannot create %s", path);
    fuzz_write(fd, data, size);
    close(fd);
}

/* Every refusal says which file it is about. */
static inline void fuzz_named(const char *file)
{
    BIF_BUG_IF(strstr(bif_error_message(), file) == NULL, "a refusal that does not name %s: %s", file, bif_error_message());
}

/* Bytes up to the next zero byte: a part of an input that stands for several files. */
typedef struct {
    const char *data;
    size_t size;
} fuzz_part;

static inline fuzz_part fuzz_next(const uint8_t **data, size_t *size)
{
    const uint8_t *zero = *size > 0 ? memchr(*data, 0, *size) : NULL;
    const fuzz_part part = {(const char *)*data, zero != NULL ? (size_t)(zero - *data) : *size};
    const size_t used = part.size + (zero != NULL);
    *data += used;
    *size -= used;
    return part;
}
