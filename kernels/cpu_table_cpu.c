/* The table of one instruction set. */
#include "kernels/cpu.h"

#define X(op) void BIF_CPU(op)(bif_device *device, const bif_##op##_args *args);
BIF_OPS(X)
#undef X
void BIF_CPU(axpy)(bif_device *device, float alpha, const bif_tensor *x, bif_tensor *y);
void BIF_CPU(scale)(bif_device *device, float alpha, bif_tensor *x);
double BIF_CPU(sumsq)(bif_device *device, const bif_tensor *x);
void BIF_CPU(sum)(bif_device *device, const bif_tensor *x, bif_tensor *sum);

extern const bif_ops_table BIF_CPU(table);
const bif_ops_table BIF_CPU(table) = {
#define X(op) .op = BIF_CPU(op),
    BIF_OPS(X)
#undef X
    .axpy = BIF_CPU(axpy),
    .scale = BIF_CPU(scale),
    .sumsq = BIF_CPU(sumsq),
    .sum = BIF_CPU(sum),
};
