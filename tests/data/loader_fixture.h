/* Small shards for the tests of the loader: pictures drawn from their number, conversations that name it. */
#pragma once
#include <criterion/criterion.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "data/loader.h"
#include "data/shard.h"

enum { FIX_SHARDS = 2, FIX_SIZE = 8, FIX_IMAGE_TOKENS = 4 };
static const int fix_count[FIX_SHARDS] = {23, 14};
enum { FIX_SAMPLES = 37 };

typedef struct {
    char dir[64];
    char *path[FIX_SHARDS];
    bif_tokenizer *tokenizer;
} fixture;

/* PNG of picture `number`; malloc'ed. */
static inline void *fix_png(int number, size_t *size)
{
    enum { W = 13, H = 10 };
    uint8_t rgb[H * W * 3];
    for (int i = 0; i < H * W * 3; i++) {
        rgb[i] = (uint8_t)(i * (number + 3) + number * 17);
    }
    png_image image = {.version = PNG_IMAGE_VERSION, .width = W, .height = H, .format = PNG_FORMAT_RGB};
    png_alloc_size_t bytes = 1 << 16;
    void *out = malloc(bytes);
    cr_assert(png_image_write_to_memory(&image, out, &bytes, 0, rgb, 0, NULL));
    *size = bytes;
    return out;
}

/* How many pictures sample n has: 1, sometimes 0 or 2. In `pairs` data always 1. */
static inline int fix_pictures(int n, bool pairs)
{
    return pairs ? 1 : n % 5 == 3 ? 0 : n % 7 == 6 ? 2 : 1;
}

static inline char *fix_text(int n, bool pairs, int bad_text)
{
    if (n == bad_text) {
        return bif_strdup(pairs ? "{\"caption\":\"  \"}" : "{\"conversations\":[]}");
    }
    if (pairs) {
        return bif_format("{\"caption\":\"a picture of number %d and %d\"}", n, n * n);
    }
    const char *pictures[] = {"", "<image>\\n", "<image><image>\\n"};
    return bif_format("{\"conversations\":[{\"from\":\"human\",\"value\":\"%swhich number?\"},"
                      "{\"from\":\"gpt\",\"value\":\"it is %d%s\"}]}",
                      pictures[fix_pictures(n, pairs)], n,
                      n % 3 == 0 ? ", which is a multiple of three, as everybody can see" : "");
}

/* bad_text: the sample whose text cannot be used (-1: none); bad_picture: the picture whose bytes change after the
 * shard is written. */
static inline fixture fix_make(bool pairs, int bad_text, int bad_picture)
{
    fixture f = {.dir = "/tmp/bif-loader-XXXXXX"};
    cr_assert(mkdtemp(f.dir) != NULL);
    int sample = 0, picture = 0;
    for (int s = 0; s < FIX_SHARDS; s++) {
        bif_shard_writer *writer = NULL;
        char name[32];
        snprintf(name, sizeof name, "part-%d.h5", s);
        f.path[s] = bif_path_join(f.dir, name);
        cr_assert(bif_shard_writer_open(f.path[s], &writer) == BIF_OK, "%s", bif_error_message());
        void *broken = NULL;
        size_t broken_size = 0;
        for (int i = 0; i < fix_count[s]; i++, sample++) {
            int64_t index[2] = {0};
            const int pictures = fix_pictures(sample, pairs);
            for (int k = 0; k < pictures; k++, picture++) {
                size_t size = 0;
                void *bytes = fix_png(picture, &size);
                cr_assert(bif_shard_add_image(writer, bytes, size, BIF_IMAGE_PNG, 13, 10, &index[k]) == BIF_OK);
                if (picture == bad_picture) {
                    broken = bytes;
                    broken_size = size;
                } else {
                    free(bytes);
                }
            }
            char *text = fix_text(sample, pairs, bad_text);
            cr_assert(bif_shard_add_sample(writer, text, strlen(text), "", "test", index, pictures) == BIF_OK, "%s",
                      bif_error_message());
            free(text);
        }
        cr_assert(bif_shard_writer_commit(writer) == BIF_OK, "%s", bif_error_message());
        if (broken != NULL) {
            char *file = NULL;
            size_t size = 0;
            cr_assert(bif_file_read(f.path[s], 1 << 24, &file, &size) == BIF_OK);
            char *found = memmem(file, size, broken, broken_size);
            cr_assert(found != NULL);
            found[broken_size / 2] ^= 0x10;
            cr_assert(bif_file_write(f.path[s], file, size) == BIF_OK);
            free(file);
            free(broken);
        }
    }
    const char *texts[] = {"which number? it is a multiple of three, as everybody can see", "a picture of number"};
    const size_t sizes[] = {strlen(texts[0]), strlen(texts[1])};
    const char *specials[] = {"<s>", "</s>", "<image>"};
    cr_assert(bif_tokenizer_train(texts, sizes, 2, 300, specials, 3, &f.tokenizer) == BIF_OK, "%s",
              bif_error_message());
    return f;
}

static inline void fix_free(fixture *f)
{
    for (int s = 0; s < FIX_SHARDS; s++) {
        free(f->path[s]);
    }
    cr_assert(bif_remove_tree(f->dir) == BIF_OK);
    bif_tokenizer_free(f->tokenizer);
}

static inline bif_loader_options fix_options(const fixture *f, bif_loader_mode mode)
{
    return (bif_loader_options){
        .shards = (const char *const *)f->path,
        .shard_count = FIX_SHARDS,
        .mode = mode,
        .chat = {.tokenizer = f->tokenizer,
                 .kind = BIF_TEMPLATE_VICUNA_V1,
                 .system = "",
                 .bos = bif_tokenizer_special(f->tokenizer, "<s>"),
                 .eos = bif_tokenizer_special(f->tokenizer, "</s>"),
                 .image = bif_tokenizer_special(f->tokenizer, "<image>"),
                 .image_tokens = FIX_IMAGE_TOKENS,
                 .max_tokens = 200},
        .preprocess = bif_preprocess_clip(FIX_SIZE),
        .seed = 5,
        .shuffle = true,
        .samples_per_step = 8,
        .max_tokens = 256,
        .rank = 0,
        .world = 1,
        .threads = 2,
        .prefetch = 2,
        .end_step = -1,
    };
}

static inline bif_loader *fix_open(const bif_loader_options *options)
{
    bif_loader *loader = NULL;
    cr_assert(bif_loader_open(options, &loader) == BIF_OK, "%s", bif_error_message());
    return loader;
}

static inline const bif_step *fix_next(bif_loader *loader)
{
    const bif_step *step = NULL;
    cr_assert(bif_loader_next(loader, &step) == BIF_OK, "%s", bif_error_message());
    return step;
}

/* All numbers of a step in one digest. */
static inline void fix_digest(const bif_step *step, char hex[33])
{
    bif_digest *d = bif_digest_new();
    bif_digest_update(d, &step->step, sizeof step->step);
    bif_digest_update(d, &step->global_tokens, sizeof step->global_tokens);
    bif_digest_update(d, &step->skipped, sizeof step->skipped);
    for (int64_t i = 0; i < step->batches; i++) {
        const bif_batch *b = step->batch[i];
        const size_t n = (size_t)b->tokens, r = (size_t)b->supervised, q = (size_t)b->sequences;
        bif_digest_update(d, b->ids, n * sizeof *b->ids);
        bif_digest_update(d, b->pos, n * sizeof *b->pos);
        bif_digest_update(d, b->labels, n * sizeof *b->labels);
        bif_digest_update(d, b->image_row, n * sizeof *b->image_row);
        bif_digest_update(d, b->rows, r * sizeof *b->rows);
        bif_digest_update(d, b->targets, r * sizeof *b->targets);
        bif_digest_update(d, b->cu_seqlens, (q + 1) * sizeof *b->cu_seqlens);
        bif_digest_update(d, b->sample, q * sizeof *b->sample);
        if (b->images > 0) {
            bif_digest_update(d, b->pixels, (size_t)b->images * 3 * FIX_SIZE * FIX_SIZE);
        }
    }
    bif_digest_finish(d, hex);
}
