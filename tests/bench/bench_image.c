// Pictures a second, decoded and preprocessed as for CLIP: bench_image [-t THREADS] [-s SIZE] [-n PASSES] FOLDER...
// Files are read before the clock starts; what no decoder reads is counted and left out. Checks first: every thread's
// first picture must give the same bytes twice.
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "data/image.h"

typedef struct {
    char *bytes;
    size_t size;
} item;

static item *items;
static int64_t item_count, item_room, passes = 1;
static bif_preprocess preprocess;
static atomic_llong next_item, failed, decode_ns, prepare_ns, pixels;
static atomic_bool mismatch;

static int64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void add_folder(const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL) {
        fprintf(stderr, "cannot open %s\n", path);
        exit(74);
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char *name = bif_path_join(path, entry->d_name);
        item it = { 0 };
        if (entry->d_name[0] != '.' && bif_file_read(name, (size_t)1 << 28, &it.bytes, &it.size) == BIF_OK) {
            if (item_count == item_room) {
                item_room = item_room * 2 + 64;
                items = bif_realloc(items, (size_t)item_room, sizeof *items);
            }
            items[item_count++] = it;
        }
        free(name);
    }
    closedir(folder);
}

static void *work(void *unused)
{
    (void)unused;
    size_t n = (size_t)(preprocess.size * preprocess.size * 3);
    uint8_t *out = bif_malloc(n), *again = bif_malloc(n);
    bool checked = false;
    for (int64_t i; (i = atomic_fetch_add(&next_item, 1)) < item_count * passes;) {
        const item *it = &items[i % item_count];
        bif_image image;
        int64_t t0 = now_ns(CLOCK_THREAD_CPUTIME_ID);
        if (bif_image_decode("bench", it->bytes, it->size, NULL, &image) != BIF_OK) {
            failed++;
            continue;
        }
        int64_t t1 = now_ns(CLOCK_THREAD_CPUTIME_ID);
        if (bif_preprocess_run(&preprocess, &image, out) != BIF_OK) {
            failed++;
        }
        int64_t t2 = now_ns(CLOCK_THREAD_CPUTIME_ID);
        decode_ns += t1 - t0;
        prepare_ns += t2 - t1;
        pixels += image.width * image.height;
        if (!checked) {
            checked = true;
            bif_preprocess_run(&preprocess, &image, again);
            if (memcmp(out, again, n) != 0) {
                mismatch = true;
            }
        }
        bif_image_free(&image);
    }
    free(out);
    free(again);
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = 1;
    int64_t size = 336;
    for (int option; (option = getopt(argc, argv, "t:s:n:")) != -1;) {
        if (option == '?') {
            return 64;
        }
        int64_t value = atoll(optarg);
        if (value < 1) {
            fprintf(stderr, "-%c wants a number above 0\n", option);
            return 64;
        }
        if (option == 't') {
            threads = (int)value;
        } else if (option == 's') {
            size = value;
        } else {
            passes = value;
        }
    }
    for (int i = optind; i < argc; i++) {
        add_folder(argv[i]);
    }
    if (item_count == 0) {
        fprintf(stderr, "bench_image [-t THREADS] [-s SIZE] [-n PASSES] FOLDER...: no files\n");
        return 64;
    }
    preprocess = bif_preprocess_clip(size);
    pthread_t *thread = bif_malloc((size_t)threads * sizeof *thread);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < threads; i++) {
        pthread_create(&thread[i], NULL, work, NULL);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
    }
    double seconds = (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9;
    double done = (double)(item_count * passes - failed);
    printf("%d threads, size %lld: %.0f pictures in %.2f s, %.1f pictures/s (%lld refused)\n", threads, (long long)size,
           done, seconds, done / seconds, (long long)failed);
    if (done > 0) {
        printf("per picture and core: decode %.3f ms, resize %.3f ms, %.2f megapixels\n",
               (double)decode_ns / 1e6 / done, (double)prepare_ns / 1e6 / done, (double)pixels / 1e6 / done);
    }
    for (int64_t i = 0; i < item_count; i++) {
        free(items[i].bytes);
    }
    free(items);
    free(thread);
    if (mismatch) {
        fprintf(stderr, "the same picture gave different bytes\n");
        return 70;
    }
    return 0;
}
