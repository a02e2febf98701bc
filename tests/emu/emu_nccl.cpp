/* NCCL over MPI: see include/nccl.h. */
#include <cuda_bf16.h>
#include <mpi.h>
#include <nccl.h>
#include <string.h>

#include "emu_internal.h"

#define BUFFERS ((size_t)4 << 20)
#define PIECE ((size_t)16 << 20) /* bytes of a rank that travel at once: counts of MPI are ints */

struct emu_nccl {
    MPI_Comm comm;
    int rank, ranks;
    bool dead;
    void *buffers; /* device memory, taken by the first collective as NCCL does */
};

static char last_error[160];
static int group_depth;

static ncclResult_t fail(ncclResult_t result, const char *text)
{
    snprintf(last_error, sizeof last_error, "%s", text);
    return result;
}

extern "C" ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}
extern "C" const char *ncclGetLastError(ncclComm_t) { return last_error; }
extern "C" const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclSuccess           ? "no error"
           : result == ncclInvalidArgument ? "invalid argument"
           : result == ncclInvalidUsage    ? "invalid usage"
           : result == ncclInProgress      ? "NCCL operation in progress"
                                           : "internal error";
}

extern "C" ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int next;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "emulated NCCL %d", ++next);
    return ncclSuccess;
}

/* ---- communicators ---- */

extern "C" ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank, ncclConfig_t *)
{
    int world = 0, own = 0;
    *out = NULL;
    if (strncmp(id.internal, "emulated NCCL ", 14) != 0) {
        return fail(ncclInvalidArgument, "this is not a unique id of ncclGetUniqueId");
    }
    MPI_Comm_size(MPI_COMM_WORLD, &world);
    MPI_Comm_rank(MPI_COMM_WORLD, &own);
    if (ranks != world || rank != own) {
        return fail(ncclInvalidUsage, "the emulation knows communicators of all ranks in their order only");
    }
    emu_nccl *comm = new emu_nccl{MPI_COMM_NULL, rank, ranks, false, NULL};
    MPI_Comm_dup(MPI_COMM_WORLD, &comm->comm);
    ncclUniqueId first = id; /* all must have come with the id of one rank */
    MPI_Bcast(first.internal, NCCL_UNIQUE_ID_BYTES, MPI_CHAR, 0, comm->comm);
    int same = memcmp(&first, &id, sizeof id) == 0, all = 0;
    MPI_Allreduce(&same, &all, 1, MPI_INT, MPI_MIN, comm->comm);
    if (all == 0) {
        MPI_Comm_free(&comm->comm);
        delete comm;
        return fail(ncclInvalidArgument, "the ranks came with different unique ids");
    }
    *out = comm;
    return ncclSuccess;
}
extern "C" ncclResult_t ncclCommInitRank(ncclComm_t *out, int ranks, ncclUniqueId id, int rank)
{
    return ncclCommInitRankConfig(out, ranks, id, rank, NULL);
}

extern "C" ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }
extern "C" ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm != NULL) {
        if (!comm->dead) {
            MPI_Comm_free(&comm->comm);
        }
        (void)cudaFree(comm->buffers);
        delete comm;
    }
    return ncclSuccess;
}
extern "C" ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (comm != NULL) {
        comm->dead = true; /* MPI_Comm_free is collective, and the others may be gone */
    }
    return ncclCommDestroy(comm);
}
extern "C" ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *error)
{
    *error = ncclSuccess;
    return ncclSuccess;
}
extern "C" ncclResult_t ncclCommCount(ncclComm_t comm, int *count)
{
    *count = comm->ranks;
    return ncclSuccess;
}
extern "C" ncclResult_t ncclCommUserRank(ncclComm_t comm, int *rank)
{
    *rank = comm->rank;
    return ncclSuccess;
}
extern "C" ncclResult_t ncclGroupStart(void)
{
    group_depth++;
    return ncclSuccess;
}
extern "C" ncclResult_t ncclGroupEnd(void)
{
    return group_depth-- > 0 ? ncclSuccess : fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
}

/* ---- arithmetic ---- */

static size_t size_of(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: return 4;
    }
}

template <class S> static S combine(S x, S y, ncclRedOp_t op)
{
    switch (op) {
    case ncclMax: return x < y ? y : x;
    case ncclMin: return y < x ? y : x;
    case ncclProd: return (S)(x * y);
    default: return (S)(x + y);
    }
}

/* T: as stored; S: as summed. all: the pieces of the ranks, n elements each. */
template <class T, class S> static void reduce_as(const void *all, void *out, size_t n, int ranks, ncclRedOp_t op)
{
    const T *from = (const T *)all;
    T *to = (T *)out;
    for (size_t i = 0; i < n; i++) {
        S sum = (S)from[i];
        for (int r = 1; r < ranks; r++) {
            sum = combine<S>(sum, (S)from[(size_t)r * n + i], op);
        }
        to[i] = (T)(op == ncclAvg ? sum / (S)ranks : sum);
    }
}

static bool can_reduce(ncclDataType_t type)
{
    return type != ncclFloat16 && type != ncclInt8;
}

static void reduce(const void *all, void *out, size_t n, int ranks, ncclDataType_t type, ncclRedOp_t op)
{
    switch (type) {
    case ncclFloat32: reduce_as<float, float>(all, out, n, ranks, op); break;
    case ncclBfloat16: reduce_as<__nv_bfloat16, float>(all, out, n, ranks, op); break;
    case ncclFloat64: reduce_as<double, double>(all, out, n, ranks, op); break;
    case ncclInt64: reduce_as<int64_t, int64_t>(all, out, n, ranks, op); break;
    case ncclUint64: reduce_as<uint64_t, uint64_t>(all, out, n, ranks, op); break;
    case ncclUint32: reduce_as<uint32_t, uint32_t>(all, out, n, ranks, op); break;
    case ncclUint8: reduce_as<uint8_t, unsigned>(all, out, n, ranks, op); break;
    default: reduce_as<int32_t, int32_t>(all, out, n, ranks, op); break;
    }
}

/* ---- collectives ---- */

/* root: the rank that gets the result, or -1 for all. */
static void do_reduce(emu_nccl *comm, const char *send, char *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root)
{
    emu_lock lock;
    const size_t size = size_of(type), most = PIECE / size;
    const bool mine = root < 0 || root == comm->rank;
    emu_memory_open();
    emu_memory_read(send, count * size, "what a collective sends");
    if (mine) {
        emu_memory_write(receive, count * size, "what a collective receives");
    }
    std::vector<char> all;
    for (size_t at = 0; at < count; at += most) {
        const size_t n = count - at < most ? count - at : most;
        all.resize(n * size * (size_t)comm->ranks);
        const std::vector<char> own(send + at * size, send + (at + n) * size);
        MPI_Allgather(own.data(), (int)(n * size), MPI_BYTE, all.data(), (int)(n * size), MPI_BYTE, comm->comm);
        if (mine) {
            reduce(all.data(), receive + at * size, n, comm->ranks, type, op);
        }
    }
    emu_memory_close();
}

static ncclResult_t check(emu_nccl *comm, const void *send, const void *receive, ncclDataType_t type, int root)
{
    if (comm == NULL || comm->dead) {
        return fail(ncclInvalidArgument, "no communicator");
    }
    if (send == NULL || receive == NULL || root >= comm->ranks || !can_reduce(type)) {
        return fail(ncclInvalidArgument, "a buffer, a type or the root is not valid");
    }
    if (comm->buffers == NULL && cudaMalloc(&comm->buffers, BUFFERS) != cudaSuccess) {
        return fail(ncclUnhandledCudaError, "out of device memory");
    }
    return ncclSuccess;
}

extern "C" ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                                      cudaStream_t stream)
{
    const ncclResult_t bad = check(comm, send, receive, type, -1);
    if (bad != ncclSuccess || count == 0) {
        return bad;
    }
    emu_submit(stream, "ncclAllReduce", [=] { do_reduce(comm, (const char *)send, (char *)receive, count, type, op, -1); });
    return ncclSuccess;
}

extern "C" ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                                   ncclComm_t comm, cudaStream_t stream)
{
    /* Only the root needs a place for the result. */
    const ncclResult_t bad = check(comm, send, comm != NULL && comm->rank != root ? send : receive, type, root);
    if (bad != ncclSuccess || count == 0) {
        return bad;
    }
    emu_submit(stream, "ncclReduce", [=] { do_reduce(comm, (const char *)send, (char *)receive, count, type, op, root); });
    return ncclSuccess;
}

extern "C" ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                                          ncclComm_t comm, cudaStream_t stream)
{
    const ncclResult_t bad = check(comm, send, receive, type, -1);
    if (bad != ncclSuccess || count == 0) {
        return bad;
    }
    emu_submit(stream, "ncclReduceScatter", [=] {
        emu_lock lock;
        const size_t part = count * size_of(type), all = part * (size_t)comm->ranks;
        emu_memory_open();
        emu_memory_read(send, all, "what a collective sends");
        emu_memory_close();
        for (int r = 0; r < comm->ranks; r++) {
            do_reduce(comm, (const char *)send + (size_t)r * part, (char *)receive, count, type, op, r);
        }
    });
    return ncclSuccess;
}

extern "C" ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                                      cudaStream_t stream)
{
    const ncclResult_t bad = check(comm, send, receive, type == ncclFloat16 || type == ncclInt8 ? ncclInt32 : type, -1);
    if (bad != ncclSuccess || count == 0) {
        return bad;
    }
    emu_submit(stream, "ncclAllGather", [=] {
        emu_lock lock;
        const size_t part = count * size_of(type);
        const int ranks = comm->ranks;
        emu_memory_open();
        emu_memory_read(send, part, "what a collective sends");
        std::vector<char> own((const char *)send, (const char *)send + part), all; /* send may be a part of receive */
        emu_memory_write(receive, part * (size_t)ranks, "what a collective receives");
        for (size_t at = 0; at < part; at += PIECE) {
            const size_t n = part - at < PIECE ? part - at : PIECE;
            all.resize(n * (size_t)ranks);
            MPI_Allgather(own.data() + at, (int)n, MPI_BYTE, all.data(), (int)n, MPI_BYTE, comm->comm);
            for (int r = 0; r < ranks; r++) {
                memcpy((char *)receive + (size_t)r * part + at, all.data() + (size_t)r * n, n);
            }
        }
        emu_memory_close();
    });
    return ncclSuccess;
}

extern "C" ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                                      cudaStream_t stream)
{
    /* Only the root sends. */
    const ncclResult_t bad = check(comm, comm != NULL && comm->rank != root ? receive : send, receive, ncclInt32, root);
    if (bad != ncclSuccess || count == 0) {
        return bad;
    }
    emu_submit(stream, "ncclBroadcast", [=] {
        emu_lock lock;
        const size_t bytes = count * size_of(type);
        emu_memory_open();
        if (comm->rank == root) {
            emu_memory_read(send, bytes, "what a collective sends");
            if (send != receive) {
                memmove(receive, send, bytes);
            }
        }
        emu_memory_write(receive, bytes, "what a collective receives");
        for (size_t at = 0; at < bytes; at += PIECE) {
            MPI_Bcast((char *)receive + at, (int)(bytes - at < PIECE ? bytes - at : PIECE), MPI_BYTE, root, comm->comm);
        }
        emu_memory_close();
    });
    return ncclSuccess;
}
