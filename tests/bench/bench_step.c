/* bench_step [threads [device]]: one stage-2 step of the quickstart's size (frozen encoder), forward and backward,
 * against the matrix product of the same run. Prints milliseconds, GFLOP/s of useful work (products that the algorithm
 * needs; attention counted causal) and their share of the peak. Both are the best of several runs, taken in turn, so
 * that other load on the machine hits both. Then the share of each op in the mean of as many steps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "train/build.h"

#define SEQUENCES 32
#define TEXT 40
#define SUPERVISED 24
#define ROUNDS 12

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The device's table with a clock around every op. */
static const bif_ops_table *inner;
static struct {
    const char *name;
    double seconds;
} spent[64];
enum {
#define X(op) AT_##op,
    BIF_OPS(X)
#undef X
        AT_COUNT
};
#define X(op)                                                               \
    static void timed_##op(bif_device *device, const bif_##op##_args *args) \
    {                                                                       \
        const double start = now();                                         \
        inner->op(device, args);                                            \
        device->sync(device);                                               \
        spent[AT_##op].name = #op;                                          \
        spent[AT_##op].seconds += now() - start;                            \
    }
BIF_OPS(X)
#undef X

static bif_ops_table timed_table(const bif_ops_table *table)
{
    inner = table;
    bif_ops_table timed = *table;
#define X(op) timed.op = timed_##op;
    BIF_OPS(X)
#undef X
    return timed;
}

static void die(bif_status st)
{
    if (st != BIF_OK) {
        fprintf(stderr, "bench_step: %s\n", bif_error_message());
        exit(st);
    }
}

static bif_model_config quickstart(void)
{
    return (bif_model_config){.kind = BIF_MODEL_LLAVA,
                              .vit = {.hidden = 128,
                                      .layers = 4,
                                      .heads = 4,
                                      .inner = 512,
                                      .patch = 8,
                                      .image = 64,
                                      .eps = 1e-5f,
                                      .act = BIF_ACT_QUICK_GELU},
                              .decoder = {.hidden = 128,
                                          .layers = 4,
                                          .heads = 4,
                                          .kv_heads = 4,
                                          .head_dim = 32,
                                          .inner = 384,
                                          .vocab = 512,
                                          .positions = 512,
                                          .eps = 1e-5f,
                                          .rope_theta = 10000,
                                          .tied = true,
                                          .bos = -1,
                                          .eos = -1},
                              .projector = {.kind = BIF_PROJECTOR_MLP, .depth = 2, .in = 128, .out = 128},
                              .feature_layer = -1,
                              .cls_patch = true,
                              .image_token = 3,
                              .pad_token = -1};
}

static bif_batch make_batch(const bif_model_config *config)
{
    const int64_t per_image = bif_tokens_per_image(config), length = per_image + TEXT, tokens = SEQUENCES * length;
    const int64_t bytes = SEQUENCES * 3 * config->vit.image * config->vit.image;
    bif_batch b = {.tokens = tokens, .sequences = SEQUENCES, .images = SEQUENCES};
    int32_t **const ints[] = {&b.ids, &b.pos, &b.labels, &b.image_row, &b.rows, &b.targets};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        *ints[i] = bif_calloc((size_t)tokens, sizeof(int32_t));
    }
    b.cu_seqlens = bif_calloc(SEQUENCES + 1, sizeof(int32_t));
    b.pixels = bif_malloc((size_t)bytes);
    for (int64_t i = 0; i < bytes; i++) {
        b.pixels[i] = (uint8_t)(256.0f * bif_rng_uniform(1, BIF_RNG_TEST, 0, (uint32_t)i));
    }
    for (int64_t t = 0; t < tokens; t++) {
        const int64_t s = t / length, at = t % length;
        b.pos[t] = (int32_t)at;
        b.image_row[t] = at >= 4 && at < 4 + per_image ? (int32_t)(s * per_image + at - 4) : -1;
        b.ids[t] = b.image_row[t] >= 0 ? config->image_token : (int32_t)(4 + (t * 37) % (config->decoder.vocab - 4));
        if (at + 1 < length && at + 1 >= length - SUPERVISED) {
            b.rows[b.supervised] = (int32_t)t;
            b.targets[b.supervised++] = (int32_t)((t * 53) % config->decoder.vocab);
        }
        b.cu_seqlens[s + 1] = (int32_t)((s + 1) * length);
    }
    return b;
}

/* GFLOP of the products of one step. Trained parts count three times (forward, two gradients); the last block's MLP and
 * output projection run on the supervised rows only. */
static double useful(const bif_model_config *config, const bif_batch *b)
{
    const bif_vit_config *v = &config->vit;
    const bif_decoder_config *d = &config->decoder;
    const double patches = (double)(v->image / v->patch * (v->image / v->patch)), seen = (patches + 1) * SEQUENCES;
    const double cv = (double)v->hidden, fv = (double)v->inner, c = (double)d->hidden, f = (double)d->inner,
                 t = (double)b->tokens;
    const double r = (double)b->supervised, length = t / SEQUENCES,
                 w = (double)((d->heads + 2 * d->kv_heads) * d->head_dim);
    const double q = (double)(d->heads * d->head_dim), layers = (double)d->layers;
    double mac = patches * SEQUENCES * 3 * (double)(v->patch * v->patch) * cv;
    mac += (double)bif_feature_blocks(config) * (seen * (4 * cv * cv + 2 * cv * fv) + 2 * seen * (patches + 1) * cv);
    mac +=
        (double)(SEQUENCES * bif_tokens_per_image(config)) * (2 * cv * c + 3 * c * c); /* no gradient of the features */
    mac += 3 * t * layers * c * w + 3 * (t * (layers - 1) + r) * (q * c + 3 * c * f) + 3 * r * c * (double)d->vocab;
    mac += layers * t * length / 2 * q * (2 + 5); /* scores, sum; backward: scores again, dv, dp, dq, dk */
    return 2e-9 * mac;
}

int main(int count, char **values)
{
    bif_device *device = NULL;
    die(bif_device_open(count > 2 ? values[2] : "cpu", count > 1 ? atoi(values[1]) : 0, &device));
    const bif_model_config config = quickstart();
    bif_vlm vlm;
    bif_vlm_declare(&vlm, &config);
    bif_params_train_group(&vlm.params, BIF_GROUP_ENCODER, false);
    die(bif_vlm_allocate(&vlm, device, 1));
    bif_params_init(&vlm.params, 1, ~0u);
    const bif_preprocess clip = bif_preprocess_clip(config.vit.image);
    die(bif_build_table(&clip, device, &vlm.vit));
    const bif_batch batch = make_batch(&config);
    const bif_batch_limits limits = {.tokens = batch.tokens, .sequences = SEQUENCES, .images = SEQUENCES};
    void *memory = NULL, *matrices = NULL;
    const size_t size = bif_vlm_measure(&vlm, device, &limits, true);
    die(device->alloc(device, size, &memory));
    bif_arena arena = bif_arena_over("step", memory, size);

    const int64_t side = 1024;
    die(device->alloc(device, (size_t)(3 * side * side) * sizeof(float), &matrices));
    float *const m = matrices;
    bif_tensor x = bif_tensor2(m, BIF_DTYPE_F32, side, side),
               w = bif_tensor2(m + side * side, BIF_DTYPE_F32, side, side);
    bif_tensor y = bif_tensor2(m + 2 * side * side, BIF_DTYPE_F32, side, side);

    double step = 1e9, product = 1e9;
    bif_loss loss = {0};
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        bif_vlm_step(&vlm, device, &arena, &batch, 1.0f / (float)batch.supervised, true, &loss);
        device->sync(device);
        step = fmin(step, now() - start);
        start = now();
        bif_linear(device, &(bif_linear_args){.x = &x, .w = &w, .y = &y});
        device->sync(device);
        product = fmin(product, now() - start);
    }
    const double mean = loss.loss_sum / (double)loss.supervised;
    if (!(fabs(mean - log((double)config.decoder.vocab)) < 0.5)) {
        fprintf(stderr, "bench_step: the loss of a new model is %g, ln(vocab) is %g\n", mean,
                log((double)config.decoder.vocab));
        return BIF_ERR_BUG;
    }
    const double work = useful(&config, &batch), peak = 2e-9 * (double)(side * side * side) / product;
    printf("%s: %lld tokens, %lld supervised, %d pictures, %.1f MB of activations\n", device->name,
           (long long)batch.tokens, (long long)batch.supervised, SEQUENCES, 1e-6 * (double)size);
    printf("step %.2f ms, %.3f GFLOP, %.1f GFLOP/s, %.0f %% of the product's %.1f\n", 1e3 * step, work, work / step,
           100 * work / step / peak, peak);
    const bif_ops_table timed = timed_table(device->ops);
    device->ops = &timed;
    const double start = now();
    for (int round = 0; round < ROUNDS; round++) {
        bif_vlm_step(&vlm, device, &arena, &batch, 1.0f / (float)batch.supervised, true, &loss);
    }
    const double whole = now() - start;
    double rest = whole;
    for (int i = 0; i < AT_COUNT; i++) {
        if (spent[i].seconds > 0) {
            printf("  %5.1f %% %s\n", 100 * spent[i].seconds / whole, spent[i].name);
            rest -= spent[i].seconds;
        }
    }
    printf("  %5.1f %% outside the ops\n", 100 * rest / whole);
    return 0;
}
