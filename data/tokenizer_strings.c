/* What tokenizers keep strings in, and the byte-level alphabet. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

void bif_ids_free(bif_ids *ids)
{
    free(ids->ids);
    *ids = (bif_ids){0};
}

void bif_ids_push(bif_ids *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        ids->capacity = ids->capacity ? ids->capacity * 2 : 64;
        ids->ids = bif_realloc(ids->ids, ids->capacity, sizeof *ids->ids);
    }
    ids->ids[ids->count++] = id;
}

/* ---- the byte-level alphabet ---- */

static bool stands_for_itself(uint32_t byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
}

/* The bytes that do not stand for themselves, in order: 0..32, 127..160, 173 become U+0100..U+0143. */
uint32_t bif_byte_to_char(uint8_t byte)
{
    if (stands_for_itself(byte)) {
        return byte;
    }
    return byte <= 32 ? 256u + byte : byte <= 160 ? 256u + 33u + (byte - 127u) : 256u + 67u;
}

int bif_char_to_byte(uint32_t code)
{
    if (code < 256) {
        return stands_for_itself(code) ? (int)code : -1;
    }
    return code <= 256 + 32   ? (int)code - 256
           : code <= 256 + 66 ? (int)code - 256 - 33 + 127
           : code == 256 + 67 ? 173
                              : -1;
}

uint8_t bif_alphabet_byte(size_t k)
{
    uint32_t code = k < 94    ? 33 + (uint32_t)k
                    : k < 106 ? 161 + (uint32_t)k - 94
                    : k < 188 ? 174 + (uint32_t)k - 106
                              : 256 + (uint32_t)k - 188;
    return (uint8_t)bif_char_to_byte(code);
}

bool bif_alphabet_decode(const char *text, size_t size, char *out, size_t *out_size)
{
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        uint32_t code = 0;
        size_t step = bif_utf8_decode(text + i, size - i, &code);
        int byte = step == 0 ? -1 : bif_char_to_byte(code);
        if (byte < 0) {
            return false;
        }
        out[n++] = (char)byte;
        i += step;
    }
    *out_size = n;
    return true;
}

bool bif_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == 32 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
           code == 0x3000;
}

bool bif_is_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* joiners, and letters in circles and squares */
        return code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
               (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189);
    }
}

int bif_byte_piece(const char *text, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    const char *high = memchr(digits, text[3], 16), *low = memchr(digits, text[4], 16);
    return high == NULL || low == NULL ? -1 : (int)((high - digits) * 16 + (low - digits));
}

/* ---- strings sorted for walking down a text ---- */

static int compare_prefix(const void *a, const void *b)
{
    const bif_prefix *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : x->size < y->size ? -1 : x->size > y->size;
}

size_t bif_prefixes_build(bif_prefixes *p, bif_prefix *entry, size_t count)
{
    size_t duplicate = 0;
    *p = (bif_prefixes){.entry = entry, .count = count};
    qsort(entry, count, sizeof *entry, compare_prefix);
    for (size_t i = 1; i < count && duplicate == 0; i++) {
        duplicate = compare_prefix(&entry[i - 1], &entry[i]) == 0 ? i : 0;
    }
    for (size_t i = 0; i < count; i++) {
        p->first[(uint8_t)entry[i].text[0] + 1] = (uint32_t)i + 1;
    }
    for (size_t byte = 0; byte < 256; byte++) {
        p->first[byte + 1] = p->first[byte + 1] > p->first[byte] ? p->first[byte + 1] : p->first[byte];
    }
    return duplicate;
}

void bif_prefixes_free(bif_prefixes *p)
{
    free(p->entry);
    *p = (bif_prefixes){0};
}

bool bif_prefix_step(const bif_prefixes *p, bif_prefix_walk *walk, uint8_t byte, const bif_prefix **found)
{
    *found = NULL;
    if (walk->depth == 0) {
        walk->low = p->first[byte];
        walk->high = p->first[byte + 1];
    } else {
        size_t bound[2];
        for (unsigned edge = 0; edge < 2; edge++) { /* first entry whose byte at `depth` is >= byte + edge */
            size_t a = walk->low, b = walk->high;
            while (a < b) {
                size_t middle = a + (b - a) / 2;
                const bif_prefix *entry = &p->entry[middle];
                if (entry->size <= walk->depth || (uint8_t)entry->text[walk->depth] < byte + edge) {
                    a = middle + 1;
                } else {
                    b = middle;
                }
            }
            bound[edge] = a;
        }
        walk->low = bound[0];
        walk->high = bound[1];
    }
    walk->depth++;
    if (walk->low >= walk->high) {
        return false;
    }
    if (p->entry[walk->low].size == walk->depth) {
        *found = &p->entry[walk->low];
    }
    return true;
}

const bif_prefix *bif_prefix_longest(const bif_prefixes *p, const char *text, size_t size)
{
    const bif_prefix *best = NULL, *found = NULL;
    bif_prefix_walk walk = {0};
    for (size_t i = 0; i < size && bif_prefix_step(p, &walk, (uint8_t)text[i], &found); i++) {
        best = found != NULL ? found : best;
    }
    return best;
}
