#include "data/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "data/pack_parts.h"

bif_pack_options bif_pack_defaults(void)
{
    return (bif_pack_options){.max_shard_bytes = (int64_t)1 << 30,
                              .max_image_bytes = (int64_t)64 << 20,
                              .max_bad_share = 0.05,
                              .quality = 95,
                              .min_success = 0.1};
}

typedef struct {
    bif_pack_plan plan;
    const bif_team *team;
    double *count; /* [units, BIF_PACK_COUNTS] */
    double said;
} pack;

static bif_status check_options(const bif_pack_options *o)
{
    if (o->prefix[0] == '\0' || o->prefix[0] == '.' || strchr(o->prefix, '/') != NULL) {
        return bif_fail(BIF_ERR_USAGE, "the prefix '%s' must be a plain file name that does not start with a dot", o->prefix);
    }
    if (o->max_shard_bytes < 1 || o->max_samples < 0 || o->max_image_bytes < 1 || !(o->max_bad_share >= 0 && o->max_bad_share <= 1) ||
        !(o->min_success >= 0 && o->min_success <= 1)) {
        return bif_fail(BIF_ERR_USAGE, "limits must be positive, and shares between 0 and 1");
    }
    if (o->resize_short < 0 || o->resize_short > 65535 || o->quality < 1 || o->quality > 100) {
        return bif_fail(BIF_ERR_USAGE, "pictures are resized to 1 to 65,535 pixels, at a JPEG quality of 1 to 100");
    }
    if (o->overwrite && o->append) {
        return bif_fail(BIF_ERR_USAGE, "shards of the prefix can be replaced (overwrite) or go on (append), not both");
    }
    if (o->skip_known && !o->append) {
        return bif_fail(BIF_ERR_USAGE, "what is known can be left out only with append");
    }
    return BIF_OK;
}

/* Rank 0, before the work. */
static bif_status prepare(const bif_pack_options *o, const char *staging)
{
    bif_status st = BIF_OK;
    int64_t next = 0;
    if (strcmp(o->input, "-") != 0 && access(o->input, R_OK) != 0) {
        BIF_TRY(bif_fail_errno(errno, "cannot open '%s'", o->input));
    }
    BIF_TRY(bif_make_dirs(o->out));
    BIF_TRY(bif_pack_sweep(o));
    if (!o->overwrite && !o->append) {
        BIF_TRY(bif_pack_next_number(o, &next));
        if (next > 0) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "'%s/%s-%05lld.h5' is there already; choose another folder or prefix, --append or --overwrite",
                             o->out, o->prefix, (long long)next - 1));
        }
    }
    BIF_TRY(bif_make_dirs(staging));
done:
    return st;
}

static bif_status run_unit(void *argument, int64_t unit)
{
    pack *p = argument;
    return bif_pack_unit(&p->plan, p->team, unit, p->count + unit * BIF_PACK_COUNTS, &p->said);
}

static void add_up(const pack *p, bif_pack_result *r)
{
    int64_t total[BIF_PACK_COUNTS] = {0};
    for (int64_t unit = 0; unit < p->plan.units; unit++) {
        for (int k = 0; k < BIF_PACK_COUNTS; k++) {
            total[k] += (int64_t)p->count[unit * BIF_PACK_COUNTS + k];
        }
    }
    const int64_t odd = r->odd;
    *r = (bif_pack_result){.records = total[BIF_PACK_RECORDS_READ],
                           .bad = total[BIF_PACK_BAD],
                           .known = total[BIF_PACK_KNOWN],
                           .samples = total[BIF_PACK_SAMPLES],
                           .text_only = total[BIF_PACK_TEXT_ONLY],
                           .image_only = total[BIF_PACK_IMAGE_ONLY],
                           .images = total[BIF_PACK_IMAGES_STORED],
                           .resized = total[BIF_PACK_RESIZED],
                           .image_bytes = total[BIF_PACK_BYTES],
                           .shards = total[BIF_PACK_SHARDS],
                           .odd = odd + total[BIF_PACK_ODD]};
}

/* ---- the list of errors ---- */

typedef struct {
    char *text;
    size_t size;
    uint64_t *hash; /* of the lines of earlier packs */
    size_t hashes;
} error_list;

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Takes over the lines of a file, but none that earlier packs told of. */
static bif_status add_errors(error_list *list, const char *path, bool earlier)
{
    char *text = NULL;
    size_t size = 0;
    if (!bif_exists(path)) {
        return BIF_OK;
    }
    const bif_status st = bif_file_read(path, (size_t)4 << 30, &text, &size);
    for (const char *at = text; st == BIF_OK && at < text + size;) {
        const char *end = memchr(at, '\n', (size_t)(text + size - at));
        const size_t length = (end != NULL ? (size_t)(end - at) : (size_t)(text + size - at)) + 1; /* bif_file_read adds a byte */
        const uint64_t hash = XXH3_64bits(at, length - 1);
        if (earlier || list->hashes == 0 || bsearch(&hash, list->hash, list->hashes, sizeof hash, by_number) == NULL) {
            list->text = bif_realloc(list->text, list->size + length, 1);
            memcpy(list->text + list->size, at, length);
            list->size += length;
            list->text[list->size - 1] = '\n';
        }
        if (earlier) {
            list->hash = bif_realloc(list->hash, list->hashes + 1, sizeof hash);
            list->hash[list->hashes++] = hash;
        }
        at += length;
    }
    if (earlier && list->hashes > 1) {
        qsort(list->hash, list->hashes, sizeof *list->hash, by_number);
    }
    free(text);
    return st;
}

/* first: the reason of this pack's first line, malloc'ed; NULL = there is none. */
static bif_status write_errors(const pack *p, const char *path, char **first)
{
    bif_status st = BIF_OK;
    error_list list = {0};
    BIF_TRY(p->plan.options->append ? add_errors(&list, path, true) : BIF_OK);
    for (int64_t unit = -1; unit < p->plan.units; unit++) {
        char *from = bif_pack_unit_errors(&p->plan, unit);
        if (*first == NULL && bif_exists(from)) {
            bif_records *rows = NULL;
            bif_record row = {0};
            bool more = false;
            if (bif_records_open(from, BIF_RECORDS_JSONL, &rows) == BIF_OK && bif_records_next(rows, &row, &more) == BIF_OK && more) {
                const char *reason = json_string_value(json_object_get(row.value, "reason"));
                *first = bif_strdup(reason != NULL ? reason : "");
                json_decref(row.value);
            }
            bif_records_close(rows);
        }
        st = add_errors(&list, from, false);
        free(from);
        BIF_TRY(st);
    }
    if (list.size > 0) {
        BIF_TRY(bif_file_write(path, list.text, list.size));
    } else if (unlink(path) != 0 && errno != ENOENT) {
        st = bif_fail_errno(errno, "cannot remove the old '%s'", path);
    }
done:
    free(list.hash);
    free(list.text);
    return st;
}

/* ---- the end ---- */

static bif_status check_shares(const pack *p, const bif_pack_result *r, const char *errors_path, const char *first)
{
    const bif_pack_options *o = p->plan.options;
    const double share = (double)r->bad / (double)(r->records > 0 ? r->records : 1);
    const char *see = r->bad > 0 ? errors_path : "the input";
    double told = 0, downloaded = 0, packed = 0;
    for (int64_t unit = 0; unit < p->plan.units; unit++) {
        const double *count = p->count + unit * BIF_PACK_COUNTS;
        told += count[BIF_PACK_TOLD];
        downloaded += count[BIF_PACK_DOWNLOADED];
        packed += count[BIF_PACK_TOLD_PACKED];
    }
    if (share > o->max_bad_share) {
        return bif_fail(BIF_ERR_DATA,
                        "%lld of %lld records of '%s' are bad (%.2f %%, at most %.2f %% are allowed); see '%s'; the first: %s",
                        (long long)r->bad, (long long)r->records, o->input, 100 * share, 100 * o->max_bad_share, see, first);
    }
    if (downloaded < o->min_success * told || packed < o->min_success * told) {
        return bif_fail(
            BIF_ERR_DATA,
            "the statistics tell of %.0f pictures asked for and %.0f downloaded (%.2f %%), of which %.0f were packed (%.2f %%); "
            "at least %.2f %% are wanted (--min-success)",
            told, downloaded, 100 * downloaded / told, packed, 100 * packed / told, 100 * o->min_success);
    }
    if (r->samples == 0 && r->known == 0) {
        return bif_fail(BIF_ERR_DATA, "'%s' has no usable record (%lld records); see '%s'", o->input, (long long)r->records, see);
    }
    return BIF_OK;
}

/* Rank 0, after the work. */
static bif_status finish(const pack *p, const bif_pack_result *r)
{
    bif_status st = BIF_OK;
    const bif_pack_options *o = p->plan.options;
    char *path = bif_format("%s/%s-errors.jsonl", o->out, o->prefix), *first = NULL;
    int64_t *shards = bif_calloc((size_t)p->plan.units, sizeof *shards), next = 0;
    BIF_TRY(write_errors(p, path, &first)); /* also when the pack fails: it says why */
    BIF_TRY(check_shares(p, r, path, first));
    BIF_TRY(o->append ? bif_pack_next_number(o, &next) : BIF_OK);
    for (int64_t unit = 0; unit < p->plan.units; unit++) {
        shards[unit] = (int64_t)p->count[unit * BIF_PACK_COUNTS + BIF_PACK_SHARDS];
    }
    BIF_TRY(bif_pack_publish(&p->plan, shards, next));
done:
    free(shards);
    free(first);
    free(path);
    return st;
}

bif_status bif_pack(const bif_pack_options *options, const bif_team *team, bif_pack_result *result)
{
    bif_status st = BIF_OK;
    void *const team_context = team->context;
    int64_t pid = (int64_t)getpid();
    pack p = {.plan = {.options = options}, .team = team};
    *result = (bif_pack_result){0};
    BIF_TRY(check_options(options));
    if (team->world > 1 && strcmp(options->input, "-") == 0) { /* Open MPI 4.1's mpirun was seen to crash on forwarding it */
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "standard input is read by one process only; give several ranks a file"));
    }
    team->broadcast(team_context, &pid, sizeof pid);
    p.plan.staging = bif_format("%s/.%s-packing-%lld", options->out, options->prefix, (long long)pid);
    BIF_TRY(team->agree(team_context, team->rank == 0 ? prepare(options, p.plan.staging) : BIF_OK));
    BIF_TRY(team->agree(team_context, options->skip_known ? bif_pack_known_read(options, &p.plan.known) : BIF_OK));
    BIF_TRY(bif_pack_make_plan(&p.plan, team, &result->odd));
    p.count = bif_calloc((size_t)p.plan.units * BIF_PACK_COUNTS, sizeof *p.count);
    BIF_TRY(team->share(team_context, p.plan.units, run_unit, &p));
    team->sum(team_context, p.count, p.plan.units * BIF_PACK_COUNTS);
    add_up(&p, result);
    BIF_TRY(team->agree(team_context, team->rank == 0 ? finish(&p, result) : BIF_OK));
done:
    if (team->rank == 0 && p.plan.staging != NULL) {
        char *why = bif_strdup(bif_error_message()); /* the first failure is the one to tell */
        const bif_status removed = bif_remove_tree(p.plan.staging);
        if (st != BIF_OK) {
            bif_fail(st, "%s", why);
        } else {
            st = removed;
        }
        free(why);
    }
    bif_pack_known_free(p.plan.known);
    bif_pack_plan_free(&p.plan);
    free(p.count);
    return st;
}
