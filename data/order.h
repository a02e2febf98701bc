/* Orders in which samples are visited: LLaVA's grouping by modality and length, and orders read from a file. */
#pragma once
#include "base/status.h"

/* The number at `place` of a random permutation of 0..n-1; `which` tells the permutations of one epoch apart. */
typedef uint64_t (*bif_order_draw)(void *context, int which, uint64_t n, uint64_t place);

/* LLaVA's group_by_modality_length (get_modality_length_grouped_indices), to the index when `draw` gives the permutations that
 * torch.randperm gave there.
 *
 * length [n]: words of a sample, > 0 with pictures and < 0 without; never 0. The samples of a kind are permuted (which = 0: with pictures, 1:
 * without) and cut into megabatches of batch * chunks; each is sorted by length, longest first, and dealt to `chunks` chunks of equally many
 * samples and about equal length, which follow one another. The megabatches of both kinds but the last of each are permuted together (which
 * = 2); the two last ones come at the end as one batch, sorted by number. With samples of one kind alone, nothing is permuted a second time and
 * the last megabatch (then dealt sample by sample if it does not divide) stays last. Of text alone LLaVA's negative lengths sort the wrong way round
 * and fill one chunk after the other: there this differs, and balances them like pictures.
 *
 * order [n] receives every number below n once. n < 2^32. */
void bif_order_by_modality(const int32_t *length, int64_t n, int64_t batch, int64_t chunks, bif_order_draw draw, void *context,
                           uint32_t *order);

/* Words as Python's str.split() counts them. */
int64_t bif_count_words(const char *text, size_t size);

/* An order from a file: text with one number a line, or .npy of one dimension (u4, u8, i4, i8, little endian, not Fortran's). Every number must
 * be below `samples` (< 2^32); they may be fewer or more than that, and repeat. *order is malloc'ed [*count]. BIF_ERR_DATA names file and line (or
 * entry). */
bif_status bif_order_read(const char *path, int64_t samples, uint32_t **order, int64_t *count);
