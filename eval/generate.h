/* Batched decoding with a KV cache: greedy, sampled, by beams, or the likelihood of given answers. The result of a request does not depend
 * on what shares its batch.
 *
 * A prompt is computed in two parts when its text behind the last picture is short (at most BIF_TAIL_TOKENS): what is before, once for all
 * requests of the batch that begin alike (many questions about one picture), and the text behind, which continues a copy of those keys and
 * values. The cut depends on the prompt alone. */
#pragma once
#include "eval/session.h"

#define BIF_TAIL_TOKENS 64

typedef struct {
    int64_t max_new;
    double temperature; /* 0 = greedy: the likeliest token, the first of equals */
    double top_p; /* of the likeliest tokens as many as make up this share; 1 (or 0) = all */
    int64_t top_k; /* only so many of the likeliest tokens; 0 = all */
    uint64_t seed; /* of sampling: a token is drawn by (seed, the request's number, its place in the answer) */
    int64_t beams; /* 0 or 1 = none. With more: log-probabilities divided by length^length_penalty, ended as transformers ends
                    * with early_stopping = False; temperature, top_p and top_k do not count */
    double length_penalty; /* 1 = mean log-probability of a token, the stop token included */
} bif_decoding;
/* "greedy, 16 new tokens", ...; malloc'ed. */
char *bif_decoding_text(const bif_decoding *decoding);

typedef struct {
    const bif_encoded *prompt; /* from bif_chat_prompt */
    const uint8_t *pixels; /* [images, S, S, 3] or NULL */
    int64_t images;
    int64_t same; /* 1 + an earlier request of the batch with the same pictures, 0 = none that is known of */
    uint64_t number; /* of the question, for sampling */
    const bif_ids *options; /* for bif_rank: the tokens of each given answer, at least one */
    int64_t option_count;
} bif_request;

typedef struct bif_generator bif_generator;
typedef struct {
    int64_t batch, max_prompt, max_images; /* requests at a time; tokens and pictures of one */
    bif_decoding decoding;
    int64_t max_options, max_option; /* for bif_rank: answers of a request, and tokens of one; else 0 */
} bif_generator_limits;
/* Plans memory. BIF_ERR_USAGE: settings of decoding that make no sense. */
bif_status bif_generator_new(bif_session *session, const bif_generator_limits *limits, bif_generator **out);
/* What it would take of the device, of a model whose weights need not be there; 0: settings that make no sense. */
size_t bif_generator_measure(bif_session *session, const bif_generator_limits *limits);
void bif_generator_free(bif_generator *generator);
/* Something to do between the steps of decoding (a rank that serves others polls there); NULL = nothing. */
void bif_generator_between(bif_generator *generator, void (*between)(void *context), void *context);
/* Called with each id of an answer as it is found (not with the stop token, nor with beams); false ends that answer behind it. NULL =
 * nobody listens. */
void bif_generator_listen(bif_generator *generator, bool (*hear)(void *context, int64_t request, int32_t id), void *context);
/* answers[i] receives the ids without the stop token; count <= batch. */
bif_status bif_generate(bif_generator *generator, const bif_request *requests, int64_t count, bif_ids *answers);
/* scores[i * max_options + k] = sum of the log-probabilities of the tokens of option k of request i behind its prompt (natural logarithm).
 */
bif_status bif_rank(bif_generator *generator, const bif_request *requests, int64_t count, double *scores);
/* The answer as people read it: no special tokens, no white space before it, and valid UTF-8 (a model may stop inside a character; such
 * bytes and zero bytes become U+FFFD). *out is malloc'ed. */
bif_status bif_answer_text(const bif_session *session, const bif_ids *answer, char **out);
