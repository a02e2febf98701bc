/* The product of two narrow matrices added to a large one, in host memory, without a device: what a LoRA adapter does to a weight. */
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BIF_LOW_RANK_COLUMNS 512 /* of A and out, at most so many a call */

/* out [rows, columns], its rows `stride` apart, += scale * B [rows, rank] A [rank, columns]. A's rows are BIF_LOW_RANK_COLUMNS apart, zero
 * (or any number) behind `columns`. Each sum runs over the rank in order, whatever rows and columns are. One thread; the best instruction
 * set there is (kernels/device.c). */
void bif_low_rank_add(int64_t rows, int64_t columns, int64_t rank, float scale, const float *b, const float *a, float *out,
                      int64_t stride);

#ifdef __cplusplus
}
#endif
