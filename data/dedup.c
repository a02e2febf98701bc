#include "data/dedup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/log.h"
#include "data/dedup_internal.h"

enum { NONE = -1 };

/* Samples by place in the order of keeping, to be found again by image class and caption class: chained from buckets. */
typedef struct {
    int64_t place, next;
} entry;

typedef struct {
    int64_t *bucket; /* [size]; size is a power of two */
    uint64_t size;
    entry *entries;
    int64_t count, room;
} finder;

/* What a sample matches. */
typedef struct {
    int64_t other; /* place; NONE: nothing */
    float value;
    bool by_caption; /* of either: not by the images */
} finding;

/* One way to match: `either` is two of them, images first. */
typedef struct {
    const bif_matcher *m;
    bif_match mode;
    bool by_caption;
    finder finder;
    finding *found;  /* [places] */
    int64_t *parent; /* of chain: [places], the first of a component is its root */
} way;

typedef void visit(way *w, int64_t place, int64_t other, float value);

static const char *const match_names[] = {"both", "image", "caption", "either"};
static const char *const keep_names[] = {"largest", "quality", "longest", "first", "hard", "easy"};
static const char *const group_names[] = {"greedy", "chain", "any"};

static bif_status by_name(const char *option, const char *name, const char *const *names, int count, int *out)
{
    for (*out = 0; *out < count; (*out)++) {
        if (strcmp(name, names[*out]) == 0) {
            return BIF_OK;
        }
    }
    char *all = bif_strdup(names[0]);
    for (int i = 1; i < count; i++) {
        char *longer = bif_format("%s, %s", all, names[i]);
        free(all);
        all = longer;
    }
    const bif_status st = bif_fail(BIF_ERR_USAGE, "--%s '%s' is none of %s", option, name, all);
    free(all);
    return st;
}

bif_status bif_match_by_name(const char *name, bif_match *out)
{
    int index = 0;
    const bif_status st = by_name("match", name, match_names, 4, &index);
    *out = (bif_match)index;
    return st;
}

bif_status bif_keep_by_name(const char *name, bif_keep *out)
{
    int index = 0;
    const bif_status st = by_name("keep", name, keep_names, 6, &index);
    *out = (bif_keep)index;
    return st;
}

bif_status bif_group_by_name(const char *name, bif_group *out)
{
    int index = 0;
    const bif_status st = by_name("group", name, group_names, 3, &index);
    *out = (bif_group)index;
    return st;
}

/* ---- finding ---- */
static finder finder_new(int64_t samples)
{
    finder f = {.size = 1024};
    while (f.size < (uint64_t)samples) {
        f.size *= 2;
    }
    f.bucket = bif_malloc((size_t)f.size * sizeof *f.bucket);
    memset(f.bucket, 0xff, (size_t)f.size * sizeof *f.bucket);
    return f;
}

static int64_t *bucket_of(const finder *f, uint32_t image, uint32_t caption)
{
    const uint32_t key[2] = {image, caption};
    return &f->bucket[XXH3_64bits(key, sizeof key) & (f->size - 1)];
}

static void finder_add(finder *f, uint32_t image, uint32_t caption, int64_t place)
{
    int64_t *bucket = bucket_of(f, image, caption);
    if (f->count == f->room) {
        f->room = f->room ? f->room * 2 : 1024;
        f->entries = bif_realloc(f->entries, (size_t)f->room, sizeof *f->entries);
    }
    f->entries[f->count] = (entry){place, *bucket};
    *bucket = f->count++;
}

static uint32_t caption_of(const way *w, uint32_t sample)
{
    return w->mode == BIF_MATCH_IMAGE ? BIF_NO_CLASS : bif_class_of(&w->m->captions, sample);
}

static bool by_images(const way *w, uint32_t sample)
{
    return w->mode != BIF_MATCH_CAPTION && w->m->facts->first[sample] < w->m->facts->first[sample + 1];
}

/* A sample stands under each of its images, with its caption where both must match. */
static void enter(way *w, int64_t place)
{
    const bif_facts *f = w->m->facts;
    const uint32_t sample = f->sample[place], caption = caption_of(w, sample);
    if (!by_images(w, sample)) {
        finder_add(&w->finder, BIF_NO_CLASS, caption, place);
        return;
    }
    for (int64_t k = f->first[sample]; k < f->first[sample + 1]; k++) {
        finder_add(&w->finder, bif_class_of(&w->m->images, f->image[k]), caption, place);
    }
}

static void visit_bucket(way *w, int64_t place, uint32_t image, uint32_t caption, visit *call)
{
    const uint32_t *sample = w->m->facts->sample;
    for (int64_t e = *bucket_of(&w->finder, image, caption); e >= 0; e = w->finder.entries[e].next) {
        float value = 0;
        const int64_t other = w->finder.entries[e].place;
        if (other != place && bif_samples_match(w->m, w->mode, sample[place], sample[other], &value)) {
            call(w, place, other, value);
        }
    }
}

/* All that were entered and match; some may come twice. It is enough to look where that one of the images is that stands in the fewest
 * places. */
static void visit_matches(way *w, int64_t place, visit *call)
{
    const bif_facts *f = w->m->facts;
    const bif_neighbours *images = &w->m->images, *captions = &w->m->captions;
    const uint32_t sample = f->sample[place], caption = caption_of(w, sample);
    uint32_t image = BIF_NO_CLASS;
    for (int64_t k = f->first[sample]; by_images(w, sample) && k < f->first[sample + 1]; k++) {
        const uint32_t now = bif_class_of(images, f->image[k]);
        image = image == BIF_NO_CLASS || images->members[now] < images->members[image] ? now : image;
    }
    const int64_t i0 = image == BIF_NO_CLASS ? 0 : images->first[image], i1 = image == BIF_NO_CLASS ? 0 : images->first[image + 1];
    const int64_t c0 = caption == BIF_NO_CLASS ? 0 : captions->first[caption],
                  c1 = caption == BIF_NO_CLASS ? 0 : captions->first[caption + 1];
    for (int64_t i = i0 - 1; i < i1; i++) {
        for (int64_t c = c0 - 1; c < c1; c++) {
            visit_bucket(w, place, i < i0 ? image : images->other[i], c < c0 ? caption : captions->other[c], call);
        }
    }
}

/* ---- greedy ---- */
static void take_closest(way *w, int64_t place, int64_t other, float value)
{
    finding *best = &w->found[place];
    const bif_neighbours *n = by_images(w, w->m->facts->sample[place]) ? &w->m->images : &w->m->captions;
    if (best->other == NONE || bif_closer(n, value, best->value) || (value == best->value && other < best->other)) {
        *best = (finding){other, value, w->by_caption};
    }
}

static void greedy(way *ways, int count)
{
    const bif_facts *f = ways[0].m->facts;
    finding *found = ways[0].found; /* of all ways */
    for (int64_t place = 0; place < f->count; place++) {
        for (int k = 0; k < count && found[place].other == NONE; k++) {
            if (bif_can_match(ways[k].m, ways[k].mode, f->sample[place])) {
                visit_matches(&ways[k], place, take_closest);
            }
        }
        for (int k = 0; k < count && found[place].other == NONE; k++) {
            if (bif_can_match(ways[k].m, ways[k].mode, f->sample[place])) {
                enter(&ways[k], place);
            }
        }
    }
}

/* ---- chain ---- */
static int64_t root(int64_t *parent, int64_t x)
{
    while (parent[x] != x) {
        parent[x] = parent[parent[x]];
        x = parent[x];
    }
    return x;
}

static void join(int64_t *parent, int64_t x, int64_t y)
{
    x = root(parent, x);
    y = root(parent, y);
    parent[x > y ? x : y] = x > y ? y : x;
}

static void note(finding *of, int64_t other, float value, bool by_caption)
{
    if (of->other == NONE || other < of->other) {
        *of = (finding){other, value, by_caption};
    }
}

static void take_link(way *w, int64_t place, int64_t other, float value)
{
    join(w->parent, place, other);
    note(&w->found[place], other, value, w->by_caption);
    note(&w->found[other], place, value, w->by_caption);
}

typedef struct {
    uint64_t key[2];
    int64_t place;
} alike;

static int compare_alike(const void *a, const void *b)
{
    const alike *x = a, *y = b;
    for (int i = 0; i < 2; i++) {
        if (x->key[i] != y->key[i]) {
            return x->key[i] < y->key[i] ? -1 : 1;
        }
    }
    return (x->place > y->place) - (x->place < y->place);
}

static int compare_u32(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The earliest place with the same image classes and caption class, for each place that can match; such samples match the same others. */
static void find_twins(const way *w, int64_t *twin)
{
    const bif_facts *f = w->m->facts;
    alike *all = bif_malloc((size_t)f->count * sizeof *all + 1);
    uint32_t *classes = NULL;
    int64_t count = 0, room = 0;
    for (int64_t place = 0; place < f->count; place++) {
        const uint32_t sample = f->sample[place];
        const int64_t n = by_images(w, sample) ? f->first[sample + 1] - f->first[sample] : 0;
        twin[place] = place;
        if (!bif_can_match(w->m, w->mode, sample)) {
            continue;
        }
        if (n + 1 > room) {
            room = 2 * (n + 1);
            classes = bif_realloc(classes, (size_t)room, sizeof *classes);
        }
        for (int64_t k = 0; k < n; k++) {
            classes[k] = bif_class_of(&w->m->images, f->image[f->first[sample] + k]);
        }
        if (n > 1) {
            qsort(classes, (size_t)n, sizeof *classes, compare_u32);
        }
        classes[n] = caption_of(w, sample);
        const XXH128_hash_t key = XXH3_128bits(classes, (size_t)(n + 1) * sizeof *classes);
        all[count++] = (alike){{key.high64, key.low64}, place};
    }
    qsort(all, (size_t)count, sizeof *all, compare_alike);
    for (int64_t i = 1; i < count; i++) {
        if (all[i].key[0] == all[i - 1].key[0] && all[i].key[1] == all[i - 1].key[1]) {
            twin[all[i].place] = twin[all[i - 1].place];
        }
    }
    free(all);
    free(classes);
}

static void chain(way *w)
{
    const bif_facts *f = w->m->facts;
    int64_t *twin = bif_malloc((size_t)f->count * sizeof *twin + 1);
    find_twins(w, twin);
    for (int64_t place = 0; place < f->count; place++) {
        if (twin[place] != place) {
            float value = 0;
            bif_samples_match(w->m, w->mode, f->sample[place], f->sample[twin[place]], &value);
            take_link(w, place, twin[place], value);
        } else if (bif_can_match(w->m, w->mode, f->sample[place])) {
            visit_matches(w, place, take_link);
            enter(w, place);
        }
    }
    for (int64_t place = 0; place < f->count; place++) {
        const finding *of = &w->found[twin[place]];
        if (twin[place] != place && of->other != NONE) {
            note(&w->found[place], of->other, of->value, w->by_caption);
        }
    }
    free(twin);
}

/* ---- any ---- */
static void take_first(way *w, int64_t place, int64_t other, float value)
{
    note(&w->found[place], other, value, w->by_caption);
}

/* Of what comes before it, and may go itself, each names the first that it matches; for a twin that is what the first of the twins names,
 * or that one. */
static void any(way *w)
{
    const bif_facts *f = w->m->facts;
    int64_t *twin = bif_malloc((size_t)f->count * sizeof *twin + 1);
    find_twins(w, twin);
    for (int64_t place = 0; place < f->count; place++) {
        if (twin[place] != place && w->found[twin[place]].other != NONE) {
            w->found[place] = w->found[twin[place]];
        } else if (twin[place] != place) {
            float value = 0;
            bif_samples_match(w->m, w->mode, f->sample[place], f->sample[twin[place]], &value);
            take_first(w, place, twin[place], value);
        } else if (bif_can_match(w->m, w->mode, f->sample[place])) {
            visit_matches(w, place, take_first);
            enter(w, place);
        }
    }
    free(twin);
}

/* ---- the step ---- */
static int compare_drops(const void *a, const void *b)
{
    const bif_drop *x = a, *y = b;
    return (x->sample > y->sample) - (x->sample < y->sample);
}

static int ways_of(bif_match match, const bif_matcher *m, way ways[2])
{
    const bool either = match == BIF_MATCH_EITHER;
    const int64_t n = m->facts->count;
    for (int k = 0; k < 1 + either; k++) {
        ways[k] = (way){.m = m, .mode = either ? (k == 0 ? BIF_MATCH_IMAGE : BIF_MATCH_CAPTION) : match, .by_caption = either && k == 1};
        ways[k].finder = finder_new(n);
        ways[k].found = bif_malloc((size_t)n * sizeof(finding) + 1);
        for (int64_t i = 0; i < n; i++) {
            ways[k].found[i] = (finding){.other = NONE};
        }
    }
    return 1 + either;
}

static void add_step(bif_selection *selection, const bif_facts *facts, const finding *found, const int64_t *parent, bif_match match,
                     json_t *parameters)
{
    static const char *const reasons[][2] = {[BIF_MATCH_BOTH] = {"duplicate image and caption"},
                                             [BIF_MATCH_IMAGE] = {"duplicate image"},
                                             [BIF_MATCH_CAPTION] = {"duplicate caption"},
                                             [BIF_MATCH_EITHER] = {"duplicate image", "duplicate caption"}};
    bif_drop *drops = bif_malloc((size_t)facts->count * sizeof *drops + 1);
    int64_t count = 0;
    for (int64_t place = 0; place < facts->count; place++) {
        const finding *f = &found[place];
        if (parent != NULL ? parent[place] != place : f->other != NONE) {
            drops[count++] =
                (bif_drop){.sample = facts->sample[place], .other = facts->sample[f->other], .value = f->value, .reason = f->by_caption};
        }
    }
    qsort(drops, (size_t)count, sizeof *drops, compare_drops);
    bif_selection_add(selection, "dedup", parameters, reasons[match], match == BIF_MATCH_EITHER ? 2 : 1, drops, count);
    free(drops);
}

bif_status bif_dedup(const bif_pool *pool, bif_selection *selection, const bif_dedup_options *options, const bif_relation *images,
                     const bif_relation *captions, json_t *parameters, int64_t memory)
{
    bif_status st = BIF_OK;
    bif_relation own = {0};
    bif_facts facts = {0};
    bif_matcher m = {.facts = &facts};
    way ways[2] = {0};
    int64_t *parent = NULL;
    int count = 0;
    json_t *columns = json_object_get(parameters, "columns");
    if (columns == NULL) {
        columns = json_object();
        json_object_set_new(parameters, "columns", columns);
    }
    json_object_set_new(parameters, "match", json_string(match_names[options->match]));
    json_object_set_new(parameters, "keep", json_string(keep_names[options->keep]));
    json_object_set_new(parameters, "group", json_string(group_names[options->group]));
    BIF_BUG_IF(images == NULL && options->match != BIF_MATCH_CAPTION, "no relation of images to match by");
    if (captions == NULL && options->match != BIF_MATCH_IMAGE) {
        const bif_team alone = bif_team_alone(1);
        const bif_near_options exact = {.memory = memory};
        BIF_TRY(bif_near_captions(&(bif_pool_part){pool, selection}, NULL, &exact, &alone, columns, &own));
        captions = &own;
    }
    const int64_t held = (images ? bif_relation_bytes(images) : 0) + (captions ? bif_relation_bytes(captions) : 0);
    BIF_TRY(bif_facts_read(pool, selection, options, memory, held, columns, &facts));
    bif_neighbours_make(options->match == BIF_MATCH_CAPTION ? NULL : images, &m.images);
    bif_neighbours_make(options->match == BIF_MATCH_IMAGE ? NULL : captions, &m.captions);
    count = ways_of(options->match, &m, ways);
    if (options->group == BIF_GROUP_GREEDY) {
        free(ways[1].found);
        ways[1].found = ways[0].found;
        greedy(ways, count);
    } else {
        const bool chained = options->group == BIF_GROUP_CHAIN;
        parent = chained ? bif_malloc((size_t)facts.count * sizeof *parent + 1) : NULL;
        for (int64_t i = 0; chained && i < facts.count; i++) {
            parent[i] = i;
        }
        for (int k = 0; k < count; k++) {
            ways[k].parent = parent;
            (chained ? chain : any)(&ways[k]);
        }
        for (int64_t i = 0; count > 1 && i < facts.count; i++) {
            const finding *f = &ways[1].found[i];
            if (f->other != NONE) {
                note(&ways[0].found[i], f->other, f->value, f->by_caption);
            }
        }
    }
    add_step(selection, &facts, ways[0].found, parent, options->match, parameters);
done:
    for (int k = count; k-- > 0;) {
        free(ways[k].finder.bucket);
        free(ways[k].finder.entries);
        if (k == 0 || ways[k].found != ways[0].found) {
            free(ways[k].found);
        }
    }
    free(parent);
    bif_neighbours_free(&m.images);
    bif_neighbours_free(&m.captions);
    bif_facts_free(&facts);
    bif_relation_free(&own);
    return st;
}
