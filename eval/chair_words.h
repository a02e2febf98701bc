/* Objects named in a caption, as CHAIR finds them: words as NLTK's word_tokenize cuts them, each made singular as pattern.en does,
 * "double words" joined, then looked up among synonyms. What is odd there is so here: the singular of "bus" is "bu", so that only
 * "buses" are found.
 *
 * Of NLTK what changes no object is left out: its list of abbreviations (a period before white space always ends a word) and its
 * contractions. */
#pragma once
#include "base/intern.h"
#include "eval/text.h"

enum { BIF_CHAIR_OBJECTS = 128 };

/* A file of synonyms: a line an object, its name first, parted by ", ". */
typedef struct {
    bif_intern words;     /* every synonym */
    uint8_t *object;      /* of each, by number; of one that stands in several lines the last */
    size_t capacity;
    bif_span name[BIF_CHAIR_OBJECTS]; /* of objects: into the text */
    size_t count;         /* of lines */
} bif_synonyms;

/* BIF_ERR_DATA naming where and the line. The text must stay. */
bif_status bif_synonyms_read(bif_synonyms *synonyms, const char *where, bif_span text);
void bif_synonyms_free(bif_synonyms *synonyms);
int bif_synonyms_find(const bif_synonyms *synonyms, bif_span word); /* an object, -1 = none */

/* Appends words parted by spaces; of lower-case text. */
void bif_chair_tokenize(bif_span lower, bif_text_buffer *out);
/* Appends the singular of a word. */
void bif_singular(bif_span word, bif_text_buffer *out);

typedef struct {
    uint8_t *objects; /* mentions, in order */
    size_t count, capacity;
    bif_text_buffer lower, tokens, words;
} bif_mentions;
void bif_mentions_find(bif_mentions *mentions, const bif_synonyms *synonyms, bif_span caption); /* replaces those found before */
void bif_mentions_free(bif_mentions *mentions);
