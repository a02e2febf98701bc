#include "data/uids.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/npy.h"

#define FILE_CAP ((size_t)64 << 30)

static const char type[] = "[('f0', '<u8'), ('f1', '<u8')]"; /* as numpy spells "u8,u8" */

int bif_uid_compare(const void *a, const void *b)
{
    const bif_uid *x = a, *y = b;
    return x->high != y->high ? (x->high < y->high ? -1 : 1) : (x->low > y->low) - (x->low < y->low);
}

/* A record of two u8, whatever its fields are called. */
static bool is_pair(const bif_npy *npy)
{
    const char *first = strstr(npy->type, "<u8"), *second = first != NULL ? strstr(first + 3, "<u8") : NULL;
    if (npy->type[0] == '[') {
        return npy->item == 16 && npy->dims == 1 && second != NULL;
    }
    return strcmp(npy->type, "<u8") == 0 && npy->dims == 2 && npy->shape[1] == 2;
}

bif_status bif_uids_read(const char *path, bif_uid **out, int64_t *count)
{
    bif_status st = BIF_OK;
    char *data = NULL;
    size_t size = 0, at = 0;
    *out = NULL;
    *count = 0;
    BIF_TRY(bif_file_read(path, FILE_CAP, &data, &size));
    if (size >= 6 && memcmp(data, "\x93NUMPY", 6) == 0) {
        bif_npy npy;
        BIF_TRY(bif_npy_read(path, data, size, &npy));
        if (!is_pair(&npy)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: its elements are %s; a list of uids has the type u8,u8 (the upper and the lower 64 bits)", path, npy.type));
        }
        at = npy.at;
    } else if (size % sizeof(bif_uid) != 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: neither a .npy file nor a plain array of uids, 16 bytes each (it has %zu bytes)", path, size));
    }
    *count = (int64_t)((size - at) / sizeof(bif_uid));
    if (*count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a list without uids", path));
    }
    *out = bif_malloc((size_t)*count * sizeof **out);
    memcpy(*out, data + at, (size_t)*count * sizeof **out);
    bool sorted = true;
    for (int64_t i = 1; i < *count && sorted; i++) {
        sorted = bif_uid_compare(&(*out)[i - 1], &(*out)[i]) <= 0;
    }
    if (!sorted) {
        qsort(*out, (size_t)*count, sizeof **out, bif_uid_compare);
    }
done:
    free(data);
    if (st != BIF_OK) {
        *count = 0;
    }
    return st;
}

bif_status bif_uids_write(const char *path, bif_uid *uids, int64_t count)
{
    bif_status st = BIF_OK;
    bif_writer *writer = NULL;
    char head[BIF_NPY_HEAD];
    if (count > 0) {
        qsort(uids, (size_t)count, sizeof *uids, bif_uid_compare);
    }
    BIF_TRY(bif_writer_open(path, &writer));
    BIF_TRY(bif_writer_write(writer, head, bif_npy_head(type, 1, &count, head)));
    BIF_TRY(bif_writer_write(writer, uids, (size_t)count * sizeof *uids));
    bif_writer *finished = writer;
    writer = NULL;
    BIF_TRY(bif_writer_commit(finished));
done:
    bif_writer_abandon(writer);
    return st;
}
