/* The shadow of device memory, for emu_memory_watch.cpp (its upkeep) and emu_hooks.cpp (each access). */
#pragma once
#include "emu_internal.h"

/* A record: tick << 16 | flags | thread. */
#define EMU_TICK_SHIFT 16
#define EMU_THREAD 0x3ffu
#define EMU_WARP_OF_THREAD 0x3e0u
#define EMU_WAS_ATOMIC 0x400u
#define EMU_LANES 0x800u   /* several lanes of the thread's warp */
#define EMU_WARPS 0x1000u  /* several warps of the block since the last barrier */
#define EMU_BLOCKS 0x2000u /* several blocks of the launch */

typedef struct {
    uint64_t write, read;
} emu_cell;

typedef struct {
    uintptr_t lo, hi;
} emu_range;

typedef struct {
    uint64_t stamp; /* of the running thread: tick and number */
    uintptr_t stacks, stack_bytes, arena, arena_bytes, shared, shared_bytes, arguments, argument_bytes;
    unsigned char *written; /* a bit a byte of the arena */
    emu_cell *cells;        /* a cell for two bytes */
    uint64_t tick, launch_tick, block_tick, barrier_tick;
    uint64_t warp_tick[EMU_MAX_THREADS / 32];
    unsigned thread;
    emu_range ranges[64]; /* allocations lately touched, by address bits 12.. */
} emu_watch_state;

extern emu_watch_state emu_watch;
extern thread_local bool emu_watched; /* a kernel's thread runs on this host thread */

/* "allocation 3 + 400 of 512 bytes" */
const char *emu_place(const void *at);

void emu_bad_address(uintptr_t at, size_t bytes, emu_access access, const void *pc) __attribute__((noreturn, cold));
void emu_bad_alignment(uintptr_t at, size_t bytes, emu_access access, const void *pc) __attribute__((noreturn, cold));
void emu_unwritten(uintptr_t at, size_t bytes, const void *pc) __attribute__((noreturn, cold));
void emu_race(uintptr_t at, size_t bytes, emu_access access, uint64_t record, bool was_write, const void *pc)
    __attribute__((noreturn, cold));
