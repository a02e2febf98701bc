/* The probe of a CLIP pair. The batch is packed without padding, as in training; only what is written is padded. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "eval/embed.h"
#include "eval/jsonl.h"
#include "eval/probe_parts.h"
#include "kernels/convert.h"

typedef struct {
    bif_ids *ids;    /* of each pair */
    uint8_t *pixels; /* [n, S, S, 3] */
    int64_t count, tokens, longest;
} pair_set;

static bif_status load_pairs(bif_session *s, const char *path, const char *root, pair_set *set)
{
    bif_status st = BIF_OK;
    bif_jsonl file = {0};
    const int64_t bytes = 3 * s->model.vit.image * s->model.vit.image;
    int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        BIF_TRY(bif_fail_errno(errno, "image root %s", root));
    }
    BIF_TRY(bif_jsonl_read(path, 0, &file));
    if (file.count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: holds no pairs", path));
    }
    set->ids = bif_calloc((size_t)file.count, sizeof *set->ids);
    set->pixels = bif_calloc((size_t)file.count, (size_t)bytes);
    for (int64_t i = 0; i < file.count; i++) {
        const bif_jsonl_line *line = &file.items[i];
        const json_t *caption = json_object_get(line->object, "caption"), *image = json_object_get(line->object, "image");
        const json_t *text = caption != NULL ? caption : json_object_get(line->object, "text");
        if (!json_is_string(image) || !json_is_string(text)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a pair is {\"image\": \"FILE\", \"caption\" or \"text\": \"...\"}", line->where));
        }
        set->count = i + 1;
        BIF_TRY(bif_embed_ids(s, &(bif_embed_item){.value = json_string_value(text), .where = line->where}, true, &set->ids[i]));
        st = bif_session_image(s, root_fd, root, json_string_value(image), set->pixels + i * bytes);
        if (st != BIF_OK) {
            BIF_TRY(bif_fail_context(st, "%s", line->where));
        }
        const int64_t length = (int64_t)set->ids[i].count;
        set->tokens += length;
        set->longest = length > set->longest ? length : set->longest;
    }
done:
    if (root_fd >= 0) {
        close(root_fd);
    }
    bif_jsonl_free(&file);
    return st;
}

static void free_pairs(pair_set *set)
{
    for (int64_t i = 0; i < set->count; i++) {
        bif_ids_free(&set->ids[i]);
    }
    free(set->ids);
    free(set->pixels);
}

static bif_batch *pack(const pair_set *set, const bif_batch_limits *limits)
{
    bif_batch *batch = bif_batch_new(limits);
    const int64_t bytes = 3 * limits->image_size * limits->image_size, start = 0;
    int32_t *labels = bif_malloc((size_t)set->longest * sizeof *labels);
    for (int64_t t = 0; t < set->longest; t++) {
        labels[t] = BIF_LABEL_NONE;
    }
    for (int64_t i = 0; i < set->count; i++) {
        const struct bif_encoded_view view = {
            .ids = set->ids[i].ids, .labels = labels, .count = (int64_t)set->ids[i].count, .image_start = &start, .images = 1};
        BIF_BUG_IF(!bif_batch_add(batch, limits, &view, set->pixels + i * bytes, (uint64_t)i), "pair %lld does not fit its own batch",
                   (long long)i);
    }
    free(labels);
    return batch;
}

/* On the device; the towers' activations lie behind. */
typedef struct {
    bif_tensor logits, image, bias;      /* [n, n], [n, E], [n] */
    bif_tensor dimage, dtext;            /* [n, E] */
    bif_tensor loss, dscale, dbias, sum; /* [n], [1], [1], f64 [1] */
} scratch;

static scratch take_scratch(bif_arena *arena, int64_t n, int64_t width)
{
    return (scratch){.logits = bif_take2(arena, BIF_DTYPE_F32, n, n),
                     .image = bif_take2(arena, BIF_DTYPE_F32, n, width),
                     .bias = bif_take1(arena, BIF_DTYPE_F32, n),
                     .dimage = bif_take2(arena, BIF_DTYPE_F32, n, width),
                     .dtext = bif_take2(arena, BIF_DTYPE_F32, n, width),
                     .loss = bif_take1(arena, BIF_DTYPE_F32, n),
                     .dscale = bif_take1(arena, BIF_DTYPE_F32, 1),
                     .dbias = bif_take1(arena, BIF_DTYPE_F32, 1),
                     .sum = bif_take1(arena, BIF_DTYPE_F64, 1)};
}

/* Host memory. */
typedef struct {
    float *image, *text, *logits, loss; /* [n, E], [n, E], [n, n] */
} numbers;

static void compute(bif_session *s, scratch *c, bif_arena *arena, const bif_batch *batch, bool gradients, numbers *out)
{
    bif_device *device = s->device;
    bif_clip *clip = &s->clip;
    const int64_t n = batch->sequences;
    const bool sigmoid = clip->logit_bias != NULL;
    float log_scale = 0.0f, bias = 0.0f;
    double sum = 0.0;
    bif_tensor image, text;
    bif_copy_out_f32(device, &log_scale, &clip->logit_scale->value);
    if (sigmoid) {
        bif_copy_out_f32(device, &bias, &clip->logit_bias->value);
    }
    const float scale = expf(log_scale);
    bif_clip_acts *acts = bif_clip_forward(clip, device, arena, batch, gradients, &image, &text);
    bif_copy_out_f32(device, out->image, &image);
    bif_copy_out_f32(device, out->text, &text);
    device->copy(device, c->image.data, image.data, bif_bytes(&image));
    bif_scale(device, scale, &c->image);
    for (int64_t i = 0; i < n; i++) {
        out->logits[i] = bias; /* of every column */
    }
    device->copy_in(device, c->bias.data, out->logits, bif_bytes(&c->bias));
    bif_linear(device, &(bif_linear_args){.x = &c->image, .w = &text, .b = &c->bias, .y = &c->logits});
    bif_copy_out_f32(device, out->logits, &c->logits);
    bif_clip_loss(clip, device,
                  &(bif_clip_loss_args){.image = &image, .text = &text, .local = n, .sigmoid = sigmoid, .scale = scale, .bias = bias,
                                        .loss = &c->loss, .sum = &c->sum, .dimage = gradients ? &c->dimage : NULL,
                                        .dtext = gradients ? &c->dtext : NULL, .dscale = &c->dscale, .dbias = &c->dbias});
    device->copy_out(device, &sum, c->sum.data, sizeof sum);
    out->loss = (float)(sum * bif_clip_loss_factor(sigmoid, n));
    if (gradients) {
        bif_clip_backward(clip, device, arena, acts, &c->dimage, &c->dtext);
    }
}

static bif_status write_result(bif_session *s, const pair_set *set, const bif_batch *batch, numbers *n, bool gradients, const char *out)
{
    bif_status st = BIF_OK;
    const int64_t count = set->count, longest = set->longest, side = s->model.vit.image, width = s->model.projection;
    int32_t *ids = bif_malloc((size_t)(count * longest) * sizeof *ids), *lengths = bif_malloc((size_t)count * sizeof *lengths);
    float *values = NULL;
    BIF_TRY(bif_probe_pixels(s, batch, &values));
    for (int64_t i = 0; i < count; i++) {
        lengths[i] = (int32_t)set->ids[i].count;
        for (int64_t t = 0; t < longest; t++) {
            ids[i * longest + t] = t < lengths[i] ? set->ids[i].ids[t] : s->chat.eos;
        }
    }
    const bif_st_out tensors[] = {
        bif_probe_host("input_ids", bif_tensor2(ids, BIF_DTYPE_I32, count, longest)),
        bif_probe_host("lengths", bif_tensor1(lengths, BIF_DTYPE_I32, count)),
        bif_probe_host("pixel_values", bif_tensor4(values, BIF_DTYPE_F32, count, 3, side, side)),
        bif_probe_host("image_embeds", bif_tensor2(n->image, BIF_DTYPE_F32, count, width)),
        bif_probe_host("text_embeds", bif_tensor2(n->text, BIF_DTYPE_F32, count, width)),
        bif_probe_host("logits_per_image", bif_tensor2(n->logits, BIF_DTYPE_F32, count, count)),
        bif_probe_host("loss", bif_tensor1(&n->loss, BIF_DTYPE_F32, 1)),
    };
    BIF_TRY(bif_probe_write(s, &s->clip.params, tensors, (int64_t)(sizeof tensors / sizeof *tensors), gradients, out));
done:
    free(values);
    free(ids);
    free(lengths);
    return st;
}

bif_status bif_probe_clip(bif_session *session, const char *samples, const char *image_root, const char *out, bool gradients)
{
    bif_status st = BIF_OK;
    pair_set set = {0};
    numbers n = {0};
    bif_batch *batch = NULL;
    void *memory = NULL;
    BIF_TRY(load_pairs(session, samples, image_root, &set));
    const int64_t width = session->model.projection;
    const bif_batch_limits limits = {
        .tokens = set.tokens, .sequences = set.count, .images = set.count, .image_size = session->model.vit.image};
    batch = pack(&set, &limits);
    bif_arena measure = bif_arena_measure("probe");
    take_scratch(&measure, set.count, width);
    const size_t size = measure.peak + bif_clip_measure(&session->clip, session->device, &limits, gradients);
    BIF_TRY(session->device->alloc(session->device, size, &memory));
    bif_arena arena = bif_arena_over("probe", memory, size);
    scratch c = take_scratch(&arena, set.count, width);
    bif_arena towers = bif_arena_over("towers", arena.base + arena.used, arena.size - arena.used);
    n.image = bif_malloc((size_t)(set.count * width) * sizeof *n.image);
    n.text = bif_malloc((size_t)(set.count * width) * sizeof *n.text);
    n.logits = bif_malloc((size_t)(set.count * set.count) * sizeof *n.logits);
    compute(session, &c, &towers, batch, gradients, &n);
    BIF_TRY(write_result(session, &set, batch, &n, gradients, out));
done:
    if (memory != NULL) {
        session->device->release(session->device, memory);
    }
    bif_batch_free(batch);
    free_pairs(&set);
    free(n.image);
    free(n.text);
    free(n.logits);
    return st;
}
