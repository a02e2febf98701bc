/* Yes or no out of a model's answer, as the scorers of POPE and MME read it. */
#pragma once
#include "eval/vqa_norm.h"

typedef enum { BIF_NEITHER = -1, BIF_NO = 0, BIF_YES = 1 } bif_yes_no;
const char *bif_yes_no_name(bif_yes_no answer); /* "other", "no", "yes" */

typedef struct {
    bif_text_buffer low;
    bif_vqa_norm *norm;
} bif_yes_no_parser;
void bif_yes_no_open(bif_yes_no_parser *parser);
void bif_yes_no_close(bif_yes_no_parser *parser);

/* POPE's own code and LLaVA's: of the text before the first period, commas deleted, split at spaces: "No", "no" or "not" among the words is
 * no, everything else yes. */
bif_yes_no bif_yes_no_pope(bif_span text);
/* The whole text, lower case and stripped, is yes or no (lmms-eval on POPE). */
bif_yes_no bif_yes_no_exact(bif_yes_no_parser *parser, bif_span text);
/* MME's own code: lower case; yes, else no within the first four characters. lmms: stripped and without periods first, and "y" and "n"
 * alone count. */
bif_yes_no bif_yes_no_prefix(bif_yes_no_parser *parser, bif_span text, bool lmms);
/* VLMEvalKit: one of the words yes and no among those of the text without punctuation, and not both. */
bif_yes_no bif_yes_no_words(bif_yes_no_parser *parser, bif_span text);

/* ---- names of questions, which the scoring tasks and the prompts (eval/prompt_yes_no.c) share ---- */
bif_span bif_pope_split(const char *path); /* coco_pope_random.json: random; into path, or constant */
extern const char *const bif_mme_subtasks[]; /* ended by NULL */
/* What is the same in MME's line and in a prompt made from it: without the demands for a short answer and white space around. */
bif_span bif_mme_core(bif_span question);
/* SUBTASK/STEM newline CORE: an item's id. picture: a file name, of which the stem counts. */
void bif_mme_name(bif_text_buffer *out, bif_span subtask, bif_span picture, bif_span question);
