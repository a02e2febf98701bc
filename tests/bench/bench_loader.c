/* Pictures and tokens a second of the loader alone, first epoch and later ones alike (no picture cache).
 * bench_loader SIZE THREADS STEPS SHARD...   SIZE: side of the preprocessed picture; a step has 256 samples.
 * Compare with loader_vs_torch.py on the same image files. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/loader.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A small tokenizer over the shard's own texts. */
static bif_status make_tokenizer(const char *path, bif_tokenizer **out)
{
    enum { MOST = 1000 };
    static const char *texts[MOST];
    static size_t sizes[MOST];
    const char *specials[] = {"<s>", "</s>", "<image>"};
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    size_t count = 0;
    BIF_TRY(bif_shard_open(path, &shard));
    for (; count < MOST && (int64_t)count < bif_shard_samples(shard); count++) {
        bif_shard_sample sample;
        BIF_TRY(bif_shard_get_sample(shard, (int64_t)count, &sample));
        texts[count] = sample.text;
        sizes[count] = sample.text_size;
    }
    BIF_TRY(bif_tokenizer_train(texts, sizes, count, 2000, specials, 3, out));
done:
    bif_shard_close(shard);
    return st;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bench_loader SIZE THREADS STEPS SHARD...\n");
        return BIF_ERR_USAGE;
    }
    bif_status st = BIF_OK;
    bif_tokenizer *tokenizer = NULL;
    bif_loader *loader = NULL;
    const int64_t size = atoll(argv[1]), steps = atoll(argv[3]);
    BIF_TRY(make_tokenizer(argv[4], &tokenizer));
    bif_loader_options options = {
        .shards = (const char *const *)argv + 4,
        .shard_count = (size_t)(argc - 4),
        .chat = {.tokenizer = tokenizer,
                 .kind = BIF_TEMPLATE_VICUNA_V1,
                 .bos = bif_tokenizer_special(tokenizer, "<s>"),
                 .eos = bif_tokenizer_special(tokenizer, "</s>"),
                 .image = bif_tokenizer_special(tokenizer, "<image>"),
                 .image_tokens = 16,
                 .max_tokens = 2048,
                 .truncate = true},
        .preprocess = bif_preprocess_clip(size),
        .seed = 1,
        .shuffle = true,
        .samples_per_step = 256,
        .max_tokens = 8192,
        .world = 1,
        .threads = atoi(argv[2]),
        .prefetch = 2,
        .end_step = steps + 1,
    };
    BIF_TRY(bif_loader_open(&options, &loader));
    int64_t images = 0, tokens = 0;
    double start = 0.0;
    for (int64_t s = 0; s <= steps; s++) { /* step 0 starts the clock when it is there */
        const bif_step *step = NULL;
        BIF_TRY(bif_loader_next(loader, &step));
        for (int64_t b = 0; b < step->batches && s > 0; b++) {
            images += step->batch[b]->images;
            tokens += step->batch[b]->tokens;
        }
        bif_loader_done(loader, step);
        start = s == 0 ? now() : start;
    }
    const double seconds = now() - start;
    printf("%" PRId64 " samples, %" PRId64 " x %" PRId64
           " pixels, %d threads: %.0f pictures/s, %.0f tokens/s, %.3f s, %" PRId64 " skipped\n",
           bif_loader_samples(loader), size, size, options.threads, (double)images / seconds, (double)tokens / seconds,
           seconds, bif_loader_skipped(loader));
done:
    if (st != BIF_OK) {
        fprintf(stderr, "bench_loader: %s\n", bif_error_message());
    }
    bif_loader_close(loader);
    bif_tokenizer_free(tokenizer);
    return (int)st;
}
