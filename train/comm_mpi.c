/* The host backend of train/comm.h on Open MPI. Device memory is host memory here; a CUDA device brings its own backend
 * (train/comm_device.h). */
#include "train/comm_device.h"

#include <limits.h>
#include <mpi.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

struct bif_comm {
    int rank, world;
    int local, local_rank;   /* ranks on this node, and this one among them */
    bif_comm_device *device; /* of connected GPUs, else NULL */
};

#ifndef BIF_NCCL
static bif_status bif_nccl_start(bif_comm *comm, bif_device *device, bif_comm_device **out)
{
    *out = NULL;
    return bif_fail(BIF_ERR_USAGE, "%d ranks on %s need NCCL, which this bifocal was built without; use device: cpu or one rank, or build "
                    "with -DBIFOCAL_NCCL=ON", bif_comm_world(comm), device->name);
}
#endif

bif_status bif_comm_start(int *argc, char ***argv, bif_comm **out)
{
    int level = 0;
    if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS || level < MPI_THREAD_FUNNELED) {
        return bif_fail(BIF_ERR_IO, "MPI could not be started with MPI_THREAD_FUNNELED; check the Open MPI installation");
    }
    bif_comm *comm = bif_calloc(1, sizeof *comm);
    MPI_Comm_rank(MPI_COMM_WORLD, &comm->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &comm->world);
    MPI_Comm node;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &comm->local);
    MPI_Comm_rank(node, &comm->local_rank);
    MPI_Comm_free(&node);
    *out = comm;
    return BIF_OK;
}

void bif_comm_finish(bif_comm *comm)
{
    if (comm == NULL) {
        return;
    }
    bif_comm_disconnect(comm);
    MPI_Finalize();
    free(comm);
}

void bif_comm_abort(bif_comm *comm, int code)
{
    if (comm->world == 1) {
        _Exit(code); /* MPI_Abort would add its own banner to a plain error message */
    }
    MPI_Abort(MPI_COMM_WORLD, code);
}

int bif_comm_rank(const bif_comm *comm)
{
    return comm->rank;
}

int bif_comm_world(const bif_comm *comm)
{
    return comm->world;
}

int bif_comm_local_ranks(const bif_comm *comm)
{
    return comm->local;
}

int bif_comm_local_rank(const bif_comm *comm)
{
    return comm->local_rank;
}

int bif_comm_threads(const bif_comm *comm, int wanted)
{
    if (wanted > 0) {
        return wanted;
    }
    cpu_set_t cpus;
    const int cores = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    const int threads = cores / comm->local;
    return threads > 1 ? threads : 1;
}

bif_status bif_comm_open_device(const bif_comm *comm, const char *name, int threads, bif_device **out)
{
    const bool automatic = strcmp(name, "auto") == 0;
    if (threads > 0) {
        omp_set_num_threads(threads); /* what runs on the host beside the device's ops (the merging of an adapter) keeps to it too */
    }
    const int gpus = automatic || strcmp(name, "cuda") == 0 ? bif_device_gpus() : 0;
    if (gpus == 0) {
        return bif_device_open(name, threads, out);
    }
    char mine[24];
    snprintf(mine, sizeof mine, "cuda:%d", comm->local_rank % gpus);
    const bif_status st = bif_device_open(mine, threads, out);
    if (st != BIF_OK && automatic) {
        bif_warn("device auto: %s; going on with the CPU", bif_error_message());
        bif_error_clear();
        return bif_device_open("cpu", threads, out);
    }
    return st;
}

bif_status bif_comm_connect(bif_comm *comm, bif_device *device)
{
    double gpus = device->kind != BIF_DEVICE_CPU;
    if (comm->world == 1) {
        return BIF_OK;
    }
    bif_comm_sum_f64(comm, &gpus, 1);
    if (gpus > 0.0 && gpus < (double)comm->world) {
        return bif_fail(BIF_ERR_USAGE, "%.0f of %d ranks have a usable GPU and the others do not; set device: cpu, or start ranks only "
                        "where GPUs are",
                        gpus, comm->world);
    }
    return gpus > 0.0 ? bif_nccl_start(comm, device, &comm->device) : BIF_OK;
}

void bif_comm_disconnect(bif_comm *comm)
{
    if (comm->device != NULL) {
        comm->device->close(comm->device);
        comm->device = NULL;
    }
}

/* MPI 3 counts are int; longer tensors go in pieces. A power of two keeps the pieces aligned. */
static const int64_t PIECE = (int64_t)1 << 28;
/* Elements a reduce-scatter moves at a time, of all ranks together: Open MPI 4.1 multiplies count and ranks as int, and the pieces of the
 * parts are put side by side in 16 MiB of scratch. */
static const int64_t SCATTER_PIECE = (int64_t)1 << 22;
/* Elements of each rank an all-gather moves at a time; some of its algorithms double the count as int. */
static const int64_t GATHER_PIECE = (int64_t)1 << 22;

/* gather: bytes only travel, so any type of 2 or 4 bytes will do. A rank alone sends nothing, wherever its memory is. */
static void check_tensor(const bif_comm *comm, const bif_device *device, const bif_tensor *x, bool gather)
{
    BIF_BUG_IF(comm->world > 1 && device->kind != BIF_DEVICE_CPU && comm->device == NULL, "a collective on %s, which is not connected",
               device->name);
    const size_t size = bif_dtype_size(x->dtype);
    BIF_BUG_IF(gather ? size != 2 && size != 4 : x->dtype != BIF_DTYPE_F32, "collective on a tensor of %s", bif_dtype_name(x->dtype));
}

static bool on_gpu(const bif_comm *comm, const bif_device *device)
{
    return comm->device != NULL && device->kind != BIF_DEVICE_CPU;
}

static int64_t part_of(const bif_comm *comm, const bif_tensor *x)
{
    const int64_t part = bif_numel(x) / comm->world;
    BIF_BUG_IF(part * comm->world != bif_numel(x), "%lld elements do not divide by %d ranks", (long long)bif_numel(x), comm->world);
    return part;
}

void bif_comm_reduce_scatter(bif_comm *comm, bif_device *device, bif_tensor *x)
{
    check_tensor(comm, device, x, false);
    const int64_t part = part_of(comm, x);
    if (comm->world == 1 || part == 0) {
        return;
    }
    if (on_gpu(comm, device)) {
        comm->device->reduce_scatter(comm->device, x);
        return;
    }
    const int64_t most = SCATTER_PIECE / comm->world > 1 ? SCATTER_PIECE / comm->world : 1, step = part < most ? part : most;
    float *data = x->data, *scratch = bif_malloc((size_t)(step * comm->world) * sizeof *scratch);
    for (int64_t at = 0; at < part; at += step) {
        const int64_t n = part - at < step ? part - at : step;
        for (int r = 0; r < comm->world; r++) {
            memcpy(scratch + r * n, data + r * part + at, (size_t)n * sizeof *data);
        }
        MPI_Reduce_scatter_block(MPI_IN_PLACE, scratch, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        memcpy(data + comm->rank * part + at, scratch, (size_t)n * sizeof *data);
    }
    free(scratch);
}

void bif_comm_allgather(bif_comm *comm, bif_device *device, bif_tensor *x)
{
    check_tensor(comm, device, x, true);
    const int64_t part = part_of(comm, x);
    if (comm->world == 1 || part == 0) {
        return;
    }
    if (on_gpu(comm, device)) {
        comm->device->allgather(comm->device, x);
        return;
    }
    const int64_t size = (int64_t)bif_dtype_size(x->dtype);
    char *data = x->data;
    for (int64_t at = 0; at < part; at += GATHER_PIECE) {
        const int64_t n = part - at < GATHER_PIECE ? part - at : GATHER_PIECE;
        MPI_Datatype piece, spaced; /* a rank's piece, which repeats at the distance of the parts */
        MPI_Type_contiguous((int)n, size == 2 ? MPI_UINT16_T : MPI_UINT32_T, &piece);
        MPI_Type_create_resized(piece, 0, (MPI_Aint)(part * size), &spaced);
        MPI_Type_commit(&spaced);
        MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data + size * at, 1, spaced, MPI_COMM_WORLD);
        MPI_Type_free(&spaced);
        MPI_Type_free(&piece);
    }
}

bool bif_comm_overlaps(const bif_comm *comm)
{
    return comm->device != NULL;
}

void bif_comm_reduce_begin(bif_comm *comm, bif_device *device, bif_tensor *x, int64_t from, int64_t to)
{
    check_tensor(comm, device, x, false);
    BIF_BUG_IF(from < 0 || from > to || to > bif_numel(x), "the range %lld to %lld of %lld elements", (long long)from, (long long)to,
               (long long)bif_numel(x));
    part_of(comm, x);
    if (on_gpu(comm, device) && from < to) {
        comm->device->reduce_begin(comm->device, x, from, to);
    }
}

void bif_comm_reduce_end(bif_comm *comm, bif_device *device, bif_tensor *x)
{
    if (on_gpu(comm, device)) {
        comm->device->reduce_end(comm->device);
    } else {
        bif_comm_reduce_scatter(comm, device, x);
    }
}

void bif_comm_wait(bif_comm *comm)
{
    if (comm->device != NULL) {
        comm->device->wait(comm->device);
    }
}

void bif_comm_sum_f64(bif_comm *comm, double *values, int count)
{
    if (comm->world > 1) {
        MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    }
}

void bif_comm_max_f64(bif_comm *comm, double *values, int count)
{
    if (comm->world > 1) {
        MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    }
}

bif_status bif_comm_agree(bif_comm *comm, bif_status mine)
{
    if (comm->world == 1) {
        return mine;
    }
    int rank = mine == BIF_OK ? INT_MAX : comm->rank;
    int first = rank;
    MPI_Allreduce(&rank, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (first == INT_MAX) {
        return BIF_OK;
    }
    int code = (int)mine;
    MPI_Bcast(&code, 1, MPI_INT, first, MPI_COMM_WORLD);
    char *text = bif_comm_broadcast_text(comm, bif_error_message(), first);
    if (comm->rank != first) {
        bif_fail((bif_status)code, "rank %d: %s", first, text);
    }
    free(text);
    return (bif_status)code;
}

bool bif_comm_all_failed(bif_comm *comm, double seconds)
{
    enum { TAG = 8 };
    const int peers = comm->rank == 0 ? comm->world - 1 : 1; /* rank 0 hears from all, and all hear from rank 0 */
    MPI_Request *requests = bif_calloc((size_t)(2 * peers), sizeof *requests);
    const double end = MPI_Wtime() + seconds;
    int done = 0;
    for (int i = 0; i < peers; i++) {
        const int peer = comm->rank == 0 ? i + 1 : 0;
        MPI_Irecv(NULL, 0, MPI_BYTE, peer, TAG, MPI_COMM_WORLD, &requests[2 * i]);
        MPI_Isend(NULL, 0, MPI_BYTE, peer, TAG, MPI_COMM_WORLD, &requests[2 * i + 1]);
    }
    while (MPI_Testall(2 * peers, requests, &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS && !done && MPI_Wtime() < end) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    free(requests);
    return done != 0;
}

void bif_comm_broadcast(bif_comm *comm, void *bytes, size_t size, int root)
{
    BIF_BUG_IF(size > INT_MAX, "broadcast of %zu bytes", size);
    if (comm->world > 1) {
        MPI_Bcast(bytes, (int)size, MPI_BYTE, root, MPI_COMM_WORLD);
    }
}

char *bif_comm_broadcast_text(bif_comm *comm, const char *text, int root)
{
    uint64_t size = comm->rank == root ? strlen(text) + 1 : 0;
    bif_comm_broadcast(comm, &size, sizeof size, root);
    char *copy = bif_malloc((size_t)size);
    if (comm->rank == root) {
        memcpy(copy, text, (size_t)size);
    }
    bif_comm_broadcast(comm, copy, (size_t)size, root);
    return copy;
}

void bif_comm_gather_bytes(bif_comm *comm, const void *bytes, size_t size, char ***out, size_t **sizes)
{
    uint64_t mine = size;
    uint64_t *all = bif_calloc((size_t)comm->world, sizeof *all);
    MPI_Gather(&mine, 1, MPI_UINT64_T, all, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (comm->rank != 0) {
        for (uint64_t at = 0; at < mine; at += (uint64_t)PIECE) {
            uint64_t n = mine - at < (uint64_t)PIECE ? mine - at : (uint64_t)PIECE;
            MPI_Send((const char *)bytes + at, (int)n, MPI_BYTE, 0, 7, MPI_COMM_WORLD);
        }
        free(all);
        return;
    }
    *out = bif_calloc((size_t)comm->world, sizeof **out);
    *sizes = bif_calloc((size_t)comm->world, sizeof **sizes);
    for (int r = 0; r < comm->world; r++) {
        (*sizes)[r] = (size_t)all[r];
        (*out)[r] = bif_malloc((size_t)all[r]);
        if (r == 0) {
            if (size > 0) {
                memcpy((*out)[0], bytes, size);
            }
            continue;
        }
        for (uint64_t at = 0; at < all[r]; at += (uint64_t)PIECE) {
            uint64_t n = all[r] - at < (uint64_t)PIECE ? all[r] - at : (uint64_t)PIECE;
            MPI_Recv((*out)[r] + at, (int)n, MPI_BYTE, r, 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        }
    }
    free(all);
}

struct bif_counter {
    bif_comm *comm;
    MPI_Win window;
    int64_t *value; /* on rank 0; of a rank alone it is `alone` */
    int64_t alone;
};

bif_counter *bif_counter_new(bif_comm *comm)
{
    bif_counter *counter = bif_calloc(1, sizeof *counter);
    counter->comm = comm;
    counter->value = &counter->alone;
    if (comm->world > 1) {
        MPI_Win_allocate(comm->rank == 0 ? (MPI_Aint)sizeof *counter->value : 0, sizeof *counter->value, MPI_INFO_NULL, MPI_COMM_WORLD,
                         &counter->value, &counter->window);
        MPI_Win_lock_all(0, counter->window);
        if (comm->rank == 0) {
            *counter->value = 0;
            MPI_Win_sync(counter->window);
        }
        MPI_Barrier(MPI_COMM_WORLD);
    }
    return counter;
}

int64_t bif_counter_add(bif_counter *counter, int64_t add)
{
    int64_t before = counter->alone;
    if (counter->comm->world > 1) {
        MPI_Fetch_and_op(&add, &before, MPI_INT64_T, 0, 0, MPI_SUM, counter->window);
        MPI_Win_flush(0, counter->window);
    } else {
        counter->alone += add;
    }
    return before;
}

void bif_counter_poll(bif_counter *counter)
{
    int found;
    if (counter->comm->world > 1 && counter->comm->rank == 0) {
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE); /* its answer is of no use, that MPI runs is */
    }
}

void bif_counter_free(bif_counter *counter)
{
    if (counter != NULL && counter->comm->world > 1) {
        MPI_Win_unlock_all(counter->window);
        MPI_Win_free(&counter->window);
    }
    free(counter);
}
