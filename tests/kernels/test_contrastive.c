/* bif_infonce and bif_siglip against double precision, whole matrix at once. */
#include "ref.h"

typedef struct {
    int64_t rows, columns, width, first;
    double *a, *b, scale, bias;
    bool sigmoid;
    double *loss, *da, *db, *dscale, *dbias; /* gradients may be NULL */
} problem;

static double reference(void *context)
{
    problem *p = context;
    double total = 0;
    double *dot = calloc((size_t)p->columns, sizeof(double));
    for (int64_t i = 0; i < p->rows; i++) {
        double top = -INFINITY, sum = 0, loss = 0;
        int64_t partner = p->first + i;
        for (int64_t j = 0; j < p->columns; j++) {
            dot[j] = 0;
            for (int64_t e = 0; e < p->width; e++) {
                dot[j] += p->a[i * p->width + e] * p->b[j * p->width + e];
            }
            top = fmax(top, p->scale * dot[j]);
        }
        for (int64_t j = 0; j < p->columns; j++) {
            double z = j == partner ? 1 : -1, x = -z * (p->scale * dot[j] + p->bias);
            sum += exp(p->scale * dot[j] - top);
            loss += fmax(x, 0) + log1p(exp(-fabs(x)));
        }
        p->loss[i] = p->sigmoid ? loss : top + log(sum) - p->scale * dot[partner];
        total += p->loss[i];
        for (int64_t j = 0; p->da != NULL && j < p->columns; j++) {
            double z = j == partner ? 1 : -1;
            double g = p->sigmoid ? -z / (1 + exp(z * (p->scale * dot[j] + p->bias)))
                                  : exp(p->scale * dot[j] - top) / sum - (j == partner);
            *p->dscale += g * dot[j];
            *p->dbias += g;
            for (int64_t e = 0; e < p->width; e++) {
                p->da[i * p->width + e] += g * p->scale * p->b[j * p->width + e];
                p->db[j * p->width + e] += g * p->scale * p->a[i * p->width + e];
            }
        }
    }
    free(dot);
    return total;
}

/* got = start + weight * wanted */
static void close_added(const char *name, const bif_tensor *got, const bif_tensor *start, const double *wanted,
                        double weight)
{
    int64_t n = bif_numel(got);
    float *gained = malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        gained[i] = (float)(((double)((float *)got->data)[i] - ((float *)start->data)[i]) / weight);
    }
    ref_close(name, gained, wanted, n, 2e-5);
    free(gained);
}

static void run(bif_device *device, bool sigmoid, bif_tensor *a, bif_tensor *b, int64_t first, float weight,
                bif_tensor *out[5])
{
    if (sigmoid) {
        bif_siglip_args args = {a, b, first, 10.0f, -3.0f, weight, out[0], out[1], out[2], out[3], out[4]};
        bif_siglip(device, &args);
    } else {
        bif_infonce_args args = {a, b, first, 14.3f, weight, out[0], out[1], out[2], out[3]};
        bif_infonce(device, &args);
    }
}

static void check(bif_device *device, bool sigmoid, int64_t rows, int64_t columns, int64_t width, int64_t first)
{
    bif_tensor a = ref_f32(rows, width, 61), b = ref_f32(columns, width, 62);
    for (int64_t i = 0; i < (rows + columns) * width;
         i++) { /* rows of length about one, as after L2 norm; partners alike */
        float *x = i < rows * width ? (float *)a.data + i : (float *)b.data + i - rows * width;
        *x /= sqrtf((float)width);
    }
    for (int64_t i = 0; i < rows * width; i++) {
        ((float *)b.data)[first * width + i] =
            0.7f * ((float *)b.data)[first * width + i] + 0.7f * ((float *)a.data)[i];
    }
    problem p = {rows,
                 columns,
                 width,
                 first,
                 ref_double(&a),
                 ref_double(&b),
                 sigmoid ? 10.0 : (double)14.3f,
                 sigmoid ? -3.0 : 0.0,
                 sigmoid,
                 ref_zeros(rows),
                 ref_zeros(rows * width),
                 ref_zeros(columns * width),
                 ref_zeros(1),
                 ref_zeros(1)};
    reference(&p);
    float weight = 0.5f;
    bif_tensor start[5] = {ref_f32(rows, 0, 63), ref_f32(rows, width, 64), ref_f32(columns, width, 65),
                           ref_f32(1, 0, 66), ref_f32(1, 0, 67)};
    bif_tensor first_run[5], second_run[5], alone = ref_f32(rows, 0, 0);
    bif_tensor *one[5], *two[5], *forward[5] = {&alone, NULL, NULL, NULL, NULL};
    for (int i = 0; i < 5; i++) {
        first_run[i] = ref_copy(&start[i]);
        second_run[i] = ref_copy(&start[i]);
        one[i] = &first_run[i];
        two[i] = &second_run[i];
    }
    run(device, sigmoid, &a, &b, first, weight, forward);
    run(device, sigmoid, &a, &b, first, weight, one);
    run(device, sigmoid, &a, &b, first, weight, two);
    cr_assert(memcmp(alone.data, first_run[0].data, bif_bytes(&alone)) == 0, "the loss depends on wanting gradients");
    if (columns == 1 && !sigmoid) { /* nothing to choose from: all zero but for rounding */
        cr_assert_float_eq(*(float *)alone.data, 0.0, 1e-6);
    } else {
        ref_close("loss", first_run[0].data, p.loss, rows, 5e-6);
        close_added("da", &first_run[1], &start[1], p.da, weight);
        close_added("db", &first_run[2], &start[2], p.db, weight);
        close_added("dscale", &first_run[3], &start[3], p.dscale, weight);
    }
    if (sigmoid) {
        close_added("dbias", &first_run[4], &start[4], p.dbias, weight);
    }
    for (int i = 0; i < 4 + sigmoid; i++) {
        cr_assert(memcmp(first_run[i].data, second_run[i].data, bif_bytes(&start[i])) == 0,
                  "two runs differ in output %d", i);
    }
    if (rows == 7) { /* the written-out gradient of the reference itself, by central differences */
        float *da = malloc((size_t)(rows * width) * sizeof(float)),
              *db = malloc((size_t)(columns * width) * sizeof(float));
        for (int64_t i = 0; i < rows * width; i++) {
            da[i] = (float)p.da[i];
        }
        for (int64_t i = 0; i < columns * width; i++) {
            db[i] = (float)p.db[i];
        }
        float dscale = (float)*p.dscale, dbias = (float)*p.dbias;
        p.da = NULL;
        ref_gradient("da", reference, &p, p.a, rows * width, da, NULL, 1e-5);
        ref_gradient("db", reference, &p, p.b, columns * width, db, NULL, 1e-5);
        ref_gradient("dscale", reference, &p, &p.scale, 1, &dscale, NULL, 1e-5);
        if (sigmoid) {
            ref_gradient("dbias", reference, &p, &p.bias, 1, &dbias, NULL, 1e-5);
        }
        free(da);
        free(db);
    }
    ref_done();
}

static const int64_t shapes[][4] = {/* B, Gn, E, first */
                                    {1, 1, 8, 0},         {7, 7, 33, 0},       {7, 21, 31, 14},  {33, 130, 65, 31},
                                    {128, 256, 128, 128}, {130, 650, 64, 390}, {257, 257, 40, 0}};

Test(contrastive, infonce)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        REF_EACH_DEVICE(device)
        {
            check(device, false, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
        }
    }
}

Test(contrastive, siglip)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        REF_EACH_DEVICE(device)
        {
            check(device, true, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
        }
    }
}

/* More similarities than a device holds at a time (CUDA: 64 MiB of scratch are 1016 rows here): the whole is the sum of its parts. */
Test(contrastive, many_rows_are_the_sum_of_their_parts)
{
    enum { ROWS = 1030, COLUMNS = 16500, WIDTH = 2, FIRST = 11 };
    bif_tensor a = ref_f32(ROWS, WIDTH, 1), b = ref_f32(COLUMNS, WIDTH, 2);
    REF_EACH_DEVICE(device)
    {
        bif_tensor loss[2], da[2], db[2], dscale[2];
        for (int way = 0; way < 2; way++) {
            loss[way] = ref_f32(ROWS, 0, 0);
            da[way] = ref_f32(ROWS, WIDTH, 3);
            db[way] = ref_f32(COLUMNS, WIDTH, 4);
            dscale[way] = ref_f32(1, 0, 5);
            int64_t rows = way == 0 ? ROWS : ROWS / 2;
            for (int64_t row = 0; row < ROWS; row += rows) {
                bif_tensor some_a = bif_rows(&a, row, rows), some_da = bif_rows(&da[way], row, rows);
                bif_tensor some_loss = bif_rows(&loss[way], row, rows);
                bif_infonce(device, &(bif_infonce_args){.a = &some_a,
                                                        .b = &b,
                                                        .first = FIRST + row,
                                                        .scale = 1.5f,
                                                        .weight = 0.5f,
                                                        .loss = &some_loss,
                                                        .da = &some_da,
                                                        .db = &db[way],
                                                        .dscale = &dscale[way]});
            }
        }
        ref_close("loss", loss[0].data, ref_double(&loss[1]), ROWS, 2e-6);
        ref_close("da", da[0].data, ref_double(&da[1]), ROWS * WIDTH, 5e-6);
        ref_close("db", db[0].data, ref_double(&db[1]), COLUMNS * WIDTH, 5e-6);
        ref_close("dscale", dscale[0].data, ref_double(&dscale[1]), 1, 1e-5);
    }
    ref_done();
}
