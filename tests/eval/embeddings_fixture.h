/* Shards with a column of embeddings, for tests. */
#pragma once
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/half.h"
#include "base/rng.h"
#include "data/pool.h"

static inline void ok(bif_status st)
{
    cr_assert_eq(st, BIF_OK, "%s", bif_error_message());
}

/* Scratch folder, the current one from then on. */
static inline void enter_scratch(void)
{
    char *folder = strdup("/tmp/bifocal-embeddings-XXXXXX");
    cr_assert(mkdtemp(folder) != NULL && chdir(folder) == 0);
    free(folder);
}

/* Writes pool/s-K.h5 with rows [K * each, ...) of `rows` as clip.image, f16 as given; picture i of all has the bytes "picture i" (so that
 * ids differ), and each is one sample's. */
static inline void make_pool(const uint16_t *rows, int64_t count, int64_t width, int64_t each, bif_pool *pool)
{
    const char *paths[1] = {"pool"};
    ok(bif_make_dirs("pool"));
    for (int64_t at = 0; at < count; at += each) {
        char path[64], text[64];
        bif_shard_writer *writer = NULL;
        bif_shard *shard = NULL;
        const int64_t end = at + each < count ? at + each : count;
        snprintf(path, sizeof path, "pool/s-%lld.h5", (long long)(at / each));
        ok(bif_shard_writer_open(path, &writer));
        for (int64_t i = at; i < end; i++) {
            int64_t image = 0;
            const int n = snprintf(text, sizeof text, "picture %lld", (long long)i);
            ok(bif_shard_add_image(writer, text, (size_t)n, BIF_IMAGE_PNG, 1, 1, &image));
            const int m = snprintf(text, sizeof text, "{\"caption\":\"%lld\"}", (long long)i);
            ok(bif_shard_add_sample(writer, text, (size_t)m, "", "test", &image, 1));
        }
        ok(bif_shard_writer_commit(writer));
        ok(bif_shard_open(path, &shard));
        const bif_column_info info = {.name = "clip.image", .method = "by hand", .of = BIF_COLUMN_OF_IMAGE, .type = BIF_COLUMN_F16,
                                      .rows = end - at, .width = width};
        ok(bif_column_write(shard, &info, rows + at * width));
        bif_shard_close(shard);
    }
    ok(bif_pool_open(paths, 1, pool));
}

/* Rows around `centres` random directions, of length 1: row i around centre i % centres (every fifth centre has ten times fewer: those rows
 * go to the one before), with noise of this length. */
static inline uint16_t *make_rows(int64_t count, int64_t width, int64_t centres, double noise)
{
    uint16_t *rows = calloc((size_t)(count * width), sizeof *rows);
    float *x = calloc((size_t)width, sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        int64_t c = i % centres;
        c -= c % 5 == 4 && i / centres % 10 != 0;
        double square = 0.0;
        for (int64_t k = 0; k < width; k++) {
            x[k] = bif_rng_normal(1, BIF_RNG_TEST, (uint64_t)c, (uint32_t)k) +
                   (float)noise * bif_rng_normal(2, BIF_RNG_TEST, (uint64_t)i, (uint32_t)k);
            square += (double)x[k] * (double)x[k];
        }
        for (int64_t k = 0; k < width; k++) {
            rows[i * width + k] = bif_to_f16((float)((double)x[k] / sqrt(square)));
        }
    }
    free(x);
    return rows;
}
