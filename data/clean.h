/* What is done to a caption before it is tokenized.
 *
 * NONE  nothing but what the tokenizer's own normalizer does: transformers' CLIPTokenizer (NFC, white space, lower case).
 * CLIP  OpenAI's clip/simple_tokenizer.py, which open_clip runs too (clean="lower"): ftfy.fix_text, html.unescape twice, strip, runs of
 *       white space become one space, Python's lower case (a final sigma is one). Of ftfy 6 with its defaults: line by line, until nothing
 *       changes, references of HTML (unless the line, or one before, holds "<"), C1 controls as windows-1252, Latin ligatures,
 *       characters of full and half width, curly quotes, line ends, terminal escapes, control characters, NFC. fix_encoding, its repair
 *       of text that was decoded in a wrong encoding ("sch\u00c3\u00b6n"), is NOT done. Bytes that are not UTF-8 become U+FFFD each.
 *
 * tests/golden/check_clip_clean.py, on 110,000 generated lines of many scripts: cleaned texts are those of OpenAI's code with ftfy's
 * fix_encoding off; fix_encoding would change 0.2 % of the lines, and the ids of all others are OpenAI's, but where
 * - the text of special tokens stands in a caption: it is plain text here;
 * - OpenAI's pattern ignores case ("'\u017f", U+0345), or Python's regex calls an unassigned code point a letter;
 * - the cleaned text is not NFC, to which the tokenizer brings it (marks written as references in a text with "<", marks below U+0130);
 * - utf8proc takes U+11A7 behind a Hangul syllable away (it is an old vowel, and the composition's zero). */
#pragma once
#include "base/status.h"

typedef enum { BIF_CLEAN_NONE = 0, BIF_CLEAN_CLIP = 1 } bif_clean;
/* "none", "clip"; else BIF_ERR_CONFIG. */
bif_status bif_clean_by_name(const char *name, bif_clean *out);
const char *bif_clean_name(bif_clean clean);

/* *out: malloc'ed UTF-8 with a '\0' behind. BIF_ERR_DATA when a text holds references within references, a hundred deep. */
bif_status bif_clean_text(bif_clean clean, const char *text, size_t size, char **out, size_t *out_size);
