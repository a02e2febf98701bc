/* Readers of parts of a config.json, for train/hf_config_read.c: values, decoders (hf_config_decoder.c) and towers (hf_config_towers.c). `where` is
 * the file, for messages. All return BIF_ERR_CONFIG for what is not implemented, by name. */
#pragma once
#include <jansson.h>

#include "train/model.h"

typedef enum { BIF_FAMILY_LLAMA, BIF_FAMILY_MISTRAL, BIF_FAMILY_QWEN2, BIF_FAMILY_QWEN3, BIF_FAMILIES } bif_family;

/* ---- values (hf_config_decoder.c) ---- */
bif_status bif_hf_number(const char *where, const json_t *o, const char *key, int64_t fallback, int64_t *out);
bif_status bif_hf_real(const char *where, const json_t *o, const char *key, double fallback, float *out);
bool bif_hf_is_null(const json_t *o, const char *key); /* or not there */
/* Explicit null: transformers then derives the value instead of taking the class default. */
bool bif_hf_says_null(const json_t *o, const char *key);
bif_status bif_hf_refuse(const char *where, const char *key, const char *value, const char *have);
/* Token id: an integer, null, or a list whose first is taken (Llama 3 names several ends). -1 = none. */
bif_status bif_hf_token(const char *where, const json_t *o, const char *key, int32_t fallback, int32_t *out);

/* ---- decoders ---- */
/* The family by its architecture, or by its model_type when architecture is NULL. */
bif_status bif_hf_family_of(const char *where, const char *model_type, const char *architecture, bif_family *out);
const char *bif_hf_family_type(bif_family family); /* "llama", ... */
const char *bif_hf_family_architecture(bif_family family);
bif_status bif_hf_read_decoder(const char *where, const json_t *o, bif_family f, bif_decoder_config *c);

/* What LLaVA's authors call a LLaVA, of each family that they have one for (hf_config_decoder.c). */
typedef struct {
    const char *architecture, *model_type;
    bif_family family;
} bif_native_class;
#define BIF_NATIVE_CLASSES 3
extern const bif_native_class bif_native_classes[BIF_NATIVE_CLASSES];

/* ---- towers ---- */
/* The class defaults: CLIPVisionConfig (B/32), or what LlavaConfig takes when the part is missing (L/14 at 336). */
extern const bif_vit_config bif_hf_vit_b32, bif_hf_vit_l14_336, bif_hf_vit_siglip;
/* o NULL or null: `base`; else a partial config gets what it does not say from `base`, or from SigLIP's when its model_type says so. */
bif_status bif_hf_read_vit(const char *where, const json_t *o, const bif_vit_config *base, bif_vit_config *c);
bif_status bif_hf_read_siglip(const char *where, const json_t *root, bif_model_config *out);
bif_status bif_hf_read_clip(const char *where, const json_t *root, bif_model_config *out);

/* ---- how the folder's pictures are prepared (hf_pictures.c) ---- */
/* By preprocessor_config.json (or the image_processor of processor_config.json), where there is one: other levels than this tower's here are
 * BIF_ERR_CONFIG, another resampling is a warning, and a CLIP whose pictures are not cropped gets image_fit "squash" if it has none. */
bif_status bif_hf_check_pictures(const char *folder, bif_model_config *c);
