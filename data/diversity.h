/* Measures of how varied a set is. */
#pragma once
#include "base/status.h"

/* Eigenvalues, rising, of a symmetric matrix f64 [n, n] of which only the lower triangle (a[i*n + j], j <= i) is read; it is destroyed.
 * Householder's reduction to three diagonals and the QL iteration with implicit shifts; finite numbers are expected. */
void bif_symmetric_eigenvalues(double *a, int64_t n, double *values);

/* The Vendi score (Friedman, Dieng: arXiv 2210.02410) of eigenvalues: exp(-sum p log p), p = values over their sum; values not above 0
 * count as nothing. 1: all the same, n: n directions alike. 0 when there is none above 0. */
double bif_vendi_of(const double *values, int64_t n);

/* Of the sizes of clusters (or of any classes). */
typedef struct {
    int64_t members, used; /* sum of the sizes; clusters that are not empty */
    double entropy;        /* nats */
    double effective;      /* exp(entropy): as many clusters of one size would be as even */
    double top_share;      /* share of the members that the largest 1 % of all clusters hold, at least one cluster */
} bif_spread;
bif_spread bif_spread_of(const int64_t *size, int64_t count);
