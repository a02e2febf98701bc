/* Tensor-core, asynchronous-copy and fast exponent instructions of sm_80 and up, one function each. Nothing else in the kernels is
 * assembler, so this is the one header that an emulation replaces (tests/emu has its own under the same name, with the same fragment
 * layouts).
 *
 * Fragments of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"), g = lane / 4, t = lane % 4, each register two bf16, the lower
 * column (or k) in the lower half:
 *   A [16,16] row-major: a[0] = (g, 2t..), a[1] = (g + 8, 2t..), a[2] = (g, 2t + 8..), a[3] = (g + 8, 2t + 8..)
 *   B [16,8] k by n:     b[0] = (k = 2t.., n = g), b[1] = (k = 2t + 8.., n = g)
 *   C [16,8] float:      c[0], c[1] = (g, 2t), (g, 2t + 1), c[2], c[3] = (g + 8, 2t), (g + 8, 2t + 1)
 * All 32 lanes of a warp take part in mma and ldmatrix. */
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

/* c += a b, fp32 accumulation. */
__device__ __forceinline__ void bif_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of bf16 from shared memory. Lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned to 16); it
 * receives in r[m] the elements (row g, columns 2t, 2t + 1) of matrix m. */
__device__ __forceinline__ void bif_ldmatrix(uint32_t (&r)[4], const void *row)
{
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* The same, each matrix transposed: r[m] holds the elements (rows 2t, 2t + 1, column g) of matrix m. */
__device__ __forceinline__ void bif_ldmatrix_transposed(uint32_t (&r)[4], const void *row)
{
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* Two floats as a register of two bf16, rounded to nearest even; `low` in the lower half. */
__device__ __forceinline__ uint32_t bif_pair(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&pair);
}

/* 2^x, one instruction where exp2f takes four: relative error below 2^-22, results below 2^-126 become 0. */
__device__ __forceinline__ float bif_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Begins to copy 16 bytes from global to shared memory (both aligned to 16): the first `bytes` (0 to 16) are read, the rest is zero. With
 * bytes = 0 `from` is not read but must be a valid address. Visible to the copying thread after bif_copy_wait, to others after a barrier
 * that follows it. */
__device__ __forceinline__ void bif_copy_16(void *shared, const void *from, int bytes)
{
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/* Closes the group of this thread's copies begun since the last one. */
__device__ __forceinline__ void bif_copy_group(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most N of this thread's groups are not complete. */
template <int N> __device__ __forceinline__ void bif_copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
