#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/rng.h"
#include "data/text_measures.h"

/* tests/golden/make_text_measures.py: Python's len, split and unicodedata, and Scripts.txt. */
Test(text_measures, golden)
{
    char *path = bif_format("%s/golden/text_measures.jsonl", getenv("BIFOCAL_TESTS"));
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    char *line = NULL;
    size_t room = 0;
    int64_t count = 0;
    bool set[BIF_SCRIPT_COUNT] = {false};
    cr_assert_eq(bif_script_set("Latn,Kore", set), BIF_OK);
    for (ssize_t size; (size = getline(&line, &room, file)) > 0; count++) {
        json_t *row = json_loads(line, 0, NULL);
        const char *text = json_string_value(json_object_get(row, "text"));
        const size_t n = strlen(text);
        const bif_text_measures m = bif_text_measure(text, n);
        cr_expect_eq(m.chars, json_integer_value(json_object_get(row, "chars")), "chars %lld: %s", (long long)m.chars, line);
        cr_expect_eq(m.words, json_integer_value(json_object_get(row, "words")), "words %lld: %s", (long long)m.words, line);
        cr_expect_eq(m.letters, json_integer_value(json_object_get(row, "letters")), "letters %lld: %s", (long long)m.letters, line);
        cr_expect_eq(m.scripted, json_integer_value(json_object_get(row, "scripted")), "scripted %lld: %s", (long long)m.scripted, line);
        const double alphabetic = json_real_value(json_object_get(row, "alphabetic"));
        cr_expect(fabs(m.alphabetic - alphabetic) < 1e-15, "alphabetic %g: %s", m.alphabetic, line);
        const char *script = json_string_value(json_object_get(row, "script"));
        cr_expect_eq(script == NULL, m.script < 0, "script: %s", line);
        cr_expect(script == NULL || m.script < 0 || strcmp(script, bif_script_codes[m.script]) == 0, "script: %s", line);
        const double share = bif_text_script_share(text, n, set);
        cr_expect(fabs(share - json_real_value(json_object_get(row, "latin_or_korean"))) < 1e-15, "share %g: %s", share, line);
        for (int k = 1; k <= 3; k++) {
            const double repeated = bif_text_repetition(text, n, k);
            const double want = json_real_value(json_array_get(json_object_get(row, "repeated"), (size_t)k - 1));
            cr_expect(fabs(repeated - want) < 1e-15, "repeated %d %g: %s", k, repeated, line);
        }
        json_decref(row);
    }
    cr_assert_geq(count, 60);
    free(line);
    fclose(file);
    free(path);
}

Test(text_measures, script_lists)
{
    bool set[BIF_SCRIPT_COUNT] = {false};
    cr_assert_eq(bif_script_set("Latin", set), BIF_ERR_USAGE);
    cr_assert_eq(bif_script_set("", set), BIF_ERR_USAGE);
    cr_assert_eq(bif_script_set("Zyyy", set), BIF_ERR_USAGE);
    cr_assert_eq(bif_script_set("Latn,,Hang", set), BIF_ERR_USAGE);
    cr_assert_eq(bif_script_of('a'), bif_script_of(0xE9));
    cr_assert_eq(bif_script_of(0x30FC), -1, "the long sign of Hira and Kana belongs to neither");
    for (int i = 1; i < bif_script_run_count; i++) {
        cr_assert_lt(bif_script_runs[i - 1] >> 8, bif_script_runs[i] >> 8);
    }
}

Test(text_measures, file_names)
{
    static const char *const yes[] = {"IMG_1234.jpg", "img_1234", "DSC 0042", "P1010001", "a red car.PNG", "https://example.com/x",
                                      "www.example.com", "123_456", "  DSC_0001.JPG\n", "PXL_20210101_120000",
                                      "Screenshot 2021-01-01", "image (3)",
                                      "d41d8cd98f00b204e9800998ecf8427e",
                                      "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "2021-01-01"};
    static const char *const no[] = {"", "a photo of a dog", "IMG", "P 1", "see www.example.com for more", "image of a car", "photo",
                                     "room 12 of the hotel",
                                     "deadbeef", "dogs.", "jpg", "http://a b", "10 dogs", "\xff\xfe"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        cr_expect(bif_text_is_file_name(yes[i], strlen(yes[i])), "'%s' is the name of a file", yes[i]);
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        cr_expect(!bif_text_is_file_name(no[i], strlen(no[i])), "'%s' is no name of a file", no[i]);
    }
}

static bool same(const char *a, const char *b)
{
    uint64_t x[2], y[2];
    bif_text_key(a, strlen(a), x);
    bif_text_key(b, strlen(b), y);
    return x[0] == y[0] && x[1] == y[1];
}

Test(text_measures, keys)
{
    uint64_t none[2];
    cr_expect(same("A  Red\tcar ", "a red car"));
    cr_expect(same("ÉCOLE\u3000x", " école x"));
    cr_expect(!same("a redcar", "a red car"));
    bif_text_key(" \n", 2, none);
    cr_expect(none[0] == 0 && none[1] == 0);
    cr_expect(same("A red car.", "a red car") && same("a red\xff car", "a red car"));
}

static void caption_is(const char *text, const char *want)
{
    char *found = NULL;
    size_t size = 0;
    bif_sample_caption(&(bif_shard_sample){.text = text, .text_size = strlen(text)}, &found, &size);
    cr_expect((found == NULL) == (want == NULL) && (want == NULL || (strcmp(found, want) == 0 && size == strlen(want))), "%s", text);
    free(found);
}

Test(text_measures, captions)
{
    caption_is("{\"caption\":\"a dog\"}", "a dog");
    caption_is("{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},"
               "{\"from\":\"gpt\",\"value\":\"x\\ny\"},{\"from\":\"gpt\",\"value\":\"z\"}]}", "x\ny");
    caption_is("{\"conversations\":[]}", NULL);
    caption_is("{\"caption\":3}", NULL);
    caption_is("{", NULL);
}

Test(text_measures, bytes_that_are_no_text)
{
    const char text[] = "ab \xff\xc3 \xe2\x82";
    const bif_text_measures m = bif_text_measure(text, sizeof text - 1);
    cr_expect_eq(m.chars, 8); /* each stray byte one */
    cr_expect_eq(m.words, 3);
    cr_expect_eq(m.letters, 2);
}

/* Nothing is read beyond the end, whatever the bytes (seen by the sanitizers: each text is an allocation of its own), and shares are shares. */
Test(text_measures, any_bytes)
{
    bool set[BIF_SCRIPT_COUNT] = {false};
    cr_assert_eq(bif_script_set("Latn,Jpan", set), BIF_OK);
    for (uint64_t i = 0; i < 3000; i++) {
        uint32_t draw[4];
        bif_philox(1, BIF_RNG_TEST, i, 0, draw);
        const size_t size = draw[0] % 70;
        char *text = malloc(size > 0 ? size : 1);
        for (size_t k = 0; k < size; k++) {
            static const unsigned char often[] = {' ', 'a', 'B', '7', '.', 0xC3, 0xA9, 0xE3, 0x81, 0x82, 0xF0, 0x9F, 0x98, 0x80, 0xFF, '\0'};
            bif_philox(2, BIF_RNG_TEST, i, (uint32_t)k, draw);
            text[k] = (char)(draw[0] % 3 == 0 ? draw[1] & 255 : often[draw[1] % sizeof often]);
        }
        const bif_text_measures m = bif_text_measure(text, size);
        const double share = bif_text_script_share(text, size, set), repeated = bif_text_repetition(text, size, 1 + (int64_t)(i % 3));
        uint64_t key[2];
        cr_expect(m.chars <= (int64_t)size && m.words <= m.chars && m.letters <= m.chars && m.scripted <= m.letters);
        cr_expect(m.alphabetic >= 0 && m.alphabetic <= 1 && share >= 0 && share <= 1 && repeated >= 0 && repeated < 1);
        bif_text_is_file_name(text, size);
        bif_text_key(text, size, key);
        free(text);
    }
}
