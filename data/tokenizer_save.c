/* Writing tokenizer.json: what transformers and tokenizers open. Merges are "a b" strings, which tokenizers of before
 * 0.20 read too. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/tokenizer_internal.h"

/* The key of a token in model.vocab; malloc'ed. */
static char *token_key(const bif_tokenizer *t, int32_t id)
{
    const bif_token *token = &t->token[id];
    const char *bytes = t->pool + token->offset;
    if (token->raw) {
        return bif_strdup(bytes);
    }
    char *key = bif_malloc(token->size * 2 + 1); /* characters below U+0144: two bytes at most */
    size_t used = 0;
    for (size_t i = 0; i < token->size; i++) {
        used += bif_utf8_encode(bif_byte_to_char((uint8_t)bytes[i]), key + used);
    }
    key[used] = '\0';
    return key;
}

static json_t *step_json(const bif_split_step *step)
{
    if (step->kind == BIF_STEP_SPLIT) {
        return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", step->pattern, "behavior",
                         "Isolated", "invert", 0);
    }
    if (step->kind == BIF_STEP_DIGITS) {
        return json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", step->individual);
    }
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", step->prefix_space,
                     "trim_offsets", 1, "use_regex", step->code != NULL);
}

static json_t *pre_tokenizer_json(const bif_tokenizer *t)
{
    if (t->steps == 1) {
        return step_json(&t->step[0]);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < t->steps; i++) {
        json_array_append_new(list, step_json(&t->step[i]));
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
}

static json_t *added_json(const bif_tokenizer *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->added_count; i++) {
        const bif_added *added = &t->added[i];
        json_array_append_new(list,
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", added->id, "content",
                                        added->content, "single_word", 0, "lstrip", added->lstrip, "rstrip",
                                        added->rstrip, "normalized", added->normalized, "special", added->special));
    }
    return list;
}

static json_t *model_json(const bif_tokenizer *t)
{
    json_t *vocab = json_object(), *merges = json_array();
    char **key = bif_calloc((size_t)t->vocab, sizeof *key);
    for (int32_t id = 0; id < t->vocab; id++) {
        key[id] = token_key(t, id);
        if (t->token[id].model) {
            json_object_set_new(vocab, key[id], json_integer(id));
        }
    }
    for (size_t i = 0; i < t->merges; i++) {
        char *line = bif_format("%s %s", key[t->merge[i].left], key[t->merge[i].right]);
        json_array_append_new(merges, json_string(line));
        free(line);
    }
    for (int32_t id = 0; id < t->vocab; id++) {
        free(key[id]);
    }
    free(key);
    return json_pack("{s:s, s:n, s:s?, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                     t->unk, "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                     "ignore_merges", t->ignore_merges, "vocab", vocab, "merges", merges);
}

bif_status bif_tokenizer_save(const bif_tokenizer *t, const char *path)
{
    json_t *normalizer = t->nfc ? json_pack("{s:s}", "type", "NFC") : json_null();
    json_t *post = t->post_processor != NULL ? json_loads(t->post_processor, 0, NULL) : json_null();
    json_t *root =
        json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:{s:s, s:b, s:b, s:b}, s:o}", "version", "1.0", "truncation",
                  "padding", "added_tokens", added_json(t), "normalizer", normalizer, "pre_tokenizer",
                  pre_tokenizer_json(t), "post_processor", post, "decoder", "type", "ByteLevel", "add_prefix_space", 1,
                  "trim_offsets", 1, "use_regex", 1, "model", model_json(t));
    BIF_BUG_IF(root == NULL, "tokenizer.json could not be put together");
    bif_status st = bif_json_save_file(path, root);
    json_decref(root);
    return st;
}
