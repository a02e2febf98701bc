/* The CUDA device, in builds with CUDA (BIF_CUDA) only. */
#pragma once
#include "kernels/device.h"

#ifdef BIF_CUDA
#ifdef __cplusplus
extern "C" {
#endif

/* index: the GPU, or -1 for the first. BIF_ERR_USAGE when there is no driver, no such GPU, or no kernels for it. */
bif_status bif_device_open_cuda(int index, bif_device **out);

#ifdef __cplusplus
}
#endif
#endif
