/* BLEU, ROUGE-L and CIDEr-D of tokenized captions, to the letter of coco-caption's Python (pycocoevalcap). */
#pragma once
#include "eval/text.h"

typedef struct {
    bif_span prediction;         /* tokens parted by single spaces */
    const bif_span *references;  /* [reference_count], at least one; likewise */
    int64_t reference_count;
    /* filled in */
    double cider, rouge;         /* 0 to 10, 0 to 1 */
    int64_t length, closest;     /* tokens of the prediction, and of the reference nearest to that (of two the shorter) */
    int64_t correct[4];          /* n-grams of the prediction, n = 1 to 4, that a reference has, each as often as there at most */
} bif_caption;

/* Document frequencies are of all captions given: in how many of them some reference has an n-gram. One alone has a CIDEr of 0. */
void bif_caption_score(bif_caption *captions, int64_t count);

/* Sums over a corpus, and BLEU-1 to 4 of them. guess[n-1] sums max(0, length - n + 1). */
typedef struct {
    int64_t length, closest, guess[4], correct[4];
} bif_bleu;
void bif_bleu_add(bif_bleu *sums, const bif_caption *caption, int64_t times);
void bif_bleu_score(const bif_bleu *sums, double bleu[4]);
