#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/loader_parts.h"

/* Keeps a copy if there is room. Two workers may decode one picture at the same time: the second copy is dropped. */
static void keep(bif_loader *loader, int64_t image, const uint8_t *rgb, size_t size)
{
    if (atomic_fetch_add_explicit(&loader->cached, (int64_t)size, memory_order_relaxed) + (int64_t)size >
        loader->options.cache_bytes) {
        atomic_fetch_sub_explicit(&loader->cached, (int64_t)size, memory_order_relaxed);
        return;
    }
    uint8_t *copy = malloc(size); /* no memory, no copy: the cache is never needed */
    uint8_t *nothing = NULL;
    if (copy != NULL) {
        memcpy(copy, rgb, size);
        if (atomic_compare_exchange_strong_explicit(&loader->pixels[image], &nothing, copy, memory_order_release,
                                                    memory_order_relaxed)) {
            return;
        }
        free(copy);
    }
    atomic_fetch_sub_explicit(&loader->cached, (int64_t)size, memory_order_relaxed);
}

static bif_status decode(bif_loader_worker *worker, const bif_shard *shard, int64_t index, uint8_t *out)
{
    bif_status st = BIF_OK;
    const bif_loader *loader = worker->loader;
    bif_image image = {0};
    bif_shard_image record;
    char what[512];
    snprintf(what, sizeof what, "image %" PRId64 " of %s", index, bif_shard_path(shard));
    BIF_TRY(bif_shard_get_image(shard, index, &record));
    if (record.size > worker->capacity) {
        free(worker->bytes);
        worker->capacity = (size_t)record.size + (size_t)record.size / 2;
        worker->bytes = bif_malloc(worker->capacity);
    }
    BIF_TRY(bif_shard_read_image(shard, index, worker->bytes, worker->capacity));
    BIF_TRY(bif_image_decode(what, worker->bytes, (size_t)record.size, &loader->options.image_limits, &image));
    BIF_TRY(bif_preprocess_run(&loader->options.preprocess, &image, out));
done:
    bif_image_free(&image);
    return st;
}

bif_status bif_loader_pictures(bif_loader_worker *worker, uint64_t sample, int64_t images, uint8_t *out)
{
    bif_status st = BIF_OK;
    bif_loader *loader = worker->loader;
    const size_t size = (size_t)(3 * loader->options.preprocess.size * loader->options.preprocess.size);
    const bif_shard *shard = NULL;
    int64_t first_image = 0;
    bif_shard_sample record;
    BIF_TRY(bif_loader_sample(loader, sample, &shard, &first_image, &record));
    for (int64_t i = 0; i < images; i++) {
        const int64_t index = (int64_t)record.images[i];
        uint8_t *to = out + (size_t)i * size;
        const uint8_t *kept = NULL;
        if (loader->pixels != NULL) {
            kept = atomic_load_explicit(&loader->pixels[first_image + index], memory_order_acquire);
        }
        if (kept != NULL) {
            memcpy(to, kept, size);
            continue;
        }
        BIF_TRY(decode(worker, shard, index, to));
        if (loader->pixels != NULL) {
            keep(loader, first_image + index, to, size);
        }
    }
done:
    if (st != BIF_OK) {
        bif_preprocess_blank(&loader->options.preprocess, images, out);
    }
    return st;
}
