/* Choosing tokens by logits on the host, in double. */
#pragma once
#include "eval/generate.h"

/* Log of the softmax's denominator. NaN counts as minus infinity; without a finite logit the result is not finite. */
double bif_log_sum_exp(const float *logits, int64_t count);

typedef struct {
    double score;
    int64_t index;
} bif_candidate;
/* The `most` greatest of score[i], the greatest first, of equals the lowest index first; returns how many there are (NaN and -infinity are
 * none). */
int64_t bif_top(const double *score, int64_t count, int64_t most, bif_candidate *out);

/* A token by temperature, then top_k, then top_p: of the tokens by falling probability the shortest beginning whose sum reaches top_p (of
 * the sum of top_k). uniform in [0, 1). scratch: [count]. Without a finite logit 0. */
int64_t bif_sample(const float *logits, int64_t count, const bif_decoding *decoding, double uniform, bif_candidate *scratch);
/* What bif_sample chooses from: tokens with their probabilities, which sum to 1, likeliest first; returns how many. */
int64_t bif_sample_from(const float *logits, int64_t count, const bif_decoding *decoding, bif_candidate *out);
