/* Copies, memset and kernel launches: checked as CUDA checks them, then submitted to their stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>

#include "emu_internal.h"

static std::map<const void *, int> shared_limits; /* of kernels with cudaFuncSetAttribute */

static cudaError_t failed(cudaError_t error)
{
    emu_set_error(error);
    return error;
}

static emu_space space_of(const void *at)
{
    int number;
    size_t offset, left;
    return emu_space_of(at, &number, &offset, &left);
}

/* ---- copies ---- */

static void copy_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows)
{
    emu_lock lock;
    emu_memory_open();
    for (size_t r = 0; r < rows; r++) {
        char *a = (char *)to + r * to_pitch;
        const char *b = (const char *)from + r * from_pitch;
        const bool to_device = space_of(a) == EMU_DEVICE, from_device = space_of(b) == EMU_DEVICE;
        if (to_device && from_device) {
            emu_memory_copy(a, b, width);
            continue;
        }
        if (to_device) {
            emu_memory_write(a, width, "a copy to the device");
        } else if (from_device) {
            emu_memory_read(b, width, "a copy from the device");
        }
        memmove(a, b, width);
    }
    emu_memory_close();
}

static cudaError_t copy(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows, cudaMemcpyKind kind,
                        cudaStream_t stream, bool wait)
{
    if (width == 0 || rows == 0) {
        return cudaSuccess;
    }
    const bool to_device = space_of(to) == EMU_DEVICE, from_device = space_of(from) == EMU_DEVICE;
    const bool wrong = kind == cudaMemcpyHostToDevice   ? !to_device || from_device
                       : kind == cudaMemcpyDeviceToHost ? to_device || !from_device
                       : kind == cudaMemcpyDeviceToDevice ? !to_device || !from_device
                       : kind == cudaMemcpyHostToHost     ? to_device || from_device
                                                          : false;
    if (wrong || to == NULL || from == NULL || (rows > 1 && (to_pitch < width || from_pitch < width))) {
        return failed(cudaErrorInvalidValue);
    }
    const char *lo = (const char *)to, *lo2 = (const char *)from;
    const size_t span = (rows - 1) * to_pitch + width, span2 = (rows - 1) * from_pitch + width;
    if (rows == 1 && lo < lo2 + span2 && lo2 < lo + span) {
        emu_fault(NULL, "address: a copy of %zu bytes whose source and target overlap", width);
    }
    emu_count_copy(to_device, from_device, wait);
    const std::function<void()> work = [=] { copy_rows(to, to_pitch, from, from_pitch, width, rows); };
    if (to_device && !from_device && !wait) {
        emu_submit_late(stream, "a copy", work);
    } else {
        emu_submit(stream, "a copy", work);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    return copy(to, 0, from, 0, bytes, 1, kind, NULL, true);
}

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    return copy(to, 0, from, 0, bytes, 1, kind, stream, false);
}

extern "C" cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                                    cudaMemcpyKind kind)
{
    return copy(to, to_pitch, from, from_pitch, width, rows, kind, NULL, true);
}

extern "C" cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                                         cudaMemcpyKind kind, cudaStream_t stream)
{
    return copy(to, to_pitch, from, from_pitch, width, rows, kind, stream, false);
}

extern "C" cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0) {
        return cudaSuccess;
    }
    if (space_of(memory) == EMU_HOST) {
        return failed(cudaErrorInvalidValue);
    }
    emu_submit(stream, "memset", [=] {
        emu_lock lock;
        emu_memory_open();
        emu_memory_write(memory, bytes, "memset");
        memset(memory, value, bytes);
        emu_memory_close();
    });
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    return cudaMemsetAsync(memory, value, bytes, NULL);
}

/* ---- kernels ---- */

extern "C" cudaError_t emu_func_set(const void *function, cudaFuncAttribute attribute, int value)
{
    emu_lock lock;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
        return cudaSuccess;
    }
    if (value < 0 || value > EMU_SHARED_MOST) {
        return failed(cudaErrorInvalidValue);
    }
    shared_limits[function] = value;
    return cudaSuccess;
}

static size_t shared_limit(const void *function)
{
    std::map<const void *, int>::iterator it = shared_limits.find(function);
    return it == shared_limits.end() ? EMU_SHARED_DEFAULT : (size_t)it->second;
}

extern "C" cudaError_t emu_func_get(const void *function, cudaFuncAttributes *out)
{
    memset(out, 0, sizeof *out);
    out->maxThreadsPerBlock = EMU_MAX_THREADS;
    out->numRegs = 64;
    out->ptxVersion = out->binaryVersion = 90;
    out->maxDynamicSharedSizeBytes = (int)shared_limit(function);
    return cudaSuccess;
}

extern "C" void emu_launch(const char *kernel, const void *function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                           const void *arguments, size_t bytes, void (*run)(const void *arguments))
{
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (emu_inside_kernel()) {
        emu_fault(NULL, "launch: %s launches %s", emu_who(), kernel);
    }
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535 || threads == 0 ||
        threads > EMU_MAX_THREADS || block.x > 1024 || block.y > 1024 || block.z > 64) {
        fprintf(stderr, "emu: launch of %s with grid (%u,%u,%u), block (%u,%u,%u): invalid configuration\n", kernel, grid.x, grid.y, grid.z,
                block.x, block.y, block.z);
        (void)failed(cudaErrorInvalidConfiguration);
        return;
    }
    if (shared > shared_limit(function)) {
        fprintf(stderr, "emu: launch of %s with %zu bytes of shared memory, %zu are allowed (cudaFuncSetAttribute)\n", kernel, shared,
                shared_limit(function));
        (void)failed(cudaErrorInvalidValue);
        return;
    }
    if (bytes > 4096) {
        emu_fault(NULL, "launch: %s has %zu bytes of arguments, 4096 are allowed", kernel, bytes);
    }
    /* A copy, because a graph runs it later, when the caller's is gone. */
    const std::vector<char> copy((const char *)arguments, (const char *)arguments + bytes);
    emu_submit(stream, kernel, [=] {
        emu_lock lock;
        alignas(64) unsigned char own[4096];
        memcpy(own, copy.data(), bytes);
        const emu_launch_info info = {kernel, function, grid, block, shared, own, bytes, run};
        emu_count_launch();
        emu_run(&info);
    });
}
