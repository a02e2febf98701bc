#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_scan.h"
#include "base/rng.h"

/* Reads any value into jansson's tree through the cursor. */
static bif_status tree(bif_scan *s, json_t **out)
{
    bif_status st = BIF_OK;
    bif_span span;
    bool more = false, truth = false;
    json_t *part = NULL;
    *out = NULL;
    switch (bif_scan_peek(s)) {
    case '{':
        *out = json_object();
        BIF_TRY(bif_scan_enter(s, '{'));
        while ((st = bif_scan_key(s, &span, &more)) == BIF_OK && more) {
            BIF_TRY(tree(s, &part));
            json_object_setn_new(*out, span.text, span.size, part);
        }
        break;
    case '[':
        *out = json_array();
        BIF_TRY(bif_scan_enter(s, '['));
        while ((st = bif_scan_more(s, &more)) == BIF_OK && more) {
            BIF_TRY(tree(s, &part));
            json_array_append_new(*out, part);
        }
        break;
    case '"':
        BIF_TRY(bif_scan_string(s, &span));
        *out = json_stringn(span.text, span.size);
        break;
    case 't':
    case 'f':
        BIF_TRY(bif_scan_bool(s, &truth));
        *out = json_boolean(truth);
        break;
    case 'n':
        BIF_TRY(bif_scan_skip(s));
        *out = json_null();
        break;
    default: {
        double value = 0.0;
        BIF_TRY(bif_scan_f64(s, &value));
        *out = json_real(value);
    }
    }
done:
    if (st != BIF_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return st;
}

/* Numbers of a tree as reals, so that 1 and 1.0 compare equal. */
static json_t *reals(const json_t *value)
{
    const char *key;
    json_t *copy = NULL, *item;
    size_t i;
    if (json_is_object(value)) {
        copy = json_object();
        json_object_foreach((json_t *)value, key, item) {
            json_object_set_new(copy, key, reals(item));
        }
    } else if (json_is_array(value)) {
        copy = json_array();
        json_array_foreach(value, i, item) {
            json_array_append_new(copy, reals(item));
        }
    } else {
        copy = json_is_number(value) ? json_real(json_number_value(value)) : json_copy((json_t *)value);
    }
    return copy;
}

/* Text by text the cursor accepts what jansson accepts, and reads the same; skipping accepts alike. */
static void same(const char *text, size_t size)
{
    json_error_t error;
    json_t *theirs = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error), *ours = NULL;
    if (theirs != NULL && memmem(text, size, "\\u0000", 6) != NULL) { /* refused here */
        json_decref(theirs);
        theirs = NULL;
    }
    bif_scan *s = bif_scan_text("test", text, size);
    bif_status st = tree(s, &ours);
    st = st == BIF_OK ? bif_scan_end(s) : st;
    bif_scan_close(s);
    s = bif_scan_text("test", text, size);
    bif_status skipped = bif_scan_skip(s);
    skipped = skipped == BIF_OK ? bif_scan_end(s) : skipped;
    bif_scan_close(s);
    cr_assert_eq(skipped, st, "skipped with %d, read with %d: %.*s", skipped, st, (int)size, text);
    cr_assert_eq(st == BIF_OK, theirs != NULL, "%.*s: ours %s, jansson %s", (int)size, text, st == BIF_OK ? "good" : bif_error_message(),
                 theirs != NULL ? "good" : error.text);
    if (theirs != NULL) {
        json_t *plain = reals(theirs);
        cr_assert(json_equal(plain, ours), "%.*s", (int)size, text);
        json_decref(plain);
    }
    json_decref(theirs);
    json_decref(ours);
}

Test(json_scan, reads_what_jansson_reads)
{
    static const char *const texts[] = {
        "{}", "[]", " [ ] ", "[1,2]", "[1,]", "[,1]", "{\"a\":1,}", "{\"a\" 1}", "{\"a\":}", "{a:1}", "\"\\u00e9\\n\\\"\"", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\u12\"",
        "\"\\x\"", "\"a", "[1", "105", "0", "-0", "-", "01", "1.", "1.5e", "1.5e+3", "2E-2", ".5", "+1", "nul", "null", "true", "truee", "[true,false,null]", "1 2", "",
        "\"\xc3\xa9\"", "\"\xc3\"", "\"\t\"", "{\"k\":[{\"x\":\"\\/\"},[[]],-1.25]}", "\"\\u0000\"", "[\"\",\"\"]", "{\"\":{}}", "]", "}", "[}", "{]", "1e5", "10", "[100,20]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        same(texts[i], strlen(texts[i]));
    }
}

Test(json_scan, reads_what_jansson_reads_of_damaged_texts)
{
    static const char text[] = "{\"annotations\": [{\"id\": 12, \"x\": -0.5e3, \"answers\": [\"yes\", \"n\\u006f\", \"\xed\x95\x9c\"], \"ok\": true}, {\"id\": \"7\", \"none\": null}]}";
    static const char bytes[] = "{}[]\",:\\0123456789.eE+-tfn u\n\xed";
    char copy[sizeof text];
    for (uint32_t k = 0; k < 20000; k++) {
        memcpy(copy, text, sizeof text);
        for (uint32_t i = 0; i < 1 + k % 3; i++) {
            const uint32_t at = (uint32_t)(bif_rng_uniform(1, BIF_RNG_TEST, k, 2 * i) * (float)(sizeof text - 1));
            copy[at] = bytes[(uint32_t)(bif_rng_uniform(1, BIF_RNG_TEST, k, 2 * i + 1) * (float)(sizeof bytes - 1))];
        }
        same(copy, sizeof text - 1);
    }
}

Test(json_scan, says_where)
{
    static const char text[] = "[\n  {\"id\": 1},\n  {\"id\": tru}\n]";
    bif_scan *s = bif_scan_text("file.json", text, sizeof text - 1);
    cr_assert_eq(bif_scan_skip(s), BIF_ERR_DATA);
    cr_assert_str_eq(bif_error_message(), "file.json:3:10: a value is wanted here, not 't'");
    bif_scan_close(s);
    s = bif_scan_text("file.json", "[[[\n\n1.5]]]", 11);
    int64_t number = 0;
    bool more = false;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(bif_scan_enter(s, '['), BIF_OK);
        cr_assert_eq(bif_scan_more(s, &more), BIF_OK);
    }
    cr_assert_eq(bif_scan_line(s), 3);
    cr_assert_eq(bif_scan_i64(s, &number), BIF_ERR_DATA);
    cr_assert_str_eq(bif_error_message(), "file.json:3:1: a whole number of 64 bits is wanted");
    bif_scan_close(s);
    char deep[200];
    memset(deep, '[', sizeof deep);
    s = bif_scan_text("deep", deep, sizeof deep);
    cr_assert_eq(bif_scan_skip(s), BIF_ERR_DATA);
    cr_assert_str_eq(bif_error_message(), "deep:1:65: nested deeper than 64");
    bif_scan_close(s);
}
