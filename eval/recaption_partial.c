/* Every line is the CRC-32C of a JSON text as 8 hex digits, a space, and the text: {"method": ...} first, then {"sample", "text"} or
 * {"sample", "reason"}. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "data/column.h"
#include "eval/recaption.h"

#define PARTIAL_CAP ((size_t)1 << 30)

struct bif_partial {
    int fd;
    char *path;
};

static char *folder_of(const bif_shard *shard)
{
    return bif_column_folder(bif_shard_path(shard));
}

/* ---- writing ---- */

static bif_status put_line(const bif_partial *p, json_t *value, bool after_tear)
{
    bif_status st = BIF_OK;
    char *json = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL; /* no line separators inside */
    json_decref(value);
    if (json == NULL) {
        return bif_fail(BIF_ERR_DATA, "%s: a text is not UTF-8", p->path);
    }
    char *line = bif_format("%s%08x %s\n", after_tear ? "\n" : "", bif_crc32c(0, json, strlen(json)), json);
    const size_t size = strlen(line);
    for (size_t at = 0; st == BIF_OK && at < size;) {
        const ssize_t n = write(p->fd, line + at, size - at);
        if (n < 0 && errno != EINTR) {
            st = bif_fail_errno(errno, "%s: captions cannot be kept", p->path);
        }
        at += n > 0 ? (size_t)n : 0;
    }
    free(line);
    free(json);
    return st;
}

bif_status bif_partial_open(const bif_shard *shard, const char *column, const char *method, int rank, bif_partial **out)
{
    bif_status st = BIF_OK;
    char *folder = folder_of(shard), *name = bif_format("%s.partial-%d.jsonl", column, rank);
    bif_partial *p = bif_calloc(1, sizeof *p);
    *p = (bif_partial){.fd = -1, .path = bif_path_join(folder, name)};
    *out = NULL;
    BIF_TRY(bif_make_dirs(folder));
    p->fd = open(p->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (p->fd < 0) {
        BIF_TRY(bif_fail_errno(errno, "cannot write '%s'", p->path));
    }
    BIF_TRY(put_line(p, json_pack("{s:s}", "method", method), lseek(p->fd, 0, SEEK_END) > 0));
    *out = p;
    p = NULL;
done:
    bif_partial_close(p);
    free(name);
    free(folder);
    return st;
}

bif_status bif_partial_add(bif_partial *p, int64_t sample, const char *text, const char *reason)
{
    json_t *value = text != NULL ? json_pack("{s:I,s:s}", "sample", (json_int_t)sample, "text", text)
                                 : json_pack("{s:I,s:s}", "sample", (json_int_t)sample, "reason", reason);
    if (value == NULL && text == NULL) { /* a reason that quotes what is not UTF-8 */
        value = json_pack("{s:I,s:s}", "sample", (json_int_t)sample, "reason", "cannot be decoded");
    }
    return put_line(p, value, false);
}

void bif_partial_close(bif_partial *p)
{
    if (p != NULL) {
        if (p->fd >= 0) {
            close(p->fd);
        }
        free(p->path);
        free(p);
    }
}

/* ---- reading ---- */

/* Calls use for every file COLUMN.partial-N.jsonl of the shard. */
static bif_status each_file(const bif_shard *shard, const char *column, bif_status (*use)(void *context, const char *path), void *context)
{
    bif_status st = BIF_OK;
    char *folder = folder_of(shard), *begin = bif_format("%s.partial-", column);
    DIR *dir = opendir(folder);
    if (dir == NULL && errno != ENOENT) {
        st = bif_fail_errno(errno, "cannot list the folder '%s'", folder);
    }
    for (const struct dirent *entry; st == BIF_OK && dir != NULL && (entry = readdir(dir)) != NULL;) {
        const char *rest = entry->d_name + strlen(begin);
        if (strncmp(entry->d_name, begin, strlen(begin)) == 0 && strspn(rest, "0123456789") > 0 &&
            strcmp(rest + strspn(rest, "0123456789"), ".jsonl") == 0) {
            char *path = bif_path_join(folder, entry->d_name);
            st = use(context, path);
            free(path);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    free(begin);
    free(folder);
    return st;
}

typedef struct {
    const char *method;
    bool overwrite;
    int64_t samples;
    bool *found;
    char **text, **reason;
} reading;

/* The next whole line of *at; NULL for one that is damaged or torn. */
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
    return stop == line + 8 && crc == bif_crc32c(0, line + 9, size) ? json_loadb(line + 9, size, 0, NULL) : NULL;
}

static void take(const reading *r, const json_t *line)
{
    const json_t *sample = json_object_get(line, "sample"), *text = json_object_get(line, "text"),
                 *reason = json_object_get(line, "reason");
    const int64_t i = json_is_integer(sample) ? (int64_t)json_integer_value(sample) : -1;
    if (i < 0 || i >= r->samples || r->found[i] || (!json_is_string(text) && !json_is_string(reason))) {
        return;
    }
    r->found[i] = true;
    if (json_is_string(text) && r->text != NULL) {
        r->text[i] = bif_strdup(json_string_value(text));
    }
    if (!json_is_string(text) && r->reason != NULL) {
        r->reason[i] = bif_strdup(json_string_value(reason));
    }
}

static bif_status read_file(void *context, const char *path)
{
    bif_status st = BIF_OK;
    reading *r = context;
    char *bytes = NULL, *other = NULL;
    size_t size = 0;
    BIF_TRY(bif_file_read(path, PARTIAL_CAP, &bytes, &size));
    for (int round = 0; round < 2 && other == NULL; round++) { /* all methods first: nothing of a file with another one is taken */
        for (const char *at = bytes; at < bytes + size;) {
            json_t *line = next_line(&at, bytes + size);
            const char *method = json_string_value(json_object_get(line, "method"));
            if (round == 0 && method != NULL && strcmp(method, r->method) != 0 && other == NULL) {
                other = bif_strdup(method);
            }
            if (round == 1 && method == NULL && line != NULL) {
                take(r, line);
            }
            json_decref(line);
        }
    }
    if (other != NULL && !r->overwrite) {
        BIF_TRY(bif_fail(BIF_ERR_DATA,
                         "%s: holds captions of a run that did not end and was another one (\"%s\", not \"%s\"); run that one again, give "
                         "another --name, or --overwrite",
                         path, other, r->method));
    }
    if (other != NULL && unlink(path) != 0) {
        st = bif_fail_errno(errno, "cannot remove '%s'", path);
    }
done:
    free(other);
    free(bytes);
    return st;
}

bif_status bif_partial_read(const bif_shard *shard, const char *column, const char *method, bool overwrite, bool *found, char **text,
                            char **reason)
{
    reading r = {method, overwrite, bif_shard_samples(shard), found, text, reason};
    return each_file(shard, column, read_file, &r);
}

static bif_status remove_file(void *context, const char *path)
{
    (void)context;
    return unlink(path) == 0 || errno == ENOENT ? BIF_OK : bif_fail_errno(errno, "cannot remove '%s'", path);
}

bif_status bif_partial_remove(const bif_shard *shard, const char *column)
{
    return each_file(shard, column, remove_file, NULL);
}
