/* libFuzzer: any bytes as model.safetensors.index.json, beside two shards a.safetensors and b.safetensors; behind a zero byte those of
 * a.safetensors. */
#include "fuzz_weights.h"

static void put_shard(const char *name, const char *tensor)
{
    char bytes[256] = {0};
    const int length = snprintf(bytes + 8, sizeof bytes - 8, "{\"%s\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", tensor);
    bytes[0] = (char)length;
    fuzz_put(name, bytes, (size_t)length + 8 + 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool once;
    if (!once) {
        put_shard("b.safetensors", "y");
        once = true;
    }
    const fuzz_part index = fuzz_next(&data, &size);
    if (size > 0) {
        fuzz_put("a.safetensors", data, size);
    } else {
        put_shard("a.safetensors", "x");
    }
    fuzz_put("model.safetensors.index.json", index.data, index.size);
    fuzz_use(fuzz_folder());
    return 0;
}
