/* Inside of eval/generate*.c. */
#pragma once
#include "eval/choose.h"

struct bif_generator {
    bif_session *session;
    bif_generator_limits limits;
    bif_batch_limits pack; /* of the prompts' beginnings */
    int64_t fan; /* slots of a request: slot k * batch + i is the k-th of request i */
    int64_t cap, classes; /* rows of a slot; tokens the head tells apart */
    bif_batch *packed;
    bif_arena arena;
    bif_kv_cache cache;
    bif_tensor last; /* [batch, C]: the final hidden state of each prompt */
    void *scratch; /* device memory for beams that change places */
    int32_t *slots, *ids; /* host, [rows of a step] */
    int32_t *length; /* host, [batch] tokens of each prompt */
    float *logits; /* host, [batch * fan, classes]; NULL where the device chooses */
    bif_candidate *candidates;
    void (*between)(void *context);
    void *context;
    bool (*hear)(void *context, int64_t request, int32_t id);
    void *listener;
};

/* Prompts of all requests into slots 0 .. count, and g->last. BIF_ERR_DATA: one does not fit. */
bif_status bif_generator_prompts(bif_generator *g, const bif_request *requests, int64_t count);
/* g->ids[i] continues slot g->slots[i], for all i: hidden [rows, C], in the arena until it is released to `mark`. */
bif_tensor bif_generator_step(bif_generator *g, int64_t rows);
/* Logits of rows of a hidden state, to g->logits as floats (rows <= batch * fan). */
void bif_generator_logits(bif_generator *g, const bif_tensor *hidden);
/* With beams > 1. */
void bif_generate_beams(bif_generator *g, const bif_request *requests, int64_t count, bif_ids *answers);
bif_tensor bif_generator_upload(bif_generator *g, const int32_t *host, int64_t count);
