/* What the PTB tokenizer takes characters and words for (eval/ptb.c). Characters are UTF-16 units; halves of pairs are of no class. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BIF_PTB_END = 0x10000 }; /* a character behind the text: of no class */

bool bif_ptb_letter(uint32_t c);  /* of any script */
bool bif_ptb_digit(uint32_t c);   /* of any script */
bool bif_ptb_mark(uint32_t c);    /* no letter, but goes on with a word: combining marks */
bool bif_ptb_symbol(uint32_t c);  /* a token of its own; ASCII not included */
bool bif_ptb_space(uint32_t c);
bool bif_ptb_newline(uint32_t c);

/* Words that keep a period behind them. A '^' wants the letter behind it as it is written; everything else is caseless. Ended by NULL. */
extern const char *const bif_ptb_abbreviations[];         /* at all times */
extern const char *const bif_ptb_titles[];                /* likewise, and even without the period before a space */
extern const char *const bif_ptb_number_abbreviations[];  /* before a digit */
extern const char *const bif_ptb_openers[];               /* words before which an acronym ends a sentence; case as written */
extern const char *const bif_ptb_extensions[];            /* of files */
