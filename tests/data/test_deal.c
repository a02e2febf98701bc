#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "data/deal.h"

#define MOST 257

typedef struct {
    bif_deal_item items[MOST];
    bif_deal_place place[MOST];
    int64_t batches[16];
    int64_t count;
} deck;

static deck make_deck(uint32_t seed)
{
    deck d = {0};
    uint32_t r[4];
    bif_philox(seed, BIF_RNG_TEST, 0, 0, r);
    d.count = r[0] % MOST;
    for (int64_t i = 0; i < d.count; i++) {
        bif_philox(seed, BIF_RNG_TEST, (uint64_t)i + 1, 0, r);
        d.items[i].tokens = r[0] % 10 == 0 ? 0 : 1 + r[1] % 100;
        d.items[i].images = r[2] % 4;
    }
    return d;
}

/* Every batch of every rank is within the budget and none is empty. */
static void check_batches(const deck *d, int world, const bif_deal_budget *budget)
{
    for (int r = 0; r < world; r++) {
        for (int64_t b = 0; b < d->batches[r]; b++) {
            int64_t tokens = 0, images = 0, samples = 0;
            for (int64_t i = 0; i < d->count; i++) {
                if (d->place[i].rank == r && d->place[i].batch == b) {
                    tokens += d->items[i].tokens;
                    images += d->items[i].images;
                    samples++;
                }
            }
            cr_assert(samples > 0);
            cr_assert(budget->max_tokens == 0 || tokens <= budget->max_tokens);
            cr_assert(budget->max_images == 0 || images <= budget->max_images);
            cr_assert(budget->max_samples == 0 || samples <= budget->max_samples);
        }
    }
}

/* Every sample once (an array of places cannot hold it twice), and the ranks' loads within one sample of each other. */
static void check_places(const deck *d, int world)
{
    int64_t load[16] = {0}, largest = 0, low = INT64_MAX, high = 0;
    for (int64_t i = 0; i < d->count; i++) {
        if (d->items[i].tokens == 0) {
            cr_assert(d->place[i].rank == -1 && d->place[i].batch == -1);
            continue;
        }
        int r = d->place[i].rank;
        cr_assert(r >= 0 && r < world && d->place[i].batch >= 0 && d->place[i].batch < d->batches[r]);
        load[r] += d->items[i].tokens;
        largest = d->items[i].tokens > largest ? d->items[i].tokens : largest;
    }
    for (int r = 0; r < world; r++) {
        low = load[r] < low ? load[r] : low;
        high = load[r] > high ? load[r] : high;
    }
    cr_assert(high - low <= largest, "loads %ld..%ld, largest sample %ld", (long)low, (long)high, (long)largest);
}

Test(deal, properties_hold_for_many_decks)
{
    static const bif_deal_budget budgets[] = {{100, 0, 0}, {128, 3, 0}, {0, 0, 5}, {1000, 7, 9}, {0, 0, 0}};
    for (uint32_t seed = 0; seed < 60; seed++) {
        for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
            for (int world = 1; world <= 16; world *= 2) {
                deck d = make_deck(seed), again = d;
                cr_assert(bif_deal(d.items, d.count, world, &budgets[b], d.place, d.batches) == BIF_OK);
                check_batches(&d, world, &budgets[b]);
                check_places(&d, world);
                cr_assert(bif_deal(again.items, again.count, world, &budgets[b], again.place, again.batches) == BIF_OK);
                cr_assert(memcmp(d.place, again.place, sizeof d.place) == 0);
            }
        }
    }
}

Test(deal, order_inside_a_rank_is_the_order_of_the_step)
{
    deck d = make_deck(7);
    bif_deal_budget budget = {150, 0, 0};
    cr_assert(bif_deal(d.items, d.count, 3, &budget, d.place, d.batches) == BIF_OK);
    int32_t last[3] = {0};
    for (int64_t i = 0; i < d.count; i++) {
        int r = d.place[i].rank;
        if (r >= 0) {
            cr_assert(d.place[i].batch >= last[r]);
            last[r] = d.place[i].batch;
        }
    }
}

Test(deal, known_small_deal)
{
    const bif_deal_item items[] = {{5, 0}, {9, 0}, {5, 0}, {0, 0}, {4, 0}};
    bif_deal_place place[5];
    int64_t batches[2];
    bif_deal_budget budget = {9, 0, 0};
    cr_assert(bif_deal(items, 5, 2, &budget, place, batches) == BIF_OK);
    /* 9 -> rank 0; 5 -> 1; 5 -> 1 (5 < 9); 4 -> 0 (9 < 10). Rank 0: [9] [4]; rank 1: [5] [5]. */
    cr_assert(place[1].rank == 0 && place[1].batch == 0);
    cr_assert(place[4].rank == 0 && place[4].batch == 1);
    cr_assert(place[0].rank == 1 && place[0].batch == 0);
    cr_assert(place[2].rank == 1 && place[2].batch == 1);
    cr_assert(place[3].rank == -1);
    cr_assert(batches[0] == 2 && batches[1] == 2);
}

Test(deal, a_sample_over_the_budget_is_refused)
{
    const bif_deal_item tokens[] = {{5, 0}, {10, 0}};
    const bif_deal_item images[] = {{5, 1}, {5, 3}};
    bif_deal_place place[2];
    int64_t batches[1];
    bif_deal_budget budget = {9, 2, 0};
    cr_assert(bif_deal(tokens, 2, 1, &budget, place, batches) == BIF_ERR_DATA);
    cr_assert(strstr(bif_error_message(), "sample 1") != NULL);
    cr_assert(bif_deal(images, 2, 1, &budget, place, batches) == BIF_ERR_DATA);
}

Test(deal, nothing_to_deal)
{
    int64_t batches[4] = {9, 9, 9, 9};
    bif_deal_budget budget = {9, 2, 0};
    cr_assert(bif_deal(NULL, 0, 4, &budget, NULL, batches) == BIF_OK);
    for (int r = 0; r < 4; r++) {
        cr_assert(batches[r] == 0);
    }
}
