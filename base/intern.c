#include "base/intern.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/status.h"

void bif_intern_free(bif_intern *intern)
{
    free(intern->pool);
    free(intern->offset);
    free(intern->slot);
    *intern = (bif_intern){0};
}

const char *bif_intern_bytes(const bif_intern *intern, size_t number, size_t *size)
{
    *size = intern->offset[number + 1] - intern->offset[number];
    return intern->pool + intern->offset[number];
}

/* The slot that holds the string, or the free one where it belongs. */
static size_t intern_slot(const bif_intern *intern, const char *bytes, size_t size)
{
    size_t mask = intern->slots - 1;
    size_t at = (size_t)XXH3_64bits(bytes, size) & mask;
    while (intern->slot[at] != 0) {
        size_t other_size = 0;
        const char *other = bif_intern_bytes(intern, intern->slot[at] - 1, &other_size);
        if (other_size == size && memcmp(other, bytes, size) == 0) {
            break;
        }
        at = (at + 1) & mask;
    }
    return at;
}

static void intern_grow(bif_intern *intern)
{
    intern->slots = intern->slots ? intern->slots * 2 : 1024;
    free(intern->slot);
    intern->slot = bif_calloc(intern->slots, sizeof *intern->slot);
    for (size_t i = 0; i < intern->count; i++) {
        size_t size = 0;
        const char *bytes = bif_intern_bytes(intern, i, &size);
        intern->slot[intern_slot(intern, bytes, size)] = (uint32_t)(i + 1);
    }
}

int64_t bif_intern_get(const bif_intern *intern, const char *bytes, size_t size)
{
    return intern->slots == 0 ? -1 : (int64_t)intern->slot[intern_slot(intern, bytes, size)] - 1;
}

int64_t bif_intern_find(bif_intern *intern, const char *bytes, size_t size, bool add, bool *is_new)
{
    int64_t known = bif_intern_get(intern, bytes, size);
    if (is_new != NULL) {
        *is_new = known < 0 && add;
    }
    if (known >= 0 || !add) {
        return known;
    }
    BIF_BUG_IF(intern->count >= UINT32_MAX - 1, "more than 2^32 different words");
    if ((intern->count + 1) * 2 > intern->slots) {
        intern_grow(intern);
    }
    if (intern->count + 2 > intern->capacity) {
        intern->capacity = intern->capacity ? intern->capacity * 2 : 512;
        intern->offset = bif_realloc(intern->offset, intern->capacity, sizeof *intern->offset);
        intern->offset[0] = 0;
    }
    if (intern->pool_size + size > intern->pool_capacity) {
        intern->pool_capacity = (intern->pool_size + size) * 2;
        intern->pool = bif_realloc(intern->pool, intern->pool_capacity, 1);
    }
    size_t at = intern_slot(intern, bytes, size);
    if (size > 0) {
        memcpy(intern->pool + intern->pool_size, bytes, size);
    }
    intern->pool_size += size;
    intern->offset[intern->count + 1] = intern->pool_size;
    intern->slot[at] = (uint32_t)++intern->count;
    return (int64_t)intern->count - 1;
}
