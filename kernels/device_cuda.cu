/* The CUDA device: memory, start-up and the table of ops. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/attention_cudnn.cuh"
#include "kernels/device_cuda.cuh"
#include "kernels/gemm_cuda.cuh"

static const size_t WORKSPACE = (size_t)32 << 20, SCRATCH = (size_t)64 << 20;

/* ---- the table; an op without a kernel does not link ---- */

extern "C" {
#define X(op) void bif_cuda_##op(bif_device *device, const bif_##op##_args *args);
BIF_OPS(X)
#undef X
void bif_cuda_axpy(bif_device *device, float alpha, const bif_tensor *x, bif_tensor *y);
void bif_cuda_scale(bif_device *device, float alpha, bif_tensor *x);
double bif_cuda_sumsq(bif_device *device, const bif_tensor *x);
void bif_cuda_sum(bif_device *device, const bif_tensor *x, bif_tensor *sum);
}

static const bif_ops_table cuda_table = {
#define X(op) bif_cuda_##op,
    BIF_OPS(X)
#undef X
    bif_cuda_axpy, bif_cuda_scale, bif_cuda_sumsq, bif_cuda_sum,
};

/* ---- memory, all in the order of the device's stream ---- */

static void cuda_sync(bif_device *device)
{
    BIF_CUDA_MUST(cudaStreamSynchronize(bif_cuda_of(device)->stream), "waiting for the device");
}

/* Cleared before anybody has it: the input stream knows nothing of the other. */
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
    BIF_CUDA_MUST(cudaMemsetAsync(*out, 0, bytes, bif_cuda_of(device)->stream), "clearing memory");
    cuda_sync(device);
    return BIF_OK;
}

/* A recording may name what is released, and the address comes back with other contents. */
static void cuda_release(bif_device *device, void *memory)
{
    if (memory == NULL) {
        return;
    }
    cuda_sync(device);
    bif_cuda_record_forget(device);
    BIF_CUDA_MUST(cudaFree(memory), "releasing memory");
}

static void cuda_zero(bif_device *device, void *memory, size_t bytes)
{
    if (bytes > 0) {
        BIF_CUDA_MUST(cudaMemsetAsync(memory, 0, bytes, bif_cuda_of(device)->stream), "clearing memory");
    }
}

static void cuda_copy(bif_device *device, void *to, const void *from, size_t bytes)
{
    if (bytes > 0) {
        BIF_CUDA_MUST(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, bif_cuda_of(device)->stream), "copying on the device");
    }
}

static void cuda_copy_in(bif_device *device, void *to, const void *host, size_t bytes)
{
    if (bytes > 0) {
        BIF_CUDA_MUST(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, bif_cuda_of(device)->stream), "copying to the device");
        cuda_sync(device);
    }
}

static void cuda_copy_out(bif_device *device, void *host, const void *from, size_t bytes)
{
    if (bytes > 0) {
        BIF_CUDA_MUST(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, bif_cuda_of(device)->stream), "copying from the device");
        cuda_sync(device);
    }
}

static size_t cuda_free_bytes(bif_device *)
{
    size_t available = 0, total = 0;
    BIF_CUDA_MUST(cudaMemGetInfo(&available, &total), "asking for free memory");
    return available;
}

extern "C" void *bif_cuda_stream(const bif_device *device)
{
    return bif_cuda_of(device)->stream;
}

/* ---- opening ---- */

/* Also of a device that was opened by half. */
static void cuda_close(bif_device *device)
{
    bif_cuda *cuda = bif_cuda_of(device);
    if (cuda->stream != NULL) {
        (void)cudaStreamSynchronize(cuda->stream);
    }
    bif_cuda_record_forget(device);
    bif_cuda_feed_close(device);
    bif_cudnn_release(device);
    if (cuda->blas != NULL) {
        bif_cuda_gemm_release(cuda);
        (void)cublasLtDestroy(cuda->blas);
    }
    (void)cudaFree(cuda->workspace);
    (void)cudaFree(cuda->scratch);
    if (cuda->stream != NULL) {
        (void)cudaStreamDestroy(cuda->stream);
    }
    if (cuda->input != NULL) {
        (void)cudaStreamDestroy(cuda->input);
    }
    free(cuda->more);
    free(cuda);
    free(device);
}

/* What the ops need beside the tensors. */
static bif_status prepare(bif_device *device)
{
    bif_cuda *cuda = bif_cuda_of(device);
    cudaError_t result = cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking);
    result = result != cudaSuccess ? result : cudaStreamCreateWithFlags(&cuda->input, cudaStreamNonBlocking);
    result = result != cudaSuccess ? result : cudaMalloc(&cuda->workspace, WORKSPACE);
    result = result != cudaSuccess ? result : cudaMalloc(&cuda->scratch, SCRATCH);
    cuda->workspace_bytes = WORKSPACE;
    cuda->scratch_bytes = SCRATCH;
    if (result != cudaSuccess || !bif_cuda_feed_open(device)) {
        const char *why = cudaGetErrorString(result != cudaSuccess ? result : cudaGetLastError());
        (void)cudaGetLastError();
        return bif_fail(BIF_ERR_MEMORY, "%s: no room for %zu MiB of working memory (%s); use another GPU", device->name,
                        (WORKSPACE + SCRATCH) >> 20, why);
    }
    const cublasStatus_t status = cublasLtCreate(&cuda->blas);
    if (status != CUBLAS_STATUS_SUCCESS) {
        cuda->blas = NULL;
        return bif_fail(BIF_ERR_USAGE, "%s: cuBLASLt does not start (status %d); check that its library fits the driver", device->name,
                        (int)status);
    }
    bif_cuda_record_open(device);
    return BIF_OK;
}

static void fill_in(bif_device *device)
{
    device->kind = BIF_DEVICE_CUDA;
    device->ops = &cuda_table;
    device->alloc = cuda_alloc;
    device->release = cuda_release;
    device->zero = cuda_zero;
    device->copy = cuda_copy;
    device->copy_in = cuda_copy_in;
    device->copy_out = cuda_copy_out;
    device->sync = cuda_sync;
    device->free_bytes = cuda_free_bytes;
    device->close = cuda_close;
}

extern "C" int bif_cuda_count(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return count;
}

bif_status bif_device_open_cuda(int index, bif_device **out)
{
    *out = NULL;
    int count = 0;
    cudaError_t result = cudaGetDeviceCount(&count);
    if (result != cudaSuccess || count == 0) {
        (void)cudaGetLastError();
        return bif_fail(BIF_ERR_USAGE, "no usable GPU: %s; use device: cpu (--device cpu)",
                        result == cudaSuccess || result == cudaErrorNoDevice ? "none is visible"
                        : result == cudaErrorInsufficientDriver              ? "there is no NVIDIA driver, or one older than this build's CUDA"
                                                                             : cudaGetErrorString(result));
    }
    if (index >= count) {
        return bif_fail(BIF_ERR_USAGE, "cuda:%d does not exist, this machine shows %d GPU%s; use cuda:0 to cuda:%d", index, count,
                        count == 1 ? "" : "s", count - 1);
    }
    index = index < 0 ? 0 : index;
    cudaDeviceProp properties;
    if ((result = cudaSetDevice(index)) != cudaSuccess || (result = cudaGetDeviceProperties(&properties, index)) != cudaSuccess) {
        return bif_fail(BIF_ERR_USAGE, "cuda:%d cannot be used: %s; use another GPU or device: cpu", index, cudaGetErrorString(result));
    }
    if (properties.major < 8) { /* no bf16 tensor cores before */
        return bif_fail(BIF_ERR_USAGE, "cuda:%d is %.80s of compute capability %d.%d; 8.0 (A100) or newer is needed: use another GPU or "
                        "device: cpu",
                        index, properties.name, properties.major, properties.minor);
    }
    bif_device *device = (bif_device *)bif_calloc(1, sizeof *device);
    bif_cuda *cuda = (bif_cuda *)bif_calloc(1, sizeof *cuda);
    cuda->more = bif_calloc(1, sizeof(bif_cuda_more));
    cuda->index = index;
    cuda->multiprocessors = properties.multiProcessorCount;
    device->state = cuda;
    snprintf(device->name, sizeof device->name, "cuda:%d %.78s", index, properties.name);
    fill_in(device);
    const bif_status st = prepare(device);
    if (st != BIF_OK) {
        cuda_close(device);
        return st;
    }
    *out = device;
    return BIF_OK;
}
