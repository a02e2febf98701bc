/* CLIP as OpenAI and open_clip store it: its names (fused in_proj, transposed projections) and open_clip_config.json. */
#pragma once
#include <jansson.h>

#include "train/model.h"
#include "train/safetensors_parts.h"

/* Gives the tensors of such a set the names of Hugging Face: in_proj becomes three views, the projections are transposed into memory of the
 * set. A set without those names stays as it is. BIF_ERR_DATA for an in_proj that does not split in three. */
bif_status bif_open_clip_names(bif_safetensors *set);

/* open_clip_config.json: ViT towers of CLIP alone. BIF_ERR_CONFIG names any other setting (ResNet, timm, a Hugging Face text tower, ...). */
bif_status bif_open_clip_config(const char *where, const json_t *root, bif_model_config *out);
