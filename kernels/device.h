/* Where numbers live and who computes them. One device a process. */
#pragma once
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bif_ops_table bif_ops_table;
typedef struct bif_device bif_device;

typedef enum { BIF_DEVICE_CPU = 0, BIF_DEVICE_CUDA = 1 } bif_device_kind;

struct bif_device {
    bif_device_kind kind;
    char name[96];           /* "cpu avx512, 2 threads", "cuda:0 NVIDIA H200" */
    int threads;             /* CPU: OpenMP threads an op uses; CUDA: 0 */
    bool deterministic;      /* only kernels whose sums have a fixed order; true when opened, its user may clear it */
    const bif_ops_table *ops;
    /* Memory, 64-byte aligned. alloc returns zeroed memory, or BIF_ERR_MEMORY with a message that names the size. */
    bif_status (*alloc)(bif_device *device, size_t bytes, void **out);
    void (*release)(bif_device *device, void *memory);
    void (*zero)(bif_device *device, void *memory, size_t bytes);
    void (*copy)(bif_device *device, void *to, const void *from, size_t bytes);       /* device to device */
    void (*copy_in)(bif_device *device, void *to, const void *host, size_t bytes);    /* host to device */
    void (*copy_out)(bif_device *device, void *host, const void *from, size_t bytes); /* device to host; complete on return */
    void (*sync)(bif_device *device);
    /* The rest but close is NULL on the CPU.
     * Host memory that copies run from while the host goes on. */
    bif_status (*alloc_host)(bif_device *device, size_t bytes, void **out);
    void (*release_host)(bif_device *device, void *memory);
    /* Feeding slot 0 or 1 (train/inputs.h): feed copies to the device on the input stream, once ops called before the slot's last feed_done
     * are through; ops called after feed_wait see the copy; feed_free returns when the slot's host memory may be filled again. */
    void (*feed)(bif_device *device, int slot, void *to, const void *host, size_t bytes);
    void (*feed_wait)(bif_device *device, int slot);
    void (*feed_done)(bif_device *device, int slot);
    void (*feed_free)(bif_device *device, int slot);
    /* A sequence of ops that comes again with the same addresses and sizes under the same key, between record_begin and record_end. True:
     * call the ops, then record_end, and as long as that is true call them and it again: the recording failed and nothing was computed.
     * False: they were all launched from a recording, call none of them, nor record_end. In between nothing may synchronise, allocate or
     * copy from or to the host. */
    bool (*record_begin)(bif_device *device, uint64_t key);
    bool (*record_end)(bif_device *device);
    size_t (*free_bytes)(bif_device *device); /* device memory that alloc could still give */
    void (*close)(bif_device *device);
    void *state; /* the device's own */
};

/* name: "cpu", "cuda", "cuda:N" or "auto" (cuda when built in and a usable GPU is there, else cpu). threads: CPU threads an op
 * may use, 0 = OMP_NUM_THREADS or the cores this process may run on. A missing GPU is BIF_ERR_USAGE with what to do. */
bool bif_device_name_ok(const char *name); /* is it one of these? */
bif_status bif_device_open(const char *name, int threads, bif_device **out);
void bif_device_close(bif_device *device); /* NULL is allowed */
int bif_device_gpus(void);                 /* GPUs that "cuda:N" may name; 0 without a driver or in a build without CUDA */

/* Instruction set of the CPU device: "avx512", "avx2" or "generic"; BIFOCAL_ISA=generic|avx2|avx512 in the environment asks
 * for a lower one (for tests). */
const char *bif_cpu_isa(void);
/* Per-thread scratch of the CPU device for the op that runs now: at least `bytes`, 64-byte aligned, kept and grown between
 * calls (so no allocation in a steady step). thread in [0, threads). For *_cpu.c only. */
void *bif_cpu_scratch(bif_device *device, int thread, size_t bytes);

#ifdef __cplusplus
}
#endif
