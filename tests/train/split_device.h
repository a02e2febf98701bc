/* A device of host memory that takes bf16 values: AdamW as ops.h defines it for them, done in f32 by the CPU device. */
#pragma once
#include "kernels/ops.h"
#include "host_device.h"

static bif_device *split_cpu;

static float split_join(uint16_t high, uint16_t low)
{
    const uint32_t bits = ((uint32_t)high << 16) + (uint32_t)(int32_t)(int16_t)low;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void split_adamw(bif_device *device, const bif_adamw_args *args)
{
    (void)device;
    const int64_t n = bif_numel(args->param);
    float *master = bif_malloc((size_t)n * sizeof *master + 1);
    uint16_t *high = args->param->data, *low = args->low->data;
    for (int64_t i = 0; i < n; i++) {
        master[i] = split_join(high[i], low[i]);
    }
    bif_tensor whole = bif_tensor1(master, BIF_DTYPE_F32, n);
    bif_adamw_args inner = *args;
    inner.param = &whole;
    inner.low = NULL;
    bif_adamw(split_cpu, &inner);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &master[i], sizeof bits);
        high[i] = (uint16_t)((bits + 0x8000u) >> 16);
        low[i] = (uint16_t)bits;
    }
    free(master);
}

static double split_sumsq(bif_device *device, const bif_tensor *x)
{
    (void)device;
    return bif_sumsq(split_cpu, x);
}

static bif_device split_device(void)
{
    static const bif_ops_table table = {.adamw = split_adamw, .sumsq = split_sumsq};
    if (bif_device_open("cpu", 1, &split_cpu) != BIF_OK) {
        abort();
    }
    bif_device device = host_device();
    device.kind = BIF_DEVICE_CUDA; /* the CPU device is f32 only */
    device.ops = &table;
    return device;
}
