// mpirun 2 gpus/collectives
// mpirun 3 gpus/collectives
// mpirun 2 gpus/gradients_summed_on_the_way
// mpirun 3 gpus/gradients_summed_on_the_way
// mpirun 2 gpus/kinds_of_devices_agree
// Each launch runs one test on all ranks: the NCCL backend on emulated GPUs beside the MPI backend on the CPU.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "train/comm.h"
#include "train/networks.h"
#include "train/optimizer.h"

static bif_comm *comm;
static bif_device *gpu, *cpu;
static int rank, world;

static void start(void)
{
    cr_assert_eq(bif_comm_start(NULL, NULL, &comm), BIF_OK, "%s", bif_error_message());
    rank = bif_comm_rank(comm);
    world = bif_comm_world(comm);
    cr_assert_eq(bif_comm_local_rank(comm), rank);
    cr_assert_eq(bif_device_open("cpu", 1, &cpu), BIF_OK);
    cr_assert_eq(bif_comm_open_device(comm, "cuda", 1, &gpu), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(gpu->kind, BIF_DEVICE_CUDA);
}

static void stop(void)
{
    bif_comm_disconnect(comm);
    bif_device_close(gpu);
    bif_device_close(cpu);
    bif_comm_finish(comm);
}

TestSuite(gpus, .init = start, .fini = stop);

static void connect_gpus(void)
{
    cr_assert_not(bif_comm_overlaps(comm));
    cr_assert_eq(bif_comm_connect(comm, gpu), BIF_OK, "%s", bif_error_message());
    cr_assert(bif_comm_overlaps(comm));
}

enum { PART = 37 };

Test(gpus, collectives)
{
    float host[4 * PART], back[4 * PART];
    void *memory = NULL;
    connect_gpus();
    cr_assert_eq(gpu->alloc(gpu, sizeof host, &memory), BIF_OK);
    for (int i = 0; i < world * PART; i++) {
        host[i] = bif_rng_normal((uint64_t)rank, BIF_RNG_TEST, 1, (uint32_t)i);
    }
    bif_tensor x = bif_tensor1(memory, BIF_DTYPE_F32, world * PART), there = bif_tensor1(host, BIF_DTYPE_F32, world * PART);
    gpu->copy_in(gpu, memory, host, bif_bytes(&x));
    bif_comm_reduce_scatter(comm, gpu, &x);
    bif_comm_reduce_scatter(comm, cpu, &there);
    bif_comm_wait(comm);
    gpu->copy_out(gpu, back, memory, bif_bytes(&x));
    for (int i = rank * PART; i < (rank + 1) * PART; i++) {
        cr_assert_float_eq(back[i], host[i], 1e-6f * fabsf(host[i]) + 1e-7f);
    }
    bif_comm_allgather(comm, gpu, &x);
    gpu->copy_out(gpu, host, memory, bif_bytes(&x));
    cr_assert_arr_eq(host + rank * PART, back + rank * PART, PART * sizeof *host);
    for (int i = 0; i < world * PART; i++) {
        cr_assert(isfinite(host[i]) && host[i] != 0.0f);
    }
    const bif_dtype dtypes[] = {BIF_DTYPE_I32, BIF_DTYPE_BF16};
    for (int k = 0; k < 2; k++) {
        unsigned char bytes[4 * PART * 4];
        bif_tensor t = bif_tensor1(memory, dtypes[k], world * PART);
        memset(bytes, 100 + rank, sizeof bytes);
        gpu->copy_in(gpu, memory, bytes, bif_bytes(&t));
        bif_comm_allgather(comm, gpu, &t);
        gpu->copy_out(gpu, bytes, memory, bif_bytes(&t));
        for (size_t i = 0; i < bif_bytes(&t); i++) {
            cr_assert_eq(bytes[i], 100 + i / (bif_bytes(&t) / (size_t)world));
        }
    }
    gpu->release(gpu, memory);
}

static const bif_model_config tiny = {
    .kind = BIF_MODEL_DECODER,
    .decoder = {.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 8, .inner = 24, .vocab = 32, .positions = 64, .eps = 1e-5f,
                .rope_theta = 1e4f, .bos = 1, .eos = 2},
    .image_token = -1,
    .pad_token = -1};

/* Values after three steps with given gradients, which become final one parameter after the other; *early: elements whose sum began before
 * all were. */
static float *train(bif_device *device, double *norm, int64_t *early, int64_t *flat)
{
    bif_vlm vlm;
    bif_optimizer optimizer;
    bif_config config = {0};
    config.optimizer.beta1 = 0.9;
    config.optimizer.beta2 = 0.95;
    config.optimizer.eps = 1e-8;
    config.optimizer.clip_norm = 1.0;
    bif_vlm_declare(&vlm, &tiny);
    bif_params *params = &vlm.params;
    for (int64_t i = 0; i < params->count; i++) {
        params->items[i].lr = 1e-3;
    }
    cr_assert_eq(bif_vlm_allocate(&vlm, device, world), BIF_OK);
    bif_params_init(params, 3, ~0u);
    cr_assert_eq(bif_optimizer_new(&optimizer, params, &config, comm), BIF_OK);
    optimizer.bucket = 1000; /* several, none of which ends where a parameter or a rank's part does */
    bif_optimizer_warm_up(&optimizer);
    const size_t available = device->free_bytes != NULL ? device->free_bytes(device) : 0;
    const size_t bytes = (size_t)params->flat * sizeof(float);
    float *host = bif_malloc(bytes), *unfinished = bif_malloc(bytes);
    *early = 0;
    *flat = params->flat;
    for (int64_t i = 0; i < params->flat; i++) {
        unfinished[i] = 1e9f;
    }
    for (int64_t step = 0; step < 3; step++) {
        for (int64_t i = 0; i < params->flat; i++) {
            host[i] = bif_rng_normal((uint64_t)(10 * step + rank), BIF_RNG_TEST, 2, (uint32_t)i);
        }
        device->copy_in(device, params->grads, unfinished, bytes);
        int64_t final = params->flat;
        for (int64_t i = params->count - 1; i >= 0; i--) {
            const int64_t offset = params->items[i].offset;
            device->copy_in(device, params->grads + offset, host + offset, (size_t)(final - offset) * sizeof(float));
            final = offset;
            if (!(step == 1 && rank == 1)) { /* that rank has no data in this step, and hears of no gradient */
                bif_optimizer_reached(&optimizer, offset);
                *early += i == 1 ? params->flat - optimizer.waiting : 0;
            }
        }
        *norm = bif_optimizer_reduce(&optimizer, comm);
        cr_assert_eq(optimizer.waiting, params->flat);
        bif_optimizer_step(&optimizer, comm, *norm, 1.0, step + 1);
    }
    cr_expect_eq(device->free_bytes != NULL ? device->free_bytes(device) : 0, available, "the steps took memory that no plan knew of");
    device->copy_out(device, host, params->values, bytes);
    bif_optimizer_free(&optimizer);
    bif_vlm_free(&vlm);
    free(unfinished);
    return host;
}

Test(gpus, gradients_summed_on_the_way)
{
    double norm[2];
    int64_t early[2], flat[2];
    float *there = train(cpu, &norm[0], &early[0], &flat[0]);
    connect_gpus();
    float *here = train(gpu, &norm[1], &early[1], &flat[1]);
    cr_expect_gt(early[1], 0);
    cr_expect(fabs(norm[0] - norm[1]) <= 1e-6 * norm[0], "%.9g and %.9g", norm[0], norm[1]);
    for (int64_t i = 0; i < flat[0]; i++) {
        cr_assert(fabsf(there[i] - here[i]) <= 1e-6f + 1e-5f * fabsf(there[i]), "element %lld: %g and %g", (long long)i, there[i], here[i]);
    }
    free(there);
    free(here);
}

Test(gpus, kinds_of_devices_agree)
{
    cr_expect_eq(bif_comm_connect(comm, rank == 0 ? gpu : cpu), BIF_ERR_USAGE);
    cr_expect_not_null(strstr(bif_error_message(), "1 of 2 ranks have a usable GPU"), "%s", bif_error_message());
    cr_expect_not(bif_comm_overlaps(comm));
    cr_expect_eq(bif_comm_connect(comm, cpu), BIF_OK);
    cr_expect_not(bif_comm_overlaps(comm));
}
