/* Values of options, and results, of the verbs that use a checkpoint. Failures are BIF_ERR_USAGE and name the option. */
#pragma once
#include "base/json.h"
#include "train/config.h"

bif_status bif_option_number(const char *name, const char *text, int64_t min, int64_t *out);
bif_status bif_option_batch(const char *name, const char *text, int64_t *out); /* 1 to 65536 */
bif_status bif_option_real(const char *name, const char *text, double *out); /* finite */
bif_status bif_option_column(const char *name, const char *text); /* what names of columns may begin with (data/column.h), at most 100 letters */
bif_status bif_option_whole_column(const char *name, const char *text); /* all of the name of one that is there */
bif_status bif_option_precision(const char *name, bif_precision *out);
bif_status bif_option_need(const char *verb, const char *name, const char *value); /* given at all */
/* Whether a result can be written at the end, asked before the work; BIF_ERR_IO too, and BIF_ERR_USAGE over a shard. NULL is allowed. */
bif_status bif_option_writable(const char *name, const char *path);
/* Whether a result would replace a file that the verb reads: BIF_ERR_USAGE. NULL is allowed, of inputs too. */
bif_status bif_option_apart(const char *name, const char *path, const char *const *inputs, size_t count);
/* Adds peak_rss_mib, writes to path unless it is NULL, and takes the summary over. */
bif_status bif_save_summary(const char *path, json_t *summary);
