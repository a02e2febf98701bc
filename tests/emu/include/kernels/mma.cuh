/* The emulation's kernels/mma.cuh: the same functions, done by the 32 lanes together (emu_fiber.cpp), with the fragment layouts of the PTX
 * ISA. Products of bf16 are exact and added in float one after the other; a tensor core adds in another order and with other roundings.
 * bif_copy_16 copies at bif_copy_wait and not before: until then the 16 bytes count as not written. */
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

extern "C" {
void emu_mma(float *c, const uint32_t *a, const uint32_t *b, const char *file, int line);
void emu_ldmatrix(uint32_t *r, const void *row, bool transposed, const char *file, int line);
void emu_copy_begin(void *shared, const void *from, int bytes);
void emu_copy_group(void);
void emu_copy_wait(int groups);
}

__device__ __forceinline__ void bif_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMU_WHERE)
{
    emu_mma(c, a, b, file, line);
}

__device__ __forceinline__ void bif_ldmatrix(uint32_t (&r)[4], const void *row, EMU_WHERE)
{
    emu_ldmatrix(r, row, false, file, line);
}

__device__ __forceinline__ void bif_ldmatrix_transposed(uint32_t (&r)[4], const void *row, EMU_WHERE)
{
    emu_ldmatrix(r, row, true, file, line);
}

__device__ __forceinline__ uint32_t bif_pair(float low, float high)
{
    return (uint32_t)emu_bf16_bits(low) | (uint32_t)emu_bf16_bits(high) << 16;
}

__device__ __forceinline__ float bif_exp2(float x)
{
    const float y = exp2f(x);
    return y < 1.1754943508e-38f ? 0.0f : y;
}

__device__ __forceinline__ void bif_copy_16(void *shared, const void *from, int bytes)
{
    emu_copy_begin(shared, from, bytes);
}

__device__ __forceinline__ void bif_copy_group(void)
{
    emu_copy_group();
}

template <int N> __device__ __forceinline__ void bif_copy_wait(void)
{
    emu_copy_wait(N);
}
