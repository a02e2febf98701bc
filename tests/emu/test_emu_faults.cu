/* Each deliberate fault of a kernel is seen, and its right version passes. */
#include "kernels/cuda.cuh"
#include "kernels/mma.cuh"

#include "emu_test.h"

static float *device_floats(int n, bool written)
{
    float *x = NULL;
    if (cudaMalloc(&x, sizeof(float) * (size_t)n) != cudaSuccess ||
        (written && cudaMemset(x, 0, sizeof(float) * (size_t)n) != cudaSuccess)) {
        abort();
    }
    return x;
}

/* ---- barriers ---- */

static __global__ void reverse_in_block(float *x, int n, bool barrier)
{
    BIF_SHARED(float, s);
    const int i = (int)threadIdx.x;
    s[i] = x[i] + (float)i;
    if (barrier) {
        __syncthreads();
    }
    x[i] = s[n - 1 - i];
}

static bool reverse(bool barrier)
{
    const int n = 128;
    float *x = device_floats(n, true), host[n];
    BIF_LAUNCH(reverse_in_block, 1, n, sizeof(float) * n, 0, x, n, barrier);
    bool good = cudaGetLastError() == cudaSuccess && cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost) == cudaSuccess;
    for (int i = 0; i < n; i++) {
        good = good && host[i] == (float)(n - 1 - i);
    }
    return good;
}
static bool barrier_there(void) { return reverse(true); }
static bool barrier_missing(void) { return reverse(false); }

static __global__ void branch(float *x, int who)
{
    if ((int)threadIdx.x < who) {
        __syncthreads();
        x[threadIdx.x] = 1.0f;
    } else {
        __syncthreads();
        x[threadIdx.x] = 2.0f;
    }
}
static bool branch_of(int who)
{
    float *x = device_floats(64, true);
    BIF_LAUNCH(branch, 3, 64, 0, 0, x, who);
    return true;
}
static bool barrier_in_branch(void) { return branch_of(33); }

static __global__ void leave(float *x)
{
    if (threadIdx.x == 33 && blockIdx.x == 2) {
        return;
    }
    __syncthreads();
    x[blockIdx.x * blockDim.x + threadIdx.x] = 1.0f;
}
static bool thread_left(void)
{
    float *x = device_floats(64 * 3, true);
    BIF_LAUNCH(leave, 3, 64, 0, 0, x);
    return true;
}

static __global__ void absent_lane(float *x)
{
    float v = (float)threadIdx.x;
    if (threadIdx.x != 7) {
        v = __shfl_xor_sync(0xffffffffu, v, 1);
    }
    x[threadIdx.x] = v;
}
static bool shuffle_absent(void)
{
    float *x = device_floats(32, true);
    BIF_LAUNCH(absent_lane, 1, 32, 0, 0, x);
    return true;
}

static __global__ void two_shuffles(float *x)
{
    float v = (float)threadIdx.x;
    if (threadIdx.x < 16) {
        v += __shfl_xor_sync(0xffffffffu, v, 1);
    } else {
        v -= __shfl_xor_sync(0xffffffffu, v, 1);
    }
    x[threadIdx.x] = v;
}
static bool shuffle_diverged(void)
{
    float *x = device_floats(32, true);
    BIF_LAUNCH(two_shuffles, 1, 32, 0, 0, x);
    return true;
}

static __global__ void small_block(float *x)
{
    x[threadIdx.x] = __shfl_down_sync(0xffffffffu, (float)threadIdx.x, 1);
}
static bool mask_of_missing(void)
{
    float *x = device_floats(32, true);
    BIF_LAUNCH(small_block, 1, 20, 0, 0, x);
    return true;
}

/* ---- races ---- */

/* Two warps pass numbers through shared memory; `again`: a barrier before the buffer is used again. */
static __global__ void used_again(float *x, bool again)
{
    BIF_SHARED(float, s);
    const int i = (int)threadIdx.x;
    float sum = 0.0f;
    for (int round = 0; round < 3; round++) {
        s[i] = (float)(i + round);
        __syncthreads();
        sum += s[i ^ 32];
        if (again) {
            __syncthreads();
        }
    }
    x[i] = sum;
}
static bool used_again_of(bool again)
{
    float *x = device_floats(64, true);
    BIF_LAUNCH(used_again, 1, 64, 64 * sizeof(float), 0, x, again);
    return true;
}
static bool race_between_barriers(void) { return used_again_of(false); }
static bool no_race_between_barriers(void) { return used_again_of(true); }

static __global__ void lanes(float *x, bool sync)
{
    BIF_SHARED(float, s);
    const int i = (int)threadIdx.x;
    s[i] = (float)i;
    if (sync) {
        __syncwarp();
    }
    x[i] = s[i ^ 1];
}
static bool lanes_of(bool sync)
{
    float *x = device_floats(64, true);
    BIF_LAUNCH(lanes, 1, 64, 64 * sizeof(float), 0, x, sync);
    return true;
}
static bool race_in_warp(void) { return lanes_of(false); }
static bool no_race_in_warp(void) { return lanes_of(true); }

static __global__ void across_warps(float *x)
{
    BIF_SHARED(float, s);
    const int i = (int)threadIdx.x;
    s[i] = (float)i;
    __syncwarp();
    x[i] = s[i ^ 32]; /* of the other warp */
}
static bool race_across_warps(void)
{
    float *x = device_floats(64, true);
    BIF_LAUNCH(across_warps, 1, 64, 64 * sizeof(float), 0, x);
    return true;
}

static __global__ void neighbours(float *x, int step)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    x[i] = x[(i + step) % (int)(gridDim.x * blockDim.x)] + 1.0f;
}
static bool neighbours_of(int step)
{
    float *x = device_floats(256, true);
    BIF_LAUNCH(neighbours, 4, 64, 0, 0, x, step);
    BIF_LAUNCH(neighbours, 4, 64, 0, 0, x, 0); /* another launch is ordered */
    return true;
}
static bool race_between_blocks(void) { return neighbours_of(64); }
static bool no_race_between_blocks(void) { return neighbours_of(0); }

static __global__ void same_sum(float *x, bool atomic)
{
    if (atomic) {
        atomicAdd(x, 1.0f);
    } else if (threadIdx.x == 0) {
        x[0] += 1.0f;
    }
}
static bool same_sum_of(bool atomic)
{
    float *x = device_floats(1, true), host = 0.0f;
    BIF_LAUNCH(same_sum, 5, 64, 0, 0, x, atomic);
    return cudaMemcpy(&host, x, sizeof host, cudaMemcpyDeviceToHost) == cudaSuccess && host == 320.0f;
}
static bool race_sum(void) { return same_sum_of(false); }
static bool no_race_sum(void) { return same_sum_of(true); }

static __global__ void halves(__nv_bfloat16 *x)
{
    x[threadIdx.x] = __float2bfloat16_rn(1.0f); /* neighbours share a 4-byte word, and that is fine */
}
static bool no_race_halves(void)
{
    float *x = device_floats(32, false);
    BIF_LAUNCH(halves, 1, 64, 0, 0, (__nv_bfloat16 *)x);
    return true;
}

/* ---- addresses ---- */

static __global__ void fill(float *x, int n)
{
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        x[i] = 1.0f;
    }
}
static bool global_bounds(void)
{
    float *x = device_floats(100, true);
    BIF_LAUNCH(fill, 1, 32, 0, 0, x, 101);
    return true;
}
static bool global_inside(void)
{
    float *x = device_floats(100, true);
    BIF_LAUNCH(fill, 1, 32, 0, 0, x, 100);
    return true;
}
static bool freed(void)
{
    float *x = device_floats(100, true);
    cudaFree(x);
    BIF_LAUNCH(fill, 1, 32, 0, 0, x, 100);
    return true;
}

static __global__ void fill_shared(float *x, int n)
{
    BIF_SHARED(float, s);
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        s[i] = 1.0f;
    }
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}
static bool fill_shared_of(int n)
{
    float *x = device_floats(32, true);
    BIF_LAUNCH(fill_shared, 1, 32, 33 * sizeof(float), 0, x, n);
    return true;
}
static bool shared_bounds(void) { return fill_shared_of(34); }
static bool shared_inside(void) { return fill_shared_of(33); }

static bool host_pointer(void)
{
    static float host[32];
    float *memory = (float *)malloc(sizeof host);
    BIF_LAUNCH(fill, 1, 32, 0, 0, memory, 32);
    return true;
}

#ifdef EMU_ASAN /* the compiler may split a wide access before the hooks see it */
static __global__ void wide(float4 *x)
{
    x[threadIdx.x] = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
}
static bool misaligned_wide(void)
{
    float *x = device_floats(100, true);
    BIF_LAUNCH(wide, 1, 1, 0, 0, (float4 *)(x + 1));
    return true;
}
#endif
static bool misaligned(void)
{
    float *x = device_floats(100, true);
    BIF_LAUNCH(fill, 1, 32, 0, 0, (float *)((char *)x + 2), 32);
    return true;
}

static bool host_touches(void)
{
    float *x = device_floats(100, true);
    x[3] = 1.0f;
    return true;
}

/* ---- unwritten bytes ---- */

static __global__ void add(float *y, const float *x)
{
    y[threadIdx.x] = x[threadIdx.x] + 1.0f;
}
static bool unwritten_global(void)
{
    float *x = device_floats(64, false), *y = device_floats(64, true);
    cudaMemset(x, 0, 63 * sizeof(float));
    BIF_LAUNCH(add, 1, 64, 0, 0, y, x);
    return true;
}
static bool unwritten_copy_out(void)
{
    float *x = device_floats(64, false), host[64];
    cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost);
    return true;
}

static __global__ void from_shared(float *x)
{
    BIF_SHARED(float, s);
    if (blockIdx.x == 0 || threadIdx.x != 5) {
        s[threadIdx.x] = 1.0f;
    }
    __syncthreads();
    x[blockIdx.x * 32 + threadIdx.x] = s[threadIdx.x];
}
static bool unwritten_shared(void)
{
    float *x = device_floats(64, true);
    BIF_LAUNCH(from_shared, 2, 32, 32 * sizeof(float), 0, x);
    return true;
}

/* ---- asynchronous copies ---- */

static __global__ void through(float *y, const float *x, int wait)
{
    BIF_SHARED(float, s);
    const int i = (int)threadIdx.x;
    bif_copy_16(s + 4 * i, x + 4 * i, 16);
    bif_copy_group();
    bif_copy_16(s + 128 + 4 * i, x + 4 * i, 8);
    bif_copy_group();
    if (wait == 0) {
        bif_copy_wait<0>();
    } else if (wait == 1) {
        bif_copy_wait<1>();
    }
    __syncthreads();
    for (int j = i; j < 256; j += 32) {
        y[j] = s[j];
    }
}
static bool through_of(int wait)
{
    float *x = device_floats(128, true), *y = device_floats(256, true), host[256];
    for (int i = 0; i < 128; i++) {
        host[i] = (float)i;
    }
    cudaMemcpy(x, host, 128 * sizeof(float), cudaMemcpyHostToDevice);
    BIF_LAUNCH(through, 1, 32, 256 * sizeof(float), 0, y, x, wait);
    bool good = cudaMemcpy(host, y, sizeof host, cudaMemcpyDeviceToHost) == cudaSuccess;
    for (int i = 0; i < 128; i++) {
        good = good && host[i] == (float)i && host[128 + i] == (i % 4 < 2 ? (float)i : 0.0f);
    }
    return good;
}
static bool copy_waited(void) { return through_of(0); }
static bool copy_waited_for_one(void) { return through_of(1); }
static bool copy_not_waited(void) { return through_of(2); }

/* Two stages; `ordered`: a barrier between the last reading of a stage and the copy that overwrites it. */
static __global__ void stages(float *y, const float *x, bool ordered)
{
    BIF_SHARED(float, s);
    const int i = (int)threadIdx.x;
    float sum = 0.0f;
    bif_copy_16(s + 4 * i, x + 4 * i, 16);
    bif_copy_group();
    for (int k = 0; k < 4; k++) {
        bif_copy_16(s + 256 * ((k + 1) & 1) + 4 * i, x + 4 * i, 16);
        bif_copy_group();
        bif_copy_wait<1>();
        __syncthreads();
        sum += s[256 * (k & 1) + (4 * i + 128) % 256];
        if (ordered) {
            __syncthreads();
        }
    }
    bif_copy_wait<0>();
    y[i] = sum;
}
static bool stages_of(bool ordered)
{
    float *x = device_floats(256, true), *y = device_floats(64, true);
    BIF_LAUNCH(stages, 1, 64, 512 * sizeof(float), 0, y, x, ordered);
    return true;
}
static bool stage_overwritten(void) { return stages_of(false); }
static bool stage_kept(void) { return stages_of(true); }

/* ---- launches ---- */

static bool bad_launches(void)
{
    float *x = device_floats(32, true);
    BIF_LAUNCH(fill, 0, 32, 0, 0, x, 1);
    bool good = cudaGetLastError() == cudaErrorInvalidConfiguration;
    BIF_LAUNCH(fill, 1, 1025, 0, 0, x, 1);
    good = good && cudaGetLastError() == cudaErrorInvalidConfiguration;
    BIF_LAUNCH(fill, dim3(1, 65536), 32, 0, 0, x, 1);
    good = good && cudaGetLastError() == cudaErrorInvalidConfiguration;
    BIF_LAUNCH(fill_shared, 1, 32, 50000, 0, x, 32);
    good = good && cudaGetLastError() == cudaErrorInvalidValue;
    good = good && cudaFuncSetAttribute(fill_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 232449) == cudaErrorInvalidValue;
    (void)cudaGetLastError();
    good = good && cudaFuncSetAttribute(fill_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 232448) == cudaSuccess;
    BIF_LAUNCH(fill_shared, 1, 32, 232448, 0, x, 58112);
    return good && cudaGetLastError() == cudaSuccess;
}

int main(int argc, char **argv)
{
    static const emu_case cases[] = {
        {"barrier_there", barrier_there, NULL, false},
        {"barrier_missing", barrier_missing, "emu: ", true},
        {"barrier_in_branch", barrier_in_branch, "emu: barrier: the threads of block (0,0,0) of kernel branch wait", false},
        {"thread_left", thread_left, "emu: barrier: thread 33 of block (2,0,0) of kernel leave left while", false},
        {"shuffle_absent", shuffle_absent, "emu: warp: thread 7 of block (0,0,0) of kernel absent_lane left while", false},
        {"shuffle_diverged", shuffle_diverged, "emu: warp: the lanes of a warp diverge", false},
        {"mask_of_missing", mask_of_missing, "names lanes that the block of 20 threads does not have", false},
        {"race_between_barriers", race_between_barriers, "emu: race: ", true},
        {"no_race_between_barriers", no_race_between_barriers, NULL, false},
        {"race_in_warp", race_in_warp, "emu: ", true},
        {"no_race_in_warp", no_race_in_warp, NULL, false},
        {"race_across_warps", race_across_warps, "emu: ", true},
        {"race_between_blocks", race_between_blocks, "which another block", true},
        {"no_race_between_blocks", no_race_between_blocks, NULL, false},
        {"race_sum", race_sum, "which another block wrote", true},
        {"no_race_sum", no_race_sum, NULL, false},
        {"no_race_halves", no_race_halves, NULL, false},
#ifdef EMU_ASAN
        {"global_bounds", global_bounds, "heap-buffer-overflow", false},
        {"shared_bounds", shared_bounds, "use-after-poison", false},
        {"freed", freed, "heap-use-after-free", false},
        {"misaligned", misaligned, "misaligned address", false},
        {"misaligned_wide", misaligned_wide, "misaligned address", false},
        {"host_pointer", host_pointer, "", true},
#else
        {"global_bounds", global_bounds, "writes 4 bytes at allocation 1 + 400, which has 400 bytes, out of bounds", false},
        {"shared_bounds", shared_bounds, "thread 1 of block (0,0,0) of kernel fill_shared writes 4 bytes at shared + 132 of 132 bytes",
         false},
        {"freed", freed, "out of bounds", false},
        {"misaligned", misaligned, "which is not aligned", false},
        {"host_pointer", host_pointer, "host memory, out of bounds", true},
#endif
        {"global_inside", global_inside, NULL, false},
        {"shared_inside", shared_inside, NULL, false},
        {"host_touches", host_touches, "emu: address: host code touches device memory (allocation 1 + 12", true},
        {"unwritten_global", unwritten_global, "at allocation 1 + 252 of 256 bytes, which nobody has written", true},
        {"unwritten_copy_out", unwritten_copy_out, "which nobody has written", true},
        {"unwritten_shared", unwritten_shared, "thread 5 of block (1,0,0) of kernel from_shared reads 4 bytes at shared + 20", true},
        {"copy_waited", copy_waited, NULL, false},
        {"copy_waited_for_one", copy_waited_for_one, "emu: unwritten: ", true},
        {"copy_not_waited", copy_not_waited, "emu: unwritten: ", true},
        {"stage_overwritten", stage_overwritten, "emu: ", true},
        {"stage_kept", stage_kept, NULL, false},
        {"bad_launches", bad_launches, NULL, false},
    };
    return emu_run_cases(cases, sizeof cases / sizeof cases[0], argc, argv);
}
