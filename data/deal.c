#include "data/deal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t tokens, position;
} sorted_item;

static int larger_first(const void *left, const void *right)
{
    const sorted_item *a = left, *b = right;
    if (a->tokens != b->tokens) {
        return a->tokens > b->tokens ? -1 : 1;
    }
    return a->position < b->position ? -1 : a->position > b->position;
}

static bool over(int64_t amount, int64_t limit)
{
    return limit > 0 && amount > limit;
}

static void deal_to_ranks(const bif_deal_item *items, int64_t count, int world, bif_deal_place *place)
{
    sorted_item *sorted = bif_malloc((size_t)count * sizeof *sorted);
    int64_t *load = bif_calloc((size_t)world, sizeof *load);
    int64_t used = 0;
    for (int64_t i = 0; i < count; i++) {
        place[i] = (bif_deal_place){-1, -1, 0};
        if (items[i].tokens > 0) {
            sorted[used++] = (sorted_item){items[i].tokens, i};
        }
    }
    qsort(sorted, (size_t)used, sizeof *sorted, larger_first);
    for (int64_t i = 0; i < used; i++) {
        int lightest = 0; /* a linear search: 4,096 samples on 1,024 ranks are 4 million comparisons a step */
        for (int r = 1; r < world; r++) {
            lightest = load[r] < load[lightest] ? r : lightest;
        }
        load[lightest] += sorted[i].tokens;
        place[sorted[i].position].rank = lightest;
    }
    free(load);
    free(sorted);
}

static bif_status check(const bif_deal_item *items, int64_t count, int world, const bif_deal_budget *budget)
{
    BIF_BUG_IF(count < 0 || world < 1, "a deal of %" PRId64 " samples to %d ranks", count, world);
    for (int64_t i = 0; i < count; i++) {
        if (over(items[i].tokens, budget->max_tokens) ||
            (items[i].tokens > 0 && over(items[i].images, budget->max_images))) {
            return bif_fail(BIF_ERR_DATA,
                            "sample %" PRId64 " of the step has %" PRId64 " tokens and %" PRId64
                            " pictures, a micro-batch holds %" PRId64 " and %" PRId64,
                            i, items[i].tokens, items[i].images, budget->max_tokens, budget->max_images);
        }
    }
    return BIF_OK;
}

typedef struct { /* a rank's micro-batch in the making */
    int64_t tokens, images, samples;
} open_batch;

/* Puts an item into its rank's open micro-batch, or the next one. */
static void put(const bif_deal_item *item, const bif_deal_budget *budget, bool next, bif_deal_place *place, open_batch *open, int64_t *batches)
{
    if (next || over(open->tokens + item->tokens, budget->max_tokens) || over(open->images + item->images, budget->max_images) ||
        over(open->samples + 1, budget->max_samples)) {
        (*batches)++;
        *open = (open_batch){0};
    }
    open->tokens += item->tokens;
    open->images += item->images;
    open->samples++;
    place->batch = (int32_t)(*batches - 1);
}

bif_status bif_deal(const bif_deal_item *items, int64_t count, int world, const bif_deal_budget *budget,
                    bif_deal_place *place, int64_t *batches)
{
    bif_status st = check(items, count, world, budget);
    if (st != BIF_OK) {
        return st;
    }
    deal_to_ranks(items, count, world, place);
    open_batch *open = bif_calloc((size_t)world, sizeof *open);
    memset(batches, 0, (size_t)world * sizeof *batches);
    for (int64_t i = 0; i < count; i++) {
        const int r = place[i].rank;
        if (r >= 0) {
            put(&items[i], budget, batches[r] == 0, &place[i], &open[r], &batches[r]);
            place[i].group = place[i].batch;
        }
    }
    free(open);
    return BIF_OK;
}

bif_status bif_deal_in_order(const bif_deal_item *items, int64_t count, int world, const bif_deal_budget *budget,
                             bif_deal_place *place, int64_t *batches)
{
    bif_status st = check(items, count, world, budget);
    BIF_BUG_IF(budget->max_samples < 1, "a deal in order of micro-batches without a size");
    if (st != BIF_OK) {
        return st;
    }
    open_batch open = {0};
    int64_t last = -1; /* the group of the last sample dealt */
    memset(batches, 0, (size_t)world * sizeof *batches);
    for (int64_t i = 0; i < count; i++) {
        const int64_t group = i / budget->max_samples;
        const int rank = (int)(group % world);
        place[i] = (bif_deal_place){-1, -1, group};
        if (items[i].tokens > 0) {
            place[i].rank = rank;
            put(&items[i], budget, group != last, &place[i], &open, &batches[rank]);
            last = group;
        }
    }
    return BIF_OK;
}
