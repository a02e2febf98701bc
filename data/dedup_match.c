#include <stdlib.h>

#include "data/dedup_internal.h"

enum { MOST_IMAGES = 64 };

void bif_neighbours_make(const bif_relation *relation, bif_neighbours *out)
{
    *out = (bif_neighbours){.relation = relation};
    if (relation == NULL) {
        return;
    }
    const int64_t classes = relation->classes, pairs = relation->pairs.count;
    int64_t *first = bif_calloc((size_t)classes + 2, sizeof *first);
    out->other = bif_malloc((size_t)pairs * 2 * sizeof *out->other + 4);
    out->value = bif_malloc((size_t)pairs * 2 * sizeof *out->value + 4);
    out->members = bif_calloc((size_t)classes + 1, sizeof *out->members);
    for (int64_t i = 0; i < pairs; i++) {
        first[relation->pairs.pair[i].a + 2]++;
        first[relation->pairs.pair[i].b + 2]++;
    }
    for (int64_t c = 0; c < classes; c++) {
        first[c + 2] += first[c + 1];
    }
    /* Sorted by (a, b): the smaller neighbours of a class come first, rising, and then the greater ones. */
    for (int64_t i = 0; i < pairs; i++) {
        const bif_pair *p = &relation->pairs.pair[i];
        const int64_t at_a = first[p->a + 1]++, at_b = first[p->b + 1]++;
        out->other[at_a] = p->b;
        out->other[at_b] = p->a;
        out->value[at_a] = out->value[at_b] = p->value;
    }
    out->first = first;
    for (int64_t i = 0; i < relation->items; i++) {
        const uint32_t c = bif_class_of(out, i);
        if (c != BIF_NO_CLASS) {
            out->members[c]++;
        }
    }
}

void bif_neighbours_free(bif_neighbours *neighbours)
{
    free(neighbours->first);
    free(neighbours->other);
    free(neighbours->value);
    free(neighbours->members);
    *neighbours = (bif_neighbours){0};
}

uint32_t bif_class_of(const bif_neighbours *n, int64_t item)
{
    return n->relation == NULL ? BIF_NO_CLASS : n->relation->item != NULL ? n->relation->item[item] : (uint32_t)item;
}

bool bif_classes_match(const bif_neighbours *n, uint32_t a, uint32_t b, float *value)
{
    if (a == b) {
        *value = n->relation->similarity ? 1.0f : 0.0f;
        return true;
    }
    int64_t low = n->first[a], high = n->first[a + 1];
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (n->other[middle] < b) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == n->first[a + 1] || n->other[low] != b) {
        return false;
    }
    *value = n->value[low];
    return true;
}

static int64_t images_of(const bif_matcher *m, uint32_t sample)
{
    return m->facts->first[sample + 1] - m->facts->first[sample];
}

static uint32_t image_class(const bif_matcher *m, uint32_t sample, int64_t k)
{
    return bif_class_of(&m->images, m->facts->image[m->facts->first[sample] + k]);
}

bool bif_can_match(const bif_matcher *m, bif_match mode, uint32_t sample)
{
    const int64_t images = images_of(m, sample);
    const bool caption = bif_class_of(&m->captions, sample) != BIF_NO_CLASS;
    if (mode == BIF_MATCH_CAPTION) {
        return caption;
    }
    for (int64_t k = 0; k < images; k++) {
        if (image_class(m, sample, k) == BIF_NO_CLASS) {
            return false;
        }
    }
    return images > 0 || (mode == BIF_MATCH_BOTH && caption);
}

/* Kuhn's augmenting paths: image i of s gets one of t, others making room. */
typedef struct {
    const bif_matcher *m;
    uint32_t s, t;
    int64_t n;
    uint64_t tried;
    int64_t partner[MOST_IMAGES]; /* of t's images: which of s; -1 none */
} pairing;

static bool place_image(pairing *p, int64_t i)
{
    for (int64_t j = 0; j < p->n; j++) {
        float value;
        if ((p->tried >> j & 1) == 0 && bif_classes_match(&p->m->images, image_class(p->m, p->s, i), image_class(p->m, p->t, j), &value)) {
            p->tried |= (uint64_t)1 << j;
            if (p->partner[j] < 0 || place_image(p, p->partner[j])) {
                p->partner[j] = i;
                return true;
            }
        }
    }
    return false;
}

static int compare_classes(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static bool same_classes(const bif_matcher *m, uint32_t s, uint32_t t, int64_t n)
{
    uint32_t *of[2] = {bif_malloc((size_t)n * sizeof **of), bif_malloc((size_t)n * sizeof **of)};
    bool same = true;
    for (int side = 0; side < 2; side++) {
        for (int64_t k = 0; k < n; k++) {
            of[side][k] = image_class(m, side == 0 ? s : t, k);
        }
        qsort(of[side], (size_t)n, sizeof **of, compare_classes);
    }
    for (int64_t k = 0; k < n && same; k++) {
        same = of[0][k] == of[1][k];
    }
    free(of[0]);
    free(of[1]);
    return same;
}

/* From the image of s that is farthest from the nearest of t, how far that is. */
static float farthest(const bif_matcher *m, uint32_t s, uint32_t t, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        float nearest = 0, value;
        bool any = false;
        for (int64_t j = 0; j < n; j++) {
            if (bif_classes_match(&m->images, image_class(m, s, i), image_class(m, t, j), &value) &&
                (!any || bif_closer(&m->images, value, nearest))) {
                nearest = value;
                any = true;
            }
        }
        most = i == 0 || bif_closer(&m->images, most, nearest) ? nearest : most;
    }
    return most;
}

static bool images_match(const bif_matcher *m, uint32_t s, uint32_t t, int64_t n, float *value)
{
    if (n == 1) {
        return bif_classes_match(&m->images, image_class(m, s, 0), image_class(m, t, 0), value);
    }
    if (n > MOST_IMAGES) {
        *value = m->images.relation->similarity ? 1.0f : 0.0f;
        return same_classes(m, s, t, n);
    }
    pairing p = {.m = m, .s = s, .t = t, .n = n};
    for (int64_t j = 0; j < n; j++) {
        p.partner[j] = -1;
    }
    for (int64_t i = 0; i < n; i++) {
        p.tried = 0;
        if (!place_image(&p, i)) {
            return false;
        }
    }
    const float there = farthest(m, s, t, n), back = farthest(m, t, s, n);
    *value = bif_closer(&m->images, there, back) ? back : there;
    return true;
}

bool bif_samples_match(const bif_matcher *m, bif_match mode, uint32_t s, uint32_t t, float *value)
{
    const int64_t n = images_of(m, s);
    if (mode != BIF_MATCH_IMAGE) {
        const uint32_t a = bif_class_of(&m->captions, s), b = bif_class_of(&m->captions, t);
        const bool none = a == BIF_NO_CLASS && b == BIF_NO_CLASS && mode == BIF_MATCH_BOTH;
        if (!none && (a == BIF_NO_CLASS || b == BIF_NO_CLASS || !bif_classes_match(&m->captions, a, b, value))) {
            return false;
        }
        if (mode == BIF_MATCH_CAPTION) {
            return true;
        }
    }
    if (images_of(m, t) != n || !bif_can_match(m, mode, t)) {
        return false;
    }
    return n == 0 ? mode == BIF_MATCH_BOTH : images_match(m, s, t, n, value);
}
