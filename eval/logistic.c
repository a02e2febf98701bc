#include "eval/logistic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

enum { PART = 4096, HISTORY = 10, TRIALS = 40 };

typedef struct {
    const bif_logistic_args *args;
    bif_device *device;
    bif_comm *comm;
    int64_t size, parts;               /* numbers to be found; parts of this rank */
    double grid, loss_grid;            /* sums of multiples of these are exact */
    void *memory;
    bif_tensor x, targets;             /* of this rank's parts */
    bif_tensor w, b, dw, db, logits, loss, sum;
    float *host;                       /* [size] */
    int64_t evaluations;
} problem;

static void problem_plan(problem *p, bif_arena *arena)
{
    const bif_logistic_args *a = p->args;
    p->x = bif_take2(arena, BIF_DTYPE_F32, p->parts * PART, a->width);
    p->targets = bif_take1(arena, BIF_DTYPE_I32, p->parts * PART);
    p->w = bif_take2(arena, BIF_DTYPE_F32, a->classes, a->width);
    p->dw = bif_take2(arena, BIF_DTYPE_F32, a->classes, a->width);
    p->b = bif_take1(arena, BIF_DTYPE_F32, a->classes);
    p->db = bif_take1(arena, BIF_DTYPE_F32, a->classes);
    p->logits = bif_take2(arena, BIF_DTYPE_F32, PART, a->classes);
    p->loss = bif_take1(arena, BIF_DTYPE_F32, PART);
    p->sum = bif_take1(arena, BIF_DTYPE_F64, 1);
}

/* Rows of part c; part c is rank c % world's. */
static int64_t part_rows(const problem *p, int64_t c)
{
    const int64_t left = p->args->rows - c * PART;
    return left < PART ? left : PART;
}

static bif_status problem_open(problem *p)
{
    bif_status st = BIF_OK;
    const bif_logistic_args *a = p->args;
    const int64_t rank = bif_comm_rank(p->comm), world = bif_comm_world(p->comm);
    p->size = a->classes * (a->width + 1);
    p->parts = 0;
    for (int64_t c = rank; c * PART < a->rows; c += world) {
        p->parts++;
    }
    float largest = 1.0f;
    for (int64_t i = 0; i < a->rows * a->width; i++) {
        largest = fabsf(a->x[i]) > largest ? fabsf(a->x[i]) : largest;
    }
    /* An entry of the mean gradient is at most the largest |x|: 2^44 grid points below it leave room in 53 bits. A loss may be large while
     * a step is tried: up to 2^22. */
    p->grid = exp2(ilogb((double)largest) + 1 - 44);
    p->loss_grid = exp2(-30);
    p->host = bif_calloc((size_t)p->size, sizeof *p->host);
    bif_arena arena = bif_arena_measure("logistic regression");
    problem_plan(p, &arena);
    BIF_TRY(p->device->alloc(p->device, arena.peak, &p->memory));
    arena = bif_arena_over("logistic regression", p->memory, arena.peak);
    problem_plan(p, &arena);
    for (int64_t c = rank, own = 0; c * PART < a->rows; c += world, own++) {
        bif_tensor x = bif_rows(&p->x, own * PART, part_rows(p, c)), targets = bif_rows(&p->targets, own * PART, part_rows(p, c));
        p->device->copy_in(p->device, x.data, a->x + c * PART * a->width, bif_bytes(&x));
        p->device->copy_in(p->device, targets.data, a->label + c * PART, bif_bytes(&targets));
    }
done:
    return st;
}

static void problem_close(problem *p)
{
    if (p->memory != NULL) {
        p->device->release(p->device, p->memory);
    }
    free(p->host);
}

/* Adds one part's gradient and loss, as a share of the mean. */
static void evaluate_part(problem *p, int64_t own, int64_t rows, double *gradient, double *loss)
{
    bif_device *device = p->device;
    const double share = 1.0 / (double)p->args->rows;
    const bif_tensor x = bif_rows(&p->x, own * PART, rows), targets = bif_rows(&p->targets, own * PART, rows);
    bif_tensor logits = bif_rows(&p->logits, 0, rows), losses = bif_rows(&p->loss, 0, rows);
    const int64_t weights = bif_numel(&p->w);
    double sum = 0.0;
    device->zero(device, p->dw.data, bif_bytes(&p->dw));
    device->zero(device, p->db.data, bif_bytes(&p->db));
    device->zero(device, p->sum.data, sizeof(double));
    bif_linear(device, &(bif_linear_args){.x = &x, .w = &p->w, .b = &p->b, .y = &logits});
    bif_cross_entropy(device, &(bif_cross_entropy_args){.logits = &logits, .targets = &targets, .loss = &losses, .dlogits = &logits});
    bif_sum(device, &losses, &p->sum);
    bif_linear_backward(device, &(bif_linear_backward_args){.x = &x, .dy = &logits, .dw = &p->dw, .db = &p->db});
    device->copy_out(device, p->host, p->dw.data, bif_bytes(&p->dw));
    device->copy_out(device, p->host + weights, p->db.data, bif_bytes(&p->db));
    device->copy_out(device, &sum, p->sum.data, sizeof sum);
    for (int64_t i = 0; i < p->size; i++) {
        gradient[i] += rint((double)p->host[i] * share / p->grid) * p->grid;
    }
    *loss += rint(sum * share / p->loss_grid) * p->loss_grid;
}

/* Objective and gradient at theta = W, b. */
static double evaluate(problem *p, const double *theta, double *gradient)
{
    const bif_logistic_args *a = p->args;
    const int64_t weights = a->classes * a->width;
    const double decay = a->l2 / (double)a->rows;
    double loss = 0.0, square = 0.0;
    p->evaluations++;
    for (int64_t i = 0; i < p->size; i++) {
        p->host[i] = (float)theta[i];
        gradient[i] = 0.0;
    }
    p->device->copy_in(p->device, p->w.data, p->host, bif_bytes(&p->w));
    p->device->copy_in(p->device, p->b.data, p->host + weights, bif_bytes(&p->b));
    const int64_t world = bif_comm_world(p->comm);
    for (int64_t c = bif_comm_rank(p->comm), own = 0; c * PART < a->rows; c += world, own++) {
        evaluate_part(p, own, part_rows(p, c), gradient, &loss);
    }
    bif_comm_sum_f64(p->comm, &loss, 1);
    for (int64_t at = 0; at < p->size; at += 1 << 24) {
        const int64_t count = p->size - at < 1 << 24 ? p->size - at : 1 << 24;
        bif_comm_sum_f64(p->comm, gradient + at, (int)count);
    }
    for (int64_t i = 0; i < weights; i++) {
        gradient[i] += decay * theta[i];
        square += theta[i] * theta[i];
    }
    return loss + 0.5 * decay * square;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

typedef struct {
    double *theta, *gradient, *direction, *next, *next_gradient; /* [size] */
    double *step[HISTORY], *change[HISTORY], curvature[HISTORY]; /* differences of theta and of the gradient, their product */
    int64_t pairs;                                               /* so far; the last HISTORY are kept */
} search;

/* direction = -H gradient: the two loops of Nocedal and Wright, algorithm 7.4. */
static void choose_direction(search *s, int64_t n)
{
    const int64_t kept = s->pairs < HISTORY ? s->pairs : HISTORY;
    double alpha[HISTORY];
    for (int64_t i = 0; i < n; i++) {
        s->direction[i] = -s->gradient[i];
    }
    for (int64_t k = 0; k < kept; k++) {
        const int64_t h = (s->pairs - 1 - k) % HISTORY;
        alpha[h] = dot(s->step[h], s->direction, n) / s->curvature[h];
        for (int64_t i = 0; i < n; i++) {
            s->direction[i] -= alpha[h] * s->change[h][i];
        }
    }
    if (kept > 0) {
        const int64_t h = (s->pairs - 1) % HISTORY;
        const double scale = s->curvature[h] / dot(s->change[h], s->change[h], n);
        for (int64_t i = 0; i < n; i++) {
            s->direction[i] *= scale;
        }
    }
    for (int64_t k = kept; k-- > 0;) {
        const int64_t h = (s->pairs - 1 - k) % HISTORY;
        const double beta = dot(s->change[h], s->direction, n) / s->curvature[h];
        for (int64_t i = 0; i < n; i++) {
            s->direction[i] += (alpha[h] - beta) * s->step[h][i];
        }
    }
}

/* A step along the direction that lowers the objective and flattens its slope; false when there is none that f32 can see. The objective is
 * convex, so the slope rises along the line and brackets the step. */
static bool line_search(problem *p, search *s, double from, double *objective)
{
    const int64_t n = p->size;
    const double slope = dot(s->gradient, s->direction, n), noise = 1e-6 * fabs(from);
    double low = 0.0, high = INFINITY, at = s->pairs == 0 ? 1.0 / sqrt(dot(s->direction, s->direction, n)) : 1.0;
    for (int trial = 0; slope < 0.0 && trial < TRIALS; trial++) {
        for (int64_t i = 0; i < n; i++) {
            s->next[i] = s->theta[i] + at * s->direction[i];
        }
        *objective = evaluate(p, s->next, s->next_gradient);
        const double here = dot(s->next_gradient, s->direction, n);
        if (!(*objective <= from + 1e-4 * at * slope + noise) || here > -0.9 * slope) {
            high = at;
        } else if (here < 0.9 * slope) {
            low = at;
        } else {
            return true;
        }
        at = isinf(high) ? 2.0 * at : 0.5 * (low + high);
    }
    return false;
}

static void remember(search *s, int64_t n)
{
    const int64_t h = s->pairs % HISTORY;
    for (int64_t i = 0; i < n; i++) {
        s->step[h][i] = s->next[i] - s->theta[i];
        s->change[h][i] = s->next_gradient[i] - s->gradient[i];
    }
    s->curvature[h] = dot(s->step[h], s->change[h], n);
    s->pairs += s->curvature[h] > 1e-12 * dot(s->change[h], s->change[h], n);
    memcpy(s->theta, s->next, (size_t)n * sizeof *s->theta);
    memcpy(s->gradient, s->next_gradient, (size_t)n * sizeof *s->gradient);
}

static void minimise(problem *p, search *s, bif_logistic_result *result)
{
    const int64_t n = p->size;
    double objective = evaluate(p, s->theta, s->gradient), next = 0.0;
    const double start = sqrt(dot(s->gradient, s->gradient, n));
    int64_t iteration = 0;
    double length = start;
    for (; iteration < p->args->iterations && length > p->args->tolerance * start; iteration++) {
        choose_direction(s, n);
        if (!line_search(p, s, objective, &next)) {
            break;
        }
        remember(s, n);
        objective = next;
        length = sqrt(dot(s->gradient, s->gradient, n));
    }
    *result = (bif_logistic_result){
        .objective = objective, .gradient = start > 0.0 ? length / start : 0.0, .iterations = iteration, .evaluations = p->evaluations};
}

bif_status bif_logistic(bif_device *device, bif_comm *comm, const bif_logistic_args *args, float *w, float *b, bif_logistic_result *result)
{
    bif_status st = BIF_OK;
    problem p = {.args = args, .device = device, .comm = comm};
    search s = {0};
    double *memory = NULL;
    BIF_TRY(bif_comm_agree(comm, problem_open(&p)));
    const int64_t n = p.size, weights = args->classes * args->width;
    memory = bif_calloc((size_t)((5 + 2 * HISTORY) * n), sizeof *memory);
    s = (search){
        .theta = memory, .gradient = memory + n, .direction = memory + 2 * n, .next = memory + 3 * n, .next_gradient = memory + 4 * n};
    for (int h = 0; h < HISTORY; h++) {
        s.step[h] = memory + (5 + 2 * h) * n;
        s.change[h] = memory + (6 + 2 * h) * n;
    }
    minimise(&p, &s, result);
    for (int64_t i = 0; i < weights; i++) {
        w[i] = (float)s.theta[i];
    }
    for (int64_t c = 0; c < args->classes; c++) {
        b[c] = (float)s.theta[weights + c];
    }
done:
    problem_close(&p);
    free(memory);
    return st;
}
