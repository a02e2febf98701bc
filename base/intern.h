#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Byte strings numbered 0, 1, 2, ... in the order of their first appearance. */
typedef struct {
    char *pool;
    size_t pool_size, pool_capacity;
    size_t *offset; /* [count + 1] into pool */
    size_t count, capacity;
    uint32_t *slot; /* [slots] number + 1; 0 = free */
    size_t slots;   /* power of two */
} bif_intern;
void bif_intern_free(bif_intern *intern);
/* The number of a string; adds it if `add`, else -1 when unknown. *is_new may be NULL. */
int64_t bif_intern_find(bif_intern *intern, const char *bytes, size_t size, bool add, bool *is_new);
int64_t bif_intern_get(const bif_intern *intern, const char *bytes, size_t size);
const char *bif_intern_bytes(const bif_intern *intern, size_t number, size_t *size);
