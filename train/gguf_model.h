/* Folders of weights as files for llama.cpp. */
#pragma once
#include "train/gguf.h"
#include "train/model.h"

typedef struct {
    bif_gguf_type type;    /* of matrices; vectors and positions are F32, and the kernel over patches at most F16 */
    bif_beside beside;     /* an adapter's base, and the tower */
    const char *tokenizer; /* a tokenizer's file or folder; NULL = the source's */
    const char *pre;       /* llama.cpp's name of the pre-tokenizer; NULL = found by its pattern */
} bif_gguf_options;

/* source: any folder that bif_hf_open_with reads, a decoder or a LLaVA; an adapter is merged. out, which must not exist, gets
 * NAME-TYPE.gguf (the decoder and its tokenizer) and for a LLaVA mmproj-NAME-TYPE.gguf (the blocks of the tower that the feature layer
 * needs, and the projector), NAME being the last part of out's path. It appears whole or not at all. BIF_ERR_CONFIG when llama.cpp cannot
 * compute the model or cut the tokenizer's texts as bifocal does, BIF_ERR_DATA when a tensor or the tokenizer is missing.
 *
 * What llama.cpp does differently (its sources of July 2026): its GELU in the projector is the tanh form; BOS, and a prefix space behind
 * every special token, as its own tokenizer puts them; text is not brought into NFC form; pictures are padded to squares with CLIP's mean
 * colour. From May 2025 on (its issue 25814; SigLIP is not concerned) it put CLIP's class token behind the patches and so shifted all
 * positions by one; no file can make up for that. */
bif_status bif_gguf_export(const char *source, const char *out, const bif_gguf_options *options);

/* The keys tokenizer.* (train/gguf_tokenizer.c); path: its file. Rows of the model without a token are [PADn]. */
bif_status bif_gguf_put_tokenizer(bif_gguf *file, const char *path, const bif_model_config *config, const char *pre);
