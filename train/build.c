#include "train/build.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "data/loader.h"
#include "train/adapter.h"
#include "train/checkpoint.h"
#include "train/hf_folder.h"
#include "train/lora.h"
#include "train/vocabulary.h"

bif_status bif_resolve_model(bif_comm *comm, const char *key, const char *path, char **out)
{
    bif_status st = BIF_OK;
    char *manifest = bif_path_join(path, "MANIFEST.json");
    /* Rank 0 looks for all: what follows is collective, and on a network file system the ranks need not see the same. */
    double folder = bif_comm_rank(comm) == 0 && bif_hf_is_folder(path);
    const bool listed = bif_exists(manifest);
    free(manifest);
    *out = NULL;
    bif_comm_sum_f64(comm, &folder, 1);
    if (folder > 0.0) { /* one of our checkpoints, named itself, is checked like one that a search finds */
        st = bif_comm_agree(comm, listed && bif_comm_rank(comm) == 0 ? bif_checkpoint_verify(path) : BIF_OK);
        if (st != BIF_OK) {
            BIF_TRY(bif_fail_context(st, "%s: name another checkpoint (or delete MANIFEST.json if you changed the folder yourself)", key));
        }
        *out = bif_strdup(path);
        goto done;
    }
    BIF_TRY(bif_checkpoint_find(comm, path, out));
    if (*out == NULL) {
        const bool there = bif_exists(path);
        st = bif_fail(BIF_ERR_CONFIG,
                      there ? "%s: %s holds neither a config.json nor a valid checkpoint (step_*); name a Hugging Face folder or a run's folder"
                            : "%s: there is no folder %s; name a Hugging Face folder or a run's folder",
                      key, path);
    }
done:
    return st;
}

/* A projector may be one file, as LLaVA's first stage leaves it. Rank 0 looks for all. */
static bool is_file(bif_comm *comm, const char *path)
{
    struct stat info;
    double file = bif_comm_rank(comm) == 0 && stat(path, &info) == 0 && S_ISREG(info.st_mode);
    bif_comm_sum_f64(comm, &file, 1);
    return file > 0.0;
}

bif_status bif_resolve_paths(const bif_config *config, bif_comm *comm, bif_model_paths *out)
{
    bif_status st = BIF_OK;
    *out = (bif_model_paths){0};
    const struct {
        const char *key, *path;
        char **out;
    } parts[] = {{"model.init", config->model.init, &out->init},
                 {"model.encoder", config->model.encoder, &out->encoder},
                 {"model.decoder", config->model.decoder, &out->decoder},
                 {"model.projector", config->model.projector, &out->projector},
                 {"model.base", config->model.base, &out->base}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].path != NULL && parts[i].out == &out->projector && is_file(comm, parts[i].path)) {
            out->projector = bif_strdup(parts[i].path);
        } else if (parts[i].path != NULL) {
            BIF_TRY(bif_resolve_model(comm, parts[i].key, parts[i].path, parts[i].out));
        }
    }
done:
    return st;
}

static bif_status check_selection(const char *key, const bif_strings *shards, const char *selection)
{
    const bif_status st = bif_loader_check_selection((const char *const *)shards->items, shards->count, selection);
    return st == BIF_OK ? BIF_OK : bif_fail_context(st, "%s", key);
}

bif_status bif_build_check_selections(const bif_config *config, bif_comm *comm)
{
    bif_status st = BIF_OK;
    if (bif_comm_rank(comm) == 0) {
        st = check_selection("data.selection", &config->data.shards, config->data.selection);
        st = st != BIF_OK ? st : check_selection("data.validation_selection", &config->data.validation, config->data.validation_selection);
    }
    return bif_comm_agree(comm, st);
}

void bif_model_paths_free(bif_model_paths *paths)
{
    free(paths->init);
    free(paths->encoder);
    free(paths->decoder);
    free(paths->projector);
    free(paths->base);
    *paths = (bif_model_paths){0};
}

static bif_status act_by_name(const char *name, bif_act *out)
{
    static const struct {
        const char *name;
        bif_act act;
    } names[] = {{"gelu", BIF_ACT_GELU}, {"gelu_pytorch_tanh", BIF_ACT_GELU_TANH}, {"quick_gelu", BIF_ACT_QUICK_GELU}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i].name, name) == 0) {
            *out = names[i].act;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_CONFIG, "activation '%s' is unknown; use gelu, gelu_pytorch_tanh or quick_gelu", name);
}

static bif_status scratch_vit(const bif_config *config, bif_vit_config *vit)
{
    *vit = (bif_vit_config){.hidden = config->model.vit.hidden,
                            .layers = config->model.vit.layers,
                            .heads = config->model.vit.heads,
                            .inner = config->model.vit.inner,
                            .patch = config->model.vit.patch,
                            .image = config->model.vit.image,
                            .eps = (float)config->model.vit.eps,
                            .family = config->model.vit.family};
    return act_by_name(config->model.vit.act, &vit->act);
}

/* The usual names of the tokens that begin and end a text; -1 if the tokenizer has none of them. */
static int32_t first_special(const bif_tokenizer *tokenizer, const char *const *names, size_t count)
{
    int32_t id = -1;
    for (size_t i = 0; i < count && id < 0; i++) {
        id = bif_tokenizer_special(tokenizer, names[i]);
    }
    return id;
}

static int32_t bos_of(const bif_tokenizer *tokenizer)
{
    static const char *const names[] = {"<s>", "<|startoftext|>", "<|begin_of_text|>"};
    return first_special(tokenizer, names, sizeof names / sizeof names[0]);
}

static int32_t eos_of(const bif_tokenizer *tokenizer)
{
    static const char *const names[] = {"</s>", "<|endoftext|>", "<|end_of_text|>"};
    return first_special(tokenizer, names, sizeof names / sizeof names[0]);
}

static void scratch_decoder(const bif_config *config, const bif_tokenizer *tokenizer, bif_decoder_config *decoder)
{
    *decoder = (bif_decoder_config){.hidden = config->model.llama.hidden,
                                    .layers = config->model.llama.layers,
                                    .heads = config->model.llama.heads,
                                    .kv_heads = config->model.llama.kv_heads,
                                    .head_dim = config->model.llama.head_dim,
                                    .inner = config->model.llama.inner,
                                    .vocab = bif_tokenizer_vocab(tokenizer),
                                    .positions = config->model.llama.positions,
                                    .eps = (float)config->model.llama.eps,
                                    .rope_theta = (float)config->model.llama.rope_theta,
                                    .qkv_bias = config->model.llama.qkv_bias,
                                    .qk_norm = config->model.llama.qk_norm,
                                    .tied = config->model.llama.tied,
                                    .bos = bos_of(tokenizer),
                                    .eos = eos_of(tokenizer)};
}

static bif_status projector_by_name(const char *name, bif_projector_config *projector)
{
    int depth = 0, end = 0;
    if (strcmp(name, "linear") == 0) {
        projector->kind = BIF_PROJECTOR_LINEAR;
        projector->depth = 1;
        return BIF_OK;
    }
    if (sscanf(name, "mlp%dx_gelu%n", &depth, &end) == 1 && name[end] == '\0' && end > 0 && depth >= 1 && depth <= 8) {
        projector->kind = BIF_PROJECTOR_MLP;
        projector->depth = depth;
        return BIF_OK;
    }
    return bif_fail(BIF_ERR_CONFIG, "model.projector_type: '%s' is unknown; use linear or mlpNx_gelu with N from 1 to 8", name);
}

static bif_status absolute(const char *path, char **out)
{
    *out = path == NULL ? NULL : realpath(path, NULL);
    return path == NULL || *out != NULL ? BIF_OK : bif_fail_errno(errno, "cannot tell where '%s' is", path);
}

bif_status bif_frozen_from(const bif_model_paths *paths, char **base, char **tower)
{
    const bif_status st = absolute(paths->decoder != NULL ? paths->decoder : paths->init, base);
    return st == BIF_OK ? absolute(paths->encoder != NULL ? paths->encoder : paths->init, tower) : st;
}

/* What lies beside model.init or model.decoder: the base, which belongs to the first that is there, and for an adapter the tower of
 * model.encoder, which it may have adapted. */
static bif_beside beside_of(const bif_model_paths *paths, const char *path)
{
    const bool first = path == (paths->init != NULL ? paths->init : paths->decoder);
    return (bif_beside){.base = first ? paths->base : NULL, .tower = path == paths->init && bif_adapter_is(path) ? paths->encoder : NULL};
}

/* Reads config.json of a folder and insists on one of the kinds in `kinds` (a mask of 1 << kind). */
static bif_status read_config(const char *key, const bif_model_paths *paths, const char *folder, unsigned kinds, bif_model_config *out)
{
    bif_status st = BIF_OK;
    const bif_beside beside = beside_of(paths, folder);
    BIF_TRY(bif_hf_config_read_with(folder, &beside, out));
    if (!(kinds >> out->kind & 1)) {
        static const char *const names[] = {"a decoder alone", "a CLIP pair", "a LLaVA"};
        st = bif_fail(BIF_ERR_CONFIG, "%s: %s is %s, which cannot be used here", key, folder, names[out->kind]);
    }
done:
    return st;
}

bif_status bif_build_text_tokens(const bif_tokenizer *tokenizer, bif_text_config *text)
{
    const bif_tokenizer_names names = bif_tokenizer_named(tokenizer);
    if (text->family != BIF_TOWER_SIGLIP) {
        return BIF_OK;
    }
    const int32_t usual = bif_tokenizer_special(tokenizer, "</s>"), other = bif_tokenizer_special(tokenizer, "<eos>");
    text->bos = -1;
    text->eos = names.eos >= 0 ? names.eos : usual >= 0 ? usual : other >= 0 ? other : text->eos;
    text->pad = names.pad >= 0 ? names.pad : text->eos;
    return text->eos >= 0 && text->eos < text->vocab && text->pad < text->vocab
               ? BIF_OK
               : bif_fail(BIF_ERR_CONFIG, "the tokenizer names no end of a text (</s> or <eos>, or eos_token in tokenizer_config.json) "
                                          "below the text tower's vocabulary of %lld", (long long)text->vocab);
}

static bif_status clip_config(const bif_config *config, const bif_model_paths *paths, const bif_tokenizer *tokenizer, bif_model_config *out)
{
    bif_status st = BIF_OK;
    if (paths->init != NULL) {
        BIF_TRY(read_config("model.init", paths, paths->init, 1u << BIF_MODEL_CLIP, out));
    } else {
        out->kind = BIF_MODEL_CLIP;
        BIF_TRY(scratch_vit(config, &out->vit));
        out->text = (bif_text_config){.hidden = config->model.text.hidden,
                                      .layers = config->model.text.layers,
                                      .heads = config->model.text.heads,
                                      .inner = config->model.text.inner,
                                      .vocab = bif_tokenizer_vocab(tokenizer),
                                      .positions = config->model.text.positions,
                                      .eps = (float)config->model.text.eps,
                                      .bos = bos_of(tokenizer),
                                      .eos = eos_of(tokenizer),
                                      .family = out->vit.family};
        out->vit.head = out->vit.family == BIF_TOWER_SIGLIP;
        BIF_TRY(act_by_name(config->model.text.act, &out->text.act));
        out->projection = config->model.projection;
        out->logit_scale_init = (float)config->clip.logit_scale_init;
    }
    BIF_TRY(bif_build_text_tokens(tokenizer, &out->text));
    out->logit_bias = config->clip.loss == BIF_CONTRASTIVE_SIGMOID;
    out->logit_bias_init = (float)config->clip.logit_bias_init;
done:
    return st;
}

static bif_status llava_config(const bif_config *config, const bif_model_paths *paths, const bif_tokenizer *tokenizer, bif_model_config *out)
{
    bif_status st = BIF_OK;
    bif_model_config part = {0};
    if (paths->init != NULL) {
        BIF_TRY(read_config("model.init", paths, paths->init, 1u << BIF_MODEL_LLAVA, out));
        goto done;
    }
    out->kind = BIF_MODEL_LLAVA;
    if (paths->encoder != NULL) {
        BIF_TRY(read_config("model.encoder", paths, paths->encoder, 1u << BIF_MODEL_CLIP | 1u << BIF_MODEL_LLAVA, &part));
        out->vit = part.vit;
    } else {
        BIF_TRY(scratch_vit(config, &out->vit));
    }
    if (paths->decoder != NULL) {
        BIF_TRY(read_config("model.decoder", paths, paths->decoder, 1u << BIF_MODEL_DECODER | 1u << BIF_MODEL_LLAVA, &part));
        out->decoder = part.decoder;
    } else {
        scratch_decoder(config, tokenizer, &out->decoder);
    }
    BIF_TRY(projector_by_name(config->model.projector_type, &out->projector));
    out->projector.in = out->vit.hidden;
    out->projector.out = out->decoder.hidden;
    out->feature_layer = config->model.feature_layer;
    if (strcmp(config->model.feature_select, "patch") != 0 && strcmp(config->model.feature_select, "cls_patch") != 0) {
        st = bif_fail(BIF_ERR_CONFIG, "model.feature_select: '%s' is unknown; use patch or cls_patch", config->model.feature_select);
        goto done;
    }
    out->cls_patch = strcmp(config->model.feature_select, "cls_patch") == 0;
    out->image_token = -1;
    out->pad_token = -1;
done:
    return st;
}

static bif_lora_config lora_config(const bif_config *config)
{
    bif_lora_config lora = {.rank = config->lora.rank, .alpha = (float)config->lora.alpha, .dropout = (float)config->lora.dropout};
    for (size_t i = 0; i < config->lora.targets.count; i++) {
        lora.targets |= 1u << bif_lora_by_name(config->lora.targets.items[i]);
    }
    return lora.rank > 0 ? lora : (bif_lora_config){0};
}

void bif_build_compare(const bif_config *config, const bif_model_paths *paths, const bif_tokenizer *tokenizer)
{
    const char *words = paths->init != NULL ? paths->init : paths->decoder;
    if (config->stage != BIF_STAGE_CLIP && words != NULL) {
        bif_vocabulary_compare(tokenizer, config->data.tokenizer, words);
    }
}

bif_status bif_build_config(const bif_config *config, const bif_model_paths *paths, bif_tokenizer *tokenizer, bif_model_config *out)
{
    bif_status st = BIF_OK;
    *out = (bif_model_config){.pad_token = -1, .image_token = -1};
    if (config->stage == BIF_STAGE_CLIP) {
        BIF_TRY(clip_config(config, paths, tokenizer, out));
    } else if (config->stage != BIF_STAGE_LM) {
        BIF_TRY(llava_config(config, paths, tokenizer, out));
    } else if (paths->init != NULL || paths->decoder != NULL) {
        const char *path = paths->init != NULL ? paths->init : paths->decoder;
        BIF_TRY(read_config("model.init", paths, path, 1u << BIF_MODEL_DECODER, out));
    } else {
        out->kind = BIF_MODEL_DECODER;
        scratch_decoder(config, tokenizer, &out->decoder);
    }
    out->decoder.lora = lora_config(config);
    BIF_TRY(bif_vocabulary_fit(out, tokenizer, config->data.tokenizer));
    const int64_t vocab = out->kind == BIF_MODEL_CLIP ? out->text.vocab : out->decoder.vocab;
    snprintf(out->template_name, sizeof out->template_name, "%s", config->data.template_);
    if (strcmp(config->data.image_fit, "auto") != 0) {
        snprintf(out->image_fit, sizeof out->image_fit, "%s", config->data.image_fit);
    } else if (out->image_fit[0] == '\0') { /* else as model.init was trained */
        snprintf(out->image_fit, sizeof out->image_fit, "%s", bif_image_fit(out, "crop"));
    }
    snprintf(out->image_place, sizeof out->image_place, "%s", config->data.image_place);
    out->has_system = config->data.system != NULL;
    if (out->has_system) {
        if (strlen(config->data.system) >= sizeof out->system) {
            BIF_TRY(bif_fail(BIF_ERR_CONFIG, "data.system: longer than %zu bytes", sizeof out->system - 1));
        }
        snprintf(out->system, sizeof out->system, "%s", config->data.system);
    }
    if (bif_tokenizer_vocab(tokenizer) > vocab) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "data.tokenizer has %lld tokens, the model only %lld; use the tokenizer that belongs to it",
                         (long long)bif_tokenizer_vocab(tokenizer), (long long)vocab));
    }
    BIF_TRY(bif_model_check(out, "model"));
done:
    return st;
}

/* Allocates, draws, and loads in the order of the recipe: the whole model first, then parts. */
static bif_status load_parts(const bif_config *config, const bif_model_paths *paths, bif_params *params)
{
    const struct {
        const char *key, *path;
        unsigned groups;
    } parts[] = {
        {"model.init", paths->init, ~0u},
        {"model.encoder", paths->encoder, 1u << BIF_GROUP_ENCODER},
        {"model.decoder", paths->decoder, 1u << BIF_GROUP_DECODER},
        {"model.projector", paths->projector, 1u << BIF_GROUP_PROJECTOR},
    };
    bif_status st = BIF_OK;
    unsigned drawn = ~0u, replaced = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        drawn &= parts[i].path == NULL ? ~0u : ~parts[i].groups;
        replaced |= parts[i].path == NULL || i == 0 ? 0 : parts[i].groups;
    }
    const bool with_tower = paths->init != NULL && beside_of(paths, paths->init).tower != NULL; /* then model.init brings it */
    replaced &= with_tower ? ~(1u << BIF_GROUP_ENCODER) : ~0u;
    /* A folder may lack the sigmoid loss's bias, and adapters are new. */
    bif_params_init(params, (uint64_t)config->seed, drawn | 1u << BIF_GROUP_JOINT | 1u << BIF_GROUP_LORA);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].path == NULL || (with_tower && parts[i].path == paths->encoder)) {
            continue;
        }
        /* The whole may lack what a part brings. */
        const bif_beside beside = beside_of(paths, parts[i].path);
        BIF_TRY(bif_hf_load_with(parts[i].path, &beside, params, i == 0 ? ~(replaced | 1u << BIF_GROUP_LORA) : parts[i].groups));
        bif_info("%s: loaded from %s", parts[i].key, parts[i].path);
    }
done:
    return st;
}

static void set_rates(const bif_config *config, bif_params *params)
{
    const double group_lr[BIF_GROUPS] = {[BIF_GROUP_ENCODER] = config->optimizer.encoder_lr,
                                         [BIF_GROUP_PROJECTOR] = config->optimizer.projector_lr,
                                         [BIF_GROUP_DECODER] = config->optimizer.decoder_lr};
    for (int64_t i = 0; i < params->count; i++) {
        const double lr = group_lr[params->items[i].group];
        params->items[i].lr = lr > 0.0 ? lr : config->optimizer.lr;
    }
}

bif_status bif_choose_dtype(bif_precision precision, const bif_device *device, bif_dtype *out)
{
    const bool cpu = device->kind == BIF_DEVICE_CPU;
    *out = precision == BIF_PRECISION_FP32 || cpu ? BIF_DTYPE_F32 : BIF_DTYPE_BF16;
    if (precision == BIF_PRECISION_BF16 && cpu) {
        return bif_fail(BIF_ERR_CONFIG, "precision is bf16, but the device (%s) computes in fp32; set precision to auto or fp32, or device to "
                        "cuda", device->name);
    }
    return BIF_OK;
}

void bif_declare_trained_vlm(const bif_config *config, const bif_model_config *model, bif_dtype dtype, bif_vlm *out)
{
    bif_vlm_declare(out, model);
    bif_params_set_dtype(&out->params, dtype);
    bif_params_train_group(&out->params, BIF_GROUP_ENCODER, config->model.train_encoder);
    bif_params_train_group(&out->params, BIF_GROUP_PROJECTOR, config->model.train_projector);
    bif_params_train_group(&out->params, BIF_GROUP_DECODER, config->model.train_decoder);
    for (int64_t i = 0; i < out->params.count; i++) {
        bif_param *p = &out->params.items[i];
        p->trainable = p->trainable && bif_vlm_uses(out, p);
    }
    set_rates(config, &out->params);
}

void bif_declare_trained_clip(const bif_config *config, const bif_model_config *model, bif_dtype dtype, bif_clip *out)
{
    bif_clip_declare(out, model);
    bif_params_set_dtype(&out->params, dtype);
    for (int group = 0; group < BIF_GROUPS; group++) {
        bif_params_train_group(&out->params, (bif_group)group, group != BIF_GROUP_ENCODER || config->model.train_encoder);
    }
    if (config->clip.lock != BIF_LOCK_NONE) { /* as open_clip locks a tower: with its projection */
        const bool image = config->clip.lock == BIF_LOCK_IMAGE;
        bif_params_train_group(&out->params, image ? BIF_GROUP_ENCODER : BIF_GROUP_TEXT, false);
        bif_param *projection = image ? out->visual_projection : out->text_projection;
        if (projection != NULL) {
            projection->trainable = false;
        }
    }
    set_rates(config, &out->params);
    out->logit_scale->max = (float)config->clip.logit_scale_max; /* open_clip: 0 <= log scale <= ln 100 */
    out->logit_scale->min = fminf(0.0f, out->logit_scale->max);
}

bif_status bif_build_vlm(const bif_config *config, const bif_model_paths *paths, const bif_model_config *model, int world,
                         bif_device *device, bif_vlm *out)
{
    bif_status st = BIF_OK;
    bif_dtype dtype = BIF_DTYPE_F32;
    BIF_TRY(bif_choose_dtype(config->precision, device, &dtype));
    bif_declare_trained_vlm(config, model, dtype, out);
    bif_vlm_drop(out, (uint64_t)config->seed);
    BIF_TRY(bif_vlm_allocate(out, device, world));
    BIF_TRY(load_parts(config, paths, &out->params));
done:
    return st;
}

bif_status bif_build_clip(const bif_config *config, const bif_model_paths *paths, const bif_model_config *model, int world,
                          bif_device *device, bif_clip *out)
{
    bif_status st = BIF_OK;
    bif_dtype dtype = BIF_DTYPE_F32;
    BIF_TRY(bif_choose_dtype(config->precision, device, &dtype));
    bif_declare_trained_clip(config, model, dtype, out);
    BIF_TRY(bif_clip_allocate(out, device, world));
    BIF_TRY(load_parts(config, paths, &out->params));
done:
    return st;
}

bif_status bif_build_chat(const bif_model_config *model, const bif_tokenizer *tokenizer, const char *template_name, const char *system,
                          const char *image_place, int64_t max_tokens, bool truncate, bif_chat *out)
{
    bif_status st = BIF_OK;
    *out = (bif_chat){.tokenizer = tokenizer, .system = system, .max_tokens = max_tokens, .truncate = truncate, .image = -1};
    BIF_TRY(bif_template_by_name(template_name, &out->kind));
    BIF_TRY(bif_image_place_by_name(image_place, &out->image_place));
    if (model->kind == BIF_MODEL_CLIP) {
        out->bos = model->text.bos;
        out->eos = model->text.eos;
        if (model->text.family == BIF_TOWER_SIGLIP) {
            out->pad = model->text.pad;
            out->pad_to = model->text.positions;
            out->pad_left = bif_tokenizer_named(tokenizer).pad_left;
            if (max_tokens != model->text.positions) {
                BIF_TRY(bif_fail(BIF_ERR_CONFIG, "a SigLIP text tower reads texts of %lld tokens, all of them; set data.max_tokens to that",
                                 (long long)model->text.positions));
            }
        }
    } else {
        out->bos = model->decoder.bos;
        out->eos = model->decoder.eos;
    }
    if (model->kind == BIF_MODEL_LLAVA) {
        out->image = model->image_token;
        out->image_tokens = bif_tokens_per_image(model);
    }
    if (out->eos < 0) {
        st = bif_fail(BIF_ERR_CONFIG, "the model's config.json names no eos_token_id, so an answer could not end; add it");
        goto done;
    }
    const int32_t stop = bif_chat_stop(out);
    if (model->kind != BIF_MODEL_CLIP && (stop >= bif_decoder_classes(&model->decoder) || out->bos >= bif_decoder_classes(&model->decoder))) {
        st = bif_fail(BIF_ERR_CONFIG, "template %s ends an answer with token %d and begins with %d, but the model only knows %lld tokens; use "
                      "another template, or the tokenizer that belongs to the model", bif_template_name(out->kind), stop, out->bos,
                      (long long)bif_decoder_classes(&model->decoder));
    }
done:
    return st;
}

bif_status bif_longest(const bif_config *config, const bif_model_config *model, int64_t *out)
{
    const int64_t positions = model->kind == BIF_MODEL_CLIP ? model->text.positions : model->decoder.positions;
    *out = config->data.max_tokens > 0 ? config->data.max_tokens : positions < 2048 ? positions : 2048;
    return *out <= positions ? BIF_OK
                             : bif_fail(BIF_ERR_CONFIG, "data.max_tokens is %lld, but the model has only %lld positions", (long long)*out,
                                        (long long)positions);
}

const char *bif_image_fit(const bif_model_config *model, const char *otherwise)
{
    return model->vit.family == BIF_TOWER_SIGLIP ? "squash" : otherwise;
}

bif_status bif_build_preprocess(const bif_model_config *model, const char *image_fit, bif_preprocess *out)
{
    *out = model->vit.family == BIF_TOWER_SIGLIP ? bif_preprocess_siglip(model->vit.image) : bif_preprocess_clip(model->vit.image);
    if (strcmp(image_fit, "crop") == 0) {
        out->fit = BIF_FIT_CROP;
    } else if (strcmp(image_fit, "pad") == 0) {
        out->fit = BIF_FIT_PAD;
    } else if (strcmp(image_fit, "squash") == 0) {
        out->fit = BIF_FIT_SQUASH;
    } else {
        return bif_fail(BIF_ERR_CONFIG, "data.image_fit: '%s' is unknown; use crop, pad or squash", image_fit);
    }
    return BIF_OK;
}

bif_status bif_build_table(const bif_preprocess *preprocess, bif_device *device, bif_vit *vit)
{
    float table[3 * 256];
    const bif_status st = bif_preprocess_table(preprocess, table);
    return st == BIF_OK ? bif_vit_set_table(vit, device, table) : st;
}
