#include "eval/semantic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "base/half.h"
#include "base/log.h"
#include "data/near_rows.h"
#include "eval/cluster.h"
#include "eval/pool_column.h"
#include "kernels/ops.h"

#define MARGIN 1e-3 /* of a product in f32 on any device; what lies within is decided in double */
#define UNIT_PRODUCTS ((int64_t)1 << 18)
enum { BLOCK = 1024, PAIR_BYTES = 52, SAY_SECONDS = 10 };

/* One pool's part of what is compared. */
typedef struct {
    const bif_pool_part *part;
    bif_pool_column rows, cluster;
    int64_t first; /* number of its first image */
} one_side;

typedef struct {
    uint32_t cluster, class;
} member;

typedef struct {
    const bif_semantic_options *options;
    const bif_team *team;
    bif_device *device;
    one_side side[2];
    int sides;
    int64_t width, classes;
    uint32_t *cluster;    /* [images] of both */
    const uint32_t *item; /* [classes] the first image of a class */
    uint8_t *of_side;     /* [classes] 1: has images of the first pool, 2: of the second */
    member *member;       /* [classes] by cluster, then class */
    int64_t *block;       /* [blocks + 1] first member of each; a block lies within one cluster */
    int64_t *end;         /* [blocks] the block behind its cluster */
    int64_t *unit;        /* [units + 1] first block of each */
    int64_t blocks, units, most;
    float *a, *b;         /* [BLOCK, width] */
    float *scores;        /* [BLOCK, BLOCK] */
    void *memory;
    bif_tensor x, w, y;
    bif_pairs pairs;
    struct timespec begin, said;
} comparing;

/* ---- what is compared ---- */

static bif_status open_side(comparing *c, one_side *s, json_t *columns)
{
    bif_status st = BIF_OK;
    char *image = bif_format("%s.image", c->options->name), *cluster = bif_format("%s.cluster", c->options->name);
    BIF_TRY(bif_pool_column_open(s->part->pool, image, BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F16, c->width, "run bifocal data embed", &s->rows));
    c->width = s->rows.width;
    if (!c->options->all) {
        BIF_TRY(bif_pool_column_open(s->part->pool, cluster, BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U32, 1,
                                     "run bifocal data cluster, or compare all with --all-pairs", &s->cluster));
    }
    for (int k = 0; k < (c->options->all ? 1 : 2); k++) {
        const bif_pool_column *column = k == 0 ? &s->rows : &s->cluster;
        const char *before = json_string_value(json_object_get(columns, column->name));
        if (before != NULL && strcmp(before, column->method) != 0) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: its column %s was made in another way (\"%s\") than the other shards' (\"%s\")%s",
                             s->part->pool->path[0], column->name, column->method, before,
                             k == 1 ? "; assign both to the same centroids (data cluster --assign)" : ""));
        }
        json_object_set_new(columns, column->name, json_string(column->method));
    }
done:
    free(image);
    free(cluster);
    return st;
}

static bif_status mark_used(const one_side *s, int64_t number, bool *used)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    BIF_TRY(bif_pool_shard(s->part->pool, number, &shard));
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        bif_shard_sample sample;
        if (bif_part_keeps(s->part, s->part->pool->first_sample[number] + i)) {
            BIF_TRY(bif_shard_get_sample(shard, i, &sample));
            for (int64_t k = 0; k < sample.image_count; k++) {
                used[sample.images[k]] = true;
            }
        }
    }
done:
    bif_shard_close(shard);
    return st;
}

static bool is_direction(const uint16_t *row, int64_t width)
{
    bool some = false, finite = true;
    for (int64_t i = 0; i < width; i++) {
        some |= (row[i] & 0x7fffu) != 0;
        finite &= (row[i] & 0x7c00u) != 0x7c00u;
    }
    return some && finite;
}

/* A digest of each image that takes part. */
static bif_status read_shard(comparing *c, one_side *s, int64_t number, bif_hash_rows *digests)
{
    bif_status st = BIF_OK;
    const int64_t first = s->first + s->part->pool->first_image[number];
    const void *data = NULL, *clusters = NULL;
    int64_t rows = 0;
    bool *used = NULL;
    BIF_TRY(bif_pool_column_at(&s->rows, number, &data, &rows));
    if (!c->options->all) {
        BIF_TRY(bif_pool_column_at(&s->cluster, number, &clusters, &rows));
    }
    used = bif_calloc((size_t)rows + 1, sizeof *used);
    BIF_TRY(mark_used(s, number, used));
    for (int64_t i = 0; i < rows; i++) {
        const uint16_t *row = (const uint16_t *)data + i * c->width;
        const uint32_t cluster = clusters != NULL ? ((const uint32_t *)clusters)[i] : 0;
        if (used[i] && cluster != BIF_NO_CLUSTER && is_direction(row, c->width)) {
            const XXH128_hash_t digest = XXH3_128bits(row, (size_t)c->width * sizeof *row);
            const uint64_t key[2] = {digest.high64, digest.low64};
            bif_rows_add(digests, (uint32_t)(first + i), key);
            c->cluster[first + i] = cluster;
        }
    }
done:
    free(used);
    return st;
}

static int by_cluster(const void *left, const void *right)
{
    const member *a = left, *b = right;
    return a->cluster != b->cluster ? (a->cluster < b->cluster ? -1 : 1) : (a->class < b->class ? -1 : a->class > b->class);
}

/* Members, blocks and units: the same on all ranks. */
static void lay_out(comparing *c)
{
    c->member = bif_malloc((size_t)c->classes * sizeof *c->member + 1);
    for (int64_t k = 0; k < c->classes; k++) {
        c->member[k] = (member){c->cluster[c->item[k]], (uint32_t)k};
    }
    qsort(c->member, (size_t)c->classes, sizeof *c->member, by_cluster);
    c->block = bif_malloc((size_t)(c->classes + 1) * sizeof *c->block);
    c->end = bif_malloc((size_t)(c->classes + 1) * sizeof *c->end);
    c->unit = bif_malloc((size_t)(c->classes + 2) * sizeof *c->unit);
    for (int64_t at = 0, stop = 0; at < c->classes; at = stop) {
        const int64_t first = c->blocks;
        while (stop < c->classes && c->member[stop].cluster == c->member[at].cluster) {
            stop++;
        }
        for (int64_t k = at; k < stop; k += BLOCK) {
            c->block[c->blocks++] = k;
        }
        for (int64_t k = first; k < c->blocks; k++) {
            c->end[k] = c->blocks;
        }
    }
    c->block[c->blocks] = c->classes;
    int64_t products = 0;
    for (int64_t k = 0; k < c->blocks; k++) {
        if (k == 0 || products >= UNIT_PRODUCTS) {
            c->unit[c->units++] = k;
            products = 0;
        }
        const int64_t last = c->block[c->end[k]];
        products += (c->block[k + 1] - c->block[k]) * (last - c->block[k]);
    }
    c->unit[c->units] = c->blocks;
}

/* ---- pairs ---- */

static int64_t block_rows(const comparing *c, int64_t block)
{
    return c->block[block + 1] - c->block[block];
}

static void fetch(comparing *c, int64_t block, float *out)
{
    const int64_t rows = block_rows(c, block);
#pragma omp parallel for schedule(static) num_threads(c->team->threads)
    for (int64_t i = 0; i < rows; i++) {
        const int64_t number = c->item[c->member[c->block[block] + i].class];
        one_side *s = &c->side[c->sides > 1 && number >= c->side[1].first];
        const void *row = NULL;
        if (bif_pool_column_row(&s->rows, number - s->first, &row) == BIF_OK) { /* open since read_shard */
            bif_unit_row(row, c->width, out + i * c->width);
        }
    }
}

static double cosine_of(const float *a, const float *b, int64_t width)
{
    double sum = 0.0;
    for (int64_t i = 0; i < width; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* Of two blocks (the same one: the half above the diagonal), whose rows are in a and b. */
static void compare_blocks(comparing *c, int64_t first, int64_t second, const float *b)
{
    const int64_t rows = block_rows(c, first), columns = block_rows(c, second);
    const bif_tensor x = bif_rows(&c->x, 0, rows), w = bif_rows(&c->w, 0, columns);
    bif_tensor y = bif_part2(&c->y, 0, rows, columns);
    c->device->copy_in(c->device, w.data, b, bif_bytes(&w));
    bif_linear(c->device, &(bif_linear_args){.x = &x, .w = &w, .y = &y});
    c->device->copy_out(c->device, c->scores, y.data, bif_bytes(&y));
    const float least = (float)(c->options->cosine - MARGIN);
#pragma omp parallel num_threads(c->team->threads)
    {
        bif_pairs mine = {0};
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const uint32_t one = c->member[c->block[first] + i].class;
            for (int64_t j = first == second ? i + 1 : 0; j < columns; j++) {
                const uint32_t two = c->member[c->block[second] + j].class;
                if (c->scores[i * columns + j] >= least && (c->sides == 1 || (c->of_side[one] | c->of_side[two]) == 3)) {
                    const double cosine = cosine_of(c->a + i * c->width, b + j * c->width, c->width);
                    if (cosine >= c->options->cosine) {
                        bif_pairs_add(&mine, one, two, (float)cosine);
                    }
                }
            }
        }
#pragma omp critical(semantic_pairs)
        for (int64_t i = 0; i < mine.count && c->pairs.count <= c->most; i++) {
            bif_pairs_add(&c->pairs, mine.pair[i].a, mine.pair[i].b, mine.pair[i].value);
        }
        bif_pairs_free(&mine);
    }
}

static double seconds_since(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + 1e-9 * (double)(now.tv_nsec - from->tv_nsec);
}

static bif_status too_many(int64_t most)
{
    return bif_fail(BIF_ERR_MEMORY, "more than %lld pairs match: choose a higher cosine, more clusters, or a higher --memory-mib",
                    (long long)most);
}

static bif_status compare_unit(void *argument, int64_t unit)
{
    comparing *c = argument;
    for (int64_t i = c->unit[unit]; i < c->unit[unit + 1]; i++) {
        fetch(c, i, c->a);
        const bif_tensor x = bif_rows(&c->x, 0, block_rows(c, i));
        c->device->copy_in(c->device, x.data, c->a, bif_bytes(&x));
        for (int64_t j = i; j < c->end[i]; j++) {
            if (j > i) {
                fetch(c, j, c->b);
            }
            compare_blocks(c, i, j, j > i ? c->b : c->a);
            c->team->poll(c->team->context);
            if (c->pairs.count > c->most) {
                return too_many(c->most);
            }
        }
        if (seconds_since(&c->said) >= SAY_SECONDS) {
            clock_gettime(CLOCK_MONOTONIC, &c->said);
            bif_info("near embeddings: part %lld of %lld, %.0f s, %lld pairs on this rank", (long long)unit, (long long)c->units,
                     seconds_since(&c->begin), (long long)c->pairs.count);
        }
    }
    return BIF_OK;
}

static bif_status gather_pairs(comparing *c)
{
    bif_status st = BIF_OK;
    char *all = NULL;
    size_t size = 0;
    c->team->gather(c->team->context, c->pairs.pair, (size_t)c->pairs.count * sizeof *c->pairs.pair, &all, &size);
    bif_pairs_free(&c->pairs);
    if (c->team->rank == 0) {
        const int64_t count = (int64_t)(size / sizeof(bif_pair));
        c->pairs = (bif_pairs){(bif_pair *)(void *)all, count, count};
        st = count > c->most ? too_many(c->most) : BIF_OK;
        if (st == BIF_OK) {
            bif_pairs_sort(&c->pairs, false);
        }
    }
    return c->team->agree(c->team->context, st);
}

/* ---- all of it ---- */

static void plan(comparing *c, bif_arena *arena)
{
    c->x = bif_take2(arena, BIF_DTYPE_F32, BLOCK, c->width);
    c->w = bif_take2(arena, BIF_DTYPE_F32, BLOCK, c->width);
    c->y = bif_take2(arena, BIF_DTYPE_F32, BLOCK, BLOCK);
}

static bif_status open_all(comparing *c, json_t *columns, int64_t items)
{
    bif_status st = BIF_OK;
    for (int k = 0; k < c->sides; k++) {
        BIF_TRY(open_side(c, &c->side[k], columns));
    }
    bif_arena arena = bif_arena_measure("near embeddings");
    plan(c, &arena);
    const int64_t need = items * (int64_t)(2 * sizeof(uint32_t) + 1 + 2 * sizeof(member) + 3 * sizeof(int64_t)) +
                         bif_rows_bytes(items, 16) + (int64_t)arena.peak + BLOCK * (2 * c->width + BLOCK) * (int64_t)sizeof(float);
    const int64_t least = need + ((int64_t)PAIR_BYTES << 16);
    if (least > c->options->memory) {
        BIF_TRY(bif_fail(BIF_ERR_MEMORY, "comparing the embeddings of %lld pictures takes %lld MiB a rank, and --memory-mib allows %lld",
                         (long long)items, (long long)(least >> 20) + 1, (long long)(c->options->memory >> 20)));
    }
    if (items > (int64_t)UINT32_MAX - 1) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%lld images are more than can be compared at once (4294967294)", (long long)items));
    }
    c->most = (c->options->memory - need) / PAIR_BYTES;
    BIF_TRY(c->device->alloc(c->device, arena.peak, &c->memory));
    arena = bif_arena_over("near embeddings", c->memory, arena.peak);
    plan(c, &arena);
    c->a = bif_calloc((size_t)(BLOCK * c->width), sizeof *c->a);
    c->b = bif_calloc((size_t)(BLOCK * c->width), sizeof *c->b);
    c->scores = bif_calloc((size_t)BLOCK * BLOCK, sizeof *c->scores);
    c->cluster = bif_calloc((size_t)items + 1, sizeof *c->cluster);
done:
    return st;
}

static bif_status read_all(comparing *c, bif_hash_rows *digests)
{
    bif_status st = BIF_OK;
    for (int k = 0; k < c->sides; k++) {
        for (int64_t i = 0; i < c->side[k].part->pool->shards; i++) {
            BIF_TRY(read_shard(c, &c->side[k], i, digests));
        }
    }
done:
    return st;
}

static void free_all(comparing *c)
{
    for (int k = 0; k < 2; k++) {
        bif_pool_column_close(&c->side[k].rows);
        bif_pool_column_close(&c->side[k].cluster);
    }
    if (c->memory != NULL) {
        c->device->release(c->device, c->memory);
    }
    free(c->cluster);
    free(c->of_side);
    free(c->member);
    free(c->block);
    free(c->end);
    free(c->unit);
    free(c->a);
    free(c->b);
    free(c->scores);
    bif_pairs_free(&c->pairs);
}

bif_status bif_near_embeddings(const bif_pool_part *part, const bif_pool_part *others, const bif_semantic_options *options,
                               const bif_team *team, bif_device *device, json_t *columns, bif_relation *out)
{
    bif_status st = BIF_OK;
    const int64_t first_other = part->pool->images, items = first_other + (others != NULL ? others->pool->images : 0);
    bif_hash_rows digests = {0};
    bif_relation relation = {.items = items, .similarity = true};
    comparing c = {.options = options, .team = team, .device = device, .sides = others != NULL ? 2 : 1,
                   .side = {{.part = part}, {.part = others, .first = first_other}}};
    *out = (bif_relation){0};
    clock_gettime(CLOCK_MONOTONIC, &c.begin);
    c.said = c.begin;
    BIF_TRY(team->agree(team->context, open_all(&c, columns, items)));
    digests = bif_rows_new(items, 16);
    relation.item = bif_malloc((size_t)items * sizeof *relation.item + 4);
    memset(relation.item, 0xff, (size_t)items * sizeof *relation.item); /* BIF_NO_CLASS */
    BIF_TRY(team->agree(team->context, read_all(&c, &digests)));
    relation.classes = c.classes = bif_rows_classes(&digests, 0, relation.item);
    c.item = digests.number;
    c.of_side = bif_calloc((size_t)c.classes + 1, 1);
    for (int64_t i = 0; i < items; i++) {
        if (relation.item[i] != BIF_NO_CLASS) {
            c.of_side[relation.item[i]] |= i < first_other ? 1 : 2;
        }
    }
    lay_out(&c);
    bif_info("%lld different embeddings in %lld parts", (long long)c.classes, (long long)c.units);
    BIF_TRY(team->share(team->context, c.units, compare_unit, &c));
    BIF_TRY(gather_pairs(&c));
    relation.pairs = c.pairs;
    c.pairs = (bif_pairs){0};
done:
    free_all(&c);
    bif_rows_free(&digests);
    if (st != BIF_OK || team->rank != 0) {
        bif_relation_free(&relation);
    }
    *out = relation;
    return st;
}
