#include "data/hash_run.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/text_measures.h"

#define HAS(set, number) (((set) >> (number) & 1) != 0)
#define PER_PIXEL 14             /* bytes: RGB, turned RGB, grey, what libjpeg keeps of a progressive file */
#define PER_PICTURE (32 << 20)   /* bytes besides, the memo of a thread among them */
#define MOST_PIXELS 178956970    /* as in data/image.h */
#define SECONDS 5                /* between lines of progress */

static const struct {
    const char *name, *method;
    bif_column_type type;
    int64_t width;
} columns[BIF_HASH_COLUMNS] = {
    [BIF_HASH_PIXELS] = {"pixels", "XXH3-128 of width, height and RGB, upright, version 1", BIF_COLUMN_U64, 2},
    [BIF_HASH_IMAGEHASH + BIF_HASH_A] = {"ahash", BIF_HASH_METHOD_IMAGEHASH, BIF_COLUMN_U64, 1},
    [BIF_HASH_IMAGEHASH + BIF_HASH_D] = {"dhash", BIF_HASH_METHOD_IMAGEHASH, BIF_COLUMN_U64, 1},
    [BIF_HASH_IMAGEHASH + BIF_HASH_P] = {"phash", BIF_HASH_METHOD_IMAGEHASH, BIF_COLUMN_U64, 1},
    [BIF_HASH_IMAGEHASH + BIF_HASH_W] = {"whash", BIF_HASH_METHOD_IMAGEHASH, BIF_COLUMN_U64, 1},
    [BIF_HASH_IMAGEDEDUP + BIF_HASH_A] = {"ahash_imagededup", BIF_HASH_METHOD_IMAGEDEDUP, BIF_COLUMN_U64, 1},
    [BIF_HASH_IMAGEDEDUP + BIF_HASH_D] = {"dhash_imagededup", BIF_HASH_METHOD_IMAGEDEDUP, BIF_COLUMN_U64, 1},
    [BIF_HASH_IMAGEDEDUP + BIF_HASH_P] = {"phash_imagededup", BIF_HASH_METHOD_IMAGEDEDUP, BIF_COLUMN_U64, 1},
    [BIF_HASH_IMAGEDEDUP + BIF_HASH_W] = {"whash_imagededup", BIF_HASH_METHOD_IMAGEDEDUP, BIF_COLUMN_U64, 1},
    [BIF_HASH_PDQ] = {"pdq", BIF_PDQ_METHOD, BIF_COLUMN_U8, BIF_PDQ_BYTES},
    [BIF_HASH_PDQ_QUALITY] = {"pdq_quality", BIF_PDQ_METHOD, BIF_COLUMN_U8, 1},
    [BIF_HASH_PDQ_DIHEDRAL] = {"pdq_dihedral", BIF_PDQ_METHOD, BIF_COLUMN_U8, BIF_PDQ_FORMS *BIF_PDQ_BYTES},
    [BIF_HASH_MEAN_STD] = {"mean_std", "mean and deviation of grey, version 1", BIF_COLUMN_F32, 2},
    [BIF_HASH_CAPTION] = {"caption_hash", BIF_CAPTION_METHOD, BIF_COLUMN_U64, 2},
    [BIF_HASH_MINHASH] = {"minhash", BIF_MINHASH_METHOD, BIF_COLUMN_U32, BIF_MINHASH_WIDTH},
};

bif_column_info bif_hash_column(int number)
{
    return (bif_column_info){.name = columns[number].name,
                             .method = columns[number].method,
                             .of = number < BIF_HASH_CAPTION ? BIF_COLUMN_OF_IMAGE : BIF_COLUMN_OF_SAMPLE,
                             .type = columns[number].type,
                             .width = columns[number].width};
}

bif_status bif_hash_set_by_names(const char *names, bif_hash_set *out)
{
    *out = 0;
    for (const char *at = names;;) {
        const size_t length = strcspn(at, ",");
        int number = 0;
        while (number < BIF_HASH_COLUMNS && (strlen(columns[number].name) != length || memcmp(columns[number].name, at, length) != 0)) {
            number++;
        }
        if (number == BIF_HASH_COLUMNS) {
            return bif_fail(BIF_ERR_USAGE, "'%.*s' is no hash; they are pixels, ahash, dhash, phash, whash (each also with _imagededup), "
                            "pdq, pdq_quality, pdq_dihedral, mean_std, caption_hash and minhash", (int)length, at);
        }
        *out |= (bif_hash_set)1 << number;
        if (at[length] == '\0') {
            return BIF_OK;
        }
        at += length + 1;
    }
}

bif_status bif_hash_picture(const char *what, const void *bytes, size_t size, const bif_image_limits *limits, bif_hash_set set,
                            bif_resize_memo *memo, bif_hashes *out)
{
    bif_status st = BIF_OK;
    bif_image image = {0};
    uint8_t *grey = NULL;
    int orientation = 1;
    bool one_channel = false;
    *out = (bif_hashes){0};
    BIF_TRY(bif_image_decode_stored(what, bytes, size, limits, &image, &orientation, &one_channel));
    out->width = image.width;
    out->height = image.height;
    if ((set >> BIF_HASH_IMAGEHASH & 15) != 0 || HAS(set, BIF_HASH_MEAN_STD)) {
        grey = bif_malloc((size_t)(image.width * image.height));
        bif_hash_grey(image.rgb, image.width * image.height, grey);
        bif_hash_imagehash(set >> BIF_HASH_IMAGEHASH & 15, grey, image.width, image.height, memo, out->imagehash);
    }
    bif_hash_imagededup(set >> BIF_HASH_IMAGEDEDUP & 15, image.rgb, image.width, image.height, memo, out->imagededup);
    if (HAS(set, BIF_HASH_PDQ_DIHEDRAL) || HAS(set, BIF_HASH_PDQ) || HAS(set, BIF_HASH_PDQ_QUALITY)) {
        bif_pdq_hash(image.rgb, image.width, image.height, one_channel, HAS(set, BIF_HASH_PDQ_DIHEDRAL) ? BIF_PDQ_FORMS : 1, &out->pdq);
    }
    if (HAS(set, BIF_HASH_MEAN_STD)) {
        bif_hash_mean_std(grey, image.width * image.height, out->mean_std);
    }
    if (HAS(set, BIF_HASH_PIXELS)) {
        bif_image_upright(&image, orientation);
        bif_hash_pixels(image.rgb, image.width, image.height, out->pixels);
    }
done:
    free(grey);
    bif_image_free(&image);
    return st;
}

/* ---- a shard ---- */

typedef struct {
    const bif_shard *shard;
    const bif_team *team;
    const char *where;
    bif_hash_set set;
    bif_image_limits limits;
    int64_t images, samples;
    uint8_t *data[BIF_HASH_COLUMNS]; /* [rows, width] of those in `set` */
    char **error;                    /* [images] */
    atomic_llong next_image, next_sample, done;
    pthread_mutex_t lock;
    atomic_bool failed;
    bif_status st; /* the first failure of the system, with its message */
    char message[512];
} work;

static void put(work *w, int number, int64_t row, const void *value)
{
    if (HAS(w->set, number)) {
        const size_t size = bif_column_type_size(columns[number].type) * (size_t)columns[number].width;
        memcpy(w->data[number] + (size_t)row * size, value, size);
    }
}

static void put_hashes(work *w, int64_t image, const bif_hashes *h, bool good)
{
    const uint8_t quality = good ? (uint8_t)h->pdq.quality : 255;
    put(w, BIF_HASH_PIXELS, image, h->pixels);
    for (int kind = 0; kind < 4; kind++) {
        put(w, BIF_HASH_IMAGEHASH + kind, image, &h->imagehash[kind]);
        put(w, BIF_HASH_IMAGEDEDUP + kind, image, &h->imagededup[kind]);
    }
    put(w, BIF_HASH_PDQ, image, h->pdq.form[0]);
    put(w, BIF_HASH_PDQ_QUALITY, image, &quality);
    put(w, BIF_HASH_PDQ_DIHEDRAL, image, h->pdq.form);
    put(w, BIF_HASH_MEAN_STD, image, h->mean_std);
}

static void fail_all(work *w, bif_status st)
{
    pthread_mutex_lock(&w->lock);
    if (w->st == BIF_OK) {
        w->st = st;
        atomic_store(&w->failed, true);
        snprintf(w->message, sizeof w->message, "%s", bif_error_message());
    }
    pthread_mutex_unlock(&w->lock);
}

/* A picture that cannot be used is a row of its own; trouble of the system ends the work. */
static bif_status one_image(work *w, int64_t image, bif_resize_memo *memo)
{
    bif_status st = BIF_OK;
    bif_shard_image info;
    bif_hashes hashes = {0};
    uint8_t *bytes = NULL;
    char what[64];
    if (w->error[image] != NULL) { /* left out by the plan */
        put_hashes(w, image, &hashes, false);
        return BIF_OK;
    }
    snprintf(what, sizeof what, "image %" PRId64, image);
    st = bif_shard_get_image(w->shard, image, &info);
    if (st == BIF_OK) {
        bytes = bif_malloc(info.size + 1);
        st = bif_shard_read_image(w->shard, image, bytes, info.size);
    }
    if (st == BIF_OK) {
        st = bif_hash_picture(what, bytes, info.size, &w->limits, w->set, memo, &hashes);
    }
    if (st == BIF_ERR_DATA) {
        w->error[image] = bif_strdup(bif_error_message());
        hashes = (bif_hashes){0};
    }
    if (st == BIF_OK || st == BIF_ERR_DATA) {
        put_hashes(w, image, &hashes, st == BIF_OK);
        st = BIF_OK;
    }
    free(bytes);
    return st;
}

static bif_status one_sample(work *w, int64_t index)
{
    bif_shard_sample sample;
    char *text = NULL, *normal = NULL;
    size_t size = 0;
    uint64_t hash[2] = {0};
    uint32_t minhash[BIF_MINHASH_WIDTH];
    const bif_status st = bif_shard_get_sample(w->shard, index, &sample);
    if (st != BIF_OK) {
        return st;
    }
    bif_sample_caption(&sample, &text, &size);
    if (text != NULL) {
        normal = bif_text_normal(text, size, &size);
    }
    bif_text_hash(normal != NULL ? normal : "", normal != NULL ? size : 0, hash);
    put(w, BIF_HASH_CAPTION, index, hash);
    if (HAS(w->set, BIF_HASH_MINHASH)) {
        bif_text_minhash(normal != NULL ? normal : "", normal != NULL ? size : 0, minhash);
        put(w, BIF_HASH_MINHASH, index, minhash);
    }
    free(normal);
    free(text);
    return BIF_OK;
}

/* The thread that came with the shard also speaks, and answers the other ranks. */
static void run(work *w, bool first)
{
    const bool of_images = (w->set & BIF_HASH_OF_IMAGES) != 0, of_samples = (w->set & ~BIF_HASH_OF_IMAGES) != 0;
    bif_resize_memo *memo = bif_resize_memo_new();
    time_t told = time(NULL);
    bif_status st = BIF_OK;
    for (int64_t i; st == BIF_OK && of_samples && !atomic_load(&w->failed) && (i = atomic_fetch_add(&w->next_sample, 1)) < w->samples;) {
        st = one_sample(w, i);
        if (first && i % 256 == 0) {
            w->team->poll(w->team->context);
        }
    }
    for (int64_t i; st == BIF_OK && of_images && !atomic_load(&w->failed) && (i = atomic_fetch_add(&w->next_image, 1)) < w->images;) {
        st = one_image(w, i, memo);
        atomic_fetch_add(&w->done, 1);
        if (first) {
            w->team->poll(w->team->context);
            if (time(NULL) >= told + SECONDS) {
                told = time(NULL);
                bif_info("%s: %lld of %" PRId64 " images", w->where, (long long)atomic_load(&w->done), w->images);
            }
        }
    }
    bif_resize_memo_free(memo);
    if (st != BIF_OK) {
        fail_all(w, st);
    }
}

static void *thread_main(void *argument)
{
    run(argument, false);
    return NULL;
}

/* Of a picture that would be too large for the memory: its header says whether it is, for the shard's table may be wrong. 0: it cannot be
 * decoded. */
static bif_status pixels_of(const work *w, int64_t image, int64_t most, int64_t *pixels)
{
    bif_shard_image info;
    bif_image_format format;
    const bif_image_limits limits = {.max_pixels = most};
    int64_t width = 0, height = 0;
    uint8_t *bytes = NULL;
    bif_status st = bif_shard_get_image(w->shard, image, &info);
    if (st == BIF_OK) {
        bytes = bif_malloc(info.size + 1);
        st = bif_shard_read_image(w->shard, image, bytes, info.size);
    }
    if (st == BIF_OK) {
        st = bif_image_probe("a picture", bytes, info.size, &limits, &format, &width, &height);
    }
    free(bytes);
    *pixels = st == BIF_OK ? width * height : 0;
    if (st == BIF_ERR_DATA) {
        bif_error_clear();
        st = BIF_OK;
    }
    return st;
}

/* How many threads fit into the memory; the largest picture is that which the shard's table promises, and no larger one is decoded. Pictures
 * that one thread alone could not decode in it get their row of error here. */
static bif_status plan(work *w, const bif_hash_options *o, int *threads)
{
    bif_status st = BIF_OK;
    const int64_t most = o->max_pixels > 0 ? o->max_pixels : MOST_PIXELS;
    int64_t pixels = 1, bytes = 0, fixed = w->images * (int64_t)sizeof *w->error, left_out = 0, need = 0;
    for (int c = 0; c < BIF_HASH_COLUMNS; c++) {
        if (HAS(w->set, c)) {
            fixed += (int64_t)bif_column_type_size(columns[c].type) * columns[c].width * (c < BIF_HASH_CAPTION ? w->images : w->samples);
        }
    }
    const int64_t room = o->memory - fixed - PER_PICTURE;
    if (room < PER_PIXEL) {
        BIF_TRY(bif_fail(BIF_ERR_MEMORY, "'%s' needs %" PRId64 " MiB for its columns and a small picture; --memory-mib allows %" PRId64,
                         bif_shard_path(w->shard), ((fixed + PER_PICTURE) >> 20) + 1, o->memory >> 20));
    }
    for (int64_t i = 0; i < w->images && (w->set & BIF_HASH_OF_IMAGES) != 0; i++) {
        bif_shard_image info;
        BIF_TRY(bif_shard_get_image(w->shard, i, &info));
        const int64_t w1 = info.width, h1 = info.height, size = (int64_t)info.size;
        int64_t area = h1 > 0 && w1 > most / h1 ? most : w1 * h1;
        if (area > (room - size) / PER_PIXEL) {
            BIF_TRY(pixels_of(w, i, most, &area));
        }
        if (area > (room - size) / PER_PIXEL) {
            const int64_t mib = (fixed + PER_PICTURE + size + area * PER_PIXEL) / (1 << 20) + 1;
            w->error[i] = bif_format("its %" PRId64 " pixels need --memory-mib %" PRId64 "; it was left out at %" PRId64, area, mib, o->memory >> 20);
            left_out++;
            need = mib > need ? mib : need;
            continue;
        }
        pixels = area > pixels ? area : pixels;
        bytes = size > bytes ? size : bytes;
    }
    if (left_out > 0) {
        bif_warn("%s: %" PRId64 " pictures are too large for --memory-mib %" PRId64 " and are left out, each with a line in hash-errors.jsonl; "
                 "bifocal data hash --overwrite --memory-mib %" PRId64 " takes them",
                 bif_shard_path(w->shard), left_out, o->memory >> 20, need);
    }
    w->limits.max_pixels = pixels;
    const int64_t fit = (o->memory - fixed) / (bytes + pixels * PER_PIXEL + PER_PICTURE);
    *threads = fit < 1 ? 1 : fit < w->team->threads ? (int)fit : w->team->threads;
done:
    return st;
}

/* Malloc'ed. Where large pictures are left out, columns of pictures say so. */
static char *method_of(const bif_hash_options *o, int number)
{
    return o->max_pixels > 0 && o->max_pixels != MOST_PIXELS && number < BIF_HASH_CAPTION
               ? bif_format("%s, of at most %" PRId64 " pixels", columns[number].method, o->max_pixels)
               : bif_strdup(columns[number].method);
}

/* Takes those columns out of w->set that exist and were made in the same way. */
static bif_status skip_made(work *w, const bif_hash_options *o, int *kept)
{
    bif_status st = BIF_OK;
    for (int c = 0; c < BIF_HASH_COLUMNS && !o->overwrite; c++) {
        bif_column *column = NULL;
        if (HAS(w->set, c)) {
            BIF_TRY(bif_column_open(w->shard, columns[c].name, &column));
            const bif_column_info *info = column != NULL ? bif_column_describe(column) : NULL;
            char *method = method_of(o, c);
            const bool same = info != NULL && strcmp(info->method, method) == 0;
            free(method);
            if (same && info->type == columns[c].type &&
                info->width == columns[c].width) {
                w->set &= ~((bif_hash_set)1 << c);
                ++*kept;
            }
            bif_column_close(column);
        }
    }
done:
    return st;
}

static bif_status write_errors(const work *w, int64_t *bad)
{
    bif_status st = BIF_OK;
    char *folder = bif_column_folder(bif_shard_path(w->shard)), *path = bif_path_join(folder, "hash-errors.jsonl");
    bif_writer *writer = NULL;
    BIF_TRY(bif_make_dirs(folder));
    BIF_TRY(bif_writer_open(path, &writer));
    for (int64_t i = 0; i < w->images; i++) {
        if (w->error[i] != NULL) {
            bif_shard_image info = {0};
            char id[33];
            BIF_TRY(bif_shard_get_image(w->shard, i, &info));
            snprintf(id, sizeof id, "%016" PRIx64 "%016" PRIx64, info.id[0], info.id[1]);
            json_t *line = json_pack("{s:I, s:s, s:s}", "image", (json_int_t)i, "id", id, "error", w->error[i]);
            char *text = json_dumps(line, JSON_COMPACT);
            json_decref(line);
            st = bif_writer_write(writer, text, strlen(text));
            st = st == BIF_OK ? bif_writer_write(writer, "\n", 1) : st;
            free(text);
            BIF_TRY(st);
            ++*bad;
        }
    }
    st = bif_writer_commit(writer);
    writer = NULL;
done:
    bif_writer_abandon(writer);
    free(folder);
    free(path);
    return st;
}

static bif_status write_columns(const work *w, const bif_hash_options *o, int *written)
{
    bif_status st = BIF_OK;
    for (int c = 0; c < BIF_HASH_COLUMNS; c++) {
        if (HAS(w->set, c)) {
            bif_column_info info = bif_hash_column(c);
            info.rows = c < BIF_HASH_CAPTION ? w->images : w->samples;
            char *method = method_of(o, c);
            info.method = method;
            st = bif_column_write(w->shard, &info, w->data[c]);
            free(method);
            BIF_TRY(st);
            ++*written;
        }
    }
done:
    return st;
}

bif_status bif_hash_shard(const bif_shard *shard, const bif_hash_options *options, const bif_team *team, const char *where,
                          bif_hash_result *result)
{
    bif_status st = BIF_OK;
    work w = {.shard = shard, .team = team, .where = where, .set = options->set, .lock = PTHREAD_MUTEX_INITIALIZER};
    int threads = 1, started = 0;
    pthread_t *thread = NULL;
    w.images = bif_shard_images(shard);
    w.samples = bif_shard_samples(shard);
    *result = (bif_hash_result){0};
    BIF_TRY(skip_made(&w, options, &result->kept));
    if (w.set == 0) {
        goto done;
    }
    w.error = bif_calloc((size_t)(w.images > 0 ? w.images : 1), sizeof *w.error);
    BIF_TRY(plan(&w, options, &threads));
    for (int c = 0; c < BIF_HASH_COLUMNS; c++) {
        if (HAS(w.set, c)) {
            const int64_t rows = c < BIF_HASH_CAPTION ? w.images : w.samples;
            w.data[c] = bif_calloc((size_t)(rows > 0 ? rows : 1), bif_column_type_size(columns[c].type) * (size_t)columns[c].width);
        }
    }
    thread = bif_calloc((size_t)threads, sizeof *thread);
    while (started + 1 < threads && pthread_create(&thread[started], NULL, thread_main, &w) == 0) {
        started++;
    }
    run(&w, true);
    for (int i = 0; i < started; i++) {
        pthread_join(thread[i], NULL);
    }
    if (w.st != BIF_OK) {
        BIF_TRY(bif_fail(w.st, "'%s': %s", bif_shard_path(shard), w.message));
    }
    if ((w.set & BIF_HASH_OF_IMAGES) != 0) {
        BIF_TRY(write_errors(&w, &result->bad_images));
        result->images = w.images;
    }
    result->samples = (w.set & ~BIF_HASH_OF_IMAGES) != 0 ? w.samples : 0;
    BIF_TRY(write_columns(&w, options, &result->columns));
done:
    for (int c = 0; c < BIF_HASH_COLUMNS; c++) {
        free(w.data[c]);
    }
    for (int64_t i = 0; w.error != NULL && i < w.images; i++) {
        free(w.error[i]);
    }
    free(w.error);
    free(thread);
    pthread_mutex_destroy(&w.lock);
    return st;
}
