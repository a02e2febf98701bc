#include "train/vocabulary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/half.h"
#include "base/log.h"
#include "base/rng.h"
#include "kernels/convert.h"

#define ROWS_UNIT 64 /* of the embedding */
#define SPREAD 1e-5  /* of the covariance of the old rows */
#define BLOCK 8      /* old rows taken together: the sums are read and written once for eight of them */

/* ---- tokens ---- */

/* The padding token that is there, or -1. */
static bif_status find_pad(const bif_tokenizer *tokenizer, const char *path, int32_t *out)
{
    char *name = NULL;
    const bif_status st = bif_tokenizer_pad(path, &name);
    *out = name != NULL ? bif_tokenizer_special(tokenizer, name) : -1;
    *out = *out >= 0 ? *out : bif_tokenizer_find(tokenizer, "<pad>");
    free(name);
    return st;
}

size_t bif_vocabulary_missing(const bif_model_config *model, const bif_tokenizer *tokenizer, bif_new_token out[2])
{
    const int64_t next = bif_tokenizer_vocab(tokenizer);
    size_t count = 0;
    if (model->kind != BIF_MODEL_LLAVA || model->image_token != next || bif_tokenizer_special(tokenizer, "<image>") >= 0) {
        return 0;
    }
    out[count++] = (bif_new_token){"<image>", model->image_token};
    if (model->pad_token == next + 1 && bif_tokenizer_special(tokenizer, "<pad>") < 0) {
        out[count++] = (bif_new_token){"<pad>", model->pad_token};
    }
    return count;
}

/* Rows for all tokens below `end`. */
static void grow_rows(bif_decoder_config *decoder, int64_t end)
{
    if (end > decoder->vocab) {
        decoder->classes = bif_decoder_classes(decoder);
        decoder->vocab = (end + ROWS_UNIT - 1) / ROWS_UNIT * ROWS_UNIT;
    }
}

/* One line: what is new, and what it does to the embedding. */
static void report(const bif_model_config *model, int64_t tokens, int64_t rows, bool pad)
{
    char second[32] = "", change[64];
    if (pad) {
        snprintf(second, sizeof second, " and <pad> %d", model->pad_token);
    }
    if (model->decoder.vocab > rows) {
        snprintf(change, sizeof change, "grows from %lld to %lld rows", (long long)rows, (long long)model->decoder.vocab);
    } else {
        snprintf(change, sizeof change, "keeps its %lld rows", (long long)rows);
    }
    bif_info("vocabulary: <image> %d%s added to a tokenizer of %lld; the embedding %s, %lld of them in the softmax", model->image_token,
             second, (long long)tokens, change, (long long)bif_decoder_classes(&model->decoder));
}

/* What text becomes must be a class: a label behind the softmax is none. Special tokens never come from text. */
static bif_status check_text(const bif_decoder_config *decoder, const bif_tokenizer *tokenizer, const char *path)
{
    for (int64_t id = bif_decoder_classes(decoder); id < bif_tokenizer_vocab(tokenizer); id++) {
        const bif_token_type type = bif_tokenizer_type(tokenizer, (int32_t)id);
        if (type != BIF_TOKEN_CONTROL && type != BIF_TOKEN_UNUSED) {
            return bif_fail(BIF_ERR_CONFIG, "%s: %lld tokens, but the model only has %lld, and token %lld is no special one; use the tokenizer "
                            "that belongs to the model", path, (long long)bif_tokenizer_vocab(tokenizer),
                            (long long)bif_decoder_classes(decoder), (long long)id);
        }
    }
    return BIF_OK;
}

bif_status bif_vocabulary_fit(bif_model_config *model, bif_tokenizer *tokenizer, const char *tokenizer_path)
{
    bif_status st = BIF_OK;
    const int64_t tokens = bif_tokenizer_vocab(tokenizer), rows = model->decoder.vocab;
    bif_new_token missing[2];
    if (model->kind == BIF_MODEL_CLIP) {
        return BIF_OK;
    }
    BIF_TRY(check_text(&model->decoder, tokenizer, tokenizer_path));
    if (model->kind == BIF_MODEL_DECODER) {
        return BIF_OK;
    }
    const bool named = model->image_token >= 0;
    if (!named) {
        model->image_token = bif_tokenizer_special(tokenizer, "<image>");
    }
    if (model->image_token < 0) {
        model->image_token = (int32_t)tokens;
        BIF_TRY(find_pad(tokenizer, tokenizer_path, &model->pad_token));
        model->pad_token = model->pad_token >= 0 ? model->pad_token : (int32_t)tokens + 1;
    }
    const size_t count = bif_vocabulary_missing(model, tokenizer, missing);
    for (size_t i = 0; i < count; i++) {
        int32_t id = -1;
        BIF_TRY(bif_tokenizer_add(tokenizer, missing[i].text, &id));
        BIF_TRY(id == missing[i].id ? BIF_OK
                                    : bif_fail(BIF_ERR_CONFIG,
                                               "%s: the tokenizer has %s as an ordinary token %d; mark it as special there, and "
                                               "name it in the model's config.json",
                                               tokenizer_path, missing[i].text, id));
    }
    if (count > 0 && !named) {
        grow_rows(&model->decoder, missing[count - 1].id + 1);
        report(model, tokens, rows, count > 1);
    }
    if (model->image_token >= model->decoder.vocab || model->image_token >= bif_tokenizer_vocab(tokenizer)) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG,
                         "the model's <image> is token %d of %lld, but the tokenizer ends at %lld; use the tokenizer that belongs "
                         "to it",
                         model->image_token, (long long)model->decoder.vocab, (long long)tokens - 1));
    }
done:
    return st;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

void bif_vocabulary_compare(const bif_tokenizer *tokenizer, const char *path, const char *folder)
{
    bif_tokenizer *own = NULL;
    char *file = bif_tokenizer_in(folder);
    if (file == NULL || same_file(file, path) || same_file(folder, path)) {
        free(file);
        return;
    }
    if (bif_tokenizer_load(file, &own) != BIF_OK) { /* one that bifocal does not read need not be read */
        bif_error_clear();
        free(file);
        return;
    }
    const int64_t here = bif_tokenizer_vocab(tokenizer), there = bif_tokenizer_vocab(own), both = here < there ? here : there;
    int64_t count = 0, first = -1;
    for (int64_t id = 0; id < both; id++) {
        char *a = bif_tokenizer_piece(own, (int32_t)id), *b = bif_tokenizer_piece(tokenizer, (int32_t)id);
        const bool differ = a == NULL || b == NULL || strcmp(a, b) != 0;
        first = differ && first < 0 ? id : first;
        count += differ;
        free(a);
        free(b);
    }
    if (count > 0) {
        char *a = bif_tokenizer_piece(own, (int32_t)first), *b = bif_tokenizer_piece(tokenizer, (int32_t)first);
        bif_warn("data.tokenizer %s is not the tokenizer of %s: of the %lld ids that both have %lld name other tokens, the first is %lld, '%s' "
                 "instead of '%s'; name the model's own unless it is to learn all words anew",
                 path, file, (long long)both, (long long)count, (long long)first, b != NULL ? b : "", a != NULL ? a : "");
        free(a);
        free(b);
    }
    bif_tokenizer_free(own);
    free(file);
}

/* ---- rows ---- */

int64_t bif_vocabulary_spare(const bif_decoder_config *decoder, const char *name)
{
    static const char *const tails[] = {"embed_tokens.weight", "lm_head.weight"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        const size_t n = strlen(name), k = strlen(tails[i]);
        if (n >= k && strcmp(name + n - k, tails[i]) == 0) {
            return decoder->vocab - bif_decoder_classes(decoder);
        }
    }
    return 0;
}

bool bif_vocabulary_continues(const bif_st_entry *entry, const bif_param *row)
{
    const bool floats = entry->dtype == BIF_DTYPE_F32 || entry->dtype == BIF_DTYPE_BF16 || entry->dtype == BIF_DTYPE_F16;
    return row->spare > 0 && floats && entry->rank == 2 && row->value.rank == 2 && entry->dim[1] == row->value.dim[1] &&
           entry->dim[0] == row->value.dim[0] - row->spare && entry->dim[0] > 0;
}

/* sum [count, C] += z_kj (row_j - mean) over the `rows` old rows from `first` on. */
static void add_block(const float *restrict row, const float *restrict z, int64_t rows, int64_t count, int64_t width, float *restrict sum)
{
    for (int64_t k = 0; k < count; k++) {
        float *restrict to = sum + k * width;
        const float *restrict w = z + k * BLOCK;
        if (rows == BLOCK) {
            for (int64_t c = 0; c < width; c++) {
                to[c] += w[0] * row[c] + w[1] * row[width + c] + w[2] * row[2 * width + c] + w[3] * row[3 * width + c] +
                         w[4] * row[4 * width + c] + w[5] * row[5 * width + c] + w[6] * row[6 * width + c] + w[7] * row[7 * width + c];
            }
        } else {
            for (int64_t j = 0; j < rows; j++) {
                for (int64_t c = 0; c < width; c++) {
                    to[c] += w[j] * row[j * width + c];
                }
            }
        }
    }
}

void bif_vocabulary_draw(const bif_st_entry *old, uint64_t seed, const char *name, int64_t count, float *out)
{
    BIF_BUG_IF(old->rank != 2 || old->dim[0] < 1, "rows are drawn after a matrix, not %s", old->name);
    const int64_t rows = old->dim[0], width = old->dim[1];
    const double scale = sqrt(SPREAD / (double)rows);
    double *mean = bif_calloc((size_t)width + 1, sizeof *mean);
    float *row = bif_malloc((size_t)(BLOCK * width + 1) * sizeof *row), *z = bif_calloc((size_t)(BLOCK * count + 1), sizeof *z);
    char *key = bif_format("new rows of %s", name);
    const uint64_t index = bif_hash_name(key);
    for (int64_t j = 0; j < rows; j++) {
        bif_entry_floats(old, j * width, width, row);
        for (int64_t c = 0; c < width; c++) {
            mean[c] += (double)row[c];
        }
    }
    for (int64_t c = 0; c < width; c++) {
        mean[c] /= (double)rows;
    }
    memset(out, 0, (size_t)(count * width) * sizeof *out);
    for (int64_t first = 0; first < rows; first += BLOCK) {
        const int64_t some = rows - first < BLOCK ? rows - first : BLOCK;
        bif_entry_floats(old, first * width, some * width, row);
        for (int64_t j = 0; j < some; j++) {
            for (int64_t c = 0; c < width; c++) {
                row[j * width + c] = (float)((double)row[j * width + c] - mean[c]);
            }
            for (int64_t k = 0; k < count; k++) {
                z[k * BLOCK + j] = bif_rng_normal(seed, BIF_RNG_INIT, index + (uint64_t)k, (uint32_t)(first + j));
            }
        }
        add_block(row, z, some, count, width, out);
    }
    for (int64_t k = 0; k < count; k++) {
        for (int64_t c = 0; c < width; c++) {
            out[k * width + c] = (float)(mean[c] + scale * (double)out[k * width + c]);
        }
    }
    free(key);
    free(z);
    free(row);
    free(mean);
}

void *bif_vocabulary_draw_as(const bif_st_entry *old, uint64_t seed, const char *name, int64_t count, size_t *bytes)
{
    const int64_t elements = count * old->dim[1];
    float *rows = bif_malloc((size_t)elements * sizeof *rows + 1);
    bif_vocabulary_draw(old, seed, name, count, rows);
    *bytes = (size_t)elements * bif_dtype_size(old->dtype);
    if (old->dtype == BIF_DTYPE_F32) {
        return rows;
    }
    uint16_t *half = bif_malloc(*bytes + 1);
    for (int64_t i = 0; i < elements; i++) {
        half[i] = old->dtype == BIF_DTYPE_BF16 ? bif_to_bf16(rows[i]) : bif_to_f16(rows[i]);
    }
    free(rows);
    return half;
}
