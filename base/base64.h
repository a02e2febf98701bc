/* Base64 of RFC 4648, with padding. */
#pragma once
#include "base/json_scan.h"

/* Characters that `size` bytes become. */
static inline size_t bif_base64_size(size_t size)
{
    return (size + 2) / 3 * 4;
}
void bif_base64_encode(const void *bytes, size_t size, char *out); /* writes bif_base64_size(size) characters and no '\0' */
/* White space is skipped and the text ends at the first '='. *out is malloc'ed. BIF_ERR_DATA naming the byte; what: the name in the
 * message. */
bif_status bif_base64_decode(const char *what, bif_span text, char **out, size_t *size);
