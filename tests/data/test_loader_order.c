/* Which samples a step holds and how they are dealt, as other trainers do it (data.sampler, data.order, data.last, batch.deal). */
#include "data/order.h"
#include "base/rng.h"
#include "loader_fixture.h"

/* The samples of a step in the order of its groups; rank 0 of 1. Returns how many. */
static int64_t samples_of(bif_loader *loader, uint64_t out[64])
{
    const bif_step *step = fix_next(loader);
    int64_t count = 0;
    cr_assert_not_null(step);
    for (int64_t b = 0; b < step->batches; b++) {
        for (int64_t q = 0; q < step->batch[b]->sequences; q++) {
            out[count++] = step->batch[b]->sample[q];
        }
    }
    bif_loader_done(loader, step);
    return count;
}

static bif_loader_options in_order(const fixture *f)
{
    bif_loader_options o = fix_options(f, BIF_LOADER_CHAT);
    o.deal = BIF_DEAL_ORDER;
    o.micro_batch_samples = 2;
    o.last = BIF_LAST_WRAP;
    return o;
}

Test(loader_order, the_end_of_an_epoch_is_as_asked)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader_options o = in_order(&f);
    o.shuffle = false; /* 37 samples, 8 a step: 4 whole steps and 5 samples */
    const int64_t steps_of_epoch[] = {0, 5, 5, 4};
    for (int last = BIF_LAST_ENDLESS; last <= BIF_LAST_DROP; last++) {
        o.last = (bif_last)last;
        bif_loader *loader = fix_open(&o);
        uint64_t got[64];
        for (int64_t s = 0; s < 11; s++) {
            const int64_t count = samples_of(loader, got), per = steps_of_epoch[last];
            const int64_t first = per == 0 ? s * 8 : s % per * 8;
            cr_assert_eq(count, last == BIF_LAST_SHORT && s % 5 == 4 ? 5 : 8, "last %d, step %d", last, (int)s);
            for (int64_t i = 0; i < count; i++) {
                cr_assert_eq(got[i], (uint64_t)((first + i) % FIX_SAMPLES), "last %d, step %d, place %d", last, (int)s, (int)i);
            }
        }
        cr_expect_eq(bif_loader_steps(loader, 1.0), last == BIF_LAST_DROP ? 4 : 5);
        cr_expect_eq(bif_loader_steps(loader, 2.0), last == BIF_LAST_ENDLESS ? 10 : last == BIF_LAST_DROP ? 8 : 10);
        cr_expect_eq(bif_loader_steps(loader, 3.0), last == BIF_LAST_ENDLESS ? 14 : last == BIF_LAST_DROP ? 12 : 15);
        cr_expect_float_eq(bif_loader_epochs(loader, 10), last == BIF_LAST_ENDLESS ? 80.0 / 37 : last == BIF_LAST_DROP ? 2.5 : 2.0, 1e-12);
        bif_loader_close(loader);
    }
    fix_free(&f);
}

/* Micro-batch j goes to rank j % world, whatever the world: the same micro-batches, bit for bit. */
Test(loader_order, micro_batches_are_the_same_at_any_world_size)
{
    fixture f = fix_make(false, 11, 5);
    bif_loader_options o = in_order(&f);
    o.last = BIF_LAST_SHORT;
    for (int64_t tokens = 256; tokens >= 200; tokens -= 56) {
        uint64_t one[12][8][2];
        memset(one, 0xff, sizeof one);
        for (int world = 1; world <= 4; world++) {
            for (o.rank = 0, o.world = world; o.rank < world; o.rank++) {
                o.max_tokens = tokens;
                bif_loader *loader = fix_open(&o);
                for (int64_t s = 0; s < 12; s++) {
                    const bif_step *step = fix_next(loader);
                    cr_assert_eq(step->groups, s % 5 == 4 ? 3 : 4);
                    int64_t before = -1;
                    for (int64_t b = 0, taken = 0; b < step->batches; b++) {
                        const bif_batch *batch = step->batch[b];
                        cr_assert(batch->group % world == o.rank && batch->group >= before && batch->group < step->groups);
                        taken = batch->group == before ? taken : 0;
                        before = batch->group;
                        for (int64_t q = 0; q < batch->sequences; q++) {
                            uint64_t *place = &one[s][batch->group][taken++];
                            cr_assert(world == 1 || *place == batch->sample[q]);
                            *place = batch->sample[q];
                        }
                    }
                    bif_loader_done(loader, step);
                }
                bif_loader_close(loader);
            }
        }
    }
    fix_free(&f);
}

Test(loader_order, a_micro_batch_beyond_the_budget_comes_in_parts_of_one_group)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader_options o = in_order(&f);
    o.micro_batch_samples = 4;
    o.chat.max_tokens = 100;
    o.max_tokens = 100;
    bif_loader *loader = fix_open(&o);
    const bif_step *step = fix_next(loader);
    cr_expect_eq(step->groups, 2);
    cr_expect_gt(step->batches, 2);
    int64_t in_group[2] = {0};
    for (int64_t b = 0; b < step->batches; b++) {
        in_group[step->batch[b]->group] += step->batch[b]->sequences;
        cr_expect_leq(step->batch[b]->tokens, 100);
    }
    cr_expect_eq(in_group[0], 4);
    cr_expect_eq(in_group[1], 4);
    bif_loader_close(loader);
    fix_free(&f);
}

typedef struct {
    uint64_t seed, epoch;
} key;

static uint64_t draw(void *context, int which, uint64_t n, uint64_t place)
{
    const key *k = context;
    return bif_permute(k->seed, 3 * k->epoch + (uint64_t)which, n, place);
}

/* Words of sample n: its turns, counted by hand in fix_text; negative without pictures. */
static int32_t words_of(int n)
{
    const int pictures = fix_pictures(n, false);
    const int words = (pictures > 0 ? 3 : 2) + (n % 3 == 0 ? 13 : 3);
    return pictures > 0 ? words : -words;
}

Test(loader_order, grouped_by_modality_and_length_from_the_shards)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader_options o = in_order(&f);
    o.sampler = BIF_SAMPLER_MODALITY_LENGTH;
    int32_t length[FIX_SAMPLES];
    for (int n = 0; n < FIX_SAMPLES; n++) {
        length[n] = words_of(n);
    }
    for (int threads = 1; threads <= 50; threads += 7) {
        o.threads = threads;
        o.prefetch = 1 + threads % 5;
        bif_loader *whole = fix_open(&o);
        for (int64_t s = 0; s < 16; s++) { /* into the fourth epoch */
            uint32_t want[FIX_SAMPLES];
            uint64_t got[64], again[64];
            key k = {o.seed, (uint64_t)(s / 5)};
            bif_order_by_modality(length, FIX_SAMPLES, 2, 4, draw, &k, want);
            cr_assert_eq(samples_of(whole, got), 8);
            for (int64_t i = 0; i < 8; i++) {
                cr_assert_eq(got[i], want[(s % 5 * 8 + i) % FIX_SAMPLES], "step %d, place %d", (int)s, (int)i);
            }
            o.start_step = s; /* a resume is a function of the step */
            bif_loader *resumed = fix_open(&o);
            cr_assert_eq(samples_of(resumed, again), 8);
            cr_assert_arr_eq(got, again, 8 * sizeof *got);
            bif_loader_close(resumed);
        }
        o.start_step = 0;
        bif_loader_close(whole);
    }
    fix_free(&f);
}

Test(loader_order, a_file_says_the_order)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader_options o = in_order(&f);
    char *path = bif_path_join(f.dir, "order.txt");
    const char text[] = "36\n0\n1\n1\n5\n9\n30\n31\n32\n2\n";
    const uint64_t order[] = {36, 0, 1, 1, 5, 9, 30, 31, 32, 2};
    cr_assert_eq(bif_file_write(path, text, sizeof text - 1), BIF_OK);
    bif_loader *plain = fix_open(&o);
    o.order_file = path;
    bif_loader *loader = fix_open(&o);
    cr_expect_eq(bif_loader_samples(loader), FIX_SAMPLES);
    cr_expect_eq(bif_loader_steps(loader, 2.0), 4);
    cr_expect(strcmp(bif_loader_digest(plain), bif_loader_digest(loader)) != 0, "the order is part of the digest");
    for (int64_t s = 0; s < 6; s++) { /* every epoch the same, the last step filled up from its beginning */
        uint64_t got[64];
        cr_assert_eq(samples_of(loader, got), 8);
        for (int64_t i = 0; i < 8; i++) {
            cr_assert_eq(got[i], order[(s % 2 * 8 + i) % 10], "step %d, place %d", (int)s, (int)i);
        }
    }
    bif_loader_close(loader);
    bif_loader_close(plain);
    cr_assert_eq(bif_file_write(path, "37\n", 3), BIF_OK);
    cr_expect_eq(bif_loader_open(&o, &loader), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "order of samples") != NULL && strstr(bif_error_message(), "sample 37") != NULL, "%s",
              bif_error_message());
    free(path);
    fix_free(&f);
}

Test(loader_order, what_does_not_go_together_is_refused)
{
    fixture f = fix_make(true, -1, -1);
    bif_loader *loader = NULL;
    struct {
        bif_loader_options o;
        const char *says;
    } cases[8];
    for (int i = 0; i < 8; i++) {
        cases[i].o = in_order(&f);
    }
    cases[0].o.mode = BIF_LOADER_CAPTION, cases[0].says = "nor dealt in order";
    cases[1].o.sampler = BIF_SAMPLER_MODALITY_LENGTH, cases[1].o.shuffle = false, cases[1].says = "are shuffled";
    cases[2].o.sampler = BIF_SAMPLER_MODALITY_LENGTH, cases[2].o.last = BIF_LAST_ENDLESS, cases[2].says = "begin with a step";
    cases[3].o.micro_batch_samples = 0, cases[3].says = "micro-batches of 0";
    cases[4].o.micro_batch_samples = 3, cases[4].says = "micro-batches of 3";
    cases[5].o.end_sample = 10, cases[5].says = "endless order only";
    cases[6].o.last = BIF_LAST_DROP, cases[6].o.samples_per_step = 38, cases[6].says = "no whole step of 38";
    cases[7].o.sampler = BIF_SAMPLER_MODALITY_LENGTH, cases[7].o.deal = BIF_DEAL_TOKENS, cases[7].o.micro_batch_samples = 5,
    cases[7].says = "micro-batches of 5";
    for (int i = 0; i < 8; i++) {
        cr_expect(bif_loader_open(&cases[i].o, &loader) == BIF_ERR_CONFIG && loader == NULL, "case %d", i);
        cr_expect(strstr(bif_error_message(), cases[i].says) != NULL, "case %d: %s", i, bif_error_message());
    }
    fix_free(&f);
}
