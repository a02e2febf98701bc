/* Samples dropped by what is measured of their pictures, captions and scores.
 *
 * A measure is one float a sample. Of a sample with several pictures it is that of the worst one, so a rule holds for every picture. Rules
 * about pictures leave samples without pictures alone; a sample without a caption has an empty one. The caption is data/text_measures.h's;
 * every sample counts once, however often a selection repeats it. Limits are compared as floats.
 *
 * Rules come in a fixed order, whatever the order they are asked for in: thresholds as in bif_prune_kinds, then those of score columns,
 * then same-caption, then top shares. A sample is dropped by the first that hits, and a top share is of the samples that are still in:
 * DataComp's rule, scores >= that at rank int(N f) of the falling ones, from 0. */
#pragma once
#include "data/selection.h"
#include "data/team.h"
#include "data/text_measures.h"

/* What is measured; score columns follow, two a column (least and greatest of a sample). */
typedef enum {
    BIF_PRUNE_BY_DECODABLE = 0, /* 1, or 0: column pixels */
    BIF_PRUNE_BY_SIDE,          /* shorter side, pixels */
    BIF_PRUNE_BY_ASPECT,        /* longer side / shorter side */
    BIF_PRUNE_BY_DEVIATION,     /* of grey, 0 to 255: column mean_std */
    BIF_PRUNE_BY_QUALITY,       /* column pdq_quality */
    BIF_PRUNE_BY_BYTES,         /* of the file, a pixel */
    BIF_PRUNE_BY_CHARS,
    BIF_PRUNE_BY_WORDS,
    BIF_PRUNE_BY_ALPHABETIC,
    BIF_PRUNE_BY_REPETITION,
    BIF_PRUNE_BY_SCRIPT,      /* share of the letters in the scripts asked for */
    BIF_PRUNE_BY_FILE_NAME,   /* 1 or 0 */
    BIF_PRUNE_BY_CLIP,        /* cosine of NAME.image and NAME.text; -1 where one could not be made */
    BIF_PRUNE_BY_MAIN_SCRIPT, /* number of the script of most letters; only shown */
    BIF_PRUNE_MEASURES,
} bif_prune_measure;

typedef struct {
    const char *name; /* of the rule, its option and its reason */
    bif_prune_measure measure;
    char way;                /* '<': dropped below the limit, '>': above it, 't': top share */
    bool flag;               /* has no limit of its own: it is `fixed` */
    double fixed, low, high; /* range of the limit */
} bif_prune_kind;
enum { BIF_PRUNE_KINDS = 16 };
extern const bif_prune_kind bif_prune_kinds[BIF_PRUNE_KINDS];
extern const char *const bif_prune_measure_names[BIF_PRUNE_MEASURES];
int bif_prune_kind_by_name(const char *name); /* -1: none */

typedef struct {
    const char *name; /* a column of one number a row, of images or samples; no number (NaN) is dropped */
    bool has_min, has_max, has_top;
    double min, max, top;
} bif_prune_column;

typedef struct {
    bool use[BIF_PRUNE_KINDS];
    double limit[BIF_PRUNE_KINDS];
    int64_t max_same_caption;   /* of samples with one caption (bif_text_key) so many stay, those with the least uids; 0 = any number */
    const char *clip;           /* NAME of the columns NAME.image and NAME.text */
    const char *caption_column; /* captions from this text column; where it has none, and with NULL, the shard's own */
    const char *scripts;        /* list of bif_script_set, or NULL */
    int64_t repetition_words;   /* n of bif_text_repetition */
    const bif_prune_column *column;
    int64_t columns;
    bool measure;   /* everything that can be measured (columns that are missing are left out), and nothing dropped */
    int64_t memory; /* bytes of a rank */
} bif_prune_options;

enum { BIF_PRUNE_QUANTILES = 11 };
extern const double bif_prune_quantiles[BIF_PRUNE_QUANTILES]; /* shares of the samples, rising from 0 to 1 */

typedef struct {
    char *reason;
    double limit;  /* of a top share the score that it came to */
    int64_t alone; /* samples it would drop if it were the only rule */
    int64_t dropped;
} bif_prune_row;

typedef struct {
    char *name;
    int64_t samples;                     /* it was measured of */
    float quantile[BIF_PRUNE_QUANTILES]; /* the value at rank floor(q (n - 1)) of the rising ones */
} bif_prune_spread;

/* Of rank 0. */
typedef struct {
    int64_t before, after; /* samples, repeats counted */
    bif_prune_row *row;
    int64_t rows;
    bif_prune_spread *spread;
    int64_t spreads;
    int64_t script[BIF_SCRIPT_COUNT], no_script; /* samples by main script, when measuring */
} bif_prune_result;

/* Collective; the shards are shared over the ranks. Unless measuring, rank 0 adds the step "prune" to its selection, which holds the same
 * samples on all ranks. BIF_ERR_DATA: a column that is missing or was made in another way in another shard; BIF_ERR_MEMORY: over the
 * budget, with what is needed. */
bif_status bif_prune(const bif_pool *pool, bif_selection *selection, const bif_prune_options *options, const bif_team *team,
                     bif_prune_result *out);
void bif_prune_result_free(bif_prune_result *result);

/* ---- data/prune_measure.c ---- */
typedef struct {
    uint64_t key[2], uid[2]; /* caption and sample */
} bif_prune_text;

enum { BIF_PRUNE_METHODS = 6 };
/* Which measures are needed, and the columns they come from. */
typedef struct {
    const bif_pool *pool;
    const bif_prune_options *options;
    bool need[BIF_PRUNE_MEASURES];
    bool texts; /* bif_prune_text too */
    bool script[BIF_SCRIPT_COUNT];
    int slot[BIF_PRUNE_MEASURES];          /* place of a measure in a row; -1: not needed */
    int64_t slots, first_score;      /* numbers a row; place of the first score column's */
    char *method[BIF_PRUNE_METHODS]; /* in the first shard, of the columns whose names are beside; NULL: not used, or none */
    char *method_name[BIF_PRUNE_METHODS];
    char **column_method; /* [columns] */
} bif_prune_plan;

bif_status bif_prune_plan_make(const bif_pool *pool, const bif_prune_options *options, bif_prune_plan *plan);
void bif_prune_plan_free(bif_prune_plan *plan);
/* Of all samples of a shard: values [samples, slots], NaN where a measure does not apply; texts [samples] or NULL. */
bif_status bif_prune_measure_shard(const bif_prune_plan *plan, int64_t shard, float *values, bif_prune_text *texts);
