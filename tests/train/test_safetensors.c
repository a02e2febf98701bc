#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "train/safetensors.h"
#include "host_device.h"

static char folder[] = "/tmp/bif-safetensors-XXXXXX";
static char path[64];

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
}

static void teardown(void)
{
    bif_remove_tree(folder);
}

TestSuite(safetensors, .init = setup, .fini = teardown);

/* Writes length + header + `data` zero bytes (or what is given) and opens it. */
static bif_status open_text(const char *header, size_t data)
{
    const size_t n = strlen(header);
    char *bytes = bif_calloc(8 + n + data, 1);
    for (int i = 0; i < 8; i++) {
        bytes[i] = (char)(n >> (8 * i));
    }
    memcpy(bytes + 8, header, n);
    cr_assert_eq(bif_file_write(path, bytes, 8 + n + data), BIF_OK);
    free(bytes);
    bif_safetensors *st = NULL;
    bif_status status = bif_safetensors_open(path, &st);
    bif_safetensors_close(st);
    return status;
}

Test(safetensors, round_trip)
{
    float a[6] = {1, -2, 3.5f, 0, 1e-30f, -0.0f}, scale = 4.6f;
    uint16_t bf16[3] = {0x3f80, 0xc000, 0x7f80}, f16[4] = {0x3c00, 0xc000, 0x0001, 0x7c00};
    uint16_t bits[3] = {0, 1, 0xffff};
    int64_t ids[2] = {-1, 1LL << 40};
    bif_device device = host_device();
    bif_st_out out[] = {{"a", bif_tensor2(a, BIF_DTYPE_F32, 2, 3), &device},
                        {"scale", {&scale, BIF_DTYPE_F32, 0, {0}}, NULL},
                        {"half", bif_tensor1(f16, BIF_DTYPE_F16, 4), NULL},
                        {"brain", bif_tensor1(bf16, BIF_DTYPE_BF16, 3), NULL},
                        {"empty", bif_tensor2(NULL, BIF_DTYPE_F32, 0, 7), NULL},
                        {"ids", bif_tensor1(ids, BIF_DTYPE_I64, 2), NULL},
                        {"bits", bif_tensor1(bits, BIF_DTYPE_U16, 3), &device}};
    const char *metadata[] = {"format", "pt", "note", "a \"quoted\" one", NULL};
    char digest[33], check[33];
    uint64_t bytes = 0, size = 0;
    cr_assert_eq(bif_safetensors_write(path, out, 7, metadata, digest, &bytes), BIF_OK);
    cr_assert_eq(bif_digest_file(path, check, &size), BIF_OK);
    cr_expect_str_eq(digest, check);
    cr_expect_eq(bytes, size);

    bif_safetensors *st = NULL;
    cr_assert_eq(bif_safetensors_open(folder, &st), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bif_safetensors_count(st), 7);
    cr_expect_str_eq(bif_safetensors_metadata(st, "note"), "a \"quoted\" one");
    cr_expect_null(bif_safetensors_metadata(st, "nothing"));
    cr_expect_null(bif_safetensors_find(st, "b"));
    const bif_st_entry *e = bif_safetensors_find(st, "a");
    cr_assert_not_null(e);
    cr_expect(e->rank == 2 && e->dim[0] == 2 && e->dim[1] == 3 && e->bytes == 24);
    float back[6];
    cr_expect_eq(bif_safetensors_read_f32(st, e, back), BIF_OK);
    cr_expect_arr_eq(back, a, sizeof a);
    e = bif_safetensors_find(st, "scale");
    cr_expect_eq(e->rank, 0);
    cr_expect_eq(bif_safetensors_read_f32(st, e, back), BIF_OK);
    cr_expect_eq(back[0], scale);
    cr_expect_eq(bif_safetensors_read_f32(st, bif_safetensors_find(st, "half"), back), BIF_OK);
    cr_expect(back[0] == 1.0f && back[1] == -2.0f && back[2] == 0x1p-24f && back[3] == __builtin_inff());
    cr_expect_eq(bif_safetensors_read_f32(st, bif_safetensors_find(st, "brain"), back), BIF_OK);
    cr_expect(back[0] == 1.0f && back[1] == -2.0f && back[2] == __builtin_inff());
    cr_expect_eq(bif_safetensors_read_f32(st, bif_safetensors_find(st, "ids"), back), BIF_ERR_DATA);
    cr_expect_eq(bif_safetensors_find(st, "empty")->bytes, 0);
    cr_expect_eq(bif_safetensors_read_part_f32(st, bif_safetensors_find(st, "a"), 2, 3, back), BIF_OK);
    cr_expect_arr_eq(back, a + 2, 3 * sizeof *a);
    cr_expect_eq(bif_safetensors_read_part_f32(st, bif_safetensors_find(st, "brain"), 1, 1, back), BIF_OK);
    cr_expect(back[0] == -2.0f && back[1] == a[3]);
    e = bif_safetensors_find(st, "bits");
    cr_expect(e->dtype == BIF_DTYPE_U16 && e->bytes == sizeof bits);
    cr_expect_arr_eq(e->data, bits, sizeof bits);
    bif_safetensors_close(st);
}

#define F32_2 "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

Test(safetensors, accepted_headers)
{
    cr_expect_eq(open_text("{\"a\":" F32_2 "}", 8), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(open_text(" \t\r\n{\"a\":" F32_2 "}   ", 8), BIF_OK);
    cr_expect_eq(open_text("{}", 0), BIF_OK);
    cr_expect_eq(open_text("{\"__metadata__\":{\"k\":\"v\"}}", 0), BIF_OK);
    cr_expect_eq(open_text("{\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]},\"a\":" F32_2 "}", 8), BIF_OK);
}

Test(safetensors, hostile_headers)
{
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } cases[] = {
        {"{\"a\":" F32_2 ",\"a\":" F32_2 "}", 8, "duplicate"},
        {"{\"a\":" F32_2 ",\"b\":" F32_2 "}", 8, "byte 123: tensor b does not begin here"},
        {"{\"a\":" F32_2 "}", 7, "cut or damaged"},
        {"{\"a\":" F32_2 "}", 9, "byte 70: 1 bytes after the last tensor belong to none"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16, "hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "its shape needs 12"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "cut or damaged"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "cut or damaged"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, "5 dimensions"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "byte 9: tensor a has dtype F8_E4M3"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "'dtype' is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, "data_offsets"},
        {"{\"a\":3}", 0, "object"},
        {"[1]", 0, "not a JSON object"},
        {"{\"a\":" F32_2 "} x", 8, "not valid JSON"},
        {"x{\"a\":" F32_2 "}", 8, "(byte 9)"},
        {"{\"\xff\":" F32_2 "}", 8, "not valid JSON"},
        {"{\"a\\u0001\":" F32_2 "}", 8, "control character"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "strings to strings"},
        {"{\"a\":" F32_2 ",\"__metadata__\":7}", 8, "byte 62: '__metadata__' must map strings to strings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(open_text(cases[i].header, cases[i].data), BIF_ERR_DATA, "%s", cases[i].header);
        cr_expect_not_null(strstr(bif_error_message(), cases[i].message), "%s -> %s", cases[i].header, bif_error_message());
        cr_expect_not_null(strstr(bif_error_message(), path), "the file is named: %s", bif_error_message());
    }
}

Test(safetensors, header_length)
{
    bif_safetensors *st = NULL;
    cr_assert_eq(bif_file_write(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), BIF_OK);
    cr_expect_eq(bif_safetensors_open(path, &st), BIF_ERR_DATA);
    cr_assert_eq(bif_file_write(path, "\3\0\0\0\0\0\0\0{}", 10), BIF_OK);
    cr_expect_eq(bif_safetensors_open(path, &st), BIF_ERR_DATA);
    cr_assert_eq(bif_file_write(path, "\0\0\0", 3), BIF_OK);
    cr_expect_eq(bif_safetensors_open(path, &st), BIF_ERR_DATA);
    cr_assert_eq(bif_file_write(path, "\0\0\0\0\0\0\0\0", 8), BIF_OK);
    cr_expect_eq(bif_safetensors_open(path, &st), BIF_ERR_DATA);
    cr_expect_eq(bif_safetensors_open("/nowhere/at/all", &st), BIF_ERR_IO);
    cr_expect_eq(bif_safetensors_open("/dev/null", &st), BIF_ERR_DATA);
    cr_expect_null(st);
}

static bif_status open_index(const char *index)
{
    char name[96];
    snprintf(name, sizeof name, "%s/model.safetensors.index.json", folder);
    cr_assert_eq(bif_file_write(name, index, strlen(index)), BIF_OK);
    bif_safetensors *st = NULL;
    bif_status status = bif_safetensors_open(folder, &st);
    if (status == BIF_OK) {
        cr_expect_eq(bif_safetensors_count(st), 2);
        const bif_st_entry *b = bif_safetensors_find(st, "b");
        cr_expect_not_null(strstr(bif_safetensors_path(st, b), "two.safetensors"));
    }
    bif_safetensors_close(st);
    return status;
}

Test(safetensors, sharded_folder)
{
    float x[2] = {1, 2};
    char one[96], two[96];
    snprintf(one, sizeof one, "%s/one.safetensors", folder);
    snprintf(two, sizeof two, "%s/two.safetensors", folder);
    cr_assert_eq(bif_safetensors_write(one, &(bif_st_out){"a", bif_tensor1(x, BIF_DTYPE_F32, 2), NULL}, 1, NULL, NULL, NULL), BIF_OK);
    cr_assert_eq(bif_safetensors_write(two, &(bif_st_out){"b", bif_tensor1(x, BIF_DTYPE_F32, 2), NULL}, 1, NULL, NULL, NULL), BIF_OK);
    cr_expect_eq(open_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}"), BIF_OK, "%s",
                 bif_error_message());
    static const char *const bad[] = {
        "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"../one.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"/etc/passwd\"}}",
        "{\"weight_map\":{\"a\":\"\"}}",
        "{\"weight_map\":{\"a\":7}}",
        "{\"weight_map\":{}}",
        "{\"weight_map\":[]}",
        "[]",
        "{",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(open_index(bad[i]), BIF_ERR_DATA, "%s", bad[i]);
    }
    cr_assert_eq(bif_safetensors_write(two, &(bif_st_out){"a", bif_tensor1(x, BIF_DTYPE_F32, 2), NULL}, 1, NULL, NULL, NULL), BIF_OK);
    cr_expect_eq(open_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}"), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "tensor a is both in"), "%s", bif_error_message());
    unlink(two);
    cr_expect_eq(open_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}"), BIF_ERR_IO);
    cr_expect_not_null(strstr(bif_error_message(), "puts b into two.safetensors"), "%s", bif_error_message());
}
