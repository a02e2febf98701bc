/* bench_gpu_step PRESET [DEVICE [STEPS [MICRO]]]: whole optimiser steps (forward, backward, norm, clipping, AdamW) of a model with random weights on
 * synthetic batches at real shapes. Prints samples/s, tokens/s, TFLOP/s of useful work (bif_stage_flops: 2 an element of every matrix and token, the
 * same for each gradient wanted; attention's scores, the class token and recomputation not counted) and its share of a large product measured in
 * the same run, and the memory plan. The loss of the first step must be near what a random model gives, or the program ends with 70.
 *   llava-7b-pretrain   stage 1: encoder and decoder frozen, 600 tokens a sample (576 of the picture), 24 supervised; 256 samples a step
 *   llava-7b-finetune   stage 2: projector and decoder train, 770 tokens, 170 supervised; 128 samples a step
 *   llava-0.3b-finetune ViT-B/16-224 (196 tokens) and a decoder of 24 layers of 768: a small model, where launches count
 *   clip-b32, clip-l14  the contrastive trainer, InfoNCE
 *   tiny-finetune, tiny-clip  to try the program
 * MICRO: samples of a micro-batch. BIFOCAL_RECOMPUTE=1: blocks are recomputed in the backward.
 * DEVICE `plan` needs no GPU: it prints what a GPU's memory would hold, and ends. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "kernels/convert.h"
#include "train/build.h"
#include "train/optimizer.h"
#include "train/plan.h"
#include "train/stage.h"

typedef struct {
    const char *name;
    bif_stage stage;
    bif_model_config model;
    int64_t samples, micro, text, supervised; /* of a step, of a micro-batch; text tokens and supervised ones of a sample */
} preset;

static const bif_vit_config vit_l14_336 = {.hidden = 1024, .layers = 24, .heads = 16, .inner = 4096, .patch = 14, .image = 336, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU};
static const bif_decoder_config vicuna_7b = {.hidden = 4096, .layers = 32, .heads = 32, .kv_heads = 32, .head_dim = 128, .inner = 11008, .vocab = 32000,
                                             .positions = 4096, .eps = 1e-5f, .rope_theta = 10000, .bos = 1, .eos = 2};

static preset preset_of(const char *name)
{
    const bif_model_config llava_7b = {.kind = BIF_MODEL_LLAVA, .vit = vit_l14_336, .decoder = vicuna_7b, .projector = {.kind = BIF_PROJECTOR_MLP, .depth = 2, .in = 1024, .out = 4096},
                                       .feature_layer = -2, .image_token = 3, .pad_token = -1};
    const bif_model_config llava_small = {
        .kind = BIF_MODEL_LLAVA,
        .vit = {.hidden = 768, .layers = 12, .heads = 12, .inner = 3072, .patch = 16, .image = 224, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .decoder = {.hidden = 768, .layers = 24, .heads = 12, .kv_heads = 4, .head_dim = 64, .inner = 2048, .vocab = 49152, .positions = 2048, .eps = 1e-5f,
                    .rope_theta = 10000, .tied = true, .bos = 1, .eos = 2},
        .projector = {.kind = BIF_PROJECTOR_MLP, .depth = 2, .in = 768, .out = 768}, .feature_layer = -2, .image_token = 3, .pad_token = -1};
    const bif_model_config tiny = {
        .kind = BIF_MODEL_LLAVA,
        .vit = {.hidden = 32, .layers = 2, .heads = 2, .inner = 64, .patch = 8, .image = 32, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .decoder = {.hidden = 32, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8, .inner = 64, .vocab = 128, .positions = 256, .eps = 1e-5f,
                    .rope_theta = 10000, .tied = true, .bos = 1, .eos = 2},
        .projector = {.kind = BIF_PROJECTOR_MLP, .depth = 2, .in = 32, .out = 32}, .feature_layer = -2, .image_token = 3, .pad_token = -1};
    const bif_model_config clip_b32 = {
        .kind = BIF_MODEL_CLIP,
        .vit = {.hidden = 768, .layers = 12, .heads = 12, .inner = 3072, .patch = 32, .image = 224, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .text = {.hidden = 512, .layers = 12, .heads = 8, .inner = 2048, .vocab = 49408, .positions = 77, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .projection = 512, .logit_scale_init = 2.6592f};
    const bif_model_config clip_l14 = {
        .kind = BIF_MODEL_CLIP,
        .vit = {.hidden = 1024, .layers = 24, .heads = 16, .inner = 4096, .patch = 14, .image = 224, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .text = {.hidden = 768, .layers = 12, .heads = 12, .inner = 3072, .vocab = 49408, .positions = 77, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .projection = 768, .logit_scale_init = 2.6592f};
    const bif_model_config clip_tiny = {
        .kind = BIF_MODEL_CLIP,
        .vit = {.hidden = 32, .layers = 2, .heads = 2, .inner = 64, .patch = 8, .image = 32, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .text = {.hidden = 32, .layers = 2, .heads = 2, .inner = 64, .vocab = 128, .positions = 77, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .projection = 16, .logit_scale_init = 2.6592f};
    const preset all[] = {
        {"llava-7b-pretrain", BIF_STAGE_PRETRAIN, llava_7b, 256, 32, 24, 20}, {"llava-7b-finetune", BIF_STAGE_FINETUNE, llava_7b, 128, 10, 194, 150},
        {"llava-0.3b-finetune", BIF_STAGE_FINETUNE, llava_small, 256, 32, 60, 40}, {"clip-b32", BIF_STAGE_CLIP, clip_b32, 4096, 4096, 16, 0},
        {"clip-l14", BIF_STAGE_CLIP, clip_l14, 512, 512, 16, 0}, {"tiny-finetune", BIF_STAGE_FINETUNE, tiny, 4, 2, 12, 8},
        {"tiny-clip", BIF_STAGE_CLIP, clip_tiny, 4, 4, 6, 0}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i].name, name) == 0) {
            return all[i];
        }
    }
    fprintf(stderr, "bench_gpu_step: no preset %s; they are:", name);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        fprintf(stderr, " %s", all[i].name);
    }
    fprintf(stderr, "\n");
    exit(BIF_ERR_USAGE);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(bif_status st)
{
    if (st != BIF_OK) {
        fprintf(stderr, "bench_gpu_step: %s\n", bif_error_message());
        exit(st);
    }
}

/* bif_params_init takes 52 ns an element, six minutes for 7B: here 4 Mi numbers come again and again, each row beginning elsewhere. */
static void fill(bif_params *params)
{
    enum { CHUNK = 1 << 22 };
    float *numbers = bif_malloc(CHUNK * sizeof *numbers), *scaled = bif_malloc(CHUNK * sizeof *scaled);
    for (uint32_t i = 0; i < CHUNK; i++) {
        numbers[i] = bif_rng_normal(5, BIF_RNG_TEST, 0, i);
    }
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        const int64_t n = bif_numel(&p->value);
        const float spread = p->init == BIF_INIT_NORMAL || p->init == BIF_INIT_UNIFORM ? p->init_scale : 0.0f;
        const float mean = p->init == BIF_INIT_ONE ? 1.0f : p->init == BIF_INIT_CONSTANT ? p->init_scale : 0.0f;
        const int64_t from = i * 7919;
        for (int64_t k = 0; k < CHUNK && k < n; k++) {
            scaled[k] = mean + spread * numbers[(from + k) % CHUNK];
        }
        for (int64_t at = 0; at < n; at += CHUNK) {
            const bif_tensor whole = bif_tensor1(p->value.data, p->value.dtype, n);
            bif_tensor piece = bif_rows(&whole, at, n - at < CHUNK ? n - at : CHUNK);
            bif_copy_in_f32(params->device, &piece, scaled);
        }
    }
    free(numbers);
    free(scaled);
}

static bif_batch *make_batch(const preset *p, const bif_batch_limits *limits, uint64_t seed)
{
    bif_batch *batch = bif_batch_new(limits);
    const bool clip = p->model.kind == BIF_MODEL_CLIP;
    const int64_t rows = clip ? 0 : bif_tokens_per_image(&p->model), length = rows + p->text;
    const int64_t bytes = 3 * p->model.vit.image * p->model.vit.image, vocab = clip ? p->model.text.vocab : p->model.decoder.vocab;
    int32_t *ids = bif_calloc((size_t)length, sizeof *ids), *labels = bif_calloc((size_t)length, sizeof *labels);
    uint8_t *pixels = bif_malloc((size_t)bytes);
    for (int64_t s = 0; s < limits->sequences; s++) {
        for (int64_t t = 0; t < length; t++) {
            const bool picture = t >= 4 && t < 4 + rows;
            ids[t] = picture ? p->model.image_token : 4 + (int32_t)(bif_rng_uniform(seed, BIF_RNG_TEST, (uint64_t)s, (uint32_t)t) * (float)(vocab - 5));
            labels[t] = t >= length - p->supervised ? ids[t] : -100;
        }
        for (int64_t k = 0; k < bytes; k++) {
            pixels[k] = (uint8_t)((uint64_t)(k * 2654435761 + s * 97) >> 7);
        }
        const int64_t start = 4;
        struct bif_encoded_view view = {.ids = ids, .labels = labels, .count = length, .image_start = &start, .images = 1};
        if (!bif_batch_add(batch, limits, &view, pixels, (uint64_t)s)) {
            die(bif_fail(BIF_ERR_BUG, "sample %lld does not fit its batch", (long long)s));
        }
    }
    free(ids);
    free(labels);
    free(pixels);
    return batch;
}

/* What a GPU would hold; from measuring passes, so nothing is allocated. */
static void print_plan(bif_stage_run *run, const bif_batch_limits *limits)
{
    bif_device device = {.kind = BIF_DEVICE_CUDA, .name = "plan"};
    run->device = &device;
    double values = 0.0, trained = 0.0;
    for (int64_t i = 0; i < run->params->count; i++) {
        const double n = (double)bif_numel(&run->params->items[i].value);
        values += n;
        trained += run->params->items[i].trainable ? n : 0.0;
    }
    const double activations = (double)bif_stage_measure(run, limits), inputs = (double)bif_stage_measure_inputs(run, limits);
    printf("| %s%s | %lld tokens | values %.1f GB | gradients %.1f GB | optimizer %.1f GB | activations %.1f GB (%.2f MB a token) | inputs %.2f GB | sum %.1f GB |\n",
           "bf16", run->vlm.recompute ? ", recomputing" : "", (long long)limits->tokens, 2e-9 * values, 4e-9 * trained, 1e-8 * trained, 1e-9 * activations,
           1e-6 * activations / (double)limits->tokens, 1e-9 * inputs, 2e-9 * values + 1.4e-8 * trained + 1e-9 * (activations + inputs));
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_gpu_step PRESET [DEVICE [STEPS [MICRO]]]\n");
        return BIF_ERR_USAGE;
    }
    preset p = preset_of(argv[1]);
    const int steps = argc > 3 ? atoi(argv[3]) : 3;
    p.micro = argc > 4 ? atoll(argv[4]) : p.micro;
    const bool clip = p.stage == BIF_STAGE_CLIP;
    const bif_config config = {.stage = p.stage,
                               .batch = {.samples = p.samples},
                               .optimizer = {.lr = 1e-5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip_norm = 1.0}};
    bif_stage_run run = {.config = &config, .model = p.model};
    bif_optimizer optimizer;
    die(bif_comm_start(NULL, NULL, &run.comm));
    const bool plan = argc > 2 && strcmp(argv[2], "plan") == 0;
    if (!plan) {
        die(bif_device_open(argc > 2 ? argv[2] : "cuda", 0, &run.device));
    }
    const bif_dtype dtype = !plan && run.device->kind == BIF_DEVICE_CPU ? BIF_DTYPE_F32 : BIF_DTYPE_BF16;
    if (clip) {
        bif_clip_declare(&run.clip, &p.model);
        run.params = &run.clip.params;
    } else {
        bif_vlm_declare(&run.vlm, &p.model);
        run.params = &run.vlm.params;
        bif_params_train_group(run.params, BIF_GROUP_ENCODER, false);
        bif_params_train_group(run.params, BIF_GROUP_DECODER, p.stage == BIF_STAGE_FINETUNE);
    }
    bif_params_set_dtype(run.params, dtype);
    for (int64_t i = 0; i < run.params->count; i++) {
        run.params->items[i].lr = config.optimizer.lr;
    }
    const char *recompute = getenv("BIFOCAL_RECOMPUTE");
    run.vlm.recompute = run.clip.recompute = recompute != NULL && strcmp(recompute, "1") == 0;
    const int64_t rows = clip ? 0 : bif_tokens_per_image(&p.model), batches = (p.samples + p.micro - 1) / p.micro;
    const bif_batch_limits limits = {.tokens = p.micro * (rows + p.text), .sequences = p.micro, .images = p.micro, .image_size = p.model.vit.image, .tokens_per_image = rows};
    if (plan) {
        print_plan(&run, &limits);
        return 0;
    }
    die(clip ? bif_clip_allocate(&run.clip, run.device, 1) : bif_vlm_allocate(&run.vlm, run.device, 1));
    fill(run.params);
    const bif_preprocess preprocess = bif_preprocess_clip(p.model.vit.image);
    die(bif_build_table(&preprocess, run.device, clip ? &run.clip.vit : &run.vlm.vit));
    bif_batch **batch = bif_calloc((size_t)batches, sizeof *batch);
    for (int64_t i = 0; i < batches; i++) {
        bif_batch_limits part = limits;
        part.sequences = part.images = p.samples - i * p.micro < p.micro ? p.samples - i * p.micro : p.micro;
        part.tokens = part.sequences * (rows + p.text);
        batch[i] = make_batch(&p, &part, (uint64_t)i);
    }
    const bif_step step = {.batch = batch, .batches = batches};
    die(bif_stage_allocate(&run, &limits));
    die(bif_optimizer_new(&optimizer, run.params, &config, run.comm));
    const double peak = bif_measure_peak(run.device, dtype);
    const double values = (double)(run.params->flat + run.params->frozen_elements) * (double)bif_dtype_size(dtype);
    printf("%s on %s, %s: values %.2f GB, gradients %.2f GB, optimizer %.2f GB, activations %.2f GB%s; %lld samples a step in %lld micro-batches of %lld tokens\n",
           p.name, run.device->name, bif_dtype_name(dtype), 1e-9 * values, 4e-9 * (double)run.params->flat,
           1e-9 * (double)run.params->flat * (dtype == BIF_DTYPE_BF16 ? 10 : 8), 1e-9 * (double)run.arena.size, run.vlm.recompute ? " (recomputing)" : "",
           (long long)p.samples, (long long)batches, (long long)limits.tokens);
    double best = 1e30, first = 0.0;
    bif_step_result result = {0};
    for (int i = 0; i < steps + 1; i++) { /* the first warms up */
        const double start = now();
        bif_params_zero_grads(run.params);
        bif_stage_step(&run, &step, true, &result);
        const double norm = bif_optimizer_reduce(&optimizer, run.comm);
        bif_stage_read_loss(&run, &result);
        bif_optimizer_step(&optimizer, run.comm, norm, 1.0, i + 1);
        run.device->sync(run.device);
        const double seconds = now() - start;
        if (i == 0) {
            first = result.loss;
        } else {
            best = seconds < best ? seconds : best;
        }
        printf("step %d: loss %.4f, norm %.3f, %.1f ms\n", i + 1, result.loss, norm, 1e3 * seconds);
        fflush(stdout);
    }
    const double expected = log((double)(clip ? p.samples : p.model.decoder.vocab)), flops = bif_stage_flops(&run, &result);
    if (!(first > 0.3 * expected && first < 1.0 + 2.0 * expected)) { /* random features of CLIP are not all alike */
        fprintf(stderr, "bench_gpu_step: the loss of a random model is %g, wanted about %g\n", first, expected);
        return BIF_ERR_BUG;
    }
    printf("| %s | %.2f samples/s | %.0f tokens/s | %.1f TFLOP/s | %.1f %% of the product's %.1f |\n", p.name, result.samples / best, result.tokens / best,
           1e-12 * flops / best, 100 * flops / best / peak, 1e-12 * peak);
    bif_optimizer_free(&optimizer);
    for (int64_t i = 0; i < batches; i++) {
        bif_batch_free(batch[i]);
    }
    free(batch);
    run.device->release(run.device, run.arena.base);
    if (clip) {
        bif_clip_free(&run.clip);
    } else {
        bif_vlm_free(&run.vlm);
    }
    bif_device_close(run.device);
    bif_comm_finish(run.comm);
    return 0;
}
