/* Balanced choices of samples: concepts capped as MetaCLIP caps them (Xu et al. 2024), and quotas over groups (clusters, sources,
 * languages). Who stays is a function of (seed, the sample's uid, the entry's name): neither the order of samples nor the number of ranks
 * matters. */
#pragma once
#include "data/concepts.h"
#include "data/selection.h"
#include "data/team.h"

/* ---- the arithmetic ---- */
/* The chance that one match of an entry with so many matches keeps a sample: t / max(count, t). t > 0, count >= 0. */
double bif_balance_probability(double t, double count);
/* Uniform in [0, 1), 52 bits: Philox, purpose BALANCE. what: hash of an entry's name, or 0. */
double bif_balance_draw(uint64_t seed, const uint64_t uid[2], uint64_t what);

/* One that takes part in a share-out. */
typedef struct {
    double strength; /* shares are proportional to it; >= 0 */
    int64_t most;    /* at most so many; >= 0 */
    uint64_t tie;    /* who of two with equal remainders comes first: the lesser */
} bif_balance_part;
/* quota[i] = min(x strength[i], most[i]) with the x at which they add up to size, rounded down, and one more for the greatest remainders.
 * False, and the greatest size there is in *reach, when size is above all `most` of positive strength together. */
bool bif_balance_quotas(const bif_balance_part *part, int64_t count, int64_t size, int64_t *quota, int64_t *reach);

/* ---- over a pool; collective. Records are there on rank 0 alone. ---- */
typedef struct {
    bif_drop *records; /* rising by sample */
    int64_t count;
    int64_t before, after; /* samples kept, repeats counted */
    char *method;          /* of the column that was read, the same in all shards; NULL: none. malloc'ed, there on all ranks */
} bif_balance_outcome;

typedef struct {
    const bif_concepts *concepts;
    const double *counts; /* [entries] matches in a greater pool; NULL: those of the samples that are kept so far */
    const char *caption;  /* a column of texts; NULL, and where it has none: the sample's caption or first answer */
    double t;             /* > 0; 0: from size */
    int64_t size;         /* so many samples, repeats and unmatched ones counted */
    bool expected;        /* size is of the mean over all seeds, so that t does not depend on the seed; else of this very choice */
    bool keep_unmatched;
    bool count_only;
    uint64_t seed;
    int64_t memory; /* bytes of a rank, without the concepts */
} bif_balance_by_concepts;

enum { BIF_BALANCE_FAILED_DRAWS = 0, BIF_BALANCE_NO_CONCEPT = 1 };
extern const char *const bif_balance_concept_reasons[2];

typedef struct {
    bif_balance_outcome outcome; /* value of a record: the chance to stay */
    double t, expected;          /* the mean size at this t, over all seeds */
    int64_t unmatched;           /* samples without a match */
    double *pool;                /* [entries] matches in this pool; malloc'ed */
    double *after;               /* [entries] matches in what stays; malloc'ed */
} bif_balance_concepts_result;
bif_status bif_balance_concepts(const bif_balance_by_concepts *by, const bif_pool *pool, const bif_selection *selection,
                                const bif_team *team, bif_balance_concepts_result *out);
void bif_balance_concepts_free(bif_balance_concepts_result *result);

typedef enum { BIF_GROUP_SOURCE = 0, BIF_GROUP_SCRIPT = 1, BIF_GROUP_COLUMN = 2 } bif_group_kind;

typedef struct {
    const char *name; /* "*": every group that is not named */
    double weight;
    int64_t count; /* -1: `weight` counts */
} bif_balance_wish;

typedef struct {
    bif_group_kind kind;
    const char *column; /* of COLUMN: an integer or a text a sample, or an integer an image: a sample is with its first picture */
    const bif_balance_wish *wish;
    int64_t wishes;
    int64_t size;       /* 0: none asked for */
    double alpha;       /* shares are weight times members^alpha; with size */
    int64_t cap;        /* of any group; 0: none */
    int64_t max_repeat; /* a sample so many times at most; with size */
    bool keep_ungrouped;
    uint64_t seed;
    int64_t memory;
} bif_balance_by_groups;

enum { BIF_BALANCE_OVER_QUOTA = 0, BIF_BALANCE_REPEATED = 1, BIF_BALANCE_NO_GROUP = 2 };
extern const char *const bif_balance_group_reasons[3];

typedef struct {
    char *name;
    int64_t before, after;
} bif_balance_group;

typedef struct {
    bif_balance_outcome outcome; /* value of a record: quota / members of its group */
    bif_balance_group *group;    /* sorted by name, numbers by value; on rank 0 */
    int64_t groups;
    int64_t ungrouped; /* samples */
} bif_balance_groups_result;
bif_status bif_balance_groups(const bif_balance_by_groups *by, const bif_pool *pool, const bif_selection *selection, const bif_team *team,
                              bif_balance_groups_result *out);
void bif_balance_groups_free(bif_balance_groups_result *result);
