/* What the files of the CUDA device itself share (device_cuda.cu, feed_cuda.cu, record_cuda.cu). */
#pragma once
#include "kernels/cuda.cuh"

enum { BIF_SLOTS = 2, BIF_RECORDINGS = 32, BIF_SEEN = 1024 };

/* A sequence of ops as a graph, or a key whose capture failed (graph NULL). */
typedef struct {
    uint64_t key, used; /* used: when last launched, 0 = free */
    cudaGraphExec_t graph;
} bif_recording;

typedef struct {
    bool on;                 /* BIFOCAL_CUDA_GRAPHS is not 0 */
    uint64_t seen[BIF_SEEN]; /* keys that came before, one a place: a key is recorded when it comes the second time */
    bif_recording kept[BIF_RECORDINGS];
    uint64_t clock;          /* counts launches */
    uint64_t key;            /* of the capture under way */
    bool capturing, warned;
} bif_recorder;

/* bif_cuda.more */
typedef struct {
    cudaEvent_t copied[BIF_SLOTS], done[BIF_SLOTS]; /* of the feeding slots */
    bif_recorder recorder;
} bif_cuda_more;

static inline bif_cuda_more *bif_more_of(const bif_device *device)
{
    return (bif_cuda_more *)bif_cuda_of(device)->more;
}

/* Entries of bif_device and what opening and closing need of them. Opening: false when the driver refuses. */
extern "C" {
bool bif_cuda_feed_open(bif_device *device);
void bif_cuda_feed_close(bif_device *device);
void bif_cuda_record_open(bif_device *device);
/* Forgets all recordings: memory they name goes away. */
void bif_cuda_record_forget(bif_device *device);
}
