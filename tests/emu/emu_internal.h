/* What the parts of the emulation share.
 *
 *   emu_fiber.cpp         threads of a block as fibers, barriers, warp functions, asynchronous copies; launches
 *   emu_runtime.cpp       the CUDA runtime's functions: memory, copies, streams, events, graphs
 *   emu_memory_watch.cpp  flavour "watch": memory with a shadow, and the hooks the compiler calls at each load and store of a kernel
 *   emu_memory_asan.cpp   flavour "asan": malloc and AddressSanitizer
 *   emu_blas.cpp          cuBLASLt; emu_nccl.cpp: NCCL over MPI
 *
 * None of these files is compiled with -fsanitize=thread: that flag, without its library, is how kernels are made to report their
 * accesses to us. One thread launches at a time (a mutex in emu_runtime.cpp). */
#pragma once
#include <cuda_runtime.h>
#include <stdarg.h>

#include <functional>
#include <vector>

#include "emu/emu.h"

#define EMU_SHARED_DEFAULT 49152  /* bytes of dynamic shared memory without cudaFuncSetAttribute */
#define EMU_SHARED_MOST 232448    /* with: 227 KiB, as on sm_90 */
#define EMU_DEVICE_BYTES ((size_t)8 << 30)
#define EMU_MAX_THREADS 1024

/* ---- faults ---- */

/* "emu: " + text + the place in the program of `pc` (NULL: none) on standard error, then abort(). */
void emu_fault(const void *pc, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* "thread 33 of block (2,0,0) of kernel x" for the thread that runs now, or "host code". */
const char *emu_who(void);

/* ---- the block that runs (emu_fiber.cpp) ---- */

struct emu_launch_info {
    const char *kernel;
    const void *function;
    dim3 grid, block;
    size_t shared;
    const void *arguments;
    size_t bytes;
    void (*run)(const void *arguments);
};
void emu_run(const emu_launch_info *launch);
bool emu_inside_kernel(void);

/* ---- memory, one implementation a flavour ---- */

typedef enum { EMU_HOST = 0, EMU_DEVICE = 1, EMU_PINNED = 2 } emu_space;

/* Unwritten memory for device or pinned host use (NULL: none left), and its end. */
void *emu_memory_take(size_t bytes, int number, emu_space space);
void emu_memory_give(void *memory, size_t bytes);
/* The host (copies, memset, cuBLASLt, NCCL) is about to read or write device memory: checks bounds and unwritten bytes, marks as
 * written. */
void emu_memory_read(const void *from, size_t bytes, const char *what);
void emu_memory_write(void *to, size_t bytes, const char *what);
/* Copies device memory, unwritten bytes staying unwritten. */
void emu_memory_copy(void *to, const void *from, size_t bytes);
/* The running thread accesses memory from inside the emulation (ldmatrix, asynchronous copies, atomics). */
typedef enum { EMU_READ, EMU_WRITE, EMU_ATOMIC } emu_access;
void emu_memory_access(const void *at, size_t bytes, emu_access access, const void *pc);
/* 16 bytes of shared memory whose asynchronous copy has begun and not ended: not to be read. */
void emu_memory_in_flight(void *shared, size_t bytes);
/* Host code may touch device memory between open and close (nested). */
void emu_memory_open(void);
void emu_memory_close(void);

/* Events of the running launch, for the order of accesses. stacks: the memory that holds all fibers' stacks. */
void emu_memory_launch(const emu_launch_info *launch, void *stacks, size_t stack_bytes);
void emu_memory_launched(void);
void *emu_memory_block(size_t shared); /* a block starts; returns its dynamic shared memory, all unwritten */
void emu_memory_thread(int thread);    /* another thread goes on */
void emu_memory_leave(void);           /* the scheduler does */
void emu_memory_barrier(void);         /* all threads of the block have arrived */
void emu_memory_warp(int warp);        /* all lanes of a warp have */

/* ---- allocations (emu_runtime.cpp) ---- */

/* The space of an address, its allocation's number and the offset in it. */
emu_space emu_space_of(const void *at, int *number, size_t *offset, size_t *left);

/* Runs now, or is recorded when the stream is being captured. `what` names it in messages. */
void emu_submit(cudaStream_t stream, const char *what, std::function<void()> work);
/* The same for a copy from the host, which on a stream of nothing but such copies runs when somebody waits for it. */
void emu_submit_late(cudaStream_t stream, const char *what, std::function<void()> work);
void emu_set_error(cudaError_t error);
void emu_count_launch(void);
void emu_count_copy(bool to_device, bool from_device, bool wait);

struct emu_lock {
    emu_lock();
    ~emu_lock();
};
