#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "kernels/convert.h"
#include "train/adapter.h"
#include "train/hf_folder.h"
#include "train/networks.h"
#include "host_device.h"

static char folder[] = "/tmp/bif-adapter-XXXXXX";
static char golden[512], layouts[512], base[520];

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(golden, sizeof golden, "%s/golden/peft", getenv("BIFOCAL_TESTS"));
    snprintf(layouts, sizeof layouts, "%s/golden/layouts", getenv("BIFOCAL_TESTS"));
    snprintf(base, sizeof base, "%s/base", golden);
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(adapter, .init = setup, .fini = teardown);

/* ---- merging, against PEFT ---- */

static float *floats_of(const bif_safetensors *set, const bif_st_entry *entry)
{
    float *out = bif_malloc(entry->bytes / bif_dtype_size(entry->dtype) * sizeof *out + 4);
    cr_assert_eq(bif_safetensors_read_f32(set, entry, out), BIF_OK);
    return out;
}

/* Every tensor of golden/peft/NAME.safetensors is what the adapter in golden/peft/NAME makes of the base's. */
static void expect_merged(const char *name, const char *under, const char *tower, int64_t deltas)
{
    bif_safetensors *set = NULL, *want = NULL;
    char *path = bif_format("%s/%s", golden, name), *file = bif_format("%s/%s.safetensors", golden, name);
    cr_assert_eq(bif_hf_open_with(path, &(bif_beside){under, tower}, &set), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_safetensors_open(file, &want), BIF_OK);
    for (int64_t i = 0; i < bif_safetensors_count(want); i++) {
        const bif_st_entry *w = bif_safetensors_at(want, i), *have = bif_safetensors_find(set, w->name);
        cr_assert(have != NULL && have->rank == w->rank && have->dim[0] == w->dim[0], "%s: %s", name, w->name);
        float *x = floats_of(set, have), *y = floats_of(want, w);
        double apart = 0.0, size = 0.0;
        for (size_t k = 0; k < w->bytes / 4; k++) {
            apart += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
            size += (double)y[k] * y[k];
        }
        cr_expect(sqrt(apart) <= 1e-6 * sqrt(size), "%s: %s is off by %g of %g", name, w->name, sqrt(apart), sqrt(size));
        free(x);
        free(y);
    }
    for (int64_t i = 0; i < bif_safetensors_count(set); i++) {
        deltas -= bif_safetensors_at(set, i)->delta != NULL;
    }
    cr_expect_eq(deltas, 0, "%s: %lld tensors too few are adapted", name, (long long)deltas);
    bif_safetensors_close(set);
    bif_safetensors_close(want);
    free(path);
    free(file);
}

Test(adapter, merges_as_peft_does)
{
    expect_merged("lora", base, NULL, 14);
    expect_merged("rslora", base, NULL, 4);
}

Test(adapter, merges_into_a_llava_of_transformers)
{
    char *under = bif_format("%s/hf_old", layouts), *other = bif_format("%s/hf_new", layouts);
    expect_merged("hf", under, NULL, 4);
    /* The same adapter on the base under other names. */
    bif_safetensors *a = NULL, *b = NULL;
    char *path = bif_format("%s/hf", golden);
    cr_assert_eq(bif_hf_open_with(path, &(bif_beside){under, NULL}, &a), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_hf_open_with(path, &(bif_beside){other, NULL}, &b), BIF_OK, "%s", bif_error_message());
    const bif_st_entry *x = bif_safetensors_find(a, "multi_modal_projector.linear_1.weight");
    const bif_st_entry *y = bif_safetensors_find(b, "model.multi_modal_projector.linear_1.weight");
    cr_assert(x != NULL && y != NULL && x->delta != NULL && y->delta != NULL);
    cr_expect_eq(memcmp(x->delta->a.data, y->delta->a.data, x->delta->a.bytes), 0);
    bif_safetensors_close(a);
    bif_safetensors_close(b);
    free(path);
    free(under);
    free(other);
}

Test(adapter, of_llava_with_projector_and_a_leak_into_the_tower)
{
    char *under = bif_format("%s/native", layouts), *tower = bif_format("%s/tower", layouts), *path = bif_format("%s/llava", golden);
    bif_model_config config;
    expect_merged("llava", under, tower, 8);
    cr_assert_eq(bif_hf_config_read_with(path, &(bif_beside){under, tower}, &config), BIF_OK, "%s", bif_error_message());
    cr_expect(config.kind == BIF_MODEL_LLAVA && config.vit.image == 16 && config.projector.depth == 2, "architectures says LlamaForCausalLM");
    cr_expect_eq(bif_hf_config_read_with(path, &(bif_beside){under, NULL}, &config), BIF_OK, "the name of the tower is OpenAI's");
    bif_safetensors *set = NULL;
    cr_expect_eq(bif_hf_open_with(path, &(bif_beside){under, NULL}, &set), BIF_ERR_DATA, "its tower is nowhere");
    cr_expect_not_null(strstr(bif_error_message(), "--tower"), "%s", bif_error_message());
    free(under);
    free(tower);
    free(path);
}

/* ---- reading in pieces, and rounding ---- */

enum { OUT = 301, IN = 1111, RANK = 37 };

static float *draw(int64_t count, uint64_t seed)
{
    float *out = bif_malloc((size_t)count * sizeof *out);
    for (int64_t i = 0; i < count; i++) {
        out[i] = (float)(bif_rng_uniform(seed, 0, (uint64_t)i, 0) - 0.5);
    }
    return out;
}

static bif_st_entry matrix(void *data, bif_dtype dtype, int64_t rows, int64_t columns)
{
    return (bif_st_entry){.name = (char *)"w", .dtype = dtype, .rank = 2, .dim = {rows, columns}, .data = data,
                          .bytes = (size_t)(rows * columns) * bif_dtype_size(dtype)};
}

Test(adapter, any_piece_has_the_bits_of_the_whole)
{
    float *w = draw(OUT * IN, 1), *a = draw(RANK * IN, 2), *b = draw(OUT * RANK, 3), *whole = bif_malloc(OUT * IN * 4), *piece = bif_malloc(OUT * IN * 4);
    const bif_st_delta second = {matrix(a, BIF_DTYPE_F32, RANK, IN), matrix(b, BIF_DTYPE_F32, OUT, RANK), 0.5f, NULL};
    const bif_st_delta first = {second.a, second.b, 1.25f, &second};
    bif_st_entry entry = matrix(w, BIF_DTYPE_F32, OUT, IN);
    entry.delta = &first;
    bif_entry_floats(&entry, 0, OUT * IN, whole);
    double worst = 0.0;
    for (int64_t i = 0; i < OUT; i++) {
        for (int64_t j = 0; j < IN; j++) {
            double sum = 0.0;
            for (int64_t k = 0; k < RANK; k++) {
                sum += (double)b[i * RANK + k] * a[k * IN + j];
            }
            worst = fmax(worst, fabs(whole[i * IN + j] - (w[i * IN + j] + 1.75 * sum)));
        }
    }
    cr_expect_lt(worst, 4e-6, "off by %g", worst);
    static const int64_t steps[] = {1, 77, IN - 1, IN, IN + 1, 3 * IN + 500, 290 * IN};
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        const int64_t most = s == 0 ? 3000 : OUT * IN; /* one by one takes long */
        for (int64_t at = 0; at < most; at += steps[s]) {
            bif_entry_floats(&entry, at, most - at < steps[s] ? most - at : steps[s], piece + at);
        }
        cr_expect_eq(memcmp(piece, whole, (size_t)most * 4), 0, "pieces of %lld", (long long)steps[s]);
    }
    free(w);
    free(a);
    free(b);
    free(whole);
    free(piece);
}

/* Numbers that an adapter adds to zeros: what is stored is the nearest of the dtype. */
static void expect_rounded(const float *values, int64_t count)
{
    float one = 1.0f;
    uint16_t *zeros = bif_calloc((size_t)count, 2), *got = bif_malloc((size_t)count * 2);
    const bif_st_delta delta = {matrix((void *)(uintptr_t)values, BIF_DTYPE_F32, 1, count), matrix(&one, BIF_DTYPE_F32, 1, 1), 1.0f, NULL};
    bif_st_entry entry = matrix(zeros, BIF_DTYPE_F16, 1, count);
    entry.delta = &delta;
    bif_entry_bytes(&entry, 0, count, got);
    for (int64_t i = 0; i < count; i++) {
        const _Float16 wanted = (_Float16)values[i];
        uint16_t bits;
        memcpy(&bits, &wanted, 2);
        cr_assert(got[i] == bits || (values[i] == 0.0f && (got[i] & 0x7fff) == 0), "%a becomes %04x, not %04x", (double)values[i], got[i], bits);
    }
    entry.dtype = BIF_DTYPE_BF16;
    bif_entry_bytes(&entry, 0, count, got);
    for (int64_t i = 0; i < count; i++) {
        cr_assert(got[i] == bif_to_bf16(values[i]) || values[i] == 0.0f, "%a", (double)values[i]);
    }
    free(zeros);
    free(got);
}

Test(adapter, sums_are_rounded_once_to_the_bases_dtype)
{
    enum { N = 400000 };
    float *values = bif_malloc(N * sizeof *values);
    for (int64_t i = 0; i < N; i++) { /* all exponents that f16 has, and some more on both sides */
        values[i] = ldexpf((float)(bif_rng_uniform(9, 0, (uint64_t)i, 0) - 0.5), (int)(i % 50) - 30);
    }
    for (int i = 0; i < 4000; i++) { /* ties, and subnormal ones */
        values[i] = ldexpf((float)(2 * i + 1), -25);
        values[4000 + i] = ldexpf((float)(4096 + 2 * i + 1), -10);
    }
    static const float edges[] = {65504.0f, 65519.996f, 65520.0f, 1e30f, -65520.0f, 0x1p-14f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 0x1.ffcp-15f, INFINITY};
    memcpy(values + 9000, edges, sizeof edges);
    expect_rounded(values, N);
    free(values);
}

Test(adapter, half_numbers_survive)
{
    float zero = 0.0f, *zeros = bif_calloc(65536, 4);
    uint16_t *all = bif_malloc(65536 * 2), *got = bif_malloc(65536 * 2);
    for (int i = 0; i < 65536; i++) {
        all[i] = (uint16_t)i;
    }
    const bif_st_delta delta = {matrix(zeros, BIF_DTYPE_F32, 1, 65536), matrix(&zero, BIF_DTYPE_F32, 1, 1), 1.0f, NULL};
    for (int k = 0; k < 2; k++) {
        bif_st_entry entry = matrix(all, k == 0 ? BIF_DTYPE_F16 : BIF_DTYPE_BF16, 1, 65536);
        entry.delta = &delta;
        bif_entry_bytes(&entry, 0, 65536, got);
        const unsigned top = k == 0 ? 0x7c00 : 0x7f80;
        for (unsigned i = 0; i < 65536; i++) {
            const bool nan = (i & 0x7fff) > top;
            cr_assert(nan ? (got[i] & 0x7fff) > top : got[i] == i || (i == 0x8000 && got[i] == 0), "%04x becomes %04x", i, got[i]);
        }
    }
    free(zeros);
    free(all);
    free(got);
}

/* ---- folders made here ---- */

#define CONFIG "\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4"
#define Q "base_model.model.model.layers.0.self_attn.q_proj"

static void write_text(const char *name, const char *file, const char *text)
{
    char *dir = bif_format("%s/%s", folder, name), *path = bif_format("%s/%s", dir, file);
    cr_assert_eq(bif_make_dirs(dir), BIF_OK);
    cr_assert_eq(bif_file_write(path, text, strlen(text)), BIF_OK);
    free(dir);
    free(path);
}

static float ones[4096];

/* FOLDER/name with these settings and tensors, given as name, rows, columns; ended by NULL. */
typedef struct {
    const char *name;
    int64_t rows, columns;
} factor;

static void write_adapter(const char *name, const char *settings, const factor *factors)
{
    char *text = bif_format("{%s}\n", settings), *path = bif_format("%s/%s/adapter_model.safetensors", folder, name);
    bif_st_out out[8];
    int64_t count = 0;
    for (size_t i = 0; i < 4096; i++) {
        ones[i] = 1.0f;
    }
    for (; factors[count].name != NULL; count++) {
        out[count] = (bif_st_out){factors[count].name, bif_tensor2(ones, BIF_DTYPE_F32, factors[count].rows, factors[count].columns), NULL};
    }
    write_text(name, "adapter_config.json", text);
    cr_assert_eq(bif_safetensors_write(path, out, count, NULL, NULL, NULL), BIF_OK);
    free(text);
    free(path);
}

static bif_status open_made(const char *name, const char *under, bif_safetensors **out)
{
    char *path = bif_format("%s/%s", folder, name);
    const bif_status st = bif_hf_open_with(path, &(bif_beside){under, NULL}, out);
    free(path);
    return st;
}

static const factor good[] = {{Q ".lora_A.weight", 2, 16}, {Q ".lora_B.weight", 16, 2}, {NULL, 0, 0}};

Test(adapter, every_form_of_a_name)
{
    static const char *const forms[] = {"base_model.model.model.layers.0.self_attn.q_proj", "base_model.model.model.language_model.layers.0.self_attn.q_proj",
                                        "base_model.model.language_model.model.layers.0.self_attn.q_proj", "base_model.model.layers.0.self_attn.q_proj"};
    for (size_t i = 0; i < 8; i++) {
        char *a = bif_format("%s.lora_A.%sweight", forms[i / 2], i % 2 ? "default." : ""), *b = bif_format("%s.lora_B.%sweight", forms[i / 2], i % 2 ? "default." : "");
        bif_safetensors *set = NULL;
        write_adapter("form", CONFIG, (factor[]){{a, 2, 16}, {b, 16, 2}, {NULL, 0, 0}});
        cr_assert_eq(open_made("form", base, &set), BIF_OK, "%s", bif_error_message());
        const bif_st_entry *q = bif_safetensors_find(set, "model.layers.0.self_attn.q_proj.weight");
        cr_expect(q->delta != NULL && q->delta->scale == 2.0f, "%s", forms[i / 2]);
        bif_safetensors_close(set);
        free(a);
        free(b);
    }
}

Test(adapter, upon_an_adapter)
{
    bif_safetensors *set = NULL, *plain = NULL;
    char *first = bif_format(CONFIG ", \"base_model_name_or_path\": \"%s\"", base), *second = bif_format(CONFIG ", \"base_model_name_or_path\": \"%s/first\"", folder);
    write_adapter("first", first, good);
    write_adapter("second", second, good);
    cr_assert_eq(open_made("second", NULL, &set), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_hf_open(base, &plain), BIF_OK);
    const char *name = "model.layers.0.self_attn.q_proj.weight";
    float *x = floats_of(set, bif_safetensors_find(set, name)), *y = floats_of(plain, bif_safetensors_find(plain, name));
    for (int i = 0; i < 256; i++) {
        cr_assert_float_eq(x[i], y[i] + 2.0f * 2.0f * 2.0f, 1e-5);
    }
    bif_model_config config;
    char *path = bif_format("%s/second", folder);
    cr_expect_eq(bif_hf_config_read(path, &config), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(config.decoder.hidden, 16, "from the base of the base");
    bif_safetensors_close(set);
    bif_safetensors_close(plain);
    free(path);
    free(first);
    free(second);
    free(x);
    free(y);
}

static void expect_message(bif_status st, bif_status code, const char *part)
{
    cr_expect_eq(st, code, "%d, not %d: %s", (int)st, (int)code, bif_error_message());
    cr_expect(strstr(bif_error_message(), part) != NULL, "'%s' is not in: %s", part, bif_error_message());
}

Test(adapter, without_its_base)
{
    bif_safetensors *set = NULL;
    bif_model_config config;
    char *circle = bif_format(CONFIG ", \"base_model_name_or_path\": \"%s/circle\"", folder), *path = bif_format("%s/circle", folder);
    write_adapter("lost", CONFIG ", \"base_model_name_or_path\": \"lmsys/vicuna-7b-v1.5\"", good);
    expect_message(open_made("lost", NULL, &set), BIF_ERR_CONFIG, "base_model_name_or_path 'lmsys/vicuna-7b-v1.5' is no folder here; name the base's folder by --base");
    expect_message(bif_hf_open_with(base, &(bif_beside){base, NULL}, &set), BIF_ERR_CONFIG, "is no adapter");
    expect_message(bif_hf_config_read_with(base, &(bif_beside){base, NULL}, &config), BIF_ERR_CONFIG, "is no adapter");
    write_adapter("circle", circle, good);
    expect_message(open_made("circle", NULL, &set), BIF_ERR_DATA, "name each other");
    expect_message(bif_hf_config_read(path, &config), BIF_ERR_DATA, "name each other");
    free(circle);
    free(path);
}

Test(adapter, settings_that_are_refused)
{
    static const struct {
        const char *settings, *part;
    } cases[] = {
        {"\"r\": 2", "'peft_type'"},
        {"\"peft_type\": \"IA3\", \"r\": 2", "'peft_type' is IA3"},
        {"\"peft_type\": \"LORA\"", "'r'"},
        {"\"peft_type\": \"LORA\", \"r\": 0", "r is 0"},
        {"\"peft_type\": \"LORA\", \"r\": \"2\"", "'r'"},
        {CONFIG ", \"bias\": \"lora_only\"", "'bias' is lora_only"},
        {CONFIG ", \"use_dora\": true", "'use_dora'"},
        {CONFIG ", \"fan_in_fan_out\": true", "'fan_in_fan_out'"},
        {CONFIG ", \"modules_to_save\": [\"lm_head\"]", "'modules_to_save'"},
        {CONFIG ", \"rank_pattern\": {\"q_proj\": 4}", "'rank_pattern'"},
        {CONFIG ", \"alpha_pattern\": {\"q_proj\": 4}", "'alpha_pattern'"},
        {CONFIG ", \"lora_bias\": true", "'lora_bias'"},
        {CONFIG ", \"trainable_token_indices\": [1]", "'trainable_token_indices'"},
        {CONFIG ", \"init_lora_weights\": \"pissa_niter_4\"", "'init_lora_weights' is pissa_niter_4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bif_safetensors *set = NULL;
        write_adapter("odd", cases[i].settings, good);
        const bif_status st = open_made("odd", base, &set);
        expect_message(st, st == BIF_ERR_DATA ? BIF_ERR_DATA : BIF_ERR_CONFIG, cases[i].part);
        expect_message(st, st, "odd/adapter_config.json");
    }
    bif_safetensors *set = NULL;
    write_adapter("off", CONFIG ", \"use_dora\": null, \"modules_to_save\": [], \"rank_pattern\": {}, \"bias\": null, \"init_lora_weights\": \"gaussian\"", good);
    cr_expect_eq(open_made("off", base, &set), BIF_OK, "%s", bif_error_message());
    bif_safetensors_close(set);
}

Test(adapter, tensors_that_are_refused)
{
    static const struct {
        factor factors[4];
        const char *part;
    } cases[] = {
        {{{Q ".lora_A.weight", 2, 16}}, "is there without " Q ".lora_B.weight"},
        {{{Q ".lora_B.weight", 16, 2}}, "is there without " Q ".lora_A.weight"},
        {{{Q ".lora_A.weight", 3, 16}, {Q ".lora_B.weight", 16, 3}}, "is f32 [3, 16]"},
        {{{Q ".lora_A.weight", 2, 15}, {Q ".lora_B.weight", 16, 2}}, "[2, 16] and [16, 2] are wanted"},
        {{{Q ".lora_A.weight", 2, 16}, {Q ".lora_B.weight", 2, 16}}, "[2, 16] and [16, 2] are wanted"},
        {{{"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", 2, 16}, {"base_model.model.model.layers.9.self_attn.q_proj.lora_B.weight", 16, 2}},
         "adapts model.layers.9.self_attn.q_proj.weight, which the base does not have"},
        {{{"base_model.model.model.layers.0.input_layernorm.lora_A.weight", 2, 16}, {"base_model.model.model.layers.0.input_layernorm.lora_B.weight", 16, 2}},
         "matrices of linear layers can be adapted"},
        {{{"base_model.model.lm_head.weight", 24, 16}}, "base_model.model.lm_head.weight is no factor"},
        {{{"model.layers.0.self_attn.q_proj.lora_A.weight", 2, 16}}, "is no factor"},
        {{{Q ".lora_magnitude_vector", 1, 16}}, "is no factor"},
        {{{Q ".lora_A.weight", 2, 16}, {Q ".lora_B.weight", 16, 2}, {Q ".lora_A.default.weight", 2, 16}}, "is there without"},
        {{{NULL, 0, 0}}, "holds no tensors"},
    };
    bif_safetensors *set = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_adapter("odd", CONFIG, cases[i].factors);
        expect_message(open_made("odd", base, &set), BIF_ERR_DATA, cases[i].part);
        expect_message(BIF_ERR_DATA, BIF_ERR_DATA, "odd/adapter_model.safetensors");
    }
    write_adapter("odd", CONFIG, (factor[]){{Q ".lora_A.weight", 2, 16}, {Q ".lora_B.weight", 16, 2}, {Q ".lora_A.default.weight", 2, 16},
                                            {Q ".lora_B.default.weight", 16, 2}, {NULL, 0, 0}});
    expect_message(open_made("odd", base, &set), BIF_ERR_DATA, "a second time");
    write_text("empty", "adapter_config.json", "{" CONFIG "}");
    expect_message(open_made("empty", base, &set), BIF_ERR_DATA, "neither adapter_model.safetensors nor adapter_model.bin");
}

Test(adapter, into_the_table)
{
    bif_device device = host_device();
    bif_model_config config;
    bif_vlm vlm = {0};
    char *path = bif_format("%s/lora", golden), *file = bif_format("%s/lora.safetensors", golden);
    cr_assert_eq(bif_hf_config_read_with(path, &(bif_beside){base, NULL}, &config), BIF_OK, "%s", bif_error_message());
    bif_vlm_declare(&vlm, &config);
    cr_assert_eq(bif_vlm_allocate(&vlm, &device, 1), BIF_OK);
    cr_assert_eq(bif_hf_load_with(path, &(bif_beside){base, NULL}, &vlm.params, ~0u), BIF_OK, "%s", bif_error_message());
    bif_safetensors *want = NULL;
    cr_assert_eq(bif_safetensors_open(file, &want), BIF_OK);
    const bif_param *p = bif_params_find(&vlm.params, "model.layers.1.mlp.down_proj.weight");
    float *y = floats_of(want, bif_safetensors_find(want, p->name));
    for (int64_t i = 0; i < bif_numel(&p->value); i++) {
        cr_assert_float_eq(((float *)p->value.data)[i], y[i], 1e-5);
    }
    free(y);
    bif_safetensors_close(want);
    bif_vlm_free(&vlm);
    free(path);
    free(file);
}
