#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "base/file.h"
#include "base/rng.h"
#include "kernels/convert.h"
#include "train/networks.h"
#include "train/optimizer.h"
#include "split_device.h"

static const bif_model_config tiny = {
    .kind = BIF_MODEL_DECODER,
    .decoder = {.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 8, .inner = 24, .vocab = 32, .positions = 64, .eps = 1e-5f,
                .rope_theta = 1e4f, .bos = 1, .eos = 2},
    .image_token = -1,
    .pad_token = -1};
static bif_comm *comm;
static bif_device split;

static void setup(void)
{
    cr_assert_eq(bif_comm_start(NULL, NULL, &comm), BIF_OK);
    split = split_device();
}

static void teardown(void)
{
    bif_device_close(split_cpu);
    bif_comm_finish(comm);
}

TestSuite(optimizer, .init = setup, .fini = teardown);

typedef struct {
    bif_vlm model;
    bif_optimizer optimizer;
} trained;

static void begin(trained *t, bif_device *device, bif_dtype dtype)
{
    bif_config config = {0};
    config.optimizer.beta1 = 0.9;
    config.optimizer.beta2 = 0.95;
    config.optimizer.eps = 1e-8;
    config.optimizer.weight_decay = 0.1;
    config.optimizer.clip_norm = 1.0;
    bif_vlm_declare(&t->model, &tiny);
    bif_params *params = &t->model.params;
    bif_params_set_dtype(params, dtype);
    for (int64_t i = 0; i < params->count; i++) {
        params->items[i].lr = 1e-3;
    }
    bif_param *limited = bif_params_find(params, "model.norm.weight"); /* starts at 1 */
    limited->min = 0.9995f;
    limited->max = 1.0005f;
    cr_assert_eq(bif_vlm_allocate(&t->model, device, 1), BIF_OK);
    bif_params_init(params, 3, ~0u);
    cr_assert_eq(bif_optimizer_new(&t->optimizer, params, &config, comm), BIF_OK);
}

static void end(trained *t)
{
    bif_optimizer_free(&t->optimizer);
    bif_vlm_free(&t->model);
}

static void steps(trained *t, int64_t from, int64_t to)
{
    bif_params *params = &t->model.params;
    for (int64_t step = from; step < to; step++) {
        for (int64_t i = 0; i < params->count; i++) {
            float *grad = params->items[i].grad.data;
            for (int64_t k = 0; k < bif_numel(&params->items[i].grad); k++) {
                grad[k] = bif_rng_normal((uint64_t)step, BIF_RNG_INIT, (uint64_t)i, (uint32_t)k);
            }
        }
        const double norm = bif_optimizer_reduce(&t->optimizer, comm);
        bif_optimizer_step(&t->optimizer, comm, norm, 1.0, step + 1);
    }
}

/* From the same start the masters of bf16 values go the way of f32 values to the bit, and a value is its master rounded. */
Test(optimizer, masters_of_bf16_values_are_exact)
{
    trained whole, halves;
    begin(&whole, split_cpu, BIF_DTYPE_F32);
    begin(&halves, &split, BIF_DTYPE_BF16);
    const int64_t flat = whole.model.params.flat;
    float *values = whole.model.params.values;
    const uint16_t *high = halves.model.params.values, *low = halves.optimizer.moments.low;
    cr_assert_not_null(low);
    cr_expect_null(whole.optimizer.moments.low);
    for (int64_t i = 0; i < flat; i++) {
        cr_assert_eq(high[i], bif_to_bf16(values[i]), "drawn and rounded");
        values[i] = bif_from_bf16(high[i]);
    }
    steps(&whole, 0, 30);
    steps(&halves, 0, 30);
    int64_t rests = 0;
    for (int64_t i = 0; i < flat; i++) {
        cr_assert_eq(split_join(high[i], low[i]), values[i], "element %lld", (long long)i);
        cr_assert_leq(fabsf(bif_from_bf16(high[i]) - values[i]), fabsf(values[i]) / 256);
        rests += low[i] != 0;
    }
    cr_expect_gt(rests, flat / 2);
    for (int64_t i = 0; i < halves.model.params.count; i++) {
        const bif_param *row = &halves.model.params.items[i];
        cr_assert_eq(bif_optimizer_scalar(&halves.optimizer, row), values[row->offset], "%s", row->name);
    }
    const bif_param *limited = bif_params_find(&whole.model.params, "model.norm.weight");
    const float *norm = limited->value.data;
    int64_t at_limit = 0;
    for (int64_t i = 0; i < bif_numel(&limited->value); i++) {
        cr_expect(norm[i] >= limited->min && norm[i] <= limited->max, "%g", (double)norm[i]);
        at_limit += norm[i] == limited->min || norm[i] == limited->max;
    }
    cr_expect_gt(at_limit, 0);
    cr_expect_eq(norm[0], split_join(high[limited->offset], low[limited->offset]), "the limit holds for the master");
    end(&whole);
    end(&halves);
}

static void expect_same(const trained *a, const trained *b)
{
    const size_t flat = (size_t)a->model.params.flat;
    cr_expect_arr_eq(a->model.params.values, b->model.params.values, flat * 2);
    cr_expect_arr_eq(a->optimizer.moments.m, b->optimizer.moments.m, flat * 4);
    cr_expect_arr_eq(a->optimizer.moments.v, b->optimizer.moments.v, flat * 4);
    cr_expect_arr_eq(a->optimizer.moments.low, b->optimizer.moments.low, flat * 2);
}

Test(optimizer, a_resumed_bf16_run_is_the_uninterrupted_one)
{
    char folder[] = "/tmp/bif-optimizer-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    trained straight, resumed, other;
    bif_run_state state = {.step = 10}, back;
    char *path = NULL;
    begin(&straight, &split, BIF_DTYPE_BF16);
    steps(&straight, 0, 10);
    const bif_moments *moments = &straight.optimizer.moments;
    cr_assert_eq(bif_checkpoint_save(comm, &split, folder, &tiny, &straight.model.params, NULL, moments, &state, NULL, 1), BIF_OK, "%s",
                 bif_error_message());
    steps(&straight, 10, 20);
    cr_assert_eq(bif_checkpoint_find(comm, folder, &path), BIF_OK);
    begin(&resumed, &split, BIF_DTYPE_BF16);
    steps(&resumed, 100, 103); /* what the load must replace */
    cr_assert_eq(bif_checkpoint_load(comm, &split, path, &resumed.model.params, &resumed.optimizer.moments, &back), BIF_OK, "%s",
                 bif_error_message());
    cr_expect_eq(back.dtype, BIF_DTYPE_BF16);
    steps(&resumed, 10, 20);
    expect_same(&straight, &resumed);
    begin(&other, split_cpu, BIF_DTYPE_F32);
    cr_expect_eq(bif_checkpoint_load(comm, split_cpu, path, &other.model.params, &other.optimizer.moments, &back), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "was trained in bf16, this run would go on in fp32; set precision: bf16 and device: cuda"),
                       "%s", bif_error_message());
    end(&straight);
    end(&resumed);
    end(&other);
    bif_remove_tree(folder);
    free(path);
}
