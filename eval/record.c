#include "eval/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#define SYNC_SECONDS 5 /* an answer costs milliseconds, a sync may cost tens of them */

struct bif_record {
    char *output, *path; /* path: of this rank's answers */
    int lock_fd, fd; /* lock_fd: rank 0's */
    int rank;
    int64_t answers; /* of this rank; rank 0's with those of earlier starts */
    struct timespec synced;
};

/* A line with its checksum, appended to *text. */
static void put_line(char **text, size_t *size, json_t *value)
{
    char *json = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII); /* no line separators inside */
    const size_t length = strlen(json);
    *text = bif_realloc(*text, *size + length + 11, 1);
    *size += (size_t)snprintf(*text + *size, length + 11, "%08x %s\n", bif_crc32c(0, json, length), json);
    free(json);
    json_decref(value);
}

/* The next whole line of *at; NULL for one that is damaged (at the end: torn). */
static json_t *next_line(const char **at, const char *end)
{
    const char *line = *at, *newline = memchr(line, '\n', (size_t)(end - line));
    *at = newline != NULL ? newline + 1 : end;
    if (newline == NULL || newline - line < 10 || line[8] != ' ') {
        return NULL;
    }
    char *stop = NULL;
    const unsigned long crc = strtoul(line, &stop, 16);
    const size_t size = (size_t)(newline - line) - 9;
    if (stop != line + 8 || crc != bif_crc32c(0, line + 9, size)) {
        return NULL;
    }
    return json_loadb(line + 9, size, 0, NULL);
}

static bif_status write_whole(int fd, const char *path, const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        const ssize_t n = write(fd, text + at, size - at);
        if (n < 0 && errno != EINTR) {
            return bif_fail_errno(errno, "%s: the answers cannot be kept", path);
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return BIF_OK;
}

/* What differs between two identities, in words. */
static char *differences(const json_t *mine, const json_t *theirs)
{
    char *text = bif_strdup("");
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)mine, key, value) {
        const char *other = json_string_value(json_object_get(theirs, key));
        if (other == NULL || strcmp(other, json_string_value(value)) != 0) {
            char *more = bif_format("%s%s%s (there %s, now %s)", text, text[0] != '\0' ? ", " : "", key, other != NULL ? other : "none",
                                    json_string_value(value));
            free(text);
            text = more;
        }
    }
    return text;
}

/* S of "BASE.part-S-R". */
static bool is_part(const char *name, const char *base, long *start)
{
    const size_t length = strlen(base);
    char *end = NULL, *last = NULL;
    if (strncmp(name, base, length) != 0 || strncmp(name + length, ".part-", 6) != 0) {
        return false;
    }
    *start = strtol(name + length + 6, &end, 10);
    if (end == name + length + 6 || *end != '-') {
        return false;
    }
    strtol(end + 1, &last, 10);
    return last != end + 1 && *last == '\0';
}

/* Calls visit for each file of answers, and tells the last start. */
static bif_status each_part(const char *output, long *last, bif_status (*visit)(void *context, const char *path), void *context)
{
    bif_status st = BIF_OK;
    char *folder = bif_path_parent(output);
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        BIF_TRY(bif_fail_errno(errno, "cannot list the folder '%s'", folder));
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        long start = 0;
        if (!is_part(entry->d_name, bif_path_base(output), &start)) {
            continue;
        }
        *last = start > *last ? start : *last;
        char *path = strchr(output, '/') != NULL ? bif_path_join(folder, entry->d_name) : bif_strdup(entry->d_name);
        st = visit(context, path);
        free(path);
        BIF_TRY(st);
    }
done:
    if (dir != NULL) {
        closedir(dir);
    }
    free(folder);
    return st;
}

static bif_status remove_part(void *context, const char *path)
{
    (void)context;
    return unlink(path) == 0 || errno == ENOENT ? BIF_OK : bif_fail_errno(errno, "cannot remove '%s'", path);
}

typedef struct {
    const json_t *identity;
    char **predictions;
    int64_t count, found, damaged;
    bool foreign; /* answers of another run are there */
} reading;

static bif_status read_part(void *context, const char *path)
{
    bif_status st = BIF_OK;
    reading *r = context;
    char *text = NULL, *what = NULL;
    size_t size = 0;
    json_t *line = NULL;
    BIF_TRY(bif_file_read(path, (size_t)1 << 40, &text, &size));
    const char *at = text, *end = text + size;
    line = at < end ? next_line(&at, end) : NULL;
    if (line == NULL || at == end) {
        goto done; /* nothing was answered */
    }
    what = differences(r->identity, line);
    if (what[0] != '\0') {
        r->foreign = true;
        BIF_TRY(bif_fail(BIF_ERR_USAGE,
                         "%s holds answers of another run, which differs in: %s; finish that run, name another --out, or throw its "
                         "answers away with --restart",
                         path, what));
    }
    while (at < end) {
        json_decref(line);
        line = next_line(&at, end);
        const json_t *number = json_object_get(line, "question"), *prediction = json_object_get(line, "prediction");
        const int64_t i = json_is_integer(number) ? json_integer_value(number) : -1;
        if (i < 0 || i >= r->count || !json_is_string(prediction)) {
            r->damaged++;
        } else if (r->predictions[i] == NULL) {
            r->predictions[i] = bif_strdup(json_string_value(prediction));
            r->found++;
        }
    }
done:
    json_decref(line);
    free(what);
    free(text);
    return st;
}

/* Rank 0: the lock, what there is, the number of this start. */
static bif_status find(bif_record *record, reading *r, bool restart, int64_t *start)
{
    bif_status st = BIF_OK;
    long last = 0;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *path = bif_format("%s.part", record->output);
    record->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (record->lock_fd < 0) {
        BIF_TRY(bif_fail_errno(errno, "%s: cannot be created", path));
    }
    if (fcntl(record->lock_fd, F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES)) {
        close(record->lock_fd);
        record->lock_fd = -1; /* its files are not ours to remove */
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: another run is writing there; wait for it, or name another --out", record->output));
    }
    BIF_TRY(each_part(record->output, &last, restart ? remove_part : read_part, r));
    if (r->damaged > 0) {
        bif_info("%lld lines of kept answers were torn or damaged; these questions are asked again", (long long)r->damaged);
    }
    record->answers = r->found;
    *start = last + 1;
done:
    free(path);
    return st;
}

bif_status bif_record_open(bif_comm *comm, const char *output, const json_t *identity, bool restart, int64_t count, char **predictions,
                           bool *answered, bif_record **out)
{
    bif_status st = BIF_OK;
    int64_t start = 0;
    char *line = NULL, *header = NULL;
    bif_record *record = bif_calloc(1, sizeof *record);
    reading r = {.identity = identity, .predictions = predictions, .count = count};
    *record = (bif_record){.output = bif_strdup(output), .lock_fd = -1, .fd = -1, .rank = bif_comm_rank(comm)};
    if (record->rank == 0) {
        size_t size = 0;
        st = find(record, &r, restart, &start);
        if (st == BIF_OK) {
            put_line(&line, &size, json_deep_copy(identity));
        }
        for (int64_t i = 0; i < count; i++) {
            answered[i] = predictions[i] != NULL;
        }
    }
    BIF_TRY(bif_comm_agree(comm, st));
    bif_comm_broadcast(comm, &start, sizeof start, 0);
    for (int64_t at = 0; at < count; at += 1 << 30) {
        bif_comm_broadcast(comm, answered + at, (size_t)(count - at < 1 << 30 ? count - at : 1 << 30), 0);
    }
    header = bif_comm_broadcast_text(comm, line != NULL ? line : "", 0);
    record->path = bif_format("%s.part-%lld-%d", output, (long long)start, record->rank);
    record->fd = open(record->path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
    st = record->fd < 0 ? bif_fail_errno(errno, "%s: cannot be created", record->path)
                        : write_whole(record->fd, record->path, header, strlen(header));
    clock_gettime(CLOCK_MONOTONIC, &record->synced);
    BIF_TRY(bif_comm_agree(comm, st));
done:
    free(line);
    free(header);
    if (st != BIF_OK) {
        bif_record_close(record, r.found == 0 && !r.foreign);
        record = NULL;
    }
    *out = record;
    return st;
}

int64_t bif_record_answers(const bif_record *record)
{
    return record->answers;
}

bif_status bif_record_add(bif_record *record, const int64_t *questions, char *const *predictions, int64_t count)
{
    bif_status st = BIF_OK;
    struct timespec now;
    char *text = NULL;
    size_t size = 0;
    for (int64_t i = 0; i < count; i++) {
        put_line(&text, &size, json_pack("{s:I,s:s}", "question", (json_int_t)questions[i], "prediction", predictions[i]));
    }
    BIF_TRY(write_whole(record->fd, record->path, text, size));
    record->answers += count;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - record->synced.tv_sec >= SYNC_SECONDS) {
        record->synced = now;
        if (fdatasync(record->fd) != 0) {
            BIF_TRY(bif_fail_errno(errno, "%s: the answers cannot be kept", record->path));
        }
    }
done:
    free(text);
    return st;
}

void bif_record_close(bif_record *record, bool remove)
{
    if (record == NULL) {
        return;
    }
    if (record->fd >= 0) {
        close(record->fd);
    }
    if (record->lock_fd >= 0) { /* rank 0 that holds the lock */
        long last = 0;
        char *path = bif_format("%s.part", record->output);
        if (remove && (each_part(record->output, &last, remove_part, NULL) != BIF_OK || remove_part(NULL, path) != BIF_OK)) {
            bif_warn("%s", bif_error_message());
            bif_error_clear();
        }
        close(record->lock_fd);
        free(path);
    }
    free(record->output);
    free(record->path);
    free(record);
}
