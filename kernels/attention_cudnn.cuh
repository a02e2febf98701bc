/* cuDNN's attention beside our own: attention_cudnn.cu in a build with BIFOCAL_CUDNN, else attention_no_cudnn_cuda.cu, which takes no call.
 * Both return true when the op is done, and false when the caller is to run its kernels. `own` is these kernels: a kind of call that comes
 * for the first time is timed with both. */
#pragma once
#include "kernels/ops.h"

extern "C" {
bool bif_cudnn_attention(bif_device *device, const bif_attention_args *args, void (*own)(bif_device *, const bif_attention_args *));
bool bif_cudnn_attention_backward(bif_device *device, const bif_attention_backward_args *args,
                                  void (*own)(bif_device *, const bif_attention_backward_args *));
/* At close, after the recordings are forgotten and the stream is idle. */
void bif_cudnn_release(bif_device *device);
}
