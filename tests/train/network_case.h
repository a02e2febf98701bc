/* A tiny model with the weights of a golden file (tests/golden/make_networks.py), its batch and arena. */
#pragma once
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/build.h"
#include "train/networks.h"
#include "train/safetensors.h"

static inline bif_safetensors *golden_open(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/golden/networks/%s.safetensors", getenv("BIFOCAL_TESTS"), name);
    bif_safetensors *file = NULL;
    cr_assert_eq(bif_safetensors_open(path, &file), BIF_OK, "%s", bif_error_message());
    return file;
}

/* The tensor prefix + name as floats, or NULL when the file has none; the caller frees. */
static inline float *golden_floats(const bif_safetensors *file, const char *prefix, const char *name, int64_t *count)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const bif_st_entry *entry = bif_safetensors_find(file, full);
    if (entry == NULL) {
        return NULL;
    }
    *count = (int64_t)(entry->bytes / bif_dtype_size(entry->dtype));
    float *out = bif_malloc((size_t)*count * sizeof *out);
    cr_assert_eq(bif_safetensors_read_f32(file, entry, out), BIF_OK, "%s", bif_error_message());
    return out;
}

static inline int32_t *golden_ints(const bif_safetensors *file, const char *name, int64_t *count)
{
    const bif_st_entry *entry = bif_safetensors_find(file, name);
    cr_assert(entry != NULL && entry->dtype == BIF_DTYPE_I32, "%s", name);
    *count = (int64_t)(entry->bytes / sizeof(int32_t));
    int32_t *out = bif_malloc(entry->bytes + sizeof *out);
    memcpy(out, entry->data, entry->bytes);
    return out;
}

/* The file's pictures u8 [images, S, S, 3], or NULL. */
static inline uint8_t *golden_pixels(const bif_safetensors *file, int64_t side, int64_t *images)
{
    const bif_st_entry *entry = bif_safetensors_find(file, "in.pixels");
    if (entry == NULL) {
        return NULL;
    }
    cr_assert(entry->dtype == BIF_DTYPE_U8 && entry->rank == 4 && entry->dim[1] == side && entry->dim[3] == 3);
    *images = entry->dim[0];
    uint8_t *out = bif_malloc(entry->bytes);
    memcpy(out, entry->data, entry->bytes);
    return out;
}

/* The normalisation of the tower's family, by which make_networks.py and make_siglip.py made the pictures' values. */
static inline void set_table(bif_vit *vit, bif_device *device)
{
    const bool siglip = vit->config.family == BIF_TOWER_SIGLIP;
    const bif_preprocess preprocess = siglip ? bif_preprocess_siglip(vit->config.image) : bif_preprocess_clip(vit->config.image);
    cr_assert_eq(bif_build_table(&preprocess, device, vit), BIF_OK, "%s", bif_error_message());
}

/* The file's batch, every array owned by it. */
static inline bif_batch golden_batch(const bif_safetensors *file, int64_t image_side)
{
    bif_batch b = {0};
    int64_t count;
    b.ids = golden_ints(file, "in.ids", &b.tokens);
    b.labels = golden_ints(file, "in.labels", &count);
    b.image_row = golden_ints(file, "in.image_row", &count);
    b.cu_seqlens = golden_ints(file, "in.cu_seqlens", &count);
    b.sequences = count - 1;
    b.pixels = golden_pixels(file, image_side, &b.images);
    b.pos = bif_calloc((size_t)b.tokens, sizeof *b.pos);
    b.rows = bif_calloc((size_t)b.tokens, sizeof *b.rows);
    b.targets = bif_calloc((size_t)b.tokens, sizeof *b.targets);
    b.eot = bif_calloc((size_t)b.sequences, sizeof *b.eot);
    for (int64_t s = 0; s < b.sequences; s++) {
        for (int32_t t = b.cu_seqlens[s]; t < b.cu_seqlens[s + 1]; t++) {
            b.pos[t] = t - b.cu_seqlens[s];
            if (t + 1 < b.cu_seqlens[s + 1] && b.labels[t + 1] != -100) {
                b.rows[b.supervised] = t;
                b.targets[b.supervised++] = b.labels[t + 1];
            }
        }
        b.eot[s] = b.cu_seqlens[s + 1] - 1;
    }
    return b;
}

static inline void batch_free(bif_batch *b)
{
    void *const parts[] = {b->ids, b->labels, b->image_row, b->cu_seqlens, b->pixels,
                           b->pos, b->rows,   b->targets,   b->eot};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        free(parts[i]);
    }
}

static inline bif_batch_limits limits_of(const bif_batch *b, const bif_model_config *config)
{
    return (bif_batch_limits){.tokens = b->tokens,
                              .sequences = b->sequences,
                              .images = b->images,
                              .image_size = config->vit.image,
                              .tokens_per_image = config->kind == BIF_MODEL_LLAVA ? bif_tokens_per_image(config) : 0};
}

static inline void load_weights(bif_params *params, const bif_safetensors *file)
{
    for (int64_t i = 0; i < params->count; i++) {
        bif_param *p = &params->items[i];
        int64_t count = 0;
        float *values = golden_floats(file, "w.", p->name, &count);
        cr_assert(values != NULL && count == bif_numel(&p->value), "%s", p->name);
        memcpy(p->value.data, values, bif_bytes(&p->value));
        free(values);
    }
}

/* ||a - b|| <= tolerance * ||b|| + floor * sqrt(count); NaN fails. The floor is for gradients that are 0 but for
 * rounding (a key bias). */
static inline void expect_close(const char *what, const float *a, const float *b, int64_t count, double tolerance,
                                double floor)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        const double d = (double)a[i] - (double)b[i];
        difference += d * d;
        size += (double)b[i] * (double)b[i];
    }
    cr_expect(sqrt(difference) <= tolerance * sqrt(size) + floor * sqrt((double)count),
              "%s: relative L2 error %.3g of %.3g", what, sqrt(difference / size), sqrt(size));
}

/* Every gradient of the table against the file; one the file lacks must be all zero. */
static inline void expect_gradients(const bif_params *params, const bif_safetensors *file, double tolerance)
{
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        int64_t count = bif_numel(&p->value);
        float *wanted = golden_floats(file, "g.", p->name, &count);
        if (wanted == NULL) {
            wanted = bif_calloc((size_t)count, sizeof *wanted);
        }
        cr_assert_eq(count, bif_numel(&p->value), "%s", p->name);
        expect_close(p->name, p->grad.data, wanted, count, tolerance, 1e-7);
        free(wanted);
    }
}

static inline bif_arena arena_of(bif_device *device, size_t size)
{
    void *memory = NULL;
    cr_assert_eq(device->alloc(device, size, &memory), BIF_OK, "%s", bif_error_message());
    return bif_arena_over("test", memory, size);
}

/* The models of the golden files. */
static inline bif_model_config case_config(const char *name)
{
    const bif_decoder_config decoder = {.hidden = 16,
                                        .layers = 2,
                                        .heads = 2,
                                        .kv_heads = 2,
                                        .head_dim = 8,
                                        .inner = 24,
                                        .vocab = 64,
                                        .positions = 128,
                                        .eps = 1e-5f,
                                        .rope_theta = 10000,
                                        .bos = -1,
                                        .eos = -1};
    const bif_vit_config vit = {.hidden = 16,
                                .layers = 2,
                                .heads = 2,
                                .inner = 32,
                                .patch = 4,
                                .image = 16,
                                .eps = 1e-5f,
                                .act = BIF_ACT_QUICK_GELU};
    const bif_vit_config siglip = {.hidden = 18, /* 4 x 4 patches and a rest of 2 */
                                   .layers = 3,
                                   .heads = 3,
                                   .inner = 20,
                                   .patch = 4,
                                   .image = 18,
                                   .eps = 1e-6f,
                                   .act = BIF_ACT_GELU_TANH,
                                   .family = BIF_TOWER_SIGLIP,
                                   .head = true};
    bif_model_config c = {
        .kind = BIF_MODEL_DECODER, .decoder = decoder, .vit = vit, .image_token = 60, .pad_token = -1};
    if (strcmp(name, "clip") == 0) {
        c.kind = BIF_MODEL_CLIP;
        c.text = (bif_text_config){.hidden = 16,
                                   .layers = 2,
                                   .heads = 2,
                                   .inner = 24,
                                   .vocab = 64,
                                   .positions = 12,
                                   .eps = 1e-5f,
                                   .act = BIF_ACT_QUICK_GELU,
                                   .bos = 62,
                                   .eos = 63};
        c.projection = 12;
    } else if (strcmp(name, "siglip") == 0) {
        c.kind = BIF_MODEL_CLIP;
        c.vit = siglip;
        c.vit.layers = 2;
        c.text = (bif_text_config){.hidden = 16,
                                   .layers = 2,
                                   .heads = 2,
                                   .inner = 24,
                                   .vocab = 64,
                                   .positions = 12,
                                   .eps = 1e-6f,
                                   .act = BIF_ACT_GELU_TANH,
                                   .bos = -1,
                                   .eos = 1,
                                   .family = BIF_TOWER_SIGLIP,
                                   .pad = 1};
        c.projection = 18;
        c.logit_bias = true;
    } else if (strcmp(name, "llama_gqa") == 0) {
        c.decoder.heads = 4;
        c.decoder.eps = 1e-6f;
        c.decoder.tied = c.decoder.qkv_bias = c.decoder.o_bias = true;
        c.decoder.rope_theta = 500;
    } else if (strcmp(name, "llama3") == 0) { /* positions up to 35 */
        c.decoder.kv_heads = 1;
        c.decoder.tied = true;
        c.decoder.rope_theta = 100;
        c.decoder.rope = (bif_rope_scaling){.kind = BIF_ROPE_LLAMA3, .factor = 8, .low = 0.5f, .high = 2, .original = 16};
    } else if (strcmp(name, "mistral") == 0) {
        c.decoder.heads = 4;
        c.decoder.kv_heads = 1;
        c.decoder.head_dim = 4;
    } else if (strcmp(name, "qwen2") == 0 || strcmp(name, "llava_qwen2") == 0) {
        c.decoder.heads = 4;
        c.decoder.head_dim = 4;
        c.decoder.eps = 1e-6f;
        c.decoder.qkv_bias = true;
    } else if (strcmp(name, "qwen3") == 0) {
        c.decoder.heads = 4;
        c.decoder.eps = 1e-6f;
        c.decoder.qk_norm = c.decoder.tied = true;
    }
    if (strncmp(name, "lora_", 5) == 0) { /* make_lora.py */
        c.decoder.heads = 4;
        c.decoder.head_dim = 4;
        c.decoder.lora = (bif_lora_config){.rank = 4, .alpha = 8, .dropout = 0.25f, .targets = (1u << BIF_LORA_TARGETS) - 1};
    }
    if (strcmp(name, "lora_qwen3") == 0) {
        c.decoder.head_dim = 8;
        c.decoder.eps = 1e-6f;
        c.decoder.qk_norm = c.decoder.tied = true;
        c.decoder.lora = (bif_lora_config){.rank = 3, .alpha = 5, .targets = 1u << BIF_LORA_Q | 1u << BIF_LORA_V | 1u << BIF_LORA_UP};
    }
    if (strncmp(name, "llava", 5) == 0) {
        c.kind = BIF_MODEL_LLAVA;
        c.projector = (bif_projector_config){.kind = BIF_PROJECTOR_MLP, .depth = 2, .in = 16, .out = 16};
        c.feature_layer = -2;
        c.vit.layers = 3;
    }
    if (strcmp(name, "llava_siglip") == 0) {
        c.vit = siglip;
        c.projector.in = siglip.hidden;
    }
    if (strcmp(name, "llava_qwen2") == 0) {
        c.decoder.tied = c.cls_patch = true;
        c.feature_layer = -1;
        c.vit.layers = 2;
    }
    return c;
}

typedef struct {
    bif_device *device;
    bif_safetensors *file;
    bif_vlm vlm;
    bif_batch batch;
    bif_arena arena;
} network_case;

/* frozen: a mask of groups (1 << group). */
static inline network_case case_open(const char *name, unsigned frozen)
{
    network_case c = {.file = golden_open(name)};
    const bif_model_config config = case_config(name);
    cr_assert_eq(bif_device_open("cpu", 2, &c.device), BIF_OK, "%s", bif_error_message());
    bif_vlm_declare(&c.vlm, &config);
    for (int group = 0; group < BIF_GROUPS; group++) {
        bif_params_train_group(&c.vlm.params, (bif_group)group, (frozen & 1u << group) == 0);
    }
    cr_assert_eq(bif_vlm_allocate(&c.vlm, c.device, 1), BIF_OK, "%s", bif_error_message());
    load_weights(&c.vlm.params, c.file);
    if (config.kind == BIF_MODEL_LLAVA) {
        set_table(&c.vlm.vit, c.device);
    }
    c.batch = golden_batch(c.file, config.vit.image);
    const bif_batch_limits limits = limits_of(&c.batch, &config);
    c.arena = arena_of(c.device, bif_vlm_measure(&c.vlm, c.device, &limits, true));
    return c;
}

static inline void case_close(network_case *c)
{
    c->device->release(c->device, c->arena.base);
    batch_free(&c->batch);
    bif_vlm_free(&c->vlm);
    bif_safetensors_close(c->file);
    bif_device_close(c->device);
}
