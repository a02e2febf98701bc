/* Decisions about random pools against the rules of data/dedup.h written down naively. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/dedup.h"

enum { IMAGES = 30, SAMPLES = 70, MOST = 3, IMAGE_CLASSES = 14, CAPTION_CLASSES = 9 };

static char root[] = "/tmp/bif-dedup-XXXXXX";
static uint64_t seed, draws;

static int draw(int below)
{
    uint32_t r[4];
    bif_philox(seed, BIF_RNG_TEST, draws++, 0, r);
    return (int)(r[0] % (uint32_t)below);
}

static int64_t sample_images[SAMPLES][MOST], image_count[SAMPLES];
static char ids[SAMPLES][8];
static uint32_t image_side[IMAGES];
static size_t image_size[IMAGES];

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

TestSuite(dedup, .init = setup, .fini = teardown);

static void write_shard(const char *path)
{
    bif_shard_writer *writer = NULL;
    cr_assert_eq(bif_shard_writer_open(path, &writer), BIF_OK);
    for (int i = 0; i < IMAGES; i++) {
        unsigned char bytes[80];
        int64_t index;
        memset(bytes, i, sizeof bytes);
        memcpy(bytes, path, strlen(path) < 60 ? strlen(path) : 60);
        image_side[i] = (uint32_t)(10 + draw(4));
        image_size[i] = (size_t)(70 + draw(3));
        cr_assert_eq(bif_shard_add_image(writer, bytes, image_size[i], BIF_IMAGE_PNG, image_side[i], 10, &index), BIF_OK);
        cr_assert_eq(index, i);
    }
    for (int s = 0; s < SAMPLES; s++) {
        char text[64];
        image_count[s] = (int[]){0, 1, 1, 1, 2, 3}[draw(6)];
        for (int k = 0; k < image_count[s]; k++) {
            sample_images[s][k] = draw(IMAGES);
        }
        snprintf(text, sizeof text, "{\"caption\":\"%.*s\"}", 1 + draw(5), "abcdefgh");
        snprintf(ids[s], sizeof ids[s], "%d", draw(300));
        if (draw(8) == 0) {
            ids[s][0] = '\0';
        }
        cr_assert_eq(bif_shard_add_sample(writer, text, strlen(text), ids[s], "source", sample_images[s], image_count[s]), BIF_OK);
    }
    cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK);
}

static bif_relation random_relation(int64_t items, int classes, bool similarity, bool own)
{
    bif_relation r = {.items = items, .classes = own ? items : classes, .similarity = similarity};
    if (!own) {
        r.item = malloc((size_t)items * sizeof *r.item);
        for (int64_t i = 0; i < items; i++) {
            r.item[i] = draw(9) == 0 ? BIF_NO_CLASS : (uint32_t)draw(classes);
        }
    }
    for (int k = 0; k < classes * 3 / 2; k++) {
        bif_pairs_add(&r.pairs, (uint32_t)draw((int)r.classes), (uint32_t)draw((int)r.classes),
                      similarity ? (float)(80 + draw(19)) / 100 : (float)(1 + draw(30)));
    }
    bif_pairs_sort(&r.pairs, !similarity);
    return r;
}

/* ---- the rules, naively ---- */
static bool items_match(const bif_relation *r, int64_t a, int64_t b, float *value)
{
    const uint32_t x = r->item ? r->item[a] : (uint32_t)a, y = r->item ? r->item[b] : (uint32_t)b;
    if (x == BIF_NO_CLASS || y == BIF_NO_CLASS) {
        return false;
    }
    *value = r->similarity;
    for (int64_t i = 0; i < r->pairs.count && x != y; i++) {
        const bif_pair *p = &r->pairs.pair[i];
        if ((p->a == x && p->b == y) || (p->a == y && p->b == x)) {
            *value = p->value;
            return true;
        }
    }
    return x == y;
}

static bool none(const bif_relation *r, int64_t item)
{
    return r->item != NULL && r->item[item] == BIF_NO_CLASS;
}

static bool can_pair(const bif_relation *r, int s, int t, int64_t n, unsigned used)
{
    float value;
    if (n == 0) {
        return true;
    }
    for (int64_t j = 0; j < image_count[t]; j++) {
        if ((used >> j & 1) == 0 && items_match(r, sample_images[s][n - 1], sample_images[t][j], &value) &&
            can_pair(r, s, t, n - 1, used | 1u << j)) {
            return true;
        }
    }
    return false;
}

static bool naive_images(const bif_relation *r, int s, int t, float *value)
{
    if (image_count[s] != image_count[t] || image_count[s] == 0 || !can_pair(r, s, t, image_count[s], 0)) {
        return false;
    }
    *value = r->similarity ? 2.0f : -1.0f;
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < image_count[s]; i++) {
            float nearest = r->similarity ? -1.0f : 1e9f, v;
            for (int64_t j = 0; j < image_count[s]; j++) {
                if (items_match(r, sample_images[side ? t : s][i], sample_images[side ? s : t][j], &v) &&
                    (r->similarity ? v > nearest : v < nearest)) {
                    nearest = v;
                }
            }
            *value = (r->similarity ? nearest < *value : nearest > *value) ? nearest : *value;
        }
    }
    return true;
}

static bool naive_match(bif_match mode, const bif_relation *images, const bif_relation *captions, int s, int t, float *value)
{
    float caption = 0;
    const bool same_caption = items_match(captions, s, t, &caption), no_caption = none(captions, s) && none(captions, t);
    if (mode == BIF_MATCH_IMAGE) {
        return naive_images(images, s, t, value);
    }
    if (mode == BIF_MATCH_CAPTION) {
        *value = caption;
        return same_caption;
    }
    if (image_count[s] == 0 && image_count[t] == 0) {
        *value = caption;
        return same_caption;
    }
    return (same_caption || no_caption) && naive_images(images, s, t, value);
}

static float distances[IMAGES];

static bool kept_first(bif_keep keep, const uint8_t *quality, const int64_t *caption_size, const uint64_t (*uid)[2], int s, int t)
{
    uint64_t pixels[2] = {0}, bytes[2] = {0}, worst[2] = {0};
    float far[2] = {-1, -1};
    for (int side = 0; side < 2; side++) {
        const int x = side ? t : s;
        worst[side] = image_count[x] ? 1000 : 0;
        for (int64_t k = 0; k < image_count[x]; k++) {
            const int64_t i = sample_images[x][k];
            const uint64_t q = quality[i] == 255 ? 0 : quality[i] + 1u;
            pixels[side] += image_side[i] * 10;
            bytes[side] += image_size[i];
            worst[side] = q < worst[side] ? q : worst[side];
            far[side] = isnan(distances[i]) ? far[side] : fmaxf(far[side], distances[i]);
        }
    }
    if ((keep == BIF_KEEP_HARD || keep == BIF_KEEP_EASY) && (far[0] != far[1] || pixels[0] != pixels[1])) {
        if (far[0] == far[1]) {
            return pixels[0] > pixels[1];
        }
        return far[0] < 0 || far[1] < 0 ? far[0] >= 0 : keep == BIF_KEEP_HARD ? far[0] > far[1] : far[0] < far[1];
    }
    const double density[2] = {pixels[0] ? (double)bytes[0] / (double)pixels[0] : 0, pixels[1] ? (double)bytes[1] / (double)pixels[1] : 0};
    if (keep == BIF_KEEP_LARGEST && (pixels[0] != pixels[1] || bytes[0] != bytes[1])) {
        return pixels[0] != pixels[1] ? pixels[0] > pixels[1] : bytes[0] > bytes[1];
    }
    if (keep == BIF_KEEP_QUALITY && (worst[0] != worst[1] || density[0] != density[1])) {
        return worst[0] != worst[1] ? worst[0] > worst[1] : density[0] > density[1];
    }
    if (keep == BIF_KEEP_LONGEST && (caption_size[s] != caption_size[t] || pixels[0] != pixels[1])) {
        return caption_size[s] != caption_size[t] ? caption_size[s] > caption_size[t] : pixels[0] > pixels[1];
    }
    if (keep == BIF_KEEP_FIRST && strcmp(ids[s], ids[t]) != 0) {
        return ids[s][0] == '\0' || ids[t][0] == '\0' ? ids[s][0] != '\0' : strcmp(ids[s], ids[t]) < 0;
    }
    if (memcmp(uid[s], uid[t], sizeof uid[s]) != 0) {
        return uid[s][0] != uid[t][0] ? uid[s][0] < uid[t][0] : uid[s][1] < uid[t][1];
    }
    return s < t;
}

static bool better(const bif_relation *r, float a, float b)
{
    return r->similarity ? a > b : a < b;
}

typedef struct {
    int other[SAMPLES], way[SAMPLES]; /* other -1: stays */
    float value[SAMPLES];
} decision;

/* modes: one, or image and caption. order: samples that take part. */
static void naive_greedy(const bif_match *modes, int ways, const bif_relation *images, const bif_relation *captions, const int *order,
                         int n, decision *d)
{
    for (int i = 0; i < n; i++) {
        const int s = order[i];
        for (int w = 0; w < ways && d->other[s] < 0; w++) {
            for (int k = 0; k < i; k++) {
                float value;
                const bool by_images = modes[w] != BIF_MATCH_CAPTION && image_count[s] > 0;
                if (d->other[order[k]] < 0 && naive_match(modes[w], images, captions, s, order[k], &value) &&
                    (d->other[s] < 0 || better(by_images ? images : captions, value, d->value[s]))) {
                    d->other[s] = order[k];
                    d->value[s] = value;
                    d->way[s] = w;
                }
            }
        }
    }
}

static void naive_chain(const bif_match *modes, int ways, const bif_relation *images, const bif_relation *captions, const int *order, int n,
                        decision *d)
{
    int component[SAMPLES];
    for (int i = 0; i < n; i++) {
        component[i] = i;
    }
    for (int round = 0; round < n; round++) {
        for (int i = 0; i < n; i++) {
            for (int k = 0; k < n; k++) {
                for (int w = 0; w < ways; w++) {
                    float value;
                    if (i != k && component[k] < component[i] && naive_match(modes[w], images, captions, order[i], order[k], &value)) {
                        component[i] = component[k];
                    }
                }
            }
        }
    }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n && component[i] != i && d->other[order[i]] < 0; k++) {
            for (int w = 0; w < ways && d->other[order[i]] < 0; w++) {
                float value;
                if (i != k && naive_match(modes[w], images, captions, order[i], order[k], &value)) {
                    d->other[order[i]] = order[k];
                    d->value[order[i]] = value;
                    d->way[order[i]] = w;
                }
            }
        }
    }
}

static void naive_any(const bif_match *modes, int ways, const bif_relation *images, const bif_relation *captions, const int *order, int n,
                      decision *d)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i && d->other[order[i]] < 0; k++) {
            for (int w = 0; w < ways && d->other[order[i]] < 0; w++) {
                float value;
                if (naive_match(modes[w], images, captions, order[i], order[k], &value)) {
                    d->other[order[i]] = order[k];
                    d->value[order[i]] = value;
                    d->way[order[i]] = w;
                }
            }
        }
    }
}

static void check_pool(uint64_t with_seed)
{
    seed = with_seed;
    draws = 0;
    char path[32];
    snprintf(path, sizeof path, "s%d.h5", (int)with_seed);
    write_shard(path);
    bif_pool pool = {0};
    bif_shard *shard = NULL;
    uint8_t quality[IMAGES];
    uint64_t uid[SAMPLES][2];
    int64_t caption_size[SAMPLES];
    cr_assert_eq(bif_pool_open((const char *const[]){path}, 1, &pool), BIF_OK);
    cr_assert_eq(bif_pool_shard(&pool, 0, &shard), BIF_OK);
    for (int i = 0; i < IMAGES; i++) {
        quality[i] = (uint8_t[]){255, 10, 50, 100}[draw(4)];
    }
    cr_assert_eq(bif_column_write(shard, &(bif_column_info){"pdq_quality", "test", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U8, IMAGES, 1}, quality),
                 BIF_OK);
    for (int i = 0; i < IMAGES; i++) {
        distances[i] = (float[]){0, 0.25f, 0.5f, NAN}[draw(4)];
    }
    cr_assert_eq(bif_column_write(shard, &(bif_column_info){"x.cluster_distance", "test", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F32, IMAGES, 1},
                                  distances),
                 BIF_OK);
    for (int s = 0; s < SAMPLES; s++) {
        bif_shard_sample sample;
        cr_assert_eq(bif_sample_uid(shard, s, uid[s]), BIF_OK);
        cr_assert_eq(bif_shard_get_sample(shard, s, &sample), BIF_OK);
        caption_size[s] = (int64_t)sample.text_size - (int64_t)strlen("{\"caption\":\"\"}");
    }
    bif_shard_close(shard);
    bif_relation images = random_relation(IMAGES, IMAGE_CLASSES, with_seed % 3 == 1, with_seed % 4 == 3);
    bif_relation captions = random_relation(SAMPLES, CAPTION_CLASSES, true, false);
    for (int choice = 0; choice < 72; choice++) {
        const bif_dedup_options o = {(bif_match)(choice % 4), (bif_keep)(choice / 4 % 6), (bif_group)(choice / 24), "x"};
        bif_selection *selection = bif_selection_new(&pool);
        bif_drop before[SAMPLES];
        int64_t gone = 0;
        for (int s = 0; s < SAMPLES; s++) {
            if (draw(6) == 0) {
                before[gone++] = (bif_drop){.sample = (uint64_t)s, .other = BIF_NO_SAMPLE};
            }
        }
        json_t *parameters = json_object();
        bif_selection_add(selection, "test", parameters, (const char *const[]){"gone"}, 1, before, gone);
        int order[SAMPLES], n = 0;
        for (int s = 0; s < SAMPLES; s++) {
            int at = n;
            if (bif_selection_times(selection)[s] == 0) {
                continue;
            }
            for (; at > 0 && kept_first(o.keep, quality, caption_size, uid, s, order[at - 1]); at--) {
                order[at] = order[at - 1];
            }
            order[at] = s;
            n++;
        }
        decision d;
        memset(d.other, 0xff, sizeof d.other);
        const bif_match either[] = {BIF_MATCH_IMAGE, BIF_MATCH_CAPTION}, *modes = o.match == BIF_MATCH_EITHER ? either : &o.match;
        (o.group == BIF_GROUP_GREEDY  ? naive_greedy
         : o.group == BIF_GROUP_CHAIN ? naive_chain
                                      : naive_any)(modes, 1 + (o.match == BIF_MATCH_EITHER), &images, &captions, order, n, &d);
        cr_assert_eq(bif_dedup(&pool, selection, &o, &images, &captions, parameters, (int64_t)64 << 20), BIF_OK, "%s", bif_error_message());
        int dropped = 0;
        for (int s = 0; s < SAMPLES; s++) {
            const bif_drop *r = bif_selection_find(selection, 1, s);
            cr_assert_eq(r != NULL, d.other[s] >= 0, "seed %d choice %d sample %d: other %d", (int)seed, choice, s, d.other[s]);
            if (r != NULL) {
                dropped++;
                cr_assert((int)r->other == d.other[s] && r->value == d.value[s] && r->reason == d.way[s] && r->times == 0,
                          "seed %d choice %d sample %d: other %d (%d), value %g (%g), reason %d (%d)", (int)seed, choice, s, (int)r->other, d.other[s],
                          (double)r->value, (double)d.value[s], r->reason, d.way[s]);
            }
        }
        cr_assert(dropped > 0 || o.match == BIF_MATCH_BOTH);
        json_decref(parameters);
        bif_selection_free(selection);
    }
    bif_relation_free(&images);
    bif_relation_free(&captions);
    bif_pool_close(&pool);
}

Test(dedup, decisions_are_those_of_the_rules)
{
    for (uint64_t s = 0; s < 40; s++) {
        check_pool(s);
    }
}

Test(dedup, too_little_memory_is_named)
{
    seed = 5;
    write_shard("m.h5");
    bif_pool pool = {0};
    cr_assert_eq(bif_pool_open((const char *const[]){"m.h5"}, 1, &pool), BIF_OK);
    bif_selection *selection = bif_selection_new(&pool);
    json_t *parameters = json_object();
    bif_relation images = random_relation(IMAGES, IMAGE_CLASSES, false, false);
    const bif_dedup_options o = {.match = BIF_MATCH_IMAGE};
    cr_assert_eq(bif_dedup(&pool, selection, &o, &images, NULL, parameters, 100), BIF_ERR_MEMORY);
    cr_assert(strstr(bif_error_message(), "MiB") != NULL);
    cr_assert_eq(bif_selection_steps(selection), 0);
    for (int i = 0; i < 10000; i++) { /* pairs count, too */
        bif_pairs_add(&images.pairs, 0, 1, 1);
    }
    cr_assert_eq(bif_dedup(&pool, selection, &o, &images, NULL, parameters, bif_relation_bytes(&images)), BIF_ERR_MEMORY);
    const bif_team alone = bif_team_alone(1);
    bif_relation none = {0};
    const bif_near_options near = {.images = &bif_image_methods[0], .memory = 1 << 20};
    cr_assert_eq(bif_near_images(&(bif_pool_part){&pool, NULL}, NULL, &near, &alone, parameters, &none), BIF_ERR_MEMORY);
    cr_assert(strstr(bif_error_message(), "MiB") != NULL);
    json_decref(parameters);
    bif_relation_free(&images);
    bif_selection_free(selection);
    bif_pool_close(&pool);
}
