/* A bump allocator whose size is found by a measuring pass.
 *
 * The same layout code runs twice: first on a measuring arena, which hands out NULL and only counts, then on a real one of
 * that size. Layout code must therefore never touch the memory. All blocks are aligned to 64 bytes. */
#pragma once
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char *base;    /* NULL while measuring */
    size_t size;   /* capacity in bytes; 0 while measuring */
    size_t used;
    size_t peak;   /* highest `used` so far */
    bool measuring;
    const char *name; /* for messages; not owned */
} bif_arena;

#define BIF_ARENA_ALIGN ((size_t)64)

/* A measuring arena: counts, hands out NULL. */
bif_arena bif_arena_measure(const char *name);
/* An arena over `memory` (64-byte aligned, owned by the caller, host or device memory). */
bif_arena bif_arena_over(const char *name, void *memory, size_t size);
/* Next block of `bytes`; a full arena is a bug, because the size was measured. NULL while measuring. */
void *bif_arena_take(bif_arena *arena, size_t bytes);
/* Marks and releases scopes: everything taken after the mark is given back. */
size_t bif_arena_mark(const bif_arena *arena);
void bif_arena_release(bif_arena *arena, size_t mark);

#ifdef __cplusplus
}
#endif
