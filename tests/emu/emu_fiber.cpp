/* The threads of a block as fibers. Blocks run one after the other; in a block a warp's lanes run until each waits or has ended, then
 * the next warp. What a GPU leaves open (which block, warp or lane goes first) BIFOCAL_EMU_ORDER changes.
 *
 * A barrier that cannot complete is a fault with a report of who waits where: threads at different barriers, or threads that have left the
 * kernel while others wait (a GPU counts those out; kernels here shall not rely on it). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "emu_fiber.h"

#ifdef EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES ((size_t)256 << 10)
#define GUARD_BYTES ((size_t)4096)

emu_fiber emu_fibers[EMU_MAX_THREADS];
thread_local emu_fiber *emu_current;
emu_block_state emu_block;

static emu_fiber scheduler;
static char *stacks;
static const emu_launch_info *launch;
static thread_local char who_text[320];

/* ---- switching ---- */

#ifdef __x86_64__
extern "C" void emu_switch_stack(void **save, void *to);
asm(".text\n.p2align 4\n.globl emu_switch_stack\n.type emu_switch_stack,@function\nemu_switch_stack:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size emu_switch_stack,.-emu_switch_stack\n");
#endif

#ifdef EMU_ASAN
static const void *host_bottom;
static size_t host_bytes;
#endif

static void switch_fiber(emu_fiber *from, emu_fiber *to)
{
#ifdef EMU_ASAN
    const bool leaves = from != &scheduler && from->state == EMU_DONE, to_host = to == &scheduler;
    __sanitizer_start_switch_fiber(leaves ? NULL : &from->fake, to_host ? host_bottom : to->stack,
                                   to_host ? host_bytes : STACK_BYTES - GUARD_BYTES);
#endif
#ifdef __x86_64__
    emu_switch_stack(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
#endif
}

static void fiber_main(void)
{
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(NULL, &host_bottom, &host_bytes);
#endif
    launch->run(launch->arguments);
    emu_fiber *self = emu_current;
    self->state = EMU_DONE;
    emu_block.done++;
    switch_fiber(self, &scheduler);
    abort(); /* an ended fiber is never chosen again */
}

/* A fresh stack whose first switch enters fiber_main. */
static void prepare(emu_fiber *f)
{
#ifdef __x86_64__
    /* Stacks start at different offsets in a page, or all fibers would share a few sets of the cache. */
    void **top = (void **)(f->stack + STACK_BYTES - GUARD_BYTES - 64 - (size_t)(f->thread % 61) * 64);
    *--top = NULL; /* fiber_main's return address: a walk up the stack ends here */
    *--top = (void *)fiber_main;
    for (int i = 0; i < 6; i++) {
        *--top = NULL;
    }
    f->sp = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES - GUARD_BYTES;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
#endif
}

static void make_stacks(void)
{
    stacks = (char *)mmap(NULL, STACK_BYTES * EMU_MAX_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) {
        emu_fault(NULL, "no memory for the stacks of %d threads", EMU_MAX_THREADS);
    }
    for (int i = 0; i < EMU_MAX_THREADS; i++) {
        char *guard = stacks + (size_t)i * STACK_BYTES; /* below each stack */
        mprotect(guard, GUARD_BYTES, PROT_NONE);
        emu_fibers[i].stack = guard + GUARD_BYTES;
        emu_fibers[i].thread = i;
    }
}

/* ---- where a thread is ---- */

bool emu_inside_kernel(void)
{
    return emu_current != NULL;
}

static const char *kernel_name(void)
{
    return launch->kernel;
}

const char *emu_who(void)
{
    if (emu_current == NULL) {
        return "host code";
    }
    const uint3 b = emu_block.index;
    snprintf(who_text, sizeof who_text, "thread %d of block (%u,%u,%u) of kernel %s", emu_current->thread, b.x, b.y, b.z, kernel_name());
    return who_text;
}

extern "C" uint3 emu_thread_index(void) { return emu_current->index; }
extern "C" uint3 emu_block_index(void) { return emu_block.index; }
extern "C" uint3 emu_block_dim(void) { return launch->block; }
extern "C" uint3 emu_grid_dim(void) { return launch->grid; }
extern "C" int emu_lane(void) { return emu_current->thread & 31; }
extern "C" void *emu_shared(void) { return emu_block.shared; }

extern "C" void emu_trap(const char *file, int line)
{
    emu_fault(NULL, "trap: %s at %s:%d", emu_who(), file, line);
}

/* ---- barriers ---- */

void emu_wait(emu_fiber *self)
{
    switch_fiber(self, &scheduler);
}

/* Appends "thread 3 at f.cu:12 (shuffle)" for threads in `state`, up to four distinct places. */
static void describe(char *text, size_t size, int first, int last)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = first, places = 0; i < last && places < 6; i++) {
        const emu_fiber *f = &emu_fibers[i];
        bool seen = false;
        for (int j = first; j < i && !seen; j++) {
            const emu_fiber *g = &emu_fibers[j];
            seen = g->state == f->state && (f->state == EMU_DONE || (g->line == f->line && g->file == f->file));
        }
        if (seen || used >= size) {
            continue;
        }
        places++;
        used += (size_t)(f->state == EMU_DONE
                             ? snprintf(text + used, size - used, "%sthread %d has left the kernel", places > 1 ? "; " : "", i)
                             : snprintf(text + used, size - used, "%sthread %d waits in %s at %s:%d", places > 1 ? "; " : "", i,
                                        f->state == EMU_AT_BARRIER ? "__syncthreads" : emu_op_name(f->op), f->file, f->line));
    }
}

static void stuck(const char *what, int first, int last)
{
    char places[900];
    describe(places, sizeof places, first, last);
    const uint3 b = emu_block.index;
    int left = -1;
    for (int i = first; i < last && left < 0; i++) {
        left = emu_fibers[i].state == EMU_DONE ? i : -1;
    }
    if (left >= 0) {
        emu_fault(NULL, "%s: thread %d of block (%u,%u,%u) of kernel %s left while others wait: %s", what, left, b.x, b.y, b.z,
                  kernel_name(), places);
    }
    emu_fault(NULL, "%s: the threads of block (%u,%u,%u) of kernel %s wait for each other in different places: %s", what, b.x, b.y, b.z,
              kernel_name(), places);
}

extern "C" int emu_barrier(int predicate, const char *file, int line)
{
    emu_fiber *self = emu_current;
    emu_block_state *b = &emu_block;
    const int generation = b->generation & 1;
    self->file = file;
    self->line = line;
    b->count[generation] += predicate != 0;
    if (++b->waiting < b->threads) {
        self->state = EMU_AT_BARRIER;
        emu_wait(self);
        return b->count[generation];
    }
    self->state = EMU_AT_BARRIER;
    for (int i = 0; i < b->threads; i++) {
        const emu_fiber *f = &emu_fibers[i];
        if (f->line != line || (f->file != file && strcmp(f->file, file) != 0)) {
            stuck("barrier", 0, b->threads);
        }
    }
    for (int i = 0; i < b->threads; i++) {
        emu_fibers[i].state = EMU_READY;
    }
    b->waiting = 0;
    b->generation++;
    b->count[b->generation & 1] = 0;
    emu_memory_barrier();
    return b->count[generation];
}

/* ---- blocks and grids ---- */

typedef struct {
    enum { FORWARD, REVERSE, SHUFFLE } kind;
    uint64_t seed;
} run_order;

static run_order read_order(void)
{
    const char *text = getenv("BIFOCAL_EMU_ORDER"), *seed = getenv("BIFOCAL_EMU_SEED");
    run_order order = {run_order::FORWARD, seed == NULL ? 1 : strtoull(seed, NULL, 10)};
    if (text != NULL && strcmp(text, "reverse") == 0) {
        order.kind = run_order::REVERSE;
    } else if (text != NULL && strcmp(text, "shuffle") == 0) {
        order.kind = run_order::SHUFFLE;
    } else if (text != NULL && strcmp(text, "forward") != 0 && text[0] != '\0') {
        emu_fault(NULL, "BIFOCAL_EMU_ORDER=%s is not forward, reverse or shuffle", text);
    }
    return order;
}

static void fill_order(const run_order *order, unsigned *at, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        at[i] = order->kind == run_order::REVERSE ? n - 1 - i : i;
    }
    uint64_t x = order->seed * 2654435761u + n;
    for (unsigned i = n; order->kind == run_order::SHUFFLE && i > 1; i--) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        const unsigned j = (unsigned)((x >> 33) % i), t = at[i - 1];
        at[i - 1] = at[j];
        at[j] = t;
    }
}

static void run_lane(emu_fiber *f)
{
    emu_current = f;
    emu_memory_thread(f->thread);
    switch_fiber(&scheduler, f);
    emu_current = NULL;
    emu_memory_leave();
}

static void run_block(const unsigned *warps, const unsigned *lanes)
{
    emu_block_state *b = &emu_block;
    const int count = (b->threads + 31) / 32;
    while (b->done < b->threads) {
        bool went_on = false;
        for (int w = 0; w < count; w++) {
            const int first = (int)warps[w] * 32, last = first + 32 < b->threads ? first + 32 : b->threads;
            for (bool again = true; again;) {
                again = false;
                for (int l = 0; l < 32; l++) {
                    emu_fiber *f = &emu_fibers[first + (int)lanes[l]];
                    if ((int)lanes[l] < last - first && f->state == EMU_READY) {
                        run_lane(f);
                        again = went_on = true;
                    }
                }
            }
            if (b->warp_waiting[warps[w]] != 0) { /* no lane can go on, and some wait for the others */
                stuck("warp", first, last);
            }
        }
        if (!went_on) {
            stuck("barrier", 0, b->threads);
        }
    }
}

void emu_run(const emu_launch_info *info)
{
    static const bool trace = getenv("BIFOCAL_EMU_TRACE") != NULL;
    if (stacks == NULL) {
        make_stacks();
    }
    const run_order order = read_order();
    const unsigned blocks = info->grid.x * info->grid.y * info->grid.z;
    std::vector<unsigned> block_at(blocks);
    unsigned warps[EMU_MAX_THREADS / 32], lanes[32];
    emu_block_state *b = &emu_block;
    launch = info;
    b->threads = (int)(info->block.x * info->block.y * info->block.z);
    fill_order(&order, block_at.data(), blocks);
    fill_order(&order, warps, (unsigned)(b->threads + 31) / 32);
    fill_order(&order, lanes, 32);
    for (int i = 0; i < b->threads; i++) {
        const unsigned x = info->block.x, y = info->block.y, t = (unsigned)i;
        emu_fibers[i].index = {t % x, t / x % y, t / x / y};
    }
    if (trace) {
        fprintf(stderr, "emu: launch %s grid (%u,%u,%u) block (%u,%u,%u) shared %zu\n", info->kernel, info->grid.x, info->grid.y,
                info->grid.z, info->block.x, info->block.y, info->block.z, info->shared);
    }
    emu_memory_open();
    emu_memory_launch(info, stacks, STACK_BYTES * EMU_MAX_THREADS);
    for (unsigned k = 0; k < blocks; k++) {
        const unsigned n = block_at[k], x = info->grid.x, y = info->grid.y;
        b->index = {n % x, n / x % y, n / x / y};
        b->shared = emu_memory_block(info->shared);
        b->waiting = b->done = b->generation = 0;
        b->count[0] = b->count[1] = 0;
        memset(b->warp_waiting, 0, sizeof b->warp_waiting);
        for (int i = 0; i < b->threads; i++) {
            emu_fiber *f = &emu_fibers[i];
            f->state = EMU_READY;
            f->copy_count = f->group = 0;
            prepare(f);
        }
        run_block(warps, lanes);
    }
    emu_memory_launched();
    emu_memory_close();
    launch = NULL;
}
