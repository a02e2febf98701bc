#include <stdlib.h>
#include <string.h>

#include "data/html.h"

enum { NAME_MOST = 33, CODES_MOST = 3, WHOLE_MOST = 24 }; /* "CounterClockwiseContourIntegral;" has 32 characters */

typedef struct {
    const char *name;           /* without "&" */
    uint32_t code[CODES_MOST]; /* ended by 0, or full */
} entity;

#include "data/html_entities.inc"

void bif_codes_push(bif_codes *codes, uint32_t code)
{
    if (codes->count == codes->capacity) {
        codes->capacity = codes->capacity > 0 ? codes->capacity * 2 : 64;
        codes->code = bif_realloc(codes->code, codes->capacity, sizeof *codes->code);
    }
    codes->code[codes->count++] = code;
}

static void push_entity(bif_codes *out, const entity *e)
{
    for (size_t i = 0; i < CODES_MOST && e->code[i] != 0; i++) {
        bif_codes_push(out, e->code[i]);
    }
}

static int compare(const void *name, const void *row)
{
    return strcmp(name, ((const entity *)row)->name);
}

static const entity *find(const entity *table, size_t count, const char *name)
{
    return bsearch(name, table, count, sizeof *table, compare);
}

static const entity *find_named(const char *name)
{
    return find(entities, sizeof entities / sizeof *entities, name);
}

uint32_t bif_windows_1252(uint32_t code)
{
    static const uint16_t table[32] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160,
                                       0x2039, 0x152,  0x8D,   0x17D,  0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
                                       0x2013, 0x2014, 0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E, 0x178};
    return code >= 0x80 && code <= 0x9F ? table[code - 0x80] : code;
}

static void push_number(bif_codes *out, uint32_t number)
{
    const bool holes = (number > 0 && number < 9) || number == 0xB || (number > 0xD && number < 0x20) || number == 0x7F ||
                       (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE;
    if (number == 0 || (number >= 0xD800 && number <= 0xDFFF) || number > 0x10FFFF) {
        bif_codes_push(out, 0xFFFD);
    } else if (!holes) {
        bif_codes_push(out, bif_windows_1252(number));
    }
}

static uint32_t digit_of(uint32_t code, uint32_t base)
{
    const uint32_t digit = code >= '0' && code <= '9'   ? code - '0'
                           : code >= 'a' && code <= 'f' ? code - 'a' + 10
                           : code >= 'A' && code <= 'F' ? code - 'A' + 10
                                                        : 99;
    return digit < base ? digit : 99;
}

/* "#38", "#x26" at code[0..count), without its semicolon: characters taken, 0 = there is none. */
static size_t read_number(const uint32_t *code, size_t count, uint32_t *number)
{
    const bool hex = count > 1 && (code[1] == 'x' || code[1] == 'X');
    const size_t start = hex ? 2 : 1;
    const uint32_t base = hex ? 16 : 10;
    size_t at = start;
    *number = 0;
    for (; at < count && digit_of(code[at], base) != 99; at++) {
        *number = *number > 0x10FFFF ? *number : *number * base + digit_of(code[at], base);
    }
    return at > start ? at : 0;
}

/* The longest name that code[0..count) begins with: characters taken, 0 = there is none. */
static size_t read_name(const uint32_t *code, size_t count, const entity **out)
{
    char name[NAME_MOST + 1];
    size_t size = 0;
    for (; size < count && size < NAME_MOST && code[size] > 0 && code[size] < 0x80; size++) {
        name[size] = (char)code[size];
    }
    for (; size > 1; size--) {
        name[size] = '\0';
        *out = find_named(name);
        if (*out != NULL) {
            return size;
        }
    }
    return 0;
}

static bool ends_name(uint32_t code)
{
    return code == '\t' || code == '\n' || code == '\f' || code == ' ' || code == '<' || code == '&' || code == '#' || code == ';';
}

void bif_html_unescape(const bif_codes *text, bif_codes *out)
{
    for (size_t at = 0; at < text->count;) {
        const uint32_t *const code = text->code + at + 1;
        const size_t left = text->count - at - 1;
        size_t taken = 0;
        if (text->code[at] == '&' && left > 0 && code[0] == '#') {
            uint32_t number;
            taken = read_number(code, left, &number);
            if (taken > 0) {
                push_number(out, number);
                taken += taken < left && code[taken] == ';';
            }
        } else if (text->code[at] == '&') {
            const entity *e = NULL;
            size_t most = 0;
            while (most < left && most < NAME_MOST - 1 && !ends_name(code[most])) {
                most++;
            }
            most += most > 0 && most < left && code[most] == ';';
            taken = read_name(code, most, &e);
            if (taken > 0) {
                push_entity(out, e);
            }
        }
        if (taken == 0) {
            bif_codes_push(out, text->code[at]);
        }
        at += 1 + taken;
    }
}

/* ftfy reads a name in capitals as the small one, unless HTML reads something in it ("&LTIMES;" begins with "&LT"). */
static bool push_capitals(const uint32_t *code, size_t size, char *name, bif_codes *out)
{
    const entity *e = NULL;
    for (size_t i = 0; i < size; i++) {
        if (name[i] >= 'a' && name[i] <= 'z') {
            return false;
        }
    }
    if (read_name(code, size, &e) > 0) {
        return false;
    }
    e = find(uppers, sizeof uppers / sizeof *uppers, name);
    for (size_t i = 0; i < size; i++) {
        name[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] - 'A' + 'a' : name[i]);
    }
    if (e == NULL) {
        e = find_named(name);
    }
    if (e == NULL) {
        return false;
    }
    push_entity(out, e);
    return true;
}

/* A reference at code[0..left), behind its "&": characters taken with the semicolon, 0 = it stays. */
static size_t take_whole(const uint32_t *code, size_t left, bif_codes *out)
{
    const size_t start = left > 0 && code[0] == '#';
    char name[WHOLE_MOST + 2] = "";
    size_t size = start;
    for (; size < left && size - start < WHOLE_MOST; size++) {
        const uint32_t c = code[size];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) {
            break;
        }
        name[size - start] = (char)c;
    }
    if (size == start || size == left || code[size] != ';') {
        return 0;
    }
    size++;
    if (start == 1) {
        uint32_t number;
        if (read_number(code, left, &number) + 1 != size || number == ';') {
            return 0;
        }
        push_number(out, number);
        return size;
    }
    name[size - 1] = ';';
    const entity *const e = find_named(name);
    if (e != NULL) {
        push_entity(out, e);
        return size;
    }
    return push_capitals(code, size, name, out) ? size : 0;
}

void bif_html_unescape_whole(const bif_codes *text, bif_codes *out)
{
    for (size_t at = 0; at < text->count;) {
        const size_t taken = text->code[at] == '&' ? take_whole(text->code + at + 1, text->count - at - 1, out) : 0;
        if (taken == 0) {
            bif_codes_push(out, text->code[at]);
        }
        at += 1 + taken;
    }
}
