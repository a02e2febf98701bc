#include "data/text_measures.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/chat.h"
#include "data/hash_text.h"

/* ---- characters ---- */

/* Of a byte that begins no character: length 1, code 0xFFFD. */
static size_t next_code(const char *text, size_t size, uint32_t *code)
{
    const size_t length = bif_utf8_decode(text, size, code);
    if (length == 0) {
        *code = 0xFFFD;
        return 1;
    }
    return length;
}

/* What Python's str.isspace says. */
static bool is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

static utf8proc_category_t category_of(uint32_t code)
{
    return utf8proc_category((utf8proc_int32_t)code);
}

static bool is_letter(uint32_t code)
{
    if (code < 0x80) {
        return (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
    }
    const utf8proc_category_t c = category_of(code);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_mark(uint32_t code)
{
    const utf8proc_category_t c = code < 0x80 ? UTF8PROC_CATEGORY_CN : category_of(code);
    return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}

/* ---- scripts ---- */

static int script_by_name(const char *name, size_t size)
{
    for (int i = 0; size == 4 && i < bif_scripts; i++) {
        if (memcmp(bif_script_codes[i], name, 4) == 0) {
            return i;
        }
    }
    return -1;
}

static bool is_shared(int script)
{
    return strcmp(bif_script_codes[script], "Zyyy") == 0 || strcmp(bif_script_codes[script], "Zinh") == 0;
}

int bif_script_of(uint32_t code)
{
    int low = -1, high = bif_script_run_count; /* run[low] begins at or before the code */
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (bif_script_runs[middle] >> 8 <= code) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const int script = low < 0 ? -1 : (int)(bif_script_runs[low] & 0xFF);
    return script < 0 || is_shared(script) ? -1 : script;
}

bif_status bif_script_set(const char *list, bool set[BIF_SCRIPT_COUNT])
{
    static const char *const several[][2] = {{"Jpan", "Hira,Kana,Hani"}, {"Kore", "Hang,Hani"}, {"Hans", "Hani"}, {"Hant", "Hani"}};
    bool any = false;
    for (const char *at = list; *at != '\0';) {
        const size_t size = strcspn(at, ",");
        const int script = script_by_name(at, size);
        bool known = script >= 0 && !is_shared(script);
        if (known) {
            set[script] = true;
        }
        for (size_t i = 0; !known && i < sizeof several / sizeof *several; i++) {
            if (size == 4 && memcmp(several[i][0], at, 4) == 0) {
                known = bif_script_set(several[i][1], set) == BIF_OK;
            }
        }
        if (!known) {
            return bif_fail(BIF_ERR_USAGE, "'%.*s' is no script; write codes of ISO 15924 such as Latn, Cyrl, Hang, Hani, Arab, Deva",
                            (int)(size < 40 ? size : 40), at);
        }
        any = true;
        at += size + (at[size] == ',');
    }
    return any ? BIF_OK : bif_fail(BIF_ERR_USAGE, "a list of scripts is empty");
}

/* ---- measures ---- */

bif_text_measures bif_text_measure(const char *text, size_t size)
{
    bif_text_measures m = {.script = -1};
    int64_t solid = 0, alphabetic = 0, of_script[BIF_SCRIPT_COUNT] = {0};
    bool inside = false;
    for (size_t at = 0; at < size;) {
        uint32_t code;
        at += next_code(text + at, size - at, &code);
        m.chars++;
        if (is_space(code)) {
            inside = false;
            continue;
        }
        m.words += !inside;
        inside = true;
        solid++;
        const bool letter = is_letter(code);
        m.letters += letter;
        alphabetic += letter || is_mark(code);
        const int script = letter ? bif_script_of(code) : -1;
        if (script >= 0) {
            m.scripted++;
            of_script[script]++;
        }
    }
    m.alphabetic = solid > 0 ? (double)alphabetic / (double)solid : 0.0;
    for (int i = 0; i < bif_scripts; i++) {
        if (of_script[i] > 0 && (m.script < 0 || of_script[i] > of_script[m.script])) {
            m.script = i;
        }
    }
    return m;
}

double bif_text_script_share(const char *text, size_t size, const bool set[BIF_SCRIPT_COUNT])
{
    int64_t all = 0, inside = 0;
    for (size_t at = 0; at < size;) {
        uint32_t code;
        at += next_code(text + at, size - at, &code);
        const int script = is_letter(code) ? bif_script_of(code) : -1;
        all += script >= 0;
        inside += script >= 0 && set[script];
    }
    return all > 0 ? (double)inside / (double)all : 0.0;
}

static uint64_t word_hash(const char *word, size_t size)
{
    char lower[256];
    if (size > sizeof lower) {
        return XXH3_64bits(word, size);
    }
    for (size_t i = 0; i < size; i++) {
        lower[i] = word[i] >= 'A' && word[i] <= 'Z' ? (char)(word[i] + 32) : word[i];
    }
    return XXH3_64bits(lower, size);
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

double bif_text_repetition(const char *text, size_t size, int64_t n)
{
    uint64_t *word = bif_malloc((size / 2 + 1) * sizeof *word);
    int64_t words = 0, distinct = 0;
    size_t begin = 0;
    bool inside = false;
    for (size_t at = 0; at <= size;) {
        uint32_t code = ' ';
        const size_t length = at < size ? next_code(text + at, size - at, &code) : 1;
        if (is_space(code)) {
            if (inside) {
                word[words++] = word_hash(text + begin, at - begin);
            }
            inside = false;
        } else if (!inside) {
            begin = at;
            inside = true;
        }
        at += length;
    }
    const int64_t runs = words - n + 1;
    if (n < 1 || runs < 2) {
        free(word);
        return 0.0;
    }
    for (int64_t i = 0; i < runs; i++) {
        word[i] = XXH3_64bits(word + i, (size_t)n * sizeof *word);
    }
    qsort(word, (size_t)runs, sizeof *word, compare_u64);
    for (int64_t i = 0; i < runs; i++) {
        distinct += i == 0 || word[i] != word[i - 1];
    }
    free(word);
    return 1.0 - (double)distinct / (double)runs;
}

/* ---- names of files ---- */

static bool is_blank(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static bool ends_with(const char *text, size_t size, const char *end)
{
    const size_t n = strlen(end);
    return size > n && strncasecmp(text + size - n, end, n) == 0;
}

static bool begins_with(const char *text, size_t size, const char *begin)
{
    const size_t n = strlen(begin);
    return size > n && strncasecmp(text, begin, n) == 0;
}

static bool only(const char *text, size_t size, const char *extra, size_t *digits)
{
    *digits = 0;
    for (size_t i = 0; i < size; i++) {
        const bool digit = text[i] >= '0' && text[i] <= '9';
        *digits += digit;
        if (!digit && (text[i] == '\0' || strchr(extra, text[i]) == NULL)) {
            return false;
        }
    }
    return *digits > 0;
}

static bool is_hexadecimal(const char *text, size_t size)
{
    size_t digits = 0;
    return size >= 16 && only(text, size, "abcdefABCDEF-", &digits);
}

/* A prefix of cameras, phones and editors, then nothing but numbers and what stands between them. */
static bool is_camera_name(const char *text, size_t size)
{
    static const char *const before[] = {"IMG",         "DSC",      "DSCN", "DSCF",    "DSC_",       "_DSC",    "_MG",       "MVI",
                                         "PICT",        "P",        "PXL",  "GOPR",    "CIMG",       "SAM",     "WP",        "VID",
                                         "image",       "images",   "img",  "photo",   "photograph", "picture", "pic",       "screenshot",
                                         "screen shot", "untitled", "scan", "unnamed", "download",   "file",    "thumbnail", "thumb"};
    size_t digits = 0;
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        const size_t n = strlen(before[i]);
        if (size > n && strncasecmp(text, before[i], n) == 0 && only(text + n, size - n, "_-. ()", &digits) && (n > 1 || digits >= 4)) {
            return true;
        }
    }
    return false;
}

bool bif_text_is_file_name(const char *text, size_t size)
{
    static const char *const ends[] = {".jpg",  ".jpeg", ".jpe", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic",
                                       ".avif", ".svg",  ".psd", ".raw", ".cr2", ".nef",  ".mp4", ".mov", ".avi"};
    size_t digits = 0;
    while (size > 0 && is_blank(text[size - 1])) {
        size--;
    }
    while (size > 0 && is_blank(*text)) {
        text++;
        size--;
    }
    bool one_word = true;
    for (size_t i = 0; i < size; i++) {
        one_word = one_word && !is_blank(text[i]);
    }
    if (one_word && (begins_with(text, size, "http://") || begins_with(text, size, "https://") || begins_with(text, size, "www."))) {
        return true;
    }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (ends_with(text, size, ends[i])) {
            return true;
        }
    }
    return only(text, size, "_-. ", &digits) || is_hexadecimal(text, size) || is_camera_name(text, size);
}

/* ---- equal captions ---- */

void bif_text_key(const char *text, size_t size, uint64_t key[2])
{
    size_t normal_size = 0;
    char *normal = bif_text_normal(text, size, &normal_size);
    bif_text_hash(normal, normal_size, key);
    free(normal);
}

void bif_sample_caption(const bif_shard_sample *sample, char **out, size_t *size)
{
    json_t *json = NULL;
    *out = NULL;
    *size = 0;
    if (bif_json_parse("sample", sample->text, sample->text_size, &json) != BIF_OK) {
        bif_error_clear();
        return;
    }
    const json_t *value = bif_caption_of(json);
    if (json_is_string(value)) {
        *size = json_string_length(value);
        *out = bif_malloc(*size + 1);
        for (size_t i = 0; i < *size; i++) {
            const char byte = json_string_value(value)[i];
            (*out)[i] = byte == '\0' ? ' ' : byte;
        }
        (*out)[*size] = '\0';
    }
    json_decref(json);
}
