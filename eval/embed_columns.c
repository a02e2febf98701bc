#include "eval/embed_columns.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/half.h"
#include "base/json.h"
#include "base/log.h"
#include "data/text_measures.h"

#define PICTURE_BYTES ((uint64_t)1 << 30) /* encoded, of one picture */
#define ERRORS_CAP ((size_t)1 << 30)
enum { SAY_SECONDS = 10 };

typedef struct {
    const bif_pool *pool;
    const bif_team *team;
    bif_embedder *embedder;
    const bif_embed_columns_options *options;
    bif_column *caption; /* of the shard in work; NULL: its own texts */
    bif_embed_columns_result done;
    struct timespec begin, said;
} job;

typedef struct {
    char *text; /* lines of JSON */
    size_t size, room;
} error_lines;

static void add_line(error_lines *e, const char *line, size_t size)
{
    if (e->size + size + 1 > e->room) {
        e->room = 2 * (e->size + size + 1);
        e->text = bif_realloc(e->text, e->room, 1);
    }
    memcpy(e->text + e->size, line, size);
    e->text[e->size + size] = '\n';
    e->size += size + 1;
}

static void add_error(error_lines *e, const char *column, int64_t row, const char *reason)
{
    json_t *object = json_pack("{s:s,s:I,s:s%}", "column", column, "row", (json_int_t)row, "reason", reason, strlen(reason));
    if (object == NULL) { /* a reason that quotes what is not UTF-8 */
        object = json_pack("{s:s,s:I,s:s}", "column", column, "row", (json_int_t)row, "reason", "cannot be embedded");
    }
    char *line = json_dumps(object, JSON_COMPACT);
    add_line(e, line, strlen(line));
    free(line);
    json_decref(object);
}

/* The file's lines about other columns, then these. */
static bif_status save_errors(const bif_shard *shard, const char *column, const error_lines *mine)
{
    bif_status st = BIF_OK;
    char *folder = bif_column_folder(bif_shard_path(shard)), *path = bif_path_join(folder, "embed-errors.jsonl"), *old = NULL;
    char *start = bif_format("{\"column\":\"%s\",", column);
    error_lines all = {0};
    size_t size = 0;
    const bool there = bif_exists(path);
    if (there) {
        BIF_TRY(bif_file_read(path, ERRORS_CAP, &old, &size));
    }
    for (size_t at = 0, next = 0; at < size; at = next) {
        const char *end = memchr(old + at, '\n', size - at);
        const size_t length = end != NULL ? (size_t)(end - old) - at : size - at;
        next = at + length + 1;
        if (length > 0 && (length < strlen(start) || memcmp(old + at, start, strlen(start)) != 0)) {
            add_line(&all, old + at, length);
        }
    }
    if (mine->size > 0) {
        add_line(&all, mine->text, mine->size - 1);
    }
    if (there || all.size > 0) {
        BIF_TRY(bif_make_dirs(folder));
        BIF_TRY(bif_file_write(path, all.text != NULL ? all.text : "", all.size));
    }
done:
    free(all.text);
    free(old);
    free(start);
    free(path);
    free(folder);
    return st;
}

static double since(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + 1e-9 * (double)(now.tv_nsec - from->tv_nsec);
}

/* After a batch: the other ranks may fetch shards, and every few seconds there is a line. */
static void breathe(job *j, const bif_shard *shard, int64_t row, int64_t rows)
{
    j->team->poll(j->team->context);
    if (since(&j->said) >= SAY_SECONDS) {
        clock_gettime(CLOCK_MONOTONIC, &j->said);
        bif_info("embed: %lld pictures and %lld texts in %.0f s on this rank; now at row %lld of %lld of %s", (long long)j->done.images,
                 (long long)j->done.texts, since(&j->begin), (long long)row, (long long)rows, bif_path_base(bif_shard_path(shard)));
    }
}

/* Rounds rows to halves; a row that holds what is not a number becomes zeros, false. */
static bool store(const float *row, int64_t width, uint16_t *out)
{
    for (int64_t c = 0; c < width; c++) {
        if (!isfinite(row[c])) {
            memset(out, 0, (size_t)width * sizeof *out);
            return false;
        }
        out[c] = bif_to_f16(row[c]);
    }
    return true;
}

/* ---- pictures ---- */

static bif_status prepare(const job *j, const bif_shard *shard, int64_t index, uint8_t *pixels)
{
    bif_status st = BIF_OK;
    bif_shard_image record;
    bif_image image = {0};
    char *bytes = NULL, what[64];
    snprintf(what, sizeof what, "image %lld", (long long)index);
    BIF_TRY(bif_shard_get_image(shard, index, &record));
    if (record.size == 0 || record.size > PICTURE_BYTES) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %llu bytes are no picture", what, (unsigned long long)record.size));
    }
    bytes = bif_malloc((size_t)record.size);
    BIF_TRY(bif_shard_read_image(shard, index, bytes, (size_t)record.size));
    BIF_TRY(bif_image_decode(what, bytes, (size_t)record.size, NULL, &image));
    BIF_TRY(bif_preprocess_run(bif_embedder_preprocess(j->embedder), &image, pixels));
done:
    if (st != BIF_OK) {
        bif_preprocess_blank(bif_embedder_preprocess(j->embedder), 1, pixels);
    }
    bif_image_free(&image);
    free(bytes);
    return st;
}

static bif_status embed_images(job *j, const bif_shard *shard, const char *column, uint16_t *out, error_lines *errors)
{
    const int64_t rows = bif_shard_images(shard), batch = bif_embedder_batch(j->embedder), width = bif_embedder_width(j->embedder);
    const int64_t side = bif_embedder_preprocess(j->embedder)->size;
    float *result = bif_calloc((size_t)(batch * width), sizeof *result);
    char **reason = bif_calloc((size_t)batch, sizeof *reason);
    bif_status st = BIF_OK, *status = bif_calloc((size_t)batch, sizeof *status);
    for (int64_t at = 0; at < rows && st == BIF_OK; at += batch) {
        const int64_t count = rows - at < batch ? rows - at : batch;
        uint8_t *pixels = bif_embedder_pixels(j->embedder);
#pragma omp parallel for schedule(dynamic) num_threads(j->team->threads)
        for (int64_t i = 0; i < count; i++) {
            status[i] = prepare(j, shard, at + i, pixels + i * side * side * 3);
            if (status[i] != BIF_OK) {
                reason[i] = bif_strdup(bif_error_message());
                bif_error_clear();
            }
        }
        bif_embedder_images(j->embedder, count, result);
        for (int64_t i = 0; i < count; i++) {
            if (status[i] == BIF_ERR_IO && st == BIF_OK) { /* the disk failed, not the picture: another time it may be read */
                st = bif_fail(BIF_ERR_IO, "%s", reason[i]);
            }
            if (reason[i] == NULL && !store(result + i * width, width, out + (at + i) * width)) {
                reason[i] = bif_strdup("its embedding is not finite");
            }
            if (reason[i] != NULL) {
                add_error(errors, column, at + i, reason[i]);
                j->done.bad_images++;
                free(reason[i]);
                reason[i] = NULL;
            }
        }
        j->done.images += count;
        breathe(j, shard, at + count, rows);
    }
    free(result);
    free(reason);
    free(status);
    return st;
}

/* ---- texts ---- */

/* Puts the text of a sample into the batch; false with *reason when there is none. */
static bool add_sample(job *j, const bif_shard *shard, int64_t index, char **reason)
{
    bif_shard_sample sample;
    char *text = NULL, where[64];
    size_t size = 0;
    bool fine = bif_shard_get_sample(shard, index, &sample) == BIF_OK;
    if (fine) {
        snprintf(where, sizeof where, "sample %lld", (long long)index);
        const char *other = j->caption != NULL ? bif_column_text(j->caption, index) : NULL;
        if (other != NULL && other[strspn(other, " \t\r\n")] != '\0') {
            text = bif_strdup(other);
            size = strlen(text);
        } else {
            bif_sample_caption(&sample, &text, &size);
        }
        const size_t before = text != NULL ? strspn(text, " \t\r\n") : 0; /* white space around it goes, as in training */
        while (size > before && strchr(" \t\r\n", text[size - 1]) != NULL) {
            size--;
        }
        fine = size > before && bif_embedder_add_text(j->embedder, where, text + before, size - before);
        if (size <= before) {
            *reason = bif_format("%s: it has no text", where);
        }
    }
    if (!fine && *reason == NULL) {
        *reason = bif_strdup(bif_error_message());
        bif_error_clear();
    }
    free(text);
    return fine;
}

static bif_status embed_texts(job *j, const bif_shard *shard, const char *column, uint16_t *out, error_lines *errors)
{
    const int64_t rows = bif_shard_samples(shard), batch = bif_embedder_batch(j->embedder), width = bif_embedder_width(j->embedder);
    float *result = bif_calloc((size_t)(batch * width), sizeof *result);
    int64_t *place = bif_calloc((size_t)batch, sizeof *place);
    for (int64_t at = 0; at < rows; at += batch) {
        const int64_t end = at + batch < rows ? at + batch : rows;
        int64_t added = 0;
        bif_embedder_begin_texts(j->embedder);
        for (int64_t i = at; i < end; i++) {
            char *reason = NULL;
            if (add_sample(j, shard, i, &reason)) {
                place[added++] = i;
            } else {
                add_error(errors, column, i, reason);
                j->done.bad_texts++;
            }
            free(reason);
        }
        bif_embedder_texts(j->embedder, result);
        for (int64_t i = 0; i < added; i++) {
            if (!store(result + i * width, width, out + place[i] * width)) {
                add_error(errors, column, place[i], "its embedding is not finite");
                j->done.bad_texts++;
            }
        }
        j->done.texts += end - at;
        breathe(j, shard, end, rows);
    }
    free(result);
    free(place);
    return BIF_OK;
}

/* ---- columns ---- */

/* *made: the column is there, of this method. */
static bif_status find(const job *j, const bif_shard *shard, const bif_column_info *want, bool *made)
{
    bif_column *column = NULL;
    *made = false;
    bif_status st = bif_column_open(shard, want->name, &column);
    if (st == BIF_OK && column != NULL) {
        const bif_column_info *have = bif_column_describe(column);
        *made = have->of == want->of && have->type == want->type && have->width == want->width && strcmp(have->method, want->method) == 0;
        if (!*made && !j->options->overwrite) {
            st = bif_fail(BIF_ERR_DATA,
                          "%s: its column %s was made in another way (\"%s\", not \"%s\"); give another --name, or --overwrite",
                          bif_shard_path(shard), want->name, have->method, want->method);
        }
        bif_column_close(column);
    } else if (st == BIF_ERR_DATA && j->options->overwrite) { /* damaged, or of another shard */
        bif_error_clear();
        st = BIF_OK;
    }
    return st;
}

static bif_status make_column(job *j, const bif_shard *shard, const char *part, const char *method, bif_column_of of,
                              bif_status (*embed)(job *j, const bif_shard *shard, const char *column, uint16_t *out, error_lines *errors))
{
    bif_status st = BIF_OK;
    char *name = bif_format("%s.%s", j->options->name, part);
    error_lines errors = {0};
    uint16_t *rows = NULL;
    bool made = false;
    const bif_column_info info = {.name = name,
                                  .method = method,
                                  .of = of,
                                  .type = BIF_COLUMN_F16,
                                  .rows = of == BIF_COLUMN_OF_IMAGE ? bif_shard_images(shard) : bif_shard_samples(shard),
                                  .width = bif_embedder_width(j->embedder)};
    BIF_TRY(find(j, shard, &info, &made));
    if (made) {
        j->done.present++;
        goto done;
    }
    rows = bif_calloc((size_t)(info.rows * info.width) + 1, sizeof *rows);
    BIF_TRY(embed(j, shard, name, rows, &errors));
    BIF_TRY(save_errors(shard, name, &errors));
    BIF_TRY(bif_column_write(shard, &info, rows));
    j->done.columns++;
done:
    free(errors.text);
    free(rows);
    free(name);
    return st;
}

static bif_status embed_shard(void *argument, int64_t number)
{
    bif_status st = BIF_OK;
    job *j = argument;
    bif_shard *shard = NULL;
    char *method = NULL;
    const char *image = bif_embedder_image_method(j->embedder), *text = bif_embedder_text_method(j->embedder);
    BIF_TRY(bif_pool_shard(j->pool, number, &shard));
    if (image != NULL) {
        BIF_TRY(make_column(j, shard, "image", image, BIF_COLUMN_OF_IMAGE, embed_images));
    }
    if (text != NULL) {
        if (j->options->caption_column != NULL) {
            BIF_TRY(bif_column_need_captions(shard, j->options->caption_column, &j->caption));
            const bif_column_info *info = bif_column_describe(j->caption);
            method = bif_format("%s; texts of %s (%s)", text, info->name, info->method);
        }
        BIF_TRY(make_column(j, shard, "text", method != NULL ? method : text, BIF_COLUMN_OF_SAMPLE, embed_texts));
    }
done:
    free(method);
    bif_column_close(j->caption);
    j->caption = NULL;
    bif_shard_close(shard);
    return st;
}

bif_status bif_embed_columns(const bif_pool *pool, const bif_team *team, bif_embedder *embedder, const bif_embed_columns_options *options,
                             bif_embed_columns_result *result)
{
    job j = {.pool = pool, .team = team, .embedder = embedder, .options = options};
    clock_gettime(CLOCK_MONOTONIC, &j.begin);
    j.said = j.begin;
    const bif_status st = team->share(team->context, pool->shards, embed_shard, &j);
    const bif_embed_columns_result *d = &j.done;
    double sums[6] = {(double)d->images,    (double)d->texts,   (double)d->bad_images,
                      (double)d->bad_texts, (double)d->columns, (double)d->present};
    team->sum(team->context, sums, 6);
    *result = (bif_embed_columns_result){.images = (int64_t)sums[0],
                                         .texts = (int64_t)sums[1],
                                         .bad_images = (int64_t)sums[2],
                                         .bad_texts = (int64_t)sums[3],
                                         .columns = (int64_t)sums[4],
                                         .present = (int64_t)sums[5]};
    return st;
}
