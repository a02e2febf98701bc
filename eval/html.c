#include "eval/html.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/utf8.h"

void bif_html_add(bif_text_buffer *out, const char *html)
{
    bif_text_add(out, html, strlen(html));
}

void bif_html_addf(bif_text_buffer *out, const char *format, ...)
{
    char small[512];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if ((size_t)size < sizeof small) {
        bif_text_add(out, small, (size_t)size);
        return;
    }
    char *large = bif_malloc((size_t)size + 1);
    va_start(arguments, format);
    vsnprintf(large, (size_t)size + 1, format, arguments);
    va_end(arguments);
    bif_text_add(out, large, (size_t)size);
    free(large);
}

static bool hides(uint32_t code)
{
    return (code < 0x20 && code != '\n' && code != '\t') || (code >= 0x7f && code < 0xa0) || code == 0x061c ||
           (code >= 0x200e && code <= 0x200f) || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
           code == 0xfeff || (code & 0xfffe) == 0xfffe;
}

void bif_html_text(bif_text_buffer *out, bif_span text, size_t most)
{
    uint32_t code = 0;
    for (size_t at = 0, step = 0; at < text.size; at += step) {
        if (most > 0 && at >= most) {
            bif_html_add(out, "\xE2\x80\xA6");
            return;
        }
        step = bif_utf8_decode(text.text + at, text.size - at, &code);
        code = step == 0 ? 0 : code;
        step = step == 0 ? 1 : step;
        if (hides(code)) {
            bif_html_add(out, "\xEF\xBF\xBD");
            continue;
        }
        switch (code) {
        case '&': bif_html_add(out, "&amp;"); break;
        case '<': bif_html_add(out, "&lt;"); break;
        case '>': bif_html_add(out, "&gt;"); break;
        case '"': bif_html_add(out, "&quot;"); break;
        case '\'': bif_html_add(out, "&#39;"); break;
        default: bif_text_add(out, text.text + at, step);
        }
    }
}

void bif_html_words(bif_text_buffer *out, const char *text)
{
    bif_html_text(out, (bif_span){text, strlen(text)}, 0);
}

void bif_html_base64(bif_text_buffer *out, const void *bytes, size_t size)
{
    char *text = bif_malloc(bif_base64_size(size) + 1);
    bif_base64_encode(bytes, size, text);
    bif_text_add(out, text, bif_base64_size(size));
    free(text);
}
