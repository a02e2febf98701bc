/* A loader that takes captions from a text column (data/loader.h, options.caption_column). */
#include "data/column.h"
#include "loader_fixture.h"

enum { STEPS = 24, BATCH = 8 };

static bool has_text(int n)
{
    return n % 4 != 1;
}
static char *column_text(int n)
{
    return bif_format("other words, number %d", n);
}

static void write_column(const fixture *f, const char *name, int skip)
{
    for (int s = 0, first = 0; s < FIX_SHARDS; first += fix_count[s++]) {
        bif_shard *shard = NULL;
        char *text[FIX_SAMPLES] = {NULL};
        cr_assert_eq(bif_shard_open(f->path[s], &shard), BIF_OK);
        for (int i = 0; i < fix_count[s]; i++) {
            text[i] = first + i == skip ? bif_strdup("  ") : has_text(first + i) ? column_text(first + i) : NULL;
        }
        const bif_column_info info = {name, "test", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_TEXT, fix_count[s], 1};
        cr_assert_eq(bif_column_write(shard, &info, text), BIF_OK, "%s", bif_error_message());
        for (int i = 0; i < fix_count[s]; i++) {
            free(text[i]);
        }
        bif_shard_close(shard);
    }
}

/* 0: the sample's own caption, 1: the column's, -1: neither. plain: with the newline and the picture of that template. */
static int which(const fixture *f, const bif_loader_options *o, const bif_batch *b, int64_t k)
{
    const int n = (int)b->sample[k];
    const int32_t *ids = b->ids + b->cu_seqlens[k];
    const size_t count = (size_t)(b->cu_seqlens[k + 1] - b->cu_seqlens[k]);
    int found = -1;
    for (int way = 0; way < 2; way++) {
        char *text = way == 0 ? bif_format("a picture of number %d and %d", n, n * n) : column_text(n);
        bif_encoded want = {0};
        if (o->mode == BIF_LOADER_CAPTION) {
            cr_assert_eq(bif_chat_caption(&o->chat, "test", text, strlen(text), true, &want.ids), BIF_OK);
        } else {
            char *record = bif_format("{\"caption\":\"%s\"}", text);
            cr_assert_eq(bif_chat_encode(&o->chat, "test", record, strlen(record), 1, &want), BIF_OK);
            free(record);
        }
        if (want.ids.count == count && memcmp(want.ids.ids, ids, count * sizeof *ids) == 0) {
            found = way;
        }
        bif_encoded_free(&want);
        free(text);
    }
    (void)f;
    return found;
}

/* taken[step][n] = 1 + which of the sample n in that step, 0 where it is not there. */
static void visit(const fixture *f, bif_loader_options o, int64_t from, int8_t taken[STEPS][FIX_SAMPLES], char digest[33])
{
    for (int rank = 0; rank < o.world; rank++) {
        bif_loader *loader = NULL;
        o.rank = rank;
        o.start_step = from;
        cr_assert_eq(bif_loader_open(&o, &loader), BIF_OK, "%s", bif_error_message());
        snprintf(digest, 33, "%s", bif_loader_digest(loader));
        for (int64_t s = from; s < STEPS; s++) {
            const bif_step *step = NULL;
            cr_assert_eq(bif_loader_next(loader, &step), BIF_OK, "%s", bif_error_message());
            int64_t tokens = 0;
            for (int64_t b = 0; b < step->batches; b++) {
                tokens += step->batch[b]->tokens;
                for (int64_t k = 0; k < step->batch[b]->sequences; k++) {
                    taken[s][step->batch[b]->sample[k]] = (int8_t)(1 + which(f, &o, step->batch[b], k));
                }
            }
            cr_expect(o.world > 1 || tokens == step->global_tokens, "the deal went by %lld tokens of %lld", (long long)step->global_tokens,
                      (long long)tokens);
            bif_loader_done(loader, step);
        }
        bif_loader_close(loader);
    }
}

static bif_loader_options with_column(const fixture *f, bif_loader_mode mode, double mix)
{
    bif_loader_options o = fix_options(f, mode);
    o.chat.kind = BIF_TEMPLATE_PLAIN;
    o.caption_column = mix > 0 ? "caption-new" : NULL;
    o.caption_mix = mix;
    return o;
}

static void check_mode(bif_loader_mode mode)
{
    static int8_t all[STEPS][FIX_SAMPLES], half[STEPS][FIX_SAMPLES], again[STEPS][FIX_SAMPLES];
    fixture f = fix_make(true, -1, -1);
    char with[33], without[33], mixed[33];
    memset(all, 0, sizeof all);
    memset(half, 0, sizeof half);
    memset(again, 0, sizeof again);
    write_column(&f, "caption-new", 6);
    visit(&f, with_column(&f, mode, 0.0), 0, all, without);
    for (int s = 0; s < STEPS; s++) {
        for (int n = 0; n < FIX_SAMPLES; n++) {
            cr_expect(all[s][n] == 0 || all[s][n] == 1);
        }
    }
    memset(all, 0, sizeof all);
    visit(&f, with_column(&f, mode, 1.0), 0, all, with);
    visit(&f, with_column(&f, mode, 0.5), 0, half, mixed);
    cr_expect_str_neq(with, without);
    cr_expect_str_eq(with, mixed, "the mix is a key of the recipe, not of the data");
    int column = 0, visits = 0, changed = 0;
    for (int s = 0; s < STEPS; s++) {
        for (int n = 0; n < FIX_SAMPLES; n++) {
            const bool has = has_text(n) && n != 6;
            cr_expect(all[s][n] == 0 || all[s][n] == (has ? 2 : 1), "step %d, sample %d: %d", s, n, all[s][n]);
            cr_expect(half[s][n] == 0 || half[s][n] == 1 || (half[s][n] == 2 && has));
            cr_expect_eq(half[s][n] == 0, all[s][n] == 0);
            visits += has && half[s][n] > 0;
            column += half[s][n] == 2;
            for (int t = 0; t < s; t++) {
                changed += half[s][n] > 0 && half[t][n] > 0 && half[s][n] != half[t][n];
            }
        }
    }
    cr_expect(column > visits / 3 && column < visits * 2 / 3, "%d of %d", column, visits);
    cr_expect_gt(changed, 10, "the draw does not change with the epoch");
    bif_loader_options o = with_column(&f, mode, 0.5);
    o.world = 2;
    o.threads = 3;
    visit(&f, o, 0, again, mixed);
    cr_expect(memcmp(half, again, sizeof half) == 0, "two ranks draw otherwise");
    memset(again, 0, sizeof again);
    visit(&f, with_column(&f, mode, 0.5), STEPS / 2, again, mixed);
    cr_expect(memcmp(half[STEPS / 2], again[STEPS / 2], sizeof again / 2) == 0, "a resume draws otherwise");
    write_column(&f, "caption-new", 7);
    visit(&f, with_column(&f, mode, 1.0), 0, again, mixed);
    cr_expect_str_neq(with, mixed, "other texts have the same digest");
    fix_free(&f);
}

Test(loader_caption, pairs)
{
    check_mode(BIF_LOADER_CAPTION);
}

Test(loader_caption, plain_captions)
{
    check_mode(BIF_LOADER_CHAT);
}

Test(loader_caption, conversations_keep_theirs)
{
    fixture f = fix_make(false, -1, -1);
    bif_loader *loader[2] = {NULL, NULL};
    write_column(&f, "caption-new", -1);
    for (int way = 0; way < 2; way++) {
        bif_loader_options o = with_column(&f, BIF_LOADER_CHAT, way);
        o.chat.kind = BIF_TEMPLATE_VICUNA_V1;
        cr_assert_eq(bif_loader_open(&o, &loader[way]), BIF_OK, "%s", bif_error_message());
    }
    for (int s = 0; s < 5; s++) {
        const bif_step *step[2];
        for (int way = 0; way < 2; way++) {
            cr_assert_eq(bif_loader_next(loader[way], &step[way]), BIF_OK);
        }
        cr_assert_eq(step[0]->batches, step[1]->batches);
        for (int64_t b = 0; b < step[0]->batches; b++) {
            cr_assert_eq(step[0]->batch[b]->tokens, step[1]->batch[b]->tokens);
            cr_expect_eq(memcmp(step[0]->batch[b]->ids, step[1]->batch[b]->ids, (size_t)step[0]->batch[b]->tokens * sizeof(int32_t)), 0);
        }
        for (int way = 0; way < 2; way++) {
            bif_loader_done(loader[way], step[way]);
        }
    }
    bif_loader_close(loader[0]);
    bif_loader_close(loader[1]);
    fix_free(&f);
}

Test(loader_caption, refused)
{
    fixture f = fix_make(true, -1, -1);
    bif_loader *loader = NULL;
    bif_loader_options o = with_column(&f, BIF_LOADER_CAPTION, 1.0);
    cr_expect_eq(bif_loader_open(&o, &loader), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "caption-new"), "%s", bif_error_message());
    write_column(&f, "caption-new", -1);
    o.caption_mix = 1.5;
    cr_expect_eq(bif_loader_open(&o, &loader), BIF_ERR_CONFIG);
    fix_free(&f);
}
