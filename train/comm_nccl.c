/* Tensors between GPUs through NCCL; MPI only brings the ranks together. In builds with CUDA and NCCL.
 *
 * The communicator does not block: a call that has to talk to other ranks first says so, and is asked again until it is through or the time
 * limit is over. So a rank that died leaves the others with a message and not with a GPU that waits for ever. */
#include <cuda_runtime.h>
#include <nccl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "kernels/device_cuda.h"
#include "train/comm_device.h"

#if NCCL_VERSION_CODE < 21400
#error "NCCL 2.14 or newer is needed (communicators that do not block); build with -DBIFOCAL_NCCL=OFF"
#endif

typedef struct {
    bif_comm_device entry; /* first: the rest of bif_comm sees only this */
    bif_comm *comm;
    int rank, world;
    double limit; /* seconds */
    ncclComm_t nccl;
    cudaStream_t stream; /* of the device's ops */
    cudaStream_t side;   /* of sums that run beside them */
    cudaEvent_t ready, reduced, passed;
} gpus;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double limit_seconds(void)
{
    const char *text = getenv("BIFOCAL_NCCL_TIMEOUT");
    const double seconds = text == NULL ? 0.0 : strtod(text, NULL);
    return seconds > 0.0 ? seconds : 600.0;
}

/* Politely: a loader thread may want the core. */
static void pause_since(double start)
{
    if (now() - start < 1e-3) {
        sched_yield();
    } else {
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
}

static const char *reason(const gpus *g, ncclResult_t result)
{
    const char *detail = g->nccl != NULL ? ncclGetLastError(g->nccl) : NULL;
    return result == ncclInProgress                  ? "no answer within the time limit of BIFOCAL_NCCL_TIMEOUT"
           : detail != NULL && detail[0] != '\0' ? detail
                                                     : ncclGetErrorString(result);
}

/* What a call comes to in the end; ncclInProgress: the time is over. */
static ncclResult_t settle(const gpus *g, ncclResult_t result)
{
    const double start = now();
    while (result == ncclInProgress && now() - start < g->limit) {
        pause_since(start);
        const ncclResult_t asked = ncclCommGetAsyncError(g->nccl, &result);
        result = asked != ncclSuccess ? asked : result;
    }
    return result;
}

/* Trouble in the middle of a step: no other rank can know of it, and their GPUs wait. */
static void give_up(gpus *g, const char *what, const char *why)
{
    bif_warn("NCCL, %s: %s; ending all ranks (NCCL_DEBUG=INFO says more)", what, why);
    if (g->nccl != NULL) {
        (void)ncclCommAbort(g->nccl);
    }
    bif_comm_abort(g->comm, BIF_ERR_IO);
}

static void must(gpus *g, ncclResult_t result, const char *what)
{
    result = settle(g, result);
    if (result != ncclSuccess) {
        give_up(g, what, reason(g, result));
    }
}

static void must_cuda(cudaError_t result, const char *what)
{
    BIF_BUG_IF(result != cudaSuccess, "cuda: %s: %s", what, cudaGetErrorString(result));
}

static void reduce_scatter(bif_comm_device *self, bif_tensor *x)
{
    gpus *g = (gpus *)self;
    const int64_t part = bif_numel(x) / g->world;
    float *data = x->data;
    must(g, ncclReduceScatter(data, data + part * g->rank, (size_t)part, ncclFloat, ncclSum, g->nccl, g->stream), "reduce-scatter");
}

static void allgather(bif_comm_device *self, bif_tensor *x)
{
    gpus *g = (gpus *)self;
    const size_t bytes = bif_bytes(x) / (size_t)g->world;
    char *data = x->data;
    must(g, ncclAllGather(data + bytes * (size_t)g->rank, data, bytes, ncclUint8, g->nccl, g->stream), "all-gather");
}

/* Each piece goes to the rank that owns that part of x; a reduce moves as many bytes over a link as its share of a reduce-scatter. */
static void reduce_begin(bif_comm_device *self, bif_tensor *x, int64_t from, int64_t to)
{
    gpus *g = (gpus *)self;
    const int64_t part = bif_numel(x) / g->world;
    float *data = x->data;
    must_cuda(cudaEventRecord(g->ready, g->stream), "a sum beside the ops");
    must_cuda(cudaStreamWaitEvent(g->side, g->ready, 0), "a sum beside the ops");
    ncclResult_t result = ncclGroupStart();
    for (int64_t at = from, end; at < to && result == ncclSuccess; at = end) {
        const int64_t owner = at / part;
        end = (owner + 1) * part < to ? (owner + 1) * part : to;
        result = ncclReduce(data + at, data + at, (size_t)(end - at), ncclFloat, ncclSum, (int)owner, g->nccl, g->side);
        result = result == ncclInProgress ? ncclSuccess : result; /* within a group that is not known before its end */
    }
    must(g, result, "sum of gradients");
    must(g, ncclGroupEnd(), "sum of gradients");
}

static void reduce_end(bif_comm_device *self)
{
    gpus *g = (gpus *)self;
    must_cuda(cudaEventRecord(g->reduced, g->side), "waiting for a sum");
    must_cuda(cudaStreamWaitEvent(g->stream, g->reduced, 0), "waiting for a sum");
}

static void wait_passed(bif_comm_device *self)
{
    gpus *g = (gpus *)self;
    const double start = now();
    must_cuda(cudaEventRecord(g->passed, g->stream), "waiting for the device");
    for (;;) {
        const cudaError_t done = cudaEventQuery(g->passed);
        ncclResult_t result = ncclSuccess;
        if (done == cudaSuccess) {
            return;
        }
        if (done != cudaErrorNotReady) {
            must_cuda(done, "waiting for the device");
        }
        if (ncclCommGetAsyncError(g->nccl, &result) != ncclSuccess || (result != ncclSuccess && result != ncclInProgress)) {
            give_up(g, "waiting for the other ranks", reason(g, result));
        }
        if (now() - start > g->limit) {
            give_up(g, "waiting for the other ranks", reason(g, ncclInProgress));
        }
        pause_since(start);
    }
}

static void destroy_streams(gpus *g)
{
    cudaEvent_t events[] = {g->ready, g->reduced, g->passed};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (events[i] != NULL) {
            (void)cudaEventDestroy(events[i]);
        }
    }
    if (g->side != NULL) {
        (void)cudaStreamDestroy(g->side);
    }
}

/* Not collective: after a failure the others may be gone, so the communicator is ended and not wound up. */
static void close_all(bif_comm_device *self)
{
    gpus *g = (gpus *)self;
    if (g->nccl != NULL) {
        (void)ncclCommAbort(g->nccl);
    }
    destroy_streams(g);
    free(g);
}

/* ---- starting ---- */

/* NCCL cannot put two ranks on one GPU. A rank may see only some of its node's GPUs, so their numbers do not tell; their UUIDs do. */
static bif_status own_gpus(bif_comm *comm)
{
    bif_status st = BIF_OK;
    int index = 0;
    struct cudaDeviceProp properties;
    char **ids = NULL;
    size_t *sizes = NULL;
    must_cuda(cudaGetDevice(&index), "asking for the GPU");
    must_cuda(cudaGetDeviceProperties(&properties, index), "asking for the GPU");
    bif_comm_gather_bytes(comm, &properties.uuid, sizeof properties.uuid, &ids, &sizes);
    const int world = ids == NULL ? 0 : bif_comm_world(comm);
    for (int r = 1; r < world && st == BIF_OK; r++) {
        for (int s = 0; s < r && st == BIF_OK; s++) {
            if (memcmp(ids[r], ids[s], sizeof properties.uuid) == 0) {
                st = bif_fail(BIF_ERR_USAGE, "ranks %d and %d have the same GPU, and NCCL needs one for each; start as many ranks on a "
                              "node as it has GPUs and set device: cuda", s, r);
            }
        }
    }
    for (int r = 0; r < world; r++) {
        free(ids[r]);
    }
    free(ids);
    free(sizes);
    return bif_comm_agree(comm, st);
}

static bif_status make_streams(gpus *g)
{
    cudaError_t result = cudaStreamCreateWithFlags(&g->side, cudaStreamNonBlocking);
    cudaEvent_t *events[] = {&g->ready, &g->reduced, &g->passed};
    for (size_t i = 0; i < sizeof events / sizeof *events && result == cudaSuccess; i++) {
        result = cudaEventCreateWithFlags(events[i], cudaEventDisableTiming);
    }
    return result == cudaSuccess ? BIF_OK : bif_fail(BIF_ERR_MEMORY, "no stream for collectives: %s", cudaGetErrorString(result));
}

static bif_status join(gpus *g, const ncclUniqueId *id)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const ncclResult_t result = settle(g, ncclCommInitRankConfig(&g->nccl, g->world, *id, g->rank, &config));
    return result == ncclSuccess
               ? BIF_OK
               : bif_fail(BIF_ERR_IO, "NCCL did not start: %s; NCCL_DEBUG=INFO says more, NCCL_SOCKET_IFNAME chooses the network",
                          reason(g, result));
}

bif_status bif_nccl_start(bif_comm *comm, bif_device *device, bif_comm_device **out)
{
    bif_status st = BIF_OK;
    ncclUniqueId id;
    gpus *g = bif_calloc(1, sizeof *g);
    *g = (gpus){
        .entry = {.reduce_scatter = reduce_scatter,
                  .allgather = allgather,
                  .reduce_begin = reduce_begin,
                  .reduce_end = reduce_end,
                  .wait = wait_passed,
                  .close = close_all},
        .comm = comm,
        .rank = bif_comm_rank(comm),
        .world = bif_comm_world(comm),
        .limit = limit_seconds(),
        .stream = bif_cuda_stream(device),
    };
    *out = NULL;
    memset(&id, 0, sizeof id);
    BIF_TRY(own_gpus(comm));
    BIF_TRY(bif_comm_agree(comm, make_streams(g)));
    const ncclResult_t made = g->rank == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    BIF_TRY(bif_comm_agree(comm, made == ncclSuccess ? BIF_OK : bif_fail(BIF_ERR_IO, "NCCL did not start: %s", reason(g, made))));
    bif_comm_broadcast(comm, &id, sizeof id, 0);
    BIF_TRY(bif_comm_agree(comm, join(g, &id)));
    *out = &g->entry;
done:
    if (st != BIF_OK) {
        close_all(&g->entry);
    }
    return st;
}
