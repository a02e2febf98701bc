/* Recording sequences of ops as CUDA graphs: a micro-step of a small model is thousands of launches of a few microseconds each, which the
 * host can hardly call as fast as the GPU ends them; a graph is one call.
 *
 * A key runs as usual when it first comes (what kernels need to set up is done then), is captured when it comes again, and launched from
 * then on. Ragged batches bring keys that never come again, so being seen costs a number in a table and only what repeats takes one of the
 * graphs. */
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "kernels/device_cuda.cuh"

static bif_recording *find(bif_recorder *r, uint64_t key)
{
    for (int i = 0; i < BIF_RECORDINGS; i++) {
        if (r->kept[i].used > 0 && r->kept[i].key == key) {
            return &r->kept[i];
        }
    }
    return NULL;
}

static void drop(bif_recording *recording)
{
    if (recording->graph != NULL) {
        BIF_CUDA_MUST(cudaGraphExecDestroy(recording->graph), "forgetting a graph");
    }
    memset(recording, 0, sizeof *recording);
}

/* A free place, else that of the graph unused for longest. */
static bif_recording *make_room(bif_recorder *r)
{
    bif_recording *oldest = &r->kept[0];
    for (int i = 1; i < BIF_RECORDINGS; i++) {
        oldest = r->kept[i].used < oldest->used ? &r->kept[i] : oldest;
    }
    drop(oldest);
    return oldest;
}

static bool record_begin(bif_device *device, uint64_t key)
{
    bif_cuda *cuda = bif_cuda_of(device);
    bif_recorder *r = &bif_more_of(device)->recorder;
    BIF_BUG_IF(r->capturing, "a recording within a recording");
    if (!r->on) {
        return true;
    }
    bif_recording *recording = find(r, key);
    if (recording != NULL) {
        recording->used = ++r->clock;
        if (recording->graph != NULL) {
            BIF_CUDA_MUST(cudaGraphLaunch(recording->graph, cuda->stream), "launching a graph");
        }
        return recording->graph == NULL;
    }
    uint64_t *seen = &r->seen[key % BIF_SEEN];
    if (*seen == key) {
        r->key = key;
        r->capturing = cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
        (void)cudaGetLastError(); /* or the next launch would be blamed for it */
    }
    *seen = key;
    return true;
}

static bool record_end(bif_device *device)
{
    bif_cuda *cuda = bif_cuda_of(device);
    bif_recorder *r = &bif_more_of(device)->recorder;
    if (!r->capturing) {
        return false;
    }
    r->capturing = false;
    cudaGraph_t graph = NULL;
    cudaError_t result = cudaStreamEndCapture(cuda->stream, &graph);
    bif_recording *recording = make_room(r); /* not before: a graph is not destroyed within a capture */
    recording->key = r->key;
    recording->used = ++r->clock;
    if (result == cudaSuccess) {
        result = cudaGraphInstantiate(&recording->graph, graph, 0);
        BIF_CUDA_MUST(cudaGraphDestroy(graph), "recording");
    }
    if (result == cudaSuccess) {
        BIF_CUDA_MUST(cudaGraphLaunch(recording->graph, cuda->stream), "launching a graph");
        return false;
    }
    (void)cudaGetLastError();
    recording->graph = NULL;
    if (!r->warned) {
        bif_warn("%s: a step could not be recorded as a graph (%s); it goes on without", device->name, cudaGetErrorString(result));
        r->warned = true;
    }
    return true;
}

extern "C" void bif_cuda_record_open(bif_device *device)
{
    const char *wish = getenv("BIFOCAL_CUDA_GRAPHS");
    bif_more_of(device)->recorder.on = wish == NULL || strcmp(wish, "0") != 0;
    device->record_begin = record_begin;
    device->record_end = record_end;
}

extern "C" void bif_cuda_record_forget(bif_device *device)
{
    bif_recorder *r = &bif_more_of(device)->recorder;
    for (int i = 0; i < BIF_RECORDINGS; i++) {
        drop(&r->kept[i]);
    }
    memset(r->seen, 0, sizeof r->seen);
}
