#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer_internal.h"

static char *golden(const char *name, const char *file)
{
    return bif_format("%s/golden/tokens/%s%s%s", getenv("BIFOCAL_TESTS"), name, *file ? "/" : "", file);
}

static bif_tokenizer *load(const char *name, const char *file)
{
    char *path = golden(name, file);
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
    free(path);
    return t;
}

static char *read_golden(const char *name, const char *file, size_t *size)
{
    char *path = golden(name, file), *data = NULL;
    cr_assert_eq(bif_file_read(path, 1 << 24, &data, size), BIF_OK, "%s", bif_error_message());
    free(path);
    return data;
}

/* Every line of lines.txt gives the ids of ids.json (null: the authority takes no bytes that are not UTF-8). */
static void check_lines(const bif_tokenizer *t, const char *name, bool special)
{
    size_t size = 0, ids_size = 0;
    char *text = read_golden("lines.txt", "", &size), *ids_text = read_golden(name, "ids.json", &ids_size);
    json_t *rows = NULL;
    cr_assert_eq(bif_json_parse(name, ids_text, ids_size, &rows), BIF_OK, "%s", bif_error_message());
    size_t line = 0;
    for (size_t at = 0; at < size; line++) {
        const size_t length = strcspn(text + at, "\n");
        const json_t *want = json_array_get(rows, line);
        bif_ids ids = {0};
        cr_assert_eq(bif_tokenizer_encode(t, text + at, length, special, &ids), BIF_OK, "%s", bif_error_message());
        if (json_is_array(want)) {
            cr_expect_eq(ids.count, json_array_size(want), "%s line %zu: %zu ids, not %zu", name, line, ids.count, json_array_size(want));
            for (size_t i = 0; i < ids.count && i < json_array_size(want); i++) {
                cr_expect_eq(ids.ids[i], json_integer_value(json_array_get(want, i)), "%s line %zu id %zu", name, line, i);
            }
        }
        bif_ids_free(&ids);
        at += length + 1;
    }
    cr_assert_eq(line, json_array_size(rows));
    cr_assert_geq(line, 40);
    json_decref(rows);
    free(text);
    free(ids_text);
}

static const struct {
    const char *name;
    bool special;
} authorities[] = {{"behaviors", true}, {"smollm2", true}, {"metaspace_always", true}, {"metaspace_first", true}, {"clip", true},
                   {"sp_bpe", false},   {"sp_unigram", false}, {"llama", true}, {"llama_legacy", true}, {"llama_prepend", true},
                   {"siglip", false}};

Test(tokens, ids_of_the_authorities)
{
    for (size_t i = 0; i < sizeof authorities / sizeof authorities[0]; i++) {
        bif_tokenizer *t = load(authorities[i].name, "");
        check_lines(t, authorities[i].name, authorities[i].special);
        bif_tokenizer_free(t);
    }
}

/* What Python's lower(), string.punctuation and \\s make of these texts. */
Test(tokens, canonical_texts_of_siglip)
{
    static const struct {
        const char *text, *wanted;
        bool front, keep_case;
    } cases[] = {
        {"  \u0130 \u039f\u0394\u039f\u03a3. \u03a3'A \u0391\u03a3\u0301! x\x1c\xc2\x85\u3000y\u2581\u2581z_-a  ",
         "\u2581 i\u0307 \u03bf\u03b4\u03bf\u03c2 \u03c3a \u03b1\u03c2\u0301 x y za", true, false},
        {"\u0391\u03a3\u2019\u0392 \u03a3", "\u2581\u03b1\u03c3\u2019\u03b2 \u03c3", true, false},
        {"Don't. STOP", "\u2581dont stop", true, false},
        {"Don't. STOP", "\u2581Dont STOP", true, true},
        {"  Don't", "dont", false, false},
        {"", "\u2581", true, false},
        {"a\xff""B\xe2\x96", "a\xff""b\xe2\x96", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *out = NULL;
        size_t size = 0;
        bif_canonical(cases[i].text, strlen(cases[i].text), cases[i].front, cases[i].keep_case, &out, &size);
        cr_expect(size == strlen(cases[i].wanted) && memcmp(out, cases[i].wanted, size) == 0, "'%s' gave '%.*s'", cases[i].text,
                  (int)size, out);
        free(out);
    }
}

/* Every behavior of Split, with and without invert. */
Test(tokens, behaviors_of_split)
{
    size_t size = 0;
    char *text = read_golden("splits.json", "", &size);
    json_t *root = NULL;
    cr_assert_eq(bif_json_parse("splits", text, size, &root), BIF_OK, "%s", bif_error_message());
    const json_t *rows = json_object_get(root, "rows"), *texts = json_object_get(root, "texts");
    cr_assert_eq(json_array_size(rows), 10);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *file = json_object_get(json_array_get(rows, r), "file"), *ids = json_object_get(json_array_get(rows, r), "ids");
        bif_tokenizer *t = NULL;
        cr_assert_eq(bif_tokenizer_parse("split", json_string_value(file), json_string_length(file), &t), BIF_OK, "%s",
                     bif_error_message());
        for (size_t i = 0; i < json_array_size(texts); i++) {
            const char *line = json_string_value(json_array_get(texts, i));
            const json_t *want = json_array_get(ids, i);
            bif_ids got = {0};
            cr_assert_eq(bif_tokenizer_encode(t, line, strlen(line), true, &got), BIF_OK);
            cr_expect_eq(got.count, json_array_size(want), "row %zu: '%s'", r, line);
            for (size_t k = 0; k < got.count && k < json_array_size(want); k++) {
                cr_expect_eq(got.ids[k], json_integer_value(json_array_get(want, k)), "row %zu: '%s'", r, line);
            }
            bif_ids_free(&got);
        }
        bif_tokenizer_free(t);
    }
    json_decref(root);
    free(text);
}

/* Added tokens by id: tokenizers numbers those that are not in the vocabulary as they come. */
static void check_added_order(const char *path)
{
    json_t *root = NULL, *added = NULL;
    size_t i = 0;
    json_int_t last = -1;
    cr_assert_eq(bif_json_load_file(path, 1 << 24, &root), BIF_OK, "%s", bif_error_message());
    json_array_foreach(json_object_get(root, "added_tokens"), i, added)
    {
        const json_int_t id = json_integer_value(json_object_get(added, "id"));
        cr_expect_gt(id, last, "%s: added token %zu", path, i);
        last = id;
    }
    json_decref(root);
}

/* What was read from JSON, or from a tokenizer.model read as Vicuna's, is written so that it reads back the same, line by line; other SentencePiece
 * models are not written. */
Test(tokens, written_and_read_again)
{
    char *copy = bif_format("/tmp/bif-tokens-%d.json", (int)getpid());
    for (size_t i = 0; i < sizeof authorities / sizeof authorities[0]; i++) {
        bif_tokenizer *t = load(authorities[i].name, ""), *again = NULL;
        char *model = golden(authorities[i].name, strcmp(authorities[i].name, "siglip") == 0 ? "spiece.model" : "tokenizer.model");
        if (bif_exists(model) && strncmp(authorities[i].name, "llama", 5) != 0) {
            cr_expect_not(bif_tokenizer_can_save(t), "%s", authorities[i].name);
            cr_expect_eq(bif_tokenizer_save(t, copy), BIF_ERR_USAGE);
        } else {
            cr_assert_eq(bif_tokenizer_save(t, copy), BIF_OK, "%s", bif_error_message());
            cr_assert_eq(bif_tokenizer_load(copy, &again), BIF_OK, "%s", bif_error_message());
            check_lines(again, authorities[i].name, authorities[i].special);
            check_added_order(copy);
        }
        free(model);
        bif_tokenizer_free(t);
        bif_tokenizer_free(again);
    }
    unlink(copy);
    free(copy);
}

static void expect_text(const bif_tokenizer *t, const char *text, const char *want)
{
    bif_ids ids = {0};
    char *back = NULL;
    size_t size = 0;
    cr_assert_eq(bif_tokenizer_encode(t, text, strlen(text), true, &ids), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_tokenizer_decode(t, ids.ids, ids.count, true, &back, &size), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(back, want);
    cr_expect_eq(size, strlen(want));
    free(back);
    bif_ids_free(&ids);
}

Test(tokens, decoding)
{
    static const struct {
        const char *name, *text, *want;
    } cases[] = {{"llama", "the dogs  뷁 \xf0\x9f\x98\x80", "the dogs  뷁 \xf0\x9f\x98\x80"},
                 {"llama", "<s>the</s>", "the"}, {"llama", "  a", "  a"},
                 {"llama_prepend", "the 뷁 x", "the 뷁 x"}, {"llama_legacy", "\xff", "\xef\xbf\xbd"},
                 {"clip", "  The   DOGS, ", "the dogs ,"},
                 {"sp_bpe", "\xef\xac\x81  \xe2\x91\xa0 ", "fi 1"}, {"smollm2", "a\xff""b", "a\xff""b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bif_tokenizer *t = load(cases[i].name, "");
        expect_text(t, cases[i].text, cases[i].want);
        bif_tokenizer_free(t);
    }
}

static void encode_at(const bif_tokenizer *t, const char *text, bif_text_place place, bif_ids *ids)
{
    cr_assert_eq(bif_tokenizer_encode_at(t, text, strlen(text), false, place, ids), BIF_OK, "%s", bif_error_message());
}

/* A text in two halves is the text as a whole when the second says so; behind a special token the legacy one has a prefix. */
Test(tokens, prefix_space)
{
    for (int legacy = 0; legacy < 2; legacy++) {
        bif_tokenizer *t = load(legacy ? "llama_legacy" : "llama", "");
        bif_ids whole = {0}, halves = {0}, behind = {0};
        encode_at(t, "the dogs: running", BIF_TEXT_START, &whole);
        encode_at(t, "the dogs:", BIF_TEXT_START, &halves);
        encode_at(t, " running", BIF_TEXT_CONTINUES, &halves);
        cr_assert_eq(whole.count, halves.count);
        cr_expect_eq(memcmp(whole.ids, halves.ids, whole.count * sizeof *whole.ids), 0);
        encode_at(t, "the", BIF_TEXT_AFTER_SPECIAL, &behind);
        char *first = bif_tokenizer_piece(t, behind.ids[0]);
        cr_expect_eq(strncmp(first, "\xe2\x96\x81", 3) == 0, legacy == 1, "legacy %d: '%s'", legacy, first);
        free(first);
        bif_ids_free(&whole);
        bif_ids_free(&halves);
        bif_ids_free(&behind);
        bif_tokenizer_free(t);
    }
}

Test(tokens, pieces_and_names)
{
    bif_tokenizer *t = load("llama", "tokenizer.model");
    char *piece = bif_tokenizer_piece(t, 3);
    size_t size = 0;
    cr_expect_str_eq(piece, "<0x00>");
    cr_expect(bif_tokenizer_token(t, 13, &size)[0] == '\n' && size == 1);
    cr_expect_eq(bif_tokenizer_special(t, "<s>"), 1);
    cr_expect_eq(bif_tokenizer_special(t, "<image>"), bif_tokenizer_vocab(t) - 3);
    cr_expect_null(bif_tokenizer_piece(t, (int32_t)bif_tokenizer_vocab(t)));
    free(piece);
    bif_tokenizer_free(t);
    t = load("clip", "merges.txt"); /* either of the two files will do */
    cr_expect_eq(bif_tokenizer_special(t, "<|endoftext|>"), bif_tokenizer_vocab(t) - 1);
    bif_tokenizer_free(t);
}

/* Of two pieces with the same score the left one is joined first, whichever comes first in the file. */
Test(tokens, equal_scores_from_the_left)
{
    static const char model[] = "\n\x07\n\x03<u>\x18\x02\n\x03\n\x01" "a\n\x03\n\x01" "b\n\x03\n\x01" "c"
                                "\n\x04\n\x02" "bc\n\x04\n\x02" "ab\n\x04\n\x02" "ca"
                                "\x12\x02\x18\x02\x1a\x02\x18\x00";
    char *path = bif_format("/tmp/bif-tokens-%d.model", (int)getpid());
    bif_tokenizer *t = NULL;
    bif_ids ids = {0};
    cr_assert_eq(bif_file_write(path, model, sizeof model - 1), BIF_OK);
    cr_assert_eq(bif_tokenizer_load(path, &t), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_tokenizer_encode(t, "abcxyabcbca", 11, true, &ids), BIF_OK);
    static const int32_t want[] = {5, 3, 0, 5, 3, 4, 1}; /* ab c <u> ab c bc a: x and y are one unknown token */
    cr_assert_eq(ids.count, sizeof want / sizeof want[0]);
    cr_expect_eq(memcmp(ids.ids, want, sizeof want), 0);
    unlink(path);
    free(path);
    bif_ids_free(&ids);
    bif_tokenizer_free(t);
}

/* ---- files that must be refused ---- */

static bif_status load_bytes(const char *data, size_t size)
{
    char *folder = bif_format("/tmp/bif-tokens-%d", (int)getpid()), *path = bif_path_join(folder, "odd.model");
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_make_dirs(folder), BIF_OK);
    FILE *out = fopen(path, "wb"); /* bif_file_write would sync each of thousands of files to disk */
    cr_assert(out != NULL && fwrite(data, 1, size, out) == size && fclose(out) == 0);
    bif_error_clear();
    const bif_status st = bif_tokenizer_load(path, &t);
    if (st == BIF_OK) {
        bif_ids ids = {0};
        (void)bif_tokenizer_encode(t, "the dogs <tool> \xff 1", 18, true, &ids);
        bif_ids_free(&ids);
    }
    bif_tokenizer_free(t);
    bif_remove_tree(folder);
    free(path);
    free(folder);
    return st;
}

static const struct {
    const char *data;
    size_t size;
    const char *says;
} refused[] = {
#define BAD(data, says) {data, sizeof data - 1, says}
    BAD("\n", ": byte 1: it ends inside a number"),
    BAD("\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "only 0 are left"),
    BAD("\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "more than 10 bytes"),
    BAD("\n\x09\n\x7f" "abc\x18\x01\x18\x01", ": byte 4: a field of 127 bytes"),
    BAD("\n\x05\n\x01" "a\x18\x09", ": byte 7: piece 0 has the type 9"),
    BAD("\n\x02\x18\x01", "is empty"),
    BAD("\n\x03\n\x01\xff", "not UTF-8"),
    BAD("\n\x08\n\x01" "a\x15\xff\xff\xff\x7f", "has no score"),
    BAD("\n\x03\n\x01" "a", "no unknown pieces"),
    BAD("\n\x03\n\x01" "a\n\x03\n\x01" "a", "appears twice"),
    BAD("\n\x07\n\x03<u>\x18\x02\n\x07\n\x03<v>\x18\x02", "several unknown pieces"),
    BAD("\n\x07\n\x03<u>\x18\x02\x12\x02\x18\x03", "model type"),
    BAD("\n\x07\n\x03<u>\x18\x02\x12\x03\xc0\x01\x01", "treat_whitespace_as_suffix"),
    BAD("\n\x07\n\x03<u>\x18\x02\x12\x03\x98\x02\x01", "0 of 256 byte pieces"),
    BAD("\n\x07\n\x03<u>\x18\x02\n\x05\n\x01" "a\x18\x06", "not a byte"),
    BAD("\n\x07\n\x03<u>\x18\x02\x1a\x04\x12\x02zz", ": byte 13: the normalizer's precompiled_charsmap"),
    BAD("\n\x07\n\x03<u>\x18\x02*\x04\x12\x02zz", "denormalizer"),
    BAD("\n\x07\n\x03<u>\x18\x02\x0f", "wire type 7"),
    BAD("abc", ": byte 0: not valid JSON, and not a SentencePiece model"),
};

Test(tokens, refuses_broken_models)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        cr_expect_eq(load_bytes(refused[i].data, refused[i].size), BIF_ERR_DATA, "case %zu", i);
        cr_expect_not_null(strstr(bif_error_message(), refused[i].says), "case %zu: '%s' should say '%s'", i, bif_error_message(),
                           refused[i].says);
    }
}

/* More pieces than there may be, and a piece longer than one may be: refused, quickly. */
Test(tokens, refuses_huge_models, .timeout = 60)
{
    const size_t count = 1000001, each = 10;
    char *data = bif_malloc(count * each + 1);
    for (size_t i = 0; i < count; i++) {
        snprintf(data + i * each, each + 1, "\n\x08\n\x06%06zu", i % 1000000);
    }
    cr_expect_eq(load_bytes(data, count * each), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "more than 1000000 pieces"), "%s", bif_error_message());
    memcpy(data, "\n\x84\x07\n\x81\x07", 6); /* a piece of 897 bytes */
    memset(data + 6, 'a', 897);
    cr_expect_eq(load_bytes(data, 903), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "longer than"), "%s", bif_error_message());
    free(data);
}

/* Every prefix and many damaged copies of good models: a message or a tokenizer, never a crash. */
Test(tokens, damaged_models, .timeout = 300)
{
    static const char *const names[] = {"sp_bpe", "sp_unigram", "llama"};
    uint32_t random = 12345;
    for (size_t k = 0; k < 3; k++) {
        size_t size = 0;
        char *data = read_golden(names[k], "tokenizer.model", &size);
        for (size_t cut = 0; cut < size; cut += 17) {
            load_bytes(data, cut);
        }
        for (int round = 0; round < 700; round++) {
            char *copy = bif_malloc(size);
            memcpy(copy, data, size);
            for (int change = 0; change <= round % 3; change++) {
                random = random * 1664525u + 1013904223u;
                copy[(random >> 8) % size] = (char)(random >> 24);
            }
            load_bytes(copy, size);
            free(copy);
        }
        free(data);
    }
}

/* Side files that do not fit: holes in the ids, wrong kinds, another class. */
Test(tokens, refuses_odd_side_files)
{
    static const struct {
        const char *file, *text, *says;
    } cases[] = {{"added_tokens.json", "{\"<x>\": 9000}", "with holes"},
                 {"added_tokens.json", "{\"<x>\": \"1\"}", "is not a number"},
                 {"added_tokens.json", "{\"<x>\": 9223372036854775807}", "ids are below 1000000"},
                 {"added_tokens.json", "{\"<x>\": -1}", "'<x>' is -1"},
                 {"added_tokens.json", "[]", "not an object"},
                 {"added_tokens.json", "{\"<x>\": 520, \"<y>\": 520}", "taken"},
                 {"added_tokens.json", "{\"<x>\": 5}", "taken"},
                 {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {}}}", "has the key 'x'"},
                 {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"99999999999999999999\": {\"content\": \"x\"}}}",
                  "has the key '9999"},
                 {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"520\": {\"content\": 1}}}", "content"},
                 {"tokenizer_config.json", "{\"tokenizer_class\": \"XLMRobertaTokenizer\"}", "XLMRobertaTokenizer"}};
    size_t size = 0;
    char *model = read_golden("llama", "tokenizer.model", &size);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *folder = bif_format("/tmp/bif-tokens-side-%d", (int)getpid()), *path = bif_path_join(folder, "tokenizer.model"),
             *side = bif_path_join(folder, cases[i].file);
        bif_tokenizer *t = NULL;
        cr_assert_eq(bif_make_dirs(folder), BIF_OK);
        cr_assert_eq(bif_file_write(path, model, size), BIF_OK);
        cr_assert_eq(bif_file_write(side, cases[i].text, strlen(cases[i].text)), BIF_OK);
        cr_expect_eq(bif_tokenizer_load(folder, &t), BIF_ERR_DATA, "case %zu", i);
        cr_expect_not_null(strstr(bif_error_message(), cases[i].says), "case %zu: '%s' should say '%s'", i, bif_error_message(),
                           cases[i].says);
        bif_remove_tree(folder);
        free(folder);
        free(path);
        free(side);
    }
    free(model);
}

/* What is behind a zero byte of merges.txt, or is not UTF-8, is not dropped in silence. */
Test(tokens, refuses_odd_merges)
{
    static const struct {
        const char *text;
        size_t size;
        const char *says;
    } cases[] = {BAD("#version: 0.2\na b\0\nab a\n", "merges.txt: byte 17: a zero byte"),
                 BAD("a b\n\xff a\n", "merges.txt: byte 4: a line that is not UTF-8"),
                 BAD("a b\nb b\n", "'bb' is not in the vocabulary")};
    static const char vocab[] = "{\"a\":0,\"b\":1,\"ab\":2}", config[] = "{\"tokenizer_class\":\"GPT2Tokenizer\"}";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *folder = bif_format("/tmp/bif-tokens-merges-%d", (int)getpid()), *merges = bif_path_join(folder, "merges.txt"),
             *words = bif_path_join(folder, "vocab.json"), *settings = bif_path_join(folder, "tokenizer_config.json");
        bif_tokenizer *t = NULL;
        cr_assert_eq(bif_make_dirs(folder), BIF_OK);
        cr_assert_eq(bif_file_write(words, vocab, sizeof vocab - 1), BIF_OK);
        cr_assert_eq(bif_file_write(settings, config, sizeof config - 1), BIF_OK);
        cr_assert_eq(bif_file_write(merges, cases[i].text, cases[i].size), BIF_OK);
        cr_expect_eq(bif_tokenizer_load(folder, &t), BIF_ERR_DATA, "case %zu", i);
        cr_expect_not_null(strstr(bif_error_message(), cases[i].says), "case %zu: '%s' should say '%s'", i, bif_error_message(),
                           cases[i].says);
        bif_remove_tree(folder);
        free(folder);
        free(merges);
        free(words);
        free(settings);
    }
}

/* Merges that lead in a circle are impossible: what a merge makes is the two texts together, and longer than both. What can
 * be is the same merge many times, and a merge of a token with itself. */
Test(tokens, merges_that_repeat)
{
    static const char json[] = "{\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"vocab\":{\"a\":0,\"aa\":1,\"aaaa\":2,\"aaa\":3},"
                               "\"merges\":[\"a a\",\"aa aa\",\"a aa\",\"aa a\",\"a a\"]}}";
    bif_tokenizer *t = NULL;
    bif_ids ids = {0};
    cr_assert_eq(bif_tokenizer_parse("circle", json, sizeof json - 1, &t), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_tokenizer_encode(t, "aaaaaaaaa", 9, true, &ids), BIF_OK);
    size_t total = 0, size = 0;
    for (size_t i = 0; i < ids.count; i++) {
        bif_tokenizer_token(t, ids.ids[i], &size);
        total += size;
    }
    cr_expect_eq(total, 9);
    bif_ids_free(&ids);
    bif_tokenizer_free(t);
}
