/* The CUDA device on the emulation: memory, feeding, recordings; and a network's micro-step recorded. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "emu/emu.h"
#include "kernels/ops.h"
#include "train/networks.h"
#include "train/plan.h"

static bif_device *device;

static void start(void)
{
    cr_assert_eq(bif_device_open("cuda", 0, &device), BIF_OK, "%s", bif_error_message());
}

static void stop(void)
{
    bif_device_close(device);
    cr_expect_eq(emu_bytes_held(), 0, "%lld bytes were not given back", (long long)emu_bytes_held());
}

TestSuite(device, .init = start, .fini = stop);

static void *take(size_t bytes)
{
    void *memory = NULL;
    cr_assert_eq(device->alloc(device, bytes, &memory), BIF_OK, "%s", bif_error_message());
    return memory;
}

Test(device, memory)
{
    enum { N = 1000 };
    unsigned char host[N], back[N];
    const size_t before = device->free_bytes(device);
    unsigned char *a = take(N), *b = take(N);
    cr_expect_leq(device->free_bytes(device), before - 2 * N);
    device->copy_out(device, back, a, N);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(back[i], 0);
        host[i] = (unsigned char)(7 * i);
    }
    device->copy_in(device, a, host, N);
    device->copy(device, b, a, N);
    device->zero(device, b + 10, 5);
    memset(host + 10, 0, 5);
    device->copy_out(device, back, b, N);
    cr_expect_arr_eq(back, host, N);
    device->release(device, a);
    device->release(device, b);
    device->release(device, NULL);
    void *none = host;
    cr_expect_eq(device->alloc(device, (size_t)1 << 50, &none), BIF_ERR_MEMORY);
    cr_expect_null(none);
}

Test(device, auto_says_why_a_gpu_is_not_used)
{
    char text[400] = "";
    FILE *log = tmpfile();
    bif_device *other = NULL;
    cr_assert_not_null(log);
    bif_log_set_copy(fileno(log));
    emu_limit_memory(1);
    cr_expect_eq(bif_device_open("auto", 1, &other), BIF_OK);
    emu_limit_memory(0);
    bif_log_set_copy(-1);
    cr_expect_eq(other->kind, BIF_DEVICE_CPU);
    rewind(log);
    cr_expect_gt(fread(text, 1, sizeof text - 1, log), 0);
    cr_expect_not_null(strstr(text, "no room for 96 MiB"), "%s", text);
    cr_expect_not_null(strstr(text, "going on with the CPU"), "%s", text);
    fclose(log);
    bif_device_close(other);
}

enum { N = 64 };

/* What was fed is what the ops between feed_wait and feed_done see, while the other slot is filled. */
Test(device, feeding_two_slots)
{
    float *host[2], *memory[2], *sum = take(N * sizeof *sum), back[N], expected = 0.0f;
    bif_tensor to = bif_tensor1(sum, BIF_DTYPE_F32, N);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(device->alloc_host(device, N * sizeof(float), (void **)&host[i]), BIF_OK);
        memory[i] = take(N * sizeof(float));
    }
    for (int round = 0; round < 7; round++) {
        const int slot = round % 2;
        device->feed_free(device, slot);
        for (int i = 0; i < N; i++) {
            host[slot][i] = (float)(round + 1);
        }
        device->feed(device, slot, memory[slot], host[slot], N * sizeof(float));
        if (round > 0) {
            const bif_tensor from = bif_tensor1(memory[1 - slot], BIF_DTYPE_F32, N);
            device->feed_wait(device, 1 - slot);
            bif_axpy(device, 1.0f, &from, &to);
            device->feed_done(device, 1 - slot);
            expected += (float)round;
        }
    }
    device->copy_out(device, back, sum, sizeof back);
    for (int i = 0; i < N; i++) {
        cr_expect_eq(back[i], expected);
    }
    for (int i = 0; i < 2; i++) {
        device->release_host(device, host[i]);
        device->release(device, memory[i]);
    }
    device->release(device, sum);
}

/* ---- recordings ---- */

static float *pair; /* x, y */

/* y += x, y *= 2 under a key; true: the ops were called. */
static int record(uint64_t key)
{
    bif_tensor x = bif_tensor1(pair, BIF_DTYPE_F32, N), y = bif_tensor1(pair + N, BIF_DTYPE_F32, N);
    int called = 0;
    for (bool call = device->record_begin(device, key); call; call = device->record_end(device)) {
        bif_axpy(device, 1.0f, &x, &y);
        bif_scale(device, 2.0f, &y);
        called++;
    }
    return called;
}

static float value_of_y(void)
{
    float back[N];
    device->copy_out(device, back, pair + N, sizeof back);
    return back[N - 1];
}

static void set_x(float value)
{
    float x[N];
    for (int i = 0; i < N; i++) {
        x[i] = value;
    }
    device->copy_in(device, pair, x, sizeof x);
}

static void begin(void)
{
    pair = take(2 * N * sizeof *pair);
}

Test(device, a_recording_computes_with_new_inputs)
{
    begin();
    float y = 0.0f;
    for (int i = 0; i < 6; i++) {
        set_x((float)i);
        const int64_t allocations = emu_allocations(), launches = emu_launches(), syncs = emu_syncs();
        cr_expect_eq(record(17), i < 2, "turn %d", i);
        cr_expect_eq(emu_launches() - launches, 2, "turn %d: each op runs once", i);
        cr_expect_eq(emu_syncs(), syncs);
        cr_expect_eq(emu_allocations(), allocations);
        y = 2.0f * (y + (float)i);
        cr_expect_eq(value_of_y(), y, "turn %d", i);
    }
    device->release(device, pair);
}

Test(device, a_release_forgets_recordings)
{
    begin();
    void *other = take(8);
    for (int i = 0; i < 3; i++) {
        record(17);
    }
    cr_expect_eq(record(17), 0);
    device->release(device, other);
    cr_expect_eq(record(17), 1);
    device->release(device, pair);
}

/* Those used last are kept; the others are recorded anew. */
Test(device, many_recordings)
{
    begin();
    for (uint64_t key = 1; key <= 40; key++) {
        for (int i = 0; i < 2; i++) {
            cr_expect_eq(record(key), 1);
        }
    }
    for (uint64_t key = 9; key <= 40; key++) {
        cr_expect_eq(record(key), 0, "key %d", (int)key);
    }
    cr_expect_eq(record(1), 1);
    cr_expect_eq(record(1), 0);
    cr_expect_eq(record(9), 1, "the oldest made room");
    device->release(device, pair);
}

Test(device, a_failed_recording_runs_as_usual)
{
    begin();
    set_x(1.0f);
    record(17);
    cr_expect_eq(value_of_y(), 2.0f);
    emu_fail_capture();
    cr_expect_eq(record(17), 2, "nothing was computed, so all is called again");
    cr_expect_eq(value_of_y(), 6.0f);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(record(17), 1, "this key is not tried again");
    }
    cr_expect_eq(value_of_y(), 62.0f);
    for (int i = 0; i < 2; i++) {
        record(18);
    }
    cr_expect_eq(record(18), 0, "others are");
    device->release(device, pair);
}

/* ---- a network ---- */

static const bif_model_config tiny = {
    .kind = BIF_MODEL_DECODER,
    .decoder = {.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 8, .inner = 24, .vocab = 32, .positions = 64, .eps = 1e-5f,
                .rope_theta = 1e4f, .bos = 1, .eos = 2},
    .image_token = -1,
    .pad_token = -1};
static const bif_batch_limits limits = {.tokens = 24, .sequences = 4};

static bif_model_config with_adapters(void)
{
    bif_model_config config = tiny;
    config.decoder.lora = (bif_lora_config){.rank = 4, .alpha = 8, .dropout = 0.3f, .targets = (1u << BIF_LORA_TARGETS) - 1};
    return config;
}

/* A model with weights, B of its adapters too: new ones are 0. */
static void open_network(const bif_model_config *config, bif_dtype dtype, bif_vlm *vlm, bif_arena *arena)
{
    void *memory = NULL;
    bif_vlm_declare(vlm, config);
    bif_params_set_dtype(&vlm->params, dtype);
    bif_params_train_group(&vlm->params, BIF_GROUP_DECODER, config->decoder.lora.rank == 0);
    bif_vlm_drop(vlm, 7);
    cr_assert_eq(bif_vlm_allocate(vlm, device, 1), BIF_OK);
    for (int64_t i = 0; i < vlm->params.count; i++) {
        bif_param *p = &vlm->params.items[i];
        if (p->group == BIF_GROUP_LORA) {
            p->init = BIF_INIT_NORMAL, p->init_scale = 0.3f;
        }
    }
    bif_params_init(&vlm->params, 5, ~0u);
    const size_t size = bif_vlm_measure(vlm, device, &limits, true);
    cr_assert_eq(device->alloc(device, size, &memory), BIF_OK);
    cr_assert_eq(bif_feeder_reserve(&vlm->feeder, device, bif_feeder_bytes(device, &vlm->shape, &limits)), BIF_OK);
    *arena = bif_arena_over("activations", memory, size);
    bif_vlm_zero_loss(vlm, device);
}

static void close_network(bif_vlm *vlm, bif_arena *arena)
{
    device->release(device, arena->base);
    bif_vlm_free(vlm);
}

/* Always 24 tokens in 3 sequences, cut elsewhere each time, with other tokens. */
static bif_batch *batch_of(int seed)
{
    bif_batch *batch = bif_batch_new(&limits);
    const int64_t first = 4 + seed % 5, lengths[] = {first, 8, 16 - first};
    for (int s = 0; s < 3; s++) {
        int32_t ids[24];
        for (int64_t t = 0; t < lengths[s]; t++) {
            ids[t] = 3 + (int32_t)(29.0f * bif_rng_uniform((uint64_t)seed, BIF_RNG_TEST, (uint64_t)s, (uint32_t)t));
        }
        cr_assert(bif_batch_add(batch, &limits, &(struct bif_encoded_view){.ids = ids, .labels = ids, .count = lengths[s]}, NULL,
                                (uint64_t)(3 * seed + s)));
    }
    return batch;
}

enum { MICRO_STEPS = 8 };

/* Gradients and loss after some micro-steps, and what the last of them cost. */
static void train(const bif_model_config *config, bif_dtype dtype, float **grads, int64_t *flat, double *loss, int64_t *allocations)
{
    bif_vlm vlm;
    bif_arena arena;
    bif_batch *batches[MICRO_STEPS];
    open_network(config, dtype, &vlm, &arena);
    for (int i = 0; i < MICRO_STEPS; i++) {
        batches[i] = batch_of(i);
    }
    const int64_t before = emu_allocations();
    for (int i = 0; i < MICRO_STEPS; i++) {
        const float weight = 1.0f / (float)(i + 1);
        bif_vlm_bring(&vlm, device, batches[i], weight);
        if (i + 1 < MICRO_STEPS) {
            bif_vlm_bring(&vlm, device, batches[i + 1], 1.0f / (float)(i + 2));
        }
        bif_vlm_micro_step(&vlm, device, &arena, batches[i], weight, true);
    }
    *allocations = emu_allocations() - before;
    *loss = bif_vlm_read_loss(&vlm, device);
    *flat = vlm.params.flat;
    *grads = bif_malloc((size_t)*flat * sizeof **grads);
    device->copy_out(device, *grads, vlm.params.grads, (size_t)*flat * sizeof **grads);
    for (int i = 0; i < MICRO_STEPS; i++) {
        bif_batch_free(batches[i]);
    }
    close_network(&vlm, &arena);
}

static void compare(const bif_model_config *config, bif_dtype dtype)
{
    float *eager, *recorded;
    double loss[2];
    int64_t flat, allocations[2];
    train(config, dtype, &recorded, &flat, &loss[0], &allocations[0]);
    bif_device_close(device);
    setenv("BIFOCAL_CUDA_GRAPHS", "0", 1);
    start();
    train(config, dtype, &eager, &flat, &loss[1], &allocations[1]);
    cr_expect_eq(loss[0], loss[1], "%g and %g", loss[0], loss[1]);
    cr_expect(loss[0] > 1.0);
    cr_expect_arr_eq(recorded, eager, (size_t)flat * sizeof *eager);
    cr_expect_eq(allocations[0], 0);
    cr_expect_eq(allocations[1], 0);
    free(eager);
    free(recorded);
}

Test(device, recorded_micro_steps_f32)
{
    compare(&tiny, BIF_DTYPE_F32);
}

Test(device, recorded_micro_steps_bf16)
{
    compare(&tiny, BIF_DTYPE_BF16);
}

Test(device, recorded_micro_steps_with_dropout)
{
    const bif_model_config config = with_adapters();
    compare(&config, BIF_DTYPE_BF16);
}

/* A recorded step draws the masks of the sequences it was brought, not of those it was recorded with. */
Test(device, dropout_of_a_replay)
{
    enum { STEPS = 8 };
    const bif_model_config config = with_adapters();
    bif_vlm vlm;
    bif_arena arena;
    bif_batch *batch = batch_of(1);
    double loss[STEPS];
    open_network(&config, BIF_DTYPE_F32, &vlm, &arena);
    for (int i = 0; i < STEPS; i++) {
        for (int64_t s = 0; s < batch->sequences; s++) {
            batch->place[s] = (uint64_t)(10 * (i % (STEPS - 1)) + s);
        }
        bif_vlm_zero_loss(&vlm, device);
        bif_vlm_micro_step(&vlm, device, &arena, batch, 1.0f, true);
        loss[i] = bif_vlm_read_loss(&vlm, device);
        for (int j = 0; j < i; j++) {
            cr_expect((loss[j] == loss[i]) == (i == STEPS - 1 && j == 0), "micro-steps %d and %d: %.9g and %.9g", j, i, loss[j], loss[i]);
        }
    }
    bif_batch_free(batch);
    close_network(&vlm, &arena);
}

/* The plan of a model with `available` bytes free. */
static bif_status plan(bif_stage_run *run, size_t available)
{
    const bif_batch_limits large = {.tokens = 2048, .sequences = 16};
    emu_limit_memory(emu_bytes_held() + (int64_t)available);
    const bif_status st = bif_plan_memory(run, &large);
    emu_limit_memory(0);
    return st;
}

static size_t needs(bif_stage_run *run, bool recompute)
{
    const bif_batch_limits large = {.tokens = 2048, .sequences = 16};
    bif_stage_set_recompute(run, recompute);
    return bif_stage_measure(run, &large) + bif_stage_measure_inputs(run, &large);
}

Test(device, a_plan_leaves_some_memory)
{
    bif_config config = {.batch.samples = 16};
    bif_stage_run run = {.config = &config, .device = device, .model = tiny};
    cr_assert_eq(bif_comm_start(NULL, NULL, &run.comm), BIF_OK);
    bif_vlm_declare(&run.vlm, &tiny);
    cr_assert_eq(bif_vlm_allocate(&run.vlm, device, 1), BIF_OK);
    run.params = &run.vlm.params;
    const size_t all = needs(&run, false), inputs = needs(&run, true);
    cr_assert_lt(inputs, all * 9 / 10);
    cr_expect_eq(plan(&run, all * 106 / 100), BIF_OK, "%s", bif_error_message());
    cr_expect_not(run.vlm.recompute);
    cr_expect_eq(plan(&run, all), BIF_OK, "%s", bif_error_message());
    cr_expect(run.vlm.recompute);
    cr_expect_eq(plan(&run, inputs * 101 / 100), BIF_ERR_MEMORY, "nothing is left for the driver");
    config.train.recompute = BIF_RECOMPUTE_NO;
    cr_expect_eq(plan(&run, all * 106 / 100), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(plan(&run, all * 101 / 100), BIF_ERR_MEMORY);
    cr_expect_not_null(strstr(bif_error_message(), "train.recompute: yes"), "%s", bif_error_message());
    bif_vlm_free(&run.vlm);
    bif_comm_finish(run.comm);
}
