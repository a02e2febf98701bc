/* libFuzzer: any bytes as open_clip_config.json. */
#include "fuzz.h"
#include "train/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bif_model_config config = {0};
    fuzz_put("open_clip_config.json", data, size);
    if (bif_hf_config_read(fuzz_folder(), &config) != BIF_OK) {
        fuzz_named("open_clip_config.json");
    }
    return 0;
}
