/* Collectives between ranks. They take tensors, never (pointer, count, type). Every call is collective over all ranks and must come in the
 * same order on all of them, whatever the data: a rank's local trouble travels as a value in the next call (bif_comm_agree), never as an
 * early return. comm_mpi.c is the host backend and the only file that includes mpi.h; comm_nccl.c moves tensors between GPUs. */
#pragma once
#include "kernels/device.h"
#include "kernels/tensor.h"

typedef struct bif_comm bif_comm;

/* World of this process: MPI_COMM_WORLD; MPI must be initialised by bif_comm_start. */
bif_status bif_comm_start(int *argc, char ***argv, bif_comm **out); /* MPI_Init_thread(FUNNELED) */
void bif_comm_finish(bif_comm *comm);                               /* MPI_Finalize; NULL is allowed */
/* Ends all ranks at once with this exit code (an error that the others cannot know of). Does not return. */
void bif_comm_abort(bif_comm *comm, int code);
int bif_comm_rank(const bif_comm *comm);
int bif_comm_world(const bif_comm *comm);
int bif_comm_local_ranks(const bif_comm *comm); /* ranks on this node */
int bif_comm_local_rank(const bif_comm *comm);  /* this one among them */
/* CPU threads of this rank: `wanted`, or for 0 the cores it may run on divided by the ranks of the node, at least 1. */
int bif_comm_threads(const bif_comm *comm, int wanted);

/* bif_device_open for this rank: of the GPUs it sees, "cuda" and "auto" take the one of its local rank, modulo their number. Not
 * collective. */
bif_status bif_comm_open_device(const bif_comm *comm, const char *name, int threads, bif_device **out);
/* Lets the tensor collectives below work on this device, which all ranks then call them with. Nothing to do on the CPU or for one rank; on
 * GPUs it starts NCCL, which needs a GPU of its own for each rank. BIF_ERR_USAGE when the ranks' devices differ in kind or share a GPU, or
 * when the build has no NCCL; BIF_ERR_IO when NCCL does not start within BIFOCAL_NCCL_TIMEOUT seconds (environment, default 600). The same
 * limit holds for every later call and wait: beyond it, or when NCCL reports trouble, all ranks are aborted with a message. Fails on all
 * ranks or on none. */
bif_status bif_comm_connect(bif_comm *comm, bif_device *device);
void bif_comm_disconnect(bif_comm *comm); /* before the device closes; not collective, harmless when not connected */

/* On a GPU these are enqueued in the order of its ops and do not wait.
 * x [world * k] f32 on every rank -> rank r holds the sum of part r in x[r*k .. (r+1)*k) (in place; the rest is undefined). */
void bif_comm_reduce_scatter(bif_comm *comm, bif_device *device, bif_tensor *x);
/* Rank r's part x[r*k .. (r+1)*k) goes to all ranks (in place; any dtype of 2 or 4 bytes). */
void bif_comm_allgather(bif_comm *comm, bif_device *device, bif_tensor *x);
/* A reduce_scatter whose parts start while others are still computed. reduce_begin(from, to): x[from, to) is final on this rank, as of the
 * ops called so far; the calls come with the same ranges in the same order on all ranks, and no other collective between the first and
 * reduce_end, where they must have covered x. After reduce_end x is as after reduce_scatter. Where bif_comm_overlaps says so (connected
 * GPUs) the ranges are summed on a stream of their own, beside the ops called meanwhile; elsewhere reduce_begin does nothing and reduce_end
 * sums all. */
bool bif_comm_overlaps(const bif_comm *comm);
void bif_comm_reduce_begin(bif_comm *comm, bif_device *device, bif_tensor *x, int64_t from, int64_t to);
void bif_comm_reduce_end(bif_comm *comm, bif_device *device, bif_tensor *x);
/* Returns when the device is through with all ops and collectives called so far. Unlike device->sync it does not wait for ever for a rank
 * that is gone. Nothing to do where collectives wait themselves. */
void bif_comm_wait(bif_comm *comm);
/* Host numbers. */
void bif_comm_sum_f64(bif_comm *comm, double *values, int count);
void bif_comm_max_f64(bif_comm *comm, double *values, int count);
/* True trouble of any rank becomes everybody's: returns `mine` if all ranks are BIF_OK, else the status of the lowest failing rank, whose
 * message is copied to the others with "rank N: " before it. */
bif_status bif_comm_agree(bif_comm *comm, bif_status mine);
/* After a failure: true when every rank called this within `seconds`, so that all can end in order; false when one is still at work and
 * only bif_comm_abort reaches it. Point to point, because that rank may sit in any collective. */
bool bif_comm_all_failed(bif_comm *comm, double seconds);
/* Bytes of rank root to all, of the same size everywhere. */
void bif_comm_broadcast(bif_comm *comm, void *bytes, size_t size, int root);
/* Text of rank root to all; malloc'ed on every rank. */
char *bif_comm_broadcast_text(bif_comm *comm, const char *text, int root);
/* Variable-length bytes of every rank to rank 0: out[r], size[r] malloc'ed there (arrays of world), untouched elsewhere. */
void bif_comm_gather_bytes(bif_comm *comm, const void *bytes, size_t size, char ***out, size_t **sizes);

/* Work shared as it is finished: a number on rank 0 that any rank may fetch and add to, starting at 0. New and free are collective, and come
 * on every rank whatever the data; the fetches between them are not, and nothing else depends on who gets which number. Where the network
 * cannot add by itself a fetch waits until rank 0 is inside MPI: whoever computes there calls poll now and then. */
typedef struct bif_counter bif_counter;
bif_counter *bif_counter_new(bif_comm *comm);
int64_t bif_counter_add(bif_counter *counter, int64_t add); /* returns the number before */
void bif_counter_poll(bif_counter *counter);
void bif_counter_free(bif_counter *counter); /* NULL is allowed, on all ranks */
