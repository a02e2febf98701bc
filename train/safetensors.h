/* Hugging Face safetensors: 8-byte little-endian header length, JSON header, data. Files are untrusted: every rule of the format is checked
 * (header <= 100 MB, duplicate names, bounds, no holes, overlaps or trailing bytes, size = shape x dtype). */
#pragma once
#include "kernels/tensor.h"

typedef struct {
    char *name;
    bif_dtype dtype; /* F32, BF16, F16, I64, I32, U8; other dtypes are refused by name */
    int rank;
    int64_t dim[BIF_MAX_RANK];
    const void *data; /* into the mapping */
    size_t bytes;
    int file; /* which file of a sharded folder */
} bif_st_entry;

typedef struct bif_safetensors bif_safetensors;

/* One file, or a folder with model.safetensors or model.safetensors.index.json (shard names must be base names). Memory-mapped. */
bif_status bif_safetensors_open(const char *path, bif_safetensors **out);
void bif_safetensors_close(bif_safetensors *st); /* NULL is allowed */
int64_t bif_safetensors_count(const bif_safetensors *st);
const bif_st_entry *bif_safetensors_at(const bif_safetensors *st, int64_t index);
const bif_st_entry *bif_safetensors_find(const bif_safetensors *st, const char *name); /* NULL if absent */
const char *bif_safetensors_path(const bif_safetensors *st, const bif_st_entry *entry);
/* Converts to f32 into a host buffer of numel elements (F32, BF16, F16). */
bif_status bif_safetensors_read_f32(const bif_safetensors *st, const bif_st_entry *entry, float *out);

/* Streaming writer: all names and shapes first, then the data in the same order. Atomic through base/file.h. Keys "metadata" may be NULL.
 * digest (33 bytes) or NULL receives the XXH3-128 of the whole file. */
typedef struct {
    const char *name;
    bif_tensor tensor; /* host memory */
} bif_st_out;
bif_status bif_safetensors_write(const char *path, const bif_st_out *tensors, int64_t count, const char *const *metadata_pairs,
                                 char digest[33]);
