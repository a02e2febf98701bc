/* New shards of what a selection keeps: pictures, texts and columns that go along, and what does not. */
#include "data/compact.h"

#include <stdio.h>

#include "shard_help.h"

/* Sources of 6 samples each. Picture p of a shard has 300 bytes made of `shard` and p; picture 5 is the same in both. Sample i shows picture i, sample 2
 * also picture 0, sample 4 none but text. */
enum { SAMPLES = 6, SOURCES = 2, SIZE = 300 };

static void picture(int shard, int p, unsigned char bytes[SIZE])
{
    for (int i = 0; i < SIZE; i++) {
        bytes[i] = (unsigned char)(i * 7 + (p == 5 ? 90 : shard * 40 + p) * 13);
    }
}

/* broken: the text of sample 1 is no JSON, and picture 3 has no height. */
static void make_source(int number, const char *path, bool broken)
{
    bif_shard_writer *writer = NULL;
    int64_t index[SAMPLES];
    unsigned char bytes[SIZE];
    cr_assert_eq(bif_shard_writer_open(path, &writer), BIF_OK);
    for (int p = 0; p < SAMPLES; p++) {
        picture(number, p, bytes);
        const uint32_t height = broken && p == 3 ? 0 : 20;
        cr_assert_eq(bif_shard_add_image(writer, bytes, SIZE, BIF_IMAGE_PNG, (uint32_t)(10 + p), height, &index[p]), BIF_OK);
    }
    for (int i = 0; i < SAMPLES; i++) {
        char text[64], id[16];
        snprintf(text, sizeof text, "{\"caption\":\"sample %d of %d\"}", i, number);
        snprintf(id, sizeof id, i == 3 ? "" : "%d-%d", number, i);
        text[0] = broken && i == 1 ? '[' : '{';
        const int64_t images[] = {index[i], index[0]};
        cr_assert_eq(bif_shard_add_sample(writer, text, strlen(text), id, number == 0 ? "zero" : "one", images, i == 2 ? 2 : i == 4 ? 0 : 1), BIF_OK);
    }
    cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK);
}

/* Of image p: 1000 * shard + p; of sample i: [shard, i] and a text. */
static void make_columns(int number, const char *path, const char *method)
{
    bif_shard *shard = NULL;
    uint32_t image[SAMPLES], sample[SAMPLES][2];
    char texts[SAMPLES][32], *text[SAMPLES];
    cr_assert_eq(bif_shard_open(path, &shard), BIF_OK);
    for (int i = 0; i < SAMPLES; i++) {
        image[i] = (uint32_t)(1000 * number + i);
        sample[i][0] = (uint32_t)number;
        sample[i][1] = (uint32_t)i;
        snprintf(texts[i], sizeof texts[i], "new %d \"of\" %d", i, number);
        text[i] = i == 1 ? NULL : texts[i];
    }
    const bif_column_info a = {.name = "of-image", .method = "m", .of = BIF_COLUMN_OF_IMAGE, .type = BIF_COLUMN_U32, .rows = SAMPLES, .width = 1};
    const bif_column_info b = {.name = "of-sample", .method = method, .of = BIF_COLUMN_OF_SAMPLE, .type = BIF_COLUMN_U32, .rows = SAMPLES, .width = 2};
    const bif_column_info c = {.name = "text", .method = "m", .of = BIF_COLUMN_OF_SAMPLE, .type = BIF_COLUMN_TEXT, .rows = SAMPLES, .width = 1};
    cr_assert_eq(bif_column_write(shard, &a, image), BIF_OK);
    cr_assert_eq(bif_column_write(shard, &b, sample), BIF_OK);
    cr_assert_eq(bif_column_write(shard, &c, text), BIF_OK);
    bif_shard_close(shard);
}

static const char *const sources[] = {"zero.h5", "one.h5"};

static void setup(void)
{
    shard_setup();
    for (int s = 0; s < SOURCES; s++) {
        make_source(s, sources[s], false);
    }
}

TestSuite(compact, .init = setup, .fini = shard_teardown);

/* times [SOURCES][SAMPLES], in the order of `sources`. */
static void select_times(const int times[SOURCES][SAMPLES])
{
    bif_pool pool = {0};
    bif_drop records[SOURCES * SAMPLES];
    int64_t count = 0;
    const char *reasons[] = {"test"};
    cr_assert_eq(bif_pool_open(sources, SOURCES, &pool), BIF_OK, "%s", bif_error_message());
    for (int64_t i = 0; i < pool.samples; i++) {
        const int s = strcmp(pool.path[i / SAMPLES], sources[0]) == 0 ? 0 : 1, wanted = times[s][i % SAMPLES];
        if (wanted != 1) {
            records[count++] = (bif_drop){.sample = (uint64_t)i, .other = BIF_NO_SAMPLE, .times = (uint16_t)wanted};
        }
    }
    bif_selection *selection = bif_selection_new(&pool);
    json_t *parameters = json_object();
    bif_selection_add(selection, "test", parameters, reasons, 1, records, count);
    cr_assert_eq(bif_selection_write(selection, "s.sel"), BIF_OK);
    json_decref(parameters);
    bif_selection_free(selection);
    bif_pool_close(&pool);
}

static bif_compact_result run(int64_t max_samples, int64_t max_bytes)
{
    const bif_team team = bif_team_alone(1);
    const bif_compact_options o = {.shards = sources, .shard_count = SOURCES, .from = "s.sel", .out = "out", .prefix = "n",
                                   .max_shard_bytes = max_bytes, .max_samples = max_samples};
    bif_compact_result result = {0};
    cr_assert_eq(bif_compact(&o, &team, &result), BIF_OK, "%s", bif_error_message());
    return result;
}

/* Sample `index` of the shard is sample i of source s, with its pictures, columns (if wanted) and this id. */
static void check_sample(const bif_shard *shard, int64_t index, int s, int i, const char *id, bool columns)
{
    bif_shard_sample sample;
    char text[64];
    cr_assert_eq(bif_shard_get_sample(shard, index, &sample), BIF_OK);
    snprintf(text, sizeof text, "{\"caption\":\"sample %d of %d\"}", i, s);
    cr_expect(sample.text_size == strlen(text) && memcmp(sample.text, text, sample.text_size) == 0, "sample %d: %.*s", (int)index,
              (int)sample.text_size, sample.text);
    cr_expect(sample.id_size == strlen(id) && memcmp(sample.id, id, sample.id_size) == 0, "sample %d has the id %.*s", (int)index,
              (int)sample.id_size, sample.id);
    cr_expect_str_eq(sample.source, s == 0 ? "zero" : "one");
    cr_assert_eq(sample.image_count, i == 2 ? 2 : i == 4 ? 0 : 1);
    for (int64_t k = 0; k < sample.image_count; k++) {
        unsigned char want[SIZE], got[SIZE];
        bif_shard_image image;
        const int p = k == 0 ? i : 0;
        picture(s, p, want);
        cr_assert_eq(bif_shard_get_image(shard, (int64_t)sample.images[k], &image), BIF_OK);
        cr_assert_eq(bif_shard_read_image(shard, (int64_t)sample.images[k], got, SIZE), BIF_OK);
        cr_expect(image.size == SIZE && image.width == (uint32_t)(10 + p) && image.height == 20 && memcmp(want, got, SIZE) == 0);
    }
    if (!columns) {
        return;
    }
    bif_column *a = NULL, *b = NULL, *c = NULL;
    cr_assert_eq(bif_column_need(shard, "of-image", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U32, 1, "", &a), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_column_need(shard, "of-sample", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_U32, 2, "", &b), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_column_need(shard, "text", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_TEXT, 1, "", &c), BIF_OK, "%s", bif_error_message());
    const uint32_t *of_sample = (const uint32_t *)bif_column_data(b) + 2 * index;
    cr_expect(of_sample[0] == (uint32_t)s && of_sample[1] == (uint32_t)i);
    for (int64_t k = 0; k < sample.image_count; k++) {
        const uint32_t got = ((const uint32_t *)bif_column_data(a))[sample.images[k]], p = (uint32_t)(k == 0 ? i : 0);
        cr_expect(got == (uint32_t)(1000 * s) + p || (p == 5 && got == 5), "picture %d of sample %d: %u", (int)k, (int)index, got);
    }
    snprintf(text, sizeof text, "new %d \"of\" %d", i, s);
    cr_expect(i == 1 ? bif_column_text(c, index) == NULL : strcmp(bif_column_text(c, index), text) == 0);
    cr_expect_str_eq(bif_column_describe(b)->method, "m");
    bif_column_close(a);
    bif_column_close(b);
    bif_column_close(c);
}

static bif_shard *open_new(int number)
{
    char path[32];
    int64_t bad = 0;
    bif_shard *shard = NULL;
    snprintf(path, sizeof path, "out/n-%05d.h5", number);
    cr_assert_eq(bif_shard_verify(path, &bad), BIF_OK);
    cr_assert_eq(bif_shard_open(path, &shard), BIF_OK);
    return shard;
}

static const int some[SOURCES][SAMPLES] = {{1, 0, 2, 1, 1, 1}, {0, 1, 1, 3, 0, 1}};

Test(compact, copies_what_is_kept_with_its_columns)
{
    make_columns(0, sources[0], "m");
    make_columns(1, sources[1], "m");
    select_times(some);
    const bif_compact_result r = run(0, (int64_t)1 << 30);
    cr_expect(r.kept == 12 && r.samples == 12 && r.bad == 0 && r.shards == 1 && r.left_out == 0);
    bif_shard *shard = open_new(0);
    static const struct {
        int s, i;
        const char *id;
    } want[] = {{0, 0, "0-0"}, {0, 2, "0-2-0"}, {0, 2, "0-2-1"}, {0, 3, ""}, {0, 4, "0-4"}, {0, 5, "0-5"},
                {1, 1, "1-1"}, {1, 2, "1-2"},   {1, 3, ""},      {1, 3, ""}, {1, 3, ""},    {1, 5, "1-5"}};
    cr_assert_eq(bif_shard_samples(shard), 12);
    cr_expect_eq(bif_shard_images(shard), 8); /* 0 2 3 5 of one, 1 2 0 3 of the other; 5 is the same */
    cr_expect_eq(r.images, 8);
    cr_expect_eq(r.image_bytes, bif_shard_images(shard) * 304 - 4);
    for (int i = 0; i < 12; i++) {
        check_sample(shard, i, want[i].s, want[i].i, want[i].id, true);
    }
    bif_shard_close(shard);
    cr_expect_not(bif_exists("out/.n-compacting"));
    cr_expect_not(bif_exists("out/n-errors.jsonl"));
}

Test(compact, begins_new_shards_by_samples_and_by_bytes)
{
    make_columns(0, sources[0], "m");
    make_columns(1, sources[1], "m");
    select_times(some);
    cr_expect_eq(run(5, (int64_t)1 << 30).shards, 3);
    bif_shard *shard = open_new(1); /* the sixth to tenth: of both sources */
    cr_assert_eq(bif_shard_samples(shard), 5);
    check_sample(shard, 0, 0, 5, "0-5", true);
    check_sample(shard, 4, 1, 3, "", true);
    bif_shard_close(shard);
    cr_assert_eq(bif_remove_tree("out"), BIF_OK);
    /* Two pictures a shard: {0: 0}{2: 2 and 0 again}{2}... the first three samples have pictures 0 and 2. */
    cr_expect_eq(run(0, 2 * SIZE).shards, 5);
    shard = open_new(0);
    cr_expect_eq(bif_shard_samples(shard), 3);
    cr_expect_eq(bif_shard_images(shard), 2);
    bif_shard_close(shard);
}

Test(compact, leaves_out_columns_that_differ)
{
    make_columns(0, sources[0], "m");
    make_columns(1, sources[1], "another method");
    cr_assert_eq(remove("one.columns/text.json"), 0);
    select_times(some);
    cr_expect_eq(run(0, (int64_t)1 << 30).left_out, 2);
    bif_shard *shard = open_new(0);
    bif_column *column = NULL;
    cr_expect_eq(bif_column_open(shard, "of-sample", &column), BIF_OK);
    cr_expect_null(column);
    cr_expect_eq(bif_column_open(shard, "text", &column), BIF_OK);
    cr_expect_null(column);
    cr_expect_eq(bif_column_open(shard, "of-image", &column), BIF_OK);
    cr_expect_not_null(column);
    bif_column_close(column);
    bif_shard_close(shard);
}

/* A byte of picture 0 of source 0: sample 2 (twice) cannot be copied, and its other picture, which stands before it, is not left behind for nobody. */
Test(compact, reports_what_cannot_be_copied)
{
    unsigned char bytes[SIZE];
    char *file = NULL;
    size_t size = 0;
    picture(0, 0, bytes);
    cr_assert_eq(bif_file_read(sources[0], 1 << 24, &file, &size), BIF_OK);
    char *found = memmem(file, size, bytes, SIZE);
    cr_assert_not_null(found);
    found[100] ^= 1;
    cr_assert_eq(bif_file_write(sources[0], file, size), BIF_OK);
    free(file);
    static const int two[SOURCES][SAMPLES] = {{0, 0, 2, 0, 1, 0}, {0, 0, 0, 0, 0, 1}};
    select_times(two);
    const bif_compact_result r = run(2, (int64_t)1 << 30); /* the first new shard would have had the broken ones alone */
    cr_expect(r.kept == 4 && r.samples == 2 && r.bad == 2 && r.shards == 1 && r.images == 1);
    bif_shard *shard = open_new(0);
    cr_assert_eq(bif_shard_samples(shard), 2);
    check_sample(shard, 0, 0, 4, "0-4", false);
    check_sample(shard, 1, 1, 5, "1-5", false);
    bif_shard_close(shard);
    cr_assert_eq(bif_file_read("out/n-errors.jsonl", 1 << 20, &file, &size), BIF_OK);
    cr_expect(strstr(file, "{\"shard\":\"zero.h5\",\"index\":2,\"id\":\"0-2-0\",\"reason\":\"shard 'zero.h5', image 0: bytes do not match") == file, "%s", file);
    cr_expect(strstr(file, "\"id\":\"0-2-1\"") != NULL);
    free(file);
    cr_assert_eq(bif_remove_tree("out"), BIF_OK);
    cr_expect_eq(run(0, (int64_t)1 << 30).images, 1);
    /* Nothing but broken ones is a failure, and leaves the reasons and no shard. */
    static const int one[SOURCES][SAMPLES] = {{0, 0, 1, 0, 0, 0}, {0}};
    select_times(one);
    cr_assert_eq(bif_remove_tree("out"), BIF_OK);
    const bif_team team = bif_team_alone(1);
    const bif_compact_options o = {.shards = sources, .shard_count = SOURCES, .from = "s.sel", .out = "out", .prefix = "n", .max_shard_bytes = 1 << 20};
    bif_compact_result result;
    cr_expect_eq(bif_compact(&o, &team, &result), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "none of the 1 kept samples could be copied") != NULL, "%s", bif_error_message());
    cr_expect(bif_exists("out/n-errors.jsonl") && !bif_exists("out/n-00000.h5") && !bif_exists("out/.n-compacting"));
}

/* Records that `data verify` would find bad in the new shard stay behind, with their pictures. */
Test(compact, leaves_bad_records_behind)
{
    char *file = NULL;
    size_t size = 0;
    make_source(1, sources[1], true);
    static const int all[SOURCES][SAMPLES] = {{1, 1, 1, 1, 1, 1}, {1, 1, 1, 2, 1, 1}};
    select_times(all);
    const bif_compact_result r = run(0, (int64_t)1 << 30);
    cr_expect(r.kept == 13 && r.samples == 10 && r.bad == 3 && r.shards == 1, "%d %d", (int)r.samples, (int)r.bad);
    cr_expect_eq(r.images, 5 + 2); /* the fourth is of no sample; of the second source 0 and 2, 5 is there */
    bif_shard *shard = open_new(0);
    check_sample(shard, 6, 1, 0, "1-0", false);
    check_sample(shard, 7, 1, 2, "1-2", false);
    check_sample(shard, 9, 1, 5, "1-5", false);
    bif_shard_close(shard);
    cr_assert_eq(bif_file_read("out/n-errors.jsonl", 1 << 20, &file, &size), BIF_OK);
    cr_expect(strstr(file, "\"index\":1,\"id\":\"1-1\",\"reason\":\"shard 'one.h5', sample 1: ") != NULL && strstr(file, "or no size") != NULL, "%s", file);
    free(file);
}
