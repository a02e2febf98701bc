/* An answer shown while it is found: whole characters only, because a token may end inside one. All that is put, one after the other, is
 * what bif_answer_text makes of the answer. */
#pragma once
#include "eval/generate.h"

typedef struct bif_stream bif_stream;
/* put: called with text as soon as it is certain; not ended by '\0'. */
bif_stream *bif_stream_new(const bif_tokenizer *tokenizer, void (*put)(void *context, const char *text, size_t size), void *context);
bif_status bif_stream_id(bif_stream *stream, int32_t id);
bif_status bif_stream_end(bif_stream *stream); /* puts what was held back; no ids come after it */
void bif_stream_free(bif_stream *stream);      /* NULL is allowed */
