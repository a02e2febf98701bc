/* Attention backward, from the logsumexp the forward stored: p = 2^(s - lse), dp = dout v, ds = p (dp - delta) with
 * delta = rowsum(dout * out), dq = scale ds k, dk = scale ds^T q, dv = p^T dout; five small products a tile, nothing of
 * T x T.
 *
 * A unit of work is (sequence, key head): blocks of keys outside, their dK and dV stay in scratch while the query rows
 * of all heads of the group go past; dQ adds up in dqkv, in the order of the key blocks. When there are too few units
 * for the threads (one long sequence, many cores), dK/dV and dQ are made by two separate passes, cut by key blocks and
 * by query rows: seven products instead of five, but no two threads ever write the same element. */
#include <string.h>

#include "kernels/attention.h"

#define STEP BIF_TILE_ROWS

/* What a pass over tiles writes. */
typedef enum { WANT_DQ = 1, WANT_DKV = 2 } want;

typedef struct {
    float *k, *kt, *vt;   /* a block of keys: panels [keys, width], [dim, padded(keys)] twice */
    float *dk, *dv;       /* panels [keys, width] */
    float *q, *dout, *dq; /* a block of query rows: panels [rows, width] */
    float *delta, *lse;   /* [rows]; lse in units of log 2 */
    float *p, *ds;        /* [rows, padded(keys)] */
} scratch;

/* Keys and query rows of a tile: both score tiles of one tile, 2 x 96 x 96 x 4 bytes, are 72 KB, well inside the second
 * cache. */
#define TILE 96

static scratch scratch_of(bif_device *device, const bif_attention_shape *shape, int64_t longest)
{
    int64_t rows = bif_min(TILE, longest), keys = bif_padded(rows), width = shape->width;
    size_t floats =
        (size_t)(3 * keys * width + 2 * shape->dim * keys + 3 * rows * width + 2 * rows + 2 * rows * keys + 12 * 16);
    float *at = bif_cpu_scratch(device, omp_get_thread_num(), floats * sizeof(float));
    scratch s;
    s.k = bif_attention_take(&at, keys * width);
    s.dk = bif_attention_take(&at, keys * width);
    s.dv = bif_attention_take(&at, keys * width);
    s.kt = bif_attention_take(&at, shape->dim * keys);
    s.vt = bif_attention_take(&at, shape->dim * keys);
    s.q = bif_attention_take(&at, rows * width);
    s.dout = bif_attention_take(&at, rows * width);
    s.dq = bif_attention_take(&at, rows * width);
    s.delta = bif_attention_take(&at, rows);
    s.lse = bif_attention_take(&at, rows);
    s.p = bif_attention_take(&at, rows * keys);
    s.ds = bif_attention_take(&at, rows * keys);
    return s;
}

/* One row: scores become p, dp becomes ds; both 0 from `visible` on up to `filled`, past the `computed` columns. */
static inline void row_gradient(float *p, float *ds, int64_t visible, int64_t computed, int64_t filled, float factor,
                                float lse, float delta)
{
    for (int64_t j = 0; j < computed; j += BIF_LANES) {
        bif_vec weight = bif_vexp2(bif_load(p + j) * factor - lse);
        bif_vec gradient = weight * (bif_load(ds + j) - delta);
        if (j + BIF_LANES > visible) {
            weight = bif_first(weight, visible - j, 0.0f);
            gradient = bif_first(gradient, visible - j, 0.0f);
        }
        bif_store(p + j, weight);
        bif_store(ds + j, gradient);
    }
    for (int64_t j = computed; j < filled; j += BIF_LANES) {
        bif_store(p + j, (bif_vec){0});
        bif_store(ds + j, (bif_vec){0});
    }
}

/* What the next unit will read. */
typedef struct {
    const bif_attention_backward_args *args; /* NULL = do not ask */
    bif_attention_next next;
    int64_t begin; /* row of the next unit that goes with row 0 of the tile */
} ahead;

__attribute__((always_inline)) static inline void prefetch_rows(const bif_attention_shape *shape, const ahead *ask,
                                                                int64_t begin, int64_t end)
{
    const bif_attention_next *next = &ask->next;
    begin += ask->begin;
    end = bif_min(end + ask->begin, next->rows);
    if (ask->args == NULL || begin >= end) {
        return;
    }
    int64_t stride = shape->heads * shape->dim, width = shape->group * shape->dim;
    int64_t at = (next->row + begin) * stride + next->kv * width;
    bif_attention_prefetch(shape, bif_f32(ask->args->qkv), next, begin, end);
    bif_prefetch(bif_f32(ask->args->out) + at, end - begin, stride, width);
    bif_prefetch(bif_f32(ask->args->dout) + at, end - begin, stride, width);
}

/* One tile: `rows` query rows against `keys` keys. Row i sees the first keys_of_first + i keys of the block when
 * causal. */
static void run_tile(const bif_attention_shape *shape, const scratch *s, want wanted, int64_t rows, int64_t keys,
                     int64_t keys_of_first, const ahead *ask)
{
    int64_t stride = bif_padded(keys), width = shape->width, parts = (rows + STEP - 1) / STEP;
    for (int64_t part = 0; part < parts; part++) {
        int64_t i = bif_part(rows, parts, part), n = bif_part(rows, parts, part + 1) - i;
        int64_t last = shape->causal ? bif_min(keys, keys_of_first + i + n - 1) : keys;
        /* dK and dV take STEP keys at a time, from the first row that sees one of them: such a row reads up to STEP - 1
         * columns more than it sees. */
        int64_t computed = bif_padded(last), filled = bif_min(stride, bif_padded(last + STEP));
        prefetch_rows(shape, ask, i, i + n);
        float *p = s->p + i * stride, *ds = s->ds + i * stride;
        BIF_CPU(tile)(n, computed, shape->dim, s->q + i * width, width, s->kt, stride, false, p, stride);
        BIF_CPU(tile)(n, computed, shape->dim, s->dout + i * width, width, s->vt, stride, false, ds, stride);
        for (int64_t x = 0; x < n; x++) {
            int64_t visible = shape->causal ? bif_min(keys, keys_of_first + i + x) : keys;
            row_gradient(p + x * stride, ds + x * stride, visible, computed, filled, shape->scale * BIF_LOG2E,
                         s->lse[i + x], s->delta[i + x]);
        }
        if (wanted & WANT_DQ) {
            BIF_CPU(tile)(n, width, last, ds, stride, s->k, width, false, s->dq + i * width, width);
        }
    }
    if (!(wanted & WANT_DKV)) {
        return;
    }
    for (int64_t j = 0; j < keys; j += shape->causal ? STEP : keys) {
        int64_t n = shape->causal ? bif_min(STEP, keys - j) : keys;
        int64_t i = shape->causal ? bif_max(0, j + 1 - keys_of_first) : 0; /* the first row that sees key j */
        if (i >= rows) {
            break;
        }
        BIF_CPU(tile_t)
        (n, width, rows - i, s->p + i * stride + j, stride, s->dout + i * width, width, true, s->dv + j * width, width);
        BIF_CPU(tile_t)
        (n, width, rows - i, s->ds + i * stride + j, stride, s->q + i * width, width, true, s->dk + j * width, width);
    }
}

/* to [rows, stride] = or += factor * panel [rows, width]. */
static void put_rows(const bif_attention_shape *shape, const float *panel, int64_t rows, float factor, bool add,
                     float *to)
{
    int64_t whole = shape->dim / BIF_LANES * BIF_LANES;
    for (int64_t i = 0; i < rows; i++, panel += shape->width, to += shape->row) {
        for (int64_t j = 0; j < whole; j += BIF_LANES) {
            bif_vec x = factor * bif_load(panel + j);
            bif_store(to + j, add ? bif_load(to + j) + x : x);
        }
        for (int64_t j = whole; j < shape->dim; j++) {
            to[j] = add ? to[j] + factor * panel[j] : factor * panel[j];
        }
    }
}

/* Packs query rows [begin, end) of a head, their dout, delta and lse. */
static void pack_queries(const bif_attention_backward_args *args, const bif_attention_shape *shape, const scratch *s,
                         int64_t head, int64_t begin, int64_t end)
{
    int64_t dim = shape->dim, stride = shape->heads * dim;
    const float *out = bif_f32(args->out) + begin * stride + head * dim;
    BIF_CPU(pack_rows)(end - begin, dim, 1.0f, bif_f32(args->qkv) + begin * shape->row + head * dim, shape->row, s->q);
    BIF_CPU(pack_rows)(end - begin, dim, 1.0f, bif_f32(args->dout) + begin * stride + head * dim, stride, s->dout);
    int64_t whole = dim / BIF_LANES * BIF_LANES;
    for (int64_t i = 0; i < end - begin; i++) {
        const float *dout = s->dout + i * shape->width, *row = out + i * stride;
        bif_vec sum = {0};
        for (int64_t j = 0; j < whole; j += BIF_LANES) {
            sum += bif_load(dout + j) * bif_load(row + j);
        }
        float delta = bif_hsum(sum);
        for (int64_t j = whole; j < dim; j++) {
            delta += dout[j] * row[j];
        }
        s->delta[i] = delta;
        s->lse[i] = bif_f32(args->lse)[(begin + i) * shape->heads + head] * BIF_LOG2E;
    }
}

/* All tiles of key blocks [block_begin, block_end) and query rows [begin, end) of one sequence and key head. A dQ pass
 * must take all blocks, a dK/dV pass all rows. */
static void run_unit(const bif_attention_backward_args *args, const bif_attention_shape *shape, const scratch *s,
                     want wanted, int64_t sequence, int64_t kv, int64_t block_begin, int64_t block_end, int64_t begin,
                     int64_t end)
{
    int64_t start = shape->bounds[sequence], t = shape->bounds[sequence + 1] - start, dim = shape->dim,
            row = shape->row;
    const float *qkv = bif_f32(args->qkv) + start * row;
    float *dqkv = bif_f32(args->dqkv) + start * row;
    bif_cut cut = bif_cut_of(t, TILE, BIF_LANES);
    for (int64_t b = block_begin; b < block_end; b++) {
        int64_t k0 = bif_cut_begin(&cut, b), keys = bif_cut_begin(&cut, b + 1) - k0;
        int64_t at = k0 * row + (shape->heads + kv) * dim, v = shape->kv_heads * dim;
        int64_t from = shape->causal ? bif_max(begin, k0) : begin;
        if (from >= end) {
            break;
        }
        BIF_CPU(pack_rows)(keys, dim, 1.0f, qkv + at, row, s->k);
        BIF_CPU(pack_columns)(keys, dim, qkv + at, row, s->kt);
        BIF_CPU(pack_columns)(keys, dim, qkv + at + v, row, s->vt);
        if (wanted & WANT_DKV) {
            memset(s->dk, 0, (size_t)(keys * shape->width) * sizeof(float));
            memset(s->dv, 0, (size_t)(keys * shape->width) * sizeof(float));
        }
        bif_cut row_cut = bif_cut_of(end - from, TILE, 1);
        for (int64_t head = kv * shape->group; head < (kv + 1) * shape->group; head++) {
            for (int64_t r = 0; r < row_cut.parts; r++) {
                int64_t q0 = from + bif_cut_begin(&row_cut, r), q1 = from + bif_cut_begin(&row_cut, r + 1);
                pack_queries(args, shape, s, head, start + q0, start + q1);
                bool last = b + 1 == block_end && head % shape->group == 0;
                ahead ask = {last ? args : NULL, bif_attention_next_of(shape, sequence, kv), q0 - from};
                run_tile(shape, s, wanted, q1 - q0, keys, q0 + 1 - k0, &ask);
                if (wanted & WANT_DQ) {
                    put_rows(shape, s->dq, q1 - q0, shape->scale, b > 0, dqkv + q0 * row + head * dim);
                }
            }
        }
        if (wanted & WANT_DKV) {
            put_rows(shape, s->dk, keys, shape->scale, false, dqkv + at);
            put_rows(shape, s->dv, keys, 1.0f, false, dqkv + at + v);
        }
    }
}

/* How a call is shared out: whole (sequence, key head) pairs, or blocks of keys, or blocks of query rows. */
typedef enum { BY_PAIR, BY_KEYS, BY_ROWS } sharing;

/* Query rows of one unit of the dQ pass: two tiles, so that packing the keys is paid for. */
#define ROWS_OF_UNIT (2 * TILE)

static bif_cut units_of(sharing how, int64_t t)
{
    bif_cut whole = {t, t, t > 0};
    return how == BY_PAIR ? whole : how == BY_KEYS ? bif_cut_of(t, TILE, BIF_LANES) : bif_cut_of(t, ROWS_OF_UNIT, 1);
}

/* Cost of rows (or keys) [begin, end): with a causal mask late rows see many keys, late keys are seen by few rows. */
static double unit_cost(const bif_attention_shape *shape, sharing how, int64_t t, int64_t begin, int64_t end)
{
    return how == BY_KEYS ? bif_attention_cost(shape->causal, t, t - end, t - begin)
                          : bif_attention_cost(shape->causal, t, begin, end);
}

static double total_cost(const bif_attention_shape *shape)
{
    double total = 0;
    for (int64_t i = 0; i < shape->sequences; i++) {
        int64_t t = shape->bounds[i + 1] - shape->bounds[i];
        total += bif_attention_cost(shape->causal, t, 0, t) * (double)shape->kv_heads;
    }
    return total;
}

/* One share of all units; with `s` NULL nothing is done but adding up its cost, which is returned. */
static double run_share(const bif_attention_backward_args *args, const bif_attention_shape *shape, const scratch *s,
                        sharing how, int share, int threads, double total)
{
    double before = 0, mine = 0;
    for (int64_t i = 0; i < shape->sequences; i++) {
        int64_t t = shape->bounds[i + 1] - shape->bounds[i];
        bif_cut cut = units_of(how, t);
        for (int64_t unit = 0; unit < shape->kv_heads * cut.parts; unit++) {
            int64_t part = unit % cut.parts, kv = unit / cut.parts;
            int64_t begin = bif_cut_begin(&cut, part), end = bif_cut_begin(&cut, part + 1);
            double cost = unit_cost(shape, how, t, begin, end);
            bool own = bif_attention_owner(before, cost, total, threads) == share;
            before += cost;
            if (!own) {
                continue;
            }
            mine += cost;
            if (s == NULL) {
                continue;
            }
            int64_t blocks = bif_cut_of(t, TILE, BIF_LANES).parts;
            if (how == BY_KEYS) {
                run_unit(args, shape, s, WANT_DKV, i, kv, part, part + 1, 0, t);
            } else {
                run_unit(args, shape, s, how == BY_ROWS ? WANT_DQ : WANT_DQ | WANT_DKV, i, kv, 0, blocks, begin, end);
            }
        }
    }
    return mine;
}

void BIF_CPU(attention_backward)(bif_device *device, const bif_attention_backward_args *args)
{
    bif_attention_shape shape = bif_attention_shape_of(args->cu_seqlens, args->heads, args->kv_heads, args->head_dim,
                                                       args->causal, args->scale);
    double total = total_cost(&shape), heaviest = 0;
    int64_t longest = 0;
    for (int64_t i = 0; i < shape.sequences; i++) {
        longest = bif_max(longest, shape.bounds[i + 1] - shape.bounds[i]);
    }
    int threads = bif_threads_for(device, (int64_t)(total * (double)(shape.group * shape.dim) / 4));
    for (int share = 0; share < threads; share++) {
        heaviest = fmax(heaviest, run_share(args, &shape, NULL, BY_PAIR, share, threads, total));
    }
    /* Two passes cost 7/5 of one, but their shares are even. */
    bool apart = heaviest * threads > 1.4 * total;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int share = 0; share < threads; share++) {
        scratch s = scratch_of(device, &shape, longest);
        if (apart) {
            run_share(args, &shape, &s, BY_KEYS, share, threads, total);
            run_share(args, &shape, &s, BY_ROWS, share, threads, total);
        } else {
            run_share(args, &shape, &s, BY_PAIR, share, threads, total);
        }
    }
}
