/* libFuzzer: any bytes as a picture (JPEG, PNG, WebP; EXIF and XMP), decoded, resized as an encoder wants it, and hashed. */
#include "data/hash_run.h"
#include "data/image.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bif_image_limits limits = {.max_pixels = 1 << 16, .max_side = 1024};
    static uint8_t pixels[3 * 16 * 16];
    bif_image image = {0};
    if (bif_image_decode("fuzz", (const char *)data, size, &limits, &image) == BIF_OK) {
        const bif_preprocess preprocess = bif_preprocess_clip(16);
        bif_preprocess_run(&preprocess, &image, pixels);
        bif_image_free(&image);
        bif_hashes hashes;
        BIF_BUG_IF(bif_hash_picture("fuzz", data, size, &limits, BIF_HASH_OF_IMAGES, NULL, &hashes) != BIF_OK, "decoded once, and not again");
    } else {
        fuzz_named("fuzz");
    }
    return 0;
}
