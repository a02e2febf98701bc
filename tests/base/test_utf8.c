#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

Test(utf8, every_code_point_there_and_back)
{
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        if (code >= 0xD800 && code <= 0xDFFF) {
            continue;
        }
        char text[4];
        uint32_t back = 0;
        size_t n = bif_utf8_encode(code, text);
        cr_assert_eq(n, code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4);
        cr_assert_eq(bif_utf8_decode(text, n, &back), n);
        cr_assert_eq(back, code);
        cr_assert_eq(bif_utf8_check(text, n), n);
        for (size_t cut = 1; cut < n; cut++) {
            cr_assert_eq(bif_utf8_decode(text, cut, &back), 0);
            cr_assert_eq(bif_utf8_check(text, cut), 0);
        }
    }
}

Test(utf8, invalid)
{
    static const char *const bad[] = {"\x80",         "\xbf",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x80\x80", "\xe0\x9f\xbf",
                                      "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80", "\xfe", "\xff", "\xc3(", "\xe2\x28\xa1", "\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[64];
        uint32_t code;
        cr_expect_eq(bif_utf8_check(bad[i], strlen(bad[i])), 0, "%zu", i);
        cr_expect_eq(bif_utf8_decode(bad[i], strlen(bad[i]), &code), 0, "%zu", i);
        int n = snprintf(text, sizeof text, "eleven char%s tail", bad[i]);
        cr_expect_eq(bif_utf8_check(text, (size_t)n), 11, "%zu", i);
    }
    cr_expect_eq(bif_utf8_check("plain ascii and \xc3\xa9", 18), 18);
    cr_expect_eq(bif_utf8_check("", 0), 0);
}

Test(utf8, spelled)
{
    static const char text[] = "caf\xc3\xa9 \xff\xc3|\0\xed\xa0\x80\xf0\x9f\x98\x80\n";
    char *out = bif_utf8_spelled(text, sizeof text - 1), *empty = bif_utf8_spelled("", 0);
    cr_expect_str_eq(out, "caf\xc3\xa9 \\xff\\xc3|\\x00\\xed\\xa0\\x80\xf0\x9f\x98\x80\n");
    cr_expect_str_eq(empty, "");
    static const char moves[] = "a\x1b[31m\x07\n\t\r\x7f\xc2\x9b \xc3\xa9\xff";
    char *line = bif_utf8_printable(moves, sizeof moves - 1, false), *lines = bif_utf8_printable("a\nb\x01", 4, true);
    cr_expect_str_eq(line, "a\\x1b[31m\\x07\\n\\t\\r\\x7f\\x9b \xc3\xa9\\xff");
    cr_expect_str_eq(lines, "a\nb\\x01");
    free(line);
    free(lines);
    free(out);
    free(empty);
}
