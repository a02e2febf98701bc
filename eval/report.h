/* Scores of several tasks and checkpoints side by side, beside LLaVA-1.5's published ones, with some of the questions they rest on.
 *
 * What comes in is the JSON that `bifocal score --json` prints. Of one that comes from elsewhere (a benchmark's server) "task" and
 * "metrics": [{"name", "value"}, ...] are enough. A row of the report is a task and a split (what "split" or the command line says, else
 * none); a column is a checkpoint. */
#pragma once
#include "eval/question.h"
#include "base/json.h"
#include "eval/text.h"

/* ---- what is published (LLaVA's model zoo) ---- */

enum { BIF_PUBLISHED_MODELS = 4 };
extern const char *const bif_published_models[BIF_PUBLISHED_MODELS]; /* "7b", "13b", "7b-lora", "13b-lora" */
extern const char *const bif_published_titles[BIF_PUBLISHED_MODELS];
typedef struct {
    const char *task, *split; /* split NULL: the references of bifocal score are those of the published number */
    const char *title, *metric;
    int64_t questions; /* that the metric is over, 0 = not said: scores over others are not held against it */
    double value[BIF_PUBLISHED_MODELS];
    /* How far a run may be off: of the published weights themselves, and of a training by the published recipe. 0 = numbers of this
     * benchmark move too much from run to run, or with their judge, to say anything. */
    double band[2];
    const char *note; /* NULL = none */
} bif_published;
extern const bif_published bif_published_scores[]; /* ended by task NULL */
int bif_published_model(const char *name);         /* -1 if there is none */

/* ---- the report ---- */

typedef struct {
    const char *name;
    double value, low, high; /* NaN = not measured */
    int64_t questions;       /* -1 = not known */
} bif_report_metric;

/* One file of scores. Texts live in `json` or the report; NULL where the file says nothing. */
typedef struct {
    json_t *json;
    char *path, *split;
    const char *task, *norm, *rule, *predictions, *items;
    int64_t questions, missing, duplicates, unparsed; /* -1 = not known */
    bif_report_metric *metrics;
    size_t metric_count;
    size_t row, column;
} bif_report_score;

typedef struct {
    const char *task, *split; /* split "" = none */
    const bif_published *published; /* NULL = none */
    bool comparable;                /* the published number is of this split */
    const char *metric;             /* the headline */
} bif_report_row;

typedef struct {
    char *name;
    int like; /* of which published model its numbers are held against; -1 = none */
} bif_report_column;

typedef struct {
    bif_report_score *scores;
    bif_report_row *rows;
    bif_report_column *columns;
    size_t score_count, row_count, column_count;
} bif_score_report;

void bif_report_free(bif_score_report *report);
/* Adds a file of scores. split NULL = as the file says. BIF_ERR_DATA: not such a file; BIF_ERR_USAGE: the place is taken. */
bif_status bif_report_add(bif_score_report *report, const char *checkpoint, const char *path, const char *split);
/* checkpoint NULL: of all. BIF_ERR_USAGE: no such checkpoint or model. After all were added. */
bif_status bif_report_like(bif_score_report *report, const char *checkpoint, const char *model);
const bif_report_score *bif_report_at(const bif_score_report *report, size_t row, size_t column); /* NULL = none */
const bif_report_metric *bif_report_headline(const bif_score_report *report, const bif_report_score *score);

typedef enum { BIF_VERDICT_NONE = 0, BIF_VERDICT_INSIDE, BIF_VERDICT_RETRAINED, BIF_VERDICT_OUTSIDE } bif_verdict_kind;
typedef struct {
    bif_verdict_kind kind; /* INSIDE the narrow band; RETRAINED: inside the wide one; NONE: no band, or nothing comparable */
    double published, difference; /* NaN = none */
    double band;                  /* the one that `kind` speaks of */
    int64_t questions;            /* of the published number, where the score is over others; else 0 */
} bif_verdict;
bif_verdict bif_report_verdict(const bif_score_report *report, const bif_report_score *score);

/* The table, written behind `out`. */
void bif_report_terminal(const bif_score_report *report, bif_text_buffer *out);
void bif_report_markdown(const bif_score_report *report, bif_text_buffer *out);
void bif_report_csv(const bif_score_report *report, bif_text_buffer *out); /* a line each metric */
json_t *bif_report_json(const bif_score_report *report);

/* ---- questions to show ---- */

enum { BIF_CARD_RIGHT = 0, BIF_CARD_WRONG = 1, BIF_CARD_DIFFER = 2, BIF_CARD_KINDS = 3, BIF_CARD_GROUPS = 4, BIF_CARD_PICTURES = 4 };
typedef struct {
    bool there, missing, unparsed;
    bif_span prediction, compared;
    double score;
} bif_card_answer;
typedef struct {
    bif_span id, question; /* question: size 0 = not known */
    int kind;              /* all checkpoints right (score >= 0.5), all wrong, or they differ */
    uint64_t key;
    bif_span dimension[BIF_CARD_GROUPS], group[BIF_CARD_GROUPS];
    bif_span *references; /* each once, the most frequent first */
    int64_t *reference_times, reference_count;
    bif_span picture[BIF_CARD_PICTURES]; /* names below the image root; `embedded`: one encoded picture in base64 */
    int64_t pictures;
    bool embedded;
    bif_card_answer *answers; /* [columns] */
} bif_card;
typedef struct {
    bif_card *items;
    size_t count;
    int64_t of_kind[BIF_CARD_KINDS]; /* questions there are, shown or not */
    bif_scan **files; /* open as long as the cards */
    size_t file_count;
    struct bif_score_set *tables; /* likewise; NULL = none */
} bif_cards;
/* Of a row's questions up to `most` of each kind: those whose ids come first under a key, so the same for all checkpoints and runs, evenly
 * over the values of the first group. Texts and pictures of questions are looked up in `questions` ([count] files: JSON lines, a JSON
 * array, or a table with index, question and image in base64), then in the predictions themselves. No items file: no cards. */
bif_status bif_cards_draw(const bif_score_report *report, size_t row, int64_t most, const char *const *questions, size_t count,
                          bif_cards *out);
void bif_cards_free(bif_cards *cards);

/* One page, with everything it shows in it; it runs no script and loads nothing. */
typedef struct {
    const char *title, *image_root; /* image_root NULL: */
    const bif_questions *shards; /* where pictures are; NULL, too: no pictures */
    const char *const *task_roots; /* [task_root_count] "TASK=DIR": the image_root of one task */
    size_t task_root_count;
    const char *const *questions;
    size_t question_files;
    int64_t most;
} bif_report_page;
bif_status bif_report_html(const bif_score_report *report, const bif_report_page *page, bif_text_buffer *out);
