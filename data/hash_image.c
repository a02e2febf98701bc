#include "data/hash_image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SIDE 32 /* of the DCT */
#define ROOT 0x1.6a09e667f3bcdp+0

/* SciPy's twiddle factors, products of two rounded ones and therefore not always the nearest doubles. (cos, sin) of 2 pi i / 32, i = 1 to
 * 7; of 2, 4, 6; cos of 2 pi i / 128, i = 1 to 31. */
static const double turn16[14] = {
    0x1.f6297cff75cb0p-1, 0x1.8f8b83c69a60ap-3, 0x1.d906bcf328d46p-1, 0x1.87de2a6aea963p-2, 0x1.a9b66290ea1a3p-1,
    0x1.1c73b39ae68c8p-1, 0x1.6a09e667f3bccp-1, 0x1.6a09e667f3bcdp-1, 0x1.1c73b39ae68c8p-1, 0x1.a9b66290ea1a3p-1,
    0x1.87de2a6aea963p-2, 0x1.d906bcf328d46p-1, 0x1.8f8b83c69a60ap-3, 0x1.f6297cff75cb0p-1,
};
static const double turn4[6] = {
    0x1.d906bcf328d46p-1, 0x1.87de2a6aea963p-2, 0x1.6a09e667f3bccp-1, 0x1.6a09e667f3bcdp-1, 0x1.87de2a6aea963p-2,
    0x1.d906bcf328d46p-1,
};
static const double cosines[31] = {
    0x1.ff621e3796d7ep-1, 0x1.fd88da3d12526p-1, 0x1.fa7557f08a517p-1, 0x1.f6297cff75cb0p-1, 0x1.f0a7efb9230d7p-1,
    0x1.e9f4156c62ddap-1, 0x1.e212104f686e5p-1, 0x1.d906bcf328d46p-1, 0x1.ced7af43cc773p-1, 0x1.c38b2f180bdb1p-1,
    0x1.b728345196e3ep-1, 0x1.a9b66290ea1a3p-1, 0x1.9b3e047f38741p-1, 0x1.8bc806b151741p-1, 0x1.7b5df226aafafp-1,
    0x1.6a09e667f3bccp-1, 0x1.57d69348cec9fp-1, 0x1.44cf325091dd6p-1, 0x1.30ff7fce17034p-1, 0x1.1c73b39ae68c8p-1,
    0x1.073879922ffedp-1, 0x1.e2b5d3806f639p-2, 0x1.b5d1009e15cbfp-2, 0x1.87de2a6aea961p-2, 0x1.58f9a75ab1fdbp-2,
    0x1.294062ed59f04p-2, 0x1.f19f97b215f1cp-3, 0x1.8f8b83c69a60ap-3, 0x1.2c8106e8e6136p-3, 0x1.917a6bc29b424p-4,
    0x1.91f65f10dd810p-5,
};

/* One step of radix 2 of a half-complex spectrum of 32, on the way to real values. */
static void radix2(const double in[SIDE], double out[SIDE])
{
    const double *b = in + 16;
    out[0] = in[0] + b[15];
    out[16] = in[0] - b[15];
    out[15] = 2 * in[15];
    out[31] = -2 * b[0];
    for (int i = 2; i < 16; i += 2) {
        const double c = turn16[i - 2], s = turn16[i - 1];
        const double re = in[i - 1] - b[15 - i], im = in[i] + b[16 - i];
        out[i - 1] = in[i - 1] + b[15 - i];
        out[i] = in[i] - b[16 - i];
        out[16 + i] = c * im + s * re;
        out[15 + i] = c * re - s * im;
    }
}

/* Two groups of four quarters of 4 values. */
static void radix4_of_4(const double in[SIDE], double out[SIDE])
{
    for (int k = 0; k < 2; k++) {
        const double *p = in + 16 * k, *q = p + 4, *r = p + 8, *t = p + 12;
        double *o[4] = {out + 4 * k, out + 8 + 4 * k, out + 16 + 4 * k, out + 24 + 4 * k};
        const double sum = p[0] + t[3], difference = p[0] - t[3], twice = 2 * q[3], other = 2 * r[0];
        o[0][0] = sum + twice;
        o[2][0] = sum - twice;
        o[3][0] = difference + other;
        o[1][0] = difference - other;

        const double im_sum = t[0] + q[0], im_difference = t[0] - q[0], re_sum = p[3] + r[3], re_difference = p[3] - r[3];
        o[0][3] = re_sum + re_sum;
        o[1][3] = ROOT * (re_difference - im_sum);
        o[2][3] = im_difference + im_difference;
        o[3][3] = -ROOT * (re_difference + im_sum);

        const double r2 = p[1] + t[1], r1 = p[1] - t[1], i1 = p[2] + t[2], i2 = p[2] - t[2];
        const double r4 = r[2] + q[2], i3 = r[2] - q[2], r3 = r[1] + q[1], i4 = r[1] - q[1];
        o[0][1] = r2 + r3;
        o[0][2] = i2 + i3;
        const double re[4] = {0, r1 - r4, r2 - r3, r1 + r4}, im[4] = {0, i1 + i4, i2 - i3, i1 - i4};
        for (int j = 1; j < 4; j++) {
            const double c = turn4[2 * j - 2], s = turn4[2 * j - 1];
            o[j][2] = c * im[j] + s * re[j];
            o[j][1] = c * re[j] - s * im[j];
        }
    }
}

static void radix4_of_1(const double in[SIDE], double out[SIDE])
{
    for (int k = 0; k < 8; k++) {
        const double *p = in + 4 * k;
        const double sum = p[0] + p[3], difference = p[0] - p[3], twice = 2 * p[1], other = 2 * p[2];
        out[k] = sum + twice;
        out[16 + k] = sum - twice;
        out[24 + k] = difference + other;
        out[8 + k] = difference - other;
    }
}

static void dct(double x[SIDE])
{
    double other[SIDE];
    x[0] *= 2;
    x[SIDE - 1] *= 2;
    for (int k = 1; k < SIDE - 1; k += 2) {
        const double t = x[k + 1];
        x[k + 1] = t - x[k];
        x[k] += t;
    }
    radix2(x, other);
    radix4_of_4(other, x);
    radix4_of_1(x, other);
    x[0] = other[0];
    x[16] = other[16] * cosines[15];
    for (int k = 1; k < 16; k++) {
        const double a = other[k], b = other[SIDE - k];
        const double t1 = cosines[k - 1] * b + cosines[SIDE - k - 1] * a;
        const double t2 = cosines[k - 1] * a - cosines[SIDE - k - 1] * b;
        x[k] = 0.5 * (t1 + t2);
        x[SIDE - k] = 0.5 * (t1 - t2);
    }
}

void bif_hash_dct(const uint8_t grey[SIDE * SIDE], double out[64])
{
    double half[8][SIDE], line[SIDE];
    for (int x = 0; x < SIDE; x++) {
        for (int y = 0; y < SIDE; y++) {
            line[y] = grey[y * SIDE + x];
        }
        dct(line);
        for (int y = 0; y < 8; y++) {
            half[y][x] = line[y];
        }
    }
    for (int y = 0; y < 8; y++) {
        dct(half[y]);
        memcpy(out + y * 8, half[y], 8 * sizeof *out);
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Four pixels: (red, green) and (blue, green) in 16 bits by their weights, that of green halved to fit. */
__attribute__((target("avx2"))) static inline __m128i grey4(const uint8_t *rgb)
{
    const __m128i p = _mm_loadu_si128((const __m128i *)(const void *)rgb);
    const __m128i rg = _mm_shuffle_epi8(p, _mm_setr_epi8(0, -1, 1, -1, 3, -1, 4, -1, 6, -1, 7, -1, 9, -1, 10, -1));
    const __m128i bg = _mm_shuffle_epi8(p, _mm_setr_epi8(2, -1, 1, -1, 5, -1, 4, -1, 8, -1, 7, -1, 11, -1, 10, -1));
    const __m128i sum = _mm_add_epi32(_mm_madd_epi16(rg, _mm_set1_epi32(19235 << 16 | 19595)),
                                      _mm_madd_epi16(bg, _mm_set1_epi32(19235 << 16 | 7471)));
    return _mm_srli_epi32(_mm_add_epi32(sum, _mm_set1_epi32(32768)), 16);
}

/* Sixteen at a time, while four bytes more than they have may be read; returns how many are done. */
__attribute__((target("avx2"))) static int64_t grey_avx2(const uint8_t *rgb, int64_t pixels, uint8_t *out)
{
    int64_t i = 0;
    for (; i + 18 <= pixels; i += 16) {
        const uint8_t *p = rgb + i * 3;
        const __m128i low = _mm_packs_epi32(grey4(p), grey4(p + 12)), high = _mm_packs_epi32(grey4(p + 24), grey4(p + 36));
        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm_packus_epi16(low, high));
    }
    return i;
}

static int64_t grey_fast(const uint8_t *rgb, int64_t pixels, uint8_t *out)
{
    return __builtin_cpu_supports("avx2") ? grey_avx2(rgb, pixels, out) : 0;
}
#else
static int64_t grey_fast(const uint8_t *rgb, int64_t pixels, uint8_t *out)
{
    (void)rgb;
    (void)pixels;
    (void)out;
    return 0;
}
#endif

void bif_hash_grey(const uint8_t *rgb, int64_t pixels, uint8_t *out)
{
    for (int64_t i = grey_fast(rgb, pixels, out); i < pixels; i++) {
        const uint8_t *p = rgb + i * 3;
        out[i] = (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 32768u) >> 16);
    }
}

static uint64_t average(const uint8_t grey[64], bool equal)
{
    int sum = 0;
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++) {
        sum += grey[i];
    }
    for (int i = 0; i < 64; i++) {
        bits = bits << 1 | (64 * grey[i] > sum || (equal && 64 * grey[i] == sum));
    }
    return bits;
}

static uint64_t differences(const uint8_t grey[72])
{
    uint64_t bits = 0;
    for (int y = 0; y < 8; y++) {
        for (int x = 0; x < 8; x++) {
            bits = bits << 1 | (grey[y * 9 + x + 1] > grey[y * 9 + x]);
        }
    }
    return bits;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(const double *values, int count)
{
    double sorted[64];
    memcpy(sorted, values, (size_t)count * sizeof *values);
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

static uint64_t above(const double values[64], double limit, bool equal)
{
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++) {
        bits = bits << 1 | (values[i] > limit || (equal && values[i] == limit));
    }
    return bits;
}

static int by_sum(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The LL of a block is its sum, scaled and shifted, so sums that differ decide without rounding. Only when the two middle ones are equal
 * does rounding say which of those equal to them are above the median: then the wavelet itself is run for these. */
static uint64_t wavelet(const uint8_t *grey, int64_t side, bool without_mean, bool equal)
{
    const int64_t n = side / 8;
    uint64_t sum[64] = {0}, sorted[64];
    for (int64_t y = 0; y < side; y++) {
        for (int64_t b = 0; b < 8; b++) {
            const uint8_t *p = grey + y * side + b * n;
            uint32_t part = 0;
            for (int64_t x = 0; x < n; x++) {
                part += p[x];
            }
            sum[y / n * 8 + b] += part;
        }
    }
    memcpy(sorted, sum, sizeof sorted);
    qsort(sorted, 64, sizeof *sorted, by_sum);
    uint64_t bits = 0;
    if (sorted[31] != sorted[32]) {
        for (int i = 0; i < 64; i++) {
            bits = bits << 1 | (sum[i] >= sorted[32]);
        }
        return bits;
    }
    bool want[64];
    double exact[64];
    for (int i = 0; i < 64; i++) {
        want[i] = sum[i] == sorted[32];
    }
    bif_hash_haar(grey, side, without_mean, want, exact);
    for (int i = 0; i < 64; i++) {
        exact[i] = want[i] ? exact[i] : sum[i] > sorted[32] ? HUGE_VAL : -HUGE_VAL;
    }
    return above(exact, median(exact, 64), equal);
}

/* What is asked for of a picture, resized in one go. small[kind] of those; freed by the caller through small[4]. */
static void resize(unsigned kinds, const uint8_t *pixels, bool grey, int64_t width, int64_t height, int64_t side, bif_resize_memo *memo,
                   uint8_t *small[5])
{
    const int64_t across[] = {8, 9, SIDE, side}, down[] = {8, 8, SIDE, side}, channels = grey ? 1 : 3;
    bif_resize_target targets[4];
    int count = 0;
    int64_t bytes = 0;
    for (int kind = 0; kind < 4; kind++) {
        bytes += kinds >> kind & 1 ? across[kind] * down[kind] * channels : 0;
    }
    small[4] = bif_malloc((size_t)(bytes > 0 ? bytes : 1));
    bytes = 0;
    for (int kind = 0; kind < 4; kind++) {
        if (kinds >> kind & 1) {
            small[kind] = small[4] + bytes;
            bytes += across[kind] * down[kind] * channels;
            targets[count++] = (bif_resize_target){.width = across[kind], .height = down[kind], .out = small[kind]};
        }
    }
    bif_resize_sizes(pixels, grey, width, height, BIF_RESIZE_LANCZOS, targets, count, memo);
}

void bif_hash_imagehash(unsigned kinds, const uint8_t *grey, int64_t width, int64_t height, bif_resize_memo *memo, uint64_t out[4])
{
    uint8_t *small[5] = {0};
    double low[64];
    int64_t side = 8;
    while (side * 2 <= width && side * 2 <= height) {
        side *= 2;
    }
    resize(kinds, grey, true, width, height, side, memo, small);
    if (small[BIF_HASH_A] != NULL) {
        out[BIF_HASH_A] = average(small[BIF_HASH_A], false);
    }
    if (small[BIF_HASH_D] != NULL) {
        out[BIF_HASH_D] = differences(small[BIF_HASH_D]);
    }
    if (small[BIF_HASH_P] != NULL) {
        bif_hash_dct(small[BIF_HASH_P], low);
        out[BIF_HASH_P] = above(low, median(low, 64), false);
    }
    if (small[BIF_HASH_W] != NULL) {
        out[BIF_HASH_W] = wavelet(small[BIF_HASH_W], side, true, false);
    }
    free(small[4]);
}

void bif_hash_imagededup(unsigned kinds, const uint8_t *rgb, int64_t width, int64_t height, bif_resize_memo *memo, uint64_t out[4])
{
    enum { MOST = 256 };
    static const int64_t pixels[] = {64, 72, SIDE * SIDE, MOST * MOST};
    uint8_t *small[5] = {0}, *grey = bif_malloc(MOST * MOST);
    double low[64];
    resize(kinds, rgb, false, width, height, MOST, memo, small);
    for (int kind = 0; kind < 4; kind++) {
        if (small[kind] == NULL) {
            continue;
        }
        bif_hash_grey(small[kind], pixels[kind], grey);
        switch ((bif_hash_kind)kind) {
        case BIF_HASH_A: out[kind] = average(grey, true); break;
        case BIF_HASH_D: out[kind] = differences(grey); break;
        case BIF_HASH_P:
            bif_hash_dct(grey, low);
            out[kind] = above(low, median(low + 1, 63), true);
            break;
        case BIF_HASH_W:
        default: out[kind] = wavelet(grey, MOST, false, true); break;
        }
    }
    free(small[4]);
    free(grey);
}

void bif_hash_mean_std(const uint8_t *grey, int64_t pixels, float out[2])
{
    uint64_t sum = 0, squares = 0;
    for (int64_t i = 0; i < pixels; i++) {
        sum += grey[i];
        squares += (uint64_t)grey[i] * grey[i];
    }
    const unsigned __int128 n = (unsigned __int128)pixels;
    out[0] = (float)((double)sum / (double)pixels);
    out[1] = (float)(sqrt((double)(n * squares - (unsigned __int128)sum * sum)) / (double)pixels);
}

void bif_hash_pixels(const uint8_t *rgb, int64_t width, int64_t height, uint64_t out[2])
{
    XXH3_state_t *state = XXH3_createState();
    BIF_BUG_IF(state == NULL || XXH3_128bits_reset(state) != XXH_OK, "xxhash could not start");
    uint8_t size[8];
    for (int i = 0; i < 4; i++) {
        size[i] = (uint8_t)(width >> 8 * i);
        size[4 + i] = (uint8_t)(height >> 8 * i);
    }
    XXH3_128bits_update(state, size, sizeof size);
    XXH3_128bits_update(state, rgb, (size_t)(width * height * 3));
    const XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    out[0] = hash.high64;
    out[1] = hash.low64;
}
