/* bf16 on the host: the upper half of an f32, as uint16_t. */
#pragma once
#include "kernels/device.h"
#include "kernels/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Nearest, ties to even, as torch and the GPU round; NaN stays NaN, and what is too large becomes infinity. */
uint16_t bif_to_bf16(float value);
float bif_from_bf16(uint16_t bits); /* exact */
void bif_to_bf16s(uint16_t *out, const float *values, int64_t count);
void bif_from_bf16s(float *out, const uint16_t *bits, int64_t count);

/* Host f32 numbers into a tensor of the device that is f32 or bf16, and out of it; a bf16 tensor goes through 512 KiB of host memory.
 * Complete on return. */
void bif_copy_in_f32(bif_device *device, const bif_tensor *to, const float *host);
void bif_copy_out_f32(bif_device *device, float *host, const bif_tensor *from);

#ifdef __cplusplus
}
#endif
