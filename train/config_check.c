/* Defaults that depend on other keys, and what must hold between keys. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/chat.h"
#include "data/column.h"
#include "train/config_table.h"
#include "train/lora.h"

void bif_errors_add(bif_errors *errors, char *text)
{
    errors->items = bif_realloc(errors->items, errors->count + 1, sizeof(*errors->items));
    errors->items[errors->count++] = text;
}

static bool is_given(const bool *given, const char *key)
{
    const int i = bif_key_find(key);
    BIF_BUG_IF(i < 0, "no key %s", key);
    return given[i];
}

static void text_default(char **member, bool given, const char *value)
{
    if (!given && *member == NULL) {
        *member = bif_strdup(value);
    }
}

#define DEFAULT(key, member, value)        \
    do {                                   \
        if (!is_given(given, key)) {       \
            config->member = (value);      \
        }                                  \
    } while (0)

static bool grouped(const bif_config *config)
{
    return config->data.sampler == BIF_SAMPLER_MODALITY_LENGTH && config->data.order == NULL;
}

static void set_defaults(bif_config *config, const bool *given)
{
    const bool clip = config->stage == BIF_STAGE_CLIP, lm = config->stage == BIF_STAGE_LM;
    const bool finetune = config->stage == BIF_STAGE_FINETUNE;
    DEFAULT("model.vit.inner", model.vit.inner, 4 * config->model.vit.hidden);
    const bool siglip = config->model.vit.family == BIF_TOWER_SIGLIP;
    DEFAULT("model.vit.eps", model.vit.eps, siglip ? 1e-6 : 1e-5);
    text_default(&config->model.vit.act, is_given(given, "model.vit.act"), siglip ? "gelu_pytorch_tanh" : "quick_gelu");
    DEFAULT("model.text.eps", model.text.eps, siglip ? 1e-6 : 1e-5);
    text_default(&config->model.text.act, is_given(given, "model.text.act"), siglip ? "gelu_pytorch_tanh" : "quick_gelu");
    DEFAULT("model.text.positions", model.text.positions, siglip ? 64 : 77);
    DEFAULT("model.projection", model.projection, siglip && config->model.vit.hidden > 0 ? config->model.vit.hidden : 512);
    DEFAULT("clip.loss", clip.loss, siglip ? BIF_CONTRASTIVE_SIGMOID : BIF_CONTRASTIVE_INFONCE);
    DEFAULT("model.text.inner", model.text.inner, 4 * config->model.text.hidden);
    DEFAULT("model.llama.kv_heads", model.llama.kv_heads, config->model.llama.heads);
    DEFAULT("model.llama.head_dim", model.llama.head_dim,
            config->model.llama.heads > 0 ? config->model.llama.hidden / config->model.llama.heads : 0);
    DEFAULT("model.llama.inner", model.llama.inner, (8 * config->model.llama.hidden / 3 + 63) / 64 * 64);
    DEFAULT("model.train_encoder", model.train_encoder, clip);
    DEFAULT("model.train_projector", model.train_projector, finetune || config->stage == BIF_STAGE_PRETRAIN);
    DEFAULT("model.train_decoder", model.train_decoder, (finetune || lm) && config->lora.rank == 0);
    if (config->lora.rank > 0 && config->lora.targets.count == 0) {
        const bif_key *targets = &bif_keys[bif_key_find("lora.targets")];
        for (int i = 0; i < BIF_LORA_TARGETS; i++) {
            BIF_BUG_IF(bif_key_set(config, targets, bif_lora_name((bif_lora_target)i)) != NULL, "a target of LoRA");
        }
    }
    text_default(&config->device, false, "cpu"); /* also when it is given empty */
    text_default(&config->evaluate.task, false, "exact");
    text_default(&config->evaluate.image_root, false, ".");
    text_default(&config->data.template_, is_given(given, "data.template"), finetune ? "vicuna_v1" : "plain");
    bif_template_kind kind;
    if (bif_template_by_name(config->data.template_, &kind) == BIF_OK) { /* an alias is the same recipe */
        free(config->data.template_);
        config->data.template_ = bif_strdup(bif_template_name(kind));
    }
    const int64_t positions = config->model.llama.hidden == 0 ? 0 : config->model.llama.positions < 2048 ? config->model.llama.positions : 2048;
    DEFAULT("data.max_tokens", data.max_tokens, clip ? (config->model.init != NULL ? 0 : config->model.text.positions) : positions);
    DEFAULT("data.last", data.last, grouped(config) ? BIF_LAST_WRAP : BIF_LAST_ENDLESS);
    DEFAULT("batch.micro_tokens", batch.micro_tokens, config->data.max_tokens > 4096 ? config->data.max_tokens : 4096);
    DEFAULT("optimizer.beta2", optimizer.beta2, lm ? 0.95 : clip ? 0.98 : 0.999);
    DEFAULT("optimizer.eps", optimizer.eps, clip ? 1e-6 : 1e-8);
    DEFAULT("optimizer.weight_decay", optimizer.weight_decay, lm ? 0.1 : clip ? 0.2 : 0.0);
    DEFAULT("clip.logit_scale_init", clip.logit_scale_init, config->clip.loss == BIF_CONTRASTIVE_SIGMOID ? log(10.0) : log(1.0 / 0.07));
}

typedef struct {
    const bif_config *config;
    const bool *given;
    const char *where;
    bif_errors *errors;
} checker;

static void complain(const checker *c, const char *text)
{
    bif_errors_add(c->errors, bif_format("%s: %s", c->where, text));
}

/* Numbers of a part built from scratch: all of them, when its width is given or when no folder brings the part. */
static void check_scratch(const checker *c, const char *part, const char *sources, bool from_folder, const char *const *keys,
                          const int64_t *values)
{
    bool any = false;
    for (size_t i = 0; keys[i] != NULL; i++) {
        any = any || values[i] > 0;
    }
    if (from_folder && any) {
        bif_errors_add(c->errors, bif_format("%s: model.%s.%s has no effect, because %s brings that part; remove one of them", c->where, part,
                                             keys[0], sources));
    }
    for (size_t i = 0; !from_folder && keys[i] != NULL; i++) {
        if (values[i] < 1) {
            bif_errors_add(c->errors, bif_format("%s: model.%s.%s is needed, because no %s names a folder", c->where, part, keys[i], sources));
        }
    }
}

static void check_model(const checker *c)
{
    const bif_config *config = c->config;
    const bool clip = config->stage == BIF_STAGE_CLIP, lm = config->stage == BIF_STAGE_LM, llava = !clip && !lm;
    const bool init = config->model.init != NULL;
    if (!lm) { /* the shape of CLIP's towers comes from model.init or from here; model.encoder then only brings weights */
        check_scratch(c, "vit", clip ? "model.init" : "model.init or model.encoder", init || (llava && config->model.encoder != NULL),
                      (const char *const[]){"hidden", "layers", "heads", "patch", "image", NULL},
                      (const int64_t[]){config->model.vit.hidden, config->model.vit.layers, config->model.vit.heads,
                                        config->model.vit.patch, config->model.vit.image});
    }
    if (clip) {
        check_scratch(c, "text", "model.init", init, (const char *const[]){"hidden", "layers", "heads", NULL},
                      (const int64_t[]){config->model.text.hidden, config->model.text.layers, config->model.text.heads});
    } else {
        check_scratch(c, "llama", "model.init or model.decoder", init || config->model.decoder != NULL,
                      (const char *const[]){"hidden", "layers", "heads", NULL},
                      (const int64_t[]){config->model.llama.hidden, config->model.llama.layers, config->model.llama.heads});
        if (config->model.llama.hidden > 0 && config->data.max_tokens > config->model.llama.positions) {
            complain(c, "data.max_tokens is larger than model.llama.positions");
        }
    }
    if (lm && (config->model.encoder != NULL || config->model.projector != NULL)) {
        complain(c, "stage lm has no encoder and no projector; remove model.encoder and model.projector");
    }
    if (clip && (config->model.decoder != NULL || config->model.projector != NULL)) {
        complain(c, "stage clip has no decoder and no projector; remove model.decoder and model.projector");
    }
    if (config->model.base != NULL && config->model.init == NULL && config->model.decoder == NULL) {
        complain(c, "model.base is the base of an adapter; name the adapter by model.init or model.decoder");
    }
    const bool decoder = config->model.train_decoder || config->lora.rank > 0;
    if ((lm && !decoder) || (llava && !config->model.train_encoder && !config->model.train_projector && !decoder)) {
        complain(c, "nothing is trained; set model.train_encoder, model.train_projector, model.train_decoder or lora.rank");
    }
}

static void check_lora(const checker *c)
{
    const bif_config *config = c->config;
    const bif_strings *targets = &config->lora.targets;
    unsigned seen = 0;
    for (size_t i = 0; i < targets->count; i++) {
        const int target = bif_lora_by_name(targets->items[i]);
        if (target < 0) {
            bif_errors_add(c->errors, bif_format("%s: lora.targets names '%.80s'; it must be one of q_proj, k_proj, v_proj, o_proj, gate_proj, "
                                                 "up_proj, down_proj", c->where, targets->items[i]));
        } else if (seen >> target & 1u) {
            bif_errors_add(c->errors, bif_format("%s: lora.targets names %s twice", c->where, targets->items[i]));
        } else {
            seen |= 1u << target;
        }
    }
    if (config->lora.rank > 0 && config->stage != BIF_STAGE_CLIP && config->model.init == NULL && config->model.decoder == NULL) {
        complain(c, "lora.rank adapts a decoder that is there: name it by model.init or model.decoder");
    }
    if (config->lora.rank > 0 && config->model.base != NULL) {
        complain(c, "model.base beside lora.rank: the run's own adapters would lie upon one whose base is not found again; merge that one first "
                    "(bifocal export) and name the result");
    }
    if (config->lora.rank > 0 && config->stage == BIF_STAGE_CLIP) {
        complain(c, "lora.rank is for decoders: stages lm, pretrain and finetune; remove it in stage clip");
    } else if (config->lora.rank > 0 && config->model.train_decoder) {
        complain(c, "model.train_decoder: yes beside lora.rank: adapters belong to a decoder that stays as it is; remove one of them");
    }
}

static void check_order(const checker *c)
{
    const bif_config *config = c->config;
    const bool clip = config->stage == BIF_STAGE_CLIP, ordered = config->batch.deal == BIF_DEAL_ORDER;
    const int64_t micro = config->batch.micro_samples;
    if (config->data.sampler == BIF_SAMPLER_MODALITY_LENGTH && config->data.order != NULL) {
        complain(c, "data.order says the order already; remove data.sampler: modality_length");
    }
    if (clip && (config->data.sampler == BIF_SAMPLER_MODALITY_LENGTH || ordered || config->data.last == BIF_LAST_SHORT)) {
        complain(c, "data.sampler: modality_length, data.last: short and batch.deal: order are not for stage clip; remove them");
    }
    if (grouped(config) && !config->data.shuffle) {
        complain(c, "data.sampler: modality_length shuffles; remove data.shuffle: no, or the sampler");
    }
    if (grouped(config) && config->data.last == BIF_LAST_ENDLESS) {
        complain(c, "data.sampler: modality_length begins every epoch with a step; set data.last to wrap, short or drop");
    }
    if (ordered && micro == 0) {
        complain(c, "batch.deal: order needs batch.micro_samples, the samples of a rank's micro-batch");
    }
    if ((ordered || grouped(config)) && micro > 0 && config->batch.samples % micro != 0) {
        complain(c, "batch.samples must be a multiple of batch.micro_samples with data.sampler: modality_length or batch.deal: order");
    }
}

static bool is_blank(const char *text)
{
    return text == NULL || text[0] == '\0';
}

static bool is_empty(const bif_config *config, const bif_key *key)
{
    const void *member = (const char *)config + key->offset;
    const char *text = key->type == BIF_KEY_STRING ? *(char *const *)member : NULL;
    return (key->type == BIF_KEY_STRINGS && ((const bif_strings *)member)->count == 0) || (text != NULL && text[0] == '\0');
}

void bif_config_finish(bif_config *config, const bool *given, const char *where, bif_errors *errors)
{
    const checker c = {config, given, where, errors};
    for (size_t i = 0; i < bif_key_count; i++) {
        if (bif_keys[i].required && !given[i]) {
            bif_errors_add(errors, bif_format("%s: the key %s is missing: %s", where, bif_keys[i].key, bif_keys[i].help));
        } else if (bif_keys[i].required && is_empty(config, &bif_keys[i])) {
            bif_errors_add(errors, bif_format("%s: the key %s is empty: %s", where, bif_keys[i].key, bif_keys[i].help));
        }
    }
    const bool steps = config->train.steps > 0, epochs = config->train.epochs > 0;
    if (!steps && !epochs && errors->count == 0) {
        complain(&c, "the key train.steps (or train.epochs) is missing: how long to train");
    }
    if (steps && epochs) {
        complain(&c, "train.steps and train.epochs are both given; remove one of them");
    }
    if (errors->count > 0) { /* what follows would complain about values that were not read */
        return;
    }
    set_defaults(config, given);
    check_model(&c);
    check_order(&c);
    check_lora(&c);
    if (!bif_device_name_ok(config->device)) {
        bif_errors_add(errors, bif_format("%s: device is '%s'; it must be cpu, cuda, cuda:N or auto", where, config->device));
    }
    if (config->precision == BIF_PRECISION_BF16 && strcmp(config->device, "cpu") == 0) {
        complain(&c, "precision is bf16, but the CPU device computes in fp32; set precision: auto (or fp32), or device: cuda");
    }
    if (config->batch.micro_tokens < config->data.max_tokens) {
        bif_errors_add(errors, bif_format("%s: batch.micro_tokens is smaller than data.max_tokens (%lld and %lld), so the longest sequence fits no "
                                          "micro-batch; set either so that it does", where, (long long)config->batch.micro_tokens,
                                          (long long)config->data.max_tokens));
    }
    if (config->stage == BIF_STAGE_CLIP && config->batch.samples < 2) {
        complain(&c, "batch.samples must be at least 2 in stage clip: a pair is told from the other pairs of its batch");
    }
    if (config->stage != BIF_STAGE_CLIP && (config->augment.scale > 0.0 || config->augment.flip > 0.0)) {
        complain(&c, "augment.scale and augment.flip are for stage clip only; remove them");
    }
    const bool no_questions = config->evaluate.questions.count == 0 || is_blank(config->evaluate.questions.items[0]);
    if (config->evaluate.every > 0 && config->stage == BIF_STAGE_CLIP) {
        complain(&c, "evaluate.every asks for answers, and a pair of towers gives none: it is for stages lm, pretrain and finetune; remove it "
                     "(train.validate_every gives the loss of other pairs)");
    } else if (config->evaluate.every > 0 && no_questions && config->evaluate.shards.count == 0) {
        complain(&c, "evaluate.every is given, but evaluate.questions names no file and evaluate.shards no shards");
    }
    if (config->evaluate.every > 0 && config->evaluate.references.count == 0 && strcmp(config->evaluate.task, "exact") != 0) {
        bif_errors_add(errors, bif_format("%s: evaluate.task is %.80s, but evaluate.references names no file", where, config->evaluate.task));
    }
    if (config->train.validate_every > 0 && config->data.validation.count == 0) {
        complain(&c, "train.validate_every is given, but data.validation names no shards");
    }
    if (config->data.caption_column != NULL && !bif_column_name_ok(config->data.caption_column)) {
        complain(&c, "data.caption_column is the name of no column: letters, digits, '.', '-' and '_', not beginning with '.'");
    }
    if (!(config->data.caption_mix > 0.0)) {
        complain(&c, "data.caption_mix must be above 0");
    }
    if (config->data.caption_column == NULL && config->data.caption_mix < 1.0) {
        complain(&c, "data.caption_mix is given, but data.caption_column names no column");
    }
    if (config->data.validation_selection != NULL && config->data.validation.count == 0) {
        complain(&c, "data.validation_selection is given, but data.validation names no shards");
    }
}
