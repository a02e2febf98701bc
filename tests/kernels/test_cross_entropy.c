/* bif_cross_entropy, bif_argmax, bif_l2norm and its backward against double precision. */
#include "ref.h"

static const int64_t sizes[][2] = {{1, 1}, {1, 2}, {7, 31}, {33, 65}, {3, 1000}, {31, 128}, {257, 257}, {2, 33007}};

typedef struct {
    int64_t rows, v;
    double *x, *loss;
    const int32_t *targets;
    const float *weight;
} problem;

static double loss_of(void *context)
{
    problem *p = context;
    double total = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < p->v; j++) {
            top = fmax(top, p->x[i * p->v + j]);
        }
        for (int64_t j = 0; j < p->v; j++) {
            sum += exp(p->x[i * p->v + j] - top);
        }
        p->loss[i] = (p->weight == NULL ? 1 : p->weight[i]) * (top + log(sum) - p->x[i * p->v + p->targets[i]]);
        total += p->loss[i];
    }
    return total;
}

static void check_cross_entropy(bif_device *device, int64_t rows, int64_t v, bool weighted, bool in_place)
{
    bif_tensor x = ref_f32(rows, v, 31), targets = ref_i32(rows, 0, (int32_t)v, 32), weight = ref_f32(rows, 0, 33);
    for (int64_t i = 0; i < rows * v; i++) {
        ((float *)x.data)[i] *= i / v % 2 == 0 ? 1 : 40; /* every second row is nearly one-hot */
    }
    ref_round(&x);
    problem p = {rows, v, ref_double(&x), ref_zeros(rows), targets.data, weighted ? weight.data : NULL};
    loss_of(&p);
    double *wanted = ref_zeros(rows * v);
    for (int64_t i = 0; i < rows; i++) {
        double w = weighted ? ((float *)weight.data)[i] : 1, target = p.x[i * v + p.targets[i]];
        for (int64_t j = 0; j < v; j++) { /* lse = target + loss / w */
            wanted[i * v + j] = w * (exp(p.x[i * v + j] - target - p.loss[i] / w) - (j == p.targets[i]));
        }
    }
    bif_tensor loss = ref_f32(rows, 0, 0), dx = in_place ? x : ref_f32(rows, v, 0);
    bif_cross_entropy_args args = {&x, &targets, weighted ? &weight : NULL, &loss, &dx};
    if (!in_place) {
        bif_tensor only = ref_f32(rows, 0, 0);
        bif_cross_entropy_args evaluation = {&x, &targets, args.weight, &only, NULL};
        bif_cross_entropy(device, &evaluation);
        ref_close("loss alone", only.data, p.loss, rows, 2e-6);
    }
    bif_cross_entropy(device, &args);
    ref_close("loss", loss.data, p.loss, rows, 2e-6);
    ref_close("dlogits", dx.data, wanted, rows * v, ref_stored(2e-6));
    if (v > 1 && rows * v < 3000) {
        ref_gradient("dlogits", loss_of, &p, p.x, rows * v, dx.data, NULL, ref_stored(1e-4));
    }
    ref_done();
}

Test(cross_entropy, loss_and_gradient)
{
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        REF_EACH_DEVICE(device)
        {
            for (int way = 0; way < 4; way++) {
                check_cross_entropy(device, sizes[i][0], sizes[i][1], way & 1, way & 2);
            }
        }
    }
}

/* A weight of [1] is that weight for every row. */
Test(cross_entropy, one_weight_for_all_rows)
{
    REF_EACH_DEVICE(device)
    {
        const int64_t rows = 7, v = 33;
        bif_tensor x = ref_f32(rows, v, 31), targets = ref_i32(rows, 0, (int32_t)v, 32), one = ref_f32(1, 0, 33), all = ref_f32(rows, 0, 0);
        for (int64_t i = 0; i < rows; i++) {
            ((float *)all.data)[i] = *(float *)one.data;
        }
        bif_tensor loss[2] = {ref_f32(rows, 0, 0), ref_f32(rows, 0, 0)}, dx[2] = {ref_f32(rows, v, 0), ref_f32(rows, v, 0)};
        for (int way = 0; way < 2; way++) {
            bif_cross_entropy_args args = {&x, &targets, way == 0 ? &all : &one, &loss[way], &dx[way]};
            bif_cross_entropy(device, &args);
        }
        cr_assert(*(float *)one.data != 1.0f && ((float *)loss[0].data)[0] != 0.0f);
        cr_assert(memcmp(loss[0].data, loss[1].data, bif_bytes(&loss[0])) == 0 && memcmp(dx[0].data, dx[1].data, bif_bytes(&dx[0])) == 0);
        ref_done();
    }
}

Test(cross_entropy, large_logits_are_exact)
{
    REF_EACH_DEVICE(device)
    {
        bif_tensor x = ref_f32(2, 19, 0), targets = ref_i32(2, 0, 1, 1), loss = ref_f32(2, 0, 0),
                   dx = ref_f32(2, 19, 0);
        float *row = x.data;
        for (int j = 0; j < 19; j++) {
            row[j] = 1e6f;
            row[19 + j] = j == 18 ? 3e38f : -3e38f;
        }
        ((int32_t *)targets.data)[0] = 4;
        ((int32_t *)targets.data)[1] = 18;
        bif_cross_entropy_args args = {&x, &targets, NULL, &loss, &dx};
        bif_cross_entropy(device, &args);
        const float *l = loss.data, *d = dx.data;
        cr_assert_float_eq(l[0], log(19.0), 1e-6);
        cr_assert(l[1] == 0.0f, "%g", (double)l[1]);
        cr_assert_float_eq(d[4], 1.0 / 19 - 1, ref_stored(1e-7));
        cr_assert(d[19] == 0.0f && d[37] == 0.0f);
        row[3] = NAN;
        bif_cross_entropy(device, &args);
        cr_assert(isnan(l[0]) && isnan(d[7]) && l[1] == 0.0f, "a NaN must reach the loss of its own row");
        ref_done();
    }
}

Test(argmax, first_of_equals_and_nan)
{
    REF_EACH_DEVICE(device)
    {
        for (int64_t v = 1; v < 70; v += 3) {
            bif_tensor x = ref_f32(5, v, 41), index = ref_i32(5, 0, 1, 1);
            float *rows = x.data;
            for (int64_t j = 0; j < v; j++) {
                rows[v + j] = 2.5f;                        /* all equal */
                rows[2 * v + j] = j == v - 1 ? 1 : NAN;    /* the only number is the last */
                rows[3 * v + j] = j % 2 ? -INFINITY : NAN; /* nothing above minus infinity */
                rows[4 * v + j] = j >= v / 2 ? 7 : -7;
            }
            int64_t best = 0;
            for (int64_t j = 1; j < v; j++) {
                best = rows[j] > rows[best] ? j : best;
            }
            bif_argmax_args args = {&x, &index};
            bif_argmax(device, &args);
            const int32_t *got = index.data;
            cr_assert(got[0] == best && got[1] == 0 && got[2] == v - 1 && got[3] == 0 && got[4] == v / 2,
                      "V = %lld: %d %d %d %d %d", (long long)v, got[0], got[1], got[2], got[3], got[4]);
            ref_done();
        }
    }
}

typedef struct {
    int64_t rows, c;
    double *x, *y;
    uint64_t seed;
} norm_problem;

static double norm_loss(void *context)
{
    norm_problem *p = context;
    for (int64_t i = 0; i < p->rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < p->c; j++) {
            sum += p->x[i * p->c + j] * p->x[i * p->c + j];
        }
        for (int64_t j = 0; j < p->c; j++) {
            p->y[i * p->c + j] = p->x[i * p->c + j] / fmax(sqrt(sum), 1e-12);
        }
    }
    return ref_weighted(p->y, p->rows * p->c, p->seed);
}

Test(l2norm, forward_and_backward)
{
    static const int64_t shapes[][2] = {{1, 2}, {7, 31}, {33, 128}, {130, 65}, {128, 257}, {257, 7}};
    for (size_t k = 0; k < 6; k++) {
        REF_EACH_DEVICE(device)
        {
            int64_t rows = shapes[k][0], c = shapes[k][1];
            bif_tensor x = ref_f32(rows, c, 51), y = ref_f32(rows, c, 0), inv = ref_f32(rows, 0, 0),
                       dy = ref_f32(rows, c, 52);
            norm_problem p = {rows, c, ref_double(&x), ref_zeros(rows * c), 52};
            norm_loss(&p);
            bif_l2norm_args args = {&x, &y, &inv};
            bif_l2norm(device, &args);
            ref_close("y", y.data, p.y, rows * c, 1e-6);
            bif_tensor dx = ref_f32(rows, c, 0);
            bif_l2norm_backward_args back = {&y, &inv, &dy, &dx};
            bif_l2norm_backward(device, &back);
            ref_gradient("dx", norm_loss, &p, p.x, rows * c, dx.data, NULL, ref_stored(5e-6));
            norm_loss(&p); /* the outputs of x as it is again */
            back.dx = &dy;
            bif_l2norm_backward(device, &back);
            bif_l2norm_args in_place = {&x, &x, NULL};
            bif_l2norm(device, &in_place);
            if (ref_bf16()) { /* in place all are f32: another kernel */
                ref_close("dx in place", dy.data, ref_double(&dx), rows * c, ref_stored(1e-6));
                ref_close("y in place", x.data, ref_double(&y), rows * c, 1e-6);
            } else {
                cr_assert(memcmp(dx.data, dy.data, bif_bytes(&dx)) == 0, "in place differs");
                cr_assert(memcmp(x.data, y.data, bif_bytes(&x)) == 0, "in place differs");
            }
            ref_done();
        }
    }
}

Test(l2norm, tiny_and_zero_rows_are_clamped)
{
    REF_EACH_DEVICE(device)
    {
        bif_tensor x = ref_f32(2, 8, 0), y = ref_f32(2, 8, 0), inv = ref_f32(2, 0, 0), dy = ref_f32(2, 8, 53),
                   dx = ref_f32(2, 8, 0);
        for (int j = 0; j < 8; j++) {
            ((float *)x.data)[j] = 0;
            ((float *)x.data)[8 + j] = 1e-14f;
        }
        ref_round(&x);
        bif_l2norm_args args = {&x, &y, &inv};
        bif_l2norm(device, &args);
        bif_l2norm_backward_args back = {&y, &inv, &dy, &dx};
        bif_l2norm_backward(device, &back);
        for (int j = 0; j < 16; j++) {
            cr_assert_float_eq(((float *)y.data)[j], 1e12 * ((float *)x.data)[j], 1e-8);
            double wanted = 1e12 * ((float *)dy.data)[j];
            cr_assert_float_eq(((float *)dx.data)[j], wanted, ref_stored(1e-6) * fabs(wanted));
        }
        ref_done();
    }
}
