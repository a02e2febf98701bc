/* Attention forward: online softmax over blocks of keys, no T x T matrix.
 *
 * A unit of work is (sequence, key head, chunk of query rows). For each block of keys it packs K transposed (scores
 * vectorise over keys) and V (outputs vectorise over D), then takes the query rows a few at a time: scores, softmax and
 * P V of these rows stay in the first cache. Scores are in units of log 2, scale * log2(e) is folded into Q, so that
 * exp is 2^x. */
#include "kernels/attention.h"

/* Query rows that share one tile of scores; also the granularity at which the upper triangle is skipped. */
#define STEP BIF_TILE_ROWS

/* One query head's rows of a unit, and what online softmax knows about each. */
typedef struct {
    float *q;    /* panel [rows, width], scaled */
    float *out;  /* panel [rows, width], not yet divided by the sum */
    float *peak; /* [rows] highest score so far */
    float *sum;  /* [rows, BIF_LANES] sums of 2^(score - peak), lane by lane */
} query_rows;

typedef struct {
    const float *k, *v; /* panels [dim, padded(keys)] and [keys, width] */
    int64_t keys;
    bool first;
    const float *ahead; /* qkv, to ask for the rows of `next`; NULL = nothing to ask for */
    bif_attention_next next;
} key_block;

/* Turns one row of scores into 2^(score - peak), 0 from `visible` on up to `computed` (a multiple of BIF_LANES), and
 * brings *peak and *sum up to date. Returns the factor that earlier results of this row must be multiplied with. */
static inline bif_vec softmax_row(float *scores, int64_t visible, int64_t computed, bool first, float *peak, float *sum)
{
    int64_t whole = visible / BIF_LANES * BIF_LANES;
    bif_vec high = bif_splat(first ? -INFINITY : *peak);
    for (int64_t j = 0; j < whole; j += BIF_LANES) {
        high = bif_vmax(bif_load(scores + j), high);
    }
    for (int64_t j = whole; j < computed; j += BIF_LANES) {
        bif_vec x = bif_first(bif_load(scores + j), visible - j, -INFINITY);
        bif_store(scores + j, x);
        high = bif_vmax(x, high);
    }
    bif_vec top = bif_splat(bif_hmax(high));
    bif_vec total = {0}, factor = {0};
    if (!first) {
        factor = bif_vexp2(bif_splat(*peak) - top);
        total = bif_load(sum) * factor;
    }
    for (int64_t j = 0; j < computed; j += BIF_LANES) {
        bif_vec p = bif_vexp2(bif_load(scores + j) - top);
        bif_store(scores + j, p);
        total += p;
    }
    *peak = top[0];
    bif_store(sum, total);
    return factor;
}

/* All rows against one block of keys. keys_of_first: how many keys of the block row 0 sees; each next row sees one more
 * when causal. `scores`: [STEP, padded(keys)]. */
static void rows_against_keys(const bif_attention_shape *shape, const query_rows *rows, int64_t count,
                              const key_block *block, int64_t keys_of_first, float *scores)
{
    int64_t width = shape->width, stride = bif_padded(block->keys);
    int64_t parts = (count + STEP - 1) / STEP;
    for (int64_t p = 0; p < parts; p++) {
        int64_t i = bif_part(count, parts, p), n = bif_part(count, parts, p + 1) - i;
        int64_t last = shape->causal ? bif_min(block->keys, keys_of_first + i + n - 1) : block->keys;
        if (block->ahead != NULL) {
            bif_attention_prefetch(shape, block->ahead, &block->next, i, i + n);
        }
        if (last <= 0) {
            continue;
        }
        int64_t computed = bif_padded(last);
        float *out = rows->out + i * width;
        BIF_CPU(tile)(n, computed, shape->dim, rows->q + i * width, width, block->k, stride, false, scores, stride);
        for (int64_t x = 0; x < n; x++) {
            int64_t visible = shape->causal ? bif_max(0, bif_min(last, keys_of_first + i + x)) : last;
            float peak = rows->peak[i + x];
            bif_vec factor = softmax_row(scores + x * stride, visible, computed, block->first, &rows->peak[i + x],
                                         rows->sum + (i + x) * BIF_LANES);
            if (!block->first && rows->peak[i + x] != peak) {
                for (int64_t j = 0; j < width; j += BIF_LANES) {
                    bif_store(out + x * width + j, bif_load(out + x * width + j) * factor);
                }
            }
        }
        BIF_CPU(tile)(n, width, last, scores, stride, block->v, width, !block->first, out, width);
    }
}

/* out and lse of a unit's rows, from what online softmax left. */
static void finish_rows(const bif_attention_shape *shape, const query_rows *rows, int64_t count, float *out, float *lse)
{
    for (int64_t i = 0; i < count; i++) {
        float sum = bif_hsum(bif_load(rows->sum + i * BIF_LANES));
        float inverse = 1.0f / sum;
        const float *from = rows->out + i * shape->width;
        float *to = out + i * shape->heads * shape->dim;
        int64_t whole = shape->dim / BIF_LANES * BIF_LANES;
        for (int64_t j = 0; j < whole; j += BIF_LANES) {
            bif_store(to + j, bif_load(from + j) * inverse);
        }
        for (int64_t j = whole; j < shape->dim; j++) {
            to[j] = from[j] * inverse;
        }
        if (lse != NULL) {
            lse[i * shape->heads] = rows->peak[i] * BIF_LN2 + logf(sum);
        }
    }
}

/* Scratch of one thread, cut from one allocation: every part is a multiple of 64 bytes. */
typedef struct {
    float *k, *v, *scores;
    query_rows rows; /* of all heads of the group, one after the other */
} scratch;

static size_t scratch_floats(const bif_attention_shape *shape, int64_t chunk, int64_t keys)
{
    int64_t rows = shape->group * chunk;
    return (size_t)(bif_padded(keys) * (shape->dim + STEP) + keys * shape->width +
                    rows * (2 * shape->width + BIF_LANES + 1) + 6 * 16);
}

static scratch scratch_of(bif_device *device, int thread, const bif_attention_shape *shape, int64_t chunk, int64_t keys)
{
    int64_t rows = shape->group * chunk;
    float *at = bif_cpu_scratch(device, thread, scratch_floats(shape, chunk, keys) * sizeof(float));
    scratch s;
    s.k = bif_attention_take(&at, bif_padded(keys) * shape->dim);
    s.v = bif_attention_take(&at, keys * shape->width);
    s.scores = bif_attention_take(&at, bif_padded(keys) * STEP);
    s.rows.q = bif_attention_take(&at, rows * shape->width);
    s.rows.out = bif_attention_take(&at, rows * shape->width);
    s.rows.sum = bif_attention_take(&at, rows * BIF_LANES);
    s.rows.peak = bif_attention_take(&at, rows);
    return s;
}

static query_rows rows_of_head(const bif_attention_shape *shape, const query_rows *all, int64_t head, int64_t chunk)
{
    int64_t first = head * chunk;
    return (query_rows){all->q + first * shape->width, all->out + first * shape->width, all->peak + first,
                        all->sum + first * BIF_LANES};
}

static void run_unit(const bif_attention_args *args, const bif_attention_shape *shape, const scratch *s,
                     int64_t sequence, int64_t kv, int64_t begin, int64_t end, int64_t chunk)
{
    int64_t start = shape->bounds[sequence], t = shape->bounds[sequence + 1] - start;
    int64_t count = end - begin, dim = shape->dim;
    const float *first = bif_f32(args->qkv) + start * shape->row;
    for (int64_t h = 0; h < shape->group; h++) {
        query_rows rows = rows_of_head(shape, &s->rows, h, chunk);
        BIF_CPU(pack_rows)
        (count, dim, shape->scale * BIF_LOG2E, first + begin * shape->row + (kv * shape->group + h) * dim, shape->row,
         rows.q);
    }
    bif_cut cut = bif_cut_of(t, bif_attention_keys(shape->width), BIF_LANES);
    for (int64_t b = 0; b < cut.parts; b++) {
        int64_t k0 = bif_cut_begin(&cut, b), k1 = bif_cut_begin(&cut, b + 1);
        if (shape->causal) {
            k1 = bif_min(k1, end);
            if (k0 >= end) {
                break;
            }
        }
        const float *keys = first + k0 * shape->row + (shape->heads + kv) * dim;
        BIF_CPU(pack_columns)(k1 - k0, dim, keys, shape->row, s->k);
        BIF_CPU(pack_rows)(k1 - k0, dim, 1.0f, keys + shape->kv_heads * dim, shape->row, s->v);
        key_block block = {s->k, s->v, k1 - k0, b == 0, NULL, bif_attention_next_of(shape, sequence, kv)};
        for (int64_t h = 0; h < shape->group; h++) {
            block.ahead = b == 0 && h == 0 ? bif_f32(args->qkv) : NULL;
            query_rows rows = rows_of_head(shape, &s->rows, h, chunk);
            rows_against_keys(shape, &rows, count, &block, begin + 1 - k0, s->scores);
        }
    }
    for (int64_t h = 0; h < shape->group; h++) {
        int64_t head = kv * shape->group + h;
        query_rows rows = rows_of_head(shape, &s->rows, h, chunk);
        float *lse = bif_f32(args->lse);
        finish_rows(shape, &rows, count, bif_f32(args->out) + ((start + begin) * shape->heads + head) * dim,
                    lse == NULL ? NULL : lse + (start + begin) * shape->heads + head);
    }
}

/* Rows of a unit: many enough to pay for packing K and V, few enough that each thread gets several units. */
static int64_t choose_chunk(const bif_attention_shape *shape, int threads)
{
    int64_t chunk = 256;
    while (chunk > 64) {
        int64_t units = 0;
        for (int64_t i = 0; i < shape->sequences; i++) {
            units += (shape->bounds[i + 1] - shape->bounds[i] + chunk - 1) / chunk * shape->kv_heads;
        }
        if (units >= 4 * threads && chunk * shape->group <= 1024) {
            break;
        }
        chunk /= 2;
    }
    return chunk;
}

void BIF_CPU(attention)(bif_device *device, const bif_attention_args *args)
{
    bif_attention_shape shape = bif_attention_shape_of(args->cu_seqlens, args->heads, args->kv_heads, args->head_dim,
                                                       args->causal, args->scale);
    double total = 0;
    int64_t longest = 0;
    for (int64_t i = 0; i < shape.sequences; i++) {
        int64_t t = shape.bounds[i + 1] - shape.bounds[i];
        longest = bif_max(longest, t);
        total += bif_attention_cost(shape.causal, t, 0, t) * (double)shape.kv_heads;
    }
    int threads = bif_threads_for(device, (int64_t)(total * (double)(shape.group * shape.dim) / 8));
    int64_t chunk = choose_chunk(&shape, threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int share = 0; share < threads; share++) {
        scratch s = scratch_of(device, omp_get_thread_num(), &shape, bif_min(chunk, longest),
                               bif_min(bif_attention_keys(shape.width), bif_padded(longest)));
        double before = 0;
        for (int64_t i = 0; i < shape.sequences; i++) {
            int64_t t = shape.bounds[i + 1] - shape.bounds[i];
            bif_cut cut = bif_cut_of(t, chunk, 1);
            for (int64_t unit = 0; unit < shape.kv_heads * cut.parts; unit++) {
                int64_t begin = bif_cut_begin(&cut, unit % cut.parts), end = bif_cut_begin(&cut, unit % cut.parts + 1);
                double cost = bif_attention_cost(shape.causal, t, begin, end);
                if (bif_attention_owner(before, cost, total, threads) == share) {
                    run_unit(args, &shape, &s, i, unit / cut.parts, begin, end, bif_min(chunk, longest));
                }
                before += cost;
            }
        }
    }
}

/* One decoding step is the same with the heads of a group as the rows: they share the keys. */
void BIF_CPU(attention_decode)(bif_device *device, const bif_attention_decode_args *args)
{
    bif_tensor none = bif_tensor1(NULL, BIF_DTYPE_I32, 1);
    bif_attention_shape shape =
        bif_attention_shape_of(&none, args->heads, args->kv_heads, args->head_dim, false, args->scale);
    const int32_t *lens = bif_i32(args->lens);
    int64_t batch = args->q->dim[0], dim = shape.dim, stride = shape.kv_heads * dim;
    int64_t keys = bif_attention_keys(shape.width);
    double total = 0;
    for (int64_t b = 0; b < batch; b++) {
        total += (double)(lens[b] * shape.kv_heads);
    }
    /* The rows of a unit are the heads of its group; a "head" of the scratch is then a single one, of `group` rows. */
    bif_attention_shape one = shape;
    one.group = 1;
    one.heads = 1;
    int threads = bif_threads_for(device, (int64_t)(total * (double)dim));
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int share = 0; share < threads; share++) {
        scratch s = scratch_of(device, omp_get_thread_num(), &one, shape.group, keys);
        double before = 0;
        for (int64_t unit = 0; unit < batch * shape.kv_heads; unit++) {
            int64_t b = unit / shape.kv_heads, kv = unit % shape.kv_heads;
            bool mine = bif_attention_owner(before, lens[b], total, threads) == share;
            before += lens[b];
            if (!mine) {
                continue;
            }
            int64_t at = b * shape.heads * dim + kv * shape.group * dim;
            BIF_CPU(pack_rows)(shape.group, dim, shape.scale * BIF_LOG2E, bif_f32(args->q) + at, dim, s.rows.q);
            for (int64_t k0 = 0; k0 < lens[b]; k0 += keys) {
                int64_t n = bif_min(keys, lens[b] - k0), from = (b * args->cap + k0) * stride + kv * dim;
                BIF_CPU(pack_columns)(n, dim, bif_f32(args->k_cache) + from, stride, s.k);
                BIF_CPU(pack_rows)(n, dim, 1.0f, bif_f32(args->v_cache) + from, stride, s.v);
                key_block block = {s.k, s.v, n, k0 == 0, NULL, {0, 0, 0}};
                rows_against_keys(&one, &s.rows, shape.group, &block, 0, s.scores);
            }
            finish_rows(&one, &s.rows, shape.group, bif_f32(args->out) + at, NULL);
        }
    }
}
