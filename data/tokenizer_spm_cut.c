/* SentencePiece at work: its normalizer, and the best cut by a unigram model. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

static const char mark[] = "\xe2\x96\x81"; /* U+2581 stands for a space */
#define MARK (sizeof mark - 1)

/* ---- the charsmap: a double array as darts-clone writes it ---- */

/* The longest key that the text begins with: its length, and where its replacement begins. Every index is checked, so a
 * broken array finds nothing or something wrong, but reads nothing outside. */
static size_t charsmap_find(const bif_spm *m, const char *text, size_t size, size_t *value)
{
    size_t longest = 0;
    if (m->units == 0) {
        return 0;
    }
    uint32_t unit = m->unit[0];
    size_t node = (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = (uint8_t)text[i];
        node ^= byte;
        if (node >= m->units || ((unit = m->unit[node]) & (1u << 31 | 0xff)) != byte) {
            break;
        }
        node ^= (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
        if ((unit >> 8 & 1) != 0 && node < m->units) {
            const size_t at = m->unit[node] & INT32_MAX;
            if (at < m->replacements) {
                longest = i + 1;
                *value = at;
            }
        }
    }
    return longest;
}

/* What the front of the text becomes: *taken bytes of it are read. */
static const char *normal_prefix(const bif_spm *m, const char *text, size_t size, size_t *taken, size_t *out_size)
{
    const bif_prefix *user = bif_prefix_longest(&m->user, text, size);
    size_t value = 0, length = user != NULL ? 0 : charsmap_find(m, text, size, &value);
    if (length > 0) {
        *taken = length;
        *out_size = strlen(m->replacement + value);
        return m->replacement + value;
    }
    uint32_t code = 0;
    *taken = user != NULL ? user->size : bif_utf8_decode(text, size, &code);
    if (*taken == 0) { /* a byte that is not UTF-8; the charsmap does not see the character that stands for it */
        *taken = 1;
        *out_size = 3;
        return "\xef\xbf\xbd";
    }
    *out_size = *taken;
    return text;
}

/* transformers' legacy = false: no dummy prefix but at the start of a text, where it stands before the text's own spaces;
 * and the front of a piece that begins with a space keeps it (there it is encoded behind another token). */
void bif_spm_normalize(const bif_tokenizer *t, const char *text, size_t size, bif_text_place place, char **out,
                       size_t *out_size)
{
    const bif_spm *m = t->spm;
    const char *space = m->escape ? mark : " ";
    const size_t space_size = m->escape ? MARK : 1;
    const bool prefix = m->dummy_prefix && (m->legacy ? place != BIF_TEXT_CONTINUES : place == BIF_TEXT_START);
    const bool keep_front = !m->legacy || place == BIF_TEXT_CONTINUES;
    char *result = bif_malloc(size + MARK + 1);
    size_t capacity = size + MARK, used = 0, taken = 0, length = 0;
    bool after_space = m->remove_spaces && !keep_front, only_spaces = true;
    for (size_t at = 0; at < size && after_space && only_spaces; at += only_spaces ? taken : 0) {
        const char *p = normal_prefix(m, text + at, size - at, &taken, &length);
        only_spaces = length == 1 && *p == ' ';
    }
    if (size > 0 && prefix && !(after_space && only_spaces)) {
        memcpy(result, space, space_size);
        used = space_size;
        after_space = m->remove_spaces && m->legacy;
    }
    for (size_t at = 0; at < size; at += taken) {
        const char *p = normal_prefix(m, text + at, size - at, &taken, &length);
        for (; after_space && length > 0 && *p == ' '; p++) {
            length--;
        }
        if (used + length * MARK > capacity) {
            capacity = (used + length * MARK) * 2;
            result = bif_realloc(result, capacity + 1, 1);
        }
        after_space = length > 0 ? p[length - 1] == ' ' : after_space;
        for (size_t i = 0; i < length; i++) {
            const bool is_space = p[i] == ' ';
            memcpy(result + used, is_space ? space : p + i, is_space ? space_size : 1);
            used += is_space ? space_size : 1;
        }
        after_space = after_space && m->remove_spaces;
    }
    while (m->remove_spaces && used >= space_size && memcmp(result + used - space_size, space, space_size) == 0) {
        used -= space_size;
    }
    result[used] = '\0';
    *out = result;
    *out_size = used;
}

/* ---- unigram ---- */

typedef struct {
    int32_t id;    /* -1: unknown */
    int32_t start; /* -1: nothing ends here yet */
    float score;
} node;

static void offer(node *to, int32_t id, size_t start, float score)
{
    if (to->start < 0 || score > to->score) {
        *to = (node){.id = id, .start = (int32_t)start, .score = score};
    }
}

/* The cut with the highest sum of scores, by Viterbi. A user-defined piece gets a tenth for each byte but one, so that it wins; an
 * unknown character one of 10 below the worst piece. */
void bif_unigram_cut(const bif_tokenizer *t, const char *text, size_t size, bif_emit_fn emit, void *user)
{
    const bif_spm *m = t->spm;
    node *best = bif_malloc((size + 1) * sizeof *best);
    int32_t *end = bif_malloc((size + 1) * sizeof *end); /* [start] where the piece of the best cut ends */
    for (size_t i = 0; i <= size; i++) {
        best[i] = (node){.id = -1, .start = -1};
    }
    for (size_t at = 0, step = 0; at < size; at += step) {
        uint32_t code = 0;
        step = bif_utf8_decode(text + at, size - at, &code);
        step += step == 0;
        const float before = best[at].score;
        bool single = false;
        bif_prefix_walk walk = {0};
        const bif_prefix *found = NULL;
        for (size_t i = at; i < size && bif_prefix_step(&m->pieces, &walk, (uint8_t)text[i], &found); i++) {
            if (found == NULL) {
                continue;
            }
            const int32_t id = found->value;
            const size_t length = i + 1 - at;
            const double score = m->user_defined[id] ? 0.1 * (double)length - 0.1 : (double)m->score[id];
            offer(&best[i + 1], id, at, (float)(score + (double)before));
            single = single || length == step;
        }
        if (!single) {
            offer(&best[at + step], -1, at, m->min_score - 10.0f + before);
        }
    }
    for (int32_t at = (int32_t)size; at > 0; at = best[at].start) {
        end[best[at].start] = at;
    }
    for (size_t at = 0; at < size;) {
        const size_t next = (size_t)end[at];
        emit(user, best[next].id, text + at, next - at);
        at = next;
    }
    free(best);
    free(end);
}
