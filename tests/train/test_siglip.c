/* What only pairs of SigLIP have: texts of one length whose tokens the tokenizer names, a pooling head, patches dropped without a class
 * token. */
#include "base/file.h"
#include "tests/train/network_case.h"

static bif_tokenizer *golden_tokenizer(void)
{
    char path[1024];
    bif_tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/golden/tokens/siglip", getenv("BIFOCAL_TESTS"));
    cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
    return t;
}

static void expect_ids(const bif_ids *got, const int32_t *wanted, size_t count, const char *what)
{
    cr_assert_eq(got->count, count, "%s: %zu ids", what, got->count);
    cr_expect_arr_eq(got->ids, wanted, count * sizeof *wanted, "%s", what);
}

Test(siglip, captions)
{
    bif_tokenizer *t = golden_tokenizer();
    bif_model_config model = case_config("siglip");
    bif_chat chat;
    model.text.vocab = bif_tokenizer_vocab(t);
    model.text.eos = -1;
    model.text.pad = 40;
    cr_assert_eq(bif_build_text_tokens(t, &model.text), BIF_OK, "%s", bif_error_message());
    cr_expect(model.text.bos == -1 && model.text.eos == 1 && model.text.pad == 1, "eos %d, pad %d", model.text.eos, model.text.pad);
    cr_assert_eq(bif_build_chat(&model, t, "plain", NULL, "front", 12, true, &chat), BIF_OK, "%s", bif_error_message());
    bif_ids plain = {0}, ids = {0};
    int32_t wanted[12];
    cr_assert_eq(bif_tokenizer_encode(t, "the dog", 7, false, &plain), BIF_OK);
    cr_assert(plain.count > 1 && plain.count < 8, "%zu", plain.count);
    for (size_t i = 0; i < 12; i++) {
        wanted[i] = i < plain.count ? plain.ids[i] : 1;
    }
    cr_assert_eq(bif_chat_caption(&chat, "here", "The, dog!", 9, false, &ids), BIF_OK, "%s", bif_error_message());
    expect_ids(&ids, wanted, 12, "padded to the end");
    ids.count = 0;
    chat.pad_left = true;
    chat.pad = 0;
    for (size_t i = 0; i < 12; i++) { /* 0 0 ... the dog 1 */
        wanted[i] = i < 11 - plain.count ? 0 : i < 11 ? plain.ids[i - (11 - plain.count)] : 1;
    }
    cr_assert_eq(bif_chat_caption(&chat, "here", "the DOG", 7, false, &ids), BIF_OK);
    expect_ids(&ids, wanted, 12, "padded in front");
    const char *const lengthy = "the dog and the dog and the dog and the dog and the dog and the dog";
    cr_expect_eq(bif_chat_caption(&chat, "here", lengthy, strlen(lengthy), false, &ids), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "limit 12"), "%s", bif_error_message());
    ids.count = plain.count = 0;
    cr_assert_eq(bif_tokenizer_encode(t, lengthy, strlen(lengthy), false, &plain), BIF_OK);
    plain.ids[11] = 1;
    cr_assert_eq(bif_chat_caption(&chat, "here", lengthy, strlen(lengthy), true, &ids), BIF_OK);
    expect_ids(&ids, plain.ids, 12, "cut");
    cr_expect_eq(bif_build_chat(&model, t, "plain", NULL, "front", 11, true, &chat), BIF_ERR_CONFIG, "all its positions are wanted");
    model.text.vocab = 1;
    cr_expect_eq(bif_build_text_tokens(t, &model.text), BIF_ERR_CONFIG);
    bif_ids_free(&plain);
    bif_ids_free(&ids);
    bif_tokenizer_free(t);
}

typedef struct {
    bif_device *device;
    bif_safetensors *file;
    bif_clip clip;
    bif_batch batch;
    bif_arena arena;
    float *dimage, *dtext;
} pair;

static pair open_pair(int64_t kept)
{
    pair p = {.file = golden_open("siglip")};
    const bif_model_config config = case_config("siglip");
    int64_t count = 0;
    cr_assert_eq(bif_device_open("cpu", 2, &p.device), BIF_OK);
    bif_clip_declare(&p.clip, &config);
    cr_assert_eq(bif_clip_allocate(&p.clip, p.device, 1), BIF_OK);
    load_weights(&p.clip.params, p.file);
    set_table(&p.clip.vit, p.device);
    p.batch = golden_batch(p.file, config.vit.image);
    bif_clip_drop(&p.clip, kept, 3, 7);
    const bif_batch_limits limits = limits_of(&p.batch, &config);
    p.arena = arena_of(p.device, bif_clip_measure(&p.clip, p.device, &limits, true));
    p.dimage = golden_floats(p.file, "in.", "dimage", &count);
    p.dtext = golden_floats(p.file, "in.", "dtext", &count);
    return p;
}

static void close_pair(pair *p)
{
    free(p->dimage);
    free(p->dtext);
    p->device->release(p->device, p->arena.base);
    batch_free(&p->batch);
    bif_clip_free(&p->clip);
    bif_safetensors_close(p->file);
    bif_device_close(p->device);
}

static double loss_of(pair *p)
{
    bif_tensor image, text;
    double sum = 0;
    bif_clip_forward(&p->clip, p->device, &p->arena, &p->batch, false, &image, &text);
    for (int64_t i = 0; i < bif_numel(&image); i++) {
        sum += (double)((float *)image.data)[i] * p->dimage[i] + (double)((float *)text.data)[i] * p->dtext[i];
    }
    return sum;
}

static void gradients_of(pair *p)
{
    bif_tensor image, text;
    const bif_tensor di = bif_tensor2(p->dimage, BIF_DTYPE_F32, 3, 18), dt = bif_tensor2(p->dtext, BIF_DTYPE_F32, 3, 18);
    bif_clip_acts *acts = bif_clip_forward(&p->clip, p->device, &p->arena, &p->batch, true, &image, &text);
    bif_clip_backward(&p->clip, p->device, &p->arena, acts, &di, &dt);
}

/* Each row of the table is moved along its own gradient: the loss must change by the gradient's length times the way. */
Test(siglip, central_differences_with_dropped_patches)
{
    pair p = open_pair(5);
    gradients_of(&p);
    const double whole = loss_of(&p);
    int checked = 0;
    for (int64_t i = 0; i < p.clip.params.count; i++) {
        bif_param *row = &p.clip.params.items[i];
        const int64_t n = bif_numel(&row->value);
        float *value = row->value.data;
        const float *g = row->grad.data;
        double norm = 0, size = 0;
        for (int64_t k = 0; k < n; k++) {
            norm += (double)g[k] * g[k];
            size += (double)value[k] * value[k];
        }
        norm = sqrt(norm);
        if (norm < 1e-3) { /* a key's bias, the scale and bias of the loss */
            continue;
        }
        const float step = (float)(2e-3 / norm);
        float *saved = bif_malloc((size_t)n * sizeof *saved);
        memcpy(saved, value, (size_t)n * sizeof *saved);
        for (int64_t k = 0; k < n; k++) {
            value[k] = saved[k] + step * g[k];
        }
        const double up = loss_of(&p);
        for (int64_t k = 0; k < n; k++) {
            value[k] = saved[k] - step * g[k];
        }
        const double slope = (up - loss_of(&p)) / (2 * 2e-3);
        memcpy(value, saved, (size_t)n * sizeof *saved);
        free(saved);
        cr_expect(fabs(slope - norm) <= 1e-2 * norm + 2e-3, "%s: %g along a gradient of %g", row->name, slope, norm);
        checked++;
    }
    cr_expect(checked > 60, "%d rows", checked);
    cr_expect_eq(loss_of(&p), whole);
    /* Others are drawn elsewhere, and all of them are what the golden numbers are of. */
    bif_clip_drop(&p.clip, 5, 3, 8);
    cr_expect_neq(loss_of(&p), whole);
    close_pair(&p);
}

/* Freezing and recomputing change no gradient that is left. */
Test(siglip, frozen_towers_and_recomputation)
{
    pair whole = open_pair(0);
    gradients_of(&whole);
    for (int way = 0; way < 3; way++) {
        pair p = {.file = golden_open("siglip")};
        const bif_model_config config = case_config("siglip");
        int64_t count = 0;
        cr_assert_eq(bif_device_open("cpu", 2, &p.device), BIF_OK);
        bif_clip_declare(&p.clip, &config);
        const bif_group frozen = way == 0 ? BIF_GROUP_ENCODER : BIF_GROUP_TEXT;
        if (way < 2) {
            bif_params_train_group(&p.clip.params, frozen, false);
        }
        p.clip.recompute = way == 2;
        cr_assert_eq(bif_clip_allocate(&p.clip, p.device, 1), BIF_OK);
        load_weights(&p.clip.params, p.file);
        set_table(&p.clip.vit, p.device);
        p.batch = golden_batch(p.file, config.vit.image);
        const bif_batch_limits limits = limits_of(&p.batch, &config);
        p.arena = arena_of(p.device, bif_clip_measure(&p.clip, p.device, &limits, true));
        p.dimage = golden_floats(p.file, "in.", "dimage", &count);
        p.dtext = golden_floats(p.file, "in.", "dtext", &count);
        gradients_of(&p);
        for (int64_t i = 0; i < p.clip.params.count; i++) {
            const bif_param *a = &whole.clip.params.items[i], *b = &p.clip.params.items[i];
            cr_expect_eq(b->grad.data == NULL, way < 2 && b->group == frozen, "%s", b->name);
            if (b->grad.data != NULL) {
                cr_expect(memcmp(a->grad.data, b->grad.data, bif_bytes(&a->grad)) == 0, "way %d: %s", way, b->name);
            }
        }
        close_pair(&p);
    }
    close_pair(&whole);
}

Test(siglip, initial_weights)
{
    bif_clip clip;
    bif_model_config config = case_config("siglip");
    config.vit.hidden = config.projection = 768;
    config.vit.heads = 12;
    config.vit.inner = 3072;
    config.logit_scale_init = 2.302585f;
    config.logit_bias_init = -10.0f;
    bif_clip_declare(&clip, &config);
    const struct {
        const char *name;
        bif_init init;
        double scale;
    } rows[] = {{"logit_bias", BIF_INIT_CONSTANT, -10},
                {"text_model.embeddings.token_embedding.weight", BIF_INIT_NORMAL, 0.25},
                {"text_model.head.weight", BIF_INIT_NORMAL, 0.25},
                {"text_model.encoder.layers.0.self_attn.v_proj.weight", BIF_INIT_UNIFORM, sqrt(6.0 / 32)},
                {"vision_model.embeddings.patch_embedding.weight", BIF_INIT_NORMAL, 1 / sqrt(48.0)},
                {"vision_model.embeddings.patch_embedding.bias", BIF_INIT_ZERO, 0},
                {"vision_model.encoder.layers.1.mlp.fc1.weight", BIF_INIT_UNIFORM, sqrt(6.0 / (768 + 3072))},
                {"vision_model.encoder.layers.1.mlp.fc1.bias", BIF_INIT_NORMAL, 1e-6},
                {"vision_model.head.probe", BIF_INIT_UNIFORM, sqrt(6.0 / (2 * 768))},
                {"vision_model.head.attention.in_proj_weight", BIF_INIT_UNIFORM, sqrt(6.0 / (4 * 768))}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const bif_param *p = bif_params_find(&clip.params, rows[i].name);
        cr_assert_not_null(p, "%s", rows[i].name);
        cr_expect_eq(p->init, rows[i].init, "%s", rows[i].name);
        cr_expect_float_eq((double)p->init_scale, rows[i].scale, 1e-6, "%s: %g", rows[i].name, (double)p->init_scale);
    }
    cr_expect_null(bif_params_find(&clip.params, "visual_projection.weight"));
    cr_expect(bif_params_find(&clip.params, "logit_scale")->value.rank == 1, "as in transformers");
    bif_clip_free(&clip);
}
