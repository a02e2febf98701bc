/* `bifocal train --plan`: what a rank of a recipe will hold, before there is a GPU, data or weights. */
#include <stdio.h>
#include <string.h>

#include "train/build.h"
#include "train/plan.h"

/* What the loader would allow in a micro-batch of samples of one picture. */
static bif_batch_limits limits_of(const bif_config *config, const bif_model_config *model, int ranks, int64_t longest)
{
    const bool pairs = config->stage == BIF_STAGE_CLIP;
    const int64_t most = pairs ? config->batch.samples / ranks : config->batch.samples, micro = config->batch.micro_samples;
    bif_batch_limits l = {.sequences = micro > 0 && micro < most ? micro : most};
    l.tokens = pairs ? l.sequences * longest : config->batch.micro_tokens;
    l.sequences = l.sequences < l.tokens ? l.sequences : l.tokens;
    if (config->stage != BIF_STAGE_LM) {
        l.image_size = model->vit.image;
        l.tokens_per_image = pairs ? 0 : bif_tokens_per_image(model);
        l.images = pairs ? l.sequences : (l.tokens - 1) / l.tokens_per_image + 1;
        l.images = l.images < l.sequences ? l.images : l.sequences;
    }
    return l;
}

static double gib(double bytes)
{
    return bytes / (1024.0 * 1024.0 * 1024.0);
}

/* What an evaluation takes beside, or why that is not known. */
static double print_evaluation(const bif_stage_run *run, const bif_evaluator *evaluator, bif_tokenizer *tokenizer)
{
    const bif_config *c = run->config;
    int64_t max_tokens = 0;
    bif_chat chat = {0};
    const bif_preprocess preprocess = {0};
    size_t bytes = 0;
    const bif_live_model model = {.run = run, .tokenizer = tokenizer, .chat = &chat, .preprocess = &preprocess};
    bif_status st = bif_longest(c, &run->model, &max_tokens);
    st = st != BIF_OK ? st
                      : bif_build_chat(&run->model, tokenizer, c->data.template_, c->data.system, c->data.image_place, max_tokens,
                                       c->data.truncate, &chat);
    st = st != BIF_OK ? st : evaluator->measure(evaluator->context, c, run->comm, &model, &bytes);
    if (st == BIF_OK) {
        printf("  %-44s %8.2f\n", "evaluation, its own cache and activations", gib((double)bytes));
    } else {
        printf("  %-44s not counted: %s\n", "evaluation", bif_error_message());
        bif_error_clear();
    }
    return (double)bytes;
}

bif_status bif_plan_recipe(const bif_config *config, int ranks, const bif_evaluator *evaluator, bif_comm *comm)
{
    bif_status st = BIF_OK;
    const bool gpu = strcmp(config->device, "cpu") != 0;
    bif_device device = {.kind = gpu ? BIF_DEVICE_CUDA : BIF_DEVICE_CPU, };
    snprintf(device.name, sizeof device.name, "%s", config->device);
    bif_stage_run run = {.config = config, .comm = comm, .device = &device};
    bif_model_paths paths = {0};
    bif_tokenizer *tokenizer = NULL;
    bif_dtype dtype = BIF_DTYPE_F32;
    int64_t longest = 0;
    if (config->stage == BIF_STAGE_CLIP && config->batch.samples % ranks != 0) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "batch.samples (%lld) cannot be split evenly over %d ranks", (long long)config->batch.samples, ranks));
    }
    BIF_TRY(bif_resolve_paths(config, comm, &paths));
    BIF_TRY(bif_tokenizer_load(config->data.tokenizer, &tokenizer));
    bif_build_compare(config, &paths, tokenizer);
    BIF_TRY(bif_build_config(config, &paths, tokenizer, &run.model));
    BIF_TRY(bif_longest(config, &run.model, &longest));
    BIF_TRY(bif_choose_dtype(config->precision, &device, &dtype));
    if (config->stage == BIF_STAGE_CLIP) {
        bif_declare_trained_clip(config, &run.model, dtype, &run.clip);
        run.params = &run.clip.params;
    } else {
        bif_declare_trained_vlm(config, &run.model, dtype, &run.vlm);
        run.params = &run.vlm.params;
    }
    bif_print_manifest(run.params);
    const bif_batch_limits limits = limits_of(config, &run.model, ranks, longest);
    double all = 0.0, trained = 0.0;
    for (int64_t i = 0; i < run.params->count; i++) {
        const double n = (double)bif_numel(&run.params->items[i].value);
        all += n;
        trained += run.params->items[i].trainable ? n : 0.0;
    }
    const double values = (double)bif_dtype_size(dtype) * all, grads = 4.0 * trained, moments = (dtype == BIF_DTYPE_BF16 ? 10.0 : 8.0) * trained / ranks;
    printf("a rank of %d on %s, %s, micro-batches of at most %lld tokens, %lld sequences and %lld pictures; GiB:\n", ranks, gpu ? "CUDA" : "the CPU",
           bif_precision_name(dtype), (long long)limits.tokens, (long long)limits.sequences, (long long)limits.images);
    printf("  %-44s %8.2f\n  %-44s %8.2f\n  %-44s %8.2f\n", "parameters", gib(values), "gradients, f32", gib(grads), "optimiser, this rank's part", gib(moments));
    const double evaluation = evaluator != NULL ? print_evaluation(&run, evaluator, tokenizer) : 0.0;
    for (int recompute = 0; recompute < 2; recompute++) {
        bif_stage_set_recompute(&run, recompute == 1);
        const double activations = (double)bif_stage_measure(&run, &limits), inputs = (double)bif_stage_measure_inputs(&run, &limits);
        printf("  %-44s %8.2f   sum %8.2f\n", recompute == 1 ? "activations and inputs, blocks recomputed" : "activations and inputs, all kept",
               gib(activations + inputs), gib(values + grads + moments + evaluation + activations + inputs));
    }
    if (gpu) {
        printf("besides, the GPU's context, libraries and communication: about 1 to 2\n");
    }
done:
    bif_clip_free(&run.clip);
    bif_vlm_free(&run.vlm);
    bif_tokenizer_free(tokenizer);
    bif_model_paths_free(&paths);
    return st;
}
