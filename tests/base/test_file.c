#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char root[] = "/tmp/bif-file-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(root));
    cr_assert_eq(chdir(root), 0);
}

static void teardown(void)
{
    cr_assert_eq(chdir("/"), 0);
    cr_expect_eq(bif_remove_tree(root), BIF_OK, "%s", bif_error_message());
    cr_expect_not(bif_exists(root));
}

TestSuite(file, .init = setup, .fini = teardown);

static void put(const char *path, const char *text)
{
    cr_assert_eq(bif_file_write(path, text, strlen(text)), BIF_OK, "%s", bif_error_message());
}

Test(file, write_then_read)
{
    char *text = NULL;
    size_t size = 0;
    put("a.txt", "hello");
    cr_assert_eq(bif_file_read("a.txt", 100, &text, &size), BIF_OK);
    cr_expect_eq(size, 5);
    cr_expect_str_eq(text, "hello");
    free(text);
    cr_expect_eq(bif_file_read("a.txt", 4, &text, &size), BIF_ERR_DATA);
    cr_expect_eq(bif_file_read("missing", 4, &text, &size), BIF_ERR_IO);
    cr_expect(strstr(bif_error_message(), "missing") != NULL);
    cr_expect_eq(bif_file_read(".", 4, &text, &size), BIF_ERR_DATA);
    cr_assert_eq(mkfifo("fifo", 0600), 0);
    cr_expect_eq(bif_file_read("fifo", 4, &text, &size), BIF_ERR_DATA); /* and does not hang */
    put("a.txt", "");
    cr_assert_eq(bif_file_read("a.txt", 0, &text, &size), BIF_OK);
    cr_expect_eq(size, 0);
    free(text);
}

Test(file, writer_buffers_and_large_writes)
{
    bif_writer *writer = NULL;
    const size_t count = 700001;
    cr_assert_eq(bif_writer_open("big", &writer), BIF_OK);
    char *expect = malloc(count), *big = NULL;
    for (size_t i = 0; i < count; i++) {
        expect[i] = (char)(i * 7 + i / 251);
    }
    size_t at = 0;
    for (size_t step = 1; at < count; step = step * 3 + 1) { /* sizes on both sides of the buffer */
        size_t n = step < count - at ? step : count - at;
        cr_assert_eq(bif_writer_write(writer, expect + at, n), BIF_OK);
        at += n;
    }
    cr_expect_not(bif_exists("big")); /* nothing before commit */
    cr_assert_eq(bif_writer_commit(writer), BIF_OK);
    size_t size = 0;
    cr_assert_eq(bif_file_read("big", count, &big, &size), BIF_OK);
    cr_expect_eq(size, count);
    cr_expect_arr_eq(big, expect, count);
    free(big);
    free(expect);
}

static int entries(void)
{
    return system("test \"$(ls -A | wc -l)\" = 1") == 0;
}

Test(file, abandon_leaves_the_old_file)
{
    bif_writer *writer = NULL;
    put("f", "old");
    cr_assert_eq(bif_writer_open("f", &writer), BIF_OK);
    cr_assert_eq(bif_writer_write(writer, "new", 3), BIF_OK);
    bif_writer_abandon(writer);
    bif_writer_abandon(NULL);
    char *text = NULL;
    size_t size = 0;
    cr_assert_eq(bif_file_read("f", 9, &text, &size), BIF_OK);
    cr_expect_str_eq(text, "old");
    free(text);
    cr_expect(entries(), "a temporary file was left");
}

/* A file size limit stands for a full disk: the first write is short, the next one fails. */
Test(file, full_disk)
{
    static char block[300000];
    struct rlimit limit = {100000, RLIM_INFINITY};
    put("f", "old");
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    bif_writer *writer = NULL;
    cr_assert_eq(bif_writer_open("f", &writer), BIF_OK);
    cr_expect_eq(bif_writer_write(writer, block, sizeof block), BIF_ERR_IO);
    cr_expect(strstr(bif_error_message(), "'f'") && strstr(bif_error_message(), "100000 bytes") &&
                  strstr(bif_error_message(), "200000 more") && strstr(bif_error_message(), "ulimit"),
              "%s", bif_error_message());
    bif_fail(BIF_ERR_BUG, "another message");
    cr_expect_eq(bif_writer_write(writer, "x", 1), BIF_ERR_IO); /* the first failure again */
    cr_expect(strstr(bif_error_message(), "100000 bytes"));
    cr_expect_eq(bif_writer_commit(writer), BIF_ERR_IO);
    char *text = NULL;
    size_t size = 0;
    cr_assert_eq(bif_file_read("f", 9, &text, &size), BIF_OK);
    cr_expect_str_eq(text, "old");
    free(text);
    cr_expect(entries(), "a temporary file was left");
}

Test(file, no_folder)
{
    bif_writer *writer = NULL;
    cr_expect_eq(bif_writer_open("none/f", &writer), BIF_ERR_IO);
    cr_expect(strstr(bif_error_message(), "none/f"));
}

/* A saved file takes its name by renaming, which would put it in the place of /dev/stdout itself. */
Test(file, devices_and_pipes_stay)
{
    struct stat info;
    bif_writer *writer = NULL;
    cr_assert_eq(mkfifo("pipe", 0600), 0);
    cr_assert_eq(symlink("pipe", "to-pipe"), 0);
    static const char *const names[] = {"pipe", "to-pipe", "/dev/null", "/dev/stdout"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (stat(names[i], &info) != 0) { /* standard output is closed */
            continue;
        }
        const bif_status st = bif_writer_open(names[i], &writer);
        cr_expect_eq(st, BIF_ERR_USAGE, "%s", names[i]);
        if (st == BIF_OK) {
            bif_writer_abandon(writer);
        }
    }
    cr_expect(stat("pipe", &info) == 0 && S_ISFIFO(info.st_mode));
    cr_assert_eq(bif_file_write("plain", "a", 1), BIF_OK);
    cr_assert_eq(symlink("plain", "to-plain"), 0);
    cr_expect_eq(bif_file_write("to-plain", "b", 1), BIF_OK);
}

Test(file, folders)
{
    cr_expect_eq(bif_make_dirs("a/b//c/"), BIF_OK);
    cr_expect_eq(bif_make_dirs("a/b/c"), BIF_OK);
    put("a/b/c/x", "1");
    cr_expect_eq(bif_make_dirs("a/b/c/x"), BIF_ERR_IO);
    cr_expect_eq(bif_make_dirs("a/b/c/x/y"), BIF_ERR_IO);
    put("keep", "1");
    cr_assert_eq(symlink("../../keep", "a/b/link"), 0);
    cr_assert_eq(mkdir("outside", 0700), 0);
    put("outside/file", "1");
    cr_assert_eq(symlink("../outside", "a/out"), 0);
    cr_expect_eq(bif_remove_tree("a"), BIF_OK, "%s", bif_error_message());
    cr_expect_not(bif_exists("a"));
    cr_expect(bif_exists("keep"));
    cr_expect(bif_exists("outside/file"), "a link was followed");
    cr_expect_eq(bif_remove_tree("a"), BIF_OK);
    cr_expect_eq(bif_rename("keep", "kept"), BIF_OK);
    cr_expect(bif_exists("kept"));
    cr_expect_eq(bif_rename("keep", "kept"), BIF_ERR_IO);
}

Test(file, paths)
{
    static const char *const parents[][2] = {{"a", "."}, {"a/b", "a"}, {"/a", "/"}, {"a/b/", "a"}, {"a//b", "a"}, {"/", "/"}, {"", "."}};
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        char *parent = bif_path_parent(parents[i][0]);
        cr_expect_str_eq(parent, parents[i][1], "parent of '%s'", parents[i][0]);
        free(parent);
    }
    static const char *const joins[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof joins / sizeof *joins; i++) {
        char *joined = bif_path_join(joins[i][0], joins[i][1]);
        cr_expect_str_eq(joined, joins[i][2]);
        free(joined);
    }
    cr_expect_str_eq(bif_path_base("a/b.c"), "b.c");
    cr_expect_str_eq(bif_path_base("b.c"), "b.c");
}

Test(file, beneath)
{
    cr_assert_eq(bif_make_dirs("root/sub"), BIF_OK);
    put("root/sub/in", "12345");
    put("secret", "s");
    cr_assert_eq(symlink("sub/in", "root/inner"), 0);
    cr_assert_eq(symlink("../secret", "root/outer"), 0);
    cr_assert_eq(symlink("/etc", "root/etc"), 0);
    cr_assert_eq(symlink("loop", "root/loop"), 0);
    cr_assert_eq(mkfifo("root/fifo", 0600), 0);
    int dir = open("root", O_RDONLY | O_DIRECTORY), fd = -1;
    size_t size = 0;
    cr_assert_eq(bif_open_beneath(dir, "root", "sub/in", &fd, &size), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(size, 5);
    close(fd);
    cr_assert_eq(bif_open_beneath(dir, "root", "./sub//in", &fd, &size), BIF_OK, "%s", bif_error_message());
    close(fd);
    static const char *const refused[] = {"", "/etc/passwd", "../secret", "sub/../../secret", "sub/..", "..", "outer", "etc/passwd", "loop",
                                          "fifo", "sub", "nothing", "sub/in/x", "/", "//etc/passwd", "./../secret", "etc/../secret"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cr_expect_eq(bif_open_beneath(dir, "root", refused[i], &fd, &size), BIF_ERR_DATA, "'%s' was opened", refused[i]);
        cr_expect(strstr(bif_error_message(), refused[i]) != NULL);
    }
    /* the fallback follows no link at all */
    fd = bif_openat_nofollow(dir, "sub/in");
    cr_expect_geq(fd, 0);
    close(fd);
    cr_expect_lt(bif_openat_nofollow(dir, "inner"), 0);
    cr_expect_lt(bif_openat_nofollow(dir, "outer"), 0);
    cr_expect_lt(bif_openat_nofollow(dir, "etc/passwd"), 0);
    cr_expect_lt(bif_openat_nofollow(dir, "sub/in/x"), 0);
    cr_expect_eq(fcntl(dir, F_GETFD), 0, "the root was closed");
    close(dir);
}

/* RFC 3720 B.4 */
Test(file, crc32c_known)
{
    unsigned char bytes[48] = {0};
    cr_expect_eq(bif_crc32c(0, bytes, 32), 0x8A9136AAu);
    memset(bytes, 0xFF, 32);
    cr_expect_eq(bif_crc32c(0, bytes, 32), 0x62A8AB43u);
    for (int i = 0; i < 32; i++) {
        bytes[i] = (unsigned char)i;
    }
    cr_expect_eq(bif_crc32c(0, bytes, 32), 0x46DD794Eu);
    cr_expect_eq(bif_crc32c(0, "123456789", 9), 0xE3069283u);
    cr_expect_eq(bif_crc32c(0, "", 0), 0u);
}

Test(file, crc32c_tables_equal_hardware)
{
    unsigned char bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * 37 + i / 7);
    }
    for (size_t start = 0; start < 9; start++) {
        for (size_t n = 0; n + start < sizeof bytes; n++) {
            uint32_t whole = bif_crc32c(5, bytes + start, n);
            cr_assert_eq(whole, bif_crc32c_portable(5, bytes + start, n));
            cr_assert_eq(whole, bif_crc32c(bif_crc32c(5, bytes + start, n / 3), bytes + start + n / 3, n - n / 3));
        }
    }
}

Test(file, digest)
{
    char hex[33], other[33];
    bif_digest_bytes("", 0, hex);
    cr_expect_str_eq(hex, "99aa06d3014798d86001c324468d497f"); /* XXH3-128 of nothing, seed 0 */
    bif_digest *digest = bif_digest_new();
    bif_digest_update(digest, "hel", 3);
    bif_digest_update(digest, "lo", 2);
    bif_digest_finish(digest, hex);
    put("f", "hello");
    uint64_t size = 0;
    cr_assert_eq(bif_digest_file("f", other, &size), BIF_OK);
    cr_expect_eq(size, 5);
    cr_expect_str_eq(hex, other);
    bif_digest_bytes("hello", 5, other);
    cr_expect_str_eq(hex, other);
    cr_expect_eq(bif_digest_file("nothing", other, &size), BIF_ERR_IO);
}
