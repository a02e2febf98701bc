/* Hugging Face safetensors: 8-byte little-endian header length, JSON header, data. Files are untrusted: every rule of the format is checked
 * (header <= 100 MB, duplicate names, bounds, no holes, overlaps or trailing bytes, size = shape x dtype). */
#pragma once
#include "kernels/device.h"
#include "kernels/tensor.h"

typedef struct bif_st_delta bif_st_delta;
typedef struct {
    char *name;
    bif_dtype dtype; /* F32, BF16, F16, I64, I32, U16, U8; other dtypes are refused by name */
    int rank;
    int64_t dim[BIF_MAX_RANK];
    const void *data; /* into the mapping; may be unaligned, so copy before use as numbers */
    size_t bytes;
    int file; /* which file of a sharded folder */
    const bif_st_delta *delta; /* NULL: the numbers are those in the file. Else the functions below add it, and `data` alone is not the tensor */
} bif_st_entry;

/* A LoRA adapter on a weight [out, in]: scale * B A is added to the numbers as they are read, in f32; there is never a second copy of the
 * weight. Owned by the set (train/adapter.h puts it there). */
struct bif_st_delta {
    bif_st_entry a, b; /* [rank, in], [out, rank]; F32, BF16 or F16; names NULL */
    float scale;
    const bif_st_delta *next; /* of an adapter on an adapter; NULL = none */
};

typedef struct bif_safetensors bif_safetensors;

/* One file, or a folder with model.safetensors or model.safetensors.index.json, else pytorch_model.bin or its index, else mm_projector.bin, else
 * open_clip_model.safetensors or open_clip_pytorch_model.bin. A CLIP in OpenAI's names gets those of Hugging Face (train/open_clip.h).
 * Shard names must be base names; a tensor that the index puts into another file than it is in, or that two files hold, is refused by name.
 * Memory-mapped. Files of torch.save are read without running anything in them (train/torch_zip.h).
 * BIF_ERR_DATA: not such a file; BIF_ERR_IO: cannot be read. */
bif_status bif_safetensors_open(const char *path, bif_safetensors **out);
void bif_safetensors_close(bif_safetensors *st); /* NULL is allowed */
/* Takes over the tensors of another set whose names begin with old_prefix, under new_prefix instead, and closes it. Entries move: ask for
 * them anew. BIF_ERR_DATA when a name is there already. */
bif_status bif_safetensors_merge(bif_safetensors *set, bif_safetensors *from, const char *old_prefix, const char *new_prefix);
void bif_safetensors_drop(bif_safetensors *set, const char *prefix); /* forgets the tensors under a prefix */
int64_t bif_safetensors_count(const bif_safetensors *st);
const bif_st_entry *bif_safetensors_at(const bif_safetensors *st, int64_t index); /* by file, then by place in it */
const bif_st_entry *bif_safetensors_find(const bif_safetensors *st, const char *name); /* NULL if absent */
const char *bif_safetensors_path(const bif_safetensors *st, const bif_st_entry *entry);
/* Text of "__metadata__" of the first file, or NULL. */
const char *bif_safetensors_metadata(const bif_safetensors *st, const char *key);
/* Converts to f32 (and adds the delta) into a host buffer of numel elements (F32, BF16, F16); the second: only `count` elements from `first` on. */
bif_status bif_safetensors_read_f32(const bif_safetensors *st, const bif_st_entry *entry, float *out);
bif_status bif_safetensors_read_part_f32(const bif_safetensors *st, const bif_st_entry *entry, int64_t first, int64_t count, float *out);
/* The same of an entry that is known to be F32, BF16 or F16. */
void bif_entry_floats(const bif_st_entry *entry, int64_t first, int64_t count, float *out);
/* The same elements in the entry's own dtype, any: the file's bytes, or with a delta the sum rounded once (to nearest, ties to even). */
void bif_entry_bytes(const bif_st_entry *entry, int64_t first, int64_t count, void *out);

/* Gives back the memory pages that hold an entry's data in the mapping; they come again from the file when they are read again. */
void bif_safetensors_release(const bif_safetensors *st, const bif_st_entry *entry);

/* Writer: names and shapes, then the data in the same order. Atomic through base/file.h. metadata_pairs = key, value, ..., NULL; may be NULL.
 * digest (33 bytes) or NULL receives the XXH3-128 of the whole file, bytes (or NULL) its length. */
typedef struct {
    const char *name;
    bif_tensor tensor;
    bif_device *device; /* where tensor.data lives; NULL = host memory */
} bif_st_out;
bif_status bif_safetensors_write(const char *path, const bif_st_out *tensors, int64_t count, const char *const *metadata_pairs,
                                 char digest[33], uint64_t *bytes);
/* The weights of a folder from an open set, as bif_entry_bytes gives them, in files as transformers cuts them (train/safetensors_shards.c):
 * model.safetensors, or, where the data are more than shard_bytes, model-00001-of-0000N.safetensors, ... and model.safetensors.index.json. A
 * tensor is never cut: a larger one has a file of its own. Pages of the set are given back once they are written: memory does not fill with them. */
typedef struct {
    const char *name;
    const bif_st_entry *entry;
    bif_tensor shape; /* of the entry's dtype; data NULL. It may differ from the entry's in dimensions of 1, and has the rows behind it */
    const void *rows; /* row_bytes in host memory that follow the entry's data; NULL, 0 = none */
    size_t row_bytes;
} bif_st_copy;
#define BIF_SHARD_BYTES ((int64_t)5000000000) /* 5 GB */
bif_status bif_safetensors_copy(const char *folder, const bif_safetensors *set, const bif_st_copy *tensors, int64_t count,
                                const char *const *metadata_pairs, int64_t shard_bytes);
