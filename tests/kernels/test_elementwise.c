/* simd.h, SwiGLU, RoPE and the flat ops against double. */
#include "kernels/simd.h"
#include "ref.h"

Test(elementwise, exp_sigmoid_log1p)
{
    for (int i = 0; i < 200000; i++) {
        float x = -87.0f + (float)i * (175.0f / 200000);
        double e = exp((double)x), s = 1 / (1 + exp(-(double)x)), u = i / 200000.0;
        cr_assert(fabs(bif_simd_exp(x) - e) <= 3e-7 * e, "exp %g", (double)x);
        cr_assert(fabs(bif_simd_sigmoid(x) - s) <= 4e-7 * s, "sigmoid %g: %g", (double)x, (double)bif_simd_sigmoid(x));
        cr_assert(fabs(bif_simd_log1p((float)u) - log1p((double)(float)u)) <= 3e-7 * log1p(u), "log1p %g", u);
    }
    cr_assert(bif_simd_exp(-INFINITY) == 0 && bif_simd_exp(-100.0f) == 0 && isinf(bif_simd_exp(100.0f)) && bif_simd_exp(0) == 1);
    cr_assert(isinf(bif_simd_exp(INFINITY)) && isnan(bif_simd_exp(NAN)) && isnan(bif_simd_sigmoid(NAN)));
    cr_assert(bif_simd_sigmoid(-200.0f) == 0 && bif_simd_sigmoid(200.0f) == 1);
}

Test(elementwise, phi)
{
    for (int i = 0; i <= 200000; i++) {
        float x = -12.0f + (float)i * (24.0f / 200000), gauss;
        double wanted = 0.5 * erfc(-(double)x / sqrt(2)), got = bif_simd_phi(x, &gauss);
        cr_assert(fabs(got - wanted) <= 2e-7, "phi %g: %g, wanted %g", (double)x, got, wanted);
        if (x < -0.5f && x > -5.0f) {
            cr_assert(fabs(got - wanted) <= 2e-6 * wanted, "tail of phi %g: %g, wanted %g", (double)x, got, wanted);
        }
    }
}

/* ---- SwiGLU ---- */

typedef struct {
    int64_t t, f;
    double *gu;
} glu;

static double glu_value(const glu *a, int64_t r, int64_t i)
{
    double g = a->gu[r * 2 * a->f + i], u = a->gu[r * 2 * a->f + a->f + i];
    return g / (1 + exp(-g)) * u;
}

static double glu_loss(void *context)
{
    glu *a = context;
    double sum = 0;
    for (int64_t i = 0; i < a->t * a->f; i++) {
        sum += glu_value(a, i / a->f, i % a->f) * ref_normal(9, i);
    }
    return sum;
}

Test(elementwise, swiglu)
{
    for (int i = 0; i < REF_SIZES * REF_SIZES; i++) {
        int64_t t = ref_sizes[i / REF_SIZES], f = ref_sizes[i % REF_SIZES];
        if (t * f > REF_MOST) {
            continue;
        }
        bif_tensor gu = ref_f32(t, 2 * f, 1), dy = ref_f32(t, f, 9);
        glu a = {t, f, ref_double(&gu)};
        double *y = ref_zeros(t * f);
        for (int64_t j = 0; j < t * f; j++) {
            y[j] = glu_value(&a, j / f, j % f);
        }
        REF_EACH_DEVICE (device) {
            bif_tensor got = ref_f32(t, f, 0), apart = ref_f32(t, 2 * f, 0), same = ref_copy(&gu);
            bif_swiglu(device, &(bif_swiglu_args){.gu = &gu, .y = &got});
            bif_swiglu_backward(device, &(bif_swiglu_backward_args){.gu = &gu, .dy = &dy, .dgu = &apart});
            bif_swiglu_backward(device, &(bif_swiglu_backward_args){.gu = &same, .dy = &dy, .dgu = &same});
            ref_close("y", got.data, y, t * f, ref_stored(1e-6));
            ref_gradient("dgu", glu_loss, &a, a.gu, 2 * t * f, apart.data, NULL, ref_stored(1e-5));
            cr_assert_eq(memcmp(apart.data, same.data, bif_bytes(&gu)), 0);
        }
        ref_done();
    }
}

/* ---- RoPE ---- */

static void rope_case(int64_t t, int64_t d, int32_t low, int32_t high)
{
    int64_t w = 2 * d + 5;
    bif_tensor rows = ref_f32(t, w, 1), pos = ref_i32(t, low, high, 2);
    double *wanted = ref_double(&rows), *back = ref_double(&rows);
    for (int64_t r = 0; r < t; r++) {
        for (int64_t h = 0; h < 2; h++) {
            for (int64_t i = 0; i < d / 2; i++) {
                /* the angle in f32, as written in ops.h's reference models; its cosine in double */
                double angle = (float)((const int32_t *)pos.data)[r] * (float)pow(10000, -2.0 * (double)i / (double)d);
                double *a = wanted + r * w + h * d + i, *b = a + d / 2, p = *a, q = *b;
                *a = p * cos(angle) - q * sin(angle);
                *b = q * cos(angle) + p * sin(angle);
            }
        }
    }
    REF_EACH_DEVICE (device) {
        bif_tensor got = ref_copy(&rows);
        bif_rope_args args = {.rows = &got, .pos = &pos, .heads = 2, .head_dim = d, .theta = 10000.0f};
        bif_rope(device, &args);
        ref_close("rope", got.data, wanted, t * w, ref_stored(1e-5));
        args.inverse = true;
        bif_rope(device, &args);
        ref_close("rope and back", got.data, back, t * w, ref_tolerance(1e-6, 6e-3)); /* rounded twice */
    }
    ref_done();
}

Test(elementwise, rope)
{
    static const int64_t dims[REF_SIZES] = {2, 8, 32, 34, 80, 128};
    for (int i = 0; i < REF_SIZES * REF_SIZES; i++) {
        rope_case(ref_sizes[i / REF_SIZES], dims[i % REF_SIZES], 0, 40);     /* an entry a position, when there are rows enough */
        rope_case(ref_sizes[i / REF_SIZES], dims[i % REF_SIZES], 50, 30000); /* an entry a row */
    }
}

/* What transformers 5.23 (inv_freq, f32) makes of Llama 3.2's theta 5e5, factor 32, low 1, high 4, original 8192 with heads of 64. */
static const float llama3_frequency[32] = {
    1.0f,           0.663601279f,   0.440366626f,   0.292227834f,   0.193922758f,   0.128687382f,   0.0853971019f,  0.0566696189f,
    0.0376060307f,  0.0249554086f,  0.0165604409f,  0.0109895291f,  0.00729266508f, 0.00483942125f, 0.00321144611f, 0.00129054801f,
    0.000429556705f, 9.70828623e-05f, 1.94616387e-05f, 1.29147675e-05f, 8.57025589e-06f, 5.68723226e-06f, 3.77405445e-06f, 2.50446715e-06f,
    1.66196742e-06f, 1.10288363e-06f, 7.31874934e-07f, 4.85673127e-07f, 3.22293289e-07f, 2.1387423e-07f, 1.41927202e-07f, 9.41830649e-08f};

Test(elementwise, rope_scaled)
{
    const int64_t t = 24, heads = 3, d = 64, half = d / 2, w = heads * d + 7;
    const bif_rope_args llama3 = {
        .heads = heads, .head_dim = d, .theta = 5e5f, .scaling = {BIF_ROPE_LLAMA3, .factor = 32, .low = 1, .high = 4, .original = 8192}};
    const bif_rope_args linear = {.heads = heads, .head_dim = d, .theta = 1e4f, .scaling = {BIF_ROPE_LINEAR, .factor = 4}};
    const bif_rope_args cases[] = {llama3, linear};
    for (int64_t i = 0; i < half; i++) {
        const double frequency = (double)llama3_frequency[i];
        cr_expect(fabs((double)bif_rope_frequency(&llama3, i) - frequency) <= 1e-6 * frequency, "pair %lld", (long long)i);
    }
    for (int k = 0; k < 2; k++) {
        bif_tensor rows = ref_f32(t, w, 1), pos = ref_i32(t, 0, 30000, 2);
        double *wanted = ref_double(&rows), *back = ref_double(&rows);
        for (int64_t r = 0; r < t; r++) {
            for (int64_t i = 0; i < heads * half; i++) {
                const float linear_frequency = (float)(pow(1e4, -2.0 * (double)(i % half) / (double)d) / 4.0);
                const double angle = (float)((int32_t *)pos.data)[r] * (k == 0 ? bif_rope_frequency(&llama3, i % half) : linear_frequency);
                double *a = wanted + r * w + i / half * d + i % half, *b = a + half, p = *a, q = *b;
                *a = p * cos(angle) - q * sin(angle);
                *b = q * cos(angle) + p * sin(angle);
            }
        }
        REF_EACH_DEVICE (device) {
            bif_tensor got = ref_copy(&rows);
            bif_rope_args args = cases[k];
            args.rows = &got;
            args.pos = &pos;
            bif_rope(device, &args);
            ref_close("rope", got.data, wanted, t * w, ref_stored(1e-5));
            args.inverse = true;
            bif_rope(device, &args);
            ref_close("rope and back", got.data, back, t * w, ref_tolerance(1e-6, 6e-3));
        }
        ref_done();
    }
}

/* ---- flat ---- */

Test(elementwise, axpy_scale_sumsq)
{
    static const int64_t counts[] = {1, 7, 31, 33, 128, 257, 100003};
    for (int i = 0; i < 7; i++) {
        int64_t n = counts[i];
        bif_tensor x = ref_f32(n, 0, 1), y = ref_f32(n, 0, 2);
        double *sum = ref_double(&y), *scaled = ref_double(&x), square = 0, seen[6];
        int count = 0;
        for (int64_t j = 0; j < n; j++) {
            sum[j] += 0.75 * scaled[j];
            square += scaled[j] * scaled[j];
            scaled[j] *= -0.5;
        }
        REF_EACH_DEVICE (device) {
            bif_tensor got = ref_copy(&y), half = ref_copy(&x);
            bif_axpy(device, 0.75f, &x, &got);
            bif_scale(device, -0.5f, &half);
            ref_close("axpy", got.data, sum, n, ref_stored(1e-7));
            ref_close("scale", half.data, scaled, n, 1e-7);
            seen[count] = bif_sumsq(device, &x);
            cr_assert(fabs(seen[count] - square) <= 1e-12 * square);
            cr_assert(ref_at % 2 == 0 || seen[count] == seen[count - 1], "sumsq differs between 1 and 3 threads");
            count++;
            ((float *)half.data)[n / 2] = NAN;
            cr_assert(!isfinite(bif_sumsq(device, &half)));
            ((float *)half.data)[n / 2] = INFINITY;
            cr_assert(!isfinite(bif_sumsq(device, &half)));
        }
        ref_done();
    }
}

Test(elementwise, sum)
{
    static const int64_t counts[] = {1, 7, 31, 33, 128, 257, 100003};
    for (int i = 0; i < 7; i++) {
        int64_t n = counts[i];
        bif_tensor x = ref_f32(n, 0, 1);
        double *numbers = ref_double(&x), wanted = 0.5, size = 1;
        for (int64_t j = 0; j < n; j++) {
            wanted += 2 * numbers[j];
            size += fabs(numbers[j]);
        }
        REF_EACH_DEVICE (device) {
            double got = 0.5, again = 0.5;
            bif_tensor sum = bif_tensor1(&got, BIF_DTYPE_F64, 1), other = bif_tensor1(&again, BIF_DTYPE_F64, 1);
            bif_sum(device, &x, &sum);
            bif_sum(device, &x, &other);
            cr_assert(got == again, "two runs differ");
            bif_sum(device, &x, &sum);
            cr_assert(fabs(got - wanted) <= 1e-12 * size, "sum of %lld: %.17g, wanted %.17g", (long long)n, got, wanted);
        }
        ref_done();
    }
}

Test(elementwise, adamw)
{
    static const int64_t counts[] = {1, 7, 31, 33, 128, 257, 70001};
    for (int i = 0; i < 7; i++) {
        int64_t n = counts[i];
        bif_tensor start = ref_exact(n, 1), grad = ref_exact(n, 2); /* in bf16 too: the parameter is an f32 number in two halves */
        double *p = ref_double(&start), *m = ref_zeros(n), *v = ref_zeros(n), *g = ref_double(&grad);
        for (int step = 1; step <= 3; step++) {
            for (int64_t j = 0; j < n; j++) {
                double d = g[j] * 0.25;
                m[j] = 0.9 * m[j] + 0.1 * d;
                v[j] = 0.95 * v[j] + 0.05 * d * d;
                p[j] -= 0.01 * 0.1 * p[j];
                p[j] -= 0.01 * (m[j] / (1 - pow(0.9, step))) / (sqrt(v[j] / (1 - pow(0.95, step))) + 1e-8);
            }
        }
        REF_EACH_DEVICE (device) {
            bif_tensor param = ref_copy(&start), first = ref_f32(n, 0, 0), second = ref_f32(n, 0, 0);
            memset(first.data, 0, bif_bytes(&first));
            memset(second.data, 0, bif_bytes(&second));
            for (int step = 1; step <= 3; step++) {
                bif_adamw(device, &(bif_adamw_args){.min = -INFINITY,
                                                    .max = INFINITY,
                                                    .param = &param,
                                                    .m = &first,
                                                    .v = &second,
                                                    .grad = &grad,
                                                    .lr = 0.01,
                                                    .beta1 = 0.9,
                                                    .beta2 = 0.95,
                                                    .eps = 1e-8,
                                                    .weight_decay = 0.1,
                                                    .grad_scale = 0.25,
                                                    .step = step});
            }
            ref_close("param", param.data, p, n, 1e-6);
            ref_close("m", first.data, m, n, 1e-6);
            ref_close("v", second.data, v, n, 1e-6);
        }
        ref_done();
    }
}

/* A parameter that wants to leave [min, max] stops at the limit; one that is not a number stays visible as such. */
Test(elementwise, adamw_limits)
{
    const int64_t n = 257;
    bif_tensor start = ref_exact(n, 1), grad = ref_exact(n, 2);
    REF_EACH_DEVICE (device) {
        bif_tensor free = ref_copy(&start), held = ref_copy(&start), m = ref_f32(n, 0, 0), v = ref_f32(n, 0, 0), other_m, other_v;
        memset(m.data, 0, bif_bytes(&m));
        memset(v.data, 0, bif_bytes(&v));
        ((float *)free.data)[5] = ((float *)held.data)[5] = NAN;
        ((float *)free.data)[6] = ((float *)held.data)[6] = INFINITY;
        other_m = ref_copy(&m), other_v = ref_copy(&v);
        bif_adamw_args args = {.param = &free, .m = &m, .v = &v, .grad = &grad, .lr = 0.5, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
        args.grad_scale = 1, args.step = 1, args.min = -INFINITY, args.max = INFINITY;
        bif_adamw(device, &args);
        args.param = &held, args.m = &other_m, args.v = &other_v, args.min = -0.25f, args.max = 0.75f;
        bif_adamw(device, &args);
        int low = 0, high = 0;
        for (int64_t i = 0; i < n; i++) {
            const float x = ((float *)free.data)[i], got = ((float *)held.data)[i];
            if (i == 5) {
                cr_assert(isnan(x) && isnan(got));
                continue;
            }
            cr_assert(i != 6 || (isinf(x) && got == 0.75f));
            cr_assert(got == (x < -0.25f ? -0.25f : x > 0.75f ? 0.75f : x), "%lld: %g from %g", (long long)i, (double)got, (double)x);
            low += got == -0.25f;
            high += got == 0.75f;
        }
        cr_assert(low > 10 && high > 10);
    }
    ref_done();
}

/* The bf16 half of a split parameter is what the model computes with: not a number there too when the whole is none. */
Test(elementwise, split_adamw_shows_nan)
{
    bif_device *device = NULL;
    if (!ref_bf16()) {
        return;
    }
    cr_assert_eq(bif_device_open("cuda", 0, &device), BIF_OK, "%s", bif_error_message());
    /* The first is a GPU's NaN, whose halves, made like those of any number, are 0x8000 (-0) and 0xFFFF. */
    const uint32_t wanted[] = {0x7FFFFFFF, 0x7F800000, 0xFF800000, 0x3F80FFFF, 0xBF7F8000, 0x7F7FFFFF};
    float grad[6] = {0}, moments[6] = {0};
    uint16_t high[6], low[6];
    for (int i = 0; i < 6; i++) {
        low[i] = (uint16_t)wanted[i];
        high[i] = (uint16_t)((wanted[i] + 0x8000u) >> 16);
    }
    const void *host[] = {high, low, moments, moments, grad};
    const bif_dtype types[] = {BIF_DTYPE_BF16, BIF_DTYPE_U16, BIF_DTYPE_F32, BIF_DTYPE_F32, BIF_DTYPE_F32};
    bif_tensor there[5];
    for (int i = 0; i < 5; i++) {
        void *memory = NULL;
        cr_assert_eq(device->alloc(device, 32, &memory), BIF_OK);
        there[i] = bif_tensor1(memory, types[i], 6);
        device->copy_in(device, memory, host[i], bif_bytes(&there[i]));
    }
    bif_adamw_args args = {.param = &there[0], .low = &there[1], .m = &there[2], .v = &there[3], .grad = &there[4], .step = 1};
    args.beta1 = 0.9, args.beta2 = 0.95, args.eps = 1e-8, args.grad_scale = 1, args.lr = 0.1, args.min = -INFINITY, args.max = INFINITY;
    bif_adamw(device, &args);
    uint16_t got_high[6], got_low[6];
    device->copy_out(device, got_high, there[0].data, sizeof got_high);
    device->copy_out(device, got_low, there[1].data, sizeof got_low);
    for (int i = 0; i < 6; i++) {
        const bool good = i == 0 ? got_high[i] == 0x7FC0 && got_low[i] == 0 : got_high[i] == high[i] && got_low[i] == low[i];
        cr_assert(good, "%08x: %04x %04x", wanted[i], got_high[i], got_low[i]);
    }
    for (int i = 0; i < 5; i++) {
        device->release(device, there[i].data);
    }
    bif_device_close(device);
}
