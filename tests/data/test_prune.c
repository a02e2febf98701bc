#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/half.h"
#include "base/json.h"
#include "data/prune.h"

static char root[] = "/tmp/bif-prune-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(root));
    cr_assert_eq(chdir(root), 0);
}

static void teardown(void)
{
    cr_assert_eq(chdir("/"), 0);
    bif_remove_tree(root);
}

enum { SAMPLES = 60, SHARDS = 3, WIDTH = 4 };

/* Sample k of all: what is planted. */
static int images_of(int k)
{
    return k % 10 == 9 ? 0 : k % 10 == 8 ? 2 : 1;
}
static uint32_t side_of(int k, int image)
{
    return (uint32_t)(100 + 10 * (k % 20) + (image == 1 ? -60 : 0));
}
static double score_of(int k, int image)
{
    return (double)((k * 37) % 61) / 61.0 - (image == 1 ? 0.3 : 0.0);
}
static const char *caption_of(int k)
{
    static char text[64];
    snprintf(text, sizeof text, k % 6 == 0 ? "A Dog" : k % 6 == 1 ? "a   dog " : k % 6 == 2 ? "" : "a dog of number %d", k);
    return text;
}

static void write_columns(const char *path, int from, int count, const char *method)
{
    bif_shard *shard = NULL;
    cr_assert_eq(bif_shard_open(path, &shard), BIF_OK, "%s", bif_error_message());
    const int64_t images = bif_shard_images(shard);
    uint16_t *image = bif_calloc((size_t)images * WIDTH, sizeof *image), *text = bif_calloc((size_t)count * WIDTH, sizeof *text);
    float *aesthetic = bif_calloc((size_t)count, sizeof *aesthetic), *grey = bif_calloc((size_t)images * 2, sizeof *grey);
    uint64_t *pixels = bif_calloc((size_t)images * 2, sizeof *pixels);
    uint8_t *quality = bif_calloc((size_t)images, 1);
    for (int i = 0; i < count; i++) {
        bif_shard_sample sample;
        cr_assert_eq(bif_shard_get_sample(shard, i, &sample), BIF_OK);
        const int k = from + i;
        text[i * WIDTH] = bif_to_f16(1.0f);
        aesthetic[i] = k % 7 == 0 ? NAN : (float)(k % 11);
        for (int n = 0; n < sample.image_count; n++) {
            const double s = score_of(k, n);
            const int64_t at = (int64_t)sample.images[n];
            image[at * WIDTH] = bif_to_f16((float)s);
            image[at * WIDTH + 1] = bif_to_f16((float)sqrt(1 - s * s));
            if (k == 5) {
                memset(image + at * WIDTH, 0, WIDTH * sizeof *image);
            }
            pixels[2 * at] = k == 7 ? 0 : 1;
            quality[at] = k == 7 ? 255 : (uint8_t)(k + 40);
            grey[2 * at + 1] = (float)k;
        }
    }
    cr_assert_eq(
        bif_column_write(shard, &(bif_column_info){"clip.image", method, BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F16, images, WIDTH}, image),
        BIF_OK);
    cr_assert_eq(bif_column_write(shard, &(bif_column_info){"clip.text", "m", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_F16, count, WIDTH}, text),
                 BIF_OK);
    cr_assert_eq(bif_column_write(shard, &(bif_column_info){"aesthetic", "m", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_F32, count, 1}, aesthetic),
                 BIF_OK);
    cr_assert_eq(bif_column_write(shard, &(bif_column_info){"mean_std", "m", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F32, images, 2}, grey),
                 BIF_OK);
    cr_assert_eq(bif_column_write(shard, &(bif_column_info){"pixels", "m", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U64, images, 2}, pixels),
                 BIF_OK);
    cr_assert_eq(bif_column_write(shard, &(bif_column_info){"pdq_quality", "m", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U8, images, 1}, quality),
                 BIF_OK);
    free(image);
    free(text);
    free(aesthetic);
    free(grey);
    free(pixels);
    free(quality);
    bif_shard_close(shard);
}

static const char *const paths[SHARDS] = {"a.h5", "b.h5", "c.h5"};

static void write_shards(void)
{
    for (int s = 0; s < SHARDS; s++) {
        bif_shard_writer *writer = NULL;
        cr_assert_eq(bif_shard_writer_open(paths[s], &writer), BIF_OK);
        for (int i = 0; i < SAMPLES / SHARDS; i++) {
            const int k = s * (SAMPLES / SHARDS) + i;
            int64_t image[2];
            for (int n = 0; n < images_of(k); n++) {
                char bytes[32];
                snprintf(bytes, sizeof bytes, "picture %d %d", k, n);
                cr_assert_eq(bif_shard_add_image(writer, bytes, 12, BIF_IMAGE_PNG, side_of(k, n), 2 * side_of(k, 0), &image[n]), BIF_OK);
            }
            json_t *record = json_pack("{s:s}", "caption", caption_of(k));
            char *text = json_dumps(record, JSON_COMPACT), id[16];
            snprintf(id, sizeof id, "%d", k);
            cr_assert_eq(bif_shard_add_sample(writer, text, strlen(text), id, "test", image, images_of(k)), BIF_OK);
            free(text);
            json_decref(record);
        }
        cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK);
        write_columns(paths[s], s * (SAMPLES / SHARDS), SAMPLES / SHARDS, "m");
    }
}

/* Number of the sample in the pool to k. */
static int planted(const bif_pool *pool, int64_t sample)
{
    bif_shard *shard = NULL;
    bif_shard_sample record;
    const int64_t s = bif_pool_shard_of_sample(pool, sample);
    cr_assert_eq(bif_pool_shard(pool, s, &shard), BIF_OK);
    cr_assert_eq(bif_shard_get_sample(shard, sample - pool->first_sample[s], &record), BIF_OK);
    char id[16] = {0};
    memcpy(id, record.id, record.id_size);
    bif_shard_close(shard);
    return atoi(id);
}

static bif_status prune_options(bif_prune_options o, bif_pool *pool, bif_selection **selection, bif_prune_result *result)
{
    const bif_team team = bif_team_alone(1);
    o.clip = "clip";
    o.repetition_words = 2;
    o.memory = o.memory > 0 ? o.memory : 1 << 20;
    cr_assert_eq(bif_pool_open((const char *const *)paths, SHARDS, pool), BIF_OK, "%s", bif_error_message());
    *selection = bif_selection_new(pool);
    return bif_prune(pool, *selection, &o, &team, result);
}

/* kept(k) says what must stay; all of it goes by the one rule at a time. */
static void check(bif_prune_options o, bool (*kept)(int k))
{
    bif_pool pool;
    bif_selection *selection = NULL;
    bif_prune_result result;
    cr_assert_eq(prune_options(o, &pool, &selection, &result), BIF_OK, "%s", bif_error_message());
    int64_t dropped = 0;
    for (int64_t i = 0; i < pool.samples; i++) {
        const int k = planted(&pool, i);
        cr_expect_eq(bif_selection_times(selection)[i], kept(k), "sample %d", k);
        cr_expect_eq(bif_selection_find(selection, 0, i) == NULL, kept(k));
        dropped += !kept(k);
    }
    cr_expect_eq(result.rows, 1);
    cr_expect_eq(result.row[0].alone, dropped);
    cr_expect_eq(result.row[0].dropped, dropped);
    cr_expect_eq(result.after, SAMPLES - dropped);
    cr_expect(dropped > 0 && dropped < SAMPLES, "%lld dropped: nothing was tested", (long long)dropped);
    bif_prune_result_free(&result);
    bif_selection_free(selection);
    bif_pool_close(&pool);
}

static bif_prune_options rule(const char *name, double limit)
{
    bif_prune_options o = {0};
    const int k = bif_prune_kind_by_name(name);
    cr_assert_geq(k, 0);
    o.use[k] = true;
    o.limit[k] = limit;
    return o;
}

static double worst(int k)
{
    return k == 5 ? -1.0 : images_of(k) == 2 ? score_of(k, 1) : score_of(k, 0);
}
static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}
static bool top_share(int k) /* DataComp's apply_filter.py: sort falling, threshold at int(N f), >= stays; text-only samples are not in N */
{
    double all[SAMPLES];
    int n = 0;
    for (int i = 0; i < SAMPLES; i++) {
        if (images_of(i) > 0) {
            all[n++] = worst(i);
        }
    }
    qsort(all, (size_t)n, sizeof *all, falling);
    return images_of(k) == 0 || worst(k) >= all[(int)(n * 0.3)];
}
static bool wide_enough(int k)
{
    return images_of(k) == 0 || side_of(k, images_of(k) - 1) >= 200;
}
static bool flat_enough(int k)
{
    return images_of(k) < 2 || 2 * side_of(k, 0) <= 2.5 * side_of(k, 1);
}
static bool scored(int k)
{
    return images_of(k) == 0 || worst(k) >= 0.5;
}
static bool decodable(int k)
{
    return k != 7;
}
static bool not_blank(int k)
{
    return images_of(k) == 0 || k >= 20;
}
static bool featured(int k)
{
    return images_of(k) == 0 || (k != 7 && k >= 10);
}
static bool long_enough(int k)
{
    return strlen(caption_of(k)) >= 6;
}
static bool many_words(int k)
{
    return k % 6 > 2;
}
static bool dense(int k) /* 12 bytes a picture */
{
    return images_of(k) == 0 || 12.0 / (2.0 * side_of(k, 0) * side_of(k, 0)) >= 2e-4;
}

Test(prune, one_rule_at_a_time, .init = setup, .fini = teardown)
{
    write_shards();
    check(rule("image-side-min", 200), wide_enough);
    check(rule("aspect-max", 2.5), flat_enough);
    check(rule("clip-score-min", 0.5), scored);
    check(rule("clip-top", 0.3), top_share);
    check(rule("undecodable", 0), decodable);
    check(rule("deviation-min", 20), not_blank);
    check(rule("quality-min", 50), featured);
    check(rule("chars-min", 6), long_enough);
    check(rule("words-min", 3), many_words);
    check(rule("bytes-per-pixel-min", 2e-4), dense);
}

static bool liked(int k)
{
    return k % 7 != 0 && k % 11 >= 4;
}
static bool small(int k)
{
    return k % 7 != 0 && k % 11 <= 4;
}

Test(prune, score_columns, .init = setup, .fini = teardown)
{
    write_shards();
    const bif_prune_column low = {.name = "aesthetic", .has_min = true, .min = 4}, high = {.name = "aesthetic", .has_max = true, .max = 4};
    check((bif_prune_options){.column = &low, .columns = 1}, liked);
    check((bif_prune_options){.column = &high, .columns = 1}, small);
}

Test(prune, the_first_rule_that_hits, .init = setup, .fini = teardown)
{
    write_shards();
    bif_pool pool;
    bif_selection *selection = NULL;
    bif_prune_result r;
    bif_prune_options o = rule("words-min", 3);
    o.use[bif_prune_kind_by_name("image-side-min")] = true;
    o.limit[bif_prune_kind_by_name("image-side-min")] = 200;
    o.use[bif_prune_kind_by_name("clip-top")] = true;
    o.limit[bif_prune_kind_by_name("clip-top")] = 0.5;
    cr_assert_eq(prune_options(o, &pool, &selection, &r), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(r.rows, 3);
    cr_expect_str_eq(r.row[0].reason, "image-side-min");
    cr_expect_str_eq(r.row[1].reason, "words-min");
    cr_expect_str_eq(r.row[2].reason, "clip-top");
    double left[SAMPLES];
    int n = 0, text = 0;
    for (int k = 0; k < SAMPLES; k++) {
        if (wide_enough(k) && many_words(k)) {
            images_of(k) > 0 ? (void)(left[n++] = worst(k)) : (void)text++;
        }
    }
    qsort(left, (size_t)n, sizeof *left, falling);
    int64_t kept = text;
    for (int i = 0; i < n; i++) {
        kept += left[i] >= left[n / 2];
    }
    cr_expect_eq(r.after, kept, "%lld, not %lld", (long long)r.after, (long long)kept);
    cr_expect(fabs(r.row[2].limit - left[n / 2]) < 1e-3);
    for (int64_t i = 0; i < pool.samples; i++) {
        const bif_drop *drop = bif_selection_find(selection, 0, i);
        const int k = planted(&pool, i);
        cr_expect_eq(drop == NULL, bif_selection_times(selection)[i] == 1);
        if (drop != NULL) {
            cr_expect_eq(drop->reason, !wide_enough(k) ? 0 : !many_words(k) ? 1 : 2, "sample %d", k);
            cr_expect_eq(drop->other, BIF_NO_SAMPLE);
        }
    }
    bif_prune_result_free(&r);
    bif_selection_free(selection);
    bif_pool_close(&pool);
}

Test(prune, same_captions, .init = setup, .fini = teardown)
{
    write_shards();
    bif_pool pool;
    bif_selection *selection = NULL;
    bif_prune_result r;
    cr_assert_eq(prune_options((bif_prune_options){.max_same_caption = 3}, &pool, &selection, &r), BIF_OK, "%s", bif_error_message());
    uint64_t most[2] = {0, 0}, least[2] = {UINT64_MAX, UINT64_MAX}; /* uids of those that stay and go */
    int64_t kept = 0, dropped = 0;
    for (int64_t i = 0; i < pool.samples; i++) {
        const int k = planted(&pool, i);
        const bool stays = bif_selection_times(selection)[i] > 0;
        if (k % 6 > 1) { /* captions of their own, or none */
            cr_expect(stays);
            continue;
        }
        bif_shard *shard = NULL;
        uint64_t uid[2];
        const int64_t s = bif_pool_shard_of_sample(&pool, i);
        cr_assert_eq(bif_pool_shard(&pool, s, &shard), BIF_OK);
        cr_assert_eq(bif_sample_uid(shard, i - pool.first_sample[s], uid), BIF_OK);
        bif_shard_close(shard);
        kept += stays;
        dropped += !stays;
        if (stays && (uid[0] > most[0] || (uid[0] == most[0] && uid[1] > most[1]))) {
            memcpy(most, uid, sizeof most);
        }
        if (!stays) {
            const int64_t other = (int64_t)bif_selection_find(selection, 0, i)->other;
            cr_expect(planted(&pool, other) % 6 <= 1 && bif_selection_times(selection)[other] == 1);
            if (uid[0] < least[0] || (uid[0] == least[0] && uid[1] < least[1])) {
                memcpy(least, uid, sizeof least);
            }
        }
    }
    cr_expect_eq(kept, 3);
    cr_expect_eq(dropped, 17);
    cr_expect(most[0] < least[0] || (most[0] == least[0] && most[1] < least[1]));
    bif_prune_result_free(&r);
    bif_selection_free(selection);
    bif_pool_close(&pool);
}

Test(prune, measures, .init = setup, .fini = teardown)
{
    write_shards();
    bif_pool pool;
    bif_selection *selection = NULL;
    bif_prune_result r;
    cr_assert_eq(prune_options((bif_prune_options){.measure = true}, &pool, &selection, &r), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bif_selection_steps(selection), 0);
    int64_t latin = 0;
    for (int i = 0; i < bif_scripts; i++) {
        latin += r.script[i];
    }
    cr_expect_eq(latin, 50);
    cr_expect_eq(r.no_script, 10);
    bool found = false;
    for (int64_t i = 0; i < r.spreads; i++) {
        if (strcmp(r.spread[i].name, "image side") == 0) {
            found = true;
            cr_expect_eq(r.spread[i].samples, 54);
            cr_expect_eq(r.spread[i].quantile[0], 100.0f);
            cr_expect_eq(r.spread[i].quantile[BIF_PRUNE_QUANTILES - 1], 270.0f); /* 280: two pictures; 290: none */
        }
    }
    cr_expect(found);
    bif_prune_result_free(&r);
    bif_selection_free(selection);
    bif_pool_close(&pool);
}

Test(prune, refused, .init = setup, .fini = teardown)
{
    write_shards();
    bif_pool pool;
    bif_selection *selection = NULL;
    bif_prune_result r;
    bif_prune_options o = rule("chars-min", 3);
    o.memory = 1000;
    cr_expect_eq(prune_options(o, &pool, &selection, &r), BIF_ERR_MEMORY);
    bif_selection_free(selection);
    bif_pool_close(&pool);
    const bif_prune_column none = {.name = "nothing", .has_min = true};
    cr_expect_eq(prune_options((bif_prune_options){.column = &none, .columns = 1}, &pool, &selection, &r), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "nothing"), "%s", bif_error_message());
    bif_selection_free(selection);
    bif_pool_close(&pool);
    for (int i = 0; i < SHARDS; i++) { /* text columns have the method "m" */
        bif_shard *shard = NULL;
        uint16_t *text = bif_calloc(SAMPLES * WIDTH, sizeof *text);
        write_columns(paths[i], i * (SAMPLES / SHARDS), SAMPLES / SHARDS, "embed; weights 00000000000000000000000000000001; fp32");
        cr_assert_eq(bif_shard_open(paths[i], &shard), BIF_OK);
        const bif_column_info info = {"clip.text",
                                      "embed; weights 00000000000000000000000000000002; fp32",
                                      BIF_COLUMN_OF_SAMPLE,
                                      BIF_COLUMN_F16,
                                      bif_shard_samples(shard),
                                      WIDTH};
        cr_assert_eq(bif_column_write(shard, &info, text), BIF_OK);
        bif_shard_close(shard);
        free(text);
    }
    cr_expect_eq(prune_options(rule("clip-top", 0.3), &pool, &selection, &r), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "different checkpoints"), "%s", bif_error_message());
    bif_selection_free(selection);
    bif_pool_close(&pool);
    for (int i = 0; i < SHARDS; i++) {
        write_columns(paths[i], i * (SAMPLES / SHARDS), SAMPLES / SHARDS, "m");
    }
    write_columns("b.h5", 20, 20, "another model");
    cr_expect_eq(prune_options(rule("clip-top", 0.3), &pool, &selection, &r), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "another model"), "%s", bif_error_message());
    bif_selection_free(selection);
    bif_pool_close(&pool);
}
