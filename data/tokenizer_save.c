/* Writing tokenizer.json: what transformers and tokenizers open. Merges are "a b" strings, which tokenizers of before
 * 0.20 read too. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/tokenizer_internal.h"

/* What a text behind it begins anew: BOS and pictures, as LLaVA tokenizes. For a tokenizer.model that is not legacy; behind all its other special
 * tokens the text goes on without a prefix space. */
static bool begins_anew(const char *content)
{
    return strcmp(content, "<s>") == 0 || strcmp(content, "<image>") == 0;
}

/* Searched when the prefix space is there already: what lies behind gets none of its own. */
static bool goes_on(const bif_tokenizer *t, const bif_added *added)
{
    return t->spm != NULL && !t->spm->legacy && !begins_anew(added->content);
}

static int by_id(const void *a, const void *b)
{
    const int32_t x = (*(const bif_added *const *)a)->id, y = (*(const bif_added *const *)b)->id;
    return (x > y) - (x < y);
}

/* By id: tokenizers numbers those that are not in the vocabulary as they come. */
static json_t *added_json(const bif_tokenizer *t)
{
    json_t *list = json_array();
    const bif_added **order = bif_calloc(t->added_count + 1, sizeof *order);
    for (size_t i = 0; i < t->added_count; i++) {
        order[i] = &t->added[i];
    }
    qsort(order, t->added_count, sizeof *order, by_id);
    for (size_t i = 0; i < t->added_count; i++) {
        const bif_added *added = order[i];
        json_array_append_new(list,
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", added->id, "content",
                                        added->content, "single_word", added->single_word, "lstrip", added->lstrip, "rstrip",
                                        added->rstrip, "normalized", added->normalized || goes_on(t, added), "special", added->special));
    }
    free(order);
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

/* The prefix space at the very front of a text whose first token goes on, as it does alone when it is searched for. */
static char *no_prefix_pattern(const bif_tokenizer *t)
{
    char *names = bif_strdup("");
    for (size_t i = 0; i < t->added_count; i++) {
        if (goes_on(t, &t->added[i])) {
            char *plain = bif_malloc(2 * strlen(t->added[i].content) + 1), *p = plain;
            for (const char *c = t->added[i].content; *c != '\0'; c++) {
                if (strchr("\\^$.|?*+()[]{}", *c) != NULL) {
                    *p++ = '\\';
                }
                *p++ = *c;
            }
            *p = '\0';
            char *longer = bif_format("%s%s%s", names, *names != '\0' ? "|" : "", plain);
            free(plain);
            free(names);
            names = longer;
        }
    }
    char *pattern = *names != '\0' ? bif_format("(?<!\\s)(?<!\\S)\xe2\x96\x81(?=%s)", names) : NULL;
    free(names);
    return pattern;
}

/* What a tokenizer.json does instead of SentencePiece and LlamaTokenizer. In its legacy way: a prefix space before every text between special
 * tokens; else before what begins anew. */
static void set_spm_sections(const bif_tokenizer *t, json_t *root)
{
    json_t *steps = json_pack("[{s:s, s:s}]", "type", "Prepend", "prepend", "\xe2\x96\x81");
    char *pattern = no_prefix_pattern(t);
    if (pattern != NULL) {
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "Regex", pattern, "content", ""));
    }
    json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", "\xe2\x96\x81"));
    free(pattern);
    static const char decoder[] = "{\"type\": \"Sequence\", \"decoders\": ["
                                  "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, "
                                  "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"
                                  " {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}";
    json_object_set_new(root, "normalizer", json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps));
    json_object_set_new(root, "pre_tokenizer", json_null());
    json_object_set_new(root, "decoder", json_loads(decoder, 0, NULL));
    json_object_set_new(json_object_get(root, "model"), "fuse_unk", json_true());
}

bool bif_tokenizer_can_save(const bif_tokenizer *t)
{
    const bif_spm *s = t->spm;
    bool good = s == NULL || (!s->unigram && !s->canonical && s->dummy_prefix && !s->remove_spaces && s->escape &&
                              s->units == 0 && s->user.count == 0 && !s->any_unused && t->byte_fallback);
    for (size_t i = 0; s != NULL && i < t->merges && good; i++) { /* a character that only stands inside pieces has no name there */
        good = t->merge[i].left < t->vocab && t->merge[i].right < t->vocab;
    }
    return good;
}

bif_status bif_tokenizer_save(const bif_tokenizer *t, const char *path)
{
    if (!bif_tokenizer_can_save(t)) {
        return bif_fail(BIF_ERR_USAGE, "%s: this SentencePiece model is not written as tokenizer.json; copy it", path);
    }
    json_t *root = json_pack("{s:s, s:n, s:n, s:o}", "version", "1.0", "truncation", "padding", "added_tokens", added_json(t));
    for (size_t i = 0; i < sizeof t->section / sizeof t->section[0]; i++) {
        const size_t order[] = {0, 1, 3, 2}; /* HF writes the decoder last */
        json_object_set_new(root, BIF_SECTIONS[order[i]], section_json(t, order[i]));
    }
    json_object_set_new(root, "model", model_json(t));
    if (t->spm != NULL) {
        set_spm_sections(t, root);
    }
    bif_status st = bif_json_save_file(path, root);
    json_decref(root);
    return st;
}
