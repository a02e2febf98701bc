#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer.h"

static char *golden(const char *name)
{
    return bif_format("%s/golden/tokenizer/%s", getenv("BIFOCAL_TESTS"), name);
}

static json_t *golden_json(const char *name)
{
    char *path = golden(name);
    json_t *value = NULL;
    cr_assert_eq(bif_json_load_file(path, 1 << 24, &value), BIF_OK, "%s", bif_error_message());
    free(path);
    return value;
}

static bif_tokenizer *load(const char *name)
{
    char *path = golden(name);
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
    free(path);
    return t;
}

static void expect_ids(const bif_tokenizer *t, const char *text, size_t size, bool special, const json_t *want)
{
    bif_ids ids = {0};
    cr_assert_eq(bif_tokenizer_encode(t, text, size, special, &ids), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(ids.count, json_array_size(want), "%zu ids, %zu wanted (special %d): '%s'", ids.count,
                 json_array_size(want), special, text);
    for (size_t i = 0; i < ids.count; i++) {
        cr_assert_eq(ids.ids[i], json_integer_value(json_array_get(want, i)), "id %zu (special %d): '%s'", i, special,
                     text);
    }
    bif_ids_free(&ids);
}

static void expect_cases(const bif_tokenizer *t, const char *name)
{
    json_t *cases = golden_json(name);
    cr_assert_gt(json_array_size(cases), 30);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *row = json_array_get(cases, i), *text = json_object_get(row, "text"),
                     *plain = json_object_get(row, "plain");
        const json_t *special = json_object_get(row, "special");
        expect_ids(t, json_string_value(text), json_string_length(text), true, special);
        expect_ids(t, json_string_value(text), json_string_length(text), false, plain != NULL ? plain : special);
    }
    json_decref(cases);
}

/* Ids equal to Hugging Face tokenizers', also after writing the file and reading it again. */
static void check_file(const char *name, bool text_survives)
{
    char *file = bif_format("%s.json", name), *cases = bif_format("%s.cases.json", name);
    char *copy = bif_format("/tmp/bif-tokenizer-%d-%s.json", (int)getpid(), name);
    bif_tokenizer *t = load(file), *again = NULL;
    expect_cases(t, cases);
    cr_assert_eq(bif_tokenizer_save(t, copy), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_tokenizer_load(copy, &again), BIF_OK, "%s", bif_error_message());
    expect_cases(again, cases);
    cr_assert_eq(bif_tokenizer_vocab(t), bif_tokenizer_vocab(again));
    json_t *rows = golden_json(cases);
    for (size_t i = 0; text_survives && i < json_array_size(rows); i++) {
        const char *text = json_string_value(json_object_get(json_array_get(rows, i), "text"));
        bif_ids ids = {0};
        char *back = NULL;
        size_t size = 0;
        cr_assert_eq(bif_tokenizer_encode(t, text, strlen(text), true, &ids), BIF_OK);
        cr_assert_eq(bif_tokenizer_decode(t, ids.ids, ids.count, false, &back, &size), BIF_OK);
        cr_expect(size == strlen(text) && memcmp(text, back, size) == 0, "'%s' came back as '%s'", text, back);
        free(back);
        bif_ids_free(&ids);
    }
    json_decref(rows);
    unlink(copy);
    bif_tokenizer_free(t);
    bif_tokenizer_free(again);
    free(file);
    free(cases);
    free(copy);
}

Test(tokenizer, own_layout_equals_hf)
{
    check_file("ours", true);
}

Test(tokenizer, gpt2_like_equals_hf) /* prefix space, TemplateProcessing, lstrip and rstrip */
{
    check_file("hf_gpt2", false);
}

Test(tokenizer, llama3_like_equals_hf) /* NFC, Split + ByteLevel, ignore_merges, a normalized added token */
{
    check_file("hf_llama3", false);
}

Test(tokenizer, digits_and_unknown_bytes_equal_hf) /* Digits + ByteLevel, bytes missing from the vocabulary */
{
    check_file("hf_digits", false);
}

static const char *const specials[] = {"<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>"};

static bif_tokenizer *train_corpus(void)
{
    json_t *lines = golden_json("corpus.json");
    size_t count = json_array_size(lines);
    const char **texts = bif_calloc(count, sizeof *texts);
    size_t *sizes = bif_calloc(count, sizeof *sizes);
    for (size_t i = 0; i < count; i++) {
        texts[i] = json_string_value(json_array_get(lines, i));
        sizes[i] = strlen(texts[i]);
    }
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_tokenizer_train(texts, sizes, count, 1000, specials, 5, &t), BIF_OK, "%s", bif_error_message());
    free(texts);
    free(sizes);
    json_decref(lines);
    return t;
}

Test(tokenizer, training_equals_hf)
{
    bif_tokenizer *t = train_corpus();
    char *path = bif_format("/tmp/bif-trained-%d.json", (int)getpid());
    json_t *mine = NULL, *want = golden_json("ours.json");
    cr_assert_eq(bif_tokenizer_vocab(t), 1000);
    cr_assert_eq(bif_tokenizer_special(t, "<s>"), 995);
    cr_assert_eq(bif_tokenizer_special(t, "<|im_end|>"), 999);
    cr_assert_eq(bif_tokenizer_special(t, "<pad>"), -1);
    cr_assert_eq(bif_tokenizer_save(t, path), BIF_OK);
    cr_assert_eq(bif_json_load_file(path, 1 << 24, &mine), BIF_OK);
    const json_t *a = json_object_get(mine, "model"), *b = json_object_get(want, "model");
    cr_expect(json_equal(json_object_get(a, "vocab"), json_object_get(b, "vocab")));
    const json_t *merges = json_object_get(a, "merges"), *hf = json_object_get(b, "merges");
    cr_assert_eq(json_array_size(merges), json_array_size(hf));
    for (size_t i = 0; i < json_array_size(hf); i++) {
        const json_t *pair = json_array_get(hf, i);
        char *line =
            bif_format("%s %s", json_string_value(json_array_get(pair, 0)), json_string_value(json_array_get(pair, 1)));
        cr_expect_str_eq(json_string_value(json_array_get(merges, i)), line, "merge %zu", i);
        free(line);
    }
    expect_cases(t, "ours.cases.json");
    unlink(path);
    free(path);
    json_decref(mine);
    json_decref(want);
    bif_tokenizer_free(t);
}

Test(tokenizer, any_bytes_survive)
{
    bif_tokenizer *t = train_corpus();
    char bytes[4096];
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = (char)(round == 0 ? i : (size_t)rand() >> 5);
        }
        bif_ids ids = {0};
        char *back = NULL;
        size_t size = 0;
        cr_assert_eq(bif_tokenizer_encode(t, bytes, sizeof bytes, false, &ids), BIF_OK);
        cr_assert_eq(bif_tokenizer_decode(t, ids.ids, ids.count, false, &back, &size), BIF_OK);
        cr_assert_eq(size, sizeof bytes);
        cr_assert_eq(memcmp(back, bytes, size), 0);
        free(back);
        bif_ids_free(&ids);
    }
    bif_tokenizer_free(t);
}

Test(tokenizer, decode_skips_specials_and_checks_ids)
{
    bif_tokenizer *t = train_corpus();
    bif_ids ids = {0};
    char *back = NULL;
    size_t size = 0;
    cr_assert_eq(bif_tokenizer_encode(t, "<s>hi<image></s>", 16, true, &ids), BIF_OK);
    cr_assert_eq(ids.ids[0], 995);
    cr_assert_eq(bif_tokenizer_decode(t, ids.ids, ids.count, true, &back, &size), BIF_OK);
    cr_assert_str_eq(back, "hi");
    free(back);
    cr_assert_eq(bif_tokenizer_decode(t, (const int32_t[]){3, 1000}, 2, true, &back, &size), BIF_ERR_DATA);
    cr_assert_eq(bif_tokenizer_decode(t, (const int32_t[]){-1}, 1, true, &back, &size), BIF_ERR_DATA);
    cr_assert_null(bif_tokenizer_token(t, 1000, &size));
    bif_ids_free(&ids);
    bif_tokenizer_free(t);
}

/* One word of a megabyte: n log n merges, no deep recursion, no stack overflow in the pattern. Quadratic would take
 * minutes. */
Test(tokenizer, long_runs_are_fast, .timeout = 60)
{
    bif_tokenizer *own = train_corpus(), *llama = load("hf_llama3.json");
    size_t n = 1 << 20;
    char *run = bif_malloc(n);
    static const char kinds[] = "a ^\n9\x80\xed\xe3";
    for (size_t k = 0; k < sizeof kinds - 1; k++) {
        memset(run, kinds[k], n);
        for (int which = 0; which < 2; which++) {
            bif_ids ids = {0};
            char *back = NULL;
            size_t size = 0;
            clock_t start = clock();
            cr_assert_eq(bif_tokenizer_encode(which ? llama : own, run, n, true, &ids), BIF_OK, "%s",
                         bif_error_message());
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            cr_expect_lt(seconds, 8.0, "0x%02x: %.2f s", (uint8_t)kinds[k], seconds);
            cr_assert_eq(bif_tokenizer_decode(which ? llama : own, ids.ids, ids.count, false, &back, &size), BIF_OK);
            cr_assert(size == n && memcmp(back, run, n) == 0);
            free(back);
            bif_ids_free(&ids);
        }
    }
    free(run);
    bif_tokenizer_free(own);
    bif_tokenizer_free(llama);
}

Test(tokenizer, training_limits)
{
    bif_tokenizer *t = NULL;
    const char *text = "aa aa aa";
    size_t size = 8;
    cr_assert_eq(bif_tokenizer_train(&text, &size, 1, 255, NULL, 0, &t), BIF_ERR_USAGE);
    cr_assert_eq(bif_tokenizer_train(&text, &size, 1, 258, specials, 5, &t), BIF_ERR_USAGE);
    cr_assert_eq(bif_tokenizer_train(&text, &size, 1, 2000000, specials, 5, &t), BIF_ERR_USAGE);
    cr_assert_eq(bif_tokenizer_train(&text, &size, 1, 300, (const char *const[]){"<s>", "<s>"}, 2, &t), BIF_ERR_USAGE);
    cr_assert_eq(bif_tokenizer_train(&text, &size, 1, 300, (const char *const[]){""}, 1, &t), BIF_ERR_USAGE);
    cr_assert_eq(bif_tokenizer_train(&text, &size, 1, 300, (const char *const[]){"a"}, 1, &t), BIF_ERR_USAGE);
    cr_assert_eq(bif_tokenizer_train(&text, &size, 1, 300, (const char *const[]){"\xff\xff"}, 1, &t), BIF_ERR_USAGE);
    /* " aa" and "aa" are all there is to merge; a special that reads like a token keeps its own id. */
    cr_assert_eq(bif_tokenizer_train(&text, &size, 1, 300, (const char *const[]){"aa"}, 1, &t), BIF_OK);
    cr_assert_eq(bif_tokenizer_special(t, "aa"), bif_tokenizer_vocab(t) - 1);
    bif_tokenizer_free(t);
    cr_assert_eq(bif_tokenizer_train(NULL, NULL, 0, 300, specials, 5, &t), BIF_OK);
    cr_assert_eq(bif_tokenizer_vocab(t), 261);
    bif_tokenizer_free(t);
}

/* ---- files that must be refused ---- */

#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define FILE_OF(added, normalizer, pre, post, decoder, model)                                                          \
    "{\"version\":\"1.0\",\"added_tokens\":" added ",\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre             \
    ",\"post_processor\":" post ",\"decoder\":" decoder ",\"model\":" model "}"
#define MODEL(vocab, merges) "{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}"
#define WITH_MODEL(model) FILE_OF("[]", "null", BYTE_LEVEL, "null", BYTE_LEVEL, model)
#define WITH_PRE(pre) FILE_OF("[]", "null", pre, "null", BYTE_LEVEL, MODEL("{\"a\":0}", "[]"))
#define WITH_REGEX(regex)                                                                                              \
    WITH_PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex           \
             "\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTE_LEVEL "]}")
#define WITH_ADDED(added)                                                                                              \
    FILE_OF(added, "null", BYTE_LEVEL, "null", BYTE_LEVEL, MODEL("{\"a\":0,\"b\":1,\"ab\":2}", "[\"a b\"]"))

static const struct {
    const char *json, *says;
} refused[] = {
    {"", "not valid JSON"},
    {"[]", "not an object"},
    {"{}", "no model"},
    {"{\"model\":{\"type\":\"BPE\"}}", "vocab"},
    {"{\"surprise\":1,\"model\":{}}", "surprise"},
    {WITH_MODEL(MODEL("{}", "[]")), "0 tokens"},
    {WITH_MODEL(MODEL("{\"a\":1}", "[]")), "too large"},
    {WITH_MODEL(MODEL("{\"a\":0,\"b\":0}", "[]")), "taken"},
    {WITH_MODEL(MODEL("{\"a\":-1}", "[]")), "not a number"},
    {WITH_MODEL(MODEL("{\"a\":\"0\"}", "[]")), "not a number"},
    {WITH_MODEL(MODEL("{\"a\":99999999999}", "[]")), "too large"},
    {WITH_MODEL(MODEL("{\"\":0}", "[]")), "empty"},
    {WITH_MODEL(MODEL("{\"a\":0,\"a\":1}", "[]")), "duplicate"},
    {WITH_MODEL(MODEL("{\"a\":0,\"b\":1}", "[\"a b\"]")), "'ab' is not in the vocabulary"},
    {WITH_MODEL(MODEL("{\"a\":0,\"b\":1}", "[\"a c\"]")), "'c' is not in the vocabulary"},
    {WITH_MODEL(MODEL("{\"a\":0,\"aa\":1}", "[\"a\"]")), "merge 0 is not"},
    {WITH_MODEL(MODEL("{\"a\":0,\"aa\":1}", "[\"a a a\"]")), "merge 0"},
    {WITH_MODEL(MODEL("{\"a\":0,\"aa\":1}", "[\" a\"]")), "merge 0"},
    {WITH_MODEL(MODEL("{\"a\":0,\"aa\":1}", "[[\"a\"]]")), "merge 0"},
    {WITH_MODEL(MODEL("{\"a\":0,\"aa\":1}", "[[\"a\",1]]")), "merge 0"},
    {WITH_MODEL(MODEL("{\"a\":0,\"aa\":1}", "[null]")), "merge 0"},
    {WITH_MODEL(MODEL("{\"a\":0}", "{}")), "merges"},
    {WITH_MODEL("{\"type\":\"Unigram\",\"vocab\":[]}"), "Unigram"},
    {WITH_MODEL("{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}"), "dropout"},
    {WITH_MODEL("{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"a\":0},\"merges\":[]}"), "byte_fallback"},
    {FILE_OF("[]", "null", "null", "null", "{\"type\":\"Fuse\"}", "{\"end_of_word_suffix\":\"</w>\",\"vocab\":{\"a\":0},\"merges\":[]}"),
     "end_of_word_suffix"},
    {FILE_OF("[]", "null", "null", "null", "{\"type\":\"Fuse\"}", "{\"byte_fallback\":true,\"vocab\":{\"<0x00>\":0},\"merges\":[]}"),
     "without the token <0x01>"},
    {WITH_MODEL("{\"type\":\"BPE\",\"magic\":1,\"vocab\":{\"a\":0},\"merges\":[]}"), "magic"},
    {FILE_OF("[]", "{\"type\":\"StripAccents\"}", BYTE_LEVEL, "null", BYTE_LEVEL, MODEL("{\"a\":0}", "[]")), "StripAccents"},
    {FILE_OF("[]", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Nmt\"}]}", BYTE_LEVEL, "null", BYTE_LEVEL,
             MODEL("{\"a\":0}", "[]")),
     "Nmt"},
    {FILE_OF("[]", "null", BYTE_LEVEL, "{\"type\":\"Magic\"}", BYTE_LEVEL, MODEL("{\"a\":0}", "[]")), "Magic"},
    {FILE_OF("[]", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a*\"},\"content\":\"\"}", BYTE_LEVEL, "null", BYTE_LEVEL,
             MODEL("{\"a\":0}", "[]")),
     "can match nothing"},
    {FILE_OF("[]", "null", "null", "null", "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}", MODEL("{\"a\":0}", "[]")),
     "Strip"},
    {FILE_OF("[]", "null", BYTE_LEVEL, "null", "{\"type\":\"Metaspace\"}", MODEL("{\"a\":0}", "[]")), "Metaspace"},
    {FILE_OF("[]", "null", BYTE_LEVEL, "null", "null", MODEL("{\"a\":0}", "[]")), "decoder"},
    {WITH_PRE("null"), "pre_tokenizer"},
    {WITH_PRE("{\"type\":\"Metaspace\"}"), "Metaspace"},
    {WITH_PRE("{\"type\":\"Digits\"}"), "decoder 'ByteLevel'"},
    {WITH_PRE("{\"type\":\"Sequence\",\"pretokenizers\":[]}"), "Sequence without"},
    {WITH_PRE("{\"type\":\"Sequence\",\"pretokenizers\":[" BYTE_LEVEL "," BYTE_LEVEL "]}"), "not supported here"},
    {WITH_PRE("{\"type\":\"Metaspace\",\"prepend_scheme\":\"often\"}"), "often"},
    {WITH_PRE("{\"type\":\"BertPreTokenizer\"}"), "BertPreTokenizer"},
    {WITH_PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\" "
              "\"},\"behavior\":\"Melted\"}," BYTE_LEVEL "]}"),
     "Melted"},
    {WITH_REGEX("a("), "missing closing"},
    {WITH_REGEX("a*"), "can match nothing"},
    {WITH_REGEX("(?R)"), "not supported"},
    {WITH_REGEX("(*LIMIT_MATCH=9)a"), "not supported"},
    {WITH_REGEX("\\\\w+"), "escape"},
    {WITH_REGEX("^a"), "not supported"},
    {WITH_REGEX("a{1,3}+"), "not supported"},
    {WITH_REGEX("[a[b]]"), "not supported"},
    {WITH_REGEX("a\\\\"), "escape"},
    {WITH_REGEX("\\\\p{L"), "escape"},
    {WITH_REGEX(""), "0 bytes"},
    {WITH_ADDED("{}"), "not a list"},
    {WITH_ADDED("[1]"), "not an object"},
    {WITH_ADDED("[{\"id\":3}]"), "content"},
    {WITH_ADDED("[{\"id\":4,\"content\":\"<s>\",\"special\":true}]"), "too large"},
    {WITH_ADDED("[{\"id\":1,\"content\":\"<s>\",\"special\":true}]"), "taken"},
    {WITH_ADDED("[{\"id\":1,\"content\":\"a\",\"special\":true}]"), "another id"},
    {WITH_ADDED("[{\"id\":3,\"content\":\"\"}]"), "empty"},
    {WITH_ADDED("[{\"id\":3,\"content\":\"<s>\"},{\"id\":4,\"content\":\"<s>\"}]"), "appears twice"},
    {WITH_ADDED("[{\"id\":0,\"content\":\"a\"},{\"id\":0,\"content\":\"a\"}]"), "appears twice"},
    {WITH_ADDED("[{\"id\":3,\"content\":\"<s>\",\"magic\":true}]"), "magic"},
};

Test(tokenizer, refuses_what_it_does_not_understand)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        bif_tokenizer *t = NULL;
        bif_error_clear();
        bif_status st = bif_tokenizer_parse("bad.json", refused[i].json, strlen(refused[i].json), &t);
        cr_expect_eq(st, BIF_ERR_DATA, "%s", refused[i].json);
        cr_expect_not_null(strstr(bif_error_message(), refused[i].says), "'%s' should say '%s': %s",
                           bif_error_message(), refused[i].says, refused[i].json);
        if (st == BIF_OK) {
            bif_tokenizer_free(t);
        }
    }
}

/* A vocabulary with two bytes and no unknown token; an exponential pattern stops at its limit. */
Test(tokenizer, small_but_legal)
{
    static const char little[] = WITH_ADDED("[]"), slow[] = WITH_REGEX("(?:a+)+[bc]");
    bif_tokenizer *t = NULL;
    bif_ids ids = {0};
    cr_assert_eq(bif_tokenizer_parse("little", little, sizeof little - 1, &t), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_tokenizer_encode(t, "abba", 4, true, &ids), BIF_OK);
    cr_assert(ids.count == 3 && ids.ids[0] == 2 && ids.ids[1] == 1 && ids.ids[2] == 0);
    cr_assert_eq(bif_tokenizer_encode(t, "abc", 3, true, &ids), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "0x63"));
    bif_tokenizer_free(t);
    cr_assert_eq(bif_tokenizer_parse("slow", slow, sizeof slow - 1, &t), BIF_OK, "%s", bif_error_message());
    char text[64];
    memset(text, 'a', sizeof text);
    cr_assert_eq(bif_tokenizer_encode(t, text, sizeof text, true, &ids), BIF_ERR_DATA);
    cr_assert_not_null(strstr(bif_error_message(), "gave up"));
    bif_tokenizer_free(t);
    bif_ids_free(&ids);
}

/* Every prefix and many damaged copies of a good file: a message or a tokenizer, never a crash. */
Test(tokenizer, damaged_files, .timeout = 120)
{
    char *path = golden("hf_digits.json"), *text = NULL;
    size_t size = 0;
    cr_assert_eq(bif_file_read(path, 1 << 24, &text, &size), BIF_OK);
    for (size_t cut = 0; cut + 1 < size; cut += 97) {
        bif_tokenizer *t = NULL;
        cr_assert_eq(bif_tokenizer_parse("cut", text, cut, &t), BIF_ERR_DATA);
    }
    srand(3);
    for (int round = 0; round < 400; round++) {
        size_t at = (size_t)rand() % size;
        char old = text[at];
        text[at] = "0\"a,]}{ 9"[rand() % 9];
        bif_tokenizer *t = NULL;
        if (bif_tokenizer_parse("damaged", text, size, &t) == BIF_OK) {
            bif_ids ids = {0};
            (void)bif_tokenizer_encode(t, "two dogs 12 한글", 18, true, &ids);
            bif_ids_free(&ids);
            bif_tokenizer_free(t);
        }
        text[at] = old;
    }
    free(text);
    free(path);
}
