#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)1 << 18)

/* What a person can do about an errno. */
static const char *remedy(int err)
{
    switch (err) {
    case ENOSPC:
    case EDQUOT:
        return "; free some space or choose another folder, then run it again";
    case EFBIG:
        return "; raise the file size limit (ulimit -f) or choose another file system";
    case EACCES:
    case EPERM:
    case EROFS:
        return "; check the permissions of the file and of its folder";
    case ENOENT:
    case ENOTDIR:
        return "; check the path";
    case EMFILE:
    case ENFILE:
        return "; raise the limit of open files (ulimit -n)";
    default:
        return "";
    }
}

bif_status bif_fail_errno(int err, const char *format, ...)
{
    char text[3072];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return bif_fail(BIF_ERR_IO, "%s: %s%s", text, strerror(err), remedy(err));
}

/* ---- reading ---- */

bif_status bif_open_regular(const char *path, int *fd, size_t *size)
{
    struct stat info;
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a FIFO must not hang us; no effect on files */
    if (f < 0) {
        return bif_fail_errno(errno, "cannot open '%s'", path);
    }
    if (fstat(f, &info) != 0) {
        int err = errno;
        close(f);
        return bif_fail_errno(err, "cannot look at '%s'", path);
    }
    if (!S_ISREG(info.st_mode)) {
        close(f);
        return bif_fail(BIF_ERR_DATA, "'%s' is not a regular file", path);
    }
    *fd = f;
    if (size != NULL) {
        *size = (size_t)info.st_size;
    }
    return BIF_OK;
}

bif_status bif_read_some(int fd, const char *path, void *buffer, size_t size, size_t *got)
{
    ssize_t n;
    do {
        n = read(fd, buffer, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return bif_fail_errno(errno, "cannot read '%s'", path);
    }
    *got = (size_t)n;
    return BIF_OK;
}

bif_status bif_file_read(const char *path, size_t cap, char **out, size_t *size)
{
    bif_status st = BIF_OK;
    int fd = -1;
    char *text = NULL;
    size_t expected = 0, used = 0;
    BIF_TRY(bif_open_regular(path, &fd, &expected));
    if (expected > cap) {
        st = bif_fail(BIF_ERR_DATA, "'%s' has %zu bytes; at most %zu are read here", path, expected, cap);
        goto done;
    }
    text = malloc(expected + 1); /* not bif_malloc: the size comes from outside */
    if (text == NULL) {
        st = bif_fail(BIF_ERR_MEMORY, "out of memory while reading '%s' (%zu bytes)", path, expected);
        goto done;
    }
    while (used < expected) {
        size_t got = 0;
        BIF_TRY(bif_read_some(fd, path, text + used, expected - used, &got));
        if (got == 0) {
            st = bif_fail(BIF_ERR_IO, "'%s' became shorter while it was read (%zu of %zu bytes)", path, used, expected);
            goto done;
        }
        used += got;
    }
    text[used] = '\0';
    *out = text;
    *size = used;
    text = NULL;
done:
    free(text);
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

/* ---- writing ---- */

struct bif_writer {
    char *path, *temporary;
    char *buffer;
    size_t used;
    uint64_t written; /* bytes handed to the system */
    int fd;
    bif_status failed; /* first failure */
    char *message;
};

static bif_status writer_fail(bif_writer *writer, bif_status st)
{
    if (writer->failed == BIF_OK && st != BIF_OK) {
        writer->failed = st;
        writer->message = bif_strdup(bif_error_message());
    }
    return st;
}

bif_status bif_can_replace(const char *path)
{
    struct stat itself, target;
    if (lstat(path, &itself) != 0 || stat(path, &target) != 0 || S_ISDIR(target.st_mode)) { /* over a folder, the renaming fails */
        return BIF_OK;
    }
    return S_ISREG(target.st_mode) && !(S_ISLNK(itself.st_mode) && strncmp(path, "/dev/", 5) == 0) /* /dev/stdout, sent to a file */
               ? BIF_OK
               : bif_fail(BIF_ERR_USAGE, "cannot write '%s': results replace what has their name, and this is a device, a pipe or a socket; name a file", path);
}

bif_status bif_writer_open(const char *path, bif_writer **out)
{
    const bif_status may = bif_can_replace(path);
    if (may != BIF_OK) {
        return may;
    }
    char *temporary = bif_format("%s.tmp-%ld", path, (long)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        bif_status st = bif_fail_errno(errno, "cannot create '%s'", temporary);
        free(temporary);
        return st;
    }
    bif_writer *writer = bif_calloc(1, sizeof *writer);
    writer->path = bif_strdup(path);
    writer->temporary = temporary;
    writer->buffer = bif_malloc(BUFFER_BYTES);
    writer->fd = fd;
    *out = writer;
    return BIF_OK;
}

static bif_status write_all(bif_writer *writer, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(writer->fd, data, size); /* may be short: on a nearly full disk the error comes with the next call */
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            int err = n < 0 ? errno : EIO;
            return bif_fail_errno(err, "cannot write '%s' after %llu bytes (%zu more were to follow)", writer->path,
                                  (unsigned long long)writer->written, size);
        }
        data += n;
        size -= (size_t)n;
        writer->written += (uint64_t)n;
    }
    return BIF_OK;
}

static bif_status flush(bif_writer *writer)
{
    size_t used = writer->used;
    writer->used = 0;
    return write_all(writer, writer->buffer, used);
}

bif_status bif_writer_write(bif_writer *writer, const void *data, size_t size)
{
    if (writer->failed != BIF_OK) {
        return bif_fail(writer->failed, "%s", writer->message);
    }
    if (size > BUFFER_BYTES - writer->used) {
        bif_status st = flush(writer);
        if (st == BIF_OK && size >= BUFFER_BYTES) {
            return writer_fail(writer, write_all(writer, data, size));
        }
        if (st != BIF_OK) {
            return writer_fail(writer, st);
        }
    }
    if (size > 0) {
        memcpy(writer->buffer + writer->used, data, size);
        writer->used += size;
    }
    return BIF_OK;
}

static void writer_free(bif_writer *writer)
{
    if (writer->fd >= 0) {
        close(writer->fd);
    }
    free(writer->message);
    free(writer->buffer);
    free(writer->temporary);
    free(writer->path);
    free(writer);
}

bif_status bif_writer_commit(bif_writer *writer)
{
    bif_status st = BIF_OK;
    if (writer->failed != BIF_OK) {
        st = bif_fail(writer->failed, "%s", writer->message);
        goto done;
    }
    BIF_TRY(flush(writer));
    /* A failed fsync is final: the kernel marks the pages clean, so a second fsync would lie. */
    if (fsync(writer->fd) != 0) {
        st = bif_fail_errno(errno, "cannot save '%s' (%llu bytes)", writer->path, (unsigned long long)writer->written);
        goto done;
    }
    int fd = writer->fd;
    writer->fd = -1;
    if (close(fd) != 0) { /* network file systems report a full disk here */
        st = bif_fail_errno(errno, "cannot save '%s' (%llu bytes)", writer->path, (unsigned long long)writer->written);
        goto done;
    }
    BIF_TRY(bif_rename(writer->temporary, writer->path));
done:
    if (st != BIF_OK) {
        unlink(writer->temporary);
    }
    writer_free(writer);
    return st;
}

void bif_writer_abandon(bif_writer *writer)
{
    if (writer != NULL) {
        unlink(writer->temporary);
        writer_free(writer);
    }
}

bif_status bif_file_write(const char *path, const void *data, size_t size)
{
    bif_writer *writer = NULL;
    bif_status st = bif_writer_open(path, &writer);
    if (st != BIF_OK) {
        return st;
    }
    st = bif_writer_write(writer, data, size);
    if (st != BIF_OK) {
        bif_writer_abandon(writer);
        return st;
    }
    return bif_writer_commit(writer);
}

/* ---- names and folders ---- */

bif_status bif_make_dirs(const char *path)
{
    bif_status st = BIF_OK;
    char *copy = bif_strdup(path);
    for (char *p = copy + 1; *copy != '\0'; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char end = *p;
        *p = '\0';
        struct stat info;
        if (mkdir(copy, 0777) != 0 && (errno != EEXIST || stat(copy, &info) != 0 || !S_ISDIR(info.st_mode))) {
            st = bif_fail_errno(errno == EEXIST ? ENOTDIR : errno, "cannot make the folder '%s'", copy);
            break;
        }
        *p = end;
        if (end == '\0') {
            break;
        }
    }
    free(copy);
    return st;
}

bif_status bif_fsync_dir(const char *path)
{
    bif_status st = BIF_OK;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return bif_fail_errno(errno, "cannot open the folder '%s'", path);
    }
    if (fsync(fd) != 0 && errno != EINVAL) { /* EINVAL: a file system without folder fsync */
        st = bif_fail_errno(errno, "cannot save the folder '%s'", path);
    }
    close(fd);
    return st;
}

bif_status bif_rename(const char *from, const char *to)
{
    if (rename(from, to) != 0) {
        return bif_fail_errno(errno, "cannot rename '%s' to '%s'", from, to);
    }
    char *parent = bif_path_parent(to);
    bif_status st = bif_fsync_dir(parent);
    free(parent);
    return st;
}

/* Removes `name` in the folder `dir`; folders are opened with O_NOFOLLOW, so a link is removed, never entered. */
static bif_status remove_at(int dir, const char *name, const char *shown)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) {
        return BIF_OK;
    }
    if (errno != EISDIR && errno != EPERM) {
        return bif_fail_errno(errno, "cannot remove '%s'", shown);
    }
    bif_status st = BIF_OK;
    DIR *entries = NULL;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || (entries = fdopendir(fd)) == NULL) {
        int err = errno;
        if (fd >= 0) {
            close(fd);
        }
        return bif_fail_errno(err, "cannot remove '%s'", shown);
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(entries);
        if (entry == NULL) {
            if (errno != 0) {
                st = bif_fail_errno(errno, "cannot list '%s'", shown);
            }
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        char *inner = bif_path_join(shown, entry->d_name);
        st = remove_at(dirfd(entries), entry->d_name, inner);
        free(inner);
        if (st != BIF_OK) {
            break;
        }
    }
    closedir(entries);
    if (st == BIF_OK && unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        st = bif_fail_errno(errno, "cannot remove the folder '%s'", shown);
    }
    return st;
}

bif_status bif_remove_tree(const char *path)
{
    return remove_at(AT_FDCWD, path, path);
}

bool bif_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool bif_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

char *bif_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    if (name[0] == '/' || n == 0) {
        return bif_strdup(name);
    }
    return bif_format("%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}

char *bif_path_parent(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--; /* "a/b/" is "a/b" */
    }
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    if (n == 0) {
        return bif_strdup(".");
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    return bif_format("%.*s", (int)n, path);
}

const char *bif_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* ---- below a root ---- */

static bool has_dotdot(const char *path)
{
    for (const char *p = path; *p != '\0';) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.') {
            return true;
        }
        p += n;
        p += strspn(p, "/");
    }
    return false;
}

int bif_openat_nofollow(int root_fd, const char *relative)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    char *copy = bif_strdup(relative), *rest = NULL;
    int fd = -1, dir = root_fd, err = ENOENT;
    for (char *part = strtok_r(copy, "/", &rest); part != NULL;) {
        char *next = strtok_r(NULL, "/", &rest);
        fd = openat(dir, part, next == NULL ? flags : flags | O_DIRECTORY);
        err = errno;
        if (dir != root_fd) {
            close(dir);
        }
        dir = fd;
        if (fd < 0) {
            break;
        }
        part = next;
    }
    free(copy);
    errno = err;
    return fd;
}

static int open_below(int root_fd, const char *relative)
{
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd;
    do {
        fd = syscall(SYS_openat2, root_fd, relative, &how, sizeof how);
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN)); /* EAGAIN: a rename elsewhere raced with the walk */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) { /* before Linux 5.6, or a sandbox that does not know the call */
        return bif_openat_nofollow(root_fd, relative);
    }
    return (int)fd;
}

bif_status bif_open_beneath(int root_fd, const char *root_name, const char *relative, int *fd, size_t *size)
{
    struct stat info;
    if (relative[0] == '\0' || relative[0] == '/' || has_dotdot(relative)) {
        return bif_fail(BIF_ERR_DATA, "the path '%s' must be relative, not empty and without '..' (it is looked up in '%s')",
                        relative, root_name);
    }
    int f = open_below(root_fd, relative);
    if (f < 0) {
        switch (errno) {
        case EXDEV:
        case ELOOP:
            return bif_fail(BIF_ERR_DATA, "the path '%s' leaves the folder '%s' through a link", relative, root_name);
        case ENOENT:
        case ENOTDIR:
            return bif_fail(BIF_ERR_DATA, "there is no file '%s' in '%s'", relative, root_name);
        case EACCES:
        case ENAMETOOLONG:
        case EISDIR:
        case ENXIO:
            return bif_fail(BIF_ERR_DATA, "cannot open '%s' in '%s': %s", relative, root_name, strerror(errno));
        default:
            return bif_fail_errno(errno, "cannot open '%s' in '%s'", relative, root_name);
        }
    }
    if (fstat(f, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(f);
        return bif_fail(BIF_ERR_DATA, "'%s' in '%s' is not a regular file", relative, root_name);
    }
    *fd = f;
    *size = (size_t)info.st_size;
    return BIF_OK;
}
