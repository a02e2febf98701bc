/* A small shard for the tests; its content equals that of tests/golden/make_shard.py. */
#pragma once
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "data/shard.h"

#define IMAGES 5
#define IMAGE_CAP 32768

static char shard_root[] = "/tmp/bif-shard-XXXXXX";

static void shard_setup(void)
{
    cr_assert_not_null(mkdtemp(shard_root));
    cr_assert_eq(chdir(shard_root), 0);
}

static void shard_teardown(void)
{
    cr_assert_eq(chdir("/"), 0);
    bif_remove_tree(shard_root);
}

static inline size_t shard_image(int image, unsigned char *bytes)
{
    static const size_t sizes[IMAGES] = {1, 5000, 20001, 8, 33};
    for (size_t i = 0; i < sizes[image]; i++) {
        bytes[i] = (unsigned char)(i * 31 + i / 253 + (size_t)image * 77 + 1);
    }
    return sizes[image];
}

static inline bif_status shard_write(const char *path)
{
    static unsigned char bytes[IMAGE_CAP];
    bif_shard_writer *writer = NULL;
    bif_status st = bif_shard_writer_open(path, &writer);
    if (st != BIF_OK) {
        return st;
    }
    for (int i = 0; i < IMAGES; i++) {
        int64_t index = -1;
        size_t size = shard_image(i, bytes);
        st = bif_shard_add_image(writer, bytes, size, (bif_image_format)(BIF_IMAGE_JPEG + i % 3), (uint32_t)(10 + i), (uint32_t)(20 + i), &index);
        if (st != BIF_OK) {
            bif_shard_writer_abandon(writer);
            return st;
        }
        cr_assert_eq(index, i);
        cr_assert_eq(bif_shard_add_image(writer, bytes, size, BIF_IMAGE_PNG, 1, 1, &index), BIF_OK);
        cr_assert_eq(index, i); /* the same bytes are stored once */
    }
    static const char *const texts[] = {"{\"caption\":\"one\"}", "{\"conversations\":[]}", "{\"caption\":\"caf\xc3\xa9\"}"};
    static const char *const ids[] = {"a", "", "long id 3"};
    static const char *const sources[] = {"alpha", "beta", "alpha"};
    static const int64_t images[][3] = {{0}, {0}, {4, 1, 2}};
    static const int64_t counts[] = {1, 0, 3};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(bif_shard_add_sample(writer, texts[i], strlen(texts[i]), ids[i], sources[i], images[i], counts[i]), BIF_OK);
    }
    cr_assert_eq(bif_shard_writer_samples(writer), 3);
    cr_assert_geq(bif_shard_writer_bytes(writer), 25043);
    cr_assert_not(bif_exists(path));
    return bif_shard_writer_commit(writer);
}
