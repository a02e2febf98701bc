/* Texts as the scorers' Python sees them: str.lower, str.strip, str.split on UTF-8. */
#pragma once
#include "base/json_scan.h"

/* A buffer that grows. */
typedef struct {
    char *text;
    size_t size, capacity;
} bif_text_buffer;
void bif_text_clear(bif_text_buffer *buffer);
void bif_text_free(bif_text_buffer *buffer);
void bif_text_add(bif_text_buffer *buffer, const char *text, size_t size);
static inline bif_span bif_text_span(const bif_text_buffer *buffer)
{
    return (bif_span){buffer->text != NULL ? buffer->text : "", buffer->size};
}

bool bif_text_is_space(uint32_t code); /* str.isspace */
bool bif_text_is_digit(uint32_t code); /* \d of re: any decimal digit */
/* Appends str.lower of a text, with the two rules of SpecialCasing that have no language: I with a dot above, and the final sigma. */
void bif_text_lower(bif_span text, bif_text_buffer *out);
bif_span bif_text_strip(bif_span text);
/* The next word of str.split(): cut from the front of *rest; false at its end. */
bool bif_text_word(bif_span *rest, bif_span *word);
size_t bif_text_characters(bif_span text);   /* code points */
size_t bif_text_upper_size(bif_span text);   /* code points of str.upper: some letters become two or three */
/* float(): white space around, digits of any script, underscores between digits, inf and nan. */
bool bif_text_float(bif_span text, double *out);
