/* A device of plain host memory: the training room's bookkeeping needs no kernels. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "kernels/device.h"

static bif_status host_alloc(bif_device *device, size_t bytes, void **out)
{
    (void)device;
    *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(*out, 0, bytes);
    return BIF_OK;
}

static void host_release(bif_device *device, void *memory)
{
    (void)device;
    free(memory);
}

static void host_zero(bif_device *device, void *memory, size_t bytes)
{
    (void)device;
    memset(memory, 0, bytes);
}

static void host_copy(bif_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
}

static bif_device host_device(void)
{
    return (bif_device){.name = "host memory",
                        .alloc = host_alloc,
                        .release = host_release,
                        .zero = host_zero,
                        .copy = host_copy,
                        .copy_in = host_copy,
                        .copy_out = host_copy};
}
