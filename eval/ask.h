/* Questions to answers: prompts are encoded, pictures read and decoded (by several threads), batches generated. One rank's affair. */
#pragma once
#include "eval/generate.h"
#include "eval/question.h"

/* What the pictures are replaced by, to see what the question alone is worth: nothing; a blank one; or another picture of the list, each by
 * the next one of a keyed cycle through all that differ, so that none keeps its own. */
typedef enum { BIF_ABLATE_NONE = 0, BIF_ABLATE_BLANK = 1, BIF_ABLATE_SHUFFLE = 2 } bif_ablate;
const char *bif_ablate_name(bif_ablate ablate); /* "none", "blank", "shuffle" */

/* How an answer is found: by decoding; or of the question's options the likeliest one behind the prompt without them: the sum of the
 * log-probabilities of its tokens and the stop token, or their mean (SEED-Bench's own way of asking). */
typedef enum { BIF_ASK_DECODE = 0, BIF_ASK_RANK_SUM = 1, BIF_ASK_RANK_MEAN = 2 } bif_ask_way;

typedef struct {
    const char *image_root;
    int64_t batch;
    bif_decoding decoding;
    bif_ask_way way; /* ranking: the answer is the letter of the option (of a JSONL its text); decoding does not count */
    int threads; /* that read pictures */
    bif_ablate ablate;
    void (*between)(void *context); /* called between steps of decoding; NULL = not */
    void *context;
} bif_ask_options;

typedef struct bif_asker bif_asker;
/* Encodes every prompt, so that one that is too long is told before anything is generated, and plans memory for the longest. questions and
 * options are borrowed. BIF_ERR_DATA with the file and line of a question; BIF_ERR_USAGE: pictures for a decoder alone. */
bif_status bif_asker_new(bif_session *session, const bif_questions *questions, const bif_ask_options *options, bif_asker **out);
void bif_asker_free(bif_asker *asker); /* NULL is allowed */
/* What it would take of the device, of a model whose weights need not be there. */
bif_status bif_asker_measure(bif_session *session, const bif_questions *questions, const bif_ask_options *options, size_t *bytes);
/* Opens each picture that is a file once, so that one that is missing is told before anything is asked: the first question that has one. */
bif_status bif_asker_find_pictures(const bif_asker *asker);
/* All questions in the order they are best asked in: those about the same pictures together (what their prompts share is computed once a
 * batch), the longest prompts first. The same on all ranks. */
const int64_t *bif_asker_order(const bif_asker *asker);
/* Over the ids of all prompts: template, system text, tokenizer and place of pictures are in it. */
const char *bif_asker_digest(const bif_asker *asker);
int64_t bif_asker_cut(const bif_asker *asker); /* answers so far that have as many tokens as they may */
/* predictions[i] = the answer to question which[i], malloc'ed; count <= batch. BIF_ERR_DATA with the place of a question whose picture is
 * no good. */
bif_status bif_ask(bif_asker *asker, const int64_t *which, int64_t count, char **predictions);
