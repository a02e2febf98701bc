/* libFuzzer: any bytes as an order from a file, text or .npy. */
#include "data/order.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t *order = NULL;
    int64_t count = 0;
    if (bif_order_read(fuzz_file(data, size), 1000, &order, &count) == BIF_OK) {
        for (int64_t i = 0; i < count; i++) {
            BIF_BUG_IF(order[i] >= 1000, "entry %lld is %u", (long long)i, order[i]);
        }
    } else {
        fuzz_named("/proc/self/fd");
    }
    free(order);
    return 0;
}
