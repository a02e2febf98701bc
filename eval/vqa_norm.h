/* How the scorers of VQA-like benchmarks make answers comparable. The steps are those of VQA's own vqaEval.py and of the port that came with M4C and is
 * used by LLaVA and lmms-eval, quirks included:
 *   - a punctuation mark is deleted where it touches a space, or anywhere when a digit, a comma and a digit stand together somewhere; else it
 *     becomes a space;
 *   - a period goes unless a digit follows (the look-behind that was meant never looks behind), and at most 32 of them;
 *   - words: none and zero to ten become digits, a, an and the go, contractions get their apostrophe; "somebody'd" becomes "somebodyd". */
#pragma once
#include "eval/score.h"
#include "eval/text.h"

/* Tables and buffers; one a thread. */
typedef struct bif_vqa_norm bif_vqa_norm;
bif_vqa_norm *bif_vqa_norm_new(void);
void bif_vqa_norm_free(bif_vqa_norm *norm);

/* Newlines and tabs to spaces, stripped. The result points into the text or into the buffer of the norm, valid until the next call. */
bif_span bif_vqa_clean(bif_vqa_norm *norm, bif_span text);
/* Punctuation and words of a cleaned text. By the rules of vlmevalkit a period behind a digit stays too; by those of lmms and m4c several
 * commas between two digits are like one. Likewise valid until the next call. */
bif_span bif_vqa_process(bif_vqa_norm *norm, bif_span cleaned, bif_norm rules);
/* Punctuation alone. */
bif_span bif_vqa_punctuation(bif_vqa_norm *norm, bif_span text, bif_norm rules);
/* M4C's: lower case, commas and question marks deleted, " 's" set apart, then clean and process. */
bif_span bif_vqa_m4c(bif_vqa_norm *norm, bif_span text);
