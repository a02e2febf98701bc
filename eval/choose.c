#include "eval/choose.h"

#include <math.h>
#include <stdlib.h>

double bif_log_sum_exp(const float *logits, int64_t count)
{
    double most = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < count; i++) {
        most = (double)logits[i] > most ? (double)logits[i] : most;
    }
    for (int64_t i = 0; i < count; i++) {
        sum += isnan(logits[i]) ? 0.0 : exp((double)logits[i] - most);
    }
    return most + log(sum);
}

static bool worse(const bif_candidate *a, const bif_candidate *b)
{
    return a->score != b->score ? a->score < b->score : a->index > b->index;
}

static int best_first(const void *a, const void *b)
{
    return worse(a, b) ? 1 : -1; /* indices differ */
}

/* A heap with the worst on top. */
static void sift(bif_candidate *heap, int64_t n)
{
    for (int64_t at = 0, child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && worse(&heap[child + 1], &heap[child]);
        if (!worse(&heap[child], &heap[at])) {
            return;
        }
        const bif_candidate swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
    }
}

/* Keeps the `most` best in a heap. */
static void offer(bif_candidate *heap, int64_t *n, int64_t most, bif_candidate c)
{
    if (*n == most) {
        if (worse(&heap[0], &c)) {
            heap[0] = c;
            sift(heap, *n);
        }
        return;
    }
    int64_t at = (*n)++;
    for (heap[at] = c; at > 0 && worse(&heap[at], &heap[(at - 1) / 2]); at = (at - 1) / 2) {
        const bif_candidate swap = heap[at];
        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = swap;
    }
}

int64_t bif_top(const double *score, int64_t count, int64_t most, bif_candidate *out)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        if (score[i] > -INFINITY) {
            offer(out, &n, most, (bif_candidate){score[i], i});
        }
    }
    qsort(out, (size_t)n, sizeof *out, best_first);
    return n;
}

int64_t bif_sample_from(const float *logits, int64_t count, const bif_decoding *d, bif_candidate *out)
{
    double most = -INFINITY, sum = 0.0;
    int64_t n = 0;
    const double heat = d->temperature > 0.0 ? d->temperature : 1.0, share = d->top_p > 0.0 ? d->top_p : 1.0;
    for (int64_t i = 0; i < count; i++) {
        most = (double)logits[i] > most ? (double)logits[i] : most;
    }
    if (!isfinite(most)) {
        return 0;
    }
    for (int64_t i = 0; i < count; i++) {
        sum += isnan(logits[i]) ? 0.0 : exp(((double)logits[i] - most) / heat);
    }
    /* Tokens below this make up less than 1 - share together, however many they are: the likeliest that reach the share are not among them,
     * and need not be sorted with them. */
    const double least = d->top_k > 0 ? 0.0 : (1.0 - share) / (double)count;
    for (int64_t i = 0; i < count; i++) {
        const double p = isnan(logits[i]) ? 0.0 : exp(((double)logits[i] - most) / heat) / sum;
        if (p <= 0.0 || p < least) {
            continue;
        }
        if (d->top_k > 0) {
            offer(out, &n, d->top_k, (bif_candidate){p, i});
        } else {
            out[n++] = (bif_candidate){p, i};
        }
    }
    qsort(out, (size_t)n, sizeof *out, best_first);
    double all = 0.0, kept = 0.0;
    for (int64_t i = 0; i < n; i++) {
        all += out[i].score;
    }
    const double wanted = share * (d->top_k > 0 ? all : 1.0);
    int64_t end = 0;
    while (end < n && (share >= 1.0 || kept < wanted)) {
        kept += out[end++].score;
    }
    for (int64_t i = 0; i < end; i++) {
        out[i].score /= kept;
    }
    return end;
}

int64_t bif_sample(const float *logits, int64_t count, const bif_decoding *decoding, double uniform, bif_candidate *scratch)
{
    const int64_t n = bif_sample_from(logits, count, decoding, scratch);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += scratch[i].score;
        if (uniform < sum) {
            return scratch[i].index;
        }
    }
    return n > 0 ? scratch[n - 1].index : 0;
}
