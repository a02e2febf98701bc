/* libFuzzer: adapter_config.json, a zero byte, adapter_model.safetensors; upon the base of golden/peft (BIFOCAL_TESTS names the folder of the
 * tests). */
#include "fuzz_weights.h"
#include "train/adapter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bif_adapter adapter = {0};
    bif_safetensors *base = NULL;
    const char *tests = getenv("BIFOCAL_TESTS");
    const fuzz_part config = fuzz_next(&data, &size);
    fuzz_put("adapter_config.json", config.data, config.size);
    fuzz_put("adapter_model.safetensors", data, size);
    if (bif_adapter_read(fuzz_folder(), &adapter) == BIF_OK) {
        char *path = bif_path_join(tests != NULL ? tests : "tests", "golden/peft/base");
        BIF_BUG_IF(bif_safetensors_open(path, &base) != BIF_OK, "%s", bif_error_message());
        if (bif_adapter_apply(fuzz_folder(), base) == BIF_OK) {
            fuzz_read(base);
        } else {
            fuzz_named("adapter_model.safetensors");
        }
        free(path);
    } else {
        fuzz_named("adapter_config.json");
    }
    bif_safetensors_close(base);
    bif_adapter_free(&adapter);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    const size_t config = zero != NULL ? (size_t)(zero - data) + 1 : size;
    return seed % 3 == 0 || config >= size ? LLVMFuzzerMutate(data, size, most)
                                           : config + fuzz_mutate_header(data + config, size - config, most - config, seed / 3);
}
