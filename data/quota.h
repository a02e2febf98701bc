/* How many members of each cluster stay when a balanced choice of a given size is wanted (the sampling of Vo et al., "Automatic data
 * curation for self-supervised learning", arXiv 2405.15613, 3.3). Pure functions of their arguments. */
#pragma once
#include "base/status.h"

/* Equal quotas capped by size: quota[i] = min(x, size[i]) with the greatest x whose sum does not exceed target, and what is left of the
 * target, less than one for each larger cluster, goes one each to those of them with the smallest draws of (seed, cluster number):
 * bif_philox, purpose CLUSTER. So the quotas add up to the target, or to all members where these are fewer. size [count], each >= 0,
 * together below 2^62; target >= 0. Returns x. */
int64_t bif_quota_equal(const int64_t *size, int64_t count, int64_t target, uint64_t seed, int64_t *quota);

/* The same down a tree of two levels: equal quotas over the parents first (capped by what their clusters hold together), then over the
 * clusters of each. parent[i] < parents is that of cluster i. */
void bif_quota_nested(const int64_t *size, const int64_t *parent, int64_t count, int64_t parents, int64_t target, uint64_t seed,
                      int64_t *quota);
