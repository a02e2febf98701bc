/* Batched greedy decoding with a KV cache. The answer of a request does not depend on what shares its batch. */
#pragma once
#include "eval/session.h"

typedef struct {
    const bif_encoded *prompt; /* from bif_chat_prompt */
    const uint8_t *pixels;     /* [images, S, S, 3] or NULL */
    int64_t images;
} bif_request;

typedef struct bif_generator bif_generator;
/* Plans memory for batches of at most `batch` requests, each with at most max_prompt tokens, max_images pictures and max_new new tokens. */
bif_status bif_generator_new(bif_session *session, int64_t batch, int64_t max_prompt, int64_t max_images, int64_t max_new, bif_generator **out);
void bif_generator_free(bif_generator *generator);
/* Something to do between the steps of decoding (a rank that serves others polls there); NULL = nothing. */
void bif_generator_between(bif_generator *generator, void (*between)(void *context), void *context);
/* answers[i] receives the ids without the stop token; count <= batch. */
bif_status bif_generate(bif_generator *generator, const bif_request *requests, int64_t count, bif_ids *answers);
/* The answer as people read it: no special tokens, no white space before it, and valid UTF-8 (a model may stop inside a character; such bytes and
 * zero bytes become U+FFFD). *out is malloc'ed. */
bif_status bif_answer_text(const bif_session *session, const bif_ids *answer, char **out);
