/* Hugging Face folders: config.json + model.safetensors (+ tokenizer.json) <-> the table of parameters. */
#pragma once
#include "train/model.h"
#include "train/params.h"
#include "train/safetensors.h"

/* Opens the weights of a folder, a LLaVA in its authors' layout together with the vision tower that its config.json names
 * (bif_hf_tower_of), an adapter upon its base (train/adapter.h). */
bif_status bif_hf_open(const char *folder, bif_safetensors **out);
/* The same with folders beside it; NULL = none. A tower replaces the folder's own. */
bif_status bif_hf_open_with(const char *folder, const bif_beside *beside, bif_safetensors **out);
/* The tokenizer of a folder, of an adapter without one its base's: its file, malloc'ed, or NULL. */
char *bif_hf_tokenizer(const char *folder, const bif_beside *beside);
/* Replaces the projector of an open set by that of another folder or file. BIF_ERR_DATA when that has none. */
bif_status bif_hf_replace_projector(bif_safetensors *set, const char *path);

/* Fills table rows from a folder written by transformers or by us. Names: the table's own, or any of the layouts the reference lists (LLaVA native,
 * old and new Hugging Face LLaVA names, a bare CLIP or decoder folder read into a LLaVA table by prefix). `only` = a group mask
 * (1 << group) of rows wanted; rows outside are left alone. Every wanted row must be found with the right shape: a missing tensor or a wrong shape
 * is BIF_ERR_DATA naming file, tensor, both shapes and what to do. tied heads need no lm_head, and logit_bias, which
 * only we write, may be missing. A matrix that lacks just a row's `spare` last rows is continued (train/vocabulary.h). Tensors of the file that the table does
 * not know are reported with bif_warn once as a count and the first three names (position_ids and rotary inv_freq are silently dropped). Files
 * of F32, F16 or BF16 go into a table of either dtype; into bf16 they are rounded to nearest, ties to even. */
bif_status bif_hf_load(const char *folder, bif_params *params, unsigned only);
bif_status bif_hf_load_with(const char *folder, const bif_beside *beside, bif_params *params, unsigned only); /* bif_hf_open_with */
/* Writes config.json, model.safetensors (in the table's dtype) and, when tokenizer != NULL, copies the tokenizer's files from there, plus
 * generation_config.json, preprocessor_config.json and tokenizer_config.json where transformers needs them, into an existing folder. digests of the files are the caller's business. */
bif_status bif_hf_save(const char *folder, const bif_model_config *config, const bif_params *params, const char *tokenizer_path);
/* The parts of bif_hf_save: model.safetensors, with its digest (33 bytes) and length computed while writing (either may be NULL) ... */
bif_status bif_hf_save_weights(const char *folder, const bif_params *params, char digest[33], uint64_t *bytes);
/* ... and the small files beside config.json and the weights (train/hf_side.c): generation_config.json, preprocessor_config.json (fit "crop"),
 * processor_config.json and the tokenizer's files. tokenizer_path: a tokenizer's file or folder; a tokenizer_config.json beside it is
 * copied, else one is made. */
bif_status bif_hf_side_files(const char *folder, const bif_model_config *config, const char *tokenizer_path);
