/* Which images of a pool match by their embeddings: the cosine of NAME.image (data embed) is at least a bound. A relation as of
 * bif_near_images (data/dedup.h): images with the same numbers are one class, similarity = true, values are cosines. Pictures without an
 * embedding, and those that no sample of the part shows, match none.
 *
 * By default only images of one cluster are compared (NAME.cluster, data cluster), as SemDeDup does (Abbas et al., arXiv 2303.09540): work
 * grows with the sum of the squares of the clusters' sizes, and pairs across a border are missed. `all` compares every two.
 *
 * Every rank reads all embeddings; the comparisons are shared. Within that the pairs are exact and the same for any number of ranks,
 * threads and devices: a product of matrices finds what may match, within a margin, and a sum in double decides. */
#pragma once
#include "data/dedup.h"
#include "kernels/device.h"

typedef struct {
    const char *name; /* "clip" */
    double cosine;    /* at least; above 0, at most 1 */
    bool all;
    int64_t memory; /* bytes of this rank; BIF_ERR_MEMORY with the number needed, before the work, or when there are more pairs than fit */
} bif_semantic_options;

/* others NULL: the pairs of one pool; else those between the two, whose images are numbered behind the part's. columns: the methods of the
 * columns used are added, by name. Collective; the result is on rank 0, elsewhere zeroed. */
bif_status bif_near_embeddings(const bif_pool_part *part, const bif_pool_part *others, const bif_semantic_options *options,
                               const bif_team *team, bif_device *device, json_t *columns, bif_relation *out);
