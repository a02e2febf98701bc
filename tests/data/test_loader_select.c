/* A loader over what a selection keeps (data/loader.h, options.selection). */
#include "data/selection.h"
#include "loader_fixture.h"

/* The samples of the two shards of the fixture, numbered in the order f.path[0], f.path[1], as they are to be kept; `reversed` when the pool begins with
 * f.path[1]. */
static void write_selection(const fixture *f, const char *path, const int times[FIX_SAMPLES])
{
    bif_pool pool = {0};
    bif_drop records[FIX_SAMPLES];
    int64_t count = 0;
    const char *reasons[] = {"test"};
    cr_assert_eq(bif_pool_open((const char *const *)f->path, FIX_SHARDS, &pool), BIF_OK, "%s", bif_error_message());
    const bool first = strcmp(bif_path_base(pool.path[0]), bif_path_base(f->path[0])) == 0;
    for (int64_t i = 0; i < FIX_SAMPLES; i++) {
        const int64_t given = first ? i : i < fix_count[1] ? i + fix_count[0] : i - fix_count[1];
        if (times[given] != 1) {
            records[count++] = (bif_drop){.sample = (uint64_t)i, .other = BIF_NO_SAMPLE, .times = (uint16_t)times[given]};
        }
    }
    bif_selection *selection = bif_selection_new(&pool);
    json_t *parameters = json_object();
    bif_selection_add(selection, "test", parameters, reasons, 1, records, count);
    cr_assert_eq(bif_selection_write(selection, path), BIF_OK, "%s", bif_error_message());
    json_decref(parameters);
    bif_selection_free(selection);
    bif_pool_close(&pool);
}

/* Every third is dropped, 5 and 30 stand three times, 36 is dropped. Returns how many stay; expect: their numbers in the order given. */
static int some(int times[FIX_SAMPLES], int expect[2 * FIX_SAMPLES])
{
    int count = 0;
    for (int i = 0; i < FIX_SAMPLES; i++) {
        times[i] = i % 3 == 2 && i != 5 ? 0 : i == 5 || i == 30 ? 3 : i == 36 ? 0 : 1;
        for (int k = 0; k < times[i]; k++) {
            expect[count++] = i;
        }
    }
    return count;
}

/* What the one sequence of a step says and shows. */
static void content(const bif_step *step, char hex[33])
{
    const bif_batch *b = step->batch[0];
    cr_assert(step->batches == 1 && b->sequences == 1);
    bif_digest *d = bif_digest_new();
    bif_digest_update(d, b->ids, (size_t)b->tokens * sizeof *b->ids);
    bif_digest_update(d, b->labels, (size_t)b->tokens * sizeof *b->labels);
    bif_digest_update(d, b->pixels, (size_t)b->images * 3 * FIX_SIZE * FIX_SIZE);
    bif_digest_finish(d, hex);
}

/* Of every step of one sample: its content and its number. */
static void read_all(const bif_loader_options *options, int steps, char hex[][33], uint64_t *number)
{
    bif_loader *loader = fix_open(options);
    for (int s = 0; s < steps; s++) {
        const bif_step *step = fix_next(loader);
        content(step, hex[s]);
        number[s] = step->batch[0]->sample[0];
        bif_loader_done(loader, step);
    }
    bif_loader_close(loader);
}

static bif_loader_options one_by_one(const fixture *f)
{
    bif_loader_options o = fix_options(f, BIF_LOADER_CHAT);
    o.samples_per_step = 1;
    o.shuffle = false;
    return o;
}

Test(loader_select, keeps_the_order_and_repeats)
{
    fixture f = fix_make(false, -1, -1);
    char *path = bif_path_join(f.dir, "some.sel"), every[FIX_SAMPLES][33], got[2 * FIX_SAMPLES][33];
    int times[FIX_SAMPLES], expect[2 * FIX_SAMPLES];
    uint64_t number[2 * FIX_SAMPLES];
    const int kept = some(times, expect);
    bif_loader_options o = one_by_one(&f);
    read_all(&o, FIX_SAMPLES, every, number);
    write_selection(&f, path, times);
    o.selection = path;
    bif_loader *loader = fix_open(&o);
    cr_expect_eq(bif_loader_samples(loader), kept);
    cr_expect_eq(bif_loader_steps(loader, 2.0), 2 * kept);
    bif_loader_close(loader);
    read_all(&o, kept, got, number);
    for (int i = 0; i < kept; i++) {
        cr_assert_str_eq(got[i], every[expect[i]], "place %d", i);
        cr_assert_eq(number[i], (uint64_t)i);
    }
    o.shuffle = true; /* every place once an epoch, with what belongs there */
    int seen[2 * FIX_SAMPLES] = {0};
    read_all(&o, kept, got, number);
    for (int i = 0; i < kept; i++) {
        cr_assert(number[i] < (uint64_t)kept && seen[number[i]]++ == 0);
        cr_assert_str_eq(got[i], every[expect[number[i]]]);
    }
    free(path);
    fix_free(&f);
}

/* The pool's order is by digest, whatever the recipe says: one of the two ways round differs from it. */
Test(loader_select, shards_in_another_order)
{
    fixture f = fix_make(false, -1, -1);
    char *path = bif_path_join(f.dir, "some.sel"), every[FIX_SAMPLES][33], got[2 * FIX_SAMPLES][33], digest[2][33];
    int times[FIX_SAMPLES], expect[2 * FIX_SAMPLES];
    uint64_t number[2 * FIX_SAMPLES];
    const int kept = some(times, expect);
    bif_loader_options o = one_by_one(&f);
    read_all(&o, FIX_SAMPLES, every, number);
    write_selection(&f, path, times);
    o.selection = path;
    const char *reversed[] = {f.path[1], f.path[0]};
    for (int way = 0; way < 2; way++) {
        bif_loader *loader = fix_open(&o);
        memcpy(digest[way], bif_loader_digest(loader), 33);
        bif_loader_close(loader);
        read_all(&o, kept, got, number);
        int from = 0; /* of the first shard */
        while (expect[from] < fix_count[0]) {
            from++;
        }
        for (int i = 0; i < kept; i++) {
            cr_assert_str_eq(got[i], every[expect[way == 0 ? i : (i + from) % kept]], "way %d, place %d", way, i);
        }
        o.shards = reversed;
    }
    cr_expect_str_neq(digest[0], digest[1]);
    free(path);
    fix_free(&f);
}

Test(loader_select, is_part_of_the_digest)
{
    fixture f = fix_make(false, -1, -1);
    char *path = bif_path_join(f.dir, "some.sel"), digest[4][33];
    int times[FIX_SAMPLES], expect[2 * FIX_SAMPLES];
    bif_loader_options o = one_by_one(&f);
    some(times, expect);
    for (int i = 0; i < 4; i++) { /* all; some; the same again; one more */
        if (i > 0) {
            times[1] = i == 3 ? 2 : times[1];
            write_selection(&f, path, times);
            o.selection = path;
        }
        bif_loader *loader = fix_open(&o);
        memcpy(digest[i], bif_loader_digest(loader), 33);
        bif_loader_close(loader);
    }
    cr_expect_str_neq(digest[0], digest[1]);
    cr_expect_str_eq(digest[1], digest[2]);
    cr_expect_str_neq(digest[1], digest[3]);
    free(path);
    fix_free(&f);
}

/* What goes over all samples goes over the kept ones: lengths, groups by modality, an order from a file, several ranks. */
Test(loader_select, orders_and_deals_know_the_kept_only)
{
    fixture f = fix_make(false, -1, -1);
    char *path = bif_path_join(f.dir, "some.sel"), *order = bif_path_join(f.dir, "order.txt");
    int times[FIX_SAMPLES], expect[2 * FIX_SAMPLES];
    const int kept = some(times, expect);
    write_selection(&f, path, times);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
    o.selection = path;
    o.sampler = BIF_SAMPLER_MODALITY_LENGTH;
    o.last = BIF_LAST_SHORT;
    int seen[2 * FIX_SAMPLES] = {0};
    o.world = 2;
    for (o.rank = 0; o.rank < o.world; o.rank++) {
        bif_loader *loader = fix_open(&o);
        for (int64_t s = 0; s < bif_loader_steps(loader, 1.0); s++) {
            const bif_step *step = fix_next(loader);
            for (int64_t b = 0; b < step->batches; b++) {
                for (int64_t q = 0; q < step->batch[b]->sequences; q++) {
                    cr_assert_lt(step->batch[b]->sample[q], (uint64_t)kept);
                    seen[step->batch[b]->sample[q]]++;
                }
            }
            bif_loader_done(loader, step);
        }
        bif_loader_close(loader);
    }
    for (int i = 0; i < kept; i++) {
        cr_assert_eq(seen[i], 1, "place %d was seen %d times", i, seen[i]);
    }
    o.rank = 0;
    o.world = 1;
    o.sampler = BIF_SAMPLER_PERMUTED;
    o.order_file = order;
    bif_loader *loader = NULL;
    char *text = bif_format("%d\n", kept);
    cr_assert_eq(bif_file_write(order, text, strlen(text)), BIF_OK);
    cr_expect_eq(bif_loader_open(&o, &loader), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "numbered from 0") != NULL, "%s", bif_error_message());
    free(text);
    free(order);
    free(path);
    fix_free(&f);
}

static void refused(const bif_loader_options *o, const char *words)
{
    bif_loader *loader = NULL;
    cr_expect_eq(bif_loader_open(o, &loader), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), words) != NULL, "%s", bif_error_message());
    bif_error_clear();
}

Test(loader_select, other_shards_are_refused)
{
    fixture f = fix_make(false, -1, -1), g = fix_make(false, 3, -1);
    char *path = bif_path_join(f.dir, "some.sel");
    int times[FIX_SAMPLES], expect[2 * FIX_SAMPLES];
    some(times, expect);
    write_selection(&f, path, times);
    bif_loader_options o = one_by_one(&f);
    o.selection = path;
    const char *other[] = {f.path[0], g.path[0]}, *twice[] = {f.path[0], f.path[0]}, *more[] = {f.path[0], f.path[1], g.path[0]};
    o.shards = other;
    refused(&o, "was made without the shard");
    o.shards = more;
    o.shard_count = 3;
    refused(&o, "was made without the shard");
    o.shards = twice;
    o.shard_count = 2;
    refused(&o, "given twice");
    o.shard_count = 1;
    refused(&o, "which is not given");
    cr_expect_eq(bif_loader_check_selection(twice, 1, path), BIF_ERR_DATA);
    cr_expect_eq(bif_loader_check_selection((const char *const *)f.path, 2, path), BIF_OK);
    for (int i = 0; i < FIX_SAMPLES; i++) {
        times[i] = 0;
    }
    write_selection(&f, path, times);
    o.shards = (const char *const *)f.path;
    o.shard_count = 2;
    refused(&o, "keeps none of 37 samples");
    free(path);
    fix_free(&f);
    fix_free(&g);
}
