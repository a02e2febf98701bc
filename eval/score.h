/* Scoring apart from running: anybody's predictions against a benchmark's own reference files. One task a benchmark (eval/task_*.c), each with its
 * parser and its metric to the letter of the official scorer; what all of them share is here: files, ids, missing and unknown ids, intervals.
 *
 * Nothing is drawn at random but the bootstrap, and that from a fixed seed. An answer that cannot be parsed is wrong, and counted. */
#pragma once
#include "base/json_scan.h"

/* Whose rules make two answers equal, where harnesses disagree (tasks with `norms`). */
typedef enum { BIF_NORM_OFFICIAL = 0, BIF_NORM_M4C = 1, BIF_NORM_LMMS = 2, BIF_NORM_VLMEVALKIT = 3, BIF_NORMS = 4 } bif_norm;
const char *bif_norm_name(bif_norm norm);
bif_status bif_norm_by_name(const char *name, bif_norm *out); /* BIF_ERR_USAGE lists the names */

#define BIF_SCORE_GROUPS 3
#define BIF_SCORE_VALUES 4

/* One question. Spans point into the files of the set or into memory of bif_score_take. */
typedef struct {
    /* of the references */
    bif_span id;
    bif_span cluster;                 /* what the bootstrap draws together, usually the picture; size 0 = the question for itself */
    bif_span group[BIF_SCORE_GROUPS]; /* its value in each dimension of the task; size 0 = none */
    const bif_span *answers;          /* [answer_count]; what they mean is the task's affair */
    int64_t answer_count;
    void *more;                       /* the task's own, or NULL */
    /* of the predictions */
    bif_span prediction;
    int64_t line;  /* where it stands in its file; 0 = missing */
    /* written by the task's `score` */
    double score;                     /* mostly in [0, 1] */
    double value[BIF_SCORE_VALUES];   /* the task's own numbers */
    bool unparsed;                    /* no answer could be read out of the prediction */
    bif_span parsed;                  /* what was compared, for reports; text NULL = the prediction as it is */
    /* written by bif_score_prepare */
    int32_t group_index[BIF_SCORE_GROUPS]; /* into set->group[d]; -1 = none */
    int32_t cluster_index;
} bif_score_item;

typedef struct {
    char name[96];  /* "accuracy", "accuracy/question_type/how many", "F1/random", ...: the first of a task is its headline */
    double value;   /* as the benchmark prints it, mostly 0 to 100; NaN where there is nothing to measure */
    int64_t count;  /* questions it rests on */
} bif_metric;
typedef struct {
    bif_metric *items; /* malloc'ed */
    size_t count, capacity;
} bif_metric_list;
void bif_metric_add(bif_metric_list *list, double value, int64_t count, const char *name, ...) __attribute__((format(printf, 4, 5)));

typedef struct bif_score_set bif_score_set;

typedef struct {
    const char *name;       /* "vqav2" */
    const char *title;      /* one line */
    const char *references; /* what --references takes, for --help */
    const char *rule;       /* one line, printed beside every score */
    const char *dimension[BIF_SCORE_GROUPS]; /* names of the groups; NULL = none */
    bool norms;             /* takes --norm */
    bif_norm usual;         /* the norm of the numbers people publish: the default */
    /* Reads the reference files, in the order given, and adds the items. BIF_ERR_DATA with file and line. */
    bif_status (*read)(bif_score_set *set, const char *const *paths, size_t count);
    /* Scores every item; a missing prediction is the empty text. */
    bif_status (*score)(bif_score_set *set, bif_norm norm);
    /* Metrics, item i counting weight[i] times (bootstrap draws are weights): the same names in the same order for any weights. NULL stands
     * for bif_score_means. */
    void (*summarise)(const bif_score_set *set, const int32_t *weight, bif_metric_list *out);
} bif_score_task;

extern const bif_score_task *const bif_score_tasks[]; /* ended by NULL */
const bif_score_task *bif_score_task_by_name(const char *name); /* NULL if there is none */

struct bif_score_set {
    const bif_score_task *task;
    bif_score_item *items;
    int64_t count, capacity;
    bif_scan **files; /* open as long as the set: items point into them */
    size_t file_count;
    struct bif_score_block *blocks;
    bif_span *group[BIF_SCORE_GROUPS]; /* values of each dimension, in order of appearance */
    int32_t groups[BIF_SCORE_GROUPS], clusters;
    uint32_t *slots; /* item + 1 by hash of its id; a power of two of them */
    size_t slot_count;
    void *own; /* the task's, from bif_score_take */
};

/* ---- for tasks ---- */
bif_status bif_score_file(bif_score_set *set, const char *path, bif_scan **out); /* opened, and closed with the set */
void *bif_score_take(bif_score_set *set, size_t size);                          /* zeroed memory that lives as long as the set */
bif_span bif_score_text(bif_score_set *set, const char *format, ...) __attribute__((format(printf, 2, 3)));
bif_score_item *bif_score_add(bif_score_set *set, bif_span id);                  /* valid until the next one */
/* Numbers groups and clusters and indexes the ids; again after items left. BIF_ERR_DATA: an id twice. */
bif_status bif_score_prepare(bif_score_set *set);
/* Item by id, or NULL; ids are compared as texts, so 7 and "7" are one. After bif_score_prepare. */
bif_score_item *bif_score_find(const bif_score_set *set, bif_span id);
/* Mean of `score` x 100 over all, then for each value of each dimension: "NAME", "NAME/VALUE", ... */
void bif_score_means(const bif_score_set *set, const char *name, const int32_t *weight, bif_metric_list *out);

/* ---- for users ---- */
typedef enum { BIF_MISSING_ERROR = 0, BIF_MISSING_WRONG = 1, BIF_MISSING_SKIP = 2 } bif_missing;
typedef struct {
    bif_missing missing;        /* a question without a prediction */
    bool allow_unknown;         /* predictions of ids that the references do not have are left out */
    bool allow_duplicates;      /* of several predictions of one id the last counts */
} bif_score_policy;
typedef struct {
    int64_t read, missing, unknown, duplicates;
} bif_score_counts;

/* Opens the references. BIF_ERR_DATA: a malformed file, an id twice, or no questions. */
bif_status bif_score_open(const bif_score_task *task, const char *const *references, size_t count, bif_score_set **out);
void bif_score_close(bif_score_set *set); /* NULL is allowed */
/* Reads predictions: JSONL, or a JSON array, of objects with question_id (questionId, id, index, image_id, image) and prediction (text, answer,
 * caption); or one object of id: prediction. What the policy does not allow is BIF_ERR_DATA naming how many and the first with file and line.
 * With BIF_MISSING_SKIP items without a prediction leave the set. Replaces predictions read before. */
bif_status bif_score_predictions(bif_score_set *set, const char *path, const bif_score_policy *policy, bif_score_counts *counts);
bif_status bif_score_run(bif_score_set *set, bif_norm norm);
void bif_score_summary(const bif_score_set *set, const int32_t *weight, bif_metric_list *out);
int64_t bif_score_unparsed(const bif_score_set *set);

/* Percentile interval of 95 % of each metric from `draws` draws of clusters with replacement (Philox, seed 0): low, high [metrics]. */
void bif_score_bootstrap(const bif_score_set *set, int64_t draws, size_t metrics, double *low, double *high);
/* The same for the difference b - a of two scored sets of the same references, and `share`: of draws in which the difference is on the other side of
 * zero (half of those at zero), times two: a two-sided p-value of the headline. */
void bif_score_bootstrap_pair(const bif_score_set *a, const bif_score_set *b, int64_t draws, size_t metrics, double *low, double *high, double *share);
/* McNemar's exact two-sided p-value of items right (score >= 0.5) in one set alone: counts and p. */
double bif_score_mcnemar(const bif_score_set *a, const bif_score_set *b, int64_t *only_a, int64_t *only_b);
