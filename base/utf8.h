/* UTF-8 checked once at the border: overlong forms, surrogates and code points above U+10FFFF are invalid. */
#pragma once
#include "base/status.h"

/* Offset of the first invalid byte, or `size` if all is valid. */
size_t bif_utf8_check(const char *text, size_t size);
/* The text with every byte that is no UTF-8, and every zero, spelled as \xNN: fit for JSON. malloc'ed, terminated. */
char *bif_utf8_spelled(const char *text, size_t size);
/* The same for one line of a terminal: control characters, which may move or rename it, are spelled too, as \n, \t, \r or \xNN. */
char *bif_utf8_printable(const char *text, size_t size, bool keep_newlines);
/* Decodes one code point of valid UTF-8 at text[0..size); returns its length in bytes (1..4), 0 at the end or if invalid. */
size_t bif_utf8_decode(const char *text, size_t size, uint32_t *code);
/* Encodes; returns the length (1..4). code must be a valid scalar value. */
size_t bif_utf8_encode(uint32_t code, char out[4]);
/* Bytes of a mark of byte order at the start of a text, as editors on Windows write it: 3, or 0 where there is none. */
size_t bif_utf8_mark(const char *text, size_t size);
