/* Flavour "asan": device memory is malloc's, kernels are compiled with -fsanitize=address,undefined. Sees accesses out of bounds (also of
 * local arrays), use after free, and undefined behaviour; not races and not unwritten memory. That is filled with 0xff, which is NaN in
 * float and bf16. */
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "emu_internal.h"

#define ZONE 4096

static char *room; /* zone, shared memory, zone */

void *emu_memory_take(size_t bytes, int, emu_space space)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 256, bytes) != 0) {
        return NULL;
    }
    memset(memory, space == EMU_PINNED ? 0 : 0xff, bytes);
    return memory;
}

void emu_memory_give(void *memory, size_t)
{
    free(memory);
}

static void touch(const void *at, size_t bytes, bool write)
{
    char *bad = bytes == 0 ? NULL : (char *)__asan_region_is_poisoned((void *)at, bytes);
    if (bad != NULL) {
        fprintf(stderr, "emu: address: %s touches %zu bytes at %p\n", emu_who(), bytes, at);
        __asan_report_error(__builtin_return_address(0), __builtin_frame_address(0), __builtin_frame_address(0), bad, write, bytes);
    }
}

static void inside(const void *at, size_t bytes, const char *what)
{
    int number;
    size_t offset, left;
    if (emu_space_of(at, &number, &offset, &left) == EMU_HOST || bytes > left) {
        emu_fault(NULL, "address: %s of %zu bytes at %p, out of bounds", what, bytes, at);
    }
}

void emu_memory_read(const void *from, size_t bytes, const char *what) { inside(from, bytes, what); }
void emu_memory_write(void *to, size_t bytes, const char *what) { inside(to, bytes, what); }

void emu_forget(void *memory, size_t bytes)
{
    inside(memory, bytes, "forgetting");
    memset(memory, 0xff, bytes);
}

void emu_memory_copy(void *to, const void *from, size_t bytes)
{
    inside(to, bytes, "the target of a copy");
    inside(from, bytes, "the source of a copy");
    memmove(to, from, bytes);
}

void emu_memory_access(const void *at, size_t bytes, emu_access access, const void *)
{
    touch(at, bytes, access != EMU_READ);
}

void emu_memory_in_flight(void *shared, size_t bytes)
{
    memset(shared, 0xff, bytes);
}

void emu_memory_open(void) {}
void emu_memory_close(void) {}
void emu_memory_launch(const emu_launch_info *, void *, size_t) {}

void emu_memory_launched(void)
{
    if (room != NULL) {
        __asan_poison_memory_region(room, ZONE + EMU_SHARED_MOST + ZONE);
    }
}

void *emu_memory_block(size_t shared)
{
    if (room == NULL) {
        room = (char *)malloc(ZONE + EMU_SHARED_MOST + ZONE);
    }
    /* Its end is at a multiple of 8 or the last bytes are known exactly: the poison begins at the first byte after it. */
    char *start = room + ZONE;
    __asan_poison_memory_region(room, ZONE + EMU_SHARED_MOST + ZONE);
    __asan_unpoison_memory_region(start, shared);
    memset(start, 0xff, shared);
    return start;
}

void emu_memory_thread(int) {}
void emu_memory_leave(void) {}
void emu_memory_barrier(void) {}
void emu_memory_warp(int) {}
