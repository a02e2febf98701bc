/* Weights in several files, cut as transformers cuts them: in the order of the tensors, a new file where the next would make it too large.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "train/safetensors_parts.h"

/* Where the file that begins with tensor `first` ends. */
static int64_t shard_end(const bif_st_copy *tensors, int64_t count, int64_t first, int64_t limit)
{
    int64_t end = first, bytes = 0;
    while (end < count && (end == first || bytes + (int64_t)bif_bytes(&tensors[end].shape) <= limit)) {
        bytes += (int64_t)bif_bytes(&tensors[end++].shape);
    }
    return end;
}

static bif_status write_index(const char *folder, json_t *map, const bif_st_copy *tensors, int64_t count)
{
    int64_t bytes = 0, elements = 0;
    for (int64_t i = 0; i < count; i++) {
        bytes += (int64_t)bif_bytes(&tensors[i].shape);
        elements += bif_numel(&tensors[i].shape);
    }
    json_t *root = json_pack("{s:{s:I, s:I}, s:O}", "metadata", "total_parameters", (json_int_t)elements, "total_size", (json_int_t)bytes,
                             "weight_map", map);
    char *path = bif_path_join(folder, "model.safetensors.index.json");
    const bif_status st = bif_json_save_file(path, root);
    free(path);
    json_decref(root);
    return st;
}

bif_status bif_safetensors_copy(const char *folder, const bif_safetensors *set, const bif_st_copy *tensors, int64_t count,
                                const char *const *metadata_pairs, int64_t shard_bytes)
{
    BIF_BUG_IF(shard_bytes < 1, "files of %" PRId64 " bytes", shard_bytes);
    bif_status st = BIF_OK;
    json_t *map = json_object();
    bif_st_source *list = bif_calloc((size_t)count + 1, sizeof(*list));
    int64_t shards = 0;
    for (int64_t i = 0; i < count; i++) {
        const bif_st_copy *t = &tensors[i];
        list[i] =
            (bif_st_source){.name = t->name, .tensor = t->shape, .set = set, .entry = t->entry, .rows = t->rows, .row_bytes = t->row_bytes};
    }
    for (int64_t first = 0; first < count; first = shard_end(tensors, count, first, shard_bytes)) {
        shards++;
    }
    for (int64_t first = 0, end, k = 1; first < count || k == 1; first = end, k++) {
        end = shard_end(tensors, count, first, shard_bytes);
        char *name =
            shards <= 1 ? bif_strdup("model.safetensors") : bif_format("model-%05" PRId64 "-of-%05" PRId64 ".safetensors", k, shards);
        char *path = bif_path_join(folder, name);
        for (int64_t i = first; i < end; i++) {
            json_object_set_new(map, tensors[i].name, json_string(name));
        }
        st = bif_st_write(path, list + first, end - first, metadata_pairs, NULL, NULL);
        free(path);
        free(name);
        BIF_TRY(st);
    }
    BIF_TRY(shards <= 1 ? BIF_OK : write_index(folder, map, tensors, count));
done:
    json_decref(map);
    free(list);
    return st;
}
