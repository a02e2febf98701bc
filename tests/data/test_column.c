#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "data/column.h"
#include "data/npy.h"
#include "shard_help.h"

static bif_shard *shard;

static void setup(void)
{
    shard_setup();
    cr_assert_eq(shard_write("s.h5"), BIF_OK);
    cr_assert_eq(bif_shard_open("s.h5", &shard), BIF_OK);
}

static void teardown(void)
{
    bif_shard_close(shard);
    shard_teardown();
}

TestSuite(column, .init = setup, .fini = teardown);

static void write_u32(const char *name, uint32_t first)
{
    uint32_t data[IMAGES][3];
    for (uint32_t i = 0; i < IMAGES * 3; i++) {
        data[i / 3][i % 3] = first + i;
    }
    const bif_column_info info = {.name = name, .method = "test 1", .of = BIF_COLUMN_OF_IMAGE, .type = BIF_COLUMN_U32, .rows = IMAGES, .width = 3};
    cr_assert_eq(bif_column_write(shard, &info, data), BIF_OK, "%s", bif_error_message());
}

Test(column, comes_back)
{
    bif_column *column = NULL;
    write_u32("a", 100);
    write_u32("a", 7); /* replaces */
    cr_assert_eq(bif_column_need(shard, "a", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U32, 3, "x", &column), BIF_OK);
    const uint32_t *data = bif_column_data(column);
    for (uint32_t i = 0; i < IMAGES * 3; i++) {
        cr_expect_eq(data[i], 7 + i);
    }
    cr_expect_str_eq(bif_column_describe(column)->method, "test 1");
    bif_column_close(column);
    cr_expect_eq(bif_column_open(shard, "b", &column), BIF_OK);
    cr_expect_null(column);
    cr_expect_eq(bif_column_need(shard, "b", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U32, 3, "run that", &column), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "run that") != NULL);
    cr_expect_eq(bif_column_need(shard, "a", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_U32, 3, "x", &column), BIF_ERR_DATA);
    cr_expect_eq(bif_column_need(shard, "a", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F32, 3, "x", &column), BIF_ERR_DATA);
    cr_expect_eq(bif_column_need(shard, "a", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U32, 2, "x", &column), BIF_ERR_DATA);
    cr_expect_eq(bif_column_need(shard, "a", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U32, 0, "x", &column), BIF_OK);
    bif_column_close(column);
    char **names = NULL;
    size_t count = 0;
    write_u32("Z.9_-", 1);
    cr_assert_eq(bif_column_list(shard, &names, &count), BIF_OK);
    cr_assert_eq(count, 2);
    cr_expect_str_eq(names[0], "Z.9_-");
    cr_expect_str_eq(names[1], "a");
    free(names[0]);
    free(names[1]);
    free(names);
}

Test(column, of_texts)
{
    static const char *const texts[] = {"caf\xc3\xa9 \"x\"\n\t\\", NULL, ""};
    const bif_column_info info = {.name = "t", .method = "m", .of = BIF_COLUMN_OF_SAMPLE, .type = BIF_COLUMN_TEXT, .rows = 3, .width = 1};
    bif_column *column = NULL;
    cr_assert_eq(bif_column_write(shard, &info, texts), BIF_OK);
    cr_assert_eq(bif_column_need(shard, "t", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_TEXT, 1, "x", &column), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(bif_column_text(column, 0), texts[0]);
    cr_expect_null(bif_column_text(column, 1));
    cr_expect_str_eq(bif_column_text(column, 2), "");
    bif_column_close(column);
}

/* `data recaption --name NAME` writes caption-NAME. */
Test(column, captions_are_found_by_either_name)
{
    static const char *const prefixed[] = {"b", NULL, NULL}, *const plain[] = {"a", NULL, NULL};
    bif_column_info info = {.name = "caption-t", .method = "m", .of = BIF_COLUMN_OF_SAMPLE, .type = BIF_COLUMN_TEXT, .rows = 3, .width = 1};
    bif_column *column = NULL;
    cr_expect_eq(bif_column_need_captions(shard, "t", &column), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "no column 't', nor 'caption-t'") != NULL, "%s", bif_error_message());
    cr_assert_eq(bif_column_write(shard, &info, prefixed), BIF_OK);
    cr_assert_eq(bif_column_need_captions(shard, "t", &column), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(bif_column_text(column, 0), "b");
    bif_column_close(column);
    cr_assert_eq(bif_column_need_captions(shard, "caption-t", &column), BIF_OK, "%s", bif_error_message());
    bif_column_close(column);
    info.name = "t";
    cr_assert_eq(bif_column_write(shard, &info, plain), BIF_OK);
    cr_assert_eq(bif_column_need_captions(shard, "t", &column), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(bif_column_text(column, 0), "a");
    bif_column_close(column);
    write_u32("numbers", 7);
    cr_expect_eq(bif_column_need_captions(shard, "numbers", &column), BIF_ERR_DATA);
    cr_expect_null(column);
}

/* The bytes that numpy.save writes for numpy.arange(6, dtype=...).reshape(...) (NumPy 2), but for what follows the header. */
Test(column, headers_are_numpys)
{
    char head[BIF_NPY_HEAD];
    const int64_t shape[] = {5, 3};
    cr_assert_eq(bif_npy_head("<u4", 2, shape, head), 128);
    cr_expect_eq(memcmp(head, "\x93NUMPY\x01\x00v\x00{'descr': '<u4', 'fortran_order': False, 'shape': (5, 3), }      ", 75), 0);
    cr_expect_eq(head[127], '\n');
    cr_assert_eq(bif_npy_head("|u1", 1, shape, head), 128);
    cr_expect_eq(memcmp(head + 10, "{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }  ", 58), 0);
    bif_npy npy;
    static const char record[] = "\x93NUMPY\x01\x00\x46\x00{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (0,)}";
    cr_assert_eq(bif_npy_read("r", record, 80, &npy), BIF_ERR_DATA);
    char good[10 + 118];
    memset(good, ' ', sizeof good);
    memcpy(good, record, sizeof record - 1);
    good[8] = 118;
    cr_assert_eq(bif_npy_read("r", good, sizeof good, &npy), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(npy.type, "[('f0','<u8'),('f1','<u8')]");
    cr_expect_eq(npy.item, 16);
    cr_expect_eq(npy.dims, 1);
    cr_expect_eq(npy.count, 0);
}

static void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    cr_assert_not_null(f);
    fseek(f, at, SEEK_SET);
    const int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 1, f);
    fclose(f);
}

Test(column, damage_is_seen)
{
    bif_column *column = NULL;
    write_u32("a", 7);
    flip("s.columns/a.npy", 130);
    cr_expect_eq(bif_column_open(shard, "a", &column), BIF_OK);
    cr_expect_null(column, "an array with another digest was taken");
    write_u32("a", 7);
    cr_assert_eq(truncate("s.columns/a.npy", 100), 0);
    cr_expect_eq(bif_column_open(shard, "a", &column), BIF_OK);
    cr_expect_null(column);
    cr_assert_eq(unlink("s.columns/a.npy"), 0);
    cr_expect_eq(bif_column_open(shard, "a", &column), BIF_OK);
    cr_expect_null(column, "a note without an array was taken");
    write_u32("a", 7);
    cr_assert_eq(truncate("s.columns/a.json", 100), 0);
    cr_expect_eq(bif_column_open(shard, "a", &column), BIF_OK);
    cr_expect_null(column, "a note that ends early was taken");
    /* A link out of the folder is not followed. */
    write_u32("a", 7);
    cr_assert_eq(rename("s.columns/a.npy", "elsewhere.npy"), 0);
    cr_assert_eq(symlink("../elsewhere.npy", "s.columns/a.npy"), 0);
    cr_expect_eq(bif_column_open(shard, "a", &column), BIF_ERR_DATA);
    cr_assert_eq(unlink("s.columns/a.npy"), 0);
    /* The note says what is not so. */
    static const char *const notes[] = {"[]", "{\"format\":\"x\",\"version\":1}", "{\"format\":\"bifocal-column\",\"version\":2}"};
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        write_u32("a", 7);
        cr_assert_eq(bif_file_write("s.columns/a.json", notes[i], strlen(notes[i])), BIF_OK);
        cr_expect_eq(bif_column_open(shard, "a", &column), BIF_ERR_DATA, "note %zu", i);
    }
}

/* Texts have no width: `data compact` writes on what it was told here. */
Test(column, texts_of_a_width_are_refused)
{
    static const char *const texts[] = {"a", NULL, "b"};
    const bif_column_info info = {.name = "t", .method = "m", .of = BIF_COLUMN_OF_SAMPLE, .type = BIF_COLUMN_TEXT, .rows = 3, .width = 1};
    bif_column *column = NULL;
    char *note = NULL;
    size_t size = 0;
    cr_assert_eq(bif_column_write(shard, &info, texts), BIF_OK);
    cr_assert_eq(bif_file_read("s.columns/t.json", 4096, &note, &size), BIF_OK);
    char *width = strstr(note, "\"width\": 1");
    cr_assert_not_null(width, "%s", note);
    width[9] = '2';
    cr_assert_eq(bif_file_write("s.columns/t.json", note, size), BIF_OK);
    cr_expect_eq(bif_column_open(shard, "t", &column), BIF_ERR_DATA);
    bif_column_close(column);
    free(note);
}

/* A header of any length is a .npy file; one that puts numbers at odd addresses is not read. */
Test(column, numbers_at_odd_addresses_are_refused)
{
    bif_column *column = NULL;
    for (size_t pad = 0; pad < 8; pad++) {
        char raw[200] = "\x93NUMPY\x01\x00", hex[33], note[512];
        const int used = snprintf(raw + 10, sizeof raw - 10, "{'descr': '<u8', 'fortran_order': False, 'shape': (5,), }%*s\n", (int)pad, "");
        raw[8] = (char)used;
        const size_t size = 10 + (size_t)used + IMAGES * 8;
        bif_digest_bytes(raw, size, hex);
        snprintf(note, sizeof note,
                 "{\"format\":\"bifocal-column\",\"version\":1,\"name\":\"n\",\"of\":\"image\",\"method\":\"m\",\"shard\":\"%s\",\"xxh3\":\"%s\",\"rows\":%d,"
                 "\"width\":1,\"type\":\"u64\"}",
                 bif_shard_payload_digest(shard), hex, IMAGES);
        cr_assert_eq(bif_make_dirs("s.columns"), BIF_OK);
        cr_assert_eq(bif_file_write("s.columns/n.npy", raw, size), BIF_OK);
        cr_assert_eq(bif_file_write("s.columns/n.json", note, strlen(note)), BIF_OK);
        const bool aligned = (10 + used) % 8 == 0;
        cr_expect_eq(bif_column_open(shard, "n", &column), aligned ? BIF_OK : BIF_ERR_DATA, "%zu: %s", pad, bif_error_message());
        cr_expect_eq(column != NULL, aligned);
        bif_column_close(column);
    }
}

Test(column, of_another_shard_is_refused)
{
    bif_column *column = NULL;
    write_u32("a", 7);
    char *note = NULL;
    size_t size = 0;
    cr_assert_eq(bif_file_read("s.columns/a.json", 4096, &note, &size), BIF_OK);
    char *digest = strstr(note, bif_shard_payload_digest(shard));
    cr_assert_not_null(digest);
    digest[0] = digest[0] == '0' ? '1' : '0';
    cr_assert_eq(bif_file_write("s.columns/a.json", note, size), BIF_OK);
    cr_expect_eq(bif_column_open(shard, "a", &column), BIF_ERR_DATA);
    cr_expect(strstr(bif_error_message(), "another shard") != NULL, "%s", bif_error_message());
    free(note);
}
