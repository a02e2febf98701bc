/* What a model is: the numbers of config.json, for every family bifocal assembles. No weights here. */
#pragma once
#include "kernels/ops.h"

typedef enum {
    BIF_MODEL_DECODER = 0, /* a language model alone (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM) */
    BIF_MODEL_CLIP = 1,    /* CLIPModel, SiglipModel: vision and text towers with their projections and logit_scale */
    BIF_MODEL_LLAVA = 2,   /* LlavaForConditionalGeneration: encoder, projector, decoder */
} bif_model_kind;

/* CLIP: a class token, a norm before the blocks, causal texts that are pooled at EOS, two projections. SigLIP: none of these, but a bias
 * where patches are cut, a head that attends over the patches, and texts padded to one length and pooled at their last row, through one
 * projection. What is left of a picture's side behind the last whole patch is not seen. */
typedef enum { BIF_TOWER_CLIP = 0, BIF_TOWER_SIGLIP = 1 } bif_tower_family;

/* Vision transformer. */
typedef struct {
    int64_t hidden, layers, heads, inner, patch, image; /* inner = MLP width; image = side S in pixels */
    float eps;
    bif_act act;
    bif_tower_family family;
    bool head; /* SigLIP: the checkpoint holds the pooling head (vision_use_head), which pairs need and LLaVA does not */
} bif_vit_config;

/* Text transformer. */
typedef struct {
    int64_t hidden, layers, heads, inner, vocab, positions;
    float eps;
    bif_act act;
    int32_t bos, eos; /* SigLIP: bos -1; eos -1 when only the tokenizer knows it (bif_build_text_tokens) */
    bif_tower_family family;
    int32_t pad; /* SigLIP: fills a text up to `positions` */
} bif_text_config;

/* Low-rank adapters beside linear layers of the decoder (LoRA; names and scale as PEFT has them): y = x W^T + alpha/rank * drop(x) A^T B^T. */
typedef enum {
    BIF_LORA_Q = 0,
    BIF_LORA_K = 1,
    BIF_LORA_V = 2,
    BIF_LORA_O = 3,
    BIF_LORA_GATE = 4,
    BIF_LORA_UP = 5,
    BIF_LORA_DOWN = 6,
    BIF_LORA_TARGETS = 7,
} bif_lora_target;
typedef struct {
    int64_t rank; /* 0 = no adapters */
    float alpha, dropout;
    unsigned targets; /* mask of 1 << bif_lora_target */
} bif_lora_config;

/* Llama-family decoder. */
typedef struct {
    int64_t hidden, layers, heads, kv_heads, head_dim, inner, vocab, positions;
    float eps, rope_theta;
    bool qkv_bias; /* Qwen2: q, k, v have a bias, o has none */
    bool o_bias;   /* Llama attention_bias: o too */
    bool mlp_bias; /* Llama mlp_bias: always false here; a config that asks for it is refused */
    bool qk_norm;  /* Qwen3: RMSNorm of each query and key head before RoPE */
    bool tied;     /* lm_head is embed_tokens */
    int32_t bos, eos; /* -1 = none */
    int64_t classes;  /* rows of the head that take part in the softmax; 0 = all. Fewer when rows were added for <image> and padding */
    bool mistral;     /* within its window it computes what Llama does; only its name differs */
    bif_lora_config lora;
    bif_rope_scaling rope; /* of rope_theta's frequencies (config.json: rope_scaling, rope_parameters) */
} bif_decoder_config;

#define BIF_MAX_SPARE ((int64_t)4096) /* rows behind the classes, at most */

/* Rows of the head that take part in the softmax. */
static inline int64_t bif_decoder_classes(const bif_decoder_config *config)
{
    return config->classes > 0 ? config->classes : config->vocab;
}

typedef enum { BIF_PROJECTOR_LINEAR = 0, BIF_PROJECTOR_MLP = 1 } bif_projector_kind;

typedef struct {
    bif_projector_kind kind;
    int64_t depth; /* linear layers: 1 for linear, N for mlpNx_gelu; exact erf GELU between */
    int64_t in, out;
} bif_projector_config;

typedef struct {
    bif_model_kind kind;
    bif_vit_config vit;             /* CLIP, LLAVA */
    bif_text_config text;           /* CLIP; of the same family as vit */
    int64_t projection;             /* CLIP: joint width; SigLIP: that of vit */
    bif_decoder_config decoder;     /* DECODER, LLAVA */
    bif_projector_config projector; /* LLAVA */
    int64_t feature_layer;          /* LLAVA: index into hidden_states, -2 = output of the last block but one */
    bool cls_patch;                 /* LLAVA: true = class token and patches ("full"), false = patches ("default"; SigLIP: "full") */
    int32_t image_token, pad_token; /* LLAVA; pad -1 = none */
    float logit_scale_init;         /* CLIP: log scale, ln(1/0.07) */
    float logit_bias_init;          /* CLIP with logit_bias: -10 (nearly every pair of a batch is a negative) */
    bool logit_bias;                /* CLIP trained with the sigmoid loss has a bias besides the scale */
    /* How the model was trained to see its input: config.json keys "bifocal_template", "bifocal_image_fit", "bifocal_image_place",
     * "bifocal_system". Empty (has_system false) when unknown. With them an evaluation cannot pick another prompt than the training by mistake. */
    char template_name[24], image_fit[12], image_place[12], system[1024];
    bool has_system;
} bif_model_config;

/* P = floor(image/patch)^2, and what the tower computes with: P, and the class token where there is one. */
int64_t bif_vit_patches(const bif_vit_config *config);
int64_t bif_vit_rows(const bif_vit_config *config);
/* Blocks of the encoder that the feature layer needs: hidden_states[k] is the output of block k (0 = embeddings after pre-norm). */
int64_t bif_feature_blocks(const bif_model_config *config);
/* Rows an image takes in the decoder's sequence: P or P + 1. */
int64_t bif_tokens_per_image(const bif_model_config *config);
/* Impossible numbers (hidden not divisible by heads, odd head_dim, kv_heads not dividing heads, ...): BIF_ERR_CONFIG naming them. */
bif_status bif_model_check(const bif_model_config *config, const char *where);

/* config.json <-> bif_model_config (train/hf_config_read.c, hf_config_write.c). Partial configs get the published defaults of their family; an
 * architecture or option that is not implemented is refused by name.
 * - CLIPVisionModel or SiglipVisionModel alone reads as BIF_MODEL_CLIP with text.hidden = 0: a source of an encoder, nothing to train.
 * - A LLaVA with a SigLIP tower must say vision_feature_select_strategy "full": with "default" transformers leaves out the first row, there a patch.
 * - A sliding window (Mistral, Qwen) limits `positions` to the window: within it the window has no effect.
 * - A LLaVA folder in its authors' layout (LlavaLlama-, LlavaMistral- or LlavaQwenForCausalLM) reads with image_token = -1 when it names none.
 *   Its tower is outside: FOLDER/mm_vision_tower where there is such a folder, else the folder that our key "bifocal_encoder" names (a path,
 *   absolute or from FOLDER), else an adapter's base's, else one of OpenAI's or SigLIP's by name.
 * - "bifocal_classes": decoder.classes. transformers ignores it: its softmax has all rows.
 * - The projector "mlp2x_gelu" is the one transformers knows. For others the file also says "bifocal_projector": "linear" or "mlpNx_gelu",
 *   and transformers cannot open the folder; likewise "bifocal_logit_bias": true for CLIP with a bias, which transformers ignores. */
bif_status bif_hf_config_read(const char *folder, bif_model_config *out);
/* It holds config.json, or open_clip_config.json, which is read where there is only that, or adapter_config.json, then the base is read. */
bool bif_hf_is_folder(const char *folder);
/* Folders beside the one that is opened. */
typedef struct {
    const char *base;  /* of an adapter (train/adapter.h); NULL = the one it names */
    const char *tower; /* with the vision tower, for a LLaVA; NULL = the folder's own, or the one it names */
} bif_beside;
/* The same with these; NULL = none. A base for what is no adapter is BIF_ERR_CONFIG. */
bif_status bif_hf_config_read_with(const char *folder, const bif_beside *beside, bif_model_config *out);
/* The folder of the vision tower of a folder in the layout of LLaVA's authors: mm_vision_tower where that lies within, else what
 * "bifocal_encoder" names, anywhere (BIF_ERR_DATA when that is not there). malloc'ed, or NULL. */
bif_status bif_hf_tower_of(const char *folder, char **out);
/* dtype: of the weights beside it, F32, BF16 or F16 ("torch_dtype"). */
bif_status bif_hf_config_write(const char *folder, const bif_model_config *config, bif_dtype dtype);
/* In the layout of LLaVA's authors, with the name of a tower: LLAVA with a Llama, Mistral or Qwen2 decoder, else BIF_ERR_CONFIG. */
bif_status bif_hf_config_write_native(const char *folder, const bif_model_config *config, bif_dtype dtype, const char *tower);
bool bif_hf_native_fits(const bif_model_config *config); /* such a LLaVA */
/* Of a folder that holds only what a run with adapters trained (train/adapter.h): in the layout of LLaVA's authors if native (then tower is not
 * NULL), else as bif_hf_config_write. tower: folder of the vision tower, becomes "bifocal_encoder"; NULL = in the folder. rows: of the base's
 * embedding, which is vocab_size; the run's own is "bifocal_vocab" then, and a padding token behind it "bifocal_pad_token_id". */
bif_status bif_hf_config_write_adapter(const char *folder, const bif_model_config *config, bif_dtype dtype, const char *tower, bool native,
                                       int64_t rows);
/* Of the vision tower alone (CLIPVisionModel, SiglipVisionModel). */
bif_status bif_hf_config_write_tower(const char *folder, const bif_vit_config *vit, bif_dtype dtype);
