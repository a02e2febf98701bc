/* A cursor over JSON text for files of hundreds of megabytes: no tree is built, strings without escapes are not copied. The grammar is RFC
 * 8259's; depth at most 64, UTF-8 is checked where a string is read and skipped alike. For small files and objects see base/json.h.
 *
 *     BIF_TRY(bif_scan_open(path, &s));
 *     BIF_TRY(bif_scan_enter(s, '['));
 *     for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {     one element a turn
 *         BIF_TRY(bif_scan_enter(s, '{'));
 *         for (bool key; (st = bif_scan_key(s, &name, &key)) == BIF_OK && key;) {  one member a turn, its value is read or skipped
 *
 * Every failure is BIF_ERR_DATA with "file:line:column: what". After one the cursor is of no more use. */
#pragma once
#include <stdint.h>

#include "base/status.h"

typedef struct {
    const char *text; /* not ended by '\0' */
    size_t size;
} bif_span;
bool bif_span_is(bif_span span, const char *text);
bool bif_span_equal(bif_span a, bif_span b);
char *bif_span_copy(bif_span span); /* malloc'ed, ended by '\0' */

typedef struct bif_scan bif_scan;
/* Maps a regular file; a mark of byte order at its start is passed over. Spans live as long as the scan. BIF_ERR_IO when it cannot be read. */
bif_status bif_scan_open(const char *path, bif_scan **out);
/* Over borrowed text; where = what messages name. */
bif_scan *bif_scan_text(const char *where, const char *text, size_t size);
void bif_scan_close(bif_scan *scan); /* NULL is allowed */
bif_span bif_scan_whole(const bif_scan *scan); /* all of its text, for files of another grammar */

/* First character of the next value: { [ " t f n - or a digit; '\0' at the end of the text. */
char bif_scan_peek(bif_scan *scan);
bif_status bif_scan_enter(bif_scan *scan, char bracket); /* '{' or '[' */
bif_status bif_scan_more(bif_scan *scan, bool *more);    /* in an array: another element follows, or it is left */
bif_status bif_scan_key(bif_scan *scan, bif_span *name, bool *more); /* in an object: another member, or it is left */
bif_status bif_scan_string(bif_scan *scan, bif_span *out);
bif_status bif_scan_i64(bif_scan *scan, int64_t *out);   /* a number without fraction and exponent */
bif_status bif_scan_f64(bif_scan *scan, double *out);
bif_status bif_scan_bool(bif_scan *scan, bool *out);
/* A string, or a number as it is written: ids come as either. */
bif_status bif_scan_word(bif_scan *scan, bif_span *out);
bif_status bif_scan_skip(bif_scan *scan); /* any value, checked */
bif_status bif_scan_end(bif_scan *scan);  /* nothing but white space is left */
int64_t bif_scan_line(bif_scan *scan); /* where it stands, from 1 */
/* BIF_ERR_DATA naming where the last value began. */
bif_status bif_scan_fail(bif_scan *scan, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
