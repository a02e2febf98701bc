/* Scoring apart from running: anybody's predictions against a benchmark's own reference files. One task a benchmark (eval/task_*.c), each with its
 * parser and its metric to the letter of the official scorer; what all of them share is here: files, ids, missing and unknown ids, intervals.
 *
 * Nothing is drawn at random but the bootstrap, and that from a fixed seed. An answer that cannot be parsed is wrong, and counted. */
#pragma once
#include "base/json_scan.h"
#include "eval/text.h"

/* Whose rules make two answers equal, where harnesses disagree: the benchmark's own code, M4C's port for TextVQA, lmms-eval, VLMEvalKit, or what
 * LLaVA's scripts do before they call the benchmark's code. */
typedef enum { BIF_NORM_OFFICIAL = 0, BIF_NORM_M4C = 1, BIF_NORM_LMMS = 2, BIF_NORM_VLMEVALKIT = 3, BIF_NORM_LLAVA = 4, BIF_NORMS = 5 } bif_norm;
#define BIF_NORM_BIT(norm) (1u << (norm))
const char *bif_norm_name(bif_norm norm);
bif_status bif_norm_by_name(const char *name, bif_norm *out); /* BIF_ERR_USAGE lists the names */

#define BIF_SCORE_GROUPS 4
#define BIF_SCORE_VALUES 4

/* One question. Spans point into the files of the set or into memory of bif_score_take. */
typedef struct {
    /* of the references */
    bif_span id;
    bif_span other_id;                /* another name that predictions may use (see `name_of_row`); size 0 = none. Several may share one */
    bool extra;                       /* here for the sake of other questions: not counted itself */
    bool optional;                    /* may be without prediction */
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
typedef struct bif_score_reader bif_score_reader;

/* Coordinates of boxes in predictions (task refcoco): of what they are shares, and of which rectangle. */
typedef enum { BIF_BOX_NONE = 0, BIF_BOX_UNIT, BIF_BOX_1000, BIF_BOX_999, BIF_BOX_PIXEL } bif_box_unit;
typedef struct {
    bif_box_unit unit; /* 0..1, 0..1000, 0..999 (Qwen-VL), or pixels of the picture */
    bool padded;       /* of the square the picture is padded to (in its middle, as LLaVA pads), not of the picture */
} bif_box_space;

typedef struct {
    const char *name;       /* "vqav2" */
    const char *title;      /* one line */
    const char *references; /* what --references takes, for --help */
    const char *rule;       /* one line, printed beside every score */
    const char *dimension[BIF_SCORE_GROUPS]; /* names of the groups; NULL = none */
    unsigned norms;         /* BIF_NORM_BIT of those it tells apart; 0 = it has one rule and takes no --norm */
    bif_norm usual;         /* the norm of the numbers people publish: the default */
    bool boxes;             /* wants --box-space */
    bool by_image;          /* of a row of predictions image_id is the id, whatever else it has */
    bool tokens;            /* takes --tokenized */
    /* Reads the reference files, in the order given, and adds the items. BIF_ERR_DATA with file and line. */
    bif_status (*read)(bif_score_set *set, const char *const *paths, size_t count);
    void (*close)(bif_score_set *set); /* frees what set->own holds, which may be NULL, besides memory of the set; NULL = nothing */
    /* Of a row of predictions whose id is no question's: the other_id it means, by its id and its prompt (both may be empty), into `out`;
     * false = none. NULL: ids only. */
    bool (*name_of_row)(bif_span id, bif_span prompt, bif_text_buffer *out);
    /* Reads predictions in a form of the benchmark's own with bif_score_answer; *own = false if it is none. NULL = none. */
    bif_status (*predict)(bif_score_set *set, bif_score_reader *reader, const char *path, bool *own);
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
    uint32_t *slots, *other_slots; /* item + 1 by hash of id and of other_id (NULL: none has one); a power of two of them */
    uint32_t *other_next;          /* [count] of items that share an other_id the next + 1; other_slots has the one to be answered next */
    size_t slot_count;
    bif_norm norm;       /* of the last run */
    bif_box_space boxes; /* set before bif_score_run by whoever opened it */
    bool tokenized;      /* likewise: texts are tokens parted by single spaces */
    char **notes;        /* what to know beside the numbers, in the order they came */
    size_t note_count, notes_read; /* notes_read: of those, from the references */
    void *own; /* the task's, from bif_score_take */
};

/* "unit", "1000", "999" or "pixel", each perhaps with ",padded"; BIF_ERR_USAGE else. */
bif_status bif_box_space_by_name(const char *name, bif_box_space *out);

/* ---- for tasks ---- */
bif_status bif_score_file(bif_score_set *set, const char *path, bif_scan **out); /* opened, and closed with the set */
bif_status bif_score_bytes(bif_score_set *set, const char *path, bif_span *out); /* a whole file that is not JSON, likewise */
void *bif_score_take(bif_score_set *set, size_t size);                          /* zeroed memory that lives as long as the set */
bif_span bif_score_text(bif_score_set *set, const char *format, ...) __attribute__((format(printf, 2, 3)));
bif_span bif_score_keep(bif_score_set *set, bif_span text);                      /* a copy that lives as long as the set */
bif_score_item *bif_score_add(bif_score_set *set, bif_span id);                  /* valid until the next one */
/* Printed beside the scores; those of `score` are forgotten when it runs again. */
void bif_score_note(bif_score_set *set, const char *format, ...) __attribute__((format(printf, 2, 3)));
bif_status bif_score_exact(bif_score_set *set, bif_norm norm); /* the `score` of task exact */
/* For `read`: JSON lines of question_id, answer (a text, or a list of them), image and type. */
bif_status bif_score_read_questions(bif_score_set *set, const char *const *paths, size_t count);
/* For `predict`: one prediction. path, line: for messages. */
void bif_score_answer(bif_score_reader *reader, const char *path, int64_t line, bif_span id, bif_span prediction);
/* Of the name of a file of ChartQA's: "human", "augmented", or the name itself (ids are SPLIT/PLACE). */
const char *bif_chartqa_split(const char *path);
/* A row of easy-VQA's questions.json, [question, answer, image]. */
bif_status bif_easy_vqa_row(bif_scan *scan, bif_span row[3]);
/* Numbers groups and clusters and indexes the ids; again after items left. BIF_ERR_DATA: an id twice. */
bif_status bif_score_prepare(bif_score_set *set);
/* Item by id, or NULL; ids are compared as texts, so 7 and "7" are one. After bif_score_prepare. */
bif_score_item *bif_score_find(const bif_score_set *set, bif_span id);
/* By other_id: of those that share it the first without a prediction, else the last; NULL if there is none. */
bif_score_item *bif_score_find_other(bif_score_set *set, bif_span name);
/* Mean of `score` x 100 over all but extra items, then for each value of each dimension: "NAME", "NAME/VALUE", ... */
void bif_score_means(const bif_score_set *set, const char *name, const int32_t *weight, bif_metric_list *out);

/* ---- for users ---- */
typedef enum { BIF_MISSING_ERROR = 0, BIF_MISSING_WRONG = 1, BIF_MISSING_SKIP = 2 } bif_missing;
typedef struct {
    bif_missing missing;        /* a question without a prediction */
    bool allow_unknown;         /* predictions of ids that the references do not have are left out */
    bool allow_duplicates;      /* of several predictions of one id the last counts */
    const char *remedy;         /* what the verb takes for a missing one, for the message; NULL = as score: --missing wrong, --missing skip */
} bif_score_policy;
typedef struct {
    int64_t read, missing, unknown, duplicates;
} bif_score_counts;

/* BIF_ERR_USAGE: the task does not tell this norm apart. */
bif_status bif_score_has_norm(const bif_score_task *task, bif_norm norm);
/* Opens the references. BIF_ERR_DATA: a malformed file, an id twice, or no questions. */
bif_status bif_score_open(const bif_score_task *task, const char *const *references, size_t count, bif_score_set **out);
void bif_score_close(bif_score_set *set); /* NULL is allowed */
/* Reads predictions: JSONL, or a JSON array, of objects with question_id (questionId, id, index, image_id, image) and prediction (text, answer,
 * caption), perhaps a prompt; or one object of id: prediction; or a table (.tsv) with such columns (but its `answer` is the right one, no
 * prediction); or what the task's `predict` reads.
 * What the policy does not allow is BIF_ERR_DATA naming how many and the first with file and line.
 * With BIF_MISSING_SKIP items without a prediction leave the set. Replaces predictions read before. */
bif_status bif_score_predictions(bif_score_set *set, const char *path, const bif_score_policy *policy, bif_score_counts *counts);
bif_status bif_score_run(bif_score_set *set, bif_norm norm);
void bif_score_summary(const bif_score_set *set, const int32_t *weight, bif_metric_list *out);
int64_t bif_score_unparsed(const bif_score_set *set);

/* Percentile interval of 95 % of each metric from `draws` draws of clusters with replacement (Philox, seed 0): low, high [metrics]. */
void bif_score_bootstrap(const bif_score_set *set, int64_t draws, size_t metrics, double *low, double *high);
/* The metric of that name, which stands in place `at` of most lists; NULL if there is none. */
const bif_metric *bif_metric_named(const bif_metric_list *list, const char *name, size_t at);
/* The same for the difference b - a of two scored sets of the same questions in the same order (bif_score_pairs), for the metrics of a: NaN for those
 * that b has not; and `share`: of draws in which the difference is on the other side of
 * zero (half of those at zero), the scores as they are counted as one of either side, times two: a two-sided p-value of the headline, never 0. */
void bif_score_bootstrap_pair(const bif_score_set *a, const bif_score_set *b, int64_t draws, size_t metrics, double *low, double *high, double *share);
bool bif_score_pairs(const bif_score_set *a, const bif_score_set *b); /* the same questions in the same order */
/* McNemar's exact two-sided p-value of items right (score >= 0.5) in one set alone: counts and p. */
double bif_score_mcnemar(const bif_score_set *a, const bif_score_set *b, int64_t *only_a, int64_t *only_b);
