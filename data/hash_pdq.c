#include "data/hash_pdq.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MOST 512 /* pixels a side */
#define GRID 64
#define LOW 16
#define SMALLEST 5

static float dct[LOW][GRID], transposed[GRID][LOW];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_dct(void)
{
    const float scale = (float)sqrt(2.0 / GRID);
    for (int i = 0; i < LOW; i++) {
        for (int j = 0; j < GRID; j++) {
            dct[i][j] = (float)((double)scale * cos(3.14159265358979323846 / 2.0 / GRID * (i + 1) * (2 * j + 1)));
            transposed[j][i] = dct[i][j];
        }
    }
}

static inline float luma(const uint8_t *p)
{
    return 0.299f * (float)p[0] + 0.587f * (float)p[1] + 0.114f * (float)p[2];
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* Four pixels at a time, while 16 bytes may be read; returns how many are done. */
AVX2 static int64_t luma_avx2(const uint8_t *rgb, int64_t pixels, float *out)
{
    const __m128i red = _mm_setr_epi8(0, -1, -1, -1, 3, -1, -1, -1, 6, -1, -1, -1, 9, -1, -1, -1), step = _mm_set1_epi8(1);
    const __m128i green = _mm_or_si128(_mm_add_epi8(red, step), _mm_cmplt_epi8(red, _mm_setzero_si128()));
    const __m128i blue = _mm_or_si128(_mm_add_epi8(green, step), _mm_cmplt_epi8(red, _mm_setzero_si128()));
    int64_t i = 0;
    for (; i + 6 <= pixels; i += 4) {
        const __m128i p = _mm_loadu_si128((const __m128i *)(const void *)(rgb + i * 3));
        const __m128 r = _mm_cvtepi32_ps(_mm_shuffle_epi8(p, red)), g = _mm_cvtepi32_ps(_mm_shuffle_epi8(p, green));
        const __m128 b = _mm_cvtepi32_ps(_mm_shuffle_epi8(p, blue));
        const __m128 rg = _mm_add_ps(_mm_mul_ps(r, _mm_set1_ps(0.299f)), _mm_mul_ps(g, _mm_set1_ps(0.587f)));
        _mm_storeu_ps(out + i, _mm_add_ps(rg, _mm_mul_ps(b, _mm_set1_ps(0.114f))));
    }
    return i;
}

static void transpose4(const float *in, int64_t stride, float *out, int64_t out_stride)
{
    __m128 a = _mm_loadu_ps(in), b = _mm_loadu_ps(in + stride), c = _mm_loadu_ps(in + 2 * stride), d = _mm_loadu_ps(in + 3 * stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(out, a);
    _mm_storeu_ps(out + out_stride, b);
    _mm_storeu_ps(out + 2 * out_stride, c);
    _mm_storeu_ps(out + 3 * out_stride, d);
}

static bool have_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
static void transpose4(const float *in, int64_t stride, float *out, int64_t out_stride)
{
    for (int64_t i = 0; i < 4; i++) {
        for (int64_t j = 0; j < 4; j++) {
            out[i * out_stride + j] = in[j * stride + i];
        }
    }
}

#define AVX2
#define luma_avx2(rgb, pixels, out) 0

static bool have_avx2(void)
{
    return false;
}
#endif

/* Luma of at most 512 x 512. */
static float *luma_of(const uint8_t *rgb, int64_t width, int64_t height, bool grey, int64_t *w, int64_t *h)
{
    const bool large = width > MOST || height > MOST;
    *w = large ? MOST : width;
    *h = large ? MOST : height;
    float *out = bif_malloc((size_t)(*w * *h) * sizeof *out);
    for (int64_t y = 0; y < *h; y++) {
        const uint8_t *row = rgb + (large ? y * height / MOST : y) * width * 3;
        float *to = out + y * *w;
        for (int64_t x = large || grey || !have_avx2() ? 0 : luma_avx2(row, width, to); x < *w; x++) {
            const uint8_t *p = row + (large ? x * width / MOST : x) * 3;
            to[x] = grey ? (float)p[0] : luma(p);
        }
    }
    return out;
}

/* In squares of 4; 16 rows at a time, so that whole lines of the cache are written. */
static void transpose(const float *in, int64_t rows, int64_t columns, float *out)
{
    for (int64_t strip = 0; strip < rows; strip += 16) {
        const int64_t end = rows - strip < 16 ? rows : strip + 16;
        for (int64_t x = 0; x < columns; x += 4) {
            const int64_t wide = columns - x < 4 ? columns - x : 4;
            for (int64_t y = strip; y < end; y += 4) {
                const int64_t high = end - y < 4 ? end - y : 4;
                const float *from = in + y * columns + x;
                float *to = out + x * rows + y;
                if (high == 4 && wide == 4) {
                    transpose4(from, columns, to, rows);
                    continue;
                }
                for (int64_t i = 0; i < wide; i++) {
                    for (int64_t j = 0; j < high; j++) {
                        to[i * rows + j] = from[j * columns + i];
                    }
                }
            }
        }
    }
}

/* A mean over `window` neighbours slides down the n rows of in [n, lines], each of the lines for itself. The order of adding and
 * subtracting is the reference's, so its rounding is too; to divide by a power of 2 is to multiply. */
static inline __attribute__((always_inline)) void slide_body(const float *restrict in, float *restrict out, int64_t n, int64_t window,
                                                             int64_t lines)
{
    const int64_t half = (window + 2) / 2;
    float sum[MOST] = {0};
    int64_t left = 0, right = 0, inside = 0;
    for (; right < half - 1; right++, inside++) {
        for (int64_t k = 0; k < lines; k++) {
            sum[k] += in[right * lines + k];
        }
    }
    for (int64_t o = 0; o < n; o++) {
        const bool add = right < n, subtract = o > window - half;
        const float *restrict newest = in + right * lines, *restrict oldest = in + left * lines;
        float *restrict to = out + o * lines;
        inside += add - subtract;
        if (add && subtract) {
            for (int64_t k = 0; k < lines; k++) {
                sum[k] = sum[k] + newest[k] - oldest[k];
            }
        } else if (add) {
            for (int64_t k = 0; k < lines; k++) {
                sum[k] += newest[k];
            }
        } else {
            for (int64_t k = 0; k < lines; k++) {
                sum[k] -= oldest[k];
            }
        }
        const float count = (float)inside, share = 1.0f / count;
        if ((inside & (inside - 1)) == 0) {
            for (int64_t k = 0; k < lines; k++) {
                to[k] = sum[k] * share;
            }
        } else {
            for (int64_t k = 0; k < lines; k++) {
                to[k] = sum[k] / count;
            }
        }
        right += add;
        left += subtract;
    }
}

AVX2 static void slide_avx2(const float *in, float *out, int64_t n, int64_t window, int64_t lines)
{
    slide_body(in, out, n, window, lines);
}

static void slide_plain(const float *in, float *out, int64_t n, int64_t window, int64_t lines)
{
    slide_body(in, out, n, window, lines);
}

/* Two times along the rows (done as columns of the transposed picture), then along the columns. a holds picture and result. */
static void blur(float *a, float *b, int64_t w, int64_t h)
{
    void (*const slide)(const float *, float *, int64_t, int64_t, int64_t) = have_avx2() ? slide_avx2 : slide_plain;
    for (int pass = 0; pass < 2; pass++) {
        transpose(a, h, w, b);
        slide(b, a, w, (w + 127) / 128, h);
        transpose(a, w, h, b);
        slide(b, a, h, (h + 127) / 128, w);
    }
}

static int quality_of(float grid[GRID][GRID])
{
    int sum = 0;
    for (int i = 0; i < GRID; i++) {
        for (int j = 0; j < GRID; j++) {
            if (i + 1 < GRID) {
                sum += abs((int)((grid[i][j] - grid[i + 1][j]) * 100 / 255));
            }
            if (j + 1 < GRID) {
                sum += abs((int)((grid[i][j] - grid[i][j + 1]) * 100 / 255));
            }
        }
    }
    return sum / 90 < 100 ? sum / 90 : 100;
}

static void frequencies(float grid[GRID][GRID], float out[LOW][LOW])
{
    float half[LOW][GRID] = {{0}};
    memset(out, 0, sizeof(float) * LOW * LOW);
    for (int i = 0; i < LOW; i++) {
        for (int k = 0; k < GRID; k++) {
            for (int j = 0; j < GRID; j++) {
                half[i][j] += dct[i][k] * grid[k][j];
            }
        }
        for (int k = 0; k < GRID; k++) {
            for (int j = 0; j < LOW; j++) {
                out[i][j] += half[i][k] * transposed[k][j];
            }
        }
    }
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* The lower median: bits are what is above it. */
static void bits_of(float frequency[LOW][LOW], uint8_t out[BIF_PDQ_BYTES])
{
    float sorted[LOW * LOW];
    memcpy(sorted, frequency, sizeof sorted);
    qsort(sorted, LOW * LOW, sizeof *sorted, by_value);
    const float median = sorted[LOW * LOW / 2 - 1];
    memset(out, 0, BIF_PDQ_BYTES);
    for (int k = 0; k < LOW * LOW; k++) {
        if (frequency[k / LOW][k % LOW] > median) {
            out[BIF_PDQ_BYTES - 1 - k / 8] |= (uint8_t)(1 << k % 8);
        }
    }
}

/* The frequencies of a turned picture are those of the picture, some with the other sign, some with the axes exchanged. */
static void turn(float from[LOW][LOW], int form, float to[LOW][LOW])
{
    static const bool exchanged[] = {false, true, false, true, false, false, true, true};
    for (int i = 0; i < LOW; i++) {
        for (int j = 0; j < LOW; j++) {
            const bool odd_i = i % 2 == 1, odd_j = j % 2 == 1;
            const bool minus[] = {false, !odd_j, odd_i != odd_j, !odd_i, !odd_i, !odd_j, false, odd_i != odd_j};
            *(exchanged[form] ? &to[j][i] : &to[i][j]) = minus[form] ? -from[i][j] : from[i][j];
        }
    }
}

void bif_pdq_hash(const uint8_t *rgb, int64_t width, int64_t height, bool grey, int forms, bif_pdq *out)
{
    float grid[GRID][GRID], frequency[LOW][LOW], turned[LOW][LOW];
    int64_t w = 0, h = 0;
    out->quality = 0;
    if (width < SMALLEST || height < SMALLEST) {
        memset(out->form, 0, (size_t)forms * BIF_PDQ_BYTES);
        return;
    }
    pthread_once(&once, make_dct);
    float *a = luma_of(rgb, width, height, grey, &w, &h), *b = bif_malloc((size_t)(w * h) * sizeof *b);
    if (w != GRID || h != GRID) {
        blur(a, b, w, h);
    }
    for (int i = 0; i < GRID; i++) {
        for (int j = 0; j < GRID; j++) {
            grid[i][j] = a[(int64_t)((i + 0.5) * (double)h / GRID) * w + (int64_t)((j + 0.5) * (double)w / GRID)];
        }
    }
    free(a);
    free(b);
    out->quality = quality_of(grid);
    frequencies(grid, frequency);
    for (int f = 0; f < forms; f++) {
        turn(frequency, f, turned);
        bits_of(turned, out->form[f]);
    }
}
