/* Writing tokenizer.json: what transformers and tokenizers open. Merges are "a b" strings, which tokenizers of before
 * 0.20 read too. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/tokenizer_internal.h"

static json_t *added_json(const bif_tokenizer *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->added_count; i++) {
        const bif_added *added = &t->added[i];
        json_array_append_new(list,
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", added->id, "content",
                                        added->content, "single_word", added->single_word, "lstrip", added->lstrip, "rstrip",
                                        added->rstrip, "normalized", added->normalized, "special", added->special));
    }
    return list;
}

static json_t *model_json(const bif_tokenizer *t)
{
    json_t *vocab = json_object(), *merges = json_array();
    char **key = bif_calloc((size_t)t->vocab, sizeof *key);
    for (int32_t id = 0; id < t->vocab; id++) {
        key[id] = bif_tokenizer_piece(t, id);
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
    return json_pack("{s:s, s:n, s:s?, s:n, s:s?, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                     t->unk, "continuing_subword_prefix", "end_of_word_suffix", t->suffix, "fuse_unk", t->fuse_unk,
                     "byte_fallback", t->byte_fallback, "ignore_merges", t->ignore_merges, "vocab", vocab, "merges",
                     merges);
}

/* As it was read; without that, as training makes it. */
static json_t *section_json(const bif_tokenizer *t, size_t i)
{
    if (t->section[i] != NULL) {
        return json_loads(t->section[i], 0, NULL);
    }
    const bool made_here = t->section[2] == NULL; /* what is read has a decoder */
    return !made_here || i == 0 || i == 3
               ? json_null()
               : json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", i == 2, "trim_offsets", 1,
                           "use_regex", 1);
}

bif_status bif_tokenizer_save(const bif_tokenizer *t, const char *path)
{
    if (t->spm != NULL) {
        return bif_fail(BIF_ERR_USAGE, "%s: a tokenizer.model is not written as tokenizer.json; copy it", path);
    }
    json_t *root = json_pack("{s:s, s:n, s:n, s:o}", "version", "1.0", "truncation", "padding", "added_tokens", added_json(t));
    for (size_t i = 0; i < sizeof t->section / sizeof t->section[0]; i++) {
        const size_t order[] = {0, 1, 3, 2}; /* HF writes the decoder last */
        json_object_set_new(root, BIF_SECTIONS[order[i]], section_json(t, order[i]));
    }
    json_object_set_new(root, "model", model_json(t));
    bif_status st = bif_json_save_file(path, root);
    json_decref(root);
    return st;
}
