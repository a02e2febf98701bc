/* The activations of bif_act and their derivatives; always inlined with a constant `act`, inside vectorised loops. */
#pragma once
#include "kernels/ops.h"
#include "kernels/simd.h"

static inline __attribute__((always_inline)) float bif_act_value(const bif_act act, float x)
{
    float gauss;
    switch (act) {
    case BIF_ACT_GELU:
        return x * bif_simd_phi(x, &gauss);
    case BIF_ACT_GELU_TANH: /* (1 + tanh u) / 2 = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) */
        return x * bif_simd_sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
    case BIF_ACT_QUICK_GELU:
        return x * bif_simd_sigmoid(1.702f * x);
    case BIF_ACT_NONE:
        break;
    }
    return x;
}

static inline __attribute__((always_inline)) float bif_act_slope(const bif_act act, float x)
{
    float gauss, s;
    switch (act) {
    case BIF_ACT_GELU:
        s = bif_simd_phi(x, &gauss);
        return s + x * gauss * 0.398942280f;
    case BIF_ACT_GELU_TANH:
        s = bif_simd_sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
        return s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
    case BIF_ACT_QUICK_GELU:
        s = bif_simd_sigmoid(1.702f * x);
        return s + 1.702f * x * s * (1.0f - s);
    case BIF_ACT_NONE:
        break;
    }
    return 1.0f;
}

/* One loop for each activation, so that each is vectorised with its own arithmetic. */
#define BIF_ACT_LOOP(act, expression)                                                  \
    switch (act) {                                                                     \
        BIF_ACT_CASE(BIF_ACT_NONE, expression)                                         \
        BIF_ACT_CASE(BIF_ACT_GELU, expression)                                         \
        BIF_ACT_CASE(BIF_ACT_GELU_TANH, expression)                                    \
        BIF_ACT_CASE(BIF_ACT_QUICK_GELU, expression)                                   \
    }
#define BIF_ACT_CASE(name, expression)  \
    case name: {                        \
        const bif_act kind = name;      \
        _Pragma("omp simd")             \
        for (int64_t i = 0; i < n; i++) { \
            expression;                 \
        }                               \
        break;                          \
    }

/* y[i] = act(x[i]); y may be x. */
static inline void bif_act_row(bif_act act, int64_t n, const float *x, float *y)
{
    BIF_ACT_LOOP(act, y[i] = bif_act_value(kind, x[i]))
}

/* y[i] = act(x[i]) + residual[i]; y may be x or residual. */
static inline void bif_act_add_row(bif_act act, int64_t n, const float *x, const float *residual, float *y)
{
    BIF_ACT_LOOP(act, y[i] = bif_act_value(kind, x[i]) + residual[i])
}

/* d[i] = dy[i] * act'(x[i]); d may be dy or x. */
static inline void bif_act_backward_row(bif_act act, int64_t n, const float *x, const float *dy, float *d)
{
    BIF_ACT_LOOP(act, d[i] = dy[i] * bif_act_slope(kind, x[i]))
}
