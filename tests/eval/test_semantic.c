#include "embeddings_fixture.h"
#include "eval/cluster.h"
#include "eval/semantic.h"

enum { ROWS = 2300, WIDTH = 32, CENTRES = 700 };

/* Rows in the order of the pool, and their clusters if there are any. */
static void read_pool(const bif_pool *pool, float *unit, uint8_t *there, uint32_t *cluster)
{
    for (int64_t s = 0; s < pool->shards; s++) {
        bif_shard *shard = NULL;
        bif_column *a = NULL, *b = NULL;
        ok(bif_pool_shard(pool, s, &shard));
        ok(bif_column_need(shard, "clip.image", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F16, WIDTH, "", &a));
        ok(bif_column_open(shard, "clip.cluster", &b));
        for (int64_t i = 0; i < bif_shard_images(shard); i++) {
            const int64_t at = pool->first_image[s] + i;
            there[at] = bif_unit_row((const uint16_t *)bif_column_data(a) + i * WIDTH, WIDTH, unit + at * WIDTH);
            cluster[at] = b != NULL ? ((const uint32_t *)bif_column_data(b))[i] : 0;
        }
        bif_column_close(a);
        bif_column_close(b);
        bif_shard_close(shard);
    }
}

static double cosine(const float *a, const float *b)
{
    double sum = 0.0;
    for (int k = 0; k < WIDTH; k++) {
        sum += (double)a[k] * (double)b[k];
    }
    return sum;
}

static bool has_pair(const bif_relation *r, uint32_t a, uint32_t b, float *value)
{
    const uint64_t key = (uint64_t)(a < b ? a : b) << 32 | (a < b ? b : a);
    int64_t low = 0, high = r->pairs.count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        const bif_pair *p = &r->pairs.pair[middle];
        if (((uint64_t)p->a << 32 | p->b) < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *value = low < r->pairs.count ? r->pairs.pair[low].value : 0.0f;
    return low < r->pairs.count && ((uint64_t)r->pairs.pair[low].a << 32 | r->pairs.pair[low].b) == key;
}

/* Every two images: the same class, a pair of classes, or neither, as their numbers say. */
static void check(const bif_relation *r, const float *unit, const uint8_t *there, const uint32_t *cluster, bool within, double least,
                  int64_t first_other)
{
    int64_t matches = 0;
    for (int64_t i = 0; i < r->items; i++) {
        cr_assert((r->item[i] != BIF_NO_CLASS) == (there[i] != 0));
        for (int64_t j = i + 1; j < r->items; j++) {
            float value = 0.0f;
            const double c = there[i] && there[j] ? cosine(unit + i * WIDTH, unit + j * WIDTH) : -1.0;
            const bool same = there[i] && there[j] && memcmp(unit + i * WIDTH, unit + j * WIDTH, WIDTH * sizeof *unit) == 0;
            const bool want = c >= least && (!within || cluster[i] == cluster[j]) && (first_other == 0 || (i < first_other && j >= first_other));
            if (first_other > 0 && ((i < first_other) == (j < first_other))) {
                continue; /* pairs of one pool do not matter */
            }
            if (same) {
                cr_assert_eq(r->item[i], r->item[j]);
            } else if (there[i] && there[j]) {
                const bool got = r->item[i] != r->item[j] && has_pair(r, r->item[i], r->item[j], &value);
                cr_assert_eq(got, want, "%d and %d: cosine %.9g", (int)i, (int)j, c);
                cr_assert(!got || fabs((double)value - c) < 1e-6);
                matches += got;
            }
        }
    }
    cr_assert(matches > 100, "%d matches", (int)matches);
}

Test(semantic, pairs)
{
    bif_pool pool;
    bif_device *device = NULL;
    bif_relation r;
    bif_cluster_result clusters;
    uint16_t *rows = make_rows(ROWS, WIDTH, CENTRES, 0.2);
    float *unit = calloc(ROWS * WIDTH, sizeof *unit);
    uint8_t *there = calloc(ROWS, 1);
    uint32_t *cluster = calloc(ROWS, 4);
    enter_scratch();
    memset(rows + 5 * WIDTH, 0, 2 * WIDTH);
    rows[1200 * WIDTH] = 0x7e00; /* NaN */
    for (int i = 0; i < 40; i++) {
        memcpy(rows + (2000 + i) * WIDTH, rows + i * WIDTH, 2 * WIDTH); /* the same numbers again */
    }
    make_pool(rows, ROWS, WIDTH, 900, &pool);
    ok(bif_device_open("cpu", 1, &device));
    const bif_team team = bif_team_alone(1), two = bif_team_alone(2);
    const bif_pool_part part = {&pool, NULL};
    bif_semantic_options o = {.name = "clip", .cosine = 0.96, .all = true, .memory = (int64_t)256 << 20};
    json_t *columns = json_object();
    ok(bif_near_embeddings(&part, NULL, &o, &team, device, columns, &r));
    cr_assert_str_eq(json_string_value(json_object_get(columns, "clip.image")), "by hand");
    read_pool(&pool, unit, there, cluster);
    check(&r, unit, there, cluster, false, 0.96, 0);
    bif_relation_free(&r);

    o.all = false;
    cr_assert_eq(bif_near_embeddings(&part, NULL, &o, &team, device, columns, &r), BIF_ERR_DATA);
    cr_assert(strstr(bif_error_message(), "data cluster") != NULL);
    const bif_cluster_options k = {.name = "clip", .clusters = 6, .iterations = 5, .memory = (int64_t)256 << 20};
    ok(bif_cluster(&pool, &team, device, &k, &clusters));
    free(clusters.size);
    ok(bif_near_embeddings(&part, NULL, &o, &two, device, columns, &r));
    read_pool(&pool, unit, there, cluster);
    check(&r, unit, there, cluster, true, 0.96, 0);
    bif_relation_free(&r);
    o.memory = 1 << 20;
    cr_assert_eq(bif_near_embeddings(&part, NULL, &o, &team, device, columns, &r), BIF_ERR_MEMORY);
    o = (bif_semantic_options){.name = "clip", .cosine = 0.05, .all = true, .memory = (int64_t)24 << 20};
    cr_assert_eq(bif_near_embeddings(&part, NULL, &o, &team, device, columns, &r), BIF_ERR_MEMORY);
    cr_assert(strstr(bif_error_message(), "pairs match") != NULL, "%s", bif_error_message());
    json_decref(columns);
    free(rows);
    free(unit);
    free(there);
    free(cluster);
    bif_device_close(device);
    bif_pool_close(&pool);
}

Test(semantic, between_two_pools)
{
    bif_pool whole, one, two;
    bif_device *device = NULL;
    bif_relation r;
    const int64_t half = ROWS / 2;
    uint16_t *rows = make_rows(ROWS, WIDTH, CENTRES, 0.2);
    float *unit = calloc(ROWS * WIDTH, sizeof *unit);
    uint8_t *there = calloc(ROWS, 1);
    uint32_t *cluster = calloc(ROWS, 4);
    enter_scratch();
    for (int i = 0; i < 40; i++) {
        memcpy(rows + (half + 9 + i) * WIDTH, rows + i * WIDTH, 2 * WIDTH);
    }
    make_pool(rows, ROWS, WIDTH, half, &whole);
    const char *first[1] = {"pool/s-0.h5"}, *second[1] = {"pool/s-1.h5"};
    ok(bif_pool_open(first, 1, &one));
    ok(bif_pool_open(second, 1, &two));
    ok(bif_device_open("cpu", 1, &device));
    const bif_team team = bif_team_alone(1);
    const bif_pool_part part = {&one, NULL}, others = {&two, NULL};
    const bif_semantic_options o = {.name = "clip", .cosine = 0.96, .all = true, .memory = (int64_t)256 << 20};
    json_t *columns = json_object();
    ok(bif_near_embeddings(&part, &others, &o, &team, device, columns, &r));
    cr_assert_eq(r.items, ROWS);
    for (int64_t i = 0; i < ROWS; i++) {
        there[i] = bif_unit_row(rows + i * WIDTH, WIDTH, unit + i * WIDTH);
    }
    check(&r, unit, there, cluster, false, 0.96, half);
    bif_relation_free(&r);
    json_decref(columns);
    free(rows);
    free(unit);
    free(there);
    free(cluster);
    bif_device_close(device);
    bif_pool_close(&whole);
    bif_pool_close(&one);
    bif_pool_close(&two);
}
