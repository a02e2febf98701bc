/* Character references of HTML ("&amp;", "&#38;", "&eacute;") in text that is held as code points. */
#pragma once
#include "base/status.h"

typedef struct {
    uint32_t *code; /* malloc'ed, grown by appends, freed by the holder */
    size_t count, capacity;
} bif_codes;
void bif_codes_push(bif_codes *codes, uint32_t code);

/* Appends `text` with its references replaced, as Python's html.unescape does: HTML5's names, the longest that is a beginning of what
 * stands there (some also without a semicolon: "&notit;" is "\u00acit;"), and numbers; U+0080 to U+009F are read as windows-1252, 0,
 * surrogates and what is above U+10FFFF become U+FFFD, and other code points that no document may hold disappear. Once: "&amp;lt;" becomes
 * "&lt;". */
void bif_html_unescape(const bif_codes *text, bif_codes *out);

/* The same, as ftfy's unescape_html does: only references that end in a semicolon, of at most 24 letters and digits, as a whole, also names
 * in capitals ("&EACUTE;"). "&#59;" stays. */
void bif_html_unescape_whole(const bif_codes *text, bif_codes *out);

/* windows-1252's character for U+0080 to U+009F; all else, and its five holes, stay. */
uint32_t bif_windows_1252(uint32_t code);
