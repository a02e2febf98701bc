/* From shards to packed micro-batches, decoded and tokenized by threads ahead of the step.
 *
 * Samples: the N of all shards in the order given or, with a selection (data/selection.h), the N that it keeps, in that order too; one that is
 * kept k times stands there k times. What follows, and bif_batch.sample, counts these: the same as of shards that `data compact` made of them.
 *
 * Order: epoch e visits sample bif_permute(seed, e, N, k) for k = 0..N-1; without
 * shuffle, sample k. MODALITY_LENGTH: LLaVA's order by modality and length (data/order.h) with permutations drawn from
 * (seed, e), of C = B / micro_batch_samples chunks; the words of every sample are counted once, at open. order_file:
 * what the file says takes the place of the N samples, the same in every epoch.
 * Epochs of L samples and steps: `last` says how they go together. ENDLESS: step s takes the positions [s*B, (s+1)*B) of
 * the endless sequence of epochs. Else every epoch begins with a step. WRAP: it has ceil(L/B), the last one filled up
 * from the beginning of the epoch (Hugging Face's Trainer: accelerate's even_batches; also with gradient accumulation,
 * where the Trainer fills up to a whole micro-batch of every rank only). SHORT: ceil(L/B), the last one shorter. DROP:
 * floor(L/B), the rest is left out (dataloader_drop_last; at least 1 step: L < B is refused).
 * All of it is a function of the step, at any world size. Resume is one integer: start_step.
 *
 * CHAT and TEXT: a step's samples are dealt to `world` ranks by token count (data/deal.h), then each rank packs its own
 * into micro-batches of at most `max_tokens` tokens, `max_images` pictures and `micro_batch_samples` sequences, in
 * order. Every rank computes the whole deal, so ranks agree without talking: a sample is tokenized by every rank once
 * for its length (8 bytes a sample are kept for later epochs), and only the own ones are decoded.
 * deal ORDER: as Hugging Face's Trainer deals instead: the j-th micro_batch_samples of the step go to rank j % world.
 * They are one micro-batch for the mean of train.loss micro_mean (bif_batch.group); where their tokens or pictures do not
 * fit the limits, they come as several packed ones.
 *
 * A sample that cannot be used is logged once with shard:index and reason, and counted. What all ranks can see (text,
 * template, length, number of pictures, the picture's record in the shard) leaves it out of the deal, on all ranks
 * alike, and rank 0 logs it. A picture's bytes are seen only by its owner, who keeps the sequence in its place with all
 * labels -100 and a picture of the mean colour (bif_preprocess_blank): the schedule does not change, and the trainer
 * sums the count of supervised tokens over ranks anyway.
 *
 * CAPTION: all ranks hold the same number of pairs, B / world: rank r takes the positions [r*B/world, (r+1)*B/world) of
 * the step. A pair that cannot be used, for its text or its picture, is replaced by the one N/2 places further in the
 * same epoch's order (then by the next, at most 63 tries): a function of the position alone, so the owner decides
 * without the other ranks, at any world size and after any resume. The owner logs and counts it. A blank picture would
 * be a false pair for the whole batch. A pair has exactly one picture; its text is the caption, or the first "gpt" turn
 * of a conversation. Surrounding white space is dropped. A longer text is cut and keeps EOS (chat.truncate) or cannot
 * be used. Labels are all -100 and image_row all -1.
 *
 * caption_column: for some of the visits or all the text of a column stands for the caption: of a pair (also of one that is a
 * conversation), of a {"caption"}, and in template plain of a conversation of one question and one answer. Other conversations stay as
 * they are, and so does a sample for which the column has no text. MODALITY_LENGTH goes by the words of the shards.
 *
 * Trouble of the system (a read error, not a bad record) is returned by bif_loader_next at the step it belongs to.
 * The result is the same for any number of threads. */
#pragma once
#include "base/status.h"
#include "data/augment.h"
#include "data/batch.h"
#include "data/chat.h"
#include "data/image.h"

typedef enum {
    BIF_LOADER_CHAT = 0,    /* conversations and captions through data/chat.h */
    BIF_LOADER_CAPTION = 1, /* contrastive pairs: BOS? caption EOS, one picture each, B / world pairs a rank */
    BIF_LOADER_TEXT = 2,    /* language modelling: the text of each sample without pictures, every token but the first
                               supervised; a caption is BOS? caption EOS, a conversation goes through the template */
} bif_loader_mode;

typedef enum { BIF_SAMPLER_PERMUTED = 0, BIF_SAMPLER_MODALITY_LENGTH = 1 } bif_sampler;
typedef enum { BIF_LAST_ENDLESS = 0, BIF_LAST_WRAP = 1, BIF_LAST_SHORT = 2, BIF_LAST_DROP = 3 } bif_last;
typedef enum { BIF_DEAL_TOKENS = 0, BIF_DEAL_ORDER = 1 } bif_deal_kind;

typedef struct {
    const char *const *shards; /* paths; a path may be a folder (all *.h5 in it, sorted) */
    size_t shard_count;
    const char *selection; /* a file of data/selection.h made of exactly these shards, in any order; NULL = none. 4 bytes a kept sample */
    const char *caption_column; /* a text column of all shards; NULL = none. Its texts are kept in memory */
    double caption_mix;         /* share of the visits that take it, above 0 to 1; drawn from (seed, epoch, sample) alone */
    bif_loader_mode mode;
    bif_chat chat; /* tokenizer, template, limits; max_tokens must fit a micro-batch */
    bif_preprocess preprocess;
    bif_augment augment; /* CAPTION: random views, drawn from (seed, epoch, sample) alone */
    bif_image_limits image_limits;
    uint64_t seed;
    bool shuffle;
    bif_sampler sampler;    /* MODALITY_LENGTH: with shuffle, not CAPTION, not `last` ENDLESS, B a multiple of
                               micro_batch_samples (0: one chunk of B) */
    const char *order_file; /* NULL = none; else sampler and shuffle are not used */
    bif_last last;          /* CAPTION: not SHORT */
    bif_deal_kind deal;     /* ORDER: micro_batch_samples > 0 divides B; not CAPTION */
    int64_t samples_per_step;    /* B, global; CAPTION: a multiple of world */
    int64_t micro_batch_samples; /* at most so many sequences a micro-batch; 0 = no limit */
    int64_t max_tokens;          /* token budget of a micro-batch; CAPTION: ignored, only the pairs are counted */
    int64_t max_images;          /* pictures a micro-batch; 0 = no limit; CAPTION: ignored */
    int rank, world;
    int threads;  /* worker threads, >= 1 */
    int prefetch; /* steps prepared ahead, >= 1 */
    int64_t start_step;
    int64_t end_step;   /* -1 = endless; else bif_loader_next returns a NULL step instead of this one */
    int64_t end_sample; /* 0 = none; else positions of the endless order from this one on are left out, so that an
                           evaluation sees exactly so many; CAPTION: a multiple of B; with `last` ENDLESS only */
    bool cache_pixels;  /* keep pictures, so that a small data set is decoded once: preprocessed, 3*S*S bytes each, or with
                           `augment` decoded, at their full size; up to cache_bytes in all, first come first kept, plus 8
                           bytes for every picture of the shards */
    int64_t cache_bytes;
} bif_loader_options;

typedef struct bif_loader bif_loader;

/* All micro-batches of this rank for one step. All ranks get the same `step`; the number of micro-batches may differ
 * between ranks (may be 0), the trainer's collectives do not depend on it. */
typedef struct {
    int64_t step;
    int64_t batches;
    bif_batch **batch;     /* [batches], owned by the loader until bif_loader_done */
    int64_t groups;        /* deal ORDER: micro-batches of the step over all ranks, those of unusable samples too; else 0 */
    int64_t global_tokens; /* tokens of the step over all ranks, by the deal; CAPTION: of this rank alone */
    int64_t skipped;       /* unusable samples of this step that this rank counts: its broken pictures; rank 0: those all leave out */
} bif_step;

/* Opens and checks every shard (and the selection) and starts the threads. The tokenizer and chat.system must outlive the loader.
 * BIF_ERR_CONFIG: an option out of range. BIF_ERR_DATA: a bad shard, selection or order, or no samples. BIF_ERR_IO: a missing one. */
bif_status bif_loader_open(const bif_loader_options *options, bif_loader **out);
/* Only whether a selection (NULL: none) was made of these shards, which are opened one by one and closed again. */
bif_status bif_loader_check_selection(const char *const *shards, size_t count, const char *selection);
int64_t bif_loader_samples(const bif_loader *loader);    /* N */
/* 32 hex digits over the shards' payload digests, in order, and over what the selection keeps, the texts of the caption column and the
 * numbers of order_file. */
const char *bif_loader_digest(const bif_loader *loader);
int64_t bif_loader_steps(const bif_loader *loader, double epochs); /* of so many epochs, rounded up */
double bif_loader_epochs(const bif_loader *loader, int64_t steps); /* begun and ended by so many steps */
/* Capacity of every micro-batch. Host memory: (prefetch + 1) steps of such micro-batches, touched only where used. */
bif_batch_limits bif_loader_limits(const bif_loader *loader);
/* Waits for the next step. *step stays valid until bif_loader_done, which comes before the next bif_loader_next. NULL
 * from end_step on. After an error every further call returns it again. One thread at a time. */
bif_status bif_loader_next(bif_loader *loader, const bif_step **step);
void bif_loader_done(bif_loader *loader, const bif_step *step); /* gives the buffers back */
double bif_loader_wait_seconds(const bif_loader *loader);       /* time bif_loader_next has waited so far */
int64_t bif_loader_skipped(const bif_loader *loader); /* the sum of `skipped` over the steps given out so far */
/* At any time, also with a step not given back; waits for the pictures in work. NULL is allowed. */
void bif_loader_close(bif_loader *loader);
