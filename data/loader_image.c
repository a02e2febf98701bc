#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/loader_parts.h"

/* Keeps a copy of the head and the pixels if there is room. Two workers may decode one picture at the same time: the second copy is
 * dropped. */
static void keep(bif_loader *loader, int64_t image, const void *head, size_t before, const uint8_t *rgb, size_t pixels)
{
    const size_t size = before + pixels;
    if (atomic_fetch_add_explicit(&loader->cached, (int64_t)size, memory_order_relaxed) + (int64_t)size >
        loader->options.cache_bytes) {
        atomic_fetch_sub_explicit(&loader->cached, (int64_t)size, memory_order_relaxed);
        return;
    }
    uint8_t *copy = malloc(size); /* no memory, no copy: the cache is never needed */
    uint8_t *nothing = NULL;
    if (copy != NULL) {
        if (before > 0) {
            memcpy(copy, head, before);
        }
        memcpy(copy + before, rgb, pixels);
        if (atomic_compare_exchange_strong_explicit(&loader->pixels[image], &nothing, copy, memory_order_release,
                                                    memory_order_relaxed)) {
            return;
        }
        free(copy);
    }
    atomic_fetch_sub_explicit(&loader->cached, (int64_t)size, memory_order_relaxed);
}

/* Reads and decodes. */
static bif_status decode(bif_loader_worker *worker, const bif_shard *shard, int64_t index, bif_image *image)
{
    bif_status st = BIF_OK;
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
    BIF_TRY(bif_image_decode(what, worker->bytes, (size_t)record.size, &worker->loader->options.image_limits, image));
done:
    return st;
}

static const void *find(const bif_loader *loader, int64_t number)
{
    return loader->pixels != NULL ? atomic_load_explicit(&loader->pixels[number], memory_order_acquire) : NULL;
}

/* Picture `index` of a shard, `number` of all, prepared as for inference: the result is kept. */
static bif_status fitted(bif_loader_worker *worker, const bif_shard *shard, int64_t index, int64_t number, uint8_t *out)
{
    bif_status st = BIF_OK;
    bif_loader *loader = worker->loader;
    const bif_preprocess *preprocess = &loader->options.preprocess;
    const size_t size = (size_t)(3 * preprocess->size * preprocess->size);
    const void *kept = find(loader, number);
    bif_image image = {0};
    if (kept != NULL) {
        memcpy(out, kept, size);
        return BIF_OK;
    }
    BIF_TRY(decode(worker, shard, index, &image));
    BIF_TRY(bif_preprocess_run(preprocess, &image, out));
    if (loader->pixels != NULL) {
        keep(loader, number, NULL, 0, out, size);
    }
done:
    bif_image_free(&image);
    return st;
}

/* A random view, drawn by `draw`: the decoded picture is kept. */
static bif_status augmented(bif_loader_worker *worker, const bif_shard *shard, int64_t index, int64_t number, uint64_t draw, uint8_t *out)
{
    bif_status st = BIF_OK;
    bif_loader *loader = worker->loader;
    const bif_loader_options *o = &loader->options;
    const bif_kept_picture *kept = find(loader, number);
    bif_image image = {0};
    if (kept != NULL) {
        const bif_image view = {.rgb = (uint8_t *)kept->rgb, .width = kept->width, .height = kept->height};
        return bif_augment_run(&o->augment, o->seed, draw, &o->preprocess, &view, out);
    }
    BIF_TRY(decode(worker, shard, index, &image));
    BIF_TRY(bif_augment_run(&o->augment, o->seed, draw, &o->preprocess, &image, out));
    if (loader->pixels != NULL) {
        const bif_kept_picture head = {.width = image.width, .height = image.height};
        keep(loader, number, &head, sizeof head, image.rgb, (size_t)(3 * image.width * image.height));
    }
done:
    bif_image_free(&image);
    return st;
}

bif_status bif_loader_pictures(bif_loader_worker *worker, uint64_t epoch, uint64_t sample, int64_t images, uint8_t *out)
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
        if (bif_augments(&loader->options.augment)) {
            BIF_TRY(augmented(worker, shard, index, first_image + index, epoch * (uint64_t)loader->samples + sample, to));
        } else {
            BIF_TRY(fitted(worker, shard, index, first_image + index, to));
        }
    }
done:
    if (st != BIF_OK) {
        bif_preprocess_blank(&loader->options.preprocess, images, out);
    }
    return st;
}
