/* libFuzzer: the note of a column (JSON), a zero byte and the numbers or texts beside it, as files in the folder of a shard of five images and three samples. Shard and
 * digest of the note are put right, so that what is behind them is reached; the same bytes as a .npy alone. */
#include <jansson.h>

#include "data/column.h"
#include "data/npy.h"
#include "fuzz.h"

static bif_shard *make_shard(void)
{
    bif_shard_writer *writer = NULL;
    bif_shard *shard = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/s.h5", fuzz_folder());
    BIF_BUG_IF(bif_shard_writer_open(path, &writer) != BIF_OK, "%s", bif_error_message());
    for (int64_t i = 0; i < 5; i++) {
        int64_t index = 0;
        BIF_BUG_IF(bif_shard_add_image(writer, &i, sizeof i, BIF_IMAGE_PNG, 1, 1, &index) != BIF_OK, "%s", bif_error_message());
    }
    for (int64_t i = 0; i < 3; i++) {
        BIF_BUG_IF(bif_shard_add_sample(writer, "{\"caption\":\"x\"}", 15, "id", "fuzz", &i, 1) != BIF_OK, "%s", bif_error_message());
    }
    BIF_BUG_IF(bif_shard_writer_commit(writer) != BIF_OK || bif_shard_open(path, &shard) != BIF_OK, "%s", bif_error_message());
    snprintf(path, sizeof path, "%s/s.columns", fuzz_folder());
    BIF_BUG_IF(bif_make_dirs(path) != BIF_OK, "%s", bif_error_message());
    return shard;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bif_shard *shard;
    bif_column *column = NULL;
    bif_npy npy;
    char hex[33];
    shard = shard != NULL ? shard : make_shard();
    if (bif_npy_read("alone.npy", data, size, &npy) == BIF_OK) {
        BIF_BUG_IF(npy.at > size || (uint64_t)npy.count > (size - npy.at) / npy.item, "more elements than bytes");
    } else {
        fuzz_named("alone.npy");
    }
    const fuzz_part part = fuzz_next(&data, &size);
    json_t *note = json_loadb(part.data, part.size, 0, NULL);
    if (!json_is_object(note)) {
        json_decref(note);
        return 0;
    }
    bif_digest_bytes(data, size, hex);
    json_object_set_new(note, "xxh3", json_string(hex));
    json_object_set_new(note, "shard", json_string(bif_shard_payload_digest(shard)));
    char *text = json_dumps(note, JSON_COMPACT);
    fuzz_put("s.columns/c.json", text, strlen(text));
    fuzz_put("s.columns/c.npy", data, size);
    fuzz_put("s.columns/c.jsonl", data, size);
    free(text);
    json_decref(note);
    if (bif_column_open(shard, "c", &column) != BIF_OK) {
        fuzz_named("s.columns/c");
        return 0;
    }
    BIF_BUG_IF(column == NULL, "its digest is right, and it counts as missing");
    const bif_column_info *info = bif_column_describe(column);
    BIF_BUG_IF(info->rows != (info->of == BIF_COLUMN_OF_IMAGE ? 5 : 3), "%lld rows", (long long)info->rows);
    size_t sum = 0;
    if (info->type == BIF_COLUMN_TEXT) {
        for (int64_t i = 0; i < info->rows; i++) {
            const char *row = bif_column_text(column, i);
            sum += row != NULL ? strlen(row) : 0;
        }
        BIF_BUG_IF(sum > size, "texts longer than their file");
    } else {
        const unsigned char *byte = bif_column_data(column);
        const size_t bytes = (size_t)(info->rows * info->width) * bif_column_type_size(info->type);
        for (size_t i = 0; i < bytes; i++) {
            sum += byte[i];
        }
        BIF_BUG_IF(bytes > size, "more numbers than bytes, of sum %zu", sum);
    }
    bif_column_close(column);
    return 0;
}
