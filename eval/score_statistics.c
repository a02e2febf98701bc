#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/rng.h"
#include "eval/score.h"

/* How often each item counts in draw `draw`: each cluster as often as it is drawn. */
static void draw_weights(const bif_score_set *set, int64_t draw, int32_t *cluster, int32_t *weight)
{
    uint32_t word[4];
    memset(cluster, 0, (size_t)set->clusters * sizeof *cluster);
    for (int32_t c = 0; c < set->clusters; c++) {
        if (c % 4 == 0) {
            bif_philox(0, BIF_RNG_BOOTSTRAP, (uint64_t)draw, (uint32_t)c / 4, word);
        }
        cluster[(uint64_t)word[c % 4] * (uint64_t)set->clusters >> 32]++;
    }
    for (int64_t i = 0; i < set->count; i++) {
        weight[i] = cluster[set->items[i].cluster_index];
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Of `count` numbers, NaN left out: the values below which 2.5 % and 97.5 % lie, between neighbours linearly. */
static void interval(double *values, int64_t count, double *low, double *high)
{
    int64_t used = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!isnan(values[i])) {
            values[used++] = values[i];
        }
    }
    *low = *high = NAN;
    if (used > 0) {
        qsort(values, (size_t)used, sizeof *values, by_value);
        const double at[2] = {0.025 * (double)(used - 1), 0.975 * (double)(used - 1)};
        double *const to[2] = {low, high};
        for (int k = 0; k < 2; k++) {
            const int64_t below = (int64_t)at[k], above = below + 1 < used ? below + 1 : below;
            *to[k] = values[below] + (at[k] - (double)below) * (values[above] - values[below]);
        }
    }
}

const bif_metric *bif_metric_named(const bif_metric_list *list, const char *name, size_t at)
{
    if (at < list->count && strcmp(list->items[at].name, name) == 0) {
        return &list->items[at];
    }
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) == 0) {
            return &list->items[i];
        }
    }
    return NULL;
}

bool bif_score_pairs(const bif_score_set *a, const bif_score_set *b)
{
    bool same = a->count == b->count;
    for (int64_t i = 0; i < a->count && same; i++) {
        same = bif_span_equal(a->items[i].id, b->items[i].id);
    }
    return same;
}

/* Draws of the metrics of b minus those of a (a NULL: of b alone), [metrics][draws]. */
static double *draws_of(const bif_score_set *a, const bif_score_set *b, int64_t draws, size_t metrics)
{
    double *values = bif_malloc(metrics * (size_t)draws * sizeof *values);
    int32_t *cluster = bif_calloc((size_t)b->clusters, sizeof *cluster), *weight = bif_calloc((size_t)b->count, sizeof *weight);
    bif_metric_list of_a = {0}, of_b = {0};
    time_t told = time(NULL);
    for (int64_t k = 0; k < draws; k++) {
        const time_t now = time(NULL);
        if (now != told) {
            told = now;
            bif_progress("bootstrap: %lld of %lld draws", (long long)k, (long long)draws);
        }
        draw_weights(b, k, cluster, weight);
        bif_score_summary(b, weight, &of_b);
        if (a != NULL) {
            bif_score_summary(a, weight, &of_a);
        }
        for (size_t m = 0; m < metrics; m++) {
            const bif_metric *other = a != NULL ? bif_metric_named(&of_b, of_a.items[m].name, m) : &of_b.items[m];
            values[m * (size_t)draws + (size_t)k] = other == NULL ? NAN : other->value - (a != NULL ? of_a.items[m].value : 0.0);
        }
    }
    bif_progress("%s", ""); /* the line is free for the scores */
    free(of_a.items);
    free(of_b.items);
    free(cluster);
    free(weight);
    return values;
}

void bif_score_bootstrap(const bif_score_set *set, int64_t draws, size_t metrics, double *low, double *high)
{
    double *values = draws_of(NULL, set, draws, metrics);
    for (size_t m = 0; m < metrics; m++) {
        interval(values + m * (size_t)draws, draws, &low[m], &high[m]);
    }
    free(values);
}

void bif_score_bootstrap_pair(const bif_score_set *a, const bif_score_set *b, int64_t draws, size_t metrics, double *low, double *high, double *share)
{
    BIF_BUG_IF(!bif_score_pairs(a, b), "%lld and %lld questions, not the same", (long long)a->count, (long long)b->count);
    double *values = draws_of(a, b, draws, metrics), below = 0.0, above = 0.0;
    for (int64_t k = 0; k < draws; k++) {
        below += values[k] < 0.0 ? 1.0 : values[k] == 0.0 ? 0.5 : 0.0;
        above += values[k] > 0.0 ? 1.0 : values[k] == 0.0 ? 0.5 : 0.0;
    }
    *share = 2.0 * ((below < above ? below : above) + 1.0) / (below + above + 1.0);
    *share = *share < 1.0 ? *share : 1.0;
    for (size_t m = 0; m < metrics; m++) {
        interval(values + m * (size_t)draws, draws, &low[m], &high[m]);
    }
    free(values);
}

double bif_score_mcnemar(const bif_score_set *a, const bif_score_set *b, int64_t *only_a, int64_t *only_b)
{
    *only_a = *only_b = 0;
    for (int64_t i = 0; i < a->count; i++) {
        const bool counts = !a->items[i].extra, right_a = counts && a->items[i].score >= 0.5, right_b = counts && b->items[i].score >= 0.5;
        *only_a += right_a && !right_b;
        *only_b += right_b && !right_a;
    }
    const int64_t n = *only_a + *only_b, k = *only_a < *only_b ? *only_a : *only_b;
    double tail = 0.0; /* binomial with one half, up to k */
    for (int64_t i = 0; i <= k; i++) {
        tail += exp(lgamma((double)n + 1.0) - lgamma((double)i + 1.0) - lgamma((double)(n - i) + 1.0) - (double)n * log(2.0));
    }
    return 2.0 * tail < 1.0 ? 2.0 * tail : 1.0;
}
