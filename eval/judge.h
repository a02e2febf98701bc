/* Tasks that a language model judges: what it is asked, and how its replies are read. Nothing here talks to one: requests go out as JSON
 * lines, replies come back as a file. */
#pragma once
#include "eval/score.h"

/* A question as its judge sees it; item->more of these tasks begins with it. */
typedef struct {
    bif_span question;
    bif_span image;
    bif_span context;   /* what stands for the picture; size 0 = none */
    bif_span reference; /* the answer compared with; size 0 = none */
} bif_judge_question;

/* Two scores in the first line of a review by LLaVA's rule: commas are blanks, and exactly one blank parts them ("8, 6" has two). strip:
 * blanks at both ends first, as lmms-eval does. False: they cannot be read. */
bool bif_judge_pair(bif_span review, bool strip, double out[2]);
/* One number as Python's float reads it, finite and without underscores. */
bool bif_judge_number(bif_span text, double *out);
/* The text of a reply as batch services return it behind "response": body.choices[0].message.content; text NULL where there is none. */
bif_status bif_judge_reply(bif_scan *scan, bif_span *content);
/* The question_id in a custom_id of bif_judge_requests: what stands behind "TASK-", or all of it. */
bif_span bif_judge_own_id(const bif_score_task *task, bif_span custom_id);
/* Whether the first object of a JSON text (an array's or a line) has one of the keys, which NULL ends. */
bool bif_judge_has_key(const bif_scan *scan, const char *const *keys);

typedef struct {
    const char *const *references; /* the task's questions */
    size_t reference_count;
    const char *answers;           /* of the model: as bif_score_predictions reads them */
    bif_score_policy policy;
    const char *context;           /* JSONL of image, caption (a text or a list); NULL = in the questions */
    const char *reference_answers; /* JSONL of question_id, text; NULL = in the questions */
    const char *rules;             /* llava-bench: JSON of category: {role, prompt}; mm-vet: a text file, the prompt with its examples */
    const char *system;            /* message of the system; NULL = none */
    const char *out;
} bif_judge_files;
/* Writes a line a question: custom_id, question_id, category, messages, temperature, max_tokens, in the order of the questions.
 * BIF_ERR_DATA: a malformed file, a question without context, reference answer or rule. Nothing is left under `out` then. */
bif_status bif_judge_requests(const bif_score_task *task, const bif_judge_files *files, int64_t *count);

extern const bif_score_task bif_task_llava_bench, bif_task_k_llava_w, bif_task_mm_vet;
