/* What the device reads of a micro-batch.
 *
 * On the CPU these are views of the batch, and of index arrays computed here. Another device gets all pieces together in one copy from pinned
 * memory, on its input stream, into one of two slots: while the device computes with one, the other is filled. A piece's address depends on the
 * slot and the sizes of the batch only, so a recorded graph of the step serves every batch of these sizes. */
#pragma once
#include "data/batch.h"
#include "kernels/ops.h"

/* What the activations of a forward are kept for. */
typedef enum {
    BIF_KEEP_NOTHING = 0, /* no backward follows: one layer's buffers are reused by the next */
    BIF_KEEP_LAYERS = 1,  /* what the backward needs, so that no product is computed twice */
    BIF_KEEP_INPUTS = 2,  /* the input of each block; the backward runs the block again */
} bif_keep;

/* Bounds of packed sequences, i32 [n+1]. */
typedef struct {
    bif_tensor host, device; /* the same numbers; on the CPU device.data is NULL */
} bif_bounds;

/* The argument `bounds` of an op: NULL on the CPU. */
static inline const bif_tensor *bif_on_device(const bif_bounds *bounds)
{
    return bounds->device.data != NULL ? &bounds->device : NULL;
}

typedef struct {
    int64_t tokens, sequences, images, rows; /* T, n, I, R (supervised) */
    bif_tensor ids, pos;                     /* i32 [T]; ids is -1 where a picture's row goes (LLaVA) */
    bif_tensor image_row, patch_rows;        /* LLaVA, i32 [T], [I * per_image]: the encoder's row of each feature row */
    bif_tensor picked, targets;              /* i32 [R]: rows that predict a supervised token, and that token */
    bif_tensor eot;                          /* i32 [n] last row of each sequence */
    bif_tensor pixels;                       /* u8 [I,S,S,3] */
    bif_tensor kept_rows;                    /* patch dropout: i32 [I * K (+ 1)] the rows that go on, of P (+ 1) a picture; else empty */
    bif_tensor class_rows;                   /* i32 [I] first row of each picture among those that go on: the class token's, where there is one */
    bif_tensor probe_ids;                    /* pairs of SigLIP: i32 [I], each picture's row of the probe (0) */
    bif_bounds bounds, image_bounds;         /* of the sequences; of the encoder's rows (P a picture, or K; + 1 with a class token) */
    bif_tensor places, picked_places;        /* dropout: i32 [T,2], [R,2] a row's position in its sequence, and that one's place */
    bif_tensor weight;                       /* f32 [1] factor of each supervised row's loss */
} bif_inputs;

/* Which numbers of the model they depend on. */
typedef struct {
    int64_t side;      /* S; 0 = the model sees no pictures */
    int64_t patches;   /* P of the encoder */
    bool no_class;     /* it has no class token */
    int64_t per_image; /* rows of a picture in the decoder, P or P + 1; 0 = CLIP */
    int64_t kept;      /* patch dropout: K of P patches go on, drawn by (seed, place + number of the picture in the batch); 0 = all */
    uint64_t seed, place;
    bool places; /* LoRA's dropout: rows are told by their place */
} bif_inputs_shape;

typedef struct {
    const bif_batch *batch; /* what it was filled with, NULL = nothing waits in it */
    bif_inputs inputs;
    char *host, *memory; /* the same bytes on the host and on the device; CPU: host only */
    size_t size;
} bif_feeder_slot;

/* Two slots and the turn. Zero-initialised is ready to use. */
typedef struct {
    bif_feeder_slot slot[2];
    int turn;    /* slot that the next batch goes to */
    int current; /* slot last taken */
} bif_feeder;

/* Bytes of a slot for these limits; memory for both slots at once, so that nothing is allocated in a step (else they grow when needed). */
size_t bif_feeder_bytes(const bif_device *device, const bif_inputs_shape *shape, const bif_batch_limits *limits);
bif_status bif_feeder_reserve(bif_feeder *feeder, bif_device *device, size_t bytes);
void bif_feeder_free(bif_feeder *feeder, bif_device *device);
/* Starts to bring a batch; returns at once. The batch may be changed afterwards, except on the CPU. At most the batch computed
 * next and the one after it wait. A no-op on the CPU. */
void bif_feeder_bring(bif_feeder *feeder, bif_device *device, const bif_inputs_shape *shape, const bif_batch *batch, float weight);
/* The inputs of `batch`, brought before or now; ops called from here on may read them. Valid until the next but one take. */
const bif_inputs *bif_feeder_take(bif_feeder *feeder, bif_device *device, const bif_inputs_shape *shape, const bif_batch *batch, float weight);
/* All ops that read the inputs last taken have been called. */
void bif_feeder_done(bif_feeder *feeder, bif_device *device);
