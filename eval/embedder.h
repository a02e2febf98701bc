/* Embeddings of pictures and texts by any checkpoint, a batch at a time, on this rank alone. All rows have length 1.
 *
 *  a CLIP or SigLIP pair   pictures and texts in the joint space, E = its projection
 *  a LLaVA                 pictures: the mean of the rows that its projector would get (of the feature layer; without the class token
 *                          unless the checkpoint selects it), E = the tower's width. The decoder's weights are not read.
 *  a vision tower alone    pictures: what the tower pools (CLIP: the class token behind the last norm, SigLIP: its head; transformers'
 *                          pooler_output), E = the tower's width. A SigLIP tower without its head: the mean of the last block's rows.
 *
 * A row does not depend on what else is in its batch; on the size of the batch at most in the last bits of f32. */
#pragma once
#include "eval/session.h"

typedef struct bif_embedder bif_embedder;

typedef struct {
    bool image, text; /* what will be asked for; texts need a pair (else BIF_ERR_USAGE). Neither: all that there is */
    int64_t batch;    /* pictures or texts at a time, at most */
} bif_embedder_options;

/* path, session: as of bif_session_open. Collective. */
bif_status bif_embedder_open(const char *path, const bif_session_options *session, const bif_embedder_options *options, bif_comm *comm,
                             bif_embedder **out);
void bif_embedder_close(bif_embedder *embedder); /* NULL is allowed */
int64_t bif_embedder_width(const bif_embedder *embedder);
/* Everything that decides about the numbers, as one line: what is embedded, a digest of the weights, of the tokenizer's file for texts, how
 * a picture becomes a square, the precision. */
const char *bif_embedder_image_method(const bif_embedder *embedder); /* NULL without pictures */
const char *bif_embedder_text_method(const bif_embedder *embedder); /* NULL without texts */
const bif_preprocess *bif_embedder_preprocess(const bif_embedder *embedder);
int64_t bif_embedder_batch(const bif_embedder *embedder);

/* Where the pictures of the next batch go, u8 [batch, S, S, 3]; and their embeddings, out f32 [count, E]. Not collective. */
uint8_t *bif_embedder_pixels(bif_embedder *embedder);
void bif_embedder_images(bif_embedder *embedder, int64_t count, float *out);
/* Texts of a pair, in the batch one by one: false, with the message recorded, when one cannot be tokenized (it is then left out). A text
 * too long for the tower loses its end, as in training. */
void bif_embedder_begin_texts(bif_embedder *embedder);
bool bif_embedder_add_text(bif_embedder *embedder, const char *where, const char *text, size_t size);
void bif_embedder_texts(bif_embedder *embedder, float *out); /* f32 [added, E] */
