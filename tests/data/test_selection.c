#include <stdio.h>

#include "data/selection.h"
#include "shard_help.h"

TestSuite(selection, .init = shard_setup, .fini = shard_teardown);

/* Shard `which` has 4 + which samples without pictures. */
static void write_shard(const char *path, int which)
{
    bif_shard_writer *writer = NULL;
    cr_assert_eq(bif_shard_writer_open(path, &writer), BIF_OK);
    for (int i = 0; i < 4 + which; i++) {
        char text[64], id[64];
        snprintf(text, sizeof text, "{\"caption\":\"shard %d sample %d\"}", which, i);
        snprintf(id, sizeof id, i == 1 ? "0123456789abcdefFEDCBA987654321%x" : "id %d", which + (i == 1 ? 0 : i));
        cr_assert_eq(bif_shard_add_sample(writer, text, strlen(text), id, "test", NULL, 0), BIF_OK);
    }
    cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK);
}

static const char *const abc[] = {"a.h5", "b.h5", "c.h5"};

static bif_pool open_pool(const char *const *paths, size_t count)
{
    bif_pool pool;
    for (int i = 0; i < 3; i++) {
        if (!bif_exists(abc[i])) {
            write_shard(abc[i], i);
        }
    }
    cr_assert_eq(bif_pool_open(paths, count, &pool), BIF_OK, "%s", bif_error_message());
    return pool;
}

Test(selection, pool_has_one_order)
{
    bif_pool pool = open_pool(abc, 3), other = open_pool((const char *[]){"c.h5", "a.h5", "b.h5"}, 3), folder = open_pool((const char *[]){"."}, 1);
    cr_assert_eq(pool.samples, 15);
    for (int64_t i = 0; i < 3; i++) {
        cr_expect_str_eq(pool.path[i], other.path[i]);
        cr_expect_str_eq(pool.digest[i], folder.digest[i]);
        cr_expect_eq(pool.first_sample[i], other.first_sample[i]);
        cr_expect(i == 0 || strcmp(pool.digest[i - 1], pool.digest[i]) < 0);
    }
    for (int64_t i = 0, s = 0; i < 15; i++) {
        s += i == pool.first_sample[s + 1];
        cr_expect_eq(bif_pool_shard_of_sample(&pool, i), s);
    }
    bif_pool bad;
    cr_expect_eq(bif_pool_open((const char *[]){"a.h5", "./a.h5"}, 2, &bad), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "same shard") != NULL);
    bif_pool_close(&pool);
    bif_pool_close(&other);
    bif_pool_close(&folder);
}

Test(selection, uids)
{
    bif_pool pool = open_pool(abc, 1);
    bif_shard *shard = NULL;
    uint64_t a[2], b[2];
    cr_assert_eq(bif_pool_shard(&pool, 0, &shard), BIF_OK);
    cr_assert_eq(bif_sample_uid(shard, 1, a), BIF_OK);
    cr_expect_eq(a[0], 0x0123456789abcdef);
    cr_expect_eq(a[1], 0xfedcba9876543210);
    cr_assert_eq(bif_sample_uid(shard, 0, a), BIF_OK);
    cr_assert_eq(bif_sample_uid(shard, 2, b), BIF_OK);
    cr_expect(a[0] != b[0] && a[1] != b[1]);
    bif_shard_close(shard);
    bif_pool_close(&pool);
}

static bif_selection *three_steps(const bif_pool *pool)
{
    static const char *const reasons[] = {"duplicate", "repeated"};
    static const bif_drop first[] = {{3, 1, 0.5f, 0, 0}, {7, BIF_NO_SAMPLE, 3.0f, 1, 3}, {14, 3, 1.0f, 0, 0}};
    static const bif_drop second[] = {{7, 0, 2.0f, 0, 2}, {8, 0, 2.0f, 0, 0}};
    json_t *parameters = json_pack("{s:s, s:f}", "z", "later", "a", 0.1);
    bif_selection *s = bif_selection_new(pool);
    cr_expect_eq(bif_selection_kept(s), 15);
    bif_selection_add(s, "dedup", parameters, reasons, 2, first, 3);
    cr_expect_eq(bif_selection_kept(s), 15);
    bif_selection_add(s, "prune", parameters, reasons, 1, second, 2);
    cr_expect_eq(bif_selection_kept(s), 13);
    bif_selection_add(s, "balance", parameters, NULL, 0, NULL, 0);
    json_decref(parameters);
    return s;
}

/* Whoever wrote such a file would have the numbers of samples read beyond the end of the selection's. */
Test(selection, other_counts_of_samples_are_refused)
{
    bif_pool pool = open_pool(abc, 3);
    bif_selection *s = three_steps(&pool);
    pool.first_sample[1]++;
    cr_expect_eq(bif_selection_check(s, "s.sel", &pool), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "samples; it has") != NULL, "%s", bif_error_message());
    bif_selection_free(s);
    bif_pool_close(&pool);
}

Test(selection, comes_back_and_is_undone)
{
    bif_pool pool = open_pool(abc, 3);
    bif_selection *s = three_steps(&pool), *t = NULL;
    char a[33], b[33], *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    cr_assert_eq(bif_selection_write(s, "s.sel"), BIF_OK);
    cr_assert_eq(bif_selection_read("s.sel", &t), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bif_selection_check(t, "s.sel", &pool), BIF_OK);
    cr_expect_eq(memcmp(bif_selection_times(s), bif_selection_times(t), 15 * sizeof(uint16_t)), 0);
    cr_expect_str_eq(bif_selection_digest(s, a), bif_selection_digest(t, b));
    static const uint16_t want[] = {1, 1, 1, 0, 1, 1, 1, 2, 0, 1, 1, 1, 1, 1, 0};
    cr_expect_eq(memcmp(bif_selection_times(t), want, sizeof want), 0);
    const bif_selection_step step = bif_selection_get(t, 0);
    cr_expect_str_eq(step.verb, "dedup");
    cr_expect_eq(step.before, 15);
    cr_expect_eq(step.after, 15);
    cr_expect_eq(step.reason_records[0], 2);
    cr_expect_str_eq(step.reason[1], "repeated");
    const bif_drop *drop = bif_selection_find(t, 0, 14);
    cr_assert_not_null(drop);
    cr_expect_eq(drop->other, 3);
    cr_expect_null(bif_selection_find(t, 0, 13));
    cr_expect_null(bif_selection_find(t, 2, 7));
    cr_assert_eq(bif_selection_write(t, "t.sel"), BIF_OK);
    cr_assert_eq(bif_file_read("s.sel", 1 << 20, &x, &n), BIF_OK);
    cr_assert_eq(bif_file_read("t.sel", 1 << 20, &y, &m), BIF_OK);
    cr_expect(n == m && memcmp(x, y, n) == 0, "read and written again, the file differs");
    cr_expect_eq(bif_selection_undo(t, 4), BIF_ERR_USAGE);
    cr_assert_eq(bif_selection_undo(t, 2), BIF_OK);
    cr_expect_eq(bif_selection_times(t)[7], 3);
    cr_expect_eq(bif_selection_times(t)[8], 1);
    cr_assert_eq(bif_selection_undo(t, 1), BIF_OK);
    cr_expect_eq(bif_selection_kept(t), 15);
    cr_expect_eq(bif_selection_times(t)[3], 1);
    free(x);
    free(y);
    bif_selection_free(s);
    bif_selection_free(t);
    bif_pool_close(&pool);
}

Test(selection, other_shards_are_named)
{
    bif_pool pool = open_pool(abc, 3), less = open_pool(abc, 2);
    bif_selection *s = three_steps(&pool), *t = bif_selection_new(&less);
    cr_expect_eq(bif_selection_check(s, "s", &less), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "with the shard c.h5") != NULL, "%s", bif_error_message());
    cr_expect_eq(bif_selection_check(t, "t", &pool), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "without the shard 'c.h5'") != NULL, "%s", bif_error_message());
    bif_selection_free(s);
    bif_selection_free(t);
    bif_pool_close(&pool);
    bif_pool_close(&less);
}

/* Every byte flipped, every length: an error or, where it means nothing, the same content; never a crash. Records are covered by digests. */
Test(selection, damage)
{
    bif_pool pool = open_pool(abc, 3);
    bif_selection *s = three_steps(&pool), *t = NULL;
    char *x = NULL;
    size_t n = 0;
    cr_assert_eq(bif_selection_write(s, "s.sel"), BIF_OK);
    cr_assert_eq(bif_file_read("s.sel", 1 << 20, &x, &n), BIF_OK);
    for (size_t i = 0; i < n; i++) {
        x[i] ^= 1;
        cr_assert_eq(bif_file_write("d.sel", x, n), BIF_OK);
        const bif_status st = bif_selection_read("d.sel", &t);
        cr_expect(st == BIF_OK || st == BIF_ERR_DATA, "byte %zu", i);
        cr_expect(st != BIF_OK || i < n - 5 * sizeof(bif_drop), "byte %zu of the records", i);
        bif_selection_free(t);
        x[i] ^= 1;
    }
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(bif_file_write("d.sel", x, i), BIF_OK);
        cr_expect_eq(bif_selection_read("d.sel", &t), BIF_ERR_DATA, "length %zu", i);
    }
    free(x);
    bif_selection_free(s);
    bif_pool_close(&pool);
}

/* Names of files and reasons made of a shard's names may be no UTF-8. */
Test(selection, names_that_are_no_text)
{
    bif_pool pool = {0};
    bif_selection *selection = NULL, *back = NULL;
    json_t *parameters = json_object();
    const bif_drop drop = {.sample = 5, .other = BIF_NO_SAMPLE};
    write_shard("\xff.h5", 0);
    write_shard("b.h5", 1);
    cr_assert_eq(bif_pool_open((const char *[]){"\xff.h5", "b.h5"}, 2, &pool), BIF_OK);
    selection = bif_selection_new(&pool);
    bif_selection_add(selection, "test", parameters, (const char *[]){"of source \xfe"}, 1, &drop, 1);
    cr_assert_eq(bif_selection_write(selection, "s.sel"), BIF_OK);
    cr_assert_eq(bif_selection_read("s.sel", &back), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_selection_check(back, "s.sel", &pool), BIF_OK);
    cr_expect_eq(bif_selection_kept(back), 8);
    cr_expect_str_eq(bif_selection_get(back, 0).reason[0], "of source \\xfe");
    const bool first = strcmp(bif_path_base(pool.path[0]), "b.h5") != 0;
    cr_expect_str_eq(bif_selection_shard(back, first ? 0 : 1, NULL, NULL), "\\xff.h5");
    json_decref(parameters);
    bif_selection_free(selection);
    bif_selection_free(back);
    bif_pool_close(&pool);
}
