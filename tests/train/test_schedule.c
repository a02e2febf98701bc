/* Rates and steps of LLaVA-1.5 against transformers and torch (golden/make_schedule.py). */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "train/schedule.h"

static FILE *golden(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/golden/schedule/%s", getenv("BIFOCAL_TESTS"), name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    return file;
}

Test(schedule, cosine_is_transformers)
{
    FILE *file = golden("cosine.txt");
    bif_config config = {0};
    config.optimizer.warmup_ratio = 0.03;
    long long steps, warmup, step;
    double want, worst = 0.0;
    int rows = 0;
    while (fscanf(file, "%lld %lld %lld %la", &steps, &warmup, &step, &want) == 4) {
        cr_assert_eq(bif_warmup_steps(&config, steps), warmup);
        const double got = bif_schedule(BIF_SCHEDULE_COSINE, step, steps, warmup, 0.0);
        worst = fmax(worst, want == 0.0 ? fabs(got) : fabs(got - want) / want);
        rows++;
    }
    fclose(file);
    cr_expect_gt(rows, 380);
    /* A last place of cos() near -1 is 4e-10 of the last step's rate; with the C library these were made with all are equal. */
    cr_expect_lt(worst, 1e-9, "%g", worst);
}

/* Every step of both stages: the closed form in long double. */
Test(schedule, cosine_is_the_closed_form_at_every_step)
{
    static const struct {
        int64_t samples, batch, steps, warmup;
    } stages[] = {{558128, 256, 2181, 66}, {665298, 128, 5198, 156}};
    bif_config config = {0};
    config.optimizer.warmup_ratio = 0.03;
    for (int s = 0; s < 2; s++) {
        const int64_t steps = stages[s].steps, warmup = stages[s].warmup;
        cr_expect_eq((stages[s].samples + stages[s].batch - 1) / stages[s].batch, steps);
        cr_expect_eq(bif_warmup_steps(&config, steps), warmup);
        for (int64_t step = 0; step < steps; step++) {
            const long double x = (long double)(step - warmup) / (long double)(steps - warmup);
            const long double half = cosl(0.5L * acosl(-1.0L) * x); /* (1 + cos 2a) / 2 = cos^2 a, without its cancellation */
            const long double want = step < warmup ? (long double)step / (long double)warmup : half * half;
            const double got = bif_schedule(BIF_SCHEDULE_COSINE, step, steps, warmup, 0.0);
            cr_assert(fabsl((long double)got - want) <= 1e-9L * want, "step %lld of %lld: %.17g, not %.17Lg", (long long)step, (long long)steps,
                      got, want);
        }
    }
}

static void read_row(FILE *file, float *out, int n)
{
    for (int i = 0; i < n; i++) {
        double value = 0.0;
        cr_assert_eq(fscanf(file, "%la", &value), 1);
        out[i] = (float)value;
    }
}

/* Ten steps of torch's AdamW under the schedule, gradients from 10 down to 1e-9. The masters of bf16 values go the way of f32 values to the bit
 * (test_optimizer.c, and the mirrored tests of the op). */
Test(schedule, ten_steps_of_adamw_are_torchs)
{
    enum { N = 24 };
    FILE *file = golden("adamw.txt");
    bif_device *device = NULL;
    float want[N], grad[N], before[N], value[N], m[N] = {0}, v[N] = {0};
    cr_assert_eq(bif_device_open("cpu", 1, &device), BIF_OK);
    read_row(file, value, N);
    memcpy(before, value, sizeof value);
    bif_tensor p = bif_tensor1(value, BIF_DTYPE_F32, N), g = bif_tensor1(grad, BIF_DTYPE_F32, N);
    bif_tensor tm = bif_tensor1(m, BIF_DTYPE_F32, N), tv = bif_tensor1(v, BIF_DTYPE_F32, N);
    for (int step = 0; step < 10; step++) {
        read_row(file, grad, N);
        read_row(file, want, N);
        bif_adamw(device, &(bif_adamw_args){.param = &p, .grad = &g, .m = &tm, .v = &tv,
                                            .lr = 2e-5 * bif_schedule(BIF_SCHEDULE_COSINE, step, 10, 3, 0.0),
                                            .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .grad_scale = 1.0,
                                            .min = -INFINITY, .max = INFINITY, .step = step + 1});
        for (int i = 0; i < N; i++) { /* half a unit in the last place of each step's rounding, and 1e-6 of the way so far */
            const float room = 0.5f * (float)(step + 2) * 0x1p-23f * fabsf(want[i]) + 1e-6f * fabsf(want[i] - before[i]);
            cr_expect_leq(fabsf(value[i] - want[i]), room, "step %d, value %d: %.9g, torch has %.9g", step + 1, i, value[i], want[i]);
        }
    }
    cr_expect_neq(value[0], before[0]);
    bif_device_close(device);
    fclose(file);
}
