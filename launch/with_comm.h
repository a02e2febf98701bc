/* Starts MPI around a verb that uses ranks, and ends it the right way. */
#pragma once
#include "train/comm.h"

/* Runs job(context, comm). On failure with several ranks, rank 0 prints the message (main.c then finds none) and every process ends with
 * its code, without waiting for ranks that never arrive. */
bif_status bif_with_comm(bif_status (*job)(void *context, bif_comm *comm), void *context);
