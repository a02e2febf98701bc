/* The state of the running block, shared by emu_fiber.cpp (switching, block barriers) and emu_warp.cpp (what a warp does together). */
#pragma once
#include "emu_internal.h"

#ifndef __x86_64__
#include <ucontext.h>
#endif

typedef enum { EMU_READY, EMU_AT_BARRIER, EMU_AT_WARP, EMU_DONE } emu_state;
typedef enum { WARP_SYNC, WARP_SHUFFLE, WARP_BALLOT, WARP_REDUCE, WARP_MMA, WARP_LDMATRIX } emu_op;

typedef struct {
    void *shared;
    const void *from;
    int bytes, group;
    const void *pc;
} emu_async_copy;

struct emu_fiber {
#ifdef __x86_64__
    void *sp;
#else
    ucontext_t context;
#endif
    void *fake; /* AddressSanitizer's */
    char *stack;
    int thread;
    uint3 index;
    emu_state state;
    const char *file; /* where it waits */
    int line;
    emu_op op; /* what it brought to a function of its warp, and what it gets */
    unsigned mask;
    int parameter;
    uint32_t in[10], out[4];
    emu_async_copy *copies; /* begun and not waited for, oldest first */
    int copy_count, copy_room, group;
};

struct emu_block_state {
    uint3 index;
    void *shared;
    int threads, waiting, done, generation, count[2];
    unsigned warp_waiting[EMU_MAX_THREADS / 32];
};

extern emu_fiber emu_fibers[EMU_MAX_THREADS];
extern thread_local emu_fiber *emu_current; /* NULL in host code */
extern emu_block_state emu_block;

/* Lets others run until somebody makes this thread ready again. */
void emu_wait(emu_fiber *self);
const char *emu_op_name(emu_op op);
