/* Logistic regression: at its answer the gradient, computed here in double, vanishes; the objective is convex, so that is the minimum. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "eval/logistic.h"

static bif_comm *comm;
static bif_device *device;

static void start(void)
{
    cr_assert_eq(bif_comm_start(NULL, NULL, &comm), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_device_open("cpu", 2, &device), BIF_OK);
}

static void stop(void)
{
    bif_device_close(device);
    bif_comm_finish(comm);
}

TestSuite(logistic, .init = start, .fini = stop);

enum { ROWS = 5000, WIDTH = 17, CLASSES = 6 };

/* Objective at w, b in double, divided by rows; its gradient's length over that at zero. */
static double reference(const float *x, const int32_t *label, double l2, const float *w, const float *b, double *length)
{
    static double gradient[CLASSES][WIDTH + 1];
    double objective = 0.0, square = 0.0;
    for (int c = 0; c < CLASSES; c++) {
        for (int k = 0; k <= WIDTH; k++) {
            gradient[c][k] = k < WIDTH ? l2 / ROWS * w[c * WIDTH + k] : 0.0;
            objective += k < WIDTH ? 0.5 * l2 / ROWS * w[c * WIDTH + k] * w[c * WIDTH + k] : 0.0;
        }
    }
    for (int i = 0; i < ROWS; i++) {
        double z[CLASSES], sum = 0.0;
        for (int c = 0; c < CLASSES; c++) {
            z[c] = b[c];
            for (int k = 0; k < WIDTH; k++) {
                z[c] += (double)w[c * WIDTH + k] * x[i * WIDTH + k];
            }
            sum += exp(z[c]);
        }
        objective -= (z[label[i]] - log(sum)) / ROWS;
        for (int c = 0; c < CLASSES; c++) {
            const double residual = (exp(z[c]) / sum - (label[i] == c)) / ROWS;
            for (int k = 0; k <= WIDTH; k++) {
                gradient[c][k] += residual * (k < WIDTH ? x[i * WIDTH + k] : 1.0);
            }
        }
    }
    for (int c = 0; c < CLASSES; c++) {
        for (int k = 0; k <= WIDTH; k++) {
            square += gradient[c][k] * gradient[c][k];
        }
    }
    *length = sqrt(square);
    return objective;
}

/* Noisy classes of unequal size: no hyperplane separates them. */
static void make_rows(float *x, int32_t *label)
{
    for (int i = 0; i < ROWS; i++) {
        label[i] = (int32_t)(CLASSES * pow(bif_rng_uniform(1, BIF_RNG_TEST, (uint64_t)i, 0), 1.5));
        for (int k = 0; k < WIDTH; k++) {
            x[i * WIDTH + k] =
                0.3f * bif_rng_normal(2, BIF_RNG_TEST, (uint64_t)(i * WIDTH + k), 0) + (k % CLASSES == label[i] ? 0.2f : 0.0f);
        }
    }
}

Test(logistic, minimum)
{
    static float x[ROWS * WIDTH], w[CLASSES * WIDTH], b[CLASSES];
    static int32_t label[ROWS];
    const double strengths[] = {0.0, 1e-3, 1.0, 1e3};
    double before = INFINITY, zero = 0.0;
    make_rows(x, label);
    reference(x, label, 0.0, w, b, &zero);
    for (int s = 3; s >= 0; s--) {
        bif_logistic_result r;
        double length = 0.0;
        cr_assert_eq(bif_logistic(device, comm,
                                  &(bif_logistic_args){.x = x,
                                                       .label = label,
                                                       .rows = ROWS,
                                                       .width = WIDTH,
                                                       .classes = CLASSES,
                                                       .l2 = strengths[s],
                                                       .iterations = 1000,
                                                       .tolerance = 1e-6},
                                  w, b, &r),
                     BIF_OK, "%s", bif_error_message());
        const double objective = reference(x, label, strengths[s], w, b, &length);
        cr_assert(length < 3e-6 * zero, "l2 %g: gradient %g of %g after %lld iterations", strengths[s], length, zero,
                  (long long)r.iterations);
        cr_assert(fabs(objective - r.objective) < 1e-6 * objective, "l2 %g: objective %.9g, said %.9g", strengths[s], objective,
                  r.objective);
        cr_assert(objective <= before && r.iterations < 200, "l2 %g: %lld iterations", strengths[s], (long long)r.iterations);
        before = objective;
    }
}

/* Classes that a plane separates have no minimum without l2; the search ends all the same, and with every row right. */
Test(logistic, separable)
{
    float x[64][2], w[2][2], b[2];
    int32_t label[64];
    bif_logistic_result r;
    for (int i = 0; i < 64; i++) {
        label[i] = i % 2;
        x[i][0] = (i % 2 ? 1.0f : -1.0f) * (0.5f + bif_rng_uniform(3, BIF_RNG_TEST, (uint64_t)i, 0));
        x[i][1] = bif_rng_normal(3, BIF_RNG_TEST, (uint64_t)i, 1);
    }
    cr_assert_eq(bif_logistic(device, comm,
                              &(bif_logistic_args){
                                  .x = x[0], .label = label, .rows = 64, .width = 2, .classes = 2, .iterations = 1000, .tolerance = 1e-5},
                              w[0], b, &r),
                 BIF_OK);
    cr_assert(r.objective < 1e-4 && r.gradient <= 1e-5, "objective %g, gradient %g", r.objective, r.gradient);
    for (int i = 0; i < 64; i++) {
        const double z = (w[1][0] - w[0][0]) * x[i][0] + (w[1][1] - w[0][1]) * x[i][1] + b[1] - b[0];
        cr_assert((z > 0) == label[i]);
    }
}
