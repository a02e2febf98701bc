/* Shared by the picture tests: the pattern of tests/golden/make_images.py, golden files, checksums. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/file.h"

static inline uint8_t *picture_pattern(int64_t w, int64_t h)
{
    uint8_t *rgb = bif_malloc((size_t)(w * h * 3));
    for (uint32_t i = 0; i < (uint32_t)(w * h * 3); i++) {
        rgb[i] = (uint8_t)(((i * 2654435761u) ^ ((i >> 3) * 40503u)) >> 21);
    }
    return rgb;
}

static inline char *picture_path(const char *name)
{
    const char *tests = getenv("BIFOCAL_TESTS");
    return bif_format("%s/golden/images/%s", tests != NULL ? tests : "tests", name);
}

static inline FILE *picture_list(const char *name)
{
    char *path = picture_path(name);
    FILE *file = fopen(path, "r");
    free(path);
    return file;
}

static inline uint32_t picture_crc(const void *data, size_t size)
{
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), data, size);
}
