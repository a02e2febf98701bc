/* 16 bytes of a floating tensor kept as they came from memory. Included by *_cuda.cu only.
 *
 * A kernel that holds a row between two passes holds it in this form and converts at each use: nvcc gives every bf16 of a bif_pack a
 * register of its own as soon as it is loaded (twice the four registers that hold the eight of them), and registers are what limits the
 * bytes under way. */
#pragma once
#include "kernels/cuda.cuh"

typedef struct alignas(16) {
    uint32_t at[4];
} bif_words;

template <class T> __device__ __forceinline__ bif_words bif_load_words(const T *from)
{
    return *reinterpret_cast<const bif_words *>(from);
}

static __device__ __forceinline__ bif_words bif_no_words(void)
{
    bif_words none = {{0u, 0u, 0u, 0u}};
    return none;
}

/* Element j; T says what the words are. */
template <class T> __device__ __forceinline__ float bif_element(const bif_words &words, int j);
template <> __device__ __forceinline__ float bif_element<float>(const bif_words &words, int j)
{
    return __uint_as_float(words.at[j]);
}
template <> __device__ __forceinline__ float bif_element<bif_bf16>(const bif_words &words, int j)
{
    return __uint_as_float(j % 2 == 0 ? words.at[j / 2] << 16 : words.at[j / 2] & 0xffff0000u);
}
