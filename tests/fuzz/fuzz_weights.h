/* What every target that opens weights does with what could be opened. */
#pragma once
#include "fuzz.h"
#include "train/safetensors.h"

static inline void fuzz_use(const char *path)
{
    bif_safetensors *set = NULL;
    static float values[4096];
    if (bif_safetensors_open(path, &set) != BIF_OK) {
        BIF_BUG_IF(bif_error_message()[0] == '\0', "a refusal without a message");
        return;
    }
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
    bif_safetensors_close(set);
}
