/* Collectives between ranks. They take tensors, never (pointer, count, type). Every call is collective over all ranks and must come in the
 * same order on all of them, whatever the data: a rank's local trouble travels as a value in the next call (bif_comm_agree), never as an early
 * return. comm_mpi.c is the host backend; it is the only file besides launch's start that includes mpi.h. */
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
/* CPU threads of this rank: `wanted`, or for 0 the cores it may run on divided by the ranks of the node, at least 1. */
int bif_comm_threads(const bif_comm *comm, int wanted);

/* x [world * k] f32 on every rank -> rank r holds the sum of part r in x[r*k .. (r+1)*k) (in place; the rest is undefined). */
void bif_comm_reduce_scatter(bif_comm *comm, bif_device *device, bif_tensor *x);
/* Rank r's part x[r*k .. (r+1)*k) goes to all ranks (in place; any dtype of 2 or 4 bytes). */
void bif_comm_allgather(bif_comm *comm, bif_device *device, bif_tensor *x);
/* Host numbers. */
void bif_comm_sum_f64(bif_comm *comm, double *values, int count);
void bif_comm_max_f64(bif_comm *comm, double *values, int count);
/* True trouble of any rank becomes everybody's: returns `mine` if all ranks are BIF_OK, else the status of the lowest failing rank, whose message
 * is copied to the others with "rank N: " before it. */
bif_status bif_comm_agree(bif_comm *comm, bif_status mine);
/* After a failure: true when every rank called this within `seconds`, so that all can end in order; false when one is still at work and only
 * bif_comm_abort reaches it. Point to point, because that rank may sit in any collective. */
bool bif_comm_all_failed(bif_comm *comm, double seconds);
/* Text of rank root to all; malloc'ed on every rank. */
char *bif_comm_broadcast_text(bif_comm *comm, const char *text, int root);
/* Variable-length bytes of every rank to rank 0: out[r], size[r] malloc'ed there (arrays of world), untouched elsewhere. */
void bif_comm_gather_bytes(bif_comm *comm, const void *bytes, size_t size, char ***out, size_t **sizes);
