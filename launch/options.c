#include "launch/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "data/column.h"
#include "train/plan.h"

bif_status bif_option_number(const char *name, const char *text, int64_t min, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min) {
        return bif_fail(BIF_ERR_USAGE, "--%s: '%s' is not a whole number of at least %lld", name, text, (long long)min);
    }
    *out = value;
    return BIF_OK;
}

bif_status bif_option_batch(const char *name, const char *text, int64_t *out)
{
    const bif_status st = bif_option_number(name, text, 1, out);
    return st != BIF_OK || *out <= 65536 ? st : bif_fail(BIF_ERR_USAGE, "--%s: '%s' is more than 65536 at a time", name, text);
}

bif_status bif_option_real(const char *name, const char *text, double *out)
{
    char *end = NULL;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value)) {
        return bif_fail(BIF_ERR_USAGE, "--%s: '%s' is not a number", name, text);
    }
    *out = value;
    return BIF_OK;
}

bif_status bif_option_column(const char *name, const char *text)
{
    return bif_column_name_ok(text) && strlen(text) <= 100
               ? BIF_OK
               : bif_fail(BIF_ERR_USAGE, "--%s: '%s' cannot name a column: letters, digits, '.', '-' and '_', at most 100, not beginning with '.'",
                          name, text);
}

bif_status bif_option_whole_column(const char *name, const char *text)
{
    return bif_column_name_ok(text)
               ? BIF_OK
               : bif_fail(BIF_ERR_USAGE, "--%s: '%s' is the name of no column: letters, digits, '.', '-' and '_', at most 128, not beginning with '.'",
                          name, text);
}

bif_status bif_option_precision(const char *name, bif_precision *out)
{
    static const char *const names[] = {"auto", "fp32", "bf16"}; /* in the order of bif_precision */
    for (int i = 0; i < 3; i++) {
        if (strcmp(names[i], name) == 0) {
            *out = (bif_precision)i;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_USAGE, "--precision: '%s' is unknown; use auto, fp32 or bf16", name);
}

bif_status bif_option_need(const char *verb, const char *name, const char *value)
{
    return value != NULL ? BIF_OK : bif_fail(BIF_ERR_USAGE, "%s: --%s is missing; see bifocal %s --help", verb, name, verb);
}

static bool is_hdf5(const char *path)
{
    char start[8] = {0};
    struct stat info;
    FILE *file = stat(path, &info) == 0 && S_ISREG(info.st_mode) ? fopen(path, "rbe") : NULL;
    const size_t size = file != NULL ? fread(start, 1, sizeof start, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    return size == sizeof start && memcmp(start, "\x89HDF\r\n\x1a\n", sizeof start) == 0;
}

/* Whether a result can be written at the end, asked before the work. NULL is allowed. */
bif_status bif_option_writable(const char *name, const char *path)
{
    bif_status st = BIF_OK;
    struct stat info;
    char *folder = path != NULL ? bif_path_parent(path) : NULL;
    if (folder != NULL && access(folder, W_OK | X_OK) != 0) {
        st = bif_fail_errno(errno, "--%s %s: cannot write to the folder '%s'", name, path, folder);
    } else if (folder != NULL && stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        st = bif_fail(BIF_ERR_USAGE, "--%s %s: is a folder; name a file", name, path);
    } else if (folder != NULL && (st = bif_can_replace(path)) == BIF_OK && is_hdf5(path)) {
        st = bif_fail(BIF_ERR_USAGE, "--%s %s: is an HDF5 file (a shard?), which is never replaced; name another file", name, path);
    }
    free(folder);
    return st;
}

bif_status bif_option_apart(const char *name, const char *path, const char *const *inputs, size_t count)
{
    struct stat mine, other;
    for (size_t i = 0; path != NULL && i < count && stat(path, &mine) == 0; i++) {
        if (inputs[i] != NULL && stat(inputs[i], &other) == 0 && mine.st_dev == other.st_dev && mine.st_ino == other.st_ino &&
            S_ISREG(mine.st_mode)) {
            return bif_fail(BIF_ERR_USAGE, "--%s %s: is read as well (%s) and would be replaced; name another file", name, path, inputs[i]);
        }
    }
    return BIF_OK;
}

bif_status bif_save_summary(const char *path, json_t *summary)
{
    json_object_set_new(summary, "peak_rss_mib", json_real((double)bif_peak_rss_bytes() / 0x1p20));
    bif_status st = path != NULL ? bif_json_save_file(path, summary) : BIF_OK;
    json_decref(summary);
    return st;
}
