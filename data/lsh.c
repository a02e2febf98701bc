#include "data/lsh.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "base/log.h"

enum { SAY_SECONDS = 5 };

typedef struct {
    uint64_t key;
    uint32_t number;
} entry;

typedef struct {
    const bif_minhash_args *args;
    int rows, bands, least; /* equal values that are needed */
    atomic_int next;
    atomic_llong found;
    atomic_bool full;
} job;

typedef struct {
    job *job;
    pthread_t thread;
    bool started, first;
    time_t said;
    bif_pairs pairs;
} worker;

int bif_minhash_rows(double jaccard)
{
    int rows = 1;
    for (int r = 2; r <= 32; r++) {
        if (1 - pow(1 - pow(jaccard, r), BIF_MINHASH_VALUES / r) >= 0.995) {
            rows = r;
        }
    }
    return rows;
}

int64_t bif_minhash_bytes(int64_t count, int threads)
{
    return 2 * (int64_t)sizeof(entry) * count * threads; /* glibc's qsort takes as much again */
}

static int compare(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : (x->number > y->number) - (x->number < y->number);
}

static bool same_band(const job *j, const uint32_t *a, const uint32_t *b, int band)
{
    return memcmp(a + band * j->rows, b + band * j->rows, (size_t)j->rows * sizeof *a) == 0;
}

static uint64_t group_of(const job *j, uint32_t number)
{
    return j->args->group != NULL ? j->args->group[number] : 0;
}

static void test(worker *w, int band, uint32_t x, uint32_t y)
{
    job *j = w->job;
    const uint32_t *a = j->args->signature + (int64_t)x * BIF_MINHASH_VALUES, *b = j->args->signature + (int64_t)y * BIF_MINHASH_VALUES;
    int same = 0;
    for (int i = 0; i < BIF_MINHASH_VALUES; i++) {
        same += a[i] == b[i];
    }
    if (same < j->least || group_of(j, x) != group_of(j, y)) {
        return;
    }
    for (int t = 0; t < band; t++) {
        if (same_band(j, a, b, t)) {
            return; /* found there */
        }
    }
    bif_pairs_add(&w->pairs, x, y, (float)same / BIF_MINHASH_VALUES);
    if (atomic_fetch_add(&j->found, 1) >= j->args->most) {
        atomic_store(&j->full, true);
    }
}

static void say(worker *w, int band, int64_t at)
{
    const time_t now = w->first ? time(NULL) : 0;
    if (now - w->said >= SAY_SECONDS) {
        const job *j = w->job;
        w->said = now;
        bif_info("near captions: band %d of %d, %.0f %% of it; %lld found by this rank", band + 1, j->bands,
                 100 * (double)at / (double)j->args->count, (long long)atomic_load(&j->found));
    }
}

static void run_band(worker *w, entry *entries, int band)
{
    const job *j = w->job;
    const int64_t n = j->args->count;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t *values = j->args->signature + i * BIF_MINHASH_VALUES + band * j->rows;
        entries[i] = (entry){XXH3_64bits_withSeed(values, (size_t)j->rows * sizeof *values, group_of(j, (uint32_t)i)), (uint32_t)i};
    }
    qsort(entries, (size_t)n, sizeof *entries, compare);
    for (int64_t i = 0; i < n; i++) {
        if (i % 256 == 0) {
            say(w, band, i);
        }
        for (int64_t k = i + 1; k < n && entries[k].key == entries[i].key && !atomic_load_explicit(&j->full, memory_order_relaxed); k++) {
            test(w, band, entries[i].number, entries[k].number);
        }
    }
}

static void *work_main(void *argument)
{
    worker *w = argument;
    job *j = w->job;
    entry *entries = bif_malloc((size_t)j->args->count * sizeof *entries);
    for (int k; (k = atomic_fetch_add(&j->next, 1) * j->args->parts + j->args->part) < j->bands && !atomic_load(&j->full);) {
        run_band(w, entries, k);
    }
    free(entries);
    return NULL;
}

bif_status bif_minhash_pairs(const bif_minhash_args *args, bif_pairs *out)
{
    const int threads = args->threads < 1 ? 1 : args->threads;
    if (args->count < 2) {
        return BIF_OK;
    }
    job j = {.args = args, .rows = bif_minhash_rows(args->jaccard), .least = (int)ceil(args->jaccard * BIF_MINHASH_VALUES - 1e-9)};
    j.bands = BIF_MINHASH_VALUES / j.rows;
    worker *workers = bif_calloc((size_t)threads, sizeof *workers);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < threads; i++) {
        workers[i].job = &j;
        workers[i].first = i == 0;
        workers[i].said = i == 0 ? time(NULL) : 0;
        workers[i].started = i > 0 && pthread_create(&workers[i].thread, NULL, work_main, &workers[i]) == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work_main(&workers[0]);
    for (int i = 0; i < threads; i++) {
        if (workers[i].started) {
            pthread_join(workers[i].thread, NULL);
        }
        for (int64_t k = 0; k < workers[i].pairs.count && !atomic_load(&j.full); k++) {
            const bif_pair *p = &workers[i].pairs.pair[k];
            bif_pairs_add(out, p->a, p->b, p->value);
        }
        bif_pairs_free(&workers[i].pairs);
    }
    free(workers);
    return atomic_load(&j.full) ? bif_fail(BIF_ERR_MEMORY, "more than %lld near captions: choose a higher --jaccard, or more memory",
                                           (long long)args->most)
                                : BIF_OK;
}
