/* Damaged and hostile shards: each is made with HDF5 from a good one, and must be refused with a message that says why. */
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>

#include "base/log.h"
#include "shard_help.h"

TestSuite(hostile, .init = shard_setup, .fini = shard_teardown);

static void refused(const char *path, const char *words)
{
    bif_shard *shard = NULL;
    bif_status st = bif_shard_open(path, &shard);
    cr_expect_eq(st, BIF_ERR_DATA, "'%s' was opened (%s wanted)", path, words);
    cr_expect(st == BIF_OK || (strstr(bif_error_message(), words) && strstr(bif_error_message(), path)), "message: %s (wanted: %s)",
              bif_error_message(), words);
    if (st == BIF_OK) {
        bif_shard_close(shard);
    }
}

static hid_t edit(const char *path)
{
    cr_assert_eq(shard_write(path), BIF_OK);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    cr_assert_geq(file, 0);
    return file;
}

/* Puts another dataset of one dimension in the place of this one. */
static void replace(hid_t file, const char *name, hid_t type, hsize_t rows, const void *data, hid_t plist)
{
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t space = H5Screate_simple(1, &rows, NULL);
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    cr_assert_geq(dataset, 0);
    if (data != NULL) {
        cr_assert_geq(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), 0);
    }
    H5Dclose(dataset);
    H5Sclose(space);
}

static hid_t chunked(hsize_t rows)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, 1, &rows);
    return plist;
}

Test(hostile, cut_short_anywhere)
{
    char *text = NULL;
    size_t size = 0;
    bif_shard *shard = NULL;
    cr_assert_eq(shard_write("a.h5"), BIF_OK);
    cr_assert_eq(bif_file_read("a.h5", 1 << 20, &text, &size), BIF_OK);
    for (size_t cut = 0; cut < size; cut += 997) {
        cr_assert_eq(bif_file_write("cut.h5", text, cut), BIF_OK);
        cr_assert_eq(bif_shard_open("cut.h5", &shard), BIF_ERR_DATA, "opened at %zu of %zu", cut, size);
    }
    refused("cut.h5", "truncated");
    cr_assert_eq(bif_file_write("text.h5", "hello", 5), BIF_OK);
    refused("text.h5", "not a whole HDF5 file");
    cr_expect_eq(bif_shard_open("missing.h5", &shard), BIF_ERR_IO);
    cr_expect(strstr(bif_error_message(), "missing.h5"));
    cr_expect_eq(bif_shard_open(".", &shard), BIF_ERR_DATA);
    free(text);
}

/* Any flipped byte is refused at open, found by verify, or lies where it changes nothing that is read; it never crashes. */
Test(hostile, flipped_bytes)
{
    char *text = NULL;
    size_t size = 0;
    cr_assert_eq(shard_write("a.h5"), BIF_OK);
    cr_assert_eq(bif_file_read("a.h5", 1 << 20, &text, &size), BIF_OK);
    cr_assert_not_null(freopen("/dev/null", "w", stderr));
    int found = 0, tried = 0;
    for (size_t at = 0; at < size; at += 37) {
        int64_t bad = 0;
        text[at] ^= 0x41;
        cr_assert_eq(bif_file_write("flip.h5", text, size), BIF_OK);
        text[at] ^= 0x41;
        found += bif_shard_verify("flip.h5", &bad) != BIF_OK;
        tried++;
    }
    cr_expect_gt(found, tried / 2, "%d of %d", found, tried);
    free(text);
}

Test(hostile, flipped_image_byte_is_named)
{
    static char buffer[IMAGE_CAP];
    cr_assert_eq(shard_write("a.h5"), BIF_OK);
    hid_t file = H5Fopen("a.h5", H5F_ACC_RDWR, H5P_DEFAULT), dataset = H5Dopen2(file, "image/bytes", H5P_DEFAULT);
    off_t at = (off_t)H5Dget_offset(dataset);
    cr_expect_eq(at % 4096, 0);
    H5Dclose(dataset);
    H5Fclose(file);
    int fd = open("a.h5", O_RDWR);
    cr_assert_eq(pread(fd, buffer, 1, at + 100), 1);
    buffer[0] ^= 1;
    cr_assert_eq(pwrite(fd, buffer, 1, at + 100), 1);
    close(fd);
    bif_shard *shard = NULL;
    int64_t bad = 0;
    cr_assert_eq(bif_shard_open("a.h5", &shard), BIF_OK);
    cr_expect_eq(bif_shard_read_image(shard, 0, buffer, sizeof buffer), BIF_OK);
    cr_expect_eq(bif_shard_read_image(shard, 1, buffer, sizeof buffer), BIF_ERR_DATA);
    cr_expect_str_eq(bif_error_message(), "shard 'a.h5', image 1: bytes do not match their checksum");
    bif_shard_close(shard);
    cr_expect_eq(bif_shard_verify("a.h5", &bad), BIF_ERR_DATA);
    cr_expect_eq(bad, 1);
}

Test(hostile, missing_and_wrong_types)
{
    static const uint64_t three[3] = {0, 8, 9};
    static const struct {
        const char *path, *name, *words;
        int big_endian, is_signed;
    } cases[] = {{"signed.h5", "image/size", "/image/size must hold unsigned", 0, 1},
                 {"big-endian.h5", "image/size", "little-endian", 1, 0},
                 {"rows.h5", "image/size", "/image/size has 3 rows; 5 are wanted", 0, 0},
                 {"rank.h5", "image/id", "/image/id must have two dimensions", 0, 0}};
    for (int i = 0; i < 4; i++) {
        hid_t file = edit(cases[i].path);
        replace(file, cases[i].name, cases[i].is_signed ? H5T_STD_I64LE : cases[i].big_endian ? H5T_STD_U64BE : H5T_STD_U64LE, 3, three,
                H5P_DEFAULT);
        H5Fclose(file);
        refused(cases[i].path, cases[i].words);
    }
    hid_t file = edit("missing.h5");
    H5Ldelete(file, "image/crc32c", H5P_DEFAULT);
    H5Fclose(file);
    refused("missing.h5", "/image/crc32c is missing");
    file = edit("group.h5");
    H5Ldelete(file, "sample/source", H5P_DEFAULT);
    H5Gclose(H5Gcreate2(file, "sample/source", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(file);
    refused("group.h5", "not a readable dataset");
    file = edit("string.h5");
    hid_t string = H5Tcopy(H5T_C_S1);
    H5Tset_size(string, H5T_VARIABLE);
    replace(file, "sample/text/bytes", string, 1, NULL, H5P_DEFAULT);
    H5Fclose(file);
    refused("string.h5", "/sample/text/bytes must hold");
}

static void set_number(hid_t file, const char *name, int64_t value)
{
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    cr_assert_geq(H5Awrite(attribute, H5T_NATIVE_INT64, &value), 0);
    H5Aclose(attribute);
}

Test(hostile, attributes)
{
    static const struct {
        const char *path, *name;
        int64_t value;
        const char *words;
    } cases[] = {{"version.h5", "version", 2, "version 2"},
                 {"zero.h5", "samples", 0, "no samples"},
                 {"negative.h5", "images", -1, "negative"},
                 {"more.h5", "samples", INT64_MAX, "rows"}};
    for (int i = 0; i < 4; i++) {
        hid_t file = edit(cases[i].path);
        set_number(file, cases[i].name, cases[i].value);
        H5Fclose(file);
        refused(cases[i].path, cases[i].words);
    }
    hid_t file = edit("noformat.h5");
    H5Adelete(file, "format");
    H5Fclose(file);
    refused("noformat.h5", "'format' is missing");
    file = edit("vlen.h5");
    H5Adelete(file, "payload_xxh3");
    hid_t string = H5Tcopy(H5T_C_S1), scalar = H5Screate(H5S_SCALAR);
    H5Tset_size(string, H5T_VARIABLE);
    H5Aclose(H5Acreate2(file, "payload_xxh3", string, scalar, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(file);
    refused("vlen.h5", "fixed-length");
}

Test(hostile, offsets)
{
    static const struct {
        const char *path, *name;
        hsize_t rows;
        uint64_t values[5];
        const char *words;
    } cases[] = {
        {"fall.h5", "sample/text/offset", 4, {0, 30, 20, 56}, "/sample/text/offset falls at row 2"},
        {"beyond.h5", "sample/text/offset", 4, {0, 17, 37, 1 << 20}, "must run from 0 to the length"},
        {"start.h5", "sample/text/offset", 4, {1, 17, 37, 56}, "must run from 0"},
        {"wild.h5", "image/offset", 5, {0, 8, 5008, 25016, UINT64_MAX - 3}, "image 4"},
        {"overlap.h5", "image/offset", 5, {0, 8, 5000, 25016, 25024}, "image 2"},
        {"huge.h5", "image/size", 5, {1, 5000, 20001, 8, UINT64_MAX - 20000}, "image 4"},
        {"use.h5", "sample/image/index", 4, {0, 4, 1, 5}, "names image 5 of 5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hid_t file = edit(cases[i].path);
        replace(file, cases[i].name, H5T_STD_U64LE, cases[i].rows, cases[i].values, H5P_DEFAULT);
        H5Fclose(file);
        refused(cases[i].path, cases[i].words);
    }
    static const uint32_t source[3] = {0, 9, 0};
    hid_t file = edit("source.h5");
    replace(file, "sample/source", H5T_STD_U32LE, 3, source, H5P_DEFAULT);
    H5Fclose(file);
    refused("source.h5", "sample 1 names source 9 of 2");
}

/* Ways to make the library read another file. */
Test(hostile, foreign_bytes)
{
    cr_assert_eq(shard_write("good.h5"), BIF_OK);
    hid_t file = edit("external.h5"), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(plist, "/etc/passwd", 0, 10);
    replace(file, "sample/id/bytes", H5T_STD_U8LE, 10, NULL, plist);
    H5Fclose(file);
    refused("external.h5", "external storage");
    file = edit("softlink.h5");
    H5Ldelete(file, "image/width", H5P_DEFAULT);
    H5Lcreate_soft("/image/height", file, "image/width", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    refused("softlink.h5", "/image/width is a soft or external link");
    file = edit("extlink.h5");
    H5Ldelete(file, "image", H5P_DEFAULT); /* in the middle of the path */
    H5Lcreate_external("good.h5", "/image", file, "image", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    refused("extlink.h5", "/image is a soft or external link");
    file = edit("virtual.h5");
    hsize_t five = 5;
    hid_t virtual = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &five, NULL);
    H5Pset_virtual(virtual, space, "good.h5", "/image/width", space);
    replace(file, "image/width", H5T_STD_U32LE, 5, NULL, virtual);
    H5Fclose(file);
    refused("virtual.h5", "virtual layout");
}

Test(hostile, filters_and_bombs)
{
    static const uint32_t widths[5] = {10, 11, 12, 13, 14};
    hid_t file = edit("scaleoffset.h5"), plist = chunked(5);
    H5Pset_scaleoffset(plist, H5Z_SO_INT, 0);
    replace(file, "image/width", H5T_STD_U32LE, 5, widths, plist);
    H5Fclose(file);
    refused("scaleoffset.h5", "uses filter 6");
    file = edit("zipped.h5");
    hid_t deflate = chunked(100);
    H5Pset_deflate(deflate, 6);
    replace(file, "image/bytes", H5T_STD_U8LE, 25100, NULL, deflate);
    H5Fclose(file);
    refused("zipped.h5", "compressed");
    file = edit("bomb.h5"); /* 40 MiB of zeros, deflated twice */
    hsize_t wide = (hsize_t)5 << 20;
    hid_t bomb = chunked(wide);
    H5Pset_deflate(bomb, 9);
    H5Pset_deflate(bomb, 9);
    uint64_t *zeros = calloc(wide, 8);
    replace(file, "image/size", H5T_STD_U64LE, wide, zeros, bomb);
    free(zeros);
    H5Fclose(file);
    refused("bomb.h5", "stores only");
    file = edit("shape.h5"); /* declares 8 GiB, stores nothing */
    replace(file, "sample/text/bytes", H5T_STD_U8LE, (hsize_t)1 << 33, NULL, chunked(1 << 20));
    H5Fclose(file);
    refused("shape.h5", "stores only 0");
    file = edit("giant.h5"); /* declares 1 TiB */
    replace(file, "sample/text/bytes", H5T_STD_U8LE, (hsize_t)1 << 40, NULL, chunked(1 << 20));
    H5Fclose(file);
    refused("giant.h5", "too large");
    file = edit("chunk.h5");
    hsize_t large = (hsize_t)65 << 20;
    char *bytes = calloc(large, 1);
    replace(file, "sample/text/bytes", H5T_STD_U8LE, large, bytes, chunked(large));
    free(bytes);
    H5Fclose(file);
    refused("chunk.h5", "64 MiB");
    file = edit("compact.h5");
    hid_t compact = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(compact, H5D_COMPACT);
    replace(file, "image/width", H5T_STD_U32LE, 5, widths, compact);
    H5Fclose(file);
    refused("compact.h5", "compact layout");
    file = edit("late.h5"); /* contiguous, but no byte was ever written */
    replace(file, "image/bytes", H5T_STD_U8LE, 25065, NULL, H5P_DEFAULT);
    H5Fclose(file);
    refused("late.h5", "/image/bytes");
}
