/* In place of attention_cudnn.cu in a build without cuDNN. */
#include "kernels/attention_cudnn.cuh"

extern "C" bool bif_cudnn_attention(bif_device *, const bif_attention_args *, void (*)(bif_device *, const bif_attention_args *))
{
    return false;
}

extern "C" bool bif_cudnn_attention_backward(bif_device *, const bif_attention_backward_args *,
                                             void (*)(bif_device *, const bif_attention_backward_args *))
{
    return false;
}

extern "C" void bif_cudnn_release(bif_device *)
{
}
