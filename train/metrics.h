/* metrics.jsonl of a run: one JSON object a line, appended. Rank 0 only. */
#pragma once
#include <jansson.h>

#include "base/status.h"

typedef struct bif_metrics bif_metrics;

/* Opens OUTPUT/metrics.jsonl and cuts it to `keep` bytes (0 = new): lines written after the checkpoint that is resumed go away, so no step stands
 * twice. */
bif_status bif_metrics_open(const char *output, int64_t keep, bif_metrics **out);
void bif_metrics_close(bif_metrics *metrics); /* NULL is allowed */
/* Writes one line in a single write; takes the reference of `record`. NULL metrics: only drops it. */
bif_status bif_metrics_write(bif_metrics *metrics, json_t *record);
/* Makes what was written durable; *size = length of the file. */
bif_status bif_metrics_sync(bif_metrics *metrics, int64_t *size);
