#include "data/hamming.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "data/hamming_tile.h"

#define SPEED_OF_PARTS 8 /* instead of the processor's: ranks may run on several kinds, and all must cut the work alike */

enum { BLOCK = 1024, MOST_SLOTS = 32, MOST_WIDTH = 20, MOST_RADIUS = 3, MOST_MASKS = 1351, SAY_SECONDS = 5 };

typedef struct {
    int first, width, radius; /* bits [first, first + width) */
} slot;

typedef struct {
    slot slots[MOST_SLOTS];
    int count; /* 0: tiles */
} plan;

/* A set sorted by the value of a slot; of tiles, as it came. */
typedef struct {
    bif_planes planes;
    uint32_t *order; /* [count] number of the hash at a place */
    int64_t *start;  /* [2^width + 1] places of a value */
} side;

typedef struct job job;
typedef struct {
    job *job;
    pthread_t thread;
    bool started, first;
    bif_hits hits;
    bif_pairs pairs;
} worker;

struct job {
    const bif_hamming_args *args;
    const bif_tile_isa *isa;
    const plan *plan;
    int now; /* the slot at work */
    side a, b;
    const side *other; /* &b, or &a within a set */
    uint32_t masks[MOST_MASKS];
    int mask_count;
    uint64_t *work; /* [2^width + 1] tests of all rows before those of a value */
    int64_t units;
    void (*run)(worker *worker, int64_t unit);
    atomic_llong next, found;
    atomic_bool full;
    time_t said;
};

const char *bif_hamming_isa(void)
{
    return bif_tile_choose()->name;
}

/* ---- slots ---- */
static uint32_t value_of(const uint64_t *hash, const slot *s)
{
    const int word = s->first >> 6, shift = s->first & 63;
    uint64_t value = hash[word] >> shift;
    if (shift + s->width > 64) {
        value |= hash[word + 1] << (64 - shift);
    }
    return (uint32_t)(value & ((1u << s->width) - 1));
}

/* All numbers of `width` bits with at most `radius` bits set, 0 first. */
static int make_masks(int width, int radius, uint32_t masks[MOST_MASKS])
{
    int count = 1, before = 0;
    masks[0] = 0;
    for (int r = 1; r <= radius; r++) {
        const int end = count;
        for (int i = before; i < end; i++) {
            for (int bit = masks[i] ? 32 - __builtin_clz(masks[i]) : 0; bit < width; bit++) {
                masks[count++] = masks[i] | 1u << bit;
            }
        }
        before = end;
    }
    return count;
}

static bool cut(int bits, int distance, int width, plan *out)
{
    int count = bits / width;
    count = count > distance + 1 ? distance + 1 : count;
    if (count > MOST_SLOTS || (distance + 1 + count - 1) / count - 1 > MOST_RADIUS) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        out->slots[i] = (slot){i * width, width, (distance + 1) / count - 1 + (i < (distance + 1) % count)};
    }
    out->count = count;
    return true;
}

/* Units of time: a test costs 1 / speed, a row against a value's hashes 1 more, a value without any 0.3, a row's sorting 10. */
static double guess(const plan *p, double a, double b, bool within, double speed, uint32_t masks[MOST_MASKS])
{
    double sum = 0;
    for (int i = 0; i < p->count; i++) {
        const double values = (double)(1u << p->slots[i].width), share = b / values;
        const double near = make_masks(p->slots[i].width, p->slots[i].radius, masks);
        sum += (within ? 0.5 : 1) * a * near * ((share < 1 ? share : 1) + share / speed) + 0.3 * near * (a < values ? a : values) +
               10 * (a + b);
    }
    return sum;
}

/* work[v] for all v: tests of the rows below value v. */
static void count_work(const int64_t *a, const int64_t *b, bool within, int width, const uint32_t *masks, int mask_count, uint64_t *work)
{
    const uint32_t values = 1u << width;
    work[0] = 0;
    for (uint32_t v = 0; v < values; v++) {
        const uint64_t rows = (uint64_t)(a[v + 1] - a[v]);
        uint64_t near = 0;
        for (int k = 0; rows > 0 && k < mask_count; k++) {
            const uint32_t other = v ^ masks[k];
            near += within && other < v ? 0 : (uint64_t)(b[other + 1] - b[other]);
        }
        work[v + 1] = work[v] + rows * near;
    }
}

static void count_values(const bif_hashes *set, int words, const slot *s, int64_t *start)
{
    const uint32_t values = 1u << s->width;
    memset(start, 0, (values + 1) * sizeof *start);
    for (int64_t i = 0; i < set->count; i++) {
        start[value_of(set->bits + i * words, s) + 1]++;
    }
    for (uint32_t v = 0; v < values; v++) {
        start[v + 1] += start[v];
    }
}

static void choose(job *j, plan *best)
{
    const bif_hamming_args *args = j->args;
    const bool within = args->b.bits == NULL;
    const double speed = args->parts > 1 ? SPEED_OF_PARTS : j->isa->speed;
    const double a = (double)args->a.count, b = within ? a : (double)args->b.count;
    const double tiles = (within ? 0.5 : 1) * a * b / speed + a;
    double least = args->way == BIF_HAMMING_SLOTS ? 1e300 : tiles;
    best->count = 0;
    for (int width = 8; width <= MOST_WIDTH && args->way != BIF_HAMMING_TILES; width++) {
        plan p = {0};
        if (!cut(64 * args->words, args->distance, width, &p)) {
            continue;
        }
        const double cost = guess(&p, a, b, within, speed, j->masks);
        if (cost < least) {
            least = cost;
            *best = p;
        }
    }
    double real = 0; /* the guess took the values for evenly used */
    for (int i = 0; i < best->count && args->way == BIF_HAMMING_AUTO; i++) {
        const slot *s = &best->slots[i];
        count_values(&args->a, args->words, s, j->a.start);
        if (!within) {
            count_values(&args->b, args->words, s, j->b.start);
        }
        j->mask_count = make_masks(s->width, s->radius, j->masks);
        count_work(j->a.start, j->other->start, within, s->width, j->masks, j->mask_count, j->work);
        real += (double)j->work[1u << s->width] / speed;
    }
    if (real > tiles) {
        best->count = 0;
    }
}

/* ---- sides ---- */
static void side_new(side *s, int words, int64_t count)
{
    for (int k = 0; k < words; k++) {
        s->planes.plane[k] = bif_malloc(((size_t)count + 8) * sizeof(uint64_t));
        memset(s->planes.plane[k] + count, 0, 8 * sizeof(uint64_t));
    }
    s->order = bif_malloc((size_t)count * sizeof *s->order + 1);
    s->start = bif_malloc(((1u << MOST_WIDTH) + 1) * sizeof *s->start);
}

static void side_free(side *s)
{
    for (int k = 0; k < 4; k++) {
        free(s->planes.plane[k]);
    }
    free(s->order);
    free(s->start);
}

static int64_t side_bytes(int words, int64_t count)
{
    return count * (words * 8 + 4) + words * 64 + (((int64_t)1 << MOST_WIDTH) + 1) * 8;
}

int64_t bif_hamming_bytes(int words, int64_t a_count, int64_t b_count)
{
    return side_bytes(words, a_count) + (b_count > 0 ? side_bytes(words, b_count) : 0) + (((int64_t)1 << MOST_WIDTH) + 1) * 8;
}

static void side_fill(side *s, const bif_hashes *set, int words)
{
    for (int64_t i = 0; i < set->count; i++) {
        const uint64_t *hash = set->bits + (int64_t)s->order[i] * words;
        for (int k = 0; k < words; k++) {
            s->planes.plane[k][i] = hash[k];
        }
    }
}

static void side_sort(side *s, const bif_hashes *set, int words, const slot *by)
{
    count_values(set, words, by, s->start);
    for (int64_t i = 0; i < set->count; i++) {
        s->order[s->start[value_of(set->bits + i * words, by)]++] = (uint32_t)i;
    }
    memmove(s->start + 1, s->start, (1u << by->width) * sizeof *s->start); /* each start is now its value's end */
    s->start[0] = 0;
    side_fill(s, set, words);
}

static void side_plain(side *s, const bif_hashes *set, int words)
{
    for (int64_t i = 0; i < set->count; i++) {
        s->order[i] = (uint32_t)i;
    }
    side_fill(s, set, words);
}

/* ---- tests ---- */
/* Whether an earlier slot shows the pair, too. */
static bool seen(const job *j, const uint64_t *a, const uint64_t *b)
{
    for (int i = 0; i < j->now; i++) {
        const slot *s = &j->plan->slots[i];
        if (__builtin_popcount(value_of(a, s) ^ value_of(b, s)) <= s->radius) {
            return true;
        }
    }
    return false;
}

static void take_hits(worker *w)
{
    job *j = w->job;
    const bif_hamming_args *args = j->args;
    const bif_hashes *b = args->b.bits == NULL ? &args->a : &args->b;
    const int64_t before = w->pairs.count;
    for (int64_t i = 0; i < w->hits.pairs.count; i++) {
        const bif_pair *hit = &w->hits.pairs.pair[i];
        const uint32_t x = j->a.order[hit->a], y = j->other->order[hit->b];
        if (!seen(j, args->a.bits + (int64_t)x * args->words, b->bits + (int64_t)y * args->words)) {
            bif_pairs_add(&w->pairs, x, args->b_first + y, hit->value);
        }
    }
    w->hits.pairs.count = 0;
    const int64_t more = w->pairs.count - before;
    if (more > 0 && atomic_fetch_add(&j->found, more) + more > args->most) {
        atomic_store(&j->full, true);
    }
}

static void test_rows(worker *w, int64_t a0, int64_t a1, int64_t b0, int64_t b1, bool triangle)
{
    const job *j = w->job;
    bif_tile t = {.a = &j->a.planes, .b = &j->other->planes, .words = j->args->words, .distance = (uint64_t)j->args->distance};
    for (int64_t c0 = b0; c0 < b1 && !atomic_load_explicit(&j->full, memory_order_relaxed); c0 += BLOCK) {
        t.b0 = c0;
        t.b1 = c0 + BLOCK < b1 ? c0 + BLOCK : b1;
        t.a0 = a0;
        t.a1 = triangle && c0 < a1 ? c0 : a1;
        t.triangle = false;
        if (t.a0 < t.a1) {
            j->isa->test(&t, &w->hits);
        }
        t.a0 = a0 > t.b0 ? a0 : t.b0;
        t.a1 = a1 < t.b1 ? a1 : t.b1;
        t.triangle = true;
        if (triangle && t.a0 < t.a1) {
            j->isa->test(&t, &w->hits);
        }
        if (w->hits.pairs.count > 0) {
            take_hits(w);
        }
    }
}

static void run_tiles(worker *w, int64_t unit)
{
    const job *j = w->job;
    const int64_t first = (unit * j->args->parts + j->args->part) * BLOCK, n = j->args->a.count;
    const int64_t end = first + BLOCK < n ? first + BLOCK : n;
    const bool within = j->args->b.bits == NULL;
    test_rows(w, first, end, within ? first : 0, within ? n : j->args->b.count, within);
}

/* The last value whose number is at most x, in rising numbers[values + 1]. */
static uint32_t find_value(const uint64_t *numbers, uint32_t values, uint64_t x)
{
    uint32_t low = 0, high = values;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        *(numbers[middle] <= x ? &low : &high) = middle;
    }
    return low;
}

/* The first row of a that is not among the first k of n equal shares of the work. */
static int64_t row_at(const job *j, int64_t k, int64_t n)
{
    const uint32_t values = 1u << j->plan->slots[j->now].width;
    const uint64_t all = j->work[values], work = (uint64_t)((unsigned __int128)all * (uint64_t)k / (uint64_t)n);
    if (k == n || work == all) {
        return j->args->a.count;
    }
    const uint32_t v = find_value(j->work, values, work);
    const uint64_t rows = (uint64_t)(j->a.start[v + 1] - j->a.start[v]);
    return j->a.start[v] + (int64_t)((work - j->work[v]) / ((j->work[v + 1] - j->work[v]) / rows));
}

static void run_slot(worker *w, int64_t unit)
{
    const job *j = w->job;
    const int64_t share = j->args->part * j->units + unit, shares = j->units * j->args->parts;
    const int64_t first = row_at(j, share, shares), end = row_at(j, share + 1, shares);
    const bool within = j->args->b.bits == NULL;
    const uint32_t values = 1u << j->plan->slots[j->now].width;
    uint32_t v = first < end ? find_value((const uint64_t *)j->a.start, values, (uint64_t)first) : values;
    for (; v < values && j->a.start[v] < end; v++) {
        const int64_t a0 = j->a.start[v] > first ? j->a.start[v] : first, a1 = j->a.start[v + 1] < end ? j->a.start[v + 1] : end;
        for (int k = 0; a0 < a1 && k < j->mask_count; k++) {
            const uint32_t other = v ^ j->masks[k];
            if (within && other < v) {
                continue;
            }
            const int64_t b0 = j->other->start[other], b1 = j->other->start[other + 1];
            for (int64_t r = a0; b0 < b1 && r < a1; r += BLOCK) {
                test_rows(w, r, r + BLOCK < a1 ? r + BLOCK : a1, b0, b1, within && k == 0);
            }
        }
    }
}

/* ---- threads ---- */
static void say(job *j, int64_t unit)
{
    const time_t now = time(NULL);
    if (now - j->said >= SAY_SECONDS) {
        const int slots = j->plan->count ? j->plan->count : 1;
        j->said = now;
        bif_info("near pairs: %.0f %%, %lld found by this rank", 100 * (j->now + (double)unit / (double)j->units) / slots,
                 (long long)atomic_load(&j->found));
    }
}

static void *work_main(void *argument)
{
    worker *w = argument;
    job *j = w->job;
    for (int64_t unit; !atomic_load(&j->full) && (unit = atomic_fetch_add(&j->next, 1)) < j->units;) {
        j->run(w, unit);
        if (w->first) {
            say(j, unit);
        }
    }
    return NULL;
}

static void run_units(job *j, worker *workers, int threads)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
    atomic_store(&j->next, 0);
    for (int i = 1; i < threads; i++) {
        workers[i].started = pthread_create(&workers[i].thread, NULL, work_main, &workers[i]) == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work_main(&workers[0]);
    for (int i = 1; i < threads; i++) {
        if (workers[i].started) {
            pthread_join(workers[i].thread, NULL);
        }
    }
}

bif_status bif_hamming_pairs(const bif_hamming_args *args, bif_pairs *out)
{
    BIF_BUG_IF((args->words != 1 && args->words != 4) || args->distance < 0 || args->part < 0 || args->part >= args->parts,
               "hamming: %d words, distance %d, part %d of %d", args->words, args->distance, args->part, args->parts);
    const bool within = args->b.bits == NULL;
    const int threads = args->threads < 1 ? 1 : args->threads;
    if (args->a.count < 1 || (!within && args->b.count < 1)) {
        return BIF_OK;
    }
    bif_status st = BIF_OK;
    plan chosen = {0};
    job *j = bif_calloc(1, sizeof *j);
    worker *workers = bif_calloc((size_t)threads, sizeof *workers);
    *j = (job){.args = args, .isa = bif_tile_choose(), .plan = &chosen, .said = time(NULL)};
    j->other = within ? &j->a : &j->b;
    j->work = bif_malloc(((1u << MOST_WIDTH) + 1) * sizeof *j->work);
    side_new(&j->a, args->words, args->a.count);
    if (!within) {
        side_new(&j->b, args->words, args->b.count);
    }
    for (int i = 0; i < threads; i++) {
        workers[i].job = j;
        workers[i].first = i == 0;
    }
    choose(j, &chosen);
    if (chosen.count == 0) {
        const int64_t blocks = (args->a.count + BLOCK - 1) / BLOCK;
        side_plain(&j->a, &args->a, args->words);
        if (!within) {
            side_plain(&j->b, &args->b, args->words);
        }
        j->units = (blocks - args->part + args->parts - 1) / args->parts;
        j->run = run_tiles;
        run_units(j, workers, threads);
    }
    for (; j->now < chosen.count && !atomic_load(&j->full); j->now++) {
        const slot *s = &chosen.slots[j->now];
        side_sort(&j->a, &args->a, args->words, s);
        if (!within) {
            side_sort(&j->b, &args->b, args->words, s);
        }
        j->mask_count = make_masks(s->width, s->radius, j->masks);
        count_work(j->a.start, j->other->start, within, s->width, j->masks, j->mask_count, j->work);
        j->units = 64 * threads;
        j->run = run_slot;
        run_units(j, workers, threads);
    }
    if (atomic_load(&j->full)) {
        st = bif_fail(BIF_ERR_MEMORY, "more than %lld near pairs: choose a smaller distance, or more memory", (long long)args->most);
    }
    for (int i = 0; i < threads; i++) {
        for (int64_t k = 0; st == BIF_OK && k < workers[i].pairs.count; k++) {
            const bif_pair *p = &workers[i].pairs.pair[k];
            bif_pairs_add(out, p->a, p->b, p->value);
        }
        bif_pairs_free(&workers[i].pairs);
        bif_pairs_free(&workers[i].hits.pairs);
    }
    side_free(&j->a);
    side_free(&j->b);
    free(j->work);
    free(j);
    free(workers);
    return st;
}
