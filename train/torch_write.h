/* A file of torch.save (since torch 1.6): a dictionary of tensors, which torch.load reads with weights_only=True, and train/torch_zip.h. */
#pragma once
#include "train/safetensors.h"

/* Dtypes F32, BF16, F16, I64, I32, U8. Atomic (base/file.h). Each tensor is read twice, for the zip wants its CRC-32. BIF_ERR_DATA when the
 * file would be larger than 4 GiB - 1, which a plain zip cannot be. */
bif_status bif_torch_write(const char *path, const bif_st_out *tensors, int64_t count);
