/* Shared by data/tokenizer*.c (and chat.c, which strips spaces): the struct behind bif_tokenizer, and the steps of
 * encoding that training uses too. */
#pragma once
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/intern.h"
#include "base/json.h"
#include "data/tokenizer.h"

#define BIF_TOKENIZER_MAX_VOCAB ((int64_t)1000000)
#define BIF_TOKENIZER_MAX_FILE ((size_t)64 << 20)
#define BIF_TOKENIZER_MAX_TEXT ((size_t)1 << 30) /* bytes of one text: positions are int32 */
#define BIF_TOKENIZER_MAX_STEPS 8
#define BIF_TOKENIZER_MAX_PATTERN 4096

typedef struct {
    size_t offset; /* into pool: the bytes it stands for in a text; a '\0' follows them */
    size_t size;
    size_t text, text_size; /* into pool: how the file writes it; text_size 0 = the bytes, in the alphabet unless raw */
    bool set;
    bool model;   /* stands in the model's vocabulary (an added token may stand only in added_tokens) */
    bool raw;     /* written in the file as it is, not in the byte-level alphabet */
    bool suffixed; /* ends with model.end_of_word_suffix, which its bytes show as a space */
    bool unused;   /* SentencePiece: merged through, but never given out */
    bool added;
    bool special;
} bif_token;

typedef struct {
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
    char *content; /* as in the file */
    char *text;    /* what is searched for: the normalized content if the token is `normalized` */
    size_t size;
} bif_added;

typedef struct {
    int32_t left, right, id, rank; /* low ranks first; equal ranks from left to right */
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

/* Strings sorted for walking down a text byte by byte. */
typedef struct {
    const char *text; /* borrowed */
    size_t size;
    int32_t value;
} bif_prefix;

typedef struct {
    bif_prefix *entry; /* [count] */
    size_t count;
    uint32_t first[257]; /* those that begin with byte b: first[b] to first[b + 1] */
} bif_prefixes;

typedef struct {
    size_t low, high, depth; /* entries that begin with the `depth` bytes walked so far; begin with {0} */
} bif_prefix_walk;

/* Sorts and indexes `entry` (taken over; no empty text). Returns the index of an entry that equals its predecessor, or 0. */
size_t bif_prefixes_build(bif_prefixes *prefixes, bif_prefix *entry, size_t count);
void bif_prefixes_free(bif_prefixes *prefixes);
/* One byte further: false when nothing begins like this. *found = the entry that ends here, or NULL. */
bool bif_prefix_step(const bif_prefixes *prefixes, bif_prefix_walk *walk, uint8_t byte, const bif_prefix **found);
const bif_prefix *bif_prefix_longest(const bif_prefixes *prefixes, const char *text, size_t size);

typedef enum { BIF_NORMAL_NFC, BIF_NORMAL_NFD, BIF_NORMAL_NFKC, BIF_NORMAL_NFKD, BIF_NORMAL_LOWER, BIF_NORMAL_REPLACE,
               BIF_NORMAL_PREPEND } bif_normal_kind;

typedef struct {
    bif_normal_kind kind;
    pcre2_code *code; /* REPLACE */
    char *content;    /* REPLACE, PREPEND */
} bif_normal;

typedef enum { BIF_STEP_SPLIT, BIF_STEP_BYTE_LEVEL, BIF_STEP_METASPACE } bif_step_kind;
typedef enum { BIF_SPLIT_ISOLATED, BIF_SPLIT_REMOVED, BIF_SPLIT_WITH_PREVIOUS, BIF_SPLIT_WITH_NEXT,
               BIF_SPLIT_CONTIGUOUS } bif_split_behavior;
typedef enum { BIF_PREFIX_NEVER, BIF_PREFIX_FIRST, BIF_PREFIX_ALWAYS } bif_prefix_scheme;

typedef struct {
    bif_step_kind kind;
    pcre2_code *code; /* NULL: no cut here (METASPACE; BYTE_LEVEL without use_regex) */
    bif_split_behavior behavior;
    bool invert;
    bif_prefix_scheme prefix; /* BYTE_LEVEL, METASPACE: the mark before pieces that do not begin with it */
    char *mark;               /* METASPACE: stands for a space */
    bool cut;                 /* METASPACE: cut before each mark */
} bif_split_step;

typedef struct {
    uint32_t code; /* UINT32_MAX = free */
    int32_t id;
} bif_char_slot;

/* What SentencePiece adds. `charsmap` maps longest prefixes to replacements: a double array of `units`, then strings. */
typedef struct {
    bool unigram, legacy;
    bool canonical, keep_case; /* SiglipTokenizer: bif_canonical first; keep_case: not lower case */
    bool dummy_prefix, remove_spaces, escape; /* the normalizer's settings */
    uint32_t *unit;                           /* [units] */
    size_t units;
    char *replacement; /* [replacements] strings that end with '\0' */
    size_t replacements;
    char *texts;         /* what the prefixes point into */
    bif_prefixes user;   /* user-defined pieces: always cut out */
    bif_prefixes pieces; /* UNIGRAM: all that a text may be cut into */
    size_t count;        /* pieces of the file; added tokens have ids behind */
    float *score;        /* [count] */
    bool *user_defined;  /* [count] */
    float min_score; /* of normal pieces */
    bool any_unused;
} bif_spm;

struct bif_tokenizer {
    int32_t vocab;
    bif_token *token; /* [vocab] */
    char *pool;
    size_t pool_size, pool_capacity;
    bool characters;        /* words are characters and not bytes: no ByteLevel */
    bool byte_fallback;     /* `characters`: what the vocabulary lacks becomes bytes */
    bool fuse_unk;          /* a run of unknown symbols is one unknown token */
    char *suffix;           /* model.end_of_word_suffix or NULL; only of bytes */
    int32_t byte_id[256];   /* -1: the vocabulary lacks this byte (`characters`: the byte tokens <0x00> to <0xFF>) */
    int32_t last_id[256];   /* the same at the end of a word, with the suffix */
    bif_char_slot *char_slot; /* [char_slots] power of two; ids of characters, at or above `vocab` for those that stand
                                 in pieces of SentencePiece without being pieces */
    size_t char_slots, chars;
    char *unk;      /* model.unk_token or NULL; kept for saving */
    int32_t unk_id; /* -1: none */

    bif_merge *merge; /* [merges] by rank */
    size_t merges;
    bif_merge_slot *slot; /* [slots] power of two */
    size_t slots;

    bool ignore_merges; /* a word that is a token as a whole is that token (Llama 3) */
    bif_intern words;   /* only with ignore_merges: ordinary tokens as they stand in words */
    int32_t *word_id;   /* [words.count] */

    bif_added *added; /* [added_count] in the order of the file */
    size_t added_count;
    bif_prefixes matcher[2]; /* values are indices into added; 0: searched in the raw text, 1: after normalizing */

    bif_normal normal[BIF_TOKENIZER_MAX_STEPS];
    size_t normals;
    bif_split_step step[BIF_TOKENIZER_MAX_STEPS]; /* ends with BYTE_LEVEL unless `characters` */
    size_t steps;
    char *mark;           /* decoding shows it as a space; NULL: none */
    bool show_bytes;      /* decoding shows <0x0A> as its byte */
    size_t strip_spaces;  /* decoding takes this many spaces off the front */
    bool drop_first_mark; /* decoding takes the marks out of the first token (decoder Metaspace) */
    char *section[4];     /* JSON text of BIF_SECTIONS as it was read, NULL = null or as trained here; for saving */
    bif_spm *spm;         /* NULL: tokenizer.json */
    bif_tokenizer_names names;
};
#define BIF_SECTIONS ((const char *const[]){"normalizer", "pre_tokenizer", "decoder", "post_processor"})

/* Byte-level without a normalizer but NFC: any bytes survive. All others read bytes that are not UTF-8 as U+FFFD. */
bool bif_tokenizer_keeps_bytes(const bif_tokenizer *tokenizer);

/* GPT-2's alphabet: every byte has a printable character. Both directions; -1 if the character is not in it. */
uint32_t bif_byte_to_char(uint8_t byte);
int bif_char_to_byte(uint32_t code);
/* The byte of id k when the 256 bytes are numbered by the code points of their characters, as GPT-2 and HF's trainer
 * do. */
uint8_t bif_alphabet_byte(size_t k);
/* Text in the alphabet -> bytes in `out` (at least `size`); false if a character is not in the alphabet. */
bool bif_alphabet_decode(const char *text, size_t size, char *out, size_t *out_size);

bif_tokenizer *bif_tokenizer_empty(int32_t vocab);
void bif_tokenizer_grow(bif_tokenizer *tokenizer, int32_t vocab);
void bif_tokenizer_set(bif_tokenizer *tokenizer, int32_t id, const char *bytes, size_t size);
/* How the file writes it, where that is not its bytes. */
void bif_tokenizer_set_text(bif_tokenizer *tokenizer, int32_t id, const char *text, size_t size);
const char *bif_tokenizer_text(const bif_tokenizer *tokenizer, int32_t id, size_t *size);
/* Registers the id of a character (`characters` only); the first registration stays. */
void bif_char_add(bif_tokenizer *tokenizer, uint32_t code, int32_t id);
int32_t bif_char_get(const bif_tokenizer *tokenizer, uint32_t code); /* -1: unknown */
/* "<0x0A>" is 10; -1 for anything else. */
int bif_byte_piece(const char *text, size_t size);
/* After tokens, merges, added tokens and steps are set: builds the tables that encoding uses. `where` is for messages.
 */
bif_status bif_tokenizer_finish(bif_tokenizer *tokenizer, const char *where);

/* The tables that find added tokens in a text, anew: t->added has changed. */
bif_status bif_tokenizer_match_added(bif_tokenizer *tokenizer, const char *where);

/* Patterns: translated from Oniguruma's syntax, and refused if they use what PCRE2 would read differently; `literal`: a
 * plain string. */
bif_status bif_pattern_compile(const char *where, const char *pattern, bool literal, pcre2_code **out);
typedef struct {
    pcre2_match_data *match;
    pcre2_match_context *context;
} bif_finder;
void bif_finder_init(bif_finder *finder);
void bif_finder_free(bif_finder *finder);
/* The next match at or after `from`; *start = size when there is none. */
bif_status bif_pattern_find(bif_finder *finder, const pcre2_code *code, const char *text, size_t size, size_t from,
                            size_t *start, size_t *end);

/* Adds one step of the pre-tokenizer. BYTE_LEVEL with pattern "" cuts by GPT-2's; NULL does not cut. Takes step.mark. */
bif_status bif_step_add(bif_tokenizer *tokenizer, const char *where, bif_split_step step, const char *pattern,
                        bool literal);

/* Cuts a text (any bytes) into words. Not for several threads at once; one per call of encode. */
typedef bif_status (*bif_word_fn)(void *user, const char *word, size_t size);
typedef struct {
    const bif_tokenizer *tokenizer;
    bif_finder finder;
    bif_word_fn word;
    void *user;
} bif_splitter;
void bif_splitter_init(bif_splitter *splitter, const bif_tokenizer *tokenizer, bif_word_fn word, void *user);
void bif_splitter_free(bif_splitter *splitter);
bif_status bif_splitter_run(bif_splitter *splitter, const char *text, size_t size, bif_text_place place);

/* Every byte that is not part of valid UTF-8 becomes U+FFFD. *out is malloc'ed. */
void bif_replace_invalid(const char *text, size_t size, char **out, size_t *out_size);
/* The steps of the normalizer over one piece of text; *out is malloc'ed. */
bif_status bif_normalize(const bif_tokenizer *tokenizer, const char *text, size_t size, bif_text_place place, char **out,
                         size_t *out_size);

/* What SiglipTokenizer makes of a text: U+2581 in front (`front`), lower case, ASCII's punctuation out, runs of white space one space. */
void bif_canonical(const char *text, size_t size, bool front, bool keep_case, char **out, size_t *out_size);
/* SentencePiece: the normalizer over one piece of text (*out is malloc'ed), and the best cut of a normalized text by a
 * unigram model; what `emit` gets is an id and the bytes it covers, id -1 for an unknown character. */
void bif_spm_normalize(const bif_tokenizer *tokenizer, const char *text, size_t size, bif_text_place place, char **out,
                       size_t *out_size);
typedef void (*bif_emit_fn)(void *user, int32_t id, const char *text, size_t size);
void bif_unigram_cut(const bif_tokenizer *tokenizer, const char *text, size_t size, bif_emit_fn emit, void *user);
/* tokenizer.model; its added tokens and the tables are the caller's work. */
bif_status bif_spm_parse(const char *where, const char *data, size_t size, bif_tokenizer **out);

/* A tree in the layout of tokenizer.json; the parts of it that have files of their own. */
bif_status bif_tokenizer_from_json(const char *where, const json_t *root, bif_tokenizer **out);
bif_status bif_tokenizer_read_parts(bif_tokenizer *tokenizer, const char *where, const json_t *root);
/* One added token ({"id", "content", ...}); t->added has room for it. */
bif_status bif_tokenizer_read_added(bif_tokenizer *tokenizer, const char *where, const json_t *value);
/* Refuses keys of an object that are not in the list (ended by NULL). */
bif_status bif_json_only_keys(const char *where, const char *what, const json_t *object, const char *const *keys);
#define BIF_ONLY_KEYS(where, what, object, ...)                                                                         \
    bif_json_only_keys(where, what, object, (const char *const[]){__VA_ARGS__, NULL})

/* Unicode's White_Space, which is what \s means in tokenizer files. */
bool bif_is_space(uint32_t code);
/* What \w means where added tokens have single_word. */
bool bif_is_word(uint32_t code);
