#include "data/compact.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "data/carry.h"
#include "data/compact_parts.h"

#define POLL_SAMPLES 64
#define MOST_BYTES ((uint64_t)1 << 30) /* of one picture: its size comes from a file */

typedef struct {
    const bif_compact_options *o;
    const bif_team *team;
    bif_pool pool;
    bif_selection *selection;
    int64_t *given; /* [shards] numbers in the pool, in the order given */
    int64_t *start; /* [shards + 1] kept samples before each, repeats counted, in the order given */
    int64_t *cut;   /* [units + 1] of the kept samples: where new shards begin */
    int64_t units;
    bif_compact_place place;
    int lock; /* rank 0: descriptor of the output folder */
    bif_compact_result count; /* of this rank */
} compact;

/* One new shard. */
typedef struct {
    compact *c;
    int64_t number;
    bif_shard_writer *writer;
    bif_carry *carry;
    bif_writer *errors;
    const bif_shard *shard; /* at hand */
    int64_t *map;           /* [its images] numbers in the new shard, -1: not there yet */
    int64_t images;         /* of the new shard */
    char *bytes;            /* one picture */
    size_t capacity;
} unit;

/* ---- the plan ---- */

typedef struct {
    compact *c;
    int64_t count;
} ordering;

static bif_status take_path(void *context, const char *path)
{
    ordering *o = context;
    for (int64_t s = 0; s < o->c->pool.shards; s++) {
        if (strcmp(o->c->pool.path[s], path) == 0) {
            o->c->given[o->count++] = s;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_DATA, "the shard '%s' came while the others were read; start again", path);
}

static bif_status open_all(compact *c)
{
    bif_status st = BIF_OK;
    ordering order = {.c = c};
    BIF_TRY(bif_pool_open(c->o->shards, c->o->shard_count, &c->pool));
    BIF_TRY(bif_pool_whole(&c->pool));
    if (c->o->from != NULL) {
        BIF_TRY(bif_selection_read(c->o->from, &c->selection));
        BIF_TRY(bif_selection_check(c->selection, c->o->from, &c->pool));
    } else {
        c->selection = bif_selection_new(&c->pool);
    }
    c->count.kept = bif_selection_kept(c->selection);
    if (c->count.kept == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: the selection keeps none of %" PRId64 " samples", c->o->from, c->pool.samples));
    }
    c->given = bif_calloc((size_t)c->pool.shards + 1, sizeof *c->given);
    c->start = bif_calloc((size_t)c->pool.shards + 1, sizeof *c->start);
    for (size_t i = 0; i < c->o->shard_count; i++) {
        BIF_TRY(bif_shard_each(c->o->shards[i], take_path, &order));
    }
    for (int64_t i = 0; i < c->pool.shards; i++) {
        c->start[i + 1] = c->start[i];
        for (int64_t s = c->pool.first_sample[c->given[i]]; s < c->pool.first_sample[c->given[i] + 1]; s++) {
            c->start[i + 1] += bif_selection_times(c->selection)[s];
        }
    }
done:
    return st;
}

/* Bytes of the sample's pictures that this new shard does not have from this source yet; stamp [images]: the last new shard each is in, plus 1. */
static uint64_t new_bytes(const bif_shard *shard, int64_t local, int64_t *stamp, int64_t number, bool mark)
{
    bif_shard_sample sample;
    uint64_t bytes = 0;
    if (bif_shard_get_sample(shard, local, &sample) != BIF_OK) {
        return 0;
    }
    for (int64_t k = 0; k < sample.image_count; k++) {
        const int64_t index = (int64_t)sample.images[k];
        bif_shard_image image;
        if (bif_shard_get_image(shard, index, &image) == BIF_OK && stamp[index] != number + 1) {
            bytes += image.size;
            stamp[index] = mark ? number + 1 : stamp[index];
        }
    }
    return bytes;
}

/* Where new shards begin: greedily, by the pictures' sizes. Rank 0 looks, from the shards' tables alone. */
static bif_status plan(compact *c)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    int64_t *stamp = NULL, samples = 0, room = 0;
    uint64_t bytes = 0;
    const uint64_t most = (uint64_t)c->o->max_shard_bytes;
    for (int64_t i = 0; i < c->pool.shards; i++) {
        const int64_t first = c->pool.first_sample[c->given[i]], count = c->pool.first_sample[c->given[i] + 1] - first;
        int64_t at = c->start[i];
        if (c->start[i + 1] == at) {
            continue;
        }
        BIF_TRY(bif_pool_shard(&c->pool, c->given[i], &shard));
        free(stamp);
        stamp = bif_calloc((size_t)bif_shard_images(shard) + 1, sizeof *stamp);
        for (int64_t s = 0; s < count; s++) {
            for (int k = 0; k < bif_selection_times(c->selection)[first + s]; k++, at++) {
                const uint64_t more = new_bytes(shard, s, stamp, c->units, false);
                if (c->units == 0 || (samples > 0 && (more > most || bytes > most - more)) || (c->o->max_samples > 0 && samples >= c->o->max_samples)) {
                    if (c->units + 2 > room) {
                        room = room > 0 ? 2 * room : 64;
                        c->cut = bif_realloc(c->cut, (size_t)room, sizeof *c->cut);
                    }
                    c->cut[c->units++] = at;
                    bytes = 0;
                    samples = 0;
                }
                bytes += new_bytes(shard, s, stamp, c->units, true);
                samples++;
            }
        }
        bif_shard_close(shard);
        shard = NULL;
    }
    c->cut[c->units] = c->count.kept;
done:
    bif_error_clear();
    bif_shard_close(shard);
    free(stamp);
    return st;
}

static void share_plan(compact *c)
{
    c->team->broadcast(c->team->context, &c->units, sizeof c->units);
    if (c->team->rank > 0) {
        c->cut = bif_calloc((size_t)c->units + 1, sizeof *c->cut);
    }
    c->team->broadcast(c->team->context, c->cut, ((size_t)c->units + 1) * sizeof *c->cut);
}

/* ---- one new shard ---- */

static bif_status read_picture(unit *u, int64_t index, bif_shard_image *image)
{
    bif_status st = bif_shard_get_image(u->shard, index, image);
    if (st != BIF_OK) {
        return st;
    }
    if (image->size == 0 || image->size > MOST_BYTES || image->format == BIF_IMAGE_UNKNOWN || image->width == 0 || image->height == 0) {
        return bif_fail(BIF_ERR_DATA, "shard '%s', image %" PRId64 ": %" PRIu64 " bytes, or an unknown format, or no size", bif_shard_path(u->shard), index,
                        image->size);
    }
    if (image->size > u->capacity) {
        free(u->bytes);
        u->capacity = (size_t)image->size;
        u->bytes = bif_malloc(u->capacity);
    }
    return bif_shard_read_image(u->shard, index, u->bytes, u->capacity);
}

/* Puts a sample's pictures into the new shard; numbers [image_count]. All are read before the first is put there, so that one that is broken leaves
 * no picture behind that belongs to no sample. */
static bif_status copy_pictures(unit *u, const bif_shard_sample *sample, int64_t *numbers)
{
    bif_status st = BIF_OK;
    bif_shard_image image;
    for (int64_t k = 0; sample->image_count > 1 && k < sample->image_count; k++) {
        if (u->map[sample->images[k]] < 0) {
            BIF_TRY(read_picture(u, (int64_t)sample->images[k], &image));
        }
    }
    for (int64_t k = 0; k < sample->image_count; k++) {
        const int64_t index = (int64_t)sample->images[k];
        if (u->map[index] < 0) {
            BIF_TRY(read_picture(u, index, &image));
            BIF_TRY(bif_shard_add_image(u->writer, u->bytes, (size_t)image.size, image.format, image.width, image.height, &u->map[index]));
            if (u->map[index] == u->images) { /* not one that another source shard brought */
                bif_carry_row(u->carry, BIF_COLUMN_OF_IMAGE, index);
                u->images++;
            }
        }
        numbers[k] = u->map[index];
    }
done:
    return st;
}

static bif_status report(unit *u, int64_t local, const char *id)
{
    bif_status st = BIF_OK;
    const char *name = bif_path_base(bif_shard_path(u->shard)), *message = bif_error_message();
    char *shown[] = {bif_utf8_spelled(name, strlen(name)), bif_utf8_spelled(id, strlen(id)), bif_utf8_spelled(message, strlen(message))};
    json_t *row = json_pack("{s:s, s:I, s:s, s:s}", "shard", shown[0], "index", (json_int_t)local, "id", shown[1], "reason", shown[2]);
    for (int i = 0; i < 3; i++) {
        free(shown[i]);
    }
    char *text = json_dumps(row, JSON_COMPACT);
    u->c->count.bad++;
    if (u->errors == NULL) {
        char *path = bif_compact_errors_name(&u->c->place, u->number);
        st = bif_writer_open(path, &u->errors);
        free(path);
        if (st != BIF_OK) {
            goto done;
        }
    }
    BIF_TRY(bif_writer_write(u->errors, text, strlen(text)));
    BIF_TRY(bif_writer_write(u->errors, "\n", 1));
done:
    free(text);
    json_decref(row);
    return st;
}

/* copy: which of `times`. BIF_ERR_DATA is reported; other failures stop the work. */
static bif_status copy_sample(unit *u, int64_t local, int copy, int times)
{
    bif_status st = BIF_OK;
    bif_shard_sample sample;
    char *id = NULL;
    int64_t *numbers = NULL;
    st = bif_shard_get_sample(u->shard, local, &sample);
    if (st == BIF_OK) {
        id = times > 1 && sample.id_size > 0 ? bif_format("%.*s-%d", (int)sample.id_size, sample.id, copy)
                                             : bif_format("%.*s", (int)sample.id_size, sample.id_size > 0 ? sample.id : "");
        numbers = bif_calloc((size_t)sample.image_count + 1, sizeof *numbers);
        st = bif_shard_check_text(u->shard, local); /* else the new shard would be found bad when it is read back */
        if (st == BIF_OK && bif_utf8_check(id, strlen(id)) != strlen(id)) {
            st = bif_fail(BIF_ERR_DATA, "its id is not valid UTF-8");
        }
        st = st == BIF_OK ? copy_pictures(u, &sample, numbers) : st;
    }
    if (st == BIF_OK) {
        st = bif_shard_add_sample(u->writer, sample.text, sample.text_size, id, sample.source, numbers, sample.image_count);
    }
    if (st == BIF_OK) {
        bif_carry_row(u->carry, BIF_COLUMN_OF_SAMPLE, local);
        u->c->count.samples++;
    } else if (st == BIF_ERR_DATA) {
        st = report(u, local, id != NULL ? id : "");
    }
    free(id);
    free(numbers);
    return st;
}

/* The kept samples [from, to) that are of source shard i. */
static bif_status copy_shard(unit *u, int64_t i, int64_t from, int64_t to)
{
    bif_status st = BIF_OK;
    compact *c = u->c;
    bif_shard *shard = NULL;
    const int64_t first = c->pool.first_sample[c->given[i]], count = c->pool.first_sample[c->given[i] + 1] - first;
    int64_t at = c->start[i];
    BIF_TRY(bif_pool_shard(&c->pool, c->given[i], &shard));
    BIF_TRY(bif_carry_shard(u->carry, shard));
    u->shard = shard;
    u->map = bif_malloc(((size_t)bif_shard_images(shard) + 1) * sizeof *u->map);
    memset(u->map, 0xff, ((size_t)bif_shard_images(shard) + 1) * sizeof *u->map);
    for (int64_t s = 0; s < count && at < to; s++) {
        const int times = bif_selection_times(c->selection)[first + s];
        for (int k = 0; k < times; k++, at++) {
            if (at >= from && at < to) {
                BIF_TRY(copy_sample(u, s, k, times));
            }
        }
        if (s % POLL_SAMPLES == 0) {
            c->team->poll(c->team->context);
        }
    }
done:
    free(u->map);
    u->map = NULL;
    u->shard = NULL;
    bif_shard_close(shard);
    return st;
}

/* Gives the shard its name in the staging folder, reads it back, and puts its columns beside it. */
static bif_status finish_unit(unit *u, const char *path)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    int64_t bad = 0;
    bif_shard_writer *writer = u->writer;
    u->writer = NULL;
    if (bif_shard_writer_samples(writer) == 0) {
        bif_shard_writer_abandon(writer);
        goto done;
    }
    u->c->count.shards++;
    u->c->count.images += u->images;
    u->c->count.image_bytes += bif_shard_writer_bytes(writer);
    u->c->count.left_out += bif_carry_left_out(u->carry);
    BIF_TRY(bif_shard_writer_commit(writer));
    u->c->team->poll(u->c->team->context);
    BIF_TRY(bif_shard_verify(path, &bad));
    BIF_TRY(bif_shard_open(path, &shard));
    BIF_TRY(bif_carry_write(u->carry, shard));
done:
    bif_shard_close(shard);
    return st;
}

static bif_status run_unit(void *argument, int64_t number)
{
    bif_status st = BIF_OK;
    compact *c = argument;
    unit u = {.c = c, .number = number, .carry = bif_carry_new()};
    char *path = bif_compact_shard_name(&c->place, c->place.staging, number);
    BIF_TRY(bif_shard_writer_open(path, &u.writer));
    for (int64_t i = 0; i < c->pool.shards; i++) {
        if (c->start[i] < c->cut[number + 1] && c->start[i + 1] > c->cut[number] && c->start[i + 1] > c->start[i]) {
            BIF_TRY(copy_shard(&u, i, c->cut[number], c->cut[number + 1]));
        }
    }
    BIF_TRY(finish_unit(&u, path));
    if (u.errors != NULL) {
        bif_writer *errors = u.errors;
        u.errors = NULL;
        BIF_TRY(bif_writer_commit(errors));
    }
    bif_info("new shard %" PRId64 " of %" PRId64 ": samples %" PRId64 " to %" PRId64 " of the kept ones", number + 1, c->units, c->cut[number],
             c->cut[number + 1] - 1);
done:
    bif_shard_writer_abandon(u.writer);
    bif_writer_abandon(u.errors);
    bif_carry_free(u.carry);
    free(u.bytes);
    free(path);
    return st;
}

static bif_status publish(const compact *c)
{
    int64_t shards = 0;
    const bif_status st = bif_compact_publish(&c->place, c->units, &shards);
    return st != BIF_OK || shards > 0 ? st
                                      : bif_fail(BIF_ERR_DATA, "none of the %" PRId64 " kept samples could be copied; see '%s/%s-errors.jsonl'",
                                                 c->count.kept, c->o->out, c->o->prefix);
}

static void sum_counts(compact *c)
{
    double counts[] = {(double)c->count.samples,     (double)c->count.bad,    (double)c->count.images,
                       (double)c->count.image_bytes, (double)c->count.shards, (double)c->count.left_out};
    c->team->sum(c->team->context, counts, 6);
    c->count = (bif_compact_result){c->count.kept,        (int64_t)counts[0], (int64_t)counts[1], (int64_t)counts[2],
                                    (int64_t)counts[3], (int64_t)counts[4], (int64_t)counts[5]};
}

bif_status bif_compact(const bif_compact_options *options, const bif_team *team, bif_compact_result *result)
{
    bif_status st = BIF_OK;
    compact c = {.o = options, .team = team, .place = {.out = options->out, .prefix = options->prefix}, .lock = -1};
    BIF_BUG_IF(options->max_shard_bytes < 1 || options->max_samples < 0, "limits of new shards");
    c.place.staging = bif_format("%s/.%s-compacting", options->out, options->prefix);
    bool ours = false;
    st = open_all(&c);
    if (st == BIF_OK && team->rank == 0) {
        st = bif_compact_begin(&c.place, &c.lock);
        ours = st == BIF_OK;
        st = ours ? plan(&c) : st;
    }
    BIF_TRY(team->agree(team->context, st));
    share_plan(&c);
    BIF_TRY(team->share(team->context, c.units, run_unit, &c));
    sum_counts(&c);
    BIF_TRY(team->agree(team->context, team->rank == 0 ? publish(&c) : BIF_OK));
    *result = c.count;
done:
    if (ours) {
        char *why = st != BIF_OK ? bif_strdup(bif_error_message()) : NULL; /* the first failure is the one to tell */
        const bif_status removed = bif_remove_tree(c.place.staging);
        st = st != BIF_OK ? bif_fail(st, "%s", why) : removed;
        free(why);
    }
    if (c.lock >= 0) {
        close(c.lock);
    }
    bif_selection_free(c.selection);
    bif_pool_close(&c.pool);
    free(c.given);
    free(c.start);
    free(c.cut);
    free(c.place.staging);
    return st;
}
