/* Starts MPI around a verb that uses ranks, and ends it the right way. */
#pragma once
#include "train/comm.h"

/* Runs job(context, comm). On failure all ranks agree, rank 0's caller prints the message, and the process ends with its code without waiting for
 * ranks that may never arrive. */
bif_status bif_with_comm(bif_status (*job)(void *context, bif_comm *comm), void *context);
