#include "data/balance.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

double bif_balance_probability(double t, double count)
{
    return t / (count > t ? count : t);
}

static uint64_t mix(uint64_t x) /* splitmix64's finaliser: a bijection */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

double bif_balance_draw(uint64_t seed, const uint64_t uid[2], uint64_t what)
{
    uint32_t word[4];
    bif_philox(seed, BIF_RNG_BALANCE, mix(mix(mix(what + 0x9e3779b97f4a7c15u) ^ uid[0]) + uid[1]), 0, word);
    return (double)(((uint64_t)word[0] << 32 | word[1]) >> 12) * 0x1p-52; /* with 53 bits, draw * count could round up to count */
}

typedef struct {
    double key;
    uint64_t tie;
    int64_t part;
} place;

static int compare_places(const void *left, const void *right)
{
    const place *a = left, *b = right;
    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return a->tie != b->tie ? (a->tie < b->tie ? -1 : 1) : (a->part < b->part ? -1 : a->part > b->part);
}

bool bif_balance_quotas(const bif_balance_part *part, int64_t count, int64_t size, int64_t *quota, int64_t *reach)
{
    place *order = bif_calloc((size_t)count + 1, sizeof *order);
    int64_t open = 0, left = size, all = 0;
    for (int64_t i = 0; i < count; i++) {
        quota[i] = 0;
        if (part[i].strength > 0 && part[i].most > 0) {
            order[open++] = (place){(double)part[i].most / part[i].strength, part[i].tie, i};
            all += part[i].most;
        }
    }
    if (reach != NULL) {
        *reach = all;
    }
    if (size > all) {
        free(order);
        return false;
    }
    qsort(order, (size_t)open, sizeof *order, compare_places);
    double *strength = bif_calloc((size_t)open + 1, sizeof *strength); /* of order[i..open) */
    for (int64_t i = open; i-- > 0;) {
        strength[i] = strength[i + 1] + part[order[i].part].strength;
    }
    int64_t first = 0; /* those that are full at lower x come first */
    for (; first < open; first++) {
        const bif_balance_part *p = &part[order[first].part];
        if (p->most > left || (double)p->most * strength[first] > p->strength * (double)left) {
            break;
        }
        quota[order[first].part] = p->most;
        left -= p->most;
    }
    int64_t given = 0;
    for (int64_t i = first; i < open; i++) {
        const bif_balance_part *p = &part[order[i].part];
        const double wish = (double)left * (p->strength / strength[first]);
        int64_t whole = (int64_t)floor(wish);
        whole = whole < p->most ? whole : p->most;
        whole = whole < left - given ? whole : left - given;
        quota[order[i].part] = whole;
        given += whole;
        order[i].key = (double)whole - wish; /* the greatest remainder first */
    }
    left -= given;
    qsort(order + first, (size_t)(open - first), sizeof *order, compare_places);
    while (left > 0) { /* one round, but for rounding at groups that are full */
        for (int64_t i = first; i < open && left > 0; i++) {
            const int64_t p = order[i].part;
            if (quota[p] < part[p].most) {
                quota[p]++;
                left--;
            }
        }
    }
    free(strength);
    free(order);
    return true;
}
