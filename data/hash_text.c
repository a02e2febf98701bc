#include "data/hash_text.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "base/rng.h"
#include "base/utf8.h"

static uint64_t factor[BIF_MINHASH_WIDTH], offset[BIF_MINHASH_WIDTH];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_family(void)
{
    for (uint64_t i = 0; i < BIF_MINHASH_WIDTH; i++) {
        uint32_t word[4];
        bif_philox(5, BIF_RNG_CAPTION, i, 0, word);
        factor[i] = (uint64_t)word[0] << 32 | word[1] | 1;
        offset[i] = (uint64_t)word[2] << 32 | word[3];
    }
}

/* The bytes that are UTF-8, terminated. */
static char *valid_part(const char *text, size_t size, size_t *out_size)
{
    char *out = bif_malloc(size + 1);
    size_t length = 0;
    for (size_t at = 0; at < size;) {
        const size_t good = bif_utf8_check(text + at, size - at);
        memcpy(out + length, text + at, good);
        length += good;
        at += good + (at + good < size);
    }
    out[length] = '\0';
    *out_size = length;
    return out;
}

static bool is_space(int category)
{
    return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP ||
           category == UTF8PROC_CATEGORY_CC;
}

static bool is_punctuation(int category)
{
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

char *bif_text_normal(const char *text, size_t size, size_t *out_size)
{
    size_t valid_size = 0;
    char *valid = valid_part(text, size, &valid_size);
    utf8proc_uint8_t *folded = NULL;
    const utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)valid, (utf8proc_ssize_t)valid_size, &folded,
                     UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
    free(valid);
    BIF_BUG_IF(length < 0, "utf8proc: %s", utf8proc_errmsg(length));
    /* In place: what is written is never longer than what was read. `keep` is where the last character that is no punctuation ends. */
    char *out = (char *)folded;
    size_t written = 0, keep = 0;
    bool space = false;
    uint32_t code = 0;
    for (size_t at = 0, step; (step = bif_utf8_decode(out + at, (size_t)length - at, &code)) > 0; at += step) {
        const int category = utf8proc_category((utf8proc_int32_t)code);
        if (is_space(category) || (keep == 0 && is_punctuation(category))) {
            space = true;
            continue;
        }
        if (space && keep > 0) {
            out[written++] = ' ';
        }
        space = false;
        memmove(out + written, out + at, step);
        written += step;
        keep = is_punctuation(category) ? keep : written;
    }
    out[keep] = '\0';
    *out_size = keep;
    return out;
}

void bif_text_hash(const char *normal, size_t size, uint64_t out[2])
{
    const XXH128_hash_t hash = XXH3_128bits(normal, size);
    out[0] = size > 0 ? hash.high64 : 0;
    out[1] = size > 0 ? hash.low64 : 0;
}

void bif_text_minhash(const char *normal, size_t size, uint32_t out[BIF_MINHASH_WIDTH])
{
    pthread_once(&once, make_family);
    memset(out, 0xff, BIF_MINHASH_WIDTH * sizeof *out);
    size_t start[BIF_MINHASH_RUN] = {0}, end = 0; /* where the last characters begin, a ring */
    uint32_t code = 0;
    for (size_t i = 0, step; (step = bif_utf8_decode(normal + end, size - end, &code)) > 0; i++) {
        start[i % BIF_MINHASH_RUN] = end;
        end += step;
        const bool full = i + 1 >= BIF_MINHASH_RUN;
        if (full || end == size) {
            const size_t from = full ? start[(i + 1) % BIF_MINHASH_RUN] : 0;
            const uint64_t x = (uint32_t)XXH3_64bits(normal + from, end - from);
            for (int v = 0; v < BIF_MINHASH_WIDTH; v++) {
                const uint32_t value = (uint32_t)((factor[v] * x + offset[v]) >> 32);
                out[v] = value < out[v] ? value : out[v];
            }
        }
    }
}
