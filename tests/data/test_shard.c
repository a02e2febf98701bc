#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "data/shard.h"
#include "shard_help.h"

TestSuite(shard, .init = shard_setup, .fini = shard_teardown);

static void check_shard(const char *path)
{
    static unsigned char bytes[IMAGE_CAP], back[IMAGE_CAP];
    bif_shard *shard = NULL;
    cr_assert_eq(bif_shard_open(path, &shard), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bif_shard_samples(shard), 3);
    cr_expect_eq(bif_shard_images(shard), IMAGES);
    cr_expect_str_eq(bif_shard_path(shard), path);
    cr_expect_eq(strlen(bif_shard_payload_digest(shard)), 32);
    bif_shard_image image;
    for (int i = 0; i < IMAGES; i++) {
        size_t size = shard_image(i, bytes);
        cr_assert_eq(bif_shard_get_image(shard, i, &image), BIF_OK);
        cr_expect_eq(image.size, size);
        cr_expect_eq((int)image.format, BIF_IMAGE_JPEG + (i % 3));
        cr_expect_eq(image.width, 10 + i);
        cr_expect_eq(image.height, 20 + i);
        cr_expect_eq(bif_shard_read_image(shard, i, back, sizeof back), BIF_OK, "%s", bif_error_message());
        cr_expect_arr_eq(back, bytes, size);
        char hex[33], id[33];
        bif_digest_bytes(bytes, size, hex);
        snprintf(id, sizeof id, "%016llx%016llx", (unsigned long long)image.id[0], (unsigned long long)image.id[1]);
        cr_expect_str_eq(id, hex);
    }
    bif_shard_sample sample;
    cr_assert_eq(bif_shard_get_sample(shard, 2, &sample), BIF_OK);
    cr_expect_eq(sample.text_size, 19);
    cr_expect_eq(memcmp(sample.text, "{\"caption\":\"caf\xc3\xa9\"}", 19), 0);
    cr_expect_eq(sample.id_size, 9);
    cr_expect_str_eq(sample.source, "alpha");
    cr_expect_eq(sample.image_count, 3);
    cr_expect(sample.images[0] == 4 && sample.images[1] == 1 && sample.images[2] == 2);
    cr_assert_eq(bif_shard_get_sample(shard, 1, &sample), BIF_OK);
    cr_expect_str_eq(sample.source, "beta");
    cr_expect_eq(sample.image_count, 0);
    cr_expect_eq(sample.id_size, 0);
    cr_expect_eq(bif_shard_get_sample(shard, 3, &sample), BIF_ERR_DATA);
    cr_expect_eq(bif_shard_get_sample(shard, -1, &sample), BIF_ERR_DATA);
    cr_expect_eq(bif_shard_get_image(shard, IMAGES, &image), BIF_ERR_DATA);
    bif_shard_close(shard);
    int64_t bad = -1;
    cr_expect_eq(bif_shard_verify(path, &bad), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bad, 0);
}

Test(shard, round_trip)
{
    cr_assert_eq(shard_write("a.h5"), BIF_OK, "%s", bif_error_message());
    check_shard("a.h5");
    cr_expect_eq(system("test \"$(ls -A)\" = a.h5"), 0, "other files were left");
    bif_shard_close(NULL);
    bif_shard_writer_abandon(NULL);
}

/* h5py wrote them (tests/golden/make_shard.py). */
Test(shard, written_by_h5py)
{
    static const char *const names[] = {"golden/shard_h5py.h5", "golden/shard_h5py_contiguous.h5"};
    for (int i = 0; i < 2; i++) {
        char *path = bif_path_join(getenv("BIFOCAL_TESTS"), names[i]);
        check_shard(path);
        free(path);
    }
}

Test(shard, same_input_same_bytes)
{
    char a[33], b[33];
    cr_assert_eq(shard_write("a.h5"), BIF_OK);
    sleep(1); /* no times are stored */
    cr_assert_eq(shard_write("b.h5"), BIF_OK);
    cr_assert_eq(bif_digest_file("a.h5", a, NULL), BIF_OK);
    cr_assert_eq(bif_digest_file("b.h5", b, NULL), BIF_OK);
    cr_expect_str_eq(a, b);
}

Test(shard, text_only)
{
    bif_shard_writer *writer = NULL;
    bif_shard *shard = NULL;
    int64_t bad = 0;
    cr_assert_eq(bif_shard_writer_open("t.h5", &writer), BIF_OK);
    cr_assert_eq(bif_shard_add_sample(writer, "{\"caption\":\"x\"}", 15, "i", "s", NULL, 0), BIF_OK);
    cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_shard_open("t.h5", &shard), BIF_OK, "%s", bif_error_message());
    cr_expect_eq(bif_shard_images(shard), 0);
    bif_shard_close(shard);
    cr_expect_eq(bif_shard_verify("t.h5", &bad), BIF_OK, "%s", bif_error_message());
}

Test(shard, writer_refuses)
{
    bif_shard_writer *writer = NULL;
    int64_t index;
    cr_expect_eq(bif_shard_writer_open("none/x.h5", &writer), BIF_ERR_IO);
    cr_assert_eq(bif_shard_writer_open("x.h5", &writer), BIF_OK);
    cr_expect_eq(bif_shard_add_image(writer, "", 0, BIF_IMAGE_PNG, 1, 1, &index), BIF_ERR_DATA);
    cr_expect_eq(bif_shard_add_sample(writer, "\"\xff\"", 3, "", "s", NULL, 0), BIF_ERR_DATA);
    cr_expect_eq(bif_shard_writer_samples(writer), 0);
    cr_expect_eq(bif_shard_writer_commit(writer), BIF_ERR_DATA); /* no samples */
    cr_expect_eq(system("test -z \"$(ls -A)\""), 0);
}

/* More images than the first hash table holds, each given twice. */
Test(shard, many_images)
{
    bif_shard_writer *writer = NULL;
    int64_t index;
    cr_assert_eq(bif_shard_writer_open("m.h5", &writer), BIF_OK);
    for (int round = 0; round < 2; round++) {
        for (int64_t i = 0; i < 3000; i++) {
            cr_assert_eq(bif_shard_add_image(writer, &i, sizeof i, BIF_IMAGE_PNG, 1, 1, &index), BIF_OK);
            cr_assert_eq(index, i);
        }
    }
    cr_assert_eq(bif_shard_add_sample(writer, "{\"caption\":\"x\"}", 15, "i", "s", &index, 1), BIF_OK);
    cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK);
    int64_t bad = 0;
    cr_expect_eq(bif_shard_verify("m.h5", &bad), BIF_OK, "%s", bif_error_message());
}

Test(shard, verify_reads_texts)
{
    bif_shard_writer *writer = NULL;
    int64_t bad = 0;
    cr_assert_eq(bif_shard_writer_open("t.h5", &writer), BIF_OK);
    cr_assert_eq(bif_shard_add_sample(writer, "{\"caption\":\"x\"}", 15, "i", "s", NULL, 0), BIF_OK);
    cr_assert_eq(bif_shard_add_sample(writer, "not json", 8, "i", "s", NULL, 0), BIF_OK);
    cr_assert_eq(bif_shard_add_sample(writer, "{}", 2, "i", "s", NULL, 0), BIF_OK);
    cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK);
    cr_expect_eq(bif_shard_verify("t.h5", &bad), BIF_ERR_DATA);
    cr_expect_eq(bad, 2);
}

/* ---- threads and full disks ---- */

static void *reader(void *data)
{
    unsigned char *back = malloc(IMAGE_CAP), *expect = malloc(IMAGE_CAP);
    intptr_t wrong = 0;
    for (int round = 0; round < 200; round++) {
        size_t size = shard_image(round % IMAGES, expect);
        wrong += bif_shard_read_image(data, round % IMAGES, back, IMAGE_CAP) != BIF_OK || memcmp(back, expect, size) != 0;
    }
    free(expect);
    free(back);
    return (void *)wrong;
}

static void read_by_threads(const char *path)
{
    bif_shard *shard = NULL;
    pthread_t threads[4];
    cr_assert_eq(bif_shard_open(path, &shard), BIF_OK);
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, reader, shard);
    }
    for (int i = 0; i < 4; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        cr_expect_null(wrong);
    }
    bif_shard_close(shard);
}

Test(shard, threads)
{
    cr_assert_eq(shard_write("a.h5"), BIF_OK);
    read_by_threads("a.h5");
    char *path = bif_path_join(getenv("BIFOCAL_TESTS"), "golden/shard_h5py.h5"); /* through H5Dread */
    read_by_threads(path);
    free(path);
}

/* A file size limit stands for a full disk at every stage of the write. */
Test(shard, full_disk_by_limit)
{
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t cap = 0; cap < 33000; cap += 1500) {
        struct rlimit limit = {cap, RLIM_INFINITY};
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        cr_expect_eq(shard_write("a.h5"), BIF_ERR_IO, "limit %ld", (long)cap);
        cr_expect(strstr(bif_error_message(), "a.h5") != NULL, "%s", bif_error_message());
        cr_expect_eq(system("test -z \"$(ls -A)\""), 0, "limit %ld: something was left", (long)cap);
    }
    struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    cr_assert_eq(shard_write("a.h5"), BIF_OK, "%s", bif_error_message());
    check_shard("a.h5");
}

Test(shard, full_disk)
{
    cr_assert_eq(bif_make_dirs("small"), BIF_OK);
    for (int kib = 8; kib <= 56; kib += 12) {
        char options[32];
        snprintf(options, sizeof options, "size=%dk", kib);
        if (mount("none", "small", "tmpfs", 0, options) != 0) {
            cr_skip_test("mounting a tmpfs needs root");
        }
        cr_expect_eq(shard_write("small/a.h5"), BIF_ERR_IO, "%s", options);
        cr_expect(strstr(bif_error_message(), "No space left"), "%s", bif_error_message());
        cr_expect_eq(system("test -z \"$(ls -A small)\""), 0, "something was left");
        umount("small");
    }
}
