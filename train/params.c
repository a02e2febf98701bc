#include "train/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "kernels/convert.h"

#define ALIGN_ELEMENTS ((int64_t)16) /* 64 bytes: a cache line, and what vector loads like */
#define CHUNK_ELEMENTS ((int64_t)1 << 18) /* 1 MiB of host memory for drawing and hashing */

const char *bif_group_name(bif_group group)
{
    static const char *const names[] = {"encoder", "projector", "decoder", "text", "joint", "lora"};
    return (unsigned)group >= BIF_GROUPS ? "?" : names[group];
}

static bif_param *add(bif_params *params, const char *name, bif_group group, int rank, const int64_t *dims, bool decay,
                      bif_init init, float init_scale)
{
    BIF_BUG_IF(params->device != NULL, "parameter %s added after allocate", name);
    BIF_BUG_IF(bif_params_find(params, name) != NULL, "parameter %s added twice", name);
    BIF_BUG_IF(strlen(name) >= sizeof(params->items->name), "parameter name %s is too long", name);
    BIF_BUG_IF(rank < 0 || rank > BIF_MAX_RANK, "parameter %s has rank %d", name, rank);
    if (params->count == params->capacity) {
        params->capacity = params->capacity == 0 ? 64 : 2 * params->capacity;
        params->items = bif_realloc(params->items, (size_t)params->capacity, sizeof(*params->items));
    }
    if (params->hook == NULL) {
        params->hook = bif_calloc(1, sizeof *params->hook);
    }
    bif_param *p = &params->items[params->count++];
    memset(p, 0, sizeof(*p));
    p->hook = params->hook;
    snprintf(p->name, sizeof(p->name), "%s", name);
    p->value.dtype = params->dtype;
    p->value.rank = rank;
    int64_t numel = 1;
    for (int i = 0; i < rank; i++) {
        BIF_BUG_IF(!bif_mul_i64(numel, dims[i], &numel), "parameter %s is too large", name);
        p->value.dim[i] = dims[i];
    }
    BIF_BUG_IF(numel < 1 || numel > (int64_t)UINT32_MAX, "parameter %s has %lld elements", name, (long long)numel);
    p->grad = p->value;
    p->grad.dtype = BIF_DTYPE_F32;
    p->group = group;
    p->decay = decay;
    p->trainable = true;
    p->init = init;
    p->init_scale = init_scale;
    p->min = -INFINITY;
    p->max = INFINITY;
    return p;
}

bif_param *bif_params_add(bif_params *params, const char *name, bif_group group, int rank, const int64_t *dims, bool decay,
                          bif_init init, float init_scale)
{
    return add(params, name, group, rank, dims, decay, init, init_scale);
}

static int64_t columns(const bif_param *p)
{
    return p->value.rank == 2 ? p->value.dim[1] : 1;
}

bif_param *bif_params_add_fused(bif_params *params, const char *name, bif_group group, int rank, const int64_t *dims, bool decay,
                                bif_init init, float init_scale)
{
    BIF_BUG_IF(params->count == 0, "fused parameter %s has no predecessor", name);
    bif_param *p = add(params, name, group, rank, dims, decay, init, init_scale);
    const bif_param *before = p - 1;
    BIF_BUG_IF(rank < 1 || rank > 2 || before->value.rank != rank || columns(before) != columns(p) || before->group != group,
               "parameter %s cannot be fused with %s", name, before->name);
    p->fused = true;
    return p;
}

bif_param *bif_params_find(const bif_params *params, const char *name)
{
    for (int64_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].name, name) == 0) {
            return &params->items[i];
        }
    }
    return NULL;
}

void bif_params_train_group(bif_params *params, bif_group group, bool trainable)
{
    BIF_BUG_IF(params->device != NULL, "group %s frozen after allocate", bif_group_name(group));
    for (int64_t i = 0; i < params->count; i++) {
        if (params->items[i].group == group) {
            params->items[i].trainable = trainable;
        }
    }
}

void bif_params_set_dtype(bif_params *params, bif_dtype dtype)
{
    BIF_BUG_IF(params->device != NULL, "dtype of parameters set after allocate");
    BIF_BUG_IF(dtype != BIF_DTYPE_F32 && dtype != BIF_DTYPE_BF16, "parameters of %s", bif_dtype_name(dtype));
    params->dtype = dtype;
    for (int64_t i = 0; i < params->count; i++) {
        params->items[i].value.dtype = dtype;
    }
}

const char *bif_precision_name(bif_dtype dtype)
{
    return dtype == BIF_DTYPE_BF16 ? "bf16" : "fp32";
}

static int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Where each row starts; also the sizes of the two spaces. */
static void layout(const bif_params *params, int world, int64_t *offsets, int64_t *flat, int64_t *frozen)
{
    int64_t end[2] = {0, 0};
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        int64_t *e = &end[p->trainable ? 1 : 0];
        BIF_BUG_IF(p->fused && p->trainable != params->items[i - 1].trainable, "%s is fused with a row that is not frozen alike",
                   p->name);
        int64_t start = p->fused ? *e : round_up(*e, ALIGN_ELEMENTS);
        if (offsets != NULL) {
            offsets[i] = start;
        }
        *e = start + bif_numel(&p->value);
    }
    *flat = round_up(end[1], ALIGN_ELEMENTS * world);
    *frozen = round_up(end[0], ALIGN_ELEMENTS);
}

bif_status bif_params_allocate(bif_params *params, bif_device *device, int world)
{
    BIF_BUG_IF(params->device != NULL, "parameters allocated twice");
    BIF_BUG_IF(world < 1, "world %d", world);
    bif_status st = BIF_OK;
    int64_t *offsets = bif_calloc((size_t)params->count, sizeof(*offsets));
    layout(params, world, offsets, &params->flat, &params->frozen_elements);
    params->device = device;
    const size_t size = bif_dtype_size(params->dtype);
    if (params->flat > 0) {
        BIF_TRY(device->alloc(device, (size_t)params->flat * size, &params->values));
        BIF_TRY(device->alloc(device, (size_t)params->flat * sizeof(float), (void **)&params->grads));
    }
    if (params->frozen_elements > 0) {
        BIF_TRY(device->alloc(device, (size_t)params->frozen_elements * size, &params->frozen));
    }
    for (int64_t i = 0; i < params->count; i++) {
        bif_param *p = &params->items[i];
        p->offset = offsets[i];
        p->value.data = (char *)(p->trainable ? params->values : params->frozen) + (size_t)offsets[i] * size;
        p->grad.data = p->trainable ? params->grads + offsets[i] : NULL;
    }
done:
    free(offsets);
    return st == BIF_OK ? st : bif_fail_context(st, "parameters (%zu bytes with gradients)", bif_params_bytes(params, world));
}

void bif_params_free(bif_params *params)
{
    if (params->device != NULL) {
        void *const blocks[] = {params->values, params->grads, params->frozen};
        for (size_t i = 0; i < 3; i++) {
            if (blocks[i] != NULL) {
                params->device->release(params->device, blocks[i]);
            }
        }
    }
    free(params->items);
    free(params->hook);
    memset(params, 0, sizeof(*params));
}

size_t bif_params_bytes(const bif_params *params, int world)
{
    int64_t flat = 0, frozen = 0;
    layout(params, world, NULL, &flat, &frozen);
    return (size_t)(flat + frozen) * bif_dtype_size(params->dtype) + (size_t)flat * sizeof(float);
}

static float draw(const bif_param *p, uint64_t seed, uint64_t name_hash, uint32_t element)
{
    switch (p->init) {
    case BIF_INIT_ONE:
        return 1.0f;
    case BIF_INIT_NORMAL:
        return p->init_scale * bif_rng_normal(seed, BIF_RNG_INIT, name_hash, element);
    case BIF_INIT_UNIFORM:
        return p->init_scale * (2.0f * bif_rng_uniform(seed, BIF_RNG_INIT, name_hash, element) - 1.0f);
    case BIF_INIT_CONSTANT:
        return p->init_scale;
    default:
        return 0.0f;
    }
}

void bif_params_init(bif_params *params, uint64_t seed, unsigned groups)
{
    bif_device *device = params->device;
    float *chunk = bif_malloc((size_t)CHUNK_ELEMENTS * sizeof(float));
    params->seed = seed;
    for (int64_t i = 0; i < params->count; i++) {
        bif_param *p = &params->items[i];
        const int64_t numel = (groups >> p->group & 1) ? bif_numel(&p->value) : 0;
        const uint64_t name_hash = bif_hash_name(p->name);
        for (int64_t first = 0; first < numel; first += CHUNK_ELEMENTS) {
            const int64_t count = numel - first < CHUNK_ELEMENTS ? numel - first : CHUNK_ELEMENTS;
            for (int64_t k = 0; k < count; k++) {
                chunk[k] = draw(p, seed, name_hash, (uint32_t)(first + k));
            }
            const bif_tensor part = bif_part2(&p->value, first, count, 1);
            bif_copy_in_f32(device, &part, chunk);
        }
    }
    free(chunk);
}

void bif_params_zero_grads(bif_params *params)
{
    if (params->grads != NULL) {
        params->device->zero(params->device, params->grads, (size_t)params->flat * sizeof(float));
    }
}

static bif_tensor fused_view(const bif_param *first, int64_t count, const bif_tensor *base)
{
    bif_tensor view = *base;
    for (int64_t i = 1; i < count; i++) {
        BIF_BUG_IF(!first[i].fused, "%s does not lie behind %s", first[i].name, first->name);
        view.dim[0] += first[i].value.dim[0];
    }
    return view;
}

bif_tensor bif_params_fused_value(const bif_param *first, int64_t count)
{
    return fused_view(first, count, &first->value);
}

bif_tensor bif_params_fused_grad(const bif_param *first, int64_t count)
{
    return fused_view(first, count, &first->grad);
}

void bif_params_digest(const bif_params *params, bool which, char hex[33])
{
    bif_device *device = params->device;
    char *chunk = bif_malloc((size_t)CHUNK_ELEMENTS * sizeof(float));
    bif_digest *digest = bif_digest_new();
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        if (p->trainable != which) {
            continue;
        }
        bif_digest_update(digest, p->name, strlen(p->name) + 1);
        const int64_t numel = bif_numel(&p->value);
        for (int64_t first = 0; first < numel; first += CHUNK_ELEMENTS) {
            const int64_t count = numel - first < CHUNK_ELEMENTS ? numel - first : CHUNK_ELEMENTS;
            const bif_tensor part = bif_part2(&p->value, first, count, 1);
            device->copy_out(device, chunk, part.data, bif_bytes(&part));
            bif_digest_update(digest, chunk, bif_bytes(&part));
        }
    }
    bif_digest_finish(digest, hex);
    free(chunk);
}

int64_t bif_params_elements(const bif_params *params, bif_group group, bool trainable_only)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        if (p->group == group && (p->trainable || !trainable_only)) {
            sum += bif_numel(&p->value);
        }
    }
    return sum;
}
