#include "eval/during.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "eval/vqa.h"

struct bif_during {
    const bif_config *config;
    bif_comm *comm;
    bif_session session; /* borrows all but vlm.feeder */
    bif_questions questions;
    bif_ask_options ask;
    bif_asker *asker;
    const bif_score_task *task;
    const char *const *references;
    size_t reference_files;
    char *own; /* answers of shards as a file of references, or NULL */
    bif_prompt_source source;
};

bif_during *bif_during_new(void)
{
    return bif_calloc(1, sizeof(bif_during));
}

void bif_during_free(bif_during *during)
{
    free(during);
}

/* ---- opening ---- */

static bif_status choose_task(bif_during *d, bif_prompt_used *prompt)
{
    const bif_config *c = d->config;
    bif_prompt_options wanted = {0};
    d->task = bif_score_task_by_name(c->evaluate.task);
    if (d->task == NULL) {
        return bif_fail(BIF_ERR_CONFIG, "evaluate.task: '%s' is no task; bifocal score --help lists them", c->evaluate.task);
    }
    if (d->task->boxes) {
        return bif_fail(BIF_ERR_CONFIG, "evaluate.task: the scorer of %s wants more than a recipe says; evaluate checkpoints with bifocal "
                        "eval", c->evaluate.task);
    }
    if (c->evaluate.keep_best && strcmp(d->task->name, "chair") == 0) {
        return bif_fail(BIF_ERR_CONFIG, "evaluate.task: of chair less is better; set evaluate.keep_best: no");
    }
    for (int i = 0; bif_prompt_tasks[i] != NULL; i++) {
        if (strcmp(bif_prompt_tasks[i]->name, c->evaluate.task) == 0) {
            wanted.task = bif_prompt_tasks[i]->name;
        }
    }
    wanted.variant = c->evaluate.variant;
    if (wanted.variant != NULL && wanted.task == NULL) {
        return bif_fail(BIF_ERR_CONFIG, "evaluate.variant: task %s has no prompts of its own; they stand in the questions", d->task->name);
    }
    return bif_prompt_choose(&wanted, prompt) == BIF_OK ? BIF_OK : bif_fail_context(BIF_ERR_CONFIG, "evaluate.variant");
}

bif_status bif_during_check(const bif_config *config)
{
    bif_prompt_used prompt;
    bif_during during = {.config = config};
    return config->evaluate.every > 0 ? choose_task(&during, &prompt) : BIF_OK;
}

/* A session over the weights in training. Its inputs come through slots of its own, so that those of the run stay as they are. */
static void share_model(bif_during *d, const bif_live_model *model)
{
    const bif_stage_run *run = model->run;
    d->session = (bif_session){.device = run->device,
                               .tokenizer = model->tokenizer,
                               .model = run->model,
                               .vlm = run->vlm,
                               .chat = *model->chat,
                               .preprocess = *model->preprocess,
                               .folder = d->config->output};
    d->session.vlm.feeder = (bif_feeder){0};
    d->session.vlm.shape.places = false; /* dropout is for steps */
    d->session.chat.max_tokens = run->model.decoder.positions; /* as a checkpoint is opened: training may have had shorter ones */
}

/* The answers of shards, where a scorer reads them and whoever scores the predictions again. */
static bif_status write_own_references(bif_during *d)
{
    bif_status st = BIF_OK;
    bif_writer *writer = NULL;
    char *folder = bif_path_join(d->config->output, "eval");
    BIF_TRY(bif_make_dirs(folder));
    BIF_TRY(bif_writer_open(d->own, &writer));
    for (int64_t i = 0; i < d->questions.count; i++) {
        const bif_question *q = &d->questions.items[i];
        if (q->answer != NULL) {
            json_t *row = json_pack("{s:o,s:s}", "question_id", json_loads(q->id, JSON_DECODE_ANY, NULL), "answer", q->answer);
            char *text = json_dumps(row, JSON_COMPACT), *line = bif_format("%s\n", text);
            st = bif_writer_write(writer, line, strlen(line));
            json_decref(row);
            free(text);
            free(line);
            BIF_TRY(st);
        }
    }
    st = bif_writer_commit(writer);
    writer = NULL;
done:
    bif_writer_abandon(writer);
    free(folder);
    return st;
}

/* The references are read once now, so that what is wrong with them is said, and again for each evaluation: they may be large. */
static bif_status try_references(const bif_during *d)
{
    bif_score_set *set = NULL;
    const bif_status st = bif_score_open(d->task, d->references, d->reference_files, &set);
    bif_score_close(set);
    return st;
}

static bif_status digest_of(const bif_during *d, char digest[33])
{
    bif_status st = BIF_OK;
    char part[33];
    const bif_config *c = d->config;
    char *words = bif_format("%s, %lld tokens, %s, prompts %s", d->task->name, (long long)d->ask.decoding.max_new,
                             d->source.shard_count > 0 ? "of shards" : c->evaluate.image_root, bif_asker_digest(d->asker));
    bif_digest *all = bif_digest_new();
    bif_digest_update(all, words, strlen(words));
    free(words);
    bif_questions_digest(&d->questions, part);
    bif_digest_update(all, part, sizeof part);
    for (size_t i = 0; i < d->reference_files && st == BIF_OK; i++) {
        uint64_t bytes = 0;
        if (!bif_is_folder(d->references[i])) {
            st = bif_digest_file(d->references[i], part, &bytes);
            bif_digest_update(all, part, sizeof part);
        }
    }
    bif_digest_finish(all, digest);
    return st;
}

/* Of this rank alone. */
static bif_status read_questions(bif_during *d, const bif_live_model *model)
{
    bif_status st = BIF_OK;
    const bif_config *c = d->config;
    const bool file = c->evaluate.questions.count > 0 && c->evaluate.questions.items[0][0] != '\0';
    bif_prompt_used prompt = {0};
    BIF_TRY(choose_task(d, &prompt));
    share_model(d, model);
    d->questions.limit = c->evaluate.limit;
    d->source = (bif_prompt_source){.files = (const char *const *)c->evaluate.questions.items,
                                    .file_count = file ? c->evaluate.questions.count : 0,
                                    .shards = (const char *const *)c->evaluate.shards.items,
                                    .shard_count = c->evaluate.shards.count,
                                    .caption_prompt = c->evaluate.prompt,
                                    .image_root = c->evaluate.image_root};
    BIF_TRY(bif_prompt_read(&prompt, &d->source, &d->questions));
    const int64_t usual = prompt.task != NULL ? prompt.task->max_new : 16, most = c->evaluate.max_new_tokens;
    d->ask = (bif_ask_options){.image_root = c->evaluate.image_root,
                               .batch = c->evaluate.batch < d->questions.count ? c->evaluate.batch : d->questions.count,
                               .decoding = {.max_new = most > 0 ? most : usual, .top_p = 1.0, .length_penalty = 1.0},
                               .threads = bif_comm_threads(d->comm, (int)c->threads)};
done:
    return st;
}

static bif_status open_questions(bif_during *d, const bif_live_model *model)
{
    bif_status st = BIF_OK;
    const bif_config *c = d->config;
    const bool own = c->evaluate.references.count == 0, first = bif_comm_rank(d->comm) == 0;
    BIF_TRY(read_questions(d, model));
    d->references = own ? (const char *const *)c->evaluate.questions.items : (const char *const *)c->evaluate.references.items;
    d->reference_files = own ? c->evaluate.questions.count : c->evaluate.references.count;
    if (own && d->source.file_count == 0) {
        d->own = bif_format("%s/eval/references.jsonl", c->output);
        d->references = (const char *const *)&d->own;
        d->reference_files = 1;
        BIF_TRY(first ? write_own_references(d) : BIF_OK);
    }
    BIF_TRY(first ? try_references(d) : BIF_OK);
    BIF_TRY(bif_asker_new(&d->session, &d->questions, &d->ask, &d->asker));
    BIF_TRY(first ? bif_asker_find_pictures(d->asker) : BIF_OK);
done:
    return st == BIF_OK ? st : bif_fail_context(st, "evaluate");
}

static bif_status measure_during(void *context, const bif_config *config, bif_comm *comm, const bif_live_model *model, size_t *bytes)
{
    bif_status st = BIF_OK;
    bif_during *d = context;
    *d = (bif_during){.config = config, .comm = comm};
    BIF_TRY(read_questions(d, model));
    BIF_TRY(bif_asker_measure(&d->session, &d->questions, &d->ask, bytes));
done:
    bif_questions_free(&d->questions);
    *d = (bif_during){0};
    return st;
}

static bif_status open_during(void *context, const bif_config *config, bif_comm *comm, const bif_live_model *model, char digest[33])
{
    bif_status st = BIF_OK;
    bif_during *d = context;
    bif_device *device = model->run->device;
    const size_t before = device->free_bytes != NULL ? device->free_bytes(device) : 0;
    *d = (bif_during){.config = config, .comm = comm};
    BIF_TRY(bif_comm_agree(comm, open_questions(d, model)));
    BIF_TRY(bif_comm_agree(comm, bif_vqa_same_list(comm, &d->questions, bif_prompt_source_name(&d->source))));
    BIF_TRY(bif_comm_agree(comm, bif_comm_rank(comm) == 0 ? digest_of(d, digest) : BIF_OK));
    bif_comm_broadcast(comm, digest, 33, 0);
    bif_info("evaluation: every %lld steps %lld questions, task %s, %lld at a time on each rank", (long long)config->evaluate.every,
             (long long)d->questions.count, d->task->name, (long long)d->ask.batch);
    if (before > 0) {
        bif_info("evaluation: takes %.1f MiB of %s, now and for the whole run", (double)(before - device->free_bytes(device)) / 0x1p20,
                 device->name);
    }
done:
    return st;
}

static void close_during(void *context)
{
    bif_during *d = context;
    if (d->config == NULL) {
        return;
    }
    bif_asker_free(d->asker);
    bif_questions_free(&d->questions);
    free(d->own);
    if (d->session.device != NULL) {
        bif_feeder_free(&d->session.vlm.feeder, d->session.device);
    }
    *d = (bif_during){0};
}

/* ---- evaluating ---- */

static bif_status answer_mine(bif_during *d, char **predictions)
{
    bif_status st = BIF_OK;
    const int64_t *order = bif_asker_order(d->asker), count = d->questions.count, batch = d->ask.batch;
    const int64_t world = bif_comm_world(d->comm), rank = bif_comm_rank(d->comm);
    char **found = bif_calloc((size_t)batch, sizeof *found);
    /* Pieces small enough that every rank gets one; dealt in turn, because the longest prompts come first. */
    const int64_t piece = (count + world - 1) / world < batch ? (count + world - 1) / world : batch;
    for (int64_t at = rank * piece; st == BIF_OK && at < count; at += world * piece) {
        const int64_t here = count - at < piece ? count - at : piece;
        st = bif_ask(d->asker, order + at, here, found);
        for (int64_t i = 0; i < here; i++) {
            predictions[order[at + i]] = found[i];
            found[i] = NULL;
        }
    }
    free(found);
    return st;
}

static bif_status score(const bif_during *d, const char *path, bif_evaluation *out)
{
    bif_status st = BIF_OK;
    const bif_score_policy policy = {.missing = BIF_MISSING_SKIP, .allow_unknown = d->own != NULL}; /* last turns may have no answer */
    bif_score_set *set = NULL;
    bif_score_counts counts;
    bif_metric_list metrics = {0};
    BIF_TRY(bif_score_open(d->task, d->references, d->reference_files, &set));
    BIF_TRY(bif_score_predictions(set, path, &policy, &counts));
    BIF_TRY(bif_score_run(set, d->task->usual));
    bif_score_summary(set, NULL, &metrics);
    out->score = metrics.count > 0 ? metrics.items[0].value : NAN;
    out->metrics = json_object();
    for (size_t i = 0; i < metrics.count; i++) {
        const double value = metrics.items[i].value;
        json_object_set_new(out->metrics, metrics.items[i].name, isfinite(value) ? json_real(value) : json_null());
    }
done:
    free(metrics.items);
    bif_score_close(set);
    return st;
}

/* Rank 0, with all answers. */
static bif_status write_and_score(const bif_during *d, int64_t step, char *const *predictions, bif_evaluation *out)
{
    bif_status st = BIF_OK;
    char *folder = bif_path_join(d->config->output, "eval"), *name = bif_format("step_%08" PRId64 ".jsonl", step);
    char *path = bif_path_join(folder, name);
    BIF_TRY(bif_make_dirs(folder));
    BIF_TRY(bif_vqa_write(path, &d->questions, predictions));
    BIF_TRY(score(d, path, out));
done:
    free(path);
    free(name);
    free(folder);
    return st;
}

static bif_status evaluate(void *context, int64_t step, bif_evaluation *out)
{
    bif_status st = BIF_OK;
    bif_during *d = context;
    const int64_t count = d->questions.count;
    char **predictions = bif_calloc((size_t)count, sizeof *predictions);
    *out = (bif_evaluation){.score = NAN, .questions = count};
    BIF_TRY(bif_comm_agree(d->comm, answer_mine(d, predictions)));
    BIF_TRY(bif_comm_agree(d->comm, bif_vqa_collect(d->comm, predictions, count)));
    BIF_TRY(bif_comm_agree(d->comm, bif_comm_rank(d->comm) == 0 ? write_and_score(d, step, predictions, out) : BIF_OK));
    bif_comm_broadcast(d->comm, &out->score, sizeof out->score, 0);
done:
    for (int64_t i = 0; i < count; i++) {
        free(predictions[i]);
    }
    free(predictions);
    return st;
}

bif_evaluator bif_during_evaluator(bif_during *during)
{
    return (bif_evaluator){.context = during, .measure = measure_during, .open = open_during, .evaluate = evaluate, .close = close_during};
}
