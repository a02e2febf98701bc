/* The CUDA device: memory and start-up. Its table of ops has no kernels in this version, so opening it ends with a message. */
#include <cuda_runtime.h>
#include <cstdio>
#include <cstdlib>

#include "kernels/device_cuda.h"
#include "kernels/ops.h"

static const bif_ops_table cuda_table = {};

/* A CUDA call that fails outside of opening and allocation: the driver or a kernel broke, and nothing computed can be trusted. */
static void must(cudaError_t result, const char *what)
{
    BIF_BUG_IF(result != cudaSuccess, "cuda: %s: %s", what, cudaGetErrorString(result));
}

static bif_status cuda_alloc(bif_device *device, size_t bytes, void **out)
{
    *out = NULL;
    if (bytes == 0) {
        bytes = 1;
    }
    cudaError_t result = cudaMalloc(out, bytes);
    if (result != cudaSuccess) {
        *out = NULL;
        (void)cudaGetLastError();
        return bif_fail(BIF_ERR_MEMORY, "%s: %zu bytes (%.1f GiB) of memory are not to be had (%s); use a smaller batch or model",
                        device->name, bytes, (double)bytes / (double)((size_t)1 << 30), cudaGetErrorString(result));
    }
    must(cudaMemset(*out, 0, bytes), "clearing memory");
    return BIF_OK;
}

static void cuda_release(bif_device *, void *memory)
{
    must(cudaFree(memory), "releasing memory");
}

static void cuda_zero(bif_device *, void *memory, size_t bytes)
{
    must(cudaMemsetAsync(memory, 0, bytes, 0), "clearing memory");
}

static void cuda_copy(bif_device *, void *to, const void *from, size_t bytes)
{
    must(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, 0), "copying on the device");
}

static void cuda_copy_in(bif_device *, void *to, const void *host, size_t bytes)
{
    must(cudaMemcpy(to, host, bytes, cudaMemcpyHostToDevice), "copying to the device");
}

static void cuda_copy_out(bif_device *, void *host, const void *from, size_t bytes)
{
    must(cudaMemcpy(host, from, bytes, cudaMemcpyDeviceToHost), "copying from the device");
}

static void cuda_sync(bif_device *)
{
    must(cudaDeviceSynchronize(), "waiting for the device");
}

static void cuda_close(bif_device *device)
{
    free(device);
}

/* Ops the table lacks. */
static int missing_ops(const bif_ops_table *table)
{
    int missing = (table->axpy == NULL) + (table->scale == NULL) + (table->sumsq == NULL);
#define X(op) missing += table->op == NULL;
    BIF_OPS(X)
#undef X
    return missing;
}

bif_status bif_device_open_cuda(int index, bif_device **out)
{
    *out = NULL;
    int count = 0;
    cudaError_t result = cudaGetDeviceCount(&count);
    if (result != cudaSuccess || count == 0) {
        (void)cudaGetLastError();
        return bif_fail(BIF_ERR_USAGE, "no usable GPU (%s); use device: cpu", result == cudaSuccess ? "none is visible" : cudaGetErrorString(result));
    }
    if (index >= count) {
        return bif_fail(BIF_ERR_USAGE, "cuda:%d does not exist, this machine shows %d GPU%s; use cuda:0 to cuda:%d", index, count,
                        count == 1 ? "" : "s", count - 1);
    }
    if (missing_ops(&cuda_table) > 0) {
        return bif_fail(BIF_ERR_USAGE, "the CUDA device has no kernels yet in this version; use device: cpu");
    }
    index = index < 0 ? 0 : index;
    cudaDeviceProp properties;
    if ((result = cudaSetDevice(index)) != cudaSuccess || (result = cudaGetDeviceProperties(&properties, index)) != cudaSuccess) {
        return bif_fail(BIF_ERR_USAGE, "cuda:%d cannot be used: %s; use another GPU or device: cpu", index, cudaGetErrorString(result));
    }
    bif_device *device = (bif_device *)bif_calloc(1, sizeof *device);
    device->kind = BIF_DEVICE_CUDA;
    snprintf(device->name, sizeof device->name, "cuda:%d %.80s", index, properties.name);
    device->ops = &cuda_table;
    device->alloc = cuda_alloc;
    device->release = cuda_release;
    device->zero = cuda_zero;
    device->copy = cuda_copy;
    device->copy_in = cuda_copy_in;
    device->copy_out = cuda_copy_out;
    device->sync = cuda_sync;
    device->close = cuda_close;
    *out = device;
    return BIF_OK;
}
