/* bench_gpu_ops [DEVICE [small]]: every op at the sizes of LLaVA-1.5-7B, in GB/s beside the copy bandwidth or in TFLOP/s beside a large product, both
 * measured in the same run on random data (zeros run 13 % faster). bf16 on a GPU, f32 on the CPU. `small`: tiny sizes, to try the program.
 * A number is the best of 5 rounds of as many calls as take about 50 ms, one synchronisation a round. Bytes counted: each input once, each output
 * once. Correctness is the business of ctest -L gpu, which tests/bench/gpu.sh runs first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "kernels/convert.h"
#include "kernels/ops.h"

static bif_device *device;
static bif_dtype dtype;
static double copy_rate, product_rate; /* bytes/s, FLOP/s */
static int64_t unit;                   /* rows are divided by this when small */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Random numbers, 1 Mi of them over and over. */
static bif_tensor fresh(bif_dtype type, int64_t d0, int64_t d1)
{
    enum { CHUNK = 1 << 20 };
    static float *numbers;
    bif_tensor t = d1 > 0 ? bif_tensor2(NULL, type, d0, d1) : bif_tensor1(NULL, type, d0);
    if (device->alloc(device, bif_bytes(&t), &t.data) != BIF_OK) {
        fprintf(stderr, "bench_gpu_ops: %s\n", bif_error_message());
        exit(BIF_ERR_MEMORY);
    }
    if (numbers == NULL) {
        numbers = bif_malloc(CHUNK * sizeof *numbers);
        for (uint32_t i = 0; i < CHUNK; i++) {
            numbers[i] = bif_rng_normal(7, BIF_RNG_TEST, 0, i);
        }
    }
    const int64_t n = bif_numel(&t);
    for (int64_t at = 0; at < n && (type == BIF_DTYPE_F32 || type == BIF_DTYPE_BF16); at += CHUNK) {
        bif_tensor piece = bif_part2(&t, at, 1, n - at < CHUNK ? n - at : CHUNK);
        bif_copy_in_f32(device, &piece, numbers);
    }
    return t;
}

static void drop(bif_tensor *t)
{
    device->release(device, t->data);
    t->data = NULL;
}

static bif_tensor integers(int64_t n, int64_t below, int64_t stride)
{
    int32_t *host = bif_malloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++) {
        host[i] = (int32_t)(i * stride % below);
    }
    bif_tensor t = fresh(BIF_DTYPE_I32, n, 0);
    device->copy_in(device, t.data, host, bif_bytes(&t));
    free(host);
    return t;
}

static void report(const char *name, const char *shape, double seconds, double bytes, double flops)
{
    if (flops > 0) {
        printf("| %-28s | %-30s | %9.4f | %8.1f TFLOP/s | %5.1f %% |\n", name, shape, 1e3 * seconds, 1e-12 * flops / seconds,
               100 * flops / seconds / product_rate);
    } else {
        printf("| %-28s | %-30s | %9.4f | %8.1f GB/s    | %5.1f %% |\n", name, shape, 1e3 * seconds, 1e-9 * bytes / seconds,
               100 * bytes / seconds / copy_rate);
    }
    fflush(stdout);
}

#define TIME(seconds, call)                                                            \
    double seconds = 1e9;                                                              \
    do {                                                                               \
        call;                                                                          \
        device->sync(device);                                                          \
        double once_ = now();                                                          \
        call;                                                                          \
        device->sync(device);                                                          \
        once_ = now() - once_;                                                         \
        const int calls_ = once_ > 0.05 || unit > 1 ? 1 : (int)(0.05 / (once_ + 1e-6)) + 1; \
        for (int round_ = 0; round_ < 5; round_++) {                                   \
            const double start_ = now();                                               \
            for (int call_ = 0; call_ < calls_; call_++) {                             \
                call;                                                                  \
            }                                                                          \
            device->sync(device);                                                      \
            seconds = fmin(seconds, (now() - start_) / calls_);                        \
        }                                                                              \
    } while (0)

static char shape_text[64];
static const char *shape(const char *format, int64_t a, int64_t b, int64_t c)
{
    snprintf(shape_text, sizeof shape_text, format, (long long)a, (long long)b, (long long)c);
    return shape_text;
}

static void roofs(void)
{
    const int64_t bytes = ((int64_t)1 << 30) / unit, side = 8192 / (unit > 1 ? 32 : 1);
    bif_tensor a = fresh(BIF_DTYPE_F32, bytes / 4, 0), b = fresh(BIF_DTYPE_F32, bytes / 4, 0);
    TIME(copy, device->copy(device, b.data, a.data, (size_t)bytes));
    copy_rate = 2 * (double)bytes / copy;
    drop(&a);
    drop(&b);
    bif_tensor x = fresh(dtype, side, side), w = fresh(dtype, side, side), y = fresh(dtype, side, side);
    TIME(product, bif_linear(device, &(bif_linear_args){.x = &x, .w = &w, .y = &y}));
    product_rate = 2.0 * (double)side * (double)side * (double)side / product;
    drop(&x);
    drop(&w);
    drop(&y);
    printf("%s, %s: copy %.0f GB/s, product of %lld^3 %.1f TFLOP/s\n\n", device->name, bif_dtype_name(dtype), 1e-9 * copy_rate, (long long)side,
           1e-12 * product_rate);
    printf("| op | shape | ms | rate | of the roof |\n|---|---|---|---|---|\n");
}

static void linears(int64_t t)
{
    static const struct {
        const char *name;
        int64_t n, k;
    } layers[] = {{"qkv", 12288, 4096}, {"output", 4096, 4096}, {"gate and up", 22016, 4096}, {"down", 4096, 11008}};
    const int64_t small = unit > 1 ? 64 : 1;
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        const int64_t n = layers[i].n / small, k = layers[i].k / small;
        bif_tensor x = fresh(dtype, t, k), w = fresh(dtype, n, k), y = fresh(dtype, t, n), dw = fresh(BIF_DTYPE_F32, n, k), b = fresh(dtype, n, 0);
        bif_tensor db = fresh(BIF_DTYPE_F32, n, 0);
        const double flops = 2.0 * (double)t * (double)n * (double)k;
        char name[64];
        TIME(forward, bif_linear(device, &(bif_linear_args){.x = &x, .w = &w, .y = &y}));
        snprintf(name, sizeof name, "linear %s", layers[i].name);
        report(name, shape("%lldx%lldx%lld", t, n, k), forward, 0, flops);
        TIME(input, bif_linear_backward(device, &(bif_linear_backward_args){.w = &w, .dy = &y, .dx = &x}));
        snprintf(name, sizeof name, "linear %s, dx", layers[i].name);
        report(name, shape("%lldx%lldx%lld", t, n, k), input, 0, flops);
        TIME(weight, bif_linear_backward(device, &(bif_linear_backward_args){.x = &x, .dy = &y, .dw = &dw}));
        snprintf(name, sizeof name, "linear %s, dw += (f32)", layers[i].name);
        report(name, shape("%lldx%lldx%lld", t, n, k), weight, 0, flops);
        if (i == 0) {
            TIME(bias, bif_linear(device, &(bif_linear_args){.x = &x, .w = &w, .b = &b, .y = &y}));
            report("linear qkv with bias", shape("%lldx%lldx%lld", t, n, k), bias, 0, flops);
            TIME(column, bif_linear_backward(device, &(bif_linear_backward_args){.dy = &y, .db = &db}));
            report("bias gradient", shape("%lldx%lld", t, n, 0), column, (double)bif_bytes(&y), 0);
        }
        drop(&x);
        drop(&w);
        drop(&y);
        drop(&dw);
        drop(&b);
        drop(&db);
    }
}

/* `sequences` of `length` tokens. Backward counted as 2.5 forwards. */
static void attention(const char *name, int64_t sequences, int64_t length, int64_t heads, int64_t kv_heads, int64_t dim, bool causal)
{
    const int64_t t = sequences * length, w = (heads + 2 * kv_heads) * dim;
    int32_t *bounds = bif_malloc((size_t)(sequences + 1) * sizeof *bounds);
    for (int64_t i = 0; i <= sequences; i++) {
        bounds[i] = (int32_t)(i * length);
    }
    bif_tensor cu = bif_tensor1(bounds, BIF_DTYPE_I32, sequences + 1), there = fresh(BIF_DTYPE_I32, sequences + 1, 0);
    device->copy_in(device, there.data, bounds, bif_bytes(&cu));
    bif_tensor qkv = fresh(dtype, t, w), out = fresh(dtype, t, heads * dim), dout = fresh(dtype, t, heads * dim), dqkv = fresh(dtype, t, w);
    bif_tensor lse = fresh(BIF_DTYPE_F32, t, heads);
    const double flops = 4.0 * (double)(t * length * heads * dim) * (causal ? 0.5 : 1.0);
    const float scale = 1.0f / sqrtf((float)dim);
    char text[64];
    TIME(forward, bif_attention(device, &(bif_attention_args){.qkv = &qkv, .cu_seqlens = &cu, .bounds = &there, .heads = heads, .kv_heads = kv_heads,
                                                              .head_dim = dim, .causal = causal, .scale = scale, .out = &out, .lse = &lse}));
    snprintf(text, sizeof text, "attention %s", name);
    report(text, shape("%lld x %lld tokens, D %lld", sequences, length, dim), forward, 0, flops);
    for (int way = 0; way < 2; way++) {
        device->deterministic = way == 0;
        TIME(backward, bif_attention_backward(device, &(bif_attention_backward_args){.qkv = &qkv, .cu_seqlens = &cu, .bounds = &there, .out = &out,
                                                                                     .lse = &lse, .dout = &dout, .heads = heads,
                                                                                     .kv_heads = kv_heads, .head_dim = dim, .causal = causal,
                                                                                     .scale = scale, .dqkv = &dqkv}));
        snprintf(text, sizeof text, "backward %s%s", name, way == 0 ? "" : ", not det.");
        report(text, shape("%lld x %lld tokens, D %lld", sequences, length, dim), backward, 0, 2.5 * flops);
    }
    device->deterministic = true;
    free(bounds);
    drop(&there);
    drop(&qkv);
    drop(&out);
    drop(&dout);
    drop(&dqkv);
    drop(&lse);
}

static void norms(int64_t t, int64_t c)
{
    bif_tensor x = fresh(dtype, t, c), y = fresh(dtype, t, c), dy = fresh(dtype, t, c), dres = fresh(dtype, t, c), weight = fresh(dtype, c, 0);
    bif_tensor bias = fresh(dtype, c, 0), mean = fresh(BIF_DTYPE_F32, t, 0), rstd = fresh(BIF_DTYPE_F32, t, 0);
    bif_tensor dweight = fresh(BIF_DTYPE_F32, c, 0), dbias = fresh(BIF_DTYPE_F32, c, 0);
    const double bytes = (double)bif_bytes(&x);
    TIME(a, bif_rmsnorm(device, &(bif_rmsnorm_args){.x = &x, .weight = &weight, .eps = 1e-5f, .y = &y, .rstd = &rstd}));
    report("rmsnorm", shape("%lldx%lld", t, c, 0), a, 2 * bytes, 0);
    TIME(b, bif_rmsnorm_backward(device, &(bif_rmsnorm_backward_args){.x = &x, .weight = &weight, .rstd = &rstd, .dy = &dy, .dres = &dres, .dx = &y,
                                                                      .dweight = &dweight}));
    report("rmsnorm backward + residual", shape("%lldx%lld", t, c, 0), b, 4 * bytes, 0);
    TIME(d, bif_layernorm(device, &(bif_layernorm_args){.x = &x, .weight = &weight, .bias = &bias, .eps = 1e-5f, .y = &y, .mean = &mean, .rstd = &rstd}));
    report("layernorm", shape("%lldx%lld", t, c, 0), d, 2 * bytes, 0);
    TIME(e, bif_layernorm_backward(device, &(bif_layernorm_backward_args){.x = &x, .weight = &weight, .mean = &mean, .rstd = &rstd, .dy = &dy,
                                                                          .dres = &dres, .dx = &y, .dweight = &dweight, .dbias = &dbias}));
    report("layernorm backward + residual", shape("%lldx%lld", t, c, 0), e, 4 * bytes, 0);
    bif_tensor f32 = fresh(BIF_DTYPE_F32, t, c);
    TIME(f, bif_l2norm(device, &(bif_l2norm_args){.x = &x, .y = &f32, .inv = &rstd}));
    report("l2norm", shape("%lldx%lld", t, c, 0), f, bytes + (double)bif_bytes(&f32), 0);
    bif_tensor *const all[] = {&x, &y, &dy, &dres, &weight, &bias, &mean, &rstd, &dweight, &dbias, &f32};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        drop(all[i]);
    }
}

static void rows(int64_t t, int64_t c, int64_t f, int64_t v)
{
    bif_tensor qkv = fresh(dtype, t, 3 * c), pos = integers(t, 770, 1), weight = fresh(dtype, 128, 0), rstd = fresh(BIF_DTYPE_F32, t, c / 128);
    bif_tensor out = fresh(dtype, t, 3 * c), dweight = fresh(BIF_DTYPE_F32, 128, 0);
    TIME(rope, bif_rope(device, &(bif_rope_args){.rows = &qkv, .pos = &pos, .heads = 2 * c / 128, .head_dim = 128, .theta = 10000}));
    report("rope on q and k", shape("%lldx%lld", t, 2 * c, 0), rope, 2 * (double)bif_bytes(&qkv) * 2 / 3, 0);
    TIME(head, bif_head_rmsnorm(device, &(bif_head_rmsnorm_args){.x = &qkv, .weight = &weight, .heads = c / 128, .head_dim = 128, .eps = 1e-5f,
                                                                 .y = &out, .rstd = &rstd}));
    report("head rmsnorm", shape("%lldx%lld", t, c, 0), head, 2 * (double)bif_bytes(&qkv) / 3, 0);
    TIME(head_back, bif_head_rmsnorm_backward(device, &(bif_head_rmsnorm_backward_args){.x = &qkv, .weight = &weight, .rstd = &rstd, .dy = &out,
                                                                                        .heads = c / 128, .head_dim = 128, .dx = &out,
                                                                                        .dweight = &dweight}));
    report("head rmsnorm backward", shape("%lldx%lld", t, c, 0), head_back, 3 * (double)bif_bytes(&qkv) / 3, 0);
    drop(&qkv);
    drop(&out);
    drop(&rstd);
    bif_tensor gu = fresh(dtype, t, 2 * f), act = fresh(dtype, t, f), dact = fresh(dtype, t, f);
    TIME(swiglu, bif_swiglu(device, &(bif_swiglu_args){.gu = &gu, .y = &act}));
    report("swiglu", shape("%lldx%lld", t, f, 0), swiglu, 3 * (double)bif_bytes(&act), 0);
    TIME(swiglu_back, bif_swiglu_backward(device, &(bif_swiglu_backward_args){.gu = &gu, .dy = &dact, .dgu = &gu}));
    report("swiglu backward", shape("%lldx%lld", t, f, 0), swiglu_back, 5 * (double)bif_bytes(&act), 0);
    TIME(gelu, bif_act_backward(device, &(bif_act_backward_args){.pre = &act, .dy = &dact, .act = BIF_ACT_GELU, .dpre = &dact}));
    report("gelu backward", shape("%lldx%lld", t, f, 0), gelu, 3 * (double)bif_bytes(&act), 0);
    drop(&gu);
    drop(&act);
    drop(&dact);
    bif_tensor table = fresh(dtype, v, c), ids = integers(t, v, 7919), x = fresh(dtype, t, c), y = fresh(dtype, t, c);
    bif_tensor dtable = fresh(BIF_DTYPE_F32, v, c), order = integers(t, t, 1);
    const double bytes = (double)bif_bytes(&x);
    TIME(embedding, bif_embedding(device, &(bif_embedding_args){.table = &table, .ids = &ids, .y = &x}));
    report("embedding", shape("%lldx%lld", t, c, 0), embedding, 2 * bytes, 0);
    TIME(embedding_back, bif_embedding_backward(device, &(bif_embedding_backward_args){.ids = &ids, .dy = &x, .dtable = &dtable}));
    report("embedding backward", shape("%lldx%lld", t, c, 0), embedding_back, bytes + 8.0 * (double)(t * c), 0);
    TIME(gather, bif_gather_rows(device, &(bif_gather_rows_args){.src = &x, .index = &order, .dst = &y}));
    report("gather rows", shape("%lldx%lld", t, c, 0), gather, 2 * bytes, 0);
    TIME(scatter, bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &x, .index = &order, .dst = &y}));
    report("scatter rows", shape("%lldx%lld", t, c, 0), scatter, 2 * bytes, 0);
    bif_tensor *const all[] = {&table, &ids, &x, &y, &dtable, &order, &pos, &weight, &dweight};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        drop(all[i]);
    }
}

static void pictures(int64_t images)
{
    const int64_t side = 336, patch = 14, c = 1024, p = side / patch * (side / patch);
    bif_tensor pixels = fresh(BIF_DTYPE_U8, images * side * side * 3, 0), levels = fresh(BIF_DTYPE_F32, 3, 256);
    bif_tensor patches = fresh(dtype, images * p, 3 * patch * patch), embedded = fresh(dtype, images * p, c), cls = fresh(dtype, c, 0);
    bif_tensor pos = fresh(dtype, p + 1, c), x = fresh(dtype, images * (p + 1), c);
    pixels = bif_tensor4(pixels.data, BIF_DTYPE_U8, images, side, side, 3);
    TIME(cut, bif_patchify(device, &(bif_patchify_args){.pixels = &pixels, .table = &levels, .patch = patch, .rows = &patches}));
    report("patches of u8 pictures", shape("%lld pictures", images, 0, 0), cut, (double)bif_bytes(&pixels) + (double)bif_bytes(&patches), 0);
    TIME(embed, bif_vit_embed(device, &(bif_vit_embed_args){.patches = &embedded, .cls = &cls, .pos = &pos, .images = images, .x = &x}));
    report("class token and positions", shape("%lld pictures", images, 0, 0), embed, 2 * (double)bif_bytes(&x), 0);
    drop(&pixels);
    drop(&levels);
    drop(&patches);
    drop(&embedded);
    drop(&cls);
    drop(&pos);
    drop(&x);
}

static void losses(int64_t r, int64_t v, int64_t batch, int64_t e)
{
    bif_tensor logits = fresh(dtype, r, v), targets = integers(r, v, 7919), loss = fresh(BIF_DTYPE_F32, r, 0), index = integers(r, v, 1);
    TIME(entropy, bif_cross_entropy(device, &(bif_cross_entropy_args){.logits = &logits, .targets = &targets, .loss = &loss, .dlogits = &logits}));
    report("cross-entropy and gradient", shape("%lldx%lld", r, v, 0), entropy, 2 * (double)bif_bytes(&logits), 0);
    TIME(top, bif_argmax(device, &(bif_argmax_args){.x = &logits, .index = &index}));
    report("argmax", shape("%lldx%lld", r, v, 0), top, (double)bif_bytes(&logits), 0);
    drop(&logits);
    drop(&targets);
    drop(&loss);
    drop(&index);
    bif_tensor a = fresh(BIF_DTYPE_F32, batch, e), b = fresh(BIF_DTYPE_F32, batch, e), da = fresh(BIF_DTYPE_F32, batch, e);
    bif_tensor db = fresh(BIF_DTYPE_F32, batch, e), ds = fresh(BIF_DTYPE_F32, 1, 0), l = fresh(BIF_DTYPE_F32, batch, 0);
    TIME(pairs, bif_infonce(device, &(bif_infonce_args){.a = &a, .b = &b, .scale = 0.1f, .weight = 1e-4f, .loss = &l, .da = &da, .db = &db, .dscale = &ds}));
    report("InfoNCE one way (f32)", shape("%lldx%lldx%lld", batch, batch, e), pairs, 0, 6.0 * (double)(batch * batch * e));
    bif_tensor *const all[] = {&a, &b, &da, &db, &ds, &l};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        drop(all[i]);
    }
}

static void flat(int64_t n)
{
    const bool split = dtype == BIF_DTYPE_BF16;
    bif_tensor param = fresh(dtype, n, 0), low = fresh(BIF_DTYPE_U16, n, 0), m = fresh(BIF_DTYPE_F32, n, 0), v = fresh(BIF_DTYPE_F32, n, 0);
    bif_tensor grad = fresh(BIF_DTYPE_F32, n, 0);
    device->zero(device, v.data, bif_bytes(&v));
    TIME(adamw, bif_adamw(device, &(bif_adamw_args){.param = &param, .low = split ? &low : NULL, .m = &m, .v = &v, .grad = &grad, .lr = 1e-5, .beta1 = 0.9,
                                                    .beta2 = 0.999, .eps = 1e-8, .grad_scale = 1, .min = -INFINITY, .max = INFINITY, .step = 1}));
    report("AdamW", shape("%lld", n, 0, 0), adamw, 28.0 * (double)n, 0);
    TIME(squares, bif_sumsq(device, &grad));
    report("sum of squares", shape("%lld", n, 0, 0), squares, 4.0 * (double)n, 0);
    TIME(axpy, bif_axpy(device, 0.5f, &grad, &m));
    report("axpy", shape("%lld", n, 0, 0), axpy, 12.0 * (double)n, 0);
    drop(&param);
    drop(&low);
    drop(&m);
    drop(&v);
    drop(&grad);
}

int main(int argc, char **argv)
{
    unit = argc > 2 && strcmp(argv[2], "small") == 0 ? 256 : 1;
    const bif_status st = bif_device_open(argc > 1 ? argv[1] : "cuda", 0, &device);
    if (st != BIF_OK) {
        fprintf(stderr, "bench_gpu_ops: %s\n", bif_error_message());
        return st;
    }
    dtype = device->kind == BIF_DEVICE_CPU ? BIF_DTYPE_F32 : BIF_DTYPE_BF16;
    const bool small = unit > 1;
    const int64_t t = 8192 / unit;
    roofs();
    linears(t);
    if (small) {
        attention("causal", 2, 65, 2, 1, 128, true);
    } else {
        attention("causal", 4, 2048, 32, 32, 128, true);
        attention("causal", 1, 8192, 32, 32, 128, true);
        attention("causal", 10, 770, 32, 32, 128, true);
        attention("causal, 4 q a k", 4, 2048, 32, 8, 128, true);
        attention("causal", 16, 600, 14, 2, 64, true);
        attention("ViT-L/14-336", 32, 577, 16, 16, 64, false);
        attention("ViT-B/32", 512, 50, 12, 12, 64, false);
    }
    norms(t, small ? 256 : 4096);
    norms(2 * t, small ? 128 : 1024);
    rows(t, small ? 256 : 4096, small ? 512 : 11008, small ? 300 : 32000);
    pictures(small ? 1 : 64);
    losses(4096 / unit, small ? 1000 : 32000, 8192 / unit, small ? 64 : 512);
    flat(small ? 1000 : (int64_t)256 << 20);
    bif_device_close(device);
    return 0;
}
