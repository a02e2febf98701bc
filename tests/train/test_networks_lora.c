/* Adapters of the decoder: dropout against PEFT with the same masks, what a mask does not depend on, and the table. */
#include "base/rng.h"
#include "tests/train/network_case.h"
#include "train/lora.h"

static const uint64_t places[] = {3, ((uint64_t)1 << 32) + 5, ((uint64_t)1 << 31) + 1}; /* make_lora.py */

static network_case open_dropout(unsigned frozen, uint64_t seed)
{
    network_case c = case_open("lora_dropout", frozen);
    bif_vlm_drop(&c.vlm, seed);
    c.batch.place = (uint64_t *)places;
    return c;
}

static float *gradients(const network_case *c)
{
    const size_t bytes = (size_t)c->vlm.params.flat * sizeof(float);
    float *out = bif_malloc(bytes);
    memcpy(out, c->vlm.params.grads, bytes);
    return out;
}

/* One sequence of the batch, as a batch of its own. */
static bif_batch sequence(const bif_batch *b, int64_t s, int32_t cu[2], int32_t *rows)
{
    const int32_t from = b->cu_seqlens[s], to = b->cu_seqlens[s + 1];
    bif_batch one = {.tokens = to - from, .sequences = 1, .ids = b->ids + from, .pos = b->pos + from, .labels = b->labels + from,
                     .image_row = b->image_row + from, .cu_seqlens = cu, .rows = rows, .eot = b->eot + s, .place = b->place + s};
    cu[0] = 0, cu[1] = to - from;
    for (int64_t i = 0; i < b->supervised; i++) {
        if (b->rows[i] >= from && b->rows[i] < to) {
            one.targets = one.supervised == 0 ? b->targets + i : one.targets;
            rows[one.supervised++] = b->rows[i] - from;
        }
    }
    return one;
}

Test(networks_lora, dropout)
{
    network_case c = open_dropout(0, 42);
    const float weight = 1.0f / (float)c.batch.supervised;
    int64_t count = 0;
    float *wanted = golden_floats(c.file, "out.", "loss", &count);
    bif_loss loss, without;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, weight, true, &loss);
    cr_expect_float_eq(loss.loss_sum * (double)weight, (double)wanted[0], 1e-5);
    expect_gradients(&c.vlm.params, c.file, 1e-5);
    float *whole = gradients(&c);

    /* A forward without a backward is an evaluation. */
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, weight, false, &without);
    cr_expect(fabs(without.loss_sum - loss.loss_sum) > 1e-2 * loss.loss_sum);

    /* The same bits when blocks are run again. */
    bif_params_zero_grads(&c.vlm.params);
    c.vlm.recompute = true;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, weight, true, &loss);
    cr_expect(memcmp(whole, c.vlm.params.grads, (size_t)c.vlm.params.flat * sizeof(float)) == 0, "recomputed gradients differ");
    c.vlm.recompute = false;

    /* The same masks when the sequences are micro-batches of their own, as on other ranks, in another order. */
    bif_params_zero_grads(&c.vlm.params);
    double sum = 0.0;
    for (int64_t s = c.batch.sequences; s-- > 0;) {
        int32_t cu[2], rows[64];
        const bif_batch one = sequence(&c.batch, s, cu, rows);
        bif_loss part;
        bif_vlm_step(&c.vlm, c.device, &c.arena, &one, weight, true, &part);
        sum += part.loss_sum;
    }
    cr_expect_float_eq(sum * (double)weight, (double)wanted[0], 1e-5);
    expect_gradients(&c.vlm.params, c.file, 1e-5);

    free(whole);
    free(wanted);
    case_close(&c);
}

/* ---- one adapter alone: y is linear in each of x, A and B, so that central differences are exact ---- */

enum { ROWS = 9 };

typedef struct {
    bif_lora_acts acts;
    bif_lora_at at;
    bif_lora_target target;
    bif_tensor x, y, weights;
    int64_t first;
} adapter;

static bif_tensor random_matrix(bif_arena *arena, int64_t rows, int64_t columns, uint64_t seed)
{
    const bif_tensor t = bif_take2(arena, BIF_DTYPE_F32, rows, columns);
    for (int64_t i = 0; i < rows * columns; i++) {
        ((float *)t.data)[i] = bif_rng_normal(seed, BIF_RNG_TEST, 0, (uint32_t)i);
    }
    return t;
}

static double weighted_sum(adapter *a)
{
    double sum = 0.0;
    memset(a->y.data, 0, bif_bytes(&a->y));
    bif_lora_forward(&a->at, a->target, &a->x, &a->y, a->first);
    for (int64_t i = 0; i < bif_numel(&a->y); i++) {
        sum += (double)((float *)a->y.data)[i] * (double)((float *)a->weights.data)[i];
    }
    return sum;
}

/* d of the sum along a random direction of `values`, against the gradient's product with it. */
static void expect_slope(const char *what, adapter *a, bif_tensor *values, const float *gradient)
{
    const int64_t n = bif_numel(values);
    float *x = values->data, *const before = bif_malloc((size_t)n * sizeof *before);
    double slope = 0.0, size = 0.0, sum[2];
    memcpy(before, x, (size_t)n * sizeof *before);
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < n; i++) {
            const float d = bif_rng_normal(99, BIF_RNG_TEST, 1, (uint32_t)i);
            x[i] = side == 0 ? before[i] + d : before[i] - d;
            slope += side == 0 ? (double)d * (double)gradient[i] : 0.0;
            size += side == 0 ? fabs((double)d * (double)gradient[i]) : 0.0;
        }
        sum[side] = weighted_sum(a);
    }
    memcpy(x, before, (size_t)n * sizeof *before);
    cr_expect(size > 0.0 && fabs((sum[0] - sum[1]) / 2 - slope) <= 2e-5 * size, "%s of %s: %.9g, by differences %.9g", what,
              bif_lora_name(a->target), slope, (sum[0] - sum[1]) / 2);
    free(before);
}

static void expect_adapter(network_case *c, bif_lora_target target, bool dropout)
{
    const bif_decoder_config *config = &c->vlm.config.decoder;
    const int64_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim, f = config->inner;
    const int64_t firsts[BIF_LORA_TARGETS] = {0, q, q + kv, 0, 0, f, 0};
    const bif_lora *lora = &c->vlm.decoder.layer[1].lora[target];
    const int64_t in = lora->a->value.dim[1], out = lora->b->value.dim[0];
    const int64_t width = target < BIF_LORA_O ? q + 2 * kv : target == BIF_LORA_GATE || target == BIF_LORA_UP ? 2 * f : out;
    bif_arena arena = arena_of(c->device, 1u << 20);
    adapter a = {.target = target, .first = firsts[target], .acts = bif_lora_plan(config, BIF_DTYPE_F32, &arena, ROWS, true)};
    bif_tensor index = bif_take2(&arena, BIF_DTYPE_I32, ROWS, 2), dx = random_matrix(&arena, ROWS, in, 3);
    float *dx_before = bif_malloc(bif_bytes(&dx));
    memcpy(dx_before, dx.data, bif_bytes(&dx));
    for (int i = 0; i < 2 * ROWS; i++) {
        ((int32_t *)index.data)[i] = 31 * i;
    }
    a.acts.seed = 5;
    a.at = (bif_lora_at){config, c->device, c->vlm.decoder.layer[1].lora, &a.acts, dropout ? &index : NULL, 1};
    a.x = random_matrix(&arena, ROWS, in, 1);
    a.y = bif_take2(&arena, BIF_DTYPE_F32, ROWS, width);
    a.weights = random_matrix(&arena, ROWS, width, 2);
    bif_params_zero_grads(&c->vlm.params);
    bif_lora_backward(&a.at, target, &a.x, &a.weights, a.first, &dx);
    for (int64_t i = 0; i < bif_numel(&dx); i++) { /* it was added */
        ((float *)dx.data)[i] -= dx_before[i];
    }
    expect_slope("dx", &a, &a.x, dx.data);
    expect_slope("dA", &a, &lora->a->value, lora->a->grad.data);
    expect_slope("dB", &a, &lora->b->value, lora->b->grad.data);
    weighted_sum(&a);
    for (int64_t i = 0; i < ROWS * width; i++) { /* other targets' columns stay */
        const int64_t column = i % width;
        cr_assert((column >= a.first && column < a.first + out) || ((float *)a.y.data)[i] == 0.0f);
    }
    free(dx_before);
    c->device->release(c->device, arena.base);
}

Test(networks_lora, slopes)
{
    network_case all = case_open("lora_dropout", 0), few = case_open("lora_qwen3", 0);
    for (int i = 0; i < BIF_LORA_TARGETS; i++) {
        expect_adapter(&all, (bif_lora_target)i, false);
        expect_adapter(&all, (bif_lora_target)i, true);
    }
    expect_adapter(&few, BIF_LORA_Q, false);
    expect_adapter(&few, BIF_LORA_V, false);
    expect_adapter(&few, BIF_LORA_UP, false);
    case_close(&all);
    case_close(&few);
}

/* Another seed or another place: another loss. */
Test(networks_lora, masks_differ)
{
    network_case c = open_dropout(1u << BIF_GROUP_DECODER, 42);
    uint64_t elsewhere[] = {4, 6, 8};
    bif_loss loss[4];
    for (int i = 0; i < 4; i++) {
        bif_vlm_drop(&c.vlm, i == 1 ? 43 : 42);
        c.batch.place = i == 2 ? elsewhere : (uint64_t *)places;
        bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f, true, &loss[i]);
    }
    cr_expect(loss[0].loss_sum != loss[1].loss_sum && loss[0].loss_sum != loss[2].loss_sum && loss[0].loss_sum == loss[3].loss_sum);
    case_close(&c);
}

/* The flat space is finished from its end to its beginning, block by block, also where a block's first rows are frozen. */
static struct {
    int64_t offset[8];
    int count;
} told;

static void reached(void *context, int64_t offset)
{
    (void)context;
    told.offset[told.count++ & 7] = offset;
}

Test(networks_lora, gradients_are_announced)
{
    network_case c = open_dropout(1u << BIF_GROUP_DECODER, 42);
    bif_loss loss;
    c.vlm.params.hook->reached = reached;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f, true, &loss);
    cr_expect_eq(told.count, 2);
    cr_expect_eq(told.offset[0], c.vlm.decoder.layer[1].lora[0].a->offset);
    cr_expect_eq(told.offset[1], 0);
    cr_expect_gt(told.offset[0], 0);
    case_close(&c);
}

Test(networks_lora, table)
{
    bif_model_config config = case_config("lora_qwen3");
    bif_vlm vlm;
    bif_vlm_declare(&vlm, &config);
    int64_t adapters = 0;
    for (int64_t i = 0; i < vlm.params.count; i++) {
        const bif_param *p = &vlm.params.items[i];
        cr_expect_eq(strstr(p->name, "lora_") != NULL, p->group == BIF_GROUP_LORA, "%s", p->name);
        adapters += p->group == BIF_GROUP_LORA;
    }
    cr_expect_eq(adapters, 2 * 2 * 3);
    const bif_param *a = bif_params_find(&vlm.params, "model.layers.1.mlp.up_proj.lora_A.weight");
    const bif_param *b = bif_params_find(&vlm.params, "model.layers.1.self_attn.v_proj.lora_B.weight");
    cr_assert(a != NULL && b != NULL);
    cr_expect(a->init == BIF_INIT_UNIFORM && a->init_scale == 0.25f && a->decay && a->value.dim[0] == 3 && a->value.dim[1] == 16);
    cr_expect(b->init == BIF_INIT_ZERO && b->decay && b->value.dim[0] == 16 && b->value.dim[1] == 3);
    bif_vlm_free(&vlm);

    config.decoder.lora.rank = 0; /* the rest of the numbers then means nothing */
    bif_vlm_declare(&vlm, &config);
    cr_expect_eq(bif_params_elements(&vlm.params, BIF_GROUP_LORA, false), 0);
    bif_vlm_free(&vlm);

    /* LLaVA 1.5 7B with the authors' recipe: 319,815,680 parameters in adapters, all in the decoder. */
    const bif_model_config llava = {
        .kind = BIF_MODEL_LLAVA,
        .vit = {.hidden = 1024, .layers = 24, .heads = 16, .inner = 4096, .patch = 14, .image = 336, .eps = 1e-5f},
        .projector = {.kind = BIF_PROJECTOR_MLP, .depth = 2, .in = 1024, .out = 4096},
        .decoder = {.hidden = 4096, .layers = 32, .heads = 32, .kv_heads = 32, .head_dim = 128, .inner = 11008, .vocab = 32000,
                    .lora = {.rank = 128, .alpha = 256, .dropout = 0.05f, .targets = (1u << BIF_LORA_TARGETS) - 1}},
        .feature_layer = -2};
    bif_vlm_declare(&vlm, &llava);
    cr_expect_eq(bif_params_elements(&vlm.params, BIF_GROUP_LORA, false), 319815680);
    bif_vlm_free(&vlm);
}

/* New adapters change nothing: B is zero. */
Test(networks_lora, new_adapters_are_silent)
{
    network_case c = case_open("lora_llama", 0), base = {0};
    bif_params_init(&c.vlm.params, 1, 1u << BIF_GROUP_LORA);
    bif_model_config config = case_config("lora_llama");
    config.decoder.lora = (bif_lora_config){0};
    bif_vlm_declare(&base.vlm, &config);
    cr_assert_eq(bif_vlm_allocate(&base.vlm, c.device, 1), BIF_OK);
    load_weights(&base.vlm.params, c.file);
    bif_loss with, without;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f, false, &with);
    bif_vlm_step(&base.vlm, c.device, &c.arena, &c.batch, 1.0f, false, &without);
    cr_expect_eq(with.loss_sum, without.loss_sum);
    bif_vlm_free(&base.vlm);
    case_close(&c);
}
