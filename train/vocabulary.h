/* A vocabulary that grows: stock language models have no token for a picture. As the conversion of LLaVA to transformers does it, a
 * tokenizer without <image> gets it (and <pad>, unless it has a padding token) behind its last token. Where the embedding has no row for
 * them, it and the head grow to a multiple of 64, and the new rows are drawn around the mean of the old ones: N(mean, 1e-5 covariance).
 * They take no part in the softmax (decoder.classes), as in LLaVA's own training, whose <image> is no token of the vocabulary. */
#pragma once
#include "data/tokenizer.h"
#include "train/params.h"
#include "train/model.h"
#include "train/safetensors.h"

/* A LLaVA and its tokenizer, made to fit. model->image_token -1: found or added as above, which is logged; else a tokenizer that ends where
 * the model's <image> begins gets it again (the recipe names the stock one, the checkpoint is grown). tokenizer_path: where its files are,
 * for bif_tokenizer_pad. All other models stay as they are. BIF_ERR_CONFIG when the two cannot belong together, of a decoder alone too: above
 * all when text has tokens beyond the model's classes. */
bif_status bif_vocabulary_fit(bif_model_config *model, bif_tokenizer *tokenizer, const char *tokenizer_path);

/* Warns when ids name other tokens in a tokenizer, loaded from `path`, than in the one that lies in a model's folder, if one does. More ids in
 * one of the two are no difference. Before bif_vocabulary_fit. */
void bif_vocabulary_compare(const bif_tokenizer *tokenizer, const char *path, const char *folder);

/* What a fitted model has and its stock tokenizer lacks: up to 2 tokens in the order of their ids. */
size_t bif_vocabulary_missing(const bif_model_config *model, const bif_tokenizer *tokenizer, bif_new_token out[2]);

/* How many of a table row's last rows are not classes: of embed_tokens.weight and lm_head.weight, else 0. */
int64_t bif_vocabulary_spare(const bif_decoder_config *decoder, const char *name);

/* Whether a file's matrix is the table's but for its spare rows. */
bool bif_vocabulary_continues(const bif_st_entry *entry, const bif_param *row);

/* `count` new rows of a matrix [V, C] of which a file has the old ones: f32 [count, C]. Row k is mean + sqrt(1e-5 / V) sum_j z_kj (row_j -
 * mean) with z standard normal from (seed, name, k, j), which has just the distribution above. The entry is F32, BF16 or F16, of rank 2. */
void bif_vocabulary_draw(const bif_st_entry *old, uint64_t seed, const char *name, int64_t count, float *out);
/* The same in the entry's dtype, rounded to nearest: malloc'ed, *bytes long. */
void *bif_vocabulary_draw_as(const bif_st_entry *old, uint64_t seed, const char *name, int64_t count, size_t *bytes);
