/* Pieces of a page. What comes from files is not trusted: it goes through bif_html_text, or it is not written. */
#pragma once
#include "eval/text.h"

void bif_html_add(bif_text_buffer *out, const char *html); /* as it is */
void bif_html_addf(bif_text_buffer *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Valid UTF-8 as text or as the value of an attribute in double quotes: & < > " ' are escaped; control characters (but newline and tab) and
 * what turns the direction of the text around become U+FFFD. At most `most` bytes are written of it (0 = all), with an ellipsis in place of
 * the rest. */
void bif_html_text(bif_text_buffer *out, bif_span text, size_t most);
void bif_html_words(bif_text_buffer *out, const char *text); /* all of a string, likewise */
void bif_html_base64(bif_text_buffer *out, const void *bytes, size_t size);

/* A picture in JPEG, PNG or WebP as <img> that holds it, made small: `longer` pixels at most. BIF_ERR_DATA: it cannot be decoded; nothing is written. */
bif_status bif_html_picture(bif_text_buffer *out, const char *name, const void *bytes, size_t size, int64_t longer);
/* What pages have in common: up to the title (a policy that lets nothing be loaded), and the text of <style>. */
extern const char bif_html_head[], bif_html_style[];
