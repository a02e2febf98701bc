#include "data/deal.h"

#include <inttypes.h>
#include <stdlib.h>

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
        place[i] = (bif_deal_place){-1, -1};
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

bif_status bif_deal(const bif_deal_item *items, int64_t count, int world, const bif_deal_budget *budget,
                    bif_deal_place *place, int64_t *batches)
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
    deal_to_ranks(items, count, world, place);

    struct {
        int64_t tokens, images, samples;
    } *open = bif_calloc((size_t)world, sizeof *open);
    for (int r = 0; r < world; r++) {
        batches[r] = 0;
    }
    for (int64_t i = 0; i < count; i++) {
        int r = place[i].rank;
        if (r < 0) {
            continue;
        }
        if (batches[r] == 0 || over(open[r].tokens + items[i].tokens, budget->max_tokens) ||
            over(open[r].images + items[i].images, budget->max_images) ||
            over(open[r].samples + 1, budget->max_samples)) {
            batches[r]++;
            open[r].tokens = open[r].images = open[r].samples = 0;
        }
        open[r].tokens += items[i].tokens;
        open[r].images += items[i].images;
        open[r].samples++;
        place[i].batch = (int32_t)(batches[r] - 1);
    }
    free(open);
    return BIF_OK;
}
