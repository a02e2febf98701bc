/* The part of train/comm.h that a GPU backend brings: what bif_comm does with tensors on that device, and how it is started. */
#pragma once
#include "train/comm.h"

typedef struct bif_comm_device bif_comm_device;
struct bif_comm_device {
    void (*reduce_scatter)(bif_comm_device *self, bif_tensor *x);
    void (*allgather)(bif_comm_device *self, bif_tensor *x);
    void (*reduce_begin)(bif_comm_device *self, bif_tensor *x, int64_t from, int64_t to);
    void (*reduce_end)(bif_comm_device *self);
    void (*wait)(bif_comm_device *self);
    void (*close)(bif_comm_device *self);
};

#ifdef BIF_NCCL
/* Collective; fails on all ranks or on none. More than one rank, each with a CUDA device. */
bif_status bif_nccl_start(bif_comm *comm, bif_device *device, bif_comm_device **out);
#endif
