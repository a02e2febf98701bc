/* Passes over the captions: one counts matches, one finds for each sample the t from which it stays, some measure the mean size at many t
 * at once (only when t is wanted for a mean), the last one the chances at the t that was found. Ranks share the shards in the first pass and
 * go on with their own; matches are kept for the later passes where there is memory, and found again where there is not. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "data/balance.h"
#include "data/column.h"
#include "data/text_measures.h"

const char *const bif_balance_concept_reasons[2] = {"over-represented", "no-concept"};

typedef enum { COUNT, THRESHOLD, MEAN, CHANCE } pass;
enum { TRIALS = 32 };

/* Matches of a shard's samples, end to end. */
typedef struct {
    uint32_t *end; /* [samples]; NULL: not kept */
    uint32_t *id;
} matches;

typedef struct {
    const bif_balance_by_concepts *by;
    const bif_pool *pool;
    const bif_team *team;
    const uint16_t *times;
    bif_concepts_found found;
    const uint32_t *id; /* [ids] matches of the sample in work */
    int64_t ids;
    const char *method; /* of the caption column in the first shard */
    bool *mine;         /* [shards] this rank's */
    matches *kept;      /* [shards] */
    int64_t room;       /* bytes left for them */
    pass what;
    double *count;  /* [entries] */
    double *value;  /* [samples] THRESHOLD: the t from which it stays; CHANCE: p; -1 without a match, and 0 of other ranks' */
    uint8_t *keep;  /* [samples] for CHANCE */
    double *after;  /* [entries] */
    double t[TRIALS];
    double high[TRIALS], low[TRIALS]; /* sums of chances in units of 2^-20 and 2^-40: integers, so the order of adding is free */
    int64_t done;
    double begun, told;
} balance;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double chance(const balance *b, double t)
{
    double none = 1;
    for (int64_t i = 0; i < b->ids; i++) {
        none *= 1 - bif_balance_probability(t, b->count[b->id[i]]);
    }
    return 1 - none;
}

static void add_chance(balance *b, int trial, double p, int64_t times)
{
    const uint64_t units = (uint64_t)(p * 0x1p40 + 0.5);
    b->high[trial] += (double)((int64_t)(units >> 20) * times);
    b->low[trial] += (double)((int64_t)(units & 0xfffff) * times);
}

static double mean_size(const balance *b, int trial)
{
    return b->high[trial] * 0x1p-20 + b->low[trial] * 0x1p-40;
}

static bif_status use(balance *b, const bif_shard *shard, int64_t local, int64_t sample)
{
    const int64_t times = b->times[sample], n = b->ids;
    const uint32_t *id = b->id;
    uint64_t uid[2];
    bif_status st = BIF_OK;
    switch (b->what) {
    case COUNT:
        for (int64_t i = 0; i < n; i++) {
            b->count[id[i]] += (double)times;
        }
        break;
    case THRESHOLD:
        b->value[sample] = -1;
        if (n == 0) {
            break;
        }
        st = bif_sample_uid(shard, local, uid);
        if (st != BIF_OK) {
            return st;
        }
        for (int64_t i = 0; i < n; i++) { /* draw < t / max(count, t), solved for t: draw * count < t, as draw < 1 */
            const double t = bif_balance_draw(b->by->seed, uid, bif_concepts_hash(b->by->concepts, id[i])) * b->count[id[i]];
            b->value[sample] = i == 0 || t < b->value[sample] ? t : b->value[sample];
        }
        break;
    case MEAN:
        for (int k = 0; k < TRIALS && n > 0; k++) {
            add_chance(b, k, chance(b, b->t[k]), times);
        }
        break;
    case CHANCE:
        b->value[sample] = n > 0 ? chance(b, b->t[0]) : -1;
        if (n > 0) {
            add_chance(b, 0, b->value[sample], times);
        }
        for (int64_t i = 0; i < n && b->keep[sample]; i++) {
            b->after[id[i]] += (double)times;
        }
        break;
    }
    return st;
}

static void tell(balance *b)
{
    static const char *const names[] = {"counting matches", "drawing", "measuring", "measuring what stays"};
    if (++b->done % 4096 != 0) {
        return;
    }
    b->team->poll(b->team->context);
    const double now = seconds();
    if (now - b->told > 5) {
        bif_info("%s: %lld captions on this rank, %.0f a second", names[b->what], (long long)b->done, (double)b->done / (now - b->begun));
        b->told = now;
    }
}

static bif_status match(balance *b, const bif_shard *shard, const bif_column *column, int64_t local)
{
    bif_shard_sample record;
    char *caption = NULL;
    size_t size = 0;
    const bif_status st = bif_shard_get_sample(shard, local, &record);
    if (st != BIF_OK) {
        return st;
    }
    const char *text = column != NULL ? bif_column_text(column, local) : NULL;
    if (text != NULL) {
        size = strlen(text);
    } else {
        bif_sample_caption(&record, &caption, &size);
        text = caption;
    }
    b->found.count = 0;
    if (text != NULL) {
        bif_concepts_match(b->by->concepts, text, size, &b->found);
    }
    b->id = b->found.id;
    b->ids = b->found.count;
    free(caption);
    return BIF_OK;
}

/* Adds a sample's matches; lets all of the shard go when they do not fit. */
static void keep_matches(balance *b, matches *kept, int64_t local, int64_t *count, int64_t *most)
{
    while (*count + b->ids > *most) {
        *most = 2 * *most + 4096;
        if (*most * (int64_t)sizeof *kept->id > b->room || *most > UINT32_MAX) {
            free(kept->id);
            free(kept->end);
            *kept = (matches){0};
            return;
        }
        kept->id = bif_realloc(kept->id, (size_t)*most, sizeof *kept->id);
    }
    if (b->ids > 0) {
        memcpy(kept->id + *count, b->id, (size_t)b->ids * sizeof *kept->id);
    }
    *count += b->ids;
    kept->end[local] = (uint32_t)*count;
}

static bif_status open_captions(const balance *b, const bif_shard *shard, bif_column **out)
{
    bif_status st = bif_column_need_captions(shard, b->by->caption, out);
    return st == BIF_OK ? bif_column_same_method(shard, *out, b->method) : st;
}

/* How the first shard's captions were made. */
static bif_status find_method(balance *b, char **out)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    if (b->by->caption == NULL) {
        return BIF_OK;
    }
    BIF_TRY(bif_pool_shard(b->pool, 0, &shard));
    BIF_TRY(open_captions(b, shard, &column));
    b->method = *out = bif_strdup(bif_column_describe(column)->method);
done:
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

/* A shard anew; in the first pass its matches are kept. */
static bif_status visit(void *argument, int64_t unit)
{
    balance *b = argument;
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    matches kept = {0};
    const int64_t first = b->pool->first_sample[unit], samples = b->pool->first_sample[unit + 1] - first;
    int64_t count = 0, most = 0;
    b->mine[unit] = true;
    BIF_TRY(bif_pool_shard(b->pool, unit, &shard));
    if (b->by->caption != NULL) {
        BIF_TRY(open_captions(b, shard, &column));
    }
    if (b->what == COUNT && !b->by->count_only && samples * (int64_t)sizeof *kept.end <= b->room) {
        kept.end = bif_calloc((size_t)samples, sizeof *kept.end);
        b->room -= samples * (int64_t)sizeof *kept.end;
    }
    for (int64_t local = 0; local < samples; local++) {
        if (b->times[first + local] > 0) {
            BIF_TRY(match(b, shard, column, local));
            BIF_TRY(use(b, shard, local, first + local));
            tell(b);
        } else {
            b->ids = 0;
        }
        if (kept.end != NULL) {
            keep_matches(b, &kept, local, &count, &most);
        }
    }
    if (kept.end != NULL) {
        b->room -= count * (int64_t)sizeof *kept.id;
        kept.id = bif_realloc(kept.id, (size_t)count + 1, sizeof *kept.id);
        b->kept[unit] = kept;
        kept = (matches){0};
    }
done:
    free(kept.end);
    free(kept.id);
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

/* A shard whose matches are known; opened only for the names of its samples. */
static bif_status visit_kept(balance *b, int64_t unit)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    const matches *kept = &b->kept[unit];
    const int64_t first = b->pool->first_sample[unit], samples = b->pool->first_sample[unit + 1] - first;
    if (b->what == THRESHOLD) {
        BIF_TRY(bif_pool_shard(b->pool, unit, &shard));
    }
    for (int64_t local = 0; local < samples; local++) {
        if (b->times[first + local] > 0) {
            const uint32_t begin = local > 0 ? kept->end[local - 1] : 0;
            b->id = kept->id + begin;
            b->ids = kept->end[local] - begin;
            BIF_TRY(use(b, shard, local, first + local));
            tell(b);
        }
    }
done:
    bif_shard_close(shard);
    return st;
}

static bif_status visit_mine(balance *b)
{
    bif_status st = BIF_OK;
    for (int64_t unit = 0; unit < b->pool->shards && st == BIF_OK; unit++) {
        if (b->mine[unit]) {
            st = b->kept[unit].end != NULL ? visit_kept(b, unit) : visit(b, unit);
        }
    }
    return b->team->agree(b->team->context, st);
}

static bif_status run(balance *b, pass what)
{
    b->what = what;
    b->done = 0;
    b->begun = b->told = seconds();
    memset(b->high, 0, sizeof b->high);
    memset(b->low, 0, sizeof b->low);
    if (what == THRESHOLD || what == CHANCE) {
        memset(b->value, 0, (size_t)b->pool->samples * sizeof *b->value);
    }
    bif_status st = what == COUNT ? b->team->share(b->team->context, b->pool->shards, visit, b) : visit_mine(b);
    if (st != BIF_OK) {
        return st;
    }
    const int64_t entries = bif_concepts_describe(b->by->concepts).entries;
    if (what == COUNT) {
        b->team->sum(b->team->context, b->count, entries);
    } else if (what != MEAN) {
        b->team->sum(b->team->context, b->value, b->pool->samples);
    }
    if (what == MEAN || what == CHANCE) {
        b->team->sum(b->team->context, b->high, TRIALS);
        b->team->sum(b->team->context, b->low, TRIALS);
    }
    if (what == CHANCE) {
        b->team->sum(b->team->context, b->after, entries);
    }
    return BIF_OK;
}

/* ---- the t for a size ---- */
typedef struct {
    double t;
    int64_t times;
} step;

static int compare_steps(const void *left, const void *right)
{
    const step *a = left, *b = right;
    return (a->t > b->t) - (a->t < b->t);
}

static bif_status not_reachable(int64_t size, int64_t least, int64_t most)
{
    return bif_fail(BIF_ERR_USAGE, "--size %lld cannot be reached: what the concepts leave has from %lld to %lld samples", (long long)size,
                    (long long)least, (long long)most);
}

/* Samples stay one by one as t grows, so any number of them is reached exactly, but for ties and samples that earlier steps repeat. */
static bif_status solve_exactly(const balance *b, int64_t wanted, int64_t matched, int64_t always, double *t)
{
    bif_status st = BIF_OK;
    step *steps = bif_malloc((size_t)b->pool->samples * sizeof *steps + 1);
    int64_t count = 0, sum = 0, below = 0;
    for (int64_t i = 0; i < b->pool->samples; i++) {
        if (b->times[i] > 0 && b->value[i] >= 0) {
            steps[count++] = (step){b->value[i], b->times[i]};
        }
    }
    qsort(steps, (size_t)count, sizeof *steps, compare_steps);
    int64_t at = 0, least = 0;
    for (int64_t i = 0; i < count && steps[i].t == steps[0].t; i++) {
        least += steps[i].times;
    }
    if (wanted < 1 || wanted > matched) {
        BIF_TRY(not_reachable(wanted + always, least + always, matched + always));
    }
    while (at < count && sum < wanted) { /* equal ones stay or go together */
        below = sum;
        const double value = steps[at].t;
        for (; at < count && steps[at].t == value; at++) {
            sum += steps[at].times;
        }
    }
    const int64_t above = sum, best = wanted - below < above - wanted && below > 0 ? below : above;
    if (llabs(best - wanted) * 200 > wanted + always) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE,
                         "--size %lld cannot be reached within 0.5 %%: samples that stay or go together make it %lld or %lld",
                         (long long)(wanted + always), (long long)(below + always), (long long)(above + always)));
    }
    /* Those below t stay. */
    const double last = steps[at - 1].t;
    *t = best == below ? last : at < count ? steps[at].t : nextafter(last, INFINITY);
    *t = *t > 0 ? *t : nextafter(0, 1);
done:
    free(steps);
    return st;
}

/* The mean grows with t, never by more than t does (as a share), and below entries * t: 33 parts a pass until the parts are 2^-20 wide.
 * Entries with no count (of another pool) keep samples at any t. */
static bif_status solve_mean(balance *b, int64_t wanted, int64_t matched, int64_t always, double *t)
{
    const int64_t entries = bif_concepts_describe(b->by->concepts).entries;
    double high = 1, low = 0.5 / (double)entries, reached = (double)matched, least = 0;
    for (int64_t e = 0; e < entries; e++) {
        high = b->count[e] > high ? b->count[e] : high; /* from here on every p is 1 */
    }
    bif_status st = BIF_OK;
    if (wanted < 1 || wanted > matched) {
        return not_reachable(wanted + always, always + 1, matched + always);
    }
    const double first = low;
    while (high > low * (1 + 0x1p-20)) {
        const double factor = pow(high / low, 1.0 / (TRIALS + 1));
        for (int k = 0; k < TRIALS; k++) {
            b->t[k] = low * pow(factor, k + 1);
        }
        st = run(b, MEAN);
        if (st != BIF_OK) {
            return st;
        }
        double next_low = low, next_high = high;
        least = low == first ? mean_size(b, 0) : least;
        for (int k = 0; k < TRIALS; k++) {
            if (mean_size(b, k) < (double)wanted) {
                next_low = b->t[k];
            } else {
                next_high = b->t[k];
                reached = mean_size(b, k);
                break;
            }
        }
        low = next_low;
        high = next_high;
    }
    *t = high;
    if (fabs(reached - (double)wanted) > 0.005 * (double)wanted) {
        st = not_reachable(wanted + always, always + (int64_t)ceil(least), matched + always);
    }
    return st;
}

static bif_status find_t(balance *b, int64_t unmatched, double *t)
{
    const bif_balance_by_concepts *by = b->by;
    bif_status st = BIF_OK;
    int64_t all = 0;
    *t = by->t;
    if (by->t > 0) {
        return BIF_OK;
    }
    for (int64_t i = 0; i < b->pool->samples; i++) {
        all += b->times[i];
    }
    const int64_t always = by->keep_unmatched ? unmatched : 0, matched = all - unmatched;
    if (by->expected) {
        return solve_mean(b, by->size - always, matched, always, t);
    }
    if (b->team->rank == 0) {
        st = solve_exactly(b, by->size - always, matched, always, t);
    }
    st = b->team->agree(b->team->context, st);
    if (st == BIF_OK) {
        b->team->broadcast(b->team->context, t, sizeof *t);
    }
    return st;
}

static void write_records(const balance *b, bif_balance_outcome *out)
{
    for (int round = 0; round < 2; round++) {
        out->count = 0;
        for (int64_t i = 0; i < b->pool->samples; i++) {
            if (b->times[i] == 0 || b->keep[i]) {
                continue;
            }
            if (round == 1) {
                const bool none = b->value[i] < 0;
                out->records[out->count] = (bif_drop){.sample = (uint64_t)i,
                                                      .other = BIF_NO_SAMPLE,
                                                      .value = none ? 0.0f : (float)b->value[i],
                                                      .reason = none ? BIF_BALANCE_NO_CONCEPT : BIF_BALANCE_FAILED_DRAWS};
            }
            out->count++;
        }
        if (round == 0) {
            out->records = bif_calloc((size_t)out->count + 1, sizeof *out->records);
        }
    }
}

bif_status bif_balance_concepts(const bif_balance_by_concepts *by, const bif_pool *pool, const bif_selection *selection,
                                const bif_team *team, bif_balance_concepts_result *out)
{
    bif_status st = BIF_OK;
    const int64_t entries = bif_concepts_describe(by->concepts).entries;
    balance b = {.by = by, .pool = pool, .team = team, .times = bif_selection_times(selection)};
    *out = (bif_balance_concepts_result){.outcome.before = bif_selection_kept(selection)};
    /* A value and a byte a sample, what solve_exactly sorts, and at worst a record twice: here and in the selection. */
    const int64_t need = pool->samples * (int64_t)(sizeof *b.value + 1 + sizeof(step) + 2 * sizeof(bif_drop)) + entries * 32;
    if (!by->count_only && need > by->memory) {
        return bif_fail(BIF_ERR_MEMORY, "balancing %lld samples takes up to %lld MiB beside the concepts, of %lld MiB: raise --memory-mib",
                        (long long)pool->samples, (long long)(need >> 20) + 1, (long long)(by->memory >> 20));
    }
    b.room = by->memory - need;
    b.mine = bif_calloc((size_t)pool->shards, sizeof *b.mine);
    b.kept = bif_calloc((size_t)pool->shards, sizeof *b.kept);
    b.count = out->pool = bif_calloc((size_t)entries, sizeof *out->pool);
    out->after = b.after = bif_calloc((size_t)entries, sizeof *out->after);
    BIF_TRY(team->agree(team->context, find_method(&b, &out->outcome.method)));
    BIF_TRY(run(&b, COUNT));
    if (by->count_only) {
        goto done;
    }
    if (by->counts != NULL) {
        b.count = bif_malloc((size_t)entries * sizeof *b.count);
        memcpy(b.count, by->counts, (size_t)entries * sizeof *b.count);
    }
    b.value = bif_calloc((size_t)pool->samples, sizeof *b.value);
    b.keep = bif_calloc((size_t)pool->samples, 1);
    BIF_TRY(run(&b, THRESHOLD));
    for (int64_t i = 0; i < pool->samples; i++) {
        out->unmatched += b.times[i] > 0 && b.value[i] < 0 ? b.times[i] : 0;
    }
    BIF_TRY(find_t(&b, out->unmatched, &out->t));
    for (int64_t i = 0; i < pool->samples; i++) {
        b.keep[i] = b.times[i] > 0 && (b.value[i] < 0 ? by->keep_unmatched : b.value[i] < out->t);
        out->outcome.after += b.keep[i] ? b.times[i] : 0;
    }
    b.t[0] = out->t;
    BIF_TRY(run(&b, CHANCE));
    out->expected = mean_size(&b, 0) + (by->keep_unmatched ? (double)out->unmatched : 0);
    if (team->rank == 0) {
        write_records(&b, &out->outcome);
    }
done:
    if (b.count != out->pool) {
        free(b.count);
    }
    for (int64_t unit = 0; unit < pool->shards; unit++) {
        free(b.kept[unit].end);
        free(b.kept[unit].id);
    }
    free(b.kept);
    free(b.mine);
    free(b.value);
    free(b.keep);
    bif_concepts_found_free(&b.found);
    if (st != BIF_OK) {
        bif_balance_concepts_free(out);
    }
    return st;
}

void bif_balance_concepts_free(bif_balance_concepts_result *result)
{
    free(result->outcome.records);
    free(result->outcome.method);
    free(result->pool);
    free(result->after);
    *result = (bif_balance_concepts_result){0};
}
