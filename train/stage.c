#include "train/stage.h"

#include <math.h>
#include <string.h>

#include "kernels/convert.h"

/* ---- lm, pretrain, finetune ---- */

/* Supervised tokens of the micro-batch that packed batch i is part of. */
static double supervised_of(const bif_step *step, int64_t i)
{
    double supervised = 0.0;
    for (int64_t k = i; k >= 0 && step->batch[k]->group == step->batch[i]->group; k--) {
        supervised += (double)step->batch[k]->supervised;
    }
    for (int64_t k = i + 1; k < step->batches && step->batch[k]->group == step->batch[i]->group; k++) {
        supervised += (double)step->batch[k]->supervised;
    }
    return supervised;
}

/* Of each supervised token of packed batch i. */
static float weight_of(const bif_step *step, int64_t i, const double sums[5], bool micro_mean)
{
    return (float)(micro_mean ? 1.0 / (sums[4] * supervised_of(step, i)) : 1.0 / sums[0]);
}

static void vlm_step(bif_stage_run *run, const bif_step *step, bool backward, bif_step_result *result)
{
    const bool micro_mean = run->config->train.loss == BIF_LOSS_MICRO_MEAN;
    double sums[5] = {0}; /* supervised, tokens, sequences, images, micro-batches that have a loss */
    for (int64_t i = 0; i < step->batches; i++) {
        const bif_batch *batch = step->batch[i];
        sums[0] += (double)batch->supervised;
        sums[1] += (double)batch->tokens;
        sums[2] += (double)batch->sequences;
        sums[3] += (double)batch->images;
        sums[4] += (i == 0 || batch->group != step->batch[i - 1]->group) && supervised_of(step, i) > 0.0;
    }
    bif_comm_sum_f64(run->comm, sums, 5);
    if (step->groups > 0) { /* dealt in order: one without a supervised token counts too, with loss and gradient 0, as PyTorch's gradient is */
        sums[4] = (double)step->groups;
    }
    /* The gradient of the mean over all supervised tokens of the step; or LLaVA's mean of the micro-batches' means. */
    int64_t first = -1, last = -1;
    for (int64_t i = 0; i < step->batches; i++) {
        last = step->batch[i]->supervised > 0 ? i : last;
        first = first < 0 ? last : first;
    }
    bif_vlm_zero_loss(&run->vlm, run->device);
    for (int64_t i = 0; i <= last; i++) {
        const bif_batch *batch = step->batch[i];
        if (batch->supervised == 0) {
            continue;
        }
        int64_t next = i + 1;
        while (next <= last && step->batch[next]->supervised == 0) {
            next++;
        }
        if (i == first) {
            bif_vlm_bring(&run->vlm, run->device, batch, weight_of(step, i, sums, micro_mean));
        }
        if (next <= last) {
            bif_vlm_bring(&run->vlm, run->device, step->batch[next], weight_of(step, next, sums, micro_mean));
        }
        run->params->hook->reached = i == last && backward ? run->reached : NULL;
        bif_vlm_micro_step(&run->vlm, run->device, &run->arena, batch, weight_of(step, i, sums, micro_mean), backward);
    }
    run->params->hook->reached = NULL;
    run->loss = run->vlm.loss;
    run->loss_factor = 1.0;
    *result = (bif_step_result){
        .loss = NAN, .supervised = sums[0], .tokens = sums[1], .samples = sums[2], .images = sums[3]};
}

/* ---- clip ---- */

typedef struct {
    bif_tensor image, text, dimage, dtext; /* [B, E] of all ranks */
    bif_tensor loss, dscale, dbias;        /* [b], [1], [1] */
    bif_tensor sum;                        /* f64 [1] of the losses */
} contrast;

static contrast take_contrast(bif_arena *arena, int64_t global, int64_t local, int64_t width)
{
    return (contrast){.image = bif_take2(arena, BIF_DTYPE_F32, global, width),
                      .text = bif_take2(arena, BIF_DTYPE_F32, global, width),
                      .dimage = bif_take2(arena, BIF_DTYPE_F32, global, width),
                      .dtext = bif_take2(arena, BIF_DTYPE_F32, global, width),
                      .loss = bif_take1(arena, BIF_DTYPE_F32, local),
                      .dscale = bif_take1(arena, BIF_DTYPE_F32, 1),
                      .dbias = bif_take1(arena, BIF_DTYPE_F32, 1),
                      .sum = bif_take1(arena, BIF_DTYPE_F64, 1)};
}

typedef struct {
    float scale, bias; /* logit_scale (not its logarithm), logit_bias */
} scalars;

static float scalar_out(bif_device *device, const bif_param *param)
{
    float value = 0.0f;
    if (param != NULL) {
        if (param->hook->scalar != NULL) {
            return param->hook->scalar(param->hook->context, param);
        }
        bif_copy_out_f32(device, &value, &param->value);
    }
    return value;
}

/* Loss of this rank's rows against all ranks' columns; gradients of the embeddings when wanted.
 * The gradient of a column that another rank owns travels home by reduce-scatter; it is exactly what one rank holding all would compute. */
static void contrastive_loss(bif_stage_run *run, contrast *c, const scalars *scalar, int64_t first, int64_t local, bool backward)
{
    bif_device *device = run->device;
    bif_clip_loss(&run->clip, device,
                  &(bif_clip_loss_args){.image = &c->image, .text = &c->text, .first = first, .local = local,
                                        .sigmoid = run->config->clip.loss == BIF_CONTRASTIVE_SIGMOID, .scale = scalar->scale,
                                        .bias = scalar->bias, .loss = &c->loss, .sum = &c->sum, .dimage = backward ? &c->dimage : NULL,
                                        .dtext = backward ? &c->dtext : NULL, .dscale = &c->dscale, .dbias = &c->dbias});
    if (backward) {
        bif_comm_reduce_scatter(run->comm, device, &c->dimage);
        bif_comm_reduce_scatter(run->comm, device, &c->dtext);
    }
}

/* Patches of a picture that go on in training, as many as in open_clip; 0 = all. */
static int64_t kept_patches(const bif_stage_run *run)
{
    const double share = 1.0 - run->config->clip.patch_dropout;
    const int64_t kept = (int64_t)((double)run->clip.shape.patches * share);
    return share >= 1.0 ? 0 : kept > 1 ? kept : 1;
}

/* Rows of a picture in the encoder; kept 0 = all its patches. */
static int64_t encoder_rows(const bif_model_config *model, int64_t kept)
{
    const int64_t rows = bif_vit_rows(&model->vit);
    return kept > 0 ? rows - bif_vit_patches(&model->vit) + kept : rows;
}

static void clip_step(bif_stage_run *run, const bif_step *step, bool backward, bif_step_result *result)
{
    bif_device *device = run->device;
    const int world = bif_comm_world(run->comm);
    const int64_t kept = backward ? kept_patches(run) : 0; /* a validation sees whole pictures */
    int64_t local = 0, tokens = 0;
    for (int64_t i = 0; i < step->batches; i++) {
        local += step->batch[i]->sequences;
        tokens += step->batch[i]->tokens + step->batch[i]->images * encoder_rows(&run->model, kept);
    }
    /* No collective of the host may come between the backward and the end of the gradients' sum, which `reached` begins. */
    double sums[2] = {(double)tokens, (double)local};
    bif_comm_sum_f64(run->comm, sums, 2);
    /* Read before anything of this step is launched: the device has nothing to do yet. */
    const scalars scalar = {.scale = expf(scalar_out(device, run->clip.logit_scale)), .bias = scalar_out(device, run->clip.logit_bias)};
    const int64_t global = local * world, first = local * bif_comm_rank(run->comm), width = run->model.projection;
    run->arena.used = 0;
    contrast c = take_contrast(&run->arena, global, local, width);
    bif_arena towers = bif_arena_over("towers", run->arena.base + run->arena.used, run->arena.size - run->arena.used);
    /* One micro-batch keeps its activations. Several: first all embeddings, then, with the loss known, each micro-batch again with its
     * backward; the result is that of the big batch (gradient caching). */
    const bool once = step->batches == 1;
    bif_clip_acts *acts = NULL;
    for (int64_t i = 0, at = first; i < step->batches; i++) {
        const bif_batch *batch = step->batch[i];
        bif_tensor image, text;
        bif_clip_drop(&run->clip, kept, (uint64_t)run->config->seed, (uint64_t)(step->step * global + at));
        acts = bif_clip_forward(&run->clip, device, &towers, batch, once && backward, &image, &text);
        bif_tensor image_rows = bif_rows(&c.image, at, batch->sequences), text_rows = bif_rows(&c.text, at, batch->sequences);
        device->copy(device, image_rows.data, image.data, bif_bytes(&image));
        device->copy(device, text_rows.data, text.data, bif_bytes(&text));
        at += batch->sequences;
    }
    bif_comm_allgather(run->comm, device, &c.image);
    bif_comm_allgather(run->comm, device, &c.text);
    contrastive_loss(run, &c, &scalar, first, local, backward);
    for (int64_t i = 0, at = first; backward && i < step->batches; i++) {
        const bif_batch *batch = step->batch[i];
        if (!once) {
            bif_tensor image, text;
            bif_clip_drop(&run->clip, kept, (uint64_t)run->config->seed, (uint64_t)(step->step * global + at));
            acts = bif_clip_forward(&run->clip, device, &towers, batch, true, &image, &text);
        }
        bif_tensor dimage = bif_rows(&c.dimage, at, batch->sequences), dtext = bif_rows(&c.dtext, at, batch->sequences);
        run->params->hook->reached = i + 1 == step->batches ? run->reached : NULL;
        bif_clip_backward(&run->clip, device, &towers, acts, &dimage, &dtext);
        at += batch->sequences;
    }
    run->params->hook->reached = NULL;
    run->loss = c.sum;
    run->loss_factor = bif_clip_loss_factor(run->config->clip.loss == BIF_CONTRASTIVE_SIGMOID, global);
    if (towers.peak + run->arena.used > run->arena.peak) {
        run->arena.peak = towers.peak + run->arena.used;
    }
    *result = (bif_step_result){.loss = NAN, .supervised = sums[1], .tokens = sums[0], .samples = sums[1], .images = sums[1]};
}

/* ---- both ---- */

void bif_stage_step(bif_stage_run *run, const bif_step *step, bool backward, bif_step_result *result)
{
    if (run->model.kind == BIF_MODEL_CLIP) {
        clip_step(run, step, backward, result);
    } else {
        vlm_step(run, step, backward, result);
    }
}

void bif_stage_read_loss(bif_stage_run *run, bif_step_result *result)
{
    double loss = 0.0;
    bif_comm_wait(run->comm);
    run->device->copy_out(run->device, &loss, run->loss.data, sizeof loss);
    loss *= run->loss_factor;
    bif_comm_sum_f64(run->comm, &loss, 1);
    result->loss = loss;
}

void bif_stage_set_recompute(bif_stage_run *run, bool recompute)
{
    run->vlm.recompute = recompute;
    run->clip.recompute = recompute;
}

size_t bif_stage_measure(bif_stage_run *run, const bif_batch_limits *limits)
{
    if (run->model.kind != BIF_MODEL_CLIP) {
        return bif_vlm_measure(&run->vlm, run->device, limits, true);
    }
    bif_arena measure = bif_arena_measure("contrast");
    take_contrast(&measure, run->config->batch.samples, run->config->batch.samples / bif_comm_world(run->comm), run->model.projection);
    bif_clip_drop(&run->clip, 0, 0, 0);
    const size_t whole = bif_clip_measure(&run->clip, run->device, limits, kept_patches(run) == 0);
    bif_clip_drop(&run->clip, kept_patches(run), 0, 0); /* training, where less of each picture is kept for the backward */
    const size_t training = bif_clip_measure(&run->clip, run->device, limits, true);
    return measure.peak + (whole > training ? whole : training);
}

/* Of one slot. */
static size_t slot_bytes(const bif_stage_run *run, const bif_batch_limits *limits)
{
    bif_inputs_shape shape = run->model.kind == BIF_MODEL_CLIP ? run->clip.shape : run->vlm.shape;
    shape.kept = run->model.kind == BIF_MODEL_CLIP ? kept_patches(run) : 0;
    return bif_feeder_bytes(run->device, &shape, limits);
}

size_t bif_stage_measure_inputs(bif_stage_run *run, const bif_batch_limits *limits)
{
    return 2 * slot_bytes(run, limits);
}

bif_status bif_stage_allocate(bif_stage_run *run, const bif_batch_limits *limits)
{
    bif_status st = BIF_OK;
    const size_t size = bif_stage_measure(run, limits);
    void *memory = NULL;
    bif_feeder *feeder = run->model.kind == BIF_MODEL_CLIP ? &run->clip.feeder : &run->vlm.feeder;
    BIF_TRY(run->device->alloc(run->device, size, &memory));
    run->arena = bif_arena_over("activations", memory, size);
    BIF_TRY(bif_feeder_reserve(feeder, run->device, slot_bytes(run, limits)));
done:
    return st == BIF_OK ? st : bif_fail_context(st, "activations and inputs of a micro-batch; lower batch.micro_tokens or batch.micro_samples");
}

double bif_stage_flops(const bif_stage_run *run, const bif_step_result *step)
{
    const bif_model_config *model = &run->model;
    double flops = 0.0;
    const bif_params *params = run->params;
    const int64_t kept = model->kind == BIF_MODEL_CLIP ? kept_patches(run) : 0;
    const double image_rows = model->kind == BIF_MODEL_DECODER ? 0.0 : step->images * (double)encoder_rows(model, kept);
    bool below = false; /* a part nearer to the input trains, so its consumers hand a gradient down */
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        const bool tied_head = p == run->vlm.decoder.embed && run->vlm.decoder.head == NULL;
        const bool lookup = strstr(p->name, "embed") != NULL && strstr(p->name, "patch_embedding") == NULL && !tied_head;
        if (p->value.rank < 2 || lookup || (model->kind == BIF_MODEL_LLAVA && !bif_vlm_uses(&run->vlm, p))) {
            continue;
        }
        double rows = 0.0;
        switch (p->group) {
        case BIF_GROUP_ENCODER:
        case BIF_GROUP_PROJECTOR:
            rows = image_rows;
            break;
        case BIF_GROUP_TEXT:
            rows = step->tokens - image_rows;
            break;
        case BIF_GROUP_JOINT:
            rows = step->samples;
            break;
        default:
            rows = tied_head || strstr(p->name, "lm_head") != NULL ? step->supervised : step->tokens;
            break;
        }
        const double once = 2.0 * rows * (double)bif_numel(&p->value);
        flops += once * (1.0 + (p->trainable ? 1.0 : 0.0) + (below || p->trainable ? 1.0 : 0.0));
        below = below || (p->trainable && (p->group == BIF_GROUP_ENCODER || p->group == BIF_GROUP_PROJECTOR || p->group == BIF_GROUP_LORA));
    }
    return flops;
}
