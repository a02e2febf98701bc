#include "train/config_table.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AT(member) offsetof(bif_config, member)
#define I64(key, member, low, high, initial, numbers, help) {key, BIF_KEY_I64, AT(member), low, high, NULL, initial, false, numbers, help}
#define F64(key, member, low, high, initial, help) {key, BIF_KEY_F64, AT(member), low, high, NULL, initial, false, true, help}
#define FLAG(key, member, initial, help) {key, BIF_KEY_BOOL, AT(member), 0, 0, NULL, initial, false, true, help}
#define TEXT(key, member, choices, initial, numbers, help) {key, BIF_KEY_STRING, AT(member), 0, 0, choices, initial, false, numbers, help}
#define PICK(key, member, choices, initial, help) {key, BIF_KEY_ENUM, AT(member), 0, 0, choices, initial, false, true, help}
#define CHOICE(key, member, choices, initial, help) {key, BIF_KEY_ENUM, AT(member), 0, 0, choices, initial, false, false, help}
#define MUST(key, type, member, low, high, choices, numbers, help) {key, type, AT(member), low, high, choices, NULL, true, numbers, help}

#define ACTS "gelu|gelu_pytorch_tanh|quick_gelu"
/* Names and aliases of data/chat_templates.c; tests/data/test_chat.c compares. */
#define TEMPLATES \
    "plain|vicuna_v1|llava_v1|llama_2|llama_3|mistral|chatml|qwen_2_5|mpt|chatml_direct|v0_plain|v1|vicuna|" \
    "llava_llama_2|llama2|llava_llama_3|llama3|mistral_instruct|llava_mistral_instruct|qwen|qwen_1_5|qwen_2|qwen2_5|mistral_direct"
#define SIZE_MAX_KEY 1048576
#define STEPS_MAX 1e15

const bif_key bif_keys[] = {
    MUST("stage", BIF_KEY_ENUM, stage, 0, 0, "lm|clip|pretrain|finetune", true,
         "lm: a decoder on text; clip: a pair of towers; pretrain: LLaVA's projector; finetune: projector and decoder"),
    MUST("output", BIF_KEY_STRING, output, 0, 0, NULL, false, "folder of the run: checkpoints, log, metrics, resolved recipe"),
    I64("seed", seed, 0, 9007199254740992.0, "42", true, "of initial values and of the order of samples"),
    TEXT("device", device, NULL, "cpu", false, "cpu, cuda (of several ranks on a node each its own GPU), cuda:N, or auto: a usable GPU, else cpu"),
    I64("threads", threads, 0, 4096, "0", false, "CPU threads of an op; 0 = the cores of the process divided by the ranks of the node"),
    CHOICE("precision", precision, "auto|fp32|bf16", "auto",
           "of weights and activations; auto = bf16 on CUDA, fp32 on the CPU; gradients and optimiser are fp32; a run keeps what it began in"),
    {"deterministic", BIF_KEY_BOOL, AT(deterministic), 0, 0, NULL, "yes", false, false,
     "the same sums in the same order every time; no: CUDA may take faster ones that differ in the last bits from run to run"},

    TEXT("model.init", model.init, NULL, NULL, true, "folder of a whole model of this stage's kind, or of a run"),
    TEXT("model.encoder", model.encoder, NULL, NULL, true, "CLIP or LLaVA folder, or a run: its vision tower"),
    TEXT("model.decoder", model.decoder, NULL, NULL, true, "decoder or LLaVA folder, or a run: its decoder"),
    TEXT("model.projector", model.projector, NULL, NULL, true, "LLaVA folder, a run, or mm_projector.bin: its projector"),
    TEXT("model.base", model.base, NULL, NULL, true,
         "folder that a LoRA adapter named by model.init (else by model.decoder) is merged into; default what its adapter_config.json names"),
    TEXT("model.projector_type", model.projector_type, "linear|mlp1x_gelu|mlp2x_gelu|mlp3x_gelu|mlp4x_gelu|mlp5x_gelu|mlp6x_gelu|mlp7x_gelu|mlp8x_gelu",
         "mlp2x_gelu", true, "only mlp2x_gelu can be opened by transformers"),
    I64("model.feature_layer", model.feature_layer, -4096, 4096, "-2", true, "hidden state of the encoder that is projected; -2 = the last block but one"),
    TEXT("model.feature_select", model.feature_select, "patch|cls_patch", "patch", true, "patches, or the class token and the patches"),
    I64("model.vit.hidden", model.vit.hidden, 0, SIZE_MAX_KEY, "0", true, "vision tower from scratch: width; 0 = it comes from a folder"),
    I64("model.vit.layers", model.vit.layers, 0, 4096, "0", true, "blocks"),
    I64("model.vit.heads", model.vit.heads, 0, 65536, "0", true, "attention heads"),
    I64("model.vit.inner", model.vit.inner, 0, 4194304, "", true, "width of the MLP; default 4 x hidden"),
    I64("model.vit.patch", model.vit.patch, 0, 1024, "0", true, "side of a patch in pixels"),
    I64("model.vit.image", model.vit.image, 0, 16384, "0", true, "side of the picture in pixels, a multiple of patch"),
    F64("model.vit.eps", model.vit.eps, 1e-12, 1, "", "of the layer norms; default 1e-5, siglip 1e-6"),
    TEXT("model.vit.act", model.vit.act, ACTS, "", true, "activation of the MLP; default quick_gelu, siglip gelu_pytorch_tanh"),
    PICK("model.vit.family", model.vit.family, "clip|siglip", "clip",
         "siglip: no class token, a bias of the patches, no norm before the blocks, pictures normalised by 0.5, any image size; "
         "stage clip: both towers"),
    I64("model.text.hidden", model.text.hidden, 0, SIZE_MAX_KEY, "0", true, "CLIP text tower from scratch: width; 0 = it comes from a folder"),
    I64("model.text.layers", model.text.layers, 0, 4096, "0", true, "blocks"),
    I64("model.text.heads", model.text.heads, 0, 65536, "0", true, "attention heads"),
    I64("model.text.inner", model.text.inner, 0, 4194304, "", true, "width of the MLP; default 4 x hidden"),
    I64("model.text.positions", model.text.positions, 0, SIZE_MAX_KEY, "", true,
        "longest text in tokens; default 77, siglip 64, to which every text is padded"),
    F64("model.text.eps", model.text.eps, 1e-12, 1, "", "of the layer norms; default 1e-5, siglip 1e-6"),
    TEXT("model.text.act", model.text.act, ACTS, "", true, "activation of the MLP; default quick_gelu, siglip gelu_pytorch_tanh"),
    I64("model.llama.hidden", model.llama.hidden, 0, SIZE_MAX_KEY, "0", true, "decoder from scratch: width; 0 = it comes from a folder"),
    I64("model.llama.layers", model.llama.layers, 0, 4096, "0", true, "blocks"),
    I64("model.llama.heads", model.llama.heads, 0, 65536, "0", true, "query heads"),
    I64("model.llama.kv_heads", model.llama.kv_heads, 0, 65536, "", true, "key and value heads; default as many as heads"),
    I64("model.llama.head_dim", model.llama.head_dim, 0, 4096, "", true, "width of a head; default hidden / heads"),
    I64("model.llama.inner", model.llama.inner, 0, 4194304, "", true, "width of the gated MLP; default 8/3 hidden, rounded up to a multiple of 64"),
    I64("model.llama.positions", model.llama.positions, 1, 1073741824, "2048", true, "longest sequence in tokens"),
    F64("model.llama.eps", model.llama.eps, 1e-12, 1, "1e-5", "of the RMS norms"),
    F64("model.llama.rope_theta", model.llama.rope_theta, 1, 1e12, "10000", "base of the rotary embedding"),
    FLAG("model.llama.qkv_bias", model.llama.qkv_bias, "no", "biases of queries, keys and values (Qwen2)"),
    FLAG("model.llama.qk_norm", model.llama.qk_norm, "no", "norm of each query and key head (Qwen3)"),
    FLAG("model.llama.tied", model.llama.tied, "no", "the output head is the embedding"),
    I64("model.projection", model.projection, 1, SIZE_MAX_KEY, "", true,
        "width of CLIP's joint space; default 512, siglip model.vit.hidden, which it must be"),
    FLAG("model.train_encoder", model.train_encoder, "", "default: yes in stage clip, else no"),
    FLAG("model.train_projector", model.train_projector, "", "default: yes in stages pretrain and finetune"),
    FLAG("model.train_decoder", model.train_decoder, "", "default: yes in stages lm and finetune; must be no with lora.rank"),

    I64("lora.rank", lora.rank, 0, 65536, "0", true,
        "train low-rank adapters of this rank beside linear layers of a frozen decoder (LLaVA: 128), with optimizer.lr; 0 = none"),
    F64("lora.alpha", lora.alpha, 1e-6, 1e6, "16", "an adapter's output is scaled by alpha / rank (LLaVA's recipe: 256)"),
    F64("lora.dropout", lora.dropout, 0, 0.99, "0.05", "share of an adapter's input that a training step leaves out"),
    {"lora.targets", BIF_KEY_STRINGS, AT(lora.targets), 0, 0, NULL, NULL, false, true,
     "some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; none named = all; a vision tower never has adapters"},

    MUST("data.shards", BIF_KEY_STRINGS, data.shards, 0, 0, NULL, false, "shard files, or folders of them"),
    TEXT("data.selection", data.selection, NULL, NULL, false,
         "which samples of data.shards are trained on (and how often): a file made of exactly these shards by data dedup, balance, prune ..."),
    {"data.validation", BIF_KEY_STRINGS, AT(data.validation), 0, 0, NULL, NULL, false, false, "shards of the validation loss"},
    TEXT("data.validation_selection", data.validation_selection, NULL, NULL, false, "which samples of data.validation count"),
    MUST("data.tokenizer", BIF_KEY_STRING, data.tokenizer, 0, 0, NULL, true, "tokenizer.json, tokenizer.model, vocab.json with merges.txt, or their folder"),
    TEXT("data.template", data.template_, TEMPLATES, "", true, "how turns become text; default vicuna_v1 in stage finetune, else plain"),
    TEXT("data.system", data.system, NULL, NULL, true, "system text of the template; null = the template's own"),
    TEXT("data.image_fit", data.image_fit, "auto|crop|pad|squash", "auto", true, "how a picture becomes a square; auto = as model.init was trained, else crop, with a SigLIP tower squash"),
    TEXT("data.image_place", data.image_place, "front|keep|llava_next", "front", true,
         "where <image> of a question goes: the front of its turn (LLaVA-1.5), where it stands, or as LLaVA-NeXT: front only if alone"),
    I64("data.max_tokens", data.max_tokens, 0, 1073741824, "", true,
        "longest sequence, image rows included; default model.text.positions in stage clip from scratch, "
        "else 0 = the smaller of 2048 and the decoder's positions"),
    FLAG("data.truncate", data.truncate, "yes", "cut longer sequences on the right; no: they are skipped as bad samples"),
    FLAG("data.shuffle", data.shuffle, "yes", "a new order every epoch"),
    PICK("data.sampler", data.sampler, "permuted|modality_length", "permuted",
         "how data.shuffle orders; modality_length: LLaVA's batches of either pictures or text alone, of about equal length over the micro-batches"),
    TEXT("data.order", data.order, NULL, NULL, false,
         "file with the sample numbers of an epoch in order, to replay another run (text, one a line, or .npy); replaces data.sampler and data.shuffle"),
    TEXT("data.caption_column", data.caption_column, NULL, NULL, false,
         "captions of data.shards from the text column of this name, or of caption- and this name (bifocal data recaption): of pairs, captions, and single answers with template plain; other "
         "conversations, and samples without such a text, keep their own"),
    F64("data.caption_mix", data.caption_mix, 0, 1, "1", "share of the visits of a sample that take data.caption_column, drawn anew every epoch; above 0"),
    PICK("data.last", data.last, "endless|wrap|short|drop", "",
         "an epoch's last samples that fill no step: endless goes on with the next epoch; wrap fills up from the epoch's beginning, as Hugging Face's Trainer "
         "does; short is a smaller step; drop leaves them out; default wrap with modality_length, else endless"),
    I64("data.threads", data.threads, 1, 1024, "2", false, "threads that decode pictures and text"),
    I64("data.prefetch", data.prefetch, 1, 1024, "2", false, "steps prepared ahead"),
    I64("data.cache_mib", data.cache_mib, 0, 16777216, "0", false, "memory for pictures kept after decoding; 0 = none"),
    I64("data.validation_samples", data.validation_samples, 0, STEPS_MAX, "0", false, "at most so many; 0 = all"),
    I64("data.max_image_pixels", data.max_image_pixels, 0, 1e12, "0", true, "larger pictures are bad samples; 0 = 178,956,970"),

    F64("augment.scale", augment.scale, 0, 1, "0",
        "stage clip: train on random crops of at least this share of a picture's area, resized to the square (open_clip: 0.9); 0 = data.image_fit"),
    F64("augment.ratio", augment.ratio, 1, 100, "1.3333333333333333", "the crops' largest width / height, and largest height / width"),
    F64("augment.flip", augment.flip, 0, 1, "0", "stage clip: share of the training pictures that are mirrored"),

    MUST("batch.samples", BIF_KEY_I64, batch.samples, 1, 1073741824, NULL, true, "of an optimiser step, over all ranks and micro-batches"),
    I64("batch.micro_tokens", batch.micro_tokens, 1, 1073741824, "", false, "tokens of a micro-batch; sets the memory; default the larger of 4096 and data.max_tokens"),
    I64("batch.micro_samples", batch.micro_samples, 0, 1073741824, "0", false, "at most so many sequences a micro-batch; 0 = no limit"),
    CHOICE("batch.deal", batch.deal, "tokens|order", "tokens",
           "samples of a step to ranks: by number of tokens, or in order as Hugging Face's Trainer does: the j-th batch.micro_samples of them to rank j % ranks"),

    I64("train.steps", train.steps, 0, STEPS_MAX, "0", true, "optimiser steps; this or train.epochs"),
    F64("train.epochs", train.epochs, 0, 1e9, "0", "passes over the data; this or train.steps"),
    I64("train.validate_every", train.validate_every, 0, STEPS_MAX, "0", false, "steps; 0 = never"),
    I64("train.log_every", train.log_every, 0, STEPS_MAX, "10", false, "steps; 0 = never"),
    I64("train.checkpoint_every", train.checkpoint_every, 0, STEPS_MAX, "1000", false, "steps; 0 = only at the end"),
    I64("train.keep", train.keep, 1, 1000000, "2", false, "checkpoints kept"),
    I64("train.stop_after", train.stop_after, 0, STEPS_MAX, "0", false, "stop with exit code 75 after so many steps of this start; 0 = never"),
    PICK("train.loss", train.loss, "global_tokens|micro_mean", "global_tokens", "mean over all supervised tokens of a step, or LLaVA's mean of micro-batch means (its very micro-batches with batch.deal: order)"),
    CHOICE("train.recompute", train.recompute, "auto|no|yes", "auto",
           "keep only the inputs of blocks and run each again in the backward: the same numbers in less memory and more time; auto = where a GPU has no room for the rest"),

    I64("evaluate.every", evaluate.every, 0, STEPS_MAX, "0", false,
        "steps between evaluations, with one more at the end: the model answers evaluate.questions (or shards) as it trains; 0 = never; not in stage clip"),
    {"evaluate.questions", BIF_KEY_STRINGS, AT(evaluate.questions), 0, 0, NULL, NULL, false, false,
     "JSONL of questions, or the benchmark's own file or files, as bifocal eval --questions takes them"},
    {"evaluate.shards", BIF_KEY_STRINGS, AT(evaluate.shards), 0, 0, NULL, NULL, false, false,
     "shards, or folders of them, whose samples are the questions; with evaluate.questions only the pictures are there, as bifocal eval --shards finds them"},
    TEXT("evaluate.prompt", evaluate.prompt, NULL, NULL, false, "what is asked where a sample of evaluate.shards is a caption"),
    TEXT("evaluate.image_root", evaluate.image_root, NULL, ".", false, "folder of the questions' pictures, where they are files"),
    TEXT("evaluate.task", evaluate.task, NULL, "exact", false,
         "what scores the answers, a task of bifocal score; one that bifocal eval --task knows also makes the prompts"),
    TEXT("evaluate.variant", evaluate.variant, NULL, NULL, false, "which of the task's prompts, as bifocal eval --variant; none = its first"),
    {"evaluate.references", BIF_KEY_STRINGS, AT(evaluate.references), 0, 0, NULL, NULL, false, false,
     "reference files of evaluate.task; none, with task exact: the questions' own answers"},
    I64("evaluate.limit", evaluate.limit, 0, STEPS_MAX, "0", false, "the first so many questions; 0 = all"),
    I64("evaluate.max_new_tokens", evaluate.max_new_tokens, 0, 1048576, "0", false, "longest answer; 0 = as bifocal eval: the task's, or 16"),
    I64("evaluate.batch", evaluate.batch, 1, 65536, "64", false, "questions a rank answers at once; sets the memory, which is taken before step 1"),
    {"evaluate.keep_best", BIF_KEY_BOOL, AT(evaluate.keep_best), 0, 0, NULL, "yes", false, false,
     "save a checkpoint where the first metric is the best so far, and keep it besides train.keep others; best.json names it"},

    MUST("optimizer.lr", BIF_KEY_F64, optimizer.lr, 1e-15, 100, NULL, true, "peak learning rate"),
    F64("optimizer.beta1", optimizer.beta1, 0, 0.999999, "0.9", "AdamW"),
    F64("optimizer.beta2", optimizer.beta2, 0, 0.99999999, "", "AdamW; default 0.95 in stage lm, 0.98 in stage clip, else 0.999"),
    F64("optimizer.eps", optimizer.eps, 1e-30, 1, "", "AdamW; default 1e-6 in stage clip, else 1e-8"),
    F64("optimizer.weight_decay", optimizer.weight_decay, 0, 100, "", "of matrices; default 0.1 in stage lm, 0.2 in stage clip, else 0"),
    F64("optimizer.clip_norm", optimizer.clip_norm, 0, 1e9, "1", "largest norm of the gradient; 0 = no limit"),
    PICK("optimizer.schedule", optimizer.schedule, "cosine|constant", "cosine", "of the learning rate after the warm-up"),
    F64("optimizer.warmup_ratio", optimizer.warmup_ratio, 0, 1, "0.03", "share of all steps, rounded up"),
    I64("optimizer.warmup_steps", optimizer.warmup_steps, 0, STEPS_MAX, "0", true, "wins over warmup_ratio when > 0"),
    F64("optimizer.min_lr_ratio", optimizer.min_lr_ratio, 0, 1, "0", "floor of the cosine as a share of the peak"),
    F64("optimizer.encoder_lr", optimizer.encoder_lr, 0, 100, "0", "0 = optimizer.lr"),
    F64("optimizer.projector_lr", optimizer.projector_lr, 0, 100, "0", "0 = optimizer.lr"),
    F64("optimizer.decoder_lr", optimizer.decoder_lr, 0, 100, "0", "0 = optimizer.lr"),

    PICK("clip.loss", clip.loss, "infonce|sigmoid", "infonce",
         "CLIP's softmax loss or SigLIP's; default infonce, with model.vit.family siglip sigmoid"),
    PICK("clip.lock", clip.lock, "none|image|text", "none", "a tower that does not train, nor its projection (LiT: image, with model.encoder)"),
    F64("clip.patch_dropout", clip.patch_dropout, 0, 0.999, "0", "share of each picture's patches that a training step leaves out (FLIP); at least one stays"),
    F64("clip.logit_scale_init", clip.logit_scale_init, -20, 20, "", "logarithm of the scale; default ln(1/0.07), sigmoid ln(10)"),
    F64("clip.logit_bias_init", clip.logit_bias_init, -1000, 1000, "-10", "of the sigmoid loss"),
    F64("clip.logit_scale_max", clip.logit_scale_max, -20, 20, "4.605170185988092", "ceiling of the logarithm; default ln(100)"),
};
const size_t bif_key_count = sizeof bif_keys / sizeof bif_keys[0];
_Static_assert(sizeof bif_keys / sizeof bif_keys[0] <= BIF_KEY_CAP, "raise BIF_KEY_CAP");

const char *const bif_key_sections[] = {"model", "model.vit", "model.text", "model.llama", "lora", "data", "augment", "batch", "train", "evaluate",
                                       "optimizer", "clip", NULL};

int bif_key_find(const char *key)
{
    for (size_t i = 0; i < bif_key_count; i++) {
        if (strcmp(bif_keys[i].key, key) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- values ---- */

static int choice(const char *choices, const char *text)
{
    const size_t n = strlen(text);
    int index = 0;
    for (const char *at = choices; at != NULL; index++) {
        const char *end = strchr(at, '|');
        if ((end == NULL ? strlen(at) : (size_t)(end - at)) == n && strncmp(at, text, n) == 0) {
            return index;
        }
        at = end == NULL ? NULL : end + 1;
    }
    return -1;
}

static char *choice_list(const char *choices)
{
    char *list = bif_strdup("");
    for (const char *at = choices; at != NULL;) {
        const char *end = strchr(at, '|');
        char *longer = bif_format("%s%s%.*s", list, *list == '\0' ? "" : ", ", (int)(end == NULL ? strlen(at) : (size_t)(end - at)), at);
        free(list);
        list = longer;
        at = end == NULL ? NULL : end + 1;
    }
    return list;
}

/* "${NAME}" from the environment; "$${" stands for "${" itself. */
static char *expand(const char *text, char **error)
{
    char *out = bif_strdup("");
    while (*text != '\0') {
        const char *next = strstr(text, "${");
        const bool literal = next != NULL && next > text && next[-1] == '$';
        const size_t plain = next == NULL ? strlen(text) : (size_t)(next - text) - (literal ? 1 : 0);
        const char *value = "";
        char *name = NULL;
        const char *rest = text + plain;
        if (literal) {
            value = "${";
            rest = next + 2;
        } else if (next != NULL) {
            const char *end = strchr(next, '}');
            name = strndup(next + 2, end == NULL ? 0 : (size_t)(end - next) - 2);
            value = end == NULL ? NULL : getenv(name);
            if (value == NULL) {
                *error = end == NULL ? bif_strdup("has '${' without '}'")
                                     : bif_format("names the environment variable %.80s, which is not set", name);
                free(name);
                free(out);
                return NULL;
            }
            rest = end + 1;
        }
        char *longer = bif_format("%s%.*s%s", out, (int)plain, text, value);
        free(name);
        free(out);
        out = longer;
        text = rest;
    }
    return out;
}

static char *set_i64(int64_t *out, const bif_key *key, const char *text)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) {
        return bif_format("must be a whole number, not '%.80s'", text);
    }
    if ((double)value < key->low || (double)value > key->high) {
        return bif_format("is %lld; it must be from %.0f to %.0f", value, key->low, key->high);
    }
    *out = value;
    return NULL;
}

static char *set_f64(double *out, const bif_key *key, const char *text)
{
    char *end = NULL;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || strpbrk(text, "xX") != NULL) {
        return bif_format("must be a number, not '%.80s'", text);
    }
    if (value < key->low || value > key->high) {
        return bif_format("is %s; it must be from %g to %g", text, key->low, key->high);
    }
    *out = value;
    return NULL;
}

static char *set_bool(bool *out, const char *text)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on"};
    for (size_t i = 0; i < 6; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return NULL;
        }
    }
    return bif_format("must be yes or no, not '%.80s'", text);
}

static char *set_string(char **out, const bif_key *key, const char *text)
{
    char *error = NULL;
    char *value = expand(text, &error);
    if (value != NULL && key->choices != NULL && choice(key->choices, value) < 0) {
        char *list = choice_list(key->choices);
        error = bif_format("is '%.80s'; it must be one of %s", value, list);
        free(list);
    }
    if (error != NULL) {
        free(value);
        return error;
    }
    free(*out);
    *out = value;
    return NULL;
}

char *bif_key_set(bif_config *config, const bif_key *key, const char *text)
{
    void *member = (char *)config + key->offset;
    switch (key->type) {
    case BIF_KEY_I64:
        return set_i64(member, key, text);
    case BIF_KEY_F64:
        return set_f64(member, key, text);
    case BIF_KEY_BOOL:
        return set_bool(member, text);
    case BIF_KEY_STRING:
        return set_string(member, key, text);
    case BIF_KEY_ENUM: {
        const int index = choice(key->choices, text);
        if (index < 0) {
            char *list = choice_list(key->choices);
            char *error = bif_format("is '%.80s'; it must be one of %s", text, list);
            free(list);
            return error;
        }
        memcpy(member, &index, sizeof index); /* every enum of bif_config is an int */
        return NULL;
    }
    case BIF_KEY_STRINGS: {
        bif_strings *list = member;
        char *error = NULL;
        char *item = expand(text, &error);
        if (item != NULL) {
            list->items = bif_realloc(list->items, list->count + 1, sizeof(*list->items));
            list->items[list->count++] = item;
        }
        return error;
    }
    }
    return NULL;
}

void bif_key_clear(bif_config *config, const bif_key *key)
{
    void *member = (char *)config + key->offset;
    if (key->type == BIF_KEY_STRING) {
        free(*(char **)member);
        *(char **)member = NULL;
    } else if (key->type == BIF_KEY_STRINGS) {
        bif_strings *list = member;
        for (size_t i = 0; i < list->count; i++) {
            free(list->items[i]);
        }
        free(list->items);
        *list = (bif_strings){0};
    }
}

void bif_config_free(bif_config *config)
{
    for (size_t i = 0; i < bif_key_count; i++) {
        bif_key_clear(config, &bif_keys[i]);
    }
    memset(config, 0, sizeof *config);
}

/* ---- nearest key ---- */

#define NAME_CAP 64

/* Levenshtein, with a swap of neighbours as one edit. */
static size_t distance(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    size_t row[3][NAME_CAP + 1];
    if (n > NAME_CAP || m > NAME_CAP) {
        return NAME_CAP;
    }
    for (size_t j = 0; j <= m; j++) {
        row[0][j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *before = row[(i + 2) % 3], *older = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            best = before[j] + 1 < best ? before[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && older[j - 2] + 1 < best) {
                best = older[j - 2] + 1;
            }
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

static void consider(const char *known, const char *section, const char *name, size_t *best, const char **nearest)
{
    const char *dot = strrchr(known, '.');
    const char *last = dot == NULL ? known : dot + 1;
    const size_t n = strlen(section);
    const bool sibling = dot == NULL ? n == 0 : (size_t)(dot - known) == n && strncmp(known, section, n) == 0;
    /* A key of the same section wins over a nearer one elsewhere, up to two edits. */
    const size_t score = 2 * distance(name, last) + (sibling ? 0 : 3);
    if (score < *best) {
        *best = score;
        *nearest = known;
    }
}

const char *bif_key_nearest(const char *section, const char *name)
{
    const size_t n = strlen(name), allowed = n <= 3 ? 1 : n / 3 + 1;
    size_t best = 2 * allowed + 4;
    const char *nearest = NULL;
    for (size_t i = 0; i < bif_key_count; i++) {
        consider(bif_keys[i].key, section, name, &best, &nearest);
    }
    for (size_t i = 0; bif_key_sections[i] != NULL; i++) {
        consider(bif_key_sections[i], section, name, &best, &nearest);
    }
    return nearest;
}
