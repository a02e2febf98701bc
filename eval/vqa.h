/* Answering a list of questions on all ranks: shared as ranks get done, in batches of about equal prompts, kept on disk as they are found.
 */
#pragma once
#include "base/json.h"
#include "eval/ask.h"
#include "eval/prompt.h"
#include "train/comm.h"

typedef struct {
    bif_prompt_source source;
    bif_prompt_used prompt; /* of bif_prompt_choose */
    const char *output; /* predictions JSONL: question_id, image, question, prediction (stripped), answer; in the order of the questions */
    int64_t batch;
    bif_decoding decoding;
    bif_ask_way way;
    int threads; /* that read pictures */
    bif_ablate ablate;
    int64_t limit; /* first so many questions, 0 = all */
    bool restart; /* throw away the answers of a run that did not end */
} bif_vqa_options;

#define BIF_VQA_TYPES 64
#define BIF_VQA_TYPE_NAME 48
typedef struct {
    int64_t questions, scored, correct;
    int64_t kept; /* answers of earlier starts */
    int64_t cut; /* of this start's answers those that have as many tokens as they may */
    char prompts[33]; /* digest over the ids of all prompts */
    int64_t types;
    struct {
        char name[BIF_VQA_TYPE_NAME];
        int64_t scored, correct;
    } type[BIF_VQA_TYPES]; /* in order of appearance */
    double seconds;
    json_t *identity; /* rank 0: what the answers depend on, an object of texts; the caller's */
} bif_vqa_result;

/* Collective: the output is the same for any number of ranks, any batch size, and however often the run was ended and started again
 * (eval/record.h). A malformed line is BIF_ERR_DATA with file:line before anything is generated. Exact match after trimming white space and
 * one trailing period, case folded (ASCII). */
bif_status bif_vqa(bif_session *session, bif_comm *comm, const bif_vqa_options *options, bif_vqa_result *result);

/* ---- for others who share a list over ranks ---- */
/* All ranks must have read the same list: BIF_ERR_DATA where it is not that of rank 0. Collective, the status is a rank's own. */
bif_status bif_vqa_same_list(bif_comm *comm, const bif_questions *set, const char *path);
/* Brings every rank's predictions [count] (malloc'ed; NULL = another rank's) to rank 0. Collective, the status is rank 0's. */
bif_status bif_vqa_collect(bif_comm *comm, char **predictions, int64_t count);
/* The file of predictions, in the order of the questions; atomic. One rank's affair. */
bif_status bif_vqa_write(const char *path, const bif_questions *set, char *const *predictions);
