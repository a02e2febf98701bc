/* The part of mirror.c that knows what a CUDA device is made of; linked with the emulation only. */
#include "emu/emu.h"
#include "kernels/cuda.cuh"

/* Gives the device scratch memory of `bytes`, so that small tensors are enough to make an op work in pieces. */
extern "C" void mirror_set_scratch(bif_device *device, size_t bytes)
{
    bif_cuda *cuda = bif_cuda_of(device);
    BIF_CUDA_MUST(cudaFree(cuda->scratch), "scratch");
    BIF_CUDA_MUST(cudaMalloc(&cuda->scratch, bytes), "scratch");
    cuda->scratch_bytes = bytes;
}

/* No op may rely on what another left in the scratch. */
extern "C" void mirror_forget_scratch(bif_device *device)
{
    emu_forget(bif_cuda_of(device)->scratch, bif_cuda_of(device)->scratch_bytes);
}
