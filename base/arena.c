#include "base/arena.h"

bif_arena bif_arena_measure(const char *name)
{
    return (bif_arena){.name = name, .measuring = true};
}

bif_arena bif_arena_over(const char *name, void *memory, size_t size)
{
    BIF_BUG_IF(((uintptr_t)memory & (BIF_ARENA_ALIGN - 1)) != 0, "arena %s is not aligned", name);
    return (bif_arena){.name = name, .base = memory, .size = size};
}

void *bif_arena_take(bif_arena *arena, size_t bytes)
{
    size_t start = arena->used;
    size_t end = start + ((bytes + BIF_ARENA_ALIGN - 1) & ~(BIF_ARENA_ALIGN - 1));
    BIF_BUG_IF(end < start, "arena %s: size overflow", arena->name);
    BIF_BUG_IF(!arena->measuring && end > arena->size, "arena %s is full: %zu of %zu bytes used, %zu wanted", arena->name,
               start, arena->size, bytes);
    arena->used = end;
    if (end > arena->peak) {
        arena->peak = end;
    }
    return arena->measuring ? NULL : arena->base + start;
}

size_t bif_arena_mark(const bif_arena *arena)
{
    return arena->used;
}

void bif_arena_release(bif_arena *arena, size_t mark)
{
    BIF_BUG_IF(mark > arena->used, "arena %s: released to a mark in the future", arena->name);
    arena->used = mark;
}
