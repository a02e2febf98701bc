/* Captions cut into tokens as the scorer of COCO captions cuts them: Stanford's PTBTokenizer 3.4.1 (-preserveLines -lowerCase), then 17
 * tokens of punctuation dropped. Contractions are parted (do n't, dog 's, can not), a period stays with what it takes for an
 * abbreviation ("st.", "b."), and brackets stay as "-lrb-": the scorer drops "-LRB-", which lower case has made something else.
 *
 * The tokenizer reads a file of captions, one a line, and its rules for abbreviations look across the line's end: "made of art." keeps
 * its period if the next caption begins with a digit. So a caption is cut with the one behind it in view. */
#pragma once
#include "eval/text.h"

typedef struct bif_ptb bif_ptb; /* buffers; one a thread */
bif_ptb *bif_ptb_new(void);
void bif_ptb_free(bif_ptb *ptb);

/* Appends the tokens of `caption`, parted by single spaces. next: the caption of the line behind; text NULL at the file's end. Line
 * breaks within a caption are white space. UTF-8, else what cannot be decoded ends the caption. */
void bif_ptb_caption(bif_ptb *ptb, bif_span caption, bif_span next, bif_text_buffer *out);
