/* The activations of bif_act and their derivatives on the GPU; the arithmetic of kernels/act.h. `act` is the same for a whole launch, so
 * its branch never splits a warp. */
#pragma once
#include "kernels/cuda.cuh"

__device__ __forceinline__ float bif_sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

__device__ __forceinline__ float bif_act_value(bif_act act, float x)
{
    switch (act) {
    case BIF_ACT_GELU:
        return x * (0.5f + 0.5f * erff(0.707106781f * x));
    case BIF_ACT_GELU_TANH: /* (1 + tanh u) / 2 = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) */
        return x * bif_sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
    case BIF_ACT_QUICK_GELU:
        return x * bif_sigmoid(1.702f * x);
    case BIF_ACT_NONE:
        break;
    }
    return x;
}

__device__ __forceinline__ float bif_act_slope(bif_act act, float x)
{
    float s;
    switch (act) {
    case BIF_ACT_GELU:
        return 0.5f + 0.5f * erff(0.707106781f * x) + x * expf(-0.5f * x * x) * 0.398942280f;
    case BIF_ACT_GELU_TANH:
        s = bif_sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
        return s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
    case BIF_ACT_QUICK_GELU:
        s = bif_sigmoid(1.702f * x);
        return s + 1.702f * x * s * (1.0f - s);
    case BIF_ACT_NONE:
        break;
    }
    return 1.0f;
}
