#include "eval/recaption.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/column.h"

enum { SAY_SECONDS = 10 };
#define ERRORS_CAP ((size_t)1 << 30)

/* What is to be done with a sample, the same on all ranks. */
enum { NOTHING = 0, TO_DO = 1, FOUND = 2 };

typedef struct {
    int64_t shard, from, to; /* into the list of samples */
} unit;

typedef struct {
    bif_session *session;
    const bif_pool *pool;
    const bif_recaption_options *options;
    const bif_team *team;
    char *column, *method;
    uint8_t *what;   /* [samples] */
    bool *present;   /* [shards] the column is there */
    int64_t *sample; /* what is to do, rising */
    unit *unit;
    int64_t units, left;
    bif_encoded prompt;
    bif_generator *generator;
    bif_request *request; /* [batch] */
    bif_ids *answer;      /* [batch] */
    uint8_t *pixels;      /* [batch, S, S, 3] */
    bif_shard *shard;     /* open for the unit in work and those behind it */
    bif_partial *partial;
    int64_t open; /* its number; -1: none */
    bif_recaption_result done;
    struct timespec begin, said;
} job;

static double since(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + 1e-9 * (double)(now.tv_nsec - from->tv_nsec);
}

/* ---- what the texts depend on ---- */

static char *method_of(const job *j, const bif_selection *selection)
{
    char weights[33], ids[33], kept[33] = "all";
    const bif_session *s = j->session;
    const bif_preprocess *p = &s->preprocess;
    char *decoding = bif_decoding_text(&j->options->decoding);
    bif_params_digest(&s->vlm.params, false, weights);
    bif_digest_bytes(j->prompt.ids.ids, j->prompt.ids.count * sizeof *j->prompt.ids.ids, ids);
    if (selection != NULL) {
        bif_selection_digest(selection, kept);
    }
    char *method = bif_format(
        "bifocal recaption 1; weights %s; prompt \"%s\", ids %s; template %s; %s; first picture, %lld pixels, fit %d, mean %.9g %.9g %.9g, "
        "std %.9g %.9g %.9g; %s; samples %s",
        weights, j->options->prompt, ids, bif_template_name(s->chat.kind), decoding, (long long)p->size, (int)p->fit, p->mean[0],
        p->mean[1], p->mean[2], p->std[0], p->std[1], p->std[2], s->device->kind == BIF_DEVICE_CPU ? "cpu" : "cuda", kept);
    free(decoding);
    return method;
}

/* ---- what is to be done ---- */

/* *made: the column is there, of this method. */
static bif_status find_column(const job *j, const bif_shard *shard, bool *made)
{
    bif_column *column = NULL;
    *made = false;
    bif_status st = bif_column_open(shard, j->column, &column);
    if (st == BIF_OK && column != NULL) {
        const char *method = bif_column_describe(column)->method;
        *made = strcmp(method, j->method) == 0;
        if (!*made && !j->options->overwrite) {
            st = bif_fail(BIF_ERR_DATA,
                          "%s: its column %s was made in another way (\"%s\", not \"%s\"); give another --name, or --overwrite",
                          bif_shard_path(shard), j->column, method, j->method);
        }
        bif_column_close(column);
    } else if (st == BIF_ERR_DATA && j->options->overwrite) { /* damaged, or of another shard */
        bif_error_clear();
        st = BIF_OK;
    }
    return st;
}

/* Rank 0 looks. */
static bif_status look(job *j, const bif_selection *selection)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bool *found = NULL;
    for (int64_t s = 0; s < j->pool->shards; s++) {
        const int64_t first = j->pool->first_sample[s];
        BIF_TRY(bif_pool_shard(j->pool, s, &shard));
        BIF_TRY(find_column(j, shard, &j->present[s]));
        if (j->present[s]) {
            j->done.present++;
        } else {
            found = bif_calloc((size_t)bif_shard_samples(shard) + 1, sizeof *found);
            BIF_TRY(bif_partial_read(shard, j->column, j->method, j->options->overwrite, found, NULL, NULL));
            for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
                bif_shard_sample sample;
                BIF_TRY(bif_shard_get_sample(shard, i, &sample));
                const bool wanted = sample.image_count > 0 && (selection == NULL || bif_selection_times(selection)[first + i] > 0);
                j->what[first + i] = !wanted ? NOTHING : found[i] ? FOUND : TO_DO;
            }
            free(found);
            found = NULL;
        }
        bif_shard_close(shard);
        shard = NULL;
    }
done:
    free(found);
    bif_shard_close(shard);
    return st;
}

static void cut_units(job *j)
{
    const int64_t world = j->team->world;
    int64_t count = 0;
    j->sample = bif_malloc((size_t)j->pool->samples * sizeof *j->sample + 1);
    for (int64_t s = 0; s < j->pool->shards; s++) {
        const int64_t begin = count;
        for (int64_t i = j->pool->first_sample[s]; i < j->pool->first_sample[s + 1]; i++) {
            j->done.samples += j->what[i] != NOTHING;
            j->done.kept += j->what[i] == FOUND;
            if (j->what[i] == TO_DO) {
                j->sample[count++] = i;
            }
        }
        /* Small enough that all ranks have something to do. */
        int64_t size = (count - begin + 2 * world - 1) / (2 * world);
        size = world == 1 || size > j->options->batch ? j->options->batch : size < 1 ? 1 : size;
        for (int64_t at = begin; at < count; at += size) {
            j->unit = bif_realloc(j->unit, (size_t)j->units + 1, sizeof *j->unit);
            j->unit[j->units++] = (unit){s, at, at + size < count ? at + size : count};
        }
    }
    j->left = count;
}

/* ---- captions ---- */

static void close_shard(job *j)
{
    bif_partial_close(j->partial);
    bif_shard_close(j->shard);
    j->partial = NULL;
    j->shard = NULL;
    j->open = -1;
}

static bif_status open_shard(job *j, int64_t number)
{
    bif_status st = BIF_OK;
    if (j->open == number) {
        return BIF_OK;
    }
    close_shard(j);
    BIF_TRY(bif_pool_shard(j->pool, number, &j->shard));
    BIF_TRY(bif_partial_open(j->shard, j->column, j->method, j->team->rank, &j->partial));
    j->open = number;
done:
    return st;
}

static void say(job *j, const unit *u)
{
    if (j->team->rank == 0 && since(&j->said) >= SAY_SECONDS) {
        const double rest = since(&j->begin) / (double)(u->from > 0 ? u->from : 1) * (double)(j->left - u->from);
        clock_gettime(CLOCK_MONOTONIC, &j->said);
        bif_info("recaption: %lld of %lld pictures given out, about %lld:%02lld:%02lld left", (long long)u->from, (long long)j->left,
                 (long long)rest / 3600, (long long)rest / 60 % 60, (long long)rest % 60);
    }
}

/* This thread's last failure, without the shard's path: what is written does not depend on where the shards lie. malloc'ed. */
static char *take_reason(const bif_shard *shard)
{
    char *ways[] = {bif_format("shard '%s', ", bif_shard_path(shard)), bif_format("%s, ", bif_shard_path(shard))};
    const char *reason = bif_error_message();
    for (int i = 0; i < 2; i++) {
        reason += strncmp(reason, ways[i], strlen(ways[i])) == 0 ? strlen(ways[i]) : 0;
        free(ways[i]);
    }
    char *out = bif_strdup(reason);
    bif_error_clear();
    return out;
}

static bif_status caption_unit(void *argument, int64_t number)
{
    bif_status st = BIF_OK;
    job *j = argument;
    const unit *u = &j->unit[number];
    const int64_t count = u->to - u->from, first = j->pool->first_sample[u->shard];
    const size_t bytes = (size_t)(3 * j->session->preprocess.size * j->session->preprocess.size);
    bif_status *status = bif_calloc((size_t)count, sizeof *status);
    char **reason = bif_calloc((size_t)count, sizeof *reason), *text = NULL;
    int64_t *asked = bif_calloc((size_t)count, sizeof *asked), good = 0;
    say(j, u);
    BIF_TRY(open_shard(j, u->shard));
#pragma omp parallel for schedule(dynamic) num_threads(j->team->threads)
    for (int64_t i = 0; i < count; i++) {
        bif_shard_sample sample;
        status[i] = bif_shard_get_sample(j->shard, j->sample[u->from + i] - first, &sample);
        if (status[i] == BIF_OK) {
            status[i] = bif_session_image_shard(j->session, j->shard, (int64_t)sample.images[0], j->pixels + (size_t)i * bytes);
        }
        if (status[i] != BIF_OK) {
            reason[i] = take_reason(j->shard);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t local = j->sample[u->from + i] - first;
        uint64_t uid[2];
        if (status[i] == BIF_ERR_DATA) {
            BIF_TRY(bif_partial_add(j->partial, local, NULL, reason[i]));
            j->done.bad++;
            continue;
        }
        if (status[i] != BIF_OK) {
            BIF_TRY(bif_fail(status[i], "%s", reason[i]));
        }
        BIF_TRY(bif_sample_uid(j->shard, local, uid));
        j->request[good] =
            (bif_request){.prompt = &j->prompt, .pixels = j->pixels + (size_t)i * bytes, .images = 1, .number = uid[0] ^ uid[1]};
        asked[good++] = local;
    }
    if (good > 0) {
        BIF_TRY(bif_generate(j->generator, j->request, good, j->answer));
    }
    for (int64_t i = 0; i < good; i++) {
        BIF_TRY(bif_answer_text(j->session, &j->answer[i], &text));
        st = bif_partial_add(j->partial, asked[i], text, NULL);
        free(text);
        text = NULL;
        BIF_TRY(st);
        j->done.written++;
    }
done:
    for (int64_t i = 0; i < count; i++) {
        free(reason[i]);
    }
    free(reason);
    free(status);
    free(asked);
    return st;
}

/* ---- columns ---- */

/* The file's lines about other columns, then those of this one. */
static bif_status save_errors(const job *j, const bif_shard *shard, char *const *reason)
{
    bif_status st = BIF_OK;
    char *folder = bif_column_folder(bif_shard_path(shard)), *path = bif_path_join(folder, "recaption-errors.jsonl"), *old = NULL,
         *text = NULL;
    char *start = bif_format("{\"column\":\"%s\",", j->column);
    size_t size = 0, text_size = 0;
    FILE *out = open_memstream(&text, &text_size);
    BIF_BUG_IF(out == NULL, "out of memory for a list of errors");
    const bool there = bif_exists(path);
    if (there) {
        BIF_TRY(bif_file_read(path, ERRORS_CAP, &old, &size));
    }
    for (size_t at = 0, length; at < size; at += length + 1) {
        const char *end = memchr(old + at, '\n', size - at);
        length = end != NULL ? (size_t)(end - old) - at : size - at;
        if (length > 0 && strncmp(old + at, start, strlen(start)) != 0) {
            fprintf(out, "%.*s\n", (int)length, old + at);
        }
    }
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        bif_shard_sample sample;
        if (reason[i] != NULL) {
            BIF_TRY(bif_shard_get_sample(shard, i, &sample));
            json_t *row = json_pack("{s:s,s:I,s:I,s:s}", "column", j->column, "sample", (json_int_t)i, "image",
                                    (json_int_t)sample.images[0], "reason", reason[i]);
            char *line = json_dumps(row, JSON_COMPACT);
            fprintf(out, "%s\n", line);
            free(line);
            json_decref(row);
        }
    }
    fflush(out);
    if (there || text_size > 0) {
        BIF_TRY(bif_file_write(path, text, text_size));
    }
done:
    fclose(out);
    free(text);
    free(old);
    free(start);
    free(path);
    free(folder);
    return st;
}

static bif_status write_column(void *argument, int64_t number)
{
    bif_status st = BIF_OK;
    job *j = argument;
    bif_shard *shard = NULL;
    char **text = NULL, **reason = NULL;
    bool *found = NULL, made = false;
    int64_t samples = 0;
    if (j->present[number]) {
        return BIF_OK;
    }
    BIF_TRY(bif_pool_shard(j->pool, number, &shard));
    BIF_TRY(find_column(j, shard, &made)); /* another run of the same may have been quicker, and have removed what both had found */
    if (made) {
        BIF_TRY(bif_partial_remove(shard, j->column));
        j->done.present++;
        goto done;
    }
    samples = bif_shard_samples(shard);
    text = bif_calloc((size_t)samples + 1, sizeof *text);
    reason = bif_calloc((size_t)samples + 1, sizeof *reason);
    found = bif_calloc((size_t)samples + 1, sizeof *found);
    BIF_TRY(bif_partial_read(shard, j->column, j->method, false, found, text, reason));
    for (int64_t i = 0; i < samples; i++) {
        const bool wanted = j->what[j->pool->first_sample[number] + i] != NOTHING;
        if (wanted && !found[i]) {
            BIF_TRY(bif_fail(BIF_ERR_IO, "%s: the caption of sample %lld was written and is not there; run the same command again",
                             bif_shard_path(shard), (long long)i));
        }
        if (!wanted) { /* of an earlier start that was told otherwise: the method forbids it, a crafted file does not */
            free(text[i]);
            text[i] = NULL;
        }
    }
    const bif_column_info info = {j->column, j->method, BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_TEXT, samples, 1};
    BIF_TRY(save_errors(j, shard, reason));
    BIF_TRY(bif_column_write(shard, &info, text));
    BIF_TRY(bif_partial_remove(shard, j->column));
    j->done.columns++;
done:
    for (int64_t i = 0; text != NULL && reason != NULL && i < samples; i++) {
        free(text[i]);
        free(reason[i]);
    }
    free(text);
    free(reason);
    free(found);
    bif_shard_close(shard);
    return st;
}

/* ---- all of it ---- */

static bif_status prepare(job *j)
{
    bif_status st = BIF_OK;
    const int64_t batch = j->options->batch;
    const bif_generator_limits limits = {
        .batch = batch, .max_prompt = (int64_t)j->prompt.ids.count, .max_images = 1, .decoding = j->options->decoding};
    int64_t bytes = 0;
    if (!bif_mul_i64(batch, 3 * j->session->preprocess.size * j->session->preprocess.size, &bytes)) {
        return bif_fail(BIF_ERR_USAGE, "recaption: a batch of %lld pictures", (long long)batch);
    }
    j->pixels = bif_malloc((size_t)bytes);
    j->request = bif_calloc((size_t)batch, sizeof *j->request);
    j->answer = bif_calloc((size_t)batch, sizeof *j->answer);
    BIF_TRY(bif_generator_new(j->session, &limits, &j->generator));
    bif_generator_between(j->generator, j->team->poll, j->team->context);
done:
    return st;
}

static void add_results(job *j, bif_recaption_result *out)
{
    double sums[4] = {(double)j->done.written, (double)j->done.bad, (double)j->done.columns, (double)j->done.present};
    j->team->sum(j->team->context, sums, 4);
    *out = j->done;
    out->written = (int64_t)sums[0];
    out->bad = (int64_t)sums[1];
    out->columns = (int64_t)sums[2];
    out->present = (int64_t)sums[3];
    out->seconds = since(&j->begin);
}

bif_status bif_recaption(bif_session *session, const bif_pool *pool, const bif_selection *selection, const bif_recaption_options *options,
                         const bif_team *team, char **method, bif_recaption_result *result)
{
    bif_status st = BIF_OK;
    job j = {.session = session, .pool = pool, .options = options, .team = team, .open = -1};
    *method = NULL;
    *result = (bif_recaption_result){0};
    clock_gettime(CLOCK_MONOTONIC, &j.begin);
    j.said = j.begin;
    j.column = bif_format("caption-%s", options->name);
    j.what = bif_calloc((size_t)pool->samples + 1, sizeof *j.what);
    j.present = bif_calloc((size_t)pool->shards + 1, sizeof *j.present);
    st = bif_chat_prompt(&session->chat, options->prompt, 1, &j.prompt);
    st = st == BIF_OK ? prepare(&j) : st;
    BIF_TRY(team->agree(team->context, st));
    j.method = method_of(&j, selection);
    BIF_TRY(team->agree(team->context, team->rank == 0 ? look(&j, selection) : BIF_OK));
    team->broadcast(team->context, j.what, (size_t)pool->samples);
    team->broadcast(team->context, j.present, (size_t)pool->shards * sizeof *j.present);
    cut_units(&j);
    if (j.done.kept > 0) {
        bif_info("%lld of %lld captions were written before; going on", (long long)j.done.kept, (long long)j.done.samples);
    }
    st = team->share(team->context, j.units, caption_unit, &j);
    close_shard(&j);
    BIF_TRY(st);
    BIF_TRY(team->share(team->context, pool->shards, write_column, &j));
    add_results(&j, result);
    *method = j.method;
    j.method = NULL;
done:
    for (int64_t i = 0; j.answer != NULL && i < options->batch; i++) {
        bif_ids_free(&j.answer[i]);
    }
    bif_generator_free(j.generator);
    bif_encoded_free(&j.prompt);
    free(j.answer);
    free(j.request);
    free(j.pixels);
    free(j.unit);
    free(j.sample);
    free(j.what);
    free(j.present);
    free(j.column);
    free(j.method);
    return st;
}
