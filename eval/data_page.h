/* Statistics of shards and of what a selection dropped, as one page without a script: every number by stage, histograms, and for each reason some
 * of the samples it dropped, beside the samples on whose account (that they duplicate). */
#pragma once
#include "data/stats.h"

typedef struct {
    const bif_data_stats *stats;
    const bif_pool *pool;
    const bif_selection *selection; /* NULL = none */
    int64_t examples;               /* of each reason, at most; which ones depends on their numbers alone */
} bif_data_page;

/* A picture that cannot be read or decoded is a sentence in its place. */
bif_status bif_data_page_write(const bif_data_page *page, const char *path);
