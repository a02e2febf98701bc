#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "data/balance.h"

static uint32_t draw(uint32_t *state)
{
    uint32_t word[4];
    bif_philox(11, BIF_RNG_TEST, (*state)++, 0, word);
    return word[0];
}

Test(balance, probability_is_metaclips)
{
    const double t[] = {1, 20, 20000, 170000, 0.5, 12345.678}, count[] = {0, 1, 19, 20, 21, 20000, 1e6, 123456789, 9e15};
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 9; k++) {
            const long double want = (long double)t[i] / fmaxl((long double)count[k], (long double)t[i]);
            cr_assert(fabsl((long double)bif_balance_probability(t[i], count[k]) - want) <= 1e-12L * want, "t %g, count %g", t[i],
                      count[k]);
        }
    }
}

/* Over samples, over names and over seeds: 64 equal boxes each, chi-squared with 63 degrees of freedom (mean 63, deviation 11.2); and the
 * draws of two names of one sample are independent. */
Test(balance, draws_are_uniform_and_independent)
{
    enum { BOXES = 64, N = 200000 };
    for (int by = 0; by < 4; by++) {
        int64_t box[BOXES] = {0}, pair[16] = {0};
        double before = 0, sum = 0;
        for (uint64_t i = 0; i < N; i++) {
            const uint64_t uid[2] = {by == 0 ? i : 7, by == 1 ? i << 32 : 9};
            const double u = bif_balance_draw(by == 3 ? i : 1, uid, by == 2 ? i : 3);
            cr_assert(u >= 0 && u < 1);
            box[(int)(u * BOXES)]++;
            pair[4 * (int)(before * 4) + (int)(u * 4)]++;
            before = u;
            sum += u;
        }
        double chi = 0, chi_pair = 0;
        for (int k = 0; k < BOXES; k++) {
            chi += pow((double)box[k] - (double)N / BOXES, 2) / ((double)N / BOXES);
        }
        for (int k = 0; k < 16; k++) {
            chi_pair += pow((double)pair[k] - N / 16.0, 2) / (N / 16.0);
        }
        cr_assert(chi > 25 && chi < 110, "kind %d: chi-squared %g of 63", by, chi);
        cr_assert(chi_pair < 45, "kind %d: pairs: chi-squared %g of 15", by, chi_pair);
        cr_assert(fabs(sum / N - 0.5) < 0.003);
    }
    const uint64_t a[2] = {1, 2}, b[2] = {2, 1};
    cr_assert_neq(bif_balance_draw(0, a, 0), bif_balance_draw(0, b, 0));
}

/* By trying: the greatest x with sum min(x, most) <= size; the quotas without what is left over. */
static int64_t equal_quotas(const int64_t *most, int64_t count, int64_t size, int64_t *equal)
{
    for (int64_t x = 0;; x++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < count; i++) {
            equal[i] = most[i] < x ? most[i] : x;
            sum += most[i] < x + 1 ? most[i] : x + 1;
        }
        if (sum > size || x >= size) {
            return x;
        }
    }
}

Test(balance, quotas_are_the_least_unequal)
{
    enum { GROUPS = 40 };
    uint32_t state = 0;
    for (int round = 0; round < 400; round++) {
        bif_balance_part part[GROUPS];
        int64_t most[GROUPS], quota[GROUPS], equal[GROUPS], all = 0, reach = 0;
        const int64_t count = 1 + draw(&state) % GROUPS;
        for (int64_t i = 0; i < count; i++) {
            most[i] = draw(&state) % (round % 2 ? 12 : 100000);
            part[i] = (bif_balance_part){1, most[i], draw(&state)};
            all += most[i];
        }
        const int64_t size = all > 0 ? draw(&state) % (all + 1) : 0;
        cr_assert(bif_balance_quotas(part, count, size, quota, &reach));
        cr_assert_eq(reach, all);
        cr_assert_not(bif_balance_quotas(part, count, all + 1, equal, NULL));
        const int64_t x = equal_quotas(most, count, size, equal);
        int64_t sum = 0;
        for (int64_t i = 0; i < count; i++) {
            cr_assert(quota[i] == equal[i] || (most[i] > x && quota[i] >= x && quota[i] <= x + 1), "group %lld: %lld, not %lld",
                      (long long)i, (long long)quota[i], (long long)equal[i]);
            sum += quota[i];
        }
        cr_assert_eq(sum, size);
        /* With strengths: who is not full gets in proportion, to one sample. */
        for (int64_t i = 0; i < count; i++) {
            part[i].strength = pow((double)most[i], 0.5) * (1 + draw(&state) % 3);
        }
        cr_assert(bif_balance_quotas(part, count, size, quota, NULL));
        double least = INFINITY, greatest = 0;
        sum = 0;
        for (int64_t i = 0; i < count; i++) {
            sum += quota[i];
            cr_assert(quota[i] >= 0 && quota[i] <= most[i]);
            if (quota[i] < most[i]) {
                least = fmin(least, (double)(quota[i] + 1) / part[i].strength);
                greatest = fmax(greatest, (double)(quota[i] - 1) / part[i].strength);
            }
        }
        cr_assert_eq(sum, size);
        cr_assert(greatest <= least, "round %d", round);
        for (int64_t i = 0; i < count; i++) { /* who is full would get no less */
            cr_assert(quota[i] < most[i] || most[i] == 0 || (double)(quota[i] - 1) / part[i].strength <= least * (1 + 1e-12));
        }
    }
}

/* ---- over a pool: bif_balance_concepts on shards of 20,000 captions with planted concepts ---- */
enum { SAMPLES = 20000, SHARDS = 3, ENTRIES = 60 };

typedef struct {
    char folder[64];
    bif_pool pool;
    bif_selection *selection;
    bif_concepts *concepts;
    bif_team team;
    int entry_of[SAMPLES][4]; /* -1: none */
} fixture;

static void open_fixture(fixture *f)
{
    char *path[SHARDS], names[ENTRIES][16];
    const char *entry[ENTRIES];
    size_t size[ENTRIES];
    uint32_t state = 1000;
    strcpy(f->folder, "/tmp/balance-XXXXXX");
    cr_assert_not_null(mkdtemp(f->folder));
    for (int e = 0; e < ENTRIES; e++) {
        sprintf(names[e], "concept %d", e);
        entry[e] = names[e];
        size[e] = strlen(names[e]);
    }
    cr_assert_eq(bif_concepts_make("list", entry, size, ENTRIES, false, 1 << 24, &f->concepts), BIF_OK);
    for (int s = 0, i = 0; s < SHARDS; s++) {
        bif_shard_writer *writer = NULL;
        path[s] = bif_format("%s/%d.h5", f->folder, s);
        cr_assert_eq(bif_shard_writer_open(path[s], &writer), BIF_OK);
        int64_t picture = 0;
        cr_assert_eq(bif_shard_add_image(writer, "picture", 7, BIF_IMAGE_PNG, 1, 1, &picture), BIF_OK);
        for (; i < (s + 1) * SAMPLES / SHARDS || (s + 1 == SHARDS && i < SAMPLES); i++) {
            char text[200], id[16];
            int n = sprintf(text, "{\"caption\":\"number %d", i);
            for (int k = 0; k < 4; k++) { /* a skewed choice: the first concepts are in most captions */
                const double u = (draw(&state) >> 8) * 0x1p-24;
                int e = k < 3 && draw(&state) % 4 ? (int)(ENTRIES * u * u * u * u) : -1;
                for (int j = 0; j < k; j++) {
                    e = f->entry_of[i][j] == e ? -1 : e;
                }
                f->entry_of[i][k] = e;
                n += e >= 0 ? sprintf(text + n, ", concept %d", e) : 0;
            }
            n += sprintf(text + n, "\"}");
            sprintf(id, "%d", i);
            cr_assert_eq(bif_shard_add_sample(writer, text, (size_t)n, id, "test", &picture, i % 5 > 0), BIF_OK);
        }
        cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK);
    }
    cr_assert_eq(bif_pool_open((const char *const *)path, SHARDS, &f->pool), BIF_OK);
    f->selection = bif_selection_new(&f->pool);
    f->team = bif_team_alone(1);
    for (int s = 0; s < SHARDS; s++) {
        free(path[s]);
    }
}

static void close_fixture(fixture *f)
{
    char *command = bif_format("rm -r %s", f->folder);
    cr_assert_eq(system(command), 0);
    free(command);
    bif_selection_free(f->selection);
    bif_pool_close(&f->pool);
    bif_concepts_free(f->concepts);
}

static fixture fix;

static bif_balance_concepts_result balance(bif_balance_by_concepts by)
{
    bif_balance_concepts_result result;
    by.concepts = fix.concepts;
    by.memory = 1 << 30;
    cr_assert_eq(bif_balance_concepts(&by, &fix.pool, fix.selection, &fix.team, &result), BIF_OK, "%s", bif_error_message());
    return result;
}

Test(balance, keeps_with_the_chance_of_the_closed_form)
{
    open_fixture(&fix);
    const double t = 150;
    double count[ENTRIES] = {0}, want = 0, variance = 0;
    for (int i = 0; i < SAMPLES; i++) {
        for (int k = 0; k < 4; k++) {
            if (fix.entry_of[i][k] >= 0) {
                count[fix.entry_of[i][k]]++;
            }
        }
    }
    for (int i = 0; i < SAMPLES; i++) {
        double none = 1;
        for (int k = 0; k < 4; k++) {
            none *= fix.entry_of[i][k] >= 0 ? 1 - t / fmax(count[fix.entry_of[i][k]], t) : 1;
        }
        want += 1 - none;
        variance += none * (1 - none);
    }
    double sum = 0;
    const int seeds = 12;
    for (int seed = 0; seed < seeds; seed++) {
        bif_balance_concepts_result r = balance((bif_balance_by_concepts){.t = t, .seed = (uint64_t)seed});
        for (int e = 0; e < ENTRIES; e++) {
            cr_assert_eq(r.pool[e], count[e], "concept %d: %g matches, not %g", e, r.pool[e], count[e]);
            cr_assert_leq(r.after[e], r.pool[e]);
        }
        cr_assert(fabs(r.expected - want) < 1e-6 * want, "%.9g, not %.9g", r.expected, want);
        cr_assert_eq(r.outcome.after, SAMPLES - r.outcome.count);
        cr_assert(fabs((double)r.outcome.after - want) < 5 * sqrt(variance), "seed %d: %lld stay, mean %g, deviation %g", seed,
                  (long long)r.outcome.after, want, sqrt(variance));
        sum += (double)r.outcome.after;
        bif_balance_concepts_free(&r);
    }
    cr_assert(fabs(sum / seeds - want) < 4 * sqrt(variance / seeds), "mean of %d seeds %g, not %g +- %g", seeds, sum / seeds, want,
              sqrt(variance / seeds));
    close_fixture(&fix);
}

Test(balance, solves_for_a_size)
{
    open_fixture(&fix);
    bif_balance_concepts_result all = balance((bif_balance_by_concepts){.t = 1e9});
    const int64_t matched = SAMPLES - all.unmatched;
    cr_assert(all.unmatched > 0 && all.outcome.after == matched);
    cr_assert(fabs(all.expected - (double)matched) < 1e-6);
    bif_balance_concepts_free(&all);
    const int64_t sizes[] = {1, 7, 100, 999, 5000, 10000, matched - 1, matched};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bif_balance_concepts_result exact = balance((bif_balance_by_concepts){.size = sizes[i], .seed = 3});
        cr_assert_eq(exact.outcome.after, sizes[i], "%lld, not %lld", (long long)exact.outcome.after, (long long)sizes[i]);
        bif_balance_concepts_result again = balance((bif_balance_by_concepts){.t = exact.t, .seed = 3});
        cr_assert_eq(again.outcome.count, exact.outcome.count);
        cr_assert_arr_eq(again.outcome.records, exact.outcome.records, (size_t)exact.outcome.count * sizeof(bif_drop));
        bif_balance_concepts_result mean = balance((bif_balance_by_concepts){.size = sizes[i], .expected = true, .seed = 3});
        bif_balance_concepts_result other = balance((bif_balance_by_concepts){.size = sizes[i], .expected = true, .seed = 4});
        cr_assert(fabs(mean.expected - (double)sizes[i]) <= 1e-5 * (double)sizes[i] + 1e-6, "mean %.9g, not %lld", mean.expected,
                  (long long)sizes[i]);
        cr_assert_eq(mean.t, other.t);
        bif_balance_concepts_free(&exact);
        bif_balance_concepts_free(&again);
        bif_balance_concepts_free(&mean);
        bif_balance_concepts_free(&other);
    }
    bif_balance_concepts_result kept = balance((bif_balance_by_concepts){.size = 9000, .keep_unmatched = true});
    cr_assert_eq(kept.outcome.after, 9000);
    bif_balance_concepts_free(&kept);
    bif_balance_by_concepts much = {.concepts = fix.concepts, .size = matched + 1, .memory = 1 << 30};
    cr_assert_eq(bif_balance_concepts(&much, &fix.pool, fix.selection, &fix.team, &kept), BIF_ERR_USAGE);
    /* Without a count of the commonest concept its samples stay at any t. */
    double counts[ENTRIES];
    for (int e = 0; e < ENTRIES; e++) {
        counts[e] = e == 0 ? 0 : 1e6;
    }
    for (int mean = 0; mean < 2; mean++) {
        bif_balance_by_concepts few = {.concepts = fix.concepts, .counts = counts, .size = 100, .expected = mean, .memory = 1 << 30};
        cr_assert_eq(bif_balance_concepts(&few, &fix.pool, fix.selection, &fix.team, &kept), BIF_ERR_USAGE);
        cr_assert(strstr(bif_error_message(), "cannot be reached") != NULL, "%s", bif_error_message());
        few.size = matched - 100;
        kept = balance(few);
        cr_assert(llabs(kept.outcome.after - few.size) <= (mean ? 200 : 0) && (!mean || fabs(kept.expected - (double)few.size) < 1));
        bif_balance_concepts_free(&kept);
    }
    much.memory = 1000;
    cr_assert_eq(bif_balance_concepts(&much, &fix.pool, fix.selection, &fix.team, &kept), BIF_ERR_MEMORY);
    close_fixture(&fix);
}

/* From the least memory on, where no matches are kept between the passes, until those of all shards are. */
Test(balance, is_the_same_with_any_memory)
{
    open_fixture(&fix);
    bif_balance_by_concepts by = {.concepts = fix.concepts, .size = 5000, .expected = true, .memory = 100000};
    bif_balance_concepts_result all = balance(by), one;
    int refused = 0, good = 0;
    for (; good < 25; by.memory += 20000) {
        const bif_status st = bif_balance_concepts(&by, &fix.pool, fix.selection, &fix.team, &one);
        if (st != BIF_OK) {
            cr_assert(st == BIF_ERR_MEMORY && good == 0);
            refused++;
            continue;
        }
        good++;
        cr_assert(one.t == all.t && one.expected == all.expected && one.outcome.count == all.outcome.count);
        cr_assert_arr_eq(one.outcome.records, all.outcome.records, (size_t)all.outcome.count * sizeof(bif_drop));
        bif_balance_concepts_free(&one);
    }
    cr_assert(refused > 0);
    bif_balance_concepts_free(&all);
    close_fixture(&fix);
}

/* ---- groups ---- */
typedef struct {
    double draw;
    int64_t sample;
} ticket;

static int compare_tickets(const void *left, const void *right)
{
    const ticket *a = left, *b = right;
    return a->draw != b->draw ? (a->draw < b->draw ? -1 : 1) : (a->sample > b->sample) - (a->sample < b->sample);
}

static bif_balance_groups_result balance_groups(bif_balance_by_groups by)
{
    bif_balance_groups_result result;
    by.memory = 1 << 30;
    by.max_repeat = by.max_repeat > 0 ? by.max_repeat : 1;
    cr_assert_eq(bif_balance_groups(&by, &fix.pool, fix.selection, &fix.team, &result), BIF_OK, "%s", bif_error_message());
    return result;
}

/* Columns of numbers and of texts: the members with the smallest draws of each group stay, found here by sorting all. */
Test(balance, keeps_the_smallest_draws_of_each_group)
{
    enum { GROUPS = 7 };
    open_fixture(&fix);
    static uint32_t number[SAMPLES];
    static uint64_t uid[SAMPLES][2];
    static char names[GROUPS][8];
    static const char *text[SAMPLES];
    for (int64_t s = 0; s < SHARDS; s++) {
        bif_shard *shard = NULL;
        const int64_t first = fix.pool.first_sample[s], rows = fix.pool.first_sample[s + 1] - first;
        cr_assert_eq(bif_pool_shard(&fix.pool, s, &shard), BIF_OK);
        for (int64_t i = first; i < first + rows; i++) {
            cr_assert_eq(bif_sample_uid(shard, i - first, uid[i]), BIF_OK);
            const uint64_t box = uid[i][0] % 100; /* sizes fall from 40 % on, some are in no group */
            number[i] = box < 40 ? 0 : box < 65 ? 1 : box < 80 ? 2 : box < 90 ? 3 : box < 95 ? 4 : box < 97 ? 10 : UINT32_MAX;
            text[i] = number[i] == UINT32_MAX
                          ? NULL
                          : strcpy(names[number[i] % GROUPS], number[i] == 10 ? "ten" : (char[]){(char)('a' + number[i]), 0});
        }
        const bif_column_info numbers = {"kind.cluster", "test", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_U32, rows, 1};
        const bif_column_info texts = {"language", "test", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_TEXT, rows, 1};
        const bif_column_info pictures = {"clip.cluster", "test", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U8, 1, 1};
        cr_assert_eq(bif_column_write(shard, &numbers, number + first), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_column_write(shard, &texts, text + first), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_column_write(shard, &pictures, &(uint8_t){s == 1}), BIF_OK, "%s", bif_error_message());
        bif_shard_close(shard);
    }
    bif_balance_groups_result r = balance_groups(
        (bif_balance_by_groups){.kind = BIF_GROUP_COLUMN, .column = "kind.cluster", .size = 4000, .seed = 2});
    cr_assert_eq(r.groups, 6);
    cr_assert_str_eq(r.group[5].name, "10"); /* as numbers: behind 4 */
    cr_assert_eq(r.outcome.after, 4000);
    static bool stays[SAMPLES];
    for (int64_t i = 0; i < SAMPLES; i++) {
        stays[i] = true;
    }
    for (int64_t k = 0; k < r.outcome.count; k++) {
        const bif_drop *d = &r.outcome.records[k];
        stays[d->sample] = false;
        cr_assert_eq(d->times, 0);
        cr_assert_eq(d->reason == BIF_BALANCE_NO_GROUP, number[d->sample] == UINT32_MAX);
    }
    for (int64_t g = 0; g < r.groups; g++) {
        static ticket tickets[SAMPLES];
        int64_t n = 0;
        for (int64_t i = 0; i < SAMPLES; i++) {
            if (number[i] == (uint32_t)atoi(r.group[g].name)) {
                tickets[n++] = (ticket){bif_balance_draw(2, uid[i], 0), i};
            }
        }
        cr_assert_eq(n, r.group[g].before);
        cr_assert(r.group[g].after == n || (r.group[g].after >= 4000 / 6 && r.group[g].after <= 1 + 4000 / 5));
        qsort(tickets, (size_t)n, sizeof *tickets, compare_tickets);
        for (int64_t k = 0; k < n; k++) {
            cr_assert_eq(stays[tickets[k].sample], k < r.group[g].after);
        }
    }
    bif_balance_groups_free(&r);
    /* The same groups by name; with all that are in none. */
    r = balance_groups(
        (bif_balance_by_groups){.kind = BIF_GROUP_COLUMN, .column = "language", .cap = 500, .keep_ungrouped = true, .seed = 2});
    cr_assert_eq(r.groups, 6);
    cr_assert_str_eq(r.group[5].name, "ten");
    int64_t want = r.ungrouped;
    for (int64_t g = 0; g < 6; g++) {
        want += r.group[g].before < 500 ? r.group[g].before : 500;
    }
    cr_assert(r.ungrouped > 0 && r.outcome.after == want);
    bif_balance_groups_free(&r);
    /* By the first picture; every fifth sample has none. */
    r = balance_groups((bif_balance_by_groups){.kind = BIF_GROUP_COLUMN, .column = "clip.cluster", .size = 1000});
    cr_assert_eq(r.groups, 2);
    cr_assert_eq(r.ungrouped, SAMPLES / 5);
    cr_assert(r.group[0].after == 500 && r.group[1].after == 500);
    bif_balance_groups_free(&r);
    close_fixture(&fix);
}

/* Clusters, and captions, that were made in two ways have nothing to do with each other; the way they were made is told. */
Test(balance, refuses_columns_made_in_different_ways)
{
    open_fixture(&fix);
    const char **text = bif_calloc(SAMPLES, sizeof *text);
    uint32_t *number = bif_calloc(SAMPLES, sizeof *number);
    for (int way = 0; way < 2; way++) {
        for (int64_t s = 0; s < SHARDS; s++) {
            bif_shard *shard = NULL;
            const int64_t rows = fix.pool.first_sample[s + 1] - fix.pool.first_sample[s];
            const char *method = way == 1 && s == 1 ? "another" : "one way";
            const bif_column_info numbers = {"kind.cluster", method, BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_U32, rows, 1};
            const bif_column_info texts = {"caption-new", method, BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_TEXT, rows, 1};
            cr_assert_eq(bif_pool_shard(&fix.pool, s, &shard), BIF_OK);
            cr_assert_eq(bif_column_write(shard, &numbers, number), BIF_OK);
            cr_assert_eq(bif_column_write(shard, &texts, text), BIF_OK);
            bif_shard_close(shard);
        }
        const bif_balance_by_groups groups = {
            .kind = BIF_GROUP_COLUMN, .column = "kind.cluster", .size = 100, .max_repeat = 1, .memory = 1 << 30};
        const bif_balance_by_concepts concepts = {.concepts = fix.concepts, .caption = "caption-new", .t = 20, .memory = 1 << 30};
        bif_balance_groups_result by_groups;
        bif_balance_concepts_result by_concepts;
        cr_assert_eq(bif_balance_groups(&groups, &fix.pool, fix.selection, &fix.team, &by_groups), way == 0 ? BIF_OK : BIF_ERR_DATA);
        cr_assert(way == 0 ? strcmp(by_groups.outcome.method, "one way") == 0 : strstr(bif_error_message(), "'another'") != NULL);
        cr_assert_eq(bif_balance_concepts(&concepts, &fix.pool, fix.selection, &fix.team, &by_concepts), way == 0 ? BIF_OK : BIF_ERR_DATA);
        cr_assert(way == 0 ? strcmp(by_concepts.outcome.method, "one way") == 0 : strstr(bif_error_message(), "'another'") != NULL);
        bif_balance_groups_free(&by_groups);
        bif_balance_concepts_free(&by_concepts);
    }
    free(text);
    free(number);
    close_fixture(&fix);
}

/* A column of captions taken for groups: a name a sample, which takes memory that nobody planned. */
Test(balance, names_of_groups_stay_in_the_budget)
{
    open_fixture(&fix);
    const char **text = bif_calloc(SAMPLES, sizeof *text);
    for (int64_t i = 0; i < SAMPLES; i++) {
        text[i] = bif_format("a caption of its own, number %lld", (long long)i);
    }
    for (int64_t s = 0; s < SHARDS; s++) {
        bif_shard *shard = NULL;
        const int64_t first = fix.pool.first_sample[s];
        const int64_t rows = fix.pool.first_sample[s + 1] - first;
        const bif_column_info texts = {"caption-new", "test", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_TEXT, rows, 1};
        cr_assert_eq(bif_pool_shard(&fix.pool, s, &shard), BIF_OK);
        cr_assert_eq(bif_column_write(shard, &texts, text + first), BIF_OK);
        bif_shard_close(shard);
    }
    bif_balance_by_groups by = {.kind = BIF_GROUP_COLUMN, .column = "caption-new", .size = 100, .max_repeat = 1, .memory = 4 << 20};
    bif_balance_groups_result result;
    cr_assert_eq(bif_balance_groups(&by, &fix.pool, fix.selection, &fix.team, &result), BIF_ERR_MEMORY);
    cr_assert_not_null(strstr(bif_error_message(), "groups by caption-new"), "%s", bif_error_message());
    by.memory = 64 << 20;
    cr_assert_eq(bif_balance_groups(&by, &fix.pool, fix.selection, &fix.team, &result), BIF_OK, "%s", bif_error_message());
    cr_assert(result.groups == SAMPLES && result.outcome.after == 100);
    bif_balance_groups_free(&result);
    for (int64_t i = 0; i < SAMPLES; i++) {
        free((char *)text[i]);
    }
    free(text);
    close_fixture(&fix);
}
