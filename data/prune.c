#include "data/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

const bif_prune_kind bif_prune_kinds[BIF_PRUNE_KINDS] = {
    {"undecodable", BIF_PRUNE_BY_DECODABLE, '<', true, 1.0, 0, 0},
    {"image-side-min", BIF_PRUNE_BY_SIDE, '<', false, 0, 1, 65535},
    {"aspect-max", BIF_PRUNE_BY_ASPECT, '>', false, 0, 1, 65535},
    {"deviation-min", BIF_PRUNE_BY_DEVIATION, '<', false, 0, 0, 255},
    {"quality-min", BIF_PRUNE_BY_QUALITY, '<', false, 0, 0, 100},
    {"bytes-per-pixel-min", BIF_PRUNE_BY_BYTES, '<', false, 0, 0, 1e6},
    {"chars-min", BIF_PRUNE_BY_CHARS, '<', false, 0, 0, 1e9},
    {"chars-max", BIF_PRUNE_BY_CHARS, '>', false, 0, 0, 1e9},
    {"words-min", BIF_PRUNE_BY_WORDS, '<', false, 0, 0, 1e9},
    {"words-max", BIF_PRUNE_BY_WORDS, '>', false, 0, 0, 1e9},
    {"alphabetic-min", BIF_PRUNE_BY_ALPHABETIC, '<', false, 0, 0, 1},
    {"repetition-max", BIF_PRUNE_BY_REPETITION, '>', false, 0, 0, 1},
    {"script-min", BIF_PRUNE_BY_SCRIPT, '<', false, 0, 0, 1},
    {"file-names", BIF_PRUNE_BY_FILE_NAME, '>', true, 0.0, 0, 0},
    {"clip-score-min", BIF_PRUNE_BY_CLIP, '<', false, 0, -1, 1},
    {"clip-top", BIF_PRUNE_BY_CLIP, 't', false, 0, 0, 1},
};

const char *const bif_prune_measure_names[BIF_PRUNE_MEASURES] = {
    "decodable",     "image side",       "aspect",     "grey deviation", "pdq quality", "bytes per pixel", "caption chars",
    "caption words", "alphabetic share", "repetition", "script share",   "file name",   "clip score",      "main script"};
const double bif_prune_quantiles[BIF_PRUNE_QUANTILES] = {0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1};

int bif_prune_kind_by_name(const char *name)
{
    for (int k = 0; k < BIF_PRUNE_KINDS; k++) {
        if (strcmp(bif_prune_kinds[k].name, name) == 0) {
            return k;
        }
    }
    return -1;
}

/* ---- measuring ---- */

/* What a rank has measured: shards end to end, each int64_t number, values, texts. */
typedef struct {
    const bif_prune_plan *plan;
    char *bytes;
    size_t size, room;
    int64_t samples;
    int rank;
    struct timespec told;
} part;

static size_t row_bytes(const bif_prune_plan *plan)
{
    return (size_t)plan->slots * sizeof(float) + (plan->texts ? sizeof(bif_prune_text) : 0);
}

static int64_t shard_samples(const bif_pool *pool, int64_t shard)
{
    return pool->first_sample[shard + 1] - pool->first_sample[shard];
}

static bif_status measure_unit(void *argument, int64_t shard)
{
    part *p = argument;
    const bif_prune_plan *plan = p->plan;
    const int64_t samples = shard_samples(plan->pool, shard);
    const size_t size = sizeof shard + (size_t)samples * row_bytes(plan);
    float *values = bif_malloc((size_t)(samples * plan->slots) * sizeof *values + 1);
    bif_prune_text *texts = plan->texts ? bif_malloc((size_t)samples * sizeof *texts + 1) : NULL;
    const bif_status st = bif_prune_measure_shard(plan, shard, values, texts);
    if (st == BIF_OK) {
        if (p->size + size > p->room) {
            p->room = p->size + size + p->room / 4;
            p->bytes = bif_realloc(p->bytes, p->room, 1);
        }
        char *to = p->bytes + p->size;
        memcpy(to, &shard, sizeof shard);
        memcpy(to + sizeof shard, values, (size_t)(samples * plan->slots) * sizeof *values);
        if (texts != NULL) {
            memcpy(to + sizeof shard + (size_t)(samples * plan->slots) * sizeof *values, texts, (size_t)samples * sizeof *texts);
        }
        p->size += size;
        p->samples += samples;
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (p->rank == 0 && now.tv_sec - p->told.tv_sec >= 5) {
            bif_info("measured %lld samples on this rank of %lld in all", (long long)p->samples, (long long)plan->pool->samples);
            p->told = now;
        }
    }
    free(values);
    free(texts);
    return st;
}

/* Rank 0's table of everything. */
typedef struct {
    const bif_prune_plan *plan;
    float *value;         /* [samples, slots] */
    bif_prune_text *text; /* [samples] or NULL */
    int64_t samples;
} table;

static void unpack(const bif_prune_plan *plan, const char *bytes, size_t size, table *t)
{
    t->plan = plan;
    t->samples = plan->pool->samples;
    t->value = bif_malloc((size_t)(t->samples * plan->slots) * sizeof *t->value + 1);
    t->text = plan->texts ? bif_malloc((size_t)t->samples * sizeof *t->text + 1) : NULL;
    for (size_t at = 0; at < size;) {
        int64_t shard;
        memcpy(&shard, bytes + at, sizeof shard);
        at += sizeof shard;
        const int64_t first = plan->pool->first_sample[shard], samples = shard_samples(plan->pool, shard);
        const size_t values = (size_t)(samples * plan->slots) * sizeof *t->value;
        memcpy(t->value + first * plan->slots, bytes + at, values);
        at += values;
        if (t->text != NULL) {
            memcpy(t->text + first, bytes + at, (size_t)samples * sizeof *t->text);
            at += (size_t)samples * sizeof *t->text;
        }
    }
}

static bif_status check_memory(const bif_prune_plan *plan)
{
    /* Rows three times, while they are gathered; marks, values to be sorted, captions to be sorted with whom they repeat; records twice. */
    const int64_t a_sample = 3 * (int64_t)row_bytes(plan) + 2 + 4 + (plan->texts ? 48 : 0) + 2 * (int64_t)sizeof(bif_drop);
    int64_t needed = 0;
    if (!bif_mul_i64(plan->pool->samples, a_sample, &needed) || needed > plan->options->memory) {
        return bif_fail(BIF_ERR_MEMORY,
                        "prune: %lld samples need %lld MiB, the budget is %lld MiB; give --memory-mib %lld, or fewer shards",
                        (long long)plan->pool->samples, (long long)(needed >> 20) + 1, (long long)(plan->options->memory >> 20),
                        (long long)(needed >> 20) + 1);
    }
    return BIF_OK;
}

/* ---- rules ---- */

typedef struct {
    char *reason;
    int64_t slot;
    char way;
    double limit;
} rule;

typedef struct {
    rule *rule;
    int64_t count;
} rules;

static void add_rule(rules *r, char *reason, int64_t slot, char way, double limit)
{
    r->rule = bif_realloc(r->rule, (size_t)r->count + 1, sizeof *r->rule);
    r->rule[r->count++] = (rule){reason, slot, way, limit};
}

static void add_kinds(rules *r, const bif_prune_plan *plan, const char *ways)
{
    for (int k = 0; k < BIF_PRUNE_KINDS; k++) {
        const bif_prune_kind *kind = &bif_prune_kinds[k];
        if (plan->options->use[k] && strchr(ways, kind->way) != NULL) {
            add_rule(r, bif_strdup(kind->name), plan->slot[kind->measure], kind->way, kind->flag ? kind->fixed : plan->options->limit[k]);
        }
    }
}

static rules make_rules(const bif_prune_plan *plan)
{
    rules r = {0};
    const bif_prune_options *o = plan->options;
    add_kinds(&r, plan, "<>");
    for (int64_t i = 0; i < o->columns; i++) {
        const bif_prune_column *c = &o->column[i];
        const int64_t slot = plan->first_score + 2 * i;
        if (c->has_min) {
            add_rule(&r, bif_format("%s below the minimum", c->name), slot, '<', c->min);
        }
        if (c->has_max) {
            add_rule(&r, bif_format("%s above the maximum", c->name), slot + 1, '>', c->max);
        }
    }
    if (o->max_same_caption > 0) {
        add_rule(&r, bif_strdup("max-same-caption"), -1, 'c', (double)o->max_same_caption);
    }
    add_kinds(&r, plan, "t");
    for (int64_t i = 0; i < o->columns; i++) {
        if (o->column[i].has_top) {
            add_rule(&r, bif_format("%s not in the top share", o->column[i].name), plan->first_score + 2 * i, 't', o->column[i].top);
        }
    }
    return r;
}

static int falling(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static float value_at(const table *t, int64_t sample, int64_t slot)
{
    return t->value[sample * t->plan->slots + slot];
}

/* The values of a slot over the samples that are in, falling; NaN left out. malloc'ed. */
static float *sorted_values(const table *t, int64_t slot, const bool *in, int64_t *count)
{
    float *sorted = bif_malloc((size_t)t->samples * sizeof *sorted + 1);
    *count = 0;
    for (int64_t i = 0; i < t->samples; i++) {
        const float v = value_at(t, i, slot);
        if (in[i] && !isnan(v)) {
            sorted[(*count)++] = v;
        }
    }
    qsort(sorted, (size_t)*count, sizeof *sorted, falling);
    return sorted;
}

typedef struct {
    const bif_prune_text *text;
    int64_t sample;
} same;

static int by_caption(const void *a, const void *b)
{
    const same *x = a, *y = b;
    for (int i = 0; i < 2; i++) {
        if (x->text->key[i] != y->text->key[i]) {
            return x->text->key[i] < y->text->key[i] ? -1 : 1;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (x->text->uid[i] != y->text->uid[i]) {
            return x->text->uid[i] < y->text->uid[i] ? -1 : 1;
        }
    }
    return (x->sample > y->sample) - (x->sample < y->sample);
}

/* Of samples with one caption those with the least uids stay. first, where it is wanted: the first of them, for the others. */
static void mark_same(const table *t, const bool *in, int64_t most, bool *hit, uint32_t *first)
{
    same *all = bif_malloc((size_t)t->samples * sizeof *all + 1);
    int64_t count = 0, begin = 0;
    for (int64_t i = 0; i < t->samples; i++) {
        if (in[i] && (t->text[i].key[0] != 0 || t->text[i].key[1] != 0)) {
            all[count++] = (same){&t->text[i], i};
        }
    }
    qsort(all, (size_t)count, sizeof *all, by_caption);
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(all[i].text->key, all[begin].text->key, sizeof all[i].text->key) != 0) {
            begin = i;
        }
        if (i - begin >= most) {
            hit[all[i].sample] = true;
            if (first != NULL) {
                first[all[i].sample] = (uint32_t)all[begin].sample;
            }
        }
    }
    free(all);
}

/* Marks in hit [samples] what the rule drops of the samples that are in; returns how many. *limit: what a top share came to. */
static int64_t mark(const table *t, const rule *r, const bool *in, bool *hit, uint32_t *first, double *limit)
{
    int64_t dropped = 0;
    float bound = (float)r->limit;
    memset(hit, 0, (size_t)t->samples * sizeof *hit);
    *limit = r->limit;
    if (r->way == 'c') {
        mark_same(t, in, (int64_t)r->limit, hit, first);
    }
    if (r->way == 't') {
        int64_t count = 0;
        float *sorted = sorted_values(t, r->slot, in, &count);
        const int64_t rank = (int64_t)((double)count * r->limit);
        bound = rank < count ? sorted[rank] : -INFINITY;
        *limit = isfinite(bound) ? (double)bound : NAN;
        free(sorted);
    }
    for (int64_t i = 0; i < t->samples; i++) {
        if (in[i] && r->way != 'c') {
            const float v = value_at(t, i, r->slot);
            hit[i] = r->way == '>' ? v > bound : v < bound || v == -INFINITY; /* false of NaN; -INFINITY: a row without a number */
        }
        dropped += hit[i];
    }
    return dropped;
}

/* ---- results ---- */

static json_t *parameters_of(const bif_prune_plan *plan)
{
    const bif_prune_options *o = plan->options;
    json_t *p = json_object(), *columns = json_array(), *methods = json_object();
    for (int k = 0; k < BIF_PRUNE_KINDS; k++) {
        if (o->use[k]) {
            json_object_set_new(p, bif_prune_kinds[k].name, bif_prune_kinds[k].flag ? json_true() : json_real(o->limit[k]));
        }
    }
    if (o->max_same_caption > 0) {
        json_object_set_new(p, "max-same-caption", json_integer(o->max_same_caption));
    }
    if (plan->need[BIF_PRUNE_BY_SCRIPT]) {
        json_object_set_new(p, "script", json_string(o->scripts));
    }
    if (plan->need[BIF_PRUNE_BY_REPETITION]) {
        json_object_set_new(p, "repetition-words", json_integer(o->repetition_words));
    }
    for (int64_t i = 0; i < o->columns; i++) {
        const bif_prune_column *c = &o->column[i];
        json_t *one = json_pack("{s:s}", "name", c->name);
        if (c->has_min) {
            json_object_set_new(one, "min", json_real(c->min));
        }
        if (c->has_max) {
            json_object_set_new(one, "max", json_real(c->max));
        }
        if (c->has_top) {
            json_object_set_new(one, "top", json_real(c->top));
        }
        json_array_append_new(columns, one);
        json_object_set_new(methods, c->name, json_string(plan->column_method[i]));
    }
    for (int i = 0; i < BIF_PRUNE_METHODS; i++) {
        if (plan->method[i] != NULL) {
            json_object_set_new(methods, plan->method_name[i], json_string(plan->method[i]));
        }
    }
    if (o->columns > 0) {
        json_object_set(p, "columns", columns);
    }
    json_object_set_new(p, "methods", methods);
    json_decref(columns);
    return p;
}

static void drop_all(const table *t, const rules *r, bool *in, bif_selection *selection, bif_prune_result *out)
{
    bool *hit = bif_calloc((size_t)t->samples + 1, sizeof *hit);
    uint32_t *first = t->text != NULL ? bif_calloc((size_t)t->samples + 1, sizeof *first) : NULL;
    bif_drop *record = NULL, *by_sample = NULL;
    int64_t count = 0, used = 0;
    out->rows = r->count;
    out->row = bif_calloc((size_t)r->count + 1, sizeof *out->row);
    for (int64_t i = 0; i < r->count; i++) {
        double limit;
        out->row[i].alone = mark(t, &r->rule[i], in, hit, NULL, &limit);
    }
    uint16_t *reason = bif_calloc((size_t)t->samples + 1, sizeof *reason); /* 1 + a rule */
    for (int64_t i = 0; i < r->count; i++) {
        bif_prune_row *row = &out->row[i];
        row->reason = bif_strdup(r->rule[i].reason);
        row->dropped = mark(t, &r->rule[i], in, hit, first, &row->limit);
        count += row->dropped;
        for (int64_t s = 0; s < t->samples; s++) {
            if (hit[s]) {
                in[s] = false;
                reason[s] = (uint16_t)(i + 1);
            }
        }
    }
    record = by_sample = bif_calloc((size_t)count + 1, sizeof *record);
    for (int64_t s = 0; s < t->samples; s++) {
        if (reason[s] > 0) {
            const rule *why = &r->rule[reason[s] - 1];
            by_sample[used++] = (bif_drop){.sample = (uint64_t)s,
                                           .other = why->way == 'c' ? first[s] : BIF_NO_SAMPLE,
                                           .value = why->way == 'c' ? (float)why->limit : value_at(t, s, why->slot),
                                           .reason = (uint16_t)(reason[s] - 1)};
        }
    }
    const char **names = bif_calloc((size_t)r->count + 1, sizeof *names);
    for (int64_t i = 0; i < r->count; i++) {
        names[i] = r->rule[i].reason;
    }
    json_t *parameters = parameters_of(t->plan);
    bif_selection_add(selection, "prune", parameters, names, r->count, record, count);
    json_decref(parameters);
    free(names);
    free(record);
    free(reason);
    free(first);
    free(hit);
}

static void add_spread(const table *t, char *name, int64_t slot, const bool *in, bif_prune_result *out)
{
    bif_prune_spread spread = {.name = name};
    float *sorted = sorted_values(t, slot, in, &spread.samples);
    for (int q = 0; spread.samples > 0 && q < BIF_PRUNE_QUANTILES; q++) {
        spread.quantile[q] = sorted[spread.samples - 1 - (int64_t)(bif_prune_quantiles[q] * (double)(spread.samples - 1))];
    }
    free(sorted);
    out->spread = bif_realloc(out->spread, (size_t)out->spreads + 1, sizeof *out->spread);
    out->spread[out->spreads++] = spread;
}

static void show_all(const table *t, const bool *in, bif_prune_result *out)
{
    const bif_prune_plan *plan = t->plan;
    for (int m = 0; m < BIF_PRUNE_MEASURES; m++) {
        if (plan->slot[m] >= 0 && m != BIF_PRUNE_BY_MAIN_SCRIPT) {
            add_spread(t, bif_strdup(bif_prune_measure_names[m]), plan->slot[m], in, out);
        }
    }
    for (int64_t i = 0; i < plan->options->columns; i++) {
        add_spread(t, bif_strdup(plan->options->column[i].name), plan->first_score + 2 * i, in, out);
    }
    for (int64_t i = 0; i < t->samples; i++) {
        const float script = in[i] ? value_at(t, i, plan->slot[BIF_PRUNE_BY_MAIN_SCRIPT]) : NAN;
        if (script >= 0.0f) {
            out->script[(int)script]++;
        } else {
            out->no_script += in[i];
        }
    }
}

bif_status bif_prune(const bif_pool *pool, bif_selection *selection, const bif_prune_options *options, const bif_team *team,
                     bif_prune_result *out)
{
    bif_status st = BIF_OK;
    bif_prune_plan plan = {0};
    part mine = {.plan = &plan, .rank = team->rank};
    table all = {0};
    rules r = {0};
    char *bytes = NULL;
    size_t size = 0;
    *out = (bif_prune_result){0};
    clock_gettime(CLOCK_MONOTONIC, &mine.told);
    st = bif_prune_plan_make(pool, options, &plan);
    st = st == BIF_OK ? check_memory(&plan) : st;
    BIF_TRY(team->agree(team->context, st));
    BIF_TRY(team->share(team->context, pool->shards, measure_unit, &mine));
    if (team->world > 1) {
        team->gather(team->context, mine.bytes, mine.size, &bytes, &size);
        free(mine.bytes);
    } else { /* no copy */
        bytes = mine.bytes;
        size = mine.size;
    }
    mine.bytes = NULL;
    if (team->rank == 0) {
        unpack(&plan, bytes, size, &all);
        free(bytes);
        bytes = NULL;
        r = make_rules(&plan);
        out->before = bif_selection_kept(selection);
        bool *in = bif_malloc((size_t)all.samples * sizeof *in + 1);
        for (int64_t i = 0; i < all.samples; i++) {
            in[i] = bif_selection_times(selection)[i] > 0;
        }
        if (options->measure) {
            show_all(&all, in, out);
        } else {
            drop_all(&all, &r, in, selection, out);
        }
        out->after = bif_selection_kept(selection);
        free(in);
    }
done:
    for (int64_t i = 0; i < r.count; i++) {
        free(r.rule[i].reason);
    }
    free(r.rule);
    free(all.value);
    free(all.text);
    free(bytes);
    free(mine.bytes);
    bif_prune_plan_free(&plan);
    return st;
}

void bif_prune_result_free(bif_prune_result *result)
{
    for (int64_t i = 0; i < result->rows; i++) {
        free(result->row[i].reason);
    }
    for (int64_t i = 0; i < result->spreads; i++) {
        free(result->spread[i].name);
    }
    free(result->row);
    free(result->spread);
    *result = (bif_prune_result){0};
}
