/* libFuzzer: any bytes as model.safetensors. The mutator also changes the header alone and keeps its length right. */
#include "fuzz_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_use(fuzz_file(data, size));
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed)
{
    return fuzz_mutate_header(data, size, most, seed);
}
