/* The CUDA runtime's functions on the host. Work runs when it is submitted, unless its stream is being captured: then it is kept in
 * the graph and runs at each cudaGraphLaunch. One thing comes late, as late as a GPU may do it: copies from the host on a stream that does nothing
 * else wait until somebody waits for them, so that who forgot to computes with what was there before. A wrong argument gives the error that CUDA gives; use of memory that a GPU would answer with
 * a lost context is a fault (emu_fault). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <mutex>

#include "emu_internal.h"

struct emu_graph {
    std::vector<std::function<void()>> work;
};
struct emu_stream {
    emu_graph *capture; /* NULL: not capturing */
    bool origin;        /* the capture began here */
    bool computes;      /* it has done other things than copies from the host */
    std::deque<std::function<void()>> late;
    uint64_t taken, done; /* copies put into `late`, and run */
};
struct emu_event {
    double seconds;
    bool recorded;
    emu_graph *capture;
    emu_stream *stream; /* whose late copies up to the ticket it stands for */
    uint64_t ticket;
};

typedef struct {
    size_t bytes;
    int number;
    emu_space space;
    bool registered; /* the host's own memory */
} block;

static std::recursive_mutex mutex;
static std::map<uintptr_t, block> blocks;
static int next_number = 1;
static cudaError_t last_error = cudaSuccess;
static int64_t allocations, bytes_held, syncs, copies_in, copies_out, launches, limit;

emu_lock::emu_lock() { mutex.lock(); }
emu_lock::~emu_lock() { mutex.unlock(); }

extern "C" int64_t emu_allocations(void) { return allocations; }
extern "C" int64_t emu_bytes_held(void) { return bytes_held; }
extern "C" int64_t emu_blocks_held(void) { return (int64_t)blocks.size(); }
extern "C" int64_t emu_syncs(void) { return syncs; }
extern "C" int64_t emu_copies_in(void) { return copies_in; }
extern "C" int64_t emu_copies_out(void) { return copies_out; }
extern "C" int64_t emu_launches(void) { return launches; }
extern "C" void emu_limit_memory(int64_t bytes) { limit = bytes; }

void emu_count_launch(void) { launches++; }

void emu_count_copy(bool to_device, bool from_device, bool wait)
{
    copies_in += to_device && !from_device;
    copies_out += from_device && !to_device;
    syncs += wait && from_device && !to_device;
}

/* ---- faults and errors ---- */

extern "C" char __executable_start, etext;

void emu_fault(const void *pc, const char *format, ...)
{
    va_list list;
    fflush(NULL);
    fputs("emu: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    const uintptr_t at = (uintptr_t)pc - (uintptr_t)&__executable_start;
    if (pc != NULL && at < (uintptr_t)&etext - (uintptr_t)&__executable_start) {
        char command[200];
        snprintf(command, sizeof command, "addr2line -Cfpise /proc/%d/exe 0x%zx | sed 's/^/emu:   in /' >&2", (int)getpid(),
                 (size_t)at - 1);
        fflush(stderr);
        if (system(command) != 0) {
            fprintf(stderr, "emu:   at 0x%zx of the program\n", (size_t)at);
        }
    }
    abort();
}

void emu_set_error(cudaError_t error)
{
    last_error = error;
}

static cudaError_t result(cudaError_t error)
{
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

extern "C" cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

extern "C" cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "capture was not initiated in this stream"},
};

extern "C" const char *cudaGetErrorString(cudaError_t error)
{
    for (const auto &e : errors) {
        if (e.error == error) {
            return e.text;
        }
    }
    return "unknown error";
}

extern "C" const char *cudaGetErrorName(cudaError_t error)
{
    for (const auto &e : errors) {
        if (e.error == error) {
            return e.name;
        }
    }
    return "cudaErrorUnknown";
}

/* ---- the device ---- */

extern "C" cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}
extern "C" cudaError_t cudaSetDevice(int device) { return result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
extern "C" cudaError_t cudaSetDeviceFlags(unsigned) { return cudaSuccess; }
extern "C" cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (device != 0) {
        return result(cudaErrorInvalidDevice);
    }
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated GPU");
    const pid_t owner = getpid(); /* each process has its own */
    memcpy(p->uuid.bytes, &owner, sizeof owner);
    p->totalGlobalMem = EMU_DEVICE_BYTES;
    p->sharedMemPerBlock = EMU_SHARED_DEFAULT;
    p->sharedMemPerBlockOptin = EMU_SHARED_MOST;
    p->sharedMemPerMultiprocessor = EMU_SHARED_MOST + 1024;
    p->reservedSharedMemPerBlock = 1024;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = EMU_MAX_THREADS;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxBlocksPerMultiProcessor = 32;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->major = 9;
    p->multiProcessorCount = 4;
    p->l2CacheSize = 1 << 20;
    p->memoryBusWidth = 64;
    p->asyncEngineCount = 1;
    p->canMapHostMemory = p->unifiedAddressing = p->concurrentKernels = 1;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, device) != cudaSuccess) {
        return cudaErrorInvalidDevice;
    }
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    default: return result(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int)
{
    snprintf(text, (size_t)size, "0000:00:00.0");
    return cudaSuccess;
}
extern "C" cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}
extern "C" cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
extern "C" cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }
extern "C" cudaError_t cudaDeviceReset(void) { return cudaSuccess; }

extern "C" cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = limit > 0 ? (size_t)limit : EMU_DEVICE_BYTES;
    *available = (size_t)bytes_held < *total ? *total - (size_t)bytes_held : 0;
    return cudaSuccess;
}

/* ---- allocations ---- */

static bool capturing_now;

emu_space emu_space_of(const void *at, int *number, size_t *offset, size_t *left)
{
    std::map<uintptr_t, block>::iterator it = blocks.upper_bound((uintptr_t)at);
    if (it == blocks.begin()) {
        return EMU_HOST;
    }
    --it;
    if ((uintptr_t)at - it->first >= it->second.bytes) {
        return EMU_HOST;
    }
    *number = it->second.number;
    *offset = (uintptr_t)at - it->first;
    *left = it->second.bytes - *offset;
    return it->second.space;
}

static emu_space space_of(const void *at)
{
    int number;
    size_t offset, left;
    return emu_space_of(at, &number, &offset, &left);
}

static cudaError_t take(void **out, size_t bytes, emu_space space)
{
    emu_lock lock;
    *out = NULL;
    if (bytes == 0) {
        return cudaSuccess;
    }
    if (capturing_now) {
        return result(cudaErrorStreamCaptureUnsupported);
    }
    if (bytes > EMU_DEVICE_BYTES || (limit > 0 && bytes_held + (int64_t)bytes > limit)) {
        return result(cudaErrorMemoryAllocation);
    }
    *out = emu_memory_take(bytes, next_number, space);
    if (*out == NULL) {
        return result(cudaErrorMemoryAllocation);
    }
    blocks[(uintptr_t)*out] = {bytes, next_number++, space, false};
    allocations++;
    bytes_held += (int64_t)bytes;
    return cudaSuccess;
}

static cudaError_t give(void *memory, emu_space space)
{
    emu_lock lock;
    if (memory == NULL) {
        return cudaSuccess;
    }
    std::map<uintptr_t, block>::iterator it = blocks.find((uintptr_t)memory);
    if (it == blocks.end() || it->second.space != space || it->second.registered) {
        return result(cudaErrorInvalidValue);
    }
    if (capturing_now) {
        return result(cudaErrorStreamCaptureUnsupported);
    }
    bytes_held -= (int64_t)it->second.bytes;
    const size_t bytes = it->second.bytes;
    blocks.erase(it);
    emu_memory_give(memory, bytes);
    return cudaSuccess;
}

extern "C" cudaError_t cudaMalloc(void **out, size_t bytes) { return take(out, bytes, EMU_DEVICE); }
extern "C" cudaError_t cudaMallocAsync(void **out, size_t bytes, cudaStream_t) { return take(out, bytes, EMU_DEVICE); }
extern "C" cudaError_t cudaMallocHost(void **out, size_t bytes) { return take(out, bytes, EMU_PINNED); }
extern "C" cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) { return take(out, bytes, EMU_PINNED); }
static void drain_all(void);
/* Waits for the device, as CUDA does. */
extern "C" cudaError_t cudaFree(void *memory)
{
    drain_all();
    return give(memory, EMU_DEVICE);
}
extern "C" cudaError_t cudaFreeAsync(void *memory, cudaStream_t) { return give(memory, EMU_DEVICE); }
extern "C" cudaError_t cudaFreeHost(void *memory)
{
    drain_all();
    return give(memory, EMU_PINNED);
}

extern "C" cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned)
{
    emu_lock lock;
    if (memory == NULL || bytes == 0 || space_of(memory) != EMU_HOST) {
        return result(cudaErrorInvalidValue);
    }
    blocks[(uintptr_t)memory] = {bytes, next_number++, EMU_PINNED, true};
    return cudaSuccess;
}

extern "C" cudaError_t cudaHostUnregister(void *memory)
{
    emu_lock lock;
    std::map<uintptr_t, block>::iterator it = blocks.find((uintptr_t)memory);
    if (it == blocks.end() || !it->second.registered) {
        return result(cudaErrorInvalidValue);
    }
    blocks.erase(it);
    return cudaSuccess;
}

extern "C" cudaError_t cudaHostGetDevicePointer(void **out, void *memory, unsigned)
{
    *out = memory;
    return result(space_of(memory) == EMU_PINNED ? cudaSuccess : cudaErrorInvalidValue);
}

extern "C" cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *pointer)
{
    emu_lock lock;
    const emu_space space = space_of(pointer);
    a->type = space == EMU_DEVICE ? cudaMemoryTypeDevice : space == EMU_PINNED ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    a->device = 0;
    a->devicePointer = space == EMU_HOST ? NULL : (void *)pointer;
    a->hostPointer = space == EMU_DEVICE ? NULL : (void *)pointer;
    return cudaSuccess;
}

/* ---- streams ---- */

static emu_stream legacy;
static std::vector<emu_stream *> streams;

static emu_stream *stream_of(cudaStream_t stream)
{
    return stream == NULL || stream == cudaStreamLegacy || stream == cudaStreamPerThread ? &legacy : stream;
}

/* Runs a stream's late copies up to the ticket. */
static void drain(emu_stream *s, uint64_t ticket)
{
    while (s->done < ticket && !s->late.empty()) {
        std::function<void()> work = std::move(s->late.front());
        s->late.pop_front();
        s->done++;
        work();
    }
}

static void drain_all(void)
{
    for (emu_stream *s : streams) {
        drain(s, s->taken);
    }
}

void emu_submit_late(cudaStream_t stream, const char *what, std::function<void()> work)
{
    emu_stream *s = stream_of(stream);
    if (s == &legacy || s->capture != NULL || s->computes) {
        emu_submit(stream, what, std::move(work));
        return;
    }
    s->taken++;
    s->late.push_back(std::move(work));
}

void emu_submit(cudaStream_t stream, const char *what, std::function<void()> work)
{
    emu_stream *s = stream_of(stream);
    if (s->capture != NULL) {
        s->capture->work.push_back(std::move(work));
        return;
    }
    if (capturing_now && s == &legacy) {
        fprintf(stderr, "emu: %s on the default stream while another stream is being captured\n", what);
        result(cudaErrorStreamCaptureUnsupported);
        return;
    }
    s->computes = true;
    drain(s, s->taken);
    work();
}

static cudaError_t wait(void)
{
    emu_lock lock;
    if (capturing_now) {
        return result(cudaErrorStreamCaptureUnsupported);
    }
    syncs++;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceSynchronize(void)
{
    drain_all();
    return wait();
}
extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    drain(stream_of(stream), stream_of(stream)->taken);
    return wait();
}
extern "C" cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
extern "C" cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned, int)
{
    emu_lock lock;
    *out = new emu_stream();
    streams.push_back(*out);
    return cudaSuccess;
}
extern "C" cudaError_t cudaStreamCreate(cudaStream_t *out) { return cudaStreamCreateWithPriority(out, 0, 0); }
extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) { return cudaStreamCreateWithPriority(out, 0, 0); }
extern "C" cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (stream_of(stream) == &legacy) {
        return result(cudaErrorInvalidResourceHandle);
    }
    emu_lock lock;
    for (size_t i = 0; i < streams.size(); i++) {
        if (streams[i] == stream) {
            drain(stream, stream->taken);
            streams.erase(streams.begin() + (ptrdiff_t)i);
            delete stream;
            return cudaSuccess;
        }
    }
    return result(cudaErrorInvalidResourceHandle);
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    emu_stream *s = stream_of(stream);
    if (event->capture != NULL && s->capture == NULL) {
        s->capture = event->capture; /* the capture takes this stream in */
    }
    if (event->stream != NULL) {
        drain(event->stream, event->ticket);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = new emu_event();
    return cudaSuccess;
}
extern "C" cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }
extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->capture = stream_of(stream)->capture;
    event->stream = stream_of(stream);
    event->ticket = event->stream->taken;
    event->seconds = now();
    event->recorded = true;
    return cudaSuccess;
}
extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->stream != NULL) {
        drain(event->stream, event->ticket);
    }
    return wait();
}
extern "C" cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
extern "C" cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    if (!start->recorded || !end->recorded) {
        return result(cudaErrorInvalidResourceHandle);
    }
    *milliseconds = (float)((end->seconds - start->seconds) * 1e3);
    return cudaSuccess;
}

/* ---- graphs ---- */

static bool fail_capture; /* of a test: the next one */

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    emu_lock lock;
    emu_stream *s = stream_of(stream);
    if (s == &legacy || capturing_now) {
        return result(cudaErrorStreamCaptureUnsupported);
    }
    s->capture = new emu_graph();
    s->origin = capturing_now = true;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    emu_lock lock;
    emu_stream *s = stream_of(stream);
    *out = NULL;
    if (!s->origin) {
        return result(cudaErrorStreamCaptureUnmatched);
    }
    *out = s->capture;
    for (emu_stream *other : streams) { /* those that joined */
        other->capture = other->capture == *out ? NULL : other->capture;
    }
    s->origin = capturing_now = false;
    if (fail_capture) {
        fail_capture = false;
        delete *out;
        *out = NULL;
        return result(cudaErrorStreamCaptureInvalidated);
    }
    return cudaSuccess;
}

extern "C" void emu_fail_capture(void) { fail_capture = true; }

extern "C" cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    *status = stream_of(stream)->capture != NULL ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    *out = new emu_graph(*graph);
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t)
{
    emu_lock lock;
    for (const std::function<void()> &work : graph->work) {
        work();
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
extern "C" cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaGraphDestroy(graph); }
