#include "embeddings_fixture.h"
#include "eval/cluster.h"

enum { ROWS = 1500, WIDTH = 24, CENTRES = 10 };

static void open_device(int threads, bif_device **device)
{
    ok(bif_device_open("cpu", threads, device));
}

static bif_cluster_options usual(void)
{
    return (bif_cluster_options){.name = "clip", .clusters = CENTRES, .iterations = 30, .memory = (int64_t)1 << 30, .save = "c.npy"};
}

/* Columns of a shard in the order of the pool. */
static void read_back(const bif_pool *pool, uint32_t *cluster, float *distance)
{
    for (int64_t s = 0; s < pool->shards; s++) {
        bif_shard *shard = NULL;
        bif_column *a = NULL, *b = NULL;
        ok(bif_pool_shard(pool, s, &shard));
        ok(bif_column_need(shard, "clip.cluster", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U32, 1, "", &a));
        ok(bif_column_need(shard, "clip.cluster_distance", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F32, 1, "", &b));
        memcpy(cluster + pool->first_image[s], bif_column_data(a), (size_t)bif_shard_images(shard) * 4);
        memcpy(distance + pool->first_image[s], bif_column_data(b), (size_t)bif_shard_images(shard) * 4);
        bif_column_close(a);
        bif_column_close(b);
        bif_shard_close(shard);
    }
}

static void read_rows(const bif_pool *pool, float *unit, bool *there)
{
    for (int64_t s = 0; s < pool->shards; s++) {
        bif_shard *shard = NULL;
        bif_column *a = NULL;
        ok(bif_pool_shard(pool, s, &shard));
        ok(bif_column_need(shard, "clip.image", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F16, WIDTH, "", &a));
        for (int64_t i = 0; i < bif_shard_images(shard); i++) {
            there[pool->first_image[s] + i] =
                bif_unit_row((const uint16_t *)bif_column_data(a) + i * WIDTH, WIDTH, unit + (pool->first_image[s] + i) * WIDTH);
        }
        bif_column_close(a);
        bif_shard_close(shard);
    }
}

/* A settled result is a fixed point: centroids are the directions of their members' sums, and each row lies with the nearest. */
static void check_fixed_point(const bif_pool *pool, const float *centroid, const uint32_t *cluster, const float *distance)
{
    float *unit = calloc(ROWS * WIDTH, sizeof *unit);
    bool *there = calloc(ROWS, 1);
    double *sum = calloc(CENTRES * WIDTH, sizeof *sum);
    read_rows(pool, unit, there);
    for (int64_t i = 0; i < ROWS; i++) {
        double best = -2.0, own = 0.0;
        if (!there[i]) {
            cr_assert(cluster[i] == BIF_NO_CLUSTER && isnan(distance[i]));
            continue;
        }
        for (int k = 0; k < CENTRES; k++) {
            double cosine = 0.0;
            for (int j = 0; j < WIDTH; j++) {
                cosine += (double)unit[i * WIDTH + j] * (double)centroid[k * WIDTH + j];
            }
            best = fmax(best, cosine);
            own = (uint32_t)k == cluster[i] ? cosine : own;
        }
        cr_assert(own > best - 1e-6, "row %d is not with its nearest: %g, %g", (int)i, own, best);
        cr_assert_float_eq(distance[i], 1.0 - own, 1e-6);
        for (int j = 0; j < WIDTH; j++) {
            sum[(int64_t)cluster[i] * WIDTH + j] += (double)unit[i * WIDTH + j];
        }
    }
    for (int k = 0; k < CENTRES; k++) {
        double square = 0.0;
        for (int j = 0; j < WIDTH; j++) {
            square += sum[k * WIDTH + j] * sum[k * WIDTH + j];
        }
        for (int j = 0; j < WIDTH; j++) {
            cr_assert_float_eq(centroid[k * WIDTH + j], sum[k * WIDTH + j] / sqrt(square), 1e-6);
        }
    }
    free(unit);
    free(there);
    free(sum);
}

Test(cluster, fixed_point)
{
    bif_pool pool;
    bif_device *device = NULL;
    bif_cluster_result r, again;
    float *centroid = NULL, *other = NULL;
    int64_t clusters = 0, width = 0;
    uint32_t *cluster = calloc(ROWS, 4), *second = calloc(ROWS, 4);
    float *distance = calloc(ROWS, 4);
    uint16_t *rows = make_rows(ROWS, WIDTH, CENTRES, 0.4);
    enter_scratch();
    memset(rows + 7 * WIDTH, 0, 2 * WIDTH); /* nothing there */
    rows[700 * WIDTH + 3] = 0x7c00;         /* infinity: hostile */
    make_pool(rows, ROWS, WIDTH, 400, &pool);
    open_device(1, &device);
    const bif_team one = bif_team_alone(1), two = bif_team_alone(2);
    bif_cluster_options o = usual();
    ok(bif_cluster(&pool, &one, device, &o, &r));
    cr_assert(r.settled && r.used == CENTRES && r.rows == ROWS - 2 && r.empty_rows == 2 && r.columns == 8);
    ok(bif_centroids_read("c.npy", &centroid, &clusters, &width));
    cr_assert(clusters == CENTRES && width == WIDTH);
    read_back(&pool, cluster, distance);
    check_fixed_point(&pool, centroid, cluster, distance);

    /* The same with two threads, and when only assigned to its own centroids; nothing is written again. */
    bif_device_close(device);
    open_device(2, &device);
    o.save = "d.npy";
    ok(bif_cluster(&pool, &two, device, &o, &again));
    cr_assert(again.columns == 0 && again.present == 8 && again.distance == r.distance);
    ok(bif_centroids_read("d.npy", &other, &clusters, &width));
    cr_assert_arr_eq(centroid, other, CENTRES * WIDTH * sizeof(float));
    free(again.size);
    o.save = NULL;
    o.assign = "c.npy";
    ok(bif_cluster(&pool, &two, device, &o, &again));
    cr_assert(again.columns == 0 && again.present == 8 && again.distance == r.distance);
    free(again.size);

    /* Another seed is another way; without --overwrite it is refused. */
    o = usual();
    o.seed = 5;
    o.clusters = 3;
    cr_assert_eq(bif_cluster(&pool, &two, device, &o, &again), BIF_ERR_DATA);
    cr_assert(strstr(bif_error_message(), "--overwrite") != NULL);
    o.overwrite = true;
    ok(bif_cluster(&pool, &two, device, &o, &again));
    cr_assert(again.columns == 8 && again.distance > r.distance);
    read_back(&pool, second, distance);
    cr_assert(memcmp(cluster, second, ROWS * 4) != 0);
    free(again.size);
    free(r.size);
    free(centroid);
    free(other);
    free(cluster);
    free(second);
    free(distance);
    free(rows);
    bif_device_close(device);
    bif_pool_close(&pool);
}

/* Twenty clusters of rows that are only twelve directions: some run empty and are given halves, and all ends. */
Test(cluster, few_directions)
{
    bif_pool pool;
    bif_device *device = NULL;
    bif_cluster_result r;
    uint16_t *rows = make_rows(300, WIDTH, 300, 0.0);
    for (int64_t i = 12; i < 300; i++) {
        memcpy(rows + i * WIDTH, rows + i % 12 * WIDTH, 2 * WIDTH);
    }
    enter_scratch();
    make_pool(rows, 300, WIDTH, 150, &pool);
    open_device(1, &device);
    const bif_team team = bif_team_alone(1);
    bif_cluster_options o = usual();
    o.clusters = 20;
    ok(bif_cluster(&pool, &team, device, &o, &r));
    cr_assert(r.rows == 300 && r.used >= 12 && r.distance < 1e-3, "%d used, distance %g", (int)r.used, r.distance);
    free(r.size);
    bif_device_close(device);
    bif_pool_close(&pool);
    free(rows);
}

Test(cluster, refused)
{
    bif_pool pool;
    bif_device *device = NULL;
    bif_cluster_result r;
    uint16_t *rows = make_rows(40, WIDTH, 40, 0.0);
    enter_scratch();
    make_pool(rows, 40, WIDTH, 15, &pool);
    open_device(1, &device);
    const bif_team team = bif_team_alone(1);
    bif_cluster_options o = usual();
    o.clusters = 41;
    cr_assert_eq(bif_cluster(&pool, &team, device, &o, &r), BIF_ERR_DATA);
    cr_assert(strstr(bif_error_message(), "41 clusters of 40 distinct rows") != NULL, "%s", bif_error_message());
    o.clusters = 40;
    o.memory = 1 << 20;
    cr_assert_eq(bif_cluster(&pool, &team, device, &o, &r), BIF_ERR_MEMORY);
    o = usual();
    o.name = "other";
    cr_assert_eq(bif_cluster(&pool, &team, device, &o, &r), BIF_ERR_DATA);
    cr_assert(strstr(bif_error_message(), "run bifocal data embed") != NULL);
    /* Centroids of strangers: a wrong width, a wrong type, a cut file, NaN. */
    o = usual();
    o.clusters = 2;
    ok(bif_cluster(&pool, &team, device, &o, &r));
    free(r.size);
    char *good = NULL;
    size_t size = 0;
    ok(bif_file_read("c.npy", 1 << 20, &good, &size));
    o.assign = "bad.npy";
    ok(bif_file_write("bad.npy", good, size - 1));
    cr_assert_eq(bif_cluster(&pool, &team, device, &o, &r), BIF_ERR_DATA);
    char *type = memmem(good, size, "<f4", 3);
    type[2] = '8';
    ok(bif_file_write("bad.npy", good, size));
    cr_assert_eq(bif_cluster(&pool, &team, device, &o, &r), BIF_ERR_DATA);
    type[2] = '4';
    const uint32_t nan = 0x7fc00000;
    memcpy(good + size - 4, &nan, 4);
    ok(bif_file_write("bad.npy", good, size));
    cr_assert_eq(bif_cluster(&pool, &team, device, &o, &r), BIF_ERR_DATA);
    cr_assert(strstr(bif_error_message(), "row 1 is no direction") != NULL);
    char *shape = memmem(good, size, "(2, 24)", 7);
    memcpy(shape, "(4, 12)", 7);
    ok(bif_file_write("bad.npy", good, size - 200));
    cr_assert_eq(bif_cluster(&pool, &team, device, &o, &r), BIF_ERR_DATA);
    free(good);
    free(rows);
    bif_device_close(device);
    bif_pool_close(&pool);
}
