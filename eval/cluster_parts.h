/* What the files of eval/cluster*.c share. */
#pragma once
#include "eval/cluster.h"
#include "eval/pool_column.h"

typedef struct {
    const bif_pool *pool;
    const bif_team *team;
    const bif_cluster_options *options;
    bif_pool_column rows; /* the embeddings */
    int64_t clusters, width;
} bif_cluster_job;

/* Where clusters start: centroid f32 [clusters, width], the same on all ranks. Collective. (eval/cluster_start.c) */
bif_status bif_cluster_start(bif_cluster_job *job, float *centroid);
/* Bytes that takes on a rank. */
int64_t bif_cluster_start_bytes(int64_t clusters, int64_t width, int64_t rows);
