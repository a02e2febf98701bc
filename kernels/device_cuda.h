/* The CUDA device, in builds with CUDA (BIF_CUDA) only. */
#pragma once
#include "kernels/device.h"

#ifdef BIF_CUDA
#ifdef __cplusplus
extern "C" {
#endif

/* index: the GPU, or -1 for the first. BIF_ERR_USAGE when there is no driver, no such GPU, or one too old. */
bif_status bif_device_open_cuda(int index, bif_device **out);
/* GPUs that this process sees; 0 without a driver. */
int bif_cuda_count(void);
/* The cudaStream_t of the device's ops. */
void *bif_cuda_stream(const bif_device *device);

#ifdef __cplusplus
}
#endif
#endif
