#include "eval/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

struct bif_stream {
    const bif_tokenizer *tokenizer;
    void (*put)(void *context, const char *text, size_t size);
    void *context;
    bif_ids ids;
    size_t done; /* bytes of the text, its leading white space aside, that were put */
};

bif_stream *bif_stream_new(const bif_tokenizer *tokenizer, void (*put)(void *context, const char *text, size_t size), void *context)
{
    bif_stream *s = bif_calloc(1, sizeof *s);
    *s = (bif_stream){.tokenizer = tokenizer, .put = put, .context = context};
    return s;
}

void bif_stream_free(bif_stream *stream)
{
    if (stream != NULL) {
        bif_ids_free(&stream->ids);
        free(stream);
    }
}

/* Whether bytes at the end of a text may be the beginning of a character. */
static bool may_become_one(const char *text, size_t size)
{
    const unsigned char first = (unsigned char)*text;
    const size_t length = first >= 0xF0 && first <= 0xF4 ? 4 : first >= 0xE0 && first < 0xF0 ? 3 : first >= 0xC2 && first < 0xE0 ? 2 : 0;
    for (size_t i = 1; i < size; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80) {
            return false;
        }
    }
    return size < length;
}

/* The ids are decoded as a whole again: the text of the first n ids is the beginning of that of more, and answers are short. */
static bif_status advance(bif_stream *s, bool end)
{
    char *text = NULL;
    size_t size = 0;
    const bif_status st = bif_tokenizer_decode(s->tokenizer, s->ids.ids, s->ids.count, true, &text, &size);
    if (st != BIF_OK) {
        return st;
    }
    const size_t lead = strspn(text, " \n\t"); /* the answer segment starts with the template's space */
    for (size_t at = lead + s->done; at < size;) {
        const size_t valid = bif_utf8_check(text + at, strnlen(text + at, size - at));
        if (valid > 0) {
            s->put(s->context, text + at, valid);
            at += valid;
        } else if (!end && may_become_one(text + at, size - at)) {
            break;
        } else {
            s->put(s->context, "\xEF\xBF\xBD", 3);
            at++;
        }
        s->done = at - lead;
    }
    free(text);
    return BIF_OK;
}

bif_status bif_stream_id(bif_stream *stream, int32_t id)
{
    bif_ids_push(&stream->ids, id);
    return advance(stream, false);
}

bif_status bif_stream_end(bif_stream *stream)
{
    return advance(stream, true);
}
