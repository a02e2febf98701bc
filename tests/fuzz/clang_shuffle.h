/* GCC's shuffle by a vector of lane numbers, which clang lacks and the CPU kernels use: of four floats, since a fuzzing build holds the generic
 * kernels only. */
#pragma once
typedef float fuzz_float4 __attribute__((vector_size(16)));
typedef int fuzz_int4 __attribute__((vector_size(16)));

static inline __attribute__((overloadable, unused)) fuzz_float4 fuzz_shuffle(fuzz_float4 a, fuzz_float4 b, fuzz_int4 lanes)
{
    fuzz_float4 out = a;
    for (int i = 0; i < 4; i++) {
        const int lane = lanes[i] & 7;
        out[i] = lane < 4 ? a[lane] : b[lane - 4];
    }
    return out;
}

static inline __attribute__((overloadable, unused)) fuzz_float4 fuzz_shuffle(fuzz_float4 a, fuzz_int4 lanes)
{
    return fuzz_shuffle(a, a, lanes);
}

#define __builtin_shuffle fuzz_shuffle
