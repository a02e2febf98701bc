/* A guess at the language of a text, without a model: by script where a script has one language (Hangul, kana, Thai, Greek, ...), by letters
 * and small words among Cyrillic, Arabic and Devanagari ones, and by the commonest small words among ten languages in Latin letters, of which two
 * different ones are needed. Short captions often have none of these words: then the answer is "und-Latn", which is not a failure. Good for a table of what a pool holds; not a filter. */
#pragma once
#include "base/status.h"

/* A constant string: ISO 639-1 ("en", "ko"), "und-XXXX" with the script's ISO 15924 code where it does not tell, or "none" without letters. */
const char *bif_language_of(const char *text, size_t size);
