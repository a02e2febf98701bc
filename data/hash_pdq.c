#include "data/hash_pdq.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MOST 512 /* pixels a side */
#define GRID 64
#define LOW 16
#define SMALLEST 5
#define ROWS 8 /* done side by side, since each is a chain of sums */

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

/* Luma of at most 512 x 512. */
static float *luma_of(const uint8_t *rgb, int64_t width, int64_t height, bool grey, int64_t *w, int64_t *h)
{
    const bool large = width > MOST || height > MOST;
    *w = large ? MOST : width;
    *h = large ? MOST : height;
    float *luma = bif_malloc((size_t)(*w * *h) * sizeof *luma);
    for (int64_t y = 0; y < *h; y++) {
        const uint8_t *row = rgb + (large ? y * height / MOST : y) * width * 3;
        float *to = luma + y * *w;
        for (int64_t x = 0; x < *w; x++) {
            const uint8_t *p = row + (large ? x * width / MOST : x) * 3;
            to[x] = grey ? (float)p[0] : 0.299f * (float)p[0] + 0.587f * (float)p[1] + 0.114f * (float)p[2];
        }
    }
    return luma;
}

/* A mean over `window` neighbours slides along n elements that stand `step` apart, on `lines` lines that stand `line` apart. The order of
 * adding and subtracting is the reference's, so its rounding is too. */
static void slide(const float *in, float *out, int64_t n, int64_t step, int64_t window, int64_t lines, int64_t line)
{
    const int64_t half = (window + 2) / 2;
    float sum[MOST] = {0};
    int64_t left = 0, right = 0, inside = 0;
    for (int64_t i = 0; i < half - 1; i++, right++, inside++) {
        for (int64_t k = 0; k < lines; k++) {
            sum[k] += in[right * step + k * line];
        }
    }
    for (int64_t o = 0; o < n; o++) {
        const bool add = right < n, subtract = o > window - half;
        inside += add - subtract;
        const float *in_right = in + right * step, *in_left = in + left * step;
        const float count = (float)inside;
        float *to = out + o * step;
        for (int64_t k = 0; k < lines; k++) {
            float s = sum[k];
            s = add ? s + in_right[k * line] : s;
            s = subtract ? s - in_left[k * line] : s;
            sum[k] = s;
            to[k * line] = s / count;
        }
        right += add;
        left += subtract;
    }
}

static void blur(float *a, float *b, int64_t w, int64_t h)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t y = 0; y < h; y += ROWS) {
            slide(a + y * w, b + y * w, w, 1, (w + 127) / 128, h - y < ROWS ? h - y : ROWS, w);
        }
        slide(b, a, h, w, (h + 127) / 128, w, 1);
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
