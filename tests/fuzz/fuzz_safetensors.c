/* libFuzzer: any bytes as model.safetensors. The mutator also changes the header alone and keeps its length right. */
#include "fuzz_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_use(fuzz_file(data, size));
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed)
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
