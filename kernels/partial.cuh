/* Second stage of parameter gradients that are sums over rows. Included by *_cuda.cu only.
 *
 * A first kernel leaves `groups` partial sums of `columns` floats in the device's scratch, [sets][groups][columns]; this one adds them in
 * the order of the groups, so the bits depend on the shapes and the GPU's number of multiprocessors and on nothing else. */
#pragma once
#include "kernels/cuda.cuh"

/* Blocks of 1024 threads, 32 columns each: thread (slice, column) sums every 32nd group, so the few hundred groups cost about ten loads
 * one after the other instead of hundreds. blockIdx.y: the set, added to first (0) or second (1); a NULL one is left out. */
static __global__ void bif_partial_kernel(const float *partials, int64_t groups, int64_t columns, float *first, float *second)
{
    BIF_SHARED(float, shared); /* [32 slices][33] */
    const int lane = (int)(threadIdx.x & 31u), slice = (int)(threadIdx.x >> 5);
    const int64_t column = (int64_t)blockIdx.x * 32 + lane;
    float *to = blockIdx.y == 0 ? first : second;
    float sum = 0.0f;
    if (column < columns && to != NULL) {
        const float *from = partials + (int64_t)blockIdx.y * groups * columns + column;
#pragma unroll 4
        for (int64_t g = slice; g < groups; g += 32) {
            sum += from[g * columns];
        }
    }
    shared[slice * 33 + lane] = sum;
    __syncthreads();
    if (slice == 0 && column < columns && to != NULL) {
        for (int i = 1; i < 32; i++) {
            sum += shared[i * 33 + lane];
        }
        to[column] += sum;
    }
}

/* first [columns] += sums of set 0, second [columns] += sums of set 1; each may be NULL. */
static inline void bif_add_partials(bif_device *device, const char *op, const float *partials, int64_t groups, int64_t columns,
                                    float *first, float *second)
{
    if (first == NULL && second == NULL) {
        return;
    }
    dim3 blocks((unsigned)bif_blocks_of(columns, 32), second == NULL ? 1u : 2u);
    BIF_LAUNCH(bif_partial_kernel, blocks, 1024, 32 * 33 * sizeof(float), bif_cuda_of(device)->stream, partials, groups, columns, first,
               second);
    BIF_LAUNCHED(op);
}
