#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/order.h"

typedef struct {
    int64_t *row[3];
    int64_t count[3];
} given;

static uint64_t draw_given(void *context, int which, uint64_t n, uint64_t place)
{
    const given *g = context;
    cr_assert_eq((uint64_t)g->count[which], n, "permutation %d", which);
    return (uint64_t)g->row[which][place];
}

static int64_t next(FILE *file)
{
    long long value = 0;
    cr_assert_eq(fscanf(file, "%lld", &value), 1);
    return value;
}

/* golden/make_sampler.py: LLaVA's own functions with these permutations. */
Test(order, is_llavas_for_given_permutations)
{
    char *path = bif_format("%s/golden/sampler/orders.txt", getenv("BIFOCAL_TESTS"));
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    long long n = 0;
    int cases = 0, single = 0;
    while (fscanf(file, "%lld", &n) == 1) {
        const int64_t batch = next(file), chunks = next(file), drawn = next(file);
        int32_t length[128];
        uint32_t want[128], got[128];
        given g = {0};
        for (int64_t i = 0; i < n; i++) {
            length[i] = (int32_t)next(file);
        }
        for (int64_t i = 0; i < n; i++) {
            want[i] = (uint32_t)next(file);
        }
        for (int64_t d = 0; d < drawn; d++) {
            g.count[d] = next(file);
            g.row[d] = calloc((size_t)g.count[d] + 1, sizeof(int64_t));
            for (int64_t i = 0; i < g.count[d]; i++) {
                g.row[d][i] = next(file);
            }
        }
        bif_order_by_modality(length, n, batch, chunks, draw_given, &g, got);
        for (int64_t i = 0; i < n; i++) {
            cr_assert_eq(got[i], want[i], "case %d (%lld samples), place %lld: %u, LLaVA has %u", cases, n, (long long)i, got[i], want[i]);
        }
        for (int64_t d = 0; d < drawn; d++) {
            free(g.row[d]);
        }
        single += drawn == 1;
        cases++;
    }
    cr_expect_eq(cases, 10);
    cr_expect_eq(single, 2);
    fclose(file);
    free(path);
}

static uint64_t draw_seeded(void *context, int which, uint64_t n, uint64_t place)
{
    return bif_permute(*(uint64_t *)context, (uint64_t)which, n, place);
}

Test(order, megabatches_hold_one_kind_and_balanced_chunks)
{
    enum { N = 5003, BATCH = 8, CHUNKS = 4, MEGA = BATCH * CHUNKS };
    static int32_t length[N];
    static uint32_t order[N], again[N], other[N];
    static bool seen[N];
    int64_t texts = 0;
    for (int i = 0; i < N; i++) {
        uint32_t r[4];
        bif_philox(1, BIF_RNG_TEST, (uint64_t)i, 0, r);
        length[i] = (int32_t)(1 + r[0] % 300) * (r[1] % 5 == 0 ? -1 : 1);
        texts += length[i] < 0;
    }
    uint64_t seed = 3;
    bif_order_by_modality(length, N, BATCH, CHUNKS, draw_seeded, &seed, order);
    bif_order_by_modality(length, N, BATCH, CHUNKS, draw_seeded, &seed, again);
    seed = 4;
    bif_order_by_modality(length, N, BATCH, CHUNKS, draw_seeded, &seed, other);
    cr_expect_arr_eq(order, again, sizeof order);
    cr_expect(memcmp(order, other, sizeof order) != 0);
    const int64_t whole = (texts - 1) / MEGA + (N - texts - 1) / MEGA;
    double spread = 0.0;
    int64_t of_texts = 0;
    for (int64_t m = 0; m < whole; m++) {
        int64_t low = INT64_MAX, high = 0, total = 0;
        const bool text = length[order[m * MEGA]] < 0;
        of_texts += text;
        for (int64_t c = 0; c < CHUNKS; c++) {
            int64_t sum = 0;
            for (int64_t i = 0; i < BATCH; i++) {
                const int32_t l = length[order[m * MEGA + c * BATCH + i]];
                cr_assert_eq(l < 0, text, "megabatch %lld mixes kinds", (long long)m);
                sum += abs(l);
            }
            low = sum < low ? sum : low;
            high = sum > high ? sum : high;
            total += sum;
        }
        spread += (double)(high - low) * CHUNKS / (double)total / (double)whole;
    }
    cr_expect_eq(of_texts, (texts - 1) / MEGA);
    cr_expect_lt(spread, 0.1, "chunks of a megabatch differ by %.3f of their mean", spread); /* dealt at random: 0.4 */
    for (int64_t i = 0; i < N; i++) {
        cr_assert(!seen[order[i]], "sample %u comes twice", order[i]);
        seen[order[i]] = true;
        cr_assert(i <= whole * MEGA || order[i] > order[i - 1], "the last batch is sorted by number");
    }
}

Test(order, words_are_pythons)
{
    const struct {
        const char *text;
        int64_t words;
    } cases[] = {{"", 0}, {"  \n\t", 0}, {"one", 1}, {" a  b\nc ", 3}, {"<image>\nwhat is it?", 4},
                 /* len(s.split()): no-break space, line separator, ideographic space, 0x1c and 0x85 separate; zero-width space and 0x08 do not */
                 {"a\u00a0b\u2028c\u3000d", 4}, {"a\x1c" "b\xc2\x85" "c", 3}, {"a\u200b" "b\x08" "c", 1}, {"\ud55c\uad6d\uc5b4 \ubb38\uc7a5", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(bif_count_words(cases[i].text, strlen(cases[i].text)), cases[i].words, "case %zu", i);
    }
}

/* ---- files ---- */

static bif_status read_bytes(const void *bytes, size_t size, int64_t samples, uint32_t **order, int64_t *count)
{
    char path[] = "/tmp/bif-order-XXXXXX";
    const int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
    const bif_status st = bif_order_read(path, samples, order, count);
    unlink(path);
    return st;
}

static size_t npy(unsigned char *out, int major, const char *header, const void *data, size_t size)
{
    const size_t head = major == 1 ? 10 : 12, length = strlen(header);
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)major;
    out[7] = 0;
    memset(out + 8, 0, 4);
    out[8] = (unsigned char)length;
    memcpy(out + head, header, length);
    memcpy(out + head + length, data, size);
    return head + length + size;
}

Test(order, files_of_text_and_numpy)
{
    uint32_t *order = NULL;
    int64_t count = 0;
    unsigned char bytes[512];
    const uint32_t want[] = {4, 0, 4, 2};
    const int64_t wide[] = {4, 0, 4, 2};
    const char *texts[] = {"4\n0\n4\n2\n", "4\r\n0\r\n4\r\n2", "4\n0\n4\n002"};
    const char *headers[] = {"{'descr': '<u4', 'fortran_order': False, 'shape': (4,), }\n", "{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }\n",
                             "{'descr': '<i8', 'fortran_order': False, 'shape': (4,), }\n", "{'descr': '<u8', 'fortran_order': False, 'shape': (4,), }\n"};
    for (int i = 0; i < 11; i++) {
        size_t size = 0;
        if (i < 3) {
            size = strlen(texts[i]);
            memcpy(bytes, texts[i], size);
        } else {
            const int h = (i - 3) % 4;
            size = npy(bytes, 1 + (i - 3) / 4, headers[h], h < 2 ? (const void *)want : wide, h < 2 ? sizeof want : sizeof wide);
        }
        cr_assert_eq(read_bytes(bytes, size, 5, &order, &count), BIF_OK, "case %d: %s", i, bif_error_message());
        cr_expect_eq(count, 4);
        cr_expect_arr_eq(order, want, sizeof want, "case %d", i);
        free(order);
    }
}

Test(order, bad_files_are_refused)
{
    uint32_t *order = NULL;
    int64_t count = 0;
    unsigned char bytes[512];
    const struct {
        const char *text, *says;
    } texts[] = {{"", "without samples"}, {"1\n\n2\n", ":2: '' is not"}, {"1\n5\n", "line 2 is sample 5"}, {"-1\n", "'-1' is not"},
                 {"1 2\n", "'1 2' is not"}, {"1.0\n", "'1.0' is not"}, {"99999999999999999999\n", "is not the number"}, {"# order\n", "'# order'"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cr_expect_eq(read_bytes(texts[i].text, strlen(texts[i].text), 5, &order, &count), BIF_ERR_DATA, "case %zu", i);
        cr_expect(strstr(bif_error_message(), texts[i].says) != NULL, "case %zu: %s", i, bif_error_message());
        cr_expect_null(order);
    }
    const int64_t data[] = {1, -2, 3};
    const uint64_t huge[] = {1, UINT64_MAX - 1, 3};
    const struct {
        const char *header, *says;
        const void *data;
        int major;
        size_t cut;
    } files[] = {{"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", "entry 1 is sample -2", data, 1, 0},
                 {"{'descr': '<u8', 'fortran_order': False, 'shape': (3,), }", "entry 1 is sample -2", huge, 1, 0},
                 {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", "one dimension", data, 1, 0},
                 {"{'descr': '>i8', 'fortran_order': False, 'shape': (3,), }", "plain little-endian", data, 1, 0},
                 {"{'descr': '<i8', 'fortran_order': True, 'shape': (3,), }", "plain little-endian", data, 1, 0},
                 {"{'descr': '<i8', 'fortran_order': False, 'shape': (3, 1), }", "one dimension", data, 1, 0},
                 {"{'descr': '<i8', 'fortran_order': False, 'shape': (4,), }", "promises 4 elements", data, 1, 0},
                 {"{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999,), }", "plain little-endian", data, 1, 0},
                 {"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", "promises 3 elements", data, 1, 3},
                 {"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", "not a whole .npy", data, 1, 60},
                 {"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", "not a whole .npy", data, 4, 0}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const size_t size = npy(bytes, files[i].major, files[i].header, files[i].data, sizeof data);
        cr_expect_eq(read_bytes(bytes, size - files[i].cut, 5, &order, &count), BIF_ERR_DATA, "file %zu", i);
        cr_expect(strstr(bif_error_message(), files[i].says) != NULL, "file %zu: %s", i, bif_error_message());
        cr_expect_null(order);
    }
    cr_expect_eq(bif_order_read("/nowhere/order.txt", 5, &order, &count), BIF_ERR_IO);
}
