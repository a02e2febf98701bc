/* NCCL over MPI: see include/nccl.h. */
