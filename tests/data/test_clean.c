/* Captions cleaned as OpenAI's CLIP does it; tests/golden/check_clip_clean.py makes clip_clean.json with OpenAI's code and ftfy. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/chat.h"

static void expect_clean(const char *text, size_t size, const char *wanted, size_t wanted_size)
{
    char *out = NULL;
    size_t out_size = 0;
    cr_assert_eq(bif_clean_text(BIF_CLEAN_CLIP, text, size, &out, &out_size), BIF_OK, "%s", bif_error_message());
    cr_expect(out_size == wanted_size && memcmp(out, wanted, wanted_size) == 0, "'%.*s' gave '%s', not '%.*s'", (int)size, text, out,
              (int)wanted_size, wanted);
    free(out);
}

Test(clean, texts_and_ids_of_openai)
{
    char *path = bif_format("%s/golden/clip_clean.json", getenv("BIFOCAL_TESTS")), *text = NULL;
    char *folder = bif_format("%s/golden/tokens/clip", getenv("BIFOCAL_TESTS"));
    size_t size = 0, changed = 0;
    json_t *rows = NULL, *row;
    bif_tokenizer *t = NULL;
    cr_assert_eq(bif_tokenizer_load(folder, &t), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_file_read(path, 1 << 20, &text, &size), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_json_parse(path, text, size, &rows), BIF_OK, "%s", bif_error_message());
    cr_assert_geq(json_array_size(rows), 20);
    bif_chat chat = {.tokenizer = t, .bos = -1, .eos = 7, .max_tokens = 1000, .clean = BIF_CLEAN_CLIP};
    size_t i;
    json_array_foreach(rows, i, row)
    {
        const json_t *from = json_object_get(row, "text"), *to = json_object_get(row, "clean"), *want = json_object_get(row, "ids");
        expect_clean(json_string_value(from), json_string_length(from), json_string_value(to), json_string_length(to));
        bif_ids ids = {0};
        cr_assert_eq(bif_chat_caption(&chat, "here", json_string_value(from), json_string_length(from), false, &ids), BIF_OK, "%s",
                     bif_error_message());
        cr_assert_eq(ids.count, json_array_size(want) + 1, "row %zu: %zu ids", i, ids.count);
        for (size_t j = 0; j + 1 < ids.count; j++) {
            cr_expect_eq(ids.ids[j], json_integer_value(json_array_get(want, j)), "row %zu id %zu", i, j);
        }
        ids.count = 0;
        chat.clean = BIF_CLEAN_NONE;
        cr_assert_eq(bif_chat_caption(&chat, "here", json_string_value(from), json_string_length(from), false, &ids), BIF_OK);
        changed += ids.count != json_array_size(want) + 1;
        chat.clean = BIF_CLEAN_CLIP;
        bif_ids_free(&ids);
    }
    cr_expect_geq(changed, 10, "%zu", changed);
    json_decref(rows);
    bif_tokenizer_free(t);
    free(text);
    free(path);
    free(folder);
}

Test(clean, any_bytes)
{
    expect_clean("a\0b\xff C\xed\xa0\x80", 9, "ab\xef\xbf\xbd c\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 16);
    expect_clean("", 0, "", 0);
    char *out = NULL;
    size_t size = 0;
    cr_assert_eq(bif_clean_text(BIF_CLEAN_NONE, "A\0&amp;", 7, &out, &size), BIF_OK);
    cr_expect(size == 7 && memcmp(out, "A\0&amp;", 7) == 0, "nothing is done");
    free(out);
}

Test(clean, references_in_references_end)
{
    char text[1 + 4 * 200 + 1] = "&", *out = NULL;
    size_t size = 0;
    for (size_t depth = 1; depth <= 90; depth++) {
        memcpy(text + 1 + 4 * (depth - 1), "amp;", 4);
    }
    expect_clean(text, 1 + 4 * 90, "&", 1);
    for (size_t depth = 91; depth <= 200; depth++) {
        memcpy(text + 1 + 4 * (depth - 1), "amp;", 4);
    }
    cr_expect_eq(bif_clean_text(BIF_CLEAN_CLIP, text, 1 + 4 * 200, &out, &size), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "100 deep"), "%s", bif_error_message());
}

Test(clean, names)
{
    bif_clean clean = BIF_CLEAN_NONE;
    cr_assert_eq(bif_clean_by_name("clip", &clean), BIF_OK);
    cr_expect(clean == BIF_CLEAN_CLIP && strcmp(bif_clean_name(clean), "clip") == 0);
    cr_expect_eq(bif_clean_by_name("lower", &clean), BIF_ERR_CONFIG);
}
