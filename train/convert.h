/* Folders of weights from one layout into another, tensors to the bit: straight from the mapped files, whatever their dtype. Only where a
 * LLaVA of its authors gets a token for pictures, embedding and head get new rows behind the old ones. */
#pragma once
#include "train/model.h"

typedef enum {
    BIF_FOLDER_HF_OLD = 0, /* language_model.model.*, vision_tower.vision_model.*: what bifocal and transformers write, and all read */
    BIF_FOLDER_HF = 1,     /* model.language_model.*: transformers 4.52 and newer in memory */
    BIF_FOLDER_LLAVA = 2,  /* LLaVA's authors: model.*, model.mm_projector.*; the tower in the folder vision_tower within */
} bif_folder_layout;

typedef struct {
    const char *base;      /* of an adapter (train/adapter.h); NULL = as it says */
    const char *tower;     /* folder or file that brings the vision tower; NULL = the source */
    const char *projector; /* likewise the projector */
    const char *tokenizer; /* a tokenizer's file or folder; NULL = the source's, where it has one */
    int64_t image_token;   /* -1 = as the source says, else as the tokenizer says of <image>, else a new one (train/vocabulary.h) */
    int64_t shard_bytes;   /* files of weights are at most so large; 0 = BIF_SHARD_BYTES */
} bif_convert_options;

/* source: a folder in any layout that bif_hf_load reads; an adapter is merged on the way, each sum
 * rounded once to the base's dtype. out must not exist; it appears whole or not at all. BIF_ERR_DATA when a tensor is
 * missing or of a wrong shape, BIF_ERR_CONFIG when the layout cannot hold the model. */
bif_status bif_convert_folder(const char *source, const char *out, bif_folder_layout layout, const bif_convert_options *options);
