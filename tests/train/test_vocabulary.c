#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "train/build.h"
#include "train/hf_folder.h"
#include "train/networks.h"
#include "train/vocabulary.h"

static char folder[] = "/tmp/bif-vocabulary-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(vocabulary, .init = setup, .fini = teardown);

#define OK(call) cr_assert_eq((call), BIF_OK, "%s", bif_error_message())

static const bif_model_config stock = {.kind = BIF_MODEL_LLAVA,
                                       .vit = {.hidden = 16, .layers = 1, .heads = 2, .inner = 24, .patch = 8, .image = 16, .eps = 1e-5f},
                                       .decoder = {.hidden = 16,
                                                   .layers = 1,
                                                   .heads = 2,
                                                   .kv_heads = 1,
                                                   .head_dim = 8,
                                                   .inner = 24,
                                                   .positions = 64,
                                                   .eps = 1e-5f,
                                                   .rope_theta = 1e4f,
                                                   .bos = 1,
                                                   .eos = 2},
                                       .projector = {.kind = BIF_PROJECTOR_LINEAR, .depth = 1, .in = 16, .out = 16},
                                       .feature_layer = -1,
                                       .image_token = -1,
                                       .pad_token = -1};

/* A tokenizer of golden/tokens into a file of its own, with <image> and what comes behind it taken out or renamed. */
static char *stock_tokenizer(void)
{
    char *from = bif_format("%s/golden/tokens/smollm2/tokenizer.json", getenv("BIFOCAL_TESTS")),
         *to = bif_path_join(folder, "tokenizer.json");
    char *text = NULL;
    size_t size = 0;
    OK(bif_file_read(from, 1 << 20, &text, &size));
    for (char *at = text; (at = strstr(at, "<image>")) != NULL;) {
        memcpy(at, "<other>", 7);
    }
    OK(bif_file_write(to, text, size));
    free(text);
    free(from);
    return to;
}

static bif_tokenizer *load(const char *path)
{
    bif_tokenizer *t = NULL;
    OK(bif_tokenizer_load(path, &t));
    return t;
}

Test(vocabulary, grows_only_where_no_row_is_spare)
{
    static const struct {
        int64_t spare, rows, classes;
    } cases[] = {{0, 448, 403}, {1, 448, 404}, {2, 405, 0}, {100, 503, 0}};
    char *path = stock_tokenizer();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bif_tokenizer *t = load(path);
        bif_model_config model = stock;
        cr_assert_eq(bif_tokenizer_vocab(t), 403);
        model.decoder.vocab = 403 + cases[i].spare;
        OK(bif_vocabulary_fit(&model, t, path));
        cr_expect(model.image_token == 403 && model.pad_token == 404);
        cr_expect(model.decoder.vocab == cases[i].rows && model.decoder.classes == cases[i].classes, "%d spare: %d rows, %d classes",
                  (int)cases[i].spare, (int)model.decoder.vocab, (int)model.decoder.classes);
        cr_expect(bif_tokenizer_special(t, "<image>") == 403 && bif_tokenizer_special(t, "<pad>") == 404 && bif_tokenizer_vocab(t) == 405);
        OK(bif_model_check(&model, "grown"));
        /* The grown model with the stock tokenizer, as when a checkpoint is trained further. */
        bif_tokenizer *again = load(path);
        bif_model_config grown = model;
        OK(bif_vocabulary_fit(&grown, again, path));
        cr_expect_eq(memcmp(&grown, &model, sizeof model), 0);
        cr_expect_eq(bif_tokenizer_special(again, "<image>"), 403);
        bif_tokenizer_free(again);
        bif_tokenizer_free(t);
    }
    bif_tokenizer *t = load(path);
    bif_model_config foreign = stock;
    foreign.decoder.vocab = 500;
    foreign.image_token = 410;
    cr_expect_eq(bif_vocabulary_fit(&foreign, t, path), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "token 410 of 500, but the tokenizer ends at 402"), "%s", bif_error_message());
    bif_model_config alone = {.kind = BIF_MODEL_DECODER, .decoder = stock.decoder, .image_token = -1};
    alone.decoder.vocab = 403;
    OK(bif_vocabulary_fit(&alone, t, path));
    cr_expect_eq(bif_tokenizer_vocab(t), 403, "a decoder alone needs no picture");
    bif_tokenizer_free(t);
    free(path);
}

/* Text of such a tokenizer would have labels that are no classes. */
Test(vocabulary, a_tokenizer_with_more_words_than_the_model_is_refused)
{
    char *path = stock_tokenizer();
    const bif_model_kind kinds[] = {BIF_MODEL_LLAVA, BIF_MODEL_DECODER};
    for (size_t i = 0; i < 2; i++) {
        bif_tokenizer *t = load(path);
        bif_model_config model = stock;
        model.kind = kinds[i];
        model.decoder.vocab = 390;
        cr_expect_eq(bif_vocabulary_fit(&model, t, path), BIF_ERR_CONFIG);
        cr_expect_not_null(strstr(bif_error_message(), "403 tokens, but the model only has 390, and token 390 is no special one"), "%s",
                           bif_error_message());
        cr_expect_eq(model.decoder.vocab, 390);
        bif_tokenizer_free(t);
    }
    /* A special token behind them is no word: so padding was added to many a Llama. But no answer may end with it. */
    bif_tokenizer *t = load(path);
    bif_model_config model = stock;
    int32_t id = -1;
    OK(bif_tokenizer_add(t, "<|im_stop|>", &id));
    cr_assert_eq(id, 403);
    model.decoder.vocab = 403;
    OK(bif_vocabulary_fit(&model, t, path));
    cr_expect(model.image_token == 404 && model.decoder.classes == 403);
    bif_chat chat;
    OK(bif_build_chat(&model, t, "vicuna_v1", NULL, "front", 64, false, &chat));
    model.decoder.eos = 403;
    cr_expect_eq(bif_build_chat(&model, t, "vicuna_v1", NULL, "front", 64, false, &chat), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "token 403"), "%s", bif_error_message());
    bif_tokenizer_free(t);
    free(path);
}

Test(vocabulary, padding_that_is_there_is_kept)
{
    static const struct {
        const char *config;
        int32_t pad;
    } cases[] = {{"{\"pad_token\": \"</s>\"}", 1},
                 {"{\"pad_token\": {\"content\": \"<|im_end|>\"}}", 4},
                 {"{\"pad_token\": \"<s>\", \"unk_token\": \"<s>\"}", 404},
                 {"{\"pad_token\": \"<unk>\"}", 404},
                 {"{\"pad_token\": \"nowhere\"}", 404}};
    char *path = stock_tokenizer(), *side = bif_path_join(folder, "tokenizer_config.json");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        OK(bif_file_write(side, cases[i].config, strlen(cases[i].config)));
        bif_tokenizer *t = load(path);
        bif_model_config model = stock;
        model.decoder.vocab = 403;
        OK(bif_vocabulary_fit(&model, t, path));
        cr_expect_eq(model.pad_token, cases[i].pad, "%s: %d", cases[i].config, model.pad_token);
        bif_tokenizer_free(t);
    }
    free(side);
    free(path);
}

/* What is saved opens with the tokens, whatever the tokenizer came as; everything else in the files stays. */
Test(vocabulary, saved_tokenizers_have_the_tokens)
{
    static const char *const names[] = {"llama_prepend", "llama", "llama_legacy", "sp_bpe", "sp_unigram", "clip"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *source = bif_format("%s/golden/tokens/%s", getenv("BIFOCAL_TESTS"), names[i]), *out = bif_path_join(folder, names[i]);
        bif_tokenizer *t = load(source);
        bif_model_config model = stock;
        const int32_t next = (int32_t)bif_tokenizer_vocab(t);
        const bif_new_token tokens[] = {{"<picture>", next}, {"<filler>", next + 1}};
        OK(bif_make_dirs(out));
        model.decoder.vocab = next + 2;
        OK(bif_hf_side_files(out, &model, source));
        OK(bif_tokenizer_add_to_folder(out, tokens, 2));
        bif_tokenizer *after = load(out);
        cr_expect_eq(bif_tokenizer_vocab(after), bif_tokenizer_vocab(t) + 2, "%s", names[i]);
        bif_ids before_ids = {0}, after_ids = {0};
        static const char text[] = "A red circle, isn't it?  12345 \xc3\xa9";
        OK(bif_tokenizer_encode(t, text, strlen(text), true, &before_ids));
        OK(bif_tokenizer_encode(after, text, strlen(text), true, &after_ids));
        cr_expect(before_ids.count == after_ids.count && memcmp(before_ids.ids, after_ids.ids, before_ids.count * 4) == 0, "%s", names[i]);
        after_ids.count = 0;
        OK(bif_tokenizer_encode(after, "<picture><filler>", 17, true, &after_ids));
        cr_expect(after_ids.count == 2 && after_ids.ids[0] == next && after_ids.ids[1] == next + 1, "%s", names[i]);
        after_ids.count = 0;
        OK(bif_tokenizer_encode(after, "<picture>", 9, false, &after_ids));
        cr_expect(after_ids.count > 1, "%s: a user can forge it", names[i]);
        /* In memory the same ids. */
        int32_t id = -1;
        OK(bif_tokenizer_add(t, "<picture>", &id));
        cr_expect_eq(id, next);
        OK(bif_tokenizer_add(t, "<picture>", &id));
        cr_expect_eq(id, next, "twice");
        before_ids.count = after_ids.count = 0;
        OK(bif_tokenizer_encode(t, "a <picture> b", 13, true, &before_ids));
        OK(bif_tokenizer_encode(after, "a <picture> b", 13, true, &after_ids));
        cr_expect(before_ids.count == after_ids.count && memcmp(before_ids.ids, after_ids.ids, before_ids.count * 4) == 0, "%s", names[i]);
        bif_ids_free(&before_ids);
        bif_ids_free(&after_ids);
        bif_tokenizer_free(after);
        bif_tokenizer_free(t);
        free(source);
        free(out);
    }
}

/* A decoder alone: transformers' class for Llama would place the spaces anew, so a tokenizer.json travels that the generic class reads as it is. What
 * has no tokenizer.json that is equal travels alone. */
Test(vocabulary, a_decoder_gets_a_tokenizer_json_too)
{
    static const char *const names[] = {"llama", "llama_legacy", "sp_bpe"};
    for (size_t i = 0; i < 3; i++) {
        char *source = bif_format("%s/golden/tokens/%s", getenv("BIFOCAL_TESTS"), names[i]), *out = bif_path_join(folder, names[i]);
        char *path = bif_path_join(out, "tokenizer.json"), *side = bif_path_join(out, "tokenizer_config.json");
        bif_model_config alone = {.kind = BIF_MODEL_DECODER, .decoder = stock.decoder, .image_token = -1};
        json_t *root = NULL, *config = NULL, *added = NULL;
        size_t k = 0;
        OK(bif_make_dirs(out));
        OK(bif_hf_side_files(out, &alone, source));
        OK(bif_json_load_file(side, 1 << 20, &config));
        const char *class_name = json_string_value(json_object_get(config, "tokenizer_class"));
        cr_expect_eq(bif_exists(path), i < 2, "%s", names[i]);
        cr_expect_eq(strcmp(class_name, "PreTrainedTokenizerFast") == 0, i < 2, "%s: %s", names[i], class_name);
        if (i < 2) {
            OK(bif_json_load_file(path, 1 << 24, &root));
            json_array_foreach(json_object_get(root, "added_tokens"), k, added)
            {
                const char *content = json_string_value(json_object_get(added, "content"));
                if (strcmp(content, "</s>") == 0 || strcmp(content, "<s>") == 0) {
                    cr_expect_eq(json_is_true(json_object_get(added, "normalized")), i == 0 && content[1] == '/', "%s: %s", names[i], content);
                }
            }
            cr_expect(json_is_object(json_object_get(root, "post_processor")), "BOS");
            char *model = bif_path_join(out, "tokenizer.model"); /* and the file itself is read as before, too */
            bif_tokenizer_free(load(model));
            free(model);
        }
        json_decref(root);
        json_decref(config);
        free(source);
        free(out);
        free(path);
        free(side);
    }
}

/* Mean and covariance of many new rows against those of the old ones. */
Test(vocabulary, new_rows_are_spread_like_the_old)
{
    enum { V = 203, C = 4, N = 20000 };
    float old[V * C], *rows = bif_malloc(sizeof(float) * N * C), *again = bif_malloc(sizeof(float) * 7 * C);
    double mean[C] = {0}, covariance[C][C] = {{0}}, drawn[C] = {0};
    for (int j = 0; j < V; j++) { /* columns that belong together */
        const float a = bif_rng_normal(1, BIF_RNG_TEST, 0, (uint32_t)j), b = bif_rng_normal(1, BIF_RNG_TEST, 1, (uint32_t)j);
        const float row[C] = {1.0f + a, a + b, 5.0f - 2.0f * b, 0.1f * a};
        memcpy(old + j * C, row, sizeof row);
    }
    for (int j = 0; j < V * C; j++) {
        mean[j % C] += (double)old[j] / V;
    }
    for (int j = 0; j < V; j++) {
        for (int c = 0; c < C * C; c++) {
            covariance[c / C][c % C] += ((double)old[j * C + c / C] - mean[c / C]) * ((double)old[j * C + c % C] - mean[c % C]) / V;
        }
    }
    const bif_st_entry entry = {.name = (char[]){"w"}, .dtype = BIF_DTYPE_F32, .rank = 2, .dim = {V, C}, .data = old, .bytes = sizeof old};
    bif_vocabulary_draw(&entry, 7, "w", N, rows);
    bif_vocabulary_draw(&entry, 7, "w", 7, again);
    cr_expect_eq(memcmp(rows, again, sizeof(float) * 7 * C), 0, "row k is the same however many are drawn");
    bif_vocabulary_draw(&entry, 8, "w", 7, again);
    cr_expect_neq(memcmp(rows, again, sizeof(float) * 7 * C), 0, "another seed");
    bif_vocabulary_draw(&entry, 7, "head", 7, again);
    cr_expect_neq(memcmp(rows, again, sizeof(float) * 7 * C), 0, "another matrix");
    for (int k = 0; k < N * C; k++) {
        drawn[k % C] += (double)rows[k] / N;
    }
    for (int c = 0; c < C; c++) {
        cr_expect(fabs(drawn[c] - mean[c]) < 1e-4 * sqrt(covariance[c][c]), "column %d: mean %g, of the old rows %g", c, drawn[c], mean[c]);
        for (int d = 0; d < C; d++) {
            double sum = 0.0;
            for (int k = 0; k < N; k++) {
                sum += ((double)rows[k * C + c] - drawn[c]) * ((double)rows[k * C + d] - drawn[d]) / N;
            }
            cr_expect(fabs(sum / 1e-5 - covariance[c][d]) < 0.04 * sqrt(covariance[c][c] * covariance[d][d]), "[%d,%d]: %g, want %g", c, d,
                      sum / 1e-5, covariance[c][d]);
        }
    }
    free(rows);
    free(again);
}

static void open_vlm(bif_vlm *vlm, const bif_model_config *model, bif_device *device)
{
    bif_vlm_declare(vlm, model);
    OK(bif_vlm_allocate(vlm, device, 1));
    bif_params_init(&vlm->params, 3, ~0u);
}

/* The grown model computes the stock one's loss and gradients; the new rows get none. Tied and not. */
Test(vocabulary, rows_that_are_no_classes_change_nothing)
{
    bif_device *device = NULL;
    OK(bif_device_open("cpu", 1, &device));
    for (int tied = 0; tied < 2; tied++) {
        bif_model_config small = {.kind = BIF_MODEL_DECODER, .decoder = stock.decoder, .image_token = -1, .pad_token = -1}, large;
        small.decoder.vocab = 37;
        small.decoder.tied = tied;
        large = small;
        large.decoder.vocab = 64;
        large.decoder.classes = 37;
        bif_vlm a, b;
        open_vlm(&a, &small, device);
        OK(bif_hf_save(folder, &small, &a.params, NULL));
        open_vlm(&b, &large, device);
        OK(bif_hf_load(folder, &b.params, ~0u));
        const bif_param *was = bif_params_find(&a.params, "model.embed_tokens.weight"),
                        *is = bif_params_find(&b.params, "model.embed_tokens.weight");
        cr_expect_eq(memcmp(was->value.data, is->value.data, bif_bytes(&was->value)), 0);
        double sum = 0.0;
        for (int64_t k = bif_numel(&was->value); k < bif_numel(&is->value); k++) {
            sum += fabs((double)((const float *)is->value.data)[k]);
        }
        cr_expect(sum > 0.0 && isfinite(sum), "rows that were added are drawn");
        const bif_batch_limits limits = {.tokens = 9, .sequences = 1};
        bif_batch *batch = bif_batch_new(&limits);
        const int32_t ids[] = {1, 5, 9, 36, 3, 7, 20, 11, 2};
        const struct bif_encoded_view view = {.ids = ids, .labels = ids, .count = 9};
        cr_assert(bif_batch_add(batch, &limits, &view, NULL, 0));
        bif_loss loss[2];
        bif_vlm *const models[] = {&a, &b};
        for (int i = 0; i < 2; i++) {
            const size_t size = bif_vlm_measure(models[i], device, &limits, true);
            void *memory = NULL;
            OK(device->alloc(device, size, &memory));
            bif_arena arena = bif_arena_over("test", memory, size);
            bif_vlm_step(models[i], device, &arena, batch, 0.125f, true, &loss[i]);
            device->release(device, memory);
        }
        cr_expect_eq(loss[0].loss_sum, loss[1].loss_sum);
        for (int64_t i = 0; i < a.params.count; i++) {
            const bif_tensor *x = &a.params.items[i].grad, *y = &b.params.items[i].grad;
            cr_expect_eq(memcmp(x->data, y->data, bif_bytes(x)), 0, "%s", a.params.items[i].name);
            for (int64_t k = bif_numel(x); k < bif_numel(y); k++) {
                cr_assert_eq(((const float *)y->data)[k], 0.0f, "%s: a new row has a gradient", a.params.items[i].name);
            }
        }
        /* The grown one is saved and read back with its classes; a stock table is no place for it. */
        bif_model_config back;
        OK(bif_hf_save(folder, &large, &b.params, NULL));
        OK(bif_hf_config_read(folder, &back));
        cr_expect(back.decoder.vocab == 64 && back.decoder.classes == 37);
        OK(bif_hf_load(folder, &b.params, ~0u));
        cr_expect_eq(bif_hf_load(folder, &a.params, ~0u), BIF_ERR_DATA);
        back.decoder.classes = 65;
        cr_expect_eq(bif_model_check(&back, "here"), BIF_ERR_CONFIG);
        bif_batch_free(batch);
        bif_vlm_free(&a);
        bif_vlm_free(&b);
    }
    bif_device_close(device);
}

/* A character that stands in pieces of a SentencePiece model and is none itself is unknown, and not the first added token. */
Test(vocabulary, unknown_characters_are_no_added_tokens)
{
    char *from = bif_format("%s/golden/tokens/sp_bpe/tokenizer.model", getenv("BIFOCAL_TESTS")),
         *to = bif_path_join(folder, "tokenizer.model");
    char *data = NULL;
    size_t size = 0;
    int tried = 0;
    OK(bif_file_read(from, 1 << 20, &data, &size));
    for (char letter = 'a'; letter <= 'z'; letter++) {
        const char piece[] = {'\n', 1, letter, 0x15}; /* field 1: the text, one byte long; the score follows */
        char *at = memmem(data, size, piece, sizeof piece);
        if (at == NULL) {
            continue;
        }
        at[2] = 7; /* the bell takes the letter's place */
        OK(bif_file_write(to, data, size));
        at[2] = letter;
        bif_tokenizer *t = load(to);
        const int64_t pieces = bif_tokenizer_vocab(t);
        int32_t id = -1;
        bif_ids ids = {0};
        OK(bif_tokenizer_add(t, "<image>", &id));
        cr_assert_eq(id, pieces);
        OK(bif_tokenizer_encode(t, &letter, 1, false, &ids));
        for (size_t i = 0; i < ids.count; i++) {
            cr_expect_neq(ids.ids[i], id, "'%c' became <image>", letter);
        }
        tried++;
        bif_ids_free(&ids);
        bif_tokenizer_free(t);
    }
    cr_expect_gt(tried, 10);
    free(data);
    free(from);
    free(to);
}
