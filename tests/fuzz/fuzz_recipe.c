/* libFuzzer: any bytes as a recipe, and behind a zero byte as a --set. */
#include "fuzz.h"
#include "train/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bif_config config;
    const fuzz_part recipe = fuzz_next(&data, &size), setting = fuzz_next(&data, &size);
    char *text = malloc(setting.size + 1);
    memcpy(text, setting.data, setting.size);
    text[setting.size] = '\0';
    const char *sets[] = {text};
    if (bif_config_load(fuzz_file(recipe.data, recipe.size), sets, setting.size > 0, &config) == BIF_OK) {
        bif_config_free(&config);
    } else if (setting.size == 0) { /* else it may be about --set */
        fuzz_named("/proc/self/fd");
    }
    free(text);
    return 0;
}
