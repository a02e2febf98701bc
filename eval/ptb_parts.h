/* What tokens are made of (eval/ptb.c): each function returns the length of what stands at i, 0 where it does not. Lengths are of the
 * longest match. */
#pragma once
#include <string.h>

#include "eval/ptb_chars.h"

typedef struct {
    const uint16_t *text; /* UTF-16 */
    size_t size;
} bif_ptb_view;

static inline uint32_t at(const bif_ptb_view *p, size_t i)
{
    return i < p->size ? p->text[i] : BIF_PTB_END;
}

static inline bool is_ascii_letter(uint32_t c)
{
    return (c | 32) >= 'a' && (c | 32) <= 'z' && c < 0x80;
}

static inline bool is_ascii_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static inline bool is_ascii_alnum(uint32_t c)
{
    return is_ascii_letter(c) || is_ascii_digit(c);
}

static inline bool is_alnum(uint32_t c)
{
    return bif_ptb_letter(c) || bif_ptb_digit(c);
}

static inline bool is_blank(uint32_t c)
{
    return bif_ptb_space(c) || bif_ptb_newline(c);
}

static inline bool is_upper(uint32_t c)
{
    return c >= 'A' && c <= 'Z';
}

static inline bool in(const char *set, uint32_t c)
{
    return c > 0 && c < 0x80 && strchr(set, (int)c) != NULL;
}

/* Letters in any case but behind a '^'. */
size_t bif_ptb_spelt(const bif_ptb_view *p, size_t i, const char *word);
size_t bif_ptb_one_of(const bif_ptb_view *p, size_t i, const char *const *words); /* the longest */
#define BIF_PTB_ONE_OF(p, i, ...) bif_ptb_one_of(p, i, (const char *const[]){__VA_ARGS__, NULL})
size_t bif_ptb_run(const bif_ptb_view *p, size_t i, bool (*is)(uint32_t));
size_t bif_ptb_run_of(const bif_ptb_view *p, size_t i, char c);

/* ---- words (ptb_words.c) ---- */
size_t bif_ptb_apostrophe(const bif_ptb_view *p, size_t i);       /* ' and its relatives, &apos; */
size_t bif_ptb_inner_apostrophe(const bif_ptb_view *p, size_t i); /* ... and those that open a quotation */
size_t bif_ptb_one_letter(const bif_ptb_view *p, size_t i);       /* a letter, a mark, or an entity like &eacute; */
size_t bif_ptb_word(const bif_ptb_view *p, size_t i);             /* with . ! ? inside: dog.the */
size_t bif_ptb_short_verb(const bif_ptb_view *p, size_t i);       /* 's 'm 'd 're 've 'll */
size_t bif_ptb_short_not(const bif_ptb_view *p, size_t i);        /* n't */
/* What stands before n't; it does not end with an n itself. *tail: the length of n't. */
size_t bif_ptb_before_not(const bif_ptb_view *p, size_t i, size_t *tail);
size_t bif_ptb_apostrophe_word(const bif_ptb_view *p, size_t i);  /* apostrophes that are part of a word: 'em, ol', O'Neil, '90s */
size_t bif_ptb_slashed(const bif_ptb_view *p, size_t i);          /* and/or, up to three parts with up to two hyphens each */
/* A letter, or letters with periods between: b, u.s, and a few with a hyphen; without a period behind. */
size_t bif_ptb_acronym(const bif_ptb_view *p, size_t i);
size_t bif_ptb_hyphenated(const bif_ptb_view *p, size_t i);       /* 3.5-inch, U.S.-born */
size_t bif_ptb_thing(const bif_ptb_view *p, size_t i);            /* snake_case, d'Avignon */
size_t bif_ptb_file_name(const bif_ptb_view *p, size_t i);        /* 5.txt */
size_t bif_ptb_capitals(const bif_ptb_view *p, size_t i);         /* AT&T */

/* ---- numbers and marks (ptb_marks.c) ---- */
size_t bif_ptb_number(const bif_ptb_view *p, size_t i);           /* 5 5,000.25 10:30 .5 :30 */
size_t bif_ptb_small_number(const bif_ptb_view *p, size_t i);     /* superscripts or subscripts, with a sign of either */
size_t bif_ptb_date(const bif_ptb_view *p, size_t i);
size_t bif_ptb_fraction(const bif_ptb_view *p, size_t i);         /* 1/2, 3 1/2 */
size_t bif_ptb_phone(const bif_ptb_view *p, size_t i);
size_t bif_ptb_url(const bif_ptb_view *p, size_t i);
size_t bif_ptb_mail(const bif_ptb_view *p, size_t i);
size_t bif_ptb_handle(const bif_ptb_view *p, size_t i);           /* @name, #tag */
size_t bif_ptb_tag(const bif_ptb_view *p, size_t i);              /* <b>, </b>, <!...>, <a href="x"> */
size_t bif_ptb_smiley(const bif_ptb_view *p, size_t i);           /* wants another character behind, no letter and no digit */
size_t bif_ptb_asian_smiley(const bif_ptb_view *p, size_t i);
size_t bif_ptb_ellipsis(const bif_ptb_view *p, size_t i);         /* ... to five of them, or three to five with blanks between */
size_t bif_ptb_quotes(const bif_ptb_view *p, size_t i);
