#include "train/optimizer.h"

#include <math.h>
#include <string.h>

#include "kernels/convert.h"

/* 128 MiB: many a step, and each so long that what starting a collective costs (tens of microseconds a hop) does not show. */
static const int64_t BUCKET = (int64_t)32 << 20;

bif_status bif_optimizer_new(bif_optimizer *optimizer, bif_params *params, const bif_config *config, bif_comm *comm)
{
    bif_status st = BIF_OK;
    bif_device *device = params->device;
    const int64_t part = params->flat / bif_comm_world(comm);
    *optimizer = (bif_optimizer){
        .params = params,
        .moments = {.offset = part * bif_comm_rank(comm), .count = part},
        .beta1 = config->optimizer.beta1,
        .beta2 = config->optimizer.beta2,
        .eps = config->optimizer.eps,
        .weight_decay = config->optimizer.weight_decay,
        .clip_norm = config->optimizer.clip_norm,
        .comm = comm,
        .bucket = BUCKET,
        .waiting = params->flat,
    };
    BIF_TRY(device->alloc(device, (size_t)part * sizeof(float), (void **)&optimizer->moments.m));
    BIF_TRY(device->alloc(device, (size_t)part * sizeof(float), (void **)&optimizer->moments.v));
    if (params->dtype == BIF_DTYPE_BF16) {
        BIF_TRY(device->alloc(device, (size_t)part * sizeof(uint16_t), (void **)&optimizer->moments.low));
    }
done:
    return st;
}

void bif_optimizer_free(bif_optimizer *optimizer)
{
    if (optimizer->params != NULL && optimizer->params->device != NULL) {
        bif_device *device = optimizer->params->device;
        device->release(device, optimizer->moments.m);
        device->release(device, optimizer->moments.v);
        device->release(device, optimizer->moments.low);
    }
    *optimizer = (bif_optimizer){0};
}

void bif_optimizer_warm_up(bif_optimizer *optimizer)
{
    bif_params *params = optimizer->params;
    bif_tensor values = bif_tensor1(params->values, params->dtype, params->flat); /* the same on all ranks, before and after */
    if (bif_comm_overlaps(optimizer->comm)) {
        (void)bif_optimizer_reduce(optimizer, optimizer->comm);
        bif_comm_allgather(optimizer->comm, params->device, &values);
        bif_comm_wait(optimizer->comm);
    }
}

void bif_optimizer_reached(void *context, int64_t offset)
{
    bif_optimizer *optimizer = context;
    bif_params *params = optimizer->params;
    bif_tensor grads = bif_tensor1(params->grads, BIF_DTYPE_F32, params->flat);
    while (optimizer->waiting > 0) {
        const int64_t to = optimizer->waiting, from = to > optimizer->bucket ? to - optimizer->bucket : 0;
        if (from < offset) {
            return;
        }
        bif_comm_reduce_begin(optimizer->comm, params->device, &grads, from, to);
        optimizer->waiting = from;
    }
}

double bif_optimizer_reduce(bif_optimizer *optimizer, bif_comm *comm)
{
    bif_params *params = optimizer->params;
    bif_tensor grads = bif_tensor1(params->grads, BIF_DTYPE_F32, params->flat);
    bif_optimizer_reached(optimizer, 0);
    bif_comm_reduce_end(comm, params->device, &grads);
    optimizer->waiting = params->flat;
    bif_tensor mine = bif_rows(&grads, optimizer->moments.offset, optimizer->moments.count);
    bif_comm_wait(comm);
    double sum = bif_sumsq(params->device, &mine);
    bif_comm_sum_f64(comm, &sum, 1);
    return sqrt(sum);
}

void bif_optimizer_step(bif_optimizer *optimizer, bif_comm *comm, double norm, double schedule, int64_t step)
{
    bif_params *params = optimizer->params;
    const int64_t first = optimizer->moments.offset, last = first + optimizer->moments.count;
    const bool split = params->dtype == BIF_DTYPE_BF16;
    bif_tensor values = bif_tensor1(params->values, params->dtype, params->flat);
    double scale = 1.0;
    if (optimizer->clip_norm > 0.0 && norm > optimizer->clip_norm) {
        scale = optimizer->clip_norm / (norm + 1e-6); /* torch.nn.utils.clip_grad_norm_ */
    }
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *param = &params->items[i];
        if (!param->trainable) {
            continue;
        }
        int64_t from = param->offset > first ? param->offset : first;
        int64_t to = param->offset + bif_numel(&param->value);
        to = to < last ? to : last;
        if (from >= to) {
            continue;
        }
        bif_tensor value = bif_rows(&values, from, to - from);
        bif_tensor grad = bif_tensor1(params->grads + from, BIF_DTYPE_F32, to - from);
        bif_tensor m = bif_tensor1(optimizer->moments.m + (from - first), BIF_DTYPE_F32, to - from);
        bif_tensor v = bif_tensor1(optimizer->moments.v + (from - first), BIF_DTYPE_F32, to - from);
        bif_tensor low = bif_tensor1(split ? optimizer->moments.low + (from - first) : NULL, BIF_DTYPE_U16, to - from);
        bif_adamw(params->device, &(bif_adamw_args){.param = &value,
                                                    .low = split ? &low : NULL,
                                                    .grad = &grad,
                                                    .m = &m,
                                                    .v = &v,
                                                    .lr = param->lr * schedule,
                                                    .beta1 = optimizer->beta1,
                                                    .beta2 = optimizer->beta2,
                                                    .eps = optimizer->eps,
                                                    .weight_decay = param->decay ? optimizer->weight_decay : 0.0,
                                                    .grad_scale = scale,
                                                    .min = param->min,
                                                    .max = param->max,
                                                    .step = step});
    }
    bif_comm_allgather(comm, params->device, &values);
}

float bif_optimizer_scalar(void *context, const bif_param *param)
{
    const bif_optimizer *optimizer = context;
    const bif_moments *mine = &optimizer->moments;
    bif_device *device = optimizer->params->device;
    const bif_tensor first = bif_tensor1(param->value.data, param->value.dtype, 1);
    float value = 0.0f;
    bif_copy_out_f32(device, &value, &first);
    if (mine->low == NULL || !param->trainable) {
        return value;
    }
    double low = 0.0; /* the owner's; nothing from the others */
    if (param->offset >= mine->offset && param->offset < mine->offset + mine->count) {
        uint16_t half = 0;
        device->copy_out(device, &half, mine->low + (param->offset - mine->offset), sizeof half);
        low = (double)(int16_t)half;
    }
    bif_comm_sum_f64(optimizer->comm, &low, 1);
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    bits += (uint32_t)(int32_t)low;
    memcpy(&value, &bits, sizeof bits);
    return value;
}
