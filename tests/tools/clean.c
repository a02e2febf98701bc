/* tool_clean html|clip: texts from standard input, each ended by a NUL, as Python's html.unescape or bif_clean_text writes them, each ended
 * by a NUL; for tests/golden/check_clip_clean.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/clean.h"
#include "data/html.h"

static bool print_unescaped(const char *text, size_t size)
{
    bif_codes in = {0}, out = {0};
    uint32_t code = 0;
    for (size_t at = 0, step; at < size; at += step) {
        step = bif_utf8_decode(text + at, size - at, &code);
        if (step == 0) {
            fputs("the text is not UTF-8\n", stderr);
            return false;
        }
        bif_codes_push(&in, code);
    }
    bif_html_unescape(&in, &out);
    for (size_t i = 0; i < out.count; i++) {
        char bytes[4];
        fwrite(bytes, 1, bif_utf8_encode(out.code[i], bytes), stdout);
    }
    free(in.code);
    free(out.code);
    return true;
}

int main(int argc, char **argv)
{
    const bool html = argc == 2 && strcmp(argv[1], "html") == 0;
    char *line = NULL;
    size_t capacity = 0;
    if (!html && (argc != 2 || strcmp(argv[1], "clip") != 0)) {
        fputs("usage: tool_clean html|clip\n", stderr);
        return 64;
    }
    for (ssize_t size; (size = getdelim(&line, &capacity, '\0', stdin)) > 0;) {
        size -= line[size - 1] == '\0';
        if (html && !print_unescaped(line, (size_t)size)) {
            return 65;
        }
        if (!html) {
            char *out = NULL;
            size_t out_size = 0;
            if (bif_clean_text(BIF_CLEAN_CLIP, line, (size_t)size, &out, &out_size) != BIF_OK) {
                fprintf(stderr, "%s\n", bif_error_message());
                return 65;
            }
            fwrite(out, 1, out_size, stdout);
            free(out);
        }
        putchar('\0');
    }
    free(line);
    return 0;
}
