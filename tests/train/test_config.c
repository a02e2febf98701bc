#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/config_table.h"

#define GOOD                                                                                                                        \
    "stage: finetune\noutput: runs/x\nmodel: {init: models/llava}\n"                                                                \
    "data:\n  shards: [a.h5, 'b c.h5']\n  tokenizer: tok\nbatch: {samples: 32}\ntrain: {steps: 10}\noptimizer:\n  lr: 1e-4\n"

static char folder[] = "/tmp/bif-config-XXXXXX";
static char path[64];
static bif_config config;

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/r.yaml", folder);
}

static void teardown(void)
{
    bif_config_free(&config);
    bif_remove_tree(folder);
}

TestSuite(config, .init = setup, .fini = teardown);

static bif_status load_sized(const char *text, size_t size, const char *const *sets, size_t count)
{
    cr_assert_eq(bif_file_write(path, text, size), BIF_OK);
    bif_config_free(&config);
    return bif_config_load(path, sets, count, &config);
}

static bif_status load(const char *text)
{
    return load_sized(text, strlen(text), NULL, 0);
}

static bif_status load_set(const char *text, const char *set)
{
    return load_sized(text, strlen(text), &set, 1);
}

/* The error holds `piece`. */
static void refuses(const char *text, const char *piece)
{
    cr_expect_eq(load(text), BIF_ERR_CONFIG, "accepted: %s", text);
    cr_expect_not_null(strstr(bif_error_message(), piece), "'%s' is not in: %s", piece, bif_error_message());
}

Test(config, values_and_defaults_of_a_stage)
{
    cr_assert_eq(load(GOOD), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(config.stage, BIF_STAGE_FINETUNE);
    cr_expect_str_eq(config.output, "runs/x");
    cr_expect_eq(config.seed, 42);
    cr_expect_str_eq(config.device, "cpu");
    cr_expect_eq(config.data.shards.count, 2);
    cr_expect_str_eq(config.data.shards.items[1], "b c.h5");
    cr_expect_eq(config.optimizer.lr, 1e-4);
    cr_expect_eq(config.optimizer.beta2, 0.999);
    cr_expect_str_eq(config.data.template_, "vicuna_v1");
    cr_expect_str_eq(config.model.projector_type, "mlp2x_gelu");
    cr_expect_eq(config.model.feature_layer, -2);
    cr_expect(!config.model.train_encoder && config.model.train_projector && config.model.train_decoder);
    cr_expect_eq(config.data.max_tokens, 0, "the folder's decoder says");
    cr_expect_eq(config.batch.micro_tokens, 4096);
    cr_expect_null(config.data.system);
    cr_expect_null(config.model.encoder);

    cr_assert_eq(load_set(GOOD, "stage=pretrain"), BIF_OK);
    cr_expect(!config.model.train_encoder && config.model.train_projector && !config.model.train_decoder);
    cr_expect_str_eq(config.data.template_, "plain");
    cr_assert_eq(load_set(GOOD, "stage=lm"), BIF_OK);
    cr_expect(!config.model.train_encoder && !config.model.train_projector && config.model.train_decoder);
    cr_expect_eq(config.optimizer.weight_decay, 0.1);
    cr_assert_eq(load_set(GOOD, "stage=clip"), BIF_OK);
    cr_expect(config.model.train_encoder);
    cr_expect_eq(config.data.max_tokens, 0, "the folder's text tower says");
    cr_expect_float_eq(config.clip.logit_scale_init, log(1 / 0.07), 1e-12);
    cr_expect_float_eq(config.clip.logit_scale_max, log(100), 1e-12);
}

Test(config, scratch_sizes_are_derived)
{
    cr_assert_eq(load("stage: lm\noutput: o\nmodel: {llama: {hidden: 96, layers: 2, heads: 4, positions: 128}}\n"
                      "data: {shards: s, tokenizer: t}\nbatch: {samples: 1}\ntrain: {epochs: 0.5}\noptimizer: {lr: .1}\n"),
                 BIF_OK, "%s", bif_error_message());
    cr_expect_eq(config.model.llama.kv_heads, 4);
    cr_expect_eq(config.model.llama.head_dim, 24);
    cr_expect_eq(config.model.llama.inner, 256);
    cr_expect_eq(config.data.max_tokens, 128);
    cr_expect_eq(config.data.shards.count, 1, "one text is a list of one");
    cr_expect_eq(config.train.epochs, 0.5);
}

Test(config, scalars_mean_what_the_key_says)
{
    static const char *const sets[] = {"seed=0123",           "data.shuffle=no",  "model.train_encoder=TRUE", "optimizer.eps=1e-7",
                                       "data.system=no",      "train.keep=7",     "data.shards=[x, \"y, z\"]", "optimizer.lr=2",
                                       "optimizer.lr=3.5e-4", "device=cuda:1",    "train.log_every=0x10"};
    cr_assert_eq(load_sized(GOOD, strlen(GOOD), sets, 10), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(config.seed, 123);
    cr_expect(!config.data.shuffle);
    cr_expect(config.model.train_encoder);
    cr_expect_eq(config.optimizer.eps, 1e-7);
    cr_expect_str_eq(config.data.system, "no");
    cr_expect_eq(config.data.shards.count, 2, "a --set replaces the list");
    cr_expect_str_eq(config.data.shards.items[1], "y, z");
    cr_expect_eq(config.optimizer.lr, 3.5e-4, "the last --set wins");
    cr_expect_str_eq(config.device, "cuda:1");
    cr_expect_eq(load_sized(GOOD, strlen(GOOD), sets, 11), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "--set train.log_every=0x10: "), "%s", bif_error_message());
}

Test(config, null_and_empty_texts)
{
    cr_assert_eq(load(GOOD "seed: null\ndevice: ~\nthreads:\nclip:\n"), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(config.seed, 42);
    cr_expect_str_eq(config.device, "cpu");
    cr_assert_eq(load_set(GOOD, "data.system=\"\""), BIF_OK);
    cr_expect_str_eq(config.data.system, "");
    cr_assert_eq(load_set(GOOD, "optimizer.beta2="), BIF_OK);
    cr_expect_eq(config.optimizer.beta2, 0.999);
    cr_expect_eq(load_set(GOOD, "output=null"), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "the key output is missing"));
}

Test(config, errors_name_place_and_nearest_key)
{
    refuses(GOOD "sead: 1\n", "r.yaml:11:1: unknown key sead; did you mean seed?");
    refuses(GOOD "  learning: 1\n", "r.yaml:11:3: unknown key optimizer.learning");
    refuses(GOOD "  weigth_decay: 1\n", "did you mean optimizer.weight_decay?");
    refuses(GOOD "optimiser: {lr: 1}\n", "did you mean optimizer?");
    refuses(GOOD "lr: 1\n", "did you mean optimizer.lr?");
    refuses(GOOD "output: y\n", "r.yaml:11:1: the key output is given twice");
    refuses(GOOD "data: {}\n", "the key data is given twice");
    refuses(GOOD "seed: x\n", "r.yaml:11:7: seed must be a whole number, not 'x'");
    refuses(GOOD "seed: 1.5\n", "whole number");
    refuses(GOOD "seed: 99999999999999999999\n", "whole number");
    refuses(GOOD "seed: -1\n", "it must be from 0");
    refuses(GOOD "seed: [1]\n", "seed must be one value, not a list");
    refuses(GOOD "seed: {a: [1, {b: 2}]}\n", "seed must be one value, not a mapping");
    refuses(GOOD "  beta1: nan\n", "must be a number");
    refuses(GOOD "  beta1: 1\n", "beta1 is 1; it must be from 0 to");
    refuses(GOOD "  schedule: linear\n", "it must be one of cosine, constant");
    refuses(GOOD "clip: 3\n", "clip must be a mapping of keys");
    refuses(GOOD "? [a, b]\n: 1\n", "a key must be one word");
    refuses(GOOD "device: ${BIF_NOT_SET_ANYWHERE}\n", "BIF_NOT_SET_ANYWHERE, which is not set");
    refuses(GOOD "device: \"${BIF\"\n", "without '}'");
    cr_expect_eq(load_set(GOOD, "optimzer.lr=1"), BIF_ERR_CONFIG);
    cr_expect_str_eq(bif_error_message(), "--set optimzer.lr=1: unknown key optimzer.lr; did you mean optimizer.lr?");
    cr_expect_eq(load_set(GOOD, "seed"), BIF_ERR_CONFIG);
    cr_expect_eq(load_set(GOOD, "data={}"), BIF_ERR_CONFIG);
    cr_expect_eq(load_set(GOOD, "seed=[1"), BIF_ERR_CONFIG);
}

Test(config, all_errors_at_once)
{
    refuses("stage: finetune\nsead: 1\ntrain: {steps: no}\noptimizer: {lr: -1}\n", "unknown key sead");
    static const char *const also[] = {"train.steps must be", "optimizer.lr is -1", "output is missing", "data.shards is missing",
                                       "data.tokenizer is missing", "batch.samples is missing"};
    for (size_t i = 0; i < sizeof also / sizeof also[0]; i++) {
        cr_expect_not_null(strstr(bif_error_message(), also[i]), "%s", also[i]);
    }
    char many[4096] = GOOD;
    for (int i = 0; i < 40; i++) {
        snprintf(many + strlen(many), sizeof many - strlen(many), "zzzz%d: 1\n", i);
    }
    refuses(many, "and 24 more");
}

Test(config, keys_that_belong_together)
{
    refuses(GOOD "  beta1: 0.9\nbatch: {samples: 1}\n", "twice");
    static const struct {
        const char *set, *message;
    } cases[] = {
        {"train.epochs=1", "both given"},
        {"train.steps=0", "train.steps (or train.epochs) is missing"},
        {"train.validate_every=5", "data.validation names no shards"},
        {"model.init=", "model.vit.hidden is needed, because no model.init or model.encoder"},
        {"model.llama.hidden=64", "has no effect"},
        {"data.shards=[]", "data.shards is empty"},
        {"output=\"\"", "output is empty"},
        {"batch.deal=order", "batch.deal: order needs batch.micro_samples"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(load_set(GOOD, cases[i].set), BIF_ERR_CONFIG, "%s", cases[i].set);
        cr_expect_not_null(strstr(bif_error_message(), cases[i].message), "%s: %s", cases[i].set, bif_error_message());
    }
    static const char *const frozen[] = {"model.train_projector=no", "model.train_decoder=no"};
    cr_expect_eq(load_sized(GOOD, strlen(GOOD), frozen, 2), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "nothing is trained"));
    static const char *const one[] = {"stage=clip", "batch.samples=1"};
    cr_expect_eq(load_sized(GOOD, strlen(GOOD), one, 2), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "at least 2"));
}

Test(config, evaluations)
{
    cr_assert_eq(load(GOOD), BIF_OK);
    char before[33], after[33];
    bif_config_digest(&config, before);
    cr_expect(config.evaluate.every == 0 && config.evaluate.batch == 64 && config.evaluate.keep_best && config.evaluate.references.count == 0);
    cr_expect_str_eq(config.evaluate.task, "exact");
    cr_expect_str_eq(config.evaluate.image_root, ".");
    cr_assert_eq(load(GOOD "evaluate: {every: 5, questions: q.jsonl, task: vqav2, references: [a.json, b.json], limit: 9, max_new_tokens: 4, "
                           "batch: 2, keep_best: no}\n"), BIF_OK, "%s", bif_error_message());
    bif_config_digest(&config, after);
    cr_expect_str_eq(before, after, "an evaluation changes no number of the run");
    cr_expect(config.evaluate.every == 5 && config.evaluate.limit == 9 && config.evaluate.max_new_tokens == 4 && config.evaluate.batch == 2);
    cr_expect(!config.evaluate.keep_best && config.evaluate.references.count == 2);
    cr_assert_eq(load(GOOD "evaluate: {every: 5, questions: [q.jsonl, r.jsonl], task: textvqa, variant: plain, references: a}\n"), BIF_OK);
    cr_assert(config.evaluate.questions.count == 2 && strcmp(config.evaluate.variant, "plain") == 0);
    refuses(GOOD "evaluate: {every: 5}\n", "evaluate.questions names no file");
    refuses(GOOD "evaluate: {every: 5, questions: ''}\n", "evaluate.questions names no file");
    refuses(GOOD "evaluate: {every: 5, questions: q, task: gqa}\n", "evaluate.task is gqa, but evaluate.references names no file");
    refuses(GOOD "evaluate: {every: -1}\n", "evaluate.every");
    refuses("stage: clip\noutput: o\nmodel: {init: m}\ndata: {shards: [a], tokenizer: t}\nbatch: {samples: 8}\ntrain: {steps: 1}\n"
            "optimizer: {lr: 1e-3}\nevaluate: {every: 5, questions: q}\n", "evaluate.every asks for answers");
}

Test(config, orders_and_deals_of_other_trainers)
{
    static const struct {
        const char *set[3], *message;
    } cases[] = {
        {{"data.sampler=modality_length", "data.order=file"}, "data.order says the order already"},
        {{"data.sampler=modality_length", "data.shuffle=no"}, "modality_length shuffles"},
        {{"data.sampler=modality_length", "data.last=endless"}, "begins every epoch with a step"},
        {{"data.sampler=modality_length", "batch.samples=32", "batch.micro_samples=5"}, "must be a multiple"},
        {{"batch.deal=order", "batch.samples=32", "batch.micro_samples=5"}, "must be a multiple"},
        {{"stage=clip", "data.last=short"}, "are not for stage clip"},
        {{"stage=clip", "batch.deal=order"}, "are not for stage clip"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n = cases[i].set[1] == NULL ? 1 : cases[i].set[2] == NULL ? 2 : 3;
        cr_expect_eq(load_sized(GOOD, strlen(GOOD), cases[i].set, n), BIF_ERR_CONFIG, "case %zu", i);
        cr_expect_not_null(strstr(bif_error_message(), cases[i].message), "case %zu: %s", i, bif_error_message());
    }
    static const char *const grouped[] = {"data.sampler=modality_length", "batch.samples=32", "batch.micro_samples=4"};
    cr_assert_eq(load_sized(GOOD, strlen(GOOD), grouped, 3), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(config.data.last, BIF_LAST_WRAP);
    cr_assert_eq(load(GOOD), BIF_OK);
    cr_expect_eq(config.data.last, BIF_LAST_ENDLESS);
}

Test(config, hostile_yaml)
{
    refuses("", "stage is missing");
    refuses("# nothing\n", "stage is missing");
    refuses("[1, 2]\n", "a mapping of keys is wanted");
    refuses("just text\n", "a mapping of keys is wanted");
    refuses(GOOD "---\nseed: 1\n", "second document");
    refuses("a: &x 1\nb: *x\n", "anchors, aliases and tags");
    refuses("stage: !!str lm\n", "anchors, aliases and tags");
    refuses("stage: [\n", "not valid YAML");
    refuses("stage: \"\x01\"\n", "not valid YAML");
    refuses("stage: \xff\n", "not UTF-8");
    refuses(GOOD "device: \"a\\0b\"\n", "zero byte");
    refuses("{{{{[[{}]]: 1}: 2}: 3}: 4}", "one word");
    char *deep = bif_malloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    refuses(deep, "nested deeper");
    cr_expect_eq(load_sized(GOOD, sizeof GOOD, NULL, 0), BIF_ERR_CONFIG, "a zero byte at the end");
    free(deep);
    char *large = bif_calloc(300000, 1);
    memset(large, '#', 299999);
    cr_expect_eq(load(large), BIF_ERR_DATA);
    free(large);
    cr_expect_eq(bif_config_load("/nowhere/r.yaml", NULL, 0, &config), BIF_ERR_IO);
}

Test(config, text_reads_back_as_the_same_recipe)
{
    setenv("BIF_TEST_NAME", "from env", 1);
    static const char *const sets[] = {"output=\"${BIF_TEST_NAME}/a\\\"b\\\\c\\n\\u00e9 $${X} # y\"", "optimizer.lr=1.2345678901234567e-5",
                                       "data.system=\"\"", "data.validation=[v1, 'v: 2']", "train.validate_every=3", "model.feature_layer=-1"};
    cr_assert_eq(load_sized(GOOD, strlen(GOOD), sets, 6), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(config.output, "from env/a\"b\\c\n\u00e9 ${X} # y");
    char *text = bif_config_text(&config), digest[33], again[33];
    bif_config_digest(&config, digest);
    cr_assert_eq(load(text), BIF_OK, "%s\n%s", bif_error_message(), text);
    char *second = bif_config_text(&config);
    cr_expect_str_eq(second, text);
    bif_config_digest(&config, again);
    cr_expect_str_eq(again, digest);
    cr_expect_eq(config.optimizer.lr, 1.2345678901234567e-5);
    free(text);
    free(second);
}

Test(config, precision_fits_the_device)
{
    cr_assert_eq(load(GOOD), BIF_OK);
    cr_expect(config.precision == BIF_PRECISION_AUTO && config.deterministic);
    static const char *const sets[] = {"precision=bf16", "device=cuda", "deterministic=no"};
    cr_expect_eq(load_sized(GOOD, strlen(GOOD), sets, 1), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "precision is bf16, but the CPU device computes in fp32"), "%s", bif_error_message());
    cr_assert_eq(load_sized(GOOD, strlen(GOOD), sets, 3), BIF_OK, "%s", bif_error_message());
    cr_expect(config.precision == BIF_PRECISION_BF16 && !config.deterministic);
    cr_expect_eq(load_set(GOOD, "precision=fp8"), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "auto, fp32, bf16"), "%s", bif_error_message());
}

Test(config, digest_covers_what_changes_numbers)
{
    char base[33], other[33];
    cr_assert_eq(load(GOOD), BIF_OK);
    bif_config_digest(&config, base);
    static const char *const same[] = {"output=elsewhere", "threads=3", "train.log_every=1", "train.keep=9", "train.stop_after=4",
                                       "data.prefetch=9", "data.cache_mib=5", "train.checkpoint_every=7", "data.shards=[moved]",
                                       "precision=fp32", "deterministic=no", "train.recompute=yes"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        cr_assert_eq(load_set(GOOD, same[i]), BIF_OK);
        bif_config_digest(&config, other);
        cr_expect_str_eq(other, base, "%s", same[i]);
    }
    static const char *const changed[] = {"seed=1", "optimizer.lr=2e-4", "train.steps=11", "batch.samples=33", "model.train_encoder=yes",
                                          "data.image_fit=pad", "data.shuffle=no", "optimizer.schedule=constant"};
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
        cr_assert_eq(load_set(GOOD, changed[i]), BIF_OK);
        bif_config_digest(&config, other);
        cr_expect_str_neq(other, base, "%s", changed[i]);
    }
}

/* The column's texts are part of the data's digest; its share is told with both values, from whichever side. */
Test(config, share_of_captions)
{
    char base[33], other[33];
    cr_assert_eq(load(GOOD), BIF_OK);
    bif_config_digest(&config, base);
    cr_assert_eq(load_set(GOOD, "data.caption_column=caption-new"), BIF_OK, "%s", bif_error_message());
    bif_config_digest(&config, other);
    cr_expect_str_eq(base, other);
    static const char *const sets[] = {"data.caption_column=caption-new", "data.caption_mix=0.5"};
    cr_assert_eq(load_sized(GOOD, strlen(GOOD), sets, 2), BIF_OK, "%s", bif_error_message());
    bif_config_digest(&config, other);
    cr_expect_str_neq(base, other);
    cr_expect_eq(load_set(GOOD, "data.caption_mix=0.5"), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "names no column"), "%s", bif_error_message());
    cr_expect_eq(load_sized(GOOD, strlen(GOOD), (const char *const[]){sets[0], "data.caption_mix=0"}, 2), BIF_ERR_CONFIG);
}

/* What regroups sums and what is a number: by the loss, the deal and the sampler. */
Test(config, digest_covers_micro_batches_where_they_weigh)
{
    static const char *const base_sets[] = {"batch.samples=32", "batch.micro_samples=4", "batch.micro_tokens=4096"};
    static const char *const modes[][2] = {{"train.loss=global_tokens", "batch.deal=tokens"}, {"train.loss=global_tokens", "batch.deal=order"},
                                           {"train.loss=micro_mean", "batch.deal=tokens"}, {"train.loss=micro_mean", "batch.deal=order"},
                                           {"data.sampler=modality_length", "batch.deal=tokens"}};
    static const char *const changes[] = {"batch.micro_samples=8", "batch.micro_tokens=8192"};
    static const bool weighs[][2] = {{false, false}, {false, false}, {true, true}, {true, false}, {true, false}};
    char base[33], other[33], deals[5][33];
    for (size_t mode = 0; mode < 5; mode++) {
        const char *sets[6] = {base_sets[0], base_sets[1], base_sets[2], modes[mode][0], modes[mode][1]};
        cr_assert_eq(load_sized(GOOD, strlen(GOOD), sets, 5), BIF_OK, "%s", bif_error_message());
        bif_config_digest(&config, base);
        memcpy(deals[mode], base, sizeof base);
        for (size_t i = 0; i < 2; i++) {
            sets[5] = changes[i];
            cr_assert_eq(load_sized(GOOD, strlen(GOOD), sets, 6), BIF_OK);
            bif_config_digest(&config, other);
            cr_expect_eq(strcmp(base, other) != 0, weighs[mode][i], "mode %zu, %s", mode, changes[i]);
        }
    }
    cr_expect_str_eq(deals[0], deals[1], "the deal only regroups a mean over tokens");
    cr_expect_str_neq(deals[2], deals[3], "and makes the means of micro-batches");
    cr_expect_str_neq(deals[0], deals[4]);
}

Test(config, reference_names_every_key)
{
    char *text = bif_config_reference();
    for (size_t i = 0; i < bif_key_count; i++) {
        cr_expect_not_null(strstr(text, bif_keys[i].key));
        cr_expect_not_null(strstr(text, bif_keys[i].help));
        for (size_t k = 0; k < i; k++) {
            cr_expect_str_neq(bif_keys[i].key, bif_keys[k].key);
            cr_expect_neq(bif_keys[i].offset, bif_keys[k].offset, "%s and %s", bif_keys[i].key, bif_keys[k].key);
        }
    }
    free(text);
}
