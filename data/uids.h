/* Lists of 128-bit uids as DataComp exchanges them: a .npy array of one dimension whose elements are two unsigned 64-bit numbers, the upper and the
 * lower half (numpy's dtype "u8,u8"), sorted; a uid that stands there k times is wanted k times. */
#pragma once
#include "base/status.h"

typedef struct {
    uint64_t high, low;
} bif_uid;

int bif_uid_compare(const void *a, const void *b); /* for qsort and bsearch over bif_uid */

/* *out [*count] is malloc'ed and sorted, also where the file was not. Taken are .npy files of records of two u8, or of shape [n, 2] and type u8, and
 * files without a header (numpy.tofile), whose size is a multiple of 16. BIF_ERR_DATA: another kind of file, or an empty list. */
bif_status bif_uids_read(const char *path, bif_uid **out, int64_t *count);
/* Sorts, and writes the very bytes of numpy.save. */
bif_status bif_uids_write(const char *path, bif_uid *uids, int64_t count);
