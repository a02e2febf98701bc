#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/intern.h"
#include "base/rng.h"
#include "data/balance.h"
#include "data/column.h"
#include "data/text_measures.h"

const char *const bif_balance_group_reasons[3] = {"over-quota", "repeated", "no-group"};

enum { LABEL = 64 };

typedef struct {
    const bif_balance_by_groups *by;
    const bif_pool *pool;
    const bif_team *team;
    const uint16_t *times;
    const char *method; /* of the column in the first shard */
    bool numbers; /* labels are whole numbers, and sorted as such */
    bif_intern labels; /* those met on this rank, then all */
    int64_t label_bytes, label_most; /* of this rank, with all that is made of them on rank 0 */
    double *group; /* [samples] number + 1, 0 = none; of other ranks' samples 0 */
    double *draw;  /* [samples] */
    bool draws;    /* the second pass: groups and draws of the samples; the first finds the labels */
} balance;

/* ---- which group a sample is in ---- */
static int64_t number_at(const bif_column *column, int64_t row)
{
    const bif_column_info *info = bif_column_describe(column);
    const void *data = bif_column_data(column);
    switch (info->type) {
    case BIF_COLUMN_U8: return ((const uint8_t *)data)[row];
    case BIF_COLUMN_U16: return ((const uint16_t *)data)[row];
    default: return ((const uint32_t *)data)[row];
    }
}

static bif_status open_column(const balance *b, const bif_shard *shard, bif_column **out)
{
    *out = NULL;
    if (b->by->kind != BIF_GROUP_COLUMN) {
        return BIF_OK;
    }
    bif_status st = bif_column_open(shard, b->by->column, out);
    if (st != BIF_OK) {
        return st;
    }
    if (*out == NULL) {
        return bif_fail(BIF_ERR_DATA, "%s: no column '%s'; clusters are made by bifocal data cluster", bif_shard_path(shard),
                        b->by->column);
    }
    const bif_column_info *info = bif_column_describe(*out);
    const bool text = info->type == BIF_COLUMN_TEXT && info->of == BIF_COLUMN_OF_SAMPLE;
    const bool number = info->width == 1 && (info->type == BIF_COLUMN_U8 || info->type == BIF_COLUMN_U16 || info->type == BIF_COLUMN_U32);
    if (!text && !number) {
        return bif_fail(BIF_ERR_DATA, "%s: column '%s' names no groups: it needs one u8, u16 or u32 a row, or texts of samples",
                        bif_shard_path(shard), b->by->column);
    }
    return bif_column_same_method(shard, *out, b->method); /* the clusters of two runs of k-means have nothing to do with each other */
}

/* How the first shard's column was made. */
static bif_status find_method(balance *b, char **out)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    BIF_TRY(bif_pool_shard(b->pool, 0, &shard));
    BIF_TRY(open_column(b, shard, &column));
    b->method = *out = column != NULL ? bif_strdup(bif_column_describe(column)->method) : NULL;
done:
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

/* NULL: in none. `room` serves labels that are made here. */
static const char *label_of(const balance *b, const bif_shard_sample *sample, const bif_column *column, int64_t local, char room[LABEL])
{
    if (b->by->kind == BIF_GROUP_SOURCE) {
        return sample->source;
    }
    if (b->by->kind == BIF_GROUP_SCRIPT) {
        char *caption = NULL;
        size_t size = 0;
        bif_sample_caption(sample, &caption, &size);
        const int script = caption != NULL ? bif_text_measure(caption, size).script : -1;
        free(caption);
        return script >= 0 ? bif_script_codes[script] : NULL;
    }
    const bif_column_info *info = bif_column_describe(column);
    if (info->type == BIF_COLUMN_TEXT) {
        return bif_column_text(column, local);
    }
    if (info->of == BIF_COLUMN_OF_IMAGE && sample->image_count == 0) {
        return NULL;
    }
    const int64_t number = number_at(column, info->of == BIF_COLUMN_OF_IMAGE ? (int64_t)sample->images[0] : local);
    if (info->type == BIF_COLUMN_U32 && number == UINT32_MAX) { /* a picture without an embedding is in no cluster */
        return NULL;
    }
    snprintf(room, LABEL, "%lld", (long long)number);
    return room;
}

static bif_status add_label(balance *b, const char *label)
{
    bool is_new = false;
    bif_intern_find(&b->labels, label, strlen(label), true, &is_new);
    if (is_new) { /* a string here, in what is sent and in the result; numbers and slots beside it */
        b->label_bytes += 4 * (int64_t)strlen(label) + 192;
    }
    return b->label_bytes <= b->label_most
               ? BIF_OK
               : bif_fail(BIF_ERR_MEMORY, "more than %zu groups by %s take more than the %lld MiB that are left: are these groups? "
                                          "Else raise --memory-mib",
                          b->labels.count, b->by->column != NULL ? b->by->column : "their names", (long long)(b->label_most >> 20));
}

static bif_status visit(void *argument, int64_t unit)
{
    balance *b = argument;
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    const int64_t first = b->pool->first_sample[unit], end = b->pool->first_sample[unit + 1];
    BIF_TRY(bif_pool_shard(b->pool, unit, &shard));
    BIF_TRY(open_column(b, shard, &column));
    for (int64_t sample = first; sample < end; sample++) {
        char room[LABEL];
        bif_shard_sample record;
        if (b->times[sample] == 0) {
            continue;
        }
        BIF_TRY(bif_shard_get_sample(shard, sample - first, &record));
        const char *label = label_of(b, &record, column, sample - first, room);
        if (label == NULL) {
            continue;
        }
        if (!b->draws) {
            BIF_TRY(add_label(b, label));
        } else {
            uint64_t uid[2];
            BIF_TRY(bif_sample_uid(shard, sample - first, uid));
            b->group[sample] = (double)bif_intern_get(&b->labels, label, strlen(label)) + 1;
            b->draw[sample] = bif_balance_draw(b->by->seed, uid, 0);
        }
        if (sample % 4096 == 0) {
            b->team->poll(b->team->context);
        }
    }
done:
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

static int compare_labels(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int compare_numbers(const void *left, const void *right)
{
    const char *a = *(const char *const *)left, *b = *(const char *const *)right;
    const size_t n = strlen(a), m = strlen(b);
    return n != m ? (n < m ? -1 : 1) : strcmp(a, b);
}

static bool all_digits(char *const *label, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (label[i][0] == '\0' || strspn(label[i], "0123456789") != strlen(label[i])) {
            return false;
        }
    }
    return true;
}

/* The labels of all ranks, sorted and numbered, the same on all. */
static void agree_on_labels(balance *b)
{
    char *mine = NULL, *all = NULL;
    size_t size = 0, total = 0;
    for (size_t i = 0; i < b->labels.count; i++) {
        size_t length = 0;
        const char *bytes = bif_intern_bytes(&b->labels, i, &length);
        mine = bif_realloc(mine, size + length + 1, 1);
        memcpy(mine + size, bytes, length);
        mine[size + length] = '\0';
        size += length + 1;
    }
    b->team->gather(b->team->context, mine, size, &all, &total);
    free(mine);
    uint64_t length = total;
    b->team->broadcast(b->team->context, &length, sizeof length);
    if (all == NULL) {
        all = bif_malloc(length + 1);
    }
    b->team->broadcast(b->team->context, all, length);
    int64_t count = 0;
    for (size_t at = 0; at < length; at += strlen(all + at) + 1) {
        count++;
    }
    char **label = bif_malloc((size_t)count * sizeof *label + 1);
    count = 0;
    for (size_t at = 0; at < length; at += strlen(all + at) + 1) {
        label[count++] = all + at;
    }
    b->numbers = all_digits(label, count);
    qsort(label, (size_t)count, sizeof *label, b->numbers ? compare_numbers : compare_labels);
    bif_intern_free(&b->labels);
    b->labels = (bif_intern){0};
    for (int64_t i = 0; i < count; i++) {
        bif_intern_find(&b->labels, label[i], strlen(label[i]), true, NULL);
    }
    free(label);
    free(all);
}

/* ---- how many of each group ---- */
static const bif_balance_wish *wish_of(const bif_balance_by_groups *by, const char *name)
{
    const bif_balance_wish *star = NULL;
    for (int64_t i = 0; i < by->wishes; i++) {
        if (strcmp(by->wish[i].name, name) == 0) {
            return &by->wish[i];
        }
        star = strcmp(by->wish[i].name, "*") == 0 ? &by->wish[i] : star;
    }
    return star;
}

static bif_status check_wishes(const balance *b)
{
    for (int64_t i = 0; i < b->by->wishes; i++) {
        const char *name = b->by->wish[i].name;
        if (strcmp(name, "*") != 0 && bif_intern_get(&b->labels, name, strlen(name)) < 0) {
            size_t size = 0;
            const char *some = b->labels.count > 0 ? bif_intern_bytes(&b->labels, 0, &size) : "";
            return bif_fail(BIF_ERR_USAGE, "no sample is of the group '%s' (there are %zu groups, the first is '%.*s')", name,
                            b->labels.count, (int)size, some);
        }
    }
    return BIF_OK;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bif_status find_quotas(const balance *b, bif_balance_groups_result *out, int64_t always, int64_t *quota)
{
    const bif_balance_by_groups *by = b->by;
    const int64_t groups = out->groups;
    bif_status st = BIF_OK;
    bif_balance_part *part = bif_calloc((size_t)groups + 1, sizeof *part);
    int64_t fixed = always, reach = 0, *shared = bif_calloc((size_t)groups + 1, sizeof *shared);
    for (int64_t g = 0; g < groups; g++) {
        const bif_balance_wish *wish = wish_of(by, out->group[g].name);
        const double weight = wish != NULL ? wish->weight : 1, n = (double)out->group[g].before;
        const int64_t cap = by->cap > 0 ? by->cap : INT64_MAX;
        uint32_t word[4];
        bif_philox(by->seed, BIF_RNG_BALANCE, bif_hash_name(out->group[g].name), 1, word);
        if (wish != NULL && wish->count >= 0) {
            quota[g] = wish->count;
            fixed += wish->count;
        } else if (by->size > 0) {
            part[g] = (bif_balance_part){weight * pow(n, by->alpha), least(cap, out->group[g].before * by->max_repeat),
                                         (uint64_t)word[0] << 32 | word[1]};
        } else {
            const double wanted = nearbyint(weight * n);
            quota[g] = wanted < (double)cap ? (int64_t)wanted : cap;
        }
        if (by->size == 0 && quota[g] / out->group[g].before >= UINT16_MAX) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "group '%s': %lld samples of %lld would repeat each more than 65535 times", out->group[g].name,
                             (long long)quota[g], (long long)out->group[g].before));
        }
    }
    if (by->size > 0) {
        const bool good = by->size >= fixed && bif_balance_quotas(part, groups, by->size - fixed, shared, &reach);
        if (!good) {
            bif_balance_quotas(part, groups, 0, shared, &reach);
            BIF_TRY(bif_fail(BIF_ERR_USAGE,
                             "--size %lld cannot be reached: counts and samples without a group take %lld, the other groups give up to %lld",
                             (long long)by->size, (long long)fixed, (long long)reach));
        }
        for (int64_t g = 0; g < groups; g++) {
            quota[g] += shared[g];
        }
    }
done:
    free(part);
    free(shared);
    return st;
}

/* ---- which of them ---- */
typedef struct {
    double draw;
    uint32_t sample, copy;
} item;

static int compare_items(const void *left, const void *right)
{
    const item *a = left, *b = right;
    if (a->draw != b->draw) {
        return a->draw < b->draw ? -1 : 1;
    }
    return a->sample != b->sample ? (a->sample < b->sample ? -1 : 1) : (a->copy > b->copy) - (a->copy < b->copy);
}

/* Copies that an earlier step made are drawn each for itself. */
static double draw_of_copy(const balance *b, int64_t sample, uint32_t copy)
{
    uint32_t word[4];
    if (copy == 0) {
        return b->draw[sample];
    }
    bif_philox(b->by->seed, BIF_RNG_BALANCE, (uint64_t)(b->draw[sample] * 0x1p52), 2 + copy, word);
    return (double)(((uint64_t)word[0] << 32 | word[1]) >> 12) * 0x1p-52;
}

/* The quota goes round: each member so often, and the smallest draws once more. */
static bif_status choose(const balance *b, bif_balance_groups_result *out, const int64_t *quota, int64_t members)
{
    const int64_t samples = b->pool->samples, groups = out->groups;
    bif_status st = BIF_OK;
    item *items = bif_malloc((size_t)members * sizeof *items + 1);
    int64_t *start = bif_calloc((size_t)groups + 2, sizeof *start);
    uint32_t *times = bif_calloc((size_t)samples + 1, sizeof *times);
    for (int64_t g = 0; g < groups; g++) {
        start[g + 2] = start[g + 1] + out->group[g].before;
    }
    for (int64_t i = 0; i < samples; i++) {
        for (uint32_t copy = 0; b->group[i] > 0 && copy < b->times[i]; copy++) {
            items[start[(int64_t)b->group[i]]++] = (item){draw_of_copy(b, i, copy), (uint32_t)i, copy};
        }
    }
    for (int64_t g = 0; g < groups; g++) { /* start[g] is where the group begins: the filling moved each on by one group */
        const int64_t n = out->group[g].before, every = quota[g] / n, more = quota[g] % n;
        item *of = items + start[g];
        qsort(of, (size_t)n, sizeof *of, compare_items);
        for (int64_t k = 0; k < n; k++) {
            const int64_t sum = times[of[k].sample] + every + (k < more);
            if (sum > UINT16_MAX) {
                BIF_TRY(bif_fail(BIF_ERR_USAGE, "group '%s': a sample would be repeated more than 65535 times", out->group[g].name));
            }
            times[of[k].sample] = (uint32_t)sum;
        }
        out->group[g].after = quota[g];
        out->outcome.after += quota[g];
    }
    for (int round = 0; round < 2; round++) {
        bif_balance_outcome *o = &out->outcome;
        o->count = 0;
        for (int64_t i = 0; i < samples; i++) {
            const int64_t g = (int64_t)b->group[i] - 1;
            if (b->times[i] == 0 || (g < 0 ? b->by->keep_ungrouped : times[i] == b->times[i])) {
                continue;
            }
            if (round == 1) {
                o->records[o->count] = (bif_drop){.sample = (uint64_t)i,
                                                  .other = BIF_NO_SAMPLE,
                                                  .value = g < 0 ? 0.0f : (float)((double)quota[g] / (double)out->group[g].before),
                                                  .reason = g < 0                     ? BIF_BALANCE_NO_GROUP
                                                            : times[i] > b->times[i] ? BIF_BALANCE_REPEATED
                                                                                      : BIF_BALANCE_OVER_QUOTA,
                                                  .times = (uint16_t)times[i]};
            }
            o->count++;
        }
        if (round == 0) {
            o->records = bif_calloc((size_t)o->count + 1, sizeof *o->records);
        }
    }
done:
    free(items);
    free(start);
    free(times);
    return st;
}

static bif_status finish(const balance *b, bif_balance_groups_result *out)
{
    bif_status st = BIF_OK;
    int64_t members = 0, *quota = NULL;
    out->groups = (int64_t)b->labels.count;
    out->group = bif_calloc((size_t)out->groups + 1, sizeof *out->group);
    quota = bif_calloc((size_t)out->groups + 1, sizeof *quota);
    for (int64_t g = 0; g < out->groups; g++) {
        size_t size = 0;
        const char *bytes = bif_intern_bytes(&b->labels, (size_t)g, &size);
        out->group[g].name = bif_format("%.*s", (int)size, bytes);
    }
    for (int64_t i = 0; i < b->pool->samples; i++) {
        if (b->group[i] > 0) {
            out->group[(int64_t)b->group[i] - 1].before += b->times[i];
            members += b->times[i];
        } else {
            out->ungrouped += b->times[i];
        }
    }
    const int64_t always = b->by->keep_ungrouped ? out->ungrouped : 0;
    out->outcome.after = always;
    BIF_TRY(check_wishes(b));
    BIF_TRY(find_quotas(b, out, always, quota));
    BIF_TRY(choose(b, out, quota, members));
done:
    free(quota);
    return st;
}

bif_status bif_balance_groups(const bif_balance_by_groups *by, const bif_pool *pool, const bif_selection *selection, const bif_team *team,
                              bif_balance_groups_result *out)
{
    bif_status st = BIF_OK;
    balance b = {.by = by, .pool = pool, .team = team, .times = bif_selection_times(selection)};
    *out = (bif_balance_groups_result){.outcome.before = bif_selection_kept(selection)};
    const int64_t need = pool->samples * (int64_t)(2 * sizeof(double) + sizeof(uint32_t) + 2 * sizeof(bif_drop)) +
                         out->outcome.before * (int64_t)sizeof(item);
    if (need > by->memory) {
        return bif_fail(BIF_ERR_MEMORY, "balancing %lld samples takes up to %lld MiB, of %lld MiB: raise --memory-mib",
                        (long long)pool->samples, (long long)(need >> 20) + 1, (long long)(by->memory >> 20));
    }
    b.label_most = (by->memory - need) / team->world; /* rank 0 gets those of all */
    b.group = bif_calloc((size_t)pool->samples, sizeof *b.group);
    b.draw = bif_calloc((size_t)pool->samples, sizeof *b.draw);
    BIF_TRY(team->agree(team->context, find_method(&b, &out->outcome.method)));
    BIF_TRY(team->share(team->context, pool->shards, visit, &b));
    agree_on_labels(&b);
    b.draws = true;
    BIF_TRY(team->share(team->context, pool->shards, visit, &b));
    team->sum(team->context, b.group, pool->samples);
    team->sum(team->context, b.draw, pool->samples);
    if (team->rank == 0) {
        st = finish(&b, out);
    }
    st = team->agree(team->context, st);
done:
    free(b.group);
    free(b.draw);
    bif_intern_free(&b.labels);
    if (st != BIF_OK) {
        bif_balance_groups_free(out);
    }
    return st;
}

void bif_balance_groups_free(bif_balance_groups_result *result)
{
    for (int64_t g = 0; g < result->groups && result->group != NULL; g++) {
        free(result->group[g].name);
    }
    free(result->group);
    free(result->outcome.records);
    free(result->outcome.method);
    *result = (bif_balance_groups_result){0};
}
