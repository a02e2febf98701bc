#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/compare.h"

static char folder[] = "/tmp/bif-open-clip-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(open_clip, .init = setup, .fini = teardown);

/* golden/layouts/clip_hf and clip_open are one model. */
Test(open_clip, the_same_model_in_other_names)
{
    bif_model_config a = {0}, b = {0};
    bif_safetensors *hf = NULL, *open = NULL;
    char *one = bif_format("%s/golden/layouts/clip_hf", getenv("BIFOCAL_TESTS"));
    char *two = bif_format("%s/golden/layouts/clip_open", getenv("BIFOCAL_TESTS"));
    cr_assert_eq(bif_hf_config_read(one, &a), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_hf_config_read(two, &b), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(memcmp(&a.vit, &b.vit, sizeof a.vit), 0);
    cr_expect_eq(memcmp(&a.text, &b.text, sizeof a.text), 0);
    cr_expect(a.projection == b.projection && a.logit_scale_init == b.logit_scale_init && !b.logit_bias);
    cr_expect_str_eq(b.image_fit, "crop");
    cr_assert_eq(bif_safetensors_open(one, &hf), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_safetensors_open(two, &open), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bif_safetensors_count(hf), bif_safetensors_count(open));
    for (int64_t i = 0; i < bif_safetensors_count(hf); i++) {
        const bif_st_entry *x = bif_safetensors_at(hf, i), *y = bif_safetensors_find(open, x->name);
        cr_expect(y != NULL && bif_same_shape(x, y) && memcmp(x->data, y->data, x->bytes) == 0, "%s", x->name);
    }
    bif_safetensors_close(hf);
    bif_safetensors_close(open);
    free(one);
    free(two);
}

Test(open_clip, names_that_do_not_split)
{
    float x[8] = {0};
    char path[96];
    bif_safetensors *set = NULL;
    snprintf(path, sizeof path, "%s/open_clip_model.safetensors", folder);
    bif_st_out out[] = {{"visual.conv1.weight", bif_tensor1(x, BIF_DTYPE_F32, 1), NULL},
                        {"visual.transformer.resblocks.0.attn.in_proj_weight", bif_tensor2(x, BIF_DTYPE_F32, 4, 2), NULL},
                        {"visual.transformer.resblocks.x.ln_1.weight", bif_tensor1(x, BIF_DTYPE_F32, 1), NULL},
                        {"visual.proj", bif_tensor1(x, BIF_DTYPE_F32, 1), NULL}};
    cr_assert_eq(bif_safetensors_write(path, out, 4, NULL, NULL, NULL), BIF_OK);
    cr_expect_eq(bif_safetensors_open(folder, &set), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "in_proj_weight does not split"), "%s", bif_error_message());
    out[1].tensor = bif_tensor2(x, BIF_DTYPE_F32, 3, 2);
    cr_assert_eq(bif_safetensors_write(path, out, 4, NULL, NULL, NULL), BIF_OK);
    cr_assert_eq(bif_safetensors_open(folder, &set), BIF_OK, "%s", bif_error_message());
    const bif_st_entry *k = bif_safetensors_find(set, "vision_model.encoder.layers.0.self_attn.k_proj.weight");
    const bif_st_entry *q = bif_safetensors_find(set, "vision_model.encoder.layers.0.self_attn.q_proj.weight");
    cr_expect(k != NULL && q != NULL && k->dim[0] == 1 && (const char *)k->data == (const char *)q->data + 8);
    cr_expect_not_null(bif_safetensors_find(set, "visual.transformer.resblocks.x.ln_1.weight"));
    bif_safetensors_close(set);
}

Test(open_clip, settings_that_are_refused)
{
    static const char *const cases[][2] = {
        {"{\"model_cfg\":{\"embed_dim\":8}}", "needs 'vision_cfg'"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"custom_text\":true,\"vision_cfg\":{},\"text_cfg\":{}}}", "'custom_text'"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{\"timm_model_name\":\"x\"},\"text_cfg\":{}}}", "'timm_model_name'"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{\"layers\":[3,4]},\"text_cfg\":{}}}", "layers"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{\"hf_model_name\":\"x\"}}}", "'hf_model_name'"},
        {"{\"model_cfg\":{\"vision_cfg\":{},\"text_cfg\":{}}}", "embed_dim"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{\"width\":-5},\"text_cfg\":{}}}", "hidden size"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{\"head_width\":0},\"text_cfg\":{}}}", "number of heads"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{\"mlp_ratio\":-1e300},\"text_cfg\":{}}}", "MLP width"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}},\"preprocess_cfg\":{\"mean\":[0.5,0.5,0.5]}}", "'mean'"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}},\"preprocess_cfg\":{\"interpolation\":\"bilinear\"}}",
         "'interpolation'"},
        {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}},\"preprocess_cfg\":{\"resize_mode\":\"longest\"}}", "'resize_mode'"},
    };
    char path[96];
    bif_model_config c = {0};
    snprintf(path, sizeof path, "%s/open_clip_config.json", folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(bif_file_write(path, cases[i][0], strlen(cases[i][0])), BIF_OK);
        const bif_status st = bif_hf_config_read(folder, &c);
        cr_expect(st == BIF_ERR_CONFIG || st == BIF_ERR_DATA, "case %zu: %d", i, (int)st);
        cr_expect_not_null(strstr(bif_error_message(), cases[i][1]), "case %zu: %s", i, bif_error_message());
    }
    static const char fine[] = "{\"model_cfg\":{\"embed_dim\":512,\"custom_text\":false,\"init_logit_bias\":-10,\"vision_cfg\":{"
                               "\"patch_size\":32,\"ls_init_value\":null},\"text_cfg\":{\"no_causal_mask\":false}},\"preprocess_cfg\":{\"resize_mode\":\"squash\"}}";
    cr_assert_eq(bif_file_write(path, fine, sizeof fine - 1), BIF_OK);
    cr_assert_eq(bif_hf_config_read(folder, &c), BIF_OK, "%s", bif_error_message());
    cr_expect(c.vit.hidden == 768 && c.vit.heads == 12 && c.vit.inner == 3072 && c.vit.act == BIF_ACT_GELU);
    cr_expect(c.text.eos == 49407 && c.logit_bias);
    cr_expect_str_eq(c.image_fit, "squash");
}
