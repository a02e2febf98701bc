/* Where k-means starts: rows drawn by what they are, not by where they lie, so that shards may be named and dealt in any way. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/rng.h"
#include "eval/cluster_parts.h"

#define PLUS_PLUS ((int64_t)1 << 37) /* products of k-means++ that are thought affordable: half a minute of two cores */
enum { STARTS = 8, SUB_ROW = 0, SUB_STEP = 1 }; /* candidates a cluster; subs of the draws */

typedef struct {
    uint64_t key;    /* the draw of the id: the same for the same picture */
    uint64_t number; /* in the pool */
} candidate;

typedef struct {
    bif_cluster_job *job;
    candidate *list;
    int64_t count, room, wanted;
    float *unit; /* [width] */
} drawing;

/* How many rows are drawn: as many as clusters, or where k-means++ chooses among them, more. */
static int64_t candidates_for(int64_t clusters, int64_t width, int64_t rows)
{
    int64_t more = STARTS * clusters < 4096 ? 4096 : STARTS * clusters, products = 0;
    more = more < rows ? more : rows;
    const bool affordable = bif_mul_i64(more, clusters, &products) && bif_mul_i64(products, width, &products) && products <= PLUS_PLUS;
    return affordable && more > clusters ? more : clusters;
}

int64_t bif_cluster_start_bytes(int64_t clusters, int64_t width, int64_t rows)
{
    const int64_t wanted = candidates_for(clusters, width, rows);
    return wanted * (3 * (int64_t)sizeof(candidate) + (wanted > clusters ? width * (int64_t)sizeof(float) + 16 : 0));
}

static int compare(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    return a->key != b->key ? (a->key < b->key ? -1 : 1) : (a->number < b->number ? -1 : a->number > b->number);
}

/* Sorted, of equal keys the first, of all the least `wanted`. */
static void thin_out(candidate *list, int64_t *count, int64_t wanted)
{
    int64_t kept = 0;
    qsort(list, (size_t)*count, sizeof *list, compare);
    for (int64_t i = 0; i < *count && kept < wanted; i++) {
        if (kept == 0 || list[i].key != list[kept - 1].key) {
            list[kept++] = list[i];
        }
    }
    *count = kept;
}

static bif_status key_of(const drawing *d, const bif_shard *shard, int64_t row, uint64_t *key)
{
    bif_status st = BIF_OK;
    uint64_t id[2];
    uint32_t word[4];
    bif_shard_image image;
    if (d->job->options->text) {
        BIF_TRY(bif_sample_uid(shard, row, id));
    } else {
        BIF_TRY(bif_shard_get_image(shard, row, &image));
        memcpy(id, image.id, sizeof id);
    }
    bif_philox(d->job->options->seed, BIF_RNG_CLUSTER, id[0] * 0x9e3779b97f4a7c15u + id[1], SUB_ROW, word);
    *key = (uint64_t)word[0] << 32 | word[1];
done:
    return st;
}

static bif_status draw_shard(void *argument, int64_t number)
{
    bif_status st = BIF_OK;
    drawing *d = argument;
    bif_cluster_job *job = d->job;
    bif_shard *shard = NULL;
    const void *data = NULL;
    int64_t rows = 0;
    const int64_t first = (job->options->text ? job->pool->first_sample : job->pool->first_image)[number];
    BIF_TRY(bif_pool_column_at(&job->rows, number, &data, &rows));
    BIF_TRY(bif_pool_shard(job->pool, number, &shard));
    for (int64_t i = 0; i < rows; i++) {
        candidate c = {.number = (uint64_t)(first + i)};
        if (!bif_unit_row((const uint16_t *)data + i * job->width, job->width, d->unit)) {
            continue;
        }
        BIF_TRY(key_of(d, shard, i, &c.key));
        if (d->count == d->room) {
            thin_out(d->list, &d->count, d->wanted);
        }
        d->list[d->count++] = c;
        if (i % 65536 == 65535) {
            job->team->poll(job->team->context);
        }
    }
done:
    bif_shard_close(shard);
    return st;
}

static float dot(const float *a, const float *b, int64_t n)
{
    float sum[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int k = 0; k < 8; k++) {
            sum[k] += a[i + k] * b[i + k];
        }
    }
    for (; i < n; i++) {
        sum[0] += a[i] * b[i];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* k-means++ (Arthur, Vassilvitskii 2007): each next start is drawn with a probability that is proportional to its squared distance from the
 * nearest so far, 2 (1 - cosine). On rank 0 alone. */
static bif_status plus_plus(bif_cluster_job *job, const candidate *list, int64_t count, uint64_t *chosen)
{
    bif_status st = BIF_OK;
    const int64_t width = job->width;
    float *x = bif_calloc((size_t)(count * width), sizeof *x), *far = bif_calloc((size_t)count, sizeof *far);
    int64_t at = 0, spare = 0;
    for (int64_t i = 0; i < count; i++) {
        const void *row = NULL;
        BIF_TRY(bif_pool_column_row(&job->rows, (int64_t)list[i].number, &row));
        bif_unit_row(row, width, x + i * width);
        far[i] = 2.0f;
    }
    for (int64_t k = 0; k < job->clusters; k++) {
        chosen[k] = list[at].number;
        const float *start = x + at * width;
        far[at] = -1.0f; /* taken */
        double sum = 0.0;
#pragma omp parallel for schedule(static) num_threads(job->team->threads)
        for (int64_t i = 0; i < count; i++) {
            const float distance = 1.0f - dot(x + i * width, start, width);
            far[i] = far[i] < 0.0f ? far[i] : fminf(far[i], fmaxf(distance, 0.0f));
        }
        for (int64_t i = 0; i < count; i++) {
            sum += far[i] > 0.0f ? (double)far[i] : 0.0;
        }
        uint32_t word[4];
        bif_philox(job->options->seed, BIF_RNG_CLUSTER, (uint64_t)k, SUB_STEP, word);
        const double goal = ((double)word[0] + 0.5) * 0x1p-32 * sum;
        double passed = 0.0;
        at = -1;
        for (int64_t i = 0; i < count && sum > 0.0 && passed < goal; i++) {
            passed += far[i] > 0.0f ? (double)far[i] : 0.0;
            at = far[i] > 0.0f ? i : at;
        }
        while (at < 0 && k + 1 < job->clusters) { /* all that is left lies on starts: in the order of the draw */
            at = far[spare] >= 0.0f ? spare : -1;
            spare++;
        }
        job->team->poll(job->team->context);
    }
done:
    free(x);
    free(far);
    return st;
}

/* Rank 0: of all ranks' candidates the numbers of the rows to start with. */
static bif_status choose(bif_cluster_job *job, candidate *list, int64_t count, int64_t wanted, uint64_t *chosen)
{
    thin_out(list, &count, wanted);
    if (count < job->clusters) {
        return bif_fail(BIF_ERR_DATA, "%lld clusters of %lld distinct rows of column %s cannot be made", (long long)job->clusters,
                        (long long)count, job->rows.name);
    }
    if (count > job->clusters && wanted > job->clusters) {
        return plus_plus(job, list, count, chosen);
    }
    for (int64_t k = 0; k < job->clusters; k++) {
        chosen[k] = list[k].number;
    }
    return BIF_OK;
}

bif_status bif_cluster_start(bif_cluster_job *job, float *centroid)
{
    bif_status st = BIF_OK;
    const bif_team *team = job->team;
    const int64_t rows = job->options->text ? job->pool->samples : job->pool->images;
    drawing d = {.job = job, .wanted = candidates_for(job->clusters, job->width, rows)};
    char *all = NULL;
    size_t total = 0;
    uint64_t *chosen = bif_calloc((size_t)job->clusters, sizeof *chosen);
    d.room = 2 * d.wanted;
    d.list = bif_calloc((size_t)d.room, sizeof *d.list);
    d.unit = bif_calloc((size_t)job->width, sizeof *d.unit);
    BIF_TRY(team->share(team->context, job->pool->shards, draw_shard, &d));
    thin_out(d.list, &d.count, d.wanted);
    team->gather(team->context, d.list, (size_t)d.count * sizeof *d.list, &all, &total);
    if (team->rank == 0) {
        st = choose(job, (candidate *)(void *)all, (int64_t)(total / sizeof(candidate)), d.wanted, chosen);
    }
    BIF_TRY(team->agree(team->context, st));
    team->broadcast(team->context, chosen, (size_t)job->clusters * sizeof *chosen);
    for (int64_t k = 0; k < job->clusters && st == BIF_OK; k++) {
        const void *row = NULL;
        st = bif_pool_column_row(&job->rows, (int64_t)chosen[k], &row);
        if (st == BIF_OK) {
            bif_unit_row(row, job->width, centroid + k * job->width);
        }
    }
    st = team->agree(team->context, st);
done:
    free(d.list);
    free(d.unit);
    free(all);
    free(chosen);
    return st;
}
