#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/build.h"

static const bif_model_config llava = {
    .kind = BIF_MODEL_LLAVA,
    .vit = {.hidden = 16, .layers = 3, .heads = 2, .inner = 24, .patch = 8, .image = 16, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
    .decoder = {.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 8, .inner = 24, .vocab = 32, .positions = 64, .eps = 1e-5f,
                .rope_theta = 1e4f, .bos = 1, .eos = 2},
    .projector = {.kind = BIF_PROJECTOR_LINEAR, .depth = 1, .in = 16, .out = 16},
    .image_token = 3,
    .pad_token = -1};

Test(build, precision_by_device_and_request)
{
    const bif_device cpu = {.kind = BIF_DEVICE_CPU, .name = "some cpu"}, gpu = {.kind = BIF_DEVICE_CUDA};
    bif_dtype dtype = BIF_DTYPE_U8;
    cr_expect(bif_choose_dtype(BIF_PRECISION_AUTO, &cpu, &dtype) == BIF_OK && dtype == BIF_DTYPE_F32);
    cr_expect(bif_choose_dtype(BIF_PRECISION_AUTO, &gpu, &dtype) == BIF_OK && dtype == BIF_DTYPE_BF16);
    cr_expect(bif_choose_dtype(BIF_PRECISION_FP32, &gpu, &dtype) == BIF_OK && dtype == BIF_DTYPE_F32);
    cr_expect(bif_choose_dtype(BIF_PRECISION_BF16, &gpu, &dtype) == BIF_OK && dtype == BIF_DTYPE_BF16);
    cr_expect_eq(bif_choose_dtype(BIF_PRECISION_BF16, &cpu, &dtype), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "some cpu"), "%s", bif_error_message());
}

/* What the feature layer leaves out has no gradient; were it trainable, weight decay would shrink it in every checkpoint. */
Test(build, unused_parts_of_a_trained_encoder_stay_frozen)
{
    static const struct {
        int64_t feature_layer, blocks;
    } cases[] = {{-1, 3}, {-2, 2}, {1, 1}, {0, 0}};
    bif_device *device = NULL;
    cr_assert_eq(bif_device_open("cpu", 1, &device), BIF_OK);
    bif_config config = {.seed = 1};
    config.optimizer.lr = 1e-3;
    config.model.train_encoder = config.model.train_decoder = true;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        bif_model_config model = llava;
        model.feature_layer = cases[k].feature_layer;
        bif_vlm vlm;
        cr_assert_eq(bif_build_vlm(&config, &(bif_model_paths){0}, &model, 1, device, &vlm), BIF_OK, "%s", bif_error_message());
        for (int64_t i = 0; i < vlm.params.count; i++) {
            const bif_param *p = &vlm.params.items[i];
            const char *block = strstr(p->name, "encoder.layers.");
            bool used = p->group != BIF_GROUP_PROJECTOR && strstr(p->name, "post_layernorm") == NULL;
            used = used && (block == NULL || block[15] - '0' < cases[k].blocks);
            cr_expect_eq(p->trainable, used, "feature layer %d: %s", (int)cases[k].feature_layer, p->name);
        }
        bif_vlm_free(&vlm);
    }
    bif_device_close(device);
}

/* A locked tower keeps its projection; the other side and the scale train. */
Test(build, a_locked_tower_of_a_pair)
{
    const bif_model_config model = {.kind = BIF_MODEL_CLIP, .projection = 8,
                                    .vit = {.hidden = 16, .layers = 1, .heads = 2, .inner = 16, .image = 16, .patch = 8, .eps = 1e-5f},
                                    .text = {.vocab = 20, .hidden = 16, .layers = 1, .heads = 2, .inner = 16, .positions = 8, .eps = 1e-5f}};
    bif_device *device = NULL;
    cr_assert_eq(bif_device_open("cpu", 1, &device), BIF_OK);
    for (int lock = BIF_LOCK_NONE; lock <= BIF_LOCK_TEXT; lock++) {
        bif_config config = {.seed = 1, .clip.lock = (bif_lock)lock, .optimizer.lr = 1e-3, .model.train_encoder = true};
        bif_clip clip;
        int frozen = 0;
        cr_assert_eq(bif_build_clip(&config, &(bif_model_paths){0}, &model, 1, device, &clip), BIF_OK, "%s", bif_error_message());
        for (int64_t i = 0; i < clip.params.count; i++) {
            const bif_param *p = &clip.params.items[i];
            const bool image = strncmp(p->name, "vis", 3) == 0, text = strncmp(p->name, "text", 4) == 0;
            cr_expect_eq(p->trainable, !(lock == BIF_LOCK_IMAGE ? image : lock == BIF_LOCK_TEXT && text), "lock %d: %s", lock, p->name);
            frozen += !p->trainable;
        }
        cr_expect_eq(frozen > 15, lock != BIF_LOCK_NONE, "lock %d: %d rows are frozen", lock, frozen);
        bif_clip_free(&clip);
    }
    bif_device_close(device);
}

/* A LLaVA whose tower is elsewhere, and the projector of its first stage alone: parts replace what the whole lacks or has. */
Test(build, a_whole_and_its_parts)
{
    static const char *const names[] = {"hf_old", "native", "tower"};
    char *folders[3];
    bif_device *device = NULL;
    bif_config config = {.seed = 1};
    bif_model_config model = {0};
    bif_vlm whole, parts;
    for (size_t i = 0; i < 3; i++) {
        folders[i] = bif_format("%s/golden/layouts/%s", getenv("BIFOCAL_TESTS"), names[i]);
    }
    cr_assert_eq(bif_device_open("cpu", 1, &device), BIF_OK);
    cr_assert_eq(bif_hf_config_read(folders[0], &model), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_build_vlm(&config, &(bif_model_paths){.init = folders[0]}, &model, 1, device, &whole), BIF_OK, "%s", bif_error_message());
    bif_vlm lacking;
    cr_expect_eq(bif_build_vlm(&config, &(bif_model_paths){.init = folders[1]}, &model, 1, device, &lacking), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "of the encoder"), "%s", bif_error_message());
    bif_vlm_free(&lacking);
    const bif_model_paths paths = {.init = folders[1], .encoder = folders[2]};
    cr_assert_eq(bif_build_vlm(&config, &paths, &model, 1, device, &parts), BIF_OK, "%s", bif_error_message());
    for (int64_t i = 0; i < whole.params.count; i++) {
        const bif_tensor *a = &whole.params.items[i].value, *b = &parts.params.items[i].value;
        cr_expect_eq(memcmp(a->data, b->data, bif_bytes(a)), 0, "%s", whole.params.items[i].name);
    }
    bif_vlm_free(&parts);
    /* golden/layouts/stage1 is the same projector in bf16, by torch.save. */
    char *projector = bif_format("%s/golden/layouts/stage1/mm_projector.bin", getenv("BIFOCAL_TESTS"));
    const bif_model_paths three = {.encoder = folders[2], .projector = projector};
    cr_assert_eq(bif_build_vlm(&config, &three, &model, 1, device, &parts), BIF_OK, "%s", bif_error_message());
    for (int64_t i = 0; i < whole.params.count; i++) {
        const bif_param *row = &whole.params.items[i];
        const float *a = row->value.data, *b = parts.params.items[i].value.data;
        for (int64_t k = 0; row->group == BIF_GROUP_PROJECTOR && k < bif_numel(&row->value); k++) {
            cr_expect(fabsf(a[k] - b[k]) <= 0.004f * fabsf(a[k]), "%s", row->name);
        }
    }
    bif_vlm_free(&whole);
    bif_vlm_free(&parts);
    bif_device_close(device);
    free(projector);
    for (size_t i = 0; i < 3; i++) {
        free(folders[i]);
    }
}

/* Each family's pictures have its own levels and its own colour of what is not there: SiglipImageProcessor's 0.5 and 0.5, CLIPImageProcessor's means. */
Test(build, levels_of_pictures)
{
    for (int siglip = 0; siglip < 2; siglip++) {
        const bif_model_config model = {.vit = {.image = 28, .family = siglip ? BIF_TOWER_SIGLIP : BIF_TOWER_CLIP}};
        bif_preprocess preprocess;
        float table[3 * 256];
        cr_assert_eq(bif_build_preprocess(&model, "pad", &preprocess), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_preprocess_table(&preprocess, table), BIF_OK, "%s", bif_error_message());
        const double mean[2] = {0.48145466, 0.5}, deviation[2] = {0.26862954, 0.5};
        cr_expect_float_eq(table[0], (float)(-mean[siglip] / deviation[siglip]), 1e-6, "%d: level 0 is %g", siglip, (double)table[0]);
        cr_expect_float_eq(table[255], (float)((1.0 - mean[siglip]) / deviation[siglip]), 1e-6, "%d: level 255 is %g", siglip, (double)table[255]);
        cr_expect_str_eq(bif_image_fit(&model, "crop"), siglip ? "squash" : "crop");
    }
}
