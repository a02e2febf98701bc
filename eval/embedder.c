#include "eval/embedder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "kernels/convert.h"
#include "train/hf_folder.h"

#define TOWER_PREFIX "vision_tower.vision_model."
#define CHUNK ((size_t)4 << 20)

struct bif_embedder {
    bif_embedder_options options;
    bif_session session; /* a pair: whole. A tower: model, device, preprocess and folder */
    bool pair, pooled;
    int64_t skip;      /* a tower's rows are averaged from this one of each picture on */
    bif_params params; /* of a tower alone or of a LLaVA's */
    bif_vit vit;
    bif_inputs_shape shape;
    bif_feeder feeder;
    bif_batch *batch;
    bif_batch_limits limits;
    bif_arena arena;
    void *memory;
    float *rows; /* a tower's output on the host */
    int64_t width;
    char *image_method, *text_method;
};

/* ---- opening ---- */

/* The tower of a LLaVA, or one alone. */
static bif_status open_tower(bif_embedder *e, const bif_session_options *options, bif_comm *comm)
{
    bif_status st = BIF_OK;
    bif_session *s = &e->session;
    const bif_model_config *m = &s->model;
    bif_dtype dtype = BIF_DTYPE_F32;
    const bool llava = m->kind == BIF_MODEL_LLAVA, siglip = m->vit.family == BIF_TOWER_SIGLIP;
    e->pooled = !llava && (!siglip || m->vit.head);
    e->skip = llava && !siglip && !m->cls_patch ? 1 : 0;
    e->width = m->vit.hidden;
    BIF_TRY(bif_comm_open_device(comm, options->device, bif_comm_threads(comm, options->threads), &s->device));
    BIF_TRY(bif_choose_dtype(options->precision, s->device, &dtype));
    bif_vit_declare(&e->params, &m->vit, TOWER_PREFIX);
    bif_params_set_dtype(&e->params, dtype);
    bif_params_train_group(&e->params, BIF_GROUP_ENCODER, false);
    BIF_TRY(bif_params_allocate(&e->params, s->device, 1));
    BIF_TRY(bif_hf_load_with(s->folder, &options->beside, &e->params, 1u << BIF_GROUP_ENCODER));
    bif_vit_bind(&e->vit, &e->params, &m->vit, TOWER_PREFIX, llava ? bif_feature_blocks(m) : m->vit.layers, e->pooled);
    e->shape = (bif_inputs_shape){.side = m->vit.image, .patches = bif_vit_patches(&m->vit), .no_class = siglip};
    const char *fit = options->image_fit != NULL ? options->image_fit : m->image_fit[0] != '\0' ? m->image_fit
                                                                                               : bif_image_fit(m, llava ? "pad" : "crop");
    BIF_TRY(bif_build_preprocess(m, fit, &s->preprocess));
    BIF_TRY(bif_build_table(&s->preprocess, s->device, &e->vit));
done:
    return st;
}

static bif_status take_memory(bif_embedder *e)
{
    bif_session *s = &e->session;
    const int64_t batch = e->options.batch, side = s->model.vit.image;
    e->limits = (bif_batch_limits){.tokens = e->options.text ? batch * s->model.text.positions : 1,
                                   .sequences = batch,
                                   .images = e->options.image ? batch : 0,
                                   .image_size = side};
    e->batch = bif_batch_new(&e->limits);
    size_t size = 0;
    if (e->pair) {
        size = bif_clip_measure(&s->clip, s->device, &e->limits, false);
    } else {
        bif_arena arena = bif_arena_measure("embeddings");
        bif_vit_plan(&e->vit, &arena, batch, BIF_KEEP_NOTHING);
        size = arena.peak;
        e->rows = bif_calloc((size_t)(batch * (e->pooled ? 1 : bif_vit_rows(&s->model.vit)) * e->width), sizeof *e->rows);
    }
    const bif_status st = s->device->alloc(s->device, size, &e->memory);
    e->arena = bif_arena_over("embeddings", e->memory, size);
    return st;
}

/* Over the names and values of the table. */
static void digest_weights(const bif_params *params, bif_device *device, char hex[33])
{
    bif_digest *digest = bif_digest_new();
    char *chunk = bif_malloc(CHUNK);
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        const size_t size = bif_bytes(&p->value);
        bif_digest_update(digest, p->name, strlen(p->name) + 1);
        for (size_t at = 0; at < size; at += CHUNK) {
            const size_t part = size - at < CHUNK ? size - at : CHUNK;
            device->copy_out(device, chunk, (const char *)p->value.data + at, part);
            bif_digest_update(digest, chunk, part);
        }
    }
    free(chunk);
    bif_digest_finish(digest, hex);
}

/* Of the tokenizer's file, and of merges.txt beside a vocab.json. */
static bif_status digest_tokenizer(const bif_session *s, const bif_session_options *options, char hex[33])
{
    bif_status st = BIF_OK;
    char *path = options->tokenizer == NULL              ? bif_hf_tokenizer(s->folder, &options->beside)
                 : bif_is_folder(options->tokenizer)     ? bif_tokenizer_in(options->tokenizer)
                                                         : bif_strdup(options->tokenizer);
    char *folder = path != NULL ? bif_path_parent(path) : NULL, *merges = NULL;
    char other[33] = "";
    BIF_BUG_IF(path == NULL, "%s: a tokenizer without a file", s->folder);
    BIF_TRY(bif_digest_file(path, hex, NULL));
    merges = bif_path_join(folder, "merges.txt");
    if (strcmp(bif_path_base(path), "vocab.json") == 0 && bif_exists(merges)) {
        BIF_TRY(bif_digest_file(merges, other, NULL));
        char *both = bif_format("%s %s", hex, other);
        bif_digest_bytes(both, strlen(both), hex);
        free(both);
    }
done:
    free(path);
    free(folder);
    free(merges);
    return st;
}

static bif_status describe(bif_embedder *e, const bif_session_options *options)
{
    static const char *const fits[] = {[BIF_FIT_CROP] = "crop", [BIF_FIT_PAD] = "pad", [BIF_FIT_SQUASH] = "squash"};
    bif_status st = BIF_OK;
    bif_session *s = &e->session;
    const bif_params *params = e->pair ? &s->clip.params : &e->params;
    const bif_preprocess *p = &s->preprocess;
    char weights[33], words[33];
    digest_weights(params, s->device, weights);
    const char *what = e->pair                                ? "image of a pair"
                       : e->pooled                            ? "image, pooled by a tower"
                       : s->model.kind == BIF_MODEL_LLAVA     ? "image, mean of the features of a LLaVA's tower"
                                                              : "image, mean of a tower's last rows";
    if (e->options.image) {
        e->image_method = bif_format("embed 1: %s; weights %s; bicubic %s %lld, mean %.9g %.9g %.9g, deviation %.9g %.9g %.9g; %s", what,
                                     weights, fits[p->fit], (long long)p->size, (double)p->mean[0], (double)p->mean[1], (double)p->mean[2],
                                     (double)p->std[0], (double)p->std[1], (double)p->std[2], bif_precision_name(params->dtype));
    }
    if (e->options.text) {
        BIF_TRY(digest_tokenizer(s, options, words));
        e->text_method = bif_format("embed 1: text of a pair; weights %s; tokenizer %s, %lld tokens; %s", weights, words,
                                    (long long)s->chat.max_tokens, bif_precision_name(params->dtype));
    }
done:
    return st;
}

static bif_status open_parts(bif_embedder *e, const bif_session_options *options, bif_comm *comm)
{
    bif_status st = BIF_OK;
    if (!e->pair) {
        BIF_TRY(open_tower(e, options, comm));
    }
    BIF_TRY(take_memory(e));
    BIF_TRY(describe(e, options));
done:
    return st;
}

bif_status bif_embedder_open(const char *path, const bif_session_options *session, const bif_embedder_options *options, bif_comm *comm,
                             bif_embedder **out)
{
    bif_status st = BIF_OK;
    bif_embedder *e = bif_calloc(1, sizeof *e);
    char *folder = NULL;
    bif_model_config config;
    *out = NULL;
    e->options = *options;
    BIF_TRY(bif_resolve_model(comm, "checkpoint", path, &folder));
    BIF_TRY(bif_comm_agree(comm, bif_hf_config_read_with(folder, &session->beside, &config)));
    e->pair = config.kind == BIF_MODEL_CLIP && config.text.hidden > 0;
    if (config.kind == BIF_MODEL_DECODER) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s is a decoder alone: it sees no pictures", folder));
    }
    if (!options->image && !options->text) {
        e->options.image = true;
        e->options.text = e->pair;
    }
    if (options->text && !e->pair) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s is no CLIP or SigLIP pair: it embeds pictures (--image), not texts", folder));
    }
    if (e->pair) {
        BIF_TRY(bif_session_open(path, 1u << BIF_MODEL_CLIP, session, comm, &e->session));
        e->width = e->session.model.projection;
    } else {
        e->session.model = config;
        e->session.folder = folder;
        folder = NULL;
    }
    BIF_TRY(bif_comm_agree(comm, open_parts(e, session, comm)));
    *out = e;
    e = NULL;
done:
    free(folder);
    bif_embedder_close(e);
    return st;
}

void bif_embedder_close(bif_embedder *e)
{
    if (e == NULL) {
        return;
    }
    bif_device *device = e->session.device;
    if (e->memory != NULL) {
        device->release(device, e->memory);
    }
    bif_batch_free(e->batch);
    if (e->pair) {
        bif_session_close(&e->session);
    } else {
        bif_vit_unbind(&e->vit);
        if (device != NULL) {
            bif_feeder_free(&e->feeder, device);
        }
        bif_params_free(&e->params);
        bif_device_close(device);
        free(e->session.folder);
    }
    free(e->rows);
    free(e->image_method);
    free(e->text_method);
    free(e);
}

/* ---- work ---- */

int64_t bif_embedder_width(const bif_embedder *e)
{
    return e->width;
}

const char *bif_embedder_image_method(const bif_embedder *e)
{
    return e->image_method;
}

const char *bif_embedder_text_method(const bif_embedder *e)
{
    return e->text_method;
}

const bif_preprocess *bif_embedder_preprocess(const bif_embedder *e)
{
    return &e->session.preprocess;
}

int64_t bif_embedder_batch(const bif_embedder *e)
{
    return e->options.batch;
}

uint8_t *bif_embedder_pixels(bif_embedder *e)
{
    bif_batch_clear(e->batch);
    return e->batch->pixels;
}

/* The mean of a picture's rows, or its only one, scaled to length 1; in doubles, row by row. */
static void mean_of_rows(const float *rows, int64_t count, int64_t width, float *out)
{
    double square = 0.0, *sum = bif_calloc((size_t)width, sizeof *sum);
    for (int64_t r = 0; r < count; r++) {
        for (int64_t c = 0; c < width; c++) {
            sum[c] += (double)rows[r * width + c];
        }
    }
    for (int64_t c = 0; c < width; c++) {
        square += sum[c] * sum[c];
    }
    for (int64_t c = 0; c < width; c++) {
        out[c] = square > 0.0 ? (float)(sum[c] / sqrt(square)) : 0.0f;
    }
    free(sum);
}

static void tower_images(bif_embedder *e, int64_t count, float *out)
{
    bif_device *device = e->session.device;
    const int64_t rows = e->pooled ? 1 : bif_vit_rows(&e->session.model.vit), width = e->width;
    bif_tensor hidden = {0}, pooled = {0};
    bif_arena_release(&e->arena, 0);
    bif_vit_acts acts = bif_vit_plan(&e->vit, &e->arena, count, BIF_KEEP_NOTHING);
    const bif_inputs *in = bif_feeder_take(&e->feeder, device, &e->shape, e->batch, 1.0f);
    bif_vit_forward(&e->vit, device, &acts, in, &hidden, &pooled);
    bif_feeder_done(&e->feeder, device);
    bif_copy_out_f32(device, e->rows, e->pooled ? &pooled : &hidden);
    for (int64_t i = 0; i < count; i++) {
        mean_of_rows(e->rows + (i * rows + e->skip) * width, rows - e->skip, width, out + i * width);
    }
}

void bif_embedder_images(bif_embedder *e, int64_t count, float *out)
{
    BIF_BUG_IF(count < 1 || count > e->options.batch, "%lld pictures at a time, not %lld", (long long)count, (long long)e->options.batch);
    e->batch->images = count;
    if (e->pair) {
        bif_tensor rows;
        bif_clip_forward(&e->session.clip, e->session.device, &e->arena, e->batch, false, &rows, NULL);
        e->session.device->copy_out(e->session.device, out, rows.data, bif_bytes(&rows));
    } else {
        tower_images(e, count, out);
    }
}

void bif_embedder_begin_texts(bif_embedder *e)
{
    bif_batch_clear(e->batch);
}

bool bif_embedder_add_text(bif_embedder *e, const char *where, const char *text, size_t size)
{
    bif_ids ids = {0}, labels = {0};
    const bif_status st = bif_chat_caption(&e->session.chat, where, text, size, true, &ids);
    if (st == BIF_OK) {
        for (size_t i = 0; i < ids.count; i++) {
            bif_ids_push(&labels, BIF_LABEL_NONE);
        }
        const struct bif_encoded_view view = {.ids = ids.ids, .labels = labels.ids, .count = (int64_t)ids.count};
        BIF_BUG_IF(!bif_batch_add(e->batch, &e->limits, &view, NULL, 0), "a text of %zu tokens does not fit", ids.count);
    }
    bif_ids_free(&ids);
    bif_ids_free(&labels);
    return st == BIF_OK;
}

void bif_embedder_texts(bif_embedder *e, float *out)
{
    bif_tensor rows;
    if (e->batch->sequences > 0) {
        bif_clip_forward(&e->session.clip, e->session.device, &e->arena, e->batch, false, NULL, &rows);
        e->session.device->copy_out(e->session.device, out, rows.data, bif_bytes(&rows));
    }
}
