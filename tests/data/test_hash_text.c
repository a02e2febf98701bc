// data/hash_text.h: the normal form against Python's unicodedata, MinHash against Jaccard similarities counted exactly.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/hash_text.h"

static void expect_normal(const char *text, size_t size, const char *normal)
{
    size_t length = 0;
    char *out = bif_text_normal(text, size, &length);
    cr_expect(strcmp(out, normal) == 0 && length == strlen(normal), "'%s' became '%s', not '%s'", text, out, normal);
    free(out);
}

Test(hash_text, normal_form)
{
    // unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", s).casefold()), then spaces and punctuation as the header says
    static const char *const pairs[][2] = {
        {"A photo of a cat.", "a photo of a cat"},
        {"  \xc2\xab" "Hello,\tWORLD\xc2\xbb \xe2\x80\xa6 ", "hello, world"},
        {"\xef\xbc\xa1\xe3\x80\x80\xef\xbc\xa3\xef\xbd\x81\xef\xbd\x94\xef\xbc\x81", "a cat"},       // full width letters, space and mark
        {"Stra\xc3\x9f" "e", "strasse"},
        {"\xef\xac\x81ne caf\x65\xcc\x81", "fine caf\xc3\xa9"},                                      // ligature, combining accent
        {"\xe2\x84\xab", "\xc3\xa5"},                                                                // Angstrom sign
        {"a\xc2\xad" "b\xe2\x80\x8b" "c", "abc"},                                                    // soft hyphen, zero width space
        {"one\r\n\r\ntwo", "one two"},
        {"rock'n'roll", "rock'n'roll"},
        {"(1) a dog!?", "1) a dog"},
        {"...", ""},
        {"", ""},
        {"$5 + 3", "$5 + 3"},                                                                        // signs are no punctuation
        {"a\xff" "b\xc3", "ab"},                                                                     // no UTF-8
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        expect_normal(pairs[i][0], strlen(pairs[i][0]), pairs[i][1]);
    }
    expect_normal("a\0b", 3, "a b");
}

Test(hash_text, normalising_twice_is_once)
{
    srand(4);
    for (int n = 0; n < 2000; n++) {
        char text[40];
        for (size_t i = 0; i < sizeof text; i++) {
            text[i] = (char)(rand() % 4 == 0 ? rand() : " .,aB-\"\xc3\xa9" [rand() % 9]);
        }
        size_t one = 0, two = 0;
        char *a = bif_text_normal(text, sizeof text, &one), *b = bif_text_normal(a, one, &two);
        cr_assert(one == two && memcmp(a, b, one) == 0, "'%s' and '%s'", a, b);
        free(a);
        free(b);
    }
}

Test(hash_text, digests)
{
    uint64_t a[2], b[2];
    bif_text_hash("", 0, a);
    cr_expect(a[0] == 0 && a[1] == 0);
    bif_text_hash("a cat", 5, a);
    bif_text_hash("a dog", 5, b);
    cr_expect(a[0] != b[0] && a[1] != b[1] && a[0] != 0);
    uint32_t values[BIF_MINHASH_WIDTH], others[BIF_MINHASH_WIDTH];
    bif_text_minhash("", 0, values);
    for (int i = 0; i < BIF_MINHASH_WIDTH; i++) {
        cr_expect(values[i] == UINT32_MAX);
    }
    bif_text_minhash("cat", 3, values); // shorter than a run: the text as a whole
    bif_text_minhash("cat", 3, others);
    cr_expect(memcmp(values, others, sizeof values) == 0 && values[0] != UINT32_MAX);
    bif_text_minhash("aaaaaaaaa", 9, values); // a set: the same run counts once
    bif_text_minhash("aaaaa", 5, others);
    cr_expect(memcmp(values, others, sizeof values) == 0);
    bif_text_minhash("h\xc3\xa9llo", 6, values); // characters, not bytes
    bif_text_minhash("h\xc3\xa9llo w", 8, others);
    int equal = 0;
    for (int i = 0; i < BIF_MINHASH_WIDTH; i++) {
        equal += values[i] == others[i];
        cr_expect(others[i] <= values[i]);
    }
    cr_expect(equal > 20 && equal < 70, "1 run of 3 is shared: %d of 128", equal);
}

// Letters from a small alphabet, so that sets of runs overlap in many degrees.
Test(hash_text, minhash_estimates_jaccard)
{
    enum { PAIRS = 400, LENGTH = 120 };
    srand(9);
    double bias = 0, square = 0;
    for (int n = 0; n < PAIRS; n++) {
        char a[LENGTH], b[LENGTH];
        uint32_t x[BIF_MINHASH_WIDTH], y[BIF_MINHASH_WIDTH];
        for (int i = 0; i < LENGTH; i++) {
            a[i] = (char)('a' + rand() % 26);
            b[i] = (char)(rand() % 100 < n / 20 ? 'a' + rand() % 26 : a[i]);
        }
        int both = 0, runs = LENGTH - BIF_MINHASH_RUN + 1;
        for (int i = 0; i < runs; i++) { // runs are all different but for rare chances
            for (int j = 0; j < runs; j++) {
                both += memcmp(a + i, b + j, BIF_MINHASH_RUN) == 0;
            }
        }
        bif_text_minhash(a, LENGTH, x);
        bif_text_minhash(b, LENGTH, y);
        int equal = 0;
        for (int i = 0; i < BIF_MINHASH_WIDTH; i++) {
            equal += x[i] == y[i];
        }
        const double s = (double)both / (2 * runs - both), off = (double)equal / BIF_MINHASH_WIDTH - s;
        const double deviation = sqrt(s * (1 - s) / BIF_MINHASH_WIDTH);
        cr_expect(fabs(off) <= 5 * deviation + 1e-12, "pair %d: similarity %.3f, estimate off by %.3f", n, s, off);
        bias += off;
        square += deviation > 0 ? off * off / (deviation * deviation) : 1;
    }
    cr_expect(fabs(bias / PAIRS) < 0.006, "bias %.4f", bias / PAIRS);
    cr_expect(square / PAIRS > 0.8 && square / PAIRS < 1.25, "variance %.3f of what 128 draws have", square / PAIRS);
}
