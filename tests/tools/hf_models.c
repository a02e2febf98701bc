/* hf_models DIR TOKENIZER: one folder a family below DIR, each a tiny random model as bifocal writes it, for tests/golden/check_hf.py.
 * TOKENIZER: a tokenizer.json with <s>, </s> and <image>. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/tokenizer.h"
#include "train/hf_folder.h"
#include "train/networks.h"

static bif_status write_model(const char *root, const char *name, const bif_model_config *config, const char *tokenizer)
{
    bif_status st = BIF_OK;
    bif_device *device = NULL;
    bif_vlm vlm = {0};
    bif_clip clip = {0};
    char *folder = bif_path_join(root, name);
    bif_params *params = config->kind == BIF_MODEL_CLIP ? &clip.params : &vlm.params;
    BIF_TRY(bif_device_open("cpu", 1, &device));
    BIF_TRY(bif_make_dirs(folder));
    if (config->kind == BIF_MODEL_CLIP) {
        bif_clip_declare(&clip, config);
        BIF_TRY(bif_clip_allocate(&clip, device, 1));
    } else {
        bif_vlm_declare(&vlm, config);
        BIF_TRY(bif_vlm_allocate(&vlm, device, 1));
    }
    bif_params_init(params, 11, ~0u);
    BIF_TRY(bif_hf_save(folder, config, params, tokenizer));
done:
    bif_clip_free(&clip);
    bif_vlm_free(&vlm);
    bif_device_close(device);
    free(folder);
    return st;
}

int main(int argc, char **argv)
{
    bif_tokenizer *tokenizer = NULL;
    if (argc != 3 || bif_tokenizer_load(argv[2], &tokenizer) != BIF_OK) {
        fprintf(stderr, "usage: hf_models DIR TOKENIZER; %s\n", bif_error_message());
        return 64;
    }
    const int64_t vocab = bif_tokenizer_vocab(tokenizer) + 24;
    const int32_t bos = bif_tokenizer_special(tokenizer, "<s>"), eos = bif_tokenizer_special(tokenizer, "</s>");
    const int32_t image = bif_tokenizer_special(tokenizer, "<image>");
    bif_tokenizer_free(tokenizer);
    const bif_vit_config vit = {.hidden = 32, .layers = 2, .heads = 4, .inner = 48, .patch = 8, .image = 16, .eps = 1e-5f,
                                .act = BIF_ACT_QUICK_GELU};
    const bif_decoder_config llama = {.hidden = 32, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8, .inner = 48, .vocab = vocab,
                                      .positions = 64, .eps = 1e-5f, .rope_theta = 5e5f, .bos = bos, .eos = eos};
    bif_model_config decoder = {.kind = BIF_MODEL_DECODER, .decoder = llama, .image_token = -1, .pad_token = -1};
    bif_model_config clip = {.kind = BIF_MODEL_CLIP, .vit = vit, .text = {.hidden = 24, .layers = 2, .heads = 3, .inner = 40, .vocab = vocab, .positions = 16,
                                                                         .eps = 1e-5f, .act = BIF_ACT_GELU, .bos = bos, .eos = eos}, .projection = 20,
                             .logit_scale_init = 2.659f};
    bif_model_config llava = {.kind = BIF_MODEL_LLAVA, .vit = vit, .decoder = llama, .projector = {BIF_PROJECTOR_MLP, 2, 32, 32},
                              .feature_layer = -2, .image_token = image, .pad_token = eos};
    struct {
        const char *name;
        bif_model_config config;
    } models[] = {{"llama", decoder}, {"llama_bias", decoder}, {"qwen2_tied", decoder}, {"qwen3", decoder}, {"qwen3_bias", decoder},
                  {"clip", clip}, {"llava", llava}, {"llava_full_qwen2_tied", llava}};
    models[1].config.decoder.qkv_bias = models[1].config.decoder.o_bias = true;
    models[2].config.decoder.qkv_bias = models[2].config.decoder.tied = true;
    models[3].config.decoder.qk_norm = true;
    models[3].config.decoder.head_dim = 16;
    models[4].config.decoder.qk_norm = models[4].config.decoder.qkv_bias = models[4].config.decoder.o_bias = true;
    models[7].config.cls_patch = models[7].config.decoder.qkv_bias = models[7].config.decoder.tied = true;
    models[7].config.feature_layer = -1;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        const bif_status st = write_model(argv[1], models[i].name, &models[i].config, argv[2]);
        if (st != BIF_OK) {
            fprintf(stderr, "hf_models: %s: %s\n", models[i].name, bif_error_message());
            return (int)st;
        }
    }
    return 0;
}
