#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "data/image.h"
#include "data/pack_parts.h"
#include "data/tar.h"
#include "pictures.h"

static char root[] = "/tmp/bif-tar-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(root));
    cr_assert_eq(chdir(root), 0);
}

static void teardown(void)
{
    cr_assert_eq(chdir("/"), 0);
    bif_remove_tree(root);
}

TestSuite(tar, .init = setup, .fini = teardown);

/* ---- tars made by hand ---- */

static uint8_t made[1 << 17];
static size_t used;

static void begin(void)
{
    used = 0;
}

static void seal(uint8_t *block)
{
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (int i = 0; i < 512; i++) {
        sum += block[i];
    }
    char octal[16];
    snprintf(octal, sizeof octal, "%06o", sum);
    memcpy(block + 148, octal, 7);
}

static uint8_t *header(const char *name, char type, uint64_t size)
{
    uint8_t *block = made + used;
    memset(block, 0, 512);
    memcpy(block, name, strlen(name) < 100 ? strlen(name) : 100);
    char octal[32];
    snprintf(octal, sizeof octal, "%011llo", (unsigned long long)size);
    memcpy(block + 124, octal, 12);
    block[156] = (uint8_t)type;
    memcpy(block + 257, "ustar\0" "00", 8);
    seal(block);
    used += 512;
    return block;
}

static void body(const void *data, size_t size)
{
    const size_t padded = (size + 511) / 512 * 512;
    memset(made + used, 0, padded);
    memcpy(made + used, data, size);
    used += padded;
}

static void member_of(const char *name, char type, const char *text)
{
    header(name, type, strlen(text));
    body(text, strlen(text));
}

static void end(void)
{
    memset(made + used, 0, 1024);
    used += 1024;
}

static bif_tar *opened(void)
{
    bif_tar *tar = NULL;
    cr_assert_eq(bif_file_write("t.tar", made, used), BIF_OK);
    cr_assert_eq(bif_tar_open("t.tar", &tar), BIF_OK);
    return tar;
}

/* The next member is this one, with these bytes. */
static void expect_member(bif_tar *tar, const char *name, const char *text)
{
    bif_tar_member one = {0};
    bool more = false;
    char buffer[4096];
    cr_assert_eq(bif_tar_next(tar, &one, &more), BIF_OK, "%s: %s", name, bif_error_message());
    cr_assert(more, "%s is missing", name);
    cr_expect_str_eq(one.name, name);
    cr_assert_eq(one.size, strlen(text), "%s: %llu", name, (unsigned long long)one.size);
    cr_assert_eq(bif_tar_read(tar, one.at, buffer, one.size), BIF_OK);
    cr_expect(memcmp(buffer, text, one.size) == 0, "%s", name);
}

static void expect_end(bif_tar *tar)
{
    bif_tar_member one = {0};
    bool more = true;
    cr_expect_eq(bif_tar_next(tar, &one, &more), BIF_OK, "%s", bif_error_message());
    cr_expect_not(more, "%s", one.name);
    bif_tar_close(tar);
}

static void expect_damage(bif_tar *tar, const char *words)
{
    bif_tar_member one = {0};
    bool more = false;
    const bif_status st = bif_tar_next(tar, &one, &more);
    cr_expect_eq(st, BIF_ERR_DATA, "%d (wanted: %s)", st, words);
    cr_expect(strstr(bif_error_message(), "t.tar: ") && strstr(bif_error_message(), words), "%s (wanted: %s)", bif_error_message(), words);
    bif_tar_close(tar);
}

Test(tar, kinds_of_members)
{
    char hundred[101], prefix[156], both[300], octal[16];
    memset(hundred, 'h', 100);
    memset(prefix, 'p', 155);
    hundred[100] = prefix[155] = '\0';
    snprintf(both, sizeof both, "%s/%s", prefix, hundred);
    begin();
    member_of("plain", '0', "one");
    member_of("old", '\0', "two");
    header("folder/", '\0', 0);
    header("folder", '5', 77);   /* nothing follows, whatever the size says */
    header("hard", '1', 77);
    header("soft", '2', 77);
    header("fifo", '6', 77);
    member_of("contiguous", '7', "three");
    member_of("volume", 'V', "of no interest");
    member_of(hundred, '0', "four");
    uint8_t *block = header(hundred, '0', 4);
    memcpy(block + 345, prefix, 155);
    seal(block);
    body("five", 4);
    block = header("gnu", '0', 3);
    memcpy(block + 257, "ustar  ", 8); /* GNU has times at the prefix */
    memcpy(block + 345, "12345", 5);
    seal(block);
    body("six", 3);
    block = header("signed", '0', 5); /* the sum of signed bytes */
    block[300] = 0xff;
    seal(block);
    unsigned sum = 0;
    sscanf((char *)block + 148, "%o", &sum);
    snprintf(octal, sizeof octal, "%06o", sum - 256);
    memcpy(block + 148, octal, 7);
    body("seven", 5);
    end();
    member_of("behind", '0', "the end");
    bif_tar *tar = opened();
    expect_member(tar, "plain", "one");
    expect_member(tar, "old", "two");
    expect_member(tar, "contiguous", "three");
    expect_member(tar, hundred, "four");
    expect_member(tar, both, "five");
    expect_member(tar, "gnu", "six");
    expect_member(tar, "signed", "seven");
    expect_end(tar);
}

Test(tar, long_names_and_sizes)
{
    begin();
    header("././@LongLink", 'L', 5);
    body("long", 5);
    header("././@LongLink", 'K', 4); /* the name of a link's target */
    body("link", 4);
    member_of("short", '0', "a");
    member_of("next", '0', "b"); /* the long name held for one member */
    member_of("g", 'g', "14 path=every\n");
    member_of("x", 'x', "14 path=other\n22 mtime=12345678.125\n");
    member_of("short", '0', "c");
    member_of("x", 'x', "10 size=3\n10 size=2\n");
    header("sized", '0', 511); /* the last size of the pax records counts */
    body("dd", 2);
    member_of("x", 'x', "10 size=3\n");
    header("soft", '2', 0); /* a link: no bytes, and the records are used up */
    uint8_t *block = header("base256", '0', 0);
    memset(block + 124, 0, 12);
    block[124] = 0x80;
    block[135] = 3;
    seal(block);
    body("eee", 3);
    end();
    bif_tar *tar = opened();
    expect_member(tar, "long", "a");
    expect_member(tar, "next", "b");
    expect_member(tar, "other", "c");
    expect_member(tar, "sized", "dd");
    expect_member(tar, "base256", "eee");
    expect_end(tar);
}

/* A first member that is good, then one whose size field or checksum is changed. */
static bif_tar *with_field(size_t at, const void *bytes, size_t size, bool sealed)
{
    begin();
    member_of("first", '0', "1");
    uint8_t *block = header("second", '0', 1);
    memcpy(block + at, bytes, size);
    if (sealed) {
        seal(block);
    }
    body("2", 1);
    end();
    bif_tar *tar = opened();
    expect_member(tar, "first", "1");
    return tar;
}

Test(tar, hostile_headers)
{
    expect_damage(with_field(10, "x", 1, false), "byte 1024 has a wrong checksum");
    expect_damage(with_field(148, "zzzzzzzz", 8, false), "wrong checksum");
    expect_damage(with_field(124, "77777777777\0", 12, true), "tells of 8589934591 bytes, but 1536 follow");
    expect_damage(with_field(124, "00000003001\0", 12, true), "tells of 1537 bytes, but 1536 follow");
    expect_damage(with_field(124, "0000000z001\0", 12, true), "a size that is no number");
    expect_damage(with_field(124, "-0000000001\0", 12, true), "a size that is no number");
    expect_damage(with_field(124, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12, true), "tells of 9223372036854775807 bytes");
    expect_damage(with_field(124, "\x80\0\0\0\x80\0\0\0\0\0\0\0", 12, true), "a size that is no number");
    expect_damage(with_field(124, "\x80\x01\0\0\0\0\0\0\0\0\0\x01", 12, true), "a size that is no number");
    expect_damage(with_field(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, true), "a size that is no number");
    expect_damage(with_field(156, "S", 1, true), "sparse");
    bif_tar *tar = with_field(124, "        1   ", 12, true); /* spaces are good */
    expect_member(tar, "second", "2");
    expect_end(tar);
}

static bif_tar *with_pax(const void *records, size_t size)
{
    begin();
    header("x", 'x', size);
    body(records, size);
    member_of("name", '0', "1");
    end();
    return opened();
}

Test(tar, hostile_pax)
{
    static const char *const broken[] = {
        "path=x\n",   "0 path=x\n", "9 path=xy\n", "99999999 path=x\n", "99 path=x\n",  "9999999999999999999 path=x\n",
        "9 path=x ",  "4 a\n",      "3 \n",        " 9 path=x\n",       "10 path:xy\n", "9",
        "9 path=x\n5"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        expect_damage(with_pax(broken[i], strlen(broken[i])), "has pax records that cannot be read");
    }
    expect_damage(with_pax("28 size=9223372036854775807\n", 28), "a size in its pax records that is none");
    expect_damage(with_pax("28 size=1000000000000000000\n", 28), "tells of 1000000000000000000 bytes");
    expect_damage(with_pax("11 size=-1\n", 11), "a size in its pax records that is none");
    expect_damage(with_pax("14 size=99999\n", 14), "tells of 99999 bytes");
    expect_damage(with_pax("22 GNU.sparse.major=1\n", 22), "sparse");
    expect_damage(with_pax("10 path=\0x\n", 11), "cannot be read");
    expect_damage(with_pax("11 path=\0x\n", 11), "zero byte");
    char *name = malloc(70000);
    snprintf(name, 70000, "65548 path=%065536d\n", 0);
    expect_damage(with_pax(name, 65548), "has a name of more than 65,535 bytes");
    begin();
    header("././@LongLink", 'L', 65537);
    memset(made + used, 'n', 65537 + 511);
    used += (65537 + 511) / 512 * 512;
    end();
    expect_damage(opened(), "more than is taken");
    free(name);
    bif_tar *tar = with_pax("", 0);
    expect_member(tar, "name", "1");
    expect_end(tar);
}

Test(tar, cut_short)
{
    begin();
    member_of("first", '0', "1");
    member_of("second", '0', "2");
    const size_t good = used;
    for (size_t size = 0; size <= good; size += size < 8 || size > good - 8 ? 1 : 37) {
        used = size;
        bif_tar *tar = opened();
        bif_tar_member one = {0};
        bool more = true;
        bif_status st = BIF_OK;
        for (int i = 0; i < 4 && more && st == BIF_OK; i++) {
            st = bif_tar_next(tar, &one, &more);
            cr_expect(st != BIF_OK || !more || one.at + one.size <= size);
        }
        cr_expect_eq(st, BIF_ERR_DATA, "%zu bytes", size);
        cr_expect(strstr(bif_error_message(), "cut short"), "%zu bytes: %s", size, bif_error_message());
        bif_tar_close(tar);
    }
    begin();
    memset(made, 'x', 2048);
    used = 2048;
    expect_damage(opened(), "this is no tar file");
    memcpy(made, "\x1f\x8b\x08", 3);
    expect_damage(opened(), "a compressed file");
}

/* ---- against webdataset ---- */

Test(tar, groups_of_webdataset)
{
    static const char *const names[] = {"ustar", "gnu", "pax"};
    static const char *const pictures[] = {"png", "jpg", "webp"};
    const bif_pack_options options = bif_pack_defaults();
    for (int n = 0; n < 3; n++) {
        char *path = bif_format("%s/golden/tars/%s.tar", getenv("BIFOCAL_TESTS"), names[n]);
        char *list = bif_format("%s/golden/tars/%s.jsonl", getenv("BIFOCAL_TESTS"), names[n]);
        bif_tar *tar = NULL;
        bif_records *rows = NULL;
        cr_assert_eq(bif_tar_open(path, &tar), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_records_open(list, BIF_RECORDS_JSONL, &rows), BIF_OK, "%s", bif_error_message());
        bif_pack_groups *groups = bif_pack_groups_open(tar, &options);
        int count = 0;
        for (bool more = true;; count++) {
            bif_pack_item item;
            bif_record row = {0};
            bool wanted = false;
            cr_assert_eq(bif_records_next(rows, &row, &wanted), BIF_OK);
            cr_assert_eq(bif_pack_groups_next(groups, &item, &more), BIF_OK);
            cr_assert_eq(more, wanted, "%s: %d samples", names[n], count);
            if (!more) {
                break;
            }
            const json_t *sizes = json_object_get(row.value, "sizes");
            json_int_t size = 0;
            for (int k = 0; k < 3; k++) {
                size += json_integer_value(json_object_get(sizes, pictures[k]));
            }
            cr_expect_str_eq(item.key, json_string_value(json_object_get(row.value, "key")));
            cr_expect_eq(item.pictures, size > 0, "%s", item.key);
            cr_expect(size == 0 || (json_int_t)item.picture[0].size == size, "%s", item.key);
            cr_expect_eq(item.failed, size > 0 ? BIF_OK : BIF_ERR_DATA, "%s: %s", item.key, item.reason);
            json_decref(row.value);
            bif_pack_item_free(&item);
        }
        cr_expect_geq(count, 9);
        bif_pack_groups_close(groups);
        bif_tar_close(tar);
        bif_records_close(rows);
        free(path);
        free(list);
    }
}

/* Ids and captions of samples: uid, key, name; what is bad and why. */
Test(tar, texts_of_groups)
{
    static const struct {
        const char *files[6]; /* name, text, ... */
        const char *id, *text, *reason;
    } cases[] = {
        {{"a.jpg", "x", "a.txt", "words"}, "a", "{\"caption\":\"words\"}", NULL},
        {{"a.jpg", "x", "a.txt", "\xef\xbb\xbf words \r\n\n", "a.json", "{\"uid\":\"u\",\"key\":\"k\"}"},
         "u",
         "{\"caption\":\" words \"}",
         NULL},
        {{"a.jpg", "x", "a.json", "{\"key\":12,\"caption\":\"in json\"}"}, "12", "{\"caption\":\"in json\"}", NULL},
        {{"a.jpg", "x", "a.txt", "\n", "a.json", "{\"caption\":\"in json\",\"x\":[NaN,-Infinity,\"NaN\"],\"e\":\"\\u0000\"}"},
         "a",
         "{\"caption\":\"in json\"}",
         NULL},
        {{"a.jpg", "x", "a.txt", "no", "a.json",
          "{\"conversations\":[{\"from\":\"human\",\"value\":\"<image>?\"},{\"from\":\"gpt\",\"value\":\"yes\"}]}"},
         "a",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"<image>?\"},{\"from\":\"gpt\",\"value\":\"yes\"}]}",
         NULL},
        {{"a.json", "{\"conversations\":[{\"from\":\"human\",\"value\":\"?\"},{\"from\":\"gpt\",\"value\":\"yes\"}]}"},
         "a",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"?\"},{\"from\":\"gpt\",\"value\":\"yes\"}]}",
         NULL},
        {{"a.jpg", "x", "a.txt", " "}, "a", NULL, "there is no caption"},
        {{"a.jpg", "x", "a.json", "{\"caption\":null}"}, "a", NULL, "there is no caption"},
        {{"a.txt", "words"}, "a", NULL, "there is no picture"},
        {{"a.jpg", "x", "a.png", "x", "a.txt", "words"}, "a", NULL, "'a.jpg' and 'a.png' are there for one key"},
        {{"a.jpg", "x", "a.jpg", "x", "a.txt", "words"}, "a", NULL, "'a.jpg' and 'a.jpg' are there"},
        {{"a.jpg", "x", "a.txt", "\xff"}, "a", NULL, "'a.txt' is not a text in UTF-8"},
        {{"a.jpg", "x", "a.json", "{\"caption\":\"x\\u0000y\"}"}, "a", NULL, "zero byte"},
        {{"a.jpg", "x", "a.json", "{\"caption\":7.5}"}, "a", NULL, "neither a string nor"},
        {{"a.jpg", "x", "a.json", "{\"caption\":"}, "a", NULL, "not valid JSON"},
        {{"a.jpg", "x", "a.json", "[]"}, "a", NULL, "not a JSON object"},
        {{"a.jpg", "x", "a.json",
          "{\"conversations\":[{\"from\":\"human\",\"value\":\"<image>\\u0000\"},{\"from\":\"gpt\",\"value\":\"yes\"}]}"},
         "a",
         NULL,
         "holds zero bytes"},
        {{"a.jpg", "", "a.txt", "words"}, "a", NULL, "has 0 bytes"},
    };
    const bif_pack_options options = bif_pack_defaults();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin();
        for (int k = 0; k < 6 && cases[i].files[k] != NULL; k += 2) {
            member_of(cases[i].files[k], '0', cases[i].files[k + 1]);
        }
        end();
        bif_tar *tar = opened();
        bif_pack_groups *groups = bif_pack_groups_open(tar, &options);
        bif_pack_item item;
        bool more = false;
        cr_assert_eq(bif_pack_groups_next(groups, &item, &more), BIF_OK);
        cr_assert(more);
        cr_expect_eq(item.failed, cases[i].reason == NULL ? BIF_OK : BIF_ERR_DATA, "case %zu: %s", i, item.reason);
        cr_expect(cases[i].reason == NULL || strstr(item.reason, cases[i].reason), "case %zu: %s", i, item.reason);
        cr_expect(item.failed != BIF_OK || strcmp(item.text, cases[i].text) == 0, "case %zu: %s", i, item.text);
        cr_expect(item.failed != BIF_OK || strcmp(item.id, cases[i].id) == 0, "case %zu: %s", i, item.id);
        bif_pack_item_free(&item);
        cr_assert_eq(bif_pack_groups_next(groups, &item, &more), BIF_OK);
        cr_expect_not(more, "case %zu", i);
        bif_pack_item_free(&item);
        bif_pack_groups_close(groups);
        bif_tar_close(tar);
    }
}

/* A key of very many members is one bad record, and the next key is not touched by it. */
Test(tar, endless_group)
{
    const bif_pack_options options = bif_pack_defaults();
    bif_pack_item item;
    bool more = false;
    for (int many = 0; many < 2; many++) {
        FILE *file = fopen("t.tar", "w");
        for (int i = 0; i < 1022 + many; i++) {
            begin();
            header("a.x", '0', 0);
            fwrite(made, 1, used, file);
        }
        begin();
        member_of("a.jpg", '0', "x");
        member_of("a.txt", '0', "words");
        member_of("b.jpg", '0', "x");
        member_of("b.txt", '0', "words");
        end();
        fwrite(made, 1, used, file);
        fclose(file);
        bif_tar *tar = NULL;
        cr_assert_eq(bif_tar_open("t.tar", &tar), BIF_OK);
        bif_pack_groups *groups = bif_pack_groups_open(tar, &options);
        cr_assert_eq(bif_pack_groups_next(groups, &item, &more), BIF_OK);
        cr_expect_eq(item.failed, many ? BIF_ERR_DATA : BIF_OK, "%s", item.reason);
        cr_expect(!many || strstr(item.reason, "more than 1024 members"));
        bif_pack_item_free(&item);
        cr_assert_eq(bif_pack_groups_next(groups, &item, &more), BIF_OK);
        cr_expect(more && item.failed == BIF_OK && strcmp(item.key, "b") == 0);
        bif_pack_item_free(&item);
        bif_pack_groups_close(groups);
        bif_tar_close(tar);
    }
}

/* ---- against Pillow ---- */

Test(tar, resized_as_by_pillow)
{
    char *list = bif_format("%s/golden/tars/resize.txt", getenv("BIFOCAL_TESTS")), *images = picture_path("");
    FILE *file = fopen(list, "r");
    cr_assert_not_null(file, "%s", list);
    char name[64];
    long n = 0, w = 0, h = 0;
    int quality = 0, count = 0;
    unsigned crc = 0;
    while (fscanf(file, "%63s %ld %d %ld %ld %x", name, &n, &quality, &w, &h, &crc) == 6) {
        bif_pack_options options = bif_pack_defaults();
        options.resize_short = n;
        options.quality = quality;
        const bif_pack_place place = {.options = &options, .root = open(images, O_RDONLY | O_DIRECTORY), .root_name = images};
        bif_pack_item item = {0};
        bif_image image = {0};
        json_t *record = json_pack("{s:s}", "image", name);
        cr_assert_eq(bif_pack_pictures(&place, record, &item), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_pack_load(&place, &item), BIF_OK, "%s", bif_error_message());
        const bif_pack_picture *one = &item.picture[0];
        cr_assert(one->resized && one->format == BIF_IMAGE_JPEG && one->width == w && one->height == h, "%s: %ld x %ld", name,
                  (long)one->width, (long)one->height);
        cr_assert_eq(bif_image_decode(name, one->bytes, one->size, NULL, &image), BIF_OK, "%s", bif_error_message());
        cr_expect_eq(picture_crc(image.rgb, (size_t)(w * h * 3)), crc, "%s to %ld at quality %d", name, n, quality);
        bif_image_free(&image);
        bif_pack_item_free(&item);
        json_decref(record);
        close(place.root);
        count++;
    }
    fclose(file);
    cr_expect_geq(count, 60);
    /* a shorter side of exactly N, and one below: as they were */
    static const struct {
        const char *name;
        int64_t n;
    } small[] = {{"png_1x1.png", 1}, {"png_1x1.png", 2}, {"jpeg_3x50.jpg", 3}, {"jpeg_3x50.jpg", 4}};
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        bif_pack_options options = bif_pack_defaults();
        options.resize_short = small[i].n;
        const bif_pack_place place = {.options = &options, .root = open(images, O_RDONLY | O_DIRECTORY), .root_name = images};
        bif_pack_item item = {0};
        json_t *record = json_pack("{s:s}", "image", small[i].name);
        cr_assert_eq(bif_pack_pictures(&place, record, &item), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_pack_load(&place, &item), BIF_OK, "%s", bif_error_message());
        cr_expect_not(item.picture[0].resized, "%s", small[i].name);
        bif_pack_item_free(&item);
        json_decref(record);
        close(place.root);
    }
    free(images);
    free(list);
}
