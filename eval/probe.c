#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "eval/jsonl.h"
#include "eval/probe_parts.h"
#include "kernels/convert.h"

typedef struct {
    bif_encoded *encoded;
    uint8_t **pixels; /* [images, S, S, 3] a sample */
    int64_t count, tokens, images;
} sample_set;

static bif_status load_images(bif_session *s, const bif_jsonl_line *line, int root_fd, const char *root, uint8_t **pixels, int64_t *count)
{
    bif_status st = BIF_OK;
    const json_t *image = json_object_get(line->object, "image");
    const int64_t bytes = 3 * s->model.vit.image * s->model.vit.image;
    *count = json_is_array(image) ? (int64_t)json_array_size(image) : image != NULL && !json_is_null(image);
    if (*count > 0 && s->model.kind != BIF_MODEL_LLAVA) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: has a picture, but %s is a decoder alone", line->where, s->folder));
    }
    *pixels = bif_calloc((size_t)(*count * bytes), sizeof **pixels);
    for (int64_t i = 0; i < *count; i++) {
        const json_t *name = json_is_array(image) ? json_array_get(image, (size_t)i) : image;
        if (!json_is_string(name)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: image must be a string or a list of strings", line->where));
        }
        st = bif_session_image(s, root_fd, root, json_string_value(name), *pixels + i * bytes);
        if (st != BIF_OK) {
            BIF_TRY(bif_fail_context(st, "%s", line->where));
        }
    }
done:
    return st;
}

static bif_status load_samples(bif_session *s, const char *path, const char *root, sample_set *set)
{
    bif_status st = BIF_OK;
    bif_jsonl file = {0};
    int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        BIF_TRY(bif_fail_errno(errno, "image root %s", root));
    }
    BIF_TRY(bif_jsonl_read(path, 0, &file));
    if (file.count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: holds no samples", path));
    }
    set->encoded = bif_calloc((size_t)file.count, sizeof *set->encoded);
    set->pixels = bif_calloc((size_t)file.count, sizeof *set->pixels);
    for (int64_t i = 0; i < file.count; i++) {
        int64_t images = 0;
        set->count = i + 1;
        BIF_TRY(load_images(s, &file.items[i], root_fd, root, &set->pixels[i], &images));
        char *text = json_dumps(file.items[i].object, JSON_COMPACT);
        st = bif_chat_encode(&s->chat, file.items[i].where, text, strlen(text), images, &set->encoded[i]);
        free(text);
        BIF_TRY(st);
        set->tokens += (int64_t)set->encoded[i].ids.count;
        set->images += images;
    }
done:
    if (root_fd >= 0) {
        close(root_fd);
    }
    bif_jsonl_free(&file);
    return st;
}

static void free_samples(sample_set *set)
{
    for (int64_t i = 0; i < set->count; i++) {
        bif_encoded_free(&set->encoded[i]);
        free(set->pixels[i]);
    }
    free(set->encoded);
    free(set->pixels);
}

/* Logits of every row, chunk by chunk into host memory. */
static bif_status all_logits(bif_session *s, bif_arena *arena, const bif_batch *batch, float *logits)
{
    bif_status st = BIF_OK;
    enum { CHUNK = 256 };
    const int64_t vocab = bif_decoder_classes(&s->model.decoder);
    void *memory = NULL;
    bif_tensor hidden;
    const bif_dtype dtype = s->vlm.params.dtype;
    BIF_TRY(s->device->alloc(s->device, (size_t)(CHUNK * vocab) * bif_dtype_size(dtype), &memory));
    bif_vlm_hidden(&s->vlm, s->device, arena, batch, &hidden);
    for (int64_t at = 0; at < batch->tokens; at += CHUNK) {
        const int64_t count = batch->tokens - at < CHUNK ? batch->tokens - at : CHUNK;
        bif_tensor rows = bif_rows(&hidden, at, count), out = bif_tensor2(memory, dtype, count, vocab);
        bif_decoder_logits(&s->vlm.decoder, s->device, &rows, &out);
        bif_copy_out_f32(s->device, logits + at * vocab, &out);
    }
done:
    s->device->release(s->device, memory);
    return st;
}

bif_status bif_probe_pixels(const bif_session *s, const bif_batch *batch, float **out)
{
    float table[3 * 256];
    const bif_status st = bif_preprocess_table(&s->preprocess, table);
    if (st != BIF_OK) {
        return st;
    }
    const int64_t plane = s->model.vit.image * s->model.vit.image;
    *out = bif_malloc((size_t)(batch->images * 3 * plane) * sizeof **out);
    for (int64_t i = 0; i < batch->images; i++) {
        for (int64_t c = 0; c < 3; c++) {
            for (int64_t k = 0; k < plane; k++) {
                (*out)[(i * 3 + c) * plane + k] = table[c * 256 + batch->pixels[(i * plane + k) * 3 + c]];
            }
        }
    }
    return BIF_OK;
}

bif_status bif_probe_write(bif_session *s, const bif_params *params, const bif_st_out *tensors, int64_t count, bool gradients,
                           const char *out)
{
    const int64_t extra = gradients ? params->count : 0;
    bif_st_out *all = bif_calloc((size_t)(count + extra), sizeof *all);
    char **names = bif_calloc((size_t)extra, sizeof *names);
    memcpy(all, tensors, (size_t)count * sizeof *all);
    for (int64_t i = 0; i < extra; i++) {
        names[i] = bif_format("grad.%s", params->items[i].name);
        all[count + i] = (bif_st_out){.name = names[i], .tensor = params->items[i].grad, .device = s->device};
    }
    const bif_status st = bif_safetensors_write(out, all, count + extra, NULL, NULL, NULL);
    for (int64_t i = 0; i < extra; i++) {
        free(names[i]);
    }
    free(names);
    free(all);
    return st;
}

static bif_status write_result(bif_session *s, const bif_batch *batch, float *logits, float *loss, bool gradients, const char *out)
{
    const bool llava = s->model.kind == BIF_MODEL_LLAVA;
    const int64_t side = s->model.vit.image;
    float *values = NULL;
    bif_status st = llava ? bif_probe_pixels(s, batch, &values) : BIF_OK;
    if (st != BIF_OK) {
        return st;
    }
    const bif_st_out tensors[] = {
        bif_probe_host("input_ids", bif_tensor1(batch->ids, BIF_DTYPE_I32, batch->tokens)),
        bif_probe_host("labels", bif_tensor1(batch->labels, BIF_DTYPE_I32, batch->tokens)),
        bif_probe_host("cu_seqlens", bif_tensor1(batch->cu_seqlens, BIF_DTYPE_I32, batch->sequences + 1)),
        bif_probe_host("logits", bif_tensor2(logits, BIF_DTYPE_F32, batch->tokens, bif_decoder_classes(&s->model.decoder))),
        bif_probe_host("loss", bif_tensor1(loss, BIF_DTYPE_F32, 1)),
        bif_probe_host("pixel_values", bif_tensor4(values, BIF_DTYPE_F32, batch->images, 3, side, side)), /* of a LLaVA */
    };
    const int64_t count = (int64_t)(sizeof tensors / sizeof *tensors);
    st = bif_probe_write(s, &s->vlm.params, tensors, llava ? count : count - 1, gradients, out);
    free(values);
    return st;
}

static bif_status probe_vlm(bif_session *session, const char *samples, const char *image_root, const char *out, bool gradients)
{
    bif_status st = BIF_OK;
    sample_set set = {0};
    bif_batch *batch = NULL;
    void *memory = NULL;
    float *logits = NULL, loss = 0.0f;
    BIF_TRY(load_samples(session, samples, image_root, &set));
    const bool llava = session->model.kind == BIF_MODEL_LLAVA;
    const bif_batch_limits limits = {.tokens = set.tokens,
                                     .sequences = set.count,
                                     .images = set.images,
                                     .image_size = llava ? session->model.vit.image : 0,
                                     .tokens_per_image = llava ? bif_tokens_per_image(&session->model) : 0};
    batch = bif_batch_new(&limits);
    for (int64_t i = 0; i < set.count; i++) {
        const bif_encoded *e = &set.encoded[i];
        const struct bif_encoded_view view = {
            .ids = e->ids.ids, .labels = e->labels.ids, .count = (int64_t)e->ids.count, .image_start = e->image_start, .images = e->images};
        BIF_BUG_IF(!bif_batch_add(batch, &limits, &view, set.pixels[i], (uint64_t)i), "sample %lld does not fit its own batch", (long long)i);
    }
    const size_t size = bif_vlm_measure(&session->vlm, session->device, &limits, gradients);
    BIF_TRY(session->device->alloc(session->device, size, &memory));
    bif_arena arena = bif_arena_over("probe", memory, size);
    logits = bif_malloc((size_t)(batch->tokens * bif_decoder_classes(&session->model.decoder)) * sizeof *logits);
    BIF_TRY(all_logits(session, &arena, batch, logits));
    bif_loss sums = {0};
    bif_vlm_step(&session->vlm, session->device, &arena, batch, 1.0f / (float)batch->supervised, gradients, &sums);
    loss = (float)(sums.loss_sum / (double)sums.supervised);
    BIF_TRY(write_result(session, batch, logits, &loss, gradients, out));
done:
    if (memory != NULL) {
        session->device->release(session->device, memory);
    }
    bif_batch_free(batch);
    free_samples(&set);
    free(logits);
    return st;
}

bif_status bif_probe(bif_session *session, const char *samples, const char *image_root, const char *out, bool gradients)
{
    return (session->model.kind == BIF_MODEL_CLIP ? bif_probe_clip : probe_vlm)(session, samples, image_root, out, gradients);
}
