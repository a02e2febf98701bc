/* libFuzzer: any bytes as config.json of every family. */
#include "fuzz.h"
#include "train/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bif_model_config config = {0};
    fuzz_put("config.json", data, size);
    if (bif_hf_config_read(fuzz_folder(), &config) != BIF_OK) {
        fuzz_named("config.json");
    }
    return 0;
}
