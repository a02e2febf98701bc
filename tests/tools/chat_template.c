/* Prints the Jinja of a template: tool_chat_template NAME PLACE BOS EOS, for tests/golden/check_template.py. */
#include <stdio.h>
#include <stdlib.h>

#include "data/chat_templates.h"

int main(int argc, char **argv)
{
    bif_template_kind kind;
    bif_image_place place;
    if (argc != 5 || bif_template_by_name(argv[1], &kind) != BIF_OK || bif_image_place_by_name(argv[2], &place) != BIF_OK) {
        fprintf(stderr, "usage: tool_chat_template NAME PLACE BOS EOS\n%s\n", bif_error_message());
        return 64;
    }
    char *jinja = bif_template_jinja(kind, NULL, place, *argv[3] != '\0' ? argv[3] : NULL, argv[4]);
    fputs(jinja, stdout);
    free(jinja);
    return 0;
}
