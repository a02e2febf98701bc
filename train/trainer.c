/* The loop that all stages share: resume, step, validate, save, prove that frozen tensors did not change. */
#include "train/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "train/build.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/plan.h"
#include "train/schedule.h"
#include "train/stage.h"

typedef struct {
    const bif_config *config;
    bif_comm *comm;
    const bif_evaluator *evaluator; /* NULL = none */
    int rank, world;
    bif_model_paths paths;
    char *base, *tower; /* of a run with adapters: where the frozen parts come from */
    bif_tokenizer *tokenizer;
    bif_chat chat;
    bif_preprocess preprocess;
    bif_stage_run run;
    bif_optimizer optimizer;
    bif_loader *loader;
    bif_metrics *metrics; /* rank 0 */
    bif_run_state state;
    int lock_fd, log_fd;
    int64_t steps, warmup;
    double peak_flops;  /* of all ranks together */
    double started;     /* when this process began to train */
    int64_t first_step; /* step this process began at */
    int64_t validation_samples;
    bif_batch_limits limits; /* of a micro-batch, in training and in validation */
    int64_t skipped;    /* unusable samples met before this process began */
} trainer;

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    stop_signal = number;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_flags = (int)(SA_RESTART | SA_RESETHAND); /* a second Ctrl-C ends at once */
    sigaction(SIGINT, &action, NULL);
}

/* ---- setting up ---- */

/* One job a folder: an advisory lock held for the run. */
static bif_status lock_output(trainer *t)
{
    bif_status st = BIF_OK;
    char *path = bif_path_join(t->config->output, "LOCK");
    BIF_TRY(bif_make_dirs(t->config->output));
    t->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t->lock_fd < 0) {
        BIF_TRY(bif_fail(BIF_ERR_IO, "%s: cannot be created: %s", path, strerror(errno)));
    }
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(t->lock_fd, F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES)) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "%s: another run is writing to this folder; wait for it or set another output",
                         t->config->output));
    }
    char *log = bif_path_join(t->config->output, "log.txt");
    t->log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    free(log);
    bif_log_set_copy(t->log_fd);
done:
    free(path);
    return st;
}

static bif_loader_options loader_options(const trainer *t, const bif_strings *shards)
{
    const bif_config *c = t->config;
    return (bif_loader_options){
        .shards = (const char *const *)shards->items,
        .shard_count = shards->count,
        .selection = c->data.selection,
        .caption_column = c->data.caption_column,
        .caption_mix = c->data.caption_mix,
        .mode = c->stage == BIF_STAGE_CLIP ? BIF_LOADER_CAPTION : c->stage == BIF_STAGE_LM ? BIF_LOADER_TEXT : BIF_LOADER_CHAT,
        .chat = t->chat,
        .preprocess = t->preprocess,
        .augment = {c->augment.scale, c->augment.ratio, c->augment.flip},
        .image_limits = {.max_pixels = c->data.max_image_pixels},
        .seed = (uint64_t)c->seed,
        .shuffle = c->data.shuffle,
        .sampler = c->data.sampler,
        .order_file = c->data.order,
        .last = c->data.last,
        .deal = c->batch.deal,
        .samples_per_step = c->batch.samples,
        .micro_batch_samples = c->batch.micro_samples,
        .max_tokens = c->batch.micro_tokens,
        .rank = t->rank,
        .world = t->world,
        .threads = (int)c->data.threads,
        .prefetch = (int)c->data.prefetch,
        .end_step = -1,
        .cache_pixels = c->data.cache_mib > 0,
        .cache_bytes = c->data.cache_mib << 20,
    };
}

/* A pair that stands twice in a batch is its own false negative. */
static bif_status enough_pairs(const bif_config *c, const char *key, int64_t samples)
{
    return c->stage != BIF_STAGE_CLIP || samples >= c->batch.samples
               ? BIF_OK
               : bif_fail(BIF_ERR_CONFIG, "%s: %lld samples, fewer than batch.samples (%lld): a batch of stage clip would hold a pair twice; "
                          "lower batch.samples", key, (long long)samples, (long long)c->batch.samples);
}

static bif_loader_options validation_options(const trainer *t)
{
    bif_loader_options options = loader_options(t, &t->config->data.validation);
    options.selection = t->config->data.validation_selection;
    options.caption_column = NULL;
    options.shuffle = false;
    options.sampler = BIF_SAMPLER_PERMUTED;
    options.order_file = NULL;
    options.last = BIF_LAST_ENDLESS;
    options.deal = BIF_DEAL_TOKENS;
    options.cache_pixels = false;
    options.augment = (bif_augment){0};
    options.prefetch = 1;
    options.end_sample = t->validation_samples;
    return options;
}

/* The validation shards are known to be good, counted, and part of the memory plan before hours of training go by. */
static bif_status measure_validation(trainer *t)
{
    bif_status st = BIF_OK;
    const bif_config *c = t->config;
    bif_loader *loader = NULL;
    if (c->data.validation.count == 0) {
        return BIF_OK;
    }
    const bif_loader_options options = validation_options(t);
    st = bif_loader_open(&options, &loader);
    if (st != BIF_OK) {
        BIF_TRY(bif_fail_context(st, "data.validation%s", c->data.validation_selection != NULL ? " or data.validation_selection" : ""));
    }
    const int64_t samples = bif_loader_samples(loader), most = c->data.validation_samples;
    t->validation_samples = most > 0 && most < samples ? most : samples;
    BIF_TRY(enough_pairs(c, "data.validation", t->validation_samples));
    if (c->stage == BIF_STAGE_CLIP) { /* whole batches: a smaller one has another loss */
        t->validation_samples -= t->validation_samples % c->batch.samples;
    }
    const bif_batch_limits limits = bif_loader_limits(loader);
    t->limits.images = limits.images > t->limits.images ? limits.images : t->limits.images;
    t->limits.tokens_per_image = limits.tokens_per_image > t->limits.tokens_per_image ? limits.tokens_per_image : t->limits.tokens_per_image;
done:
    bif_loader_close(loader);
    return st;
}

static bif_status open_data(trainer *t)
{
    bif_status st = BIF_OK;
    const bif_config *c = t->config;
    bif_loader_options options = loader_options(t, &c->data.shards);
    options.start_step = t->state.step;
    st = bif_loader_open(&options, &t->loader);
    if (st != BIF_OK) {
        BIF_TRY(bif_fail_context(st, "data.shards%s%s%s", c->data.selection != NULL ? " or data.selection" : "", c->data.caption_column != NULL ? " or data.caption_column" : "",
                                 c->data.order != NULL ? " or data.order" : ""));
    }
    const int64_t samples = bif_loader_samples(t->loader);
    t->limits = bif_loader_limits(t->loader);
    BIF_TRY(enough_pairs(c, "data.shards", samples));
    BIF_TRY(measure_validation(t));
    t->steps = c->train.steps > 0 ? c->train.steps : bif_loader_steps(t->loader, c->train.epochs);
    t->warmup = bif_warmup_steps(c, t->steps);
    bif_info("data: %lld samples in %zu shard path(s), %lld a step, %lld steps, %lld of warm-up", (long long)samples,
             c->data.shards.count, (long long)c->batch.samples, (long long)t->steps, (long long)t->warmup);
done:
    return st;
}

/* Collective. */
static bif_status open_device(trainer *t)
{
    bif_status st = BIF_OK;
    const bif_config *c = t->config;
    bif_stage_run *run = &t->run;
    run->config = c;
    run->comm = t->comm;
    BIF_TRY(bif_comm_agree(t->comm, bif_comm_open_device(t->comm, c->device, bif_comm_threads(t->comm, (int)c->threads), &run->device)));
    run->device->deterministic = c->deterministic;
    BIF_TRY(bif_comm_connect(t->comm, run->device));
done:
    return st;
}

static bif_status open_model(trainer *t)
{
    bif_status st = BIF_OK;
    const bif_config *c = t->config;
    bif_stage_run *run = &t->run;
    st = bif_tokenizer_load(c->data.tokenizer, &t->tokenizer);
    if (st != BIF_OK) {
        BIF_TRY(bif_fail_context(st, "data.tokenizer"));
    }
    if (bif_comm_rank(t->comm) == 0) {
        bif_build_compare(c, &t->paths, t->tokenizer);
    }
    BIF_TRY(bif_build_config(c, &t->paths, t->tokenizer, &run->model));
    if (c->stage == BIF_STAGE_CLIP) {
        BIF_TRY(bif_build_clip(c, &t->paths, &run->model, t->world, run->device, &run->clip));
        run->params = &run->clip.params;
    } else {
        BIF_TRY(bif_build_vlm(c, &t->paths, &run->model, t->world, run->device, &run->vlm));
        run->params = &run->vlm.params;
    }
    int64_t max_tokens = 0;
    BIF_TRY(bif_longest(c, &run->model, &max_tokens));
    BIF_TRY(bif_build_chat(&run->model, t->tokenizer, c->data.template_, c->data.system, c->data.image_place, max_tokens, c->data.truncate, &t->chat));
    if (run->model.kind != BIF_MODEL_DECODER) {
        BIF_TRY(bif_build_preprocess(&run->model, run->model.image_fit, &t->preprocess));
        BIF_TRY(bif_build_table(&t->preprocess, run->device, c->stage == BIF_STAGE_CLIP ? &run->clip.vit : &run->vlm.vit));
    }
    BIF_TRY(bif_optimizer_new(&t->optimizer, run->params, c, t->comm));
    run->params->hook->context = &t->optimizer;
    run->params->hook->scalar = bif_optimizer_scalar;
    run->reached = bif_comm_overlaps(t->comm) ? bif_optimizer_reached : NULL;
    bif_info("device: %s, %s; %d rank(s), %d on this node; seed %lld", run->device->name, bif_precision_name(run->params->dtype), t->world,
             bif_comm_local_ranks(t->comm), (long long)c->seed);
done:
    return st;
}

/* Which ones, as far as the folder's config.yaml tells. */
static bif_status other_settings(const trainer *t, const char *checkpoint)
{
    char *path = bif_path_join(t->config->output, "config.yaml"), *difference = NULL;
    bif_config before = {0};
    if (bif_config_load(path, NULL, 0, &before) == BIF_OK) {
        difference = bif_config_difference(&before, t->config);
        bif_config_free(&before);
    }
    bif_error_clear();
    const bool named = difference != NULL && difference[0] != '\0';
    const bif_status st = bif_fail(BIF_ERR_CONFIG, "%s was made with other settings: %s%s; restore them, or set another output", checkpoint,
                                   named ? difference : "compare ", named ? "" : path);
    free(difference);
    free(path);
    return st;
}

/* Continues from the newest valid checkpoint, if it belongs to this run. */
static bif_status resume(trainer *t)
{
    bif_status st = BIF_OK;
    char *path = NULL;
    char config_digest[33];
    bif_config_digest(t->config, config_digest);
    BIF_TRY(bif_checkpoint_find(t->comm, t->config->output, &path));
    if (path != NULL) {
        BIF_TRY(bif_checkpoint_state(t->comm, path, &t->state));
        if (strcmp(t->state.config_digest, config_digest) != 0) {
            BIF_TRY(other_settings(t, path));
        }
        BIF_TRY(bif_checkpoint_load(t->comm, t->run.device, path, t->run.params, &t->optimizer.moments, &t->state));
        t->skipped = t->state.skipped;
        bif_info("resuming from %s", path);
    }
    memcpy(t->state.config_digest, config_digest, sizeof config_digest);
    t->state.seed = (uint64_t)t->config->seed;
done:
    free(path);
    return st;
}

static bif_status check_data_digest(trainer *t)
{
    const char *digest = bif_loader_digest(t->loader);
    if (t->state.step > 0 && strcmp(t->state.data_digest, digest) != 0) {
        return bif_fail(BIF_ERR_CONFIG, "data.shards, data.selection, data.caption_column or data.order: not what the checkpoint in %s was trained "
                        "on; restore them, or set another output", t->config->output);
    }
    snprintf(t->state.data_digest, sizeof t->state.data_digest, "%s", digest);
    return BIF_OK;
}

/* Adapters upon another base are another model: the recipe may name a run that went on since. */
static bif_status check_frozen(trainer *t, const char *digest)
{
    if (t->config->lora.rank == 0) {
        return BIF_OK;
    }
    if (t->state.frozen_digest[0] != '\0' && strcmp(t->state.frozen_digest, digest) != 0) {
        const char *and = t->tower != NULL ? " and " : "", *tower = t->tower != NULL ? t->tower : "";
        return bif_fail(BIF_ERR_CONFIG, "the frozen parts, here from %s%s%s, are not those the checkpoint in %s was trained on; restore them, "
                        "or set another output", t->base, and, tower, t->config->output);
    }
    snprintf(t->state.frozen_digest, sizeof t->state.frozen_digest, "%s", digest);
    return BIF_OK;
}

static bif_status write_config(const trainer *t)
{
    char *path = bif_path_join(t->config->output, "config.yaml");
    char *text = bif_config_text(t->config);
    bif_status st = bif_file_write(path, text, strlen(text));
    free(text);
    free(path);
    return st;
}

/* ---- stepping ---- */

/* Unusable samples met by all ranks since the run began. */
static int64_t count_skipped(trainer *t)
{
    double met = (double)bif_loader_skipped(t->loader);
    bif_comm_sum_f64(t->comm, &met, 1);
    return t->skipped + (int64_t)met;
}

static bif_status save(trainer *t)
{
    bif_status st = BIF_OK;
    t->state.skipped = count_skipped(t);
    if (t->rank == 0) {
        st = bif_metrics_sync(t->metrics, &t->state.metrics_bytes);
    }
    const double start = now();
    BIF_TRY(bif_comm_agree(t->comm, st));
    BIF_TRY(bif_checkpoint_save(t->comm, t->run.device, t->config->output, &t->run.model, t->run.params, t->config->data.tokenizer,
                                &t->optimizer.moments, &t->state, t->base != NULL ? &(bif_beside){t->base, t->tower} : NULL,
                                (int)t->config->train.keep));
    bif_info("saved step %lld in %.1f s", (long long)t->state.step, now() - start);
done:
    return st;
}

/* JSON has no NaN and no infinity: they become null. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Mean loss over the validation shards, in order; every rank takes part. */
static bif_status validate(trainer *t)
{
    bif_status st = BIF_OK;
    bif_loader *loader = NULL;
    const bif_loader_options options = validation_options(t);
    const int64_t samples = t->validation_samples, steps = (samples - 1) / t->config->batch.samples + 1;
    BIF_TRY(bif_comm_agree(t->comm, bif_loader_open(&options, &loader)));
    double loss = 0.0, count = 0.0;
    for (int64_t i = 0; i < steps; i++) {
        const bif_step *step = NULL;
        BIF_TRY(bif_comm_agree(t->comm, bif_loader_next(loader, &step)));
        bif_step_result result;
        bif_stage_step(&t->run, step, false, &result);
        bif_stage_read_loss(&t->run, &result);
        bif_loader_done(loader, step);
        loss += result.loss * result.supervised;
        count += result.supervised;
    }
    loss = count > 0.0 ? loss / count : 0.0;
    bif_info("step %lld: validation loss %.5f over %lld samples", (long long)t->state.step, loss, (long long)samples);
    BIF_TRY(bif_comm_agree(t->comm, bif_metrics_write(t->metrics, json_pack("{s:I,s:o}", "step", (json_int_t)t->state.step,
                                                                            "validation_loss", number(loss)))));
done:
    bif_loader_close(loader);
    return st;
}

static bif_status report(trainer *t, const bif_step_result *result, double norm, double schedule, double seconds, double waited)
{
    const int64_t step = t->state.step;
    const double rate = result->samples / seconds, tokens = result->tokens / seconds;
    const double share = t->peak_flops > 0.0 ? bif_stage_flops(&t->run, result) / seconds / t->peak_flops : 0.0;
    const double epoch = bif_loader_epochs(t->loader, step);
    json_t *record = json_pack("{s:I,s:o,s:f,s:o,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "step", (json_int_t)step, "loss",
                               number(result->loss), "lr",
                               t->config->optimizer.lr * schedule, "grad_norm", number(norm),
                               "epoch", epoch, "supervised", result->supervised, "tokens", result->tokens, "seconds", seconds,
                               "samples_per_s", rate, "share_of_peak", share, "data_wait_s", waited);
    BIF_BUG_IF(record == NULL, "the metrics record could not be built");
    const double left = (double)(t->steps - step) * (now() - t->started) / (double)(step - t->first_step);
    const bool line = t->config->train.log_every > 0 && (step % t->config->train.log_every == 0 || step == t->steps);
    const char *format = "step %lld/%lld  loss %.4f  lr %.3g  norm %.3f  %.1f samples/s  %.0f tokens/s  %.0f %% of peak  data wait %.1f %%  "
                         "left %d:%02d";
    const int minutes = (int)(left / 60.0), rest = (int)left % 60;
    (line ? bif_info : bif_progress)(format, (long long)step, (long long)t->steps, result->loss, t->config->optimizer.lr * schedule, norm,
                                     rate, tokens, 100.0 * share, 100.0 * waited / seconds, minutes, rest);
    return bif_metrics_write(t->metrics, record);
}

static bif_status one_step(trainer *t)
{
    bif_status st = BIF_OK;
    const double start = now(), waited = bif_loader_wait_seconds(t->loader);
    const bif_step *step = NULL;
    BIF_TRY(bif_comm_agree(t->comm, bif_loader_next(t->loader, &step)));
    BIF_BUG_IF(step->step != t->state.step, "the loader brought step %lld, wanted %lld", (long long)step->step, (long long)t->state.step);
    bif_params_zero_grads(t->run.params);
    bif_step_result result;
    bif_stage_step(&t->run, step, true, &result);
    bif_loader_done(t->loader, step);
    const double norm = bif_optimizer_reduce(&t->optimizer, t->comm);
    bif_stage_read_loss(&t->run, &result); /* the norm has waited for the device */
    const double schedule = bif_schedule(t->config->optimizer.schedule, t->state.step, t->steps, t->warmup, t->config->optimizer.min_lr_ratio);
    const bool empty = result.supervised <= 0.0;
    if (!empty && isfinite(norm) && isfinite(result.loss)) {
        bif_optimizer_step(&t->optimizer, t->comm, norm, schedule, t->state.step + 1);
        t->state.bad_steps = 0;
    } else if (++t->state.bad_steps <= 5 && t->state.bad_steps < t->steps) { /* a run of nothing but empty steps is no success */
        if (t->rank == 0) {
            bif_warn("step %lld: %s (loss %g, gradient norm %g); the update is skipped", (long long)t->state.step + 1,
                     empty ? "nothing to learn from" : "not finite", result.loss, norm);
        }
    } else if (empty) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "step %lld: no usable sample for %lld steps in a row; see the warnings, and look at samples with 'bifocal data show'",
                         (long long)t->state.step + 1, (long long)t->state.bad_steps));
    } else {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "step %lld: no finite gradient for %lld steps in a row; lower optimizer.lr or set optimizer.clip_norm",
                         (long long)t->state.step + 1, (long long)t->state.bad_steps));
    }
    t->state.step++;
    const double seconds = now() - start;
    BIF_TRY(bif_comm_agree(t->comm, report(t, &result, norm, schedule, seconds, bif_loader_wait_seconds(t->loader) - waited)));
done:
    return st;
}

/* Whether any rank was asked to stop. The schedule of collectives is the same on all ranks. */
static bool stop_wanted(trainer *t)
{
    double wanted = stop_signal != 0;
    bif_comm_max_f64(t->comm, &wanted, 1);
    const int64_t limit = t->config->train.stop_after;
    return wanted > 0.0 || (limit > 0 && t->state.step - t->first_step >= limit);
}

static bif_status loop(trainer *t)
{
    bif_status st = BIF_OK;
    const bif_config *c = t->config;
    t->started = now();
    t->first_step = t->state.step;
    while (t->state.step < t->steps) {
        BIF_TRY(one_step(t));
        const int64_t step = t->state.step;
        const bool last = step == t->steps;
        if (c->data.validation.count > 0 && ((c->train.validate_every > 0 && step % c->train.validate_every == 0) || last)) {
            BIF_TRY(validate(t));
        }
        const bif_run_state before = t->state;
        bool best = false;
        if (c->evaluate.every > 0 && (step % c->evaluate.every == 0 || last)) {
            BIF_TRY(bif_evaluator_run(t->evaluator, c, t->comm, t->metrics, &t->state, &best));
        }
        const bool stop = !last && stop_wanted(t);
        if (last || stop || best || (c->train.checkpoint_every > 0 && step % c->train.checkpoint_every == 0)) {
            st = save(t);
            if (st == BIF_ERR_IO && !last && !stop) {
                bif_warn("%s; training goes on with the previous checkpoint", bif_error_message());
                t->state = before;
                st = BIF_OK;
                best = false;
            }
            BIF_TRY(st);
            BIF_TRY(bif_comm_agree(t->comm, best && t->rank == 0 ? bif_evaluator_write_best(c, &t->state) : BIF_OK));
        }
        if (stop) {
            BIF_TRY(bif_fail(BIF_ERR_STOPPED, "stopped after step %lld of %lld and saved; the same command continues", (long long)step,
                             (long long)t->steps));
        }
    }
done:
    return st;
}

static bif_status prove_frozen(trainer *t, const char *before)
{
    char after[33];
    bif_params_digest(t->run.params, false, after);
    if (t->run.params->frozen_elements == 0) {
        return BIF_OK;
    }
    if (strcmp(before, after) != 0) {
        return bif_fail(BIF_ERR_BUG, "frozen tensors changed during the run (digest %s, now %s); please report this", before, after);
    }
    bif_info("frozen tensors unchanged: %lld elements, XXH3-128 %s before and after", (long long)t->run.params->frozen_elements, after);
    return BIF_OK;
}

static void close_all(trainer *t)
{
    if (t->evaluator != NULL) {
        t->evaluator->close(t->evaluator->context);
    }
    bif_loader_close(t->loader);
    bif_metrics_close(t->metrics);
    bif_optimizer_free(&t->optimizer);
    if (t->run.device != NULL) {
        t->run.device->release(t->run.device, t->run.arena.base);
    }
    if (t->config->stage == BIF_STAGE_CLIP) {
        bif_clip_free(&t->run.clip);
    } else {
        bif_vlm_free(&t->run.vlm);
    }
    bif_comm_disconnect(t->comm);
    bif_device_close(t->run.device);
    bif_tokenizer_free(t->tokenizer);
    bif_model_paths_free(&t->paths);
    free(t->base);
    free(t->tower);
    bif_log_set_copy(-1);
    if (t->log_fd >= 0) {
        close(t->log_fd);
    }
    if (t->lock_fd >= 0) {
        close(t->lock_fd);
    }
}

bif_status bif_train(const bif_config *config, bif_comm *comm, const bif_evaluator *evaluator)
{
    bif_status st = BIF_OK;
    char frozen[33];
    trainer t = {.config = config, .comm = comm, .evaluator = evaluator, .rank = bif_comm_rank(comm), .world = bif_comm_world(comm), .lock_fd = -1, .log_fd = -1};
    if (config->stage == BIF_STAGE_CLIP && config->batch.samples % t.world != 0) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "batch.samples (%lld) must be divisible by the %d ranks in stage clip",
                         (long long)config->batch.samples, t.world));
    }
    BIF_TRY(bif_comm_agree(comm, t.rank == 0 ? lock_output(&t) : BIF_OK));
    BIF_TRY(bif_build_check_selections(config, comm));
    BIF_TRY(bif_resolve_paths(config, comm, &t.paths));
    if (config->lora.rank > 0) {
        BIF_TRY(bif_comm_agree(comm, bif_frozen_from(&t.paths, &t.base, &t.tower)));
    }
    BIF_TRY(open_device(&t));
    BIF_TRY(bif_comm_agree(comm, open_model(&t)));
    BIF_TRY(resume(&t));
    BIF_TRY(bif_comm_agree(comm, open_data(&t)));
    BIF_TRY(bif_comm_agree(comm, check_data_digest(&t)));
    if (t.state.step >= t.steps) {
        bif_info("%s: all %lld steps are done", config->output, (long long)t.steps);
        goto done;
    }
    BIF_TRY(bif_comm_agree(comm, t.rank == 0 ? write_config(&t) : BIF_OK));
    BIF_TRY(bif_comm_agree(comm, t.rank == 0 ? bif_metrics_open(config->output, t.state.metrics_bytes, &t.metrics) : BIF_OK));
    bif_print_manifest(t.run.params);
    bif_optimizer_warm_up(&t.optimizer);
    const bif_live_model model = {.run = &t.run, .tokenizer = t.tokenizer, .chat = &t.chat, .preprocess = &t.preprocess};
    BIF_TRY(bif_evaluator_open(evaluator, config, comm, &model, &t.state)); /* before the plan, which counts what is free then */
    BIF_TRY(bif_comm_agree(comm, t.rank == 0 ? bif_evaluator_write_best(config, &t.state) : BIF_OK));
    BIF_TRY(bif_comm_agree(comm, bif_plan_memory(&t.run, &t.limits)));
    BIF_TRY(bif_comm_agree(comm, bif_stage_allocate(&t.run, &t.limits)));
    bif_params_digest(t.run.params, false, frozen);
    BIF_TRY(bif_comm_agree(comm, check_frozen(&t, frozen)));
    t.peak_flops = bif_measure_peak(t.run.device, t.run.params->dtype);
    bif_comm_sum_f64(comm, &t.peak_flops, 1);
    bif_info("peak of the linear op: %.0f GFLOP/s over all ranks", t.peak_flops / 1e9);
    catch_signals();
    BIF_TRY(loop(&t));
    BIF_TRY(prove_frozen(&t, frozen));
    BIF_TRY(bif_comm_agree(comm, bif_metrics_write(t.metrics, json_pack("{s:b,s:I,s:f,s:f}", "done", 1, "step", (json_int_t)t.state.step,
                                                                        "peak_rss_mib", (double)bif_peak_rss_bytes() / 0x1p20, "seconds",
                                                                        now() - t.started))));
    bif_info("done: %lld steps in %.1f s, data wait %.1f %%, %lld samples left out, activations peak %.1f of %.1f MiB, process peak %.1f MiB",
             (long long)(t.steps - t.first_step), now() - t.started, 100.0 * bif_loader_wait_seconds(t.loader) / (now() - t.started),
             (long long)t.state.skipped, (double)t.run.arena.peak / 0x1p20, (double)t.run.arena.size / 0x1p20,
             (double)bif_peak_rss_bytes() / 0x1p20);
done:
    close_all(&t);
    return st;
}
