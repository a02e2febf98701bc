#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/model.h"

static char folder[] = "/tmp/bif-hf-config-XXXXXX";
static char path[96];
static bif_model_config c;

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/config.json", folder);
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(hf_config, .init = setup, .fini = teardown);

static bif_status read_text(const char *json)
{
    cr_assert_eq(bif_file_write(path, json, strlen(json)), BIF_OK);
    memset(&c, 0, sizeof c);
    return bif_hf_config_read(folder, &c);
}

static void read_golden(const char *name)
{
    char file[512], *text = NULL;
    snprintf(file, sizeof file, "%s/golden/hf/%s", getenv("BIFOCAL_TESTS"), name);
    size_t size = 0;
    cr_assert_eq(bif_file_read(file, 1 << 20, &text, &size), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(read_text(text), BIF_OK, "%s", bif_error_message());
    free(text);
}

/* Writing and reading again changes nothing. */
static void survives_writing(void)
{
    const bif_model_config before = c;
    cr_assert_eq(bif_hf_config_write(folder, &before, BIF_DTYPE_F32), BIF_OK, "%s", bif_error_message());
    memset(&c, 0, sizeof c);
    cr_assert_eq(bif_hf_config_read(folder, &c), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(c.kind, before.kind);
    cr_expect_arr_eq(&c.vit, &before.vit, sizeof c.vit);
    cr_expect_arr_eq(&c.text, &before.text, sizeof c.text);
    cr_expect_eq(c.projection, before.projection);
    const bif_decoder_config *a = &c.decoder, *b = &before.decoder;
    cr_expect(a->hidden == b->hidden && a->layers == b->layers && a->heads == b->heads && a->kv_heads == b->kv_heads &&
              a->head_dim == b->head_dim && a->inner == b->inner && a->vocab == b->vocab && a->positions == b->positions && a->eps == b->eps &&
              a->rope_theta == b->rope_theta && a->qkv_bias == b->qkv_bias && a->o_bias == b->o_bias && a->qk_norm == b->qk_norm &&
              a->tied == b->tied && a->bos == b->bos && a->eos == b->eos);
    cr_expect(a->rope.kind == b->rope.kind && a->rope.factor == b->rope.factor && a->rope.low == b->rope.low &&
              a->rope.high == b->rope.high && a->rope.original == b->rope.original);
    cr_expect(c.projector.kind == before.projector.kind && c.projector.depth == before.projector.depth);
    cr_expect(c.feature_layer == before.feature_layer && c.cls_patch == before.cls_patch && c.image_token == before.image_token &&
              c.pad_token == before.pad_token && c.logit_scale_init == before.logit_scale_init && c.logit_bias == before.logit_bias);
}

Test(hf_config, families_as_transformers_writes_them)
{
    read_golden("llama.json");
    cr_expect(c.kind == BIF_MODEL_DECODER && c.decoder.hidden == 16 && c.decoder.kv_heads == 2 && c.decoder.head_dim == 4);
    cr_expect(c.decoder.eps == 1e-5f && c.decoder.rope_theta == 5e5f, "rope theta lies in rope_parameters");
    cr_expect(c.decoder.qkv_bias && c.decoder.o_bias && !c.decoder.qk_norm && !c.decoder.tied);
    cr_expect(c.decoder.bos == 1 && c.decoder.eos == 2);
    survives_writing();
    read_golden("mistral.json");
    cr_expect(c.decoder.head_dim == 6 && !c.decoder.qkv_bias);
    cr_expect_eq(c.decoder.positions, 32, "limited to the sliding window");
    survives_writing();
    read_golden("qwen2.json");
    cr_expect(c.decoder.qkv_bias && !c.decoder.o_bias && c.decoder.tied && c.decoder.bos == 3 && c.decoder.eos == 4);
    cr_expect_eq(c.decoder.positions, 64, "its window is off");
    survives_writing();
    read_golden("qwen3.json");
    cr_expect(c.decoder.qk_norm && !c.decoder.qkv_bias && c.decoder.head_dim == 10 && c.decoder.rope_theta == 1e6f && c.decoder.bos == -1);
    survives_writing();
    read_golden("clip.json");
    cr_expect(c.kind == BIF_MODEL_CLIP && c.vit.patch == 8 && c.text.hidden == 12 && c.projection == 12 && c.text.eos == 23);
    cr_expect_float_eq(c.logit_scale_init, 2.6592, 1e-6);
    survives_writing();
    read_golden("clip_vision/config.json");
    cr_expect(c.kind == BIF_MODEL_CLIP && c.vit.hidden == 16 && c.vit.layers == 2 && c.text.hidden == 0);
    cr_expect_eq(bif_model_check(&c, "here"), BIF_ERR_CONFIG, "a tower alone is only a source");
    read_golden("llava/config.json");
    cr_expect(c.kind == BIF_MODEL_LLAVA && c.vit.layers == 2 && c.decoder.hidden == 16 && c.image_token == 20 && c.cls_patch &&
              c.feature_layer == -1 && c.projector.depth == 2 && c.projector.in == 16 && c.projector.out == 16);
    cr_expect_eq(bif_feature_blocks(&c), 2);
    cr_expect_eq(bif_tokens_per_image(&c), 5);
    survives_writing();
}

Test(hf_config, partial_configs_get_the_family_defaults)
{
    /* The published config of LLaVA-1.5-7B names only what differs. */
    cr_assert_eq(read_text("{\"architectures\":[\"LlavaForConditionalGeneration\"],\"image_token_index\":32000,\"model_type\":\"llava\","
                           "\"pad_token_id\":32001,\"text_config\":{\"architectures\":[\"LlamaForCausalLM\"],\"max_position_embeddings\":4096,"
                           "\"model_type\":\"llama\",\"rms_norm_eps\":1e-05,\"torch_dtype\":\"float16\",\"vocab_size\":32064},"
                           "\"vision_config\":{\"hidden_size\":1024,\"image_size\":336,\"intermediate_size\":4096,\"model_type\":"
                           "\"clip_vision_model\",\"num_attention_heads\":16,\"num_hidden_layers\":24,\"patch_size\":14,\"projection_dim\":768}}"),
                 BIF_OK, "%s", bif_error_message());
    cr_expect(c.decoder.hidden == 4096 && c.decoder.layers == 32 && c.decoder.kv_heads == 32 && c.decoder.inner == 11008 &&
              c.decoder.head_dim == 128 && c.decoder.vocab == 32064 && c.decoder.rope_theta == 1e4f && c.pad_token == 32001);
    cr_expect(c.feature_layer == -2 && !c.cls_patch && bif_tokens_per_image(&c) == 576 && bif_feature_blocks(&c) == 23);
    survives_writing();
    cr_assert_eq(read_text("{\"model_type\":\"llava\",\"tie_word_embeddings\":true,\"text_config\":{\"rope_theta\":7.0,\"rope_parameters\":"
                           "{\"rope_type\":\"default\"}}}"),
                 BIF_OK);
    cr_expect(c.decoder.tied && c.decoder.rope_theta == 7.0f, "tied at the upper level; theta at the old place");
    cr_assert_eq(read_text("{\"model_type\":\"llava\",\"text_config\":{\"tie_word_embeddings\":true}}"), BIF_OK);
    cr_expect(c.decoder.tied);
    cr_assert_eq(read_text("{\"model_type\":\"llava\"}"), BIF_OK);
    cr_expect(!c.decoder.tied);
    cr_expect(c.vit.image == 336 && c.vit.layers == 24 && c.image_token == 32000);
    cr_assert_eq(read_text("{\"model_type\":\"clip\"}"), BIF_OK);
    cr_expect(c.vit.patch == 32 && c.vit.image == 224 && c.text.positions == 77 && c.text.vocab == 49408 && c.text.eos == 49407);
    cr_assert_eq(read_text("{\"model_type\":\"mistral\"}"), BIF_OK);
    cr_expect(c.decoder.kv_heads == 8 && c.decoder.inner == 14336 && c.decoder.positions == 4096);
    cr_assert_eq(read_text("{\"model_type\":\"mistral\",\"sliding_window\":null}"), BIF_OK);
    cr_expect_eq(c.decoder.positions, 131072);
    cr_assert_eq(read_text("{\"model_type\":\"qwen3\",\"num_attention_heads\":64,\"hidden_size\":5120,\"num_key_value_heads\":8}"), BIF_OK);
    cr_expect_eq(c.decoder.head_dim, 128, "not hidden / heads");
    cr_assert_eq(read_text("{\"model_type\":\"llama\",\"rope_theta\":500000.0,\"rope_scaling\":null,\"tie_word_embeddings\":true,"
                           "\"eos_token_id\":[7,8],\"num_key_value_heads\":null}"),
                 BIF_OK);
    cr_expect(c.decoder.rope_theta == 5e5f && c.decoder.tied && c.decoder.eos == 7 && c.decoder.kv_heads == 32);
    cr_assert_eq(read_text("{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":28,\"sliding_window\":512}"), BIF_OK);
    cr_expect_eq(c.decoder.positions, 512);
    cr_assert_eq(read_text("{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":32,\"sliding_window\":512}"), BIF_OK);
    cr_expect_eq(c.decoder.positions, 32768, "no layer slides");
}

Test(hf_config, towers_of_siglip)
{
    /* As LLaVA-Interleave's: so400m without its last block and head. */
    cr_assert_eq(read_text("{\"model_type\":\"llava\",\"vision_feature_layer\":-1,\"vision_feature_select_strategy\":\"full\","
                           "\"text_config\":{\"model_type\":\"qwen2\"},\"vision_config\":{\"model_type\":\"siglip_vision_model\","
                           "\"hidden_size\":1152,\"image_size\":384,\"intermediate_size\":4304,\"num_attention_heads\":16,"
                           "\"num_hidden_layers\":26,\"patch_size\":14,\"vision_use_head\":false}}"),
                 BIF_OK, "%s", bif_error_message());
    cr_expect(c.vit.family == BIF_TOWER_SIGLIP && c.vit.hidden == 1152 && c.vit.inner == 4304 && !c.vit.head);
    cr_expect(c.vit.eps == 1e-6f && c.vit.act == BIF_ACT_GELU_TANH, "the defaults of this family");
    cr_expect(bif_vit_patches(&c.vit) == 27 * 27 && bif_vit_rows(&c.vit) == 27 * 27 && bif_tokens_per_image(&c) == 27 * 27,
              "no class token, and the rest of 384 = 27 * 14 + 6 is not seen");
    cr_expect(bif_feature_blocks(&c) == 26 && !c.cls_patch && c.projector.in == 1152);
    survives_writing();
    c.cls_patch = true;
    cr_expect_eq(bif_model_check(&c, "here"), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "class token"), "%s", bif_error_message());
    cr_assert_eq(read_text("{\"architectures\":[\"SiglipVisionModel\"],\"model_type\":\"siglip_vision_model\"}"), BIF_OK, "%s",
                 bif_error_message());
    cr_expect(c.kind == BIF_MODEL_CLIP && c.text.hidden == 0 && c.vit.hidden == 768 && c.vit.patch == 16 && c.vit.image == 224 && c.vit.head);
}

Test(hf_config, pairs_of_siglip)
{
    /* As google/siglip-so400m-patch14-384's; the ids of the text tower are left to the class, where they are another tokenizer's. */
    cr_assert_eq(read_text("{\"architectures\":[\"SiglipModel\"],\"initializer_factor\":1.0,\"model_type\":\"siglip\",\"text_config\":{"
                           "\"hidden_size\":1152,\"intermediate_size\":4304,\"model_type\":\"siglip_text_model\",\"num_attention_heads\":"
                           "16,\"num_hidden_layers\":27},\"vision_config\":{\"hidden_size\":1152,\"image_size\":384,\"intermediate_size\":"
                           "4304,\"model_type\":\"siglip_vision_model\",\"num_attention_heads\":16,\"num_hidden_layers\":27,"
                           "\"patch_size\":14}}"),
                 BIF_OK, "%s", bif_error_message());
    cr_expect(c.kind == BIF_MODEL_CLIP && c.text.family == BIF_TOWER_SIGLIP && c.text.vocab == 32000 && c.text.positions == 64);
    cr_expect(c.text.eos == -1 && c.text.bos == -1 && c.text.pad == 1 && c.projection == 1152 && c.logit_bias && c.vit.head);
    cr_expect(c.text.eps == 1e-6f && c.text.act == BIF_ACT_GELU_TANH);
    c.text.eos = 1; /* once the tokenizer is known */
    survives_writing();
    cr_assert_eq(read_text("{\"model_type\":\"siglip\",\"text_config\":{\"eos_token_id\":49407,\"bos_token_id\":49406,\"vocab_size\":"
                           "256000}}"),
                 BIF_OK);
    cr_expect(c.text.eos == -1 && c.vit.patch == 16, "what transformers writes without being asked");
    const bif_model_config pair = c;
    c.text.family = BIF_TOWER_CLIP;
    c.text.eos = 1;
    cr_expect_eq(bif_model_check(&c, "here"), BIF_ERR_CONFIG);
    c = pair;
    c.logit_bias = false;
    cr_expect_eq(bif_model_check(&c, "here"), BIF_ERR_CONFIG);
    c = pair;
    c.projection = 512;
    cr_expect_eq(bif_model_check(&c, "here"), BIF_ERR_CONFIG);
    cr_expect_eq(read_text("{\"model_type\":\"siglip\",\"vision_config\":{\"vision_use_head\":false}}"), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "vision_use_head"), "%s", bif_error_message());
    cr_expect_eq(read_text("{\"model_type\":\"siglip2\"}"), BIF_ERR_CONFIG);
}

Test(hf_config, openai_clip_says_eos_2)
{
    cr_assert_eq(read_text("{\"architectures\":[\"CLIPModel\"],\"text_config\":{\"bos_token_id\":0,\"eos_token_id\":2},\"text_config_dict\":null,"
                           "\"vision_config_dict\":{\"patch_size\":16},\"vision_config\":{\"patch_size\":14}}"),
                 BIF_OK);
    cr_expect(c.text.eos == 49407 && c.text.bos == 49406);
    cr_expect_eq(c.vit.patch, 16, "the old *_dict wins, as in transformers");
}

Test(hf_config, layout_of_llavas_authors)
{
    cr_assert_eq(read_text("{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"model_type\":\"llava_llama\",\"mm_vision_tower\":"
                           "\"openai/clip-vit-large-patch14-336\",\"mm_projector_type\":\"mlp2x_gelu\",\"mm_vision_select_layer\":-2,"
                           "\"mm_vision_select_feature\":\"patch\",\"pad_token_id\":0,\"vocab_size\":32000}"),
                 BIF_OK, "%s", bif_error_message());
    cr_expect(c.kind == BIF_MODEL_LLAVA && c.vit.image == 336 && c.projector.depth == 2 && c.image_token == -1 && c.pad_token == 0);
}

/* Of every family they have a class for: read, written and read again. */
Test(hf_config, classes_of_llavas_authors)
{
    static const struct {
        const char *architecture, *model_type, *more;
        bool mistral, bias;
        int64_t positions, kv_heads;
    } cases[] = {{"LlavaLlamaForCausalLM", "llava_llama", "", false, false, 2048, 32},
                 {"LlavaLlamaForCausalLM", "llava", "", false, false, 2048, 32},
                 {"LlavaMistralForCausalLM", "llava_mistral", ",\"sliding_window\":null", true, false, 131072, 8},
                 {"LlavaMistralForCausalLM", "llava_mistral", ",\"sliding_window\":1024", true, false, 1024, 8},
                 {"LlavaQwenForCausalLM", "llava_qwen", ",\"num_key_value_heads\":4,\"tie_word_embeddings\":true", false, true, 32768, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text, "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"mm_vision_tower\":\"google/siglip-so400m-patch14-384\","
                 "\"mm_projector_type\":\"mlp2x_gelu\",\"mm_vision_select_layer\":-2,\"image_aspect_ratio\":\"pad\",\"eos_token_id\":2%s}",
                 cases[i].architecture, cases[i].model_type, cases[i].more);
        cr_assert_eq(read_text(text), BIF_OK, "%s: %s", cases[i].architecture, bif_error_message());
        cr_expect(c.vit.family == BIF_TOWER_SIGLIP && c.vit.layers == 26 && c.vit.hidden == 1152 && c.vit.inner == 4304 && c.vit.image == 384 &&
                  bif_feature_blocks(&c) == 26 && bif_tokens_per_image(&c) == 729);
        c.decoder.classes = c.decoder.vocab - 32;
        const bif_model_config before = c;
        for (int again = 0; again < 2; again++) {
            cr_expect(c.decoder.mistral == cases[i].mistral && c.decoder.qkv_bias == cases[i].bias && c.decoder.positions == cases[i].positions &&
                      c.decoder.kv_heads == cases[i].kv_heads && strcmp(c.image_fit, "pad") == 0, "%s, %d", cases[i].architecture, again);
            char *written = NULL, want[64];
            size_t size = 0;
            cr_assert_eq(bif_hf_config_write_native(folder, &before, BIF_DTYPE_BF16, "google/siglip-so400m-patch14-384"), BIF_OK);
            cr_assert_eq(bif_file_read(path, 1 << 20, &written, &size), BIF_OK);
            snprintf(want, sizeof want, "\"%s\"", cases[i].architecture);
            cr_expect_not_null(strstr(written, want), "%s: %s", want, written);
            free(written);
            cr_assert_eq(bif_hf_config_read(folder, &c), BIF_OK, "%s", bif_error_message());
            cr_expect_eq(c.decoder.classes, before.decoder.classes);
        }
    }
    bif_model_config qwen3 = c;
    qwen3.decoder.qk_norm = true;
    qwen3.decoder.qkv_bias = false;
    cr_expect_eq(bif_hf_config_write_native(folder, &qwen3, BIF_DTYPE_F32, "x"), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "this is Qwen3ForCausalLM"), "%s", bif_error_message());
}

Test(hf_config, what_is_not_implemented_is_refused_by_name)
{
    static const struct {
        const char *json, *name;
    } cases[] = {
        {"{\"architectures\":[\"GemmaForCausalLM\"],\"model_type\":\"gemma\"}", "GemmaForCausalLM"},
        {"{\"model_type\":\"gemma\"}", "gemma"},
        {"{}", "neither 'architectures' nor 'model_type'"},
        {"{\"model_type\":\"llama\",\"mlp_bias\":true}", "mlp_bias"},
        {"{\"model_type\":\"llava_qwen\",\"mm_vision_tower\":\"openai/clip-vit-large-patch14-336\",\"image_aspect_ratio\":\"anyres\"}", "anyres"},
        {"{\"model_type\":\"llava_mistral\",\"mm_vision_tower\":\"somebody/else\"}", "somebody/else"},
        {"{\"model_type\":\"llama\",\"bifocal_classes\":32001}", "number of classes"},
        {"{\"model_type\":\"llama\",\"bifocal_classes\":1000}", "number of classes"},
        {"{\"model_type\":\"llama\",\"hidden_act\":\"gelu\"}", "hidden_act"},
        {"{\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}}", "dynamic"},
        {"{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"longrope\",\"factor\":2.0}}", "longrope"},
        {"{\"model_type\":\"llama\",\"rope_scaling\":[2.0]}", "'rope_scaling' must be an object"},
        {"{\"model_type\":\"llama\",\"rope_parameters\":{\"rope_type\":\"yarn\"}}", "yarn"},
        {"{\"model_type\":\"llama\",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1.0}}}", "per layer type"},
        {"{\"model_type\":\"llama\",\"partial_rotary_factor\":0.5}", "partial_rotary_factor"},
        {"{\"model_type\":\"llama\",\"quantization_config\":{\"bits\":4}}", "quantization_config"},
        {"{\"model_type\":\"qwen3\",\"use_sliding_window\":true,\"layer_types\":[\"chunked_attention\"]}", "chunked_attention"},
        {"{\"model_type\":\"llava\",\"vision_feature_layer\":[-2,-5]}", "vision_feature_layer"},
        {"{\"model_type\":\"llava\",\"vision_feature_layer\":-26}", "feature layer"},
        {"{\"model_type\":\"llava\",\"vision_feature_select_strategy\":\"cls\"}", "vision_feature_select_strategy"},
        {"{\"model_type\":\"llava\",\"projector_hidden_act\":\"relu\"}", "projector_hidden_act"},
        {"{\"model_type\":\"llava\",\"multimodal_projector_bias\":false}", "multimodal_projector_bias"},
        {"{\"model_type\":\"llava\",\"bifocal_projector\":\"mlp9x_gelu\"}", "mlp9x_gelu"},
        {"{\"model_type\":\"llava\",\"vision_config\":{\"model_type\":\"siglip_vision_model\"}}", "a patch would be lost"},
        {"{\"model_type\":\"llava\",\"vision_config\":{\"model_type\":\"siglip2_vision_model\"}}", "siglip2_vision_model"},
        {"{\"model_type\":\"siglip_vision_model\",\"patch_size\":225}", "patch size"},
        {"{\"model_type\":\"llava\",\"text_config\":{\"model_type\":\"phi\"}}", "phi"},
        {"{\"model_type\":\"clip\",\"vision_config\":{\"hidden_act\":\"relu\"}}", "relu"},
        {"{\"model_type\":\"clip\",\"vision_config\":{\"num_channels\":1}}", "num_channels"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(read_text(cases[i].json), BIF_ERR_CONFIG, "%s", cases[i].json);
        cr_expect_not_null(strstr(bif_error_message(), cases[i].name), "%s -> %s", cases[i].json, bif_error_message());
        cr_expect_not_null(strstr(bif_error_message(), path), "%s", bif_error_message());
    }
}

static bif_status read_rope(const char *members)
{
    char text[1024];
    snprintf(text, sizeof text, "{\"model_type\":\"llama\",\"max_position_embeddings\":4096,%s}", members);
    return read_text(text);
}

#define LLAMA3 "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0"
#define LLAMA32 "\"factor\":32.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"," LLAMA3

Test(hf_config, rope_scaling)
{
    /* Llama 3.2, as transformers 4 and as transformers 5 write it. */
    static const char *const llama[] = {
        "\"rope_theta\":500000.0,\"rope_scaling\":{" LLAMA32 "}", "\"rope_parameters\":{\"rope_theta\":500000.0," LLAMA32 "}"};
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(read_rope(llama[i]), BIF_OK, "%s", bif_error_message());
        const bif_rope_scaling *rope = &c.decoder.rope;
        cr_expect(rope->kind == BIF_ROPE_LLAMA3 && rope->factor == 32 && rope->low == 1 && rope->high == 4 && rope->original == 8192);
        cr_expect(c.decoder.rope_theta == 5e5f && c.decoder.positions == 4096);
        survives_writing();
    }
    cr_assert_eq(read_rope("\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8," LLAMA3 "}"), BIF_OK, "%s", bif_error_message());
    cr_expect(c.decoder.rope.kind == BIF_ROPE_LLAMA3 && c.decoder.rope.original == 4096, "what is not said is max_position_embeddings");
    /* Vicuna with 16K. */
    cr_assert_eq(read_rope("\"max_sequence_length\":16384,\"rope_scaling\":{\"factor\":4.0,\"type\":\"linear\"}"), BIF_OK);
    cr_expect(c.decoder.rope.kind == BIF_ROPE_LINEAR && c.decoder.rope.factor == 4 && c.decoder.rope_theta == 1e4f);
    cr_expect_eq(c.decoder.positions, 16384);
    survives_writing();
    cr_assert_eq(read_rope("\"rope_parameters\":{\"factor\":2,\"rope_type\":\"linear\",\"type\":\"yarn\"}"), BIF_OK);
    cr_expect(c.decoder.rope.kind == BIF_ROPE_LINEAR && c.decoder.rope.factor == 2 && c.decoder.positions == 4096);
    survives_writing();
    /* transformers 5 takes rope_scaling as a whole, and an empty one for none. */
    cr_assert_eq(read_rope("\"rope_theta\":7.0,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{\"rope_theta\":9.0,"
                           "\"rope_type\":\"yarn\"}"),
                 BIF_OK, "%s", bif_error_message());
    cr_expect(c.decoder.rope.kind == BIF_ROPE_LINEAR && c.decoder.rope_theta == 7.0f);
    cr_assert_eq(read_rope("\"rope_scaling\":{},\"rope_parameters\":{\"rope_theta\":9.0}"), BIF_OK);
    cr_expect(c.decoder.rope.kind == BIF_ROPE_PLAIN && c.decoder.rope_theta == 9.0f);
    survives_writing();

    static const struct {
        const char *members, *says;
    } wrong[] = {
        {"\"rope_scaling\":{\"type\":\"linear\"}", "rope_scaling: the key 'factor' is missing"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"2\"}", "rope_scaling: 'factor'"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}", "factor is 0.5"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":1e300}", "factor is inf"},
        {"\"rope_scaling\":{\"rope_type\":3}", "rope_scaling: 'rope_type'"},
        {"\"rope_parameters\":{\"rope_type\":\"llama3\"," LLAMA3 "}", "rope_parameters: the key 'factor' is missing"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"high_freq_factor\":4}", "'low_freq_factor' is missing"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1}", "'high_freq_factor' is missing"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}", "high_freq_factor (4)"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":0,\"high_freq_factor\":4}", "low_freq_factor is 0"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"original_max_position_embeddings\":0," LLAMA3 "}",
         "original_max_position_embeddings"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"original_max_position_embeddings\":0.5," LLAMA3 "}",
         "'original_max_position_embeddings'"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_expect_neq(read_rope(wrong[i].members), BIF_OK, "%s", wrong[i].members);
        cr_expect_not_null(strstr(bif_error_message(), wrong[i].says), "%s -> %s", wrong[i].members, bif_error_message());
        cr_expect_not_null(strstr(bif_error_message(), path), "%s", bif_error_message());
    }
}

Test(hf_config, impossible_numbers_never_pass)
{
    static const char *const cases[] = {
        "{\"model_type\":\"llama\",\"hidden_size\":0}",
        "{\"model_type\":\"llama\",\"hidden_size\":-16}",
        "{\"model_type\":\"llama\",\"hidden_size\":9223372036854775807}",
        "{\"model_type\":\"llama\",\"num_attention_heads\":0}",
        "{\"model_type\":\"llama\",\"num_key_value_heads\":5}",
        "{\"model_type\":\"llama\",\"head_dim\":7}",
        "{\"model_type\":\"llama\",\"vocab_size\":16777216,\"hidden_size\":1048576}",
        "{\"model_type\":\"llama\",\"rms_norm_eps\":0}",
        "{\"model_type\":\"llama\",\"rope_theta\":-1}",
        "{\"model_type\":\"llama\",\"eos_token_id\":32000}",
        "{\"model_type\":\"llama\",\"eos_token_id\":99999999999}",
        "{\"model_type\":\"clip\",\"vision_config\":{\"patch_size\":0}}",
        "{\"model_type\":\"clip\",\"vision_config\":{\"patch_size\":13}}",
        "{\"model_type\":\"clip\",\"vision_config\":{\"num_attention_heads\":7}}",
        "{\"model_type\":\"clip\",\"projection_dim\":0}",
        "{\"model_type\":\"clip\",\"text_config\":{\"max_position_embeddings\":0}}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(read_text(cases[i]), BIF_ERR_CONFIG, "%s", cases[i]);
    }
    static const char *const wrong[] = {"", "[", "[]", "3", "{\"model_type\":5}", "{\"model_type\":\"llama\",\"hidden_size\":\"64\"}",
                                        "{\"model_type\":\"llama\",\"hidden_size\":64.5}", "{\"model_type\":\"llama\",\"tie_word_embeddings\":1}",
                                        "{\"model_type\":\"clip\",\"vision_config\":[]}", "{\"model_type\":\"llava\",\"text_config\":7}",
                                        "{\"model_type\":\"llama\",\"model_type\":\"llama\"}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_expect_eq(read_text(wrong[i]), BIF_ERR_DATA, "%s", wrong[i]);
    }
    cr_expect_eq(bif_hf_config_read("/nowhere", &c), BIF_ERR_IO);
}

Test(hf_config, only_what_a_family_can_say_is_written)
{
    cr_assert_eq(read_text("{\"model_type\":\"qwen2\"}"), BIF_OK);
    c.decoder.qk_norm = true;
    cr_expect_eq(bif_hf_config_write(folder, &c, BIF_DTYPE_F32), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "qk norm on"), "%s", bif_error_message());
    c.decoder.o_bias = true;
    cr_expect_eq(bif_hf_config_write(folder, &c, BIF_DTYPE_F32), BIF_OK);
    c.decoder.qkv_bias = c.decoder.qk_norm = false;
    cr_expect_eq(bif_hf_config_write(folder, &c, BIF_DTYPE_F32), BIF_ERR_CONFIG);
}

Test(hf_config, projectors_that_transformers_does_not_know)
{
    cr_assert_eq(read_text("{\"model_type\":\"llava\"}"), BIF_OK);
    c.projector.depth = 3;
    survives_writing();
    c.projector.kind = BIF_PROJECTOR_LINEAR;
    c.projector.depth = 1;
    survives_writing();
    cr_assert_eq(read_text("{\"model_type\":\"clip\"}"), BIF_OK);
    c.logit_bias = true;
    survives_writing();
}

/* How the folder says pictures are prepared: levels that are not the tower's here would give silently wrong features. */
Test(hf_config, levels_of_pictures_are_checked)
{
    static const char clip[] = "{\"model_type\":\"clip\"}", siglip[] = "{\"model_type\":\"siglip\"}", llava[] = "{\"model_type\":\"llava\"}";
    static const char halves[] = "\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.5,0.5,0.5]";
    static const char openai[] = "\"image_mean\":[0.48145466,0.4578275,0.40821073],\"image_std\":[0.26862954,0.26130258,0.27577711]";
    static const struct {
        const char *model, *file, *before, *levels, *after, *says; /* says: of the refusal, NULL = none */
    } cases[] = {
        {clip, "preprocessor_config.json", "{\"resample\":3,", openai, "}", NULL},
        {clip, "preprocessor_config.json", "{", halves, "}", "preprocessor_config.json: image_mean is not 0.481455"},
        {llava, "processor_config.json", "{\"image_processor\":{", halves, "}}", "processor_config.json: image_mean"},
        {llava, "processor_config.json", "{\"patch_size\":14}", "", "", NULL},
        {siglip, "preprocessor_config.json", "{", halves, "}", NULL},
        {siglip, "preprocessor_config.json", "{", openai, "}", "image_mean is not 0.5, 0.5, 0.5"},
        {siglip, "preprocessor_config.json", "{\"image_mean\":[0.5,0.5],", "\"do_normalize\":true", "}", "image_mean"},
        {clip, "preprocessor_config.json", "{\"do_normalize\":false,", openai, "}", "normalized"},
        {clip, "preprocessor_config.json", "{\"rescale_factor\":1,", openai, "}", "divided by 255"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *side = bif_path_join(folder, cases[i].file), *text = bif_format("%s%s%s", cases[i].before, cases[i].levels, cases[i].after);
        cr_assert_eq(bif_file_write(side, text, strlen(text)), BIF_OK);
        const bif_status st = read_text(cases[i].model);
        cr_expect_eq(st, cases[i].says == NULL ? BIF_OK : BIF_ERR_CONFIG, "%s: %s", text, bif_error_message());
        cr_expect(cases[i].says == NULL || strstr(bif_error_message(), cases[i].says) != NULL, "%s: %s", text, bif_error_message());
        remove(side);
        free(side);
        free(text);
    }
    char *side = bif_path_join(folder, "preprocessor_config.json");
    static const char squash[] = "{\"do_center_crop\":false,\"size\":{\"height\":224,\"width\":224}}";
    cr_assert_eq(bif_file_write(side, squash, strlen(squash)), BIF_OK);
    cr_expect(read_text(clip) == BIF_OK && strcmp(c.image_fit, "squash") == 0, "'%s'", c.image_fit);
    cr_expect(read_text("{\"model_type\":\"clip\",\"bifocal_image_fit\":\"pad\"}") == BIF_OK && strcmp(c.image_fit, "pad") == 0, "our own key");
    free(side);
}
