/* What every target that opens weights does with what could be opened. */
#pragma once
#include "fuzz.h"
#include "train/safetensors.h"

static inline void fuzz_read(const bif_safetensors *set)
{
    static float values[4096];
    for (int64_t i = 0; i < bif_safetensors_count(set); i++) {
        const bif_st_entry *entry = bif_safetensors_at(set, i);
        const int64_t count = (int64_t)(entry->bytes / bif_dtype_size(entry->dtype));
        BIF_BUG_IF(bif_safetensors_find(set, entry->name) != entry, "tensor %s is not found by its name", entry->name);
        const bool read = bif_safetensors_read_part_f32(set, entry, 0, count < 2048 ? count : 2048, values) == BIF_OK;
        if (read && count > 2048) { /* and the last of it */
            BIF_BUG_IF(bif_safetensors_read_part_f32(set, entry, count - 2048, 2048, values) != BIF_OK, "the end of %s", entry->name);
        }
    }
    bif_safetensors_metadata(set, "format");
}

static inline void fuzz_use(const char *path)
{
    bif_safetensors *set = NULL;
    if (bif_safetensors_open(path, &set) != BIF_OK) {
        fuzz_named(path);
        return;
    }
    fuzz_read(set);
    bif_safetensors_close(set);
}

/* Changes a safetensors file; three times of four its header alone, whose length stays right. */
static inline size_t fuzz_mutate_header(uint8_t *data, size_t size, size_t most, unsigned int seed)
{
    uint64_t length = 0;
    for (int i = 7; i >= 0 && size >= 8; i--) {
        length = length << 8 | data[i];
    }
    if (size < 8 || length > size - 8 || seed % 4 == 0) {
        return LLVMFuzzerMutate(data, size, most);
    }
    const size_t rest = size - 8 - (size_t)length, room = most - 8 - rest;
    uint8_t *header = malloc(room + 1), *section = malloc(rest + 1);
    memcpy(header, data + 8, (size_t)length);
    memcpy(section, data + 8 + length, rest);
    const size_t now = LLVMFuzzerMutate(header, (size_t)length, room);
    for (int i = 0; i < 8; i++) {
        data[i] = (uint8_t)((uint64_t)now >> 8 * i);
    }
    memcpy(data + 8, header, now);
    memcpy(data + 8 + now, section, rest);
    free(header);
    free(section);
    return 8 + now + rest;
}
