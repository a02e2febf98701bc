/* From shards to packed micro-batches, decoded and tokenized by threads ahead of the step.
 *
 * Order: epoch e visits global sample bif_permute(seed, e, N, k) for k = 0..N-1 (shards in the order given). Step s takes the samples
 * [s*B, (s+1)*B) of the endless sequence of epochs, at any world size. A step's samples are dealt to `world` ranks by token count (largest
 * first to the lightest rank; ties by position), then each rank packs its own into micro-batches of at most `max_tokens` tokens (and at
 * most `max_images` pictures), in order. Every rank computes the whole deal, so ranks agree without talking:
 * lengths are computed by tokenizing every sample of the step; only the own ones are decoded.
 *
 * A sample that cannot be used (broken picture, empty caption, too long, nothing supervised) is logged once with shard:index and reason,
 * counted, and left out; all ranks must leave out the same ones. Text trouble is seen by all ranks alike. Picture trouble is seen only by the owner:
 * the sequence keeps its place with its labels set to -100 and grey pixels (so schedules and collectives do not change), and
 * the count of supervised tokens is summed over ranks by the trainer anyway. (clip: the pair is left out of the batch by
 * the deal only if its text is bad; a bad picture is known after a first pass: see `exclude_bad_images`.)
 *
 * Resume is one integer: start_step. */
#pragma once
#include "base/status.h"
#include "data/batch.h"
#include "data/chat.h"
#include "data/image.h"

typedef enum {
    BIF_LOADER_CHAT = 0,    /* conversations and captions through data/chat.h */
    BIF_LOADER_CAPTION = 1, /* contrastive pairs: BOS? caption EOS, one picture each, samples_per_step / world pairs a rank */
    BIF_LOADER_TEXT = 2,    /* language modelling: only the text side of each sample, every token supervised (labels = ids), pictures dropped */
} bif_loader_mode;

typedef struct {
    const char *const *shards; /* paths; a path may be a folder (all *.h5 in it, sorted) */
    size_t shard_count;
    bif_loader_mode mode;
    bif_chat chat;             /* tokenizer, template, limits */
    bif_preprocess preprocess;
    bif_image_limits image_limits;
    uint64_t seed;
    bool shuffle;
    int64_t samples_per_step;  /* B, global */
    int64_t micro_batch_samples; /* at most so many sequences a micro-batch; 0 = no limit */
    int64_t max_tokens;        /* token budget of a micro-batch */
    int64_t max_images;        /* pictures a micro-batch; 0 = no limit */
    int rank, world;
    int threads;               /* worker threads, >= 1 */
    int prefetch;              /* steps prepared ahead, >= 1 */
    int64_t start_step;
    int64_t end_step;          /* -1 = endless; else bif_loader_next returns NULL step after it */
    bool cache_pixels;         /* keep preprocessed u8 pictures in memory (bounded by cache_bytes) */
    int64_t cache_bytes;
} bif_loader_options;

typedef struct bif_loader bif_loader;

/* All micro-batches of this rank for one step. All ranks get the same `step`; the number of micro-batches may differ between ranks
 * (may be 0), the trainer's collectives do not depend on it. */
typedef struct {
    int64_t step;
    int64_t batches;
    bif_batch **batch;       /* [batches], owned by the loader until bif_loader_done */
    int64_t global_tokens;   /* tokens of the whole step over all ranks (by the deal) */
    int64_t skipped;         /* samples of this step left out so far, as seen by this rank */
} bif_step;

bif_status bif_loader_open(const bif_loader_options *options, bif_loader **out); /* opens and checks every shard */
int64_t bif_loader_samples(const bif_loader *loader);  /* N */
const char *bif_loader_digest(const bif_loader *loader); /* 32 hex digits over the shards' payload digests, in order */
bif_batch_limits bif_loader_limits(const bif_loader *loader);
/* Waits for the next step. *step stays valid until bif_loader_done. NULL after end_step. */
bif_status bif_loader_next(bif_loader *loader, const bif_step **step);
void bif_loader_done(bif_loader *loader, const bif_step *step); /* gives the buffers back */
double bif_loader_wait_seconds(const bif_loader *loader); /* time bif_loader_next has waited so far */
int64_t bif_loader_skipped(const bif_loader *loader);     /* samples left out so far, own view */
void bif_loader_close(bif_loader *loader); /* NULL is allowed */
