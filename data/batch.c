/* Packed micro-batches. */
#include "data/batch.h"

#include <stdlib.h>
#include <string.h>

static void *array(int64_t count, size_t size)
{
    BIF_BUG_IF(count < 0 || count > INT32_MAX, "a batch with %lld rows", (long long)count); /* rows are int32 */
    return bif_realloc(NULL, (size_t)count, size);
}

static int64_t picture_bytes(const bif_batch_limits *limits)
{
    int64_t side = limits->image_size, bytes = 0;
    BIF_BUG_IF(!bif_mul_i64(side, side, &bytes) || !bif_mul_i64(bytes, 3, &bytes), "pictures of side %lld",
               (long long)side);
    return bytes;
}

bif_batch *bif_batch_new(const bif_batch_limits *limits)
{
    bif_batch *b = bif_calloc(1, sizeof *b);
    int64_t features = 0, bytes = 0;
    BIF_BUG_IF(!bif_mul_i64(limits->images, limits->tokens_per_image, &features) || features > INT32_MAX,
               "a batch with %lld pictures of %lld rows", (long long)limits->images,
               (long long)limits->tokens_per_image);
    BIF_BUG_IF(!bif_mul_i64(limits->images, picture_bytes(limits), &bytes), "a batch with %lld pictures",
               (long long)limits->images);
    b->ids = array(limits->tokens, sizeof *b->ids);
    b->pos = array(limits->tokens, sizeof *b->pos);
    b->labels = array(limits->tokens, sizeof *b->labels);
    b->image_row = array(limits->tokens, sizeof *b->image_row);
    b->rows = array(limits->tokens, sizeof *b->rows); /* every token may be supervised */
    b->targets = array(limits->tokens, sizeof *b->targets);
    b->cu_seqlens = array(limits->sequences + 1, sizeof *b->cu_seqlens);
    b->eot = array(limits->sequences, sizeof *b->eot);
    b->sample = array(limits->sequences, sizeof *b->sample);
    b->place = array(limits->sequences, sizeof *b->place);
    b->pixels = bytes > 0 ? bif_malloc((size_t)bytes) : NULL;
    bif_batch_clear(b);
    return b;
}

void bif_batch_free(bif_batch *b)
{
    if (b == NULL) {
        return;
    }
    free(b->ids);
    free(b->pos);
    free(b->labels);
    free(b->image_row);
    free(b->rows);
    free(b->targets);
    free(b->cu_seqlens);
    free(b->eot);
    free(b->sample);
    free(b->place);
    free(b->pixels);
    free(b);
}

void bif_batch_clear(bif_batch *b)
{
    b->tokens = b->sequences = b->images = b->supervised = b->group = 0;
    b->cu_seqlens[0] = 0;
}

bool bif_batch_add(bif_batch *b, const bif_batch_limits *limits, const struct bif_encoded_view *s, const uint8_t *pixels,
                   uint64_t sample)
{
    if (s->count < 1 || b->tokens + s->count > limits->tokens || b->sequences + 1 > limits->sequences ||
        b->images + s->images > limits->images) {
        return false;
    }
    int64_t base = b->tokens;
    memcpy(b->ids + base, s->ids, (size_t)s->count * sizeof *s->ids);
    memcpy(b->labels + base, s->labels, (size_t)s->count * sizeof *s->labels);
    for (int64_t t = 0; t < s->count; t++) {
        b->pos[base + t] = (int32_t)t;
        b->image_row[base + t] = -1;
    }
    for (int64_t t = 0; t + 1 < s->count; t++) {
        if (s->labels[t + 1] >= 0) { /* row t predicts token t + 1; the last row predicts nothing */
            b->rows[b->supervised] = (int32_t)(base + t);
            b->targets[b->supervised++] = s->labels[t + 1];
        }
    }
    for (int64_t i = 0; i < s->images; i++) {
        /* The last picture may be cut by truncation: its features beyond the end are not used. */
        for (int64_t k = 0; k < limits->tokens_per_image && s->image_start[i] + k < s->count; k++) {
            b->image_row[base + s->image_start[i] + k] = (int32_t)((b->images + i) * limits->tokens_per_image + k);
        }
    }
    if (s->images > 0 && pixels != NULL) {
        const int64_t bytes = picture_bytes(limits);
        memcpy(b->pixels + b->images * bytes, pixels, (size_t)(s->images * bytes));
    }
    b->images += s->images;
    b->tokens += s->count;
    b->sample[b->sequences] = b->place[b->sequences] = sample;
    b->eot[b->sequences] = (int32_t)(b->tokens - 1);
    b->sequences++;
    b->cu_seqlens[b->sequences] = (int32_t)b->tokens;
    return true;
}
