/* The letter of an option out of a model's answer, by the rules of those who score multiple choice. Never a guess: 0 where none can be
 * read. */
#pragma once
#include "eval/text.h"

enum { BIF_OPTIONS = 26 };
typedef struct {
    bif_span text[BIF_OPTIONS]; /* of A, B, ...; text NULL = there is no such option */
} bif_options;

/* LLaVA on ScienceQA: the letter A to E alone; the letter, a period and a space at the front; or one "The answer is X" followed by a
 * character. A letter beyond the `count` options is none. */
char bif_choice_llava(bif_span answer, int count);
/* lmms-eval on ScienceQA: the letter alone in either case, or a capital letter and a period at the front. */
char bif_choice_lmms_front(bif_span answer);
/* lmms-eval on MMBench, without its judge and its random letter: one letter of A to E as a word (A in a text of more than three words does
 * not count), or with one kind of punctuation around; else the one option whose text is in the answer. Options A to D that are not there
 * have the text "nan". */
char bif_choice_lmms(bif_text_buffer *buffer, bif_span answer, const bif_options *options);
/* VLMEvalKit without its judge: one letter of the options as a word, punctuation apart, among the last words; else the one option whose
 * text is in the answer, which must not be longer than twice all of them. 'Z' is what it calls a refusal. */
char bif_choice_vlmevalkit(bif_text_buffer *buffer, bif_span answer, const bif_options *options);
