/* Scoring on a JSONL of questions: {"question_id", "image" (optional; a name or a list of names), "question" or "text", "answer" (optional), "type" or
 * "category" (optional)} a line. */
#pragma once
#include "eval/generate.h"

typedef struct {
    const char *questions, *image_root;
    const char *output;   /* predictions JSONL: question_id, image, question, prediction, answer; in the order of the questions */
    const char *summary;  /* JSON, or NULL */
    int64_t batch, max_new;
    bool blank;           /* every picture replaced by a blank one (bif_preprocess_blank): what the question alone is worth */
    int64_t limit;        /* first so many questions, 0 = all */
} bif_vqa_options;

#define BIF_VQA_TYPES 64
#define BIF_VQA_TYPE_NAME 48
typedef struct {
    int64_t questions, scored, correct;
    int64_t types;
    struct { char name[BIF_VQA_TYPE_NAME]; int64_t scored, correct; } type[BIF_VQA_TYPES]; /* in order of appearance */
    double seconds;
} bif_vqa_result;

/* Collective: questions are shared over ranks, the output is the same for any number of ranks and any batch size. A malformed line is BIF_ERR_DATA with
 * file:line before anything is generated. Exact match after trimming white space and one trailing period, case folded (ASCII). */
bif_status bif_vqa(bif_session *session, bif_comm *comm, const bif_vqa_options *options, bif_vqa_result *result);
