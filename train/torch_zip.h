/* Files of torch.save (since torch 1.6): a zip of stored entries, PREFIX/data.pkl and one PREFIX/data/KEY a storage. Untrusted: the
 * directory, local headers, bounds and overlaps are checked before any byte is used, and nothing is ever inflated or run. */
#pragma once
#include "train/safetensors_parts.h"

typedef struct {
    char *name; /* without PREFIX/ */
    const unsigned char *data;
    size_t size;
} bif_zip_entry;

typedef struct {
    const char *path;
    const unsigned char *map;
    size_t size;
    bif_zip_entry *entries; /* sorted by name */
    size_t count;
} bif_zip;

/* The directory of a mapped file. BIF_ERR_DATA naming file and offset when it is no such zip. */
bif_status bif_zip_open(const char *path, const void *map, size_t size, bif_zip *out);
void bif_zip_close(bif_zip *zip);
const bif_zip_entry *bif_zip_find(const bif_zip *zip, const char *name); /* NULL if absent */

/* Tensors that data.pkl describes, appended to the set (train/torch_pickle.c). Of pickle only what torch.save writes for a dictionary of
 * tensors is understood; anything else is BIF_ERR_DATA naming opcode and offset. */
bif_status bif_torch_parse(bif_safetensors *set, size_t file);
