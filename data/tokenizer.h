/* Byte-level BPE, as in GPT-2 and Hugging Face tokenizers: train one, and read and write it as tokenizer.json.
 *
 * Text is first cut at added (special) tokens, then by the pre-tokenizer's patterns (PCRE2; GPT-2's for trained ones),
 * then bytes are merged by rank. Bytes that are not UTF-8 are words of their own, so any byte sequence survives encode
 * -> decode (unless a foreign vocabulary lacks bytes; those become its unknown token, or an error without one). Ids are
 * dense 0..vocab-1, at most 1,000,000. Encoding is const and thread-safe, iterative, and n log n in the length of a
 * word.
 *
 * What a file may hold: model BPE (merges as "a b" or ["a", "b"]; ignore_merges; no dropout, prefix, suffix, fuse_unk,
 * byte_fallback); pre_tokenizer ByteLevel, or a Sequence of Split (Regex, Isolated) and Digits that ends with
 * ByteLevel; normalizer null or NFC; decoder ByteLevel; post_processor ByteLevel or TemplateProcessing, which is kept
 * but not applied: BOS and EOS are the chat template's work (data/chat.h); truncation and padding are ignored; added
 * tokens with lstrip, rstrip, normalized (not single_word). All else is refused by name: a tokenizer that is nearly
 * right gives ids that are silently wrong. */
#pragma once
#include "base/status.h"

typedef struct bif_tokenizer bif_tokenizer;

typedef struct {
    int32_t *ids; /* malloc'ed, grown by appends; freed by bif_ids_free */
    size_t count, capacity;
} bif_ids;
void bif_ids_free(bif_ids *ids);
void bif_ids_push(bif_ids *ids, int32_t id);

/* Reads tokenizer.json (model type BPE with byte-level pre-tokenizer and decoder; what it does not understand it
 * refuses by name). `path` may also be a folder that holds tokenizer.json. */
bif_status bif_tokenizer_load(const char *path, bif_tokenizer **out);
bif_status bif_tokenizer_parse(const char *where, const char *json, size_t size, bif_tokenizer **out);
bif_status bif_tokenizer_save(const bif_tokenizer *tokenizer, const char *path); /* atomic; transformers opens it */
void bif_tokenizer_free(bif_tokenizer *tokenizer);

/* Trains on texts (UTF-8 or any bytes). vocab_size includes the 256 bytes and the specials; specials get the LAST ids
 * in the order given, and the trained vocabulary may be smaller if merges run out. Ties are broken so that the result
 * equals Hugging Face tokenizers' BpeTrainer where it is deterministic (count, then smaller pair of ids); same result
 * for any thread count. The ids: 256 bytes in GPT-2's order, then merges by rank, then specials. BIF_ERR_USAGE for
 * sizes or specials that can not be. */
bif_status bif_tokenizer_train(const char *const *texts, const size_t *sizes, size_t count, int64_t vocab_size,
                               const char *const *specials, size_t special_count, bif_tokenizer **out);

int64_t bif_tokenizer_vocab(const bif_tokenizer *tokenizer);
/* Id of an added token, special or not, by its text ("<image>", "</s>"), -1 if there is none. */
int32_t bif_tokenizer_special(const bif_tokenizer *tokenizer, const char *text);
/* The token of an id as bytes (specials: their text); NULL if out of range. Owned by the tokenizer. */
const char *bif_tokenizer_token(const bif_tokenizer *tokenizer, int32_t id, size_t *size);

/* Appends the ids of text. parse_special = false treats the text of special tokens as plain text (user input must not
 * forge them); added tokens that are not special are found in both cases, as in HF. On failure `out` may hold some of
 * the ids. */
bif_status bif_tokenizer_encode(const bif_tokenizer *tokenizer, const char *text, size_t size, bool parse_special,
                                bif_ids *out);
/* malloc'ed bytes with a '\0' behind; skip_special leaves specials out. */
bif_status bif_tokenizer_decode(const bif_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                                char **out, size_t *size);
