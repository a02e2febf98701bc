#include "eval/cluster.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/half.h"
#include "base/log.h"
#include "data/npy.h"
#include "eval/cluster_parts.h"
#include "kernels/ops.h"

#define SCORES ((int64_t)16 << 20) /* floats of one chunk's cosines */
#define FILE_CAP ((size_t)1 << 40)
enum { SAY_SECONDS = 10 };

typedef struct {
    bif_cluster_job job;
    bif_device *device;
    int64_t chunk;     /* rows at a time: fixed by K, and cut the same way on any rank */
    float *centroid;   /* [K, width] */
    void *memory;      /* of the device: the centroids, rows, their cosines and the places of the largest */
    bif_tensor w, x, y, index;
    float *unit;       /* [chunk, width] */
    bool *there;       /* [chunk] */
    int32_t *cluster;  /* [chunk] */
    double *distance;  /* [chunk] */
    double *sum;       /* [K, width]: whole numbers, multiples of `grid` */
    double *count;     /* [K + 2]: members; then distances in multiples of 2^-20, and rows without an embedding */
    double grid;
    const char *method; /* of the written columns */
    bif_cluster_result result;
    int64_t rows_done; /* of this pass, on this rank */
    struct timespec begin, said;
} clustering;

/* ---- one pass ---- */

/* Cluster and distance of up to `chunk` rows. The device finds the centroid; the distance is computed here, so that it does not depend on
 * how a product is cut. */
static void assign_chunk(clustering *c, const uint16_t *rows, int64_t count)
{
    const int64_t width = c->job.width;
    bif_device *device = c->device;
    bif_tensor x = bif_rows(&c->x, 0, count), y = bif_rows(&c->y, 0, count), index = bif_rows(&c->index, 0, count);
#pragma omp parallel for schedule(static) num_threads(c->job.team->threads)
    for (int64_t i = 0; i < count; i++) {
        c->there[i] = bif_unit_row(rows + i * width, width, c->unit + i * width);
    }
    device->copy_in(device, x.data, c->unit, bif_bytes(&x));
    bif_linear(device, &(bif_linear_args){.x = &x, .w = &c->w, .y = &y});
    bif_argmax(device, &(bif_argmax_args){.x = &y, .index = &index});
    device->copy_out(device, c->cluster, index.data, bif_bytes(&index));
#pragma omp parallel for schedule(static) num_threads(c->job.team->threads)
    for (int64_t i = 0; i < count; i++) {
        const float *a = c->unit + i * width, *b = c->centroid + (int64_t)c->cluster[i] * width;
        double cosine = 0.0;
        for (int64_t k = 0; k < width; k++) {
            cosine += (double)a[k] * (double)b[k];
        }
        c->distance[i] = cosine < 1.0 ? 1.0 - cosine : 0.0;
    }
}

/* Sums of whole numbers come in any order: a thread takes the rows of its clusters. */
static void add_chunk(clustering *c, int64_t count)
{
    const int64_t width = c->job.width;
#pragma omp parallel for schedule(static) num_threads(c->job.team->threads)
    for (int part = 0; part < c->job.team->threads; part++) {
        for (int64_t i = 0; i < count; i++) {
            if (c->there[i] && c->cluster[i] % c->job.team->threads == part) {
                double *sum = c->sum + (int64_t)c->cluster[i] * width;
                const float *row = c->unit + i * width;
                for (int64_t k = 0; k < width; k++) {
                    sum[k] += rint((double)row[k] * c->grid);
                }
                c->count[c->cluster[i]] += 1.0;
            }
        }
    }
}

static void tally_chunk(clustering *c, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        c->count[c->job.clusters] += c->there[i] ? rint(c->distance[i] * 0x1p20) : 0.0;
        c->count[c->job.clusters + 1] += !c->there[i];
    }
}

static double seconds_since(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + 1e-9 * (double)(now.tv_nsec - from->tv_nsec);
}

/* After a chunk: the other ranks may fetch shards, and in a long pass there is a line every few seconds. */
static void breathe(clustering *c, int64_t count)
{
    c->rows_done += count;
    c->job.team->poll(c->job.team->context);
    if (seconds_since(&c->said) >= SAY_SECONDS) {
        clock_gettime(CLOCK_MONOTONIC, &c->said);
        bif_info("k-means: %lld rows of this pass on this rank, %.0f s", (long long)c->rows_done, seconds_since(&c->begin));
    }
}

static bif_status sum_shard(void *argument, int64_t number)
{
    bif_status st = BIF_OK;
    clustering *c = argument;
    const void *data = NULL;
    int64_t rows = 0;
    BIF_TRY(bif_pool_column_at(&c->job.rows, number, &data, &rows));
    for (int64_t at = 0; at < rows; at += c->chunk) {
        const int64_t count = rows - at < c->chunk ? rows - at : c->chunk;
        assign_chunk(c, (const uint16_t *)data + at * c->job.width, count);
        add_chunk(c, count);
        tally_chunk(c, count);
        breathe(c, count);
    }
done:
    return st;
}

static void give_centroids(clustering *c)
{
    c->device->copy_in(c->device, c->w.data, c->centroid, bif_bytes(&c->w));
}

/* A cluster without members and the largest one become two directions a little off the largest one's, each with half of the members. */
static void refill(clustering *c, int64_t empty)
{
    const int64_t width = c->job.width;
    int64_t largest = 0;
    for (int64_t k = 1; k < c->job.clusters; k++) {
        largest = c->count[k] > c->count[largest] ? k : largest;
    }
    float *a = c->centroid + largest * width, *b = c->centroid + empty * width;
    for (int64_t i = 0; i < width; i++) {
        const float step = (i & 1) != 0 ? 0x1p-10f : -0x1p-10f;
        b[i] = a[i] * (1.0f + step);
        a[i] = a[i] * (1.0f - step);
    }
    c->count[empty] = floor(0.5 * c->count[largest]);
    c->count[largest] -= c->count[empty];
    c->result.refilled++;
}

/* Centroids of the sums; false when none moved. All ranks compute the same. */
static bool move(clustering *c)
{
    const int64_t width = c->job.width, clusters = c->job.clusters;
    bool moved = false;
    for (int64_t k = 0; k < clusters; k++) {
        const double *sum = c->sum + k * width;
        double square = 0.0;
        for (int64_t i = 0; i < width; i++) {
            square += sum[i] * sum[i];
        }
        for (int64_t i = 0; i < width && square > 0.0; i++) { /* rows that cancel out leave the centroid where it is */
            const float next = (float)(sum[i] / sqrt(square));
            moved |= next != c->centroid[k * width + i];
            c->centroid[k * width + i] = next;
        }
    }
    for (int64_t k = 0; k < clusters; k++) {
        if (c->count[k] == 0.0) {
            refill(c, k);
            moved = true;
        }
    }
    return moved;
}

static bif_status iterate(clustering *c)
{
    bif_status st = BIF_OK;
    const bif_team *team = c->job.team;
    const int64_t clusters = c->job.clusters;
    for (int64_t i = 0; i < c->job.options->iterations && !c->result.settled; i++) {
        give_centroids(c);
        c->rows_done = 0;
        memset(c->sum, 0, (size_t)(clusters * c->job.width) * sizeof *c->sum);
        memset(c->count, 0, (size_t)(clusters + 2) * sizeof *c->count);
        BIF_TRY(team->share(team->context, c->job.pool->shards, sum_shard, c));
        team->sum(team->context, c->sum, clusters * c->job.width);
        team->sum(team->context, c->count, clusters + 2);
        const double rows = (double)(c->job.options->text ? c->job.pool->samples : c->job.pool->images) - c->count[clusters + 1];
        c->result.settled = !move(c);
        c->result.iterations++;
        bif_info("k-means: pass %lld, mean distance %.6f, %.1f s", (long long)c->result.iterations,
                 rows > 0 ? c->count[clusters] * 0x1p-20 / rows : 0.0, seconds_since(&c->begin));
        clock_gettime(CLOCK_MONOTONIC, &c->said);
    }
done:
    return st;
}

/* ---- the columns ---- */

/* Malloc'ed. hex: the digest of the centroids. */
static char *method_of(const clustering *c, const char *hex)
{
    return bif_format("cluster 1: nearest of %lld centroids %s in %s; %s", (long long)c->job.clusters, hex, c->job.rows.name, c->job.rows.method);
}

static bif_status find(const clustering *c, const bif_shard *shard, const bif_column_info *want, bool *made)
{
    bif_column *column = NULL;
    *made = false;
    bif_status st = bif_column_open(shard, want->name, &column);
    if (st == BIF_OK && column != NULL) {
        const bif_column_info *have = bif_column_describe(column);
        *made = have->of == want->of && have->type == want->type && have->width == 1 && strcmp(have->method, want->method) == 0;
        if (!*made && !c->job.options->overwrite) {
            st = bif_fail(BIF_ERR_DATA, "%s: its column %s was made in another way (\"%s\"); --overwrite replaces it",
                          bif_shard_path(shard), want->name, have->method);
        }
        bif_column_close(column);
    } else if (st == BIF_ERR_DATA && c->job.options->overwrite) {
        bif_error_clear();
        st = BIF_OK;
    }
    return st;
}

/* Before the work: refuses where a column is in the way that was made in another way. The digest of centroids that are not made yet is taken
 * from the column itself. */
static bif_status look(const clustering *c)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    char *name = bif_format("%s.%scluster", c->job.options->name, c->job.options->text ? "text_" : ""), *method = NULL, hex[33] = "";
    for (int64_t s = 0; s < c->job.pool->shards && !c->job.options->overwrite; s++) {
        BIF_TRY(bif_pool_shard(c->job.pool, s, &shard));
        BIF_TRY(bif_column_open(shard, name, &column));
        if (c->centroid != NULL) {
            bif_digest_bytes(c->centroid, (size_t)(c->job.clusters * c->job.width) * sizeof *c->centroid, hex);
        } else if (column != NULL) {
            (void)sscanf(bif_column_describe(column)->method, "cluster 1: nearest of %*d centroids %32[0-9a-f]", hex);
        }
        method = method_of(c, hex);
        const bif_column_info want = {.name = name, .method = method, .of = c->job.rows.of, .type = BIF_COLUMN_U32, .width = 1};
        bool made = false;
        BIF_TRY(find(c, shard, &want, &made));
        free(method);
        method = NULL;
        bif_column_close(column);
        column = NULL;
        bif_shard_close(shard);
        shard = NULL;
    }
done:
    free(method);
    free(name);
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

static bif_status write_one(clustering *c, const bif_shard *shard, const char *what, bif_column_type type, const void *data)
{
    bif_status st = BIF_OK;
    const bool text = c->job.options->text;
    char *name = bif_format("%s.%s%s", c->job.options->name, text ? "text_" : "", what);
    const bif_column_info info = {.name = name,
                                  .method = c->method,
                                  .of = c->job.rows.of,
                                  .type = type,
                                  .rows = text ? bif_shard_samples(shard) : bif_shard_images(shard),
                                  .width = 1};
    bool made = false;
    BIF_TRY(find(c, shard, &info, &made));
    if (!made) {
        BIF_TRY(bif_column_write(shard, &info, data));
    }
    c->result.columns += !made;
    c->result.present += made;
done:
    free(name);
    return st;
}

static bif_status write_shard(void *argument, int64_t number)
{
    bif_status st = BIF_OK;
    clustering *c = argument;
    bif_shard *shard = NULL;
    const void *data = NULL;
    int64_t rows = 0;
    uint32_t *cluster = NULL;
    float *distance = NULL;
    BIF_TRY(bif_pool_shard(c->job.pool, number, &shard));
    BIF_TRY(bif_pool_column_at(&c->job.rows, number, &data, &rows));
    cluster = bif_calloc((size_t)rows + 1, sizeof *cluster);
    distance = bif_calloc((size_t)rows + 1, sizeof *distance);
    for (int64_t at = 0; at < rows; at += c->chunk) {
        const int64_t count = rows - at < c->chunk ? rows - at : c->chunk;
        assign_chunk(c, (const uint16_t *)data + at * c->job.width, count);
        tally_chunk(c, count);
        for (int64_t i = 0; i < count; i++) {
            cluster[at + i] = c->there[i] ? (uint32_t)c->cluster[i] : BIF_NO_CLUSTER;
            distance[at + i] = c->there[i] ? (float)c->distance[i] : NAN;
            c->count[c->cluster[i]] += c->there[i];
        }
        breathe(c, count);
    }
    BIF_TRY(write_one(c, shard, "cluster", BIF_COLUMN_U32, cluster));
    BIF_TRY(write_one(c, shard, "cluster_distance", BIF_COLUMN_F32, distance));
done:
    free(cluster);
    free(distance);
    bif_shard_close(shard);
    return st;
}

static bif_status write_columns(clustering *c)
{
    bif_status st = BIF_OK;
    const bif_team *team = c->job.team;
    const int64_t clusters = c->job.clusters;
    char hex[33];
    bif_digest_bytes(c->centroid, (size_t)(clusters * c->job.width) * sizeof *c->centroid, hex);
    char *method = method_of(c, hex);
    c->method = method;
    c->rows_done = 0;
    give_centroids(c);
    memset(c->count, 0, (size_t)(clusters + 2) * sizeof *c->count);
    BIF_TRY(team->share(team->context, c->job.pool->shards, write_shard, c));
    double columns[2] = {(double)c->result.columns, (double)c->result.present};
    team->sum(team->context, columns, 2);
    team->sum(team->context, c->count, clusters + 2);
    bif_cluster_result *r = &c->result;
    r->columns = (int64_t)columns[0];
    r->present = (int64_t)columns[1];
    r->clusters = clusters;
    r->size = bif_calloc((size_t)clusters, sizeof *r->size);
    for (int64_t k = 0; k < clusters; k++) {
        r->size[k] = (int64_t)c->count[k];
        r->rows += r->size[k];
        r->used += r->size[k] > 0;
    }
    r->empty_rows = (int64_t)c->count[clusters + 1];
    r->distance = r->rows > 0 ? c->count[clusters] * 0x1p-20 / (double)r->rows : 0.0;
done:
    c->method = NULL;
    free(method);
    return st;
}

/* ---- centroids on disk ---- */

static bif_status save_centroids(const char *path, const float *centroid, int64_t clusters, int64_t width)
{
    bif_status st = BIF_OK;
    bif_writer *writer = NULL;
    char head[BIF_NPY_HEAD];
    const int64_t shape[2] = {clusters, width};
    BIF_TRY(bif_writer_open(path, &writer));
    BIF_TRY(bif_writer_write(writer, head, bif_npy_head("<f4", 2, shape, head)));
    BIF_TRY(bif_writer_write(writer, centroid, (size_t)(clusters * width) * sizeof *centroid));
    st = bif_writer_commit(writer);
    writer = NULL;
done:
    bif_writer_abandon(writer);
    return st;
}

bif_status bif_centroids_read(const char *path, float **out, int64_t *clusters, int64_t *width)
{
    bif_status st = BIF_OK;
    char *bytes = NULL;
    size_t size = 0;
    bif_npy npy;
    *out = NULL;
    BIF_TRY(bif_file_read(path, FILE_CAP, &bytes, &size));
    BIF_TRY(bif_npy_read(path, bytes, size, &npy));
    if (strcmp(npy.type, "<f4") != 0 || npy.dims != 2 || npy.shape[0] < 1 || npy.shape[0] > INT32_MAX || npy.shape[1] < 1) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: centroids are a matrix of f32, a row for each; this is %lld x %lld of '%s'", path,
                         (long long)npy.shape[0], (long long)npy.shape[1], npy.type));
    }
    *clusters = npy.shape[0];
    *width = npy.shape[1];
    *out = bif_malloc((size_t)npy.count * sizeof **out);
    memcpy(*out, bytes + npy.at, (size_t)npy.count * sizeof **out);
    for (int64_t k = 0; k < *clusters; k++) {
        float *row = *out + k * *width;
        double square = 0.0;
        for (int64_t i = 0; i < *width; i++) {
            square += (double)row[i] * (double)row[i];
        }
        if (!(square > 0.0) || !isfinite(square)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: row %lld is no direction (all zero, or not finite)", path, (long long)k));
        }
        for (int64_t i = 0; i < *width && fabs(square - 1.0) > 1e-6; i++) { /* what bif_cluster wrote stays as it is, to the bit */
            row[i] = (float)((double)row[i] / sqrt(square));
        }
    }
done:
    free(bytes);
    if (st != BIF_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

/* ---- all of it ---- */

static void plan(clustering *c, bif_arena *arena)
{
    c->w = bif_take2(arena, BIF_DTYPE_F32, c->job.clusters, c->job.width);
    c->x = bif_take2(arena, BIF_DTYPE_F32, c->chunk, c->job.width);
    c->y = bif_take2(arena, BIF_DTYPE_F32, c->chunk, c->job.clusters);
    c->index = bif_take1(arena, BIF_DTYPE_I32, c->chunk);
}

/* Everything is asked for before the work, and refused where it is too much. */
static bif_status open_all(clustering *c)
{
    bif_status st = BIF_OK;
    const bif_cluster_options *o = c->job.options;
    const int64_t all = o->text ? c->job.pool->samples : c->job.pool->images;
    char *name = bif_format("%s.%s", o->name, o->text ? "text" : "image");
    st = bif_pool_column_open(c->job.pool, name, o->text ? BIF_COLUMN_OF_SAMPLE : BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F16, 0,
                              "run bifocal data embed", &c->job.rows);
    free(name);
    BIF_TRY(st);
    c->job.clusters = o->clusters;
    c->job.width = c->job.rows.width;
    if (o->assign != NULL) {
        int64_t width = 0;
        BIF_TRY(bif_centroids_read(o->assign, &c->centroid, &c->job.clusters, &width));
        if (width != c->job.width) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: centroids of %lld numbers; column %s has %lld", o->assign, (long long)width,
                             c->job.rows.name, (long long)c->job.width));
        }
    }
    const int64_t clusters = c->job.clusters;
    int64_t size = 0;
    if (clusters < 1 || clusters > INT32_MAX || !bif_mul_i64(clusters, 64 * c->job.width, &size)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%lld clusters cannot be made", (long long)clusters));
    }
    const int64_t fit = SCORES / clusters;
    c->chunk = fit < 64 ? 64 : fit > 4096 ? 4096 : fit;
    bif_arena arena = bif_arena_measure("k-means");
    plan(c, &arena);
    size = (int64_t)arena.peak + clusters * c->job.width * (int64_t)(sizeof(float) + 2 * sizeof(double)) + /* sums are exchanged */
           c->chunk * (c->job.width * (int64_t)sizeof(float) + 16);
    const int64_t start = o->assign == NULL ? bif_cluster_start_bytes(clusters, c->job.width, all) : 0;
    if (size + start > o->memory) {
        BIF_TRY(bif_fail(BIF_ERR_MEMORY, "k-means with %lld clusters of %lld numbers takes %lld MiB a rank, and --memory-mib allows %lld",
                         (long long)clusters, (long long)c->job.width, (long long)((size + start) >> 20) + 1,
                         (long long)(o->memory >> 20)));
    }
    BIF_TRY(c->job.team->rank == 0 ? look(c) : BIF_OK);
    BIF_TRY(c->device->alloc(c->device, arena.peak, &c->memory));
    arena = bif_arena_over("k-means", c->memory, arena.peak);
    plan(c, &arena);
    c->grid = exp2(fmin(24.0, 52.0 - ceil(log2((double)all + 1.0))));
    if (c->centroid == NULL) {
        c->centroid = bif_calloc((size_t)(clusters * c->job.width), sizeof *c->centroid);
    }
    c->unit = bif_calloc((size_t)(c->chunk * c->job.width), sizeof *c->unit);
    c->there = bif_calloc((size_t)c->chunk, sizeof *c->there);
    c->cluster = bif_calloc((size_t)c->chunk, sizeof *c->cluster);
    c->distance = bif_calloc((size_t)c->chunk, sizeof *c->distance);
    c->sum = bif_calloc((size_t)(clusters * c->job.width), sizeof *c->sum);
    c->count = bif_calloc((size_t)clusters + 2, sizeof *c->count);
done:
    return st;
}

bif_status bif_cluster(const bif_pool *pool, const bif_team *team, bif_device *device, const bif_cluster_options *options,
                       bif_cluster_result *result)
{
    bif_status st = BIF_OK;
    clustering c = {.job = {.pool = pool, .team = team, .options = options}, .device = device};
    clock_gettime(CLOCK_MONOTONIC, &c.begin);
    c.said = c.begin;
    *result = (bif_cluster_result){0};
    BIF_TRY(team->agree(team->context, open_all(&c)));
    if (options->assign == NULL) {
        BIF_TRY(bif_cluster_start(&c.job, c.centroid));
        BIF_TRY(iterate(&c));
    }
    if (options->save != NULL) { /* first, so that columns which cannot be written cost no second k-means: --assign goes on */
        st = team->rank == 0 ? save_centroids(options->save, c.centroid, c.job.clusters, c.job.width) : BIF_OK;
        BIF_TRY(team->agree(team->context, st));
    }
    BIF_TRY(write_columns(&c));
    *result = c.result;
    c.result.size = NULL;
done:
    if (c.memory != NULL) {
        device->release(device, c.memory);
    }
    bif_pool_column_close(&c.job.rows);
    free(c.centroid);
    free(c.unit);
    free(c.there);
    free(c.cluster);
    free(c.distance);
    free(c.sum);
    free(c.count);
    free(c.result.size);
    return st;
}
