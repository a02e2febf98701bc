/* What a set of weights is made of, for safetensors*.c and the readers of other formats that fill one. */
#pragma once
#include <jansson.h>

#include "train/safetensors.h"

#define BIF_ST_NAME_CAP ((size_t)1024)
#define BIF_ST_TENSOR_CAP ((size_t)1000000)

typedef struct {
    char *path;
    void *map;
    size_t size;
} bif_st_file;

struct bif_safetensors {
    bif_st_file *files;
    size_t file_count;
    bif_st_entry *entries;
    size_t count;
    const bif_st_entry **by_name; /* sorted */
    void **owned;                 /* memory that entries point to besides the files */
    size_t owned_count;
    json_t *metadata;             /* of the first file; owned; may be NULL */
};

/* The header of the mapped file `file` of the set: appends its tensors (train/safetensors_header.c). */
bif_status bif_st_parse(bif_safetensors *set, size_t file);
/* After names of the set were changed. BIF_ERR_DATA when two tensors have one name. */
bif_status bif_st_lookup(bif_safetensors *set);
/* One file (train/safetensors_write.c). What is written: of a bif_st_out, or (entry != NULL) of a bif_st_copy. */
typedef struct {
    const char *name;
    bif_tensor tensor;
    bif_device *device;
    const bif_safetensors *set;
    const bif_st_entry *entry;
    const void *rows;
    size_t row_bytes;
} bif_st_source;
bif_status bif_st_write(const char *path, const bif_st_source *tensors, int64_t count, const char *const *metadata_pairs, char digest[33],
                        uint64_t *bytes);
/* A tensor's name in messages and terminals: BIF_ERR_DATA, without the file, when it is too long or holds a control character. */
bif_status bif_st_check_name(const char *name);
/* "F32", "BF16", ...; a dtype the format has no name for is a bug. */
const char *bif_st_dtype_text(bif_dtype dtype);
