/* Beam search and the likelihood of given answers: several continuations of a prompt, each in a slot of its own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/generate_parts.h"

/* One request's search. ids [beams][max_new] of the running beams and of the finished ones, best first. */
typedef struct {
    int64_t running, finished;
    double *score, *ended; /* [beams]: sums of log-probabilities; those of finished ones by length */
    int32_t *ids, *end_ids;
    int64_t *end_length;
    int32_t *parent; /* [beams] of the step just chosen: number of a beam */
    bool done;
} search;

static search search_new(int64_t beams, int64_t most)
{
    search s = {.running = 1};
    s.score = bif_calloc((size_t)beams, sizeof *s.score);
    s.ended = bif_calloc((size_t)beams, sizeof *s.ended);
    s.ids = bif_calloc((size_t)(beams * most), sizeof *s.ids);
    s.end_ids = bif_calloc((size_t)(beams * most), sizeof *s.end_ids);
    s.end_length = bif_calloc((size_t)beams, sizeof *s.end_length);
    s.parent = bif_calloc((size_t)beams, sizeof *s.parent);
    return s;
}

static void search_free(search *s)
{
    free(s->score);
    free(s->ended);
    free(s->ids);
    free(s->end_ids);
    free(s->end_length);
    free(s->parent);
}

/* Puts a finished answer among the best, behind equals. */
static void finish(search *s, const bif_decoding *d, double score, const int32_t *ids, int64_t length)
{
    int64_t at = s->finished;
    while (at > 0 && s->ended[at - 1] < score) {
        at--;
    }
    if (at == d->beams) {
        return;
    }
    s->finished += s->finished < d->beams;
    for (int64_t k = s->finished - 1; k > at; k--) {
        s->ended[k] = s->ended[k - 1];
        s->end_length[k] = s->end_length[k - 1];
        memcpy(s->end_ids + k * d->max_new, s->end_ids + (k - 1) * d->max_new, (size_t)d->max_new * sizeof *s->end_ids);
    }
    s->ended[at] = score;
    s->end_length[at] = length;
    memcpy(s->end_ids + at * d->max_new, ids, (size_t)length * sizeof *ids);
}

/* The made-th token of each beam, from scores [running * classes]. Twice as many candidates as beams are looked at, for a beam ends with at
 * most one of them; only the first half may end. */
static void choose(search *s, const bif_decoding *d, const double *scores, int64_t classes, int32_t stop, int64_t made)
{
    const double divisor = pow((double)made, d->length_penalty);
    bif_candidate *best = bif_calloc((size_t)(2 * d->beams), sizeof *best);
    int32_t *ids = bif_calloc((size_t)(d->beams * d->max_new), sizeof *ids);
    const int64_t found = bif_top(scores, s->running * classes, 2 * d->beams, best);
    int64_t kept = 0;
    for (int64_t c = 0; c < found; c++) {
        const int64_t beam = best[c].index / classes;
        const int32_t id = (int32_t)(best[c].index % classes);
        const int32_t *before = s->ids + beam * d->max_new;
        if (id == stop || made == d->max_new) {
            if (c < d->beams) {
                int32_t *whole = bif_calloc((size_t)made, sizeof *whole);
                memcpy(whole, before, (size_t)(made - 1) * sizeof *whole);
                whole[made - 1] = id;
                finish(s, d, best[c].score / divisor, whole, id == stop ? made - 1 : made);
                free(whole);
            }
        } else if (kept < d->beams) {
            memcpy(ids + kept * d->max_new, before, (size_t)(made - 1) * sizeof *ids);
            ids[kept * d->max_new + made - 1] = id;
            s->score[kept] = best[c].score;
            s->parent[kept++] = (int32_t)beam;
        }
    }
    memcpy(s->ids, ids, (size_t)(d->beams * d->max_new) * sizeof *ids);
    s->running = kept;
    /* Done when no running beam, were it to end now, is better than all that are finished. */
    s->done = kept == 0 || made == d->max_new || (s->finished == d->beams && s->score[0] / divisor <= s->ended[d->beams - 1]);
    free(ids);
    free(best);
}

void bif_generate_beams(bif_generator *g, const bif_request *requests, int64_t count, bif_ids *answers)
{
    const bif_decoding *d = &g->limits.decoding;
    const bif_decoder *decoder = &g->session->vlm.decoder;
    bif_device *device = g->session->device;
    const int64_t batch = g->limits.batch;
    const int32_t stop = bif_chat_stop(&g->session->chat);
    (void)requests;
    search *all = bif_calloc((size_t)count, sizeof *all);
    double *scores = bif_calloc((size_t)(d->beams * g->classes), sizeof *scores);
    int32_t *from = bif_calloc((size_t)d->beams, sizeof *from), *slots = bif_calloc((size_t)d->beams, sizeof *slots);
    int64_t *row = bif_calloc((size_t)(count * d->beams), sizeof *row); /* of the logits, by request and beam */
    for (int64_t i = 0; i < count; i++) {
        all[i] = search_new(d->beams, d->max_new);
        row[i * d->beams] = i;
    }
    const size_t mark = bif_arena_mark(&g->arena);
    bif_tensor hidden = bif_rows(&g->last, 0, count);
    for (int64_t made = 1, rows = count; rows > 0; made++) {
        bif_generator_logits(g, &hidden);
        bif_arena_release(&g->arena, mark);
        for (int64_t i = 0; i < count; i++) {
            search *s = &all[i];
            if (s->done) {
                continue;
            }
            for (int64_t k = 0; k < s->running; k++) {
                const float *logits = g->logits + row[i * d->beams + k] * g->classes;
                const double base = s->score[k] - bif_log_sum_exp(logits, g->classes);
                for (int64_t v = 0; v < g->classes; v++) {
                    scores[k * g->classes + v] = (double)logits[v] + base;
                }
            }
            choose(s, d, scores, g->classes, stop, made);
            if (s->done) {
                continue;
            }
            for (int64_t k = 0; k < s->running; k++) {
                slots[k] = (int32_t)(k * batch + i);
                from[k] = (int32_t)(s->parent[k] * batch + i);
                if (made == 1 && k > 0) {
                    bif_kv_cache_copy(decoder, device, &g->cache, i, slots[k], g->length[i]);
                }
                g->cache.len[slots[k]] = g->length[i] + (int32_t)made - 1;
            }
            if (made > 1) {
                bif_kv_cache_reorder(decoder, device, &g->cache, slots, from, s->running, g->length[i], made - 1, g->scratch);
            }
        }
        rows = 0;
        for (int64_t k = 0; k < d->beams; k++) { /* neighbouring slots */
            for (int64_t i = 0; i < count; i++) {
                if (!all[i].done && k < all[i].running) {
                    row[i * d->beams + k] = rows;
                    g->slots[rows] = (int32_t)(k * batch + i);
                    g->ids[rows++] = all[i].ids[k * d->max_new + made - 1];
                }
            }
        }
        if (rows > 0) {
            if (g->between != NULL) {
                g->between(g->context);
            }
            hidden = bif_generator_step(g, rows);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        for (int64_t t = 0; t < (all[i].finished > 0 ? all[i].end_length[0] : 0); t++) {
            bif_ids_push(&answers[i], all[i].end_ids[t]);
        }
        search_free(&all[i]);
    }
    free(all);
    free(scores);
    free(from);
    free(slots);
    free(row);
}

/* ---- likelihood ---- */

/* Takes from scores[place[r]] the losses of rows source[r] of a hidden state against targets, some at a time. */
static void add_likelihood(bif_generator *g, const bif_tensor *hidden, const int32_t *source, const int32_t *target, const int64_t *place,
                           int64_t rows, double *scores)
{
    bif_device *device = g->session->device;
    const int64_t chunk = g->limits.batch * g->fan;
    float *loss = bif_calloc((size_t)chunk, sizeof *loss);
    for (int64_t at = 0; at < rows; at += chunk) {
        const int64_t n = rows - at < chunk ? rows - at : chunk;
        const size_t mark = bif_arena_mark(&g->arena);
        const bif_dtype dtype = g->session->vlm.params.dtype;
        const bif_tensor index = bif_generator_upload(g, source + at, n), targets = bif_generator_upload(g, target + at, n);
        bif_tensor some = bif_take2(&g->arena, dtype, n, hidden->dim[1]), logits = bif_take2(&g->arena, dtype, n, g->classes);
        bif_tensor losses = bif_take1(&g->arena, BIF_DTYPE_F32, n);
        bif_gather_rows(device, &(bif_gather_rows_args){.src = hidden, .index = &index, .dst = &some});
        bif_decoder_logits(&g->session->vlm.decoder, device, &some, &logits);
        bif_cross_entropy(device, &(bif_cross_entropy_args){.logits = &logits, .targets = &targets, .loss = &losses});
        device->copy_out(device, loss, losses.data, (size_t)n * sizeof *loss);
        for (int64_t r = 0; r < n; r++) {
            scores[place[at + r]] -= (double)loss[r];
        }
        bif_arena_release(&g->arena, mark);
    }
    free(loss);
}

bif_status bif_rank(bif_generator *g, const bif_request *requests, int64_t count, double *scores)
{
    bif_status st = bif_generator_prompts(g, requests, count);
    if (st != BIF_OK) {
        return st;
    }
    const int64_t batch = g->limits.batch, options = g->limits.max_options, most = batch * options * g->limits.max_option;
    int32_t *source = bif_calloc((size_t)most, sizeof *source), *target = bif_calloc((size_t)most, sizeof *target);
    int64_t *place = bif_calloc((size_t)most, sizeof *place), rows = 0;
    for (int64_t i = 0; i < count * options; i++) {
        scores[i] = 0.0;
    }
    for (int64_t k = 0; k < options; k++) {
        for (int64_t i = 0; i < count; i++) {
            if (k < requests[i].option_count) {
                const bif_ids *option = &requests[i].options[k];
                BIF_BUG_IF(option->count < 1 || (int64_t)option->count > g->limits.max_option, "an answer of %zu tokens", option->count);
                source[rows] = (int32_t)i;
                target[rows] = option->ids[0];
                place[rows++] = i * options + k;
                if (k > 0) {
                    bif_kv_cache_copy(&g->session->vlm.decoder, g->session->device, &g->cache, i, k * batch + i, g->length[i]);
                }
            }
        }
    }
    add_likelihood(g, &g->last, source, target, place, rows, scores);
    /* All tokens but the last of each answer go on; each says how likely the next one is. */
    rows = 0;
    bool more = true;
    for (int64_t t = 0; more; t++) {
        more = false;
        for (int64_t k = 0; k < options; k++) {
            for (int64_t i = 0; i < count; i++) {
                if (k < requests[i].option_count && t + 1 < (int64_t)requests[i].options[k].count) {
                    g->slots[rows] = (int32_t)(k * batch + i);
                    g->ids[rows] = requests[i].options[k].ids[t];
                    source[rows] = (int32_t)rows;
                    target[rows] = requests[i].options[k].ids[t + 1];
                    place[rows++] = i * options + k;
                    more = true;
                }
            }
        }
    }
    if (rows > 0) {
        const size_t mark = bif_arena_mark(&g->arena);
        const bif_tensor hidden = bif_generator_step(g, rows);
        add_likelihood(g, &hidden, source, target, place, rows, scores);
        bif_arena_release(&g->arena, mark);
    }
    free(source);
    free(target);
    free(place);
    return BIF_OK;
}
