/* bench_train_step CHECKPOINT PROBE.safetensors [threads]: full stage-2 steps (encoder frozen; forward, backward,
 * gradient norm, clipping, AdamW) on the samples of a file written by `bifocal probe`, as one micro-batch. For
 * step_vs_transformers.py, which drives it by lines on standard input:
 *   step N   N steps; answers "seconds CPU-seconds loss-of-the-first flops-of-one-step" (flops: bif_stage_flops)
 *   peak     answers the rate of a square product, FLOP/s (bif_measure_peak)
 *   ops N    N steps with a clock around every op; answers "op share op share ..." of the wall time, largest first */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/build.h"
#include "train/hf_folder.h"
#include "train/optimizer.h"
#include "train/plan.h"
#include "train/safetensors.h"
#include "train/stage.h"

static double at(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The device's table with a clock around every op. */
static const bif_ops_table *inner;
enum {
#define X(op) AT_##op,
    BIF_OPS(X)
#undef X
        AT_COUNT
};
static struct {
    const char *name;
    double seconds;
} spent[AT_COUNT];
#define X(op)                                                                                                          \
    static void timed_##op(bif_device *device, const bif_##op##_args *args)                                            \
    {                                                                                                                  \
        const double start = at(CLOCK_MONOTONIC);                                                                      \
        inner->op(device, args);                                                                                       \
        spent[AT_##op].name = #op;                                                                                     \
        spent[AT_##op].seconds += at(CLOCK_MONOTONIC) - start;                                                         \
    }
BIF_OPS(X)
#undef X

static void die(bif_status st)
{
    if (st != BIF_OK) {
        fprintf(stderr, "bench_train_step: %s\n", bif_error_message());
        exit(st);
    }
}

static const bif_st_entry *entry(const bif_safetensors *file, const char *name, bif_dtype dtype)
{
    const bif_st_entry *e = bif_safetensors_find(file, name);
    if (e == NULL || e->dtype != dtype) {
        die(bif_fail(BIF_ERR_DATA, "the probe file lacks %s, or it has another type", name));
    }
    return e;
}

static void *copied(const bif_st_entry *e)
{
    void *memory = bif_malloc(e->bytes);
    memcpy(memory, e->data, e->bytes);
    return memory;
}

/* The bytes whose values f32 [images, 3, S, S] the probe wrote. */
static uint8_t *levels_of(const bif_st_entry *pictures)
{
    const bif_preprocess clip = bif_preprocess_clip(pictures->dim[2]);
    const int64_t images = pictures->dim[0], plane = pictures->dim[2] * pictures->dim[3];
    float *values = copied(pictures);
    uint8_t *out = bif_malloc((size_t)(images * plane * 3));
    for (int64_t i = 0; i < images * plane * 3; i++) {
        const int64_t image = i / (plane * 3), c = i % 3, k = i % (plane * 3) / 3;
        const float value = values[(image * 3 + c) * plane + k];
        out[i] = (uint8_t)lrintf(255.0f * (value * clip.std[c] + clip.mean[c]));
    }
    free(values);
    return out;
}

static bif_batch *read_batch(const char *path, const bif_model_config *model, bif_batch_limits *limits)
{
    bif_safetensors *file = NULL;
    die(bif_safetensors_open(path, &file));
    const bif_st_entry *bounds = entry(file, "cu_seqlens", BIF_DTYPE_I32),
                       *pictures = entry(file, "pixel_values", BIF_DTYPE_F32);
    int32_t *ids = copied(entry(file, "input_ids", BIF_DTYPE_I32)),
            *labels = copied(entry(file, "labels", BIF_DTYPE_I32)), *cu = copied(bounds);
    uint8_t *pixels = levels_of(pictures);
    const int64_t rows = bif_tokens_per_image(model), bytes = 3 * model->vit.image * model->vit.image;
    *limits = (bif_batch_limits){.sequences = bounds->dim[0] - 1,
                                 .images = pictures->dim[0],
                                 .image_size = model->vit.image,
                                 .tokens_per_image = rows};
    limits->tokens = cu[limits->sequences];
    bif_batch *batch = bif_batch_new(limits);
    int64_t *starts = bif_calloc((size_t)limits->images + 1, sizeof *starts);
    for (int64_t i = 0, seen = 0; i < limits->sequences; i++) {
        struct bif_encoded_view view = {
            .ids = ids + cu[i], .labels = labels + cu[i], .count = cu[i + 1] - cu[i], .image_start = starts};
        for (int64_t t = 0; t < view.count; t++) {
            if (view.ids[t] == model->image_token) {
                starts[view.images++] = t;
                t += rows - 1;
            }
        }
        if (seen + view.images > limits->images ||
            !bif_batch_add(batch, limits, &view, pixels + seen * bytes, (uint64_t)i)) {
            die(bif_fail(BIF_ERR_DATA, "%s: sequence %lld does not fit its own batch", path, (long long)i));
        }
        seen += view.images;
    }
    free(starts);
    free(ids);
    free(labels);
    free(cu);
    free(pixels);
    bif_safetensors_close(file);
    return batch;
}

static bif_stage_run run;
static bif_optimizer optimizer;
static bif_step step = {.batches = 1};
static int64_t steps_done;

static void steps(int count, double *first, bif_step_result *result)
{
    for (int i = 0; i < count; i++) {
        bif_params_zero_grads(run.params);
        bif_stage_step(&run, &step, true, result);
        const double norm = bif_optimizer_reduce(&optimizer, run.comm);
        bif_stage_read_loss(&run, result);
        *first = i == 0 ? result->loss : *first;
        bif_optimizer_step(&optimizer, run.comm, norm, 1.0, ++steps_done);
    }
}

static int by_seconds(const void *a, const void *b)
{
    const double x = spent[*(const int *)a].seconds, y = spent[*(const int *)b].seconds;
    return (x < y) - (x > y);
}

static void profile(int count)
{
    bif_ops_table timed = *run.device->ops;
    inner = run.device->ops;
#define X(op) timed.op = timed_##op;
    BIF_OPS(X)
#undef X
    run.device->ops = &timed;
    double first = 0.0;
    bif_step_result result = {0};
    const double start = at(CLOCK_MONOTONIC);
    steps(count, &first, &result);
    const double whole = at(CLOCK_MONOTONIC) - start;
    run.device->ops = inner;
    int order[AT_COUNT];
    for (int i = 0; i < AT_COUNT; i++) {
        order[i] = i;
    }
    qsort(order, AT_COUNT, sizeof *order, by_seconds);
    double rest = whole;
    for (int i = 0; i < AT_COUNT && spent[order[i]].seconds > 0.0; i++) {
        printf("%s %.4f ", spent[order[i]].name, spent[order[i]].seconds / whole);
        rest -= spent[order[i]].seconds;
    }
    printf("outside %.4f\n", rest / whole);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_train_step CHECKPOINT PROBE.safetensors [threads]\n");
        return BIF_ERR_USAGE;
    }
    const bif_config config = {
        .stage = BIF_STAGE_FINETUNE,
        .optimizer = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.05, .clip_norm = 1.0}};
    bif_batch_limits limits;
    run.config = &config;
    die(bif_comm_start(NULL, NULL, &run.comm));
    die(bif_device_open("cpu", argc > 3 ? atoi(argv[3]) : 0, &run.device));
    die(bif_hf_config_read(argv[1], &run.model));
    bif_vlm_declare(&run.vlm, &run.model);
    run.params = &run.vlm.params;
    bif_params_train_group(run.params, BIF_GROUP_ENCODER, false);
    for (int64_t i = 0; i < run.params->count; i++) {
        run.params->items[i].lr = config.optimizer.lr;
    }
    die(bif_vlm_allocate(&run.vlm, run.device, 1));
    die(bif_hf_load(argv[1], run.params, ~0u));
    const bif_preprocess clip = bif_preprocess_clip(run.model.vit.image);
    die(bif_build_table(&clip, run.device, &run.vlm.vit));
    bif_batch *batch = read_batch(argv[2], &run.model, &limits);
    step.batch = &batch;
    die(bif_stage_allocate(&run, &limits));
    die(bif_optimizer_new(&optimizer, run.params, &config, run.comm));
    printf("%s\n", run.device->name);
    fflush(stdout);
    for (char line[64]; fgets(line, sizeof line, stdin) != NULL;) {
        int count = 0;
        if (sscanf(line, "step %d", &count) == 1) {
            double first = 0.0;
            bif_step_result result = {0};
            const double start = at(CLOCK_MONOTONIC), cpu = at(CLOCK_PROCESS_CPUTIME_ID);
            steps(count, &first, &result);
            printf("%.9g %.9g %.9g %.9g\n", at(CLOCK_MONOTONIC) - start, at(CLOCK_PROCESS_CPUTIME_ID) - cpu, first,
                   bif_stage_flops(&run, &result));
        } else if (sscanf(line, "ops %d", &count) == 1) {
            profile(count);
        } else {
            printf("%.9g\n", bif_measure_peak(run.device, run.params->dtype));
        }
        fflush(stdout);
    }
    bif_optimizer_free(&optimizer);
    bif_batch_free(batch);
    run.device->release(run.device, run.arena.base);
    bif_vlm_free(&run.vlm);
    bif_device_close(run.device);
    bif_comm_finish(run.comm);
    return 0;
}
