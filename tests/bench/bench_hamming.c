/* bench_hamming [COUNT [DISTANCE [THREADS [FOLDER]]]]: all pairs of COUNT random 256-bit hashes, of which one in a thousand is near
 * another, within DISTANCE bits: our way (slots), our tiles, and a naive loop over a part of the rows whose pairs are compared with ours.
 * One line of JSON a method, times of the whole job (of the naive loop, and of tiles above 300,000 hashes without AVX-512, estimated from a
 * share of the rows: share_run). With FOLDER the hashes are written to FOLDER/hashes.bin and the pairs to FOLDER/pairs.bin (u32 a, b) for
 * tests/bench/hamming_faiss.py. Times are wall and CPU seconds. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/hamming.h"

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void say(const char *method, double wall, double cpu, double share, int64_t pairs)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"method\": \"%s\", \"wall_s\": %.2f, \"cpu_s\": %.2f, \"share_run\": %g, \"pairs\": %lld, \"peak_rss_mib\": %ld}\n", method,
           wall / share, cpu / share, share, (long long)pairs, usage.ru_maxrss / 1024);
    fflush(stdout);
}

static uint64_t *make(int64_t n)
{
    uint64_t *bits = bif_malloc((size_t)n * 4 * sizeof *bits);
    for (int64_t i = 0; i < n; i++) {
        uint32_t r[4];
        for (uint32_t k = 0; k < 4; k++) {
            bif_philox(1, BIF_RNG_TEST, (uint64_t)i, k, r);
            bits[4 * i + k] = (uint64_t)r[0] << 32 | r[1];
        }
        if (i % 1000 == 999) { /* 0 to 40 bits from an earlier one */
            bif_philox(1, BIF_RNG_TEST, (uint64_t)i, 9, r);
            memcpy(bits + 4 * i, bits + 4 * (r[0] % i), 32);
            for (uint32_t k = 0, flips = r[1] % 41; k < flips; k++) {
                bif_philox(1, BIF_RNG_TEST, (uint64_t)i, 10 + k, r);
                bits[4 * i + r[0] % 4] ^= (uint64_t)1 << r[1] % 64;
            }
        }
    }
    return bits;
}

static bif_pairs timed(const char *method, bif_hamming_args args, int parts)
{
    bif_pairs pairs = {0};
    args.parts = parts;
    const double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (bif_hamming_pairs(&args, &pairs) != BIF_OK) {
        fprintf(stderr, "%s\n", bif_error_message());
        exit(1);
    }
    say(method, seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, 1.0 / parts, pairs.count * (parts == 1));
    bif_pairs_sort(&pairs, true);
    return pairs;
}

/* Row i against all behind it; hits are compared with ours from *at on. Returns the hits; *wrong counts what differs. */
#if defined(__x86_64__)
__attribute__((target("popcnt")))
#endif
static int64_t naive_row(const uint64_t *bits, int64_t n, int64_t i, int distance, const bif_pairs *pairs, int64_t *at, int64_t *wrong)
{
    const uint64_t *a = bits + 4 * i;
    int64_t found = 0;
    for (; *at < pairs->count && pairs->pair[*at].a < i; (*at)++) {
    }
    for (int64_t j = i + 1; j < n; j++) {
        const uint64_t *b = bits + 4 * j;
        const int d = __builtin_popcountll(a[0] ^ b[0]) + __builtin_popcountll(a[1] ^ b[1]) + __builtin_popcountll(a[2] ^ b[2]) +
                      __builtin_popcountll(a[3] ^ b[3]);
        if (d <= distance) {
            const bif_pair *p = *at < pairs->count ? &pairs->pair[(*at)++] : NULL;
            *wrong += p == NULL || p->a != i || p->b != j || (int)p->value != d;
            found++;
        }
    }
    *wrong += *at < pairs->count && pairs->pair[*at].a == i; /* one that the loop has not */
    return found;
}

int main(int argc, char **argv)
{
    const int64_t n = argc > 1 ? atoll(argv[1]) : 1000000;
    const int distance = argc > 2 ? atoi(argv[2]) : 31, threads = argc > 3 ? atoi(argv[3]) : 2;
    uint64_t *bits = make(n);
    bif_hamming_args args = {.words = 4, .distance = distance, .a = {bits, n}, .threads = threads, .most = INT64_MAX};
    char name[64];

    printf("{\"hashes\": %lld, \"distance\": %d, \"threads\": %d}\n", (long long)n, distance, threads);
    snprintf(name, sizeof name, "slots %s", bif_hamming_isa());
    bif_pairs pairs = timed(name, args, 1);
    if (argc > 4) {
        char path[4096];
        snprintf(path, sizeof path, "%s/hashes.bin", argv[4]);
        if (bif_file_write(path, bits, (size_t)n * 32) != BIF_OK) {
            return 1;
        }
        uint32_t *ab = bif_malloc((size_t)pairs.count * 8 + 1);
        for (int64_t i = 0; i < pairs.count; i++) {
            ab[2 * i] = pairs.pair[i].a;
            ab[2 * i + 1] = pairs.pair[i].b;
        }
        snprintf(path, sizeof path, "%s/pairs.bin", argv[4]);
        if (bif_file_write(path, ab, (size_t)pairs.count * 8) != BIF_OK) {
            return 1;
        }
        free(ab);
    }
    args.way = BIF_HAMMING_TILES;
    const int parts = n > 300000 && strncmp(bif_hamming_isa(), "avx512", 6) != 0 ? 16 : 1;
    snprintf(name, sizeof name, "tiles %s", bif_hamming_isa());
    bif_pairs tiles = timed(name, args, parts);

    /* Every pair whose first number is among `rows` of them, naively. */
    const int64_t rows = n < 2000 ? n : 2000, step = n / rows;
    int64_t found = 0, at = 0, wrong = 0;
    double tested = 0;
    const double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int64_t i = 0; i < n; i += step) {
        found += naive_row(bits, n, i, distance, &pairs, &at, &wrong);
        tested += (double)(n - i - 1);
    }
    const double share = tested / (0.5 * (double)n * (double)(n - 1));
    say("naive loop, one thread", seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, share, found);
    if (parts == 1 && (tiles.count != pairs.count || memcmp(tiles.pair, pairs.pair, (size_t)pairs.count * sizeof *pairs.pair) != 0)) {
        wrong++;
    }
    printf("{\"wrong\": %lld}\n", (long long)wrong);
    free(bits);
    bif_pairs_free(&pairs);
    bif_pairs_free(&tiles);
    return wrong > 0;
}
