#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/rng.h"

Test(base64, of_the_standard)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"foobar", "Zm9vYmFy"},
                                           {"\xFF\xFE\xFD\x80", "//79gA=="},
                                           {"\xFB", "+w=="}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[16] = "", *back = NULL;
        size_t size = 0;
        bif_base64_encode(pairs[i][0], strlen(pairs[i][0]), text);
        cr_expect_str_eq(text, pairs[i][1]);
        cr_expect_eq(bif_base64_size(strlen(pairs[i][0])), strlen(text));
        cr_expect_eq(bif_base64_decode("x", (bif_span){text, strlen(text)}, &back, &size), BIF_OK);
        cr_expect(size == strlen(pairs[i][0]) && memcmp(back, pairs[i][0], size) == 0, "%s", text);
        free(back);
    }
}

Test(base64, there_and_back)
{
    for (size_t size = 0; size < 200; size++) {
        char bytes[200], text[272], *back = NULL;
        size_t got = 0;
        for (size_t i = 0; i < size; i++) {
            bytes[i] = (char)(256.0f * bif_rng_uniform(0, BIF_RNG_TEST, size, (uint32_t)i));
        }
        bif_base64_encode(bytes, size, text);
        cr_assert_eq(bif_base64_decode("x", (bif_span){text, bif_base64_size(size)}, &back, &got), BIF_OK);
        cr_assert(got == size && memcmp(back, bytes, size) == 0);
        free(back);
    }
}

Test(base64, lines_and_refusals)
{
    char *back = NULL;
    size_t size = 0;
    cr_expect_eq(bif_base64_decode("x", (bif_span){" Zm\r\n9v\tYg == ignored", 22}, &back, &size), BIF_OK);
    cr_expect(size == 4 && memcmp(back, "foob", 4) == 0);
    free(back);
    cr_expect_eq(bif_base64_decode("the picture", (bif_span){"Zm-v", 4}, &back, &size), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "the picture: byte 2") != NULL, "%s", bif_error_message());
}
