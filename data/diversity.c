#include "data/diversity.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double dot(const double *a, const double *b, int64_t n)
{
    double s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        s0 += a[i] * b[i];
        s1 += a[i + 1] * b[i + 1];
        s2 += a[i + 2] * b[i + 2];
        s3 += a[i + 3] * b[i + 3];
    }
    for (; i < n; i++) {
        s0 += a[i] * b[i];
    }
    return (s0 + s1) + (s2 + s3);
}

/* One step of Householder's reduction: the reflection I - beta u u^T makes of row k all zeros but its last entry below the diagonal, and is
 * applied to the k x k matrix above from both sides: A - u q^T - q u^T. u takes the place of the row. Returns that entry. */
static double reflect(double *a, int64_t n, int64_t k, double *q)
{
    double *u = a + k * n, largest = 0.0;
    for (int64_t i = 0; i < k; i++) {
        largest = fmax(largest, fabs(u[i]));
    }
    if (k < 2 || largest == 0.0) {
        return k > 0 ? u[k - 1] : 0.0;
    }
    for (int64_t i = 0; i < k; i++) {
        u[i] /= largest;
    }
    const double length = copysign(sqrt(dot(u, u, k)), u[k - 1]);
    u[k - 1] += length;
    const double beta = 1.0 / (length * u[k - 1]); /* 2 / u.u */
    memset(q, 0, (size_t)k * sizeof *q);
    for (int64_t i = 0; i < k; i++) { /* q = A u from the lower triangle */
        const double *row = a + i * n, ui = u[i];
        q[i] += dot(row, u, i + 1);
        for (int64_t j = 0; j < i; j++) {
            q[j] += row[j] * ui;
        }
    }
    const double half = 0.5 * beta * beta * dot(q, u, k);
    for (int64_t i = 0; i < k; i++) {
        q[i] = beta * q[i] - half * u[i];
    }
    for (int64_t i = 0; i < k; i++) {
        double *row = a + i * n;
        const double ui = u[i], qi = q[i];
        for (int64_t j = 0; j <= i; j++) {
            row[j] -= ui * q[j] + qi * u[j];
        }
    }
    return -length * largest;
}

/* QL with implicit shifts on diagonal d and off-diagonal e (e[i] couples i and i + 1). Each sweep over l..m chases Wilkinson's shift up
 * with plane rotations; it converges cubically, 2 to 3 sweeps an eigenvalue. */
static void diagonalise(double *d, double *e, int64_t n)
{
    double norm = 0.0;
    for (int64_t i = 0; i < n; i++) {
        norm = fmax(norm, fabs(d[i]) + (i + 1 < n ? fabs(e[i]) : 0.0));
    }
    const double least = DBL_EPSILON * DBL_EPSILON * norm;
    for (int64_t l = 0; l < n; l++) {
        for (int sweep = 0;; sweep++) {
            int64_t m = l;
            while (m + 1 < n && fabs(e[m]) > DBL_EPSILON * (fabs(d[m]) + fabs(d[m + 1])) + least) {
                m++;
            }
            if (m == l) {
                break;
            }
            BIF_BUG_IF(sweep == 200, "eigenvalue %lld of %lld does not converge: numbers that are not finite?", (long long)l, (long long)n);
            const double ratio = (d[l + 1] - d[l]) / (2.0 * e[l]);
            double bulge = d[m] - d[l] + e[l] / (ratio + copysign(hypot(ratio, 1.0), ratio)), sine = 1.0, cosine = 1.0, shift = 0.0;
            bool split = false;
            for (int64_t i = m - 1; i >= l && !split; i--) {
                const double out = sine * e[i], in = cosine * e[i], radius = hypot(out, bulge);
                e[i + 1] = radius;
                if (radius == 0.0) { /* falls apart here: go on with the upper part */
                    d[i + 1] -= shift;
                    e[m] = 0.0;
                    split = true;
                } else {
                    sine = out / radius;
                    cosine = bulge / radius;
                    const double low = d[i + 1] - shift, turn = (d[i] - low) * sine + 2.0 * cosine * in;
                    shift = sine * turn;
                    d[i + 1] = low + shift;
                    bulge = cosine * turn - in;
                }
            }
            if (!split) {
                d[l] -= shift;
                e[l] = bulge;
                e[m] = 0.0;
            }
        }
    }
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

void bif_symmetric_eigenvalues(double *a, int64_t n, double *values)
{
    double *work = bif_calloc((size_t)(2 * n + 1), sizeof *work), *e = work + n;
    for (int64_t k = n - 1; k >= 0; k--) {
        values[k] = a[k * n + k];
        if (k > 0) {
            e[k - 1] = reflect(a, n, k, work);
        }
    }
    e[n > 0 ? n - 1 : 0] = 0.0;
    diagonalise(values, e, n);
    qsort(values, (size_t)n, sizeof *values, compare);
    free(work);
}

double bif_vendi_of(const double *values, int64_t n)
{
    double sum = 0.0, entropy = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += values[i] > 0.0 ? values[i] : 0.0;
    }
    for (int64_t i = 0; i < n; i++) {
        const double p = values[i] > 0.0 ? values[i] / sum : 0.0;
        entropy -= p > 0.0 ? p * log(p) : 0.0;
    }
    return sum > 0.0 ? exp(entropy) : 0.0;
}

static int compare_down(const void *left, const void *right)
{
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a < b) - (a > b);
}

bif_spread bif_spread_of(const int64_t *size, int64_t count)
{
    bif_spread s = {0};
    for (int64_t i = 0; i < count; i++) {
        s.members += size[i];
        s.used += size[i] > 0;
    }
    if (s.members == 0) {
        return s;
    }
    int64_t *sorted = bif_malloc((size_t)count * sizeof *sorted), top = 0;
    memcpy(sorted, size, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_down);
    for (int64_t i = 0; i < count && sorted[i] > 0; i++) { /* largest first: a sum that does not depend on how clusters are numbered */
        const double p = (double)sorted[i] / (double)s.members;
        s.entropy -= p * log(p);
        top += i < (count + 99) / 100 ? sorted[i] : 0;
    }
    s.effective = exp(s.entropy);
    s.top_share = (double)top / (double)s.members;
    free(sorted);
    return s;
}
