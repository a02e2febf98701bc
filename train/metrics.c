#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

struct bif_metrics {
    int fd;
    char *path;
};

bif_status bif_metrics_open(const char *output, int64_t keep, bif_metrics **out)
{
    bif_status st = BIF_OK;
    bif_metrics *metrics = bif_calloc(1, sizeof *metrics);
    metrics->path = bif_path_join(output, "metrics.jsonl");
    metrics->fd = open(metrics->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    struct stat info;
    if (metrics->fd < 0 || fstat(metrics->fd, &info) != 0) {
        st = bif_fail(BIF_ERR_IO, "%s: cannot be opened for writing: %s", metrics->path, strerror(errno));
        goto done;
    }
    if (info.st_size < keep) {
        bif_warn("%s: has %lld bytes, %lld were written before the checkpoint; earlier lines are lost", metrics->path,
                 (long long)info.st_size, (long long)keep);
    } else if (ftruncate(metrics->fd, keep) != 0) {
        st = bif_fail(BIF_ERR_IO, "%s: cannot be cut to %lld bytes: %s", metrics->path, (long long)keep, strerror(errno));
    }
done:
    if (st != BIF_OK) {
        bif_metrics_close(metrics);
        metrics = NULL;
    }
    *out = metrics;
    return st;
}

void bif_metrics_close(bif_metrics *metrics)
{
    if (metrics == NULL) {
        return;
    }
    if (metrics->fd >= 0) {
        close(metrics->fd);
    }
    free(metrics->path);
    free(metrics);
}

bif_status bif_metrics_write(bif_metrics *metrics, json_t *record)
{
    bif_status st = BIF_OK;
    char *text = metrics == NULL ? NULL : json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(record);
    if (metrics == NULL) {
        return BIF_OK;
    }
    BIF_BUG_IF(text == NULL, "a metrics record cannot be written as JSON");
    const size_t size = strlen(text);
    text[size] = '\n'; /* replaces the terminator: one write, one line */
    ssize_t n = write(metrics->fd, text, size + 1);
    if (n != (ssize_t)(size + 1)) {
        st = bif_fail(BIF_ERR_IO, "%s: cannot be written: %s; free some space and run the same command again", metrics->path,
                      n < 0 ? strerror(errno) : "the disk is full");
    }
    free(text);
    return st;
}

bif_status bif_metrics_sync(bif_metrics *metrics, int64_t *size)
{
    struct stat info;
    if (fsync(metrics->fd) != 0 || fstat(metrics->fd, &info) != 0) {
        return bif_fail(BIF_ERR_IO, "%s: cannot be made durable: %s", metrics->path, strerror(errno));
    }
    *size = info.st_size;
    return BIF_OK;
}
