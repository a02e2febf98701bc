/* Flavour "watch": device memory is an arena with a shadow, and kernels are compiled with -fsanitize=thread, so that the compiler calls
 * __tsan_read4(address) and the like before each access. libtsan is never linked: those functions are here (emu_hooks.cpp) and find
 *
 *   - addresses outside of any allocation or of the block's shared memory, freed memory, host memory, misaligned accesses;
 *   - reads of bytes nobody has written (shared memory: in this block);
 *   - races: two threads touch the same two bytes, one of them writes, and nothing orders them. Ordered are: what a block barrier
 *     or a warp function of all lanes separates, launches, and atomics among themselves. Threads of different blocks are never ordered
 *     within a launch.
 *
 * A tick counts barriers. A shadow cell (for two bytes) holds the last write and the last read as tick, thread and flags; a record older
 * than the block's last barrier (shared) or of an earlier launch (device memory) orders itself. Not seen: races of two threads on two
 * neighbouring single bytes are reported as if they were one (nothing smaller than bf16 is written by kernels); bytes moved by a call of
 * memcpy.
 *
 * Between launches and copies device memory is closed to the process, so host code that touches it ends with a fault too
 * (BIFOCAL_EMU_GUARD=0 leaves it open, which saves two calls of mprotect a launch). */
#include "emu_memory_watch.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map>

#define ARENA_BYTES (EMU_DEVICE_BYTES + ((size_t)1 << 30)) /* and 1 GiB of pinned memory, the end of the arena */
#define SHARED_AT (((size_t)1 << 20) + 16)                 /* no more aligned than BIF_SHARED promises */
#define DEVICE_AT ((size_t)4 << 20)
#define RED_ZONE 512

emu_watch_state emu_watch;
thread_local bool emu_watched;

static std::map<size_t, size_t> taken; /* offset in the arena -> bytes */
static size_t next_device = DEVICE_AT, next_pinned = EMU_DEVICE_BYTES;
static size_t top = DEVICE_AT; /* device memory was never used above */
static int opened;
static bool guard;

/* ---- the arena ---- */

static void *reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        emu_fault(NULL, "cannot reserve %zu bytes of address space for the emulated device", bytes);
    }
    (void)madvise(memory, bytes, MADV_HUGEPAGE); /* a wish: mprotect then walks 512 times fewer entries */
    return memory;
}

static void on_segv(int, siginfo_t *info, void *)
{
    const uintptr_t at = (uintptr_t)info->si_addr;
    signal(SIGSEGV, SIG_DFL);
    if (opened == 0 && at - emu_watch.arena < EMU_DEVICE_BYTES) {
        emu_fault(NULL, "address: host code touches device memory (%s)", emu_place((const void *)at));
    }
}

static void allow(int protection)
{
    if (guard && mprotect((void *)emu_watch.arena, top, protection) != 0) {
        emu_fault(NULL, "mprotect of the emulated device failed");
    }
}

static void make_arena(void)
{
    if (emu_watch.arena != 0) {
        return;
    }
    const char *text = getenv("BIFOCAL_EMU_GUARD");
    emu_watch.arena = (uintptr_t)reserve(ARENA_BYTES);
    emu_watch.arena_bytes = ARENA_BYTES;
    emu_watch.written = (unsigned char *)reserve(ARENA_BYTES / 8);
    emu_watch.cells = (emu_cell *)reserve(ARENA_BYTES / 2 * sizeof(emu_cell));
    emu_watch.tick = 1;
    guard = text == NULL || strcmp(text, "0") != 0;
    if (guard) {
        struct sigaction action = {};
        action.sa_sigaction = on_segv;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, NULL);
        allow(opened > 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
}

void emu_memory_open(void)
{
    make_arena();
    if (opened++ == 0) {
        allow(PROT_READ | PROT_WRITE);
    }
}

void emu_memory_close(void)
{
    if (--opened == 0) {
        allow(PROT_NONE);
    }
}

/* The first gap of `need` bytes in [from, end). 0: none. */
static size_t gap(size_t from, size_t end, size_t need)
{
    size_t at = from;
    std::map<size_t, size_t>::iterator it = taken.lower_bound(from);
    if (it != taken.begin()) {
        std::map<size_t, size_t>::iterator before = it;
        --before;
        const size_t free_at = (before->first + before->second + RED_ZONE + 255) & ~(size_t)255;
        at = free_at > at ? free_at : at;
    }
    for (; it != taken.end() && it->first < end; ++it) {
        if (it->first >= at + need) {
            return at;
        }
        at = (it->first + it->second + RED_ZONE + 255) & ~(size_t)255;
    }
    return at + need <= end ? at : 0;
}

static void mark(size_t at, size_t bytes, bool written)
{
    unsigned char *bits = emu_watch.written;
    for (; bytes > 0 && at % 8 != 0; at++, bytes--) {
        bits[at / 8] = (unsigned char)(written ? bits[at / 8] | 1u << at % 8 : bits[at / 8] & ~(1u << at % 8));
    }
    memset(bits + at / 8, written ? 0xff : 0, bytes / 8);
    at += bytes / 8 * 8;
    for (bytes %= 8; bytes > 0; at++, bytes--) {
        bits[at / 8] = (unsigned char)(written ? bits[at / 8] | 1u << at % 8 : bits[at / 8] & ~(1u << at % 8));
    }
}

void *emu_memory_take(size_t bytes, int, emu_space space)
{
    make_arena();
    const bool pinned = space == EMU_PINNED;
    const size_t start = pinned ? EMU_DEVICE_BYTES : DEVICE_AT, end = pinned ? ARENA_BYTES : EMU_DEVICE_BYTES, need = bytes + RED_ZONE;
    size_t *next = pinned ? &next_pinned : &next_device; /* freed addresses come back late, so that their use is seen */
    size_t at = need > end ? 0 : gap(*next, end, need);
    at = at == 0 && need <= end ? gap(start, end, need) : at;
    if (at == 0) {
        return NULL;
    }
    taken[at] = bytes;
    *next = (at + bytes + RED_ZONE + 255) & ~(size_t)255; /* as cudaMalloc aligns; the neighbour below may be gone by then */
    if (!pinned && at + bytes > top) {
        top = (at + bytes + 0xfffff) & ~(size_t)0xfffff;
        allow(opened > 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
    mark(at, bytes, pinned); /* the host writes pinned memory without our seeing it */
    return (void *)(emu_watch.arena + at);
}

void emu_memory_give(void *memory, size_t bytes)
{
    const size_t at = (uintptr_t)memory - emu_watch.arena, page = 4096;
    const size_t first = (at + page - 1) / page * page, last = (at + bytes) / page * page;
    taken.erase(at);
    memset(emu_watch.ranges, 0, sizeof emu_watch.ranges);
    if (last > first + (1 << 20)) {
        madvise((void *)(emu_watch.arena + first), last - first, MADV_DONTNEED);
        madvise((char *)emu_watch.cells + first / 2 * sizeof(emu_cell), (last - first) / 2 * sizeof(emu_cell), MADV_DONTNEED);
    }
}

/* ---- what the emulation itself reads and writes ---- */

const char *emu_place(const void *at)
{
    static thread_local char text[200];
    const uintptr_t a = (uintptr_t)at;
    int number = 0;
    size_t offset = 0, left = 0;
    const uintptr_t shared = emu_watch.arena + SHARED_AT;
    if (emu_watch.arena != 0 && a >= shared - RED_ZONE && a < shared + EMU_SHARED_MOST + RED_ZONE) {
        snprintf(text, sizeof text, "shared + %td of %zu bytes", (ptrdiff_t)(a - shared), emu_watch.shared_bytes);
        return text;
    }
    if (emu_space_of(at, &number, &offset, &left) != EMU_HOST) {
        snprintf(text, sizeof text, "allocation %d + %zu of %zu bytes", number, offset, offset + left);
        return text;
    }
    if (a - emu_watch.arena < ARENA_BYTES) {
        std::map<size_t, size_t>::iterator it = taken.upper_bound(a - emu_watch.arena);
        if (it != taken.begin()) {
            --it;
            emu_space_of((const void *)(emu_watch.arena + it->first), &number, &offset, &left);
            snprintf(text, sizeof text, "allocation %d + %zu, which has %zu bytes", number, a - emu_watch.arena - it->first, it->second);
            return text;
        }
    }
    snprintf(text, sizeof text, a - emu_watch.arena < ARENA_BYTES ? "%p, device memory that is not allocated" : "%p, host memory", at);
    return text;
}

static size_t inside(const void *at, size_t bytes, const char *what)
{
    int number;
    size_t offset, left;
    if (emu_space_of(at, &number, &offset, &left) == EMU_HOST || bytes > left) {
        emu_fault(NULL, "address: %s of %zu bytes at %s", what, bytes, emu_place(at));
    }
    return (uintptr_t)at - emu_watch.arena;
}

static bool all_written(size_t at, size_t bytes, size_t *first)
{
    const unsigned char *bits = emu_watch.written;
    for (size_t i = at; i < at + bytes;) {
        if (i % 8 == 0 && at + bytes - i >= 8 && bits[i / 8] == 0xff) {
            i += 8;
        } else if ((bits[i / 8] >> i % 8 & 1) == 0) {
            *first = i;
            return false;
        } else {
            i++;
        }
    }
    return true;
}

void emu_memory_read(const void *from, size_t bytes, const char *what)
{
    size_t first = 0;
    if (bytes > 0 && !all_written(inside(from, bytes, what), bytes, &first)) {
        emu_fault(NULL, "unwritten: %s of %zu bytes reads %s, which nobody has written", what, bytes,
                  emu_place((const void *)(emu_watch.arena + first)));
    }
}

void emu_memory_write(void *to, size_t bytes, const char *what)
{
    if (bytes > 0) {
        mark(inside(to, bytes, what), bytes, true);
    }
}

void emu_forget(void *memory, size_t bytes)
{
    mark(inside(memory, bytes, "forgetting"), bytes, false);
}

void emu_memory_copy(void *to, const void *from, size_t bytes)
{
    const size_t a = inside(to, bytes, "the target of a copy"), b = inside(from, bytes, "the source of a copy");
    size_t first;
    if (all_written(b, bytes, &first)) {
        mark(a, bytes, true);
    } else {
        for (size_t i = 0; i < bytes; i++) {
            mark(a + i, 1, emu_watch.written[(b + i) / 8] >> (b + i) % 8 & 1);
        }
    }
    memmove(to, from, bytes);
}

/* ---- events of a launch ---- */

static void stamp(void)
{
    emu_watch.stamp = emu_watch.tick << EMU_TICK_SHIFT | (uint64_t)emu_watch.thread;
}

void emu_memory_launch(const emu_launch_info *launch, void *stacks, size_t stack_bytes)
{
    emu_watch.stacks = (uintptr_t)stacks;
    emu_watch.stack_bytes = stack_bytes;
    emu_watch.arguments = (uintptr_t)launch->arguments;
    emu_watch.argument_bytes = launch->bytes;
    emu_watch.launch_tick = ++emu_watch.tick;
}

void emu_memory_launched(void)
{
    emu_watched = false;
    emu_watch.shared_bytes = 0;
}

void *emu_memory_block(size_t shared)
{
    emu_watch.block_tick = emu_watch.barrier_tick = ++emu_watch.tick;
    for (int w = 0; w < EMU_MAX_THREADS / 32; w++) {
        emu_watch.warp_tick[w] = emu_watch.tick;
    }
    emu_watch.shared = emu_watch.arena + SHARED_AT;
    emu_watch.shared_bytes = shared;
    mark(SHARED_AT, shared, false);
    return (void *)emu_watch.shared;
}

void emu_memory_thread(int thread)
{
    emu_watch.thread = (unsigned)thread;
    stamp();
    emu_watched = true;
}

void emu_memory_leave(void)
{
    emu_watched = false;
}

void emu_memory_barrier(void)
{
    emu_watch.barrier_tick = ++emu_watch.tick;
    stamp();
}

void emu_memory_warp(int warp)
{
    emu_watch.warp_tick[warp] = ++emu_watch.tick;
    stamp();
}

void emu_memory_in_flight(void *shared, size_t bytes)
{
    mark((uintptr_t)shared - emu_watch.arena, bytes, false);
}

/* ---- faults of an access ---- */

static const char *access_name(emu_access access)
{
    return access == EMU_READ ? "reads" : access == EMU_WRITE ? "writes" : "changes atomically";
}

void emu_bad_address(uintptr_t at, size_t bytes, emu_access access, const void *pc)
{
    emu_watched = false;
    emu_fault(pc, "address: %s %s %zu bytes at %s, out of bounds", emu_who(), access_name(access), bytes, emu_place((const void *)at));
}

void emu_bad_alignment(uintptr_t at, size_t bytes, emu_access access, const void *pc)
{
    emu_watched = false;
    emu_fault(pc, "address: %s %s %zu bytes at %s, which is not aligned", emu_who(), access_name(access), bytes,
              emu_place((const void *)at));
}

void emu_unwritten(uintptr_t at, size_t bytes, const void *pc)
{
    emu_watched = false;
    size_t first = at - emu_watch.arena;
    (void)all_written(first, bytes, &first);
    emu_fault(pc, "unwritten: %s reads %zu bytes at %s, which nobody has written%s", emu_who(), bytes,
              emu_place((const void *)(emu_watch.arena + first)),
              at - emu_watch.shared < EMU_SHARED_MOST ? " in this block (or a bif_copy_16 to it is not waited for)" : "");
}

void emu_race(uintptr_t at, size_t bytes, emu_access access, uint64_t record, bool was_write, const void *pc)
{
    emu_watched = false;
    const uint64_t tick = record >> EMU_TICK_SHIFT;
    const char *other = record & EMU_BLOCKS || tick < emu_watch.block_tick ? "another block"
                        : record & EMU_WARPS                                 ? "threads of several warps"
                                                                             : "";
    char text[60];
    snprintf(text, sizeof text, "thread %u of the same block", (unsigned)(record & EMU_THREAD));
    emu_fault(pc, "race: %s %s %zu bytes at %s, which %s %s with no barrier between", emu_who(), access_name(access), bytes,
              emu_place((const void *)at), other[0] == '\0' ? text : other,
              !was_write ? "read" : record & EMU_WAS_ATOMIC ? "changed atomically" : "wrote");
}
