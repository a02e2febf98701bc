#include "train/plan.h"

#include <sys/resource.h>
#include <time.h>

#include "base/log.h"
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

void bif_print_memory(bif_stage_run *run, const bif_batch_limits *limits)
{
    const int world = bif_comm_world(run->comm);
    const bif_params *params = run->params;
    const double values = 4.0 * (double)(params->flat + params->frozen_elements), grads = 4.0 * (double)params->flat;
    const double moments = 8.0 * (double)(params->flat / world);
    const double activations = (double)bif_stage_measure(run, limits);
    const double batch = 24.0 * (double)limits->tokens + 3.0 * (double)(limits->images * limits->image_size * limits->image_size);
    const double loader = batch * (double)batches_held(run, limits) + (double)(run->config->data.cache_mib << 20);
    bif_info("memory plan of a rank (MiB): parameters %.1f, gradients %.1f, moments %.1f (1/%d), activations %.1f, loader about %.1f; "
             "sum %.1f",
             mib(values), mib(grads), mib(moments), world, mib(activations), mib(loader),
             mib(values + grads + moments + activations + loader));
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bif_measure_peak(bif_device *device)
{
    enum { N = 768 };
    void *memory = NULL;
    if (device->alloc(device, 3 * (size_t)N * N * sizeof(float), &memory) != BIF_OK) {
        bif_error_clear();
        return 0.0;
    }
    float *x = memory;
    bif_tensor a = bif_tensor2(x, BIF_DTYPE_F32, N, N), b = bif_tensor2(x + N * N, BIF_DTYPE_F32, N, N),
               c = bif_tensor2(x + 2 * N * N, BIF_DTYPE_F32, N, N);
    double best = 0.0;
    const double end = now() + 0.1;
    do {
        const double start = now();
        bif_linear(device, &(bif_linear_args){.x = &a, .w = &b, .y = &c});
        device->sync(device);
        const double rate = 2.0 * N * N * N / (now() - start);
        best = rate > best ? rate : best;
    } while (now() < end);
    device->release(device, memory);
    return best;
}

int64_t bif_peak_rss_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}
