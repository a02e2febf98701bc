#include "data/order.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

/* ---- by modality and length ---- */

typedef struct {
    int64_t length, place;
    uint32_t sample;
} entry;

static int longest_first(const void *left, const void *right)
{
    const entry *a = left, *b = right;
    if (a->length != b->length) {
        return a->length > b->length ? -1 : 1;
    }
    return a->place < b->place ? -1 : 1; /* a stable sort, as Python's is */
}

/* Sorted entries to chunks of `count / chunks`: each to the chunk that is shortest so far and not full, the first of several. */
static void split_evenly(const entry *sorted, int64_t count, int64_t chunks, int64_t *total, int64_t *used, uint32_t *out)
{
    const int64_t each = count / chunks;
    memset(total, 0, (size_t)chunks * sizeof *total);
    memset(used, 0, (size_t)chunks * sizeof *used);
    for (int64_t i = 0; i < count; i++) {
        int64_t shortest = -1;
        for (int64_t c = 0; c < chunks; c++) {
            if (used[c] < each && (shortest < 0 || total[c] < total[shortest])) {
                shortest = c;
            }
        }
        out[shortest * each + used[shortest]++] = sorted[i].sample;
        total[shortest] += sorted[i].length;
    }
}

/* One kind of samples: members [n] in the order of their numbers. */
static void group(const uint32_t *members, const int32_t *length, int64_t n, int64_t batch, int64_t chunks, int which, bif_order_draw draw,
                  void *context, uint32_t *out)
{
    const int64_t mega = batch * chunks;
    entry *entries = bif_malloc((size_t)(mega < n ? mega : n) * sizeof *entries);
    int64_t *total = bif_malloc((size_t)chunks * sizeof *total), *used = bif_malloc((size_t)chunks * sizeof *used);
    for (int64_t from = 0; from < n; from += mega) {
        const int64_t count = n - from < mega ? n - from : mega;
        for (int64_t i = 0; i < count; i++) {
            const uint32_t sample = members[draw(context, which, (uint64_t)n, (uint64_t)(from + i))];
            entries[i] = (entry){.length = llabs((long long)length[sample]), .place = i, .sample = sample};
        }
        qsort(entries, (size_t)count, sizeof *entries, longest_first);
        if (count % chunks == 0) {
            split_evenly(entries, count, chunks, total, used, out + from);
            continue;
        }
        int64_t at = from;
        for (int64_t c = 0; c < chunks; c++) {
            for (int64_t i = c; i < count; i += chunks) {
                out[at++] = entries[i].sample;
            }
        }
    }
    free(entries);
    free(total);
    free(used);
}

static int by_number(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

void bif_order_by_modality(const int32_t *length, int64_t n, int64_t batch, int64_t chunks, bif_order_draw draw, void *context,
                           uint32_t *order)
{
    BIF_BUG_IF(n < 1 || n > UINT32_MAX || batch < 1 || chunks < 1, "an order of %" PRId64 " samples, batches of %" PRId64 " x %" PRId64, n,
               batch, chunks);
    uint32_t *members = bif_malloc((size_t)n * sizeof *members), *grouped = bif_malloc((size_t)n * sizeof *grouped);
    int64_t pictures = 0, texts = 0;
    for (int64_t i = 0; i < n; i++) {
        BIF_BUG_IF(length[i] == 0, "sample %" PRId64 " has length 0", i);
        pictures += length[i] > 0;
    }
    texts = n - pictures;
    for (int64_t i = 0, a = 0, b = pictures; i < n; i++) {
        members[length[i] > 0 ? a++ : b++] = (uint32_t)i;
    }
    if (pictures == 0 || texts == 0) {
        group(members, length, n, batch, chunks, 0, draw, context, order);
        goto done;
    }
    group(members, length, pictures, batch, chunks, 0, draw, context, grouped);
    group(members + pictures, length, texts, batch, chunks, 1, draw, context, grouped + pictures);
    const int64_t mega = batch * chunks, whole = (pictures - 1) / mega, whole_texts = (texts - 1) / mega, all = whole + whole_texts;
    for (int64_t i = 0; i < all; i++) {
        const int64_t m = (int64_t)draw(context, 2, (uint64_t)all, (uint64_t)i);
        const uint32_t *from = m < whole ? grouped + m * mega : grouped + pictures + (m - whole) * mega;
        memcpy(order + i * mega, from, (size_t)mega * sizeof *order);
    }
    uint32_t *last = order + all * mega;
    const int64_t rest = pictures - whole * mega;
    memcpy(last, grouped + whole * mega, (size_t)rest * sizeof *last);
    memcpy(last + rest, grouped + pictures + whole_texts * mega, (size_t)(texts - whole_texts * mega) * sizeof *last);
    qsort(last, (size_t)(n - all * mega), sizeof *last, by_number);
done:
    free(members);
    free(grouped);
}

int64_t bif_count_words(const char *text, size_t size)
{
    int64_t words = 0;
    bool inside = false;
    for (size_t at = 0; at < size;) {
        uint32_t code = (unsigned char)text[at];
        const size_t step = code < 0x80 ? 1 : bif_utf8_decode(text + at, size - at, &code);
        const bool space = bif_is_space(code) || (code >= 0x1c && code <= 0x1f);
        words += !space && !inside;
        inside = !space;
        at += step > 0 ? step : 1;
    }
    return words;
}
