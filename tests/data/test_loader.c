#include <fcntl.h>

#include "base/rng.h"
#include "loader_fixture.h"

/* The numbers of sample n, made without the loader. */
static void expect_chat(const bif_loader_options *o, const bif_batch *b, int64_t sequence, int64_t *image)
{
    const int n = (int)b->sample[sequence];
    const int pictures = fix_pictures(n, false);
    char *text = fix_text(n, false, -1);
    bif_encoded e = {0};
    cr_assert(bif_chat_encode(&o->chat, "test", text, strlen(text), pictures, &e) == BIF_OK, "%s", bif_error_message());
    const int64_t from = b->cu_seqlens[sequence];
    cr_assert(b->cu_seqlens[sequence + 1] - from == (int64_t)e.ids.count);
    cr_assert(memcmp(b->ids + from, e.ids.ids, e.ids.count * 4) == 0);
    cr_assert(memcmp(b->labels + from, e.labels.ids, e.ids.count * 4) == 0);
    int first = 0;
    for (int i = 0; i < n; i++) {
        first += fix_pictures(i, false);
    }
    for (int k = 0; k < pictures; k++, (*image)++) {
        cr_assert(b->image_row[from + e.image_start[k]] == *image * FIX_IMAGE_TOKENS);
        size_t size = 0;
        void *png = fix_png(first + k, &size);
        bif_image decoded = {0};
        uint8_t expected[3 * FIX_SIZE * FIX_SIZE];
        cr_assert(bif_image_decode("test", png, size, &o->image_limits, &decoded) == BIF_OK);
        cr_assert(bif_preprocess_run(&o->preprocess, &decoded, expected) == BIF_OK);
        cr_assert(memcmp(b->pixels + *image * 3 * FIX_SIZE * FIX_SIZE, expected, sizeof expected) == 0,
                  "pixels of sample %d", n);
        bif_image_free(&decoded);
        free(png);
    }
    bif_encoded_free(&e);
    free(text);
}

Test(loader, an_epoch_holds_every_sample_once_as_the_shards_say)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
    o.end_sample = FIX_SAMPLES;
    o.max_images = 3;
    o.micro_batch_samples = 5;
    bif_loader *loader = fix_open(&o);
    cr_assert(bif_loader_samples(loader) == FIX_SAMPLES && strlen(bif_loader_digest(loader)) == 32);
    int seen[FIX_SAMPLES] = {0};
    const bif_step *step;
    int64_t steps = 0;
    while ((step = fix_next(loader)) != NULL) {
        int64_t tokens = 0;
        cr_assert(step->step == steps++ && step->skipped == 0);
        for (int64_t i = 0; i < step->batches; i++) {
            const bif_batch *b = step->batch[i];
            int64_t image = 0;
            cr_assert(b->sequences >= 1 && b->sequences <= 5 && b->images <= 3 && b->tokens <= 256);
            for (int64_t q = 0; q < b->sequences; q++) {
                seen[b->sample[q]]++;
                expect_chat(&o, b, q, &image);
            }
            cr_assert(image == b->images);
            tokens += b->tokens;
        }
        cr_assert(tokens == step->global_tokens);
        bif_loader_done(loader, step);
    }
    cr_assert(steps == 5); /* 37 samples, 8 a step, the last one shorter */
    for (int n = 0; n < FIX_SAMPLES; n++) {
        cr_assert(seen[n] == 1, "sample %d was seen %d times", n, seen[n]);
    }
    cr_assert(fix_next(loader) == NULL && bif_loader_skipped(loader) == 0 && bif_loader_wait_seconds(loader) >= 0.0);
    bif_loader_close(loader);
    fix_free(&f);
}

Test(loader, shards_may_be_given_as_their_folder)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
    bif_loader *files = fix_open(&o);
    const char *folder[] = {f.dir};
    o.shards = folder;
    o.shard_count = 1;
    bif_loader *all = fix_open(&o);
    cr_assert(bif_loader_samples(all) == FIX_SAMPLES);
    cr_assert(strcmp(bif_loader_digest(all), bif_loader_digest(files)) == 0);
    bif_loader_close(files);
    bif_loader_close(all);
    fix_free(&f);
}

/* How often each sample is in step s, over all ranks. */
static void step_samples(bif_loader_options o, int world, int64_t s, int seen[FIX_SAMPLES], int64_t *global_tokens,
                         int64_t *sequences)
{
    memset(seen, 0, FIX_SAMPLES * sizeof *seen);
    o.world = world;
    o.start_step = s;
    for (o.rank = 0; o.rank < world; o.rank++) {
        bif_loader *loader = fix_open(&o);
        const bif_step *step = fix_next(loader);
        *global_tokens = step->global_tokens;
        sequences[o.rank] = 0;
        for (int64_t i = 0; i < step->batches; i++) {
            for (int64_t q = 0; q < step->batch[i]->sequences; q++) {
                const uint64_t sample = step->batch[i]->sample[q], place = step->batch[i]->place[q], n = FIX_SAMPLES;
                cr_assert((int64_t)place / o.samples_per_step == s);
                cr_assert(o.mode == BIF_LOADER_CAPTION || sample == bif_permute(o.seed, place / n, n, place % n)); /* pairs are replaced */
                seen[sample]++;
            }
            sequences[o.rank] += step->batch[i]->sequences;
        }
        bif_loader_close(loader);
    }
}

Test(loader, a_step_has_the_same_samples_at_any_world_size)
{
    fixture f = fix_make(false, 11, -1);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
    for (int64_t s = 0; s < 10; s++) {
        int one[FIX_SAMPLES], more[FIX_SAMPLES];
        int64_t tokens_one, tokens_more, sequences[4];
        step_samples(o, 1, s, one, &tokens_one, sequences);
        for (int world = 2; world <= 4; world *= 2) {
            step_samples(o, world, s, more, &tokens_more, sequences);
            cr_assert(memcmp(one, more, sizeof one) == 0, "step %d, %d ranks", (int)s, world);
            cr_assert(tokens_one == tokens_more);
        }
    }
    fix_free(&f);
}

Test(loader, resume_at_a_step_gives_the_same_batches)
{
    fixture f = fix_make(false, 4, 9);
    for (int mode = BIF_LOADER_CHAT; mode <= BIF_LOADER_TEXT; mode += 2) {
        bif_loader_options o = fix_options(&f, (bif_loader_mode)mode);
        o.world = 2;
        o.rank = 1;
        bif_loader *whole = fix_open(&o);
        for (int64_t s = 0; s < 12; s++) { /* into the third epoch */
            char first[33], second[33];
            const bif_step *step = fix_next(whole);
            fix_digest(step, first);
            bif_loader_done(whole, step);
            o.start_step = s;
            bif_loader *resumed = fix_open(&o);
            step = fix_next(resumed);
            cr_assert(step->step == s);
            fix_digest(step, second);
            bif_loader_done(resumed, step);
            bif_loader_close(resumed);
            cr_assert_str_eq(first, second);
        }
        bif_loader_close(whole);
    }
    fix_free(&f);
}

Test(loader, threads_prefetch_and_cache_do_not_change_the_batches)
{
    fixture f = fix_make(false, 4, 9);
    char expected[15][33];
    for (int threads = 1; threads <= 4; threads++) {
        for (int cache = 0; cache < 3; cache++) {
            bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
            o.threads = threads;
            o.prefetch = threads;
            o.cache_pixels = cache > 0;
            o.cache_bytes = cache == 1 ? 5 * 3 * FIX_SIZE * FIX_SIZE : 1 << 20; /* room for 5 pictures, or for all */
            bif_loader *loader = fix_open(&o);
            for (int s = 0; s < 15; s++) {
                char hex[33];
                const bif_step *step = fix_next(loader);
                fix_digest(step, hex);
                bif_loader_done(loader, step);
                if (threads == 1 && cache == 0) {
                    strcpy(expected[s], hex);
                }
                cr_assert_str_eq(hex, expected[s]);
            }
            bif_loader_close(loader);
        }
    }
    fix_free(&f);
}

Test(loader, cached_pictures_are_not_read_again)
{
    fixture f = fix_make(true, -1, -1);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CAPTION);
    o.samples_per_step = FIX_SAMPLES;
    o.shuffle = false;
    o.cache_pixels = true;
    o.cache_bytes = 1 << 20;
    bif_loader *loader = fix_open(&o);
    char digest[2][33];
    for (int s = 0; s < 2; s++) { /* an epoch a step */
        const bif_step *step = fix_next(loader);
        bif_step copy = *step;
        copy.step = 0;
        fix_digest(&copy, digest[s]);
        for (int p = 0; p < FIX_SHARDS && s == 0; p++) { /* ruin every picture */
            int fd = open(f.path[p], O_WRONLY);
            const off_t end = lseek(fd, 0, SEEK_END);
            char zeros[512] = {0};
            for (off_t at = 0; at < end; at += (off_t)sizeof zeros) {
                cr_assert(pwrite(fd, zeros, sizeof zeros, at) == (ssize_t)sizeof zeros);
            }
            close(fd);
        }
        bif_loader_done(loader, step);
    }
    cr_assert_str_eq(digest[0], digest[1]);
    cr_assert(bif_loader_skipped(loader) == 0);
    bif_loader_close(loader);
    fix_free(&f);
}

/* What the pixels of every pair of 15 steps must be: made here from its place in the order alone. */
Test(loader, augmented_pairs_depend_on_seed_epoch_and_sample_alone)
{
    fixture f = fix_make(true, 4, 9);
    int different = 0;
    uint8_t before[FIX_SAMPLES][3 * FIX_SIZE * FIX_SIZE] = {0};
    for (int setting = 0; setting < 6; setting++) { /* threads, cache, ranks, resume */
        bif_loader_options o = fix_options(&f, BIF_LOADER_CAPTION);
        o.augment = (bif_augment){.scale = 0.5, .ratio = 4.0 / 3.0, .flip = 0.5};
        o.threads = setting % 2 ? 3 : 1;
        o.cache_pixels = setting >= 1;
        o.cache_bytes = setting == 1 ? 2000 : 1 << 20;
        o.world = setting >= 3 ? 4 : 1;
        o.rank = setting >= 3 ? setting - 3 : 0;
        o.start_step = setting == 5 ? 7 : 0;
        bif_loader *loader = fix_open(&o);
        for (int64_t s = o.start_step; s < 15; s++) {
            const bif_step *step = fix_next(loader);
            const bif_batch *b = step->batch[0];
            cr_assert(step->batches == 1 && b->images == 8 / o.world);
            for (int64_t i = 0; i < b->images; i++) {
                const uint64_t epoch = (uint64_t)(s * 8 + o.rank * b->images + i) / FIX_SAMPLES;
                const int number = (int)b->sample[i];
                size_t size = 0;
                void *png = fix_png(number, &size);
                bif_image image = {0};
                uint8_t expected[3 * FIX_SIZE * FIX_SIZE];
                cr_assert(bif_image_decode("test", png, size, &o.image_limits, &image) == BIF_OK);
                cr_assert(bif_augment_run(&o.augment, o.seed, epoch * FIX_SAMPLES + b->sample[i], &o.preprocess, &image, expected) ==
                          BIF_OK);
                cr_assert(memcmp(b->pixels + i * (int64_t)sizeof expected, expected, sizeof expected) == 0, "setting %d, step %lld",
                          setting, (long long)s);
                different += setting == 0 && epoch > 0 && memcmp(expected, before[number], sizeof expected) != 0;
                memcpy(before[number], expected, sizeof expected);
                bif_image_free(&image);
                free(png);
            }
            bif_loader_done(loader, step);
        }
        bif_loader_close(loader);
    }
    cr_assert(different > 70, "only %d of 83 later views differ from the one before", different);
    fix_free(&f);
}

/* Steps of both loaders: the same but for the picture's own sequence, which keeps its place. */
Test(loader, a_broken_picture_keeps_its_place_blank_and_without_labels)
{
    enum { BAD = 10 };
    const uint8_t mean_colour[3] = {123, 117, 104}; /* 255 * CLIP's mean, rounded */
    int bad_sample = -1;
    for (int n = 0, picture = 0; n < FIX_SAMPLES; n++) {
        picture += fix_pictures(n, false);
        if (bad_sample < 0 && picture > BAD) {
            bad_sample = n;
        }
    }
    fixture good = fix_make(false, -1, -1), bad = fix_make(false, -1, BAD);
    for (int world = 1; world <= 2; world++) {
        int64_t skipped = 0, met = 0;
        for (int rank = 0; rank < world; rank++) {
            bif_loader_options o = fix_options(&good, BIF_LOADER_CHAT), p = fix_options(&bad, BIF_LOADER_CHAT);
            o.world = p.world = world;
            o.rank = p.rank = rank;
            o.end_sample = p.end_sample = FIX_SAMPLES;
            bif_loader *left = fix_open(&o), *right = fix_open(&p);
            const bif_step *a, *b;
            while ((a = fix_next(left)) != NULL) {
                b = fix_next(right);
                cr_assert(a->batches == b->batches && a->global_tokens == b->global_tokens);
                for (int64_t i = 0; i < a->batches; i++) {
                    const bif_batch *x = a->batch[i], *y = b->batch[i];
                    cr_assert(x->tokens == y->tokens && x->sequences == y->sequences && x->images == y->images);
                    cr_assert(memcmp(x->ids, y->ids, (size_t)x->tokens * 4) == 0);
                    cr_assert(memcmp(x->image_row, y->image_row, (size_t)x->tokens * 4) == 0);
                    for (int64_t q = 0; q < x->sequences; q++) {
                        cr_assert(x->sample[q] == y->sample[q]);
                        const bool broken = x->sample[q] == (uint64_t)bad_sample;
                        met += broken;
                        for (int64_t t = x->cu_seqlens[q]; t < x->cu_seqlens[q + 1]; t++) {
                            cr_assert(y->labels[t] == (broken ? -100 : x->labels[t]));
                            for (int k = 0; x->image_row[t] >= 0 && k < 3 * FIX_SIZE * FIX_SIZE; k++) {
                                int64_t at = x->image_row[t] / FIX_IMAGE_TOKENS * 3 * FIX_SIZE * FIX_SIZE + k;
                                cr_assert(y->pixels[at] == (broken ? mean_colour[k % 3] : x->pixels[at]));
                            }
                        }
                    }
                }
                bif_loader_done(left, a);
                bif_loader_done(right, b);
            }
            skipped += bif_loader_skipped(right);
            bif_loader_close(left);
            bif_loader_close(right);
        }
        cr_assert(skipped == 1 && met == 1, "%d skipped, %d met", (int)skipped, (int)met);
    }
    fix_free(&good);
    fix_free(&bad);
}

Test(loader, bad_text_is_left_out_by_all_ranks)
{
    fixture f = fix_make(false, 11, -1);
    for (int rank = 0; rank < 2; rank++) {
        bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
        o.world = 2;
        o.rank = rank;
        o.samples_per_step = FIX_SAMPLES;
        bif_loader *loader = fix_open(&o);
        for (int epoch = 0; epoch < 3; epoch++) {
            const bif_step *step = fix_next(loader);
            cr_assert(step->skipped == (rank == 0)); /* counted once */
            for (int64_t i = 0; i < step->batches; i++) {
                for (int64_t q = 0; q < step->batch[i]->sequences; q++) {
                    cr_assert(step->batch[i]->sample[q] != 11);
                }
            }
            bif_loader_done(loader, step);
        }
        cr_assert(bif_loader_skipped(loader) == (rank == 0 ? 3 : 0));
        bif_loader_close(loader);
    }
    fix_free(&f);
}

Test(loader, pairs_are_equally_many_on_all_ranks_and_bad_ones_are_replaced)
{
    fixture f = fix_make(true, 11, 20);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CAPTION);
    int total[FIX_SAMPLES] = {0};
    for (int64_t s = 0; s < 37; s++) { /* 8 epochs */
        int one[FIX_SAMPLES], more[FIX_SAMPLES];
        int64_t tokens = 0, sequences[4];
        step_samples(o, 1, s, one, &tokens, sequences);
        cr_assert(sequences[0] == 8);
        for (int world = 2; world <= 4; world *= 2) {
            step_samples(o, world, s, more, &tokens, sequences);
            cr_assert(memcmp(one, more, sizeof one) == 0);
            for (int r = 0; r < world; r++) {
                cr_assert(sequences[r] == 8 / world);
            }
        }
        for (int n = 0; n < FIX_SAMPLES; n++) {
            total[n] += one[n];
        }
    }
    int sum = 0;
    for (int n = 0; n < FIX_SAMPLES; n++) {
        cr_assert(n == 11 || n == 20 ? total[n] == 0 : total[n] >= 8);
        sum += total[n];
    }
    cr_assert(sum == 37 * 8);
    fix_free(&f);
}

Test(loader, a_pair_is_a_caption_and_a_picture_without_rows)
{
    fixture f = fix_make(true, -1, -1);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CAPTION);
    o.micro_batch_samples = 3;
    o.chat.max_tokens = 12;
    o.chat.truncate = true;
    bif_loader *loader = fix_open(&o);
    const bif_step *step = fix_next(loader);
    cr_assert(step->batches == 3);
    for (int64_t i = 0; i < step->batches; i++) {
        const bif_batch *b = step->batch[i];
        cr_assert(b->sequences == (i < 2 ? 3 : 2) && b->images == b->sequences && b->supervised == 0);
        for (int64_t q = 0; q < b->sequences; q++) {
            const int64_t from = b->cu_seqlens[q], to = b->cu_seqlens[q + 1];
            cr_assert(to - from <= 12);
            cr_assert(b->ids[from] == o.chat.bos && b->ids[to - 1] == o.chat.eos && b->eot[q] == to - 1);
            for (int64_t t = from; t < to; t++) {
                cr_assert(b->image_row[t] == -1 && b->labels[t] == -100 && b->pos[t] == t - from);
            }
            size_t size = 0;
            void *png = fix_png((int)b->sample[q], &size); /* one picture a sample: the numbers agree */
            bif_image decoded = {0};
            uint8_t expected[3 * FIX_SIZE * FIX_SIZE];
            cr_assert(bif_image_decode("test", png, size, &o.image_limits, &decoded) == BIF_OK);
            cr_assert(bif_preprocess_run(&o.preprocess, &decoded, expected) == BIF_OK);
            cr_assert(memcmp(b->pixels + q * 3 * FIX_SIZE * FIX_SIZE, expected, sizeof expected) == 0);
            bif_image_free(&decoded);
            free(png);
        }
    }
    bif_loader_close(loader); /* with a step in hand */
    fix_free(&f);
}

Test(loader, when_no_pair_can_be_used_the_error_comes_with_the_step_and_stays)
{
    fixture f = fix_make(true, -1, -1);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CAPTION);
    o.chat.max_tokens = 5; /* every caption is longer */
    bif_loader *loader = fix_open(&o);
    for (int i = 0; i < 2; i++) {
        const bif_step *step = NULL;
        cr_assert(bif_loader_next(loader, &step) == BIF_ERR_DATA && step == NULL);
        cr_assert(strstr(bif_error_message(), "step 0") != NULL, "%s", bif_error_message());
    }
    bif_loader_close(loader);
    fix_free(&f);
}

Test(loader, text_drops_pictures_and_supervises_all_but_the_first_token)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader_options o = fix_options(&f, BIF_LOADER_TEXT);
    o.chat.image = -1; /* a language model's tokenizer need not know pictures */
    o.chat.image_tokens = 0;
    o.end_sample = FIX_SAMPLES;
    bif_loader *loader = fix_open(&o);
    const bif_step *step;
    int64_t sequences = 0;
    while ((step = fix_next(loader)) != NULL) {
        for (int64_t i = 0; i < step->batches; i++) {
            const bif_batch *b = step->batch[i];
            cr_assert(b->images == 0 && b->supervised == b->tokens - b->sequences);
            sequences += b->sequences;
            for (int64_t q = 0; q < b->sequences; q++) {
                char *text = NULL;
                size_t size = 0;
                const int64_t from = b->cu_seqlens[q], to = b->cu_seqlens[q + 1];
                for (int64_t t = from; t < to; t++) {
                    cr_assert(b->image_row[t] == -1 && b->labels[t] == (t == from ? -100 : b->ids[t]));
                }
                cr_assert(bif_tokenizer_decode(f.tokenizer, b->ids + from, (size_t)(to - from), false, &text, &size) ==
                          BIF_OK);
                char *answer = bif_format("it is %d", (int)b->sample[q]);
                cr_assert(strstr(text, answer) != NULL && strstr(text, "which number?") != NULL, "%s", text);
                free(answer);
                free(text);
            }
        }
        bif_loader_done(loader, step);
    }
    cr_assert(sequences == FIX_SAMPLES);
    bif_loader_close(loader);
    fix_free(&f);
}

Test(loader, can_be_closed_at_any_time)
{
    fixture f = fix_make(false, 4, 9);
    for (int i = 0; i < 30; i++) {
        bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
        o.threads = 1 + i % 4;
        o.prefetch = 1 + i % 3;
        bif_loader *loader = fix_open(&o);
        for (int s = 0; s < i % 5; s++) {
            const bif_step *step = fix_next(loader);
            if (s + 1 < i % 5) {
                bif_loader_done(loader, step);
            }
        }
        bif_loader_close(loader);
    }
    bif_loader_close(NULL);
    fix_free(&f);
}

Test(loader, options_out_of_range_are_refused_by_name)
{
    fixture f = fix_make(true, -1, -1);
    bif_loader *loader = NULL;
    struct {
        bif_loader_options o;
        const char *says;
    } cases[8];
    for (int i = 0; i < 8; i++) {
        cases[i].o = fix_options(&f, BIF_LOADER_CHAT);
    }
    cases[0].o.samples_per_step = 0, cases[0].says = "samples per step";
    cases[1].o.rank = 1, cases[1].says = "rank";
    cases[2].o.threads = 0, cases[2].says = "threads";
    cases[3].o.max_tokens = 199, cases[3].says = "longest sample";
    cases[4].o.prefetch = 0, cases[4].says = "ahead";
    cases[5].o.mode = BIF_LOADER_CAPTION, cases[5].o.world = 3, cases[5].says = "evenly";
    cases[6].o.chat.image_tokens = 0, cases[6].says = "picture takes 0";
    cases[7].o.augment.flip = 0.5, cases[7].says = "contrastive pairs only";
    for (int i = 0; i < 8; i++) {
        cr_assert(bif_loader_open(&cases[i].o, &loader) == BIF_ERR_CONFIG && loader == NULL, "case %d", i);
        cr_assert(strstr(bif_error_message(), cases[i].says) != NULL, "case %d: %s", i, bif_error_message());
    }
    fix_free(&f);
}

Test(loader, missing_and_empty_shards)
{
    fixture f = fix_make(true, -1, -1);
    bif_loader *loader = NULL;
    bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
    char *missing = bif_path_join(f.dir, "none.h5"), *empty = bif_path_join(f.dir, "empty");
    const char *paths[] = {f.path[0], missing};
    o.shards = paths;
    cr_assert(bif_loader_open(&o, &loader) == BIF_ERR_IO && loader == NULL, "%s", bif_error_message());
    cr_assert(bif_make_dirs(empty) == BIF_OK);
    paths[1] = empty;
    cr_assert(bif_loader_open(&o, &loader) == BIF_ERR_DATA && strstr(bif_error_message(), "no shards") != NULL);
    free(missing);
    free(empty);
    fix_free(&f);
}

Test(loader, end_step_ends)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader_options o = fix_options(&f, BIF_LOADER_CHAT);
    o.start_step = 3;
    o.end_step = 5;
    bif_loader *loader = fix_open(&o);
    for (int64_t s = 3; s < 5; s++) {
        const bif_step *step = fix_next(loader);
        cr_assert(step->step == s);
        bif_loader_done(loader, step);
    }
    cr_assert(fix_next(loader) == NULL && fix_next(loader) == NULL);
    bif_loader_close(loader);
    fix_free(&f);
}
