/* Feeding the CUDA device: pinned memory, and copies on the input stream while ops run on the other. */
#include "kernels/device_cuda.cuh"

static bif_status alloc_host(bif_device *device, size_t bytes, void **out)
{
    *out = NULL;
    const cudaError_t result = cudaHostAlloc(out, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
    if (result != cudaSuccess) {
        *out = NULL;
        (void)cudaGetLastError();
        return bif_fail(BIF_ERR_MEMORY, "%s: %zu bytes of pinned host memory are not to be had (%s); lower batch.micro_tokens or "
                        "batch.micro_samples",
                        device->name, bytes, cudaGetErrorString(result));
    }
    return BIF_OK;
}

static void release_host(bif_device *, void *memory)
{
    if (memory != NULL) {
        BIF_CUDA_MUST(cudaFreeHost(memory), "releasing pinned memory");
    }
}

static void check(int slot)
{
    BIF_BUG_IF(slot < 0 || slot >= BIF_SLOTS, "feeding slot %d", slot);
}

/* An event that was never recorded holds nobody up, so the first round needs no case of its own. */
static void feed(bif_device *device, int slot, void *to, const void *host, size_t bytes)
{
    check(slot);
    bif_cuda *cuda = bif_cuda_of(device);
    bif_cuda_more *more = bif_more_of(device);
    BIF_CUDA_MUST(cudaStreamWaitEvent(cuda->input, more->done[slot], 0), "waiting for the slot");
    BIF_CUDA_MUST(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda->input), "feeding");
    BIF_CUDA_MUST(cudaEventRecord(more->copied[slot], cuda->input), "feeding");
}

static void feed_wait(bif_device *device, int slot)
{
    check(slot);
    BIF_CUDA_MUST(cudaStreamWaitEvent(bif_cuda_of(device)->stream, bif_more_of(device)->copied[slot], 0), "waiting for the inputs");
}

static void feed_done(bif_device *device, int slot)
{
    check(slot);
    BIF_CUDA_MUST(cudaEventRecord(bif_more_of(device)->done[slot], bif_cuda_of(device)->stream), "giving a slot back");
}

static void feed_free(bif_device *device, int slot)
{
    check(slot);
    BIF_CUDA_MUST(cudaEventSynchronize(bif_more_of(device)->copied[slot]), "waiting for a copy");
}

extern "C" bool bif_cuda_feed_open(bif_device *device)
{
    bif_cuda_more *more = bif_more_of(device);
    device->alloc_host = alloc_host;
    device->release_host = release_host;
    device->feed = feed;
    device->feed_wait = feed_wait;
    device->feed_done = feed_done;
    device->feed_free = feed_free;
    for (int slot = 0; slot < BIF_SLOTS; slot++) {
        if (cudaEventCreateWithFlags(&more->copied[slot], cudaEventDisableTiming) != cudaSuccess ||
            cudaEventCreateWithFlags(&more->done[slot], cudaEventDisableTiming) != cudaSuccess) {
            return false;
        }
    }
    return true;
}

extern "C" void bif_cuda_feed_close(bif_device *device)
{
    bif_cuda_more *more = bif_more_of(device);
    for (int slot = 0; slot < BIF_SLOTS; slot++) {
        if (more->copied[slot] != NULL) {
            (void)cudaEventDestroy(more->copied[slot]);
        }
        if (more->done[slot] != NULL) {
            (void)cudaEventDestroy(more->done[slot]);
        }
    }
}
