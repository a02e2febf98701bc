#include "kernels/device.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "kernels/device_cuda.h"
#include "kernels/low_rank.h"
#include "kernels/ops.h"

/* Declared in kernels/cpu.h, which only a *_cpu.c can include. */
void *bif_cpu_pack(bif_device *device, int thread, size_t bytes);

#define MAX_THREADS 1024
#define HUGE_PAGE ((size_t)2 << 20)

/* ---- instruction sets, best last ---- */

typedef void low_rank(int64_t rows, int64_t columns, int64_t rank, float scale, const float *b, const float *a, float *out, int64_t stride);
extern const bif_ops_table bif_cpu_table_generic;
low_rank bif_cpu_low_rank_add_generic;
#ifdef BIF_X86
extern const bif_ops_table bif_cpu_table_avx2;
extern const bif_ops_table bif_cpu_table_avx512;
low_rank bif_cpu_low_rank_add_avx2, bif_cpu_low_rank_add_avx512;

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static bool has_generic(void)
{
    return true;
}

static const struct {
    const char *name;
    const bif_ops_table *table;
    low_rank *low_rank_add;
    bool (*supported)(void);
} isas[] = {
    {"generic", &bif_cpu_table_generic, bif_cpu_low_rank_add_generic, has_generic},
#ifdef BIF_X86
    {"avx2", &bif_cpu_table_avx2, bif_cpu_low_rank_add_avx2, has_avx2},
    {"avx512", &bif_cpu_table_avx512, bif_cpu_low_rank_add_avx512, has_avx512},
#endif
};

static bif_status choose_isa(size_t *out)
{
    size_t count = sizeof isas / sizeof isas[0];
    const char *wanted = getenv("BIFOCAL_ISA");
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        bool named = wanted != NULL && strcmp(wanted, isas[i].name) == 0;
        if (named && !isas[i].supported()) {
            return bif_fail(BIF_ERR_USAGE, "BIFOCAL_ISA=%s: this processor does not have it; unset BIFOCAL_ISA", wanted);
        }
        if (isas[i].supported()) {
            *out = i;
        }
        if (named) {
            return BIF_OK;
        }
    }
    if (wanted != NULL && wanted[0] != '\0') {
        return bif_fail(BIF_ERR_USAGE, "BIFOCAL_ISA=%s is not an instruction set; use generic, avx2 or avx512", wanted);
    }
    return BIF_OK;
}

const char *bif_cpu_isa(void)
{
    size_t i = 0;
    return choose_isa(&i) == BIF_OK ? isas[i].name : "generic";
}

void bif_low_rank_add(int64_t rows, int64_t columns, int64_t rank, float scale, const float *b, const float *a, float *out, int64_t stride)
{
    size_t i = 0;
    BIF_BUG_IF(columns > BIF_LOW_RANK_COLUMNS, "%lld columns", (long long)columns);
    isas[choose_isa(&i) == BIF_OK ? i : 0].low_rank_add(rows, columns, rank, scale, b, a, out, stride);
}

/* ---- CPU memory ---- */

typedef struct {
    void *memory; /* as malloc gave it */
    size_t size;
    char pad[48]; /* a cache line each: threads grow their own slot inside a parallel region */
} scratch_slot;

typedef struct {
    scratch_slot *slots; /* two a thread (scratch of the op, packing of gemm), 64-byte aligned in slots_memory */
    void *slots_memory;
} cpu_state;

static void *align64(void *memory)
{
    return (void *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
}

static bif_status cpu_alloc(bif_device *device, size_t bytes, void **out)
{
    *out = NULL;
    /* Huge pages for the big arenas: their rows are walked with large strides by the matrix products. */
    size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
    size_t size = (bytes + align - 1) & ~(align - 1);
    if (size < bytes || posix_memalign(out, align, size ? size : align) != 0) {
        return bif_fail(BIF_ERR_MEMORY, "cpu: %zu bytes (%.1f GiB) of memory are not to be had; use a smaller batch or model", bytes,
                        (double)bytes / (double)((size_t)1 << 30));
    }
    char *memory = *out;
    if (align == HUGE_PAGE) {
        (void)madvise(memory, size, MADV_HUGEPAGE); /* a wish: without huge pages all still works */
    }
    /* Zeroed by the threads that will use it, so that pages come to lie near them. */
    int threads = device->threads;
    size_t piece = (size / HUGE_PAGE / (size_t)threads + 1) * HUGE_PAGE;
#pragma omp parallel num_threads(threads) if (size >= 2 * HUGE_PAGE)
    for (size_t at = (size_t)omp_get_thread_num() * piece; at < size; at += (size_t)omp_get_num_threads() * piece) {
        memset(memory + at, 0, size - at < piece ? size - at : piece);
    }
    return BIF_OK;
}

static void cpu_release(bif_device *device, void *memory)
{
    (void)device;
    free(memory);
}

static void cpu_zero(bif_device *device, void *memory, size_t bytes)
{
    (void)device;
    if (bytes > 0) {
        memset(memory, 0, bytes);
    }
}

static void cpu_copy(bif_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes > 0) {
        memmove(to, from, bytes);
    }
}

static void cpu_sync(bif_device *device)
{
    (void)device;
}

static void cpu_close(bif_device *device)
{
    cpu_state *state = device->state;
    for (int i = 0; i < 2 * device->threads; i++) {
        free(state->slots[i].memory);
    }
    free(state->slots_memory);
    free(state);
    free(device);
}

static void *grow(bif_device *device, int thread, int which, size_t bytes)
{
    BIF_BUG_IF(device->kind != BIF_DEVICE_CPU || thread < 0 || thread >= device->threads, "scratch of thread %d on %s", thread,
               device->name);
    cpu_state *state = device->state;
    scratch_slot *slot = &state->slots[2 * thread + which];
    if (bytes > slot->size) {
        free(slot->memory);
        slot->memory = bif_malloc(bytes + 64);
        slot->size = bytes;
    }
    return align64(slot->memory);
}

void *bif_cpu_scratch(bif_device *device, int thread, size_t bytes)
{
    return grow(device, thread, 0, bytes);
}

void *bif_cpu_pack(bif_device *device, int thread, size_t bytes)
{
    return grow(device, thread, 1, bytes);
}

/* ---- opening ---- */

static bif_status open_cpu(int threads, bif_device **out)
{
    size_t isa = 0;
    bif_status st = choose_isa(&isa);
    if (st != BIF_OK) {
        return st;
    }
    if (threads < 0 || threads > MAX_THREADS) {
        return bif_fail(BIF_ERR_USAGE, "cpu: %d threads; use 0 (automatic) to %d", threads, MAX_THREADS);
    }
    if (threads == 0) {
        threads = omp_get_max_threads(); /* OMP_NUM_THREADS, else the cores of this process's affinity mask */
        threads = threads > MAX_THREADS ? MAX_THREADS : threads;
    }
    /* Ops divide their work by this number, so a parallel region must really get it. */
    omp_set_dynamic(0);
    threads = threads > omp_get_thread_limit() ? omp_get_thread_limit() : threads;
    bif_device *device = bif_calloc(1, sizeof *device);
    cpu_state *state = bif_calloc(1, sizeof *state);
    state->slots_memory = bif_calloc(2 * (size_t)threads + 1, sizeof *state->slots);
    state->slots = align64(state->slots_memory);
    *device = (bif_device){
        .kind = BIF_DEVICE_CPU,
        .threads = threads,
        .ops = isas[isa].table,
        .alloc = cpu_alloc,
        .release = cpu_release,
        .zero = cpu_zero,
        .copy = cpu_copy,
        .copy_in = cpu_copy,
        .copy_out = cpu_copy,
        .sync = cpu_sync,
        .close = cpu_close,
        .state = state,
    };
    snprintf(device->name, sizeof device->name, "cpu %s, %d thread%s", isas[isa].name, threads, threads == 1 ? "" : "s");
    *out = device;
    return BIF_OK;
}

#ifndef BIF_CUDA
static bif_status bif_device_open_cuda(int index, bif_device **out)
{
    (void)index;
    *out = NULL;
    return bif_fail(BIF_ERR_USAGE, "this bifocal was built without CUDA; use device: cpu, or build with -DBIFOCAL_CUDA=ON");
}

static int bif_cuda_count(void)
{
    return 0;
}
#endif

/* cuda:N with at most four digits; the number follows the prefix. */
static bool names_a_gpu(const char *name)
{
    const size_t digits = strncmp(name, "cuda:", 5) == 0 ? strspn(name + 5, "0123456789") : 0;
    return digits >= 1 && digits <= 4 && name[5 + digits] == '\0';
}

bool bif_device_name_ok(const char *name)
{
    return strcmp(name, "cpu") == 0 || strcmp(name, "cuda") == 0 || strcmp(name, "auto") == 0 || names_a_gpu(name);
}

static bif_status open_by_name(const char *name, int threads, bif_device **out)
{
    if (strcmp(name, "cpu") == 0) {
        return open_cpu(threads, out);
    }
    if (strcmp(name, "auto") == 0) {
        if (bif_device_open_cuda(-1, out) == BIF_OK) {
            return BIF_OK;
        }
        if (bif_cuda_count() > 0) { /* days on the CPU are no quiet substitute for a GPU that is full or too old */
            bif_warn("device auto: %s; going on with the CPU", bif_error_message());
        }
        bif_error_clear();
        return open_cpu(threads, out);
    }
    if (strcmp(name, "cuda") == 0) {
        return bif_device_open_cuda(-1, out);
    }
    if (names_a_gpu(name)) {
        return bif_device_open_cuda(atoi(name + 5), out);
    }
    return bif_fail(BIF_ERR_USAGE, "device '%s' is not one of cpu, cuda, cuda:N, auto", name);
}

bif_status bif_device_open(const char *name, int threads, bif_device **out)
{
    *out = NULL;
    const bif_status st = open_by_name(name, threads, out);
    if (st == BIF_OK) {
        (*out)->deterministic = true;
    }
    return st;
}

int bif_device_gpus(void)
{
    return bif_cuda_count();
}

void bif_device_close(bif_device *device)
{
    if (device != NULL) {
        device->close(device);
    }
}
