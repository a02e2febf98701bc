#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/stats_parts.h"

int64_t *bif_stats_new_class(bif_stats_work *w, bif_stat_classes *classes, const char *name)
{
    classes->row = bif_realloc(classes->row, (size_t)classes->count + 1, sizeof *classes->row);
    bif_stat_class *row = &classes->row[classes->count++];
    *row = (bif_stat_class){bif_strdup(name), bif_calloc((size_t)w->stats->stages, sizeof *row->count)};
    return row->count;
}

int64_t *bif_stats_count_of(bif_stats_work *w, bif_stat_classes *classes, const char *name)
{
    for (int64_t i = classes->count; i-- > 0;) {
        if (strcmp(classes->row[i].name, name) == 0) {
            return classes->row[i].count;
        }
    }
    return bif_stats_new_class(w, classes, name);
}

static int by_count(const void *a, const void *b)
{
    const bif_stat_class *x = a, *y = b;
    return x->count[0] != y->count[0] ? (x->count[0] < y->count[0]) - (x->count[0] > y->count[0]) : strcmp(x->name, y->name);
}

/* Entries of level k or more, from entries of level k. */
static void sum_up(int64_t *count, int64_t stages, int64_t stride)
{
    for (int64_t k = stages - 1; k-- > 0;) {
        count[k * stride] += count[(k + 1) * stride];
    }
}

static void finish_classes(bif_stats_work *w, bif_stat_classes *classes)
{
    for (int64_t i = 0; i < classes->count; i++) {
        sum_up(classes->row[i].count, w->stats->stages, 1);
    }
    if (classes->count > 0) {
        qsort(classes->row, (size_t)classes->count, sizeof *classes->row, by_count);
    }
}

static int by_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int by_key(const void *a, const void *b)
{
    const bif_stats_keyed *x = a, *y = b;
    return x->key[0] != y->key[0] ? (x->key[0] > y->key[0]) - (x->key[0] < y->key[0]) : (x->key[1] > y->key[1]) - (x->key[1] < y->key[1]);
}

static int bin_of(double value)
{
    const int bin = value <= 1 ? 0 : (int)floor(2 * log2(value));
    return bin < BIF_STAT_BINS ? bin : BIF_STAT_BINS - 1;
}

double bif_stat_bin_start(int bin)
{
    return bin == 0 ? 0 : ceil(exp2(bin / 2.0));
}

static void finish_measure(bif_stats_work *w, int which)
{
    bif_stats_values *v = &w->measure[which];
    if (v->count > 0) {
        qsort(v->value, (size_t)v->count, sizeof *v->value, by_u64);
    }
    for (int64_t k = 0; k < w->stats->stages; k++) {
        bif_quantiles *q = &w->stats->measure[k][which];
        for (int64_t i = 0; i < v->count; i++) {
            q->count += (int64_t)(v->value[i] & 255) >= k;
        }
        const int64_t want[] = {0, (int64_t)((double)(q->count - 1) * 0.05), (q->count - 1) / 2, (int64_t)((double)(q->count - 1) * 0.95), q->count - 1};
        int64_t *const at[] = {&q->min, &q->p5, &q->median, &q->p95, &q->max};
        for (int64_t i = 0, place = 0; i < v->count; i++) {
            if ((int64_t)(v->value[i] & 255) < k) {
                continue;
            }
            const int64_t value = (int64_t)(v->value[i] >> 8);
            q->bins[bin_of((double)value)]++;
            for (int p = 0; p < 5; p++) {
                if (want[p] == place) {
                    *at[p] = value;
                }
            }
            place++;
        }
    }
}

/* How many contents there are, and how many members have a content of how many. */
static void finish_same(bif_stats_work *w, bif_stats_keyed *list, int64_t count, int stat, bif_stat_classes *classes)
{
    static const char *const names[] = {"once", "twice", "3 to 5 times", "6 to 20 times", "more often"};
    const int64_t stages = w->stats->stages;
    if (count > 0) {
        qsort(list, (size_t)count, sizeof *list, by_key);
    }
    for (int i = 0; classes != NULL && i < 5; i++) {
        bif_stats_count_of(w, classes, names[i]);
    }
    for (int64_t i = 0, end = 0; i < count; i = end) {
        for (end = i + 1; end < count && by_key(&list[i], &list[end]) == 0; end++) {
        }
        for (int64_t k = 0; k < stages; k++) {
            int64_t members = 0;
            for (int64_t j = i; j < end; j++) {
                members += list[j].level >= k;
            }
            w->stats->count[k][stat] += members > 0;
            if (classes != NULL && members > 0) {
                classes->row[members == 1 ? 0 : members == 2 ? 1 : members <= 5 ? 2 : members <= 20 ? 3 : 4].count[k] += members;
            }
        }
    }
}

typedef struct {
    int64_t entry, matches;
} ranked;

static int by_matches(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->matches != y->matches ? (x->matches < y->matches) - (x->matches > y->matches) : (x->entry > y->entry) - (x->entry < y->entry);
}

static void finish_concepts(bif_stats_work *w)
{
    bif_data_stats *s = w->stats;
    const int64_t n = s->concepts;
    s->concept = bif_calloc((size_t)s->stages, sizeof *s->concept);
    for (int64_t e = 0; e < n; e++) {
        sum_up(w->concept + e, s->stages, n);
    }
    for (int64_t k = 0; k < s->stages; k++) {
        const int64_t *matches = w->concept + k * n;
        s->concept[k].spread = bif_spread_of(matches, n);
        for (int64_t e = 0; e < n; e++) {
            s->concept[k].covered20 += matches[e] >= 20;
            s->concept[k].bins[bin_of((double)matches[e])]++;
        }
    }
    ranked *order = bif_malloc((size_t)n * sizeof *order);
    for (int64_t e = 0; e < n; e++) {
        order[e] = (ranked){e, w->concept[e]};
    }
    qsort(order, (size_t)n, sizeof *order, by_matches);
    for (int64_t i = 0; i < n && i < 30 && order[i].matches > 0; i++) {
        size_t size = 0;
        const char *name = bif_concepts_name(w->options->concepts, order[i].entry, &size);
        char *copy = strndup(name, size);
        int64_t *count = bif_stats_count_of(w, &s->top_concepts, copy != NULL ? copy : "?");
        for (int64_t k = 0; k < s->stages; k++) {
            count[k] = w->concept[k * n + order[i].entry];
        }
        free(copy);
    }
    free(order);
}

void bif_stats_finish(bif_stats_work *w)
{
    bif_data_stats *s = w->stats;
    for (int which = 0; which < BIF_MEASURES; which++) {
        finish_measure(w, which);
    }
    for (int stat = 0; stat < BIF_STATS; stat++) {
        sum_up(&s->count[0][stat], s->stages, BIF_STATS);
    }
    finish_same(w, w->images, w->image_count, BIF_STAT_DISTINCT_IMAGES, &s->same_images);
    finish_same(w, w->texts, w->text_count, BIF_STAT_DISTINCT_TEXTS, &s->same_texts);
    finish_same(w, w->pixels, w->pixel_count, BIF_STAT_DISTINCT_PIXELS, NULL);
    for (int64_t i = 0; i < w->words.room; i++) {
        for (int64_t k = 0; w->words.hash[i] != 0 && k <= w->words.level[i]; k++) {
            s->count[k][BIF_STAT_DISTINCT_WORDS]++;
        }
    }
    const int64_t vocabulary = w->token_level == NULL ? 0 : bif_tokenizer_vocab(w->options->tokenizer);
    for (int64_t i = 0; i < vocabulary; i++) {
        for (int64_t k = 0; k < w->token_level[i]; k++) {
            s->count[k][BIF_STAT_TOKENS_USED]++;
        }
    }
    finish_classes(w, &s->formats);
    finish_classes(w, &s->sources);
    finish_classes(w, &s->languages);
    finish_classes(w, &s->scripts);
    if (w->concept != NULL) {
        finish_concepts(w);
    }
    if (w->options->clusters != NULL) {
        s->clusters = bif_calloc((size_t)s->stages, sizeof *s->clusters);
        for (int64_t c = 0; c < w->clusters; c++) {
            sum_up(w->cluster + c, s->stages, w->clusters);
        }
        for (int64_t k = 0; k < s->stages && w->clusters > 0; k++) {
            s->clusters[k] = bif_spread_of(w->cluster + k * w->clusters, w->clusters);
        }
    }
    for (int64_t k = 0; k < s->stages; k++) {
        int64_t *count = s->count[k];
        const bif_selection *selection = w->options->selection;
        count[BIF_STAT_VISITS] = k == 0 ? count[BIF_STAT_SAMPLES] : bif_selection_get(selection, k - 1).after;
        if (w->no_pixels) {
            count[BIF_STAT_DISTINCT_PIXELS] = count[BIF_STAT_UNDECODABLE] = -1;
        }
        if (w->options->tokenizer == NULL) {
            count[BIF_STAT_TOKENS] = count[BIF_STAT_TOKENS_USED] = -1;
        }
    }
}

