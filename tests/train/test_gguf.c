/* What is written is read back with a reader of the test's own. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "kernels/convert.h"
#include "train/gguf_model.h"
#include "train/safetensors.h"

static char folder[] = "/tmp/bif-gguf-XXXXXX";

static void make_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(void)
{
    bif_remove_tree(folder);
}

TestSuite(gguf, .init = make_folder, .fini = remove_folder);

/* ---- the reader ---- */

typedef struct {
    char *data;
    size_t size, at;
    uint64_t tensors, keys;
    size_t data_start;
} gguf;

static uint64_t number(gguf *g, size_t bytes)
{
    uint64_t value = 0;
    cr_assert(g->size - g->at >= bytes, "the file ends at %zu", g->at);
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint64_t)(unsigned char)g->data[g->at++] << (8 * i);
    }
    return value;
}

static char *text(gguf *g)
{
    const uint64_t size = number(g, 8);
    cr_assert(size <= g->size - g->at);
    char *out = bif_format("%.*s", (int)size, g->data + g->at);
    g->at += size;
    return out;
}

static void skip_value(gguf *g, uint64_t type)
{
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) {
        free(text(g));
    } else if (type == 9) {
        const uint64_t item = number(g, 4), count = number(g, 8);
        for (uint64_t i = 0; i < count; i++) {
            skip_value(g, item);
        }
    } else {
        cr_assert(type < 13);
        g->at += sizes[type];
    }
}

static gguf open_gguf(const char *path)
{
    gguf g = {0};
    cr_assert(bif_file_read(path, (size_t)1 << 24, &g.data, &g.size) == BIF_OK, "%s", bif_error_message());
    cr_assert(g.size > 24 && memcmp(g.data, "GGUF", 4) == 0);
    g.at = 4;
    cr_assert_eq(number(&g, 4), 3);
    g.tensors = number(&g, 8);
    g.keys = number(&g, 8);
    return g;
}

/* Positions the reader on the value of a key and says its type; -1: there is no such key. */
static int find_key(gguf *g, const char *key)
{
    g->at = 24;
    for (uint64_t i = 0; i < g->keys; i++) {
        char *name = text(g);
        const int type = (int)number(g, 4);
        const bool here = strcmp(name, key) == 0;
        free(name);
        if (here) {
            return type;
        }
        skip_value(g, (uint64_t)type);
    }
    return -1;
}

static uint64_t key_u32(gguf *g, const char *key)
{
    cr_assert_eq(find_key(g, key), 4, "%s is no u32", key);
    return number(g, 4);
}

static char *key_text(gguf *g, const char *key)
{
    cr_assert_eq(find_key(g, key), 8, "%s is no text", key);
    return text(g);
}

/* Item i of a list of texts. */
static char *key_item(gguf *g, const char *key, uint64_t index)
{
    cr_assert_eq(find_key(g, key), 9, "%s is no list", key);
    cr_assert_eq(number(g, 4), 8);
    cr_assert_gt(number(g, 8), index);
    for (uint64_t i = 0; i < index; i++) {
        free(text(g));
    }
    return text(g);
}

typedef struct {
    uint64_t rank, dim[4], type, offset, elements;
} info;

/* Reads the list of tensors; *out is that of `name`, or rank 0. Starts and lengths are checked on the way. */
static void find_tensor(gguf *g, const char *name, info *out)
{
    uint64_t end = 0;
    find_key(g, "");
    *out = (info){0};
    for (uint64_t i = 0; i < g->tensors; i++) {
        char *other = text(g);
        info t = {.rank = number(g, 4), .elements = 1};
        cr_assert(t.rank >= 1 && t.rank <= 4);
        for (uint64_t k = 0; k < t.rank; k++) {
            t.dim[k] = number(g, 8);
            t.elements *= t.dim[k];
        }
        t.type = number(g, 4);
        t.offset = number(g, 8);
        cr_assert_eq(t.offset, (end + 31) / 32 * 32, "%s starts at %llu", other, (unsigned long long)t.offset);
        end = t.offset + t.elements * (t.type == 0 ? 4 : 2);
        if (strcmp(other, name) == 0) {
            *out = t;
        }
        free(other);
    }
    g->data_start = (g->at + 31) / 32 * 32;
    cr_assert_eq(g->size, g->data_start + (end + 31) / 32 * 32, "the data's end");
}

/* Halves of the tests are numbers that need few digits. */
static double half(uint64_t bits)
{
    const int exponent = (int)(bits >> 10 & 31);
    const double fraction = (double)(bits & 1023), sign = bits >> 15 ? -1.0 : 1.0;
    return exponent == 31 ? (bits & 1023 ? NAN : sign * INFINITY)
           : exponent == 0 ? sign * ldexp(fraction, -24)
                           : sign * ldexp(1024.0 + fraction, exponent - 25);
}

static double value(gguf *g, const info *t, uint64_t index)
{
    g->at = g->data_start + t->offset + index * (t->type == 0 ? 4 : 2);
    const uint64_t bits = number(g, t->type == 0 ? 4 : 2);
    const uint32_t wide = (uint32_t)(t->type == 30 ? bits << 16 : bits);
    float out;
    memcpy(&out, &wide, sizeof out);
    return t->type == 1 ? half(bits) : (double)out;
}

/* ---- the container ---- */

static const float numbers[] = {0.0f, -0.0f, 1.0f, 1.00048828125f, 1.0014648f, 65504.0f, -65519.0f, 6.1035156e-05f, 5.9604645e-08f,
                                2.9802322e-08f, 2.9802326e-08f, 8.940697e-08f, 6.1005e-05f, 0.333333333f};
#define COUNT ((int64_t)(sizeof numbers / sizeof numbers[0]))

static void read_numbers(const void *context, int64_t first, int64_t count, float *out)
{
    (void)context;
    memcpy(out, numbers + first, (size_t)count * sizeof *out);
}

static void read_large(const void *context, int64_t first, int64_t count, float *out)
{
    for (int64_t i = 0; i < count; i++) {
        out[i] = *(const float *)context + (float)((first + i) % 1000);
    }
}

Test(gguf, container)
{
    char *path = bif_path_join(folder, "a.gguf"), digest[33], want[33];
    uint64_t bytes = 0, length = 0;
    info t;
    bif_gguf *file = bif_gguf_new();
    bif_gguf_put_text(file, "general.architecture", "none");
    bif_gguf_put_u32(file, "a.number", 4000000000);
    bif_gguf_put_bool(file, "a.yes", true);
    bif_gguf_put_i32s(file, "a.list", (const int32_t[]){-1, 7}, 2);
    bif_gguf_begin_texts(file, "a.texts", 2);
    bif_gguf_text(file, "one", 3);
    bif_gguf_text(file, "", 0);
    bif_gguf_put_f32(file, "a.real", 0.5f);
    bif_gguf_tensor(file, "half", 1, (const int64_t[]){COUNT}, BIF_GGUF_F16, read_numbers, NULL);
    bif_gguf_tensor(file, "brain", 1, (const int64_t[]){COUNT}, BIF_GGUF_BF16, read_numbers, NULL);
    float *base = bif_malloc(sizeof *base);
    *base = 5.0f;
    bif_gguf_tensor(file, "large", 2, (const int64_t[]){3, 100001}, BIF_GGUF_F32, read_large, base);
    cr_assert_eq(bif_gguf_write(file, path, digest, &bytes), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_digest_file(path, want, &length), BIF_OK);
    cr_expect_str_eq(digest, want);
    cr_expect_eq(bytes, length);
    gguf g = open_gguf(path);
    cr_expect_eq(g.keys, 6);
    cr_expect_eq(key_u32(&g, "a.number"), 4000000000);
    cr_expect_eq(find_key(&g, "a.yes"), 7);
    cr_expect_eq(find_key(&g, "a.list"), 9);
    cr_expect_eq(number(&g, 4), 5);
    cr_expect_eq(number(&g, 8), 2);
    cr_expect_eq(number(&g, 4), 0xffffffff);
    cr_expect_eq(find_key(&g, "a.real"), 6);
    cr_expect_eq(number(&g, 4), 0x3f000000);
    cr_expect_eq(find_key(&g, "a.none"), -1);
    find_tensor(&g, "half", &t);
    for (int64_t i = 0; i < COUNT; i++) {
        const double have = value(&g, &t, (uint64_t)i), x = (double)numbers[i];
        int exponent;
        frexp(x, &exponent);
        const double unit = ldexp(1.0, (exponent < -13 ? -13 : exponent) - 11); /* a step of half precision there */
        cr_expect(x == 0.0 ? have == 0.0 : have == nearbyint(x / unit) * unit, "%g became %g", x, have);
    }
    find_tensor(&g, "brain", &t);
    cr_expect_eq(t.type, 30);
    for (int64_t i = 0; i < COUNT; i++) {
        cr_expect_eq(value(&g, &t, (uint64_t)i), (double)bif_from_bf16(bif_to_bf16(numbers[i])));
    }
    find_tensor(&g, "large", &t);
    cr_expect(t.rank == 2 && t.dim[0] == 100001 && t.dim[1] == 3, "the fastest axis comes first");
    cr_expect_eq(value(&g, &t, 299999), 5.0 + 999.0);
    bif_gguf_free(file);
    free(g.data);
    free(path);
}

Test(gguf, beyond_half)
{
    char *path = bif_path_join(folder, "b.gguf");
    bif_gguf *file = bif_gguf_new();
    float *base = bif_malloc(sizeof *base);
    *base = 65519.0f; /* the first is rounded down to 65504, the second is not */
    bif_gguf_tensor(file, "large", 1, (const int64_t[]){2}, BIF_GGUF_F16, read_large, base);
    cr_expect_eq(bif_gguf_write(file, path, NULL, NULL), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "tensor large holds 65520") != NULL, "%s", bif_error_message());
    cr_expect_not(bif_exists(path));
    bif_gguf_free(file);
    free(path);
}

/* ---- a LLaVA ---- */

static const char tokenizer[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\",\"special\":true},"
    "{\"id\":2,\"content\":\"</s>\",\"special\":true},{\"id\":6,\"content\":\"<tool>\",\"special\":false}],"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"a\":3,\"\u0120\":4,\"\u0120a\":5},"
    "\"merges\":[\"\u0120 a\"]}}";

static void expect_text(char *have, const char *want)
{
    cr_expect_str_eq(have, want);
    free(have);
}

/* A tensor of the export against one of the source; rotated: q and k, heads of 4 rows. */
static void expect_tensor(gguf *g, const char *name, const bif_safetensors *set, const char *source, bool rotated)
{
    info t;
    const bif_st_entry *entry = bif_safetensors_find(set, source);
    cr_assert_not_null(entry, "%s", source);
    find_tensor(g, name, &t);
    cr_assert_eq(t.rank, (uint64_t)entry->rank, "%s is not there", name);
    for (uint64_t i = 0; i < t.rank; i++) {
        cr_assert_eq(t.dim[i], (uint64_t)entry->dim[t.rank - 1 - i], "%s, axis %llu", name, (unsigned long long)i);
    }
    float *want = bif_malloc(t.elements * sizeof *want);
    bif_entry_floats(entry, 0, (int64_t)t.elements, want);
    for (uint64_t i = 0; i < t.elements; i++) {
        static const uint64_t row_of[] = {0, 2, 1, 3}; /* x0 x2 | x1 x3: halves become neighbours */
        const uint64_t row = i / t.dim[0], from = rotated ? (row / 4 * 4 + row_of[row % 4]) * t.dim[0] + i % t.dim[0] : i;
        cr_assert_eq(value(g, &t, i), (double)want[from], "%s, element %llu", name, (unsigned long long)i);
    }
    free(want);
}

Test(gguf, llava)
{
    char *source = bif_format("%s/golden/layouts/hf_old", getenv("BIFOCAL_TESTS"));
    char *words = bif_path_join(folder, "tokenizer.json"), *out = bif_path_join(folder, "small");
    bif_safetensors *set = NULL;
    info t;
    cr_assert_eq(bif_file_write(words, tokenizer, strlen(tokenizer)), BIF_OK);
    const bif_gguf_options options = {.type = BIF_GGUF_F16, .tokenizer = words};
    cr_assert_eq(bif_gguf_export(source, out, &options), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_safetensors_open(source, &set), BIF_OK);
    char *path = bif_path_join(out, "small-F16.gguf");
    gguf g = open_gguf(path);
    expect_text(key_text(&g, "general.architecture"), "llama");
    expect_text(key_text(&g, "tokenizer.ggml.model"), "gpt2");
    expect_text(key_text(&g, "tokenizer.ggml.pre"), "gpt-2");
    expect_text(key_item(&g, "tokenizer.ggml.tokens", 5), "\u0120a");
    expect_text(key_item(&g, "tokenizer.ggml.tokens", 7), "[PAD7]");
    expect_text(key_item(&g, "tokenizer.ggml.merges", 0), "\u0120 a");
    cr_expect_eq(find_key(&g, "tokenizer.ggml.token_type"), 9);
    cr_expect_eq(number(&g, 4), 5);
    cr_assert_eq(number(&g, 8), 24);
    for (int i = 0; i < 24; i++) { /* control, normal, user-defined, unused */
        cr_expect_eq(number(&g, 4), i < 3 ? 3 : i < 6 ? 1 : i == 6 ? 4 : 5, "type of token %d", i);
    }
    cr_expect_eq(key_u32(&g, "tokenizer.ggml.bos_token_id"), 1);
    cr_expect_eq(key_u32(&g, "tokenizer.ggml.eos_token_id"), 2);
    cr_expect_eq(key_u32(&g, "llama.attention.head_count_kv"), 2);
    cr_expect_eq(key_u32(&g, "llama.block_count"), 1);
    cr_expect_eq(key_u32(&g, "llama.vocab_size"), 24);
    cr_expect_eq(g.tensors, 12);
    expect_tensor(&g, "blk.0.attn_q.weight", set, "language_model.model.layers.0.self_attn.q_proj.weight", true);
    expect_tensor(&g, "blk.0.attn_k.weight", set, "language_model.model.layers.0.self_attn.k_proj.weight", true);
    expect_tensor(&g, "blk.0.attn_v.weight", set, "language_model.model.layers.0.self_attn.v_proj.weight", false);
    expect_tensor(&g, "blk.0.ffn_down.weight", set, "language_model.model.layers.0.mlp.down_proj.weight", false);
    expect_tensor(&g, "blk.0.ffn_norm.weight", set, "language_model.model.layers.0.post_attention_layernorm.weight", false);
    expect_tensor(&g, "token_embd.weight", set, "language_model.model.embed_tokens.weight", false);
    expect_tensor(&g, "output.weight", set, "language_model.lm_head.weight", false);
    find_tensor(&g, "blk.0.attn_norm.weight", &t);
    cr_expect(t.rank == 1 && t.type == 0, "norms are f32");
    free(g.data);
    free(path);
    path = bif_path_join(out, "mmproj-small-F16.gguf");
    g = open_gguf(path);
    expect_text(key_text(&g, "general.architecture"), "clip");
    expect_text(key_text(&g, "clip.projector_type"), "mlp");
    cr_expect_eq(key_u32(&g, "clip.vision.block_count"), 1, "of two, feature layer -2 needs one");
    cr_expect_eq(find_key(&g, "clip.vision.feature_layer"), 9);
    g.at += 12;
    cr_expect_eq(number(&g, 4), 1);
    cr_expect_eq(find_key(&g, "clip.use_gelu"), 7);
    cr_expect_eq(number(&g, 1), 0, "quick-GELU");
    cr_expect_eq(g.tensors, 5 + 16 + 4, "no block behind the feature layer, no post_ln");
    expect_tensor(&g, "v.class_embd", set, "vision_tower.embeddings.class_embedding", false);
    expect_tensor(&g, "v.patch_embd.weight", set, "vision_tower.embeddings.patch_embedding.weight", false);
    expect_tensor(&g, "v.blk.0.ffn_up.weight", set, "vision_tower.encoder.layers.0.mlp.fc1.weight", false);
    expect_tensor(&g, "v.blk.0.attn_q.weight", set, "vision_tower.encoder.layers.0.self_attn.q_proj.weight", false);
    expect_tensor(&g, "mm.2.weight", set, "multi_modal_projector.linear_2.weight", false);
    find_tensor(&g, "v.patch_embd.weight", &t);
    cr_expect(t.type == 1 && t.rank == 4);
    find_tensor(&g, "v.position_embd.weight", &t);
    cr_expect_eq(t.type, 0);
    free(g.data);
    free(path);
    bif_safetensors_close(set);
    cr_expect_eq(bif_gguf_export(source, out, &options), BIF_ERR_USAGE, "OUT is there");
    free(words);
    free(out);
    free(source);
}

/* The tests' LLaVA with a decoder of this type and this rotation, exported; *g is the decoder's file. */
static bif_status export_scaled(const char *name, const char *type, const char *scaling, gguf *g)
{
    char *golden = bif_format("%s/golden/layouts/hf_old", getenv("BIFOCAL_TESTS")), *source = bif_path_join(folder, name), *data = NULL;
    static const char *const files[] = {"config.json", "model.safetensors"};
    bif_status st = bif_make_dirs(source);
    for (int i = 0; i < 2; i++) {
        size_t size = 0;
        char *from = bif_path_join(golden, files[i]), *to = bif_path_join(source, files[i]);
        cr_assert_eq(bif_file_read(from, 1 << 20, &data, &size), BIF_OK);
        char *rope = i == 0 ? strstr(data, "\"default\"") : NULL, *kind = i == 0 ? strstr(data, "\"model_type\": \"llama\"") : NULL;
        cr_assert(i == 1 || (rope != NULL && kind != NULL && kind < rope));
        char *text = i == 0 ? bif_format("%.*s\"model_type\": \"%s\"%.*s%s%s", (int)(kind - data), data, type, (int)(rope - kind - 21),
                                         kind + 21, scaling, rope + strlen("\"default\""))
                            : NULL;
        cr_assert_eq(i == 0 ? bif_file_write(to, text, strlen(text)) : bif_file_write(to, data, size), BIF_OK);
        free(text);
        free(data);
        free(from);
        free(to);
    }
    char *words = bif_path_join(folder, "tokenizer.json"), *out = bif_format("%s-out", source);
    cr_assert_eq(bif_file_write(words, tokenizer, strlen(tokenizer)), BIF_OK);
    const bif_gguf_options options = {.type = BIF_GGUF_F32, .tokenizer = words};
    st = bif_gguf_export(source, out, &options);
    if (st == BIF_OK) {
        char *path = bif_format("%s/%s-F32.gguf", out, bif_path_base(out));
        *g = open_gguf(path);
        free(path);
    }
    free(golden);
    free(source);
    free(words);
    free(out);
    return st;
}

#define LLAMA3 "\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":1000"

Test(gguf, scaled_rotation)
{
    gguf g;
    info t;
    cr_assert_eq(export_scaled("llama3", "llama", LLAMA3, &g), BIF_OK, "%s", bif_error_message());
    find_tensor(&g, "rope_freqs.weight", &t);
    cr_assert(t.rank == 1 && t.dim[0] == 2 && t.type == 0);
    cr_expect_eq(value(&g, &t, 0), 1.0);
    cr_expect_float_eq(value(&g, &t, 1), 3.3609464, 1e-6); /* inv_freq of the plain model / inv_freq, transformers 5.23 */
    cr_expect_eq(find_key(&g, "llama.rope.scaling.type"), -1);
    free(g.data);
    cr_assert_eq(export_scaled("linear", "llama", "\"linear\",\"factor\":4.0", &g), BIF_OK, "%s", bif_error_message());
    expect_text(key_text(&g, "llama.rope.scaling.type"), "linear");
    cr_expect_eq(find_key(&g, "llama.rope.scaling.factor"), 6, "f32");
    const uint32_t bits = (uint32_t)number(&g, 4);
    cr_expect_eq(bits, 0x40800000u);
    find_tensor(&g, "rope_freqs.weight", &t);
    cr_expect_eq(t.rank, 0);
    free(g.data);
    cr_expect_eq(export_scaled("qwen2", "qwen2", LLAMA3, &g), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "not for qwen2"), "%s", bif_error_message());
}
