/* From a recipe to a model with weights: which architecture, which folders, which parts train. */
#pragma once
#include "data/chat.h"
#include "data/image.h"
#include "train/comm.h"
#include "train/config.h"
#include "train/networks.h"

/* A folder named by the user: a Hugging Face folder as it is, or a run's folder, of which the newest valid checkpoint is taken. Collective. *out is
 * malloc'ed. BIF_ERR_CONFIG when it is neither; `key` names the setting in the message. */
bif_status bif_resolve_model(bif_comm *comm, const char *key, const char *path, char **out);

/* The folders of config.model, resolved (the projector may also be a file of weights; NULL where the recipe names none). Collective;
 * everything below is not. */
typedef struct {
    char *init, *encoder, *decoder, *projector;
    char *base; /* of an adapter, which is init or else decoder */
} bif_model_paths;
bif_status bif_resolve_paths(const bif_config *config, bif_comm *comm, bif_model_paths *out);
void bif_model_paths_free(bif_model_paths *paths);
/* Whether the recipe's selections were made of its shards, told before any weights are loaded. Collective: rank 0 looks. */
bif_status bif_build_check_selections(const bif_config *config, bif_comm *comm);
/* Where the frozen parts of a run with adapters come from, as absolute paths (malloc'ed): the decoder's folder, and the encoder's or NULL. */
bif_status bif_frozen_from(const bif_model_paths *paths, char **base, char **tower);

/* Warns when data.tokenizer is another than that of the model whose words go on (bif_vocabulary_compare). Before bif_build_config. */
void bif_build_compare(const bif_config *config, const bif_model_paths *paths, const bif_tokenizer *tokenizer);

/* The architecture of the recipe's stage: from the named folders, or from scratch with the tokenizer's vocabulary. Where pictures are seen, a
 * tokenizer without <image> gets it (bif_vocabulary_fit). */
bif_status bif_build_config(const bif_config *config, const bif_model_paths *paths, bif_tokenizer *tokenizer, bif_model_config *out);

/* Which tokens end and fill a text of a SigLIP pair: the tokenizer says it, its configs do not. Others: unchanged. */
bif_status bif_build_text_tokens(const bif_tokenizer *tokenizer, bif_text_config *text);

/* Dtype of values on this device; bf16 on the CPU is BIF_ERR_CONFIG. */
bif_status bif_choose_dtype(bif_precision precision, const bif_device *device, bif_dtype *out);

/* Declares the table, freezes by config.model.train_* and sets each row's learning rate and limits; takes no memory for values. */
void bif_declare_trained_vlm(const bif_config *config, const bif_model_config *model, bif_dtype dtype, bif_vlm *out);
void bif_declare_trained_clip(const bif_config *config, const bif_model_config *model, bif_dtype dtype, bif_clip *out);
/* The same, then allocates for the world, draws what is missing from the seed, and loads the named folders. Values are of the recipe's precision. */
bif_status bif_build_vlm(const bif_config *config, const bif_model_paths *paths, const bif_model_config *model, int world,
                         bif_device *device, bif_vlm *out);
bif_status bif_build_clip(const bif_config *config, const bif_model_paths *paths, const bif_model_config *model, int world,
                          bif_device *device, bif_clip *out);

/* How samples of this model are laid out as tokens, and its pictures prepared. */
bif_status bif_build_chat(const bif_model_config *model, const bif_tokenizer *tokenizer, const char *template_name, const char *system,
                          const char *image_place, int64_t max_tokens, bool truncate, bif_chat *out);
/* Tokens of the longest sequence: data.max_tokens, or what the model has positions for, up to 2048. BIF_ERR_CONFIG: more than it has. */
bif_status bif_longest(const bif_config *config, const bif_model_config *model, int64_t *out);
/* How a picture becomes a square where nothing says it: SigLIP's towers were trained with squash. */
const char *bif_image_fit(const bif_model_config *model, const char *otherwise);
bif_status bif_build_preprocess(const bif_model_config *model, const char *image_fit, bif_preprocess *out);
/* Tells the tower what levels of pictures prepared like this are worth (bif_vit_set_table). */
bif_status bif_build_table(const bif_preprocess *preprocess, bif_device *device, bif_vit *vit);
