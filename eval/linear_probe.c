#include "eval/linear_probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"

enum { GRID = 97, PER_DECADE = 8, COARSE = 16 }; /* l2 = 10^(i / 8 - 6) */

typedef struct {
    bif_session *session;
    bif_comm *comm;
    const bif_linear_probe_options *options;
    int64_t width, classes;
    bif_labels train, validation, test;
    float *x, *y;      /* embeddings: of train, then validation; of test */
    bif_labels fit, held; /* views: what a candidate is fitted to, and judged by */
    float *fit_x, *held_x;
    float *w, *b;
} probe;

static bif_status read_files(probe *p, bif_lines *classes)
{
    bif_status st = BIF_OK;
    const bif_linear_probe_options *o = p->options;
    BIF_TRY(bif_lines_read(o->classes, classes));
    if (classes->count < 2) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: holds %lld classes; one name a line, two at least", o->classes, (long long)classes->count));
    }
    p->classes = classes->count;
    BIF_TRY(bif_labels_read(o->train, classes, &p->train));
    BIF_TRY(bif_labels_read(o->test, classes, &p->test));
    if (o->validation != NULL) {
        BIF_TRY(bif_labels_read(o->validation, classes, &p->validation));
    }
    if (o->l2 < 0.0 && o->validation == NULL && p->train.count < 5) {
        st = bif_fail(BIF_ERR_DATA, "%s: %lld pictures are too few to choose --l2 with; give --l2 or --validation", o->train,
                      (long long)p->train.count);
    }
done:
    return st;
}

/* Fits the first `rows` of x and classifies `labels`. */
static bif_status fit(probe *p, const float *x, const int32_t *label, int64_t rows, double l2, const bif_labels *labels, const float *test,
                      bif_logistic_result *result, bif_accuracy *accuracy)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_logistic(p->session->device, p->comm,
                         &(bif_logistic_args){.x = x, .label = label, .rows = rows, .width = p->width, .classes = p->classes, .l2 = l2,
                                              .iterations = p->options->iterations, .tolerance = 1e-5},
                         p->w, p->b, result));
    BIF_TRY(bif_classify(p->session->device, p->comm, labels, test, p->width, p->w, p->b, p->classes, p->options->batch, accuracy));
done:
    return st;
}

/* Copies of the rows that a candidate is fitted to and judged by. Without validation pictures a fifth of the training
 * pictures is held out. */
static void split(probe *p)
{
    const int64_t n = p->train.count, held = p->options->validation != NULL ? p->validation.count : n / 5;
    const size_t row = (size_t)p->width * sizeof(float);
    p->fit_x = bif_malloc((size_t)n * row);
    p->held_x = bif_malloc((size_t)held * row);
    p->fit.label = bif_calloc((size_t)n, sizeof *p->fit.label);
    p->held.label = bif_calloc((size_t)held, sizeof *p->held.label);
    if (p->options->validation != NULL) {
        p->fit.count = n;
        p->held.count = held;
        memcpy(p->fit_x, p->x, (size_t)n * row);
        memcpy(p->held_x, p->x + n * p->width, (size_t)held * row);
        memcpy(p->fit.label, p->train.label, (size_t)n * sizeof *p->fit.label);
        memcpy(p->held.label, p->validation.label, (size_t)held * sizeof *p->held.label);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t from = (int64_t)bif_permute(0, 0, (uint64_t)n, (uint64_t)i);
        bif_labels *to = i < held ? &p->held : &p->fit;
        memcpy((i < held ? p->held_x : p->fit_x) + to->count * p->width, p->x + from * p->width, row);
        to->label[to->count++] = p->train.label[from];
    }
}

/* The peak of the validation accuracy: every other decade first, then the neighbours of the best at half the distance, and so on. Of equals
 * the larger l2. */
static bif_status choose(probe *p, double *l2, double *best_share)
{
    bif_status st = BIF_OK;
    bif_logistic_result fitted;
    bif_accuracy accuracy;
    double share[GRID];
    int best = -1;
    split(p);
    for (int i = 0; i < GRID; i++) {
        share[i] = -1.0;
    }
    for (int distance = COARSE; distance >= 1; distance /= 2) {
        const int from = distance == COARSE ? 0 : best - distance, to = distance == COARSE ? GRID - 1 : best + distance;
        for (int i = from; i <= to; i += distance) {
            if (i < 0 || i >= GRID || share[i] >= 0.0) {
                continue;
            }
            BIF_TRY(fit(p, p->fit_x, p->fit.label, p->fit.count, pow(10.0, (double)i / PER_DECADE - 6.0), &p->held, p->held_x, &fitted,
                        &accuracy));
            share[i] = (double)accuracy.correct1 / (double)p->held.count;
        }
        for (int i = 0; i < GRID; i++) {
            best = share[i] >= 0.0 && (best < 0 || share[i] >= share[best]) ? i : best;
        }
    }
    *l2 = pow(10.0, (double)best / PER_DECADE - 6.0);
    *best_share = share[best];
done:
    return st;
}

static bif_status embed(probe *p)
{
    bif_status st = BIF_OK;
    const bif_linear_probe_options *o = p->options;
    p->x = bif_calloc((size_t)((p->train.count + p->validation.count) * p->width), sizeof *p->x);
    p->y = bif_calloc((size_t)(p->test.count * p->width), sizeof *p->y);
    p->w = bif_calloc((size_t)(p->classes * p->width), sizeof *p->w);
    p->b = bif_calloc((size_t)p->classes, sizeof *p->b);
    BIF_TRY(bif_embed_images(p->session, p->comm, o->image_root, o->batch, p->train.item, p->train.count, p->x));
    BIF_TRY(bif_embed_images(p->session, p->comm, o->image_root, o->batch, p->validation.item, p->validation.count,
                             p->x + p->train.count * p->width));
    BIF_TRY(bif_embed_images(p->session, p->comm, o->image_root, o->batch, p->test.item, p->test.count, p->y));
done:
    return st;
}

bif_status bif_linear_probe(bif_session *session, bif_comm *comm, const bif_linear_probe_options *options, bif_linear_probe_result *result)
{
    bif_status st = BIF_OK;
    bif_lines classes = {0};
    probe p = {.session = session, .comm = comm, .options = options, .width = session->model.projection};
    int32_t *label = NULL;
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    *result = (bif_linear_probe_result){.l2 = options->l2, .validation = NAN};
    BIF_TRY(bif_comm_agree(comm, read_files(&p, &classes)));
    BIF_TRY(embed(&p));
    if (options->l2 < 0.0) {
        BIF_TRY(choose(&p, &result->l2, &result->validation));
    }
    result->fitted = p.train.count + p.validation.count;
    label = bif_calloc((size_t)result->fitted, sizeof *label);
    memcpy(label, p.train.label, (size_t)p.train.count * sizeof *label);
    if (p.validation.count > 0) {
        memcpy(label + p.train.count, p.validation.label, (size_t)p.validation.count * sizeof *label);
    }
    BIF_TRY(fit(&p, p.x, label, result->fitted, result->l2, &p.test, p.y, &result->fit, &result->accuracy));
    clock_gettime(CLOCK_MONOTONIC, &to);
    result->seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
done:
    bif_lines_free(&classes);
    bif_labels_free(&p.train);
    bif_labels_free(&p.validation);
    bif_labels_free(&p.test);
    bif_labels_free(&p.fit);
    bif_labels_free(&p.held);
    free(p.x);
    free(p.y);
    free(p.fit_x);
    free(p.held_x);
    free(p.w);
    free(p.b);
    free(label);
    return st;
}
