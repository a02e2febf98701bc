/* Hashes of captions: equal ones after normalisation, and near ones by MinHash.
 *
 * Normal form: Unicode's NFKC with case folded and ignorable characters dropped (utf8proc), runs of white space and control characters as
 * one space, punctuation (categories P*) and spaces taken off both ends. Bytes that are no UTF-8 are dropped.
 *
 * MinHash: the set of all runs of 5 characters of the normal form (a shorter text is one run as a whole), each as x = the low 32 bits of
 * the XXH3-64 of its UTF-8; value i is the least of (a_i x + b_i mod 2^64) >> 32 over the set, a family in which any two x are spread
 * independently. a_i and b_i are Philox words of seed 5, purpose 12, index i, sub 0: a_i = word 0 << 32 | word 1, made odd; b_i = word 2 <<
 * 32 | word 3. The share of equal values of two texts estimates the Jaccard similarity of their sets, with deviation sqrt(s (1 - s) / 128);
 * b bands of r values for LSH are runs of r. */
#pragma once
#include "base/status.h"

#define BIF_CAPTION_METHOD "XXH3-128 of NFKC, case folded, white space as one space, punctuation trimmed"
#define BIF_MINHASH_METHOD "MinHash of 5 characters of the normal caption, 128 of (a x + b) >> 32, version 1"

enum { BIF_MINHASH_WIDTH = 128, BIF_MINHASH_RUN = 5 };

/* The normal form, malloc'ed and terminated; may be empty. */
char *bif_text_normal(const char *text, size_t size, size_t *out_size);

/* Of a normal form: XXH3-128 (high, low); 0, 0 of an empty one. */
void bif_text_hash(const char *normal, size_t size, uint64_t out[2]);
/* Of a normal form; all 2^32 - 1 of an empty one. */
void bif_text_minhash(const char *normal, size_t size, uint32_t out[BIF_MINHASH_WIDTH]);
