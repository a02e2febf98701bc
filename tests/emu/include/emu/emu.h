/* What a test can ask the emulation. Faults of a kernel (barriers, races, bad addresses, unwritten memory) print one line that begins with
 * "emu: " on standard error and abort the process.
 * Environment: BIFOCAL_EMU_ORDER=reverse|shuffle changes the order in which blocks, warps and lanes run (BIFOCAL_EMU_SEED=n another
 * shuffle); BIFOCAL_EMU_TRACE=1 prints each launch; BIFOCAL_EMU_BLAS=none leaves cuBLASLt without an algorithm for anything. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calls so far of cudaMalloc and the like, on device and pinned host memory. */
int64_t emu_allocations(void);
/* Device and pinned memory held now, in bytes, and the calls that made it which have not been freed. */
int64_t emu_bytes_held(void);
int64_t emu_blocks_held(void);
/* Times the host waited for the device: synchronisations and blocking copies to the host. */
int64_t emu_syncs(void);
/* Copies between host and device, and kernels launched (each node of a graph counts when the graph is launched). */
int64_t emu_copies_in(void);
int64_t emu_copies_out(void);
int64_t emu_launches(void);
/* These bytes of device memory count as never written again: a kernel that reads them, or a copy to the host, is a fault (flavour
 * "watch"). */
void emu_forget(void *memory, size_t bytes);
/* The next device allocation that would bring the memory held above this many bytes fails; 0 = the whole device (8 GiB). */
void emu_limit_memory(int64_t bytes);
/* The next capture of a stream fails at its end, as a driver does that met a call it cannot record. */
void emu_fail_capture(void);

#ifdef __cplusplus
}
#endif
