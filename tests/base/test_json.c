#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

Test(json, typed_members)
{
    static const char text[] = "{\"i\": 9007199254740993, \"r\": 0.5, \"b\": true, \"s\": \"x\", \"n\": null}";
    json_t *value = NULL;
    cr_assert_eq(bif_json_parse("here", text, strlen(text), &value), BIF_OK);
    int64_t i = 7;
    double r = 0;
    bool b = false;
    const char *s = "default";
    cr_expect_eq(bif_json_i64("here", value, "i", true, &i), BIF_OK);
    cr_expect_eq(i, 9007199254740993); /* not through a double */
    cr_expect_eq(bif_json_f64("here", value, "r", true, &r), BIF_OK);
    cr_expect_eq(r, 0.5);
    cr_expect_eq(bif_json_f64("here", value, "i", true, &r), BIF_OK);
    cr_expect_eq(bif_json_bool("here", value, "b", true, &b), BIF_OK);
    cr_expect(b);
    cr_expect_eq(bif_json_string("here", value, "s", true, &s), BIF_OK);
    cr_expect_str_eq(s, "x");
    i = 7;
    cr_expect_eq(bif_json_i64("here", value, "n", false, &i), BIF_OK);
    cr_expect_eq(bif_json_i64("here", value, "absent", false, &i), BIF_OK);
    cr_expect_eq(i, 7);
    cr_expect_eq(bif_json_i64("here", value, "absent", true, &i), BIF_ERR_DATA);
    cr_expect_str_eq(bif_error_message(), "here: the key 'absent' is missing");
    cr_expect_eq(bif_json_i64("here", value, "n", true, &i), BIF_ERR_DATA);
    cr_expect_eq(bif_json_i64("here", value, "r", true, &i), BIF_ERR_DATA);
    cr_expect_str_eq(bif_error_message(), "here: 'r' must be an integer, not a real number");
    cr_expect_eq(bif_json_bool("here", value, "i", false, &b), BIF_ERR_DATA);
    cr_expect_eq(bif_json_string("here", value, "b", false, &s), BIF_ERR_DATA);
    cr_expect_eq(bif_json_f64("here", value, "s", false, &r), BIF_ERR_DATA);
    cr_expect_eq(bif_json_i64("here", json_object_get(value, "s"), "i", false, &i), BIF_ERR_DATA);
    json_decref(value);
}

Test(json, refused)
{
    static const char *const bad[] = {"", "{", "{\"a\":1,\"a\":2}", "\"\xff\"", "[1,]", "{} x", "99999999999999999999", "{\"a\":\"\xed\xa0\x80\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *value = NULL;
        cr_expect_eq(bif_json_parse("file:3", bad[i], strlen(bad[i]), &value), BIF_ERR_DATA, "%s", bad[i]);
        cr_expect(strncmp(bif_error_message(), "file:3: ", 8) == 0);
    }
    size_t depth = 100000;
    char *deep = malloc(depth);
    memset(deep, '[', depth);
    json_t *value = NULL;
    cr_expect_eq(bif_json_parse("deep", deep, depth, &value), BIF_ERR_DATA);
    free(deep);
}

Test(json, files)
{
    char path[] = "/tmp/bif-json-XXXXXX";
    close(mkstemp(path));
    json_t *value = json_pack("{s:i, s:[s]}", "z", 1, "a", "\xc3\xa9"), *back = NULL;
    cr_assert_eq(bif_json_save_file(path, value), BIF_OK);
    cr_assert_eq(bif_json_load_file(path, 1000, &back), BIF_OK, "%s", bif_error_message());
    cr_expect(json_equal(value, back));
    json_decref(back);
    json_decref(value);
    cr_expect_eq(bif_json_load_file(path, 3, &back), BIF_ERR_DATA);
    cr_assert_eq(bif_file_write(path, "{\n \"a\": nope}", 13), BIF_OK);
    cr_expect_eq(bif_json_load_file(path, 1000, &back), BIF_ERR_DATA);
    char *where = bif_format("%s:2:", path);
    cr_expect(strncmp(bif_error_message(), where, strlen(where)) == 0, "%s", bif_error_message());
    free(where);
    unlink(path);
}

/* transformers' tokenizer_config.json: the number that is too large becomes a real, the others stay, and it can be written again. */
Test(json, integers_beyond_64_bits)
{
    char path[] = "/tmp/bif-json-XXXXXX";
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    const char *const text = "{\"model_max_length\": 1000000000000000019884624838656, \"n\": 64, \"list\": [3, 0.5, {\"id\": 32000}]}";
    json_t *value = NULL;
    cr_assert_eq(bif_file_write(path, text, strlen(text)), BIF_OK);
    cr_expect_eq(bif_json_load_file(path, 1000, &value), BIF_ERR_DATA);
    for (int pass = 0; pass < 2; pass++) {
        value = NULL;
        cr_assert_eq(bif_json_load_reals(path, 1000, &value), BIF_OK, "%s", bif_error_message());
        cr_expect_eq(json_real_value(json_object_get(value, "model_max_length")), 1e30);
        cr_expect(json_is_integer(json_object_get(value, "n")) && json_integer_value(json_object_get(value, "n")) == 64);
        const json_t *list = json_object_get(value, "list");
        cr_expect(json_is_integer(json_array_get(list, 0)) && json_real_value(json_array_get(list, 1)) == 0.5);
        cr_expect_eq(json_integer_value(json_object_get(json_array_get(list, 2), "id")), 32000);
        cr_assert_eq(bif_json_save_file(path, value), BIF_OK);
        json_decref(value);
    }
    unlink(path);
}
