/* The matrix product of the CUDA ops, through cuBLASLt, with fp32 accumulation (true fp32 for f32 inputs, never TF32). */
#pragma once
#include "kernels/cuda.cuh"

/* d = alpha op(a) op(b) + beta c + bias, all row-major without gaps: d, c [m,n]; op(a) [m,k], op(b) [k,n], stored the other way round where
 * trans_* says so. c may be d and is not read when beta = 0; bias [n] or NULL is of d's dtype. m = 0 or n = 0 does nothing; k > 0.
 * a and b are both of dtype `in`; d is of dtype `out`: f32, or bf16 when `in` is. Pointers need only the alignment of their elements. */
typedef struct {
    bool trans_a, trans_b;
    int64_t m, n, k;
    bif_dtype in, out;
    float alpha, beta;
    const void *a, *b, *c;
    void *d;
    const void *bias;
} bif_gemm_args;

/* Enqueues the product on the device's stream. What cuBLASLt needs for a product of these shapes, dtypes and alignments is made at its
 * first call and kept: later calls cost the host a look into a hash table. BIFOCAL_AUTOTUNE=1 in the environment times cuBLASLt's eight
 * best guesses then, on memory of its own, unless the device is deterministic (the fastest may differ from run to run, and with it the
 * last bits) or the stream is being captured. */
void bif_cuda_gemm(const bif_device *device, const bif_gemm_args *args);

/* Frees what was kept, before the device's cuBLASLt handle goes. */
void bif_cuda_gemm_release(bif_cuda *cuda);
