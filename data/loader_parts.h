/* Inside the loader: what its files (loader.c, loader_order.c, loader_text.c, loader_image.c, loader_work.c) share. Not for others. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "data/deal.h"
#include "data/loader.h"
#include "data/shard.h"

enum { BIF_LOADER_TRIES = 64 }; /* pairs looked at for one place of a CAPTION step */

/* One sample of a step. Between the stages it belongs to one thread. */
typedef struct {
    int64_t epoch;
    uint64_t sample; /* global number; CAPTION: the one that was used in the end */
    int64_t tokens;  /* 0: left out */
    int64_t images;
    bif_encoded encoded;  /* kept from the lengths to the filling when it was computed; else empty */
    int64_t batch, image; /* own samples: micro-batch, and the first of its pictures there */
    int64_t skipped;      /* unusable samples met at this place */
} bif_loader_item;

typedef enum { BIF_SLOT_FREE = 0, BIF_SLOT_LENGTHS, BIF_SLOT_FILL, BIF_SLOT_READY, BIF_SLOT_HELD } bif_slot_stage;

/* A place of the order. */
typedef struct {
    int64_t epoch, place; /* place: 0 to epoch_samples - 1 */
} bif_loader_place;

/* The order of an epoch, kept while steps of it are in work. */
typedef struct {
    int64_t epoch;
    uint32_t *order; /* [samples]; NULL: free */
} bif_loader_epoch;

/* A step in work. Stage, next and done are guarded by the loader's mutex; the rest belongs to the items' workers while
 * a stage runs and to the last of them between two stages. */
typedef struct {
    bif_slot_stage stage;
    int64_t step;
    int64_t work, next, done; /* items of the stage; claimed; finished */
    bif_loader_item *item;    /* [B], CAPTION [B / world] */
    int64_t items;            /* of this step */
    int64_t *own;             /* [items] indices of this rank's items, in order */
    int64_t owned;
    bif_deal_item *deal;   /* [B] */
    bif_deal_place *place; /* [B] */
    bif_batch **batch;     /* kept from step to step */
    int64_t batch_capacity;
    bif_step view;
    bif_status status; /* first failure, guarded by the mutex */
    char *message;
} bif_loader_slot;

/* A worker's buffers, kept from picture to picture. */
typedef struct {
    bif_loader *loader;
    pthread_t thread;
    uint8_t *bytes; /* encoded picture */
    size_t capacity;
} bif_loader_worker;

/* A decoded picture in the cache. */
typedef struct {
    int64_t width, height;
    uint8_t rgb[];
} bif_kept_picture;

struct bif_loader {
    bif_loader_options options; /* `shards` is not used after open */
    bif_shard **shard;
    int64_t shards;
    int64_t *first_sample, *first_image; /* [shards + 1] global numbers */
    int64_t samples, images;             /* N, of `kept` where that is; pictures of the shards */
    uint32_t *kept;                      /* [samples] of a selection: the shards' sample of each, by first_sample; NULL: all of them */
    int64_t pairs; /* items of a step: B, CAPTION B / world */
    bif_batch_limits limits;
    char digest[33];

    int64_t epoch_samples, epoch_steps; /* L; steps of an epoch, 0: ENDLESS */
    uint32_t *imported;                 /* [L] of order_file, or NULL */
    int32_t *words;                     /* [samples] MODALITY_LENGTH: words, negative without pictures; never 0 */
    pthread_mutex_t order_mutex;        /* guards epoch[] */
    bif_loader_epoch *epoch;            /* MODALITY_LENGTH: as many as steps in work can touch */
    int64_t epochs;

    struct bif_column **caption; /* [shards] of options.caption_column, or NULL */
    _Atomic(uint64_t) *length;  /* [samples], with a caption column [2, samples]: own text, column's text. 0 unknown, UINT64_MAX unusable, else tokens and above bit 32 pictures */
    _Atomic(uint8_t) *warned;   /* [samples] logged already */
    _Atomic(uint8_t *) *pixels; /* [images] cached [S, S, 3], augmenting a bif_kept_picture; NULL without a cache */
    _Atomic(int64_t) cached;    /* bytes */

    pthread_mutex_t mutex;
    pthread_cond_t work, ready;
    bool stop;                    /* guarded by the mutex, as are the steps and stages */
    int64_t open_step, next_step; /* next to start; next to give out */
    bif_loader_slot *slot;
    int64_t slots;
    bif_loader_worker *worker;
    int workers; /* started */
    double waited;
    int64_t skipped;
};

/* ---- loader_select.c ---- */
bif_status bif_loader_select(bif_loader *loader); /* applies options.selection to the open shards */

/* ---- loader_order.c ---- */
bif_status bif_loader_order_open(bif_loader *loader);
void bif_loader_order_close(bif_loader *loader);
int64_t bif_loader_step_items(const bif_loader *loader, int64_t step); /* over all ranks */
/* Item `index` of a step (over all ranks); and the sample there, `attempt` > 0: its substitutes in CAPTION mode. */
bif_loader_place bif_loader_place_of(const bif_loader *loader, int64_t step, int64_t index);
uint64_t bif_loader_sample_at(bif_loader *loader, bif_loader_place place, int64_t attempt);

/* ---- loader_caption.c ---- */
bif_status bif_loader_captions_open(bif_loader *loader); /* of options.caption_column; they go into the digest */
void bif_loader_captions_close(bif_loader *loader);
/* Whether this visit takes the column's text, if it has one that fits. */
bool bif_loader_takes_column(const bif_loader *loader, int64_t epoch, uint64_t sample);
/* The sample's record with the column's text as its caption, malloc'ed; NULL: its own stays. */
char *bif_loader_column_record(const bif_loader *loader, uint64_t sample, const bif_shard_sample *record, size_t *size);

/* ---- loader_text.c ---- */
/* The shard of a sample of the loader; *local: its number there. */
int64_t bif_loader_shard_of(const bif_loader *loader, uint64_t sample, int64_t *local);
/* The shard of a sample of the loader and its record. */
bif_status bif_loader_sample(const bif_loader *loader, uint64_t sample, const bif_shard **shard, int64_t *first_image,
                             bif_shard_sample *out);
/* Checks of all that every rank can see, then ids and labels as the mode wants them. BIF_ERR_DATA: cannot be used. */
bif_status bif_loader_encode(const bif_loader *loader, int64_t epoch, uint64_t sample, bif_encoded *out);
/* "path:index" of a sample, cut if too long. */
void bif_loader_where(const bif_loader *loader, uint64_t sample, char *text, size_t size);
/* Logs this thread's last failure once for the sample. */
void bif_loader_warn(bif_loader *loader, uint64_t sample);

/* ---- loader_image.c ---- */
/* The first `images` pictures of a sample to out [images, S, S, 3]; all blank after a failure. `epoch` decides, with the sample, how they are
 * augmented. */
bif_status bif_loader_pictures(bif_loader_worker *worker, uint64_t epoch, uint64_t sample, int64_t images, uint8_t *out);

/* ---- loader_work.c ---- */
bif_status bif_loader_start(bif_loader *loader); /* threads */
void bif_loader_stop(bif_loader *loader);        /* and waits for them; also after a failed start */
