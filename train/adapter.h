/* LoRA adapters as PEFT (and LLaVA) leave them, read: a folder with adapter_config.json and adapter_model.safetensors (or .bin), perhaps
 * non_lora_trainables.bin (LLaVA: the projector and what else was trained whole) and config.json. Its base is another folder: what
 * base_model_name_or_path names where that is a folder here, or the one the user names. bif_hf_open gives the base's tensors with what the
 * adapter adds to them (bif_st_delta): nothing is computed before a tensor is read, and then in pieces.
 *
 * Sums are made in f32 and rounded once to what they are read as. PEFT's merge_and_unload computes in the base's dtype: in f32 it gives the
 * same to 1e-6, in bf16 and f16 it rounds the product and then the sum, so that numbers may differ in the last bit; ours is the nearer. */
#pragma once
#include "train/model.h"
#include "train/params.h"
#include "train/safetensors.h"

typedef struct {
    int64_t rank;
    double alpha;
    float scale; /* alpha / rank, or with use_rslora alpha / sqrt(rank) */
    char *base;  /* base_model_name_or_path; may be empty */
} bif_adapter;

/* It holds adapter_config.json. */
bool bif_adapter_is(const char *folder);
/* adapter_config.json. BIF_ERR_CONFIG naming the key: another method than LoRA, DoRA, biases, modules saved whole, ranks by pattern and
 * whatever else would change what A and B mean. */
bif_status bif_adapter_read(const char *folder, bif_adapter *out);
void bif_adapter_free(bif_adapter *adapter);
/* The folder of the base: `given` unless NULL, else the one that is named. malloc'ed. BIF_ERR_CONFIG when there is none. */
bif_status bif_adapter_base(const char *folder, const char *given, char **out);
/* Puts the adapter upon the open base: tensors of non_lora_trainables.bin replace or join its own, each pair lora_A, lora_B becomes a delta.
 * Targets are linear weights of any part, in any layout's names. BIF_ERR_DATA naming file and tensor: a factor alone, another shape than the
 * base needs, no such weight. */
bif_status bif_adapter_apply(const char *folder, bif_safetensors *base);

/* ---- a run's own adapter folder (train/adapter_write.c) ----
 * config.json, adapter_config.json, adapter_model.safetensors and, but for a decoder alone, non_lora_trainables.bin: with a Llama, Mistral
 * or Qwen2 decoder in the names of LLaVA's authors, whose loader opens it (under a name with "llava" and "lora"), else in those of
 * transformers 4.52. Nothing frozen is in it but the projector, which no decoder's folder has, and a tower that came from no folder. */

/* from: where the frozen parts lie, absolute paths, base never NULL; tower NULL: a tower drawn at random, or no LLaVA. */
bif_status bif_adapter_write(const char *folder, const bif_model_config *config, const bif_params *params, const bif_beside *from);
/* Its tensors into the rows of a table that holds the frozen ones already. BIF_ERR_DATA when a row that trains is missing, or of another
 * shape or dtype. */
bif_status bif_adapter_load(const char *folder, bif_params *params);
