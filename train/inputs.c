#include "train/inputs.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

#define ALIGN ((size_t)64)

/* The bytes of a slot, handed out piece by piece in the same order for the same sizes. */
typedef struct {
    const bif_device *device;
    char *host, *memory; /* NULL while measuring */
    size_t used;
} packer;

static bool on_cpu(const bif_device *device)
{
    return device->kind == BIF_DEVICE_CPU;
}

/* A piece computed on the host: room for it there, and where the device will read it. */
static void *claim(packer *p, bif_dtype dtype, int64_t count, bif_tensor *out)
{
    char *host = p->host == NULL ? NULL : p->host + p->used, *memory = on_cpu(p->device) || p->memory == NULL ? host : p->memory + p->used;
    *out = bif_tensor1(memory, dtype, count);
    p->used += (bif_bytes(out) + ALIGN - 1) / ALIGN * ALIGN;
    return host;
}

/* A piece that the batch holds already. */
static void piece(packer *p, bif_dtype dtype, void *data, int64_t count, bif_tensor *out)
{
    if (on_cpu(p->device)) {
        *out = bif_tensor1(data, dtype, count);
        return;
    }
    void *to = claim(p, dtype, count, out);
    if (to != NULL && count > 0) {
        memcpy(to, data, bif_bytes(out));
    }
}

static void bounds_piece(packer *p, int32_t *host, int64_t count, bif_bounds *out)
{
    out->host = bif_tensor1(host, BIF_DTYPE_I32, count);
    piece(p, BIF_DTYPE_I32, host, count, &out->device);
    if (on_cpu(p->device)) {
        out->device.data = NULL;
    }
}

/* The rows of one picture that go on: the class token's, and `kept` of its patches' in order, every choice equally likely. */
static void draw_rows(const bif_inputs_shape *shape, int64_t image, int32_t *rows)
{
    const int64_t tokens = shape->no_class ? 0 : 1, first = image * (shape->patches + tokens);
    uint32_t word[4];
    int64_t chosen = 0;
    if (tokens > 0) {
        *rows++ = (int32_t)first;
    }
    for (int64_t patch = 0; patch < shape->patches; patch++) {
        if (patch % 4 == 0) {
            bif_philox(shape->seed, BIF_RNG_PATCHES, shape->place + (uint64_t)image, (uint32_t)(patch / 4), word);
        }
        const uint64_t left = (uint64_t)(shape->patches - patch);
        if ((int64_t)(left * word[patch % 4] >> 32) < shape->kept - chosen) {
            rows[chosen++] = (int32_t)(first + tokens + patch);
        }
    }
}

/* A row's position in its sequence, and the place of that (bif_batch), mod 2^32. */
static void places_piece(packer *p, const bif_batch *b, const int32_t *rows, int64_t count, bif_tensor *out)
{
    int32_t *to = claim(p, BIF_DTYPE_I32, 2 * count, out);
    *out = bif_tensor2(out->data, BIF_DTYPE_I32, count, 2);
    for (int64_t i = 0, s = 0; to != NULL && i < count; i++) {
        const int32_t row = rows == NULL ? (int32_t)i : rows[i];
        while (row >= b->cu_seqlens[s + 1]) { /* rows rise */
            s++;
        }
        to[2 * i] = row - b->cu_seqlens[s];
        to[2 * i + 1] = (int32_t)(uint32_t)b->place[s];
    }
}

/* Lays out a batch; with p->host it is filled in. */
static void pack(packer *p, const bif_inputs_shape *shape, const bif_batch *b, float weight, bif_inputs *in)
{
    const bool fill = p->host != NULL;
    const int64_t images = shape->side > 0 ? b->images : 0, encoder_rows = (shape->kept > 0 ? shape->kept : shape->patches) + (shape->no_class ? 0 : 1);
    *in = (bif_inputs){.tokens = b->tokens, .sequences = b->sequences, .images = images, .rows = b->supervised};
    float *factor = claim(p, BIF_DTYPE_F32, 1, &in->weight);
    if (fill) {
        *factor = weight;
    }
    const bool spliced = images > 0 && shape->per_image > 0;
    if (spliced) { /* the image token's embedding is neither read nor given a gradient */
        int32_t *ids = claim(p, BIF_DTYPE_I32, b->tokens, &in->ids);
        for (int64_t t = 0; fill && t < b->tokens; t++) {
            ids[t] = b->image_row[t] >= 0 ? -1 : b->ids[t];
        }
        piece(p, BIF_DTYPE_I32, b->image_row, b->tokens, &in->image_row);
        const int64_t features = images * shape->per_image, skip = shape->per_image == shape->patches && !shape->no_class ? 1 : 0;
        int32_t *rows = claim(p, BIF_DTYPE_I32, features, &in->patch_rows);
        for (int64_t i = 0; fill && i < features; i++) {
            rows[i] = (int32_t)(i / shape->per_image * encoder_rows + skip + i % shape->per_image);
        }
    } else {
        piece(p, BIF_DTYPE_I32, b->ids, b->tokens, &in->ids);
    }
    piece(p, BIF_DTYPE_I32, b->pos, b->tokens, &in->pos);
    piece(p, BIF_DTYPE_I32, b->rows, b->supervised, &in->picked);
    piece(p, BIF_DTYPE_I32, b->targets, b->supervised, &in->targets);
    piece(p, BIF_DTYPE_I32, b->eot, b->sequences, &in->eot);
    bounds_piece(p, b->cu_seqlens, b->sequences + 1, &in->bounds);
    if (shape->places) {
        places_piece(p, b, NULL, b->tokens, &in->places);
        places_piece(p, b, b->rows, b->supervised, &in->picked_places);
    }
    if (images > 0) {
        BIF_BUG_IF(images * encoder_rows > INT32_MAX, "%lld pictures of %lld rows", (long long)images, (long long)encoder_rows);
        int32_t *first = claim(p, BIF_DTYPE_I32, images + 1, &in->image_bounds.device);
        for (int64_t i = 0; fill && i <= images; i++) {
            first[i] = (int32_t)(i * encoder_rows);
        }
        in->image_bounds.host = bif_tensor1(first, BIF_DTYPE_I32, images + 1);
        in->class_rows = bif_rows(&in->image_bounds.device, 0, images);
        if (on_cpu(p->device)) {
            in->image_bounds.device.data = NULL;
        }
        int32_t *probe = claim(p, BIF_DTYPE_I32, shape->no_class && shape->per_image == 0 ? images : 0, &in->probe_ids);
        if (fill && in->probe_ids.dim[0] > 0) {
            memset(probe, 0, bif_bytes(&in->probe_ids));
        }
        int32_t *kept = claim(p, BIF_DTYPE_I32, shape->kept > 0 ? images * encoder_rows : 0, &in->kept_rows);
        for (int64_t i = 0; fill && shape->kept > 0 && i < images; i++) {
            draw_rows(shape, i, kept + i * encoder_rows);
        }
        piece(p, BIF_DTYPE_U8, b->pixels, images * shape->side * shape->side * 3, &in->pixels);
        in->pixels = bif_tensor4(in->pixels.data, BIF_DTYPE_U8, images, shape->side, shape->side, 3);
    }
}

size_t bif_feeder_bytes(const bif_device *device, const bif_inputs_shape *shape, const bif_batch_limits *limits)
{
    packer p = {.device = device};
    bif_inputs in;
    /* A sequence takes at least one token, so that is how many there may be. */
    const int64_t sequences = limits->sequences > 0 && limits->sequences < limits->tokens ? limits->sequences : limits->tokens;
    pack(&p, shape, &(bif_batch){.tokens = limits->tokens, .sequences = sequences, .images = limits->images, .supervised = limits->tokens}, 1.0f,
         &in);
    return p.used;
}

static void release(bif_feeder_slot *slot, bif_device *device)
{
    if (slot->host == NULL) {
        return;
    }
    if (on_cpu(device)) {
        free(slot->host);
    } else {
        device->sync(device);
        device->release_host(device, slot->host);
        device->release(device, slot->memory);
    }
    *slot = (bif_feeder_slot){0};
}

static bif_status grow(bif_feeder_slot *slot, bif_device *device, size_t bytes)
{
    bif_status st = BIF_OK;
    if (bytes <= slot->size && slot->host != NULL) {
        return BIF_OK;
    }
    release(slot, device);
    if (on_cpu(device)) {
        slot->host = bif_malloc(bytes + ALIGN);
    } else {
        BIF_TRY(device->alloc(device, bytes, (void **)&slot->memory));
        BIF_TRY(device->alloc_host(device, bytes, (void **)&slot->host));
    }
    slot->size = bytes;
done:
    if (st != BIF_OK && slot->memory != NULL) {
        device->release(device, slot->memory);
        slot->memory = NULL;
    }
    return st;
}

bif_status bif_feeder_reserve(bif_feeder *feeder, bif_device *device, size_t bytes)
{
    bif_status st = BIF_OK;
    BIF_TRY(grow(&feeder->slot[0], device, bytes));
    BIF_TRY(grow(&feeder->slot[1], device, bytes));
done:
    return st;
}

void bif_feeder_free(bif_feeder *feeder, bif_device *device)
{
    release(&feeder->slot[0], device);
    release(&feeder->slot[1], device);
}

static void fill(bif_feeder *feeder, bif_device *device, const bif_inputs_shape *shape, const bif_batch *batch, float weight)
{
    const int turn = feeder->turn;
    bif_feeder_slot *slot = &feeder->slot[turn];
    packer p = {.device = device};
    pack(&p, shape, batch, weight, &slot->inputs);
    const bif_status st = grow(slot, device, p.used);
    BIF_BUG_IF(st != BIF_OK, "the inputs of a batch: %s", bif_error_message());
    if (!on_cpu(device)) {
        device->feed_free(device, turn);
    }
    p = (packer){.device = device, .host = slot->host, .memory = slot->memory};
    pack(&p, shape, batch, weight, &slot->inputs);
    if (!on_cpu(device)) {
        device->feed(device, turn, slot->memory, slot->host, p.used);
    }
    slot->batch = batch;
    feeder->turn = 1 - turn;
}

void bif_feeder_bring(bif_feeder *feeder, bif_device *device, const bif_inputs_shape *shape, const bif_batch *batch, float weight)
{
    if (!on_cpu(device)) {
        fill(feeder, device, shape, batch, weight);
    }
}

const bif_inputs *bif_feeder_take(bif_feeder *feeder, bif_device *device, const bif_inputs_shape *shape, const bif_batch *batch, float weight)
{
    if (feeder->slot[0].batch != batch && feeder->slot[1].batch != batch) {
        fill(feeder, device, shape, batch, weight);
    }
    const int at = feeder->slot[0].batch == batch ? 0 : 1;
    feeder->slot[at].batch = NULL;
    feeder->current = at;
    if (!on_cpu(device)) {
        device->feed_wait(device, at);
    }
    return &feeder->slot[at].inputs;
}

void bif_feeder_done(bif_feeder *feeder, bif_device *device)
{
    if (!on_cpu(device)) {
        device->feed_done(device, feeder->current);
    }
}
