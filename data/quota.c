#include "data/quota.h"

#include <stdlib.h>

#include "base/rng.h"

enum { DRAW_CLUSTER = 1, DRAW_PARENT = 2 }; /* sub of the draws; 0 is bif_cluster's */

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool fits(const int64_t *size, const int64_t *member, int64_t count, int64_t x, int64_t target)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < count && sum <= target; i++) {
        sum += smaller(x, size[member[i]]);
    }
    return sum <= target;
}

typedef struct {
    uint64_t draw;
    int64_t cluster;
} ticket;

static int compare_tickets(const void *left, const void *right)
{
    const ticket *a = left, *b = right;
    return a->draw != b->draw ? (a->draw < b->draw ? -1 : 1) : (a->cluster < b->cluster ? -1 : a->cluster > b->cluster);
}

/* Over the clusters member[0..count). */
static int64_t share_out(const int64_t *size, const int64_t *member, int64_t count, int64_t target, uint64_t seed, uint32_t sub,
                         int64_t *quota)
{
    int64_t low = 0, high = 0, left = target, larger = 0;
    for (int64_t i = 0; i < count; i++) {
        high = size[member[i]] > high ? size[member[i]] : high;
    }
    while (low < high) { /* low fits */
        const int64_t x = low + (high - low + 1) / 2;
        if (fits(size, member, count, x, target)) {
            low = x;
        } else {
            high = x - 1;
        }
    }
    ticket *tickets = bif_calloc((size_t)count, sizeof *tickets);
    for (int64_t i = 0; i < count; i++) {
        const int64_t c = member[i];
        quota[c] = smaller(low, size[c]);
        left -= quota[c];
        if (size[c] > low) {
            uint32_t word[4];
            bif_philox(seed, BIF_RNG_CLUSTER, (uint64_t)c, sub, word);
            tickets[larger++] = (ticket){(uint64_t)word[0] << 32 | word[1], c};
        }
    }
    qsort(tickets, (size_t)larger, sizeof *tickets, compare_tickets);
    for (int64_t i = 0; i < larger && left > 0; i++, left--) {
        quota[tickets[i].cluster]++;
    }
    free(tickets);
    return low;
}

int64_t bif_quota_equal(const int64_t *size, int64_t count, int64_t target, uint64_t seed, int64_t *quota)
{
    int64_t *member = bif_calloc((size_t)count, sizeof *member);
    for (int64_t i = 0; i < count; i++) {
        member[i] = i;
    }
    const int64_t x = share_out(size, member, count, target, seed, DRAW_CLUSTER, quota);
    free(member);
    return x;
}

void bif_quota_nested(const int64_t *size, const int64_t *parent, int64_t count, int64_t parents, int64_t target, uint64_t seed,
                      int64_t *quota)
{
    int64_t *whole = bif_calloc((size_t)parents, sizeof *whole), *part = bif_calloc((size_t)parents, sizeof *part);
    int64_t *first = bif_calloc((size_t)parents + 1, sizeof *first), *member = bif_calloc((size_t)count, sizeof *member);
    for (int64_t i = 0; i < count; i++) {
        BIF_BUG_IF(parent[i] < 0 || parent[i] >= parents, "cluster %lld: parent %lld of %lld", (long long)i, (long long)parent[i],
                   (long long)parents);
        whole[parent[i]] += size[i];
        first[parent[i] + 1]++;
    }
    for (int64_t p = 0; p < parents; p++) {
        part[p] = p;
        first[p + 1] += first[p];
    }
    int64_t *top = bif_calloc((size_t)parents, sizeof *top), *at = bif_calloc((size_t)parents, sizeof *at);
    share_out(whole, part, parents, target, seed, DRAW_PARENT, top);
    for (int64_t i = 0; i < count; i++) {
        member[first[parent[i]] + at[parent[i]]++] = i;
    }
    for (int64_t p = 0; p < parents; p++) {
        share_out(size, member + first[p], first[p + 1] - first[p], top[p], seed, DRAW_CLUSTER, quota);
    }
    free(whole);
    free(part);
    free(first);
    free(member);
    free(top);
    free(at);
}
