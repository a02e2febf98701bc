/* What the kernel tests share: guarded tensors, devices to run on, comparison, and central differences.
 *
 * A test writes its op's reference in double, obvious and slow, and checks on every device of REF_EACH_DEVICE:
 *   forward:  ref_close("y", y.data, wanted, n, 1e-6)
 *   backward: the op's gradient against central differences of a random-weighted sum of the *reference's* outputs, which is exact
 *             to about 1e-9, so the tolerance is that of f32 arithmetic and not of differencing.
 *
 * The same tests check a CUDA device: BIFOCAL_TEST_DEVICE=cuda-f32 or cuda-bf16 makes it the only device of REF_EACH_DEVICE (mirror.h).
 * With bf16 ref_f32 draws numbers that are bf16, so that the device computes with the very numbers of the reference; a test that changes
 * them calls ref_round. What an op then makes in f32 (statistics, losses, gradients of parameters) keeps its tolerance; what it stores in
 * bf16 has ref_stored(tolerance), one rounding more, or a stated one: ref_tolerance(f32, bf16). */
#pragma once
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/ops.h"
#include "mirror.h"

/* The sizes that every op is tested with. */
static const int64_t ref_sizes[] = {1, 7, 31, 33, 128, 257};
enum { REF_SIZES = sizeof ref_sizes / sizeof ref_sizes[0] };
/* Pairs with a larger product are left out where the reference is differenced: it would take minutes. */
#define REF_MOST 20000

/* ---- what is asked for ---- */

static inline bool ref_bf16(void)
{
    return mirror_wanted() == MIRROR_BF16;
}

static inline double ref_tolerance(double f32, double bf16)
{
    return ref_bf16() ? bf16 : f32;
}

/* Of an output that is computed in f32 and then stored: bf16 adds a relative error of 2^-8 at most. */
static inline double ref_stored(double f32)
{
    return ref_tolerance(f32, f32 + 0x1p-8);
}

/* Number i of `seed`, as ref_f32 draws it. */
static inline float ref_normal(uint64_t seed, int64_t i)
{
    float x = bif_rng_normal(seed, BIF_RNG_TEST, 0, (uint32_t)i);
    return ref_bf16() ? mirror_round(x) : x;
}

/* ---- guarded memory: every tensor lies between two zones that must not change ---- */

#define REF_GUARD 64
#define REF_MAX_BLOCKS 512

static struct {
    unsigned char *memory;
    size_t bytes;
} ref_blocks[REF_MAX_BLOCKS];
static int ref_block_count;

static inline void *ref_block(size_t bytes)
{
    cr_assert(ref_block_count < REF_MAX_BLOCKS, "call ref_done() between cases");
    unsigned char *memory = aligned_alloc(64, (bytes + 2 * REF_GUARD + 63) / 64 * 64);
    memset(memory, 0xAB, bytes + 2 * REF_GUARD);
    ref_blocks[ref_block_count].memory = memory;
    ref_blocks[ref_block_count++].bytes = bytes;
    return memory + REF_GUARD;
}

/* Checks all guard zones, then frees every tensor and every double array. */
static inline void ref_done(void)
{
    for (int i = 0; i < ref_block_count; i++) {
        unsigned char *memory = ref_blocks[i].memory;
        for (size_t j = 0; j < REF_GUARD; j++) {
            cr_assert(memory[j] == 0xAB && memory[REF_GUARD + ref_blocks[i].bytes + j] == 0xAB,
                      "an op wrote outside of tensor number %d (%zu bytes)", i, ref_blocks[i].bytes);
        }
        free(memory);
    }
    ref_block_count = 0;
}

/* f32 [d0] (d1 = 0) or [d0,d1]: standard normal numbers of `seed`; seed 0 leaves the guard's byte pattern in it (-1.2e-12), so an
 * element that an op forgot to write differs from its reference. */
static inline bif_tensor ref_f32(int64_t d0, int64_t d1, uint64_t seed)
{
    int64_t n = d0 * (d1 > 0 ? d1 : 1);
    float *x = ref_block((size_t)n * sizeof(float));
    for (int64_t i = 0; seed != 0 && i < n; i++) {
        x[i] = ref_normal(seed, i);
    }
    return d1 > 0 ? bif_tensor2(x, BIF_DTYPE_F32, d0, d1) : bif_tensor1(x, BIF_DTYPE_F32, d0);
}

/* f32 [n] not rounded in bf16 either: for tensors that are always f32. */
static inline bif_tensor ref_exact(int64_t n, uint64_t seed)
{
    bif_tensor t = ref_f32(n, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        ((float *)t.data)[i] = bif_rng_normal(seed, BIF_RNG_TEST, 0, (uint32_t)i);
    }
    return t;
}

/* With bf16: every number to the nearest bf16. For tensors that a test made or changed itself. */
static inline void ref_round(bif_tensor *t)
{
    float *x = t->data;
    for (int64_t i = 0; ref_bf16() && i < bif_numel(t); i++) {
        x[i] = mirror_round(x[i]);
    }
}

static inline bif_tensor ref_copy(const bif_tensor *t)
{
    bif_tensor out = *t;
    out.data = ref_block(bif_bytes(t));
    memcpy(out.data, t->data, bif_bytes(t));
    return out;
}

/* i32 [n]: uniform in [low, high). */
static inline bif_tensor ref_i32(int64_t n, int32_t low, int32_t high, uint64_t seed)
{
    int32_t *x = ref_block((size_t)n * sizeof(int32_t));
    for (int64_t i = 0; i < n; i++) {
        x[i] = low + (int32_t)(bif_rng_uniform(seed, BIF_RNG_TEST, 1, (uint32_t)i) * (float)(high - low));
    }
    return bif_tensor1(x, BIF_DTYPE_I32, n);
}

/* n zeros in double; freed by ref_done. */
static inline double *ref_zeros(int64_t n)
{
    double *x = ref_block((size_t)n * sizeof(double));
    memset(x, 0, (size_t)n * sizeof(double));
    return x;
}

static inline double *ref_double(const bif_tensor *t)
{
    int64_t n = bif_numel(t);
    double *x = ref_zeros(n);
    for (int64_t i = 0; i < n; i++) {
        x[i] = ((const float *)t->data)[i];
    }
    return x;
}

/* ---- devices ---- */

/* Opens the i-th of six CPU devices to test on: each instruction set with 1 and with 3 threads; NULL when this machine lacks it. Or the
 * mirror of a CUDA device, when that is asked for. */
static inline bif_device *ref_device(int i)
{
    static const char *const isas[] = {"generic", "avx2", "avx512"};
    bif_device *device = NULL;
    if (mirror_wanted() != MIRROR_NONE) {
        return mirror_device();
    }
    setenv("BIFOCAL_ISA", isas[i / 2], 1);
    if (bif_device_open("cpu", i % 2 == 0 ? 1 : 3, &device) != BIF_OK) {
        fprintf(stderr, "SKIPPED on this machine: %s\n", bif_error_message());
    }
    return device;
}

static inline int ref_devices(void)
{
    return mirror_wanted() == MIRROR_NONE ? 6 : 1;
}

#define REF_EACH_DEVICE(device)                              \
    for (int ref_at = 0; ref_at < ref_devices(); ref_at++)   \
        for (bif_device *device = ref_device(ref_at); device != NULL; bif_device_close(device), device = NULL)

/* ---- comparison ---- */

/* Relative L2 distance of got from wanted; a NaN or Inf on either side fails. */
static inline double ref_distance(const char *name, const float *got, const double *wanted, int64_t n)
{
    double off = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        cr_assert(isfinite(got[i]) && isfinite(wanted[i]), "%s[%lld]: got %g, wanted %g", name, (long long)i, (double)got[i],
                  wanted[i]);
        off += (got[i] - wanted[i]) * (got[i] - wanted[i]);
        norm += wanted[i] * wanted[i];
    }
    return sqrt(off) / fmax(sqrt(norm), 1e-30);
}

static inline void ref_close(const char *name, const float *got, const double *wanted, int64_t n, double tolerance)
{
    double distance = ref_distance(name, got, wanted, n);
    cr_assert(distance <= tolerance, "%s: relative distance %.3g of %lld numbers, allowed %.3g", name, distance, (long long)n,
              tolerance);
}

/* ---- central differences ---- */

typedef double (*ref_loss)(void *context); /* random-weighted sum of the reference's outputs */

#define REF_SAMPLES 40

/* got - before (NULL = 0) against d loss / d x, in relative L2 over up to REF_SAMPLES coordinates spread over x; x is put back.
 * An all-zero gradient fails: it would agree with a loss that does not depend on x. With bf16, got against before + d loss / d x: the sum
 * is what was rounded. */
static inline void ref_gradient(const char *name, ref_loss loss, void *context, double *x, int64_t n, const float *got,
                                const float *before, double tolerance)
{
    float mine[REF_SAMPLES];
    double truth[REF_SAMPLES];
    double size = 0;
    int64_t samples = n < REF_SAMPLES ? n : REF_SAMPLES;
    for (int64_t count = 0; count < samples; count++) {
        int64_t i = n <= REF_SAMPLES ? count : (int64_t)((double)count / (double)(samples - 1) * (double)(n - 1));
        double saved = x[i], h = 1e-4 * fmax(fabs(saved), 1.0);
        x[i] = saved + h;
        double up = loss(context);
        x[i] = saved - h;
        double down = loss(context);
        x[i] = saved;
        truth[count] = (up - down) / (2 * h);
        size += truth[count] * truth[count];
        mine[count] = before == NULL || ref_bf16() ? got[i] : (float)((double)got[i] - before[i]);
        truth[count] += before != NULL && ref_bf16() ? before[i] : 0;
    }
    cr_assert(size > 0, "%s: the gradient is zero everywhere", name);
    ref_close(name, mine, truth, samples, tolerance);
}

/* sum_i weight[i] y[i], weight = normal numbers of `seed`: the loss of a gradient check; ref_f32(.., seed) as dy is its gradient. */
static inline double ref_weighted(const double *y, int64_t n, uint64_t seed)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += y[i] * ref_normal(seed, i);
    }
    return sum;
}
