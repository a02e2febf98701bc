/* Shared by data/tokenizer*.c (and chat.c, which strips spaces): the struct behind bif_tokenizer, and the steps of
 * encoding that training uses too. */
#pragma once
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "data/tokenizer.h"

#define BIF_TOKENIZER_MAX_VOCAB ((int64_t)1000000)
#define BIF_TOKENIZER_MAX_FILE ((size_t)64 << 20)
#define BIF_TOKENIZER_MAX_TEXT ((size_t)1 << 30) /* bytes of one text: positions are int32 */
#define BIF_TOKENIZER_MAX_STEPS 8
#define BIF_TOKENIZER_MAX_PATTERN 4096

/* Byte strings numbered 0, 1, 2, ... in the order of their first appearance. */
typedef struct {
    char *pool;
    size_t pool_size, pool_capacity;
    size_t *offset; /* [count + 1] into pool */
    size_t count, capacity;
    uint32_t *slot; /* [slots] number + 1; 0 = free */
    size_t slots;   /* power of two */
} bif_intern;
void bif_intern_free(bif_intern *intern);
/* The number of a string; adds it if `add`, else -1 when unknown. *is_new may be NULL. */
int64_t bif_intern_find(bif_intern *intern, const char *bytes, size_t size, bool add, bool *is_new);
int64_t bif_intern_get(const bif_intern *intern, const char *bytes, size_t size);
const char *bif_intern_bytes(const bif_intern *intern, size_t number, size_t *size);

typedef struct {
    size_t offset; /* into pool; a '\0' follows the bytes */
    size_t size;
    bool set;
    bool model;   /* stands in the model's vocabulary (an added token may stand only in added_tokens) */
    bool raw;     /* written in the file as it is, not in the byte-level alphabet */
    bool added;
    bool special;
} bif_token;

typedef struct {
    int32_t id;
    bool special, normalized, lstrip, rstrip;
    char *content; /* as in the file */
    char *text;    /* what is searched for: NFC if the token is `normalized` and the normalizer is NFC */
    size_t size;
} bif_added;

typedef struct {
    int32_t left, right, id;
} bif_merge;

typedef struct {
    uint64_t pair; /* left << 32 | right; UINT64_MAX = free */
    int32_t rank, id;
} bif_merge_slot;

/* Where to start looking for a pair in a table of `slots`. Fibonacci hashing: encoding takes 10 to 15 % less time than
 * with XXH3 on 8 bytes. */
static inline size_t bif_pair_slot(uint64_t pair, size_t slots)
{
    uint64_t mixed = (pair ^ pair >> 29) * 0x9e3779b97f4a7c15u;
    return (size_t)(mixed >> 32) & (slots - 1);
}

typedef enum { BIF_STEP_SPLIT, BIF_STEP_DIGITS, BIF_STEP_BYTE_LEVEL } bif_step_kind;

typedef struct {
    bif_step_kind kind;
    char *pattern;    /* as in the file; NULL for DIGITS and BYTE_LEVEL */
    pcre2_code *code; /* NULL: no cut here (BYTE_LEVEL without use_regex) */
    bool individual;  /* DIGITS */
    bool prefix_space; /* BYTE_LEVEL: a space before pieces that do not begin with one */
} bif_split_step;

struct bif_tokenizer {
    int32_t vocab;
    bif_token *token; /* [vocab] */
    char *pool;
    size_t pool_size, pool_capacity;
    int32_t byte_id[256]; /* -1: the vocabulary lacks this byte and there is no unknown token */
    char *unk;            /* model.unk_token or NULL; kept for saving */

    bif_merge *merge; /* [merges] by rank */
    size_t merges;
    bif_merge_slot *slot; /* [slots] power of two */
    size_t slots;

    bool ignore_merges; /* a word that is a token as a whole is that token (Llama 3) */
    bif_intern words;   /* only with ignore_merges: bytes of ordinary tokens */
    int32_t *word_id;   /* [words.count] */

    bif_added *added; /* [added_count] in the order of the file */
    size_t added_count;
    uint32_t *order[2]; /* [matchers[k]] indices into added, sorted by text; 0: searched in the raw text, 1: after
                           normalizing */
    size_t matchers[2];

    bool nfc;
    bif_split_step step[BIF_TOKENIZER_MAX_STEPS]; /* the last is BYTE_LEVEL */
    size_t steps;
    char *post_processor; /* JSON text as it was read, NULL = null; not applied, only written back */
};

/* GPT-2's alphabet: every byte has a printable character. Both directions; -1 if the character is not in it. */
uint32_t bif_byte_to_char(uint8_t byte);
int bif_char_to_byte(uint32_t code);
/* The byte of id k when the 256 bytes are numbered by the code points of their characters, as GPT-2 and HF's trainer
 * do. */
uint8_t bif_alphabet_byte(size_t k);
/* Text in the alphabet -> bytes in `out` (at least `size`); false if a character is not in the alphabet. */
bool bif_alphabet_decode(const char *text, size_t size, char *out, size_t *out_size);

bif_tokenizer *bif_tokenizer_empty(int32_t vocab);
void bif_tokenizer_set(bif_tokenizer *tokenizer, int32_t id, const char *bytes, size_t size);
/* After tokens, merges, added tokens and steps are set: builds the tables that encoding uses. `where` is for messages.
 */
bif_status bif_tokenizer_finish(bif_tokenizer *tokenizer, const char *where);

/* Adds one step of the pre-tokenizer; `pattern` (SPLIT only) is translated from Oniguruma's syntax, and refused if it
 * uses what PCRE2 would read differently. */
bif_status bif_step_add(bif_tokenizer *tokenizer, const char *where, bif_step_kind kind, const char *pattern,
                        bool individual, bool prefix_space, bool use_regex);

/* Cuts a text (any bytes) into words. Not for several threads at once; one per call of encode. */
typedef bif_status (*bif_word_fn)(void *user, const char *word, size_t size);
typedef struct {
    const bif_tokenizer *tokenizer;
    pcre2_match_data *match;
    pcre2_match_context *context;
    bif_word_fn word;
    void *user;
} bif_splitter;
void bif_splitter_init(bif_splitter *splitter, const bif_tokenizer *tokenizer, bif_word_fn word, void *user);
void bif_splitter_free(bif_splitter *splitter);
bif_status bif_splitter_run(bif_splitter *splitter, const char *text, size_t size);

/* NFC of the valid UTF-8 runs of a text; other bytes stay. *out is malloc'ed. */
void bif_nfc(const char *text, size_t size, char **out, size_t *out_size);

/* Unicode's White_Space, which is what \s means in tokenizer files. */
bool bif_is_space(uint32_t code);
