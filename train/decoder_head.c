/* The head and its loss, on supervised rows only, in chunks: the logits of 32 sequences of 105 tokens at a vocabulary
 * of 32,000 would be 430 MB. On the CPU a chunk is 4 MB, which stays in a shared cache between its four passes
 * (product, softmax, and two products back), or CHUNK_MIN rows where the vocabulary is so large that it would be less.
 */
#include "train/networks.h"
#include "train/rows.h"

#define CPU_CHUNK_BYTES ((int64_t)4 << 20)
#define CUDA_CHUNK_BYTES ((int64_t)256 << 20) /* a GPU wants whole waves of tiles */
#define CHUNK_MIN 128  /* so that each weight of a large head, read from memory, is used 128 times */
#define CHUNK_MAX 8192

bif_head_acts bif_decoder_head_plan(const bif_decoder *decoder, const bif_device *device, bif_arena *arena,
                                    int64_t rows)
{
    const int64_t v = bif_decoder_classes(&decoder->config), row_bytes = v * (int64_t)bif_dtype_size(bif_decoder_dtype(decoder));
    int64_t chunk = (device->kind == BIF_DEVICE_CPU ? CPU_CHUNK_BYTES : CUDA_CHUNK_BYTES) / row_bytes;
    chunk = chunk < CHUNK_MIN ? CHUNK_MIN : chunk;
    chunk = chunk > CHUNK_MAX ? CHUNK_MAX : chunk;
    chunk = chunk > rows ? rows : chunk;
    bif_head_acts head = {.chunk = chunk};
    head.logits = bif_take2(arena, bif_decoder_dtype(decoder), chunk, v);
    head.loss = bif_take1(arena, BIF_DTYPE_F32, chunk);
    return head;
}

/* Rows that were added for <image> and padding lie behind the classes. */
static bif_tensor class_rows(const bif_decoder *decoder, const bif_tensor *matrix)
{
    return bif_rows(matrix, 0, bif_decoder_classes(&decoder->config));
}

bif_tensor bif_decoder_dhidden(const bif_decoder_acts *acts)
{
    return acts->pick ? acts->dpicked : acts->dx;
}

void bif_decoder_loss(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, bif_head_acts *head,
                      const bif_tensor *targets, const bif_tensor *weight, bool backward, bool need_hidden, bif_tensor *loss)
{
    const int64_t rows = a->final.dim[0];
    BIF_BUG_IF(targets->dim[0] != rows, "%lld targets of %lld rows", (long long)targets->dim[0], (long long)rows);
    bif_param *const matrix = decoder->head != NULL ? decoder->head : decoder->embed;
    const bif_tensor dhidden = bif_decoder_dhidden(a), w = class_rows(decoder, &matrix->value);
    bif_tensor dw = matrix->grad.data != NULL ? class_rows(decoder, &matrix->grad) : matrix->grad;
    for (int64_t first = 0; first < rows; first += head->chunk) {
        const int64_t n = rows - first < head->chunk ? rows - first : head->chunk;
        const bif_tensor x = bif_rows(&a->final, first, n), target = bif_rows(targets, first, n);
        bif_tensor logits = bif_rows(&head->logits, 0, n), row_loss = bif_rows(&head->loss, 0, n);
        bif_linear(device, &(bif_linear_args){.x = &x, .w = &w, .y = &logits});
        bif_cross_entropy(device, &(bif_cross_entropy_args){.logits = &logits,
                                                            .targets = &target,
                                                            .weight = weight,
                                                            .loss = &row_loss,
                                                            .dlogits = backward ? &logits : NULL});
        bif_sum(device, &row_loss, loss);
        if (backward && (need_hidden || matrix->grad.data != NULL)) {
            bif_tensor dx = need_hidden ? bif_rows(&dhidden, first, n) : dhidden;
            bif_linear_backward(device, &(bif_linear_backward_args){.x = &x,
                                                                    .w = &w,
                                                                    .dy = &logits,
                                                                    .dx = need_hidden ? &dx : NULL,
                                                                    .dw = bif_wanted(&dw)});
        }
    }
}

void bif_decoder_logits(const bif_decoder *decoder, bif_device *device, const bif_tensor *hidden_rows,
                        bif_tensor *logits)
{
    const bif_param *matrix = decoder->head != NULL ? decoder->head : decoder->embed;
    const bif_tensor w = class_rows(decoder, &matrix->value);
    bif_linear(device, &(bif_linear_args){.x = hidden_rows, .w = &w, .y = logits});
}
