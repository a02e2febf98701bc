#include <criterion/criterion.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer.h"
#include "kernels/convert.h"
#include "train/hf_folder.h"
#include "train/networks.h"
#include "train/safetensors.h"
#include "host_device.h"

#define ALL ((1u << BIF_GROUPS) - 1)

static char folder[] = "/tmp/bif-hf-folder-XXXXXX";
static bif_device device;
static bif_vlm vlm;
static char golden[512];

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
    device = host_device();
    snprintf(golden, sizeof golden, "%s/golden/hf/llava", getenv("BIFOCAL_TESTS"));
    bif_model_config config = {0};
    cr_assert_eq(bif_hf_config_read(golden, &config), BIF_OK, "%s", bif_error_message());
    bif_vlm_declare(&vlm, &config);
    cr_assert_eq(bif_vlm_allocate(&vlm, &device, 1), BIF_OK);
}

static void teardown(void)
{
    bif_vlm_free(&vlm);
    bif_remove_tree(folder);
}

TestSuite(hf_folder, .init = setup, .fini = teardown);

/* The value make_hf.py gave element 0: the sum of the characters of the last two words, the layer, "encoder". */
static float start_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *from = dot == NULL ? name : dot;
    while (from > name && from[-1] != '.') {
        from--;
    }
    float sum = strstr(name, "encoder.") != NULL ? 5000.0f : 0.0f;
    for (const char *c = from; *c != '\0'; c++) {
        sum += *c == '.' ? 0.0f : (float)*c;
    }
    const char *layer = strstr(name, "layers.");
    return sum + (layer == NULL ? 0.0f : 1000.0f * (float)atoi(layer + 7));
}

static void expect_values(unsigned groups)
{
    for (int64_t i = 0; i < vlm.params.count; i++) {
        const bif_param *p = &vlm.params.items[i];
        const float *value = p->value.data;
        const int64_t last = bif_numel(&p->value) - 1;
        const bool loaded = (groups & 1u << p->group) != 0;
        cr_expect_eq(value[0], loaded ? start_of(p->name) : 0.0f, "%s: %g", p->name, (double)value[0]);
        cr_expect_eq(value[last], loaded ? start_of(p->name) + (float)last / 128 : 0.0f, "%s", p->name);
    }
}

Test(hf_folder, llava_of_transformers_5)
{
    cr_assert_eq(bif_hf_load(golden, &vlm.params, ALL), BIF_OK, "%s", bif_error_message());
    expect_values(ALL);
}

Test(hf_folder, only_the_groups_asked_for)
{
    cr_assert_eq(bif_hf_load(golden, &vlm.params, 1u << BIF_GROUP_PROJECTOR), BIF_OK);
    expect_values(1u << BIF_GROUP_PROJECTOR);
}

Test(hf_folder, a_vision_tower_alone)
{
    char tower[512];
    snprintf(tower, sizeof tower, "%s/golden/hf/clip_vision", getenv("BIFOCAL_TESTS"));
    cr_assert_eq(bif_hf_load(tower, &vlm.params, 1u << BIF_GROUP_ENCODER), BIF_OK, "%s", bif_error_message());
    expect_values(1u << BIF_GROUP_ENCODER);
    cr_expect_eq(bif_hf_load(tower, &vlm.params, 1u << BIF_GROUP_DECODER), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "language_model.model.embed_tokens.weight of the decoder"), "%s", bif_error_message());
}

/* Writes the table's tensors under other names: each rule replaces a prefix. An empty replacement "-" drops the tensor. */
static void write_renamed(const char *const rules[][2])
{
    bif_st_out *out = bif_calloc((size_t)vlm.params.count, sizeof *out);
    int64_t count = 0;
    for (int64_t i = 0; i < vlm.params.count; i++) {
        const bif_param *p = &vlm.params.items[i];
        char *name = bif_strdup(p->name);
        for (int r = 0; rules[r][0] != NULL; r++) {
            if (strncmp(name, rules[r][0], strlen(rules[r][0])) == 0) {
                char *new_name = strcmp(rules[r][1], "-") == 0 ? NULL : bif_format("%s%s", rules[r][1], name + strlen(rules[r][0]));
                free(name);
                name = new_name;
                break;
            }
        }
        if (name != NULL) {
            out[count++] = (bif_st_out){name, p->value, NULL};
        }
    }
    char *path = bif_path_join(folder, "model.safetensors");
    cr_assert_eq(bif_safetensors_write(path, out, count, NULL, NULL, NULL), BIF_OK);
    for (int64_t i = 0; i < count; i++) {
        free((char *)out[i].name);
    }
    free(path);
    free(out);
}

Test(hf_folder, every_other_layout)
{
    static const char *const layouts[][6][2] = {
        {{NULL, NULL}}, /* transformers 4: the table's own names */
        {{"language_model.model.", "model.language_model."}, {"language_model.lm_head.", "lm_head."}, {"vision_tower.", "model.vision_tower."},
         {"multi_modal_projector.", "model.multi_modal_projector."}, {NULL, NULL}},
        {{"language_model.model.", "model.language_model."}, {"language_model.lm_head.", "lm_head."},
         {"vision_tower.vision_model.", "model.vision_tower."}, {"multi_modal_projector.", "model.multi_modal_projector."}, {NULL, NULL}},
        {{"language_model.model.", "model."}, {"language_model.lm_head.", "lm_head."}, {"vision_tower.", "model.vision_tower.vision_tower."},
         {"multi_modal_projector.linear_1.", "model.mm_projector.0."}, {"multi_modal_projector.linear_2.", "model.mm_projector.2."}},
    };
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        const char *rules[7][2] = {{NULL, NULL}};
        memcpy(rules, layouts[i], sizeof layouts[i]);
        if (i == 3) {
            rules[5][0] = NULL;
        }
        cr_assert_eq(bif_hf_load(golden, &vlm.params, ALL), BIF_OK);
        write_renamed(rules);
        memset(vlm.params.values, 0, (size_t)vlm.params.flat * sizeof(float));
        cr_expect_eq(bif_hf_load(folder, &vlm.params, ALL), BIF_OK, "layout %zu: %s", i, bif_error_message());
        expect_values(ALL);
    }
}

Test(hf_folder, parts_of_other_models)
{
    cr_assert_eq(bif_hf_load(golden, &vlm.params, ALL), BIF_OK);
    /* A decoder alone, a CLIP model, and a projector as LLaVA's stage 1 saves it. */
    static const struct {
        const char *rules[5][2];
        unsigned group;
    } cases[] = {
        {{{"language_model.model.", "model."}, {"language_model.lm_head.", "lm_head."}, {"vision", "-"}, {"multi", "-"}, {NULL, NULL}},
         1u << BIF_GROUP_DECODER},
        {{{"vision_tower.vision_model.", "vision_model."}, {"language", "-"}, {"multi", "-"}, {NULL, NULL}}, 1u << BIF_GROUP_ENCODER},
        {{{"multi_modal_projector.linear_1.", "model.mm_projector.0."}, {"multi_modal_projector.linear_2.", "model.mm_projector.2."},
          {"language", "-"}, {"vision", "-"}, {NULL, NULL}},
         1u << BIF_GROUP_PROJECTOR},
    };
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(bif_hf_load(golden, &vlm.params, ALL), BIF_OK);
        write_renamed(cases[i].rules);
        memset(vlm.params.values, 0, (size_t)vlm.params.flat * sizeof(float));
        cr_expect_eq(bif_hf_load(folder, &vlm.params, cases[i].group), BIF_OK, "%zu: %s", i, bif_error_message());
        expect_values(cases[i].group);
        cr_expect_eq(bif_hf_load(folder, &vlm.params, ALL), BIF_ERR_DATA, "the rest is not there");
    }
}

Test(hf_folder, wrong_shapes_are_named)
{
    bif_model_config config = vlm.config;
    config.decoder.inner = 23;
    bif_vlm other = {0};
    bif_vlm_declare(&other, &config);
    cr_assert_eq(bif_vlm_allocate(&other, &device, 1), BIF_OK);
    cr_expect_eq(bif_hf_load(golden, &other.params, ALL), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "f32 [24, 16]"), "%s", bif_error_message());
    cr_expect_not_null(strstr(bif_error_message(), "f32 [23, 16]"), "%s", bif_error_message());
    cr_expect_not_null(strstr(bif_error_message(), "model.safetensors"), "%s", bif_error_message());
    bif_vlm_free(&other);
}

static bool in_folder(const char *name)
{
    char *path = bif_path_join(folder, name);
    const bool there = bif_exists(path);
    free(path);
    return there;
}

static const char *text_of(const char *file, const char *key)
{
    static char text[64];
    const char *found = "";
    json_t *root = NULL;
    char *path = bif_path_join(folder, file);
    cr_assert_eq(bif_json_load_file(path, 1 << 20, &root), BIF_OK, "%s", bif_error_message());
    bif_json_string(file, root, key, false, &found);
    snprintf(text, sizeof text, "%s", found);
    json_decref(root);
    free(path);
    return text;
}

Test(hf_folder, saving_and_the_small_files)
{
    cr_assert_eq(bif_hf_load(golden, &vlm.params, ALL), BIF_OK);
    char *tokenizer = bif_format("%s/source/tokenizer.json", folder);
    char *source = bif_path_parent(tokenizer);
    cr_assert_eq(bif_make_dirs(source), BIF_OK);
    const char json[] = "{\"added_tokens\":[{\"id\":3,\"content\":\"<image>\"}],\"decoder\":{\"type\":\"Fuse\"},"
                        "\"model\":{\"vocab\":{\"a\":0,\"<s>\":1,\"</s>\":2},\"merges\":[]}}";
    cr_assert_eq(bif_file_write(tokenizer, json, sizeof json - 1), BIF_OK);
    cr_assert_eq(bif_hf_save(folder, &vlm.config, &vlm.params, tokenizer), BIF_OK, "%s", bif_error_message());
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
                                        "preprocessor_config.json", "processor_config.json"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        cr_expect(in_folder(files[i]), "%s", files[i]);
    }
    cr_expect_str_eq(text_of("tokenizer_config.json", "bos_token"), "<s>");
    cr_expect_str_eq(text_of("tokenizer_config.json", "eos_token"), "</s>");
    memset(vlm.params.values, 0, (size_t)vlm.params.flat * sizeof(float));
    cr_assert_eq(bif_hf_load(folder, &vlm.params, ALL), BIF_OK, "%s", bif_error_message());
    expect_values(ALL);

    char *own = bif_path_join(source, "tokenizer_config.json"); /* a tokenizer that came with its config keeps it */
    cr_assert_eq(bif_file_write(own, "{\"bos_token\":\"mine\"}", 20), BIF_OK);
    cr_assert_eq(bif_hf_save(folder, &vlm.config, &vlm.params, source), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(text_of("tokenizer_config.json", "bos_token"), "mine");
    cr_expect_eq(bif_hf_save(folder, &vlm.config, &vlm.params, "/nowhere/tokenizer.json"), BIF_ERR_IO);
    free(own);
    free(source);
    free(tokenizer);
}

/* tokenizer.model and vocab.json with merges.txt go along under their own names, with a config that names their class. */
Test(hf_folder, other_tokenizers_travel_too)
{
    static const struct {
        const char *from, *file, *also, *class_name;
    } cases[] = {{"llama", "tokenizer.model", "tokenizer.model", "LlamaTokenizer"}, {"clip", "vocab.json", "merges.txt", "CLIPTokenizer"}};
    for (size_t i = 0; i < 2; i++) {
        char *from = bif_format("%s/golden/tokens/%s", getenv("BIFOCAL_TESTS"), cases[i].from), *source = bif_format("%s/source-%zu", folder, i);
        static const char *const names[] = {"tokenizer.model", "vocab.json", "merges.txt"};
        cr_assert_eq(bif_make_dirs(source), BIF_OK);
        for (size_t k = 0; k < 3; k++) { /* the files of the model alone */
            char *path = bif_path_join(from, names[k]), *to = bif_path_join(source, names[k]), *data = NULL;
            size_t size = 0;
            if (bif_exists(path)) {
                cr_assert_eq(bif_file_read(path, 1 << 20, &data, &size), BIF_OK);
                cr_assert_eq(bif_file_write(to, data, size), BIF_OK);
            }
            free(path);
            free(to);
            free(data);
        }
        bif_tokenizer *t = NULL;
        cr_assert_eq(bif_tokenizer_load(source, &t), BIF_OK, "%s", bif_error_message());
        vlm.config.image_token = i == 0 ? (int32_t)bif_tokenizer_vocab(t) : vlm.config.image_token; /* which the file lacks: it is added */
        bif_tokenizer_free(t);
        cr_assert_eq(bif_hf_save(folder, &vlm.config, &vlm.params, source), BIF_OK, "%s", bif_error_message());
        cr_expect(in_folder(cases[i].file) && in_folder(cases[i].also));
        cr_expect(i != 0 || in_folder("added_tokens.json"), "LLaVA's program opens tokenizer.model itself, and what was added beside it");
        cr_expect(in_folder("tokenizer.json"), "for a LLaVA transformers 5 makes no tokenizer, or a wrong one, of the others alone");
        cr_expect_str_eq(text_of("tokenizer_config.json", "tokenizer_class"), cases[i].class_name);
        cr_assert_eq(bif_remove_tree(source), BIF_OK);
        free(from);
        free(source);
    }
}

/* A folder of each dtype into a table of each dtype, longer than the pieces it is read in. */
Test(hf_folder, files_and_tables_of_any_dtype)
{
    const int64_t n = ((int64_t)1 << 18) + 5;
    static const bif_dtype files[] = {BIF_DTYPE_F32, BIF_DTYPE_F16, BIF_DTYPE_BF16}, tables[] = {BIF_DTYPE_F32, BIF_DTYPE_BF16};
    char *path = bif_path_join(folder, "model.safetensors");
    float *f32 = bif_malloc((size_t)n * sizeof *f32);
    uint16_t *half = bif_malloc((size_t)n * sizeof *half);
    for (size_t f = 0; f < 3; f++) {
        for (int64_t i = 0; i < n; i++) { /* 257 and 771 lie between two bf16; all of them are f16 */
            f32[i] = files[f] == BIF_DTYPE_BF16 ? (float)(i % 256) : (float)(i % 1024);
            const int exponent = f32[i] > 0 ? ilogbf(f32[i]) : -15;
            const int f16 = f32[i] > 0 ? (exponent + 15) << 10 | (int)(ldexpf(f32[i], 10 - exponent) - 1024) : 0;
            half[i] = files[f] == BIF_DTYPE_BF16 ? bif_to_bf16(f32[i]) : (uint16_t)f16;
        }
        const bif_tensor content = bif_tensor1(files[f] == BIF_DTYPE_F32 ? (void *)f32 : half, files[f], n);
        cr_assert_eq(bif_safetensors_write(path, &(bif_st_out){"visual_projection.weight", content, NULL}, 1, NULL, NULL, NULL), BIF_OK);
        for (size_t t = 0; t < 2; t++) {
            bif_params params = {0};
            bif_params_add(&params, "visual_projection.weight", BIF_GROUP_JOINT, 1, &n, false, BIF_INIT_ZERO, 0);
            bif_params_set_dtype(&params, tables[t]);
            cr_assert_eq(bif_params_allocate(&params, &device, 1), BIF_OK);
            cr_assert_eq(bif_hf_load(folder, &params, ALL), BIF_OK, "%s", bif_error_message());
            for (int64_t i = 0; i < n; i++) {
                const float got = t == 0 ? ((float *)params.values)[i] : bif_from_bf16(((uint16_t *)params.values)[i]);
                cr_assert_eq(got, t == 0 ? f32[i] : bif_from_bf16(bif_to_bf16(f32[i])), "file %zu, table %zu, %g", f, t, (double)f32[i]);
            }
            bif_params_free(&params);
        }
    }
    free(path);
    free(f32);
    free(half);
}

Test(hf_folder, a_bf16_table_saves_a_bf16_folder)
{
    bif_vlm other;
    bif_vlm_declare(&other, &vlm.config);
    bif_params_set_dtype(&other.params, BIF_DTYPE_BF16);
    cr_assert_eq(bif_vlm_allocate(&other, &device, 1), BIF_OK);
    cr_assert_eq(bif_hf_load(golden, &other.params, ALL), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_hf_save(folder, &other.config, &other.params, NULL), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(text_of("config.json", "torch_dtype"), "bfloat16");
    bif_safetensors *set = NULL;
    cr_assert_eq(bif_safetensors_open(folder, &set), BIF_OK);
    for (int64_t i = 0; i < bif_safetensors_count(set); i++) {
        cr_expect_eq(bif_safetensors_at(set, i)->dtype, BIF_DTYPE_BF16);
    }
    bif_safetensors_close(set);
    char before[33], after[33];
    bif_params_digest(&other.params, true, before);
    memset(other.params.values, 0, (size_t)other.params.flat * sizeof(uint16_t));
    cr_assert_eq(bif_hf_load(folder, &other.params, ALL), BIF_OK, "%s", bif_error_message());
    bif_params_digest(&other.params, true, after);
    cr_expect_str_eq(after, before);
    bif_vlm_free(&other);
}
