#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "train/safetensors.h"
#include "train/torch_write.h"

static char folder[] = "/tmp/bif-torch-XXXXXX";
static char path[64], golden[512];

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/mm_projector.bin", folder);
    snprintf(golden, sizeof golden, "%s/golden/layouts", getenv("BIFOCAL_TESTS"));
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(torch, .init = setup, .fini = teardown);

static bif_status open_bytes(const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb"); /* thousands of files: not one fsync each */
    cr_assert(file != NULL && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
    bif_safetensors *set = NULL;
    const bif_status st = bif_safetensors_open(path, &set);
    for (int64_t i = 0; st == BIF_OK && i < bif_safetensors_count(set); i++) { /* what is accepted can be read */
        const bif_st_entry *entry = bif_safetensors_at(set, i);
        char *copy = bif_malloc(entry->bytes + 1);
        memcpy(copy, entry->data, entry->bytes);
        free(copy);
    }
    bif_safetensors_close(set);
    return st;
}

/* ---- a zip as torch.save would write it, with what is wrong in it ---- */

typedef struct {
    const char *name, *data;
    size_t size;
} part;

static char zip[8192];
static size_t zip_size;

static void put(size_t bytes, uint64_t value)
{
    for (size_t i = 0; i < bytes; i++) {
        zip[zip_size++] = (char)(i < 8 ? value >> (8 * i) : 0);
    }
}

static void put_text(const char *text, size_t size)
{
    memcpy(zip + zip_size, text, size);
    zip_size += size;
}

static void make_zip(const part *parts, size_t count, unsigned method)
{
    size_t places[8];
    zip_size = 0;
    for (size_t i = 0; i < count; i++) {
        places[i] = zip_size;
        put(4, 0x04034b50), put(4, 0), put(2, method), put(16, 0), put(2, strlen(parts[i].name)), put(2, 0);
        put_text(parts[i].name, strlen(parts[i].name));
        put_text(parts[i].data, parts[i].size);
    }
    const size_t directory = zip_size;
    for (size_t i = 0; i < count; i++) {
        put(4, 0x02014b50), put(6, 0), put(2, method), put(4, 0), put(4, crc32(0, (const Bytef *)parts[i].data, (uInt)parts[i].size));
        put(4, parts[i].size), put(4, parts[i].size), put(2, strlen(parts[i].name)), put(12, 0), put(4, places[i]);
        put_text(parts[i].name, strlen(parts[i].name));
    }
    const size_t end = zip_size;
    put(4, 0x06054b50), put(4, 0), put(2, count), put(2, count), put(4, end - directory), put(4, directory), put(2, 0);
}

#define STORAGE(type, key, numbers) "(X\7\0\0\0storagectorch\n" type "\nX\1\0\0\0" key "X\3\0\0\0cpuK" numbers "tQ"
#define TENSOR(storage, offset, shape, stride)                                                                                           \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage "K" offset shape stride "\x89" "ccollections\nOrderedDict\n)RtR"
#define HUGE_NUMBER "\x8a\x08\0\0\0\0\0\0\0\x7f"
#define NAMED(tensor) "\x80\2}X\1\0\0\0a" tensor "s."
#define GOOD NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", "K\2K\3\x86", "K\3K\1\x86"))

static const float numbers[6] = {1, 2, 3, 4, 5, 6};

static bif_status open_pickle(const char *code, size_t size)
{
    const part parts[] = {{"x/data.pkl", code, size}, {"x/byteorder", "little", 6}, {"x/data/0", (const char *)numbers, sizeof numbers}};
    make_zip(parts, 3, 0);
    return open_bytes(zip, zip_size);
}

Test(torch, what_torch_wrote)
{
    bif_safetensors *set = NULL, *want = NULL;
    char *file = bif_format("%s/stage1", golden), *other = bif_format("%s/native_bin", golden), *same = bif_format("%s/native", golden);
    cr_assert_eq(bif_safetensors_open(file, &set), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bif_safetensors_count(set), 4);
    const bif_st_entry *entry = bif_safetensors_find(set, "model.mm_projector.2.weight");
    cr_assert(entry != NULL && entry->dtype == BIF_DTYPE_BF16 && entry->rank == 2 && entry->dim[0] == 16 && entry->bytes == 512);
    bif_safetensors_close(set);
    cr_assert_eq(bif_safetensors_open(other, &set), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_safetensors_open(same, &want), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bif_safetensors_count(set), bif_safetensors_count(want));
    for (int64_t i = 0; i < bif_safetensors_count(want); i++) {
        const bif_st_entry *a = bif_safetensors_at(want, i), *b = bif_safetensors_find(set, a->name);
        cr_expect(b != NULL && a->bytes == b->bytes && a->dtype == b->dtype && memcmp(a->data, b->data, a->bytes) == 0, "%s", a->name);
    }
    bif_safetensors_close(set);
    bif_safetensors_close(want);
    free(file);
    free(other);
    free(same);
}

Test(torch, made_by_hand)
{
    bif_safetensors *set = NULL;
    cr_assert_eq(open_pickle(GOOD, sizeof GOOD - 1), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_safetensors_open(path, &set), BIF_OK);
    const bif_st_entry *a = bif_safetensors_find(set, "a");
    cr_assert(a != NULL && a->dim[0] == 2 && a->dim[1] == 3 && memcmp(a->data, numbers, sizeof numbers) == 0);
    bif_safetensors_close(set);
    /* Part of a storage, a scalar, a dimension of 1 with any stride, a state dictionary with its versions. */
    static const char part_of[] = NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\4", "K\2\x85", "K\1\x85"));
    static const char scalar[] = NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\5", ")", ")"));
    static const char one[] = NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", "K\1K\3\x86", "K\7K\1\x86"));
    static const char state[] = "\x80\2" "ccollections\nOrderedDict\n)R}X\1\0\0\0v" "K\1sb.";
    cr_expect_eq(open_pickle(part_of, sizeof part_of - 1), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(open_pickle(scalar, sizeof scalar - 1), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(open_pickle(one, sizeof one - 1), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(open_pickle(state, sizeof state - 1), BIF_OK, "%s", bif_error_message());
}

Test(torch, pickles_that_are_refused)
{
#define CASE(code, text) {code, sizeof code - 1, text}
    static const struct {
        const char *code;
        size_t size;
        const char *text;
    } cases[] = {
        CASE("\x80\2" "cos\nsystem\nX\2\0\0\0ls\x85R.", "byte 42 (data.pkl + 2), opcode 0x63: 'os system' is asked for"),
        CASE("\x80\2" "cbuiltins\neval\n.", "'builtins eval'"),
        CASE("\x80\4.", "protocol 2"),
        CASE("\x80\2i.", "opcode 0x69"),
        CASE("\x80\2}", "data.pkl has no end"),
        CASE("\x80\2X\xff\xff\xff\xff" "a.", "ends within its operand"),
        CASE("\x80\2" "cos", "a name without an end"),
        CASE("\x80\2R.", "nothing on the stack"),
        CASE("\x80\2K\1K\2R.", "a call of something else"),
        CASE("\x80\2" "ctorch\nFloatStorage\n)R.", "a call of something else"),
        CASE("\x80\2K\1Q.", "not the storage"),
        CASE("\x80\2t.", "no mark"),
        CASE("\x80\2h\0.", "never made"),
        CASE("\x80\2}q\7.", "out of order"),
        CASE("\x80\2K\1K\2K\3s.", "no dictionary"),
        CASE("\x80\2}(K\1u.", "no dictionary"),
        CASE("\x80\2].", "byte 43 (data.pkl + 3), opcode 0x2e: a dictionary of tensors is wanted"),
        CASE("\x80\2}X\1\0\0\0aK\1s.", "byte 43 (data.pkl + 3): 'a' is not a tensor"),
        CASE("\x80\2}K\1K\1s.", "byte 43 (data.pkl + 3): a key of the dictionary is not a tensor's name"),
        CASE("\x80\2}X\2\0\0\0a\nK\1s.", "control character"),
        CASE("\x80\2\x8a\x09" "123456789.", "more than 64 bits"),
        CASE("\x80\2K\1}b.", "a state for what has none"),
        CASE(NAMED(STORAGE("FloatStorage", "0", "\6")), "'a' is not a tensor"),
        CASE(NAMED(STORAGE("DoubleStorage", "0", "\3")), "'torch DoubleStorage'"),
        CASE(NAMED(TENSOR(STORAGE("FloatStorage", "1", "\6"), "\0", "K\6\x85", "K\1\x85")), "lacks this storage"),
        CASE(NAMED(TENSOR(STORAGE("FloatStorage", "0", "\7"), "\0", "K\6\x85", "K\1\x85")), "another length"),
        CASE(NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\1", "K\6\x85", "K\1\x85")), "beyond its storage"),
        CASE(NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", "J\xff\xff\xff\xff\x85", "K\1\x85")), "impossible shape"),
        CASE(NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", "K\3K\2\x86", "K\1K\3\x86")), "a view of another"),
        CASE(NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", "K\6\x85", ")")), "not the description"),
        CASE(NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", "(K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1t")), "4 dimensions"),
        CASE(NAMED(TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", HUGE_NUMBER HUGE_NUMBER "\x86", "K\1K\1\x86")), "impossible shape"),
        CASE("\x80\2}X\1\0\0\0a" TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", ")", ")") "sX\1\0\0\0a"
             TENSOR(STORAGE("FloatStorage", "0", "\6"), "\0", ")", ")") "s.", "tensor a is both in"),
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(open_pickle(cases[i].code, cases[i].size), BIF_ERR_DATA, "case %zu passes", i);
        cr_expect_not_null(strstr(bif_error_message(), cases[i].text), "case %zu: %s", i, bif_error_message());
        cr_expect_not_null(strstr(bif_error_message(), "mm_projector.bin"), "case %zu: %s", i, bif_error_message());
    }
}

Test(torch, zips_that_are_refused)
{
    const part good[] = {{"x/data.pkl", GOOD, sizeof GOOD - 1}, {"x/data/0", (const char *)numbers, sizeof numbers}};
    make_zip(good, 2, 0);
    cr_expect_eq(open_bytes(zip, zip_size), BIF_OK, "%s", bif_error_message());
    make_zip(good, 2, 8);
    cr_expect_eq(open_bytes(zip, zip_size), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "compressed or encrypted"), "%s", bif_error_message());
    const part big[] = {good[0], good[1], {"x/byteorder", "big", 3}}, twice[] = {good[0], good[1], good[1]};
    const part outside[] = {good[0], {"y/data/0", "", 0}}, none[] = {good[1]};
    static const char *const words[] = {"byte order", "two entries of one name", "outside of the folder", "no data.pkl"};
    const part *const lists[] = {big, twice, outside, none};
    const size_t counts[] = {3, 3, 2, 1};
    for (size_t i = 0; i < 4; i++) {
        make_zip(lists[i], counts[i], 0);
        cr_expect_eq(open_bytes(zip, zip_size), BIF_ERR_DATA);
        cr_expect_not_null(strstr(bif_error_message(), words[i]), "%s", bif_error_message());
    }
    /* The second record of the directory points to the first entry's bytes, under a name of its length. */
    const part overlap[] = {{"x/data.pkl", GOOD, sizeof GOOD - 1}, {"x/data/012", "abc", 3}};
    make_zip(overlap, 2, 0);
    cr_expect_eq(open_bytes(zip, zip_size), BIF_ERR_DATA); /* no storage 0 */
    memcpy(zip + zip_size - 22 - 10, "x/data.pkl", 10);
    memset(zip + zip_size - 22 - 10 - 4, 0, 4);
    cr_expect_eq(open_bytes(zip, zip_size), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "overlap") != NULL || strstr(bif_error_message(), "CRC-32") != NULL, "%s", bif_error_message());
    cr_expect_eq(open_bytes("\x80\2\x8a\x0al\xfc\x9c\x46\xf9", 9), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "before version 1.6"), "%s", bif_error_message());
}

/* Every cut and every single wrong byte of torch's own file ends in tensors or in a message. */
Test(torch, cut_and_damaged_files)
{
    char *bytes = NULL, *file = bif_format("%s/stage1/mm_projector.bin", golden);
    size_t size = 0, refused = 0;
    cr_assert_eq(bif_file_read(file, 1 << 20, &bytes, &size), BIF_OK, "%s", bif_error_message());
    for (size_t n = 0; n < size; n += 1 + n / 64) {
        cr_expect_eq(open_bytes(bytes, n), BIF_ERR_DATA, "the first %zu bytes pass", n);
    }
    for (size_t i = 0; i < size; i += i < 600 || i > size - 900 ? 1 : 16) {
        const char old = bytes[i];
        bytes[i] = (char)(old ^ (1 << i % 8));
        const bif_status st = open_bytes(bytes, size);
        cr_expect(st == BIF_OK || st == BIF_ERR_DATA, "byte %zu: %d, %s", i, (int)st, bif_error_message());
        refused += st != BIF_OK;
        bytes[i] = old;
    }
    cr_expect_gt(refused, 600, "only %zu refused", refused);
    free(bytes);
    free(file);
}

/* ---- writing ---- */

Test(torch, what_is_written_reads_back)
{
    static float wide[70000];
    static int64_t numbers64[3] = {-1, 1ll << 40, 3};
    static uint16_t halves[6] = {1, 2, 3, 4, 5, 6};
    static uint8_t byte[5] = {9, 8, 7, 6, 5};
    for (int i = 0; i < 70000; i++) {
        wide[i] = (float)i;
    }
    const bif_st_out out[] = {{"wide.weight", bif_tensor2(wide, BIF_DTYPE_F32, 700, 100), NULL},
                              {"scalar", {.data = wide + 7, .dtype = BIF_DTYPE_F32}, NULL},
                              {"none", bif_tensor2(NULL, BIF_DTYPE_F32, 0, 5), NULL},
                              {"long", bif_tensor1(numbers64, BIF_DTYPE_I64, 3), NULL},
                              {"half", bif_tensor2(halves, BIF_DTYPE_F16, 2, 3), NULL},
                              {"brain", bif_tensor4(halves, BIF_DTYPE_BF16, 1, 3, 2, 1), NULL},
                              {"byte", bif_tensor1(byte, BIF_DTYPE_U8, 5), NULL}};
    const int64_t count = sizeof out / sizeof *out;
    bif_safetensors *set = NULL;
    char first[33], second[33];
    uint64_t size = 0;
    cr_assert_eq(bif_torch_write(path, out, count), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_digest_file(path, first, &size), BIF_OK);
    cr_assert_eq(bif_safetensors_open(path, &set), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_safetensors_count(set), count);
    for (int64_t i = 0; i < count; i++) {
        const bif_st_entry *entry = bif_safetensors_find(set, out[i].name);
        cr_assert(entry != NULL && entry->dtype == out[i].tensor.dtype && entry->rank == out[i].tensor.rank, "%s", out[i].name);
        cr_expect_eq(memcmp(entry->dim, out[i].tensor.dim, (size_t)entry->rank * sizeof *entry->dim), 0, "%s", out[i].name);
        cr_expect(entry->bytes == bif_bytes(&out[i].tensor) && (entry->bytes == 0 || memcmp(entry->data, out[i].tensor.data, entry->bytes) == 0), "%s", out[i].name);
        cr_expect_eq((uintptr_t)entry->data % 64, 0, "%s is not aligned", out[i].name);
    }
    bif_safetensors_close(set);
    cr_assert_eq(bif_torch_write(path, out, count), BIF_OK);
    cr_assert_eq(bif_digest_file(path, second, &size), BIF_OK);
    cr_expect_str_eq(first, second, "the same tensors, other bytes");
    const bif_st_out huge = {"huge", bif_tensor1(NULL, BIF_DTYPE_F32, 1ll << 30), NULL};
    cr_expect_eq(bif_torch_write(path, &huge, 1), BIF_ERR_DATA);
    cr_expect_eq(bif_safetensors_open(path, &set), BIF_OK, "a refused file must not replace the old one");
    bif_safetensors_close(set);
}
