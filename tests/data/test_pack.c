#include <criterion/criterion.h>
#include <png.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/log.h"
#include "data/pack_parts.h"
#include "data/shard.h"
#include "data/stats.h"

static char root[] = "/tmp/bif-pack-XXXXXX";
static bif_team team;

static void put(const char *path, const char *text)
{
    cr_assert_eq(bif_file_write(path, text, strlen(text)), BIF_OK, "%s", bif_error_message());
}

static void put_png(const char *path, unsigned width, unsigned height, unsigned char value)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .width = width, .height = height, .format = PNG_FORMAT_RGB};
    unsigned char *pixels = malloc((size_t)width * height * 3);
    for (size_t i = 0; i < (size_t)width * height * 3; i++) {
        pixels[i] = (unsigned char)(value + i);
    }
    cr_assert(png_image_write_to_file(&image, path, 0, pixels, 0, NULL));
    free(pixels);
}

/* A PNG of 60000 x 60000 by its header. */
static void put_bomb(const char *path)
{
    unsigned char bytes[45] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0, 0, 0xea, 0x60,
                               0,    0,   0xea, 0x60, 8, 2};
    memcpy(bytes + 33, "\0\0\0\0IDAT\x35\xaf\x06\x1e", 12);
    uLong crc = crc32(0, bytes + 12, 17);
    for (int i = 0; i < 4; i++) {
        bytes[29 + i] = (unsigned char)(crc >> (24 - 8 * i));
    }
    cr_assert_eq(bif_file_write(path, bytes, sizeof bytes), BIF_OK);
}

static void setup(void)
{
    team = bif_team_alone(2);
    cr_assert_not_null(mkdtemp(root));
    cr_assert_eq(chdir(root), 0);
    cr_assert_eq(bif_make_dirs("img/sub"), BIF_OK);
    put_png("img/a.png", 12, 7, 1);
    put_png("img/b.png", 30, 40, 2);
    put_png("img/sub/c.png", 5, 5, 3);
    put_bomb("img/bomb.png");
    put("img/text.png", "this is no picture");
    put("img/empty.png", "");
    put("secret.png", "s");
    cr_assert_eq(symlink("../secret.png", "img/link.png"), 0);
    bif_log_set_quiet(1);
}

static void teardown(void)
{
    cr_assert_eq(chdir("/"), 0);
    bif_remove_tree(root);
}

TestSuite(pack, .init = setup, .fini = teardown);

static bif_pack_options options(const char *input)
{
    bif_pack_options o = bif_pack_defaults();
    o.input = input;
    o.image_root = "img";
    o.out = "out";
    o.prefix = "p";
    return o;
}

static bif_pack_result good(const bif_pack_options *o)
{
    bif_pack_result result;
    cr_assert_eq(bif_pack(o, &team, &result), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(system("test -z \"$(ls -A out | grep -v '^p-.*\\(h5\\|jsonl\\)$')\""), 0, "something was left");
    return result;
}

static void failed(const bif_pack_options *o, bif_status code, const char *words)
{
    bif_pack_result result;
    bif_status st = bif_pack(o, &team, &result);
    cr_expect_eq(st, code, "%s: %d %s", o->input, st, bif_error_message());
    cr_expect(strstr(bif_error_message(), words) != NULL, "message: %s (wanted: %s)", bif_error_message(), words);
    cr_expect_eq(system("test -z \"$(ls -A out 2>/dev/null | grep -v '^p-errors.jsonl$')\""), 0, "something was left");
}

static void sample(const char *path, int64_t index, const char *text, const char *id, int64_t images)
{
    bif_shard *shard = NULL;
    bif_shard_sample one;
    cr_assert_eq(bif_shard_open(path, &shard), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_shard_get_sample(shard, index, &one), BIF_OK);
    cr_expect(one.text_size == strlen(text) && memcmp(one.text, text, one.text_size) == 0, "%.*s", (int)one.text_size, one.text);
    cr_expect(one.id_size == strlen(id) && memcmp(one.id, id, one.id_size) == 0, "%.*s", (int)one.id_size, one.id);
    cr_expect_eq(one.image_count, images);
    bif_shard_close(shard);
}

static const char llava[] =
    "\n[ {\"id\": \"x1\", \"image\": \"a.png\", \"conversations\": [{\"from\": \"human\", \"value\": \"<image>\\nWhat, \\\"now\\\"? ]}\"},"
    "{\"from\":\"gpt\",\"value\":\"A caf\xc3\xa9\", \"extra\": [1, {\"a\": \"}\"}]}], \"model\": \"m\"},\n"
    "{\"id\": 7, \"conversations\": [{\"from\":\"human\",\"value\":\"Hi\"},{\"from\":\"gpt\",\"value\":\"Ho\"}]}\n,"
    "{\"image\": [\"sub/c.png\", \"a.png\"], \"conversations\": [{\"from\":\"human\",\"value\":\"<image><image> same?\"},"
    "{\"from\":\"gpt\",\"value\":\"no\"},{\"from\":\"human\",\"value\":\"sure?\"},{\"from\":\"gpt\",\"value\":\"yes\"}]},"
    "{\"id\":\"io\",\"image\":\"b.png\",\"caption\":\"\"}, {\"id\":\"c\",\"image\":\"b.png\",\"caption\":\"two words\"} ]\n";

Test(pack, llava_array)
{
    put("in.json", llava);
    bif_pack_options o = options("in.json");
    bif_pack_result r = good(&o);
    cr_expect_eq(r.records, 5);
    cr_expect_eq(r.bad, 0);
    cr_expect_eq(r.samples, 5);
    cr_expect_eq(r.text_only, 1);
    cr_expect_eq(r.image_only, 1);
    cr_expect_eq(r.images, 3);
    cr_expect_eq(r.shards, 1);
    sample("out/p-00000.h5", 0,
           "{\"conversations\":[{\"from\":\"human\",\"value\":\"<image>\\nWhat, \\\"now\\\"? ]}\"},{\"from\":\"gpt\",\"value\":\"A caf\xc3\xa9\"}]}",
           "x1", 1);
    sample("out/p-00000.h5", 1, "{\"conversations\":[{\"from\":\"human\",\"value\":\"Hi\"},{\"from\":\"gpt\",\"value\":\"Ho\"}]}", "7", 0);
    sample("out/p-00000.h5", 3, "{\"conversations\":[]}", "io", 1);
    sample("out/p-00000.h5", 4, "{\"caption\":\"two words\"}", "c", 1);
    int64_t bad = 0;
    cr_expect_eq(bif_shard_verify("out/p-00000.h5", &bad), BIF_OK, "%s", bif_error_message());
    cr_expect_not(bif_exists("out/p-errors.jsonl"));
    /* the same bytes as the file */
    bif_shard *shard = NULL;
    char *file = NULL, buffer[4096];
    size_t size = 0;
    bif_shard_image image;
    cr_assert_eq(bif_shard_open("out/p-00000.h5", &shard), BIF_OK);
    cr_assert_eq(bif_file_read("img/a.png", 4096, &file, &size), BIF_OK);
    cr_assert_eq(bif_shard_get_image(shard, 0, &image), BIF_OK);
    cr_expect(image.size == size && image.width == 12 && image.height == 7 && image.format == BIF_IMAGE_PNG);
    cr_assert_eq(bif_shard_read_image(shard, 0, buffer, sizeof buffer), BIF_OK);
    cr_expect_arr_eq(buffer, file, size);
    free(file);
    bif_shard_close(shard);
}

/* Records longer than the read block, cut at every place of it. */
Test(pack, long_records_in_an_array)
{
    FILE *f = fopen("in.json", "w");
    fputc('[', f);
    for (int i = 0; i < 40; i++) {
        fprintf(f, "%s{\"id\":%d,\"caption\":\"", i ? "," : "", i);
        for (int k = 0; k < 3000 * (i % 7) + 1; k++) {
            fputs("\\\"}]\\\\", f);
        }
        fputs("\"}", f);
    }
    fputs("]", f);
    fclose(f);
    bif_pack_options o = options("in.json");
    cr_expect_eq(good(&o).samples, 40);
}

Test(pack, jsonl_and_csv)
{
    put("in.jsonl", "\xef\xbb\xbf{\"image\":\"a.png\",\"caption\":\"one\"}\r\n\n  \n{\"image\":\"b.png\",\"caption\":\"two\"}");
    bif_pack_options o = options("in.jsonl");
    cr_expect_eq(good(&o).samples, 2);
    sample("out/p-00000.h5", 1, "{\"caption\":\"two\"}", "", 1);
    put("in.csv", "caption,other,image\r\n\"say \"\"hi\"\", now\r\nand then\",x,a.png\r\n\r\nplain,,sub/c.png");
    o.input = "in.csv";
    o.overwrite = true;
    cr_expect_eq(good(&o).samples, 2);
    sample("out/p-00000.h5", 0, "{\"caption\":\"say \\\"hi\\\", now\\r\\nand then\"}", "", 1);
    sample("out/p-00000.h5", 1, "{\"caption\":\"plain\"}", "", 1);
}

Test(pack, bad_records_are_listed)
{
    static const struct {
        const char *record, *reason;
    } bad[] = {
        {"{\"id\":\"b1\",\"image\":\"nothing.png\",\"caption\":\"x\"}", "there is no file 'nothing.png'"},
        {"{\"id\":\"b2\",\"image\":\"../secret.png\",\"caption\":\"x\"}", "without '..'"},
        {"{\"id\":\"b3\",\"image\":\"/etc/passwd\",\"caption\":\"x\"}", "must be relative"},
        {"{\"id\":\"b4\",\"image\":\"link.png\",\"caption\":\"x\"}", "through a link"},
        {"{\"id\":\"b5\",\"image\":\"text.png\",\"caption\":\"x\"}", "text.png"},
        {"{\"id\":\"b6\",\"image\":\"bomb.png\",\"caption\":\"x\"}", "60000"},
        {"{\"id\":\"b7\",\"image\":\"empty.png\",\"caption\":\"x\"}", "0 bytes"},
        {"{\"id\":\"b8\",\"image\":\"a.png\",\"caption\":\" \"}", "caption is empty"},
        {"{\"id\":\"b9\",\"caption\":\"\"}", "caption is empty"},
        {"{\"id\":\"b10\",\"image\":\"a.png\"}", "neither"},
        {"{\"id\":\"b11\",\"image\":5,\"caption\":\"x\"}", "'image' must be"},
        {"{\"id\":\"b12\",\"image\":[\"a.png\",null],\"caption\":\"x\"}", "'image' must be"},
        {"{\"id\":[],\"caption\":\"x\"}", "'id' must be"},
        {"{\"id\":\"b14\",\"caption\":7}", "'caption' must be a string"},
        {"{\"id\":\"b15\",\"conversations\":[]}", "not empty"},
        {"{\"id\":\"b16\",\"conversations\":{}}", "list of turns"},
        {"{\"id\":\"b17\",\"conversations\":[{\"from\":\"human\"}]}", "turn 1: the key 'value' is missing"},
        {"{\"id\":\"b18\",\"conversations\":[5]}", "turn 1"},
        {"{\"id\":\"b19\",\"image\":\"a.png\",\"conversations\":[{\"from\":\"human\",\"value\":\"hi\"}]}", "0 <image> placeholders but 1 images"},
        {"{\"id\":\"b20\",\"caption\":\"\xff\"}", "not valid JSON"},
        {"{\"id\":\"b21\",\"caption\":\"x\",\"caption\":\"y\"}", "duplicate"},
        {"{\"id\":\"b22\",\"caption\":\"x\\u0000\"}", "not valid JSON"},
        {"[]", "must be an object"},
        {"7", "must be an object"},
        {"{\"id\":\"cut", "not valid JSON"},
        {"{\"id\":\"b27\",\"conversations\":[{\"from\":\"system\",\"value\":\"be\"},{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}]}",
         "turn 1 is from 'system'; the templates have only 'human' and 'gpt'"},
        {"{\"id\":\"b28\",\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"human\",\"value\":\"b\"},{\"from\":\"gpt\",\"value\":\"c\"}]}",
         "turn 2 is from 'human' as the one before"},
        {"{\"id\":\"b29\",\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\" \\n\"}]}", "turn 2 is an empty answer"},
        {"{\"id\":\"b30\",\"conversations\":[{\"from\":\"gpt\",\"value\":\"a\"},{\"from\":\"human\",\"value\":\"b\"}]}", "no question with an answer"},
        {"{\"id\":\"b31\",\"image\":\"a.png\",\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"<image>\"}]}",
         "0 <image> placeholders (1 more in answers, where it is plain text) but 1 images"},
        {"{\"id\":\"b32\",\"image\":\"a.png\",\"conversations\":[{\"from\":\"user\",\"value\":\"<image>\"},{\"from\":\"gpt\",\"value\":\"b\"}]}",
         "turn 1 is from 'user'"},
        {"{\"id\":\"b26\",\"image\":\"sub\",\"caption\":\"x\"}", "not a regular file"},
    };
    const int count = sizeof bad / sizeof *bad;
    FILE *f = fopen("in.jsonl", "w");
    for (int i = 0; i < count; i++) {
        fprintf(f, "%s\n{\"id\":\"good\",\"image\":\"a.png\",\"caption\":\"fine\"}\n", bad[i].record);
    }
    fclose(f);
    bif_pack_options o = options("in.jsonl");
    o.max_bad_share = 0.5;
    bif_pack_result r = good(&o);
    cr_expect_eq(r.bad, count);
    cr_expect_eq(r.samples, count);
    cr_expect_eq(r.images, 1);
    f = fopen("out/p-errors.jsonl", "r");
    cr_assert_not_null(f);
    char line[4096];
    for (int i = 0; i < count; i++) {
        json_t *row = NULL;
        int64_t number = 0, at = 0;
        const char *reason = "", *id = NULL;
        cr_assert_not_null(fgets(line, sizeof line, f), "%d lines", i);
        cr_assert_eq(bif_json_parse("errors", line, strlen(line), &row), BIF_OK);
        cr_assert_eq(bif_json_i64("row", row, "record", true, &number), BIF_OK);
        cr_assert_eq(bif_json_i64("row", row, "line", true, &at), BIF_OK);
        cr_assert_eq(bif_json_string("row", row, "reason", true, &reason), BIF_OK);
        cr_assert_eq(bif_json_string("row", row, "id", true, &id), BIF_OK);
        cr_expect_eq(number, 2 * i + 1);
        cr_expect_eq(at, 2 * i + 1);
        cr_expect(strstr(reason, bad[i].reason), "%s: %s (wanted: %s)", bad[i].record, reason, bad[i].reason);
        json_decref(row);
    }
    cr_expect_null(fgets(line, sizeof line, f));
    fclose(f);
    o.overwrite = true;
    put("in.jsonl", "{\"caption\":\"fine\"}\n");
    good(&o);
    cr_expect_not(bif_exists("out/p-errors.jsonl"), "the list of an earlier pack stayed");
}

Test(pack, too_many_bad_records)
{
    put("in.jsonl", "{\"caption\":\"a\"}\nbad\n{\"caption\":\"b\"}\n");
    bif_pack_options o = options("in.jsonl");
    failed(&o, BIF_ERR_DATA, "1 of 3 records of 'in.jsonl' are bad (33.33 %, at most 5.00 % are allowed); see 'out/p-errors.jsonl'; the first: ");
    cr_expect(bif_exists("out/p-errors.jsonl"));
    o.strict = true;
    failed(&o, BIF_ERR_DATA, "record 2 (line 2) is bad and the pack is strict");
    o.strict = false;
    o.max_bad_share = 1;
    cr_expect_eq(good(&o).samples, 2);
}

Test(pack, broken_files)
{
    static const struct {
        const char *name, *text, *words;
    } cases[] = {
        {"cut.json", "[{\"caption\":\"a\"},{\"capt", "cut.json:1: the file ends inside the array"},
        {"open.json", "[{\"caption\":\"a\"}\n", "ends inside the array"},
        {"comma.json", "[{\"caption\":\"a\"},]", "a comma before the end"},
        {"nocomma.json", "[{\"caption\":\"a\"} {\"caption\":\"b\"}]", "',' or ']' is wanted"},
        {"first.json", "[,{\"caption\":\"a\"}]", "missing before ','"},
        {"after.json", "[{\"caption\":\"a\"}]\n x", "after.json:2: something follows"},
        {"none.json", "[]", "no usable record"},
        {"none.jsonl", "", "no usable record"},
        {"quote.csv", "image,caption\na.png,\"open\n", "ends inside a quoted field"},
        {"header.csv", "a.png,a cat\n", "must be a header"},
        {"twice.csv", "image,caption,image\n", "'image' is there twice"},
        {"empty.csv", "", "must be a header"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(cases[i].name, cases[i].text);
        bif_pack_options o = options(cases[i].name);
        failed(&o, BIF_ERR_DATA, cases[i].words);
    }
    bif_pack_options o = options("missing.json");
    failed(&o, BIF_ERR_IO, "missing.json");
    o = options("none.json");
    put("picture.jsonl", "{\"image\":\"a.png\",\"caption\":\"a\"}\n");
    o = options("picture.jsonl");
    o.image_root = NULL;
    failed(&o, BIF_ERR_DATA, "name one with --image-root");
    o = options("none.json");
    o.image_root = "no-folder";
    failed(&o, BIF_ERR_IO, "no-folder");
    o = options("none.json");
    o.prefix = "../p";
    failed(&o, BIF_ERR_USAGE, "prefix");
    put("object.json", "{\"caption\":\"a\"}");
    o = options("object.json");
    o.format = BIF_RECORDS_JSON;
    failed(&o, BIF_ERR_DATA, "'[' must come first");
}

Test(pack, bad_rows_of_csv)
{
    put("in.csv", "image,caption\na.png,\na.png\na.png,x,y\na.png,a \"quote\"\na.png,\"a\"b\na.png,\xff\na.png,good\n");
    bif_pack_options o = options("in.csv");
    o.max_bad_share = 0.9;
    bif_pack_result r = good(&o);
    cr_expect_eq(r.bad, 6);
    cr_expect_eq(r.samples, 1);
}

/* A zero byte would cut the caption short without a word. */
Test(pack, zero_bytes_in_csv)
{
    static const char rows[] = "image,caption\na.png,a\0b\na.png,\"c\0d\"\na.png,good\n";
    cr_assert_eq(bif_file_write("in.csv", rows, sizeof rows - 1), BIF_OK);
    bif_pack_options o = options("in.csv");
    o.max_bad_share = 0.9;
    bif_pack_result r = good(&o);
    cr_expect_eq(r.bad, 2);
    cr_expect_eq(r.samples, 1);
}

Test(pack, shards_by_samples_and_bytes)
{
    FILE *f = fopen("in.jsonl", "w");
    for (int i = 0; i < 10; i++) {
        char name[32];
        snprintf(name, sizeof name, "img/%d.png", i);
        put_png(name, 40, 40, (unsigned char)(17 * i));
        fprintf(f, "{\"image\":\"%d.png\",\"caption\":\"c%d\"}\n", i, i);
    }
    fclose(f);
    bif_pack_options o = options("in.jsonl");
    o.max_samples = 3;
    bif_pack_result r = good(&o);
    cr_expect_eq(r.shards, 4);
    cr_expect_eq(r.samples, 10);
    sample("out/p-00003.h5", 0, "{\"caption\":\"c9\"}", "", 1);
}

/* The records are cut into units where one process that packs them in one go begins a shard: pictures that a shard has already take no room,
 * bad records neither. */
Test(pack, units_of_records)
{
    FILE *f = fopen("in.jsonl", "w");
    for (int i = 0; i < 12; i++) {
        char name[32];
        snprintf(name, sizeof name, "img/%d.png", i);
        put_png(name, 20 + (unsigned)i, 40, (unsigned char)(17 * i));
        fprintf(f, "{\"image\":\"%d.png\",\"caption\":\"c%d\"}\n{\"image\":[\"%d.png\",\"a.png\"],\"caption\":\"again\"}\n\nbad\n", i, i, i);
    }
    fclose(f);
    const bif_record first = {.number = 1, .line = 1};
    struct stat info;
    cr_assert_eq(stat("img/11.png", &info), 0);
    cr_assert_eq(bif_make_dirs("one"), BIF_OK);
    for (int turn = 0; turn < 40; turn++) {
        bif_pack_options o = options("in.jsonl");
        o.max_samples = turn < 10 ? turn : 0;
        o.max_shard_bytes = turn < 10 ? 1 << 20 : 2 * info.st_size + (turn - 10) * info.st_size / 4;
        bif_pack_range range = {.number = first.number, .line = first.line, .records = 36};
        bif_pack_plan one = {.options = &o, .kind = BIF_PACK_RECORDS, .units = 1, .range = &range, .records = "in.jsonl", .staging = "one"};
        bif_pack_plan plan = {.options = &o, .staging = bif_strdup("out")};
        double count[BIF_PACK_COUNTS] = {0}, said = 0;
        int64_t odd = 0, records = 0;
        cr_assert_eq(bif_pack_unit(&one, &team, 0, count, &said), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_pack_make_plan(&plan, &team, &odd), BIF_OK, "%s", bif_error_message());
        cr_expect_eq(plan.units, (int64_t)count[BIF_PACK_SHARDS], "turn %d: %d units", turn, (int)plan.units);
        cr_expect(turn < 1 || plan.units > 1);
        for (int64_t u = 0; u < plan.units; u++) {
            cr_expect_eq(plan.range[u].number, records + 1);
            records += plan.range[u].records;
        }
        cr_expect_eq(records, 36);
        bif_pack_plan_free(&plan);
    }
}

Test(pack, overwrite)
{
    bif_pack_result r;
    put("in.jsonl", "{\"caption\":\"a\"}\n{\"caption\":\"b\"}\n{\"caption\":\"c\"}\n");
    bif_pack_options o = options("in.jsonl");
    o.max_samples = 1;
    cr_expect_eq(good(&o).shards, 3);
    put("out/p-notes.h5", "not ours");
    cr_expect_eq(bif_pack(&o, &team, &r), BIF_ERR_USAGE);
    cr_expect(strstr(bif_error_message(), "is there already"));
    put("in.jsonl", "{\"caption\":\"new\"}\n");
    o.overwrite = true;
    cr_assert_eq(bif_make_dirs("out/p-00000.columns"), BIF_OK);
    cr_assert_eq(bif_make_dirs("out/p-00002.columns"), BIF_OK);
    put("out/p-00000.columns/pdq.json", "{}");
    put("out/p-00002.columns/pdq.json", "{}");
    cr_expect_eq(good(&o).shards, 1);
    cr_expect_not(bif_exists("out/p-00000.columns"), "columns of a shard that was replaced");
    cr_expect_not(bif_exists("out/p-00002.columns"), "columns of a shard that went");
    sample("out/p-00000.h5", 0, "{\"caption\":\"new\"}", "", 0);
    cr_expect_not(bif_exists("out/p-00001.h5"));
    cr_expect_not(bif_exists("out/p-00002.h5"));
    cr_expect(bif_exists("out/p-notes.h5"));
    /* a failed pack leaves the old shards */
    put("in.jsonl", "bad\n");
    cr_expect_eq(bif_pack(&o, &team, &r), BIF_ERR_DATA);
    sample("out/p-00000.h5", 0, "{\"caption\":\"new\"}", "", 0);
}

Test(pack, full_disk)
{
    put("in.json", llava);
    bif_pack_options o = options("in.json");
    struct rlimit limit = {3000, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    failed(&o, BIF_ERR_IO, "ulimit");
}

Test(pack, same_input_same_shards)
{
    char a[33], b[33];
    put("in.json", llava);
    bif_pack_options o = options("in.json");
    good(&o);
    cr_assert_eq(bif_digest_file("out/p-00000.h5", a, NULL), BIF_OK);
    o.overwrite = true;
    good(&o);
    cr_assert_eq(bif_digest_file("out/p-00000.h5", b, NULL), BIF_OK);
    cr_expect_str_eq(a, b);
}

Test(pack, stats)
{
    put("in.json", llava);
    bif_pack_options o = options("in.json");
    o.max_samples = 2;
    cr_expect_eq(good(&o).shards, 3);
    static const char *const paths[] = {"out/p-00000.h5", "out/p-00001.h5", "out/p-00002.h5"};
    bif_pool pool;
    bif_data_stats s;
    cr_assert_eq(bif_pool_open(paths, 3, &pool), BIF_OK, "%s", bif_error_message());
    const bif_stats_options options_of = {.pool = &pool, .memory = 1 << 20};
    cr_assert_eq(bif_data_stats_read(&options_of, &s), BIF_OK, "%s", bif_error_message());
    const int64_t *count = s.count[0];
    cr_expect_eq(s.stages, 1);
    cr_expect_eq(count[BIF_STAT_SAMPLES], 5);
    cr_expect_eq(count[BIF_STAT_IMAGES], 5); /* a.png and b.png lie in two shards each */
    cr_expect_eq(count[BIF_STAT_DISTINCT_IMAGES], 3);
    cr_expect_eq(count[BIF_STAT_TEXT_ONLY], 1);
    cr_expect_eq(count[BIF_STAT_ONE_IMAGE], 3);
    cr_expect_eq(count[BIF_STAT_MANY_IMAGES], 1);
    cr_expect_eq(count[BIF_STAT_IMAGE_ONLY], 1);
    cr_expect_eq(count[BIF_STAT_CAPTIONS], 1);
    cr_expect_eq(count[BIF_STAT_CONVERSATIONS], 4);
    cr_expect_eq(count[BIF_STAT_TURNS], 8);
    cr_expect_eq(count[BIF_STAT_DISTINCT_PIXELS], -1);
    cr_expect(s.formats.count == 1 && strcmp(s.formats.row[0].name, "png") == 0 && s.formats.row[0].count[0] == 5);
    const bif_quantiles *width = &s.measure[0][BIF_MEASURE_WIDTH], *height = &s.measure[0][BIF_MEASURE_HEIGHT];
    cr_expect(width->min == 5 && width->median == 12 && width->max == 30);
    cr_expect(height->min == 5 && height->median == 7 && height->max == 40);
    cr_expect(s.sources.count == 1 && strcmp(s.sources.row[0].name, "in.json") == 0 && s.sources.row[0].count[0] == 5);
    char *text = bif_data_stats_text(&s);
    cr_expect(strstr(text, "distinct") && strstr(text, "in.json"));
    free(text);
    json_t *value = bif_data_stats_json(&s);
    cr_expect_eq(json_integer_value(json_object_get(value, "samples")), 5);
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(value, "sources"), "in.json")), 5);
    json_decref(value);
    bif_data_stats_free(&s);
    bif_pool_close(&pool);
}
