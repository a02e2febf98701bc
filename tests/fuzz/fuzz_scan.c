/* libFuzzer: any bytes under the cursor over JSON, as a whole and value by value; what it takes jansson takes, but for its own limits, and the
 * other way round. */
#include <jansson.h>

#include "base/json_scan.h"
#include "fuzz.h"

static bif_status walk(bif_scan *s)
{
    bif_status st = BIF_OK;
    bif_span span;
    bool more = false, flag = false;
    double number = 0.0;
    switch (bif_scan_peek(s)) {
    case '{':
        BIF_TRY(bif_scan_enter(s, '{'));
        while ((st = bif_scan_key(s, &span, &more)) == BIF_OK && more) {
            free(bif_span_copy(span));
            BIF_TRY(walk(s));
        }
        break;
    case '[':
        BIF_TRY(bif_scan_enter(s, '['));
        while ((st = bif_scan_more(s, &more)) == BIF_OK && more) {
            BIF_TRY(walk(s));
        }
        break;
    case '"':
        BIF_TRY(bif_scan_string(s, &span));
        free(bif_span_copy(span));
        break;
    case 't':
    case 'f': return bif_scan_bool(s, &flag);
    case 'n': return bif_scan_skip(s);
    default: return bif_scan_f64(s, &number);
    }
done:
    return st;
}

/* How deep brackets are nested, those in strings too: at least the depth of the text. */
static size_t depth(const uint8_t *data, size_t size)
{
    size_t open = 0;
    for (size_t i = 0; i < size; i++) {
        open += data[i] == '{' || data[i] == '[';
    }
    return open;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_error_t error = {0};
    bool taken[2];
    for (int way = 0; way < 2; way++) {
        bif_scan *s = bif_scan_text("fuzz", (const char *)data, size);
        bif_status st = way == 0 ? bif_scan_skip(s) : walk(s);
        st = st == BIF_OK ? bif_scan_end(s) : st;
        taken[way] = st == BIF_OK;
        if (st != BIF_OK) {
            fuzz_named("fuzz:");
        }
        bif_scan_close(s);
    }
    json_t *value = json_loadb((const char *)data, size, JSON_DECODE_ANY, &error);
    const enum json_error_code code = value == NULL ? json_error_code(&error) : json_error_unknown;
    const bool limit = code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
                       code == json_error_null_character || code == json_error_stack_overflow;
    BIF_BUG_IF(taken[1] && !taken[0], "read, and not skipped");
    BIF_BUG_IF(taken[0] && value == NULL && !limit, "jansson: %s", error.text);
    /* jansson steps over zero bytes between values. */
    BIF_BUG_IF(value != NULL && !taken[0] && depth(data, size) < 64 && memchr(data, 0, size) == NULL, "%s", bif_error_message());
    json_decref(value);
    return 0;
}
