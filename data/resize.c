/* Two passes, 8 bits between them, weights in fixed point with 22 fraction bits: Pillow's rule, so that the bytes are
 * equal. What differs is the order of the sums, which integers do not feel:
 *  - eight rows (of grey 24) are interleaved pixel by pixel before the horizontal pass, so that one weight meets 24
 *    neighbouring bytes and the loop is three vectors wide (row by row the three channels defeat the vector units);
 *  - a tap that falls on the padding of the canvas adds weight * fill, so its sum of weights is kept and the padding
 *    itself never read. */
#include "data/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/image.h"

#define FRACTION_BITS 22
#define HALF (1 << (FRACTION_BITS - 1))
#define LANES 24         /* bytes that share a weight: a pixel of each row of a horizontal block, 8 rows of RGB or 24 of grey */
#define CHUNK 32         /* bytes of a row that the vertical pass holds in registers */

/* One axis: for each output position of the window its taps inside the source, and the summed weight of those outside.
 */
typedef struct {
    int64_t taps;       /* weights a position has room for */
    int32_t *weights;   /* [n, taps] */
    int64_t *first;     /* [n] */
    int64_t *count;     /* [n] */
    int32_t *outside;   /* [n] */
    int64_t begin, end; /* source positions any tap touches */
    bool identity;      /* same size and no padding: the pass is a copy */
} axis;

static double cubic(double x)
{
    x = fabs(x);
    if (x < 1.0) {
        return (1.5 * x - 2.5) * x * x + 1.0;
    }
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 : 0.0;
}

/* sinc(x) sinc(x / 3), where the sine of three times an angle is had from that of the angle. */
static double lanczos(double x)
{
    if (x < -3.0 || x >= 3.0) {
        return 0.0;
    }
    if (x == 0.0) {
        return 1.0;
    }
    const double angle = x * (3.14159265358979323846 / 3.0), s = sin(angle);
    return s * (3.0 - 4.0 * s * s) / (3.0 * angle) * (s / angle);
}

static const struct {
    double (*weight)(double x);
    double support;
} filters[] = { [BIF_RESIZE_BICUBIC] = { cubic, 2.0 }, [BIF_RESIZE_LANCZOS] = { lanczos, 3.0 } };

static int32_t to_fixed(double weight)
{
    double scaled = weight * (1 << FRACTION_BITS);
    return (int32_t)(weight < 0.0 ? scaled - 0.5 : scaled + 0.5);
}

static void axis_free(axis *a)
{
    free(a->weights);
    free(a->first);
    free(a->count);
    free(a->outside);
}

/* Positions [from, from+n) of `canvas` resized to `out`; the source covers [offset, offset+length) of the canvas. */
static void axis_make(axis *a, bif_resize_filter filter, int64_t canvas, int64_t offset, int64_t length, int64_t out, int64_t from,
                      int64_t n)
{
    double scale = (double)canvas / (double)out;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double inverse = 1.0 / stretch;
    double support = filters[filter].support * stretch;
    a->taps = canvas == out ? 1 : (int64_t)ceil(support) * 2 + 1;
    a->weights = bif_malloc((size_t)(n * a->taps) * sizeof *a->weights);
    a->first = bif_malloc((size_t)n * sizeof *a->first);
    a->count = bif_malloc((size_t)n * sizeof *a->count);
    a->outside = bif_calloc((size_t)n, sizeof *a->outside);
    a->identity = canvas == out && length == canvas;
    a->begin = length;
    a->end = 0;
    double *exact = bif_malloc((size_t)a->taps * sizeof *exact);
    for (int64_t i = 0; i < n; i++) {
        double centre = ((double)(from + i) + 0.5) * scale;
        int64_t low = (int64_t)(centre - support + 0.5), high = (int64_t)(centre + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > canvas ? canvas : high;
        double sum = 0.0;
        if (canvas == out) { /* Pillow skips the pass; the rule would give weight 1 here and 0 around */
            low = from + i;
            high = low + 1;
            exact[0] = sum = 1.0;
        } else {
            for (int64_t t = low; t < high; t++) {
                exact[t - low] = filters[filter].weight(((double)t - centre + 0.5) * inverse);
                sum += exact[t - low];
            }
        }
        int32_t *weights = a->weights + i * a->taps;
        int64_t count = 0, first = 0;
        for (int64_t t = low; t < high; t++) {
            int32_t weight = to_fixed(sum != 0.0 ? exact[t - low] / sum : exact[t - low]);
            if (t < offset || t >= offset + length) {
                a->outside[i] += weight;
                continue;
            }
            if (count == 0) {
                first = t - offset;
            }
            weights[count++] = weight;
        }
        a->first[i] = first;
        a->count[i] = count;
        if (count > 0) {
            a->begin = first < a->begin ? first : a->begin;
            a->end = first + count > a->end ? first + count : a->end;
        }
    }
    a->begin = a->begin > a->end ? a->end : a->begin; /* nothing of the source is seen */
    free(exact);
}

enum { MEMO_AXES = 128, MEMO_BYTES = 16 << 20 };

typedef struct {
    bif_resize_filter filter;
    int64_t from, to;
    axis axis;
} remembered;

struct bif_resize_memo {
    remembered kept[MEMO_AXES];
    int count;
    int64_t bytes;
};

static void memo_clear(bif_resize_memo *memo)
{
    for (int i = 0; i < memo->count; i++) {
        axis_free(&memo->kept[i].axis);
    }
    memo->count = 0;
    memo->bytes = 0;
}

bif_resize_memo *bif_resize_memo_new(void)
{
    return bif_calloc(1, sizeof(bif_resize_memo));
}

void bif_resize_memo_free(bif_resize_memo *memo)
{
    if (memo != NULL) {
        memo_clear(memo);
        free(memo);
    }
}

/* Before a resize that needs up to `axes` of them, which stay valid through it. */
static void memo_make_room(bif_resize_memo *memo, int axes)
{
    if (memo != NULL && (memo->count + axes > MEMO_AXES || memo->bytes > MEMO_BYTES)) {
        memo_clear(memo);
    }
}

/* All positions of `from` resized to `to`: remembered, or with NULL made in *own, which the caller frees. */
static const axis *whole_axis(bif_resize_memo *memo, bif_resize_filter filter, int64_t from, int64_t to, axis *own)
{
    for (int i = 0; memo != NULL && i < memo->count; i++) {
        const remembered *r = &memo->kept[i];
        if (r->from == from && r->to == to && r->filter == filter) {
            return &r->axis;
        }
    }
    axis *a = own;
    if (memo != NULL) {
        remembered *r = &memo->kept[memo->count++];
        *r = (remembered){ .filter = filter, .from = from, .to = to };
        a = &r->axis;
    }
    axis_make(a, filter, from, 0, from, to, 0, to);
    if (memo != NULL) {
        memo->bytes += to * (a->taps * (int64_t)sizeof *a->weights + 24);
    }
    return a;
}

static inline uint8_t clip(int32_t sum)
{
    int32_t v = sum >> FRACTION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* The two inner loops, in plain C and with AVX2 (chosen at run time: the compilers do not find the byte-to-int widening
 * by themselves and plain C is 4 times slower).
 *
 * across: one horizontal block. tile: [a->end - a->begin, LANES]; edge: [LANES] colour of the padding in each row;
 *         out: `rows` rows of `stride` bytes, n positions of `channels` (3 or 1) bytes each.
 * down:   one output row of n bytes. rows: the first tap's row; edge: [n] bytes of a row of padding. */
typedef void across_fn(const axis *a, int64_t n, const uint8_t *tile, const uint8_t *edge, uint8_t *out, int64_t stride,
                       int64_t rows, int64_t channels);
typedef void down_fn(const int32_t *weights, int64_t count, const uint8_t *rows, int64_t stride, const uint8_t *edge,
                     int32_t outside, uint8_t *out, int64_t n);

/* A position of each row. */
static inline void put(const uint8_t *lanes, uint8_t *out, int64_t stride, int64_t rows, int64_t channels)
{
    if (channels == 1) {
        for (int64_t r = 0; r < rows; r++) {
            out[r * stride] = lanes[r];
        }
    } else {
        for (int64_t r = 0; r < rows; r++) {
            memcpy(out + r * stride, lanes + r * 3, 3);
        }
    }
}

static void across_plain(const axis *a, int64_t n, const uint8_t *tile, const uint8_t *edge, uint8_t *out,
                         int64_t stride, int64_t rows, int64_t channels)
{
    for (int64_t i = 0; i < n; i++) {
        const int32_t *weights = a->weights + i * a->taps;
        const uint8_t *p = tile + (a->first[i] - a->begin) * LANES;
        int32_t sums[LANES];
        for (int j = 0; j < LANES; j++) {
            sums[j] = HALF + edge[j] * a->outside[i];
        }
        for (int64_t k = 0; k < a->count[i]; k++, p += LANES) {
            for (int j = 0; j < LANES; j++) {
                sums[j] += p[j] * weights[k];
            }
        }
        uint8_t bytes[LANES];
        for (int j = 0; j < LANES; j++) {
            bytes[j] = clip(sums[j]);
        }
        put(bytes, out + i * channels, stride, rows, channels);
    }
}

static void down_plain(const int32_t *weights, int64_t count, const uint8_t *rows, int64_t stride, const uint8_t *edge,
                       int32_t outside, uint8_t *out, int64_t n)
{
    for (int64_t from = 0; from < n; from += CHUNK) {
        int64_t some = n - from < CHUNK ? n - from : CHUNK;
        const uint8_t *p = rows + from;
        int32_t sums[CHUNK];
        for (int64_t j = 0; j < some; j++) {
            sums[j] = HALF + edge[from + j] * outside;
        }
        for (int64_t k = 0; k < count; k++, p += stride) {
            for (int64_t j = 0; j < some; j++) {
                sums[j] += p[j] * weights[k];
            }
        }
        for (int64_t j = 0; j < some; j++) {
            out[from + j] = clip(sums[j]);
        }
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i widen(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

AVX2 static inline __m256i start(const uint8_t *edge, __m256i outside)
{
    return _mm256_add_epi32(_mm256_mullo_epi32(widen(edge), outside), _mm256_set1_epi32(HALF));
}

AVX2 static inline __m256i add(__m256i sum, const uint8_t *p, __m256i weight)
{
    return _mm256_add_epi32(sum, _mm256_mullo_epi32(widen(p), weight));
}

/* Shifts, clips and stores eight sums as bytes; the saturating packs are the clip. */
AVX2 static inline void finish(uint8_t *out, __m256i sum)
{
    __m256i v = _mm256_srai_epi32(sum, FRACTION_BITS);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)out, _mm_packus_epi16(words, words));
}

AVX2 static void across_avx2(const axis *a, int64_t n, const uint8_t *tile, const uint8_t *edge, uint8_t *out,
                             int64_t stride, int64_t rows, int64_t channels)
{
    for (int64_t i = 0; i < n; i++) {
        const int32_t *weights = a->weights + i * a->taps;
        const uint8_t *p = tile + (a->first[i] - a->begin) * LANES;
        __m256i outside = _mm256_set1_epi32(a->outside[i]);
        __m256i s0 = start(edge, outside), s1 = start(edge + 8, outside), s2 = start(edge + 16, outside);
        for (int64_t k = 0; k < a->count[i]; k++, p += LANES) {
            __m256i weight = _mm256_set1_epi32(weights[k]);
            s0 = add(s0, p, weight);
            s1 = add(s1, p + 8, weight);
            s2 = add(s2, p + 16, weight);
        }
        uint8_t bytes[LANES];
        finish(bytes, s0);
        finish(bytes + 8, s1);
        finish(bytes + 16, s2);
        put(bytes, out + i * channels, stride, rows, channels);
    }
}

AVX2 static void down_avx2(const int32_t *weights, int64_t count, const uint8_t *rows, int64_t stride,
                           const uint8_t *edge, int32_t outside, uint8_t *out, int64_t n)
{
    if (n < CHUNK) {
        down_plain(weights, count, rows, stride, edge, outside, out, n);
        return;
    }
    __m256i o = _mm256_set1_epi32(outside);
    for (int64_t j = 0; j < n; j += CHUNK) {
        j = j + CHUNK > n ? n - CHUNK : j; /* the last chunk overlaps the one before: the same bytes again */
        __m256i s0 = start(edge + j, o), s1 = start(edge + j + 8, o), s2 = start(edge + j + 16, o),
                s3 = start(edge + j + 24, o);
        const uint8_t *p = rows + j;
        for (int64_t k = 0; k < count; k++, p += stride) {
            __m256i weight = _mm256_set1_epi32(weights[k]);
            s0 = add(s0, p, weight);
            s1 = add(s1, p + 8, weight);
            s2 = add(s2, p + 16, weight);
            s3 = add(s3, p + 24, weight);
        }
        finish(out + j, s0);
        finish(out + j + 8, s1);
        finish(out + j + 16, s2);
        finish(out + j + 24, s3);
    }
}

static bool have_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
#define across_avx2 across_plain
#define down_avx2 down_plain

static bool have_avx2(void)
{
    return false;
}
#endif

/* Interleaves `rows` rows of n pixels: tile[x][row][channel]. Rows that are missing repeat the last one. */
static void interleave(const uint8_t *pixels, int64_t stride, int64_t n, int64_t rows, int64_t channels, uint8_t *tile)
{
    const uint8_t *row[LANES];
    for (int64_t r = 0; r < LANES / channels; r++) {
        row[r] = pixels + (r < rows ? r : rows - 1) * stride;
    }
    int64_t x = 0;
    if (channels == 1) {
        for (; x < n; x++, tile += LANES) {
            for (int64_t r = 0; r < LANES; r++) {
                tile[r] = row[r][x];
            }
        }
        return;
    }
    for (; x + 1 < n; x++) {
        for (int64_t r = 0; r < LANES / 3; r++, tile += 3) {
            memcpy(tile, row[r] + x * 3, 4); /* one byte too many: the next write covers it */
        }
    }
    for (; x < n; x++) {
        for (int64_t r = 0; r < LANES / 3; r++, tile += 3) {
            memcpy(tile, row[r] + x * 3, 3);
        }
    }
}

/* rows x (a->end - a->begin) pixels to rows x n. edge: [rows, channels]; out without gaps. */
static void pass_across(const axis *a, int64_t n, const uint8_t *pixels, int64_t stride, int64_t rows, int64_t channels,
                        const uint8_t *edge, uint8_t *out)
{
    across_fn *across = have_avx2() ? across_avx2 : across_plain;
    const int64_t block = LANES / channels;
    uint8_t *tile = bif_malloc((size_t)((a->end - a->begin) * LANES + 1));
    for (int64_t r = 0; r < rows; r += block) {
        int64_t some = rows - r < block ? rows - r : block;
        uint8_t edges[LANES] = { 0 };
        memcpy(edges, edge + r * channels, (size_t)(some * channels));
        interleave(pixels + r * stride, stride, a->end - a->begin, some, channels, tile);
        across(a, n, tile, edges, out + r * n * channels, n * channels, some, channels);
    }
    free(tile);
}

/* (a->end - a->begin) rows of `bytes` bytes to n rows. edge: [bytes]; out without gaps. */
static void pass_down(const axis *a, int64_t n, const uint8_t *pixels, int64_t stride, int64_t bytes,
                      const uint8_t *edge, uint8_t *out)
{
    down_fn *down = have_avx2() ? down_avx2 : down_plain;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *taps = pixels + (a->count[i] > 0 ? a->first[i] - a->begin : 0) * stride;
        down(a->weights + i * a->taps, a->count[i], taps, stride, edge, a->outside[i], out + i * bytes, bytes);
    }
}

/* Up to version 12 Pillow always went across first; from 13 on it goes down first when that removes more than twice as
 * many rows as columns go. The rounding between the passes makes the two orders differ by one level here and there, so
 * the rule (found by comparing both orders with Pillow 13.0.0 on 4837 random sizes, no exception) is part of being
 * equal. A picture that keeps its aspect is touched only when it is more than twice as high as wide. */
static bool vertical_first(const bif_resize_job *job)
{
    return job->out_height < job->canvas_height &&
           job->canvas_height - job->out_height > 2 * (job->canvas_width - job->out_width);
}

/* [n, channels]: the colour `fill` everywhere. */
static uint8_t *plain_edge(int64_t n, int64_t channels, const uint8_t fill[3])
{
    uint8_t *edge = bif_malloc((size_t)(n * channels));
    for (int64_t i = 0; i < n * channels; i++) {
        edge[i] = fill[i % channels];
    }
    return edge;
}

/* [n, channels]: what a line of padding becomes in a pass along `a`. Weights that do not sum to exactly 2^22 may shift it by
 * one. */
static uint8_t *passed_edge(const axis *a, int64_t n, int64_t channels, const uint8_t fill[3])
{
    uint8_t *edge = bif_malloc((size_t)(n * channels));
    for (int64_t i = 0; i < n; i++) {
        int32_t sum = a->outside[i];
        for (int64_t k = 0; k < a->count[i]; k++) {
            sum += a->weights[i * a->taps + k];
        }
        for (int64_t c = 0; c < channels; c++) {
            edge[i * channels + c] = clip(HALF + fill[c] * sum);
        }
    }
    return edge;
}

void bif_resize_window(const bif_resize_job *job, uint8_t *out)
{
    BIF_BUG_IF(job->width < 1 || job->height < 1 || job->out_width < 1 || job->out_height < 1 || job->w < 1 ||
                   job->h < 1 || job->off_x < 0 || job->off_y < 0 || job->x < 0 || job->y < 0 ||
                   job->off_x + job->width > job->canvas_width || job->off_y + job->height > job->canvas_height ||
                   job->x + job->w > job->out_width || job->y + job->h > job->out_height,
               "resize of a %lldx%lld picture: source or window out of range", (long long)job->width,
               (long long)job->height);
    axis ax = { 0 }, ay = { 0 };
    const int64_t channels = job->grey ? 1 : 3;
    axis_make(&ax, job->filter, job->canvas_width, job->off_x, job->width, job->out_width, job->x, job->w);
    axis_make(&ay, job->filter, job->canvas_height, job->off_y, job->height, job->out_height, job->y, job->h);
    int64_t stride = job->stride > 0 ? job->stride : job->width * channels, rows = ay.end - ay.begin, columns = ax.end - ax.begin;
    const uint8_t *pixels = job->rgb + ay.begin * stride + ax.begin * channels;
    uint8_t *between = NULL, *edge1 = NULL, *edge2 = NULL;

    if (ax.identity && ay.identity) {
        for (int64_t i = 0; i < job->h; i++) {
            memcpy(out + i * job->w * channels, pixels + i * stride, (size_t)(job->w * channels));
        }
    } else if (ay.identity) {
        edge1 = plain_edge(rows, channels, job->fill);
        pass_across(&ax, job->w, pixels, stride, rows, channels, edge1, out);
    } else if (ax.identity) {
        edge1 = plain_edge(columns, channels, job->fill);
        pass_down(&ay, job->h, pixels, stride, columns * channels, edge1, out);
    } else if (vertical_first(job)) {
        between = bif_malloc((size_t)(job->h * columns * channels));
        edge1 = plain_edge(columns, channels, job->fill);
        edge2 = passed_edge(&ay, job->h, channels, job->fill);
        pass_down(&ay, job->h, pixels, stride, columns * channels, edge1, between);
        pass_across(&ax, job->w, between, columns * channels, job->h, channels, edge2, out);
    } else {
        between = bif_malloc((size_t)(rows * job->w * channels));
        edge1 = plain_edge(rows, channels, job->fill);
        edge2 = passed_edge(&ax, job->w, channels, job->fill);
        pass_across(&ax, job->w, pixels, stride, rows, channels, edge1, between);
        pass_down(&ay, job->h, between, job->w * channels, job->w * channels, edge2, out);
    }
    free(between);
    free(edge1);
    free(edge2);
    axis_free(&ax);
    axis_free(&ay);
}

void bif_resize_sizes(const uint8_t *pixels, bool grey, int64_t width, int64_t height, bif_resize_filter filter,
                      const bif_resize_target *targets, int count, bif_resize_memo *memo)
{
    static const uint8_t no_edge[LANES] = { 0 };
    const int64_t channels = grey ? 1 : 3, block = LANES / channels, stride = width * channels;
    struct {
        const bif_resize_target *target;
        axis own_x, own_y;
        const axis *x, *y;
        uint8_t *between;
    } part[BIF_RESIZE_TARGETS] = { 0 };
    int parts = 0;
    BIF_BUG_IF(count > BIF_RESIZE_TARGETS || width < 1 || height < 1, "a resize to %d sizes", count);
    memo_make_room(memo, 2 * count);
    for (int i = 0; i < count; i++) {
        const bif_resize_target *t = &targets[i];
        const bif_resize_job job = { .rgb = pixels, .grey = grey, .filter = filter, .width = width, .height = height,
                                     .canvas_width = width, .canvas_height = height, .out_width = t->width,
                                     .out_height = t->height, .w = t->width, .h = t->height };
        if (t->width == width || t->height == height || vertical_first(&job)) {
            bif_resize_window(&job, t->out);
            continue;
        }
        part[parts].target = t;
        part[parts].x = whole_axis(memo, filter, width, t->width, &part[parts].own_x);
        part[parts].y = whole_axis(memo, filter, height, t->height, &part[parts].own_y);
        part[parts].between = bif_malloc((size_t)(height * t->width * channels));
        parts++;
    }
    across_fn *across = have_avx2() ? across_avx2 : across_plain;
    uint8_t *tile = parts > 0 ? bif_malloc((size_t)(width * LANES + 1)) : NULL;
    for (int64_t r = 0; r < height && parts > 0; r += block) {
        const int64_t some = height - r < block ? height - r : block;
        interleave(pixels + r * stride, stride, width, some, channels, tile);
        for (int i = 0; i < parts; i++) {
            const int64_t n = part[i].target->width, begin = part[i].x->begin;
            across(part[i].x, n, tile + begin * LANES, no_edge, part[i].between + r * n * channels, n * channels, some, channels);
        }
    }
    for (int i = 0; i < parts; i++) {
        const bif_resize_target *t = part[i].target;
        const int64_t bytes = t->width * channels;
        uint8_t *edge = bif_calloc((size_t)bytes, 1);
        pass_down(part[i].y, t->height, part[i].between + part[i].y->begin * bytes, bytes, bytes, edge, t->out);
        free(edge);
        free(part[i].between);
        axis_free(&part[i].own_x);
        axis_free(&part[i].own_y);
    }
    free(tile);
}

void bif_resize_bicubic(const uint8_t *rgb, int64_t width, int64_t height, uint8_t *out, int64_t out_width,
                        int64_t out_height)
{
    bif_resize_window(&(bif_resize_job){ .rgb = rgb,
                                         .width = width,
                                         .height = height,
                                         .canvas_width = width,
                                         .canvas_height = height,
                                         .out_width = out_width,
                                         .out_height = out_height,
                                         .w = out_width,
                                         .h = out_height },
                      out);
}
