/* NumPy's .npy files (formats 1.0 to 3.0, https://numpy.org/neps/nep-0001-npy-format.html): plain arrays in C order, little endian. */
#pragma once
#include "base/status.h"

#define BIF_NPY_HEAD 192 /* bytes that bif_npy_head writes at most */

typedef struct {
    char type[64];    /* as in the header, without spaces or quotes around: <u8, |u1, <f2; of records [('f0','<u8'),('f1','<u8')] */
    size_t item;      /* bytes of an element */
    int dims;         /* 0 to 4 */
    int64_t shape[4]; /* 1 beyond dims */
    int64_t count;    /* elements */
    size_t at;        /* where the elements begin in the file */
} bif_npy;

/* The header of a whole file in memory. BIF_ERR_DATA (named by `path`): not such a file, Fortran order, big endian, objects, or a length that the
 * header does not promise. */
bif_status bif_npy_read(const char *path, const void *data, size_t size, bif_npy *out);
/* A header of format 1.0 for `type` as above; returns its length, a multiple of 64. */
size_t bif_npy_head(const char *type, int dims, const int64_t *shape, char out[BIF_NPY_HEAD]);
