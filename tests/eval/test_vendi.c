#include "embeddings_fixture.h"
#include "data/diversity.h"
#include "eval/vendi.h"

enum { ROWS = 700, WIDTH = 37 };

/* Twelve directions at right angles, equally often, some rows empty, one infinite: twelve. */
Test(vendi, directions)
{
    bif_pool pool;
    bif_vendi v;
    uint16_t *rows = calloc(ROWS * WIDTH, sizeof *rows), *times = calloc(ROWS, sizeof *times);
    for (int i = 0; i < 600; i++) {
        rows[i * WIDTH + i % 12 * 3] = bif_to_f16(i % 2 ? 0.5f : -1.0f); /* only directions count, not lengths */
    }
    rows[600 * WIDTH] = 0x7c00;
    enter_scratch();
    make_pool(rows, ROWS, WIDTH, 300, &pool);
    const bif_team team = bif_team_alone(1);
    ok(bif_vendi_column(&pool, &team, "clip.image", BIF_COLUMN_OF_IMAGE, NULL, &v));
    cr_assert_float_eq(v.score, 12.0, 1e-9);
    cr_assert(v.rows == 600 && v.width == WIDTH);
    /* Sample i shows picture i: of the first shard only four directions stay; times of a picture do not count. */
    for (int64_t i = 0; i < pool.samples; i++) {
        bif_shard *shard = NULL;
        bif_shard_sample sample;
        const int64_t s = bif_pool_shard_of_sample(&pool, i);
        ok(bif_pool_shard(&pool, s, &shard));
        ok(bif_shard_get_sample(shard, i - pool.first_sample[s], &sample));
        const long number = strtol(sample.text + 12, NULL, 10);
        times[i] = number % 12 < 4 ? (uint16_t)(1 + number % 3) : 0;
        bif_shard_close(shard);
    }
    ok(bif_vendi_column(&pool, &team, "clip.image", BIF_COLUMN_OF_IMAGE, times, &v));
    cr_assert_float_eq(v.score, 4.0, 1e-9, "%.12g", v.score);
    cr_assert_eq(v.rows, 200);
    memset(times, 0, ROWS * sizeof *times);
    ok(bif_vendi_column(&pool, &team, "clip.image", BIF_COLUMN_OF_IMAGE, times, &v));
    cr_assert(v.score == 0.0 && v.rows == 0);
    cr_assert_eq(bif_vendi_column(&pool, &team, "no.image", BIF_COLUMN_OF_IMAGE, NULL, &v), BIF_ERR_DATA);
    bif_shard *last = NULL; /* embeddings of another checkpoint among them */
    ok(bif_pool_shard(&pool, pool.shards - 1, &last));
    const bif_column_info another = {"clip.image", "another", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F16, bif_shard_images(last), WIDTH};
    ok(bif_column_write(last, &another, rows));
    bif_shard_close(last);
    cr_assert_eq(bif_vendi_column(&pool, &team, "clip.image", BIF_COLUMN_OF_IMAGE, NULL, &v), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "'another'"), "%s", bif_error_message());
    free(rows);
    free(times);
    bif_pool_close(&pool);
}

/* Any rows: the eigenvalues of a covariance that is summed here in another order; the same bits for two threads and for shards cut
 * otherwise in time (units in the reverse order, as another rank might take them). */
static bif_status backwards(void *context, int64_t units, bif_status (*run)(void *argument, int64_t unit), void *argument)
{
    bif_status st = BIF_OK;
    (void)context;
    for (int64_t u = units; u-- > 0 && st == BIF_OK;) {
        st = run(argument, u);
    }
    return st;
}

Test(vendi, any_rows)
{
    bif_pool pool;
    bif_vendi one, two, reversed;
    uint16_t *rows = make_rows(ROWS, WIDTH, 9, 0.3);
    double *covariance = calloc(WIDTH * WIDTH, sizeof *covariance), values[WIDTH];
    float unit[WIDTH];
    enter_scratch();
    make_pool(rows, ROWS, WIDTH, 90, &pool);
    for (int64_t i = ROWS; i-- > 0;) {
        cr_assert(bif_unit_row(rows + i * WIDTH, WIDTH, unit));
        for (int a = 0; a < WIDTH; a++) {
            for (int b = 0; b < WIDTH; b++) {
                covariance[a * WIDTH + b] += (double)unit[a] * (double)unit[b] / ROWS;
            }
        }
    }
    bif_symmetric_eigenvalues(covariance, WIDTH, values);
    bif_team team = bif_team_alone(1);
    ok(bif_vendi_column(&pool, &team, "clip.image", BIF_COLUMN_OF_IMAGE, NULL, &one));
    cr_assert_float_eq(one.score, bif_vendi_of(values, WIDTH), 1e-10);
    team.threads = 2;
    ok(bif_vendi_column(&pool, &team, "clip.image", BIF_COLUMN_OF_IMAGE, NULL, &two));
    team.share = backwards;
    ok(bif_vendi_column(&pool, &team, "clip.image", BIF_COLUMN_OF_IMAGE, NULL, &reversed));
    cr_assert(one.score == two.score && one.score == reversed.score);
    free(rows);
    free(covariance);
    bif_pool_close(&pool);
}
