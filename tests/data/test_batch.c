#include <criterion/criterion.h>
#include <string.h>

#include "data/batch.h"

/* Two sequences: the first with two pictures (the second one cut by truncation), the second all supervised. */
Test(batch, two_sequences)
{
    bif_batch_limits limits = {.tokens = 10, .sequences = 2, .images = 2, .image_size = 1, .tokens_per_image = 2};
    bif_batch *b = bif_batch_new(&limits);
    int32_t ids1[] = {1, 9, 9, 5, 9}, labels1[] = {-100, -100, -100, 5, -100}, ids2[] = {7, 8, 0},
            labels2[] = {7, 8, 0};
    int64_t starts[] = {1, 4};
    uint8_t pixels[] = {1, 2, 3, 4, 5, 6};
    cr_assert(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids1, labels1, 5, starts, 2}, pixels, 42));
    cr_assert(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids2, labels2, 3, NULL, 0}, NULL, 43));
    cr_assert(b->tokens == 8 && b->sequences == 2 && b->images == 2);
    cr_assert_arr_eq(b->ids, ((int32_t[]){1, 9, 9, 5, 9, 7, 8, 0}), 8 * sizeof(int32_t));
    cr_assert_arr_eq(b->pos, ((int32_t[]){0, 1, 2, 3, 4, 0, 1, 2}), 8 * sizeof(int32_t));
    cr_assert_arr_eq(b->labels, ((int32_t[]){-100, -100, -100, 5, -100, 7, 8, 0}), 8 * sizeof(int32_t));
    cr_assert_arr_eq(b->image_row, ((int32_t[]){-1, 0, 1, -1, 2, -1, -1, -1}), 8 * sizeof(int32_t));
    cr_assert_arr_eq(b->cu_seqlens, ((int32_t[]){0, 5, 8}), 3 * sizeof(int32_t));
    cr_assert_arr_eq(b->eot, ((int32_t[]){4, 7}), 2 * sizeof(int32_t));
    cr_assert_eq(b->supervised, 3); /* 7 opens its sequence: nothing predicts it */
    cr_assert_arr_eq(b->rows, ((int32_t[]){2, 5, 6}), 3 * sizeof(int32_t));
    cr_assert_arr_eq(b->targets, ((int32_t[]){5, 8, 0}), 3 * sizeof(int32_t));
    cr_assert_arr_eq(b->pixels, pixels, sizeof pixels);
    cr_assert(b->sample[0] == 42 && b->sample[1] == 43);
    bif_batch_clear(b);
    cr_assert(b->tokens == 0 && b->supervised == 0 && b->images == 0 && b->sequences == 0 && b->cu_seqlens[0] == 0);
    bif_batch_free(b);
}

Test(batch, what_does_not_fit_is_not_added)
{
    bif_batch_limits limits = {.tokens = 4, .sequences = 2, .images = 0, .image_size = 8, .tokens_per_image = 2};
    bif_batch *b = bif_batch_new(&limits);
    int32_t ids[] = {1, 2, 3, 4, 5};
    int64_t starts[] = {0};
    cr_assert_null(b->pixels);
    cr_assert_not(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids, ids, 5, NULL, 0}, NULL, 0));
    cr_assert_not(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids, ids, 0, NULL, 0}, NULL, 0));
    cr_assert_not(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids, ids, 2, starts, 1}, (uint8_t[192]){0}, 0));
    cr_assert_eq(b->tokens, 0);
    cr_assert(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids, ids, 2, NULL, 0}, NULL, 0));
    cr_assert_not(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids, ids, 3, NULL, 0}, NULL, 0));
    cr_assert(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids, ids, 1, NULL, 0}, NULL, 0));
    cr_assert_not(bif_batch_add(b, &limits, &(struct bif_encoded_view){ids, ids, 1, NULL, 0}, NULL,
                                0)); /* two sequences at most */
    cr_assert_eq(b->tokens, 3);
    cr_assert_eq(b->supervised, 1);
    bif_batch_free(b);
    bif_batch_free(NULL);
}
