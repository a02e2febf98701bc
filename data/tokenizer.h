/* Tokenizers: train a byte-level BPE, and read those that checkpoints come with.
 *
 * Text is first cut at added (special) tokens, then normalized, then cut by the pre-tokenizer's patterns (PCRE2), then
 * merged by rank. Ids are dense 0..vocab-1, at most 1,000,000. Encoding is const and thread-safe, iterative, and n log n
 * in the length of a word. What is read:
 *
 * tokenizer.json   model BPE (merges as "a b" or ["a", "b"]; ignore_merges, byte_fallback, fuse_unk, unk_token;
 *                  end_of_word_suffix with ByteLevel; no dropout, no prefix); normalizers NFC, NFD, NFKC, NFKD,
 *                  Lowercase, Replace, Prepend; pre_tokenizers ByteLevel (last), Split (Regex or String, every
 *                  behavior, invert), Digits, Metaspace; decoders ByteLevel, Metaspace, or Replace, ByteFallback, Fuse
 *                  and Strip; added tokens with all their flags. The post_processor is kept but not applied: BOS and EOS
 *                  are the chat template's work (data/chat.h); truncation and padding are ignored.
 * tokenizer.model  SentencePiece, BPE or unigram, with any normalizer (its charsmap is applied), byte fallback,
 *                  user-defined, control and unused pieces; not treat_whitespace_as_suffix. tokenizer_config.json,
 *                  added_tokens.json and special_tokens_map.json beside it bring added tokens and `legacy`: true (also
 *                  when it is missing) puts the prefix space before each piece between special tokens, false only at
 *                  the start of a text, as transformers' LlamaTokenizer does.
 * spiece.model     the same as SiglipTokenizer takes it (also when tokenizer_config.json says so): lower case, without ASCII's punctuation,
 *                  runs of white space one space.
 * vocab.json + merges.txt   CLIP (tokens end with </w>), GPT-2 and Qwen2, as transformers sets them up: for CLIP NFC,
 *                  runs of white space become one space, lower case. OpenAI's own code also runs ftfy and unescapes HTML
 *                  first; that is not done.
 *
 * Normal forms are utf8proc's, a few Unicode versions ahead of those of HF tokenizers.
 *
 * All else is refused by name: a tokenizer that is nearly right gives ids that are silently wrong.
 *
 * Bytes that are not UTF-8: a byte-level tokenizer without a normalizer but NFC takes each run of them as a word, so any
 * bytes survive encode -> decode (unless its vocabulary lacks bytes; those become its unknown token, or an error without
 * one). All others read each such byte as U+FFFD, as SentencePiece does. */
#pragma once
#include "base/status.h"

typedef struct bif_tokenizer bif_tokenizer;

typedef struct {
    int32_t *ids; /* malloc'ed, grown by appends; freed by bif_ids_free */
    size_t count, capacity;
} bif_ids;
void bif_ids_free(bif_ids *ids);
void bif_ids_push(bif_ids *ids, int32_t id);

/* What tokenizer_config.json beside a tokenizer says: the ids of eos_token and pad_token (-1: nothing), and the side that texts are
 * padded on. */
typedef struct {
    int32_t eos, pad;
    bool pad_left;
} bif_tokenizer_names;
bif_tokenizer_names bif_tokenizer_named(const bif_tokenizer *tokenizer);

/* Where a text stands decides about the prefix space of tokenizers that have one: at the start of what was tokenized in
 * one go (also behind BOS or an image), right behind a special token, or in the middle of a text. */
typedef enum { BIF_TEXT_START = 0, BIF_TEXT_AFTER_SPECIAL = 1, BIF_TEXT_CONTINUES = 2 } bif_text_place;

/* The content of the file decides what it is. Of a folder: spiece.model, else tokenizer.json, else tokenizer.model, else vocab.json with
 * merges.txt. */
bif_status bif_tokenizer_load(const char *path, bif_tokenizer **out);
bif_status bif_tokenizer_parse(const char *where, const char *json, size_t size, bif_tokenizer **out);
/* The file of a folder that bif_tokenizer_load takes, malloc'ed; NULL if there is none. */
char *bif_tokenizer_in(const char *folder);
/* What lies under the path's folder that belongs to the tokenizer: file names, ended by NULL. */
extern const char *const bif_tokenizer_files[];
/* As tokenizer.json, atomic; transformers opens it. BIF_ERR_USAGE for a SentencePiece model that is not as Llama's (BPE with bytes to fall back
 * to, nothing normalized, no user-defined pieces): bif_tokenizer_can_save is false of it. One that is not legacy is written for chats: text behind
 * "<s>" and "<image>" begins anew, with a prefix space, behind all other special tokens it goes on; its ids differ from those of the file read
 * here only where a text spells "<s>" or "<image>" behind other text, or spells another special token at its start and is not parsed for them. */
bool bif_tokenizer_can_save(const bif_tokenizer *tokenizer);
bif_status bif_tokenizer_save(const bif_tokenizer *tokenizer, const char *path);
void bif_tokenizer_free(bif_tokenizer *tokenizer);

/* ---- special tokens that a tokenizer does not come with (data/tokenizer_added.c) ---- */
typedef struct {
    const char *text;
    int32_t id;
} bif_new_token;
/* Adds a special token to a loaded tokenizer, as transformers' add_special_tokens does: an added token stays as it is, a token of the model
 * becomes special, all else gets the next id. */
bif_status bif_tokenizer_add(bif_tokenizer *tokenizer, const char *text, int32_t *id);
/* The padding token that tokenizer_config.json or special_tokens_map.json beside the tokenizer names, malloc'ed; NULL when they name none, or
 * the unknown token, which LLaVA's tokenizers have for want of another. path: as for bif_tokenizer_load. */
bif_status bif_tokenizer_pad(const char *path, char **out);
/* Adds special tokens to the files of a tokenizer in `folder`, so that bif_tokenizer_load and transformers find them under their ids:
 * tokenizer.json where there is one, tokenizer_config.json and added_tokens.json; "<image>" becomes the image_token and "<pad>" the pad_token
 * of the files that name such. All else in them stays. */
bif_status bif_tokenizer_add_to_folder(const char *folder, const bif_new_token *tokens, size_t count);

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
/* Whether a text behind this special token only continues the one before (BIF_TEXT_CONTINUES), because the tokenizer.json looks for the token
 * when the prefix space stands already: "normalized" under a Prepend. */
bool bif_tokenizer_goes_on(const bif_tokenizer *tokenizer, int32_t id);
/* Id of any token by its text as the file writes it, -1 if there is none. Looks at all of them. */
int32_t bif_tokenizer_find(const bif_tokenizer *tokenizer, const char *text);
/* The token of an id as bytes (specials: their text); NULL if out of range. Owned by the tokenizer. */
const char *bif_tokenizer_token(const bif_tokenizer *tokenizer, int32_t id, size_t *size);
/* The token of an id as the file writes it ("\u0120the", "\u2581the", "<0x0A>"), malloc'ed; NULL if out of range. */
char *bif_tokenizer_piece(const bif_tokenizer *tokenizer, int32_t id);

/* Appends the ids of text. parse_special = false treats the text of special tokens as plain text (user input must not
 * forge them); added tokens that are not special are found in both cases, as in HF. On failure `out` may hold some of
 * the ids. */
bif_status bif_tokenizer_encode(const bif_tokenizer *tokenizer, const char *text, size_t size, bool parse_special,
                                bif_ids *out);
bif_status bif_tokenizer_encode_at(const bif_tokenizer *tokenizer, const char *text, size_t size, bool parse_special,
                                   bif_text_place place, bif_ids *out);
/* malloc'ed bytes with a '\0' behind; skip_special leaves specials out. */
bif_status bif_tokenizer_decode(const bif_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                                char **out, size_t *size);

/* ---- for files of other programs (data/tokenizer_view.c) ---- */

typedef enum {
    BIF_TOKEN_NORMAL = 1,
    BIF_TOKEN_UNKNOWN = 2,
    BIF_TOKEN_CONTROL = 3,      /* special */
    BIF_TOKEN_USER_DEFINED = 4, /* added and not special: found in any text */
    BIF_TOKEN_UNUSED = 5,
    BIF_TOKEN_BYTE = 6,
} bif_token_type; /* SentencePiece's numbers */
bif_token_type bif_tokenizer_type(const bif_tokenizer *tokenizer, int32_t id);

/* How a tokenizer is made. Everything is borrowed from it. */
typedef struct {
    bool byte_level;    /* its words are bytes, and its pieces written in GPT-2's alphabet */
    bool sentencepiece; /* it is a tokenizer.model */
    bool unigram;       /* ... cut by Viterbi and not by merges */
    bool rewrites;      /* ... whose normalizer changes characters, or drops spaces */
    bool prefix_space;  /* ... that puts a space before a text */
    bool legacy;        /* ... and behind every special token too */
    bool unused;        /* ... with pieces that are never given out */
    bool byte_fallback, ignore_merges, word_end; /* word_end: CLIP's </w> */
    const char *normalizer, *pre_tokenizer, *post_processor; /* JSON of tokenizer.json; NULL = none, or a tokenizer.model */
    const char *particular; /* an added token that takes the spaces beside it, or must be a word of its own; NULL = there is none */
    int32_t unknown;    /* id or -1 */
    int64_t merges;
} bif_tokenizer_view;
void bif_tokenizer_look(const bif_tokenizer *tokenizer, bif_tokenizer_view *out);
/* The two tokens of a merge, merges[0] first. */
void bif_tokenizer_merge(const bif_tokenizer *tokenizer, int64_t merge, int32_t *left, int32_t *right);
/* One score a token (out [vocab]) with which SentencePiece's BPE, that joins the two neighbours whose whole has the best score, merges as
 * this tokenizer does: those of a tokenizer.model, else minus the rank. False when a tokenizer.json has merges that no scores give: when a token
 * could be joined from two others that have no merge, or the merges of one token are not all side by side. Added tokens get 0. */
bool bif_tokenizer_scores(const bif_tokenizer *tokenizer, float *out);
