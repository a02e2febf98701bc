/* Spherical k-means over a column of embeddings, on all ranks: rows of length 1 go to the centroid with the largest cosine, centroids
 * become the direction of the sum of their rows. Nothing depends on the number of ranks or threads: sums are of whole numbers (rows rounded
 * to multiples of 2^-24), cosines of the chosen centroid are computed alone and in double. Rows of zeros belong to no cluster. */
#pragma once
#include "data/pool.h"
#include "data/team.h"
#include "kernels/device.h"

#define BIF_NO_CLUSTER UINT32_MAX

typedef struct {
    const char *name;   /* of the embeddings: NAME.image, or NAME.text with `text` */
    bool text;
    int64_t clusters;   /* K; with `assign` what the file says */
    int64_t iterations; /* at most; it ends before when no centroid moves */
    uint64_t seed;
    const char *assign; /* NULL, or a file of centroids: rows are only assigned to these */
    const char *save;   /* NULL, or where the centroids go: f32 [K, width], .npy */
    int64_t memory;     /* bytes that a rank may take */
    bool overwrite;
} bif_cluster_options;

typedef struct {
    int64_t rows, empty_rows; /* clustered, and without an embedding */
    int64_t clusters, used;   /* K, and those that have members */
    int64_t iterations, refilled; /* done; empty clusters that were given half of the largest one */
    bool settled;                 /* no centroid moved any more */
    double distance;              /* mean of 1 - cosine to the centroid, of the written columns */
    int64_t columns, present;     /* made, and found there */
    int64_t *size;                /* [clusters] members; malloc'ed, the caller's */
} bif_cluster_result;

/* Writes NAME.cluster u32 and NAME.cluster_distance f32 (of texts: NAME.text_cluster, NAME.text_cluster_distance); BIF_NO_CLUSTER and NaN
 * where there is no embedding. They start as K rows drawn by (seed, the picture's id; of texts the sample's uid), each id at most once;
 * where that is affordable, by k-means++ among a few times as many. A cluster that runs empty becomes half of the largest one.
 * BIF_ERR_DATA: missing or odd columns, fewer distinct rows than clusters; BIF_ERR_MEMORY: `memory` is too little (the message says how
 * much it takes). Collective. */
bif_status bif_cluster(const bif_pool *pool, const bif_team *team, bif_device *device, const bif_cluster_options *options,
                       bif_cluster_result *result);

/* A file of centroids: f32 [K, width] .npy, scaled to length 1; *out malloc'ed. BIF_ERR_DATA: another shape or type, a row that is no
 * direction. */
bif_status bif_centroids_read(const char *path, float **out, int64_t *clusters, int64_t *width);
