#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/json_scan.h"
#include "data/concepts.h"

static bool is_json(const char *path)
{
    const size_t n = strlen(path);
    return n >= 5 && strcmp(path + n - 5, ".json") == 0;
}

static void add(const bif_concepts *concepts, bif_span name, int64_t count, double *counts, bool *known)
{
    const int64_t entry = bif_concepts_find(concepts, name.text, name.size);
    if (entry >= 0) {
        counts[entry] += (double)count; /* names that are one when case is folded */
        known[entry] = true;
    }
}

static bif_status read_json(const bif_concepts *concepts, bif_scan *scan, double *counts, bool *known)
{
    bif_status st = BIF_OK;
    bif_span name;
    int64_t count = 0;
    BIF_TRY(bif_scan_enter(scan, '{'));
    for (bool more = false; (st = bif_scan_key(scan, &name, &more)) == BIF_OK && more;) {
        BIF_TRY(bif_scan_i64(scan, &count));
        if (count < 0 || count > (int64_t)1 << 53) {
            BIF_TRY(bif_scan_fail(scan, "a count is a whole number from 0 to 2^53"));
        }
        add(concepts, name, count, counts, known);
    }
    BIF_TRY(st);
    BIF_TRY(bif_scan_end(scan));
done:
    return st;
}

static bif_status read_lines(const bif_concepts *concepts, const char *path, bif_span whole, double *counts, bool *known)
{
    const char *at = whole.text, *end = whole.text + whole.size;
    for (int64_t line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *last = stop != NULL ? stop : end, *tab = memchr(at, '\t', (size_t)(last - at));
        char digits[24] = "", *rest = NULL;
        const size_t size = tab != NULL ? (size_t)(last - tab - 1) : 0;
        if (tab != NULL && size > 0 && size < sizeof digits) {
            memcpy(digits, tab + 1, size);
            digits[size] = '\0';
            digits[size - (digits[size - 1] == '\r')] = '\0';
        }
        const long long count = strtoll(digits, &rest, 10);
        if (digits[0] < '0' || digits[0] > '9' || *rest != '\0' || count > 1LL << 53) {
            return bif_fail(BIF_ERR_DATA, "%s:%lld: not a name, a tab and a whole number from 0 to 2^53", path, (long long)line);
        }
        add(concepts, (bif_span){at, (size_t)(tab - at)}, count, counts, known);
        at = stop != NULL ? stop + 1 : end;
    }
    return BIF_OK;
}

bif_status bif_concepts_read_counts(const bif_concepts *concepts, const char *path, double *counts, int64_t *lacking)
{
    bif_status st = BIF_OK;
    bif_scan *scan = NULL;
    const int64_t entries = bif_concepts_describe(concepts).entries;
    bool *known = bif_calloc((size_t)entries, sizeof *known);
    memset(counts, 0, (size_t)entries * sizeof *counts);
    BIF_TRY(bif_scan_open(path, &scan));
    BIF_TRY(is_json(path) ? read_json(concepts, scan, counts, known) : read_lines(concepts, path, bif_scan_whole(scan), counts, known));
    *lacking = 0;
    for (int64_t e = 0; e < entries; e++) {
        *lacking += !known[e];
    }
    if (*lacking == entries) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no count of any of the %lld entries", path, (long long)entries));
    }
done:
    bif_scan_close(scan);
    free(known);
    return st;
}

bif_status bif_concepts_write_counts(const bif_concepts *concepts, const char *path, const double *counts)
{
    bif_status st = BIF_OK;
    bif_writer *writer = NULL;
    json_t *object = NULL;
    const int64_t entries = bif_concepts_describe(concepts).entries;
    if (is_json(path)) {
        object = json_object();
        for (int64_t e = 0; e < entries; e++) {
            size_t size = 0;
            const char *name = bif_concepts_name(concepts, e, &size);
            json_object_setn_new(object, name, size, json_integer((json_int_t)counts[e]));
        }
        BIF_TRY(bif_json_save_file(path, object));
        goto done;
    }
    BIF_TRY(bif_writer_open(path, &writer));
    for (int64_t e = 0; e < entries; e++) {
        char end[32];
        size_t size = 0;
        const char *name = bif_concepts_name(concepts, e, &size);
        BIF_TRY(bif_writer_write(writer, name, size));
        BIF_TRY(bif_writer_write(writer, end, (size_t)snprintf(end, sizeof end, "\t%lld\n", (long long)counts[e])));
    }
    bif_writer *finished = writer;
    writer = NULL;
    BIF_TRY(bif_writer_commit(finished));
done:
    bif_writer_abandon(writer);
    json_decref(object);
    return st;
}
