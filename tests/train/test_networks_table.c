/* The tables of known models: parameter counts as published, and how CLIP draws new weights. */
#include <criterion/criterion.h>
#include <math.h>

#include "train/networks.h"

static int64_t elements(const bif_params *params)
{
    int64_t sum = 0;
    for (int group = 0; group < BIF_GROUPS; group++) {
        sum += bif_params_elements(params, (bif_group)group, false);
    }
    return sum;
}

static bif_model_config clip_b32(void)
{
    return (bif_model_config){
        .kind = BIF_MODEL_CLIP,
        .vit = {.hidden = 768, .layers = 12, .heads = 12, .inner = 3072, .patch = 32, .image = 224, .eps = 1e-5f},
        .text = {.hidden = 512, .layers = 12, .heads = 8, .inner = 2048, .vocab = 49408, .positions = 77, .eps = 1e-5f},
        .projection = 512,
        .logit_scale_init = 2.6592f};
}

Test(networks_table, clip_counts)
{
    const bif_model_config config = clip_b32();
    bif_clip clip;
    bif_clip_declare(&clip, &config);
    cr_expect_eq(elements(&clip.params), 151277313);
    bif_clip_free(&clip);
}

Test(networks_table, llava_counts)
{
    const bif_model_config config = {
        .kind = BIF_MODEL_LLAVA,
        .vit = {.hidden = 1024, .layers = 24, .heads = 16, .inner = 4096, .patch = 14, .image = 336, .eps = 1e-5f},
        .projector = {.kind = BIF_PROJECTOR_MLP, .depth = 2, .in = 1024, .out = 4096},
        .decoder = {.hidden = 4096,
                    .layers = 32,
                    .heads = 32,
                    .kv_heads = 32,
                    .head_dim = 128,
                    .inner = 11008,
                    .vocab = 32000},
        .feature_layer = -2};
    bif_vlm vlm;
    bif_vlm_declare(&vlm, &config);
    cr_expect_eq(bif_params_elements(&vlm.params, BIF_GROUP_ENCODER, false), 304293888 - 1024 * 768);
    cr_expect_eq(bif_params_elements(&vlm.params, BIF_GROUP_PROJECTOR, false), 20979712);
    cr_expect_eq(bif_params_elements(&vlm.params, BIF_GROUP_DECODER, false), 6738415616);
    cr_expect_eq(vlm.vit.stack.layers, 23); /* block 24 is in the table and is not computed */
    bif_vlm_free(&vlm);
}

static void expect_row(const bif_params *params, const char *name, bif_init init, double scale, bool decay)
{
    const bif_param *p = bif_params_find(params, name);
    cr_assert(p != NULL, "%s", name);
    cr_expect_eq(p->init, init, "%s", name);
    cr_expect_eq(p->decay, decay, "%s", name);
    cr_expect_float_eq((double)p->init_scale, scale, 1e-6 * scale + 1e-9, "%s: %g", name, (double)p->init_scale);
}

Test(networks_table, clip_initial_weights)
{
    const bif_model_config config = clip_b32();
    bif_clip clip;
    bif_clip_declare(&clip, &config);
    const bif_params *p = &clip.params;
    const double v = 1 / sqrt(768.0), t = 1 / sqrt(512.0);
    expect_row(p, "logit_scale", BIF_INIT_CONSTANT, 2.6592, false);
    expect_row(p, "text_model.embeddings.token_embedding.weight", BIF_INIT_NORMAL, 0.02, true);
    expect_row(p, "text_model.embeddings.position_embedding.weight", BIF_INIT_NORMAL, 0.01, false);
    expect_row(p, "text_model.encoder.layers.3.self_attn.k_proj.weight", BIF_INIT_NORMAL, t, true);
    expect_row(p, "text_model.encoder.layers.3.self_attn.out_proj.weight", BIF_INIT_NORMAL, t / sqrt(24.0), true);
    expect_row(p, "text_model.encoder.layers.3.mlp.fc1.weight", BIF_INIT_NORMAL, 1 / sqrt(1024.0), true);
    expect_row(p, "text_model.encoder.layers.3.mlp.fc2.weight", BIF_INIT_NORMAL, t / sqrt(24.0), true);
    expect_row(p, "text_model.encoder.layers.3.mlp.fc2.bias", BIF_INIT_UNIFORM, 1 / sqrt(2048.0), false);
    expect_row(p, "text_projection.weight", BIF_INIT_NORMAL, t, true);
    expect_row(p, "vision_model.embeddings.class_embedding", BIF_INIT_NORMAL, v, false);
    expect_row(p, "vision_model.embeddings.position_embedding.weight", BIF_INIT_NORMAL, v, false);
    expect_row(p, "vision_model.embeddings.patch_embedding.weight", BIF_INIT_UNIFORM, 1 / sqrt(3.0 * 32 * 32), true);
    expect_row(p, "vision_model.pre_layrnorm.weight", BIF_INIT_ONE, 0, false);
    expect_row(p, "vision_model.encoder.layers.0.self_attn.q_proj.weight", BIF_INIT_UNIFORM, sqrt(6.0 / (4 * 768)),
               true);
    expect_row(p, "vision_model.encoder.layers.0.self_attn.q_proj.bias", BIF_INIT_ZERO, 0, false);
    expect_row(p, "vision_model.encoder.layers.0.self_attn.out_proj.weight", BIF_INIT_UNIFORM, v, true);
    expect_row(p, "vision_model.encoder.layers.0.mlp.fc2.weight", BIF_INIT_UNIFORM, 1 / sqrt(3072.0), true);
    expect_row(p, "visual_projection.weight", BIF_INIT_NORMAL, v, true);
    bif_clip_free(&clip);
}
