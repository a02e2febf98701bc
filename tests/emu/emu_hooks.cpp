/* What the compiler calls at each load and store of kernels compiled with -fsanitize=thread (see emu_memory_watch.cpp). */
#include "emu_memory_watch.h"

extern "C" char __executable_start, _end; /* of the linker: the program's own constants may be read */

/* True when nothing orders the record before the running thread. since: tick from which records count. */
static inline bool unordered(uint64_t record, uint64_t since)
{
    const uint64_t tick = record >> EMU_TICK_SHIFT;
    if (tick < since) {
        return false;
    }
    if ((record & EMU_BLOCKS) != 0 || tick < emu_watch.block_tick) {
        return true;
    }
    if (tick < emu_watch.barrier_tick) {
        return false;
    }
    if ((record & EMU_WARPS) != 0 || ((record ^ emu_watch.thread) & EMU_WARP_OF_THREAD) != 0) {
        return true;
    }
    if ((record & EMU_LANES) == 0 && (record & EMU_THREAD) == emu_watch.thread) {
        return false;
    }
    return tick >= emu_watch.warp_tick[emu_watch.thread >> 5];
}

/* The running thread's record put over an older one of the same kind (reads, or atomics) that it does not replace. */
static inline uint64_t merged(uint64_t record, uint64_t since)
{
    const uint64_t tick = record >> EMU_TICK_SHIFT;
    uint64_t flags = 0;
    if (tick < since) {
        return emu_watch.stamp;
    }
    if ((record & EMU_BLOCKS) != 0 || tick < emu_watch.block_tick) {
        flags |= EMU_BLOCKS;
    }
    if (tick >= emu_watch.barrier_tick) {
        if ((record & EMU_WARPS) != 0 || ((record ^ emu_watch.thread) & EMU_WARP_OF_THREAD) != 0) {
            flags |= EMU_WARPS;
        } else if (((record & EMU_LANES) != 0 || (record & EMU_THREAD) != emu_watch.thread) &&
                   tick >= emu_watch.warp_tick[emu_watch.thread >> 5]) {
            flags |= EMU_LANES;
        }
    }
    return emu_watch.stamp | flags;
}

/* Slow part of finding the allocation of an address. */
static __attribute__((noinline)) void find_range(uintptr_t at, size_t bytes, emu_access access, const void *pc)
{
    int number;
    size_t offset, left;
    if (emu_space_of((const void *)at, &number, &offset, &left) == EMU_HOST || left < bytes) {
        emu_bad_address(at, bytes, access, pc);
    }
    emu_range *range = &emu_watch.ranges[at >> 12 & 63];
    range->lo = at - offset;
    range->hi = at + left;
}

static __attribute__((noinline)) void not_arena(uintptr_t at, size_t bytes, emu_access access, const void *pc)
{
    if (access == EMU_READ && at - (uintptr_t)&__executable_start < (uintptr_t)&_end - (uintptr_t)&__executable_start) {
        return;
    }
    int number;
    size_t offset, left;
    if (emu_space_of((const void *)at, &number, &offset, &left) == EMU_PINNED && left >= bytes) {
        return; /* registered host memory, which has no shadow */
    }
    emu_bad_address(at, bytes, access, pc);
}

static inline __attribute__((always_inline)) void check(uintptr_t at, size_t bytes, emu_access access, const void *pc)
{
    if (at - emu_watch.stacks < emu_watch.stack_bytes) {
        return;
    }
    const size_t place = at - emu_watch.arena;
    if (place >= emu_watch.arena_bytes) {
        if (access != EMU_READ || at - emu_watch.arguments >= emu_watch.argument_bytes) {
            not_arena(at, bytes, access, pc);
        }
        return;
    }
    uint64_t since = emu_watch.launch_tick;
    const uintptr_t in_shared = at - emu_watch.shared;
    if (in_shared < EMU_SHARED_MOST || in_shared + 4096 < 8192) {
        if (in_shared >= emu_watch.shared_bytes || emu_watch.shared_bytes - in_shared < bytes) {
            emu_bad_address(at, bytes, access, pc);
        }
        since = emu_watch.block_tick;
    } else {
        const emu_range *range = &emu_watch.ranges[at >> 12 & 63];
        if (at < range->lo || at + bytes > range->hi) {
            find_range(at, bytes, access, pc);
        }
    }
    /* written? */
    unsigned char *bits = emu_watch.written + place / 8;
    if (bytes <= 8 && place % 8 + bytes <= 8) {
        const unsigned mask = ((1u << bytes) - 1) << place % 8;
        if (access != EMU_WRITE && (bits[0] & mask) != mask) {
            emu_unwritten(at, bytes, pc);
        }
        bits[0] = (unsigned char)(bits[0] | mask);
    } else {
        for (size_t i = 0; i < bytes; i++) {
            const size_t p = place + i;
            unsigned char *b = emu_watch.written + p / 8;
            if (p % 8 == 0 && bytes - i >= 8) {
                if (access != EMU_WRITE && *b != 0xff) {
                    emu_unwritten(at, bytes, pc);
                }
                *b = 0xff;
                i += 7;
                continue;
            }
            if (access != EMU_WRITE && (*b >> p % 8 & 1) == 0) {
                emu_unwritten(at, bytes, pc);
            }
            *b = (unsigned char)(*b | 1u << p % 8);
        }
    }
    /* ordered? */
    emu_cell *cell = emu_watch.cells + place / 2, *end = emu_watch.cells + (place + bytes + 1) / 2;
    const uint64_t stamp = emu_watch.stamp;
    for (; cell < end; cell++) {
        if (access == EMU_READ) {
            if (cell->read == stamp) {
                continue;
            }
            if (cell->write >> EMU_TICK_SHIFT >= since && unordered(cell->write, since)) {
                emu_race(at, bytes, access, cell->write, true, pc);
            }
            cell->read = merged(cell->read, since);
        } else if (access == EMU_WRITE) {
            if (cell->write == stamp && cell->read == stamp) {
                continue;
            }
            if (unordered(cell->write, since)) {
                emu_race(at, bytes, access, cell->write, true, pc);
            }
            if (unordered(cell->read, since)) {
                emu_race(at, bytes, access, cell->read, false, pc);
            }
            cell->write = stamp;
        } else {
            const bool atomics = (cell->write & EMU_WAS_ATOMIC) != 0;
            if (!atomics && unordered(cell->write, since)) {
                emu_race(at, bytes, access, cell->write, true, pc);
            }
            if (unordered(cell->read, since)) {
                emu_race(at, bytes, access, cell->read, false, pc);
            }
            cell->write = (atomics ? merged(cell->write, since) : stamp) | EMU_WAS_ATOMIC;
        }
    }
}

void emu_memory_access(const void *at, size_t bytes, emu_access access, const void *pc)
{
    check((uintptr_t)at, bytes, access, pc);
}

static __attribute__((noinline)) void check_aligned(uintptr_t at, size_t bytes, size_t align, emu_access access, const void *pc)
{
    if (at % align != 0) {
        emu_bad_alignment(at, bytes, access, pc);
    }
    check(at, bytes, access, pc);
}

#define HOOK(name, bytes, access)                                                               \
    extern "C" void __tsan_##name(void *at)                                                     \
    {                                                                                           \
        const uintptr_t a = (uintptr_t)at;                                                      \
        if (emu_watched && a - emu_watch.stacks >= emu_watch.stack_bytes) {                     \
            check_aligned(a, bytes, bytes == 16 ? 8 : bytes, access, __builtin_return_address(0)); \
        }                                                                                       \
    }
#define HOOKS(bytes)                                                                            \
    HOOK(read##bytes, bytes, EMU_READ)                                                          \
    HOOK(write##bytes, bytes, EMU_WRITE)                                                        \
    HOOK(volatile_read##bytes, bytes, EMU_READ)                                                 \
    HOOK(volatile_write##bytes, bytes, EMU_WRITE)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

/* A type of smaller alignment than its size, for example a structure. */
#define UNALIGNED(name, bytes, access)                                                          \
    extern "C" void __tsan_unaligned_##name(void *at)                                           \
    {                                                                                           \
        if (emu_watched) {                                                                      \
            check((uintptr_t)at, bytes, access, __builtin_return_address(0));                   \
        }                                                                                       \
    }
UNALIGNED(read2, 2, EMU_READ)
UNALIGNED(read4, 4, EMU_READ)
UNALIGNED(read8, 8, EMU_READ)
UNALIGNED(read16, 16, EMU_READ)
UNALIGNED(write2, 2, EMU_WRITE)
UNALIGNED(write4, 4, EMU_WRITE)
UNALIGNED(write8, 8, EMU_WRITE)
UNALIGNED(write16, 16, EMU_WRITE)

extern "C" void __tsan_read_range(void *at, size_t bytes)
{
    if (emu_watched && bytes > 0) {
        check((uintptr_t)at, bytes, EMU_READ, __builtin_return_address(0));
    }
}

extern "C" void __tsan_write_range(void *at, size_t bytes)
{
    if (emu_watched && bytes > 0) {
        check((uintptr_t)at, bytes, EMU_WRITE, __builtin_return_address(0));
    }
}

extern "C" void __tsan_init(void) {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}

/* Atomics of host code in the same files (guards of static variables, counters); kernels use atomicAdd and the like. */
#define ATOMICS(bits, T)                                                                                                                \
    extern "C" T __tsan_atomic##bits##_load(const volatile T *p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }                  \
    extern "C" void __tsan_atomic##bits##_store(volatile T *p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }                  \
    extern "C" T __tsan_atomic##bits##_exchange(volatile T *p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }        \
    extern "C" T __tsan_atomic##bits##_fetch_add(volatile T *p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }        \
    extern "C" T __tsan_atomic##bits##_fetch_sub(volatile T *p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); }        \
    extern "C" int __tsan_atomic##bits##_compare_exchange_strong(volatile T *p, T *c, T v, int, int)                                    \
    {                                                                                                                                   \
        return __atomic_compare_exchange_n(p, c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                         \
    }
ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
