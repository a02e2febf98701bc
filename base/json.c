#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"

/* jansson itself stops at a nesting of 2048 and at integers beyond 64 bits. */
#define DECODE_FLAGS (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)

/* Reals that are whole and small are integers again. Takes and gives the value, which may be NULL. */
static json_t *whole_again(json_t *value)
{
    const double x = json_real_value(value);
    const char *key = NULL;
    json_t *part = NULL;
    void *next = NULL;
    if (json_is_real(value) && fabs(x) < 9007199254740992.0 && x == floor(x)) {
        json_decref(value);
        return json_integer((json_int_t)x);
    }
    json_object_foreach_safe(value, next, key, part)
    {
        json_object_set_new(value, key, whole_again(json_incref(part)));
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_array_set_new(value, i, whole_again(json_incref(json_array_get(value, i))));
    }
    return value;
}

static bif_status load(const char *path, size_t cap, bool large, json_t **out)
{
    bif_status st = BIF_OK;
    char *text = NULL;
    size_t size = 0;
    json_error_t error;
    BIF_TRY(bif_file_read(path, cap, &text, &size));
    const size_t mark = bif_utf8_mark(text, size);
    json_t *value = json_loadb(text + mark, size - mark, DECODE_FLAGS, &error);
    if (value == NULL && large && json_error_code(&error) == json_error_numeric_overflow) {
        value = json_loadb(text + mark, size - mark, DECODE_FLAGS | JSON_DECODE_INT_AS_REAL, &error);
        value = whole_again(value);
    }
    if (value == NULL) {
        st = bif_fail(BIF_ERR_DATA, "%s:%d:%d: not valid JSON: %s", path, error.line, error.column, error.text);
        goto done;
    }
    *out = value;
done:
    free(text);
    return st;
}

bif_status bif_json_load_file(const char *path, size_t cap, json_t **out)
{
    return load(path, cap, false, out);
}

bif_status bif_json_load_reals(const char *path, size_t cap, json_t **out)
{
    return load(path, cap, true, out);
}

bif_status bif_json_parse(const char *where, const char *text, size_t size, json_t **out)
{
    return bif_json_parse_at(where, 0, text, size, out);
}

bif_status bif_json_parse_at(const char *where, size_t offset, const char *text, size_t size, json_t **out)
{
    json_error_t error;
    json_t *value = json_loadb(text, size, DECODE_FLAGS, &error);
    if (value == NULL) {
        return bif_fail(BIF_ERR_DATA, "%s: not valid JSON: %s (byte %zu)", where, error.text, offset + (size_t)(error.position > 0 ? error.position : 0));
    }
    *out = value;
    return BIF_OK;
}

json_t *bif_json_text(const char *text)
{
    char *plain = text != NULL ? bif_utf8_spelled(text, strlen(text)) : NULL;
    json_t *value = plain != NULL ? json_string(plain) : json_null();
    free(plain);
    return value;
}

bif_status bif_json_save_file(const char *path, const json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (text == NULL) {
        return bif_fail(BIF_ERR_BUG, "cannot write '%s': the value does not encode as JSON", path);
    }
    size_t size = strlen(text);
    text[size++] = '\n'; /* takes the place of the '\0' */
    bif_status st = bif_file_write(path, text, size);
    free(text);
    return st;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

/* *found = NULL when the key is missing (or null) and not required. */
static bif_status find(const char *where, const json_t *object, const char *key, bool required, const json_t **found)
{
    *found = NULL;
    if (!json_is_object(object)) {
        return bif_fail(BIF_ERR_DATA, "%s: an object with the key '%s' is wanted, not %s", where, key,
                        object == NULL ? "nothing" : type_name(object));
    }
    const json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_null(value)) {
        return required ? bif_fail(BIF_ERR_DATA, "%s: the key '%s' is missing", where, key) : BIF_OK;
    }
    *found = value;
    return BIF_OK;
}

static bif_status wrong_type(const char *where, const char *key, const char *wanted, const json_t *value)
{
    return bif_fail(BIF_ERR_DATA, "%s: '%s' must be %s, not %s", where, key, wanted, type_name(value));
}

bif_status bif_json_i64(const char *where, const json_t *object, const char *key, bool required, int64_t *out)
{
    const json_t *value = NULL;
    bif_status st = find(where, object, key, required, &value);
    if (st != BIF_OK || value == NULL) {
        return st;
    }
    if (!json_is_integer(value)) {
        return wrong_type(where, key, "an integer", value);
    }
    *out = (int64_t)json_integer_value(value);
    return BIF_OK;
}

bif_status bif_json_f64(const char *where, const json_t *object, const char *key, bool required, double *out)
{
    const json_t *value = NULL;
    bif_status st = find(where, object, key, required, &value);
    if (st != BIF_OK || value == NULL) {
        return st;
    }
    if (!json_is_number(value)) {
        return wrong_type(where, key, "a number", value);
    }
    *out = json_number_value(value);
    return BIF_OK;
}

bif_status bif_json_bool(const char *where, const json_t *object, const char *key, bool required, bool *out)
{
    const json_t *value = NULL;
    bif_status st = find(where, object, key, required, &value);
    if (st != BIF_OK || value == NULL) {
        return st;
    }
    if (!json_is_boolean(value)) {
        return wrong_type(where, key, "true or false", value);
    }
    *out = json_is_true(value);
    return BIF_OK;
}

bif_status bif_json_string(const char *where, const json_t *object, const char *key, bool required, const char **out)
{
    const json_t *value = NULL;
    bif_status st = find(where, object, key, required, &value);
    if (st != BIF_OK || value == NULL) {
        return st;
    }
    if (!json_is_string(value)) {
        return wrong_type(where, key, "a string", value);
    }
    *out = json_string_value(value);
    return BIF_OK;
}
