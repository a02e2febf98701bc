/* data.truncate is LLaVA's: the text is cut to the limit with one id a picture (its collator), then pictures are expanded and everything is cut
 * from the right again (prepare_inputs_labels_for_multimodal). One cut after the expansion gives the same. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "data/chat.h"

enum { ROWS = 5 };

static const char *const samples[] = {
    "{\"conversations\":[{\"from\":\"human\",\"value\":\"<image>\\nwhat is this?\"},{\"from\":\"gpt\",\"value\":\"a red circle\"},"
    "{\"from\":\"human\",\"value\":\"and that?\"},{\"from\":\"gpt\",\"value\":\"blue\"}]}",
    "{\"conversations\":[{\"from\":\"human\",\"value\":\"what is red?\"},{\"from\":\"gpt\",\"value\":\"a circle, I think\"}]}",
    "{\"conversations\":[{\"from\":\"human\",\"value\":\"no picture\"},{\"from\":\"gpt\",\"value\":\"none\"},"
    "{\"from\":\"human\",\"value\":\"<image><image>\\nnow two\"},{\"from\":\"gpt\",\"value\":\"both of them\"}]}"};
static const int64_t pictures[] = {1, 0, 2};

/* What LLaVA makes of a sample that was cut with one id a picture. */
static void expand(const bif_encoded *cut, int32_t image, int64_t most, bif_ids *ids, bif_ids *labels)
{
    int64_t picture = 0;
    for (size_t i = 0; i < cut->ids.count; i++) {
        const bool here = picture < cut->images && cut->image_start[picture] == (int64_t)i;
        picture += here;
        for (int k = 0; k < (here ? ROWS : 1); k++) {
            bif_ids_push(ids, here ? image : cut->ids.ids[i]);
            bif_ids_push(labels, cut->labels.ids[i]);
        }
    }
    ids->count = ids->count < (size_t)most ? ids->count : (size_t)most;
    labels->count = ids->count;
}

Test(truncate, one_cut_is_llavas_two)
{
    const char *texts[] = {"what is this? a red circle", "and that? blue"};
    const size_t sizes[] = {strlen(texts[0]), strlen(texts[1])};
    const char *specials[] = {"<s>", "</s>", "<image>"};
    bif_tokenizer *tokenizer = NULL;
    cr_assert_eq(bif_tokenizer_train(texts, sizes, 2, 280, specials, 3, &tokenizer), BIF_OK);
    bif_chat chat = {.tokenizer = tokenizer, .kind = BIF_TEMPLATE_VICUNA_V1, .system = "", .truncate = true};
    chat.bos = bif_tokenizer_special(tokenizer, "<s>");
    chat.eos = bif_tokenizer_special(tokenizer, "</s>");
    chat.image = bif_tokenizer_special(tokenizer, "<image>");
    int compared = 0, refused = 0;
    for (size_t s = 0; s < 3; s++) {
        for (chat.max_tokens = 2; chat.max_tokens < 120; chat.max_tokens++) {
            bif_encoded one = {0}, two = {0};
            bif_ids ids = {0}, labels = {0};
            chat.image_tokens = 1;
            const bif_status narrow = bif_chat_encode(&chat, "test", samples[s], strlen(samples[s]), pictures[s], &one);
            chat.image_tokens = ROWS;
            const bif_status wide = bif_chat_encode(&chat, "test", samples[s], strlen(samples[s]), pictures[s], &two);
            if (wide == BIF_OK) { /* then something is supervised within the limit, and so it was before the expansion */
                cr_assert_eq(narrow, BIF_OK);
                expand(&one, chat.image, chat.max_tokens, &ids, &labels);
                cr_assert_eq(ids.count, two.ids.count, "sample %zu, limit %d", s, (int)chat.max_tokens);
                cr_assert_arr_eq(ids.ids, two.ids.ids, ids.count * sizeof *ids.ids);
                cr_assert_arr_eq(labels.ids, two.labels.ids, ids.count * sizeof *ids.ids);
                compared++;
            } else {
                cr_assert(strstr(bif_error_message(), "nothing is supervised within the limit") != NULL, "%s", bif_error_message());
                refused++;
            }
            bif_encoded_free(&one);
            bif_encoded_free(&two);
            bif_ids_free(&ids);
            bif_ids_free(&labels);
        }
    }
    cr_expect(compared > 150 && refused > 20, "%d compared, %d refused", compared, refused);
    bif_tokenizer_free(tokenizer);
}
