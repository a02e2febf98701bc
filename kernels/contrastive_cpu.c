/* Contrastive losses over tiles of the similarity matrix a b^T, which never exists as a whole. Two passes:
 *   by row tiles:    loss, da and dscale of the tile's rows, over all columns in order;
 *   by column tiles: db of the tile's columns, over all rows in order, with the similarities computed again.
 * So every output element has one owner and one order of summation. */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/simd.h"

/* A tile of similarities is 128 x 256 floats, 128 KB: in the second cache, and deep enough for the matrix product. */
#define TILE_ROWS    128
#define TILE_COLUMNS 256

/* A call in plain numbers. Sums over all rows are kept per row tile (in double) and added up in order at the end. */
typedef struct {
    bif_device *device;
    const float *a, *b;
    int64_t rows, columns, width, first;
    float scale, bias, weight;
    float *loss, *da, *db;
    float *lse;             /* [rows], InfoNCE only */
    double *dscale, *dbias; /* [row_tiles] */
    int64_t row_tiles, column_tiles;
    size_t shared; /* bytes at the head of thread 0's scratch that belong to all: lse, dscale, dbias */
} problem;

static int64_t tiles_of(int64_t n, int64_t most, int threads)
{
    /* Small batches are cut finer, down to 16, so that each thread has a tile. */
    return bif_max((n + most - 1) / most, bif_min(threads, (n + 15) / 16));
}

static size_t round64(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t tile_bytes(const problem *p)
{
    return (size_t)(TILE_ROWS * TILE_COLUMNS + TILE_ROWS * p->width) * sizeof(float);
}

static problem problem_of(bif_device *device, int threads, const bif_tensor *a, const bif_tensor *b)
{
    problem p = {.device = device,
                 .a = bif_f32(a),
                 .b = bif_f32(b),
                 .rows = a->dim[0],
                 .columns = b->dim[0],
                 .width = a->dim[1]};
    p.row_tiles = tiles_of(p.rows, TILE_ROWS, threads);
    p.column_tiles = tiles_of(p.columns, TILE_COLUMNS, threads);
    size_t sums = (size_t)p.row_tiles * sizeof(double), lse = round64((size_t)p.rows * sizeof(float));
    p.shared = round64(lse + 2 * sums);
    char *memory = bif_cpu_scratch(device, 0, p.shared + tile_bytes(&p));
    p.lse = (float *)memory;
    p.dscale = (double *)(memory + lse);
    p.dbias = p.dscale + p.row_tiles;
    return p;
}

/* This thread's tile of similarities, followed by TILE_ROWS rows of a's width. */
static float *tile_of(const problem *p, int thread)
{
    size_t shared = thread == 0 ? p->shared : 0;
    return (float *)((char *)bif_cpu_scratch(p->device, thread, shared + tile_bytes(p)) + shared);
}

/* s [m, TILE_COLUMNS] = a[row ..] b[column ..]^T, not yet scaled. */
static void similarities(const problem *p, int thread, int64_t row, int64_t m, int64_t column, int64_t n, float *s)
{
    BIF_CPU(gemm)
    (p->device, thread, false, true, m, n, p->width, 1.0f, p->a + row * p->width, p->width, p->b + column * p->width,
     p->width, 0.0f, s, TILE_COLUMNS);
}

/* db[column ..] += weight * scale * g^T a[row ..]. */
static void add_db(const problem *p, int thread, int64_t row, int64_t m, int64_t column, int64_t n, const float *g)
{
    BIF_CPU(gemm)
    (p->device, thread, true, false, n, p->width, m, p->weight * p->scale, g, TILE_COLUMNS, p->a + row * p->width,
     p->width, 1.0f, p->db + column * p->width, p->width);
}

/* Turns a tile of similarities into dloss/ds of the scaled ones, without the weight. */
typedef void (*tile_gradient)(const problem *p, int64_t row, int64_t m, int64_t column, int64_t n, float *s);

static void column_pass(const problem *p, int threads, tile_gradient gradient)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t tile = 0; tile < p->column_tiles; tile++) {
        int thread = omp_get_thread_num();
        float *s = tile_of(p, thread);
        int64_t column = bif_part(p->columns, p->column_tiles, tile);
        int64_t n = bif_part(p->columns, p->column_tiles, tile + 1) - column;
        for (int64_t r = 0; r < p->row_tiles; r++) {
            int64_t row = bif_part(p->rows, p->row_tiles, r), m = bif_part(p->rows, p->row_tiles, r + 1) - row;
            similarities(p, thread, row, m, column, n, s);
            gradient(p, row, m, column, n, s);
            add_db(p, thread, row, m, column, n, s);
        }
    }
}

static void add_sums(const problem *p, const double *sums, const bif_tensor *to)
{
    double total = 0;
    for (int64_t i = 0; i < p->row_tiles; i++) {
        total += sums[i];
    }
    *bif_f32(to) += (float)(p->weight * total);
}

/* ---- InfoNCE ---- */

/* Online softmax of a row, as in attention with b as keys and values. */
typedef struct {
    float peak;       /* highest scale * s so far */
    double sum, dots; /* of e^(scale s - peak), and of that times s */
    float own;        /* s of the partner */
} row_state;

/* One row against a tile of columns: s becomes e^(scale s - peak). Returns the factor for what was summed before. */
static float take_columns(row_state *state, float scale, float *s, int64_t n)
{
    float peak = state->peak;
#pragma omp simd reduction(max : peak)
    for (int64_t j = 0; j < n; j++) {
        float x = scale * s[j];
        peak = x > peak ? x : peak;
    }
    float sum = 0, dots = 0;
#pragma omp simd reduction(+ : sum, dots)
    for (int64_t j = 0; j < n; j++) {
        float e = bif_simd_exp(scale * s[j] - peak);
        sum += e;
        dots += e * s[j];
        s[j] = e;
    }
    double factor = exp((double)state->peak - (double)peak);
    state->sum = state->sum * factor + (double)sum;
    state->dots = state->dots * factor + (double)dots;
    state->peak = peak;
    return (float)factor;
}

static double infonce_rows(const problem *p, int thread, int64_t row, int64_t m)
{
    float *s = tile_of(p, thread), *mean = s + TILE_ROWS * TILE_COLUMNS;
    row_state state[TILE_ROWS];
    double dscale = 0;
    for (int64_t i = 0; i < m; i++) {
        state[i] = (row_state){.peak = -INFINITY};
    }
    for (int64_t tile = 0; tile < p->column_tiles; tile++) {
        int64_t column = bif_part(p->columns, p->column_tiles, tile);
        int64_t n = bif_part(p->columns, p->column_tiles, tile + 1) - column;
        similarities(p, thread, row, m, column, n, s);
        for (int64_t i = 0; i < m; i++) {
            int64_t partner = p->first + row + i - column;
            if (partner >= 0 && partner < n) {
                state[i].own = s[i * TILE_COLUMNS + partner];
            }
            float factor = take_columns(&state[i], p->scale, s + i * TILE_COLUMNS, n);
            if (p->da != NULL && tile > 0 && factor != 1.0f) {
                for (int64_t j = 0; j < p->width; j++) {
                    mean[i * p->width + j] *= factor;
                }
            }
        }
        if (p->da != NULL) {
            BIF_CPU(gemm)
            (p->device, thread, false, false, m, p->width, n, 1.0f, s, TILE_COLUMNS, p->b + column * p->width, p->width,
             tile > 0 ? 1.0f : 0.0f, mean, p->width);
        }
    }
    for (int64_t i = 0; i < m; i++) {
        float log_sum = (float)log(state[i].sum);
        p->loss[row + i] = log_sum + (state[i].peak - p->scale * state[i].own);
        p->lse[row + i] = state[i].peak + log_sum;
        dscale += state[i].dots / state[i].sum - (double)state[i].own;
        if (p->da != NULL) {
            const float *partner = p->b + (p->first + row + i) * p->width;
            float inverse = (float)(1 / state[i].sum), factor = p->weight * p->scale;
            for (int64_t j = 0; j < p->width; j++) {
                p->da[(row + i) * p->width + j] += factor * (mean[i * p->width + j] * inverse - partner[j]);
            }
        }
    }
    return dscale;
}

static void infonce_gradient(const problem *p, int64_t row, int64_t m, int64_t column, int64_t n, float *s)
{
    for (int64_t i = 0; i < m; i++) {
        float *x = s + i * TILE_COLUMNS;
        float lse = p->lse[row + i];
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            x[j] = bif_simd_exp(p->scale * x[j] - lse);
        }
        int64_t partner = p->first + row + i - column;
        if (partner >= 0 && partner < n) {
            x[partner] -= 1.0f;
        }
    }
}

void BIF_CPU(infonce)(bif_device *device, const bif_infonce_args *args)
{
    int threads = bif_threads_for(device, args->a->dim[0] * args->b->dim[0] * args->a->dim[1] / 8);
    problem p = problem_of(device, threads, args->a, args->b);
    p.first = args->first;
    p.scale = args->scale;
    p.weight = args->weight;
    p.loss = bif_f32(args->loss);
    p.da = bif_f32(args->da);
    p.db = bif_f32(args->db);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t tile = 0; tile < p.row_tiles; tile++) {
        int64_t row = bif_part(p.rows, p.row_tiles, tile);
        p.dscale[tile] = infonce_rows(&p, omp_get_thread_num(), row, bif_part(p.rows, p.row_tiles, tile + 1) - row);
    }
    if (p.da != NULL) {
        column_pass(&p, threads, infonce_gradient);
        add_sums(&p, p.dscale, args->dscale);
    }
}

/* ---- SigLIP ---- */

/* One row of a tile: s becomes dloss/ds = -z sigmoid(-z s); adds to the row's loss and to the sums of g s and g. */
static void siglip_row(const problem *p, float *s, int64_t n, int64_t partner, double *loss, double *dscale,
                       double *dbias)
{
    float losses = 0, scales = 0, biases = 0;
#pragma omp simd reduction(+ : losses, scales, biases)
    for (int64_t j = 0; j < n; j++) {
        float z = j == partner ? 1.0f : -1.0f;
        float x = -z * (p->scale * s[j] + p->bias);
        float e = bif_simd_exp(-fabsf(x));
        losses += (x > 0.0f ? x : 0.0f) + bif_simd_log1p(e);
        float g = -z * (x > 0.0f ? 1.0f : e) / (1.0f + e);
        scales += g * s[j];
        biases += g;
        s[j] = g;
    }
    *loss += (double)losses;
    *dscale += (double)scales;
    *dbias += (double)biases;
}

static void siglip_rows(const problem *p, int thread, int64_t row, int64_t m, double *dscale, double *dbias)
{
    float *s = tile_of(p, thread);
    double loss[TILE_ROWS] = {0};
    *dscale = *dbias = 0;
    for (int64_t tile = 0; tile < p->column_tiles; tile++) {
        int64_t column = bif_part(p->columns, p->column_tiles, tile);
        int64_t n = bif_part(p->columns, p->column_tiles, tile + 1) - column;
        similarities(p, thread, row, m, column, n, s);
        for (int64_t i = 0; i < m; i++) {
            siglip_row(p, s + i * TILE_COLUMNS, n, p->first + row + i - column, &loss[i], dscale, dbias);
        }
        if (p->da != NULL) {
            BIF_CPU(gemm)
            (p->device, thread, false, false, m, p->width, n, p->weight * p->scale, s, TILE_COLUMNS,
             p->b + column * p->width, p->width, 1.0f, p->da + row * p->width, p->width);
        }
    }
    for (int64_t i = 0; i < m; i++) {
        p->loss[row + i] = (float)loss[i];
    }
}

static void siglip_gradient(const problem *p, int64_t row, int64_t m, int64_t column, int64_t n, float *s)
{
    double unused = 0;
    for (int64_t i = 0; i < m; i++) {
        siglip_row(p, s + i * TILE_COLUMNS, n, p->first + row + i - column, &unused, &unused, &unused);
    }
}

void BIF_CPU(siglip)(bif_device *device, const bif_siglip_args *args)
{
    int threads = bif_threads_for(device, args->a->dim[0] * args->b->dim[0] * args->a->dim[1] / 8);
    problem p = problem_of(device, threads, args->a, args->b);
    p.first = args->first;
    p.scale = args->scale;
    p.bias = args->bias;
    p.weight = args->weight;
    p.loss = bif_f32(args->loss);
    p.da = bif_f32(args->da);
    p.db = bif_f32(args->db);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t tile = 0; tile < p.row_tiles; tile++) {
        int64_t row = bif_part(p.rows, p.row_tiles, tile);
        siglip_rows(&p, omp_get_thread_num(), row, bif_part(p.rows, p.row_tiles, tile + 1) - row, &p.dscale[tile],
                    &p.dbias[tile]);
    }
    if (p.da != NULL) {
        column_pass(&p, threads, siglip_gradient);
        add_sums(&p, p.dscale, args->dscale);
        add_sums(&p, p.dbias, args->dbias);
    }
}
