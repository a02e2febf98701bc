/* Multinomial logistic regression by L-BFGS:
 *   minimise  sum_i -log softmax(W x_i + b)[label_i]  +  l2/2 |W|^2      (the bias is free; l2 is 1/C of scikit-learn)
 * Products in f32 on the device, everything else in double. Rows are shared over the ranks in parts of a fixed size; each part's gradient
 * is rounded to a grid on which sums of doubles are exact, so any number of ranks gives the same bits. Starts at zero; no randomness. */
#pragma once
#include "train/comm.h"

typedef struct {
    const float *x;       /* host [rows, width]; the same on every rank, as all below */
    const int32_t *label; /* [rows] in [0, classes) */
    int64_t rows, width, classes;
    double l2;            /* >= 0 */
    int64_t iterations;   /* at most */
    double tolerance;     /* stop when the gradient's length is this part of what it was at zero */
} bif_logistic_args;

typedef struct {
    double objective; /* of the sum above, divided by rows */
    double gradient;  /* its length, as a part of what it was at zero */
    int64_t iterations, evaluations;
} bif_logistic_result;

/* w [classes, width], b [classes] of the caller. Collective. Stops as well where f32 products allow no further progress. BIF_ERR_MEMORY. */
bif_status bif_logistic(bif_device *device, bif_comm *comm, const bif_logistic_args *args, float *w, float *b, bif_logistic_result *result);
