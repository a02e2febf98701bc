#include "train/plan.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/log.h"
#include "base/rng.h"
#include "kernels/convert.h"
#include "train/comm.h"

void bif_print_manifest(const bif_params *params)
{
    bif_info("%-10s %8s %14s  %s", "group", "tensors", "parameters", "learning rate");
    for (int group = 0; group < BIF_GROUPS; group++) {
        for (int trainable = 1; trainable >= 0; trainable--) {
            int64_t tensors = 0, elements = 0;
            double lr = 0.0;
            for (int64_t i = 0; i < params->count; i++) {
                const bif_param *p = &params->items[i];
                if (p->group == (bif_group)group && p->trainable == (trainable == 1)) {
                    tensors++;
                    elements += bif_numel(&p->value);
                    lr = p->lr;
                }
            }
            if (tensors == 0) {
                continue;
            }
            if (trainable) {
                bif_info("%-10s %8lld %14lld  %.3g", bif_group_name((bif_group)group), (long long)tensors, (long long)elements, lr);
            } else {
                bif_info("%-10s %8lld %14lld  frozen", bif_group_name((bif_group)group), (long long)tensors, (long long)elements);
            }
        }
    }
}

/* Of what is free. The rest is for what comes later and no plan knows: kernels, which are loaded when first called, and recorded steps. */
static const double USABLE = 0.95;

static double mib(double bytes)
{
    return bytes / (1024.0 * 1024.0);
}

/* Micro-batches the loaders hold: of the steps ahead and the one in work, and of two while validating. */
static int64_t batches_held(const bif_stage_run *run, const bif_batch_limits *limits)
{
    const bif_config *c = run->config;
    const int64_t world = bif_comm_world(run->comm), samples = (c->batch.samples + world - 1) / world;
    const int64_t steps = c->data.prefetch + 1 + (c->data.validation.count > 0 ? 2 : 0);
    return steps * ((samples + limits->sequences - 1) / limits->sequences);
}

/* For tensors of micro-batches beside parameters, gradients and moments, which are allocated already. */
static const char *choose_recompute(bif_stage_run *run, const bif_batch_limits *limits, double room)
{
    const bif_recompute wish = run->config->train.recompute;
    bif_stage_set_recompute(run, wish == BIF_RECOMPUTE_YES);
    if (wish != BIF_RECOMPUTE_AUTO) {
        return wish == BIF_RECOMPUTE_YES ? "blocks recomputed, as set" : "all kept, as set";
    }
    if (run->device->free_bytes == NULL) {
        return "all kept";
    }
    const bool fits = (double)(bif_stage_measure(run, limits) + bif_stage_measure_inputs(run, limits)) <= USABLE * room;
    bif_stage_set_recompute(run, !fits);
    return fits ? "all kept, they fit" : "blocks recomputed, else they do not fit";
}

bif_status bif_plan_memory(bif_stage_run *run, const bif_batch_limits *limits)
{
    const int world = bif_comm_world(run->comm);
    const bif_params *params = run->params;
    const bif_config *c = run->config;
    const bool split = params->dtype == BIF_DTYPE_BF16, gpu = run->device->free_bytes != NULL;
    const double room = gpu ? (double)run->device->free_bytes(run->device) : 0.0;
    const char *why = choose_recompute(run, limits, room);
    const double size = (double)bif_dtype_size(params->dtype);
    const double values = size * (double)(params->flat + params->frozen_elements), grads = 4.0 * (double)params->flat;
    const double moments = (split ? 10.0 : 8.0) * (double)(params->flat / world); /* m, v, and the lower halves of the masters */
    const double activations = (double)bif_stage_measure(run, limits), inputs = (double)bif_stage_measure_inputs(run, limits);
    const double batch = 24.0 * (double)limits->tokens + 3.0 * (double)(limits->images * limits->image_size * limits->image_size);
    const double loader = batch * (double)batches_held(run, limits) + (double)(c->data.cache_mib << 20);
    const double here = values + grads + moments + activations + inputs;
    bif_info("memory plan of a rank (MiB): parameters %.1f (%s), gradients %.1f, moments %.1f (1/%d), activations %.1f (%s), inputs %.1f, "
             "loader about %.1f; sum %.1f",
             mib(values), bif_dtype_name(params->dtype), mib(grads), mib(moments), world, mib(activations), why, mib(inputs), mib(loader),
             mib(here + loader));
    if (!gpu) {
        return BIF_OK;
    }
    bif_info("of these on %s %.1f, %.1f of them yet to take, %.1f free; on the host loader %.1f, pinned %.1f", run->device->name, mib(here),
             mib(activations + inputs), mib(room), mib(loader), mib(inputs));
    const bool recomputed = run->vlm.recompute || run->clip.recompute;
    return activations + inputs <= USABLE * room
               ? BIF_OK
               : bif_fail(BIF_ERR_MEMORY, "the memory plan does not fit: activations take %.1f MiB and inputs %.1f MiB, and beside "
                          "parameters, gradients and moments (%.1f MiB) %s has %.1f MiB for them; lower batch.micro_tokens (%lld) or "
                          "batch.micro_samples%s",
                          mib(activations), mib(inputs), mib(values + grads + moments), run->device->name, mib(USABLE * room),
                          (long long)c->batch.micro_tokens, recomputed ? "" : ", or set train.recompute: yes");
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Numbers and not zeros: a GPU slows down with the power that changing bits take. */
static void fill(bif_device *device, const bif_tensor *matrix)
{
    enum { PIECE = 1 << 14 };
    float *values = bif_malloc(PIECE * sizeof *values);
    for (uint32_t i = 0; i < PIECE; i++) {
        values[i] = 2.0f * bif_rng_uniform(0, BIF_RNG_INIT, 0, i) - 1.0f;
    }
    for (int64_t at = 0; at < bif_numel(matrix); at += PIECE) { /* PIECE divides the sizes below */
        const bif_tensor part = bif_part2(matrix, at, PIECE, 1);
        bif_copy_in_f32(device, &part, values);
    }
    free(values);
}

/* Of a product of n x n matrices; *seconds: of one. */
static double rate_of(bif_device *device, bif_dtype dtype, int64_t n, double *seconds)
{
    void *memory = NULL;
    *seconds = 0.0;
    if (device->alloc(device, 3 * (size_t)(n * n) * bif_dtype_size(dtype), &memory) != BIF_OK) {
        bif_error_clear();
        return 0.0;
    }
    const bif_tensor all = bif_tensor2(memory, dtype, 3 * n, n), a = bif_rows(&all, 0, n), b = bif_rows(&all, n, n);
    bif_tensor c = bif_rows(&all, 2 * n, n);
    fill(device, &a);
    fill(device, &b);
    double best = 0.0;
    const double end = now() + 0.1;
    do {
        const double start = now();
        bif_linear(device, &(bif_linear_args){.x = &a, .w = &b, .y = &c});
        device->sync(device);
        *seconds = now() - start;
        const double rate = 2.0 * (double)n * (double)n * (double)n / *seconds;
        best = rate > best ? rate : best;
    } while (now() < end);
    device->release(device, memory);
    return best;
}

/* Large enough to fill the device, small enough to repeat in 0.1 s: a GPU that takes long for the first size is left at that. */
double bif_measure_peak(bif_device *device, bif_dtype dtype)
{
    double seconds = 0.0;
    if (device->kind == BIF_DEVICE_CPU) {
        return rate_of(device, dtype, 768, &seconds);
    }
    const double first = rate_of(device, dtype, 512, &seconds), second = seconds < 0.01 ? rate_of(device, dtype, 4096, &seconds) : 0.0;
    return second > first ? second : first;
}

int64_t bif_peak_rss_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}
